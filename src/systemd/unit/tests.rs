//! The writer as a whole: golden units, hostile values, random values through the reader.

use std::time::Duration;

use proptest::prelude::*;

use super::exec::{Argument, Exec, OnFailure, Variable};
use super::name::{CapabilitySet, Line, SystemCall, SystemCallFilter, Units};
use super::path::{
    Bind, BindPath, DeviceRule, IfMissing, ListenPath, LiteralPath, MissingPath, RootPaths, StreamPath,
    Submounts, UnitPath,
};
use super::stream::{ListenAddress, StandardInput, StandardOutput};
use super::value::{
    Action, Architectures, Bytes, Capability, CollectMode, CpuQuota, CpuWeight, DescriptorCount,
    DeviceAccess, DevicePolicy, ExitStatus, Id, KillMode, Mode, MountPropagation, NotifyAccess, OomPolicy,
    OomScoreAdjust, Restart, ServiceType, Signal, TaskCount, TimeSpan,
};
use super::*;
use crate::golden::assert_golden;
use crate::systemd::unit_name::UnitKind;

fn name(text: &str) -> UnitName {
    text.parse().unwrap()
}

fn path(text: &str) -> UnitPath {
    UnitPath::new(text).unwrap()
}

fn stream(text: &str) -> StreamPath {
    StreamPath::new(path(text)).unwrap()
}

fn bind(source: &str, target: &str) -> Bind {
    Bind::new(BindPath::new(path(source)).unwrap(), BindPath::new(path(target)).unwrap())
}

fn arguments(texts: &[&str]) -> Vec<Argument> {
    texts.iter().map(|text| Argument::new(text).unwrap()).collect()
}

fn service(settings: impl IntoIterator<Item = Setting>) -> Unit {
    Unit::new(name("app.service")).with_all(settings)
}

/// The value of the only line of a unit with that setting, as written.
fn written(setting: Setting) -> String {
    let kind = if setting.section() == Section::Socket { UnitKind::Socket } else { UnitKind::Service };
    let unit = Unit::new(UnitName::template("t", kind).unwrap()).with(setting);
    let text = unit.checked_text().unwrap();
    text.lines().nth(1).unwrap().split_once('=').unwrap().1.to_owned()
}

fn app_service() -> Unit {
    let caps = [Capability::Chown, Capability::Kill, Capability::SysChroot];
    service([
        Setting::Description("100% of web".parse().unwrap()),
        Setting::DefaultDependencies(false),
        Setting::Requires(name("systemd-journald.socket").into()),
        Setting::After([name("systemd-journald.socket"), name("rkt-apps.target")].into()),
        Setting::Wants(name("rkt-apps.target").into()),
        Setting::OnFailure(name("rkt-failed@.service").with_instance("my-app").unwrap().into()),
        Setting::OnSuccess(name("rkt-ok@.socket").with_instance("my-app").unwrap().into()),
        Setting::ExecStart(
            Exec::new("/bin/echo", arguments(&["$HOME", "50%", "a \"b\" \\", "new\nline", "ä"])).unwrap(),
        ),
        Setting::RootDirectory(path("/opt/stage2/web/rootfs")),
        Setting::MountAPIVFS(true),
        Setting::WorkingDirectory(path("/srv/100% mine/ $x \"y\"")),
        Setting::User(Id::new(1000).unwrap()),
        Setting::Group(Id::new(1000).unwrap()),
        Setting::SupplementaryGroups([10, 20].map(|id| Id::new(id).unwrap()).into_iter().collect()),
        Setting::EnvironmentFile(LiteralPath::new(path("/rkt/env/web")).unwrap()),
        Setting::StandardInput(StandardInput::File(stream("/rkt/io/stdin"))),
        Setting::StandardOutput(StandardOutput::JournalAndConsole),
        Setting::SyslogIdentifier("web".parse().unwrap()),
        Setting::BindPaths(bind("/opt/stage2/web/rootfs/run", "/run")),
        Setting::BindPaths(bind("/rkt/volumes/0", "/my data:1").submounts(Submounts::Hidden)),
        Setting::BindReadOnlyPaths(bind("/run/systemd/journal", "/run/systemd/journal")),
        Setting::InaccessiblePaths([(IfMissing::Skip, path("/proc/kcore"))].into_iter().collect()),
        Setting::CapabilityBoundingSet(caps.into_iter().collect()),
        Setting::NoNewPrivileges(true),
        Setting::SystemCallFilter(SystemCallFilter::all_but(vec!["ptrace".parse().unwrap()]).unwrap()),
        Setting::DevicePolicy(DevicePolicy::Closed),
        Setting::DeviceAllow(DeviceRule::new(path("/dev/fuse"), DeviceAccess::ReadWrite)),
        Setting::TimeoutStopSec(TimeSpan::seconds(10)),
        Setting::MemoryMax(Bytes::new(16 << 20).unwrap()),
        Setting::CPUQuota(CpuQuota::from_millicores(500).unwrap()),
        Setting::OOMScoreAdjust(OomScoreAdjust::new(-250).unwrap()),
    ])
}

