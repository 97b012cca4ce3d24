//! stage1: what runs inside a pod, as values made by pure functions, and its launch.
//!
//! Flavor `host`: the pod's process 1 is the host's own systemd on a small root of plain files ([`plan`]); each app is
//! one of its units. [`inside`] is the little that rkt itself does in there, [`status`] what it leaves to read.

pub mod enter;
pub mod filters;
pub mod inside;
pub mod interactive;
pub mod journal;
pub mod kernel_view;
pub mod leftover;
pub mod plan;
pub mod root;
pub mod status;
pub mod verify;
