//! The documents of OCI and Docker images: indexes, manifests, configurations (OCI image-spec 1.1; Docker image
//! manifest version 2, schema 2). Pure functions over bytes, strict where two readers could differ.
//!
//! A document is read as what its descriptor calls it and as nothing else (CVE-2021-41190); a member given twice is
//! refused, as is a document over 4 MiB or deeper than 64 levels. Digests become bytes here.

use std::collections::BTreeMap;

use crate::appc::json::{self, JsonError};
use crate::appc::{Field, FieldError, quoted};
use crate::image::digest::Digest;

/// Entries that an index may have.
const MAX_ENTRIES: usize = 10_000;
/// Layers that an image may have: what overlayfs stacks (OVL_MAX_STACK).
pub const MAX_LAYERS: usize = 500;

/// The kinds of indexes.
pub const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// The kinds of manifests.
pub const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// How the kinds of layers begin; what follows says how they are packed, which the content says better.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// Why a document is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is not the JSON that is accepted.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A member breaks a rule.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Its kind is none that is read here.
    #[error("it is of the type {}, and {wanted} is wanted", quoted(.found))]
    Kind {
        /// What it is.
        found: String,
        /// What was expected.
        wanted: &'static str,
    },
    /// It says to be another kind than who refers to it says.
    #[error("it says to be of the type {}, and the reference to it says {}", quoted(.own), quoted(.referred))]
    OtherKind {
        /// Its own word.
        own: String,
        /// The descriptor's.
        referred: String,
    },
}

/// What a document says of another, or of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// For what machine, if an index says it.
    pub platform: Option<Platform>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

/// An operating system and an architecture, in Go's spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`, …
    pub os: String,
    /// `amd64`, …
    pub architecture: String,
    /// `v7`, …; mostly empty.
    pub variant: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Free text of a stranger, on one line.
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(40).collect::<String>();
        write!(f, "{}/{}", shown(&self.os), shown(&self.architecture))?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", shown(&self.variant)) }
    }
}

/// An index: several images under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// What it lists.
    pub manifests: Vec<Descriptor>,
}

/// A manifest: one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// A document that a name or a descriptor leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Several images.
    Index(Index),
    /// One.
    Manifest(Manifest),
}

impl Document {
    /// Reads the index or manifest that a descriptor or a server calls `media_type`.
    ///
    /// # Errors
    /// When it is something else, or breaks a rule.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, DocumentError> {
        let is_index = INDEXES.contains(&media_type);
        if !is_index && !MANIFESTS.contains(&media_type) {
            let wanted = "an image manifest or an index of them";
            return Err(DocumentError::Kind { found: media_type.to_owned(), wanted });
        }
        let value = json::parse(bytes)?;
        let field = Field::document(&value);
        check_kind(&field, media_type)?;
        if is_index {
            refuse_member(&field, "layers", "an index")?;
            refuse_member(&field, "config", "an index")?;
            Index::read(&field).map(Self::Index)
        } else {
            refuse_member(&field, "manifests", "a manifest")?;
            Manifest::read(&field).map(Self::Manifest)
        }
    }
}

/// Reads the layers of a manifest that need not be that of an image.
///
/// # Errors
/// When it is no manifest, or breaks a rule.
pub fn artifact_layers(bytes: &[u8], media_type: &str) -> Result<Vec<Descriptor>, DocumentError> {
    if !MANIFESTS.contains(&media_type) {
        return Err(DocumentError::Kind { found: media_type.to_owned(), wanted: "a manifest" });
    }
    let value = json::parse(bytes)?;
    let field = Field::document(&value);
    check_kind(&field, media_type)?;
    refuse_member(&field, "manifests", "a manifest")?;
    Ok(field.required("layers")?.list(Descriptor::read)?)
}

/// The document's own word on its kind, which may be missing in OCI documents.
fn check_kind(field: &Field<'_>, media_type: &str) -> Result<(), DocumentError> {
    let version = field.required("schemaVersion")?;
    let number: i64 = version.integer("")?;
    if number != 2 {
        let problem =
            format!("must be 2, not {number}: older images must be converted by who publishes them");
        return Err(version.error(problem).into());
    }
    match field.optional("mediaType")? {
        Some(own) if own.str()? != media_type => {
            Err(DocumentError::OtherKind { own: own.string()?, referred: media_type.to_owned() })
        }
        // Docker's documents always say what they are.
        None if media_type.contains(".docker.") => Ok(field.required("mediaType").map(drop)?),
        _ => Ok(()),
    }
}

fn refuse_member(field: &Field<'_>, name: &str, what: &str) -> Result<(), DocumentError> {
    match field.optional(name)? {
        Some(member) => Err(member.error(format!("must not be in {what}")).into()),
        None => Ok(()),
    }
}

