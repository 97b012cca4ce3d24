//! Stopping a pod from outside: a signal to its supervisor, which nobody else may get.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::observe::{Observed, State};
use crate::os::process::ProcessId;
use crate::os::{SysError, wait};
use crate::stage1::status::Statuses;

/// How long a pod may take to show that it stops before that is believed.
const HEARD: Duration = Duration::from_secs(5);
/// How often a pod that shows nothing is asked anew.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often the marks of a pod are looked at.
const LOOK: Duration = Duration::from_millis(10);

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

/// Asks the pod to end; returns when the request was heard, not when the pod has ended.
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
        Force::Graceful => {
            let delivered = supervisor.signal(Signal::TERM)?;
            if delivered {
                ask_until_heard(pod, supervisor)?;
            }
            delivered
        }
        Force::Kill => {
            if let Some(init) = pod.find_init() {
                init.signal(Signal::KILL)?;
            }
            supervisor.signal(Signal::KILL)?
        }
    };
    Ok(if delivered { Stopped::Requested } else { Stopped::Already })
}

/// Asks the pod's init itself until it stops the apps.
///
/// In the moment between the start of the supervisor and that of the pod's systemd, the kernel drops what the supervisor
/// passes on: a first process of its own process IDs gets no signal that it does not handle (pid_namespaces(7)). A second
/// SIGTERM would have the supervisor kill the pod. SIGWINCH has systemd stop (kbrequest.target), and does nothing to others.
fn ask_until_heard(pod: &Observed, supervisor: ProcessId) -> Result<(), SysError> {
    let statuses = Statuses::new(&pod.paths.stage1_root());
    let end = Instant::now() + HEARD;
    let mut ask = Instant::now() + ASK_AGAIN;
    while Instant::now() < end && supervisor.is_alive() && !statuses.is_stopping() {
        if Instant::now() >= ask {
            if let Some(init) = pod.find_init() {
                init.signal(Signal::WINCH)?;
            }
            ask = Instant::now() + ASK_AGAIN;
        }
        wait::pause(LOOK);
    }
    Ok(())
}
