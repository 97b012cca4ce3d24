//! A public key that signs images of registries: ECDSA P-256 or Ed25519, in PEM (RFC 7468), known by the SHA-256 of its
//! `SubjectPublicKeyInfo`.
//!
//! Each kind has one form in DER whose every byte but those of the key itself is fixed, so that the bytes are compared, not
//! interpreted. What is read beyond that only names what was refused.

use std::fmt;

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};

use crate::appc::quoted;
use crate::image::base64;
use crate::image::digest::Digest;
use crate::os::Hint;

/// RFC 5480 2: id-ecPublicKey, secp256r1, a bit string that begins with the mark of an uncompressed point.
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
                      \x03\x42\x00\x04";
const P256_POINT: usize = 64;
/// RFC 8410 4: id-Ed25519, a bit string.
const ED25519_FORM: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
const ED25519_POINT: usize = 32;

/// How the algorithms begin that a key may be for, and what such keys are called (RFC 3279, 5480, 8410).
const ALGORITHMS: [(&[u8], &str); 7] = [
    (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "an RSA key"),
    (
        b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
        "an ECDSA P-256 key in another form",
    ),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22", "an ECDSA P-384 key"),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23", "an ECDSA P-521 key"),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", "an ECDSA key on another curve"),
    (b"\x06\x03\x2b\x65\x71", "an Ed448 key"),
    (b"\x06\x07\x2a\x86\x48\xce\x38\x04\x01", "a DSA key"),
];

const LABEL: &str = "PUBLIC KEY";

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKeyKind {
    /// ECDSA on the curve P-256, with SHA-256.
    EcdsaP256,
    /// Ed25519.
    Ed25519,
}

impl fmt::Display for ImageKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// A public key for images of registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageKey {
    kind: ImageKeyKind,
    /// Its `SubjectPublicKeyInfo` in DER.
    spki: Vec<u8>,
}

/// Why a text is no key for images of registries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageKeyError {
    /// It is something else.
    #[error("it is not a public key in PEM")]
    NotPem,
    /// It is a key for other images.
    #[error(
        "it is an OpenPGP key, and images of registries are signed with ECDSA P-256 or Ed25519 keys in PEM"
    )]
    OpenPgp,
    /// It is somebody's secret.
    #[error("it holds a private key")]
    Private,
    /// The key is in there, with what is not looked at.
    #[error("it is a certificate, whose rules would not be kept")]
    Certificate,
    /// There are several.
    #[error("it holds more than one key")]
    Several,
    /// Signatures by it are not verified.
    #[error("it is {0}, and images of registries are signed with ECDSA P-256 or Ed25519 keys")]
    Kind(String),
    /// It is broken.
    #[error("it is not a valid public key: {0}")]
    Malformed(&'static str),
}

impl Hint for ImageKeyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotPem => {
                Some("`cosign public-key --key KEY` and `openssl pkey -in KEY -pubout` make such a file".into())
            }
            Self::OpenPgp => {
                Some("a prefix without docker:// trusts it for App Container Images of that name".into())
            }
            Self::Private => Some(
                "name the public key, which `cosign public-key --key KEY` or `openssl pkey -in KEY -pubout` prints"
                    .into(),
            ),
            Self::Certificate => Some("`openssl x509 -in FILE -noout -pubkey` prints its key".into()),
            Self::Several => Some("make a file of each and trust them one by one".into()),
            Self::Kind(_) => {
                Some("ask the publisher for a signature by such a key, as `cosign generate-key-pair` makes it".into())
            }
            Self::Malformed(_) => None,
        }
    }
}

impl ImageKey {
    /// Reads the one public key in a text.
    ///
    /// # Errors
    /// When there is none, more than one, or one of another kind or form.
    pub fn parse_pem(text: &[u8]) -> Result<Self, ImageKeyError> {
        let text = std::str::from_utf8(text).map_err(|_| ImageKeyError::NotPem)?;
        let labels: Vec<&str> = text.lines().filter_map(|line| boundary(line, "BEGIN")).collect();
        match labels[..] {
            [] => return Err(ImageKeyError::NotPem),
            _ if labels.iter().any(|label| label.contains("PRIVATE KEY")) => {
                return Err(ImageKeyError::Private);
            }
            _ if labels.iter().any(|label| label.starts_with("PGP ")) => return Err(ImageKeyError::OpenPgp),
            [LABEL] => {}
            ["CERTIFICATE", ..] => return Err(ImageKeyError::Certificate),
            ["RSA PUBLIC KEY"] => return Err(ImageKeyError::Kind("an RSA key".into())),
            [_] => return Err(ImageKeyError::NotPem),
            _ => return Err(ImageKeyError::Several),
        }
        let mut body = text.lines().skip_while(|line| boundary(line, "BEGIN").is_none()).skip(1);
        let digits: String =
            body.by_ref().take_while(|line| boundary(line, "END") != Some(LABEL)).map(str::trim).collect();
        if !text.lines().any(|line| boundary(line, "END") == Some(LABEL)) {
            return Err(ImageKeyError::Malformed("its end is missing"));
        }
        let spki = base64::decode(&digits).ok_or(ImageKeyError::Malformed("it is not in base64"))?;
        Ok(Self { kind: kind_of(&spki)?, spki })
    }

