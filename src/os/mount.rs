//! Mounts made by file descriptor, and the private view that keeps them from the host.
//!
//! A pod's mounts live in a mount namespace of the process that becomes its supervisor: they vanish with it, and
//! nothing on the host can be "busy" because of them.

pub mod detached;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsOpenFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsopen, move_mount,
};
use rustix::thread::UnshareFlags;

use super::SysError;
use super::overlay::{Parts, detached};

/// An overlay of immutable trees with a writable directory on top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The trees below, the highest first; never written.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// Scratch space of the kernel, on the same file system as `upper`.
    pub work: PathBuf,
    /// The directory that shows the result.
    pub target: PathBuf,
}

/// Moves this process into a mount namespace of its own, which still sees what the host mounts and unmounts.
///
/// The propagation is slave, not private: a private copy would pin every mount that the host later removes.
///
/// # Errors
/// When the kernel refuses, as for a caller without CAP_SYS_ADMIN.
pub fn enter_own_namespace() -> Result<(), SysError> {
    let root = Path::new("/");
    unshare_mounts().map_err(SysError::on("making a mount namespace below", root))?;
    rustix::mount::mount_change(root, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(SysError::on("changing the mount propagation of", root))
}

#[allow(
    unsafe_code,
    reason = "unshare(2) is unsafe in rustix for CLONE_FILES only, which is not asked for here"
)]
fn unshare_mounts() -> Result<(), rustix::io::Errno> {
    // SAFETY: CLONE_NEWNS changes no file descriptor and no memory of this process.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

/// Tells whether the kernel has overlayfs, or a module of it, which it loads when it is asked for the first time.
fn knows_overlayfs() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay")
        || fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
}

/// Says why no overlay can have its upper directory at `path`, if that is so.
pub fn overlay_problem(path: &Path) -> Option<String> {
    /// File systems that overlayfs does not take for its upper directory (kernel documentation, overlayfs.rst).
    const UNFIT: [(i64, &str); 4] =
        [(0x794c_7630, "overlayfs"), (0x6969, "nfs"), (0x6573_5546, "fuse"), (0x4d44, "vfat")];
    if !knows_overlayfs() {
        return Some("overlay support: the kernel does not know overlayfs".into());
    }
    let found = rustix::fs::statfs(path).ok()?;
    let (_, name) = UNFIT.iter().find(|(magic, _)| found.f_type == *magic)?;
    Some(format!("unsupported filesystem: {name} at {}", path.display()))
}

/// Mounts `overlay`.
///
/// # Errors
/// When a layer can't be opened or the kernel refuses a step; overlayfs says why in the kernel's log alone.
pub fn overlay(overlay: &Overlay) -> Result<(), SysError> {
    let parts = Parts { lower: &overlay.lower, writable: Some((&overlay.upper, &overlay.work)) };
    move_onto(detached(parts, &overlay.target)?, &overlay.target)
}

/// Mounts what an overlay of `layers` shows, the uppermost first, on `target` for reading alone: no layer is changed.
///
/// # Errors
/// As [`overlay`].
pub fn overlay_to_read(layers: &[PathBuf], target: &Path) -> Result<(), SysError> {
    move_onto(detached(Parts { lower: layers, writable: None }, target)?, target)
}

fn move_onto(mount: OwnedFd, target: &Path) -> Result<(), SysError> {
    move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(SysError::on("mounting an overlay on", target))
}

/// Mounts the directory `path` on itself, so that device nodes below it can't be opened.
///
/// # Errors
/// When the kernel refuses.
pub fn without_devices(path: &Path) -> Result<(), SysError> {
    rustix::mount::mount_bind(path, path).map_err(SysError::on("mounting", path))?;
    let flags = MountFlags::BIND | MountFlags::NODEV;
    rustix::mount::mount_remount(path, flags, "").map_err(SysError::on("remounting", path))
}

/// Lists the mount points at and below `path` that this process sees, deepest first.
///
/// # Errors
/// When the kernel's table can't be read.
pub fn mount_points_below(path: &Path) -> Result<Vec<PathBuf>, SysError> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = std::fs::read(TABLE).map_err(SysError::on("reading", TABLE))?;
    // The table has no links in its paths.
    let path = match path.canonicalize() {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(SysError::on("looking at", path))?,
    };
    let mut found: Vec<PathBuf> =
        parse_mount_points(&table).filter(|point| point.starts_with(&path)).collect();
    found.reverse();
    Ok(found)
}

/// Unmounts what is on top at `point`, without following a link at its end.
///
/// # Errors
/// When it is busy or no mount.
pub fn unmount(point: &Path) -> Result<(), SysError> {
    rustix::mount::unmount(point, UnmountFlags::NOFOLLOW).map_err(SysError::on("unmounting", point))
}

/// Reads the fifth field of proc_pid_mountinfo(5), in which blanks and backslashes are octal escapes.
fn parse_mount_points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table.split(|&byte| byte == b'\n').filter_map(|line| {
        let field = line.split(|&byte| byte == b' ').nth(4)?;
        let mut path = Vec::with_capacity(field.len());
        let mut rest = field;
        while let Some((&first, tail)) = rest.split_first() {
            let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
            match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
                Some(byte) if first == b'\\' => {
                    path.push(byte);
                    rest = &tail[3..];
                }
                _ => {
                    path.push(first);
                    rest = tail;
                }
            }
        }
        Some(OsString::from_vec(path).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let table = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw\n37 1 0:1 / /proc rw - proc proc rw\n";
        let points: Vec<PathBuf> = parse_mount_points(table).collect();
        assert_eq!(points, [PathBuf::from("/mnt/a b\\c"), PathBuf::from("/proc")]);
    }
}
