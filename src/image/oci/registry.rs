//! Images of registries (distribution-spec 1.1; Docker registry HTTP API V2): a tag is resolved once, to a digest, and all
//! that follows is asked for by digest. Layers are gone on with where they were cut.
//!
//! A password goes to the registry that it is for and to the server of tokens that belongs to it, over HTTPS only; an
//! identity token goes to that server, and what that gives for it to the registry alone. URLs in descriptors are not followed.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::convert::Origin;
use super::document::{Config, Descriptor, Document, INDEXES, MANIFESTS};
use super::login::{Identity, Logins};
use super::name::{DockerReference, Version};
use super::platform::{HOST, choose};
use super::source::{Blobs, Part, RemoteImage, Sink, SourceError, check};
use crate::appc::json::{self, MAX_SIZE};
use crate::image::base64;
use crate::image::digest::Digest;
use crate::image::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE, WWW_AUTHENTICATE,
};
use crate::image::http::{Attempts, Client, HttpError, Request, Response, Sending, Url, authority, shown};
use crate::os::Hint;

/// Indexes in indexes.
const MAX_DEPTH: usize = 4;
/// Size of an answer with a token.
const TOKEN_LIMIT: usize = 1 << 20;
/// How often a layer is gone on with.
const MOST_PARTS: usize = 1000;

/// How a registry is reached.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// By what.
    pub client: &'a Client,
    /// What registries may know the user by.
    pub logins: &'a Logins,
    /// Plain HTTP may be used where HTTPS does not work.
    pub allows_http: bool,
    /// The configuration with a digest, if the caller has it.
    pub known_config: &'a (dyn Fn(&Digest) -> Option<Vec<u8>> + Sync),
}

/// A repository of a registry.
struct Repository<'a> {
    access: Access<'a>,
    base: Url,
    /// As credentials name it.
    registry: String,
    name: String,
    /// Who the user is to it, once it wants to know.
    identity: OnceLock<Option<Identity>>,
    /// The header that the registry wants to see.
    authorization: Mutex<Option<HeaderValue>>,
}

/// What a reference leads to: an index or a manifest, of which nothing else has come yet.
pub struct Resolved<'a> {
    reference: DockerReference,
    repository: Repository<'a>,
    digest: Digest,
    bytes: Vec<u8>,
    media_type: String,
}

/// Finds out what a reference leads to, once; `tell` is told to what digest a tag has led.
///
/// # Errors
/// When there is no such image, or it is not what the digest in the reference says.
pub fn resolve<'a>(
    reference: &DockerReference,
    access: Access<'a>,
    tell: &dyn Fn(String),
) -> Result<Resolved<'a>, SourceError> {
    let host =
        Url::parse(&format!("https://{}/", reference.registry)).map_err(|_| server("it is no host"))?;
    access.client.know_host(host.host_str().unwrap_or_default());
    let repository = Repository {
        access,
        base: host,
        registry: reference.registry.clone(),
        name: reference.repository.clone(),
        identity: OnceLock::new(),
        authorization: Mutex::new(None),
    };
    let wanted = match &reference.version {
        Version::Tag(tag) => tag.clone(),
        Version::Digest(digest) => digest.to_string(),
    };
    let (repository, bytes, media_type) = repository.first_manifest(&wanted)?;
    let digest = match &reference.version {
        Version::Digest(digest) => *digest,
        Version::Tag(_) => Digest::sha256(&bytes),
    };
    check(&wanted, Part { digest: Some(digest), size: bytes.len() as u64 }, &bytes)?;
    if reference.tag().is_some() {
        tell(format!("docker://{reference} is {digest}"));
    }
    Ok(Resolved { reference: reference.clone(), repository, digest, bytes, media_type })
}

impl<'a> Resolved<'a> {
    /// The digest of it that people sign, whatever the reference has.
    pub fn signed_digest(&self) -> Digest {
        Digest::sha256(&self.bytes)
    }

    /// The manifest that another tag of the same name leads to, and what the server calls it.
    ///
    /// # Errors
    /// When the server does not say that, or that there is none.
    pub fn sibling(&self, tag: &str) -> Result<Option<(Vec<u8>, String)>, SourceError> {
        self.repository.manifest_if_there(tag)
    }

