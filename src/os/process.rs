//! Processes told apart for good: a pid alone may be a stranger's by now, a pid with its start time is not.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::SysError;

/// A process by pid and start time (proc_pid_stat(5), field 22, in clock ticks since boot).
///
/// Its text form is `PID START`, as the `ppid` file of a pod holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId {
    pid: i32,
    start_ticks: u64,
}

impl ProcessId {
    /// This process.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn own() -> Result<Self, SysError> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let path = stat_path(pid);
        let stat = std::fs::read_to_string(&path).map_err(SysError::on("reading", &path))?;
        let start_ticks = start_ticks(&stat).ok_or_else(|| {
            SysError::new(
                "reading",
                &path,
                std::io::Error::new(std::io::ErrorKind::InvalidData, "no start time"),
            )
        })?;
        Ok(Self { pid, start_ticks })
    }

    /// The number alone, for display.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Tells whether this very process still runs.
    pub fn is_alive(self) -> bool {
        find_start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Returns the first child, which for a supervisor is the pod's init.
    pub fn find_first_child(self) -> Option<Self> {
        let pid = self.pid;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let child = children.split_ascii_whitespace().next()?.parse().ok()?;
        let found = Self { pid: child, start_ticks: find_start_ticks(child)? };
        self.is_alive().then_some(found)
    }

    /// Tells whether this is the first process of a PID namespace below the caller's (proc_pid_status(5), `NSpid`).
    pub fn is_init(self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let mut numbers = numbers.unwrap_or_default().split_ascii_whitespace();
        numbers.next().is_some() && numbers.next_back() == Some("1") && self.is_alive()
    }

    /// Sends `signal` to this process and to no later one of the same number.
    ///
    /// Returns false when it is gone already.
    ///
    /// # Errors
    /// When the caller may not signal it.
    pub fn signal(self, signal: Signal) -> Result<bool, SysError> {
        let Some(pidfd) = self.open()? else { return Ok(false) };
        match rustix::process::pidfd_send_signal(&pidfd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(cause) => Err(SysError::new("signalling process", stat_path(self.pid), cause)),
        }
    }

    /// Waits until this process has ended, at most `limit`.
    pub fn wait_end(self, limit: Duration) {
        if let Ok(Some(pidfd)) = self.open() {
            super::wait::ready(pidfd.as_fd(), PollFlags::IN, Some(Instant::now() + limit));
        }
    }

    fn open(self) -> Result<Option<OwnedFd>, SysError> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            // The start time is read after the open: if it still fits, the descriptor is the right process.
            Ok(pidfd) => Ok(self.is_alive().then_some(pidfd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(cause) => Err(SysError::new("opening process", stat_path(self.pid), cause)),
        }
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.start_ticks)
    }
}

/// The text is not a process id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a process id with a start time")]
pub struct ParseProcessIdError;

impl FromStr for ProcessId {
    type Err = ParseProcessIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_ascii_whitespace();
        let (Some(pid), Some(start), None) = (words.next(), words.next(), words.next()) else {
            return Err(ParseProcessIdError);
        };
        match (pid.parse(), start.parse()) {
            (Ok(pid), Ok(start_ticks)) if pid > 0 => Ok(Self { pid, start_ticks }),
            _ => Err(ParseProcessIdError),
        }
    }
}

/// What replaces this process: a program, its arguments and its whole environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Absolute path.
    pub path: PathBuf,
    /// The arguments after argv[0].
    pub args: Vec<String>,
    /// The environment, made from nothing.
    pub env: BTreeMap<String, String>,
}

/// Becomes `program`, which inherits the standard streams and `kept`, and no other descriptor.
///
/// Returns only when that was refused.
pub fn become_program<'a>(program: &Program, kept: impl IntoIterator<Item = &'a OwnedFd>) -> SysError {
    if let Err(error) = close_others_on_exec(kept) {
        return error;
    }
    let cause = command(program).exec();
    SysError::new("executing", &program.path, cause)
}

