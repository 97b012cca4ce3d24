//! `--pod-manifest` (spec cli.md 1.2.1, pods.md 3.1): what conflicts with it, and manifests that are no pods, with the whole of
//! what is told; nothing of them is left.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::discovery::site;
use crate::shop::Shop;
use crate::support::Run;
use crate::support::run::Ended;
use crate::support::tar::{Tar, manifest};
use crate::world::World;

/// A world with two images in its store, one with an app section and one without.
struct Ground {
    world: World,
    app: String,
    bare: String,
}

impl Ground {
    /// Fails the test unless `cat-manifest` says what the manifest said, and nothing else.
    fn expect_manifest(&self, uuid: &str, expected: &str) {
        let found = self.world.rkt(&format!("--dir=data cat-manifest {uuid}")).stdout();
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(value(&found), value(expected));
    }

    fn new() -> Self {
        let world = World::new();
        let with_true = |tar: Tar| tar.dir("rootfs").dir("rootfs/bin").file("rootfs/bin/true", "").end();
        let app = manifest("example.com/app");
        let bare = app.split(r#","app":"#).next().unwrap().replace("/app", "/bare") + "}";
        fs::write(world.path().join("app.aci"), with_true(Tar::default().manifest(&app))).unwrap();
        fs::write(world.path().join("bare.aci"), with_true(Tar::default().manifest(&bare))).unwrap();
        let fetched = world.run("--dir=data --insecure-options=image fetch --full app.aci bare.aci");
        fetched.expect(0, &fetched.stdout, "");
        let mut ids = fetched.stdout.lines().map(str::to_owned);
        let (app, bare) = (ids.next().unwrap(), ids.next().unwrap());
        Self { world, app, bare }
    }

    /// An app of the manifest.
    fn app(&self, name: &str) -> Value {
        json!({"name": name, "image": {"id": self.app}})
    }

    /// A manifest of one app, with an app section that has this member.
    fn section(&self, member: &str, value: Value) -> Value {
        let mut app = self.app("web");
        app["app"] = json!({"exec": ["/bin/true"], "user": "0", "group": "0"});
        app["app"][member] = value;
        pod(json!([app]))
    }

    /// A manifest of one app that mounts the volume `v` at this path.
    fn mount(&self, path: &str) -> Value {
        let mut app = self.app("web");
        app["mounts"] = json!([{"volume": "v", "path": path}]);
        with(pod(json!([app])), "volumes", json!([{"name": "v", "kind": "empty"}]))
    }

    fn prepare(&self, text: impl AsRef<[u8]>) -> Ended {
        fs::write(self.world.path().join("pod.json"), text).unwrap();
        self.world.run("--dir=data prepare --pod-manifest=pod.json")
    }

    /// Every path of the data directory but for the places of pods, which any attempt makes.
    fn paths(&self) -> BTreeSet<String> {
        let all = Run::new("find").arg(self.world.path().join("data")).stdout();
        let place = |path: &&str| path.ends_with("/pods") || path.rsplit('/').nth(1) == Some("pods");
        all.lines().filter(|path| !place(path)).map(str::to_owned).collect()
    }

    fn refused(&self, text: impl AsRef<[u8]>, problem: &str) {
        let before = self.paths();
        self.prepare(text).expect(254, "", &format!("prepare: error setting up stage0: {problem}\n"));
        assert_eq!(self.paths(), before);
    }
}

fn pod(apps: Value) -> Value {
    json!({"acKind": "PodManifest", "acVersion": "0.8.11", "apps": apps})
}

fn with(mut manifest: Value, member: &str, value: Value) -> Value {
    manifest[member] = value;
    manifest
}

#[test]
fn what_a_manifest_says_itself_can_not_be_said_beside_it() {
    let world = World::new();
    for command in ["run", "prepare"] {
        let told = format!("{command}: conflicting flags set with --pod-manifest (see --help)\n");
        for flags in [
            "--pod-manifest=m image",
            "--pod-manifest=m --volume=v,kind=empty",
            "--pod-manifest=m --volume=v,kind=empty --mount=volume=v,target=/v",
            "--pod-manifest=m --port=http:80",
            "--pod-manifest=m --inherit-env",
            "--pod-manifest=m --set-env=A=1",
            "--pod-manifest=m --set-env-file=f",
            "--pod-manifest=m --pull-policy=never",
            "--pod-manifest=m --pull-policy=update",
        ] {
            world.run(&format!("--dir=data {command} {flags}")).expect(254, "", &told);
        }
        for (flag, hint) in [("--no-store", "update"), ("--store-only", "never")] {
            let deprecated = format!("Flag {flag} has been deprecated, please use --pull-policy={hint}\n");
            let ended = world.run(&format!("--dir=data {command} --pod-manifest=m {flag}"));
            ended.expect(254, "", &format!("{deprecated}{told}"));
        }
    }
    assert!(!world.path().join("data").exists());
}

#[test]
fn conflicts_come_in_the_order_of_the_specification() {
    let world = World::new();
    for (line, told) in [
        (
            "--pod-manifest=m --volume=v,kind=empty --mount=volume=w,target=/w",
            "error parsing app image arguments: dangling mount point \"/w\": volume \"w\" not found\n\
             run: hint: define it with --volume w,kind=host,source=/PATH",
        ),
        ("--pod-manifest=m --net=none --port=http:80", "--port flag does not work with 'none' networking"),
        ("--pod-manifest=m --interactive a b", "conflicting flags set with --pod-manifest (see --help)"),
        ("--interactive a b", "interactive option only supports one image"),
    ] {
        world.run(&format!("--dir=data run {line}")).expect(254, "", &format!("run: {told}\n"));
    }
}

#[test]
fn a_file_that_is_no_manifest_is_refused() {
    let ground = Ground::new();
    for (text, problem) in [
        ("", "JSON error at line 1, column 0: EOF while parsing a value"),
        ("apps: []", "JSON error at line 1, column 1: expected value"),
        ("[]", "must be an object, not a list"),
        (r#"{"acKind":"ImageManifest"}"#, "missing or bad acKind (must be \"PodManifest\")"),
        (
            r#"{"acKind":"PodManifest","acKind":"PodManifest","acVersion":"0.8.11"}"#,
            "JSON error at line 1, column 32: the member \"acKind\" is given twice",
        ),
    ] {
        ground.refused(text, &format!("error unmarshaling pod manifest: {problem}"));
    }
    let before = ground.paths();
    fs::File::create(ground.world.path().join("big")).unwrap().set_len(100 << 20).unwrap();
    for (file, problem) in [
        ("big", "larger than 4 MiB"),
        ("none", "No such file or directory"),
        ("data", "Is a directory"),
        ("/dev/zero", "larger than 4 MiB"),
    ] {
        let told = format!(
            "prepare: error setting up stage0: error reading pod manifest: reading {file}: {problem}\n"
        );
        ground.world.run(&format!("--dir=data prepare --pod-manifest={file}")).expect(254, "", &told);
    }
    assert_eq!(ground.paths(), before);
}

#[test]
fn values_that_break_a_rule_are_refused_by_their_place() {
    let ground = Ground::new();
    let app = |member: &str, value: Value| pod(json!([with(ground.app("web"), member, value)]));
    let path = "only lower-case letters, digits and \"-\" are allowed";
    for (manifest, problem) in [
        (app("name", json!("../web")), format!("apps[0].name: \"../web\" is not an AC name: {path}")),
        (pod(json!([ground.app("a"), ground.app("a")])), "duplicate apps of name \"a\"".into()),
        (app("image", json!(null)), "apps[0]: no image ID for app \"web\"".into()),
        (
            app("image", json!({"id": "sha512-../../x"})),
            "apps[0].image.id: \"sha512-../../x\" is not an image ID: only the digits 0-9 and a-f may follow \"sha512-\""
                .into(),
        ),
        (
            app("image", json!({"id": &ground.app[..20]})),
            format!(
                "apps[0].image.id: \"{}\" is not an image ID: 64 to 128 digits must follow \"sha512-\"",
                &ground.app[..20]
            ),
        ),
        (
            ground.section("environment", json!([{"name": "A\nB", "value": ""}])),
            "apps[0].app.environment[0].name: \"A\\nB\" is not the name of a variable: only letters, digits and the \
             characters \"_.-\" are allowed"
                .into(),
        ),
        (
            with(pod(json!([])), "volumes", json!([{"name": "../v", "kind": "empty"}])),
            format!("volumes[0].name: \"../v\" is not an AC name: {path}"),
        ),
        (
            ground.section("supplementaryGIDs", json!([-1])),
            "apps[0].app.supplementaryGIDs[0]: must be a whole number between 0 and 4294967294, not -1".into(),
        ),
    ] {
        ground.refused(manifest.to_string(), &format!("error unmarshaling pod manifest: {problem}"));
    }
}

#[test]
fn what_can_not_be_run_is_refused_and_nothing_is_left() {
    let ground = Ground::new();
    let gone = format!("sha512-{}", "0".repeat(64));
    let elsewhere = "hint: choose another target with --mount volume=NAME,target=PATH, or another path in the pod manifest";
    let at_root = "app \"web\": nothing can be mounted on \"/\": it would replace the whole root of the app";
    let bare = json!([{"name": "web", "image": {"id": ground.bare}}]);
    for (manifest, problem) in [
        (pod(json!([])), "pod must contain at least one application".into()),
        (
            pod(json!([ground.app("web"), {"name": "gone", "image": {"id": gone}}])),
            format!(
                "error getting the image manifest from store: image {gone} is not in the store\n\
                 prepare: hint: fetch it first; `rkt image list --full` shows the IDs of the images that are there"
            ),
        ),
        (pod(bare), "app \"web\": no app section in the pod manifest or the image manifest".into()),
        (ground.mount(".."), format!("{at_root}\nprepare: {elsewhere}")),
        (
            ground.mount("/x/../proc/self"),
            format!(
                "app \"web\": nothing can be mounted on \"/proc/self\": the kernel's files are there\nprepare: {elsewhere}"
            ),
        ),
        (
            with(ground.mount("/v"), "volumes", json!([])),
            "could not find volume v\nprepare: hint: define \"v\" in the manifest's \"volumes\"".into(),
        ),
        (
            with(pod(json!([ground.app("web")])), "ports", json!([{"name": "http", "hostPort": 80}])),
            "port name \"http\" could not be found in any apps\n\
             prepare: hint: none of the images declares a port; `acbuild port add` does that"
                .into(),
        ),
        (
            ground.section("workingDirectory", json!("/\nExecStartPre=+/bin/x")),
            "app web: path \"/\\nExecStartPre=+/bin/x\" contains the control character '\\n'".into(),
        ),
        (
            ground.section("user", json!("root\n")),
            "\"root\\n\" user not found\nprepare: hint: give a number or a name of the image's own files"
                .into(),
        ),
    ] {
        ground.refused(manifest.to_string(), &problem);
    }
}

#[test]
fn an_image_without_an_id_is_found_by_its_name() {
    let ground = Ground::new();
    let named = |version: &str| {
        let labels = json!([{"name": "version", "value": version}]);
        pod(json!([{"name": "web", "image": {"name": "example.com/app", "labels": labels}}])).to_string()
    };
    let ended = ground.prepare(named("1.0.0"));
    ended.expect(0, &ended.stdout, "");
    let uuid = ended.stdout.trim();
    ground.expect_manifest(uuid, &named("1.0.0"));
    let status = ground.world.rkt(&format!("--dir=data status --format=json {uuid}")).stdout();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["apps"][0]["image_id"], ground.app);
    // The rest of a manifest is judged first.
    let twice = with(serde_json::from_str(&named("2")).unwrap(), "acVersion", json!("0.0.0"));
    ground.refused(twice.to_string(), "error unmarshaling pod manifest: acVersion: must not be 0.0.0");
    let empty = pod(json!([{"name": "web", "image": {"name": null, "id": ""}}]));
    ground.refused(
        empty.to_string(),
        "error unmarshaling pod manifest: apps[0].image: no image ID for app \"web\"",
    );
}

#[test]
fn an_image_that_is_found_by_its_name_is_verified() {
    let text = pod(json!([{
        "name": "web",
        "image": {"name": "example.com/app", "labels": [{"name": "version", "value": "1.0.0"}]},
    }]));
    let it = Shop::new(1000, site);
    it.put("pod.json", text.to_string());
    std::fs::remove_dir_all(it.world.path().join("loc")).unwrap();
    let refused = it.run("prepare --pod-manifest=pod.json");
    refused.expect_code(254);
    assert!(refused.stderr.contains("signature made by unknown entity"), "{}", refused.stderr);
    it.expect_nothing();
    assert!(!it.world.path().join("data/pods").exists());

    it.trust(&it.goods.key);
    let prepared = it.run("prepare --pod-manifest=pod.json");
    let exists = "image: keys already exist for prefix \"example.com/app\", not fetching again\n";
    prepared.expect(0, &prepared.stdout, &format!("{exists}{}", it.verified()));
}

#[test]
fn a_manifest_is_kept_as_it_was_given() {
    let ground = Ground::new();
    // An unknown member, blanks, and an order of members that nobody else would choose.
    let text = format!(
        "{{\n  \"unknown\" : [1],\"apps\":[ {{ \"image\":{{\"id\":\"{}\"}}, \"name\":\"web\" }} ],\n\
         \"acVersion\":\"1.30.0\", \"acKind\":\"PodManifest\"}}\n\n",
        ground.app
    );
    let ended = ground.prepare(&text);
    ended.expect(0, &ended.stdout, "");
    let uuid = ended.stdout.trim();
    let kept = ground.world.path().join("data/pods/prepared").join(uuid).join("pod");
    assert_eq!(fs::read_to_string(kept).unwrap(), text);
    let compact: String = text.split_whitespace().collect::<Vec<_>>().concat() + "\n";
    ground.world.run(&format!("--dir=data cat-manifest --pretty-print=false {uuid}")).expect(0, &compact, "");
    let pretty = ground.world.run(&format!("--dir=data cat-manifest {uuid}"));
    assert!(pretty.stdout.starts_with("{\n\t\"unknown\": [\n\t\t1\n\t],\n"), "{}", pretty.stdout);

    let list = ground.world.rkt("--dir=data list --format=json").stdout();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(
        (&list[0]["app_names"], &list[0]["apps"][0]["image_id"]),
        (&json!(["web"]), &json!(ground.app))
    );
    ground.world.rkt(&format!("--dir=data rm {uuid}")).stdout();
    ground.world.run("--dir=data list --format=json").expect(0, "null\n", "");
}

#[test]
fn a_manifest_may_come_from_a_pipe() {
    let ground = Ground::new();
    let text = pod(json!([ground.app("web")])).to_string();
    let run = ground.world.rkt("--dir=data prepare --pod-manifest=/dev/stdin").input(text.clone());
    let uuid = run.stdout().trim().to_owned();
    ground.expect_manifest(&uuid, &text);
}

#[test]
fn isolators_of_the_whole_pod_are_reported() {
    let ground = Ground::new();
    let isolators = json!([{"name": "resource/memory", "value": {"limit": "1G"}}]);
    let ended = ground.prepare(with(pod(json!([ground.app("web")])), "isolators", isolators).to_string());
    let told = "prepare: warning: the isolator resource/memory of the whole pod is not enforced\n";
    ended.expect(0, &ended.stdout, told);
}
