//! Whether a signature proves that the bytes of an image come from a key that is trusted for its name.
//!
//! The hash is fed while the bytes pass on their way into the store, so that what is verified is what is kept. Rules come
//! first and arithmetic last: each refusal names its own reason, and none of them is softened by another signature's
//! success but a good one by a trusted key.

use std::fmt;
use std::time::{Duration, SystemTime};

use sequoia_openpgp as openpgp;

use openpgp::Packet;
use openpgp::cert::amalgamation::ValidAmalgamation as _;
use openpgp::cert::amalgamation::key::ErasedKeyAmalgamation;
use openpgp::cert::prelude::*;
use openpgp::crypto::hash::Context;
use openpgp::packet::key::PublicParts;
use openpgp::packet::{Key, Signature, key};
use openpgp::parse::{PacketParser, PacketParserResult, Parse as _};
use openpgp::policy::{HashAlgoSecurity, Policy, StandardPolicy};
use openpgp::types::{HashAlgorithm, PublicKeyAlgorithm, RevocationStatus, SignatureType};

use super::key::{strict, with_sha1_bindings};
use super::keystore::{Scope, SelfSignatures, TrustedKey};
use crate::appc::name::AcIdentifier;
use crate::image::oci::name::RegistryPrefix;
use crate::os::Hint;

/// Size that a signature file may have.
pub const LIMIT: usize = 1 << 20;
/// Signatures that are looked at in one file.
const MOST_SIGNATURES: usize = 16;
/// How far ahead of ours the clock of a signer may be.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
/// The shortest RSA key that is believed.
const LEAST_RSA_BITS: usize = 2048;

/// Why an image's signature proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is no signature in the file.
    #[error("keystore: no valid signatures found in signature file")]
    NoSignature,
    /// The file is something else.
    #[error("keystore: the signature file is not a detached OpenPGP signature: {0}")]
    Malformed(String),
    /// No key that is trusted for the name has made it.
    #[error("openpgp: signature made by unknown entity, key {signer}")]
    Unknown {
        /// The image's name.
        name: AcIdentifier,
        /// The key as the signature names it.
        signer: String,
    },
    /// The bytes are not those that were signed.
    #[error("openpgp: the signature by key {key} was made over other bytes")]
    OtherBytes {
        /// The key.
        key: String,
    },
    /// Others can make the same signature.
    #[error("openpgp: the signature by key {key} uses {hash}, which is too weak")]
    WeakHash {
        /// The key.
        key: String,
        /// The hash.
        hash: String,
    },
    /// Others can find out the private key.
    #[error("openpgp: key {key} is {what}, which is too weak")]
    WeakKey {
        /// The key.
        key: String,
        /// What it is.
        what: String,
    },
    /// The key is over.
    #[error("openpgp: key {key} has expired on {date}")]
    KeyExpired {
        /// The key.
        key: String,
        /// When.
        date: String,
    },
    /// Its owner took it back.
    #[error("openpgp: key {key} has been revoked{reason}")]
    KeyRevoked {
        /// The key.
        key: String,
        /// Its owner's words, with a separator in front.
        reason: String,
    },
    /// The signature is over.
    #[error("openpgp: the signature by key {key} has expired on {date}")]
    SignatureExpired {
        /// The key.
        key: String,
        /// When.
        date: String,
    },
    /// It was made tomorrow.
    #[error("openpgp: the signature by key {key} is dated in the future, {date}")]
    Future {
        /// The key.
        key: String,
        /// When.
        date: String,
    },
    /// The key's own signatures are of another time.
    #[error("openpgp: key {key} is bound to its owner by SHA-1 signatures only, which are too weak")]
    Sha1Bindings {
        /// The key.
        key: String,
        /// What it is trusted for.
        scope: Scope,
    },
    /// The key may not sign, or is not the key that it seems to be a part of.
    #[error("openpgp: key {key} can't be used for signatures: {why}")]
    Unusable {
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
    /// It signs something else than a file.
    #[error("openpgp: the signature by key {key} is of a kind that does not sign files")]
    Kind {
        /// The key.
        key: String,
    },
}

