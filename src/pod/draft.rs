//! What is in a pod before the trees of its images are looked at: its manifest, but for the mounts of its apps.
//!
//! What can be refused without unpacking an image is refused here.

use super::app::{self, AppRequest, GrantedBy, PodEnvironment};
use super::given::GivenManifest;
use super::prepare::PrepareError;
use super::volume;
use crate::appc::app::is_environment_name;
use crate::appc::image_manifest::ImageManifest;
use crate::appc::isolator::Isolator;
use crate::appc::label::Annotation;
use crate::appc::name::AcName;
use crate::appc::pod_manifest::{ExposedPort, Mount, PodManifest, RuntimeApp, Volume};
use crate::appc::semver::SemVer;
use crate::image::store::Store;

/// Says that the pod can't change its apps while it runs (spec pods.md 3.1).
const MUTABLE: &str = "coreos.com/rkt/stage1/mutable";

/// What a pod is made of.
#[derive(Debug, Clone)]
pub enum Content {
    /// Images, and flags for them.
    Wished(PodWishes),
    /// A manifest of the user's.
    Given(GivenManifest),
}

/// A pod as the flags of the command line describe it.
#[derive(Debug, Clone)]
pub struct PodWishes {
    /// Its apps, in order.
    pub apps: Vec<AppRequest>,
    /// The environment of all.
    pub environment: PodEnvironment,
    /// The ports that are reached from outside, by their names in the images.
    pub ports: Vec<ExposedPort>,
    /// What its apps can mount.
    pub volumes: Vec<Volume>,
    /// Volumes at paths of every app.
    pub mounts: Vec<Mount>,
}

/// A pod whose apps have no mounts yet.
pub(super) struct Draft {
    /// The manifest. Each app says how it is executed.
    pub manifest: PodManifest,
    /// What belongs to each of its apps, in their order.
    pub apps: Vec<DraftApp>,
    /// What the user should know.
    pub notices: Vec<String>,
}

/// What belongs to an app of a draft.
pub(super) struct DraftApp {
    /// The manifest of its image.
    pub image: ImageManifest,
    /// The mounts that are asked for; of those at one path the first counts.
    pub mounts: Vec<Mount>,
    /// Who says what the app may do.
    pub granted_by: GrantedBy,
}

impl Content {
    /// Makes the draft of a pod.
    ///
    /// # Errors
    /// When an image is not what an app needs, or two names are the same.
    pub(super) fn draft(&self, store: &Store) -> Result<Draft, PrepareError> {
        match self {
            Self::Wished(wishes) => wishes.draft(store),
            Self::Given(given) => Ok(given.draft(store)?),
        }
    }

    /// The number of apps.
    pub fn apps(&self) -> usize {
        match self {
            Self::Wished(wishes) => wishes.apps.len(),
            Self::Given(given) => given.manifest().apps.len(),
        }
    }

    /// The manifest as the user gave it, if the user gave one.
    pub(super) fn given(&self) -> Option<&GivenManifest> {
        match self {
            Self::Wished(_) => None,
            Self::Given(given) => Some(given),
        }
    }
}

impl PodWishes {
    /// Merges the wishes into what the images say.
    ///
    /// # Errors
    /// When an image is not what an app needs, or two names are the same.
    fn draft(&self, store: &Store) -> Result<Draft, PrepareError> {
        let mut manifest = PodManifest::new(SemVer::APPC);
        manifest.annotations.push(immutable());
        manifest.volumes.clone_from(&self.volumes);
        manifest.ports.clone_from(&self.ports);
        volume::check_names(&manifest.volumes)?;
        let (mut apps, mut notices) = (Vec::new(), Vec::new());
        for wanted in &self.apps {
            let image = store.manifest(&wanted.image)?;
            let mut runtime = app::runtime_app(wanted, &image, &self.environment)?;
            notices.extend(leave_out_what_is_no_variable(&mut runtime));
            if manifest.app(&runtime.name).is_some() {
                return Err(PrepareError::SameName(runtime.name));
            }
            manifest.apps.push(runtime);
            let mounts = wanted.mounts.iter().chain(&self.mounts).cloned().collect();
            apps.push(DraftApp { image, mounts, granted_by: granted_by(&wanted.isolators) });
        }
        Ok(Draft { manifest, apps, notices })
    }
}

fn granted_by(isolators: &[Isolator]) -> GrantedBy {
    let retains = |isolator: &Isolator| matches!(isolator, Isolator::CapabilitiesRetain(_));
    if isolators.iter().any(retains) { GrantedBy::User } else { GrantedBy::Image }
}

/// What every pod says of itself.
pub(super) fn immutable() -> Annotation {
    Annotation::new(MUTABLE.parse().expect("the annotation's name is an identifier"), "false")
}

/// Takes out of the manifest's app what the user's environment has, but no manifest can hold, and says so.
fn leave_out_what_is_no_variable(runtime: &mut RuntimeApp) -> Vec<String> {
    let RuntimeApp { name: app, app: Some(section), .. } = runtime else { return Vec::new() };
    let mut notices = Vec::new();
    section.environment.retain(|variable| {
        let possible = is_environment_name(&variable.name);
        if !possible {
            notices.push(left_out(app, &variable.name));
        }
        possible
    });
    notices
}

/// What the user is told of a variable that an app does not get.
pub(super) fn left_out(app: &AcName, variable: &str) -> String {
    format!("app \"{app}\": systemd can't set the variable {variable:?}, it is left out")
}