#[test]
fn an_app_reads_as_its_golden_file() {
    assert_golden("units/writer/app.service", &app_service().checked_text().unwrap());
}

#[test]
fn sockets_and_templates_read_as_their_golden_files() {
    let listen = |text| ListenAddress::Path(ListenPath::new(path(text)).unwrap());
    let journal = Unit::new(name("systemd-journald-dev-log.socket")).with_all([
        Setting::DefaultDependencies(false),
        Setting::IgnoreOnIsolate(true),
        Setting::ListenDatagram(listen("/run/systemd/journal/dev-log")),
        Setting::Symlinks([path("/dev/log"), path("/run/systemd/journal/flushed")].into_iter().collect()),
        Setting::Service(name("systemd-journald.service")),
        Setting::SocketMode(Mode::new(0o666).unwrap()),
        Setting::PassCredentials(true),
        Setting::ReceiveBuffer(Bytes::new(8 << 20).unwrap()),
    ]);
    let fifo = UnitPath::around_instance("/rkt/status/", ".ok").unwrap();
    let ok = Unit::new(name("rkt-ok@.socket")).with_all([
        Setting::DefaultDependencies(false),
        Setting::ListenFIFO(ListenPath::new(fifo).unwrap()),
        Setting::Service(name("rkt-stub.service")),
    ]);
    let failed = Unit::new(name("rkt-failed@.service")).with_all([
        Setting::FailureAction(Action::Exit),
        Setting::SuccessAction(Action::Exit),
        Setting::Type(ServiceType::Oneshot),
        Setting::ExecStart(
            Exec::new("/rkt/inside", [Argument::new("failed").unwrap(), Argument::instance()]).unwrap(),
        ),
        Setting::StandardOutput(StandardOutput::Null),
    ]);
    for unit in [journal, ok, failed] {
        assert_golden(&format!("units/writer/{}", unit.name()), &unit.checked_text().unwrap());
    }
}

/// Units with every setting that the writer knows. The booted tests show them to `systemd-analyze verify`, which names
/// each line that systemd would ignore.
#[test]
fn every_setting_stands_in_a_golden_file() {
    let fifo = ListenPath::new(path("/run/every fifo 100%")).unwrap();
    let special = ListenPath::new(path("/dev/every special 100%")).unwrap();
    let fifo = Unit::new(name("every-fifo.socket")).with_all([
        Setting::ListenFIFO(fifo),
        Setting::ListenSpecial(special),
        Setting::Service(name("every.service")),
    ]);
    let units = [every_service_setting(), every_socket_setting(), every_reference(), fifo];
    for unit in &units {
        assert_golden(&format!("units/writer/{}", unit.name()), &unit.checked_text().unwrap());
    }
    let written: Vec<_> = units.iter().flat_map(|unit| unit.settings()).map(Setting::key).collect();
    let missing: Vec<_> = Setting::KEYS.iter().filter(|key| !written.contains(key)).collect();
    assert!(missing.is_empty(), "no golden file shows {missing:?}");
}

