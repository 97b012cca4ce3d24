//! `docker2aci` as a program: what it makes of docker's and OCI's files, and what it says.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use serde_json::{Value, json};

use crate::registry::{BASIC, HOST, Registry, image};
use crate::support::Run;
use crate::support::oci::{Image, Packing, architecture, digest};
use crate::support::run::Ended;
use crate::support::server::Answer;
use crate::support::tar::{Member, Tar, octal};
use crate::world::World;

fn convert(world: &World, line: &str) -> Ended {
    Run::docker2aci().args(line.split(' ')).env_clear().current_dir(world.path()).end()
}

fn world() -> World {
    let world = World::new();
    let image = Image::new(&["/bin/true"])
        .process("Volumes", json!({"/data": {}}))
        .process("ExposedPorts", json!({"80/tcp": {}}))
        .layer(
            Tar::default().dir("etc").file("etc/a", "1").file("etc/b", "1").file("etc/gone", "x"),
            Packing::Gzip,
        )
        .layer(Tar::default().file("etc/a", "2").file("etc/.wh.gone", ""), Packing::Zstd);
    std::fs::write(world.path().join("saved.tar"), image.saved(&["library/demo:1.0", "demo:2.0"]).tar())
        .unwrap();
    image.layout(Some("1")).write_dir(&world.path().join("layout"));
    world
}

#[test]
fn a_saved_image_becomes_one_that_rkt_can_fetch() {
    let world = world();
    let expected = "\nConverted volumes:\n\tname: \"volume-data\", path: \"/data\", readOnly: false\n\
                    \nConverted ports:\n\tname: \"80-tcp\", protocol: \"tcp\", port: 80, count: 1, \
                    socketActivated: false\n\nGenerated ACI(s):\ndemo-1.0.aci\n";
    let ended = convert(&world, "saved.tar");
    ended.expect_code(0);
    assert_eq!(ended.stdout, expected);
    assert_eq!(ended.stderr.lines().filter(|line| line.contains("Extracting sha256:")).count(), 2);
    let fetched = world.run("--dir=data --insecure-options=image fetch demo-1.0.aci");
    fetched.expect_code(0);
    world
        .run(&format!("--dir=data image extract --rootfs-only {} out", fetched.stdout.trim()))
        .expect_code(0);
    let read = |name: &str| std::fs::read_to_string(world.path().join("out/etc").join(name)).ok();
    assert_eq!((read("a"), read("b"), read("gone")), (Some("2".into()), Some("1".into()), None));
    assert!(world.path().join("out/dev/stdout").is_symlink());
    // Nothing but the image is left, and it comes out the same again.
    let first = std::fs::read(world.path().join("demo-1.0.aci")).unwrap();
    convert(&world, "-image=demo:2.0 --compression none saved.tar").expect_code(0);
    convert(&world, "saved.tar").expect_code(0);
    assert_eq!(std::fs::read(world.path().join("demo-1.0.aci")).unwrap(), first);
    let names = std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with('.')));
}

#[test]
fn a_layout_is_taken_too_and_export_writes_the_same_image() {
    let world = world();
    convert(&world, "-compression=none layout").expect_code(0);
    world.run("--dir=data --insecure-options=image fetch oci:layout:1").expect_code(0);
    world.run("--dir=data image export layout exported.aci").expect_code(0);
    let list = |name: &str| Run::new("tar").arg("-tvf").arg(world.path().join(name)).stdout();
    assert_eq!(
        list("layout-1.aci").lines().filter(|line| !line.ends_with("manifest")).collect::<Vec<_>>(),
        list("exported.aci").lines().filter(|line| !line.ends_with("manifest")).collect::<Vec<_>>()
    );
}

