//! What every command gets: the global flags (spec cli.md 1.1), made into values.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::OnceLock,
};

use super::{CliError, args::Directory};
use crate::config::{self, Settings};
use crate::image::trust::Keystore;

/// The data directory when neither a flag nor the configuration names one.
const DATA_DIR: &str = "/var/lib/rkt";

/// The flags that every command accepts, before or after its name.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "GLOBAL OPTIONS")]
pub struct GlobalFlags {
    /// Print out more debug information to stderr
    #[arg(long, global = true)]
    pub debug: bool,
    /// Data directory
    #[arg(long, global = true, value_name = "DIR", default_value = DATA_DIR)]
    pub dir: Directory,
    /// System configuration directory
    #[arg(long, global = true, value_name = "DIR", default_value = "/usr/lib/rkt")]
    pub system_config: Directory,
    /// Local configuration directory
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/rkt")]
    pub local_config: Directory,
    /// User configuration directory
    #[arg(long, global = true, value_name = "DIR")]
    pub user_config: Option<Directory>,
    /// Comma-separated list of security features to disable: none, image, tls, ondisk, http, pubkey, capabilities,
    /// paths, seccomp, all-fetch, all-run, all
    #[arg(long, global = true, value_name = "LIST", default_value = "none")]
    pub insecure_options: InsecureOptions,
    /// Automatically trust GPG keys fetched from HTTPS
    #[arg(long, global = true)]
    pub trust_keys_from_https: bool,
    /// Accepted and ignored: profiles are taken from outside, with perf(1)
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub cpuprofile: Option<PathBuf>,
    /// Accepted and ignored, as above
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub memprofile: Option<PathBuf>,
}

/// The surroundings of a command.
#[derive(Clone, Debug)]
pub struct Context {
    data_dir: PathBuf,
    /// The user wants to see more.
    pub debug: bool,
    /// What the user does not want to be protected from.
    pub insecure: InsecureOptions,
    /// Keys found by discovery over HTTPS are accepted without a question.
    pub trust_keys_from_https: bool,
    /// The vendor's configuration.
    pub system_config: PathBuf,
    /// The administrator's configuration.
    pub local_config: PathBuf,
    /// The user's configuration, if asked for.
    pub user_config: Option<PathBuf>,
    settings: OnceLock<Settings>,
}

/// Where the data directory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// The flag, or its default, whatever the configuration says.
    Flag,
    /// The configuration, if it names one.
    Configured,
}

impl Context {
    /// Makes the context that the global flags ask for.
    ///
    /// # Errors
    /// When the configuration, which is read if the data directory may be in it, can't be had.
    pub fn new(flags: GlobalFlags, data_dir: DataDir) -> Result<Self, CliError> {
        let mut ctx = Self {
            data_dir: flags.dir.resolved(),
            debug: flags.debug,
            insecure: flags.insecure_options,
            trust_keys_from_https: flags.trust_keys_from_https,
            system_config: flags.system_config.resolved(),
            local_config: flags.local_config.resolved(),
            user_config: flags.user_config.map(Directory::resolved),
            settings: OnceLock::new(),
        };
        if data_dir == DataDir::Configured
            && let Some(path) = &ctx.settings()?.paths.data
        {
            ctx.data_dir = path.canonicalize().unwrap_or_else(|_| path.clone());
        }
        Ok(ctx)
    }

    /// Returns the configuration, reading it the first time.
    ///
    /// # Errors
    /// When it can't be read or understood.
    pub fn settings(&self) -> Result<&Settings, CliError> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let levels = [Some(&self.system_config), Some(&self.local_config), self.user_config.as_ref()];
        let settings = config::load(levels.into_iter().flatten().map(PathBuf::as_path))
            .map_err(|error| CliError::new("cannot get configuration").because(error))?;
        Ok(self.settings.get_or_init(|| settings))
    }

    /// Returns the keys that are trusted.
    pub fn keystore(&self) -> Keystore {
        Keystore::new(&self.system_config, &self.local_config)
    }

    /// Returns the words that say the same to another rkt, from whatever directory that is started.
    ///
    /// # Errors
    /// A path that is not UTF-8, which systemd can't hand on.
    pub fn words(&self) -> Result<Vec<String>, PathBuf> {
        // Every flag is named, so that a new one is thought of here.
        let Self {
            data_dir,
            debug,
            insecure,
            trust_keys_from_https,
            system_config,
            local_config,
            user_config,
            // Read from the directories of configuration, which are said.
            settings: _,
        } = self;
        let mut words = vec![format!("--insecure-options={insecure}")];
        words.extend(debug.then(|| "--debug".to_owned()));
        words.extend(trust_keys_from_https.then(|| "--trust-keys-from-https".to_owned()));
        let paths = [
            ("dir", Some(data_dir)),
            ("system-config", Some(system_config)),
            ("local-config", Some(local_config)),
            ("user-config", user_config.as_ref()),
        ];
        for (name, path) in paths {
            if let Some(path) = path {
                words.push(format!("--{name}={}", path.to_str().ok_or_else(|| path.clone())?));
            }
        }
        Ok(words)
    }

    /// Returns the absolute path of the data directory, which may not exist yet.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

