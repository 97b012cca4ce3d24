//! A host that can't run pods, and data directories that are full or broken: the whole of stderr, and that nothing is
//! left and the next command works (issue "Bad input").

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bus;
use crate::host::Host;
use crate::pod::{Pods, said_by, shell_image};
use crate::support::Run;
use crate::support::aci::Aci;
use crate::support::run::find_program;

/// `rkt` with words split at spaces, in a mount namespace of its own after `mounts`, which are lines for a shell.
fn elsewhere(pods: &Pods, mounts: &str, words: &str) -> Run {
    let script = format!("{mounts}\nexec \"$@\"");
    let run =
        Run::new("unshare").args(["--mount", "sh", "-e", "-c", &script, "sh", env!("CARGO_BIN_EXE_rkt")]);
    let run = run.arg("--dir").arg(pods.data()).arg("--insecure-options=image");
    run.args(words.split(' ').filter(|word| !word.is_empty()))
}

/// Fails the test unless the data directory has no pod, not even a part of one.
fn expect_no_pod(pods: &Pods) {
    let all = Run::new("find").arg(pods.data()).args(["-path", "*/pods/*/*"]).end();
    assert_eq!(all.stdout, "");
}

#[test]
fn a_machine_without_systemd_is_refused() {
    let _host = Host::take();
    let pods = Pods::new();
    let without = "mount -t tmpfs tmpfs /run/systemd";
    let message = |command: &str| {
        format!(
            "{command}: cannot run a pod here: this machine was not booted with systemd: /run/systemd/system does not exist\n\
             {command}: hint: run rkt on a machine, or in a container, whose process 1 is systemd\n"
        )
    };
    let run = elsewhere(&pods, without, "run --net=none").arg(shell_image());
    run.end().expect(254, "", &message("run"));
    expect_no_pod(&pods);

    // What needs no systemd works all the same.
    let prepare = elsewhere(&pods, without, "prepare").arg(shell_image()).args(["--exec=/bin/true"]).end();
    prepare.expect_code(0);
    let uuid = prepare.stdout.trim().to_owned();
    elsewhere(&pods, without, "run-prepared --net=none").arg(&uuid).end().expect(
        254,
        "",
        &message("run-prepared"),
    );
    assert_eq!(pods.status(&uuid), ["state=prepared"]);
    pods.rkt("run-prepared --net=none").arg(&uuid).end().expect(0, "", "");
}

#[test]
fn control_groups_of_version_1_are_refused() {
    let _host = Host::take();
    let pods = Pods::new();
    let run = elsewhere(&pods, "mount -t tmpfs tmpfs /sys/fs/cgroup", "run --net=none").arg(shell_image());
    run.end().expect(
        254,
        "",
        "run: cannot run a pod here: the machine's control groups are of version 1: /sys/fs/cgroup is not a cgroup2 file system\n\
         run: hint: boot with systemd.unified_cgroup_hierarchy=1 on the kernel command line\n",
    );
    expect_no_pod(&pods);
}

#[test]
fn a_systemd_that_is_too_old_is_refused() {
    let _host = Host::take();
    let pods = Pods::new();
    let socket = pods.path().join("bus");
    bus::serve(&socket, "249.11-0ubuntu3");
    let address = format!("unix:path={}", socket.display());
    let run = pods.run("").env("DBUS_SYSTEM_BUS_ADDRESS", address).arg(shell_image());
    run.end().expect(
        254,
        "",
        "run: cannot run a pod here: systemd 249.11-0ubuntu3 is too old: rkt needs 252 or newer\n\
         run: hint: upgrade systemd, then restart the machine\n",
    );
    expect_no_pod(&pods);
}

#[test]
fn a_bus_that_is_not_there_is_named() {
    let _host = Host::take();
    let pods = Pods::new();
    let run = pods.run("").env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/no-such-bus").arg(shell_image());
    run.end().expect(
        254,
        "",
        "run: cannot run a pod here: the system bus does not answer: failed to connect to `unix:path=/run/no-such-bus`: \
         No such file or directory\n\
         run: hint: start the bus with `systemctl start dbus.socket`, then try again\n",
    );
    expect_no_pod(&pods);
}

#[test]
fn a_missing_nspawn_is_named() {
    let _host = Host::take();
    let pods = Pods::new();
    let hide = "mount -t tmpfs tmpfs /mnt; touch /mnt/none; chmod 755 /mnt; cp -a /usr/bin /mnt/bin; rm /mnt/bin/systemd-nspawn; \
                mount --bind /mnt/bin /usr/bin";
    let run = elsewhere(&pods, hide, "run --net=none").arg(shell_image());
    run.end().expect(
        254,
        "",
        "run: cannot run a pod here: systemd-nspawn is required but not found: /usr/bin/systemd-nspawn does not exist\n\
         run: hint: install it: the package is called systemd-container\n",
    );
    expect_no_pod(&pods);
}

