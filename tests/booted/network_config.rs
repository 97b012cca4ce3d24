//! Networks of the local configuration: bridges, macvlan, several at once, and what is wrong in their files.

use std::path::PathBuf;

use crate::host::Host;
use crate::network::{Elsewhere, address, expect_answer, get, start, web_image};
use crate::pod::{Pods, said_by, shell_app};
use crate::support::Run;

/// A local configuration with files in net.d, and the flag that names it.
struct Config {
    dir: PathBuf,
}

impl Config {
    fn new(pods: &Pods, files: &[(&str, &str)]) -> Self {
        let dir = pods.path().join("config");
        std::fs::create_dir_all(dir.join("net.d")).expect("a directory");
        for (name, text) in files {
            std::fs::write(dir.join("net.d").join(name), text).expect("a network");
        }
        Self { dir }
    }

    fn run(&self, flags: &str) -> String {
        format!("--local-config={} run {flags}", self.dir.display())
    }
}

/// Removes an interface that a test or a plugin has made on the host.
struct Interface(&'static str);

impl Drop for Interface {
    fn drop(&mut self) {
        let _gone = Run::new("ip").args(["link", "del", self.0]).end();
    }
}

#[test]
fn pods_on_a_bridge_reach_each_other_and_their_ports_are_forwarded() {
    let _host = Host::take();
    let pods = Pods::new();
    let _bridge = Interface("rkt-br-1");
    // Of the oldest version, which the plugin for ports does not know.
    let conf = r#"{"name": "bridged", "type": "bridge", "bridge": "rkt-br-1", "isDefaultGateway": true, "ipMasq": true,
                   "ipam": {"type": "host-local", "subnet": "10.97.1.0/24"}}"#;
    let config = Config::new(&pods, &[("10-bridged.conf", conf)]);
    let other = Elsewhere::new("rkt-far-4", 4);
    let pod = start(&pods, "uuid", &config.run("--net=bridged --port=http:8061"));
    let ip = address(&pod, "bridged");
    assert!(ip.starts_with("10.97.1."), "{ip}");
    expect_answer("", &format!("http://{ip}/"));
    expect_answer("", "http://127.0.0.1:8061/");
    expect_answer(&other.from(), &format!("http://{}:8061/", other.host_ip));
    let ended = shell_app(pods.rkt(&config.run("--net=bridged")), "app", &get(&ip, 80)).end();
    assert_eq!(said_by(&ended.stdout, "app"), ["it works"]);
}

#[test]
fn a_pod_with_macvlan_is_a_machine_of_its_own_on_the_network_of_its_master() {
    let _host = Host::take();
    let pods = Pods::new();
    let other = Elsewhere::new("rkt-far-5", 5);
    let conf = r#"{"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": "rkt-far-5",
                   "ipam": {"type": "host-local", "subnet": "10.99.5.0/24", "rangeStart": "10.99.5.10"}}"#;
    let config = Config::new(&pods, &[("10-lan.conf", conf)]);
    let pod = start(&pods, "uuid", &config.run("--net=lan"));
    let ip = address(&pod, "lan");
    assert!(ip.starts_with("10.99.5.") && ip != "10.99.5.1" && ip != "10.99.5.2", "{ip}");
    expect_answer(&other.from(), &format!("http://{ip}/"));
}

#[test]
fn several_networks_are_interfaces_in_the_order_of_their_files() {
    let host = Host::take();
    let pods = Pods::new();
    let (_bridge, name) = (Interface("rkt-br-2"), "a-name-that-is-longer-than-any-interface-s-name-may-be");
    let conf = format!(
        r#"{{"cniVersion": "0.3.1", "name": "{name}", "type": "bridge", "bridge": "rkt-br-2", "isGateway": true,
            "ipam": {{"type": "host-local", "subnet": "10.97.2.0/24"}}}}"#
    );
    let list = r#"{"cniVersion": "0.4.0", "name": "list", "plugins": [
        {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.97.3.0/24"}},
        {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}]}"#;
    let config = Config::new(&pods, &[("10-bridge.conf", &conf), ("99-zlist.conflist", list)]);
    let mut pod = start(&pods, "uuid", &config.run(&format!("--net=list,default --net={name}")));
    let networks = pod.status().swap_remove(1);
    let (first, second, third) = (address(&pod, name), address(&pod, "default"), address(&pod, "list"));
    assert_eq!(networks, format!("networks={name}:ip4={first}, default:ip4={second}, list:ip4={third}"));
    let leader = host.wait_for_machine(&pod.machine()).to_string();
    let show = Run::new("nsenter").args(["-n", "-t", &leader, "ip", "-br", "-4", "addr"]).stdout();
    for (interface, ip) in [("eth0@", &first), ("eth1@", &second), ("eth2@", &third)] {
        let line = show.lines().find(|line| line.starts_with(interface)).expect("an interface");
        assert!(line.contains(ip.as_str()), "{show}");
    }
    let setting = ["-n", "-t", &leader, "cat", "/proc/sys/net/core/somaxconn"];
    assert_eq!(Run::new("nsenter").args(setting).stdout(), "500\n");
    pod.rkt("stop --force").end().expect_code(0);
    let _killed = pod.end();
    let removed = pods.rkt("rm").arg(&pod.uuid).end();
    removed.expect(0, &format!("{:?}\n", pod.uuid), "");
}

