//! What was downloaded from where, so that it need not be downloaded again (spec images.md 2.4.2).
//!
//! ```text
//! cas/url/<64 hex>                          JSON: what an URL gave, by the SHA-512 of the URL
//! cas/tmp/download-<uid>-<64 hex>/          0700, locked by who downloads
//!   body                                    what came so far
//!   meta                                    JSON: what it is a part of
//! ```
//!
//! A download that a process leaves behind is gone on with by the next one, if it is of the same user: nobody else's file
//! is ever taken for one's own. A record is believed only if root or the caller has written it, and goes with its image.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use super::staging::{self, Staging};
use super::{IMAGE_DIR_MODE, Store, names_in};
use crate::appc::image_id::ImageId;
use crate::os::lock::{Lock, Sharing};
use crate::os::{SysError, atomic, file, interrupt, tree, wait};

/// The version of both files; a newer one is not read.
const VERSION: u32 = 1;
/// How the names of downloads begin.
pub(super) const DOWNLOAD_PREFIX: &str = "download-";
/// After which time a part of a download is not worth its room.
pub(super) const STALE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between two looks at a lock that another process holds.
const LOOK: Duration = Duration::from_millis(50);

/// What an URL gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UrlRecord {
    version: u32,
    /// The URL.
    pub url: String,
    /// Where the signature came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_url: Option<String>,
    /// The server's name for what it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// How many seconds it need not be asked for again.
    #[serde(default)]
    max_age: u64,
    /// Nanoseconds since the epoch.
    downloaded: u64,
    /// The image that it was.
    pub image: ImageId,
}

/// How long an answer may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validity {
    /// The server's name for what it gave.
    pub etag: Option<String>,
    /// How long it need not be asked for again.
    pub max_age: Duration,
}

impl UrlRecord {
    /// Makes the record of an image that has come from `url` now.
    pub fn new(url: &str, signature_url: Option<&str>, validity: Validity, image: ImageId) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self {
            version: VERSION,
            url: url.to_owned(),
            signature_url: signature_url.map(str::to_owned),
            etag: validity.etag,
            max_age: validity.max_age.as_secs(),
            downloaded: u64::try_from(now).unwrap_or(u64::MAX),
            image,
        }
    }

    /// When it was downloaded.
    pub fn downloaded(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.downloaded)
    }

    /// Tells whether the server need not be asked; a download of tomorrow is none to rely on.
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        now.duration_since(self.downloaded()).is_ok_and(|age| age.as_secs() < self.max_age)
    }
}

impl Store {
    fn urls_dir(&self) -> PathBuf {
        self.cas.join("url")
    }

    /// Returns what is known of an URL, if it can be relied on.
    pub fn url_record(&self, url: &str) -> Option<UrlRecord> {
        let path = self.urls_dir().join(digest(url));
        let status = std::fs::symlink_metadata(&path).ok()?;
        if !is_ours(status.uid()) {
            return None;
        }
        let record: UrlRecord = serde_json::from_slice(&file::read(&path).ok()?).ok()?;
        (record.version <= VERSION && record.url == url).then_some(record)
    }

    /// Keeps what is known of an URL; durable on return.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save_url_record(&self, record: &UrlRecord) -> Result<(), SysError> {
        let mut bytes = serde_json::to_vec(record).expect("numbers and text are always JSON");
        bytes.push(b'\n');
        let dir = self.urls_dir();
        super::make_dir_all(&dir)?;
        super::repair(&dir, rustix::fs::OFlags::NOFOLLOW, 0o3770, crate::os::group::rkt_gid())?;
        // Where what a killed process leaves is swept.
        let staged = Staging::new(&self.tmp_dir(), IMAGE_DIR_MODE)?;
        let (new, path) = (staged.path().join(super::RECORD), dir.join(digest(&record.url)));
        atomic::write_synced(&new, &bytes, super::FILE_MODE)?;
        std::fs::rename(&new, &path).map_err(SysError::on("renaming to", &path))?;
        atomic::sync_dir(&dir)
    }

    /// Removes what is kept of URLs whose images are not in the store any more; what is somebody else's stays.
    ///
    /// # Errors
    /// The first refusal.
    pub fn collect_urls(&self) -> Result<(), SysError> {
        let dir = self.urls_dir();
        let mut result = Ok(());
        for path in names_in(&dir)?.into_iter().map(|name| dir.join(name)) {
            if self.is_of_use(&path) {
                continue;
            }
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
                Err(error) => result = result.and(Err(SysError::new("removing", path, error))),
            }
        }
        result
    }

    /// Whether a file is the record of an image that is there, as far as this version can tell.
    fn is_of_use(&self, path: &Path) -> bool {
        /// What each version has.
        #[derive(Deserialize)]
        struct OfAnyVersion {
            version: u32,
        }
        let Ok(bytes) = file::read(path) else { return true };
        match serde_json::from_slice::<UrlRecord>(&bytes) {
            Ok(record) if record.version <= VERSION => self.has(&record.image).unwrap_or(true),
            // Else it is what an older version has left half written, or a power cut of any.
            _ => serde_json::from_slice::<OfAnyVersion>(&bytes).is_ok_and(|record| record.version > VERSION),
        }
    }

    /// Removes what is left of downloads on which nothing has come for as long as `grace`; those that go on stay.
    ///
    /// What can't be removed is left for the next time.
    pub fn collect_downloads(&self, grace: Duration, now: SystemTime) {
        let tmp = self.tmp_dir();
        staging::sweep(&tmp, |name| {
            name.starts_with(DOWNLOAD_PREFIX) && is_older(&tmp.join(name), grace, now)
        });
    }

    /// Takes the place where an URL is downloaded to, with what an earlier process has left there.
    ///
    /// # Errors
    /// When it can't be made, is somebody else's, or the user wants to end while it is taken.
    ///
    /// # Locking
    /// Exclusive, on the directory of the download; `notice` is called once before a wait.
    pub fn download_place(
        &self,
        url: &str,
        notice: impl FnOnce(),
    ) -> Result<Option<DownloadPlace>, SysError> {
        let user = rustix::process::geteuid().as_raw();
        let path = self.tmp_dir().join(format!("{DOWNLOAD_PREFIX}{user}-{}", digest(url)));
        let mut notice = Some(notice);
        loop {
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(SysError::new("creating", &path, error)),
            }
            match Lock::try_on(&path, Sharing::Exclusive) {
                Ok(Some(lock)) if lock.is_still_at(&path) => {
                    check_owner(&path, user)?;
                    return Ok(Some(DownloadPlace {
                        dir: path,
                        url: url.to_owned(),
                        waited: notice.is_none(),
                        _lock: lock,
                    }));
                }
                // Removed by who had it.
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            if let Some(notice) = notice.take() {
                notice();
            }
            wait::pause(LOOK);
            if interrupt::has_arrived() {
                return Ok(None);
            }
        }
    }
}