#[test]
fn a_host_without_inotify_instances_is_refused() {
    let _host = Host::take();
    let pods = Pods::new();
    // In a user namespace of the test's own, whose limit is no business of the machine.
    let run = Run::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-ec"]);
    let run = run.arg("echo 2 > /proc/sys/user/max_inotify_instances; exec \"$@\"").arg("sh");
    let run =
        run.arg(env!("CARGO_BIN_EXE_rkt")).arg("--dir").arg(pods.data()).arg("--insecure-options=image");
    let ended = run.args(["run", "--net=none"]).arg(shell_image()).end();
    ended.expect_code(254);
    let (first, hint) = ended.stderr.split_once('\n').expect("two lines");
    let message = "run: cannot run a pod here: the inotify instances of this host are used up: a pod needs 3 of them, and ";
    assert!(first.starts_with(message), "{first}");
    assert_eq!(
        hint,
        "run: hint: stop a pod, or allow more with `sysctl fs.inotify.max_user_instances=1024`\n"
    );
    expect_no_pod(&pods);
}

/// Gives machined back to the host at the end of the test.
struct WithoutMachined;

impl WithoutMachined {
    fn begin() -> Self {
        Run::new("systemctl")
            .args(["mask", "--runtime", "--now", "systemd-machined.service"])
            .end()
            .expect_code(0);
        Self
    }
}

impl Drop for WithoutMachined {
    fn drop(&mut self) {
        let _ended = Run::new("systemctl").args(["unmask", "--runtime", "systemd-machined.service"]).end();
        let _ended = Run::new("systemctl").args(["start", "systemd-machined.service"]).end();
    }
}

#[test]
fn without_machined_a_pod_runs_all_the_same_and_that_is_told() {
    let host = Host::take_alone();
    let pods = Pods::new();
    let running = {
        let _without = WithoutMachined::begin();
        let ended = pods.run_shell("", "echo here; exit 3").end();
        ended.expect_code(3);
        assert_eq!(said_by(&ended.stdout, "app"), ["here"]);
        assert_eq!(
            ended.stderr,
            "run: machined is not available (Unit systemd-machined.service is masked.): machinectl will not show this pod\n"
        );
        let mut pod = pods.start_shell("", "exec sleep 100");
        assert_eq!(host.unit_property(&crate::pod::scope(&pod.uuid), "ActiveState"), "active");
        pod.rkt("stop").end().expect_code(0);
        pod.end().expect_code(0);
        pods.start_shell("", "exec sleep 100")
    };
    assert_eq!(running.status()[0], "state=running", "a pod of that time runs on");
    drop(running);
    // A machined that was only stopped is started again.
    Run::new("systemctl").args(["stop", "systemd-machined.service"]).end().expect_code(0);
    let pod = pods.start_shell("", "exec sleep 100");
    host.wait_for_machine(&pod.machine());
}

#[test]
fn an_image_that_can_not_be_an_app_leaves_no_pod() {
    let _host = Host::take();
    let pods = Pods::new();
    let file = |name: &str, bytes: &[u8]| std::fs::write(pods.path().join(name), bytes).expect("a file");
    let aci = Aci::new("example.com/app", &["/bin/true"]);
    file("text.aci", b"no archive at all\n");
    file("cut.aci", &aci.bytes()[..700_000]);
    file("name.aci", &Aci::new("Bad Name", &["/bin/true"]).bytes());
    file("user.aci", &aci.clone().app("user", serde_json::json!("")).bytes());
    file(
        "other.aci",
        &aci.clone().field("labels", serde_json::json!([{"name": "os", "value": "windows"}])).bytes(),
    );
    let at = |name: &str| pods.path().join(name).display().to_string();
    let image = |name: &str, problem: &str| format!("run: image {}: {problem}\n", at(name));
    for (word, message) in [
        ("none.aci", format!("run: error opening ACI file: opening {}: No such file or directory\n", at("none.aci"))),
        ("text.aci", image("text.aci", "neither a tar archive nor one packed with gzip, bzip2, xz or zstd")),
        ("cut.aci", image("cut.aci", "entry \"rootfs/bin/busybox\": it is cut off: the archive ends within")),
        (
            "name.aci",
            image(
                "name.aci",
                "manifest: name: \"Bad Name\" is not an AC identifier: only lower-case letters, digits and the characters \
                 \"-._~/\" are allowed",
            ),
        ),
        ("user.aci", image("user.aci", "manifest: app.user: user is required")),
        (
            "other.aci",
            image("other.aci", "manifest: labels: bad os \"windows\" (must be one of: [darwin freebsd linux])"),
        ),
        // Nobody listens there.
        (
            "127.0.0.78/not-there",
            "run: discovery failed for \"127.0.0.78/not-there\": connecting to 127.0.0.78: Connection refused \
             (https://127.0.0.78/not-there, https://127.0.0.78)\n\
             run: hint: if the image is not published by its name, give its URL, or a file\n"
                .to_owned(),
        ),
        (
            "sha512-ab",
            "run: no image IDs found\nrun: hint: `rkt image list` shows the images that are there\n".to_owned(),
        ),
    ] {
        pods.run("").arg(word).end().expect(254, "", &message);
        expect_no_pod(&pods);
    }
    let unsigned =
        Run::rkt().arg("--dir").arg(pods.data()).args(["run", "--net=none"]).arg(shell_image()).end();
    unsigned.expect(
        254,
        "",
        &format!(
            "run: error opening signature file: opening {}.asc: No such file or directory\n\
             run: hint: name the signature's file with --signature, or, if you trust the image, skip the check with \
             --insecure-options=image\n",
            shell_image().display()
        ),
    );
    assert_eq!(pods.rkt("image list --no-legend").stdout().trim(), "", "nothing was imported");
    // The next command works.
    pods.run_shell("", "exit 3").end().expect(3, "", "");
}

