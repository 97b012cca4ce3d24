//! Pods where something is odd that users do have: a umask, exported shell functions, long names, any data directory.

use crate::host::Host;
use crate::pod::{Pods, said_by, scope, shell_app, shell_image};
use crate::support::{Run, wait};

/// The arguments of `rkt run` for a line of a shell.
const SHELL: [&str; 5] = ["--name=app", "--exec=/bin/sh", "--user=1000", "--", "-c"];

/// `rkt run` without a network as under `umask 077`, which a shell sets for the command that it becomes.
pub(crate) fn run_under_umask(pods: &Pods) -> Run {
    let shell = Run::new("/bin/sh").args(["-c", "umask 077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_rkt")]);
    let shell = shell.current_dir(pods.path()).arg("--dir").arg(pods.data());
    shell.args(["--insecure-options=image", "run", "--net=none"])
}

#[test]
fn files_that_rkt_makes_for_apps_do_not_depend_on_the_umask() {
    let _host = Host::take();
    let pods = Pods::new();
    for roots in ["--no-overlay=false", "--no-overlay"] {
        let run = run_under_umask(&pods).arg(roots);
        let ended = run.arg(shell_image()).args(SHELL).arg("cat /etc/hostname && ls -d /tmp /run").end();
        ended.expect_code(0);
        assert_eq!(said_by(&ended.stdout, "app")[1..], ["/run", "/tmp"], "{roots}");
    }
}

#[test]
fn what_is_no_variable_to_systemd_is_left_out_and_the_pod_starts() {
    let _host = Host::take();
    let pods = Pods::new();
    let run = pods.run("--inherit-env").env("BASH_FUNC_x%%", "() { :; }").env("a.b", "1").env("GOOD", "1");
    let ended = shell_app(run, "app", "echo $GOOD").end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["1"]);
    assert_eq!(
        ended.stderr,
        "run: app \"app\": systemd can't set the variable \"BASH_FUNC_x%%\", it is left out\n\
         run: app \"app\": systemd can't set the variable \"a.b\", it is left out\n"
    );
    let uuid = pods.rkt("prepare --set-env=a/b=1").arg(shell_image()).args(["--exec=/bin/true"]).stdout();
    pods.rkt("run-prepared --net=none").arg(uuid.trim()).end().expect_code(0);
}

#[test]
fn the_data_directory_may_be_anywhere() {
    let _host = Host::take();
    let pods = Pods::new();
    let long = format!("{}/{}", "l".repeat(200), "m".repeat(200));
    for name in ["a b", "colon:comma,", "back\\slash", "quote\"'", "100%n$x", "new\nline", &long] {
        let data = pods.path().join(name);
        let rkt = || Run::rkt().arg("--dir").arg(&data).arg("--insecure-options=image");
        for roots in ["--no-overlay=false", "--no-overlay"] {
            let run = rkt().args(["run", "--net=none", roots]).arg(shell_image());
            let ended = run.args(SHELL).arg("echo here; exit 7").end();
            ended.expect_code(7);
            assert_eq!(said_by(&ended.stdout, "app"), ["here"], "{name:?} {roots}");
        }
        let collected = rkt().args(["gc", "--grace-period=0s"]).stdout();
        assert_eq!(collected.lines().count(), 2, "{name:?}: {collected}");
    }
}

#[test]
fn an_app_has_a_name_of_92_characters_and_no_more() {
    let _host = Host::take();
    let pods = Pods::new();
    let (longest, too_long) = ("n".repeat(92), "n".repeat(93));
    let ended = shell_app(pods.run(""), &longest, "echo here; exit 7").end();
    ended.expect_code(7);
    assert_eq!(said_by(&ended.stdout, &longest), ["here"]);
    let ended = shell_app(pods.run(""), &too_long, "echo here").end();
    ended.expect_code(254);
    assert_eq!(
        ended.stderr,
        format!(
            "run: error setting up stage0: the app name \"{too_long}\" is longer than 92 characters\n\
             run: hint: give it a shorter name with --name\n"
        )
    );
}

