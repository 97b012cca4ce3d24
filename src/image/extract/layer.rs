//! Layers of OCI images, written so that overlayfs shows what the layer means (OCI image-spec 1.1, layer.md).
//!
//! A layer is unpacked alone, whatever is below it. A whiteout becomes what overlayfs takes for one: a character device
//! 0:0 for a name, `trusted.overlay.opaque` for a directory. Both are made here only; what an archive brings of them is
//! dropped by the writer. Whiteouts are about lower layers, so that one whose name is also in the layer itself hides
//! what is below and leaves that alone, in whatever order the two come. A name that is there twice is the later one.
//!
//! Three things need the layers below: a hard link to a file of theirs; a directory that is in the archive only by what
//! is in it, which has to keep its owner and mode; and a whiteout, which must go if it hides nothing, since overlayfs
//! shows its name in a directory that no other layer has. [`Unfinished`] holds them until the layers below are there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags, makedev};
use rustix::io::Errno;

use super::{ExtractError, OPEN_DIR, Slot, Target, Writer, times_of};
use crate::image::archive::{ArchiveError, End, Entry, EntryPath, Kind, Place, Reader};
use crate::image::digest::Algorithm;
use crate::image::stream::{Chunks, Flowed, Incoming, Limits, Source, run_hashed};
use crate::os::SysError;
use crate::os::root::{resolve_in, stat_at};
use crate::os::tree::{kept_xattrs, remove_at};

/// How the names of whiteouts begin.
const WHITEOUT: &[u8] = b".wh.";
/// How names begin that one union file system keeps its own things under; nothing for anybody else.
const OF_AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";

/// What an entry of a layer says about lower layers.
#[derive(Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// Nothing: it is an entry.
    None,
    /// Nothing, and it is no entry either.
    Ignored,
    /// They have nothing in this directory.
    All(EntryPath),
    /// They do not have this.
    One(EntryPath),
}

impl Whiteout {
    /// Tells what `path` is.
    ///
    /// # Errors
    /// When it is named like a whiteout, and is none.
    pub fn of(path: &EntryPath) -> Result<Self, ArchiveError> {
        let Some((parent, name)) = path.split_last() else { return Ok(Self::None) };
        let place = || Place::named(path.as_bytes());
        match parent.split(|byte| *byte == b'/').find(|part| part.starts_with(WHITEOUT)) {
            Some(part) if part.starts_with(OF_AUFS) => return Ok(Self::Ignored),
            Some(_) => return Err(place().refuse("it is below a whiteout")),
            None => {}
        }
        if name == OPAQUE {
            let dir = if parent.is_empty() { EntryPath::top() } else { below(parent) };
            return Ok(Self::All(dir));
        }
        if name.starts_with(OF_AUFS) {
            return Ok(Self::Ignored);
        }
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Self::None),
            Some(b"" | b"." | b"..") => Err(place().refuse("it is a whiteout of no name")),
            Some(hidden) if parent.is_empty() => Ok(Self::One(below(hidden))),
            Some(hidden) => Ok(Self::One(below(&[parent, b"/", hidden].concat()))),
        }
    }
}

/// A path that is a part of one that was read.
fn below(path: &[u8]) -> EntryPath {
    EntryPath::new(path).unwrap_or_else(|_| EntryPath::top())
}

/// What came out of a layer.
#[derive(Debug, Default)]
pub struct UnpackedLayer {
    /// Device nodes that were left out.
    pub skipped_devices: u64,
    /// Bytes of all regular files.
    pub size: u64,
    /// What needs the layers below.
    pub unfinished: Unfinished,
}

/// What of a layer needs the layers below it.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// Directories that have no entry of their own.
    implied: BTreeSet<Vec<u8>>,
    /// Hard links, by path, to what is not in the layer.
    links: BTreeMap<Vec<u8>, EntryPath>,
    /// Whiteouts that are there.
    hidden: BTreeSet<Vec<u8>>,
    /// All paths of which the layer has said that lower layers have nothing there, whatever has come in that place since.
    hides: BTreeSet<Vec<u8>>,
}

