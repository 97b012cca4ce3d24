//! Volumes and mounts (spec pods.md 3.7.1): the kernel is asked from inside the app and on the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::host::Host;
use crate::pod::{Pods, said_by, shell_app, shell_image};
use crate::support::aci::Aci;
use crate::support::names;
use crate::support::{Run, wait};

/// A directory of the test with a file in it.
fn source(pods: &Pods, name: &str) -> PathBuf {
    let dir = pods.path().join(name);
    fs::create_dir_all(&dir).expect("a new directory");
    fs::write(dir.join("file"), format!("of {name}\n")).expect("a new file");
    dir
}

fn volume(name: &str, source: &Path, more: &str) -> String {
    format!("--volume={name},kind=host,source={}{more}", source.display())
}

/// `rkt run` with flags of the pod, of which each is one word, and one app that is a line for a shell.
fn shell(pods: &Pods, flags: &[&str], line: &str) -> Run {
    shell_app(pods.run("").args(flags), "app", line)
}

/// What the shell of one app said.
fn say(pods: &Pods, flags: &[&str], line: &str) -> Vec<String> {
    let ended = shell(pods, flags, line).end();
    ended.expect_code(0);
    said_by(&ended.stdout, "app")
}

#[test]
fn a_directory_of_the_host_is_written_or_only_read() {
    let _host = Host::take();
    let pods = Pods::new();
    let (rw, ro) = (source(&pods, "rw"), source(&pods, "ro"));
    let flags = [
        &volume("a", &rw, ""),
        "--mount=volume=a,target=/deep/below/a",
        &volume("b", &ro, ",readOnly=true"),
        "--mount=volume=b,target=b",
    ];
    let line = "exec 2>&1; cat /deep/below/a/file /b/file; echo new > /deep/below/a/file; echo new > /b/file; \
                mkdir /b/dir; rm /b/file; stat -c %a /deep /deep/below";
    for roots in ["--no-overlay=false", "--no-overlay"] {
        fs::write(rw.join("file"), "of rw\n").expect("a file");
        let said = say(&pods, &[&flags[..], &[roots]].concat(), line);
        assert_eq!(
            said,
            [
                "of rw",
                "of ro",
                "/bin/sh: can't create /b/file: Read-only file system",
                "mkdir: can't create directory '/b/dir': Read-only file system",
                "rm: can't remove '/b/file': Read-only file system",
                "755",
                "755",
            ]
        );
        assert_eq!(fs::read_to_string(rw.join("file")).expect("a file"), "new\n");
        assert_eq!(fs::read_to_string(ro.join("file")).expect("a file"), "of ro\n");
    }
}

#[test]
fn what_is_mounted_below_a_source_is_seen_unless_recursive_is_false() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let below = dir.join("below");
    fs::create_dir(&below).expect("a new directory");
    Run::new("mount").args(["-t", "tmpfs", "test"]).arg(&below).stdout();
    fs::write(below.join("inner"), "").expect("a new file");
    let line = "ls /v/below; exec 2>&1; echo x > /v/below/new; true";
    for (more, expected) in [
        (",recursive=true", vec!["inner"]),
        ("", vec!["inner", "new"]),
        (",readOnly=true", vec!["inner", "new", "/bin/sh: can't create /v/below/new: Read-only file system"]),
        (",recursive=false,readOnly=true", vec!["/bin/sh: can't create /v/below/new: Read-only file system"]),
        (",recursive=false", vec![]),
    ] {
        let said = say(&pods, &[&volume("v", &dir, more), "--mount=volume=v,target=/v"], line);
        assert_eq!(said, expected, "{more}");
    }
    assert_eq!(names(&below), ["inner", "new"]);
    Run::new("umount").arg(&below).stdout();
    assert_eq!(names(&below), ["new"], "written below the mount, which was hidden");
}

