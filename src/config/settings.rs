//! The whole configuration, complete and valid.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::credentials::{Credentials, Login};

/// What the configuration says, or one level of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Credentials for downloads, by `host` or `host:port`.
    pub auth: BTreeMap<String, Credentials>,
    /// Credentials for docker registries, by `host` or `host:port`.
    pub docker_auth: BTreeMap<String, Login>,
    /// Directories.
    pub paths: Paths,
    /// The default stage1 image.
    pub stage1: Stage1,
}

/// Directories; absolute where they are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// The data directory when no flag names one.
    pub data: Option<PathBuf>,
    /// Where `--stage1-from-dir` looks.
    pub stage1_images: Option<PathBuf>,
}

/// The default stage1 image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stage1 {
    /// Name and version, which come together.
    pub image: Option<(String, String)>,
    /// An absolute path, or a URL of a known scheme.
    pub location: Option<String>,
}

impl Settings {
    /// Lets a later level win: each setting that it has replaces the one here.
    pub(super) fn override_with(&mut self, later: Self) {
        self.auth.extend(later.auth);
        self.docker_auth.extend(later.docker_auth);
        replace(&mut self.paths.data, later.paths.data);
        replace(&mut self.paths.stage1_images, later.paths.stage1_images);
        replace(&mut self.stage1.image, later.stage1.image);
        replace(&mut self.stage1.location, later.stage1.location);
    }
}

/// A value cannot be unset by a later level.
fn replace<T>(here: &mut Option<T>, later: Option<T>) {
    if later.is_some() {
        *here = later;
    }
}
