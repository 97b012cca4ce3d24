//! Terminals: the caller's, which is put in raw mode and back, and new pseudo terminals of a pod's own.
//!
//! No process of a pod ever holds the caller's terminal: it could push characters into it, which the caller's shell would
//! take for typed (TIOCSTI, ioctl_tty(2)).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, OutputModes, Termios, Winsize};

use super::{SysError, root::Root};

/// A new pseudo terminal below another root: the end that a terminal emulator has.
#[derive(Debug)]
pub struct Pty {
    emulator: OwnedFd,
    number: u32,
}

impl Pty {
    /// Opens one in the devpts instance that is mounted at `/dev/pts` in `root`.
    ///
    /// # Errors
    /// When there is no such instance, or it has no more terminals.
    pub fn open_in(root: &Root) -> Result<Self, SysError> {
        /// linux/magic.h
        const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;
        let path = Path::new("/dev/pts/ptmx");
        let shown = root.path().join("dev/pts/ptmx");
        let emulator = root.open_with(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC)?;
        let on = rustix::fs::fstatfs(&emulator).map_err(SysError::on("looking at", &shown))?;
        if on.f_type != DEVPTS_SUPER_MAGIC {
            return Err(SysError::new("opening a terminal with", &shown, Errno::NOTTY));
        }
        rustix::pty::unlockpt(&emulator).map_err(SysError::on("unlocking a terminal of", &shown))?;
        let number =
            number(&emulator).map_err(SysError::on("asking for the name of a terminal of", &shown))?;
        Ok(Self { emulator, number })
    }

    /// Its number in that instance: its programs find it at `/dev/pts/NUMBER`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The end that a program has. While it is open, the terminal does not hang up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn program_end(&self) -> Result<OwnedFd, SysError> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        rustix::pty::ioctl_tiocgptpeer(&self.emulator, flags)
            .map_err(SysError::on("opening", PathBuf::from(format!("/dev/pts/{}", self.number))))
    }

    /// Takes over the size of the caller's terminal.
    pub fn take_size_of(&self, terminal: impl AsFd) {
        copy_size(terminal, &self.emulator);
    }

    /// A second descriptor of the emulator's end.
    ///
    /// # Errors
    /// When the process has too many.
    pub fn emulator(&self) -> Result<OwnedFd, SysError> {
        self.emulator.try_clone().map_err(SysError::on("duplicating", "/dev/pts/ptmx"))
    }
}

/// Gives the terminal `to` the size of the terminal `from`; what is no terminal has none.
pub fn copy_size(from: impl AsFd, to: impl AsFd) {
    let size: Result<Winsize, Errno> = rustix::termios::tcgetwinsize(from);
    if let Ok(size) = size {
        // A terminal of a wrong size is still a terminal.
        let _ = rustix::termios::tcsetwinsize(to, size);
    }
}

fn number(emulator: &OwnedFd) -> Result<u32, std::io::Error> {
    let name = rustix::pty::ptsname(emulator, Vec::new())?;
    let digits = name.to_str().ok().and_then(|name| name.strip_prefix("/dev/pts/"));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// Has the terminal behind `fd` show ends of lines as they are written, without a carriage return before them, whoever resets
/// it later (ioctl_tty(2), "Locking the termios structure").
///
/// # Errors
/// When it is no terminal, or this process may not lock its settings.
#[allow(unsafe_code, reason = "the request TIOCSLCKTRMIOS has no safe wrapper")]
pub fn keep_line_ends(fd: impl AsFd) -> Result<(), SysError> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let mut settings = rustix::termios::tcgetattr(&fd).map_err(SysError::on("asking terminal", &path))?;
    settings.output_modes.remove(OutputModes::ONLCR);
    rustix::termios::tcsetattr(&fd, OptionalActions::Now, &settings)
        .map_err(SysError::on("changing the mode of terminal", &path))?;
    // SAFETY: a termios is a plain value, for which zero means that nothing is locked; the kernel reads of it what its own,
    // which is shorter, has (termios.h).
    let locked = unsafe {
        let mut locks: libc::termios = std::mem::zeroed();
        locks.c_oflag = libc::ONLCR;
        libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSLCKTRMIOS, &raw const locks)
    };
    match locked {
        0 => Ok(()),
        _ => Err(SysError::new("locking the mode of terminal", path, std::io::Error::last_os_error())),
    }
}

/// The caller's terminal with every key going through as it is; dropped, it is as it was before.
#[derive(Debug)]
#[must_use = "the terminal is put back when this is dropped"]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts the terminal behind `fd` in raw mode.
    ///
    /// # Errors
    /// When it is none.
    pub fn enter(fd: impl AsFd) -> Result<Self, SysError> {
        let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
        let terminal = fd.as_fd().try_clone_to_owned().map_err(SysError::on("duplicating", &path))?;
        let before = rustix::termios::tcgetattr(&terminal).map_err(SysError::on("asking terminal", &path))?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Drain, &raw)
            .map_err(SysError::on("changing the mode of terminal", &path))?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has hung up needs nothing any more.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}
