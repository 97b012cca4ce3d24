//! prepare, run-prepared, rm and gc, and what list and status say on the way, whole.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::host::Host;
use crate::pod::{Pods, said_by, shell_app};
use crate::support::run::Ended;

/// The UUID of a new prepared pod of one app that is a line for a shell.
fn prepare(pods: &Pods, flags: &str, line: &str) -> String {
    let ended = shell_app(pods.rkt(&format!("prepare {flags}")), "app", line).end();
    ended.expect_code(0);
    assert_eq!(ended.stderr, "");
    ended.stdout.strip_suffix('\n').expect("one line").to_owned()
}

fn place_of(pods: &Pods, uuid: &str) -> Vec<&'static str> {
    let places = ["embryo", "prepare", "prepared", "run", "exited-garbage", "garbage"];
    places.into_iter().filter(|place| pods.data().join("pods").join(place).join(uuid).exists()).collect()
}

fn gc(pods: &Pods, flags: &str) -> Ended {
    let ended = pods.rkt(&format!("gc {flags}")).end();
    ended.expect_code(0);
    ended
}

#[test]
fn a_pod_passes_through_all_its_places() {
    let host = Host::take();
    let pods = Pods::new();
    let uuid = prepare(&pods, "", "echo ran; exit 4");
    assert_eq!(place_of(&pods, &uuid), ["prepared"]);
    assert_eq!(pods.status(&uuid), ["state=prepared"]);
    pods.rkt("stop").arg(&uuid).end().expect(
        254,
        "",
        &format!("stop: pod \"{uuid}\" is not running\nstop: failed to stop 1 pod(s)\n"),
    );

    let ended = pods.rkt("run-prepared --net=none").arg(&uuid[..8]).end();
    ended.expect_code(4);
    assert_eq!(said_by(&ended.stdout, "app"), ["ran"]);
    assert_eq!(place_of(&pods, &uuid), ["run"]);
    crate::pod::expect_nothing_runs(&host, &uuid);
    pods.rkt("run-prepared --net=none").arg(&uuid).end().expect(
        254,
        "",
        &format!("run-prepared: pod \"{uuid}\" is not prepared\n"),
    );

    assert_eq!(gc(&pods, "--mark-only").stderr, format!("gc: moving pod \"{uuid}\" to garbage\n"));
    assert_eq!(place_of(&pods, &uuid), ["exited-garbage"]);
    assert_eq!(pods.status(&uuid), ["state=exited garbage", "networks=", "exited=true", "app-app=4"]);

    let waits = gc(&pods, "");
    waits.expect(0, "", &format!("gc: pod \"{uuid}\" not removed: still within grace period (30m0s)\n"));
    gc(&pods, "--grace-period=0s").expect(0, &format!("Garbage collecting pod \"{uuid}\"\n"), "");
    assert_eq!(place_of(&pods, &uuid), [""; 0]);
    let gone = pods.rkt("status").arg(&uuid).end();
    gone.expect(
        254,
        "",
        &format!(
            "status: problem retrieving pod: no matches found for \"{uuid}\"\n\
             status: hint: `rkt list --full` shows the pods and their whole UUIDs\n"
        ),
    );
}

#[test]
fn a_prepared_pod_waits_until_it_expires() {
    let _host = Host::take();
    let pods = Pods::new();
    let uuid = prepare(&pods, "", "true");
    gc(&pods, "--grace-period=0s").expect(0, "", "");
    assert_eq!(place_of(&pods, &uuid), ["prepared"]);
    let ended = gc(&pods, "--expire-prepared=0s");
    let (stdout, stderr) = (
        format!("Garbage collecting pod \"{uuid}\"\n"),
        format!("gc: moving expired prepared pod \"{uuid}\" to garbage\n"),
    );
    assert_eq!((ended.stdout, ended.stderr), (stdout, stderr));
    assert_eq!(place_of(&pods, &uuid), [""; 0]);
}

#[test]
fn a_running_pod_is_not_removed() {
    let host = Host::take();
    let pods = Pods::new();
    let mut pod = pods.start_shell("", "exec sleep 100");
    pod.rkt("rm").end().expect(
        254,
        "",
        &format!("rm: pod \"{}\" is currently running\nrm: failed to remove one or more pods\n", pod.uuid),
    );
    gc(&pods, "--grace-period=0s").expect(0, "", "");
    assert_eq!(pod.status()[0], "state=running");
    host.wait_for_machine(&pod.machine());
    pod.supervisor().signal(Signal::TERM);
    pod.end().expect_code(0);
    pod.rkt("rm").end().expect(0, &format!("\"{}\"\n", pod.uuid), "");
    assert_eq!(place_of(&pods, &pod.uuid), [""; 0]);
}

