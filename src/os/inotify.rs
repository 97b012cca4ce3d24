//! How many inotify instances a user may have: the first limit of a host that runs many pods (inotify(7)).

use rustix::fs::inotify;

/// The file with the limit, for all processes of one user together.
pub const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";

/// Tells whether `wanted` more instances can be had now.
pub fn has_left(wanted: usize) -> bool {
    let made: Vec<_> = (0..wanted).map_while(|_| inotify::init(inotify::CreateFlags::CLOEXEC).ok()).collect();
    made.len() == wanted
}
