//! Whether an image of a registry was signed, as cosign does it, by a key that is trusted for its name.
//!
//! A signature is looked for in one place: the tag `sha256-<digest>.sig` beside the image (cosign, SIGNATURE_SPEC.md). What
//! is found there is a manifest whose layers are payloads, small JSON documents about an image, each with a signature over its
//! very bytes in an annotation. Nothing in a payload is believed, nor even read, before a trusted key has signed it; then it
//! must be about this digest and this name.
//!
//! The digest is that of what the reference leads to, so of the index if it is one: what an index chooses for this machine
//! is named by digest in the bytes that were signed. The signature of an image that an index merely lists does not do: then
//! who can write to the registry could make an index of any images that were ever signed, and a place to fall back to is a
//! way to leave a signature out. Such an image can be asked for by its own digest.
//!
//! The tag is not a part of most signatures: that a tag leads to an older signed image is not found out here.

use super::registry_keys::TrustedImageKey;
use super::verify::{Proof, Signer, TrustedFor};
use crate::appc::json;
use crate::appc::{Field, quoted};
use crate::image::base64;
use crate::image::digest::Digest;
use crate::image::oci::document::{Descriptor, DocumentError, artifact_layers};
use crate::image::oci::name::DockerReference;
use crate::image::oci::source::SourceError;
use crate::os::Hint;

/// What a layer is that is a payload.
const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of such a layer that is the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What a payload says to be.
const STATEMENT_TYPE: &str = "cosign container image signature";
/// Bytes that a payload may have.
const PAYLOAD_LIMIT: u64 = 64 << 10;
/// Signatures that are looked at.
const MOST_SIGNATURES: usize = 64;

/// Why the signatures of an image prove nothing.
#[derive(Debug, thiserror::Error)]
pub enum ImageSignatureError {
    /// There is none.
    #[error("it has no signature: there is no {tag} in {name}")]
    Missing {
        /// Where it would be.
        tag: String,
        /// The registry and the name there.
        name: String,
    },
    /// What is there is something else.
    #[error("{tag} holds no signatures: {cause}")]
    NotSignatures {
        /// Where it was found.
        tag: String,
        /// What is wrong.
        cause: DocumentError,
    },
    /// What is there holds none.
    #[error("{tag} holds no signatures")]
    Empty {
        /// Where it was found.
        tag: String,
    },
    /// There are more than anybody needs.
    #[error("{tag} holds {count} signatures, and at most {MOST_SIGNATURES} are looked at")]
    TooMany {
        /// Where they were found.
        tag: String,
        /// Their number.
        count: usize,
    },
    /// A signature is none.
    #[error("a signature in {tag} is malformed: {problem}")]
    Malformed {
        /// Where it was found.
        tag: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// What was signed is too large to be about an image.
    #[error(
        "a signature in {tag} is malformed: its payload has {size} bytes, and at most {PAYLOAD_LIMIT} are read"
    )]
    TooLarge {
        /// Where it was found.
        tag: String,
        /// What its descriptor says.
        size: u64,
    },
    /// Others have signed it.
    #[error("no signature in {tag} was made by a key that is trusted for {name}")]
    Unknown {
        /// Where they were found.
        tag: String,
        /// The registry and the name there.
        name: String,
    },
    /// What was signed can't be read.
    #[error("the payload that key {key} has signed is malformed: {cause}")]
    Payload {
        /// The key.
        key: String,
        /// What is wrong.
        cause: DocumentError,
    },
    /// It is about another image.
    #[error("key {key} has signed another image, {found}, and not {digest}")]
    OtherImage {
        /// The key.
        key: String,
        /// What it has signed.
        found: Box<Digest>,
        /// What it should have signed.
        digest: Box<Digest>,
    },
    /// It is about the image by another name.
    #[error("key {key} has signed this image as {}, and not as {name}", quoted(.found))]
    OtherName {
        /// The key.
        key: String,
        /// What it was called.
        found: String,
        /// What it was asked for as.
        name: String,
    },
    /// A part did not come.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Hint for ImageSignatureError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Missing { .. } | Self::Empty { .. } => {
                "only signatures are found that cosign stores by tag, as cosign 3 does with --new-bundle-format=false; if \
                 you trust the image, skip the check with --insecure-options=image"
                    .into()
            }
            Self::Unknown { name, .. } => format!(
                "If you expected the signing key to change, try running:\n    \
                 rkt trust --prefix=docker://{name} PUBKEY"
            ),
            Self::OtherName { .. } => {
                "get it by the name that was signed, or ask the publisher for a signature of this name".into()
            }
            Self::NotSignatures { .. }
            | Self::TooMany { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::Payload { .. }
            | Self::OtherImage { .. } => {
                "ask the publisher to sign the image again: `cosign sign --key KEY IMAGE@DIGEST`".into()
            }
            Self::Source(cause) => return cause.hint(),
        };
        Some(text)
    }
}

