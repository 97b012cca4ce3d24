//! What the apps of a pod find at and below their roots when it starts: overlays or copies, volumes, working directories.
//!
//! Sources are opened while this process still has the host's view; the mounts are in a namespace of its own and end with it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::app::{FROM_DOCKER, working_directory};
use super::etc::{self, AppRootWriter};
use super::layout::PodPaths;
use super::observe;
use super::volume::source::{self, Source, SourceError};
use super::volume::{self, VolumeError};
use crate::appc::pod_manifest::{PodManifest, RuntimeApp};
use crate::image::store::{Store, StoreError, TreeId};
use crate::os::mount::detached::DeviceNodes;
use crate::os::{Hint, SysError, mount};
use crate::stage1::plan::KernelPaths;
use crate::systemd::bus::Devices;

/// Why the apps have no roots.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// An app's tree is not what it was.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest's volumes make no sense.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A volume can't be mounted.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for RootsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Volume(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::Sys(error) => error.hint(),
        }
    }
}

/// What a pod was prepared with.
pub fn prepared_kernel_paths(paths: &PodPaths) -> KernelPaths {
    if paths.kernel_paths_open().exists() { KernelPaths::Open } else { KernelPaths::Protected }
}

/// Which device nodes a pod may open: the usual ones and its volumes, unless the user switched that off.
pub(super) fn devices(kernel_paths: KernelPaths, volumes: &[Source]) -> Devices {
    match kernel_paths {
        KernelPaths::Open => Devices::Any,
        KernelPaths::Protected => Devices::UsualAnd(source::allowed_devices(volumes)),
    }
}

/// What is mounted for the apps.
pub(super) enum AppMount {
    Overlay(mount::Overlay),
    /// A copy, mounted on itself so that device nodes in it can't be opened.
    OnItself(PathBuf),
}

/// What is to be mounted for the apps of `manifest`; their trees are what they were when they were made.
///
/// # Errors
/// When a tree is not, or is gone.
pub(super) fn mounts(
    paths: &PodPaths,
    manifest: &PodManifest,
    store: &Store,
) -> Result<Vec<AppMount>, RootsError> {
    let overlays = paths.overlay_prepared().exists();
    manifest
        .apps
        .iter()
        .map(|app| {
            let target = paths.app_root(&app.name);
            if !overlays {
                return Ok(AppMount::OnItself(target));
            }
            let tree = tree_of(paths, app)?;
            store.check_tree(&app.image.id, &tree)?;
            Ok(AppMount::Overlay(mount::Overlay {
                lower: store.tree_layers(&tree)?,
                upper: paths.overlay_upper(&tree, &app.name),
                work: paths.overlay_work(&tree, &app.name),
                target,
            }))
        })
        .collect()
}

fn tree_of(paths: &PodPaths, app: &RuntimeApp) -> Result<TreeId, SysError> {
    let file = paths.app_tree_id(&app.name);
    let text = std::fs::read_to_string(&file).map_err(SysError::on("reading", &file))?;
    let broken = || std::io::Error::new(std::io::ErrorKind::InvalidData, "no tree");
    text.trim().parse().map_err(|_| SysError::new("reading", &file, broken()))
}

/// Opens the volumes' sources while this process still has the host's view, and makes their mount points.
///
/// # Errors
/// When the manifest is damaged, a source is not there, or the kernel refuses.
pub(super) fn open_volumes(paths: &PodPaths, manifest: &PodManifest) -> Result<Vec<Source>, RootsError> {
    // A pod in a service has no device policy of ours: an app must not make itself a node in a volume.
    let devices = match prepared_kernel_paths(paths) {
        KernelPaths::Open => DeviceNodes::Usable,
        KernelPaths::Protected => DeviceNodes::Useless,
    };
    let sources = source::open(&volume::number(manifest)?.volumes, paths, devices)?;
    source::make_points(&sources, &paths.stage1_root())?;
    Ok(sources)
}

/// Opens the mounted roots, for who writes to them; `hostname` is the pod's.
///
/// # Errors
/// When one can't be opened.
pub(super) fn writers(
    paths: &PodPaths,
    manifest: &PodManifest,
    store: &Store,
    hostname: &str,
) -> Result<Vec<AppRootWriter>, SysError> {
    let root = |app: &RuntimeApp| {
        let image = store.view(&tree_of(paths, app)?)?;
        etc::app_root(&app.name, &paths.app_root(&app.name), image.path(), hostname)
    };
    manifest.apps.iter().map(root).collect()
}

/// Looks in the mounted roots whether each volume can be where it is wanted.
///
/// # Errors
/// The first that can't.
pub(super) fn check_mounts(
    manifest: &PodManifest,
    sources: &[Source],
    roots: &[AppRootWriter],
) -> Result<(), RootsError> {
    let volumes = volume::number(manifest)?;
    for ((app, mounts), root) in manifest.apps.iter().zip(&volumes.mounts).zip(roots) {
        let mounts = volume::resolve(&app.name, mounts, &volumes.volumes, &root.root)?;
        source::check(&app.name, &mounts, sources, &root.root)?;
    }
    Ok(())
}

/// Makes the directory in which an app of a Docker image starts, if the image has none: so does Docker, and its builders count
/// on it. An app of another image fails (spec pods.md 3.6).
///
/// # Errors
/// When the kernel refuses.
pub(super) fn make_working_directories(
    paths: &PodPaths,
    manifest: &PodManifest,
    roots: &[AppRootWriter],
) -> Result<(), SysError> {
    for (app, AppRootWriter { root, .. }) in manifest.apps.iter().zip(roots) {
        let image = observe::image_manifest(paths, &app.name);
        if image.is_none_or(|image| image.annotation(FROM_DOCKER).is_none()) {
            continue;
        }
        let Some(Ok(path)) = app.app.as_ref().map(working_directory) else { continue };
        // What is in the way, such as a link to nowhere, is told when the app starts.
        let is_missing = |error: &SysError| error.kind() == ErrorKind::NotFound;
        if root.metadata(Path::new(&path)).is_err_and(|error| is_missing(&error))
            && let Err(error) = root.ensure_dir(Path::new(&path), 0o755)
            && !is_missing(&error)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Enters the mount namespace that the pod gets from its supervisor, and mounts the apps' roots and volumes in there.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn isolate(mounts: &[AppMount], volumes: &[Source], paths: &PodPaths) -> Result<(), SysError> {
    mount::enter_own_namespace()?;
    mounts.iter().try_for_each(|mount| match mount {
        AppMount::Overlay(overlay) => mount::overlay(overlay),
        AppMount::OnItself(path) => mount::without_devices(path),
    })?;
    source::mount(volumes, &paths.stage1_root())
}
