//! From a manifest and a root file system on disk to the file of an image (spec build-tools.md 6.3.4).
//!
//! `rootfs`, what is in it in path order, `manifest`; packed with gzip. The same tree gives the same bytes, so that its
//! ID says whether anything has changed. What is written is what this user sees on disk: owners, modes, times in whole
//! seconds, extended attributes that images keep, hard links, FIFOs and device nodes. Nothing is followed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha512};

use super::archive::write::Writer;
use super::archive::{Entry, EntryPath, Kind};
use crate::os::tree::kept_xattrs;
use crate::os::walk::{Step, Walk};
use crate::os::{Hint, SysError};

const BUFFER: usize = 128 * 1024;

/// What becomes an image.
#[derive(Debug)]
pub struct Content<'a> {
    /// The root file system.
    pub rootfs: OwnedFd,
    /// What messages call it.
    pub rootfs_path: &'a Path,
    /// The manifest.
    pub manifest: &'a [u8],
    /// When the manifest was changed last, in seconds since the epoch.
    pub manifest_mtime: i64,
    /// What becomes of sockets, which no archive can hold.
    pub sockets: Sockets,
}

/// What becomes of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// There is no image then.
    Refuse,
    /// They are left out and counted: whoever listened there is gone.
    LeaveOut,
}

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The SHA-512 of the unpacked archive.
    pub digest: [u8; 64],
    /// Sockets that were left out.
    pub sockets_left_out: u64,
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused to read or to write.
    #[error(transparent)]
    System(#[from] SysError),
    /// An image can't hold this.
    #[error("{} can't be part of an image: {problem}", .path.display())]
    Unfit {
        /// What.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

impl Hint for WriteError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::System(cause) => cause.hint(),
            Self::Unfit { .. } => None,
        }
    }
}

/// Writes the image to `file`, which messages call `file_path`.
///
/// Nothing is synced.
///
/// # Errors
/// When something can't be read, can't be part of an image, or the file can't be written.
pub fn write(content: Content<'_>, file: &File, file_path: &Path) -> Result<Written, WriteError> {
    // Neither a name nor a time, and "unknown" (255) as the system.
    let packed = GzBuilder::new().mtime(0).operating_system(255).write(file, Compression::default());
    let archive = Writer::new(Hashed { hash: Sha512::new(), to: packed });
    let Content { rootfs, rootfs_path, manifest, manifest_mtime, sockets } = content;
    let mut writing = Writing { archive, file_path, sockets, sockets_left_out: 0, linked: HashMap::new() };

    let status = rustix::fs::fstat(&rootfs).map_err(SysError::on("looking at", rootfs_path))?;
    writing.entry(&entry(top(), Kind::Directory, &status))?;
    let mut walk = Walk::new(rootfs, rootfs_path)?;
    while let Some(step) = walk.step()? {
        writing.step(&walk, &step)?;
    }
    writing.manifest(manifest, manifest_mtime)?;
    let sockets_left_out = writing.sockets_left_out;
    let hashed = writing.archive.finish().map_err(SysError::on("writing", file_path))?;
    hashed.to.finish().map_err(SysError::on("writing", file_path))?;
    Ok(Written { digest: hashed.hash.finalize().into(), sockets_left_out })
}

struct Writing<'a> {
    archive: Writer<Hashed<GzEncoder<&'a File>>>,
    file_path: &'a Path,
    sockets: Sockets,
    sockets_left_out: u64,
    /// Where a file with more than one name was written.
    linked: HashMap<(u64, u64), EntryPath>,
}

