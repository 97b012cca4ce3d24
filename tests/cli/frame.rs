//! Words, exit codes and messages that are the same for every command (spec cli.md 1.1).

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use crate::world::{RUN, World, usage};

const VERSION: &str = "rkt Version: 2.0.0-dev\n\
                       appc Version: 0.8.11\n\
                       Go Version: n/a (Rust 1.95)\n\
                       Go OS/Arch: linux/amd64\n\
                       Features: -TPM +SDJOURNAL\n";

const VERSION_USAGE: &str = "rkt version";

#[test]
fn version_is_told_by_the_command_its_beginning_and_the_flag() {
    let world = World::new();
    for line in ["version", "vers", "--version", "--debug version", "version --debug=0", "--version=true"] {
        world.run(line).expect(0, VERSION, "");
    }
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    let world = World::new();
    for line in [
        "--dir=x --debug version",
        "--dir x --system-config /a --local-config /b --user-config /c version",
        "version --insecure-options=image,TLS --trust-keys-from-https",
        "version --insecure-options=",
        "--cpuprofile=x version --memprofile y",
    ] {
        world.run(line).expect(0, VERSION, "");
    }
}

#[test]
fn booleans_take_a_value_in_six_spellings_and_the_last_one_counts() {
    let world = World::new();
    for value in ["true", "false", "1", "0", "t", "f"] {
        world.run(&format!("version --debug={value}")).expect(0, VERSION, "");
    }
    world.run("--version --version=false").expect_code(2);
    let error = "Error: invalid argument \"maybe\" for --debug=maybe: must be true or false\n";
    let usage_of_rkt = "USAGE:\n\trkt [flags] COMMAND\n\nRun 'rkt --help' for the options.\n";
    world.run("--debug=maybe").expect(254, "", &format!("{error}{usage_of_rkt}"));
    world.run("version --debug=maybe").expect(254, "", &format!("{error}{}", usage(VERSION_USAGE)));
}

#[test]
fn without_a_command_the_help_is_given_and_the_code_is_2() {
    let world = World::new();
    let help = world.run("help").stdout;
    world.run("").expect(2, &help, "rkt: missing command\n");
    world.run("--debug --dir=/x").expect(2, &help, "rkt: missing command\n");
}

#[test]
fn an_unknown_command_is_told_with_similar_ones() {
    let world = World::new();
    for (line, word, similar) in [
        ("versoin", "versoin", "version"),
        ("ls", "ls", "list\n\tlogs"),
        ("--debug statsu --format=json", "statsu", "status"),
        ("ru", "ru", "rm\n\trun\n\trun-prepared"),
    ] {
        let message = format!(
            "Error: unknown command \"{word}\" for \"rkt\"\n\nDid you mean this?\n\t{similar}\n\n\
             Run 'rkt --help' for usage.\n"
        );
        world.run(line).expect(254, "", &message);
    }
    world.run("frobnicate x").expect(
        254,
        "",
        "Error: unknown command \"frobnicate\" for \"rkt\"\nRun 'rkt --help' for usage.\n",
    );
}