/// systemd takes a process that was killed a moment ago into the scope that it makes, and never hears of its end.
#[test]
fn the_scope_of_a_pod_that_was_killed_while_systemd_made_it_is_collected() {
    let host = Host::take();
    let pods = Pods::new();
    let uuid = pods.rkt("prepare").arg(shell_image()).arg("--exec=/bin/true").stdout().trim().to_owned();
    let unit = scope(&uuid);
    let mut killed = std::process::Command::new("/bin/true").spawn().expect("a process");
    let pid = killed.id().to_string();
    wait::until("the process is a zombie", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        if stat.contains(") Z ") { Ok(()) } else { Err(stat) }
    });
    let manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";
    let busctl = Run::new("busctl").arg("call").args(manager.split(' '));
    let started = busctl.args(["StartTransientUnit", "ssa(sv)a(sa(sv))", &unit, "fail", "3"]);
    let started = started.args(["PIDs", "au", "1", &pid, "Slice", "s", "machine.slice"]);
    started.args(["Delegate", "b", "true", "0"]).end().expect_code(0);
    let state = || host.unit_property(&unit, "ActiveState");
    wait::until("the scope is there", || if state() == "active" { Ok(()) } else { Err(state()) });
    killed.wait().expect("it has ended");

    pods.rkt("gc --grace-period=0s --expire-prepared=0s").end().expect_code(0);
    assert_eq!(state(), "inactive");
}

#[test]
fn the_file_of_rkt_may_be_gone_or_out_of_sight_when_the_pod_starts() {
    let _host = Host::take();
    let pods = Pods::new();
    let data = pods.data();
    let data = data.to_str().expect("a path");
    let image = shell_image().to_str().expect("a path");
    let copy = pods.path().join("rkt");
    // That the failure of an app is told is the work of rkt's own file in the pod.
    let flags = ["--dir", data, "--insecure-options=image", "run", "--net=none", image, "--exec=/no/such"];
    let diagnosis = "Error: Unable to open \"/no/such\": No such file or directory";
    let expect_told = |run: Run| {
        let ended = run.args(flags).end();
        ended.expect_code(203);
        assert!(ended.stdout.contains(diagnosis), "{}", ended.stdout);
    };

    std::fs::copy(env!("CARGO_BIN_EXE_rkt"), &copy).expect("a copy of rkt");
    // The shell executes a file that has no name any more, as that of a command is that an upgrade overtook.
    let script = "exec 8<$1; rm $1; shift; exec /proc/self/fd/8 \"$@\"";
    expect_told(Run::new("/bin/bash").args(["-c", script, "bash"]).arg(&copy));

    let service = ["--quiet", "--wait", "--pipe", "--collect", "--property=PrivateMounts=yes", "--"];
    expect_told(Run::new("systemd-run").args(service).arg(env!("CARGO_BIN_EXE_rkt")));
}

#[test]
fn a_service_that_may_not_write_to_the_host_s_journal_directory_runs_a_pod() {
    let _host = Host::take();
    let pods = Pods::new();
    let image = shell_image().to_str().expect("a path");
    pods.rkt("fetch").arg(image).stdout();
    let service = ["--quiet", "--wait", "--pipe", "--collect", "--property=ReadOnlyPaths=/var/log", "--"];
    let run = Run::new("systemd-run").args(service).arg(env!("CARGO_BIN_EXE_rkt"));
    let run = run.arg("--dir").arg(pods.data());
    let run = run.args(["--insecure-options=image", "run", "--net=none", image, "--exec=/bin/sh"]);
    let ended = run.args(["--name=app", "--", "-c", "echo here; exit 7"]).end();
    ended.expect_code(7);
    assert_eq!(said_by(&ended.stdout, "app"), ["here"]);
    let notice = ": Read-only file system: journalctl will not find this pod by its machine\n";
    assert!(ended.stderr.ends_with(notice), "{}", ended.stderr);
}
