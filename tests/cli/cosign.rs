//! Signatures of registry images against the real binary: rows B13 and C1 to C9 of the threat table for images that cosign
//! has signed. Each refusal has words of its own, asks for nothing that the signature should have covered, and leaves
//! nothing in the store.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use crate::registry::{Content, HOST, Registry, image};
use crate::support::cosign::{CosignKey, base64, payload};
use crate::support::keys::TestKey;
use crate::support::names;
use crate::support::oci::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, architecture, digest};
use crate::support::run::Ended;
use crate::support::server::Answer;

const NAME: &str = "reg.example.com/team/app";
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// A payload and what is said to be its signature.
struct Entry {
    payload: Vec<u8>,
    layer: Value,
}

impl Entry {
    fn new(payload: impl Into<Vec<u8>>, signature: &[u8]) -> Self {
        let payload = payload.into();
        let layer = json!({
            "mediaType": PAYLOAD,
            "size": payload.len(),
            "digest": digest(&payload),
            "annotations": {SIGNATURE: base64(signature)},
        });
        Self { payload, layer }
    }

    fn by(key: &CosignKey, payload: impl Into<Vec<u8>>) -> Self {
        let payload = payload.into();
        let signature = key.sign(&payload);
        Self::new(payload, &signature)
    }

    /// A good signature.
    fn good(key: &CosignKey, of: &str) -> Self {
        Self::by(key, payload(NAME, of).to_string())
    }

    fn with(mut self, member: &str, value: Value) -> Self {
        self.layer[member] = value;
        self
    }
}

fn tag_of(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

/// Puts signatures beside the image with the digest `of`.
fn sign(content: &mut Content, of: &str, entries: Vec<Entry>) {
    let layers: Vec<_> = entries.iter().map(|entry| entry.layer.clone()).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "size": 2, "digest": digest(b"{}")},
        "layers": layers,
    });
    content.manifests.insert(tag_of(of), (OCI_MANIFEST, manifest.to_string().into_bytes()));
    for entry in entries {
        content.blobs.insert(entry.layer["digest"].as_str().unwrap().to_owned(), entry.payload);
    }
}

/// The digest of the image number `number`.
fn manifest_digest(number: u32) -> String {
    digest(&image(number).blobs().pop().unwrap())
}

impl Registry {
    fn trust(&self, prefix: &str, key: &CosignKey) {
        fs::write(self.world.path().join("cosign.pub"), key.public()).unwrap();
        self.run(&format!("trust --prefix={prefix} --skip-fingerprint-review cosign.pub")).expect_code(0);
    }

    fn sign(&self, of: &str, entries: Vec<Entry>) {
        sign(&mut self.content.lock().unwrap(), of, entries);
    }

    fn fetch_signed(&self, reference: &str) -> Ended {
        self.run(&format!("fetch --full docker://{reference}"))
    }

    /// The image `NAME:1` is refused with this cause and this hint; nothing of it has been asked for, and the store is
    /// empty.
    fn refused_signature(&self, cause: &str, hint: &str) {
        let reference = format!("{NAME}:1");
        let pinned = digest(&self.content.lock().unwrap().manifests["1"].1);
        let hint = hint.split('\n').collect::<Vec<_>>().join("\nfetch: ");
        let expected = format!(
            "image: docker://{reference} is {pinned}\n\
             fetch: image docker://{reference} verification failed: {cause}\nfetch: hint: {hint}\n"
        );
        self.server.take_log();
        // No other switch softens it.
        for flags in ["", "--insecure-options=http,tls,pubkey,ondisk "] {
            self.run(&format!("{flags}fetch --full docker://{reference}")).expect(254, "", &expected);
        }
        for asked in self.server.take_log() {
            let wanted =
                asked.ends_with("/manifests/1") || asked.ends_with(".sig") || self.is_payload(&asked);
            assert!(wanted, "{asked}");
        }
        self.expect_nothing();
    }

