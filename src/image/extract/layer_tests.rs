//! Layers against the kernel: what overlayfs shows of unpacked layers is what the layers mean.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::super::tar_writer::{Member, Tar};
use super::{Devices, Owners, Target, extract, unpack_oci_layer};
use crate::image::digest::{Algorithm, Digest};
use crate::image::oci::squash::squash;
use crate::image::stream::{Limits, Source};
use crate::os::overlay;
use crate::os::walk::Walk;

struct Stack {
    dir: tempfile::TempDir,
    layers: Vec<Vec<u8>>,
    /// The highest first.
    trees: Vec<PathBuf>,
    unfinished: Vec<bool>,
}

impl Stack {
    fn of(layers: &[Tar]) -> Self {
        // /tmp may be an overlay itself, and those are stacked no deeper.
        let mut stack = Self {
            dir: tempfile::tempdir_in("/dev/shm").unwrap(),
            layers: Vec::new(),
            trees: Vec::new(),
            unfinished: Vec::new(),
        };
        for layer in layers {
            stack.push(layer.clone()).unwrap();
        }
        stack
    }

    fn push(&mut self, layer: Tar) -> Result<(), String> {
        self.push_bytes(layer.end())
    }

    fn push_bytes(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        let rootfs = self.dir.path().join(self.trees.len().to_string());
        std::fs::create_dir(&rootfs).unwrap();
        let source =
            Source { file: file(&bytes), keep: None, watch: None, limits: Limits::default(), progress: None };
        let target = Target { rootfs: &rootfs, owners: Owners::OfImage, devices: Devices::Skip };
        let (unpacked, _) =
            unpack_oci_layer(source, Algorithm::Sha256, Some(&target)).map_err(|error| error.to_string())?;
        self.unfinished.push(!unpacked.unfinished.is_empty());
        unpacked.unfinished.finish(&target, &self.trees).map_err(|error| error.to_string())?;
        self.trees.insert(0, rootfs);
        self.layers.push(bytes);
        Ok(())
    }

    /// What the layers are as one image.
    fn squashed(&self) -> Result<Vec<String>, String> {
        let diff_ids: Vec<Digest> = self.layers.iter().map(|layer| Digest::sha256(layer)).collect();
        let open = |index: usize| Ok(file(&self.layers[index]));
        let image = squash(b"{}", &diff_ids, open, &Limits::default(), Vec::new());
        let image = image.map_err(|error| error.to_string())?;
        let again = squash(b"{}", &diff_ids, open, &Limits::default(), Vec::new());
        assert_eq!(again.ok().as_ref(), Some(&image), "the same layers give the same bytes");
        let rootfs = self.dir.path().join("squashed");
        std::fs::create_dir(&rootfs).unwrap();
        let target = Target { rootfs: &rootfs, owners: Owners::OfImage, devices: Devices::Skip };
        extract(&image[..], &target, &Limits::default()).map_err(|error| error.to_string())?;
        // What every image gets.
        for name in ["stdin", "stdout", "stderr", "fd"] {
            std::fs::remove_file(rootfs.join("dev").join(name)).unwrap();
        }
        std::fs::remove_dir(rootfs.join("dev")).unwrap();
        Ok(listed(&rootfs))
    }

    /// What overlayfs shows: paths, with the content of files.
    fn shown(&self) -> Vec<String> {
        let empty = self.dir.path().join("empty");
        std::fs::create_dir_all(&empty).unwrap();
        let mut lower = self.trees.clone();
        lower.push(empty);
        let mount = overlay::read_only(&lower).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount)));
        listed(&path)
    }
}

