//! From a reference to an image in the store, by the pull policy (spec images.md 2.3).

mod by_name;
mod download;
mod oci;
mod remote;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

pub use self::by_name::{DiscoveryError, download_key};
pub use self::download::DownloadError;
use self::remote::Remote;
use super::digest::Digest;
use super::http::{Client, ClientOptions, HttpError, Url};
use super::oci::login::Logins;
use super::reference::{Reference, ReferenceError};
use super::store::{
    Asked, FindError, ImportError, ImportOptions, NotWanted, OciError, SignatureCheck, Store, StoreError,
    Verification, check_prefix,
};
use super::stream::{Limits, Progress};
use super::trust::{ImageSignatureError, Keystore, KeystoreError, Proof, SignatureFile, VerifyError};
use crate::appc::image_id::ImageId;
use crate::appc::name::AcIdentifier;
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
    /// About what the command has done.
    Command(String),
}

/// Work that takes its time; without a known end, its total is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A file comes from a server.
    Download {
        /// `ACI` and so on.
        what: &'static str,
    },
    /// A layer comes from a registry, maybe beside others.
    Layer {
        /// The digest of its bytes.
        digest: Digest,
    },
    /// A file becomes an image.
    Import {
        /// The last part of its path or URL.
        name: String,
    },
}

/// What the user allows beside HTTPS with checked certificates (spec images.md 2.5.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transport {
    /// Discovery may use plain HTTP.
    pub discovery_by_http: bool,
    /// Keys may be fetched though it is not sure from whom.
    pub keys_from_anyone: bool,
    /// Certificates are not checked.
    pub unchecked: bool,
}

impl Transport {
    /// Tells whether keys may be fetched at all.
    const fn allows_keys(self) -> bool {
        !self.unchecked || self.keys_from_anyone
    }

    /// Tells whether they may be fetched by plain HTTP.
    const fn allows_keys_by_http(self) -> bool {
        self.discovery_by_http && self.keys_from_anyone
    }
}

/// A client that is made when it is needed.
pub struct Network {
    options: ClientOptions,
    logins: Logins,
    client: OnceCell<Client>,
}

impl Network {
    /// Says how a client is to be made.
    pub fn new(options: ClientOptions) -> Self {
        Self { options, logins: Logins::default(), client: OnceCell::new() }
    }

    /// Adds who the user is to registries.
    #[must_use]
    pub fn with_logins(mut self, logins: Logins) -> Self {
        self.logins = logins;
        self
    }

    /// Returns the client.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn client(&self) -> Result<&Client, HttpError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(self.options.clone())?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// A key as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedKey {
    /// Where: a path or an URL.
    pub location: String,
    /// The file.
    pub text: Vec<u8>,
}

