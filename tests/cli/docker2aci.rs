//! `docker2aci` as a program: what it makes of docker's and OCI's files, and what it says.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use serde_json::json;

use crate::support::Run;
use crate::support::oci::{Image, Packing};
use crate::support::run::Ended;
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
fn what_is_wrong_is_told_in_its_own_words() {
    let world = world();
    for (line, code, message) in [
        ("a b", 2, "docker2aci [-debug]"),
        ("-nope a", 2, "flag provided but not defined: -nope"),
        ("-compression=xz saved.tar", 1, "Error: unknown compression method: xz"),
        ("-image=x docker://busybox", 1, "Error: conversion error: flag --image works only with files."),
        ("none.tar", 1, "Error: conversion error: opening none.tar: No such file or directory"),
        ("-image=other saved.tar", 1, "Error: conversion error: it has no image \"other\""),
    ] {
        let ended = convert(&world, line);
        ended.expect_code(code);
        assert!(ended.stderr.starts_with(message), "{line}: {}", ended.stderr);
    }
}
