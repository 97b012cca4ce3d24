//! Golden tests: what a pod's systemd will read, and the supervisor's command, as files to look at.

use std::path::Path;

use super::nspawn::{Console, Filtering, Registration, Start, program, sample};
use super::{
    AppMount, AppSpec, EntryKind, HostName, Interactive, KernelPaths, Output, PodSpec, entries,
    interactive_drop_in,
};
use crate::appc::capability::{Capability, CapabilitySet};
use crate::appc::isolator::filter::{Filter, filtering};
use crate::appc::isolator::{Isolator, SeccompSet};
use crate::golden::assert_golden;
use crate::os::mount::detached::Access;
use crate::stage1::kernel_view::POINTS;
use crate::systemd::unit::value::Signal;

const UUID: &str = "6e1f0c9a-52d4-4b38-a1e0-93cf4d2688b7";

fn app(name: &str) -> AppSpec {
    AppSpec {
        name: name.parse().unwrap(),
        description: format!("example.com/{name}"),
        program: "/bin/app".into(),
        argv: vec!["/bin/app".into()],
        working_directory: "/".into(),
        user: 0,
        group: 0,
        supplementary_groups: vec![],
        environment: vec![("PATH".into(), "/bin".into())],
        capabilities: Some(CapabilitySet::DEFAULT),
        filter: Some(Filter::default()),
        no_new_privileges: false,
        memory_max: None,
        cpu_millicores: None,
        cpu_weight: None,
        oom_score_adjust: None,
        read_only_root: false,
        output: Output::Journal,
        stop_signal: None,
        notifies: false,
        mounts: vec![],
    }
}

fn pod(apps: Vec<AppSpec>) -> PodSpec {
    PodSpec {
        uuid: UUID.parse().unwrap(),
        hostname: format!("rkt-{UUID}").parse().unwrap(),
        os_release: "ID=debian\n".into(),
        apps,
        kernel_paths: KernelPaths::Protected,
    }
}

/// Every file of the pod, one after the other.
fn shown(pod: &PodSpec) -> String {
    entries(pod)
        .unwrap()
        .iter()
        .map(|entry| match &entry.kind {
            EntryKind::Directory(mode) => format!("{mode:04o} {}/\n", entry.path.display()),
            EntryKind::Fifo => format!("fifo {}\n", entry.path.display()),
            EntryKind::Link(target) => format!("link {} -> {}\n", entry.path.display(), target.display()),
            EntryKind::File(text, mode) => {
                let body: String = text.lines().map(|line| format!("    {line}\n")).collect();
                format!("{mode:04o} {}\n{body}", entry.path.display())
            }
        })
        .collect()
}

#[test]
fn a_pod_of_one_app() {
    assert_golden("pod/one-app.txt", &shown(&pod(vec![app("hello")])));
}

#[test]
fn a_pod_of_two_apps_with_every_setting() {
    let removed = Isolator::SeccompRemove(SeccompSet {
        set: ["mount", "@systemd/clock"].map(str::to_owned).into(),
        errno: Some("EPERM".parse().unwrap()),
    });
    let limited = AppSpec {
        description: "a 100% \"quoted\" name".into(),
        program: "/usr/bin/my app".into(),
        argv: ["my app", "$HOME", "50%", "a\nb", "", "\"q\" \\ 'x'"].map(str::to_owned).into(),
        working_directory: "/srv/a b%".into(),
        user: 1000,
        group: 1001,
        supplementary_groups: vec![5, 1001],
        environment: vec![("A".into(), "line\n\"two\" $x `y` \\".into()), ("LANG".into(), "C".into())],
        filter: filtering(&[removed]).unwrap().filter,
        no_new_privileges: true,
        memory_max: Some(16 << 20),
        cpu_millicores: Some(500),
        cpu_weight: Some(100),
        oom_score_adjust: Some(-5),
        read_only_root: true,
        output: Output::Fifo,
        stop_signal: Some(Signal::Winch),
        notifies: true,
        mounts: vec![
            mount(0, "/data", Access::ReadWrite),
            mount(1, "/etc/my app:50%", Access::ReadOnly),
            mount(2, "/dev/shm", Access::ReadWrite),
        ],
        ..app("dbus")
    };
    let open = AppSpec { capabilities: None, filter: None, ..app("rkt-web") };
    let mut pod = pod(vec![limited, open]);
    pod.kernel_paths = KernelPaths::Open;
    assert_golden("pod/two-apps.txt", &shown(&pod));
}

fn mount(volume: usize, target: &str, access: Access) -> AppMount {
    AppMount { volume, target: target.into(), access }
}

