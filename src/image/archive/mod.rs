//! Tar archives, entry by entry, from bytes that may be hostile.
//!
//! The crate `tar` decodes header fields; the framing is ours, because the crate sizes buffers by fields of the
//! archive, splits PAX records at the newlines that binary attributes contain, and takes the first of two records where
//! others take the last. Here every header is bounded, and whatever two readers could understand differently is refused:
//! sizes that disagree with the type, repeated records, names given twice, a missing end unless the digest of all bytes
//! tells that none is missing.
//!
//! Nothing after the end marker is read as an entry; the bytes still pass, for the hash.

mod pax;
pub mod write;

use std::fmt;

use self::pax::Pax;
use super::stream::{Chunks, StreamError, drain};
use crate::os::Hint;

const BLOCK: usize = 512;
/// Bytes of extended headers that one entry may have.
const HEADER_LIMIT: u64 = 1 << 20;
/// Longest path, without the NUL that the kernel counts (PATH_MAX).
pub const PATH_LIMIT: usize = 4095;
/// Longest part of a path (NAME_MAX).
const NAME_LIMIT: usize = 255;
/// The largest ID; the one above means "leave as it is" to chown(2).
const ID_LIMIT: u64 = 0xffff_fffe;

/// Why an archive is refused. The text names the entry; the caller adds the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The first bytes are of no archive.
    #[error("neither a tar archive nor one packed with gzip, bzip2, xz or zstd")]
    NotAnArchive,
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// An entry breaks the rules.
    #[error("{place}: {problem}")]
    Entry {
        /// Which.
        place: Place,
        /// What is wrong.
        problem: String,
    },
    /// The archive as a whole breaks the rules.
    #[error("{0}")]
    Whole(String),
    /// The bytes did not come.
    #[error("{cause}{}", .place.as_ref().map(|place| format!(" (in {place})")).unwrap_or_default())]
    Stream {
        /// Where in the archive.
        place: Option<Place>,
        /// Why.
        cause: StreamError,
    },
}

impl Hint for ArchiveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Stream { cause, .. } => cause.hint(),
            Self::NotAnArchive | Self::Empty | Self::Entry { .. } | Self::Whole(_) => None,
        }
    }
}

impl From<StreamError> for ArchiveError {
    fn from(cause: StreamError) -> Self {
        Self::Stream { place: None, cause }
    }
}

/// An entry, as a message calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// By name, with control characters escaped.
    Named(String),
    /// By where it begins.
    Offset(u64),
}

impl Place {
    /// Names an entry; what a terminal would obey is escaped.
    pub fn named(name: &[u8]) -> Self {
        let shown: String = String::from_utf8_lossy(name)
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect();
        match shown.char_indices().nth(200) {
            Some((end, _)) => Self::Named(format!("{}…", &shown[..end])),
            None => Self::Named(shown),
        }
    }

    /// Makes the error of this entry.
    pub fn refuse(self, problem: impl Into<String>) -> ArchiveError {
        ArchiveError::Entry { place: self, problem: problem.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "entry \"{name}\""),
            Self::Offset(offset) => write!(f, "the entry at byte {offset}"),
        }
    }
}

