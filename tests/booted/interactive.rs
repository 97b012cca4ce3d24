//! `--interactive`: the app of a pod on the caller's terminal, or on the caller's pipes.

use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::host::Host;
use crate::pod::{Pods, expect_nothing_runs, shell_app, shell_image};
use crate::support::terminal::OnTerminal;
use crate::support::{Run, wait};

/// `rkt run --interactive` of a line for a shell, with pipes.
fn piped(pods: &Pods, line: &str) -> Run {
    shell_app(pods.run("--interactive"), "app", line)
}

/// The same on a terminal.
fn on_terminal(pods: &Pods, flags: &str, line: &str) -> OnTerminal {
    let (rkt, data) = (env!("CARGO_BIN_EXE_rkt"), pods.data().display().to_string());
    let words =
        ["env", "TERM=xterm-256color", rkt, "--dir", &data, "--insecure-options=image", "run", "--net=none"];
    let words = words.into_iter().map(str::to_owned).chain(flags.split(' ').map(str::to_owned));
    let image = shell_image().display().to_string();
    let app = ["--interactive", &image, "--name=app", "--exec=/bin/sh", "--", "-c", line];
    OnTerminal::start(words.filter(|word| !word.is_empty()).chain(app.into_iter().map(str::to_owned)))
}

#[test]
fn pipes_stay_apart_and_end_and_the_status_is_the_app_s() {
    let host = Host::take();
    let pods = Pods::new();
    let line = "cat; echo error >&2; echo $TERM; exit 7";
    piped(&pods, line).input("in\n").end().expect(7, "in\n\n", "error\n");
    expect_nothing_runs(&host, &pods.only());
    assert_eq!(pods.status(&pods.only()).last().map(String::as_str), Some("app-app=7"));
}

#[test]
fn an_input_that_ends_before_the_app_has_started_reaches_it() {
    let _host = Host::take();
    let pods = Pods::new();
    for _ in 0..3 {
        piped(&pods, "sleep 0.3; cat").input("early\n").end().expect(0, "early\n", "");
        piped(&pods, "cat; echo end").end().expect(0, "end\n", "");
    }
}

#[test]
fn ten_mebibytes_come_through() {
    let _host = Host::take();
    let pods = Pods::new();
    let data: String = (0..10 * 131_072).map(|number| format!("{number:07}\n")).collect();
    let ended = piped(&pods, "cat").input(data.clone()).end();
    ended.expect_code(0);
    assert!(ended.stdout == data, "{} bytes of {}: {}", ended.stdout.len(), data.len(), ended.stderr);
    // An app that ends at once after a lot of output has all of it said when `rkt run` ends.
    let file = pods.path().join("out");
    let line = format!(
        "{} --dir {} --insecure-options=image run --net=none --interactive {} --exec=/bin/sh -- -c \
         'yes | head -c 1000000; exit 3' </dev/null >{}; echo $?; wc -c <{}",
        env!("CARGO_BIN_EXE_rkt"),
        pods.data().display(),
        shell_image().display(),
        file.display(),
        file.display()
    );
    Run::new("sh").arg("-c").arg(line).end().expect(0, "3\n1000000\n", "");
}

#[test]
fn another_user_s_app_may_open_its_streams_again() {
    let _host = Host::take();
    let pods = Pods::new();
    let run =
        pods.run("--interactive").arg(shell_image()).args(["--user=33", "--group=44", "--exec=/bin/sh"]);
    run.args(["--", "-c", "id -u; echo out >/proc/self/fd/1; echo err >/proc/self/fd/2"]).end().expect(
        0,
        "33\nout\n",
        "err\n",
    );
}

#[test]
fn a_signal_ends_a_pod_with_pipes_in_order() {
    let host = Host::take();
    let pods = Pods::new();
    let line = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    for signal in [Signal::INT, Signal::TERM] {
        let mut running = piped(&pods, line).start();
        running.wait_for_stdout("ready");
        running.signal(signal);
        let ended = running.end();
        ended.expect_code(0);
        assert_eq!(ended.stdout, "ready\nending\n");
    }
    for uuid in pods.uuids() {
        expect_nothing_runs(&host, &uuid);
    }
}

#[test]
fn a_killed_rkt_run_with_pipes_ends_its_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let mut running = piped(&pods, "echo ready; while :; do sleep 0.1; done").start();
    running.wait_for_stdout("ready");
    let uuid = pods.only();
    running.signal(Signal::KILL);
    let _killed = running.end();
    expect_nothing_runs(&host, &uuid);
    assert_eq!(pods.status(&uuid)[0], "state=exited");
}

