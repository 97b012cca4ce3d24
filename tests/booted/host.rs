//! The booted system that the tests run on: how they ask it, and a root file system for what they start.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::support::{Run, run::find_program, wait};

/// Who uses the system: most tests with others, some alone.
static USERS: RwLock<()> = RwLock::new(());

/// A system that systemd has booted, and root on it. Each booted test starts by taking one.
#[derive(Debug)]
pub(crate) struct Host {
    #[expect(dead_code, reason = "held until the test ends")]
    turn: Turn,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held until the test ends")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Host {
    /// Takes the system together with other tests.
    pub(crate) fn take() -> Self {
        Self::check();
        // A test that failed leaves nothing behind that would be poisonous.
        Self { turn: Turn::Shared(USERS.read().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// Takes the system for this test alone: it counts what there is, or stops what others need.
    pub(crate) fn take_alone() -> Self {
        Self::check();
        Self { turn: Turn::Alone(USERS.write().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// Makes sure that there is a booted system; a test never skips itself.
    fn check() {
        // As sd_booted(3) has it.
        assert!(
            Path::new("/run/systemd/system").is_dir(),
            "systemd is not the first process of this machine: run the booted tests in the lab, with `make test` (all of \
             them) or `tests/lab/booted bookworm FILTER` (some); `make lab` gives a shell there"
        );
        assert!(
            rustix::process::geteuid().is_root(),
            "booted tests need root: run them with `make test` as root"
        );
    }

    /// One property of a machine, as machined tells it; `None` when machined knows no such machine.
    pub(crate) fn machine_property(&self, machine: &str, property: &str) -> Option<String> {
        let ended = Run::new("machinectl").args(["show", "--value", "--property", property, machine]).end();
        ended.status.success().then(|| ended.stdout.trim_end().to_owned())
    }

    /// One property of a unit of the host's systemd.
    pub(crate) fn unit_property(&self, unit: &str, property: &str) -> String {
        Run::new("systemctl")
            .args(["show", "--value", "--property", property, "--", unit])
            .stdout()
            .trim_end()
            .to_owned()
    }

    /// Waits until machined knows the machine as running, and returns its leader.
    pub(crate) fn wait_for_machine(&self, machine: &str) -> u32 {
        wait::until(&format!("machine {machine} is running"), || {
            match self.machine_property(machine, "State").as_deref() {
                Some("running") => Ok(()),
                other => Err(other.map(str::to_owned)),
            }
        });
        let leader = self.machine_property(machine, "Leader").expect("a running machine has a leader");
        leader.parse().expect("a process ID")
    }

    /// Waits until machined has forgotten the machine.
    pub(crate) fn wait_for_machine_gone(&self, machine: &str) {
        wait::until(&format!("machine {machine} is gone"), || {
            self.machine_property(machine, "State").map_or(Ok(()), Err)
        });
    }
}

/// The processes in a control group and below it, by their names.
pub(crate) fn processes_below(cgroup: &str) -> Vec<String> {
    pids_below(cgroup)
        .into_iter()
        .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned())
        .collect()
}

/// The processes in a control group and below it.
pub(crate) fn pids_below(cgroup: &str) -> Vec<u32> {
    let inside = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("0::").is_some_and(|group| group.starts_with(cgroup)))
    };
    let entries = std::fs::read_dir("/proc").expect("a /proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| inside(*pid)).collect()
}

/// The cgroup of a process in the unified hierarchy.
pub(crate) fn cgroup_of(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a living process");
    text.lines().find_map(|line| line.strip_prefix("0::")).expect("a unified hierarchy").to_owned()
}

/// A temporary directory on a file system that overlayfs can use as its upper one, as /var is on a host.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rkt-test-").tempdir_in("/var/tmp").expect("a directory in /var/tmp")
}

/// Fills `dir` with a small root file system: a static busybox under all of the `names`.
pub(crate) fn busybox_root(dir: &Path, names: &[&str]) -> PathBuf {
    let root = dir.join("root");
    for name in ["bin", "usr", "etc", "proc", "sys", "dev", "run", "tmp"] {
        std::fs::create_dir_all(root.join(name)).expect("a new directory");
    }
    let busybox = find_program("busybox").expect("busybox is installed (package busybox-static)");
    std::fs::copy(busybox, root.join("bin/busybox")).expect("a copy of busybox");
    for name in names {
        symlink("busybox", root.join("bin").join(name)).expect("a new link");
    }
    root
}