#[test]
fn a_file_and_a_socket_can_be_volumes() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).expect("a socket");
    let flags = [
        &volume("f", &dir.join("file"), ""),
        "--mount=volume=f,target=/new/file",
        &volume("r", &dir.join("file"), ",readOnly=true"),
        "--mount=volume=r,target=/etc/passwd",
        &volume("s", &dir.join("socket"), ""),
        "--mount=volume=s,target=/run/socket",
    ];
    let line = "exec 2>&1; cat /etc/passwd; echo x > /etc/passwd; echo more >> /new/file; test -S /run/socket && echo socket";
    let said = say(&pods, &flags, line);
    assert_eq!(said, ["of source", "/bin/sh: can't create /etc/passwd: Read-only file system", "socket"]);
    assert_eq!(fs::read_to_string(dir.join("file")).expect("a file"), "of source\nmore\n");
}

/// A device that no pod has by itself, and that does nothing when it is opened: /dev/loop-control.
fn device(pods: &Pods) -> PathBuf {
    let node = pods.path().join("device");
    Run::new("mknod").arg(&node).args(["c", "10", "237"]).stdout();
    node
}

#[test]
fn a_device_is_allowed_as_the_volume_says_and_no_other() {
    let _host = Host::take();
    let pods = Pods::new();
    let (node, dir) = (device(&pods), source(&pods, "dir"));
    let line = "exec 2>&1; stat -c '%t %T' /dev/mine; (: > /dev/mine) && echo written; (: < /dev/mine) && echo read; \
                for dir in /dev/shm /v /run /; do mknod $dir/same c 10 237; mknod $dir/other c 1 1; done; true";
    let denied = |access: &str| format!("/bin/sh: can't {access} /dev/mine: Operation not permitted");
    for (more, expected) in [
        (",readOnly=true", ["a ed".to_owned(), denied("create"), "read".to_owned()]),
        ("", ["a ed".to_owned(), "written".to_owned(), "read".to_owned()]),
    ] {
        let flags = [
            &volume("d", &node, more),
            "--mount=volume=d,target=/dev/mine",
            &volume("v", &dir, ""),
            "--mount=volume=v,target=/v",
        ];
        let said = say(&pods, &flags, line);
        assert_eq!(said[..3], expected, "{more}");
        assert_eq!(said.len(), 3 + 8, "{said:?}");
        for refusal in &said[3..] {
            assert!(
                refusal.starts_with("mknod: ") && refusal.ends_with(": Operation not permitted"),
                "{refusal}"
            );
        }
    }
    let without = say(&pods, &[], "exec 2>&1; mknod /dev/shm/d c 10 237; test -e /dev/mine || echo none");
    assert_eq!(without, ["mknod: /dev/shm/d: Operation not permitted", "none"]);

    let flags = [
        &volume("a", &node, ",readOnly=true"),
        "--mount=volume=a,target=/dev/a",
        &volume("b", &node, ""),
        "--mount=volume=b,target=/dev/b",
    ];
    shell(&pods, &flags, "true").end().expect(
        254,
        "",
        "run: error starting the pod: the volumes \"a\" and \"b\" are the same device, one to be read and one to be written\n\
         run: hint: give both the same readOnly=, or run two pods\n",
    );
}

#[test]
fn an_empty_volume_is_shared_by_the_apps_and_goes_with_the_pod() {
    let _host = Host::take();
    let pods = Pods::new();
    let run = pods
        .run("")
        .args(["--volume=box,kind=empty,mode=2770,uid=1000,gid=1001", "--mount=volume=box,target=/box"]);
    let writer = "stat -c '%a %u %g' /box; echo hello > /box/note";
    let reader = "while ! test -e /other/note; do sleep 0.01; done; cat /other/note; ls -ld /box";
    let run = shell_app(run, "writer", writer);
    let run =
        run.arg(shell_image()).args(["--name=reader", "--exec=/bin/sh", "--mount=volume=box,target=/other"]);
    let ended = run.args(["--", "-c", reader, "---"]).end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "writer"), ["2770 1000 1001"]);
    let said = said_by(&ended.stdout, "reader");
    assert_eq!((said.len(), said[0].as_str()), (2, "hello"), "{said:?}");
    let uuid = pods.only();
    let shared = pods.data().join("pods/run").join(&uuid).join("sharedVolumes/box");
    assert_eq!(fs::read_to_string(shared.join("note")).expect("a file"), "hello\n");
    pods.rkt("rm").arg(&uuid).end().expect_code(0);
    assert!(!shared.exists());
}

