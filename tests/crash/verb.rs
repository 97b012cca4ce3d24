//! The commands that are tried, and the data directory that each meets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::disk::{Disk, HOME};
use crate::site::{self, LAYERED, NEW_LAYERED, NEW_PREFIX, NEW_REGISTRY, NEW_SIGNED, SIGNED};
use crate::support::tar::{Member, Tar, octal};
use crate::trace::Span;

/// What the app of each image says.
pub(crate) const GREETING: &str = "Hello, world!";

/// Takes images without signatures.
const UNSIGNED: &str = "--insecure-options=image";

/// A command, and what it is about.
#[derive(Debug, Clone)]
pub(crate) struct Verb {
    /// How it is called on the command line of this program.
    pub(crate) name: &'static str,
    /// What the data directory holds before.
    pub(crate) start: Start,
    /// Which of its calls are counted.
    pub(crate) span: Span,
    /// What it does.
    pub(crate) effect: Effect,
}

/// What a data directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing: it is not even there.
    Nothing,
    /// Images of each kind, and pods in every phase.
    InUse,
    /// The same, and the prepared pod has just run on the default network.
    Joined,
    /// The same, without the trees that images are unpacked to.
    WithoutTrees,
    /// The same, with a changed file in each of those trees.
    Damaged,
}

/// What a pod is prepared from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// An image in the store.
    Image,
    /// The file of one.
    File,
    /// A manifest that names one in the store.
    Manifest,
}

/// What a command does, and so what is looked at after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Imports an image and prints its ID.
    Fetches(Source),
    /// Prepares a pod and prints its UUID.
    Prepares(From),
    /// Runs a new pod.
    Runs {
        /// From a file that it imports first.
        import: bool,
        /// The value of `--net`.
        net: &'static str,
    },
    /// Runs the pod that is prepared for this.
    RunsPrepared,
    /// Removes the exited pod.
    RemovesPod,
    /// Removes the pods that are over.
    CollectsPods,
    /// Writes what an app of the exited pod left to a file.
    ExportsPod,
    /// Trusts a key.
    Trusts(Owner),
    /// Removes an image.
    RemovesImage(Kept),
    /// Removes all images and the trees that no pod uses.
    CollectsImages,
    /// Puts a good tree into the place of the damaged one of an image.
    RepairsTree(Kept),
}

/// From where an image comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file.
    File,
    /// A server, with its signature, found by its name. In an empty data directory the key comes from there, too.
    Name,
    /// A registry, in layers.
    Registry,
}

/// Whose key it is that nobody knows yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The other publisher's, by OpenPGP.
    Publisher,
    /// A registry's, in PEM.
    Registry,
}

/// An image in a data directory in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// One with pods.
    Hello,
    /// One without pods.
    Other,
    /// One that was fetched by its name.
    Signed,
    /// One of layers.
    Layered,
}

