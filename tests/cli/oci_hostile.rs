//! Hostile OCI images against the real binary: rows A10 to A12, A17 and B1 to B14 of the threat table. Each is refused in
//! one line that names the image and the part, and leaves nothing in the store; what is harmless in it is imported.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::names;
use crate::support::oci::{Image, Layout, OCI_INDEX, Packing, digest};
use crate::support::tar::{Member, Tar};
use crate::world::World;

fn good() -> Image {
    Image::new(&["/bin/true"]).layer(Tar::default().dir("etc").file("etc/a", "a"), Packing::None)
}

const FETCH: &str = "--dir=data --insecure-options=image fetch";

struct Ground {
    world: World,
}

impl Ground {
    fn new() -> Self {
        let world = World::new();
        fs::write(world.path().join("canary"), "untouched").unwrap();
        Self { world }
    }

    fn expect_untouched(&self) {
        assert_eq!(fs::read(self.world.path().join("canary")).unwrap(), b"untouched");
    }

    fn expect_empty(&self) {
        self.expect_untouched();
        for dir in ["image", "layer", "tmp", "tree"] {
            assert_eq!(names(&self.world.path().join("data/cas").join(dir)), [""; 0], "{dir}");
        }
        self.world.run("--dir=data image list --format=json").expect(0, "null\n", "");
    }

    /// The message of a refusal without the image.
    fn refused(&self, reference: &str, path: &Path) -> String {
        let ended = self.world.run(&format!("{FETCH} {reference}"));
        ended.expect_code(254);
        assert_eq!(ended.stdout, "");
        self.expect_empty();
        let scheme = reference.split(':').next().unwrap();
        let start = format!("fetch: image {scheme}:{}: ", path.display());
        let line = ended.stderr.lines().next().unwrap_or_default();
        line.strip_prefix(&start).unwrap_or_else(|| panic!("{}", ended.stderr)).to_owned()
    }

    fn layout_refused(&self, layout: &Layout) -> String {
        let dir = self.world.path().join("dir");
        let _ = fs::remove_dir_all(&dir);
        layout.write_dir(&dir);
        self.refused("oci:dir", &dir)
    }

    fn layer_refused(&self, tar: Tar) -> String {
        let image = Image::new(&[]).layer(tar, Packing::Gzip);
        let refusal = self.layout_refused(&image.layout(None));
        let start = format!("layer {}: ", image.config["rootfs"]["diff_ids"][0].as_str().unwrap());
        refusal.strip_prefix(&start).unwrap_or_else(|| panic!("{refusal}")).to_owned()
    }

    /// Imports an image of these layers and returns the roots of their trees, the highest first.
    fn trees(&self, layers: &[Tar]) -> Vec<PathBuf> {
        let image = layers.iter().fold(Image::new(&[]), |image, tar| image.layer(tar.clone(), Packing::Gzip));
        let dir = self.world.path().join("dir");
        let _ = fs::remove_dir_all(&dir);
        image.layout(None).write_dir(&dir);
        self.world.run(&format!("{FETCH} oci:dir")).expect_code(0);
        self.expect_untouched();
        let trees = self.world.path().join("data/cas/tree");
        let list = names(&trees).into_iter().find(|name| name.starts_with("deps-")).unwrap();
        let list = fs::read_to_string(trees.join(list).join("layers")).unwrap();
        list.lines().map(|name| trees.join(name).join("rootfs")).collect()
    }
}

fn device(name: &str, typeflag: u8, device: (u32, u32)) -> Member {
    let mut member = Member::new(name, typeflag);
    member.device = device;
    member
}

#[test]
fn a1_a5_a14_layers_are_read_as_strictly_as_images() {
    let ground = Ground::new();
    for (tar, expected) in [
        (Tar::default().file("../../../canary", "x"), "entry \"../../../canary\": its name contains `..`"),
        (Tar::default().file("/canary", "x"), "entry \"/canary\": its name is absolute"),
        (
            Tar::default().hard_link("x", "../../canary"),
            "entry \"x\": as a hard link's target: its name contains `..`",
        ),
        (
            Tar::default().hard_link("x", "etc/shadow"),
            "entry \"x\": its hard link's target is no file of this layer or those below it",
        ),
    ] {
        let refusal = ground.layer_refused(tar);
        assert_eq!(refusal, expected);
    }
}