#[test]
fn a_mount_point_without_a_volume_gets_an_empty_one_and_a_notice() {
    let _host = Host::take();
    let pods = Pods::new();
    let points = json!([
        {"name": "data", "path": "/var/data"},
        {"name": "fixed", "path": "/fixed", "readOnly": true},
    ]);
    let line = "ls -a /var/data; echo x > /var/data/x && echo written; echo x > /fixed/x; true";
    let image = Aci::shell("example.com/points", line).app("mountPoints", points).write(pods.path());
    let ended = pods.run("").arg(&image).end();
    let warning = |point: &str, path: &str| {
        format!(
            "run: warning: no volume specified for mount point \"{point}\", implicitly creating an \"empty\" volume: \
             \"points-{point}\" at \"{path}\" of app \"points\" is removed with the pod\n"
        )
    };
    assert_eq!(ended.stderr, warning("data", "/var/data") + &warning("fixed", "/fixed"));
    ended.expect_code(0);
    let said = said_by(&ended.stdout, "points");
    assert_eq!(said, [".", "..", "written", "/bin/sh: can't create /fixed/x: Read-only file system"]);

    // A volume of that name is taken in its place, and is as the mount point says.
    let dir = source(&pods, "source");
    let flags = [volume("data", &dir, ""), volume("fixed", &dir, "")];
    let ended = pods.run("").args(&flags).arg(&image).end();
    assert_eq!(ended.stderr, "");
    let said = said_by(&ended.stdout, "points");
    assert_eq!(said, [".", "..", "file", "written", "/bin/sh: can't create /fixed/x: Read-only file system"]);
}

#[test]
fn a_docker_image_finds_its_own_files_in_its_implicit_volume_and_none_of_the_host() {
    let _host = Host::take();
    let pods = Pods::new();
    let points = json!([
        {"name": "data", "path": "/var/data"},
        {"name": "gone", "path": "/gone"},
        {"name": "link", "path": "/to-etc"},
        {"name": "up", "path": "/up"},
    ]);
    let line = "stat -c '%a %u %g' /var/data; ls -A /var/data /gone /real /up; echo x > /real/x";
    let image = Aci::shell("example.com/docker", line)
        .app("mountPoints", points)
        .field("annotations", json!([{"name": "appc.io/docker/repository", "value": "x"}]))
        .directory_of("/var/data", 0o2750, (33, 44))
        .file_of("/var/data/own", (33, 44))
        .link("/var/data/shadow", "/etc/shadow")
        .file("/real/inner", 0o644, "")
        .link("/to-etc", "../../../../../../../../real")
        .link("/up", "/../../../../../../../root");
    let ended = pods.run("").arg(image.write(pods.path())).end();
    ended.expect_code(0);
    assert_eq!(
        said_by(&ended.stdout, "docker"),
        ["2750 33 44", "/gone:", "/real:", "inner", "/up:", "/var/data:", "own", "shadow"]
    );
    let shared = pods.data().join("pods/run").join(pods.only()).join("sharedVolumes");
    assert_eq!(names(&shared.join("docker-link")), ["inner", "x"]);
    assert!(fs::symlink_metadata(shared.join("docker-data/shadow")).expect("a link").is_symlink());
}

