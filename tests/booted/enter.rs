//! `rkt enter`: the command has the app's rights, as the kernel tells them, and streams of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::host::Host;
use crate::pod::{Pod, Pods, shell_app, shell_image};
use crate::support::aci::Aci;
use crate::support::terminal::OnTerminal;
use crate::support::{Run, wait};

/// An app that waits for its end.
const WAITS: &str = "trap 'exit 0' TERM; echo started; while :; do sleep 0.1; done";

/// `rkt enter` of a pod.
fn enter(pod: &Pod<'_>, command: &[&str]) -> Run {
    pod.rkt("enter").args(command)
}

/// The same on a terminal, `TERM` being xterm-256color.
fn on_terminal(pods: &Pods, pod: &Pod<'_>, command: &[&str]) -> OnTerminal {
    let data = pods.data();
    let words = ["env", "TERM=xterm-256color", env!("CARGO_BIN_EXE_rkt"), "--dir"];
    let words = words.into_iter().map(str::to_owned).chain([data.display().to_string()]);
    OnTerminal::start(
        words.chain(["enter".into(), pod.uuid.clone()]).chain(command.iter().map(|word| (*word).into())),
    )
}

/// The first process of a unit of the pod whose name begins so, by the kernel's control groups.
fn process_of(pod: &Pod<'_>, unit: &str) -> Option<u32> {
    let scope = crate::pod::scope(&pod.uuid);
    std::fs::read_dir("/proc").expect("a /proc").flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        (groups.contains(&scope) && groups.contains(&format!("/{unit}"))).then_some(pid)
    })
}

pub(crate) fn wait_for_process(pod: &Pod<'_>, unit: &str) -> u32 {
    wait::until(&format!("a process of {unit}"), || process_of(pod, unit).ok_or("none"))
}

fn wait_for_no_process(pod: &Pod<'_>, unit: &str) {
    wait::until(&format!("no process of {unit}"), || process_of(pod, unit).map_or(Ok(()), Err));
}

/// What the kernel says about a process's rights.
fn rights(pid: u32) -> Vec<String> {
    const FIELDS: [&str; 12] = [
        "Uid:",
        "Gid:",
        "Groups:",
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
        "Seccomp:",
        "Seccomp_filters:",
        "Umask:",
    ];
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let lines = status.lines().filter(|line| FIELDS.iter().any(|field| line.starts_with(field)));
    lines.map(str::to_owned).collect()
}

/// Its variables but for those that systemd gives to each unit anew.
pub(crate) fn environment(pid: u32) -> BTreeSet<String> {
    const OWN: [&str; 4] = ["INVOCATION_ID=", "JOURNAL_STREAM=", "SYSTEMD_EXEC_PID=", "TERM="];
    let text = std::fs::read(format!("/proc/{pid}/environ")).expect("a living process");
    let variables = text.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    variables.filter(|text| !text.is_empty() && !OWN.iter().any(|own| text.starts_with(own))).collect()
}

/// Where what is mounted for it, and with which options (proc_pid_mountinfo(5)), without the numbers.
fn mounts(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("a living process");
    let without_numbers = |line: &str| {
        let fields: Vec<&str> =
            line.split(' ').skip(2).filter(|field| !field.contains(':') || field.contains('/')).collect();
        fields.join(" ")
    };
    // Each unit has one directory of its own for what systemd mounts for it later.
    let lines = text.lines().filter(|line| !line.contains(" /systemd/propagate/"));
    let mut mounts: Vec<String> = lines.map(without_numbers).collect();
    mounts.sort();
    mounts
}