    fn is_payload(&self, asked: &str) -> bool {
        let content = self.content.lock().unwrap();
        let pinned = digest(&content.manifests["1"].1);
        let Some((_, signatures)) = content.manifests.get(&tag_of(&pinned)) else { return false };
        asked.rsplit_once('/').is_some_and(|(_, name)| String::from_utf8_lossy(signatures).contains(name))
    }

    fn expect_nothing(&self) {
        for dir in ["image", "layer", "tree", "tmp"] {
            let path = self.world.path().join("data/cas").join(dir);
            assert!(!path.exists() || names(&path).is_empty(), "{dir}");
        }
        self.run("image list --format=json").expect(0, "null\n", "");
    }

    fn signer(&self) -> Option<String> {
        let list = self.run("image list --format=json").stdout;
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
        list[0]["signer"].as_str().map(str::to_owned)
    }
}

fn told(reference: &str, digest: &str, key: &CosignKey, prefix: &str) -> String {
    format!(
        "image: docker://{reference} is {digest}\nimage: signature verified:\n  key {}, trusted for prefix \"{prefix}\"\n",
        key.fingerprint()
    )
}

#[test]
fn a_signed_image_is_fetched_by_digest_and_shows_its_signer() {
    for (key, prefix) in [
        (CosignKey::p256(), "docker://reg.example.com"),
        (CosignKey::ed25519(), "docker://reg.example.com/team"),
        (CosignKey::p256(), "docker://reg.example.com/team/app"),
    ] {
        let registry = Registry::new(|_, _| None);
        let pinned = manifest_digest(1);
        registry.trust(prefix, &key);
        // Others may have signed it too, and nonsense may be among it.
        let stranger = CosignKey::p256();
        let mut other = Entry::good(&stranger, &pinned);
        other.layer["mediaType"] = json!("application/octet-stream");
        registry.sign(
            &pinned,
            vec![
                other,
                Entry::good(&stranger, &pinned),
                Entry::new("{}", b"nonsense"),
                Entry::good(&key, &manifest_digest(2)),
                Entry::good(&key, &pinned),
            ],
        );
        let ended = registry.fetch_signed(&format!("{NAME}:1"));
        ended.expect(0, &ended.stdout, &told(&format!("{NAME}:1"), &pinned, &key, prefix));
        let asked = registry.server.take_log();
        let places: Vec<_> =
            asked.iter().map(|asked| asked.rsplit_once("/v2/team/app/").unwrap().1).collect();
        assert_eq!(places[..2], ["manifests/1".to_owned(), format!("manifests/{}", tag_of(&pinned))]);
        assert!(places[2..].iter().all(|place| place.starts_with("blobs/sha256:")), "{places:?}");
        assert_eq!(registry.signer(), Some(key.fingerprint()));
        let list = registry.run("image list --full --no-legend").stdout;
        assert!(list.trim_end().ends_with(&format!("\t{}", key.fingerprint())), "{list}");
        let image = ended.stdout.trim();
        let record =
            fs::read_to_string(registry.world.path().join("data/cas/image").join(image).join("record"));
        let record: Value = serde_json::from_str(&record.unwrap()).unwrap();
        assert_eq!(record["signer"], json!({"fingerprint": key.fingerprint(), "prefix": prefix}));
        // By its digest it has the same signature, and no tag is told.
        let again = registry.fetch_signed(&format!("{NAME}@{pinned}"));
        let verified = told("", "", &key, prefix).split_once('\n').unwrap().1.to_owned();
        again.expect(0, &ended.stdout, &verified);
        // People sign the SHA-256, whatever digest an image is asked for by.
        let manifest = registry.content.lock().unwrap().manifests["1"].clone();
        let hex: String = Sha512::digest(&manifest.1).iter().map(|byte| format!("{byte:02x}")).collect();
        registry.content.lock().unwrap().manifests.insert(format!("sha512:{hex}"), manifest);
        registry.fetch_signed(&format!("{NAME}@sha512:{hex}")).expect(0, &ended.stdout, &verified);
    }
}

