//! The image as a file (spec build-tools.md 6.3.4).

use std::path::Path;

use super::UNNAMED;
use super::error::BuildError;
use super::state::Build;
use crate::image::aci_writer::{self, Content, Sockets};
pub use crate::os::whole::Existing;
use crate::os::whole::{WholeFile, WholeFileError};

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `sha512-` and all 128 digits.
    pub id: String,
    /// The image has an app without a command, so that running it needs one.
    pub has_no_exec: bool,
}

impl Build {
    /// Writes the image to `path`, where it is there whole or not at all; durable on return.
    ///
    /// # Errors
    /// It has no name; the file exists; something in the image can't be read, or the file can't be written.
    pub fn write(&self, path: &Path, existing: Existing) -> Result<Written, BuildError> {
        let (manifest, manifest_mtime) = self.read_manifest()?;
        if manifest.name.as_str() == UNNAMED {
            return Err(BuildError::Unnamed);
        }
        let output = WholeFile::begin(path, existing)?;
        let has_no_exec = manifest.app.as_ref().is_some_and(|app| app.exec.is_empty());
        let json = manifest.to_json();
        let rootfs_path = &self.workspace.rootfs();
        let content = Content {
            rootfs: self.open_rootfs()?,
            rootfs_path,
            manifest: json.as_bytes(),
            manifest_mtime,
            sockets: Sockets::Refuse,
        };
        let written = aci_writer::write(content, output.file(), output.path())?;
        output.publish()?;
        Ok(Written { id: format!("sha512-{}", hex(&written.digest)), has_no_exec })
    }
}

impl From<WholeFileError> for BuildError {
    fn from(error: WholeFileError) -> Self {
        match error {
            WholeFileError::Exists(path) => Self::AciExists(path),
            WholeFileError::NotAFile(path) => Self::NotAFile(path),
            WholeFileError::System(cause) => cause.into(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _never_fails = write!(text, "{byte:02x}");
        text
    })
}
