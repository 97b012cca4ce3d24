//! The network of pods as programs use it (issue "The pod in daily use", must show 2): from the host, from another pod, from
//! another machine, which a network namespace plays.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::host::Host;
use crate::pod::{Pod, Pods, said_by, shell_app};
use crate::support::aci::Aci;
use crate::support::run::Running;
use crate::support::{Run, wait};

/// An image with a web server, whose port 80 is called http, and a port of UDP, called echo.
pub(crate) fn web_image() -> &'static Path {
    static IMAGE: OnceLock<std::path::PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let dir = Path::new("/var/tmp/rkt-test-images");
        std::fs::create_dir_all(dir).expect("a directory for images");
        let ports = json!([
            {"name": "http", "protocol": "tcp", "port": 80, "count": 1, "socketActivated": false},
            {"name": "echo", "protocol": "udp", "port": 7, "count": 1, "socketActivated": false},
        ]);
        let exec = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"];
        let image = Aci::new("example.com/web", &exec).app("ports", ports);
        let file = image.file("/www/index.html", 0o644, "it works\n").write(dir);
        let own = dir.join(format!("web-{}.aci", std::process::id()));
        std::fs::rename(file, &own).expect("a rename in one directory");
        own
    })
}

/// Starts a pod with a web server, and waits until it is ready; `flags` are global ones, `run` and its flags.
pub(crate) fn start<'a>(pods: &'a Pods, name: &str, flags: &str) -> Pod<'a> {
    let file = pods.path().join(name);
    let run = pods.rkt(flags).arg("--uuid-file-save").arg(&file).arg(web_image());
    pods.started(run.start(), &file)
}

/// The address of a pod in a network, as `rkt status` tells it.
pub(crate) fn address(pod: &Pod<'_>, network: &str) -> String {
    let networks =
        pod.status().into_iter().find_map(|line| line.strip_prefix("networks=").map(str::to_owned));
    let networks = networks.expect("a line with networks");
    let of = format!("{network}:ip4=");
    let found = networks.split(", ").find_map(|part| part.strip_prefix(&of));
    found.unwrap_or_else(|| panic!("no address in {network}: {networks:?}")).to_owned()
}

/// Waits until the web server at `url` answers; `from` is what stands before the command, split at spaces.
pub(crate) fn expect_answer(from: &str, url: &str) {
    wait::until(&format!("{url} answers"), || {
        let words = format!("{from} curl -sS --max-time 5 {url}");
        let mut words = words.split_whitespace();
        let ended = Run::new(words.next().expect("a command")).args(words).end();
        if ended.status.success() && ended.stdout == "it works\n" { Ok(()) } else { Err(ended) }
    });
}

/// The line for a shell in a pod that asks a web server; busybox's wget, being static, dies of Debian 12's resolver.
pub(crate) fn get(ip: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 5 {ip} {port} | grep works")
}

/// Runs a line for a shell in a pod of its own, and returns what it said.
fn say(pods: &Pods, flags: &str, line: &str) -> Vec<String> {
    let ended = shell_app(pods.rkt(flags), "app", line).end();
    ended.expect_code(0);
    said_by(&ended.stdout, "app")
}

/// A web server on the host.
fn host_server(dir: &Path, port: u16) -> Running {
    std::fs::write(dir.join("index.html"), "it works\n").expect("a page");
    let args = ["httpd", "-f", "-p", &port.to_string(), "-h"];
    let running = Run::new("busybox").args(args).arg(dir).start();
    expect_answer("", &format!("http://127.0.0.1:{port}/"));
    running
}

#[test]
fn without_a_word_about_networks_a_pod_is_on_the_default_network() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = start(&pods, "uuid", "run");
    let ip = address(&pod, "default");
    assert!(ip.starts_with("172.16.28."), "{ip}");
    expect_answer("", &format!("http://{ip}/"));

    let list = pods.rkt("list --no-legend").stdout();
    assert!(list.trim_end().ends_with(&format!("\tdefault:ip4={ip}")), "{list:?}");
    let machines = Run::new("machinectl").args(["list", "--no-legend", "--full"]).stdout();
    let line = machines.lines().find(|line| line.starts_with(&pod.machine())).expect("a machine");
    assert!(line.contains(&ip), "{line}");
    host.wait_for_machine(&pod.machine());

    let json: Value = serde_json::from_str(&pod.rkt("status --format=json").stdout()).expect("JSON");
    assert_eq!(
        json["networks"],
        json!([{
            "netName": "default", "netConf": "net/99-default.conf", "pluginPath": "/usr/lib/cni/ptp",
            "ifName": "eth0", "ip": ip, "args": "", "mask": "255.255.255.0"
        }])
    );
    let names = Run::new("ip").args(["netns", "list"]).stdout();
    let netns = std::fs::read_to_string(pod.dir().join("netns")).expect("a namespace");
    let name = netns.trim_end().strip_prefix("/run/netns/").expect("a name of ip netns");
    assert!(names.contains(name), "{names}");
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("a setting"), "1\n");
}

