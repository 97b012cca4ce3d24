//! One tree of files laid below another: what the upper one lacks is moved into it, without recursion.
//!
//! Both may come out of hostile images; nothing is followed or opened but directories, and nothing that the upper tree
//! has is changed.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::SysError;
use super::root::stat_at;
use super::tree::{open_above, open_below};

/// Moves what the directory `upper` lacks out of `lower`, which is on the same file system, and leaves the rest there.
///
/// A directory that both have is merged; `takes_lower` is asked with its path below them whether it gets the lower one's
/// owner, mode and times. In all other cases what `upper` has stays as it is, times included, and nothing comes below
/// what is no directory there.
///
/// # Errors
/// The first refusal, with both trees as far as they came.
pub fn merge(upper: &Path, lower: &Path, takes_lower: impl FnMut(&Path) -> bool) -> Result<(), SysError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open =
        |path: &Path| rustix::fs::open(path, flags, Mode::empty()).map_err(SysError::on("opening", path));
    Merging { shown: upper, takes_lower, frames: Vec::new() }.run(open(upper)?, open(lower)?)
}

/// A directory that both trees have.
struct Frame {
    name: OsString,
    upper: (u64, u64),
    lower: (u64, u64),
    /// What the upper one's times become when all is in it.
    times: Timestamps,
    /// Directories in it that both have and that are still to do.
    left: Vec<OsString>,
}

struct Merging<'a, T> {
    shown: &'a Path,
    takes_lower: T,
    frames: Vec<Frame>,
}

impl<T: FnMut(&Path) -> bool> Merging<'_, T> {
    fn run(mut self, mut upper: OwnedFd, mut lower: OwnedFd) -> Result<(), SysError> {
        self.enter(&upper, &lower, OsString::new())?;
        loop {
            let next = self.frames.last_mut().and_then(|frame| frame.left.pop());
            if let Some(name) = next {
                let opened = open_below(upper.as_fd(), &name)
                    .and_then(|above| open_below(lower.as_fd(), &name).map(|below| (above, below)));
                (upper, lower) = opened.map_err(|cause| SysError::new("opening", self.path(&name), cause))?;
                self.enter(&upper, &lower, name)?;
                continue;
            }
            let Some(done) = self.frames.pop() else { return Ok(()) };
            rustix::fs::futimens(&upper, &done.times)
                .map_err(|cause| SysError::new("changing", self.path(&done.name), cause))?;
            if let Some(above) = self.frames.last() {
                let left = open_above(&upper, above.upper)
                    .and_then(|above_upper| Ok((above_upper, open_above(&lower, above.lower)?)));
                (upper, lower) =
                    left.map_err(|cause| SysError::new("leaving", self.path(&done.name), cause))?;
            }
        }
    }

    /// Begins with a directory that both have: all that the upper one lacks is moved.
    fn enter(&mut self, upper: &OwnedFd, lower: &OwnedFd, name: OsString) -> Result<(), SysError> {
        let shown = self.path(&name);
        let entered = || -> Result<_, Errno> {
            let (above, below) = (rustix::fs::fstat(upper)?, rustix::fs::fstat(lower)?);
            Ok((above, below, move_out(upper, lower)?))
        };
        let (above, below, left) = entered().map_err(SysError::on("merging", &shown))?;
        let mut times = times_of(&above);
        let inside = shown.strip_prefix(self.shown).unwrap_or(&shown);
        if (self.takes_lower)(inside) {
            take_metadata(upper, &below).map_err(SysError::on("changing", &shown))?;
            times = times_of(&below);
        }
        let identity = |status: &Stat| (status.st_dev, status.st_ino);
        self.frames.push(Frame { name, upper: identity(&above), lower: identity(&below), times, left });
        Ok(())
    }

    /// The path of `name` in the directory of the last frame.
    fn path(&self, name: &OsStr) -> PathBuf {
        let mut path = self.shown.to_owned();
        path.extend(self.frames.iter().skip(1).map(|frame| &frame.name));
        if name.is_empty() { path } else { path.join(name) }
    }
}