/// All of them.
#[rustfmt::skip]
pub(crate) const VERBS: &[Verb] = &[
    Verb { name: "fetch", start: Start::InUse, span: Span::UntilExec, effect: Effect::Fetches(Source::File) },
    Verb { name: "first-fetch", start: Start::Nothing, span: Span::UntilExec, effect: Effect::Fetches(Source::File) },
    Verb { name: "fetch-by-name", start: Start::InUse, span: Span::UntilExec, effect: Effect::Fetches(Source::Name) },
    Verb { name: "first-fetch-by-name", start: Start::Nothing, span: Span::UntilExec, effect: Effect::Fetches(Source::Name) },
    Verb { name: "fetch-layers", start: Start::InUse, span: Span::UntilExec, effect: Effect::Fetches(Source::Registry) },
    Verb { name: "first-fetch-layers", start: Start::Nothing, span: Span::UntilExec, effect: Effect::Fetches(Source::Registry) },
    Verb { name: "prepare", start: Start::InUse, span: Span::UntilExec, effect: Effect::Prepares(From::Image) },
    Verb { name: "prepare-file", start: Start::InUse, span: Span::UntilExec, effect: Effect::Prepares(From::File) },
    Verb { name: "prepare-manifest", start: Start::InUse, span: Span::UntilExec, effect: Effect::Prepares(From::Manifest) },
    Verb { name: "render", start: Start::WithoutTrees, span: Span::UntilExec, effect: Effect::Prepares(From::Image) },
    Verb { name: "run", start: Start::InUse, span: Span::UntilExec, effect: Effect::Runs { import: false, net: "none" } },
    Verb { name: "first-run", start: Start::Nothing, span: Span::UntilExec, effect: Effect::Runs { import: true, net: "none" } },
    Verb { name: "run-network", start: Start::InUse, span: Span::UntilExec, effect: Effect::Runs { import: false, net: "default" } },
    Verb { name: "run-prepared", start: Start::InUse, span: Span::UntilExec, effect: Effect::RunsPrepared },
    Verb { name: "supervisor", start: Start::InUse, span: Span::AfterExec, effect: Effect::Runs { import: false, net: "none" } },
    Verb { name: "rm", start: Start::InUse, span: Span::UntilExec, effect: Effect::RemovesPod },
    Verb { name: "gc", start: Start::InUse, span: Span::UntilExec, effect: Effect::CollectsPods },
    Verb { name: "gc-network", start: Start::Joined, span: Span::UntilExec, effect: Effect::CollectsPods },
    Verb { name: "export", start: Start::InUse, span: Span::UntilExec, effect: Effect::ExportsPod },
    Verb { name: "trust", start: Start::InUse, span: Span::UntilExec, effect: Effect::Trusts(Owner::Publisher) },
    Verb { name: "trust-registry", start: Start::InUse, span: Span::UntilExec, effect: Effect::Trusts(Owner::Registry) },
    Verb { name: "image-rm", start: Start::InUse, span: Span::UntilExec, effect: Effect::RemovesImage(Kept::Other) },
    Verb { name: "image-rm-by-name", start: Start::InUse, span: Span::UntilExec, effect: Effect::RemovesImage(Kept::Signed) },
    Verb { name: "image-rm-layers", start: Start::InUse, span: Span::UntilExec, effect: Effect::RemovesImage(Kept::Layered) },
    Verb { name: "image-gc", start: Start::InUse, span: Span::UntilExec, effect: Effect::CollectsImages },
    Verb { name: "image-repair", start: Start::Damaged, span: Span::UntilExec, effect: Effect::RepairsTree(Kept::Other) },
    Verb { name: "image-repair-in-use", start: Start::Damaged, span: Span::UntilExec, effect: Effect::RepairsTree(Kept::Hello) },
    Verb { name: "image-repair-layers", start: Start::Damaged, span: Span::UntilExec, effect: Effect::RepairsTree(Kept::Layered) },
];

