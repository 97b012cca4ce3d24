use std::time::SystemTime;

use super::*;
use crate::appc::name::AcIdentifier;
use crate::image::test_keys::{Signing, TestKey};

const BYTES: &[u8] = b"the bytes of an image";

fn name(text: &str) -> AcIdentifier {
    text.parse().unwrap()
}

fn trusted(key: &TestKey, self_signatures: SelfSignatures) -> TrustedKey {
    let key = PublicKey::parse_armored(key.public().as_bytes()).unwrap().remove(0);
    TrustedKey { key, scope: Scope::Prefix(name("example.com")), self_signatures, path: "/key".into() }
}

fn verify(signature: &[u8], bytes: &[u8], keys: &[TrustedKey]) -> Result<String, String> {
    let told = |error: VerifyError| error.to_string();
    let file = SignatureFile::parse(signature).map_err(told)?;
    let mut hash = file.hash();
    for chunk in bytes.chunks(5) {
        hash.update(chunk);
    }
    let proof = file.verify(hash, &name("example.com/app"), keys, SystemTime::now()).map_err(told)?;
    Ok(proof.signer().unwrap().fingerprint.clone())
}

#[test]
fn good_signatures_are_armored_or_binary_by_a_key_or_its_subkey() {
    for key in [TestKey::new("one"), TestKey::with_subkey("two")] {
        let keys =
            [trusted(&TestKey::new("other"), SelfSignatures::Strong), trusted(&key, SelfSignatures::Strong)];
        let expected = Ok(key.fingerprint());
        assert_eq!(verify(&key.sign(BYTES), BYTES, &keys), expected);
        assert_eq!(verify(&key.sign_binary(BYTES, &Signing::default()), BYTES, &keys), expected);
        // The clock of the signer may be a little ahead.
        assert_eq!(verify(&key.sign_as(BYTES, &Signing::in_minutes(4)), BYTES, &keys), expected);
        // One of several is enough, whatever the others are.
        let mut two = TestKey::new("stranger").sign_binary(BYTES, &Signing::default());
        two.extend(key.sign_binary(b"other", &Signing::default()));
        two.extend(key.sign_binary(BYTES, &Signing::default()));
        assert_eq!(verify(&two, BYTES, &keys), expected);
    }
}

#[test]
fn each_refusal_names_its_reason() {
    let key = TestKey::new("one");
    let fpr = key.signing_fingerprint();
    let subkey = TestKey::with_subkey("two");
    let refused = |key: &TestKey, signature: &[u8], bytes: &[u8]| {
        verify(signature, bytes, &[trusted(key, SelfSignatures::Strong)]).unwrap_err()
    };
    let starts =
        |text: String, expected: String| assert!(text.starts_with(&expected), "{text:?} is not {expected:?}");
    let stranger = TestKey::new("stranger");
    assert_eq!(
        refused(&key, &stranger.sign(BYTES), BYTES),
        format!("openpgp: signature made by unknown entity, key {}", stranger.signing_fingerprint())
    );
    let other = format!("openpgp: the signature by key {fpr} was made over other bytes");
    assert_eq!(refused(&key, &key.sign(BYTES), b"other bytes"), other);
    assert_eq!(refused(&key, &key.sign(BYTES), b""), other);
    for (how, expected) in [
        (Signing::with_sha1(), format!("openpgp: the signature by key {fpr} uses SHA-1, which is too weak")),
        (
            Signing::with_ripemd(),
            format!("openpgp: the signature by key {fpr} uses RIPEMD-160, which is too weak"),
        ),
        (Signing::in_minutes(6), format!("openpgp: the signature by key {fpr} is dated in the future, 2")),
        (Signing::in_days(3650), format!("openpgp: the signature by key {fpr} is dated in the future, 2")),
        (Signing::expired(), format!("openpgp: the signature by key {fpr} has expired on 2")),
        (
            Signing::of_text(),
            format!("openpgp: the signature by key {fpr} is of a kind that does not sign files"),
        ),
    ] {
        starts(refused(&key, &key.sign_as(BYTES, &how), BYTES), expected);
    }
    let signature = key.sign(BYTES);
    assert_eq!(
        refused(&key.revoked(), &signature, BYTES),
        format!(
            "openpgp: key {fpr} has been revoked: Key material has been compromised, \"it was the maid\""
        )
    );
    let signature = subkey.sign(BYTES);
    starts(
        refused(&subkey.revoked(), &signature, BYTES),
        format!("openpgp: key {} has been revoked", subkey.fingerprint().to_uppercase()),
    );
    let expired = TestKey::expired("old");
    starts(
        refused(&expired, &expired.sign(BYTES), BYTES),
        format!("openpgp: key {} has expired on 2", expired.signing_fingerprint()),
    );
    let certifier = TestKey::certify_only("boss");
    assert_eq!(
        refused(&certifier, &certifier.sign(BYTES), BYTES),
        format!(
            "openpgp: key {} can't be used for signatures: its owner has not made it for that",
            certifier.signing_fingerprint()
        )
    );
    // A subkey that another key claims without the subkey's own word for it.
    let thief = key.with_stolen_subkey(&subkey);
    starts(
        refused(&thief, &subkey.sign(BYTES), BYTES),
        format!("openpgp: key {} can't be used for signatures: ", subkey.signing_fingerprint()),
    );
}

