//! One file from a server, gone on with where it was cut: never two versions joined, never more than the space there is.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use super::{ShowProgress, Work};
use crate::image::http::header::{self, HeaderMap, HeaderValue};
use crate::image::http::{Attempts, Client, HttpError, Request, Response, Url, shown};
use crate::image::store::{DownloadPlace, PartOf, Validity};
use crate::image::stream::Progress;
use crate::os::{Hint, SysError};

/// How often a download is gone on with, however much comes each time.
const MOST_PARTS: usize = 1000;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server did not answer, or not to the end.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It said no.
    #[error("{url}: bad HTTP status code: {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// What it said.
        status: u16,
    },
    /// It sent another part than the one that was asked for.
    #[error("{url}: the server sent the range \"{found}\" when asked for the bytes from {wanted} on")]
    Range {
        /// What was asked for.
        url: String,
        /// From where on.
        wanted: u64,
        /// What it said.
        found: String,
    },
    /// It promised more than it has.
    #[error("{url}: the server promises {promised} bytes and has {has}")]
    Promise {
        /// What was asked for.
        url: String,
        /// Bytes that it named.
        promised: u64,
        /// Bytes that it sent.
        has: u64,
    },
    /// It is too large for the disk.
    #[error("{url} has {needed} bytes, and only {free} are free in the store")]
    NoSpace {
        /// What was asked for.
        url: String,
        /// Bytes that are missing.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// It is larger than any image may be.
    #[error("{url}: larger than the {limit} bytes that are allowed")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

impl Hint for DownloadError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Http(cause) => cause.hint(),
            Self::Status { status: 401 | 403, .. } => {
                Some("credentials for a server are files in auth.d of the configuration".into())
            }
            Self::Status { status: 429 | 500..=599, .. } => Some("try again later".into()),
            Self::NoSpace { .. } => {
                Some("free some space, for example with `rkt gc --grace-period=0s` and `rkt image gc`".into())
            }
            Self::System(cause) => cause.hint(),
            Self::Status { .. } | Self::Range { .. } | Self::Promise { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// What came of a download.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The file is in its place.
    Whole(Validity),
    /// The server still has what it had.
    NotModified,
}

/// A download that is to be made.
pub(super) struct Download<'a> {
    /// By what.
    pub(super) client: &'a Client,
    /// From where.
    pub(super) url: &'a Url,
    /// Where to.
    pub(super) place: &'a DownloadPlace,
    /// The server's name for what is there already.
    pub(super) etag: Option<&'a str>,
    /// Bytes that there is room for.
    pub(super) free: u64,
    /// The largest that is taken.
    pub(super) limit: u64,
    /// Shows how far it is.
    pub(super) progress: ShowProgress<'a>,
}

/// What is done after one answer.
enum Part {
    Done(Outcome),
    /// The rest is asked for; with how many bytes more than before.
    Cut {
        error: HttpError,
        gained: u64,
        can_resume: bool,
    },
    /// From the beginning.
    Again,
}

impl Download<'_> {
    /// Makes the download, in as many parts as it takes.
    ///
    /// # Errors
    /// When the server refuses or lies, the connection is lost for good, or the disk is full. What came stays in its
    /// place for the next time.
    pub(super) fn run(&self) -> Result<Outcome, DownloadError> {
        let mut attempts = Attempts::new();
        let mut began_again = false;
        for _ in 0..MOST_PARTS {
            match self.part(&mut attempts, began_again)? {
                Part::Done(outcome) => return Ok(outcome),
                Part::Again => {
                    began_again = true;
                    self.place.clear()?;
                }
                Part::Cut { error, gained, can_resume } => {
                    // Only what is kept is a success.
                    if gained > 0 && can_resume {
                        attempts.reset();
                        log::debug!("{error}; going on");
                        continue;
                    }
                    let pause = attempts.after_failure().ok_or(error.clone())?;
                    log::info!("{error}; trying again in {:.1} s", pause.as_secs_f64());
                    self.client.pause(pause)?;
                }
            }
        }
        Err(HttpError::Cut { url: shown(self.url), cause: format!("{MOST_PARTS} times") }.into())
    }

    /// Asks for what is missing, and takes what comes.
    fn part(&self, attempts: &mut Attempts, began_again: bool) -> Result<Part, DownloadError> {
        let found = self.place.found();
        let mut request = Request::get(self.url.clone());
        match &found {
            Some((size, part)) => ask_for_rest(&mut request.headers, *size, part),
            None => {
                if let Some(etag) = self.etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
                    request.headers.insert(header::IF_NONE_MATCH, etag);
                }
            }
        }
        let response = self.client.send(&request, attempts)?;
        let url = || shown(self.url);
        match (response.status.as_u16(), found) {
            (200, _) => self.whole(response),
            (206, Some((size, part))) => {
                let range = text(&response.headers, &header::CONTENT_RANGE);
                match content_range(&range) {
                    Some((from, total)) if from == size && part.total.is_none_or(|known| known == total) => {
                        log::debug!("going on with {} after {size} bytes", url());
                        let file = self.place.resume()?;
                        self.body(response, file, size, &PartOf::new(part.validator, Some(total)))
                    }
                    // A server that can't count is asked for everything, once.
                    _ if !began_again => Ok(Part::Again),
                    _ => Err(DownloadError::Range { url: url(), wanted: size, found: range }),
                }
            }
            (416, Some((size, part))) => match part.total {
                Some(promised) if began_again && size < promised => {
                    Err(DownloadError::Promise { url: url(), promised, has: size })
                }
                _ if !began_again => Ok(Part::Again),
                _ => Err(DownloadError::Status { url: url(), status: 416 }),
            },
            (304, None) if self.etag.is_some() => Ok(Part::Done(Outcome::NotModified)),
            (status, _) => Err(DownloadError::Status { url: url(), status }),
        }
    }

    /// Takes a file from its beginning.
    fn whole(&self, response: Response<'_>) -> Result<Part, DownloadError> {
        let validator = validator(&response.headers);
        let part = PartOf::new(validator, response.length);
        let file = self.place.start(&part)?;
        self.body(response, file, 0, &part)
    }

    fn body(
        &self,
        mut response: Response<'_>,
        mut file: File,
        start: u64,
        part: &PartOf,
    ) -> Result<Part, DownloadError> {
        let url = || shown(self.url);
        let room = self.free.min(self.limit);
        if let Some(total) = part.total {
            if total > self.limit {
                return Err(DownloadError::TooLarge { url: url(), limit: self.limit });
            }
            if total.saturating_sub(start) > self.free {
                return Err(DownloadError::NoSpace { url: url(), needed: total - start, free: self.free });
            }
        }
        let work = Work::Download { what: "ACI" };
        let mut size = start;
        loop {
            (self.progress)(&work, Progress { read: size, total: part.total.unwrap_or(0) });
            let chunk = match response.chunk() {
                Ok(chunk) => chunk,
                Err(error) if error.may_pass() => {
                    let can_resume = part.validator.is_some();
                    return Ok(Part::Cut { error, gained: size - start, can_resume });
                }
                Err(error) => return Err(error.into()),
            };
            if chunk.is_empty() {
                break;
            }
            size += chunk.len() as u64;
            if size - start > room || size > self.limit {
                return Err(DownloadError::TooLarge { url: url(), limit: room });
            }
            file.write_all(&chunk).map_err(SysError::on("writing", self.place.body()))?;
        }
        match part.total {
            Some(promised) if size != promised => {
                Err(DownloadError::Promise { url: url(), promised, has: size })
            }
            _ => Ok(Part::Done(Outcome::Whole(validity(&response.headers)))),
        }
    }
}

