//! Other processes' pods as they looked a moment ago: for `list` and `status`, never ground for a move.
//!
//! A reader takes no exclusive lock and waits for nobody. A pod that is moved meanwhile is looked at again; one whose
//! files are broken is reported as such and hides no other (spec cli.md 1.2.4).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::layout::{Place, PodPaths};
use super::lifecycle::PodsDir;
use super::volume::{self, Volumes};
use crate::appc::{
    image_id::ImageId, image_manifest::ImageManifest, name::AcName, pod_manifest::PodManifest,
    pod_uuid::PodUuid,
};
use crate::image::store::{Store, TreeId};
use crate::net::record::{Entry, Record};
use crate::os::lock::{Lock, Sharing};
use crate::os::mount::detached::Access;
use crate::os::process::ProcessId;
use crate::os::{Hint, SysError, file};
use crate::stage1::status::{AppEnd, Statuses};

/// How often a pod that keeps moving is looked at again: it has no more moves than this in its life.
const LOOKS: usize = 8;

/// The state of a pod: its place and whether somebody holds it (spec pods.md 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Just made.
    Embryo,
    /// Being prepared.
    Preparing,
    /// Its preparation died.
    AbortedPrepare,
    /// Ready for `run-prepared`.
    Prepared,
    /// Its supervisor lives.
    Running,
    /// Being deleted without having been marked.
    Deleting,
    /// Marked and being deleted.
    ExitedDeleting,
    /// Its supervisor has ended.
    Exited,
    /// Marked by gc.
    ExitedGarbage,
    /// To be deleted.
    Garbage,
}

impl State {
    fn of(place: Place, locked: bool) -> Self {
        match (place, locked) {
            (Place::Embryo, _) => Self::Embryo,
            (Place::Prepare, true) => Self::Preparing,
            (Place::Prepare, false) => Self::AbortedPrepare,
            (Place::Prepared, _) => Self::Prepared,
            (Place::Run, true) => Self::Running,
            (Place::Run, false) => Self::Exited,
            (Place::ExitedGarbage, true) => Self::ExitedDeleting,
            (Place::ExitedGarbage, false) => Self::ExitedGarbage,
            (Place::Garbage, true) => Self::Deleting,
            (Place::Garbage, false) => Self::Garbage,
        }
    }

    /// Tells whether there is something to wait for.
    fn runs_or_will_run(self) -> bool {
        match self {
            Self::Embryo | Self::Preparing | Self::Prepared | Self::Running => true,
            Self::AbortedPrepare
            | Self::Deleting
            | Self::ExitedDeleting
            | Self::Exited
            | Self::ExitedGarbage
            | Self::Garbage => false,
        }
    }

    /// Tells whether a pod without a manifest is broken: one that is only being made or removed is not.
    fn promises_manifest(self) -> bool {
        match self {
            Self::Prepared | Self::Running | Self::Exited | Self::ExitedGarbage | Self::ExitedDeleting => {
                true
            }
            Self::Embryo | Self::Preparing | Self::AbortedPrepare | Self::Deleting | Self::Garbage => false,
        }
    }

    /// The word that `list` and `status` print.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embryo => "embryo",
            Self::Preparing => "preparing",
            Self::AbortedPrepare => "aborted prepare",
            Self::Prepared => "prepared",
            Self::Running => "running",
            Self::Deleting => "deleting",
            Self::ExitedDeleting => "exited deleting",
            Self::Exited => "exited",
            Self::ExitedGarbage => "exited garbage",
            Self::Garbage => "garbage",
        }
    }

    /// Tells whether the pod has ended after it was started.
    pub fn has_exited(self) -> bool {
        matches!(self, Self::Exited | Self::ExitedGarbage | Self::ExitedDeleting)
    }
}

/// Why a text names no pod.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No text.
    #[error("UUID cannot be empty")]
    Empty,
    /// No pod's name begins so.
    #[error("no matches found for {0:?}")]
    NoMatch(String),
    /// Several do.
    #[error("ambiguous uuid, {0} matches")]
    Ambiguous(usize),
    /// A directory can't be read.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for ResolveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoMatch(_) | Self::Empty => {
                Some("`rkt list --full` shows the pods and their whole UUIDs".into())
            }
            Self::Ambiguous(_) => Some("give more digits; `rkt list --full` shows the whole UUIDs".into()),
            Self::Sys(error) => hint_of(error),
        }
    }
}

