//! OCI and Docker images for the tests, written here byte by byte: as a layout, an archive of one, or as docker saves.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::tar::{Member, Tar};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How a layer is packed.
#[derive(Clone, Copy)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// `sha256:…` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The name of this machine's architecture in Go.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image whose every part can be made wrong before it is written.
#[derive(Clone)]
pub(crate) struct Image {
    /// The layers as they will be stored, the lowest first, and how their types end.
    pub(crate) layers: Vec<(Vec<u8>, &'static str)>,
    pub(crate) config: Value,
    /// Members of the manifest that are not as they should be.
    pub(crate) manifest_patch: Vec<(&'static str, Value)>,
}

impl Image {
    /// An image of these layers whose process executes `command`.
    pub(crate) fn new(command: &[&str]) -> Self {
        let config = json!({
            "os": "linux",
            "architecture": architecture(),
            "config": {"Cmd": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        Self { layers: Vec::new(), config, manifest_patch: Vec::new() }
    }

    /// Adds a layer on top.
    pub(crate) fn layer(mut self, tar: Tar, packing: Packing) -> Self {
        let bytes = tar.end();
        let diff_ids = self.config["rootfs"]["diff_ids"].as_array_mut().expect("a list");
        diff_ids.push(digest(&bytes).into());
        self.layers.push(match packing {
            Packing::None => (bytes, ""),
            Packing::Gzip => {
                let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                to.write_all(&bytes).expect("memory can be written");
                (to.finish().expect("memory can be written"), "+gzip")
            }
            Packing::Zstd => (zstd::stream::encode_all(&bytes[..], 1).expect("it is packed"), "+zstd"),
        });
        self
    }

    /// Adds the layer that every image with a shell has.
    pub(crate) fn busybox(self) -> Self {
        let busybox = super::run::find_program("busybox").expect("busybox is installed (busybox-static)");
        let mut program = Member::new("bin/busybox", b'0');
        program.mode = 0o755;
        program.data = std::fs::read(busybox).expect("a readable busybox");
        let mut tar = Tar::default().dir("bin").member(&program);
        for applet in
            ["sh", "cat", "ls", "echo", "id", "stat", "true", "env", "pwd", "sleep", "touch", "find", "grep"]
        {
            tar = tar.symlink(format!("bin/{applet}"), "busybox");
        }
        tar = tar
            .dir("etc")
            .dir("tmp")
            .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:/bin/sh\n");
        self.layer(tar.file("etc/group", "root:x:0:\nwww:x:44:\n"), Packing::Gzip)
    }

    /// Sets a member of the process's configuration.
    pub(crate) fn process(mut self, name: &str, value: Value) -> Self {
        self.config["config"][name] = value;
        self
    }

    pub(crate) fn patch_manifest(mut self, name: &'static str, value: Value) -> Self {
        self.manifest_patch.push((name, value));
        self
    }

    /// All blobs, the manifest last.
    pub(crate) fn blobs(&self) -> Vec<Vec<u8>> {
        let config = self.config.to_string().into_bytes();
        let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|(bytes, ending)| descriptor(&format!("{OCI_LAYER}{ending}"), bytes))
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, &config),
            "layers": layers,
        });
        for (name, value) in &self.manifest_patch {
            manifest[*name] = value.clone();
        }
        let mut blobs: Vec<_> = self.layers.iter().map(|(bytes, _)| bytes.clone()).collect();
        blobs.push(config);
        blobs.push(manifest.to_string().into_bytes());
        blobs
    }

    /// The entry of an index that leads to this image.
    pub(crate) fn entry(&self, tag: Option<&str>) -> Value {
        let manifest = self.blobs().pop().expect("a manifest");
        let mut entry =
            json!({"mediaType": OCI_MANIFEST, "digest": digest(&manifest), "size": manifest.len()});
        if let Some(tag) = tag {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        }
        entry
    }

    /// The files of a layout with this image alone.
    pub(crate) fn layout(&self, tag: Option<&str>) -> Layout {
        let mut layout = Layout::new(vec![self.entry(tag)]);
        layout.add(self);
        layout
    }

    /// The files of `docker save`.
    pub(crate) fn saved(&self, tags: &[&str]) -> Layout {
        let config = self.config.to_string().into_bytes();
        let config_name = format!("{}.json", &digest(&config)[7..]);
        let mut files = vec![(config_name.clone(), config)];
        let mut layers = Vec::new();
        for (index, (bytes, _)) in self.layers.iter().enumerate() {
            layers.push(format!("{index}/layer.tar"));
            files.push((format!("{index}/layer.tar"), bytes.clone()));
        }
        let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": layers}]);
        files.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
        Layout { files }
    }
}

/// The files of a layout.
#[derive(Clone)]
pub(crate) struct Layout {
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Layout {
    /// A layout whose index has these entries.
    pub(crate) fn new(manifests: Vec<Value>) -> Self {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
        let files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
        ];
        Self { files }
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) {
        self.files.push((format!("blobs/sha256/{}", &digest(bytes)[7..]), bytes.to_vec()));
    }

    /// Adds the blobs of an image.
    pub(crate) fn add(&mut self, image: &Image) {
        for bytes in image.blobs() {
            self.blob(&bytes);
        }
    }

    pub(crate) fn write_dir(&self, dir: &Path) {
        for (name, bytes) in &self.files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("below a directory")).expect("our directory");
            std::fs::write(&path, bytes).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
        }
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        self.files.iter().fold(Tar::default(), |tar, (name, bytes)| tar.file(name, bytes)).end()
    }
}