#[test]
fn links_of_an_image_never_lead_a_volume_out() {
    let _host = Host::take_alone();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let links = [
        ("/up", "/../../../../../../../../etc"),
        ("/absolute", "/etc"),
        ("/chain", "chain2/../chain3"),
        ("/chain2", "/etc"),
        ("/chain3", "var/../etc/deep"),
        ("/dangling", "/not/there"),
        ("/magic", "/proc/1/root/etc"),
        ("/self", "/proc/self/root/etc"),
        ("/device", "/dev"),
        ("/sockets", "/run/systemd"),
        ("/kernel", "/sys/kernel"),
        ("/loop", "/loop"),
    ];
    let image = links
        .iter()
        .fold(Aci::new("example.com/links", &["/bin/sh"]), |image, (link, to)| image.link(link, to))
        .directory_of("/etc/deep", 0o755, (0, 0))
        .write(pods.path());
    let before = fingerprint();
    let run = |target: &str, line: &str| {
        let mount = format!("--mount=volume=v,target={target}");
        let run = pods.run("").args([volume("v", &dir, ""), mount]).arg(&image);
        run.args(["--name=app", "--", "-c", line]).end()
    };
    for (target, real) in [
        ("/up/new", "/etc/new"),
        ("/absolute/new", "/etc/new"),
        ("/chain", "/etc/deep"),
        ("/dangling/x", "/not/there/x"),
        ("/kernel", "/sys/kernel"),
    ] {
        let ended = run(target, &format!("cat {real}/file; echo x > {real}/written"));
        ended.expect_code(0);
        assert_eq!(said_by(&ended.stdout, "app"), ["of source"], "{target}");
        fs::remove_file(dir.join("written")).expect("written into the volume");
        // Nor into the root of the pod's systemd.
        let stage1 = pods.data().join("pods/run").join(pods.only()).join("stage1/rootfs");
        assert!(!stage1.join("etc/new").exists() && !stage1.join("not").exists(), "{target}");
        pods.rkt("rm").arg(pods.only()).end().expect_code(0);
    }
    for (target, reason) in [
        ("/magic", "(in its image a link to \"/proc/1/root/etc\"): the kernel's files are there"),
        ("/self", "(in its image a link to \"/proc/self/root/etc\"): the kernel's files are there"),
        ("/device", "(in its image a link to \"/dev\"): the app's devices are there; name a path below it"),
        ("/sockets", "(in its image a link to \"/run/systemd\"): systemd's sockets are there"),
    ] {
        run(target, "true").expect(
            254,
            "",
            &format!(
                "run: error setting up stage0: app \"app\": nothing can be mounted on \"{target}\" {reason}\n\
                 run: hint: choose another target with --mount volume=NAME,target=PATH, or another path in the pod manifest\n"
            ),
        );
    }
    let looped = run("/loop", "true");
    looped.expect_code(254);
    assert!(looped.stderr.ends_with("/loop: Too many levels of symbolic links\n"), "{}", looped.stderr);
    assert!(pods.uuids().is_empty());
    assert_eq!(fingerprint(), before);
}

/// The names in directories of the host at which the links of hostile images aim.
fn fingerprint() -> Vec<Vec<String>> {
    ["/", "/etc", "/root", "/run/systemd"].into_iter().map(|dir| names(Path::new(dir))).collect()
}

#[test]
fn a_link_in_a_volume_does_not_lead_a_nested_one_out() {
    let _host = Host::take_alone();
    let pods = Pods::new();
    let (outer, inner) = (source(&pods, "outer"), source(&pods, "inner"));
    symlink("/../../../../../../etc", outer.join("out")).expect("a link");
    let before = fingerprint();
    fs::create_dir(outer.join("dir")).expect("a new directory");
    let run = |more: &str, target: &str, line: &str| {
        let mount = format!("--mount=volume=inner,target={target}");
        let flags = [
            &volume("outer", &outer, more),
            "--mount=volume=outer,target=/v",
            &volume("inner", &inner, ""),
            &mount,
        ];
        shell(&pods, &flags, line).end()
    };
    let ended = run("", "/v/plain", "cat /v/plain/file; ls /v");
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["of inner", "dir", "file", "out", "plain"]);
    let ended = run(",readOnly=true", "/v/dir", "cat /v/dir/file; echo x > /v/dir/new");
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["of inner"]);
    assert_eq!(names(&inner), ["file", "new"]);
    for (more, target, problem, hint) in [
        (
            "",
            "/v/out/new",
            "\"/v/out/new\" leads through a link in the volume \"outer\"",
            "choose another target with --mount volume=NAME,target=PATH, or another path in the pod manifest",
        ),
        (
            "",
            "/v/file",
            "the volume \"inner\" is a directory, but \"/v/file\" is a file already",
            "choose another target with --mount volume=NAME,target=PATH, or another path in the pod manifest",
        ),
        (
            ",readOnly=true",
            "/v/none",
            "\"/v/none\" is in the volume \"outer\", which has no such path and is read-only",
            "make it in the source of the volume \"outer\" before the pod starts",
        ),
    ] {
        let text = format!("run: error starting the pod: app \"app\": {problem}\nrun: hint: {hint}\n");
        run(more, target, "true").expect(254, "", &text);
    }
    assert_eq!(fingerprint(), before);
}

