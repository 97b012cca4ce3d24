//! From images and wishes to a pod that only needs to be started: its manifest, its apps' roots, its systemd's root.
//!
//! Everything is written below a directory that nobody else looks into yet; a failure removes it whole.

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::app::{self, AppError, Capabilities, FROM_DOCKER, Seccomp};
use super::draft::{Content, Draft, DraftApp, left_out};
use super::given::GivenError;
use super::layout::PodPaths;
use super::lifecycle::{Pod, Preparing};
use super::port::{self, PortError};
use super::volume::{self, Implicit, VolumeError, empty};
use crate::appc::image_manifest::ImageManifest;
use crate::appc::name::AcName;
use crate::appc::pod_manifest::PodManifest;
use crate::image::store::{Store, StoreError, TreeId, TreeView};
use crate::os::{Hint, SysError, atomic, cgroup, interrupt, mount, root::Root, tree};
use crate::stage1::plan::{self, AppSpec, HostName, KernelPaths, PlanError, PodSpec, UnitPlanError};
use crate::stage1::root;
use crate::systemd::unit::name::VariableName;

/// Where apps get their root from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// The shared tree with a writable layer of the pod on top.
    Overlay,
    /// A copy of the tree.
    Copy,
}

/// What protections the user switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restrictions {
    /// Bounding sets.
    pub capabilities: Capabilities,
    /// Kernel paths and device nodes.
    pub kernel_paths: KernelPaths,
    /// System call filters.
    pub seccomp: Seccomp,
}

/// A pod as the user wants it.
#[derive(Debug, Clone)]
pub struct PodRequest {
    /// What is in it.
    pub content: Content,
    /// How their roots are made.
    pub roots: Roots,
    /// What they are not protected from.
    pub restrictions: Restrictions,
    /// Its host name; by default `rkt-UUID`.
    pub hostname: Option<HostName>,
}

/// Why a pod can't be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The manifest that the user gave is no pod.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// An image is not what an app needs.
    #[error(transparent)]
    App(#[from] AppError),
    /// The store has not got it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two apps of one name.
    #[error("error: multiple apps with name {0}")]
    SameName(AcName),
    /// No app.
    #[error("pod must contain at least one application")]
    Empty,
    /// A port can't be forwarded.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A volume can't be where it is wanted.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A value that systemd can't carry.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The image has something else where a kernel file system goes.
    #[error("image {image} has no directory at /{name}, where a kernel file system goes, but something else")]
    InTheWay {
        /// The image.
        image: String,
        /// `proc`, `sys`, …
        name: &'static str,
    },
    /// What was asked for can't be written down.
    #[error("what is asked for makes no valid {0}")]
    Manifest(String),
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for PrepareError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Given(error) => error.hint(),
            Self::App(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Port(error) => error.hint(),
            Self::Volume(error) => error.hint(),
            Self::SameName(_) => Some("give one of them another name with --name".into()),
            Self::Sys(error) => error.hint(),
            Self::Plan(PlanError::Unit(UnitPlanError::LongName(_))) => {
                Some("give it a shorter name with --name".into())
            }
            Self::Empty | Self::Interrupted | Self::Plan(_) | Self::InTheWay { .. } | Self::Manifest(_) => {
                None
            }
        }
    }
}

/// An app with what is below it.
struct Prepared {
    manifest: ImageManifest,
    manifest_bytes: Vec<u8>,
    signer: Option<String>,
    tree: TreeId,
    /// Its root file system as the app will see it, while `view` is there.
    tree_rootfs: PathBuf,
    _view: TreeView,
    spec: AppSpec,
    /// Empty volumes that nobody asked for.
    implicit: Vec<Implicit>,
}

