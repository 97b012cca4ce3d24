//! The pod's journal as the host sees it: a link that lets `journalctl -M` and `journalctl -m` find it.

use std::path::{Path, PathBuf};

use crate::appc::pod_uuid::PodUuid;
use crate::os::SysError;

/// Where the host's journal files are, if it keeps any.
const HOST_JOURNAL: &str = "/var/log/journal";

/// Links the host's journal directory of the pod's machine ID to the pod's own; without a persistent journal on the
/// host there is nothing to link.
///
/// # Errors
/// When the link can't be made.
pub fn link(uuid: &PodUuid, stage1_root: &Path) -> Result<(), SysError> {
    if !Path::new(HOST_JOURNAL).is_dir() {
        return Ok(());
    }
    let link = path(uuid);
    let target = stage1_root.join("var/log/journal").join(uuid.machine_id());
    unlink(uuid)?;
    std::os::unix::fs::symlink(&target, &link).map_err(SysError::on("creating", &link))
}

/// Removes the link, if it is there; a directory of that name is somebody else's.
///
/// # Errors
/// When it can't be removed.
pub fn unlink(uuid: &PodUuid) -> Result<(), SysError> {
    let link = path(uuid);
    match std::fs::symlink_metadata(&link) {
        Ok(found) if found.is_symlink() => {
            std::fs::remove_file(&link).map_err(SysError::on("removing", &link))
        }
        _ => Ok(()),
    }
}

fn path(uuid: &PodUuid) -> PathBuf {
    Path::new(HOST_JOURNAL).join(uuid.machine_id())
}
