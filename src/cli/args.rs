//! Values that flags take, shared by the commands.
//!
//! Each has a `FromStr`, so that `#[arg(long)] grace_period: Period` is all a command writes. A switch is a plain
//! `bool`: `--full`, `--full=true` and `--full=0` are understood for it. A boolean that is true by default is a `bool`
//! with `#[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = Set)]`.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::words::WordError;

/// A value of a flag that is not of the right form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A boolean is neither.
    #[error("must be true or false")]
    Boolean,
    /// An empty path where a directory is needed.
    #[error("{0:?} is not a valid directory")]
    Directory(String),
    /// The directory we are in is gone, so that a relative path means nothing.
    #[error("{0:?} cannot be made absolute: {1}")]
    Relative(String, String),
    /// A length of time that cannot be read.
    #[error("{0:?} is not a duration such as 1h30m, 10s or 500ms")]
    Period(String),
    /// An output format that does not exist.
    #[error("Invalid format option: {0}")]
    Format(String),
    /// No `=` in a variable.
    #[error("must be specified as key=value")]
    KeyValue,
}

/// Reads a boolean in the spellings that the flags have always taken.
///
/// # Errors
/// Anything else.
pub fn boolean(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::Boolean),
    }
}

/// Makes rkt's error of clap's when a value is wrong; any other is a wrong number of arguments.
pub fn value_error(error: &clap::Error) -> Option<WordError> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let reason = match error.kind() {
        ErrorKind::ValueValidation => match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => context(ContextKind::Custom),
        },
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) => format!("must be one of {}", values.join(", ")),
            _ => "must not be empty".to_owned(),
        },
        _ => return None,
    };
    let value = context(ContextKind::InvalidValue);
    // `--dir <DIR>`, `--net[=<SPEC>]`, `<UUID>`, `[UUID]...`
    let arg = context(ContextKind::InvalidArg);
    Some(match arg.strip_prefix("--") {
        Some(flag) => {
            let name = flag.split([' ', '[', '=']).next().unwrap_or_default().to_owned();
            WordError::InvalidValue { name, value, reason }
        }
        None => {
            let name = arg.trim_matches(['<', '>', '[', ']', '.']).to_owned();
            WordError::InvalidArgument { name, value, reason }
        }
    })
}

/// Makes clap's error of rkt's, for checks that are made while clap parses; [`value_error`] is its inverse.
pub fn clap_error(error: &WordError) -> clap::Error {
    let mut wrapped = clap::Error::new(ErrorKind::ValueValidation);
    if let WordError::InvalidValue { name, value, reason } = error {
        wrapped.insert(ContextKind::InvalidArg, ContextValue::String(format!("--{name}")));
        wrapped.insert(ContextKind::InvalidValue, ContextValue::String(value.clone()));
        wrapped.insert(ContextKind::Custom, ContextValue::String(reason.clone()));
    }
    wrapped
}

/// A directory given by the user: absolute, not empty, perhaps absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(PathBuf);

impl Directory {
    /// Returns the path with its links resolved, if it exists, so that it equals what mount tables say.
    pub fn resolved(self) -> PathBuf {
        self.0.canonicalize().unwrap_or(self.0)
    }
}

impl FromStr for Directory {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::Directory(text.to_owned()));
        }
        let relative = |cause| ValueError::Relative(text.to_owned(), crate::os::cause_text(&cause));
        std::path::absolute(text).map(Self).map_err(relative)
    }
}

/// How a command shows its result: `--format ''|json|json-pretty`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: a table or lines.
    #[default]
    Text,
    /// JSON on one line.
    Json,
    /// JSON indented with tabs.
    JsonPretty,
}

impl FromStr for Format {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "json-pretty" => Ok(Self::JsonPretty),
            _ => Err(ValueError::Format(text.to_owned())),
        }
    }
}

/// `NAME=VALUE`; the value may contain anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// What stands before the first `=`.
    pub key: String,
    /// What stands behind it.
    pub value: String,
}

impl FromStr for KeyValue {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (key, value) = text.split_once('=').ok_or(ValueError::KeyValue)?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// A length of time as users write it, `1h30m` or `-1s`; negative ones mean what the flag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    nanoseconds: i64,
}

impl Period {
    const UNITS: [(&str, i64); 8] = [
        // The longer name first where one ends like another.
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];

    /// Makes a period of whole seconds.
    pub const fn seconds(seconds: u32) -> Self {
        Self { nanoseconds: seconds as i64 * 1_000_000_000 }
    }

    /// Returns the length, unless it is negative.
    pub fn duration(self) -> Option<Duration> {
        u64::try_from(self.nanoseconds).ok().map(Duration::from_nanos)
    }