/// A small file system for a data directory, unmounted at the end of the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).expect("a directory");
        let options = format!("size={size},mode=755");
        Run::new("mount").args(["-t", "tmpfs", "-o", &options, "small"]).arg(path).end().expect(0, "", "");
        Self(path.to_owned())
    }

    fn fill(&self) {
        let _full = Run::new("dd")
            .args(["if=/dev/zero", "bs=64k"])
            .arg(format!("of={}/filler", self.0.display()))
            .end();
        let _full =
            Run::new("dd").args(["if=/dev/zero", "bs=1"]).arg(format!("of={}/more", self.0.display())).end();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ended = Run::new("umount").args(["-l"]).arg(&self.0).end();
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    let _host = Host::take();
    let pods = Pods::new();
    // Enough for the image and the tree that it is unpacked to, not for a copy of it.
    let disk = SmallDisk::mount(&pods.data(), "6m");
    pods.run_shell("", "exit 3").end().expect(3, "", "");
    let uuid = pods.only();
    let ended = pods.rkt("prepare --no-overlay example.com/shell --exec=/bin/true").end();
    ended.expect_code(254);
    let tree = std::fs::read_dir(pods.data().join("cas/tree")).expect("trees").flatten().next().expect("one");
    assert_eq!(
        ended.stderr,
        format!(
            "prepare: error setting up stage0: copying {}/rootfs/bin/busybox: No space left on device\n\
             prepare: hint: free some space, for example with `rkt gc --grace-period=0s` and `rkt image gc`\n",
            tree.path().display()
        )
    );
    assert_eq!(pods.uuids(), std::slice::from_ref(&uuid));

    // Where nothing at all can be written any more, what is there can be seen and removed.
    disk.fill();
    assert_eq!(pods.status(&uuid).last().map(String::as_str), Some("app-app=3"));
    pods.rkt("gc --grace-period=0s").end().expect_code(0);
    assert!(pods.uuids().is_empty());
    drop(disk);
}

/// What can happen to the directory of a pod, as lines for a shell in it.
const MUTATIONS: [&str; 29] = [
    "rm -rf * .[a-z]*",
    "rm pod",
    ": > pod",
    "head -c 100 /dev/urandom > pod",
    "head -c 100 pod > cut; mv cut pod",
    "rm pod; mkdir pod",
    "rm pod; ln -s nowhere pod",
    "rm pod; ln -s pod pod",
    "rm pod; mkfifo pod",
    "echo '{}' > pod",
    "sed -i s/PodManifest/ImageManifest/ pod",
    "sed -i 's/\"app\"/\"..\"/' pod",
    "chmod 000 . pod",
    "rm ppid",
    "echo garbage > ppid",
    "echo 99999999999999999999 -1 > ppid",
    "rm ppid; mkdir ppid",
    "rm -r stage1",
    "rm -r stage1; echo > stage1",
    "rm -r stage1/rootfs/rkt/status",
    "echo abc > stage1/rootfs/rkt/status/app",
    "rm -f stage1/rootfs/rkt/status/app*; mkdir stage1/rootfs/rkt/status/app",
    "head -c 100 /dev/urandom > stage1/rootfs/rkt/status/.first",
    "rm -r appsinfo",
    "echo garbage > appsinfo/app/manifest",
    "echo ../../../etc > appsinfo/app/treeStoreID",
    "rm -r overlay",
    "rm cgroup; rm pod-created",
    "echo ../../../.. > cgroup",
];

