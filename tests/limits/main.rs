//! Limits of memory and processor time: what the kernel's control groups have of them, and what becomes of an app that
//! wants more. `make limits` boots a virtual machine for these tests, since labs lack the controllers where a machine has
//! bound them to cgroup v1. Its kernel is Debian's, just booted: none of these tests is told that something is not there,
//! overlayfs included, which is a module that is loaded when it is asked for.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "of the booted tests, which use the rest")]
#[path = "../booted/host.rs"]
mod host;
#[allow(dead_code, reason = "of the booted tests, which use the rest")]
#[path = "../booted/pod.rs"]
mod pod;

use std::path::PathBuf;

use serde_json::json;

use crate::host::{Host, cgroup_of};
use crate::pod::{Pod, Pods, expect_nothing_runs, said_by, scope, shell_app, shell_image};
use crate::support::aci::Aci;
use crate::support::{Run, wait};

/// What rkt says of half a processor on a machine with two.
const HALF: &str =
    "run: --cpu=500 is more than this host's 2 CPUs and is read as 500 thousandths of one: --cpu=500m\n";

/// A line for a shell that doubles a variable until it is killed.
const HOG: &str = "x=0123456789abcdef; while :; do x=$x$x; done";

/// A line for a shell that does nothing until it is stopped.
const IDLE: &str = "exec 2>/dev/null; trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// A file of a control group.
fn asked(group: &str, file: &str) -> String {
    let path = PathBuf::from(format!("/sys/fs/cgroup{group}")).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    text.trim_end().to_owned()
}

/// A number of a control group's file of names and numbers.
fn counted(group: &str, file: &str, name: &str) -> u64 {
    let text = asked(group, file);
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    number.unwrap_or_else(|| panic!("{name} in {file}: {text}")).parse().expect("a number")
}

/// The control group of an app, by that of the pod's init.
fn app_group(host: &Host, pod: &Pod<'_>, app: &str) -> String {
    let init = cgroup_of(host.wait_for_machine(&pod.machine()));
    let payload = init.strip_suffix("/init.scope").expect("the pod's init is in init.scope");
    format!("{payload}/system.slice/{app}.service")
}

/// The control groups of the processes of a pod.
fn groups_below(pod: &Pod<'_>) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("a /proc").flatten();
    let groups = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cgroup")).ok());
    let groups = groups.filter_map(|text| Some(text.trim_end().strip_prefix("0::")?.to_owned()));
    groups.filter(|group| group.contains(&scope(&pod.uuid))).collect()
}

/// Starts a pod with what stands behind `rkt run`, and waits until it is ready.
fn started<'a>(pods: &'a Pods, add: impl FnOnce(Run) -> Run) -> Pod<'a> {
    let file = pods.path().join("uuid");
    let running = add(pods.run("").arg("--uuid-file-save").arg(&file)).start();
    pods.started(running, &file)
}

/// Ends a pod whose apps exit when they are told to, and returns what `rkt run` said on standard error before.
fn stopped(mut pod: Pod<'_>) -> String {
    pod.rkt("stop").end().expect_code(0);
    let ended = pod.end();
    ended.expect_code(0);
    // systemd-nspawn's answer to the signal.
    let answer = "Trying to halt container. Send SIGTERM again to trigger immediate termination.\n";
    ended.stderr.strip_suffix(answer).unwrap_or(&ended.stderr).to_owned()
}

#[test]
fn the_demo_s_line_gets_its_limits_and_says_only_how_it_reads_them() {
    let _host = Host::take();
    let pods = Pods::new();
    let image = Aci::shell("example.com/hello", "echo 'Hello, world!'").write(pods.path());
    let ended = pods.run("--cpu=500 --memory=512M").arg(image).end();
    ended.expect_code(0);
    assert_eq!(ended.stderr, HALF);
    assert_eq!(said_by(&ended.stdout, "hello"), ["Hello, world!"]);
}

