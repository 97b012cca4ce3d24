//! Writes an image below a directory, whatever its archive says.
//!
//! A path is never joined and opened: its parent is resolved by openat2(2) inside the target, and the last part is made
//! there with `O_EXCL` and without following, so that nothing that exists is opened, changed or replaced. All metadata
//! goes through descriptors. What stands in the way of an entry makes the image invalid.
//!
//! The target must be a directory that nobody else can reach while this runs. Memory does not grow with the image:
//! instead of a list of directories whose times are set at the end, the time of a directory is put back when the
//! extraction moves on to another.

mod layer;
#[cfg(test)]
mod layer_tests;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;

use self::layer::LayerState;
pub use self::layer::{Unfinished, UnpackedLayer, Whiteout, hides_all, unpack_oci_layer};
use super::aci::{AciReader, Item, Layout, ListedDirs};
use super::archive::{ArchiveError, Entry, EntryPath, Kind, Place, Reader, Sparse};
use super::stream::{Chunks, Incoming, Limits, Passed, Source, StreamError};
use crate::os::root::{resolve_in, stat_at};
use crate::os::tree::keeps_xattr;
use crate::os::{Hint, SysError};

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Those of the image; needs root.
    OfImage,
    /// All the caller's.
    OfCaller,
}

/// What becomes of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// Left out and counted: an app's /dev is made by its pod.
    Skip,
    /// Made, as for a user who unpacks an image by hand. Whiteouts of overlayfs (0:0) are left out also then.
    Make,
}

/// Where and how to write.
pub struct Target<'a> {
    /// The directory that becomes `rootfs`; it exists and is empty.
    pub rootfs: &'a Path,
    /// Whose the files become.
    pub owners: Owners,
    /// What becomes of device nodes.
    pub devices: Devices,
}

/// What came out of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The bytes of `manifest`; not judged.
    pub manifest: Vec<u8>,
    /// Device nodes that were left out.
    pub skipped_devices: u64,
    /// Bytes of all regular files.
    pub size: u64,
}

/// Why an image could not be unpacked. The text names the entry; the caller adds the image.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The image is not valid.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

impl From<StreamError> for ExtractError {
    fn from(cause: StreamError) -> Self {
        Self::Archive(cause.into())
    }
}

impl Hint for ExtractError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(cause) => cause.hint(),
            Self::System(cause) => cause.hint(),
        }
    }
}

/// Sends the image in `source` through all checks and writes its root file system to `target`, if there is one.
///
/// # Errors
/// When the image is not valid or can't be written; what was written so far is left to the caller.
pub fn unpack(source: Source<'_>, target: Option<&Target<'_>>) -> Result<(Unpacked, Passed), ExtractError> {
    let limits = source.limits;
    super::stream::run(source, |incoming| match target {
        Some(target) => extract(incoming, target, &limits),
        None => inspect(incoming, &limits),
    })
}

/// As [`unpack`] to a target, for an image whose files are going to be merged with others': tells also which directories
/// it has entries for.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_layer(
    source: Source<'_>,
    target: &Target<'_>,
) -> Result<(Unpacked, ListedDirs, Passed), ExtractError> {
    let limits = source.limits;
    let extract = |incoming: &mut Incoming| extract_items(AciReader::new(incoming, &limits), target, &limits);
    super::stream::run(source, extract).map(|((unpacked, listed), passed)| (unpacked, listed, passed))
}

/// Writes the archive of a root file system, which has no manifest, to `target` in the same way.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_rootfs(source: Source<'_>, target: &Target<'_>) -> Result<Unpacked, ExtractError> {
    let limits = source.limits;
    let extract = |incoming: &mut Incoming| {
        extract_items(AciReader::with_layout(incoming, &limits, Layout::Rootfs), target, &limits)
    };
    super::stream::run(source, extract).map(|((unpacked, _), _)| unpacked)
}

