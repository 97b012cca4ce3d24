//! The commands about pods, and what they share: which pod is meant, how one is shown.

pub mod cat_manifest;
pub mod dns;
pub mod enter;
pub mod export;
pub mod gc;
pub mod list;
pub mod logs;
pub mod prepare;
pub mod rm;
pub mod run;
pub mod run_prepared;
pub mod show;
pub mod status;
pub mod stop;
pub mod target;
pub mod wishes;
