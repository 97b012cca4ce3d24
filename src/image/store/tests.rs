use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::*;
use crate::image::reference::NameReference;
use crate::image::stream::Limits;
use crate::image::tar_writer::{Member, Tar, manifest};
use crate::image::test_keys::TestKey;
use crate::image::trust::{Keystore, PublicKey, Scope, SelfSignatures, SignatureFile, TrustedFor};
use crate::os::lock::{Lock, Sharing};

/// A store in a directory that goes away with it.
pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
    pub(super) store: Store,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("data")).unwrap();
        Self { dir, store }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("image.aci");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(super) fn import(&self, bytes: &[u8]) -> Result<Imported, ImportError> {
        self.store.import_file(&self.file(bytes), &skipped())
    }

    /// The names in a directory of the store.
    pub(super) fn names(&self, dir: &str) -> Vec<String> {
        let mut names = names_in(&self.store.cas.join(dir)).unwrap();
        names.sort();
        names
    }

    fn assert_empty(&self) {
        for dir in ["image", "tmp", "tree"] {
            assert_eq!(self.names(dir), [""; 0], "{dir}");
        }
        assert_eq!(self.store.list().unwrap(), (vec![], vec![]));
    }
}

fn skipped() -> ImportOptions<'static> {
    ImportOptions {
        verification: Verification::Skipped,
        asked: Asked::ForThisOne,
        limits: Limits::default(),
        progress: None,
    }
}

fn hello() -> Vec<u8> {
    Tar::aci("example.com/hello").file("rootfs/bin/true", "#!/bin/sh\n").end()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

pub(super) fn as_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes trees: run it as root (sudo -E cargo test)"
    );
}

#[test]
fn an_imported_image_is_found_listed_and_unpacked() {
    as_root();
    let it = Fixture::new();
    let imported = it.import(&gzip(&hello())).unwrap();
    assert!(imported.full_digest.starts_with(&imported.id.to_string()));
    let (images, broken) = it.store.list().unwrap();
    assert_eq!(broken, []);
    assert_eq!(images.len(), 1);
    assert_eq!((images[0].id, images[0].name.as_str()), (imported.id, "example.com/hello"));
    assert_eq!(images[0].label("version"), Some("1.0.0"));
    assert_eq!(images[0].size, hello().len() as u64 + 10);
    let query = imported.id.to_string()[..12].parse().unwrap();
    assert_eq!(it.store.find(&query).unwrap(), imported.id);
    assert_eq!(it.store.find_name(&images[0].name, &images[0].labels).unwrap(), imported.id);
    assert_eq!(it.store.manifest(&imported.id).unwrap(), imported.manifest);
    assert_eq!(it.store.manifest_bytes(&imported.id).unwrap(), manifest("example.com/hello").as_bytes());
    let tree = it.store.ensure_tree(&imported.id).unwrap();
    assert_eq!(Some(&tree), imported.tree.as_ref());
    assert_eq!(std::fs::read(it.store.tree_rootfs(&tree).join("bin/true")).unwrap(), b"#!/bin/sh\n");
    assert_eq!(it.names("tmp"), [""; 0]);
    let blob = it.store.cas.join(format!("image/{}/blob", imported.id));
    assert_eq!(std::fs::read(blob).unwrap(), gzip(&hello()));
}

#[test]
fn the_id_does_not_depend_on_the_compression() {
    let it = Fixture::new();
    let plain = it.import(&hello()).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&hello()).unwrap();
    let packed = [gzip(&hello()), zstd::stream::encode_all(&hello()[..], 1).unwrap(), xz.finish().unwrap()];
    for bytes in packed {
        assert_eq!(it.import(&bytes).unwrap().id, plain.id);
    }
    assert_eq!(it.names("image"), [plain.id.to_string()]);
    assert_eq!(it.names("tmp"), [""; 0]);
}