    /// A small blob of the same name.
    ///
    /// # Errors
    /// When it does not come, or is not as described.
    pub fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
        self.repository.small_blob(descriptor)
    }

    /// Reads the documents of the image for this machine, all by digest.
    ///
    /// # Errors
    /// When there is none, or its documents are not accepted.
    pub fn open(self) -> Result<RemoteImage<'a>, SourceError> {
        let Self { reference, repository, digest, bytes, media_type } = self;
        let (digest, bytes, manifest) = repository.to_manifest(digest, bytes, media_type)?;
        let config_bytes = match (repository.access.known_config)(&manifest.config.digest) {
            Some(bytes) => bytes,
            None => repository.small_blob(&manifest.config)?,
        };
        let config = Config::parse(&config_bytes)
            .map_err(|cause| SourceError::Document { what: "its configuration".into(), cause })?;
        let part = |layer: &Descriptor| Part { digest: Some(layer.digest), size: layer.size };
        let layers = manifest.layers.iter().map(part).collect();
        Ok(RemoteImage {
            reference: format!("docker://{reference}"),
            origin: Origin {
                original_name: reference.original().to_owned(),
                registry: Some(reference.registry.clone()),
                repository: reference.repository.clone(),
                tag: reference.tag().map(str::to_owned),
                manifest_digest: Some(digest.to_string()),
            },
            manifest: Some(bytes),
            config_bytes,
            config,
            layers,
            blobs: Box::new(repository),
        })
    }
}

fn server(text: impl Into<String>) -> SourceError {
    SourceError::Server { text: text.into(), hint: None }
}

fn http(cause: HttpError) -> SourceError {
    match cause {
        HttpError::Interrupted => SourceError::Interrupted,
        cause => SourceError::Server { text: cause.to_string(), hint: cause.hint() },
    }
}

