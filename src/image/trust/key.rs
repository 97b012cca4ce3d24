//! A public key: read from armored text, known by its fingerprint.

use std::time::SystemTime;

use sequoia_openpgp as openpgp;

use openpgp::cert::{Cert, CertParser};
use openpgp::parse::Parse as _;
use openpgp::policy::{HashAlgoSecurity, StandardPolicy};
use openpgp::serialize::SerializeInto as _;
use openpgp::types::HashAlgorithm;

use crate::os::Hint;

/// Size that a file of keys may have.
pub const LIMIT: usize = 4 << 20;

/// A public key with its subkeys and identities.
#[derive(Debug, Clone, PartialEq)]
pub struct PublicKey {
    pub(super) cert: Cert,
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no armor around it.
    #[error("it is not an ASCII-armored public key")]
    NotArmored,
    /// It is no key at all, or a broken one.
    #[error("it is not a valid public key: {0}")]
    Malformed(String),
    /// It is a key for other images.
    #[error("it is a key in PEM, which is for images of registries")]
    Pem,
    /// It is somebody's secret.
    #[error("it holds a private key")]
    Private,
    /// There are none in it.
    #[error("it holds no key")]
    Empty,
}

impl Hint for KeyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotArmored => Some("`gpg --export --armor KEY` makes such a file".into()),
            Self::Pem => Some(
                "a prefix that begins with docker:// trusts it for a registry, or for a name there".into(),
            ),
            Self::Private => Some("export the public key with `gpg --export --armor KEY`".into()),
            Self::Malformed(_) | Self::Empty => None,
        }
    }
}

impl PublicKey {
    /// Reads the keys in an armored text, at least one.
    ///
    /// # Errors
    /// When the text is not armored, broken, holds no key, or a private one.
    pub fn parse_armored(text: &[u8]) -> Result<Vec<Self>, KeyError> {
        let has = |what: &[u8]| text.windows(what.len()).any(|window| window == what);
        if has(b"-----BEGIN PGP PRIVATE KEY BLOCK-----") {
            return Err(KeyError::Private);
        }
        if text.len() > LIMIT || !has(b"-----BEGIN PGP PUBLIC KEY BLOCK-----") {
            return Err(if has(b"-----BEGIN PUBLIC KEY-----") {
                KeyError::Pem
            } else {
                KeyError::NotArmored
            });
        }
        let malformed = |error: openpgp::anyhow::Error| KeyError::Malformed(error.to_string());
        let mut keys = Vec::new();
        for cert in CertParser::from_bytes(text).map_err(malformed)? {
            let cert = cert.map_err(malformed)?;
            if cert.is_tsk() {
                return Err(KeyError::Private);
            }
            keys.push(Self { cert });
        }
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(keys) }
    }

    /// The key as a file in the key store has it.
    pub fn to_armored(&self) -> Vec<u8> {
        self.cert.armored().to_vec().expect("a key that was read can be written to memory")
    }

    /// The fingerprint in lower-case hex digits, the name of the key's file.
    pub fn fingerprint(&self) -> String {
        self.cert.fingerprint().to_hex().to_lowercase()
    }

    /// The fingerprint as people compare it: groups of four digits, two blanks in the middle.
    pub fn spaced_fingerprint(&self) -> String {
        self.cert.fingerprint().to_spaced_hex()
    }

    /// The fingerprints of its subkeys, spaced.
    pub fn spaced_subkeys(&self) -> Vec<String> {
        self.cert.keys().subkeys().map(|key| key.key().fingerprint().to_spaced_hex()).collect()
    }

    /// Whom it says that it belongs to; anybody may have written that.
    pub fn identities(&self) -> Vec<String> {
        self.cert.userids().map(|id| String::from_utf8_lossy(id.userid().value()).into_owned()).collect()
    }

    /// Tells whether all that the key says about itself rests on SHA-1, so that it is good for nothing without the
    /// opt-in.
    pub fn needs_sha1(&self, now: SystemTime) -> bool {
        self.cert.with_policy(&strict(), now).is_err()
            && self.cert.with_policy(&with_sha1_bindings(), now).is_ok()
    }
}

/// What signatures and keys must be like.
pub(super) fn strict() -> StandardPolicy<'static> {
    StandardPolicy::new()
}

/// The same for a key whose owner's own signatures over it may have been made with SHA-1: what an attacker would have to
/// find for those is a second preimage, not a collision. Signatures over images are held to the strict policy always.
pub(super) fn with_sha1_bindings() -> StandardPolicy<'static> {
    let mut policy = StandardPolicy::new();
    policy.accept_hash_property(HashAlgorithm::SHA1, HashAlgoSecurity::SecondPreImageResistance);
    policy
}
