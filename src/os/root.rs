//! A directory below which untrusted paths are resolved: the kernel keeps every link and every `..` inside it.
//!
//! Paths that come out of an image are never joined as strings and opened. They go through openat2(2) with
//! `RESOLVE_IN_ROOT` on a directory descriptor, so that `/`, `..` and links mean what they would mean after a chroot,
//! and no magic link of procfs leads out. What a path leads to is judged on the descriptor, not on the name.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::SysError;

/// A directory as the root of a file tree that is not trusted.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    path: PathBuf,
}

/// A regular file that [`Root::find_file`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundFile {
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
}

impl FoundFile {
    /// Tells whether anyone may execute the file.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }
}

impl Root {
    /// Opens the directory `path` itself, which is trusted and may be reached through links.
    ///
    /// # Errors
    /// When it can't be opened or is no directory.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(SysError::on("opening", path))?;
        Ok(Self { dir, path: path.to_owned() })
    }

    /// Takes an open directory as root; `path` is what messages call it.
    pub fn from_fd(dir: OwnedFd, path: &Path) -> Self {
        Self { dir, path: path.to_owned() }
    }

    /// The path of the root on the host, as it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what `inside` leads to with the given flags, and follows links as they go inside the root.
    ///
    /// # Errors
    /// When the kernel refuses; the message has the host's path.
    pub fn open_with(&self, inside: &Path, flags: OFlags) -> Result<OwnedFd, SysError> {
        self.resolve(inside, flags, ResolveFlags::empty())
            .map_err(SysError::on("opening", self.shown(inside)))
    }

    /// Opens the directory that `inside` leads to, following links inside the root.
    ///
    /// # Errors
    /// When there is none.
    pub fn open_dir(&self, inside: &Path) -> Result<OwnedFd, SysError> {
        self.open_with(inside, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the regular file that `inside` leads to; a device or FIFO is refused and never waited for.
    ///
    /// # Errors
    /// When it can't be opened, or is no regular file.
    pub fn open_file(&self, inside: &Path) -> Result<File, SysError> {
        // The type is looked at before anything is opened for real: opening a device can have effects.
        let fd = self.open_with(inside, OFlags::PATH)?;
        self.expect_regular(&fd, inside)?;
        let fd = self.open_with(inside, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        self.expect_regular(&fd, inside)?;
        Ok(File::from(fd))
    }

    /// Reads the regular file that `inside` leads to, at most `limit` bytes of it.
    ///
    /// # Errors
    /// When it can't be read, is no regular file, or is longer than `limit`.
    pub fn read_file(&self, inside: &Path, limit: u64) -> Result<Vec<u8>, SysError> {
        let mut bytes = Vec::new();
        let file = self.open_file(inside)?;
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(SysError::on("reading", self.shown(inside)))?;
        if bytes.len() as u64 > limit {
            return Err(SysError::new("reading", self.shown(inside), Errno::FBIG));
        }
        Ok(bytes)
    }

    /// The status of what `inside` leads to, following links inside the root.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub fn metadata(&self, inside: &Path) -> Result<Stat, SysError> {
        let fd = self.open_with(inside, OFlags::PATH)?;
        rustix::fs::fstat(&fd).map_err(SysError::on("looking at", self.shown(inside)))
    }

    /// The numeric owner and group of what `inside` leads to.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub fn owner(&self, inside: &Path) -> Result<(u32, u32), SysError> {
        self.metadata(inside).map(|status| (status.st_uid, status.st_gid))
    }

    /// Finds the regular file that `inside` leads to; `None` when it leads nowhere or to something else.
    ///
    /// # Errors
    /// When the kernel could not tell.
    pub fn find_file(&self, inside: &Path) -> Result<Option<FoundFile>, SysError> {
        let fd = match self.resolve(inside, OFlags::PATH, ResolveFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => return Ok(None),
            Err(cause) => return Err(SysError::new("opening", self.shown(inside), cause)),
        };
        let status = rustix::fs::fstat(&fd).map_err(SysError::on("looking at", self.shown(inside)))?;
        let is_file = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
        Ok(is_file.then(|| FoundFile {
            mode: status.st_mode & 0o7777,
            uid: status.st_uid,
            gid: status.st_gid,
            size: u64::try_from(status.st_size).unwrap_or(0),
        }))
    }

    /// Makes the directory `inside` and the missing ones above it, with `mode`, and opens it (`O_PATH`).
    ///
    /// Links on the way are followed inside the root; what a dangling link names is not made.
    ///
    /// # Errors
    /// When something that is no directory is in the way, or the kernel refuses.
    pub fn ensure_dir(&self, inside: &Path, mode: u32) -> Result<OwnedFd, SysError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        if let Ok(fd) = self.resolve(inside, flags, ResolveFlags::empty()) {
            return Ok(fd);
        }
        let mut so_far = PathBuf::from(".");
        let mut here = self.open_with(&so_far, flags)?;
        for part in inside.components() {
            if let std::path::Component::Normal(name) = part {
                match rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(mode)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(cause) => {
                        return Err(SysError::new("creating", self.shown(&so_far.join(name)), cause));
                    }
                }
            }
            so_far.push(part.as_os_str());
            here = self.open_with(&so_far, flags)?;
        }
        Ok(here)
    }

    fn expect_regular(&self, fd: &OwnedFd, inside: &Path) -> Result<(), SysError> {
        let status = rustix::fs::fstat(fd).map_err(SysError::on("looking at", self.shown(inside)))?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => Ok(()),
            FileType::Directory => Err(SysError::new("opening", self.shown(inside), Errno::ISDIR)),
            _ => {
                let cause = std::io::Error::new(std::io::ErrorKind::InvalidInput, "Not a regular file");
                Err(SysError::new("opening", self.shown(inside), cause))
            }
        }
    }

    fn resolve(&self, inside: &Path, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        resolve_in(self.dir.as_fd(), inside.as_os_str(), flags, more)
    }

    fn shown(&self, inside: &Path) -> PathBuf {
        self.path.join(inside.strip_prefix("/").unwrap_or(inside))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Opens `inside` below `root` with `RESOLVE_IN_ROOT` and without magic links.
///
/// # Errors
/// What openat2(2) says.
pub(crate) fn resolve_in(
    root: BorrowedFd<'_>,
    inside: &OsStr,
    flags: OFlags,
    more: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let inside = if inside.is_empty() { OsStr::new(".") } else { inside };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    // EAGAIN: a `..` raced with a rename somewhere on the system; openat2(2) says to try again.
    for _ in 0..128 {
        match rustix::fs::openat2(root, inside, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

/// Looks at `name` in `dir` without following it.
pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// `/outside` holds a canary; `/root` is the root, with links of every hostile kind.
    fn fixture() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(dir.path().join("canary"), "outside").unwrap();
        std::fs::write(root.join("etc/passwd"), "inside").unwrap();
        std::fs::write(root.join("canary"), "inside").unwrap();
        symlink("../../../../canary", root.join("up")).unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("/proc/self/root/etc", root.join("magic")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/etc", root.join("link")).unwrap();
        dir
    }

    #[test]
    fn paths_and_links_stay_inside() {
        let dir = fixture();
        let root = Root::open(&dir.path().join("root")).unwrap();
        for path in ["canary", "/canary", "../../canary", "up", "etc/../../canary", "absolute", "link/passwd"]
        {
            assert_eq!(root.read_file(Path::new(path), 100).unwrap(), b"inside", "{path}");
        }
        for path in ["magic/passwd", "loop", "no/such", "canary/x"] {
            assert!(root.read_file(Path::new(path), 100).is_err(), "{path}");
            assert_eq!(root.find_file(Path::new(path)).unwrap(), None, "{path}");
        }
        assert!(root.open_dir(Path::new("link")).is_ok());
    }

    #[test]
    fn only_regular_files_up_to_the_limit_are_read() {
        let dir = fixture();
        let root = Root::open(&dir.path().join("root")).unwrap();
        rustix::fs::mknodat(
            &root,
            "fifo",
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            rustix::fs::makedev(0, 0),
        )
        .unwrap();
        let fifo = root.read_file(Path::new("fifo"), 10).unwrap_err().to_string();
        assert!(fifo.ends_with("root/fifo: Not a regular file"), "{fifo}");
        let long = root.read_file(Path::new("canary"), 5).unwrap_err().to_string();
        assert!(long.ends_with("root/canary: File too large"), "{long}");
        assert!(root.read_file(Path::new("etc"), 5).unwrap_err().to_string().ends_with("Is a directory"));
    }

    #[test]
    fn ensure_dir_makes_missing_parents_inside() {
        let dir = fixture();
        let root = Root::open(&dir.path().join("root")).unwrap();
        root.ensure_dir(Path::new("link/a/b"), 0o755).unwrap();
        assert!(dir.path().join("root/etc/a/b").is_dir());
        root.ensure_dir(Path::new("/x/y"), 0o755).unwrap();
        assert!(dir.path().join("root/x/y").is_dir());
        assert!(root.ensure_dir(Path::new("canary/y"), 0o755).is_err());
    }
}
