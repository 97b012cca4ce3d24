//! From an OCI configuration to the manifest of an App Container Image (spec build-tools.md 6.10). Pure and
//! deterministic: the same configuration and origin give the same bytes.

use serde::{Deserialize, Serialize};

use super::document::{Config, Platform, Process};
use super::platform::appc_names;
use crate::appc::ManifestError;
use crate::appc::app::{App, EnvironmentVariable, MountPoint, Port, is_environment_name};
use crate::appc::image_manifest::ImageManifest;
use crate::appc::label::{Annotation, Label};
use crate::appc::name::{AcIdentifier, AcName};
use crate::image::digest::Digest;
use crate::os::signal_name;
use crate::systemd::unit::value::Signal;

/// Where an image comes from, as far as its manifest says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// As the user named it.
    pub original_name: String,
    /// The registry's host and port, if it is one.
    pub registry: Option<String>,
    /// The name in the registry or the file.
    pub repository: String,
    /// The tag, if the image was named by one.
    pub tag: Option<String>,
    /// The digest of the manifest, if there is one.
    pub manifest_digest: Option<String>,
}

impl Origin {
    /// Tells whether a signature of one is about the other, too: the manifest, and the name in its registry.
    pub fn is_same_image(&self, other: &Self) -> bool {
        self.registry == other.registry
            && self.repository == other.repository
            && self.manifest_digest == other.manifest_digest
    }
}

/// A manifest, and what could not get into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The manifest.
    pub manifest: ImageManifest,
    /// What was left out, as sentences.
    pub notices: Vec<String>,
}

/// Why a configuration makes no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The image is for a machine that the specification has no name for.
    #[error("it is for {0}, which rkt does not run")]
    Platform(Platform),
    /// What came out breaks a rule.
    #[error("invalid ACI generated: {0}")]
    Invalid(ManifestError),
}

/// Makes the manifest of the image whose configuration has the digest `config_digest`.
///
/// # Errors
/// When it is for no machine that we know, or breaks a rule of manifests.
pub fn convert(config: &Config, config_digest: &Digest, origin: &Origin) -> Result<Converted, ConvertError> {
    let (os, arch) =
        appc_names(&config.platform).ok_or_else(|| ConvertError::Platform(config.platform.clone()))?;
    let mut notices = Vec::new();
    let mut manifest = ImageManifest::new(image_name(origin));
    if let Some(tag) = &origin.tag {
        manifest.labels.push(label("version", tag));
    }
    manifest.labels.extend([label("os", os), label("arch", arch)]);
    manifest.app = config.process.as_ref().map(|process| app(process, &mut notices));
    let stop_signal = config.process.as_ref().and_then(|process| stop_signal(process, &mut notices));
    manifest.annotations = annotations(config, config_digest, origin, stop_signal.unwrap_or_default());
    manifest.validate().map_err(ConvertError::Invalid)?;
    Ok(Converted { manifest, notices })
}

fn label(name: &str, value: &str) -> Label {
    Label::new(name.parse().expect("it is an identifier"), value)
}

/// `REGISTRY/NAME` as an identifier.
pub fn image_name(origin: &Origin) -> AcIdentifier {
    let name = match &origin.registry {
        Some(registry) => format!("{registry}/{}", origin.repository),
        None => origin.repository.clone(),
    };
    identifier(&name)
}

/// Makes an identifier of any text. Where two separators would follow each other, which docker's names allow and
/// identifiers do not, the first stays.
pub fn identifier(text: &str) -> AcIdentifier {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut name = String::new();
    for c in text.to_lowercase().chars() {
        let c = if is_word(c) || "-._~/".contains(c) { c } else { '_' };
        if is_word(c) || name.chars().last().is_some_and(is_word) {
            name.push(c);
        }
    }
    name.trim_end_matches(|c| !is_word(c)).parse().unwrap_or_else(|_| "image".parse().expect("it is one"))
}

