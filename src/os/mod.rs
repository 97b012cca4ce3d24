//! The ground floor: what rkt asks of the kernel, free of pods and images.
//!
//! Paths of images are never trusted as strings: [`root`] resolves them below a directory file descriptor. Files that
//! matter are written by [`atomic`]. `unsafe` lives in this room only.

pub mod atomic;
pub mod cgroup;
pub mod command;
pub mod fifo;
pub mod file;
pub mod group;
pub mod inotify;
pub mod interrupt;
pub mod lock;
pub mod merge;
pub mod mount;
pub mod nftables;
pub mod ns;
pub mod overlay;
pub mod peer;
pub mod process;
pub mod pump;
pub mod root;
pub mod seccomp;
pub mod signal_name;
pub mod signals;
pub mod terminal;
pub mod trace;
pub mod tree;
pub mod trusted;
pub mod wait;
pub mod walk;
pub mod whole;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Tells the way out of an error, shown on a line of its own.
///
/// A wrapping error delegates to what it wraps.
pub trait Hint {
    /// Returns what the user can do now, as a sentence without a full stop, if there is anything to say.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// A system call on a path that did not work: `opening /etc/x: Permission denied`.
///
/// The kernel's reason is part of the text and no `source()`, so that the innermost link of an error chain, which is
/// what a user sees (spec cli.md 1.1.3), always names the thing.
#[derive(Debug)]
pub struct SysError {
    doing: &'static str,
    path: PathBuf,
    cause: io::Error,
}

impl SysError {
    /// Makes the error of `doing` (a verb in the -ing form: "opening") something to `path`.
    pub fn new(doing: &'static str, path: impl AsRef<Path>, cause: impl Into<io::Error>) -> Self {
        Self { doing, path: path.as_ref().to_owned(), cause: cause.into() }
    }

    /// Returns a closure for `map_err`.
    pub fn on<E: Into<io::Error>>(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        move |cause| Self::new(doing, path, cause)
    }

    /// The kind of the kernel's answer, for callers that leave one kind aside on purpose.
    pub fn kind(&self) -> io::ErrorKind {
        self.cause.kind()
    }

    /// The kernel's answer alone, for a sentence that names the thing in another way.
    pub fn reason(&self) -> String {
        cause_text(&self.cause)
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.doing, self.path.display(), self.reason())
    }
}

impl std::error::Error for SysError {}

impl Hint for SysError {
    fn hint(&self) -> Option<String> {
        match self.cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some("free some space, for example with `rkt gc --grace-period=0s` and `rkt image gc`".into())
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                Some("remount the file system read-write, or choose another data directory with --dir".into())
            }
            _ => None,
        }
    }
}

/// The text of a system error without Rust's ` (os error N)`.
pub fn cause_text(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.rfind(" (os error ") {
        Some(end) if cause.raw_os_error().is_some() => text[..end].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_error_names_path_and_cause() {
        let error = SysError::new("opening", "/no/such", rustix::io::Errno::NOENT);
        assert_eq!(error.to_string(), "opening /no/such: No such file or directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
