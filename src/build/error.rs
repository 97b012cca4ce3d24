//! Why a step of a build could not be done. The texts are those of spec build-tools.md where it gives one.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::edit::EditError;
use crate::appc::image_manifest::ManifestError;
use crate::image::aci_writer::WriteError;
use crate::image::extract::ExtractError;
use crate::os::{Hint, SysError};

/// Why a step of a build could not be done; the build is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no build.
    #[error("no build in progress in this working dir - try \"acbuild begin\"")]
    NoBuild,
    /// There is a build already.
    #[error("build already in progress in this working dir")]
    InProgress,
    /// Another process works on this build.
    #[error("lock already held - is another acbuild running in this working dir?")]
    Locked,
    /// The build belongs to someone else.
    #[error("permission denied: please run this as a user with appropriate privileges")]
    Permission(#[source] SysError),
    /// Something else is where the state of builds goes.
    #[error("{} is not a directory", .0.display())]
    BadState(PathBuf),
    /// The build is of a kind that this version does not know.
    #[error("{}: unknown build mode {mode:?}", .path.display())]
    UnknownMode {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        mode: String,
    },
    /// What to begin with, or to copy, does not exist.
    #[error("no such file or directory: {}", .0.display())]
    Missing(PathBuf),
    /// What to begin with is neither a directory nor a regular file.
    #[error("{} is neither a directory nor a file", .0.display())]
    BadStart(PathBuf),
    /// What to begin with is no valid image or archive.
    #[error("{}: {cause}", .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: ExtractError,
    },
    /// A manifest breaks the rules.
    #[error("{}: {cause}", .path.display())]
    Manifest {
        /// Where it is.
        path: PathBuf,
        /// Which.
        cause: ManifestError,
    },
    /// A change would make the manifest invalid, or changes nothing.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// `copy` makes one thing; its target has a name of its own.
    #[error("target \"{}\" ends in a slash", .0.display())]
    TrailingSlash(PathBuf),
    /// `copy` can't replace the root file system.
    #[error("target \"{}\" is the root of the image", .0.display())]
    TargetIsRoot(PathBuf),
    /// A directory is copied to where something is.
    #[error("mkdir {}: file exists", .0.display())]
    Exists(PathBuf),
    /// A file is copied to where a directory is.
    #[error("open {}: is a directory", .0.display())]
    IsDirectory(PathBuf),
    /// `copy-to-dir` copies into a directory only.
    #[error("target \"{}\" is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The image has no name yet.
    #[error("can't write ACI, name was never set")]
    Unnamed,
    /// The file is there already.
    #[error("ACI already exists: {}", .0.display())]
    AciExists(PathBuf),
    /// The file that would be replaced is something else.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The image to be changed does not exist.
    #[error("image doesn't appear to exist: {}.", .0.display())]
    ModifiesNothing(PathBuf),
    /// The image to be changed is a directory.
    #[error("image to modify is a directory: {}.", .0.display())]
    ModifiesDirectory(PathBuf),
    /// The file to be changed is an archive, but no image.
    #[error("{}: it is no image: it has no `{missing}`", .path.display())]
    NoImage {
        /// The file.
        path: PathBuf,
        /// What images have, and this has not.
        missing: &'static str,
    },
    /// The image could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The system refused.
    #[error(transparent)]
    System(SysError),
}

impl From<SysError> for BuildError {
    fn from(cause: SysError) -> Self {
        Self::System(cause)
    }
}

impl BuildError {
    /// Makes the error of a step on the state directory, where a lack of permission has a text of its own.
    pub(super) fn of_state(cause: SysError) -> Self {
        match cause.kind() {
            ErrorKind::PermissionDenied => Self::Permission(cause),
            _ => Self::System(cause),
        }
    }
}

impl Hint for BuildError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::InProgress => Some("end it with `acbuild end`, which discards what was not written".into()),
            Self::TrailingSlash(_) | Self::TargetIsRoot(_) => {
                Some("`acbuild copy-to-dir` copies into a directory".into())
            }
            Self::Exists(_) => {
                Some("`acbuild copy-to-dir SOURCE/ IMAGEDIR` copies the content of a directory".into())
            }
            Self::Unnamed => Some("name it with `acbuild set-name NAME`".into()),
            Self::AciExists(_) => Some("--overwrite replaces it".into()),
            Self::Archive { cause, .. } => cause.hint(),
            Self::Edit(cause) => cause.hint(),
            Self::Write(cause) => cause.hint(),
            Self::System(cause) => cause.hint(),
            Self::NoBuild
            | Self::Locked
            | Self::Permission(_)
            | Self::BadState(_)
            | Self::UnknownMode { .. }
            | Self::Missing(_)
            | Self::BadStart(_)
            | Self::ModifiesNothing(_)
            | Self::ModifiesDirectory(_)
            | Self::NoImage { .. }
            | Self::Manifest { .. }
            | Self::IsDirectory(_)
            | Self::NotADirectory(_)
            | Self::NotAFile(_) => None,
        }
    }
}
