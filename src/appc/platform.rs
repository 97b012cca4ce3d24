//! Operating systems and architectures in the specification's spelling (spec images.md 2.1.4).
//!
//! A table of what may be written, and a shorter one of what rkt supports. Neither is a comparison with the running
//! machine: an image for another architecture is accepted and fails when it is executed.

use super::{field::quoted, label::Label};

/// The architecture of this build, in the specification's spelling.
pub const HOST_ARCH: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "x86") {
    "i386"
} else if cfg!(all(target_arch = "aarch64", target_endian = "big")) {
    "aarch64_be"
} else if cfg!(target_arch = "aarch64") {
    "aarch64"
} else if cfg!(all(target_arch = "arm", target_endian = "big")) {
    "armv7b"
} else if cfg!(target_arch = "arm") {
    "armv7l"
} else if cfg!(all(target_arch = "powerpc64", target_endian = "big")) {
    "ppc64"
} else if cfg!(target_arch = "powerpc64") {
    "ppc64le"
} else if cfg!(target_arch = "s390x") {
    "s390x"
} else {
    "unknown"
};

/// The operating system of every host that rkt runs on.
pub const HOST_OS: &str = "linux";

type Table = &'static [(&'static str, &'static [&'static str])];

/// What a manifest may say (appc spec, aci.md, "Image Manifest Schema"), sorted by operating system.
const KNOWN: Table = &[
    ("darwin", &["x86_64", "i386"]),
    ("freebsd", &["amd64", "i386", "arm"]),
    (
        "linux",
        &[
            "amd64",
            "i386",
            "aarch64",
            "aarch64_be",
            "armv6l",
            "armv7l",
            "armv7b",
            "ppc64",
            "ppc64le",
            "s390x",
        ],
    ),
];

/// What rkt supports.
const SUPPORTED: Table =
    &[("linux", &["amd64", "i386", "aarch64", "aarch64_be", "armv6l", "armv7l", "armv7b", "ppc64le"])];

/// Why the labels `os` and `arch` of an image are not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// An app's image must say for which operating system it is.
    #[error("missing os label in the image manifest")]
    MissingOs,
    /// An app's image must say for which architecture it is.
    #[error("missing arch label in the image manifest")]
    MissingArch,
    /// The operating system is not in the table.
    #[error("bad os {} (must be one of: [{}])", quoted(.os), .allowed.join(" "))]
    BadOs {
        /// What the label says.
        os: String,
        /// What it may say.
        allowed: Vec<&'static str>,
    },
    /// The architecture is not in the table.
    #[error("bad arch {} for {os} (must be one of: [{}])", quoted(.arch), .allowed.join(" "))]
    BadArch {
        /// What the label says.
        arch: String,
        /// The operating system.
        os: String,
        /// What the label may say.
        allowed: &'static [&'static str],
    },
    /// An image is looked up by name, for a platform that is not supported.
    #[error("invalid Appc distribution {}: {problem}", quoted(.distribution))]
    Distribution {
        /// The image reference.
        distribution: String,
        /// What is wrong with its labels.
        problem: Box<PlatformError>,
    },
}

impl PlatformError {
    /// What the builder of the image can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingOs | Self::MissingArch => Some(format!(
                "build the image with the labels os={HOST_OS} and, for this machine, arch={HOST_ARCH}"
            )),
            Self::BadOs { .. } | Self::BadArch { .. } => None,
            Self::Distribution { problem, .. } => problem.hint(),
        }
    }
}

fn value<'a>(labels: &'a [Label], name: &str) -> Option<&'a str> {
    labels.iter().find(|label| label.name == *name).map(|label| label.value.as_str())
}

fn check(labels: &[Label], table: Table) -> Result<(), PlatformError> {
    let Some(os) = value(labels, "os") else {
        return Ok(());
    };
    let Some((_, allowed)) = table.iter().find(|(name, _)| *name == os) else {
        return Err(PlatformError::BadOs {
            os: os.to_owned(),
            allowed: table.iter().map(|(name, _)| *name).collect(),
        });
    };
    match value(labels, "arch") {
        Some(arch) if !allowed.contains(&arch) => {
            Err(PlatformError::BadArch { arch: arch.to_owned(), os: os.to_owned(), allowed })
        }
        _ => Ok(()),
    }
}

