//! PAX extended headers (POSIX.1-2024, pax, "pax Header Block"): records `LENGTH KEY=VALUE\n`, read strictly.
//!
//! A value may hold any byte, newlines too, as binary attributes do; only the length says where it ends. A key that
//! comes twice is refused, since some readers take the first and some the last.

/// The records that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<SparseHeader>,
    pub(super) sparse_name: Option<Vec<u8>>,
}

/// GNU's sparse files in PAX, by version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SparseHeader {
    /// 0.1: the map is a record.
    Map { parts: Vec<(u64, u64)>, size: u64 },
    /// 1.0: the map is before the data.
    InData { size: u64 },
}

const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

impl Pax {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut pax = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        let mut sparse = SparseRecords::default();
        for record in records(bytes) {
            let (key, value) = record?;
            if seen.contains(&key) {
                return Err(format!("its PAX header has {} twice", key.escape_ascii()));
            }
            seen.push(key);
            let bad = || format!("its PAX record {} is not valid", key.escape_ascii());
            let number = || decimal(value).ok_or_else(bad);
            match key {
                // An empty value takes back a global record; there are none of these here.
                b"path" => pax.path = Some(value.to_vec()),
                b"linkpath" => pax.linkpath = Some(value.to_vec()),
                b"size" => pax.size = Some(number()?),
                b"uid" => pax.uid = Some(number()?),
                b"gid" => pax.gid = Some(number()?),
                b"mtime" => pax.mtime = Some(time(value).ok_or_else(bad)?),
                key if key.starts_with(XATTR) => {
                    pax.xattrs.push((key[XATTR.len()..].to_vec(), value.to_vec()));
                }
                key if key.starts_with(SPARSE) => sparse.add(&key[SPARSE.len()..], value).ok_or_else(bad)?,
                _ => {}
            }
        }
        pax.sparse_name = sparse.name.take();
        pax.sparse = sparse.finish()?;
        Ok(pax)
    }
}

/// Checks a global header: a comment is fine, what would change the entries that follow is not.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), String> {
    for record in records(bytes) {
        let (key, _) = record?;
        if key != b"comment" {
            return Err(format!("a global PAX header sets {} for all entries", key.escape_ascii()));
        }
    }
    Ok(())
}

/// Reads digits, and nothing else, as a number.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), String>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((key, value, rest)) = split_record(bytes) else {
            bytes = &[];
            return Some(Err("its PAX header is damaged".into()));
        };
        bytes = rest;
        Some(Ok((key, value)))
    })
}

/// Key, value and what follows the record.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    if bytes[0] == b'0' || length > bytes.len() || length < space + 3 {
        return None;
    }
    let record = bytes[space + 1..length].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

/// Reads seconds with an optional sign and fraction; what does not fit is clamped.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = whole.iter().fold(0_i64, |n, d| n.saturating_mul(10).saturating_add(i64::from(d - b'0')));
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0_u32, |n, digit| n * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, nanoseconds) => ((-seconds).saturating_sub(1), 1_000_000_000 - nanoseconds),
    })
}

#[derive(Default)]
struct SparseRecords {
    is_used: bool,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    major: Option<u64>,
    minor: Option<u64>,
    map: Option<Vec<(u64, u64)>>,
}

impl SparseRecords {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        self.is_used = true;
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"numblocks" => drop(decimal(value)?),
            b"map" => {
                let numbers: Vec<u64> = value.split(|b| *b == b',').map(decimal).collect::<Option<_>>()?;
                if !numbers.len().is_multiple_of(2) {
                    return None;
                }
                self.map = Some(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
            }
            // 0.0 repeats `offset` and `numbytes`; nothing writes it any more.
            _ => return None,
        }
        Some(())
    }

    fn finish(self) -> Result<Option<SparseHeader>, String> {
        if !self.is_used {
            return Ok(None);
        }
        match (self.major, self.minor, self.map, self.size) {
            (Some(1), Some(0), None, Some(size)) => Ok(Some(SparseHeader::InData { size })),
            (None, None, Some(parts), Some(size)) => Ok(Some(SparseHeader::Map { parts, size })),
            _ => Err("its form of a sparse file is not supported".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tar_writer::pax_records;

    #[test]
    fn records_are_read_strictly() {
        let bad: &[&[u8]] = &[
            b"12 path=abcd\n",
            b"13 path=abc\n",
            b"012 path=abc\n",
            b" 12 path=abc\n",
            b"+12 path=abc\n",
            b"12 path=abc",
            b"5 =a\n",
            b"6 path\n",
            b"4 \n\n",
            b"0 \n",
            b"99999999999999999999 a=b\n",
            b"12 path=abc\n\0\0\0",
            b"12 path=abc\n12 path=abd\n",
            b"9 uid=-1\n",
            b"9 uid=0x\n",
            b"31 uid=99999999999999999999999\n",
            b"8 uid= \n",
            b"28 GNU.sparse.offset=1234567\n",
            b"22 GNU.sparse.major=1\n",
        ];
        for bytes in bad {
            assert!(Pax::parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_value_may_hold_newlines_and_any_byte() {
        let exact = pax_records(&[
            ("SCHILY.xattr.security.capability", b"\n\x00\xff\n".to_vec()),
            ("gid", b"42".to_vec()),
        ]);
        let pax = Pax::parse(&exact).unwrap();
        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), b"\n\x00\xff\n".to_vec())]);
        assert_eq!(pax.gid, Some(42));
    }

    #[test]
    fn times_have_signs_and_fractions() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("99999999999999999999999", Some((i64::MAX, 0))),
            ("", None),
            (".5", None),
            ("1e5", None),
            ("1.-5", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_global_header_may_only_comment() {
        assert_eq!(check_global(b"16 comment=hello\n"), Err("its PAX header is damaged".into()));
        assert_eq!(check_global(b"17 comment=hello\n"), Ok(()));
        assert!(check_global(b"12 path=abc\n").is_err());
    }
}