#[test]
fn a_local_file_takes_the_place_of_a_built_in_network_and_the_first_of_a_name_counts() {
    let _host = Host::take();
    let pods = Pods::new();
    let conf = |subnet: &str| {
        format!(
            r#"{{"name": "default", "type": "ptp", "ipam": {{"type": "host-local", "subnet": "{subnet}"}}}}"#
        )
    };
    let (first, second) = (conf("10.97.5.0/24"), conf("10.97.6.0/24"));
    let config = Config::new(&pods, &[("20-b.conf", &second), ("10-a.conf", &first)]);
    let run = pods.rkt(&config.run("")).arg(web_image());
    let ended = run.args(["--exec=/bin/ifconfig", "--", "eth0"]).end();
    ended.expect_code(0);
    assert!(ended.stdout.contains("inet addr:10.97.5."), "{}", ended.stdout);
    let told = format!(
        "run: networking: \"default\" network already defined, ignoring 20-b.conf\n\
         run: networking: overriding \"default\" network with one from {}/net.d\n",
        config.dir.display()
    );
    assert_eq!(ended.stderr, told);
}

#[test]
fn networks_that_are_none_are_told_before_anything_is_made() {
    let _host = Host::take();
    let pods = Pods::new();
    let config = Config::new(&pods, &[]);
    let ended = pods.rkt(&config.run("--net=default,nope,other")).arg(web_image()).end();
    ended.expect_code(254);
    let first = ended.stderr.lines().next().expect("a message");
    assert_eq!(first, "run: stage1: failed to setup network: networks not found: nope, other");
    let config = Config::new(&pods, &[("broken.conf", "{")]);
    let ended = pods.rkt(&config.run("")).arg(web_image()).end();
    let told = format!(
        "run: stage1: failed to setup network: error loading network config {}/net.d/broken.conf: \
         EOF while parsing an object at line 1 column 1\n",
        config.dir.display()
    );
    ended.expect(254, "", &told);
    // Where no network of the configuration is wanted, nobody reads it.
    pods.rkt(&config.run("--net=none")).arg(web_image()).arg("--exec=/bin/true").end().expect(0, "", "");
    assert_eq!(pods.uuids().len(), 1);
}

#[test]
fn ports_that_no_app_has_or_that_two_want_are_told() {
    let _host = Host::take();
    let pods = Pods::new();
    for (flags, told) in [
        (
            "--port=nope:80",
            "error setting up stage0: port name \"nope\" could not be found in any apps\n\
             run: hint: the apps have the ports http, echo",
        ),
        (
            "--port=http:80 --port=http:127.0.0.1:80",
            "error setting up stage0: port tcp-127.0.0.1:80 already mapped to pod port 80\n\
             run: hint: give each port of the pod another port of the host",
        ),
        ("--net=none --port=http:80", "--port flag does not work with 'none' networking"),
        ("--net=host --port=http:80", "--port flag does not work with 'host' networking"),
    ] {
        let ended = pods.rkt(&format!("run {flags}")).arg(web_image()).end();
        ended.expect_code(254);
        assert_eq!(ended.stderr.trim_end(), format!("run: {told}"), "{flags}");
    }
    let twice = pods.rkt("run --port=http:80").arg(web_image()).arg(web_image()).arg("--name=other").end();
    let told = "run: error setting up stage0: port name \"http\" defined multiple apps\n";
    twice.expect(254, "", told);
    assert_eq!(pods.uuids(), [""; 0]);
}
