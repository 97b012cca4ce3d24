//! What a user may call an image by (spec images.md 2.2): a pure grammar, with one question to the file system.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::oci::name::{DockerReference, DockerReferenceError};
use crate::appc::image_id::{ImageIdError, ImageIdQuery};
use crate::appc::image_manifest::Label;
use crate::appc::name::{AcIdentifier, NameError};
use crate::appc::platform::{HOST_ARCH, HOST_OS, PlatformError, check_distribution};
use crate::os::Hint;

/// An image as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The beginning of an ID, or all of it.
    Id(ImageIdQuery),
    /// A file, by its absolute path.
    File(PathBuf),
    /// A file on a server, by `http://` or `https://`.
    Url(String),
    /// An image of a docker registry: `docker://NAME`.
    Docker(DockerReference),
    /// An OCI or Docker image in files of this machine.
    Local(LocalReference),
    /// A name with labels, in the store or to be discovered.
    Name(NameReference),
}

/// `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]` or `docker-archive:FILE[:NAME[:TAG]]`.
///
/// The path ends at the first colon, as other programs have it (containers-transports(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReference {
    /// What is there.
    pub format: LocalFormat,
    /// Where, by its absolute path.
    pub path: PathBuf,
    /// Which image there, if the user said it.
    pub image: Option<String>,
}

/// What OCI and Docker images in files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalFormat {
    /// The directory of an OCI image layout.
    OciDirectory,
    /// A tar archive of one.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
}

impl LocalFormat {
    const SCHEMES: [(&str, Self); 3] = [
        ("oci", Self::OciDirectory),
        ("oci-archive", Self::OciArchive),
        ("docker-archive", Self::DockerArchive),
    ];

    fn syntax(self) -> &'static str {
        match self {
            Self::OciDirectory => "oci:DIR[:TAG]",
            Self::OciArchive => "oci-archive:FILE[:TAG]",
            Self::DockerArchive => "docker-archive:FILE[:NAME[:TAG]]",
        }
    }

    /// What a reference begins with, without the colon.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::OciDirectory => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
        }
    }
}

impl fmt::Display for LocalReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.format.scheme(), self.path.display())?;
        self.image.as_ref().map_or(Ok(()), |image| write!(f, ":{image}"))
    }
}

/// `NAME[:VERSION][,LABEL=VALUE]…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameReference {
    /// The name.
    pub name: AcIdentifier,
    /// The labels, the version among them.
    pub labels: Vec<Label>,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It has a scheme, and what follows does not fit.
    #[error("invalid image string {0:?}")]
    Invalid(String),
    /// The colon is not where it may be.
    #[error("malformed app string - colon may appear only right after the app name")]
    ColonInLabels,
    /// There are two.
    #[error("malformed app string - colon may appear at most once")]
    Colons,
    /// It names no image of a registry.
    #[error(transparent)]
    Docker(#[from] DockerReferenceError),
    /// It names no image in files.
    #[error("invalid image string {text:?}: expected {}", .format.syntax())]
    Local {
        /// The text.
        text: String,
        /// What it begins like.
        format: LocalFormat,
    },
    /// A label is no pair.
    #[error("malformed app string - {0:?} is not of the form LABEL=VALUE")]
    NoPair(String),
    /// A label is there twice.
    #[error("label {label} with multiple values [{}]", .values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(" "))]
    LabelTwice {
        /// Which.
        label: String,
        /// Its values.
        values: Vec<String>,
    },
    /// A label has a value that can't be shown.
    #[error("malformed app string - the value {value:?} of the label {label} has a control character in it")]
    Control {
        /// Which.
        label: AcIdentifier,
        /// Its value.
        value: String,
    },
    /// The name, or that of a label, breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The ID does.
    #[error(transparent)]
    Id(#[from] ImageIdError),
    /// The labels ask for a platform that rkt does not support.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

impl Hint for ReferenceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid(text) if text.contains("://") => {
                Some("the path of a file:// or http(s):// reference must end in .aci".into())
            }
            Self::Id(cause) => cause.hint(),
            Self::Name(cause) => cause.hint(),
            Self::Platform(cause) => cause.hint(),
            Self::Docker(cause) => cause.hint(),
            Self::Invalid(_)
            | Self::Local { .. }
            | Self::ColonInLabels
            | Self::Colons
            | Self::NoPair(_)
            | Self::Control { .. }
            | Self::LabelTwice { .. } => None,
        }
    }
}

