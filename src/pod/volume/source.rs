//! The volumes of a pod at its start: each source is opened once, and what was opened is what is mounted.
//!
//! ```text
//! stage1/rootfs/rkt/volumes/N     mount point: a directory, or a file for a file, socket or device node
//! sharedVolumes/NAME              the source of an empty volume, made when the pod is prepared
//! ```

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::PodVolume;
use crate::appc::name::AcName;
use crate::appc::volume::VolumeKind;
use crate::os::mount::detached::{Access, Detached, DeviceNodes, View};
use crate::os::{Hint, SysError, root::Root};
use crate::pod::layout::PodPaths;
use crate::stage1::plan::{AppMount, volume_point};
use crate::systemd::bus::{AllowedDevice, DeviceKind};

/// Why a volume can't be mounted.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Its source is not there, or can't be reached.
    #[error("Failed to stat {}: {reason}", .path.display())]
    Missing {
        /// The volume.
        volume: AcName,
        /// Its source.
        path: PathBuf,
        /// The kernel's answer.
        reason: String,
    },
    /// The pod's device policy can't say two things of one device.
    #[error(
        "the volumes \"{read_only}\" and \"{read_write}\" are the same device, one to be read and one to be written"
    )]
    TwoAccesses {
        /// One.
        read_only: AcName,
        /// The other.
        read_write: AcName,
    },
    /// A directory and a file can't be mounted on each other.
    #[error("app \"{app}\": the volume \"{volume}\" is {volume_is}, but {target:?} is {found} already")]
    OtherKind {
        /// The app.
        app: AcName,
        /// The volume.
        volume: AcName,
        /// Where it goes.
        target: String,
        /// What the volume is.
        volume_is: Shape,
        /// What is there.
        found: Shape,
    },
    /// A mount in a volume would go elsewhere.
    #[error("app \"{app}\": {target:?} leads through a link in the volume \"{volume}\"")]
    LinkInVolume {
        /// The app.
        app: AcName,
        /// Where the mount goes.
        target: String,
        /// The volume around it.
        volume: AcName,
    },
    /// There is nothing to mount on, and nothing can be made.
    #[error(
        "app \"{app}\": {target:?} is in the volume \"{volume}\", which has no such path and is read-only"
    )]
    NoPoint {
        /// The app.
        app: AcName,
        /// Where the mount goes.
        target: String,
        /// The volume around it.
        volume: AcName,
    },
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for SourceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { volume, .. } => {
                Some(format!("make it before the pod starts, or correct source= of the volume \"{volume}\""))
            }
            Self::TwoAccesses { .. } => Some("give both the same readOnly=, or run two pods".into()),
            Self::OtherKind { .. } | Self::LinkInVolume { .. } => {
                Some("choose another target with --mount volume=NAME,target=PATH, or another path in the pod manifest".into())
            }
            Self::NoPoint { volume, .. } => {
                Some(format!("make it in the source of the volume \"{volume}\" before the pod starts"))
            }
            Self::Sys(error) => error.hint(),
        }
    }
}

/// What can be mounted on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::File => "a file",
        })
    }
}

impl Shape {
    /// What has this status.
    pub fn of(status: &Stat) -> Self {
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => Self::Directory,
            _ => Self::File,
        }
    }
}

/// A volume that is ready to be mounted.
#[derive(Debug)]
pub struct Source {
    name: AcName,
    shape: Shape,
    access: Access,
    device: Option<AllowedDevice>,
    tree: Detached,
}

impl Source {
    /// The volume as a tree that is looked at.
    fn root(&self) -> Result<Root, SysError> {
        let shown = Path::new(self.name.as_str());
        let tree =
            self.tree.as_fd().try_clone_to_owned().map_err(SysError::on("opening the volume", shown))?;
        Ok(Root::from_fd(tree, shown))
    }
}

/// Opens the sources of `volumes` in the host's mount namespace.
///
/// `devices` says whether device nodes in directories work; a volume that is a device node always does.
///
/// # Errors
/// When a source is not there, or the kernel refuses.
pub fn open(
    volumes: &[PodVolume],
    paths: &PodPaths,
    devices: DeviceNodes,
) -> Result<Vec<Source>, SourceError> {
    let sources = volumes
        .iter()
        .map(|volume| open_one(volume, &host_path(volume, paths), devices))
        .collect::<Result<Vec<_>, _>>()?;
    check_devices(&sources)?;
    Ok(sources)
}

/// Where a volume is on the host.
pub fn host_path(volume: &PodVolume, paths: &PodPaths) -> PathBuf {
    match &volume.kind {
        VolumeKind::Host { source } => PathBuf::from(source),
        VolumeKind::Empty { .. } => paths.shared_volume(&volume.name),
    }
}

fn open_one(volume: &PodVolume, path: &Path, devices: DeviceNodes) -> Result<Source, SourceError> {
    let missing = |cause: rustix::io::Errno| SourceError::Missing {
        volume: volume.name.clone(),
        path: path.to_owned(),
        reason: SysError::new("looking at", path, cause).reason(),
    };
    let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(missing)?;
    let status = rustix::fs::fstat(&opened).map_err(missing)?;
    let device = device(&status, volume.access);
    let devices = if device.is_some() { DeviceNodes::Usable } else { devices };
    let view = View { access: volume.access, submounts: volume.submounts, devices };
    let tree = Detached::of(opened.as_fd(), view, path)?;
    let (name, access) = (volume.name.clone(), volume.access);
    Ok(Source { name, shape: Shape::of(&status), access, device, tree })
}