/// `volume-var-tmp` of `/var/tmp`, different from those in `taken`.
fn volume_name(path: &str, taken: &[MountPoint]) -> AcName {
    let mut name = String::from("volume");
    for c in path.to_lowercase().chars() {
        let c = if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        if c != '-' || !name.ends_with('-') {
            name.push(c);
        }
    }
    let name = name.trim_end_matches('-').to_owned();
    let numbered = (1..).map(|number| format!("{name}-{number}"));
    let free = |name: &String| !taken.iter().any(|point| point.name == *name.as_str());
    let name = std::iter::once(name.clone()).chain(numbered).find(free).unwrap_or_default();
    name.parse().expect("what it is made of makes a name")
}

fn app(process: &Process, notices: &mut Vec<String>) -> App {
    let (user, group) = process.user.split_once(':').unwrap_or((&process.user, ""));
    let user = if user.is_empty() { "0" } else { user };
    let mut app = App::new(user, if group.is_empty() { user } else { group });
    app.exec = [&process.entrypoint[..], &process.command].concat();
    app.working_directory = match process.working_directory.as_str() {
        relative if !relative.is_empty() && !relative.starts_with('/') => format!("/{relative}"),
        other => other.to_owned(),
    };
    app.environment = environment(&process.environment, notices);
    app.mount_points = mount_points(&process.volumes);
    app.ports = ports(&process.exposed_ports, notices);
    app
}

/// The annotation that says which signal asks the app to end, by its full name; one of ours.
pub const STOP_SIGNAL: &str = "appc.io/docker/stopsignal";

fn stop_signal(process: &Process, notices: &mut Vec<String>) -> Option<String> {
    let text = process.stop_signal.as_str();
    let name = signal_name::full_name(text).filter(|name| name.parse::<Signal>().is_ok());
    if name.is_none() && !text.is_empty() {
        notices.push(format!(
            "the stop signal {text:?} of the image is left out: no app is asked to end by that"
        ));
    }
    name
}

fn environment(variables: &[String], notices: &mut Vec<String>) -> Vec<EnvironmentVariable> {
    let mut environment: Vec<EnvironmentVariable> = Vec::new();
    for (name, value) in variables.iter().filter_map(|variable| variable.split_once('=')) {
        if !is_environment_name(name) {
            notices.push(format!(
                "the variable {name:?} of the image is left out: no manifest can hold its name"
            ));
            continue;
        }
        match environment.iter_mut().find(|variable| variable.name == name) {
            Some(variable) => value.clone_into(&mut variable.value),
            None => environment.push(EnvironmentVariable { name: name.to_owned(), value: value.to_owned() }),
        }
    }
    environment
}

fn mount_points(volumes: &[String]) -> Vec<MountPoint> {
    // A volume at the top would hide the image.
    let mut paths: Vec<&String> =
        volumes.iter().filter(|path| !path.trim_matches(['/', '.']).is_empty()).collect();
    paths.sort();
    let mut points = Vec::new();
    for path in paths {
        let name = volume_name(path, &points);
        points.push(MountPoint { name, path: path.clone(), read_only: false });
    }
    points.sort_by(|one, other| one.name.cmp(&other.name));
    points
}

fn ports(exposed: &[String], notices: &mut Vec<String>) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for text in exposed {
        match port(text) {
            Some(port) if !ports.iter().any(|other| other.name == port.name) => ports.push(port),
            Some(_) => {}
            None => notices.push(format!("the port {text:?} of the image is left out: it is no port")),
        }
    }
    ports.sort_by(|one, other| one.name.cmp(&other.name));
    ports
}

/// `PORT[-LAST][/PROTOCOL]`
fn port(text: &str) -> Option<Port> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+'));
    let (port, last) = (number(first)?, number(last)?);
    let protocol = protocol.to_lowercase();
    Some(Port {
        name: format!("{numbers}-{protocol}").parse().ok()?,
        protocol,
        port,
        count: last.checked_sub(port)?.checked_add(1)?,
        socket_activated: false,
    })
}

