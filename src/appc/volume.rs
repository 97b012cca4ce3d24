//! Volumes and mounts, in manifests and as the flags `--volume` and `--mount` (spec pods.md 3.7.1, cli.md 1.2.1).

use std::fmt;

use serde_json::Value;

use super::{
    field::{Field, FieldError, Members, no_nul, quoted},
    name::{AcName, NameError},
};

/// Why a volume or a mount of the command line is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// A part has no `=`.
    #[error("{} is not of the form KEY=VALUE", quoted(.part))]
    NoValue {
        /// The part.
        part: String,
    },
    /// A key stands twice.
    #[error("label {key} with multiple values {}", multiple(.values))]
    Twice {
        /// The key.
        key: String,
        /// Its values.
        values: Vec<String>,
    },
    /// A key that volumes do not have.
    #[error("unknown volume parameter {}", quoted(.key))]
    UnknownVolumeKey {
        /// The key.
        key: String,
    },
    /// A key that mounts do not have.
    #[error("unknown mount parameter {}", quoted(.key))]
    UnknownMountKey {
        /// The key.
        key: String,
    },
    /// A volume's name is not an AC name.
    #[error("invalid volume name: {problem}")]
    Name {
        /// What is wrong with it.
        problem: NameError,
    },
    /// A mount's volume name is not an AC name.
    #[error("invalid volume name {} in --mount flag {}: {problem}", quoted(.name), quoted(.flag))]
    MountName {
        /// The name.
        name: String,
        /// The whole flag.
        flag: String,
        /// What is wrong with it.
        problem: NameError,
    },
    /// A value does not have the form that its key wants.
    #[error("{key} must be {wanted}, not {}", quoted(.value))]
    Value {
        /// The key.
        key: &'static str,
        /// What the value must be.
        wanted: &'static str,
        /// What it is.
        value: String,
    },
    /// A member that must be there is missing.
    #[error("{what} must be set")]
    Missing {
        /// Which one.
        what: &'static str,
    },
    /// The kind is not known.
    #[error("unrecognized volume kind: should be one of \"empty\", \"host\"")]
    Kind,
    /// A volume of the host has no source.
    #[error("source for host volume cannot be empty")]
    HostSourceEmpty,
    /// A volume of the host has a relative source.
    #[error("source for host volume must be absolute path")]
    HostSourceRelative,
    /// A volume of the host has something that only an empty one has.
    #[error("{key} for host volume cannot be set")]
    HostCannotSet {
        /// Which one.
        key: &'static str,
    },
    /// An empty volume has a source.
    #[error("source for empty volume must be empty")]
    EmptySource,
    /// A text holds a NUL character.
    #[error("{key} holds a NUL character")]
    Nul {
        /// Which one.
        key: &'static str,
    },
}

impl VolumeError {
    /// What a valid flag looks like.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownMountKey { .. } | Self::MountName { .. } => {
                Some("a mount looks like volume=NAME,target=PATH".into())
            }
            Self::UnknownVolumeKey { .. } | Self::Kind | Self::NoValue { .. } | Self::Name { .. } => Some(
                "a volume looks like NAME,kind=host,source=/PATH,readOnly=true or NAME,kind=empty,mode=0755"
                    .into(),
            ),
            Self::Twice { .. }
            | Self::Value { .. }
            | Self::Missing { .. }
            | Self::HostSourceEmpty
            | Self::HostSourceRelative
            | Self::HostCannotSet { .. }
            | Self::EmptySource
            | Self::Nul { .. } => None,
        }
    }
}

fn multiple(values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", values.join(" "))
}

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

fn parse_bool(key: &'static str, value: &str) -> Result<bool, VolumeError> {
    // The words that the flags of rkt have always taken (Go's strconv.ParseBool).
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(VolumeError::Value { key, wanted: "true or false", value: value.to_owned() }),
    }
}