    /// Reads one number and its unit off the front.
    fn term(text: &str) -> Option<(i128, &str)> {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = text.split_at(digits(text));
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        if whole.len() + fraction.len() == 0 || whole.len() > 19 {
            return None;
        }
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        let (_, unit) = Self::UNITS.iter().find(|(name, _)| *name == unit)?;
        let unit = i128::from(*unit);
        let mut sum = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? * unit };
        let mut place = unit;
        for digit in fraction.bytes() {
            place /= 10;
            sum += i128::from(digit - b'0') * place;
        }
        Some((sum, rest))
    }
}

impl FromStr for Period {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bad = || ValueError::Period(text.to_owned());
        let (sign, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self { nanoseconds: 0 });
        }
        if rest.is_empty() {
            return Err(bad());
        }
        let mut sum: i128 = 0;
        while !rest.is_empty() {
            let (term, behind) = Self::term(rest).ok_or_else(bad)?;
            sum += term;
            rest = behind;
        }
        i64::try_from(sum * sign).map(|nanoseconds| Self { nanoseconds }).map_err(|_| bad())
    }
}

/// `24h0m0s`, `1m30s`, `1.5s`, `0s`: all units from the largest one down.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanoseconds < 0 {
            f.write_str("-")?;
        }
        let total = self.nanoseconds.unsigned_abs();
        let (seconds, nanoseconds) = (total / 1_000_000_000, total % 1_000_000_000);
        if seconds == 0 && nanoseconds > 0 {
            let (unit, name) = match nanoseconds {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "µs"),
                _ => (1_000_000, "ms"),
            };
            return write!(f, "{}{}{name}", nanoseconds / unit, fraction(nanoseconds % unit, unit));
        }
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}{}s", seconds % 60, fraction(nanoseconds, 1_000_000_000))
    }
}

/// Writes a part of a unit as decimal places, without trailing zeros.
fn fraction(part: u64, unit: u64) -> String {
    if part == 0 {
        return String::new();
    }
    let places = unit.ilog10() as usize;
    format!(".{part:0places$}").trim_end_matches('0').to_owned()
}

/// How long to wait: the value of `--wait` and `--wait-ready` (spec cli.md 1.2.5), used with
/// `#[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until it happens.
    Forever,
    /// Until it happens or this time is over.
    AtMost(Duration),
}

impl FromStr for Wait {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Ok(Self::Forever);
        }
        // `0` and `1` are booleans first, as they have always been here.
        if let Ok(on) = boolean(text) {
            return Ok(if on { Self::Forever } else { Self::No });
        }
        Ok(match text.parse::<Period>()?.duration() {
            None => Self::Forever,
            Some(Duration::ZERO) => Self::No,
            Some(time) => Self::AtMost(time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_and_written_as_users_know_them() {
        for (text, shown) in [
            ("30m", "30m0s"),
            ("24h", "24h0m0s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("1h30m", "1h30m0s"),
            ("1.5h", "1h30m0s"),
            ("90s", "1m30s"),
            ("10s", "10s"),
            ("1500ms", "1.5s"),
            ("250ms", "250ms"),
            ("1.5us", "1.5µs"),
            ("7ns", "7ns"),
            (".5s", "500ms"),
            ("-1m", "-1m0s"),
            ("+2s", "2s"),
        ] {
            let period: Period = text.parse().expect(text);
            assert_eq!(period.to_string(), shown, "{text}");
        }
        for text in
            ["", "-", "10", "1d", "s", "1 s", "1h-3m", "9999999h", "1s2", "..5s", "99999999999999999999s"]
        {
            assert_eq!(text.parse::<Period>(), Err(ValueError::Period(text.into())), "{text}");
        }
        assert_eq!("-1s".parse::<Period>().map(Period::duration), Ok(None));
        assert_eq!(Period::seconds(90).duration(), Some(Duration::from_secs(90)));
    }

    #[test]
    fn waiting_is_a_boolean_or_a_time() {
        for (text, wait) in [
            ("", Wait::Forever),
            ("true", Wait::Forever),
            ("-1s", Wait::Forever),
            ("f", Wait::No),
            ("0", Wait::No),
            ("0s", Wait::No),
            ("1m30s", Wait::AtMost(Duration::from_secs(90))),
        ] {
            assert_eq!(text.parse(), Ok(wait), "{text}");
        }
        assert!("soon".parse::<Wait>().is_err());
    }

    #[test]
    fn a_directory_is_absolute_and_not_empty() {
        assert_eq!(
            "".parse::<Directory>().map_err(|e| e.to_string()),
            Err(r#""" is not a valid directory"#.into())
        );
        assert!("x".parse::<Directory>().is_ok_and(|dir| dir.0.is_absolute()));
    }
}
