//! The name of a pod: a UUID of RFC 4122 form, stable and unique (appc spec, pods.md; spec appc-checks.md L5).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

use super::field::quoted;

/// The length of a UUID's text.
const TEXT_LENGTH: usize = 36;

/// A text that is not a pod's UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a pod UUID: it must have the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", quoted(.text))]
pub struct PodUuidError {
    text: String,
}

/// A pod's UUID. Shown as 36 lower-case characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUuid(Uuid);

impl PodUuid {
    /// Makes the UUID of a new pod, from 122 random bits.
    pub fn new_random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Returns the machine ID of the pod: the UUID's 32 hex digits without dashes (spec pods.md 3.4).
    pub fn machine_id(&self) -> String {
        self.0.simple().to_string()
    }

    /// Returns the first 8 characters, as tables show them.
    pub fn short8(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl FromStr for PodUuid {
    type Err = PodUuidError;

    fn from_str(text: &str) -> Result<Self, PodUuidError> {
        let error = || PodUuidError { text: text.to_owned() };
        // The crate also reads forms without dashes, in braces, and as a URN; all of them have other lengths.
        if text.len() != TEXT_LENGTH {
            return Err(error());
        }
        Uuid::try_parse(text).map(Self).map_err(|_| error())
    }
}

impl fmt::Display for PodUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl Serialize for PodUuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PodUuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_one_form() {
        let text = "5a9f2c3e-0b1d-4e6f-8a7b-9c0d1e2f3a4b";
        let uuid: PodUuid = text.to_uppercase().parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(uuid.machine_id(), "5a9f2c3e0b1d4e6f8a7b9c0d1e2f3a4b");
        assert_eq!(uuid.short8(), "5a9f2c3e");
        assert_eq!(serde_json::to_string(&uuid).unwrap(), format!("\"{text}\""));
        assert_eq!(PodUuid::new_random().to_string().len(), TEXT_LENGTH);
        for bad in ["", "5a9f2c3e", &uuid.machine_id(), &format!("{{{text}}}"), &text.replace('5', "/")] {
            assert!(bad.parse::<PodUuid>().is_err(), "{bad}");
        }
    }
}
