//! Named pipes between processes that do not know each other (fifo(7)).

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};

use super::SysError;

/// Makes a FIFO that everybody may open who reaches its directory.
///
/// # Errors
/// When something is there already, or the directory can't be written to.
pub fn make(path: &Path) -> Result<(), SysError> {
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).map_err(SysError::on("creating", path))?;
    // Whatever the caller's umask says.
    rustix::fs::chmod(path, mode).map_err(SysError::on("changing the mode of", path))
}

/// Opens both ends at once: nobody who opens one of them waits any more, and nobody sees an end while this is open.
///
/// # Errors
/// When it can't be opened.
pub fn hold(path: &Path) -> Result<OwnedFd, SysError> {
    open(path, OFlags::RDWR)
}

/// Opens the end to write to; the other must be open.
///
/// # Errors
/// When nobody has the other end open.
pub fn writer(path: &Path) -> Result<OwnedFd, SysError> {
    open(path, OFlags::WRONLY)
}

fn open(path: &Path, how: OFlags) -> Result<OwnedFd, SysError> {
    let flags = how | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty()).map_err(SysError::on("opening", path))
}

/// Returns a descriptor that can be read once somebody has opened `path` after this call.
///
/// # Errors
/// When the user has no inotify instances left.
pub fn watch_opened(path: &Path) -> Result<OwnedFd, SysError> {
    let failed = SysError::on("watching", path);
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
    inotify::add_watch(&watch, path, WatchFlags::OPEN).map_err(SysError::on("watching", path))?;
    Ok(watch)
}

/// Takes in what a watch has seen, so that it can be read again only after the next time.
pub fn drain_watch(watch: &OwnedFd) {
    let mut buffer = [0; 4096];
    while rustix::io::read(watch, &mut buffer).is_ok_and(|length| length > 0) {}
}
