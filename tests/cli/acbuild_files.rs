//! `acbuild` and files: what a build begins with, what is copied into it, what is written.
//!
//! What is written is judged by tar, gzip and sha512sum of the system.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;

use crate::acbuild::Site;
use crate::support::{Run, wait};

const ROOTFS: &str = ".acbuild/currentaci/rootfs";

fn as_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can make devices: sudo -E cargo test --test cli"
    );
}

/// A build with a name and files of every kind in its root file system.
fn full() -> Site {
    as_root();
    let site = Site::begun();
    site.ok("set-name a");
    let long = "l".repeat(120);
    site.sh(&format!(
        "cd {ROOTFS}
        mkdir -p b/c {long}/{long}
        echo file > b/file; chown 12:3456789 b/file; chmod 4751 b/file; touch -d @1000000000 b/file
        ln b/file b.hard
        ln -s /etc/passwd b/link
        ln -s {long}/{long}/{long} long-link
        mkfifo -m 600 b/fifo
        mknod b/null c 1 3; mknod b/disk b 7 4095
        head -c 3000000 /dev/zero > {long}/{long}/zeros
        chmod 1777 b; touch -d @1234567890 b b/c
        touch -d '1960-01-01 UTC' old
        echo x > b/'a\nb'"
    ));
    let at = site.path(ROOTFS).join("b/file");
    rustix::fs::setxattr(&at, "user.mine", b"a\nb=\xff", rustix::fs::XattrFlags::empty())
        .expect("a file system with attributes");
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(&at, "security.capability", &capability, rustix::fs::XattrFlags::empty())
        .expect("a file system with attributes");
    site
}

/// The attributes of the file that has some.
fn xattrs(site: &Site, rootfs: &str) -> [Vec<u8>; 2] {
    ["user.mine", "security.capability"].map(|name| {
        let mut value = vec![0; 100];
        let at = site.path(rootfs).join("b/file");
        let length = rustix::fs::getxattr(at, name, &mut value[..]).expect(name);
        value.truncate(length);
        value
    })
}

