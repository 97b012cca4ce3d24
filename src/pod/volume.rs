//! Which volume an app finds at which path (spec pods.md 3.7.1): decided when the pod is prepared, as plain values.
//!
//! [`bind`] writes what the user and the images say into the pod manifest; [`number`] reads out of the manifest what
//! will be mounted, the same when the pod is prepared, when it starts, and when it is looked at. Sources of the host are
//! opened by [`source`], when the pod starts.

pub mod empty;
pub mod source;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::appc::name::AcName;
use crate::appc::pod_manifest::{Mount, PodManifest, RuntimeApp, Volume, VolumeKind};
use crate::os::mount::detached::{Access, Submounts};
use crate::os::{Hint, SysError, root::Root};
use crate::stage1::plan::AppMount;

/// Of a path in an app's root: systemd puts the root's own path in front, and the kernel takes 4095 bytes.
const LONGEST_TARGET: usize = 3840;

/// Where nothing of a user may be mounted, and what for: the kernel's and systemd's own files.
const RESERVED: [(&str, Below, &str); 4] = [
    ("/", Below::Free, "it would replace the whole root of the app"),
    ("/dev", Below::Free, "the app's devices are there; name a path below it"),
    ("/proc", Below::Reserved, "the kernel's files are there"),
    ("/run/systemd", Below::Reserved, "systemd's sockets are there"),
];

/// Whether what is below a reserved path is reserved too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Reserved,
    Free,
}

/// Why a volume can't be where it is wanted.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Two volumes of one name.
    #[error("duplicate volume name \"{0}\"")]
    Duplicate(AcName),
    /// A mount of the manifest without a volume.
    #[error("could not find volume {0}")]
    NotFound(AcName),
    /// The path belongs to somebody else.
    #[error("app \"{app}\": nothing can be mounted on {path:?}{leads_to}: {reason}")]
    Reserved {
        /// The app.
        app: AcName,
        /// The path as it was asked for.
        path: String,
        /// ` (in its image: …)` if that is another one.
        leads_to: String,
        /// Why not.
        reason: &'static str,
    },
    /// The path is too long.
    #[error("app \"{app}\": the path of a mount is longer than {LONGEST_TARGET} bytes: {path:?}…")]
    LongTarget {
        /// The app.
        app: AcName,
        /// Its beginning.
        path: String,
    },
    /// The path is no text.
    #[error("app \"{app}\": {path:?} leads to a path that is not UTF-8")]
    NotUtf8 {
        /// The app.
        app: AcName,
        /// The path as it was asked for.
        path: String,
    },
    /// Two mounts of an app meet behind links of its image.
    #[error("app \"{app}\": {first:?} and {second:?} are the same path in its image, {target:?}")]
    SameTarget {
        /// The app.
        app: AcName,
        /// One.
        first: String,
        /// The other.
        second: String,
        /// Where both lead.
        target: String,
    },
    /// The image can't be looked at.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for VolumeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Duplicate(_) => Some("give one of them another name".into()),
            Self::NotFound(name) => Some(format!("define \"{name}\" in the manifest's \"volumes\"")),
            Self::Reserved { .. } | Self::LongTarget { .. } | Self::NotUtf8 { .. } => {
                Some("choose another target with --mount volume=NAME,target=PATH, or another path in the pod manifest".into())
            }
            Self::SameTarget { .. } => Some("mount one of the two volumes elsewhere, or not at all".into()),
            Self::Sys(error) => error.hint(),
        }
    }
}

/// An empty volume that nobody asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Implicit {
    /// The volume.
    pub volume: AcName,
    /// The image's mount point.
    pub point: AcName,
    /// Its path.
    pub path: String,
}

/// Fails for a volume that is defined twice.
///
/// # Errors
/// The name.
pub fn check_names(volumes: &[Volume]) -> Result<(), VolumeError> {
    let twice = volumes.iter().enumerate().find(|(at, volume)| has(&volumes[..*at], &volume.name));
    twice.map_or(Ok(()), |(_, volume)| Err(VolumeError::Duplicate(volume.name.clone())))
}

