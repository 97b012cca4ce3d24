//! A pod as systemd's own tools see it (issue "must show" 3): nothing of rkt is asked here but to start it.

use std::time::Duration;

use rustix::process::Signal;

use crate::host::{Host, cgroup_of, pids_below};
use crate::pod::{Pod, Pods, said_by, scope};
use crate::support::Run;
use crate::support::terminal::OnTerminal;

/// An app that says when it has started and when it is asked to end.
const APP: &str =
    "exec 2>/dev/null; trap 'echo ending; exit 0' TERM; echo started; while :; do sleep 0.1; done";

fn started(pods: &Pods) -> Pod<'_> {
    let mut pod = pods.start_shell("", APP);
    pod.supervisor().wait_for_stdout("started");
    pod
}

#[test]
fn machinectl_lists_and_shows_a_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = started(&pods);
    let machine = pod.machine();
    let leader = host.wait_for_machine(&machine);

    let list = Run::new("machinectl").args(["list", "--no-legend", "--full"]).stdout();
    let line = list.lines().find(|line| line.contains(&machine)).expect("a line of the pod");
    assert_eq!(line.split_whitespace().take(3).collect::<Vec<_>>(), [&machine, "container", "rkt"]);

    let root = pod.dir().join("stage1/rootfs").display().to_string();
    for (property, expected) in
        [("Class", "container"), ("Service", "rkt"), ("Unit", &scope(&pod.uuid)), ("RootDirectory", &root)]
    {
        assert_eq!(host.machine_property(&machine, property).as_deref(), Some(expected), "{property}");
    }
    let status = Run::new("machinectl").args(["status", "--no-pager", &machine]).stdout();
    for expected in
        [format!("Leader: {leader} (systemd)"), format!("Unit: {}", scope(&pod.uuid)), "app.service".into()]
    {
        assert!(status.contains(&expected), "{expected:?} is in {status}");
    }
}

/// Each such watch holds up the end of a pod while the kernel takes it down (`memory.pressure`, psi.rst of the kernel).
#[test]
fn nothing_of_a_pod_watches_for_a_lack_of_memory() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = started(&pods);
    host.wait_for_machine(&pod.machine());
    let (mut programs, mut watches) = (Vec::new(), Vec::new());
    for pid in pids_below(&format!("/machine.slice/{}", scope(&pod.uuid))) {
        let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        for open in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let target = std::fs::read_link(open.path()).unwrap_or_default();
            if target.ends_with("memory.pressure") {
                watches.push((program.trim().to_owned(), target));
            }
        }
        programs.push(program.trim().to_owned());
    }
    for expected in ["systemd-nspawn", "systemd", "systemd-journal"] {
        assert!(programs.iter().any(|program| program == expected), "{expected} is one of {programs:?}");
    }
    assert_eq!(watches, []);
}

#[test]
fn a_pod_that_can_not_be_prepared_leaves_no_scope() {
    let _host = Host::take_alone();
    let pods = Pods::new();
    let ended = pods.run_shell("--net=none --user=nobody-of-this-name", "true").end();
    ended.expect_code(254);
    let units = Run::new("systemctl")
        .args(["list-units", "--all", "--plain", "--no-legend", "machine-rkt*.scope"])
        .stdout();
    assert_eq!(units, "");
}

#[test]
fn a_pod_is_a_scope_of_the_machine_slice() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = started(&pods);
    let leader = host.wait_for_machine(&pod.machine());
    let scope = scope(&pod.uuid);

    let group = cgroup_of(leader);
    assert!(group.starts_with(&format!("/machine.slice/{scope}/")), "{group}");
    for (property, expected) in [
        ("ActiveState", "active"),
        ("Slice", "machine.slice"),
        ("Delegate", "yes"),
        ("CollectMode", "inactive-or-failed"),
        ("DevicePolicy", "closed"),
        ("Description", &format!("rkt pod {}", pod.uuid)),
    ] {
        assert_eq!(host.unit_property(&scope, property), expected, "{property}");
    }
    let caller = cgroup_of(std::process::id());
    assert!(!group.starts_with(&caller) || caller == "/", "the pod is not in the caller's {caller}: {group}");
}

#[test]
fn machinectl_shell_runs_a_command_in_a_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = started(&pods);
    host.wait_for_machine(&pod.machine());

    let shell = ["machinectl", "--quiet", "shell", &pod.machine(), "/bin/cat", "/etc/machine-id"];
    let (status, screen) = OnTerminal::start(shell).end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{screen}");
    // 257 puts the terminal in order afterwards, with escape sequences.
    assert_eq!(screen.lines().next().map(str::trim), Some(pod.uuid.replace('-', "").as_str()), "{screen}");
}

