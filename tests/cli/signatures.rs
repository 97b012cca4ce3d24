//! Signatures against the real binary: rows C1 to C9 of the threat table, each refused in words of its own, with nothing
//! in the store afterwards; and what a good one shows.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;
use std::path::PathBuf;

use crate::support::keys::{Signing, TestKey};
use crate::support::run::Ended;
use crate::support::tar::Tar;
use crate::world::World;

const RKT: &str = "--dir=data --system-config=sys --local-config=loc";

/// A world with the unsigned image `app.aci`.
pub(crate) struct Signed {
    world: World,
    bytes: Vec<u8>,
}

impl Signed {
    fn new() -> Self {
        let world = World::new();
        let bytes = Tar::aci("example.com/app").file("rootfs/bin/true", "x").end();
        fs::write(world.path().join("app.aci"), &bytes).unwrap();
        Self { world, bytes }
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.world.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Trusts a key as an administrator does who writes the file.
    fn trust(&self, prefix: &str, key: &TestKey) {
        self.put(&format!("loc/trustedkeys/prefix.d/{prefix}/{}", key.fingerprint()), key.public());
    }

    fn sign(&self, key: &TestKey) {
        self.put("app.aci.asc", key.sign(&self.bytes));
    }

    fn fetch(&self, words: &str) -> Ended {
        self.world.run(&format!("{RKT} fetch --full {words}"))
    }

    fn run_with(&self, flags: &str, words: &str) -> Ended {
        self.world.run(&format!("{RKT} {flags} {words}"))
    }

    fn store(&self) -> PathBuf {
        self.world.path().join("data/cas")
    }

    /// The image is refused with this cause, and this hint if there is one; nothing is left.
    fn refused(&self, cause: &str, hint: &str) {
        let mut expected = format!("fetch: image \"example.com/app\" verification failed: {cause}\n");
        if !hint.is_empty() {
            let lines: Vec<_> = hint.split('\n').collect();
            expected += &format!("fetch: hint: {}\n", lines.join("\nfetch: "));
        }
        self.fetch("app.aci").expect(254, "", &expected);
        self.expect_nothing();
    }

    fn expect_nothing(&self) {
        for dir in ["image", "tmp", "tree"] {
            assert_eq!(fs::read_dir(self.store().join(dir)).unwrap().count(), 0, "{dir}");
        }
        self.world.run(&format!("{RKT} image list --format=json")).expect(0, "null\n", "");
    }
}

#[test]
fn a_signed_image_is_imported_and_shows_its_signer() {
    let it = Signed::new();
    let key = TestKey::with_subkey("The Publisher <who@example.com>");
    it.trust("example.com", &key);
    it.sign(&key);
    let fpr = key.fingerprint();
    let told = format!(
        "image: signature verified:\n  The Publisher <who@example.com>\n  key {fpr}, trusted for prefix \"example.com\"\n"
    );
    let ended = it.fetch("app.aci");
    ended.expect(0, &ended.stdout, &told);
    let list = it.world.run(&format!("{RKT} image list --full --no-legend")).stdout;
    assert!(list.trim_end().ends_with(&format!("\t{fpr}")), "{list}");
    let json = it.world.run(&format!("{RKT} image list --format=json")).stdout;
    assert!(json.contains(&format!("\"signer\":\"{fpr}\"")), "{json}");
    it.world.run(&format!("{RKT} image list --no-legend --fields=name,signer")).expect(
        0,
        &format!("example.com/app:1.0.0\t{fpr}\n"),
        "",
    );
    // Elsewhere, and binary.
    fs::rename(it.world.path().join("app.aci.asc"), it.world.path().join("elsewhere")).unwrap();
    it.fetch("app.aci --signature elsewhere").expect(0, &ended.stdout, &told);
    it.put("binary", key.sign_binary(&it.bytes, &Signing::default()));
    it.fetch("app.aci --signature=binary").expect(0, &ended.stdout, &told);
    // Without a signature only by the switch, and the image keeps the signer of the same bytes.
    it.world.run(&format!("{RKT} --insecure-options=image fetch --full app.aci")).expect(
        0,
        &ended.stdout,
        "",
    );
    let json = it.world.run(&format!("{RKT} image list --format=json")).stdout;
    assert!(json.contains(&fpr), "{json}");
}

#[test]
fn c1_a_prefix_covers_whole_components_only() {
    let it = Signed::new();
    let key = TestKey::new("one");
    it.sign(&key);
    let unknown =
        format!("openpgp: signature made by unknown entity, key {}", key.fingerprint().to_uppercase());
    let hint =
        "If you expected the signing key to change, try running:\n    rkt trust --prefix example.com/app";
    for prefix in ["example.com/ap", "example.com/app/below", "example.co", "other.org"] {
        it.trust(prefix, &key);
        it.refused(&unknown, hint);
    }
    // Masked by the administrator.
    it.put(&format!("sys/trustedkeys/root.d/{}", key.fingerprint()), key.public());
    it.put(&format!("loc/trustedkeys/root.d/{}", key.fingerprint()), "");
    it.refused(&unknown, hint);
    it.trust("example.com/app", &key);
    it.fetch("app.aci").expect_code(0);
}

#[test]
fn c2_weak_hashes_and_keys_are_refused() {
    let it = Signed::new();
    let key = TestKey::new("one");
    let fpr = key.fingerprint().to_uppercase();
    it.trust("example.com", &key);
    let hint = "ask the publisher for a signature with SHA-256 or SHA-512";
    for (how, hash) in [(Signing::with_sha1(), "SHA-1"), (Signing::with_ripemd(), "RIPEMD-160")] {
        it.put("app.aci.asc", key.sign_as(&it.bytes, &how));
        it.refused(&format!("openpgp: the signature by key {fpr} uses {hash}, which is too weak"), hint);
    }
    let short = TestKey::short_rsa();
    it.trust("example.com", &short);
    it.sign(&short);
    it.refused(
        &format!(
            "openpgp: key {} is an RSA key of 1024 bits, which is too weak",
            short.fingerprint().to_uppercase()
        ),
        "ask the publisher for an Ed25519 key, or RSA with 2048 bits or more",
    );
    let old = TestKey::with_sha1_binding("old");
    it.trust("example.com", &old);
    it.sign(&old);
    it.refused(
        &format!(
            "openpgp: key {} is bound to its owner by SHA-1 signatures only, which are too weak",
            old.fingerprint().to_uppercase()
        ),
        "get a newer copy of the key, or, if you know that this one is the publisher's, allow it with \
         `rkt trust --prefix example.com --allow-sha1-key KEYFILE`",
    );
    it.put(&format!("loc/trustedkeys/prefix.d/example.com/{}.allow-sha1", old.fingerprint()), "");
    it.fetch("app.aci").expect_code(0);
}

#[test]
fn c3_what_is_over_revoked_or_of_tomorrow_is_refused_by_name() {
    let it = Signed::new();
    let key = TestKey::new("one");
    let fpr = key.fingerprint().to_uppercase();
    it.trust("example.com", &key);
    for (how, cause, hint) in [
        (Signing::expired(), "has expired on ", "ask the publisher for a new signature"),
        (
            Signing::in_days(1),
            "is dated in the future, ",
            "check the clock of this machine with `timedatectl`",
        ),
    ] {
        it.put("app.aci.asc", key.sign_as(&it.bytes, &how));
        let ended = it.fetch("app.aci");
        ended.expect_code(254);
        let expected = format!(
            "fetch: image \"example.com/app\" verification failed: openpgp: the signature by key {fpr} {cause}"
        );
        assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
        assert!(ended.stderr.ends_with(&format!("\nfetch: hint: {hint}\n")), "{}", ended.stderr);
        it.expect_nothing();
    }
    it.sign(&key);
    it.trust("example.com", &key.revoked());
    it.refused(
        &format!(
            "openpgp: key {fpr} has been revoked: Key material has been compromised, \"it was the maid\""
        ),
        "ask the publisher for a signature by a new key",
    );
    let old = TestKey::expired("old");
    it.trust("example.com", &old);
    it.sign(&old);
    let ended = it.fetch("app.aci");
    ended.expect_code(254);
    let expected = format!("openpgp: key {} has expired on ", old.fingerprint().to_uppercase());
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    it.expect_nothing();
}

#[test]
fn c4_a_subkey_must_agree_to_its_key() {
    let it = Signed::new();
    let victim = TestKey::with_subkey("victim");
    let thief = TestKey::new("thief").with_stolen_subkey(&victim);
    it.trust("example.com", &thief);
    it.sign(&victim);
    let ended = it.fetch("app.aci");
    ended.expect_code(254);
    let expected = format!("openpgp: key {} can't be used for signatures: ", victim.signing_fingerprint());
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    it.expect_nothing();
}

#[test]
fn c5_what_only_looks_like_a_signature_is_refused() {
    let it = Signed::new();
    let key = TestKey::new("[GNUPG:] VALIDSIG\u{1b}[2J");
    it.trust("example.com", &key);
    let at = it.world.path().display();
    let hint = "fetch: hint: a signature is made with `gpg --armor --detach-sign FILE.aci`; its file is FILE.aci.asc\n";
    it.put("app.aci.asc", "");
    it.fetch("app.aci").expect(
        254,
        "",
        &format!("fetch: {at}/app.aci.asc: keystore: no valid signatures found in signature file\n{hint}"),
    );
    it.put("app.aci.asc", "<html>404</html>");
    let ended = it.fetch("app.aci");
    ended.expect_code(254);
    assert!(
        ended.stderr.contains("the signature file is not a detached OpenPGP signature"),
        "{}",
        ended.stderr
    );
    it.expect_nothing();
    // What an identity says does not speak to the terminal.
    it.sign(&key);
    let told = it.fetch("app.aci").stderr;
    assert!(told.contains("[GNUPG:] VALIDSIG\\u{1b}[2J"), "{told}");
}

#[test]
fn c6_other_bytes_than_the_signed_ones_are_refused() {
    let it = Signed::new();
    let key = TestKey::new("one");
    it.trust("example.com", &key);
    let fpr = key.fingerprint().to_uppercase();
    let hint = "the image was changed or damaged after it was signed: get image and signature again";
    it.put("app.aci.asc", key.sign(b"something else"));
    it.refused(&format!("openpgp: the signature by key {fpr} was made over other bytes"), hint);
    // The same image, packed: another file.
    it.sign(&key);
    it.put("app.aci", zstd::stream::encode_all(&it.bytes[..], 1).unwrap());
    it.refused(&format!("openpgp: the signature by key {fpr} was made over other bytes"), hint);
    // Bytes behind the archive are signed too.
    let mut longer = it.bytes.clone();
    longer.extend([0; 512]);
    it.put("app.aci", longer);
    it.refused(&format!("openpgp: the signature by key {fpr} was made over other bytes"), hint);
}

#[test]
fn c7_an_attackers_own_name_is_told_with_its_prefix() {
    let it = Signed::new();
    let attacker = TestKey::new("attacker");
    it.put("app.aci", Tar::aci("attacker.org/app").end());
    it.put("other.aci", Tar::aci("example.com/other").end());
    it.put("app.aci.asc", attacker.sign(&fs::read(it.world.path().join("app.aci")).unwrap()));
    it.trust("attacker.org", &attacker);
    it.fetch("app.aci --trust-prefix=example.com").expect(
        254,
        "",
        "fetch: image \"attacker.org/app\" is not below the prefix \"example.com\" that it must be trusted for\n",
    );
    it.expect_nothing();
    it.fetch("app.aci --trust-prefix=attacker.org").expect_code(0);
    // What is in the store is held to it, too.
    it.fetch("--pull-policy=never attacker.org/app --trust-prefix=example.com").expect_code(254);
    it.run_with("--insecure-options=image", "fetch other.aci").expect_code(0);
    let ended = it.fetch("--pull-policy=never example.com/other --trust-prefix=example.com");
    ended.expect(
        254,
        "",
        "fetch: image \"example.com/other\" is in the store without a signature, and must be trusted for the prefix \
         \"example.com\"\n",
    );
    let ended = it.fetch("app.aci");
    ended.expect_code(0);
    assert!(ended.stderr.ends_with(", trusted for prefix \"attacker.org\"\n"), "{}", ended.stderr);
}

#[test]
fn c9_a_missing_signature_is_not_an_unsigned_image() {
    let it = Signed::new();
    it.trust("example.com", &TestKey::new("one"));
    let at = it.world.path().display();
    for command in ["fetch app.aci", "fetch app.aci --signature no"] {
        let file = if command.ends_with("no") { "no" } else { "app.aci.asc" };
        it.world.run(&format!("{RKT} {command}")).expect(
            254,
            "",
            &format!(
                "fetch: error opening signature file: opening {at}/{file}: No such file or directory\n\
                 fetch: hint: name the signature's file with --signature, or, if you trust the image, skip the check \
                 with --insecure-options=image\n"
            ),
        );
        it.expect_nothing();
    }
    // A key store that can't be read is not an empty one.
    it.sign(&TestKey::new("two"));
    it.put(&format!("loc/trustedkeys/root.d/{}", "0".repeat(40)), "nonsense");
    let ended = it.fetch("app.aci");
    ended.expect_code(254);
    assert!(ended.stderr.starts_with("fetch: keystore: error loading keyring: "), "{}", ended.stderr);
    it.expect_nothing();
}
