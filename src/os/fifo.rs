//! Named pipes between processes that do not know each other (fifo(7)).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::PollFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{SysError, wait};

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

/// Returns when nobody has the end of `path` open to which others write, be it that nobody has any more.
///
/// # Errors
/// When it can't be opened.
pub fn wait_for_end_of_writers(path: &Path) -> Result<(), SysError> {
    // Not waiting for a writer: one that is gone already would never come.
    let reader = open(path, OFlags::RDONLY)?;
    let mut buffer = [0; 64];
    loop {
        match rustix::io::read(&reader, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                wait::ready(reader.as_fd(), PollFlags::IN, None);
            }
            Err(cause) => return Err(SysError::new("reading", path, cause)),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_that_are_gone_before_anybody_reads_have_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        make(&path).unwrap();
        wait_for_end_of_writers(&path).unwrap();
        let held = hold(&path).unwrap();
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| ended.send(wait_for_end_of_writers(&path).is_ok()));
            rustix::io::write(&held, b"x").unwrap();
            let early = end.recv_timeout(std::time::Duration::from_millis(100));
            assert!(early.is_err(), "a writer is there: {early:?}");
            drop(held);
            assert_eq!(end.recv(), Ok(true));
        });
    }
}
