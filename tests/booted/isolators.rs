//! Rights and limits of an app that its isolators and flags say: asked from the kernel (spec pods.md 3.8).

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use rkt::appc::isolator::filter::{known_calls, known_errors};
use serde_json::json;

use crate::host::Host;
use crate::pod::{Pods, said_by, shell_image};
use crate::support::aci::Aci;
use crate::support::probe::{self, Bits};
use crate::support::run::Ended;
use crate::support::{Run, wait};

/// Runs a line for a shell in an app with these flags.
fn shell(pods: &Pods, flags: &[&str], line: &str) -> Ended {
    let run = pods.run("").arg(shell_image()).args(["--name=app", "--exec=/bin/sh"]).args(flags);
    run.args(["--", "-c", line]).end()
}

/// The fields of /proc/self/status of an app with these flags, `NAME: VALUE`.
fn status_fields(pods: &Pods, flags: &[&str], names: &str) -> Vec<String> {
    let line = format!("grep -E '^({names}):' /proc/self/status | tr -s '\\t ' ' '");
    let ended = shell(pods, flags, &line);
    ended.expect_code(0);
    said_by(&ended.stdout, "app").iter().map(|line| line.trim_end().to_owned()).collect()
}

/// What the default list lets through (spec pods.md 3.8) and today's programs call.
const ALLOWED: [(&str, libc::c_long); 10] = [
    ("getpid", libc::SYS_getpid),
    ("chroot", libc::SYS_chroot),
    ("rseq", libc::SYS_rseq),
    ("statx", libc::SYS_statx),
    ("clone3", libc::SYS_clone3),
    ("openat2", libc::SYS_openat2),
    ("faccessat2", libc::SYS_faccessat2),
    ("close_range", libc::SYS_close_range),
    ("membarrier", libc::SYS_membarrier),
    ("pidfd_open", libc::SYS_pidfd_open),
];

/// What it does not, though the pod's own filter does, most of it.
const BLOCKED: [(&str, libc::c_long); 12] = [
    ("add_key", libc::SYS_add_key),
    ("bpf", libc::SYS_bpf),
    ("fsopen", libc::SYS_fsopen),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("keyctl", libc::SYS_keyctl),
    ("mount", libc::SYS_mount),
    ("open_tree", libc::SYS_open_tree),
    ("pivot_root", libc::SYS_pivot_root),
    ("ptrace", libc::SYS_ptrace),
    ("setns", libc::SYS_setns),
    ("umount2", libc::SYS_umount2),
    ("unshare", libc::SYS_unshare),
];

/// An image with a program for each call, which makes it and ends with its error, and a shell that runs them all.
fn probes(pods: &Pods) -> PathBuf {
    let line = "for p in /probe/*; do $p 2>/dev/null; echo ${p##*/} $?; done";
    let mut image = Aci::shell("example.com/probes", line);
    for (name, number) in ALLOWED.into_iter().chain(BLOCKED) {
        image = image.file(&format!("/probe/{name}"), 0o755, probe::program(Bits::Native, number));
    }
    image.write(pods.path())
}

/// What the shell tells of a program that was killed by SIGSYS, which has the same number everywhere.
const KILLED: u8 = 128 + 31;

#[test]
fn without_a_word_an_app_may_make_the_calls_of_the_default_list_and_no_others() {
    let _host = Host::take();
    let pods = Pods::new();
    let ended = pods.run("").arg(probes(&pods)).arg("--name=app").end();
    ended.expect_code(0);
    let said = said_by(&ended.stdout, "app");
    assert_eq!(said.len(), ALLOWED.len() + BLOCKED.len(), "{said:?}");
    for line in said {
        let (name, status) = line.split_once(' ').expect("a name and a status");
        let is_blocked = BLOCKED.iter().any(|(blocked, _)| *blocked == name);
        assert_eq!(status == KILLED.to_string(), is_blocked, "{line}");
    }
}

