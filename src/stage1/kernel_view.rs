//! The kernel's file systems as the apps of a pod see them: made once, by the pod's init, and bound into the root of each app.
//!
//! systemd has settings for the same (`ProtectKernelTunables=` and the like, systemd.exec(5)). It works them off path by path
//! for each unit, and reads the whole table of mounts for each path: together more time than all else of an app's start.
//!
//! ```text
//! /run/host/rkt/{proc,sys,dev}    on the tmpfs that systemd-nspawn gives to every pod; systemd makes no units of mounts
//!                                 below /run/host
//! rkt/points                      NUMBER TARGET, a line each volume whose target is below /dev: nobody could make the
//!                                 place for it later
//! ```

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::plan::volume_point;
use crate::os::mount::detached::{Access, Detached, DeviceNodes, Submounts, View};
use crate::os::mount::{self, detached};
use crate::os::{SysError, root::Root};

/// The file with the places of volumes below /dev, relative to the root of stage1.
pub const POINTS: &str = "rkt/points";

/// The file systems, by their names in the root.
pub const FILE_SYSTEMS: [&str; 3] = ["proc", "sys", "dev"];

/// What systemd-nspawn mounts in every pod, for reading.
const HOST: &str = "run/host";
/// What systemd-nspawn keeps there to hide others with: nobody can open it.
const INACCESSIBLE: &str = "run/host/inaccessible";

/// What apps may look at (spec pods.md 3.9): without these a root app on 252 writes core_pattern, and is root on the host.
///
/// They are those of `ProtectKernelTunables=` (systemd.exec(5)).
const READ_ONLY: [&str; 12] = [
    "proc/acpi",
    "proc/apm",
    "proc/asound",
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/latency_stats",
    "proc/mtrr",
    "proc/scsi",
    "proc/sys",
    "proc/sysrq-trigger",
    "proc/timer_stats",
];

/// What no app has a use for (spec pods.md 3.9); what this kernel has not is left out.
const HIDDEN: [&str; 12] = [
    "dev/kmsg",
    "proc/config.gz",
    "proc/kallsyms",
    "proc/kcore",
    "proc/kmem",
    "proc/kmsg",
    "proc/mem",
    "proc/sched_debug",
    "sys/firmware",
    "sys/hypervisor",
    "sys/module",
    "sys/power",
];

/// What stays writable of /dev, file systems of their own.
///
/// The rest is the one file system of an app on which a device node that it makes could be opened.
const WRITABLE_DEVICES: [&str; 3] = ["dev/shm", "dev/pts", "dev/mqueue"];

/// Where the pod's systemd finds what apps see of the file system `name`.
pub fn source(name: &str) -> String {
    format!("/{HOST}/rkt/{name}")
}

/// Makes the view below `root`, the pod's root, before systemd is there.
///
/// # Errors
/// When the kernel refuses a step: a pod must not start without.
pub fn make(root: &Path) -> Result<(), SysError> {
    make_points(root)?;
    let host = root.join(HOST);
    detached::set_access(&host, Access::ReadWrite)?;
    let view = host.join("rkt");
    make_dir(&view)?;
    for (name, access) in [("proc", Access::ReadWrite), ("sys", Access::ReadOnly), ("dev", Access::ReadOnly)]
    {
        let target = view.join(name);
        make_dir(&target)?;
        show(&root.join(name), &target, access)?;
    }
    for path in WRITABLE_DEVICES {
        detached::set_access(&view.join(path), Access::ReadWrite)?;
    }
    for path in READ_ONLY.map(|path| view.join(path)) {
        // Asked for by itself: that a step finds nothing must not leave a path open that is there.
        if find(&path)?.is_some() {
            show(&path, &path, Access::ReadOnly)?;
        }
    }
    for path in HIDDEN.map(|path| view.join(path)) {
        if let Some(found) = find(&path)? {
            hide(root, &path, &found)?;
        }
    }
    detached::set_access(&host, Access::ReadOnly)
}

/// Mounts what is at `source`, and below it, on `target`.
fn show(source: &Path, target: &Path, access: Access) -> Result<(), SysError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened =
        rustix::fs::openat(CWD, source, flags, Mode::empty()).map_err(SysError::on("opening", source))?;
    let view = View { access, submounts: Submounts::Included, devices: DeviceNodes::Usable };
    Detached::of(opened.as_fd(), view, source)?.attach(target)
}

fn hide(root: &Path, path: &Path, found: &Metadata) -> Result<(), SysError> {
    let kind = if found.is_dir() { "dir" } else { "reg" };
    let nothing = root.join(INACCESSIBLE).join(kind);
    match show(&nothing, path, Access::ReadOnly) {
        // What systemd-nspawn has mounted there has lost its name, as its /proc/kmsg has, and takes no mount.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            mount::unmount(path)?;
            show(&nothing, path, Access::ReadOnly)
        }
        other => other,
    }
}

fn find(path: &Path) -> Result<Option<Metadata>, SysError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(SysError::new("looking at", path, cause)),
    }
}

fn make_dir(path: &Path) -> Result<(), SysError> {
    std::fs::create_dir(path).map_err(SysError::on("creating", path))
}

/// Makes what volumes are mounted on below /dev.
fn make_points(root: &Path) -> Result<(), SysError> {
    let file = root.join(POINTS);
    let text = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(SysError::on("reading", &file))?,
    };
    let pod = Root::open(root)?;
    for line in text.lines() {
        let damaged = || SysError::new("reading", &file, std::io::Error::from(ErrorKind::InvalidData));
        let (number, target) = line.split_once(' ').ok_or_else(damaged)?;
        let volume = root.join(volume_point(number.parse().map_err(|_| damaged())?));
        let volume = std::fs::metadata(&volume).map_err(SysError::on("looking at", &volume))?;
        let target = Path::new(target);
        if volume.is_dir() {
            pod.ensure_dir(target, 0o755)?;
        } else if let (Some(dir), Some(name)) = (target.parent(), target.file_name()) {
            let dir = Root::from_fd(pod.ensure_dir(dir, 0o755)?, dir);
            if dir.find_entry(name)?.is_none() {
                dir.replace_file(&name.to_string_lossy(), b"", 0o644)?;
            }
        }
    }
    Ok(())
}