impl<'a> Repository<'a> {
    /// Asks for the manifest that the user named, by HTTPS or, if allowed, by HTTP.
    fn first_manifest(mut self, wanted: &str) -> Result<(Self, Vec<u8>, String), SourceError> {
        match self.manifest(wanted) {
            Ok((bytes, media_type)) => Ok((self, bytes, media_type)),
            Err(first @ SourceError::Server { .. }) if self.access.allows_http => {
                let host = authority(&self.base);
                self.base = Url::parse(&format!("http://{host}/")).map_err(|_| server("it is no host"))?;
                self.authorization = Mutex::new(None);
                match self.manifest(wanted) {
                    Ok((bytes, media_type)) => Ok((self, bytes, media_type)),
                    Err(_) => Err(first),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Goes from what the reference leads to, through indexes, to a manifest.
    fn to_manifest(
        &self,
        mut digest: Digest,
        mut bytes: Vec<u8>,
        mut media_type: String,
    ) -> Result<(Digest, Vec<u8>, super::document::Manifest), SourceError> {
        for _ in 0..MAX_DEPTH {
            let read = Document::parse(&bytes, &media_type)
                .map_err(|cause| SourceError::Document { what: digest.to_string(), cause })?;
            let index = match read {
                Document::Manifest(manifest) => return Ok((digest, bytes, manifest)),
                Document::Index(index) => index,
            };
            let entry = choose(&index, &HOST)
                .map_err(|there| SourceError::Platform { machine: HOST.to_string(), there })?;
            (bytes, media_type) = self.manifest(&entry.digest.to_string())?;
            let part = Part { digest: Some(entry.digest), size: entry.size };
            check(&entry.digest.to_string(), part, &bytes)?;
            if media_type != entry.media_type {
                let text = format!("{} is served as another type than its index says", entry.digest);
                return Err(server(text));
            }
            digest = entry.digest;
        }
        Err(SourceError::Missing(format!("it has more than {MAX_DEPTH} indexes inside each other")))
    }

    /// The bytes of a manifest, and what the server calls them.
    fn manifest(&self, wanted: &str) -> Result<(Vec<u8>, String), SourceError> {
        let missing = || SourceError::Missing(format!("{} has no {wanted}", self.shown()));
        self.manifest_if_there(wanted)?.ok_or_else(missing)
    }

    /// The same, if the server does not say that there is none.
    fn manifest_if_there(&self, wanted: &str) -> Result<Option<(Vec<u8>, String)>, SourceError> {
        let url = self.url(&format!("manifests/{wanted}"))?;
        let accept = MANIFESTS.iter().chain(&INDEXES).copied().collect::<Vec<_>>().join(", ");
        let mut request = Request { sending: Sending::Nothing, ..Request::get(url) };
        request.headers.insert(ACCEPT, HeaderValue::from_str(&accept).expect("types are ASCII"));
        let response = self.send(request)?;
        match response.status.as_u16() {
            200 => {}
            404 => return Ok(None),
            status => return Err(self.refused(status)),
        }
        let media_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type =
            media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = response.bytes(MAX_SIZE).map_err(http)?;
        Ok(Some((bytes, media_type)))
    }

    fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
        let what = descriptor.digest.to_string();
        let url = self.url(&format!("blobs/{}", descriptor.digest))?;
        let response = self.send(Request { sending: Sending::Nothing, ..Request::get(url) })?;
        if response.status.as_u16() != 200 {
            return Err(self.refused(response.status.as_u16()));
        }
        let bytes = response.bytes(MAX_SIZE).map_err(http)?;
        check(&what, Part { digest: Some(descriptor.digest), size: descriptor.size }, &bytes)?;
        Ok(bytes)
    }

    fn url(&self, rest: &str) -> Result<Url, SourceError> {
        self.base.join(&format!("/v2/{}/{rest}", self.name)).map_err(|_| server("its name makes no URL"))
    }

    fn shown(&self) -> String {
        format!("{}/{}", authority(&self.base), self.name)
    }

    fn refused(&self, status: u16) -> SourceError {
        let hint = matches!(status, 401 | 403).then(|| {
            "credentials for a registry are files of the kind dockerAuth in auth.d, or of `podman login` or `docker login`"
                .to_owned()
        });
        SourceError::Server { text: format!("{}: bad HTTP status code: {status}", self.shown()), hint }
    }

    /// Sends a request, and once more with what the registry asks for.
    fn send(&self, mut request: Request) -> Result<Response<'a>, SourceError> {
        let mut attempts = Attempts::new();
        for is_last in [false, true] {
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(value) = authorization {
                request.headers.insert(AUTHORIZATION, value);
            }
            let response = self.access.client.send(&request, &mut attempts).map_err(http)?;
            let challenge = response.headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            match challenge.map(str::to_owned) {
                Some(challenge) if response.status.as_u16() == 401 && !is_last => {
                    let value = self.answer(&challenge)?;
                    *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
                }
                _ => return Ok(response),
            }
        }
        Err(self.refused(401))
    }

    /// What a challenge is answered with.
    fn answer(&self, challenge: &str) -> Result<HeaderValue, SourceError> {
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return self.basic()?.ok_or_else(|| self.refused(401));
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(server(format!(
                "{} wants a kind of credentials that rkt does not know",
                self.shown()
            )));
        }
        let parameters = parameters_of(parameters);
        let value =
            |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let realm = value("realm").and_then(|realm| Url::parse(realm).ok());
        let mut realm =
            realm.ok_or_else(|| server(format!("{} does not say who gives tokens", self.shown())))?;
        let is_ours = may_know(&self.base, &realm);
        let identity = self.identity()?;
        if !is_ours && (identity.is_some() || realm.scheme() != "https") {
            let text = format!("{} wants credentials to be sent to {}", self.shown(), shown(&realm));
            return Err(server(text));
        }
        let scope = format!("repository:{}:pull", self.name);
        let service = value("service").map(|service| ("service", service));
        let asked = service.into_iter().chain([("scope", scope.as_str())]);
        let request = match identity.filter(|_| realm.scheme() == "https") {
            Some(Identity::Token(token)) => {
                let proof = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "rkt"),
                    ("refresh_token", token.reveal()),
                ];
                Request::post(realm.clone(), &asked.chain(proof).collect::<Vec<_>>())
            }
            Some(Identity::Password(_)) | None => {
                realm.query_pairs_mut().extend_pairs(asked);
                let mut request = Request { sending: Sending::Nothing, ..Request::get(realm.clone()) };
                if let Some(basic) = self.basic()?.filter(|_| realm.scheme() == "https") {
                    request.headers.insert(AUTHORIZATION, basic);
                }
                request
            }
        };
        let response = self.access.client.send(&request, &mut Attempts::new()).map_err(http)?;
        if response.status.as_u16() != 200 {
            return Err(self.refused(response.status.as_u16()));
        }
        let bytes = response.bytes(TOKEN_LIMIT).map_err(http)?;
        let answer = json::parse(&bytes).map_err(|error| server(format!("{}: {error}", shown(&realm))))?;
        let token =
            answer.get("token").or_else(|| answer.get("access_token")).and_then(|token| token.as_str());
        let token = token.ok_or_else(|| server(format!("{} gives no token", shown(&realm))))?;
        sensitive(&format!("Bearer {token}"))
            .ok_or_else(|| server(format!("{} gives no token", shown(&realm))))
    }

    /// Who the user is to the registry, for HTTPS only.
    fn identity(&self) -> Result<Option<&Identity>, SourceError> {
        if self.base.scheme() != "https" {
            return Ok(None);
        }
        if let Some(known) = self.identity.get() {
            return Ok(known.as_ref());
        }
        let found = self.access.logins.find(&self.registry, &self.name)?;
        Ok(self.identity.get_or_init(|| found).as_ref())
    }

    /// The user's password.
    fn basic(&self) -> Result<Option<HeaderValue>, SourceError> {
        let Some(Identity::Password(login)) = self.identity()? else { return Ok(None) };
        let text = base64::encode(format!("{}:{}", login.user, login.password.reveal()).as_bytes());
        Ok(sensitive(&format!("Basic {text}")))
    }

    /// Sends what comes of a blob to `to`; tells whether that was all, or the cause of the cut.
    fn part(&self, digest: &Digest, to: &mut Sink<'_>) -> Result<Option<HttpError>, SourceError> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let mut request = Request { sending: Sending::Nothing, ..Request::get(url) };
        let from = to.written();
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-")).expect("digits are ASCII");
            request.headers.insert(RANGE, range);
        }
        let mut response = self.send(request)?;
        let range = response.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        match response.status.as_u16() {
            200 if from > 0 => to.restart()?,
            200 => {}
            206 if range.is_some_and(|range| range.starts_with(&format!("bytes {from}-"))) => {}
            206 => return Err(server(format!("{} sends another part than it was asked for", self.shown()))),
            status => return Err(self.refused(status)),
        }
        loop {
            match response.chunk() {
                Ok(chunk) if chunk.is_empty() => return Ok(None),
                Ok(chunk) => to.write(&chunk)?,
                Err(error) if error.may_pass() => return Ok(Some(error)),
                Err(error) => return Err(http(error)),
            }
        }
    }
}

