//! Keys and signatures of registry images as cosign makes them, made on the spot, and keys of other kinds.

use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _,
    SigningKey as _,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A key with its secret.
pub struct CosignKey(KeyPair);

impl CosignKey {
    pub fn p256() -> Self {
        Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a new key"))
    }

    pub fn ed25519() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).expect("a new key"))
    }

    /// The public key, in PEM.
    pub fn public(&self) -> String {
        self.0.public_key_pem().replace('\r', "")
    }

    /// The private key, in PEM.
    pub fn private(&self) -> String {
        self.0.serialize_pem()
    }

    /// The SHA-256 of the public key's DER form.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.0.subject_public_key_info()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.sign(bytes).expect("a signature")
    }
}

/// RFC 4648 4, as rkt's own should not be what its tests rest on.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let digits = bits.as_bytes().chunks(6).map(|bits| {
        let bits = format!("{:0<6}", String::from_utf8_lossy(bits));
        char::from(DIGITS[usize::from_str_radix(&bits, 2).expect("zeros and ones")])
    });
    let padding = "=".repeat((3 - bytes.len() % 3) % 3);
    digits.collect::<String>() + &padding
}

/// What is signed to say that the image with this digest is called `name` (cosign's SIGNATURE_SPEC, "Simple Signing").
pub fn payload(name: &str, digest: &str) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
}

/// Public keys that sign no images here, and what they are.
pub fn other_keys() -> Vec<(String, &'static str)> {
    let key = |lines: &[&str]| {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    };
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a new key");
    vec![
        (p384.public_key_pem(), "an ECDSA P-384 key"),
        (
            key(&[
                "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA3TrSB3ySRFP7nUGocI2y",
                "gX/l48KJFlAPDUdsbNnOmnX3tJ2KPowj2IsyIbe6NYQ3WlYyI0+CXYCbccVyfDRE",
                "9RfWHBRj5V5XsKVF9zPoRbF+/vNKhLXw9tXJZ9UejJBnhppzLrkbqo11hR7tMvEv",
                "ZMSbDNt22WM/QxkhFawqa24yFYqKdsKg/dVl3N1hI5sKGFqNfbUDAWrr9smFS8nm",
                "UMegeq9Foadg8FZMuOydCL8iDz/goJt+Ofs8qbMEJWYLVHGOnpS+MsxXu7CMpm+q",
                "OMb0g4AX5k5WNbNZW0uuSQMMrEyC/uYK4KAHBHBplQmRk4T7zL6eZgV8lNKfXtjk",
                "DwIDAQAB",
            ]),
            "an RSA key",
        ),
        ("-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n".to_owned(), "an RSA key"),
        (
            key(&["MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgADltR721kKF/CbbMWLG+aWUqjNPnyT", "bhmQDz59zBawth8="]),
            "an ECDSA P-256 key in another form",
        ),
        (
            key(&[
                "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEmJAfz/agTGXMfh/JmHimyln8oimcuYvf",
                "UYUT2mkWppdvJiBnCwhERoVXVGyYZlBuTnekYfmbrThVlb30vCPgBQ==",
            ]),
            "an ECDSA key on another curve",
        ),
        (
            key(&[
                "MEMwBQYDK2VxAzoAIsKu4AarNqYndz8TXuTUqVwxtR4T3BkObst865xMweGLcras",
                "iXpX3m2I691R+RDBfMkYJ0ZsFLeA",
            ]),
            "an Ed448 key",
        ),
        (
            key(&["MCowBQYDK2VuAyEANnS0HEHKg3wcJtilifkaNL1mfdGcOzd1RHiTWo5A638="]),
            "a key for the algorithm \"06032b656e\"",
        ),
    ]
}
