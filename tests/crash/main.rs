//! The crash-point loop: each command of rkt, ended at each of its calls that change something, and the promises checked.
//!
//! `tests/crash/run RELEASE [OPTION…] [VERB…]` brings it into a lab. A verb is run once undisturbed, and its state-changing
//! system calls are counted; then once for each of them, on a fresh copy of a data directory in use. At its call it is
//!
//! * killed (`kill`),
//! * refused the call with ENOSPC or EIO (`refuse`),
//! * cut off from its power, three times: with all lost that was not synced (`cut-2`, as FS_IOC_SHUTDOWN numbers it), with
//!   the bytes lost but not the names (`cut-1`), with nothing lost (`cut-0`). No pods run then: the machine would be gone.
//!
//! After that the oracle asks rkt, systemd and the kernel. The self-check comes first: programs that write in the wrong
//! order, sync nothing, or leave a mount behind must be found out, or the loop proves nothing.

#![allow(clippy::print_stdout, reason = "the report is what this program is for")]

mod calls;
mod disk;
mod host;
mod oracle;
mod site;
#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "commands are run here under ptrace(2), or by the oracle")]
mod support;
mod trace;
mod verb;
mod wrong;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use rustix::io::Errno;

use disk::{Disk, HOME, Loss, Medium};
use host::HostState;
use oracle::{Oracle, Outcome};
use trace::{Blow, Span, Traced};
use verb::{Effect, Start, VERBS, Verb};

const USAGE: &str =
    "usage: crash HELLO [--from N] [--only kill|refuse|cut|cut-2|cut-1|cut-0] [--every N] [VERB…] …
HELLO is a static program that says `Hello, world!`; --every N tries each N-th call only of the verbs that follow it.";

/// How the calls of a verb are disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Kill,
    Refuse,
    Cut(Loss),
}

impl Mode {
    const ALL: [Self; 5] = [
        Self::Kill,
        Self::Refuse,
        Self::Cut(Loss::Unsynced),
        Self::Cut(Loss::Bytes),
        Self::Cut(Loss::Nothing),
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Refuse => "refuse",
            Self::Cut(Loss::Unsynced) => "cut-2",
            Self::Cut(Loss::Bytes) => "cut-1",
            Self::Cut(Loss::Nothing) => "cut-0",
        }
    }

    /// Whether `word` asks for it.
    fn is_meant_by(self, word: &str) -> bool {
        word == self.word() || (word == "cut" && matches!(self, Self::Cut(_)))
    }

    fn medium(self) -> Medium {
        match self {
            Self::Kill | Self::Refuse => Medium::Memory,
            Self::Cut(_) => Medium::Disk,
        }
    }

    /// Whether it makes sense for a verb.
    fn fits(self, verb: &Verb) -> bool {
        let runs = matches!(verb.effect, Effect::Runs { .. } | Effect::RunsPrepared);
        match self {
            Self::Kill => true,
            // What systemd-nspawn does with an error is its own business.
            Self::Refuse => verb.span == Span::UntilExec,
            Self::Cut(_) => !runs,
        }
    }
}

