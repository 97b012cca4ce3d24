//! `rkt trust`: the checks, the dialogue and what it leaves (spec cli.md 1.3.9, images.md 2.5).
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::cosign::{CosignKey, other_keys};
use crate::support::keys::TestKey;
use crate::support::server::{Answer, Server};
use crate::support::terminal::OnTerminal;
use crate::support::wait;
use crate::world::World;

const TRUST: &str = "--dir=data --system-config=sys --local-config=loc trust";

/// A fingerprint as the dialogue shows it.
fn spaced(key: &TestKey) -> String {
    spaced_text(&key.fingerprint().to_uppercase())
}

fn spaced_text(digits: &str) -> String {
    let groups: Vec<_> = (0..10).map(|group| &digits[group * 4..group * 4 + 4]).collect();
    format!("{}  {}", groups[..5].join(" "), groups[5..].join(" "))
}

fn world(key: &TestKey) -> World {
    let world = World::new();
    fs::write(world.path().join("key.asc"), key.public()).unwrap();
    world
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_read() {
    let world = World::new();
    let usage = world.run(TRUST);
    usage.expect_code(254);
    assert!(usage.stdout.starts_with("USAGE:\n\trkt trust "), "{}", usage.stdout);
    for (words, error) in [
        (
            "key.asc",
            "aborting due to implicit unbounded trust (root domain)\n\
             trust: to trust the key for images below a prefix: rkt trust --prefix PREFIX PUBKEY\n\
             trust: to trust the key for all images: rkt trust --root PUBKEY",
        ),
        ("--root --prefix=a key.asc", "--root and --prefix usage mutually exclusive"),
        (
            "--root --insecure-options=image key.asc",
            "could not get the keystore\ntrust: hint: leave --insecure-options=image away: with it no key is of use",
        ),
        ("--prefix=https://a key.asc", "--prefix must not contain a URL scheme, omit https://"),
        (
            "--prefix=docker://reg.example.com/app:1 key.asc",
            "invalid prefix \"docker://reg.example.com/app:1\": it has a tag or a digest\n\
             trust: hint: a key is trusted for all images of a name: leave the tag or digest away",
        ),
        (
            "--prefix=docker://reg.example.com/../app key.asc",
            "invalid prefix \"docker://reg.example.com/../app\"; expected syntax is \
             docker://REGISTRY_HOST[:REGISTRY_PORT][/IMAGE_NAME] or docker://IMAGE_NAME",
        ),
        (
            "--prefix=docker://busybox",
            "error determining key location: keys for images of registries are not discovered\n\
             trust: hint: name the file with the publisher's key: \
             rkt trust --prefix=docker://registry-1.docker.io/library/busybox PUBKEY",
        ),
        (
            "--prefix=docker://busybox --allow-sha1-key key.asc",
            "--allow-sha1-key is for OpenPGP keys, and none is trusted for a registry",
        ),
        ("--root", "error determining key location: empty prefix"),
        ("--root http://a/key", "error adding keys: --insecure-allow-http required for http URLs"),
        ("--root ftp://a/key", "error adding keys: only local files and http or https URLs supported"),
        ("--root none.asc", "error adding keys: opening none.asc: No such file or directory"),
        (
            "--root --insecure-options=tls https://a/key",
            "error adding keys: with --insecure-options=tls no keys are downloaded\n\
             trust: hint: --insecure-options=tls,pubkey downloads them from whoever answers",
        ),
    ] {
        world.run(&format!("{TRUST} {words}")).expect(254, "", &format!("trust: {error}\n"));
    }
    assert!(!world.path().join("loc").exists());
}

#[test]
fn a_key_is_stored_for_its_prefix_or_for_all() {
    let key = TestKey::with_subkey("The Publisher <who@example.com>\u{1b}[2J");
    let world = world(&key);
    let shown = format!(
        "gpg key fingerprint is: {}\n    Subkey fingerprint: {}\n\tThe Publisher <who@example.com>\\u{{1b}}[2J\n",
        spaced(&key),
        spaced_text(&key.signing_fingerprint()),
    );
    let at = world.path().join("loc/trustedkeys");
    let file = at.join("prefix.d/example.com/app").join(key.fingerprint());
    world.run(&format!("{TRUST} --prefix=example.com/app --skip-fingerprint-review key.asc")).expect(
        0,
        &format!(
            "{shown}Trusting \"key.asc\" for prefix \"example.com/app\" without fingerprint review.\n\
             Added key for prefix \"example.com/app\" at \"{}\"\n",
            file.display()
        ),
        "pubkey: prefix: \"example.com/app\"\nkey: \"key.asc\"\n",
    );
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(file.parent().unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(fs::read_to_string(&file).unwrap().starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"));
    let file = at.join("root.d").join(key.fingerprint());
    world.run(&format!("{TRUST} --root --skip-fingerprint-review key.asc")).expect(
        0,
        &format!(
            "{shown}Trusting \"key.asc\" for all images without fingerprint review.\nAdded root key at \"{}\"\n",
            file.display()
        ),
        "pubkey: prefix: \"\"\nkey: \"key.asc\"\n",
    );
    assert!(file.exists());
}

#[test]
fn a_key_for_images_is_stored_for_its_registry_or_a_name_there() {
    let world = World::new();
    for (key, kind) in [(CosignKey::p256(), "ECDSA P-256"), (CosignKey::ed25519(), "Ed25519")] {
        fs::write(world.path().join("cosign.pub"), key.public()).unwrap();
        for (prefix, whole, dir) in [
            (
                "docker://Reg.example.com:5000/team",
                "docker://reg.example.com:5000/team",
                "reg.example.com:5000/team",
            ),
            ("docker://reg.example.com", "docker://reg.example.com", "reg.example.com"),
            (
                "docker://busybox",
                "docker://registry-1.docker.io/library/busybox",
                "registry-1.docker.io/library/busybox",
            ),
            ("docker://docker.io/team/", "docker://registry-1.docker.io/team/", "registry-1.docker.io/team"),
        ] {
            let file = world.path().join("loc/trustedkeys/registry.d").join(dir).join(key.fingerprint());
            world.run(&format!("{TRUST} --prefix={prefix} --skip-fingerprint-review cosign.pub")).expect(
                0,
                &format!(
                    "{kind} key, SHA-256 fingerprint is: {}\n\
                     Trusting \"cosign.pub\" for prefix \"{whole}\" without fingerprint review.\n\
                     Added key for prefix \"{whole}\" at \"{}\"\n",
                    key.fingerprint(),
                    file.display()
                ),
                &format!("pubkey: prefix: \"{whole}\"\nkey: \"cosign.pub\"\n"),
            );
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
            assert_eq!(file.parent().unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o755);
            assert_eq!(fs::read_to_string(&file).unwrap(), key.public());
        }
    }
}

#[test]
fn c8_keys_of_the_wrong_kind_are_refused_by_name() {
    let world = World::new();
    let (pgp, image) = (TestKey::new("one"), CosignKey::p256());
    let mut files = vec![
        (
            "docker://reg.example.com",
            pgp.public(),
            "it is an OpenPGP key, and images of registries are signed with ECDSA P-256 or Ed25519 keys in PEM",
            "a prefix without docker:// trusts it for App Container Images of that name",
        ),
        (
            "docker://reg.example.com",
            image.private(),
            "it holds a private key",
            "name the public key, which `cosign public-key --key KEY` or `openssl pkey -in KEY -pubout` prints",
        ),
        (
            "docker://reg.example.com",
            "<html></html>".to_owned(),
            "it is not a public key in PEM",
            "`cosign public-key --key KEY` and `openssl pkey -in KEY -pubout` make such a file",
        ),
        (
            "reg.example.com",
            image.public(),
            "it is a key in PEM, which is for images of registries",
            "a prefix that begins with docker:// trusts it for a registry, or for a name there",
        ),
    ];
    let others: Vec<_> = other_keys()
        .into_iter()
        .map(|(text, what)| {
            (
                text,
                format!("it is {what}, and images of registries are signed with ECDSA P-256 or Ed25519 keys"),
            )
        })
        .collect();
    for (text, what) in &others {
        files.push((
            "docker://reg.example.com",
            text.clone(),
            what,
            "ask the publisher for a signature by such a key, as `cosign generate-key-pair` makes it",
        ));
    }
    for (prefix, text, problem, hint) in files {
        fs::write(world.path().join("key"), text).unwrap();
        world.run(&format!("{TRUST} --prefix={prefix} --skip-fingerprint-review key")).expect(
            254,
            "",
            &format!(
                "pubkey: prefix: \"{prefix}\"\nkey: \"key\"\n\
                 trust: error adding keys: key: {problem}\ntrust: hint: {hint}\n"
            ),
        );
    }
    assert!(!world.path().join("loc").exists());
}

#[test]
fn c8_nobody_trusts_in_silence() {
    let image = CosignKey::ed25519();
    let pub_world = World::new();
    fs::write(pub_world.path().join("cosign.pub"), image.public()).unwrap();
    pub_world.run(&format!("{TRUST} --prefix=docker://docker.io/team/ cosign.pub")).expect(
        254,
        &format!("Ed25519 key, SHA-256 fingerprint is: {}\n", image.fingerprint()),
        "pubkey: prefix: \"docker://registry-1.docker.io/team/\"\nkey: \"cosign.pub\"\n\
         pubkey: To trust the key, do one of the following:\n\
         pubkey:  - call rkt with --trust-keys-from-https\n\
         pubkey:  - run: rkt trust --prefix \"docker://registry-1.docker.io/team/\"\n\
         trust: error adding keys: error reviewing key: unable to ask user to review fingerprint due to lack of tty\n",
    );
    assert!(!pub_world.path().join("loc").exists());
    let key = TestKey::new("one");
    let world = world(&key);
    let ended = world.run(&format!("{TRUST} --prefix=example.com key.asc"));
    ended.expect(
        254,
        &format!("gpg key fingerprint is: {}\n\tone\n", spaced(&key)),
        "pubkey: prefix: \"example.com\"\nkey: \"key.asc\"\n\
         pubkey: To trust the key, do one of the following:\n\
         pubkey:  - call rkt with --trust-keys-from-https\n\
         pubkey:  - run: rkt trust --prefix \"example.com\"\n\
         trust: error adding keys: error reviewing key: unable to ask user to review fingerprint due to lack of tty\n",
    );
    // A file did not come by HTTPS.
    world.run(&format!("--trust-keys-from-https {TRUST} --prefix=example.com key.asc")).expect_code(254);
    assert!(!world.path().join("loc").exists());
}

#[test]
fn only_yes_and_no_end_the_dialogue() {
    let key = TestKey::new("one");
    let world = world(&key);
    let words = || {
        let mut words = vec![env!("CARGO_BIN_EXE_rkt").to_owned()];
        let config = format!("--local-config={}/loc", world.path().display());
        words.extend([config, "--dir=/no".into(), "trust".into(), "--prefix=example.com".into()]);
        words.push(world.path().join("key.asc").display().to_string());
        words
    };
    let mut session = OnTerminal::start(words());
    session.wait_for("Are you sure you want to trust this key (yes/no)?");
    session.type_in(b"y\n");
    session.wait_for("Please enter 'yes' or 'no'");
    session.type_in(b"no\n");
    let (status, screen) = session.end(wait::patience());
    assert_eq!(status.code(), Some(0), "{screen}");
    assert!(screen.contains("pubkey: not trusting \""), "{screen}");
    assert!(!world.path().join("loc").exists());

    let mut session = OnTerminal::start(words());
    session.wait_for("(yes/no)?");
    session.type_in(b"yes\n");
    let (status, screen) = session.end(wait::patience());
    assert_eq!(status.code(), Some(0), "{screen}");
    assert!(screen.contains("for prefix \"example.com\" after fingerprint review."), "{screen}");
    let file = world.path().join("loc/trustedkeys/prefix.d/example.com").join(key.fingerprint());
    assert!(file.exists());
}

#[test]
fn what_is_no_key_for_us_is_refused() {
    let key = TestKey::new("one");
    let world = world(&key);
    fs::write(world.path().join("secret.asc"), key.private()).unwrap();
    fs::write(world.path().join("page.asc"), "<html></html>").unwrap();
    let old = TestKey::with_sha1_binding("old");
    fs::write(world.path().join("old.asc"), old.public()).unwrap();
    let trust = |words: &str| world.run(&format!("{TRUST} --root --skip-fingerprint-review {words}"));
    for (file, error) in [
        (
            "secret.asc",
            "it holds a private key\ntrust: hint: export the public key with `gpg --export --armor KEY`",
        ),
        (
            "page.asc",
            "it is not an ASCII-armored public key\ntrust: hint: `gpg --export --armor KEY` makes such a file",
        ),
    ] {
        trust(file).expect(
            254,
            "",
            &format!("pubkey: prefix: \"\"\nkey: \"{file}\"\ntrust: error adding keys: {file}: {error}\n"),
        );
    }
    let refused = trust("old.asc");
    refused.expect_code(254);
    assert!(refused.stderr.ends_with("allow it with --allow-sha1-key\n"), "{}", refused.stderr);
    assert!(!world.path().join("loc").exists());
    // The opt-in is by key, and a file beside it.
    trust("--allow-sha1-key old.asc").expect_code(0);
    let mut names: Vec<_> = fs::read_dir(world.path().join("loc/trustedkeys/root.d"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [old.fingerprint(), format!("{}.allow-sha1", old.fingerprint())]);
}

#[test]
fn keys_come_by_https_from_a_page_or_an_url() {
    let key = TestKey::new("one");
    let public = key.public();
    let server = Server::start(move |asked| match asked.url().as_str() {
        "https://example.com/app?ac-discovery=1" => Answer::status(404),
        "https://example.com?ac-discovery=1" | "https://example.com/?ac-discovery=1" => Answer::ok(
            "<meta name=ac-discovery-pubkeys content='example.com https://keys.example.com/key.asc'>",
        ),
        "https://keys.example.com/key.asc" | "http://plain.example.com/key.asc" => Answer::ok(public.clone()),
        _ => Answer::status(404),
    });
    let world = World::new();
    let trust = |words: &str| {
        let mut run = world.rkt(&format!("{TRUST} {words}"));
        for (name, value) in server.environment() {
            run = run.env(name, value);
        }
        run.end()
    };
    let file = world.path().join("loc/trustedkeys/prefix.d/example.com/app").join(key.fingerprint());
    let added = |location: &str| {
        format!(
            "gpg key fingerprint is: {}\n\tone\n\
             Trusting \"{location}\" for prefix \"example.com/app\" without fingerprint review.\n\
             Added key for prefix \"example.com/app\" at \"{}\"\n",
            spaced(&key),
            file.display()
        )
    };
    let location = "https://keys.example.com/key.asc";
    trust("--prefix=example.com/app --trust-keys-from-https").expect(
        0,
        &added(location),
        &format!("pubkey: prefix: \"example.com/app\"\nkey: \"{location}\"\n"),
    );
    assert_eq!(
        server.take_log(),
        [
            "GET https://example.com/app?ac-discovery=1",
            "GET https://example.com/?ac-discovery=1",
            "GET https://keys.example.com/key.asc"
        ]
    );
    let plain = "http://plain.example.com/key.asc";
    trust(&format!("--prefix=example.com/app --insecure-allow-http --skip-fingerprint-review {plain}"))
        .expect(0, &added(plain), &format!("pubkey: prefix: \"example.com/app\"\nkey: \"{plain}\"\n"));
    trust("--prefix=other.org").expect(
        254,
        "",
        "trust: error determining key location: discovery failed for \"other.org\": bad HTTP status code: 404 \
         (https://other.org)\n\
         trust: hint: if the image is not published by its name, give its URL, or a file\n",
    );
}

#[test]
fn what_a_killed_trust_has_left_goes_with_the_next_key() {
    let world = World::new();
    let (pgp, image) = (TestKey::new("one"), CosignKey::p256());
    for (prefix, dir, public, fingerprint) in [
        ("example.com", "prefix.d/example.com", pgp.public(), pgp.fingerprint()),
        ("docker://example.com/team", "registry.d/example.com/team", image.public(), image.fingerprint()),
    ] {
        fs::write(world.path().join("key"), public).unwrap();
        let dir = world.path().join("loc/trustedkeys").join(dir);
        trust_again(&world, prefix, &dir, &dir.join(fingerprint));
    }
}

/// Stores the key of the file `key` as `file`, whatever is there.
fn trust_again(world: &World, prefix: &str, dir: &Path, file: &Path) {
    let trust = || {
        let line = format!("{TRUST} --prefix={prefix} --skip-fingerprint-review key");
        world.run(&line).expect_code(0);
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
        assert_eq!(file.symlink_metadata().unwrap().permissions().mode() & 0o7777, 0o644);
    };
    trust();
    let stored = fs::read_to_string(file).unwrap();
    fs::write(dir.join(".tmp-0123"), "half a k").unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
    trust();
    // It was as it should be.
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap()), inode);
    // An older copy, a mask and a wrong mode give way.
    for text in ["older", ""] {
        fs::write(file, text).unwrap();
        trust();
        assert_eq!(fs::read_to_string(file).unwrap(), stored);
    }
    fs::remove_file(file).unwrap();
    std::os::unix::fs::symlink("/dev/null", file).unwrap();
    trust();
    assert_eq!(fs::read_to_string(file).unwrap(), stored);
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    trust();
}
