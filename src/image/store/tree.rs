//! Trees: images unpacked, for pods to lay their own layer over. Immutable, named by content, made again when missing.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use super::staging::Staging;
use super::verify::name_of_old;
use super::{MANIFEST, RECORD, ROOTFS, Store, StoreError, names_in, read_at, seal};
use crate::appc::image_id::{ImageId, ImageIdError};
use crate::image::aci::{ListedDirs, MANIFEST_LIMIT};
use crate::image::archive::ArchiveError;
use crate::image::dependencies::Flat;
use crate::image::extract::{Devices, ExtractError, Owners, Target, unpack, unpack_layer};
use crate::image::stream::{Limits, Passed, Source, StreamError};
use crate::os::lock::{Lock, Sharing};
use crate::os::walk::Walk;
use crate::os::{SysError, atomic, interrupt, tree};

/// The name of a tree: `deps-sha512-` and 64 hex digits of the SHA-512 over the IDs of its images, top first, joined
/// with commas (spec images.md 2.7).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreeId(String);

const PREFIX: &str = "deps-";

impl TreeId {
    /// The tree of these images, the top one first.
    pub fn of(images: &[ImageId]) -> Self {
        let keys = images.iter().map(ImageId::to_string).collect::<Vec<_>>().join(",");
        let digest = <[u8; 64]>::from(Sha512::digest(keys));
        Self(format!("{PREFIX}{}", ImageId::from_sha512(&digest)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TreeId {
    type Err = ImageIdError;

    fn from_str(text: &str) -> Result<Self, ImageIdError> {
        let id: ImageId = text.strip_prefix(PREFIX).unwrap_or_default().parse()?;
        let tree = format!("{PREFIX}{id}");
        // Longer hashes are cut as those of images are; but the name of a directory has one form.
        if tree != text {
            return Err(ImageIdError::Malformed {
                text: text.to_owned(),
                rule: "64 digits must follow \"sha512-\"",
            });
        }
        Ok(Self(tree))
    }
}

impl TryFrom<String> for TreeId {
    type Error = ImageIdError;

    fn try_from(text: String) -> Result<Self, ImageIdError> {
        text.parse()
    }
}

impl From<TreeId> for String {
    fn from(id: TreeId) -> Self {
        id.0
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The file `record` of a tree. JSON with a version; what it does not know, it ignores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TreeRecord {
    version: u32,
    /// The images that it is made of, the top one first.
    pub(super) images: Vec<ImageId>,
    /// Bytes of its files; 0 where the record of its only image has them.
    pub(super) size: u64,
}

impl TreeRecord {
    const VERSION: u32 = 1;
    /// Size that a record may have: a hundred bytes for each of the images that may be named.
    const LIMIT: u64 = 256 << 10;

    pub(super) fn new(images: &[ImageId], size: u64) -> Self {
        Self { version: Self::VERSION, images: images.to_vec(), size }
    }

    fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("numbers and text are always JSON");
        bytes.push(b'\n');
        bytes
    }
}

/// All trees, held so that no pod comes to use one.
#[must_use = "dropping it lets pods be prepared"]
pub struct TreesLocked<'a> {
    store: &'a Store,
    _lock: Lock,
}

impl Store {
    /// Keeps all trees from being collected until the lock is dropped, by then a pod must name the trees it uses.
    ///
    /// # Errors
    /// When the directory of trees can't be locked.
    ///
    /// # Locking
    /// Shared, on the directory of trees; waits for a collection, which takes as long as removing files does.
    pub fn hold(&self) -> Result<Lock, SysError> {
        let notice = || log::info!("waiting for the collection of trees in {}", self.cas.display());
        Lock::wait_on(&self.trees_dir(), Sharing::Shared, notice)
    }

    /// Keeps all pods from being prepared, so that what is in use can be found out and the rest collected.
    ///
    /// # Errors
    /// When the directory of trees can't be locked.
    ///
    /// # Locking
    /// Exclusive, on the directory of trees; waits for those who [`Store::hold`], after `notice`.
    pub fn lock_trees(&self, notice: impl FnOnce()) -> Result<TreesLocked<'_>, SysError> {
        let lock = Lock::wait_on(&self.trees_dir(), Sharing::Exclusive, notice)?;
        Ok(TreesLocked { store: self, _lock: lock })
    }

    /// Returns the tree of an image and those below it, unpacking it from their blobs if it isn't there.
    ///
    /// The blobs are hashed again, and a manifest in the store must be the one in its blob; so what runs is what the IDs
    /// name. The images below are noted as used. Who is going to use the tree calls this under [`Store::hold`].
    ///
    /// # Errors
    /// When an image isn't there, is damaged, or can't be unpacked.
    pub fn ensure_tree(&self, id: &ImageId) -> Result<TreeId, StoreError> {
        if let Some(oci) = self.oci_record(id)? {
            return self.ensure_layered_tree(id, &oci);
        }
        let manifest_bytes = self.manifest_bytes(id)?;
        let flat = self.flatten(id)?;
        let tree = TreeId::of(&flat.images);
        let dir = self.trees_dir().join(tree.as_str());
        match read_tree_file(&dir, MANIFEST, MANIFEST_LIMIT)? {
            Some(bytes) if bytes != manifest_bytes => return Err(StoreError::other_manifest(id)),
            Some(_) => {}
            None => {
                let _interrupts = interrupt::Watch::start();
                self.sweep();
                self.render_tree(id, &flat)?.place(&dir)?;
            }
        }
        flat.images[1..].iter().try_for_each(|id| self.used(id))?;
        Ok(tree)
    }

    /// Unpacks the tree of an image under a name that nobody looks for; durable on return.
    pub(super) fn render_tree(&self, id: &ImageId, flat: &Flat) -> Result<Staging, StoreError> {
        if !rustix::process::geteuid().is_root() {
            return Err(StoreError::NeedsRoot { id: *id });
        }
        let staged = self.stage_tree()?;
        let manifest = self.render(flat, staged.path(), (Owners::OfImage, Devices::Skip))?;
        let size = if flat.is_plain() { 0 } else { size_of(&staged.path().join(ROOTFS))? };
        self.finish_tree(&staged, &manifest, &TreeRecord::new(&flat.images, size))?;
        atomic::sync_filesystem(&self.cas)?;
        Ok(staged)
    }

    /// Writes what stands beside the root file system of a tree.
    pub(super) fn finish_tree(
        &self,
        staged: &Staging,
        manifest: &[u8],
        record: &TreeRecord,
    ) -> Result<(), SysError> {
        seal::put_on(staged.path())?;
        atomic::write_synced(&staged.path().join(RECORD), &record.to_json(), 0o600)?;
        atomic::write_synced(&staged.path().join(MANIFEST), manifest, 0o600)
    }

    /// The images that a tree is made of, the top one first; none if it can't be told.
    pub fn tree_images(&self, tree: &TreeId) -> Vec<ImageId> {
        self.tree_record(tree).map_or_else(Vec::new, |record| record.images)
    }

    /// What is known of a tree. Trees of an older version of this program have no record, and one image.
    pub(super) fn tree_record(&self, tree: &TreeId) -> Option<TreeRecord> {
        let dir = self.trees_dir().join(tree.as_str());
        let bytes = read_tree_file(&dir, RECORD, TreeRecord::LIMIT).ok()??;
        serde_json::from_slice(&bytes)
            .ok()
            .filter(|record: &TreeRecord| record.version <= TreeRecord::VERSION)
    }

    /// The root file system of a tree, for mounting; it must never be changed.
    pub fn tree_rootfs(&self, tree: &TreeId) -> PathBuf {
        self.trees_dir().join(tree.as_str()).join(ROOTFS)
    }

    /// Checks that the blob of an image is what the ID names; writes nothing, and returns its manifest.
    pub(super) fn check_blob(&self, id: &ImageId) -> Result<Vec<u8>, StoreError> {
        let (unpacked, passed) = unpack(self.source(id)?, None).map_err(|error| unpack_failed(id, error))?;
        expect_id(id, &passed)?;
        Ok(unpacked.manifest)
    }

    /// Unpacks the blob of an image alone and returns its manifest, if the bytes are those that the ID names.
    pub(super) fn unpack_verified(&self, id: &ImageId, target: &Target<'_>) -> Result<Vec<u8>, StoreError> {
        self.unpack_layer(id, target).map(|(manifest, _)| manifest)
    }

    /// As [`Store::unpack_verified`], and tells which directories the image has entries for.
    pub(super) fn unpack_layer(
        &self,
        id: &ImageId,
        target: &Target<'_>,
    ) -> Result<(Vec<u8>, ListedDirs), StoreError> {
        if let Some(oci) = self.oci_record(id)? {
            return self.unpack_oci(id, &oci, target);
        }
        let (unpacked, listed, passed) =
            unpack_layer(self.source(id)?, target).map_err(|error| unpack_failed(id, error))?;
        expect_id(id, &passed)?;
        Ok((unpacked.manifest, listed))
    }

    fn source(&self, id: &ImageId) -> Result<Source<'static>, StoreError> {
        // What was imported under the user's limits is not judged again.
        let limits = Limits { output: u64::MAX, ratio: u64::MAX, ..Limits::default() };
        Ok(Source { file: self.open_blob(id)?, keep: None, watch: None, limits, progress: None })
    }

    /// The names of these trees and of all that they consist of. One that is gone consists of nothing.
    pub(super) fn names_of_trees(&self, trees: &BTreeSet<TreeId>) -> Result<BTreeSet<String>, SysError> {
        let mut names = BTreeSet::new();
        for tree in trees {
            names.insert(tree.to_string());
            let parts = self.tree_layers(tree)?;
            let parts = parts.iter().filter_map(|rootfs| rootfs.parent()?.file_name()?.to_str());
            names.extend(parts.map(str::to_owned));
        }
        Ok(names)
    }

    /// Tells whether there is such a tree. Who may not look believes that there is.
    pub(super) fn has_tree(&self, tree: &TreeId) -> bool {
        !matches!(rustix::fs::lstat(self.trees_dir().join(tree.as_str())), Err(Errno::NOENT))
    }
}

impl TreesLocked<'_> {
    /// Removes the trees that are not in `in_use`, which must have been found out under this lock.
    ///
    /// Goes on past errors. Returns the trees that were removed, and the first refusal.
    pub fn collect(&self, in_use: &BTreeSet<TreeId>) -> (Vec<TreeId>, Option<SysError>) {
        self.store.sweep();
        let dir = self.store.trees_dir();
        let names = match names_in(&dir) {
            Ok(names) => names,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let (mut removed, mut first_error) = (Vec::new(), None);
        let used = match self.store.names_of_trees(in_use) {
            Ok(used) => used,
            Err(error) => return (Vec::new(), Some(error)),
        };
        for name in names.iter().filter(|name| name_of_old(name).is_some_and(|old| !used.contains(old))) {
            first_error = first_error.or(remove_named(&dir, name).err());
        }
        for id in names.iter().filter_map(|name| name.parse::<TreeId>().ok()) {
            if in_use.contains(&id) {
                continue;
            }
            match remove_named(&dir, id.as_str()) {
                Ok(()) => removed.push(id),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error = first_error.or(self.store.collect_layer_trees().err());
        removed.sort();
        (removed, first_error)
    }
}

/// Takes the tree's name away first, so that a kill leaves no tree with a part of its files.
pub(super) fn remove_named(dir: &Path, name: &str) -> Result<(), SysError> {
    let garbage = dir.join(format!("{}{}", atomic::TEMPORARY_PREFIX, uuid::Uuid::new_v4().simple()));
    let path = dir.join(name);
    std::fs::rename(&path, &garbage).map_err(SysError::on("removing", &path))?;
    atomic::sync_dir(dir)?;
    tree::remove(&garbage)
}

/// Reads a file of a tree; `None` if there is no such tree.
fn read_tree_file(dir: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, SysError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(cause) => return Err(SysError::new("opening", dir, cause)),
    };
    read_at(&fd, name, limit).map(|(bytes, _)| Some(bytes)).map_err(SysError::on("reading", dir.join(name)))
}

pub(super) fn unpack_failed(id: &ImageId, error: ExtractError) -> StoreError {
    match error {
        ExtractError::System(error)
        | ExtractError::Archive(ArchiveError::Stream { cause: StreamError::Keep(error), .. }) => error.into(),
        ExtractError::Archive(error) => StoreError::Damaged { id: *id, problem: error.to_string() },
    }
}

fn expect_id(id: &ImageId, passed: &Passed) -> Result<(), StoreError> {
    let found = ImageId::from_sha512(&passed.digest);
    if found == *id {
        return Ok(());
    }
    Err(StoreError::HashMismatch { found: Box::new(found), expected: *id })
}

/// Bytes of the regular files in a directory, each file once.
fn size_of(dir: &Path) -> Result<u64, SysError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(dir, flags, Mode::empty()).map_err(SysError::on("opening", dir))?;
    let mut walk = Walk::new(top, dir)?;
    let (mut size, mut linked) = (0_u64, HashSet::new());
    while let Some(step) = walk.step()? {
        let status = &step.status;
        if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
            && (status.st_nlink == 1 || linked.insert(status.st_ino))
        {
            size = size.saturating_add(u64::try_from(status.st_size).unwrap_or(0));
        }
    }
    Ok(size)
}
