//! Archives of images and layers, and what is unpacked of them: the reader takes no more than it was given and lists what
//! GNU tar lists, nothing outside of the root changes, and what was made can be removed.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rkt::image::aci::find_top;
use rkt::image::archive::{Entry, Kind, Reader};
use rkt::image::compression::Compression;
use rkt::image::digest::Algorithm;
use rkt::image::extract::{Devices, Owners, Target as Root, extract, inspect, unpack, unpack_oci_layer};
use rkt::image::stream::{Limits, Source};

use super::gnu_tar::{self, Listed};
use super::mutate::{self, Rng};
use super::run::{Effort, Target};

/// One in so many archives is also given to what is slow.
const SAMPLE: u64 = 64;

const LIMITS: Limits = Limits { output: 8 << 20, ratio: 200, ratio_from: 1 << 20, entries: 2000 };

/// The bytes of a canary's file.
const CANARY: &[u8] = b"untouched";

pub(crate) struct Archives {
    /// Has `root` to unpack to, and `outside` with a canary that no archive may reach.
    ground: tempfile::TempDir,
    canary: (u64, u32, u64, i64, i64),
    count: u64,
}

const WORDS: [&str; 30] = [
    "rootfs",
    "rootfs/",
    "manifest",
    "./",
    "../",
    "/",
    "rootfs/../../outside/canary",
    "../outside/canary",
    "../../outside",
    "/etc/passwd",
    ".wh.",
    ".wh..wh..opq",
    "rootfs/a",
    "rootfs/d/",
    "././@LongLink",
    "ustar\0",
    "ustar  \0",
    "path=",
    "linkpath=",
    "size=",
    "uid=",
    "mtime=",
    "GNU.sparse.major=1",
    "GNU.sparse.realsize=",
    "GNU.sparse.map=0,1",
    "SCHILY.xattr.user.overlay.opaque=y",
    "SCHILY.xattr.user.a=b",
    "SCHILY.xattr.security.capability=",
    "20 path=rootfs/abcd\n",
    "\0\0\0\0\0\0\0\0",
];

impl Archives {
    pub(crate) fn new() -> Self {
        // In memory where that is possible.
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let ground = tempfile::tempdir_in(parent).expect("a temporary directory");
        let outside = ground.path().join("outside");
        std::fs::create_dir(&outside).expect("a new directory");
        let canary = outside.join("canary");
        std::fs::write(&canary, CANARY).expect("a new file");
        std::fs::set_permissions(&canary, PermissionsExt::from_mode(0o640)).expect("it is ours");
        let state = state(&canary);
        Self { ground, canary: state, count: 0 }
    }

    /// Runs `unpack` into an empty root and looks at what it has done.
    fn unpack_with(
        &self,
        unpack: impl FnOnce(&Root<'_>) -> Result<String, String>,
    ) -> Result<String, String> {
        let root = self.ground.path().join("root");
        self.clear();
        std::fs::create_dir(&root).map_err(|cause| format!("root is still there: {cause}"))?;
        let is_root = rustix::process::geteuid().is_root();
        let owners = if is_root { Owners::OfImage } else { Owners::OfCaller };
        let answer = unpack(&Root { rootfs: &root, owners, devices: Devices::Skip });
        self.check_outside()?;
        rkt::os::tree::remove(&root).map_err(|error| format!("what was made can't be removed: {error}"))?;
        self.check_outside()?;
        answer
    }

    /// Removes the root that a panic has left.
    fn clear(&self) {
        let root = self.ground.path().join("root");
        if root.exists() {
            // What stays makes the next step fail.
            let _ = rkt::os::tree::remove(&root);
        }
    }

    fn check_outside(&self) -> Result<(), String> {
        let outside = self.ground.path().join("outside");
        let canary = outside.join("canary");
        if state(&canary) != self.canary || std::fs::read(&canary).ok().as_deref() != Some(CANARY) {
            return Err("the canary was changed".into());
        }
        for (dir, allowed) in [(self.ground.path(), &["outside", "root"][..]), (&outside, &["canary"])] {
            for entry in std::fs::read_dir(dir).expect("it is ours").flatten() {
                if !allowed.iter().any(|name| entry.file_name() == *name) {
                    return Err(format!("{:?} was made outside of the root", entry.path()));
                }
            }
        }
        Ok(())
    }
}

/// What changes when somebody touches a file.
fn state(path: &Path) -> (u64, u32, u64, i64, i64) {
    let status = path.symlink_metadata().unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    (status.ino(), status.mode(), status.nlink(), status.ctime(), status.ctime_nsec())
}

impl Target for Archives {
    const NAME: &'static str = "archive";

