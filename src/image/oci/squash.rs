//! The layers of an image as one App Container Image, or one of them as an image that needs those below it (spec
//! build-tools.md 6.10): without a file system in between, so that anybody can do it, and the same bytes come out for the
//! same layers.
//!
//! The highest layer comes first. Each is read twice: to learn what it has, and to write what is not hidden by those
//! above. What is known of a path is kept by its fingerprint, so that memory does not grow with the length of names. A
//! hard link keeps what it leads to, also when that name is another file in a higher layer, or gone.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};

use super::chain::Additions;
use crate::image::archive::write::Writer;
use crate::image::archive::{ArchiveError, End, Entry, EntryPath, Kind, Place, Reader};
use crate::image::digest::Digest;
use crate::image::extract::Whiteout;
use crate::image::stream::{Chunks, Incoming, Limits, Source, StreamError, run_hashed};
use crate::os::tree::keeps_xattr;
use crate::os::{Hint, SysError};

/// Why there is no such image.
#[derive(Debug, thiserror::Error)]
pub enum SquashError {
    /// A layer is not valid.
    #[error("layer {layer}: {cause}")]
    Layer {
        /// Its diff ID.
        layer: Box<Digest>,
        /// What is wrong.
        cause: ArchiveError,
    },
    /// A layer has other bytes than its diff ID says.
    #[error("layer {layer} has, unpacked, the digest {found}")]
    DiffId {
        /// Its diff ID.
        layer: Box<Digest>,
        /// That of the bytes.
        found: Box<Digest>,
    },
    /// Something else is where every app has its devices.
    #[error("invalid layer: \"/dev\" is not a directory")]
    Dev,
    /// A hard link leads nowhere.
    #[error("{0}: its hard link's target is in no layer")]
    Link(Place),
    /// A name that no manifest can hold.
    #[error("{0}: its name is not UTF-8, and must be in the manifest's list of what is there")]
    NoText(Place),
    /// More names than a manifest can hold.
    #[error("a list of all that is there is larger than a manifest may be")]
    LongList,
    /// A layer can't be read.
    #[error(transparent)]
    System(#[from] SysError),
    /// The result could not be written.
    #[error("writing the image: {}", crate::os::cause_text(.0))]
    Write(io::Error),
}

impl Hint for SquashError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Layer { cause, .. } => cause.hint(),
            Self::System(cause) => cause.hint(),
            Self::NoText(_) | Self::LongList => {
                Some("an image whose layers are squashed needs no such list".into())
            }
            Self::DiffId { .. } | Self::Dev | Self::Link(_) | Self::Write(_) => None,
        }
    }
}

/// What goes on while a layer is read.
#[derive(Debug)]
pub(super) enum PassError {
    Archive(ArchiveError),
    Write(io::Error),
    Dev,
    LongList,
}

/// What is in the /dev of every image that has nothing there: names and texts of symbolic links.
pub(super) const LINKS: [(&str, &str); 4] = [
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdout", "/dev/console"),
    ("dev/stderr", "/dev/console"),
];

impl From<StreamError> for PassError {
    fn from(cause: StreamError) -> Self {
        Self::Archive(cause.into())
    }
}

impl From<ArchiveError> for PassError {
    fn from(cause: ArchiveError) -> Self {
        Self::Archive(cause)
    }
}

impl From<io::Error> for PassError {
    fn from(cause: io::Error) -> Self {
        Self::Write(cause)
    }
}

/// Writes the image that layers make to `to`, with `manifest` at its end.
///
/// `diff_ids` are the layers, the lowest first, and `open` opens one, at its start, each time it is called.
///
/// # Errors
/// When a layer can't be read or is not what its diff ID says, or `to` can't be written.
pub fn squash<W: Write>(
    manifest: &[u8],
    diff_ids: &[Digest],
    open: impl Fn(usize) -> Result<File, SysError>,
    limits: &Limits,
    to: W,
) -> Result<W, SquashError> {
    let mut squashing = Squashing::new(to);
    for (index, diff_id) in diff_ids.iter().enumerate().rev() {
        squashing.pass(diff_id, || open(index), limits)?;
    }
    squashing.finish(manifest, None)
}

