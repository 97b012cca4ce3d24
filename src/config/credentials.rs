//! What servers ask for. A secret never shows itself in a log or an error.

use std::fmt;

/// A text that must not be seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Shows the text, to a server that it is meant for or to a user who asked.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// What a domain wants to see before it gives an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Basic`.
    Basic(Login),
    /// `Authorization: Bearer`.
    OAuth {
        /// The token.
        token: Secret,
    },
    /// Requests signed for S3 (AWS signature version 4).
    Aws {
        /// Who signs.
        access_key_id: String,
        /// The key.
        secret_access_key: Secret,
        /// The region; empty if it follows from the host.
        region: String,
    },
}