#[test]
fn short_and_dsa_keys_are_refused() {
    let short = TestKey::short_rsa();
    assert_eq!(
        verify(&short.sign(BYTES), BYTES, &[trusted(&short, SelfSignatures::Sha1Allowed)]),
        Err(format!(
            "openpgp: key {} is an RSA key of 1024 bits, which is too weak",
            short.signing_fingerprint()
        ))
    );
    let dsa = include_bytes!("../../../tests/fixtures/keys/dsa.asc");
    let key = PublicKey::parse_armored(dsa).unwrap().remove(0);
    let fingerprint = key.fingerprint().to_uppercase();
    let trusted = TrustedKey {
        key,
        scope: Scope::Root,
        self_signatures: SelfSignatures::Sha1Allowed,
        path: "/key".into(),
    };
    let signature = include_bytes!("../../../tests/fixtures/keys/dsa.sig");
    assert_eq!(
        verify(signature, BYTES, &[trusted]),
        Err(format!("openpgp: key {fingerprint} is a DSA key, which is too weak"))
    );
}

#[test]
fn sha1_over_a_key_itself_is_an_opt_in() {
    let key = TestKey::with_sha1_binding("old");
    let signature = key.sign(BYTES);
    let fingerprint = key.signing_fingerprint();
    assert_eq!(
        verify(&signature, BYTES, &[trusted(&key, SelfSignatures::Strong)]),
        Err(format!(
            "openpgp: key {fingerprint} is bound to its owner by SHA-1 signatures only, which are too weak"
        ))
    );
    let allowed = [trusted(&key, SelfSignatures::Sha1Allowed)];
    assert!(allowed[0].key.needs_sha1(SystemTime::now()));
    assert_eq!(verify(&signature, BYTES, &allowed), Ok(key.fingerprint()));
    assert_eq!(
        verify(&key.sign_as(BYTES, &Signing::with_sha1()), BYTES, &allowed),
        Err(format!("openpgp: the signature by key {fingerprint} uses SHA-1, which is too weak"))
    );
}

#[test]
fn what_is_no_signature_is_told() {
    let key = TestKey::new("one");
    for (bytes, expected) in [
        (b"".to_vec(), "keystore: no valid signatures found in signature file"),
        (b" \n".to_vec(), "keystore: no valid signatures found in signature file"),
        (
            b"<html>not found</html>".to_vec(),
            "keystore: the signature file is not a detached OpenPGP signature: ",
        ),
        (key.public().into_bytes(), "keystore: the signature file is not a detached OpenPGP signature: "),
        (
            vec![b'x'; (1 << 20) + 1],
            "keystore: the signature file is not a detached OpenPGP signature: it is larger",
        ),
    ] {
        let told = SignatureFile::parse(&bytes).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{told}");
    }
    let mut signature = key.sign(BYTES);
    signature.truncate(signature.len() / 2);
    assert!(verify(&signature, BYTES, &[trusted(&key, SelfSignatures::Strong)]).is_err());
}

#[test]
fn keys_are_armored_and_public() {
    let key = TestKey::new("Who <who@example.com>");
    let read = PublicKey::parse_armored(key.public().as_bytes()).unwrap().remove(0);
    assert_eq!(read.fingerprint(), key.fingerprint());
    assert_eq!(read.identities(), ["Who <who@example.com>"]);
    let spaced = read.spaced_fingerprint();
    assert_eq!((spaced.len(), spaced.replace(' ', "").to_lowercase()), (50, key.fingerprint()));
    assert_eq!(&spaced[24..26], "  ");
    for (text, expected) in [
        (key.private(), KeyError::Private),
        ("-----BEGIN PGP".to_owned(), KeyError::NotArmored),
        (String::new(), KeyError::NotArmored),
    ] {
        assert_eq!(PublicKey::parse_armored(text.as_bytes()), Err(expected));
    }
    let broken = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\naaaa\n-----END PGP PUBLIC KEY BLOCK-----\n";
    assert!(PublicKey::parse_armored(broken.as_bytes()).is_err());
}