fn annotations(
    config: &Config,
    config_digest: &Digest,
    origin: &Origin,
    stop_signal: String,
) -> Vec<Annotation> {
    let process = config.process.clone().unwrap_or_default();
    let list = |words: &[String]| {
        if words.is_empty() { String::new() } else { serde_json::Value::from(words).to_string() }
    };
    let pairs = [
        ("author", config.author.clone()),
        ("created", created(&config.created)),
        ("docker-comment", config.comment.clone()),
        ("appc.io/docker/originalname", origin.original_name.clone()),
        ("appc.io/docker/registryurl", origin.registry.clone().unwrap_or_default()),
        ("appc.io/docker/repository", origin.repository.clone()),
        ("appc.io/docker/imageid", config_digest.to_string()),
        ("appc.io/docker/manifesthash", origin.manifest_digest.clone().unwrap_or_default()),
        ("appc.io/docker/entrypoint", list(&process.entrypoint)),
        ("appc.io/docker/cmd", list(&process.command)),
        (STOP_SIGNAL, stop_signal),
    ];
    pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| Annotation::new(name.parse().expect("it is an identifier"), value))
        .collect()
}

/// The time, unless it is none, or one that builders write to say nothing.
fn created(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) if time.as_second() > 0 => text.to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn origin() -> Origin {
        Origin {
            original_name: "busybox:1".into(),
            registry: Some("registry-1.docker.io".into()),
            repository: "library/busybox".into(),
            tag: Some("1".into()),
            manifest_digest: None,
        }
    }

    fn config(process: serde_json::Value) -> Config {
        let value = json!({
            "os": "linux", "architecture": "arm64", "created": "2024-02-03T04:05:06.789Z", "author": "me",
            "config": process, "rootfs": {"type": "layers", "diff_ids": []},
        });
        Config::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_whole_configuration_becomes_a_manifest() {
        let config = config(json!({
            "User": "www", "Env": ["A=1", "nothing", "B=x=y", "A=2", "1bad=x"], "Entrypoint": ["/e", "-x"],
            "Cmd": ["c"], "WorkingDir": "srv", "Volumes": {"/var/tmp": {}, "/var-tmp/": {}, "/": {}, "/é/b": {}},
            "ExposedPorts": {"80/tcp": {}, "53/UDP": {}, "8000-8009": {}, "0/tcp": {}, "x": {}},
        }));
        let converted = convert(&config, &Digest::sha256(b""), &origin()).unwrap();
        crate::golden::assert_golden("oci/manifest.json", &(converted.manifest.to_json_pretty(2) + "\n"));
        assert_eq!(converted.notices.len(), 3, "{:?}", converted.notices);
    }

    #[test]
    fn users_and_groups() {
        for (text, expected) in
            [("", ("0", "0")), ("u", ("u", "u")), ("u:g", ("u", "g")), ("1:", ("1", "1")), (":g", ("0", "g"))]
        {
            let app = app(&Process { user: text.into(), ..Process::default() }, &mut Vec::new());
            assert_eq!((app.user.as_str(), app.group.as_str()), expected, "{text}");
        }
    }

    #[test]
    fn the_stop_signal_has_its_full_name() {
        for (text, name, told) in [
            ("", None, 0),
            ("quit", Some("SIGQUIT"), 0),
            ("10", Some("SIGUSR1"), 0),
            ("QUIT\nUser=0", None, 1),
            ("SIGCONT", None, 1),
        ] {
            let config = config(json!({"StopSignal": text}));
            let converted = convert(&config, &Digest::sha256(b""), &origin()).unwrap();
            assert_eq!(converted.manifest.annotation(STOP_SIGNAL), name, "{text:?}");
            assert_eq!(converted.notices.len(), told, "{:?}", converted.notices);
        }
    }

    #[test]
    fn names_are_identifiers_whatever_they_were() {
        for (text, expected) in [
            ("localhost:5000/A__b/c---d.", "localhost_5000/a_b/c-d"),
            ("[::1]:5000/x", "1_5000/x"),
            ("", "image"),
            ("ÄÖ", "image"),
        ] {
            assert_eq!(identifier(text).as_str(), expected, "{text}");
        }
    }

    #[test]
    fn b14_a_platform_that_has_no_name_is_refused() {
        let mut config = config(json!({}));
        config.platform.os = "windows".into();
        let refused = convert(&config, &Digest::sha256(b""), &origin()).unwrap_err();
        assert_eq!(refused.to_string(), "it is for windows/arm64, which rkt does not run");
    }

    #[test]
    fn times_that_say_nothing_are_left_out() {
        for text in ["", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "yesterday"] {
            assert_eq!(created(text), "", "{text}");
        }
    }
}
