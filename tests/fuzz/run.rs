//! The loop: replays a target's corpus, then changes its inputs until the time is over, and keeps what it finds.
//!
//! An input whose answer is of a new kind (a message never seen, apart from what it quotes) is changed further: so the
//! loop gets behind one check after another without knowing the code. Those of a long run are kept below the target
//! directory, and the next one begins with them.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::mutate::Rng;

/// How much is done to an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// All checks.
    Full,
    /// The slow ones for a sample of the inputs only.
    Sampled,
}

/// Code that reads what strangers write, and what must be true of it.
pub(crate) trait Target {
    /// The name of its corpus.
    const NAME: &'static str;

    /// Gives the code an input. Returns its answer in words, or what should not be.
    fn check(&mut self, input: &[u8], effort: Effort) -> Result<String, String>;

    /// Makes an input of one or two others.
    fn mutate(&self, rng: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8>;
}

/// How long each target takes in a plain `cargo test`.
const MOMENT: Duration = Duration::from_millis(500);
/// Inputs are cut at this size.
const LONGEST: usize = 128 << 10;
/// Time of this process that an input may take, and of the clock on the wall when it is surely stuck.
const SLOW: Duration = Duration::from_secs(2);
const STUCK: Duration = Duration::from_secs(90);
/// Memory that the whole process may take at most, in KiB.
const MEMORY_KIB: u64 = 1 << 20;
/// How many inputs are run between two looks at the memory.
const BATCH: usize = 256;
/// After so many kinds of findings a run ends.
const MOST_FINDINGS: usize = 20;
const MOST_KEPT: usize = 4000;

/// Where the corpus of a target is.
fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the corpus is readable").path()).collect();
    paths.sort();
    paths.into_iter().flat_map(inputs).collect()
}

/// The inputs in a file: the whole of it, or of a file `*.lines` each line.
fn inputs(path: PathBuf) -> Vec<(PathBuf, Vec<u8>)> {
    let bytes = std::fs::read(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    if path.extension().is_some_and(|ending| ending == "lines") {
        let lines = bytes.split(|byte| *byte == b'\n').enumerate();
        lines.map(|(index, line)| (path.join((index + 1).to_string()), line.to_vec())).collect()
    } else {
        vec![(path, bytes)]
    }
}

/// Runs a target for `FUZZ_SECONDS`, or for a moment.
pub(crate) fn run<T: Target>(target: T) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(T::NAME);
    let mut run = Run::new(target);
    let seeds = files(&corpus(T::NAME));
    assert!(!seeds.is_empty(), "{} is empty", corpus(T::NAME).display());
    for (path, input) in &seeds {
        run.replay(&path.display().to_string(), input);
    }
    if seconds.is_some() {
        for (_, input) in files(&kept) {
            run.attempt(input, Effort::Full);
        }
    }
    run.until(Instant::now() + seconds.map_or(MOMENT, Duration::from_secs));
    if seconds.is_some() {
        run.keep(&kept);
    }
    run.conclude();
}

/// What is being run and since when, for the watchdog.
type Current = Arc<Mutex<Option<(Instant, Vec<u8>)>>>;

struct Run<T> {
    target: T,
    rng: Rng,
    pool: Vec<Vec<u8>>,
    seeds: usize,
    kinds: HashSet<String>,
    found: HashSet<String>,
    batch: Vec<Vec<u8>>,
    cases: u64,
    started: Instant,
    current: Current,
    /// The watchdog ends when this is dropped.
    _alive: Sender<()>,
}

impl<T: Target> Run<T> {
    fn new(target: T) -> Self {
        quieten_panics();
        let current = Arc::new(Mutex::new(None));
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        Self {
            target,
            rng: Rng::new(u64::try_from(seed & u128::from(u64::MAX)).expect("64 bits")),
            pool: Vec::new(),
            seeds: 0,
            kinds: HashSet::new(),
            found: HashSet::new(),
            batch: Vec::new(),
            cases: 0,
            started: Instant::now(),
            _alive: watch(T::NAME, Arc::clone(&current)),
            current,
        }
    }

    /// Runs an input of the corpus, of which nothing may be wrong any more.
    fn replay(&mut self, name: &str, input: &[u8]) {
        match self.judge(input, Effort::Full) {
            Ok(answer) => drop(self.kinds.insert(kind(&answer))),
            Err(problem) => {
                println!("{}: FINDING in {name}: {problem}", T::NAME);
                self.found.insert(kind(&problem));
            }
        }
        self.pool.push(input.to_vec());
        self.seeds = self.pool.len();
    }

    fn until(&mut self, end: Instant) {
        while Instant::now() < end && self.found.len() < MOST_FINDINGS {
            // Half of the time what people thought of, half of the time what came of it.
            let of = if self.rng.one_in(2) { self.seeds } else { self.pool.len() };
            let (first, second) = (self.rng.below(of), self.rng.below(self.pool.len()));
            let mut input = self.target.mutate(&mut self.rng, &self.pool[first], &self.pool[second]);
            input.truncate(LONGEST);
            self.attempt(input, Effort::Sampled);
            if self.batch.len() >= BATCH {
                self.weigh();
            }
        }
    }

