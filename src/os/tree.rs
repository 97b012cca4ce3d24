//! Whole trees of files: removed and copied by directory descriptors, without recursion.
//!
//! The content may be hostile, as it came out of an image or was written by a pod: links are never followed, a mount is
//! never crossed, a FIFO or device never opened, and no depth overflows the stack or runs out of descriptors. At any
//! time one directory is open (two in a copy); the way back up is `..`, checked against the inode that was left.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::SysError;
use super::root::stat_at;

/// Removes `path` and all below it; nothing there is success.
///
/// What can be removed is removed also when something else can't be. No data is written, so that it works on a full
/// disk.
///
/// # Errors
/// The first refusal. A mount point at or below `path` is refused and left alone.
pub fn remove(path: &Path) -> Result<(), SysError> {
    let (parent, name) = open_parent(path)?;
    remove_at(parent, name, path)
}

/// Removes `name` in `parent` and all below it, as [`remove`] does; messages call it `path`.
///
/// # Errors
/// As [`remove`].
pub fn remove_at(parent: OwnedFd, name: &OsStr, path: &Path) -> Result<(), SysError> {
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EPERM is what POSIX, and some file systems, say of a directory.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(cause) => return Err(SysError::new("removing", path, cause)),
    }
    let mut removal = Removal { top: path, frames: Vec::new(), first_error: None };
    removal.run(parent, name);
    removal.first_error.map_or(Ok(()), Err)
}

/// A directory on the way down.
struct Frame {
    name: OsString,
    identity: (u64, u64),
    /// Subdirectories that are still to do.
    dirs: Vec<OsString>,
    passes: u8,
}

struct Removal<'a> {
    top: &'a Path,
    frames: Vec<Frame>,
    first_error: Option<SysError>,
}

impl Removal<'_> {
    fn run(&mut self, base: OwnedFd, name: &OsStr) {
        let Some(mut here) = self.enter(base.as_fd(), name) else { return };
        loop {
            let next = self.frames.last_mut().and_then(|frame| frame.dirs.pop());
            if let Some(name) = next {
                if let Some(below) = self.enter(here.as_fd(), &name) {
                    here = below;
                }
                continue;
            }
            let Some(done) = self.frames.pop() else { return };
            let parent = match self.frames.last() {
                None => None,
                Some(above) => match open_above(&here, above.identity) {
                    Ok(fd) => Some(fd),
                    Err(cause) => return self.note("leaving", &done.name, cause),
                },
            };
            let parent_fd = parent.as_ref().map_or(base.as_fd(), AsFd::as_fd);
            match rustix::fs::unlinkat(parent_fd, &done.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                // Some file systems pass over entries when others are removed under the reader: look again.
                Err(Errno::NOTEMPTY | Errno::EXIST) if self.first_error.is_none() && done.passes < 8 => {
                    self.frames.push(Frame { passes: done.passes + 1, ..done });
                    self.sweep(&here);
                    continue;
                }
                Err(cause) => self.note("removing", &done.name, cause),
            }
            match parent {
                Some(fd) => here = fd,
                None => return,
            }
        }
    }

    /// Opens the directory `name`, removes all in it that is no directory, and remembers the rest.
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Option<OwnedFd> {
        let opened = open_below(parent, name).or_else(|cause| match cause {
            Errno::ACCESS => allow_owner(parent, name).and_then(|()| open_below(parent, name)),
            cause => Err(cause),
        });
        let opened = opened.and_then(|fd| rustix::fs::fstat(&fd).map(|status| (fd, status)));
        match opened {
            Ok((fd, status)) => {
                let identity = (status.st_dev, status.st_ino);
                self.frames.push(Frame { name: name.to_owned(), identity, dirs: Vec::new(), passes: 0 });
                if status.st_mode & 0o700 != 0o700 {
                    // Only root can do without; for others the entries could not be removed.
                    let _ = rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o700));
                }
                self.sweep(&fd);
                Some(fd)
            }
            Err(Errno::NOENT) => None,
            Err(Errno::XDEV) => {
                self.note("removing", name, std::io::Error::other("it is a mount point"));
                None
            }
            Err(cause) => {
                self.note("opening", name, cause);
                None
            }
        }
    }

    fn sweep(&mut self, here: &OwnedFd) {
        let mut dir = match Dir::read_from(here) {
            Ok(dir) => dir,
            Err(cause) => return self.note("reading", OsStr::new(""), cause),
        };
        while let Some(entry) = dir.read() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(cause) => return self.note("reading", OsStr::new(""), cause),
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::Unknown => stat_at(here.as_fd(), name).is_ok_and(|status| is_dir(&status)),
                file_type => file_type == FileType::Directory,
            };
            if is_dir {
                if let Some(frame) = self.frames.last_mut() {
                    frame.dirs.push(name.to_owned());
                }
                continue;
            }
            match rustix::fs::unlinkat(here, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(cause) => self.note("removing", name, cause),
            }
        }
    }

    fn note(&mut self, doing: &'static str, name: &OsStr, cause: impl Into<std::io::Error>) {
        if self.first_error.is_none() {
            let mut path = self.top.to_owned();
            path.extend(self.frames.iter().skip(1).map(|frame| &frame.name));
            let at_top = self.frames.is_empty();
            let path = if at_top || name.is_empty() { path } else { path.join(name) };
            self.first_error = Some(SysError::new(doing, path, cause));
        }
    }
}

