//! The pod's own filters of system calls, ready-made: the kernel tells that they are those that systemd-nspawn makes.

use std::path::PathBuf;

use rkt::os::seccomp::FilterProgram;
use rkt::os::trace::filters_of;
use sha2::{Digest, Sha512};

use crate::host::Host;
use crate::pod::{Pod, Pods, shell_image};
use crate::support::Run;

/// Starts a pod that sleeps, with these options and flags.
fn start<'a>(pods: &'a Pods, name: &str, options: &str, flags: &[&str]) -> Pod<'a> {
    let file = pods.path().join(name);
    let run = pods
        .rkt(&format!("--insecure-options=image{options} run --net=none"))
        .arg("--uuid-file-save")
        .arg(&file);
    let run =
        run.arg(shell_image()).args(["--name=app", "--exec=/bin/sleep"]).args(flags).args(["--", "1000"]);
    pods.started(run.start(), &file)
}

/// What the pod's init is: its words, its variables, its filters and its rights.
#[derive(Debug, PartialEq, Eq)]
struct Init {
    words: Vec<String>,
    variables: Vec<String>,
    filters: Vec<FilterProgram>,
    rights: Vec<String>,
}

fn init(host: &Host, pod: &Pod<'_>) -> Init {
    let leader = host.wait_for_machine(&pod.machine());
    let strings = |file: &str| -> Vec<String> {
        let text =
            std::fs::read_to_string(format!("/proc/{leader}/{file}")).expect("a file of the pod's init");
        text.split_terminator('\0').map(str::to_owned).collect()
    };
    let mut variables = strings("environ");
    // The pod's own UUID.
    variables.retain(|variable| !variable.starts_with("container_uuid="));
    variables.sort();
    let status = std::fs::read_to_string(format!("/proc/{leader}/status")).expect("a status");
    let fields = [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "SigBlk",
        "SigIgn",
        "Groups",
    ];
    let rights = status.lines().filter(|line| fields.iter().any(|field| line.starts_with(field)));
    Init {
        words: strings("cmdline"),
        variables,
        filters: filters_of(i32::try_from(leader).expect("a pid")).expect("filters"),
        rights: rights.map(str::to_owned).collect(),
    }
}

/// The only file of filters that is kept.
fn kept(pods: &Pods) -> PathBuf {
    let mut files = std::fs::read_dir(pods.data().join("filters")).expect("filters are kept");
    let file = files.next().expect("a file").expect("readable").path();
    assert!(files.next().is_none());
    file
}

/// Tells rkt that this host shows no filters.
fn forget(file: &PathBuf) {
    let text = std::fs::read_to_string(file).expect("a text");
    let lines = text.lines().filter(|line| !line.starts_with("filter ") && !line.starts_with("sha512 "));
    let body: String = lines.map(|line| format!("{line}\n")).collect();
    let sum: String = Sha512::digest(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(file, format!("{body}sha512 {sum}\n")).expect("the file can be written");
}

#[test]
fn ready_made_filters_are_those_that_nspawn_makes() {
    let host = Host::take();
    for (options, flags, wide) in [
        ("", &[][..], false),
        (",seccomp,paths", &[], false),
        ("", &["--caps-retain=CAP_NET_ADMIN,CAP_SYS_MODULE"], true),
        (",capabilities", &[], true),
        (",all-run", &[], true),
    ] {
        let pods = Pods::new();
        let first = start(&pods, "first", options, flags);
        let file = kept(&pods);
        let text = std::fs::read_to_string(&file).expect("a text");
        assert!(text.contains("\nfilter "), "{text}");
        let second = start(&pods, "second", options, flags);
        assert_eq!(std::fs::read_to_string(&file).expect("a text"), text, "kept and used again");
        forget(&file);
        let by_nspawn = start(&pods, "by-nspawn", options, flags);

        let helper = |pod: &Pod<'_>| pod.dir().join("stage1/rootfs/rkt/filters").exists();
        assert_eq!([&first, &second, &by_nspawn].map(helper), [true, true, false], "{options}");
        let expected = init(&host, &by_nspawn);
        assert!(expected.filters.len() >= 3, "{expected:?}");
        assert_eq!(init(&host, &first), expected, "{options} {flags:?}");
        assert_eq!(init(&host, &second), expected, "{options} {flags:?}");
        // What is asked for makes a difference, or the comparison would not say much.
        let usual = 1 << 12;
        let bound = expected.rights.iter().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("a set");
        assert_eq!(u64::from_str_radix(bound, 16).expect("a set") & usual != 0, wide, "{options} {flags:?}");
    }
}

#[test]
fn what_was_kept_is_made_again_after_an_upgrade_and_when_it_is_damaged() {
    // Others would have to look again too.
    let host = Host::take_alone();
    let pods = Pods::new();
    let expected = init(&host, &start(&pods, "first", "", &[])).filters;
    let file = kept(&pods);
    let text = || std::fs::read_to_string(&file).expect("a text");
    let before = text();
    // What a new library leaves behind.
    Run::new("touch").arg("/etc/ld.so.cache").end().expect_code(0);
    assert_eq!(init(&host, &start(&pods, "upgraded", "", &[])).filters, expected);
    let after = text();
    assert_ne!(before, after);
    for (name, damaged) in [
        ("cut", after[..after.len() / 2].to_owned()),
        ("open", after.replace("filter ", "filter 060000000000ff7f\nfilter ")),
        ("empty", String::new()),
        ("old", before),
    ] {
        std::fs::write(&file, damaged).expect("the file can be written");
        assert_eq!(init(&host, &start(&pods, name, "", &[])).filters, expected, "{name}");
        assert_eq!(text(), after, "{name}");
    }
    std::fs::remove_dir_all(pods.data().join("filters")).expect("a removal");
    std::os::unix::fs::symlink("/nowhere", pods.data().join("filters")).expect("a link");
    assert_eq!(init(&host, &start(&pods, "unkept", "", &[])).filters, expected);
    assert_eq!(
        Run::new("systemctl").args(["list-units", "--no-legend", "machine-rkt*filters*"]).stdout(),
        ""
    );
}

#[test]
fn below_a_filter_of_the_caller_nspawn_makes_those_of_the_pod() {
    let host = Host::take();
    let pods = Pods::new();
    let usual = init(&host, &start(&pods, "first", "", &[])).filters;
    let file = pods.path().join("uuid");
    let run =
        Run::new("systemd-run").args(["--quiet", "--wait", "--pipe", "-p", "SystemCallFilter=~kexec_load"]);
    let run =
        run.arg(env!("CARGO_BIN_EXE_rkt")).arg("--dir").arg(pods.data()).arg("--insecure-options=image");
    let run = run.args(["run", "--net=none", "--uuid-file-save"]).arg(&file).arg(shell_image());
    let mut pod = pods.started(run.args(["--name=app", "--exec=/bin/sleep", "--", "1000"]).start(), &file);
    assert!(!pod.dir().join("stage1/rootfs/rkt/filters").exists());
    let leader = host.wait_for_machine(&pod.machine());
    let all = filters_of(i32::try_from(leader).expect("a pid")).expect("filters");
    assert!(all.len() > usual.len() && all.ends_with(&usual), "{all:?}");
    pod.rkt("stop").end().expect_code(0);
    pod.end().expect_code(0);
}
