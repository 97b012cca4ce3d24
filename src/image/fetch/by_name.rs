//! An image by its name: who owns the name says where image, signature and keys are (spec images.md 2.4.1, 2.5).

use super::remote::{Remote, SignatureLocation};
use super::{FetchError, Fetched, Fetcher, Notice, OfferedKey, Signatures};
use crate::appc::name::AcIdentifier;
use crate::image::discovery::{self, Meta, Subject};
use crate::image::http::{Attempts, Client, HttpError, Request, Sending, Url, header, shown};
use crate::image::reference::NameReference;
use crate::image::store::Asked;
use crate::image::trust::key;
use crate::os::Hint;

/// Why no server tells where something is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// No page has it.
    #[error("discovery failed for \"{name}\": {}", tried_text(.tried))]
    Nothing {
        /// The name.
        name: AcIdentifier,
        /// Where it was looked for, and what was there.
        tried: Vec<(String, String)>,
    },
    /// A page has it where rkt does not go.
    #[error("discovery failed for \"{name}\": {url} is not reached by HTTPS")]
    PlainHttp {
        /// The name.
        name: AcIdentifier,
        /// What the page says.
        url: String,
    },
    /// The client could not be made, or the user wants to end.
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl Hint for DiscoveryError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing { .. } => {
                Some("if the image is not published by its name, give its URL, or a file".into())
            }
            Self::PlainHttp { .. } => Some("--insecure-options=http allows plain HTTP".into()),
            Self::Http(cause) => cause.hint(),
        }
    }
}

/// Each reason once, behind the places that it is for.
fn tried_text(tried: &[(String, String)]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for (index, (_, reason)) in tried.iter().enumerate() {
        if tried[..index].iter().any(|(_, earlier)| earlier == reason) {
            continue;
        }
        let places: Vec<&str> =
            tried.iter().filter(|(_, other)| other == reason).map(|(place, _)| place.as_str()).collect();
        texts.push(format!("{} ({})", reason, places.join(", ")));
    }
    texts.join("; ")
}

/// How often a page is asked for; the next one may do as well.
const PAGE_TRIES: u32 = 2;