#[test]
fn the_filter_can_be_switched_off_and_then_only_that_of_the_pod_is_there() {
    let _host = Host::take();
    let pods = Pods::new();
    // As a user without rights, a new user namespace may be made if system calls are not filtered.
    let program = probe::program(Bits::Native, libc::SYS_unshare);
    let line =
        "/probe 2>/dev/null; echo $?; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr '\\t' ' '";
    let image = Aci::shell("example.com/app", line).file("/probe", 0o755, program).write(pods.path());
    let said = |options: &str, flags: &[&str]| {
        let run =
            pods.rkt(&format!("--insecure-options=image{options} run --net=none")).arg(&image).args(flags);
        let ended = run.end();
        ended.expect_code(0);
        said_by(&ended.stdout, "app")
    };
    assert_eq!(said(",seccomp", &["--user=1000"]), ["0", "NoNewPrivs: 0", "Seccomp: 2"]);

    assert_eq!(said("", &["--user=1000"]), ["159", "NoNewPrivs: 1", "Seccomp: 2"]);
    // Retaining everything is another way of saying it.
    assert_eq!(
        said("", &["--user=1000", "--seccomp=mode=retain,@appc.io/all"]),
        ["0", "NoNewPrivs: 0", "Seccomp: 2"]
    );
}

#[test]
fn a_call_that_may_not_be_made_kills_the_app_or_fails_with_the_error_that_was_asked_for() {
    let _host = Host::take();
    let pods = Pods::new();
    let image = |name: &str, number, isolators: serde_json::Value| {
        let program = probe::program(Bits::Native, number);
        Aci::new(&format!("example.com/{name}"), &["/probe"])
            .file("/probe", 0o755, program)
            .app("isolators", isolators)
    };
    let isolator =
        |kind: &str, value| json!([{"name": format!("os/linux/seccomp-{kind}-set"), "value": value}]);
    // EXDEV, which the call itself would not give.
    let (exdev, einval) = (18, 22);
    for (name, number, isolators, flags, code) in [
        ("default", libc::SYS_keyctl, json!([]), &[][..], 31),
        ("removed", libc::SYS_sched_yield, isolator("remove", json!({"set": ["sched_yield"]})), &[], 31),
        (
            "failing",
            libc::SYS_sched_yield,
            isolator("remove", json!({"set": ["sched_yield", "bogus"], "errno": "EXDEV"})),
            &[],
            exdev,
        ),
        ("kept", libc::SYS_unshare, isolator("remove", json!({"set": ["sched_yield"]})), &[], 0),
        ("retained", libc::SYS_unshare, isolator("retain", json!({"set": ["unshare"]})), &[], 0),
        ("left-out", libc::SYS_getcwd, isolator("retain", json!({"set": ["unshare"]})), &[], 31),
        ("set", libc::SYS_keyctl, isolator("retain", json!({"set": ["@docker/default-whitelist"]})), &[], 31),
        (
            "of-systemd",
            libc::SYS_mount,
            isolator("remove", json!({"set": ["@systemd/mount"], "errno": "EXDEV"})),
            &[],
            exdev,
        ),
        (
            "nothing",
            libc::SYS_getcwd,
            isolator("remove", json!({"set": ["@appc.io/all"], "errno": "EXDEV"})),
            &[],
            exdev,
        ),
        ("unknown", libc::SYS_keyctl, isolator("remove", json!({"set": ["bogus_call"]})), &[], 31),
        // A call of another architecture: nothing is left of the filter but its being there.
        ("foreign", libc::SYS_clone3, isolator("remove", json!({"set": ["breakpoint"]})), &[], einval),
        (
            "replaced",
            libc::SYS_keyctl,
            isolator("retain", json!({"set": ["keyctl"]})),
            &["--seccomp=errno=EXDEV,mode=remove,keyctl"],
            exdev,
        ),
    ] {
        let file = image(name, number, isolators).write(pods.path());
        let ended = pods.run("").arg(file).args(flags).end();
        assert_eq!(ended.status.code(), Some(code), "{name}: {} {}", ended.stdout, ended.stderr);
        assert_eq!(ended.status.signal(), None);
    }
}

#[test]
fn a_program_for_the_processor_s_other_width_is_filtered_as_well() {
    let _host = Host::take();
    let pods = Pods::new();
    // linux/arch/x86/entry/syscalls/syscall_32.tbl
    let (getpid, keyctl, getcwd) = (20, 288, 183);
    let own = probe::program(Bits::Other, getpid);
    if own.is_empty() || Command::new(write_program(&pods, &own)).status().is_err() {
        // A machine without such programs has nothing to filter.
        return;
    }
    for (number, flags, killed) in [
        (getpid, &[][..], false),
        (keyctl, &[], true),
        (getcwd, &["--seccomp=mode=remove,getcwd"], true),
        (getcwd, &["--seccomp=mode=retain,getpid"], true),
        (getcwd, &["--seccomp=mode=retain,getcwd"], false),
    ] {
        let image = Aci::new("example.com/other", &["/probe"])
            .file("/probe", 0o755, probe::program(Bits::Other, number))
            .write(pods.path());
        let ended = pods.run("").arg(image).args(flags).end();
        assert_eq!(ended.status.code() == Some(31), killed, "{number}: {} {}", ended.stdout, ended.stderr);
    }
}