/// Copies the directory `from` with all below it to the new directory `to`, as `cp -a` does.
///
/// Owners, modes, times, links, hard links within the tree, FIFOs, device nodes and the extended attributes of
/// [`keeps_xattr`] are kept; holes stay holes; content is shared with the source where the file system can. Owners are
/// kept as far as the caller is root.
///
/// # Errors
/// The first refusal, with what was made so far left in place. Sockets and mount points are refused.
pub fn copy(from: &Path, to: &Path) -> Result<(), SysError> {
    copy_with(from, to, CopyOptions { hard_links: HardLinks::Keep, without: None }).map(drop)
}

/// What becomes of the names of a file that has several within a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HardLinks {
    /// They lead to one file again.
    Keep,
    /// Each becomes a file of its own.
    Separate,
}

/// How a copy differs from the source.
#[derive(Debug, Clone, Copy)]
pub struct CopyOptions {
    /// What becomes of hard links.
    pub hard_links: HardLinks,
    /// Device and inode of a directory that is left out, with all below it, also if it is the source itself.
    pub without: Option<(u64, u64)>,
}

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The directory [`CopyOptions::without`] was met, and left out.
    pub left_out: bool,
}

/// Copies whatever `from` is to the new path `to`, a directory with all below it, as [`copy`] does.
///
/// A link at the end of `from` is copied, not followed; a directory may be reached by any path, and may be a mount
/// point itself.
///
/// # Errors
/// As [`copy`].
pub fn copy_with(from: &Path, to: &Path, options: CopyOptions) -> Result<Copied, SysError> {
    let (target_parent, target_name) = open_parent(to)?;
    let target = (target_parent.as_fd(), target_name);
    let is_root = rustix::process::geteuid().is_root();
    let mut copying =
        Copying { from, to, is_root, options, frames: Vec::new(), linked: HashMap::new(), left_out: false };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let status = rustix::fs::open(from, flags, Mode::empty())
        .and_then(rustix::fs::fstat)
        .map_err(SysError::on("opening", from))?;
    if options.without == Some((status.st_dev, status.st_ino)) {
        return Ok(Copied { left_out: true });
    }
    if is_dir(&status) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::open(from, flags, Mode::empty()).map_err(SysError::on("opening", from))?;
        copying.run(source, target)?;
    } else {
        let (source_parent, source_name) = open_parent(from)?;
        copying
            .copy_one(source_parent.as_fd(), source_name, target, &status)
            .map_err(SysError::on("copying", from))?;
    }
    Ok(Copied { left_out: copying.left_out })
}

struct CopyFrame {
    name: OsString,
    source: Stat,
    target_identity: (u64, u64),
    dirs: Vec<OsString>,
}

struct Copying<'a> {
    from: &'a Path,
    to: &'a Path,
    is_root: bool,
    options: CopyOptions,
    frames: Vec<CopyFrame>,
    /// Where a file with more than one name was copied to, relative to `to`.
    linked: HashMap<(u64, u64), PathBuf>,
    left_out: bool,
}

/// A name in an open directory.
type At<'a> = (BorrowedFd<'a>, &'a OsStr);

