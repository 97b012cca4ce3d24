//! The file `record` of an image: what its manifest does not say. JSON with a version; what it does not know, it ignores.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::image::compression::Compression;

/// The version that this program writes; a newer one is not read.
const VERSION: u32 = 1;
/// Size that a record may have.
pub(super) const LIMIT: u64 = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    version: u32,
    /// The whole SHA-512 of the unpacked bytes, `sha512-` and 128 hex digits.
    pub(super) digest: String,
    /// What the blob is packed with, for readers of the file.
    compression: String,
    /// Bytes of the blob.
    pub(super) delivered: u64,
    /// Bytes of the unpacked archive.
    pub(super) unpacked: u64,
    /// Bytes of the files in its tree.
    pub(super) tree: u64,
    /// Nanoseconds since the epoch.
    imported: u64,
    /// It was asked for without a version.
    pub(super) latest: bool,
    /// It was imported without a signature.
    pub(super) unsigned: bool,
}

/// The sizes of an image.
pub(super) struct Sizes {
    pub(super) delivered: u64,
    pub(super) unpacked: u64,
    pub(super) tree: u64,
}

impl Record {
    pub(super) fn new(digest: String, compression: Compression, sizes: &Sizes) -> Self {
        let imported = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self {
            version: VERSION,
            digest,
            compression: compression.to_string(),
            delivered: sizes.delivered,
            unpacked: sizes.unpacked,
            tree: sizes.tree,
            imported: u64::try_from(imported).unwrap_or(u64::MAX),
            latest: false,
            unsigned: true,
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| format!("record: {error}"))?;
        if record.version > VERSION {
            return Err(format!("record: it is of version {}, written by a newer rkt", record.version));
        }
        Ok(record)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("numbers and text are always JSON");
        bytes.push(b'\n');
        bytes
    }

    pub(super) fn imported(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.imported)
    }
}