#[test]
fn limits_of_an_app_are_those_of_its_cgroup_and_of_what_enters_it() {
    let host = Host::take();
    let pods = Pods::new();
    let isolators = json!([
        {"name": "resource/memory", "value": {"limit": "48Mi"}},
        {"name": "resource/cpu", "value": {"limit": "250m"}},
    ]);
    let image = Aci::shell("example.com/image", IDLE).app("isolators", isolators).write(pods.path());
    let busy = format!("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; {IDLE}");
    let pod = started(&pods, |run| {
        let run = run.arg(shell_image()).args(["--name=app", "--memory=64M", "--cpu=500"]);
        let run = run.args(["--cpu-shares=2048", "--exec=/bin/sh", "--", "-c", &busy, "---"]);
        shell_app(run.arg(image), "free", IDLE)
    });
    let app = app_group(&host, &pod, "app");
    let limits = |group: &str| ["memory.max", "cpu.max", "cpu.weight"].map(|file| asked(group, file));
    assert_eq!(limits(&app), ["64000000", "50000 100000", "200"]);
    assert_eq!(limits(&app_group(&host, &pod, "image")), ["50331648", "25000 100000", "100"]);
    assert_eq!(limits(&app_group(&host, &pod, "free")), ["max", "max 100000", "100"]);
    wait::until("an app that computes on and on is held back", || {
        match counted(&app, "cpu.stat", "nr_throttled") {
            0 => Err(asked(&app, "cpu.stat")),
            _ => Ok(()),
        }
    });

    let enter = |command: &[&str]| pods.rkt("enter --app=app").arg(&pod.uuid).args(command).start();
    let waiting = enter(&["/bin/sleep", "10000"]);
    let entered = wait::until("what has entered runs in a unit of its own", || {
        groups_below(&pod).into_iter().find(|group| group.contains("/rkt-enter-app@")).ok_or("none")
    });
    assert_eq!(limits(&entered), limits(&app));
    drop(waiting);
    enter(&["/bin/sh", "-c", HOG]).end().expect_code(128 + 9);
    // The app has nothing to do with that.
    assert_eq!(pod.status()[0], "state=running");
    assert_eq!(stopped(pod), HALF);
}

#[test]
fn an_app_that_takes_more_memory_than_it_may_is_killed_and_ends_its_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let run = pods.run("").arg(shell_image()).args(["--name=hog", "--memory=32M", "--exec=/bin/sh"]);
    let run = shell_app(run.args(["--", "-c", HOG, "---"]), "calm", IDLE);
    // A signal counts as its bare number (spec pods.md 3.10).
    run.end().expect(9, "", "");
    let uuid = pods.only();
    assert_eq!(pods.status(&uuid), ["state=exited", "networks=", "exited=true", "app-hog=9", "app-calm=0"]);
    expect_nothing_runs(&host, &uuid);
}

#[test]
fn a_process_of_an_app_that_is_killed_for_its_memory_is_the_app_s_business() {
    let _host = Host::take();
    let pods = Pods::new();
    // Files in memory count, too.
    let line = "dd if=/dev/zero of=/dev/shm/x bs=1M count=64 2>/dev/null
        echo \"dd: $?\"
        rm /dev/shm/x
        exit 3";
    let run = pods.run("").arg(shell_image()).args(["--name=app", "--memory=32M", "--exec=/bin/sh"]);
    let ended = run.args(["--", "-c", line]).end();
    ended.expect_code(3);
    assert_eq!(ended.stderr, "");
    let said = said_by(&ended.stdout, "app");
    assert!(said.contains(&"dd: 137".to_owned()), "{said:?}");
}

#[test]
fn limits_before_the_first_image_bind_all_apps_of_the_pod_together() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = started(&pods, |run| {
        let run = shell_app(run.args(["--memory=96Mi", "--cpu=1500m"]), "calm", IDLE);
        // Whom the kernel takes first, once it is let go.
        let line = format!("until [ -e /go ]; do sleep 0.1; done; {HOG}");
        let run = run.arg(shell_image()).args(["--name=hog", "--oom-score-adj=1000", "--exec=/bin/sh"]);
        run.args(["--", "-c", &line])
    });
    let group = format!("/machine.slice/{}", scope(&pod.uuid));
    assert_eq!(asked(&group, "memory.max"), "100663296");
    assert_eq!(asked(&group, "cpu.max"), "150000 100000");
    for app in ["calm", "hog"] {
        assert_eq!(asked(&app_group(&host, &pod, app), "memory.max"), "max");
    }
    pods.rkt("enter --app=hog").arg(&pod.uuid).args(["/bin/touch", "/go"]).end().expect_code(0);
    let ended = pod.end();
    ended.expect_code(9);
    assert_eq!(ended.stderr, "");
    assert_eq!(pod.status()[3..], ["app-calm=0", "app-hog=9"]);
}

#[test]
fn a_pod_in_the_background_has_its_limits_on_its_service() {
    let host = Host::take();
    let pods = Pods::new();
    let ended = shell_app(pods.run("--detach --memory=96Mi --cpu=500"), "app", IDLE).end();
    ended.expect_code(0);
    assert_eq!(ended.stderr, HALF);
    let uuid = ended.stdout.trim_end();
    let group = host.unit_property(&format!("rkt-{uuid}.service"), "ControlGroup");
    assert_eq!(asked(&group, "memory.max"), "100663296");
    assert_eq!(asked(&group, "cpu.max"), "50000 100000");
    pods.rkt("stop").arg(uuid).end().expect_code(0);
}
