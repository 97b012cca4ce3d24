//! The messages about volumes and mounts; a user sees them word for word.

use crate::appc::{field::quoted, name::NameError};

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
    #[error("label {} with multiple values {}", .key.escape_debug(), multiple(.values))]
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
            Self::UnknownMountKey { .. } | Self::MountName { .. } | Self::Missing { .. } => {
                Some("a mount looks like volume=NAME,target=PATH".into())
            }
            Self::UnknownVolumeKey { .. }
            | Self::Kind
            | Self::NoValue { .. }
            | Self::Name { .. }
            | Self::HostSourceEmpty
            | Self::HostSourceRelative => Some(
                "a volume looks like NAME,kind=host,source=/PATH,readOnly=true or NAME,kind=empty,mode=0755"
                    .into(),
            ),
            Self::Twice { .. }
            | Self::Value { .. }
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
