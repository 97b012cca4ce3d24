//! Many pods at once, and what is left of them: nothing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::host::Host;
use crate::pod::{Pods, console, shell_image};
use crate::support::{Run, wait};

const PODS: u8 = 40;

#[test]
fn forty_pods_that_fail_leave_their_codes_their_lines_and_after_gc_nothing() {
    let _host = Host::take_alone();
    raise_inotify_limit();
    let pods = Pods::new();
    pods.rkt("fetch").arg(shell_image()).end().expect_code(0);
    // What a first pod starts for all.
    Run::new("machinectl").arg("list").end().expect_code(0);
    let before = Snapshot::take(&pods.data());

    let running: Vec<_> = (1..=PODS)
        .map(|number| {
            let line = format!("echo line of {number}; exit {number}");
            pods.run_shell(&format!("--uuid-file-save=uuid-{number}"), &line).start()
        })
        .collect();
    for (number, running) in (1..=PODS).zip(running) {
        let ended = running.end();
        ended.expect_code(number.into());
        let expected = [("app".to_owned(), format!("line of {number}"))];
        assert_eq!(console(&ended.stdout), expected);
        assert_eq!(ended.stderr, "");
    }
    for number in 1..=PODS {
        let uuid = std::fs::read_to_string(pods.path().join(format!("uuid-{number}"))).expect("the UUID");
        assert_eq!(pods.status(&uuid).last().map(String::as_str), Some(format!("app-app={number}").as_str()));
        let machine = format!("_MACHINE_ID={}", uuid.replace('-', ""));
        let journal =
            Run::new("journalctl").args(["-m", "-q", "-t", "app", "-o", "cat", "--no-pager", &machine]);
        assert_eq!(journal.stdout(), format!("line of {number}\n"));
    }

    for _ in 0..2 {
        let ended = pods.rkt("gc --grace-period=0s").end();
        ended.expect_code(0);
    }
    wait::until("everything is as before the first pod", || {
        let left = Snapshot::take(&pods.data()).beyond(&before);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

/// Sets the limit that the package brings: each pod takes three inotify instances, and the kernel's 128 a user end at 40.
pub(crate) fn raise_inotify_limit() {
    const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
    let shipped = include_str!("../../packaging/usr/lib/sysctl.d/50-rkt.conf");
    let value = shipped.lines().find_map(|line| line.strip_prefix("fs.inotify.max_user_instances = "));
    let value: u32 = value.and_then(|text| text.parse().ok()).expect("the file sets the limit");
    let now: u32 = std::fs::read_to_string(LIMIT).expect("a limit").trim().parse().expect("a number");
    if now < value {
        std::fs::write(LIMIT, value.to_string()).expect("root may raise the limit");
    }
}

/// What a pod could leave behind, as lines to read.
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// What there is now; `data` is the data directory of the pods.
    pub(crate) fn take(data: &Path) -> Self {
        let mut lines = BTreeSet::new();
        let mut add = |kind: &str, line: &str| lines.insert(format!("{kind}: {line}"));
        for line in std::fs::read_to_string("/proc/1/mountinfo").expect("mounts").lines() {
            // Without the numbers: the place in the tree and the file system.
            let fields: Vec<&str> = line.split(' ').skip(3).collect();
            add("mount", &fields.join(" "));
        }
        for namespace in namespaces() {
            add("namespace", &namespace);
        }
        for line in Run::new("machinectl").args(["list", "--no-legend", "--full"]).stdout().lines() {
            add("machine", line);
        }
        let scopes = ["list-units", "--all", "--no-legend", "--plain", "--full", "--type=scope", "machine-*"];
        for line in Run::new("systemctl").args(scopes).stdout().lines() {
            add("scope", line);
        }
        for line in Run::new("ip").args(["-br", "link"]).stdout().lines() {
            add("interface", line.split(['@', ' ']).next().unwrap_or_default());
        }
        for line in Run::new("iptables-save").args(["-t", "nat"]).stdout().lines() {
            // Without the counters of chains, and the time.
            add("rule", line.split(" [").next().filter(|line| !line.starts_with('#')).unwrap_or_default());
        }
        for line in Run::new("nft").args(["list", "tables"]).stdout().lines() {
            add("rule", line);
        }
        for (kind, root) in [
            ("lease", Path::new("/var/lib/cni/networks")),
            ("cgroup", Path::new("/sys/fs/cgroup/machine.slice")),
            ("journal", Path::new("/var/log/journal")),
            ("run", Path::new("/run/systemd/machines")),
            ("run", Path::new("/run/systemd/nspawn")),
            ("run", Path::new("/run/netns")),
            ("file", data),
        ] {
            for path in files(root) {
                add(kind, &path);
            }
        }
        Self(lines)
    }

    /// What there is now and was not before.
    pub(crate) fn beyond(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).filter(|line| !is_no_trace(line)).cloned().collect()
    }
}

/// The places of pods stay, as do the ready-made filters of the host, and the host's own journal grows.
fn is_no_trace(line: &str) -> bool {
    const PLACES: [&str; 7] =
        ["/pods", "/embryo", "/prepare", "/prepared", "/run", "/exited-garbage", "/garbage"];
    (line.starts_with("file: ") && PLACES.iter().any(|place| line.ends_with(place)))
        || is_no_lease(line)
        || (line.starts_with("file: ") && line.contains("/data/filters"))
        || (line.starts_with("journal: ") && line.ends_with(".journal"))
        || (line.starts_with("cgroup: ") && !line.contains("rkt"))
}

/// Beside the leases, which are named by their addresses, a network has a directory and notes of its own.
fn is_no_lease(line: &str) -> bool {
    let name = line.strip_prefix("lease: ").and_then(|path| path.rsplit('/').next());
    name.is_some_and(|name| name.parse::<std::net::IpAddr>().is_err())
}

fn namespaces() -> BTreeSet<String> {
    let processes = std::fs::read_dir("/proc").expect("a /proc").flatten();
    let processes =
        processes.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    let links = processes
        .flat_map(|entry| std::fs::read_dir(entry.path().join("ns")).into_iter().flatten().flatten());
    links
        .filter_map(|link| std::fs::read_link(link.path()).ok())
        .map(|target| target.display().to_string())
        .collect()
}

/// Everything below a directory; links are not followed.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // The files of a cgroup come with it.
            if is_dir || !dir.starts_with("/sys") {
                found.push(entry.path().display().to_string());
            }
            if is_dir {
                open.push(entry.path());
            }
        }
    }
    found
}