    fn check(&mut self, input: &[u8], effort: Effort) -> Result<String, String> {
        self.count += 1;
        let is_sample = effort == Effort::Full || self.count.is_multiple_of(SAMPLE);
        if Compression::detect(&input[..input.len().min(16)]) != Compression::None {
            return self.check_packed(input);
        }
        let listed = entries(input);
        if let Ok(entries) = &listed
            && is_sample
        {
            compare(entries, input)?;
        }
        if find_top(input, &LIMITS).is_ok() != listed.is_ok() {
            return Err("looked through and listed, it is not the same".into());
        }
        let whole = inspect(input, &LIMITS).map_err(|error| error.to_string());
        let unpacked = self.unpack_with(|root| match extract(input, root, &LIMITS) {
            Ok(unpacked) => match &whole {
                Ok(seen) if seen.manifest == unpacked.manifest => Ok("unpacked".into()),
                other => Err(format!("unpacked, and {other:?} without a root")),
            },
            Err(error) => one_line(&error.to_string()),
        })?;
        let listed = match listed {
            Ok(_) => "listed".to_owned(),
            Err(error) => one_line(&error)?,
        };
        let layer = if is_sample { self.check_layer(input)? } else { String::new() };
        Ok(format!("{listed} / {unpacked} / {layer}"))
    }

    fn mutate(&self, rng: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
        let is_packed = Compression::detect(&input[..input.len().min(16)]) != Compression::None;
        if is_packed || rng.one_in(6) {
            return mutate::bytes(rng, input, other, &WORDS);
        }
        members(rng, input, other)
    }
}

impl Archives {
    /// A packed archive, through the threads that unpack and hash it.
    fn check_packed(&self, input: &[u8]) -> Result<String, String> {
        self.unpack_with(|root| match unpack(source(input), Some(root)) {
            Ok((_, passed)) if passed.delivered != input.len() as u64 => {
                Err(format!("{} bytes of {} were taken", passed.delivered, input.len()))
            }
            Ok(_) => Ok("unpacked".into()),
            Err(error) => one_line(&error.to_string()),
        })
    }

