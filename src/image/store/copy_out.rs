//! Copies of images outside the store: as an archive, or unpacked. Both come from verified bytes, and appear whole.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::oci::SquashedError;
use super::{MANIFEST, ROOTFS, Store, StoreError};
use crate::appc::image_id::ImageId;
use crate::image::extract::{Devices, Owners, Target};
use crate::image::stream::{Chunks, Limits, Source, StreamError, run};
use crate::os::atomic::TEMPORARY_PREFIX;
use crate::os::whole::{self, WholeFile, WholeFileError};
use crate::os::{Hint, SysError, interrupt, tree};

/// What becomes of what is at the place of the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and is an error.
    Keep,
    /// It is replaced.
    Overwrite,
}

/// What of an image is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The image as it is.
    Alone,
    /// The image upon what it depends on, by its whitelist.
    Rendered,
}

/// How to unpack an image for the user.
#[derive(Debug, Clone, Copy)]
pub struct ExtractOptions {
    /// What is unpacked.
    pub depth: Depth,
    /// The target becomes the root file system itself, without `manifest` and `rootfs`.
    pub rootfs_only: bool,
    /// What becomes of an existing target.
    pub existing: Existing,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyOutError {
    /// The image can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is there.
    #[error("output ACI file exists (try --overwrite)")]
    FileExists,
    /// The directory is there.
    #[error("output directory exists (try --overwrite)")]
    DirectoryExists,
    /// The user asked to overwrite `/`.
    #[error("this would delete your root filesystem. Refusing.")]
    RootFilesystem,
    /// What would be overwritten is no file.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

impl From<WholeFileError> for CopyOutError {
    fn from(error: WholeFileError) -> Self {
        match error {
            WholeFileError::Exists(_) => Self::FileExists,
            WholeFileError::NotAFile(path) => Self::NotAFile(path),
            WholeFileError::System(cause) => cause.into(),
        }
    }
}

impl Hint for CopyOutError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(cause) => cause.hint(),
            Self::System(cause) => cause.hint(),
            Self::FileExists | Self::DirectoryExists | Self::NotAFile(_) | Self::RootFilesystem => None,
        }
    }
}

/// A temporary path that is removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> Self {
        Self(path.with_file_name(format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::new_v4().simple())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = tree::remove(&self.0) {
            log::warn!("{error}");
        }
    }
}

impl Store {
    /// Writes the unpacked archive of an image, whose SHA-512 is its ID, to the file `to`. An OCI image becomes one archive,
    /// whose SHA-512 is another.
    ///
    /// # Errors
    /// When the target exists and is to be kept, the image is damaged, or the system refuses; then `to` is as before.
    pub fn export(&self, id: &ImageId, to: &Path, existing: Existing) -> Result<(), CopyOutError> {
        let oci = self.oci_record(id)?;
        let whole_file = match existing {
            Existing::Keep => whole::Existing::Keep,
            Existing::Overwrite => whole::Existing::Replace,
        };
        let _interrupts = interrupt::Watch::start();
        let output = WholeFile::begin(to, whole_file)?;
        let file = output.file();
        match oci {
            Some(oci) => {
                let buffered = std::io::BufWriter::with_capacity(1 << 16, file);
                self.squash_oci(id, &oci, buffered)
                    .and_then(|mut written| written.flush().map_err(SquashedError::Write))
                    .map_err(|error| match error {
                        SquashedError::Store(error) => error.into(),
                        SquashedError::Write(cause) => {
                            CopyOutError::System(SysError::new("writing", to, cause))
                        }
                    })?;
            }
            None => self.copy_blob(id, file, to)?,
        }
        Ok(output.publish()?)
    }

