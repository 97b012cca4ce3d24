//! The store: images as they were delivered, and the trees that are unpacked from them.
//!
//! ```text
//! <data>/cas/              2770 root:rkt
//!   image/                 3770 root:rkt
//!     sha512-<64 hex>/     one image, by the SHA-512 of its unpacked bytes
//!       manifest           the bytes of the archive's `manifest`
//!       blob               the file as it was delivered, with its compression
//!       record             JSON, see `record`; its mtime is when the image was last used
//!   layer/                 3770 root:rkt; the layers of OCI images, see `oci`
//!   tmp/                   3770 root:rkt; what is being made or removed, each directory locked by who does; and what
//!                          is being downloaded, see `url`
//!   url/                   3770 root:rkt; what was downloaded from where, see `url`
//!   tree/                  0700 root:root; a shared lock on it holds all trees, an exclusive one collects them
//!     deps-sha512-<64 hex>/
//!       manifest           that of the top image
//!       record             JSON, see `tree`: which images it is made of, and its size
//!       rootfs/            the root file system, never changed
//!       seal               what it looked like, see `seal`
//!       layers             instead, for OCI images: the names of the trees it consists of, the highest first
//!     layer-<digest>/, chain-<digest>/
//!       rootfs/, seal      a layer, as overlayfs takes it, see `layer`
//!     .tmp-<uuid>/         a tree that is being made or removed, locked
//!     .old-<tree>-<uuid>/  one that was found damaged while pods used it; they go on with it
//! ```
//!
//! An image or tree is there when its directory has its name: it is made elsewhere, synced, and renamed. A process that
//! is killed leaves directories whose lock is free, and the next one that writes to the store sweeps them away. Images
//! take no lock: a reader holds open files, and a removal renames first.
//!
//! Members of the group rkt may import. The sticky bit keeps them from what others, root above all, have imported or
//! are making; trees are made by root alone, where nobody else can reach. No image is unpacked from what an ID merely
//! names: the blob is hashed again, and its manifest compared.

mod copy_out;
mod import;
mod layer;
mod oci;
mod record;
mod remove;
mod render;
mod seal;
mod staging;
mod tree;
mod url;
mod verify;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

pub use self::copy_out::{CopyOutError, Depth, Existing, ExtractOptions};
pub use self::import::{
    Asked, Delivered, ImportError, ImportOptions, Imported, NotWanted, SignatureCheck, Verification,
    check_prefix,
};
pub use self::layer::{LayerError, TreeView};
pub use self::oci::{FetchTurn, ImportedOci, OciError, oci_image_id};
pub use self::remove::Removed;
pub use self::tree::{TreeId, TreesLocked};
pub use self::url::{DownloadPlace, PartOf, UrlRecord, Validity};
pub use self::verify::{Change, DamagedTree, Difference, Verified};
use super::aci::MANIFEST_LIMIT;
use super::dependencies::DependencyError;
use crate::appc::image_id::{ImageId, ImageIdQuery};
use crate::appc::image_manifest::{ImageManifest, Label};
use crate::appc::name::AcIdentifier;
use crate::os::{Hint, SysError};

const MANIFEST: &str = "manifest";
const BLOB: &str = "blob";
const RECORD: &str = "record";
const ROOTFS: &str = "rootfs";

/// Of an image's directory: the group rkt may read, and only who imported it may change it.
const IMAGE_DIR_MODE: u32 = 0o2750;
const FILE_MODE: u32 = 0o640;

/// The image store below a data directory.
#[derive(Debug, Clone)]
pub struct Store {
    cas: PathBuf,
}

/// What the store knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Its ID.
    pub id: ImageId,
    /// Its name.
    pub name: AcIdentifier,
    /// Its labels.
    pub labels: Vec<Label>,
    /// When it was imported last.
    pub imported: SystemTime,
    /// When it was imported or used last.
    pub last_used: SystemTime,
    /// Bytes of the unpacked archive and, if it stands alone and has one, of its tree.
    pub size: u64,
    /// It was asked for without a version.
    pub is_latest: bool,
    /// The fingerprint of the key that has signed it, in lower-case hex digits.
    pub signer: Option<String>,
    /// It is all that its root file system is made of, whole.
    pub stands_alone: bool,
}

impl ImageRecord {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.name == *name).map(|label| label.value.as_str())
    }
}