    /// The key as a file in the key store has it.
    pub fn to_pem(&self) -> Vec<u8> {
        let digits = base64::encode(&self.spki);
        let lines = digits.as_bytes().chunks(64).map(String::from_utf8_lossy);
        let body: String = lines.map(|line| format!("{line}\n")).collect();
        format!("-----BEGIN {LABEL}-----\n{body}-----END {LABEL}-----\n").into_bytes()
    }

    /// What it is for.
    pub fn kind(&self) -> ImageKeyKind {
        self.kind
    }

    /// The SHA-256 of its `SubjectPublicKeyInfo` in lower-case hex digits, the name of the key's file.
    pub fn fingerprint(&self) -> String {
        Digest::sha256(&self.spki).hex()
    }

    /// Tells whether it has made a signature over these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let (algorithm, length): (&dyn VerificationAlgorithm, _) = match self.kind {
            // The mark of an uncompressed point is a part of it.
            ImageKeyKind::EcdsaP256 => (&ECDSA_P256_SHA256_ASN1, 1 + P256_POINT),
            ImageKeyKind::Ed25519 => (&ED25519, ED25519_POINT),
        };
        let point = &self.spki[self.spki.len() - length..];
        UnparsedPublicKey::new(algorithm, point).verify(bytes, signature).is_ok()
    }
}

/// The label of a line `-----BEGIN LABEL-----`, or that with another word.
fn boundary<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    let inner = line.trim_end().strip_prefix("-----")?.strip_suffix("-----")?;
    inner.strip_prefix(word)?.strip_prefix(' ')
}

fn kind_of(spki: &[u8]) -> Result<ImageKeyKind, ImageKeyError> {
    let is = |form: &[u8], point: usize| spki.starts_with(form) && spki.len() == form.len() + point;
    if is(P256, P256_POINT) {
        return Ok(ImageKeyKind::EcdsaP256);
    }
    if is(ED25519_FORM, ED25519_POINT) {
        return Ok(ImageKeyKind::Ed25519);
    }
    let algorithm = algorithm_of(spki).ok_or(ImageKeyError::Malformed("it is not what its label says"))?;
    let named = ALGORITHMS.iter().find(|(begin, _)| algorithm.starts_with(begin));
    let what = named.map_or_else(
        || format!("a key for the algorithm {}", quoted(&hex(algorithm))),
        |(_, name)| (*name).to_owned(),
    );
    Err(ImageKeyError::Kind(what))
}

/// The content of the `AlgorithmIdentifier` in a `SubjectPublicKeyInfo` (RFC 5280 4.1).
fn algorithm_of(spki: &[u8]) -> Option<&[u8]> {
    sequence(sequence(spki)?)
}

