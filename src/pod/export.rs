//! From an app of a pod that has ended back to an image: its root file system as the app left it (spec cli.md 1.2.11).
//!
//! What the app saw is shown by the kernel that showed it to the app: the pod's layer and the tree are mounted once more,
//! to be read alone, in a mount namespace that ends with this process. So whiteouts, opaque directories and whatever
//! else overlayfs may note mean here what they meant there.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::layout::PodPaths;
use super::lifecycle::PodsDir;
use super::observe::{self, ObserveError, State};
use crate::appc::image_manifest::ImageManifest;
use crate::appc::name::AcName;
use crate::appc::pod_manifest::PodManifest;
use crate::appc::pod_uuid::PodUuid;
use crate::image::aci_writer::{self, Content, Sockets, WriteError};
use crate::image::store::{Store, TreeId};
use crate::os::lock::{Lock, Sharing};
use crate::os::whole::{Existing, WholeFile, WholeFileError};
use crate::os::{Hint, SysError, file, mount};

/// Which app goes where.
#[derive(Debug, Clone)]
pub struct ExportRequest<'a> {
    /// The app; not needed where there is only one.
    pub app: Option<&'a str>,
    /// The file.
    pub to: &'a Path,
    /// What becomes of a file that is there.
    pub existing: Existing,
}

/// Why an app was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It runs, or never ran.
    #[error("pod is not exited. Only exited pods can be exported")]
    NotExited,
    /// There is no such app.
    #[error("unable to find app: app {0} is not present in pod")]
    NoApp(String),
    /// There are several.
    #[error("unable to find app: specify app using \"rkt export --app= ...\"")]
    SeveralApps(Vec<AcName>),
    /// Something is mounted in the copy that the app had.
    #[error(
        "pod has remaining mountpoints. Only pods using overlayfs or with no mountpoints can be exported: {}",
        .0.display()
    )]
    Mounted(PathBuf),
    /// The file is there.
    #[error("error building aci: target file exists (try --overwrite)")]
    Exists,
    /// The image could not be written.
    #[error("error building aci: {0}")]
    Write(#[from] WriteError),
    /// The file can't be made.
    #[error("error building aci: {0}")]
    File(WholeFileError),
    /// The pod's files are damaged.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A file of the pod is not what it should be.
    #[error("{}: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The system refused.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for ExportError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotExited => Some("`rkt stop` ends a running pod".into()),
            Self::SeveralApps(apps) => {
                let names: Vec<_> = apps.iter().map(AcName::as_str).collect();
                Some(format!("the pod has the apps {}", names.join(", ")))
            }
            Self::Mounted(path) => Some(format!("unmount it with `umount {}`", path.display())),
            Self::Write(cause) => cause.hint(),
            Self::File(WholeFileError::System(cause)) | Self::Sys(cause) => cause.hint(),
            Self::Observe(cause) => cause.hint(),
            Self::NoApp(_) | Self::Exists | Self::File(_) | Self::Damaged { .. } => None,
        }
    }
}

/// Writes an app's root file system as an image, and returns what the user should know about it.
///
/// The manifest is the one of the app's image. What stands upon other images, or has a whitelist, loses both: the file
/// system is whole, and what the app removed would come back from below.
///
/// # Errors
/// When the pod has not ended, the app can't be told, or something can't be read or written; then `to` is as it was.
///
/// # Locking
/// Holds the pod shared, as those do who look at it, so that it is not removed meanwhile.
pub fn export(
    pods: &PodsDir,
    store: &Store,
    uuid: &PodUuid,
    request: &ExportRequest<'_>,
) -> Result<Vec<String>, ExportError> {
    let pod = observe::pod(pods, uuid)?;
    let (State::Exited | State::ExitedGarbage) = pod.state else { return Err(ExportError::NotExited) };
    let paths = pod.paths;
    let Some(_stays) =
        Lock::try_on(paths.dir(), Sharing::Shared)?.filter(|lock| lock.is_still_at(paths.dir()))
    else {
        return Err(ObserveError::Gone(*uuid).into());
    };
    let app = choose(&observe::manifest(uuid, &paths)?, request.app)?;
    let (manifest, mtime) = image_manifest(&paths, &app)?;
    let root = paths.app_root(&app);
    if paths.overlay_prepared().exists() {
        let tree = tree_of(&paths, &app)?;
        mount::enter_own_namespace()?;
        let mut layers = vec![paths.overlay_upper(&tree, &app)];
        layers.extend(store.tree_layers(&tree)?);
        mount::overlay_to_read(&layers, &root)?;
    } else if let Some(point) = mount::mount_points_below(&root)?.pop() {
        return Err(ExportError::Mounted(point));
    }
    let output = WholeFile::begin(request.to, request.existing).map_err(file_error)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let rootfs = rustix::fs::open(&root, flags, Mode::empty()).map_err(SysError::on("opening", &root))?;
    let content = Content {
        rootfs,
        rootfs_path: &root,
        manifest: &manifest,
        manifest_mtime: mtime,
        sockets: Sockets::LeaveOut,
    };
    let written = aci_writer::write(content, output.file(), output.path())?;
    output.publish().map_err(file_error)?;
    Ok(match written.sockets_left_out {
        0 => Vec::new(),
        count => vec![format!("{count} socket(s) left out, as nobody listens there any more")],
    })
}

fn file_error(error: WholeFileError) -> ExportError {
    match error {
        WholeFileError::Exists(_) => ExportError::Exists,
        error => ExportError::File(error),
    }
}

/// The app that is meant.
fn choose(manifest: &PodManifest, wanted: Option<&str>) -> Result<AcName, ExportError> {
    let mut names = manifest.apps.iter().map(|app| app.name.clone());
    match wanted {
        Some(wanted) => {
            names.find(|name| name.as_str() == wanted).ok_or_else(|| ExportError::NoApp(wanted.to_owned()))
        }
        None => match &names.collect::<Vec<_>>()[..] {
            [only] => Ok(only.clone()),
            several => Err(ExportError::SeveralApps(several.to_vec())),
        },
    }
}

/// The bytes of the manifest for the new image, and their time.
fn image_manifest(paths: &PodPaths, app: &AcName) -> Result<(Vec<u8>, i64), ExportError> {
    let path = paths.app_image_manifest(app);
    let bytes = file::read(&path)?;
    let mtime = std::fs::symlink_metadata(&path).map_err(SysError::on("looking at", &path))?.mtime();
    let mut manifest = ImageManifest::from_json(&bytes)
        .map_err(|error| ExportError::Damaged { path, problem: error.to_string() })?;
    if manifest.dependencies.is_empty() && manifest.path_whitelist.is_empty() {
        return Ok((bytes, mtime));
    }
    manifest.dependencies.clear();
    manifest.path_whitelist.clear();
    Ok((manifest.to_json().into_bytes(), mtime))
}

fn tree_of(paths: &PodPaths, app: &AcName) -> Result<TreeId, ExportError> {
    let path = paths.app_tree_id(app);
    let text = file::read_text(&path)?;
    text.trim().parse().map_err(|_| ExportError::Damaged { path, problem: "it names no tree".into() })
}
