//! Hostile archives against the real binary: each row A1 to A19 of the threat table is refused in one line that names the
//! image and the entry, changes nothing outside, and leaves nothing in the store; what is harmless in it is imported.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use crate::support::names;
use crate::support::run::Ended;
use crate::support::tar::{Member, Tar, octal, pax_records};
use crate::world::World;

/// A world with a data directory and, beside it, a canary that archives aim at.
struct Ground {
    world: World,
}

impl Ground {
    fn new() -> Self {
        let world = World::new();
        fs::write(world.path().join("canary"), "untouched").unwrap();
        fs::set_permissions(world.path().join("canary"), fs::Permissions::from_mode(0o640)).unwrap();
        Self { world }
    }

    fn file(&self) -> PathBuf {
        self.world.path().join("x.aci")
    }

    fn fetch(&self, archive: &[u8]) -> Ended {
        fs::write(self.file(), archive).unwrap();
        let ended = self.world.run("--dir=data --insecure-options=image fetch --full x.aci");
        let canary = self.world.path().join("canary");
        assert_eq!(fs::read(&canary).unwrap(), b"untouched");
        let status = canary.metadata().unwrap();
        assert_eq!((status.mode() & 0o7777, status.nlink()), (0o640, 1));
        assert_eq!(names(self.world.path()), ["canary", "data", "x.aci"]);
        assert_eq!(names(&self.world.path().join("data")), ["cas"]);
        ended
    }

    fn refused(&self, archive: &[u8], problem: &str) {
        let expected = format!("fetch: image {}: {problem}\n", self.file().display());
        self.fetch(archive).expect(254, "", &expected);
        self.expect_empty();
    }

    fn expect_empty(&self) {
        for dir in ["image", "tmp", "tree"] {
            assert_eq!(names(&self.world.path().join("data/cas").join(dir)), [""; 0], "{dir}");
        }
        self.world.run("--dir=data image list --format=json").expect(0, "null\n", "");
    }

    /// Imports an archive and returns its unpacked root.
    fn imported(&self, archive: &[u8]) -> PathBuf {
        self.fetch(archive).expect_code(0);
        let trees = self.world.path().join("data/cas/tree");
        let names = names(&trees);
        assert_eq!(names.len(), 1, "{names:?}");
        trees.join(&names[0]).join("rootfs")
    }
}

fn aci() -> Tar {
    Tar::aci("example.com/hostile")
}

fn entry(name: &str, problem: &str) -> String {
    format!("entry \"{name}\": {problem}")
}

#[test]
fn a1_names_that_lead_out() {
    let ground = Ground::new();
    for name in ["rootfs/../../../../canary", "../canary", "rootfs/.."] {
        ground.refused(&aci().file(name, "x").end(), &entry(name, "its name contains `..`"));
    }
    let absolute = ground.world.path().join("canary").display().to_string();
    ground.refused(&aci().file(&absolute, "x").end(), &entry(&absolute, "its name is absolute"));
    ground.refused(
        &aci().file("etc/passwd", "x").end(),
        &entry("etc/passwd", "only `manifest` and `rootfs` may be at the top of an image"),
    );
    ground.refused(
        &aci().pax(&[("path", b"rootfs/a\0".to_vec())]).file("x", "").end(),
        &entry("rootfs/a\\u{0}", "its name contains a NUL"),
    );
}

#[test]
fn a2_to_a5_links_that_lead_out() {
    let ground = Ground::new();
    let out = ground.world.path().display().to_string();
    for target in ["../../../../..", &out, "/proc/self/cwd"] {
        let tar = aci().symlink("rootfs/l", target).file("rootfs/l/canary", "x");
        if target.starts_with("..") {
            // Above the root is the root, as after a chroot.
            let root = Ground::new();
            assert_eq!(fs::read(root.imported(&tar.end()).join("canary")).unwrap(), b"x");
        } else {
            ground.refused(&tar.end(), &entry("rootfs/l/canary", "a part of its path is no directory"));
        }
    }
    let canary = format!("{out}/canary");
    let link = || aci().symlink("rootfs/l", &canary);
    ground.refused(&link().file("rootfs/l", "x").end(), &entry("rootfs/l", "it is in the archive twice"));
    ground.refused(&link().dir("rootfs/l").end(), &entry("rootfs/l", "it is in the archive twice"));
    let mut chmod = Member::new("rootfs/l/", b'5');
    chmod.mode = 0o777;
    ground.refused(&link().member(&chmod).end(), &entry("rootfs/l", "it is in the archive twice"));
    ground.refused(
        &aci().hard_link("rootfs/h", &canary).end(),
        &entry("rootfs/h", "as a hard link's target: its name is absolute"),
    );
    ground.refused(
        &aci().hard_link("rootfs/h", "rootfs/../../canary").end(),
        &entry("rootfs/h", "as a hard link's target: its name contains `..`"),
    );
    ground.refused(
        &link().hard_link("rootfs/h", "rootfs/l").end(),
        &entry("rootfs/h", "it is a hard link to what is no file of this archive before it"),
    );
}

