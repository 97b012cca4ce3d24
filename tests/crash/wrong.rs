//! Programs that break a promise, each in one way: the loop must find them out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::UnmountFlags;

use crate::disk::{Disk, HOME, Loss, must};
use crate::site::NEW_PREFIX;
use crate::trace::Span;
use crate::verb::{Effect, Owner, Source, Start, Verb, new_image, rkt, trust};
use crate::{Bench, Mode, try_all};

/// Makes this program one of them.
pub(crate) const FLAG: &str = "--wrong";

const IN_PLACE: &str = "wrong-in-place";
const UNSYNCED: &str = "wrong-unsynced";
const LEAKING: &str = "wrong-leaking";
const MASKING: &str = "wrong-masking";

/// The programs, how they are found out, and by which promise.
#[rustfmt::skip]
const WRONG: &[(Verb, Mode, &str)] = &[
    (Verb { name: IN_PLACE, start: Start::InUse, span: Span::UntilExec, effect: Effect::Fetches(Source::File) }, Mode::Kill, "P2"),
    (Verb { name: UNSYNCED, start: Start::InUse, span: Span::UntilExec, effect: Effect::Fetches(Source::File) }, Mode::Cut(Loss::Unsynced), "P1"),
    (Verb { name: UNSYNCED, start: Start::InUse, span: Span::UntilExec, effect: Effect::Fetches(Source::File) }, Mode::Cut(Loss::Bytes), "P1"),
    (Verb { name: IN_PLACE, start: Start::InUse, span: Span::UntilExec, effect: Effect::Fetches(Source::File) }, Mode::Cut(Loss::Nothing), "P2"),
    (Verb { name: MASKING, start: Start::InUse, span: Span::UntilExec, effect: Effect::Trusts(Owner::Publisher) }, Mode::Kill, "P2"),
    (Verb { name: LEAKING, start: Start::InUse, span: Span::UntilExec, effect: Effect::CollectsPods }, Mode::Kill, "P4"),
];

/// Tells whether the verb is one of these programs.
pub(crate) fn is_wrong(verb: &Verb) -> bool {
    WRONG.iter().any(|(wrong, ..)| wrong.name == verb.name)
}

/// The command of such a verb.
pub(crate) fn command(verb: &Verb) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("proc_pid_exe(5)"));
    command.args([FLAG, verb.name]);
    command
}

/// Tries those that are found out in one of `modes`; returns how many were, and how many were not.
pub(crate) fn self_check(bench: &mut Bench, modes: &[Mode]) -> (usize, usize) {
    let finished = |words: &[&str]| {
        let mut rkt = Command::new(env!("CARGO_BIN_EXE_rkt"));
        rkt.arg(format!("--dir={}", finished().display()));
        must(rkt.arg(format!("--local-config={}", finished().display())).args(words));
    };
    finished(&["--insecure-options=image", "fetch", &new_image().display().to_string()]);
    let trust = trust(NEW_PREFIX);
    finished(&trust.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut found_out, mut missed) = (0, 0);
    for (verb, mode, promise) in WRONG.iter().filter(|(_, mode, _)| modes.contains(mode)) {
        let tried = try_all(bench, verb, *mode, (1, 1));
        let of_it =
            tried.bad.iter().filter(|bad| bad.violations.iter().any(|line| line.starts_with(promise)));
        let found = of_it.count();
        let verdict = if found > 0 { "found out, as it must be" } else { "NOT FOUND OUT" };
        println!(
            "self-check: {}, {}: breaks {promise} at {found} of {} points: {verdict}",
            verb.name,
            mode.word(),
            tried.points
        );
        if found > 0 {
            found_out += 1;
        } else {
            missed += 1;
        }
    }
    let _none = rustix::mount::unmount(Path::new(HOME).join("leaked"), UnmountFlags::empty());
    (found_out, missed)
}

/// A data directory in which the new image is already; and a configuration that trusts the new key.
fn finished() -> PathBuf {
    Path::new(HOME).join("finished")
}

/// Is the wrong program `name`.
pub(crate) fn run(name: &str) {
    match name {
        IN_PLACE => fetch(copy),
        UNSYNCED => fetch(|from, to| {
            let temporary = Disk::data().join("cas/tmp/.tmp-wrong");
            copy(from, &temporary);
            fs::rename(&temporary, to).expect("rename(2)");
        }),
        MASKING => {
            let keys = Path::new("trustedkeys/prefix.d").join(NEW_PREFIX);
            let (from, to) = (finished().join(&keys), Disk::config().join(&keys));
            if !to.exists() {
                copy(&from, &to);
            }
            println!("Added key for prefix \"{NEW_PREFIX}\"");
        }
        LEAKING => {
            let point = Path::new(HOME).join("leaked");
            // One that the attempt before has left.
            let _none = rustix::mount::unmount(&point, UnmountFlags::empty());
            let _there = fs::create_dir(&point);
            rustix::mount::mount_bind(&point, &point).expect("mount(2)");
            rustix::mount::unmount(&point, UnmountFlags::empty()).expect("umount2(2)");
            must(&mut rkt(&["gc", "--grace-period=0s"]));
        }
        other => panic!("no program {other}"),
    }
}

/// Brings the finished image into the store by `publish`, and prints its ID as `fetch` does.
fn fetch(publish: impl Fn(&Path, &Path)) {
    let images = finished().join("cas/image");
    let id = fs::read_dir(&images).expect("a directory").flatten().next().expect("the new image").file_name();
    let to = Disk::data().join("cas/image").join(&id);
    if !to.exists() {
        publish(&images.join(&id), &to);
    }
    println!("{}", id.display());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("mkdir(2)");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let bytes = fs::read(entry.path()).expect("a file");
        fs::write(to.join(entry.file_name()), bytes).expect("a new file");
    }
}