fn expect_equal_rights(flags: &str) {
    let _host = Host::take();
    let pods = Pods::new();
    let run =
        pods.run("--set-env=A=b").arg("--uuid-file-save").arg(pods.path().join("uuid")).arg(shell_image());
    let run = run.args(flags.split(' ').filter(|word| !word.is_empty()));
    let run = run.args(["--name", "app", "--exec", "/bin/sleep", "--", "1000"]);
    let pod = pods.started(run.start(), &pods.path().join("uuid"));
    let entered = enter(&pod, &["sleep", "1000"]).start();
    let (app, command) = (wait_for_process(&pod, "app.service"), wait_for_process(&pod, "rkt-enter-app@"));
    // Before it has become the command, it is systemd.
    wait::until("the command is executed", || {
        let name = std::fs::read_to_string(format!("/proc/{command}/comm")).unwrap_or_default();
        if name.trim() == "sleep" { Ok(()) } else { Err(name) }
    });
    assert_eq!(rights(app), rights(command), "{flags}");
    assert_eq!(environment(app), environment(command), "{flags}");
    assert_eq!(mounts(app), mounts(command), "{flags}");
    for link in ["cwd", "ns/net", "ns/pid", "ns/ipc", "ns/uts", "ns/user", "ns/cgroup"] {
        let read = |pid| std::fs::read_link(format!("/proc/{pid}/{link}")).expect("a living process");
        assert_eq!(read(app), read(command), "{link}");
    }
    let limits = |pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("a living process");
    assert_eq!(limits(app), limits(command), "{flags}");
    assert!(environment(app).contains("A=b"));
    drop(entered);
}

#[test]
fn the_command_of_a_root_app_has_its_rights() {
    expect_equal_rights("");
}

#[test]
fn the_command_of_another_user_s_app_has_its_rights() {
    expect_equal_rights("--user=33 --group=44 --working-dir=/tmp");
}

#[test]
fn streams_stay_apart_and_the_status_is_the_command_s() {
    let _host = Host::take();
    let pods = Pods::new();
    let pod = pods.start_shell("", WAITS);
    enter(&pod, &["sh", "-c", "echo out; echo err >&2; exit 7"]).end().expect(7, "out\n", "err\n");
    enter(&pod, &["true"]).end().expect(0, "", "");
    enter(&pod, &["/bin/false"]).end().expect(1, "", "");
    enter(&pod, &["sh", "-c", "kill -9 $$"]).end().expect(137, "", "");
    enter(&pod, &["sh", "-c", "exit 203"]).end().expect(203, "", "");
    enter(&pod, &["cat"]).input("line\n").end().expect(0, "line\n", "");
    // Not one of these words means anything on the way.
    let words = ["$HOME", "%n", "a b", "", "\"q\"", "\\x41", "line\nfeed", ";"];
    let said = enter(&pod, &["printf", "[%s]\\n"]).args(words).stdout();
    let expected: String = words.iter().map(|word| format!("[{word}]\n")).collect();
    assert_eq!(said, expected);
    enter(&pod, &["--", "echo", "behind dashes"]).end().expect(0, "behind dashes\n", "");
    pod.rkt("exec --app=app").args(["echo", "exec"]).end().expect(0, "exec\n", "");
    // A failing command is no failing app.
    assert_eq!(pod.status()[0], "state=running");
}

#[test]
fn ten_mebibytes_come_through_both_ways() {
    let _host = Host::take();
    let pods = Pods::new();
    let pod = pods.start_shell("", WAITS);
    let data: String = (0..1_400_000).map(|number| format!("{number:07}\n")).take(10 * 131_072).collect();
    assert_eq!(data.len(), 10 << 20);
    let ended = enter(&pod, &["cat"]).input(data.clone()).end();
    ended.expect_code(0);
    assert!(ended.stdout == data, "{} bytes of {}", ended.stdout.len(), data.len());
    // Who reads no more ends the command, quietly.
    let line = format!(
        "{} --dir {} enter {} yes | head -1",
        env!("CARGO_BIN_EXE_rkt"),
        pods.data().display(),
        pod.uuid
    );
    Run::new("sh").arg("-c").arg(line).end().expect(0, "y\n", "");
    wait_for_no_process(&pod, "rkt-enter-app@");
}

#[test]
fn what_can_not_be_entered_is_said() {
    let _host = Host::take();
    let pods = Pods::new();
    let mut pod = pods.start_shell("", WAITS);
    enter(&pod, &["nosuch"]).end().expect(
        254,
        "",
        "enter: cannot run the command: unable to find \"nosuch\" in \
         \"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n\
         enter: hint: name the program by its absolute path in the image\n",
    );
    enter(&pod, &["/nosuch"]).end().expect(
        254,
        "",
        "enter: cannot run the command: Unable to open \"/nosuch\": No such file or directory\n\
         enter: hint: give a command that the image has, such as /bin/sh\n",
    );
    enter(&pod, &[]).end().expect(
        254,
        "",
        "enter: no command specified, assuming \"/bin/bash\"\n\
         enter: cannot run the command: Unable to open \"/bin/bash\": No such file or directory\n\
         enter: hint: give a command that the image has, such as /bin/sh\n",
    );
    pods.rkt("enter --app=web").args([&pod.uuid, "true"]).end().expect(
        254,
        "",
        &format!("enter: pod \"{}\" has no app \"web\"\nenter: hint: its apps: app\n", pod.uuid),
    );
    enter(&pod, &["true", "\u{7}bell"]).end().expect(0, "", "");
    pod.rkt("stop").end().expect_code(0);
    pod.end().expect_code(0);
    let expected = format!("enter: pod \"{}\" isn't currently running\n", pod.uuid);
    let ended = enter(&pod, &["true"]).end();
    assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
    ended.expect_code(254);
}