/// Imports bytes with a signature under a store of keys.
fn import_signed(
    it: &Fixture,
    bytes: &[u8],
    signature: &[u8],
    keystore: &Keystore,
    wanted: Option<&str>,
) -> Result<Imported, ImportError> {
    let wanted = wanted.map(|text| NameReference::parse(text).unwrap());
    let check = SignatureCheck {
        demanded: None,
        signature: SignatureFile::parse(signature).unwrap(),
        keystore,
        wanted: wanted.as_ref(),
    };
    let options = ImportOptions { verification: Verification::Required(check), ..skipped() };
    it.store.import_file(&it.file(bytes), &options)
}

#[test]
fn c6_the_signature_is_over_the_very_bytes_that_are_kept() {
    let it = Fixture::new();
    let key = TestKey::new("me");
    let keystore = Keystore::new(&it.dir.path().join("sys"), &it.dir.path().join("loc"));
    let public = PublicKey::parse_armored(key.public().as_bytes()).unwrap().remove(0);
    let scope = Scope::Prefix("example.com".parse().unwrap());
    keystore.add(&scope, &public, SelfSignatures::Strong).unwrap();
    let packed = gzip(&hello());
    for (bytes, signature, wanted, expected) in [
        // Packed in another way: the same image, other bytes.
        (
            &hello(),
            key.sign(&packed),
            None,
            "image \"example.com/hello\" verification failed: openpgp: the signature by",
        ),
        (
            &packed,
            key.sign(&packed[..packed.len() - 1]),
            None,
            "image \"example.com/hello\" verification failed: ",
        ),
        (
            &packed,
            TestKey::new("you").sign(&packed),
            None,
            "image \"example.com/hello\" verification failed: openpgp: signature made by unknown entity",
        ),
        (
            &packed,
            key.sign(&packed),
            Some("example.com/other"),
            "error when reading the app name: \"example.com/other\" expected but \"example.com/hello\" found",
        ),
        (
            &packed,
            key.sign(&packed),
            Some("example.com/hello:2"),
            "requested value for label \"version\": \"2\" differs from fetched aci label value: \"1.0.0\"",
        ),
        (
            &packed,
            key.sign(&packed),
            Some("example.com/hello,a=b"),
            "requested label \"a\" not provided by the image manifest",
        ),
    ] {
        let refused = import_signed(&it, bytes, &signature, &keystore, wanted).unwrap_err().to_string();
        assert!(refused.starts_with(expected), "{refused}");
        it.assert_empty();
    }
    let imported =
        import_signed(&it, &packed, &key.sign(&packed), &keystore, Some("example.com/hello:1.0.0")).unwrap();
    let signer = imported.proof.signer().unwrap();
    assert_eq!((&signer.fingerprint, &signer.trusted_for), (&key.fingerprint(), &TrustedFor::Names(scope)));
    assert_eq!(it.store.list().unwrap().0[0].signer, Some(key.fingerprint()));
    // The same bytes without a signature are the same image.
    it.import(&hello()).unwrap();
    assert_eq!(it.store.signer(&imported.id).unwrap(), Some(key.fingerprint()));
}

#[test]
fn what_is_refused_leaves_nothing() {
    let it = Fixture::new();
    let path = it.dir.path().join("image.aci");
    let shown = path.display();
    let packed = gzip(&hello());
    let cases: [(Vec<u8>, String); 6] = [
        (Vec::new(), format!("image {shown}: the file is empty")),
        (
            b"not an image at all".to_vec(),
            format!("image {shown}: neither a tar archive nor one packed with gzip, bzip2, xz or zstd"),
        ),
        (
            Tar::aci("x").file("rootfs/../x", "").end(),
            format!("image {shown}: entry \"rootfs/../x\": its name contains `..`"),
        ),
        (
            Tar::aci("Not A Name").file("rootfs/big", vec![1; 100_000]).end(),
            format!("image {shown}: manifest: "),
        ),
        (Tar::default().dir("rootfs").manifest("{").end(), format!("image {shown}: manifest: ")),
        (packed[..packed.len() - 20].to_vec(), format!("image {shown}: unpacking gzip data: ")),
    ];
    for (bytes, expected) in cases {
        let refused = it.import(&bytes).unwrap_err().to_string();
        assert!(refused.starts_with(&expected), "{refused}");
        it.assert_empty();
    }
    let missing = it.store.import_file(Path::new("/no/such.aci"), &skipped()).unwrap_err();
    assert_eq!(missing.to_string(), "opening /no/such.aci: No such file or directory");
    let directory = it.store.import_file(Path::new("/"), &skipped()).unwrap_err();
    assert_eq!(directory.to_string(), "opening /: Not a regular file");
    it.assert_empty();
}

