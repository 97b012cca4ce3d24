//! The rules of an App Container Image on top of tar (spec images.md 2.1.1): `manifest` and `rootfs`, each path once.
//!
//! They hold whether an image is unpacked or only read through, so that what one user may fetch another can run.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::archive::{ArchiveError, Entry, EntryPath, Kind, Place, Reader};
use super::stream::{Chunks, Limits};

/// Size that a manifest may have.
pub const MANIFEST_LIMIT: u64 = 4 << 20;

/// A piece of an image.
#[derive(Debug)]
pub enum Item {
    /// The manifest's bytes; not judged.
    Manifest(Vec<u8>),
    /// Something of the root file system.
    Rootfs {
        /// The entry, with its name in the archive.
        entry: Entry,
        /// Its path below `rootfs`, empty for `rootfs` itself.
        inside: EntryPath,
    },
}

/// Where the root file system is in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Below `rootfs`, beside a manifest: an image.
    Image,
    /// At the top: the archive is of a root file system, and there is no manifest.
    Rootfs,
}

/// What an archive has at its top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// A file `manifest`.
    pub has_manifest: bool,
    /// `rootfs`, or something below it.
    pub has_rootfs: bool,
}

/// Looks through an archive for what images have at their top.
///
/// # Errors
/// When it is no archive, or a bad one.
pub fn find_top(from: impl Chunks, limits: &Limits) -> Result<Top, ArchiveError> {
    let mut archive = Reader::new(from, limits.entries);
    let mut top = Top { has_manifest: false, has_rootfs: false };
    while let Some(entry) = archive.next_entry()? {
        match entry.path.split_first() {
            Some((b"manifest", rest)) if rest.as_bytes().is_empty() => {
                top.has_manifest |= matches!(entry.kind, Kind::File { .. });
            }
            Some((b"rootfs", _)) => top.has_rootfs = true,
            _ => {}
        }
    }
    archive.drain()?;
    Ok(top)
}

/// Reads the items of an image in the order of the archive.
pub struct AciReader<C> {
    archive: Reader<C>,
    layout: Layout,
    /// A fingerprint of each path. Full paths would need memory without bound; two of two million agree by chance
    /// once in ten million images, and then a good image is refused.
    seen: HashSet<u64>,
    hasher: RandomState,
    has_manifest: bool,
    has_rootfs: bool,
}

/// The directories that an archive has entries for, and not only something in them.
#[derive(Debug)]
pub struct ListedDirs {
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl ListedDirs {
    /// Tells whether there is an entry for the directory `inside`, a path below `rootfs`.
    pub fn contains(&self, inside: &[u8]) -> bool {
        let path = if inside.is_empty() { b"rootfs".to_vec() } else { [b"rootfs/", inside].concat() };
        self.seen.contains(&(self.hasher.hash_one(&path[..]) & !IS_FILE))
    }
}

/// The bit of a fingerprint that says that the path is a regular file, the only thing a hard link may lead to.
const IS_FILE: u64 = 1;

impl<C: Chunks> AciReader<C> {
    /// Makes a reader of the unpacked bytes `from`.
    pub fn new(from: C, limits: &Limits) -> Self {
        Self::with_layout(from, limits, Layout::Image)
    }

    /// Makes a reader that finds the root file system where `layout` says.
    pub fn with_layout(from: C, limits: &Limits, layout: Layout) -> Self {
        Self {
            archive: Reader::new(from, limits.entries),
            layout,
            seen: HashSet::new(),
            hasher: RandomState::new(),
            has_manifest: layout == Layout::Rootfs,
            has_rootfs: layout == Layout::Rootfs,
        }
    }

    /// The directories that had an entry of their own.
    pub fn into_listed_dirs(self) -> ListedDirs {
        ListedDirs { seen: self.seen, hasher: self.hasher }
    }

    /// The archive below, for the data of the last item.
    pub fn archive(&mut self) -> &mut Reader<C> {
        &mut self.archive
    }

    /// Returns the next item; `None` when the image is complete and all its bytes have passed.
    ///
    /// # Errors
    /// When the archive or a rule of images is broken.
    pub fn next_item(&mut self) -> Result<Option<Item>, ArchiveError> {
        while let Some(mut entry) = self.archive.next_entry()? {
            if self.layout == Layout::Rootfs {
                entry.path = entry.path.below(b"rootfs");
                if let Kind::HardLink(target) = &mut entry.kind {
                    *target = target.below(b"rootfs");
                }
            }
            if let Some(item) = self.judge(entry)? {
                return Ok(Some(item));
            }
        }
        let missing = match (self.has_manifest, self.has_rootfs) {
            (true, true) => {
                self.archive.drain()?;
                return Ok(None);
            }
            (false, true) => "it is no image: it has no file `manifest`",
            (true, false) => "it is no image: it has no directory `rootfs`",
            (false, false) => "it is no image: it has neither a file `manifest` nor a directory `rootfs`",
        };
        Err(ArchiveError::Whole(missing.into()))
    }

    fn judge(&mut self, entry: Entry) -> Result<Option<Item>, ArchiveError> {
        let place = entry.place();
        let Some((top, inside)) = entry.path.split_first() else {
            // `./` is how `tar -C DIR .` begins.
            return match entry.kind {
                Kind::Directory => Ok(None),
                _ => Err(place.refuse("it would replace the top directory")),
            };
        };
        match top {
            b"manifest" => {
                if inside.split_last().is_some() || !matches!(entry.kind, Kind::File { sparse: None }) {
                    return Err(place.refuse("`manifest` must be a regular file"));
                }
                self.remember(&entry, &place)?;
                self.has_manifest = true;
                self.archive.read_all(MANIFEST_LIMIT).map(|bytes| Some(Item::Manifest(bytes)))
            }
            b"rootfs" => {
                if inside.split_last().is_none() && entry.kind != Kind::Directory {
                    return Err(place.refuse("`rootfs` must be a directory"));
                }
                if let Kind::HardLink(target) = &entry.kind
                    && !self.seen.contains(&(self.fingerprint(target.as_bytes()) | IS_FILE))
                {
                    return Err(
                        place.refuse("it is a hard link to what is no file of this archive before it")
                    );
                }
                self.remember(&entry, &place)?;
                self.has_rootfs = true;
                Ok(Some(Item::Rootfs { entry, inside }))
            }
            _ => Err(place.refuse("only `manifest` and `rootfs` may be at the top of an image")),
        }
    }

    fn remember(&mut self, entry: &Entry, place: &Place) -> Result<(), ArchiveError> {
        let print = self.fingerprint(entry.path.as_bytes());
        let (this, other) = match entry.kind {
            Kind::File { .. } | Kind::HardLink(_) => (print | IS_FILE, print),
            Kind::Directory | Kind::Symlink(_) | Kind::Fifo | Kind::Device { .. } => (print, print | IS_FILE),
        };
        if self.seen.contains(&other) || !self.seen.insert(this) {
            return Err(place.clone().refuse("it is in the archive twice"));
        }
        Ok(())
    }

    fn fingerprint(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path) & !IS_FILE
    }
}
