//! What a user writes on one line: names of images, IDs, digests, volumes, mounts, ports, quantities. Each text is read by
//! every grammar; what is accepted is printed and read again as the same, and printed it holds no control character and
//! no part that leads somewhere else.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use rkt::appc::image_id::{ImageHash, ImageId, ImageIdQuery};
use rkt::appc::name::{AcIdentifier, AcName};
use rkt::appc::pod_uuid::PodUuid;
use rkt::appc::quantity::Quantity;
use rkt::appc::semver::SemVer;
use rkt::appc::volume::{Mount, Volume, VolumeKind};
use rkt::cli::pod_flags::network::PortForward;
use rkt::image::digest::Digest;
use rkt::image::oci::name::{DockerReference, RegistryPrefix, Version};
use rkt::image::reference::{NameReference, Reference, StoredReference};

use super::json::change_text;
use super::manifests::is_word;
use super::mutate::{self, Rng};
use super::run::{Effort, Target};

pub(crate) struct References;

const WORDS: [&str; 40] = [
    "sha512-",
    "sha256:",
    "sha512:",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "docker://",
    "docker:",
    "docker.io/",
    "library/",
    "localhost:5000/",
    "[::1]:80/",
    "oci:",
    "oci-archive:",
    "docker-archive:",
    "cimd:appc:v=0:",
    "cimd:docker:v=0:",
    "cimd:aci-archive:v=0:",
    "file://",
    "https://",
    ".aci",
    "%2F",
    "%0a",
    "%",
    "?version=",
    "&os=",
    ",os=linux",
    ",version=",
    ",name=",
    ":latest",
    "@sha256:",
    "example.com/app",
    ",kind=host",
    ",kind=empty",
    ",source=/",
    ",mode=",
    ",readOnly=true",
    "volume=v,target=/",
    "http:127.0.0.1:8080",
    "..",
    "//",
    "Mi",
];

impl Target for References {
    const NAME: &'static str = "references";

    fn check(&mut self, input: &[u8], _: Effort) -> Result<String, String> {
        let text = String::from_utf8_lossy(input);
        let text = text.as_ref();
        let answers = [
            printed::<AcName>(text, |name| is_word(name, "-"))?,
            printed::<AcIdentifier>(text, |name| is_word(name, "-._~/"))?,
            printed::<ImageId>(text, |id| id.len() == 71)?,
            printed::<ImageHash>(text, |hash| hash.len() <= 135)?,
            printed::<ImageIdQuery>(text, |query| query.len() <= 71)?,
            printed::<PodUuid>(text, |uuid| uuid.len() == 36)?,
            printed::<SemVer>(text, |version| !version.contains(['/', ' ']))?,
            printed::<Quantity>(text, |quantity| !quantity.contains(['/', ' ']))?,
            printed::<Digest>(text, |digest| is_word(digest, ":"))?,
            printed::<RegistryPrefix>(text, |prefix| {
                let path = prefix.strip_prefix(RegistryPrefix::SCHEME).unwrap_or_default();
                only_inner_parts(path.strip_suffix('/').unwrap_or(path))
            })?,
            docker(text)?,
            name(text)?,
            image(text)?,
            volume(text)?,
            mount(text)?,
            port(text)?,
        ];
        Ok(answers.join(" / "))
    }

    fn mutate(&self, rng: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
        if rng.one_in(2) {
            return mutate::bytes(rng, input, other, &WORDS);
        }
        change_text(rng, &String::from_utf8_lossy(input), &WORDS).into_bytes()
    }
}

/// Reads, prints and reads a text, and looks at what is printed.
fn printed<T: FromStr + Display + PartialEq + Debug>(
    text: &str,
    keeps_grammar: fn(&str) -> bool,
) -> Result<String, String>
where
    T::Err: Display + Debug,
{
    let kind = std::any::type_name::<T>();
    let value: T = match text.parse() {
        Ok(value) => value,
        Err(error) => return refused(&error),
    };
    let shown = value.to_string();
    if !keeps_grammar(&shown) {
        return Err(format!("{kind}: printed as {shown:?}"));
    }
    same(&value, &shown, shown.parse())?;
    harmless(kind, &shown)
}

/// A refusal, which goes to a terminal.
fn refused(error: &impl Display) -> Result<String, String> {
    let message = error.to_string();
    if message.chars().any(char::is_control) {
        return Err(format!("a message with a control character: {message:?}"));
    }
    Ok(message)
}

fn same<T: PartialEq + Debug, E: Debug>(value: &T, shown: &str, again: Result<T, E>) -> Result<(), String> {
    match again {
        Ok(again) if again == *value => Ok(()),
        other => Err(format!("{value:?} is printed as {shown:?}, and that is read as {other:?}")),
    }
}

fn harmless(kind: &str, shown: &str) -> Result<String, String> {
    if shown.chars().any(char::is_control) {
        return Err(format!("{kind}: a control character is printed: {shown:?}"));
    }
    Ok(format!("{kind} accepted"))
}

