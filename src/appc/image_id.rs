//! The name of an image's content: the SHA-512 of its uncompressed tar (spec images.md 2.1.2).
//!
//! The store keeps the first 64 of the 128 hex digits, the key, and so does [`ImageId`]. [`ImageHash`] keeps the text
//! of a manifest as long as it was; [`ImageIdQuery`] is what a user types, perhaps only its beginning. All three hold
//! nothing but lower-case hex digits, so that they may be parts of paths.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::field::quoted;

const PREFIX: &str = "sha512-";
const KEY_DIGITS: usize = 64;
const HASH_DIGITS: usize = 128;
const MIN_QUERY_DIGITS: usize = 2;

/// Why a text is not an image ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageIdError {
    /// The text is not `sha512-` and 64 to 128 lower-case hex digits.
    #[error("{} is not an image ID: {rule}", quoted(.text))]
    Malformed {
        /// The text.
        text: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// Less than two digits were typed.
    #[error("image ID too short")]
    TooShort,
}

impl ImageIdError {
    fn malformed(text: &str, rule: &'static str) -> Self {
        Self::Malformed { text: text.to_owned(), rule }
    }

    /// What a valid text looks like.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooShort => Some("give at least two hexadecimal digits after `sha512-`".into()),
            Self::Malformed { .. } => None,
        }
    }
}

fn is_lower_hex(digits: &str) -> bool {
    digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the digits of a whole ID.
fn hash_digits(text: &str) -> Result<&str, ImageIdError> {
    let malformed = |rule| ImageIdError::malformed(text, rule);
    let digits = text.strip_prefix(PREFIX).ok_or_else(|| malformed("it must begin with \"sha512-\""))?;
    if !is_lower_hex(digits) {
        return Err(malformed("only the digits 0-9 and a-f may follow \"sha512-\""));
    }
    if !(KEY_DIGITS..=HASH_DIGITS).contains(&digits.len()) {
        return Err(malformed("64 to 128 digits must follow \"sha512-\""));
    }
    Ok(digits)
}

/// An image's key: the first 256 bits of the SHA-512 of its uncompressed tar. Shown as `sha512-` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId([u8; KEY_DIGITS]);

impl ImageId {
    /// Makes the ID of an image from the digest of its uncompressed tar.
    pub fn from_sha512(digest: &[u8; 64]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; KEY_DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(digest) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(digits)
    }

    /// Returns the 64 hex digits.
    pub fn key(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are ASCII")
    }

    /// Returns the short form for tables: `sha512-` and 12 hex digits.
    pub fn short12(&self) -> String {
        format!("{PREFIX}{}", &self.key()[..12])
    }
}

impl FromStr for ImageId {
    type Err = ImageIdError;

    fn from_str(text: &str) -> Result<Self, ImageIdError> {
        let mut key = [0; KEY_DIGITS];
        key.copy_from_slice(&hash_digits(text)?.as_bytes()[..KEY_DIGITS]);
        Ok(Self(key))
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.key())
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageId({self})")
    }
}

impl Serialize for ImageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// An image ID as it stands in a manifest: `sha512-` and 64 to 128 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageHash(String);

impl ImageHash {
    /// Returns the whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key under which the store has the image.
    pub fn key(&self) -> ImageId {
        self.0.parse().expect("it was checked when it was made")
    }
}

impl FromStr for ImageHash {
    type Err = ImageIdError;

