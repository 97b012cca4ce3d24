//! The files of an image layout: a directory, or the members of a tar archive. Names come out of documents and are
//! looked up among what is there, never opened as paths.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::source::{Sink, SourceError};
use crate::image::archive::{ArchiveError, Entry, EntryPath, Kind, Reader};
use crate::image::compression::Compression;
use crate::image::stream::{Chunks, Limits, Source, StreamError, run};
use crate::os::SysError;
use crate::os::root::Root;

/// Members that an archive of an image may have; not the files in its layers.
const MAX_MEMBERS: u64 = 10_000;
/// Links that lead from one member to another.
const MAX_LINKS: usize = 8;
const BUFFER: usize = 128 * 1024;

/// The files of a layout.
pub trait Files: Sync {
    /// Reads a small file whole; `None` if there is none of this name.
    ///
    /// # Errors
    /// When it is larger than `limit` or can't be read.
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError>;

    /// The size of a file; `None` if there is none of this name.
    ///
    /// # Errors
    /// When it can't be looked at.
    fn size(&self, name: &str) -> Result<Option<u64>, SourceError>;

    /// Sends a file to `to`.
    ///
    /// # Errors
    /// When it isn't there, can't be read, or is refused.
    fn copy(&self, name: &str, to: &mut Sink<'_>) -> Result<(), SourceError>;
}

/// A directory.
pub struct Directory(Root);

impl Directory {
    /// Opens the directory that the user named.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        Root::open(path).map(Self)
    }

    fn find(&self, name: &str) -> Result<Option<File>, SourceError> {
        if EntryPath::new(name.as_bytes()).is_err() {
            return Ok(None);
        }
        match self.0.open_file(Path::new(name)) {
            Ok(file) => Ok(Some(file)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }
}

impl Files for Directory {
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let Some(file) = self.find(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(SysError::on("reading", self.0.path().join(name)))?;
        if bytes.len() as u64 > limit {
            return Err(SourceError::Missing(format!("{name} is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    fn size(&self, name: &str) -> Result<Option<u64>, SourceError> {
        let size = |file: File| file.metadata().map(|status| status.len());
        let found = self.find(name)?.map(size).transpose();
        Ok(found.map_err(SysError::on("looking at", self.0.path().join(name)))?)
    }

    fn copy(&self, name: &str, to: &mut Sink<'_>) -> Result<(), SourceError> {
        let mut file = self.find(name)?.ok_or_else(|| missing(name))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => to.write(&buffer[..count])?,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    return Err(SysError::new("reading", self.0.path().join(name), cause).into());
                }
            }
        }
    }
}

fn missing(name: &str) -> SourceError {
    SourceError::Missing(format!("it has no file {}", crate::appc::quoted(name)))
}

/// A tar archive, packed or not.
pub struct Archive {
    file: File,
    path: PathBuf,
    members: HashMap<EntryPath, Member>,
}

enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// To another member; some versions of docker save a layer once and link to it.
    Link(EntryPath),
}

impl Archive {
    /// Reads through the archive `path`. What is packed is unpacked to a nameless file in `scratch` first.
    ///
    /// # Errors
    /// When it can't be read, or is no valid archive.
    pub fn open(path: &Path, scratch: &Path, limits: &Limits) -> Result<Self, SourceError> {
        let mut file = open_regular(path)?;
        let mut start = [0; 16];
        let count = file.read(&mut start).map_err(SysError::on("reading", path))?;
        file.rewind().map_err(SysError::on("reading", path))?;
        if Compression::detect(&start[..count]) != Compression::None {
            file = unpacked(file, scratch, limits)?;
        }
        let chunks = FileChunks::new(file.try_clone().map_err(SysError::on("opening", path))?);
        let members = members(chunks).map_err(|cause| match cause {
            ArchiveError::Stream { cause: StreamError::Interrupted, .. } => SourceError::Interrupted,
            cause => SourceError::Missing(cause.to_string()),
        })?;
        Ok(Self { file, path: path.to_owned(), members })
    }

    /// Finds a member, through links.
    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut path = EntryPath::new(name.as_bytes()).ok()?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&path)? {
                Member::File { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => path = target.clone(),
            }
        }
        None
    }
}

