//! Where an answer sends us, and whether we go.

use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use url::Url;

use super::error::{HttpError, Refusal};
use super::shown;

/// How many redirects are followed (SECURITY.md, B6).
pub(super) const MOST: usize = 5;

/// The place that an answer redirects to, if it does.
pub(super) fn location(status: StatusCode, location: Option<&HeaderValue>) -> Option<&HeaderValue> {
    let redirects = matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    location.filter(|_| redirects)
}

/// Returns the next URL of the way.
pub(super) fn next(from: &Url, location: &HeaderValue) -> Result<Url, HttpError> {
    let text = String::from_utf8_lossy(location.as_bytes()).into_owned();
    let refused = |to: String, why| HttpError::Redirect { from: shown(from), to, why };
    let Ok(mut to) = from.join(&text) else {
        return Err(refused(text, Refusal::Malformed));
    };
    let why = match (from.scheme(), to.scheme()) {
        ("https", "http") => Some(Refusal::LeavesHttps),
        (_, "http" | "https") if !to.username().is_empty() || to.password().is_some() => {
            Some(Refusal::Userinfo)
        }
        (_, "http" | "https") => None,
        _ => Some(Refusal::Scheme),
    };
    if let Some(why) = why {
        return Err(refused(shown(&to), why));
    }
    to.set_fragment(None);
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b6_redirects_stay_http_and_never_leave_https() {
        let from: Url = "https://a.example/dir/x?y#z".parse().unwrap();
        for (location, expected) in [
            ("/other", Ok("https://a.example/other")),
            ("other", Ok("https://a.example/dir/other")),
            ("https://b.example:8443/x#y", Ok("https://b.example:8443/x")),
            ("//b.example/x", Ok("https://b.example/x")),
            ("http://a.example/x", Err(Refusal::LeavesHttps)),
            ("file:///etc/shadow", Err(Refusal::Scheme)),
            ("data:text/plain,x", Err(Refusal::Scheme)),
            ("https://u:p@b.example/", Err(Refusal::Userinfo)),
            ("https://[", Err(Refusal::Malformed)),
        ] {
            let found = next(&from, &HeaderValue::from_str(location).unwrap());
            let found = found.map(String::from).map_err(|error| match error {
                HttpError::Redirect { why, .. } => why,
                other => panic!("{other}"),
            });
            assert_eq!(found, expected.map(str::to_owned), "{location}");
        }
        let plain: Url = "http://a.example/".parse().unwrap();
        assert!(next(&plain, &HeaderValue::from_static("https://a.example/")).is_ok());
        assert!(next(&plain, &HeaderValue::from_static("http://b.example/")).is_ok());
        let at = HeaderValue::from_static("/x");
        assert!(location(StatusCode::OK, Some(&at)).is_none());
        assert!(location(StatusCode::NOT_MODIFIED, Some(&at)).is_none());
        assert!(location(StatusCode::FOUND, None).is_none());
    }
}
