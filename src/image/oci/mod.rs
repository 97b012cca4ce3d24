//! Images of the OCI and Docker formats: their documents, where they come from, and what they become.

pub mod convert;
pub mod document;
pub mod name;
pub mod platform;