    fn attempt(&mut self, input: Vec<u8>, effort: Effort) {
        self.cases += 1;
        match self.judge(&input, effort) {
            Ok(answer) => {
                if self.kinds.len() < MOST_KEPT && self.kinds.insert(kind(&answer)) {
                    self.pool.push(input.clone());
                }
            }
            Err(problem) => self.report(&input, &problem),
        }
        self.batch.push(input);
    }

    fn judge(&mut self, input: &[u8], effort: Effort) -> Result<String, String> {
        let begin = Instant::now();
        *self.current.lock().expect("no panic while it is held") = Some((begin, input.to_vec()));
        let answer = self.call(input, effort);
        *self.current.lock().expect("no panic while it is held") = None;
        if begin.elapsed() > SLOW {
            // The machine may be busy with something else; what this thread has taken counts.
            let before = thread_time();
            let answer = self.call(input, effort);
            let taken = thread_time().saturating_sub(before);
            return if taken > SLOW { Err(format!("it takes {taken:?}")) } else { answer };
        }
        answer
    }

    fn call(&mut self, input: &[u8], effort: Effort) -> Result<String, String> {
        LISTENING.set(true);
        let answer = catch_unwind(AssertUnwindSafe(|| self.target.check(input, effort)));
        LISTENING.set(false);
        answer.unwrap_or_else(|_| Err(format!("panic: {}", LAST_PANIC.take())))
    }

    /// Looks at the memory that was taken at most, and when it was too much for the input that took it.
    fn weigh(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if peak_kib() <= MEMORY_KIB {
            return;
        }
        for input in batch {
            std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be forgotten");
            // An answer was looked at before.
            let _ = self.judge(&input, Effort::Full);
            let peak = peak_kib();
            if peak > MEMORY_KIB {
                self.report(&input, &format!("the process grows to {peak} KiB"));
            }
        }
        std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be forgotten");
    }

    fn report(&mut self, input: &[u8], problem: &str) {
        if !self.found.insert(kind(problem)) {
            return;
        }
        let small = self.minimise(input, problem);
        let path = write(&corpus(T::NAME), "found", &small);
        println!("{}: FINDING: {problem}", T::NAME);
        println!("{}: input, kept in {}:", T::NAME, path.display());
        println!("{}", small.escape_ascii());
    }

    /// Takes pieces away as long as the same is wrong.
    fn minimise(&mut self, input: &[u8], problem: &str) -> Vec<u8> {
        let (wanted, mut small) = (kind(problem), input.to_vec());
        let end = Instant::now() + Duration::from_secs(10);
        // Powers of two, for what comes in blocks.
        let mut size = small.len().next_power_of_two() / 2;
        while size > 0 && Instant::now() < end {
            let mut start = 0;
            while start < small.len() && Instant::now() < end {
                let mut less = small.clone();
                less.drain(start..(start + size).min(small.len()));
                match self.judge(&less, Effort::Full) {
                    Err(problem) if kind(&problem) == wanted => small = less,
                    Ok(_) | Err(_) => start += size,
                }
            }
            size /= 2;
        }
        small
    }

    fn keep(&self, dir: &Path) {
        std::fs::create_dir_all(dir).expect("a directory for what is kept");
        for input in &self.pool[self.seeds..] {
            write(dir, "kept", input);
        }
    }

    fn conclude(self) {
        println!(
            "{}: {} cases in {:.1} s, {} kinds of answers, {} findings",
            T::NAME,
            self.cases,
            self.started.elapsed().as_secs_f64(),
            self.kinds.len(),
            self.found.len()
        );
        assert!(self.found.is_empty(), "{}: findings: {:#?}", T::NAME, self.found);
    }
}

/// Writes an input to a file that has its name of the content.
fn write(dir: &Path, what: &str, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = dir.join(format!("{what}-{:016x}", hasher.finish()));
    std::fs::write(&path, input).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    path
}

/// The first line of an answer without what it quotes and without numbers.
fn kind(answer: &str) -> String {
    let answer = answer.lines().next().unwrap_or_default();
    let mut kind = String::new();
    let mut is_quoted = false;
    let mut is_escaped = false;
    for c in answer.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted || c.is_ascii_digit() => {}
            _ => kind.push(c),
        }
    }
    kind.truncate(kind.char_indices().nth(300).map_or(kind.len(), |(end, _)| end));
    kind
}

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic of code that is looked at is a finding and told as such.
fn quieten_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if LISTENING.get() {
                LAST_PANIC.set(panic.to_string());
            } else {
                usual(panic);
            }
        }));
    });
}

/// Ends the process when an input is stuck, after keeping it.
fn watch(name: &'static str, current: Current) -> Sender<()> {
    let (alive, ends) = channel();
    std::thread::spawn(move || {
        while ends.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            let running = current.lock().expect("no panic while it is held").clone();
            if let Some((since, input)) = running
                && since.elapsed() > STUCK
            {
                let path = write(&corpus(name), "stuck", &input);
                println!(
                    "{name}: FINDING: no answer after {STUCK:?}; the input is kept in {}",
                    path.display()
                );
                std::process::abort();
            }
        }
    });
    alive
}

/// The time that this thread has been running (Documentation/scheduler/sched-stats.rst).
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the kernel counts the time of threads"))
}

/// The most memory that this process has had (proc_pid_status(5), VmHWM).
fn peak_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
