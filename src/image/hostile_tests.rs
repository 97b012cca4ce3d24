//! What hostile and odd archives try, and what must come of it (rows A1 to A19 of the threat table).

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::extract::{Devices, Owners, Target, Unpacked, extract, inspect};
use super::stream::Limits;
use super::tar_writer::{Member, Tar, manifest, octal, pax_records};

/// A directory with a canary beside the root that an archive is extracted to.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/canary"), "untouched").unwrap();
        std::fs::set_permissions(dir.path().join("outside/canary"), PermissionsExt::from_mode(0o640))
            .unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn extract(&self, archive: &[u8]) -> Result<Unpacked, String> {
        let is_root = rustix::process::geteuid().is_root();
        let owners = if is_root { Owners::OfImage } else { Owners::OfCaller };
        let root = self.root();
        let target = Target { rootfs: &root, owners, devices: Devices::Skip };
        let result = extract(archive, &target, &Limits::default()).map_err(|error| error.to_string());
        let canary = self.dir.path().join("outside/canary");
        assert_eq!(std::fs::read(&canary).unwrap(), b"untouched");
        assert_eq!(canary.metadata().unwrap().mode() & 0o7777, 0o640);
        assert_eq!(canary.metadata().unwrap().nlink(), 1);
        let mut names: Vec<_> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["outside", "root"]);
        assert_eq!(std::fs::read_dir(self.dir.path().join("outside")).unwrap().count(), 1);
        result
    }
}

fn extracted(tar: Tar) -> (Ground, Unpacked) {
    let ground = Ground::new();
    let unpacked = ground.extract(&tar.end()).unwrap();
    (ground, unpacked)
}

/// The error, which must be the same for reading through unless it is about what is on the disk.
fn refused(tar: Tar) -> String {
    refused_bytes(&tar.end())
}

