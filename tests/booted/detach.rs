//! `rkt run --detach`: a pod in a transient service of the host's systemd.

use std::time::Duration;

use rustix::process::Signal;

use crate::host::{Host, cgroup_of};
use crate::pod::{Pods, shell_app};
use crate::support::{Run, wait};

const APP: &str = "trap 'echo ending; exit 0' TERM; echo started; while :; do sleep 0.1; done";

/// Starts a pod of one app in the background, and returns its UUID, which alone is printed.
fn detached(pods: &Pods, flags: &str, line: &str) -> String {
    let ended = shell_app(pods.run(&format!("--detach {flags}")), "app", line).end();
    ended.expect_code(0);
    assert_eq!(ended.stderr, "");
    let uuid = ended.stdout.strip_suffix('\n').expect("a line").to_owned();
    assert_eq!(uuid.len(), 36, "{uuid:?}");
    uuid
}

fn wait_for_end(host: &Host, pods: &Pods, uuid: &str) {
    pods.rkt("status --wait=20s").arg(uuid).end().expect_code(0);
    let unit = format!("rkt-{uuid}.service");
    // Nothing is left of the service, whatever its end was.
    wait::until("the service is gone", || match host.unit_property(&unit, "LoadState").as_str() {
        "not-found" => Ok(()),
        other => Err(other.to_owned()),
    });
    host.wait_for_machine_gone(&format!("rkt-{uuid}"));
}

#[test]
fn a_detached_pod_is_a_service_that_is_ready_when_the_command_returns() {
    let host = Host::take();
    let pods = Pods::new();
    let file = pods.path().join("uuid");
    let uuid = detached(&pods, &format!("--uuid-file-save={} --hostname=web", file.display()), APP);
    assert_eq!(std::fs::read_to_string(&file).expect("the UUID file"), uuid);
    let unit = format!("rkt-{uuid}.service");
    for (property, expected) in [
        ("ActiveState", "active"),
        ("Type", "notify"),
        ("KillMode", "mixed"),
        ("Slice", "machine.slice"),
        ("Delegate", "yes"),
        ("CollectMode", "inactive-or-failed"),
        ("DevicePolicy", "closed"),
        ("Description", &format!("rkt pod {uuid}")),
    ] {
        assert_eq!(host.unit_property(&unit, property), expected, "{property}");
    }
    let leader = host.wait_for_machine(&format!("rkt-{uuid}"));
    assert!(cgroup_of(leader).starts_with(&format!("/machine.slice/{unit}/")), "{}", cgroup_of(leader));
    assert_eq!(host.machine_property(&format!("rkt-{uuid}"), "Unit").as_deref(), Some(unit.as_str()));
    assert_eq!(pods.status(&uuid)[0], "state=running");
    pods.rkt("status --wait-ready=1s").arg(&uuid).end().expect_code(0);
    pods.rkt("enter").args([&uuid, "hostname"]).end().expect(0, "web\n", "");
    pods.rkt("stop").arg(&uuid).end().expect(0, &format!("\"{uuid}\"\n"), "");
    wait_for_end(&host, &pods, &uuid);
    let log = pods.rkt("logs -o cat").arg(&uuid).stdout();
    assert!(log.starts_with("started\n") && log.contains("ending\n"), "{log}");
    assert_eq!(pods.status(&uuid).last().map(String::as_str), Some("app-app=0"));
    pods.rkt("rm").arg(&uuid).end().expect_code(0);
}

#[test]
fn systemctl_stop_ends_it_in_order() {
    let host = Host::take();
    let pods = Pods::new();
    let uuid = detached(&pods, "", APP);
    Run::new("systemctl").args(["stop", &format!("rkt-{uuid}.service")]).end().expect(0, "", "");
    assert_eq!(pods.status(&uuid)[0], "state=exited");
    wait_for_end(&host, &pods, &uuid);
    assert!(pods.rkt("logs -o cat").arg(&uuid).stdout().contains("ending\n"));
}