fn write_program(pods: &Pods, bytes: &[u8]) -> PathBuf {
    let path = pods.path().join("program");
    std::fs::write(&path, bytes).expect("a new file");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    path
}

#[test]
fn all_names_are_known_to_this_systemd() {
    let _host = Host::take();
    let pods = Pods::new();
    let calls: Vec<&str> = known_calls().collect();
    let errors: String = known_errors().map(|name| format!("SystemCallErrorNumber={name}\n")).collect();
    let unit = pods.path().join("names.service");
    let text = format!(
        "[Service]\nExecStart=/bin/true\nSystemCallFilter={}\n{errors}SystemCallFilter=not_a_call\n",
        calls.join(" ")
    );
    std::fs::write(&unit, text).expect("a new file");
    let ended = Run::new("systemd-analyze").args(["verify", "--man=no", "--generators=no"]).arg(&unit).end();
    let about = unit.display().to_string();
    let complaints: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with(&about)).collect();
    assert!(complaints.len() == 1 && complaints[0].contains("not_a_call"), "{complaints:?}");
}

#[test]
fn an_app_without_its_filter_ends_its_pod() {
    let _host = Host::take();
    let pods = Pods::new();
    let prepare =
        pods.rkt("prepare").arg(shell_image()).args(["--name=app", "--exec=/bin/sleep", "--", "1000"]);
    let ended = prepare.end();
    ended.expect_code(0);
    let uuid = ended.stdout.trim();
    let unit = pods.data().join(format!("pods/prepared/{uuid}/stage1/rootfs/etc/systemd/system/app.service"));
    let text = std::fs::read_to_string(&unit).expect("the app's unit");
    // What 252 does with a name that it does not know, had it been written.
    let lines = text.lines().map(|line| match line.starts_with("SystemCallFilter=") {
        true => "SystemCallFilter=~bogus_call\n".to_owned(),
        false => format!("{line}\n"),
    });
    std::fs::write(&unit, lines.collect::<String>()).expect("the unit can be written");

    let ended = pods.rkt("run-prepared --net=none").arg(uuid).end();
    ended.expect_code(254);
    assert_eq!(
        said_by(&ended.stdout, "rkt"),
        [
            "rkt: the pod is ended, an app has more rights than were asked for: app.service: its own system call filter is not on"
        ]
    );
}

#[test]
fn users_other_than_root_get_no_rights_by_set_id_bits() {
    let _host = Host::take();
    let pods = Pods::new();
    assert_eq!(status_fields(&pods, &[], "NoNewPrivs"), ["NoNewPrivs: 0"]);
    assert_eq!(status_fields(&pods, &["--user=1000"], "NoNewPrivs"), ["NoNewPrivs: 1"]);
}

#[test]
fn capabilities_are_those_retained_or_the_default_without_those_removed() {
    let _host = Host::take();
    let pods = Pods::new();
    let bounds = |set: u64, effective: u64| {
        [
            "CapInh: 0000000000000000".to_owned(),
            format!("CapPrm: {effective:016x}"),
            format!("CapEff: {effective:016x}"),
            format!("CapBnd: {set:016x}"),
            "CapAmb: 0000000000000000".to_owned(),
        ]
    };
    let names = "CapInh|CapPrm|CapEff|CapBnd|CapAmb";
    // linux/capability.h: CHOWN 0, KILL 5, NET_ADMIN 12, MKNOD 27, SYS_TIME 25; 0xa80425fb are the fourteen.
    let default = 0xa804_25fb_u64;
    for (flags, set) in [
        (&["--caps-retain=CAP_CHOWN"][..], 1),
        (&["--cap-retain=CAP_CHOWN,CAP_KILL"], 1 | 1 << 5),
        (&["--caps-retain=CAP_CHOWN", "--caps-retain=CAP_NET_ADMIN"], 1 | 1 << 12),
        (&["--caps-remove=CAP_MKNOD"], default & !(1 << 27)),
        (&["--cap-remove=CAP_MKNOD,CAP_CHOWN,CAP_SYS_TIME"], default & !(1 << 27 | 1)),
    ] {
        assert_eq!(status_fields(&pods, flags, names), bounds(set, set), "{flags:?}");
    }
    let flags = ["--caps-retain=CAP_CHOWN,CAP_NET_ADMIN", "--user=1000"];
    assert_eq!(status_fields(&pods, &flags, names), bounds(1 | 1 << 12, 0));

    // What an image gives itself is told; what only one app has, the other has not.
    let isolators =
        json!([{"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_NET_ADMIN"]}}]);
    let line = "grep CapBnd /proc/self/status | tr '\\t' ' '";
    let image = Aci::shell("example.com/admin", line).app("isolators", isolators).write(pods.path());
    let run =
        pods.run("").arg(image).arg(shell_image()).args(["--name=app", "--exec=/bin/sh", "--", "-c", line]);
    let ended = run.end();
    ended.expect_code(0);
    assert_eq!(
        ended.stderr,
        "run: app \"admin\": its image gives it more capabilities than usual: CAP_NET_ADMIN\n"
    );
    assert_eq!(said_by(&ended.stdout, "admin"), ["CapBnd: 0000000000001000"]);
    assert_eq!(said_by(&ended.stdout, "app"), [format!("CapBnd: {default:016x}")]);
}

