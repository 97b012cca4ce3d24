//! Who the user is to a registry: as rkt's own configuration says; else as the files of `podman login` and `docker login`
//! do, in podman's order (containers-auth.json(5)).
//!
//! ```text
//! $REGISTRY_AUTH_FILE, else $XDG_RUNTIME_DIR/containers/auth.json, else /run/containers/UID/auth.json
//! $XDG_CONFIG_HOME/containers/auth.json, else ~/.config/containers/auth.json
//! $DOCKER_CONFIG/config.json, else ~/.docker/config.json
//! ```
//!
//! They are looked at when a registry wants to know, and the first that says something counts. A file says who somebody
//! is, and may name a program to be run; so one that another user than root and this one could have written is left aside,
//! with a word. To whom all this may be told is the business of `registry`.

mod file;
mod helper;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use self::file::Said;
use self::helper::Helper;
use super::name::DOCKER_HUB;
use crate::config::{Login, Secret};
use crate::os::trusted::{self, TrustError};
use crate::os::{Hint, SysError};

/// How the other programs call Docker Hub, beside its registry's own name.
const HUB_NAMES: [&str; 2] = ["docker.io", "index.docker.io"];
/// How helpers call it.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Who the user is to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// One with a password.
    Password(Login),
    /// One with a token by which the registry's server of tokens gives others ("refresh token", RFC 6749 1.5).
    Token(Secret),
}

/// All that is known of who the user is.
#[derive(Clone, Default)]
pub struct Logins {
    /// By rkt's own configuration, by `host` or `host:port`.
    configured: BTreeMap<String, Login>,
    places: Vec<Place>,
    environment: BTreeMap<String, String>,
}

/// Where a file may be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    presence: Presence,
}

/// Whether a file must be there, and fit to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// The user has named it.
    Required,
    /// It is where it is usual.
    Usual,
}

/// Why it is not known who the user is.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// A file is not as it must be.
    #[error("credentials in {}: {problem}", .file.display())]
    Content {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A program is not there.
    #[error("{} names {program}, and no directory of PATH has it", .file.display())]
    NoHelper {
        /// Which.
        program: String,
        /// The file that names it.
        file: PathBuf,
    },
    /// A program gave no answer.
    #[error("`{} get` for {server}: {problem}", .program.display())]
    Helper {
        /// Which.
        program: PathBuf,
        /// Whose credentials it was asked for.
        server: String,
        /// What it did.
        problem: String,
    },
    /// A file or a program may be another user's.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
}

impl Hint for LoginError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Helper { program, server, .. } => {
                Some(format!("what it says shows `printf {server} | {} get`", program.display()))
            }
            Self::NoHelper { .. } => Some("install it, or take it out of the file".into()),
            Self::Trust(cause) => cause.hint(),
            Self::System(cause) => cause.hint(),
            Self::Content { .. } | Self::Interrupted => None,
        }
    }
}

impl Logins {
    /// Those of the configuration, and those that a user with this environment has.
    pub fn new(
        configured: BTreeMap<String, Login>,
        environment: BTreeMap<String, String>,
        user: u32,
    ) -> Self {
        Self { configured, places: places(&environment, user), environment }
    }