impl ImageSignatureError {
    /// How much a refusal tells, if there are several: that of a trusted key's signature most.
    fn weight(&self) -> u8 {
        match self {
            Self::Payload { .. } | Self::OtherImage { .. } | Self::OtherName { .. } => 2,
            Self::Unknown { .. } => 1,
            Self::Missing { .. }
            | Self::NotSignatures { .. }
            | Self::Empty { .. }
            | Self::TooMany { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::Source(_) => 0,
        }
    }
}

/// The tag beside an image that its signatures have.
pub fn tag_of(digest: &Digest) -> String {
    format!("{}.sig", digest.file_name())
}

/// The signatures of an image, not verified yet.
#[derive(Debug)]
pub struct ImageSignatures {
    tag: String,
    /// Payloads with their signatures.
    list: Vec<Descriptor>,
}

/// What a signature must be about, and by whom.
#[derive(Clone, Copy)]
pub struct WantedSignature<'a> {
    /// The image as it was asked for.
    pub image: &'a DockerReference,
    /// The digest of what that leads to.
    pub digest: Digest,
    /// Who is believed.
    pub keys: &'a [TrustedImageKey],
}

impl ImageSignatures {
    /// Reads what the tag `tag` leads to, which the server calls `media_type`.
    ///
    /// # Errors
    /// When that is no list of signatures, or has too many.
    pub fn parse(tag: &str, bytes: &[u8], media_type: &str) -> Result<Self, ImageSignatureError> {
        let tag = tag.to_owned();
        let mut list = match artifact_layers(bytes, media_type) {
            Ok(layers) => layers,
            Err(cause) => return Err(ImageSignatureError::NotSignatures { tag, cause }),
        };
        list.retain(|layer| layer.media_type == PAYLOAD_TYPE);
        match list.len() {
            0 => Err(ImageSignatureError::Empty { tag }),
            1..=MOST_SIGNATURES => Ok(Self { tag, list }),
            count => Err(ImageSignatureError::TooMany { tag, count }),
        }
    }

    /// Looks for one that is good; `bring` returns a payload whose size and digest are those of its descriptor.
    ///
    /// # Errors
    /// When none is good: the reason that tells most. When a payload does not come.
    pub fn verify(
        &self,
        wanted: &WantedSignature<'_>,
        bring: &dyn Fn(&Descriptor) -> Result<Vec<u8>, SourceError>,
    ) -> Result<Proof, ImageSignatureError> {
        let mut refusal: Option<ImageSignatureError> = None;
        for entry in &self.list {
            match self.check(entry, wanted, bring) {
                Ok(trusted) => {
                    return Ok(Proof::signed_by(Signer {
                        fingerprint: trusted.key.fingerprint(),
                        identities: Vec::new(),
                        trusted_for: TrustedFor::Images(trusted.prefix.clone()),
                    }));
                }
                Err(error @ ImageSignatureError::Source(_)) => return Err(error),
                Err(error) => {
                    if refusal.as_ref().is_none_or(|other| other.weight() < error.weight()) {
                        refusal = Some(error);
                    }
                }
            }
        }
        Err(refusal.unwrap_or_else(|| ImageSignatureError::Empty { tag: self.tag.clone() }))
    }