    /// Writes the unpacked blob of an image to `file`, which messages call `to`.
    fn copy_blob(&self, id: &ImageId, mut file: &File, to: &Path) -> Result<(), CopyOutError> {
        let limits = Limits { output: u64::MAX, ratio: u64::MAX, ..Limits::default() };
        let source = Source { file: self.open_blob(id)?, keep: None, watch: None, limits, progress: None };
        let written = run(source, |incoming| -> Result<(), WriteError> {
            loop {
                let chunk = incoming.chunk()?;
                let count = chunk.len();
                if count == 0 {
                    return Ok(());
                }
                file.write_all(chunk)
                    .map_err(|cause| WriteError::Write(SysError::new("writing", to, cause)))?;
                incoming.consume(count);
            }
        });
        let ((), passed) = written.map_err(|error| match error {
            WriteError::Write(error) => CopyOutError::System(error),
            WriteError::Stream(error) => StoreError::Damaged { id: *id, problem: error.to_string() }.into(),
        })?;
        let found = ImageId::from_sha512(&passed.digest);
        if found != *id {
            return Err(StoreError::HashMismatch { found: Box::new(found), expected: *id }.into());
        }
        Ok(())
    }

    /// Unpacks an image to the directory `to`: `manifest` and `rootfs`, or the root file system alone.
    ///
    /// Owners and device nodes are the image's if the caller is root. The work is done beside the target, in a directory
    /// that nobody else can reach.
    ///
    /// # Errors
    /// When the target exists and is to be kept, or is `/`; when the image is damaged, or the system refuses. Then
    /// nothing is left beside the target.
    pub fn extract(&self, id: &ImageId, to: &Path, options: ExtractOptions) -> Result<(), CopyOutError> {
        let to = &target_path(to)?;
        if rustix::fs::lstat(to).is_ok() {
            if options.existing == Existing::Keep {
                return Err(CopyOutError::DirectoryExists);
            }
            if is_root_directory(to) {
                return Err(CopyOutError::RootFilesystem);
            }
        }
        let _interrupts = interrupt::Watch::start();
        let temporary = Temporary::beside(to);
        let rootfs = temporary.0.join(ROOTFS);
        make_private_dir(&temporary.0, to)?;
        make_private_dir(&rootfs, to)?;
        let owners = if rustix::process::geteuid().is_root() { Owners::OfImage } else { Owners::OfCaller };
        let manifest = match options.depth {
            Depth::Alone => {
                self.unpack_verified(id, &Target { rootfs: &rootfs, owners, devices: Devices::Make })?
            }
            Depth::Rendered => self.render(&self.flatten(id)?, &temporary.0, (owners, Devices::Make))?,
        };
        let finished = if options.rootfs_only {
            rootfs
        } else {
            let path = temporary.0.join(MANIFEST);
            std::fs::write(&path, manifest).map_err(SysError::on("writing", &path))?;
            rustix::fs::chmod(&temporary.0, rustix::fs::Mode::from_raw_mode(0o755))
                .map_err(SysError::on("changing the mode of", &temporary.0))?;
            temporary.0.clone()
        };
        if options.existing == Existing::Overwrite {
            tree::remove(to)?;
        }
        match rustix::fs::renameat_with(CWD, &finished, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(CopyOutError::DirectoryExists),
            Err(cause) => Err(SysError::new("renaming to", to, cause).into()),
        }
    }
}

enum WriteError {
    Stream(StreamError),
    Write(SysError),
}

impl From<StreamError> for WriteError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

/// The target as a path whose last part is a name, whatever `.` and `..` it was given with.
fn target_path(to: &Path) -> Result<PathBuf, CopyOutError> {
    if to.file_name().is_some() {
        return Ok(to.components().collect());
    }
    let real = to.canonicalize().map_err(SysError::on("opening", to))?;
    if real == Path::new("/") {
        return Err(CopyOutError::RootFilesystem);
    }
    Ok(real)
}

fn is_root_directory(path: &Path) -> bool {
    match (rustix::fs::stat(path), rustix::fs::stat("/")) {
        (Ok(path), Ok(root)) => (path.st_dev, path.st_ino) == (root.st_dev, root.st_ino),
        _ => false,
    }
}

fn make_private_dir(path: &Path, shown: &Path) -> Result<(), SysError> {
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(SysError::on("creating", shown))
}
