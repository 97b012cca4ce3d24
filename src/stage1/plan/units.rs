//! The units of a pod's systemd (DESIGN "The units").
//!
//! The pod ends with 0 when `rkt-apps.target` is needed by no app any more, and with the status of the first failing
//! app through its `rkt-failed@`. `default.target` requires every app: with `Wants=`, one that can't be loaded would
//! leave an empty pod for ever.

use super::{AppSpec, KernelPaths, PodSpec, skeleton};
use crate::appc::capability as appc;
use crate::appc::name::AcName;
use crate::stage1::inside::{FAILED, PROGRAM, VERIFY};
use crate::stage1::status::{READY, STATUS_DIR, STOPPING, SUPERVISOR_STATUS};
use crate::stage1::verify::Asked;
use crate::systemd::unit::exec::{Argument, Exec, OnFailure};
use crate::systemd::unit::name::{CapabilitySet, VariableNames};
use crate::systemd::unit::path::{Bind, BindPath, IfMissing, ListenPath, LiteralPath, RootPaths, UnitPath};
use crate::systemd::unit::stream::{ListenAddress, StandardInput, StandardOutput};
use crate::systemd::unit::value::{
    Action, Bytes, Capability, CpuQuota, CpuWeight, DescriptorCount, Id, KillMode, Mode, NotifyAccess,
    OomScoreAdjust, Restart, ServiceType, TimeSpan,
};
use crate::systemd::unit::{Setting, Unit, UnitError, ValueError};
use crate::systemd::unit_name::{UnitKind, UnitName, UnitNameError};

/// Links between units: whatever asks the pod's systemd to go down ends it through `exit.target`.
///
/// `kbrequest.target` is what systemd starts on SIGWINCH, with which the pod's scope is stopped (`systemd::bus`).
pub(super) const LINKS: [(&str, &str); 5] = [
    ("kbrequest.target", "exit.target"),
    ("poweroff.target", "exit.target"),
    ("halt.target", "exit.target"),
    ("reboot.target", "exit.target"),
    ("ctrl-alt-del.target", "exit.target"),
];

/// Names that an app can't have for its unit: our own, those that systemd starts by name, and the prefix for such.
const RESERVED_NAMES: [&str; 3] = ["dbus", "emergency", "rescue"];
const RESERVED_PREFIXES: [&str; 4] = ["app-", "rkt-", "systemd-", "container-"];

/// Of an app's name: the path of the mark that systemd makes of it is that of a socket, with 107 bytes (unix(7)).
const LONGEST_NAME: usize = 107 - STATUS_DIR.len() - "/".len() - "/".len() - ".ok".len();

/// How long an app may take to stop before it is killed.
const STOP_TIMEOUT: TimeSpan = TimeSpan::seconds(10);

