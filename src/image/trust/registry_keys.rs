//! The files that say which key is trusted for which images of registries.
//!
//! ```text
//! <config>/trustedkeys/registry.d/<host>[:<port>]/<fingerprint>          for all images of the registry
//! <config>/trustedkeys/registry.d/<host>[:<port>]/<name>/<fingerprint>   for that name there, and names below it
//! ```
//!
//! Keys are in PEM, their files named by the SHA-256 of the key in lower-case hex ([`ImageKey::fingerprint`]). Host and name
//! are whole, as [`DockerReference`] has them: Docker Hub is `registry-1.docker.io`, and `busybox` there is
//! `library/busybox`. As with OpenPGP keys the system's files are read first, then the local ones, in each the shorter
//! prefix first; an empty file takes a key away that was read before; only the local level is written. No key is trusted
//! for all registries.

use std::path::{Path, PathBuf};

use super::image_key::ImageKey;
use super::keystore::{KeyFile, Keystore, KeystoreError, key_files, store_files};
use crate::image::oci::name::{DockerReference, RegistryPrefix};

const REGISTRY: &str = "registry.d";

/// A key and the images that it is trusted for.
#[derive(Debug, Clone)]
pub struct TrustedImageKey {
    /// The key.
    pub key: ImageKey,
    /// What for.
    pub prefix: RegistryPrefix,
}

impl Keystore {
    /// Returns the keys that are trusted for an image.
    ///
    /// # Errors
    /// When a file among them can't be read, or is not the key that its name says.
    pub fn image_keys_for(&self, image: &DockerReference) -> Result<Vec<TrustedImageKey>, KeystoreError> {
        let mut keys = Vec::new();
        for level in [&self.system, &self.local] {
            for prefix in RegistryPrefix::of(image) {
                read_dir(&dir_of(level, &prefix), &prefix, &mut keys)?;
            }
        }
        Ok(keys)
    }

    /// Stores a key in the local level; durable on return. Returns its file.
    ///
    /// # Errors
    /// When a directory or file can't be written.
    ///
    /// # Locking
    /// The directory of the prefix, exclusive; waits for others who store a key there.
    pub fn add_image_key(&self, prefix: &RegistryPrefix, key: &ImageKey) -> Result<PathBuf, KeystoreError> {
        let dir = dir_of(&self.local, prefix);
        let path = dir.join(key.fingerprint());
        store_files(&dir, &[(path.clone(), &key.to_pem())]).map_err(KeystoreError::Write)?;
        Ok(path)
    }
}

fn dir_of(level: &Path, prefix: &RegistryPrefix) -> PathBuf {
    level.join(REGISTRY).join(prefix.path())
}

fn read_dir(
    dir: &Path,
    prefix: &RegistryPrefix,
    keys: &mut Vec<TrustedImageKey>,
) -> Result<(), KeystoreError> {
    for KeyFile { path, name, text } in key_files(dir)? {
        if text.is_empty() {
            keys.retain(|trusted| trusted.key.fingerprint() != name);
            continue;
        }
        let key = ImageKey::parse_pem(&text)
            .map_err(|cause| KeystoreError::ImageKey { path: path.clone(), cause })?;
        if key.fingerprint() != name {
            return Err(KeystoreError::Mismatch { path, found: key.fingerprint() });
        }
        keys.push(TrustedImageKey { key, prefix: prefix.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::image::test_cosign::CosignKey;
    use crate::image::trust::tests::Levels;

    impl Levels {
        /// What is trusted for an image, as `PREFIX FINGERPRINT` lines.
        fn image_keys(&self, image: &str) -> Vec<String> {
            let keys = self.store().image_keys_for(&image.parse().unwrap()).unwrap();
            keys.iter().map(|trusted| format!("{} {}", trusted.prefix, trusted.key.fingerprint())).collect()
        }
    }

    #[test]
    fn c1_prefixes_are_compared_by_component_and_empty_files_mask() {
        let levels = Levels { dir: tempfile::tempdir().unwrap() };
        let (top, team) = (CosignKey::p256(), CosignKey::ed25519());
        let file = |dir: &str, key: &CosignKey| format!("{dir}/{}", key.fingerprint());
        let [registry, other] = ["sys", "loc"].map(|level| format!("{level}/trustedkeys/registry.d"));
        levels.put(&file(&format!("{other}/reg.example.com"), &top), &top.public());
        levels.put(&file(&format!("{registry}/reg.example.com/team"), &team), &team.public());
        let by_top = format!("docker://reg.example.com {}", top.fingerprint());
        let by_team = format!("docker://reg.example.com/team {}", team.fingerprint());
        for (image, expected) in [
            ("reg.example.com/team/app:1", vec![&by_team, &by_top]),
            ("reg.example.com/team", vec![&by_team, &by_top]),
            ("reg.example.com/teamx/app", vec![&by_top]),
            ("reg.example.com/other/team", vec![&by_top]),
            ("Reg.Example.com/app", vec![&by_top]),
            ("reg.example.com:5000/team/app", vec![]),
            ("reg.example.community/team/app", vec![]),
            ("docker.io/team/app", vec![]),
            ("busybox", vec![]),
        ] {
            assert_eq!(levels.image_keys(image).iter().collect::<Vec<_>>(), expected, "{image}");
        }
        levels.put(&file(&format!("{other}/reg.example.com/team"), &team), "");
        assert_eq!(levels.image_keys("reg.example.com/team/app"), [by_top.as_str()]);
        // A key of the other kind of images is none here, nor is it named rightly.
        levels.put(&file(&format!("{other}/reg.example.com/team"), &top), &team.public());
        let told = levels.store().image_keys_for(&"reg.example.com/team/app".parse().unwrap()).unwrap_err();
        assert!(told.to_string().contains("fingerprint mismatch"), "{told}");
        levels.put(
            &file(&format!("{other}/reg.example.com/team"), &top),
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\n",
        );
        let told = levels.store().image_keys_for(&"reg.example.com/team/app".parse().unwrap()).unwrap_err();
        assert!(told.to_string().starts_with("keystore: error loading keyring: "), "{told}");
        // Who is not below it is not disturbed.
        assert_eq!(levels.image_keys("reg.example.com/app"), [by_top.as_str()]);
    }

    #[test]
    fn a_key_is_stored_by_its_prefix_and_fingerprint() {
        let levels = Levels { dir: tempfile::tempdir().unwrap() };
        let key = CosignKey::p256();
        let read = ImageKey::parse_pem(key.public().as_bytes()).unwrap();
        let prefix = "docker://reg.example.com:5000/team/app".parse().unwrap();
        let path = levels.store().add_image_key(&prefix, &read).unwrap();
        let dir = levels.dir.path().join("loc/trustedkeys/registry.d/reg.example.com:5000/team/app");
        assert_eq!(path, dir.join(key.fingerprint()));
        for (path, mode) in [(&path, 0o644), (&dir, 0o755)] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode);
        }
        let trusted = format!("{prefix} {}", key.fingerprint());
        assert_eq!(levels.image_keys("reg.example.com:5000/team/app/x"), [trusted]);
        let hub = "docker://busybox".parse().unwrap();
        levels.store().add_image_key(&hub, &read).unwrap();
        assert_eq!(levels.image_keys("docker.io/library/busybox:1").len(), 1);
    }
}
