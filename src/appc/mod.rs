//! The types of the App Container specification: names, identifiers, manifests. No I/O.
//!
//! Text becomes one of these types once, at the edge, and is trusted from there on. A manifest goes through three steps:
//! [`json`] reads the document strictly, a typed reader names the member that has the wrong shape, and `validate()`
//! holds every rule between members, so that a manifest built in memory passes the same rules as one that was read.

pub mod app;
#[cfg(test)]
mod arbitrary;
pub mod capability;
mod field;
pub mod image_id;
pub mod image_manifest;
pub mod isolator;
pub mod json;
pub mod label;
pub mod name;
pub mod platform;
pub mod pod_manifest;
pub mod pod_uuid;
pub mod quantity;
pub mod semver;
pub mod volume;

pub use field::{Document, FieldError, ManifestError};
pub(crate) use field::{Field, quoted};
