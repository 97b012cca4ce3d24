//! From a file to an image in the store, and its tree, in one pass over the bytes.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::{self, Origin, Record, Sizes};
use super::staging::{Staging, set_mode};
use super::tree::{TreeId, TreeRecord};
use super::{BLOB, FILE_MODE, IMAGE_DIR_MODE, MANIFEST, RECORD, ROOTFS, Store, full_digest, read_at};
use crate::appc::ManifestError;
use crate::appc::image_id::ImageId;
use crate::appc::image_manifest::ImageManifest;
use crate::appc::name::AcIdentifier;
use crate::image::extract::{Devices, ExtractError, Owners, Target, Unpacked, unpack};
use crate::image::reference::NameReference;
use crate::image::stream::{Limits, Passed, Progress, Source};
use crate::image::trust::keystore::is_below;
use crate::image::trust::{DocumentHash, Keystore, KeystoreError, Proof, SignatureFile, VerifyError};
use crate::os::{Hint, SysError, atomic, interrupt};

/// What must be known of an image's origin before it is imported.
pub enum Verification<'a> {
    /// It must be signed by a key that is trusted for its name.
    Required(SignatureCheck<'a>),
    /// The user has said that it need not.
    Skipped,
}

/// A signature, and who is believed.
pub struct SignatureCheck<'a> {
    /// The signature, over the file as delivered.
    pub signature: SignatureFile,
    /// The keys.
    pub keystore: &'a Keystore,
    /// The name and labels that it must have, if it was asked for by name.
    pub wanted: Option<&'a NameReference>,
    /// The prefix that its name must be, or be below.
    pub demanded: Option<&'a AcIdentifier>,
}

/// What version was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The newest.
    ForLatest,
    /// A certain one, or none was said because the image was not asked for by name.
    ForThisOne,
}

/// How to import.
pub struct ImportOptions<'a> {
    /// What must be known of the origin.
    pub verification: Verification<'a>,
    /// What version was asked for.
    pub asked: Asked,
    /// Bounds.
    pub limits: Limits,
    /// Called now and then from another thread.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

/// The bytes of an image as they came.
pub struct Delivered {
    /// The file, at its start.
    pub file: File,
    /// What messages call it: a path or an URL.
    pub shown: String,
    /// The path of the file if it was downloaded into the store's own directory, from where it is taken; else it is
    /// copied.
    pub download: Option<PathBuf>,
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
    /// What it is believed for.
    pub proof: Proof,
}

/// Why a file did not become an image. The store is as before.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file can't be opened. To be told as `error opening ACI file` (spec images.md 2.2).
    #[error(transparent)]
    Open(SysError),
    /// Its signature proves nothing.
    #[error("image \"{name}\" verification failed: {cause}")]
    Unverified {
        /// Its name as its manifest says.
        name: AcIdentifier,
        /// Why.
        cause: VerifyError,
    },
    /// The keys could not be read.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// It is another image than the one that was asked for.
    #[error(transparent)]
    NotWanted(#[from] NotWanted),
    /// It is no valid image, or could not be unpacked.
    #[error("image {image}: {cause}")]
    Content {
        /// The file.
        image: String,
        /// What is wrong.
        cause: ExtractError,
    },
    /// Its manifest breaks a rule.
    #[error("image {image}: {cause}")]
    Manifest {
        /// The file.
        image: String,
        /// What is wrong.
        cause: ManifestError,
    },
    /// The file alone is larger than the free space.
    #[error("image {image} has {needed} bytes, and only {free} are free in {}", .store.display())]
    NoSpace {
        /// The file.
        image: String,
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

/// How an image differs from the one that was asked for (spec images.md 2.4.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWanted {
    /// By its name.
    #[error("error when reading the app name: \"{wanted}\" expected but \"{found}\" found")]
    Name {
        /// What was asked for.
        wanted: AcIdentifier,
        /// What came.
        found: AcIdentifier,
    },
    /// By a label.
    #[error(
        "requested value for label \"{label}\": \"{wanted}\" differs from fetched aci label value: \"{found}\""
    )]
    Label {
        /// Which.
        label: AcIdentifier,
        /// What was asked for.
        wanted: String,
        /// What came.
        found: String,
    },
    /// By whose it is.
    #[error("image \"{name}\" is not below the prefix \"{prefix}\" that it must be trusted for")]
    Prefix {
        /// Its name.
        name: AcIdentifier,
        /// The prefix.
        prefix: AcIdentifier,
    },
    /// By the lack of a signature.
    #[error(
        "image \"{name}\" is in the store without a signature, and must be trusted for the prefix \"{prefix}\""
    )]
    Unsigned {
        /// Its name.
        name: AcIdentifier,
        /// The prefix.
        prefix: AcIdentifier,
    },
    /// By the lack of a label.
    #[error("requested label \"{label}\" not provided by the image manifest")]
    NoLabel {
        /// Which.
        label: AcIdentifier,
    },
}

