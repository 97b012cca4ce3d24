//! Plugins that are missing, hang, crash, lie, or stop halfway (SECURITY D20, F34): an error that tells, and nothing left.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::host::Host;
use crate::network::web_image;
use crate::pod::Pods;
use crate::support::run::Ended;
use crate::support::{Run, wait};

/// A local configuration with one network, `odd`, and its plugin of the same name, a script.
struct Odd {
    pods: Pods,
    dir: PathBuf,
}

const FREE: &str = r#"{"name": "odd", "type": "odd"}"#;

impl Odd {
    /// The script notes each call beside itself, then goes on with `line`.
    fn new(conf: &str, line: &str) -> Self {
        let pods = Pods::new();
        let dir = pods.path().join("config");
        let net_d = dir.join("net.d");
        std::fs::create_dir_all(&net_d).expect("a directory");
        std::fs::write(net_d.join("10-odd.conf"), conf).expect("a network");
        let script = format!(
            "#!/bin/sh\nlog={}\n\
             {{ echo \"$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS\"; }} >> $log\n\
             env | sort > $log.env\npwd >> $log.env\ncat > $log.stdin\n{line}\n",
            dir.join("log").display()
        );
        std::fs::write(net_d.join("odd"), script).expect("a plugin");
        mode(&net_d.join("odd"), 0o755);
        mode(&net_d, 0o755);
        Self { pods, dir }
    }

    fn command(&self) -> Run {
        let flags = format!("--local-config={} run --net=odd:A=b", self.dir.display());
        self.pods.rkt(&flags).arg(web_image()).patience(Duration::from_secs(100))
    }

    /// Runs a pod that does not start, and returns the first line of what is told.
    fn told(&self) -> String {
        let ended = self.command().end();
        self.expect_nothing_left(&ended);
        ended.stderr.lines().next().unwrap_or_default().to_owned()
    }

    fn expect_nothing_left(&self, ended: &Ended) {
        ended.expect_code(254);
        assert_eq!(self.pods.uuids(), [""; 0]);
        for call in self.calls() {
            let netns = call.split(' ').nth(2).expect("a namespace");
            assert!(!Path::new(netns).exists(), "{netns}");
        }
    }

