//! Image and pod manifests: what is accepted is written and read again as the same, has no member twice, and every name
//! in it keeps its grammar.

use rkt::appc::app::App;
use rkt::appc::image_manifest::ImageManifest;
use rkt::appc::label::{Annotation, Label};
use rkt::appc::pod_manifest::PodManifest;

use super::json::Json;
use super::mutate::{self, Rng};
use super::run::{Effort, Target};

pub(crate) struct Manifests;

const WORDS: [&str; 44] = [
    "acKind",
    "acVersion",
    "ImageManifest",
    "PodManifest",
    "name",
    "labels",
    "value",
    "version",
    "os",
    "arch",
    "app",
    "apps",
    "exec",
    "user",
    "group",
    "supplementaryGIDs",
    "eventHandlers",
    "pre-start",
    "post-stop",
    "workingDirectory",
    "environment",
    "mountPoints",
    "path",
    "readOnly",
    "ports",
    "protocol",
    "count",
    "socketActivated",
    "isolators",
    "resource/memory",
    "os/linux/capabilities-retain-set",
    "os/linux/seccomp-remove-set",
    "dependencies",
    "imageName",
    "imageID",
    "pathWhitelist",
    "annotations",
    "created",
    "volumes",
    "mounts",
    "appVolume",
    "hostPort",
    "userLabels",
    "aarch64",
];

impl Target for Manifests {
    const NAME: &'static str = "manifests";

    fn check(&mut self, input: &[u8], _: Effort) -> Result<String, String> {
        let image = ImageManifest::from_json(input);
        let pod = PodManifest::from_json(input);
        if image.is_ok() || pod.is_ok() {
            let json = Json::read(input).ok_or("accepted, and no JSON to another reader")?;
            if let Some(name) = json.repeated() {
                return Err(format!("accepted with {name:?} twice"));
            }
        }
        match (image, pod) {
            (Ok(_), Ok(_)) => Err("it is an image's and a pod's manifest".into()),
            (Ok(image), Err(_)) => check_image(&image).map(|()| "an image's".into()),
            (Err(_), Ok(pod)) => check_pod(&pod).map(|()| "a pod's".into()),
            (Err(image), Err(pod)) => {
                let answer = format!("{image} / {pod}");
                if answer.chars().any(char::is_control) {
                    return Err(format!("a message with a control character: {answer:?}"));
                }
                Ok(answer)
            }
        }
    }

    fn mutate(&self, rng: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
        mutate_json(rng, input, other, &WORDS)
    }
}

/// Changes a document, mostly as JSON.
pub(crate) fn mutate_json(rng: &mut Rng, input: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
    match (Json::read(input), Json::read(other)) {
        (Some(mut json), Some(other)) if !rng.one_in(6) => {
            json.mutate(rng, &other, words);
            json.to_string().into_bytes()
        }
        _ => mutate::bytes(rng, input, other, words),
    }
}

fn check_image(manifest: &ImageManifest) -> Result<(), String> {
    manifest.validate().map_err(|error| format!("accepted, and not valid: {error}"))?;
    for text in [manifest.to_json(), manifest.to_json_pretty(2)] {
        match ImageManifest::from_json(text.as_bytes()) {
            Ok(again) if again == *manifest => {}
            Ok(_) => return Err(format!("read again, it is another: {text}")),
            Err(error) => return Err(format!("written, and refused: {error}")),
        }
    }
    identifiers([manifest.name.as_str()])?;
    check_lists(&manifest.labels, &manifest.annotations)?;
    for dependency in &manifest.dependencies {
        identifiers([dependency.image_name.as_str()])?;
        check_lists(&dependency.labels, &[])?;
    }
    manifest.app.as_ref().map_or(Ok(()), check_app)
}

fn check_pod(manifest: &PodManifest) -> Result<(), String> {
    manifest.validate().map_err(|error| format!("accepted, and not valid: {error}"))?;
    for text in [manifest.to_json(), manifest.to_json_pretty(4)] {
        match PodManifest::from_json(text.as_bytes()) {
            Ok(again) if again == *manifest => {}
            Ok(_) => return Err(format!("read again, it is another: {text}")),
            Err(error) => return Err(format!("written, and refused: {error}")),
        }
    }
    check_lists(&[], &manifest.annotations)?;
    names(manifest.volumes.iter().map(|volume| volume.name.as_str()))?;
    names(manifest.ports.iter().map(|port| port.name.as_str()))?;
    identifiers(manifest.isolators.iter().map(|isolator| isolator.name()))?;
    for app in &manifest.apps {
        names([app.name.as_str()])?;
        identifiers(app.image.name.iter().map(|name| name.as_str()))?;
        check_lists(&app.image.labels, &app.annotations)?;
        names(app.mounts.iter().map(|mount| mount.volume.as_str()))?;
        app.app.as_ref().map_or(Ok(()), check_app)?;
    }
    Ok(())
}

fn check_app(app: &App) -> Result<(), String> {
    names(app.mount_points.iter().map(|point| point.name.as_str()))?;
    names(app.ports.iter().map(|port| port.name.as_str()))?;
    identifiers(app.isolators.iter().map(|isolator| isolator.name()))?;
    for variable in &app.environment {
        let is_name = |index: usize, c: char| {
            c == '_' || c.is_ascii_alphabetic() || (index > 0 && (c.is_ascii_digit() || ".-".contains(c)))
        };
        let name = &variable.name;
        if name.is_empty() || !name.chars().enumerate().all(|(index, c)| is_name(index, c)) {
            return Err(format!("accepted with the variable {name:?}"));
        }
    }
    let texts = app.exec.iter().chain([&app.user, &app.group, &app.working_directory]);
    let values = app.environment.iter().map(|variable| &variable.value);
    let paths = app.mount_points.iter().map(|point| &point.path);
    match texts.chain(values).chain(paths).find(|text| text.contains('\0')) {
        Some(text) => Err(format!("accepted with a NUL in {text:?}")),
        None => Ok(()),
    }
}

fn check_lists(labels: &[Label], annotations: &[Annotation]) -> Result<(), String> {
    identifiers(labels.iter().map(|label| label.name.as_str()))?;
    identifiers(annotations.iter().map(|annotation| annotation.name.as_str()))
}

fn names<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<(), String> {
    match names.into_iter().find(|name| !is_word(name, "-")) {
        Some(name) => Err(format!("accepted with the AC name {name:?}")),
        None => Ok(()),
    }
}

fn identifiers<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<(), String> {
    match names.into_iter().find(|name| !is_word(name, "-._~/")) {
        Some(name) => Err(format!("accepted with the AC identifier {name:?}")),
        None => Ok(()),
    }
}

/// `[a-z0-9]+([SEPARATORS][a-z0-9]+)*` (appc spec, types.md): words, each of at least one character.
pub(crate) fn is_word(text: &str, separators: &str) -> bool {
    text.split(|c| separators.contains(c))
        .all(|word| !word.is_empty() && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')))
}
