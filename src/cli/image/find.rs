//! From an image as the user names it to an ID in the store, for the commands about pods and `fetch`.

use std::path::Path;

use super::super::{CliError, Context, Insecure, output, pod_flags::PullPolicy, progress::ImportBar};
use crate::{
    appc::image_id::ImageId,
    image::{
        dependencies,
        fetch::{self, FetchError, Fetched, Policy},
        reference::{Reference, ReferenceError},
        store::{ImportError, ImportOptions, Store, StoreError, Verification},
        stream::{Limits, Progress},
    },
    os::{Hint, SysError},
};

/// Finds or imports the image of an app, ready to be told.
pub fn app_image(text: &str, policy: PullPolicy, store: &Store, ctx: &Context) -> Result<ImageId, CliError> {
    let id = find_image(store, ctx, text, policy).map_err(FindImageError::tell)?;
    find_dependencies(store, &id)?;
    Ok(id)
}

/// Makes sure that all images below one are in the store, ready to be told.
pub fn find_dependencies(store: &Store, id: &ImageId) -> Result<(), CliError> {
    dependencies::fetch_all(store, id, |wanted| store.find_dependency(wanted)).map_err(|error: StoreError| {
        let failure = CliError::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

/// Why an image that the user named is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum FindImageError {
    /// The text means nothing.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// It could not be found or imported.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl Hint for FindImageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Reference(cause) => cause.hint(),
            Self::Fetch(cause) => cause.hint(),
        }
    }
}

impl FindImageError {
    /// Makes the failure of a command that does nothing but find images.
    pub fn tell(self) -> CliError {
        let hint = self.hint();
        let error = match self {
            Self::Fetch(FetchError::Import(ImportError::Open(cause))) => {
                CliError::new("error opening ACI file").because(cause)
            }
            other => CliError::new(other.to_string()),
        };
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Returns the ID of an image as `run`, `prepare` and `fetch` take it, importing it if it is a file.
///
/// # Errors
/// When the text means nothing, or the image can't be found or imported.
pub fn find_image(
    store: &Store,
    ctx: &Context,
    text: &str,
    policy: PullPolicy,
) -> Result<ImageId, FindImageError> {
    // Without a working directory only absolute paths mean a file.
    let cwd = std::env::current_dir().unwrap_or_default();
    let reference = Reference::parse(text, &cwd, Path::is_file)?;
    let bar = match &reference {
        Reference::File(path) => Some(ImportBar::new(path)),
        Reference::Id(_)
        | Reference::Url(_)
        | Reference::Docker(_)
        | Reference::Local(_)
        | Reference::Name(_) => None,
    };
    let show = |progress: Progress| {
        if let Some(bar) = &bar {
            bar.show(progress);
        }
    };
    let verification =
        if ctx.insecure.allows(Insecure::Image) { Verification::Skipped } else { Verification::Required };
    let options = ImportOptions { verification, limits: Limits::default(), progress: Some(&show) };
    let Fetched { id, skipped_devices } = fetch::fetch(store, &reference, policy.into(), &options)?;
    drop(bar);
    if skipped_devices > 0 {
        output::message(format_args!(
            "{reference}: {skipped_devices} device node(s) left out, as a pod makes the /dev of its apps"
        ));
    }
    Ok(id)
}

/// Makes the failure of a command that can't open the store.
pub fn cannot_open(error: SysError) -> CliError {
    let is_denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let failure = CliError::new("cannot open store").because(error);
    if is_denied {
        failure.hint("only root and members of the group rkt may write to the store")
    } else {
        failure
    }
}

impl From<PullPolicy> for Policy {
    fn from(policy: PullPolicy) -> Self {
        match policy {
            PullPolicy::New => Self::New,
            PullPolicy::Update => Self::Update,
            PullPolicy::Never => Self::Never,
        }
    }
}
