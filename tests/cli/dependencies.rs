//! Images below images, as a user meets them: `fetch` looks for them, `image render` unpacks them (spec images.md 2.8).
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;

use crate::support::names;
use crate::support::tar::{Tar, manifest};
use crate::world::World;

const FETCH: &str = "--dir=data --insecure-options=image fetch";

/// Writes `NAME.aci` of an image below which others are, with one file of its name and one that all have.
fn write(world: &World, name: &str, below: &[&str]) {
    let below: Vec<_> = below.iter().map(|name| format!(r#"{{"imageName":"example.com/{name}"}}"#)).collect();
    let members = format!("{{\"dependencies\":[{}],", below.join(","));
    let text = manifest(&format!("example.com/{name}")).replacen('{', &members, 1);
    let tar = Tar::default().manifest(&text).dir("rootfs").file(format!("rootfs/{name}"), name);
    fs::write(world.path().join(format!("{name}.aci")), tar.file("rootfs/all", name).end()).unwrap();
}

#[test]
fn a_dependency_that_is_missing_is_named_with_the_way_out() {
    let world = World::new();
    write(&world, "top", &["base"]);
    write(&world, "base", &[]);
    let missing = "image example.com/top depends on example.com/base, which is not in the store\n";
    let hint = "hint: fetch example.com/base first, by its name or from a file\n";
    let ended = world.run(&format!("{FETCH} --pull-policy=never top.aci"));
    ended.expect(254, &ended.stdout, &format!("fetch: {missing}fetch: {hint}"));
    let rendered = world.run("--dir=data image render example.com/top out");
    rendered.expect(254, "", &format!("render: error rendering image: {missing}render: {hint}"));
    let refused = world.run("--dir=data --insecure-options=image prepare --pull-policy=never top.aci");
    refused.expect(254, "", &format!("prepare: {missing}prepare: {hint}"));
    assert!(!world.path().join("out").exists());
    assert!(!world.path().join("data/pods").exists(), "nothing was made for a pod");
    // In one command the order does not matter.
    world.run(&format!("{FETCH} top.aci base.aci")).expect_code(0);
    world.run("--dir=data image render example.com/top out").expect(0, "", "");
    let out = world.path().join("out");
    assert_eq!(
        (names(&out), names(&out.join("rootfs"))),
        (vec!["manifest".into(), "rootfs".into()], vec!["all".into(), "base".into(), "top".into()])
    );
    assert_eq!(fs::read_to_string(out.join("rootfs/all")).unwrap(), "top");
    world.run("--dir=data image render --rootfs-only example.com/top flat").expect(0, "", "");
    assert_eq!(names(&world.path().join("flat")), ["all", "base", "top"]);
    world.run("--dir=data image extract example.com/top alone").expect(0, "", "");
    assert_eq!(names(&world.path().join("alone/rootfs")), ["all", "top"]);
}

#[test]
fn b10_a_loop_is_refused_by_name_and_leaves_nothing() {
    let world = World::new();
    write(&world, "a", &["b"]);
    write(&world, "b", &["c"]);
    write(&world, "c", &["b"]);
    let error = "image example.com/b depends on itself: example.com/b -> example.com/c -> example.com/b\n";
    let ended = world.run(&format!("{FETCH} a.aci b.aci c.aci"));
    ended.expect(254, &ended.stdout, &format!("fetch: {error}"));
    let refused = world.run("--dir=data --insecure-options=image prepare a.aci");
    refused.expect(254, "", &format!("prepare: {error}"));
    world.run("--dir=data image render example.com/a out").expect(
        254,
        "",
        &format!("render: error rendering image: {error}"),
    );
    assert_eq!(names(world.path()), ["a.aci", "b.aci", "c.aci", "data"]);
    assert_eq!(names(&world.path().join("data/cas/tree")), [""; 0]);
    assert_eq!(names(&world.path().join("data/cas/tmp")), [""; 0]);
}

#[test]
fn b10_a_chain_has_an_end() {
    let world = World::new();
    for depth in 0..=33 {
        let below = format!("n{}", depth + 1);
        let below: &[&str] = if depth < 33 { &[&below] } else { &[] };
        write(&world, &format!("n{depth}"), below);
    }
    let files: Vec<_> = (0..=33).map(|depth| format!("n{depth}.aci")).collect();
    let ended = world.run(&format!("{FETCH} {}", files.join(" ")));
    let error = "fetch: image example.com/n0 has more than 32 images below one another\n";
    ended.expect(254, &ended.stdout, error);
    world.run("--dir=data image render --rootfs-only example.com/n1 out").expect(0, "", "");
    assert_eq!(names(&world.path().join("out")).len(), 34);
}

#[test]
fn an_image_that_acbuild_puts_upon_another_is_fetched_and_rendered() {
    let world = World::new();
    write(&world, "base", &[]);
    let site = |line: &str| {
        let words = line.split(' ');
        crate::support::Run::acbuild().args(words).env_clear().current_dir(world.path()).stdout()
    };
    for line in [
        "begin",
        "set-name example.com/built",
        "dependency add example.com/base:1.0.0",
        "write built.aci",
        "end",
    ] {
        site(line);
    }
    world.run(&format!("{FETCH} built.aci base.aci")).expect_code(0);
    world.run("--dir=data image render --rootfs-only example.com/built out").expect(0, "", "");
    assert_eq!(names(&world.path().join("out")), ["all", "base"]);
}
