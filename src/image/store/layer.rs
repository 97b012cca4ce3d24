//! Layers of OCI images in the store: what was delivered, and the trees that are unpacked from it.
//!
//! A layer is known by its diff ID, the digest of its unpacked archive, and is there once, however many images have it.
//! Its tree is `layer-DIGEST` if it is the same whatever is below it, and `chain-DIGEST` of all up to it (OCI image-spec
//! 1.1, config.md, "Layer ChainID") if it needs something of what is below. No layer is believed because of its name:
//! an import hashes what is there already, and a tree is unpacked only from bytes that have the diff ID.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::staging::Staging;
use super::tree::TreeId;
use super::verify::{Difference, Replacement, compare};
use super::{
    BLOB, FILE_MODE, IMAGE_DIR_MODE, RECORD, ROOTFS, Store, names_in, open_regular_at, read_at, seal,
};
use crate::image::digest::Digest;
use crate::image::extract::{
    Devices, ExtractError, Owners, Target, Unfinished, UnpackedLayer, hides_all, unpack_oci_layer,
};
use crate::image::oci::source::{Blobs, Part, Sink, SourceError, in_parallel};
use crate::image::stream::{Flowed, Limits, Source};
use crate::os::lock::{Lock, Sharing};
use crate::os::{Hint, SysError, atomic, overlay, tree};

const LAYER: &str = "layer-";
const CHAIN: &str = "chain-";
/// The file of a tree that names the trees it consists of, the highest first, one a line.
pub(super) const LAYERS: &str = "layers";
const VERSION: u32 = 1;
const RECORD_LIMIT: u64 = 64 << 10;

/// What the store notes of a layer. What it does not know, it ignores.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerRecord {
    version: u32,
    /// Bytes of the blob.
    pub(super) delivered: u64,
    /// Bytes of the unpacked archive.
    pub(super) unpacked: u64,
    /// Bytes of its files.
    pub(super) files: u64,
    /// What the blob is packed with, for readers of the file.
    compression: String,
}

/// Why a layer is not in the store. The caller adds the image.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It did not come, or not as described.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is no valid layer, or could not be unpacked.
    #[error("layer {layer}: {cause}")]
    Content {
        /// Its diff ID.
        layer: Box<Digest>,
        /// What is wrong.
        cause: ExtractError,
    },
    /// It is another layer than the configuration says.
    #[error("layer {layer} has, unpacked, the digest {found}")]
    DiffId {
        /// The diff ID in the configuration.
        layer: Box<Digest>,
        /// That of the bytes.
        found: Box<Digest>,
    },
    /// The store does not have it, and nobody can bring it.
    #[error("layer {0} is not in the store, or is damaged")]
    Missing(Box<Digest>),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

impl Hint for LayerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Source(cause) => cause.hint(),
            Self::Content { cause, .. } => cause.hint(),
            Self::System(cause) => cause.hint(),
            Self::DiffId { .. } => Some(
                "the image was changed or damaged after it was made: get it again from who made it".into(),
            ),
            Self::Missing(_) => None,
        }
    }
}

/// A tree to be looked into, whether it has one layer or many. It is not visible to others.
#[derive(Debug)]
pub struct TreeView {
    path: PathBuf,
    _mount: Option<OwnedFd>,
}

impl TreeView {
    /// The root file system, for this process and as long as the view is there.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

/// How layers come in.
pub(super) struct Bring<'a> {
    /// What is known of each, the lowest first.
    pub(super) parts: &'a [Part],
    /// Where they are.
    pub(super) blobs: &'a dyn Blobs,
    /// Told the bytes of a layer that have come.
    pub(super) progress: &'a (dyn Fn(usize, u64) + Sync),
}

/// A layer that will be in the store once it is placed.
pub(super) struct Prepared {
    diff_id: Digest,
    chain_id: Digest,
    /// The blob that was brought; `None` if the store has it.
    blob: Option<Staging>,
    blob_path: PathBuf,
    tree: PreparedTree,
    pub(super) record: LayerRecord,
    pub(super) skipped_devices: u64,
}

enum PreparedTree {
    /// Who is not root has none.
    None,
    /// It is there, by this name.
    Present(String),
    /// It was unpacked here.
    New(Staging, Unfinished),
}