/// A relative path without `.`, `..`, empty parts or NUL: the parts joined by `/`, empty for the top itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Takes a name out of an archive.
    ///
    /// # Errors
    /// The problem, in words, when it is absolute, empty, too long, or has `..` or a NUL in it.
    pub fn new(name: &[u8]) -> Result<Self, String> {
        if name.is_empty() {
            return Err("its name is empty".into());
        }
        if name.contains(&0) {
            return Err("its name contains a NUL".into());
        }
        // A lone slash is the top to those who write it, as a dot is.
        if name[0] == b'/' && name.len() > 1 {
            return Err("its name is absolute".into());
        }
        if name.len() > PATH_LIMIT {
            return Err(format!("its name is longer than {PATH_LIMIT} bytes"));
        }
        let mut path = Vec::with_capacity(name.len());
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err("its name contains `..`".into()),
                part if part.len() > NAME_LIMIT => {
                    return Err(format!("a part of its name is longer than {NAME_LIMIT} bytes"));
                }
                part => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(part);
                }
            }
        }
        Ok(Self(path))
    }

    /// The path of the top directory.
    pub fn top() -> Self {
        Self(Vec::new())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first part and the rest, if there is a first part.
    pub fn split_first(&self) -> Option<(&[u8], Self)> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().position(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], Self(self.0[at + 1..].to_vec())),
            None => (&self.0, Self(Vec::new())),
        })
    }

    /// The path below a directory.
    pub fn below(&self, dir: &[u8]) -> Self {
        if self.0.is_empty() { Self(dir.to_vec()) } else { Self([dir, b"/", &self.0].concat()) }
    }

    /// The path of the directory above, and the last part, if there is a last part.
    pub fn split_last(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[], &self.0),
        })
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its bytes come from [`Reader::data`].
    File {
        /// Where the bytes go, if the file has holes.
        sparse: Option<Sparse>,
    },
    /// A directory.
    Directory,
    /// A symbolic link with its text, which is not judged: it is resolved where it is used.
    Symlink(Vec<u8>),
    /// Another name of an earlier file.
    HardLink(EntryPath),
    /// A FIFO.
    Fifo,
    /// A device node.
    Device {
        /// Character, not block.
        is_character: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// A file with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparse {
    /// Offset and length of each stored part, in order and apart from each other.
    pub parts: Vec<(u64, u64)>,
    /// Size of the whole file.
    pub size: u64,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub path: EntryPath,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner, below 2^32 - 1.
    pub uid: u32,
    /// Group, below 2^32 - 1.
    pub gid: u32,
    /// Seconds since the epoch and nanoseconds, within what any file system knows to clamp.
    pub mtime: (i64, u32),
    /// Extended attributes, all that the archive names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Number of bytes that [`Reader::data`] will give.
    pub size: u64,
}

impl Entry {
    /// The entry as messages call it.
    pub fn place(&self) -> Place {
        Place::named(self.path.as_bytes())
    }
}

/// How an archive ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By its marker: without it, something may have been cut off.
    Marked,
    /// Also after the data of an entry, padded or not, as some archivers write layers. The caller holds the archive to a
    /// digest.
    Anywhere,
}

/// Reads an archive; a generator of [`Entry`] whose data is read before the next.
pub struct Reader<C> {
    from: C,
    offset: u64,
    /// Data of the current entry that was not read.
    remaining: u64,
    padding: u64,
    place: Option<Place>,
    entries: u64,
    entry_limit: u64,
    end: End,
    finished: bool,
}