pub(super) type LayerState = Unfinished;

impl Unfinished {
    /// Tells whether the layer is the same whatever is below it.
    pub fn is_empty(&self) -> bool {
        self.implied.is_empty() && self.links.is_empty() && self.hidden.is_empty()
    }

    pub(super) fn imply(&mut self, dirs: Vec<Vec<u8>>) {
        self.implied.extend(dirs);
    }

    /// Something else is at `path` now, and nothing of what was below it.
    fn forget(&mut self, path: &[u8]) {
        // `0` comes right after `/`.
        let below = [path, b"/"].concat()..[path, b"0"].concat();
        let dirs: Vec<_> = self.implied.range(below.clone()).cloned().collect();
        let hidden: Vec<_> = self.hidden.range(below.clone()).cloned().collect();
        let links: Vec<_> = self.links.range(below).map(|(path, _)| path.clone()).collect();
        for path in hidden.iter().map(Vec::as_slice).chain([path]) {
            self.hidden.remove(path);
        }
        for dir in dirs.iter().map(Vec::as_slice).chain([path]) {
            self.implied.remove(dir);
        }
        for link in links.iter().map(Vec::as_slice).chain([path]) {
            self.links.remove(link);
        }
    }
}

/// Sends the layer in `source` through all checks and writes it to `target`, if there is one; its bytes are hashed by
/// `algorithm`.
///
/// # Errors
/// When the layer is not valid or can't be written; what was written so far is left to the caller.
pub fn unpack_oci_layer(
    source: Source<'_>,
    algorithm: Algorithm,
    target: Option<&Target<'_>>,
) -> Result<(UnpackedLayer, Flowed), ExtractError> {
    let limits = source.limits;
    run_hashed(source, algorithm, |incoming: &mut Incoming| {
        // No bytes at all are an empty layer to all who make and read them.
        if incoming.chunk()?.is_empty() {
            return Ok(UnpackedLayer::default());
        }
        let archive = Reader::ending(incoming, limits.entries, End::Anywhere);
        match target {
            Some(target) => extract(archive, target, &limits),
            None => inspect(archive),
        }
    })
}

/// Reads a layer through without writing it; what needs lower layers is found out when it is unpacked.
fn inspect<C: Chunks>(mut archive: Reader<C>) -> Result<UnpackedLayer, ExtractError> {
    let mut unpacked = UnpackedLayer::default();
    while let Some(entry) = archive.next_entry()? {
        Whiteout::of(&entry.path)?;
        unpacked.size += entry.size;
    }
    archive.drain()?;
    Ok(unpacked)
}

fn extract<C: Chunks>(
    mut archive: Reader<C>,
    target: &Target<'_>,
    limits: &Limits,
) -> Result<UnpackedLayer, ExtractError> {
    let mut writer = Writer::new(target, limits)?;
    writer.layer = Some(LayerState::default());
    while let Some(entry) = archive.next_entry()? {
        match Whiteout::of(&entry.path)? {
            Whiteout::None if entry.path == EntryPath::top() && entry.kind != Kind::Directory => {
                return Err(entry.place().refuse("it would replace the top directory").into());
            }
            Whiteout::None => writer.write(&entry, &entry.path, &mut archive)?,
            Whiteout::Ignored => {}
            Whiteout::All(dir) => writer.hide_all(&dir, &entry, &mut archive)?,
            Whiteout::One(path) => writer.hide_one(&path, &entry, &mut archive)?,
        }
    }
    writer.leave_parent()?;
    archive.drain()?;
    Ok(UnpackedLayer {
        skipped_devices: writer.skipped_devices,
        size: writer.size,
        unfinished: writer.layer.unwrap_or_default(),
    })
}

pub(super) fn is_whiteout(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == makedev(0, 0)
}