/// Checks the labels of any manifest: the pair must be in the specification's table, labels may be absent, and `arch`
/// is judged only when `os` is there.
pub(super) fn check_known(labels: &[Label]) -> Result<(), PlatformError> {
    check(labels, KNOWN)
}

/// Checks the labels of an image that is to run as an app: both must be there, and be supported.
pub(super) fn check_runnable(labels: &[Label]) -> Result<(), PlatformError> {
    value(labels, "os").ok_or(PlatformError::MissingOs)?;
    value(labels, "arch").ok_or(PlatformError::MissingArch)?;
    check(labels, SUPPORTED)
}

/// Checks the labels of a look-up by name, after the host's `os` and `arch` were added; `distribution` is the
/// reference for the message.
///
/// # Errors
/// The platform is not one that rkt supports.
pub fn check_distribution(distribution: &str, labels: &[Label]) -> Result<(), PlatformError> {
    check(labels, SUPPORTED).map_err(|problem| PlatformError::Distribution {
        distribution: distribution.to_owned(),
        problem: Box::new(problem),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHS: &str = "amd64 i386 aarch64 aarch64_be armv6l armv7l armv7b ppc64le";

    fn labels(os: Option<&str>, arch: Option<&str>) -> Vec<Label> {
        let label = |name: &str, value: &str| Label { name: name.parse().unwrap(), value: value.to_owned() };
        os.map(|os| label("os", os)).into_iter().chain(arch.map(|arch| label("arch", arch))).collect()
    }

    #[test]
    fn v3_os_and_arch_are_judged_by_the_table() {
        let all_linux = "amd64 i386 aarch64 aarch64_be armv6l armv7l armv7b ppc64 ppc64le s390x";
        for (os, arch, expected) in [
            (None, None, None),
            (None, Some("pdp11"), None),
            (Some("linux"), None, None),
            (Some("linux"), Some("s390x"), None),
            (Some("freebsd"), Some("arm"), None),
            (Some("darwin"), Some("x86_64"), None),
            (
                Some("plan9"),
                Some("amd64"),
                Some("bad os \"plan9\" (must be one of: [darwin freebsd linux])".into()),
            ),
            (Some("Linux"), None, Some("bad os \"Linux\" (must be one of: [darwin freebsd linux])".into())),
            (
                Some("linux"),
                Some("x86_64"),
                Some(format!("bad arch \"x86_64\" for linux (must be one of: [{all_linux}])")),
            ),
            (
                Some("darwin"),
                Some("amd64"),
                Some("bad arch \"amd64\" for darwin (must be one of: [x86_64 i386])".into()),
            ),
        ] {
            assert_eq!(check_known(&labels(os, arch)).err().map(|e| e.to_string()), expected);
        }
    }

    #[test]
    fn an_app_needs_both_labels_and_a_supported_platform() {
        for (os, arch, expected) in [
            (Some("linux"), Some("amd64"), None),
            (None, Some("amd64"), Some("missing os label in the image manifest".to_owned())),
            (Some("linux"), None, Some("missing arch label in the image manifest".to_owned())),
            (Some("freebsd"), Some("amd64"), Some("bad os \"freebsd\" (must be one of: [linux])".to_owned())),
            (
                Some("linux"),
                Some("s390x"),
                Some(format!("bad arch \"s390x\" for linux (must be one of: [{ARCHS}])")),
            ),
        ] {
            assert_eq!(check_runnable(&labels(os, arch)).err().map(|e| e.to_string()), expected);
        }
    }

    #[test]
    fn a_look_up_names_the_distribution() {
        let error = check_distribution("a.b/c", &labels(Some("darwin"), None)).unwrap_err();
        let expected = "invalid Appc distribution \"a.b/c\": bad os \"darwin\" (must be one of: [linux])";
        assert_eq!(error.to_string(), expected);
        assert!(check_distribution("a.b/c", &labels(Some(HOST_OS), Some(HOST_ARCH))).is_ok());
    }
}
