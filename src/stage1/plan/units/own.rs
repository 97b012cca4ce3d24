//! The pod's own units: its targets, the record of readiness, the end, the journal, the bus, the log-in.

use super::{UnitPlanError, bare, dev_log_socket, failed_name, journal_socket, mark_unit, output_name};
use crate::stage1::inside::{PROGRAM, SUPERVISED, VERIFY};
use crate::stage1::plan::nspawn::PRESSURE_WATCH;
use crate::stage1::plan::{Output, PodSpec, skeleton};
use crate::stage1::status::{READY, STOPPING, SUPERVISOR_STATUS};
use crate::systemd::unit::exec::{Argument, Exec, OnFailure};
use crate::systemd::unit::name::VariableNames;
use crate::systemd::unit::path::{ListenPath, MissingPath, UnitPath};
use crate::systemd::unit::stream::{ListenAddress, StandardInput, StandardOutput};
use crate::systemd::unit::value::{
    Action, Bytes, DescriptorCount, KillMode, Mode, NotifyAccess, OomScoreAdjust, Restart, ServiceType,
    Signal, TimeSpan,
};
use crate::systemd::unit::{Setting, Unit};
use crate::systemd::unit_name::{UnitKind, UnitName};

pub(super) fn units(pod: &PodSpec, apps: &[UnitName]) -> Result<Vec<Unit>, UnitPlanError> {
    let mut units =
        vec![default_target(apps)?, apps_target()?, console_watch()?, supervised()?, verify_unit(apps)?];
    units.extend(readiness(apps)?);
    units.extend(exit_units(pod, apps)?);
    units.extend(journal_units()?);
    units.extend(bus_units()?);
    units.extend(empty_targets()?);
    units.push(login_unit()?);
    Ok(units)
}

fn default_target(apps: &[UnitName]) -> Result<Unit, UnitPlanError> {
    Ok(bare(UnitName::target("default")?)
        .with(Setting::AllowIsolate(true))
        .with(Setting::Requires(apps.iter().cloned().collect()))
        .with(Setting::Wants(
            [
                // At once, not when an app has reached for its socket: it is ready when the app is.
                UnitName::service("systemd-journald")?,
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
/// leave its apps running in a pod that counts as exited. An interactive pod, on whose console somebody does type, has
/// [`supervised`] instead.
fn console_watch() -> Result<Unit, UnitPlanError> {
    let supervised = UnitPath::new(&format!("/{}/{SUPERVISED}", skeleton::IO_DIR))?;
    Ok(bare(UnitName::socket("rkt-console")?)
        .with(Setting::ConditionPathExists(MissingPath::new(supervised)))
        .with(Setting::FailureAction(Action::Exit))
        .with(Setting::ListenSpecial(ListenPath::new(UnitPath::new("/dev/pts/0")?)?))
        .with(Setting::Service(UnitName::service("rkt-mark")?)))
}

/// Ends an interactive pod on a terminal when its supervisor is gone, which alone holds the other end of a FIFO.
fn supervised() -> Result<Unit, UnitPlanError> {
    Ok(bare(UnitName::service("rkt-supervised")?)
        .with(Setting::FailureAction(Action::Exit))
        .with(Setting::Type(ServiceType::Exec))
        .with(Setting::ExecStart(Exec::new(PROGRAM, [Argument::new(SUPERVISED)?])?))
        .with(Setting::StandardOutput(StandardOutput::Null)))
}

/// Unneeded as soon as the last app is inactive: then the pod has ended well.
fn apps_target() -> Result<Unit, UnitPlanError> {
    Ok(bare(UnitName::target("rkt-apps")?)
        .with(Setting::StopWhenUnneeded(true))
        .with(Setting::SuccessAction(Action::Exit)))
}

/// Compares the apps' rights with what was asked, as soon as they have started; more ends the pod.
///
/// It waits for a journald that is just starting, so that it comes behind what an app of a moment needs to end.
fn verify_unit(apps: &[UnitName]) -> Result<Unit, UnitPlanError> {
    Ok(bare(UnitName::service("rkt-verify")?)
        .with(Setting::After(apps.iter().cloned().chain([UnitName::service("systemd-journald")?]).collect()))
        .with(Setting::FailureAction(Action::Exit))
        .with(Setting::Type(ServiceType::Oneshot))
        .with(Setting::ExecStart(Exec::new(PROGRAM, [Argument::new(VERIFY)?])?))
        .with(Setting::SuccessExitStatus(Signal::Term))
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
    // Apps that have ended have no rights any more: their comparison is given up.
    let verify = UnitName::service("rkt-verify")?;
    after.push(verify.clone());
    for app in &pod.apps {
        after.push(failed_name(&app.name)?);
    }
    // What the apps have written is carried to the journal before it ends.
    let outputs = pod.apps.iter().filter(|app| app.output == Output::Fifo);
    let outputs = outputs.map(|app| output_name(&app.name)).collect::<Result<Vec<_>, _>>()?;
    after.extend(outputs.iter().cloned());
    let target = bare(UnitName::target("exit")?)
        .with(Setting::AllowIsolate(true))
        .with(Setting::Requires(exit.clone().into()))
        .with(Setting::Wants(stopping.name().clone().into()))
        .with(Setting::After(exit.clone().into()));
    let service = bare(exit)
        .with(Setting::Wants(journald.into()))
        .with(Setting::Conflicts(apps.iter().cloned().chain([verify]).chain(outputs).collect()))
        .with(Setting::After(after.into_iter().collect()))
        .with(Setting::SuccessAction(Action::ExitForce))
        .with(Setting::Type(ServiceType::Oneshot));
    Ok([target, service, stopping])
}

/// journald, started beside the apps; the stock unit's sandbox would cost more than all of this.
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
        .with(Setting::OOMScoreAdjust(OomScoreAdjust::new(-250)?))
        .with(Setting::PassEnvironment(VariableNames::from_iter([PRESSURE_WATCH.parse()?])));
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
