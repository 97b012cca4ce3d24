//! The files of one level, of which no two may say the same thing.

use std::collections::btree_map::{BTreeMap, Entry};
use std::path::Path;

use super::error::ConfigError;
use super::fragment::Fragment;
use super::settings::Settings;

/// One level while its files are read.
#[derive(Debug, Default)]
pub(super) struct Level(Settings);

impl Level {
    /// Adds what a file says.
    pub(super) fn add(&mut self, fragment: Fragment, file: &Path) -> Result<(), ConfigError> {
        self.merge(fragment).map_err(|problem| ConfigError::Content { file: file.to_owned(), problem })
    }

    pub(super) fn finish(self) -> Settings {
        self.0
    }

    fn merge(&mut self, fragment: Fragment) -> Result<(), String> {
        let settings = &mut self.0;
        match fragment {
            Fragment::Auth { domains, credentials } => {
                for domain in domains {
                    let twice = format!("auth for domain \"{domain}\" is already specified");
                    insert(&mut settings.auth, domain, credentials.clone(), twice)?;
                }
                Ok(())
            }
            Fragment::DockerAuth { registries, login } => {
                for registry in registries {
                    let twice =
                        format!("credentials for docker registry \"{registry}\" are already specified");
                    insert(&mut settings.docker_auth, registry, login.clone(), twice)?;
                }
                Ok(())
            }
            Fragment::Paths(paths) => {
                set(&mut settings.paths.data, paths.data, "data directory is already specified")?;
                let twice = "stage1 images directory is already specified";
                set(&mut settings.paths.stage1_images, paths.stage1_images, twice)
            }
            Fragment::Stage1(stage1) => {
                let twice = "name and version of a default stage1 image are already specified";
                set(&mut settings.stage1.image, stage1.image, twice)?;
                let twice = "location of a default stage1 image is already specified";
                set(&mut settings.stage1.location, stage1.location, twice)
            }
        }
    }
}

fn insert<T>(map: &mut BTreeMap<String, T>, key: String, value: T, twice: String) -> Result<(), String> {
    match map.entry(key) {
        Entry::Occupied(_) => Err(twice),
        Entry::Vacant(free) => {
            free.insert(value);
            Ok(())
        }
    }
}

fn set<T>(place: &mut Option<T>, value: Option<T>, twice: &str) -> Result<(), String> {
    match (&place, value) {
        (_, None) => Ok(()),
        (Some(_), Some(_)) => Err(twice.to_owned()),
        (None, value) => {
            *place = value;
            Ok(())
        }
    }
}