pub(super) fn set_opaque(dir: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(dir, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
}

impl Writer<'_> {
    /// Whether the layer itself has something else than a directory on the way to `dir`, which hides all that lower layers
    /// have below: archivers write a whiteout for each name of a directory that became a file or a link.
    fn hides_already(&self, dir: &[u8]) -> Result<bool, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match resolve_in(self.root.as_fd(), OsStr::from_bytes(dir), flags, resolve) {
            Ok(_) | Err(Errno::NOENT) => Ok(false),
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(true),
            Err(cause) => Err(cause),
        }
    }

    /// Hides all that lower layers have in `dir`.
    fn hide_all<C: Chunks>(
        &mut self,
        dir: &EntryPath,
        entry: &Entry,
        archive: &mut Reader<C>,
    ) -> Result<(), ExtractError> {
        if self.hides_already(dir.as_bytes()).map_err(self.failed("looking at", dir))? {
            return Ok(());
        }
        let made = self.enter_parent(dir.as_bytes(), &entry.place())?;
        archive.count(made)?;
        if let Some(layer) = &mut self.layer {
            layer.hides.insert(dir.as_bytes().to_vec());
        }
        let parent = self.parent.as_ref().expect("entered above");
        Ok(set_opaque(&parent.fd).map_err(self.failed("changing", dir))?)
    }

    /// Hides `path` of lower layers.
    fn hide_one<C: Chunks>(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        archive: &mut Reader<C>,
    ) -> Result<(), ExtractError> {
        let (parent, name) = path.split_last().expect("a whiteout has a name");
        if self.hides_already(parent).map_err(self.failed("looking at", path))? {
            return Ok(());
        }
        let name = OsStr::from_bytes(name);
        let made = self.enter_parent(parent, &entry.place())?;
        archive.count(made)?;
        if let Some(layer) = &mut self.layer {
            layer.hides.insert(path.as_bytes().to_vec());
        }
        let dir = &self.parent.as_ref().expect("entered above").fd;
        let hidden = match stat_at(dir.as_fd(), name) {
            Err(Errno::NOENT) => {
                if let Some(layer) = &mut self.layer {
                    layer.hidden.insert(path.as_bytes().to_vec());
                }
                rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
            }
            Err(cause) => Err(cause),
            Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Directory => {
                if let Some(layer) = &mut self.layer {
                    // Its owner and mode are not those of what it hides.
                    layer.implied.remove(path.as_bytes());
                }
                rustix::fs::openat(dir, name, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())
                    .and_then(|fd| set_opaque(&fd))
            }
            // What is there hides it already.
            Ok(_) => Ok(()),
        };
        Ok(hidden.map_err(self.failed("creating", path))?)
    }

    /// Takes away what another entry of the layer has put where this one goes. Tells whether a directory there has to hide
    /// what is below.
    pub(super) fn make_room(&mut self, slot: Slot<'_>) -> Result<bool, ExtractError> {
        let Slot { parent, name, entry, inside } = slot;
        let Some(layer) = &mut self.layer else { return Ok(false) };
        let hides_lower = layer.hides.contains(inside.as_bytes());
        let status = match stat_at(parent, name) {
            Ok(status) => status,
            Err(Errno::NOENT) => {
                let was_link = layer.links.remove(inside.as_bytes()).is_some();
                return Ok(hides_lower || was_link);
            }
            Err(cause) => return Err(self.failed("looking at", inside)(cause).into()),
        };
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        if is_directory && entry.kind == Kind::Directory {
            layer.implied.remove(inside.as_bytes());
            return Ok(false);
        }
        if matches!(&entry.kind, Kind::HardLink(target) if target == inside) {
            return Err(entry.place().refuse("it is a hard link to itself").into());
        }
        layer.forget(inside.as_bytes());
        let parent = rustix::io::fcntl_dupfd_cloexec(parent, 0).map_err(self.failed("opening", inside))?;
        remove_at(parent, name, &self.shown(inside))?;
        // What was no directory had taken the place of what is below.
        Ok(hides_lower || !is_directory)
    }

    /// Whether a directory that is made at `path` has to hide what is below.
    pub(super) fn has_to_hide(&self, path: &[u8]) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.hides.contains(path))
    }

    pub(super) fn is_whiteout_at(&self, dir: &OwnedFd, name: &OsStr) -> bool {
        self.layer.is_some() && stat_at(dir.as_fd(), name).is_ok_and(|status| is_whiteout(&status))
    }

    /// Whether the layer has a hard link at `path` that is made only when the layers below are there.
    pub(super) fn is_link_to_come(&self, path: &[u8]) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.links.contains_key(path))
    }

    pub(super) fn link_later(&mut self, path: &EntryPath, target: &EntryPath) {
        if let Some(layer) = &mut self.layer {
            layer.links.insert(path.as_bytes().to_vec(), target.clone());
        }
    }
}

