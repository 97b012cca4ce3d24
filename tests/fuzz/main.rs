//! Generated inputs for all that reads what strangers write; `tests/corpus/TARGET` has what they are made of.
//!
//! A plain `cargo test` replays the corpora and spends a moment on each target; `make fuzz` spends ten minutes on each.
//! What should not be is printed, made small, and kept in the corpus, where it fails every run until it is mended.
//! There is no coverage to be had from a stable compiler: the answers' own words lead the way (see [`run`]).
#![allow(clippy::print_stdout, reason = "the report is what a long run is for")]

mod archive;
mod discovery;
mod gnu_tar;
mod html;
mod json;
mod manifests;
mod mutate;
mod oci;
mod references;
mod run;

#[test]
fn manifests() {
    run::run(manifests::Manifests);
}

#[test]
fn references() {
    run::run(references::References);
}

#[test]
fn archive() {
    run::run(archive::Archives::new());
}

#[test]
fn oci() {
    run::run(oci::Documents);
}

#[test]
fn discovery() {
    run::run(discovery::Pages);
}
