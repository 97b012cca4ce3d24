//! What docker images are called: `[REGISTRY[:PORT]/]NAME[:TAG|@DIGEST]`, made whole in one way only.
//!
//! The first part is a registry if it has a dot or a colon or is `localhost`; else the registry is Docker Hub, where a
//! name without a slash is below `library/`. The tag is `latest` unless said; a digest takes its place.
//!
//! A [`RegistryPrefix`] is made whole by the same rules, but that its first part may also be a registry alone.

use std::fmt;
use std::str::FromStr;

use crate::appc::quoted;
use crate::image::digest::Digest;
use crate::os::Hint;

/// Docker Hub's registry.
pub const DOCKER_HUB: &str = "registry-1.docker.io";
/// Other names for it.
const HUB_ALIASES: [&str; 3] = ["docker.io", "index.docker.io", "registry.hub.docker.com"];
/// What names without a slash are below there.
const LIBRARY: &str = "library";
/// The most characters that registry and name may have together (distribution-spec 1.1, "Pulling manifests").
const MAX_NAME: usize = 255;

/// The name of an image in a registry, whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DockerReference {
    /// As it was typed, without the scheme.
    original: String,
    /// Host and port, in lower case; the only key of credentials.
    pub registry: String,
    /// The name in the registry.
    pub repository: String,
    /// Which image of that name.
    pub version: Version,
}

/// Which image of a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Version {
    /// The one that the tag leads to now.
    Tag(String),
    /// Exactly this one.
    Digest(Digest),
}

/// Why a text names no docker image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid docker URL {}; expected syntax is docker://[REGISTRY_HOST[:REGISTRY_PORT]/]IMAGE_NAME[:TAG|@DIGEST]",
    quoted(.0)
)]
pub struct DockerReferenceError(String);

impl Hint for DockerReferenceError {}

impl DockerReference {
    /// As it was typed, without the scheme.
    pub fn original(&self) -> &str {
        &self.original
    }

    /// Tells whether the user left the choice of a registry to us, which is worth a word.
    pub fn is_short(&self) -> bool {
        split_registry(&self.original).0.is_none()
    }

    /// The tag, if it is one that says which image.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// `REGISTRY/NAME`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl FromStr for DockerReference {
    type Err = DockerReferenceError;

    fn from_str(text: &str) -> Result<Self, DockerReferenceError> {
        parse(text).ok_or_else(|| DockerReferenceError(format!("docker://{text}")))
    }
}

impl fmt::Display for DockerReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// A registry and the beginning of the names in it, in whole parts: `docker://[REGISTRY[:PORT]][/NAME]`.
///
/// A short name is one on Docker Hub, below `library/` unless it has a slash; one at its end, as in `docker://team/`, counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryPrefix {
    registry: String,
    /// Without a slash at either end; empty for the whole registry.
    repository: String,
}

/// Why a text is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryPrefixError {
    /// It is something else.
    #[error(
        "invalid prefix {}; expected syntax is docker://REGISTRY_HOST[:REGISTRY_PORT][/IMAGE_NAME] or docker://IMAGE_NAME",
        quoted(.0)
    )]
    Invalid(String),
    /// It is the name of one image.
    #[error("invalid prefix {}: it has a tag or a digest", quoted(.0))]
    Version(String),
}

impl Hint for RegistryPrefixError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid(_) => None,
            Self::Version(_) => {
                Some("a key is trusted for all images of a name: leave the tag or digest away".into())
            }
        }
    }
}

impl RegistryPrefix {
    /// What a prefix begins with, so that it is not taken for that of an App Container Image.
    pub const SCHEME: &str = "docker://";

    /// The prefixes that an image is below, the shortest first: its registry, and each beginning of its name.
    pub fn of(image: &DockerReference) -> Vec<Self> {
        let name = &image.repository;
        let ends = std::iter::once(0).chain(name.match_indices('/').map(|(at, _)| at)).chain([name.len()]);
        ends.map(|end| Self { registry: image.registry.clone(), repository: name[..end].to_owned() })
            .collect()
    }

    /// `REGISTRY[:PORT][/NAME]`, whose parts are plain names of directories.
    pub fn path(&self) -> String {
        match self.repository.as_str() {
            "" => self.registry.clone(),
            name => format!("{}/{name}", self.registry),
        }
    }
}

impl FromStr for RegistryPrefix {
    type Err = RegistryPrefixError;