#[test]
fn force_and_a_failing_app_leave_no_unit() {
    let host = Host::take();
    let pods = Pods::new();
    let uuid = detached(&pods, "", APP);
    pods.rkt("stop --force").arg(&uuid).end().expect_code(0);
    wait_for_end(&host, &pods, &uuid);
    let uuid = detached(&pods, "", "sleep 1; exit 9");
    wait_for_end(&host, &pods, &uuid);
    assert_eq!(pods.status(&uuid).last().map(String::as_str), Some("app-app=9"));
}

#[test]
fn a_pod_that_does_not_become_ready_is_an_error_that_names_the_log() {
    let host = Host::take();
    let pods = Pods::new();
    let ended = pods.run("--detach").arg(crate::pod::shell_image()).arg("--exec=/nosuch").end();
    ended.expect_code(254);
    let uuid = pods.only();
    let expected = format!(
        "run: error starting the pod: pod {uuid} ended before it was ready: app \"shell\" ended with status 203\n\
         run: hint: `rkt logs {uuid}` shows what its apps said\n"
    );
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", expected.as_str()));
    wait_for_end(&host, &pods, &uuid);
    let log = pods.rkt("logs -o cat").arg(&uuid).stdout();
    assert!(log.contains("Error: Unable to open \"/nosuch\": No such file or directory"), "{log}");
}

#[test]
fn a_pod_whose_supervisor_can_not_start_it_is_removed() {
    let host = Host::take();
    let pods = Pods::new();
    let ended = shell_app(pods.run("--detach --ipc=nonsense"), "app", APP).end();
    if ended.code() == 0 {
        // Not refused in this version.
        let uuid = ended.stdout.trim();
        pods.rkt("stop").arg(uuid).end().expect_code(0);
        wait_for_end(&host, &pods, uuid);
    } else {
        assert_eq!(pods.uuids(), [""; 0]);
    }
}

#[test]
fn an_app_of_a_moment_has_run() {
    let host = Host::take();
    let pods = Pods::new();
    let uuid = detached(&pods, "", "echo done");
    wait_for_end(&host, &pods, &uuid);
    assert_eq!(pods.status(&uuid).last().map(String::as_str), Some("app-app=0"));
}

#[test]
fn ctrl_c_while_it_starts_leaves_nothing_running() {
    let host = Host::take();
    let pods = Pods::new();
    let image = crate::support::aci::Aci::shell("example.com/never", "echo started; exec sleep 1000")
        .field(
            "annotations",
            serde_json::json!([{"name": "appc.io/executor/supports-systemd-notify", "value": "true"}]),
        )
        .write(pods.path());
    let starting = pods.run("--detach").arg(&image).start();
    wait::until("the app runs", || {
        let uuids = pods.uuids();
        let log = uuids.first().map(|uuid| pods.rkt("logs -o cat").arg(uuid).end().stdout);
        if log.as_deref() == Some("started\n") { Ok(()) } else { Err(log) }
    });
    starting.signal(Signal::INT);
    let ended = starting.end();
    assert!(!ended.status.success(), "{ended:?}");
    let uuid = pods.only();
    wait_for_end(&host, &pods, &uuid);
}

#[test]
fn limits_of_the_pod_are_the_service_s_and_interactive_is_refused() {
    let host = Host::take();
    let pods = Pods::new();
    let ended = shell_app(pods.run("--detach --memory=64M --cpu=500m"), "app", APP).end();
    ended.expect_code(0);
    let uuid = ended.stdout.trim();
    let unit = format!("rkt-{uuid}.service");
    // What systemd was asked for; the controllers may be missing here.
    assert_eq!(host.unit_property(&unit, "MemoryMax"), "64000000");
    assert_eq!(host.unit_property(&unit, "CPUQuotaPerSecUSec"), "500ms");
    pods.rkt("stop").arg(uuid).end().expect_code(0);
    wait_for_end(&host, &pods, uuid);
    shell_app(pods.run("--detach --interactive"), "app", APP).patience(Duration::from_secs(20)).end().expect(
        254,
        "",
        "run: --detach and --interactive exclude each other\n\
         run: hint: start the pod with --detach, then run a shell in it with `rkt enter`\n",
    );
}
