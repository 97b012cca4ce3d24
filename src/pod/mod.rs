//! The life of a pod on disk: phases, locks, moves, what others may observe.
//!
//! This is the only room that knows both images and stage1. [`prepare`] fills a directory, [`run`] becomes the pod's
//! supervisor, [`observe`] looks at other processes' pods, [`enter`] runs a command in one, [`stop`] and [`gc`] end and
//! remove them, [`export`] makes an image of what one has left; [`network`] joins them to networks and parts the dead.

pub mod app;
pub mod detach;
pub mod draft;
pub mod enter;
pub mod etc;
pub mod export;
pub mod gc;
pub mod given;
pub mod layout;
pub mod lifecycle;
pub mod logs;
pub mod network;
pub mod observe;
pub mod port;
pub mod prepare;
pub mod roots;
pub mod run;
pub mod stop;
pub mod user;
pub mod volume;