impl Hint for VerifyError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoSignature | Self::Malformed(_) => {
                "a signature is made with `gpg --armor --detach-sign FILE.aci`; its file is FILE.aci.asc"
                    .into()
            }
            Self::Unknown { name, .. } => format!(
                "If you expected the signing key to change, try running:\n    rkt trust --prefix {name}"
            ),
            Self::OtherBytes { .. } => {
                "the image was changed or damaged after it was signed: get image and signature again".into()
            }
            Self::WeakHash { .. } => "ask the publisher for a signature with SHA-256 or SHA-512".into(),
            Self::WeakKey { .. } => {
                format!("ask the publisher for an Ed25519 key, or RSA with {LEAST_RSA_BITS} bits or more")
            }
            Self::KeyExpired { .. } => {
                "get the key again, its owner may have prolonged it, and trust it with `rkt trust`".into()
            }
            Self::KeyRevoked { .. } => "ask the publisher for a signature by a new key".into(),
            Self::SignatureExpired { .. } => "ask the publisher for a new signature".into(),
            Self::Future { .. } => "check the clock of this machine with `timedatectl`".into(),
            Self::Sha1Bindings { scope, .. } => {
                let scope = match scope {
                    Scope::Root => "--root".to_owned(),
                    Scope::Prefix(prefix) => format!("--prefix {prefix}"),
                };
                format!(
                    "get a newer copy of the key, or, if you know that this one is the publisher's, allow it with \
                     `rkt trust {scope} --allow-sha1-key KEYFILE`"
                )
            }
            Self::Unusable { .. } => "ask the publisher for a signature by a key that is meant for it".into(),
            Self::Kind { .. } => "a signature of a file is made with `gpg --detach-sign`".into(),
        };
        Some(text)
    }
}

/// The signatures in a file, not verified yet.
#[derive(Debug, Clone)]
pub struct SignatureFile(Vec<Signature>);

impl SignatureFile {
    /// Reads a detached signature, armored or binary.
    ///
    /// # Errors
    /// When the file is empty or something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(VerifyError::NoSignature);
        }
        if bytes.len() > LIMIT {
            return Err(VerifyError::Malformed(format!("it is larger than {LIMIT} bytes")));
        }
        let malformed = |error: openpgp::anyhow::Error| VerifyError::Malformed(error.to_string());
        let mut signatures = Vec::new();
        let mut packets = PacketParser::from_bytes(bytes).map_err(malformed)?;
        while let PacketParserResult::Some(parser) = packets {
            let (packet, next) = parser.next().map_err(malformed)?;
            match packet {
                Packet::Signature(signature) => signatures.push(signature),
                Packet::Marker(_) | Packet::Padding(_) => {}
                other => return Err(VerifyError::Malformed(format!("it holds a packet {}", other.tag()))),
            }
            if signatures.len() > MOST_SIGNATURES {
                return Err(VerifyError::Malformed(format!(
                    "it holds more than {MOST_SIGNATURES} signatures"
                )));
            }
            packets = next;
        }
        if signatures.is_empty() { Err(VerifyError::NoSignature) } else { Ok(Self(signatures)) }
    }

    /// Begins to hash the bytes that were signed.
    pub fn hash(&self) -> DocumentHash {
        DocumentHash(self.0.iter().map(context).collect())
    }

    /// Tells whether one of the keys may have made one of the signatures.
    ///
    /// # Errors
    /// When none has.
    pub fn check_signer(&self, name: &AcIdentifier, keys: &[TrustedKey]) -> Result<(), VerifyError> {
        let known = self.0.iter().any(|signature| !candidates(signature, keys).is_empty());
        if known { Ok(()) } else { Err(unknown(name, &self.0[0])) }
    }

    /// Verifies the signatures over bytes that were hashed, by keys that are trusted for `name`.
    ///
    /// # Errors
    /// When none is good; the reason of the first by a known key, else that the signer is unknown.
    pub fn verify(
        &self,
        hashed: DocumentHash,
        name: &AcIdentifier,
        keys: &[TrustedKey],
        now: SystemTime,
    ) -> Result<Proof, VerifyError> {
        let mut refusal = None;
        for (signature, context) in self.0.iter().zip(hashed.0) {
            for trusted in candidates(signature, keys) {
                match check(signature, context.clone(), trusted, now) {
                    Ok(()) => return Ok(Proof::signed_by(Signer::new(trusted))),
                    Err(error) => refusal = refusal.or(Some(error)),
                }
            }
        }
        Err(refusal.unwrap_or_else(|| unknown(name, &self.0[0])))
    }
}