    fn from_str(text: &str) -> Result<Self, RegistryPrefixError> {
        let invalid = || RegistryPrefixError::Invalid(text.to_owned());
        let whole = text.strip_prefix(Self::SCHEME).ok_or_else(invalid)?;
        let rest = whole.strip_suffix('/').unwrap_or(whole);
        let (registry, name) = match rest.split_once('/') {
            None if is_registry(rest) => (Some(rest), ""),
            _ => split_registry(rest),
        };
        if name.contains([':', '@']) || rest.contains('@') {
            return Err(RegistryPrefixError::Version(text.to_owned()));
        }
        let is_name = name.is_empty() && registry.is_some() || name.split('/').all(is_component);
        if !is_name {
            return Err(invalid());
        }
        let registry = whole_registry(registry).ok_or_else(invalid)?;
        let is_short = registry == DOCKER_HUB && !name.is_empty() && !name.contains('/') && rest == whole;
        let repository = if is_short { format!("{LIBRARY}/{name}") } else { name.to_owned() };
        if registry.len() + "/".len() + repository.len() > MAX_NAME {
            return Err(invalid());
        }
        Ok(Self { registry, repository })
    }
}

impl fmt::Display for RegistryPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Such that it is read back as the same.
        let is_team =
            self.registry == DOCKER_HUB && !self.repository.is_empty() && !self.repository.contains('/');
        write!(f, "{}{}{}", Self::SCHEME, self.path(), if is_team { "/" } else { "" })
    }
}

fn parse(text: &str) -> Option<DockerReference> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().ok()?)),
        None => (text, None),
    };
    let (registry, path) = split_registry(rest);
    let (path, tag) = match path.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) || !path.split('/').all(is_component) {
        return None;
    }
    let registry = whole_registry(registry)?;
    let on_hub = registry == DOCKER_HUB && !path.contains('/');
    let repository = if on_hub { format!("{LIBRARY}/{path}") } else { path.to_owned() };
    if registry.len() + "/".len() + repository.len() > MAX_NAME {
        return None;
    }
    let version = match digest {
        Some(digest) => Version::Digest(digest),
        None => Version::Tag(tag.unwrap_or("latest").to_owned()),
    };
    Some(DockerReference { original: text.to_owned(), registry, repository, version })
}

fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => (Some(first), rest),
        _ => (None, text),
    }
}

/// Tells whether the first part of a name is a registry.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// The registry as it is known here; `None` if it is none.
fn whole_registry(registry: Option<&str>) -> Option<String> {
    match registry.map(str::to_ascii_lowercase) {
        None => Some(DOCKER_HUB.to_owned()),
        Some(host) if HUB_ALIASES.contains(&host.as_str()) => Some(DOCKER_HUB.to_owned()),
        Some(host) => is_host(&host).then_some(host),
    }
}

