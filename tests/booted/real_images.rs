//! Images as popular ones are, of Debian's Redis and Python, from a registry with a password to a pod that serves: what
//! their configuration says is asked of the kernel.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use crate::enter::{environment, wait_for_process};
use crate::host::Host;
use crate::network::address;
use crate::pod::{Pod, Pods};
use crate::registry::rkt;
use crate::support::oci::architecture;
use crate::support::registry::{Registry, login};
use crate::support::umoci::{BASE, OTHER, blobs, index, manifest, other_architecture, script};
use crate::support::{Run, names, wait};

const HOST: &str = "127.0.0.81";

/// `redis`, as the popular image is: an entrypoint that takes flags alone as well, and its data in a volume of the user's.
const REDIS: &str = r#"
umoci tag --image layout:shell redis
start redis
libraries /usr/bin/redis-server
repack
installed redis-server redis-tools | take
repack
mkdir -p "$root/usr/local/bin" "$root/data"
cat >"$root/usr/local/bin/docker-entrypoint.sh" <<'END'
#!/bin/busybox sh
set -e
[ "${1#-}" = "$1" ] || set -- redis-server "$@"
exec "$@"
END
chmod 755 "$root/usr/local/bin/docker-entrypoint.sh"
echo redis:x:999:1000::/data:/bin/false >>"$root/etc/passwd"
echo redis:x:1000: >>"$root/etc/group"
chown 999:1000 "$root/data"
chmod 750 "$root/data"
repack
configure --config.user redis --config.workingdir /data --config.volume /data --config.exposedports 6379/tcp \
  --config.env PATH=/usr/local/bin:/usr/bin --config.env REDIS_DOWNLOAD_URL= \
  --config.entrypoint docker-entrypoint.sh --config.cmd redis-server
"#;

/// `python`: an app that counts its visitors in Redis, and no shell is asked to start it.
const PYTHON: &str = r#"
umoci tag --image layout:shell python
start python
libraries /usr/bin/python3
repack
python=$(readlink /usr/bin/python3)
installed python3-minimal "$python-minimal" "lib$python-minimal" "lib$python-stdlib" | take
repack
mkdir -p "$root/srv/app"
cat >"$root/srv/app/app.py" <<'END'
import http.server
import os
import socket


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with socket.create_connection((os.environ["REDIS_HOST"], 6379)) as redis:
            redis.sendall(b"INCR hits\r\n")
            answer = redis.makefile("rb").readline()
        self.send_response(200 if answer.startswith(b":") else 503)
        self.end_headers()
        self.wfile.write(answer[1:])


http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
END
repack
configure --config.user 1001:1002 --config.workingdir /srv/app --config.exposedports 8080/tcp \
  --config.env REDIS_HOST=localhost --config.env 'GREETING=two words = "$1"' --config.env EMPTY= \
  --config.label org.opencontainers.image.title=counter --config.stopsignal SIGINT \
  --config.entrypoint python3 --config.cmd app.py
"#;

/// A line of the kernel's about a process, its words apart by blanks.
fn status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find(|line| line.starts_with(field)).expect("a line");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Fails the test unless the process works in this directory of its own root.
fn expect_directory(pid: u32, dir: &str) {
    let file = |path: String| {
        let found = std::fs::metadata(&path).unwrap_or_else(|cause| panic!("{path}: {cause}"));
        (found.dev(), found.ino())
    };
    assert_eq!(file(format!("/proc/{pid}/cwd")), file(format!("/proc/{pid}/root{dir}")), "{dir}");
}

fn expect_variables(pid: u32, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().map(|text| (*text).to_owned()).collect();
    let there = environment(pid);
    assert!(expected.is_subset(&there), "{expected:?} in {there:?}");
}

/// The answer of the web server at `url`, once it gives one.
fn answer(url: &str) -> String {
    wait::until(&format!("{url} answers"), || {
        let ended = Run::new("curl").args(["-sS", "--fail", "--max-time", "5", url]).end();
        if ended.status.success() { Ok(ended.stdout.trim_end().to_owned()) } else { Err(ended) }
    })
}

fn stop(mut pod: Pod<'_>) {
    pod.rkt("stop").end().expect_code(0);
    pod.end().expect_code(0);
    pod.rkt("rm").end().expect_code(0);
}

/// Stores the images, and an index in which this machine's stands between others that it can't execute, or that few of its
/// kind can.
fn fill(pods: &Pods, registry: &Registry) {
    script(pods.path(), &[BASE, OTHER, REDIS, PYTHON]);
    for image in ["shell", "redis", "python"] {
        registry.push(&format!("oci:layout:{image}"), &format!("{image}:1"));
    }
    registry.push("oci:layout:other", "python:other");
    let (mine, more) =
        if architecture() == "amd64" { ("amd64", "amd64/v3") } else { ("arm64/v8", "arm64/v9") };
    let others = ["arm/v7", other_architecture(), more].map(|platform| ("other", platform));
    let entries = [&others[..], &[("python", mine), ("other", "s390x")]].concat();
    registry.push_index("python", "multi", &index(pods.path(), &entries));
}

