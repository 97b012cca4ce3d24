//! How many inotify instances a user may have: the first limit of a host that runs many pods (inotify(7)).

use rustix::fs::inotify;

/// The file with the limit, for all processes of one user together.
pub const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";

/// Tells whether `wanted` more instances can be had now.
///
/// A process that may not open any more files gets the same answer from the kernel, and is not what is asked about.
pub fn has_left(wanted: usize) -> bool {
    let mut made = Vec::new();
    for _ in 0..wanted {
        match inotify::init(inotify::CreateFlags::CLOEXEC) {
            Ok(instance) => made.push(instance),
            Err(_) => return std::fs::File::open("/dev/null").is_err(),
        }
    }
    true
}