/// Why a pod has no units.
#[derive(Debug, thiserror::Error)]
pub enum UnitPlanError {
    /// A value of an app.
    #[error("app {app}: {reason}")]
    Value {
        /// The app.
        app: AcName,
        /// Which value of which setting.
        reason: ValueError,
    },
    /// The name of an app does not fit.
    #[error("the app name \"{0}\" is longer than {LONGEST_NAME} characters")]
    LongName(AcName),
    /// The unit as a whole.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// The name of a unit.
    #[error(transparent)]
    Name(#[from] UnitNameError),
    /// A value of our own; a defect if it ever happens.
    #[error(transparent)]
    Own(#[from] ValueError),
}

/// Returns the unit of an app.
///
/// # Errors
/// When the app's name is too long for a unit.
pub fn app_unit_name(app: &AcName) -> Result<UnitName, UnitNameError> {
    let name = app.as_str();
    let reserved =
        RESERVED_NAMES.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    UnitName::service(&if reserved { format!("app-{name}") } else { name.to_owned() })
}

/// What [`crate::stage1::verify`] compares the apps with, a line each.
pub(super) fn asked(pod: &PodSpec) -> Result<String, UnitNameError> {
    let mut text = String::new();
    for app in &pod.apps {
        let asked = Asked {
            unit: app_unit_name(&app.name)?.to_string(),
            capabilities: app.capabilities.map_or(u64::MAX, |set| set.bits()),
            no_new_privileges: app.no_new_privileges,
            protected_paths: pod.kernel_paths == KernelPaths::Protected,
        };
        text.push_str(&format!("{asked}\n"));
    }
    Ok(text)
}

pub(super) fn units(pod: &PodSpec) -> Result<Vec<Unit>, UnitPlanError> {
    if let Some(app) = pod.apps.iter().find(|app| app.name.as_str().len() > LONGEST_NAME) {
        return Err(UnitPlanError::LongName(app.name.clone()));
    }
    let apps = pod.apps.iter().map(|app| app_unit_name(&app.name)).collect::<Result<Vec<_>, _>>()?;
    let mut units = vec![default_target(&apps)?, apps_target()?];
    units.push(console_watch()?);
    units.push(verify_unit(&apps)?);
    units.extend(readiness(&apps)?);
    units.extend(exit_units(pod, &apps)?);
    units.extend(journal_units()?);
    units.extend(bus_units()?);
    units.extend(empty_targets()?);
    units.push(login_unit()?);
    for app in &pod.apps {
        let refused = |reason| UnitPlanError::Value { app: app.name.clone(), reason };
        units.push(app_unit(pod, app)?);
        units.push(ok_unit(app).map_err(|error| own(error, refused))?);
        units.push(failed_unit(app).map_err(|error| own(error, refused))?);
    }
    Ok(units)
}

fn own(error: UnitPlanError, refused: impl Fn(ValueError) -> UnitPlanError) -> UnitPlanError {
    match error {
        UnitPlanError::Own(reason) => refused(reason),
        other => other,
    }
}

/// A unit of ours stands alone: the dependencies that systemd adds by itself lead to units that are not there.
fn bare(name: UnitName) -> Unit {
    Unit::new(name).with(Setting::DefaultDependencies(false))
}

fn app_unit(pod: &PodSpec, app: &AppSpec) -> Result<Unit, UnitPlanError> {
    let refused = |reason| UnitPlanError::Value { app: app.name.clone(), reason };
    let journal = [journal_socket()?, dev_log_socket()?];
    let apps = UnitName::target("rkt-apps")?;
    let after = journal.iter().cloned().chain([apps.clone()]).collect();
    let settings =
        sandbox(pod, app).and_then(|sandbox| Ok((process(app)?, limits(app)?, sandbox))).map_err(refused)?;
    Ok(bare(app_unit_name(&app.name)?)
        .with(Setting::Description(app.description.parse().map_err(refused)?))
        .with(Setting::Requires(journal_socket()?.into()))
        .with(Setting::Wants([apps, dev_log_socket()?].into()))
        .with(Setting::After(after))
        .with(Setting::OnFailure(failed_name(&app.name)?.into()))
        .with(Setting::OnSuccess(ok_name(&app.name)?.into()))
        .with_all(settings.0)
        .with_all(settings.1)
        .with_all(settings.2))
}

/// What is executed, as whom, with which streams.
fn process(app: &AppSpec) -> Result<Vec<Setting>, ValueError> {
    let argv = app.argv.iter().map(Argument::new).collect::<Result<Vec<_>, _>>()?;
    let mut settings = vec![
        Setting::Type(if app.notifies { ServiceType::Notify } else { ServiceType::Exec }),
        Setting::ExecStart(Exec::with_argv(&app.program, argv)?),
        Setting::WorkingDirectory(UnitPath::new(&app.working_directory)?),
        Setting::EnvironmentFile(LiteralPath::new(UnitPath::new(&format!(
            "/{}/{}",
            skeleton::ENV_DIR,
            app.name
        ))?)?),
        Setting::UnsetEnvironment(unset_variables(app)?),
        Setting::SyslogIdentifier(app.name.as_str().parse()?),
        Setting::StandardOutput(StandardOutput::JournalAndConsole),
        Setting::StandardError(StandardOutput::JournalAndConsole),
        Setting::TimeoutStopSec(STOP_TIMEOUT),
    ];
    if app.notifies {
        settings.push(Setting::NotifyAccess(NotifyAccess::Main));
        settings.push(Setting::TimeoutStartSec(TimeSpan::INFINITY));
    }
    if app.user != 0 {
        settings.push(Setting::User(Id::new(app.user)?));
    }
    // Always said: the user's own group is not used (spec pods.md 3.6).
    settings.push(Setting::Group(Id::new(app.group)?));
    let groups = app.supplementary_groups.iter().map(|gid| Id::new(*gid)).collect::<Result<_, _>>()?;
    settings.push(Setting::SupplementaryGroups(groups));
    Ok(settings)
}

/// Variables that the pod's systemd would add to the app's own.
fn unset_variables(app: &AppSpec) -> Result<VariableNames, ValueError> {
    const SYSTEMD_ADDS: [&str; 4] = ["LANG", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "TERM"];
    let set = |name: &str| app.environment.iter().any(|(own, _)| own == name);
    SYSTEMD_ADDS.into_iter().filter(|name| !set(name)).map(str::parse).collect()
}

fn limits(app: &AppSpec) -> Result<Vec<Setting>, ValueError> {
    let mut settings = Vec::new();
    if let Some(bytes) = app.memory_max {
        settings.push(Setting::MemoryMax(Bytes::new(bytes)?));
    }
    if let Some(millicores) = app.cpu_millicores {
        settings.push(Setting::CPUQuota(CpuQuota::from_millicores(millicores)?));
    }
    if let Some(weight) = app.cpu_weight {
        settings.push(Setting::CPUWeight(CpuWeight::new(weight)?));
    }
    if let Some(adjust) = app.oom_score_adjust {
        settings.push(Setting::OOMScoreAdjust(OomScoreAdjust::new(adjust)?));
    }
    Ok(settings)
}

/// What the app sees and may do.
fn sandbox(pod: &PodSpec, app: &AppSpec) -> Result<Vec<Setting>, ValueError> {
    let root = format!("/opt/stage2/{}/rootfs", app.name);
    let path = UnitPath::new;
    let bound = |text| path(text).and_then(BindPath::new);
    let mut settings = vec![
        Setting::RootDirectory(path(&root)?),
        Setting::MountAPIVFS(true),
        // MountAPIVFS would hide the image's /run, and on 252 leave /dev/log dangling.
        Setting::BindPaths(Bind::new(bound(&format!("{root}/run"))?, bound("/run")?)),
        Setting::BindReadOnlyPaths(Bind::same(bound("/run/systemd/journal")?)),
    ];
    if let Some(capabilities) = app.capabilities {
        let named = capabilities.iter().map(|capability| capability.as_str().parse::<Capability>());
        settings.push(Setting::CapabilityBoundingSet(named.collect::<Result<CapabilitySet, _>>()?));
        // The pod's systemd has inheritable capabilities, which 257 hands on unless ambient ones are asked for. One that
        // is outside of the bounding set is taken out of them again: what stays is an empty inheritable set.
        let outside = appc::Capability::all().find(|capability| !capabilities.contains(*capability));
        if let Some(outside) = outside {
            let outside = outside.as_str().parse::<Capability>()?;
            settings.push(Setting::AmbientCapabilities([outside].into_iter().collect()));
        }
    }
    if app.no_new_privileges {
        settings.push(Setting::NoNewPrivileges(true));
    }
    if pod.kernel_paths == KernelPaths::Protected {
        settings.extend([
            // Without these a root app on 252 writes core_pattern, and is root on the host.
            Setting::ProtectKernelTunables(true),
            Setting::ProtectControlGroups(true),
            Setting::ProtectKernelLogs(true),
            Setting::InaccessiblePaths(hidden_paths()?),
            // The one file system of an app on which a device node that it makes could be opened.
            Setting::ReadOnlyPaths([path("/dev")?].into_iter().collect()),
            Setting::ReadWritePaths(
                [path("/dev/shm")?, path("/dev/pts")?, path("/dev/mqueue")?].into_iter().collect(),
            ),
        ]);
    }
    if app.read_only_root {
        settings.push(Setting::ReadOnlyPaths([path("/")?].into_iter().collect()));
    }
    Ok(settings)
}

/// What no app has a use for (spec pods.md 3.9); what this kernel has not is left out.
fn hidden_paths() -> Result<RootPaths, ValueError> {
    const HIDDEN: [&str; 10] = [
        "/proc/config.gz",
        "/proc/kallsyms",
        "/proc/kcore",
        "/proc/kmem",
        "/proc/mem",
        "/proc/sched_debug",
        "/sys/firmware",
        "/sys/hypervisor",
        "/sys/module",
        "/sys/power",
    ];
    HIDDEN.into_iter().map(|path| Ok((IfMissing::Skip, UnitPath::new(path)?))).collect()
}

/// The mark of an app that ended well: systemd makes the FIFO itself, nothing is forked.
fn ok_unit(app: &AppSpec) -> Result<Unit, UnitPlanError> {
    let mark = UnitPath::new(&format!("/{STATUS_DIR}/{}.ok", app.name))?;
    mark_unit(ok_name(&app.name)?, mark)
}

fn mark_unit(name: UnitName, mark: UnitPath) -> Result<Unit, UnitPlanError> {
    Ok(bare(name)
        .with(Setting::ListenFIFO(ListenPath::new(mark)?))
        .with(Setting::SocketMode(Mode::new(0o600)?))
        .with(Setting::Service(UnitName::service("rkt-mark")?)))
}

/// The record of an app that failed: it runs on failure only, and ends the pod.
fn failed_unit(app: &AppSpec) -> Result<Unit, UnitPlanError> {
    let words = [FAILED, app.name.as_str(), &app.program, &app.working_directory];
    let arguments = words.into_iter().map(Argument::new).collect::<Result<Vec<_>, _>>()?;
    Ok(bare(failed_name(&app.name)?)
        .with(Setting::FailureAction(Action::Exit))
        .with(Setting::SuccessAction(Action::Exit))
        .with(Setting::Type(ServiceType::Oneshot))
        .with(Setting::ExecStart(Exec::new(PROGRAM, arguments)?))
        .with(Setting::SyslogIdentifier(app.name.as_str().parse()?))
        .with(Setting::StandardOutput(StandardOutput::JournalAndConsole))
        .with(Setting::StandardError(StandardOutput::JournalAndConsole)))
}

fn failed_name(app: &AcName) -> Result<UnitName, UnitNameError> {
    UnitName::template("rkt-failed", UnitKind::Service)?.with_instance(app.as_str())
}

fn ok_name(app: &AcName) -> Result<UnitName, UnitNameError> {
    UnitName::template("rkt-ok", UnitKind::Socket)?.with_instance(app.as_str())
}

fn default_target(apps: &[UnitName]) -> Result<Unit, UnitPlanError> {
    Ok(bare(UnitName::target("default")?)
        .with(Setting::AllowIsolate(true))
        .with(Setting::Requires(apps.iter().cloned().collect()))
        .with(Setting::Wants(
            [
                UnitName::service("rkt-verify")?,
                UnitName::socket("dbus")?,
                UnitName::socket("rkt-ready")?,
                UnitName::socket("rkt-console")?,
            ]
            .into(),
        ))
        .with(Setting::After(apps.iter().cloned().collect())))
}

/// Ends the pod in order when its supervisor is gone, however that died: systemd-nspawn holds the other end of the
/// console, which is the first pseudo terminal of the pod (/dev/console is a link to it, which systemd does not follow
/// here). Nobody types on it, and its hang-up makes systemd give this socket up. Without it a killed supervisor would
/// leave its apps running in a pod that counts as exited.
fn console_watch() -> Result<Unit, UnitPlanError> {
    Ok(bare(UnitName::socket("rkt-console")?)
        .with(Setting::FailureAction(Action::Exit))
        .with(Setting::ListenSpecial(ListenPath::new(UnitPath::new("/dev/pts/0")?)?))
        .with(Setting::Service(UnitName::service("rkt-mark")?)))
}

/// Unneeded as soon as the last app is inactive: then the pod has ended well.
fn apps_target() -> Result<Unit, UnitPlanError> {
    Ok(bare(UnitName::target("rkt-apps")?)
        .with(Setting::StopWhenUnneeded(true))
        .with(Setting::SuccessAction(Action::Exit)))
}

/// Compares the apps' rights with what was asked, as soon as they have started; more ends the pod.
fn verify_unit(apps: &[UnitName]) -> Result<Unit, UnitPlanError> {
    Ok(bare(UnitName::service("rkt-verify")?)
        .with(Setting::After(apps.iter().cloned().collect()))
        .with(Setting::FailureAction(Action::Exit))
        .with(Setting::Type(ServiceType::Oneshot))
        .with(Setting::ExecStart(Exec::new(PROGRAM, [Argument::new(VERIFY)?])?))
        .with(Setting::SyslogIdentifier("rkt".parse()?))
        .with(Setting::StandardOutput(StandardOutput::JournalAndConsole))
        .with(Setting::StandardError(StandardOutput::JournalAndConsole)))
}

/// The mark that every app has started, and its stub of a service, which is never started.
fn readiness(apps: &[UnitName]) -> Result<[Unit; 2], UnitPlanError> {
    let verify = UnitName::service("rkt-verify")?;
    let ready = mark_unit(UnitName::socket("rkt-ready")?, UnitPath::new(&format!("/{READY}"))?)?
        .with(Setting::Requires(apps.iter().cloned().collect()))
        .with(Setting::After(apps.iter().cloned().chain([verify]).collect()))
        .with(Setting::Symlinks([UnitPath::new(&format!("/{SUPERVISOR_STATUS}"))?].into_iter().collect()));
    let stub = bare(UnitName::service("rkt-mark")?).with(Setting::ExecStart(Exec::new("/bin/true", [])?));
    Ok([ready, stub])
}

/// The orderly end: all apps stop, then the journal, then systemd itself; nothing is forked for it.
fn exit_units(pod: &PodSpec, apps: &[UnitName]) -> Result<[Unit; 3], UnitPlanError> {
    let exit = UnitName::service("rkt-exit")?;
    // journald first gets to read what the apps have written, even where they end before it has started.
    let journald = UnitName::service("systemd-journald")?;
    // Made in the same pass over the jobs in which the apps are told to stop, and so before any of them has.
    let stopping = mark_unit(UnitName::socket("rkt-stopping")?, UnitPath::new(&format!("/{STOPPING}"))?)?;
    let mut after: Vec<UnitName> = apps.to_vec();
    after.push(journald.clone());
    // The check of a pod whose apps end at once is not cut off.
    after.push(UnitName::service("rkt-verify")?);
    for app in &pod.apps {
        after.push(failed_name(&app.name)?);
    }
    let target = bare(UnitName::target("exit")?)
        .with(Setting::AllowIsolate(true))
        .with(Setting::Requires(exit.clone().into()))
        .with(Setting::Wants(stopping.name().clone().into()))
        .with(Setting::After(exit.clone().into()));
    let service = bare(exit)
        .with(Setting::Wants(journald.into()))
        .with(Setting::Conflicts(apps.iter().cloned().collect()))
        .with(Setting::After(after.into_iter().collect()))
        .with(Setting::SuccessAction(Action::ExitForce))
        .with(Setting::Type(ServiceType::Oneshot));
    Ok([target, service, stopping])
}

fn journal_socket() -> Result<UnitName, UnitNameError> {
    UnitName::socket("systemd-journald")
}

fn dev_log_socket() -> Result<UnitName, UnitNameError> {
    UnitName::socket("systemd-journald-dev-log")
}

/// journald, started by its sockets beside the apps; the stock unit's sandbox would cost more than all of this.
fn journal_units() -> Result<[Unit; 3], UnitPlanError> {
    let service = UnitName::service("systemd-journald")?;
    let sockets = [journal_socket()?, dev_log_socket()?];
    let path = |text| UnitPath::new(text).and_then(ListenPath::new);
    let socket = |name: UnitName| -> Result<Unit, UnitPlanError> {
        Ok(bare(name)
            .with(Setting::IgnoreOnIsolate(true))
            .with(Setting::Service(service.clone()))
            .with(Setting::SocketMode(Mode::new(0o666)?))
            .with(Setting::PassCredentials(true))
            .with(Setting::PassSecurity(true))
            .with(Setting::ReceiveBuffer(Bytes::new(8 << 20)?)))
    };
    let journald = bare(service.clone())
        .with(Setting::Requires(sockets[0].clone().into()))
        .with(Setting::Wants(sockets[1].clone().into()))
        .with(Setting::After(sockets.clone().into()))
        .with(Setting::Type(ServiceType::Notify))
        .with(Setting::ExecStart(Exec::new("/usr/lib/systemd/systemd-journald", [])?))
        .with(Setting::Sockets(sockets.clone().into()))
        .with(Setting::StandardOutput(StandardOutput::Null))
        .with(Setting::FileDescriptorStoreMax(DescriptorCount::new(4224)?))
        .with(Setting::Restart(Restart::Always))
        .with(Setting::RestartSec(TimeSpan::seconds(0)))
        .with(Setting::OOMScoreAdjust(OomScoreAdjust::new(-250)?));
    let [main, dev_log] = sockets;
    let main = socket(main)?
        .with(Setting::ListenStream(ListenAddress::Path(path("/run/systemd/journal/stdout")?)))
        .with(Setting::ListenDatagram(ListenAddress::Path(path("/run/systemd/journal/socket")?)));
    let dev_log = socket(dev_log)?
        .with(Setting::ListenDatagram(ListenAddress::Path(path("/run/systemd/journal/dev-log")?)))
        // The second tells journald that the journal's own file system is there: it writes to it from the first line
        // on, instead of waiting in memory for a service of a real boot (systemd-journald.service(8)).
        .with(Setting::Symlinks(
            [UnitPath::new("/dev/log")?, UnitPath::new("/run/systemd/journal/flushed")?]
                .into_iter()
                .collect(),
        ));
    Ok([journald, main, dev_log])
}

/// The pod's bus, for `systemctl -M` and `machinectl shell`: a socket, and no process until it is used.
fn bus_units() -> Result<[Unit; 2], UnitPlanError> {
    let socket = UnitName::socket("dbus")?;
    let listen = ListenPath::new(UnitPath::new("/run/dbus/system_bus_socket")?)?;
    let arguments = [
        format!("--config-file={}", skeleton::DBUS_CONFIG),
        "--address=systemd:".into(),
        "--nofork".into(),
        "--nopidfile".into(),
        "--systemd-activation".into(),
        "--syslog-only".into(),
    ];
    let arguments = arguments.into_iter().map(Argument::new).collect::<Result<Vec<_>, _>>()?;
    let service = bare(UnitName::service("dbus")?)
        .with(Setting::Requires(socket.clone().into()))
        .with(Setting::After(socket.clone().into()))
        .with(Setting::Type(ServiceType::Notify))
        .with(Setting::NotifyAccess(NotifyAccess::Main))
        .with(Setting::ExecStart(Exec::new("/usr/bin/dbus-daemon", arguments)?))
        .with(Setting::OOMScoreAdjust(OomScoreAdjust::new(-900)?));
    let socket = bare(socket)
        .with(Setting::IgnoreOnIsolate(true))
        .with(Setting::ListenStream(ListenAddress::Path(listen)))
        .with(Setting::SocketMode(Mode::new(0o600)?));
    Ok([socket, service])
}

/// What transient units (`systemd-run -M`, `machinectl shell`) pull in by default.
fn empty_targets() -> Result<Vec<Unit>, UnitPlanError> {
    ["sysinit", "basic", "shutdown"].into_iter().map(|name| Ok(bare(UnitName::target(name)?))).collect()
}

/// `machinectl login`, as the stock container-getty@.service does it.
fn login_unit() -> Result<Unit, UnitPlanError> {
    let words = ["--noreset", "--noclear", "--autologin", "root", "--keep-baud"];
    let mut arguments = words.into_iter().map(Argument::new).collect::<Result<Vec<_>, _>>()?;
    arguments.push(Argument::around_instance("pts/", "")?);
    arguments.extend([Argument::new("115200,38400,9600")?, Argument::new("vt220")?]);
    Ok(bare(UnitName::template("container-getty", UnitKind::Service)?)
        .with(Setting::Conflicts(UnitName::service("rkt-exit")?.into()))
        .with(Setting::Type(ServiceType::Idle))
        .with(Setting::ExecStart(Exec::new("/sbin/agetty", arguments)?.on_failure(OnFailure::Ignore)))
        .with(Setting::StandardInput(StandardInput::Tty))
        .with(Setting::StandardOutput(StandardOutput::Tty))
        .with(Setting::TTYPath(UnitPath::around_instance("/dev/pts/", "")?))
        .with(Setting::TTYReset(true))
        .with(Setting::TTYVHangup(true))
        .with(Setting::KillMode(KillMode::Process))
        .with(Setting::IgnoreSIGPIPE(false))
        .with(Setting::SendSIGHUP(true)))
}