fn refused_bytes(archive: &[u8]) -> String {
    let error = Ground::new().extract(archive).unwrap_err();
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

fn aci() -> Tar {
    Tar::aci("example.com/hostile")
}

#[test]
fn a1_names_that_lead_out_are_refused() {
    for (name, problem) in [
        ("rootfs/../../outside/x", "its name contains `..`"),
        ("../outside/x", "its name contains `..`"),
        ("rootfs/a/..", "its name contains `..`"),
        ("/rootfs/x", "its name is absolute"),
        ("//x", "its name is absolute"),
    ] {
        assert_eq!(refused(aci().file(name, "x")), format!("entry \"{name}\": {problem}"));
    }
    assert_eq!(refused(aci().file("", "x")), "entry \"\": its name is empty");
    let nul = aci().pax(&[("path", b"rootfs/a\0b".to_vec())]).file("x", "");
    assert_eq!(refused(nul), "entry \"rootfs/a\\u{0}b\": its name contains a NUL");
    for name in ["etc/passwd", "manifests", "rootfs2/x", "manifest/x"] {
        assert!(refused(aci().file(name, "x")).starts_with(&format!("entry \"{name}\": ")));
    }
    for whole in [
        Tar::default().dir("rootfs"),
        Tar::default().manifest("{}"),
        Tar::default(),
        Tar::default().manifest("{}").file("rootfs", "x"),
        Tar::default().dir("rootfs").dir("manifest"),
        Tar::default().dir("rootfs").symlink("manifest", "rootfs/x"),
    ] {
        refused(whole);
    }
}

#[test]
fn a1_a_leading_dot_is_fine() {
    let tar = Tar::default().dir("./").manifest(&manifest("example.com/dots"));
    let (ground, unpacked) = extracted(tar.dir("./rootfs/").file("./rootfs//a/./b", "text"));
    assert_eq!(std::fs::read(ground.root().join("a/b")).unwrap(), b"text");
    assert_eq!(unpacked.size, 4);
}

#[test]
fn a2_a_path_through_a_link_stays_inside() {
    // Absolute, relative and dangling links as parents: each is resolved as after a chroot.
    let (ground, _) = extracted(
        aci()
            .dir("rootfs/usr")
            .dir("rootfs/usr/lib")
            .symlink("rootfs/lib", "/usr/lib")
            .symlink("rootfs/up", "../../../../usr")
            .file("rootfs/lib/a", "a")
            .file("rootfs/up/b", "b"),
    );
    assert_eq!(std::fs::read(ground.root().join("usr/lib/a")).unwrap(), b"a");
    assert_eq!(std::fs::read(ground.root().join("usr/b")).unwrap(), b"b");
    for link in ["../outside", "/outside", "/proc/self/cwd", "self", "/proc/self/fd/3"] {
        let error = refused(aci().symlink("rootfs/self", link).file("rootfs/self/x", "x"));
        assert_eq!(error, "entry \"rootfs/self/x\": a part of its path is no directory", "{link}");
    }
}

#[test]
fn a3_a4_what_is_there_is_never_opened_or_changed() {
    let link = || aci().symlink("rootfs/x", "../outside/canary");
    for again in [link().file("rootfs/x", "bad"), link().dir("rootfs/x"), link().symlink("rootfs/x", "y")] {
        assert_eq!(refused(again), "entry \"rootfs/x\": it is in the archive twice");
    }
    // The same place by another name.
    let both = || aci().dir("rootfs/d").symlink("rootfs/l", "d").file("rootfs/d/x", "1");
    for again in [both().file("rootfs/l/x", "2"), both().dir("rootfs/l/x"), both().symlink("rootfs/l/x", "y")]
    {
        assert_eq!(refused(again), "entry \"rootfs/l/x\": it is in the archive twice, by way of a link");
    }
}

#[test]
fn a5_hard_links_lead_to_earlier_files_of_the_archive_only() {
    let (ground, _) = extracted(aci().file("rootfs/a", "a").hard_link("rootfs/sub/b", "rootfs/a"));
    assert_eq!(ground.root().join("sub/b").metadata().unwrap().nlink(), 2);
    for target in [
        "rootfs/../../outside/canary",
        "/etc/passwd",
        "../outside/canary",
        "rootfs/later",
        "rootfs",
        "rootfs/dir",
        "rootfs/link",
        "manifest",
        "rootfs/esc/canary",
        "",
    ] {
        let tar = aci().dir("rootfs/dir").symlink("rootfs/link", "/x").symlink("rootfs/esc", "../../outside");
        let error = refused(tar.hard_link("rootfs/h", target));
        assert!(error.starts_with("entry \"rootfs/h\": "), "{target}: {error}");
    }
}

#[test]
fn a6_sizes_that_readers_understand_differently_are_refused_or_one() {
    // PAX says 1024 + 512, ustar says 0: who believes ustar sees the data as entries.
    let mut smuggled = Tar::default().file("rootfs/smuggled", "evil").0;
    smuggled.resize(1536, b'x');
    let mut file = Member::new("rootfs/data", b'0');
    file.data = smuggled;
    file.size = Some(octal(0, 12));
    let (ground, _) = extracted(aci().pax(&[("size", b"1536".to_vec())]).member(&file));
    assert_eq!(ground.root().join("data").metadata().unwrap().len(), 1536);
    assert!(!ground.root().join("smuggled").exists());
    // The same with a GNU long name between the two: the size is the file's, not the name's.
    let mut name = Member::new("././@LongLink", b'L');
    name.data = b"rootfs/long\0".to_vec();
    let tar = aci().pax(&[("size", b"1536".to_vec())]).member(&name).member(&file);
    let (ground, _) = extracted(tar);
    assert_eq!(ground.root().join("long").metadata().unwrap().len(), 1536);
    for typeflag in [b'2', b'3', b'5', b'6'] {
        let mut member = Member::new("rootfs/x", typeflag);
        member.link = b"rootfs/y".to_vec();
        member.data = Tar::default().file("rootfs/smuggled", "evil").0;
        let error = refused(aci().member(&member));
        assert_eq!(error, "entry \"rootfs/x\": it has data, which its type does not allow");
    }
    // As actool writes them.
    let mut sized = Member::new("rootfs/b", b'1');
    sized.link = b"rootfs/a".to_vec();
    sized.size = Some(octal(5, 12));
    let (ground, _) = extracted(aci().file("rootfs/a", "text!").member(&sized).file("rootfs/c", ""));
    assert_eq!(std::fs::read(ground.root().join("b")).unwrap(), b"text!");
    let mut twice = Member::new("pax", b'x');
    twice.data = pax_records(&[("size", b"1".to_vec()), ("size", b"2".to_vec())]);
    assert!(refused(aci().member(&twice).file("rootfs/x", "x")).ends_with("has size twice"));
    let two_headers =
        aci().pax(&[("uid", b"1".to_vec())]).pax(&[("uid", b"2".to_vec())]).file("rootfs/x", "");
    assert!(refused(two_headers).ends_with("an entry has two PAX headers"));
    let two_names = aci().pax(&[("path", b"rootfs/a".to_vec())]).member(&name).file("rootfs/x", "");
    assert_eq!(refused(two_names), "entry \"rootfs/long\": it has two names");
    let mut global = Member::new("g", b'g');
    global.data = pax_records(&[("path", b"rootfs/y".to_vec())]);
    assert!(refused(aci().member(&global).file("rootfs/x", "")).contains("global PAX header sets path"));
    assert!(refused(aci().pax(&[("uid", b"1".to_vec())])).ends_with("is followed by no entry"));
}

#[test]
fn a7_headers_paths_and_sparse_maps_are_bounded() {
    let mut huge = Member::new("pax", b'x');
    huge.size = Some(octal(1 << 32, 12));
    assert!(refused(aci().member(&huge)).ends_with("its headers are larger than 1048576 bytes"));
    // Several headers count together.
    let mut long = Member::new("L", b'L');
    long.data = vec![b'a'; 600_000];
    let mut link = Member::new("K", b'K');
    link.data = vec![b'a'; 600_000];
    assert!(
        refused(aci().member(&long).member(&link)).ends_with("its headers are larger than 1048576 bytes")
    );
    let path = format!("rootfs/{}", "a/".repeat(2050));
    assert!(refused(aci().dir(&path)).ends_with("its name is longer than 4095 bytes"));
    let name = format!("rootfs/{}", "n".repeat(256));
    assert!(refused(aci().file(&name, "")).ends_with("a part of its name is longer than 255 bytes"));
    // An old GNU sparse map that goes on for ever, and one that overlaps.
    let mut sparse = Member::new("rootfs/s", b'S');
    sparse.patches = vec![(482, vec![1])];
    let mut tar = aci().member(&sparse);
    for _ in 0..3000 {
        let mut block = [0_u8; 512];
        block[..504].copy_from_slice(&[octal(0, 12), octal(0, 12)].concat().repeat(21));
        block[504] = 1;
        tar.0.extend(block);
    }
    assert!(refused(tar).ends_with("its sparse map is too large"));
    let mut sparse = Member::new("rootfs/s", b'S');
    sparse.data = vec![1; 1024];
    sparse.patches = vec![
        (386, [octal(0, 12), octal(512, 12), octal(100, 12), octal(512, 12)].concat()),
        (483, octal(4096, 12)),
    ];
    assert!(refused(aci().member(&sparse)).ends_with("its sparse map is out of order"));
    let records = [
        ("GNU.sparse.major", b"1".to_vec()),
        ("GNU.sparse.minor", b"0".to_vec()),
        ("GNU.sparse.name", b"rootfs/s".to_vec()),
        ("GNU.sparse.realsize", b"18446744073709551615".to_vec()),
    ];
    let mut data = b"1\n0\n0\n".to_vec();
    data.resize(512, 0);
    assert!(refused(aci().pax(&records).file("rootfs/x", data)).ends_with("does not fit its size"));
}

/// Found by generated archives: GNU tar makes a directory of the first, and lists the second as a file.
#[test]
fn a6_a_sparse_or_contiguous_file_is_not_called_like_a_directory() {
    for typeflag in [b'S', b'7'] {
        let error = refused(aci().member(&Member::new("rootfs/s/", typeflag)));
        assert_eq!(error, "entry \"rootfs/s/\": it is a directory by its name and a file by its type");
    }
}

/// Found by generated archives: GNU tar makes a file of holes of it.
#[test]
fn a6_only_a_file_has_a_sparse_map() {
    let records = [
        ("GNU.sparse.size", b"3000".to_vec()),
        ("GNU.sparse.numblocks", b"1".to_vec()),
        ("GNU.sparse.name", b"rootfs/s".to_vec()),
        ("GNU.sparse.map", b"3000,0".to_vec()),
    ];
    for typeflag in [b'5', b'6', b'S'] {
        let error = refused(aci().pax(&records).member(&Member::new("rootfs/x", typeflag)));
        assert_eq!(error, "entry \"rootfs/s\": it has a sparse map, which its type does not allow");
    }
    extracted(aci().pax(&records).member(&Member::new("rootfs/x", b'0')));
}

#[test]
fn a7_sparse_files_are_read_in_both_forms() {
    let mut old = Member::new("rootfs/old", b'S');
    old.data = b"endx".to_vec();
    old.patches = vec![(386, [octal(1_000_000, 12), octal(4, 12)].concat()), (483, octal(1_000_004, 12))];
    let records = [
        ("GNU.sparse.major", b"1".to_vec()),
        ("GNU.sparse.minor", b"0".to_vec()),
        ("GNU.sparse.name", b"rootfs/new".to_vec()),
        ("GNU.sparse.realsize", b"2000000".to_vec()),
    ];
    let mut data = b"2\n0\n3\n1000000\n4\n".to_vec();
    data.resize(512, 0);
    data.extend(b"abcdefg");
    let (ground, _) = extracted(aci().member(&old).pax(&records).file("GNUSparseFile.0/new", data));
    let old = std::fs::read(ground.root().join("old")).unwrap();
    assert_eq!((old.len(), &old[1_000_000..]), (1_000_004, &b"endx"[..]));
    let new = std::fs::read(ground.root().join("new")).unwrap();
    assert_eq!((new.len(), &new[..3], &new[1_000_000..1_000_004]), (2_000_000, &b"abc"[..], &b"defg"[..]));
    assert!(ground.root().join("new").metadata().unwrap().blocks() < 100);
}

#[test]
fn a8_entries_are_counted_with_the_directories_that_they_imply() {
    let limits = Limits { entries: 100, ..Limits::default() };
    let tar = aci().file(format!("rootfs/{}x", "d/".repeat(200)), "").end();
    let ground = Ground::new();
    let root = ground.root();
    let target = Target { rootfs: &root, owners: Owners::OfCaller, devices: Devices::Skip };
    let error = extract(&tar[..], &target, &limits).unwrap_err().to_string();
    assert_eq!(error, "it has more than 100 entries");
    let many = (0..200).fold(aci(), |tar, i| tar.file(format!("rootfs/{i}"), "")).end();
    assert_eq!(inspect(&many[..], &limits).unwrap_err().to_string(), "it has more than 100 entries");
}

#[test]
fn a10_duplicates_are_refused_and_trailing_archives_not_read() {
    assert_eq!(
        refused(aci().file("rootfs/x", "1").file("./rootfs//x", "2")),
        "entry \"rootfs/x\": it is in the archive twice"
    );
    assert_eq!(refused(aci().manifest("{}")), "entry \"manifest\": it is in the archive twice");
    assert_eq!(refused(aci().dir("rootfs/")), "entry \"rootfs\": it is in the archive twice");
    let mut bytes = aci().end();
    bytes.extend(Tar::default().file("rootfs/trailing", "x").end());
    let ground = Ground::new();
    ground.extract(&bytes).unwrap();
    assert!(!ground.root().join("trailing").exists());
}

#[test]
fn a11_a12_devices_are_left_out_and_counted_and_fifos_never_opened() {
    let device = |name: &str, typeflag, device| {
        let mut member = Member::new(name, typeflag);
        member.device = device;
        member
    };
    let tar = aci()
        .member(&device("rootfs/sda", b'4', (8, 0)))
        .member(&device("rootfs/whiteout", b'3', (0, 0)))
        .member(&device("rootfs/dev/null", b'3', (1, 3)))
        .member(&Member::new("rootfs/fifo", b'6'));
    let (ground, unpacked) = extracted(tar);
    assert_eq!(unpacked.skipped_devices, 3);
    assert!(ground.root().join("fifo").symlink_metadata().unwrap().file_type().is_fifo());
    assert_eq!(std::fs::read_dir(ground.root()).unwrap().count(), 1);
}

#[test]
fn a12_only_listed_attributes_are_set() {
    let attributes = [
        ("SCHILY.xattr.user.overlay.opaque", b"y".to_vec()),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y".to_vec()),
        ("SCHILY.xattr.security.selinux", b"x".to_vec()),
        ("SCHILY.xattr.user.kept", b"line\nline".to_vec()),
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
    ];
    let (ground, _) = extracted(aci().pax(&attributes).file("rootfs/x", ""));
    let mut names = [0_u8; 1000];
    let length = rustix::fs::listxattr(ground.root().join("x"), &mut names[..]).unwrap();
    let mut names: Vec<&[u8]> = names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()).collect();
    names.sort();
    let expected: &[&[u8]] = if rustix::process::geteuid().is_root() {
        &[b"security.capability", b"user.kept"]
    } else {
        &[b"user.kept"]
    };
    assert_eq!(names, expected);
    let mut value = [0_u8; 100];
    let length = rustix::fs::getxattr(ground.root().join("x"), "user.kept", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"line\nline");
}