/// The hashes of a file, one for each signature, while its bytes pass.
#[derive(Clone)]
pub struct DocumentHash(Vec<Option<Context>>);

impl DocumentHash {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        for context in self.0.iter_mut().flatten() {
            context.update(bytes);
        }
    }
}

/// A hash that this build can't make has no context, and its signature is refused for that.
fn context(signature: &Signature) -> Option<Context> {
    let mut context = signature.hash_algo().context().ok()?.for_signature(signature.version());
    if let Signature::V6(signature) = signature {
        context.update(signature.salt());
    }
    Some(context)
}

/// What a key is trusted for, which also says how it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedFor {
    /// App Container Images, as an OpenPGP key.
    Names(Scope),
    /// Images of a registry.
    Images(RegistryPrefix),
}

impl fmt::Display for TrustedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(scope) => scope.fmt(f),
            Self::Images(prefix) => write!(f, "prefix \"{prefix}\""),
        }
    }
}

/// Who has signed an image, and why that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The key's fingerprint in lower-case hex digits.
    pub fingerprint: String,
    /// Whom it says that it belongs to.
    pub identities: Vec<String>,
    /// What it is trusted for.
    pub trusted_for: TrustedFor,
}

impl Signer {
    fn new(trusted: &TrustedKey) -> Self {
        Self {
            fingerprint: trusted.key.fingerprint(),
            identities: trusted.key.identities(),
            trusted_for: TrustedFor::Names(trusted.scope.clone()),
        }
    }
}

/// What an image is believed for; without it none gets into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof(Option<Signer>);

impl Proof {
    /// The user's word that none is needed.
    pub const fn waived() -> Self {
        Self(None)
    }

    /// A signature that was verified.
    pub(super) const fn signed_by(signer: Signer) -> Self {
        Self(Some(signer))
    }

    /// Who has signed, if a signature is what it is believed for.
    pub const fn signer(&self) -> Option<&Signer> {
        self.0.as_ref()
    }
}

fn unknown(name: &AcIdentifier, signature: &Signature) -> VerifyError {
    VerifyError::Unknown { name: name.clone(), signer: signer_text(signature) }
}

/// The key as the signature names it: by fingerprint if it does.
fn signer_text(signature: &Signature) -> String {
    let issuers = signature.get_issuers();
    let longest = issuers.iter().map(|handle| format!("{handle:X}")).max_by_key(String::len);
    longest.unwrap_or_else(|| "without a name".to_owned())
}

/// The keys that may have made a signature.
fn candidates<'k>(signature: &Signature, keys: &'k [TrustedKey]) -> Vec<&'k TrustedKey> {
    let issuers = signature.get_issuers();
    let made = |key: &TrustedKey| {
        key.key.cert.keys().any(|part| issuers.iter().any(|issuer| part.key().key_handle().aliases(issuer)))
    };
    keys.iter().filter(|key| made(key)).collect()
}

fn check(
    signature: &Signature,
    context: Option<Context>,
    trusted: &TrustedKey,
    now: SystemTime,
) -> Result<(), VerifyError> {
    let cert = &trusted.key.cert;
    let issuers = signature.get_issuers();
    let part = cert
        .keys()
        .find(|part| issuers.iter().any(|issuer| part.key().key_handle().aliases(issuer)))
        .expect("the key was chosen because it has this part");
    let name = part.key().fingerprint().to_hex();
    check_signature(signature, &name, now)?;
    check_strength(cert.primary_key().key().role_as_unspecified(), &cert.fingerprint().to_hex())?;
    check_strength(part.key(), &name)?;
    check_key(&part, trusted, &name, now)?;
    let Some(context) = context else {
        return Err(VerifyError::WeakHash { key: name, hash: signature.hash_algo().to_string() });
    };
    signature.verify_hash(part.key(), context).map_err(|_| VerifyError::OtherBytes { key: name })
}

