//! Images in files: OCI image layouts (OCI image-spec 1.1, image-layout.md) and what `docker save` writes.

use std::path::Path;

use super::convert::Origin;
use super::document::{
    Config, Descriptor, Document, DocumentError, INDEXES, Index, Manifest, SavedImage, saved_images,
};
use super::files::{Archive, Directory, Files};
use super::name::DockerReference;
use super::platform::{HOST, choose};
use super::source::{Blobs, Part, RemoteImage, Sink, SourceError, check};
use crate::appc::json::MAX_SIZE;
use crate::image::digest::Digest;
use crate::image::reference::{LocalFormat, LocalReference};
use crate::image::stream::Limits;

/// Size that a document may have.
const LIMIT: u64 = MAX_SIZE as u64;
/// Indexes in indexes.
const MAX_DEPTH: usize = 4;
/// The annotation that names an entry of a layout (OCI image-spec 1.1, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Reads the documents of the image that `reference` names.
///
/// What is packed is unpacked to a nameless file in `scratch`.
///
/// # Errors
/// When there is no such image, or its documents are not accepted.
pub fn open(
    reference: &LocalReference,
    scratch: &Path,
    limits: &Limits,
) -> Result<RemoteImage<'static>, SourceError> {
    let path = reference.path.as_path();
    let wanted = reference.image.as_deref();
    match reference.format {
        LocalFormat::OciDirectory => layout(Box::new(Directory::open(path)?), reference, wanted),
        LocalFormat::OciArchive => layout(Box::new(Archive::open(path, scratch, limits)?), reference, wanted),
        LocalFormat::DockerArchive => {
            saved(Box::new(Archive::open(path, scratch, limits)?), reference, wanted)
        }
    }
}

/// Reads a file of either format, as docker2aci takes it; `wanted` is the name of the image in it.
///
/// # Errors
/// As [`open`].
pub fn open_any(
    path: &Path,
    wanted: Option<&str>,
    scratch: &Path,
    limits: &Limits,
) -> Result<RemoteImage<'static>, SourceError> {
    let reference = |format| LocalReference { format, path: path.to_owned(), image: None };
    if path.is_dir() {
        return layout(Box::new(Directory::open(path)?), &reference(LocalFormat::OciDirectory), wanted);
    }
    let archive = Box::new(Archive::open(path, scratch, limits)?);
    if archive.size("manifest.json")?.is_some() {
        return saved(archive, &reference(LocalFormat::DockerArchive), wanted);
    }
    layout(archive, &reference(LocalFormat::OciArchive), wanted)
}

fn document<T>(what: &str, read: Result<T, DocumentError>) -> Result<T, SourceError> {
    read.map_err(|cause| SourceError::Document { what: what.to_owned(), cause })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// Reads a document that a descriptor leads to, and holds it to that.
fn referred(files: &dyn Files, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
    let name = blob_name(&descriptor.digest);
    let what = descriptor.digest.to_string();
    let bytes =
        files.read(&name, LIMIT)?.ok_or_else(|| SourceError::Missing(format!("it has no file {name}")))?;
    check(&what, Part { digest: Some(descriptor.digest), size: descriptor.size }, &bytes)?;
    Ok(bytes)
}

fn layout(
    files: Box<dyn Files>,
    reference: &LocalReference,
    wanted: Option<&str>,
) -> Result<RemoteImage<'static>, SourceError> {
    let bytes = files
        .read("index.json", LIMIT)?
        .ok_or_else(|| SourceError::Missing("it is no OCI image layout: it has no file index.json".into()))?;
    let index = document("index.json", Index::parse(&bytes))?;
    let (entry, name) = named(index, wanted)?;
    let (descriptor, bytes, manifest) = to_manifest(files.as_ref(), entry)?;
    let config_bytes = referred(files.as_ref(), &manifest.config)?;
    let config = document("its configuration", Config::parse(&config_bytes))?;
    let parts: Vec<Part> =
        manifest.layers.iter().map(|layer| Part { digest: Some(layer.digest), size: layer.size }).collect();
    let names = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
    let mut origin = layout_origin(reference, name.as_deref());
    origin.manifest_digest = Some(descriptor.digest.to_string());
    Ok(RemoteImage {
        reference: reference.to_string(),
        origin,
        manifest: Some(bytes),
        config_bytes,
        config,
        layers: parts,
        blobs: Box::new(Named { files, names }),
    })
}

/// What an image of a layout is called: its name in there if that is one of a registry, else the layout's own.
fn layout_origin(reference: &LocalReference, name: Option<&str>) -> Origin {
    let original_name = reference.to_string();
    let docker = name.filter(|name| name.contains('/')).and_then(|name| name.parse::<DockerReference>().ok());
    if let Some(docker) = docker {
        let tag = docker.tag().map(str::to_owned);
        let registry = Some(docker.registry);
        return Origin { original_name, registry, repository: docker.repository, tag, manifest_digest: None };
    }
    let file = reference.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = [".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar"]
        .iter()
        .find_map(|ending| file.strip_suffix(ending))
        .unwrap_or(&file);
    Origin {
        original_name,
        registry: None,
        repository: stem.to_owned(),
        tag: name.map(str::to_owned),
        manifest_digest: None,
    }
}