#[test]
fn a_bad_flag_is_told_with_the_usage() {
    let world = World::new();
    for (line, error) in [
        ("version --bogus", "unknown flag: --bogus"),
        ("--bogus version", "unknown flag: --bogus"),
        ("version --bogus=x", "unknown flag: --bogus"),
        ("version -v", "unknown shorthand flag: 'v' in -v"),
        ("version --dir", "flag needs an argument: --dir"),
        ("version --dir=", r#"invalid argument "" for --dir=: "" is not a valid directory"#),
        ("version --user-config=", r#"invalid argument "" for --user-config=: "" is not a valid directory"#),
        (
            "version --insecure-options=image,image",
            r#"invalid argument "image,image" for --insecure-options=image,image: duplicated option "image""#,
        ),
        (
            "--insecure-options=foo version",
            r#"invalid argument "foo" for --insecure-options=foo: unknown option "foo""#,
        ),
    ] {
        world.run(line).expect(254, "", &format!("Error: {error}\n{}", usage(VERSION_USAGE)));
    }
    world.run("--bogus").expect(
        254,
        "",
        "Error: unknown flag: --bogus\nUSAGE:\n\trkt [flags] COMMAND\n\nRun 'rkt --help' for the options.\n",
    );
}

#[test]
fn a_wrong_number_of_arguments_gives_the_usage_on_stdout() {
    let world = World::new();
    world.run("version x").expect(254, &usage(VERSION_USAGE), "");
    world.run("version -- --x").expect(254, &usage(VERSION_USAGE), "");
}

#[test]
fn a_group_gives_its_help_whatever_follows() {
    let world = World::new();
    let help = world.run("help image").stdout;
    assert!(help.starts_with("NAME:\n\timage - "), "{help}");
    world.run("image").expect(0, &help, "");
    world.run("image foo").expect(0, &help, "");
}

#[test]
fn flags_of_a_command_may_stand_before_it() {
    let world = World::new();
    let error = "run: must provide at least one image or specify the pod manifest\n";
    for line in ["--net=host run", "--no-overlay run", "--net run", "--hostname x run", "--cpu=2 run"] {
        world.run(line).expect(254, "", error);
    }
    let unknown = format!("Error: unknown flag: --full\n{}", usage(RUN));
    world.run("--full run").expect(254, "", &unknown);
}

#[test]
fn deprecated_flags_work_and_say_so() {
    let world = World::new();
    world.run("run --store-only --no-store x").expect(
        254,
        "",
        "Flag --no-store has been deprecated, please use --pull-policy=update\n\
         Flag --store-only has been deprecated, please use --pull-policy=never\n\
         run: both --store-only and --no-store specified\n",
    );
}

#[test]
fn what_comes_later_says_so() {
    let world = World::new();
    for (line, name) in [("api-service --listen x", "api-service"), ("metadata-service", "metadata-service")]
    {
        world.run(line).expect(
            254,
            "",
            &format!("{name}: this command is not supported by this version yet\n"),
        );
    }
    for flag in ["--mds-register", "--stage1-name=x"] {
        let name = flag.split('=').next().unwrap_or_default();
        let error = format!("run: {name} is not supported by this version yet\n");
        world.run(&format!("run --net=x {flag} image")).expect(254, "", &error);
    }
}

#[test]
fn experiments_do_not_exist_unless_they_are_switched_on() {
    let world = World::new();
    let unknown = "Error: unknown command \"app\" for \"rkt\"\nRun 'rkt --help' for usage.\n";
    let later = |name: &str| format!("{name}: this command is not supported by this version yet\n");
    world.run("app").expect(254, "", unknown);
    world.rkt("app list x").env("RKT_EXPERIMENT_APP", "maybe").end().expect(254, "", unknown);
    world.rkt("app list x").env("RKT_EXPERIMENT_APP", "true").end().expect(254, "", &later("app"));
    world.rkt("attach x").env("RKT_EXPERIMENT_ATTACH", "1").end().expect(254, "", &later("attach"));
    let unknown = format!("Error: unknown flag: --stdin\n{}", usage(RUN));
    world.run("run x --stdin=tty").expect(254, "", &unknown);
    let error = "run: --stdin is not supported by this version yet\n";
    world.rkt("run x --stdin=tty").env("RKT_EXPERIMENT_ATTACH", "1").end().expect(254, "", error);
}

#[test]
fn root_is_asked_for_after_the_flags_and_before_the_arguments() {
    let world = World::new();
    for (line, name) in [
        ("run x", "run"),
        ("run", "run"),
        ("run x --bogus", "run"),
        ("run -- x", "run"),
        ("prepare", "prepare"),
        ("run-prepared", "run-prepared"),
        ("run-prepared a b", "run-prepared"),
    ] {
        world.run_as_nobody(line).expect(254, "", &format!("{name}: cannot run as unprivileged user\n"));
    }
    world.run_as_nobody("version").expect(0, VERSION, "");
    let unknown = format!("Error: unknown flag: --bogus\n{}", usage(RUN));
    world.run_as_nobody("run --bogus x").expect(254, "", &unknown);
}

#[test]
fn debug_shows_the_chain_of_causes() {
    let world = World::new();
    let chain = "fetch: unable to parse arguments\n  └─app arguments unsupported\n";
    world.run("--debug fetch a --").expect(254, "", chain);
    world.run("--debug --debug=f fetch a --").expect(
        254,
        "",
        "fetch: unable to parse arguments: app arguments unsupported\n",
    );
}

#[test]
fn a_word_in_another_encoding_is_named() {
    let world = World::new();
    let odd = OsString::from_vec(b"x\xff".to_vec());
    let ended = world.rkt("run --hostname").arg(&odd).arg("a").end();
    ended.expect(254, "", &format!("Error: \"--hostname=x\\xFF\" is not valid UTF-8\n{}", usage(RUN)));
    let error = "run: error parsing app image arguments: \"x\\xFF\" is not valid UTF-8\n";
    world.rkt("run a --").arg(&odd).end().expect(254, "", error);
}

#[test]
fn only_root_may_look_at_pods() {
    let world = World::new();
    std::fs::create_dir_all(world.path().join("data/pods/prepare")).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(world.path().join("data/pods"), closed).unwrap();
    let path = world.path().join("data/pods/prepare");
    for (line, what) in [
        ("list", "list: problem listing pods"),
        ("status 12", "status: problem retrieving pod"),
        ("cat-manifest 12", "cat-manifest: problem retrieving pod"),
    ] {
        let command = line.split(' ').next().unwrap_or(line);
        world.run_as_nobody(&format!("--dir=data {line}")).expect(
            254,
            "",
            &format!(
                "{what}: reading {}: Permission denied\n{command}: hint: only root may look at pods\n",
                path.display()
            ),
        );
    }
}
