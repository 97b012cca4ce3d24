//! `rkt config`, and the configuration where it decides for other commands (spec config.md).
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;

use crate::world::World;

const CONFIG: &str = "--system-config=sys --local-config=loc";

/// A world with these files.
fn world(files: &[(&str, &str)]) -> World {
    let world = World::new();
    for (name, text) in files {
        let path = world.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    world
}

#[test]
fn without_files_config_shows_empty_values() {
    let world = World::new();
    world.run(&format!("{CONFIG} config --pretty-print=false")).expect(
        0,
        concat!(
            r#"{"stage0":[{"rktVersion":"v1","rktKind":"paths","data":"","stage1-images":""},"#,
            r#"{"rktVersion":"v1","rktKind":"stage1","name":"","version":"","location":""}]}"#,
            "\n"
        ),
        "",
    );
}

#[test]
fn config_shows_one_entry_for_each_domain_and_registry() {
    let world = world(&[
        (
            "sys/auth.d/a.json",
            r#"{"rktKind":"auth","rktVersion":"v1","domains":["b:8","a"],"type":"basic","credentials":{"user":"u","password":"p"}}"#,
        ),
        (
            "loc/auth.d/a.json",
            r#"{"rktKind":"auth","rktVersion":"v1","domains":["a"],"type":"aws","credentials":{"accessKeyID":"i","secretAccessKey":"s"}}"#,
        ),
        (
            "usr/auth.d/a.json",
            r#"{"rktKind":"auth","rktVersion":"v1","domains":["c"],"type":"oauth","credentials":{"token":"t"}}"#,
        ),
        (
            "loc/auth.d/docker.json",
            r#"{"rktKind":"dockerAuth","rktVersion":"v1","registries":["r"],"credentials":{"user":"u","password":"p"}}"#,
        ),
    ]);
    let entries = [
        r#"{"rktVersion":"v1","rktKind":"auth","domains":["a"],"type":"aws","credentials":{"accessKeyID":"i","secretAccessKey":"s","awsRegion":""}}"#,
        r#"{"rktVersion":"v1","rktKind":"auth","domains":["b:8"],"type":"basic","credentials":{"user":"u","password":"p"}}"#,
        r#"{"rktVersion":"v1","rktKind":"auth","domains":["c"],"type":"oauth","credentials":{"token":"t"}}"#,
        r#"{"rktVersion":"v1","rktKind":"dockerAuth","registries":["r"],"credentials":{"user":"u","password":"p"}}"#,
        r#"{"rktVersion":"v1","rktKind":"paths","data":"","stage1-images":""}"#,
        r#"{"rktVersion":"v1","rktKind":"stage1","name":"","version":"","location":""}"#,
    ];
    world.run(&format!("{CONFIG} --user-config=usr --pretty-print=false config")).expect(
        0,
        &format!("{{\"stage0\":[{}]}}\n", entries.join(",")),
        "",
    );
    let pretty = world.run(&format!("{CONFIG} config")).stdout;
    assert!(pretty.starts_with("{\n\t\"stage0\": [\n\t\t{\n\t\t\t\"rktVersion\": \"v1\",\n"), "{pretty}");
}

#[test]
fn the_data_directory_comes_from_the_configuration_unless_the_flag_names_one() {
    let world = World::new();
    let at = world.path().display();
    fs::create_dir_all(world.path().join("loc/paths.d")).unwrap();
    fs::write(
        world.path().join("loc/paths.d/a.json"),
        format!(r#"{{"rktKind":"paths","rktVersion":"v1","data":"{at}/chosen"}}"#),
    )
    .unwrap();
    let fetch = |flags: &str| world.run(&format!("{CONFIG} {flags} --insecure-options=image fetch none.aci"));
    fetch("").expect_code(254);
    assert!(world.path().join("chosen/cas").exists());
    fetch("--dir=flag").expect_code(254);
    assert!(world.path().join("flag/cas").exists());
}

#[test]
fn a_bad_file_stops_every_command_that_needs_the_configuration() {
    let world = world(&[("loc/paths.d/a.json", "{}")]);
    let at = world.path().display();
    let told = |command: &str| {
        format!(
            "{command}: cannot get configuration: no rktKind specified in \"{at}/loc/paths.d/a.json\"\n\
             {command}: hint: a file begins like {{ \"rktKind\": \"auth\", \"rktVersion\": \"v1\", … }}\n"
        )
    };
    for command in ["config", "list", "fetch x.aci"] {
        let name = command.split(' ').next().unwrap();
        world.run(&format!("{CONFIG} {command}")).expect(254, "", &told(name));
    }
    world.run(&format!("{CONFIG} version")).expect_code(0);
    world.run(&format!("{CONFIG} --dir=data list")).expect_code(0);
    fs::remove_dir_all(world.path().join("loc")).unwrap();
    fs::write(world.path().join("loc"), "").unwrap();
    world.run(&format!("{CONFIG} config")).expect(
        254,
        "",
        &format!("config: cannot get configuration: expected \"{at}/loc\" to be a directory\n"),
    );
}
