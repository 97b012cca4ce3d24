//! Waiting for events of the kernel with a limit: a process that ends, a file that changes.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits until `flags` hold for `fd` or `deadline` passes; `None` waits without limit. Returns whether they hold.
pub fn ready(fd: BorrowedFd<'_>, flags: PollFlags, deadline: Option<Instant>) -> bool {
    loop {
        let left = deadline.map(|end| timespec(end.saturating_duration_since(Instant::now())));
        match poll(&mut [PollFd::new(&fd, flags)], left.as_ref()) {
            Ok(count) => return count > 0,
            Err(Errno::INTR) => {}
            // A descriptor that can't be polled has nothing to wait for.
            Err(_) => return true,
        }
    }
}

/// Lets `duration` pass between two looks at something that gives no event.
pub fn pause(duration: Duration) {
    // A signal may end the pause early; the caller looks again in any case.
    let _ = poll(&mut [], Some(&timespec(duration)));
}

pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
