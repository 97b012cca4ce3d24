//! The image as a file (spec build-tools.md 6.3.4).

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::UNNAMED;
use super::error::BuildError;
use super::state::Build;
use crate::image::aci_writer::{self, Content};
use crate::os::SysError;
use crate::os::atomic::{TEMPORARY_PREFIX, sync_dir};

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Keep,
    /// It is replaced.
    Replace,
}

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
        let path = &replaced(path, existing)?;
        let has_no_exec = manifest.app.as_ref().is_some_and(|app| app.exec.is_empty());
        let json = manifest.to_json();
        let rootfs_path = &self.workspace.rootfs();
        let content =
            Content { rootfs: self.open_rootfs()?, rootfs_path, manifest: json.as_bytes(), manifest_mtime };
        let output = Output::new(path)?;
        let digest = aci_writer::write(content, &output.file, path)?;
        output.publish(path, existing)?;
        Ok(Written { id: format!("sha512-{}", hex(&digest)), has_no_exec })
    }
}

/// The path that will be made or replaced: a link's target, not the link.
fn replaced(path: &Path, existing: Existing) -> Result<PathBuf, BuildError> {
    match path.symlink_metadata() {
        Ok(_) if existing == Existing::Keep => Err(BuildError::AciExists(path.to_owned())),
        Ok(_) => {
            let path = path.canonicalize().map_err(SysError::on("opening", path))?;
            let status = path.metadata().map_err(SysError::on("looking at", &path))?;
            if status.is_file() { Ok(path) } else { Err(BuildError::NotAFile(path)) }
        }
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(cause) => Err(SysError::new("looking at", path, cause).into()),
    }
}

/// A file that has no name until it is complete, or a temporary one where the file system can't do that.
struct Output {
    file: File,
    temporary: Option<PathBuf>,
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Best effort: there is an error to tell already.
            let _left = std::fs::remove_file(temporary);
        }
    }
}

impl Output {
    fn new(path: &Path) -> Result<Self, SysError> {
        let dir = dir_of(path);
        let mut options = File::options();
        options.write(true).mode(0o600);
        let output = match options.clone().custom_flags(libc::O_TMPFILE).open(dir) {
            Ok(file) => Ok(Self { file, temporary: None }),
            // Without support: the first two by open(2), the last by file systems that know the flag not at all.
            Err(cause)
                if matches!(cause.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) =>
            {
                let temporary = temporary_beside(path);
                let file = options.create_new(true).open(&temporary);
                file.map(|file| Self { file, temporary: Some(temporary) })
            }
            Err(cause) => Err(cause),
        };
        output.map_err(SysError::on("creating", path))
    }

    fn publish(mut self, path: &Path, existing: Existing) -> Result<(), BuildError> {
        self.file
            .set_permissions(Permissions::from_mode(0o644))
            .map_err(SysError::on("changing the mode of", path))?;
        self.file.sync_all().map_err(SysError::on("syncing", path))?;
        let named = self.name(path, existing);
        named.map_err(|cause| match (existing, cause.kind()) {
            (Existing::Keep, ErrorKind::AlreadyExists) => BuildError::AciExists(path.to_owned()),
            _ => SysError::new("creating", path, cause).into(),
        })?;
        Ok(sync_dir(dir_of(path))?)
    }

    fn name(&mut self, path: &Path, existing: Existing) -> io::Result<()> {
        let temporary = match (&self.temporary, existing) {
            (None, Existing::Keep) => return Ok(self.link(path)?),
            (None, Existing::Replace) => {
                let temporary = temporary_beside(path);
                self.link(&temporary)?;
                self.temporary.insert(temporary)
            }
            (Some(temporary), _) => temporary,
        };
        match existing {
            Existing::Replace => rustix::fs::rename(temporary, path)?,
            Existing::Keep => {
                match rustix::fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
                    // A file system that can't: looked at once more, then renamed.
                    Err(Errno::INVAL) if path.symlink_metadata().is_err() => {
                        rustix::fs::rename(temporary, path)?
                    }
                    Err(Errno::INVAL) => return Err(Errno::EXIST.into()),
                    answer => answer?,
                }
            }
        }
        self.temporary = None;
        Ok(())
    }

    /// Gives the file without a name one (open(2), "O_TMPFILE").
    fn link(&self, path: &Path) -> Result<(), Errno> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)
    }
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_beside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::new_v4().simple()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _never_fails = write!(text, "{byte:02x}");
        text
    })
}