#[test]
fn several_may_import_the_same_image_at_once() {
    let it = Fixture::new();
    let bytes = gzip(&Tar::aci("example.com/same").file("rootfs/x", vec![7; 500_000]).end());
    let path = it.file(&bytes);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let store = Store::open(&it.dir.path().join("data")).unwrap();
                    store.import_file(&path, &skipped()).unwrap().id
                })
            })
            .collect();
        let ids: BTreeSet<_> = all.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.len(), 1);
    });
    assert_eq!((it.names("image").len(), it.names("tmp").len()), (1, 0));
    assert_eq!(it.store.list().unwrap().0.len(), 1);
}

#[test]
fn a_damaged_blob_is_never_unpacked_and_a_new_import_repairs() {
    as_root();
    let it = Fixture::new();
    let id = it.import(&hello()).unwrap().id;
    assert_eq!(it.store.lock_trees(|| ()).unwrap().collect(&BTreeSet::new()).0.len(), 1);
    let blob = it.store.cas.join(format!("image/{id}/blob"));
    let mut bytes = std::fs::read(&blob).unwrap();
    let at = bytes.windows(9).position(|window| window == b"#!/bin/sh").unwrap();
    bytes[at] = b'X';
    std::fs::write(&blob, &bytes).unwrap();
    let error = it.store.ensure_tree(&id).unwrap_err().to_string();
    assert!(error.starts_with("image hash does not match expected (sha512-"), "{error}");
    assert!(error.ends_with(&format!(" != {id})")), "{error}");
    assert_eq!(it.names("tree"), [""; 0]);
    let out = it.dir.path().join("out.aci");
    assert!(it.store.export(&id, &out, Existing::Keep).is_err());
    assert!(!out.exists());

    std::fs::write(&blob, &bytes[..100]).unwrap();
    assert!(matches!(it.store.ensure_tree(&id), Err(StoreError::Damaged { .. })));
    assert_eq!(it.store.list().unwrap().1[0].problem, format!("blob: it has 100 bytes, not {}", bytes.len()));
    std::fs::remove_file(&blob).unwrap();
    std::fs::create_dir(&blob).unwrap();
    assert!(matches!(it.store.ensure_tree(&id), Err(StoreError::Damaged { .. })));

    it.import(&hello()).unwrap();
    it.store.ensure_tree(&id).unwrap();
    assert_eq!(it.store.list().unwrap().1, []);
    // A manifest that is not the archive's is not believed, with or without a tree.
    let path = it.store.cas.join(format!("image/{id}/manifest"));
    std::fs::write(&path, manifest("example.com/other")).unwrap();
    for _ in 0..2 {
        let error = it.store.ensure_tree(&id).unwrap_err().to_string();
        assert!(error.ends_with("its manifest is not the one in its archive"), "{error}");
        let _ = it.store.lock_trees(|| ()).unwrap().collect(&BTreeSet::new());
    }
}

#[test]
fn what_the_dead_have_left_is_swept_and_what_is_locked_is_not() {
    as_root();
    let it = Fixture::new();
    for dir in
        ["tmp/.tmp-dead/sub", "tmp/removed", "tree/.tmp-dead/rootfs/x", "tmp/.tmp-live", "tree/.tmp-live"]
    {
        std::fs::create_dir_all(it.store.cas.join(dir)).unwrap();
    }
    let held: Vec<_> = ["tmp/.tmp-live", "tree/.tmp-live"]
        .map(|dir| Lock::try_on(&it.store.cas.join(dir), Sharing::Exclusive).unwrap().unwrap())
        .into();
    it.import(&hello()).unwrap();
    assert_eq!(it.names("tmp"), [".tmp-live"]);
    assert_eq!(it.names("tree").len(), 2);
    drop(held);
    it.store.sweep();
    assert_eq!((it.names("tmp").len(), it.names("tree").len()), (0, 1));
}