/// Writes the image of the highest of some layers alone. Those below it are looked into for what its hard links lead to.
///
/// # Errors
/// As [`squash`].
pub fn write_highest<W: Write>(
    (manifest, additions): (&[u8], &Additions),
    diff_ids: &[Digest],
    open: impl Fn(usize) -> Result<File, SysError>,
    limits: &Limits,
    to: W,
) -> Result<W, SquashError> {
    let mut squashing = Squashing::new(to);
    for (index, diff_id) in diff_ids.iter().enumerate().rev() {
        let is_highest = index + 1 == diff_ids.len();
        if !is_highest && squashing.pending.is_empty() {
            break;
        }
        squashing.wants = if is_highest { Wants::All } else { Wants::Links };
        squashing.pass(diff_id, || open(index), limits)?;
    }
    squashing.finish(manifest, Some(additions))
}

/// Reads a layer, and holds it to its diff ID.
pub(super) fn read_layer<T>(
    diff_id: &Digest,
    file: File,
    limits: &Limits,
    read: impl FnOnce(&mut Incoming) -> Result<T, PassError>,
) -> Result<T, SquashError> {
    let source = Source { file, keep: None, watch: None, limits: *limits, progress: None };
    let (read, flowed) = run_hashed(source, diff_id.algorithm(), read).map_err(|error| match error {
        PassError::Archive(cause) => SquashError::Layer { layer: Box::new(*diff_id), cause },
        PassError::Write(cause) => SquashError::Write(cause),
        PassError::Dev => SquashError::Dev,
        PassError::LongList => SquashError::LongList,
    })?;
    if flowed.digest != *diff_id {
        return Err(SquashError::DiffId { layer: Box::new(*diff_id), found: Box::new(flowed.digest) });
    }
    Ok(read)
}

type Print = u64;

/// What the layers above the current one say.
#[derive(Default)]
struct Above {
    /// Paths that have an entry, or are directories because something is in them.
    present: HashMap<Print, Present>,
    /// Whiteouts: the path, and all below it.
    hidden: HashSet<Print>,
    /// All below the path.
    opaque: HashSet<Print>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Present {
    Directory,
    Other,
    /// A directory without an entry: its owner and mode are those of a lower layer.
    Implied,
}

/// What the first look at a layer found.
#[derive(Default)]
struct Layer {
    /// The last entry of each path.
    last: HashMap<Print, (u32, Present)>,
    /// Where something else than a directory took the place of a directory, and when: what was below it before is gone.
    cut: HashMap<Print, u32>,
    hidden: HashSet<Print>,
    opaque: HashSet<Print>,
    /// Hard links: their number, path and what they lead to.
    links: Vec<(u32, EntryPath, LinkTarget)>,
    /// Further names of an entry, by its number.
    names: HashMap<u32, Vec<EntryPath>>,
}

enum LinkTarget {
    /// An entry of this layer.
    Entry(u32),
    /// A path in a lower layer.
    Below(EntryPath),
}

/// What of a layer gets into the image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// All that those above do not hide.
    All,
    /// What hard links of those above lead to.
    Links,
}

struct Squashing<W> {
    to: Writer<W>,
    wants: Wants,
    hasher: RandomState,
    above: Above,
    /// Hard links of higher layers that look for their file, by where it is.
    pending: HashMap<Print, (EntryPath, Vec<EntryPath>)>,
    has_root: bool,
}

impl<W: Write> Squashing<W> {
    fn new(to: W) -> Self {
        Self {
            to: Writer::new(to),
            wants: Wants::All,
            hasher: RandomState::new(),
            above: Above::default(),
            pending: HashMap::new(),
            has_root: false,
        }
    }

    /// Goes through a layer, twice.
    fn pass(
        &mut self,
        diff_id: &Digest,
        open: impl Fn() -> Result<File, SysError>,
        limits: &Limits,
    ) -> Result<(), SquashError> {
        let mut layer = read_layer(diff_id, open()?, limits, |incoming| self.look(incoming, limits))?;
        self.resolve(&mut layer);
        read_layer(diff_id, open()?, limits, |incoming| self.write(incoming, limits, &layer))?;
        self.register(layer);
        Ok(())
    }

