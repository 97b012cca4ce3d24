//! Overlays of any number of layers, as mounts that are nowhere until they are moved somewhere.
//!
//! fsconfig(2) takes no string over 255 bytes. A few layers fit into `lowerdir`; more are given one by one with
//! `lowerdir+`, which kernels have since 6.7; on older ones, mount(2) takes them all in one page. That needs a mount
//! namespace to mount in, which a thread makes for itself and leaves again by ending.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, open_tree,
};
use rustix::thread::UnshareFlags;

use super::SysError;

/// What fsconfig(2) takes.
const STRING_LIMIT: usize = 255;

/// An overlay that is to be made.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    /// The directories below, the highest first.
    pub(super) lower: &'a [PathBuf],
    /// Where changes go, and scratch space of the kernel; without, the overlay is read-only.
    pub(super) writable: Option<(&'a Path, &'a Path)>,
}

/// Mounts an overlay of the directories `lower`, the highest first, read-only and nowhere.
///
/// # Errors
/// When a directory can't be opened, or the kernel refuses.
pub fn read_only(lower: &[PathBuf]) -> Result<OwnedFd, SysError> {
    let point = lower.first().map_or(Path::new("/"), PathBuf::as_path);
    detached(Parts { lower, writable: None }, point)
}

/// Makes an overlay. `point` is any directory, and what messages call it.
pub(super) fn detached(parts: Parts<'_>, point: &Path) -> Result<OwnedFd, SysError> {
    let opened = Opened::new(parts)?;
    let mounted = match by_descriptors(&opened) {
        // An old kernel does not know `lowerdir+`.
        Err(Errno::INVAL) if opened.joined().len() > STRING_LIMIT => {
            drop(opened);
            return by_mount_call(parts, point);
        }
        other => other,
    };
    mounted.map_err(SysError::on("mounting an overlay on", point))
}

/// The directories of an overlay, opened in the mount namespace of who mounts it: of no other does overlayfs take any.
struct Opened {
    lower: Vec<OwnedFd>,
    writable: Option<(OwnedFd, OwnedFd)>,
}

impl Opened {
    fn new(parts: Parts<'_>) -> Result<Self, SysError> {
        let open = |dir: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(dir, flags, Mode::empty()).map_err(SysError::on("opening", dir))
        };
        let lower = parts.lower.iter().map(|dir| open(dir)).collect::<Result<_, _>>()?;
        let writable = match parts.writable {
            Some((upper, work)) => Some((open(upper)?, open(work)?)),
            None => None,
        };
        Ok(Self { lower, writable })
    }

    fn joined(&self) -> String {
        self.lower.iter().map(name).collect::<Vec<_>>().join(":")
    }
}

/// How a layer is named to overlayfs. In a path of ours a colon or a backslash would mean something, differently for
/// each option and kernel.
fn name(dir: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", dir.as_raw_fd())
}

fn by_descriptors(opened: &Opened) -> Result<OwnedFd, Errno> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", "overlay")?;
    match opened.joined() {
        text if text.len() <= STRING_LIMIT => fsconfig_set_string(&fs, "lowerdir", text)?,
        _ => opened.lower.iter().try_for_each(|dir| fsconfig_set_string(&fs, "lowerdir+", name(dir)))?,
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    match &opened.writable {
        Some((upper, work)) => {
            fsconfig_set_string(&fs, "upperdir", name(upper))?;
            fsconfig_set_string(&fs, "workdir", name(work))?;
        }
        None => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
    }
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn by_mount_call(parts: Parts<'_>, point: &Path) -> Result<OwnedFd, SysError> {
    let refused = |cause: Errno| SysError::new("mounting an overlay on", point, cause);
    std::thread::scope(|scope| {
        let mounting = scope.spawn(|| {
            unshare_this_thread().map_err(refused)?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).map_err(refused)?;
            let opened = Opened::new(parts)?;
            let mut options = format!("lowerdir={}", opened.joined());
            let mut flags = MountFlags::NODEV;
            match &opened.writable {
                Some((upper, work)) => {
                    options += &format!(",upperdir={},workdir={}", name(upper), name(work));
                }
                None => flags |= MountFlags::RDONLY,
            }
            let options = CString::new(options).map_err(|_| refused(Errno::INVAL))?;
            rustix::mount::mount("overlay", point, "overlay", flags, options.as_c_str()).map_err(refused)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(CWD, point, flags).map_err(refused)
        });
        mounting.join().expect("the mounting thread does not panic")
    })
}

#[allow(
    unsafe_code,
    reason = "unshare(2) is unsafe in rustix for CLONE_FILES only, which is not asked for here"
)]
fn unshare_this_thread() -> Result<(), Errno> {
    // SAFETY: CLONE_NEWNS and CLONE_FS change no file descriptor and no memory, and what they change ends with the thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::root::Root;

    /// Directories that each have a file of their own and one that all have.
    fn layers(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
        // Overlayfs has no layers on itself (more than two deep), which /tmp may be.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let layers: Vec<PathBuf> = (0..count).map(|index| dir.path().join(index.to_string())).collect();
        for (index, layer) in layers.iter().enumerate() {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(layer.join(format!("own-{index}")), "").unwrap();
            std::fs::write(layer.join("shared"), index.to_string()).unwrap();
        }
        (dir, layers)
    }

    fn check(mount: OwnedFd, count: usize) {
        let root = Root::from_fd(mount, Path::new("/overlay"));
        assert_eq!(root.read_file(Path::new("/shared"), 9).unwrap(), b"0", "the highest comes first");
        for index in [0, count / 2, count - 1] {
            assert!(root.find_file(Path::new(&format!("own-{index}"))).unwrap().is_some(), "{index}");
        }
    }

    #[test]
    fn any_number_of_layers_is_seen_as_one_and_is_mounted_nowhere() {
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for count in [2, 15, 128, 400] {
            let (_dir, layers) = layers(count);
            let mount = read_only(&layers).unwrap();
            assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
            check(mount, count);
        }
    }

    #[test]
    fn kernels_without_single_layers_take_them_by_mount() {
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let (_dir, layers) = layers(128);
        let mount = by_mount_call(Parts { lower: &layers, writable: None }, &layers[0]).unwrap();
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
        check(mount, 128);
    }
}