#[test]
fn a_volume_at_or_below_sys_takes_its_place() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let read_only = "exec 2>&1; echo x > /proc/sys/kernel/core_pattern; (: > /dev/new); echo x > /v/x; test -e /sys/class || echo none";
    let refused = [
        "/bin/sh: can't create /proc/sys/kernel/core_pattern: Read-only file system",
        "/bin/sh: can't create /dev/new: Read-only file system",
        "none",
    ];
    for target in ["/sys", "/sys/fs/cgroup"] {
        let mount = format!("--mount=volume=v,target={target}");
        let line = format!(
            "cat {target}/file; echo x > {target}/x; {}",
            read_only.replace("/v/", &format!("{target}/"))
        );
        let said = say(&pods, &[&volume("v", &dir, ""), &mount], &line);
        assert_eq!(said[0], "of source");
        assert_eq!(said[1..], refused, "{target}");
    }
}

#[test]
fn a_volume_at_run_takes_the_place_of_the_image_s() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let flags = [&volume("v", &dir, ""), "--mount=volume=v,target=/run"];
    assert_eq!(
        say(&pods, &flags, "cat /run/file; echo x > /run/new; test -S /dev/log && echo log"),
        ["of source", "log"]
    );
    // systemd's own sockets are below it, and those of 257 for the host's view of it.
    assert_eq!(
        names(&dir).iter().filter(|name| *name != "host").collect::<Vec<_>>(),
        ["file", "new", "systemd"]
    );
    let flags = [&volume("v", &dir, ",readOnly=true"), "--mount=volume=v,target=/run"];
    shell(&pods, &flags, "true").end().expect(
        254,
        "",
        "run: error setting up stage0: app \"app\": nothing can be mounted on \"/run\": systemd's sockets are made below it, \
         and this volume is read-only\n\
         run: hint: choose another target with --mount volume=NAME,target=PATH, or another path in the pod manifest\n",
    );
}

#[test]
fn a_start_that_fails_leaves_what_is_mounted_on_the_host() {
    let _host = Host::take_alone();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let below = dir.join("below");
    fs::create_dir(&below).expect("a new directory");
    Run::new("mount").args(["-t", "tmpfs", "test"]).arg(&below).stdout();
    fs::write(below.join("inner"), "").expect("a new file");
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("a table");
    let before = mounts();
    let flags = [&volume("v", &dir, ""), "--mount=volume=v,target=/v", "--mount=volume=v,target=/etc/passwd"];
    shell(&pods, &flags, "true").end().expect_code(254);
    assert_eq!(mounts(), before);
    assert_eq!((names(&dir), names(&below)), (vec!["below".into(), "file".into()], vec!["inner".into()]));
    for place in ["prepare", "run", "garbage"] {
        assert_eq!(names(&pods.data().join("pods").join(place)), [""; 0], "{place}");
    }
    Run::new("umount").arg(&below).stdout();
}

#[test]
fn the_whole_host_can_be_looked_at() {
    let _host = Host::take();
    let pods = Pods::new();
    let flags = ["--volume=host,kind=host,source=/,readOnly=true", "--mount=volume=host,target=/host"];
    let line = "exec 2>&1; test -d /host/run/systemd/system && echo booted; echo x > /host/run/x; (: < /host/dev/null)";
    let said = say(&pods, &flags, &format!("{line}; true"));
    assert_eq!(
        said,
        [
            "booted",
            "/bin/sh: can't create /host/run/x: Read-only file system",
            "/bin/sh: can't open /host/dev/null: Permission denied",
        ]
    );
}

