//! OCI images from files: fetched, listed, shared, removed, and what a directory, an archive and docker's own format have
//! in common.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;

use serde_json::json;

use crate::support::names;
use crate::support::oci::{Image, Layout, Packing, architecture};
use crate::support::tar::Tar;
use crate::world::World;

fn layer(number: u8) -> Tar {
    Tar::default().dir("etc").file(format!("etc/{number}"), [number])
}

fn image() -> Image {
    Image::new(&["/bin/true"])
        .layer(layer(1), Packing::None)
        .layer(layer(2), Packing::Gzip)
        .layer(layer(3), Packing::Zstd)
}

/// A world with the image as layout `dir`, as `a.tar`, packed `a.tar.gz`, and as docker saves it, `d.tar`.
fn world(image: &Image) -> World {
    let world = World::new();
    let path = |name: &str| world.path().join(name);
    image.layout(Some("1.0")).write_dir(&path("dir"));
    let archive = image.layout(Some("1.0")).tar();
    fs::write(path("a.tar"), &archive).unwrap();
    fs::write(path("a.tar.zst"), zstd::stream::encode_all(&archive[..], 1).unwrap()).unwrap();
    fs::write(path("d.tar"), image.saved(&["demo:1.0"]).tar()).unwrap();
    world
}

const FETCH: &str = "--dir=data --insecure-options=image fetch --full";

#[test]
fn the_id_is_of_the_content_however_it_comes() {
    let world = world(&image());
    let id = world.run(&format!("{FETCH} oci:dir")).expect_code(0).stdout.clone();
    for reference in
        ["oci:dir:1.0", "oci-archive:a.tar", "oci-archive:a.tar.zst:1.0", "docker-archive:d.tar:demo:1.0"]
    {
        let other = world.run(&format!("--dir=other {} {reference}", &FETCH[11..]));
        other.expect(0, &id, "");
    }
    // Packed otherwise, it is the same image still.
    let repacked = Image::new(&["/bin/true"])
        .layer(layer(1), Packing::Zstd)
        .layer(layer(2), Packing::None)
        .layer(layer(3), Packing::Gzip);
    repacked.layout(None).write_dir(&world.path().join("again"));
    world.run(&format!("{FETCH} oci:again")).expect(0, &id, "");
    let list = world.run("--dir=data image list --fields=name --no-legend").expect_code(0).stdout.clone();
    assert_eq!(list, "again\n", "the last name counts, and there is one image");
    assert_eq!(names(&world.path().join("data/cas/layer")).len(), 3);
}

#[test]
fn the_manifest_follows_the_rules_of_docker2aci() {
    let image = image()
        .process("User", json!("web:www"))
        .process("WorkingDir", json!("/srv"))
        .process("Entrypoint", json!(["/bin/sh", "-c"]))
        .process("Volumes", json!({"/var/tmp": {}}))
        .process("ExposedPorts", json!({"80/tcp": {}}));
    let world = world(&image);
    world.run(&format!("{FETCH} docker-archive:d.tar")).expect_code(0);
    let shown = world.run("--dir=data image cat-manifest demo:1.0").expect_code(0).stdout.clone();
    let manifest: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let arch = if architecture() == "arm64" { "aarch64" } else { architecture() };
    assert_eq!(
        manifest["labels"],
        json!([{"name": "version", "value": "1.0"}, {"name": "os", "value": "linux"}, {"name": "arch", "value": arch}])
    );
    let app = &manifest["app"];
    assert_eq!(app["exec"], json!(["/bin/sh", "-c", "/bin/true"]));
    assert_eq!((&app["user"], &app["group"]), (&json!("web"), &json!("www")));
    assert_eq!(app["workingDirectory"], json!("/srv"));
    assert_eq!(app["mountPoints"], json!([{"name": "volume-var-tmp", "path": "/var/tmp"}]));
    assert_eq!(app["ports"][0]["name"], json!("80-tcp"));
}

#[test]
fn layers_are_shared_and_go_with_the_last_image_that_has_them() {
    let world = World::new();
    let first = image();
    let second = Image::new(&["/bin/false"]).layer(layer(1), Packing::Gzip).layer(layer(9), Packing::None);
    first.layout(None).write_dir(&world.path().join("first"));
    second.layout(None).write_dir(&world.path().join("second"));
    let store = world.path().join("data/cas");
    for (name, layers) in [("first", 3), ("second", 4)] {
        world.run(&format!("{FETCH} oci:{name}")).expect_code(0);
        assert_eq!(names(&store.join("layer")).len(), layers);
    }
    let trees = |kind: &str| names(&store.join("tree")).iter().filter(|name| name.starts_with(kind)).count();
    assert_eq!((trees("layer-"), trees("deps-")), (4, 2));
    world.run("--dir=data image rm first").expect_code(0);
    assert_eq!(names(&store.join("layer")).len(), 2, "those of the second image");
    world.run("--dir=data image gc --grace-period=0s").expect_code(0);
    for dir in ["layer", "tree", "image", "tmp"] {
        assert_eq!(names(&store.join(dir)), [""; 0], "{dir}");
    }
}