#[test]
fn a6_entries_that_only_some_readers_see() {
    let ground = Ground::new();
    let mut file = Member::new("rootfs/data", b'0');
    file.data = Tar::default().file("rootfs/smuggled", "evil").0;
    file.size = Some(octal(0, 12));
    let root = ground.imported(&aci().pax(&[("size", b"1024".to_vec())]).member(&file).end());
    assert_eq!(names(&root), ["data"]);
    let ground = Ground::new();
    let mut link = Member::new("rootfs/l", b'2');
    link.link = b"x".to_vec();
    link.data = vec![0; 512];
    ground.refused(
        &aci().member(&link).end(),
        &entry("rootfs/l", "it has data, which its type does not allow"),
    );
    let mut twice = Member::new("pax", b'x');
    twice.data = pax_records(&[("path", b"rootfs/a".to_vec()), ("path", b"rootfs/b".to_vec())]);
    let tar = aci();
    let offset = tar.0.len();
    ground.refused(
        &tar.member(&twice).file("x", "").end(),
        &format!("the entry at byte {offset}: its PAX header has path twice"),
    );
}

#[test]
fn a7_a8_a9_archives_that_cost_too_much() {
    let ground = Ground::new();
    let mut huge = Member::new("pax", b'x');
    huge.size = Some(octal(1 << 32, 12));
    let offset = aci().0.len();
    ground.refused(
        &aci().member(&huge).end(),
        &format!("the entry at byte {offset}: its headers are larger than 1048576 bytes"),
    );
    let long = format!("rootfs/{}", "d/".repeat(2048));
    let shown = format!("{}…", &long[..200]);
    ground.refused(&aci().dir(&long).end(), &entry(&shown, "its name is longer than 4095 bytes"));

    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut zeros = Member::new("rootfs/zeros", b'0');
    zeros.size = Some(octal(200 << 20, 12));
    std::io::Write::write_all(&mut bomb, &aci().member(&zeros).0).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), (200 << 20) + 1024), &mut bomb).unwrap();
    let expected = format!(
        "fetch: image {}: unpacks to more than 200 times its size, as only archives do that are meant to fill a disk \
         (in entry \"rootfs/zeros\")\n\
         fetch: hint: if you trust it, unpack it yourself and use the plain tar file\n",
        ground.file().display()
    );
    ground.fetch(&bomb.finish().unwrap()).expect(254, "", &expected);
    ground.expect_empty();

    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    std::io::Write::write_all(&mut xz, &aci().file("rootfs/f", noise(300_000)).end()).unwrap();
    let mut damaged = xz.finish().unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let ended = ground.fetch(&damaged);
    ended.expect_code(254);
    let start = format!("fetch: image {}: unpacking xz data: ", ground.file().display());
    assert!(ended.stderr.starts_with(&start) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    ground.expect_empty();
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

#[test]
fn a10_what_is_there_twice_or_behind_the_end() {
    let ground = Ground::new();
    ground.refused(
        &aci().file("rootfs/x", "1").file("./rootfs/./x", "2").end(),
        &entry("rootfs/x", "it is in the archive twice"),
    );
    ground.refused(&aci().manifest("{}").end(), &entry("manifest", "it is in the archive twice"));
    let mut trailing = aci().end();
    trailing.extend(Tar::default().file("rootfs/trailing", "x").end());
    let plain = ground.fetch(&aci().end()).stdout;
    let ground = Ground::new();
    assert_eq!(names(&ground.imported(&trailing)), [""; 0]);
    let stored = ground.world.run("--dir=data image list --full --no-legend --fields=id").stdout;
    assert_ne!(stored, plain, "all bytes count for the ID");
}

#[test]
fn a11_a12_devices_fifos_and_orders_to_overlayfs() {
    let ground = Ground::new();
    let mut device = Member::new("rootfs/sda", b'4');
    device.device = (8, 0);
    let attributes = [
        ("SCHILY.xattr.trusted.overlay.opaque", b"y".to_vec()),
        ("SCHILY.xattr.user.overlay.opaque", b"y".to_vec()),
        ("SCHILY.xattr.security.selinux", b"x".to_vec()),
    ];
    let archive = aci()
        .member(&device)
        .member(&Member::new("rootfs/whiteout", b'3'))
        .member(&Member::new("rootfs/fifo", b'6'))
        .pax(&attributes)
        .file("rootfs/plain", "")
        .end();
    let root = ground.imported(&archive);
    assert_eq!(names(&root), ["fifo", "plain"]);
    let mut list = [0_u8; 1000];
    assert_eq!(rustix::fs::listxattr(root.join("plain"), &mut list[..]).unwrap(), 0);
    let notice = format!(
        "fetch: {}: 2 device node(s) left out, as a pod makes the /dev of its apps\n",
        ground.file().display()
    );
    let again = ground.fetch(&archive);
    again.expect(0, &again.stdout, &notice);
    // Neither command opens the FIFO, which would never come back.
    ground.world.run("--dir=data image extract example.com/hostile out").expect(0, "", "");
    ground.world.run("--dir=data image export example.com/hostile out.aci").expect(0, "", "");
    assert_eq!(fs::read(ground.world.path().join("out.aci")).unwrap(), archive);
}

#[test]
fn a13_a19_nobody_else_reaches_what_is_unpacked() {
    let ground = Ground::new();
    let mut suid = Member::new("rootfs/suid", b'0');
    suid.mode = 0o4755;
    let root = ground.imported(&aci().member(&suid).end());
    assert_eq!(root.join("suid").metadata().unwrap().mode() & 0o7777, 0o4755);
    let data = ground.world.path().join("data");
    fs::set_permissions(data.join("cas/tree"), fs::Permissions::from_mode(0o755)).unwrap();
    ground.fetch(&aci().member(&suid).end()).expect_code(0);
    for (dir, mode) in [("", 0o750), ("cas", 0o2770), ("cas/tree", 0o700)] {
        assert_eq!(data.join(dir).metadata().unwrap().mode() & 0o7777, mode, "{dir}");
    }
    let denied = ground.world.run_as_nobody("--dir=data image list");
    denied.expect_code(254);
    assert!(denied.stderr.ends_with("data/cas/image: Permission denied\n"), "{}", denied.stderr);
}

#[test]
fn a14_a15_numbers_that_the_kernel_would_misread() {
    let ground = Ground::new();
    for (key, what) in [("uid", "owner"), ("gid", "group")] {
        for value in ["4294967295", "4294967296"] {
            ground.refused(
                &aci().pax(&[(key, value.into())]).file("rootfs/x", "").end(),
                &entry("rootfs/x", &format!("its {what} is not between 0 and 4294967294")),
            );
        }
    }
    let mut far = Member::new("rootfs/far", b'0');
    far.mtime = b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    let root = ground.imported(&aci().member(&far).end());
    assert!(root.join("far").metadata().unwrap().mtime() > 4_000_000_000);
    ground.world.run("--dir=data image list").expect_code(0);
}

#[test]
fn a16_a18_deep_trees_come_and_go() {
    let ground = Ground::new();
    let mut tar = aci();
    let mut path = String::from("rootfs");
    for _ in 0..2000 {
        path.push_str("/d");
        tar = tar.dir(&path);
    }
    ground.imported(&tar.symlink("rootfs/up", "../../../../../canary").end());
    ground.world.run("--dir=data image rm example.com/hostile").expect_code(0);
    ground.world.run("--dir=data image gc").expect_code(0);
    ground.expect_empty();
    assert_eq!(fs::read(ground.world.path().join("canary")).unwrap(), b"untouched");
}