#[test]
fn stop_and_enter_work_with_an_interactive_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let mut running = piped(&pods, "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done").start();
    running.wait_for_stdout("ready");
    let uuid = pods.only();
    pods.rkt("enter").args([&uuid, "echo", "inside"]).end().expect(0, "inside\n", "");
    pods.rkt("stop").arg(&uuid).end().expect_code(0);
    running.end().expect_code(0);
    expect_nothing_runs(&host, &uuid);
}

#[test]
fn a_prepared_pod_is_interactive_once_and_not_the_next_time() {
    let _host = Host::take();
    let pods = Pods::new();
    let uuid = shell_app(pods.rkt("prepare"), "app", "cat; exit 4").stdout();
    let uuid = uuid.trim();
    pods.rkt("run-prepared --net=none --interactive").arg(uuid).input("x\n").end().expect(4, "x\n", "");
    let two = shell_app(shell_app(pods.rkt("prepare"), "a", "true"), "b", "true").stdout();
    pods.rkt("run-prepared --net=none --interactive").arg(two.trim()).end().expect(
        254,
        "",
        "run-prepared: interactive option only supports pods with one app\n",
    );
    pods.rkt("run-prepared --net=none").arg(two.trim()).end().expect(0, "", "");
    let run = shell_app(shell_app(pods.run("--interactive"), "a", "true"), "b", "true");
    run.end().expect(254, "", "run: interactive option only supports one image\n");
}

#[test]
fn on_a_terminal_the_app_has_it() {
    let host = Host::take();
    let pods = Pods::new();
    // A new size comes by a signal, which a key may overtake.
    let mut terminal = on_terminal(
        &pods,
        "",
        "size() { while [ \"$(stty size)\" != \"$1\" ]; do sleep 0.1; done; stty size; }
         echo ready $TERM; tty; read x; size '33 99'; read y; size '44 111'; echo got $y; exit 6",
    );
    terminal.resize(33, 99);
    terminal.wait_for("ready xterm-256color");
    terminal.wait_for("/dev/pts/0");
    terminal.type_in(b"\r");
    terminal.wait_for("33 99");
    terminal.resize(44, 111);
    terminal.type_in(b"more\r");
    terminal.wait_for("44 111");
    let (status, screen) = terminal.end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(6), "{screen}");
    assert!(screen.contains("got more"), "{screen}");
    expect_nothing_runs(&host, &pods.only());
}

#[test]
fn keys_are_the_app_s_and_three_brackets_end_the_pod_with_1() {
    let host = Host::take();
    let pods = Pods::new();
    let mut terminal =
        on_terminal(&pods, "", "trap 'echo caught' INT; echo ready; while :; do sleep 0.1; done");
    terminal.wait_for("ready");
    terminal.type_in(b"\x03");
    terminal.wait_for("caught");
    assert_eq!(terminal.modes(), "", "raw while it runs");
    terminal.type_in(b"\x1d\x1d\x1d");
    terminal.wait_for_modes("icanon echo isig");
    let (status, screen) = terminal.end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1), "{screen}");
    expect_nothing_runs(&host, &pods.only());
}

#[test]
fn the_terminal_is_as_before_when_the_supervisor_is_asked_to_end() {
    let host = Host::take();
    let pods = Pods::new();
    let mut terminal = on_terminal(&pods, "", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done");
    terminal.wait_for("ready");
    let uuid = pods.only();
    pods.rkt("stop").arg(&uuid).end().expect_code(0);
    terminal.wait_for_modes("icanon echo isig");
    let (status, screen) = terminal.end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{screen}");
    expect_nothing_runs(&host, &uuid);
}

#[test]
fn a_killed_supervisor_on_a_terminal_ends_its_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let mut terminal = on_terminal(&pods, "", "trap '' HUP; echo ready; while :; do sleep 0.1; done");
    terminal.wait_for("ready");
    let uuid = pods.only();
    let file = pods.data().join("pods/run").join(&uuid).join("ppid");
    let text = std::fs::read_to_string(file).expect("the supervisor");
    let pid = text
        .split(' ')
        .next()
        .and_then(|pid| pid.parse().ok())
        .and_then(Pid::from_raw)
        .expect("a process ID");
    rustix::process::kill_process(pid, Signal::KILL).expect("kill(2)");
    let _killed = terminal.end(Duration::from_secs(10));
    expect_nothing_runs(&host, &uuid);
    let state = || pods.status(&uuid)[0].clone();
    wait::until("it has exited", || if state() == "state=exited" { Ok(()) } else { Err(state()) });
}
