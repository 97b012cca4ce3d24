//! docker2aci: an image in a file of docker's or OCI's, or of a registry, becomes an App Container Image (spec
//! build-tools.md 6.7 to 6.10).
//!
//! Layers are squashed, or become images that depend on each other; for anybody: nothing is unpacked, and no root is
//! needed.

mod layers;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use flate2::GzBuilder;
use flate2::write::GzEncoder;

use crate::appc::image_id::ImageHash;
use crate::appc::image_manifest::ImageManifest;
use crate::image::digest::{Algorithm, Digest, Hasher};
use crate::image::oci::convert::{ConvertError, Origin, convert};
use crate::image::oci::local::open_any;
use crate::image::oci::name::DockerReference;
use crate::image::oci::registry::{self, Access, Resolved};
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

/// What becomes of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// One image.
    Squashed,
    /// An image each.
    Apart,
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
    /// What becomes of the layers.
    pub layers: Layers,
    /// How the results are packed.
    pub packing: Packing,
    /// Where the results go.
    pub dir: &'a Path,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The files below the directory, the image of the lowest layer first.
    pub file_names: Vec<PathBuf>,
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

/// Converts an image and writes it to a file, or one for each of its layers, which replace those of their names.
///
/// # Errors
/// When the image can't be read or is not valid, or a file can't be written; then there is none.
pub fn convert_image(request: &Request<'_>) -> Result<Generated, ConversionError> {
    let _interrupts = interrupt::Watch::start();
    let scratch = Scratch::below(request.dir)?;
    let limits = Limits::default();
    let image = match request.from {
        ConvertedFrom::File { path, image } => open_any(path, image, &scratch.0, &limits),
        ConvertedFrom::Registry { reference, access, tell } => {
            registry::resolve(reference, access, tell).and_then(Resolved::open)
        }
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
    let open = |index: usize| File::open(&layers[index]).map_err(SysError::on("opening", &layers[index]));
    if request.layers == Layers::Apart {
        return layers::write_all(&image, converted, open, (request.dir, request.packing), &limits);
    }
    let file_name = file_name(&image.origin);
    let output = WholeFile::begin(&request.dir.join(&file_name), Existing::Replace)?;
    let manifest = converted.manifest.to_json();
    write_aci(&output, request.packing, |to| squash(manifest.as_bytes(), diff_ids, open, &limits, to))?;
    output.publish()?;
    let file_names = vec![file_name.into()];
    Ok(Generated { file_names, manifest: converted.manifest, notices: converted.notices })
}

/// Packs what `write` writes into a file, and tells the ID of the image.
fn write_aci<'o>(
    output: &'o WholeFile,
    packing: Packing,
    write: impl FnOnce(Output<'o>) -> Result<Output<'o>, SquashError>,
) -> Result<ImageHash, ConversionError> {
    let buffered = io::BufWriter::with_capacity(1 << 16, output.file());
    let to = match packing {
        Packing::None => Packed::None(buffered),
        Packing::Gzip => {
            // Neither a name nor a time, and "unknown" (255) as the system: equal images give equal files.
            let packed = GzBuilder::new().mtime(0).operating_system(255);
            Packed::Gzip(Box::new(packed.write(buffered, flate2::Compression::default())))
        }
    };
    let Output { to, hasher } = write(Output { to, hasher: Algorithm::Sha512.hasher() })?;
    let buffered = match to {
        Packed::None(buffered) => buffered,
        Packed::Gzip(packed) => packed.finish().map_err(SysError::on("writing", output.path()))?,
    };
    buffered.into_inner().map_err(|error| SysError::new("writing", output.path(), error.into_error()))?;
    let id = format!("sha512-{}", hasher.finish().hex());
    Ok(id.parse().expect("it is the text of an ID"))
}

/// Where an image goes, and the digest of what has gone there.
struct Output<'o> {
    to: Packed<'o>,
    hasher: Hasher,
}

enum Packed<'o> {
    None(io::BufWriter<&'o File>),
    Gzip(Box<GzEncoder<io::BufWriter<&'o File>>>),
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.to {
            Packed::None(to) => to.write(bytes)?,
            Packed::Gzip(to) => to.write(bytes)?,
        };
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            Packed::None(to) => to.flush(),
            Packed::Gzip(to) => to.flush(),
        }
    }
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
    without_slashes(&format!("{}{tag}.aci", origin.repository.trim_matches('/')))
}

/// A name of a stranger that can't lead to another directory.
fn without_slashes(name: &str) -> String {
    let safe = |c: char| if c == '/' || c.is_control() { '-' } else { c };
    name.chars().map(safe).collect::<String>().trim_start_matches(['.', '-']).to_owned()
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
