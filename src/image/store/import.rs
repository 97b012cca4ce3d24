//! From a file to an image in the store, and its tree, in one pass over the bytes.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::{Record, Sizes};
use super::staging::Staging;
use super::tree::{TreeId, TreeRecord};
use super::{BLOB, MANIFEST, RECORD, ROOTFS, Store};
use crate::appc::ManifestError;
use crate::appc::image_id::ImageId;
use crate::appc::image_manifest::ImageManifest;
use crate::image::extract::{Devices, ExtractError, Owners, Target, Unpacked, unpack};
use crate::image::stream::{Limits, Passed, Progress, Source};
use crate::os::{Hint, SysError, atomic, interrupt};

/// What must be known of an image's origin before it is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// It must be signed by a key that is trusted for its name.
    Required,
    /// The user has said that it need not.
    Skipped,
}

/// How to import.
pub struct ImportOptions<'a> {
    /// What must be known of the origin.
    pub verification: Verification,
    /// Bounds.
    pub limits: Limits,
    /// Called now and then from another thread.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

/// An image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its ID.
    pub id: ImageId,
    /// Its manifest.
    pub manifest: ImageManifest,
    /// The whole SHA-512 of the unpacked bytes, `sha512-` and 128 hex digits.
    pub full_digest: String,
    /// Device nodes that are in the image and not in its tree.
    pub skipped_devices: u64,
    /// The tree that was unpacked, if the caller is root and the image stands alone.
    pub tree: Option<TreeId>,
}

/// Why a file did not become an image. The store is as before.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file can't be opened. To be told as `error opening ACI file` (spec images.md 2.2).
    #[error(transparent)]
    Open(SysError),
    /// Nothing says who made it.
    #[error("image {} is not verified: this version can't check signatures yet", .image.display())]
    Unsigned {
        /// The file.
        image: PathBuf,
    },
    /// It is no valid image, or could not be unpacked.
    #[error("image {}: {cause}", .image.display())]
    Content {
        /// The file.
        image: PathBuf,
        /// What is wrong.
        cause: ExtractError,
    },
    /// Its manifest breaks a rule.
    #[error("image {}: {cause}", .image.display())]
    Manifest {
        /// The file.
        image: PathBuf,
        /// What is wrong.
        cause: ManifestError,
    },
    /// The file alone is larger than the free space.
    #[error("image {} has {needed} bytes, and only {free} are free in {}", .image.display(), .store.display())]
    NoSpace {
        /// The file.
        image: PathBuf,
        /// The store.
        store: PathBuf,
        /// Bytes of the file.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

impl Hint for ImportError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Open(_) | Self::Manifest { .. } => None,
            Self::Unsigned { .. } => {
                Some("if you trust the file, import it unverified with --insecure-options=image".into())
            }
            Self::Content { cause, .. } => cause.hint(),
            Self::NoSpace { store, .. } => {
                SysError::new("writing", store, std::io::Error::from(std::io::ErrorKind::StorageFull)).hint()
            }
            Self::System(cause) => cause.hint(),
        }
    }
}

