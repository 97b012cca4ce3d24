//! Images below images: what the rendered tree has (spec images.md 2.8).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FileType;

use super::tests::{Fixture, as_root};
use crate::appc::image_id::ImageId;
use crate::image::tar_writer::{Member, Tar, manifest};
use crate::os::walk::Walk;

/// An image by its name, members of its manifest, and words for its files: `PATH` with what the image's name says,
/// `DIR/` (with a mode behind it), `LINK->TARGET`, `HARD==TARGET`.
fn image(name: &str, more: &str, files: &str) -> Vec<u8> {
    let text = manifest(&format!("example.com/{name}")).replacen('{', &format!("{{{more}"), 1);
    let tar = Tar::default().manifest(&text).dir("rootfs");
    files
        .split_whitespace()
        .fold(tar, |tar, word| {
            if let Some((path, target)) = word.split_once("->") {
                tar.symlink(format!("rootfs/{path}"), target)
            } else if let Some((path, target)) = word.split_once("==") {
                tar.hard_link(format!("rootfs/{path}"), format!("rootfs/{target}"))
            } else if let Some((path, mode)) = word.split_once("/:") {
                let mut dir = Member::new(format!("rootfs/{path}"), b'5');
                dir.mode = u32::from_str_radix(mode, 8).unwrap();
                tar.member(&dir)
            } else {
                tar.file(format!("rootfs/{word}"), name)
            }
        })
        .end()
}

