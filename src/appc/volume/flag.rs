//! The flags `--volume` and `--mount` (spec pods.md 3.7.1, cli.md 1.2.1): `KEY=VALUE` pairs with commas between them.
//!
//! A value is taken as it stands; it can not hold a comma.

use super::{Mount, Parts, Volume, VolumeError, parse_id, parse_mode};
use crate::appc::name::{AcName, NameError};

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
        let name = volume_name(name).map_err(|problem| VolumeError::Name { problem })?;
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
}

/// Reads the name of a volume, in which a run of dashes counts as one.
///
/// People know `volume--var-lib-redis` as the name that a path of Docker's gives; an AC name has no two dashes in a row.
fn volume_name(text: &str) -> Result<AcName, NameError> {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '-' || !name.ends_with('-') {
            name.push(c);
        }
    }
    // An error is about what the user wrote.
    name.parse().or_else(|_| text.parse())
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
                    volume = Some(volume_name(value).map_err(|problem| VolumeError::MountName {
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::appc::{field::Field, volume::VolumeKind};

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
    fn a_run_of_dashes_in_a_volume_s_name_counts_as_one() {
        let volume = Volume::from_flag("volume--var-lib---redis,kind=empty").unwrap();
        assert_eq!(volume.name.as_str(), "volume-var-lib-redis");
        let mount = Mount::from_flag("volume=volume--data,target=/data").unwrap();
        assert_eq!(mount.volume.as_str(), "volume-data");
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
                "volume=a-,target=/a",
                Err(
                    "invalid volume name \"a-\" in --mount flag \"volume=a-,target=/a\": \"a-\" is not an AC name: \
                     it must begin and end with a lower-case letter or a digit",
                ),
            ),
        ] {
            let found = Mount::from_flag(flag).map_err(|error| error.to_string());
            let found = found.as_ref().map(|mount| (mount.volume.as_str(), mount.path.as_str()));
            assert_eq!(found.map_err(String::as_str), expected, "{flag}");
        }
    }

    /// Found by generated references.
    #[test]
    fn a_message_about_a_flag_has_no_control_character() {
        let error = Mount::from_flag("a\tb=1,a\tb=\u{1b}").unwrap_err().to_string();
        assert_eq!(error, r#"label a\tb with multiple values ["1" "\u{1b}"]"#);
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
