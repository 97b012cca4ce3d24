//! Pods of a manifest that the user gives (`--pod-manifest`): what it says is true inside, and its bytes are kept.

use std::path::Path;

use serde_json::{Value, json};

use crate::host::Host;
use crate::network::{expect_answer, web_image};
use crate::pod::{Pods, said_by, shell_image};
use crate::support::Run;
use crate::support::run::Ended;

/// The ID of an image, which is in the store then.
fn id(pods: &Pods, image: &Path) -> String {
    pods.rkt("fetch --full").arg(image).stdout().trim().to_owned()
}

/// Fails the test unless both texts are the same JSON.
fn expect_same_json(found: &str, expected: &str) {
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(value(found), value(expected));
}

/// An app of the manifest that is a line for a shell.
fn shell(pods: &Pods, name: &str, line: &str) -> Value {
    let exec = ["/bin/sh", "-c", line];
    json!({
        "name": name,
        "image": {"id": id(pods, shell_image())},
        "app": {"exec": exec, "user": "0", "group": "0"},
    })
}

/// A manifest of these apps with further members, as no program would write it, and its text.
fn given(pods: &Pods, apps: &[Value], more: &[(&str, Value)]) -> String {
    let mut manifest =
        json!({"apps": apps, "acVersion": "1.30.0", "acKind": "PodManifest", "com.example": [1]});
    for (member, value) in more {
        manifest[*member] = value.clone();
    }
    let text = format!("{manifest:#}\n\n");
    std::fs::write(pods.path().join("pod.json"), &text).expect("a new file");
    text
}

fn run(pods: &Pods, flags: &str) -> Run {
    pods.run(flags).arg("--pod-manifest=pod.json")
}

/// Runs one shell and returns what it said.
fn say(pods: &Pods, app: &Value, more: &[(&str, Value)]) -> Vec<String> {
    given(pods, std::slice::from_ref(app), more);
    let ended = run(pods, "").end();
    ended.expect_code(0);
    said_by(&ended.stdout, app["name"].as_str().expect("a name"))
}

#[test]
fn two_apps_share_a_volume_and_a_port_is_forwarded() {
    let host = Host::take();
    let pods = Pods::new();
    let line = "echo of side > /data/file; (echo x > /new) 2>/data/refused; exec sleep 1000";
    let mut side = shell(&pods, "side", line);
    side["readOnlyRootFS"] = json!(true);
    side["mounts"] = json!([{"volume": "data", "path": "/data"}]);
    side["app"]["userLabels"] = json!({"tier": "back"});
    // How it is executed, and its port, is said by its image alone.
    let mut web = json!({"name": "web", "image": {"id": id(&pods, web_image())}});
    web["mounts"] = json!([{"volume": "data", "path": "/www/data"}]);
    let more = [
        ("volumes", json!([{"name": "data", "kind": "empty"}])),
        ("ports", json!([{"name": "http", "hostPort": 8087}])),
        ("userAnnotations", json!({"note": "of the pod"})),
    ];
    let text = given(&pods, &[side, web], &more);
    let file = pods.path().join("uuid");
    let words = "run --pod-manifest=pod.json --hostname=pair --uuid-file-save=uuid";
    let pod = pods.started(pods.rkt(words).start(), &file);

    expect_answer("", "http://127.0.0.1:8087/");
    let fetch = |path: &str| Run::new("curl").args(["-sS", &format!("http://127.0.0.1:8087{path}")]).stdout();
    assert_eq!(fetch("/data/file"), "of side\n");
    assert_eq!(fetch("/data/refused"), "/bin/sh: can't create /new: Read-only file system\n");
    host.wait_for_machine(&pod.machine());
    expect_same_json(&pod.rkt("cat-manifest").stdout(), &text);

    let enter = |app: &str, line: &str| {
        let words = [&format!("--app={app}"), &pod.uuid, "sh", "-c", line].map(str::to_owned);
        pods.rkt("enter").args(words).end()
    };
    enter("web", "hostname; echo new > /new && cat /new").expect(0, "pair\nnew\n", "");
    let status: Value = serde_json::from_str(&pod.rkt("status --format=json").stdout()).expect("JSON");
    let shared = pod.dir().join("sharedVolumes/data");
    let mount = |path: &str| json!([{"name": "data", "container_path": path, "host_path": shared, "read_only": false}]);
    assert_eq!(status["app_names"], json!(["side", "web"]));
    assert_eq!(status["apps"][0]["mounts"], mount("/data"));
    assert_eq!(status["apps"][0]["user_labels"], json!({"tier": "back"}));
    assert_eq!(status["apps"][1]["mounts"], mount("/www/data"));
    pod.rkt("stop").end().expect_code(0);
    pod.rkt("status --wait=20s").end().expect_code(0);
    expect_same_json(&pod.rkt("cat-manifest").stdout(), &text);
    pods.rkt("export --app=web").args([&pod.uuid, "web.aci"]).end().expect(0, "", "");
    pods.rkt("gc --grace-period=0s").end().expect_code(0);
    assert!(pods.uuids().is_empty());
}

