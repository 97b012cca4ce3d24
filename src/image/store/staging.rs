//! Directories that are being made or removed: locked by who does it, swept away by others once the lock is free.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::image::trust::Proof;
use crate::os::atomic::TEMPORARY_PREFIX;
use crate::os::lock::{Lock, Sharing};
use crate::os::{SysError, atomic, tree};

/// A locked directory of ours under a name that nobody looks for. Dropping it removes it.
#[must_use = "dropping it removes the directory"]
pub(super) struct Staging {
    path: PathBuf,
    _lock: Lock,
}

impl Staging {
    /// Makes a directory with `mode` in `parent`.
    ///
    /// # Locking
    /// Holds its lock exclusively until dropped.
    pub(super) fn new(parent: &Path, mode: u32) -> Result<Self, SysError> {
        // A sweep may take the lock, and the directory away, before we have the lock.
        for _ in 0..100 {
            let path = parent.join(format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::new_v4().simple()));
            std::fs::DirBuilder::new().mode(mode).create(&path).map_err(SysError::on("creating", &path))?;
            match Lock::try_on(&path, Sharing::Exclusive) {
                Ok(Some(lock)) if lock.is_still_at(&path) => {
                    set_mode(&path, mode)?;
                    return Ok(Self { path, _lock: lock });
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(SysError::new("locking a new directory in", parent, Errno::BUSY))
    }

    /// Makes the directory `path`, or waits until nobody else has it, after `notice`.
    ///
    /// One that is there and belongs to another user, whom nobody wants to wait for, is not waited for: then this is a
    /// directory by another name.
    ///
    /// # Locking
    /// Holds its lock exclusively until dropped.
    pub(super) fn wait_at(path: &Path, mode: u32, notice: impl Fn()) -> Result<Self, SysError> {
        loop {
            match std::fs::DirBuilder::new().mode(mode).create(path) {
                Ok(()) => {}
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(SysError::new("creating", path, cause)),
            }
            let own = rustix::process::geteuid().as_raw();
            match rustix::fs::lstat(path) {
                Ok(status) if status.st_uid != own => {
                    return Self::new(path.parent().unwrap_or(path), mode);
                }
                Ok(_) => {}
                Err(Errno::NOENT) => continue,
                Err(cause) => return Err(SysError::new("looking at", path, cause)),
            }
            match Lock::wait_on(path, Sharing::Exclusive, &notice) {
                Ok(lock) if lock.is_still_at(path) => return Ok(Self { path: path.to_owned(), _lock: lock }),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory of an image, whose content is synced and proven, what is found at `to`; what was there before
    /// is removed.
    ///
    /// Whoever looks at `to` sees the old directory or the new one, whole.
    pub(super) fn publish(self, to: &Path, _proof: &Proof) -> Result<(), SysError> {
        self.replace(to)
    }

    /// Does the same with what is no image, and is believed for what is in it.
    pub(super) fn replace(self, to: &Path) -> Result<(), SysError> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => exchange(&self.path, to)?,
            Err(cause) => return Err(SysError::new("renaming to", to, cause)),
        }
        sync_parent(to)
    }

    /// As [`Staging::replace`], but what was at `to` is then at `aside` and stays.
    ///
    /// Both names are in the directory of this one, whose sweep leaves `aside` alone.
    pub(super) fn replace_keeping(self, to: &Path, aside: &Path) -> Result<(), SysError> {
        std::fs::rename(&self.path, aside).map_err(SysError::on("renaming to", aside))?;
        if let Err(error) = exchange(aside, to) {
            // Under its own name it is removed with the rest of this; else by the next collection of trees.
            let _left = std::fs::rename(aside, &self.path);
            return Err(error);
        }
        sync_parent(to)
    }

    /// Makes the directory what is found at `to`, unless there is one already that is as good.
    pub(super) fn place(self, to: &Path) -> Result<(), SysError> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => sync_parent(to),
            Err(cause) => Err(SysError::new("renaming to", to, cause)),
        }
    }
}

/// Swaps ours with what is there; dropping ours then removes the old one.
fn exchange(ours: &Path, to: &Path) -> Result<(), SysError> {
    match rustix::fs::renameat_with(CWD, ours, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Someone else's of the same content, which the sticky bit keeps from us.
        Err(Errno::PERM | Errno::ACCESS) => Ok(()),
        // Removed meanwhile.
        Err(Errno::NOENT) => std::fs::rename(ours, to).map_err(SysError::on("renaming to", to)),
        Err(cause) => Err(SysError::new("renaming to", to, cause)),
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a publication nothing is there any more, or the directory that was replaced.
        if let Err(error) = tree::remove(&self.path) {
            log::warn!("{error}");
        }
    }
}

/// Removes each directory in `parent` that `is_ours` by name and that nobody has locked.
pub(super) fn sweep(parent: &Path, is_ours: impl Fn(&str) -> bool) {
    let names = super::names_in(parent).unwrap_or_default();
    for name in names.iter().filter(|name| is_ours(name)) {
        let path = parent.join(name);
        match Lock::try_on(&path, Sharing::Exclusive) {
            Ok(Some(lock)) if lock.is_still_at(&path) => {
                log::debug!("removing {}, which a process that died has left", path.display());
                if let Err(error) = tree::remove(&path) {
                    log::debug!("{error}");
                }
            }
            Ok(_) => {}
            // Not ours to open, or gone.
            Err(error) => log::debug!("{error}"),
        }
    }
}

fn sync_parent(path: &Path) -> Result<(), SysError> {
    atomic::sync_dir(path.parent().unwrap_or(path))
}

/// Sets the mode whatever the umask is.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), SysError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(SysError::on("changing the mode of", path))
}