#[test]
fn pods_on_the_default_network_reach_the_host_and_each_other() {
    let _host = Host::take();
    let pods = Pods::new();
    let pod = start(&pods, "uuid", "run --net=default");
    let ip = address(&pod, "default");
    let _server = host_server(pods.path(), 8099);
    expect_answer("", &format!("http://{ip}/"));
    assert_eq!(say(&pods, "run", &get(&ip, 80)), ["it works"]);
    assert_eq!(say(&pods, "run --net", &get("172.16.28.1", 8099)), ["it works"]);
    let settings = "cd /proc/sys/net; cat ipv4/ip_unprivileged_port_start ipv4/ping_group_range \
                    ipv6/conf/eth0/accept_ra ipv6/conf/default/accept_ra; /bin/busybox ip -4 -o addr show lo";
    let said = say(&pods, "run", settings);
    assert_eq!(said[..4], ["0", "0\t2147483647", "0", "0"]);
    assert!(said[4].contains("127.0.0.1/8"), "{said:?}");
}

#[test]
fn what_a_pod_sends_to_another_machine_has_the_host_s_address_until_it_is_over() {
    let _host = Host::take();
    let pods = Pods::new();
    let other = Elsewhere::new("rkt-far-6", 6);
    std::fs::write(pods.path().join("index.html"), "it works\n").expect("a page");
    let server = format!("{} busybox httpd -f -p 8096 -h", other.from());
    let mut words = server.split(' ');
    let _server = Run::new(words.next().expect("ip")).args(words).arg(pods.path()).start();
    expect_answer(&other.from(), "http://127.0.0.1:8096/");

    // That machine has no way back to 172.16.28.0/24.
    assert_eq!(say(&pods, "run", &get("10.99.6.2", 8096)), ["it works"]);

    let pod = start(&pods, "uuid", "run");
    let ip = address(&pod, "default");
    let list = || Run::new("nft").args(["list", "table", "ip", &format!("rkt-{}", pod.uuid)]).end();
    let rule = format!("ip saddr {ip} ip daddr != 172.16.28.0/24 ip daddr != 224.0.0.0/4 masquerade");
    let listed = list();
    listed.expect_code(0);
    let lines: Vec<&str> = listed.stdout.lines().map(str::trim).collect();
    let hook = "type nat hook postrouting priority srcnat; policy accept;";
    assert_eq!(lines[1..4], ["chain postrouting {", hook, &rule], "{listed:?}");
    pod.rkt("stop").end().expect_code(0);
    wait::until("status of the dead pod takes the table away", || {
        let _status = pod.status();
        let listed = list();
        if listed.stderr.contains("No such file or directory") { Ok(()) } else { Err(listed) }
    });
}

#[test]
fn the_restricted_network_has_the_host_and_no_way_out() {
    let _host = Host::take();
    let pods = Pods::new();
    let _server = host_server(pods.path(), 8098);
    let line = format!("{}; /bin/busybox ip route | grep -c default", get("172.31.0.1", 8098));
    let ended = shell_app(pods.rkt("run --net=default-restricted"), "app", &line).end();
    assert_eq!(said_by(&ended.stdout, "app"), ["it works", "0"]);
}

/// A network namespace that plays another machine on a network of its own with the host.
pub(crate) struct Elsewhere {
    name: String,
    /// The host's address there.
    pub(crate) host_ip: String,
}

impl Elsewhere {
    pub(crate) fn new(name: &str, net: u8) -> Self {
        let host_ip = format!("10.99.{net}.1");
        let lines = [
            format!("netns add {name}"),
            format!("link add {name} type veth peer name eth0 netns {name}"),
            format!("addr add {host_ip}/24 dev {name}"),
            format!("link set {name} up"),
            format!("-n {name} addr add 10.99.{net}.2/24 dev eth0"),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} link set lo up"),
        ];
        let elsewhere = Self { name: name.to_owned(), host_ip };
        for line in lines {
            Run::new("ip").args(line.split(' ')).end().expect_code(0);
        }
        elsewhere
    }

    /// What stands before a command that is executed there.
    pub(crate) fn from(&self) -> String {
        format!("ip netns exec {}", self.name)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _gone = Run::new("ip").args(["link", "del", &self.name]).end();
        let _gone = Run::new("ip").args(["netns", "del", &self.name]).end();
    }
}