impl Reference {
    /// Reads an image of `run`, `prepare` or `fetch`.
    ///
    /// A relative path is one below `cwd`; `is_file` tells whether a path leads to a regular file.
    ///
    /// # Errors
    /// When the text fits none of the forms.
    pub fn parse(
        text: &str,
        cwd: &Path,
        is_file: impl FnOnce(&Path) -> bool,
    ) -> Result<Self, ReferenceError> {
        let invalid = || ReferenceError::Invalid(text.to_owned());
        if ImageIdQuery::is_meant(text) {
            return Ok(Self::Id(text.parse()?));
        }
        if let Some(rest) = text.strip_prefix("cimd:") {
            return Self::canonical(rest).ok_or_else(invalid)?;
        }
        if let Some(rest) = text.strip_prefix("docker:") {
            let rest = rest.strip_prefix("//").unwrap_or(rest);
            return Ok(Self::Docker(rest.parse()?));
        }
        if let Some((scheme, rest)) = text.split_once(':')
            && let Some((_, format)) = LocalFormat::SCHEMES.iter().find(|(name, _)| *name == scheme)
        {
            let error = || ReferenceError::Local { text: text.to_owned(), format: *format };
            return LocalReference::parse(*format, rest, cwd).map(Self::Local).ok_or_else(error);
        }
        if text.contains("://") {
            return Self::url(text).ok_or_else(invalid);
        }
        let path = cwd.join(text);
        if text.starts_with('/') || (!text.is_empty() && is_file(&path)) {
            return Ok(Self::File(path));
        }
        if !text.contains(':') && (text.contains("./") || text.ends_with(".aci")) {
            return Ok(Self::File(path));
        }
        NameReference::parse(text).map(Self::Name)
    }

    fn url(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        match scheme {
            "file" => {
                let path = percent_decoded(rest)?;
                let fits = path.starts_with('/') && path.ends_with(".aci") && !path.contains('\0');
                fits.then(|| Self::File(path.into()))
            }
            "http" | "https" => {
                let (before_query, _) = rest.split_once(['?', '#']).unwrap_or((rest, ""));
                let (host, path) = before_query.split_once('/')?;
                let fits = !host.is_empty() && path.ends_with(".aci") && !text.chars().any(char::is_control);
                fits.then(|| Self::Url(text.to_owned()))
            }
            _ => None,
        }
    }