/// The chain IDs of layers, the lowest first.
pub(super) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => *diff_id,
            Some(below) => Digest::sha256(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

impl Store {
    pub(super) fn layers_dir(&self) -> PathBuf {
        self.cas.join("layer")
    }

    pub(super) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.layers_dir().join(diff_id.file_name())
    }

    /// Keeps all layers from being collected until the lock is dropped; by then an image must name them.
    ///
    /// # Errors
    /// When the directory of layers can't be locked.
    ///
    /// # Locking
    /// Shared, on the directory of layers; waits for a collection.
    pub(super) fn hold_layers(&self) -> Result<Lock, SysError> {
        let notice = || log::info!("waiting for the collection of layers in {}", self.cas.display());
        Lock::wait_on(&self.layers_dir(), Sharing::Shared, notice)
    }

    /// The record of a layer, if there is one with a blob of the right size.
    pub(super) fn layer_record(&self, diff_id: &Digest) -> Option<LayerRecord> {
        let dir = File::open(self.layer_dir(diff_id)).ok()?.into();
        let (bytes, _) = read_at(&dir, RECORD, RECORD_LIMIT).ok()?;
        let record: LayerRecord = serde_json::from_slice(&bytes).ok()?;
        let blob = rustix::fs::statat(&dir, BLOB, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_whole = u64::try_from(blob.st_size) == Ok(record.delivered) && record.version <= VERSION;
        is_whole.then_some(record)
    }

    pub(super) fn open_layer_blob(&self, diff_id: &Digest) -> Option<File> {
        let dir = File::open(self.layer_dir(diff_id)).ok()?.into();
        open_regular_at(&dir, BLOB).ok()
    }

    /// The name of a layer's tree, if it is there.
    fn find_layer_tree(&self, diff_id: &Digest, chain_id: &Digest) -> Option<String> {
        let names = [tree_name(LAYER, diff_id), tree_name(CHAIN, chain_id)];
        names.into_iter().find(|name| rustix::fs::lstat(self.trees_dir().join(name)).is_ok())
    }

    /// Makes all layers ready to be placed: brought, checked and, by root, unpacked. Nothing is synced.
    pub(super) fn prepare_layers(
        &self,
        diff_ids: &[Digest],
        bring: Option<&Bring<'_>>,
        limits: &Limits,
    ) -> Result<Vec<Prepared>, LayerError> {
        let chain_ids = chain_ids(diff_ids);
        // A layer that is there twice is prepared once; where it needs what is below it, see `finish_layers`.
        let first = |index: usize| diff_ids[..index].iter().all(|other| *other != diff_ids[index]);
        let indexes: Vec<usize> = (0..diff_ids.len()).filter(|index| first(*index)).collect();
        let prepare = |at: usize| {
            let index = indexes[at];
            self.prepare_layer(index, (&diff_ids[index], &chain_ids[index]), bring, limits)
        };
        let mut prepared = in_parallel(indexes.len(), prepare)?;
        self.finish_layers(diff_ids, &chain_ids, &mut prepared, limits)?;
        Ok(prepared)
    }

    fn prepare_layer(
        &self,
        index: usize,
        (diff_id, chain_id): (&Digest, &Digest),
        bring: Option<&Bring<'_>>,
        limits: &Limits,
    ) -> Result<Prepared, LayerError> {
        let is_root = rustix::process::geteuid().is_root();
        let present = self.find_layer_tree(diff_id, chain_id).filter(|_| is_root);
        let part = bring.map(|bring| bring.parts[index]);
        if let Some(record) = self.layer_record(diff_id) {
            let is_described = part.and_then(|part| self.stored_is(diff_id, &part)) == Some(true);
            let blob_path = self.layer_dir(diff_id).join(BLOB);
            let known = |tree| Prepared {
                diff_id: *diff_id,
                chain_id: *chain_id,
                blob: None,
                blob_path: blob_path.clone(),
                tree,
                record: record.clone(),
                skipped_devices: 0,
            };
            match (&present, is_root) {
                (Some(name), _) if is_described || bring.is_none() => {
                    return Ok(known(PreparedTree::Present(name.clone())));
                }
                (None, false) if is_described => return Ok(known(PreparedTree::None)),
                _ => {}
            }
            let file = self.open_layer_blob(diff_id);
            match file.map(|file| self.unpack(file, diff_id, is_root && present.is_none(), limits)) {
                Some(Ok((tree, unpacked, _))) => {
                    let tree = match (present, tree) {
                        (Some(name), _) => PreparedTree::Present(name),
                        (None, Some(tree)) => PreparedTree::New(tree, unpacked.unfinished),
                        (None, None) => PreparedTree::None,
                    };
                    return Ok(Prepared { skipped_devices: unpacked.skipped_devices, ..known(tree) });
                }
                // Damaged; what is brought anew takes its place.
                Some(Err(error)) if bring.is_none() || matches!(error, LayerError::System(_)) => {
                    return Err(error);
                }
                Some(Err(_)) | None => {}
            }
        }
        let (Some(bring), Some(part)) = (bring, part) else {
            return Err(LayerError::Missing(Box::new(*diff_id)));
        };
        let staged = Staging::new(&self.tmp_dir(), IMAGE_DIR_MODE)?;
        let blob_path = staged.path().join(BLOB);
        let what = match part.digest {
            Some(digest) => format!("layer {digest}"),
            None => format!("layer {diff_id}"),
        };
        let progress = |written| (bring.progress)(index, written);
        let mut sink = Sink::create(blob_path.clone(), FILE_MODE, what, part, &progress)?;
        bring.blobs.bring(index, &mut sink)?;
        let file = sink.finish()?;
        let (tree, unpacked, flowed) = self.unpack(file, diff_id, is_root && present.is_none(), limits)?;
        let record = LayerRecord {
            version: VERSION,
            delivered: part.size,
            unpacked: flowed.unpacked,
            files: unpacked.size,
            compression: flowed.compression.to_string(),
        };
        let mut json = serde_json::to_vec(&record).expect("numbers and text are always JSON");
        json.push(b'\n');
        atomic::write_new(&staged.path().join(RECORD), &json, FILE_MODE)?;
        Ok(Prepared {
            diff_id: *diff_id,
            chain_id: *chain_id,
            blob: Some(staged),
            blob_path,
            tree: match (present, tree) {
                (Some(name), _) => PreparedTree::Present(name),
                (None, Some(tree)) => PreparedTree::New(tree, unpacked.unfinished),
                (None, None) => PreparedTree::None,
            },
            record,
            skipped_devices: unpacked.skipped_devices,
        })
    }

    /// Tells whether the blob in the store is the described one; `None` if it may be the same layer packed otherwise.
    fn stored_is(&self, diff_id: &Digest, part: &Part) -> Option<bool> {
        let mut hasher = part.digest?.algorithm().hasher();
        let mut file = self.open_layer_blob(diff_id)?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Some(Some(hasher.finish()) == part.digest),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Some(false),
            }
        }
    }

    /// Unpacks a layer to a new tree, if asked, and holds it to its diff ID.
    fn unpack(
        &self,
        file: File,
        diff_id: &Digest,
        to_tree: bool,
        limits: &Limits,
    ) -> Result<(Option<Staging>, UnpackedLayer, Flowed), LayerError> {
        let tree = if to_tree { Some(self.stage_tree()?) } else { None };
        let rootfs = tree.as_ref().map(|tree| tree.path().join(ROOTFS));
        let target = rootfs.as_ref().map(|rootfs| layer_target(rootfs));
        let source = Source { file, keep: None, watch: None, limits: *limits, progress: None };
        let (unpacked, flowed) = unpack_oci_layer(source, diff_id.algorithm(), target.as_ref())
            .map_err(|cause| content(diff_id, cause))?;
        if flowed.digest != *diff_id {
            return Err(LayerError::DiffId { layer: Box::new(*diff_id), found: Box::new(flowed.digest) });
        }
        Ok((tree, unpacked, flowed))
    }

    /// Does what needs the layers below, from the lowest up; by then those are unpacked.
    fn finish_layers(
        &self,
        diff_ids: &[Digest],
        chain_ids: &[Digest],
        prepared: &mut Vec<Prepared>,
        limits: &Limits,
    ) -> Result<(), LayerError> {
        // The trees below, the highest first.
        let mut below: Vec<PathBuf> = Vec::new();
        for (index, diff_id) in diff_ids.iter().enumerate() {
            let earlier =
                prepared.iter().position(|layer| layer.diff_id == *diff_id).expect("it was prepared");
            let at = if prepared[earlier].is_for(&chain_ids[index]) {
                earlier
            } else {
                let (record, blob_path) =
                    (prepared[earlier].record.clone(), prepared[earlier].blob_path.clone());
                let file = File::open(&blob_path).map_err(SysError::on("opening", &blob_path))?;
                let (tree, unpacked, _) = self.unpack(file, diff_id, true, limits)?;
                prepared.push(Prepared {
                    diff_id: *diff_id,
                    chain_id: chain_ids[index],
                    blob: None,
                    blob_path,
                    tree: tree
                        .map_or(PreparedTree::None, |tree| PreparedTree::New(tree, unpacked.unfinished)),
                    record,
                    skipped_devices: 0,
                });
                prepared.len() - 1
            };
            let rootfs = match &prepared[at].tree {
                PreparedTree::None => continue,
                PreparedTree::Present(name) => self.trees_dir().join(name).join(ROOTFS),
                PreparedTree::New(staged, unfinished) => {
                    let rootfs = staged.path().join(ROOTFS);
                    if !unfinished.is_empty() && chain_ids[index] == prepared[at].chain_id {
                        // It stays marked as unfinished: that is what its name goes by.
                        unfinished
                            .finish(&layer_target(&rootfs), &below)
                            .map_err(|cause| content(diff_id, cause))?;
                    }
                    seal::put_on(staged.path())?;
                    rootfs
                }
            };
            below.insert(0, rootfs);
        }
        Ok(())
    }

    /// Gives what was prepared, and is synced, its names; returns those of the trees, as [`Store::layer_trees`] does.
    pub(super) fn place_layers(
        &self,
        diff_ids: &[Digest],
        prepared: Vec<Prepared>,
    ) -> Result<Option<Vec<String>>, SysError> {
        for layer in prepared {
            if let PreparedTree::New(tree, unfinished) = layer.tree {
                let name = if unfinished.is_empty() {
                    tree_name(LAYER, &layer.diff_id)
                } else {
                    tree_name(CHAIN, &layer.chain_id)
                };
                tree.place(&self.trees_dir().join(name))?;
            }
            if let Some(blob) = layer.blob {
                blob.replace(&self.layer_dir(&layer.diff_id))?;
            }
        }
        self.layer_trees(diff_ids)
    }

    /// The names of the trees of layers, the highest first, each once: what is in a tree that comes twice is hidden by the
    /// upper one, and overlayfs takes no layer twice. `None` if one is not there.
    fn layer_trees(&self, diff_ids: &[Digest]) -> Result<Option<Vec<String>>, SysError> {
        let mut names: Vec<String> = Vec::new();
        for (diff_id, chain_id) in diff_ids.iter().zip(chain_ids(diff_ids)).rev() {
            let Some(name) = self.find_layer_tree(diff_id, &chain_id) else { return Ok(None) };
            let hides_all = hides_all(&self.trees_dir().join(&name).join(ROOTFS))?;
            if !names.contains(&name) {
                names.push(name);
            }
            if hides_all {
                break;
            }
        }
        Ok(Some(names))
    }

    /// The root file systems of the layers of a tree, the highest first; one for a tree that is not layered.
    ///
    /// # Errors
    /// When the tree isn't there, or the list of its layers can't be read.
    pub fn tree_layers(&self, tree: &TreeId) -> Result<Vec<PathBuf>, SysError> {
        let list = self.trees_dir().join(tree.as_str()).join(LAYERS);
        match std::fs::read_to_string(&list) {
            Ok(text) => {
                let names = text.lines().map(|name| {
                    let cause = || std::io::Error::new(std::io::ErrorKind::InvalidData, "no tree");
                    let name = is_layer_tree(name).then_some(name);
                    name.ok_or_else(|| SysError::new("reading", &list, cause()))
                });
                names.map(|name| Ok(self.trees_dir().join(name?).join(ROOTFS))).collect()
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(vec![self.tree_rootfs(tree)]),
            Err(cause) => Err(SysError::new("reading", list, cause)),
        }
    }

    /// Unpacks the layers once more and compares their trees with that; returns good ones for those that differ, and how.
    pub(super) fn compare_layers(
        &self,
        diff_ids: &[Digest],
    ) -> Result<(Vec<Replacement>, Vec<Difference>), LayerError> {
        let limits = Limits { output: u64::MAX, ratio: u64::MAX, ..Limits::default() };
        let (mut good, mut differences) = (Vec::<Replacement>::new(), Vec::new());
        // The trees below, the highest first.
        let mut below: Vec<PathBuf> = Vec::new();
        for (diff_id, chain_id) in diff_ids.iter().zip(chain_ids(diff_ids)) {
            let blob =
                self.open_layer_blob(diff_id).ok_or_else(|| LayerError::Missing(Box::new(*diff_id)))?;
            let name = self.find_layer_tree(diff_id, &chain_id);
            // One that is there twice was compared already.
            let name = name.filter(|name| good.iter().all(|replacement| replacement.name != *name));
            let (fresh, unpacked, _) = self.unpack(blob, diff_id, name.is_some(), &limits)?;
            let (Some(name), Some(fresh)) = (name, fresh) else { continue };
            let (rootfs, expected) = (self.trees_dir().join(&name).join(ROOTFS), fresh.path().join(ROOTFS));
            unpacked
                .unfinished
                .finish(&layer_target(&expected), &below)
                .map_err(|cause| content(diff_id, cause))?;
            let found = compare(&expected, &rootfs)?;
            if found.is_empty() {
                below.insert(0, rootfs);
                continue;
            }
            seal::put_on(fresh.path())?;
            below.insert(0, expected);
            good.push(Replacement { fresh, name });
            differences.extend(found);
        }
        Ok((good, differences))
    }

    /// Opens a tree to be looked into.
    ///
    /// # Errors
    /// When it isn't there, or its layers can't be mounted.
    pub fn view(&self, tree: &TreeId) -> Result<TreeView, SysError> {
        let layers = self.tree_layers(tree)?;
        if let [only] = &layers[..] {
            return Ok(TreeView { path: only.clone(), _mount: None });
        }
        let mount = overlay::read_only(&layers)?;
        // With the dot it is the directory also to who does not follow links.
        let path = format!("/proc/self/fd/{}/.", mount.as_raw_fd()).into();
        Ok(TreeView { path, _mount: Some(mount) })
    }

    /// Removes the trees of layers that no tree names any more. Goes on past errors; returns the first.
    pub(super) fn collect_layer_trees(&self) -> Result<(), SysError> {
        let names = names_in(&self.trees_dir())?;
        let mut used = BTreeSet::new();
        for tree in names.iter().filter_map(|name| name.parse::<TreeId>().ok()) {
            for rootfs in self.tree_layers(&tree)? {
                used.extend(rootfs.parent().and_then(|dir| dir.file_name()).map(std::ffi::OsStr::to_owned));
            }
        }
        let is_used = |name: &str| used.contains(std::ffi::OsStr::new(name));
        let mut result = Ok(());
        for name in names.iter().filter(|name| is_layer_tree(name) && !is_used(name)) {
            result = result.and(super::tree::remove_named(&self.trees_dir(), name));
        }
        result
    }

    /// Removes the layers that no image names any more, unless some are just being imported.
    ///
    /// # Errors
    /// The first refusal.
    ///
    /// # Locking
    /// Exclusive, on the directory of layers; does not wait.
    pub fn collect_layers(&self) -> Result<(), SysError> {
        let Some(_lock) = Lock::try_on(&self.layers_dir(), Sharing::Exclusive)? else {
            log::debug!("layers are being imported, and are not collected now");
            return Ok(());
        };
        let Some(used) = self.layers_in_use()? else { return Ok(()) };
        let mut result = Ok(());
        for name in names_in(&self.layers_dir())? {
            if Digest::from_file_name(&name).is_some_and(|digest| used.contains(&digest)) {
                continue;
            }
            let garbage = self.tmp_dir().join(uuid::Uuid::new_v4().simple().to_string());
            let path = self.layers_dir().join(&name);
            let removed = std::fs::rename(&path, &garbage)
                .map_err(SysError::on("removing", &path))
                .and_then(|()| tree::remove(&garbage));
            result = result.and(removed);
        }
        result
    }
}

