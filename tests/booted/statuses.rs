//! How a pod ends, and what is told about it: exit codes, statuses, and that nothing runs on (issue "must show" 2).

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::host::{Host, processes_below};
use crate::pod::{Pods, console, expect_nothing_runs, said_by, scope, shell_app, shell_image};
use crate::support::terminal::OnTerminal;

/// What `rkt status` says of an exited pod, without the times.
fn exited(statuses: &[&str]) -> Vec<String> {
    let lines = ["state=exited", "networks=", "exited=true"];
    lines.iter().chain(statuses).map(|line| (*line).to_owned()).collect()
}

#[test]
fn the_exit_code_of_rkt_run_is_the_app_s() {
    let host = Host::take();
    let pods = Pods::new();
    for (line, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 254", 254),
        ("kill -SEGV $$", 11),
        ("kill -KILL $$", 9),
        ("kill -ABRT $$", 6),
        // Clean ends for systemd: a difference from rkt 1.30 that is documented.
        ("kill -TERM $$", 0),
    ] {
        let ended = pods.run_shell("--uuid-file-save=uuid", line).end();
        ended.expect(code, "", "");
        let uuid = std::fs::read_to_string(pods.path().join("uuid")).expect("the UUID");
        assert_eq!(pods.status(&uuid), exited(&[&format!("app-app={code}")]), "{line}");
        expect_nothing_runs(&host, &uuid);
    }
}

#[test]
fn the_first_failing_app_ends_the_pod_with_its_status() {
    let host = Host::take();
    let pods = Pods::new();
    let run = pods.run("");
    let run = shell_app(run, "deaf", "trap '' TERM; echo deaf; while :; do sleep 1; done");
    let run = shell_app(run, "failing", "sleep 0.3; exit 3");
    let ended = run.patience(Duration::from_secs(15)).end();

    ended.expect_code(3);
    assert_eq!(console(&ended.stdout), [("deaf".to_owned(), "deaf".to_owned())]);
    let uuid = pods.only();
    assert_eq!(pods.status(&uuid), exited(&["app-deaf=0", "app-failing=3"]));
    expect_nothing_runs(&host, &uuid);
}

#[test]
fn an_app_that_is_stopped_because_of_another_counts_as_zero() {
    let host = Host::take();
    let pods = Pods::new();
    let run = shell_app(
        pods.run(""),
        "polite",
        "exec 2>/dev/null; trap 'exit 143' TERM; while :; do sleep 0.1; done",
    );
    let run = shell_app(run, "failing", "sleep 0.3; exit 3");
    run.end().expect(3, "", "");
    let uuid = pods.only();
    assert_eq!(pods.status(&uuid), exited(&["app-polite=0", "app-failing=3"]));
    expect_nothing_runs(&host, &uuid);
}

#[test]
fn an_app_s_own_answer_to_a_stop_is_told() {
    let host = Host::take();
    let pods = Pods::new();
    let line = "exec 2>/dev/null; trap 'exit 5' TERM; echo started; while :; do sleep 0.1; done";
    let mut pod = pods.start_shell("", line);
    pod.supervisor().wait_for_stdout("started");
    pod.rkt("stop").end().expect_code(0);
    pod.end().expect_code(5);
    assert_eq!(pod.status(), exited(&["app-app=5"]));
    pod.expect_nothing_runs(&host);
}

#[test]
fn a_pod_ends_well_after_its_last_app() {
    let host = Host::take();
    let pods = Pods::new();
    let run = shell_app(pods.run(""), "short", "true");
    let run = shell_app(run, "long", "sleep 0.5; echo last");
    let ended = run.end();

    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "long"), ["last"]);
    let uuid = pods.only();
    assert_eq!(pods.status(&uuid), exited(&["app-short=0", "app-long=0"]));
    expect_nothing_runs(&host, &uuid);
}

/// Takes out what systemd 257 itself writes to the console about a start that failed, whatever its log target is.
fn without_systemd_s_own(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("shell.service: ")).collect();
    lines.join("\n")
}