/// Becomes `program`, which is a systemd and the process 1 of its namespace, with the standard streams.
///
/// What comes meanwhile to make it stop (systemd(1), "Signals") waits until it listens: to a process 1 without a handler
/// the kernel delivers nothing, and the wish would be lost. The terminal is let go before, which would send SIGWINCH when
/// its size is set. Returns only when that was refused.
#[allow(unsafe_code, reason = "pre_exec runs where only system calls are allowed")]
pub fn become_init(program: &Program) -> SysError {
    if let Err(error) = close_others_on_exec(&[]) {
        return error;
    }
    let mut command = command(program);
    // SAFETY: the set is a local value, and ioctl(2) and sigprocmask(2) are system calls. Before them the standard library has
    // unblocked all.
    unsafe {
        command.pre_exec(|| {
            // On whatever descriptor: one of them is the console, and without a terminal there is nothing to let go. The
            // SIGHUP that comes of it does nothing to a process 1.
            for stream in 0..=2 {
                libc::ioctl(stream, libc::TIOCNOTTY);
            }
            let mut stop: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut stop);
            for signal in [libc::SIGRTMIN() + 3, libc::SIGRTMIN() + 4, libc::SIGINT, libc::SIGWINCH] {
                libc::sigaddset(&raw mut stop, signal);
            }
            match libc::sigprocmask(libc::SIG_BLOCK, &raw const stop, std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    SysError::new("executing", &program.path, command.exec())
}

fn command(program: &Program) -> Command {
    let mut command = Command::new(&program.path);
    command.args(&program.args).env_clear().envs(&program.env);
    command
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildEnd {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// A program beside this process, which is asked to end when this process does.
#[derive(Debug)]
pub struct Child {
    id: ProcessId,
    pidfd: OwnedFd,
}

impl Child {
    /// Starts `program` in the control group whose `cgroup.procs` is `group`; of descriptors it inherits standard error,
    /// also as its standard output, and `kept`.
    ///
    /// # Errors
    /// When that was refused.
    #[allow(unsafe_code, reason = "pre_exec runs in the child, where only system calls are allowed")]
    pub fn start(program: &Program, kept: &[OwnedFd], group: &File) -> Result<Self, SysError> {
        let failed = SysError::on("executing", &program.path);
        close_others_on_exec(kept)?;
        let output =
            std::io::stderr().as_fd().try_clone_to_owned().map_err(SysError::on("duplicating", "stderr"))?;
        let mut command = Command::new(&program.path);
        command.args(&program.args).env_clear().envs(&program.env).stdin(Stdio::null()).stdout(output);
        let group = group.as_raw_fd();
        // SAFETY: two system calls on numbers that the child has from its parent.
        unsafe {
            command.pre_exec(move || {
                let done = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0
                    && libc::write(group, c"0".as_ptr().cast(), 1) == 1;
                if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            });
        }
        let child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let path = stat_path(pid);
        let pidfd = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH);
        let pidfd = pidfd
            .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
            .map_err(SysError::on("opening process", &path))?;
        let start_ticks = std::fs::read_to_string(&path).ok().and_then(|stat| start_ticks(&stat));
        Ok(Self { id: ProcessId { pid, start_ticks: start_ticks.unwrap_or_default() }, pidfd })
    }

    /// Its id, which nobody else gets before [`Child::wait`].
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Sends it a signal, if it has not ended.
    pub fn signal(&self, signal: Signal) {
        let _gone = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When somebody else has waited for it.
    pub fn wait(&self) -> Result<ChildEnd, SysError> {
        let ended = rustix::process::waitid(
            rustix::process::WaitId::PidFd(self.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
        match ended.map_err(SysError::on("waiting for process", stat_path(self.id.pid)))? {
            Some(status) => Ok(match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => ChildEnd::Exited(status),
                (None, signal) => ChildEnd::Killed(signal.unwrap_or_default()),
            }),
            None => Ok(ChildEnd::Exited(0)),
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[allow(unsafe_code, reason = "close_range(2) has no safe wrapper")]
fn close_others_on_exec<'a>(kept: impl IntoIterator<Item = &'a OwnedFd>) -> Result<(), SysError> {
    const FIRST_AFTER_STANDARD: libc::c_uint = 3;
    // SAFETY: with CLOEXEC the call closes nothing now; it sets a flag that takes effect in execve(2).
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST_AFTER_STANDARD,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    if marked != 0 {
        return Err(SysError::new(
            "closing descriptors of",
            "/proc/self/fd",
            std::io::Error::last_os_error(),
        ));
    }
    for fd in kept {
        rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::empty())
            .map_err(SysError::on("passing on", format!("/proc/self/fd/{}", fd.as_raw_fd())))?;
    }
    Ok(())
}

fn stat_path(pid: i32) -> PathBuf {
    format!("/proc/{pid}/stat").into()
}

fn find_start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(stat_path(pid)).ok()?;
    // A zombie has ended: it holds its number until the parent looks, but nothing else.
    (!matches!(after_name(&stat)?.next()?, "Z" | "X")).then(|| start_ticks(&stat))?
}

fn start_ticks(stat: &str) -> Option<u64> {
    const FIELDS_FROM_STATE: usize = 22 - 3;
    after_name(stat)?.nth(FIELDS_FROM_STATE)?.parse().ok()
}

/// The fields from the third on: the second, the command's name in parentheses, may itself hold blanks and parentheses.
fn after_name(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start_time() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        assert_eq!(own.to_string().parse(), Ok(own));
        let stranger = ProcessId { start_ticks: own.start_ticks + 1, ..own };
        assert!(!stranger.is_alive());
        assert!(!stranger.signal(Signal::KILL).unwrap(), "a reused pid is never signalled");
    }

    #[test]
    fn text_that_is_no_process_is_refused() {
        for text in ["", "12", "x 1", "1 x", "-1 5", "0 5", "1 2 3"] {
            assert_eq!(text.parse::<ProcessId>(), Err(ParseProcessIdError), "{text:?}");
        }
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 4242 1 1";
        assert_eq!(start_ticks(stat), Some(4242));
    }
}