/// The rules about the signature itself.
fn check_signature(signature: &Signature, name: &str, now: SystemTime) -> Result<(), VerifyError> {
    let key = name.to_owned();
    if signature.typ() != SignatureType::Binary {
        return Err(VerifyError::Kind { key });
    }
    let hash = signature.hash_algo();
    let weak =
        [(HashAlgorithm::MD5, "MD5"), (HashAlgorithm::SHA1, "SHA-1"), (HashAlgorithm::RipeMD, "RIPEMD-160")];
    if let Some((_, hash)) = weak.iter().find(|(weak, _)| *weak == hash) {
        return Err(VerifyError::WeakHash { key, hash: (*hash).to_owned() });
    }
    let Some(created) = signature.signature_creation_time() else {
        return Err(VerifyError::Unusable { key, why: "the signature has no date".into() });
    };
    if created > now + CLOCK_SKEW {
        return Err(VerifyError::Future { key, date: date(created) });
    }
    if let Some(end) = signature.signature_expiration_time()
        && end <= now
    {
        return Err(VerifyError::SignatureExpired { key, date: date(end) });
    }
    strict()
        .signature(signature, HashAlgoSecurity::CollisionResistance)
        .map_err(|error| VerifyError::Unusable { key, why: error.to_string() })
}

fn check_strength(key: &Key<PublicParts, key::UnspecifiedRole>, name: &str) -> Result<(), VerifyError> {
    let weak = |what: String| Err(VerifyError::WeakKey { key: name.to_owned(), what });
    #[allow(deprecated, reason = "old keys name RSA in three ways")]
    match key.pk_algo() {
        PublicKeyAlgorithm::DSA => weak("a DSA key".to_owned()),
        PublicKeyAlgorithm::RSAEncryptSign | PublicKeyAlgorithm::RSASign | PublicKeyAlgorithm::RSAEncrypt => {
            match key.mpis().bits() {
                Some(bits) if bits >= LEAST_RSA_BITS => Ok(()),
                Some(bits) => weak(format!("an RSA key of {bits} bits")),
                None => weak("an RSA key of unknown size".to_owned()),
            }
        }
        _ => Ok(()),
    }
}

/// The rules about the key: bound, alive, not revoked, made for signatures.
fn check_key(
    part: &ErasedKeyAmalgamation<'_, PublicParts>,
    trusted: &TrustedKey,
    name: &str,
    now: SystemTime,
) -> Result<(), VerifyError> {
    let (strict, with_sha1) = (strict(), with_sha1_bindings());
    let policy: &StandardPolicy<'_> = match trusted.self_signatures {
        SelfSignatures::Strong => &strict,
        SelfSignatures::Sha1Allowed => &with_sha1,
    };
    // A revocation counts whatever else is wrong with the key.
    let cert = &trusted.key.cert;
    let main = cert.fingerprint().to_hex();
    refuse_revoked(&main, &cert.revocation_status(&with_sha1, now))?;
    let valid = match part.clone().with_policy(policy, now) {
        Ok(valid) => valid,
        Err(_) if part.clone().with_policy(&with_sha1, now).is_ok() => {
            return Err(VerifyError::Sha1Bindings { key: main, scope: trusted.scope.clone() });
        }
        Err(error) => {
            let why = error.chain().last().map(ToString::to_string).unwrap_or_default();
            return Err(VerifyError::Unusable { key: name.to_owned(), why });
        }
    };
    refuse_revoked(name, &valid.revocation_status())?;
    refuse_expired(&main, valid.valid_cert().alive())?;
    refuse_expired(name, valid.alive())?;
    if !valid.for_signing() {
        let why = "its owner has not made it for that".to_owned();
        return Err(VerifyError::Unusable { key: name.to_owned(), why });
    }
    policy.key(&valid).map_err(|error| VerifyError::WeakKey { key: name.to_owned(), what: error.to_string() })
}

fn refuse_revoked(key: &str, status: &RevocationStatus<'_>) -> Result<(), VerifyError> {
    let RevocationStatus::Revoked(revocations) = status else { return Ok(()) };
    let reason = revocations.iter().find_map(|revocation| revocation.reason_for_revocation());
    let reason = match reason {
        Some((code, [])) => format!(": {code}"),
        Some((code, words)) => format!(": {code}, \"{}\"", String::from_utf8_lossy(words)),
        None => String::new(),
    };
    Err(VerifyError::KeyRevoked { key: key.to_owned(), reason })
}

fn refuse_expired(key: &str, alive: openpgp::Result<()>) -> Result<(), VerifyError> {
    let key = key.to_owned();
    alive.map_err(|error| match error.downcast_ref::<openpgp::Error>() {
        Some(openpgp::Error::Expired(end)) => VerifyError::KeyExpired { key, date: date(*end) },
        _ => VerifyError::Unusable { key, why: error.to_string() },
    })
}

fn date(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string(),
        Err(_) => "a date out of range".to_owned(),
    }
}
