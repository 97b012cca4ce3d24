//! The life of a pod on disk: which directory it is in, who holds its lock, and the moves between.
//!
//! A phase is a directory and a lock: `run/UUID` locked is running, unlocked is exited. No daemon remembers it, and
//! the kernel drops the lock of a process that dies. Each move is one rename(2), then an fsync(2) of both parents, so
//! that a crash leaves the old phase or the new one. A [`Pod`] that is dropped before its move is thrown away; what a
//! kill leaves behind is unlocked in `embryo`, `prepare` or `garbage`, and gc removes it.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::layout::{Place, PodPaths, pod_dir};
use crate::appc::pod_uuid::PodUuid;
use crate::os::{Hint, SysError, atomic, lock::Lock, mount, tree};

/// A phase: what is promised about a held pod.
pub trait Phase {}

/// Files are being written, nobody may look yet.
#[derive(Debug)]
pub enum Preparing {}
/// Complete, waiting for `run-prepared`.
#[derive(Debug)]
pub enum Prepared {}
/// Ended or never started; it can only be removed.
#[derive(Debug)]
pub enum Ended {}
impl Phase for Preparing {}
impl Phase for Prepared {}
impl Phase for Ended {}

/// A phase from which a pod can be started.
pub trait Startable: Phase {
    /// Where a pod that did not start goes.
    const ORIGIN: Origin;
}
impl Startable for Preparing {
    const ORIGIN: Origin = Origin::New;
}
impl Startable for Prepared {
    const ORIGIN: Origin = Origin::Prepared;
}

/// What a pod was before it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// New: one that does not start is removed.
    New,
    /// Prepared: one that does not start is prepared again.
    Prepared,
}

/// Why a pod can't be held or moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for MoveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Sys(error) => error.hint(),
        }
    }
}

/// The directory `pods/` of a data directory.
#[derive(Debug, Clone)]
pub struct PodsDir {
    root: PathBuf,
}

impl PodsDir {
    /// The pods of the data directory `data`, which may not exist yet.
    pub fn new(data: &Path) -> Self {
        Self { root: data.join("pods") }
    }