/// One protection that `--insecure-options` can switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Insecure {
    /// Signatures of images, and the name and labels of a discovered one.
    Image = 1,
    /// Certificates of servers.
    Tls = 1 << 1,
    /// Nothing any more.
    OnDisk = 1 << 2,
    /// HTTPS for discovery.
    Http = 1 << 3,
    /// HTTPS for public keys.
    Pubkey = 1 << 4,
    /// The capability bounding set of apps.
    Capabilities = 1 << 5,
    /// Hidden and read-only kernel paths, and the device policy.
    Paths = 1 << 6,
    /// System call filters.
    Seccomp = 1 << 7,
}

/// The protections that are switched off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InsecureOptions(u8);

/// Why a list for `--insecure-options` is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsecureError {
    /// A word twice.
    #[error("duplicated option {0:?}")]
    Duplicated(String),
    /// A word without meaning.
    #[error("unknown option {0:?}")]
    Unknown(String),
}

impl InsecureOptions {
    const ALL_FETCH: u8 =
        Insecure::Image as u8 | Insecure::Tls as u8 | Insecure::Http as u8 | Insecure::Pubkey as u8;
    const ALL_RUN: u8 = Insecure::Capabilities as u8 | Insecure::Paths as u8 | Insecure::Seccomp as u8;
    const WORDS: [(&str, u8); 12] = [
        ("none", 0),
        ("image", Insecure::Image as u8),
        ("tls", Insecure::Tls as u8),
        ("ondisk", Insecure::OnDisk as u8),
        ("http", Insecure::Http as u8),
        ("pubkey", Insecure::Pubkey as u8),
        ("capabilities", Insecure::Capabilities as u8),
        ("paths", Insecure::Paths as u8),
        ("seccomp", Insecure::Seccomp as u8),
        ("all-fetch", Self::ALL_FETCH),
        ("all-run", Self::ALL_RUN),
        ("all", u8::MAX),
    ];

    /// Tells whether the user has switched this protection off.
    pub const fn allows(self, what: Insecure) -> bool {
        self.0 & what as u8 != 0
    }
}

impl FromStr for InsecureOptions {
    type Err = InsecureError;

    fn from_str(text: &str) -> Result<Self, InsecureError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let text = text.to_lowercase();
        let words: Vec<_> = text.split(',').collect();
        let mut off = 0;
        for (index, word) in words.iter().enumerate() {
            let known = Self::WORDS.iter().find(|(name, _)| name == word);
            off |= known.ok_or_else(|| InsecureError::Unknown((*word).to_owned()))?.1;
            if words[..index].contains(word) {
                return Err(InsecureError::Duplicated((*word).to_owned()));
            }
        }
        Ok(Self(off))
    }
}

/// The words that stand for the switches, `none` if there are none.
impl fmt::Display for InsecureOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = Self::WORDS.iter().filter(|(_, bits)| bits.is_power_of_two() && self.0 & bits != 0);
        let words: Vec<_> = single.map(|(word, _)| *word).collect();
        f.write_str(if words.is_empty() { "none".to_owned() } else { words.join(",") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_is_the_place_behind_its_links() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).expect("a directory");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        let resolved =
            |path: &Path| path.to_str().and_then(|path| path.parse().ok()).map(Directory::resolved);
        assert_eq!(resolved(&link), real.canonicalize().ok());
        let absent = dir.path().join("absent");
        assert_eq!(resolved(&absent), Some(absent));
    }

    #[test]
    fn insecure_options_are_a_list_of_known_words() {
        for (text, shown) in [
            ("", "none"),
            ("none", "none"),
            ("Image", "image"),
            ("tls,image", "image,tls"),
            ("all-fetch", "image,tls,http,pubkey"),
            ("all-run", "capabilities,paths,seccomp"),
            ("all", "image,tls,ondisk,http,pubkey,capabilities,paths,seccomp"),
        ] {
            assert_eq!(
                text.parse::<InsecureOptions>().map(|o| o.to_string()),
                Ok(shown.to_owned()),
                "{text}"
            );
        }
        for (text, error) in [
            ("image,image", r#"duplicated option "image""#),
            ("image,foo", r#"unknown option "foo""#),
            (" image", r#"unknown option " image""#),
            ("image,", r#"unknown option """#),
        ] {
            assert_eq!(
                text.parse::<InsecureOptions>().map_err(|e| e.to_string()),
                Err(error.to_owned()),
                "{text}"
            );
        }
        assert!("all".parse().is_ok_and(|o: InsecureOptions| o.allows(Insecure::Seccomp)));
        assert!(!InsecureOptions::default().allows(Insecure::Image));
    }
}
