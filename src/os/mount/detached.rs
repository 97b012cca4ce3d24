//! A part of the host's file tree as a mount that hangs nowhere yet: taken once by descriptor, then given to a pod.
//!
//! What the name of the source leads to later changes nothing any more. The copy is private: nothing that is mounted or
//! unmounted in a pod reaches the host, and what the host mounts below the source later does not come in with rights
//! that nobody has checked.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::os::SysError;

/// Whether a mount can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Every write is EROFS.
    ReadOnly,
    /// As the files' own modes say.
    ReadWrite,
}

/// Whether what is mounted below a directory is seen too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submounts {
    /// It is.
    Included,
    /// The directories below are as they are without.
    Hidden,
}

/// Whether device nodes can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceNodes {
    /// They are what they are.
    Usable,
    /// Opening one is EACCES.
    Useless,
}

/// How a part of the tree is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Whether it can be written to.
    pub access: Access,
    /// Whether what is mounted below is part of it.
    pub submounts: Submounts,
    /// Whether its device nodes work.
    pub devices: DeviceNodes,
}

/// A mount without a place.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Takes the open file or directory `source` of this mount namespace; `shown` is what messages call it.
    ///
    /// # Errors
    /// When the kernel refuses, as for a caller without CAP_SYS_ADMIN.
    pub fn of(source: BorrowedFd<'_>, view: View, shown: &Path) -> Result<Self, SysError> {
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        if view.submounts == Submounts::Included {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let tree = open_tree(source, "", flags).map_err(SysError::on("taking a view of", shown))?;
        set_attributes(tree.as_fd(), view).map_err(SysError::on("restricting the view of", shown))?;
        Ok(Self(tree))
    }

    /// Mounts it on `target`, a directory or a file as it is one itself.
    ///
    /// # Errors
    /// When the kernel refuses, as for a target of the other kind.
    pub fn attach(&self, target: &Path) -> Result<(), SysError> {
        move_mount(&self.0, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(SysError::on("mounting on", target))
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Changes whether the mount at `point` can be written to, and nothing of what is mounted below it.
///
/// # Errors
/// When `point` is no mount point, or the kernel refuses.
pub fn set_access(point: &Path, access: Access) -> Result<(), SysError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let mount = open_tree(CWD, point, flags).map_err(SysError::on("opening", point))?;
    let mut attributes = unchanged();
    match access {
        Access::ReadOnly => attributes.attr_set = libc::MOUNT_ATTR_RDONLY,
        Access::ReadWrite => attributes.attr_clr = libc::MOUNT_ATTR_RDONLY,
    }
    set(mount.as_fd(), 0, &attributes).map_err(SysError::on("changing who may write to", point))
}

fn set_attributes(tree: BorrowedFd<'_>, view: View) -> Result<(), Errno> {
    let mut attributes = libc::mount_attr { propagation: libc::MS_PRIVATE, ..unchanged() };
    if view.access == Access::ReadOnly {
        attributes.attr_set |= libc::MOUNT_ATTR_RDONLY;
    }
    if view.devices == DeviceNodes::Useless {
        attributes.attr_set |= libc::MOUNT_ATTR_NODEV;
    }
    set(tree, libc::AT_RECURSIVE, &attributes)
}

fn unchanged() -> libc::mount_attr {
    libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 }
}

#[allow(unsafe_code, reason = "mount_setattr(2) has no safe wrapper")]
fn set(mount: BorrowedFd<'_>, flags: libc::c_int, attributes: &libc::mount_attr) -> Result<(), Errno> {
    // SAFETY: the path is a literal with its NUL, the structure is as long as said, and both outlive the call, which
    // writes to neither.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
