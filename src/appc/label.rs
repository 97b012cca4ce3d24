//! Labels, which tell images of one name apart, and annotations, which describe.
//!
//! Both are lists of `{name, value}` with unique AC identifiers (appc spec, aci.md, "Image Manifest Schema").

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    field::{Field, FieldError, Members, quoted},
    name::AcIdentifier,
    platform,
};

/// One label of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// What it says something about, such as `version`, `os` or `arch`.
    pub name: AcIdentifier,
    /// What it says.
    pub value: String,
}

/// One annotation of an image, an app or a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// What it describes, such as `created` or `homepage`.
    pub name: AcIdentifier,
    /// The description.
    pub value: String,
}

macro_rules! name_value {
    ($type:ident) => {
        impl $type {
            /// Makes one of a name and a value.
            pub fn new(name: AcIdentifier, value: impl Into<String>) -> Self {
                Self { name, value: value.into() }
            }

            pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
                Ok(Self {
                    name: field.required("name")?.parsed()?,
                    value: field.or_default("value", Field::string)?,
                })
            }

            pub(super) fn write(&self) -> Value {
                Members::default().with("name", self.name.as_str()).with("value", self.value.as_str()).into()
            }
        }
    };
}

name_value!(Label);
name_value!(Annotation);

/// The rules of a list of labels, wherever one stands.
pub(super) fn validate_labels(labels: &[Label]) -> Result<(), FieldError> {
    let mut seen = BTreeSet::new();
    for (index, label) in labels.iter().enumerate() {
        if label.name == "name" {
            return Err(FieldError::new(format!("[{index}]"), "invalid label name: \"name\""));
        }
        if !seen.insert(&label.name) {
            return Err(FieldError::new(
                "",
                format!("duplicate labels of name {}", quoted(label.name.as_str())),
            ));
        }
    }
    platform::check_known(labels).map_err(|problem| FieldError::new("", problem))
}

/// The rules of a list of annotations, wherever one stands.
pub(super) fn validate_annotations(annotations: &[Annotation]) -> Result<(), FieldError> {
    let mut seen = BTreeSet::new();
    for (index, Annotation { name, value }) in annotations.iter().enumerate() {
        if !seen.insert(name) {
            return Err(FieldError::new(
                "",
                format!("duplicate annotations of name {}", quoted(name.as_str())),
            ));
        }
        let problem = match name.as_str() {
            "created" if !is_rfc3339(value) => "an RFC 3339 time such as 2026-01-31T12:00:00Z",
            "homepage" | "documentation" if !is_http_url(value) => "an http or https URL",
            _ => continue,
        };
        let problem = format!("{name} must be {problem}, not {}", quoted(value));
        return Err(FieldError::new(format!("[{index}].value"), problem));
    }
    Ok(())
}

/// `YYYY-MM-DDTHH:MM:SS[.FRACTION](Z|±HH:MM)`, of a day and a time that exist.
fn is_rfc3339(text: &str) -> bool {
    let Some((time, after)) = text.split_at_checked("YYYY-MM-DDTHH:MM:SS".len()) else {
        return false;
    };
    let zone = match after.strip_prefix('.') {
        Some(fraction) if fraction.starts_with(|c: char| c.is_ascii_digit()) => {
            fraction.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        _ => after,
    };
    has_shape(time, "0000-00-00T00:00:00") && time.parse::<jiff::civil::DateTime>().is_ok() && is_zone(zone)
}

fn is_zone(text: &str) -> bool {
    let offset = |sign: &str| {
        let (hours, minutes) = text.strip_prefix(sign)?.split_once(':')?;
        Some(has_shape(hours, "00") && hours < "24" && has_shape(minutes, "00") && minutes < "60")
    };
    has_shape(text, "Z") || offset("+").or_else(|| offset("-")).unwrap_or(false)
}

/// Tells whether a text has the shape of another, in which `0` stands for any digit and a letter for either case.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(found, wanted): (u8, u8)| match wanted {
        b'0' => found.is_ascii_digit(),
        wanted => found.eq_ignore_ascii_case(&wanted),
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

/// A scheme `http` or `https`, then a host, without blanks and control characters.
fn is_http_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        && !host.is_empty()
        && !host.starts_with(':')
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v9_created_is_an_rfc3339_time() {
        for text in [
            "2016-01-31T12:00:00Z",
            "2016-02-29T23:59:59.123456789+02:00",
            "1985-04-12t23:20:50.52z",
            "2016-12-19T16:39:57-08:00",
            "2016-12-31T23:59:60Z",
        ] {
            assert!(is_rfc3339(text), "{text}");
        }
        for text in [
            "",
            "2016",
            "2016-01-31",
            "2016-01-31 12:00:00Z",
            "2016-01-31T12:00:00",
            "2015-02-29T12:00:00Z",
            "2016-13-01T12:00:00Z",
            "2016-00-01T12:00:00Z",
            "2016-01-31T24:00:00Z",
            "2016-01-31T12:60:00Z",
            "2016-01-31T12:00:00.Z",
            "2016-01-31T12:00:00+2:00",
            "2016-01-31T12:00:00+24:00",
            "2016-01-31T12:00:00+02:60",
            "2016-01-31T12:00:00+0200",
            "+016-01-31T12:00:00Z",
            "2016-01-31T12:00:00Z ",
            "2016-01-31T12:00:0éZ",
            "Sun, 31 Jan 2016 12:00:00 GMT",
        ] {
            assert!(!is_rfc3339(text), "{text}");
        }
    }

    #[test]
    fn v9_homepage_is_an_http_url() {
        for text in [
            "http://example.com",
            "https://example.com/a?b#c",
            "HTTPS://u:p@example.com:8080/",
            "http://[::1]/",
        ] {
            assert!(is_http_url(text), "{text}");
        }
        for text in [
            "",
            "example.com",
            "ftp://example.com",
            "http://",
            "http:///a",
            "http://:80",
            "https:// a",
            "javascript:x",
            "http://a\n",
        ] {
            assert!(!is_http_url(text), "{text}");
        }
    }
}
