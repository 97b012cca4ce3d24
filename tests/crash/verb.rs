//! The commands that are tried, and the data directory that each meets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::disk::{Disk, HOME};
use crate::tar::{Member, Tar, octal};
use crate::trace::Span;

/// What the app of each image says.
pub(crate) const GREETING: &str = "Hello, world!";

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
    /// Two images, and pods in every phase.
    InUse,
    /// The same, without the trees that images are unpacked to.
    WithoutTrees,
}

/// What a command does, and so what is looked at after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Imports an image and prints its ID.
    Fetches,
    /// Prepares a pod and prints its UUID.
    Prepares {
        /// From a file that it imports first.
        import: bool,
    },
    /// Runs a new pod.
    Runs {
        /// From a file that it imports first.
        import: bool,
    },
    /// Runs the pod that is prepared for this.
    RunsPrepared,
    /// Removes the exited pod.
    RemovesPod,
    /// Removes the pods that are over.
    CollectsPods,
    /// Removes an image.
    RemovesImage,
    /// Removes all images and the trees that no pod uses.
    CollectsImages,
}

/// All of them.
#[rustfmt::skip]
pub(crate) const VERBS: &[Verb] = &[
    Verb { name: "fetch", start: Start::InUse, span: Span::UntilExec, effect: Effect::Fetches },
    Verb { name: "first-fetch", start: Start::Nothing, span: Span::UntilExec, effect: Effect::Fetches },
    Verb { name: "prepare", start: Start::InUse, span: Span::UntilExec, effect: Effect::Prepares { import: false } },
    Verb { name: "prepare-file", start: Start::InUse, span: Span::UntilExec, effect: Effect::Prepares { import: true } },
    Verb { name: "render", start: Start::WithoutTrees, span: Span::UntilExec, effect: Effect::Prepares { import: false } },
    Verb { name: "run", start: Start::InUse, span: Span::UntilExec, effect: Effect::Runs { import: false } },
    Verb { name: "first-run", start: Start::Nothing, span: Span::UntilExec, effect: Effect::Runs { import: true } },
    Verb { name: "run-prepared", start: Start::InUse, span: Span::UntilExec, effect: Effect::RunsPrepared },
    Verb { name: "supervisor", start: Start::InUse, span: Span::AfterExec, effect: Effect::Runs { import: false } },
    Verb { name: "rm", start: Start::InUse, span: Span::UntilExec, effect: Effect::RemovesPod },
    Verb { name: "gc", start: Start::InUse, span: Span::UntilExec, effect: Effect::CollectsPods },
    Verb { name: "image-rm", start: Start::InUse, span: Span::UntilExec, effect: Effect::RemovesImage },
    Verb { name: "image-gc", start: Start::InUse, span: Span::UntilExec, effect: Effect::CollectsImages },
];

impl Verb {
    /// The arguments of `rkt`.
    pub(crate) fn args(&self, objects: &Objects) -> Vec<String> {
        let image =
            |import: bool| if import { new_image().display().to_string() } else { objects.hello.clone() };
        let uuid_file = format!("--uuid-file-save={}", uuid_file().display());
        let words: Vec<String> = match self.effect {
            Effect::Fetches => vec!["fetch".into(), "--full".into(), image(true)],
            Effect::Prepares { import } => vec!["prepare".into(), image(import)],
            Effect::Runs { import } => vec!["run".into(), "--net=none".into(), uuid_file, image(import)],
            Effect::RunsPrepared => {
                vec!["run-prepared".into(), "--net=none".into(), objects.prepared.clone()]
            }
            Effect::RemovesPod => vec!["rm".into(), objects.exited.clone()],
            Effect::CollectsPods => vec!["gc".into(), "--grace-period=0s".into()],
            Effect::RemovesImage => vec!["image".into(), "rm".into(), objects.other.clone()],
            Effect::CollectsImages => vec!["image".into(), "gc".into(), "--grace-period=0s".into()],
        };
        words
    }
}

/// What is in a data directory in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects {
    /// An image with pods.
    pub(crate) hello: String,
    /// An image without pods.
    pub(crate) other: String,
    /// A prepared pod that `run-prepared` takes.
    pub(crate) prepared: String,
    /// A prepared pod that nobody touches.
    pub(crate) waiting: String,
    /// An exited pod.
    pub(crate) exited: String,
    /// A pod that gc has marked.
    pub(crate) marked: String,
}

/// Fills the data directory.
pub(crate) fn fill(start: Start) -> Objects {
    if start == Start::Nothing {
        return Objects::default();
    }
    let prepare = |image: &str| said(&["prepare", image]);
    let hello = said(&["fetch", "--full", &image("hello").display().to_string()]);
    let other = said(&["fetch", "--full", &image("other").display().to_string()]);
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
    if start == Start::WithoutTrees {
        let trees = Disk::data().join("cas/tree");
        for tree in fs::read_dir(trees).expect("the directory of trees").flatten() {
            fs::remove_dir_all(tree.path()).expect("a directory of ours");
        }
    }
    Objects { hello, other, prepared, waiting, exited, marked }
}

/// The image that is not in the store.
pub(crate) fn new_image() -> PathBuf {
    image("new")
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
            crate::tar::manifest(&format!("example.com/{name}")).replace("/bin/true", "/app/hello");
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
    command.arg("--insecure-options=image").arg(format!("--dir={}", Disk::data().display()));
    command.args(args).stdin(Stdio::null()).current_dir(HOME);
    command
}

/// Runs `rkt`, which must succeed, and returns the last line of its output.
fn said(args: &[&str]) -> String {
    let output = rkt(args).output().expect("the binary under test");
    assert!(output.status.success(), "rkt {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}
