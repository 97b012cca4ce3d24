//! Where the parts of an image come from, and the sink that holds them to their descriptors.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::convert::Origin;
use super::document::{Config, DocumentError};
use super::login::LoginError;
use crate::image::digest::{Digest, Hasher};
use crate::os::{Hint, SysError, interrupt};

/// Layers that are brought and unpacked at the same time. Each has a pipeline of three threads.
const WIDTH: usize = 3;

/// An image whose documents are known, and whose layers can be had.
pub struct RemoteImage<'a> {
    /// What messages call it, and by what it is found again.
    pub reference: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Its manifest as delivered; docker archives have none.
    pub manifest: Option<Vec<u8>>,
    /// Its configuration as delivered.
    pub config_bytes: Vec<u8>,
    /// The same, read.
    pub config: Config,
    /// Its layers as its manifest describes them, the lowest first.
    pub layers: Vec<Part>,
    /// Where they are.
    pub blobs: Box<dyn Blobs + 'a>,
}

/// What is known of a part before it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The digest of its bytes; docker archives don't say.
    pub digest: Option<Digest>,
    /// Their number.
    pub size: u64,
}

/// Where the layers of an image are.
pub trait Blobs: Sync {
    /// Brings the bytes of the layer with this number, as they were delivered.
    ///
    /// # Errors
    /// When they don't come, or the sink refuses them.
    fn bring(&self, layer: usize, to: &mut Sink<'_>) -> Result<(), SourceError>;
}

/// Why an image, or a part of it, did not come. The caller adds the image.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Something is not there, or not as it must be.
    #[error("{0}")]
    Missing(String),
    /// A document is not accepted.
    #[error("{what}: {cause}")]
    Document {
        /// Which.
        what: String,
        /// Why.
        cause: DocumentError,
    },
    /// There is no image for this machine.
    #[error("it has no image for {machine}, but for {}", if .there.is_empty() { "none".to_owned() } else { .there.join(", ") })]
    Platform {
        /// This machine.
        machine: String,
        /// What there is.
        there: Vec<String>,
    },
    /// Several images, and the user has not said which.
    #[error("it has several images: {}", .0.join(", "))]
    Several(Vec<String>),
    /// More bytes than the descriptor says.
    #[error("{what} has more than the {size} bytes that its descriptor says")]
    TooLong {
        /// Which part.
        what: String,
        /// The number in the descriptor.
        size: u64,
    },
    /// Less.
    #[error("{what} has {found} bytes, and its descriptor says {size}")]
    TooShort {
        /// Which part.
        what: String,
        /// The number in the descriptor.
        size: u64,
        /// What came.
        found: u64,
    },
    /// Other bytes.
    #[error("{what} has the digest {found}")]
    Digest {
        /// Which part, by the digest that it should have.
        what: String,
        /// What it has.
        found: Box<Digest>,
    },
    /// A server refused, or did not answer.
    #[error("{text}")]
    Server {
        /// What it did.
        text: String,
        /// The way out.
        hint: Option<String>,
    },
    /// It is not known who the user is to a registry.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
}

impl Hint for SourceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::System(cause) => cause.hint(),
            Self::Login(cause) => cause.hint(),
            Self::Server { hint, .. } => hint.clone(),
            Self::Several(_) => Some("say which one behind a colon".into()),
            Self::Digest { .. } | Self::TooLong { .. } | Self::TooShort { .. } => Some(
                "the image was changed or damaged after it was made: get it again from who made it".into(),
            ),
            Self::Missing(_) | Self::Document { .. } | Self::Platform { .. } | Self::Interrupted => None,
        }
    }
}

/// A file that takes the bytes of a part and no others: it stops at the first byte too many.
pub struct Sink<'a> {
    what: String,
    part: Part,
    file: File,
    path: PathBuf,
    hasher: Option<Hasher>,
    written: u64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Sink<'a> {
    /// Makes a sink that writes to the new file `path`; `what` is what messages call the part, and `progress` is told
    /// how many bytes have come.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn create(
        path: PathBuf,
        mode: u32,
        what: String,
        part: Part,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Result<Self, SysError> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(SysError::on("creating", &path))?;
        let hasher = part.digest.map(|digest| digest.algorithm().hasher());
        Ok(Self { what, part, file, path, hasher, written: 0, progress })
    }

    /// The number of bytes that have come.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// What is known of the part.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Forgets the bytes that have come, for a server that can't go on where it was cut.
    ///
    /// # Errors
    /// When the file can't be emptied.
    pub fn restart(&mut self) -> Result<(), SourceError> {
        self.file
            .set_len(0)
            .and_then(|()| std::io::Seek::rewind(&mut self.file))
            .map_err(SysError::on("writing", &self.path))?;
        self.hasher = self.part.digest.map(|digest| digest.algorithm().hasher());
        self.written = 0;
        Ok(())
    }

    /// Takes more bytes.
    ///
    /// # Errors
    /// When they are too many, can't be written, or the user does not want them any more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        if interrupt::has_arrived() {
            return Err(SourceError::Interrupted);
        }
        self.written += bytes.len() as u64;
        if self.written > self.part.size {
            return Err(SourceError::TooLong { what: self.what.clone(), size: self.part.size });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.file.write_all(bytes).map_err(SysError::on("writing", &self.path))?;
        (self.progress)(self.written);
        Ok(())
    }

    /// Ends the part, and returns the file at its start.
    ///
    /// # Errors
    /// When the bytes were too few, or others.
    pub fn finish(mut self) -> Result<File, SourceError> {
        if self.written < self.part.size {
            let (size, found) = (self.part.size, self.written);
            return Err(SourceError::TooShort { what: self.what, size, found });
        }
        if let (Some(hasher), Some(expected)) = (self.hasher, self.part.digest) {
            let found = hasher.finish();
            if found != expected {
                return Err(SourceError::Digest { what: self.what, found: Box::new(found) });
            }
        }
        std::io::Seek::rewind(&mut self.file).map_err(SysError::on("reading", &self.path))?;
        Ok(self.file)
    }
}

/// Checks the bytes of a small part that came as a whole.
///
/// # Errors
/// When they are not what the descriptor says.
pub fn check(what: &str, part: Part, bytes: &[u8]) -> Result<(), SourceError> {
    let found = bytes.len() as u64;
    if found != part.size {
        return Err(SourceError::TooShort { what: what.to_owned(), size: part.size, found });
    }
    match part.digest {
        Some(digest) if !digest.is_of(bytes) => {
            let mut hasher = digest.algorithm().hasher();
            hasher.update(bytes);
            Err(SourceError::Digest { what: what.to_owned(), found: Box::new(hasher.finish()) })
        }
        _ => Ok(()),
    }
}

/// Does `work` for 0 to `count` in a few threads, and returns what came out in that order; after a failure no more is
/// begun.
pub fn in_parallel<T: Send, E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WIDTH.min(count) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let result = work(index);
                    if result.is_err() {
                        next.fetch_max(count, Ordering::Relaxed);
                    }
                    done.lock().expect("no thread panics with it").push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics with it");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
