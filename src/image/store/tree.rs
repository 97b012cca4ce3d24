//! Trees: images unpacked, for pods to lay their own layer over. Immutable, named by content, made again when missing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use super::{MANIFEST, ROOTFS, Store, StoreError, names_in, read_at};
use crate::appc::image_id::{ImageId, ImageIdError};
use crate::appc::image_manifest::ImageManifest;
use crate::image::aci::MANIFEST_LIMIT;
use crate::image::archive::ArchiveError;
use crate::image::extract::{Devices, ExtractError, Owners, Target, unpack};
use crate::image::stream::{Limits, Source, StreamError};
use crate::os::lock::{Lock, Sharing};
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

    /// Returns the tree of an image, unpacking it from the image's blob if it isn't there.
    ///
    /// The blob is hashed again, and the manifest in the store must be the one in it; so what runs is what the ID names.
    /// Who is going to use the tree calls this under [`Store::hold`].
    ///
    /// # Errors
    /// When the image isn't there, is damaged, has dependencies, or can't be unpacked.
    pub fn ensure_tree(&self, id: &ImageId) -> Result<TreeId, StoreError> {
        let manifest_bytes = self.manifest_bytes(id)?;
        self.check_renderable(id, &manifest_bytes)?;
        let tree = TreeId::of(&[*id]);
        let dir = self.trees_dir().join(tree.as_str());
        match read_tree_manifest(&dir) {
            Ok(Some(bytes)) if bytes == manifest_bytes => return Ok(tree),
            Ok(Some(_)) => return Err(other_manifest(id)),
            Ok(None) => {}
            Err(error) => return Err(error.into()),
        }
        if !rustix::process::geteuid().is_root() {
            return Err(StoreError::NeedsRoot { id: *id });
        }
        let _interrupts = interrupt::Watch::start();
        self.sweep();
        let staged = self.stage_tree()?;
        let rootfs = staged.path().join(ROOTFS);
        let target = Target { rootfs: &rootfs, owners: Owners::OfImage, devices: Devices::Skip };
        let found_manifest = self.unpack_verified(id, Some(&target))?;
        if found_manifest != manifest_bytes {
            return Err(other_manifest(id));
        }
        atomic::write_synced(&staged.path().join(MANIFEST), &found_manifest, 0o600)?;
        atomic::sync_filesystem(&self.cas)?;
        staged.place(&dir)?;
        Ok(tree)
    }

    /// The root file system of a tree, for mounting; it must never be changed.
    pub fn tree_rootfs(&self, tree: &TreeId) -> PathBuf {
        self.trees_dir().join(tree.as_str()).join(ROOTFS)
    }

    /// Unpacks the blob of an image and returns its manifest, if the bytes are those that the ID names.
    pub(super) fn unpack_verified(
        &self,
        id: &ImageId,
        target: Option<&Target<'_>>,
    ) -> Result<Vec<u8>, StoreError> {
        // What was imported under the user's limits is not judged again.
        let limits = Limits { output: u64::MAX, ratio: u64::MAX, ..Limits::default() };
        let source = Source { file: self.open_blob(id)?, keep: None, limits, progress: None };
        let (unpacked, passed) = unpack(source, target).map_err(|error| match error {
            ExtractError::System(error) => StoreError::System(error),
            ExtractError::Archive(ArchiveError::Stream { cause: StreamError::Keep(error), .. }) => {
                StoreError::System(error)
            }
            ExtractError::Archive(error) => StoreError::Damaged { id: *id, problem: error.to_string() },
        })?;
        let found = ImageId::from_sha512(&passed.digest);
        if found != *id {
            return Err(StoreError::HashMismatch { found: Box::new(found), expected: *id });
        }
        Ok(unpacked.manifest)
    }

    /// Checks that an image with these bytes as manifest can be rendered: that it depends on no other.
    ///
    /// # Errors
    /// When it does, or the manifest is not valid.
    pub fn check_renderable(&self, id: &ImageId, manifest: &[u8]) -> Result<(), StoreError> {
        let manifest = ImageManifest::from_json(manifest)
            .map_err(|error| StoreError::Damaged { id: *id, problem: error.to_string() })?;
        if manifest.dependencies.is_empty() {
            return Ok(());
        }
        let dependencies = manifest.dependencies.into_iter().map(|image| image.image_name).collect();
        Err(StoreError::Dependencies { name: manifest.name, dependencies })
    }

    /// Tells whether there is such a tree. Who may not look believes that there is.
    pub(super) fn has_tree(&self, tree: &TreeId) -> bool {
        !matches!(rustix::fs::lstat(self.trees_dir().join(tree.as_str())), Err(rustix::io::Errno::NOENT))
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
        for id in names.iter().filter_map(|name| name.parse::<TreeId>().ok()) {
            if in_use.contains(&id) {
                continue;
            }
            match remove_tree(&dir, &id) {
                Ok(()) => removed.push(id),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        removed.sort();
        (removed, first_error)
    }
}

/// Takes the tree's name away first, so that a kill leaves no tree with a part of its files.
fn remove_tree(dir: &std::path::Path, id: &TreeId) -> Result<(), SysError> {
    let garbage = dir.join(format!("{}{}", atomic::TEMPORARY_PREFIX, uuid::Uuid::new_v4().simple()));
    let path = dir.join(id.as_str());
    std::fs::rename(&path, &garbage).map_err(SysError::on("removing", &path))?;
    atomic::sync_dir(dir)?;
    tree::remove(&garbage)
}

fn read_tree_manifest(dir: &std::path::Path) -> Result<Option<Vec<u8>>, SysError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(cause) => return Err(SysError::new("opening", dir, cause)),
    };
    read_at(&fd, MANIFEST, MANIFEST_LIMIT)
        .map(|(bytes, _)| Some(bytes))
        .map_err(SysError::on("reading", dir.join(MANIFEST)))
}

fn other_manifest(id: &ImageId) -> StoreError {
    StoreError::Damaged { id: *id, problem: "its manifest is not the one in its archive".into() }
}