/// The extended headers that come before an entry.
#[derive(Default)]
struct Extended {
    bytes: u64,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<C: Chunks> Reader<C> {
    /// Makes a reader that refuses more than `entry_limit` entries, and an archive without its end marker.
    pub fn new(from: C, entry_limit: u64) -> Self {
        Self::ending(from, entry_limit, End::Marked)
    }

    /// As [`Reader::new`], for an archive that ends as `end` says.
    pub fn ending(from: C, entry_limit: u64, end: End) -> Self {
        Self {
            from,
            offset: 0,
            remaining: 0,
            padding: 0,
            place: None,
            entries: 0,
            entry_limit,
            end,
            finished: false,
        }
    }

    /// Returns the next entry, passing over unread data of the last; `None` at the archive's end marker.
    ///
    /// # Errors
    /// When the archive breaks a rule, is cut, or its bytes do not come. After an error the reader is of no use.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        if self.finished {
            return Ok(None);
        }
        self.skip_data()?;
        let mut extended = Extended::default();
        loop {
            let start = self.offset;
            self.place = Some(Place::Offset(start));
            let Some(block) = self.header_block()? else {
                self.finished = true;
                if extended.bytes > 0 {
                    return Err(Place::Offset(start).refuse("an extended header is followed by no entry"));
                }
                return Ok(None);
            };
            self.count(1)?;
            let size = Number::parse(&block[124..136]).and_then(Number::unsigned);
            let size = size.map_err(|problem| Place::Offset(start).refuse(format!("its size {problem}")))?;
            match block[156] {
                b'x' | b'g' | b'L' | b'K' => {
                    let bytes = self.extended_header(size, &mut extended)?;
                    extended
                        .add(block[156], bytes)
                        .map_err(|problem| Place::Offset(start).refuse(problem))?;
                }
                _ => return self.entry(&block, size, extended).map(Some),
            }
        }
    }

    /// The next bytes of the current entry's data; empty when all were read.
    ///
    /// # Errors
    /// When the archive ends within, or its bytes do not come.
    pub fn data(&mut self) -> Result<&[u8], ArchiveError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let remaining = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let place = &self.place;
        let chunk =
            self.from.chunk().map_err(|cause| ArchiveError::Stream { place: place.clone(), cause })?;
        if chunk.is_empty() {
            return Err(cut(place.clone()));
        }
        Ok(&chunk[..chunk.len().min(remaining)])
    }

    /// Where in the archive the next byte is: after [`Reader::next_entry`], where the entry's data begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Marks `count` bytes of [`Reader::data`] as read.
    pub fn consume(&mut self, count: usize) {
        self.from.consume(count);
        self.offset += count as u64;
        self.remaining -= count as u64;
    }

    /// Reads the whole data of the current entry, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Reader::data`]; or when it is larger.
    pub fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        if self.remaining > limit {
            let place = self.place.clone().unwrap_or(Place::Offset(self.offset));
            return Err(place.refuse(format!("it is larger than {limit} bytes")));
        }
        let mut bytes = Vec::new();
        loop {
            let data = self.data()?;
            if data.is_empty() {
                return Ok(bytes);
            }
            let count = data.len();
            bytes.extend_from_slice(data);
            self.consume(count);
        }
    }

    /// Reads and drops what follows the end marker, so that all bytes have passed.
    ///
    /// # Errors
    /// When the bytes do not come.
    pub fn drain(&mut self) -> Result<(), ArchiveError> {
        Ok(drain(&mut self.from)?)
    }

    /// Counts `more` things that cost as much as an entry.
    ///
    /// # Errors
    /// When there are too many.
    pub fn count(&mut self, more: u64) -> Result<(), ArchiveError> {
        self.entries += more;
        if self.entries > self.entry_limit {
            return Err(ArchiveError::Whole(format!("it has more than {} entries", self.entry_limit)));
        }
        Ok(())
    }

    fn skip_data(&mut self) -> Result<(), ArchiveError> {
        loop {
            let count = self.data()?.len();
            if count == 0 {
                break;
            }
            self.consume(count);
        }
        self.remaining = std::mem::take(&mut self.padding);
        while self.remaining > 0 && !self.is_at_bare_end()? {
            let count = self.data()?.len();
            self.consume(count);
        }
        self.remaining = 0;
        Ok(())
    }

    /// Tells whether the bytes are over, and may be.
    fn is_at_bare_end(&mut self) -> Result<bool, ArchiveError> {
        let place = &self.place;
        let chunk =
            self.from.chunk().map_err(|cause| ArchiveError::Stream { place: place.clone(), cause })?;
        Ok(self.end == End::Anywhere && chunk.is_empty())
    }

    fn set_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// Reads a block; `None` is the end marker.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let start = self.offset;
        if start > 0 && self.is_at_bare_end()? {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let place = &self.place;
            let chunk =
                self.from.chunk().map_err(|cause| ArchiveError::Stream { place: place.clone(), cause })?;
            if chunk.is_empty() {
                return Err(match (start, filled) {
                    (0, 0) => ArchiveError::Empty,
                    (0, _) => ArchiveError::NotAnArchive,
                    (_, 0) => ArchiveError::Whole("it is cut off: the end marker is missing".into()),
                    _ => cut(Some(Place::Offset(start))),
                });
            }
            let count = chunk.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&chunk[..count]);
            filled += count;
            self.from.consume(count);
        }
        self.offset += BLOCK as u64;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = 8 * u32::from(b' ')
            + block[..148].iter().chain(&block[156..]).map(|b| u32::from(*b)).sum::<u32>();
        match Number::parse(&block[148..156]) {
            Ok(Number(stated)) if stated == i128::from(sum) => Ok(Some(block)),
            _ if start == 0 => Err(ArchiveError::NotAnArchive),
            _ => Err(Place::Offset(start).refuse("the checksum of its header is wrong")),
        }
    }

    fn extended_header(&mut self, size: u64, extended: &mut Extended) -> Result<Vec<u8>, ArchiveError> {
        extended.bytes = extended.bytes.saturating_add(size);
        if extended.bytes > HEADER_LIMIT {
            let place = self.place.clone().unwrap_or(Place::Offset(self.offset));
            return Err(place.refuse(format!("its headers are larger than {HEADER_LIMIT} bytes")));
        }
        self.set_data(size);
        let bytes = self.read_all(HEADER_LIMIT)?;
        self.skip_data()?;
        Ok(bytes)
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        header_size: u64,
        extended: Extended,
    ) -> Result<Entry, ArchiveError> {
        let header = tar::Header::from_byte_slice(block);
        let pax = extended.pax.unwrap_or_default();
        let refuse = |name: &[u8], problem: String| Place::named(name).refuse(problem);
        let name = match (extended.long_name, pax.path) {
            (Some(name), Some(_)) => return Err(refuse(&name, "it has two names".into())),
            (Some(name), None) | (None, Some(name)) => name,
            (None, None) => header.path_bytes().into_owned(),
        };
        let name = pax.sparse_name.unwrap_or(name);
        let place = Place::named(&name);
        self.place = Some(place.clone());
        let refuse = |problem: String| place.clone().refuse(problem);
        let field = |range: std::ops::Range<usize>, what: &str| {
            Number::parse(&block[range]).map_err(|problem| refuse(format!("its {what} {problem}")))
        };
        let path = EntryPath::new(&name).map_err(refuse)?;
        let link = match (extended.long_link, pax.linkpath) {
            (Some(_), Some(_)) => return Err(refuse("it has two link targets".into())),
            (Some(link), None) | (None, Some(link)) => Some(link),
            (None, None) => header.link_name_bytes().map(std::borrow::Cow::into_owned),
        };
        let typeflag = block[156];
        // A hard link has no data, whatever its size says: actool and Go's archive/tar leave the file's size there, and
        // GNU tar, as they do, passes over it.
        let size = if typeflag == b'1' { 0 } else { pax.size.unwrap_or(header_size) };
        let has_data = matches!(typeflag, b'0' | 0 | b'7' | b'S');
        let is_sparse = pax.sparse.is_some();
        if !has_data && size != 0 {
            return Err(refuse("it has data, which its type does not allow".into()));
        }
        let device = |range, what| {
            field(range, what)?
                .unsigned()
                .ok()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| refuse(format!("its {what} is out of range")))
        };
        self.set_data(size);
        let mut stored = size;
        let kind = match typeflag {
            // Sparse and contiguous files are files to some and, for such a name, directories to others.
            b'0' | 0 | b'7' | b'S' if name.ends_with(b"/") => {
                if size != 0 || matches!(typeflag, b'S' | b'7') {
                    return Err(refuse("it is a directory by its name and a file by its type".into()));
                }
                Kind::Directory
            }
            b'0' | 0 | b'7' => match pax.sparse {
                None => Kind::File { sparse: None },
                Some(pax::SparseHeader::Map { parts, size }) => {
                    Kind::File { sparse: Some(sparse(parts, size, stored).map_err(refuse)?) }
                }
                Some(pax::SparseHeader::InData { size }) => {
                    let parts = self.sparse_map_in_data(&place)?;
                    stored = self.remaining;
                    Kind::File { sparse: Some(sparse(parts, size, stored).map_err(refuse)?) }
                }
            },
            b'S' => {
                self.remaining = 0;
                let (parts, real) = self.old_sparse_map(block, &place)?;
                self.set_data(size);
                Kind::File { sparse: Some(sparse(parts, real, stored).map_err(refuse)?) }
            }
            b'1' => {
                let link = link.ok_or_else(|| refuse("it is a hard link without a target".into()))?;
                let target = EntryPath::new(&link)
                    .map_err(|problem| refuse(format!("as a hard link's target: {problem}")))?;
                Kind::HardLink(target)
            }
            b'2' => {
                let link = link.filter(|link| !link.is_empty());
                let link = link.ok_or_else(|| refuse("it is a symbolic link without a target".into()))?;
                if link.contains(&0) || link.len() > PATH_LIMIT {
                    return Err(refuse("its link target is too long or contains a NUL".into()));
                }
                Kind::Symlink(link)
            }
            b'3' | b'4' => Kind::Device {
                is_character: typeflag == b'3',
                major: device(329..337, "major number")?,
                minor: device(337..345, "minor number")?,
            },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let shown = char::from(other).escape_default();
                return Err(refuse(format!("entries of type '{shown}' are not supported")));
            }
        };
        if is_sparse && (typeflag == b'S' || !matches!(kind, Kind::File { .. })) {
            return Err(refuse("it has a sparse map, which its type does not allow".into()));
        }
        let id = |from_pax: Option<u64>, range, what: &str| -> Result<u32, ArchiveError> {
            let id = match from_pax {
                Some(id) => Ok(id),
                None => field(range, what)?.unsigned(),
            };
            id.ok()
                .filter(|id| *id <= ID_LIMIT)
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| refuse(format!("its {what} is not between 0 and {ID_LIMIT}")))
        };
        let mode = field(100..108, "mode")?.0;
        let mtime = match pax.mtime {
            Some(time) => time,
            None => (field(136..148, "time")?.clamped(), 0),
        };
        Ok(Entry {
            path,
            kind,
            mode: u32::try_from(mode & 0o7777).unwrap_or(0),
            uid: id(pax.uid, 108..116, "owner")?,
            gid: id(pax.gid, 116..124, "group")?,
            mtime: (mtime.0.clamp(TIME_MIN, TIME_MAX), mtime.1),
            xattrs: pax.xattrs,
            size: stored,
        })
    }

    /// Reads the map of an old GNU sparse entry: four parts in the header, more in blocks behind it.
    fn old_sparse_map(
        &mut self,
        block: &[u8; BLOCK],
        place: &Place,
    ) -> Result<(Vec<(u64, u64)>, u64), ArchiveError> {
        let number = |field: &[u8]| {
            Number::parse(field)
                .and_then(Number::unsigned)
                .map_err(|problem| place.clone().refuse(format!("its sparse map {problem}")))
        };
        let mut parts = Vec::new();
        let add = |fields: &[u8], parts: &mut Vec<(u64, u64)>| -> Result<(), ArchiveError> {
            for part in fields.chunks_exact(24).filter(|part| part[0] != 0) {
                parts.push((number(&part[..12])?, number(&part[12..])?));
            }
            Ok(())
        };
        add(&block[386..482], &mut parts)?;
        let real = number(&block[483..495])?;
        let mut more = block[482] != 0;
        while more {
            if parts.len() as u64 * 24 > HEADER_LIMIT {
                return Err(place.clone().refuse("its sparse map is too large"));
            }
            self.set_data(BLOCK as u64);
            let bytes = self.read_all(BLOCK as u64)?;
            add(&bytes[..504], &mut parts)?;
            more = bytes[504] != 0;
        }
        Ok((parts, real))
    }

    /// Reads the map at the start of the data of a PAX 1.0 sparse entry: decimal lines, padded to a block.
    fn sparse_map_in_data(&mut self, place: &Place) -> Result<Vec<(u64, u64)>, ArchiveError> {
        let refuse = |problem: &str| place.clone().refuse(format!("its sparse map {problem}"));
        let mut text = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let mut line_start = 0;
        loop {
            if text.len() as u64 > HEADER_LIMIT {
                return Err(refuse("is too large"));
            }
            for _ in 0..BLOCK {
                let byte = *self.data()?.first().ok_or_else(|| refuse("is cut off"))?;
                self.consume(1);
                text.push(byte);
            }
            while let Some(end) = text[line_start..].iter().position(|byte| *byte == b'\n') {
                let line = &text[line_start..line_start + end];
                let number = pax::decimal(line).ok_or_else(|| refuse("has a line that is no number"))?;
                numbers.push(number);
                line_start += end + 1;
                let wanted = numbers[0].checked_mul(2).and_then(|n| n.checked_add(1));
                if wanted == Some(numbers.len() as u64) {
                    return Ok(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
                }
            }
        }
    }
}

