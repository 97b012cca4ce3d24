//! Why there is no answer, in one line that names the server and the reason.

use std::error::Error;
use std::time::Duration;

use url::Url;

use super::resolve::ResolveError;
use super::{Rate, shown};
use crate::os::{Hint, cause_text};

/// Why a server gave no answer, or one that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The client could not be made.
    #[error("setting up the HTTP client: {0}")]
    Setup(String),
    /// The name has no address.
    #[error("the host {host} was not found: {cause}")]
    Unknown {
        /// The name.
        host: String,
        /// The resolver's words.
        cause: String,
    },
    /// Nobody is there.
    #[error("connecting to {host}: {cause}")]
    Connect {
        /// With whom.
        host: String,
        /// The kernel's words.
        cause: String,
    },
    /// It did not come about in time.
    #[error("connecting to {host}: no connection within {} s", .limit.as_secs())]
    ConnectTimeout {
        /// With whom.
        host: String,
        /// The time.
        limit: Duration,
    },
    /// The server did not prove who it is.
    #[error("the certificate of {host} is not accepted: {problem}")]
    Certificate {
        /// Who it should be.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS failed in another way.
    #[error("TLS with {host}: {problem}")]
    Tls {
        /// With whom.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// The server is silent.
    #[error("{url}: no answer within {} s", .limit.as_secs())]
    NoAnswer {
        /// What was asked for.
        url: String,
        /// The time.
        limit: Duration,
    },
    /// The server is nearly silent.
    #[error("{url}: less than {} bytes within {} s", .rate.bytes, .rate.window.as_secs())]
    TooSlow {
        /// What was asked for.
        url: String,
        /// The slowest that is waited for.
        rate: Rate,
    },
    /// The connection ended early, or what came is no HTTP.
    #[error("{url}: the connection was cut: {cause}")]
    Cut {
        /// What was asked for.
        url: String,
        /// What was seen.
        cause: String,
    },
    /// A body is larger than it may be.
    #[error("{url}: larger than the {limit} bytes that are allowed")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The way is too long.
    #[error("{url}: more than {} redirects", super::redirect::MOST)]
    Redirects {
        /// Where it began.
        url: String,
    },
    /// A redirect leads where rkt does not go.
    #[error("{from} redirects to {to}: {why}")]
    Redirect {
        /// From where.
        from: String,
        /// Where to.
        to: String,
        /// Why not.
        why: Refusal,
    },
    /// A server elsewhere sends us to ourselves.
    #[error("{host} is an address of this host or its link, and only a user may name it")]
    Local {
        /// The host.
        host: String,
    },
    /// There is no host in an URL.
    #[error("{url} names no host")]
    NoHost {
        /// The URL.
        url: String,
    },
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It leaves HTTPS.
    #[error("it leaves HTTPS")]
    LeavesHttps,
    /// It is no HTTP at all.
    #[error("it is neither http nor https")]
    Scheme,
    /// It brings credentials of its own.
    #[error("it has a user or password in it")]
    Userinfo,
    /// It can't be read.
    #[error("it is no URL")]
    Malformed,
}

impl Hint for HttpError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => Some("check the name, and this host's resolver with `resolvectl query`".into()),
            Self::Certificate { .. } => Some(
                "add the authority to the system's certificates (package ca-certificates); --insecure-options=tls goes \
                 on without knowing the server"
                    .into(),
            ),
            Self::Connect { .. } | Self::ConnectTimeout { .. } => {
                Some("check that the server runs, and the proxy in HTTPS_PROXY or HTTP_PROXY if one is needed".into())
            }
            Self::Local { .. } => Some("if that is meant, name the image by its URL".into()),
            Self::Setup(_)
            | Self::Tls { .. }
            | Self::NoAnswer { .. }
            | Self::TooSlow { .. }
            | Self::Cut { .. }
            | Self::TooLarge { .. }
            | Self::Redirects { .. }
            | Self::Redirect { .. }
            | Self::NoHost { .. }
            | Self::Interrupted => None,
        }
    }
}

impl HttpError {
    /// Makes the error of the client's.
    pub(super) fn of(url: &Url, error: &reqwest::Error) -> Self {
        let host = super::authority(url);
        for link in links(error) {
            if let Some(error) = link.downcast_ref::<ResolveError>() {
                return match error {
                    ResolveError::Failed(cause) => Self::Unknown { host, cause: cause.clone() },
                    ResolveError::Local => Self::Local { host },
                };
            }
            if let Some(error) = link.downcast_ref::<rustls::Error>() {
                return Self::of_tls(host, error);
            }
        }
        if error.is_connect() && error.is_timeout() {
            return Self::ConnectTimeout { host, limit: super::CONNECT_LIMIT };
        }
        let cause = innermost(error);
        if error.is_connect() { Self::Connect { host, cause } } else { Self::Cut { url: shown(url), cause } }
    }

    fn of_tls(host: String, error: &rustls::Error) -> Self {
        use rustls::CertificateError as Bad;
        let rustls::Error::InvalidCertificate(bad) = error else {
            return Self::Tls { host, problem: error.to_string() };
        };
        let problem = match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => "it has expired".to_owned(),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "it is not valid yet, or the clock of this host is wrong".to_owned()
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => "it is for another host".to_owned(),
            Bad::UnknownIssuer => "it is signed by an authority that this host does not know".to_owned(),
            Bad::Revoked => "it has been revoked".to_owned(),
            other => other.to_string(),
        };
        Self::Certificate { host, problem }
    }

    /// Tells whether the same request may work a moment later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Cut { .. } => true,
            Self::Setup(_)
            | Self::NoAnswer { .. }
            | Self::TooSlow { .. }
            | Self::Unknown { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Certificate { .. }
            | Self::Tls { .. }
            | Self::TooLarge { .. }
            | Self::Redirects { .. }
            | Self::Redirect { .. }
            | Self::Local { .. }
            | Self::NoHost { .. }
            | Self::Interrupted => false,
        }
    }
}

/// The error and what is behind it, also what an I/O error wraps.
fn links<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let mut links: Vec<&'e (dyn Error + 'static)> = Vec::new();
    let mut next = Some(error);
    while let Some(link) = next {
        links.push(link);
        next = match link.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inside) => Some(inside as &(dyn Error + 'static)),
            None => link.source(),
        };
    }
    links
}

/// The last cause, which says most.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let links = links(error);
    let last = links.last().copied().unwrap_or(error);
    match last.downcast_ref::<std::io::Error>() {
        Some(cause) => cause_text(cause),
        None => last.to_string(),
    }
}
