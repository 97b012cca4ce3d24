//! `image verify`, `gc` and `rm` with trees that were changed and images that others need (spec cli.md 1.3.3 to 1.3.8).
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use crate::support::names;
use crate::support::tar::{Tar, manifest};
use crate::world::World;

const FETCH: &str = "--dir=data --insecure-options=image fetch --full";

/// A store with `top` upon `base`, which is rendered by a pod that is prepared, and what is said of them.
struct Shop {
    world: World,
    base: String,
    top: String,
    tree: PathBuf,
}

impl Shop {
    fn new() -> Self {
        let world = World::new();
        let members = r#"{"dependencies":[{"imageName":"example.com/base"}],"#;
        let text = manifest("example.com/top").replacen('{', members, 1);
        let base = Tar::aci("example.com/base")
            .dir("rootfs/etc")
            .file("rootfs/etc/one", "one")
            .file("rootfs/etc/two", vec![2; 300_000])
            .symlink("rootfs/etc/link", "one")
            .dir("rootfs/bin")
            .file("rootfs/bin/true", "#!/bin/sh\n");
        let top = Tar::default().manifest(&text).dir("rootfs").file("rootfs/top", "top");
        fs::write(world.path().join("base.aci"), base.end()).unwrap();
        fs::write(world.path().join("top.aci"), top.end()).unwrap();
        let ids = world.run(&format!("{FETCH} base.aci top.aci")).stdout;
        let (base, top) = ids.trim().split_once('\n').unwrap();
        let (base, top) = (base.to_owned(), top.to_owned());
        fs::set_permissions(world.path().join("data/cas/image"), PermissionsExt::from_mode(0o3770)).unwrap();
        let before = names(&world.path().join("data/cas/tree"));
        world.run("--dir=data prepare example.com/top").expect_code(0);
        let mut trees = names(&world.path().join("data/cas/tree"));
        trees.retain(|tree| !before.contains(tree));
        assert_eq!(trees.len(), 1);
        let tree = world.path().join("data/cas/tree").join(&trees[0]);
        Self { world, base, top, tree }
    }

    fn tree_name(&self) -> &str {
        self.tree.file_name().unwrap().to_str().unwrap()
    }

    fn failed(&self, count: usize) -> String {
        format!(
            "tree cache verification failed for image example.com/top: {count} file(s) of tree {} are not those of \
             image {}",
            self.tree_name(),
            self.top
        )
    }

    fn whole(&self) -> String {
        format!("successfully verified checksum for image: \"example.com/top\" (\"{}\")\n", self.top)
    }

    fn trees(&self) -> Vec<String> {
        names(&self.world.path().join("data/cas/tree"))
    }
}

const VERIFY: &str = "--dir=data image verify";
const DAMAGED: &str = "verify: 1 image(s) have a damaged tree\n\
    verify: hint: `rkt image verify --repair` makes the tree anew from the image\n";

#[test]
fn f11_each_changed_missing_or_added_file_is_named_and_repaired() {
    let it = Shop::new();
    it.world.run(&format!("{VERIFY} example.com/top")).expect(0, &it.whole(), "");
    let root = it.tree.join("rootfs");
    let inode = root.metadata().unwrap().ino();
    fs::write(root.join("etc/one"), "eno").unwrap();
    let mut two = fs::read(root.join("etc/two")).unwrap();
    two[299_999] = 9;
    fs::write(root.join("etc/two"), two).unwrap();
    fs::remove_file(root.join("etc/link")).unwrap();
    symlink("two", root.join("etc/link")).unwrap();
    fs::set_permissions(root.join("bin"), PermissionsExt::from_mode(0o777)).unwrap();
    fs::remove_file(root.join("bin/true")).unwrap();
    fs::create_dir_all(root.join("etc/new\u{1b}[2J/x")).unwrap();
    fs::remove_file(root.join("top")).unwrap();
    fs::create_dir(root.join("top")).unwrap();
    std::os::unix::fs::chown(root.join("etc"), Some(7), None).unwrap();
    fs::write(it.tree.join("manifest"), manifest("example.com/other")).unwrap();
    let named = "changed: /bin (mode)\n\
        missing: /bin/true\n\
        changed: /etc (owner)\n\
        changed: /etc/link (target)\n\
        added: /etc/new\\u{1b}[2J\n\
        added: /etc/new\\u{1b}[2J/x\n\
        changed: /etc/one (content)\n\
        changed: /etc/two (content)\n\
        changed: /top (type)\n\
        changed: manifest (content)\n";
    let said = format!("{named}{}\n", it.failed(10));
    it.world.run(&format!("{VERIFY} example.com/top")).expect(254, &said, DAMAGED);
    assert_eq!(root.metadata().unwrap().ino(), inode, "verify alone changes nothing");

    let said = format!("{named}{};  rebuilding...\n", it.failed(10));
    it.world.run(&format!("{VERIFY} --repair example.com/top")).expect(0, &said, "");
    it.world.run(&format!("{VERIFY} example.com/top")).expect(0, &it.whole(), "");
    assert_eq!(fs::read(root.join("etc/one")).unwrap(), b"one");
    // A pod is prepared upon the tree: what it may have mounted stays until it is gone.
    let old: Vec<_> = it.trees().into_iter().filter(|name| name.starts_with(".old-")).collect();
    assert_eq!(old.len(), 1);
    assert_eq!(
        it.world.path().join("data/cas/tree").join(&old[0]).join("rootfs").metadata().unwrap().ino(),
        inode
    );
    it.world.run("--dir=data image gc").expect_code(0);
    assert_eq!(it.trees(), [old[0].as_str(), it.tree_name()]);
    it.world.run("--dir=data gc --expire-prepared=0s --grace-period=0s").expect_code(0);
    it.world.run("--dir=data image gc").expect_code(0);
    assert_eq!(it.trees(), [""; 0]);
}

