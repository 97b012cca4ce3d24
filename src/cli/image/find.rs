//! From an image as the user names it to an ID in the store, for the commands about pods and `fetch`.

use std::path::Path;

use super::super::{
    CliError, Context, Insecure, network, output,
    pod_flags::PullPolicy,
    progress::Bars,
    trust::review::{Review, Reviewing},
};
use crate::{
    appc::{image_id::ImageId, name::AcIdentifier},
    image::{
        dependencies,
        fetch::{FetchError, Fetched, Fetcher, Notice, OfferedKey, Policy, Signatures, Wanted},
        reference::{NameReference, Reference, ReferenceError},
        store::{ImportError, Store, StoreError},
        trust::{Scope, SelfSignatures, TrustedFor},
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
    /// The prefix of `--trust-prefix`.
    pub trust_prefix: Option<&'a AcIdentifier>,
    /// When it is looked for outside of the store.
    pub policy: PullPolicy,
}

/// An image that was found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Its ID.
    pub id: ImageId,
    /// When the images below it are looked for outside of the store: as itself if it came from a server, else only those
    /// that the store does not have.
    below: PullPolicy,
}

/// Finds or imports the image of an app, ready to be told.
///
/// # Errors
/// As [`image_alone`] and [`find_dependencies`].
pub fn app_image(image: &Named<'_>, store: &Store, ctx: &Context) -> Result<ImageId, CliError> {
    let found = image_alone(image, store, ctx)?;
    find_dependencies(&found, store, ctx)?;
    Ok(found.id)
}

/// As [`app_image`], without the images below it.
///
/// # Errors
/// When the text means nothing, or the image can't be found, verified or imported.
pub fn image_alone(image: &Named<'_>, store: &Store, ctx: &Context) -> Result<Found, CliError> {
    with_fetcher(store, ctx, image.trust_prefix, |fetcher| find_image(fetcher, image))
        .map_err(FindImageError::tell)
}

/// Finds the image of a name that is no word of the command line, without the images below it.
///
/// # Errors
/// When it can't be found, verified or imported.
pub fn named_image(
    name: NameReference,
    policy: PullPolicy,
    store: &Store,
    ctx: &Context,
) -> Result<ImageId, CliError> {
    let reference = Reference::Name(name);
    with_fetcher(store, ctx, None, |fetcher| fetch(fetcher, &reference, policy.into(), None))
        .map_err(FindImageError::tell)
}

/// Makes sure that all images below one are in the store, ready to be told.
///
/// # Errors
/// When one can't be found, verified or imported, is below itself, or there are too many.
pub fn find_dependencies(found: &Found, store: &Store, ctx: &Context) -> Result<(), CliError> {
    with_fetcher(store, ctx, None, |fetcher| {
        dependencies::fetch_all(store, &found.id, |wanted| find_dependency(fetcher, wanted, found.below))
    })
    .map_err(FindImageError::tell)
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
    /// An image below it could not be found.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration could not be read.
    #[error("cannot get configuration")]
    Config(CliError),
}

impl Hint for FindImageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Reference(cause) => cause.hint(),
            Self::Fetch(cause) => cause.hint(),
            Self::Store(cause) => cause.hint(),
            Self::Config(_) => None,
        }
    }
}

impl FindImageError {
    /// Makes the failure of a command that does nothing but find images.
    pub fn tell(self) -> CliError {
        let hint = self.hint();
        let error = match self {
            Self::Config(error) => return error,
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

/// Calls `work` with all that the way of an image needs.
fn with_fetcher<T>(
    store: &Store,
    ctx: &Context,
    demanded: Option<&AcIdentifier>,
    work: impl FnOnce(&Fetcher<'_>) -> Result<T, FindImageError>,
) -> Result<T, FindImageError> {
    let bars = Bars::default();
    let network = network::of(ctx).map_err(FindImageError::Config)?;
    let keystore = ctx.keystore();
    let fetcher = Fetcher {
        store,
        keystore: &keystore,
        signatures: if ctx.insecure.allows(Insecure::Image) {
            Signatures::Skipped
        } else {
            Signatures::Required
        },
        demanded,
        network: &network,
        transport: network::transport(ctx),
        offer_keys: &|name, keys| {
            bars.clear();
            offer_keys(name, keys, ctx)
        },
        tell: &|notice| {
            bars.clear();
            tell(&notice);
        },
        progress: &|work, progress| bars.show(work, progress),
    };
    work(&fetcher)
}

/// Returns an image as `run`, `prepare` and `fetch` take it, importing it if it is a file.
fn find_image(fetcher: &Fetcher<'_>, image: &Named<'_>) -> Result<Found, FindImageError> {
    // Without a working directory only absolute paths mean a file.
    let cwd = std::env::current_dir().unwrap_or_default();
    let reference = Reference::parse(image.text, &cwd, Path::is_file)?;
    let signature = image.signature.map(|file| cwd.join(file));
    let id = fetch(fetcher, &reference, image.policy.into(), signature.as_deref())?;
    let below = match (&reference, image.policy) {
        (Reference::File(_) | Reference::Id(_), PullPolicy::Update) => PullPolicy::New,
        (_, policy) => policy,
    };
    Ok(Found { id, below })
}

/// Returns the image that a dependency names.
fn find_dependency(
    fetcher: &Fetcher<'_>,
    wanted: &dependencies::Wanted<'_>,
    policy: PullPolicy,
) -> Result<ImageId, FindImageError> {
    if policy != PullPolicy::Update {
        match fetcher.store.find_dependency(wanted) {
            Err(error) if policy == PullPolicy::New && error.is_missing_dependency() => {}
            found => return Ok(found?),
        }
    }
    let name = NameReference {
        name: wanted.dependency.image_name.clone(),
        labels: wanted.dependency.labels.clone(),
    };
    fetch(fetcher, &Reference::Name(name), Policy::Update, None)
}

fn fetch(
    fetcher: &Fetcher<'_>,
    reference: &Reference,
    policy: Policy,
    signature: Option<&Path>,
) -> Result<ImageId, FindImageError> {
    let Fetched { id, skipped_devices } = fetcher.fetch(&Wanted { reference, policy, signature })?;
    if skipped_devices > 0 {
        (fetcher.tell)(Notice::Command(format!(
            "{reference}: {skipped_devices} device node(s) left out, as a pod makes the /dev of its apps"
        )));
    }
    Ok(id)
}

/// Asks the user about keys that were found for a name.
fn offer_keys(name: &AcIdentifier, keys: &[OfferedKey], ctx: &Context) -> Result<(), String> {
    let review = Review {
        keystore: &ctx.keystore(),
        trusted_for: &TrustedFor::Names(Scope::Prefix(name.clone())),
        reviewing: if ctx.trust_keys_from_https { Reviewing::SkipForHttps } else { Reviewing::Ask },
        self_signatures: SelfSignatures::Strong,
    };
    review.offer(keys).map_err(|error| match error.hint {
        Some(hint) => format!("{}\nhint: {hint}", error.text),
        None => error.text,
    })
}

fn tell(notice: &Notice) {
    match notice {
        Notice::Image(text) => output::message_of("image", text),
        Notice::Pubkey(text) => output::message_of("pubkey", text),
        Notice::Command(text) => output::message(text),
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
