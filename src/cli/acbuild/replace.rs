//! `acbuild replace-manifest`: a whole manifest from a file (spec build-tools.md 6.3).

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::super::CliError;
use super::{Session, failure};
use crate::appc::image_manifest::ImageManifest;
use crate::image::aci::MANIFEST_LIMIT;
use crate::os::SysError;

/// Replace the manifest of the image
///
/// Nothing of the manifest before is kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "acbuild replace-manifest ./manifest.json")]
pub(super) struct ReplaceManifest {
    /// The file with the new manifest
    #[arg(value_name = "FILE", required = true)]
    file: PathBuf,
}

impl ReplaceManifest {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let bytes = self.read()?;
        let shown = self.file.display();
        let new = ImageManifest::from_json(&bytes).map_err(|error| failure(format!("{shown}: {error}")))?;
        log::debug!("replacing the manifest by {shown}");
        session.change(|manifest| {
            *manifest = new;
            Ok(())
        })
    }

    fn read(&self) -> Result<Vec<u8>, CliError> {
        let shown = self.file.display();
        let told = |error: SysError| failure(error.to_string());
        // A FIFO is not waited for.
        let opened =
            File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&self.file);
        let file = match opened {
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                return Err(failure(format!("no such file or directory: {shown}")));
            }
            other => other.map_err(SysError::on("opening", &self.file)).map_err(told)?,
        };
        let status = file.metadata().map_err(SysError::on("looking at", &self.file)).map_err(told)?;
        if status.is_dir() {
            return Err(failure(format!("{shown} is a directory")));
        }
        let mut bytes = Vec::new();
        file.take(MANIFEST_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(SysError::on("reading", &self.file))
            .map_err(told)?;
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(told(SysError::new("reading", &self.file, rustix::io::Errno::FBIG)));
        }
        Ok(bytes)
    }
}
