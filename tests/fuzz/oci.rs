//! Documents of OCI and Docker images, and lists of their signatures: a document is accepted as one kind only, nothing in it is there twice, what a
//! descriptor says is what the text says, and a manifest that is made of a configuration is valid.

use rkt::image::digest::Digest;
use rkt::image::oci::convert::{Origin, convert};
use rkt::image::oci::document::{
    Config, Descriptor, Document, INDEXES, Index, MANIFESTS, MAX_LAYERS, saved_images,
};
use rkt::image::trust::ImageSignatures;

use super::json::Json;
use super::manifests::mutate_json;
use super::mutate::Rng;
use super::run::{Effort, Target};

pub(crate) struct Documents;

const WORDS: [&str; 38] = [
    "application/vnd.dev.cosign.simplesigning.v1+json",
    "dev.cosignproject.cosign/signature",
    "schemaVersion",
    "mediaType",
    "manifests",
    "layers",
    "config",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "os",
    "architecture",
    "variant",
    "annotations",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256:../../etc",
    "rootfs",
    "diff_ids",
    "User",
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "Volumes",
    "ExposedPorts",
    "created",
    "Config",
    "RepoTags",
    "Layers",
];

impl Target for Documents {
    const NAME: &'static str = "oci";

    fn check(&mut self, input: &[u8], _: Effort) -> Result<String, String> {
        let json = Json::read(input);
        let mut answers = Vec::new();
        let mut accepted = Vec::new();
        for media_type in INDEXES.into_iter().chain(MANIFESTS) {
            match Document::parse(input, media_type) {
                Ok(document) => {
                    let json = json.as_ref().ok_or("accepted, and no JSON to another reader")?;
                    accepted.push(match &document {
                        Document::Index(_) => "an index",
                        Document::Manifest(_) => "a manifest",
                    });
                    check_document(&document, json, media_type)?;
                }
                Err(error) => answers.push(refused(&error)?),
            }
        }
        for media_type in MANIFESTS {
            answers.push(match ImageSignatures::parse("x.sig", input, media_type) {
                Ok(_) if json.as_ref().is_none_or(|json| json.repeated().is_some()) => {
                    return Err("accepted as signatures with a member twice".into());
                }
                Ok(_) => "signatures".into(),
                Err(error) => refused(&error)?,
            });
        }
        if Index::parse(input).is_ok() != Document::parse(input, INDEXES[0]).is_ok() {
            return Err("it is an index of a layout, and none of a registry".into());
        }
        match Config::parse(input) {
            Ok(config) => {
                accepted.push("a configuration");
                check_config(&config, input)?;
            }
            Err(error) => answers.push(refused(&error)?),
        }
        match saved_images(input) {
            Ok(images) => {
                accepted.push("saved images");
                if images.iter().any(|image| image.layers.len() > MAX_LAYERS) {
                    return Err("accepted with too many layers".into());
                }
            }
            Err(error) => answers.push(refused(&error)?),
        }
        if !accepted.is_empty()
            && let Some(name) = json.as_ref().and_then(Json::repeated)
        {
            return Err(format!("accepted with {name:?} twice"));
        }
        accepted.dedup();
        if accepted.len() > 1 {
            return Err(format!("one document is {}", accepted.join(" and ")));
        }
        Ok(format!("{accepted:?} {}", answers.join(" / ")))
    }

    fn mutate(&self, rng: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
        mutate_json(rng, input, other, &WORDS)
    }
}

fn refused(error: &impl std::fmt::Display) -> Result<String, String> {
    let message = error.to_string();
    if message.chars().any(char::is_control) {
        return Err(format!("a message with a control character: {message:?}"));
    }
    Ok(message)
}

/// Compares descriptors with the text.
fn check_document(document: &Document, json: &Json, media_type: &str) -> Result<(), String> {
    if let Some(own) =
        json.get("mediaType").filter(|own| !matches!(own, Json::Scalar(value) if value.is_null()))
        && text(own) != Some(media_type)
    {
        return Err(format!("it says to be {own}, and is accepted as {media_type}"));
    }
    match document {
        Document::Index(index) => {
            let list = json.get("manifests").map_or(&[][..], Json::elements);
            check_descriptors(&index.manifests, list)
        }
        Document::Manifest(manifest) => {
            if manifest.layers.len() > MAX_LAYERS {
                return Err("accepted with too many layers".into());
            }
            check_descriptors(std::slice::from_ref(&manifest.config), json.get("config").as_slice())?;
            check_descriptors(&manifest.layers, json.get("layers").map_or(&[][..], Json::elements))
        }
    }
}

fn check_descriptors<J: std::borrow::Borrow<Json>>(found: &[Descriptor], list: &[J]) -> Result<(), String> {
    if found.len() != list.len() {
        return Err(format!("{} descriptors of {}", found.len(), list.len()));
    }
    for (descriptor, json) in found.iter().zip(list) {
        let json = json.borrow();
        let digest = descriptor.digest.to_string();
        let is_same = json.get("digest").and_then(text) == Some(&digest)
            && json.get("mediaType").and_then(text) == Some(&descriptor.media_type)
            && matches!(json.get("size"), Some(Json::Scalar(size)) if size.as_u64() == Some(descriptor.size));
        let name = descriptor.digest.file_name();
        if !is_same || name.contains(['/', '.']) || Digest::from_file_name(&name) != Some(descriptor.digest) {
            return Err(format!("{json} is read as {descriptor:?}"));
        }
    }
    Ok(())
}

fn text(json: &Json) -> Option<&str> {
    match json {
        Json::Scalar(value) => value.as_str(),
        Json::List(_) | Json::Object(_) => None,
    }
}

/// Makes a manifest of a configuration, whose words are also the names.
fn check_config(config: &Config, input: &[u8]) -> Result<(), String> {
    let digest = Digest::sha256(input);
    let origin = Origin {
        original_name: config.author.clone(),
        registry: Some(config.comment.clone()).filter(|text| !text.is_empty()),
        repository: config.platform.variant.clone(),
        tag: None,
        manifest_digest: Some(digest.to_string()),
    };
    let converted = match convert(config, &digest, &origin) {
        Ok(converted) => converted,
        Err(error) => return refused(&error).map(drop),
    };
    if let Some(notice) = converted.notices.iter().find(|notice| notice.chars().any(char::is_control)) {
        return Err(format!("a notice with a control character: {notice:?}"));
    }
    let written = converted.manifest.to_json();
    match rkt::appc::image_manifest::ImageManifest::from_json(written.as_bytes()) {
        Ok(again) if again == converted.manifest => {}
        other => return Err(format!("{written} is made of it, and read as {other:?}")),
    }
    match convert(config, &digest, &origin) {
        Ok(again) if again == converted => Ok(()),
        other => Err(format!("the second time {other:?} is made of it")),
    }
}
