//! Waiting with a deadline. A wait that is not answered panics, and prints what it saw last.

use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

/// How long a test waits for what should happen at once, on a loaded machine.
pub(crate) fn patience() -> Duration {
    const PATIENCE: Duration = Duration::from_secs(30);
    PATIENCE * slowness()
}

/// How many times slower than a machine this one is; an emulated one says it in its environment.
pub(crate) fn slowness() -> u32 {
    let said = std::env::var("RKT_TEST_SLOWNESS").ok();
    said.map_or(1, |text| text.parse().expect("a whole number in RKT_TEST_SLOWNESS"))
}

/// A moment after which waiting ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The moment `patience` from now.
    pub(crate) fn after(patience: Duration) -> Self {
        Self(Instant::now() + patience)
    }

    /// What is left of the time, zero after the end.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether the moment has come.
    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}

/// Waits until `fd` can be read without blocking (a pidfd: until the process has ended); `false` when `patience` ends.
pub(crate) fn readable(fd: impl AsFd, patience: Duration) -> bool {
    any_readable(&[fd.as_fd()], patience)[0]
}

/// Waits until one of `fds` can be read or has been closed by the other side, and tells which.
pub(crate) fn any_readable(fds: &[BorrowedFd<'_>], patience: Duration) -> Vec<bool> {
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(cause) => panic!("poll(2): {cause}"),
    }
    polled.iter().map(|fd| !fd.revents().is_empty()).collect()
}

/// Waits until `path` exists. The directory in which it appears must exist.
pub(crate) fn for_path(path: &Path) {
    let parent = path.parent().expect("a path below a directory");
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .expect("inotify_init1(2)");
    inotify::add_watch(&watch, parent, inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)
        .unwrap_or_else(|cause| panic!("watching {}: {cause}", parent.display()));
    let patience = patience();
    let deadline = Deadline::after(patience);
    // The watch stands before the first look: nothing can appear unseen between the two.
    while !path.exists() {
        assert!(!deadline.is_over(), "{} did not appear within {patience:?}", path.display());
        if readable(&watch, deadline.left()) {
            drain(&watch);
        }
    }
}

fn drain(watch: impl AsFd) {
    let mut buffer = [0; 4096];
    while rustix::io::read(&watch, &mut buffer).is_ok_and(|length| length > 0) {}
}

/// Asks `probe` until it gives `Ok`, for states that can only be asked for; its `Err` is the state that a missed deadline
/// prints. Prefer an event where there is one: the end of a process, a path, a job that systemd reports.
pub(crate) fn until<T, S: Debug>(what: &str, mut probe: impl FnMut() -> Result<T, S>) -> T {
    let patience = patience();
    let deadline = Deadline::after(patience);
    let mut pause = Duration::from_millis(2);
    loop {
        match probe() {
            Ok(value) => return value,
            Err(state) if deadline.is_over() => {
                panic!("not within {patience:?}: {what}; last seen: {state:#?}")
            }
            Err(_) => {
                any_readable(&[], pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        }
    }
}