#[test]
fn twenty_volumes_at_odd_paths() {
    let _host = Host::take();
    let pods = Pods::new();
    let long = format!("/{}", ["x".repeat(255).as_str(); 14].join("/"));
    let odd = [
        "/a b",
        "/c:d",
        "/e%f",
        "/g\\h",
        "/i$j",
        "/k;l",
        "/m*n",
        "/ü",
        "/trailing ",
        "/#",
        "/-p",
        long.as_str(),
    ];
    let targets: Vec<String> =
        odd.iter().map(|path| (*path).to_owned()).chain((odd.len()..20).map(|n| format!("/v{n}"))).collect();
    let mut run = pods.run("");
    for (number, target) in targets.iter().enumerate() {
        let name = if number % 2 == 0 { format!("'{number}\" \\ :%s") } else { format!("s{number}") };
        let dir = source(&pods, &name);
        run = run
            .arg(volume(&format!("v{number}"), &dir, ""))
            .arg(format!("--mount=volume=v{number},target={target}"));
    }
    let list = targets.iter().map(|target| format!("'{target}/file'")).collect::<Vec<_>>().join(" ");
    let ended = shell_app(run, "app", &format!("cat {list}")).end();
    ended.expect_code(0);
    let said = said_by(&ended.stdout, "app");
    assert_eq!(said.len(), 20);
    for (number, line) in said.iter().enumerate() {
        let expected =
            if number % 2 == 0 { format!("of '{number}\" \\ :%s") } else { format!("of s{number}") };
        assert_eq!(*line, expected, "{}", targets[number]);
    }
}

#[test]
fn a_volume_stays_writable_in_a_read_only_root() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let flags = [
        &volume("v", &dir, ""),
        "--mount=volume=v,target=/new/v",
        "--mount=volume=v,target=/dev/shm",
        &volume("r", &dir, ",readOnly=true"),
        "--mount=volume=r,target=/r",
    ];
    let line = "exec 2>&1; for at in /new/v /dev/shm /r /etc; do echo x > $at/x && echo $at; done; true";
    let run = pods.run("").args(flags).arg(shell_image()).args(["--name=app", "--readonly-rootfs=true"]);
    let ended = run.args(["--exec=/bin/sh", "--", "-c", line]).end();
    ended.expect_code(0);
    let refused = |path: &str| format!("/bin/sh: can't create {path}/x: Read-only file system");
    let expected = ["/new/v".to_owned(), "/dev/shm".to_owned(), refused("/r"), refused("/etc")];
    assert_eq!(said_by(&ended.stdout, "app"), expected);
}

#[test]
fn a_source_may_have_the_longest_path() {
    let _host = Host::take();
    let pods = Pods::new();
    let mut dir = pods.path().to_owned();
    while dir.as_os_str().len() < 4096 - 256 {
        dir.push("x".repeat(100));
    }
    fs::create_dir_all(&dir).expect("new directories");
    fs::write(dir.join("file"), "deep\n").expect("a new file");
    assert_eq!(say(&pods, &[&volume("v", &dir, ""), "--mount=volume=v,target=/v"], "cat /v/file"), ["deep"]);
    let missing = dir.join("y".repeat(255)).join("z");
    let ended = shell(&pods, &[&volume("v", &missing, ""), "--mount=volume=v,target=/v"], "true").end();
    ended.expect_code(1);
    assert!(ended.stderr.contains("Failed to stat "), "{}", ended.stderr);
}

#[test]
fn a_target_that_systemd_can_not_carry_is_refused() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let mount = |target: &str| format!("--mount=volume=v,target={target}");
    shell(&pods, &[&volume("v", &dir, ""), &mount("/it's")], "true").end().expect(
        254,
        "",
        "run: error setting up stage0: app app: path of a bind mount \"/it's\" contains '\\''\n",
    );
    let ended =
        shell(&pods, &[&volume("v", &dir, ""), &mount(&format!("/{}", "x/".repeat(1920)))], "true").end();
    ended.expect_code(254);
    assert!(ended.stderr.contains("the path of a mount is longer than 3840 bytes"), "{}", ended.stderr);
    assert!(pods.uuids().is_empty());
}

