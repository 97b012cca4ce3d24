//! The comma-separated values of `--volume` and `--mount` (spec cli.md 1.2.1, pods.md 3.7.1).

use std::{path::PathBuf, str::FromStr};

use super::args;

/// Why a volume or a mount is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// A key twice.
    #[error("label {key} with multiple values {values:?}")]
    Twice {
        /// The key.
        key: String,
        /// All its values.
        values: Vec<String>,
    },
    /// A key that mounts do not have.
    #[error("unknown mount parameter {0:?}")]
    UnknownMountKey(String),
    /// A key that mounts need.
    #[error("mount parameter {0:?} is missing")]
    MissingMountKey(&'static str),
    /// The name of a mount's volume is no AC name.
    #[error("invalid volume name {name:?} in --mount flag {flag:?}: {reason}")]
    MountName {
        /// The name.
        name: String,
        /// The whole value.
        flag: String,
        /// The rule it breaks.
        reason: String,
    },
    /// Something is wrong with a volume.
    #[error("invalid value in --volume flag {flag:?}: {reason}")]
    Volume {
        /// The whole value.
        flag: String,
        /// What is wrong.
        reason: String,
    },
}

/// `--mount volume=NAME,target=PATH`: where an app, or every app, sees a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// The volume's name.
    pub volume: String,
    /// The path in the app.
    pub target: String,
}

impl FromStr for MountSpec {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        let (mut volume, mut target) = (None, None);
        for (key, value) in pairs(text)? {
            match key {
                "volume" => volume = Some(value),
                "target" => target = Some(value),
                _ => return Err(VolumeError::UnknownMountKey(key.to_owned())),
            }
        }
        let volume = volume.ok_or(VolumeError::MissingMountKey("volume"))?;
        let target = target.ok_or(VolumeError::MissingMountKey("target"))?;
        args::ac_name(volume).map_err(|reason| VolumeError::MountName {
            name: volume.to_owned(),
            flag: text.to_owned(),
            reason: reason.to_string(),
        })?;
        Ok(Self { volume: volume.to_owned(), target: target.to_owned() })
    }
}

/// `--volume NAME,kind=KIND,…`: a directory or file that apps can mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// The name that mounts use.
    pub name: String,
    /// Where its content is.
    pub kind: VolumeKind,
    /// Whether apps may write, if that is said.
    pub read_only: Option<bool>,
    /// Whether mounts below the source come along, if that is said.
    pub recursive: Option<bool>,
}

/// Where the content of a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// A path of the host.
    Host {
        /// Absolute.
        source: PathBuf,
    },
    /// A directory that lives as long as the pod.
    Empty {
        /// The directory's permissions.
        mode: u32,
        /// The directory's owner.
        uid: u32,
        /// The directory's group.
        gid: u32,
    },
}

impl FromStr for VolumeSpec {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        let refused = |reason: String| VolumeError::Volume { flag: text.to_owned(), reason };
        let (name, rest) = text.split_once(',').unwrap_or((text, ""));
        args::ac_name(name).map_err(|reason| refused(reason.to_string()))?;
        let pairs = pairs(rest).map_err(|error| refused(error.to_string()))?;
        Draft::read(&pairs).and_then(|draft| draft.finish(name)).map_err(refused)
    }
}

/// A volume as it was written down.
#[derive(Default)]
struct Draft<'t> {
    kind: Option<&'t str>,
    source: Option<&'t str>,
    read_only: Option<bool>,
    recursive: Option<bool>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl<'t> Draft<'t> {
    fn read(pairs: &[(&'t str, &'t str)]) -> Result<Self, String> {
        let mut draft = Self::default();
        for (key, value) in pairs {
            let boolean = || args::boolean(value).map_err(|reason| format!("{key} {reason}"));
            let id = || value.parse().map_err(|_| format!("{key} must be a number, not {value:?}"));
            match *key {
                "kind" => draft.kind = Some(value),
                "source" => draft.source = Some(value),
                "readOnly" => draft.read_only = Some(boolean()?),
                "recursive" => draft.recursive = Some(boolean()?),
                "mode" => draft.mode = Some(mode(value)?),
                "uid" => draft.uid = Some(id()?),
                "gid" => draft.gid = Some(id()?),
                _ => return Err(format!("unknown volume parameter {key:?}")),
            }
        }
        Ok(draft)
    }

    fn finish(self, name: &str) -> Result<VolumeSpec, String> {
        let kind = match self.kind {
            Some("host") => self.host()?,
            Some("empty") => match self.source {
                Some(source) if !source.is_empty() => {
                    return Err("source for empty volume must be empty".to_owned());
                }
                _ => VolumeKind::Empty {
                    mode: self.mode.unwrap_or(0o755),
                    uid: self.uid.unwrap_or(0),
                    gid: self.gid.unwrap_or(0),
                },
            },
            _ => return Err(r#"unrecognized volume kind: should be one of "empty", "host""#.to_owned()),
        };
        Ok(VolumeSpec { name: name.to_owned(), kind, read_only: self.read_only, recursive: self.recursive })
    }

    fn host(&self) -> Result<VolumeKind, String> {
        let source = self.source.unwrap_or_default();
        if source.is_empty() {
            return Err("source for host volume cannot be empty".to_owned());
        }
        if !source.starts_with('/') {
            return Err("source for host volume must be absolute path".to_owned());
        }
        for (key, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
            if value.is_some() {
                return Err(format!("{key} for host volume cannot be set"));
            }
        }
        Ok(VolumeKind::Host { source: source.into() })
    }
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => Err(format!("mode must be octal digits such as 0755, not {text:?}")),
    }
}

