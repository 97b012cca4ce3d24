//! Stopping a pod from outside: a signal to its supervisor, which nobody else may get.

use rustix::process::Signal;

use super::observe::{Observed, State};
use crate::os::SysError;

/// How hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Apps get SIGTERM, later SIGKILL.
    Graceful,
    /// Everything is killed at once.
    Kill,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The request was delivered.
    Requested,
    /// There was nothing to stop any more.
    Already,
    /// The pod has not run yet.
    NotRunning,
}

/// Asks the pod to end; returns when the request was delivered, not when the pod has ended.
///
/// # Errors
/// When the caller may not signal it.
pub fn stop(pod: &Observed, force: Force) -> Result<Stopped, SysError> {
    match pod.state {
        State::Embryo | State::Preparing | State::AbortedPrepare | State::Prepared => {
            return Ok(Stopped::NotRunning);
        }
        State::Deleting | State::ExitedDeleting | State::Exited | State::ExitedGarbage | State::Garbage => {
            return Ok(Stopped::Already);
        }
        State::Running => {}
    }
    // The supervisor writes its id before anyone can see the pod running.
    let Some(supervisor) = pod.supervisor else { return Ok(Stopped::Already) };
    let delivered = match force {
        Force::Graceful => supervisor.signal(Signal::TERM)?,
        Force::Kill => {
            if let Some(init) = pod.find_init() {
                init.signal(Signal::KILL)?;
            }
            supervisor.signal(Signal::KILL)?
        }
    };
    Ok(if delivered { Stopped::Requested } else { Stopped::Already })
}