    /// Makes the directories that are missing: `pods/` and every place, 0700.
    ///
    /// # Errors
    /// When one can't be made.
    pub fn ensure(&self) -> Result<(), SysError> {
        let make = |path: &Path| match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(SysError::new("creating", path, cause))
            }
            _ => Ok(()),
        };
        make(&self.root)?;
        Place::ALL.iter().try_for_each(|place| make(&self.place(*place)))
    }

    /// The directory itself, which nobody holds but for a moment.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of `place`.
    pub fn place(&self, place: Place) -> PathBuf {
        self.root.join(place.dir_name())
    }

    /// The directory of the pod `uuid` in `place`, whether it is there or not.
    pub fn pod(&self, place: Place, uuid: &PodUuid) -> PathBuf {
        pod_dir(&self.root, place, uuid)
    }

    /// Lists the pods in `place` in the order of their UUIDs; what is named otherwise is no pod.
    ///
    /// # Errors
    /// When the directory exists and can't be read.
    pub fn uuids(&self, place: Place) -> Result<Vec<PodUuid>, SysError> {
        let path = self.place(place);
        let entries = match std::fs::read_dir(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(SysError::on("reading", &path))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(SysError::on("reading", &path))?.file_name();
            // A pod's name is the canonical text; anything else would be a second name for the same UUID.
            if let Some(uuid) = name.to_str().and_then(|text| Some((text, text.parse::<PodUuid>().ok()?)))
                && uuid.1.to_string() == uuid.0
            {
                found.push(uuid.1);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Makes a new pod and holds it.
    ///
    /// # Errors
    /// When a directory can't be made or moved; nothing is left then.
    pub fn create(&self) -> Result<Pod<Preparing>, MoveError> {
        self.ensure()?;
        loop {
            let uuid = PodUuid::new_random();
            let embryo = self.pod(Place::Embryo, &uuid);
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&embryo)
                .map_err(SysError::on("creating", &embryo))?;
            // Until it is locked, a gc takes it for what a kill has left: then it is gone, and another one is made.
            let Some(mut pod) = self.hold::<Preparing>(uuid, Place::Embryo)? else { continue };
            pod.discard_on_drop = true;
            pod.rename(Place::Prepare)?;
            return Ok(pod);
        }
    }

    /// Holds the prepared pod `uuid`; `None` means that it is not there, or that another process holds it.
    ///
    /// # Errors
    /// When its directory can't be opened.
    pub fn hold_prepared(&self, uuid: PodUuid) -> Result<Option<Pod<Prepared>>, MoveError> {
        self.hold(uuid, Place::Prepared)
    }

    /// Holds the pod `uuid` of `place` for removal; `None` means that it is not there (any more), or in use.
    ///
    /// # Errors
    /// When its directory can't be opened.
    pub fn hold_ended(&self, uuid: PodUuid, place: Place) -> Result<Option<Pod<Ended>>, MoveError> {
        self.hold(uuid, place)
    }

    fn hold<P: Phase>(&self, uuid: PodUuid, place: Place) -> Result<Option<Pod<P>>, MoveError> {
        let path = self.pod(place, &uuid);
        let lock = match Lock::try_past_readers(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        // It may have been moved between the open and the lock.
        Ok(lock.filter(|lock| lock.is_still_at(&path)).map(|lock| Pod::held(self, uuid, place, lock)))
    }
}

/// A pod that this process holds.
#[derive(Debug)]
#[must_use = "a pod that is being prepared is removed when dropped"]
pub struct Pod<P: Phase> {
    pods: PodsDir,
    uuid: PodUuid,
    place: Place,
    /// `None` once the lock was handed on.
    lock: Option<Lock>,
    discard_on_drop: bool,
    phase: PhantomData<P>,
}

impl<P: Phase> Pod<P> {
    fn held(pods: &PodsDir, uuid: PodUuid, place: Place, lock: Lock) -> Self {
        Self { pods: pods.clone(), uuid, place, lock: Some(lock), discard_on_drop: false, phase: PhantomData }
    }

    /// The pod's name.
    pub fn uuid(&self) -> &PodUuid {
        &self.uuid
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Its files.
    pub fn paths(&self) -> PodPaths {
        PodPaths::new(self.pods.pod(self.place, &self.uuid))
    }

    fn rename(&mut self, to: Place) -> Result<(), SysError> {
        let (from, target) = (self.pods.pod(self.place, &self.uuid), self.pods.pod(to, &self.uuid));
        std::fs::rename(&from, &target).map_err(SysError::on("renaming to", &target))?;
        // From here on the pod is in its new place, whatever the syncs say.
        let before = std::mem::replace(&mut self.place, to);
        atomic::sync_dir(&self.pods.place(to))?;
        atomic::sync_dir(&self.pods.place(before))
    }

    /// Moves the pod to the garbage and deletes it; when that stops halfway, gc goes on with it.
    ///
    /// # Errors
    /// When a file can't be removed.
    pub fn remove(mut self) -> Result<(), MoveError> {
        self.discard_on_drop = false;
        self.remove_now()
    }

    fn remove_now(&mut self) -> Result<(), MoveError> {
        if self.place != Place::Garbage {
            self.rename(Place::Garbage)?;
        }
        delete(&self.pods.pod(Place::Garbage, &self.uuid))?;
        atomic::sync_dir(&self.pods.place(Place::Garbage))?;
        Ok(())
    }
}

impl Pod<Preparing> {
    /// Makes all that was written durable and the pod ready for `run-prepared`.
    ///
    /// # Errors
    /// When a step is refused; the pod is removed then.
    pub fn into_prepared(mut self) -> Result<PodUuid, MoveError> {
        atomic::sync_filesystem(self.paths().dir())?;
        self.rename(Place::Prepared)?;
        self.discard_on_drop = false;
        Ok(self.uuid)
    }
}

impl<P: Startable> Pod<P> {
    /// Moves the pod to `run`, its lock held: from now on others see it running.
    ///
    /// What tells the pod apart, its manifest and its apps', was synced when it was written. The rest is not: after a power
    /// cut the pod has exited in any case, and nobody starts it again. A sync of the whole file system would make the
    /// start wait for what everybody else has written.
    ///
    /// # Errors
    /// When a step is refused; a new pod is removed then, and a prepared one stays prepared.
    pub fn into_running(mut self) -> Result<Running, MoveError> {
        atomic::sync_dir(self.paths().dir())?;
        match self.rename(Place::Run) {
            Ok(()) => Ok(self.start()),
            Err(error) => {
                if self.place == Place::Run {
                    // It is there, but not on disk: it is taken back.
                    drop(self.start());
                }
                Err(error.into())
            }
        }
    }

    fn start(&mut self) -> Running {
        self.discard_on_drop = false;
        Running { pods: self.pods.clone(), uuid: self.uuid, lock: self.lock.take(), origin: P::ORIGIN }
    }
}

impl Pod<Ended> {
    /// Marks an exited pod, which stays held: the grace period of gc counts from now.
    ///
    /// # Errors
    /// When the move is refused.
    pub fn mark(mut self) -> Result<Self, MoveError> {
        self.rename(Place::ExitedGarbage)?;
        Ok(self)
    }

    /// Moves the pod to the garbage, to be deleted by whoever comes next.
    ///
    /// # Errors
    /// When the move is refused.
    pub fn discard(mut self) -> Result<(), MoveError> {
        Ok(self.rename(Place::Garbage)?)
    }
}

impl<P: Phase> Drop for Pod<P> {
    fn drop(&mut self) {
        if self.discard_on_drop
            && let Err(error) = self.remove_now()
        {
            // The first error is on its way to the user; gc removes what is left.
            log::warn!("removing the unfinished pod {}: {error}", self.uuid);
        }
    }
}

/// Deletes the files of a pod, below which this process may have mounted the apps' roots already.
fn delete(dir: &Path) -> Result<(), SysError> {
    // Deepest first; nothing is deleted below a mount that stays.
    mount::mount_points_below(dir)?.iter().try_for_each(|point| mount::unmount(point))?;
    tree::remove(dir)
}

/// A pod in `run` whose supervisor this process is about to become.
///
/// Dropped before that, it is taken back: a new pod is removed, a prepared one is prepared again.
#[derive(Debug)]
#[must_use = "a pod that does not start is taken back when dropped"]
pub struct Running {
    pods: PodsDir,
    uuid: PodUuid,
    lock: Option<Lock>,
    origin: Origin,
}

impl Running {
    /// Its files.
    pub fn paths(&self) -> PodPaths {
        PodPaths::new(self.pods.pod(Place::Run, &self.uuid))
    }

    /// The pod's name.
    pub fn uuid(&self) -> &PodUuid {
        &self.uuid
    }

    /// Calls `exec` with the lock's descriptor, which the supervisor must inherit; returns only if that failed, and the
    /// pod is taken back then.
    pub fn hand_over(mut self, exec: impl FnOnce(&[OwnedFd]) -> SysError) -> SysError {
        let fds: Vec<OwnedFd> = self.lock.take().map(Lock::into_fd).into_iter().collect();
        let error = exec(&fds);
        self.take_back();
        drop(fds);
        error
    }

    /// Calls `start` with the lock's descriptor, which the supervisor that it starts must inherit; when that fails, the
    /// pod is taken back.
    ///
    /// # Errors
    /// That of `start`.
    pub fn hand_to<T, E>(mut self, start: impl FnOnce(&[OwnedFd]) -> Result<T, E>) -> Result<T, E> {
        let fds: Vec<OwnedFd> = self.lock.take().map(Lock::into_fd).into_iter().collect();
        let started = start(&fds);
        if started.is_err() {
            self.take_back();
        }
        started
    }

    fn take_back(&mut self) {
        let from = self.pods.pod(Place::Run, &self.uuid);
        let to = match self.origin {
            Origin::New => Place::Garbage,
            Origin::Prepared => Place::Prepared,
        };
        let target = self.pods.pod(to, &self.uuid);
        let taken_back =
            atomic::rename(&from, &target).map_err(MoveError::from).and_then(|()| match self.origin {
                Origin::New => Ok(delete(&target)?),
                Origin::Prepared => Ok(()),
            });
        if let Err(error) = taken_back {
            // The first error is on its way to the user; gc removes what is left.
            log::warn!("taking back the pod {}: {error}", self.uuid);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.lock.is_some() {
            self.take_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> (tempfile::TempDir, PodsDir) {
        let data = tempfile::tempdir().unwrap();
        let pods = PodsDir::new(data.path());
        (data, pods)
    }

    fn where_is(pods: &PodsDir, uuid: &PodUuid) -> Vec<Place> {
        Place::ALL.into_iter().filter(|place| pods.uuids(*place).unwrap().contains(uuid)).collect()
    }

    #[test]
    fn a_pod_is_in_one_place_after_each_move() {
        let (_data, pods) = pods();
        let new = pods.create().unwrap();
        let uuid = *new.uuid();
        assert_eq!(where_is(&pods, &uuid), [Place::Prepare]);
        new.into_prepared().unwrap();
        assert_eq!(where_is(&pods, &uuid), [Place::Prepared]);
        let running = pods.hold_prepared(uuid).unwrap().expect("free").into_running().unwrap();
        assert_eq!(where_is(&pods, &uuid), [Place::Run]);
        assert!(pods.hold_ended(uuid, Place::Run).unwrap().is_none(), "a running pod is locked");
        drop(running);
        assert_eq!(where_is(&pods, &uuid), [Place::Prepared], "a pod that did not start is prepared again");
    }

    #[test]
    fn a_gc_that_takes_embryos_for_left_over_disturbs_nobody() {
        let (_data, pods) = pods();
        pods.ensure().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for uuid in pods.uuids(Place::Embryo).unwrap() {
                        if let Some(pod) = pods.hold_ended(uuid, Place::Embryo).unwrap() {
                            pod.remove().unwrap();
                        }
                    }
                }
            });
            let made: Result<Vec<_>, _> = (0..300).map(|_| pods.create().map(drop)).collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            made.unwrap();
        });
        assert_eq!(Place::ALL.map(|place| pods.uuids(place).unwrap().len()), [0; 6]);
    }

    #[test]
    fn an_unfinished_pod_leaves_nothing() {
        let (_data, pods) = pods();
        let new = pods.create().unwrap();
        let uuid = *new.uuid();
        std::fs::write(new.paths().manifest(), "{}").unwrap();
        drop(new);
        assert_eq!(where_is(&pods, &uuid), []);
        let running = pods.create().unwrap().into_running().unwrap();
        let uuid = *running.uuid();
        drop(running);
        assert_eq!(where_is(&pods, &uuid), []);
    }

    #[test]
    fn an_ended_pod_is_marked_then_removed() {
        let (_data, pods) = pods();
        let uuid = pods.create().unwrap().into_prepared().unwrap();
        let marked = pods.hold_ended(uuid, Place::Prepared).unwrap().expect("free").mark().unwrap();
        assert_eq!(where_is(&pods, &uuid), [Place::ExitedGarbage]);
        assert!(
            pods.hold_ended(uuid, Place::ExitedGarbage).unwrap().is_none(),
            "it is held by who marked it"
        );
        drop(marked);
        pods.hold_ended(uuid, Place::ExitedGarbage).unwrap().expect("free").remove().unwrap();
        assert_eq!(where_is(&pods, &uuid), []);
    }
}