/// What a download is a part of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartOf {
    version: u32,
    /// From where.
    url: String,
    /// The server's name for it, by which a part of it can be asked for (`ETag`, or `Last-Modified`).
    pub validator: Option<String>,
    /// Its whole size.
    pub total: Option<u64>,
}

impl PartOf {
    /// Makes the description of a whole.
    pub fn new(validator: Option<String>, total: Option<u64>) -> Self {
        Self { version: VERSION, url: String::new(), validator, total }
    }
}

/// A directory in which an URL is downloaded, locked.
#[must_use = "dropping it lets another process go on with the download"]
pub struct DownloadPlace {
    dir: PathBuf,
    url: String,
    /// Another process had it before.
    pub waited: bool,
    _lock: Lock,
}

impl DownloadPlace {
    /// The file of what came so far.
    pub fn body(&self) -> PathBuf {
        self.dir.join("body")
    }

    fn meta(&self) -> PathBuf {
        self.dir.join("meta")
    }

    /// Returns how much is there, and of what, if it can be gone on with.
    pub fn found(&self) -> Option<(u64, PartOf)> {
        let part: PartOf = serde_json::from_slice(&file::read(&self.meta()).ok()?).ok()?;
        let size = std::fs::symlink_metadata(self.body()).ok().filter(|found| found.is_file())?.len();
        let fits = part.version <= VERSION && part.url == self.url && part.validator.is_some();
        (fits && size > 0).then_some((size, part))
    }

    /// Starts with an empty file that becomes the whole that `part` describes.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn start(&self, part: &PartOf) -> Result<File, SysError> {
        self.clear()?;
        let part = PartOf { url: self.url.clone(), ..part.clone() };
        let bytes = serde_json::to_vec(&part).expect("numbers and text are always JSON");
        atomic::write_new(&self.meta(), &bytes, 0o600)?;
        let body = self.body();
        File::options()
            .append(true)
            .create_new(true)
            .mode(super::FILE_MODE)
            .open(&body)
            .map_err(SysError::on("creating", body))
    }

    /// Opens the file to go on at its end.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn resume(&self) -> Result<File, SysError> {
        let body = self.body();
        File::options()
            .append(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&body)
            .map_err(SysError::on("opening", body))
    }

    /// Throws away what is there.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn clear(&self) -> Result<(), SysError> {
        for path in [self.body(), self.meta()] {
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(SysError::new("removing", path, error)),
            }
        }
        Ok(())
    }

    /// Ends the download: nothing of it stays.
    pub fn remove(self) {
        // What is left is swept when it is old.
        if let Err(error) = tree::remove(&self.dir) {
            log::debug!("{error}");
        }
    }
}

/// The name of an URL's files.
fn digest(url: &str) -> String {
    ImageId::from_sha512(&<[u8; 64]>::from(Sha512::digest(url))).key().to_owned()
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Refuses a directory that somebody else has put where ours is.
fn check_owner(path: &Path, user: u32) -> Result<(), SysError> {
    let found = std::fs::symlink_metadata(path).map_err(SysError::on("looking at", path))?;
    if found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(SysError::new("using", path, std::io::Error::other("it belongs to somebody else; remove it")))
}

/// Tells whether what is left of a download is too old to be of use.
pub(super) fn is_stale(path: &Path) -> bool {
    is_older(path, STALE, SystemTime::now())
}

/// Tells whether nothing has come of a download for as long as `age`; what lies in the future came just now.
fn is_older(path: &Path, age: Duration, now: SystemTime) -> bool {
    let changed = std::fs::symlink_metadata(path.join("body")).or_else(|_| std::fs::symlink_metadata(path));
    let changed = changed.and_then(|found| found.modified());
    changed.is_ok_and(|changed| now.duration_since(changed).unwrap_or_default() >= age)
}