impl Hint for ImportError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Open(_) | Self::Manifest { .. } | Self::NotWanted(_) => None,
            Self::Unverified { cause, .. } => cause.hint(),
            Self::Keystore(cause) => cause.hint(),
            Self::Content { cause, .. } => cause.hint(),
            Self::NoSpace { store, .. } => {
                SysError::new("writing", store, std::io::Error::from(std::io::ErrorKind::StorageFull)).hint()
            }
            Self::System(cause) => cause.hint(),
        }
    }
}

impl Store {
    /// Imports the image in the file `image`, as [`Store::import`] does.
    ///
    /// # Errors
    /// As [`Store::import`], and when the file can't be opened.
    pub fn import_file(&self, image: &Path, options: &ImportOptions<'_>) -> Result<Imported, ImportError> {
        let file = open_image_file(image).map_err(ImportError::Open)?;
        self.import(Delivered { file, shown: image.display().to_string(), download: None }, options)
    }

    /// Imports an image: unpacks, hashes, verifies, extracts and keeps it in one pass.
    ///
    /// When it returns, the image survives a power cut. An image that is there already is replaced by the new copy,
    /// which repairs it. Several processes may import the same image.
    ///
    /// # Errors
    /// When the file can't be read, is not verified, or is no valid image; when the store can't be written. Nothing is
    /// left in the store then, and if the process dies, nothing that is listed.
    pub fn import(&self, delivered: Delivered, options: &ImportOptions<'_>) -> Result<Imported, ImportError> {
        // Before all that cleans up when dropped.
        let _interrupts = interrupt::Watch::start();
        self.sweep();
        if delivered.download.is_none() {
            self.check_space(&delivered)?;
        }
        let staged = Staging::new(&self.tmp_dir(), IMAGE_DIR_MODE)?;
        let tree = if rustix::process::geteuid().is_root() { Some(self.stage_tree()?) } else { None };
        let rootfs = tree.as_ref().map(|tree| tree.path().join(ROOTFS));
        let target =
            rootfs.as_ref().map(|rootfs| Target { rootfs, owners: Owners::OfImage, devices: Devices::Skip });
        let mut hash = match &options.verification {
            Verification::Required(check) => Some(check.signature.hash()),
            Verification::Skipped => None,
        };
        let mut watch = |bytes: &[u8]| {
            if let Some(hash) = &mut hash {
                hash.update(bytes);
            }
        };
        let blob = staged.path().join(BLOB);
        let keep = match &delivered.download {
            Some(_) => None,
            None => Some((new_blob(&blob)?, blob.clone())),
        };
        let source = Source {
            file: delivered.file,
            keep,
            watch: Some(&mut watch),
            limits: options.limits,
            progress: options.progress,
        };
        let shown = delivered.shown;
        let (unpacked, passed) = unpack(source, target.as_ref())
            .map_err(|cause| ImportError::Content { image: shown.clone(), cause })?;
        let manifest = ImageManifest::from_json(&unpacked.manifest)
            .map_err(|cause| ImportError::Manifest { image: shown, cause })?;
        // Unpacked alone, others are not what runs.
        let is_plain = manifest.dependencies.is_empty() && manifest.path_whitelist.is_empty();
        let tree = tree.filter(|_| is_plain);
        let proof = prove(&manifest, &options.verification, hash)?;
        if let Some(download) = &delivered.download {
            std::fs::rename(download, &blob).map_err(SysError::on("renaming to", &blob))?;
        }
        let origin = Origin { is_latest: options.asked == Asked::ForLatest, proof: &proof };
        let id = ImageId::from_sha512(&passed.digest);
        let tree_id = tree.as_ref().map(|_| TreeId::of(&[id]));
        self.publish(Made { staged, tree }, &unpacked, &passed, &origin)?;
        Ok(Imported {
            id,
            manifest,
            full_digest: full_digest(&passed.digest),
            skipped_devices: unpacked.skipped_devices,
            tree: tree_id,
            proof,
        })
    }