const NO_PROGRAM: &str =
    "Error: Unable to execute \"/etc/passwd\": it is not a program for this machine, or not executable";

#[test]
fn a_program_that_can_not_be_executed_is_named() {
    let host = Host::take();
    let pods = Pods::new();
    for (exec, diagnosis) in [
        ("/no/such/program", "Error: Unable to open \"/no/such/program\": No such file or directory"),
        ("/etc/passwd", NO_PROGRAM),
    ] {
        let ended = pods.run("--uuid-file-save=uuid").arg(shell_image()).args(["--exec", exec]).end();
        ended.expect_code(203);
        assert_eq!(said_by(&without_systemd_s_own(&ended.stdout), "shell"), [diagnosis]);
        let uuid = std::fs::read_to_string(pods.path().join("uuid")).expect("the UUID");
        assert_eq!(pods.status(&uuid), exited(&["app-shell=203"]));
        expect_nothing_runs(&host, &uuid);
    }
}

#[test]
fn a_missing_working_directory_is_status_200() {
    let host = Host::take();
    let pods = Pods::new();
    let run = pods.run("").arg(shell_image()).args(["--working-dir=/no/such", "--exec=/bin/true"]);
    let ended = run.end();

    ended.expect_code(200);
    let diagnosis =
        "Error: Unable to change to the working directory \"/no/such\": No such file or directory";
    assert_eq!(said_by(&without_systemd_s_own(&ended.stdout), "shell"), [diagnosis]);
    let uuid = pods.only();
    assert_eq!(pods.status(&uuid), exited(&["app-shell=200"]));
    expect_nothing_runs(&host, &uuid);
}

/// An app that ends in order when asked to.
const ORDERLY: &str =
    "exec 2>/dev/null; trap 'echo ending; exit 0' TERM; echo started; while :; do sleep 0.1; done";

#[test]
fn control_c_on_a_terminal_ends_the_pod_in_order() {
    let host = Host::take();
    let pods = Pods::new();
    let data = pods.data().display().to_string();
    let image = shell_image().display().to_string();
    let rkt = env!("CARGO_BIN_EXE_rkt");
    let mut words = vec![rkt, "--dir", &data, "--insecure-options=image", "run", "--net=none", &image];
    words.extend(["--exec=/bin/sh", "--", "-c", ORDERLY]);
    let mut terminal = OnTerminal::start(words);
    terminal.wait_for("started");
    terminal.type_in(b"\x03");
    let (status, screen) = terminal.end(Duration::from_secs(5));

    assert_eq!(status.code(), Some(0), "{screen}");
    // What the terminal shows of the key and systemd-nspawn says to it, wherever that comes between the app's lines.
    let screen = screen.replace("^C", "").replace('\r', "");
    let halting = "Trying to halt container. Send SIGTERM again to trigger immediate termination.";
    let lines: Vec<&str> = screen.lines().filter(|line| *line != halting).collect();
    assert_eq!(said_by(&lines.join("\n"), "shell"), ["started", "ending"]);
    let uuid = pods.only();
    assert_eq!(pods.status(&uuid), exited(&["app-shell=0"]));
    expect_nothing_runs(&host, &uuid);
}

#[test]
fn sigterm_to_rkt_run_ends_the_pod_in_order() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = pods.start_shell("", ORDERLY);
    pod.supervisor().wait_for_stdout("started");
    pod.supervisor().signal(Signal::TERM);
    let ended = pod.end();

    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["started", "ending"]);
    assert_eq!(pod.status(), exited(&["app-app=0"]));
    pod.expect_nothing_runs(&host);
}