    /// Reads the form that 1.30 wrote into its metadata: `KIND:v=0:REST`.
    fn canonical(text: &str) -> Option<Result<Self, ReferenceError>> {
        let (kind, rest) = text.split_once(':')?;
        let rest = rest.strip_prefix("v=0:")?;
        match kind {
            "appc" => match canonical_name(rest) {
                // What is printed must lead to the same image again; this form could say what no other can.
                Ok(name) => Self::parse(&name.to_string(), Path::new("/"), |_| false)
                    .is_ok_and(|again| matches!(&again, Self::Name(again) if again.is_same(&name)))
                    .then_some(Ok(Self::Name(name))),
                Err(error) => Some(Err(error)),
            },
            "aci-archive" => Self::url(&percent_decoded(rest)?).map(Ok),
            "docker" => Some(rest.parse().map(Self::Docker).map_err(ReferenceError::from)),
            _ => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(query) => query.fmt(f),
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
            Self::Docker(docker) => write!(f, "docker://{}", docker.original()),
            Self::Local(local) => local.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl LocalReference {
    fn parse(format: LocalFormat, text: &str, cwd: &Path) -> Option<Self> {
        let (path, image) = text.split_once(':').map_or((text, None), |(path, image)| (path, Some(image)));
        let is_bad = |text: &str| text.is_empty() || text.chars().any(char::is_control);
        if is_bad(path) || image.is_some_and(is_bad) {
            return None;
        }
        Some(Self { format, path: cwd.join(path), image: image.map(str::to_owned) })
    }
}

impl NameReference {
    /// Reads a name with its labels.
    ///
    /// # Errors
    /// When the text breaks the grammar, or a part of it a rule of names.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (head, labels) = text.split_once(',').map_or((text, None), |(head, rest)| (head, Some(rest)));
        if labels.is_some_and(|labels| labels.contains(':')) {
            // Whatever else is wrong, this is what the first rkt said.
            return Err(ReferenceError::ColonInLabels);
        }
        let (name, version) =
            head.split_once(':').map_or((head, None), |(name, version)| (name, Some(version)));
        if version.is_some_and(|version| version.contains(':')) {
            return Err(ReferenceError::Colons);
        }
        let pairs = labels
            .into_iter()
            .flat_map(|labels| labels.split(','))
            .map(|pair| pair.split_once('=').ok_or_else(|| ReferenceError::NoPair(pair.to_owned())));
        let version = version.map(|version| Ok(("version", version)));
        Self::from_pairs(name, version.into_iter().chain(pairs))
    }

    fn from_pairs<'t>(
        name: &str,
        pairs: impl Iterator<Item = Result<(&'t str, &'t str), ReferenceError>>,
    ) -> Result<Self, ReferenceError> {
        let mut labels: Vec<Label> = Vec::new();
        for pair in pairs {
            let (label, value) = pair?;
            let earlier =
                labels.iter().find(|earlier| earlier.name == *label).map(|label| label.value.as_str());
            if let Some(earlier) = earlier.or((label == "name").then_some(name)) {
                let values = vec![earlier.to_owned(), value.to_owned()];
                return Err(ReferenceError::LabelTwice { label: label.to_owned(), values });
            }
            let label = label.parse()?;
            if value.chars().any(char::is_control) {
                return Err(ReferenceError::Control { label, value: value.to_owned() });
            }
            labels.push(Label::new(label, value));
        }
        Ok(Self { name: name.parse()?, labels })
    }

    /// Tells whether both have the same name and labels, in any order.
    fn is_same(&self, other: &Self) -> bool {
        let sorted = |reference: &Self| reference.labels.iter().cloned().collect::<BTreeSet<_>>();
        self.name == other.name && sorted(self) == sorted(other)
    }

    /// Adds the host's `os` and `arch` where the user did not say them, as for images that are to run (spec images.md
    /// 2.1.4).
    ///
    /// # Errors
    /// When the result is a platform that rkt does not support.
    pub fn for_host(mut self) -> Result<Self, PlatformError> {
        let shown = self.to_string();
        for (name, value) in [("os", HOST_OS), ("arch", HOST_ARCH)] {
            if !self.labels.iter().any(|label| label.name == *name) {
                let name = name.parse().expect("a valid identifier");
                self.labels.push(Label::new(name, value));
            }
        }
        check_distribution(&shown, &self.labels)?;
        Ok(self)
    }
}

impl fmt::Display for NameReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        // Behind the name of a scheme, a colon would begin something else; as would the slashes of an URL behind a colon.
        let has_colon = |label: &Label| !is_scheme(self.name.as_str()) && !label.value.starts_with("//");
        let version = |label: &&Label| label.name == *"version" && !label.value.contains([',', ':']);
        for label in self.labels.iter().filter(version) {
            let separator = if has_colon(label) { ":" } else { ",version=" };
            write!(f, "{separator}{}", label.value)?;
        }
        for label in self.labels.iter().filter(|label| label.name != *"version") {
            write!(f, ",{}={}", label.name, label.value)?;
        }
        Ok(())
    }
}

/// An image of the commands `rkt image …`: in the store, by ID or by name (spec cli.md 1.1.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredReference {
    /// The beginning of an ID, or all of it.
    Id(ImageIdQuery),
    /// A name with labels.
    Name(NameReference),
}

impl std::str::FromStr for StoredReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if ImageIdQuery::is_meant(text) {
            Ok(Self::Id(text.parse()?))
        } else {
            NameReference::parse(text).map(Self::Name)
        }
    }
}

/// Tells whether a reference that begins with `name:` is none by name.
fn is_scheme(name: &str) -> bool {
    matches!(name, "cimd" | "docker") || LocalFormat::SCHEMES.iter().any(|(scheme, _)| *scheme == name)
}

fn canonical_name(text: &str) -> Result<NameReference, ReferenceError> {
    let (name, query) = text.split_once('?').unwrap_or((text, ""));
    let invalid = || ReferenceError::Invalid(text.to_owned());
    let decoded: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (label, value) = pair.split_once('=')?;
            Some((percent_decoded(label)?, percent_decoded(value)?))
        })
        .collect::<Option<_>>()
        .ok_or_else(invalid)?;
    let name = percent_decoded(name).ok_or_else(invalid)?;
    NameReference::from_pairs(
        &name,
        decoded.iter().map(|(label, value)| Ok((label.as_str(), value.as_str()))),
    )
}