    /// The calls of the plugin.
    fn calls(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Makes sure that DEL came with the arguments of ADD.
    fn expect_undone(&self) {
        let calls = self.calls();
        assert_eq!(calls.len(), 2, "{calls:?}");
        let add = calls[0].strip_prefix("ADD ").expect("ADD comes first");
        assert_eq!(calls[1], format!("DEL {add}"));
        assert!(add.ends_with(" eth0 A=b"), "{add}");
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

const FAILED: &str = "run: stage1: failed to setup network: error adding network \"odd\": ";

#[test]
fn a_plugin_gets_its_file_and_an_environment_of_cni_alone() {
    let _host = Host::take();
    let odd = Odd::new(FREE, "echo '{}'");
    let ended = odd.command().env("SECRET", "x").arg("--exec=/bin/true").end();
    ended.expect(0, "", "");
    assert_eq!(std::fs::read_to_string(odd.dir.join("log.stdin")).expect("stdin"), FREE);
    let env = std::fs::read_to_string(odd.dir.join("log.env")).expect("an environment");
    let names: Vec<&str> = env.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let expected = [
        "CNI_ARGS",
        "CNI_COMMAND",
        "CNI_CONTAINERID",
        "CNI_IFNAME",
        "CNI_NETNS",
        "CNI_PATH",
        "CNI_VERSION",
        "PATH",
        "PWD",
    ];
    assert_eq!(names, expected);
    odd.pods.rkt(&format!("--local-config={} list", odd.dir.display())).end().expect_code(0);
    odd.expect_undone();
    let uuid = odd.pods.only();
    assert!(env.ends_with(&format!("/data/pods/prepare/{uuid}\n")), "{env}");
    // A network without an address is one all the same.
    assert_eq!(odd.pods.status(&uuid)[1], "networks=odd:ip4=");
}

#[test]
fn a_missing_plugin_is_told_with_the_package_that_has_it() {
    let _host = Host::take();
    let odd = Odd::new(r#"{"name": "odd", "type": "none-such"}"#, "");
    let ended = odd.command().end();
    odd.expect_nothing_left(&ended);
    let mut lines = ended.stderr.lines();
    assert_eq!(lines.next(), Some(format!("{FAILED}Could not find plugin \"none-such\"").as_str()));
    assert!(
        lines.next().is_some_and(|hint| hint.contains("install the package containernetworking-plugins"))
    );
    let odd = Odd::new(FREE, "echo '{}'");
    mode(&odd.dir.join("net.d/odd"), 0o775);
    let plugin = odd.dir.join("net.d/odd");
    let told =
        format!("{FAILED}the plugin {} is not used: others than root can write to it", plugin.display());
    assert_eq!(odd.told(), told);
    assert_eq!(odd.calls(), [""; 0]);
}

#[test]
fn a_plugin_that_fails_crashes_or_lies_is_told_and_undone() {
    let _host = Host::take();
    for (line, told) in [
        (
            r#"[ $CNI_COMMAND = DEL ] || { echo '{"code": 7, "msg": "no luck", "details": "today"}'; exit 1; }"#,
            format!("{FAILED}no luck; today"),
        ),
        (
            "[ $CNI_COMMAND = DEL ] || { echo oops; exit 3; }",
            format!("{FAILED}netplugin failed but error parsing its diagnostic message \"oops\\n\": \
                     expected value at line 1 column 1"),
        ),
        ("[ $CNI_COMMAND = DEL ] || kill -SEGV $$", format!("{FAILED}the plugin PLUGIN was killed by signal 11")),
        (
            "[ $CNI_COMMAND = DEL ] || yes",
            format!("{FAILED}the plugin PLUGIN was killed, since it wrote more than 256 KiB"),
        ),
        (
            "echo surprise",
            "run: stage1: failed to setup network: error parsing \"odd\" result: expected value at line 1 column 1".into(),
        ),
        (
            r#"echo '{"ip4": {"ip": "10.0.0.300/24"}}'"#,
            "run: stage1: failed to setup network: error parsing \"odd\" result: \"10.0.0.300/24\" is no IPv4 address \
             with the length of a prefix".into(),
        ),
    ] {
        let odd = Odd::new(FREE, line);
        let plugin = odd.dir.join("net.d/odd");
        assert_eq!(odd.told(), told.replace("PLUGIN", &plugin.display().to_string()));
        odd.expect_undone();
    }
}

#[test]
fn a_plugin_that_hangs_is_killed_with_its_children_after_its_time() {
    let _host = Host::take();
    let odd = Odd::new(FREE, "[ $CNI_COMMAND = DEL ] || { sleep 1003; exit 1; }");
    let plugin = odd.dir.join("net.d/odd");
    let told =
        format!("{FAILED}the plugin {} was killed, since it did not end within 30 s", plugin.display());
    assert_eq!(odd.told(), told);
    odd.expect_undone();
    assert_ne!(Run::new("pgrep").args(["-f", "^sleep 1003"]).end().code(), 0);
}

#[test]
fn a_signal_ends_the_wait_for_a_plugin_and_all_is_undone() {
    let _host = Host::take();
    let odd = Odd::new(FREE, "[ $CNI_COMMAND = DEL ] || exec sleep 1004");
    let running = odd.command().start();
    wait::until("the plugin is called", || if odd.calls().is_empty() { Err(()) } else { Ok(()) });
    running.signal(Signal::INT);
    let ended = running.end();
    assert_eq!(ended.status.to_string(), "signal: 2 (SIGINT)");
    odd.expect_undone();
    assert_eq!(odd.pods.uuids(), [""; 0]);
    assert_ne!(Run::new("pgrep").args(["-f", "^sleep 1004"]).end().code(), 0);
}

#[test]
fn a_run_that_is_killed_while_a_plugin_works_is_undone_by_gc() {
    let _host = Host::take();
    let odd = Odd::new(FREE, "[ $CNI_COMMAND = DEL ] || exec sleep 1005");
    let running = odd.command().start();
    wait::until("the plugin is called", || if odd.calls().is_empty() { Err(()) } else { Ok(()) });
    running.signal(Signal::KILL);
    let _killed = running.end();
    assert_ne!(
        Run::new("pgrep").args(["-f", "^sleep 1005"]).end().code(),
        0,
        "the plugin dies with its caller"
    );
    let gc = format!("--local-config={} gc --grace-period=0s", odd.dir.display());
    odd.pods.rkt(&gc).end().expect_code(0);
    odd.expect_undone();
    let netns = odd.calls()[0].split(' ').nth(2).map(PathBuf::from).expect("a namespace");
    assert!(!netns.exists());
    assert_eq!(odd.pods.uuids(), [""; 0]);
}

#[test]
fn a_plugin_that_can_not_undo_is_told_once_by_list_and_does_not_keep_the_pod() {
    let _host = Host::take();
    let line = r#"[ $CNI_COMMAND = ADD ] && echo '{}' || { echo '{"code": 9, "msg": "stuck"}'; exit 1; }"#;
    let odd = Odd::new(FREE, line);
    let ended = odd.command().arg("--exec=/bin/true").end();
    ended.expect(0, "", "");
    let with = |line: &str| odd.pods.rkt(&format!("--local-config={} {line}", odd.dir.display()));
    let ended = with("list").end();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, "list: error deleting \"odd\": stuck\n"));
    let ended = with("list").end();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    let uuid = odd.pods.only();
    let ended = with("rm").arg(&uuid).end();
    ended.expect(0, &format!("\"{uuid}\"\n"), "rm: error deleting \"odd\": stuck\n");
    let netns = odd.calls()[0].split(' ').nth(2).map(PathBuf::from).expect("a namespace");
    assert!(!netns.exists());
}