/// Chooses the entry of a layout: by name, the only name, or `latest`; several of one name are one image for several
/// machines.
fn named(index: Index, wanted: Option<&str>) -> Result<(Descriptor, Option<String>), SourceError> {
    let name_of = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    let mut names: Vec<Option<String>> = index.manifests.iter().map(name_of).collect();
    names.sort();
    names.dedup();
    let shown = || names.iter().map(|name| name.clone().unwrap_or_else(|| "(no name)".into())).collect();
    let name = match (wanted, &names[..]) {
        (_, []) => return Err(SourceError::Missing("it has no image".into())),
        (Some(wanted), _) if names.iter().flatten().any(|name| name == wanted) => Some(wanted.to_owned()),
        (Some(wanted), _) => {
            let there: Vec<String> = shown();
            let text = format!("it has no image {}, but: {}", crate::appc::quoted(wanted), there.join(", "));
            return Err(SourceError::Missing(text));
        }
        (None, [only]) => only.clone(),
        (None, _) if names.iter().flatten().any(|name| name == "latest") => Some("latest".to_owned()),
        (None, _) => return Err(SourceError::Several(shown())),
    };
    let manifests = index.manifests.into_iter().filter(|entry| name_of(entry) == name).collect();
    let index = Index { manifests };
    let entry = match &index.manifests[..] {
        [only] => only.clone(),
        _ => for_this_machine(&index)?,
    };
    Ok((entry, name))
}

fn for_this_machine(index: &Index) -> Result<Descriptor, SourceError> {
    choose(index, &HOST).cloned().map_err(|there| SourceError::Platform { machine: HOST.to_string(), there })
}

/// Goes from an entry to a manifest, through indexes.
fn to_manifest(
    files: &dyn Files,
    mut entry: Descriptor,
) -> Result<(Descriptor, Vec<u8>, Manifest), SourceError> {
    for _ in 0..MAX_DEPTH {
        let bytes = referred(files, &entry)?;
        match document(&entry.digest.to_string(), Document::parse(&bytes, &entry.media_type))? {
            Document::Manifest(manifest) => return Ok((entry, bytes, manifest)),
            Document::Index(index) => entry = for_this_machine(&index)?,
        }
    }
    debug_assert!(INDEXES.contains(&entry.media_type.as_str()));
    Err(SourceError::Missing(format!("it has more than {MAX_DEPTH} indexes inside each other")))
}

fn saved(
    files: Box<dyn Files>,
    reference: &LocalReference,
    wanted: Option<&str>,
) -> Result<RemoteImage<'static>, SourceError> {
    let no_file = |name: &str| SourceError::Missing(format!("it has no file {}", crate::appc::quoted(name)));
    let bytes = files.read("manifest.json", LIMIT)?.ok_or_else(|| {
        SourceError::Missing("it is no docker archive: it has no file manifest.json".into())
    })?;
    let images = document("manifest.json", saved_images(&bytes))?;
    let (image, tag) = tagged(images, wanted)?;
    let config_bytes = files.read(&image.config, LIMIT)?.ok_or_else(|| no_file(&image.config))?;
    let config = document("its configuration", Config::parse(&config_bytes))?;
    let part = |name: &String| {
        let size = files.size(name)?.ok_or_else(|| no_file(name))?;
        Ok(Part { digest: None, size })
    };
    let layers = image.layers.iter().map(part).collect::<Result<_, SourceError>>()?;
    Ok(RemoteImage {
        reference: reference.to_string(),
        origin: saved_origin(reference, tag.as_deref()),
        manifest: None,
        config_bytes,
        config,
        layers,
        blobs: Box::new(Named { files, names: image.layers }),
    })
}

/// Chooses the image of a docker archive, with the name by which it was chosen.
fn tagged(
    images: Vec<SavedImage>,
    wanted: Option<&str>,
) -> Result<(SavedImage, Option<String>), SourceError> {
    let whole = |name: &str| name.parse::<DockerReference>().map(|name| name.to_string()).ok();
    let tags: Vec<String> = images.iter().flat_map(|image| image.repo_tags.clone()).collect();
    match wanted {
        Some(wanted) => {
            let is_it =
                |tag: &String| tag == wanted || (whole(wanted).is_some() && whole(tag) == whole(wanted));
            for image in images {
                if let Some(tag) = image.repo_tags.iter().find(|tag| is_it(tag)) {
                    let tag = Some(tag.clone());
                    return Ok((image, tag));
                }
            }
            let text = format!("it has no image {}, but: {}", crate::appc::quoted(wanted), tags.join(", "));
            Err(SourceError::Missing(text))
        }
        None if images.len() > 1 => Err(SourceError::Several(tags)),
        None => {
            let image = images.into_iter().next();
            let image = image.ok_or_else(|| SourceError::Missing("it has no image".into()))?;
            let tag = image.repo_tags.first().cloned();
            Ok((image, tag))
        }
    }
}

/// A saved image has the registry that its name names, and none if it names none (spec build-tools.md 6.10).
fn saved_origin(reference: &LocalReference, tag: Option<&str>) -> Origin {
    let original_name = reference.to_string();
    let Some(docker) = tag.and_then(|tag| tag.parse::<DockerReference>().ok()) else {
        return layout_origin(reference, None);
    };
    let tag = docker.tag().map(str::to_owned);
    let (registry, repository) = if docker.is_short() {
        let name = docker.repository.strip_prefix("library/").unwrap_or(&docker.repository).to_owned();
        (None, name)
    } else {
        (Some(docker.registry), docker.repository)
    };
    Origin { original_name, registry, repository, tag, manifest_digest: None }
}

/// Layers by the names of their files.
struct Named {
    files: Box<dyn Files>,
    names: Vec<String>,
}

impl Blobs for Named {
    fn bring(&self, layer: usize, to: &mut Sink<'_>) -> Result<(), SourceError> {
        let name =
            self.names.get(layer).ok_or_else(|| SourceError::Missing("there is no such layer".into()))?;
        self.files.copy(name, to)
    }
}