fn every_service_setting() -> Unit {
    let exec = || Exec::new("/bin/true", arguments(&["a b"])).unwrap();
    let paths =
        |texts: &[&str]| -> RootPaths { texts.iter().map(|text| (IfMissing::Skip, path(text))).collect() };
    let names = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let calls = ["@system-service", "read", "write"].map(|call| call.parse().unwrap()).to_vec();
    let id = |number| Id::new(number).unwrap();
    Unit::new(name("every.service")).with_all([
        Setting::Description("every setting of a service, 100% of \"them\"".parse().unwrap()),
        Setting::Type(ServiceType::Oneshot),
        Setting::NotifyAccess(NotifyAccess::Main),
        Setting::ExecStartPre(exec().on_failure(OnFailure::Ignore)),
        Setting::ExecStart(Exec::with_argv("/bin/true", arguments(&["-true", "$x", "50%"])).unwrap()),
        Setting::ExecStartPost(exec()),
        Setting::ExecStop(exec()),
        Setting::ExecStopPost(exec()),
        Setting::RemainAfterExit(true),
        Setting::SuccessExitStatus(Signal::Term),
        Setting::KillSignal(Signal::Rtmin3),
        Setting::Restart(Restart::OnFailure),
        Setting::RestartSec(TimeSpan::new(Duration::from_millis(1500))),
        Setting::TimeoutStartSec(TimeSpan::INFINITY),
        Setting::TimeoutStopSec(TimeSpan::seconds(10)),
        Setting::KillMode(KillMode::Mixed),
        Setting::SendSIGHUP(true),
        Setting::Sockets(name("every.socket").into()),
        Setting::FileDescriptorStoreMax(DescriptorCount::new(16).unwrap()),
        Setting::RootDirectoryStartOnly(true),
        Setting::RootDirectory(path("/")),
        Setting::MountAPIVFS(true),
        Setting::WorkingDirectory(path("/srv/100% $x")),
        Setting::User(id(1000)),
        Setting::Group(id(1000)),
        Setting::SupplementaryGroups([id(10), id(20)].into_iter().collect()),
        Setting::UMask(Mode::new(0o22).unwrap()),
        Setting::Environment(Variable::new("A".parse().unwrap(), Argument::new("b\nc%").unwrap())),
        Setting::EnvironmentFile(LiteralPath::new(path("/rkt/env/every")).unwrap()),
        Setting::PassEnvironment(names(&["TERM"])),
        Setting::UnsetEnvironment(names(&["INVOCATION_ID", "JOURNAL_STREAM"])),
        Setting::StandardInput(StandardInput::File(stream("/rkt/io/every"))),
        Setting::StandardOutput(StandardOutput::JournalAndConsole),
        Setting::StandardError(StandardOutput::Append(stream("/rkt/err"))),
        Setting::TTYPath(path("/dev/console")),
        Setting::TTYReset(true),
        Setting::TTYVHangup(true),
        Setting::IgnoreSIGPIPE(false),
        Setting::SyslogIdentifier("every".parse().unwrap()),
        Setting::LogExtraFields(Variable::new("F".parse().unwrap(), Argument::new("a b%").unwrap())),
        Setting::BindPaths(bind("/my data:1", "/run").submounts(Submounts::Hidden)),
        Setting::BindReadOnlyPaths(bind("/run/systemd/journal", "/run/systemd/journal")),
        Setting::ReadWritePaths(paths(&["/var/tmp", "/with blank"])),
        Setting::ReadOnlyPaths(paths(&["/proc/bus"])),
        Setting::InaccessiblePaths(paths(&["/proc/kcore"])),
        Setting::MountFlags(MountPropagation::Slave),
        Setting::PrivateTmp(false),
        Setting::PrivateDevices(false),
        Setting::ProtectKernelTunables(true),
        Setting::ProtectKernelModules(true),
        Setting::ProtectKernelLogs(true),
        Setting::ProtectControlGroups(true),
        Setting::ProtectClock(true),
        Setting::CapabilityBoundingSet(Capability::ALL.iter().copied().collect()),
        Setting::AmbientCapabilities(CapabilitySet::default()),
        Setting::NoNewPrivileges(true),
        Setting::SystemCallFilter(
            SystemCallFilter::only(calls)
                .unwrap()
                .failing("syslog".parse().unwrap(), "EPERM".parse().unwrap()),
        ),
        Setting::SystemCallErrorNumber("EPERM".parse().unwrap()),
        Setting::SystemCallArchitectures(Architectures::Native),
        Setting::DevicePolicy(DevicePolicy::Closed),
        Setting::DeviceAllow(DeviceRule::new(path("/dev/fuse"), DeviceAccess::ReadWrite)),
        Setting::Delegate(true),
        Setting::MemoryMax(Bytes::new(16 << 20).unwrap()),
        Setting::CPUQuota(CpuQuota::from_millicores(1505).unwrap()),
        Setting::CPUWeight(CpuWeight::new(100).unwrap()),
        Setting::TasksMax(TaskCount::new(100).unwrap()),
        Setting::OOMScoreAdjust(OomScoreAdjust::new(-250).unwrap()),
        Setting::OOMPolicy(OomPolicy::Continue),
    ])
}