/// Something in the store that is no healthy image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenImage {
    /// The name of its directory.
    pub name: String,
    /// What is wrong.
    pub problem: String,
}

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
    /// There is no such image.
    #[error("image {id} is not in the store")]
    Missing {
        /// Which.
        id: ImageId,
    },
    /// The files of an image are not what they were.
    #[error("image {id} is damaged: {problem}")]
    Damaged {
        /// Which.
        id: ImageId,
        /// What was found.
        problem: String,
    },
    /// The bytes of an image are not those that its ID names.
    #[error("image hash does not match expected ({found} != {expected})")]
    HashMismatch {
        /// Of the bytes.
        found: Box<ImageId>,
        /// Of the image.
        expected: ImageId,
    },
    /// The images below it are not what can be unpacked.
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    /// Somebody has changed its tree.
    #[error("the files of image {image} were changed in the store after they were unpacked")]
    TreeChanged {
        /// Which.
        image: ImageId,
    },
    /// Trees keep owners, which takes root.
    #[error("unpacking image {id} into the store needs root")]
    NeedsRoot {
        /// Which.
        id: ImageId,
    },
}

impl StoreError {
    fn other_manifest(id: &ImageId) -> Self {
        Self::Damaged { id: *id, problem: "its manifest is not the one in its archive".into() }
    }
}

impl StoreError {
    /// Tells whether an image below another is not in the store, so that it may be looked for elsewhere.
    pub fn is_missing_dependency(&self) -> bool {
        matches!(self, Self::Dependency(DependencyError::Missing { .. }))
    }
}

impl Hint for StoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::System(cause) => cause.hint(),
            Self::Damaged { id, .. } | Self::HashMismatch { expected: id, .. } => Some(format!(
                "fetch the image again, which repairs it, or remove it with `rkt image rm {id}`"
            )),
            Self::Dependency(cause) => cause.hint(),
            Self::Missing { .. } => Some("`rkt image list` shows the images that are there".into()),
            Self::TreeChanged { image } => Some(format!(
                "`rkt image verify {image}` names what is different, and with --repair makes all of it anew"
            )),
            Self::NeedsRoot { .. } => None,
        }
    }
}

/// Why no image, or not one image, was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No ID begins like this.
    #[error("no image IDs found")]
    NoId,
    /// Several do.
    #[error("ambiguous image ID: \"{query}\"")]
    Ambiguous {
        /// What was asked for.
        query: String,
    },
    /// No image of this name has these labels.
    #[error("cannot find aci satisfying name: {name} and labels: [{}] in the local store", labels_text(.labels))]
    NoName {
        /// What was asked for.
        name: AcIdentifier,
        /// With these labels.
        labels: Vec<Label>,
    },
    /// The store could not be read.
    #[error(transparent)]
    System(#[from] SysError),
}

impl Hint for FindError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoId | Self::NoName { .. } => {
                Some("`rkt image list` shows the images that are there".into())
            }
            Self::Ambiguous { .. } => Some("give more digits of the ID".into()),
            Self::System(cause) => cause.hint(),
        }
    }
}

fn labels_text(labels: &[Label]) -> String {
    labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect::<Vec<_>>().join(", ")
}

impl Store {
    /// Opens the store in `data_dir` to read and write, making its directories and repairing their modes.
    ///
    /// The data directory itself gets mode 0750 when it is made here; one that was there is left as it is, since it may
    /// be any directory that the user named. What matters is closed below it.
    ///
    /// # Errors
    /// When a directory can't be made or changed.
    pub fn open(data_dir: &Path) -> Result<Self, SysError> {
        let store = Self::look(data_dir);
        let gid = crate::os::group::rkt_gid();
        // The data directory and `cas` may be links to where there is room; nothing below may.
        if make_dir_all(data_dir)? {
            repair(data_dir, OFlags::empty(), 0o750, gid)?;
        }
        make_dir_all(&store.cas)?;
        repair(&store.cas, OFlags::empty(), 0o2770, gid)?;
        for (path, mode, gid) in [
            (store.images_dir(), 0o3770, gid),
            (store.layers_dir(), 0o3770, gid),
            (store.tmp_dir(), 0o3770, gid),
            (store.trees_dir(), 0o700, Some(0)),
        ] {
            make_dir_all(&path)?;
            repair(&path, OFlags::NOFOLLOW, mode, gid)?;
        }
        Ok(store)
    }

