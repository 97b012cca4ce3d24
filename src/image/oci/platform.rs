//! For which machine an image is: Go's spelling, the App Container specification's, and the choice from an index.

use super::document::{Descriptor, Index, Platform};

/// The machine that images are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    os: &'static str,
    architecture: &'static str,
}

/// This machine, in Go's spelling.
pub const HOST: Machine = Machine {
    os: "linux",
    architecture: if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "x86") {
        "386"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "arm") {
        "arm"
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        "ppc64le"
    } else if cfg!(target_arch = "powerpc64") {
        "ppc64"
    } else if cfg!(target_arch = "s390x") {
        "s390x"
    } else {
        "unknown"
    },
};

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

impl Machine {
    /// How well an image for `platform` runs here: 0 is best, `None` is not at all.
    pub fn rank(&self, platform: &Platform) -> Option<u8> {
        if platform.os != self.os || platform.architecture != self.architecture {
            return None;
        }
        let variants: &[&[&str]] = match self.architecture {
            // What every such processor can execute comes first. The higher levels need one that has them all.
            "amd64" => &[&["", "v1"], &["v2"], &["v3"], &["v4"]],
            "arm64" => &[&["", "v8"]],
            "arm" => &[&["v7", ""], &["v6"], &["v5"]],
            _ => return Some(u8::from(!platform.variant.is_empty())),
        };
        let rank = variants.iter().position(|names| names.contains(&platform.variant.as_str()))?;
        u8::try_from(rank).ok()
    }
}

/// Chooses the entry of `index` that runs best on `machine`.
///
/// # Errors
/// The platforms that are there, when none does.
pub fn choose<'i>(index: &'i Index, machine: &Machine) -> Result<&'i Descriptor, Vec<String>> {
    let ranked = |entry: &'i Descriptor| {
        let rank = machine.rank(entry.platform.as_ref()?)?;
        Some((rank, entry))
    };
    // The first of equals, as everybody does.
    if let Some((_, best)) = index.manifests.iter().filter_map(ranked).min_by_key(|(rank, _)| *rank) {
        return Ok(best);
    }
    // An index need not say what the only image in it is for; its configuration does.
    let silent: Vec<_> = index.manifests.iter().filter(|entry| entry.platform.is_none()).collect();
    if let [only] = silent[..]
        && index.manifests.iter().all(|entry| entry.platform.is_none())
    {
        return Ok(only);
    }
    let mut there: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        // What builders attach to images (attestations) is for no machine.
        .filter(|platform| platform.os != "unknown")
        .map(ToString::to_string)
        .collect();
    there.sort();
    there.dedup();
    Err(there)
}

/// Operating system and architecture in the App Container specification's spelling (spec build-tools.md 6.10).
pub fn appc_names(platform: &Platform) -> Option<(&'static str, &'static str)> {
    let arch = match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("amd64", _) => "amd64",
        ("386", _) => "i386",
        ("arm64", _) => "aarch64",
        ("arm64be", _) => "aarch64_be",
        ("arm", "v5" | "v6") => "armv6l",
        ("arm", _) => "armv7l",
        ("armbe", _) => "armv7b",
        ("ppc64le", _) => "ppc64le",
        ("ppc64", _) => "ppc64",
        ("s390x", _) => "s390x",
        _ => return None,
    };
    (platform.os == "linux").then_some(("linux", arch))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::image::digest::Digest;

    fn entry(platform: Option<&str>) -> Descriptor {
        let platform = platform.map(|text| {
            let mut parts = text.split('/').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            Platform { os: next(), architecture: next(), variant: next() }
        });
        Descriptor {
            media_type: String::new(),
            digest: Digest::sha256(format!("{platform:?}").as_bytes()),
            size: 0,
            platform,
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn b14_the_image_for_the_machine_is_chosen() {
        let machine = |architecture| Machine { os: "linux", architecture };
        for (architecture, entries, expected) in [
            ("amd64", &["linux/arm64/v8", "linux/amd64"][..], Ok("linux/amd64")),
            ("amd64", &["linux/amd64/v3", "linux/amd64"], Ok("linux/amd64")),
            ("amd64", &["linux/amd64/v3", "linux/amd64/v2"], Ok("linux/amd64/v2")),
            ("arm64", &["linux/arm/v7", "linux/arm64/v8"], Ok("linux/arm64/v8")),
            ("arm", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], Ok("linux/arm/v7")),
            (
                "amd64",
                &["windows/amd64", "unknown/unknown", "linux/s390x"],
                Err("linux/s390x, windows/amd64"),
            ),
            ("amd64", &["linux/amd64/v9"], Err("linux/amd64/v9")),
            ("amd64", &[], Err("")),
        ] {
            let index = Index { manifests: entries.iter().map(|text| entry(Some(text))).collect() };
            let chosen = choose(&index, &machine(architecture))
                .map(|entry| entry.platform.as_ref().unwrap().to_string())
                .map_err(|there| there.join(", "));
            assert_eq!(chosen, expected.map(str::to_owned).map_err(str::to_owned));
        }
        let index =
            |entries: &[Option<&str>]| Index { manifests: entries.iter().map(|e| entry(*e)).collect() };
        assert!(choose(&index(&[None]), &HOST).is_ok());
        assert!(choose(&index(&[None, None]), &HOST).is_err());
        assert!(choose(&index(&[None, Some("linux/none")]), &HOST).is_err());
    }

    #[test]
    fn platforms_have_names_of_the_specification() {
        for (platform, expected) in [
            ("linux/386", Some("i386")),
            ("linux/arm64/v8", Some("aarch64")),
            ("linux/arm/v6", Some("armv6l")),
            ("linux/arm", Some("armv7l")),
            ("windows/amd64", None),
            ("linux/riscv64", None),
        ] {
            let names = appc_names(entry(Some(platform)).platform.as_ref().unwrap());
            assert_eq!(names, expected.map(|arch| ("linux", arch)), "{platform}");
        }
    }
}
