//! The way from a packed file to its unpacked bytes, in threads that hand on bounded chunks.
//!
//! One thread reads the file, keeps a copy of it as delivered if asked, and unpacks; a second hashes; the caller's
//! thread reads the archive. Each waits for the slowest, so that memory is bounded whatever the size of the image. All
//! are joined before [`run`] returns, whatever went wrong in any of them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::compression::Compression;
use super::digest::{Algorithm, Digest};
use crate::os::{Hint, SysError, cause_text, interrupt};

const CHUNK: usize = 128 * 1024;
/// Chunks that may wait between two threads.
const AHEAD: usize = 8;

/// What an archive may cost before it is called a bomb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unpacked bytes.
    pub output: u64,
    /// Unpacked bytes for a packed one, looked at after [`Limits::ratio_from`] unpacked bytes.
    pub ratio: u64,
    /// Unpacked bytes below which the ratio doesn't matter.
    pub ratio_from: u64,
    /// Entries, with the directories that they imply.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { output: 16 << 30, ratio: 200, ratio_from: 64 << 20, entries: 2_000_000 }
    }
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the file that were read.
    pub read: u64,
    /// Size of the file.
    pub total: u64,
}

/// Why the bytes of an archive did not come.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The file could not be read.
    #[error("reading the file: {}", cause_text(.0))]
    Read(io::Error),
    /// The decoder refused the content.
    #[error("unpacking {compression} data: {}", cause_text(.cause))]
    Unpack {
        /// What the file begins like.
        compression: Compression,
        /// The decoder's words.
        cause: io::Error,
    },
    /// The copy could not be written.
    #[error(transparent)]
    Keep(SysError),
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
    /// It is larger than allowed.
    #[error("unpacks to more than the {limit} bytes that are allowed")]
    TooLarge {
        /// [`Limits::output`].
        limit: u64,
    },
    /// It is packed so well that it must be meant to fill the disk.
    #[error("unpacks to more than {ratio} times its size, as only archives do that are meant to fill a disk")]
    Bomb {
        /// [`Limits::ratio`].
        ratio: u64,
    },
}

impl Hint for StreamError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Keep(cause) => cause.hint(),
            Self::Bomb { .. } => {
                Some("if you trust it, unpack it yourself and use the plain tar file".into())
            }
            Self::Read(_) | Self::Unpack { .. } | Self::Interrupted | Self::TooLarge { .. } => None,
        }
    }
}

/// A source of bytes in chunks.
pub trait Chunks {
    /// The bytes that are there, waiting for some if there are none; empty at the end.
    ///
    /// # Errors
    /// When the source failed.
    fn chunk(&mut self) -> Result<&[u8], StreamError>;

    /// Marks `count` bytes of [`Chunks::chunk`] as used.
    fn consume(&mut self, count: usize);
}

impl Chunks for &[u8] {
    fn chunk(&mut self) -> Result<&[u8], StreamError> {
        Ok(self)
    }

    fn consume(&mut self, count: usize) {
        *self = &self[count..];
    }
}

/// Sees bytes that pass.
pub type Watch<'a> = &'a mut (dyn FnMut(&[u8]) + Send);

/// A packed file, its copy, and what to watch.
pub struct Source<'a> {
    /// The file, at its start.
    pub file: File,
    /// Where to keep the bytes as delivered, and what messages call that.
    pub keep: Option<(File, PathBuf)>,
    /// Sees all bytes as delivered, in another thread.
    pub watch: Option<Watch<'a>>,
    /// Bounds.
    pub limits: Limits,
    /// Called now and then from another thread.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

/// What the bytes were, once all have passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// SHA-512 of the unpacked bytes, also of those after the archive's end.
    pub digest: [u8; 64],
    /// Number of unpacked bytes.
    pub unpacked: u64,
    /// Number of bytes as delivered.
    pub delivered: u64,
    /// How they were packed.
    pub compression: Compression,
}

/// What the bytes were, once all have passed, by an algorithm of the caller's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flowed {
    /// The digest of the unpacked bytes, also of those after the archive's end.
    pub digest: Digest,
    /// Number of unpacked bytes.
    pub unpacked: u64,
    /// Number of bytes as delivered.
    pub delivered: u64,
    /// How they were packed.
    pub compression: Compression,
}

/// Sends the unpacked bytes of `source` through `consume`, which must read to the end, and hashes them.
///
/// # Errors
/// What `consume` returned; a source that failed reaches it as an error of [`Chunks::chunk`].
pub fn run<T, E: From<StreamError>>(
    source: Source<'_>,
    consume: impl FnOnce(&mut Incoming) -> Result<T, E>,
) -> Result<(T, Passed), E> {
    let (consumed, flowed) = run_hashed(source, Algorithm::Sha512, consume)?;
    let Flowed { digest, unpacked, delivered, compression } = flowed;
    let digest = match digest {
        Digest::Sha512(digest) => digest,
        Digest::Sha256(_) => unreachable!("it was asked for"),
    };
    Ok((consumed, Passed { digest, unpacked, delivered, compression }))
}