impl Index {
    /// Reads the `index.json` of a layout, which nothing refers to.
    ///
    /// # Errors
    /// When it is something else, or breaks a rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        match Document::parse(bytes, INDEXES[0])? {
            Document::Index(index) => Ok(index),
            Document::Manifest(_) => {
                Err(DocumentError::Kind { found: MANIFESTS[0].to_owned(), wanted: "an index" })
            }
        }
    }

    fn read(field: &Field<'_>) -> Result<Self, DocumentError> {
        let list = field.required("manifests")?;
        let manifests = list.list(Descriptor::read)?;
        if manifests.len() > MAX_ENTRIES {
            return Err(list.error(format!("has more than {MAX_ENTRIES} entries")).into());
        }
        Ok(Self { manifests })
    }
}

impl Manifest {
    fn read(field: &Field<'_>) -> Result<Self, DocumentError> {
        let member = field.required("config")?;
        let config = Descriptor::read(&member)?;
        if !CONFIGS.contains(&config.media_type.as_str()) {
            let wanted = "the configuration of a container image";
            return Err(DocumentError::Kind { found: config.media_type, wanted });
        }
        let list = field.required("layers")?;
        let layers = list.list(Descriptor::read)?;
        if layers.len() > MAX_LAYERS {
            return Err(list.error(format!("has more than {MAX_LAYERS} entries")).into());
        }
        if let Some(layer) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            let found = layer.media_type.clone();
            return Err(DocumentError::Kind { found, wanted: "a layer in tar form" });
        }
        Ok(Self { config, layers })
    }
}

fn is_layer(media_type: &str) -> bool {
    LAYERS.iter().any(|kind| {
        media_type
            .strip_prefix(kind)
            .is_some_and(|rest| matches!(rest, "" | "+gzip" | ".gzip" | "+zstd" | ".zstd"))
    })
}

impl Descriptor {
    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            media_type: field.required("mediaType")?.string()?,
            digest: field.required("digest")?.parsed()?,
            size: field.required("size")?.integer("of bytes")?,
            platform: field.optional("platform")?.map(|platform| Platform::read(&platform)).transpose()?,
            annotations: field.or_default("annotations", Field::string_map)?,
        })
    }
}

impl Platform {
    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            os: field.required("os")?.string()?,
            architecture: field.required("architecture")?.string()?,
            variant: field.or_default("variant", Field::string)?,
        })
    }
}

/// The configuration of an image: how it is executed, and what its layers are once unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// For what machine.
    pub platform: Platform,
    /// When it was made, RFC 3339, if said.
    pub created: String,
    /// Who made it, if said.
    pub author: String,
    /// What was said when it was made.
    pub comment: String,
    /// How it is executed, if it says that.
    pub process: Option<Process>,
    /// The digests of the unpacked layers, the lowest first.
    pub diff_ids: Vec<Digest>,
}

/// How an image is executed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// `USER[:GROUP]`.
    pub user: String,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    /// What is executed.
    pub entrypoint: Vec<String>,
    /// Arguments, or what is executed if there is no entrypoint.
    pub command: Vec<String>,
    /// Where.
    pub working_directory: String,
    /// Paths that want volumes.
    pub volumes: Vec<String>,
    /// `PORT[/PROTOCOL]`.
    pub exposed_ports: Vec<String>,
    /// What asks it to end: the name or the number of a signal.
    pub stop_signal: String,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let value = json::parse(bytes)?;
        let field = Field::document(&value);
        // What is read as a configuration must be no manifest at the same time.
        for name in ["layers", "manifests", "schemaVersion"] {
            refuse_member(&field, name, "a configuration")?;
        }
        let rootfs = field.required("rootfs")?;
        let kind = rootfs.required("type")?;
        if kind.str()? != "layers" {
            return Err(kind.error("must be \"layers\"").into());
        }
        let text = |name| field.or_default(name, Field::string);
        Ok(Self {
            platform: Platform::read(&field)?,
            created: text("created")?,
            author: text("author")?,
            comment: text("comment")?,
            process: field.optional("config")?.map(|process| Process::read(&process)).transpose()?,
            diff_ids: rootfs.or_default("diff_ids", |list| list.list(|id| id.parsed()))?,
        })
    }
}

impl Process {
    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let text = |name| field.or_default(name, Field::string);
        let list = |name| field.or_default(name, words);
        let keys = |name| field.or_default(name, Field::keys);
        let exposed_ports = match keys("ExposedPorts")? {
            ports if ports.is_empty() => list("PortSpecs")?,
            ports => ports,
        };
        Ok(Self {
            user: text("User")?,
            environment: list("Env")?,
            entrypoint: list("Entrypoint")?,
            command: list("Cmd")?,
            working_directory: text("WorkingDir")?,
            volumes: keys("Volumes")?,
            exposed_ports,
            stop_signal: text("StopSignal")?,
        })
    }
}