    /// Who the user is to a registry, for an image in it.
    ///
    /// # Errors
    /// When a file that could say it is not as it must be, or names a program that does not answer.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Identity>, LoginError> {
        let hosts = hosts(registry);
        if let Some(login) = hosts.iter().find_map(|host| self.configured.get(*host)) {
            return Ok(Some(Identity::Password(login.clone())));
        }
        let keys = keys(&hosts, repository);
        for place in &self.places {
            let Some(text) = read(place)? else { continue };
            let found = match file::read(&place.path, &text, &keys)? {
                Said::Nothing => None,
                Said::Identity(identity) => Some(identity),
                Said::Helper { name, key } => {
                    let key = key.filter(|_| registry != DOCKER_HUB);
                    let own = if registry == DOCKER_HUB { HUB_SERVER } else { registry };
                    let server = key.as_deref().unwrap_or(own);
                    let (file, environment) = (place.path.as_path(), &self.environment);
                    Helper { name: &name, file, server, environment, time: helper::TIME }.get()?
                }
            };
            if found.is_some() {
                log::debug!("credentials for {registry} are from {}", place.path.display());
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// A registry's names; Docker Hub has three.
fn hosts(registry: &str) -> Vec<&str> {
    let others = if registry == DOCKER_HUB { &HUB_NAMES[..] } else { &[] };
    std::iter::once(registry).chain(others.iter().copied()).collect()
}

/// What may have credentials for an image: the image, what it is below, the registry; the most specific first.
fn keys(hosts: &[&str], repository: &str) -> Vec<String> {
    let mut below = vec![String::new()];
    let ends = repository.match_indices('/').map(|(at, _)| at).chain([repository.len()]);
    below.extend(ends.map(|end| format!("/{}", &repository[..end])));
    let with_hosts = |names: &String| hosts.iter().map(|host| format!("{host}{names}")).collect::<Vec<_>>();
    below.iter().rev().flat_map(with_hosts).collect()
}

/// Where the files of a user are.
fn places(environment: &BTreeMap<String, String>, user: u32) -> Vec<Place> {
    let variable = |name| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG Base Directory Specification ignores what is relative.
    let dir = |name| variable(name).filter(|dir| dir.is_absolute());
    let home = dir("HOME");
    let below_home = |name: &str| home.as_ref().map(|home| home.join(name));
    let primary = match variable("REGISTRY_AUTH_FILE") {
        Some(path) => Place { path, presence: Presence::Required },
        None => {
            let runtime = dir("XDG_RUNTIME_DIR").map(|dir| dir.join("containers"));
            let runtime = runtime.unwrap_or_else(|| format!("/run/containers/{user}").into());
            Place { path: runtime.join("auth.json"), presence: Presence::Usual }
        }
    };
    let config = dir("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = variable("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    let usual = [
        config.map(|config| config.join("containers/auth.json")),
        docker.map(|docker| docker.join("config.json")),
    ];
    let usual = usual.into_iter().flatten().map(|path| Place { path, presence: Presence::Usual });
    std::iter::once(primary).chain(usual).collect()
}

/// Reads a file, if it is there and nobody else can have written it.
fn read(place: &Place) -> Result<Option<Vec<u8>>, LoginError> {
    match (read_trusted(&place.path), place.presence) {
        (Ok(text), _) => Ok(Some(text)),
        (Err(error), Presence::Required) => Err(error.into()),
        (Err(TrustError::System(cause)), Presence::Usual) => match cause.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Ok(None),
            ErrorKind::PermissionDenied => {
                log::debug!("{cause}");
                Ok(None)
            }
            _ => Err(cause.into()),
        },
        (Err(error @ TrustError::Others { .. }), Presence::Usual) => {
            log::warn!("no credentials are read from {}: {error}", place.path.display());
            Ok(None)
        }
    }
}

fn read_trusted(path: &Path) -> Result<Vec<u8>, TrustError> {
    Ok(crate::os::file::read(&trusted::resolve(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_looked_for_in_the_order_of_podman() {
        let all = [
            ("REGISTRY_AUTH_FILE", "rel/auth.json"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
            ("XDG_CONFIG_HOME", "/xdg"),
            ("DOCKER_CONFIG", "/docker"),
            ("HOME", "/home/me"),
        ];
        for (names, expected) in [
            (&[][..], &["/run/containers/7/auth.json"][..]),
            (
                &["HOME"],
                &[
                    "/run/containers/7/auth.json",
                    "/home/me/.config/containers/auth.json",
                    "/home/me/.docker/config.json",
                ],
            ),
            (
                &["HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"],
                &["/run/user/7/containers/auth.json", "/xdg/containers/auth.json", "/docker/config.json"],
            ),
            (
                &["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"],
                &["rel/auth.json", "/docker/config.json"],
            ),
        ] {
            let environment = all.iter().filter(|(name, _)| names.contains(name));
            let environment = environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let found = places(&environment.collect(), 7);
            let paths: Vec<_> = found.iter().map(|place| place.path.to_str().unwrap()).collect();
            assert_eq!(paths, expected, "{names:?}");
            let required = found.iter().filter(|place| place.presence == Presence::Required).count();
            assert_eq!(required, usize::from(names.contains(&"REGISTRY_AUTH_FILE")));
        }
        let empty =
            BTreeMap::from([("HOME".to_owned(), "rel".to_owned()), ("DOCKER_CONFIG".into(), "".into())]);
        assert_eq!(places(&empty, 0).len(), 1);
    }

    #[test]
    fn b11_the_image_is_asked_for_first_and_the_registry_last() {
        assert_eq!(
            keys(&hosts("reg.example:5000"), "a/b/c"),
            ["reg.example:5000/a/b/c", "reg.example:5000/a/b", "reg.example:5000/a", "reg.example:5000"]
        );
        assert_eq!(
            keys(&hosts(DOCKER_HUB), "x"),
            [
                "registry-1.docker.io/x",
                "docker.io/x",
                "index.docker.io/x",
                "registry-1.docker.io",
                "docker.io",
                "index.docker.io"
            ]
        );
    }

    #[test]
    fn rkts_own_configuration_wins() {
        let login = |user: &str| Login { user: user.into(), password: Secret::new("p") };
        let configured = BTreeMap::from([("docker.io".to_owned(), login("own"))]);
        let environment = BTreeMap::from([("REGISTRY_AUTH_FILE".to_owned(), "/no/such".to_owned())]);
        let logins = Logins::new(configured, environment, 0);
        assert_eq!(logins.find(DOCKER_HUB, "library/x").unwrap(), Some(Identity::Password(login("own"))));
        // The file that the user has named must be there when it is needed.
        let missing = logins.find("reg.example", "x").unwrap_err().to_string();
        assert_eq!(missing, "looking at /no/such: No such file or directory");
        assert_eq!(Logins::default().find("reg.example", "x").unwrap(), None);
    }
}