/// The directories of pods are closed, also to the group that may fetch images: what is in them may be secret.
fn hint_of(error: &SysError) -> Option<String> {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Some("only root may look at pods".into()),
        _ => error.hint(),
    }
}

/// Why a pod's files can't be believed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// It is not there (any more).
    #[error("pod {0} is gone")]
    Gone(PodUuid),
    /// A file can't be read.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The manifest is damaged.
    #[error("pod {uuid} has no valid manifest: {reason}")]
    Manifest {
        /// The pod.
        uuid: PodUuid,
        /// What is wrong.
        reason: String,
    },
}

impl Hint for ObserveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Gone(_) => None,
            Self::Sys(error) => hint_of(error),
            Self::Manifest { uuid, .. } => Some(format!("`rkt rm {uuid}` removes it")),
        }
    }
}

/// An app of an observed pod.
#[derive(Debug, Clone)]
pub struct ObservedApp {
    /// Its name in the pod.
    pub name: AcName,
    /// `NAME[:VERSION]` by the image manifest; `None` when that can't be read.
    pub image_name: Option<String>,
    /// Its image.
    pub image_id: ImageId,
    /// The fingerprint of the key that had signed the image when the pod was prepared.
    pub image_signer: Option<String>,
    /// How it ended, if it did.
    pub end: Option<AppEnd>,
    /// The volumes that it sees.
    pub mounts: Vec<ObservedMount>,
    /// The user's annotations, from the pod manifest.
    pub user_annotations: Vec<(String, String)>,
    /// The user's labels, from the pod manifest.
    pub user_labels: Vec<(String, String)>,
}

/// A volume at a path of an observed app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedMount {
    /// The volume's name.
    pub name: AcName,
    /// The path in the app.
    pub container_path: PathBuf,
    /// Its source.
    pub host_path: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// A pod as it looked.
#[derive(Debug)]
pub struct Observed {
    /// Its name.
    pub uuid: PodUuid,
    /// Its state.
    pub state: State,
    /// Where its files were.
    pub paths: PodPaths,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// When its supervisor started.
    pub started: Option<SystemTime>,
    /// When gc marked it.
    pub marked: Option<SystemTime>,
    /// Its supervisor.
    pub supervisor: Option<ProcessId>,
    /// Its networks, in the order of its interfaces; they stay when it has exited.
    pub networks: Vec<Entry>,
    /// Its apps, in the manifest's order.
    pub apps: Result<Vec<ObservedApp>, ObserveError>,
}

impl Observed {
    /// The pod's init as the host numbers it, while it runs.
    pub fn find_init(&self) -> Option<ProcessId> {
        if self.state != State::Running {
            return None;
        }
        self.supervisor?.find_first_child()
    }