/// Moves each name that `upper` has not got, with all below it, and returns the directories that both have.
fn move_out(upper: &OwnedFd, lower: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(lower)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    let is_dir = |dir: &OwnedFd, name: &OsStr| {
        stat_at(dir.as_fd(), name)
            .map(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
    };
    let mut both = Vec::new();
    for name in names {
        match rustix::fs::renameat_with(lower, &name, upper, &name, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                if is_dir(lower, &name)? && is_dir(upper, &name)? {
                    both.push(name);
                }
            }
            Err(cause) => return Err(cause),
        }
    }
    Ok(both)
}

/// Gives a directory the owner, as far as the caller may, and the mode of another.
///
/// # Errors
/// What the kernel says.
pub fn take_metadata(dir: &OwnedFd, from: &Stat) -> Result<(), Errno> {
    if rustix::process::geteuid().is_root() {
        rustix::fs::fchown(dir, Some(Uid::from_raw(from.st_uid)), Some(Gid::from_raw(from.st_gid)))?;
    }
    rustix::fs::fchmod(dir, Mode::from_raw_mode(from.st_mode & 0o7777))
}

/// The times of something, to be set again.
pub fn times_of(status: &Stat) -> Timestamps {
    let nanoseconds = |n: u64| i64::try_from(n).unwrap_or(0);
    Timestamps {
        last_access: Timespec { tv_sec: status.st_atime, tv_nsec: nanoseconds(status.st_atime_nsec) },
        last_modification: Timespec { tv_sec: status.st_mtime, tv_nsec: nanoseconds(status.st_mtime_nsec) },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn make(top: &Path, paths: &[&str]) {
        for path in paths {
            let (path, text) = path.split_once('=').unwrap_or((path, ""));
            let file = top.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            match text {
                "/" => std::fs::create_dir_all(file).unwrap(),
                text if text.starts_with("->") => std::os::unix::fs::symlink(&text[2..], file).unwrap(),
                text => std::fs::write(file, text).unwrap(),
            }
        }
    }

    #[test]
    fn the_upper_tree_stays_and_gets_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        make(&upper, &["both/mine=u", "both/same=u", "file=u", "link=->both", "dir=/", "deep/a/b/c=u"]);
        make(
            &lower,
            &[
                "both/yours=l",
                "both/same=l",
                "file/below=l",
                "link/below=l",
                "dir=l",
                "new/x/y=l",
                "deep/a/b/d=l",
            ],
        );
        let old = Timestamps {
            last_access: Timespec { tv_sec: 7, tv_nsec: 0 },
            last_modification: Timespec { tv_sec: 7, tv_nsec: 0 },
        };
        for path in ["both", "deep/a"] {
            rustix::fs::utimensat(rustix::fs::CWD, upper.join(path), &old, rustix::fs::AtFlags::empty())
                .unwrap();
        }
        std::fs::set_permissions(lower.join("deep"), PermissionsExt::from_mode(0o1700)).unwrap();
        std::fs::set_permissions(lower.join("both"), PermissionsExt::from_mode(0o700)).unwrap();
        let mut asked = Vec::new();
        merge(&upper, &lower, |path| {
            asked.push(path.to_str().unwrap().to_owned());
            path == Path::new("deep")
        })
        .unwrap();
        asked.sort();
        assert_eq!(asked, ["", "both", "deep", "deep/a", "deep/a/b"]);
        let read = |path: &str| std::fs::read_to_string(upper.join(path)).unwrap();
        for (path, text) in [
            ("both/mine", "u"),
            ("both/same", "u"),
            ("both/yours", "l"),
            ("file", "u"),
            ("new/x/y", "l"),
            ("deep/a/b/c", "u"),
            ("deep/a/b/d", "l"),
        ] {
            assert_eq!(read(path), text, "{path}");
        }
        assert!(upper.join("dir").is_dir());
        assert!(!upper.join("both/below").exists(), "no link is followed");
        let mode = |path: &str| upper.join(path).metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode("deep"), mode("both")), (0o1700, 0o755));
        for path in ["both", "deep/a"] {
            assert_eq!(upper.join(path).metadata().unwrap().mtime(), 7, "{path}");
        }
    }
}
