//! Images of the OCI and Docker formats: their documents, where they come from, and what they become.

pub mod chain;
pub mod convert;
pub mod document;
pub mod files;
pub mod local;
pub mod login;
pub mod name;
pub mod platform;
pub mod registry;
pub mod source;
pub mod squash;
