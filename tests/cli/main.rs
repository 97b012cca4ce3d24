//! The command line on any machine: the real binary in an empty directory, and the whole of what it says.
//!
//! Nothing here needs systemd. Some of it needs root, as rkt does.

mod acbuild;
mod acbuild_files;
mod acbuild_wants;
mod config;
mod cosign;
mod dependencies;
mod discovery;
mod docker2aci;
mod download;
mod frame;
mod help;
mod hostile;
mod images;
mod oci;
mod oci_hostile;
mod output;
mod pod_manifest;
mod registry;
mod registry_login;
mod shop;
mod signatures;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod trust;
mod verify;
mod world;