    /// Writes what is missing, syncs everything once, then gives the tree and the image their names.
    fn publish(
        &self,
        made: Made,
        unpacked: &Unpacked,
        passed: &Passed,
        origin: &Origin<'_>,
    ) -> Result<(), SysError> {
        let Made { staged, tree } = made;
        let id = ImageId::from_sha512(&passed.digest);
        let sizes = Sizes { delivered: passed.delivered, unpacked: passed.unpacked, tree: unpacked.size };
        let mut record = Record::new(full_digest(&passed.digest), passed.compression, &sizes, origin);
        if let Some(earlier) = self.record(&id) {
            record.keep_signer_of(earlier);
        }
        atomic::write_synced(&staged.path().join(RECORD), &record.to_json(), FILE_MODE)?;
        atomic::write_synced(&staged.path().join(MANIFEST), &unpacked.manifest, FILE_MODE)?;
        if let Some(tree) = &tree {
            self.finish_tree(tree, &unpacked.manifest, &TreeRecord::new(&[id], 0))?;
        }
        atomic::sync_filesystem(&self.cas)?;
        if let Some(tree) = tree {
            tree.place(&self.trees_dir().join(TreeId::of(&[id]).as_str()))?;
        }
        staged.publish(&self.image_dir(&id), origin.proof)
    }

    /// The record of an image that is there and healthy enough to have one.
    pub(super) fn record(&self, id: &ImageId) -> Option<Record> {
        let dir = self.open_image(id).ok()?;
        let (bytes, _) = read_at(&dir, RECORD, record::LIMIT).ok()?;
        Some(Record::parse(&bytes).ok()?.believed_from(super::owner(&dir)))
    }

    /// Makes a directory for a tree, with an empty `rootfs`, that only root can reach.
    pub(super) fn stage_tree(&self) -> Result<Staging, SysError> {
        let staged = Staging::new(&self.trees_dir(), 0o700)?;
        let rootfs = staged.path().join(ROOTFS);
        std::fs::DirBuilder::new().mode(0o755).create(&rootfs).map_err(SysError::on("creating", &rootfs))?;
        // A layer need not say what the root of its image is like.
        set_mode(&rootfs, 0o755)?;
        Ok(staged)
    }

    fn check_space(&self, image: &Delivered) -> Result<(), ImportError> {
        let needed = image.file.metadata().map_err(SysError::on("looking at", &image.shown))?.len();
        let free = self.free_space()?;
        if needed <= free {
            return Ok(());
        }
        Err(ImportError::NoSpace { image: image.shown.clone(), store: self.cas.clone(), needed, free })
    }

    /// Bytes that may be written to the file system of the store.
    pub(in crate::image) fn free_space(&self) -> Result<u64, SysError> {
        let space = rustix::fs::statvfs(&self.cas).map_err(SysError::on("looking at", &self.cas))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// The directories of an image that is being imported.
struct Made {
    staged: Staging,
    tree: Option<Staging>,
}

/// Finds out what an image is believed for.
fn prove(
    manifest: &ImageManifest,
    verification: &Verification<'_>,
    hash: Option<DocumentHash>,
) -> Result<Proof, ImportError> {
    let (Verification::Required(check), Some(hash)) = (verification, hash) else {
        return Ok(Proof::waived());
    };
    let keys = check.keystore.keys_for(&manifest.name)?;
    let proof = check
        .signature
        .verify(hash, &manifest.name, &keys, std::time::SystemTime::now())
        .map_err(|cause| ImportError::Unverified { name: manifest.name.clone(), cause })?;
    if let Some(prefix) = check.demanded {
        check_prefix(&manifest.name, prefix)?;
    }
    if let Some(wanted) = check.wanted {
        check_wanted(wanted, manifest)?;
    }
    Ok(proof)
}

/// Checks that a name is `prefix` or below it.
///
/// # Errors
/// When it is not.
pub fn check_prefix(name: &AcIdentifier, prefix: &AcIdentifier) -> Result<(), NotWanted> {
    if is_below(name.as_str(), prefix.as_str()) {
        return Ok(());
    }
    Err(NotWanted::Prefix { name: name.clone(), prefix: prefix.clone() })
}

fn check_wanted(wanted: &NameReference, manifest: &ImageManifest) -> Result<(), NotWanted> {
    if manifest.name != wanted.name {
        return Err(NotWanted::Name { wanted: wanted.name.clone(), found: manifest.name.clone() });
    }
    for label in &wanted.labels {
        match manifest.labels.iter().find(|found| found.name == label.name) {
            Some(found) if found.value == label.value => {}
            Some(found) => {
                return Err(NotWanted::Label {
                    label: label.name.clone(),
                    wanted: label.value.clone(),
                    found: found.value.clone(),
                });
            }
            None => return Err(NotWanted::NoLabel { label: label.name.clone() }),
        }
    }
    Ok(())
}

fn new_blob(path: &Path) -> Result<File, SysError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(SysError::on("creating", path))
}

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