#[test]
fn a_damaged_layer_is_listed_and_repaired_by_fetching_again() {
    let world = world(&image());
    world.run(&format!("{FETCH} oci:dir")).expect_code(0);
    let layers = world.path().join("data/cas/layer");
    let blob = layers.join(&names(&layers)[0]).join("blob");
    let good = fs::read(&blob).unwrap();
    let mut bad = good.clone();
    bad[0] ^= 1;
    fs::write(&blob, &bad).unwrap();
    world.run(&format!("{FETCH} oci:dir")).expect_code(0);
    assert_eq!(fs::read(&blob).unwrap(), good);
    fs::remove_file(&blob).unwrap();
    let listed = world.run("--dir=data image list --no-legend");
    listed.expect_code(0);
    assert!(listed.stderr.contains("is missing or damaged"), "{}", listed.stderr);
    world.run(&format!("{FETCH} oci:dir")).expect_code(0);
    assert_eq!(fs::read(&blob).unwrap(), good);
}

#[test]
fn f11_a_changed_layer_is_not_run_but_named_and_repaired() {
    let world = world(&image());
    world.run(&format!("{FETCH} oci:dir")).expect_code(0);
    let id = world.run("--dir=data image list --fields=id --no-legend --full").stdout.trim().to_owned();
    let trees = || {
        let mut trees = names(&world.path().join("data/cas/tree"));
        trees.sort();
        trees
    };
    let before = trees();
    let tree = world.path().join("data/cas/tree");
    let with = |file: &str| {
        before.iter().map(|name| tree.join(name).join("rootfs/etc").join(file)).find(|path| path.exists())
    };
    fs::write(with("2").unwrap(), "changed").unwrap();
    fs::write(with("3").unwrap().with_file_name("new"), "").unwrap();
    const PREPARE: &str = "--dir=data prepare --no-overlay dir --exec=/bin/true";
    let told = format!("the files of image {id} were changed in the store after they were unpacked\n");
    let refused = world.run(PREPARE);
    refused.expect_code(254);
    assert!(refused.stderr.contains(&told), "{}", refused.stderr);
    assert_eq!(world.run("--dir=data list --no-legend").stdout.trim(), "");

    let found = world.run("--dir=data image verify dir");
    found.expect_code(254);
    assert!(found.stdout.starts_with("changed: /etc/2 (size)\nadded: /etc/new\n"), "{}", found.stdout);
    let repaired = world.run("--dir=data image verify --repair dir");
    repaired.expect_code(0);
    assert_eq!(trees(), before, "the same names, and nothing beside them");
    let whole = format!("successfully verified checksum for image: \"dir\" (\"{id}\")\n");
    world.run("--dir=data image verify dir").expect(0, &whole, "");
    world.run(PREPARE).expect_code(0);
}

#[test]
fn an_index_gives_the_image_of_this_machine() {
    let world = World::new();
    let other = if architecture() == "arm64" { "amd64" } else { "arm64" };
    let mut foreign = Image::new(&["/foreign"]).layer(layer(7), Packing::None);
    foreign.config["architecture"] = json!(other);
    let entry = |image: &Image, architecture: &str| {
        let mut entry = image.entry(Some("1"));
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let mut both = Layout::new(vec![entry(&foreign, other), entry(&image(), architecture())]);
    both.add(&foreign);
    both.add(&image());
    both.write_dir(&world.path().join("both"));
    world.run(&format!("{FETCH} oci:both")).expect_code(0);
    let manifest = world.run("--dir=data image cat-manifest both").expect_code(0).stdout.clone();
    assert!(manifest.contains("/bin/true"), "{manifest}");

    let mut alone = Layout::new(vec![entry(&foreign, other), entry(&foreign, "s390x")]);
    alone.add(&foreign);
    alone.write_dir(&world.path().join("alone"));
    let path = world.path().join("alone");
    world.run(&format!("{FETCH} oci:alone")).expect(
        254,
        "",
        &format!(
            "fetch: image oci:{}: it has no image for linux/{}, but for linux/{other}, linux/s390x\n",
            path.display(),
            architecture()
        ),
    );
}

#[test]
fn which_of_several_images_is_meant_must_be_said() {
    let world = World::new();
    let second = Image::new(&["/second"]).layer(layer(7), Packing::None);
    let mut layout = Layout::new(vec![image().entry(Some("1")), second.entry(Some("2"))]);
    layout.add(&image());
    layout.add(&second);
    layout.write_dir(&world.path().join("dir"));
    let path = world.path().join("dir").display().to_string();
    world.run(&format!("{FETCH} oci:dir:2")).expect_code(0);
    world.run(&format!("{FETCH} oci:dir")).expect(
        254,
        "",
        &format!(
            "fetch: image oci:{path}: it has several images: 1, 2\nfetch: hint: say which one behind a colon\n"
        ),
    );
    world.run(&format!("{FETCH} oci:dir:3")).expect(
        254,
        "",
        &format!("fetch: image oci:{path}:3: it has no image \"3\", but: 1, 2\n"),
    );
}

#[test]
fn what_is_unsigned_needs_the_switch() {
    let world = world(&image());
    let path = world.path().join("dir").display().to_string();
    world.run("--dir=data fetch oci:dir").expect(
        254,
        "",
        &format!(
            "fetch: image oci:{path} is not verified: images in files have no signature that rkt knows\n\
             fetch: hint: if you trust where it comes from, use --insecure-options=image\n"
        ),
    );
}