/// The content of the sequence that some DER begins with.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (length, content) = match der {
        [0x30, length @ 0..=0x7f, content @ ..] => (usize::from(*length), content),
        [0x30, 0x81, length, content @ ..] => (usize::from(*length), content),
        [0x30, 0x82, high, low, content @ ..] => (usize::from(*high) << 8 | usize::from(*low), content),
        _ => return None,
    };
    content.get(..length)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::test_cosign::{CosignKey, other_keys};

    #[test]
    fn both_kinds_are_read_written_and_verify() {
        for (key, kind) in [(CosignKey::p256(), "ECDSA P-256"), (CosignKey::ed25519(), "Ed25519")] {
            let read = ImageKey::parse_pem(key.public().as_bytes()).unwrap();
            assert_eq!((read.kind().to_string(), read.fingerprint()), (kind.to_owned(), key.fingerprint()));
            assert_eq!(ImageKey::parse_pem(&read.to_pem()), Ok(read.clone()));
            // What people write around it, and how other systems end lines.
            let text = format!("the key of example.com\n{}bye\n", key.public()).replace('\n', "\r\n");
            assert_eq!(ImageKey::parse_pem(text.as_bytes()), Ok(read.clone()));
            let signature = key.sign(b"bytes");
            assert!(read.has_signed(b"bytes", &signature));
            let mut changed = signature.clone();
            *changed.last_mut().unwrap() ^= 1;
            for (bytes, signature) in [
                (&b"byte"[..], &signature[..]),
                (b"bytes", &changed),
                (b"bytes", b""),
                (b"bytes", &signature[1..]),
            ] {
                assert!(!read.has_signed(bytes, signature));
            }
            for other in [CosignKey::p256(), CosignKey::ed25519()] {
                assert!(!read.has_signed(b"bytes", &other.sign(b"bytes")));
            }
        }
    }

    #[test]
    fn what_openssl_has_signed_is_verified() {
        for (key, fingerprint, signature) in [
            (
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE5g0E1Obfw/deNrvvsQ6Bh1r1ht7i\n\
                 0HIVdB0T99ZWt9sJAxHoL5fMqj1gIJxvEQPE5cgaw5B1i7P9lKedFyLWFA==",
                "31b16a6d6d57c8a6e771f9f2e560b08177cd7be3d380d242fb63d98f08d3729c",
                "MEQCIAxiqywdUQlfAIZOe3cqH/pH+xYqTO/5psxwl91Q8LAMAiBY0plyv4JAjfYWTPrGPffoI+FmiYg7uyFCkCpMbCU4rg==",
            ),
            (
                "MCowBQYDK2VwAyEAHuSYHealWJ6zk/TBNdihwnosU2uFK61vjjhmFcOmNq0=",
                "60e75fae1ea145bb372a1e0346c5396183f0598b55660c19ef52f4d96bcb715d",
                "0iID6yxerZIwTgpu7tP+Wfep3NcdiHCQK95yhOn3MmTpU+dEe/LMPSoiECskVR7VgfrrdDE6wTXq/eyHidgPCQ==",
            ),
        ] {
            let text = format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n");
            let read = ImageKey::parse_pem(text.as_bytes()).unwrap();
            assert_eq!(read.fingerprint(), fingerprint);
            assert_eq!(read.to_pem(), text.as_bytes());
            assert!(read.has_signed(b"the bytes of a payload", &base64::decode(signature).unwrap()));
        }
    }

    #[test]
    fn each_other_kind_is_refused_by_its_name() {
        for (text, what) in other_keys() {
            assert_eq!(
                ImageKey::parse_pem(text.as_bytes()).unwrap_err().to_string(),
                format!("it is {what}, and images of registries are signed with ECDSA P-256 or Ed25519 keys")
            );
        }
    }

    #[test]
    fn what_is_no_key_is_told() {
        let key = CosignKey::p256();
        let public = key.public();
        let lines: Vec<&str> = public.lines().collect();
        let body = lines[1..lines.len() - 1].concat();
        let wrapped = |body: &str| format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        let cut = base64::encode(&base64::decode(&body).unwrap()[..80]);
        let mut longer = base64::decode(&body).unwrap();
        longer.push(0);
        for (text, expected) in [
            (String::new(), ImageKeyError::NotPem),
            ("<html></html>".into(), ImageKeyError::NotPem),
            (public.replace("PUBLIC", "OTHER"), ImageKeyError::NotPem),
            (key.private(), ImageKeyError::Private),
            (format!("{public}{}", key.private()), ImageKeyError::Private),
            ("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n".into(), ImageKeyError::Private),
            ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n".into(), ImageKeyError::OpenPgp),
            ("-----BEGIN CERTIFICATE-----\n".into(), ImageKeyError::Certificate),
            (format!("{public}{public}"), ImageKeyError::Several),
            (lines[..lines.len() - 1].join("\n"), ImageKeyError::Malformed("its end is missing")),
            (wrapped("MFk*"), ImageKeyError::Malformed("it is not in base64")),
            (wrapped("Proc-Type: 4\n\nMFkw"), ImageKeyError::Malformed("it is not in base64")),
            (wrapped(""), ImageKeyError::Malformed("it is not what its label says")),
            (wrapped(&cut), ImageKeyError::Malformed("it is not what its label says")),
            (
                wrapped(&base64::encode(&longer)),
                ImageKeyError::Kind("an ECDSA P-256 key in another form".into()),
            ),
        ] {
            assert_eq!(ImageKey::parse_pem(text.as_bytes()), Err(expected), "{text}");
        }
        assert_eq!(ImageKey::parse_pem(b"-----BEGIN PUBLIC KEY-----\n\xff"), Err(ImageKeyError::NotPem));
    }
}
