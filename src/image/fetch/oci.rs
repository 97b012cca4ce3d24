//! OCI and Docker images: from files and registries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::{FetchError, Fetched, Fetcher, Notice, Policy, Signatures, Work, elsewhere};
use crate::appc::image_id::ImageId;
use crate::image::digest::Digest;
use crate::image::oci::convert::identifier;
use crate::image::oci::local;
use crate::image::oci::name::DockerReference;
use crate::image::oci::registry::{self, Access, Resolved};
use crate::image::oci::source::{Part, RemoteImage};
use crate::image::reference::{LocalReference, Reference};
use crate::image::store::{ImportError, OciError, check_prefix};
use crate::image::stream::{Limits, Progress};
use crate::image::trust::{
    ImageSignatureError, ImageSignatures, Proof, TrustedImageKey, WantedSignature, cosign,
};

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

    /// Fetches an image from a registry, unless the policy says that what was fetched by this name before will do.
    pub(super) fn fetch_docker(
        &self,
        docker: &DockerReference,
        reference: &Reference,
        policy: Policy,
    ) -> Result<Fetched, FetchError> {
        let name = format!("docker://{docker}");
        let began = SystemTime::now();
        if policy != Policy::Update {
            if let Some((_, id)) = self.store.find_reference(&name)? {
                log::debug!("using image from local store for url {name}");
                return Ok(stored(id));
            }
            if policy == Policy::Never {
                return Err(elsewhere(reference));
            }
        }
        if let Some(prefix) = self.demanded {
            check_prefix(&identifier(&docker.name()), prefix).map_err(ImportError::from)?;
        }
        let keys = match self.signatures {
            Signatures::Skipped => None,
            Signatures::Required => Some(self.image_keys(docker)?),
        };
        let client = self.network.client().map_err(|error| FetchError::Download(error.into()))?;
        let notice = || {
            let text = "another rkt instance is downloading this image, waiting...";
            (self.tell)(Notice::Image(text.to_owned()));
        };
        let turn = self.store.turn_to_fetch(&name, notice)?;
        if turn.waited
            && let Some(id) = self.fetched_since(began, &name, keys.as_deref())?
        {
            log::debug!("another rkt instance has fetched {name}");
            return Ok(stored(id));
        }
        let known_config = |digest: &Digest| self.store.known_config(&name, digest);
        let access = Access {
            client,
            logins: &self.network.logins,
            allows_http: self.transport.discovery_by_http,
            known_config: &known_config,
        };
        let tell = |text: String| (self.tell)(Notice::Image(text));
        let source = |cause| OciError::Source { image: name.clone(), cause };
        let resolved = registry::resolve(docker, access, &tell).map_err(source)?;
        let proof = match keys {
            None => Proof::waived(),
            Some(keys) => verify(docker, &resolved, &keys).map_err(|cause| match cause {
                ImageSignatureError::Source(cause) => source(cause).into(),
                cause => FetchError::ImageSignature { image: name.clone(), cause },
            })?,
        };
        let image = resolved.open().map_err(source)?;
        let fetched = self.import_oci(&image, &Work::Download { what: "layers" }, &proof)?;
        self.tell_signer(&proof);
        Ok(fetched)
    }

    /// The keys that are trusted for an image, at least one.
    fn image_keys(&self, docker: &DockerReference) -> Result<Vec<TrustedImageKey>, FetchError> {
        let keys = self.keystore.image_keys_for(docker)?;
        if keys.is_empty() { Err(FetchError::NoImageKey { name: docker.name() }) } else { Ok(keys) }
    }

    /// The image that another process has fetched by this reference since `began`, verified by one of `keys` if it must
    /// be.
    fn fetched_since(
        &self,
        began: SystemTime,
        reference: &str,
        keys: Option<&[TrustedImageKey]>,
    ) -> Result<Option<ImageId>, FetchError> {
        let fetched = self.store.find_reference(reference)?.filter(|(fetched, _)| *fetched >= began);
        let Some((_, id)) = fetched else { return Ok(None) };
        let Some(keys) = keys else { return Ok(Some(id)) };
        let signer = self.store.signer(&id)?;
        let is_ours = |signer: String| keys.iter().any(|trusted| trusted.key.fingerprint() == signer);
        Ok(signer.is_some_and(is_ours).then_some(id))
    }

    pub(super) fn import_oci(
        &self,
        image: &RemoteImage<'_>,
        work: &Work,
        proof: &Proof,
    ) -> Result<Fetched, FetchError> {
        let total = image.layers.iter().map(|part| part.size).sum();
        let come: Vec<AtomicU64> = image.layers.iter().map(|_| AtomicU64::new(0)).collect();
        let show = |layer: usize, read: u64| match (work, image.layers[layer]) {
            (Work::Download { .. }, Part { digest: Some(digest), size }) => {
                (self.progress)(&Work::Layer { digest }, Progress { read, total: size });
            }
            _ => {
                come[layer].store(read, Ordering::Relaxed);
                let read = come.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum();
                (self.progress)(work, Progress { read, total });
            }
        };
        let imported = self.store.import_oci(image, proof, &Limits::default(), &show)?;
        for notice in imported.notices {
            (self.tell)(Notice::Image(format!("{}: {notice}", image.reference)));
        }
        Ok(Fetched { id: imported.id, skipped_devices: imported.skipped_devices })
    }
}

/// Looks for a signature of what a reference leads to, before anything that it names is asked for.
fn verify(
    docker: &DockerReference,
    resolved: &Resolved<'_>,
    keys: &[TrustedImageKey],
) -> Result<Proof, ImageSignatureError> {
    let digest = resolved.signed_digest();
    let tag = cosign::tag_of(&digest);
    let Some((bytes, media_type)) = resolved.sibling(&tag)? else {
        return Err(ImageSignatureError::Missing { tag, name: docker.name() });
    };
    let signatures = ImageSignatures::parse(&tag, &bytes, &media_type)?;
    let wanted = WantedSignature { image: docker, digest, keys };
    signatures.verify(&wanted, &|payload| resolved.small_blob(payload))
}

fn stored(id: ImageId) -> Fetched {
    Fetched { id, skipped_devices: 0 }
}