/// Splits `KEY=VALUE,KEY=VALUE`; a key has one value.
fn pairs(text: &str) -> Result<Vec<(&str, &str)>, VolumeError> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let pairs: Vec<_> = parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
    for (key, _) in &pairs {
        let values: Vec<_> =
            pairs.iter().filter(|(other, _)| other == key).map(|(_, value)| (*value).to_owned()).collect();
        if values.len() > 1 {
            return Err(VolumeError::Twice { key: (*key).to_owned(), values });
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_have_a_volume_and_a_target() {
        let mount = MountSpec { volume: "data".into(), target: "/srv".into() };
        assert_eq!("volume=data,target=/srv".parse(), Ok(mount.clone()));
        assert_eq!("target=/srv,volume=data".parse(), Ok(mount));
        for (text, error) in [
            ("volume=data,path=/", r#"unknown mount parameter "path""#),
            ("volume=a,volume=b,target=/", r#"label volume with multiple values ["a", "b"]"#),
            ("target=/", r#"mount parameter "volume" is missing"#),
            ("volume=a", r#"mount parameter "target" is missing"#),
        ] {
            assert_eq!(text.parse::<MountSpec>().map_err(|e| e.to_string()), Err(error.into()), "{text}");
        }
        let bad_name = "volume=B,target=/".parse::<MountSpec>().map_err(|e| e.to_string());
        let start = r#"invalid volume name "B" in --mount flag "volume=B,target=/": "#;
        assert!(bad_name.is_err_and(|error| error.starts_with(start)));
    }

    #[test]
    fn volumes_follow_the_rules_of_their_kind() {
        let host = VolumeSpec {
            name: "data".into(),
            kind: VolumeKind::Host { source: "/srv/data".into() },
            read_only: Some(true),
            recursive: Some(false),
        };
        assert_eq!("data,kind=host,source=/srv/data,readOnly=1,recursive=false".parse(), Ok(host));
        let kind = VolumeKind::Empty { mode: 0o1777, uid: 5, gid: 0 };
        let empty = VolumeSpec { name: "tmp".into(), kind, read_only: None, recursive: None };
        assert_eq!("tmp,kind=empty,mode=1777,uid=5".parse(), Ok(empty));
        for (text, reason) in [
            ("a", r#"unrecognized volume kind: should be one of "empty", "host""#),
            ("a,kind=disk", r#"unrecognized volume kind: should be one of "empty", "host""#),
            ("a,kind=host", "source for host volume cannot be empty"),
            ("a,kind=host,source=x", "source for host volume must be absolute path"),
            ("a,kind=host,source=/x,mode=0755", "mode for host volume cannot be set"),
            ("a,kind=host,source=/x,uid=1", "uid for host volume cannot be set"),
            ("a,kind=host,source=/x,gid=1", "gid for host volume cannot be set"),
            ("a,kind=empty,source=/x", "source for empty volume must be empty"),
            ("a,kind=empty,mode=0999", r#"mode must be octal digits such as 0755, not "0999""#),
            ("a,kind=empty,uid=x", r#"uid must be a number, not "x""#),
            ("a,kind=host,source=/x,readOnly=maybe", "readOnly must be true or false"),
            ("a,kind=host,size=3", r#"unknown volume parameter "size""#),
            ("a,kind=host,kind=host", r#"label kind with multiple values ["host", "host"]"#),
        ] {
            let error = format!("invalid value in --volume flag {text:?}: {reason}");
            assert_eq!(text.parse::<VolumeSpec>().map_err(|e| e.to_string()), Err(error), "{text}");
        }
    }
}