impl Unfinished {
    /// Does what was left open in the layer that was written to `target`, from the trees below it, the highest first.
    ///
    /// # Errors
    /// When a hard link leads nowhere there either, or the system refuses.
    pub fn finish(&self, target: &Target<'_>, lower: &[PathBuf]) -> Result<(), ExtractError> {
        let lower = Lower::open(lower)?;
        let mut writer = Writer::new(target, &Limits::default())?;
        writer.layer = Some(Self { implied: self.implied.clone(), ..Self::default() });
        for (path, link_target) in &self.links {
            writer.link_below(&below(path), link_target, &lower)?;
        }
        for path in self.hidden.iter().map(|path| below(path)) {
            writer.show(&path, &lower).map_err(writer.failed("removing", &path))?;
        }
        writer.leave_parent()?;
        let implied = writer.layer.take().unwrap_or_default().implied;
        for path in implied {
            let path = below(&path);
            writer.take_over(&path, &lower).map_err(writer.failed("changing", &path))?;
        }
        Ok(())
    }
}

impl Writer<'_> {
    /// Makes `path` another name of `target`, which is copied up from below if it is there only.
    fn link_below(
        &mut self,
        path: &EntryPath,
        target: &EntryPath,
        lower: &Lower,
    ) -> Result<(), ExtractError> {
        let place = Place::named(path.as_bytes());
        let nowhere =
            || place.clone().refuse("its hard link's target is no file of this layer or those below it");
        let (target_parent, target_name) = target.split_last().ok_or_else(nowhere)?;
        let found = lower.find(target).map_err(self.failed("opening", target))?;
        let source = match found {
            Some((fd, status)) if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile => fd,
            _ => return Err(nowhere().into()),
        };
        self.enter_parent(target_parent, &place)?;
        let parent = self.parent.take().expect("entered above");
        let copied = copy_up(&source, parent.fd.as_fd(), OsStr::from_bytes(target_name));
        self.parent = Some(parent);
        match copied {
            // Two links to it: the first has brought it up.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(cause) => return Err(self.failed("creating", target)(cause).into()),
        }
        let (above, name) = path.split_last().ok_or_else(nowhere)?;
        self.enter_parent(above, &place)?;
        let parent = self.parent.take().expect("entered above");
        let linked = self.link(parent.fd.as_fd(), OsStr::from_bytes(name), target);
        self.parent = Some(parent);
        Ok(linked.map_err(self.failed("creating", path))?)
    }

    /// Whether `dir` of this layer, or one above it, hides all that is below already.
    fn is_in_opaque(&self, dir: &[u8]) -> Result<bool, Errno> {
        let ends = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in std::iter::once(0).chain(ends).chain([dir.len()]) {
            if is_opaque(&self.resolve(&dir[..end], OPEN_DIR)?)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a whiteout away that hides nothing.
    fn show(&self, path: &EntryPath, lower: &Lower) -> Result<(), Errno> {
        let Some((parent, name)) = path.split_last() else { return Ok(()) };
        if lower.find(path)?.is_some() && !self.is_in_opaque(parent)? {
            return Ok(());
        }
        let dir = self.resolve(parent, OPEN_DIR)?;
        let name = OsStr::from_bytes(name);
        if !self.is_whiteout_at(&dir, name) {
            return Ok(());
        }
        let times = times_of(&dir)?;
        rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
        rustix::fs::futimens(&dir, &times)
    }

    /// Gives a directory the owner, mode and times of the one below that it is shown in the place of.
    fn take_over(&self, path: &EntryPath, lower: &Lower) -> Result<(), Errno> {
        let Some((found, status)) = lower.find(path)? else { return Ok(()) };
        if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
            return Ok(());
        }
        let dir = self.resolve(path.as_bytes(), OPEN_DIR)?;
        rustix::fs::fchown(&dir, Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)))?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(status.st_mode & 0o7777))?;
        rustix::fs::futimens(&dir, &times_of(&found)?)
    }
}