#[test]
fn a_forwarded_port_is_reached_from_everywhere_and_nothing_listens() {
    let _host = Host::take();
    let pods = Pods::new();
    let other = Elsewhere::new("rkt-far-1", 1);
    let pod = start(&pods, "uuid", "run --port=http:8081");
    expect_answer(&other.from(), &format!("http://{}:8081/", other.host_ip));
    expect_answer("", &format!("http://{}:8081/", other.host_ip));
    expect_answer("", "http://127.0.0.1:8081/");
    expect_answer("", "http://172.16.28.1:8081/");
    assert_eq!(say(&pods, "run", &get("172.16.28.1", 8081)), ["it works"]);
    let listening = Run::new("ss").args(["-Hltn", "sport = :8081"]).stdout();
    assert_eq!(listening, "");
    // Interfaces of other tests' pods may go meanwhile.
    let line = "grep -ls 1 /proc/sys/net/ipv4/conf/*/route_localnet || :";
    let localnet = Run::new("sh").args(["-c", line]).stdout();
    assert_ne!(localnet, "", "that of this pod");
    for line in localnet.lines() {
        assert!(line.contains("/veth"), "only the interfaces of pods: {localnet}");
    }
    drop(pod);
}

#[test]
fn a_port_of_one_address_is_not_forwarded_from_others() {
    let _host = Host::take();
    let pods = Pods::new();
    let (here, there) = (Elsewhere::new("rkt-far-2", 2), Elsewhere::new("rkt-far-3", 3));
    let _pod = start(&pods, "uuid", &format!("run --port=http:{}:8082", here.host_ip));
    expect_answer(&here.from(), &format!("http://{}:8082/", here.host_ip));
    let url = format!("http://{}:8082/", there.host_ip);
    let refused = Run::new("sh").arg("-c").arg(format!("{} curl -sS --max-time 5 {url}", there.from())).end();
    assert_eq!(refused.code(), 7, "connection refused: {refused:?}");
    // The same port of another address is another pod's.
    let _second = start(&pods, "uuid-2", &format!("run --port=http:{}:8082", there.host_ip));
    expect_answer(&there.from(), &url);
}

#[test]
fn a_port_is_prepared_and_forwarded_when_the_pod_runs() {
    let _host = Host::take();
    let pods = Pods::new();
    let uuid = pods.rkt("prepare --quiet --port=http:127.0.0.1:8083").arg(web_image()).stdout();
    let uuid = uuid.trim();
    let manifest: Value = serde_json::from_str(&pods.rkt("cat-manifest").arg(uuid).stdout()).expect("JSON");
    assert_eq!(manifest["ports"][0]["hostPort"], 8083);
    assert_eq!(manifest["ports"][0]["podPort"]["port"], 80);
    for net in ["none", "host"] {
        let told = format!(
            "run-prepared: stage1: failed to setup network: --port flag does not work with '{net}' networking\n\
             run-prepared: hint: the pod was prepared with ports to forward: run it with --net=default\n"
        );
        pods.rkt(&format!("run-prepared --net={net}")).arg(uuid).end().expect(254, "", &told);
    }
    let running = pods.rkt("run-prepared --net=default").arg(uuid).start();
    expect_answer("", "http://127.0.0.1:8083/");
    pods.rkt("stop").arg(uuid).end().expect_code(0);
    running.end().expect_code(0);
}

#[test]
fn a_port_of_udp_is_forwarded() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = start(&pods, "uuid", "run --port=echo:8084");
    let leader = host.wait_for_machine(&pod.machine());
    // Nothing listens in there, and the kernel counts what came for nobody.
    let lost = || {
        let table =
            Run::new("nsenter").args(["-n", "-t", &leader.to_string(), "cat", "/proc/net/snmp"]).stdout();
        let numbers = table.lines().filter(|line| line.starts_with("Udp: ")).nth(1).expect("counters");
        numbers.split(' ').nth(2).map(str::to_owned).expect("a counter")
    };
    assert_eq!(lost(), "0");
    Run::new("bash").args(["-c", "echo over here > /dev/udp/127.0.0.1/8084"]).end().expect_code(0);
    wait::until("a datagram comes", || if lost() == "1" { Ok(()) } else { Err(lost()) });
}