fn below(names: &[&str]) -> String {
    let names = names.iter().map(|name| format!(r#"{{"imageName":"example.com/{name}"}}"#));
    format!(r#""dependencies":[{}],"#, names.collect::<Vec<_>>().join(","))
}

fn only(paths: &[&str]) -> String {
    format!(r#""pathWhitelist":{},"#, serde_json::to_string(paths).unwrap())
}

/// All that is in a directory: files with what they say, directories with their modes.
fn content(dir: &Path) -> String {
    let mut walk = Walk::new(std::fs::File::open(dir).unwrap().into(), dir).unwrap();
    let mut text = String::new();
    while let Some(step) = walk.step().unwrap() {
        let path = step.path.display();
        let at = dir.join(&step.path);
        match FileType::from_raw_mode(step.status.st_mode) {
            FileType::Directory => write!(text, "{path}/:{:o} ", step.status.st_mode & 0o7777).unwrap(),
            FileType::Symlink => {
                write!(text, "{path}->{} ", std::fs::read_link(at).unwrap().display()).unwrap();
            }
            _ => write!(text, "{path}={} ", std::fs::read_to_string(at).unwrap()).unwrap(),
        }
    }
    text.trim_end().to_owned()
}

/// Imports the images, the top one last, and renders that.
fn rendered(images: &[(&str, &str, &str)]) -> String {
    as_root();
    let it = Fixture::new();
    let ids: Vec<_> =
        images.iter().map(|(name, more, files)| it.import(&image(name, more, files)).unwrap().id).collect();
    let tree = it.store.ensure_tree(ids.last().unwrap()).unwrap();
    assert_eq!(it.store.ensure_tree(ids.last().unwrap()).unwrap(), tree);
    assert_eq!(it.store.tree_images(&tree)[0], *ids.last().unwrap());
    let names = super::names_in(&it.store.trees_dir().join(tree.as_str())).unwrap();
    assert_eq!(names.len(), 4, "{names:?}");
    content(&it.store.tree_rootfs(&tree))
}

#[test]
fn the_upper_image_decides_what_a_path_is() {
    let top = below(&["base"]);
    for (upper, lower, expected) in [
        ("a", "a b", "a=top b=base"),
        ("x/:700 x/a", "x/:750 x/a x/b", "x/:700 x/a=top x/b=base"),
        // Below what is no directory there comes nothing.
        ("x", "x/:755 x/a", "x=top"),
        ("x->y", "x/:755 x/a y", "x->y y=base"),
        ("x/:700", "x", "x/:700"),
        ("x/a", "x", "x/:755 x/a=top"),
        // A directory that the upper image only implies has the lower one's mode.
        ("x/y/a", "x/:711 x/y/:1777 x/y/b", "x/:711 x/y/:1777 x/y/a=top x/y/b=base"),
        ("x/y/a", "x/y/b", "x/:755 x/y/:755 x/y/a=top x/y/b=base"),
        // Hard links and paths through links mean what they mean in their own image.
        ("a", "a b==a", "a=top b=base"),
        ("b", "a b==a c==a", "a=base b=top c=base"),
        (
            "lib/:700 lib/a",
            "usr/lib/:755 lib->usr/lib lib/b",
            "lib/:700 lib/a=top usr/:755 usr/lib/:755 usr/lib/b=base",
        ),
        (
            "usr/lib/a",
            "usr/lib/:755 lib->usr/lib lib/a lib/b",
            "lib->usr/lib usr/:755 usr/lib/:755 usr/lib/a=top usr/lib/b=base",
        ),
    ] {
        assert_eq!(rendered(&[("base", "", lower), ("top", &top, upper)]), expected, "{upper} on {lower}");
    }
}

#[test]
fn a_later_dependency_beats_an_earlier_one_with_all_below_it() {
    let images = [
        ("deep", String::new(), "a b c d deep"),
        ("first", below(&["deep"]), "a b c first"),
        ("last", below(&["deep"]), "a b last"),
        ("top", below(&["first", "last"]), "a"),
    ];
    let images: Vec<_> = images.iter().map(|(name, more, files)| (*name, more.as_str(), *files)).collect();
    assert_eq!(rendered(&images), "a=top b=last c=deep d=deep deep=deep first=first last=last");
}

#[test]
fn a_whitelist_keeps_own_directories_and_of_those_below_only_what_is_listed() {
    let files = "d/:711 d/a d/b e/:700 e/c h==d/a";
    for (list, upper, expected) in [
        // An image alone.
        (&["/d/a"][..], files, "d/:711 d/a=top e/:700"),
        (&["//d/../h", "/nowhere"], files, "d/:711 e/:700 h=top"),
        (&["/d"], files, "d/:711 e/:700"),
        // Of the image below, files and directories.
        (&["/d/b"], "", "d/:755 d/b=base"),
        (&["/d/b", "/d", "/e/"], "", "d/:711 d/b=base e/:700"),
        (&["/h", "/mine"], "mine other", "h=base mine=top"),
        (&["/d/a/", "/d"], "d/:1777 d/x", "d/:1777 d/a=base"),
    ] {
        let more = below(&["base"]) + &only(list);
        assert_eq!(rendered(&[("base", "", files), ("top", &more, upper)]), expected, "{list:?} {upper}");
    }
    assert_eq!(rendered(&[("top", &only(&["/d/a"]), files)]), "d/:711 d/a=top e/:700");
}

#[test]
fn lists_of_siblings_and_lower_lists_do_not_matter_to_others() {
    let (both, one) = (below(&["one", "two"]), only(&["/a"]));
    assert_eq!(rendered(&[("one", &one, "a b"), ("two", "", "c"), ("top", &both, "")]), "a=one c=two");
    assert_eq!(rendered(&[("one", "", "a b"), ("two", &one, "c"), ("top", &both, "")]), "a=one b=one");
    // The topmost list counts, also where a lower one would keep less.
    let top = below(&["one"]) + &only(&["/a", "/b"]);
    assert_eq!(rendered(&[("one", &one, "a b c"), ("top", &top, "")]), "a=one b=one");
}

#[test]
fn directories_keep_their_times_whatever_is_moved_into_them() {
    as_root();
    let it = Fixture::new();
    it.import(&image("base", "", "d/:755 d/b e/:755 e/f/:755")).unwrap();
    let more = below(&["base"]) + &only(&["/d/b", "/d", "/e/f", "/d/a"]);
    for more in [below(&["base"]), more] {
        let top = it.import(&image("top", &more, "d/:755 d/a")).unwrap().id;
        let tree = it.store.ensure_tree(&top).unwrap();
        for path in ["", "d", "e/f", "d/a", "d/b"] {
            let status = it.store.tree_rootfs(&tree).join(path).metadata().unwrap();
            assert_eq!(status.mtime(), 1_000_000_000, "{path:?}");
        }
    }
}

#[test]
fn a_dependency_is_the_best_match_for_the_platform_of_what_is_above_it() {
    as_root();
    let it = Fixture::new();
    let import = |name: &str, version: &str, arch: &str, file: &str| -> ImageId {
        let text = manifest(&format!("example.com/{name}")).replace("1.0.0", version).replace("amd64", arch);
        it.import(&Tar::default().manifest(&text).dir("rootfs").file(format!("rootfs/{file}"), "").end())
            .unwrap()
            .id
    };
    let old = import("base", "1.0.0", "amd64", "old");
    let new = import("base", "2", "amd64", "new");
    let foreign = import("base", "3", "aarch64", "foreign");
    let wants = |dependency: &str| {
        let more = format!(r#""dependencies":[{{"imageName":"example.com/base"{dependency}}}],"#);
        it.import(&image("top", &more, "")).unwrap().id
    };
    let version = |version: &str| format!(r#","labels":[{{"name":"version","value":"{version}"}}]"#);
    for (dependency, expected) in [
        (String::new(), new),
        (version("1.0.0"), old),
        (version("3"), foreign),
        (format!(r#","imageID":"{old}""#), old),
        (format!(r#","imageID":"{foreign}""#), foreign),
    ] {
        let top = wants(&dependency);
        assert_eq!(it.store.flatten(&top).unwrap().images, [top, expected], "{dependency}");
    }
    it.store.remove(&old).unwrap();
    for (dependency, named) in [
        (version("1.0.0"), "example.com/base:1.0.0".to_owned()),
        (format!(r#","imageID":"{old}""#), format!("example.com/base ({old})")),
    ] {
        let error = it.store.ensure_tree(&wants(&dependency)).unwrap_err().to_string();
        assert_eq!(error, format!("image example.com/top depends on {named}, which is not in the store"));
    }
}

#[test]
fn p6_a_damaged_image_below_another_is_never_rendered_and_nothing_is_left() {
    as_root();
    let it = Fixture::new();
    let base = it.import(&image("base", "", "a")).unwrap().id;
    let top = it.import(&image("top", &below(&["base"]), "b")).unwrap().id;
    assert_eq!(it.names("tree").len(), 1, "what is not complete alone has no tree");
    let blob = it.store.cas.join(format!("image/{base}/blob"));
    let mut bytes = std::fs::read(&blob).unwrap();
    let at = bytes.windows(4).rposition(|window| window == b"base").unwrap();
    bytes[at] = b'X';
    std::fs::write(&blob, bytes).unwrap();
    let error = it.store.ensure_tree(&top).unwrap_err().to_string();
    assert!(error.ends_with(&format!(" != {base})")), "{error}");
    assert_eq!((it.names("tree").len(), it.names("tmp").len()), (1, 0));
    it.import(&image("base", "", "a")).unwrap();
    it.store.ensure_tree(&top).unwrap();
}

#[test]
fn a16_deep_trees_are_merged_filtered_and_compared_without_recursion() {
    as_root();
    let it = Fixture::new();
    let deep = "d/".repeat(700);
    it.import(&image("base", "", &format!("{deep}b {deep}c"))).unwrap();
    let listed = format!("/{deep}b");
    for (more, expected) in [(below(&["base"]), 3), (below(&["base"]) + &only(&[&listed, "/mine"]), 2)] {
        let top = it.import(&image("top", &more, &format!("{deep}a mine"))).unwrap().id;
        let tree = it.store.ensure_tree(&top).unwrap();
        let root = it.store.tree_rootfs(&tree);
        let mut walk = Walk::new(std::fs::File::open(&root).unwrap().into(), &root).unwrap();
        let (mut files, mut depth) = (0, 0);
        while let Some(step) = walk.step().unwrap() {
            depth = depth.max(step.path.components().count());
            files += usize::from(FileType::from_raw_mode(step.status.st_mode) == FileType::RegularFile);
        }
        assert_eq!((files, depth), (expected + usize::from(expected == 3), 701));
        assert!(matches!(it.store.verify(&top).unwrap(), super::Verified::Whole(_)));
    }
    assert_eq!(it.store.lock_trees(|| ()).unwrap().collect(&BTreeSet::new()).0.len(), 3);
    assert_eq!(it.names("tree"), [""; 0]);
}

#[test]
fn a_layer_that_links_out_of_the_tree_brings_nothing_there() {
    as_root();
    let outside = tempfile::tempdir().unwrap();
    let to = outside.path().display();
    let top = below(&["base"]);
    for (upper, lower, expected) in [
        (format!("x->{to}"), "x/:755 x/evil".to_owned(), format!("x->{to}")),
        ("x/:755 x/mine".to_owned(), format!("x->{to}"), "x/:755 x/mine=top".to_owned()),
        (
            "a".to_owned(),
            format!("x->{to} y->../../../../..{to}"),
            format!("a=top x->{to} y->../../../../..{to}"),
        ),
    ] {
        assert_eq!(rendered(&[("base", "", &lower), ("top", &top, &upper)]), expected);
    }
    let listed = top + &only(&["/x/evil", "/x"]);
    assert_eq!(
        rendered(&[("base", "", "x/:755 x/evil"), ("top", &listed, &format!("x->{to}"))]),
        format!("x->{to}")
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}