    /// Returns the key that has made a good signature.
    fn check<'k>(
        &self,
        entry: &Descriptor,
        wanted: &WantedSignature<'k>,
        bring: &dyn Fn(&Descriptor) -> Result<Vec<u8>, SourceError>,
    ) -> Result<&'k TrustedImageKey, ImageSignatureError> {
        let malformed = |problem| ImageSignatureError::Malformed { tag: self.tag.clone(), problem };
        let text =
            entry.annotations.get(SIGNATURE).ok_or_else(|| malformed("it is missing beside its payload"))?;
        let signature = base64::decode(text).ok_or_else(|| malformed("it is not in base64"))?;
        if entry.size > PAYLOAD_LIMIT {
            return Err(ImageSignatureError::TooLarge { tag: self.tag.clone(), size: entry.size });
        }
        let payload = bring(entry)?;
        let trusted = wanted.keys.iter().find(|trusted| trusted.key.has_signed(&payload, &signature));
        let trusted = trusted.ok_or_else(|| ImageSignatureError::Unknown {
            tag: self.tag.clone(),
            name: wanted.image.name(),
        })?;
        let key = trusted.key.fingerprint();
        let statement = match Statement::parse(&payload) {
            Ok(statement) => statement,
            Err(cause) => return Err(ImageSignatureError::Payload { key, cause }),
        };
        if statement.digest != wanted.digest {
            let (found, digest) = (Box::new(statement.digest), Box::new(wanted.digest));
            return Err(ImageSignatureError::OtherImage { key, found, digest });
        }
        match statement.name {
            Some(found) if !is_called(wanted.image, &found) => {
                Err(ImageSignatureError::OtherName { key, found, name: shown(wanted.image) })
            }
            _ => Ok(trusted),
        }
    }
}

/// Tells whether `found` is the name of the image, and its tag if both have one. A digest in it is that of an index in
/// which the image was signed, and says nothing more.
fn is_called(image: &DockerReference, found: &str) -> bool {
    let Ok(named) = found.parse::<DockerReference>() else { return false };
    let last = found.rsplit('/').next().unwrap_or_default();
    let has_tag = named.tag().is_some() && last.contains(':');
    named.name() == image.name() && (!has_tag || image.tag().is_none() || image.tag() == named.tag())
}

/// The name with its tag, if it has one.
fn shown(image: &DockerReference) -> String {
    image.tag().map_or_else(|| image.name(), |tag| format!("{}:{tag}", image.name()))
}

/// What a payload says.
#[derive(Debug, PartialEq, Eq)]
struct Statement {
    digest: Digest,
    /// The name of the image; early versions of cosign left it empty.
    name: Option<String>,
}