/// Key stores in two directories, with what they trust for a name as `SCOPE KEY` lines.
pub(super) struct Levels {
    pub(super) dir: tempfile::TempDir,
}

impl Levels {
    pub(super) fn put(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn store(&self) -> Keystore {
        Keystore::new(&self.dir.path().join("sys"), &self.dir.path().join("loc"))
    }

    fn trusted(&self, name: &str) -> Vec<String> {
        let keys = self.store().keys_for(&name.parse().unwrap()).unwrap();
        keys.iter().map(|key| format!("{} {}", key.scope, key.key.identities()[0])).collect()
    }
}

#[test]
fn c1_prefixes_are_compared_by_component_and_empty_files_mask() {
    let levels = Levels { dir: tempfile::tempdir().unwrap() };
    let keys = ["root", "top", "foo"].map(TestKey::new);
    let [root, top, foo] = &keys;
    let file = |dir: &str, key: &TestKey| format!("{dir}/{}", key.fingerprint());
    assert_eq!(levels.trusted("example.com/foo"), [""; 0]);
    levels.put(&file("sys/trustedkeys/root.d", root), &root.public());
    levels.put(&file("loc/trustedkeys/prefix.d/example.com", top), &top.public());
    levels.put(&file("sys/trustedkeys/prefix.d/example.com/foo", foo), &foo.public());
    let (all, by_top) = ("all names root", "prefix \"example.com\" top");
    let by_foo = "prefix \"example.com/foo\" foo";
    for (name, expected) in [
        ("example.com/foo", vec![all, by_foo, by_top]),
        ("example.com/foo/bar", vec![all, by_foo, by_top]),
        ("example.com/foobar", vec![all, by_top]),
        ("example.com", vec![all, by_top]),
        ("example.community", vec![all]),
        ("other", vec![all]),
    ] {
        assert_eq!(levels.trusted(name), expected, "{name}");
    }
    assert!(levels.store().has_prefix_key(&name("example.com/x")).unwrap());
    assert!(!levels.store().has_prefix_key(&name("other")).unwrap());
    levels.put(&file("loc/trustedkeys/prefix.d/example.com/foo", foo), "");
    levels.put(&file("loc/trustedkeys/root.d", root), "");
    assert_eq!(levels.trusted("example.com/foo"), [by_top]);
    // A file that is no key stops everything, one that was left by a kill does not.
    levels.put("loc/trustedkeys/root.d/.tmp-1", "x");
    assert_eq!(levels.trusted("other"), [""; 0]);
    levels.put(&file("loc/trustedkeys/root.d", top), &foo.public());
    let told = levels.store().keys_for(&name("other")).unwrap_err().to_string();
    assert!(told.contains("fingerprint mismatch"), "{told}");
    levels.put(&file("loc/trustedkeys/root.d", top), "x");
    let told = levels.store().keys_for(&name("other")).unwrap_err().to_string();
    assert!(told.starts_with("keystore: error loading keyring: "), "{told}");
}

#[test]
fn a_key_is_stored_under_its_fingerprint_with_its_opt_in() {
    use std::os::unix::fs::PermissionsExt as _;
    let levels = Levels { dir: tempfile::tempdir().unwrap() };
    let key = trusted(&TestKey::new("one"), SelfSignatures::Strong).key;
    let scope = Scope::Prefix(name("example.com/a"));
    let path = levels.store().add(&scope, &key, SelfSignatures::Strong).unwrap();
    let expected = levels.dir.path().join("loc/trustedkeys/prefix.d/example.com/a").join(key.fingerprint());
    assert_eq!(path, expected);
    for (path, mode) in [(path.as_path(), 0o644), (path.parent().unwrap(), 0o755)] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode);
    }
    let of = |name_: &str| levels.store().keys_for(&name(name_)).unwrap();
    assert_eq!(of("example.com/a")[0].self_signatures, SelfSignatures::Strong);
    levels.store().add(&Scope::Root, &key, SelfSignatures::Sha1Allowed).unwrap();
    assert_eq!(of("other")[0].self_signatures, SelfSignatures::Sha1Allowed);
}