/// What the command line asks for.
struct Wanted {
    hello: PathBuf,
    from: usize,
    modes: Vec<Mode>,
    /// Which, and each how manieth call of it.
    verbs: Vec<(&'static Verb, usize)>,
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
    site::open();
    let mut bench = Bench::new();
    let (mut good, mut failed) = wrong::self_check(&mut bench, &wanted.modes);
    println!("{:<19} {:<7} {:>6} {:>5} {:>8}", "verb", "mode", "points", "bad", "seconds");
    for (verb, every) in &wanted.verbs {
        for mode in wanted.modes.iter().filter(|mode| mode.fits(verb)) {
            match report(&mut bench, verb, *mode, (wanted.from, *every)) {
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
    let mut wanted =
        Wanted { hello: args.next()?.into(), from: 1, modes: Mode::ALL.to_vec(), verbs: Vec::new() };
    let mut every = 1;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--every" => every = args.next()?.parse().ok().filter(|every| *every > 0)?,
            "--from" => wanted.from = args.next()?.parse().ok().filter(|from| *from > 0)?,
            "--only" => {
                let word = args.next()?;
                wanted.modes.retain(|mode| mode.is_meant_by(word));
                if wanted.modes.is_empty() {
                    return None;
                }
            }
            name => wanted.verbs.push((VERBS.iter().find(|verb| verb.name == name)?, every)),
        }
    }
    if wanted.verbs.is_empty() {
        wanted.verbs = VERBS.iter().map(|verb| (verb, every)).collect();
    }
    Some(wanted)
}

/// Where verbs are tried: the host as it was, and the data directory that the last one met.
pub(crate) struct Bench {
    host: HostState,
    template: Template,
}

/// A data directory, with what it is put back to.
struct Template {
    medium: Medium,
    start: Start,
    disk: Disk,
    objects: verb::Objects,
}

impl Template {
    fn new(medium: Medium, start: Start) -> Self {
        let (disk, objects) = Disk::with_template(medium, || verb::fill(start));
        Self { medium, start, disk, objects }
    }
}

impl Bench {
    fn new() -> Self {
        // The first pod of a host makes machine.slice, which stays.
        let template = Template::new(Medium::Memory, Start::InUse);
        // The first one on a network makes the directory of leases and that of namespaces, as ip-netns(8) does.
        fs::create_dir_all("/var/lib/cni").expect("a directory");
        for verb in ["add", "delete"] {
            let done = Command::new("ip").args(["netns", verb, "crash"]).status();
            assert!(done.is_ok_and(|status| status.success()), "ip netns {verb}");
        }
        Self { host: HostState::now(), template }
    }

    /// Makes the data directory that a verb meets, unless it is that of the last one.
    fn set_up(&mut self, medium: Medium, start: Start) {
        if (self.template.medium, self.template.start) != (medium, start) {
            self.template = Template::new(medium, start);
        }
    }
}

/// Tries all points of a verb and tells of them; returns how many were bad.
fn report(bench: &mut Bench, verb: &Verb, mode: Mode, which: (usize, usize)) -> usize {
    let begin = Instant::now();
    let tried = try_all(bench, verb, mode, which);
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{:<19} {:<7} {:>6} {:>5} {seconds:>8.1}",
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
fn try_all(bench: &mut Bench, verb: &Verb, mode: Mode, (from, every): (usize, usize)) -> Tried {
    bench.set_up(mode.medium(), verb.start);
    let Template { disk, objects, .. } = &bench.template;
    disk.restore();
    let mut oracle = Oracle::new(verb, objects, &bench.host);
    let (undisturbed, outcome) = attempt(verb, objects, disk, None);
    oracle.learn();
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
            let (traced, outcome) = attempt(verb, objects, disk, Some((number, blow)));
            // Threads may come in another order than last time.
            let call = traced.calls.get(number - 1).unwrap_or(&calls[number - 1]);
            tried.points += 1;
            judge(format!("call {number} of {}, {blow:?}: {call}", calls.len()), &outcome);
        }
    }
    if let Mode::Cut(loss) = mode {
        disk.restore();
        let (_, outcome) = attempt(verb, objects, disk, Some((usize::MAX, Blow::PowerCut(loss))));
        tried.points += 1;
        judge("the end: the power was cut when the command had ended".to_owned(), &outcome);
    }
    disk.clear();
    tried
}

fn blows(mode: Mode, call: &calls::Call) -> Vec<Blow> {
    match mode {
        Mode::Kill => vec![Blow::Kill],
        Mode::Cut(loss) => vec![Blow::PowerCut(loss)],
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
    verb::join(verb.start, objects);
    let said = |name: &str| Path::new(HOME).join(name);
    let mut command = command(verb, objects);
    command.stdout(File::create(said("stdout")).expect("a file"));
    command.stderr(File::create(said("stderr")).expect("a file"));
    let _gone = fs::remove_file(verb::uuid_file());
    let mut loss = match blow {
        Some((_, Blow::PowerCut(loss))) => Some(loss),
        _ => None,
    };
    let is_cut = loss.is_some();
    let mut cut = || loss.take().into_iter().for_each(|loss| disk.cut_power(loss));
    let traced = trace::run(command, verb.span, blow, &mut cut);
    if is_cut {
        // If the command ended before that call.
        cut();
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