/// A list of words; some old builders wrote one word as a string.
fn words(field: &Field<'_>) -> Result<Vec<String>, FieldError> {
    if field.value().is_string() { Ok(vec![field.string()?]) } else { field.strings() }
}

/// An image in the `manifest.json` of a docker archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedImage {
    /// The archive's member that is the configuration.
    pub config: String,
    /// What the image is called.
    pub repo_tags: Vec<String>,
    /// The archive's members that are the layers, the lowest first.
    pub layers: Vec<String>,
}

/// Reads the `manifest.json` of a docker archive.
///
/// # Errors
/// When it breaks a rule.
pub fn saved_images(bytes: &[u8]) -> Result<Vec<SavedImage>, DocumentError> {
    let value = json::parse(bytes)?;
    let field = Field::document(&value);
    let images = field.list(|image| {
        let layers = image.or_default("Layers", Field::strings)?;
        if layers.len() > MAX_LAYERS {
            return Err(image.error(format!("has more than {MAX_LAYERS} layers")));
        }
        Ok(SavedImage {
            config: image.required("Config")?.string()?,
            repo_tags: image.or_default("RepoTags", Field::strings)?,
            layers,
        })
    })?;
    if images.len() > MAX_ENTRIES {
        return Err(field.error(format!("has more than {MAX_ENTRIES} entries")).into());
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": DIGEST, "size": 3})
    }

    fn manifest() -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFESTS[0],
            "config": descriptor(CONFIGS[0]),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip")],
        })
    }

    fn config() -> Value {
        json!({
            "os": "linux", "architecture": "amd64",
            "config": {"User": "1", "Env": ["A=1"], "Cmd": ["/x"], "Entrypoint": null, "Volumes": {"/v": {}},
                       "ExposedPorts": {"80/tcp": {}}, "Unknown": [1]},
            "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        })
    }

    fn with(mut document: Value, name: &str, value: Value) -> Value {
        document[name] = value;
        document
    }

    fn read(document: &Value, media_type: &str) -> Result<Document, String> {
        Document::parse(document.to_string().as_bytes(), media_type).map_err(|error| error.to_string())
    }

    #[test]
    fn manifests_and_indexes_are_read() {
        let Document::Manifest(read_back) = read(&manifest(), MANIFESTS[0]).unwrap() else { panic!() };
        assert_eq!((read_back.config.size, read_back.layers.len()), (3, 1));
        let platform = json!({"os": "linux", "architecture": "arm", "variant": "v7"});
        let index = json!({"schemaVersion": 2, "manifests": [
            with(descriptor(MANIFESTS[0]), "platform", platform),
            with(descriptor(MANIFESTS[1]), "annotations", json!({"org.opencontainers.image.ref.name": "1"})),
        ]});
        let index = Index::parse(index.to_string().as_bytes()).unwrap();
        assert_eq!(index.manifests[0].platform.as_ref().unwrap().to_string(), "linux/arm/v7");
        assert_eq!(index.manifests[1].annotations["org.opencontainers.image.ref.name"], "1");
    }

    #[test]
    fn b1_a_document_is_one_kind_and_that_which_the_reference_says() {
        let both = with(manifest(), "manifests", json!([]));
        let index = json!({"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": []});
        for (document, media_type, expected) in [
            (both, MANIFESTS[0], "manifests: must not be in a manifest"),
            (with(index.clone(), "layers", json!([])), INDEXES[0], "layers: must not be in an index"),
            (with(index.clone(), "config", json!({})), INDEXES[0], "config: must not be in an index"),
            (
                index,
                MANIFESTS[0],
                "it says to be of the type \"application/vnd.oci.image.index.v1+json\", and the reference to it says \"application/vnd.oci.image.manifest.v1+json\"",
            ),
            (
                manifest(),
                "text/html",
                "it is of the type \"text/html\", and an image manifest or an index of them is wanted",
            ),
            (with(manifest(), "mediaType", json!(null)), MANIFESTS[1], "mediaType: must be set"),
            (
                with(manifest(), "schemaVersion", json!(1)),
                MANIFESTS[0],
                "schemaVersion: must be 2, not 1: older images must be converted by who publishes them",
            ),
            (
                with(manifest(), "config", descriptor("application/vnd.cncf.helm.config.v1+json")),
                MANIFESTS[0],
                "it is of the type \"application/vnd.cncf.helm.config.v1+json\", and the configuration of a container image is wanted",
            ),
            (
                with(manifest(), "layers", json!([descriptor("application/json")])),
                MANIFESTS[0],
                "it is of the type \"application/json\", and a layer in tar form is wanted",
            ),
        ] {
            assert_eq!(read(&document, media_type).unwrap_err(), expected);
        }
        // Keys are what they are: `Layers` is not `layers`.
        let text = manifest().to_string().replace("\"layers\"", "\"Layers\"");
        let refused = Document::parse(text.as_bytes(), MANIFESTS[0]).unwrap_err().to_string();
        assert_eq!(refused, "layers: must be set");
        let twice = manifest().to_string().replacen('{', "{\"layers\":[],", 1);
        let refused = Document::parse(twice.as_bytes(), MANIFESTS[0]).unwrap_err().to_string();
        assert!(refused.contains("layers"), "{refused}");
    }

    #[test]
    fn b2_b8_digests_sizes_and_numbers_are_bounded() {
        let bad = |name: &str, value: Value| {
            read(&with(manifest(), "config", with(descriptor(CONFIGS[0]), name, value)), MANIFESTS[0])
        };
        for (name, value, expected) in [
            ("digest", json!("sha256:../../etc"), "config.digest: \"sha256:../../etc\" is not a digest"),
            ("digest", json!(null), "config.digest: must be set"),
            ("size", json!(-1), "config.size: must be a whole number of bytes, not -1"),
            ("size", json!(1e30), "config.size: must be a whole number"),
        ] {
            let refused = bad(name, value).unwrap_err();
            assert!(refused.starts_with(expected), "{refused}");
        }
        let layers = vec![descriptor(LAYERS[0]); MAX_LAYERS + 1];
        let refused = read(&with(manifest(), "layers", json!(layers)), MANIFESTS[0]).unwrap_err();
        assert_eq!(refused, "layers: has more than 500 entries");
        let many = vec![descriptor(MANIFESTS[0]); MAX_ENTRIES + 1];
        let index = json!({"schemaVersion": 2, "manifests": many});
        assert_eq!(read(&index, INDEXES[0]).unwrap_err(), "manifests: has more than 10000 entries");
        let deep = format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(70), "]".repeat(70));
        let refused = Document::parse(deep.as_bytes(), MANIFESTS[0]).unwrap_err().to_string();
        assert!(refused.contains("64 levels"), "{refused}");
    }

    #[test]
    fn configurations_are_read() {
        let read = |value: &Value| Config::parse(value.to_string().as_bytes()).map_err(|e| e.to_string());
        let found = read(&config()).unwrap();
        let process = found.process.unwrap();
        assert_eq!(process.user, "1");
        assert_eq!((process.command, process.entrypoint), (vec!["/x".to_owned()], vec![]));
        assert_eq!(
            (&process.volumes[..], &process.exposed_ports[..]),
            (&["/v".into()][..], &["80/tcp".into()][..])
        );
        assert_eq!(found.diff_ids.len(), 1);
        for (document, expected) in [
            (with(config(), "rootfs", json!({"type": "tar"})), "rootfs.type: must be \"layers\""),
            (with(config(), "rootfs", json!(null)), "rootfs: must be set"),
            (with(config(), "os", json!(null)), "os: must be set"),
            (with(config(), "layers", json!([])), "layers: must not be in a configuration"),
            (with(config(), "config", json!({"Env": [1]})), "config.Env[0]: must be a string, not a number"),
        ] {
            assert_eq!(read(&document).unwrap_err(), expected);
        }
    }

    #[test]
    fn saved_images_are_read() {
        let text = json!([{"Config": "a.json", "RepoTags": null, "Layers": ["x/layer.tar"]}]).to_string();
        let images = saved_images(text.as_bytes()).unwrap();
        assert_eq!((images[0].config.as_str(), images[0].layers.len()), ("a.json", 1));
        assert!(saved_images(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), index in 0..4_usize) {
            let kind = [INDEXES[0], INDEXES[1], MANIFESTS[0], MANIFESTS[1]][index];
            let _ = Document::parse(&bytes, kind);
            let _ = Config::parse(&bytes);
            let _ = saved_images(&bytes);
        }

        /// One byte of a good document changed: it is refused, or every descriptor is still whole.
        #[test]
        fn a_changed_byte_is_noticed_or_harmless(at in 0..300_usize, byte in any::<u8>()) {
            let mut bytes = manifest().to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(Document::Manifest(read)) = Document::parse(&bytes, MANIFESTS[0]) {
                prop_assert!(CONFIGS.contains(&read.config.media_type.as_str()));
                prop_assert!(read.layers.iter().all(|layer| is_layer(&layer.media_type)));
            }
        }
    }
}