/// Fills the new pod `pod`, and returns what the user should know about it.
///
/// # Errors
/// When an image, a value or the disk does not allow it; dropping the pod then removes all of it.
///
/// # Locking
/// Holds the store shared against the collection of trees until the pod says which it uses.
pub fn fill(pod: &Pod<Preparing>, store: &Store, request: &PodRequest) -> Result<Vec<String>, PrepareError> {
    let _trees_stay = store.hold()?;
    let paths = pod.paths();
    let created = paths.created();
    std::fs::write(&created, "").map_err(SysError::on("creating", &created))?;
    let Draft { mut manifest, apps: drafts, mut notices } = request.content.draft(store)?;
    if manifest.apps.is_empty() {
        return Err(PrepareError::Empty);
    }
    let mut apps = Vec::new();
    let PodManifest { apps: runtimes, volumes, .. } = &mut manifest;
    for (runtime, DraftApp { image, mounts, granted_by }) in runtimes.iter_mut().zip(drafts) {
        let id = runtime.image.id;
        stop_if_interrupted()?;
        let tree = store.ensure_tree(&id)?;
        let view = store.view(&tree)?;
        let tree_rootfs = view.path().to_owned();
        let root = Root::open(&tree_rootfs)?;
        // A path that can't be followed is told when it is resolved.
        let real = |path: &Path| root.real_path(path).unwrap_or_else(|_| path.to_owned());
        let implicit = volume::bind(runtime, &mounts, volumes, real);
        notices.extend(implicit.iter().map(|implicit| volume::notice(&runtime.name, implicit)));
        let restrictions = (request.restrictions.capabilities, request.restrictions.seccomp);
        let mut spec = app::spec(runtime, &image, &root, restrictions)?;
        notices.extend(app::notices(runtime, granted_by, restrictions));
        notices.extend(leave_out_what_can_not_be(&mut spec));
        let manifest_bytes = store.manifest_bytes(&id)?;
        let signer = store.signer(&id)?;
        store.used(&id)?;
        apps.push(Prepared {
            manifest: image,
            manifest_bytes,
            signer,
            tree,
            tree_rootfs,
            _view: view,
            spec,
            implicit,
        });
    }
    manifest.ports = port::expose(&manifest.ports, &manifest.apps)?;
    volume::part(&mut manifest);
    let volumes = volume::number(&manifest)?;
    for (app, mounts) in apps.iter_mut().zip(&volumes.mounts) {
        let root = Root::open(&app.tree_rootfs)?;
        app.spec.mounts = volume::resolve(&app.spec.name, mounts, &volumes.volumes, &root)?;
    }

    let roots = match (request.roots, mount::overlay_problem(paths.dir())) {
        (Roots::Overlay, Some(problem)) => {
            notices.push(format!("disabling overlay support: \"{problem}\""));
            Roots::Copy
        }
        (wanted, _) => wanted,
    };
    if roots == Roots::Copy {
        // A tree that the pod lays its own layer over is looked at when it starts.
        manifest
            .apps
            .iter()
            .zip(&apps)
            .try_for_each(|(app, of)| store.check_tree(&app.image.id, &of.tree))?;
    }
    let spec = PodSpec {
        uuid: *pod.uuid(),
        hostname: request.hostname.clone().unwrap_or_else(|| HostName::of(pod.uuid())),
        os_release: os_release()?,
        apps: apps.iter().map(|app| app.spec.clone()).collect(),
        kernel_paths: request.restrictions.kernel_paths,
    };
    let entries = plan::entries(&spec)?;
    let stage1 = paths.stage1_root();
    make_dirs(&stage1)?;
    // The pod's `/`, through which users other than root reach the journal; the directories above stay closed.
    std::fs::set_permissions(&stage1, Permissions::from_mode(0o755))
        .map_err(SysError::on("changing the mode of", &stage1))?;
    root::write(&stage1, &entries)?;
    for app in &apps {
        remember(&paths, app)?;
        stop_if_interrupted()?;
        make_root(&paths, app, roots)?;
    }
    empty::make(&volumes.volumes, &paths)?;
    for app in apps.iter().filter(|app| app.manifest.annotation(FROM_DOCKER).is_some()) {
        stop_if_interrupted()?;
        empty::fill_from_image(&app.implicit, &Root::open(&app.tree_rootfs)?, &paths)?;
    }
    let restrictions = request.restrictions;
    for (holds, mark) in [
        (roots == Roots::Overlay, paths.overlay_prepared()),
        (restrictions.capabilities == Capabilities::Unbounded, paths.unbounded()),
        (restrictions.kernel_paths == KernelPaths::Open, paths.kernel_paths_open()),
    ] {
        if holds {
            std::fs::write(&mark, "").map_err(SysError::on("creating", &mark))?;
        }
    }
    stop_if_interrupted()?;
    let text = manifest.to_json();
    PodManifest::from_json(text.as_bytes()).map_err(|error| PrepareError::Manifest(error.to_string()))?;
    let bytes = match request.content.given() {
        Some(given) => {
            atomic::write_synced(&paths.reified_manifest(), text.as_bytes(), 0o640)?;
            given.bytes()
        }
        None => text.as_bytes(),
    };
    // The manifest comes last: a pod that has one has everything else.
    atomic::write_synced(&paths.manifest(), bytes, 0o640)?;
    Ok(notices)
}

