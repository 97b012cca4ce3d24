//! OpenPGP keys and signatures for tests: good ones, and each kind of bad one, made on the spot.

use std::time::{Duration, SystemTime};

use sequoia_openpgp as openpgp;

use openpgp::cert::prelude::*;
use openpgp::crypto::KeyPair;
use openpgp::packet::key::{Key4, PrimaryRole, SecretParts};
use openpgp::packet::signature::SignatureBuilder;
use openpgp::packet::{Key, UserID};
use openpgp::parse::Parse as _;
use openpgp::serialize::SerializeInto as _;
use openpgp::types::{Features, HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType};
use openpgp::{Packet, armor};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A key with its secret.
pub struct TestKey {
    cert: Cert,
}

/// How a signature is made.
#[derive(Clone)]
pub struct Signing {
    pub hash: HashAlgorithm,
    pub created: SystemTime,
    pub lifetime: Option<Duration>,
    pub kind: SignatureType,
}

impl Default for Signing {
    fn default() -> Self {
        let created = SystemTime::now() - Duration::from_secs(60);
        Self { hash: HashAlgorithm::SHA512, created, lifetime: None, kind: SignatureType::Binary }
    }
}

impl Signing {
    pub fn with_sha1() -> Self {
        Self { hash: HashAlgorithm::SHA1, ..Self::default() }
    }

    pub fn with_ripemd() -> Self {
        Self { hash: HashAlgorithm::RipeMD, ..Self::default() }
    }

    pub fn in_days(days: u32) -> Self {
        Self { created: SystemTime::now() + DAY * days, ..Self::default() }
    }

    pub fn in_minutes(minutes: u64) -> Self {
        Self { created: SystemTime::now() + Duration::from_secs(60 * minutes), ..Self::default() }
    }

    pub fn expired() -> Self {
        Self { created: SystemTime::now() - DAY * 3, lifetime: Some(DAY), ..Self::default() }
    }

    pub fn of_text() -> Self {
        Self { kind: SignatureType::Text, ..Self::default() }
    }
}

impl TestKey {
    /// A key that signs with its primary key, ten days old.
    pub fn new(identity: &str) -> Self {
        Self::build(identity, |builder| builder)
    }

    /// A key that signs with a subkey.
    pub fn with_subkey(identity: &str) -> Self {
        let builder = CertBuilder::new().add_userid(identity).set_creation_time(ago(10)).add_signing_subkey();
        Self { cert: builder.generate().expect("a new key").0 }
    }

    /// A key that has been over for some days.
    pub fn expired(identity: &str) -> Self {
        Self::build(identity, |builder| builder.set_validity_period(DAY * 7))
    }

    /// A key that its owner may use for certifying only.
    pub fn certify_only(identity: &str) -> Self {
        let builder = CertBuilder::new().add_userid(identity).set_creation_time(ago(10));
        Self { cert: builder.generate().expect("a new key").0 }
    }

