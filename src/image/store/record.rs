//! The file `record` of an image: what its manifest does not say. JSON with a version; what it does not know, it ignores.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::oci::OciRecord;
use crate::image::compression::Compression;
use crate::image::trust::{Proof, Scope, Signer, TrustedFor};

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
    /// Whose signature it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signer: Option<SignerRecord>,
    /// What there is to say of an OCI image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) oci: Option<OciRecord>,
}

/// A signature that was good when the image was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignerRecord {
    /// The key's fingerprint in lower-case hex digits.
    pub(super) fingerprint: String,
    /// The prefix that the key was trusted for, which begins with `docker://` for images of registries; none for all names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
}

impl SignerRecord {
    fn new(signer: &Signer) -> Self {
        let prefix = match &signer.trusted_for {
            TrustedFor::Names(Scope::Root) => None,
            TrustedFor::Names(Scope::Prefix(prefix)) => Some(prefix.to_string()),
            TrustedFor::Images(prefix) => Some(prefix.to_string()),
        };
        Self { fingerprint: signer.fingerprint.clone(), prefix }
    }
}

/// The sizes of an image.
pub(super) struct Sizes {
    pub(super) delivered: u64,
    pub(super) unpacked: u64,
    pub(super) tree: u64,
}

/// How an image came.
pub(super) struct Origin<'a> {
    /// It was asked for without a version.
    pub(super) is_latest: bool,
    /// What it is believed for.
    pub(super) proof: &'a Proof,
}

impl Record {
    /// Forgets what a member of the group, who could write anything there, says about signatures.
    pub(super) fn believed_from(mut self, uid: u32) -> Self {
        if uid != 0 && uid != rustix::process::geteuid().as_raw() {
            self.unsigned = true;
            self.signer = None;
        }
        self
    }

    /// Keeps the signature that the same bytes had before, if they come without one now. Those of an OCI image are its
    /// manifest, and its key is trusted for a name, which is the image's only as long as nobody brings it by another.
    pub(super) fn keep_signer_of(&mut self, earlier: Self) {
        let is_same = match (&self.oci, &earlier.oci) {
            (None, None) => true,
            (Some(now), Some(before)) => now.origin.is_same_image(&before.origin),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if self.signer.is_none() && earlier.digest == self.digest && is_same {
            self.unsigned = earlier.unsigned;
            self.signer = earlier.signer;
        }
    }

    pub(super) fn new(digest: String, compression: Compression, sizes: &Sizes, origin: &Origin<'_>) -> Self {
        let imported = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self {
            version: VERSION,
            digest,
            compression: compression.to_string(),
            delivered: sizes.delivered,
            unpacked: sizes.unpacked,
            tree: sizes.tree,
            imported: u64::try_from(imported).unwrap_or(u64::MAX),
            latest: origin.is_latest,
            unsigned: origin.proof.signer().is_none(),
            signer: origin.proof.signer().map(SignerRecord::new),
            oci: None,
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