fn has(volumes: &[Volume], name: &AcName) -> bool {
    volumes.iter().any(|volume| volume.name == *name)
}

/// Gives `app` the mounts that are asked for, then those of its mount points whose paths are free.
///
/// A path counts once, however it is written; for a mount point also by which of the image's links, which `real` follows. A mount point without a volume gets an empty one, which is added to `volumes` and returned.
pub fn bind(
    app: &mut RuntimeApp,
    asked: &[Mount],
    volumes: &mut Vec<Volume>,
    real: impl Fn(&Path) -> PathBuf,
) -> Vec<Implicit> {
    let mut implicit = Vec::new();
    let mut taken = BTreeSet::new();
    app.mounts.extend(asked.iter().filter(|mount| taken.insert(target(&mount.path))).cloned());
    let mut taken: BTreeSet<PathBuf> = taken.iter().map(|path| real(path)).collect();
    let points = app.app.as_ref().map(|section| section.mount_points.clone()).unwrap_or_default();
    for point in points {
        if !taken.insert(real(&target(&point.path))) {
            continue;
        }
        let volume = if has(volumes, &point.name) {
            point.name
        } else {
            let name = free_name(volumes, &app.name, &point.name);
            let read_only = point.read_only.then_some(true);
            volumes.push(Volume { name: name.clone(), kind: VolumeKind::EMPTY, read_only, recursive: None });
            implicit.push(Implicit { volume: name.clone(), point: point.name, path: point.path.clone() });
            name
        };
        app.mounts.push(Mount { volume, path: point.path, app_volume: None });
    }
    implicit
}

/// Makes a volume of the pod out of each empty volume that belongs to one mount only, so that each has a directory of its own.
pub fn part(manifest: &mut PodManifest) {
    let PodManifest { apps, volumes, .. } = manifest;
    for app in apps {
        for at in 0..app.mounts.len() {
            let is_empty = |own: &mut Volume| matches!(own.kind, VolumeKind::Empty { .. });
            let Some(own) = app.mounts[at].app_volume.take_if(is_empty) else { continue };
            // Its own name counts for this.
            let read_only = Some(is_read_only(&own, app));
            let name = free_name(volumes, &app.name, &own.name);
            app.mounts[at].volume = name.clone();
            volumes.push(Volume { name, read_only, ..own });
        }
    }
}

/// `APP-POINT`, or with a number behind it if that is another volume's name.
fn free_name(volumes: &[Volume], app: &AcName, point: &AcName) -> AcName {
    let numbers = (2_u32..).map(|number| format!("-{number}"));
    let mut names = std::iter::once(String::new()).chain(numbers).map(|end| {
        let name = format!("{app}-{point}{end}");
        name.parse::<AcName>().expect("names that are joined by dashes are a name")
    });
    names.find(|name| !has(volumes, name)).expect("numbers do not end before volumes do")
}

/// What the user is told of an empty volume that nobody asked for (spec pods.md 3.7.1).
pub fn notice(app: &AcName, implicit: &Implicit) -> String {
    let Implicit { volume, point, path } = implicit;
    format!(
        "warning: no volume specified for mount point \"{point}\", implicitly creating an \"empty\" volume: \
         \"{volume}\" at {path:?} of app \"{app}\" is removed with the pod"
    )
}

/// The path of a mount from the app's root, without `.`, `..` and needless slashes.
pub fn target(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// A volume as the pod has it: mounted once, for all mounts with the same access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodVolume {
    /// Its name.
    pub name: AcName,
    /// Where it comes from.
    pub kind: VolumeKind,
    /// Whether it can be written to.
    pub access: Access,
    /// Whether what is mounted below its source is part of it.
    pub submounts: Submounts,
}

/// A mount of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Which of the pod's volumes.
    pub volume: usize,
    /// The path in the app, as it was asked for.
    pub path: String,
}

/// The volumes of a pod and where its apps see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes {
    /// By their numbers.
    pub volumes: Vec<PodVolume>,
    /// In the order of the manifest's apps.
    pub mounts: Vec<Vec<Numbered>>,
}

