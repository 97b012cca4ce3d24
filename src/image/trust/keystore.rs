//! The files that say which key is trusted for which names (spec images.md 2.5).
//!
//! ```text
//! <config>/trustedkeys/root.d/<fingerprint>              for all names
//! <config>/trustedkeys/prefix.d/<prefix>/<fingerprint>   for the prefix, and names below it
//! <config>/trustedkeys/…/<fingerprint>.allow-sha1        beside a key: its own signatures may be SHA-1
//! <config>/trustedkeys/registry.d/…                      keys for images of registries, see `registry_keys`
//! ```
//!
//! Keys are armored, their files named by the fingerprint in lower-case hex. An empty file takes a key away that was read
//! before: system root, local root, system prefixes, local prefixes. A prefix is a path, so that `a.b/c` never covers
//! `a.b/cd`. Only the local level is written.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::image_key::ImageKeyError;
use super::key::{KeyError, PublicKey};
use crate::appc::name::AcIdentifier;
use crate::os::lock::{Lock, Sharing};
use crate::os::{Hint, SysError, atomic, file};

const DIRECTORY: &str = "trustedkeys";
const ROOT: &str = "root.d";
const PREFIX: &str = "prefix.d";
/// Of the files.
const MODE: u32 = 0o644;
/// The ending of the file that lets a key's own signatures be SHA-1.
const ALLOW_SHA1: &str = ".allow-sha1";
const ALLOW_SHA1_TEXT: &[u8] =
    b"The self-signatures of the key beside this file may have been made with SHA-1. Remove this file to forbid that.\n";

/// What a key is trusted for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All names.
    Root,
    /// A name and those below it.
    Prefix(AcIdentifier),
}

impl Scope {
    /// Tells whether a name is within.
    pub fn covers(&self, name: &AcIdentifier) -> bool {
        match self {
            Self::Root => true,
            Self::Prefix(prefix) => is_below(name.as_str(), prefix.as_str()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("all names"),
            Self::Prefix(prefix) => write!(f, "prefix \"{prefix}\""),
        }
    }
}

/// Tells whether `name` is `prefix`, or below it as a path.
pub fn is_below(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Which signatures of a key over itself count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfSignatures {
    /// Those made with a hash that is still good.
    Strong,
    /// Also those made with SHA-1, as keys from before 2015 have them.
    Sha1Allowed,
}

/// A key and what it is trusted for.
#[derive(Debug, Clone)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// What for.
    pub scope: Scope,
    /// Which of its own signatures count.
    pub self_signatures: SelfSignatures,
    /// Its file.
    pub path: PathBuf,
}

/// Why the key store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// A file is no key.
    #[error("keystore: error loading keyring: {}: {cause}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: KeyError,
    },
    /// A file is no key for images of registries.
    #[error("keystore: error loading keyring: {}: {cause}", .path.display())]
    ImageKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: ImageKeyError,
    },
    /// A file is not named by what it holds.
    #[error("keystore: error loading keyring: {}: fingerprint mismatch: it holds the key {found}", .path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// The system refused.
    #[error("keystore: error loading keyring: {0}")]
    Read(SysError),
    /// A key could not be stored.
    #[error(transparent)]
    Write(SysError),
}

impl Hint for KeystoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Key { cause, .. } => cause.hint(),
            Self::ImageKey { cause, .. } => cause.hint(),
            Self::Mismatch { path, found } => Some(format!(
                "a key's file is named by its fingerprint in lower case: rename {} to {found}, or remove it",
                path.display()
            )),
            Self::Read(cause) | Self::Write(cause) => cause.hint(),
        }
    }
}

/// The trusted keys below the system's and the administrator's configuration.
#[derive(Debug, Clone)]
pub struct Keystore {
    pub(super) system: PathBuf,
    pub(super) local: PathBuf,
}

impl Keystore {
    /// Returns the key store of these configuration directories, which may be missing.
    pub fn new(system_config: &Path, local_config: &Path) -> Self {
        Self { system: system_config.join(DIRECTORY), local: local_config.join(DIRECTORY) }
    }

    /// Returns the keys that are trusted for a name.
    ///
    /// # Errors
    /// When a file among them can't be read, or is not the key that its name says.
    pub fn keys_for(&self, name: &AcIdentifier) -> Result<Vec<TrustedKey>, KeystoreError> {
        let mut keys = Vec::new();
        for level in [&self.system, &self.local] {
            read_dir(&level.join(ROOT), &Scope::Root, &mut keys)?;
        }
        for level in [&self.system, &self.local] {
            for prefix in prefixes(name) {
                let dir = level.join(PREFIX).join(prefix.as_str());
                read_dir(&dir, &Scope::Prefix(prefix), &mut keys)?;
            }
        }
        Ok(keys)
    }

    /// Tells whether a key is trusted for a name by a prefix; keys for all names don't count.
    ///
    /// # Errors
    /// As [`Keystore::keys_for`].
    pub fn has_prefix_key(&self, name: &AcIdentifier) -> Result<bool, KeystoreError> {
        Ok(self.keys_for(name)?.iter().any(|key| key.scope != Scope::Root))
    }

