//! Why the configuration could not be had.

use std::path::PathBuf;

use crate::os::{Hint, SysError};

/// Why the configuration could not be read. Nothing of it is used then.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A level or subdirectory is something else.
    #[error("expected \"{}\" to be a directory", .path.display())]
    NoDirectory {
        /// Its path.
        path: PathBuf,
    },
    /// A file does not say what it is about.
    #[error("no rktKind specified in \"{}\"", .file.display())]
    NoKind {
        /// Which.
        file: PathBuf,
    },
    /// A file does not say how to read it.
    #[error("no rktVersion specified in \"{}\"", .file.display())]
    NoVersion {
        /// Which.
        file: PathBuf,
    },
    /// A file is about something else than its directory.
    #[error(
        "the configuration directory \"{}\" expects to have configuration files of kinds {}, but \"{}\" has kind of \"{kind}\"",
        .dir.display(), quoted(.expected), .file.display()
    )]
    WrongKind {
        /// The directory.
        dir: PathBuf,
        /// The kinds that it may hold.
        expected: Vec<&'static str>,
        /// The file.
        file: PathBuf,
        /// The kind that it has.
        kind: String,
    },
    /// A file is of a version that this program does not know.
    #[error("no parser available for configuration of kind \"{kind}\" and version \"{version}\"")]
    UnknownVersion {
        /// The kind.
        kind: String,
        /// The version.
        version: String,
        /// The file.
        file: PathBuf,
    },
    /// The content of a file breaks a rule.
    #[error("failed to parse \"{}\": {problem}", .file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file can't be read.
    #[error(transparent)]
    Read(#[from] SysError),
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoKind { .. } => {
                Some("a file begins like { \"rktKind\": \"auth\", \"rktVersion\": \"v1\", … }".into())
            }
            Self::NoVersion { .. } => Some("the only version is \"v1\"".into()),
            Self::UnknownVersion { file, .. } => {
                Some(format!("the only version is \"v1\": see {}", file.display()))
            }
            Self::Read(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("files with secrets are often readable for root only: run the command as root".into())
            }
            Self::Read(cause) => cause.hint(),
            Self::NoDirectory { .. } | Self::WrongKind { .. } | Self::Content { .. } => None,
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
