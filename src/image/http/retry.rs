//! What is tried again, and when.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;

/// How often something is tried in all (SECURITY.md, F24).
const TRIES: u32 = 5;
/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest that a server may ask for.
const LONGEST: Duration = Duration::from_secs(60);

/// Tells whether a server means "later" by a status.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// How often something has been tried.
#[derive(Debug, Clone)]
pub struct Attempts {
    most: u32,
    failed: u32,
}

impl Default for Attempts {
    fn default() -> Self {
        Self::of(TRIES)
    }
}

impl Attempts {
    /// Starts to count.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts to count up to `most` tries in all.
    pub const fn of(most: u32) -> Self {
        Self { most, failed: 0 }
    }

    /// Starts to count again, since there was some success.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// The pause before the next try after a failure, or `None` if there is none.
    pub fn after_failure(&mut self) -> Option<Duration> {
        self.failed += 1;
        (self.failed < self.most).then(|| self.back_off())
    }

    /// The same after an answer that said "later", perhaps with a `Retry-After`.
    ///
    /// Who asks for more than a minute is left alone: the user may come again.
    pub(super) fn after_status(&mut self, asked: Option<&str>, now: SystemTime) -> Option<Duration> {
        let pause = self.after_failure()?;
        match asked.and_then(|text| retry_after(text, now)) {
            Some(asked) if asked > LONGEST => None,
            Some(asked) => Some(asked.max(pause)),
            None => Some(pause),
        }
    }

    /// Doubles from pause to pause; up to half of it is left to chance, so that many clients do not come back at once.
    fn back_off(&self) -> Duration {
        let full = FIRST_PAUSE * 2_u32.pow(self.failed.min(TRIES) - 1);
        let chance = RandomState::new().hash_one(self.failed) % 1000;
        full / 2 + full / 2 * u32::try_from(chance).unwrap_or(0) / 1000
    }
}

/// Reads a `Retry-After` (RFC 9110 10.2.3): seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = http_date(text)?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Reads a date of the form `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7).
pub(super) fn http_date(text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix(" GMT")?;
    let time = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S", text).ok()?;
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(SystemTime::from(zoned.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f24_there_are_five_tries_with_growing_pauses() {
        let mut attempts = Attempts::new();
        let mut last = Duration::ZERO;
        for full in [250, 500, 1000, 2000] {
            let pause = attempts.after_failure().unwrap();
            let full = Duration::from_millis(full);
            assert!(pause >= full / 2 && pause <= full, "{pause:?}");
            assert!(pause >= last / 2);
            last = pause;
        }
        assert_eq!(attempts.after_failure(), None);
        attempts.reset();
        assert!(attempts.after_failure().is_some());
    }

    #[test]
    fn f24_retry_after_is_obeyed_up_to_a_minute() {
        let now = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (text, expected) in [
            ("3", seconds(3)),
            ("0", seconds(0)),
            ("61", seconds(61)),
            ("99999999999999999999999", seconds(u64::MAX)),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:49:47 GMT", seconds(10)),
            ("Sun, 06 Nov 1994 08:49:17 GMT", seconds(0)),
            ("Sun, 99 Nov 1994 08:49:17 GMT", None),
        ] {
            assert_eq!(retry_after(text, now), expected, "{text}");
        }
        assert_eq!(Attempts::new().after_status(Some("3"), now), seconds(3));
        assert_eq!(Attempts::new().after_status(Some("3600"), now), None);
        assert!(Attempts::new().after_status(Some("-3"), now).unwrap() <= FIRST_PAUSE);
    }
}
