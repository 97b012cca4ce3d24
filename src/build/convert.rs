//! docker2aci: an image in a file of docker's or OCI's, or of a registry, becomes an App Container Image (spec
//! build-tools.md 6.7 to 6.10).
//!
//! Layers are squashed, for anybody: nothing is unpacked, and no root is needed.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use flate2::GzBuilder;

use crate::appc::image_manifest::ImageManifest;
use crate::image::digest::Digest;
use crate::image::oci::convert::{ConvertError, Origin, convert};
use crate::image::oci::local::open_any;
use crate::image::oci::name::DockerReference;
use crate::image::oci::registry::{self, Access};
use crate::image::oci::source::{Part, RemoteImage, Sink, SourceError, in_parallel};
use crate::image::oci::squash::{SquashError, squash};
use crate::image::stream::Limits;
use crate::os::atomic::TEMPORARY_PREFIX;
use crate::os::whole::{Existing, WholeFile, WholeFileError};
use crate::os::{Hint, SysError, interrupt, tree};

/// How the result is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// With gzip.
    Gzip,
    /// Not at all.
    None,
}

/// Where the image is.
#[derive(Clone, Copy)]
pub enum ConvertedFrom<'a> {
    /// In a file, or the directory of a layout.
    File {
        /// Its path.
        path: &'a Path,
        /// Which image in it.
        image: Option<&'a str>,
    },
    /// In a registry.
    Registry {
        /// What it is called.
        reference: &'a DockerReference,
        /// How the registry is reached.
        access: Access<'a>,
        /// Told to what digest a tag has led.
        tell: &'a dyn Fn(String),
    },
}

/// What is to be converted.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Where the image is.
    pub from: ConvertedFrom<'a>,
    /// Told how many bytes of a layer have come.
    pub progress: &'a (dyn Fn(&Part, u64) + Sync),
    /// How the result is packed.
    pub packing: Packing,
    /// Where the result goes.
    pub dir: &'a Path,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The name of the file in the directory.
    pub file_name: String,
    /// The image's manifest.
    pub manifest: ImageManifest,
    /// What could not get into it, as sentences.
    pub notices: Vec<String>,
}

/// Why nothing came out.
#[derive(Debug, thiserror::Error)]
pub enum ConversionError {
    /// The image can't be had, or is not as described.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Several images.
    #[error("several images found, use option --image with one of:\n\n{}", .0.join("\n"))]
    Several(Vec<String>),
    /// Its configuration makes no manifest.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Manifest and configuration disagree.
    #[error("the manifest has {layers} layers, and the configuration {diff_ids}")]
    Count {
        /// Layers of the manifest.
        layers: usize,
        /// Layers of the configuration.
        diff_ids: usize,
    },
    /// There is nothing in it.
    #[error("backend image had no useful layers: not creating ACI")]
    NoLayers,
    /// A layer is not valid.
    #[error(transparent)]
    Squash(#[from] SquashError),
    /// The file can't be written.
    #[error(transparent)]
    File(#[from] WholeFileError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

impl Hint for ConversionError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Source(cause) => cause.hint(),
            Self::Squash(cause) => cause.hint(),
            Self::System(cause) => cause.hint(),
            Self::Several(_) | Self::Convert(_) | Self::Count { .. } | Self::NoLayers | Self::File(_) => None,
        }
    }
}