fn every_socket_setting() -> Unit {
    let listen = |text| ListenPath::new(path(text)).unwrap();
    Unit::new(name("every.socket")).with_all([
        Setting::ListenStream(ListenAddress::Port(80.try_into().unwrap())),
        Setting::ListenStream(ListenAddress::Inet("[::1]:81".parse().unwrap())),
        Setting::ListenDatagram(ListenAddress::Inet("127.0.0.1:82".parse().unwrap())),
        Setting::ListenSequentialPacket(ListenAddress::Path(listen("/run/every packet 100%"))),
        Setting::Symlinks([path("/run/every link"), path("/run/every-other")].into_iter().collect()),
        Setting::Service(name("every.service")),
        Setting::FileDescriptorName("every".parse().unwrap()),
        Setting::SocketMode(Mode::new(0o666).unwrap()),
        Setting::DirectoryMode(Mode::new(0o755).unwrap()),
        Setting::RemoveOnStop(true),
        Setting::Accept(false),
        Setting::PassCredentials(true),
        Setting::PassSecurity(true),
        Setting::ReceiveBuffer(Bytes::new(8 << 20).unwrap()),
        Setting::SendBuffer(Bytes::new(1 << 20).unwrap()),
    ])
}

fn every_reference() -> Unit {
    let units = || Units::from([name("every.service"), name("every.socket")]);
    Unit::new(name("every.target")).with_all([
        Setting::Description("every setting of all units".parse().unwrap()),
        Setting::DefaultDependencies(false),
        Setting::Requires(units()),
        Setting::Requisite(units()),
        Setting::Wants(units()),
        Setting::BindsTo(units()),
        Setting::PartOf(units()),
        Setting::Upholds(units()),
        Setting::Conflicts(name("rkt-exit.service").into()),
        Setting::Before(name("rkt-exit.service").into()),
        Setting::After(units()),
        Setting::OnFailure(name("rkt-failed@.service").with_instance("my-app").unwrap().into()),
        Setting::OnSuccess(name("rkt-ok@.socket").with_instance("my-app").unwrap().into()),
        Setting::FailureAction(Action::ExitForce),
        Setting::SuccessAction(Action::Exit),
        Setting::FailureActionExitStatus(ExitStatus::new(7).unwrap()),
        Setting::SuccessActionExitStatus(ExitStatus::new(0).unwrap()),
        Setting::StopWhenUnneeded(true),
        Setting::RefuseManualStart(false),
        Setting::RefuseManualStop(false),
        Setting::AllowIsolate(true),
        Setting::IgnoreOnIsolate(true),
        Setting::CollectMode(CollectMode::InactiveOrFailed),
        Setting::ConditionPathExists(MissingPath::new(path("/rkt/io/no such%"))),
        Setting::JobTimeoutSec(TimeSpan::seconds(90)),
        Setting::StartLimitIntervalSec(TimeSpan::new(Duration::ZERO)),
    ])
}

