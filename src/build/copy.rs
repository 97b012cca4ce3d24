//! Copying from the host into the image (spec build-tools.md 6.3.2).
//!
//! The copy is made beside the image and moved into it whole. Where it goes is resolved by the kernel inside the root
//! file system, so that no link in there leads out.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;

use super::edit::EditError;
use super::error::BuildError;
use super::history::Record;
use super::state::{Build, write_manifest};
use crate::os::SysError;
use crate::os::root::{Root, stat_at};
use crate::os::tree::{self, CopyOptions, HardLinks};

/// The mode of directories that are made on the way to a target.
const PARENT_MODE: u32 = 0o755;

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The state of this build was inside a source, and was left out.
    pub left_out_state: bool,
}

impl Build {
    /// Makes `target`, a path in the image, a copy of `source`.
    ///
    /// # Errors
    /// The target is a directory, or something for which a directory would have to go; something can't be copied.
    pub fn copy(&self, record: &Record, source: &Path, target: &Path) -> Result<Copied, BuildError> {
        if target.as_os_str().as_bytes().ends_with(b"/") {
            return Err(BuildError::TrailingSlash(target.to_owned()));
        }
        let (Some(Component::Normal(name)), Some(parent)) =
            (target.components().next_back(), target.parent())
        else {
            return Err(BuildError::TargetIsRoot(target.to_owned()));
        };
        self.copy_into(record, vec![(source.to_owned(), name.to_owned())], parent)
    }

    /// Copies each source into the directory `target` of the image, under its own name; of one that ends in a slash,
    /// what is in it.
    ///
    /// # Errors
    /// As [`Build::copy`], or the target is no directory.
    pub fn copy_to_dir(
        &self,
        record: &Record,
        sources: &[PathBuf],
        target: &Path,
    ) -> Result<Copied, BuildError> {
        let mut things = Vec::new();
        for source in sources {
            match own_name(source) {
                Some(name) => things.push((source.clone(), name.to_owned())),
                None => things.extend(content(source)?),
            }
        }
        self.copy_into(record, things, target)
    }

    fn copy_into(
        &self,
        record: &Record,
        things: Vec<(PathBuf, OsString)>,
        dir: &Path,
    ) -> Result<Copied, BuildError> {
        let root = Root::from_fd(self.open_rootfs()?, &self.workspace.rootfs());
        let mut manifest = self.manifest()?;
        record.add_to(&mut manifest);
        manifest.validate().map_err(EditError::from)?;
        let unfinished = self.workspace.unfinished()?;
        let state = Some(self.workspace.identity()?);
        let options = CopyOptions { hard_links: HardLinks::Separate, without: state };
        let mut copied = Copied { left_out_state: false };
        let mut staged = Vec::new();
        for (index, (source, name)) in things.into_iter().enumerate() {
            let copy = unfinished.path().join(index.to_string());
            match tree::copy_with(&source, &copy, options) {
                Ok(done) if done.left_out && copy.symlink_metadata().is_err() => {
                    copied.left_out_state = true;
                    continue;
                }
                Ok(done) => copied.left_out_state |= done.left_out,
                Err(cause) if cause.kind() == ErrorKind::NotFound && source.symlink_metadata().is_err() => {
                    return Err(BuildError::Missing(source));
                }
                Err(cause) => return Err(cause.into()),
            }
            staged.push((copy, name));
        }
        let parent = root.ensure_dir(dir, PARENT_MODE).map_err(|cause| match cause.kind() {
            ErrorKind::NotADirectory => BuildError::NotADirectory(dir.to_owned()),
            _ => cause.into(),
        })?;
        let shown = root.path().join(dir.strip_prefix("/").unwrap_or(dir));
        for (copy, name) in &staged {
            check_free(copy, &parent, name, &shown)?;
        }
        for (copy, name) in &staged {
            rustix::fs::renameat(CWD, copy, &parent, name)
                .map_err(SysError::on("creating", shown.join(name)))?;
        }
        write_manifest(&self.workspace.manifest(), &manifest)?;
        Ok(copied)
    }
}

/// Checks that a copy may go where something may be: a directory replaces nothing, and nothing replaces a directory.
fn check_free(copy: &Path, parent: &OwnedFd, name: &OsStr, shown: &Path) -> Result<(), BuildError> {
    use std::os::fd::AsFd;
    let there = match stat_at(parent.as_fd(), name) {
        Ok(status) => status,
        Err(Errno::NOENT) => return Ok(()),
        Err(cause) => return Err(SysError::new("looking at", shown.join(name), cause).into()),
    };
    let status = copy.symlink_metadata().map_err(SysError::on("looking at", copy))?;
    if status.is_dir() {
        return Err(BuildError::Exists(shown.join(name)));
    }
    if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
        return Err(BuildError::IsDirectory(shown.join(name)));
    }
    Ok(())
}

/// The name that a source has in a directory; `None` if its content is meant.
fn own_name(source: &Path) -> Option<&OsStr> {
    let bytes = source.as_os_str().as_bytes();
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") {
        return None;
    }
    match source.components().next_back() {
        Some(Component::Normal(name)) => Some(name),
        _ => None,
    }
}

/// What is in a directory, with its names, in their order.
fn content(dir: &Path) -> Result<Vec<(PathBuf, OsString)>, BuildError> {
    let failed = |cause: std::io::Error| match cause.kind() {
        ErrorKind::NotFound => BuildError::Missing(dir.to_owned()),
        _ => SysError::new("reading", dir, cause).into(),
    };
    let mut things = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        things.push((entry.path(), entry.file_name()));
    }
    things.sort();
    Ok(things)
}
