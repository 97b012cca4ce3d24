//! A pod as a service of the host's systemd (issue "must show" 4), and readiness.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::{Host, cgroup_of};
use crate::pod::{Pods, shell_app, shell_image};
use crate::support::aci::Aci;
use crate::support::{Run, wait};

/// A unit file below /run, which is stopped and removed at the end of the test.
struct Service {
    name: String,
    path: PathBuf,
}

impl Service {
    fn install(name: &str, exec: &str, more: &str) -> Self {
        let path = PathBuf::from("/run/systemd/system").join(name);
        let text = format!(
            "[Service]\nType=notify\nExecStart={exec}\nKillMode=mixed\nEnvironment=PATH=/usr/bin\n{more}\n"
        );
        std::fs::write(&path, text).expect("a unit file");
        Run::new("systemctl").arg("daemon-reload").end().expect_code(0);
        Self { name: name.to_owned(), path }
    }

    fn systemctl(&self, verb: &str) -> Run {
        Run::new("systemctl").args([verb, &self.name])
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ended = self.systemctl("stop").end();
        let _ended = self.systemctl("reset-failed").end();
        let _gone = std::fs::remove_file(&self.path);
        let _ended = Run::new("systemctl").arg("daemon-reload").end();
    }
}

fn exec(pods: &Pods, words: &str) -> String {
    let (rkt, data) = (env!("CARGO_BIN_EXE_rkt"), pods.data());
    format!("{rkt} --dir={} --insecure-options=image {words}", data.display())
}

#[test]
fn a_service_of_type_notify_is_a_pod_in_its_cgroup() {
    let host = Host::take();
    let pods = Pods::new();
    let image = shell_image().display();
    let run = format!(
        "run --net=none --uuid-file-save={}/uuid {image} --exec=/bin/sleep -- 1000",
        pods.path().display()
    );
    let service =
        Service::install("rkt-test-web.service", &exec(&pods, &run), "Restart=always\nRestartSec=0");
    service.systemctl("start").end().expect(0, "", "");
    assert_eq!(host.unit_property(&service.name, "ActiveState"), "active");
    // While a new pod's UUID takes the place of the old one, the file is gone for an instant.
    let uuid = || std::fs::read_to_string(pods.path().join("uuid")).unwrap_or_default();
    let first = uuid();
    assert_ne!(first, "");

    // Active means that the app runs, in the unit's own cgroup, and that machined knows that unit.
    let leader = host.wait_for_machine(&format!("rkt-{first}"));
    assert!(cgroup_of(leader).starts_with("/system.slice/rkt-test-web.service/"), "{}", cgroup_of(leader));
    assert_eq!(
        host.machine_property(&format!("rkt-{first}"), "Unit").as_deref(),
        Some("rkt-test-web.service")
    );
    let main: u32 = host.unit_property(&service.name, "MainPID").parse().expect("a process");
    assert!(cgroup_of(main).starts_with("/system.slice/rkt-test-web.service"), "{}", cgroup_of(main));
    assert_eq!(pods.status(&first)[0], "state=running");
    pods.rkt("status --wait-ready=1ms").arg(&first).end().expect_code(0);

    // Killed by machinectl, it is started again as a new pod.
    Run::new("machinectl")
        .args(["kill", "--signal=SIGKILL", &format!("rkt-{first}")])
        .end()
        .expect(0, "", "");
    wait::until("the service has been started again", || {
        let now = uuid();
        let state = (!now.is_empty() && now != first, host.unit_property(&service.name, "ActiveState"));
        if state.0 && state.1 == "active" { Ok(()) } else { Err(state) }
    });
    assert_eq!(pods.status(&first)[0], "state=exited");

    let begin = Instant::now();
    service.systemctl("stop").end().expect(0, "", "");
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(1), "stopping took {took:?}");
    assert_eq!(host.unit_property(&service.name, "ActiveState"), "inactive");
    let second = uuid();
    assert_eq!(pods.status(&second), ["state=exited", "networks=", "exited=true", "app-shell=0"]);
    host.wait_for_machine_gone(&format!("rkt-{second}"));
    let cgroup = std::path::Path::new("/sys/fs/cgroup/system.slice/rkt-test-web.service");
    wait::until("its cgroup is gone", || if cgroup.exists() { Err("there") } else { Ok(()) });
}

#[test]
fn an_app_that_reports_its_readiness_makes_the_pod_ready() {
    let host = Host::take();
    let pods = Pods::new();
    let line = "while [ ! -e /go ]; do sleep 0.1; done; exec /usr/bin/systemd-notify --ready";
    let image = Aci::shell("example.com/notify", line)
        .host_program("/usr/bin/systemd-notify")
        .field("annotations", json!([{"name": "appc.io/executor/supports-systemd-notify", "value": "true"}]));
    let image = image.write(pods.path());
    let words = format!(
        "run --net=none --uuid-file-save={}/uuid {} --- {} --name=other --exec=/bin/sleep -- 1000",
        pods.path().display(),
        image.display(),
        shell_image().display()
    );
    let service = Service::install("rkt-test-notify.service", &exec(&pods, &words), "");
    service.systemctl("start").arg("--no-block").end().expect(0, "", "");
    let file = pods.path().join("uuid");
    wait::for_path(&file);
    let uuid = std::fs::read_to_string(&file).expect("the UUID");
    let leader = host.wait_for_machine(&format!("rkt-{uuid}"));

    let late = pods.rkt("status --wait-ready=300ms").arg(&uuid).end();
    late.expect(254, "", "status: error waiting for pod readiness: context deadline exceeded\n");
    assert_eq!(host.unit_property(&service.name, "ActiveState"), "activating");

    std::fs::write(format!("/proc/{leader}/root/opt/stage2/notify/rootfs/go"), "")
        .expect("a file for the app");
    pods.rkt("status --wait-ready=20s").arg(&uuid).end().expect_code(0);
    wait::until("the service is active", || {
        match host.unit_property(&service.name, "ActiveState").as_str() {
            "active" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
}

#[test]
fn limits_of_a_pod_in_a_service_are_the_service_s() {
    let host = Host::take();
    let pods = Pods::new();
    let image = shell_image().display();
    let run = format!("run --net=none --memory=64Mi {image} --exec=/bin/true");
    let service = Service::install("rkt-test-limits.service", &exec(&pods, &run), "");
    service.systemctl("start").end().expect_code(1);
    assert_eq!(host.unit_property(&service.name, "ExecMainStatus"), "254");
    let log = Run::new("journalctl")
        .args(["-q", "-o", "cat", "--no-pager", "-t", "rkt", "-u", &service.name])
        .stdout();
    let message = "run: error starting the pod: the pod runs in the service rkt-test-limits.service, whose limits count: \
                   --cpu and --memory before the first image do nothing there";
    assert!(log.contains(message), "{log}");
    assert!(pods.uuids().is_empty(), "nothing is left of the pod");
}

#[test]
fn a_pod_of_a_user_s_shell_is_no_part_of_the_caller_s_unit() {
    let host = Host::take();
    let pods = Pods::new();
    // As in a session: systemd started something above, but not rkt itself.
    let file = pods.path().join("uuid");
    let run = shell_app(
        pods.run("").env("SYSTEMD_EXEC_PID", "1").arg("--uuid-file-save").arg(&file),
        "app",
        "sleep 100",
    );
    let pod = pods.started(run.start(), &file);
    let leader = host.wait_for_machine(&pod.machine());
    assert!(cgroup_of(leader).starts_with("/machine.slice/"), "{}", cgroup_of(leader));
}
