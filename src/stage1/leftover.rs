//! What systemd-nspawn leaves in `/run` when it is killed: otherwise it takes that away itself.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::os::{SysError, tree};

/// Where systemd-nspawn of every version keeps its own files (src/nspawn/nspawn.c, src/shared/discover-image.c).
const RUN: &str = "/run/systemd/nspawn";

/// Removes it for a machine that has ended, whose root directory is still there.
///
/// # Errors
/// When something can't be removed.
pub fn remove(machine: &str, stage1_root: &Path) -> Result<(), SysError> {
    let run = Path::new(RUN);
    let mut left: Vec<PathBuf> =
        ["propagate", "unix-export"].iter().map(|dir| run.join(dir).join(machine)).collect();
    if let Ok(found) = std::fs::symlink_metadata(stage1_root) {
        left.push(run.join(format!("locks/inode-{}:{}", found.dev(), found.ino())));
    }
    left.iter().try_for_each(|path| match tree::remove(path) {
        // On a host on which no machine has run since it booted.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    })
}
