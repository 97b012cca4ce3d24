//! Which credentials a server gets: those that are configured for exactly its `host[:port]`, over HTTPS only.

use std::collections::BTreeMap;
use std::time::SystemTime;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use url::Url;

use super::{authority, aws};
use crate::config::Credentials;
use crate::image::base64;

/// Which credentials may go along with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// None.
    Nothing,
    /// A password or a token; signed requests are for downloads only.
    Headers,
    /// All.
    All,
}

/// Adds to `headers` what the server of `url` is to see.
pub(super) fn authorize(
    headers: &mut HeaderMap,
    method: &Method,
    url: &Url,
    credentials: &BTreeMap<String, Credentials>,
    sending: Sending,
) {
    if url.scheme() != "https" || sending == Sending::Nothing {
        return;
    }
    match credentials.get(&authority(url)) {
        Some(Credentials::Basic(login)) => {
            let text = base64::encode(format!("{}:{}", login.user, login.password.reveal()).as_bytes());
            set(headers, &format!("Basic {text}"));
        }
        Some(Credentials::OAuth { token }) => set(headers, &format!("Bearer {}", token.reveal())),
        Some(Credentials::Aws { access_key_id, secret_access_key, region }) if sending == Sending::All => {
            let key = aws::Key { id: access_key_id, secret: secret_access_key.reveal(), region };
            aws::sign(headers, method.as_str(), url, &key, SystemTime::now());
        }
        Some(Credentials::Aws { .. }) | None => {}
    }
}

fn set(headers: &mut HeaderMap, text: &str) {
    // A token that is no header is of no use to any server.
    if let Ok(mut value) = HeaderValue::from_str(text) {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Login, Secret};

    #[test]
    fn b11_credentials_go_to_their_exact_host_and_port_over_https() {
        let login = Login { user: "u".into(), password: Secret::new("p") };
        let token = Credentials::OAuth { token: Secret::new("t") };
        let aws = Credentials::Aws {
            access_key_id: "i".into(),
            secret_access_key: Secret::new("s"),
            region: String::new(),
        };
        let all: BTreeMap<String, Credentials> = [
            ("a.example".to_owned(), Credentials::Basic(login)),
            ("a.example:8443".to_owned(), token),
            ("s3.example".to_owned(), aws),
        ]
        .into();
        for (url, sending, expected) in [
            ("https://a.example/x", Sending::All, "Basic dTpw"),
            ("https://a.example:443/x", Sending::Headers, "Basic dTpw"),
            ("https://a.example:8443/x", Sending::All, "Bearer t"),
            ("https://a.example/x", Sending::Nothing, ""),
            ("http://a.example/x", Sending::All, ""),
            ("https://a.example:8080/x", Sending::All, ""),
            ("https://b.a.example/x", Sending::All, ""),
            ("https://a.example.org/x", Sending::All, ""),
            ("https://s3.example/x", Sending::Headers, ""),
            ("https://s3.example/x", Sending::All, "AWS4-HMAC-SHA256 Credential=i/"),
        ] {
            let mut headers = HeaderMap::new();
            authorize(&mut headers, &Method::GET, &url.parse().unwrap(), &all, sending);
            let found = headers.get(AUTHORIZATION).map_or("", |value| value.to_str().unwrap());
            assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{url}: {found}");
        }
    }
}