#[test]
fn a2_a_link_is_followed_inside_the_layer_only() {
    let ground = Ground::new();
    let up = ground.world.path().join("canary").display().to_string();
    let layer = Tar::default()
        .dir("etc")
        .symlink("up", "../../../../../../../../../..")
        .symlink("abs", "/etc")
        .file(format!("up{up}"), "x")
        .file("abs/file", "x")
        .symlink("over", &up)
        .file("over", "mine");
    let trees = ground.trees(&[layer]);
    assert_eq!(fs::read(trees[0].join("etc/file")).unwrap(), b"x");
    assert_eq!(fs::read(trees[0].join(up.trim_start_matches('/'))).unwrap(), b"x");
    assert_eq!(fs::read(trees[0].join("over")).unwrap(), b"mine");
}

#[test]
fn a10_the_later_entry_of_a_layer_counts() {
    let ground = Ground::new();
    let layer = Tar::default()
        .file("a", "first")
        .hard_link("b", "a")
        .file("a", "second")
        .dir("d")
        .file("d/x", "x")
        .file("d", "now a file")
        .symlink("e", "d")
        .dir("e")
        .file("e/y", "y");
    let trees = ground.trees(&[layer]);
    let read = |name: &str| fs::read_to_string(trees[0].join(name)).unwrap();
    assert_eq!(
        (read("a"), read("b"), read("d"), read("e/y")),
        ("second".into(), "first".into(), "now a file".into(), "y".into())
    );
}

#[test]
fn a11_a12_devices_and_overlay_marks_of_a_layer_are_dropped() {
    let ground = Ground::new();
    let marks: Vec<(&str, Vec<u8>)> = vec![
        ("SCHILY.xattr.trusted.overlay.opaque", b"y".to_vec()),
        ("SCHILY.xattr.user.overlay.opaque", b"y".to_vec()),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc".to_vec()),
    ];
    let lower = Tar::default().dir("d").file("d/kept", "x").file("f", "x");
    let upper = Tar::default()
        .pax(&marks)
        .dir("d")
        .pax(&marks)
        .file("g", "x")
        .member(&device("f", b'3', (0, 0)))
        .member(&device("null", b'3', (1, 3)));
    let trees = ground.trees(&[lower, upper]);
    assert_eq!(names(&trees[0]), ["d", "g"]);
    for name in ["d", "g"] {
        let listed = crate::support::Run::new("getfattr").args(["-d", "-m", "-", "--absolute-names"]);
        if crate::support::run::find_program("getfattr").is_some() {
            assert_eq!(listed.arg(trees[0].join(name)).stdout(), "");
        }
    }
}