/// As [`run`], with the digest by `algorithm`.
///
/// # Errors
/// As [`run`].
pub fn run_hashed<T, E: From<StreamError>>(
    source: Source<'_>,
    algorithm: Algorithm,
    consume: impl FnOnce(&mut Incoming) -> Result<T, E>,
) -> Result<(T, Flowed), E> {
    std::thread::scope(|scope| {
        let (to_reader, from_unpacker) = sync_channel(AHEAD);
        let (to_hash, hash_from_unpacker) = sync_channel::<Arc<Vec<u8>>>(AHEAD);
        let unpacking = scope.spawn(move || unpack(source, &to_reader, &to_hash));
        let hashing = scope.spawn(move || {
            let mut hasher = algorithm.hasher();
            for chunk in hash_from_unpacker {
                hasher.update(&chunk);
            }
            hasher.finish()
        });
        let mut incoming = Incoming { from: from_unpacker, current: Arc::default(), used: 0 };
        let consumed = consume(&mut incoming);
        // A consumer that gave up must not leave the unpacker waiting for room.
        drop(incoming);
        let unpacked = unpacking.join().expect("the unpacking thread does not panic");
        let digest = hashing.join().expect("the hashing thread does not panic");
        let consumed = consumed?;
        let sizes = unpacked?;
        Ok((
            consumed,
            Flowed {
                digest,
                unpacked: sizes.unpacked,
                delivered: sizes.delivered,
                compression: sizes.compression,
            },
        ))
    })
}

/// The reading end in [`run`].
pub struct Incoming {
    from: Receiver<Result<Arc<Vec<u8>>, StreamError>>,
    current: Arc<Vec<u8>>,
    used: usize,
}

impl Chunks for Incoming {
    fn chunk(&mut self) -> Result<&[u8], StreamError> {
        if self.used == self.current.len() {
            // A closed channel is the end of the bytes.
            self.current = self.from.recv().unwrap_or_else(|_| Ok(Arc::default()))?;
            self.used = 0;
        }
        Ok(&self.current[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.current.len());
    }
}

struct Sizes {
    unpacked: u64,
    delivered: u64,
    compression: Compression,
}

fn unpack(
    source: Source<'_>,
    to_reader: &SyncSender<Result<Arc<Vec<u8>>, StreamError>>,
    to_hash: &SyncSender<Arc<Vec<u8>>>,
) -> Result<Sizes, StreamError> {
    let limits = source.limits;
    let counted = Arc::new(AtomicU64::new(0));
    let failed_copy = Arc::new(std::sync::Mutex::new(None));
    let total = source.file.metadata().map_or(0, |status| status.len());
    let input = Input {
        file: source.file,
        keep: source.keep,
        watch: source.watch,
        counted: Arc::clone(&counted),
        failed: Arc::clone(&failed_copy),
    };
    let mut input = BufReader::with_capacity(CHUNK, input);
    let mut compression = Compression::None;
    let result = (|| {
        compression = Compression::detect(input.fill_buf()?);
        let mut decoder = compression.decoder(&mut input)?;
        let mut unpacked = 0_u64;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let result = (&mut decoder).take(CHUNK as u64).read_to_end(&mut chunk);
            let got = chunk.len();
            unpacked += got as u64;
            let read = counted.load(Ordering::Relaxed);
            if let Some(progress) = source.progress {
                progress(Progress { read, total });
            }
            if got == 0 {
                result?;
                drop(decoder);
                // Every byte is seen by who watches, or the file is refused.
                return if input.fill_buf()?.is_empty() {
                    Ok(Ok(unpacked))
                } else {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "something follows the packed data"))
                };
            }
            if interrupt::has_arrived() {
                return Ok(Err(StreamError::Interrupted));
            }
            if unpacked > limits.output {
                return Ok(Err(StreamError::TooLarge { limit: limits.output }));
            }
            if unpacked > limits.ratio_from && unpacked / limits.ratio > read {
                return Ok(Err(StreamError::Bomb { ratio: limits.ratio }));
            }
            let chunk = Arc::new(chunk);
            if to_reader.send(Ok(Arc::clone(&chunk))).is_err() || to_hash.send(chunk).is_err() {
                // The reader gave up, and its own error is the one to tell.
                return Ok(Ok(unpacked));
            }
            // What came before the error has been handed on, so that the reader knows where it is.
            result?;
        }
    })();
    let failed_copy = failed_copy.lock().expect("no thread panics with it").take();
    let error = match (result, failed_copy) {
        (_, Some(error)) => error,
        (Ok(Ok(unpacked)), None) => {
            return Ok(Sizes { unpacked, delivered: counted.load(Ordering::Relaxed), compression });
        }
        (Ok(Err(error)), None) => error,
        (Err(cause), None) if compression == Compression::None => StreamError::Read(cause),
        (Err(cause), None) => StreamError::Unpack { compression, cause },
    };
    // The reader may be gone; then nobody wants to know.
    let _ = to_reader.send(Err(error));
    Ok(Sizes { unpacked: 0, delivered: 0, compression })
}