/// `HOST[:PORT]`, a host being a name, an IPv4 or a bracketed IPv6 address.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_label),
    };
    is_name && port.is_none_or(is_port)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (distribution-spec 1.1, "Pulling manifests").
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(|byte| is_word(*byte));
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.split(|byte| is_word(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| is_word(*byte))
        && bytes.len() <= 128
        && bytes.iter().all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn b11_names_are_made_whole_in_one_way() {
        for (text, expected) in [
            ("busybox", "registry-1.docker.io/library/busybox:latest"),
            ("busybox:1.2", "registry-1.docker.io/library/busybox:1.2"),
            ("user/app", "registry-1.docker.io/user/app:latest"),
            ("docker.io/busybox", "registry-1.docker.io/library/busybox:latest"),
            ("index.docker.io/user/app:x", "registry-1.docker.io/user/app:x"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("Reg.Example.com/a/b/c", "reg.example.com/a/b/c:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("127.0.0.1:5000/app__x/y---z", "127.0.0.1:5000/app__x/y---z:latest"),
            (&format!("busybox@{DIGEST}"), &format!("registry-1.docker.io/library/busybox@{DIGEST}")),
            (&format!("busybox:1@{DIGEST}"), &format!("registry-1.docker.io/library/busybox@{DIGEST}")),
        ] {
            let parsed: DockerReference = text.parse().unwrap();
            assert_eq!(parsed.to_string(), expected, "{text}");
            assert_eq!(parsed.original(), text);
            assert_eq!(parsed.is_short(), !text.contains(['/']) || text.starts_with("user"), "{text}");
        }
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in [
            "",
            "Upper",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:b:c",
            "a@sha256:00",
            "a@",
            "a..b",
            "a___b",
            "-a",
            "a/../b",
            "reg.example.com",
            "reg.example.com:x/a/b",
            "reg..com/a",
            "-reg.com/a",
            "reg.com:0/a",
            "reg.com:99999/a",
            "user@reg.com/a",
            "reg.com/a b",
            "a:-x",
            "[::1/a",
        ] {
            // A host alone is a name on the Hub like any other; it has dots, but nothing behind it.
            if text == "reg.example.com" {
                assert_eq!(text.parse::<DockerReference>().unwrap().repository, "library/reg.example.com");
                continue;
            }
            let refused = text.parse::<DockerReference>().unwrap_err().to_string();
            assert_eq!(
                refused,
                format!(
                    "invalid docker URL \"docker://{text}\"; expected syntax is docker://[REGISTRY_HOST[:REGISTRY_PORT]/]IMAGE_NAME[:TAG|@DIGEST]"
                )
            );
        }
    }

    #[test]
    fn prefixes_are_made_whole_as_names_are() {
        for (text, expected) in [
            ("docker://reg.example.com", "docker://reg.example.com"),
            ("docker://Reg.Example.com/", "docker://reg.example.com"),
            ("docker://reg.example.com/team", "docker://reg.example.com/team"),
            ("docker://reg.example.com/team/", "docker://reg.example.com/team"),
            ("docker://reg.example.com:5000/team/app", "docker://reg.example.com:5000/team/app"),
            ("docker://localhost:5000", "docker://localhost:5000"),
            ("docker://localhost", "docker://localhost"),
            ("docker://[::1]:5000/a", "docker://[::1]:5000/a"),
            ("docker://docker.io", "docker://registry-1.docker.io"),
            ("docker://docker.io/busybox", "docker://registry-1.docker.io/library/busybox"),
            ("docker://docker.io/team/", "docker://registry-1.docker.io/team/"),
            ("docker://busybox", "docker://registry-1.docker.io/library/busybox"),
            ("docker://team/app", "docker://registry-1.docker.io/team/app"),
            ("docker://team/", "docker://registry-1.docker.io/team/"),
        ] {
            let prefix: RegistryPrefix = text.parse().unwrap();
            assert_eq!(prefix.to_string(), expected, "{text}");
        }
        let digest = format!("docker://reg.example.com/app@{DIGEST}");
        for text in ["docker://reg.example.com/app:1", "docker://busybox@x", &digest] {
            let refused = text.parse::<RegistryPrefix>().unwrap_err();
            assert_eq!(refused, RegistryPrefixError::Version(text.into()));
        }
        for text in [
            "docker://",
            "docker:///",
            "docker:///a",
            "docker://a//",
            "docker://reg.example.com//a",
            "docker://reg.example.com/../a",
            "docker://reg.example.com/Upper",
            "docker://busybox:latest",
            "docker://reg.com:0",
            "reg.example.com/team",
            "docker:reg.example.com/team",
        ] {
            let refused = text.parse::<RegistryPrefix>().unwrap_err();
            assert_eq!(refused, RegistryPrefixError::Invalid(text.into()));
        }
    }

    #[test]
    fn c1_an_image_is_below_whole_parts_of_its_name() {
        let image: DockerReference = "reg.example.com:5000/team/app/x:1".parse().unwrap();
        let prefixes: Vec<_> = RegistryPrefix::of(&image).iter().map(RegistryPrefix::path).collect();
        let host = "reg.example.com:5000";
        assert_eq!(
            prefixes,
            [host.into(), format!("{host}/team"), format!("{host}/team/app"), format!("{host}/team/app/x")]
        );
    }

    /// Found by generated references: the name that was made whole was too long to be read again.
    #[test]
    fn a_name_is_as_long_as_it_is_when_it_is_whole() {
        let longest = "a".repeat(255 - "registry-1.docker.io/library/".len());
        let parsed: DockerReference = format!("{longest}:{}", "t".repeat(128)).parse().unwrap();
        assert_eq!(parsed.to_string().parse::<DockerReference>().unwrap().name(), parsed.name());
        assert!(format!("{longest}a").parse::<DockerReference>().is_err());
        assert!(format!("docker.io/library/{longest}").parse::<DockerReference>().is_ok());
        assert!(format!("reg.example.com/{}", "a".repeat(240)).parse::<DockerReference>().is_err());
        let prefix: RegistryPrefix = format!("docker://{longest}").parse().unwrap();
        assert_eq!(prefix.to_string().parse(), Ok(prefix));
        assert!(format!("docker://{longest}a").parse::<RegistryPrefix>().is_err());
    }

    proptest! {
        #[test]
        fn prefixes_lead_to_plain_directories(text in "[a-zA-Z0-9.:_/@\\[\\]-]{0,40}") {
            if let Ok(prefix) = format!("docker://{text}").parse::<RegistryPrefix>() {
                let again: RegistryPrefix = prefix.to_string().parse().unwrap();
                prop_assert_eq!(&again, &prefix);
                prop_assert!(!prefix.path().split('/').any(|part| part.is_empty() || part.starts_with('.')));
            }
        }

        #[test]
        fn what_is_printed_is_read_back(text in "[a-z0-9.:_/@-]{0,40}") {
            if let Ok(parsed) = text.parse::<DockerReference>() {
                let again: DockerReference = parsed.to_string().parse().unwrap();
                prop_assert_eq!(again.to_string(), parsed.to_string());
                prop_assert!(!parsed.repository.split('/').any(|part| part.is_empty() || part == ".."));
            }
        }
    }
}
