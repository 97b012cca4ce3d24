//! Taking images out of the store.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::{Store, StoreError};
use crate::appc::image_id::ImageId;
use crate::os::{SysError, atomic, tree};

/// How a removal went; the image is gone in both cases.
#[derive(Debug)]
pub enum Removed {
    /// With all its files.
    Whole,
    /// Some files are left in the store's temporary directory, for the next sweep.
    LeftFiles(SysError),
}

impl Store {
    /// Removes an image, whole or broken. Its tree is left to the collection of trees.
    ///
    /// Who is reading the image goes on reading.
    ///
    /// # Errors
    /// When it isn't there, or may not be removed.
    pub fn remove(&self, id: &ImageId) -> Result<Removed, StoreError> {
        let path = self.image_dir(id);
        let garbage = self.tmp_dir().join(uuid::Uuid::new_v4().simple().to_string());
        match std::fs::rename(&path, &garbage) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { id: *id });
            }
            Err(error) => return Err(SysError::new("removing", path, error).into()),
        }
        atomic::sync_dir(&self.images_dir())?;
        Ok(match tree::remove(&garbage) {
            Ok(()) => Removed::Whole,
            Err(error) => Removed::LeftFiles(error),
        })
    }

    /// The images that were last used at least `grace` before `now` and are not `in_use`, sorted by ID.
    ///
    /// A use that lies in the future, as after a clock was set back, counts as one right now.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn expired(
        &self,
        grace: Duration,
        in_use: &BTreeSet<ImageId>,
        now: SystemTime,
    ) -> Result<Vec<ImageId>, SysError> {
        let uses = self.last_uses()?;
        Ok(uses
            .into_iter()
            .filter(|(id, last_used)| {
                !in_use.contains(id) && now.duration_since(*last_used).unwrap_or_default() >= grace
            })
            .map(|(id, _)| id)
            .collect())
    }
}
