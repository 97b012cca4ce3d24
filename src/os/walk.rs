//! A tree of files, thing by thing in path order: by directory descriptors, without recursion and without following.
//!
//! The content may be hostile. One directory is open at any time; the way back up is `..`, checked against the inode
//! that was left. A mount point below the top is refused.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Stat};
use rustix::io::Errno;

use super::SysError;
use super::root::stat_at;
use super::tree::{open_above, open_below};

/// A walk that has begun; [`Walk::step`] goes on.
#[derive(Debug)]
pub struct Walk {
    /// What messages call the top.
    shown: PathBuf,
    here: OwnedFd,
    /// The directory that is open, relative to the top.
    path: PathBuf,
    frames: Vec<Frame>,
}

/// A directory on the way down.
#[derive(Debug)]
struct Frame {
    identity: (u64, u64),
    /// Names that are still to do, the next one last.
    left: Vec<OsString>,
}

/// One thing in the tree.
#[derive(Debug)]
pub struct Step {
    /// Its path, relative to the top.
    pub path: PathBuf,
    /// The last part of the path.
    pub name: OsString,
    /// What it is; a link is not followed.
    pub status: Stat,
}

impl Walk {
    /// Begins at the directory `top`, which is no step itself; `shown` is what messages call it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn new(top: OwnedFd, shown: &Path) -> Result<Self, SysError> {
        let mut walk = Self { shown: shown.to_owned(), here: top, path: PathBuf::new(), frames: Vec::new() };
        let frame = read(&walk.here).map_err(SysError::on("reading", shown))?;
        walk.frames.push(frame);
        Ok(walk)
    }

    /// The directory of the last step, unless that was a directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// The path of `inside` for messages.
    pub fn shown(&self, inside: &Path) -> PathBuf {
        self.shown.join(inside)
    }

    /// Goes to the next thing: a directory comes before what is in it, names in the order of their bytes.
    ///
    /// # Errors
    /// When something can't be looked at, or is a mount point. The walk is then of no more use.
    pub fn step(&mut self) -> Result<Option<Step>, SysError> {
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let Some(name) = frame.left.pop() else {
                self.leave()?;
                continue;
            };
            let path = self.path.join(&name);
            let status = stat_at(self.here.as_fd(), &name)
                .map_err(|cause| SysError::new("looking at", self.shown(&path), cause))?;
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                self.enter(&name, &path)?;
            }
            return Ok(Some(Step { path, name, status }));
        }
    }

    fn enter(&mut self, name: &OsStr, path: &Path) -> Result<(), SysError> {
        let opened = open_below(self.here.as_fd(), name).and_then(|fd| read(&fd).map(|frame| (fd, frame)));
        let (fd, frame) = opened.map_err(|cause| match cause {
            Errno::XDEV => {
                SysError::new("reading", self.shown(path), std::io::Error::other("It is a mount point"))
            }
            cause => SysError::new("reading", self.shown(path), cause),
        })?;
        self.here = fd;
        self.path.push(name);
        self.frames.push(frame);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SysError> {
        self.frames.pop();
        let Some(above) = self.frames.last() else { return Ok(()) };
        self.here = open_above(&self.here, above.identity)
            .map_err(|cause| SysError::new("leaving", self.shown(&self.path), cause))?;
        self.path.pop();
        Ok(())
    }
}

fn read(dir: &OwnedFd) -> Result<Frame, Errno> {
    let status = rustix::fs::fstat(dir)?;
    let mut left = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            left.push(name.to_owned());
        }
    }
    left.sort_unstable_by(|a, b| b.cmp(a));
    Ok(Frame { identity: (status.st_dev, status.st_ino), left })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(top: &Path) -> Vec<String> {
        let mut walk = Walk::new(std::fs::File::open(top).unwrap().into(), top).unwrap();
        let mut paths = Vec::new();
        while let Some(step) = walk.step().unwrap() {
            assert_eq!(Some(step.name.as_os_str()), step.path.file_name());
            paths.push(step.path.to_str().unwrap().to_owned());
        }
        paths
    }

    #[test]
    fn a_directory_comes_before_its_content_and_names_in_byte_order() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b/z/deep", "b/a", "B", "a.d"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        std::os::unix::fs::symlink("/", dir.path().join("b/link")).unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!(walked(dir.path()), ["B", "a", "a.d", "b", "b/a", "b/link", "b/z", "b/z/deep"]);
    }

    #[test]
    fn no_depth_is_too_deep() {
        let dir = tempfile::tempdir().unwrap();
        let mut here: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "d", rustix::fs::Mode::RWXU).unwrap();
            here = open_below(here.as_fd(), OsStr::new("d")).unwrap();
        }
        assert_eq!(walked(dir.path()).len(), 3000);
        super::super::tree::remove(&dir.path().join("d")).unwrap();
    }
}