fn expect_as_images_say(pod: &Pod<'_>) {
    let (redis, python) = (wait_for_process(pod, "redis.service"), wait_for_process(pod, "python.service"));
    let ids = |pid| [status(pid, "Uid:"), status(pid, "Gid:")];
    assert_eq!(ids(redis), ["Uid: 999 999 999 999", "Gid: 1000 1000 1000 1000"]);
    assert_eq!(ids(python), ["Uid: 1001 1001 1001 1001", "Gid: 1002 1002 1002 1002"]);
    expect_directory(redis, "/data");
    expect_directory(python, "/srv/app");
    expect_variables(python, &["REDIS_HOST=localhost", "GREETING=two words = \"$1\"", "EMPTY="]);
    // The volume that nobody gave is the image's directory, with its owner.
    let volume = std::fs::metadata(pod.dir().join("sharedVolumes/redis-volume-data")).expect("a volume");
    let seen = std::fs::metadata(format!("/proc/{redis}/root/data")).expect("a directory");
    assert_eq!((seen.dev(), seen.ino()), (volume.dev(), volume.ino()));
    assert_eq!((volume.uid(), volume.gid(), volume.mode()), (999, 1000, 0o40750));
}

/// Runs Redis of the store with arguments behind the image's own, and its data in a directory of the host.
fn expect_redis_keeps_its_data(pods: &Pods) {
    let data = pods.path().join("redis-data");
    std::fs::create_dir(&data).expect("a new directory");
    std::os::unix::fs::chown(&data, Some(999), Some(1000)).expect("we are root");
    let file = pods.path().join("uuid-2");
    let run = rkt(pods, "run --net=none --uuid-file-save").arg(&file);
    let run = run.arg(format!("--volume=volume-data,kind=host,source={}", data.display()));
    let run = run.arg(format!("docker://{HOST}:5000/team/redis:1"));
    // Without the last, it writes its title over its environment.
    let run = run.args(["--", "--appendonly", "yes", "--set-proc-title", "no"]);
    let pod = pods.started(run.start(), &file);
    let hits = wait::until("redis answers", || {
        let ended = pod.rkt("enter").args(["redis-cli", "incr", "hits"]).end();
        if ended.status.success() { Ok(ended.stdout) } else { Err(ended) }
    });
    assert_eq!(hits, "1\n");
    let redis = wait_for_process(&pod, "redis.service");
    expect_variables(redis, &["PATH=/usr/local/bin:/usr/bin", "REDIS_DOWNLOAD_URL="]);
    stop(pod);
    assert!(data.join("appendonlydir").is_dir(), "{:?}", names(&data));
}

#[test]
fn redis_and_python_of_a_registry_serve_together_as_their_images_say() {
    let _host = Host::take();
    let pods = Pods::new();
    let registry = Registry::start(pods.path(), HOST);
    fill(&pods, &registry);
    login(&pods.path().join("etc"), &[&format!("{HOST}:5000")], "secret");

    let file = pods.path().join("uuid");
    let run = rkt(&pods, "run --port=8080-tcp:8094 --uuid-file-save").arg(&file);
    let run = run.args([registry.name("redis:1"), registry.name("python:multi")]);
    let pod = pods.started(run.start(), &file);
    let url = format!("http://{}:8080/", address(&pod, "default"));
    assert_eq!([answer(&url), answer(&url), answer("http://127.0.0.1:8094/")], ["1", "2", "3"]);
    expect_as_images_say(&pod);
    stop(pod);

    // The layer below them all came once, whoever needed it.
    rkt(&pods, "fetch").arg(registry.name("shell:1")).end().expect_code(0);
    let manifests = ["shell", "redis", "python"].map(|image| manifest(pods.path(), "layout", image).0);
    for manifest in &manifests {
        assert_eq!(blobs(manifest)[1], blobs(&manifests[0])[1]);
        registry.expect_sent_once(blobs(manifest));
    }
    drop(registry);

    // Of images that share layers, one lives on without the others and without the registry.
    let listed = || {
        let list = rkt(&pods, "image list --no-legend --fields=name").stdout();
        list.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let images = ["python:multi", "redis:1", "shell:1"].map(|image| format!("{HOST}_5000/team/{image}"));
    assert_eq!(listed(), BTreeSet::from(images.clone()));
    let [python, redis, shell] = images;
    rkt(&pods, "image rm").args([python, shell]).end().expect_code(0);
    assert_eq!(listed(), BTreeSet::from([redis]));
    expect_redis_keeps_its_data(&pods);
}
