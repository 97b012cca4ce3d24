//! Writes tar archives: ustar headers, and a PAX header where ustar has no room.
//!
//! Equal entries give equal bytes: nothing of the clock, the process or the host's names gets in. What this writes,
//! [`super::Reader`] reads back as it was.

use std::io::{self, Write};

use super::{BLOCK, Entry, Kind};

/// What the name and link fields of a header can hold (POSIX.1-2024, pax, "ustar Interchange Format").
const NAME_FIELD: usize = 100;
/// The largest owner or group of seven octal digits.
const ID_FIELD: u64 = 0o777_7777;
/// The largest size or time of eleven octal digits.
const SIZE_FIELD: u64 = 0o777_7777_7777;

/// An archive that is being written.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    /// Bytes of the current entry's data that are still to come, and what fills its last block.
    remaining: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(to: W) -> Self {
        Self { to, remaining: 0, padding: 0 }
    }

    /// Writes the headers of an entry, whose [`Entry::size`] bytes come next through [`Writer::data`].
    ///
    /// # Errors
    /// When the bytes can't be written.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        debug_assert_eq!(self.remaining, 0, "the data of the last entry is complete");
        let records = pax_records(entry);
        if !records.is_empty() {
            self.to.write_all(&pax_header(entry, records.len() as u64))?;
            self.to.write_all(&records)?;
            self.to.write_all(&[0; BLOCK][..padding(records.len() as u64)])?;
        }
        self.to.write_all(&header(entry))?;
        self.remaining = entry.size;
        self.padding = padding(entry.size);
        Ok(())
    }

    /// Writes data of the current entry.
    ///
    /// # Errors
    /// When the bytes can't be written.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.remaining =
            self.remaining.checked_sub(bytes.len() as u64).expect("no more data than the header says");
        if self.remaining == 0 {
            self.to.write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])
        } else {
            Ok(())
        }
    }

    /// Writes the end marker and returns what was written to.
    ///
    /// # Errors
    /// When the bytes can't be written.
    pub fn finish(mut self) -> io::Result<W> {
        debug_assert_eq!(self.remaining, 0, "the data of the last entry is complete");
        self.to.write_all(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }
}

