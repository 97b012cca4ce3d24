//! The configuration: files of three levels, read strictly, merged setting by setting (spec config.md).
//!
//! ```text
//! <level>/auth.d/*.json      kinds auth and dockerAuth: credentials
//! <level>/paths.d/*.json     kind paths: directories
//! <level>/stage1.d/*.json    kind stage1: the default stage1 image
//! ```
//!
//! A level or subdirectory that is missing says nothing; one file that can't be understood stops everything, since what
//! it was meant to say is unknown. Keys and networks, which live in the same levels, are read elsewhere.

mod credentials;
mod error;
mod fragment;
mod merge;
mod settings;

use std::path::{Path, PathBuf};

pub use self::credentials::{Credentials, Login, Secret};
pub use self::error::ConfigError;
use self::fragment::Kind;
use self::merge::Level;
pub use self::settings::{Paths, Settings, Stage1};
use crate::os::{SysError, file};

/// The subdirectories of a level, with the kinds that each may hold.
const SUBDIRECTORIES: [(&str, &[Kind]); 3] =
    [("auth.d", &[Kind::Auth, Kind::DockerAuth]), ("paths.d", &[Kind::Paths]), ("stage1.d", &[Kind::Stage1])];

/// Reads the levels, of which a later one wins over those before it.
///
/// # Errors
/// When a file can't be read or understood, or two files of one level say the same thing.
pub fn load<'p>(levels: impl IntoIterator<Item = &'p Path>) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    for level in levels {
        settings.override_with(read_level(level)?);
    }
    Ok(settings)
}

fn read_level(dir: &Path) -> Result<Settings, ConfigError> {
    let mut level = Level::default();
    if !is_there(dir)? {
        return Ok(level.finish());
    }
    for (name, kinds) in SUBDIRECTORIES {
        let dir = dir.join(name);
        if !is_there(&dir)? {
            continue;
        }
        for path in fragments(&dir)? {
            let text = file::read(&path).map_err(ConfigError::Read)?;
            level.add(fragment::parse(&path, kinds, &text)?, &path)?;
        }
    }
    Ok(level.finish())
}

/// Tells whether there is such a directory; anything else there is refused.
fn is_there(dir: &Path) -> Result<bool, ConfigError> {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => Err(ConfigError::NoDirectory { path: dir.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(SysError::new("looking at", dir, error).into()),
    }
}

/// The files of a subdirectory that count, in the order of their names.
fn fragments(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(SysError::on("reading", dir))? {
        let entry = entry.map_err(SysError::on("reading", dir))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(SysError::on("looking at", &path))?;
        if kind.is_file() && path.extension().is_some_and(|ending| ending == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests;