/// No part of a path leads up, or nowhere.
fn only_inner_parts(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn docker(text: &str) -> Result<String, String> {
    let reference: DockerReference = match text.parse() {
        Ok(reference) => reference,
        Err(error) => return refused(&error),
    };
    let shown = reference.to_string();
    let again: DockerReference =
        shown.parse().map_err(|error| format!("docker: {shown:?} is printed, and refused: {error}"))?;
    let parts = |reference: &DockerReference| {
        (reference.registry.clone(), reference.repository.clone(), reference.version.clone())
    };
    if parts(&again) != parts(&reference) || again.to_string() != shown {
        return Err(format!("docker: {reference:?} is printed as {shown:?} and read as {again:?}"));
    }
    if !only_inner_parts(&reference.repository) || reference.registry.contains('/') {
        return Err(format!("docker: accepted as {reference:?}"));
    }
    if let Version::Tag(tag) = &reference.version
        && (tag.is_empty() || tag.contains(['/', ':', '@']))
    {
        return Err(format!("docker: accepted with the tag {tag:?}"));
    }
    harmless("docker", &shown)?;
    harmless("docker", reference.original())
}

fn name(text: &str) -> Result<String, String> {
    let reference = match NameReference::parse(text) {
        Ok(reference) => reference,
        Err(error) => return refused(&error),
    };
    if !only_inner_parts(reference.name.as_str()) {
        return Err(format!("name: accepted as {reference:?}"));
    }
    let shown = reference.to_string();
    let sorted = |mut reference: NameReference| {
        reference.labels.sort();
        reference
    };
    same(&sorted(reference), &shown, NameReference::parse(&shown).map(sorted))?;
    harmless("name", &shown)
}

fn image(text: &str) -> Result<String, String> {
    let stored = match text.parse::<StoredReference>() {
        Ok(_) => "stored".to_owned(),
        Err(error) => refused(&error)?,
    };
    let read = |text: &str| Reference::parse(text, Path::new("/cwd"), |_| false);
    let reference = match read(text) {
        Ok(reference) => reference,
        Err(error) => return refused(&error).map(|message| format!("{stored} {message}")),
    };
    let kind = match &reference {
        // A path is what it is; nothing else is made of it.
        Reference::File(path) if path.is_absolute() => return Ok("a file".into()),
        Reference::File(path) => return Err(format!("accepted as the relative path {path:?}")),
        Reference::Local(local) if !local.path.is_absolute() => {
            return Err(format!("accepted as {local:?}"));
        }
        Reference::Local(_) => "files of an image",
        Reference::Id(_) => "an ID",
        Reference::Url(_) => "a URL",
        Reference::Docker(_) => "a docker image",
        Reference::Name(_) => "a name",
    };
    let shown = reference.to_string();
    match (&reference, read(&shown)) {
        (Reference::Name(first), Ok(Reference::Name(second))) => {
            let sorted = |reference: &NameReference| {
                let mut labels = reference.labels.clone();
                labels.sort();
                (reference.name.clone(), labels)
            };
            if sorted(first) != sorted(&second) {
                return Err(format!("{first:?} is printed as {shown:?} and read as {second:?}"));
            }
        }
        (_, again) => same(&reference, &shown, again)?,
    }
    harmless(kind, &shown)
}

fn volume(text: &str) -> Result<String, String> {
    let volume = match Volume::from_flag(text) {
        Ok(volume) => volume,
        Err(error) => return refused(&error),
    };
    volume.check().map_err(|error| format!("accepted, and not valid: {error}"))?;
    let mut flag = format!("{},kind={}", volume.name, volume.kind);
    match &volume.kind {
        VolumeKind::Host { source } => flag += &format!(",source={source}"),
        VolumeKind::Empty { mode, uid, gid } => flag += &format!(",mode={mode:o},uid={uid},gid={gid}"),
    }
    for (key, value) in [("readOnly", volume.read_only), ("recursive", volume.recursive)] {
        flag += &value.map_or(String::new(), |value| format!(",{key}={value}"));
    }
    same(&volume, &flag, Volume::from_flag(&flag))?;
    if !is_word(volume.name.as_str(), "-") || flag.contains('\0') {
        return Err(format!("accepted as {volume:?}"));
    }
    Ok(format!("a volume of the kind {}", volume.kind))
}

fn mount(text: &str) -> Result<String, String> {
    let mount = match Mount::from_flag(text) {
        Ok(mount) => mount,
        Err(error) => return refused(&error),
    };
    let flag = format!("volume={},target={}", mount.volume, mount.path);
    same(&mount, &flag, Mount::from_flag(&flag))?;
    if !is_word(mount.volume.as_str(), "-") || flag.contains('\0') || mount.path.is_empty() {
        return Err(format!("accepted as {mount:?}"));
    }
    Ok("a mount".into())
}

fn port(text: &str) -> Result<String, String> {
    let port: PortForward = match text.parse() {
        Ok(port) => port,
        Err(error) => return refused(&error),
    };
    let address = port.host_ip.map_or(String::new(), |address| format!("{address}:"));
    let flag = format!("{}:{address}{}", port.name, port.host_port);
    same(&port, &flag, flag.parse())?;
    if port.host_port == 0 || !is_word(port.name.as_str(), "-") {
        return Err(format!("accepted as {port:?}"));
    }
    harmless("a port", &flag)
}