#[test]
fn a_prepared_manifest_runs_later() {
    let _host = Host::take();
    let pods = Pods::new();
    let line = "echo $GREETING; exit 3";
    let mut app = shell(&pods, "late", line);
    app["app"]["environment"] = json!([{"name": "GREETING", "value": "hello"}]);
    let text = given(&pods, &[app], &[]);
    let uuid = pods.rkt("prepare --pod-manifest=pod.json").stdout().trim().to_owned();
    // What the file says now is of no matter any more.
    std::fs::remove_file(pods.path().join("pod.json")).expect("the manifest");
    assert_eq!(pods.status(&uuid), ["state=prepared"]);
    expect_same_json(&pods.rkt("cat-manifest").arg(&uuid).stdout(), &text);
    let ended = pods.rkt("run-prepared --net=none").arg(&uuid).end();
    ended.expect_code(3);
    assert_eq!(said_by(&ended.stdout, "late"), ["hello"]);
    assert_eq!(pods.status(&uuid).last().map(String::as_str), Some("app-late=3"));
    expect_same_json(&pods.rkt("cat-manifest").arg(&uuid).stdout(), &text);
    pods.rkt("rm").arg(&uuid).end().expect_code(0);
}

#[test]
fn values_arrive_as_they_are_and_add_nothing_to_a_unit() {
    let _host = Host::take();
    let pods = Pods::new();
    let value = "one\nExecStartPre=+/bin/touch /hacked\n[Service]\n\"two\" $HOME %n \\";
    let mut app = shell(&pods, "app", "printf '%s' \"$VALUE\"; echo; echo \"$0\"; ls -d /hacked; true");
    app["app"]["environment"] = json!([{"name": "VALUE", "value": value}]);
    app["app"]["exec"].as_array_mut().expect("a list").push(json!("$HOME\n%n;"));
    let said = say(&pods, &app, &[]);
    let lines: Vec<&str> = value.lines().chain(["$HOME", "%n;"]).collect();
    assert_eq!(said, [&lines[..], &["ls: /hacked: No such file or directory"]].concat());
}

