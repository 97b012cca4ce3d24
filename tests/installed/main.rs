//! What `make install` leaves on a host, used as its user would: by the names in PATH, by systemd, by the shell.
//!
//! `make test` installs into a fresh lab of each release and runs this there.

#[path = "../support/mod.rs"]
mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use support::Run;

/// The commands that `rkt help` lists, as one types them.
fn commands() -> Vec<String> {
    let help = Run::new("rkt").arg("help").stdout();
    let listed =
        help.split("\nCOMMANDS:\n").nth(1).expect("commands").split("\n\n").next().expect("a paragraph");
    listed.lines().filter_map(|line| line.trim_start().split('\t').next()).map(str::to_owned).collect()
}

#[test]
fn both_names_are_in_path_and_of_one_version() {
    let rkt = Run::new("rkt").arg("version").stdout();
    assert!(rkt.starts_with("rkt Version: 2."), "{rkt}");
    let acbuild = Run::new("acbuild").arg("version").stdout();
    let version = rkt.lines().next().and_then(|line| line.rsplit(' ').next()).expect("a version");
    assert!(acbuild.contains(version), "{acbuild:?} {version:?}");
}

#[test]
fn systemd_finds_no_fault_with_the_units_and_runs_them() {
    let verify =
        Run::new("systemd-analyze").args(["verify", "--man=no", "rkt-gc.service", "rkt-gc.timer"]).end();
    verify.expect_code(0);
    assert_eq!((verify.stdout.as_str(), verify.stderr.as_str()), ("", ""));
    Run::new("systemctl").args(["start", "rkt-gc.service"]).stdout();
    let result =
        Run::new("systemctl").args(["show", "--property=Result,ExecMainStatus", "rkt-gc.service"]).stdout();
    assert_eq!(result, "Result=success\nExecMainStatus=0\n");
    Run::new("systemctl").args(["enable", "--now", "rkt-gc.timer"]).stdout();
    let state = Run::new("systemctl").args(["is-active", "rkt-gc.timer"]).stdout();
    assert_eq!(state, "active\n");
}

#[test]
fn the_group_owns_the_data_directory_and_the_limit_is_raised() {
    let group = Run::new("getent").args(["group", "rkt"]).stdout();
    let id: u32 = group.split(':').nth(2).and_then(|id| id.parse().ok()).expect("a group's number");
    let data = std::fs::metadata("/var/lib/rkt").expect("the data directory");
    assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (0o750, 0, id));
    let sysctl = Run::new("/usr/lib/systemd/systemd-sysctl").arg("--cat-config").stdout();
    assert!(sysctl.contains("\nfs.inotify.max_user_instances = 8192\n"), "{sysctl}");
}

#[test]
fn every_command_has_a_page_of_the_manual() {
    let commands = commands();
    assert!(commands.iter().any(|command| command == "image list") && commands.len() > 15, "{commands:?}");
    for command in commands {
        let page = format!("/usr/share/man/man1/rkt-{}.1", command.replace(' ', "-"));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|cause| panic!("{page}: {cause}"));
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}");
    }
}

#[test]
fn the_shells_complete_commands() {
    let script = r#"source "$1" && COMP_WORDS=(rkt imag) COMP_CWORD=1 && _rkt rkt imag rkt && printf '%s\n' "${COMPREPLY[@]}""#;
    let file = "/usr/share/bash-completion/completions/rkt";
    let words = Run::new("bash").args(["-c", script, "bash", file]).stdout();
    assert_eq!(words, "image\n");
    let zsh = std::fs::read_to_string("/usr/share/zsh/site-functions/_rkt").expect("zsh's");
    assert!(zsh.starts_with("#compdef rkt\n"), "{zsh}");
    let fish = std::fs::read_to_string("/usr/share/fish/vendor_completions.d/rkt.fish").expect("fish's");
    assert!(fish.contains("complete -c rkt "), "{fish}");
}

#[test]
fn a_new_user_makes_an_image_runs_it_and_cleans_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let acbuild = |words: &[&str]| {
        Run::new("acbuild").current_dir(dir.path()).args(words).end().expect_code(0);
    };
    acbuild(&["begin"]);
    acbuild(&["set-name", "example.com/hello"]);
    acbuild(&["copy", "/bin/busybox", "/bin/busybox"]);
    acbuild(&["set-exec", "--", "/bin/busybox", "echo", "it works"]);
    acbuild(&["write", "hello.aci"]);
    acbuild(&["end"]);

    let run = Run::new("rkt").current_dir(dir.path());
    let run = run
        .args(["--insecure-options=image", "run", "--net=none", "--uuid-file-save=uuid", "hello.aci"])
        .end();
    run.expect_code(0);
    assert!(run.stdout.contains(": it works"), "{run:?}");
    let uuid = std::fs::read_to_string(dir.path().join("uuid")).expect("the pod's name");
    let status = Run::new("rkt").args(["status", &uuid]).stdout();
    assert!(status.contains("\napp-hello=0\n"), "{status}");
    Run::new("rkt").args(["rm", &uuid]).stdout();
    assert!(!Path::new("/var/lib/rkt/pods/run").join(&uuid).exists());
    Run::new("rkt").args(["image", "rm", "example.com/hello"]).stdout();
}
