//! OCI images in the store.
//!
//! ```text
//! image/sha512-<64 hex>/   as any image, but without a blob:
//!   manifest               the appc manifest that was made from the configuration
//!   config                 the configuration as delivered
//!   oci-manifest           the manifest as delivered, unless the image came from a docker archive
//!   record                 as any record, with the member `oci`
//! layer/sha256-<64 hex>/   a layer, by its diff ID; 3770 as the directory of images
//!   blob, record
//! ```
//!
//! The ID of an OCI image is the SHA-512 of `rkt OCI image 1`, a newline and the bytes of its configuration. Those name
//! the digests of all its layers, so that the ID names all that runs, and is the same on every machine, for every
//! registry and however the layers are packed. What the image is called is that of the import that was last.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};

use super::layer::{Bring, LAYERS, LayerError};
use super::record::{self, Record, Sizes};
use super::staging::Staging;
use super::tree::{TreeId, unpack_failed};
use super::verify::{DamagedTree, Verified};
use super::{
    FILE_MODE, IMAGE_DIR_MODE, MANIFEST, MANIFEST_LIMIT, RECORD, Store, StoreError, full_digest, read_at,
};
use crate::appc::image_id::ImageId;
use crate::image::aci::ListedDirs;
use crate::image::compression::Compression;
use crate::image::digest::Digest;
use crate::image::extract::{Target, unpack_layer};
use crate::image::oci::convert::{ConvertError, Converted, Origin, convert};
use crate::image::oci::document::Config;
use crate::image::oci::source::{RemoteImage, SourceError};
use crate::image::oci::squash::{SquashError, squash};
use crate::image::stream::{Limits, Source};
use crate::image::trust::Proof;
use crate::os::{Hint, SysError, atomic, interrupt};

const CONFIG: &str = "config";
const OCI_MANIFEST: &str = "oci-manifest";
/// What the ID is a hash of, before the configuration.
const ID_DOMAIN: &[u8] = b"rkt OCI image 1\n";

/// What a record notes of an OCI image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OciRecord {
    /// What its manifest was made from, beside the configuration.
    pub(super) origin: Origin,
    /// The diff IDs of its layers, the lowest first.
    pub(super) layers: Vec<String>,
    /// By what it was fetched.
    pub(super) references: Vec<ReferenceRecord>,
}

/// That an image was fetched by a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReferenceRecord {
    pub(super) reference: String,
    /// Nanoseconds since the epoch.
    pub(super) fetched: u64,
}

impl OciRecord {
    /// The diff IDs; `None` if the record is damaged.
    pub(super) fn diff_ids(&self) -> Option<Vec<Digest>> {
        self.layers.iter().map(|layer| layer.parse().ok()).collect()
    }
}

/// An OCI image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedOci {
    /// Its ID.
    pub id: ImageId,
    /// What could not get into its manifest, as sentences.
    pub notices: Vec<String>,
    /// Device nodes that are in its layers and not in its trees.
    pub skipped_devices: u64,
}

/// The turn of this process to fetch by a reference.
#[must_use = "dropping it gives the turn to another process"]
pub struct FetchTurn {
    /// Another process had it before.
    pub waited: bool,
    _place: Staging,
}

/// Why an OCI image is not in the store, which is as before.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// It could not be had, or is not as described.
    #[error("image {image}: {cause}")]
    Source {
        /// As it was named.
        image: String,
        /// What is wrong.
        cause: SourceError,
    },
    /// A layer could not be had, or is not as described.
    #[error("image {image}: {cause}")]
    Layer {
        /// As it was named.
        image: String,
        /// What is wrong.
        cause: Box<LayerError>,
    },
    /// Its configuration makes no manifest.
    #[error("image {image}: {cause}")]
    Convert {
        /// As it was named.
        image: String,
        /// Why.
        cause: ConvertError,
    },
    /// Manifest and configuration disagree.
    #[error("image {image}: its manifest has {layers} layers, and its configuration {diff_ids}")]
    Count {
        /// As it was named.
        image: String,
        /// Layers of the manifest.
        layers: usize,
        /// Layers of the configuration.
        diff_ids: usize,
    },
    /// There is nothing in it.
    #[error("image {image}: it has no layers")]
    NoLayers {
        /// As it was named.
        image: String,
    },
    /// The layers alone are larger than the free space.
    #[error("image {image} has {needed} bytes, and only {free} are free in {}", .store.display())]
    NoSpace {
        /// As it was named.
        image: String,
        /// The store.
        store: std::path::PathBuf,
        /// Bytes of the layers.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Nothing says who made it.
    #[error("image {image} is not verified: {reason}")]
    Unsigned {
        /// As it was named.
        image: String,
        /// What is missing.
        reason: String,
    },
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

impl Hint for OciError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Source { cause, .. } => cause.hint(),
            Self::Layer { cause, .. } => cause.hint(),
            Self::System(cause) => cause.hint(),
            Self::NoSpace { store, .. } => {
                SysError::new("writing", store, std::io::Error::from(std::io::ErrorKind::StorageFull)).hint()
            }
            Self::Unsigned { .. } => {
                Some("if you trust where it comes from, use --insecure-options=image".into())
            }
            Self::Convert { .. } | Self::Count { .. } | Self::NoLayers { .. } => None,
        }
    }
}