impl Files for Archive {
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let Some((offset, size)) = self.find(name) else { return Ok(None) };
        if size > limit {
            return Err(SourceError::Missing(format!("{name} is larger than {limit} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, offset).map_err(SysError::on("reading", &self.path))?;
        Ok(Some(bytes))
    }

    fn size(&self, name: &str) -> Result<Option<u64>, SourceError> {
        Ok(self.find(name).map(|(_, size)| size))
    }

    fn copy(&self, name: &str, to: &mut Sink<'_>) -> Result<(), SourceError> {
        let (mut offset, mut left) = self.find(name).ok_or_else(|| missing(name))?;
        let mut buffer = vec![0; BUFFER];
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.file
                .read_exact_at(&mut buffer[..wanted], offset)
                .map_err(SysError::on("reading", &self.path))?;
            to.write(&buffer[..wanted])?;
            offset += wanted as u64;
            left -= wanted as u64;
        }
        Ok(())
    }
}

/// Opens a file that a user named, if it is a regular one.
fn open_regular(path: &Path) -> Result<File, SysError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(SysError::on("opening", path))?;
    if file.metadata().map_err(SysError::on("looking at", path))?.is_file() {
        return Ok(file);
    }
    Err(SysError::new("opening", path, io::Error::new(io::ErrorKind::InvalidInput, "Not a regular file")))
}

/// Unpacks `file` into one that has no name.
fn unpacked(file: File, scratch: &Path, limits: &Limits) -> Result<File, SourceError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let to = rustix::fs::open(scratch, flags, Mode::from_raw_mode(0o600))
        .map_err(SysError::on("making a temporary file in", scratch))?;
    let mut to = File::from(to);
    let source = Source { file, keep: None, watch: None, limits: *limits, progress: None };
    let written = run(source, |incoming| -> Result<(), UnpackError> {
        loop {
            let chunk = incoming.chunk()?;
            let count = chunk.len();
            if count == 0 {
                return Ok(());
            }
            to.write_all(chunk).map_err(UnpackError::Write)?;
            incoming.consume(count);
        }
    });
    written.map_err(|error| match error {
        UnpackError::Write(cause) => SourceError::System(SysError::new("writing to", scratch, cause)),
        UnpackError::Stream(StreamError::Interrupted) => SourceError::Interrupted,
        UnpackError::Stream(cause) => SourceError::Missing(cause.to_string()),
    })?;
    to.rewind().map_err(SysError::on("reading", scratch))?;
    Ok(to)
}

enum UnpackError {
    Write(io::Error),
    Stream(StreamError),
}

impl From<StreamError> for UnpackError {
    fn from(cause: StreamError) -> Self {
        Self::Stream(cause)
    }
}

/// Lists the members of an archive that are files, or links to some.
fn members(from: impl Chunks) -> Result<HashMap<EntryPath, Member>, ArchiveError> {
    let mut archive = Reader::new(from, MAX_MEMBERS);
    let mut members = HashMap::new();
    while let Some(entry) = archive.next_entry()? {
        let member = match &entry.kind {
            Kind::File { sparse: None } => Member::File { offset: archive.offset(), size: entry.size },
            Kind::HardLink(target) => Member::Link(target.clone()),
            Kind::Symlink(text) => match link_target(&entry, text) {
                Some(target) => Member::Link(target),
                None => continue,
            },
            Kind::File { sparse: Some(_) } | Kind::Directory | Kind::Fifo | Kind::Device { .. } => continue,
        };
        let place = entry.place();
        if members.insert(entry.path, member).is_some() {
            return Err(place.refuse("it is in the archive twice"));
        }
    }
    Ok(members)
}

/// What a symbolic link in an archive leads to, if that is a name in it.
fn link_target(entry: &Entry, text: &[u8]) -> Option<EntryPath> {
    if text.starts_with(b"/") {
        return None;
    }
    let (parent, _) = entry.path.split_last()?;
    let mut parts: Vec<&[u8]> = parent.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    for part in text.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    EntryPath::new(&parts.join(&b'/')).ok()
}

/// A plain file in chunks.
struct FileChunks {
    file: File,
    buffer: Vec<u8>,
    used: usize,
    filled: usize,
}

impl FileChunks {
    fn new(file: File) -> Self {
        Self { file, buffer: vec![0; BUFFER], used: 0, filled: 0 }
    }
}

impl Chunks for FileChunks {
    fn chunk(&mut self) -> Result<&[u8], StreamError> {
        while self.used == self.filled {
            if crate::os::interrupt::has_arrived() {
                return Err(StreamError::Interrupted);
            }
            match self.file.read(&mut self.buffer) {
                Ok(count) => {
                    (self.used, self.filled) = (0, count);
                    if count == 0 {
                        break;
                    }
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(StreamError::Read(cause)),
            }
        }
        Ok(&self.buffer[self.used..self.filled])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.filled);
    }
}