/// Takes out of `app` what this host's systemd or kernel can't give it, and says so.
fn leave_out_what_can_not_be(app: &mut AppSpec) -> Vec<String> {
    let mut notices = Vec::new();
    app.environment.retain(|(name, _)| {
        let possible = name.parse::<VariableName>().is_ok();
        if !possible {
            notices.push(left_out(&app.name, name));
        }
        possible
    });
    let disabled = |resource: &str| {
        format!("warning: {resource} isolator set but support disabled in the kernel, skipping")
    };
    if app.memory_max.is_some() && !cgroup::has_controller("memory") {
        app.memory_max = None;
        notices.push(disabled("resource/memory"));
    }
    let has_cpu = || cgroup::has_controller("cpu");
    if app.cpu_millicores.is_some() && !has_cpu() {
        app.cpu_millicores = None;
        notices.push(disabled("resource/cpu"));
    }
    if app.cpu_weight.is_some() && !has_cpu() {
        app.cpu_weight = None;
        notices.push(disabled("os/linux/cpu-shares"));
    }
    notices
}

fn stop_if_interrupted() -> Result<(), PrepareError> {
    if interrupt::has_arrived() { Err(PrepareError::Interrupted) } else { Ok(()) }
}

/// The host's os-release(5), whose /usr is the pod's.
fn os_release() -> Result<String, SysError> {
    const PATH: &str = "/usr/lib/os-release";
    std::fs::read_to_string(PATH).map_err(SysError::on("reading", PATH))
}

fn remember(paths: &PodPaths, app: &Prepared) -> Result<(), SysError> {
    let name = &app.spec.name;
    make_dirs(&paths.app_info(name))?;
    atomic::write_synced(&paths.app_image_manifest(name), &app.manifest_bytes, 0o640)?;
    if let Some(signer) = &app.signer {
        atomic::write_synced(&paths.app_signer(name), signer.as_bytes(), 0o640)?;
    }
    atomic::write_synced(&paths.app_tree_id(name), app.tree.to_string().as_bytes(), 0o640)
}

fn make_root(paths: &PodPaths, app: &Prepared, roots: Roots) -> Result<(), PrepareError> {
    let name = &app.spec.name;
    match roots {
        Roots::Overlay => {
            let upper = paths.overlay_upper(&app.tree, name);
            make_dirs(&upper)?;
            make_dirs(&paths.overlay_work(&app.tree, name))?;
            copy_owner_and_mode(&app.tree_rootfs, &upper)?;
            kernel_dirs(app, &upper)
        }
        Roots::Copy => {
            let root = paths.app_root(name);
            // The plan has made it as a mount point; the copy makes it itself.
            std::fs::remove_dir(&root).map_err(SysError::on("removing", &root))?;
            tree::copy(&app.tree_rootfs, &root)?;
            kernel_dirs(app, &root)
        }
    }
}

/// Makes the directories that every app has in `to`, where its image has none (spec pods.md 3.7).
///
/// What an image puts there must be a real directory: a link would lead the mounts of kernel file systems elsewhere.
fn kernel_dirs(app: &Prepared, to: &Path) -> Result<(), PrepareError> {
    for (name, mode) in [("proc", 0o755), ("sys", 0o755), ("dev", 0o755), ("run", 0o755), ("tmp", 0o1777)] {
        let in_tree = app.tree_rootfs.join(name);
        match std::fs::symlink_metadata(&in_tree) {
            Ok(found) if found.is_dir() || name == "tmp" => {}
            Ok(_) => return Err(PrepareError::InTheWay { image: app.manifest.name.to_string(), name }),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                make_dir(&to.join(name), mode)?;
            }
            Err(cause) => return Err(SysError::new("looking at", &in_tree, cause).into()),
        }
    }
    Ok(())
}

/// The root of an overlay has the owner and mode of its upper directory.
fn copy_owner_and_mode(from: &Path, to: &Path) -> Result<(), SysError> {
    let found = std::fs::symlink_metadata(from).map_err(SysError::on("looking at", from))?;
    std::os::unix::fs::lchown(to, Some(found.uid()), Some(found.gid()))
        .map_err(SysError::on("changing the owner of", to))?;
    std::fs::set_permissions(to, found.permissions()).map_err(SysError::on("changing the mode of", to))
}

/// Makes a directory with exactly `mode`, whatever the caller's umask is.
fn make_dir(path: &Path, mode: u32) -> Result<(), SysError> {
    std::fs::create_dir(path).map_err(SysError::on("creating", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(SysError::on("changing the mode of", path))
}

fn make_dirs(path: &Path) -> Result<(), SysError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(SysError::on("creating", path))
}