impl Writing<'_> {
    fn step(&mut self, walk: &Walk, step: &Step) -> Result<(), WriteError> {
        let unfit = |problem: String| WriteError::Unfit { path: walk.shown(&step.path), problem };
        let failed = |doing| move |cause: io::Error| SysError::new(doing, walk.shown(&step.path), cause);
        let path = in_archive(&step.path).map_err(unfit)?;
        let kind = match FileType::from_raw_mode(step.status.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => return self.file(walk, step, path),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(walk.dir(), &step.name, Vec::new());
                Kind::Symlink(text.map_err(|cause| failed("reading")(cause.into()))?.into_bytes())
            }
            FileType::Fifo => Kind::Fifo,
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => Kind::Device {
                is_character: kind == FileType::CharacterDevice,
                major: rustix::fs::major(step.status.st_rdev),
                minor: rustix::fs::minor(step.status.st_rdev),
            },
            FileType::Socket if self.sockets == Sockets::LeaveOut => {
                self.sockets_left_out += 1;
                return Ok(());
            }
            FileType::Socket => return Err(unfit("it is a socket".into())),
            FileType::Unknown => return Err(unfit("its type is unknown".into())),
        };
        self.entry(&entry(path, kind, &step.status))
    }

    fn file(&mut self, walk: &Walk, step: &Step, path: EntryPath) -> Result<(), WriteError> {
        let shown = || walk.shown(&step.path);
        let identity = (step.status.st_dev, step.status.st_ino);
        if step.status.st_nlink > 1 {
            if let Some(first) = self.linked.get(&identity) {
                return self.entry(&entry(path, Kind::HardLink(first.clone()), &step.status));
            }
            self.linked.insert(identity, path.clone());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(walk.dir(), &step.name, flags, Mode::empty())
            .map_err(|cause| SysError::new("opening", shown(), cause))?;
        let status = rustix::fs::fstat(&fd).map_err(|cause| SysError::new("looking at", shown(), cause))?;
        let changed = || WriteError::Unfit { path: shown(), problem: "it is being changed".into() };
        if (status.st_dev, status.st_ino) != identity
            || FileType::from_raw_mode(status.st_mode) != FileType::RegularFile
        {
            return Err(changed());
        }
        let mut entry = entry(path, Kind::File { sparse: None }, &status);
        entry.size = u64::try_from(status.st_size).unwrap_or(0);
        entry.xattrs = kept_xattrs(fd.as_fd())
            .map_err(|cause| SysError::new("reading the attributes of", shown(), cause))?;
        if let Some((name, _)) = entry.xattrs.iter().find(|(name, _)| name.contains(&b'=')) {
            let problem = format!("the name of its attribute {} contains \"=\"", name.escape_ascii());
            return Err(WriteError::Unfit { path: shown(), problem });
        }
        self.entry(&entry)?;
        let mut file = File::from(fd).take(entry.size);
        let mut buffer = vec![0; BUFFER.min(usize::try_from(entry.size).unwrap_or(BUFFER))];
        let mut left = entry.size;
        while left > 0 {
            match file.read(&mut buffer) {
                Ok(0) => return Err(changed()),
                Ok(count) => {
                    self.data(&buffer[..count])?;
                    left -= count as u64;
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(SysError::new("reading", shown(), cause).into()),
            }
        }
        Ok(())
    }

    fn manifest(&mut self, bytes: &[u8], mtime: i64) -> Result<(), WriteError> {
        self.entry(&Entry {
            path: EntryPath::new(b"manifest").expect("it is a name"),
            kind: Kind::File { sparse: None },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (mtime, 0),
            xattrs: Vec::new(),
            size: bytes.len() as u64,
        })?;
        self.data(bytes)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), WriteError> {
        Ok(self.archive.entry(entry).map_err(SysError::on("writing", self.file_path))?)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        Ok(self.archive.data(bytes).map_err(SysError::on("writing", self.file_path))?)
    }
}

fn top() -> EntryPath {
    EntryPath::new(b"rootfs").expect("it is a name")
}

fn in_archive(inside: &Path) -> Result<EntryPath, String> {
    EntryPath::new(&[b"rootfs/", inside.as_os_str().as_bytes()].concat())
}

fn entry(path: EntryPath, kind: Kind, status: &Stat) -> Entry {
    Entry {
        path,
        kind,
        mode: status.st_mode & 0o7777,
        uid: status.st_uid,
        gid: status.st_gid,
        mtime: (status.st_mtime, 0),
        xattrs: Vec::new(),
        size: 0,
    }
}

/// Hashes what passes.
struct Hashed<W> {
    hash: Sha512,
    to: W,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