#[test]
fn trees_in_use_stay_and_holders_are_waited_for() {
    as_root();
    let it = Fixture::new();
    let one = it.import(&hello()).unwrap().tree.unwrap();
    let two = it.import(&Tar::aci("example.com/two").end()).unwrap().tree.unwrap();
    let held = it.store.hold().unwrap();
    let mut waited = false;
    std::thread::scope(|scope| {
        let (told, tell) = std::sync::mpsc::channel();
        let store = &it.store;
        let collector = scope.spawn(move || {
            let locked = store.lock_trees(|| told.send(()).unwrap()).unwrap();
            locked.collect(&BTreeSet::from([one])).0
        });
        waited = tell.recv().is_ok();
        drop(held);
        assert_eq!(collector.join().unwrap(), [two]);
    });
    assert!(waited);
    assert_eq!(it.names("tree").len(), 1);
}

#[test]
fn expiry_counts_from_the_last_use() {
    let it = Fixture::new();
    let id = it.import(&hello()).unwrap().id;
    let day = Duration::from_secs(86_400);
    let (none, now) = (BTreeSet::new(), SystemTime::now());
    let expired = |grace, in_use: &BTreeSet<_>, now| it.store.expired(grace, in_use, now).unwrap();
    assert_eq!(expired(day, &none, now), []);
    assert_eq!(expired(Duration::ZERO, &none, now), [id]);
    assert_eq!(expired(day, &none, now + day * 2), [id]);
    assert_eq!(expired(day, &BTreeSet::from([id]), now + day * 2), []);
    // The clock was set back.
    assert_eq!(expired(day, &none, now - day * 365), []);
    let record = it.store.cas.join(format!("image/{id}/record"));
    let old = now - day * 3;
    std::fs::File::options().write(true).open(&record).unwrap().set_modified(old).unwrap();
    assert_eq!(expired(day, &none, now), [id]);
    it.store.used(&id).unwrap();
    assert_eq!(expired(day, &none, now), []);
}

#[test]
fn broken_images_are_marked_and_the_others_listed() {
    let it = Fixture::new();
    let good = it.import(&hello()).unwrap().id;
    let images = it.store.images_dir();
    let broken = |digit: char| images.join(format!("sha512-{}", digit.to_string().repeat(64)));
    std::fs::create_dir(broken('1')).unwrap();
    std::fs::write(broken('2'), "a file").unwrap();
    std::os::unix::fs::symlink("/etc", broken('3')).unwrap();
    std::fs::create_dir(images.join("not-an-id")).unwrap();
    for (digit, file) in [('4', "record"), ('5', "manifest"), ('6', "blob")] {
        std::fs::create_dir(broken(digit)).unwrap();
        for name in ["record", "manifest", "blob"] {
            std::fs::copy(images.join(good.to_string()).join(name), broken(digit).join(name)).unwrap();
        }
        std::fs::write(broken(digit).join(file), "").unwrap();
    }
    let (images, broken) = it.store.list().unwrap();
    assert_eq!(images.iter().map(|image| image.id).collect::<Vec<_>>(), [good]);
    assert_eq!(broken.len(), 7, "{broken:?}");
    let ids: Vec<ImageId> = broken.iter().filter_map(|image| image.name.parse().ok()).collect();
    for id in ids {
        it.store.remove(&id).unwrap();
    }
    assert_eq!(it.store.list().unwrap().1.len(), 1);
    assert!(matches!(it.store.remove(&good).unwrap(), Removed::Whole));
    assert!(matches!(it.store.remove(&good), Err(StoreError::Missing { .. })));
    assert_eq!(it.names("tmp"), [""; 0]);
}