/// Why an image could not be written as one.
pub(super) enum SquashedError {
    /// The image is damaged, or can't be read.
    Store(StoreError),
    /// The result can't be written.
    Write(std::io::Error),
}

impl From<StoreError> for SquashedError {
    fn from(cause: StoreError) -> Self {
        Self::Store(cause)
    }
}

/// The ID of the image with this configuration.
pub fn oci_image_id(config: &[u8]) -> ImageId {
    ImageId::from_sha512(&id_digest(config))
}

fn id_digest(config: &[u8]) -> [u8; 64] {
    Sha512::new().chain_update(ID_DOMAIN).chain_update(config).finalize().into()
}

impl Store {
    /// Imports an OCI image: brings the layers that the store does not have, checks all of them, and publishes.
    ///
    /// `progress` is told the number of a layer of the image, and how many bytes of it have come, from several threads.
    ///
    /// When it returns, the image survives a power cut. Several processes may import the same image; one brings it, and
    /// the others wait.
    ///
    /// # Errors
    /// When a part can't be had or is not as described, or the store can't be written. Nothing is listed then.
    ///
    /// # Locking
    /// The import of this image, exclusive; the directory of layers, shared.
    pub fn import_oci(
        &self,
        image: &RemoteImage<'_>,
        proof: &Proof,
        limits: &Limits,
        progress: &(dyn Fn(usize, u64) + Sync),
    ) -> Result<ImportedOci, OciError> {
        let name = || image.reference.clone();
        let diff_ids = &image.config.diff_ids;
        if image.layers.len() != diff_ids.len() {
            let (layers, diff_ids) = (image.layers.len(), diff_ids.len());
            return Err(OciError::Count { image: name(), layers, diff_ids });
        }
        if diff_ids.is_empty() {
            return Err(OciError::NoLayers { image: name() });
        }
        let converted = convert(&image.config, &Digest::sha256(&image.config_bytes), &image.origin)
            .map_err(|cause| OciError::Convert { image: name(), cause })?;
        let id = oci_image_id(&image.config_bytes);

        // Before all that cleans up when dropped.
        let _interrupts = interrupt::Watch::start();
        self.sweep();
        let _import = self.lock_import(&id)?;
        let _layers_stay = self.hold_layers()?;
        self.check_layer_space(image)?;
        let bring = Bring { parts: &image.layers, blobs: image.blobs.as_ref(), progress };
        let prepared = self.prepare_layers(diff_ids, Some(&bring), limits).map_err(|cause| match cause {
            LayerError::System(cause) => OciError::System(cause),
            cause => OciError::Layer { image: name(), cause: Box::new(cause) },
        })?;
        let skipped_devices = prepared.iter().map(|layer| layer.skipped_devices).sum();
        let sizes = Sizes {
            delivered: prepared.iter().map(|layer| layer.record.delivered).sum(),
            unpacked: prepared.iter().map(|layer| layer.record.unpacked).sum(),
            tree: prepared.iter().map(|layer| layer.record.files).sum(),
        };
        let staged = self.stage_oci_image(image, &converted, &sizes, proof)?;
        atomic::sync_filesystem(&self.cas)?;
        let trees = self.place_layers(diff_ids, prepared)?;
        // A collection of trees may have come between; then they are made when they are needed.
        if let Some(trees) = trees {
            self.place_layered_tree(&id, &trees)?;
        }
        staged.publish(&self.image_dir(&id), proof)?;
        Ok(ImportedOci { id, notices: converted.notices, skipped_devices })
    }