/// Splits `KEY=VALUE,KEY=VALUE`; a key may stand once.
fn pairs(text: &str) -> Result<Vec<(&str, &str)>, VolumeError> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (key, value) =
            part.split_once('=').ok_or_else(|| VolumeError::NoValue { part: part.to_owned() })?;
        if let Some((_, first)) = pairs.iter().find(|(seen, _)| *seen == key) {
            let values = vec![(*first).to_owned(), value.to_owned()];
            return Err(VolumeError::Twice { key: key.to_owned(), values });
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

impl Volume {
    /// Reads the flag `--volume NAME,kind=KIND,KEY=VALUE…`.
    ///
    /// # Errors
    /// The flag breaks a rule; the text is what follows `invalid value in --volume flag "<x>": `.
    pub fn from_flag(flag: &str) -> Result<Self, VolumeError> {
        let (name, rest) = flag.split_once(',').unwrap_or((flag, ""));
        let name = name.parse().map_err(|problem| VolumeError::Name { problem })?;
        let mut parts = Parts::default();
        for (key, value) in pairs(rest)? {
            match key {
                "kind" => value.clone_into(&mut parts.kind),
                "source" => value.clone_into(&mut parts.source),
                "readOnly" => parts.read_only = Some(parse_bool("readOnly", value)?),
                "recursive" => parts.recursive = Some(parse_bool("recursive", value)?),
                "mode" => parts.mode = Some(parse_mode(value)?),
                "uid" => parts.uid = Some(parse_id("uid", value)?),
                "gid" => parts.gid = Some(parse_id("gid", value)?),
                _ => return Err(VolumeError::UnknownVolumeKey { key: key.to_owned() }),
            }
        }
        parts.into_volume(name)
    }

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
    /// Reads the flag `--mount volume=NAME,target=PATH`.
    ///
    /// # Errors
    /// The flag breaks a rule.
    pub fn from_flag(flag: &str) -> Result<Self, VolumeError> {
        let (mut volume, mut path) = (None, String::new());
        for (key, value) in pairs(flag)? {
            match key {
                "volume" => {
                    volume = Some(value.parse().map_err(|problem| VolumeError::MountName {
                        name: value.to_owned(),
                        flag: flag.to_owned(),
                        problem,
                    })?);
                }
                "target" => value.clone_into(&mut path),
                _ => return Err(VolumeError::UnknownMountKey { key: key.to_owned() }),
            }
        }
        let volume = volume.ok_or(VolumeError::Missing { what: "volume" })?;
        match path.as_str() {
            "" => Err(VolumeError::Missing { what: "target" }),
            path if path.contains('\0') => Err(VolumeError::Nul { key: "target" }),
            _ => Ok(Self { volume, path, app_volume: None }),
        }
    }

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(source: &str) -> VolumeKind {
        VolumeKind::Host { source: source.to_owned() }
    }

    #[test]
    fn the_volume_flag_gives_a_volume() {
        for (flag, kind, read_only, recursive) in [
            ("v,kind=host,source=/srv", host("/srv"), None, None),
            ("v,source=/a=b,kind=host,readOnly=true", host("/a=b"), Some(true), None),
            ("v,kind=host,source=/%20+&;,readOnly=0,recursive=f", host("/%20+&;"), Some(false), Some(false)),
            ("v,kind=empty", VolumeKind::EMPTY, None, None),
            (
                "v,kind=empty,readOnly=TRUE,mode=01777,uid=5,gid=4294967294",
                VolumeKind::Empty { mode: 0o1777, uid: 5, gid: 4_294_967_294 },
                Some(true),
                None,
            ),
        ] {
            let expected = Volume { name: "v".parse().unwrap(), kind, read_only, recursive };
            assert_eq!(Volume::from_flag(flag), Ok(expected), "{flag}");
        }
    }

    #[test]
    fn the_volume_flag_is_refused_with_its_rule() {
        let kind = "unrecognized volume kind: should be one of \"empty\", \"host\"";
        let name = "invalid volume name: \"A\" is not an AC name: only lower-case letters, digits and \"-\" are allowed";
        for (flag, expected) in [
            ("", "invalid volume name: \"\" is not an AC name: it is empty"),
            ("A,kind=empty", name),
            ("v", kind),
            ("v,source=/a", kind),
            ("v,kind=nfs", kind),
            ("v,kind=host", "source for host volume cannot be empty"),
            ("v,kind=host,source=", "source for host volume cannot be empty"),
            ("v,kind=host,source=a", "source for host volume must be absolute path"),
            ("v,kind=host,source=/a\0", "source holds a NUL character"),
            ("v,kind=empty,source=/a", "source for empty volume must be empty"),
            ("v,kind=host,source=/a,mode=0755", "mode for host volume cannot be set"),
            ("v,kind=host,source=/a,uid=0", "uid for host volume cannot be set"),
            ("v,kind=host,source=/a,gid=0", "gid for host volume cannot be set"),
            ("v,kind=empty,size=1", "unknown volume parameter \"size\""),
            ("v,kind=empty,Mode=1", "unknown volume parameter \"Mode\""),
            ("v,kind=empty,mode", "\"mode\" is not of the form KEY=VALUE"),
            ("v,kind=empty,kind=host", "label kind with multiple values [\"empty\" \"host\"]"),
            ("v,kind=empty,mode=999", "mode must be octal permissions up to 7777, not \"999\""),
            ("v,kind=empty,mode=10000", "mode must be octal permissions up to 7777, not \"10000\""),
            ("v,kind=empty,mode=+7", "mode must be octal permissions up to 7777, not \"+7\""),
            ("v,kind=empty,uid=-1", "uid must be a whole number between 0 and 4294967294, not \"-1\""),
            (
                "v,kind=empty,gid=4294967295",
                "gid must be a whole number between 0 and 4294967294, not \"4294967295\"",
            ),
            ("v,kind=empty,readOnly=yes", "readOnly must be true or false, not \"yes\""),
        ] {
            assert_eq!(
                Volume::from_flag(flag).map_err(|error| error.to_string()),
                Err(expected.to_owned()),
                "{flag}"
            );
        }
    }

    #[test]
    fn the_mount_flag_gives_a_mount() {
        for (flag, expected) in [
            ("volume=v,target=/a=b", Ok(("v", "/a=b"))),
            ("target=rel,volume=v-2", Ok(("v-2", "rel"))),
            ("volume=v", Err("target must be set")),
            ("volume=v,target=", Err("target must be set")),
            ("target=/a", Err("volume must be set")),
            ("", Err("volume must be set")),
            ("volume=v,target=/a\0", Err("target holds a NUL character")),
            ("volume=v,path=/a", Err("unknown mount parameter \"path\"")),
            ("volume=v,target=/a,target=/b", Err("label target with multiple values [\"/a\" \"/b\"]")),
            ("v", Err("\"v\" is not of the form KEY=VALUE")),
            (
                "volume=a--b,target=/a",
                Err(
                    "invalid volume name \"a--b\" in --mount flag \"volume=a--b,target=/a\": \"a--b\" is not an AC name: \
                     two separators may not follow each other",
                ),
            ),
        ] {
            let found = Mount::from_flag(flag).map_err(|error| error.to_string());
            let found = found.as_ref().map(|mount| (mount.volume.as_str(), mount.path.as_str()));
            assert_eq!(found.map_err(String::as_str), expected, "{flag}");
        }
    }

    proptest! {
        #[test]
        fn any_flag_is_read_or_refused(rest in "(,(kind|source|mode|uid|readOnly|x)=[a-z0-9/=]{0,5}){0,5}") {
            if let Ok(volume) = Volume::from_flag(&format!("v{rest}")) {
                prop_assert_eq!(volume.check(), Ok(()));
                let value = volume.write();
                prop_assert_eq!(Volume::read(&Field::document(&value)), Ok(volume));
            }
        }
    }
}