/// Asks for the bytes from `size` on, if the file is still the same.
fn ask_for_rest(headers: &mut HeaderMap, size: u64, part: &PartOf) {
    let validator = part.validator.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    let range = HeaderValue::from_str(&format!("bytes={size}-"));
    if let (Some(validator), Ok(range)) = (validator, range) {
        headers.insert(header::RANGE, range);
        headers.insert(header::IF_RANGE, validator);
    }
}

/// By what a part of the same file can be asked for: a strong tag, else the date (RFC 9110 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let etag = text(headers, &header::ETAG);
    if etag.starts_with('"') {
        return Some(etag);
    }
    let date = text(headers, &header::LAST_MODIFIED);
    (!date.is_empty()).then_some(date)
}

/// How long an answer may be used (spec images.md 2.4.2).
pub(super) fn validity(headers: &HeaderMap) -> Validity {
    let etag = text(headers, &header::ETAG);
    let mut max_age = Duration::ZERO;
    for value in headers.get_all(header::CACHE_CONTROL) {
        for word in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            match word.split_once('=') {
                Some(("max-age", seconds)) if !seconds.starts_with(['0', '+', '-']) => {
                    max_age = seconds.parse().map(Duration::from_secs).unwrap_or(max_age);
                }
                None if word == "no-store" || word == "no-cache" => {
                    return Validity { etag: (!etag.is_empty()).then_some(etag), max_age: Duration::ZERO };
                }
                _ => {}
            }
        }
    }
    Validity { etag: (!etag.is_empty()).then_some(etag), max_age }
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Reads `bytes FROM-TO/TOTAL`, in which all belong together (RFC 9110 14.4): from where, and of how much.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to, total): (u64, u64, u64) = (from.parse().ok()?, to.parse().ok()?, total.parse().ok()?);
    (from <= to && to.checked_add(1)? == total).then_some((from, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_age_that_a_server_allows() {
        for (values, expected) in [
            (vec![], 0),
            (vec!["max-age=60"], 60),
            (vec!["public, max-age=60"], 60),
            (vec!["max-age=060"], 0),
            (vec!["max-age=0"], 0),
            (vec!["max-age=-1"], 0),
            (vec!["max-age=x"], 0),
            (vec!["max-age=60", "no-store"], 0),
            (vec!["no-cache, max-age=60"], 0),
            (vec!["max-age=99999999999999999999999"], 0),
        ] {
            let pairs: Vec<_> = values.iter().map(|value| ("cache-control", *value)).collect();
            assert_eq!(validity(&headers(&pairs)).max_age.as_secs(), expected, "{values:?}");
        }
        assert_eq!(validity(&headers(&[("etag", "\"x\"")])).etag.as_deref(), Some("\"x\""));
    }

    #[test]
    fn f25_a_range_must_be_whole() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, 10))),
            ("bytes 0-0/1", Some((0, 1))),
            ("bytes 5-8/10", None),
            ("bytes 9-5/10", None),
            ("bytes 5-9/*", None),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes 18446744073709551615-18446744073709551615/0", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }

    #[test]
    fn f22_only_a_strong_validator_joins_parts() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (pairs, expected) in [
            (vec![("etag", "\"x\"")], Some("\"x\"")),
            (vec![("etag", "W/\"x\"")], None),
            (vec![("etag", "W/\"x\""), ("last-modified", date)], Some(date)),
            (vec![], None),
        ] {
            assert_eq!(validator(&headers(&pairs)).as_deref(), expected);
        }
    }
}
