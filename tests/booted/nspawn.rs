//! What rkt stands on works here: systemd-nspawn by itself, machined, cgroups. When these fail, the machine is at fault.

use crate::host::{Host, busybox_root, cgroup_of, scratch};
use crate::support::Run;

#[test]
fn raw_nspawn_says_hello() {
    let _host = Host::take();
    let dir = scratch();
    let root = busybox_root(dir.path(), &["echo"]);

    let ended = Run::new("systemd-nspawn")
        .args(["--quiet", "--settings=no", "--register=yes", "--pipe", "--machine=raw-hello", "--directory"])
        .arg(&root)
        .args(["/bin/echo", "hello from a container"])
        .end();

    ended.expect(0, "hello from a container\n", "");
}

#[test]
fn the_exit_status_of_raw_nspawn_is_its_programs() {
    let _host = Host::take();
    let dir = scratch();
    let root = busybox_root(dir.path(), &["sh"]);

    let ended = Run::new("systemd-nspawn")
        .args(["--quiet", "--settings=no", "--pipe", "--machine=raw-status", "--directory"])
        .arg(&root)
        .args(["/bin/sh", "-c", "exit 7"])
        .end();

    ended.expect(7, "", "");
}

#[test]
fn machined_knows_a_raw_machine_until_it_ends() {
    let host = Host::take();
    let dir = scratch();
    let root = busybox_root(dir.path(), &["sleep"]);

    let machine = Run::new("systemd-nspawn")
        .args([
            "--quiet",
            "--settings=no",
            "--register=yes",
            "--pipe",
            "--machine=raw-machine",
            "--directory",
        ])
        .arg(&root)
        .args(["/bin/sleep", "3600"])
        .start();
    let leader = host.wait_for_machine("raw-machine");

    let unit = host.machine_property("raw-machine", "Unit").expect("a known machine");
    let slice_and_unit = format!("/machine.slice/{unit}");
    assert!(
        cgroup_of(leader).starts_with(&slice_and_unit),
        "{} is below {slice_and_unit}",
        cgroup_of(leader)
    );
    assert_eq!(host.unit_property(&unit, "ActiveState"), "active");

    Run::new("machinectl").args(["kill", "--signal=SIGKILL", "raw-machine"]).end().expect_code(0);
    // 128 + 9, as systemd-nspawn reports a payload that a signal ended; 255 when it was killed itself.
    let status = machine.end().status;
    assert!(!status.success(), "{status:?}");
    host.wait_for_machine_gone("raw-machine");
}

#[test]
fn var_of_the_host_can_be_the_upper_side_of_an_overlay() {
    let _host = Host::take();
    let dir = scratch();
    let at = |name: &str| dir.path().join(name).into_os_string().into_string().expect("an ASCII path");
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(at(name)).expect("a new directory");
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));

    Run::new("mount").args(["-t", "overlay", "test", "-o", &options, &at("merged")]).end().expect(0, "", "");
    std::fs::write(dir.path().join("merged/file"), "text").expect("a file in the overlay");
    Run::new("umount").arg(at("merged")).end().expect(0, "", "");

    assert_eq!(std::fs::read_to_string(dir.path().join("upper/file")).expect("the file below"), "text");
}