/// Undoes `%2F`; a percent sign that begins no such thing is refused, as is what is no UTF-8 then.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = behind;
            continue;
        }
        let (digits, behind) = behind.split_at_checked(2)?;
        let value =
            digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))?;
        bytes.push(u8::try_from(value).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reference, String> {
        let is_file = |path: &Path| path == Path::new("/cwd/present") || path == Path::new("/cwd/a:b");
        Reference::parse(text, Path::new("/cwd"), is_file).map_err(|error| error.to_string())
    }

    fn name(name: &str, labels: &[(&str, &str)]) -> Reference {
        let labels = labels.iter().map(|(name, value)| Label::new(name.parse().unwrap(), *value)).collect();
        Reference::Name(NameReference { name: name.parse().unwrap(), labels })
    }

    #[test]
    fn each_form_is_known() {
        let file = |path: &str| Ok(Reference::File(path.into()));
        let url = |text: &str| Ok(Reference::Url(text.to_owned()));
        let docker = |text: &str| Ok(Reference::Docker(text.parse().unwrap()));
        let local = |format, path: &str, image: Option<&str>| {
            Ok(Reference::Local(LocalReference {
                format,
                path: path.into(),
                image: image.map(str::to_owned),
            }))
        };
        let digest = format!("reg:5000/a@sha256:{}", "0".repeat(64));
        let by_digest = format!("docker:{digest}");
        let cases = [
            ("sha512-abcdef", Ok(Reference::Id("sha512-abcdef".parse().unwrap()))),
            ("file:///a/b.aci", file("/a/b.aci")),
            ("file:///a%20b.aci", file("/a b.aci")),
            ("http://h/x.aci", url("http://h/x.aci")),
            ("https://h:8/a/x.aci?q=1", url("https://h:8/a/x.aci?q=1")),
            ("docker://busybox:1.2", docker("busybox:1.2")),
            (&by_digest, docker(&digest)),
            ("oci:dir", local(LocalFormat::OciDirectory, "/cwd/dir", None)),
            ("oci:/a/b:1.0", local(LocalFormat::OciDirectory, "/a/b", Some("1.0"))),
            ("oci-archive:a.tar:x:y", local(LocalFormat::OciArchive, "/cwd/a.tar", Some("x:y"))),
            (
                "docker-archive:/a.tar:reg:5000/a:1",
                local(LocalFormat::DockerArchive, "/a.tar", Some("reg:5000/a:1")),
            ),
            ("/abs/path", file("/abs/path")),
            ("present", file("/cwd/present")),
            ("a:b", file("/cwd/a:b")),
            ("./x", file("/cwd/./x")),
            ("../x/y", file("/cwd/../x/y")),
            ("some.aci", file("/cwd/some.aci")),
            ("dir/some.aci", file("/cwd/dir/some.aci")),
            ("example.com/app", Ok(name("example.com/app", &[]))),
            ("example.com/app:1.0", Ok(name("example.com/app", &[("version", "1.0")]))),
            ("example.com/app.aci:1", Ok(name("example.com/app.aci", &[("version", "1")]))),
            (
                "example.com/app:1.0,os=linux,arch=amd64",
                Ok(name("example.com/app", &[("version", "1.0"), ("os", "linux"), ("arch", "amd64")])),
            ),
            ("example.com/app,version=2", Ok(name("example.com/app", &[("version", "2")]))),
            (
                "cimd:appc:v=0:example.com/a?version=1&os=linux",
                Ok(name("example.com/a", &[("version", "1"), ("os", "linux")])),
            ),
            ("cimd:aci-archive:v=0:file%3A%2F%2F%2Fa.aci", file("/a.aci")),
            ("cimd:docker:v=0:registry/a:1", docker("registry/a:1")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for (text, expected) in [
            ("file:///a/b.tar", r#"invalid image string "file:///a/b.tar""#),
            ("file://host/b.aci", r#"invalid image string "file://host/b.aci""#),
            ("file:///%zz.aci", r#"invalid image string "file:///%zz.aci""#),
            ("https://h/x", r#"invalid image string "https://h/x""#),
            ("https:///x.aci", r#"invalid image string "https:///x.aci""#),
            ("ftp://h/x.aci", r#"invalid image string "ftp://h/x.aci""#),
            (
                "docker://",
                r#"invalid docker URL "docker://"; expected syntax is docker://[REGISTRY_HOST[:REGISTRY_PORT]/]IMAGE_NAME[:TAG|@DIGEST]"#,
            ),
            ("oci:", r#"invalid image string "oci:": expected oci:DIR[:TAG]"#),
            ("oci:dir:", r#"invalid image string "oci:dir:": expected oci:DIR[:TAG]"#),
            (
                "docker-archive::x",
                r#"invalid image string "docker-archive::x": expected docker-archive:FILE[:NAME[:TAG]]"#,
            ),
            ("cimd:x:v=0:y", r#"invalid image string "cimd:x:v=0:y""#),
            ("cimd:appc:v=1:y", r#"invalid image string "cimd:appc:v=1:y""#),
            ("a:1:2", "malformed app string - colon may appear at most once"),
            ("a,b=1:2", "malformed app string - colon may appear only right after the app name"),
            ("a,b", r#"malformed app string - "b" is not of the form LABEL=VALUE"#),
            ("a:1,version=2", r#"label version with multiple values ["1" "2"]"#),
            ("a,name=b", r#"label name with multiple values ["a" "b"]"#),
            ("sha512-0", "image ID too short"),
            ("oci:a\n", r#"invalid image string "oci:a\n": expected oci:DIR[:TAG]"#),
            ("https://h/\u{1b}[2J.aci", r#"invalid image string "https://h/\u{1b}[2J.aci""#),
            ("a,b\r", r#"malformed app string - "b\r" is not of the form LABEL=VALUE"#),
            (
                "a:1\n,version=\t",
                r#"malformed app string - the value "1\n" of the label version has a control character in it"#,
            ),
            ("a,b=1,b=\u{7f}", r#"label b with multiple values ["1" "\u{7f}"]"#),
            (
                "cimd:appc:v=0:a?b=%0a",
                r#"malformed app string - the value "\n" of the label b has a control character in it"#,
            ),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
        for text in ["", "Upper", "a,Bad=1", "-"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    /// Found by generated references: what these were printed as was none, or another.
    #[test]
    fn the_form_of_old_metadata_says_no_more_than_the_others() {
        for rest in
            ["a?b=%2C%3A", "a?version=1%3A2", "a?b=1,c=2", "sha512-a", "sha512-a?b=", "a.aci", "a?b=./"]
        {
            let text = format!("cimd:appc:v=0:{rest}");
            assert_eq!(parse(&text), Err(format!("invalid image string {text:?}")));
        }
    }

    #[test]
    fn a_name_is_printed_as_what_is_read_as_the_same_name() {
        for (text, shown) in [
            ("a:1,os=linux", "a:1,os=linux"),
            ("a,os=linux,version=1", "a:1,os=linux"),
            ("a,version=//1", "a,version=//1"),
            ("docker,version=1", "docker,version=1"),
            ("oci,version=1,os=linux", "oci,version=1,os=linux"),
            ("cimd,version=1", "cimd,version=1"),
            ("a:", "a:"),
        ] {
            let reference = parse(text).unwrap();
            assert_eq!(reference.to_string(), shown);
            assert_eq!(parse(shown).map(|again| again.to_string()).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn a_look_up_adds_the_host() {
        let parsed = |text: &str| NameReference::parse(text).unwrap().for_host();
        assert_eq!(parsed("a:1").unwrap().to_string(), format!("a:1,os={HOST_OS},arch={HOST_ARCH}"));
        assert_eq!(parsed("a,arch=aarch64").unwrap().to_string(), "a,arch=aarch64,os=linux");
        assert!(
            parsed("a,os=plan9")
                .unwrap_err()
                .to_string()
                .starts_with("invalid Appc distribution \"a,os=plan9\"")
        );
    }

    #[test]
    fn stored_images_have_an_id_or_a_name() {
        assert!(matches!("sha512-ab".parse(), Ok(StoredReference::Id(_))));
        assert!(matches!("sha512-ab-c".parse(), Ok(StoredReference::Name(_))));
        assert_eq!("sha512-a".parse::<StoredReference>().unwrap_err().to_string(), "image ID too short");
    }
}
