//! The dialogue about a key: it is shown, the user compares its fingerprint and says yes or no (spec images.md 2.5).

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::time::SystemTime;

use super::super::output;
use crate::image::fetch::OfferedKey;
use crate::image::oci::name::RegistryPrefix;
use crate::image::trust::{ImageKey, Keystore, KeystoreError, PublicKey, Scope, SelfSignatures, TrustedFor};
use crate::os::Hint as _;

/// Which keys the user is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reviewing {
    /// All.
    Ask,
    /// Those that did not come by HTTPS.
    SkipForHttps,
    /// None.
    Skip,
}

/// Where keys go that the user trusts.
pub struct Review<'a> {
    /// The key store.
    pub keystore: &'a Keystore,
    /// What they are trusted for, and so of what kind they are.
    pub trusted_for: &'a TrustedFor,
    /// Which the user is asked about.
    pub reviewing: Reviewing,
    /// Which of an OpenPGP key's own signatures count.
    pub self_signatures: SelfSignatures,
}

/// The keys of a file.
enum Keys<'a> {
    /// For App Container Images.
    OpenPgp(&'a Scope, Vec<PublicKey>),
    /// For images of a registry.
    Image(&'a RegistryPrefix, ImageKey),
}

/// Why keys were not stored.
#[derive(Debug)]
pub struct ReviewError {
    /// What went wrong.
    pub text: String,
    /// The way out.
    pub hint: Option<String>,
}

impl ReviewError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }
}

impl Review<'_> {
    /// Shows the keys of each file, asks, and stores what is trusted.
    ///
    /// # Errors
    /// When a file holds no key, a key is of no use, nobody can be asked, or the store can't be written.
    pub fn offer(&self, files: &[OfferedKey]) -> Result<(), ReviewError> {
        for file in files {
            self.offer_file(file)?;
        }
        Ok(())
    }

    fn offer_file(&self, file: &OfferedKey) -> Result<(), ReviewError> {
        let location = &file.location;
        output::message_of("pubkey", format_args!("prefix: \"{}\"\nkey: \"{location}\"", self.prefix()));
        let keys = self.read(file)?;
        match &keys {
            Keys::OpenPgp(_, keys) => {
                keys.iter().for_each(show);
                keys.iter().try_for_each(|key| self.check(key))?;
            }
            Keys::Image(_, key) => show_image_key(key),
        }
        let by_https = location.starts_with("https://");
        let how = match self.reviewing {
            Reviewing::Skip => "without fingerprint review",
            Reviewing::SkipForHttps if by_https => "without fingerprint review",
            Reviewing::Ask | Reviewing::SkipForHttps => {
                if !self.ask()? {
                    output::message_of("pubkey", format_args!("not trusting \"{location}\""));
                    return Ok(());
                }
                "after fingerprint review"
            }
        };
        match self.trusted_for {
            TrustedFor::Names(Scope::Root) => {
                output::line(format_args!("Trusting \"{location}\" for all images {how}."));
            }
            prefix => output::line(format_args!("Trusting \"{location}\" for {prefix} {how}.")),
        }
        self.add(&keys)
    }

    fn read(&self, file: &OfferedKey) -> Result<Keys<'_>, ReviewError> {
        let location = &file.location;
        match self.trusted_for {
            TrustedFor::Names(scope) => PublicKey::parse_armored(&file.text)
                .map(|keys| Keys::OpenPgp(scope, keys))
                .map_err(|error| ReviewError { text: format!("{location}: {error}"), hint: error.hint() }),
            TrustedFor::Images(prefix) => ImageKey::parse_pem(&file.text)
                .map(|key| Keys::Image(prefix, key))
                .map_err(|error| ReviewError { text: format!("{location}: {error}"), hint: error.hint() }),
        }
    }

    fn prefix(&self) -> String {
        match self.trusted_for {
            TrustedFor::Names(Scope::Root) => String::new(),
            TrustedFor::Names(Scope::Prefix(prefix)) => prefix.to_string(),
            TrustedFor::Images(prefix) => prefix.to_string(),
        }
    }

    /// Refuses a key that would be of no use.
    fn check(&self, key: &PublicKey) -> Result<(), ReviewError> {
        if self.self_signatures == SelfSignatures::Strong && key.needs_sha1(SystemTime::now()) {
            return Err(ReviewError {
                text: format!(
                    "key {} is bound to its owner by SHA-1 signatures only, which are too weak",
                    key.fingerprint().to_uppercase()
                ),
                hint: Some(
                    "get a newer copy of the key, or, if you know that this one is the publisher's, allow it with \
                     --allow-sha1-key"
                        .into(),
                ),
            });
        }
        Ok(())
    }

    fn ask(&self) -> Result<bool, ReviewError> {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            output::message_of("pubkey", "To trust the key, do one of the following:");
            output::message_of("pubkey", " - call rkt with --trust-keys-from-https");
            output::message_of("pubkey", format_args!(" - run: rkt trust --prefix \"{}\"", self.prefix()));
            return Err(ReviewError::new(
                "error reviewing key: unable to ask user to review fingerprint due to lack of tty",
            ));
        }
        output::line("Are you sure you want to trust this key (yes/no)?");
        loop {
            let mut answer = String::new();
            let read = std::io::stdin().lock().read_line(&mut answer);
            match (read, answer.trim()) {
                (Ok(0), _) => {
                    return Err(ReviewError::new("error reviewing key: the input ended without an answer"));
                }
                (Err(cause), _) => {
                    return Err(ReviewError::new(format!(
                        "error reviewing key: {}",
                        crate::os::cause_text(&cause)
                    )));
                }
                (Ok(_), "yes") => return Ok(true),
                (Ok(_), "no") => return Ok(false),
                (Ok(_), _) => output::line("Please enter 'yes' or 'no'"),
            }
        }
    }

    fn add(&self, keys: &Keys<'_>) -> Result<(), ReviewError> {
        match keys {
            Keys::OpenPgp(scope, keys) => keys
                .iter()
                .try_for_each(|key| self.added(self.keystore.add(scope, key, self.self_signatures))),
            Keys::Image(prefix, key) => self.added(self.keystore.add_image_key(prefix, key)),
        }
    }

    fn added(&self, path: Result<PathBuf, KeystoreError>) -> Result<(), ReviewError> {
        let path = path.map_err(|error| ReviewError { text: error.to_string(), hint: error.hint() })?;
        let path = path.display().to_string();
        match self.trusted_for {
            TrustedFor::Names(Scope::Root) => output::line(format_args!("Added root key at {path:?}")),
            prefix => output::line(format_args!("Added key for {prefix} at {path:?}")),
        }
        Ok(())
    }
}

/// Shows a key whose fingerprint is that of its DER form, for which every tool has a command.
fn show_image_key(key: &ImageKey) {
    output::line(format_args!("{} key, SHA-256 fingerprint is: {}", key.kind(), key.fingerprint()));
}

fn show(key: &PublicKey) {
    output::line(format_args!("gpg key fingerprint is: {}", key.spaced_fingerprint()));
    for subkey in key.spaced_subkeys() {
        output::line(format_args!("    Subkey fingerprint: {subkey}"));
    }
    for identity in key.identities() {
        // Anybody may have written anything into it.
        output::line(format_args!("\t{}", output::visible(&identity.replace(['\n', '\r', '\t'], " "))));
    }
}