    /// Returns the store in `data_dir` to be read; nothing is made, and one that isn't there is empty.
    pub fn look(data_dir: &Path) -> Self {
        Self { cas: data_dir.join("cas") }
    }

    fn images_dir(&self) -> PathBuf {
        self.cas.join("image")
    }

    fn image_dir(&self, id: &ImageId) -> PathBuf {
        self.images_dir().join(id.to_string())
    }

    fn tmp_dir(&self) -> PathBuf {
        self.cas.join("tmp")
    }

    /// A directory for files that have no name.
    pub fn scratch(&self) -> PathBuf {
        self.tmp_dir()
    }

    fn trees_dir(&self) -> PathBuf {
        self.cas.join("tree")
    }

    /// Finds the one image whose ID begins as asked.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, query: &ImageIdQuery) -> Result<ImageId, FindError> {
        let mut found = None;
        for name in self.image_names()? {
            let Some(id) = id_of(&name) else { continue };
            if query.matches(&id) && found.replace(id).is_some() {
                return Err(FindError::Ambiguous { query: query.to_string() });
            }
        }
        found.ok_or(FindError::NoId)
    }

    /// Finds the best image with this name and at least these labels (spec images.md 2.3.1).
    ///
    /// # Errors
    /// When there is none.
    pub fn find_name(&self, name: &AcIdentifier, labels: &[Label]) -> Result<ImageId, FindError> {
        let (images, _) = self.list()?;
        best(&images, name, labels)
            .ok_or_else(|| FindError::NoName { name: name.clone(), labels: labels.to_vec() })
    }

    /// Lists the images that are whole, sorted by ID, and what is there but isn't.
    ///
    /// # Errors
    /// When the directory of images can't be read; not for single images.
    pub fn list(&self) -> Result<(Vec<ImageRecord>, Vec<BrokenImage>), SysError> {
        let (mut images, mut broken) = (Vec::new(), Vec::new());
        for name in self.image_names()? {
            let described = match id_of(&name) {
                Some(id) => self.describe(&id),
                None => Err("its name is no image ID".to_owned()),
            };
            match described {
                Ok(Some(record)) => images.push(record),
                // Removed while we looked.
                Ok(None) => {}
                Err(problem) => broken.push(BrokenImage { name, problem }),
            }
        }
        images.sort_by_key(|image| image.id);
        broken.sort_by(|one, other| one.name.cmp(&other.name));
        Ok((images, broken))
    }

    fn describe(&self, id: &ImageId) -> Result<Option<ImageRecord>, String> {
        let dir = match self.open_image(id) {
            Ok(dir) => dir,
            Err(StoreError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let read = |name, limit| {
            read_at(&dir, name, limit)
                .map_err(|cause| format!("{name}: {}", crate::os::cause_text(&cause.into())))
        };
        let (bytes, last_used) = read(RECORD, record::LIMIT)?;
        let record = record::Record::parse(&bytes)?.believed_from(owner(&dir));
        let (bytes, _) = read(MANIFEST, MANIFEST_LIMIT)?;
        let manifest = ImageManifest::from_json(&bytes).map_err(|error| error.to_string())?;
        if let Some(oci) = &record.oci {
            let diff_ids = oci.diff_ids().ok_or("record: a layer has no digest")?;
            if let Some(missing) = diff_ids.iter().find(|diff_id| self.layer_record(diff_id).is_none()) {
                return Err(format!("its layer {missing} is missing or damaged"));
            }
        } else {
            Self::check_blob_size(&dir, &record)?;
        }
        let stands_alone = manifest.dependencies.is_empty() && manifest.path_whitelist.is_empty();
        let tree = if stands_alone && self.has_tree(&TreeId::of(&[*id])) { record.tree } else { 0 };
        Ok(Some(ImageRecord {
            id: *id,
            stands_alone,
            name: manifest.name,
            labels: manifest.labels,
            imported: record.imported(),
            last_used,
            size: record.unpacked.saturating_add(tree),
            is_latest: record.latest,
            signer: record.signer.map(|signer| signer.fingerprint),
        }))
    }

    fn check_blob_size(dir: &OwnedFd, record: &record::Record) -> Result<(), String> {
        let blob = rustix::fs::statat(dir, BLOB, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|cause| format!("{BLOB}: {}", crate::os::cause_text(&cause.into())))?;
        if u64::try_from(blob.st_size) != Ok(record.delivered) {
            return Err(format!("{BLOB}: it has {} bytes, not {}", blob.st_size, record.delivered));
        }
        Ok(())
    }

    /// The names in the directory of images, which may be missing.
    fn image_names(&self) -> Result<Vec<String>, SysError> {
        Ok(names_in(&self.images_dir())?.into_iter().filter(|name| !name.starts_with('.')).collect())
    }

    /// Returns the manifest of an image.
    ///
    /// # Errors
    /// When the image isn't there, or its manifest is not valid.
    pub fn manifest(&self, id: &ImageId) -> Result<ImageManifest, StoreError> {
        let bytes = self.manifest_bytes(id)?;
        ImageManifest::from_json(&bytes)
            .map_err(|error| StoreError::Damaged { id: *id, problem: error.to_string() })
    }

    /// Returns the bytes of an image's manifest as its archive has them.
    ///
    /// # Errors
    /// When the image isn't there, or its manifest can't be read.
    pub fn manifest_bytes(&self, id: &ImageId) -> Result<Vec<u8>, StoreError> {
        let (bytes, _) = self.in_image(id, MANIFEST, |dir| read_at(dir, MANIFEST, MANIFEST_LIMIT))?;
        Ok(bytes)
    }

    /// Does `step` with the file `name` in the directory of an image.
    ///
    /// An import of the same image puts a new directory in the place of the one that was opened here, and removes that:
    /// then the step is done with the new one.
    fn in_image<T>(
        &self,
        id: &ImageId,
        name: &str,
        step: impl Fn(&OwnedFd) -> Result<T, Errno>,
    ) -> Result<T, StoreError> {
        loop {
            let dir = self.open_image(id)?;
            match step(&dir) {
                Err(Errno::NOENT) if !self.is_still_at(&dir, id) => {}
                other => return other.map_err(|cause| self.damaged(id, name, cause)),
            }
        }
    }

    /// Whether `dir` is the directory of the image, not one that was replaced since.
    fn is_still_at(&self, dir: &OwnedFd, id: &ImageId) -> bool {
        let there = rustix::fs::stat(self.image_dir(id));
        match (rustix::fs::fstat(dir), there) {
            (Ok(held), Ok(there)) => (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino),
            // Opening it again tells why not.
            _ => false,
        }
    }

    /// Returns the fingerprint of the key that has signed an image, if one has.
    ///
    /// # Errors
    /// When the image isn't there, or its record can't be read.
    pub fn signer(&self, id: &ImageId) -> Result<Option<String>, StoreError> {
        let (bytes, owner) = self.in_image(id, RECORD, |dir| {
            read_at(dir, RECORD, record::LIMIT).map(|(bytes, _)| (bytes, owner(dir)))
        })?;
        let record =
            record::Record::parse(&bytes).map_err(|problem| StoreError::Damaged { id: *id, problem })?;
        Ok(record.believed_from(owner).signer.map(|signer| signer.fingerprint))
    }

    /// Notes that an image is used now, for `image gc`; who may not write to the store leaves no note.
    ///
    /// # Errors
    /// When the image isn't there or can't be opened, or has no record.
    pub fn used(&self, id: &ImageId) -> Result<(), StoreError> {
        let now = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        };
        self.in_image(id, RECORD, |dir| {
            match rustix::fs::utimensat(dir, RECORD, &now, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                    log::debug!("the use of image {id} can't be noted");
                    Ok(())
                }
                other => other,
            }
        })
    }

    fn open_image(&self, id: &ImageId) -> Result<OwnedFd, StoreError> {
        let path = self.image_dir(id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT) => Err(StoreError::Missing { id: *id }),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                Err(StoreError::Damaged { id: *id, problem: "it is no directory".into() })
            }
            Err(cause) => Err(SysError::new("opening", path, cause).into()),
        }
    }

    /// Opens the blob of an image, to be hashed by who reads it.
    fn open_blob(&self, id: &ImageId) -> Result<File, StoreError> {
        self.in_image(id, BLOB, |dir| open_regular_at(dir, BLOB))
    }

    fn damaged(&self, id: &ImageId, name: &str, cause: Errno) -> StoreError {
        match cause {
            // The user's trouble, not the image's.
            Errno::ACCESS | Errno::PERM | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
                SysError::new("opening", self.image_dir(id).join(name), cause).into()
            }
            cause => StoreError::Damaged {
                id: *id,
                problem: format!("{name}: {}", crate::os::cause_text(&cause.into())),
            },
        }
    }

    /// Removes what processes that died have left in the store; what is locked is in use.
    ///
    /// What can't be removed is left for the next time.
    pub fn sweep(&self) {
        let tmp = self.tmp_dir();
        let is_over = |name: &str| !name.starts_with(url::DOWNLOAD_PREFIX) || url::is_stale(&tmp.join(name));
        staging::sweep(&tmp, is_over);
        staging::sweep(&self.trees_dir(), |name| name.starts_with(crate::os::atomic::TEMPORARY_PREFIX));
    }

    /// The last use of each image that is whole, by ID.
    pub(super) fn last_uses(&self) -> Result<BTreeMap<ImageId, SystemTime>, SysError> {
        Ok(self.list()?.0.into_iter().map(|image| (image.id, image.last_used)).collect())
    }
}