/// The file, counted, with its copy.
struct Input<'a> {
    file: File,
    keep: Option<(File, PathBuf)>,
    watch: Option<Watch<'a>>,
    counted: Arc<AtomicU64>,
    /// What went wrong with the file or the copy, kept apart from what decoders make of errors.
    failed: Arc<std::sync::Mutex<Option<StreamError>>>,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = match self.file.read(buffer) {
            Ok(got) => got,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => return Err(cause),
            Err(cause) => return Err(self.fail(StreamError::Read(cause))),
        };
        self.counted.fetch_add(got as u64, Ordering::Relaxed);
        if let Some(watch) = &mut self.watch {
            watch(&buffer[..got]);
        }
        let kept = match &mut self.keep {
            Some((file, path)) => {
                file.write_all(&buffer[..got]).map_err(|cause| SysError::new("writing", path, cause))
            }
            None => Ok(()),
        };
        kept.map_err(|error| self.fail(StreamError::Keep(error)))?;
        Ok(got)
    }
}

impl Input<'_> {
    fn fail(&self, error: StreamError) -> io::Error {
        *self.failed.lock().expect("no thread panics with it") = Some(error);
        io::Error::other("see the other error")
    }
}

/// Reads and drops what is left of `from`.
///
/// # Errors
/// When the source fails.
pub fn drain(from: &mut impl Chunks) -> Result<(), StreamError> {
    loop {
        let count = from.chunk()?.len();
        if count == 0 {
            return Ok(());
        }
        from.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha512};

    use super::*;

    fn source(bytes: &[u8], limits: Limits) -> Source<'static> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        Source { file, keep: None, watch: None, limits, progress: None }
    }

    fn zeros(size: u64) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        io::copy(&mut io::repeat(0).take(size), &mut to).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn all_bytes_are_hashed_and_the_file_is_kept_as_delivered() {
        let packed = zeros(1_000_000);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept");
        let mut source = source(&packed, Limits::default());
        source.keep = Some((File::create(&path).unwrap(), path.clone()));
        let mut watched = Vec::new();
        let mut watch = |bytes: &[u8]| watched.extend_from_slice(bytes);
        let source = Source { watch: Some(&mut watch), ..source };
        let ((), passed) = run(source, drain).unwrap();
        assert_eq!(passed.digest, <[u8; 64]>::from(Sha512::digest(vec![0; 1_000_000])));
        assert_eq!(passed.unpacked, 1_000_000);
        assert_eq!(passed.delivered, packed.len() as u64);
        assert_eq!(std::fs::read(&path).unwrap(), packed);
        assert_eq!(watched, packed);
    }

    #[test]
    fn bombs_are_stopped() {
        let packed = zeros(100 << 20);
        let refused = run(source(&packed, Limits::default()), drain).unwrap_err();
        assert!(matches!(refused, StreamError::Bomb { ratio: 200 }), "{refused}");
        let limits = Limits { output: 1 << 20, ..Limits::default() };
        let refused = run(source(&packed, limits), drain).unwrap_err();
        assert!(matches!(refused, StreamError::TooLarge { .. }), "{refused}");
    }

    #[test]
    fn a_reader_that_gives_up_ends_the_pipeline() {
        let packed = zeros(50 << 20);
        let refused =
            run(source(&packed, Limits::default()), |_| Err::<(), _>(StreamError::TooLarge { limit: 0 }));
        assert!(matches!(refused, Err(StreamError::TooLarge { limit: 0 })));
    }

    #[test]
    fn a_full_disk_is_named_by_the_copy() {
        let mut source = source(&zeros(1000), Limits::default());
        let full = File::options().write(true).open("/dev/full").unwrap();
        source.keep = Some((full, "/store/blob".into()));
        let refused = run(source, drain).unwrap_err();
        assert_eq!(refused.to_string(), "writing /store/blob: No space left on device");
        assert!(refused.hint().is_some());
    }
}