impl Fetcher<'_> {
    pub(super) fn fetch_name(
        &self,
        name: &NameReference,
        wanted: &NameReference,
        signature: Option<&std::path::Path>,
    ) -> Result<Fetched, FetchError> {
        if self.signatures == Signatures::Required {
            if self.transport.unchecked {
                let text = "warning: TLS verification has been disabled";
                (self.tell)(Notice::Image(text.to_owned()));
            }
            self.find_keys(&wanted.name)?;
        }
        let found = self.discover(&wanted.name, Subject::Images, |value| {
            let image = discovery::render(value, wanted, "aci")?;
            let signature = discovery::render(value, wanted, "aci.asc")?;
            Some((Url::parse(&image).ok()?, Url::parse(&signature).ok()?))
        })?;
        // Only the first counts.
        let (image, its_signature) = found.into_iter().next().expect("discovery finds something or fails");
        for url in [&image, &its_signature] {
            let allowed =
                url.scheme() == "https" || (url.scheme() == "http" && self.transport.discovery_by_http);
            if !allowed {
                return Err(DiscoveryError::PlainHttp { name: wanted.name.clone(), url: shown(url) }.into());
            }
        }
        let asked = match name.labels.iter().any(|label| label.name == *"version") {
            true => Asked::ForThisOne,
            false => Asked::ForLatest,
        };
        // The default of a template is no label that the image must have.
        let signature = match signature {
            Some(file) => SignatureLocation::File(file),
            None => SignatureLocation::Url(its_signature),
        };
        log::debug!("remote fetching from URL {:?}", shown(&image));
        self.fetch_remote(&Remote { url: &image, signature, asked, wanted: Some(wanted) })
    }

    /// Looks for keys of a name that has none yet; what is found is offered to the user. A failure is told, and no more.
    fn find_keys(&self, name: &AcIdentifier) -> Result<(), FetchError> {
        if self.keystore.has_prefix_key(name)? {
            let text = format!("keys already exist for prefix \"{name}\", not fetching again");
            (self.tell)(Notice::Image(text));
            return Ok(());
        }
        if !self.transport.allows_keys() {
            return Ok(());
        }
        if self.transport.allows_keys_by_http() {
            let text = "signing keys may be downloaded from an insecure connection";
            (self.tell)(Notice::Image(text.to_owned()));
        }
        let offered = match self.keys_of(name) {
            Ok(keys) => (self.offer_keys)(name, &keys),
            Err(FetchError::Interrupted) => return Err(FetchError::Interrupted),
            Err(error) => Err(error.to_string()),
        };
        if let Err(problem) = offered {
            (self.tell)(Notice::Pubkey(problem));
        }
        Ok(())
    }

    /// Finds the keys of a name by discovery, and downloads them.
    ///
    /// # Errors
    /// When no page tells where they are, or one can't be had.
    pub fn keys_of(&self, name: &AcIdentifier) -> Result<Vec<OfferedKey>, FetchError> {
        let mut urls = self.discover(name, Subject::Keys, |value| Url::parse(value).ok())?;
        urls.dedup();
        urls.truncate(discovery::MOST_TRIES);
        let client = self.network.client().map_err(DiscoveryError::from)?;
        urls.iter()
            .map(|url| {
                if url.scheme() != "https"
                    && !(url.scheme() == "http" && self.transport.allows_keys_by_http())
                {
                    return Err(DiscoveryError::PlainHttp { name: name.clone(), url: shown(url) }.into());
                }
                download_key(client, url)
            })
            .collect()
    }

    /// Asks page after page until one has something for a name that `read` can make use of.
    fn discover<T>(
        &self,
        name: &AcIdentifier,
        subject: Subject,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, DiscoveryError> {
        let client = self.network.client()?;
        let host = name.as_str().split('/').next().unwrap_or_default();
        client.know_host(host);
        let mut tried = Vec::new();
        for page in discovery::pages(name) {
            let schemes: &[&str] =
                if self.transport.discovery_by_http { &["https", "http"] } else { &["https"] };
            for scheme in schemes {
                let place = format!("{scheme}://{page}");
                match read_page(client, &place) {
                    Ok(metas) => {
                        let found: Vec<T> =
                            discovery::values(&metas, subject, name).into_iter().filter_map(&read).collect();
                        if !found.is_empty() {
                            return Ok(found);
                        }
                        log::debug!("meta tag '{}' not found on {page}", subject.as_str());
                        tried.push((place, format!("no meta tag '{}' for it", subject.as_str())));
                        break;
                    }
                    Err(PageError::Http(HttpError::Interrupted)) => return Err(HttpError::Interrupted.into()),
                    Err(error) => tried.push((place, error.to_string())),
                }
            }
        }
        Err(DiscoveryError::Nothing { name: name.clone(), tried })
    }
}

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
enum PageError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("bad HTTP status code: {0}")]
    Status(u16),
    #[error("it is no URL")]
    Url,
}

fn read_page(client: &Client, place: &str) -> Result<Vec<Meta>, PageError> {
    let mut url = Url::parse(place).map_err(|_| PageError::Url)?;
    url.set_query(Some("ac-discovery=1"));
    let mut request = Request { sending: Sending::Headers, ..Request::get(url) };
    request.headers.insert(header::ACCEPT, header::HeaderValue::from_static("text/html"));
    let response = client.send(&request, &mut Attempts::of(PAGE_TRIES))?;
    match response.status.as_u16() {
        200 => Ok(discovery::parse(&response.first_bytes(discovery::PAGE_LIMIT)?)),
        status => Err(PageError::Status(status)),
    }
}

/// Downloads a key; nobody's credentials go along.
///
/// # Errors
/// When the server refuses, or sends too much.
pub fn download_key(client: &Client, url: &Url) -> Result<OfferedKey, FetchError> {
    let request = Request { sending: Sending::Nothing, ..Request::get(url.clone()) };
    let response = client.send(&request, &mut Attempts::new()).map_err(DiscoveryError::from)?;
    match response.status.as_u16() {
        200 => {
            let text = response.bytes(key::LIMIT).map_err(DiscoveryError::from)?;
            Ok(OfferedKey { location: shown(url), text })
        }
        status => Err(FetchError::KeyStatus { url: shown(url), status }),
    }
}
