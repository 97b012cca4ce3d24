//! The HTTP client of all that is fetched: images, signatures, keys, discovery pages, registries.
//!
//! A caller sees plain functions; the runtime behind them has no thread of its own and goes with the client. Redirects
//! are followed here, one by one, so that nothing leaks on the way: credentials go to the origin that they are for and
//! only over HTTPS, never from HTTPS to HTTP, never to an address of this host or link that the user did not type.
//! Failures that pass are tried again. What a body means, and where it is kept, is the caller's business.

mod address;
mod aws;
mod error;
mod origin;
mod redirect;
mod resolve;
mod retry;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use reqwest::header;
use reqwest::header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode};
pub use url::Url;

pub use self::error::{HttpError, Refusal};
pub use self::origin::Sending;
use self::resolve::PublicOnly;
pub use self::retry::Attempts;
use crate::config::{Credentials, Secret};
use crate::os::interrupt;

/// How long a connection may take to come about (SECURITY.md, F23).
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may think before it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether the user wants to end.
const LOOK: Duration = Duration::from_millis(100);

/// Whether servers must prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificates {
    /// By a certificate that the system's authorities vouch for.
    Checked,
    /// The user has said that they need not.
    Unchecked,
}

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Whether servers must prove who they are.
    pub certificates: Certificates,
    /// Credentials by `host` or `host:port`.
    pub credentials: BTreeMap<String, Credentials>,
    /// Hosts of proxies, which may be this one.
    pub proxies: BTreeSet<String>,
    /// The slowest that a body may be.
    pub least_rate: Rate,
}

/// Bytes in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many bytes.
    pub bytes: u64,
    /// In what time.
    pub window: Duration,
}