impl Copying<'_> {
    fn run(&mut self, source: OwnedFd, target: At<'_>) -> Result<(), SysError> {
        let (mut source_dir, mut target_dir) = self.enter_opened(source, OsStr::new(""), target)?;
        let root = target_dir.try_clone().map_err(SysError::on("opening", self.to))?;
        self.copy_entries(&source_dir, &target_dir, &root)?;
        loop {
            let next = self.frames.last_mut().and_then(|frame| frame.dirs.pop());
            if let Some(name) = next {
                (source_dir, target_dir) =
                    self.enter((source_dir.as_fd(), &name), (target_dir.as_fd(), &name))?;
                self.copy_entries(&source_dir, &target_dir, &root)?;
                continue;
            }
            let Some(done) = self.frames.pop() else { return Ok(()) };
            self.copy_metadata(&source_dir, &target_dir, &done.source)
                .map_err(|cause| SysError::new("copying to", self.target_path(&done.name), cause))?;
            if let Some(above) = self.frames.last() {
                let identity = (above.source.st_dev, above.source.st_ino);
                source_dir = open_above(&source_dir, identity).map_err(SysError::on("leaving", self.from))?;
                target_dir = open_above(&target_dir, above.target_identity)
                    .map_err(SysError::on("leaving", self.to))?;
            }
        }
    }

    fn enter(&mut self, source: At<'_>, target: At<'_>) -> Result<(OwnedFd, OwnedFd), SysError> {
        let opened = open_below(source.0, source.1).map_err(|cause| match cause {
            Errno::XDEV => {
                let cause = std::io::Error::other("It is a mount point");
                SysError::new("copying", self.source_path(source.1), cause)
            }
            cause => SysError::new("opening", self.source_path(source.1), cause),
        })?;
        self.enter_opened(opened, source.1, target)
    }

    fn enter_opened(
        &mut self,
        opened: OwnedFd,
        name: &OsStr,
        target: At<'_>,
    ) -> Result<(OwnedFd, OwnedFd), SysError> {
        let status = rustix::fs::fstat(&opened)
            .map_err(|cause| SysError::new("looking at", self.source_path(name), cause))?;
        let made = rustix::fs::mkdirat(target.0, target.1, Mode::from_raw_mode(0o700))
            .and_then(|()| open_below(target.0, target.1))
            .and_then(|fd| rustix::fs::fstat(&fd).map(|status| (fd, status)));
        let (made, made_status) =
            made.map_err(|cause| SysError::new("creating", self.target_path(target.1), cause))?;
        self.frames.push(CopyFrame {
            name: name.to_owned(),
            source: status,
            target_identity: (made_status.st_dev, made_status.st_ino),
            dirs: Vec::new(),
        });
        Ok((opened, made))
    }

    fn copy_entries(&mut self, source: &OwnedFd, target: &OwnedFd, root: &OwnedFd) -> Result<(), SysError> {
        let mut dir = Dir::read_from(source)
            .map_err(|cause| SysError::new("reading", self.source_path(OsStr::new("")), cause))?;
        while let Some(entry) = dir.read() {
            let entry =
                entry.map_err(|cause| SysError::new("reading", self.source_path(OsStr::new("")), cause))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let status = stat_at(source.as_fd(), name)
                .map_err(|cause| SysError::new("looking at", self.source_path(name), cause))?;
            if self.options.without == Some((status.st_dev, status.st_ino)) {
                self.left_out = true;
                continue;
            }
            if is_dir(&status) {
                if let Some(frame) = self.frames.last_mut() {
                    frame.dirs.push(name.to_owned());
                }
                continue;
            }
            let keeps_links = self.options.hard_links == HardLinks::Keep;
            if keeps_links && status.st_nlink > 1 && !self.first_of_links(name, &status, target, root)? {
                continue;
            }
            self.copy_one(source.as_fd(), name, (target.as_fd(), name), &status)
                .map_err(|cause| SysError::new("copying", self.source_path(name), cause))?;
        }
        Ok(())
    }

    /// Tells whether the file still has to be copied; if not, it was linked to the copy that there is.
    fn first_of_links(
        &mut self,
        name: &OsStr,
        status: &Stat,
        target: &OwnedFd,
        root: &OwnedFd,
    ) -> Result<bool, SysError> {
        let relative: PathBuf =
            self.frames.iter().skip(1).map(|frame| frame.name.as_os_str()).chain([name]).collect();
        match self.linked.entry((status.st_dev, status.st_ino)) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(relative);
                Ok(true)
            }
            // All parts of the path are directories that were made here.
            std::collections::hash_map::Entry::Occupied(first) => {
                rustix::fs::linkat(root, first.get(), target, name, AtFlags::empty())
                    .map(|()| false)
                    .map_err(SysError::on("linking", self.to.join(relative)))
            }
        }
    }

    fn copy_one(
        &self,
        source: BorrowedFd<'_>,
        name: &OsStr,
        (target, target_name): At<'_>,
        status: &Stat,
    ) -> std::io::Result<()> {
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let input = rustix::fs::openat(source, name, flags, Mode::empty())?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let output = rustix::fs::openat(target, target_name, flags, Mode::from_raw_mode(0o600))?;
                copy_content(&input, &output, status)?;
                Ok(self.copy_metadata(&input, &output, status)?)
            }
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(text, target, target_name)?;
                Ok(self.copy_name_metadata(target, target_name, status)?)
            }
            kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
                rustix::fs::mknodat(target, target_name, kind, Mode::from_raw_mode(0o600), status.st_rdev)?;
                // Just made by us, and no link, so following it is no question.
                self.copy_name_metadata(target, target_name, status)?;
                rustix::fs::chmodat(target, target_name, permissions(status), AtFlags::empty())?;
                Ok(rustix::fs::utimensat(target, target_name, &times(status), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            _ => Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "It is a socket")),
        }
    }

    /// Owner, then mode, then attributes, then times: each step may undo what a later one sets.
    fn copy_metadata(&self, source: &OwnedFd, target: &OwnedFd, status: &Stat) -> Result<(), Errno> {
        if self.is_root {
            rustix::fs::fchown(
                target,
                Some(Uid::from_raw(status.st_uid)),
                Some(Gid::from_raw(status.st_gid)),
            )?;
        }
        rustix::fs::fchmod(target, permissions(status))?;
        copy_xattrs(source, target, self.is_root)?;
        rustix::fs::futimens(target, &times(status))
    }

    fn copy_name_metadata(&self, target: BorrowedFd<'_>, name: &OsStr, status: &Stat) -> Result<(), Errno> {
        if self.is_root {
            let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
            rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        rustix::fs::utimensat(target, name, &times(status), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn source_path(&self, name: &OsStr) -> PathBuf {
        self.shown(self.from, name)
    }

    fn target_path(&self, name: &OsStr) -> PathBuf {
        self.shown(self.to, name)
    }

    fn shown(&self, top: &Path, name: &OsStr) -> PathBuf {
        let mut path = top.to_owned();
        path.extend(self.frames.iter().skip(1).map(|frame| &frame.name));
        if !self.frames.is_empty() && !name.is_empty() {
            path.push(name);
        }
        path
    }
}

/// Tells whether an extended attribute of an image's file is kept, by an allow-list.
///
/// File capabilities and the user's own attributes are; `user.overlay.*` and `trusted.overlay.*` would be orders to
/// overlayfs, and `security.*` else belongs to the host's security module.
pub fn keeps_xattr(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// The kernel's limit for the value of an attribute, and for the list of names (xattr(7), "Filesystem differences").
const XATTR_LIMIT: usize = 64 * 1024;

/// An extended attribute: its name and its value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Reads the extended attributes of an open file that [`keeps_xattr`] keeps, sorted by name.
///
/// # Errors
/// What the kernel says; a file system without attributes has none.
pub fn kept_xattrs(file: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
    // rustix answers the question for the length alone, with an empty buffer, with 0.
    let mut names = vec![0; 1024];
    let length = loop {
        match rustix::fs::flistxattr(file, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < XATTR_LIMIT => names.resize(XATTR_LIMIT, 0),
            // The file system has none.
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(cause) => return Err(cause),
        }
    };
    let mut kept = Vec::new();
    let mut value = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| keeps_xattr(name)) {
        value.resize(XATTR_LIMIT, 0);
        let length = rustix::fs::fgetxattr(file, name, &mut value[..])?;
        kept.push((name.to_vec(), value[..length].to_vec()));
    }
    kept.sort_unstable();
    Ok(kept)
}

fn copy_xattrs(source: &OwnedFd, target: &OwnedFd, is_root: bool) -> Result<(), Errno> {
    for (name, value) in kept_xattrs(source.as_fd())? {
        match rustix::fs::fsetxattr(target, name.as_slice(), &value, XattrFlags::empty()) {
            Ok(()) => {}
            // A file system without user attributes; they carry nothing that a program must have to run.
            Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => {}
            // Who may not give files away may not give capabilities either.
            Err(Errno::PERM) if !is_root => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

fn copy_content(input: &OwnedFd, output: &OwnedFd, status: &Stat) -> Result<(), Errno> {
    if status.st_size == 0 || rustix::fs::ioctl_ficlone(output, input).is_ok() {
        return Ok(());
    }
    let size = u64::try_from(status.st_size).unwrap_or(0);
    let has_holes = u64::try_from(status.st_blocks).unwrap_or(0) < size.div_ceil(512);
    let mut start = 0;
    while start < size {
        let (from, to) = if has_holes {
            match rustix::fs::seek(input, SeekFrom::Data(start)) {
                Ok(data) => (data, rustix::fs::seek(input, SeekFrom::Hole(data))?.min(size)),
                Err(Errno::NXIO) => break,
                Err(cause) => return Err(cause),
            }
        } else {
            (start, size)
        };
        copy_range(input, output, from, to)?;
        start = to;
    }
    if has_holes { rustix::fs::ftruncate(output, size) } else { Ok(()) }
}

fn copy_range(input: &OwnedFd, output: &OwnedFd, from: u64, to: u64) -> Result<(), Errno> {
    let (mut read_at, mut write_at) = (from, from);
    let mut in_kernel = true;
    let mut buffer = Vec::new();
    while read_at < to {
        let left = usize::try_from(to - read_at).unwrap_or(usize::MAX).min(1 << 30);
        if in_kernel {
            match rustix::fs::copy_file_range(input, Some(&mut read_at), output, Some(&mut write_at), left) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => in_kernel = false,
                Err(cause) => return Err(cause),
            }
            continue;
        }
        buffer.resize(128 * 1024, 0);
        let want = left.min(buffer.len());
        let got = rustix::io::retry_on_intr(|| rustix::io::pread(input, &mut buffer[..want], read_at))?;
        if got == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..got];
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(output, rest, write_at))?;
            write_at += written as u64;
            rest = &rest[written..];
        }
        read_at += got as u64;
    }
    Ok(())
}

/// Opens a directory without following a link and without crossing a mount (`EXDEV`).
pub(super) fn open_below(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    loop {
        match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
}

/// Opens `..` of a directory if it is still the directory that was left.
pub(super) fn open_above(here: &OwnedFd, identity: (u64, u64)) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let above = rustix::fs::openat(here, "..", flags, Mode::empty())?;
    let status = rustix::fs::fstat(&above)?;
    if (status.st_dev, status.st_ino) == identity { Ok(above) } else { Err(Errno::STALE) }
}

/// Gives the owner of a directory all permissions on it, which only a caller that is not root needs.
fn allow_owner(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let fd = rustix::fs::openat(
        parent,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    use std::os::fd::AsRawFd;
    // fchmod(2) refuses O_PATH; the name in procfs leads to exactly this inode.
    rustix::fs::chmodat(
        CWD,
        format!("/proc/self/fd/{}", fd.as_raw_fd()),
        Mode::from_raw_mode(0o700),
        AtFlags::empty(),
    )
}

fn open_parent(path: &Path) -> Result<(OwnedFd, &OsStr), SysError> {
    let Some(name) = path.file_name() else {
        return Err(SysError::new("opening", path, Errno::INVAL));
    };
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(fd) => Ok((fd, name)),
        Err(cause) => Err(SysError::new("opening", parent, cause)),
    }
}

fn is_dir(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::Directory
}

fn permissions(status: &Stat) -> Mode {
    Mode::from_raw_mode(status.st_mode & 0o7777)
}

fn times(status: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: status.st_atime, tv_nsec: nanoseconds(status.st_atime_nsec) },
        last_modification: Timespec { tv_sec: status.st_mtime, tv_nsec: nanoseconds(status.st_mtime_nsec) },
    }
}