#[test]
fn values_are_written_in_the_form_that_systemd_takes() {
    let paths = |list: &[&str]| list.iter().map(|text| path(text)).collect::<RootPaths>();
    let variable = Variable::new("A".parse().unwrap(), Argument::new("b c\n%").unwrap());
    let table = [
        (Setting::RemainAfterExit(false), "no"),
        (Setting::Restart(Restart::OnFailure), "on-failure"),
        (Setting::TimeoutStopSec(TimeSpan::INFINITY), "infinity"),
        (Setting::TimeoutStopSec(TimeSpan::new(Duration::MAX)), "infinity"),
        (Setting::RestartSec(TimeSpan::new(Duration::ZERO)), "0s"),
        (Setting::RestartSec(TimeSpan::new(Duration::from_millis(1500))), "1s 500000us"),
        (Setting::RestartSec(TimeSpan::new(Duration::from_micros(7))), "7us"),
        (Setting::UMask(Mode::new(0o22).unwrap()), "0022"),
        (Setting::CPUQuota(CpuQuota::from_millicores(1).unwrap()), "0.10%"),
        (Setting::CPUQuota(CpuQuota::from_millicores(1505).unwrap()), "150.50%"),
        (Setting::CPUWeight(CpuWeight::new(100).unwrap()), "100"),
        (Setting::TasksMax(TaskCount::new(7).unwrap()), "7"),
        (Setting::CapabilityBoundingSet(CapabilitySet::default()), ""),
        (Setting::WorkingDirectory(path("/")), "/"),
        (Setting::WorkingDirectory(path("//a/./b//")), "/a/b"),
        (Setting::WorkingDirectory(path("/a ")), "/a /"),
        (Setting::WorkingDirectory(path("/a\\")), "/a\\/"),
        (Setting::WorkingDirectory(path("/a\\b ~c")), "/a\\b ~c"),
        (Setting::TTYPath(UnitPath::around_instance("/dev/pts/", "").unwrap()), "/dev/pts/%I"),
        (Setting::ReadOnlyPaths(paths(&["/a b", "/c\"\\d", "/e%"])), r#"+"/a b" +"/c\"\\d" +/e%%"#),
        (Setting::BindPaths(bind("/a:b", "/c").if_missing(IfMissing::Skip)), r#"-"/a:b":/c"#),
        (Setting::BindPaths(bind("/a", "/a").submounts(Submounts::Hidden)), "/a:/a:norbind"),
        (Setting::Environment(variable), r#""A=b c\x0a%%""#),
        (Setting::ListenStream(ListenAddress::Inet("[::1]:80".parse().unwrap())), "[::1]:80"),
        (Setting::StandardInput(StandardInput::Descriptor("in".parse().unwrap())), "fd:in"),
        (Setting::StandardError(StandardOutput::Append(stream("/log\\"))), "append:/log\\/"),
        (Setting::ExecStart(Exec::new("/a b", []).unwrap()), r#":"/a b""#),
        (
            Setting::ExecStart(Exec::with_argv("/bin/sh", arguments(&["-sh", ""])).unwrap()),
            r#"@:"/bin/sh" "-sh" """#,
        ),
        (Setting::ExecStart(Exec::new("/a", []).unwrap().on_failure(OnFailure::Ignore)), r#"-:"/a""#),
    ];
    for (setting, expected) in table {
        assert_eq!(written(setting.clone()), expected, "{setting:?}");
    }
}

#[test]
fn what_can_not_be_carried_is_refused_and_named() {
    let long = "x".repeat(256);
    let table: Vec<(Result<(), ValueError>, &str)> = vec![
        (
            UnitPath::new("/\nExecStartPre=+/x").map(drop),
            r#"path "/\nExecStartPre=+/x" contains the control character '\n'"#,
        ),
        (UnitPath::new("/a\0").map(drop), r#"path "/a\0" contains a NUL byte"#),
        (UnitPath::new("/a\u{7f}").map(drop), r#"path "/a\u{7f}" contains the control character '\u{7f}'"#),
        (UnitPath::new("a").map(drop), r#"path "a" is not absolute"#),
        (UnitPath::new("").map(drop), r#"path "" is empty"#),
        (UnitPath::new("/a/../b").map(drop), r#"path "/a/../b" contains "..""#),
        (UnitPath::new(&format!("/{}", "y/".repeat(2048))).map(drop), "is longer than 4095 bytes"),
        (UnitPath::new(&format!("/{long}")).map(drop), "is longer than 255 bytes"),
        (ListenPath::new(path(&format!("/{}", &long[..107]))).map(drop), "is longer than 107 bytes"),
        (ListenPath::new(path("/a ")).map(drop), "starts or ends with a blank"),
        (BindPath::new(path("/a'")).map(drop), r#"path of a bind mount "/a'" contains '\''"#),
        (StreamPath::new(path("/a ")).map(drop), r#"path of a stream "/a " starts or ends with a blank"#),
        (LiteralPath::new(path("/a*")).map(drop), r#"path that may be no pattern "/a*" contains '*'"#),
        (Argument::new("a\0b").map(drop), r#"argument "a\0b" contains a NUL byte"#),
        (Argument::new("\u{fdef}").map(drop), "contains '\\u{fdef}', which is no character to systemd"),
        (Argument::new("\u{10ffff}").map(drop), "contains '\\u{10ffff}', which is no character to systemd"),
        (UnitPath::new("/\u{fffe}").map(drop), "contains '\\u{fffe}', which is no character to systemd"),
        (Argument::new(b"a\xff").map(drop), "argument \"a\u{fffd}\" is not UTF-8"),
        (Argument::new(vec![b'a'; 131_072]).map(drop), "is longer than 131071 bytes"),
        (Exec::new("sh", []).map(drop), r#"path of an executable "sh" is not absolute"#),
        (Exec::new("/a'b", []).map(drop), r#"path of an executable "/a'b" contains '\''"#),
        (
            Exec::new("/a\nb", []).map(drop),
            r#"path of an executable "/a\nb" contains the control character '\n'"#,
        ),
        (Exec::new("/a/", []).map(drop), r#"path of an executable "/a/" ends with a slash"#),
        (Id::new(65_535).map(drop), r#"ID "65535" is no valid user or group ID"#),
        (Id::new(u32::MAX).map(drop), r#"ID "4294967295" is no valid user or group ID"#),
        (Bytes::new(0).map(drop), "is not between 1 and 18446744073709551614"),
        (Bytes::new(u64::MAX).map(drop), "is not between 1 and 18446744073709551614"),
        (CpuWeight::new(10_001).map(drop), r#"CPU weight "10001" is not between 1 and 10000"#),
        (
            CpuQuota::from_millicores(0).map(drop),
            r#"CPU quota in millicores "0" is not between 1 and 214748364"#,
        ),
        (
            OomScoreAdjust::new(-1001).map(drop),
            r#"OOM score adjustment "-1001" is not between -1000 and 1000"#,
        ),
        (Mode::new(0o10000).map(drop), r#"mode "10000" is not between 0 and 4095"#),
        ("CAP_BOGUS".parse::<Capability>().map(drop), r#"capability "CAP_BOGUS" is unknown"#),
        ("maybe".parse::<Restart>().map(drop), r#"restart "maybe" is unknown"#),
        ("a b".parse::<SystemCall>().map(drop), r#"system call "a b" contains ' '"#),
        ("~read".parse::<SystemCall>().map(drop), r#"system call "~read" contains '~'"#),
        (SystemCallFilter::only(vec![]).map(drop), r#"system call filter "" is empty"#),
        ("a\nb".parse::<Line>().map(drop), r#"line "a\nb" contains the control character '\n'"#),
        ("a\\".parse::<Line>().map(drop), r#"line "a\\" ends with a backslash"#),
        ("a%i".parse::<name::Identifier>().map(drop), r#"identifier "a%i" contains '%'"#),
    ];
    for (result, expected) in table {
        let text = result.unwrap_err().to_string();
        assert!(text.ends_with(expected), "{text:?} should be {expected:?}");
    }
    let named = UnitPath::new("a").unwrap_err().of("WorkingDirectory").to_string();
    assert_eq!(named, r#"WorkingDirectory "a" is not absolute"#);
}

#[test]
fn a_unit_that_would_mean_something_else_is_not_written() {
    let error = |unit: Unit| unit.checked_text().unwrap_err().to_string();
    let id = |number| Id::new(number).unwrap();
    assert_eq!(
        error(service([Setting::User(id(1)), Setting::User(id(0))])),
        "unit app.service sets User= twice"
    );
    assert_eq!(
        error(Unit::new(name("a.target")).with(Setting::User(id(1)))),
        "unit a.target has no section for User= ([Service])"
    );
    assert_eq!(
        error(service([Setting::ExecStart(Exec::new("/x", [Argument::instance()]).unwrap())])),
        "unit app.service uses its instance in ExecStart=, but is no template"
    );
    // systemd drops the backslashes of names in Sockets=.
    let escaped = UnitName::escaped("a-b", UnitKind::Socket).unwrap();
    assert_eq!(
        error(service([Setting::Sockets(escaped.into())])),
        "unit app.service: Sockets= is read back with another meaning"
    );
    let huge: Vec<_> = (0..10).map(|_| Argument::new(vec![b'a'; 131_071]).unwrap()).collect();
    assert_eq!(
        error(service([Setting::ExecStart(Exec::new("/x", huge).unwrap())])),
        "unit app.service can't be read back: line 2 is longer than 1048576 bytes"
    );
}

#[test]
fn an_empty_list_is_left_out_because_an_empty_value_would_forget_the_others() {
    let unit = service([Setting::After(Units::default()), Setting::After(name("a.service").into())]);
    assert_eq!(unit.to_string(), "[Unit]\nAfter=a.service\n");
}

#[test]
fn lines_stand_in_the_order_of_adding_within_fixed_sections() {
    let unit = service([Setting::MountAPIVFS(true), Setting::AllowIsolate(true), Setting::PrivateTmp(true)]);
    assert_eq!(unit.to_string(), "[Unit]\nAllowIsolate=yes\n\n[Service]\nMountAPIVFS=yes\nPrivateTmp=yes\n");
}

/// Text of the kind that breaks quoting: few characters, all of them special somewhere, and any other that systemd takes.
fn hostile() -> impl Strategy<Value = String> {
    let is_character = |c: &char| u32::from(*c) & 0xfffe != 0xfffe && !('\u{fdd0}'..='\u{fdef}').contains(c);
    let any = "[^\0]{0,16}".prop_map(move |text: String| text.chars().filter(is_character).collect());
    prop_oneof![r#"[ \t\n\r"'\\%$:;#=@{}\[\]~+!|xuIi0-9-]{0,16}"#, any]
}

fn hostile_path() -> impl Strategy<Value = String> {
    let component = r#"[ "'\\%$:;#=@{}\[\]~+!|xuIiä日.-]{1,12}"#;
    proptest::collection::vec(component, 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

/// Renders, reads back by the model alone, and returns the words of the only setting.
fn words_of(setting: Setting, syntax: read::Syntax) -> Vec<String> {
    let text = service([setting]).checked_text().unwrap();
    let sections = Unit::parse_back(&text).unwrap();
    let [section] = &sections[..] else { panic!("{text:?} has more than one section") };
    let [(_, value)] = &section.settings[..] else { panic!("{text:?} has more than one setting") };
    let words = read::meaning(value, syntax, "INSTANCE").unwrap();
    words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
}

proptest! {
    #[test]
    fn any_arguments_come_back(argv in proptest::collection::vec(hostile(), 1..6)) {
        let arguments = argv.iter().map(|argument| Argument::new(argument).unwrap()).collect();
        let exec = Exec::with_argv("/bin/app", arguments).unwrap();
        let mut words = words_of(Setting::ExecStart(exec), read::Syntax::Arguments);
        let command = words.remove(0);
        if argv[0] == "/bin/app" {
            words.insert(0, argv[0].clone());
        } else {
            prop_assert_eq!(command, "@:/bin/app");
        }
        prop_assert_eq!(words, argv);
    }

    #[test]
    fn any_path_comes_back(text in hostile_path()) {
        let Ok(path) = UnitPath::new(&text) else {
            prop_assert!(text.split('/').any(|component| component == ".."));
            return Ok(());
        };
        let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
        let simple = format!("/{}", parts.collect::<Vec<_>>().join("/"));
        let whole = words_of(Setting::WorkingDirectory(path.clone()), read::Syntax::Expanded).concat();
        prop_assert_eq!(if simple == "/" { "/" } else { whole.trim_end_matches('/') }, &simple);
        prop_assert_eq!(words_of(Setting::ReadOnlyPaths([path.clone()].into_iter().collect()), read::Syntax::Paths), [format!("+{simple}")]);
        if let Ok(source) = BindPath::new(path) {
            let target = BindPath::new(UnitPath::new("/t:x").unwrap()).unwrap();
            let bind = Setting::BindPaths(Bind::new(source, target).submounts(Submounts::Hidden));
            prop_assert_eq!(words_of(bind, read::Syntax::ColonPaths), [simple.as_str(), "/t:x", "norbind"]);
        } else {
            prop_assert!(text.contains(['"', '\'']));
        }
    }

    #[test]
    fn any_variable_and_line_comes_back(text in hostile()) {
        let variable = Variable::new("A".parse().unwrap(), Argument::new(&text).unwrap());
        prop_assert_eq!(words_of(Setting::Environment(variable), read::Syntax::Arguments), [format!("A={text}")]);
        if let Ok(line) = text.parse::<Line>() {
            prop_assert_eq!(words_of(Setting::Description(line), read::Syntax::Expanded), [text]);
        }
    }

    #[test]
    fn the_reader_survives_any_text(text in hostile()) {
        let _ = Unit::parse_back(&format!("[A]\n{text}\nk={text}"));
    }
}
