//! Apps whose images stand upon others, and trees that are repaired under running pods.

use std::path::Path;

use serde_json::json;

use crate::host::Host;
use crate::pod::{Pods, said_by};
use crate::support::aci::Aci;
use crate::support::wait;

/// An image of nothing but a manifest's members and files, upon the one with a shell.
fn upon(name: &str, line: &str) -> Aci {
    Aci::shell(name, line).bare().field("dependencies", json!([{"imageName": "example.com/below"}]))
}

#[test]
fn an_app_runs_upon_what_its_image_depends_on() {
    let _host = Host::take();
    let pods = Pods::new();
    let below = Aci::new("example.com/below", &[]).file("/srv/below", 0o644, "below\n").file(
        "/srv/both",
        0o644,
        "below\n",
    );
    let line = "cat /srv/below /srv/both; id -u; ls /srv";
    let top = upon("example.com/top", line).file("/srv/both", 0o644, "top\n").write(pods.path());
    let ended = pods.run("--pull-policy=never").arg(&top).end();
    ended.expect_code(254);
    assert!(
        ended.stderr.starts_with(
            "run: image example.com/top depends on example.com/below, which is not in the store\n"
        ),
        "{}",
        ended.stderr
    );
    pods.rkt("fetch").arg(below.write(pods.path())).end().expect_code(0);
    for roots in ["--no-overlay=false", "--no-overlay"] {
        let ended = pods.run(roots).arg(&top).end();
        ended.expect_code(0);
        assert_eq!(said_by(&ended.stdout, "top"), ["below", "top", "0", "below", "both"], "{roots}");
    }
    // The file system that is exported is whole: what the app removed does not come back from below.
    let uuid_file = pods.path().join("uuid");
    let run = pods.run("").arg("--uuid-file-save").arg(&uuid_file).arg("example.com/top");
    run.args(["--exec=/bin/sh", "--", "-c", "rm /srv/below"]).end().expect_code(0);
    let uuid = std::fs::read_to_string(&uuid_file).expect("the UUID file");
    let out = pods.path().join("out.aci");
    pods.rkt("export").arg(uuid).arg(&out).end().expect_code(0);
    let ended = pods.run("").arg(&out).args(["--exec=/bin/ls", "--", "/srv"]).end();
    assert_eq!(said_by(&ended.stdout, "top"), ["both"]);
}

#[test]
fn a_tree_is_repaired_and_the_pod_that_runs_on_it_goes_on() {
    let host = Host::take();
    let pods = Pods::new();
    pods.rkt("fetch")
        .arg(Aci::new("example.com/below", &[]).file("/srv/file", 0o644, "good\n").write(pods.path()))
        .stdout();
    let top =
        upon("example.com/top", "exec sleep 1000").file("/srv/late", 0o644, "late\n").write(pods.path());
    let uuid_file = pods.path().join("uuid");
    let running = pods.run("").arg("--uuid-file-save").arg(&uuid_file).arg(&top).start();
    let pod = pods.started(running, &uuid_file);
    let trees = || {
        let found = std::fs::read_dir(pods.data().join("cas/tree")).expect("a directory of trees").flatten();
        found.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let tree =
        trees().into_iter().find(|tree| tree.join("rootfs/srv/late").exists()).expect("the pod's tree");
    std::fs::write(tree.join("rootfs/srv/file"), "bad!\n").expect("a changed file");
    let refused = pods.run("").args(["example.com/top", "--exec=/bin/true"]).end();
    refused.expect_code(254);
    let told = "were changed in the store after they were unpacked\nrun: hint: `rkt image verify sha512-";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    let ended = pods.rkt("image verify --repair example.com/top").end();
    ended.expect_code(0);
    assert!(ended.stdout.starts_with("changed: /srv/file (content)\n"), "{}", ended.stdout);
    let told = format!("verify: pod {} runs on the damaged tree and keeps it until it ends", pod.uuid);
    assert!(ended.stderr.starts_with(&told), "{}", ended.stderr);
    assert_eq!(std::fs::read_to_string(tree.join("rootfs/srv/file")).expect("a file"), "good\n");

    pods.rkt("image gc --grace-period=0s").end().expect_code(0);
    // The pod sees what it saw, also files that it had not opened before the repair and the collection.
    let leader = host.wait_for_machine(&pod.machine());
    let root = Path::new("/proc").join(leader.to_string()).join("root/opt/stage2/top/rootfs");
    for (file, content) in [("srv/file", "bad!\n"), ("srv/late", "late\n")] {
        assert_eq!(std::fs::read_to_string(root.join(file)).expect("a file"), content);
    }
    assert_eq!(
        pods.rkt("image list --no-legend").stdout().lines().count(),
        2,
        "images of a running pod stay"
    );
    let old = trees().into_iter().filter(|tree| tree.to_string_lossy().contains("/.old-")).count();
    assert_eq!((old, tree.exists()), (1, true));
    pods.rkt("stop").arg(&pod.uuid).end().expect_code(0);
    pods.rkt("status --wait=20s").arg(&pod.uuid).end().expect_code(0);
    drop(pod);
    let again = pods.run("").args(["example.com/top", "--exec=/bin/cat", "--", "/srv/file"]).end();
    assert_eq!(said_by(&again.stdout, "top"), ["good"]);
    pods.rkt("gc --grace-period=0s").end().expect_code(0);
    wait::until("all trees are collected", || {
        pods.rkt("image gc --grace-period=0s").end().expect_code(0);
        if trees().is_empty() { Ok(()) } else { Err(format!("{:?}", trees())) }
    });
}