impl Statement {
    fn parse(payload: &[u8]) -> Result<Self, DocumentError> {
        let value = json::parse(payload)?;
        let document = Field::document(&value);
        let critical = document.required("critical")?;
        let kind = critical.required("type")?;
        if kind.str()? != STATEMENT_TYPE {
            return Err(kind.error(format!("must be \"{STATEMENT_TYPE}\"")).into());
        }
        let image = critical.required("image")?;
        let digest = image.required("docker-manifest-digest")?.parsed()?;
        let name = match critical.optional("identity")? {
            Some(identity) => identity.or_default("docker-reference", Field::string)?,
            None => String::new(),
        };
        Ok(Self { digest, name: Some(name).filter(|name| !name.is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::image::oci::document::{INDEXES, MANIFESTS};
    use crate::image::test_cosign::{self, CosignKey};
    use crate::image::trust::ImageKey;

    const NAME: &str = "reg.example.com/team/app";

    fn digest() -> Digest {
        Digest::sha256(b"an image")
    }

    fn trusted(key: &CosignKey) -> TrustedImageKey {
        let key = ImageKey::parse_pem(key.public().as_bytes()).unwrap();
        TrustedImageKey { key, prefix: "docker://reg.example.com/team".parse().unwrap() }
    }

    fn layer(payload: &[u8], signature: &[u8]) -> Value {
        json!({
            "mediaType": PAYLOAD_TYPE,
            "digest": Digest::sha256(payload).to_string(),
            "size": payload.len(),
            "annotations": {SIGNATURE: test_cosign::base64(signature)},
        })
    }

    fn parse(layers: &[Value]) -> Result<ImageSignatures, ImageSignatureError> {
        let manifest = json!({"schemaVersion": 2, "config": {}, "layers": layers}).to_string();
        ImageSignatures::parse("x.sig", manifest.as_bytes(), MANIFESTS[0])
    }

    /// Verifies the payloads with these signatures as those of `image`; tells who has signed.
    fn verify(
        signed: &[(&[u8], Vec<u8>)],
        image: &str,
        keys: &[TrustedImageKey],
    ) -> Result<String, ImageSignatureError> {
        let layers: Vec<_> = signed.iter().map(|(payload, signature)| layer(payload, signature)).collect();
        let wanted = WantedSignature { image: &image.parse().unwrap(), digest: digest(), keys };
        let bring = |descriptor: &Descriptor| {
            let found = signed.iter().find(|(payload, _)| descriptor.digest.is_of(payload));
            Ok(found.expect("only what is listed is asked for").0.to_vec())
        };
        let proof = parse(&layers)?.verify(&wanted, &bring)?;
        let signer = proof.signer().unwrap();
        Ok(format!("{} {}", signer.fingerprint, signer.trusted_for))
    }

    #[test]
    fn one_good_signature_is_enough() {
        let (key, stranger) = (CosignKey::p256(), CosignKey::ed25519());
        let keys = [trusted(&CosignKey::p256()), trusted(&key)];
        let good = test_cosign::payload(NAME, &digest().to_string()).to_string();
        let other = test_cosign::payload(NAME, &Digest::sha256(b"x").to_string()).to_string();
        let (good, other) = (good.as_bytes(), other.as_bytes());
        let expected = format!("{} prefix \"docker://reg.example.com/team\"", key.fingerprint());
        let all = [(good, stranger.sign(good)), (other, key.sign(other)), (good, key.sign(good))];
        assert_eq!(verify(&all, "reg.example.com/team/app:1", &keys).unwrap(), expected);
        // Without it the reason of the trusted key is told, wherever it stands.
        for order in [[0, 1], [1, 0]] {
            let some = order.map(|index| all[index].clone());
            let told = verify(&some, "reg.example.com/team/app:1", &keys).unwrap_err();
            assert!(matches!(told, ImageSignatureError::OtherImage { .. }), "{told}");
        }
        let told = verify(&all[..1], "reg.example.com/team/app:1", &keys).unwrap_err();
        assert!(matches!(told, ImageSignatureError::Unknown { .. }), "{told}");
        let told = verify(&all, "reg.example.com/team/app:1", &[]).unwrap_err();
        assert!(matches!(told, ImageSignatureError::Unknown { .. }), "{told}");
    }

    /// The files are what skopeo 1.18 has pushed to a registry, and its key.
    #[test]
    fn what_skopeo_has_signed_is_verified() {
        let payload = include_bytes!("../../../tests/fixtures/cosign/payload.json");
        let key = ImageKey::parse_pem(include_bytes!("../../../tests/fixtures/cosign/key.pub")).unwrap();
        let list = include_bytes!("../../../tests/fixtures/cosign/signatures.json");
        let signatures = ImageSignatures::parse("x.sig", list, MANIFESTS[0]).unwrap();
        let keys = [TrustedImageKey { key, prefix: "docker://127.0.0.80:5000".parse().unwrap() }];
        let verify = |image: &str, digest: &str| {
            let wanted = WantedSignature {
                image: &image.parse().unwrap(),
                digest: digest.parse().unwrap(),
                keys: &keys,
            };
            let bring = |descriptor: &Descriptor| {
                assert!(descriptor.digest.is_of(payload));
                Ok(payload.to_vec())
            };
            signatures.verify(&wanted, &bring)
        };
        let digest = "sha256:9c0592ae529f0873487b1265b442f276625cef9f232b61b7f60b6418414c9328";
        let proof = verify("127.0.0.80:5000/team/app:1", digest).unwrap();
        assert_eq!(proof.signer().unwrap().fingerprint, keys[0].key.fingerprint());
        let told = verify("127.0.0.80:5000/team/app:2", digest).unwrap_err();
        assert!(matches!(told, ImageSignatureError::OtherName { .. }), "{told}");
        let told = verify("127.0.0.80:5000/team/app:1", &Digest::sha256(b"x").to_string()).unwrap_err();
        assert!(matches!(told, ImageSignatureError::OtherImage { .. }), "{told}");
    }

    #[test]
    fn a_name_that_was_signed_is_the_one_that_was_asked_for() {
        let index = digest();
        for (found, asked, expected) in [
            (NAME, "reg.example.com/team/app:1", true),
            (NAME, "Reg.Example.com/team/app", true),
            ("reg.example.com/team/app:1", "reg.example.com/team/app:1", true),
            ("reg.example.com/team/app:2", "reg.example.com/team/app:1", false),
            ("reg.example.com/team/app:2", &format!("{NAME}@{index}"), true),
            (&format!("{NAME}@{index}"), "reg.example.com/team/app:1", true),
            ("reg.example.com/team", "reg.example.com/team/app:1", false),
            ("reg.example.com/team/app/x", "reg.example.com/team/app:1", false),
            ("reg.example.com:443/team/app", "reg.example.com/team/app:1", false),
            ("index.docker.io/library/busybox", "busybox:1", true),
            ("docker.io/busybox", "busybox:1", true),
            ("library/busybox", "docker.io/busybox", true),
            ("team/busybox", "busybox", false),
            ("localhost:5000/app", "localhost:5000/app:1", true),
            ("", "busybox", false),
            ("reg.example.com/team/app:", "reg.example.com/team/app:1", false),
        ] {
            assert_eq!(is_called(&asked.parse().unwrap(), found), expected, "{found} {asked}");
        }
    }

    #[test]
    fn b1_b8_a_payload_is_read_strictly() {
        let digest = digest().to_string();
        let good = test_cosign::payload(NAME, &digest);
        let with = |path: &str, value: Value| {
            let mut payload = good.clone();
            *payload.pointer_mut(path).unwrap() = value;
            payload.to_string()
        };
        for (payload, name) in [
            (good.to_string(), Some(NAME)),
            (with("/critical/identity/docker-reference", json!("")), None),
            (with("/critical/identity", json!({})), None),
            (with("/critical/identity", Value::Null), None),
            (with("/optional", json!({"creator": "x", "timestamp": 1})), Some(NAME)),
        ] {
            let expected = Statement { digest: digest.parse().unwrap(), name: name.map(str::to_owned) };
            assert_eq!(Statement::parse(payload.as_bytes()), Ok(expected), "{payload}");
        }
        let twice = |member: &str| good.to_string().replacen(member, &format!("{member}:0,{member}"), 1);
        for (payload, problem) in [
            (String::new(), "EOF while parsing a value"),
            (format!("{good}x"), "trailing characters"),
            ("[".repeat(100), "more than 64 levels"),
            (twice("\"critical\""), "the member \"critical\" is given twice"),
            (twice("\"docker-manifest-digest\""), "the member \"docker-manifest-digest\" is given twice"),
            ("[]".to_owned(), "must be an object, not a list"),
            (with("/critical/type", json!("atomic container signature")), "critical.type: must be"),
            (with("/critical/type", Value::Null), "critical.type: must be set"),
            (with("/critical/image", json!({"Docker-manifest-digest": digest})), "must be set"),
            (with("/critical/image/docker-manifest-digest", json!("sha1:00")), "is not a digest"),
            (with("/critical/image/docker-manifest-digest", json!(digest.to_uppercase())), "is not a digest"),
            (with("/critical/identity/docker-reference", json!([])), "must be a string, not a list"),
        ] {
            let told = Statement::parse(payload.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(problem), "{payload}: {told}");
        }
    }

    #[test]
    fn the_list_of_signatures_is_bounded() {
        let one = layer(b"x", b"y");
        assert_eq!(parse(&vec![one.clone(); MOST_SIGNATURES]).unwrap().list.len(), MOST_SIGNATURES);
        let told = parse(&vec![one.clone(); MOST_SIGNATURES + 1]).unwrap_err();
        assert!(matches!(told, ImageSignatureError::TooMany { count: 65, .. }), "{told}");
        let mut other = one.clone();
        other["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
        assert_eq!(parse(&[other.clone(), one.clone()]).unwrap().list.len(), 1);
        assert!(matches!(parse(&[other]).unwrap_err(), ImageSignatureError::Empty { .. }));
        let mut large = one;
        large["size"] = json!(PAYLOAD_LIMIT + 1);
        let wanted = WantedSignature { image: &"a".parse().unwrap(), digest: digest(), keys: &[] };
        let told = parse(&[large]).unwrap().verify(&wanted, &|_| panic!("it is not asked for")).unwrap_err();
        assert!(matches!(told, ImageSignatureError::TooLarge { size: 65537, .. }), "{told}");
        let told =
            ImageSignatures::parse("x.sig", b"{\"schemaVersion\":2,\"layers\":[]}", INDEXES[0]).unwrap_err();
        assert!(matches!(told, ImageSignatureError::NotSignatures { .. }), "{told}");
    }
}
