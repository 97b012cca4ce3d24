//! `rkt logs`: the lines of the apps, from a pod that runs and from one that has exited.

use rustix::process::Signal;

use crate::host::Host;
use crate::pod::{Pods, shell_app};
use crate::support::terminal::OnTerminal;
use crate::support::{Run, wait};

/// The texts of the apps' lines.
fn texts(run: Run) -> Vec<String> {
    run.arg("-o").arg("cat").stdout().lines().map(str::to_owned).collect()
}

#[test]
fn the_log_of_a_running_pod_and_of_an_exited_one() {
    let _host = Host::take();
    let pods = Pods::new();
    let mut pod =
        pods.start_shell("", "trap 'echo ending; exit 0' TERM; echo started; while :; do sleep 0.1; done");
    pod.supervisor().wait_for_stdout("started");
    wait::until("the line is in the log", || {
        let lines = texts(pod.rkt("logs"));
        if lines == ["started"] { Ok(()) } else { Err(lines) }
    });
    // The form of a line is journalctl's, without the host's name.
    let line = pod.rkt("logs -o short").stdout();
    assert!(line.contains(" app[") && line.trim_end().ends_with("]: started"), "{line}");
    pod.rkt("stop").end().expect_code(0);
    pod.end().expect_code(0);
    let both = texts(pod.rkt("logs"));
    assert_eq!(both.iter().filter(|line| *line != "Terminated").collect::<Vec<_>>(), ["started", "ending"]);
    assert_eq!(texts(pod.rkt("logs -n1")), ["ending"]);
    assert_eq!(texts(pod.rkt("logs --since -1h")).last().map(String::as_str), Some("ending"));
    assert_eq!(texts(pod.rkt("logs --until=-1h")), [""; 0]);
    pods.rkt("gc --mark-only").end().expect_code(0);
    assert_eq!(texts(pod.rkt("logs -n 1")), ["ending"]);
    let file = pods.path().join("file");
    std::fs::write(&file, &pod.uuid).expect("a file");
    assert_eq!(texts(pods.rkt("logs -n1 --uuid-file").arg(&file)), ["ending"]);
    assert_eq!(texts(pods.rkt("logs -n1 --uuid-file").arg(&file).arg("app")), ["ending"]);
}

#[test]
fn new_lines_are_followed_until_the_reader_has_enough() {
    let _host = Host::take();
    let pods = Pods::new();
    let pod = pods
        .start_shell("", "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done");
    let mut follow = pod.rkt("logs -f -o cat").start();
    follow.wait_for_stdout("line 1\n");
    follow.wait_for_stdout("line 8\n");
    follow.signal(Signal::TERM);
    let _ended = follow.end();
}

#[test]
fn one_app_of_two_is_chosen_and_nothing_of_systemd_is_shown() {
    let _host = Host::take();
    let pods = Pods::new();
    let file = pods.path().join("uuid");
    let run = shell_app(
        pods.run("").arg("--uuid-file-save").arg(&file),
        "a",
        "echo from a; logger -t b 2>/dev/null",
    );
    // Both end well, for one that failed would end the pod before the other has said anything.
    shell_app(run, "b", "echo from b; echo error >&2").end().expect_code(0);
    let uuid = std::fs::read_to_string(&file).expect("the UUID");
    let logs = |app: &str| {
        let mut lines =
            texts(pods.rkt("logs").args(std::iter::once(uuid.as_str()).chain(app.split_whitespace())));
        lines.sort();
        lines
    };
    assert_eq!(logs("a"), ["from a"]);
    assert_eq!(logs("b"), ["error", "from b"]);
    assert_eq!(logs(""), ["error", "from a", "from b"]);
    pods.rkt("logs").args([&uuid, "c"]).end().expect(
        254,
        "",
        &format!("logs: cannot show the log: pod \"{uuid}\" has no app \"c\"\nlogs: hint: its apps: a, b\n"),
    );
    pods.rkt("logs").args([&uuid, "No!"]).end().expect_code(254);
    pods.rkt("logs").args([&uuid, "a", "b"]).end().expect_code(254);
}

#[test]
fn what_has_no_log_is_said() {
    let _host = Host::take();
    let pods = Pods::new();
    let uuid = shell_app(pods.rkt("prepare"), "app", "true").stdout();
    let uuid = uuid.trim();
    pods.rkt("logs").arg(uuid).end().expect(
        254,
        "",
        &format!(
            "logs: cannot show the log: pod \"{uuid}\" has no log yet\n\
             logs: hint: `rkt run-prepared {uuid}` starts it\n"
        ),
    );
    pods.rkt("logs 0123").end().expect(
        254,
        "",
        "logs: problem retrieving pod: no matches found for \"0123\"\n\
         logs: hint: `rkt list --full` shows the pods and their whole UUIDs\n",
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let _host = Host::take();
    let pods = Pods::new();
    let run = pods.run_shell("", "printf 'a\\033]0;title\\007b\\n'");
    run.end().expect_code(0);
    let uuid = pods.only();
    let data = pods.data().display().to_string();
    let words = ["env", "SYSTEMD_PAGER=cat", env!("CARGO_BIN_EXE_rkt"), "--dir", &data, "logs", &uuid];
    let (_, screen) = OnTerminal::start(words).end(std::time::Duration::from_secs(10));
    assert!(!screen.contains("\u{1b}]0;title"), "{screen:?}");
}
