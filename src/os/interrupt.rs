//! Ctrl-C and its kin while files are half made: the work is given up and cleaned up, then the process dies of the signal
//! as if it had not been caught, so that the caller sees what it expects.
//!
//! A second signal kills at once. Signals that were ignored from the start, as under nohup(1), stay so.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SIGNALS: [i32; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// The signal that has come, or 0.
static ARRIVED: AtomicI32 = AtomicI32::new(0);
/// How many watch, and which signals are caught for them.
static WATCHES: Mutex<(usize, Vec<i32>)> = Mutex::new((0, Vec::new()));

/// Signals are noted instead of ending the process, as long as this lives.
///
/// Dropping the last one puts everything back and lets a signal that came have its way; so it must be made before, and
/// dropped after, what cleans up.
#[must_use = "signals end the process again when it is dropped"]
#[derive(Debug)]
pub struct Watch(());

impl Watch {
    /// Starts to note signals.
    pub fn start() -> Self {
        let mut watches = watches();
        if watches.0 == 0 {
            watches.1 = SIGNALS.into_iter().filter(|signal| catch(*signal)).collect();
        }
        watches.0 += 1;
        Self(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = watches();
        watches.0 -= 1;
        if watches.0 > 0 {
            return;
        }
        for signal in watches.1.drain(..) {
            set(signal, libc::SIG_DFL);
        }
        let arrived = ARRIVED.swap(0, Ordering::SeqCst);
        if arrived != 0 {
            #[allow(
                unsafe_code,
                reason = "raise(3) has no precondition; the action is the default one again"
            )]
            unsafe {
                libc::raise(arrived);
            }
        }
    }
}

/// Tells whether a signal has come since a [`Watch`] was started.
pub fn has_arrived() -> bool {
    ARRIVED.load(Ordering::Relaxed) != 0
}

fn watches() -> MutexGuard<'static, (usize, Vec<i32>)> {
    WATCHES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Catches a signal if nobody has said what to do with it.
fn catch(signal: i32) -> bool {
    if action(signal) != libc::SIG_DFL {
        return false;
    }
    set(signal, note as *const () as libc::sighandler_t);
    true
}

extern "C" fn note(signal: i32) {
    // Only what is async-signal-safe: a store. SA_RESETHAND has put the default action back already.
    ARRIVED.store(signal, Ordering::SeqCst);
}

fn action(signal: i32) -> libc::sighandler_t {
    #[allow(unsafe_code, reason = "an all-zero sigaction is valid, and sigaction(2) only writes to it")]
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut old);
        old.sa_sigaction
    }
}

fn set(signal: i32, handler: libc::sighandler_t) {
    #[allow(
        unsafe_code,
        reason = "the struct is valid; the handler is the default or `note`, which is async-signal-safe"
    )]
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler;
        new.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
        libc::sigaction(signal, &raw const new, std::ptr::null_mut());
    }
}