impl Rate {
    /// 1 KiB/s over 30 s (SECURITY.md, F23).
    pub const LEAST: Self = Self { bytes: 30 << 10, window: Duration::from_secs(30) };
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD`, or `POST` for a form.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// What else is said.
    pub headers: HeaderMap,
    /// Which credentials may go along.
    pub sending: Sending,
    /// What is said in a body, as a form; such a request follows no redirect, since what it says is for its server alone.
    pub form: Option<Secret>,
}

impl Request {
    /// A `GET` with all credentials that are configured for its host.
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), sending: Sending::All, form: None }
    }

    /// A `POST` of a form, without credentials beside it.
    pub fn post(url: Url, form: &[(&str, &str)]) -> Self {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        Self {
            method: Method::POST,
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]),
            sending: Sending::Nothing,
            form: Some(Secret::new(form)),
            ..Self::get(url)
        }
    }
}

/// A client with its connections.
pub struct Client {
    // The connections go before the runtime that drives them.
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    credentials: BTreeMap<String, Credentials>,
    known_hosts: Arc<Mutex<BTreeSet<String>>>,
    least_rate: Rate,
}

impl Client {
    /// Makes a client; nothing is sent.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn new(options: ClientOptions) -> Result<Self, HttpError> {
        // The second time it is there already.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let known_hosts = Arc::new(Mutex::new(BTreeSet::new()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| HttpError::Setup(crate::os::cause_text(&cause)))?;
        let resolver = PublicOnly::new(Arc::clone(&known_hosts), options.proxies);
        let builder = || {
            reqwest::Client::builder()
                .user_agent(HeaderValue::from_static(concat!("rkt/", env!("CARGO_PKG_VERSION"))))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_LIMIT)
                .referer(false)
                .tls_danger_accept_invalid_certs(options.certificates == Certificates::Unchecked)
                .dns_resolver(Arc::clone(&resolver))
        };
        // A host without the package ca-certificates knows no authority. Plain HTTP works there, and an HTTPS server is
        // refused for what it is: one that nobody known vouches for.
        let http = builder().build().or_else(|error| {
            log::debug!("{}", error::innermost(&error));
            builder().tls_certs_only([]).build()
        });
        let http = http.map_err(|error| HttpError::Setup(error::innermost(&error)))?;
        Ok(Self {
            http,
            runtime,
            credentials: options.credentials,
            known_hosts,
            least_rate: options.least_rate,
        })
    }

    /// Notes that the user has typed a host, which may then be this one.
    pub fn know_host(&self, host: &str) {
        self.known_hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned());
    }

    /// Sends a request, following redirects and trying again what may pass, and returns the answer once its head is
    /// there. An answer that says no is an answer, too.
    ///
    /// # Errors
    /// When there is none.
    pub fn send(&self, request: &Request, attempts: &mut Attempts) -> Result<Response<'_>, HttpError> {
        loop {
            let failed = match self.follow(request) {
                Ok(response) if !retry::is_passing(response.status) => return Ok(response),
                Ok(response) => {
                    let asked = response.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                    match attempts.after_status(asked, std::time::SystemTime::now()) {
                        Some(pause) => (pause, response.status.to_string()),
                        None => return Ok(response),
                    }
                }
                Err(error) if error.may_pass() => match attempts.after_failure() {
                    Some(pause) => (pause, error.to_string()),
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            };
            let (pause, what) = failed;
            log::info!("{}: {what}; trying again in {:.1} s", shown(&request.url), pause.as_secs_f64());
            self.pause(pause)?;
        }
    }

    /// Waits, unless the user wants to end.
    ///
    /// # Errors
    /// When the user does.
    pub fn pause(&self, duration: Duration) -> Result<(), HttpError> {
        self.wait(async { tokio::time::sleep(duration).await })
    }

    fn follow(&self, request: &Request) -> Result<Response<'_>, HttpError> {
        let mut url = request.url.clone();
        for _ in 0..=redirect::MOST {
            let response = self.send_once(request, &url)?;
            let location = redirect::location(response.status, response.headers.get(LOCATION));
            let Some(location) = location.filter(|_| request.form.is_none()) else {
                return Ok(response);
            };
            let next = redirect::next(&url, location)?;
            log::debug!("{} redirects to {}", shown(&url), shown(&next));
            url = next;
        }
        Err(HttpError::Redirects { url: shown(&request.url) })
    }

    fn send_once(&self, request: &Request, url: &Url) -> Result<Response<'_>, HttpError> {
        {
            let known = self.known_hosts.lock().unwrap_or_else(PoisonError::into_inner);
            address::check(url, &known)?;
        }
        let mut headers = request.headers.clone();
        // Credentials stay where they were meant to go.
        if url.origin() == request.url.origin() {
            origin::authorize(&mut headers, &request.method, url, &self.credentials, request.sending);
        } else {
            // What a caller has set itself.
            headers.remove(header::AUTHORIZATION);
        }
        log::debug!("{} {}", request.method, shown(url));
        let mut sent = self.http.request(request.method.clone(), url.clone()).headers(headers);
        if let Some(form) = &request.form {
            sent = sent.body(form.reveal().to_owned());
        }
        let answer = self.wait(async { tokio::time::timeout(ANSWER_LIMIT, sent.send()).await })?;
        let answer = answer
            .map_err(|_| HttpError::NoAnswer { url: shown(url), limit: ANSWER_LIMIT })?
            .map_err(|error| HttpError::of(url, &error))?;
        Ok(Response {
            client: self,
            status: answer.status(),
            headers: answer.headers().clone(),
            url: url.clone(),
            length: answer.content_length(),
            body: answer,
            window: Window { began: Instant::now(), bytes: 0 },
        })
    }

    /// Drives a future to its end, or to the user's.
    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, HttpError> {
        self.runtime.block_on(async {
            tokio::pin!(future);
            loop {
                match tokio::time::timeout(LOOK, &mut future).await {
                    Ok(value) => return Ok(value),
                    Err(_) if interrupt::has_arrived() => return Err(HttpError::Interrupted),
                    Err(_) => {}
                }
            }
        })
    }
}

/// An answer whose body has not been read yet.
pub struct Response<'c> {
    client: &'c Client,
    /// What the server says.
    pub status: StatusCode,
    /// What it says about it.
    pub headers: HeaderMap,
    /// Where it came from in the end.
    pub url: Url,
    /// How long the body will be, if the server says so.
    pub length: Option<u64>,
    body: reqwest::Response,
    window: Window,
}

/// How much came since when.
struct Window {
    began: Instant,
    bytes: u64,
}

impl Response<'_> {
    /// Waits for more of the body; empty at its end.
    ///
    /// # Errors
    /// When the connection was cut or is too slow.
    pub fn chunk(&mut self) -> Result<Vec<u8>, HttpError> {
        let rate = self.client.least_rate;
        loop {
            let left = rate.window.saturating_sub(self.window.began.elapsed());
            let next = self.body.chunk();
            let next = self.client.wait(async { tokio::time::timeout(left, next).await })?;
            if self.window.began.elapsed() >= rate.window {
                if self.window.bytes < rate.bytes {
                    return Err(HttpError::TooSlow { url: shown(&self.url), rate });
                }
                self.window = Window { began: Instant::now(), bytes: 0 };
            }
            match next {
                Ok(Ok(Some(chunk))) if chunk.is_empty() => {}
                Ok(Ok(Some(chunk))) => {
                    self.window.bytes += chunk.len() as u64;
                    return Ok(chunk.into());
                }
                Ok(Ok(None)) => return Ok(Vec::new()),
                Ok(Err(error)) => return Err(HttpError::of(&self.url, &error)),
                // The next round tells whether that was too slow.
                Err(_) => {}
            }
        }
    }

    /// Reads the beginning of the body, at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Response::chunk`].
    pub fn first_bytes(mut self, limit: usize) -> Result<Vec<u8>, HttpError> {
        let mut bytes = Vec::new();
        while bytes.len() < limit {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                break;
            }
            bytes.extend(chunk);
        }
        bytes.truncate(limit);
        Ok(bytes)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// When it is larger than `limit`, and as [`Response::chunk`].
    pub fn bytes(mut self, limit: usize) -> Result<Vec<u8>, HttpError> {
        let mut bytes = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(chunk);
            if bytes.len() > limit {
                return Err(HttpError::TooLarge { url: shown(&self.url), limit: limit as u64 });
            }
        }
    }
}

/// An URL for people: without what somebody may have put in as a password.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These fail for URLs without a host, which have no password either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// The `host` or `host:port` of an URL as configuration names it.
pub fn authority(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests;
