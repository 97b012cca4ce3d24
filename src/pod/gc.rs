//! Removing pods: what has exited is marked, what has been marked long enough is deleted with everything it held.
//!
//! A pod is taken by its lock, so that nobody's running pod is touched. A killed supervisor frees the lock before its
//! payload is gone: the control group must be empty first. What can't be removed now stays in a place from which the
//! next pass goes on.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::layout::{Place, PodPaths};
use super::lifecycle::{Ended, MoveError, Pod, PodsDir};
use super::{network, observe};
use crate::appc::pod_uuid::PodUuid;
use crate::net::plugin::Search;
use crate::os::{Hint, SysError, cgroup, file};
use crate::stage1::plan::nspawn;
use crate::stage1::{journal, leftover};
use crate::systemd::bus::{BusError, SystemBus};
use crate::systemd::unit_name::UnitNameError;

/// How long the processes of a killed pod may take to vanish: its apps have 10 s from its systemd, and that some more.
const PAYLOAD_WAIT: Duration = Duration::from_secs(15);

/// Why a pod was not removed.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// Something is left of it.
    #[error("pod {0} still has processes in its control group")]
    Busy(PodUuid),
    /// A move or a deletion was refused.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// Its scope can't be ended.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A name that systemd does not take.
    #[error(transparent)]
    Name(#[from] UnitNameError),
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for GcError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Busy(uuid) => Some(format!("`machinectl terminate rkt-{uuid}` ends them")),
            Self::Move(error) => error.hint(),
            Self::Bus(error) => error.hint(),
            Self::Name(_) => None,
            Self::Sys(error) => error.hint(),
        }
    }
}

