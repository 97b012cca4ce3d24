//! What pods leave on a host: mounts, groups, units, machines, namespaces, interfaces, tables of nftables, leases of addresses,
//! processes, files outside the data directory.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Directories in which each entry counts; what is below counts where the second value says so.
const DIRS: &[(&str, bool)] = &[
    ("/run", false),
    ("/run/systemd/nspawn", true),
    ("/run/systemd/machines", true),
    ("/run/netns", true),
    ("/tmp", false),
    ("/var/tmp", false),
    ("/var/lib", false),
    ("/var/log/journal", false),
    ("/dev/shm", true),
];

/// How long what a dead process held may take to go away: systemd and the kernel clean up behind its back.
const PATIENCE: Duration = Duration::from_secs(15);

/// A line for each thing that could be left.
#[derive(Debug)]
pub(crate) struct HostState(RefCell<BTreeSet<String>>);

impl HostState {
    /// The host as it is now.
    pub(crate) fn now() -> Self {
        Self(RefCell::new(Self::lines()))
    }

    fn lines() -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        mounts(&mut lines);
        walk(Path::new("/sys/fs/cgroup/machine.slice"), true, &mut |path| {
            if Path::new(path).is_dir() {
                lines.insert(format!("control group {path}"));
            }
        });
        said(
            &mut lines,
            "unit",
            "systemctl",
            &["list-units", "--all", "--plain", "--no-legend", "machine-*.scope"],
        );
        said(&mut lines, "machine", "machinectl", &["list", "--no-legend", "--no-pager"]);
        walk(Path::new("/sys/class/net"), false, &mut |path| {
            lines.insert(format!("interface {path}"));
        });
        tables(&mut lines);
        leases(&mut lines);
        processes(&mut lines);
        for (dir, deep) in DIRS {
            walk(Path::new(dir), *deep, &mut |path| {
                // Directories that systemd gives to its services while they run.
                if !path.contains("systemd-private-") {
                    lines.insert(format!("file {path}"));
                }
            });
        }
        lines
    }

    /// Takes `lines` for a part of the first state from now on.
    pub(crate) fn accept(&self, lines: Vec<String>) {
        self.0.borrow_mut().extend(lines);
    }

    /// What is there now and was not then, once the host had its time to clean up.
    pub(crate) fn left_now(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut length = Duration::from_millis(5);
        loop {
            let left: Vec<String> = Self::lines().difference(&self.0.borrow()).cloned().collect();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            pause(length);
            length = (length * 2).min(Duration::from_millis(200));
        }
    }
}

/// Lets time pass where there is no event to wait for.
pub(crate) fn pause(length: Duration) {
    let time = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(length.subsec_nanos()) };
    let _interrupted = rustix::event::poll(&mut [], Some(&time));
}

fn mounts(lines: &mut BTreeSet<String>) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("proc_pid_mountinfo(5)");
    for line in table.lines() {
        let point = line.split(' ').nth(4).unwrap_or_default();
        // Services may have directories for their credentials, as long as they run.
        if !point.starts_with("/run/credentials/") {
            lines.insert(format!("mount {point}"));
        }
    }
}

fn said(lines: &mut BTreeSet<String>, what: &str, program: &str, args: &[&str]) {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|cause| panic!("{program}: {cause}"));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        lines.insert(format!("{what} {}", line.split_whitespace().next().unwrap_or_default()));
    }
}

/// The tables of nftables: one for each pod on the default network.
fn tables(lines: &mut BTreeSet<String>) {
    let output = Command::new("nft").args(["list", "tables"]).output().expect("nft(8)");
    assert!(output.status.success(), "nft list tables: {}", String::from_utf8_lossy(&output.stderr));
    lines.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
}

/// The leases of the default network, which are named by their addresses; beside them it has notes of its own.
fn leases(lines: &mut BTreeSet<String>) {
    walk(Path::new("/var/lib/cni/networks/default"), false, &mut |path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.parse::<std::net::Ipv4Addr>().is_ok() {
            lines.insert(format!("lease {path}"));
        }
    });
}

/// Network namespaces, and processes that belong to a pod.
fn processes(lines: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir("/proc").expect("proc(5)").flatten() {
        let path = entry.path();
        let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains("nspawn") || command.contains("rkt-crash/disk") {
            lines.insert(format!("process {}: {command}", entry.file_name().display()));
        }
        if let Ok(namespace) = std::fs::read_link(path.join("ns/net"))
            // hostnamed and others have a network of their own, too.
            && !command.contains("/lib/systemd/systemd-")
        {
            lines.insert(format!("network namespace {}", namespace.display()));
        }
    }
}

/// Calls `each` with every path below `dir`, or only those directly in it; links are not followed.
pub(crate) fn walk(dir: &Path, deep: bool, each: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        each(&path.to_string_lossy());
        if deep && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, deep, each);
        }
    }
}
