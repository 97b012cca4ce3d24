//! flock(2) on a directory or file: a lock that the kernel drops with the process, however that ends.
//!
//! A lock belongs to an open file description, not to a name. Who locks something that others rename must look again
//! afterwards whether the name still leads to it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::SysError;

/// How long a reader may hold a lock that it only looks at, before a mover tries again.
const READER_PAUSE: Duration = Duration::from_millis(1);

/// Who may hold the lock beside us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Others may hold it shared at the same time.
    Shared,
    /// Nobody else may hold it.
    Exclusive,
}

/// A held flock(2); dropping it releases the lock unless a child inherited the descriptor.
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
}

impl Lock {
    /// Takes the lock on the directory or file at `path` without waiting; `None` means that another process holds it.
    ///
    /// # Errors
    /// When `path` can't be opened (never through a link at its end) or the file system has no locks.
    pub fn try_on(path: &Path, sharing: Sharing) -> Result<Option<Self>, SysError> {
        let fd = open(path)?;
        match rustix::fs::flock(&fd, operation(sharing, false)) {
            Ok(()) => Ok(Some(Self { fd })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(cause) => Err(SysError::new("locking", path, cause)),
        }
    }

    /// Takes the lock exclusively without waiting for another exclusive holder; `None` means that there is one.
    ///
    /// Readers look at a lock by holding it shared for an instant; those are waited for.
    ///
    /// # Errors
    /// As [`Lock::try_on`].
    pub fn try_past_readers(path: &Path) -> Result<Option<Self>, SysError> {
        const READER_WAIT: Duration = Duration::from_secs(1);
        let deadline = Instant::now() + READER_WAIT;
        loop {
            if let Some(lock) = Self::try_on(path, Sharing::Exclusive)? {
                return Ok(Some(lock));
            }
            let only_readers = Self::try_on(path, Sharing::Shared)?.is_some();
            if !only_readers || Instant::now() > deadline {
                return Ok(None);
            }
            super::wait::pause(READER_PAUSE);
        }
    }

    /// Takes the lock, waiting for it; `notice` is called once before a wait.
    ///
    /// # Errors
    /// As [`Lock::try_on`].
    ///
    /// # Locking
    /// Blocks as long as another process holds a lock that excludes this one.
    pub fn wait_on(path: &Path, sharing: Sharing, notice: impl FnOnce()) -> Result<Self, SysError> {
        if let Some(lock) = Self::try_on(path, sharing)? {
            return Ok(lock);
        }
        notice();
        let fd = open(path)?;
        loop {
            match rustix::fs::flock(&fd, operation(sharing, true)) {
                Ok(()) => return Ok(Self { fd }),
                Err(Errno::INTR) => {}
                Err(cause) => return Err(SysError::new("locking", path, cause)),
            }
        }
    }

    /// Tells whether `path` still leads to what is locked, which a rename or removal may have changed meanwhile.
    pub fn is_still_at(&self, path: &Path) -> bool {
        let (Ok(ours), Ok(there)) = (rustix::fs::fstat(&self.fd), rustix::fs::lstat(path)) else {
            return false;
        };
        (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
    }

    /// Gives up the guard and returns the locked descriptor, to be inherited by a process that keeps the lock.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

fn open(path: &Path) -> Result<OwnedFd, SysError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).map_err(SysError::on("opening", path))
}

fn operation(sharing: Sharing, wait: bool) -> FlockOperation {
    match (sharing, wait) {
        (Sharing::Shared, true) => FlockOperation::LockShared,
        (Sharing::Shared, false) => FlockOperation::NonBlockingLockShared,
        (Sharing::Exclusive, true) => FlockOperation::LockExclusive,
        (Sharing::Exclusive, false) => FlockOperation::NonBlockingLockExclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_lock_keeps_others_out_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::try_on(dir.path(), Sharing::Exclusive).unwrap().expect("free");
        assert!(Lock::try_on(dir.path(), Sharing::Shared).unwrap().is_none());
        drop(held);
        assert!(Lock::try_on(dir.path(), Sharing::Shared).unwrap().is_some());
    }

    #[test]
    fn a_renamed_directory_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::create_dir(&from).unwrap();
        let lock = Lock::try_on(&from, Sharing::Exclusive).unwrap().expect("free");
        assert!(lock.is_still_at(&from));
        std::fs::rename(&from, &to).unwrap();
        assert!(!lock.is_still_at(&from));
        assert!(lock.is_still_at(&to));
    }
}