#[test]
fn the_signature_of_an_index_is_looked_for_not_that_of_what_it_lists() {
    let registry = Registry::new(|_, _| None);
    let key = CosignKey::p256();
    registry.trust("docker://reg.example.com/team", &key);
    let mut here = image(1).entry(None);
    here["platform"] = json!({"os": "linux", "architecture": architecture()});
    let index =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [here]}).to_string().into_bytes();
    let pinned = digest(&index);
    registry.content.lock().unwrap().manifests.insert("1".into(), (OCI_INDEX, index));
    registry.sign(&manifest_digest(1), vec![Entry::good(&key, &manifest_digest(1))]);
    registry.refused_signature(
        &format!("it has no signature: there is no {} in {NAME}", tag_of(&pinned)),
        BY_TAG,
    );
    // What it lists can be asked for itself.
    registry.fetch_signed(&format!("{NAME}@{}", manifest_digest(1))).expect_code(0);
    registry.sign(&pinned, vec![Entry::good(&key, &pinned)]);
    let ended = registry.fetch_signed(&format!("{NAME}:1"));
    ended.expect(
        0,
        &ended.stdout,
        &told(&format!("{NAME}:1"), &pinned, &key, "docker://reg.example.com/team"),
    );
}

/// `NAME:1` in a registry whose team's key is trusted, to be signed in a certain way.
struct Case {
    registry: Registry,
    key: CosignKey,
    stranger: CosignKey,
    /// Its digest, and the tag of its signatures.
    of: String,
    tag: String,
}

impl Case {
    fn new() -> Self {
        let registry = Registry::new(|_, _| None);
        let key = CosignKey::p256();
        registry.trust("docker://reg.example.com/team", &key);
        let of = manifest_digest(1);
        Self { registry, key, stranger: CosignKey::ed25519(), tag: tag_of(&of), of }
    }

    fn refused(&self, entries: Vec<Entry>, cause: &str, hint: &str) {
        self.registry.sign(&self.of, entries);
        self.registry.refused_signature(cause, hint);
    }
}

const SIGN_AGAIN: &str = "ask the publisher to sign the image again: `cosign sign --key KEY IMAGE@DIGEST`";
const BY_TAG: &str = "only signatures are found that cosign stores by tag, as cosign 3 does with \
                      --new-bundle-format=false; if you trust the image, skip the check with --insecure-options=image";

#[test]
fn c9_an_image_without_a_signature_is_refused() {
    let it = Case::new();
    let missing = format!("it has no signature: there is no {} in {NAME}", it.tag);
    it.registry.refused_signature(&missing, BY_TAG);
    let empty = format!("{} holds no signatures", it.tag);
    it.refused(Vec::new(), &empty, BY_TAG);
    it.refused(vec![Entry::good(&it.key, &it.of).with("mediaType", json!("text/plain"))], &empty, BY_TAG);
}

#[test]
fn a_signature_by_nobody_who_is_trusted_is_refused() {
    let it = Case::new();
    let unknown = format!("no signature in {} was made by a key that is trusted for {NAME}", it.tag);
    let hint = format!(
        "If you expected the signing key to change, try running:\n    rkt trust --prefix=docker://{NAME} PUBKEY"
    );
    let statement = payload(NAME, &it.of).to_string();
    let good = it.key.sign(statement.as_bytes());
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for entries in [
        vec![Entry::good(&it.stranger, &it.of)],
        vec![Entry::new(statement.clone(), &it.key.sign(b"other bytes"))],
        vec![Entry::new(statement.clone(), &flipped)],
        vec![Entry::new(statement.clone(), b"")],
        // The very bytes count, not what they mean.
        vec![Entry::new(format!("{statement}\n"), &good)],
        vec![
            Entry::good(&it.stranger, &it.of).with("annotations", json!({})),
            Entry::good(&it.stranger, &it.of),
        ],
    ] {
        it.refused(entries, &unknown, &hint);
    }
}