#[test]
fn f11_a_tree_without_its_root_or_beside_a_full_repair_leaves_nothing() {
    let it = Shop::new();
    it.world.run("--dir=data gc --expire-prepared=0s --grace-period=0s").expect_code(0);
    fs::remove_dir_all(it.tree.join("rootfs")).unwrap();
    for spoil in ["missing", "file"] {
        if spoil == "file" {
            fs::remove_dir_all(it.tree.join("rootfs")).unwrap();
            fs::write(it.tree.join("rootfs"), "").unwrap();
        }
        let said = format!("missing: /\n{};  rebuilding...\n", it.failed(1));
        it.world.run(&format!("{VERIFY} --repair example.com/top")).expect(0, &said, "");
        it.world.run(&format!("{VERIFY} example.com/top")).expect(0, &it.whole(), "");
    }
    assert!(it.trees().iter().all(|name| name.starts_with("deps-")), "{:?}", it.trees());
}

#[test]
fn f10_a_damaged_blob_is_found_with_and_without_a_tree() {
    let it = Shop::new();
    let blob = it.world.path().join("data/cas/image").join(&it.base).join("blob");
    let good = fs::read(&blob).unwrap();
    let mut bytes = good.clone();
    let at = bytes.iter().rposition(|byte| *byte == 2).unwrap();
    bytes[at] = 3;
    fs::write(&blob, &bytes).unwrap();
    let expect_bad = |image: &str, problem: &str| {
        let ended = it.world.run(&format!("{VERIFY} {image}"));
        ended.expect(254, "", &ended.stderr);
        let (first, rest) = ended.stderr.split_once('\n').unwrap();
        assert!(first.starts_with(&format!("verify: unable to verify image {image}: ")), "{first}");
        assert!(first.contains(problem), "{first}");
        assert!(rest.ends_with("verify: 1 image(s) cannot be verified\n"), "{rest}");
    };
    let hash = format!(" != {})", it.base);
    expect_bad("example.com/base", &hash);
    expect_bad("example.com/top", &hash);
    // What is seen to be broken without reading it has no name any more.
    fs::write(&blob, &bytes[..1000]).unwrap();
    expect_bad(&it.base, &format!("image {} is damaged: ", it.base));
    fs::remove_file(&blob).unwrap();
    expect_bad(&it.base, "blob: No such file or directory");
    fs::create_dir(&blob).unwrap();
    expect_bad(&it.base, "blob: Is a directory");
    it.world.run("--dir=data gc --expire-prepared=0s --grace-period=0s").expect_code(0);
    it.world.run("--dir=data image gc").expect_code(0);
    expect_bad(&it.base, "blob: Is a directory");
    // A new fetch repairs; nothing is rendered then but what stands alone.
    it.world.run(&format!("{FETCH} base.aci")).expect_code(0);
    it.world.run(&format!("{VERIFY} example.com/top example.com/base")).expect(
        0,
        &format!(
            "image \"example.com/top\" not rendered; no verification needed\n\
             successfully verified checksum for image: \"example.com/base\" (\"{}\")\n",
            it.base
        ),
        "",
    );
    it.world.run("--dir=data image verify").expect(254, "", "verify: must provide at least one image\n");
    let ended = it.world.run_as_nobody(&format!("{VERIFY} nope"));
    ended.expect(254, "", &ended.stderr);
}

#[test]
fn images_of_prepared_pods_and_those_below_them_are_not_collected() {
    let it = Shop::new();
    it.world.run("--dir=data image gc --grace-period=0s").expect_code(0);
    assert_eq!(names(&it.world.path().join("data/cas/image")).len(), 2);
    it.world.run("--dir=data gc --expire-prepared=0s --grace-period=0s").expect_code(0);
    it.world.run("--dir=data image gc --grace-period=0s").expect_code(0);
    assert_eq!(names(&it.world.path().join("data/cas/image")), [""; 0]);
}

#[test]
fn what_is_removed_under_others_is_told() {
    let it = Shop::new();
    let uuid = it
        .world
        .run("--dir=data list --full --no-legend")
        .stdout
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    let used = |id: &str| format!("rm: image \"{id}\" is used by pod {uuid}, which goes on with its tree\n");
    let said = |id: &str| format!("successfully removed aci for image: \"{id}\"\n");
    let below = format!(
        "rm: image \"{}\" is below example.com/top:1.0.0 ({}), which can't be run any more until it is fetched again\n",
        it.base,
        &it.top[..19]
    );
    let end = "rm: 1 image(s) successfully removed\n";
    it.world.run("--dir=data image rm example.com/base").expect(
        0,
        &said(&it.base),
        &format!("{}{below}{end}", used(&it.base)),
    );
    it.world.run("--dir=data gc --expire-prepared=0s --grace-period=0s").expect_code(0);
    it.world.run(&format!("{FETCH} base.aci")).expect_code(0);
    let end = "rm: 2 image(s) successfully removed\n";
    it.world.run("--dir=data image rm example.com/base example.com/top").expect(
        0,
        &(said(&it.base) + &said(&it.top)),
        end,
    );
}

#[test]
fn the_size_of_an_image_has_its_rendered_tree() {
    let it = Shop::new();
    let list = it.world.run("--dir=data image list --fields=name,size --full --no-legend").stdout;
    let top = fs::metadata(it.world.path().join("top.aci")).unwrap().len() + 3 + 3 + 300_000 + 10;
    assert!(list.contains(&format!("example.com/top:1.0.0\t{top}\n")), "{list}");
}