    fn print(&self, path: &[u8]) -> Print {
        self.hasher.hash_one(path)
    }

    /// The fingerprints of the directories above `path`, the highest first, without the top.
    fn parents(&self, path: &EntryPath) -> Vec<Print> {
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        ends.map(|end| self.print(&bytes[..end])).collect()
    }

    /// Reads a layer to learn what it has.
    fn look(&self, incoming: &mut Incoming, limits: &Limits) -> Result<Layer, PassError> {
        let mut layer = Layer::default();
        each_entry(incoming, limits, |number, entry, _| {
            let whiteout = Whiteout::of(&entry.path)?;
            match whiteout {
                Whiteout::None => self.note(&mut layer, number, entry),
                Whiteout::Ignored => {}
                Whiteout::All(dir) => {
                    self.imply(&mut layer, number, &dir);
                    if !dir.as_bytes().is_empty() {
                        layer.last.entry(self.print(dir.as_bytes())).or_insert((number, Present::Implied));
                    }
                    layer.opaque.insert(self.print(dir.as_bytes()));
                }
                Whiteout::One(path) => {
                    self.imply(&mut layer, number, &path);
                    layer.hidden.insert(self.print(path.as_bytes()));
                }
            }
            Ok(())
        })?;
        Ok(layer)
    }

    fn note(&self, layer: &mut Layer, number: u32, entry: &Entry) {
        self.imply(layer, number, &entry.path);
        let print = self.print(entry.path.as_bytes());
        let present = if entry.kind == Kind::Directory { Present::Directory } else { Present::Other };
        let before = layer.last.insert(print, (number, present));
        let was_directory = matches!(before, Some((_, Present::Directory | Present::Implied)));
        if present == Present::Other && was_directory {
            layer.cut.insert(print, number);
        }
        // What was no directory had taken the place of what is below.
        if present == Present::Directory && matches!(before, Some((_, Present::Other))) {
            layer.opaque.insert(print);
        }
        if let Kind::HardLink(target) = &entry.kind {
            let found = layer.last.get(&self.print(target.as_bytes())).copied();
            let target = match found {
                // A link to a link is one to the file.
                Some((at, Present::Other)) if at != number => {
                    let through = layer.links.iter().rev().find(|(link, _, _)| *link == at);
                    match through {
                        Some((_, _, LinkTarget::Entry(file))) => LinkTarget::Entry(*file),
                        Some((_, _, LinkTarget::Below(path))) => LinkTarget::Below(path.clone()),
                        None => LinkTarget::Entry(at),
                    }
                }
                _ => LinkTarget::Below(target.clone()),
            };
            layer.links.push((number, entry.path.clone(), target));
        }
    }

    /// Notes that the directories above `path` are there.
    fn imply(&self, layer: &mut Layer, number: u32, path: &EntryPath) {
        for print in self.parents(path) {
            layer.last.entry(print).or_insert((number, Present::Implied));
        }
    }

    /// Whether entry `number` of a layer is in the result by its own name.
    fn is_alive(&self, layer: &Layer, number: u32, path: &EntryPath, is_dir: bool) -> bool {
        let print = self.print(path.as_bytes());
        let parents = self.parents(path);
        let is_last = layer.last.get(&print).is_some_and(|(last, _)| *last == number);
        let is_cut = parents.iter().any(|parent| layer.cut.get(parent).is_some_and(|cut| *cut > number));
        self.wants == Wants::All && is_last && !is_cut && self.is_shown(print, &parents, is_dir)
    }

    /// Whether the layers above leave `path` alone.
    fn is_shown(&self, print: Print, parents: &[Print], is_dir: bool) -> bool {
        let Above { present, hidden, opaque } = &self.above;
        let is_replaced = match present.get(&print) {
            None => false,
            Some(Present::Implied) => !is_dir,
            Some(Present::Directory | Present::Other) => true,
        };
        let top = self.print(b"");
        let is_below_something = parents.iter().any(|parent| {
            hidden.contains(parent) || opaque.contains(parent) || present.get(parent) == Some(&Present::Other)
        });
        // An opaque top hides all but itself.
        let is_below_top = print != top && opaque.contains(&top);
        !is_replaced && !is_below_something && !is_below_top && !hidden.contains(&print)
    }