#[test]
fn rm_goes_on_after_a_pod_that_is_not_there() {
    let _host = Host::take();
    let pods = Pods::new();
    let (first, second) = (prepare(&pods, "", "true"), prepare(&pods, "", "true"));
    let ended = pods.rkt("rm").args([&first, "no-such", &second]).end();
    ended.expect(
        254,
        &format!("\"{first}\"\n\"{second}\"\n"),
        &format!(
            "rm: moving expired prepared pod \"{first}\" to garbage\n\
             rm: cannot get pod: no matches found for \"no-such\"\n\
             rm: hint: `rkt list --full` shows the pods and their whole UUIDs\n\
             rm: moving expired prepared pod \"{second}\" to garbage\n\
             rm: failed to remove one or more pods\n"
        ),
    );
    assert!(pods.uuids().is_empty());
}

#[test]
fn a_file_can_name_the_pod() {
    let _host = Host::take();
    let pods = Pods::new();
    pods.run_shell("--uuid-file-save=uuid", "exit 2").end().expect(2, "", "");
    let file = pods.path().join("uuid");
    let uuid = std::fs::read_to_string(&file).expect("the UUID");
    assert_eq!(uuid, pods.only(), "without a line end");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("a file").permissions());
    assert_eq!(mode & 0o7777, 0o644);
    let status = pods.rkt("status --uuid-file=uuid").stdout();
    assert!(status.ends_with("exited=true\napp-app=2\n"), "{status}");
    pods.rkt("stop --uuid-file=uuid").end().expect(0, &format!("pod \"{uuid}\" is already stopped\n"), "");
    let manifest = pods.rkt("cat-manifest --uuid-file=uuid --pretty-print=false").stdout();
    let on_disk =
        std::fs::read_to_string(pods.data().join("pods/run").join(&uuid).join("pod")).expect("the manifest");
    assert_eq!(manifest, format!("{on_disk}\n"));
    pods.rkt("rm --uuid-file=uuid").end().expect(0, &format!("\"{uuid}\"\n"), "");
    let missing = pods.rkt("status --uuid-file=none").end();
    missing.expect(
        1,
        "",
        "status: unable to resolve UUID from file: reading none: No such file or directory\n",
    );
}

#[test]
fn status_waits_for_the_end() {
    let _host = Host::take();
    let pods = Pods::new();
    let mut pod = pods.start_shell("", "sleep 1; exit 6");
    pod.rkt("status --wait=50ms").end().expect(
        254,
        "",
        "status: error waiting for pod to finish: context deadline exceeded\n",
    );
    let status = pod.rkt("status --wait").patience(Duration::from_secs(10)).stdout();
    assert!(status.starts_with("state=exited\n") && status.ends_with("app-app=6\n"), "{status}");
    pod.end().expect_code(6);
}

#[test]
fn list_shows_every_pod_with_its_apps() {
    let _host = Host::take();
    let pods = Pods::new();
    pods.rkt("list").end().expect(0, "UUID\tAPP\tIMAGE NAME\tSTATE\tCREATED\tSTARTED\tNETWORKS\n", "");
    pods.rkt("list --no-legend").end().expect(0, "\n", "");
    pods.rkt("list --format=json").end().expect(0, "null\n", "");

    let run = shell_app(shell_app(pods.run("--uuid-file-save=exited"), "one", "true"), "two", "exit 1");
    run.end().expect(1, "", "");
    let exited = std::fs::read_to_string(pods.path().join("exited")).expect("the UUID");
    let prepared = prepare(&pods, "", "true");
    let running = pods.start_shell("", "exec sleep 100");

    let mut rows = [
        (&exited, vec![("one", "exited"), ("two", "")]),
        (&prepared, vec![("app", "prepared")]),
        (&running.uuid, vec![("app", "running")]),
    ];
    rows.sort();
    let list = pods.rkt("list --no-legend").stdout();
    let mut lines = list.lines();
    for (uuid, apps) in rows {
        for (index, (app, state)) in apps.iter().enumerate() {
            let cells: Vec<&str> =
                lines.next().expect("a line an app").split('\t').filter(|cell| !cell.is_empty()).collect();
            if index == 0 {
                assert_eq!(cells[..4], [&uuid[..8], app, "example.com/shell:1.0.0", state], "{list}");
                assert!(cells[4].ends_with(" ago") || cells[4] == "now", "{list}");
                assert_eq!(cells.len(), if *state == "prepared" { 5 } else { 6 }, "{list}");
            } else {
                assert_eq!(cells, [*app, "example.com/shell:1.0.0"], "{list}");
            }
        }
    }
    assert_eq!(lines.next(), None, "{list}");
    let full = pods.rkt("list --full").stdout();
    let header: Vec<&str> =
        full.lines().next().unwrap_or_default().split('\t').filter(|cell| !cell.is_empty()).collect();
    assert_eq!(header, ["UUID", "APP", "IMAGE NAME", "IMAGE ID", "STATE", "CREATED", "STARTED", "NETWORKS"]);
    assert!(full.contains(&running.uuid) && full.contains("\tsha512-"), "{full}");
}