fn nanoseconds(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// Makes directories in each other, `depth` of them, without ever using a long path.
    fn dig(top: &Path, depth: usize) {
        let mut here = rustix::fs::open(top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o700)).unwrap();
            here = open_below(here.as_fd(), OsStr::new("d")).unwrap();
        }
    }

    #[test]
    fn remove_takes_links_not_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::create_dir_all(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/canary"), "x").unwrap();
        symlink(dir.path().join("outside"), tree.join("a/link")).unwrap();
        symlink("../../outside/canary", tree.join("a/file")).unwrap();
        std::fs::set_permissions(tree.join("a/b"), PermissionsExt::from_mode(0o000)).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert!(dir.path().join("outside/canary").exists());
        remove(&tree).unwrap();
        symlink("outside", dir.path().join("top")).unwrap();
        remove(&dir.path().join("top")).unwrap();
        assert!(dir.path().join("outside/canary").exists());
    }

    #[test]
    fn deep_trees_are_removed_and_copied_without_recursion() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("deep")).unwrap();
        dig(&dir.path().join("deep"), 5000);
        copy(&dir.path().join("deep"), &dir.path().join("copy")).unwrap();
        remove(&dir.path().join("deep")).unwrap();
        remove(&dir.path().join("copy")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_mount_is_refused_named_and_left_alone() {
        if !rustix::process::geteuid().is_root() {
            panic!("this test mounts: run it as root (sudo -E cargo test)");
        }
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        for path in [tree.join("a/mnt"), tree.join("z"), other.clone()] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::fs::write(other.join("canary"), "x").unwrap();
        rustix::mount::mount_bind(&other, tree.join("a/mnt")).unwrap();
        let refused = remove(&tree).unwrap_err().to_string();
        let copied = copy(&tree, &dir.path().join("copy"));
        rustix::mount::unmount(tree.join("a/mnt"), rustix::mount::UnmountFlags::empty()).unwrap();
        assert_eq!(refused, format!("removing {}/a/mnt: it is a mount point", tree.display()));
        assert!(copied.is_err());
        assert!(other.join("canary").exists());
        assert!(!tree.join("z").exists(), "the rest is removed");
        remove(&tree).unwrap();
    }

    #[test]
    fn copy_keeps_what_a_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("sub")).unwrap();
        std::fs::write(from.join("sub/file"), "content").unwrap();
        rustix::fs::setxattr(from.join("sub/file"), "user.mine", b"1", XattrFlags::empty()).unwrap();
        std::fs::hard_link(from.join("sub/file"), from.join("hard")).unwrap();
        symlink("../../canary", from.join("link")).unwrap();
        rustix::fs::mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
        std::fs::set_permissions(from.join("fifo"), PermissionsExt::from_mode(0o620)).unwrap();
        let sparse = std::fs::File::create(from.join("sparse")).unwrap();
        rustix::fs::ftruncate(&sparse, 1 << 30).unwrap();
        rustix::io::pwrite(&sparse, b"end", (1 << 30) - 3).unwrap();
        std::fs::set_permissions(from.join("sub/file"), PermissionsExt::from_mode(0o4711)).unwrap();
        std::fs::set_permissions(from.join("sub"), PermissionsExt::from_mode(0o1755)).unwrap();
        let old = Timestamps {
            last_access: Timespec { tv_sec: 5, tv_nsec: 0 },
            last_modification: Timespec { tv_sec: 1_000_000, tv_nsec: 42 },
        };
        for name in ["sub/file", "sub", "link"] {
            rustix::fs::utimensat(CWD, from.join(name), &old, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        copy(&from, &to).unwrap();

        let (file, hard) = (to.join("sub/file").metadata().unwrap(), to.join("hard").metadata().unwrap());
        assert_eq!(std::fs::read(to.join("hard")).unwrap(), b"content");
        let copied = std::fs::File::open(to.join("hard")).unwrap();
        assert_eq!(kept_xattrs(copied.as_fd()).unwrap(), [(b"user.mine".to_vec(), b"1".to_vec())]);
        assert_eq!((file.ino(), file.nlink()), (hard.ino(), 2));
        assert_eq!(file.mode() & 0o7777, 0o4711);
        assert_eq!(to.join("sub").metadata().unwrap().mode() & 0o7777, 0o1755);
        for name in ["sub/file", "sub", "link"] {
            let status = to.join(name).symlink_metadata().unwrap();
            assert_eq!((status.mtime(), status.mtime_nsec()), (1_000_000, 42), "{name}");
        }
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("../../canary"));
        assert_eq!(to.join("fifo").symlink_metadata().unwrap().mode() & 0o7777, 0o620);
        let copied = to.join("sparse").metadata().unwrap();
        assert_eq!(copied.len(), 1 << 30);
        assert!(copied.blocks() < 100, "holes stay holes");
        assert!(copy(&from, &to).is_err(), "the target must be new");
    }

    #[test]
    fn sockets_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        std::fs::create_dir(&from).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("sock")).unwrap();
        let refused = copy(&from, &dir.path().join("to")).unwrap_err().to_string();
        assert_eq!(refused, format!("copying {}/sock: It is a socket", from.display()));
    }

    #[test]
    fn only_listed_attributes_are_kept() {
        for (name, kept) in [
            ("security.capability", true),
            ("user.mime_type", true),
            ("user.overlay.opaque", false),
            ("trusted.overlay.opaque", false),
            ("security.selinux", false),
            ("security.capability2", false),
            ("system.posix_acl_access", false),
            ("user", false),
        ] {
            assert_eq!(keeps_xattr(name.as_bytes()), kept, "{name}");
        }
    }
}