/// Checks an image and writes nothing.
///
/// # Errors
/// When it is not valid.
pub fn inspect(from: impl ChunksMut, limits: &Limits) -> Result<Unpacked, ExtractError> {
    let mut reader = AciReader::new(from, limits);
    let mut unpacked = Unpacked { manifest: Vec::new(), skipped_devices: 0, size: 0 };
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Manifest(bytes) => unpacked.manifest = bytes,
            Item::Rootfs { entry, .. } => unpacked.size += entry.size,
        }
    }
    Ok(unpacked)
}

/// Writes the root file system of an image to `target`.
///
/// # Errors
/// As [`unpack`].
pub fn extract(from: impl ChunksMut, target: &Target<'_>, limits: &Limits) -> Result<Unpacked, ExtractError> {
    extract_items(AciReader::new(from, limits), target, limits).map(|(unpacked, _)| unpacked)
}

fn extract_items<C: Chunks>(
    mut reader: AciReader<C>,
    target: &Target<'_>,
    limits: &Limits,
) -> Result<(Unpacked, ListedDirs), ExtractError> {
    let mut writer = Writer::new(target, limits)?;
    let mut manifest = Vec::new();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Manifest(bytes) => manifest = bytes,
            Item::Rootfs { entry, inside } => writer.write(&entry, &inside, reader.archive())?,
        }
    }
    writer.leave_parent()?;
    let unpacked = Unpacked { manifest, skipped_devices: writer.skipped_devices, size: writer.size };
    Ok((unpacked, reader.into_listed_dirs()))
}

/// A source that may be lent or given.
pub trait ChunksMut: Chunks {}
impl<C: Chunks> ChunksMut for C {}

impl<C: Chunks> Chunks for &mut C {
    fn chunk(&mut self) -> Result<&[u8], StreamError> {
        (**self).chunk()
    }

    fn consume(&mut self, count: usize) {
        (**self).consume(count);
    }
}

/// The directory that entries are being made in.
struct Parent {
    path: Vec<u8>,
    fd: OwnedFd,
    /// Its times before anything was made in it.
    times: Timestamps,
}

/// What is made, and where.
#[derive(Clone, Copy)]
struct Slot<'e> {
    parent: BorrowedFd<'e>,
    name: &'e OsStr,
    entry: &'e Entry,
    inside: &'e EntryPath,
}

struct Writer<'a> {
    target: &'a Target<'a>,
    /// Size that a file with holes may have.
    size_limit: u64,
    root: OwnedFd,
    parent: Option<Parent>,
    skipped_devices: u64,
    size: u64,
    /// Of a layer: what it leaves open.
    layer: Option<LayerState>,
}