/// What a pass does with a pod, told as it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// An exited pod is marked.
    Marking(&'a PodUuid),
    /// A preparation that died is thrown away.
    FailedPrepare(&'a PodUuid),
    /// A prepared pod that nobody ran is thrown away.
    ExpiredPrepared(&'a PodUuid),
    /// A marked pod is too young to be deleted.
    InGracePeriod(&'a PodUuid),
    /// A pod is deleted.
    Collecting(&'a PodUuid),
    /// Something of a pod's networks can't be taken away; the pod is removed all the same.
    Network(String),
    /// Something went wrong with one pod; the pass goes on.
    Problem(&'a PodUuid, GcError),
}

/// Which pods a pass removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Time that must be over since a pod was marked.
    pub grace_period: Duration,
    /// Age at which a prepared pod is garbage.
    pub expire_prepared: Duration,
    /// Whether pods are only moved.
    pub mark_only: bool,
    /// The time.
    pub now: SystemTime,
    /// Where the plugins of networks are.
    pub search: Search,
}

/// Does one pass over all pods (spec cli.md 1.2.9).
///
/// # Errors
/// When a directory of pods can't be read; a problem with one pod is an event.
///
/// # Locking
/// Holds one pod at a time, exclusively; those that others hold are passed over in silence.
pub fn pass(pods: &PodsDir, pass: &Pass, mut tell: impl FnMut(Event<'_>)) -> Result<(), SysError> {
    for uuid in pods.uuids(Place::Run)? {
        each(pods, &uuid, Place::Run, &mut tell, |pod, tell| {
            tell(Event::Marking(&uuid));
            mark(pod, &pass.search, tell)
        });
    }
    for place in [Place::Embryo, Place::Prepare] {
        for uuid in pods.uuids(place)? {
            each(pods, &uuid, place, &mut tell, |pod, tell| {
                tell(Event::FailedPrepare(&uuid));
                Ok(pod.discard()?)
            });
        }
    }
    if pass.mark_only {
        return Ok(());
    }
    for uuid in pods.uuids(Place::Prepared)? {
        if age(&pods.pod(Place::Prepared, &uuid), pass.now, Clock::Created) < pass.expire_prepared {
            continue;
        }
        each(pods, &uuid, Place::Prepared, &mut tell, |pod, tell| {
            tell(Event::ExpiredPrepared(&uuid));
            Ok(pod.discard()?)
        });
    }
    for uuid in pods.uuids(Place::ExitedGarbage)? {
        if age(&pods.pod(Place::ExitedGarbage, &uuid), pass.now, Clock::Marked) < pass.grace_period {
            tell(Event::InGracePeriod(&uuid));
            continue;
        }
        each(pods, &uuid, Place::ExitedGarbage, &mut tell, |pod, tell| {
            tell(Event::Collecting(&uuid));
            delete(pod, &pass.search, |problem| tell(Event::Network(problem)))
        });
    }
    for uuid in pods.uuids(Place::Garbage)? {
        each(pods, &uuid, Place::Garbage, &mut tell, |pod, tell| {
            tell(Event::Collecting(&uuid));
            delete(pod, &pass.search, |problem| tell(Event::Network(problem)))
        });
    }
    Ok(())
}

/// Takes the pod, if nobody has it, and does `step` with it.
fn each<T: FnMut(Event<'_>)>(
    pods: &PodsDir,
    uuid: &PodUuid,
    place: Place,
    tell: &mut T,
    step: impl FnOnce(Pod<Ended>, &mut T) -> Result<(), GcError>,
) {
    let done = match pods.hold_ended(*uuid, place) {
        Ok(None) => Ok(()),
        Ok(Some(pod)) => step(pod, tell),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = done {
        tell(Event::Problem(uuid, error));
    }
}

/// Marks an exited pod; its journal stays where `journalctl -m` finds it.
fn mark(pod: Pod<Ended>, search: &Search, tell: &mut impl FnMut(Event<'_>)) -> Result<(), GcError> {
    wait_for_payload(&pod)?;
    network::detach(&pod, search, &mut |problem| tell(Event::Network(problem)));
    // Held until the link is made: another gc may delete the pod, link and all, as soon as it is free.
    let pod = pod.mark()?;
    journal::Link::make(pod.uuid(), &pod.paths().stage1_root())?.keep();
    Ok(())
}

/// Deletes a held pod with everything it still holds on the host; `tell` gets what can't be undone of its networks.
///
/// # Errors
/// When processes of it are left, or something can't be unmounted or removed; the next pass tries again.
pub fn delete(pod: Pod<Ended>, search: &Search, mut tell: impl FnMut(String)) -> Result<(), GcError> {
    wait_for_payload(&pod)?;
    network::detach(&pod, search, &mut tell);
    journal::unlink(pod.uuid())?;
    leftover::remove(&nspawn::machine_name(pod.uuid()), &pod.paths().stage1_root())?;
    Ok(pod.remove()?)
}

/// Tells whether no process of a held pod is left.
pub(super) fn is_payload_gone(pod: &Pod<Ended>) -> bool {
    payload_group(pod).is_ok_and(|group| group.is_none_or(|group| cgroup::wait_empty(&group, Instant::now())))
}

/// The control group that is the pod's alone.
fn payload_group(pod: &Pod<Ended>) -> Result<Option<String>, UnitNameError> {
    Ok(match file::read_text(&pod.paths().cgroup()) {
        Ok(group) if group.trim().ends_with(".scope") => Some(group.trim().to_owned()),
        // A service's group is the next pod's as well: systemd ends all of it before it starts the service again.
        Ok(_) => None,
        // The supervisor may have been killed between the request for its scope and the note of it.
        Err(_) => Some(format!("/machine.slice/{}", nspawn::scope_name(pod.uuid())?)),
    })
}

/// Waits until the pod's scope has no processes and systemd has no scope.
fn wait_for_payload(pod: &Pod<Ended>) -> Result<(), GcError> {
    let Some(group) = payload_group(pod)? else { return Ok(()) };
    if !cgroup::wait_empty(&group, Instant::now() + PAYLOAD_WAIT) {
        return Err(GcError::Busy(*pod.uuid()));
    }
    if cgroup::path(&group).exists() {
        // Most often systemd is just about to remove it.
        SystemBus::connect()?.stop_scope(&nspawn::scope_name(pod.uuid())?)?;
    }
    Ok(())
}

enum Clock {
    Created,
    Marked,
}

/// How old a pod is. A clock that was set back makes it young, never old.
fn age(dir: &Path, now: SystemTime, clock: Clock) -> Duration {
    let since = match clock {
        Clock::Created => observe::modified(&PodPaths::new(dir.to_owned()).created()),
        Clock::Marked => observe::changed(dir),
    };
    // A pod without the file is broken, and as old as can be.
    since.map_or(Duration::MAX, |since| now.duration_since(since).unwrap_or_default())
}