#[test]
fn b8_a_malformed_or_endless_signature_is_refused() {
    let it = Case::new();
    for (member, value, problem) in [
        ("annotations", json!({}), "it is missing beside its payload"),
        ("annotations", json!({SIGNATURE: "no base64"}), "it is not in base64"),
        ("annotations", json!({SIGNATURE: "MEUCIQ"}), "it is not in base64"),
        ("size", json!(65537), "its payload has 65537 bytes, and at most 65536 are read"),
        ("size", json!(1_u64 << 60), "its payload has 1152921504606846976 bytes, and at most 65536 are read"),
    ] {
        let cause = format!("a signature in {} is malformed: {problem}", it.tag);
        it.refused(vec![Entry::good(&it.key, &it.of).with(member, value)], &cause, SIGN_AGAIN);
    }
    let many = (0..65).map(|_| Entry::good(&it.key, &it.of)).collect();
    it.refused(many, &format!("{} holds 65 signatures, and at most 64 are looked at", it.tag), SIGN_AGAIN);
}

#[test]
fn b1_what_is_no_list_of_signatures_is_refused() {
    let it = Case::new();
    let of_index =
        format!("it says to be of the type \"{OCI_INDEX}\", and the reference to it says \"{OCI_MANIFEST}\"");
    let is_index = format!("it is of the type \"{OCI_INDEX}\", and a manifest is wanted");
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "layers": []}).to_string();
    for (kind, bytes, problem) in [
        (OCI_MANIFEST, "{", "JSON error at line 1, column 1: EOF while parsing an object"),
        (
            OCI_MANIFEST,
            r#"{"schemaVersion":2,"layers":[],"layers":[]}"#,
            "JSON error at line 1, column 39: the member \"layers\" is given twice",
        ),
        (
            OCI_MANIFEST,
            r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#,
            "manifests: must not be in a manifest",
        ),
        (
            OCI_MANIFEST,
            r#"{"schemaVersion":1,"layers":[]}"#,
            "schemaVersion: must be 2, not 1: older images must be converted by who publishes them",
        ),
        (OCI_MANIFEST, &index, &of_index),
        (OCI_INDEX, &index, &is_index),
    ] {
        it.registry
            .content
            .lock()
            .unwrap()
            .manifests
            .insert(it.tag.clone(), (kind, bytes.as_bytes().to_vec()));
        it.registry.refused_signature(&format!("{} holds no signatures: {problem}", it.tag), SIGN_AGAIN);
    }
}

#[test]
fn a_malformed_payload_is_refused_though_a_trusted_key_has_signed_it() {
    let it = Case::new();
    let with = |path: &str, value: Value| {
        let mut statement = payload(NAME, &it.of);
        *statement.pointer_mut(path).unwrap() = value;
        statement.to_string()
    };
    let kind = "critical.type: must be \"cosign container image signature\"";
    let digest = "critical.image.docker-manifest-digest";
    for (payload, problem) in [
        ("{".to_owned(), "JSON error at line 1, column 1: EOF while parsing an object".to_owned()),
        ("{}".to_owned(), "critical: must be set".to_owned()),
        (
            r#"{"critical":{},"critical":{}}"#.to_owned(),
            "JSON error at line 1, column 25: the member \"critical\" is given twice".to_owned(),
        ),
        (with("/critical/type", json!("atomic container signature")), kind.to_owned()),
        (with("/critical/image", json!({"Docker-manifest-digest": it.of})), format!("{digest}: must be set")),
        (
            with("/critical/image/docker-manifest-digest", json!("../../x")),
            format!(
                "{digest}: \"../../x\" is not a digest: it must be \"sha256:\" and 64, or \"sha512:\" and 128 lower-case \
                 hex digits"
            ),
        ),
        (
            with("/critical/identity/docker-reference", json!(1)),
            "critical.identity.docker-reference: must be a string, not a number".to_owned(),
        ),
    ] {
        let cause =
            format!("the payload that key {} has signed is malformed: {problem}", it.key.fingerprint());
        it.refused(vec![Entry::by(&it.key, payload)], &cause, SIGN_AGAIN);
    }
}