fn file(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

/// The paths in a directory, with the content of files.
fn listed(path: &Path) -> Vec<String> {
    let top = std::fs::File::open(path.join(".")).unwrap();
    let mut walk = Walk::new(top.into(), Path::new("/")).unwrap();
    let mut shown = Vec::new();
    while let Some(step) = walk.step().unwrap() {
        let inside = step.path.display();
        let real = path.join(&step.path);
        let found = real.symlink_metadata().unwrap();
        shown.push(match found.file_type() {
            kind if kind.is_file() => format!("{inside}={}", std::fs::read_to_string(&real).unwrap()),
            kind if kind.is_symlink() => {
                format!("{inside}->{}", std::fs::read_link(&real).unwrap().display())
            }
            _ => format!("{inside}/"),
        });
    }
    shown
}

fn base() -> Tar {
    Tar::default().dir("d").file("d/a", "1").file("d/b", "1").file("f", "1").symlink("l", "d")
}

#[test]
fn overlayfs_shows_what_layers_mean() {
    let cases: [(&str, Tar, &[&str]); 16] = [
        ("nothing", Tar::default(), &["d/", "d/a=1", "d/b=1", "f=1", "l->d"]),
        ("a whiteout", Tar::default().file("d/.wh.a", "").file(".wh.f", ""), &["d/", "d/b=1", "l->d"]),
        ("of a directory", Tar::default().file(".wh.d", ""), &["f=1", "l->d"]),
        (
            "before its own name",
            Tar::default().file(".wh.d", "").dir("d").file("d/c", "2"),
            &["d/", "d/c=2", "f=1", "l->d"],
        ),
        (
            "after its own name",
            Tar::default().dir("d").file("d/c", "2").file(".wh.d", ""),
            &["d/", "d/c=2", "f=1", "l->d"],
        ),
        (
            "with a name that only what is in it has",
            Tar::default().file(".wh.d", "").file("d/c", "2"),
            &["d/", "d/c=2", "f=1", "l->d"],
        ),
        (
            "of a file that is new",
            Tar::default().file("f", "2").file(".wh.f", ""),
            &["d/", "d/a=1", "d/b=1", "f=2", "l->d"],
        ),
        (
            "an opaque directory",
            Tar::default().dir("d").file("d/.wh..wh..opq", "").file("d/c", "2"),
            &["d/", "d/c=2", "f=1", "l->d"],
        ),
        (
            "opaque, and last",
            Tar::default().file("d/a", "2").file("d/.wh..wh..opq", ""),
            &["d/", "d/a=2", "f=1", "l->d"],
        ),
        (
            "other kinds",
            Tar::default().dir("f").file("f/x", "2").file("d", "2").dir("l"),
            &["d=2", "f/", "f/x=2", "l/"],
        ),
        (
            "a hard link to what is below",
            Tar::default().hard_link("h", "d/a").hard_link("i", "d/a"),
            &["d/", "d/a=1", "d/b=1", "f=1", "h=1", "i=1", "l->d"],
        ),
        (
            "of what was in a directory that is a file now",
            Tar::default().file("d", "2").file("d/.wh..wh..opq", "").file("d/.wh.a", ""),
            &["d=2", "f=1", "l->d"],
        ),
        (
            "of what was in a directory that is a link now",
            Tar::default()
                .dir("e")
                .file("e/a", "2")
                .symlink("d", "e")
                .file("d/.wh.a", "")
                .file("d/.wh.b", ""),
            &["d->e", "e/", "e/a=2", "f=1", "l->d"],
        ),
        ("a directory that was a file", Tar::default().file("d", "2").dir("d"), &["d/", "f=1", "l->d"]),
        (
            "a directory that was a hard link",
            Tar::default().hard_link("d", "f").dir("d"),
            &["d/", "f=1", "l->d"],
        ),
        (
            "whiteouts of nothing",
            Tar::default().dir("n").file("n/.wh.x", "").file("n/.wh.f", "").file(".wh.y", ""),
            &["d/", "d/a=1", "d/b=1", "f=1", "l->d", "n/"],
        ),
    ];
    for (name, upper, expected) in cases {
        let stack = Stack::of(&[base(), upper]);
        assert_eq!(stack.shown(), expected, "{name}");
        assert_eq!(stack.squashed().unwrap(), expected, "{name}, squashed");
    }
}

#[test]
fn a_layer_may_end_behind_the_data_of_an_entry() {
    let whole = Tar::default().dir("/").dir("d").file("d/c", "2").end();
    // Two blocks of end marker, and 511 bytes of padding.
    for less in [1024, 1024 + 100, 1024 + 511] {
        let mut stack = Stack::of(&[base()]);
        stack.push_bytes(whole[..whole.len() - less].to_vec()).unwrap();
        assert_eq!(stack.shown(), ["d/", "d/a=1", "d/b=1", "d/c=2", "f=1", "l->d"], "{less}");
        assert_eq!(stack.squashed().unwrap(), stack.shown(), "{less}");
    }
    let mut stack = Stack::of(&[]);
    for less in [1024 + 512, 1024 + 512 + 100] {
        let refused = stack.push_bytes(whole[..whole.len() - less].to_vec()).unwrap_err();
        assert!(refused.contains("it is cut off: the archive ends within"), "{refused}");
        std::fs::remove_dir_all(stack.dir.path().join("0")).unwrap();
    }
}

#[test]
fn what_a_whiteout_hid_can_come_again() {
    let stack = Stack::of(&[
        base(),
        Tar::default().file(".wh.d", "").file(".wh.f", ""),
        Tar::default().dir("d").file("d/c", "3"),
        Tar::default().hard_link("g", "d/c"),
    ]);
    assert_eq!(stack.shown(), ["d/", "d/c=3", "g=3", "l->d"]);
    assert_eq!(stack.squashed().unwrap(), ["d/", "d/c=3", "g=3", "l->d"]);
    let hidden = stack.trees.clone();
    let mut stack = Stack { trees: hidden, ..stack };
    let refused = stack.push(Tar::default().hard_link("x", "d/a")).unwrap_err();
    assert_eq!(refused, "entry \"x\": its hard link's target is no file of this layer or those below it");
}

#[test]
fn a_layer_that_needs_nothing_below_is_finished() {
    let stack = Stack::of(&[
        base(),
        Tar::default().dir("d").file("d/c", "2").hard_link("d/h", "d/c"),
        Tar::default().file("d/c", "2"),
        Tar::default().file(".wh.f", ""),
        Tar::default().hard_link("x", "d/c"),
    ]);
    assert_eq!(stack.unfinished, [false, false, true, true, true]);
}

#[test]
fn a_directory_without_an_entry_keeps_its_owner_and_mode() {
    use std::os::unix::fs::MetadataExt;
    let mut private = Member::new("d", b'5');
    private.mode = 0o2710;
    (private.uid, private.gid) =
        (super::super::tar_writer::octal(33, 8), super::super::tar_writer::octal(44, 8));
    let below = Tar::default().member(&private).dir("d/e");
    let stack = Stack::of(&[below, Tar::default().file("d/e/x", "1").file("new/x", "1")]);
    let found = |name: &str| {
        let status = stack.trees[0].join(name).metadata().unwrap();
        (status.mode() & 0o7777, status.uid(), status.gid(), status.mtime())
    };
    assert_eq!(found("d"), (0o2710, 33, 44, 1_000_000_000));
    assert_eq!(found("d/e"), (0o755, 0, 0, 1_000_000_000));
    assert_eq!((found("new").0, found("new").1), (0o755, 0));
}

mod generated {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// What is told of a path by a layer.
    #[derive(Debug, Clone, Copy)]
    enum Op {
        File,
        Dir,
        Link,
        Hard,
        Whiteout,
        Opaque,
    }

    fn path() -> impl Strategy<Value = String> {
        proptest::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"))
    }

    fn layer() -> impl Strategy<Value = Vec<(Op, String, String)>> {
        let op = prop_oneof![
            6 => Just(Op::File), 6 => Just(Op::Dir), 1 => Just(Op::Link), 3 => Just(Op::Hard),
            4 => Just(Op::Whiteout), 2 => Just(Op::Opaque)
        ];
        proptest::collection::vec((op, path(), path()), 0..8)
    }

    fn tar(ops: &[(Op, String, String)]) -> Tar {
        let hidden = |path: &str, name: &str| match path.rsplit_once('/') {
            Some((parent, last)) => format!("{parent}/{name}{last}"),
            None => format!("{name}{path}"),
        };
        ops.iter().fold(Tar::default(), |tar, (op, path, other)| match op {
            Op::File => tar.file(path, other),
            Op::Dir => tar.dir(path),
            Op::Link => tar.symlink(path, format!("/{other}")),
            Op::Hard => tar.hard_link(path, other),
            Op::Whiteout => tar.file(hidden(path, ".wh."), ""),
            Op::Opaque => tar.file(format!("{path}/.wh..wh..opq"), ""),
        })
    }

    proptest! {
        // The same layers each time: one combination is known that the squashed image refuses and overlayfs shows, a hard
        // link to a name that is a link back to it and then a file, and it must not come up by chance.
        #![proptest_config(ProptestConfig { cases: 512, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        /// Whatever layers say, they are refused, or shown without a name that leads nowhere; and nothing gets out.
        #[test]
        fn layers_are_refused_or_shown(layers in proptest::collection::vec(layer(), 1..4)) {
            let mut stack = Stack::of(&[]);
            for ops in &layers {
                if stack.push(tar(ops)).is_err() {
                    break;
                }
            }
            if !stack.trees.is_empty() {
                let shown = stack.shown();
                // Without links that lead elsewhere, where a path goes is the same for both.
                if !layers.iter().flatten().any(|(op, _, _)| matches!(op, Op::Link)) {
                    // A directory that has nothing in it but a whiteout is in trees, and not in the image.
                    let files = |list: Vec<String>| -> Vec<String> {
                        list.into_iter().filter(|line| !line.ends_with('/')).collect()
                    };
                    prop_assert_eq!(stack.squashed().map(files), Ok(files(shown)));
                }
            }
        }
    }
}