    /// Stores a key in the local level; durable on return. Returns its file.
    ///
    /// # Errors
    /// When a directory or file can't be written.
    ///
    /// # Locking
    /// The directory of the scope, exclusive; waits for others who store a key there.
    pub fn add(
        &self,
        scope: &Scope,
        key: &PublicKey,
        self_signatures: SelfSignatures,
    ) -> Result<PathBuf, KeystoreError> {
        let dir = match scope {
            Scope::Root => self.local.join(ROOT),
            Scope::Prefix(prefix) => self.local.join(PREFIX).join(prefix.as_str()),
        };
        let path = dir.join(key.fingerprint());
        let armored = key.to_armored();
        // First the key: a mark without its key means nothing.
        let mut files = vec![(path.clone(), &armored[..])];
        if self_signatures == SelfSignatures::Sha1Allowed {
            files.push((marker(&path), ALLOW_SHA1_TEXT));
        }
        store_files(&dir, &files).map_err(KeystoreError::Write)?;
        Ok(path)
    }
}

/// Stores files of a key in the directory `dir`, one after the other; durable on return.
///
/// # Locking
/// The directory, exclusive; waits for others who store a key there.
pub(super) fn store_files(dir: &Path, files: &[(PathBuf, &[u8])]) -> Result<(), SysError> {
    atomic::make_dirs(dir, 0o755)?;
    let notice = || log::info!("waiting for another rkt that adds a key to {}", dir.display());
    let _lock = Lock::wait_on(dir, Sharing::Exclusive, notice)?;
    sweep(dir)?;
    files.iter().try_for_each(|(path, bytes)| store_file(path, bytes))
}

/// Removes what a killed process has left, under the lock of the directory.
fn sweep(dir: &Path) -> Result<(), SysError> {
    let refused = SysError::on("reading", dir);
    let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(refused)?;
    let left = |entry: &std::fs::DirEntry| {
        entry.file_name().as_encoded_bytes().starts_with(atomic::TEMPORARY_PREFIX.as_bytes())
    };
    entries
        .iter()
        .filter(|entry| left(entry))
        .map(std::fs::DirEntry::path)
        .try_for_each(|path| std::fs::remove_file(&path).map_err(SysError::on("removing", &path)))
}

/// Writes a file of the key store. Nobody sweeps that but who adds a key to the same directory, so that a new file gets its
/// name only when it is whole, and one that is as it should be is left alone.
fn store_file(path: &Path, bytes: &[u8]) -> Result<(), SysError> {
    let dir = path.parent().unwrap_or(path);
    let is_so = |found: &Metadata| found.is_file() && found.permissions().mode() & 0o7777 == MODE;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => atomic::save(path, bytes, MODE),
        Ok(found) if is_so(&found) && file::read(path).is_ok_and(|there| there == bytes) => {
            atomic::sync_dir(dir)
        }
        _ => atomic::write(path, bytes, MODE),
    }
}

fn marker(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(ALLOW_SHA1);
    name.into()
}

/// The name and all that it is below, the shortest first: `a.b`, `a.b/c`, `a.b/c/d`.
pub fn prefixes(name: &AcIdentifier) -> Vec<AcIdentifier> {
    let text = name.as_str();
    let ends = text.match_indices('/').map(|(at, _)| at).chain([text.len()]);
    ends.map(|end| text[..end].parse().expect("what stands before a slash of an identifier is one")).collect()
}

fn read_dir(dir: &Path, scope: &Scope, keys: &mut Vec<TrustedKey>) -> Result<(), KeystoreError> {
    for KeyFile { path, name, text } in key_files(dir)? {
        if text.is_empty() {
            keys.retain(|key| key.key.fingerprint() != name);
            continue;
        }
        let mut read = PublicKey::parse_armored(&text)
            .map_err(|cause| KeystoreError::Key { path: path.clone(), cause })?;
        let key = read.swap_remove(0);
        if key.fingerprint() != name || !read.is_empty() {
            return Err(KeystoreError::Mismatch { path, found: key.fingerprint() });
        }
        let self_signatures = match marker(&path).symlink_metadata() {
            Ok(found) if found.is_file() => SelfSignatures::Sha1Allowed,
            _ => SelfSignatures::Strong,
        };
        keys.push(TrustedKey { key, scope: scope.clone(), self_signatures, path });
    }
    Ok(())
}

/// A file in a directory of keys.
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    /// The fingerprint that it is named by.
    pub(super) name: String,
    /// Empty if it takes the key away.
    pub(super) text: Vec<u8>,
}

/// Reads the files of a directory, which may be missing, in the order of their names.
pub(super) fn key_files(dir: &Path) -> Result<Vec<KeyFile>, KeystoreError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(KeystoreError::Read(SysError::new("reading", dir, error))),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| KeystoreError::Read(SysError::new("reading", dir, error)))?.path());
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Prefixes below this one; what a killed process left; marks.
        if name.starts_with('.') || name.ends_with(ALLOW_SHA1) || path.is_dir() {
            continue;
        }
        let text = read_key_file(&path)?;
        files.push(KeyFile { path, name, text });
    }
    Ok(files)
}

/// Reads a key; an administrator may have put a link to it there.
fn read_key_file(path: &Path) -> Result<Vec<u8>, KeystoreError> {
    let real =
        path.canonicalize().map_err(|error| KeystoreError::Read(SysError::new("opening", path, error)))?;
    // The null device masks too, as it does for systemd.
    if real == Path::new("/dev/null") {
        return Ok(Vec::new());
    }
    file::read(&real).map_err(KeystoreError::Read)
}