/// Reads out of the manifest which volumes the pod mounts, each with a number.
///
/// # Errors
/// When a mount names no volume.
pub fn number(manifest: &PodManifest) -> Result<Volumes, VolumeError> {
    let mut found = Volumes::default();
    for app in &manifest.apps {
        let mut mounts = Vec::new();
        for mount in &app.mounts {
            let volume = match &mount.app_volume {
                Some(own) => own,
                None => manifest
                    .volume(&mount.volume)
                    .ok_or_else(|| VolumeError::NotFound(mount.volume.clone()))?,
            };
            let wanted = as_mounted(volume, app);
            let known = found.volumes.iter().position(|other| *other == wanted);
            let volume = known.unwrap_or_else(|| {
                found.volumes.push(wanted);
                found.volumes.len() - 1
            });
            mounts.push(Numbered { volume, path: mount.path.clone() });
        }
        found.mounts.push(mounts);
    }
    Ok(found)
}

/// The volume's own word on writing counts, else that of the image's mount point of its name.
fn is_read_only(volume: &Volume, app: &RuntimeApp) -> bool {
    let points = app.app.iter().flat_map(|section| &section.mount_points);
    let by_point = || points.into_iter().any(|point| point.name == volume.name && point.read_only);
    volume.read_only.unwrap_or_else(by_point)
}

fn as_mounted(volume: &Volume, app: &RuntimeApp) -> PodVolume {
    PodVolume {
        name: volume.name.clone(),
        kind: volume.kind.clone(),
        access: if is_read_only(volume, app) { Access::ReadOnly } else { Access::ReadWrite },
        submounts: if volume.recursive.unwrap_or(true) { Submounts::Included } else { Submounts::Hidden },
    }
}

/// Follows the paths of an app's mounts through the links of its image, `root`, and checks where they lead.
///
/// # Errors
/// When a path is not for volumes, or two lead to the same.
pub fn resolve(
    app: &AcName,
    mounts: &[Numbered],
    volumes: &[PodVolume],
    root: &Root,
) -> Result<Vec<AppMount>, VolumeError> {
    let mut resolved: Vec<AppMount> = Vec::new();
    for (at, mount) in mounts.iter().enumerate() {
        let asked = target(&mount.path);
        if mount.path.len() > LONGEST_TARGET {
            return Err(long(app, &mount.path));
        }
        let real = root.real_path(&asked)?;
        let access = volumes[mount.volume].access;
        check_reserved(app, &asked, &real, access)?;
        let target = match real.to_str() {
            Some(text) if text.len() <= LONGEST_TARGET => text.to_owned(),
            Some(text) => return Err(long(app, text)),
            None => return Err(VolumeError::NotUtf8 { app: app.clone(), path: mount.path.clone() }),
        };
        if let Some(other) = resolved.iter().position(|other| other.target == target) {
            let (first, second) = (mounts[other].path.clone(), mounts[at].path.clone());
            return Err(VolumeError::SameTarget { app: app.clone(), first, second, target });
        }
        resolved.push(AppMount { volume: mount.volume, target, access });
    }
    Ok(resolved)
}

fn long(app: &AcName, path: &str) -> VolumeError {
    VolumeError::LongTarget { app: app.clone(), path: path.chars().take(60).collect() }
}

fn check_reserved(app: &AcName, asked: &Path, real: &Path, access: Access) -> Result<(), VolumeError> {
    if real == Path::new("/run") && access == Access::ReadOnly {
        let path = asked.to_string_lossy().into_owned();
        let reason = "systemd's sockets are made below it, and this volume is read-only";
        return Err(VolumeError::Reserved { app: app.clone(), path, leads_to: String::new(), reason });
    }
    let hit = RESERVED.iter().find(|(path, below, _)| match below {
        Below::Reserved => real.starts_with(path),
        Below::Free => real == Path::new(path),
    });
    let Some((_, _, reason)) = hit else { return Ok(()) };
    let leads_to = if asked == real { String::new() } else { format!(" (in its image a link to {real:?})") };
    let path = asked.to_string_lossy().into_owned();
    Err(VolumeError::Reserved { app: app.clone(), path, leads_to, reason })
}

#[cfg(test)]
mod tests;
