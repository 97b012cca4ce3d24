//! Volumes and mounts (spec pods.md 3.7.1): in manifests here, as flags of the command line in `flag`.

mod error;
mod flag;

use std::fmt;

use serde_json::Value;

pub use error::VolumeError;

use super::{
    field::{Field, FieldError, Members, no_nul},
    name::AcName,
};

/// Something that apps can mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the pod.
    pub name: AcName,
    /// Where it comes from.
    pub kind: VolumeKind,
    /// Whether apps may only read it; without a word the mount point decides.
    pub read_only: Option<bool>,
    /// Whether what is mounted below the source is seen too; without a word the flavor decides.
    pub recursive: Option<bool>,
}

/// Where a volume comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeKind {
    /// A directory, file or device node of the host.
    Host {
        /// Its absolute path.
        source: String,
    },
    /// A new directory that is removed with the pod.
    Empty {
        /// Its permissions, up to 07777.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

impl VolumeKind {
    /// An empty directory as it is without further words: 0755, of root.
    pub const EMPTY: Self = Self::Empty { mode: 0o755, uid: 0, gid: 0 };
}

impl fmt::Display for VolumeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host { .. } => "host",
            Self::Empty { .. } => "empty",
        })
    }
}

/// A volume at a path of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: AcName,
    /// The path inside the app's root; a relative one is below `/`. Not empty.
    pub path: String,
    /// A volume that belongs to this mount only, and then beats the pod's volume of that name.
    pub app_volume: Option<Volume>,
}

/// A volume's members before its kind has judged them.
#[derive(Default)]
struct Parts {
    kind: String,
    source: String,
    read_only: Option<bool>,
    recursive: Option<bool>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Parts {
    fn into_volume(self, name: AcName) -> Result<Volume, VolumeError> {
        let kind = match self.kind.as_str() {
            "host" => {
                for (key, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                    if value.is_some() {
                        return Err(VolumeError::HostCannotSet { key });
                    }
                }
                VolumeKind::Host { source: self.source }
            }
            "empty" if !self.source.is_empty() => return Err(VolumeError::EmptySource),
            "empty" => VolumeKind::Empty {
                mode: self.mode.unwrap_or(0o755),
                uid: self.uid.unwrap_or(0),
                gid: self.gid.unwrap_or(0),
            },
            _ => return Err(VolumeError::Kind),
        };
        let volume = Volume { name, kind, read_only: self.read_only, recursive: self.recursive };
        volume.check().map(|()| volume)
    }
}

const WANTED_MODE: &str = "octal permissions up to 7777";
const WANTED_ID: &str = "a whole number between 0 and 4294967294";

fn parse_mode(value: &str) -> Result<u32, VolumeError> {
    let octal = !value.is_empty() && value.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = octal.then(|| u32::from_str_radix(value, 8).ok()).flatten().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| VolumeError::Value { key: "mode", wanted: WANTED_MODE, value: value.to_owned() })
}

fn parse_id(key: &'static str, value: &str) -> Result<u32, VolumeError> {
    let id = value.parse().ok().filter(|id| *id != u32::MAX && value.bytes().all(|b| b.is_ascii_digit()));
    id.ok_or_else(|| VolumeError::Value { key, wanted: WANTED_ID, value: value.to_owned() })
}

impl Volume {
    /// Checks the rules of the kind.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), VolumeError> {
        match &self.kind {
            VolumeKind::Host { source } if source.is_empty() => Err(VolumeError::HostSourceEmpty),
            VolumeKind::Host { source } if !source.starts_with('/') => Err(VolumeError::HostSourceRelative),
            VolumeKind::Host { source } if source.contains('\0') => Err(VolumeError::Nul { key: "source" }),
            VolumeKind::Host { .. } => Ok(()),
            VolumeKind::Empty { mode, .. } if *mode > 0o7777 => {
                Err(VolumeError::Value { key: "mode", wanted: WANTED_MODE, value: format!("{mode:o}") })
            }
            VolumeKind::Empty { uid: u32::MAX, .. } | VolumeKind::Empty { gid: u32::MAX, .. } => {
                Err(VolumeError::Value { key: "owner", wanted: WANTED_ID, value: u32::MAX.to_string() })
            }
            VolumeKind::Empty { .. } => Ok(()),
        }
    }

    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let id = |f: &Field<'_>| f.integer::<u32>("between 0 and 4294967294").map(Some);
        let mode = |f: &Field<'_>| parse_mode(f.str()?).map(Some).map_err(|problem| f.error(problem));
        let name = field.required("name")?.parsed()?;
        let parts = Parts {
            kind: field.or_default("kind", Field::string)?,
            source: field.or_default("source", Field::string)?,
            read_only: field.or_default("readOnly", |f| f.bool().map(Some))?,
            recursive: field.or_default("recursive", |f| f.bool().map(Some))?,
            mode: field.or_default("mode", mode)?,
            uid: field.or_default("uid", id)?,
            gid: field.or_default("gid", id)?,
        };
        parts.into_volume(name).map_err(|problem| field.error(problem))
    }

    pub(super) fn write(&self) -> Value {
        let members = Members::default().with("name", self.name.as_str()).with("kind", self.kind.to_string());
        let flags = |members: Members| {
            members.with_some("readOnly", self.read_only).with_some("recursive", self.recursive)
        };
        match &self.kind {
            VolumeKind::Host { source } => flags(members.with("source", source.as_str())),
            VolumeKind::Empty { mode, uid, gid } => {
                flags(members).with("mode", format!("{mode:04o}")).with("uid", *uid).with("gid", *gid)
            }
        }
        .into()
    }
}

impl Mount {
    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            volume: field.required("volume")?.parsed()?,
            path: field.required("path")?.string()?,
            app_volume: field.optional("appVolume")?.map(|volume| Volume::read(&volume)).transpose()?,
        })
    }

    pub(super) fn write(&self) -> Value {
        Members::default()
            .with("volume", self.volume.as_str())
            .with("path", self.path.as_str())
            .with_some("appVolume", self.app_volume.as_ref().map(Volume::write))
            .into()
    }

    pub(super) fn validate(&self) -> Result<(), FieldError> {
        if self.path.is_empty() {
            return Err(FieldError::new("path", "path must be set"));
        }
        no_nul(|| "path".into(), &self.path)?;
        match &self.app_volume {
            Some(volume) => volume.check().map_err(|problem| FieldError::new("appVolume", problem)),
            None => Ok(()),
        }
    }
}
