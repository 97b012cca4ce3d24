//! A command on a terminal of its own, as a user at a keyboard has it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize};

use super::wait::{self, Deadline};

/// A command whose controlling terminal is a pseudo terminal that the test holds the other end of.
#[derive(Debug)]
pub(crate) struct OnTerminal {
    child: Child,
    screen: File,
    seen: Vec<u8>,
}

impl OnTerminal {
    /// Starts a command on a new terminal.
    pub(crate) fn start(words: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Self {
        let screen =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt(3)");
        grantpt(&screen).expect("grantpt(3)");
        unlockpt(&screen).expect("unlockpt(3)");
        let name = ptsname(&screen, Vec::new()).expect("ptsname(3)");
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let keyboard = || {
            use std::os::unix::fs::OpenOptionsExt;
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).expect("the other end")
        };
        // In a session of its own, whose terminal this is: ^C becomes a signal to the foreground group.
        let child = Command::new("setsid")
            .arg("--ctty")
            .args(words)
            .stdin(keyboard())
            .stdout(keyboard())
            .stderr(keyboard())
            .spawn()
            .expect("setsid(1) is there");
        Self { child, screen: File::from(screen), seen: Vec::new() }
    }

    /// Types on the keyboard.
    pub(crate) fn type_in(&mut self, keys: &[u8]) {
        self.screen.write_all(keys).expect("a terminal takes keys");
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.screen, size).expect("a terminal has a size");
    }

    /// Which of its modes are on, of those that a raw terminal has not.
    pub(crate) fn modes(&self) -> String {
        let modes = rustix::termios::tcgetattr(&self.screen).expect("a terminal has modes");
        let known = [(LocalModes::ICANON, "icanon"), (LocalModes::ECHO, "echo"), (LocalModes::ISIG, "isig")];
        let on = known.into_iter().filter(|(mode, _)| modes.local_modes.contains(*mode));
        on.map(|(_, name)| name).collect::<Vec<_>>().join(" ")
    }

    /// Waits until exactly these modes are on.
    pub(crate) fn wait_for_modes(&self, modes: &str) {
        wait::until("the terminal's modes", || {
            let now = self.modes();
            if now == modes { Ok(()) } else { Err(now) }
        });
    }

    /// The process ID of the command.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `text` is on the screen.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Deadline::after(wait::patience());
        while !self.text().contains(text) {
            assert!(!deadline.is_over(), "{text:?} never came: {}", self.text());
            assert!(self.read(deadline), "{text:?} never came before the end: {}", self.text());
        }
    }

    /// Waits for the end of the command, which must come within `patience`; returns its status and all that was on the
    /// screen.
    pub(crate) fn end(mut self, patience: Duration) -> (ExitStatus, String) {
        let deadline = Deadline::after(patience);
        while self.read(deadline) {
            assert!(!deadline.is_over(), "not ended within {patience:?}: {}", self.text());
        }
        let pidfd = rustix::process::pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty());
        let ended = pidfd.is_ok_and(|pidfd| wait::readable(&pidfd, deadline.left()));
        assert!(ended, "not ended within {patience:?}: {}", self.text());
        (self.child.wait().expect("waitpid(2) on our child"), self.text())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Takes in what there is; `false` when nobody has the other end any more.
    fn read(&mut self, deadline: Deadline) -> bool {
        if !wait::readable(&self.screen, deadline.left()) {
            return true;
        }
        let mut buffer = [0; 4096];
        match self.screen.read(&mut buffer) {
            // The end of a terminal is EIO.
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.seen.extend_from_slice(&buffer[..length]);
                true
            }
        }
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = rustix::process::kill_process(Pid::from_child(&self.child), Signal::KILL);
            let _status = self.child.wait();
        }
    }
}