/// Copies an open file to a new name, as a copy-up does.
fn copy_up(source: &OwnedFd, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let errno = |cause: std::io::Error| Errno::from_io_error(&cause).unwrap_or(Errno::IO);
    let status = rustix::fs::fstat(source)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut to = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
    let mut from = File::from(source.try_clone().map_err(errno)?);
    std::io::copy(&mut from, &mut to).map_err(errno)?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(status.st_mode & 0o7777))?;
    for (name, value) in kept_xattrs(source.as_fd())? {
        rustix::fs::fsetxattr(&to, name, &value, XattrFlags::empty())?;
    }
    rustix::fs::futimens(&to, &times_of(source)?)
}

/// The trees below a layer, as overlayfs would look into them.
struct Lower(Vec<OwnedFd>);

impl Lower {
    fn open(trees: &[PathBuf]) -> Result<Self, SysError> {
        let open = |path: &PathBuf| {
            rustix::fs::open(path, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())
                .map_err(SysError::on("opening", path))
        };
        trees.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// What the trees show at `path`; no link is followed, and a device or FIFO only looked at.
    fn find(&self, path: &EntryPath) -> Result<Option<(OwnedFd, Stat)>, Errno> {
        for tree in &self.0 {
            match find_in(tree, path.as_bytes())? {
                InTree::Found(fd, status) => return Ok(Some((fd, status))),
                InTree::Hidden => return Ok(None),
                InTree::Absent => {}
            }
        }
        Ok(None)
    }
}

/// What one tree says about a path.
enum InTree {
    Found(OwnedFd, Stat),
    /// It has nothing there, and hides what is below.
    Hidden,
    /// It says nothing.
    Absent,
}

fn find_in(tree: &OwnedFd, path: &[u8]) -> Result<InTree, Errno> {
    let mut here = rustix::io::fcntl_dupfd_cloexec(tree, 0)?;
    let mut is_opaque = is_opaque(&here)?;
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    for (index, part) in parts.iter().enumerate() {
        let name = OsStr::from_bytes(part);
        let status = match stat_at(here.as_fd(), name) {
            Ok(status) => status,
            Err(Errno::NOENT) if is_opaque => return Ok(InTree::Hidden),
            Err(Errno::NOENT) => return Ok(InTree::Absent),
            Err(cause) => return Err(cause),
        };
        let is_last = index + 1 == parts.len();
        let flags = match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => OPEN_DIR | OFlags::NOFOLLOW,
            FileType::RegularFile if is_last => OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            _ if is_last && !is_whiteout(&status) => OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            _ => return Ok(InTree::Hidden),
        };
        here = rustix::fs::openat(&here, name, flags, Mode::empty())?;
        if is_last {
            return Ok(InTree::Found(here, status));
        }
        is_opaque |= self::is_opaque(&here)?;
    }
    Ok(InTree::Absent)
}

fn is_opaque(dir: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(dir, OPAQUE_ATTRIBUTE, &mut value) {
        Ok(_) => Ok(value == *b"y"),
        Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// Tells whether the tree whose root is `dir` hides all that is below it, which overlayfs does not look for at the top.
///
/// # Errors
/// When it can't be opened.
pub fn hides_all(dir: &Path) -> Result<bool, SysError> {
    rustix::fs::open(dir, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())
        .and_then(|fd| is_opaque(&fd))
        .map_err(SysError::on("opening", dir))
}