fn device(status: &Stat, access: Access) -> Option<AllowedDevice> {
    let kind = match FileType::from_raw_mode(status.st_mode) {
        FileType::CharacterDevice => DeviceKind::Character,
        FileType::BlockDevice => DeviceKind::Block,
        _ => return None,
    };
    let (major, minor) = (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev));
    Some(AllowedDevice { kind, major, minor, writable: access == Access::ReadWrite })
}

/// The policy is the pod's: who may only read a device could write it if another app may.
fn check_devices(sources: &[Source]) -> Result<(), SourceError> {
    for (at, one) in sources.iter().enumerate() {
        for other in &sources[at + 1..] {
            let (Some(first), Some(second)) = (one.device, other.device) else { continue };
            if first.is_same_device(&second) && first.writable != second.writable {
                let (read_write, read_only) = if first.writable { (one, other) } else { (other, one) };
                let (read_only, read_write) = (read_only.name.clone(), read_write.name.clone());
                return Err(SourceError::TwoAccesses { read_only, read_write });
            }
        }
    }
    Ok(())
}

/// The devices that the pod must be allowed to open.
pub fn allowed_devices(sources: &[Source]) -> Vec<AllowedDevice> {
    sources.iter().filter_map(|source| source.device).collect()
}

/// Makes the mount points of `sources` in the root of the pod's systemd.
///
/// # Errors
/// When one can't be made.
pub fn make_points(sources: &[Source], stage1_root: &Path) -> Result<(), SysError> {
    sources
        .iter()
        .enumerate()
        .try_for_each(|(number, source)| make_point(&stage1_root.join(volume_point(number)), source.shape))
}

/// A start that failed may have left one of the other kind.
fn make_point(point: &Path, shape: Shape) -> Result<(), SysError> {
    match std::fs::symlink_metadata(point) {
        Ok(found) if found.is_dir() == (shape == Shape::Directory) => return Ok(()),
        Ok(found) if found.is_dir() => {
            std::fs::remove_dir(point).map_err(SysError::on("removing", point))?;
        }
        Ok(_) => std::fs::remove_file(point).map_err(SysError::on("removing", point))?,
        Err(_) => {}
    }
    match shape {
        Shape::Directory => std::fs::create_dir(point),
        Shape::File => std::fs::File::create_new(point).map(drop),
    }
    .map_err(SysError::on("creating", point))
}

/// Mounts `sources` on their points, in the mount namespace of the pod's supervisor.
///
/// # Errors
/// When the kernel refuses.
pub fn mount(sources: &[Source], stage1_root: &Path) -> Result<(), SysError> {
    sources
        .iter()
        .enumerate()
        .try_for_each(|(number, source)| source.tree.attach(&stage1_root.join(volume_point(number))))
}

/// Fails for a mount that systemd could not make, or would make elsewhere: its own words for that reach nobody.
///
/// A mount below another one goes into that volume, which has what links its writers please. systemd (252) follows them
/// out of the app's root into the pod's own.
///
/// # Errors
/// The first such mount.
pub fn check(
    app: &AcName,
    mounts: &[AppMount],
    sources: &[Source],
    app_root: &Root,
) -> Result<(), SourceError> {
    for mount in mounts {
        let (app, target, source) = (app.clone(), mount.target.clone(), &sources[mount.volume]);
        let found = match outer(mount, mounts) {
            None => shape_at(app_root, Path::new(&target)),
            Some((outer, inside)) => {
                let outer = &sources[outer.volume];
                let root = outer.root()?;
                if root.real_path(&inside)? != inside {
                    return Err(SourceError::LinkInVolume { app, target, volume: outer.name.clone() });
                }
                let found = shape_at(&root, &inside);
                if found.is_none() && outer.access == Access::ReadOnly {
                    return Err(SourceError::NoPoint { app, target, volume: outer.name.clone() });
                }
                found
            }
        };
        if let Some(found) = found.filter(|shape| *shape != source.shape) {
            let volume = source.name.clone();
            return Err(SourceError::OtherKind { app, volume, target, volume_is: source.shape, found });
        }
    }
    Ok(())
}

fn shape_at(root: &Root, inside: &Path) -> Option<Shape> {
    root.metadata(inside).ok().map(|status| Shape::of(&status))
}

/// The mount that `mount` goes into, and the path in there.
fn outer<'a>(mount: &AppMount, mounts: &'a [AppMount]) -> Option<(&'a AppMount, PathBuf)> {
    let target = Path::new(&mount.target);
    let above = mounts.iter().filter(|other| other.target != mount.target);
    let inside = above.filter_map(|other| Some((other, target.strip_prefix(&other.target).ok()?)));
    let (outer, inside) = inside.min_by_key(|(_, inside)| inside.components().count())?;
    Some((outer, Path::new("/").join(inside)))
}