    /// Waits, after `notice`, until no other process fetches by `reference`: what many want at once is downloaded once.
    ///
    /// # Errors
    /// When the store can't be written.
    ///
    /// # Locking
    /// Exclusive, on a temporary directory of the reference; before the import of an image.
    pub fn turn_to_fetch(&self, reference: &str, notice: impl Fn()) -> Result<FetchTurn, SysError> {
        let name = Digest::sha256(reference.as_bytes()).file_name();
        let waited = Cell::new(false);
        let place = Staging::wait_at(&self.tmp_dir().join(format!("fetch-{name}")), 0o700, || {
            waited.set(true);
            notice();
        })?;
        Ok(FetchTurn { waited: waited.get(), _place: place })
    }

    /// Keeps other processes from importing the same image, which would bring all of it again.
    fn lock_import(&self, id: &ImageId) -> Result<Staging, SysError> {
        let path = self.tmp_dir().join(format!("import-{id}"));
        Staging::wait_at(&path, 0o700, || {
            log::info!("another rkt is fetching this image, waiting");
        })
    }

    fn check_layer_space(&self, image: &RemoteImage<'_>) -> Result<(), OciError> {
        let missing = image
            .layers
            .iter()
            .zip(&image.config.diff_ids)
            .filter(|(_, diff_id)| self.layer_record(diff_id).is_none());
        let needed = missing.fold(0_u64, |sum, (part, _)| sum.saturating_add(part.size));
        let space = rustix::fs::statvfs(&self.cas).map_err(SysError::on("looking at", &self.cas))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if needed <= free {
            return Ok(());
        }
        Err(OciError::NoSpace { image: image.reference.clone(), store: self.cas.clone(), needed, free })
    }

    fn stage_oci_image(
        &self,
        image: &RemoteImage<'_>,
        converted: &Converted,
        sizes: &Sizes,
        proof: &Proof,
    ) -> Result<Staging, SysError> {
        let id = &oci_image_id(&image.config_bytes);
        let staged = Staging::new(&self.tmp_dir(), IMAGE_DIR_MODE)?;
        let write = |name: &str, bytes: &[u8]| atomic::write_new(&staged.path().join(name), bytes, FILE_MODE);
        write(MANIFEST, converted.manifest.to_json().as_bytes())?;
        write(CONFIG, &image.config_bytes)?;
        if let Some(manifest) = &image.manifest {
            write(OCI_MANIFEST, manifest)?;
        }
        let is_latest = image.origin.tag.as_deref() == Some("latest");
        let digest = full_digest(&id_digest(&image.config_bytes));
        let mut record = Record::new(digest, Compression::None, sizes, &record::Origin { is_latest, proof });
        record.oci = Some(OciRecord {
            origin: image.origin.clone(),
            layers: image.config.diff_ids.iter().map(ToString::to_string).collect(),
            references: self.references(id, &image.reference),
        });
        if let Some(earlier) = self.record(id) {
            record.keep_signer_of(earlier);
        }
        write(RECORD, &record.to_json())?;
        Ok(staged)
    }

    /// By what an image was fetched so far, and now by `reference`.
    fn references(&self, id: &ImageId, reference: &str) -> Vec<ReferenceRecord> {
        let mut references = self.oci_record(id).ok().flatten().map_or_else(Vec::new, |oci| oci.references);
        references.retain(|record| record.reference != *reference);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let fetched = u64::try_from(now).unwrap_or(u64::MAX);
        references.push(ReferenceRecord { reference: reference.to_owned(), fetched });
        references
    }