#[test]
fn a_broken_pod_hides_no_other_and_is_removed() {
    let _host = Host::take();
    let pods = Pods::new();
    pods.run_shell("", "exit 3").end().expect(3, "", "");
    let (run, saved) = (pods.data().join("pods/run"), pods.path().join("saved"));
    Run::new("mv").arg(run.join(pods.only())).arg(&saved).end().expect(0, "", "");
    let healthy = pods.rkt("prepare").arg(shell_image()).arg("--exec=/bin/true").stdout().trim().to_owned();
    for (index, mutation) in MUTATIONS.iter().enumerate() {
        let uuid = format!("00000000-0000-4000-8000-{index:012}");
        let dir = run.join(&uuid);
        Run::new("cp").arg("-a").arg(&saved).arg(&dir).end().expect(0, "", "");
        Run::new("sh").args(["-ec", mutation]).current_dir(&dir).end().expect(0, "", "");

        let list = pods.rkt("list --full --no-legend").end();
        list.expect_code(0);
        let lines = |text: &str| list.stdout.lines().filter(|line| line.starts_with(text)).count();
        assert_eq!((lines(&healthy), lines(&uuid)), (1, 1), "{mutation}: {}", list.stdout);
        let status = pods.rkt("status").arg(&uuid).end();
        status.expect_code(0);
        assert!(status.stdout.starts_with("state=exited\n"), "{mutation}: {}", status.stdout);
        pods.rkt("stop").arg(&uuid).end().expect(0, &format!("pod \"{uuid}\" is already stopped\n"), "");

        let (command, stdout, stderr) = if index % 2 == 0 {
            (format!("rm {uuid}"), format!("\"{uuid}\"\n"), String::new())
        } else {
            let told = format!("gc: moving pod \"{uuid}\" to garbage\n");
            ("gc --grace-period=0s".to_owned(), format!("Garbage collecting pod \"{uuid}\"\n"), told)
        };
        let ended = pods.rkt(&command).end();
        assert_eq!(
            (ended.status.code(), ended.stdout, ended.stderr),
            (Some(0), stdout, stderr),
            "{mutation}"
        );
        let left = Run::new("find").arg(pods.data().join("pods")).args(["-name", &uuid]).stdout();
        assert_eq!(left, "", "{mutation}");
    }
}

/// A user is looked up by name before there is a pod; what an image brings to be loaded then is nothing but files.
#[test]
fn a20_no_program_or_library_of_an_image_is_loaded_outside_of_its_pod() {
    let _host = Host::take();
    let pods = Pods::new();
    let busybox = std::fs::read(find_program("busybox").expect("a busybox")).expect("readable");
    let image = Aci::shell("example.com/web", "id -u")
        .bare()
        .file("/bin/busybox", 0o755, busybox)
        .link("/bin/sh", "busybox")
        .link("/bin/id", "busybox")
        .app("user", json!("alice"))
        .app("group", json!("evils"))
        .file("/etc/passwd", 0o644, "alice:x:1234:1234::/:/bin/sh\n")
        .file("/etc/group", 0o644, "evils:x:1234:\n")
        .file("/etc/nsswitch.conf", 0o644, "passwd: evil\ngroup: evil\n")
        .file("/etc/ld.so.preload", 0o644, "/lib/libevil.so\n")
        .file("/etc/ld.so.conf", 0o644, "/lib/evil\n")
        .file("/lib/libevil.so", 0o755, "evil")
        .file("/lib/libnss_evil.so.2", 0o755, "evil")
        .file("/usr/lib/gconv/gconv-modules", 0o644, "module evil// INTERNAL evil 1\n")
        .file("/usr/sbin/nscd", 0o755, "#!/bin/sh\ntouch /evil\n");
    pods.rkt("fetch").arg(image.write(pods.path())).end().expect_code(0);

    let trace = pods.path().join("trace");
    let traced = Run::new("strace").args(["-f", "-e", "trace=execve,execveat,open,openat,openat2", "-o"]);
    let prepare = traced.arg(&trace).arg(env!("CARGO_BIN_EXE_rkt")).arg("--dir").arg(pods.data());
    let uuid = prepare.args(["--insecure-options=image", "prepare", "example.com/web"]).stdout();
    let text = std::fs::read_to_string(&trace).expect("a trace");
    assert!(text.lines().any(|line| line.contains("openat2(") && line.contains("passwd")), "{text}");
    let executed: Vec<_> = text.lines().filter(|line| line.contains("execve")).collect();
    assert!(executed.len() == 1, "rkt itself: {executed:?}");
    for file in ["evil", "nsswitch", "ld.so.preload", "ld.so.conf", "gconv", "nscd"] {
        let opened: Vec<_> = text.lines().filter(|line| line.contains(file)).collect();
        assert!(opened.is_empty(), "{file}: {opened:?}");
    }
    let ended = pods.rkt("run-prepared --net=none").arg(uuid.trim()).end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "web"), ["1234"]);
}
