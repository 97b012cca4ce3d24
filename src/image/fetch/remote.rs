//! An image from a server: its signature first, then its bytes, unless the store still has what the server would send.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use super::download::{Download, Outcome};
use super::{DownloadError, FetchError, Fetched, Fetcher, Notice, Signatures, read_signature};
use crate::image::http::{Attempts, Client, Request, Url, shown};
use crate::image::reference::NameReference;
use crate::image::store::{
    Asked, Delivered, DownloadPlace, ImportError, ImportOptions, Imported, SignatureCheck, UrlRecord,
    Validity, Verification,
};
use crate::image::stream::{Limits, Progress};
use crate::image::trust::{SignatureFile, VerifyError, verify};
use crate::os::SysError;

/// Where a signature is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignatureLocation<'a> {
    /// In a file.
    File(&'a Path),
    /// On a server.
    Url(Url),
}

/// The place of an image's signature: the user's file, or `.aci.asc` instead of `.aci`.
pub(super) fn signature_location<'a>(image: &Url, file: Option<&'a Path>) -> SignatureLocation<'a> {
    match file {
        Some(file) => SignatureLocation::File(file),
        None => {
            let mut url = image.clone();
            let path = url.path();
            let path = format!("{}.aci.asc", path.strip_suffix(".aci").unwrap_or(path));
            url.set_path(&path);
            SignatureLocation::Url(url)
        }
    }
}

/// An image on a server.
pub(super) struct Remote<'a> {
    pub(super) url: &'a Url,
    pub(super) signature: SignatureLocation<'a>,
    pub(super) asked: Asked,
    /// What it must be, if it was found by name.
    pub(super) wanted: Option<&'a NameReference>,
}

/// A signature, or the promise of one.
enum Signature {
    Here(SignatureFile),
    Deferred(Url),
}

