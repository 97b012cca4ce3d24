//! Seals: what a tree looked like when it was made, so that each start can see whether it still does.
//!
//! A seal is a hash over what stat(2) says of everything in a tree, which costs a start two microseconds a file. It finds
//! what was changed, added or removed by accident. Content that was changed with the time set back is found by
//! `rkt image verify`, which reads all of it.
//!
//! ```text
//! <data>/cas/tree/NAME/seal     1 HEXADECIMAL     the version, and the SHA-256
//! ```

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};

use super::tree::TreeId;
use super::{ROOTFS, Store, StoreError};
use crate::appc::image_id::ImageId;
use crate::os::walk::Walk;
use crate::os::{SysError, atomic, file};

const SEAL: &str = "seal";
const VERSION: &str = "1";

impl Store {
    /// Looks whether the tree, made of `image` and those below it, is still as it was made.
    ///
    /// # Errors
    /// When it is not, or can't be looked at. A tree that was made by an older version of this program has no seal.
    pub fn check_tree(&self, image: &ImageId, tree: &TreeId) -> Result<(), StoreError> {
        for rootfs in self.tree_layers(tree)? {
            let dir = rootfs.parent().unwrap_or(&rootfs);
            if is_broken(dir)? {
                return Err(StoreError::TreeChanged { image: *image });
            }
        }
        Ok(())
    }
}

/// Seals the tree in `dir`, which is complete and not visible yet. The caller syncs.
pub(super) fn put_on(dir: &Path) -> Result<(), SysError> {
    let line = format!("{}\n", seal_of(&dir.join(ROOTFS))?);
    let path = dir.join(SEAL);
    match std::fs::remove_file(&path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(SysError::new("removing", &path, cause))
        }
        _ => atomic::write_new(&path, line.as_bytes(), 0o600),
    }
}

fn is_broken(dir: &Path) -> Result<bool, SysError> {
    let sealed = match file::read_text(&dir.join(SEAL)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    // One of a later version says nothing to this one.
    let is_known = sealed.split(' ').next() == Some(VERSION);
    Ok(is_known && sealed.trim_end() != seal_of(&dir.join(ROOTFS))?)
}

fn seal_of(rootfs: &Path) -> Result<String, SysError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(rootfs, flags, Mode::empty()).map_err(SysError::on("opening", rootfs))?;
    let status = rustix::fs::fstat(&top).map_err(SysError::on("looking at", rootfs))?;
    let mut hasher = Sha256::new();
    add(&mut hasher, Path::new(""), &status);
    let mut walk = Walk::new(top, rootfs)?;
    while let Some(step) = walk.step()? {
        add(&mut hasher, &step.path, &step.status);
    }
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{VERSION} {digest}"))
}

fn add(hasher: &mut Sha256, path: &Path, status: &Stat) {
    let path = path.as_os_str().as_bytes();
    hasher.update((path.len() as u64).to_le_bytes());
    hasher.update(path);
    // A directory's size is the file system's business.
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    let size = if is_directory { 0 } else { status.st_size };
    for number in [i64::from(status.st_mode), i64::from(status.st_uid), i64::from(status.st_gid), size] {
        hasher.update(number.to_le_bytes());
    }
    hasher.update(status.st_rdev.to_le_bytes());
    hasher.update(status.st_mtime.to_le_bytes());
    hasher.update(status.st_mtime_nsec.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join(ROOTFS);
        std::fs::create_dir_all(rootfs.join("bin")).unwrap();
        std::fs::write(rootfs.join("bin/app"), "one").unwrap();
        symlink("app", rootfs.join("bin/link")).unwrap();
        put_on(dir.path()).unwrap();
        dir
    }

    #[test]
    fn a_seal_breaks_by_whatever_is_done_to_the_tree() {
        type Deed = fn(&Path);
        let deeds: [(&str, Deed); 7] = [
            ("changed", |root| std::fs::write(root.join("bin/app"), "two").unwrap()),
            ("longer", |root| std::fs::write(root.join("bin/app"), "three").unwrap()),
            ("added", |root| std::fs::write(root.join("new"), "").unwrap()),
            ("removed", |root| std::fs::remove_file(root.join("bin/app")).unwrap()),
            ("renamed", |root| std::fs::rename(root.join("bin/app"), root.join("bin/other")).unwrap()),
            ("mode", |root| {
                std::fs::set_permissions(root.join("bin/app"), PermissionsExt::from_mode(0o4755)).unwrap();
            }),
            ("top", |root| std::fs::set_permissions(root, PermissionsExt::from_mode(0o777)).unwrap()),
        ];
        for (name, deed) in deeds {
            let dir = tree();
            assert!(!is_broken(dir.path()).unwrap(), "{name}");
            deed(&dir.path().join(ROOTFS));
            assert!(is_broken(dir.path()).unwrap(), "{name}");
        }
    }

    #[test]
    fn a_seal_goes_with_its_tree_and_may_be_put_on_again() {
        let dir = tree();
        let rootfs = dir.path().join(ROOTFS);
        std::fs::write(rootfs.join("more"), "").unwrap();
        put_on(dir.path()).unwrap();
        let moved = tempfile::tempdir().unwrap();
        let to = moved.path().join("moved");
        std::fs::rename(dir.path(), &to).unwrap();
        assert!(!is_broken(&to).unwrap());
        std::fs::write(to.join(SEAL), "2 something\n").unwrap();
        assert!(!is_broken(&to).unwrap());
        std::fs::remove_file(to.join(SEAL)).unwrap();
        assert!(!is_broken(&to).unwrap());
    }
}