    /// Finds out under which further names the entries of a layer are written.
    fn resolve(&mut self, layer: &mut Layer) {
        let links = std::mem::take(&mut layer.links);
        // What a link of a higher layer looks for may be a link here.
        for (number, path, target) in &links {
            let print = self.print(path.as_bytes());
            if layer.last.get(&print).is_none_or(|(last, _)| last != number) {
                continue;
            }
            let Some((_, waiting)) = self.pending.remove(&print) else { continue };
            self.name(layer, target, waiting);
        }
        for (number, path, target) in links {
            if !self.is_alive(layer, number, &path, false) {
                continue;
            }
            self.name(layer, &target, vec![path]);
        }
    }

    /// Gives what a link leads to further names.
    fn name(&mut self, layer: &mut Layer, target: &LinkTarget, names: Vec<EntryPath>) {
        match target {
            LinkTarget::Entry(entry) => layer.names.entry(*entry).or_default().extend(names),
            LinkTarget::Below(target) => {
                let print = self.print(target.as_bytes());
                self.pending.entry(print).or_insert_with(|| (target.clone(), Vec::new())).1.extend(names);
            }
        }
    }

    /// Reads a layer again and writes what of it is in the result.
    fn write(&mut self, incoming: &mut Incoming, limits: &Limits, layer: &Layer) -> Result<(), PassError> {
        each_entry(incoming, limits, |number, entry, archive| {
            if Whiteout::of(&entry.path)? != Whiteout::None || matches!(entry.kind, Kind::HardLink(_)) {
                return Ok(());
            }
            let print = self.print(entry.path.as_bytes());
            let is_dir = entry.kind == Kind::Directory;
            let mut names = Vec::new();
            if self.is_alive(layer, number, &entry.path, is_dir) {
                names.push(entry.path.clone());
            }
            if !is_dir {
                names.extend(layer.names.get(&number).into_iter().flatten().cloned());
                let is_last = layer.last.get(&print).is_some_and(|(last, _)| *last == number);
                if is_last && let Some((_, pending)) = self.pending.remove(&print) {
                    names.extend(pending);
                }
            }
            self.emit(entry, &names, archive)
        })
    }

    /// Writes an entry under each of its names.
    fn emit(
        &mut self,
        entry: &Entry,
        names: &[EntryPath],
        archive: &mut Reader<&mut Incoming>,
    ) -> Result<(), PassError> {
        let Some((first, others)) = names.split_first() else { return Ok(()) };
        if first.as_bytes() == b"dev" && entry.kind != Kind::Directory {
            return Err(PassError::Dev);
        }
        self.has_root |= first.as_bytes().is_empty();
        let mut written = entry.clone();
        written.path = first.below(b"rootfs");
        written.xattrs.retain(|(name, _)| matches!(entry.kind, Kind::File { .. }) && keeps_xattr(name));
        let Kind::File { sparse } = &entry.kind else {
            self.to.entry(&written)?;
            for name in others {
                written.path = name.below(b"rootfs");
                self.to.entry(&written)?;
            }
            return Ok(());
        };
        written.kind = Kind::File { sparse: None };
        match sparse {
            None => {
                self.to.entry(&written)?;
                copy(archive, entry.size, &mut self.to)?;
            }
            Some(sparse) => {
                written.size = sparse.size;
                self.to.entry(&written)?;
                let mut at = 0;
                for (offset, length) in &sparse.parts {
                    zeros(offset - at, &mut self.to)?;
                    copy(archive, *length, &mut self.to)?;
                    at = offset + length;
                }
                zeros(sparse.size.saturating_sub(at), &mut self.to)?;
            }
        }
        let link =
            Entry { kind: Kind::HardLink(written.path.clone()), size: 0, xattrs: Vec::new(), ..written };
        for name in others {
            self.to.entry(&Entry { path: name.below(b"rootfs"), ..link.clone() })?;
        }
        Ok(())
    }