#[test]
fn a14_ids_that_chown_would_misread_are_refused() {
    for id in ["4294967295", "4294967296", "18446744073709551615"] {
        let tar = aci().pax(&[("uid", id.into())]).file("rootfs/x", "");
        assert_eq!(refused(tar), "entry \"rootfs/x\": its owner is not between 0 and 4294967294");
        let tar = aci().pax(&[("gid", id.into())]).file("rootfs/x", "");
        assert_eq!(refused(tar), "entry \"rootfs/x\": its group is not between 0 and 4294967294");
    }
    for (field, shown) in [(b"\xff\xff\xff\xff\xff\xff\xff\xff", "-1"), (b"\x80\0\0\x01\0\0\0\0", "2^32")] {
        let mut member = Member::new("rootfs/x", b'0');
        member.uid = field.to_vec();
        assert!(refused(aci().member(&member)).contains("its owner is not between"), "{shown}");
    }
    assert!(
        refused(aci().pax(&[("uid", b"-1".to_vec())]).file("rootfs/x", "")).ends_with("uid is not valid")
    );
    let mut member = Member::new("rootfs/x", b'0');
    member.size = Some(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec());
    assert!(refused(aci().member(&member)).ends_with("its size is out of range"));
}

#[test]
fn a14_owners_and_modes_are_the_images() {
    if !rustix::process::geteuid().is_root() {
        panic!("this test changes owners: run it as root (sudo -E cargo test)");
    }
    let member = |name: &str, typeflag, mode| Member {
        uid: octal(12_345, 8),
        gid: octal(54_321, 8),
        mode,
        link: b"x".to_vec(),
        ..Member::new(name, typeflag)
    };
    let (ground, _) = extracted(
        aci()
            .member(&member("rootfs/suid", b'0', 0o4755))
            .member(&member("rootfs/dir", b'5', 0o3770))
            .member(&member("rootfs/link", b'2', 0o777))
            .member(&member("rootfs/fifo", b'6', 0o620))
            .file("rootfs/implied/x", ""),
    );
    for (name, mode) in [("suid", 0o4755), ("dir", 0o3770), ("link", 0o777), ("fifo", 0o620)] {
        let status = ground.root().join(name).symlink_metadata().unwrap();
        assert_eq!((status.uid(), status.gid()), (12_345, 54_321), "{name}");
        assert_eq!(status.mode() & 0o7777, mode, "{name}");
    }
    let implied = ground.root().join("implied").metadata().unwrap();
    assert_eq!((implied.uid(), implied.gid(), implied.mode() & 0o7777), (0, 0, 0o755));
}