/// Times that every file system and clock library can hold: 1901 to 2446, the range of ext4.
const TIME_MIN: i64 = -(1 << 31);
const TIME_MAX: i64 = (1 << 34) - (1 << 31) - 1;

fn cut(place: Option<Place>) -> ArchiveError {
    match place {
        Some(place) => place.refuse("it is cut off: the archive ends within"),
        None => ArchiveError::Whole("it is cut off".into()),
    }
}

/// Checks a sparse map against the bytes that are stored.
fn sparse(parts: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Sparse, String> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for (offset, length) in &parts {
        if *offset < end {
            return Err("its sparse map is out of order".into());
        }
        end = offset.checked_add(*length).ok_or("its sparse map overflows")?;
        sum = sum.checked_add(*length).ok_or("its sparse map overflows")?;
    }
    if end > size || sum != stored || i64::try_from(size).is_err() {
        return Err("its sparse map does not fit its size".into());
    }
    Ok(Sparse { parts, size })
}

/// A numeric field: octal text, or the binary form of GNU and star for what does not fit.
#[derive(Clone, Copy)]
struct Number(i128);

impl Number {
    fn parse(field: &[u8]) -> Result<Self, String> {
        if field[0] & 0x80 != 0 {
            // Two's complement of all bits but the first, big endian.
            let negative = field[0] & 0x40 != 0;
            let mut value = if negative { -1_i128 } else { 0 };
            value = (value << 6) | i128::from(field[0] & 0x3f);
            for byte in &field[1..] {
                value = (value << 8) | i128::from(*byte);
            }
            return Ok(Self(value));
        }
        let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
        let digits = &field[start..];
        let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
        let (digits, rest) = digits.split_at(end);
        if rest.iter().any(|byte| !matches!(byte, b' ' | 0))
            || digits.iter().any(|b| !b.is_ascii_digit() || *b > b'7')
        {
            return Err("is no number".into());
        }
        Ok(Self(digits.iter().fold(0, |value, digit| value * 8 + i128::from(digit - b'0'))))
    }

    fn unsigned(self) -> Result<u64, String> {
        u64::try_from(self.0).map_err(|_| "is out of range".into())
    }

    fn clamped(self) -> i64 {
        i64::try_from(self.0.clamp(i128::from(i64::MIN), i128::from(i64::MAX))).unwrap_or(0)
    }
}

impl Extended {
    fn add(&mut self, typeflag: u8, bytes: Vec<u8>) -> Result<(), String> {
        match typeflag {
            b'g' => pax::check_global(&bytes),
            b'x' if self.pax.is_some() => Err("an entry has two PAX headers".into()),
            b'x' => {
                self.pax = Some(Pax::parse(&bytes)?);
                Ok(())
            }
            _ => {
                let name = bytes.strip_suffix(&[0]).unwrap_or(&bytes).to_vec();
                let slot = if typeflag == b'L' { &mut self.long_name } else { &mut self.long_link };
                if slot.replace(name).is_some() {
                    return Err("an entry has two long names".into());
                }
                Ok(())
            }
        }
    }
}