    /// Adds what a layer says to what counts for the ones below.
    fn register(&mut self, layer: Layer) {
        for (print, (_, kind)) in layer.last {
            let known = self.above.present.entry(print).or_insert(kind);
            // The highest layer that has an entry decides; one that only has something in it leaves that open.
            if *known == Present::Implied && kind == Present::Directory {
                *known = kind;
            }
            // Something else than a directory, in whose place a higher layer has one: what is below it is gone all the same.
            if kind == Present::Other && *known != Present::Other {
                *known = Present::Directory;
                self.above.opaque.insert(print);
            }
        }
        self.above.hidden.extend(layer.hidden);
        self.above.opaque.extend(layer.opaque);
    }

    fn finish(mut self, manifest: &[u8], additions: Option<&Additions>) -> Result<W, SquashError> {
        if let Some(link) = self.pending.values().flat_map(|(_, links)| links).min() {
            return Err(SquashError::Link(Place::named(link.as_bytes())));
        }
        self.write_rest(manifest, additions).map_err(SquashError::Write)?;
        self.to.finish().map_err(SquashError::Write)
    }

    /// What every image has: a top directory, links in /dev, and the manifest.
    fn write_rest(&mut self, manifest: &[u8], additions: Option<&Additions>) -> io::Result<()> {
        let directory = |path| made(path, Kind::Directory, 0o755, 0);
        if !self.has_root {
            let root = additions.map_or_else(|| directory(EntryPath::top()), |more| more.root.clone());
            self.add(root)?;
        }
        for implied in additions.iter().flat_map(|more| &more.directories) {
            self.add(implied.clone())?;
        }
        let links = match additions {
            Some(more) => more.links.clone(),
            None => {
                let is_missing =
                    |(name, _): &(&str, &str)| !self.above.present.contains_key(&self.print(name.as_bytes()));
                LINKS.into_iter().filter(is_missing).collect()
            }
        };
        for (name, target) in links {
            let path = EntryPath::new(name.as_bytes()).expect("it is a name");
            self.add(made(path, Kind::Symlink(target.into()), 0o777, 0))?;
        }
        let path = EntryPath::new(b"manifest").expect("it is a name");
        let kind = Kind::File { sparse: None };
        self.to.entry(&made(path, kind, 0o644, manifest.len() as u64))?;
        self.to.data(manifest)
    }

    /// Adds an entry that no layer has.
    fn add(&mut self, mut entry: Entry) -> io::Result<()> {
        entry.path = entry.path.below(b"rootfs");
        self.to.entry(&entry)
    }
}

/// An entry of root's, of no time.
pub(super) fn made(path: EntryPath, kind: Kind, mode: u32, size: u64) -> Entry {
    Entry { path, kind, mode, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new(), size }
}

/// Calls `each` with the number, the entry and the archive, for its data.
pub(super) fn each_entry(
    incoming: &mut Incoming,
    limits: &Limits,
    mut each: impl FnMut(u32, &Entry, &mut Reader<&mut Incoming>) -> Result<(), PassError>,
) -> Result<(), PassError> {
    // No bytes at all are an empty layer.
    if incoming.chunk()?.is_empty() {
        return Ok(());
    }
    let mut archive = Reader::ending(incoming, limits.entries, End::Anywhere);
    let mut number = 0;
    while let Some(entry) = archive.next_entry()? {
        number += 1;
        each(number, &entry, &mut archive)?;
    }
    archive.drain()?;
    Ok(())
}

fn copy<W: Write>(
    archive: &mut Reader<&mut Incoming>,
    length: u64,
    to: &mut Writer<W>,
) -> Result<(), PassError> {
    let mut left = length;
    while left > 0 {
        let data = archive.data()?;
        let count = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if count == 0 {
            break;
        }
        to.data(&data[..count])?;
        archive.consume(count);
        left -= count as u64;
    }
    Ok(())
}

fn zeros<W: Write>(count: u64, to: &mut Writer<W>) -> io::Result<()> {
    const ZEROS: [u8; 8192] = [0; 8192];
    let mut left = count;
    while left > 0 {
        let part = ZEROS.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        to.data(&ZEROS[..part])?;
        left -= part as u64;
    }
    Ok(())
}