#[test]
fn a17_whiteouts_are_of_plain_names_and_touch_lower_layers_only() {
    let ground = Ground::new();
    for name in [".wh.", ".wh..", ".wh...", "etc/.wh.."] {
        let refusal = ground.layer_refused(Tar::default().file(name, ""));
        assert_eq!(refusal, format!("entry \"{name}\": it is a whiteout of no name"));
    }
    let refusal = ground.layer_refused(Tar::default().file(".wh.a/b", ""));
    assert_eq!(refusal, "entry \".wh.a/b\": it is below a whiteout");

    let lower = Tar::default()
        .dir("d")
        .file("d/old", "x")
        .file("gone", "x")
        .file("both", "x")
        .dir("e")
        .file("e/old", "x");
    let upper = Tar::default()
        .file("both", "new")
        .file(".wh.both", "")
        .file(".wh.gone", "")
        .file(".wh.never", "")
        .file(".wh.canary", "")
        .symlink("link", "../../../../../..")
        .dir("d")
        .file("d/new", "y")
        .file("d/.wh..wh..opq", "")
        .file(".wh.e", "")
        .file("e/new", "y")
        .file(".wh..wh.plnk", "");
    let trees = ground.trees(&[lower, upper]);
    assert_eq!(names(&trees[0]), ["both", "d", "e", "gone", "link"], "what hides nothing is not there");
    let gone = trees[0].join("gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(names(&trees[0].join("d")), ["new"]);
    assert_eq!(names(&trees[1]), ["both", "d", "e", "gone"], "the lower layer is as it was");
}

#[test]
fn b1_documents_of_two_kinds() {
    let ground = Ground::new();
    for (image, expected) in [
        (good().patch_manifest("manifests", json!([])), "manifests: must not be in a manifest"),
        (
            good().patch_manifest("mediaType", json!(OCI_INDEX)),
            "it says to be of the type \"application/vnd.oci.image.index.v1+json\", and the reference to it says \"application/vnd.oci.image.manifest.v1+json\"",
        ),
        (
            good().patch_manifest(
                "config",
                json!({"mediaType": "application/json", "digest": digest(b""), "size": 0}),
            ),
            "it is of the type \"application/json\", and the configuration of a container image is wanted",
        ),
    ] {
        let manifest = digest(&image.blobs().pop().unwrap());
        assert_eq!(ground.layout_refused(&image.layout(None)), format!("{manifest}: {expected}"));
    }
}

#[test]
fn b2_digests_are_no_paths() {
    let ground = Ground::new();
    let mut layout = good().layout(None);
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:../../../canary", "size": 9}]});
    layout.files[1].1 = index.to_string().into_bytes();
    let refusal = ground.layout_refused(&layout);
    assert!(
        refusal.starts_with("index.json: manifests[0].digest: \"sha256:../../../canary\" is not a digest"),
        "{refusal}"
    );
}

#[test]
fn b3_sizes_digests_diff_ids_and_counts() {
    let ground = Ground::new();
    let layer = good().layers[0].0.clone();
    let named = digest(&layer);
    let changed_blob = |bytes: Vec<u8>| {
        let mut layout = good().layout(None);
        let name = format!("blobs/sha256/{}", &named[7..]);
        layout.files.iter_mut().find(|(file, _)| *file == name).unwrap().1 = bytes;
        layout
    };
    let mut flipped = layer.clone();
    flipped[600] ^= 1;
    let longer = [layer.clone(), vec![0; 512]].concat();
    let refusal = ground.layout_refused(&changed_blob(flipped.clone()));
    assert_eq!(refusal, format!("layer {named} has the digest {}", digest(&flipped)));
    let refusal = ground.layout_refused(&changed_blob(longer));
    assert_eq!(
        refusal,
        format!("layer {named} has more than the {} bytes that its descriptor says", layer.len())
    );
    let refusal = ground.layout_refused(&changed_blob(layer[..512].to_vec()));
    assert_eq!(refusal, format!("layer {named} has 512 bytes, and its descriptor says {}", layer.len()));

    let mut other_diff_id = good();
    other_diff_id.config["rootfs"]["diff_ids"][0] = json!(digest(b"other"));
    let refusal = ground.layout_refused(&other_diff_id.layout(None));
    assert_eq!(refusal, format!("layer {} has, unpacked, the digest {named}", digest(b"other")));
    let mut none = good();
    none.config["rootfs"]["diff_ids"] = json!([]);
    let refusal = ground.layout_refused(&none.layout(None));
    assert_eq!(refusal, "its manifest has 1 layers, and its configuration 0");
    assert_eq!(ground.layout_refused(&Image::new(&[]).layout(None)), "it has no layers");
}

#[test]
fn b4_urls_of_a_layer_are_not_followed() {
    let ground = Ground::new();
    let image = good();
    let layer = &image.layers[0].0;
    let foreign = json!([{
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest(layer), "size": layer.len(), "urls": ["https://192.0.2.1/layer"]}]);
    let image = image.patch_manifest("layers", foreign);
    let mut layout = image.layout(None);
    let name = digest(&image.layers[0].0)[7..].to_owned();
    layout.files.retain(|(file, _)| !file.ends_with(&name));
    assert_eq!(ground.layout_refused(&layout), format!("it has no file \"blobs/sha256/{name}\""));
}

#[test]
fn b8_documents_without_end() {
    let ground = Ground::new();
    let mut layout = good().layout(None);
    layout.files[1].1 = vec![b' '; (4 << 20) + 1];
    assert_eq!(ground.layout_refused(&layout), "index.json is larger than 4194304 bytes");
    layout.files[1].1 = [b"[".repeat(100), b"]".repeat(100)].concat();
    let refusal = ground.layout_refused(&layout);
    assert!(refusal.contains("more than 64 levels"), "{refusal}");

    // An index in an index in an index …
    let mut entry = good().entry(None);
    let mut layout = Layout::new(Vec::new());
    layout.add(&good());
    for _ in 0..5 {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
        layout.blob(index.as_bytes());
        entry = json!({"mediaType": OCI_INDEX, "digest": digest(index.as_bytes()), "size": index.len()});
    }
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    layout.files[1].1 = index.into_bytes();
    assert_eq!(ground.layout_refused(&layout), "it has more than 4 indexes inside each other");
}

#[test]
fn b9_names_in_a_docker_archive_are_looked_up_in_it_only() {
    let ground = Ground::new();
    let path = ground.world.path().join("d.tar");
    let canary = ground.world.path().join("canary").display().to_string();
    for (name, value) in
        [("Config", json!(canary)), ("Layers", json!([canary])), ("Layers", json!(["../canary"]))]
    {
        let mut saved = good().saved(&["demo:1"]);
        let (_, manifest) = saved.files.last_mut().unwrap();
        let mut parsed: Value = serde_json::from_slice(manifest).unwrap();
        parsed[0][name] = value.clone();
        *manifest = parsed.to_string().into_bytes();
        fs::write(&path, saved.tar()).unwrap();
        let refusal = ground.refused("docker-archive:d.tar", &path);
        assert!(refusal.starts_with("it has no file \""), "{refusal}");
    }
    let mut linked = good().saved(&[]);
    linked.files.retain(|(name, _)| name != "0/layer.tar");
    let tar = linked.files.iter().fold(Tar::default(), |tar, (name, bytes)| tar.file(name, bytes));
    fs::write(&path, tar.symlink("0/layer.tar", &canary).end()).unwrap();
    assert_eq!(ground.refused("docker-archive:d.tar", &path), "it has no file \"0/layer.tar\"");
    let twice = good().saved(&[]);
    let tar = twice.files.iter().chain(&twice.files[..1]);
    let tar = tar.fold(Tar::default(), |tar, (name, bytes)| tar.file(name, bytes));
    fs::write(&path, tar.end()).unwrap();
    let refusal = ground.refused("docker-archive:d.tar", &path);
    assert!(refusal.ends_with("it is in the archive twice"), "{refusal}");
}

#[test]
fn b14_a_platform_that_is_not_this_machine_s() {
    let ground = Ground::new();
    let mut image = good();
    image.config["os"] = json!("windows\u{1b}[2J");
    assert_eq!(
        ground.layout_refused(&image.layout(None)),
        format!("it is for windows[2J/{}, which rkt does not run", crate::support::oci::architecture())
    );
}

#[test]
fn what_is_no_image_says_so() {
    let ground = Ground::new();
    let path = ground.world.path().join("x");
    fs::write(&path, "text").unwrap();
    assert_eq!(
        ground.refused("oci-archive:x", &path),
        "neither a tar archive nor one packed with gzip, bzip2, xz or zstd"
    );
    fs::write(&path, Tar::default().file("a", "b").end()).unwrap();
    assert_eq!(
        ground.refused("oci-archive:x", &path),
        "it is no OCI image layout: it has no file index.json"
    );
    assert_eq!(
        ground.refused("docker-archive:x", &path),
        "it is no docker archive: it has no file manifest.json"
    );
}