fn padding(size: u64) -> usize {
    // Below 512.
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// What the header of an entry can't hold.
fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| records.extend(pax_record(key, value));
    if entry.path.as_bytes().len() > NAME_FIELD {
        add(b"path", entry.path.as_bytes());
    }
    if let Some(link) = link(entry).filter(|link| link.len() > NAME_FIELD) {
        add(b"linkpath", link);
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if u64::from(id) > ID_FIELD {
            add(key, id.to_string().as_bytes());
        }
    }
    if entry.size > SIZE_FIELD {
        add(b"size", entry.size.to_string().as_bytes());
    }
    if octal_time(entry).is_none() {
        add(b"mtime", decimal_time(entry.mtime).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, in which the length counts itself.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + b" =\n".len();
    let mut length = body;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// The time as the header holds it, if it can.
fn octal_time(entry: &Entry) -> Option<u64> {
    let (seconds, nanoseconds) = entry.mtime;
    u64::try_from(seconds).ok().filter(|seconds| *seconds <= SIZE_FIELD && nanoseconds == 0)
}

fn decimal_time((seconds, nanoseconds): (i64, u32)) -> String {
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if total < 0 { "-" } else { "" };
    let total = total.unsigned_abs();
    let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
    text.trim_end_matches('0').to_owned()
}

fn link(entry: &Entry) -> Option<&[u8]> {
    match &entry.kind {
        Kind::Symlink(text) => Some(text),
        Kind::HardLink(target) => Some(target.as_bytes()),
        Kind::File { .. } | Kind::Directory | Kind::Fifo | Kind::Device { .. } => None,
    }
}

fn header(entry: &Entry) -> [u8; BLOCK] {
    let mut block = Block::new(entry.path.as_bytes(), typeflag(&entry.kind));
    block.octal(100, 8, entry.mode.into());
    block.octal(108, 8, u64::from(entry.uid));
    block.octal(116, 8, u64::from(entry.gid));
    block.octal(124, 12, entry.size);
    block.octal(136, 12, octal_time(entry).unwrap_or(0));
    block.text(157, link(entry).unwrap_or_default());
    if let Kind::Device { major, minor, .. } = entry.kind {
        block.octal(329, 8, major.into());
        block.octal(337, 8, minor.into());
    }
    block.finish()
}

fn pax_header(entry: &Entry, size: u64) -> [u8; BLOCK] {
    let (_, name) = entry.path.split_last().unwrap_or_default();
    let mut block = Block::new(&[b"PaxHeaders/", name].concat(), b'x');
    block.octal(100, 8, 0o644);
    block.octal(108, 8, 0);
    block.octal(116, 8, 0);
    block.octal(124, 12, size);
    block.octal(136, 12, 0);
    block.finish()
}

fn typeflag(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => b'0',
        Kind::HardLink(_) => b'1',
        Kind::Symlink(_) => b'2',
        Kind::Device { is_character: true, .. } => b'3',
        Kind::Device { is_character: false, .. } => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

struct Block([u8; BLOCK]);

impl Block {
    fn new(name: &[u8], typeflag: u8) -> Self {
        let mut block = Self([0; BLOCK]);
        block.text(0, name);
        block.0[156] = typeflag;
        block.0[257..265].copy_from_slice(b"ustar\x0000");
        block
    }

    /// Writes what fits of a name or link; what does not is in the PAX header.
    fn text(&mut self, at: usize, text: &[u8]) {
        let length = text.len().min(NAME_FIELD);
        self.0[at..at + length].copy_from_slice(&text[..length]);
    }

    /// Writes a number of `width` bytes with its NUL; one that has no room there is in the PAX header, and 0 here.
    fn octal(&mut self, at: usize, width: usize, value: u64) {
        let digits = width - 1;
        let text = format!("{value:0digits$o}\0");
        let text = if text.len() > width { format!("{:0digits$o}\0", 0) } else { text };
        self.0[at..at + width].copy_from_slice(text.as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.0[148..156].copy_from_slice(b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{EntryPath, Reader, TIME_MAX, TIME_MIN};
    use super::*;

    fn path() -> impl Strategy<Value = EntryPath> {
        let part = prop_oneof![
            4 => "[a-z]{1,8}".prop_map(String::into_bytes),
            1 => "[a-z]{90,110}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 1..255).prop_filter("a part of a path", |part| {
                !part.contains(&0) && !part.contains(&b'/') && part != b"." && part != b".."
            }),
        ];
        proptest::collection::vec(part, 1..6).prop_map(|parts| EntryPath::new(&parts.join(&b'/')).unwrap())
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::File { sparse: None }),
            Just(Kind::Directory),
            Just(Kind::Fifo),
            path().prop_map(Kind::HardLink),
            path().prop_map(|path| Kind::Symlink(path.as_bytes().to_vec())),
            (any::<bool>(), 0..1_u32 << 12, 0..1_u32 << 20)
                .prop_map(|(is_character, major, minor)| Kind::Device { is_character, major, minor }),
        ]
    }

    fn entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
        let id = || prop_oneof![0..100_u32, 0..=0xffff_fffe_u32];
        let seconds = prop_oneof![0..2_000_000_000_i64, TIME_MIN..=TIME_MAX];
        let time = (seconds, prop_oneof![Just(0), 0..1_000_000_000_u32]);
        let xattr = (
            "user\\.[a-z]{1,9}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..1200),
        );
        let xattrs = proptest::collection::btree_map(xattr.0, xattr.1, 0..3);
        let data = proptest::collection::vec(any::<u8>(), 0..1500);
        (path(), kind(), 0..=0o7777_u32, id(), id(), time, xattrs, data).prop_map(
            |(path, kind, mode, uid, gid, mtime, xattrs, data)| {
                let data = if matches!(kind, Kind::File { .. }) { data } else { Vec::new() };
                let xattrs = xattrs.into_iter().collect();
                let size = data.len() as u64;
                (Entry { path, kind, mode, uid, gid, mtime, xattrs, size }, data)
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(entries in proptest::collection::vec(entry(), 0..5)) {
            let mut writer = Writer::new(Vec::new());
            for (entry, data) in &entries {
                writer.entry(entry).unwrap();
                for part in data.chunks(700) {
                    writer.data(part).unwrap();
                }
            }
            let bytes = writer.finish().unwrap();
            prop_assert_eq!(bytes.len() % BLOCK, 0);
            let mut reader = Reader::new(&bytes[..], 100);
            for (entry, data) in entries {
                prop_assert_eq!(reader.next_entry().unwrap().unwrap(), entry);
                prop_assert_eq!(reader.read_all(u64::MAX).unwrap(), data);
            }
            prop_assert_eq!(reader.next_entry().unwrap(), None);
        }
    }

    #[test]
    fn a_size_beyond_the_field_is_in_the_pax_header() {
        let path = EntryPath::new(b"large").unwrap();
        let size = SIZE_FIELD + 1;
        let kind = Kind::File { sparse: None };
        let entry = Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new(), size };
        let mut writer = Writer::new(Vec::new());
        writer.entry(&entry).unwrap();
        assert_eq!(Reader::new(&writer.to[..], 9).next_entry().unwrap().unwrap(), entry);
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for (value, expected) in [(0, 5), (4, 9), (5, 11), (93, 99), (94, 101), (95, 102)] {
            let record = pax_record(b"k", &vec![b'v'; value]);
            assert_eq!(record.len(), expected, "{value}");
            assert!(record.starts_with(format!("{expected} k=").as_bytes()), "{value}");
        }
    }
}