#[test]
fn what_excludes_each_other_or_means_nothing_is_refused() {
    let _host = Host::take();
    let pods = Pods::new();
    let both = json!([
        {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_KILL"]}},
        {"name": "os/linux/capabilities-remove-set", "value": {"set": ["CAP_KILL"]}},
    ]);
    let filters = json!([
        {"name": "os/linux/seccomp-retain-set", "value": {"set": ["read"]}},
        {"name": "os/linux/seccomp-remove-set", "value": {"set": ["read"]}},
    ]);
    let errno =
        json!([{"name": "os/linux/seccomp-remove-set", "value": {"set": ["mount"], "errno": "EBOGUS"}}]);
    let capability =
        json!([{"name": "os/linux/capabilities-remove-set", "value": {"set": ["CAP_X\nUser=0"]}}]);
    let image = |name: &str, isolators| {
        Aci::shell(&format!("example.com/{name}"), "true").app("isolators", isolators).write(pods.path())
    };
    let plain = shell_image().to_owned();
    for (file, flags, message) in [
        (
            &plain,
            &["--caps-retain=CAP_KILL", "--caps-remove=CAP_KILL"][..],
            "run: error setting up stage0: error: cannot use both --caps-retain and --caps-remove on the same image\n".to_owned(),
        ),
        (
            &image("both", both),
            &[],
            format!(
                "run: image {}/both.aci: manifest: app.isolators: cannot have both os/linux/capabilities-retain-set and \
                 os/linux/capabilities-remove-set\n",
                pods.path().display()
            ),
        ),
        (
            &image("filters", filters),
            &[],
            format!(
                "run: image {}/filters.aci: manifest: app.isolators: isolators set contains incompatible types\n",
                pods.path().display()
            ),
        ),
        (
            &image("errno", errno),
            &[],
            "run: error setting up stage0: app \"errno\": isolator errno: \"EBOGUS\" is no error of the kernel\n\
             run: hint: the names are those of errno(3), such as EPERM\n"
                .to_owned(),
        ),
        (
            &image("capability", capability),
            &[],
            "run: error setting up stage0: app \"capability\": isolator os/linux/capabilities-remove-set: unknown capability \
             \"CAP_X\\nUser=0\"\n\
             run: hint: the names are those of capabilities(7), such as CAP_NET_ADMIN\n"
                .to_owned(),
        ),
    ] {
        pods.run("").arg(file).args(flags).end().expect(254, "", &message);
    }
}

#[test]
fn names_that_are_no_calls_are_told_and_reach_no_unit() {
    let _host = Host::take();
    let pods = Pods::new();
    let set = json!({"set": ["mount", "x\nUser=0\nExecStartPre=+/bin/touch /escaped", "@a/b"]});
    let image = Aci::shell("example.com/app", "id -u; ls /escaped 2>/dev/null; echo end")
        .app("isolators", json!([{"name": "os/linux/seccomp-remove-set", "value": set}]))
        .write(pods.path());
    let ended = pods.run("").arg(image).arg("--user=5").end();
    ended.expect_code(0);
    assert_eq!(said_by(&ended.stdout, "app"), ["5", "end"]);
    assert_eq!(
        ended.stderr,
        "run: app \"app\": a name in its system call filter is ignored: \
         \"x\\nUser=0\\nExecStartPre=+/bin/touch /escaped\" is no system call or set of them that is known\n\
         run: app \"app\": a name in its system call filter is ignored: \"@a/b\" is no system call or set of them that is known\n"
    );
}

#[test]
fn a_read_only_root_is_that_and_the_kernel_s_file_systems_stay_as_they_are() {
    let _host = Host::take();
    let pods = Pods::new();
    let line = "exec 2>/dev/null
        try() { if \"$@\"; then echo \"done: $*\"; fi; }
        try touch /new /tmp/new /etc/new
        try mkdir /run/new
        try touch /dev/shm/new
        echo x > /dev/null && echo null
        echo 500 > /proc/self/oom_score_adj && cat /proc/self/oom_score_adj
        echo x > /proc/sys/kernel/core_pattern && echo core
        try touch /dev/new
        echo end";
    for flags in [&["--readonly-rootfs=true"][..], &["--readonly-rootfs=true", "--user=1000"]] {
        let ended = shell(&pods, flags, line);
        ended.expect_code(0);
        assert_eq!(
            said_by(&ended.stdout, "app"),
            ["done: touch /dev/shm/new", "null", "500", "end"],
            "{flags:?}"
        );
    }
    let run = pods.rkt("--insecure-options=image,paths run --net=none").arg(shell_image());
    let ended =
        run.args(["--name=app", "--readonly-rootfs=true", "--exec=/bin/sh", "--", "-c"]).arg(line).end();
    ended.expect_code(0);
    let said = said_by(&ended.stdout, "app");
    assert_eq!(said[..3], ["done: touch /dev/shm/new", "null", "500"], "{said:?}");

    let said = said_by(&shell(&pods, &["--readonly-rootfs=false"], "touch /new && echo new").stdout, "app");
    assert_eq!(said, ["new"]);
}

#[test]
fn groups_and_priorities_are_those_of_the_flags() {
    let host = Host::take();
    let pods = Pods::new();
    let flags = ["--user=1000", "--group=1000", "--supplementary-gids=5,77"];
    let said = status_fields(&pods, &flags, "Groups");
    assert_eq!(said, ["Groups: 5 77 1000"]);
    let ended = shell(&pods, &["--supplementary-gids=65535"], "true");
    ended.expect(
        254,
        "",
        "run: error setting up stage0: app app: ID \"65535\" is no valid user or group ID\n",
    );
    let said = said_by(&shell(&pods, &["--oom-score-adj=777"], "cat /proc/self/oom_score_adj").stdout, "app");
    assert_eq!(said, ["777"]);

    let file = pods.path().join("uuid");
    let run = pods.run("").arg("--uuid-file-save").arg(&file).arg(shell_image());
    let run = run.args(["--name=app", "--cpu-shares=2048", "--exec=/bin/sleep", "--", "1000"]);
    let mut pod = pods.started(run.start(), &file);
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("control groups");
    if controllers.split_whitespace().any(|name| name == "cpu") {
        let leader = host.wait_for_machine(&pod.machine());
        let group = crate::host::cgroup_of(leader);
        let payload = group.strip_suffix("/init.scope").expect("the pod's init is in init.scope");
        let weight = format!("/sys/fs/cgroup{payload}/system.slice/app.service/cpu.weight");
        wait::for_path(std::path::Path::new(&weight));
        assert_eq!(std::fs::read_to_string(weight).expect("a weight"), "200\n");
    } else {
        pod.supervisor().wait_for_stderr(
            "run: warning: os/linux/cpu-shares isolator set but support disabled in the kernel, skipping\n",
        );
    }
}

#[test]
fn annotations_and_labels_are_in_the_manifest_and_nowhere_else() {
    let _host = Host::take();
    let pods = Pods::new();
    let run = pods.rkt("prepare").arg(shell_image()).args([
        "--name=app",
        "--annotation=example.com/note=a=b",
        "--user-annotation=Any Name=x\ny",
        "--user-label=tier=",
        "--user-label=tier=web",
        "--readonly-rootfs=true",
        "--exec=/bin/true",
    ]);
    let ended = run.end();
    ended.expect_code(0);
    let text = pods.rkt("cat-manifest").arg(ended.stdout.trim()).stdout();
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let app = &manifest["apps"][0];
    assert_eq!(app["annotations"], json!([{"name": "example.com/note", "value": "a=b"}]));
    assert_eq!(app["readOnlyRootFS"], json!(true));
    assert_eq!(app["app"]["userAnnotations"], json!({"Any Name": "x\ny"}));
    assert_eq!(app["app"]["userLabels"], json!({"tier": "web"}));
}