#[test]
fn the_id_is_the_hash_of_what_gzip_unpacks_and_equal_builds_give_equal_files() {
    let site = full();
    let id = site.acbuild("write one.aci").stdout();
    let digest = site.sh("gzip -dc one.aci | sha512sum");
    assert_eq!(id.trim(), format!("sha512-{}", digest.split(' ').next().unwrap()));
    site.run("write two.aci").expect(0, &id, "");
    site.sh("cmp one.aci two.aci");
    assert_eq!(site.path("one.aci").metadata().unwrap().mode(), 0o100_644);
    // No name, no time, of an unknown system.
    assert_eq!(fs::read(site.path("one.aci")).unwrap()[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    site.ok("set-user 1");
    assert_ne!(site.acbuild("write three.aci").stdout(), id);
}

#[test]
fn tar_reads_back_all_that_is_on_disk() {
    let site = full();
    let _id = site.acbuild("write a.aci").stdout();
    let names = site.sh("tar --list --quoting-style=escape -f a.aci");
    let names: Vec<_> = names.lines().collect();
    assert_eq!((names[0], *names.last().unwrap()), ("rootfs", "manifest"));
    let long = "l".repeat(120);
    let expected =
        site.sh(&format!("cd {ROOTFS}; find . -mindepth 1 -print0 | sort -z | tr '\\n\\0' '@\\n'"));
    let expected: Vec<_> = expected.lines().map(|path| path.replacen('.', "rootfs", 1)).collect();
    // In path order a directory comes right before what is in it; `sort` of whole paths would not say so.
    let mut sorted: Vec<_> = names[1..names.len() - 1].iter().map(|name| name.replace("\\n", "@")).collect();
    assert_eq!(sorted[..3], ["rootfs/b", "rootfs/b/a@b", "rootfs/b/c"]);
    assert!(sorted.contains(&format!("rootfs/{long}/{long}/zeros")));
    sorted.sort();
    let mut expected = expected;
    expected.sort();
    assert_eq!(sorted, expected);

    site.sh("mkdir out; tar -xpf a.aci -C out --numeric-owner --xattrs --xattrs-include='*'");
    let show = "find . -mindepth 1 -printf '%p %y %#m %U:%G %s %n %l %T@\\n' | sed 's/\\.0*$//' | sort";
    let there = |dir: &str| site.sh(&format!("cd {dir}; {show}"));
    // The size of a directory is its file system's matter.
    let files = |text: String| text.replace(" d ", " ").lines().map(str::to_owned).collect::<Vec<_>>();
    let (written, disk) = (files(there("out/rootfs")), files(there(ROOTFS)));
    let whole_seconds = |lines: Vec<String>| -> Vec<String> {
        lines
            .iter()
            .map(|line| match line.rsplit_once('.') {
                Some((line, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => line.to_owned(),
                _ => line.clone(),
            })
            .collect()
    };
    assert_eq!(whole_seconds(written), whole_seconds(disk));
    assert_eq!(xattrs(&site, "out/rootfs"), xattrs(&site, ROOTFS));
}

#[test]
fn files_put_into_the_state_by_hand_are_part_of_the_image() {
    let site = Site::begun();
    site.ok("set-name a");
    site.file(&format!("{ROOTFS}/etc/motd"), "hello");
    let _id = site.acbuild("write a.aci").stdout();
    assert_eq!(site.sh("tar -xOf a.aci rootfs/etc/motd"), "hello");
    assert!(site.sh("tar -xOf a.aci manifest").contains("\"name\":\"a\""));
}

#[test]
fn write_refuses_and_leaves_no_file() {
    let site = Site::begun();
    site.fails(
        "write a.aci",
        "write: can't write ACI, name was never set\nwrite: hint: name it with `acbuild set-name NAME`\n",
    );
    site.ok("set-name a");
    site.ok("set-user 1");
    let ended = site.run("write a.aci");
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, "write: warning: exec command was never set.\n"));
    site.fails("write a.aci", "write: ACI already exists: a.aci\nwrite: hint: --overwrite replaces it\n");
    site.ok("set-exec /x");
    let before = fs::read(site.path("a.aci")).unwrap();
    let socket = site.path(ROOTFS).join("socket");
    let _socket = UnixListener::bind(&socket).unwrap();
    site.fails(
        "write --overwrite a.aci",
        &format!("write: {ROOTFS}/socket can't be part of an image: it is a socket\n"),
    );
    assert_eq!(fs::read(site.path("a.aci")).unwrap(), before, "a failed write leaves what was there");
    fs::remove_file(socket).unwrap();
    site.fails("write no/such.aci", "write: creating no/such.aci: No such file or directory\n");
    fs::create_dir(site.path("dir")).unwrap();
    site.fails(
        "write --overwrite dir",
        &format!("write: {} is not a regular file\n", site.path("dir").display()),
    );
    site.fails("write --overwrite /dev/null", "write: /dev/null is not a regular file\n");
    assert_eq!(site.sh("ls -A"), ".acbuild\na.aci\ndir\n");

    // A link to an image stays a link.
    symlink("a.aci", site.path("link.aci")).unwrap();
    let id = site.acbuild("write --overwrite link.aci").stdout();
    assert_ne!(fs::read(site.path("a.aci")).unwrap(), before);
    site.run("write --overwrite a.aci").expect(0, &id, "");
    assert_eq!(site.sh("ls -A; readlink link.aci"), ".acbuild\na.aci\ndir\nlink.aci\na.aci\n");
}

#[test]
fn a_full_disk_leaves_no_file() {
    as_root();
    let site = Site::begun();
    site.ok("set-name a");
    site.sh(&format!("head -c 3000000 /dev/urandom > {ROOTFS}/random; mkdir small"));
    // In a mount namespace of its own, which takes the small disk with it.
    let acbuild = site.path("acbuild");
    symlink(env!("CARGO_BIN_EXE_rkt"), &acbuild).unwrap();
    let script = "mount -t tmpfs -o size=1m none small; ./acbuild write small/a.aci || echo $?; ls -A small";
    let ended = Run::new("unshare").args(["-m", "sh", "-c", script]).current_dir(site.path(".")).end();
    ended.expect(
        0,
        "1\n",
        "write: writing small/a.aci: No space left on device\n\
         write: hint: free some space, for example with `rkt gc --grace-period=0s` and `rkt image gc`\n",
    );
}

#[test]
fn copy_keeps_what_a_file_is() {
    let site = Site::begun();
    site.sh(
        "mkdir -p src/sub; echo x > src/sub/file; chmod 4750 src/sub/file; ln src/sub/file src/hard
        ln -s ../nowhere src/link; mkfifo src/fifo; touch -d @1000 src/sub/file; touch -d @2000 src/sub; chmod 700 src/sub",
    );
    site.ok("copy src /opt/x");
    let at = |path: &str| site.path(ROOTFS).join("opt/x").join(path);
    let file = at("sub/file").metadata().unwrap();
    assert_eq!((file.mode(), file.mtime(), file.nlink()), (0o104_750, 1000, 1), "hard links become files");
    assert_eq!(fs::read_to_string(at("hard")).unwrap(), "x\n");
    assert_eq!(
        (at("sub").metadata().unwrap().mode(), at("sub").metadata().unwrap().mtime()),
        (0o40_700, 2000)
    );
    assert_eq!(fs::read_link(at("link")).unwrap().to_str(), Some("../nowhere"));
    assert!(at("fifo").symlink_metadata().unwrap().file_type().is_fifo());
    assert_eq!(site.path(ROOTFS).join("opt").metadata().unwrap().mode(), 0o40_755, "a parent that was made");
    // A link is copied, not followed; a file replaces a file.
    site.ok("copy src/link /opt/file");
    site.ok("copy src/hard opt/file");
    assert_eq!(fs::read_to_string(site.path(ROOTFS).join("opt/file")).unwrap(), "x\n");
    assert_eq!(site.state(), ["buildMode", "currentaci"]);
}

#[test]
fn copy_refuses() {
    let site = Site::begun();
    site.sh("mkdir -p dir/sub; echo x > file");
    site.ok("copy dir /dir");
    let before = site.manifest();
    let _socket = UnixListener::bind(site.path("dir/socket")).unwrap();
    let into = "copy: hint: `acbuild copy-to-dir` copies into a directory\n";
    for (line, stderr) in [
        ("copy file /dir/", format!("copy: target \"/dir/\" ends in a slash\n{into}")),
        ("copy file .", format!("copy: target \".\" is the root of the image\n{into}")),
        ("copy file /a/..", format!("copy: target \"/a/..\" is the root of the image\n{into}")),
        (
            "copy dir/sub /dir",
            format!(
                "copy: mkdir {ROOTFS}/dir: file exists\n\
                 copy: hint: `acbuild copy-to-dir SOURCE/ IMAGEDIR` copies the content of a directory\n"
            ),
        ),
        ("copy file /dir", format!("copy: open {ROOTFS}/dir: is a directory\n")),
        ("copy nothing /x", "copy: no such file or directory: nothing\n".into()),
        ("copy dir /other", "copy: copying dir/socket: It is a socket\n".into()),
        ("copy-to-dir dir/socket file /other", "copy-to-dir: copying dir/socket: It is a socket\n".into()),
    ] {
        site.fails(line, &stderr);
    }
    assert_eq!(site.manifest(), before);
    assert_eq!(
        site.sh(&format!("find {ROOTFS} | sort")),
        format!("{ROOTFS}\n{ROOTFS}/dir\n{ROOTFS}/dir/sub\n")
    );
    assert_eq!(site.state(), ["buildMode", "currentaci"]);
}

#[test]
fn copy_to_dir_copies_under_own_names_or_the_content() {
    let site = Site::begun();
    site.sh("mkdir -p a/one b/two; echo f > file; echo t > b/two/t");
    site.ok("copy-to-dir a file /srv/www");
    site.ok("copy-to-dir b/ /srv/www/");
    assert_eq!(
        site.sh(&format!("cd {ROOTFS}; find . | sort")),
        ".\n./srv\n./srv/www\n./srv/www/a\n./srv/www/a/one\n./srv/www/file\n./srv/www/two\n./srv/www/two/t\n"
    );
    site.fails("copy-to-dir a /srv/www/file", "copy-to-dir: target \"/srv/www/file\" is not a directory\n");
    let hint =
        "copy-to-dir: hint: `acbuild copy-to-dir SOURCE/ IMAGEDIR` copies the content of a directory\n";
    site.fails(
        "copy-to-dir file b/two /srv/www",
        &format!("copy-to-dir: mkdir {ROOTFS}/srv/www/two: file exists\n{hint}"),
    );
}

#[test]
fn a_build_is_not_copied_into_itself() {
    let site = Site::begun();
    site.sh("echo x > file");
    let notice = "notice: the state of this build, .acbuild, was left out\n";
    site.run("copy . /app").expect(0, "", &format!("copy: {notice}"));
    site.run("copy-to-dir ./ /other").expect(0, "", &format!("copy-to-dir: {notice}"));
    let found = site.sh(&format!("cd {ROOTFS}; find . | sort"));
    assert_eq!(found, ".\n./app\n./app/file\n./other\n./other/file\n");
    site.ok("end");
    let ended = site.run("begin .");
    assert!(ended.stderr.ends_with(&format!("begin: {notice}")), "{}", ended.stderr);
    assert_eq!(site.sh(&format!("cd {ROOTFS}; find . | sort")), ".\n./file\n");
}

#[test]
fn links_in_an_image_do_not_lead_out() {
    let site = Site::begun();
    site.sh(&format!("mkdir outside {ROOTFS}/inside; echo x > file"));
    let outside = site.path("outside");
    symlink(&outside, site.path(ROOTFS).join("absolute")).unwrap();
    symlink("../../../outside", site.path(ROOTFS).join("relative")).unwrap();
    symlink("/inside", site.path(ROOTFS).join("good")).unwrap();
    symlink(&outside, site.path(ROOTFS).join("inside/file")).unwrap();
    site.run("copy file /absolute/file").expect_code(1);
    site.run("copy-to-dir file /relative").expect_code(1);
    site.ok("copy file /good/file");
    site.ok("copy file /../../up");
    assert_eq!(fs::read_to_string(site.path(ROOTFS).join("inside/file")).unwrap(), "x\n");
    assert_eq!(fs::read_to_string(site.path(ROOTFS).join("up")).unwrap(), "x\n");
    assert_eq!(site.sh("ls -A outside"), "");

    fs::rename(site.path(ROOTFS), site.path(".acbuild/currentaci/away")).unwrap();
    symlink(&outside, site.path(ROOTFS)).unwrap();
    site.ok("set-name a");
    for line in ["copy file /x", "write a.aci"] {
        let command = line.split(' ').next().unwrap();
        site.fails(line, &format!("{command}: opening {ROOTFS}: Not a directory\n"));
    }
    assert_eq!(site.sh("ls -A outside; ls a.aci 2>/dev/null || echo none"), "none\n");
}

#[test]
fn a_build_begins_with_an_image_and_writes_it_again() {
    let site = full();
    site.ok("set-exec /b/file");
    let _id = site.acbuild("write a.aci").stdout();
    let show = format!("cd {ROOTFS}; find . -mindepth 1 -printf '%p %y %#m %U:%G %n %l %Ts\\n' | sort");
    let (before, manifest, attributes) = (site.sh(&show), site.manifest(), xattrs(&site, ROOTFS));
    site.ok("end");
    for compress in ["cat", "xz -0", "bzip2 -1", "gzip"] {
        site.sh(&format!("gzip -dc a.aci | {compress} > again"));
        site.ok("begin ./again");
        assert_eq!((site.sh(&show), site.manifest()), (before.clone(), manifest.clone()), "{compress}");
        assert_eq!(xattrs(&site, ROOTFS), attributes, "{compress}");
        site.ok("end");
    }
}

#[test]
fn a_build_begins_with_a_directory_or_a_tar_of_one() {
    let site = Site::new();
    site.sh("mkdir -p root/etc; echo x > root/etc/x; ln root/etc/x root/hard; chmod 711 root; tar -cf root.tar -C root .; tar -czf sub.tgz -C root etc/x");
    let rootfs = site.path(ROOTFS);
    site.ok("begin ./root");
    assert_eq!(
        (rootfs.metadata().unwrap().mode(), rootfs.join("hard").metadata().unwrap().nlink()),
        (0o40_711, 2)
    );
    site.ok("end");
    let missing = "begin: manifest is missing, assuming build is beginning with a tar of a rootfs\n";
    let ended = site.run("begin ./root.tar");
    assert!(ended.stderr.ends_with(missing), "{}", ended.stderr);
    assert_eq!(
        (rootfs.metadata().unwrap().mode(), rootfs.join("hard").metadata().unwrap().nlink()),
        (0o40_711, 2)
    );
    site.ok("end");
    let ended = site.acbuild("begin").arg(site.path("sub.tgz")).end();
    assert!(ended.stderr.ends_with(missing), "{}", ended.stderr);
    assert_eq!(site.sh(&format!("cd {ROOTFS}; find . | sort")), ".\n./etc\n./etc/x\n");
    assert_eq!(site.manifest()["name"], "acbuild-unnamed");
}

#[test]
fn a_begin_that_fails_leaves_nothing() {
    as_root();
    let site = Site::new();
    site.sh(
        "mkdir -p t/rootfs/etc; echo '{}' > t/manifest; tar -cf bad-manifest.tar -C t manifest rootfs
        head -c 100000 /dev/urandom > t/rootfs/random; tar -czf whole.tgz -C t manifest rootfs; head -c 50000 whole.tgz > cut.tgz
        echo 'no archive' > text; : > empty; mkfifo fifo
        mkdir t2; echo x > t2/x; tar -cPf dots.tar --transform 's,^,../,' -C t2 x
        mkdir t3; ln -s /tmp t3/a; echo x > t3/b; tar -cf link.tar -C t3 a; tar -rf link.tar --transform 's,^,a/,' -C t3 b
        rm -r t t2 t3",
    );
    for (start, stderr) in [
        ("./nothing", "no such file or directory: ./nothing"),
        ("./text", "./text: neither a tar archive nor one packed with gzip, bzip2, xz or zstd"),
        ("./empty", "./empty: the file is empty"),
        (
            "./bad-manifest.tar",
            "./bad-manifest.tar: manifest: missing or bad acKind (must be \"ImageManifest\")",
        ),
        ("./dots.tar", "./dots.tar: entry \"../x\": its name contains `..`"),
    ] {
        site.fails(&format!("begin {start}"), &format!("begin: {stderr}\n"));
        assert!(site.state().is_empty() && !site.path(".acbuild").exists(), "{start}");
    }
    for start in ["./cut.tgz", "./link.tar"] {
        let ended = site.run(&format!("begin {start}"));
        ended.expect_code(1);
        assert!(ended.stderr.starts_with(&format!("begin: {start}: ")), "{}", ended.stderr);
        assert!(!site.path(".acbuild").exists(), "{start}");
    }
    site.fails("begin ./fifo", "begin: ./fifo is neither a directory nor a file\n");
    site.ok("begin");
}

#[test]
fn anyone_can_build() {
    as_root();
    let site = Site::new();
    // From a copy of the binary that nobody can reach.
    site.sh(&format!("cp {} acbuild; chmod 755 . acbuild; mkdir -m 777 work", env!("CARGO_BIN_EXE_rkt")));
    site.sh(
        "cd work; echo hello > hello; chmod 755 hello; mkdir -p t/rootfs; mknod t/rootfs/null c 1 3; echo x > t/rootfs/x
        chown 1:1 t/rootfs/x
        echo '{\"acKind\":\"ImageManifest\",\"acVersion\":\"0.8.11\",\"name\":\"a\"}' > t/manifest
        tar -cf base.aci -C t manifest rootfs",
    );
    let nobody = |line: &str| {
        let run = Run::new(site.path("acbuild")).args(line.split(' ')).env_clear();
        run.current_dir(site.path("work")).nobody().end()
    };
    let notice = "begin: notice: not running as root: superuser rights avoid permission problems\n";
    nobody("begin ./base.aci").expect(
        0,
        "",
        &format!("{notice}begin: notice: 1 device nodes were left out, which only root can make\n"),
    );
    for line in ["copy hello /app/hello", "set-working-directory /app", "set-exec -- /app/hello"] {
        nobody(line).expect(0, "", "");
    }
    let written = nobody("write hello.aci");
    let digest = site.sh("cd work; gzip -dc hello.aci | sha512sum");
    written.expect(0, &format!("sha512-{}\n", digest.split(' ').next().unwrap()), "");
    let owners = site.sh("tar --numeric-owner -tvf work/hello.aci rootfs | awk '{ print $2, $6 }'");
    assert_eq!(
        owners,
        "65534/65534 rootfs\n65534/65534 rootfs/app\n65534/65534 rootfs/app/hello\n65534/65534 rootfs/x\n"
    );
    nobody("end").expect(0, "", "");

    // Root's build is root's.
    Run::new(site.path("acbuild")).arg("begin").current_dir(site.path("work")).end().expect(0, "", "");
    let denied = "permission denied: please run this as a user with appropriate privileges\n";
    nobody("begin").expect(1, "", &format!("{notice}begin: {denied}"));
    nobody("set-name a").expect(1, "", &format!("set-name: {denied}"));
    nobody("end").expect(1, "", &format!("end: {denied}"));
    fs::set_permissions(site.path("work"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    site.sh("cd work; ../acbuild end");
    nobody("begin").expect(1, "", &format!("{notice}begin: {denied}"));
}

#[test]
fn a_killed_write_leaves_no_file_and_the_build() {
    let site = Site::begun();
    site.ok("set-name a");
    let large = site.path(ROOTFS).join("large");
    fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let writing = site.acbuild("write a.aci").start();
    wait::until("the build is locked", || {
        let fds = format!("cat /proc/{}/fdinfo/*", writing.id());
        let fds = Run::new("sh").args(["-c", &fds]).end().stdout;
        if fds.contains("FLOCK") { Ok(()) } else { Err(fds) }
    });
    // It packs a tebibyte, and will not be through before this.
    site.fails("end", "end: lock already held - is another acbuild running in this working dir?\n");
    writing.signal(rustix::process::Signal::KILL);
    assert_eq!(writing.end().status.signal(), Some(9));
    assert_eq!(site.sh("ls -A"), ".acbuild\n");
    fs::remove_file(large).unwrap();
    let _id = site.acbuild("write a.aci").stdout();
    assert_eq!(site.state(), ["buildMode", "currentaci"]);
}

#[test]
fn one_command_changes_an_image_without_a_build() {
    let site = full();
    let _id = site.acbuild("write a.aci").stdout();
    site.sh("mkdir tmp");
    let on = |line: &str| {
        site.acbuild(&format!("--modify-appc a.aci {line}")).env("TMPDIR", site.path("tmp")).end()
    };
    let members = || site.sh("gzip -dc a.aci | tar --numeric-owner -tvf - rootfs | sort");
    let before = members();
    let bytes = fs::read(site.path("a.aci")).unwrap();
    // A build beside it is another matter.
    let manifest = site.manifest();
    on("cat-manifest").expect(0, &site.run("cat-manifest").stdout, "");
    assert_eq!(fs::read(site.path("a.aci")).unwrap(), bytes, "looking changes nothing");
    on("label remove nothing").expect(
        2,
        "",
        "label remove: element to be removed does not exist in this ACI\n",
    );
    on("label add name x").expect_code(1);
    assert_eq!(fs::read(site.path("a.aci")).unwrap(), bytes, "a failure changes nothing");
    on("set-exec -- /b/file").expect(0, "", "");
    assert_eq!(members(), before);
    let changed = site.sh("tar -xOf a.aci manifest");
    assert!(changed.contains("\"exec\":[\"/b/file\"]"), "{changed}");
    assert!(changed.contains("acbuild set-exec \\\"/b/file\\\""), "{changed}");
    assert_eq!(site.manifest(), manifest);
    assert_eq!(site.sh("ls -A tmp; ls -A"), ".acbuild\na.aci\ntmp\n");

    for (line, stderr) in [
        ("begin --modify-appc a.aci", "begin: Can't use --modify flags with begin."),
        ("write --modify-appc a.aci x", "write: Can't use --modify flags with write."),
        ("end --modify-appc a.aci", "end: Can't use --modify flags with end."),
        ("version --modify-appc a.aci", "version: Can't use --modify flags with version."),
        ("set-name a --modify-appc none.aci", "set-name: image doesn't appear to exist: none.aci."),
        ("set-name a --modify-appc tmp", "set-name: image to modify is a directory: tmp."),
        (
            "set-name a --modify-appc a.aci --modify-oci a.oci",
            "set-name: can't modify an appc image and an oci image at the same time",
        ),
    ] {
        site.fails(line, &format!("{stderr}\n"));
    }
    site.sh("tar -cf root.tar tmp");
    site.fails(
        "set-name a --modify-appc root.tar",
        "set-name: root.tar: it is no image: it has no `manifest`\n",
    );
}