const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl<'a> Writer<'a> {
    fn new(target: &'a Target<'a>, limits: &Limits) -> Result<Self, SysError> {
        let root = rustix::fs::open(target.rootfs, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())
            .map_err(SysError::on("opening", target.rootfs))?;
        Ok(Self {
            target,
            size_limit: limits.output,
            root,
            parent: None,
            skipped_devices: 0,
            size: 0,
            layer: None,
        })
    }

    fn write<C: Chunks>(
        &mut self,
        entry: &Entry,
        inside: &EntryPath,
        archive: &mut Reader<C>,
    ) -> Result<(), ExtractError> {
        let Some((parent, name)) = inside.split_last() else {
            self.leave_parent()?;
            return Ok(self.set_metadata(&self.root, entry).map_err(self.failed("changing", inside))?);
        };
        if let Kind::Device { is_character, major, minor } = entry.kind {
            let is_whiteout = is_character && (major, minor) == (0, 0);
            if self.target.devices == Devices::Skip || is_whiteout {
                self.skipped_devices += 1;
                return Ok(());
            }
        }
        let made = self.enter_parent(parent, &entry.place())?;
        if made > 0 {
            archive.count(made)?;
        }
        let parent = self.parent.take().expect("entered above");
        let slot = Slot { parent: parent.fd.as_fd(), name: OsStr::from_bytes(name), entry, inside };
        let written = self.write_in(slot, archive);
        self.parent = Some(parent);
        written
    }

    fn write_in<C: Chunks>(&mut self, slot: Slot<'_>, archive: &mut Reader<C>) -> Result<(), ExtractError> {
        let Slot { parent, name, entry, inside } = slot;
        let hides_lower = self.make_room(slot)?;
        let made = match &entry.kind {
            Kind::Directory => return self.write_directory(slot, hides_lower),
            Kind::File { sparse } => {
                if sparse.as_ref().is_some_and(|sparse| sparse.size > self.size_limit) {
                    return Err(entry
                        .place()
                        .refuse("its sparse file is larger than an image may be")
                        .into());
                }
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)) {
                    Ok(fd) => return self.write_file(File::from(fd), slot, archive),
                    Err(cause) => Err(cause),
                }
            }
            Kind::Symlink(text) => rustix::fs::symlinkat(OsStr::from_bytes(text), parent, name)
                .and_then(|()| self.set_name_metadata(slot)),
            Kind::HardLink(target) => match self.link(parent, name, target) {
                Ok(()) => Ok(()),
                Err(Errno::NOENT | Errno::NOTDIR) if self.layer.is_some() => {
                    self.link_later(inside, target);
                    Ok(())
                }
                Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    return Err(entry
                        .place()
                        .refuse("its hard link's target is no file of this archive")
                        .into());
                }
                Err(cause) => Err(cause),
            },
            Kind::Fifo => self.make_node(slot, FileType::Fifo, 0),
            Kind::Device { is_character, major, minor } => {
                let kind = if *is_character { FileType::CharacterDevice } else { FileType::BlockDevice };
                self.make_node(slot, kind, makedev(*major, *minor))
            }
        };
        match made {
            Ok(()) => Ok(()),
            // Every name in the archive is different: the path led through a link to where another entry went.
            Err(Errno::EXIST) => {
                Err(entry.place().refuse("it is in the archive twice, by way of a link").into())
            }
            Err(cause) => Err(self.failed("creating", inside)(cause).into()),
        }
    }

    fn write_directory(&self, slot: Slot<'_>, hides_lower: bool) -> Result<(), ExtractError> {
        let Slot { parent, name, entry, inside } = slot;
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            // Made for something in it that came first.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(cause) => return Err(self.failed("creating", inside)(cause).into()),
        }
        let fd = match rustix::fs::openat(parent, name, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(entry.place().refuse("it is in the archive twice, by way of a link").into());
            }
            Err(cause) => return Err(self.failed("opening", inside)(cause).into()),
        };
        if hides_lower {
            layer::set_opaque(&fd).map_err(self.failed("changing", inside))?;
        }
        Ok(self.set_metadata(&fd, entry).map_err(self.failed("changing", inside))?)
    }

    fn write_file<C: Chunks>(
        &mut self,
        mut file: File,
        slot: Slot<'_>,
        archive: &mut Reader<C>,
    ) -> Result<(), ExtractError> {
        let Slot { entry, inside, .. } = slot;
        match sparse_of(entry) {
            None => copy_data(archive, entry.size, |data, _| file.write_all(data))
                .map_err(|error| self.write_failed(error, inside))?,
            Some(sparse) => {
                for (offset, length) in &sparse.parts {
                    copy_data(archive, *length, |data, done| file.write_all_at(data, offset + done))
                        .map_err(|error| self.write_failed(error, inside))?;
                }
                rustix::fs::ftruncate(&file, sparse.size).map_err(self.failed("writing", inside))?;
            }
        }
        self.size += entry.size;
        let file = OwnedFd::from(file);
        self.set_metadata(&file, entry)
            .and_then(|()| self.set_xattrs(&file, entry))
            .map_err(self.failed("changing", inside))?;
        Ok(())
    }

    fn write_failed(&self, error: CopyError, inside: &EntryPath) -> ExtractError {
        match error {
            CopyError::Archive(error) => error.into(),
            CopyError::Write(cause) => SysError::new("writing", self.shown(inside), cause).into(),
        }
    }

    /// Makes another name of the file that `target`, a path in the archive, leads to.
    fn link(&self, parent: BorrowedFd<'_>, name: &OsStr, target: &EntryPath) -> Result<(), Errno> {
        let (top, below_top) = target.split_first().ok_or(Errno::INVAL)?;
        let inside = match self.layer {
            Some(_) => target,
            None if top == b"rootfs" => &below_top,
            None => return Err(Errno::INVAL),
        };
        let (above, last) = inside.split_last().ok_or(Errno::INVAL)?;
        let last = OsStr::from_bytes(last);
        let dir = self.resolve(above, OFlags::PATH | OFlags::DIRECTORY)?;
        let status = stat_at(dir.as_fd(), last)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {}
            // Archivers write such for a link that has two names; a second link like it does as well.
            FileType::Symlink if self.layer.is_some() => {
                let text = rustix::fs::readlinkat(&dir, last, Vec::new())?;
                return rustix::fs::symlinkat(text, parent, name);
            }
            _ if self.layer.is_some() && layer::is_whiteout(&status) => return Err(Errno::NOENT),
            _ => return Err(Errno::INVAL),
        }
        rustix::fs::linkat(&dir, last, parent, name, AtFlags::empty())
    }

    fn make_node(&self, slot: Slot<'_>, kind: FileType, device: u64) -> Result<(), Errno> {
        rustix::fs::mknodat(slot.parent, slot.name, kind, Mode::from_raw_mode(0o600), device)?;
        self.set_name_metadata(slot)?;
        // It was made by the line above and is no link, so that following is no question; opening it would be one.
        rustix::fs::chmodat(slot.parent, slot.name, Mode::from_raw_mode(slot.entry.mode), AtFlags::empty())
    }

    /// Owner, then mode, then times: chown(2) clears set-id bits.
    fn set_metadata(&self, fd: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
        if self.target.owners == Owners::OfImage {
            rustix::fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        }
        // Who is not root could put nothing into a directory that its owner may not write.
        let needed = match (self.target.owners, &entry.kind) {
            (Owners::OfCaller, Kind::Directory) => 0o700,
            _ => 0,
        };
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode | needed))?;
        rustix::fs::futimens(fd, &times(entry))
    }

    fn set_name_metadata(&self, Slot { parent, name, entry, .. }: Slot<'_>) -> Result<(), Errno> {
        if self.target.owners == Owners::OfImage {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Sets the attributes that are kept; after the owner, whose change would take capabilities away.
    fn set_xattrs(&self, file: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| keeps_xattr(name)) {
            match rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                // A file system without user attributes; no program needs them to run.
                Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => {}
                // Who may not give files away may not give capabilities either.
                Err(Errno::PERM) if self.target.owners == Owners::OfCaller => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }

    /// Goes to the directory `path`, making what is missing of it; tells how many directories were made.
    fn enter_parent(&mut self, path: &[u8], place: &Place) -> Result<u64, ExtractError> {
        if self.parent.as_ref().is_some_and(|parent| parent.path == path) {
            return Ok(0);
        }
        self.leave_parent()?;
        let mut made = 0;
        let opened = match self.resolve(path, OPEN_DIR) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                made = self.make_parents(path, place)?;
                self.resolve(path, OPEN_DIR)
            }
            answer => answer,
        };
        let fd = opened.map_err(|cause| self.parent_failed(cause, path, place))?;
        let times = times_of(&fd).map_err(|cause| self.parent_failed(cause, path, place))?;
        self.parent = Some(Parent { path: path.to_owned(), fd, times });
        Ok(made)
    }

    fn leave_parent(&mut self) -> Result<(), SysError> {
        let Some(parent) = self.parent.take() else { return Ok(()) };
        rustix::fs::futimens(&parent.fd, &parent.times).map_err(|cause| {
            SysError::new("changing", self.target.rootfs.join(OsStr::from_bytes(&parent.path)), cause)
        })
    }

    /// Makes the directories of `path` that are missing, part by part from the top, as root:root 0755.
    fn make_parents(&mut self, path: &[u8], place: &Place) -> Result<u64, ExtractError> {
        let mut implied = Vec::new();
        let failed = |cause| self.parent_failed(cause, path, place);
        let mut here = self.resolve(b"", OPEN_DIR).map_err(failed)?;
        let mut made = 0;
        let mut end = 0;
        for part in path.split(|byte| *byte == b'/') {
            end += part.len();
            let part = OsStr::from_bytes(part);
            let below = match rustix::fs::openat(&here, part, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::NOENT) if self.is_link_to_come(&path[..end]) => Err(Errno::NOTDIR),
                Err(Errno::NOENT) => {
                    let times = times_of(&here).map_err(failed)?;
                    let fd = self.make_dir(&here, part).map_err(failed)?;
                    rustix::fs::futimens(&here, &times).map_err(failed)?;
                    made += 1;
                    if self.has_to_hide(&path[..end]) {
                        layer::set_opaque(&fd).map_err(failed)?;
                    } else if self.layer.is_some() {
                        implied.push(path[..end].to_vec());
                    }
                    Ok(fd)
                }
                Err(Errno::NOTDIR) if self.is_whiteout_at(&here, part) => {
                    rustix::fs::unlinkat(&here, part, AtFlags::empty()).map_err(failed)?;
                    let fd = self.make_dir(&here, part).map_err(failed)?;
                    layer::set_opaque(&fd).map_err(failed)?;
                    made += 1;
                    Ok(fd)
                }
                Err(Errno::LOOP | Errno::NOTDIR) => self.resolve(&path[..end], OPEN_DIR),
                answer => answer,
            };
            here = below.map_err(failed)?;
            end += 1;
        }
        if let Some(layer) = &mut self.layer {
            layer.imply(implied);
        }
        Ok(made)
    }

    fn make_dir(&self, parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        let fd = rustix::fs::openat(parent, name, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())?;
        if self.target.owners == Owners::OfImage {
            rustix::fs::fchown(&fd, Some(Uid::ROOT), Some(Gid::ROOT))?;
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        Ok(fd)
    }

    fn parent_failed(&self, cause: Errno, path: &[u8], place: &Place) -> ExtractError {
        match cause {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => {
                place.clone().refuse("a part of its path is no directory").into()
            }
            cause => SysError::new("opening", self.target.rootfs.join(OsStr::from_bytes(path)), cause).into(),
        }
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        resolve_in(self.root.as_fd(), OsStr::from_bytes(path), flags, ResolveFlags::NO_XDEV)
    }

    fn shown(&self, inside: &EntryPath) -> PathBuf {
        self.target.rootfs.join(OsStr::from_bytes(inside.as_bytes()))
    }

    fn failed<'e>(
        &'e self,
        doing: &'static str,
        inside: &'e EntryPath,
    ) -> impl FnOnce(Errno) -> SysError + 'e {
        move |cause| SysError::new(doing, self.shown(inside), cause)
    }
}