/// Offers keys that were found for a name to the user; what went wrong is told, and no more.
pub type OfferKeys<'a> = &'a dyn Fn(&AcIdentifier, &[OfferedKey]) -> Result<(), String>;

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
    /// The prefix that the image must be trusted for, if the user demands one.
    pub demanded: Option<&'a AcIdentifier>,
    /// How servers are reached.
    pub network: &'a Network,
    /// Whether plain HTTP may be used for discovery, and for keys.
    pub transport: Transport,
    /// Offers the keys that were found for a name to the user, to be trusted.
    pub offer_keys: OfferKeys<'a>,
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
    /// The OCI image could not be imported.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The store does not have it.
    #[error(transparent)]
    Find(#[from] FindError),
    /// What the store has is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The policy forbids to look elsewhere.
    #[error("unable to fetch {kind} \"{reference}\": it is not in the store, and the pull policy is `never`")]
    StoreOnly {
        /// `image from URL` and so on.
        kind: &'static str,
        /// As it was named.
        reference: String,
    },
    /// Nobody is trusted for an image of a registry.
    #[error(
        "signature verification for docker images is not supported without a trusted key (try \
         --insecure-options=image)"
    )]
    NoImageKey {
        /// The registry and the name there.
        name: String,
    },
    /// An image of a registry is not signed by whom it should.
    #[error("image {image} verification failed: {cause}")]
    ImageSignature {
        /// As it was named.
        image: String,
        /// What is wrong.
        cause: ImageSignatureError,
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
    /// The image did not come.
    #[error("error downloading ACI: {0}")]
    Download(DownloadError),
    /// The signature did not come.
    #[error("error downloading the signature file: {0}")]
    DownloadSignature(DownloadError),
    /// The server has promised the signature for later, again.
    #[error("error downloading the signature file: {url}: the server asked to defer the download again")]
    DeferredAgain {
        /// From where.
        url: String,
    },
    /// What came as signature is none.
    #[error("{url}: {cause}")]
    BadSignature {
        /// From where.
        url: String,
        /// What is wrong.
        cause: VerifyError,
    },
    /// Nobody who could make the signature is trusted.
    #[error("image \"{name}\" verification failed: {cause}")]
    Unknown {
        /// The image's name.
        name: AcIdentifier,
        /// What is wrong.
        cause: VerifyError,
    },
    /// The keys could not be read.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// No server tells where the image is.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// A key did not come.
    #[error("error downloading the key {url}: bad HTTP status code: {status}")]
    KeyStatus {
        /// From where.
        url: String,
        /// What the server said.
        status: u16,
    },
    /// An URL is none.
    #[error("invalid image string \"{url}\": {cause}")]
    Url {
        /// The text.
        url: String,
        /// What is wrong.
        cause: url::ParseError,
    },
    /// The store could not be read or written.
    #[error(transparent)]
    System(#[from] SysError),
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
    /// Its labels ask for what can't run here.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

impl Hint for FetchError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Import(cause) => cause.hint(),
            Self::Oci(cause) => cause.hint(),
            Self::Find(cause) => cause.hint(),
            Self::Reference(cause) => cause.hint(),
            Self::OpenSignature(_) => Some(
                "name the signature's file with --signature, or, if you trust the image, skip the check with \
                 --insecure-options=image"
                    .into(),
            ),
            Self::Signature { cause, .. }
            | Self::BadSignature { cause, .. }
            | Self::Unknown { cause, .. } => cause.hint(),
            Self::Download(cause) => cause.hint(),
            Self::DownloadSignature(cause) => match cause {
                DownloadError::Status { status: 404 | 410, .. } => Some(
                    "an image without a signature is refused; if you trust it, skip the check with \
                     --insecure-options=image"
                        .into(),
                ),
                other => other.hint(),
            },
            Self::DeferredAgain { .. } => Some("try again later".into()),
            Self::Keystore(cause) => cause.hint(),
            Self::Store(cause) => cause.hint(),
            Self::Discovery(cause) => cause.hint(),
            Self::System(cause) => cause.hint(),
            Self::Url { .. } | Self::KeyStatus { .. } | Self::Interrupted => None,
            Self::NoImageKey { name } => Some(format!(
                "trust the publisher's key with `rkt trust --prefix=docker://{name} PUBKEY`, or, if you trust where the \
                 image comes from, skip the check with --insecure-options=image"
            )),
            Self::ImageSignature { cause, .. } => cause.hint(),
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
        let found = self.find(wanted)?;
        if let Some(prefix) = self.demanded {
            // What was in the store before has not been looked at.
            let name = self.store.manifest(&found.id)?.name;
            check_prefix(&name, prefix).map_err(ImportError::from)?;
            if self.signatures == Signatures::Required && self.store.signer(&found.id)?.is_none() {
                return Err(ImportError::from(NotWanted::Unsigned { name, prefix: prefix.clone() }).into());
            }
        }
        Ok(found)
    }

    fn find(&self, wanted: &Wanted<'_>) -> Result<Fetched, FetchError> {
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
                if policy != Policy::Update {
                    match self.store.find_name(&wanted.name, &wanted.labels) {
                        Ok(id) => {
                            log::debug!("using image from local store for image name {name}");
                            return Ok(stored(id));
                        }
                        Err(FindError::NoName { .. }) if policy == Policy::New => {}
                        Err(FindError::NoName { .. }) => return Err(elsewhere(reference)),
                        Err(error) => return Err(error.into()),
                    }
                }
                log::debug!("searching for app image {name}");
                self.fetch_name(name, &wanted, signature)
            }
            Reference::Url(url) => {
                let parsed = Url::parse(url).map_err(|cause| FetchError::Url { url: url.clone(), cause })?;
                if policy != Policy::Update {
                    if let Some(record) = self.store.url_record(parsed.as_str())
                        && self.store.manifest(&record.image).is_ok()
                    {
                        log::debug!("using image from local store for url {url}");
                        return Ok(stored(record.image));
                    }
                    if policy == Policy::Never {
                        return Err(elsewhere(reference));
                    }
                }
                log::debug!("remote fetching from URL {url:?}");
                self.network
                    .client()
                    .map_err(|error| FetchError::Download(error.into()))?
                    .know_host(parsed.host_str().unwrap_or_default());
                let location = remote::signature_location(&parsed, signature);
                self.fetch_remote(&Remote {
                    url: &parsed,
                    signature: location,
                    asked: Asked::ForThisOne,
                    wanted: None,
                })
            }
            Reference::Local(local) => self.fetch_local(local),
            Reference::Docker(docker) => self.fetch_docker(docker, reference, policy),
        }
    }

    fn fetch_file(&self, path: &Path, signature: Option<&Path>) -> Result<Fetched, FetchError> {
        log::debug!("using image from file {}", path.display());
        let verification = match self.signatures {
            Signatures::Skipped => Verification::Skipped,
            Signatures::Required => {
                let file = signature.map_or_else(|| beside(path), Path::to_owned);
                let signature = read_signature(&file)?;
                Verification::Required(SignatureCheck {
                    signature,
                    keystore: self.keystore,
                    wanted: None,
                    demanded: self.demanded,
                })
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
        text.push_str(&format!("\n  key {}, trusted for {}", signer.fingerprint, signer.trusted_for));
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

/// Says that the policy forbids to look for the image elsewhere.
fn elsewhere(reference: &Reference) -> FetchError {
    let kind = match reference {
        Reference::Url(_) => "image from URL",
        Reference::Docker(_) => "docker image from URL",
        Reference::Name(_) | Reference::Id(_) | Reference::File(_) | Reference::Local(_) => {
            "image from image name"
        }
    };
    FetchError::StoreOnly { kind, reference: reference.to_string() }
}