    /// Finds the image that was fetched last by `reference`, as written in the record of its import, and when that was.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn find_reference(&self, reference: &str) -> Result<Option<(SystemTime, ImageId)>, SysError> {
        let mut found: Option<(u64, ImageId)> = None;
        for name in self.image_names()? {
            let Some(id) = super::id_of(&name) else { continue };
            let Ok(Some(oci)) = self.oci_record(&id) else { continue };
            let fetched = oci.references.iter().find(|record| record.reference == *reference);
            found = found.max(fetched.map(|record| (record.fetched, id)));
        }
        Ok(found.map(|(fetched, id)| (UNIX_EPOCH + Duration::from_nanos(fetched), id)))
    }

    /// The configuration with this digest, if it is that of the image that was fetched last by `reference`.
    pub fn known_config(&self, reference: &str, digest: &Digest) -> Option<Vec<u8>> {
        let (_, id) = self.find_reference(reference).ok()??;
        let (config, _) = self.in_image(&id, CONFIG, |dir| read_at(dir, CONFIG, MANIFEST_LIMIT)).ok()?;
        digest.is_of(&config).then_some(config)
    }

    /// What the record of an image says if it is an OCI image.
    pub(super) fn oci_record(&self, id: &ImageId) -> Result<Option<OciRecord>, StoreError> {
        let (bytes, _) = self.in_image(id, RECORD, |dir| read_at(dir, RECORD, record::LIMIT))?;
        let record = Record::parse(&bytes).map_err(|problem| StoreError::Damaged { id: *id, problem })?;
        Ok(record.oci)
    }

    /// The layers that images name; `None` if one image can't say.
    pub(super) fn layers_in_use(&self) -> Result<Option<BTreeSet<Digest>>, SysError> {
        let mut used = BTreeSet::new();
        for id in self.image_names()?.iter().filter_map(|name| super::id_of(name)) {
            match self.oci_record(&id) {
                Ok(None) | Err(StoreError::Missing { .. }) => {}
                Ok(Some(oci)) => match oci.diff_ids() {
                    Some(diff_ids) => used.extend(diff_ids),
                    None => return Ok(None),
                },
                Err(error) => {
                    log::debug!("no layers are collected: {error}");
                    return Ok(None);
                }
            }
        }
        Ok(Some(used))
    }

    /// The configuration of an OCI image, if it is the one that the ID names and the manifest was made from; with it the
    /// image's manifest.
    pub(super) fn verified_config(
        &self,
        id: &ImageId,
        oci: &OciRecord,
    ) -> Result<(Config, Vec<u8>), StoreError> {
        let damaged = |problem: String| StoreError::Damaged { id: *id, problem };
        let (bytes, _) = self.in_image(id, CONFIG, |dir| read_at(dir, CONFIG, MANIFEST_LIMIT))?;
        let found = oci_image_id(&bytes);
        if found != *id {
            return Err(StoreError::HashMismatch { found: Box::new(found), expected: *id });
        }
        let config = Config::parse(&bytes).map_err(|error| damaged(format!("{CONFIG}: {error}")))?;
        let converted = convert(&config, &Digest::sha256(&bytes), &oci.origin)
            .map_err(|error| damaged(format!("{CONFIG}: {error}")))?;
        let manifest = self.manifest_bytes(id)?;
        if manifest != converted.manifest.to_json().as_bytes() {
            return Err(damaged("its manifest is not the one of its configuration".into()));
        }
        Ok((config, manifest))
    }

    /// Returns the tree of an OCI image, unpacking the layers that are missing.
    pub(super) fn ensure_layered_tree(&self, id: &ImageId, oci: &OciRecord) -> Result<TreeId, StoreError> {
        let (config, _) = self.verified_config(id, oci)?;
        if !rustix::process::geteuid().is_root() {
            return Err(StoreError::NeedsRoot { id: *id });
        }
        let tree = TreeId::of(&[*id]);
        if self.has_whole_tree(&tree) {
            return Ok(tree);
        }
        let _interrupts = interrupt::Watch::start();
        self.sweep();
        let _layers_stay = self.hold_layers()?;
        // What was imported under the user's limits is not judged again.
        let limits = Limits { output: u64::MAX, ratio: u64::MAX, ..Limits::default() };
        let prepared = self.prepare_layers(&config.diff_ids, None, &limits).map_err(|cause| match cause {
            LayerError::System(cause) => StoreError::System(cause),
            cause => StoreError::Damaged { id: *id, problem: cause.to_string() },
        })?;
        atomic::sync_filesystem(&self.cas)?;
        let trees = self.place_layers(&config.diff_ids, prepared)?;
        let lost = || StoreError::Damaged { id: *id, problem: "the tree of a layer is gone".into() };
        self.place_layered_tree(id, &trees.ok_or_else(lost)?)?;
        Ok(tree)
    }

    /// Writes an OCI image as one App Container Image; what is written has not the image's ID.
    pub(super) fn squash_oci<W: Write>(
        &self,
        id: &ImageId,
        oci: &OciRecord,
        to: W,
    ) -> Result<W, SquashedError> {
        let (config, manifest) = self.verified_config(id, oci)?;
        let limits = Limits { output: u64::MAX, ratio: u64::MAX, ..Limits::default() };
        let open = |index: usize| {
            let diff_id = &config.diff_ids[index];
            let missing = || SysError::new("opening", self.layer_dir(diff_id), rustix::io::Errno::NOENT);
            self.open_layer_blob(diff_id).ok_or_else(missing)
        };
        squash(&manifest, &config.diff_ids, open, &limits, to).map_err(|cause| match cause {
            SquashError::Write(cause) => SquashedError::Write(cause),
            SquashError::System(cause) => StoreError::System(cause).into(),
            cause => StoreError::Damaged { id: *id, problem: cause.to_string() }.into(),
        })
    }

    /// Unpacks an OCI image as [`Store::unpack_layer`] does one that is an archive.
    pub(super) fn unpack_oci(
        &self,
        id: &ImageId,
        oci: &OciRecord,
        target: &Target<'_>,
    ) -> Result<(Vec<u8>, ListedDirs), StoreError> {
        let (from, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(SysError::on("making a pipe for", self.image_dir(id)))?;
        let limits = Limits { output: u64::MAX, ratio: u64::MAX, ..Limits::default() };
        std::thread::scope(|scope| {
            let squashing = scope.spawn(move || {
                let to = std::io::BufWriter::with_capacity(1 << 16, File::from(to));
                let mut to = self.squash_oci(id, oci, to)?;
                to.flush().map_err(SquashedError::Write)
            });
            let source = Source { file: File::from(from), keep: None, watch: None, limits, progress: None };
            let unpacked = unpack_layer(source, target);
            match squashing.join().expect("the squashing thread does not panic") {
                Err(SquashedError::Store(error)) => Err(error),
                // A reader that has given up says why.
                Ok(()) | Err(SquashedError::Write(_)) => {
                    let (unpacked, listed, _) = unpacked.map_err(|error| unpack_failed(id, error))?;
                    Ok((unpacked.manifest, listed))
                }
            }
        })
    }

    /// Checks the parts of an OCI image and, by root, its trees, which are made again when they are removed.
    pub(super) fn verify_oci(&self, id: &ImageId, oci: &OciRecord) -> Result<Verified<'_>, StoreError> {
        let damaged = |problem: String| StoreError::Damaged { id: *id, problem };
        let (config, _) = self.verified_config(id, oci)?;
        let tree = TreeId::of(&[*id]);
        let _interrupts = interrupt::Watch::start();
        let is_root = rustix::process::geteuid().is_root();
        let _trees_stay = if is_root { Some(self.hold()?) } else { None };
        self.sweep();
        match self.compare_layers(&config.diff_ids) {
            Err(LayerError::System(cause)) => Err(cause.into()),
            Err(cause) => Err(damaged(cause.to_string())),
            Ok((good, differences)) if !differences.is_empty() => {
                atomic::sync_filesystem(&self.cas)?;
                Ok(Verified::Damaged(DamagedTree { store: self, good, tree, differences }))
            }
            Ok(_) if !is_root => Err(StoreError::NeedsRoot { id: *id }),
            Ok(_) if self.has_whole_tree(&tree) => Ok(Verified::Whole(tree)),
            Ok(_) => Ok(Verified::NotRendered),
        }
    }

    /// Whether a layered tree and all its layers are there.
    fn has_whole_tree(&self, tree: &TreeId) -> bool {
        let list = self.trees_dir().join(tree.as_str()).join(LAYERS);
        list.exists()
            && self
                .tree_layers(tree)
                .is_ok_and(|layers| layers.iter().all(|rootfs| rustix::fs::lstat(rootfs).is_ok()))
    }

    /// Publishes the list of an image's trees.
    fn place_layered_tree(&self, id: &ImageId, trees: &[String]) -> Result<(), SysError> {
        let staged = Staging::new(&self.trees_dir(), 0o700)?;
        let text: String = trees.iter().map(|name| format!("{name}\n")).collect();
        atomic::write_synced(&staged.path().join(LAYERS), text.as_bytes(), 0o600)?;
        atomic::sync_dir(staged.path())?;
        staged.replace(&self.trees_dir().join(TreeId::of(&[*id]).as_str()))
    }
}
