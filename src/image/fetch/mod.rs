//! From a reference to an image in the store, by the pull policy (spec images.md 2.3).

use super::reference::{Reference, ReferenceError};
use super::store::{FindError, ImportError, ImportOptions, Store};
use crate::appc::image_id::ImageId;
use crate::os::Hint;

/// When an image is looked for outside of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Only if the store does not have it.
    New,
    /// Always, if there may be a newer one.
    Update,
    /// Never; files, which are outside of it, are read all the same.
    Never,
}

/// An image that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Its ID.
    pub id: ImageId,
    /// Device nodes that were in the image and are not in its tree.
    pub skipped_devices: u64,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The store does not have it.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The policy forbids to look elsewhere.
    #[error("unable to fetch {kind} \"{reference}\": it is not in the store, and the pull policy is `never`")]
    StoreOnly {
        /// `image from URL` and so on.
        kind: &'static str,
        /// As it was named.
        reference: String,
    },
    /// It would come from where this version can't get it.
    #[error("{reference} is not in the store, and {missing} is not supported by this version yet")]
    NotYet {
        /// As it was named.
        reference: String,
        /// What is missing.
        missing: &'static str,
    },
    /// The same, and the user wants the newest.
    #[error("{reference} is not updated: {missing} is not supported by this version yet")]
    NoUpdateYet {
        /// As it was named.
        reference: String,
        /// What is missing.
        missing: &'static str,
    },
    /// Its labels ask for what can't run here.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

impl Hint for FetchError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Import(cause) => cause.hint(),
            Self::Find(cause) => cause.hint(),
            Self::Reference(cause) => cause.hint(),
            Self::NotYet { .. } => Some("download the image with another tool and give its file".into()),
            Self::NoUpdateYet { .. } => Some(
                "use what is in the store with --pull-policy=new, or download the image with another tool and give \
                 its file"
                    .into(),
            ),
            Self::StoreOnly { .. } => None,
        }
    }
}

/// Returns the image that `reference` names, from the store or from its file.
///
/// # Errors
/// When it can't be found or imported.
pub fn fetch(
    store: &Store,
    reference: &Reference,
    policy: Policy,
    options: &ImportOptions<'_>,
) -> Result<Fetched, FetchError> {
    let stored = |id| Fetched { id, skipped_devices: 0 };
    match reference {
        Reference::File(path) => {
            log::debug!("using image from file {}", path.display());
            let imported = store.import_file(path, options)?;
            Ok(Fetched { id: imported.id, skipped_devices: imported.skipped_devices })
        }
        Reference::Id(query) => {
            let id = store.find(query)?;
            log::debug!("using image from the store with hash {id}");
            Ok(stored(id))
        }
        Reference::Name(name) => {
            let wanted = name.clone().for_host().map_err(ReferenceError::from)?;
            if policy == Policy::Update {
                return Err(elsewhere(reference, policy));
            }
            match store.find_name(&wanted.name, &wanted.labels) {
                Ok(id) => {
                    log::debug!("using image from local store for image name {name}");
                    Ok(stored(id))
                }
                Err(FindError::NoName { .. }) => Err(elsewhere(reference, policy)),
                Err(error) => Err(error.into()),
            }
        }
        Reference::Url(_) | Reference::Docker(_) | Reference::Local(_) => Err(elsewhere(reference, policy)),
    }
}

/// Says why the image doesn't come from elsewhere.
fn elsewhere(reference: &Reference, policy: Policy) -> FetchError {
    let (kind, missing) = match reference {
        Reference::Url(_) => ("image from URL", "downloading images"),
        Reference::Docker(_) => ("docker image from URL", "fetching images from docker registries"),
        Reference::Name(_) | Reference::Id(_) | Reference::File(_) | Reference::Local(_) => {
            ("image from image name", "discovering images by name")
        }
    };
    let text = reference.to_string();
    match policy {
        Policy::Never => FetchError::StoreOnly { kind, reference: text },
        Policy::New => FetchError::NotYet { reference: text, missing },
        Policy::Update => FetchError::NoUpdateYet { reference: text, missing },
    }
}