#[test]
fn c6_a_signature_of_another_image_is_refused() {
    let it = Case::new();
    let (fpr, second) = (it.key.fingerprint(), manifest_digest(2));
    it.refused(
        vec![Entry::good(&it.stranger, &it.of), Entry::good(&it.key, &second)],
        &format!("key {fpr} has signed another image, {second}, and not {}", it.of),
        SIGN_AGAIN,
    );
}

#[test]
fn c6_a_signature_under_another_name_is_refused() {
    let it = Case::new();
    let named = |name: &str| vec![Entry::by(&it.key, payload(name, &it.of).to_string())];
    for name in [
        "reg.example.com/team/other",
        "reg.example.com/team/app/below",
        "reg.example.com/team",
        "reg.example.com:5000/team/app",
        "other.example.com/team/app",
        "team/app",
        "reg.example.com/team/app:2",
        "Not A Name",
    ] {
        let cause =
            format!("key {} has signed this image as \"{name}\", and not as {NAME}:1", it.key.fingerprint());
        let hint = "get it by the name that was signed, or ask the publisher for a signature of this name";
        it.refused(named(name), &cause, hint);
    }
    for name in ["", NAME, "reg.example.com/team/app:1", &format!("{NAME}@{}", manifest_digest(2))] {
        it.registry.sign(&it.of, named(name));
        it.registry.fetch_signed(&format!("{NAME}:1")).expect_code(0);
    }
}

#[test]
fn a_payload_is_held_to_its_descriptor() {
    let registry = Registry::new(|_, _| None);
    let key = CosignKey::p256();
    let of = manifest_digest(1);
    registry.trust("docker://reg.example.com/team", &key);
    let entry = Entry::good(&key, &of);
    let listed = entry.layer["digest"].as_str().unwrap().to_owned();
    let length = entry.payload.len();
    registry.sign(&of, vec![entry]);
    for (bytes, problem) in [
        (vec![b' '; length], format!("{listed} has the digest ")),
        (
            vec![b' '; length + 1],
            format!("{listed} has {} bytes, and its descriptor says {length}", length + 1),
        ),
        (vec![b' '; 5 << 20], "larger than".to_owned()),
    ] {
        registry.content.lock().unwrap().blobs.insert(listed.clone(), bytes);
        let ended = registry.fetch_signed(&format!("{NAME}:1"));
        ended.expect_code(254);
        assert!(ended.stderr.contains(&problem), "{}", ended.stderr);
        registry.expect_nothing();
    }
}

