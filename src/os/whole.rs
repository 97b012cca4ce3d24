//! A large file that a user named: there whole or not at all.
//!
//! It has no name until it is complete, or a temporary one beside its own where the file system can't do that; so a kill
//! leaves nothing in the user's directory. Only where it takes the place of another file does it lie beside that, complete,
//! for the moment between two system calls: no call replaces a file by one that has no name.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::SysError;
use super::atomic::{TEMPORARY_PREFIX, sync_dir};

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Keep,
    /// It is replaced.
    Replace,
}

/// Why the file is not there.
#[derive(Debug, thiserror::Error)]
pub enum WholeFileError {
    /// There is one already.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// What would be replaced is something else.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

/// A file that is being written; dropping it leaves nothing.
#[must_use = "dropping it removes what was written"]
#[derive(Debug)]
pub struct WholeFile {
    file: File,
    /// What is made or replaced: a link's target, not the link.
    path: PathBuf,
    existing: Existing,
    temporary: Option<PathBuf>,
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Best effort: there is an error to tell already.
            let _left = std::fs::remove_file(temporary);
        }
    }
}

impl WholeFile {
    /// Begins the file that is going to be at `path`, with mode 0600 so far.
    ///
    /// # Errors
    /// When something is there that is to be kept or is no regular file; when it can't be created.
    pub fn begin(path: &Path, existing: Existing) -> Result<Self, WholeFileError> {
        let path = replaced(path, existing)?;
        let mut options = File::options();
        options.write(true).mode(0o600);
        let begun = match options.clone().custom_flags(libc::O_TMPFILE).open(dir_of(&path)) {
            Ok(file) => Ok((file, None)),
            // Without support: the first two by open(2), the last by file systems that know the flag not at all.
            Err(cause)
                if matches!(cause.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) =>
            {
                let temporary = temporary_beside(&path);
                let file = options.create_new(true).open(&temporary);
                file.map(|file| (file, Some(temporary)))
            }
            Err(cause) => Err(cause),
        };
        let (file, temporary) = begun.map_err(SysError::on("creating", &path))?;
        Ok(Self { file, path, existing, temporary })
    }

    /// The file, to be written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is going to be, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes what was written durable and gives it its name and mode 0644.
    ///
    /// # Errors
    /// When something has come to be there that is to be kept, or a step is refused.
    pub fn publish(mut self) -> Result<(), WholeFileError> {
        let path = self.path.clone();
        self.file
            .set_permissions(Permissions::from_mode(0o644))
            .map_err(SysError::on("changing the mode of", &path))?;
        self.file.sync_all().map_err(SysError::on("syncing", &path))?;
        self.name().map_err(|cause| match (self.existing, cause.kind()) {
            (Existing::Keep, ErrorKind::AlreadyExists) => WholeFileError::Exists(path.clone()),
            _ => SysError::new("creating", &path, cause).into(),
        })?;
        Ok(sync_dir(dir_of(&path))?)
    }

    fn name(&mut self) -> io::Result<()> {
        let path = &self.path;
        let temporary = match (&self.temporary, self.existing) {
            (None, Existing::Keep) => return Ok(link(&self.file, path)?),
            (None, Existing::Replace) => match link(&self.file, path) {
                Err(Errno::EXIST) => {
                    let temporary = temporary_beside(path);
                    link(&self.file, &temporary)?;
                    self.temporary.insert(temporary)
                }
                linked => return Ok(linked?),
            },
            (Some(temporary), _) => temporary,
        };
        match self.existing {
            Existing::Replace => rustix::fs::rename(temporary, path)?,
            Existing::Keep => {
                match rustix::fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
                    // A file system that can't: looked at once more, then renamed.
                    Err(Errno::INVAL) if path.symlink_metadata().is_err() => {
                        rustix::fs::rename(temporary, path)?;
                    }
                    Err(Errno::INVAL) => return Err(Errno::EXIST.into()),
                    answer => answer?,
                }
            }
        }
        self.temporary = None;
        Ok(())
    }
}

/// Gives the file without a name one (open(2), "O_TMPFILE").
fn link(file: &File, path: &Path) -> Result<(), Errno> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

/// The path that will be made or replaced: a link's target, not the link.
fn replaced(path: &Path, existing: Existing) -> Result<PathBuf, WholeFileError> {
    match path.symlink_metadata() {
        Ok(_) if existing == Existing::Keep => Err(WholeFileError::Exists(path.to_owned())),
        Ok(_) => {
            let path = path.canonicalize().map_err(SysError::on("opening", path))?;
            let status = path.metadata().map_err(SysError::on("looking at", &path))?;
            if status.is_file() { Ok(path) } else { Err(WholeFileError::NotAFile(path)) }
        }
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(cause) => Err(SysError::new("looking at", path, cause).into()),
    }
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_beside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::new_v4().simple()))
}
