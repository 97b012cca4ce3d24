//! Writes the planned root of a pod's systemd to disk.

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::plan::{Entry, EntryKind};
use crate::os::{SysError, fifo};

/// Makes every entry below the directory `root`, which nobody else may write to, with exactly the planned modes.
///
/// # Errors
/// When one can't be made; what was made before it stays.
pub fn write(root: &Path, entries: &[Entry]) -> Result<(), SysError> {
    entries.iter().try_for_each(|entry| {
        let path = root.join(&entry.path);
        match &entry.kind {
            EntryKind::Directory(mode) => {
                std::fs::DirBuilder::new()
                    .mode(*mode)
                    .create(&path)
                    .map_err(SysError::on("creating", &path))?;
                set_mode(&path, *mode)
            }
            EntryKind::File(text, mode) => {
                std::fs::write(&path, text).map_err(SysError::on("writing", &path))?;
                set_mode(&path, *mode)
            }
            EntryKind::Fifo => fifo::make(&path),
            EntryKind::Link(target) => {
                std::os::unix::fs::symlink(target, &path).map_err(SysError::on("creating", &path))
            }
        }
    })
}

fn set_mode(path: &Path, mode: u32) -> Result<(), SysError> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(SysError::on("changing the mode of", path))
}