impl Fetcher<'_> {
    pub(super) fn fetch_remote(&self, remote: &Remote<'_>) -> Result<Fetched, FetchError> {
        let url = remote.url;
        let began = SystemTime::now();
        let record = self.usable_record(url);
        if let Some(record) = &record
            && record.is_fresh(began)
        {
            log::debug!("image for {} isn't expired, not fetching.", shown(url));
            return Ok(stored(record));
        }
        let client = self.network.client().map_err(|error| FetchError::Download(error.into()))?;
        let signature = match self.signatures {
            Signatures::Skipped => None,
            Signatures::Required => Some(self.signature(client, remote)?),
        };
        let notice = || {
            let text = "another rkt instance is downloading this file, waiting...";
            (self.tell)(Notice::Image(text.to_owned()));
        };
        let place = self.store.download_place(url.as_str(), notice)?.ok_or(FetchError::Interrupted)?;
        let record = if place.waited { self.usable_record(url) } else { record };
        if let Some(record) = &record
            && place.waited
            && record.downloaded() >= began
        {
            log::debug!("another rkt instance has fetched {}", shown(url));
            place.remove();
            return Ok(stored(record));
        }
        let resumed = place.found().is_some();
        match self.bring(client, remote, &place, (record.as_ref(), signature)) {
            Err(error) if resumed && error.may_be_a_bad_part() => {
                log::debug!("what was left of an earlier download is damaged: {error}");
                place.clear()?;
                let signature = match self.signatures {
                    Signatures::Skipped => None,
                    Signatures::Required => Some(self.signature(client, remote)?),
                };
                self.keep_or_drop(place, |place| self.bring(client, remote, place, (None, signature)))
            }
            done => self.keep_or_drop(place, |_| done),
        }
    }

    /// Removes a download unless it can be gone on with: the server or the way to it failed, not the disk.
    fn keep_or_drop(
        &self,
        place: DownloadPlace,
        bring: impl FnOnce(&DownloadPlace) -> Result<Fetched, FetchError>,
    ) -> Result<Fetched, FetchError> {
        let done = bring(&place);
        match &done {
            Err(FetchError::Download(DownloadError::Http(_) | DownloadError::Status { .. }))
                if place.found().is_some() => {}
            _ => place.remove(),
        }
        done
    }

    /// Downloads, verifies and imports the image, and remembers from where it came.
    fn bring(
        &self,
        client: &Client,
        remote: &Remote<'_>,
        place: &DownloadPlace,
        (record, signature): (Option<&UrlRecord>, Option<Signature>),
    ) -> Result<Fetched, FetchError> {
        let url = remote.url;
        log::debug!("fetching image from {}", shown(url));
        let download = Download {
            client,
            url,
            place,
            etag: record.and_then(|record| record.etag.as_deref()),
            free: self.store.free_space()?,
            limit: Limits::default().output,
            progress: self.progress,
        };
        let validity = match (download.run().map_err(FetchError::Download)?, record) {
            (Outcome::Whole(validity), _) => validity,
            (Outcome::NotModified, Some(record)) => return Ok(stored(record)),
            // Only who names what it has is answered so.
            (Outcome::NotModified, None) => {
                return Err(FetchError::Download(DownloadError::Status { url: shown(url), status: 304 }));
            }
        };
        let verification = match signature {
            None => Verification::Skipped,
            Some(Signature::Here(signature)) => self.check(signature, remote.wanted),
            Some(Signature::Deferred(at)) => match self.download_signature(client, &at)? {
                Signature::Here(signature) => self.check(signature, remote.wanted),
                Signature::Deferred(at) => return Err(FetchError::DeferredAgain { url: shown(&at) }),
            },
        };
        let imported = self.import(remote, place, verification)?;
        self.remember(remote, validity, &imported);
        self.tell_signer(&imported.proof);
        Ok(Fetched { id: imported.id, skipped_devices: imported.skipped_devices })
    }

    fn check<'c>(&'c self, signature: SignatureFile, wanted: Option<&'c NameReference>) -> Verification<'c> {
        let demanded = self.demanded;
        Verification::Required(SignatureCheck { signature, keystore: self.keystore, wanted, demanded })
    }

    fn import(
        &self,
        remote: &Remote<'_>,
        place: &DownloadPlace,
        verification: Verification<'_>,
    ) -> Result<Imported, FetchError> {
        let name = remote.url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        let work = super::Work::Import { name: name.to_owned() };
        let show = |progress: Progress| (self.progress)(&work, progress);
        let options = ImportOptions {
            verification,
            asked: remote.asked,
            limits: Limits::default(),
            progress: Some(&show),
        };
        let body = place.body();
        let file = File::open(&body).map_err(SysError::on("opening", &body))?;
        let delivered = Delivered { file, shown: shown(remote.url), download: Some(body) };
        Ok(self.store.import(delivered, &options)?)
    }

    /// Keeps from where the image came; without that it is only downloaded again.
    fn remember(&self, remote: &Remote<'_>, validity: Validity, imported: &Imported) {
        let signature = match &remote.signature {
            SignatureLocation::Url(url) if self.signatures == Signatures::Required => Some(url.as_str()),
            SignatureLocation::Url(_) | SignatureLocation::File(_) => None,
        };
        let record = UrlRecord::new(remote.url.as_str(), signature, validity, imported.id);
        if let Err(error) = self.store.save_url_record(&record) {
            log::debug!("{error}");
        }
    }

    /// What is known of an URL, if the store still has the image, and that is signed if it must be.
    fn usable_record(&self, url: &Url) -> Option<UrlRecord> {
        let record = self.store.url_record(url.as_str())?;
        let signer = self.store.signer(&record.image).ok()?;
        (self.signatures == Signatures::Skipped || signer.is_some()).then_some(record)
    }

    /// Gets the signature, and makes sure that it may be of use before the image is downloaded.
    fn signature(&self, client: &Client, remote: &Remote<'_>) -> Result<Signature, FetchError> {
        let signature = match &remote.signature {
            SignatureLocation::File(file) => Signature::Here(read_signature(file)?),
            SignatureLocation::Url(url) => self.download_signature(client, url)?,
        };
        match (&signature, remote.wanted) {
            (Signature::Here(signature), Some(wanted)) => {
                let keys = self.keystore.keys_for(&wanted.name)?;
                signature
                    .check_signer(&wanted.name, &keys)
                    .map_err(|cause| FetchError::Unknown { name: wanted.name.clone(), cause })?;
            }
            (Signature::Deferred(_), _) => {
                let text = "server requested deferring the signature download";
                (self.tell)(Notice::Image(text.to_owned()));
            }
            (Signature::Here(_), None) => {}
        }
        Ok(signature)
    }

    fn download_signature(&self, client: &Client, url: &Url) -> Result<Signature, FetchError> {
        log::debug!("downloading signature from {}", shown(url));
        let failed = FetchError::DownloadSignature;
        let mut attempts = Attempts::new();
        loop {
            let response = client
                .send(&Request::get(url.clone()), &mut attempts)
                .map_err(|error| failed(error.into()))?;
            match response.status.as_u16() {
                200 => {}
                202 => return Ok(Signature::Deferred(url.clone())),
                status => return Err(failed(DownloadError::Status { url: shown(url), status })),
            }
            match response.bytes(verify::LIMIT) {
                Ok(bytes) => {
                    return SignatureFile::parse(&bytes)
                        .map(Signature::Here)
                        .map_err(|cause| FetchError::BadSignature { url: shown(url), cause });
                }
                Err(error) if error.may_pass() => match attempts.after_failure() {
                    Some(pause) => client.pause(pause).map_err(|error| failed(error.into()))?,
                    None => return Err(failed(error.into())),
                },
                Err(error) => return Err(failed(error.into())),
            }
        }
    }
}

fn stored(record: &UrlRecord) -> Fetched {
    Fetched { id: record.image, skipped_devices: 0 }
}

impl FetchError {
    /// Tells whether an image may be bad because what another process had left of it was.
    fn may_be_a_bad_part(&self) -> bool {
        match self {
            Self::Import(error) => matches!(
                error,
                ImportError::Content { .. }
                    | ImportError::Manifest { .. }
                    | ImportError::Unverified { cause: VerifyError::OtherBytes { .. }, .. }
            ),
            _ => false,
        }
    }
}
