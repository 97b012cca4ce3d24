//! OCI images as pods: what an app sees of many layers, on overlays and in a copy, and what is left on the host.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use serde_json::json;

use crate::host::Host;
use crate::pod::Pods;
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

const LOOK: &str = "cd / && stat -c %n:%u:%g:%a srv && ls srv opaque emptied kind && cat alias srv/stays && \
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
    image("cat /srv/new && touch /srv/mine && ls /srv").layout(None).write_dir(&pods.path().join("layout"));
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
