//! What an app sees and may do (issue "must show" 5): asked from inside, with a busybox.

use serde_json::json;

use crate::etc_files::image_with;
use crate::host::{Host, cgroup_of, processes_below};
use crate::pod::{Pods, said_by, shell_app, shell_image};
use crate::support::Run;
use crate::support::aci::Aci;

/// Runs a line for a shell in a pod, and returns what it said.
fn say(pods: &Pods, flags: &str, line: &str) -> Vec<String> {
    let ended = pods.run_shell(flags, line).end();
    ended.expect_code(0);
    said_by(&ended.stdout, "app")
}

#[test]
fn a_root_app_can_not_reach_the_host_through_the_kernel() {
    let _host = Host::take();
    let pods = Pods::new();
    let core_pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a core pattern");
    // Each line is an attempt; what works says so.
    let line = r#"exec 2>/dev/null
        try() { if "$@"; then echo "done: $*"; fi; }
        write() { echo "$1" > "$2"; }
        try write '|/bin/true' /proc/sys/kernel/core_pattern
        try write /bin/true /proc/sys/kernel/modprobe
        try write h /proc/sysrq-trigger
        try write 1 /proc/sys/vm/panic_on_oom
        try write 1 /proc/sys/kernel/sysrq
        try write x /sys/kernel/uevent_helper
        try write 1 /sys/class/net/lo/ifalias
        try write 1 /sys/fs/cgroup/cgroup.procs
        try mkdir /sys/fs/cgroup/mine
        try mkdir /sys/mine
        try mount -t tmpfs none /tmp
        try mount -o remount,rw /sys
        try mount -o remount,rw /proc/sys
        try umount /proc
        try hostname other
        for type in "b 8 0" "b 7 0" "b 254 0" "c 1 1" "c 10 229" "c 10 200"; do
            rm -f /tmp/node /node /run/node /dev/shm/node
            for dir in /tmp / /run /dev/shm /dev; do
                mknod "$dir/node" $type && try dd if="$dir/node" of=/dev/null bs=1 count=1
            done
        done
        try dd if=/dev/kmsg of=/dev/null bs=1 count=1
        some() { head -c 1 "$1" | grep -q .; }
        for file in kcore kallsyms kmsg config.gz; do try some /proc/$file; done
        for file in acpi bus fs irq mtrr sysrq-trigger; do try touch /proc/$file; done
        try ls /proc/1/root/
        for dir in firmware module power; do try ls /sys/$dir/*; done
        try touch /dev/new
        try mkdir /dev/new
        echo end"#;
    assert_eq!(say(&pods, "", line), ["end"]);
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("the same"), core_pattern);
}

#[test]
fn the_kernel_s_files_are_never_where_a_link_of_the_image_leads() {
    let _host = Host::take();
    let pods = Pods::new();
    for name in ["proc", "sys", "dev"] {
        for target in ["/etc", "../../../../../run", "/proc/1/root/run"] {
            let image = image_with(&pods, |tar| tar.symlink(format!("rootfs/{name}"), target));
            let refused = pods.run("").arg(image).arg("--name=app").end();
            let expected = format!(
                "run: error setting up stage0: image example.com/odd has no directory at /{name}, where a kernel file system \
                 goes, but something else\n"
            );
            refused.expect(254, "", &expected);
        }
    }
    assert!(pods.uuids().is_empty());
}

#[test]
fn an_app_has_the_fourteen_capabilities_and_a_filter() {
    let _host = Host::take();
    let pods = Pods::new();
    let line = "grep -E '^(CapPrm|CapEff|CapBnd|CapAmb|Seccomp):' /proc/self/status | tr '\\t' ' '";
    // AUDIT_WRITE CHOWN DAC_OVERRIDE FSETID FOWNER KILL MKNOD NET_RAW NET_BIND_SERVICE SETUID SETGID SETPCAP SETFCAP
    // SYS_CHROOT (spec pods.md 3.8), by their numbers in linux/capability.h.
    let numbers = [29, 0, 1, 4, 3, 5, 27, 13, 10, 7, 6, 8, 31, 18];
    let set: u64 = numbers.iter().map(|number| 1_u64 << number).sum();
    let expected = |effective: u64| {
        [
            format!("CapPrm: {effective:016x}"),
            format!("CapEff: {effective:016x}"),
            format!("CapBnd: {set:016x}"),
            "CapAmb: 0000000000000000".to_owned(),
            "Seccomp: 2".to_owned(),
        ]
    };
    assert_eq!(say(&pods, "", line), expected(set));
    let ended = shell_app_as(&pods, &["--user=1000"], line);
    assert_eq!(ended, expected(0));
}

/// Runs a line for a shell with flags of the app, and returns what it said.
fn shell_app_as(pods: &Pods, flags: &[&str], line: &str) -> Vec<String> {
    let run = pods.run("").arg(shell_image()).args(["--name=app", "--exec=/bin/sh"]).args(flags);
    let ended = run.args(["--", "-c", line]).end();
    ended.expect_code(0);
    said_by(&ended.stdout, "app")
}

/// The variables of every app (spec pods.md 3.5), sorted.
const ENVIRONMENT: [&str; 7] = [
    "AC_APP_NAME=app",
    "HOME=/root",
    "LOGNAME=root",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL=/bin/sh",
    "USER=root",
    "container=rkt",
];

/// The variables that the app has shown, sorted, without those by which systemd talks to every service of its own
/// (systemd.exec(5), "Environment Variables Set or Propagated by the Service Manager").
fn environment(said: Vec<String>) -> Vec<String> {
    const OF_SYSTEMD: [&str; 3] = ["INVOCATION_ID=", "JOURNAL_STREAM=", "SYSTEMD_EXEC_PID="];
    let mut lines = said;
    lines.retain(|line| !OF_SYSTEMD.iter().any(|name| line.starts_with(name)));
    lines.sort();
    lines
}

// With something after it, or the shell would become tr and have another environment.
const SHOW_ENVIRONMENT: &str = "tr '\\0' '\\n' < /proc/$$/environ; true";

#[test]
fn the_environment_has_what_the_specification_says_and_nothing_of_the_host() {
    let _host = Host::take();
    let pods = Pods::new();
    let run =
        shell_app(pods.run("").env("SECRET", "of the host").env("LANG", "C.UTF-8"), "app", SHOW_ENVIRONMENT);
    let ended = run.end();
    ended.expect_code(0);
    assert_eq!(environment(said_by(&ended.stdout, "app")), ENVIRONMENT);
}

#[test]
fn variables_come_in_the_order_of_the_specification() {
    let _host = Host::take();
    let pods = Pods::new();
    let variables = ["image", "environment", "file", "flag"]
        .iter()
        .map(|name| json!({"name": name, "value": "image"}))
        .collect::<Vec<_>>();
    let image = Aci::shell("example.com/env", SHOW_ENVIRONMENT).app("environment", json!(variables));
    let image = image.write(pods.path());
    std::fs::write(pods.path().join("file"), "# a comment\n; another\n\nfile=file\nflag=file\n")
        .expect("a file");
    // From the caller only what nothing else sets; PATH is what the test was started with.
    let run = pods.run("--inherit-env --set-env-file=file --set-env=flag=flag").env("caller", "caller");
    let run = run.env("image", "caller").env("PATH", "/bin").arg(image).arg("--name=app");
    let ended = run.args(["--environment=environment=environment", "--environment=file=environment"]).end();
    ended.expect_code(0);

    let mut expected: Vec<String> = ENVIRONMENT.iter().map(|line| (*line).to_owned()).collect();
    expected.retain(|line| !line.starts_with("PATH="));
    let set = [
        "PATH=/bin",
        "TZ=UTC",
        "caller=caller",
        "environment=environment",
        "file=file",
        "flag=flag",
        "image=image",
    ];
    expected.extend(set.map(str::to_owned));
    expected.sort();
    assert_eq!(environment(said_by(&ended.stdout, "app")), expected);
}

/// What systemd, shells and environment files take for more than text.
const AWKWARD: [&str; 12] = [
    "two  words",
    "'single' and \"double\"",
    "$HOME ${HOME} $$",
    "%i %n %% %",
    "back\\slash \\n \\x41",
    "; semicolon",
    "#hash",
    "",
    "tab\there",
    "line\nbreak\n",
    "\u{e4}\u{20ac}",
    "-",
];

#[test]
fn arguments_arrive_as_they_are() {
    let _host = Host::take();
    let pods = Pods::new();
    let show = "for a; do echo $(printf %s \"$a\" | od -An -v -tx1).; done";
    let run = pods.run("").arg(shell_image()).args(["--name=app", "--exec=/bin/sh", "--", "-c", show, "sh"]);
    let ended = run.args(AWKWARD).end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), AWKWARD.map(|text| format!("{}.", hex(text))));
}

#[test]
fn values_of_variables_arrive_as_they_are() {
    let _host = Host::take();
    let pods = Pods::new();
    let show = "i=0; while [ $i -lt 12 ]; do eval \"v=\\\"\\$v$i\\\"\"; echo $(printf %s \"$v\" | od -An -v -tx1).; i=$((i+1)); done";
    let variables = AWKWARD.iter().enumerate().map(|(index, value)| format!("--set-env=v{index}={value}"));
    let ended = shell_app(pods.run("").args(variables), "app", show).end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), AWKWARD.map(|text| format!("{}.", hex(text))));
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn users_and_groups_are_those_asked_for() {
    let _host = Host::take();
    let pods = Pods::new();
    // systemd names the group itself among the supplementary ones, which gives nothing.
    let ids = "grep -E '^(Uid|Gid|Groups):' /proc/self/status | tr -s '\\t ' ' '";
    let expected = |uid: u32, gid: u32, groups: &str| {
        [
            format!("Uid: {uid} {uid} {uid} {uid}"),
            format!("Gid: {gid} {gid} {gid} {gid}"),
            format!("Groups: {groups}"),
        ]
    };
    let trimmed =
        |lines: Vec<String>| -> Vec<String> { lines.iter().map(|line| line.trim_end().to_owned()).collect() };
    let image = Aci::shell("example.com/ids", ids)
        .app("user", json!("web"))
        .app("group", json!("www"))
        .app("supplementaryGIDs", json!([7, 55]))
        .file_of("/srv/owned", (1234, 4321))
        .write(pods.path());
    for (flags, uid, gid, groups) in [
        (&[][..], 33, 44, "7 44 55"),
        (&["--user=12345", "--group=23456"], 12345, 23456, "7 55 23456"),
        (&["--user=0", "--group=0"], 0, 0, "7 55"),
        (&["--user=/srv/owned", "--group=/srv/owned"], 1234, 4321, "7 55 4321"),
        (&["--user=root"], 0, 44, "7 55"),
    ] {
        let ended = pods.run("").arg(&image).arg("--name=app").args(flags).end();
        ended.expect_code(0);
        let expected = trimmed(expected(uid, gid, groups).to_vec());
        assert_eq!(trimmed(said_by(&ended.stdout, "app")), expected, "{flags:?}");
    }
    // The primary group of the user's line is not used, nor those that list it.
    let said = shell_app_as(&pods, &["--user=web"], ids);
    assert_eq!(trimmed(said), trimmed(expected(33, 0, "").to_vec()));

    let ended = pods.run("").arg(shell_image()).arg("--user=nobody-here").end();
    ended.expect_code(254);
    let message = "run: error setting up stage0: \"nobody-here\" user not found\n\
                   run: hint: give a number or a name of the image's own files\n";
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", message));
}

#[test]
fn the_working_directory_is_the_one_asked_for() {
    let _host = Host::take();
    let pods = Pods::new();
    assert_eq!(shell_app_as(&pods, &[], "pwd"), ["/"]);
    assert_eq!(
        shell_app_as(&pods, &["--working-dir=/etc"], "pwd; cat passwd | head -n 1"),
        ["/etc", "root:x:0:0::/root:/bin/sh"]
    );
    let image = Aci::shell("example.com/wd", "pwd").app("workingDirectory", json!("/tmp")).write(pods.path());
    let ended = pods.run("").arg(image).end();
    assert_eq!(said_by(&ended.stdout, "wd"), ["/tmp"]);
}

#[test]
fn the_host_name_is_the_pod_s() {
    let host = Host::take();
    let pods = Pods::new();
    assert_eq!(say(&pods, "--hostname=web-1", "hostname"), ["web-1"]);
    let said = say(&pods, "", "hostname");
    let uuids: Vec<String> = pods.uuids().into_iter().map(|uuid| format!("rkt-{uuid}")).collect();
    assert!(uuids.contains(&said[0]), "{said:?} is one of {uuids:?}");
    drop(host);
}

#[test]
fn without_a_network_there_is_a_loopback_that_is_up() {
    let _host = Host::take();
    let pods = Pods::new();
    let line = "ls /sys/class/net; ifconfig lo | grep -o 'UP LOOPBACK RUNNING'; ifconfig lo | grep -o 'inet addr:[0-9.]*'";
    assert_eq!(say(&pods, "", line), ["lo", "UP LOOPBACK RUNNING", "inet addr:127.0.0.1"]);
}

#[test]
fn with_the_host_s_network_an_app_is_in_its_namespace() {
    let _host = Host::take();
    let pods = Pods::new();
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    let run = shell_app(pods.rkt("run --net=host"), "app", "sleep 0.1; stat -L -c %i /proc/self/ns/net");
    let ended = run.end();
    ended.expect_code(0);
    assert_eq!(
        said_by(&ended.stdout, "app").iter().map(|inode| format!("net:[{inode}]")).collect::<Vec<_>>(),
        [own.display().to_string()]
    );
}

#[test]
fn pods_of_one_image_do_not_see_each_other_s_changes() {
    let _host = Host::take();
    let pods = Pods::new();
    for flags in ["", "--no-overlay"] {
        let line = "ls /etc; echo changed > /etc/passwd; touch /etc/new; cat /etc/passwd; sleep 0.2";
        for _ in 0..2 {
            assert_eq!(
                say(&pods, flags, line),
                ["group", "hostname", "hosts", "mtab", "passwd", "changed"],
                "{flags}"
            );
        }
        // Two apps of one pod neither.
        let run = shell_app(pods.run(flags), "first", "echo first > /etc/passwd; sleep 0.5; cat /etc/passwd");
        let run = shell_app(run, "second", "echo second > /etc/passwd; sleep 0.5; cat /etc/passwd");
        let ended = run.end();
        ended.expect_code(0);
        assert_eq!(said_by(&ended.stdout, "first"), ["first"]);
        assert_eq!(said_by(&ended.stdout, "second"), ["second"]);
    }
    let tree = Run::new("find").arg(pods.data().join("cas")).args(["-name", "new"]).stdout();
    assert_eq!(tree, "", "the shared tree is as it was");
}

#[test]
fn an_app_has_its_own_cgroup_in_the_pod_s() {
    let host = Host::take();
    let pods = Pods::new();
    let pod = pods.start_shell("", "exec sleep 100");
    let leader = host.wait_for_machine(&pod.machine());
    let group = cgroup_of(leader);
    let payload = group.strip_suffix("/init.scope").expect("the pod's init is in init.scope");
    let app = format!("{payload}/system.slice/app.service");
    assert_eq!(processes_below(&app), ["sleep"]);
}

#[test]
fn limits_that_the_kernel_can_not_keep_are_told() {
    let _host = Host::take();
    let pods = Pods::new();
    let controllers =
        std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("a unified hierarchy");
    let has = |name: &str| controllers.split_whitespace().any(|word| word == name);
    let run = pods.run("").arg(shell_image()).args([
        "--name=app",
        "--memory=64Mi",
        "--cpu=500m",
        "--exec=/bin/true",
    ]);
    let ended = run.end();
    ended.expect_code(0);
    let expected: String = ["memory", "cpu"]
        .iter()
        .filter(|name| !has(name))
        .map(|name| {
            format!(
                "run: warning: resource/{name} isolator set but support disabled in the kernel, skipping\n"
            )
        })
        .collect();
    assert_eq!(ended.stderr, expected);
}

#[test]
fn limits_of_an_app_and_of_the_pod_are_set_where_systemd_shows_them() {
    let host = Host::take();
    let pods = Pods::new();
    let file = pods.path().join("uuid");
    let run = pods.run("--memory=64Mi --cpu=500m").arg("--uuid-file-save").arg(&file).arg(shell_image());
    let run = run.args(["--name=app", "--exec=/bin/sleep", "--", "100"]);
    let pod = pods.started(run.start(), &file);
    let scope = crate::pod::scope(&pod.uuid);
    assert_eq!(host.unit_property(&scope, "MemoryMax"), (64 << 20).to_string());
    assert_eq!(host.unit_property(&scope, "CPUQuotaPerSecUSec"), "500ms");
    drop(pod);

    // Nobody means 500 whole processors.
    let run =
        pods.run("--cpu=500").arg("--uuid-file-save").arg(pods.path().join("uuid-500")).arg(shell_image());
    let run = run.args(["--name=app", "--exec=/bin/sleep", "--", "100"]);
    let mut pod = pods.started(run.start(), &pods.path().join("uuid-500"));
    assert_eq!(host.unit_property(&crate::pod::scope(&pod.uuid), "CPUQuotaPerSecUSec"), "500ms");
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    pod.supervisor().wait_for_stderr(&format!(
        "run: --cpu=500 is more than this host's {processors} CPUs and is read as 500 thousandths of one: --cpu=500m\n"
    ));
}

#[test]
fn an_app_with_more_rights_than_were_asked_for_ends_its_pod() {
    let _host = Host::take();
    let pods = Pods::new();
    let ended = shell_app(pods.rkt("prepare"), "app", "sleep 1000").end();
    ended.expect_code(0);
    let uuid = ended.stdout.trim();

    // What systemd does with a setting that it can't parse: it starts the app without it.
    let unit = pods.data().join(format!("pods/prepared/{uuid}/stage1/rootfs/etc/systemd/system/app.service"));
    let text = std::fs::read_to_string(&unit).expect("the app's unit");
    let spoilt = text.replace("CapabilityBoundingSet=CAP_", "CapabilityBoundingSett=CAP_");
    assert_ne!(spoilt, text);
    std::fs::write(&unit, spoilt).expect("the unit can be written");

    let ended = pods.rkt("run-prepared --net=none").arg(uuid).end();
    ended.expect_code(254);
    let said = said_by(&ended.stdout, "rkt");
    let start = "rkt: the pod is ended, an app has more rights than were asked for: app.service: its processes may have";
    assert!(said.len() == 1 && said[0].starts_with(start), "{said:?}");
}
