//! What the configuration of an OCI image says of its process, as the app has it (OCI image-spec, "OCI Image Configuration",
//! and spec build-tools.md 6.10).
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use serde_json::{Value, json};

use crate::host::Host;
use crate::pod::{Pods, said_by};
use crate::support::oci::{Image, Packing};
use crate::support::run::Ended;
use crate::support::tar::Tar;
use crate::support::wait;

/// Runs an image of a shell whose configuration has these members in the place of its own.
fn run(pods: &Pods, process: &Value, args: &[&str]) -> Ended {
    let content = Tar::default().dir("data").file("data/file", "of the image\n");
    let mut image = Image::new(&[]).busybox().layer(content, Packing::Gzip);
    for (name, value) in process.as_object().unwrap() {
        image = image.process(name, value.clone());
    }
    let layout = pods.path().join("layout");
    if layout.exists() {
        std::fs::remove_dir_all(&layout).unwrap();
    }
    image.layout(None).write_dir(&layout);
    pods.rkt("run --net=none oci:layout").args(args).end()
}

fn expect(pods: &Pods, process: &Value, args: &[&str], expected: &[&str]) {
    let ended = run(pods, process, args);
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "layout"), expected, "{process}: {}", ended.stderr);
}

#[test]
fn entrypoint_and_command_are_joined_and_arguments_follow() {
    let _host = Host::take();
    let pods = Pods::new();
    for (process, args, expected) in [
        (json!({"Entrypoint": ["echo", "e"], "Cmd": null}), &[][..], "e"),
        (json!({"Entrypoint": ["echo", "e"], "Cmd": ["c"]}), &[], "e c"),
        // Docker and podman would put the arguments in the place of the command.
        (json!({"Entrypoint": ["echo", "e"], "Cmd": ["c"]}), &["--", "a"], "e c a"),
        (json!({"Cmd": ["echo", "c"]}), &["--", "a"], "c a"),
        (json!({"Entrypoint": ["no"], "Cmd": ["no"]}), &["--exec=/bin/echo", "--", "a"], "a"),
        (json!({"Entrypoint": "echo", "Cmd": "one word"}), &[], "one word"),
    ] {
        expect(&pods, &process, args, &[expected]);
    }
    let refused = run(&pods, &json!({"Entrypoint": [], "Cmd": []}), &[]);
    refused.expect_code(254);
    assert!(refused.stderr.contains("has an empty \"exec\" (try --exec=BINARY)"), "{}", refused.stderr);
}

#[test]
fn users_and_groups_are_those_of_the_image() {
    let _host = Host::take();
    let pods = Pods::new();
    let script = "/bin/busybox sed -n 's/^[UG]id:.\\([0-9]*\\).*/\\1/p' /proc/self/status";
    let process = |user: &str| json!({"User": user, "Cmd": ["/bin/sh", "-c", script]});
    for (user, expected) in [
        ("web:www", ["33", "44"]),
        ("web:7", ["33", "7"]),
        ("5:www", ["5", "44"]),
        // A group that is not said is that of the user's name, else has the user's number (spec pods.md 3.6).
        ("web", ["33", "33"]),
        ("5", ["5", "5"]),
    ] {
        expect(&pods, &process(user), &[], &expected);
    }
    for (user, told) in [("none", "\"none\" user not found"), ("web:none", "\"none\" group not found")] {
        let refused = run(&pods, &process(user), &[]);
        refused.expect_code(254);
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
}

#[test]
fn the_environment_is_that_of_the_image() {
    let _host = Host::take();
    let pods = Pods::new();
    let variables =
        json!(["", "NOTHING", "=x", "EMPTY=", "BLANK= x ", "EQUAL=a=b", "A=1", "A=2", "QUOTE=\"$A\""]);
    let command = [
        "/bin/sh",
        "-c",
        "env | grep -E '^(NOTHING|EMPTY|BLANK|EQUAL|A|QUOTE)?=' | /bin/busybox sort | /bin/busybox sed 's/$/./'",
    ];
    let ended = run(&pods, &json!({"Env": variables, "Cmd": command}), &[]);
    ended.expect_code(0);
    let expected = ["A=2.", "BLANK= x .", "EMPTY=.", "EQUAL=a=b.", "QUOTE=\"$A\"."];
    assert_eq!(said_by(&ended.stdout, "layout"), expected);
    assert!(ended.stderr.contains("the variable \"\" of the image is left out"), "{}", ended.stderr);
}

#[test]
fn the_signal_of_the_image_asks_the_app_to_end() {
    let _host = Host::take();
    let pods = Pods::new();
    let layout = |process: &[(&str, Value)]| {
        let image = Image::new(&[]).busybox();
        let image = process.iter().fold(image, |image, (name, value)| image.process(name, value.clone()));
        let dir = pods.path().join("layout");
        image.layout(None).write_dir(&dir);
    };
    let loops = "while :; do sleep 0.1; done";
    for (signal, script, line, status) in [
        ("SIGUSR1", format!("trap 'echo asked; exit 0' USR1; echo on; {loops}"), "asked", 0),
        ("quit", format!("trap 'echo asked; exit 5' QUIT; echo on; {loops}"), "asked", 5),
        ("12", format!("trap 'echo asked; exit 0' USR2; echo on; {loops}"), "asked", 0),
        // One that it knows nothing of ends it, and that is no failure.
        ("SIGUSR1", format!("echo on; {loops}"), "on", 0),
    ] {
        layout(&[("StopSignal", json!(signal)), ("Cmd", json!(["/bin/sh", "-c", script]))]);
        let file = pods.path().join("uuid");
        let run = pods.rkt("run --net=none --uuid-file-save=uuid oci:layout");
        let mut pod = pods.started(run.start(), &file);
        wait::until("the app listens", || {
            let log = pod.rkt("logs -o cat").stdout();
            if log.contains("on\n") { Ok(()) } else { Err(log) }
        });
        pod.rkt("stop").end().expect_code(0);
        let ended = pod.end();
        ended.expect_code(status);
        assert_eq!(said_by(&ended.stdout, "layout").last().map(String::as_str), Some(line), "{signal}");
        std::fs::remove_dir_all(pods.path().join("layout")).unwrap();
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_volume_that_nobody_gives_begins_with_what_the_image_has_there() {
    let _host = Host::take();
    let pods = Pods::new();
    let command =
        json!(["/bin/sh", "-c", "cat /data/file; echo new >/data/file; grep -c ' /data ' /proc/self/mounts"]);
    let process = json!({"Volumes": {"/data": {}}, "Cmd": command});
    for roots in ["--no-overlay=false", "--no-overlay"] {
        // The image itself stays as it was.
        for _ in 0..2 {
            expect(&pods, &process, &[roots], &["of the image", "1"]);
        }
    }
    let empty = ["--volume=volume-data,kind=empty", "--", "-x"];
    let command = json!(["/bin/sh", "-c", "ls /data | /bin/busybox wc -l"]);
    let ended = run(&pods, &json!({"Volumes": {"/data": {}}, "Cmd": command}), &empty);
    assert_eq!(said_by(&ended.stdout, "layout"), ["0"], "one that is given is as it was given");
}