/// The best image with this name and at least these labels (spec images.md 2.3.1).
fn best(images: &[ImageRecord], name: &AcIdentifier, labels: &[Label]) -> Option<ImageId> {
    let wants_version = labels.iter().any(|label| label.name == *"version");
    images
        .iter()
        .filter(|image| image.name == *name && labels.iter().all(|label| image.labels.contains(label)))
        .max_by_key(|image| (!wants_version && image.is_latest, image.imported, image.id))
        .map(|image| image.id)
}

/// The image whose directory has this name; longer hashes are IDs elsewhere, but no names.
fn id_of(name: &str) -> Option<ImageId> {
    name.parse().ok().filter(|id: &ImageId| id.to_string() == name)
}

/// Who owns an open directory; nobody if the kernel doesn't say.
fn owner(dir: &OwnedFd) -> u32 {
    rustix::fs::fstat(dir).map_or(u32::MAX, |status| status.st_uid)
}

/// Opens a regular file in a directory without following a link or waiting for a FIFO.
fn open_regular_at(dir: &OwnedFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&fd)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => Ok(File::from(fd)),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

/// Reads a small file whole, with its time.
fn read_at(dir: &OwnedFd, name: &str, limit: u64) -> Result<(Vec<u8>, SystemTime), Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let file = open_regular_at(dir, name)?;
    let status = file.metadata().map_err(errno)?;
    // One more than there is, so that the end is seen without growing.
    let size = usize::try_from(status.len().min(limit)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(size + 1);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(errno)?;
    if bytes.len() as u64 > limit {
        return Err(Errno::FBIG);
    }
    Ok((bytes, status.modified().map_err(errno)?))
}