#[test]
fn json_has_the_fields_of_the_specification() {
    let _host = Host::take();
    let pods = Pods::new();
    pods.run_shell("", "exit 3").end().expect(3, "", "");
    let uuid = pods.only();
    let json = |line: &str| -> serde_json::Value {
        serde_json::from_str(&pods.rkt(line).stdout()).unwrap_or_else(|cause| panic!("{line}: {cause}"))
    };
    let list = json("list --format=json");
    let pod = json(&format!("status --format=json {uuid}"));
    assert_eq!(list, serde_json::json!([pod]));
    assert_eq!(list, json("list --format=json-pretty"));
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    assert_eq!(keys(&pod), ["name", "state", "app_names", "apps", "created_at", "started_at"]);
    assert_eq!(
        (&pod["name"], &pod["state"], &pod["app_names"]),
        (&uuid.clone().into(), &"exited".into(), &serde_json::json!(["app"]))
    );
    let app = &pod["apps"][0];
    assert_eq!(
        keys(app),
        ["name", "state", "created_at", "started_at", "finished_at", "exit_code", "image_id"]
    );
    assert_eq!(
        (&app["name"], &app["state"], &app["exit_code"]),
        (&"app".into(), &"exited".into(), &3.into())
    );
    // Seconds of the pod, nanoseconds of the app.
    let seconds = pod["created_at"].as_i64().expect("a number");
    assert_eq!(app["created_at"].as_i64().map(|nanos| nanos / 1_000_000_000), Some(seconds));
    let id = app["image_id"].as_str().expect("text");
    assert!(id.starts_with("sha512-") && id.len() == 7 + 64, "{id}");
    let pretty = pods.rkt("status --format=json-pretty").arg(&uuid).stdout();
    assert!(pretty.starts_with("{\n\t\"name\": "), "{pretty}");
}

#[test]
fn a_pod_without_overlay_is_a_copy() {
    let _host = Host::take();
    let pods = Pods::new();
    let uuid = prepare(&pods, "--no-overlay", "echo copied > /file; cat /file");
    let dir = |place: &str| pods.data().join("pods").join(place).join(&uuid);
    assert!(dir("prepared").join("stage1/rootfs/opt/stage2/app/rootfs/bin/busybox").is_file());
    assert!(!dir("prepared").join("overlay").exists());
    let ended = pods.rkt("run-prepared --net=none").arg(&uuid).end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["copied"]);
    assert_eq!(read(&dir("run").join("stage1/rootfs/opt/stage2/app/rootfs/file")), "copied\n");
    pods.rkt("rm").arg(&uuid).end().expect_code(0);
}

#[test]
fn what_an_app_writes_is_in_the_upper_directory_after_its_end() {
    let _host = Host::take();
    let pods = Pods::new();
    pods.run_shell("", "echo written > /file").end().expect(0, "", "");
    let overlay = pods.data().join("pods/run").join(pods.only()).join("overlay");
    let tree = std::fs::read_dir(&overlay).expect("an overlay").flatten().next().expect("of one tree").path();
    assert_eq!(read(&tree.join("upper/app/file")), "written\n");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

#[test]
fn a_preparation_that_was_killed_is_collected() {
    let _host = Host::take();
    let pods = Pods::new();
    let uuid = prepare(&pods, "", "true");
    // As a kill leaves it: in its place, and nobody holds it.
    let root = pods.data().join("pods");
    std::fs::rename(root.join("prepared").join(&uuid), root.join("prepare").join(&uuid)).expect("a rename");
    assert_eq!(pods.status(&uuid), ["state=aborted prepare"]);
    let ended = gc(&pods, "");
    ended.expect(
        0,
        &format!("Garbage collecting pod \"{uuid}\"\n"),
        &format!("gc: moving failed prepare \"{uuid}\" to garbage\n"),
    );
    assert_eq!(place_of(&pods, &uuid), [""; 0]);
}

#[test]
fn a_pod_of_before_a_reboot_has_exited_and_signals_nobody() {
    let _host = Host::take();
    let pods = Pods::new();
    pods.run_shell("", "exit 0").end().expect(0, "", "");
    let uuid = pods.only();
    // Its supervisor's number belongs to another process now: this test.
    let supervisor = pods.data().join("pods/run").join(&uuid).join("ppid");
    std::fs::write(&supervisor, format!("{} 1\n", std::process::id())).expect("a written file");
    assert_eq!(pods.status(&uuid)[0], "state=exited");
    for flags in ["stop", "stop --force"] {
        pods.rkt(flags).arg(&uuid).end().expect(0, &format!("pod \"{uuid}\" is already stopped\n"), "");
    }
    gc(&pods, "--grace-period=0s");
    assert!(pods.uuids().is_empty());
}
