//! Images that umoci makes out of what Debian's packages have installed here, each in a layer of its own on one base: bash
//! scripts that are run one after the other in a directory of the test, and what they have left in its layout.

use std::path::Path;

use serde_json::{Value, json};

use super::Run;
use super::oci::{OCI_INDEX, architecture};

/// Starts `layout` with `shell`, an image of the one layer below all others.
pub(crate) const BASE: &str = r#"
umoci init --layout layout
umoci new --image layout:shell
# Unpacks the image NAME to be changed.
start() { bundle=bundle-$1 name=$1 root=bundle-$1/rootfs; umoci unpack --image "layout:$1" "$bundle"; }
repack() { umoci repack --refresh-bundle --image "layout:$name" "$bundle"; }
configure() { umoci config --image "layout:$name" "$@"; }
take() { tar -C / -c --no-recursion --files-from - | tar -C "$root" -x --keep-directory-symlink; }
installed() {
  dpkg-query --listfiles "$@" | sort -u | while read -r path; do
    if [ -f "$path" ] || [ -L "$path" ]; then echo "${path#/}"; fi
  done
}
# The files of the libraries of a program.
libraries() {
  ldd "$1" | sed -n 's,.*=> /\([^ ]*\) .*,\1,p' | xargs -I{} readlink -f /{} | cut -c2- | take
  /sbin/ldconfig -r "$root"
}

start shell
mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{etc,srv,tmp,run,proc,sys,dev}
for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$root/$directory"; done
installed base-files libc6 busybox-static | take
echo www-data:x:33:33::/var/www:/bin/sh >"$root/etc/passwd"
echo www-data:x:33: >"$root/etc/group"
repack
configure --config.cmd busybox --config.cmd echo --config.cmd hello
"#;

/// `other`, for a machine of the architecture $OTHER, which has no program.
pub(crate) const OTHER: &str = r#"
umoci tag --image layout:shell other
umoci config --image layout:other --architecture "$OTHER" --config.cmd nothing
"#;

/// An architecture that is not this machine's, in Go's spelling.
pub(crate) fn other_architecture() -> &'static str {
    if architecture() == "amd64" { "arm64" } else { "amd64" }
}

/// Runs scripts in one bash in `dir`.
pub(crate) fn script(dir: &Path, parts: &[&str]) {
    let run = Run::new("bash").args(["-euo", "pipefail", "-c", &parts.concat()]).current_dir(dir);
    run.env("OTHER", other_architecture()).end().expect_code(0);
}

/// The manifest of an image in a layout, and the entry of an index that leads to it.
pub(crate) fn manifest(dir: &Path, layout: &str, tag: &str) -> (Value, Value) {
    let read = |path: &str| -> Value {
        let bytes = std::fs::read(dir.join(layout).join(path)).expect("a file of the layout");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let index = read("index.json");
    let entries = index["manifests"].as_array().expect("a list");
    let mut entry = entries
        .iter()
        .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag)
        .unwrap_or_else(|| panic!("{layout} has no {tag}: {index}"))
        .clone();
    entry.as_object_mut().expect("an object").remove("annotations");
    let manifest = read(&format!("blobs/{}", entry["digest"].as_str().expect("text").replace(':', "/")));
    (manifest, entry)
}

/// The digests of what a manifest names, the configuration first.
pub(crate) fn blobs(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().expect("a list").iter();
    let parts = std::iter::once(&manifest["config"]).chain(layers);
    parts.map(|part| part["digest"].as_str().expect("text")).collect()
}

/// An index of images in `layout`, each with the platform that it is said to be for: `ARCHITECTURE[/VARIANT]`.
pub(crate) fn index(dir: &Path, entries: &[(&str, &str)]) -> String {
    let entry = |(tag, platform): &(&str, &str)| {
        let (_, mut entry) = manifest(dir, "layout", tag);
        let (architecture, variant) = platform.split_once('/').unwrap_or((platform, ""));
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        if !variant.is_empty() {
            entry["platform"]["variant"] = variant.into();
        }
        entry
    };
    let entries: Vec<_> = entries.iter().map(entry).collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string()
}
