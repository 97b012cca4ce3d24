//! Whom the images are believed from: keys, the names they are trusted for, and what their signatures must be like.
//!
//! [`key`] is a public key as people know it, [`keystore`] the files that say what it is trusted for, [`verify`] the rules
//! that a signature must keep. Images of registries are signed in another way, by other keys: [`image_key`],
//! [`registry_keys`], [`cosign`]. Nothing here decides that an image needs no signature: that is the user's word, and [`Proof`] says
//! which of both it was.

pub mod cosign;
pub mod image_key;
pub mod key;
pub mod keystore;
pub mod registry_keys;
pub mod verify;

pub use self::cosign::{ImageSignatureError, ImageSignatures, WantedSignature};
pub use self::image_key::{ImageKey, ImageKeyError};
pub use self::key::{KeyError, PublicKey};
pub use self::keystore::{Keystore, KeystoreError, Scope, SelfSignatures, TrustedKey};
pub use self::registry_keys::TrustedImageKey;
pub use self::verify::{DocumentHash, Proof, SignatureFile, Signer, TrustedFor, VerifyError};

#[cfg(test)]
mod tests;
