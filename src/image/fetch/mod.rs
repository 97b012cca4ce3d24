//! From a reference to an image in the store, by the pull policy (spec images.md 2.3).

use std::path::{Path, PathBuf};

use super::reference::{Reference, ReferenceError};
use super::store::{Asked, FindError, ImportError, ImportOptions, SignatureCheck, Store, Verification};
use super::stream::{Limits, Progress};
use super::trust::{Keystore, Proof, SignatureFile, VerifyError};
use crate::appc::image_id::ImageId;
use crate::os::{Hint, SysError};

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

/// Whether images must be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// By a key that is trusted for their name.
    Required,
    /// The user has said that they need not.
    Skipped,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The image.
    pub reference: &'a Reference,
    /// When it is looked for outside of the store.
    pub policy: Policy,
    /// The file with its signature, if the user named one.
    pub signature: Option<&'a Path>,
}

/// An image that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its ID.
    pub id: ImageId,
    /// Device nodes that were in the image and are not in its tree.
    pub skipped_devices: u64,
}

/// What a user should know while images are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// About an image.
    Image(String),
    /// About a key.
    Pubkey(String),
}

/// Work that takes its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A file becomes an image.
    Import {
        /// The last part of its path or URL.
        name: String,
    },
}

/// Shows how far some work is; called from several threads.
pub type ShowProgress<'a> = &'a (dyn Fn(&Work, Progress) + Sync);

/// All that the way of an image needs.
pub struct Fetcher<'a> {
    /// Where images are kept.
    pub store: &'a Store,
    /// Who is believed.
    pub keystore: &'a Keystore,
    /// Whether images must be signed.
    pub signatures: Signatures,
    /// Tells the user.
    pub tell: &'a dyn Fn(Notice),
    /// Shows how far it is.
    pub progress: ShowProgress<'a>,
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
    /// The file with the signature can't be read.
    #[error(transparent)]
    OpenSignature(SysError),
    /// The file with the signature is none.
    #[error("{}: {cause}", .file.display())]
    Signature {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: VerifyError,
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
            Self::OpenSignature(_) => Some(
                "name the signature's file with --signature, or, if you trust the image, skip the check with \
                 --insecure-options=image"
                    .into(),
            ),
            Self::Signature { cause, .. } => cause.hint(),
            Self::StoreOnly { .. } => None,
        }
    }
}

impl Fetcher<'_> {
    /// Returns the image that is asked for, from the store or from where it is.
    ///
    /// # Errors
    /// When it can't be found, verified or imported.
    pub fn fetch(&self, wanted: &Wanted<'_>) -> Result<Fetched, FetchError> {
        let stored = |id| Fetched { id, skipped_devices: 0 };
        let Wanted { reference, policy, signature } = *wanted;
        match reference {
            Reference::File(path) => self.fetch_file(path, signature),
            Reference::Id(query) => {
                let id = self.store.find(query)?;
                log::debug!("using image from the store with hash {id}");
                Ok(stored(id))
            }
            Reference::Name(name) => {
                let wanted = name.clone().for_host().map_err(ReferenceError::from)?;
                if policy == Policy::Update {
                    return Err(elsewhere(reference, policy));
                }
                match self.store.find_name(&wanted.name, &wanted.labels) {
                    Ok(id) => {
                        log::debug!("using image from local store for image name {name}");
                        Ok(stored(id))
                    }
                    Err(FindError::NoName { .. }) => Err(elsewhere(reference, policy)),
                    Err(error) => Err(error.into()),
                }
            }
            Reference::Url(_) | Reference::Docker(_) | Reference::Local(_) => {
                Err(elsewhere(reference, policy))
            }
        }
    }

    fn fetch_file(&self, path: &Path, signature: Option<&Path>) -> Result<Fetched, FetchError> {
        log::debug!("using image from file {}", path.display());
        let verification = match self.signatures {
            Signatures::Skipped => Verification::Skipped,
            Signatures::Required => {
                let file = signature.map_or_else(|| beside(path), Path::to_owned);
                let signature = read_signature(&file)?;
                Verification::Required(SignatureCheck { signature, keystore: self.keystore, wanted: None })
            }
        };
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let work = Work::Import { name };
        let show = |progress: Progress| (self.progress)(&work, progress);
        let options = ImportOptions {
            verification,
            asked: Asked::ForThisOne,
            limits: Limits::default(),
            progress: Some(&show),
        };
        let imported = self.store.import_file(path, &options)?;
        self.tell_signer(&imported.proof);
        Ok(Fetched { id: imported.id, skipped_devices: imported.skipped_devices })
    }

    /// Tells who has signed, and why that counts.
    fn tell_signer(&self, proof: &Proof) {
        let Some(signer) = proof.signer() else { return };
        let mut text = "signature verified:".to_owned();
        for identity in &signer.identities {
            text.push_str(&format!("\n  {}", identity.replace(['\n', '\r'], " ")));
        }
        text.push_str(&format!("\n  key {}, trusted for {}", signer.fingerprint, signer.scope));
        (self.tell)(Notice::Image(text));
    }
}

/// The file of an image's signature: `.aci` becomes `.aci.asc`.
fn beside(image: &Path) -> PathBuf {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".aci").unwrap_or(&name);
    image.with_file_name(format!("{stem}.aci.asc"))
}

fn read_signature(file: &Path) -> Result<SignatureFile, FetchError> {
    // A user may have put a link to the signature beside the image.
    let real =
        file.canonicalize().map_err(SysError::on("opening", file)).map_err(FetchError::OpenSignature)?;
    let bytes = crate::os::file::read(&real).map_err(FetchError::OpenSignature)?;
    SignatureFile::parse(&bytes).map_err(|cause| FetchError::Signature { file: file.to_owned(), cause })
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