#[test]
fn finding_says_why_not() {
    let it = Fixture::new();
    let name: AcIdentifier = "example.com/many".parse().unwrap();
    let mut ids = Vec::new();
    for version in ["1", "2"] {
        let text = manifest(name.as_str()).replace("1.0.0", version);
        ids.push(it.import(&Tar::default().manifest(&text).dir("rootfs").end()).unwrap().id);
    }
    let version = |value: &str| vec![Label::new("version".parse().unwrap(), value)];
    assert_eq!(it.store.find_name(&name, &version("1")).unwrap(), ids[0]);
    assert_eq!(it.store.find_name(&name, &[]).unwrap(), ids[1], "the one imported last");
    assert_eq!(
        it.store.find_name(&name, &version("3")).unwrap_err().to_string(),
        "cannot find aci satisfying name: example.com/many and labels: [version=3] in the local store"
    );
    let none = if ids.iter().any(|id| id.key().starts_with("00")) { "sha512-01" } else { "sha512-00" };
    assert_eq!(it.store.find(&none.parse().unwrap()).unwrap_err().to_string(), "no image IDs found");
    let empty = Store::look(Path::new("/no/such/dir"));
    assert_eq!(empty.list().unwrap(), (vec![], vec![]));
    assert_eq!(empty.find(&none.parse().unwrap()).unwrap_err().to_string(), "no image IDs found");
}

#[test]
fn modes_close_the_store_and_are_repaired() {
    as_root();
    let it = Fixture::new();
    let id = it.import(&hello()).unwrap().id;
    let data = it.dir.path().join("data");
    let mode = |path: &str| data.join(path).symlink_metadata().unwrap().mode() & 0o7777;
    let image = format!("cas/image/{id}");
    for (path, expected) in [
        ("", 0o750),
        ("cas", 0o2770),
        ("cas/image", 0o3770),
        ("cas/tmp", 0o3770),
        ("cas/tree", 0o700),
        (&image, 0o2750),
    ] {
        assert_eq!(mode(path), expected, "{path}");
    }
    for file in ["blob", "manifest", "record"] {
        assert_eq!(mode(&format!("{image}/{file}")), 0o640, "{file}");
    }
    for dir in ["cas", "cas/image", "cas/tree"] {
        std::fs::set_permissions(data.join(dir), PermissionsExt::from_mode(0o777)).unwrap();
        std::os::unix::fs::chown(data.join(dir), Some(1000), Some(1000)).unwrap();
    }
    Store::open(&data).unwrap();
    assert_eq!((mode("cas"), mode("cas/image"), mode("cas/tree")), (0o2770, 0o3770, 0o700));
    assert_eq!(data.join("cas/tree").metadata().unwrap().uid(), 0);
    // A directory that was there may be anyone's: what the user named as data directory keeps its mode.
    let other = it.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o1777)).unwrap();
    Store::open(&other).unwrap();
    assert_eq!(other.metadata().unwrap().mode() & 0o7777, 0o1777);
}

#[test]
fn export_gives_the_hashed_bytes() {
    let it = Fixture::new();
    let id = it.import(&gzip(&hello())).unwrap().id;
    let out = it.dir.path().join("out.aci");
    it.store.export(&id, &out, Existing::Keep).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), hello());
    let refused = it.store.export(&id, &out, Existing::Keep).unwrap_err();
    assert_eq!(refused.to_string(), "output ACI file exists (try --overwrite)");
    std::fs::write(&out, "x").unwrap();
    it.store.export(&id, &out, Existing::Overwrite).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), hello());
    assert!(it.store.export(&id, Path::new("/no/such/dir/x"), Existing::Keep).is_err());
}