impl Prepared {
    /// Tells whether its tree is also right for the layer when it is `chain_id`.
    fn is_for(&self, chain_id: &Digest) -> bool {
        self.chain_id == *chain_id
            || match &self.tree {
                PreparedTree::None => true,
                PreparedTree::Present(name) => name.starts_with(LAYER),
                PreparedTree::New(_, unfinished) => unfinished.is_empty(),
            }
    }
}

fn layer_target(rootfs: &std::path::Path) -> Target<'_> {
    Target { rootfs, owners: Owners::OfImage, devices: Devices::Skip }
}

fn tree_name(kind: &str, digest: &Digest) -> String {
    format!("{kind}{}", digest.file_name())
}

pub(super) fn is_layer_tree(name: &str) -> bool {
    let digest = name.strip_prefix(LAYER).or_else(|| name.strip_prefix(CHAIN));
    digest.is_some_and(|digest| Digest::from_file_name(digest).is_some())
}

fn content(layer: &Digest, cause: ExtractError) -> LayerError {
    use crate::image::archive::ArchiveError;
    use crate::image::stream::StreamError;
    match cause {
        ExtractError::System(cause) => cause.into(),
        ExtractError::Archive(ArchiveError::Stream { cause: StreamError::Interrupted, .. }) => {
            SourceError::Interrupted.into()
        }
        cause => LayerError::Content { layer: Box::new(*layer), cause },
    }
}
