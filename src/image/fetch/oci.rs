//! OCI and Docker images: from files.

use super::{FetchError, Fetched, Fetcher, Notice, Signatures, Work};
use crate::image::oci::local;
use crate::image::oci::source::RemoteImage;
use crate::image::reference::LocalReference;
use crate::image::store::OciError;
use crate::image::stream::{Limits, Progress};
use crate::image::trust::Proof;

impl Fetcher<'_> {
    /// Imports an image from files, which are read whatever the policy is, as ACIs in files are.
    pub(super) fn fetch_local(&self, local: &LocalReference) -> Result<Fetched, FetchError> {
        log::debug!("using image {local}");
        if self.signatures == Signatures::Required {
            let reason = "images in files have no signature that rkt knows".to_owned();
            return Err(OciError::Unsigned { image: local.to_string(), reason }.into());
        }
        let image = local::open(local, &self.store.scratch(), &Limits::default())
            .map_err(|cause| OciError::Source { image: local.to_string(), cause })?;
        let name = local.path.file_name().unwrap_or(local.path.as_os_str()).to_string_lossy().into_owned();
        self.import_oci(&image, &Work::Import { name }, &Proof::waived())
    }

    pub(super) fn import_oci(
        &self,
        image: &RemoteImage<'_>,
        work: &Work,
        proof: &Proof,
    ) -> Result<Fetched, FetchError> {
        let show = |progress: Progress| (self.progress)(work, progress);
        let imported = self.store.import_oci(image, proof, &Limits::default(), Some(&show))?;
        for notice in imported.notices {
            (self.tell)(Notice::Image(format!("{}: {notice}", image.reference)));
        }
        Ok(Fetched { id: imported.id, skipped_devices: imported.skipped_devices })
    }
}