#[test]
fn a_pod_of_two_apps_needs_the_name_of_one() {
    let _host = Host::take();
    let pods = Pods::new();
    let file = pods.path().join("uuid");
    let run = shell_app(pods.run("").arg("--uuid-file-save").arg(&file), "a", WAITS);
    let run = shell_app(run, "a-b", "echo mine > /tmp/file; sleep 0.3");
    let pod = pods.started(run.start(), &file);
    enter(&pod, &["true"]).end().expect(
        254,
        "",
        "enter: pod contains multiple apps:\nenter: \ta\nenter: \ta-b\n\
         enter: unable to determine app name: specify app using \"rkt enter --app= ...\"\n",
    );
    let enter = |app: &str, command: &[&str]| {
        pods.rkt(&format!("enter --app={app}")).arg(&pod.uuid).args(command).end()
    };
    enter("a-b", &["cat", "/tmp/file"]).expect(0, "mine\n", "");
    enter("a", &["cat", "/tmp/file"]).expect_code(1);
    // Its root stays as long as the pod runs.
    wait_for_no_process(&pod, "a\\x2db.service");
    wait_for_no_process(&pod, "a-b.service");
    enter("a-b", &["cat", "/tmp/file"]).expect(0, "mine\n", "");
    enter("a", &["sh", "-c", "echo $AC_APP_NAME"]).expect(0, "a\n", "");
}

#[test]
fn on_a_terminal_it_is_one_of_the_pod_s() {
    let _host = Host::take();
    let pods = Pods::new();
    let pod = pods.start_shell("", WAITS);
    let mut terminal = on_terminal(
        &pods,
        &pod,
        &["sh", "-c", "echo ready $TERM; read x; stty size; read y; stty size; exit 5"],
    );
    terminal.resize(33, 99);
    terminal.wait_for("ready xterm-256color");
    let before = terminal.modes();
    terminal.type_in(b"\r");
    terminal.wait_for("33 99");
    terminal.resize(44, 111);
    terminal.type_in(b"\r");
    terminal.wait_for("44 111");
    assert!(!before.contains("icanon"), "raw while it runs: {before}");
    let (status, screen) = terminal.end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(5), "{screen}");
}

#[test]
fn keys_reach_the_command_and_the_terminal_is_as_before() {
    let _host = Host::take();
    let pods = Pods::new();
    let pod = pods.start_shell("", WAITS);
    let line = format!(
        "{} --dir {} enter {} sh -c 'tty; trap \"echo caught; exit 9\" INT; echo ready; while :; do sleep 0.1; done'; \
         echo status $?; stty -a | grep -o -e '-*icanon' -e '-*echo ' -e '-*opost'; read line; echo read $line",
        env!("CARGO_BIN_EXE_rkt"),
        pods.data().display(),
        pod.uuid
    );
    let mut terminal = OnTerminal::start(["sh", "-c", &line]);
    terminal.wait_for("ready");
    terminal.type_in(b"\x03");
    terminal.wait_for("status 9");
    terminal.wait_for("opost");
    terminal.type_in(b"more\r");
    let (_, screen) = terminal.end(Duration::from_secs(10));
    assert!(screen.contains("caught"), "{screen}");
    assert!(screen.contains("/dev/pts/"), "{screen}");
    assert!(
        screen.contains("\nicanon") && screen.contains("\nopost") && screen.contains("read more"),
        "{screen}"
    );
}

