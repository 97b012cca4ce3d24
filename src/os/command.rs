//! A child process that is bounded: in the time it may take, in what it may say, and in what it gets.
//!
//! It is given an environment made from nothing, its input as a file that is complete before it starts, and a process
//! group of its own, which a Ctrl-C on the terminal does not reach. It is killed when this process is. Its standard error
//! is that of this process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::{SysError, interrupt, wait};

/// How long this process looks away from the signals that it may have got.
const ROUND: Duration = Duration::from_millis(200);

/// A program and all that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub dir: PathBuf,
    /// What it reads from its standard input.
    pub input: Vec<u8>,
    /// How long it may take from its start.
    pub time: Duration,
    /// How many bytes it may write to its standard output.
    pub output: usize,
}

/// Whether a signal to this process ends the wait for a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInterrupt {
    /// The child is killed.
    GiveUp,
    /// The child is waited for, since it cleans up.
    GoOn,
}

/// How a child came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself or by somebody's signal; this is what it had written.
    Exited(ExitStatus, Vec<u8>),
    /// It took too long and was killed.
    TimedOut,
    /// It wrote too much and was killed.
    SaidTooMuch,
    /// A signal came, and it was killed.
    Interrupted,
}

/// A started child; dropped before its end, it and its process group are killed.
#[derive(Debug)]
#[must_use = "the child is killed when dropped"]
pub struct Child {
    child: std::process::Child,
    pidfd: OwnedFd,
    stdout: File,
    said: Vec<u8>,
    limit: usize,
    deadline: Instant,
    reaped: bool,
}

impl Command {
    /// Starts it.
    ///
    /// # Errors
    /// When it can't be executed, or the kernel has no room for its input.
    pub fn start(&self) -> Result<Child, SysError> {
        log::debug!("executing {}", self.program.display());
        let input = rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC).map_err(self.refused())?;
        let mut input = File::from(input);
        input.write_all(&self.input).and_then(|()| input.rewind()).map_err(self.refused())?;
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).env_clear().envs(&self.env).current_dir(&self.dir).process_group(0);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::inherit());
        die_with_this_process(&mut command);
        let mut child = command.spawn().map_err(self.refused())?;
        let stdout = child.stdout.take().expect("its standard output is a pipe");
        let opened = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let nonblocking = opened.and_then(|pidfd| {
            rustix::fs::fcntl_setfl(&stdout, OFlags::NONBLOCK)?;
            Ok(pidfd)
        });
        let pidfd = match nonblocking {
            Ok(pidfd) => pidfd,
            Err(cause) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(SysError::new("executing", &self.program, cause));
            }
        };
        Ok(Child {
            child,
            pidfd,
            stdout: OwnedFd::from(stdout).into(),
            said: Vec::new(),
            limit: self.output,
            deadline: Instant::now() + self.time,
            reaped: false,
        })
    }

    fn refused<E: Into<std::io::Error>>(&self) -> impl FnOnce(E) -> SysError {
        SysError::on("executing", &self.program)
    }
}

#[allow(unsafe_code, reason = "what runs between fork(2) and execve(2) can't be checked by the compiler")]
fn die_with_this_process(command: &mut std::process::Command) {
    let parent = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have died between the fork and the request.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: the closure makes two system calls, which are async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(ask) };
}

impl Child {
    /// Waits for its end, at most until its time is over.
    ///
    /// What a child of this child goes on writing after that is not waited for.
    pub fn wait(mut self, on_interrupt: OnInterrupt) -> End {
        loop {
            if on_interrupt == OnInterrupt::GiveUp && interrupt::has_arrived() {
                return End::Interrupted;
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            let ended = self.poll(left.min(ROUND));
            if self.read() == Reading::TooMuch {
                return End::SaidTooMuch;
            }
            if ended {
                return match self.child.wait() {
                    Ok(status) => {
                        self.reaped = true;
                        End::Exited(status, std::mem::take(&mut self.said))
                    }
                    // Somebody else has reaped our child: nothing is known of it.
                    Err(_) => End::TimedOut,
                };
            }
            if left.is_zero() {
                return End::TimedOut;
            }
        }
    }

    /// Waits for output or for the end, and tells whether it has ended.
    fn poll(&self, limit: Duration) -> bool {
        let mut fds = [
            PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN),
        ];
        let _ = poll(&mut fds, Some(&wait::timespec(limit)));
        if fds[1].revents().contains(PollFlags::HUP) && !fds[1].revents().contains(PollFlags::IN) {
            // It has closed its output: only its end is left to wait for.
            return wait::ready(self.pidfd.as_fd(), PollFlags::IN, Some(Instant::now() + limit));
        }
        !fds[0].revents().is_empty()
    }

    fn read(&mut self) -> Reading {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stdout.read(&mut buffer) {
                Ok(0) => return Reading::All,
                Ok(length) if self.said.len() + length > self.limit => return Reading::TooMuch,
                Ok(length) => self.said.extend_from_slice(&buffer[..length]),
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Reading::All,
            }
        }
    }
}

/// What reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    All,
    TooMuch,
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // Not reaped yet, so that its number, which is its group's, can't be a stranger's.
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        let dir = std::env::temp_dir();
        Command {
            program: "/bin/sh".into(),
            args: vec!["-s".into(), "an argument".into()],
            env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            dir,
            input: line.as_bytes().to_vec(),
            time: Duration::from_secs(20),
            output: 1000,
        }
    }

    fn end(command: &Command) -> End {
        command.start().unwrap().wait(OnInterrupt::GiveUp)
    }

    fn said(line: &str) -> (Option<i32>, String) {
        match end(&shell(line)) {
            End::Exited(status, said) => (status.code(), String::from_utf8(said).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_child_has_the_given_environment_and_input_and_its_output_and_status_are_kept() {
        assert_eq!(said("echo $A $HOME $1; exit 3"), (Some(3), "b an argument\n".into()));
        assert_eq!(said("kill -9 $$"), (None, String::new()));
    }

    #[test]
    fn a_child_that_leaves_another_one_behind_is_not_waited_for_twice() {
        let start = Instant::now();
        assert_eq!(said("sleep 15 & echo $?"), (Some(0), "0\n".into()));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_child_is_bounded_in_time_and_output() {
        let hanging = Command { time: Duration::from_millis(50), ..shell("exec sleep 20") };
        assert_eq!(end(&hanging), End::TimedOut);
        let silent = Command { time: Duration::from_millis(50), ..shell("exec sleep 20 >&-") };
        assert_eq!(end(&silent), End::TimedOut);
        assert_eq!(end(&shell("while :; do echo yes; done")), End::SaidTooMuch);
    }

    #[test]
    fn what_can_not_be_executed_is_named() {
        let none = Command { program: "/no/such".into(), ..shell("") };
        assert_eq!(none.start().unwrap_err().to_string(), "executing /no/such: No such file or directory");
    }
}