#[test]
fn a15_times_are_clamped_and_directories_keep_theirs() {
    let timed =
        |name: &str, typeflag, mtime: &[u8]| Member { mtime: mtime.to_vec(), ..Member::new(name, typeflag) };
    let far = b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    let tar = aci()
        .member(&timed("rootfs/d", b'5', &octal(500, 12)))
        .member(&timed("rootfs/d/far", b'0', far))
        .member(&timed("rootfs/d/past", b'0', b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0"))
        .pax(&[("mtime", b"-99999999999999999999.5".to_vec())])
        .file("rootfs/e/deeper/x", "")
        .member(&timed("rootfs/e", b'5', &octal(600, 12)))
        .file("rootfs/e/y", "")
        .file("rootfs/d/z/w", "");
    let (ground, _) = extracted(tar);
    let mtime = |name: &str| ground.root().join(name).metadata().unwrap().mtime();
    assert_eq!((mtime("d"), mtime("e"), mtime("")), (500, 600, 1_000_000_000));
    assert!(mtime("d/far") > 4_000_000_000);
    assert_eq!(mtime("d/past"), -256);
    assert!(mtime("e/deeper/x") < -2_000_000_000);
}

#[test]
fn a16_deep_trees_are_linear_and_removable() {
    // The processor's time of this thread, which a busy machine does not stretch (/proc/PID/schedstat, nanoseconds).
    let spent = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        std::time::Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    let before = spent();
    let mut tar = aci();
    let mut path = String::from("rootfs");
    for _ in 0..2000 {
        path.push_str("/d");
        tar = tar.dir(&path);
    }
    let (ground, _) = extracted(tar.file(format!("{path}/f"), "deep"));
    crate::os::tree::remove(&ground.root()).unwrap();
    let spent = spent() - before;
    assert!(spent.as_secs() < 20, "{spent:?}");
}

#[test]
fn what_is_cut_or_no_archive_says_so() {
    let whole = aci().file("rootfs/file", vec![7; 5000]).end();
    assert_eq!(refused_bytes(b""), "the file is empty");
    assert_eq!(
        refused_bytes(&[b'x'; 4096]),
        "neither a tar archive nor one packed with gzip, bzip2, xz or zstd"
    );
    assert_eq!(refused_bytes(b"short"), "neither a tar archive nor one packed with gzip, bzip2, xz or zstd");
    let data_start = whole.len() - 1024 - 5120;
    assert_eq!(
        refused_bytes(&whole[..data_start + 100]),
        "entry \"rootfs/file\": it is cut off: the archive ends within"
    );
    assert_eq!(refused_bytes(&whole[..whole.len() - 1024]), "it is cut off: the end marker is missing");
    let mut damaged = whole.clone();
    damaged[data_start - 512 + 10] ^= 1;
    let offset = data_start - 512;
    assert_eq!(
        refused_bytes(&damaged),
        format!("the entry at byte {offset}: the checksum of its header is wrong")
    );
    let mut volume = Member::new("rootfs/v", b'V');
    volume.mode = 0;
    assert_eq!(refused(aci().member(&volume)), "entry \"rootfs/v\": entries of type 'V' are not supported");
    let tar = aci().file("rootfs/f", "").file("rootfs/f/x", "");
    assert_eq!(refused(tar), "entry \"rootfs/f/x\": a part of its path is no directory");
    let escape = aci().file("rootfs/\x1b[2Jx", "").file("rootfs/\x1b[2Jx", "");
    assert_eq!(refused(escape), "entry \"rootfs/\\u{1b}[2Jx\": it is in the archive twice");
}

#[test]
fn names_need_not_be_text() {
    let (ground, _) = extracted(aci().file(b"rootfs/\xff\xfe", "x"));
    let name = std::fs::read_dir(ground.root()).unwrap().next().unwrap().unwrap().file_name();
    assert_eq!(name.as_bytes(), b"\xff\xfe");
}

/// One step of an archive that tries to get out.
#[derive(Debug, Clone)]
enum Step {
    File(String),
    Dir(String),
    Symlink(String, String),
    HardLink(String, String),
    Fifo(String),
}

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "l", "outside", "canary"]),
        1 => prop::sample::select(vec![".", "..", ""]),
    ];
    prop::collection::vec(part, 1..4).prop_map(|parts| format!("rootfs/{}", parts.join("/")))
}