impl Store {
    /// Imports the image in the file `image`: unpacks, hashes, extracts and keeps it in one pass.
    ///
    /// When it returns, the image survives a power cut. An image that is there already is replaced by the new copy,
    /// which repairs it. Several processes may import the same image.
    ///
    /// # Errors
    /// When the file can't be read, is not verified, or is no valid image; when the store can't be written. Nothing is
    /// left in the store then, and if the process dies, nothing that is listed.
    pub fn import_file(&self, image: &Path, options: &ImportOptions<'_>) -> Result<Imported, ImportError> {
        let file = open_image_file(image).map_err(ImportError::Open)?;
        if options.verification == Verification::Required {
            return Err(ImportError::Unsigned { image: image.to_owned() });
        }
        // Before all that cleans up when dropped.
        let _interrupts = interrupt::Watch::start();
        self.sweep();
        self.check_space(image, &file)?;

        let staged = Staging::new(&self.tmp_dir(), IMAGE_DIR_MODE)?;
        let tree = if rustix::process::geteuid().is_root() { Some(self.stage_tree()?) } else { None };
        let blob = staged.path().join(BLOB);
        let keep = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&blob)
            .map_err(SysError::on("creating", &blob))?;
        let source =
            Source { file, keep: Some((keep, blob)), limits: options.limits, progress: options.progress };
        let rootfs = tree.as_ref().map(|tree| tree.path().join(ROOTFS));
        let target =
            rootfs.as_ref().map(|rootfs| Target { rootfs, owners: Owners::OfImage, devices: Devices::Skip });
        let (unpacked, passed) = unpack(source, target.as_ref())
            .map_err(|cause| ImportError::Content { image: image.to_owned(), cause })?;
        let manifest = ImageManifest::from_json(&unpacked.manifest)
            .map_err(|cause| ImportError::Manifest { image: image.to_owned(), cause })?;
        // Unpacked alone, others are not what runs.
        let is_plain = manifest.dependencies.is_empty() && manifest.path_whitelist.is_empty();
        let tree = tree.filter(|_| is_plain);
        let id = ImageId::from_sha512(&passed.digest);
        let tree_id = tree.as_ref().map(|_| TreeId::of(&[id]));
        self.publish(staged, tree, &unpacked, &passed)?;
        Ok(Imported {
            id,
            manifest,
            full_digest: full_digest(&passed.digest),
            skipped_devices: unpacked.skipped_devices,
            tree: tree_id,
        })
    }

    /// Writes what is missing, syncs everything once, then gives the tree and the image their names.
    fn publish(
        &self,
        staged: Staging,
        tree: Option<Staging>,
        unpacked: &Unpacked,
        passed: &Passed,
    ) -> Result<(), SysError> {
        let id = ImageId::from_sha512(&passed.digest);
        let sizes = Sizes { delivered: passed.delivered, unpacked: passed.unpacked, tree: unpacked.size };
        let record = Record::new(full_digest(&passed.digest), passed.compression, &sizes);
        atomic::write_synced(&staged.path().join(RECORD), &record.to_json(), FILE_MODE)?;
        atomic::write_synced(&staged.path().join(MANIFEST), &unpacked.manifest, FILE_MODE)?;
        if let Some(tree) = &tree {
            self.finish_tree(tree, &unpacked.manifest, &TreeRecord::new(&[id], 0))?;
        }
        atomic::sync_filesystem(&self.cas)?;
        if let Some(tree) = tree {
            tree.place(&self.trees_dir().join(TreeId::of(&[id]).as_str()))?;
        }
        staged.replace(&self.image_dir(&id))
    }

    /// Makes a directory for a tree, with an empty `rootfs`, that only root can reach.
    pub(super) fn stage_tree(&self) -> Result<Staging, SysError> {
        let staged = Staging::new(&self.trees_dir(), 0o700)?;
        let rootfs = staged.path().join(ROOTFS);
        std::fs::DirBuilder::new().mode(0o755).create(&rootfs).map_err(SysError::on("creating", &rootfs))?;
        Ok(staged)
    }

    fn check_space(&self, image: &Path, file: &File) -> Result<(), ImportError> {
        let needed = file.metadata().map_err(SysError::on("looking at", image))?.len();
        let space = rustix::fs::statvfs(&self.cas).map_err(SysError::on("looking at", &self.cas))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if needed <= free {
            return Ok(());
        }
        Err(ImportError::NoSpace { image: image.to_owned(), store: self.cas.clone(), needed, free })
    }
}

/// Of an image's directory: the group rkt may read, and only who imported it may change it.
const IMAGE_DIR_MODE: u32 = 0o2750;
const FILE_MODE: u32 = 0o640;

/// Opens a file that a user named, if it is a regular one.
pub(super) fn open_image_file(path: &Path) -> Result<File, SysError> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(SysError::on("opening", path))?;
    let status = file.metadata().map_err(SysError::on("looking at", path))?;
    if status.is_file() {
        return Ok(file);
    }
    let cause = std::io::Error::new(std::io::ErrorKind::InvalidInput, "Not a regular file");
    Err(SysError::new("opening", path, cause))
}

fn full_digest(digest: &[u8; 64]) -> String {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512-{hex}")
}