    fn check_layer(&self, input: &[u8]) -> Result<String, String> {
        let read =
            unpack_oci_layer(source(input), Algorithm::Sha256, None).map_err(|error| error.to_string());
        self.unpack_with(|root| match unpack_oci_layer(source(input), Algorithm::Sha256, Some(root)) {
            Ok((_, flowed)) => match &read {
                Ok((_, seen)) if seen.digest == flowed.digest => Ok("a layer".into()),
                other => Err(format!("unpacked as a layer, and {other:?} without a root")),
            },
            Err(error) => one_line(&error.to_string()),
        })
    }
}

fn source(input: &[u8]) -> Source<'static> {
    let fd = rustix::fs::memfd_create("archive", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    let mut file = File::from(fd);
    file.write_all(input).expect("there is room");
    file.rewind().expect("it is a file");
    Source { file, keep: None, watch: None, limits: LIMITS, progress: None }
}

fn one_line(message: &str) -> Result<String, String> {
    if message.chars().any(char::is_control) {
        return Err(format!("a message with a control character: {message:?}"));
    }
    Ok(message.to_owned())
}

/// Lists an archive with the stored bytes of its files.
fn entries(input: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, String> {
    let mut reader = Reader::new(input, LIMITS.entries);
    let mut entries = Vec::new();
    loop {
        let entry = reader.next_entry().map_err(|error| error.to_string())?;
        assert!(reader.offset() <= input.len() as u64, "more is taken than was given");
        let Some(entry) = entry else { break };
        let data = reader.read_all(u64::MAX).map_err(|error| error.to_string())?;
        assert_eq!(data.len() as u64, entry.size, "the data of an entry has its size");
        entries.push((entry, data));
    }
    reader.drain().map_err(|error| error.to_string())?;
    Ok(entries)
}

/// Compares the entries with what GNU tar finds.
fn compare(entries: &[(Entry, Vec<u8>)], input: &[u8]) -> Result<(), String> {
    // What GNU tar refuses and we accept is no other list.
    let Ok(theirs) = gnu_tar::list(input) else { return Ok(()) };
    let ours: Vec<Listed> = entries.iter().map(|(entry, _)| listed(entry)).collect();
    if ours.len() != theirs.len() {
        return Err(format!("{} entries, and {} by GNU tar: {ours:?}, {theirs:?}", ours.len(), theirs.len()));
    }
    for (ours, theirs) in ours.iter().zip(theirs) {
        let Some(mut theirs) = theirs else { continue };
        theirs.name = normalised(&theirs, &ours.name);
        if *ours != theirs {
            return Err(format!("{ours:?} is {theirs:?} to GNU tar"));
        }
    }
    if ours.iter().map(|entry| u128::from(entry.size)).sum::<u128>() > u128::from(LIMITS.output) {
        return Ok(());
    }
    let ours: Vec<u8> = entries.iter().flat_map(|(entry, data)| content(entry, data)).collect();
    match gnu_tar::contents(input) {
        Ok(theirs) if theirs != ours => Err("the files have other bytes to GNU tar".into()),
        _ => Ok(()),
    }
}

/// The bytes of a file with its holes.
fn content(entry: &Entry, data: &[u8]) -> Vec<u8> {
    let Kind::File { sparse: Some(sparse) } = &entry.kind else { return data.to_vec() };
    let at = |number: u64| usize::try_from(number).expect("it was compared with a limit");
    let mut content = vec![0; at(sparse.size)];
    let mut rest = data;
    for (offset, length) in &sparse.parts {
        let (part, behind) = rest.split_at(at(*length));
        content[at(*offset)..][..part.len()].copy_from_slice(part);
        rest = behind;
    }
    content
}

fn listed(entry: &Entry) -> Listed {
    let mut name = entry.path.as_bytes().to_vec();
    let (kind, size) = match &entry.kind {
        Kind::File { sparse } => ('-', sparse.as_ref().map_or(entry.size, |sparse| sparse.size)),
        Kind::Directory => ('d', 0),
        Kind::Symlink(text) => {
            name = [&name, &b" -> "[..], text].concat();
            ('l', 0)
        }
        Kind::HardLink(target) => {
            name = [&name, &b" link to "[..], target.as_bytes()].concat();
            ('h', 0)
        }
        Kind::Fifo => ('p', 0),
        Kind::Device { is_character: true, .. } => ('c', 0),
        Kind::Device { is_character: false, .. } => ('b', 0),
    };
    let blanks = name.iter().take_while(|byte| **byte == b' ').count();
    name.drain(..blanks);
    Listed { kind, mode: entry.mode, owner: (entry.uid, entry.gid), size, name }
}

/// A name of GNU tar's list without `.` and empty parts; of a link, both its names, but a symbolic link's text.
fn normalised(theirs: &Listed, ours: &[u8]) -> Vec<u8> {
    let separator = match theirs.kind {
        'l' => &b" -> "[..],
        'h' => b" link to ",
        _ => return plain(&theirs.name),
    };
    // A name may hold the separator, too; any place that makes the two equal will do.
    let places = theirs.name.windows(separator.len()).enumerate().filter(|(_, part)| *part == separator);
    let candidates = places.map(|(at, _)| {
        let (name, target) = (&theirs.name[..at], &theirs.name[at + separator.len()..]);
        let target = if theirs.kind == 'l' { target.to_vec() } else { plain(target) };
        [plain(name), separator.to_vec(), target].concat()
    });
    let mut last = theirs.name.clone();
    for candidate in candidates {
        last = candidate;
        if last == ours {
            break;
        }
    }
    last
}

fn plain(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}

const BLOCK: usize = 512;

/// Changes an archive member by member, with headers whose checksums are right again.
fn members(rng: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut members = split(input);
    let foreign = split(other);
    for _ in 0..=rng.below(3) {
        if members.is_empty() {
            break;
        }
        let at = rng.below(members.len());
        match rng.below(10) {
            0 => drop(members.remove(at)),
            1 => members.insert(at, members[rng.below(members.len())].clone()),
            2 if !foreign.is_empty() => members.insert(at, rng.pick(&foreign).clone()),
            3 => {
                let second = rng.below(members.len());
                members.swap(at, second);
            }
            4 if members[at].len() > BLOCK => {
                let (header, data) = members[at].split_at(BLOCK);
                let data = mutate::bytes(rng, data, other, &WORDS);
                members[at] = [header, &data].concat();
                if rng.one_in(2) {
                    let size = data.len();
                    put(&mut members[at], SIZE, format!("{size:011o}\0").as_bytes());
                    let padded = BLOCK + size.next_multiple_of(BLOCK);
                    members[at].resize(padded, 0);
                }
            }
            _ => change_header(rng, &mut members[at]),
        }
    }
    for member in members.iter_mut().filter(|member| member.len() >= BLOCK && !is_end(member)) {
        sign(member);
    }
    members.concat()
}

/// Cuts an archive before each header.
fn split(input: &[u8]) -> Vec<Vec<u8>> {
    let mut members = Vec::new();
    let mut rest = input;
    while rest.len() >= BLOCK {
        let size = std::str::from_utf8(&rest[SIZE..SIZE + 11]).ok();
        let size = size.and_then(|text| usize::from_str_radix(text, 8).ok()).unwrap_or(0);
        let length = BLOCK.saturating_add(size).div_ceil(BLOCK).saturating_mul(BLOCK).min(rest.len());
        members.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    if !rest.is_empty() {
        members.push(rest.to_vec());
    }
    members
}

fn is_end(member: &[u8]) -> bool {
    member[..BLOCK].iter().all(|byte| *byte == 0)
}

fn put(member: &mut [u8], at: usize, bytes: &[u8]) {
    member[at..at + bytes.len()].copy_from_slice(bytes);
}

const SIZE: usize = 124;

/// The fields of a header: where they begin and how long they are (tar(5)).
const FIELDS: [(usize, usize); 15] = [
    (0, 100),
    (100, 8),
    (108, 8),
    (116, 8),
    (SIZE, 12),
    (136, 12),
    (156, 1),
    (157, 100),
    (257, 8),
    (265, 32),
    (329, 8),
    (337, 8),
    (345, 155),
    (386, 96),
    (482, 13),
];

fn change_header(rng: &mut Rng, member: &mut [u8]) {
    if member.len() < BLOCK {
        return;
    }
    let (at, length) = *rng.pick(&FIELDS);
    match rng.below(8) {
        0 => put(member, 156, &[*rng.pick(b"01234567xgLKSVMND\0")]),
        1 => {
            let number = rng.next() >> rng.below(64);
            let text = format!("{number:0digits$o}\0", digits = length.saturating_sub(1));
            put(member, at, &text.as_bytes()[..length.min(text.len())]);
        }
        2 => {
            // As GNU tar writes what does not fit in octal digits.
            let number = rng.next() >> rng.below(64);
            let mut field = vec![0; length.saturating_sub(8)];
            field.extend(number.to_be_bytes());
            field.truncate(length);
            field[0] |= if rng.one_in(4) { 0xc0 } else { 0x80 };
            put(member, at, &field);
        }
        3 => {
            let mut text = rng.pick(&WORDS).as_bytes().to_vec();
            text.resize(length, 0);
            put(member, at, &text);
        }
        4 => {
            let text = rng.pick(&WORDS).as_bytes();
            put(member, at, &text[..text.len().min(length)]);
        }
        5 => put(member, at, &vec![*rng.pick(b"\0 7a/\xff"); length]),
        _ => member[at + rng.below(length)] = rng.byte(),
    }
}

/// Writes the checksum of a header.
fn sign(member: &mut [u8]) {
    put(member, 148, b"        ");
    let sum: u32 = member[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    put(member, 148, format!("{sum:06o}\0 ").as_bytes());
}