#[test]
fn an_app_with_a_volume_at_or_below_sys_has_no_sys_of_the_kernel() {
    for target in ["/sys", "/sys/fs/cgroup"] {
        let app = AppSpec { mounts: vec![mount(0, target, Access::ReadWrite)], ..app("hello") };
        let entries = entries(&pod(vec![app])).unwrap();
        let text_of = |path: &str| {
            let entry = entries.iter().find(|entry| entry.path == Path::new(path)).unwrap();
            let EntryKind::File(text, _) = &entry.kind else { panic!("{path} is a file") };
            text.clone()
        };
        let shown = text_of("etc/systemd/system/hello.service") + "\n" + &text_of("rkt/asked");
        assert_golden(&format!("pod/volume{}.txt", target.replace('/', "-")), &shown);
    }
}

#[test]
fn the_places_of_volumes_below_dev_are_written_down_for_the_pods_init() {
    let mounts = vec![
        mount(0, "/data", Access::ReadWrite),
        mount(1, "/dev/my disk", Access::ReadOnly),
        mount(2, "/devices", Access::ReadOnly),
    ];
    let with_volumes = pod(vec![AppSpec { mounts, ..app("hello") }]);
    let points = |pod: &PodSpec| {
        let entries = entries(pod).unwrap();
        let found = entries.into_iter().find(|entry| entry.path == Path::new(POINTS));
        found.map(|entry| entry.kind)
    };
    assert_eq!(points(&with_volumes), Some(EntryKind::File("1 /dev/my disk\n".into(), 0o644)));
    assert_eq!(points(&pod(vec![app("hello")])), None);
}

#[test]
fn a_value_that_systemd_can_not_carry_is_refused_with_the_app_and_the_setting() {
    for (change, expected) in [
        (
            (|app: &mut AppSpec| app.working_directory = "/a\nb".into()) as fn(&mut AppSpec),
            r#"app hello: path "/a\nb" contains the control character '\n'"#,
        ),
        (
            |app| app.mounts = vec![mount(0, "/a\"b", Access::ReadWrite)],
            r#"app hello: path of a bind mount "/a\"b" contains '"'"#,
        ),
        (|app| app.user = 65535, "app hello: ID \"65535\" is no valid user or group ID"),
        (
            |app| app.argv.extend(std::iter::repeat_n("x".repeat(100_000), 11)),
            "unit hello.service can't be read back: line 12 is longer than 1048576 bytes",
        ),
        (
            |app| app.name = "n".repeat(93).parse().unwrap(),
            &format!("the app name \"{}\" is longer than 92 characters", "n".repeat(93)),
        ),
    ] {
        let mut hello = app("hello");
        change(&mut hello);
        assert_eq!(entries(&pod(vec![hello])).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_host_name_is_checked_before_nspawn_refuses_it() {
    for (text, expected) in [
        ("web", true),
        ("web-1.example.com", true),
        ("", false),
        ("bad host", false),
        ("-web", false),
        ("web-", false),
        ("a..b", false),
        ("web\n", false),
        (&"x".repeat(65), false),
    ] {
        assert_eq!(text.parse::<HostName>().is_ok(), expected, "{text:?}");
    }
}

#[test]
fn the_command_of_the_supervisor() {
    let uuid = UUID.parse().unwrap();
    let start = Start {
        uuid: &uuid,
        stage1_root: Path::new("/var/lib/rkt/pods/run/UUID/stage1/rootfs"),
        rkt: Some(Path::new("/opt/a:b/rkt")),
        hostname: "web",
        registration: Registration::Unregistered,
        notify_socket: Some("/run/systemd/notify"),
        capabilities: Some(CapabilitySet::EMPTY),
        debug: false,
        filtering: Filtering::BySupervisor,
        console: Console::ReadOnly,
    };
    let own =
        Start { filtering: Filtering::ByInit, capabilities: None, notify_socket: None, ..start.clone() };
    let rights = ["CAP_NET_ADMIN", "CAP_SYS_TIME"].map(|name| name.parse::<Capability>().unwrap());
    let sample = sample(Path::new("/root of a pod"), Some(rights.into_iter().collect()));
    for (name, program) in [
        ("pod/nspawn.txt", program(&start)),
        ("pod/nspawn-with-filters.txt", program(&own)),
        ("pod/nspawn-sample.txt", sample),
    ] {
        let environment: String =
            program.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let args = program.args.join("\n").replace(&std::process::id().to_string(), "PID");
        assert_golden(name, &format!("{environment}{args}\n"));
    }
}

#[test]
fn the_app_of_an_interactive_pod() {
    let app = "web".parse().unwrap();
    let drop_in = |own: &[&str], how| interactive_drop_in(&app, own, &how).unwrap();
    let terminal = drop_in(&["LANG", "A"], Interactive::Terminal { term: Some("xterm-256color".into()) });
    let nameless = drop_in(&[], Interactive::Terminal { term: None });
    let pipes = drop_in(&[], Interactive::Pipes);
    assert_golden(
        "pod/interactive.txt",
        &format!("{terminal}\n# without TERM\n{nameless}\n# pipes\n{pipes}"),
    );
}
