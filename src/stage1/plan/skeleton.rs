//! The small root of the pod's systemd: directories, links and files that are no units (DESIGN "The skeleton").

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{AppSpec, Entry, Output, PodSpec};
use crate::stage1::inside::PROGRAM;
use crate::stage1::status::STATUS_DIR;

/// Where the environments of apps are, one file an app.
pub(super) const ENV_DIR: &str = "rkt/env";
/// Where volumes are mounted, by their numbers.
pub(super) const VOLUMES_DIR: &str = "rkt/volumes";
/// What connects the app of an interactive pod with the caller; it is there in such a pod only.
pub(in crate::stage1) const IO_DIR: &str = "rkt/io";
/// What apps write to that have a FIFO, one an app.
pub(in crate::stage1) const OUTPUT_DIR: &str = "rkt/output";
/// The place of systemd's generators, where nothing is: for an empty directory systemd would fork all the same.
pub(super) const NO_GENERATORS: &str = "/rkt/no-generators";
/// The bus configuration: root only.
pub(super) const DBUS_CONFIG: &str = "/rkt/dbus.conf";
/// Size of a journal file and of the whole journal of a pod; the default cap would be 4 GB a pod.
const JOURNALD_CONFIG: &str = "[Journal]
Storage=persistent
SystemMaxFileSize=16M
SystemMaxUse=256M
RuntimeMaxFileSize=16M
RuntimeMaxUse=64M
Audit=no
ReadKMsg=no
RateLimitIntervalSec=0
ForwardToSyslog=no
ForwardToWall=no
";
/// Lets `machinectl shell` and `machinectl login` open a session: who reaches the pod's bus is root on the host.
const PAM_SERVICE: &str = "auth sufficient pam_permit.so
account sufficient pam_permit.so
session optional pam_permit.so
";
/// Root may do everything, nobody else anything: apps have no view of this bus.
const DBUS_POLICY: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <deny user="*"/>
    <allow user="root"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <policy user="root">
    <allow own="*"/>
    <allow send_destination="*"/>
  </policy>
</busconfig>
"#;

/// Returns everything below stage1's root but the units, parents before children.
pub(super) fn entries(pod: &PodSpec) -> Vec<Entry> {
    let journal = format!("var/log/journal/{}", pod.uuid.machine_id());
    let mut entries: Vec<Entry> = [
        "usr",
        "proc",
        "sys",
        "dev",
        "run",
        "etc",
        "etc/systemd",
        "etc/systemd/system",
        "etc/pam.d",
        "opt",
        "opt/stage2",
        "rkt",
        STATUS_DIR,
        "var",
        "var/log",
        "var/log/journal",
    ]
    .into_iter()
    .map(|path| Entry::directory(path, 0o755))
    .collect();
    entries.push(Entry::directory("root", 0o700));
    entries.push(Entry::directory("tmp", 0o1777));
    entries.push(Entry::directory("var/tmp", 0o1777));
    entries.push(Entry::directory(ENV_DIR, 0o700));
    entries.push(Entry::directory(journal, 0o755));
    if pod.apps.iter().any(|app| !app.mounts.is_empty()) {
        entries.push(Entry::directory(VOLUMES_DIR, 0o755));
    }
    let with_fifos = pod.apps.iter().filter(|app| app.output == Output::Fifo);
    for (index, app) in with_fifos.enumerate() {
        if index == 0 {
            entries.push(Entry::directory(OUTPUT_DIR, 0o755));
        }
        entries.push(Entry::fifo(format!("{OUTPUT_DIR}/{}", app.name)));
    }
    for link in ["bin", "lib", "lib64", "sbin"] {
        entries.push(Entry::link(link, format!("usr/{link}")));
    }
    // `systemctl -M` and machined look for the bus below /var/run.
    entries.push(Entry::link("var/run", "../run"));
    entries.push(Entry::file("etc/machine-id", format!("{}\n", pod.uuid.machine_id()), 0o444));
    entries.push(Entry::file("etc/hostname", format!("{}\n", pod.hostname), 0o644));
    entries.push(Entry::file("etc/os-release", pod.os_release.clone(), 0o644));
    entries.push(Entry::file("etc/passwd", passwd(&pod.apps), 0o644));
    entries.push(Entry::file("etc/group", group(&pod.apps), 0o644));
    entries.push(Entry::file("etc/systemd/journald.conf", JOURNALD_CONFIG, 0o644));
    for service in ["login", "other", "systemd-user"] {
        entries.push(Entry::file(format!("etc/pam.d/{service}"), PAM_SERVICE, 0o644));
    }
    entries.push(Entry::file(&DBUS_CONFIG[1..], DBUS_POLICY, 0o644));
    // A mount point for rkt's own file.
    entries.push(Entry::file(&PROGRAM[1..], "", 0o755));
    for app in &pod.apps {
        let dir = format!("opt/stage2/{}", app.name);
        entries.push(Entry::directory(&dir, 0o755));
        entries.push(Entry::directory(format!("{dir}/rootfs"), 0o755));
    }
    entries
}

/// Users of the pod's own systemd: 252 takes a number in `User=` only when it stands here.
fn passwd(apps: &[AppSpec]) -> String {
    let mut users = BTreeMap::from([
        (0, "root:x:0:0:root:/root:/bin/sh".to_owned()),
        (65534, "nobody:x:65534:65534::/:/usr/sbin/nologin".to_owned()),
    ]);
    for app in apps {
        let (uid, gid) = (app.user, app.group);
        users.entry(uid).or_insert_with(|| format!("rkt-{uid}:x:{uid}:{gid}::/:/usr/sbin/nologin"));
    }
    lines(users)
}

fn group(apps: &[AppSpec]) -> String {
    let mut groups = BTreeMap::from([
        (0, "root:x:0:".to_owned()),
        (999, "systemd-journal:x:999:".to_owned()),
        (65534, "nogroup:x:65534:".to_owned()),
    ]);
    for gid in apps.iter().flat_map(|app| app.supplementary_groups.iter().chain([&app.group])) {
        groups.entry(*gid).or_insert_with(|| format!("rkt-{gid}:x:{gid}:"));
    }
    lines(groups)
}

fn lines(table: BTreeMap<u32, String>) -> String {
    table.into_values().fold(String::new(), |mut text, line| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
        text
    })
}