fn link() -> impl Strategy<Value = String> {
    prop_oneof![
        path(),
        prop::sample::select(vec![
            "..",
            "../..",
            "../../outside",
            "/outside",
            "/",
            ".",
            "a",
            "../a",
            "/a/b",
            "l",
            "../../../outside/canary",
            "/proc/self/root/tmp",
            "rootfs/a",
        ])
        .prop_map(str::to_owned),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        path().prop_map(Step::File),
        path().prop_map(Step::Dir),
        (path(), link()).prop_map(|(name, target)| Step::Symlink(name, target)),
        (path(), link()).prop_map(|(name, target)| Step::HardLink(name, target)),
        path().prop_map(Step::Fifo),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an archive does, nothing outside changes, and what it made can be removed.
    #[test]
    fn no_sequence_of_entries_writes_outside(steps in prop::collection::vec(step(), 1..14)) {
        let tar = steps.iter().fold(aci(), |tar, step| match step {
            Step::File(name) => tar.file(name, "overwritten"),
            Step::Dir(name) => tar.dir(name),
            Step::Symlink(name, target) => tar.symlink(name, target),
            Step::HardLink(name, target) => tar.hard_link(name, target),
            Step::Fifo(name) => tar.member(&Member::new(name, b'6')),
        });
        let ground = Ground::new();
        // `extract` looks at the canary whatever comes out.
        let _ = ground.extract(&tar.end());
        crate::os::tree::remove(&ground.root()).unwrap();
        prop_assert!(!Path::new(&ground.root()).exists());
    }

    /// No bytes at all make the reader panic, hang or take more than it was given.
    #[test]
    fn no_damage_of_an_archive_panics(position in 0_usize..6000, byte: u8, cut in 0_usize..8000) {
        let mut tar = aci()
            .pax(&[("mtime", b"12.5".to_vec()), ("SCHILY.xattr.user.a", b"b".to_vec())])
            .file("rootfs/a", vec![1; 700])
            .hard_link("rootfs/b", "rootfs/a")
            .end();
        let length = tar.len();
        tar[position % length] = byte;
        tar.truncate(cut.max(1));
        let _ = inspect(&tar[..], &Limits::default());
    }
}
