//! Tests that need systemd as PID 1: they run the real binary on a booted system, as root, and ask systemd and the kernel
//! whether it is true. `make test` boots a lab for them; `tests/lab/booted RELEASE [FILTER]` runs some.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bus;
mod dependencies;
mod detach;
mod enter;
mod etc_files;
mod export;
mod fetch;
mod filters;
mod host;
mod inside;
mod interactive;
mod isolators;
mod lifecycle;
mod logs;
mod machine;
mod many;
mod network;
mod network_config;
mod network_gc;
mod network_plugins;
mod nspawn;
mod oci;
mod oci_process;
mod odd;
mod pod;
mod pod_manifest;
mod real_images;
mod registry;
mod service;
mod signed;
mod statuses;
mod volumes;
