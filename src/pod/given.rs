//! A pod as a manifest of the user's describes it (`--pod-manifest`, spec pods.md 3.1).
//!
//! The manifest is kept byte for byte, and never changed. What it leaves to its images is put into a second one, the
//! reified, by which the pod runs.

use std::path::Path;

use super::app::GrantedBy;
use super::draft::{Draft, DraftApp, immutable};
use crate::appc::ManifestError;
use crate::appc::image_id::ImageId;
use crate::appc::label::Label;
use crate::appc::name::{AcIdentifier, AcName};
use crate::appc::platform::PlatformError;
use crate::appc::pod_manifest::{NamingManifest, PodManifest, RuntimeApp};
use crate::image::store::{Store, StoreError};
use crate::os::{Hint, SysError, file};

/// A manifest that the user gave, some of whose images may have to be found by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadManifest {
    bytes: Vec<u8>,
    manifest: NamingManifest,
}

/// A manifest that the user gave, and that keeps every rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenManifest {
    bytes: Vec<u8>,
    manifest: PodManifest,
}

/// Why a pod can't be made of a manifest.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// Its file can't be read.
    #[error("error reading pod manifest: {0}")]
    Read(SysError),
    /// It is no manifest of a pod.
    #[error("error unmarshaling pod manifest: {}", .0.problem())]
    Unmarshal(ManifestError),
    /// An image is not there.
    #[error("error getting the image manifest from store: {0}")]
    Image(StoreError),
    /// Nothing to execute.
    #[error("app \"{0}\": no app section in the pod manifest or the image manifest")]
    NoApp(AcName),
    /// An image is for no platform of ours.
    #[error("app \"{app}\": {reason}")]
    Platform {
        /// The app.
        app: AcName,
        /// What its image is for.
        reason: PlatformError,
    },
}

impl Hint for GivenError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read(error) => error.hint(),
            Self::Image(StoreError::Missing { .. }) => Some(
                "fetch it first; `rkt image list --full` shows the IDs of the images that are there".into(),
            ),
            Self::Image(error) => error.hint(),
            Self::Platform { reason, .. } => reason.hint(),
            Self::Unmarshal(_) | Self::NoApp(_) => None,
        }
    }
}

impl ReadManifest {
    /// Reads the manifest in a file.
    ///
    /// # Errors
    /// When the file can't be read, or its content breaks a rule.
    pub fn read(path: &Path) -> Result<Self, GivenError> {
        Self::new(file::read_named(path).map_err(GivenError::Read)?)
    }

    fn new(bytes: Vec<u8>) -> Result<Self, GivenError> {
        let manifest = NamingManifest::from_json(&bytes).map_err(GivenError::Unmarshal)?;
        Ok(Self { bytes, manifest })
    }

    /// Lets `find` say the ID of each image of which the manifest has only the name and labels.
    ///
    /// # Errors
    /// The first of `find`.
    pub fn resolve<E>(
        self,
        find: impl FnMut(AcIdentifier, Vec<Label>) -> Result<ImageId, E>,
    ) -> Result<GivenManifest, E> {
        Ok(GivenManifest { bytes: self.bytes, manifest: self.manifest.resolve(find)? })
    }
}

impl GivenManifest {
    /// The manifest as it was given.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub fn manifest(&self) -> &PodManifest {
        &self.manifest
    }

    /// The images of its apps.
    ///
    /// # Errors
    /// When the store does not have one of them.
    pub fn images(&self, store: &Store) -> Result<Vec<ImageId>, GivenError> {
        let there =
            |app: &RuntimeApp| store.manifest(&app.image.id).map_err(GivenError::Image).map(|_| app.image.id);
        self.manifest.apps.iter().map(there).collect()
    }

    /// Takes from the images how those apps are executed of which the manifest does not say it.
    ///
    /// # Errors
    /// When the store does not have an image, or it is no app.
    pub(super) fn draft(&self, store: &Store) -> Result<Draft, GivenError> {
        let mut manifest = self.manifest.clone();
        let mutable = immutable();
        manifest.annotations.retain(|note| note.name != mutable.name);
        manifest.annotations.push(mutable);
        let mut apps = Vec::new();
        for app in &mut manifest.apps {
            let image = store.manifest(&app.image.id).map_err(GivenError::Image)?;
            image
                .check_runnable()
                .map_err(|reason| GivenError::Platform { app: app.name.clone(), reason })?;
            let granted_by = if app.app.is_some() { GrantedBy::User } else { GrantedBy::Image };
            app.app = app.app.take().or_else(|| image.app.clone());
            if app.app.is_none() {
                return Err(GivenError::NoApp(app.name.clone()));
            }
            let mounts = std::mem::take(&mut app.mounts);
            apps.push(DraftApp { image, mounts, granted_by });
        }
        Ok(Draft { notices: notices(&manifest), manifest, apps })
    }
}

/// What the manifest says and nobody does (spec pods.md 3.1).
fn notices(manifest: &PodManifest) -> Vec<String> {
    let told = |name| format!("warning: the isolator {name} of the whole pod is not enforced");
    manifest.isolators.iter().map(|isolator| told(isolator.name())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "sha512-0105090d1115191d2125292d3135393d4145494d5155595d6165696d7175797d";

    #[test]
    fn what_is_no_manifest_is_told_in_the_words_of_the_specification() {
        let of = |apps: serde_json::Value| {
            json!({"acKind": "PodManifest", "acVersion": "0.8.11", "apps": apps}).to_string()
        };
        let web = json!({"name": "web", "image": {"id": ID}});
        for (text, expected) in [
            ("{".into(), "JSON error at line 1, column 1: EOF while parsing an object"),
            (of(json!([{"name": "web"}])), "apps[0]: no image ID for app \"web\""),
            (of(json!([{"name": "web", "image": {"id": ""}}])), "apps[0].image: no image ID for app \"web\""),
            (of(json!([web, web])), "duplicate apps of name \"web\""),
        ] {
            let error = ReadManifest::new(text.into_bytes()).unwrap_err().to_string();
            assert_eq!(error, format!("error unmarshaling pod manifest: {expected}"));
        }
        let text = format!(" {}\n", of(json!([web])));
        let read = ReadManifest::new(text.clone().into_bytes()).unwrap();
        assert_eq!(read.resolve(|_, _| Err(())).unwrap().bytes(), text.as_bytes());
    }

    #[test]
    fn isolators_of_the_whole_pod_are_told() {
        let mut manifest = PodManifest::new("0.8.11".parse().unwrap());
        assert_eq!(notices(&manifest), [""; 0]);
        manifest.isolators.push(
            crate::appc::isolator::Isolator::parse("resource/memory", &json!({"limit": "1G"})).unwrap(),
        );
        assert_eq!(
            notices(&manifest),
            ["warning: the isolator resource/memory of the whole pod is not enforced"]
        );
    }
}