impl Verb {
    /// The arguments of `rkt`.
    pub(crate) fn args(&self, objects: &Objects) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        // Files and layers have no signatures.
        let new = new_image().display().to_string();
        let image = |import: bool| if import { new.as_str() } else { objects.hello.as_str() };
        let uuid_file = format!("--uuid-file-save={}", uuid_file().display());
        match self.effect {
            Effect::Fetches(Source::File) => words(&[UNSIGNED, "fetch", "--full", &new]),
            Effect::Fetches(Source::Name) if self.start == Start::Nothing => {
                words(&["--trust-keys-from-https", "fetch", "--full", NEW_SIGNED])
            }
            Effect::Fetches(Source::Name) => words(&["fetch", "--full", NEW_SIGNED]),
            Effect::Fetches(Source::Registry) => words(&[UNSIGNED, "fetch", "--full", NEW_LAYERED]),
            Effect::Prepares(From::Image) => words(&[UNSIGNED, "prepare", image(false)]),
            Effect::Prepares(From::File) => words(&[UNSIGNED, "prepare", image(true)]),
            Effect::Prepares(From::Manifest) => {
                words(&["prepare", &format!("--pod-manifest={}", manifest_file().display())])
            }
            Effect::Runs { import, net } => {
                words(&[UNSIGNED, "run", &format!("--net={net}"), &uuid_file, image(import)])
            }
            Effect::RunsPrepared => words(&["run-prepared", "--net=none", &objects.prepared]),
            Effect::RemovesPod => words(&["rm", &objects.exited]),
            Effect::CollectsPods => words(&["gc", "--grace-period=0s"]),
            Effect::ExportsPod => {
                words(&["export", "--overwrite", &objects.exited, &export_file().display().to_string()])
            }
            Effect::Trusts(Owner::Publisher) => trust(NEW_PREFIX),
            Effect::Trusts(Owner::Registry) => trust(NEW_REGISTRY),
            Effect::RemovesImage(kept) => words(&["image", "rm", objects.image(kept)]),
            Effect::CollectsImages => words(&["image", "gc", "--grace-period=0s"]),
            Effect::RepairsTree(kept) => words(&["image", "verify", "--repair", objects.image(kept)]),
        }
    }
}

/// The arguments that trust the key of a publisher or a registry.
pub(crate) fn trust(prefix: &str) -> Vec<String> {
    let key = site::key_file(prefix).display().to_string();
    let prefix = format!("--prefix={prefix}");
    vec!["trust".into(), prefix, "--skip-fingerprint-review".into(), key]
}

/// What is in a data directory in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects {
    /// An image with pods.
    pub(crate) hello: String,
    /// An image without pods.
    pub(crate) other: String,
    /// An image that was fetched by its name.
    pub(crate) signed: String,
    /// An image of layers.
    pub(crate) layered: String,
    /// A prepared pod that `run-prepared` takes.
    pub(crate) prepared: String,
    /// A prepared pod that nobody touches.
    pub(crate) waiting: String,
    /// An exited pod.
    pub(crate) exited: String,
    /// A pod that gc has marked.
    pub(crate) marked: String,
}

impl Objects {
    /// The ID of an image.
    pub(crate) fn image(&self, kept: Kept) -> &str {
        match kept {
            Kept::Hello => &self.hello,
            Kept::Other => &self.other,
            Kept::Signed => &self.signed,
            Kept::Layered => &self.layered,
        }
    }
}

/// Fills the data directory.
pub(crate) fn fill(start: Start) -> Objects {
    if start == Start::Nothing {
        return Objects::default();
    }
    fs::create_dir(export_file().parent().expect("below the disk")).expect("a new directory");
    let prepare = |image: &str| said(&["prepare", image]);
    let hello = said(&[UNSIGNED, "fetch", "--full", &image("hello").display().to_string()]);
    let other = said(&[UNSIGNED, "fetch", "--full", &image("other").display().to_string()]);
    let manifest = format!(
        r#"{{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{{"name":"hello","image":{{"id":"{hello}"}}}}]}}"#
    );
    fs::write(manifest_file(), manifest).expect("a file outside of the disk");
    said(&trust(site::PREFIX));
    let signed = said(&["fetch", "--full", SIGNED]);
    let layered = said(&[UNSIGNED, "fetch", "--full", LAYERED]);
    let marked = prepare(&hello);
    said(&["run-prepared", "--net=none", &marked]);
    said(&["gc", "--mark-only"]);
    let exited = prepare(&hello);
    said(&["run-prepared", "--net=none", &exited]);
    let (prepared, waiting) = (prepare(&hello), prepare(&hello));
    // What commands that were killed have left.
    for (place, uuid) in [("embryo", "1"), ("prepare", "2"), ("garbage", "3")] {
        let pod =
            Disk::data().join("pods").join(place).join(format!("{uuid:0>8}-0000-4000-8000-000000000000"));
        fs::create_dir(&pod).expect("a new directory");
        fs::write(pod.join("pod-created"), "").expect("a new file");
    }
    fs::create_dir(Disk::data().join("cas/tmp/.tmp-left")).expect("a new directory");
    for tree in fs::read_dir(Disk::data().join("cas/tree")).expect("the directory of trees").flatten() {
        match start {
            Start::Nothing | Start::InUse | Start::Joined => {}
            Start::WithoutTrees => fs::remove_dir_all(tree.path()).expect("a directory of ours"),
            Start::Damaged => {
                let name = tree.path().join("rootfs/etc/name");
                if name.exists() {
                    fs::write(name, "wrong").expect("a file of ours");
                }
            }
        }
    }
    Objects { hello, other, signed, layered, prepared, waiting, exited, marked }
}

