//! OCI images as pods: what an app sees of many layers, on overlays and in a copy, and what is left on the host.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use serde_json::json;

use crate::host::Host;
use crate::odd::run_under_umask;
use crate::pod::Pods;
use crate::support::Run;
use crate::support::oci::{Image, Packing};
use crate::support::tar::{Member, Tar};

fn member(name: &str, typeflag: u8, mode: u32, (uid, gid): (u64, u64)) -> Member {
    let mut member = Member::new(name, typeflag);
    member.mode = mode;
    member.uid = crate::support::tar::octal(uid, 8);
    member.gid = crate::support::tar::octal(gid, 8);
    member
}

/// Layers with everything that one says about another.
fn image(script: &str) -> Image {
    let lower = Tar::default()
        .member(&member("srv", b'5', 0o2750, (33, 44)))
        .file("srv/gone", "x")
        .file("srv/stays", "low")
        .dir("opaque")
        .file("opaque/old", "x")
        .file("linked", "from below")
        .dir("emptied")
        .file("emptied/a", "x")
        .symlink("link", "srv")
        .file("kind", "a file");
    let upper = Tar::default()
        // No entry for srv: its owner and mode come from below.
        .file("srv/.wh.gone", "")
        .file("srv/new", "new")
        .dir("opaque")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "x")
        .hard_link("alias", "linked")
        .file(".wh.emptied", "")
        .dir("emptied")
        .file("emptied/.wh.nothing", "")
        .file(".wh.kind", "")
        .dir("kind")
        .file("kind/inside", "x");
    Image::new(&["/bin/sh", "-c", script]).busybox().layer(lower, Packing::None).layer(upper, Packing::Zstd)
}

const LOOK: &str = "cd / && stat -c %n:%u:%g:%a srv && ls srv opaque emptied kind && cat alias srv/stays && echo && \
                    stat -c %h alias && stat -L -c %a link && id -u && echo $A && pwd";

const SEEN: [&str; 15] = [
    "srv:33:44:2750",
    "emptied:",
    "kind:",
    "inside",
    "opaque:",
    "new",
    "srv:",
    "new",
    "stays",
    "from belowlow",
    "2",
    "2750",
    "33",
    "1",
    "/",
];

/// The overlays that the host sees.
fn mounts() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| line.contains(" overlay "))
        .count()
}