    fn build(identity: &str, more: impl FnOnce(CertBuilder<'_>) -> CertBuilder<'_>) -> Self {
        let flags = KeyFlags::empty().set_certification().set_signing();
        let builder =
            CertBuilder::new().add_userid(identity).set_creation_time(ago(10)).set_primary_key_flags(flags);
        Self { cert: more(builder).generate().expect("a new key").0 }
    }

    /// A key as programs made them before 2015: its owner's signature over it is made with SHA-1.
    pub fn with_sha1_binding(identity: &str) -> Self {
        let key = Key4::<SecretParts, PrimaryRole>::generate_ed25519().expect("a new key");
        Self::bound(key.into(), identity, HashAlgorithm::SHA1)
    }

    /// A key of 1024 bits, as nobody should have any more. It is a file, since making one takes seconds.
    pub fn short_rsa() -> Self {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys/rsa1024.asc");
        Self { cert: Cert::from_file(file).expect("the fixture is a key") }
    }

    fn bound(mut key: Key<SecretParts, PrimaryRole>, identity: &str, hash: HashAlgorithm) -> Self {
        key.set_creation_time(ago(10)).expect("a date");
        let mut signer = key.clone().into_keypair().expect("a new key has no password");
        let identity = UserID::from(identity);
        let binding = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_hash_algo(hash)
            .set_features(Features::sequoia())
            .and_then(|builder| builder.set_key_flags(KeyFlags::empty().set_certification().set_signing()))
            .and_then(|builder| builder.set_signature_creation_time(ago(10)))
            .and_then(|builder| builder.sign_userid_binding(&mut signer, None, &identity))
            .expect("a binding");
        let packets = [Packet::SecretKey(key), identity.into(), binding.into()];
        Self { cert: Cert::from_packets(packets.into_iter()).expect("a key") }
    }

    /// The same key, taken back by its owner.
    pub fn revoked(&self) -> Self {
        let mut signer = self.primary();
        let revocation = self
            .cert
            .revoke(&mut signer, ReasonForRevocation::KeyCompromised, b"it was the maid")
            .expect("a revocation");
        let (cert, _) = self.cert.clone().insert_packets(revocation).expect("a revoked key");
        Self { cert }
    }

    /// This key with another's signing subkey, which that never agreed to.
    pub fn with_stolen_subkey(&self, other: &Self) -> Self {
        let stolen = other.cert.keys().subkeys().next().expect("a key with a subkey").key().clone();
        let binding = SignatureBuilder::new(SignatureType::SubkeyBinding)
            .set_key_flags(KeyFlags::empty().set_signing())
            .and_then(|builder| builder.set_signature_creation_time(ago(9)))
            .and_then(|builder| builder.sign_subkey_binding(&mut self.primary(), None, &stolen))
            .expect("a binding");
        let packets: [Packet; 2] = [stolen.into(), binding.into()];
        let (cert, _) = self.cert.clone().insert_packets(packets).expect("a key with a stolen part");
        Self { cert }
    }

    fn primary(&self) -> KeyPair {
        let key = self.cert.primary_key().key().clone().parts_into_secret().expect("the secret is there");
        key.into_keypair().expect("a test's key has no password")
    }

    fn signer(&self) -> KeyPair {
        let subkey = self.cert.keys().subkeys().next();
        match subkey {
            Some(part) => {
                let key = part.key().clone().parts_into_secret().expect("the secret is there");
                key.into_keypair().expect("a test's key has no password")
            }
            None => self.primary(),
        }
    }

    /// The public key, armored.
    pub fn public(&self) -> String {
        let armored = self.cert.clone().strip_secret_key_material().armored().to_vec();
        String::from_utf8(armored.expect("a key in memory")).expect("armor is ASCII")
    }

    /// The private key, armored.
    pub fn private(&self) -> String {
        let armored = self.cert.as_tsk().armored().to_vec();
        String::from_utf8(armored.expect("a key in memory")).expect("armor is ASCII")
    }

    /// The fingerprint in lower-case digits.
    pub fn fingerprint(&self) -> String {
        self.cert.fingerprint().to_hex().to_lowercase()
    }

    /// The fingerprint of what signs, in upper-case digits.
    pub fn signing_fingerprint(&self) -> String {
        self.signer().public().fingerprint().to_hex()
    }

    /// A detached signature, armored.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.sign_as(bytes, &Signing::default())
    }

    /// A detached signature, armored, made in a certain way.
    pub fn sign_as(&self, bytes: &[u8], how: &Signing) -> Vec<u8> {
        let mut text = Vec::new();
        let mut writer = armor::Writer::new(&mut text, armor::Kind::Signature).expect("memory");
        std::io::Write::write_all(&mut writer, &self.sign_binary(bytes, how)).expect("memory");
        writer.finalize().expect("memory");
        text
    }

    /// A detached signature without armor.
    pub fn sign_binary(&self, bytes: &[u8], how: &Signing) -> Vec<u8> {
        let mut builder = SignatureBuilder::new(how.kind)
            .set_hash_algo(how.hash)
            .set_signature_creation_time(how.created)
            .expect("a date");
        if let Some(lifetime) = how.lifetime {
            builder = builder.set_signature_validity_period(lifetime).expect("a length of time");
        }
        let signature = builder.sign_message(&mut self.signer(), bytes).expect("a signature");
        Packet::from(signature).to_vec().expect("memory")
    }
}

fn ago(days: u32) -> SystemTime {
    SystemTime::now() - DAY * days
}
