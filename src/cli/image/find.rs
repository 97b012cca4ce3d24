//! From an image as the user names it to an ID in the store, for the commands about pods and `fetch`.

use std::path::Path;

use super::super::{CliError, Context, Insecure, output, pod_flags::PullPolicy, progress::Bars};
use crate::{
    appc::image_id::ImageId,
    image::{
        dependencies,
        fetch::{FetchError, Fetched, Fetcher, Notice, Policy, Signatures, Wanted},
        reference::{Reference, ReferenceError},
        store::{ImportError, Store, StoreError},
    },
    os::{Hint, SysError},
};

/// An image as the user named it.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The text.
    pub text: &'a str,
    /// The file of `--signature`.
    pub signature: Option<&'a Path>,
    /// When it is looked for outside of the store.
    pub policy: PullPolicy,
}

/// Finds or imports the image of an app, ready to be told.
///
/// # Errors
/// As [`find_image`].
pub fn app_image(image: &Named<'_>, store: &Store, ctx: &Context) -> Result<ImageId, CliError> {
    let id = image_alone(image, store, ctx)?;
    find_dependencies(store, &id)?;
    Ok(id)
}

/// As [`app_image`], without the images below it.
///
/// # Errors
/// As [`find_image`].
pub fn image_alone(image: &Named<'_>, store: &Store, ctx: &Context) -> Result<ImageId, CliError> {
    find_image(store, ctx, image).map_err(FindImageError::tell)
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
            Self::Fetch(FetchError::OpenSignature(cause)) => {
                CliError::new("error opening signature file").because(cause)
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
/// When the text means nothing, or the image can't be found, verified or imported.
pub fn find_image(store: &Store, ctx: &Context, image: &Named<'_>) -> Result<ImageId, FindImageError> {
    // Without a working directory only absolute paths mean a file.
    let cwd = std::env::current_dir().unwrap_or_default();
    let reference = Reference::parse(image.text, &cwd, Path::is_file)?;
    let bars = Bars::default();
    let keystore = ctx.keystore();
    let fetcher = Fetcher {
        store,
        keystore: &keystore,
        signatures: if ctx.insecure.allows(Insecure::Image) {
            Signatures::Skipped
        } else {
            Signatures::Required
        },
        tell: &|notice| {
            bars.clear();
            tell(&notice);
        },
        progress: &|work, progress| bars.show(work, progress),
    };
    let signature = image.signature.map(|file| cwd.join(file));
    let wanted =
        Wanted { reference: &reference, policy: image.policy.into(), signature: signature.as_deref() };
    let Fetched { id, skipped_devices } = fetcher.fetch(&wanted)?;
    drop(bars);
    if skipped_devices > 0 {
        output::message(format_args!(
            "{reference}: {skipped_devices} device node(s) left out, as a pod makes the /dev of its apps"
        ));
    }
    Ok(id)
}

fn tell(notice: &Notice) {
    match notice {
        Notice::Image(text) => output::message_of("image", text),
        Notice::Pubkey(text) => output::message_of("pubkey", text),
    }
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