#[test]
fn a_source_that_is_not_there_is_told_and_a_prepared_pod_stays_prepared() {
    let host = Host::take();
    let pods = Pods::new();
    let dir = pods.path().join("later");
    let message = |command: &str| {
        format!(
            "{command}: error starting the pod: Failed to stat {}: No such file or directory\n\
             {command}: hint: make it before the pod starts, or correct source= of the volume \"v\"\n",
            dir.display()
        )
    };
    let flags = [&volume("v", &dir, ""), "--mount=volume=v,target=/v"];
    shell(&pods, &flags, "cat /v/file").end().expect(1, "", &message("run"));
    assert!(pods.uuids().is_empty());

    let prepare = shell_app(pods.rkt("prepare").args(flags), "app", "cat /v/file");
    let uuid = prepare.stdout().trim().to_owned();
    pods.rkt("run-prepared --net=none").arg(&uuid).end().expect(1, "", &message("run-prepared"));
    assert_eq!(pods.status(&uuid), ["state=prepared"]);
    // The first start may have found another kind of file.
    fs::write(&dir, "").expect("a new file");
    let ended = pods.rkt("run-prepared --net=none").arg(&uuid).end();
    ended.expect_code(1);
    fs::remove_file(&dir).expect("the file");
    pods.rkt("rm").arg(&uuid).end().expect_code(0);

    source(&pods, "later");
    let prepare = shell_app(pods.rkt("prepare").args(flags), "app", "cat /v/file");
    let uuid = prepare.stdout().trim().to_owned();
    let ended = pods.rkt("run-prepared --net=none").arg(&uuid).end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["of later"]);
    crate::pod::expect_nothing_runs(&host, &uuid);
}

#[test]
fn a_directory_on_a_file_and_a_file_on_a_directory_are_refused() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    for (source, target, expected) in [
        (dir.clone(), "/etc/passwd", "is a directory, but \"/etc/passwd\" is a file already"),
        (dir.join("file"), "/etc", "is a file, but \"/etc\" is a directory already"),
    ] {
        let mount = format!("--mount=volume=v,target={target}");
        shell(&pods, &[&volume("v", &source, ""), &mount], "true").end().expect(
            254,
            "",
            &format!(
                "run: error starting the pod: app \"app\": the volume \"v\" {expected}\n\
                 run: hint: choose another target with --mount volume=NAME,target=PATH, or another path in the pod manifest\n"
            ),
        );
    }
    assert!(pods.uuids().is_empty());
}

#[test]
fn the_host_sees_no_mount_of_a_pod_and_a_volume_survives_its_removal() {
    let host = Host::take_alone();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let below = dir.join("below");
    fs::create_dir(&below).expect("a new directory");
    Run::new("mount").args(["-t", "tmpfs", "test"]).arg(&below).stdout();
    fs::write(below.join("inner"), "").expect("a new file");
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("a table");
    let before = mounts();
    for how in ["stop", "stop --force", "kill"] {
        let flags = format!("{} --mount=volume=v,target=/v", volume("v", &dir, ""));
        let mut pod = pods.start_shell(&flags, "echo x > /v/below/inner; exec sleep 1000");
        wait::until("the app has written", || {
            let text = fs::read_to_string(below.join("inner")).expect("a file");
            if text == "x\n" { Ok(()) } else { Err(text) }
        });
        assert_eq!(mounts(), before, "while the pod runs");
        // What the host mounts below the source now does not reach the pod, and its own mounts can be removed.
        Run::new("mount").args(["-t", "tmpfs", "test"]).arg(&below).stdout();
        Run::new("umount").arg(&below).stdout();
        match how {
            "kill" => pod.supervisor().signal(rustix::process::Signal::KILL),
            how => {
                pod.rkt(how).end().expect_code(0);
            }
        }
        let _ended = pod.end();
        pod.expect_nothing_runs(&host);
        assert_eq!(mounts(), before, "after the pod");
        pods.rkt("gc --grace-period=0s").end().expect_code(0);
        assert!(!pod.dir().exists());
        assert_eq!(names(&dir), ["below", "file"], "{how}");
        assert_eq!(names(&below), ["inner"], "{how}");
        fs::write(below.join("inner"), "").expect("a file");
    }
    Run::new("umount").arg(&below).stdout();
}