enum CopyError {
    Archive(ArchiveError),
    Write(std::io::Error),
}

/// Hands on `length` bytes of the current entry, with how many were handed on before.
fn copy_data<C: Chunks>(
    archive: &mut Reader<C>,
    length: u64,
    mut write: impl FnMut(&[u8], u64) -> std::io::Result<()>,
) -> Result<(), CopyError> {
    let mut done = 0;
    while done < length {
        let data = archive.data().map_err(CopyError::Archive)?;
        let count = data.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
        if count == 0 {
            break;
        }
        write(&data[..count], done).map_err(CopyError::Write)?;
        archive.consume(count);
        done += count as u64;
    }
    Ok(())
}

fn sparse_of(entry: &Entry) -> Option<&Sparse> {
    match &entry.kind {
        Kind::File { sparse } => sparse.as_ref(),
        _ => None,
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn times_of(fd: &OwnedFd) -> Result<Timestamps, Errno> {
    let status = rustix::fs::fstat(fd)?;
    let nanoseconds = |n: u64| i64::try_from(n).unwrap_or(0);
    Ok(Timestamps {
        last_access: Timespec { tv_sec: status.st_atime, tv_nsec: nanoseconds(status.st_atime_nsec) },
        last_modification: Timespec { tv_sec: status.st_mtime, tv_nsec: nanoseconds(status.st_mtime_nsec) },
    })
}
