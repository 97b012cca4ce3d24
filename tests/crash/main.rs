//! The crash-point loop: each command of rkt, ended at each of its calls that change something, and the promises checked.
//!
//! `tests/crash/run RELEASE [OPTION…] [VERB…]` brings it into a lab. A verb is run once undisturbed, and its state-changing
//! system calls are counted; then once for each of them, on a fresh copy of a data directory in use. At its call it is
//!
//! * killed (`kill`),
//! * refused the call with ENOSPC or EIO (`refuse`),
//! * cut off from its power, with all that was not synced lost (`cut`; no pods run then: the machine would be gone).
//!
//! After that the oracle asks rkt, systemd and the kernel. The self-check comes first: programs that write in the wrong
//! order, sync nothing, or leave a mount behind must be found out, or the loop proves nothing.

#![allow(clippy::print_stdout, reason = "the report is what this program is for")]

mod calls;
mod disk;
mod host;
mod oracle;
#[path = "../support/tar.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, of which none uses all of it")]
mod tar;
mod trace;
mod verb;
mod wrong;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use rustix::io::Errno;

use disk::{Disk, HOME, Medium};
use host::HostState;
use oracle::{Oracle, Outcome};
use trace::{Blow, Span, Traced};
use verb::{Effect, VERBS, Verb};

const USAGE: &str = "usage: crash HELLO [--every N] [--from N] [--only kill|refuse|cut] [VERB…]
HELLO is a static program that says `Hello, world!`; --every N tries each N-th call only.";

/// How the calls of a verb are disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Kill,
    Refuse,
    Cut,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Kill, Self::Refuse, Self::Cut];

    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Refuse => "refuse",
            Self::Cut => "cut",
        }
    }

    fn medium(self) -> Medium {
        match self {
            Self::Kill | Self::Refuse => Medium::Memory,
            Self::Cut => Medium::Disk,
        }
    }

    /// Whether it makes sense for a verb.
    fn fits(self, verb: &Verb) -> bool {
        let runs = matches!(verb.effect, Effect::Runs { .. } | Effect::RunsPrepared);
        match self {
            Self::Kill => true,
            // What systemd-nspawn does with an error is its own business.
            Self::Refuse => verb.span == Span::UntilExec,
            Self::Cut => !runs,
        }
    }
}

/// What the command line asks for.
struct Wanted {
    hello: PathBuf,
    every: usize,
    from: usize,
    modes: Vec<Mode>,
    verbs: Vec<&'static Verb>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name] = args.as_slice()
        && first == wrong::FLAG
    {
        wrong::run(name);
        return ExitCode::SUCCESS;
    }
    let Some(wanted) = wanted(&args) else {
        println!("{USAGE}\nverbs: {}", VERBS.iter().map(|verb| verb.name).collect::<Vec<_>>().join(" "));
        return ExitCode::from(2);
    };
    Disk::enter();
    verb::write_images(&wanted.hello);
    // The first pod of a host makes machine.slice, which stays.
    let (disk, _) = Disk::with_template(Medium::Memory, || verb::fill(verb::Start::InUse));
    drop(disk);
    let host = HostState::now();
    let (mut good, mut failed) = wrong::self_check(&host, &wanted.modes);
    println!("{:<14} {:<7} {:>6} {:>5} {:>8}", "verb", "mode", "points", "bad", "seconds");
    for verb in &wanted.verbs {
        for mode in wanted.modes.iter().filter(|mode| mode.fits(verb)) {
            match report(verb, *mode, &wanted, &host) {
                0 => good += 1,
                _ => failed += 1,
            }
        }
    }
    Disk::leave();
    // As the tests of cargo end, each verb in each mode being one.
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {good} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn wanted(args: &[String]) -> Option<Wanted> {
    let mut args = args.iter();
    let mut wanted = Wanted {
        hello: args.next()?.into(),
        every: 1,
        from: 1,
        modes: Mode::ALL.to_vec(),
        verbs: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--every" => wanted.every = args.next()?.parse().ok().filter(|every| *every > 0)?,
            "--from" => wanted.from = args.next()?.parse().ok().filter(|from| *from > 0)?,
            "--only" => {
                let word = args.next()?;
                wanted.modes = vec![Mode::ALL.into_iter().find(|mode| mode.word() == word)?];
            }
            name => wanted.verbs.push(VERBS.iter().find(|verb| verb.name == name)?),
        }
    }
    if wanted.verbs.is_empty() {
        wanted.verbs = VERBS.iter().collect();
    }
    Some(wanted)
}

