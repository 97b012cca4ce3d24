//! AC names and AC identifiers: the only texts that may become parts of paths, units and labels.
//!
//! Grammar: appc spec, types.md, "AC Name Type" and "AC Identifier Type". Both hold lower-case letters and digits with
//! single separators between them, so neither can be empty, hold `..`, a control character or begin with a dash.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::field::quoted;

/// Why a text is not an AC name or an AC identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is not an AC name.
    #[error("{} is not an AC name: {rule}", quoted(.text))]
    Name {
        /// The text.
        text: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The text is not an AC identifier.
    #[error("{} is not an AC identifier: {rule}", quoted(.text))]
    Identifier {
        /// The text.
        text: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

impl NameError {
    /// What a valid text looks like.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Name { .. } => "an AC name looks like my-app-2".into(),
            Self::Identifier { .. } => "an AC identifier looks like example.com/my-app_2".into(),
        })
    }
}

const NAME_SEPARATORS: &str = "-";
const IDENTIFIER_SEPARATORS: &str = "-._~/";

/// The broken rule of `[a-z0-9]+([SEPARATORS][a-z0-9]+)*`, if any.
fn broken_rule(text: &str, separators: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.is_empty() {
        Some("it is empty")
    } else if !text.chars().all(|c| plain(c) || separators.contains(c)) {
        Some(if separators == NAME_SEPARATORS {
            "only lower-case letters, digits and \"-\" are allowed"
        } else {
            "only lower-case letters, digits and the characters \"-._~/\" are allowed"
        })
    } else if !text.starts_with(plain) || !text.ends_with(plain) {
        Some("it must begin and end with a lower-case letter or a digit")
    } else if text.as_bytes().windows(2).any(|two| two.iter().all(|&b| separators.contains(char::from(b)))) {
        Some("two separators may not follow each other")
    } else {
        None
    }
}

fn sanitized(text: &str, separators: &str, replacement: char) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || separators.contains(c);
    let replaced: String =
        text.to_lowercase().chars().map(|c| if allowed(c) { c } else { replacement }).collect();
    replaced.trim_matches(|c| separators.contains(c)).to_owned()
}

macro_rules! ac_text {
    ($(#[$doc:meta])* $type:ident, $variant:ident, $separators:ident, $replacement:literal, $sanitize:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            #[doc = $sanitize]
            ///
            /// # Errors
            /// Two separators in a row, or nothing, may remain; then there is no such name.
            pub fn sanitize(text: &str) -> Result<Self, NameError> {
                sanitized(text, $separators, $replacement).parse()
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match broken_rule(text, $separators) {
                    Some(rule) => Err(NameError::$variant { text: text.to_owned(), rule }),
                    None => Ok(Self(text.to_owned())),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

ac_text!(
    /// A name of an app, a volume, a mount point or a port: `[a-z0-9]+(-[a-z0-9]+)*`.
    AcName,
    Name,
    NAME_SEPARATORS,
    '-',
    "Makes a name of any text: lower-case, each other character becomes `-`, dashes at the ends go."
);

ac_text!(
    /// A name of an image, a label, an annotation or an isolator: `[a-z0-9]+([-._~/][a-z0-9]+)*`.
    AcIdentifier,
    Identifier,
    IDENTIFIER_SEPARATORS,
    '_',
    "Makes an identifier of any text: lower-case, each other character becomes `_`, separators at the ends go."
);

impl From<AcName> for AcIdentifier {
    fn from(name: AcName) -> Self {
        Self(name.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ac_names_follow_the_grammar() {
        for text in ["a", "0", "web", "web-2", "a-b-c", "0-0"] {
            assert_eq!(text.parse::<AcName>().unwrap(), text);
        }
        for (text, rule) in [
            ("", "it is empty"),
            ("Web", "only lower-case letters, digits and \"-\" are allowed"),
            ("a.b", "only lower-case letters, digits and \"-\" are allowed"),
            ("a/b", "only lower-case letters, digits and \"-\" are allowed"),
            ("a\n", "only lower-case letters, digits and \"-\" are allowed"),
            ("é", "only lower-case letters, digits and \"-\" are allowed"),
            ("-a", "it must begin and end with a lower-case letter or a digit"),
            ("a-", "it must begin and end with a lower-case letter or a digit"),
            ("a--b", "two separators may not follow each other"),
        ] {
            let expected = format!("{text:?} is not an AC name: {rule}");
            assert_eq!(text.parse::<AcName>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn ac_identifiers_follow_the_grammar() {
        for text in ["a", "example.com/app", "coreos.com/rkt/stage1-host", "a~b_c.d-e/f", "library/busybox"] {
            assert_eq!(text.parse::<AcIdentifier>().unwrap(), text);
        }
        for text in ["", "Example.com", "/a", "a/", "a//b", "a-/b", "a..b", "a b", ".", "..", "a:b", "a\0"] {
            assert!(text.parse::<AcIdentifier>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn sanitising_makes_a_name_or_tells_why_not() {
        for (text, name, identifier) in [
            ("Web", Some("web"), Some("web")),
            ("_a.b_", Some("a-b"), Some("a.b")),
            ("/var/tmp", Some("var-tmp"), Some("var/tmp")),
            ("a b", Some("a-b"), Some("a_b")),
            ("a  b", None, None),
            ("a--b", None, None),
            ("a._b", None, None),
            ("", None, None),
            ("///", None, None),
            ("Ünï", Some("n"), Some("n")),
            ("İ", Some("i"), Some("i")),
        ] {
            assert_eq!(AcName::sanitize(text).ok().as_ref().map(AcName::as_str), name, "{text:?}");
            assert_eq!(
                AcIdentifier::sanitize(text).ok().as_ref().map(AcIdentifier::as_str),
                identifier,
                "{text:?}"
            );
        }
        assert_eq!(
            AcName::sanitize("a  b").unwrap_err().to_string(),
            "\"a--b\" is not an AC name: two separators may not follow each other"
        );
    }

    proptest! {
        #[test]
        fn sanitising_never_panics_and_is_idempotent(text in "\\PC{0,20}") {
            if let Ok(name) = AcName::sanitize(&text) {
                prop_assert_eq!(AcName::sanitize(name.as_str()), Ok(name.clone()));
                prop_assert_eq!(name.as_str().parse(), Ok(AcIdentifier::from(name.clone())));
            }
            if let Ok(identifier) = AcIdentifier::sanitize(&text) {
                prop_assert_eq!(AcIdentifier::sanitize(identifier.as_str()), Ok(identifier));
            }
        }

        #[test]
        fn what_is_accepted_is_safe_as_a_path(text in "[a-zA-Z0-9./~_-]{0,12}") {
            if let Ok(identifier) = text.parse::<AcIdentifier>() {
                prop_assert!(identifier.as_str().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            }
        }
    }
}