    fn from_str(text: &str) -> Result<Self, ImageIdError> {
        hash_digits(text).map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An image ID as a user types it: whole or its beginning, at least two digits (spec cli.md 1.1.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIdQuery(String);

impl ImageIdQuery {
    /// Tells whether a text is meant as an image ID and not as a name: `sha512-`, then something without a dash.
    pub fn is_meant(text: &str) -> bool {
        text.strip_prefix(PREFIX).is_some_and(|value| !value.is_empty() && !value.contains('-'))
    }

    /// Tells whether the ID begins with what was typed.
    pub fn matches(&self, id: &ImageId) -> bool {
        id.key().starts_with(&self.0)
    }

    /// Returns the ID if it was typed whole.
    pub fn exact(&self) -> Option<ImageId> {
        self.0.as_bytes().try_into().ok().map(ImageId)
    }
}

impl FromStr for ImageIdQuery {
    type Err = ImageIdError;

    fn from_str(text: &str) -> Result<Self, ImageIdError> {
        let malformed = |rule| ImageIdError::malformed(text, rule);
        let digits = text.strip_prefix(PREFIX).ok_or_else(|| malformed("it must begin with \"sha512-\""))?;
        let digits = digits.to_ascii_lowercase();
        if !is_lower_hex(&digits) {
            return Err(malformed("only hexadecimal digits may follow \"sha512-\""));
        }
        match digits.len() {
            0..MIN_QUERY_DIGITS => Err(ImageIdError::TooShort),
            length => Ok(Self(digits[..length.min(KEY_DIGITS)].to_owned())),
        }
    }
}

impl fmt::Display for ImageIdQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl From<ImageId> for ImageIdQuery {
    fn from(id: ImageId) -> Self {
        Self(id.key().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> [u8; 64] {
        std::array::from_fn(|i| u8::try_from(i * 4 + 1).unwrap())
    }

    const KEY: &str = "0105090d1115191d2125292d3135393d4145494d5155595d6165696d7175797d";

    #[test]
    fn an_id_is_the_first_half_of_the_digest() {
        let id = ImageId::from_sha512(&digest());
        assert_eq!(id.key(), KEY);
        assert_eq!(id.to_string(), format!("sha512-{KEY}"));
        assert_eq!(id.short12(), "sha512-0105090d1115");
        assert_eq!(format!("sha512-{KEY}{KEY}").parse(), Ok(id));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"sha512-{KEY}\""));
        assert_eq!(serde_json::from_str::<ImageId>(&format!("\"sha512-{KEY}\"")).unwrap(), id);
    }

    #[test]
    fn v11_other_forms_are_no_ids() {
        let upper = format!("sha512-{}", KEY.to_uppercase());
        let long = format!("sha512-{KEY}{KEY}0");
        for text in [
            "",
            "sha512-",
            "sha512-0105",
            "sha256-00",
            KEY,
            &upper,
            &long,
            &format!("sha512-{}/../", &KEY[4..]),
        ] {
            assert!(text.parse::<ImageId>().is_err(), "{text}");
            assert!(text.parse::<ImageHash>().is_err(), "{text}");
        }
        assert_eq!(
            "sha1-00".parse::<ImageId>().unwrap_err().to_string(),
            "\"sha1-00\" is not an image ID: it must begin with \"sha512-\""
        );
    }

    #[test]
    fn a_hash_keeps_its_text() {
        let text = format!("sha512-{KEY}{KEY}");
        let hash: ImageHash = text.parse().unwrap();
        assert_eq!(hash.as_str(), text);
        assert_eq!(hash.key().key(), KEY);
    }

    #[test]
    fn a_query_is_a_prefix() {
        let id = ImageId::from_sha512(&digest());
        for (text, expected) in [
            ("sha512-01", Ok(true)),
            ("sha512-0105090D", Ok(true)),
            ("sha512-02", Ok(false)),
            ("sha512-0", Err("image ID too short")),
            ("sha512-", Err("image ID too short")),
            (
                "sha512-zz",
                Err("\"sha512-zz\" is not an image ID: only hexadecimal digits may follow \"sha512-\""),
            ),
        ] {
            let found =
                text.parse::<ImageIdQuery>().map(|query| query.matches(&id)).map_err(|e| e.to_string());
            assert_eq!(found, expected.map_err(String::from), "{text}");
        }
        let whole: ImageIdQuery = format!("sha512-{KEY}{KEY}").parse().unwrap();
        assert_eq!((whole.exact(), whole.to_string()), (Some(id), id.to_string()));
        assert_eq!("sha512-01".parse::<ImageIdQuery>().unwrap().exact(), None);
    }

    #[test]
    fn ids_are_told_from_names() {
        for (text, meant) in [
            ("sha512-ab", true),
            ("sha512-", false),
            ("sha512-a-b", false),
            ("sha256-ab", false),
            ("app", false),
        ] {
            assert_eq!(ImageIdQuery::is_meant(text), meant, "{text}");
        }
    }
}