/// Tries all points of a verb and tells of them; returns how many were bad.
fn report(verb: &Verb, mode: Mode, wanted: &Wanted, host: &HostState) -> usize {
    let begin = Instant::now();
    let tried = try_all(verb, mode, wanted.from, wanted.every, host);
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{:<14} {:<7} {:>6} {:>5} {seconds:>8.1}",
        verb.name,
        mode.word(),
        tried.points,
        tried.bad.len()
    );
    let mut told = BTreeSet::new();
    for bad in &tried.bad {
        println!("  at {}:", bad.at);
        for violation in &bad.violations {
            // What is broken at many points is told once in full.
            let first = told.insert(without_ids(violation));
            let text = if first {
                violation.replace('\n', "\n    ")
            } else {
                format!("{:.60}… as above", violation)
            };
            println!("    {text}");
        }
    }
    tried.bad.len()
}

/// A text without what is different each time.
fn without_ids(text: &str) -> String {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() < 8 || !word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The points of a verb that were tried.
pub(crate) struct Tried {
    /// How many.
    pub(crate) points: usize,
    /// Those at which a promise was broken.
    pub(crate) bad: Vec<BadPoint>,
}

/// A point at which a promise was broken.
pub(crate) struct BadPoint {
    at: String,
    /// What the oracle says.
    pub(crate) violations: Vec<String>,
}

/// Tries the points `from`, `from + every`, … of a verb.
fn try_all(verb: &Verb, mode: Mode, from: usize, every: usize, host: &HostState) -> Tried {
    let (disk, objects) = Disk::with_template(mode.medium(), || verb::fill(verb.start));
    disk.restore();
    let mut oracle = Oracle::new(verb, &objects, host);
    let (undisturbed, outcome) = attempt(verb, &objects, &disk, None);
    oracle.learn_trees();
    let calls = undisturbed.calls;
    let mut tried = Tried { points: 1, bad: Vec::new() };
    let mut judge = |at: String, outcome: &Outcome| {
        let violations = oracle.violations(outcome);
        if !violations.is_empty() {
            tried.bad.push(BadPoint { at, violations });
        }
    };
    judge("no call: undisturbed".to_owned(), &outcome);
    for number in (from..=calls.len()).step_by(every) {
        for blow in blows(mode, &calls[number - 1]) {
            disk.restore();
            let (traced, outcome) = attempt(verb, &objects, &disk, Some((number, blow)));
            // Threads may come in another order than last time.
            let call = traced.calls.get(number - 1).unwrap_or(&calls[number - 1]);
            tried.points += 1;
            judge(format!("call {number} of {}, {blow:?}: {call}", calls.len()), &outcome);
        }
    }
    if mode == Mode::Cut {
        disk.restore();
        let (_, outcome) = attempt(verb, &objects, &disk, Some((usize::MAX, Blow::PowerCut)));
        tried.points += 1;
        judge("the end: the power was cut when the command had ended".to_owned(), &outcome);
    }
    disk.clear();
    tried
}

fn blows(mode: Mode, call: &calls::Call) -> Vec<Blow> {
    match mode {
        Mode::Kill => vec![Blow::Kill],
        Mode::Cut => vec![Blow::PowerCut],
        Mode::Refuse if call.takes_space => vec![Blow::Refuse(Errno::NOSPC), Blow::Refuse(Errno::IO)],
        Mode::Refuse => vec![Blow::Refuse(Errno::IO)],
    }
}

/// Runs the verb on the restored disk.
fn attempt(
    verb: &Verb,
    objects: &verb::Objects,
    disk: &Disk,
    blow: Option<(usize, Blow)>,
) -> (Traced, Outcome) {
    let said = |name: &str| Path::new(HOME).join(name);
    let mut command = command(verb, objects);
    command.stdout(File::create(said("stdout")).expect("a file"));
    command.stderr(File::create(said("stderr")).expect("a file"));
    let _gone = fs::remove_file(verb::uuid_file());
    let mut is_cut = false;
    let traced = trace::run(command, verb.span, blow, || {
        disk.cut_power();
        is_cut = true;
    });
    if let Some((_, Blow::PowerCut)) = blow {
        if !is_cut {
            disk.cut_power();
        }
        disk.restart();
    }
    let read = |name: &str| String::from_utf8_lossy(&fs::read(said(name)).expect("a file")).into_owned();
    let outcome = Outcome {
        blow: blow.map(|(_, blow)| blow),
        end: traced.end,
        stdout: read("stdout"),
        stderr: read("stderr"),
    };
    (traced, outcome)
}

fn command(verb: &Verb, objects: &verb::Objects) -> Command {
    if wrong::is_wrong(verb) {
        return wrong::command(verb);
    }
    verb::rkt(&verb.args(objects))
}
