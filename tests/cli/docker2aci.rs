//! `docker2aci` as a program: what it makes of docker's and OCI's files, and what it says.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use serde_json::json;

use crate::registry::{BASIC, HOST, Registry, image};
use crate::support::Run;
use crate::support::oci::{Image, Packing, digest};
use crate::support::run::Ended;
use crate::support::server::Answer;
use crate::support::tar::Tar;
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
    let manifest: serde_json::Value = serde_json::from_str(&manifest.stdout()).unwrap();
    registry.login();
    let fetched = registry.fetch(&format!("docker://{HOST}/team/app:1"));
    fetched.expect_code(0);
    let kept = registry.run(&format!("image cat-manifest {}", fetched.stdout.trim())).stdout;
    assert_eq!(manifest, serde_json::from_str::<serde_json::Value>(&kept).unwrap());
    registry.run("--insecure-options=image fetch ./team-app-1.aci").expect_code(0);
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
