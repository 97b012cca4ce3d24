//! The publisher and the registry from which images are fetched: a server in this process, which outlives any rkt, and
//! for rkt is the whole internet.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::disk::{Disk, HOME};
use crate::support::cosign::CosignKey;
use crate::support::keys::TestKey;
use crate::support::oci::{Image, OCI_MANIFEST, Packing, digest};
use crate::support::server::{Answer, Asked, Server};
use crate::support::tar::{Tar, manifest};

/// For what the publisher's key is trusted before.
pub(crate) const PREFIX: &str = "example.com";
/// The publisher's image that is in a data directory in use.
pub(crate) const SIGNED: &str = "example.com/signed:1.0.0";
/// The one that is not.
pub(crate) const NEW_SIGNED: &str = "example.com/named:1.0.0";
/// For what the key of the other publisher, whom nobody knows yet, will be trusted.
pub(crate) const NEW_PREFIX: &str = "example.org";
/// The registry whose key nobody knows yet.
pub(crate) const NEW_REGISTRY: &str = "docker://reg.example.org";
/// The image that the other publisher has signed.
pub(crate) const NEW_PUBLISHERS: &str = "example.org/named:1.0.0";
/// The registry's image that is in a data directory in use.
pub(crate) const LAYERED: &str = "docker://reg.example.com/team/app:old";
/// The one that is not; it shares a layer with the other.
pub(crate) const NEW_LAYERED: &str = "docker://reg.example.com/team/app:new";

/// A type, if it is a manifest, and bytes.
type Content = (Option<&'static str>, Vec<u8>);

static SERVER: OnceLock<Server> = OnceLock::new();

/// Writes the keys' files, and starts the server.
pub(crate) fn open() {
    let mut contents = HashMap::new();
    for (host, names) in [(PREFIX, &["signed", "named"][..]), (NEW_PREFIX, &["named"][..])] {
        let key = TestKey::new(host);
        fs::write(key_file(host), key.public()).expect("a new file");
        publish(host, names, &key, &mut contents);
    }
    fs::write(key_file(NEW_REGISTRY), CosignKey::p256().public()).expect("a new file");
    push(&mut contents);
    let started = Server::start(move |asked| answer(&contents, asked));
    assert!(SERVER.set(started).is_ok(), "there is one site");
}

/// Has a command of rkt go to the server, once that is there, and trust nothing but what the disk says.
pub(crate) fn lead_to(command: &mut Command) {
    let config = Disk::config();
    command.arg(format!("--local-config={}", config.display()));
    command.arg(format!("--system-config={}", config.with_file_name("none").display()));
    if let Some(server) = SERVER.get() {
        command.envs(server.environment());
    }
}

/// The file of a publisher's or a registry's public key.
pub(crate) fn key_file(prefix: &str) -> PathBuf {
    let host = prefix.trim_start_matches("docker://");
    PathBuf::from(HOME).join("user").join(format!("{host}.asc"))
}

/// A publisher's page, key, images and signatures.
fn publish(host: &str, names: &[&str], key: &TestKey, contents: &mut HashMap<String, Content>) {
    let page = format!(
        "<!doctype html><html><head><title>x</title>\
         <meta name=\"ac-discovery\" content=\"{host} https://{host}/{{name}}-{{version}}.{{ext}}\">\
         <meta name=\"ac-discovery-pubkeys\" content=\"{host} https://{host}/key.asc\"></head><body></body></html>"
    );
    let mut put =
        |path: &str, bytes: Vec<u8>| contents.insert(format!("https://{host}/{path}"), (None, bytes));
    put("?ac-discovery=1", page.into_bytes());
    put("key.asc", key.public().into_bytes());
    for name in names {
        let name = format!("{host}/{name}");
        let aci = Tar::default().manifest(&manifest(&name)).dir("rootfs").dir("rootfs/etc");
        let aci = aci.file("rootfs/etc/name", &name).file("rootfs/etc/large", vec![7; 200_000]).end();
        put(&format!("{name}-1.0.0.aci.asc"), key.sign(&aci));
        put(&format!("{name}-1.0.0.aci"), aci);
    }
}

/// The registry's two images: one layer of both, and layers that need the one below.
fn push(contents: &mut HashMap<String, Content>) {
    let shared = Tar::default().dir("etc").file("etc/large", vec![8; 200_000]).file("etc/hidden", "x");
    let old = Tar::default().file("etc/name", "old");
    let new = Tar::default().dir("etc").file("etc/.wh.hidden", "").file("etc/name", "new");
    let top = Tar::default().dir("srv").hard_link("srv/name", "etc/name").file("srv/large", vec![9; 100_000]);
    let image = Image::new(&["/bin/true"]).layer(shared, Packing::Gzip);
    let tagged = [
        ("old", image.clone().layer(old, Packing::None)),
        ("new", image.layer(new, Packing::Zstd).layer(top, Packing::Gzip)),
    ];
    for (tag, image) in tagged {
        let mut blobs = image.blobs();
        let manifest = blobs.pop().expect("a manifest");
        let mut put = |path: String, content: Content| {
            contents.insert(format!("https://reg.example.com/v2/team/app/{path}"), content);
        };
        put(format!("manifests/{tag}"), (Some(OCI_MANIFEST), manifest.clone()));
        put(format!("manifests/{}", digest(&manifest)), (Some(OCI_MANIFEST), manifest));
        for blob in blobs {
            put(format!("blobs/{}", digest(&blob)), (None, blob));
        }
    }
}

fn answer(contents: &HashMap<String, Content>, asked: &Asked) -> Answer {
    match contents.get(&asked.url()) {
        Some((Some(kind), bytes)) => Answer::ok(bytes.clone()).header("Content-Type", kind),
        // With what it takes to go on with a download.
        Some((None, bytes)) => Answer::file(asked, bytes, "\"one\""),
        None => Answer::status(404),
    }
}
