//! The pod's journal as the host sees it: a link that lets `journalctl -M` and `journalctl -m` find it.

use std::path::{Path, PathBuf};

use crate::appc::pod_uuid::PodUuid;
use crate::os::SysError;

/// Where the host's journal files are, if it keeps any.
const HOST_JOURNAL: &str = "/var/log/journal";

/// The link of a pod that is about to start: a pod that does not start drops it, and it is gone.
#[derive(Debug)]
#[must_use = "the link is removed when dropped"]
pub struct Link {
    path: PathBuf,
}

impl Link {
    /// Links the host's journal directory of the pod's machine ID to the pod's own; without a persistent journal on the
    /// host there is nothing to link.
    ///
    /// # Errors
    /// When the link can't be made.
    pub fn make(uuid: &PodUuid, stage1_root: &Path) -> Result<Self, SysError> {
        Self::make_in(Path::new(HOST_JOURNAL), uuid, stage1_root)
    }

    fn make_in(host: &Path, uuid: &PodUuid, stage1_root: &Path) -> Result<Self, SysError> {
        let path = host.join(uuid.machine_id());
        if host.is_dir() {
            let target = stage1_root.join("var/log/journal").join(uuid.machine_id());
            remove(&path)?;
            std::os::unix::fs::symlink(&target, &path).map_err(SysError::on("creating", &path))?;
        }
        Ok(Self { path })
    }

    /// Leaves the link to the gc.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            // The first error is on its way to the user.
            log::warn!("{error}");
        }
    }
}

/// Removes the link, if it is there; a directory of that name is somebody else's.
///
/// # Errors
/// When it can't be removed.
pub fn unlink(uuid: &PodUuid) -> Result<(), SysError> {
    remove(&Path::new(HOST_JOURNAL).join(uuid.machine_id()))
}

fn remove(link: &Path) -> Result<(), SysError> {
    match std::fs::symlink_metadata(link) {
        Ok(found) if found.is_symlink() => std::fs::remove_file(link).map_err(SysError::on("removing", link)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_that_is_kept_outlives_its_command() {
        let host = tempfile::tempdir().unwrap();
        let uuid: PodUuid = "6e1f0c9a-52d4-4b38-a1e0-93cf4d2688b7".parse().unwrap();
        let path = host.path().join(uuid.machine_id());
        let make = |root: &str| Link::make_in(host.path(), &uuid, Path::new(root));
        let link = make("/pod").unwrap();
        let target = format!("/pod/var/log/journal/{}", uuid.machine_id());
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new(&target));
        drop(link);
        assert!(!path.is_symlink());
        make("/pod").unwrap().keep();
        make("/elsewhere").unwrap().keep();
        assert!(std::fs::read_link(&path).unwrap().starts_with("/elsewhere"), "a former link is replaced");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(make("/pod").is_err());
        assert!(path.is_dir(), "what is no link is somebody else's");
        Link::make_in(&host.path().join("none"), &uuid, Path::new("/pod")).unwrap().keep();
    }
}