impl Blobs for Repository<'_> {
    fn bring(&self, _layer: usize, to: &mut Sink<'_>) -> Result<(), SourceError> {
        let digest = to.part().digest.ok_or_else(|| server("a layer has no digest"))?;
        let mut attempts = Attempts::new();
        for _ in 0..MOST_PARTS {
            let before = to.written();
            let Some(cut) = self.part(&digest, to)? else { return Ok(()) };
            if to.written() > before {
                attempts.reset();
                log::debug!("{cut}; going on after {} bytes", to.written());
                continue;
            }
            let pause = attempts.after_failure().ok_or_else(|| http(cut))?;
            self.access.client.pause(pause).map_err(http)?;
        }
        Err(server(format!("{}: the connection was cut {MOST_PARTS} times", self.shown())))
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Tells whether the server of tokens `realm` may know what is meant for `registry` (CVE-2019-10214): it is the same
/// host, or one of the same organisation, and no less protected.
fn may_know(registry: &Url, realm: &Url) -> bool {
    if realm.scheme() != "https" && realm.scheme() != registry.scheme() {
        return false;
    }
    let (Some(url::Host::Domain(one)), Some(url::Host::Domain(other))) = (registry.host(), realm.host())
    else {
        return registry.host() == realm.host();
    };
    one == other || (organisation(one).is_some() && organisation(one) == organisation(other))
}

/// The part of a host name that somebody has registered, as far as that can be told without a list.
fn organisation(host: &str) -> Option<&str> {
    let dots: Vec<usize> = host.rmatch_indices('.').map(|(at, _)| at).collect();
    let last = host.len() - dots.first()?;
    let second = dots.first()? - dots.get(1).map_or(0, |dot| dot + 1);
    // `co.uk` and its like: a country and a short name before it.
    let parts = if last == 3 && second <= 3 { 3 } else { 2 };
    match dots.get(parts - 1) {
        Some(dot) => Some(&host[dot + 1..]),
        None if dots.len() + 1 == parts => Some(host),
        None => None,
    }
}

/// `name="value",…` (RFC 9110 11.4); what is no pair is left aside.
fn parameters_of(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((name, behind)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let (value, after) = match behind.strip_prefix('"') {
            Some(quoted) => match quoted.split_once('"') {
                Some((value, after)) => (value, after),
                None => return pairs,
            },
            None => behind.split_once(',').unwrap_or((behind, "")),
        };
        pairs.push((name, value.trim().to_owned()));
        rest = after;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b5_a_password_stays_in_its_organisation() {
        for (registry, realm, expected) in [
            ("https://registry-1.docker.io", "https://auth.docker.io/token", true),
            ("https://ghcr.io", "https://ghcr.io/token", true),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true),
            ("https://reg.example.com", "http://reg.example.com/token", false),
            ("https://reg.example.com", "https://example.org/token", false),
            ("https://reg.example.com", "https://example.com.evil.org/token", false),
            ("https://reg.example.co.uk", "https://evil.co.uk/token", false),
            ("https://reg.example.co.uk", "https://auth.example.co.uk/token", true),
            ("https://127.0.0.1:5000", "https://127.0.0.1:5001/token", true),
            ("https://127.0.0.1:5000", "https://127.0.0.2/token", false),
            ("https://localhost:5000", "https://localhost/token", true),
            ("https://ghcr.io", "https://evil.io", false),
            ("http://localhost:5000", "http://localhost:5001/token", true),
        ] {
            let url = |text: &str| Url::parse(text).unwrap();
            assert_eq!(may_know(&url(registry), &url(realm)), expected, "{registry} {realm}");
        }
    }

    #[test]
    fn challenges_are_read() {
        let pairs = parameters_of(r#"realm="https://a/token?x=1,2",service="b",scope=c, error="x"#);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(pairs, [("realm", "https://a/token?x=1,2"), ("service", "b"), ("scope", "c")]);
        assert_eq!(parameters_of("nothing"), []);
    }
}
