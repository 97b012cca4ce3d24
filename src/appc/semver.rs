//! Versions of the specification and of programs, by semver.org 2.0.0.

use std::{fmt, str::FromStr};

use super::field::quoted;

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a semantic version such as 0.8.11", quoted(.text))]
pub struct SemVerError {
    text: String,
}

/// A semantic version: `MAJOR.MINOR.PATCH`, then perhaps `-PRE` and `+BUILD`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SemVer {
    /// Changes that break readers.
    pub major: u64,
    /// Additions.
    pub minor: u64,
    /// Corrections.
    pub patch: u64,
    /// What follows: empty, or `-PRE`, `+BUILD`, `-PRE+BUILD`.
    rest: String,
}

impl SemVer {
    /// The version of the App Container specification that is implemented here.
    pub const APPC: Self = Self { major: 0, minor: 8, patch: 11, rest: String::new() };

    /// Tells whether what breaks readers has changed between this version and a later one.
    pub fn has_older_major(&self, later: &Self) -> bool {
        self.major < later.major
    }

    /// Tells whether this is exactly `0.0.0`, which stands for no version.
    pub fn is_zero(&self) -> bool {
        (self.major, self.minor, self.patch) == (0, 0, 0) && self.rest.is_empty()
    }
}

/// Dot-separated parts of letters, digits and dashes, none empty.
fn is_identifiers(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn parse(text: &str) -> Option<SemVer> {
    let (core, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let (pre, build) = match rest.split_once('+') {
        Some((pre, build)) => (pre, Some(build)),
        None => (rest, None),
    };
    let valid = pre.strip_prefix('-').is_none_or(is_identifiers) && build.is_none_or(is_identifiers);
    let mut numbers = core.split('.').map(number);
    let (major, minor, patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
    (valid && numbers.next().is_none()).then(|| SemVer { major, minor, patch, rest: rest.to_owned() })
}

impl FromStr for SemVer {
    type Err = SemVerError;

    fn from_str(text: &str) -> Result<Self, SemVerError> {
        parse(text).ok_or_else(|| SemVerError { text: text.to_owned() })
    }
}

impl fmt::Display for SemVer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}{}", self.major, self.minor, self.patch, self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_semver() {
        for text in ["0.8.11", "1.30.0", "2.0.0-dev", "0.8.11+git", "1.2.3-a.1+b-c", "1.0.0--", "0.0.0"] {
            assert_eq!(text.parse::<SemVer>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "v1.2.3",
            "1.2.x",
            "01.2.3",
            "1.2.3-",
            "1.2.3+",
            "1.2.3-a..b",
            "+1.2.3",
            "1.2.3 ",
            "1.2.99999999999999999999",
        ] {
            assert!(text.parse::<SemVer>().is_err(), "{text}");
        }
        assert!("0.0.0".parse::<SemVer>().unwrap().is_zero());
        assert!(!SemVer::APPC.is_zero());
    }
}