#[test]
fn characters_that_a_program_pushes_into_its_terminal_do_not_reach_the_caller_s_shell() {
    let _host = Host::take();
    let pods = Pods::new();
    let image = Aci::new("example.com/perl", &["/bin/sleep", "1000"])
        .host_program("/usr/bin/perl")
        .write(pods.path());
    let file = pods.path().join("uuid");
    let pod = pods.started(pods.run("").arg("--uuid-file-save").arg(&file).arg(&image).start(), &file);
    // TIOCSTI (ioctl_tty(2)); what it pushes it can read itself, which shows that this kernel allows it.
    let program = "for (split //, \"stolen\\n\") { ioctl(STDIN, 0x5412, $_) or die \"refused: $!\"; } \
                   print \"own: \", scalar <STDIN>; for (split //, \"touch /tmp/x\\n\") { ioctl(STDIN, 0x5412, $_); }";
    let line = format!(
        "{} --dir {} enter {} /usr/bin/perl -e '{program}'; echo left $?; read -r -t 1 line; echo \"shell: [$line]\"",
        env!("CARGO_BIN_EXE_rkt"),
        pods.data().display(),
        pod.uuid
    );
    let terminal = OnTerminal::start(["bash", "-c", &line]);
    let (_, screen) = terminal.end(Duration::from_secs(20));
    assert!(screen.contains("own: stolen"), "{screen}");
    assert!(screen.contains("left 0") && screen.contains("shell: []"), "{screen}");
}

#[test]
fn ctrl_c_without_a_terminal_ends_the_command_as_it_likes() {
    let _host = Host::take();
    let pods = Pods::new();
    let pod = pods.start_shell("", WAITS);
    let line = "trap 'echo bye; exit 4' INT TERM; echo ready; while :; do sleep 0.1; done";
    for signal in [Signal::INT, Signal::TERM] {
        let mut entered = enter(&pod, &["sh", "-c", line]).start();
        entered.wait_for_stdout("ready");
        entered.signal(signal);
        entered.end().expect(4, "ready\nbye\n", "");
    }
    let mut stubborn =
        enter(&pod, &["sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.1; done"]).start();
    stubborn.wait_for_stdout("ready");
    stubborn.signal(Signal::INT);
    stubborn.signal(Signal::TERM);
    stubborn.end().expect_code(143);
    wait_for_no_process(&pod, "rkt-enter-app@");
}

#[test]
fn a_killed_rkt_enter_leaves_no_command() {
    let _host = Host::take();
    let pods = Pods::new();
    let pod = pods.start_shell("", WAITS);
    let mut entered = enter(&pod, &["sh", "-c", "trap '' HUP PIPE; echo ready; exec sleep 1000"]).start();
    entered.wait_for_stdout("ready");
    entered.signal(Signal::KILL);
    wait_for_no_process(&pod, "rkt-enter-app@");
    let mut terminal = on_terminal(&pods, &pod, &["sh", "-c", "trap '' HUP; echo ready; exec sleep 1000"]);
    terminal.wait_for("ready");
    drop(terminal);
    wait_for_no_process(&pod, "rkt-enter-app@");
    // Nothing is left of either.
    let units = Run::new("systemctl").args([
        "-M",
        &pod.machine(),
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "rkt-enter*",
        "rkt-leash*",
    ]);
    assert_eq!(units.stdout(), "");
}

#[test]
fn a_command_does_not_delay_the_end_of_the_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = pods.start_shell("", WAITS);
    let mut entered =
        enter(&pod, &["sh", "-c", "trap '' TERM HUP INT; echo ready; while :; do sleep 0.1; done"]).start();
    entered.wait_for_stdout("ready");
    let before = std::time::Instant::now();
    pod.rkt("stop").end().expect_code(0);
    pod.end().expect_code(0);
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    let ended = entered.end();
    assert!(ended.code() == 254 || ended.code() == 137, "{ended:?}");
    pod.expect_nothing_runs(&host);
}

#[test]
fn ten_enter_at_once() {
    let _host = Host::take();
    let pods = Pods::new();
    let pod = pods.start_shell("", WAITS);
    let started: Vec<_> = (0..10)
        .map(|number| {
            enter(&pod, &["sh", "-c", &format!("cat; exit {number}")]).input(format!("{number}\n")).start()
        })
        .collect();
    for (number, entered) in started.into_iter().enumerate() {
        entered.end().expect(number as i32, &format!("{number}\n"), "");
    }
    assert!(Path::new(&pod.dir()).exists());
}