    /// Its networks and addresses, as `list` and `status` print them (spec network.md 4.8).
    pub fn networks(&self) -> String {
        let shown = self.networks.iter().map(|network| format!("{}:ip4={}", network.net_name, network.ip));
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Tells whether every app that reports readiness has done so.
    pub fn is_ready(&self) -> bool {
        self.state == State::Running && Statuses::new(&self.paths.stage1_root()).is_ready()
    }
}

/// Finds the one pod whose UUID is or begins with `text`.
///
/// # Errors
/// When none or several do.
pub fn resolve(pods: &PodsDir, text: &str) -> Result<PodUuid, ResolveError> {
    if text.is_empty() {
        return Err(ResolveError::Empty);
    }
    let prefix = text.to_lowercase();
    let mut found = Vec::new();
    for place in Place::NAMED {
        found.extend(pods.uuids(place)?.into_iter().filter(|uuid| uuid.to_string().starts_with(&prefix)));
    }
    found.sort();
    // A pod that moves while the places are read is met twice.
    found.dedup();
    match found.len() {
        0 => Err(ResolveError::NoMatch(shortened(text))),
        1 => Ok(found.remove(0)),
        several => Err(ResolveError::Ambiguous(several)),
    }
}

/// As much of a text as may be a UUID: `--uuid-file` may have named any file.
fn shortened(text: &str) -> String {
    const LENGTH: usize = 36;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Looks at the pod `uuid`.
///
/// # Errors
/// When it is nowhere, or can't be opened. Damage inside it is part of the answer.
pub fn pod(pods: &PodsDir, uuid: &PodUuid) -> Result<Observed, ObserveError> {
    for _ in 0..LOOKS {
        for place in Place::ALL {
            let path = pods.pod(place, uuid);
            let free = match Lock::try_on(&path, Sharing::Shared) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let observed = look(uuid, place, free.is_none(), PodPaths::new(path.clone()));
            if std::fs::symlink_metadata(&path).is_ok() {
                return Ok(observed);
            }
        }
    }
    Err(ObserveError::Gone(*uuid))
}

/// Looks at every pod that has a name, in the order of the UUIDs, and collects those that can't be looked at.
///
/// # Errors
/// When a directory of pods can't be read.
pub fn all(pods: &PodsDir) -> Result<(Vec<Observed>, Vec<ObserveError>), ObserveError> {
    let mut uuids = Vec::new();
    for place in Place::NAMED {
        uuids.extend(pods.uuids(place)?);
    }
    uuids.sort();
    uuids.dedup();
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    for uuid in uuids {
        match pod(pods, &uuid) {
            // Since its name was read it was moved to where pods have none.
            Ok(Observed { state: State::Embryo | State::Deleting | State::Garbage, .. })
            | Err(ObserveError::Gone(_)) => {}
            Ok(observed) => found.push(observed),
            Err(error) => broken.push(error),
        }
    }
    Ok((found, broken))
}

/// Waits until the pod is not running any more; false when `deadline` passed first.
///
/// # Errors
/// When the pod can't be looked at.
pub fn wait_exited(pods: &PodsDir, uuid: &PodUuid, deadline: Option<Instant>) -> Result<bool, ObserveError> {
    wait(pods, uuid, deadline, |observed| !observed.state.runs_or_will_run())
}

/// Waits until the pod is ready, or can't become ready any more; false when `deadline` passed first.
///
/// # Errors
/// When the pod can't be looked at.
pub fn wait_ready(pods: &PodsDir, uuid: &PodUuid, deadline: Option<Instant>) -> Result<bool, ObserveError> {
    wait(pods, uuid, deadline, |observed| observed.is_ready() || !observed.state.runs_or_will_run())
}

fn wait(
    pods: &PodsDir,
    uuid: &PodUuid,
    deadline: Option<Instant>,
    reached: impl Fn(&Observed) -> bool,
) -> Result<bool, ObserveError> {
    // The step of rkt 1.30 (spec cli.md 1.2.5): the files of a pod give no event that covers every move.
    const STEP: Duration = Duration::from_millis(100);
    loop {
        let observed = match pod(pods, uuid) {
            // Removed: it will never run again.
            Err(ObserveError::Gone(_)) => return Ok(true),
            other => other?,
        };
        if reached(&observed) {
            return Ok(true);
        }
        let now = Instant::now();
        if deadline.is_some_and(|end| now >= end) {
            return Ok(false);
        }
        let step = deadline.map_or(STEP, |end| STEP.min(end - now));
        match observed.supervisor {
            Some(supervisor) if observed.state == State::Running && !observed.is_ready() => {
                supervisor.wait_end(STEP.min(step));
            }
            Some(supervisor) if observed.state == State::Running => {
                supervisor.wait_end(deadline.map_or(STEP * 10, |end| end - now));
            }
            _ => crate::os::wait::pause(step),
        }
    }
}

fn look(uuid: &PodUuid, place: Place, locked: bool, paths: PodPaths) -> Observed {
    let has_started = matches!(place, Place::Run | Place::ExitedGarbage | Place::Garbage);
    let supervisor: Option<ProcessId> =
        file::read_text(&paths.supervisor()).ok().and_then(|text| text.parse().ok());
    // One that has exited is held for a moment by who takes its networks away, or marks it.
    let runs = place != Place::Run || supervisor.is_none_or(ProcessId::is_alive);
    let state = State::of(place, locked && runs);
    Observed {
        uuid: *uuid,
        state,
        created: modified(&paths.created()),
        started: has_started.then(|| modified(&paths.supervisor())).flatten(),
        marked: matches!(place, Place::ExitedGarbage | Place::Garbage)
            .then(|| changed(paths.dir()))
            .flatten(),
        supervisor,
        networks: if has_started {
            Record::new(paths.dir()).entries().unwrap_or_default()
        } else {
            Vec::new()
        },
        apps: apps(uuid, state, &paths),
        paths,
    }
}

/// The modification time of `path`.
pub(super) fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::symlink_metadata(path).and_then(|found| found.modified()).ok()
}

/// The inode change time of `path`: a rename sets it, nothing sets it back.
pub(super) fn changed(path: &Path) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::symlink_metadata(path).ok()?;
    let seconds = u64::try_from(found.ctime()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn apps(uuid: &PodUuid, state: State, paths: &PodPaths) -> Result<Vec<ObservedApp>, ObserveError> {
    let manifest = match manifest(uuid, paths) {
        // It is the last file of a preparation, and no loss where all is being removed.
        Err(_) if !state.promises_manifest() => return Ok(Vec::new()),
        read => read?,
    };
    let statuses = Statuses::new(&paths.stage1_root());
    // A manifest whose mounts name no volumes never comes to be a pod's.
    let volumes = volume::number(&manifest).unwrap_or_default();
    Ok(manifest
        .apps
        .iter()
        .enumerate()
        .map(|(index, app)| ObservedApp {
            mounts: mounts(&volumes, index, paths),
            image_name: image_name(paths, &app.name),
            image_id: app.image.id,
            image_signer: file::read_text(&paths.app_signer(&app.name)).ok(),
            end: matches!(
                state,
                State::Running | State::Exited | State::ExitedGarbage | State::ExitedDeleting
            )
            .then(|| statuses.of(&app.name))
            .flatten(),
            user_annotations: pairs(app.app.as_ref().map(|app| &app.user_annotations)),
            user_labels: pairs(app.app.as_ref().map(|app| &app.user_labels)),
            name: app.name.clone(),
        })
        .collect())
}

fn mounts(volumes: &Volumes, app: usize, paths: &PodPaths) -> Vec<ObservedMount> {
    let of_app = volumes.mounts.get(app).into_iter().flatten();
    of_app
        .map(|mount| {
            let volume = &volumes.volumes[mount.volume];
            ObservedMount {
                name: volume.name.clone(),
                container_path: volume::target(&mount.path),
                host_path: volume::source::host_path(volume, paths),
                read_only: volume.access == Access::ReadOnly,
            }
        })
        .collect()
}

fn pairs(map: Option<&std::collections::BTreeMap<String, String>>) -> Vec<(String, String)> {
    map.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Reads the manifest by which an observed pod runs.
///
/// # Errors
/// When it can't be read or is damaged.
pub fn manifest(uuid: &PodUuid, paths: &PodPaths) -> Result<PodManifest, ObserveError> {
    let bytes = match file::read(&paths.reified_manifest()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => file::read(&paths.manifest())?,
        read => read?,
    };
    PodManifest::from_json(&bytes)
        .map_err(|error| ObserveError::Manifest { uuid: *uuid, reason: error.to_string() })
}

/// Reads the manifest of an observed pod as the user gave it, if the user gave one.
///
/// # Errors
/// When it can't be read.
pub fn given_manifest(paths: &PodPaths) -> Result<Option<Vec<u8>>, ObserveError> {
    let was_given = std::fs::symlink_metadata(paths.reified_manifest()).is_ok();
    Ok(was_given.then(|| file::read(&paths.manifest())).transpose()?)
}

/// Reads the manifest of the image of an app of an observed pod, if that is whole.
pub fn image_manifest(paths: &PodPaths, app: &AcName) -> Option<ImageManifest> {
    let bytes = file::read(&paths.app_image_manifest(app)).ok()?;
    ImageManifest::from_json(&bytes).ok()
}

fn image_name(paths: &PodPaths, app: &AcName) -> Option<String> {
    let manifest = image_manifest(paths, app)?;
    Some(match manifest.label("version") {
        Some(version) => format!("{}:{version}", manifest.name),
        None => manifest.name.to_string(),
    })
}

/// The trees below the apps of every pod that is not garbage: what a collection of trees must leave (spec cli.md 1.3.4).
///
/// # Errors
/// When a directory of pods can't be read.
pub fn trees_in_use(pods: &PodsDir) -> Result<BTreeSet<TreeId>, SysError> {
    let mut in_use = BTreeSet::new();
    // In the order in which a pod moves, so that none is passed over; a start that failed moves one back to prepared.
    for place in Place::NAMED.into_iter().chain([Place::Prepared]) {
        for uuid in pods.uuids(place)? {
            in_use.extend(trees_of(&pods.pod(place, &uuid)));
        }
    }
    Ok(in_use)
}

/// The trees that a pod's files name.
fn trees_of(dir: &Path) -> BTreeSet<TreeId> {
    let apps = std::fs::read_dir(dir.join("appsinfo")).into_iter().flatten().flatten();
    let read = |app: std::fs::DirEntry| file::read_text(&app.path().join("treeStoreID")).ok();
    apps.filter_map(|app| read(app)?.trim().parse().ok()).collect()
}

/// The running pods with an app on this tree.
///
/// # Errors
/// When the directory of running pods can't be read.
pub fn running_on(pods: &PodsDir, tree: &TreeId) -> Result<Vec<PodUuid>, SysError> {
    let mut uuids = pods.uuids(Place::Run)?;
    uuids.retain(|uuid| {
        pod(pods, uuid)
            .is_ok_and(|pod| pod.state == State::Running && trees_of(pod.paths.dir()).contains(tree))
    });
    Ok(uuids)
}

/// The images of running and prepared pods, and those below them, each with one of the pods.
///
/// # Errors
/// When a directory of pods can't be read.
pub fn images_in_use(pods: &PodsDir, store: &Store) -> Result<BTreeMap<ImageId, PodUuid>, SysError> {
    let mut in_use = BTreeMap::new();
    // A pod moves from the first to the second; a start that failed moves one back.
    for place in [Place::Prepared, Place::Run, Place::Prepared] {
        for uuid in pods.uuids(place)? {
            let Ok(Observed { state: State::Running | State::Prepared, apps, paths, .. }) = pod(pods, &uuid)
            else {
                continue;
            };
            let below = trees_of(paths.dir()).into_iter().flat_map(|tree| store.tree_images(&tree));
            let images = apps.into_iter().flatten().map(|app| app.image_id).chain(below);
            in_use.extend(images.map(|image| (image, uuid)));
        }
    }
    Ok(in_use)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_uuid_is_shown_on_one_line_and_not_whole() {
        let data = tempfile::tempdir().unwrap();
        let pods = PodsDir::new(data.path());
        for (text, expected) in [
            ("12ab", "no matches found for \"12ab\""),
            ("root:x:0:0\nbin:x:1:1\u{1b}", "no matches found for \"root:x:0:0\\nbin:x:1:1\\u{1b}\""),
            (&"y".repeat(50), &format!("no matches found for \"{}…\"", "y".repeat(36))),
        ] {
            assert_eq!(resolve(&pods, text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_pod_whose_manifest_was_given_is_what_the_reified_one_says() {
        let data = tempfile::tempdir().unwrap();
        let new = PodsDir::new(data.path()).create().unwrap();
        let (uuid, paths) = (*new.uuid(), new.paths());
        let own = PodManifest::new("0.8.11".parse().unwrap());
        std::fs::write(paths.manifest(), format!(" {}", own.to_json())).unwrap();
        assert_eq!(manifest(&uuid, &paths).unwrap(), own);
        assert_eq!(given_manifest(&paths).unwrap(), None);

        let reified = PodManifest { ac_version: "1.0.0".parse().unwrap(), ..own.clone() };
        std::fs::write(paths.reified_manifest(), reified.to_json()).unwrap();
        assert_eq!(manifest(&uuid, &paths).unwrap(), reified);
        assert_eq!(given_manifest(&paths).unwrap(), Some(format!(" {}", own.to_json()).into_bytes()));
        std::fs::write(paths.reified_manifest(), "").unwrap();
        assert!(manifest(&uuid, &paths).is_err(), "a damaged one is never passed over");
    }

    #[test]
    fn a_pod_that_is_being_prepared_is_listed_without_apps_and_is_not_broken() {
        let data = tempfile::tempdir().unwrap();
        let pods = PodsDir::new(data.path());
        let new = pods.create().unwrap();
        for half_written in [None, Some("")] {
            if let Some(text) = half_written {
                std::fs::write(new.paths().manifest(), text).unwrap();
            }
            let (found, broken) = all(&pods).unwrap();
            assert!(broken.is_empty());
            assert_eq!(found.iter().map(|pod| pod.state).collect::<Vec<_>>(), [State::Preparing]);
            assert!(matches!(found[0].apps.as_deref(), Ok([])));
        }
        let uuid = new.into_prepared().unwrap();
        assert!(pod(&pods, &uuid).unwrap().apps.is_err(), "a prepared pod has a manifest");
    }
}
