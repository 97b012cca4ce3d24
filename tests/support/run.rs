//! Running a command to its end, with a deadline, and keeping all that it said.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

use super::wait::{self, Deadline};

/// A command to be run: a program, its arguments, environment and input.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    input: Vec<u8>,
    patience: Duration,
}

impl Run {
    /// Makes a command with the test's environment, empty standard input, and a minute to end.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            command: Command::new(program),
            input: Vec::new(),
            patience: Duration::from_secs(60) * wait::slowness(),
        }
    }

    /// Makes a command of the binary under test by its name `rkt`.
    pub(crate) fn rkt() -> Self {
        Self::new(env!("CARGO_BIN_EXE_rkt"))
    }

    /// Makes a command of the binary under test by its name `docker2aci`.
    pub(crate) fn docker2aci() -> Self {
        let mut run = Self::rkt();
        run.command.arg0("docker2aci");
        run
    }

    /// Makes a command of the binary under test by its name `acbuild`.
    pub(crate) fn acbuild() -> Self {
        let mut run = Self::rkt();
        run.command.arg0("acbuild");
        run
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts with an empty environment but for what is set after this call.
    pub(crate) fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// Sets the working directory.
    pub(crate) fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs as the user and group nobody. The test must be root.
    pub(crate) fn nobody(mut self) -> Self {
        const NOBODY: u32 = 65534;
        self.command.uid(NOBODY).gid(NOBODY);
        self
    }

    /// Gives these bytes on standard input, then its end.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sets how long the command may take; it is killed after that, and the test fails.
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts the command in a process group of its own.
    pub(crate) fn start(mut self) -> Running {
        let line = self.line();
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = self.command.spawn().unwrap_or_else(|cause| panic!("{line}: {cause}"));
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("pidfd_open(2)");
        let mut stdin = child.stdin.take().expect("piped");
        let input = self.input;
        // From a thread, since the command may write before it has read. One that reads no input is no fault.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
        let streams = [
            Stream::new(OwnedFd::from(child.stdout.take().expect("piped"))),
            Stream::new(OwnedFd::from(child.stderr.take().expect("piped"))),
        ];
        Running { line, child, pidfd, streams, patience: self.patience, reaped: false }
    }

    /// Runs the command to its end.
    pub(crate) fn end(self) -> Ended {
        self.start().end()
    }

    /// Runs the command, expects success, and returns its standard output.
    pub(crate) fn stdout(self) -> String {
        let ended = self.end();
        ended.expect_code(0);
        ended.stdout
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// One output of a running command, as far as it was read.
#[derive(Debug)]
struct Stream {
    pipe: Option<std::fs::File>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe.into()), bytes: Vec::new() }
    }

    fn read_some(&mut self) {
        let mut buffer = [0; 64 * 1024];
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(length) => self.bytes.extend_from_slice(&buffer[..length]),
            Err(cause) => panic!("reading a command's output: {cause}"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A command that has been started. It is killed when dropped before its end.
#[derive(Debug)]
pub(crate) struct Running {
    line: String,
    child: Child,
    pidfd: OwnedFd,
    streams: [Stream; 2],
    patience: Duration,
    reaped: bool,
}

impl Running {
    /// The process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process alone, not to its group.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.pidfd, signal)
            .unwrap_or_else(|cause| panic!("sending {signal:?} to {}: {cause}", self.line));
    }

    /// Waits until standard output contains `text`; it fails when the output ends before.
    pub(crate) fn wait_for_stdout(&mut self, text: &str) {
        self.wait_for(0, text);
    }

    /// Waits until standard error contains `text`; it fails when the output ends before.
    pub(crate) fn wait_for_stderr(&mut self, text: &str) {
        self.wait_for(1, text);
    }

    fn wait_for(&mut self, stream: usize, text: &str) {
        let deadline = Deadline::after(self.patience);
        while !self.streams[stream].text().contains(text) {
            let open = self.streams[stream].pipe.is_some();
            assert!(open && !deadline.is_over(), "{text:?} never came from {}", self.state());
            self.read(deadline);
        }
    }

    /// Waits for the end of the process and of its outputs.
    pub(crate) fn end(mut self) -> Ended {
        let deadline = Deadline::after(self.patience);
        while self.streams.iter().any(|stream| stream.pipe.is_some()) {
            assert!(!deadline.is_over(), "not ended within {:?}: {}", self.patience, self.state());
            self.read(deadline);
        }
        let ended = wait::readable(&self.pidfd, deadline.left());
        assert!(ended, "outputs closed, but not ended within {:?}: {}", self.patience, self.state());
        let status = self.child.wait().expect("waitpid(2) on our child");
        self.reaped = true;
        Ended {
            line: self.line.clone(),
            status,
            stdout: self.streams[0].text(),
            stderr: self.streams[1].text(),
        }
    }

    /// Waits until one of the outputs has something to say or is closed, and takes it in.
    fn read(&mut self, deadline: Deadline) {
        let open: Vec<usize> = (0..2).filter(|&index| self.streams[index].pipe.is_some()).collect();
        let fds: Vec<_> =
            open.iter().filter_map(|&index| self.streams[index].pipe.as_ref()).map(AsFd::as_fd).collect();
        let ready = wait::any_readable(&fds, deadline.left());
        for (index, ready) in open.into_iter().zip(ready) {
            if ready {
                self.streams[index].read_some();
            }
        }
    }

    /// Adds to the message of a test that fails what this command has said until now, and whether it still runs.
    #[allow(clippy::print_stdout, reason = "what a test prints is shown when it fails")]
    fn tell(&mut self) {
        let now = Deadline::after(Duration::ZERO);
        for stream in &mut self.streams {
            // One that never stops to write has said enough.
            while stream.bytes.len() < 1 << 20
                && stream.pipe.as_ref().is_some_and(|pipe| wait::any_readable(&[pipe.as_fd()], now.left())[0])
            {
                stream.read_some();
            }
        }
        let ended =
            if self.reaped || wait::readable(&self.pidfd, now.left()) { "had ended" } else { "was running" };
        println!("{ended}: {}", self.state());
    }

    fn state(&self) -> String {
        let [stdout, stderr] = &self.streams;
        format!("{}\n--- stdout\n{}\n--- stderr\n{}", self.line, stdout.text(), stderr.text())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        if !self.reaped {
            // The group is ours, and its leader is not reaped yet: the ID can't belong to anyone else.
            let _gone = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _status = self.child.wait();
        }
    }
}

/// A command that has ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The command, for messages.
    pub(crate) line: String,
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its standard output; what is not UTF-8 is replaced.
    pub(crate) stdout: String,
    /// Its standard error; what is not UTF-8 is replaced.
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit code; fails the test if a signal ended the command.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by signal {:?}: {self:#?}", self.status.signal()))
    }

    /// Fails the test, showing everything, unless the exit code is `code`.
    pub(crate) fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code(),
            code,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails the test unless code, standard output and standard error are exactly these.
    pub(crate) fn expect(&self, code: i32, stdout: &str, stderr: &str) -> &Self {
        let seen = (self.status.code(), self.stdout.as_str(), self.stderr.as_str());
        assert_eq!(seen, (Some(code), stdout, stderr), "{}", self.line);
        self
    }
}

/// Finds a program in PATH, as the shell would.
pub(crate) fn find_program(name: &str) -> Option<OsString> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()).map(Into::into)
}