#[test]
fn c1_a_key_counts_below_its_prefix_only_and_can_be_taken_away() {
    let registry = Registry::new(|_, _| None);
    let key = CosignKey::ed25519();
    let of = manifest_digest(1);
    registry.sign(&of, vec![Entry::good(&key, &of)]);
    let refused = |registry: &Registry| {
        registry.server.take_log();
        registry.fetch_signed(&format!("{NAME}:1")).expect(
            254,
            "",
            &format!(
                "fetch: signature verification for docker images is not supported without a trusted key (try \
                 --insecure-options=image)\n\
                 fetch: hint: trust the publisher's key with `rkt trust --prefix=docker://{NAME} PUBKEY`, or, if you trust \
                 where the image comes from, skip the check with --insecure-options=image\n"
            ),
        );
        assert_eq!(registry.server.take_log(), [""; 0], "nobody is asked");
        registry.expect_nothing();
    };
    for prefix in [
        "docker://reg.example.com/tea",
        "docker://reg.example.com/teamx",
        "docker://reg.example.com/team/ap",
        "docker://reg.example.com/team/app/below",
        "docker://reg.example.com:5000",
        "docker://example.com/team",
        "docker://team/app",
    ] {
        registry.trust(prefix, &key);
        refused(&registry);
    }
    // An OpenPGP key of the same name is for other images.
    let pgp = TestKey::new("one");
    let put = |path: String, text: String| {
        let path = registry.world.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put(format!("loc/trustedkeys/prefix.d/{NAME}/{}", pgp.fingerprint()), pgp.public());
    put(format!("loc/trustedkeys/root.d/{}", pgp.fingerprint()), pgp.public());
    refused(&registry);
    // The vendor's key, masked by the administrator.
    put(format!("sys/trustedkeys/registry.d/{HOST}/team/{}", key.fingerprint()), key.public());
    put(format!("loc/trustedkeys/registry.d/{HOST}/{}", key.fingerprint()), String::new());
    refused(&registry);
    fs::remove_file(
        registry.world.path().join(format!("loc/trustedkeys/registry.d/{HOST}/{}", key.fingerprint())),
    )
    .unwrap();
    // A key store that can't be read is not an empty one.
    let broken = format!("loc/trustedkeys/registry.d/{HOST}/{}", "0".repeat(64));
    put(broken.clone(), "nonsense".into());
    let ended = registry.fetch_signed(&format!("{NAME}:1"));
    ended.expect_code(254);
    assert!(ended.stderr.starts_with("fetch: keystore: error loading keyring: "), "{}", ended.stderr);
    fs::remove_file(registry.world.path().join(broken)).unwrap();
    registry.expect_nothing();
    registry.fetch_signed(&format!("{NAME}:1")).expect_code(0);
}

#[test]
fn b13_a_tag_that_moves_after_it_was_verified_moves_nothing() {
    let has_moved = AtomicBool::new(false);
    let registry = Registry::new(move |asked, content| {
        // The second time, and for ever, the tag leads to another image.
        (asked.path.ends_with("/manifests/1") && has_moved.swap(true, Ordering::SeqCst)).then(|| {
            let (kind, bytes) = &content.manifests["2"];
            Answer::ok(bytes.clone()).header("Content-Type", kind)
        })
    });
    let key = CosignKey::p256();
    registry.content.lock().unwrap().add("2", &image(2));
    registry.trust("docker://reg.example.com/team", &key);
    registry.sign(&manifest_digest(1), vec![Entry::good(&key, &manifest_digest(1))]);
    let ended = registry.fetch_signed(&format!("{NAME}:1"));
    ended.expect_code(0);
    let oci = registry.world.path().join("data/cas/image").join(ended.stdout.trim()).join("oci-manifest");
    assert_eq!(digest(&fs::read(oci).unwrap()), manifest_digest(1));
    // What the tag leads to now has no signature, and what was verified stays.
    let moved = registry.fetch_signed(&format!("{NAME}:1"));
    moved.expect_code(254);
    assert!(moved.stderr.contains(&tag_of(&manifest_digest(2))), "{}", moved.stderr);
    assert_eq!(registry.signer(), Some(key.fingerprint()));
    registry.run(&format!("fetch --full --pull-policy=never docker://{NAME}:1")).expect(0, &ended.stdout, "");
}

#[test]
fn c9_what_came_without_a_signature_is_not_taken_for_signed() {
    let registry = Registry::new(|asked, content| {
        let rest = asked.path.strip_prefix("/v2/team/other/")?;
        let mut here = asked.clone();
        here.path = format!("/v2/team/app/{rest}");
        Some(content.answer(&here))
    });
    let key = CosignKey::p256();
    let of = manifest_digest(1);
    let insecure = registry.fetch(&format!("docker://{NAME}:1"));
    insecure.expect_code(0);
    assert_eq!(registry.signer(), None);
    registry.trust("docker://reg.example.com/team", &key);
    // The same image, and it must be verified all the same.
    let missing = registry.fetch_signed(&format!("{NAME}:1"));
    missing.expect_code(254);
    assert!(missing.stderr.contains("it has no signature"), "{}", missing.stderr);
    assert_eq!(registry.signer(), None);
    let demanded =
        registry.run(&format!("fetch --pull-policy=never docker://{NAME}:1 --trust-prefix={NAME}"));
    demanded.expect(
        254,
        "",
        &format!(
            "fetch: image \"{NAME}\" is in the store without a signature, and must be trusted for the prefix \"{NAME}\"\n"
        ),
    );
    registry.sign(&of, vec![Entry::good(&key, &of)]);
    registry.fetch_signed(&format!("{NAME}:1")).expect(
        0,
        &insecure.stdout,
        &told(&format!("{NAME}:1"), &of, &key, "docker://reg.example.com/team"),
    );
    assert_eq!(registry.signer(), Some(key.fingerprint()));
    // The same bytes by the same name keep their signer, as those of other images do.
    registry.fetch(&format!("docker://{NAME}:1")).expect_code(0);
    assert_eq!(registry.signer(), Some(key.fingerprint()));
    // By another name, for which nobody has signed them, they don't.
    registry.fetch("docker://reg.example.com/team/other:1").expect_code(0);
    assert_eq!(registry.signer(), None);
}

#[test]
fn c7_a_prefix_that_is_demanded_is_asked_about_first() {
    let registry = Registry::new(|_, _| None);
    let key = CosignKey::p256();
    let of = manifest_digest(1);
    registry.trust("docker://reg.example.com/team", &key);
    registry.sign(&of, vec![Entry::good(&key, &of)]);
    registry.run(&format!("fetch docker://{NAME}:1 --trust-prefix=reg.example.com/tea")).expect(
        254,
        "",
        &format!(
            "fetch: image \"{NAME}\" is not below the prefix \"reg.example.com/tea\" that it must be trusted for\n"
        ),
    );
    assert_eq!(registry.server.take_log(), [""; 0]);
    registry.expect_nothing();
    registry.run(&format!("fetch docker://{NAME}:1 --trust-prefix=reg.example.com/team")).expect_code(0);
}

#[test]
fn c9_only_a_server_that_says_so_has_no_signature() {
    let registry = Registry::new(|asked, _| asked.path.ends_with(".sig").then(|| Answer::status(403)));
    let key = CosignKey::p256();
    registry.trust("docker://reg.example.com/team", &key);
    let of = manifest_digest(1);
    let ended = registry.fetch_signed(&format!("{NAME}:1"));
    let refused = format!(
        "image: docker://{NAME}:1 is {of}\nfetch: image docker://{NAME}:1: {NAME}: bad HTTP status code: 403\n"
    );
    ended.expect_code(254);
    assert!(ended.stderr.starts_with(&refused), "{}", ended.stderr);
    registry.expect_nothing();
}

#[test]
fn c9_who_has_waited_does_not_take_what_another_process_fetched_unsigned() {
    let (held, is_held) = channel();
    let (release, released) = channel();
    let hold = Mutex::new(Some((held, released)));
    let registry = Registry::new(move |asked, _| {
        if asked.path.contains("/blobs/")
            && let Some((held, released)) = hold.lock().unwrap().take()
        {
            held.send(()).unwrap();
            released.recv().unwrap();
        }
        None
    });
    let key = CosignKey::p256();
    registry.trust("docker://reg.example.com/team", &key);
    let insecure = registry.rkt(&format!("--insecure-options=image fetch --full docker://{NAME}:1")).start();
    is_held.recv().unwrap();
    let mut signed = registry.rkt(&format!("fetch --full docker://{NAME}:1")).start();
    signed.wait_for_stderr("another rkt instance is downloading this image, waiting...");
    release.send(()).unwrap();
    insecure.end().expect_code(0);
    let ended = signed.end();
    ended.expect_code(254);
    assert!(ended.stderr.contains("verification failed: it has no signature"), "{}", ended.stderr);
    assert_eq!(registry.signer(), None);
}