/// `sha512-` and 128 hex digits.
fn full_digest(digest: &[u8; 64]) -> String {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512-{hex}")
}

/// The names in a directory as far as they are text; a directory that isn't there has none.
fn names_in(dir: &Path) -> Result<Vec<String>, SysError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SysError::new("reading", dir, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(SysError::on("reading", dir))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Makes a directory and those above it; tells whether it was missing.
fn make_dir_all(path: &Path) -> Result<bool, SysError> {
    if path.is_dir() {
        return Ok(false);
    }
    std::fs::create_dir_all(path).map_err(SysError::on("creating", path))?;
    Ok(true)
}

/// Gives a directory of ours its mode and, if we are root, its owner; someone else's is left alone.
fn repair(path: &Path, more: OFlags, mode: u32, gid: Option<u32>) -> Result<(), SysError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(SysError::on("opening", path))?;
    let status = rustix::fs::fstat(&fd).map_err(SysError::on("looking at", path))?;
    let user = rustix::process::geteuid();
    if !user.is_root() && status.st_uid != user.as_raw() {
        return Ok(());
    }
    let changed = |result: Result<(), Errno>| match result {
        // Readers work on a read-only file system; a writer gets the refusal where it writes.
        Ok(()) | Err(Errno::ROFS) => Ok(()),
        Err(cause) => Err(SysError::new("changing the mode of", path, cause)),
    };
    let gid = gid.unwrap_or(0);
    let had_owner = !user.is_root() || (status.st_uid == 0 && status.st_gid == gid);
    if !had_owner {
        changed(rustix::fs::fchown(&fd, Some(Uid::ROOT), Some(Gid::from_raw(gid))))?;
    }
    // chown(2) may take the set-group-ID bit away.
    if !had_owner || status.st_mode & 0o7777 != mode {
        changed(rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)))?;
    }
    Ok(())
}

#[cfg(test)]
mod render_tests;
#[cfg(test)]
mod tests;