/// Does what can't be kept in a data directory, since it is the host's.
pub(crate) fn join(start: Start, objects: &Objects) {
    if start == Start::Joined {
        said(&["run-prepared", "--net=default", &objects.prepared]);
    }
}

/// The image that is not in the store.
pub(crate) fn new_image() -> PathBuf {
    image("new")
}

/// The file to which `export` writes; on the disk, as what must survive a power cut.
pub(crate) fn export_file() -> PathBuf {
    Disk::top().join("exports/pod.aci")
}

/// The manifest that a pod is made of.
fn manifest_file() -> PathBuf {
    Path::new(HOME).join("pod.json")
}

/// The file to which `run` writes the pod's UUID.
pub(crate) fn uuid_file() -> PathBuf {
    Path::new(HOME).join("user/uuid")
}

fn image(name: &str) -> PathBuf {
    Path::new(HOME).join("user").join(format!("{name}.aci"))
}

/// Writes the images, each with entries of every kind around the static program `hello`.
pub(crate) fn write_images(hello: &Path) {
    let program = fs::read(hello).unwrap_or_else(|cause| panic!("{}: {cause}", hello.display()));
    fs::create_dir(Path::new(HOME).join("user")).expect("a new directory");
    for name in ["hello", "other", "new"] {
        let manifest =
            crate::support::tar::manifest(&format!("example.com/{name}")).replace("/bin/true", "/app/hello");
        let mut executable = Member::new("rootfs/app/hello", b'0');
        executable.mode = 0o755;
        executable.data.clone_from(&program);
        let mut owned = Member::new("rootfs/etc/owned", b'0');
        owned.uid = octal(1000, 8);
        owned.mode = 0o4750;
        owned.data = name.as_bytes().to_vec();
        let tar = Tar::default()
            .manifest(&manifest)
            .dir("rootfs")
            .dir("rootfs/app")
            .member(&executable)
            .dir("rootfs/etc")
            .member(&owned)
            .file("rootfs/etc/name", name)
            .pax(&[("SCHILY.xattr.user.kind", b"crash".to_vec())])
            .file("rootfs/etc/marked", "x")
            .file("rootfs/etc/empty", "")
            .symlink("rootfs/etc/link", "name")
            .hard_link("rootfs/etc/hard", "rootfs/etc/name")
            .member(&Member::new("rootfs/etc/fifo", b'6'))
            .end();
        fs::write(image(name), tar).expect("a new file");
    }
}

/// A command of the binary under test on the data directory.
pub(crate) fn rkt(args: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rkt"));
    command.arg(format!("--dir={}", Disk::data().display()));
    site::lead_to(&mut command);
    command.args(args).stdin(Stdio::null()).current_dir(HOME);
    command
}

/// Runs `rkt`, which must succeed, and returns the last line of its output.
fn said(args: &[impl AsRef<std::ffi::OsStr> + std::fmt::Debug]) -> String {
    let output = rkt(args).output().expect("the binary under test");
    assert!(output.status.success(), "rkt {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}