#[test]
fn a_pod_in_a_service_can_not_use_device_nodes_that_it_makes_in_a_volume() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let out = dir.join("out");
    fs::write(&out, "").expect("a file");
    let line = "exec > /v/out 2>&1; mknod /v/node c 1 11 && (: > /v/node); mknod /box/node c 1 11 && (: > /box/node); echo end";
    let unit = format!("rkt-test-volume-{}.service", std::process::id());
    let run = Run::new("systemd-run").args(["--wait", "--collect", "--quiet", "--unit", &unit]);
    let run = run.arg(env!("CARGO_BIN_EXE_rkt")).arg("--dir").arg(pods.data());
    let run = run.args(["--insecure-options=image", "run", "--net=none", &volume("v", &dir, "")]);
    let run =
        run.args(["--mount=volume=v,target=/v", "--volume=box,kind=empty", "--mount=volume=box,target=/box"]);
    shell_app(run, "app", line).end().expect_code(0);
    assert_eq!(
        fs::read_to_string(&out).expect("a file"),
        "/bin/sh: can't create /v/node: Permission denied\n/bin/sh: can't create /box/node: Permission denied\nend\n"
    );
    fs::symlink_metadata(dir.join("node")).expect("the node was made");

    // What a device volume may be used for is up to the service, and the user is told.
    let run = Run::new("systemd-run").args([
        "--wait",
        "--collect",
        "--quiet",
        "--pipe",
        "--property=DevicePolicy=closed",
    ]);
    let run = run.arg(env!("CARGO_BIN_EXE_rkt")).arg("--dir").arg(pods.data());
    let run = run.args(["--insecure-options=image", "run", "--net=none", &volume("d", &device(&pods), "")]);
    let ended = shell_app(run.arg("--mount=volume=d,target=/dev/mine"), "app", "(: < /dev/mine); true").end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["/bin/sh: can't open /dev/mine: Operation not permitted"]);
    assert_eq!(
        ended.stderr,
        "run: the pod stays in the service that started it: which devices it may open is up to DeviceAllow= there\n"
    );
}

#[test]
fn status_and_list_show_the_mounts() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = source(&pods, "source");
    let flags = [
        &volume("v", &dir, ",readOnly=true"),
        "--volume=box,kind=empty",
        "--mount=volume=v,target=/v/",
        "--mount=volume=box,target=box",
    ];
    let uuid = shell_app(pods.rkt("prepare").args(flags), "app", "true").stdout().trim().to_owned();
    let status: Value =
        serde_json::from_str(&pods.rkt("status --format=json").arg(&uuid).stdout()).expect("JSON");
    let shared = pods.data().join("pods/prepared").join(&uuid).join("sharedVolumes/box");
    let expected = json!([
        {"name": "v", "container_path": "/v", "host_path": dir, "read_only": true},
        {"name": "box", "container_path": "/box", "host_path": shared, "read_only": false},
    ]);
    assert_eq!(status["apps"][0]["mounts"], expected);
    let list: Value = serde_json::from_str(&pods.rkt("list --format=json").stdout()).expect("JSON");
    assert_eq!(list[0]["apps"][0]["mounts"], expected);
    let manifest: Value = serde_json::from_str(&pods.rkt("cat-manifest").arg(&uuid).stdout()).expect("JSON");
    assert_eq!(
        manifest["volumes"],
        json!([
            {"name": "v", "kind": "host", "source": dir, "readOnly": true},
            {"name": "box", "kind": "empty", "mode": "0755", "uid": 0, "gid": 0},
        ])
    );
    assert_eq!(
        manifest["apps"][0]["mounts"],
        json!([{"volume": "v", "path": "/v/"}, {"volume": "box", "path": "box"}])
    );
}
