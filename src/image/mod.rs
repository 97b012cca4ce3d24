//! Images: archives, the pipeline from bytes to a stored image, the store and its trees.
//!
//! The way of a file: [`stream`] unpacks and hashes, [`archive`] reads entries, [`aci`] holds them to the rules of an
//! App Container Image, [`extract`] writes them below a directory, [`store`] publishes the result. Nothing of an image
//! is trusted on that way: not a path, a size, an owner or an order.

pub mod aci;
pub mod aci_writer;
pub mod archive;
pub mod base64;
pub mod compression;
pub mod dependencies;
pub mod digest;
pub mod discovery;
pub mod extract;
pub mod fetch;
pub mod http;
pub mod oci;
pub mod reference;
pub mod store;
pub mod stream;
pub mod trust;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "one writer for the tests here and those of the binary; each uses a part"
)]
#[path = "../../tests/support/tar.rs"]
mod tar_writer;
#[cfg(test)]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "one maker of keys for the tests here and those of the binary; each uses a part"
)]
#[path = "../../tests/support/cosign.rs"]
mod test_cosign;
#[cfg(test)]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "one maker of keys for the tests here and those of the binary; each uses a part"
)]
#[path = "../../tests/support/keys.rs"]
mod test_keys;
