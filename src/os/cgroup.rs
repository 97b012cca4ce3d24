//! Control groups of version 2 (kernel documentation, cgroup-v2.rst).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::PollFlags;

use super::{SysError, wait};

const ROOT: &str = "/sys/fs/cgroup";
const PROCESSES: &str = "cgroup.procs";

/// Tells whether the machine's control groups are of version 2 alone.
///
/// # Errors
/// When nothing is mounted where they should be.
pub fn is_unified() -> Result<bool, SysError> {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    let found = rustix::fs::statfs(ROOT).map_err(SysError::on("looking at", ROOT))?;
    Ok(found.f_type == CGROUP2_SUPER_MAGIC)
}

/// Returns the control group of this process, relative to the root of the hierarchy: `/system.slice/x.service`.
///
/// # Errors
/// When /proc can't be read or names no group of version 2.
pub fn own() -> Result<String, SysError> {
    const OWN: &str = "/proc/self/cgroup";
    let text = std::fs::read_to_string(OWN).map_err(SysError::on("reading", OWN))?;
    let group = text.lines().find_map(|line| line.strip_prefix("0::"));
    group.map(str::to_owned).ok_or_else(|| {
        SysError::new(
            "reading",
            OWN,
            std::io::Error::new(std::io::ErrorKind::NotFound, "no group of version 2"),
        )
    })
}

/// Tells whether the kernel offers `controller` in the hierarchy of version 2.
pub fn has_controller(controller: &str) -> bool {
    let offered = std::fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    offered.split_ascii_whitespace().any(|name| name == controller)
}

/// Waits until no process is left in `group` or the deadline passes; tells whether it is empty or gone.
pub fn wait_empty(group: &str, deadline: Instant) -> bool {
    loop {
        let Ok(mut events) = File::open(path(group).join("cgroup.events")) else { return true };
        let mut text = String::new();
        if std::io::Read::read_to_string(&mut events, &mut text).is_err() || text.contains("populated 0") {
            return true;
        }
        // The kernel reports a change of this file as POLLPRI to whoever has read it.
        if Instant::now() >= deadline || !wait::ready(events.as_fd(), PollFlags::PRI, Some(deadline)) {
            return false;
        }
    }
}

/// Moves this process to where it is, so that the next move of any process, which comes soon, has not to wait.
///
/// The kernel lets who moves a process from group to group wait for all its processors, 10 to 20 ms, unless somebody else has just
/// done so. Where the group can't be written to, that time is all that is lost.
pub fn forestall_wait() {
    if let Ok(own) = own() {
        let _kept = std::fs::write(path(&own).join(PROCESSES), "0");
    }
}

/// Moves this process into the group `name` below its own, so that its own can be divided, and returns the file to write to
/// for who belongs into the one that was left.
///
/// # Errors
/// When the groups can't be written to.
pub fn step_aside(name: &str) -> Result<File, SysError> {
    let own = path(&own()?);
    let aside = own.join(name);
    std::fs::create_dir(&aside).map_err(SysError::on("creating", &aside))?;
    std::fs::write(aside.join(PROCESSES), "0").map_err(SysError::on("moving this process to", &aside))?;
    let path = own.join(PROCESSES);
    File::options().write(true).open(&path).map_err(SysError::on("opening", &path))
}

/// The directory of `group`, a path relative to the root of the hierarchy.
pub fn path(group: &str) -> PathBuf {
    Path::new(ROOT).join(group.trim_start_matches('/'))
}