/// A directory of this process alone, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn below(dir: &Path) -> Result<Self, SysError> {
        let path = dir.join(format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::new_v4().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(SysError::on("creating", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = tree::remove(&self.0) {
            log::warn!("{error}");
        }
    }
}

/// Converts an image and writes it to a file, which replaces one of that name.
///
/// # Errors
/// When the image can't be read or is not valid, or the file can't be written; then there is none.
pub fn convert_image(request: &Request<'_>) -> Result<Generated, ConversionError> {
    let _interrupts = interrupt::Watch::start();
    let scratch = Scratch::below(request.dir)?;
    let limits = Limits::default();
    let image = match request.from {
        ConvertedFrom::File { path, image } => open_any(path, image, &scratch.0, &limits),
        ConvertedFrom::Registry { reference, access, tell } => registry::open(reference, access, tell),
    };
    let image = image.map_err(|cause| match cause {
        SourceError::Several(names) => ConversionError::Several(names),
        cause => cause.into(),
    })?;
    let diff_ids = &image.config.diff_ids;
    if image.layers.len() != diff_ids.len() {
        return Err(ConversionError::Count { layers: image.layers.len(), diff_ids: diff_ids.len() });
    }
    if diff_ids.is_empty() {
        return Err(ConversionError::NoLayers);
    }
    let converted = convert(&image.config, &Digest::sha256(&image.config_bytes), &image.origin)?;
    let layers = bring(&image, &scratch.0, request.progress)?;
    diff_ids.iter().for_each(|diff_id| log::info!("Extracting {diff_id}"));
    let file_name = file_name(&image.origin);
    let output = WholeFile::begin(&request.dir.join(&file_name), Existing::Replace)?;
    let open = |index: usize| File::open(&layers[index]).map_err(SysError::on("opening", &layers[index]));
    let manifest = converted.manifest.to_json();
    let buffered = io::BufWriter::with_capacity(1 << 16, output.file());
    let written = match request.packing {
        Packing::None => squash(manifest.as_bytes(), diff_ids, open, &limits, buffered)?.into_inner(),
        Packing::Gzip => {
            // Neither a name nor a time, and "unknown" (255) as the system: equal images give equal files.
            let packed = GzBuilder::new().mtime(0).operating_system(255);
            let packed = packed.write(buffered, flate2::Compression::default());
            let packed = squash(manifest.as_bytes(), diff_ids, open, &limits, packed)?;
            packed.finish().map_err(SysError::on("writing", output.path()))?.into_inner()
        }
    };
    written
        .map_err(|error| SysError::new("writing", output.path(), error.into_error()))?
        .flush()
        .map_err(SysError::on("writing", output.path()))?;
    output.publish()?;
    Ok(Generated { file_name, manifest: converted.manifest, notices: converted.notices })
}

/// Brings the layers as they were delivered, each checked, to files in `dir`.
fn bring(
    image: &RemoteImage<'_>,
    dir: &Path,
    progress: &(dyn Fn(&Part, u64) + Sync),
) -> Result<Vec<PathBuf>, ConversionError> {
    in_parallel(image.layers.len(), |index| {
        let part = image.layers[index];
        let path = dir.join(index.to_string());
        let what = format!("layer {}", part.digest.unwrap_or(image.config.diff_ids[index]));
        let told = |written| progress(&part, written);
        let mut sink = Sink::create(path.clone(), 0o600, what, part, &told)?;
        image.blobs.bring(index, &mut sink)?;
        sink.finish()?;
        Ok(path)
    })
}

/// `<image name with / as ->[-<tag>].aci` (spec build-tools.md 6.8).
fn file_name(origin: &Origin) -> String {
    let tag = origin.tag.as_ref().map(|tag| format!("-{tag}")).unwrap_or_default();
    let name = format!("{}{tag}", origin.repository.trim_matches('/'));
    // A name of a stranger must not lead to another directory.
    let safe = |c: char| if c == '/' || c.is_control() { '-' } else { c };
    format!("{}.aci", name.chars().map(safe).collect::<String>().trim_start_matches(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_its_image() {
        for (repository, tag, expected) in [
            ("library/busybox", Some("latest"), "library-busybox-latest.aci"),
            ("demo", None, "demo.aci"),
            ("../../etc/cron", Some("1"), "etc-cron-1.aci"),
        ] {
            let origin = Origin {
                original_name: String::new(),
                registry: None,
                repository: repository.into(),
                tag: tag.map(str::to_owned),
                manifest_digest: None,
            };
            assert_eq!(file_name(&origin), expected);
        }
    }
}
