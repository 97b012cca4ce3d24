//! What the tests of the binary share: running a command and waiting for an event, both with a deadline.
//!
//! It knows nothing of rkt's own functions: a test sees rkt as its user does.
#![allow(dead_code, reason = "compiled into each test executable, of which none uses all of it")]

pub(crate) mod aci;
pub(crate) mod certificates;
#[allow(
    unreachable_pub,
    missing_docs,
    reason = "also compiled into the unit tests, where it is one module of many"
)]
pub(crate) mod cosign;
#[allow(
    unreachable_pub,
    missing_docs,
    reason = "also compiled into the unit tests, where it is one module of many"
)]
pub(crate) mod keys;
pub(crate) mod oci;
pub(crate) mod probe;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod server;
#[allow(
    unreachable_pub,
    missing_docs,
    reason = "also compiled into the unit tests, where it is one module of many"
)]
pub(crate) mod tar;
pub(crate) mod terminal;
pub(crate) mod umoci;
pub(crate) mod wait;

pub(crate) use run::Run;

/// The names in a directory, in order.
pub(crate) fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|cause| panic!("{}: {cause}", dir.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