#[test]
fn rights_are_those_of_the_manifest() {
    let _host = Host::take();
    let pods = Pods::new();
    let mut app =
        shell(&pods, "app", "grep -E '^(CapBnd|Seccomp):' /proc/self/status; id -u; id -G; chmod 1 /tmp");
    app["app"]["user"] = json!("33");
    app["app"]["group"] = json!("44");
    app["app"]["supplementaryGIDs"] = json!([55, 66]);
    app["app"]["isolators"] = json!([
        {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_CHOWN", "CAP_SYS_TIME"]}},
        {"name": "os/linux/seccomp-remove-set", "value": {"errno": "ENOTSUP", "set": ["chmod", "fchmodat"]}},
    ]);
    given(&pods, &[app], &[]);
    let ended: Ended = run(&pods, "").end();
    assert_eq!(ended.stderr, "", "the user knows what the manifest grants");
    let said = said_by(&ended.stdout, "app");
    let expected = ["CapBnd:\t0000000002000001", "Seccomp:\t2", "33", "44 55 66"];
    assert_eq!(said[..4], expected);
    assert!(said[4].ends_with("Not supported") || said[4].ends_with("not supported"), "{said:?}");
}

#[test]
fn the_volume_of_a_mount_beats_that_of_the_pod() {
    let _host = Host::take();
    let pods = Pods::new();
    let dir = pods.path().join("source");
    std::fs::create_dir(&dir).expect("a new directory");
    std::fs::write(dir.join("file"), "of the host\n").expect("a new file");
    let mut app = shell(
        &pods,
        "app",
        "cat /host/file; touch /own/x /pod/y; ls /host /own /pod; touch /host/z 2>&1; true",
    );
    let own = |kind: Value| {
        let mut own = json!({"name": "data"});
        own.as_object_mut().expect("an object").extend(kind.as_object().expect("an object").clone());
        own
    };
    app["mounts"] = json!([
        {"volume": "data", "path": "/host", "appVolume": own(json!({"kind": "host", "source": dir, "readOnly": true}))},
        {"volume": "data", "path": "/own", "appVolume": own(json!({"kind": "empty"}))},
        {"volume": "data", "path": "pod"},
    ]);
    let volumes = json!([{"name": "data", "kind": "empty"}]);
    assert_eq!(
        say(&pods, &app, &[("volumes", volumes)]),
        [
            "of the host",
            "/host:",
            "file",
            "/own:",
            "x",
            "/pod:",
            "y",
            "touch: /host/z: Read-only file system",
        ]
    );
}

#[test]
fn a_mount_point_without_a_volume_gets_an_empty_one() {
    let _host = Host::take();
    let pods = Pods::new();
    let mut app = shell(&pods, "app", "touch /logs/x && ls /logs");
    app["app"]["mountPoints"] = json!([{"name": "logs", "path": "/logs"}]);
    let text = given(&pods, &[app], &[]);
    let ended = run(&pods, "").end();
    let told = "run: warning: no volume specified for mount point \"logs\", implicitly creating an \"empty\" volume: \
                \"app-logs\" at \"/logs\" of app \"app\" is removed with the pod\n";
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, told));
    assert_eq!(said_by(&ended.stdout, "app"), ["x"]);
    expect_same_json(&pods.rkt("cat-manifest").arg(pods.only()).stdout(), &text);
}

#[test]
fn one_app_may_be_interactive_and_a_pod_may_be_in_the_background() {
    let _host = Host::take();
    let pods = Pods::new();
    let app = shell(&pods, "app", "read line; echo got $line");
    given(&pods, std::slice::from_ref(&app), &[]);
    run(&pods, "--interactive").input("word\n").end().expect(0, "got word\n", "");
    given(&pods, &[shell(&pods, "app", "exec sleep 1000")], &[]);
    let uuid = run(&pods, "--detach").stdout().trim().to_owned();
    assert!(pods.status(&uuid).contains(&"state=running".to_owned()));
    pods.rkt("stop").arg(&uuid).end().expect_code(0);

    let before = pods.uuids();
    given(&pods, &[app.clone(), shell(&pods, "other", "true")], &[]);
    let told = "run: interactive option only supports pods with one app\n";
    run(&pods, "--interactive").end().expect(254, "", told);
    assert_eq!(pods.uuids(), before);
}

#[test]
fn a_manifest_that_can_not_run_leaves_nothing() {
    let _host = Host::take();
    let pods = Pods::new();
    let mut app = shell(&pods, "app", "true");
    app["app"]["ports"] = json!([{"name": "http", "protocol": "tcp", "port": 80}]);
    let gone = pods.path().join("gone");
    let rows = [
        (
            json!([]),
            json!([{"name": "http", "hostPort": 8088}]),
            254,
            "run: stage1: failed to setup network: --port flag does not work with 'none' networking\n\
             run: hint: the pod was prepared with ports to forward: run it with --net=default\n"
                .to_owned(),
        ),
        (
            json!([{"name": "v", "kind": "host", "source": gone}]),
            json!([]),
            1,
            format!(
                "run: error starting the pod: Failed to stat {}: No such file or directory\n\
                 run: hint: make it before the pod starts, or correct source= of the volume \"v\"\n",
                gone.display()
            ),
        ),
        (
            json!([]),
            json!([]),
            254,
            "run: error setting up stage0: could not find volume v\n\
             run: hint: define \"v\" in the manifest's \"volumes\"\n"
                .to_owned(),
        ),
    ];
    for (volumes, ports, code, told) in rows {
        let mut app = app.clone();
        if ports == json!([]) {
            app["mounts"] = json!([{"volume": "v", "path": "/v"}]);
        }
        given(&pods, &[app], &[("volumes", volumes), ("ports", ports)]);
        run(&pods, "--uuid-file-save=uuid").end().expect(code, "", &told);
        let all = Run::new("find").arg(pods.data()).args(["-path", "*/pods/*/*"]).stdout();
        assert_eq!((all.as_str(), pods.path().join("uuid").exists()), ("", false));
    }
}
