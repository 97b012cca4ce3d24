//! rkt: the pod runtime for people who run their machines with systemd.
//!
//! The crate is a house of floors; a room uses what stands below it, never what stands beside or above it
//! (`tests/layering.rs` holds the table). From the top:
//!
//! * `cli`: one file a subcommand; the only room that knows clap and the terminal.
//! * `pod`: the life of pods on disk, and the moves between phases; `build`: the steps of acbuild.
//! * `stage1`: what a pod's systemd will run, as values, and its launch; `image`: archives, the store, trees.
//! * `systemd`: the bus, and the one typed writer of units; `net`: the networks of pods, by CNI plugins.
//! * `config`: the configuration levels.
//! * `appc`: the specification's types; `os`: directory file descriptors, atomic files, locks, mounts. The ground.

pub mod appc;
pub mod build;
pub mod cli;
pub mod config;
#[cfg(test)]
mod golden;
pub mod image;
pub mod net;
pub mod os;
pub mod pod;
pub mod stage1;
pub mod systemd;
