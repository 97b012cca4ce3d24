//! A directory below which untrusted paths are resolved: the kernel keeps every link and every `..` inside it.
//!
//! Paths that come out of an image are never joined as strings and opened. They go through openat2(2) with
//! `RESOLVE_IN_ROOT` on a directory descriptor, so that `/`, `..` and links mean what they would mean after a chroot,
//! and no magic link of procfs leads out. What a path leads to is judged on the descriptor, not on the name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

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
                    // Whatever the caller's umask says.
                    Ok(()) => {
                        rustix::fs::chmodat(&here, name, Mode::from_raw_mode(mode), AtFlags::empty())
                            .map_err(SysError::on("changing the mode of", self.shown(&so_far.join(name))))?
                    }
                    Err(Errno::EXIST) => {}
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

    /// Follows every link of `inside` within the root and returns where it leads, an absolute path there without links
    /// and `..`. What is not there is taken for a directory that will be: it stays in the path as it is named.
    ///
    /// The answer holds for as long as nobody changes the tree.
    ///
    /// # Errors
    /// When there are too many links, or something can't be looked at.
    pub fn real_path(&self, inside: &Path) -> Result<PathBuf, SysError> {
        /// As the kernel has it (path_resolution(7)).
        const MOST_LINKS: usize = 40;
        let mut to_do: Vec<OsString> = names_reversed(inside);
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = to_do.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&name);
            match self.find_link(&next)? {
                None => real = next,
                Some(_) if links == MOST_LINKS => {
                    return Err(SysError::new("following the links of", self.shown(inside), Errno::LOOP));
                }
                Some(target) => {
                    links += 1;
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    to_do.extend(names_reversed(&target));
                }
            }
        }
        Ok(real)
    }

    /// The target of the link at `inside`, all of whose other parts are no links; `None` when it is none.
    fn find_link(&self, inside: &Path) -> Result<Option<PathBuf>, SysError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let link = match self.resolve(inside, flags, ResolveFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(cause) => return Err(SysError::new("opening", self.shown(inside), cause)),
        };
        match rustix::fs::readlinkat(&link, "", Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes())))),
            // readlink(2) on a descriptor of what is no link.
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(cause) => Err(SysError::new("reading", self.shown(inside), cause)),
        }
    }

    /// The status of the entry `name` of the root itself, of a link its own; `None` when it is not there.
    ///
    /// # Errors
    /// When the kernel could not tell.
    pub fn find_entry(&self, name: &OsStr) -> Result<Option<Stat>, SysError> {
        match stat_at(self.as_fd(), name) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(cause) => Err(SysError::new("looking at", self.path.join(name), cause)),
        }
    }

    /// Opens the directory `name` of the root as a root of its own; a link is refused.
    ///
    /// # Errors
    /// When it is not there, or no directory.
    pub fn descend(&self, name: &str) -> Result<Self, SysError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.path.join(name);
        let dir = rustix::fs::openat(&self.dir, name, flags, Mode::empty())
            .map_err(SysError::on("opening", &path))?;
        Ok(Self { dir, path })
    }

    /// Writes a new file `name` in the root itself with exactly `mode`, in the place of a file or link of that name,
    /// which is not followed.
    ///
    /// # Errors
    /// When a directory is in the way, or a step is refused; the old file may be gone then.
    pub fn replace_file(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), SysError> {
        let path = self.path.join(name);
        self.remove_entry(name, &path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let mut file = rustix::fs::openat(&self.dir, name, flags, mode)
            .map(File::from)
            .map_err(SysError::on("creating", &path))?;
        rustix::fs::fchmod(&file, mode).map_err(SysError::on("changing the mode of", &path))?;
        file.write_all(bytes).map_err(SysError::on("writing", &path))
    }

    /// Makes the link `name` in the root itself, where nothing is.
    ///
    /// # Errors
    /// When something is there, or the kernel refuses.
    pub fn link(&self, name: &str, target: &str) -> Result<(), SysError> {
        rustix::fs::symlinkat(target, &self.dir, name).map_err(SysError::on("creating", self.path.join(name)))
    }

    /// Makes the directory `name` in the root itself with exactly `mode`, where nothing is.
    ///
    /// # Errors
    /// When something is there, or the kernel refuses.
    pub fn make_dir(&self, name: &str, mode: u32) -> Result<(), SysError> {
        let (path, mode) = (self.path.join(name), Mode::from_raw_mode(mode));
        rustix::fs::mkdirat(&self.dir, name, mode).map_err(SysError::on("creating", &path))?;
        rustix::fs::chmodat(&self.dir, name, mode, AtFlags::empty())
            .map_err(SysError::on("changing the mode of", &path))
    }

    fn remove_entry(&self, name: &str, path: &Path) -> Result<(), SysError> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(SysError::new("replacing", path, cause)),
        }
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

/// The names of a path, the last one first; a root and `.` are none.
fn names_reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.rev().collect()
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
    fn the_real_path_has_no_links_and_stays_inside() {
        let dir = fixture();
        let root = Root::open(&dir.path().join("root")).unwrap();
        symlink("dangling/sub/..", dir.path().join("root/to-nowhere")).unwrap();
        symlink("link/../to-nowhere", dir.path().join("root/chain")).unwrap();
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("link/x", "/etc/x"),
            ("/up", "/canary"),
            ("absolute", "/etc/passwd"),
            ("magic/passwd", "/proc/self/root/etc/passwd"),
            ("../../etc", "/etc"),
            ("to-nowhere/y", "/dangling/y"),
            ("chain", "/dangling"),
        ] {
            assert_eq!(root.real_path(Path::new(path)).unwrap(), Path::new(expected), "{path}");
        }
        assert!(root.real_path(Path::new("loop/x")).is_err());
    }

    #[test]
    fn a_file_replaces_a_link_and_never_what_it_leads_to() {
        let dir = fixture();
        let root = Root::open(&dir.path().join("root")).unwrap();
        let host = dir.path().join("canary");
        symlink(&host, dir.path().join("root/etc/hosts")).unwrap();
        let etc = root.descend("etc").unwrap();
        etc.replace_file("hosts", b"new", 0o644).unwrap();
        etc.replace_file("passwd", b"new", 0o600).unwrap();
        assert_eq!(std::fs::read_to_string(&host).unwrap(), "outside");
        assert_eq!(std::fs::read_to_string(dir.path().join("root/etc/hosts")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(dir.path().join("root/etc/passwd")).unwrap(), "new");
        assert!(root.replace_file("etc", b"", 0o644).is_err());
        assert!(root.descend("link").is_err());
        assert!(root.find_entry(OsStr::new("link")).unwrap().is_some());
        assert!(root.find_entry(OsStr::new("none")).unwrap().is_none());
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
