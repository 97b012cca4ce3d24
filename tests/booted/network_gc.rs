//! What is left of the networks of dead pods: nothing, once somebody has looked (spec network.md 4.9).

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::host::Host;
use crate::many::{Snapshot, raise_inotify_limit};
use crate::network::{address, expect_answer, start, web_image};
use crate::pod::{Pod, Pods};
use crate::support::{Run, wait};

/// Runs and removes a pod with a forwarded port: some chains of rules are made once and stay for all pods.
fn first_pod(pods: &Pods) {
    let mut pod = start(pods, "uuid-first", "run --port=http:8070");
    pod.rkt("stop --force").end().expect_code(0);
    let _ended = pod.end();
    pods.rkt("gc --grace-period=0s").end().expect_code(0);
    pods.rkt("gc --grace-period=0s").end().expect_code(0);
}

fn expect_nothing_beyond(before: &Snapshot, pods: &Pods) {
    wait::until("everything is as before", || {
        let left = Snapshot::take(&pods.data()).beyond(before);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

fn lease(ip: &str) -> PathBuf {
    Path::new("/var/lib/cni/networks/default").join(ip)
}

/// Kills the pod's supervisor, and waits until no process of the pod is left.
fn kill(pod: &mut Pod<'_>) {
    pod.supervisor().signal(Signal::KILL);
    let _killed = pod.end();
    let group = Path::new("/sys/fs/cgroup").join(
        std::fs::read_to_string(pod.dir().join("cgroup")).expect("a group").trim().trim_start_matches('/'),
    );
    wait::until("the payload is gone", || {
        let events = std::fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
        if events.contains("populated 1") { Err(events) } else { Ok(()) }
    });
}

#[test]
fn a_pod_that_ends_keeps_its_networks_until_list_status_or_stop_meets_it() {
    let _host = Host::take_alone();
    let pods = Pods::new();
    first_pod(&pods);
    for (name, command) in [("list", "list"), ("status", "status"), ("stop", "stop")] {
        let before = Snapshot::take(Path::new("/no/such"));
        let mut pod = start(&pods, name, "run --port=http:8071");
        let ip = address(&pod, "default");
        assert!(lease(&ip).exists());
        pod.rkt("stop").end().expect_code(0);
        pod.end().expect_code(0);
        assert!(lease(&ip).exists(), "the end of `rkt run` does not wait for plugins");
        let run = if command == "list" { pods.rkt(command) } else { pod.rkt(command) };
        let ended = run.end();
        ended.expect_code(0);
        assert_eq!(ended.stderr, "");
        assert!(!lease(&ip).exists(), "{command}");
        // The journal's link stays with the pod.
        let left = Snapshot::take(Path::new("/no/such")).beyond(&before);
        let left: Vec<_> = left.iter().filter(|line| !line.starts_with("journal: ")).collect();
        assert!(left.is_empty(), "{command}: {left:?}");
        assert_eq!(pod.status()[1], format!("networks=default:ip4={ip}"), "it is still shown");
        assert!(!pod.dir().join("netns").exists());
    }
}

#[test]
fn gc_frees_what_a_killed_pod_has_when_its_configuration_and_the_namespace_s_name_are_gone() {
    let _host = Host::take_alone();
    let pods = Pods::new();
    first_pod(&pods);
    let before = Snapshot::take(&pods.data());
    let config = pods.path().join("config");
    std::fs::create_dir_all(config.join("net.d")).expect("a directory");
    let conf = r#"{"name": "mine", "type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "subnet": "10.98.1.0/24"}}"#;
    std::fs::write(config.join("net.d/10-mine.conf"), conf).expect("a network");
    let flags = format!("--local-config={} run --net=mine,default --port=http:8072", config.display());
    let mut killed = start(&pods, "uuid-1", &flags);
    let mut terminated = start(&pods, "uuid-2", "run --port=http:8073");
    expect_answer("", &format!("http://{}/", address(&killed, "mine")));
    expect_answer("", "http://127.0.0.1:8072/");
    std::fs::remove_dir_all(&config).expect("the configuration goes");
    kill(&mut killed);
    Run::new("machinectl").args(["kill", "--signal=KILL", &terminated.machine()]).end().expect_code(0);
    let _ended = terminated.end();
    for _ in 0..2 {
        let ended = pods.rkt("gc --grace-period=0s").end();
        ended.expect_code(0);
        assert!(!ended.stderr.contains("error"), "{ended:?}");
    }
    expect_nothing_beyond(&before, &pods);
}

#[test]
fn after_a_reboot_only_the_lease_is_left_and_goes() {
    let _host = Host::take_alone();
    let pods = Pods::new();
    first_pod(&pods);
    let before = Snapshot::take(&pods.data());
    let mut pod = start(&pods, "uuid", "run");
    let ip = address(&pod, "default");
    kill(&mut pod);
    // What a reboot takes: names of namespaces with their interfaces, and rules.
    let netns = std::fs::read_to_string(pod.dir().join("netns")).expect("a namespace");
    Run::new("ip")
        .args(["netns", "del", netns.trim().trim_start_matches("/run/netns/")])
        .end()
        .expect_code(0);
    Run::new("nft").args(["delete", "table", "ip", &format!("rkt-{}", pod.uuid)]).end().expect_code(0);
    assert!(lease(&ip).exists());
    pod.rkt("rm").end().expect_code(0);
    assert!(!lease(&ip).exists());
    wait::until("everything is as before", || {
        let left = Snapshot::take(&pods.data()).beyond(&before);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn an_address_or_a_port_of_a_dead_pod_is_another_s_at_once() {
    let _host = Host::take();
    let pods = Pods::new();
    let flags = "run --net=default:IP=172.16.28.200 --port=http:8074";
    let mut first = start(&pods, "uuid-1", flags);
    assert_eq!(address(&first, "default"), "172.16.28.200");
    let refused = pods.rkt("run --port=http:8074").arg(web_image()).end();
    refused.expect(
        254,
        "",
        &format!(
            "run: stage1: failed to setup network: port tcp-0.0.0.0:8074 is forwarded to the pod {0} already\n\
             run: hint: choose another port of the host, or stop that pod with `rkt stop {0}`\n",
            first.uuid
        ),
    );
    let refused = pods.rkt("run --net=default:IP=172.16.28.200").arg(web_image()).end();
    refused.expect_code(254);
    let told = "stage1: failed to setup network: error adding network \"default\": ";
    assert!(refused.stderr.contains(told) && refused.stderr.contains("172.16.28.200"), "{}", refused.stderr);
    assert_eq!(pods.uuids().len(), 1, "the refused pods are gone");
    kill(&mut first);
    let second = start(&pods, "uuid-2", flags);
    assert_eq!(address(&second, "default"), "172.16.28.200");
    expect_answer("", "http://127.0.0.1:8074/");
}

#[test]
fn a_port_that_something_on_the_host_listens_on_is_told() {
    let _host = Host::take();
    let pods = Pods::new();
    let mut server = Run::new("busybox").args(["nc", "-l", "-p", "8075"]).start();
    wait::until("it listens", || {
        let list = Run::new("ss").args(["-Hltn", "sport = :8075"]).stdout();
        if list.is_empty() { Err(()) } else { Ok(()) }
    });
    let mut pod = start(&pods, "uuid", "run --port=http:8075");
    pod.supervisor().wait_for_stderr(
        "run: networking: something on this host listens on tcp-0.0.0.0:8075: from now on its connections go to the pod\n",
    );
    expect_answer("", "http://127.0.0.1:8075/");
    server.signal(Signal::KILL);
    server.wait_for_stdout("");
}

#[test]
fn fifty_pods_on_the_default_network_killed_at_once_leave_nothing_after_gc() {
    const PODS: usize = 50;
    let _host = Host::take_alone();
    raise_inotify_limit();
    let pods = Pods::new();
    first_pod(&pods);
    pods.rkt("fetch").arg(web_image()).end().expect_code(0);
    let before = Snapshot::take(&pods.data());
    let patience = Duration::from_secs(180);
    let mut running: Vec<_> = (0..PODS)
        .map(|number| {
            let run =
                pods.rkt(&format!("run --uuid-file-save=uuid-{number} --port=http:{}", 20_000 + number));
            run.arg(web_image()).patience(patience).start()
        })
        .collect();
    let mut addresses = std::collections::BTreeSet::new();
    for number in 0..PODS {
        wait::for_path(&pods.path().join(format!("uuid-{number}")));
        let uuid = std::fs::read_to_string(pods.path().join(format!("uuid-{number}"))).expect("the UUID");
        pods.rkt("status --wait-ready=120s").arg(&uuid).patience(patience).end().expect_code(0);
        addresses.insert(pods.status(&uuid)[1].clone());
        expect_answer("", &format!("http://127.0.0.1:{}/", 20_000 + number));
    }
    assert_eq!(addresses.len(), PODS, "{addresses:?}");
    for running in &mut running {
        running.signal(Signal::KILL);
    }
    for running in running {
        let ended = running.end();
        assert_eq!(ended.stderr, "");
    }
    for _ in 0..2 {
        let ended = pods.rkt("gc --grace-period=0s").patience(patience).end();
        ended.expect_code(0);
        assert!(!ended.stderr.contains("error"), "{ended:?}");
    }
    expect_nothing_beyond(&before, &pods);
}
