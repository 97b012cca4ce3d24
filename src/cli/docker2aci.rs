//! `docker2aci`: docker's and OCI's images, in files and registries, become App Container Images (spec build-tools.md 6.7).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::progress::Bars;
use super::{Exit, logging, network, output, version};
use crate::appc::image_manifest::ImageManifest;
use crate::build::{ConversionRequest, ConvertedFrom, Generated, Layers, Packing, convert_image};
use crate::image::fetch::Work;
use crate::image::http::{Certificates, Client};
use crate::image::oci::name::DockerReference;
use crate::image::oci::registry::Access;
use crate::image::oci::source::Part;
use crate::image::stream::Progress;
use crate::os::Hint;

const USAGE: &str = "docker2aci [-debug] [-nosquash] [-compression=(gzip|none)] IMAGE\n\
  Where IMAGE is\n\
    [-image=IMAGE_NAME[:TAG]] FILEPATH\n\
  or\n\
    docker://[REGISTRYURL/]IMAGE_NAME[:TAG|@DIGEST]\n";

/// The words of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    debug: bool,
    no_squash: bool,
    skip_verify: bool,
    allow_http: bool,
    version: bool,
    image: Option<String>,
    compression: Option<String>,
    images: Vec<String>,
}

/// Why the words mean nothing, or nothing came out; with the exit code.
type Failure = (String, u8);

/// Runs `docker2aci` with the words after argv[0].
pub fn main(words: impl Iterator<Item = OsString>) -> Exit {
    output::set_prefix("docker2aci");
    let exit = match read(words).and_then(|words| run(&words)) {
        Ok(()) => Exit::SUCCESS,
        Err((text, code)) => {
            output::stderr(&text);
            Exit::code(code)
        }
    };
    super::finish(exit, Exit::code(1))
}

fn read(words: impl Iterator<Item = OsString>) -> Result<Words, Failure> {
    let mut read = Words::default();
    let bad = |problem: String| (format!("{problem}\n{USAGE}"), 2);
    let mut words = words.map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            read.images.push(word);
            continue;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let is_on = value.is_none_or(|value| matches!(value, "true" | "1" | "t" | "T" | "TRUE" | "True"));
        let mut text = || {
            let value = value.map(str::to_owned).or_else(|| words.next());
            value.ok_or_else(|| bad(format!("flag needs an argument: -{name}")))
        };
        match name {
            "debug" => read.debug = is_on,
            "nosquash" => read.no_squash = is_on,
            "version" => read.version = is_on,
            "insecure-skip-verify" => read.skip_verify = is_on,
            "insecure-allow-http" => read.allow_http = is_on,
            "image" => read.image = Some(text()?),
            "compression" => read.compression = Some(text()?),
            _ => return Err(bad(format!("flag provided but not defined: -{name}"))),
        }
    }
    Ok(read)
}

fn run(words: &Words) -> Result<(), Failure> {
    logging::start(words.debug);
    if words.version {
        output::print(&format!("docker2aci version {}\nappc version {}\n", version::RKT, version::APPC));
        return Ok(());
    }
    let [image] = &words.images[..] else { return Err((USAGE.to_owned(), 2)) };
    let failed = |cause: String| (format!("Error: conversion error: {cause}\n"), 1);
    let packing = match words.compression.as_deref() {
        None | Some("gzip") => Packing::Gzip,
        Some("none") => Packing::None,
        Some(other) => return Err((format!("Error: unknown compression method: {other}\n"), 1)),
    };
    let generated = convert(words, image, packing).map_err(failed)?;
    for notice in &generated.notices {
        output::message(notice);
    }
    tell_app(&generated.manifest);
    output::line("\nGenerated ACI(s):");
    generated.file_names.iter().for_each(|name| output::line(name.display()));
    Ok(())
}

/// Converts the image that is named by `image`.
fn convert(words: &Words, image: &str, packing: Packing) -> Result<Generated, String> {
    let bars = Bars::default();
    let progress = |part: &Part, read| {
        if let Some(digest) = part.digest {
            bars.show(&Work::Layer { digest }, Progress { read, total: part.size });
        }
    };
    let layers = if words.no_squash { Layers::Apart } else { Layers::Squashed };
    let dir = Path::new(".");
    let request = |from| ConversionRequest { from, progress: &progress, layers, packing, dir };
    let generated = match image.strip_prefix("docker://") {
        None => {
            let from = ConvertedFrom::File { path: image.as_ref(), image: words.image.as_deref() };
            convert_image(&request(from))
        }
        Some(_) if words.image.is_some() => {
            return Err("flag --image works only with files.".to_owned());
        }
        Some(reference) => {
            let reference: DockerReference = reference.parse().map_err(|error| tell(&error))?;
            let certificates =
                if words.skip_verify { Certificates::Unchecked } else { Certificates::Checked };
            let client = Client::new(network::options(certificates, BTreeMap::new()));
            let client = client.map_err(|error| tell(&error))?;
            let logins = network::logins(BTreeMap::new());
            let access = Access {
                client: &client,
                logins: &logins,
                allows_http: words.allow_http,
                known_config: &|_| None,
            };
            let tell = |text: String| output::message(text);
            convert_image(&request(ConvertedFrom::Registry { reference: &reference, access, tell: &tell }))
        }
    };
    generated.map_err(|error| tell(&error))
}

/// An error with its way out.
fn tell(error: &(impl std::fmt::Display + Hint)) -> String {
    // The flag that rkt has for this is called otherwise here.
    let hint = error.hint().map(|hint| hint.replace("--insecure-options=tls", "-insecure-skip-verify"));
    format!("{error}{}", hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default())
}

/// Tells where the app wants volumes, and on what ports it listens.
fn tell_app(manifest: &ImageManifest) {
    let Some(app) = &manifest.app else { return };
    if !app.mount_points.is_empty() {
        output::line("\nConverted volumes:");
    }
    for point in &app.mount_points {
        let path = point.path.escape_debug();
        output::line(format_args!(
            "\tname: \"{}\", path: \"{path}\", readOnly: {}",
            point.name, point.read_only
        ));
    }
    if !app.ports.is_empty() {
        output::line("\nConverted ports:");
    }
    for port in &app.ports {
        output::line(format_args!(
            "\tname: \"{}\", protocol: \"{}\", port: {}, count: {}, socketActivated: {}",
            port.name, port.protocol, port.port, port.count, port.socket_activated
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_one_dash_or_two() {
        let read = |line: &str| read(line.split(' ').map(OsString::from));
        let words = read("-debug --compression=none -image a:1 x.tar").unwrap();
        assert!(words.debug);
        assert_eq!((words.compression.as_deref(), words.image.as_deref()), (Some("none"), Some("a:1")));
        assert_eq!(words.images, ["x.tar"]);
        assert_eq!(read("-nope").unwrap_err().1, 2);
        assert_eq!(read("x -image").unwrap_err().1, 2);
    }
}