/// What the app printed, without the journal's words and blank lines.
fn printed(stdout: &str) -> Vec<String> {
    let lines =
        stdout.lines().filter_map(|line| line.split_once("]: ").map(|(_, text)| text.trim().to_owned()));
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn an_app_sees_what_its_layers_mean() {
    let _host = Host::take();
    let before = mounts();
    let pods = Pods::new();
    let image = image(LOOK).process("User", json!("web")).process("Env", json!(["PATH=/bin", "A=1"]));
    image.layout(Some("1")).write_dir(&pods.path().join("layout"));
    for flags in ["", "--no-overlay"] {
        let ended = pods
            .rkt("run --net=none")
            .args(flags.split(' ').filter(|w| !w.is_empty()))
            .arg("oci:layout")
            .end();
        ended.expect_code(0);
        assert_eq!(printed(&ended.stdout), SEEN, "{flags}\n{}\n{}", ended.stdout, ended.stderr);
    }
    assert_eq!(mounts(), before);
}

#[test]
fn a_hundred_and_twenty_layers_run() {
    let _host = Host::take();
    let pods = Pods::new();
    let mut image = Image::new(&["/bin/sh", "-c", "ls /n | grep -c . && cat /top"]).busybox();
    for number in 0..119 {
        let tar = Tar::default().dir("n").file(format!("n/{number}"), "x").file("top", number.to_string());
        image = image.layer(tar, Packing::None);
    }
    image.layout(None).write_dir(&pods.path().join("layout"));
    let ended = pods.rkt("run --net=none oci:layout").end();
    ended.expect_code(0);
    assert_eq!(printed(&ended.stdout), ["119", "118"], "{}", ended.stderr);
}

#[test]
fn the_image_may_go_while_its_pod_is_prepared() {
    let _host = Host::take();
    let pods = Pods::new();
    image("cat /srv/new && echo && touch /srv/mine && ls /srv")
        .layout(None)
        .write_dir(&pods.path().join("layout"));
    let uuid = pods.rkt("prepare oci:layout").stdout().trim().to_owned();
    pods.rkt("image rm layout").end().expect_code(0);
    pods.rkt("image gc --grace-period=0s").end().expect_code(0);
    let ended = pods.rkt("run-prepared --net=none").arg(&uuid).end();
    ended.expect_code(0);
    assert_eq!(printed(&ended.stdout), ["new", "mine", "new", "stays"]);
    pods.rkt("rm").arg(&uuid).end().expect_code(0);
    pods.rkt("image gc --grace-period=0s").end().expect_code(0);
    let left: Vec<_> = std::fs::read_dir(pods.data().join("cas/tree")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A layout of an image whose shell does this, as this user.
fn shell_layout(pods: &Pods, script: &str, user: &str) {
    let image = Image::new(&["/bin/sh", "-c", script]).busybox().process("User", json!(user));
    image.layout(None).write_dir(&pods.path().join("layout"));
}

#[test]
fn an_app_opens_its_output_by_its_names() {
    let _host = Host::take();
    let pods = Pods::new();
    // The names that images of nginx, httpd and php have in their configuration.
    let script = "echo one >/dev/stdout; echo two >/dev/stderr; echo three >/proc/self/fd/2; echo four";
    for user in ["0", "web", "1234"] {
        shell_layout(&pods, script, user);
        let ended = pods.rkt("run --net=none oci:layout").end();
        ended.expect_code(0);
        assert_eq!(printed(&ended.stdout), ["one", "two", "three", "four"], "{user}: {}", ended.stderr);
        // Between a caller's pipes as well.
        let ended = pods.rkt("run --net=none --interactive oci:layout").end();
        assert_eq!((ended.stdout.as_str(), ended.code()), ("one\nfour\n", 0), "{user}: {}", ended.stderr);
    }
}

#[test]
fn all_that_an_app_has_written_is_in_its_log_when_the_pod_has_ended() {
    let _host = Host::take();
    let pods = Pods::new();
    // More than a pipe holds, from a child that is killed with the app, too; and the app's status is its own.
    let script = "(while :; do sleep 1000; done) & i=0; \
                  while [ $i -lt 5000 ]; do echo this is line $i; i=$((i + 1)); done >/dev/stderr; exit 3";
    shell_layout(&pods, script, "web");
    let ended = pods.rkt("run --net=none oci:layout").end();
    ended.expect_code(3);
    let expected: Vec<_> = (0..5000).map(|number| format!("this is line {number}")).collect();
    assert!(printed(&ended.stdout) == expected, "{} lines", printed(&ended.stdout).len());
    let uuid = pods.only();
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(lines(pods.rkt("logs --output=cat").arg(&uuid).stdout()) == expected);
    // systemd's own tools know the lines as those of the app's unit.
    let root = pods.data().join("pods/run").join(&uuid).join("stage1/rootfs");
    let journal = root.join("var/log/journal").join(uuid.replace('-', ""));
    let of_unit = Run::new("journalctl").args(["--quiet", "--output=cat", "--unit=layout.service"]);
    let found = lines(of_unit.arg("--directory").arg(&journal).stdout());
    assert!(expected.iter().all(|line| found.contains(line)), "{} lines", found.len());
}

#[test]
fn the_root_of_layers_that_do_not_name_it_is_open_whatever_the_umask_is() {
    let _host = Host::take();
    let pods = Pods::new();
    shell_layout(&pods, "stat -c %n:%u:%g:%a /", "web");
    let ended = run_under_umask(&pods).arg("oci:layout").end();
    ended.expect_code(0);
    assert_eq!(printed(&ended.stdout), ["/:0:0:755"], "{}", ended.stderr);
}

#[test]
fn the_missing_working_directory_of_an_image_is_made() {
    let _host = Host::take();
    let pods = Pods::new();
    let run = |directory: &str| {
        let image = Image::new(&["/bin/sh", "-c", "pwd; stat -c %u:%g:%a . .."]).busybox();
        let image = image.layer(Tar::default().symlink("nowhere", "/missing"), Packing::None);
        let image = image.process("WorkingDir", json!(directory)).process("User", json!("web"));
        image.layout(None).write_dir(&pods.path().join("layout"));
        // Whatever the umask is.
        run_under_umask(&pods).arg("oci:layout").end()
    };
    for (directory, expected) in [
        ("/srv/new", ["/srv/new", "0:0:755", "0:0:755"]),
        ("new/relative", ["/new/relative", "0:0:755", "0:0:755"]),
        ("/tmp/new", ["/tmp/new", "0:0:755", "0:0:755"]),
    ] {
        let ended = run(directory);
        ended.expect_code(0);
        assert_eq!(printed(&ended.stdout), expected, "{}", ended.stderr);
    }
    // Docker makes none of these either.
    for (directory, reason) in [("/etc/passwd", "Not a directory"), ("/nowhere", "No such file or directory")]
    {
        let ended = run(directory);
        ended.expect_code(200);
        let told = format!("Error: Unable to change to the working directory \"{directory}\": {reason}");
        assert_eq!(printed(&ended.stdout), [told]);
    }
}