#[test]
fn sigterm_ends_a_pod_as_soon_as_its_systemd_is_there() {
    let host = Host::take();
    let pods = Pods::new();
    // Each time the signal comes at another moment of systemd's own start.
    for round in ["1", "2", "3"] {
        let file = pods.path().join(round);
        let run = pods.run("--uuid-file-save").arg(&file);
        let running = shell_app(run, "app", "sleep 1000").start();
        crate::support::wait::for_path(&file);
        let uuid = std::fs::read_to_string(&file).expect("the UUID");
        crate::support::wait::until("the pod's systemd is there", || {
            let names = processes_below(&format!("/machine.slice/{}", scope(&uuid)));
            if names.iter().any(|name| name == "systemd") { Ok(()) } else { Err(names) }
        });
        running.signal(Signal::TERM);
        running.end().expect_code(0);
        expect_nothing_runs(&host, &uuid);
    }
}

#[test]
fn rkt_stop_ends_the_pod_in_order() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = pods.start_shell("", ORDERLY);
    pod.supervisor().wait_for_stdout("started");
    pod.rkt("stop").end().expect(0, &format!("\"{}\"\n", pod.uuid), "");
    let ended = pod.end();

    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["started", "ending"]);
    assert_eq!(pod.status(), exited(&["app-app=0"]));
    pod.expect_nothing_runs(&host);
    pod.rkt("stop").end().expect(0, &format!("pod \"{}\" is already stopped\n", pod.uuid), "");
}

/// A signal that comes between the start of the supervisor and that of the pod's systemd reaches nobody.
#[test]
fn rkt_stop_is_heard_by_a_pod_that_has_just_been_started() {
    let host = Host::take();
    let pods = Pods::new();
    for round in ["1", "2", "3", "4", "5", "6"] {
        let file = pods.path().join(round);
        let run = pods.run("--uuid-file-save").arg(&file);
        let running = shell_app(run, "app", "sleep 1000").start();
        crate::support::wait::for_path(&file);
        let uuid = std::fs::read_to_string(&file).expect("the UUID");
        crate::support::wait::for_path(&pods.data().join("pods/run").join(&uuid));
        crate::support::wait::until("the supervisor is there", || {
            let names = processes_below(&format!("/machine.slice/{}", scope(&uuid)));
            if names.iter().any(|name| name == "systemd-nspawn") { Ok(()) } else { Err(names) }
        });
        pods.rkt("stop").arg(&uuid).end().expect(0, &format!("\"{uuid}\"\n"), "");
        // Whether systemd has come as far as the app, or the supervisor ended before that, is chance.
        let _ended = running.end();
        expect_nothing_runs(&host, &uuid);
    }
}

#[test]
fn rkt_stop_force_kills_the_pod_and_its_supervisor() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = pods.start_shell("", ORDERLY);
    pod.supervisor().wait_for_stdout("started");
    pod.rkt("stop --force").end().expect(0, &format!("\"{}\"\n", pod.uuid), "");
    let ended = pod.end();

    assert_eq!(ended.status.signal(), Some(9), "{ended:#?}");
    assert_eq!(said_by(&ended.stdout, "app"), ["started"]);
    // It never ended: there is no status to tell.
    assert_eq!(pod.status(), exited(&[]));
    pod.expect_nothing_runs(&host);
}

#[test]
fn a_stop_does_not_wait_for_the_pod_and_kills_a_deaf_app_in_time() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = pods.start_shell("", "trap '' TERM; while :; do sleep 1; done");
    pod.rkt("stop").patience(Duration::from_secs(2)).end().expect_code(0);
    let line = pod.rkt("status --wait=1ms").end();
    line.expect(254, "", "status: error waiting for pod to finish: context deadline exceeded\n");
    pod.rkt("status --wait=15s").end().expect_code(0);
    pod.end();
    pod.expect_nothing_runs(&host);
}

#[test]
fn status_of_a_running_pod_has_its_init_and_no_app() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = pods.start_shell("", "sleep 100");
    let leader = host.wait_for_machine(&pod.machine());
    let lines = ["state=running", "networks=", &format!("pid={leader}"), "exited=false"].map(str::to_owned);
    assert_eq!(pod.status(), lines);
}