#[test]
fn extract_makes_the_whole_directory_or_none() {
    let it = Fixture::new();
    let mut device = Member::new("rootfs/null", b'3');
    device.device = (1, 3);
    let id = it.import(&Tar::aci("example.com/x").file("rootfs/f", "text").member(&device).end()).unwrap().id;
    let out = it.dir.path().join("out");
    let options = ExtractOptions { depth: Depth::Alone, rootfs_only: false, existing: Existing::Keep };
    it.store.extract(&id, &out, options).unwrap();
    assert_eq!(std::fs::read(out.join("rootfs/f")).unwrap(), b"text");
    assert_eq!(std::fs::read(out.join("manifest")).unwrap(), manifest("example.com/x").as_bytes());
    assert_eq!(out.metadata().unwrap().mode() & 0o7777, 0o755);
    if rustix::process::geteuid().is_root() {
        assert_eq!(out.join("rootfs/null").symlink_metadata().unwrap().rdev(), 0x103);
    }
    let refused = it.store.extract(&id, &out, options).unwrap_err();
    assert_eq!(refused.to_string(), "output directory exists (try --overwrite)");
    let options = ExtractOptions { depth: Depth::Alone, rootfs_only: true, existing: Existing::Overwrite };
    std::fs::write(out.join("old"), "").unwrap();
    it.store.extract(&id, &out, options).unwrap();
    assert_eq!(std::fs::read(out.join("f")).unwrap(), b"text");
    assert!(!out.join("old").exists());
    std::os::unix::fs::symlink("/", it.dir.path().join("slash")).unwrap();
    for root in ["/", "/usr/..", "//", "/."] {
        let refused = it.store.extract(&id, Path::new(root), options).unwrap_err();
        assert_eq!(refused.to_string(), "this would delete your root filesystem. Refusing.", "{root}");
    }
    let refused = it.store.extract(&id, &it.dir.path().join("slash"), options).unwrap_err();
    assert_eq!(refused.to_string(), "this would delete your root filesystem. Refusing.");
    let mut names = names_in(it.dir.path()).unwrap();
    names.sort();
    assert_eq!(names, ["data", "image.aci", "out", "slash"]);
}

#[test]
fn a_full_disk_names_the_path_and_leaves_nothing() {
    as_root();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    rustix::mount::mount("tmpfs", &data, "tmpfs", rustix::mount::MountFlags::empty(), c"size=4m").unwrap();
    let run = || {
        let store = Store::open(&data).unwrap();
        let image = dir.path().join("image.aci");
        std::fs::write(&image, gzip(&Tar::aci("example.com/big").file("rootfs/big", vec![1; 8 << 20]).end()))
            .unwrap();
        let unpacked = store.import_file(&image, &skipped()).unwrap_err();
        std::fs::write(&image, vec![1; 5 << 20]).unwrap();
        let file = store.import_file(&image, &skipped()).unwrap_err();
        let left: usize =
            ["image", "tmp", "tree"].iter().map(|d| names_in(&store.cas.join(d)).unwrap().len()).sum();
        std::fs::write(&image, hello()).unwrap();
        let after = store.import_file(&image, &skipped()).map(|imported| imported.id);
        (unpacked, file, left, after)
    };
    let result = std::panic::catch_unwind(run);
    rustix::mount::unmount(&data, rustix::mount::UnmountFlags::DETACH).unwrap();
    let (unpacked, file, left, after) = result.unwrap();
    let text = unpacked.to_string();
    assert!(text.contains("rootfs/big: No space left on device"), "{text}");
    assert!(unpacked.hint().is_some() && file.hint().is_some());
    assert!(file.to_string().contains("has 5242880 bytes, and only "), "{file}");
    assert_eq!(left, 0);
    after.unwrap();
}

#[test]
fn tree_ids_are_names_of_directories_and_nothing_else() {
    let id = ImageId::from_sha512(&[7; 64]);
    let tree = TreeId::of(&[id]);
    assert_eq!(tree.to_string().parse::<TreeId>().unwrap(), tree);
    assert_ne!(TreeId::of(&[id, id]), tree);
    let long = format!("{tree}00");
    for text in ["", "deps-", "sha512-00", "deps-sha512-../../etc", "deps-sha512-0", "../x", &long] {
        assert!(text.parse::<TreeId>().is_err(), "{text}");
    }
}