#[test]
fn systemctl_shows_the_units_of_a_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = started(&pods);
    let machine = pod.machine();
    host.wait_for_machine(&machine);
    let systemctl =
        |words: &[&str]| Run::new("systemctl").args(["--no-pager", "-M", &machine]).args(words).stdout();

    let status = systemctl(&["status", "app.service"]);
    assert!(status.contains("Active: active (running)"), "{status}");
    assert!(status.contains("/bin/sh -c"), "{status}");
    let units = systemctl(&["list-units", "--no-legend", "--plain", "--type=service"]);
    let active: Vec<&str> = units.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(active.contains(&"app.service") && active.contains(&"systemd-journald.service"), "{units}");
    // Neither units of the host nor any that failed or could not be loaded.
    assert_eq!(systemctl(&["list-units", "--no-legend", "--plain", "--failed"]), "");
    assert_eq!(
        systemctl(&["list-units", "--no-legend", "--plain", "--all", "--state=bad-setting,error"]),
        ""
    );
}

#[test]
fn journalctl_reads_the_log_of_a_running_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = started(&pods);
    host.wait_for_machine(&pod.machine());
    let machine = pod.machine();
    let read =
        || Run::new("journalctl").args(["-M", &machine, "-t", "app", "-o", "cat", "--no-pager"]).stdout();
    assert_eq!(read(), "started\n");
}

#[test]
fn the_log_is_read_after_the_supervisor_was_killed() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = started(&pods);
    host.wait_for_machine(&pod.machine());
    pod.supervisor().signal(Signal::KILL);
    let _killed = pod.end();
    host.wait_for_machine_gone(&pod.machine());

    let machine_id = format!("_MACHINE_ID={}", pod.uuid.replace('-', ""));
    let read = Run::new("journalctl").args(["-m", "-t", "app", "-o", "cat", "--no-pager", &machine_id]);
    // Nobody is left to tell the pod's systemd, but it sees the console hang up.
    assert_eq!(read.stdout(), "started\nending\n");
    assert_eq!(pod.status(), ["state=exited", "networks=", "exited=true", "app-app=0"]);
    pod.expect_nothing_runs(&host);
    pod.rkt("rm").end().expect(0, &format!("\"{}\"\n", pod.uuid), "");
    let link = format!("/var/log/journal/{}", pod.uuid.replace('-', ""));
    assert!(std::fs::symlink_metadata(&link).is_err(), "{link} is gone with the pod");
}

#[test]
fn machinectl_poweroff_ends_a_pod_in_order() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = started(&pods);
    host.wait_for_machine(&pod.machine());
    Run::new("machinectl").args(["poweroff", &pod.machine()]).end().expect(0, "", "");
    let ended = pod.end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["started", "ending"]);
    assert_eq!(pod.status().last().map(String::as_str), Some("app-app=0"));
    pod.expect_nothing_runs(&host);
}

#[test]
fn machinectl_terminate_and_kill_end_a_pod_at_once() {
    let host = Host::take();
    let pods = Pods::new();
    for words in [&["terminate"][..], &["kill"], &["kill", "--signal=SIGKILL"]] {
        let mut pod = started(&pods);
        host.wait_for_machine(&pod.machine());
        Run::new("machinectl").args(words).arg(pod.machine()).end().expect(0, "", "");
        let _ended = pod.end();
        assert_eq!(pod.status()[0], "state=exited", "{words:?}");
        pod.expect_nothing_runs(&host);
    }
}

#[test]
fn systemd_stops_a_pod_by_its_scope() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = started(&pods);
    host.wait_for_machine(&pod.machine());
    let stop = Run::new("systemctl").args(["stop", "--", &scope(&pod.uuid)]);
    stop.patience(Duration::from_secs(20)).end().expect(0, "", "");
    let _ended = pod.end();
    assert_eq!(pod.status()[0], "state=exited");
    pod.expect_nothing_runs(&host);
}

#[test]
fn systemd_accepts_every_unit_of_a_pod() {
    let _host = Host::take();
    let pods = Pods::new();
    let prepare = pods.rkt("prepare").arg(crate::pod::shell_image()).args([
        "--name=web",
        "--user=web",
        "--memory=16Mi",
    ]);
    let prepare = prepare.args(["--", "-c", "a \"$b\" %i", "---"]).arg(crate::pod::shell_image());
    let uuid = prepare.arg("--name=dbus").stdout();
    let root = pods.data().join("pods/prepared").join(uuid.trim()).join("stage1/rootfs");
    let units = root.join("etc/systemd/system");
    let names = std::fs::read_dir(&units).expect("units").flatten().map(|entry| entry.path());
    // Templates are no units by themselves; links are names of others.
    let files: Vec<_> = names
        .filter(|path| path.is_file() && !path.is_symlink() && !path.to_string_lossy().contains("@."))
        .collect();
    assert!(files.len() > 10, "{files:?}");

    let verify =
        Run::new("systemd-analyze").args(["verify", "--man=no", "--generators=no", "--recursive-errors=yes"]);
    let ended = verify.env("SYSTEMD_UNIT_PATH", &units).args(files).end();
    // It looks for the programs of the pod on the host, where rkt's own is not; nothing else may be wrong.
    let foreign =
        |line: &&str| !line.ends_with("Command /rkt/inside is not executable: No such file or directory");
    assert_eq!(ended.stderr.lines().filter(foreign).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(ended.stdout, "");
}
