//! One change of an image's file, without a build of the user's (spec build-tools.md 6.5).
//!
//! The image is unpacked into a state of its own, away from where the user works, and written over its file. The file
//! is the old one or the new one, whatever happens.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::begin::{Begun, Start};
use super::error::BuildError;
use super::state::{Unfinished, Workspace};
use super::write::{Existing, Written};
use crate::os::SysError;

/// An image that is being changed. What was not written is discarded when this is dropped.
#[derive(Debug)]
pub struct OneShot {
    workspace: Workspace,
    file: PathBuf,
    /// Dropped last.
    _dir: Unfinished,
}

impl OneShot {
    /// Unpacks the image `file` into a new directory below `temporary`.
    ///
    /// # Errors
    /// There is no such image, or it can't be unpacked.
    pub fn begin(file: &Path, temporary: &Path) -> Result<(Self, Begun), BuildError> {
        match file.metadata() {
            Ok(status) if status.is_dir() => return Err(BuildError::ModifiesDirectory(file.to_owned())),
            Ok(_) => {}
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                return Err(BuildError::ModifiesNothing(file.to_owned()));
            }
            Err(cause) => return Err(SysError::new("opening", file, cause).into()),
        }
        let dir = Unfinished::new(temporary.join(format!("acbuild-{}", uuid::Uuid::new_v4().simple())))?;
        let workspace = Workspace::new(dir.path());
        let begun = workspace.begin(&Start::Local(file.to_owned()))?;
        if let Some(missing) = begun.missing {
            return Err(BuildError::NoImage { path: file.to_owned(), missing });
        }
        Ok((Self { workspace, file: file.to_owned(), _dir: dir }, begun))
    }

    /// Where the steps find the image as a build.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Writes the changed image over its file.
    ///
    /// # Errors
    /// As those of [`Build::write`](super::Build::write).
    pub fn finish(self) -> Result<Written, BuildError> {
        self.workspace.open()?.write(&self.file, Existing::Replace)
    }
}
