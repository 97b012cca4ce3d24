//! Empty volumes: directories of the pod, made when it is prepared and removed with it.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::{Implicit, PodVolume, target};
use crate::appc::volume::VolumeKind;
use crate::os::{SysError, root::Root, tree};
use crate::pod::layout::PodPaths;

/// Makes the directory of each empty volume, with its mode and owner.
///
/// # Errors
/// When one can't be made.
pub fn make(volumes: &[PodVolume], paths: &PodPaths) -> Result<(), SysError> {
    for volume in volumes {
        let VolumeKind::Empty { mode, uid, gid } = volume.kind else { continue };
        let dir = paths.shared_volume(&volume.name);
        // Two mounts of one volume may differ in what they may do with it.
        if dir.exists() {
            continue;
        }
        let builder = || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        builder().map_err(SysError::on("creating", &dir))?;
        std::os::unix::fs::chown(&dir, Some(uid), Some(gid))
            .map_err(SysError::on("changing the owner of", &dir))?;
        // After the change of owner, which takes set-id bits away.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode))
            .map_err(SysError::on("changing the mode of", &dir))?;
    }
    Ok(())
}

/// Replaces the directories of `volumes` by copies of what the image `root` has at their paths: a Docker image expects
/// to find its own files in a volume that nobody else has filled (spec pods.md 3.7.1).
///
/// # Errors
/// When something can't be copied.
pub fn fill_from_image(volumes: &[Implicit], root: &Root, paths: &PodPaths) -> Result<(), SysError> {
    for implicit in volumes {
        // Without links, and nobody changes an image's tree: its path stays inside.
        let inside = root.real_path(&target(&implicit.path))?;
        let from = root.path().join(inside.strip_prefix("/").unwrap_or(&inside));
        if is_directory(&from) {
            let dir = paths.shared_volume(&implicit.volume);
            std::fs::remove_dir(&dir).map_err(SysError::on("removing", &dir))?;
            tree::copy(&from, &dir)?;
        }
    }
    Ok(())
}

fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}