#[test]
fn an_image_of_a_registry_becomes_one_that_rkt_can_fetch() {
    let registry = Registry::new(|asked, _| match asked.header("authorization") {
        Some(BASIC) => None,
        _ => Some(Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")),
    });
    let convert = || {
        let run = Run::docker2aci().args(["-compression=none", &format!("docker://{HOST}/team/app:1")]);
        let run = run.env_clear().current_dir(registry.world.path());
        let variables = registry.server.environment();
        let run = variables.into_iter().fold(run, |run, (name, value)| run.env(name, value));
        run.env("DOCKER_CONFIG", registry.world.path()).end()
    };
    let refused = convert();
    refused.expect_code(1);
    let problem = format!("Error: conversion error: {HOST}/team/app: bad HTTP status code: 401\nhint: ");
    assert!(refused.stderr.starts_with(&problem), "{}", refused.stderr);
    assert_eq!(std::fs::read_dir(registry.world.path()).unwrap().count(), 0);

    // What `docker login` has written.
    let login = json!({"auths": {HOST: {"auth": &BASIC[6..]}}}).to_string();
    std::fs::write(registry.world.path().join("config.json"), login).unwrap();
    let converted = convert();
    converted.expect_code(0);
    let image = image(1);
    let digests: Vec<_> = image.config["rootfs"]["diff_ids"].as_array().unwrap().iter().collect();
    let told = format!(
        "docker2aci: docker://{HOST}/team/app:1 is {}\ndocker2aci: Extracting {}\ndocker2aci: Extracting {}\n",
        digest(&image.blobs().pop().unwrap()),
        digests[0].as_str().unwrap(),
        digests[1].as_str().unwrap()
    );
    converted.expect(0, "\nGenerated ACI(s):\nteam-app-1.aci\n", &told);
    // But for its ID, it is what `rkt fetch` makes of it.
    let manifest =
        Run::new("tar").args(["-xOf"]).arg(registry.world.path().join("team-app-1.aci")).arg("manifest");
    let manifest: Value = serde_json::from_str(&manifest.stdout()).unwrap();
    registry.login();
    let fetched = registry.fetch(&format!("docker://{HOST}/team/app:1"));
    fetched.expect_code(0);
    let kept = registry.run(&format!("image cat-manifest {}", fetched.stdout.trim())).stdout;
    assert_eq!(manifest, serde_json::from_str::<Value>(&kept).unwrap());
    registry.run("--insecure-options=image fetch ./team-app-1.aci").expect_code(0);
}

/// An image whose layers say all that layers can say about those below them.
fn many_layers() -> Image {
    let owned = |name: &str, typeflag, mode, uid: u64| {
        let mut member = Member::new(name, typeflag);
        (member.mode, member.uid) = (mode, octal(uid, 8));
        member
    };
    let again = Tar::default().file("etc/a", "2").file("etc/.wh.gone", "").hard_link("etc/hard", "etc/b");
    let again = again.file("opt/.wh..wh..opq", "").file("opt/new", "new");
    Image::new(&["/bin/true"])
        .process("Volumes", json!({"/data": {}}))
        .layer(
            Tar::default()
                .member(&owned("./", b'5', 0o711, 3))
                .member(&owned("etc/", b'5', 0o750, 4))
                .file("etc/a", "1")
                .file("etc/b", "b")
                .file("etc/gone", "x")
                .file("etc/keep", "kept")
                .member(&owned("opt/", b'5', 0o700, 7))
                .file("opt/sub/y", "y")
                .file("thing", "a file")
                .dir("place")
                .file("place/x", "x")
                .member(&owned("empty/", b'5', 0o770, 9)),
            Packing::Gzip,
        )
        .layer(again.clone(), Packing::None)
        .layer(
            Tar::default()
                // Another directory than the one before, by what is in it alone.
                .file(".wh.opt", "")
                .file("opt/other", "other")
                .file("thing/inside", "a directory now")
                .symlink("place", "etc")
                .file("etc/.wh.b", "")
                .file("dev/fd", "the image's own"),
            Packing::Zstd,
        )
        .layer(again, Packing::None)
        .layer(Tar::default(), Packing::Gzip)
}

/// All that is in a tree, but for times of directories and numbers of names.
fn listed(dir: &std::path::Path) -> String {
    let text = |run: Run| run.current_dir(dir).env("LC_ALL", "C").stdout();
    let all = text(Run::new("find").args([".", "-printf", "%p %y %#m %U:%G %l\n"]));
    let files = text(Run::new("find").args([
        ".",
        "-type",
        "f",
        "-printf",
        "%p %s %T@ ",
        "-exec",
        "cksum",
        "{}",
        ";",
    ]));
    let mut lines: Vec<_> = all.lines().chain(files.lines()).map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn layers_apart_are_images_that_show_together_what_the_image_is() {
    let world = World::new();
    let image = many_layers();
    let digests: Vec<String> = image.layers.iter().map(|(bytes, _)| digest(bytes)[7..].to_owned()).collect();
    // By the name of a registry, as other tools put it into a layout.
    image.layout(Some("reg.example.com:5000/team/app:1")).write_dir(&world.path().join("layout"));
    let ended = convert(&world, "-nosquash -compression=none layout");
    let platform = format!("linux-{}", if architecture() == "arm64" { "aarch64" } else { "amd64" });
    let files: Vec<String> = [(0, "-", ""), (1, "-", ""), (2, "-", ""), (3, "-", "-2"), (4, ":", "")]
        .iter()
        .map(|(layer, colon, again)| {
            let id = format!("sha256{colon}{}{again}", digests[*layer]);
            format!("reg.example.com:5000/team/app-{id}-1-{platform}.aci")
        })
        .collect();
    let told = "\nConverted volumes:\n\tname: \"volume-data\", path: \"/data\", readOnly: false\n";
    let extracting: Vec<_> = image.config["rootfs"]["diff_ids"].as_array().unwrap().iter().collect();
    let extracting: String = extracting
        .iter()
        .map(|diff_id| format!("docker2aci: Extracting {}\n", diff_id.as_str().unwrap()))
        .collect();
    ended.expect(0, &format!("{told}\nGenerated ACI(s):\n{}\n", files.join("\n")), &extracting);

    let manifest = |file: &String| -> Value {
        let text = Run::new("tar").arg("-xOf").arg(world.path().join(file)).arg("manifest").stdout();
        serde_json::from_str(&text).unwrap()
    };
    let manifests: Vec<Value> = files.iter().map(manifest).collect();
    for (index, manifest) in manifests.iter().enumerate() {
        let again = if index == 3 { "-2" } else { "" };
        let name = format!("reg.example.com_5000/team/app-sha256_{}{again}", digests[index]);
        assert_eq!(manifest["name"], name.as_str());
        assert_eq!(manifest["labels"][0], json!({"name": "version", "value": "1"}));
        assert_eq!(manifest.get("app").is_some(), index == 4, "only the whole image runs");
        if index > 0 {
            let below = &manifest["dependencies"][0];
            assert_eq!(below["imageName"], manifests[index - 1]["name"]);
            assert_eq!(below["labels"], manifests[index - 1]["labels"]);
            let sum = Run::new("sha512sum").arg(world.path().join(&files[index - 1])).stdout();
            assert_eq!(below["imageID"], format!("sha512-{}", &sum[..128]).as_str());
        } else {
            assert_eq!(manifest.get("dependencies"), None);
        }
    }
    let list = |index: usize| -> Vec<&str> {
        manifests[index]["pathWhitelist"]
            .as_array()
            .unwrap()
            .iter()
            .map(|path| path.as_str().unwrap())
            .collect()
    };
    assert!(list(0).contains(&"/etc/gone") && !list(1).contains(&"/etc/gone"));
    assert!(list(0).contains(&"/opt/sub/y") && !list(4).iter().any(|path| path.starts_with("/opt/sub")));
    assert_eq!(list(3), list(4));

    // The same bytes again, and squashed it shows the same.
    let first = std::fs::read(world.path().join(&files[4])).unwrap();
    convert(&world, "-nosquash -compression=none layout").expect_code(0);
    assert_eq!(std::fs::read(world.path().join(&files[4])).unwrap(), first);
    convert(&world, "layout").expect_code(0);
    let line: Vec<_> = files.iter().map(|file| format!("./{file}")).collect();
    let fetch = |line: &str| {
        let fetched = world.run(&format!("--dir=data --insecure-options=image fetch --full {line}"));
        fetched.expect_code(0);
        fetched.stdout.trim().rsplit('\n').next().unwrap().to_owned()
    };
    let (apart, squashed) = (fetch(&line.join(" ")), fetch("./team-app-1.aci"));
    for (id, name) in [(apart, "apart"), (squashed, "squashed")] {
        world.run(&format!("--dir=data image render --rootfs-only {id} {name}")).expect_code(0);
    }
    let squashed = listed(&world.path().join("squashed"));
    assert!(squashed.contains("./etc/hard") && squashed.contains("./opt d 0755 0:0"), "{squashed}");
    assert_eq!(listed(&world.path().join("apart")), squashed);
}

#[test]
fn layers_of_a_saved_image_are_named_as_ever() {
    let world = world();
    let ended = convert(&world, "-nosquash -image=demo:2.0 saved.tar");
    ended.expect_code(0);
    let files: Vec<_> = ended.stdout.lines().filter(|line| line.ends_with(".aci")).collect();
    let [lower, upper] = files[..] else { panic!("{files:?}") };
    let (lower_id, _) = lower.strip_prefix("demo-").unwrap().split_once("-2.0-linux-").unwrap();
    assert!(lower.ends_with("-1.aci") && upper.ends_with("-0.aci"), "{files:?}");
    let text = Run::new("tar").arg("-xOf").arg(world.path().join(lower)).arg("manifest").stdout();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(manifest["name"], format!("demo-{lower_id}").as_str());
    assert!(manifest["labels"].as_array().unwrap().contains(&json!({"name": "layer", "value": lower_id})));
}

#[test]
fn what_no_list_can_hold_leaves_nothing_behind() {
    let world = World::new();
    let image = Image::new(&["/bin/true"])
        .layer(Tar::default().file("etc/a", "1"), Packing::None)
        .layer(Tar::default().file(b"etc/\xff", "2"), Packing::None);
    image.layout(Some("reg.example.com/team/app:1")).write_dir(&world.path().join("layout"));
    let refused = convert(&world, "-nosquash layout");
    refused.expect_code(1);
    let problem = "its name is not UTF-8, and must be in the manifest's list of what is there\n\
                   hint: an image whose layers are squashed needs no such list\n";
    assert!(refused.stderr.ends_with(problem), "{}", refused.stderr);
    assert_eq!(std::fs::read_dir(world.path()).unwrap().count(), 1);
    convert(&world, "layout").expect_code(0);
}

#[test]
fn plain_http_and_unknown_certificates_are_for_who_asks_for_them() {
    let registry = Registry::new(|asked, _| (asked.scheme == "https").then(|| Answer::status(500)));
    let convert = |line: &str| {
        let run = Run::docker2aci().args(line.split(' ')).env_clear().current_dir(registry.world.path());
        run.env("HTTP_PROXY", format!("http://{}", registry.server.address())).end()
    };
    // Its authority is not known here.
    let name = format!("docker://{}/team/app:1", registry.server.address());
    let refused = convert(&name);
    refused.expect_code(1);
    let problem = format!("the certificate of {} is not accepted", registry.server.address());
    assert!(refused.stderr.contains(&problem), "{}", refused.stderr);
    assert!(refused.stderr.contains("; -insecure-skip-verify goes on"), "{}", refused.stderr);
    convert(&format!("-insecure-allow-http {name}")).expect_code(0);
    assert!(registry.world.path().join("team-app-1.aci").exists());

    let registry = Registry::new(|_, _| None);
    let name = format!("docker://{}/team/app:1", registry.server.address());
    let run = Run::docker2aci().args(["-insecure-skip-verify", &name]).env_clear();
    run.current_dir(registry.world.path()).end().expect_code(0);
}

#[test]
fn what_is_wrong_is_told_in_its_own_words() {
    let world = world();
    for (line, code, message) in [
        ("a b", 2, "docker2aci [-debug]"),
        ("-nope a", 2, "flag provided but not defined: -nope"),
        ("-compression=xz saved.tar", 1, "Error: unknown compression method: xz"),
        ("docker://Busybox", 1, "Error: conversion error: invalid docker URL \"docker://Busybox\""),
        ("-image=x docker://busybox", 1, "Error: conversion error: flag --image works only with files."),
        ("none.tar", 1, "Error: conversion error: opening none.tar: No such file or directory"),
        ("-image=other saved.tar", 1, "Error: conversion error: it has no image \"other\""),
    ] {
        let ended = convert(&world, line);
        ended.expect_code(code);
        assert!(ended.stderr.starts_with(message), "{line}: {}", ended.stderr);
    }
}
