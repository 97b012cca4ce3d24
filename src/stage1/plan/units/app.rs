//! The units of one app: itself, what carries its output, and the marks of how it ended.

use super::{
    UnitPlanError, app_unit_name, bare, dev_log_socket, failed_name, has_own_sys, journal_socket, mark_unit,
    ok_name, output_name,
};
use crate::appc::capability as appc;
use crate::appc::isolator::filter::{Filter, Rule};
use crate::os::mount::detached::Access;
use crate::stage1::inside::{FAILED, OUTPUT, PROGRAM};
use crate::stage1::kernel_view::{self, FILE_SYSTEMS};
use crate::stage1::plan::{AppSpec, KernelPaths, Output, PodSpec, skeleton, volume_point};
use crate::stage1::status::STATUS_DIR;
use crate::systemd::unit::exec::{Argument, Exec, Variable};
use crate::systemd::unit::name::{CapabilitySet, SystemCallFilter, VariableNames};
use crate::systemd::unit::path::{
    Bind, BindPath, IfMissing, LiteralPath, MissingPath, RootPaths, StreamPath, UnitPath,
};
use crate::systemd::unit::stream::StandardOutput;
use crate::systemd::unit::value::{
    Action, Bytes, Capability, CpuQuota, CpuWeight, Id, NotifyAccess, OomPolicy, OomScoreAdjust, ServiceType,
    Signal, TimeSpan,
};
use crate::systemd::unit::{Setting, Unit, ValueError};
use crate::systemd::unit_name::UnitName;

/// How long an app may take to stop before it is killed.
const STOP_TIMEOUT: TimeSpan = TimeSpan::seconds(10);

pub(super) fn units(pod: &PodSpec, app: &AppSpec) -> Result<[Unit; 3], UnitPlanError> {
    let refused = |error| match error {
        UnitPlanError::Own(reason) => UnitPlanError::Value { app: app.name.clone(), reason },
        other => other,
    };
    Ok([app_unit(pod, app)?, ok_unit(app).map_err(refused)?, failed_unit(app).map_err(refused)?])
}

fn app_unit(pod: &PodSpec, app: &AppSpec) -> Result<Unit, UnitPlanError> {
    let refused = |reason| UnitPlanError::Value { app: app.name.clone(), reason };
    let journal = [journal_socket()?, dev_log_socket()?];
    let apps = UnitName::target("rkt-apps")?;
    let mut wants = vec![apps.clone(), dev_log_socket()?];
    if app.output == Output::Fifo {
        wants.push(output_name(&app.name)?);
    }
    let after = journal.iter().cloned().chain([apps.clone()]).collect();
    let settings =
        sandbox(pod, app).and_then(|sandbox| Ok((process(app)?, limits(app)?, sandbox))).map_err(refused)?;
    Ok(bare(app_unit_name(&app.name)?)
        .with(Setting::Description(app.description.parse().map_err(refused)?))
        .with(Setting::Requires(journal_socket()?.into()))
        .with(Setting::Wants(wants.into_iter().collect()))
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
    let output = match app.output {
        Output::Journal => StandardOutput::JournalAndConsole,
        Output::Fifo => {
            let path = UnitPath::new(&format!("/{}/{}", skeleton::OUTPUT_DIR, app.name))?;
            StandardOutput::File(StreamPath::new(path)?)
        }
    };
    let mut settings = vec![
        Setting::Type(if app.notifies { ServiceType::Notify } else { ServiceType::Exec }),
        Setting::ExecStart(Exec::with_argv(&app.program, argv)?),
        Setting::SyslogIdentifier(app.name.as_str().parse()?),
        Setting::StandardOutput(output.clone()),
        Setting::StandardError(output),
        Setting::TimeoutStopSec(STOP_TIMEOUT),
    ];
    if let Some(signal) = app.stop_signal {
        settings.push(Setting::KillSignal(signal));
        // Who was asked to end by it and did has not failed; of SIGKILL nobody knows who has sent it.
        if signal != Signal::Kill {
            settings.push(Setting::SuccessExitStatus(signal));
        }
    }
    if app.notifies {
        settings.push(Setting::NotifyAccess(NotifyAccess::Main));
        settings.push(Setting::TimeoutStartSec(TimeSpan::INFINITY));
    }
    settings.extend(identity(app, Terminal::None)?);
    Ok(settings)
}

/// Whether a process is to know a terminal that it has by its name in `TERM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terminal {
    /// It has none.
    None,
    /// It may have one.
    Known,
}

/// Where an app starts, with which variables, and as whom: the same for it and for what is entered.
pub(super) fn identity(app: &AppSpec, terminal: Terminal) -> Result<Vec<Setting>, ValueError> {
    let mut settings = vec![
        Setting::WorkingDirectory(UnitPath::new(&app.working_directory)?),
        Setting::EnvironmentFile(LiteralPath::new(UnitPath::new(&format!(
            "/{}/{}",
            skeleton::ENV_DIR,
            app.name
        ))?)?),
        Setting::UnsetEnvironment(unset_variables(app, terminal)?),
    ];
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
fn unset_variables(app: &AppSpec, terminal: Terminal) -> Result<VariableNames, ValueError> {
    const SYSTEMD_ADDS: [&str; 4] = ["LANG", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "TERM"];
    let set = |name: &str| app.environment.iter().any(|(own, _)| own == name);
    let stays = |name: &str| set(name) || (name == "TERM" && terminal == Terminal::Known);
    SYSTEMD_ADDS.into_iter().filter(|name| !stays(name)).map(str::parse).collect()
}

pub(super) fn limits(app: &AppSpec) -> Result<Vec<Setting>, ValueError> {
    // Which of its processes it can do without is the app's business: one that the kernel kills for its memory does not end
    // the others, as `DefaultOOMPolicy=stop` would.
    let mut settings = vec![Setting::OOMPolicy(OomPolicy::Continue)];
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
pub(super) fn sandbox(pod: &PodSpec, app: &AppSpec) -> Result<Vec<Setting>, ValueError> {
    let root = format!("/opt/stage2/{}/rootfs", app.name);
    let path = UnitPath::new;
    let bound = |text: &str| path(text).and_then(BindPath::new);
    let mut settings = vec![
        Setting::RootDirectory(path(&root)?),
        // What it has of the kernel's file systems is bound below.
        Setting::MountAPIVFS(false),
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
    if let Some(filter) = &app.filter {
        settings.extend(system_calls(filter, pod.kernel_paths)?);
    }
    if app.no_new_privileges {
        settings.push(Setting::NoNewPrivileges(true));
    }
    settings.extend(kernel_files(pod.kernel_paths, app)?);
    settings.extend(volumes(app)?);
    if app.read_only_root {
        settings.extend(read_only_root(app, pod.kernel_paths)?);
    }
    Ok(settings)
}

/// For every architecture of the kernel, 32-bit programs included: as long as the names are few, that costs nothing
/// that could be measured, and another way of making the same call is no way around the filter.
fn system_calls(filter: &Filter, kernel_paths: KernelPaths) -> Result<Vec<Setting>, ValueError> {
    let (rule, calls) = filter.written();
    let calls = calls.into_iter().map(str::parse).collect::<Result<_, _>>()?;
    let mut calls = match rule {
        Rule::Only => SystemCallFilter::only(calls)?,
        Rule::AllBut => SystemCallFilter::all_but(calls)?,
    };
    // The kernel's log, by the other way than /dev/kmsg: hidden, but no reason to end an app that asks for it.
    if kernel_paths == KernelPaths::Protected {
        calls = calls.failing("syslog".parse()?, "EPERM".parse()?);
    }
    let mut settings = vec![Setting::SystemCallFilter(calls)];
    if let Some(errno) = filter.errno() {
        settings.push(Setting::SystemCallErrorNumber(errno.parse()?));
    }
    Ok(settings)
}

/// Paths that stay as they are; of a volume among them its own setting speaks.
fn writable(app: &AppSpec, paths: &[&str]) -> Result<RootPaths, ValueError> {
    let free = paths.iter().filter(|path| !is_a_volume(app, path));
    free.map(|path| Ok((IfMissing::Fail, UnitPath::new(path)?))).collect()
}

fn is_a_volume(app: &AppSpec, path: &str) -> bool {
    app.mounts.iter().any(|mount| mount.target == path)
}

/// The kernel's file systems: those of the pod, or what rkt shows of them.
///
/// Its /sys is left out where a volume is at or below it (spec pods.md 3.7).
fn kernel_files(kernel_paths: KernelPaths, app: &AppSpec) -> Result<Vec<Setting>, ValueError> {
    let bound = |text: &str| UnitPath::new(text).and_then(BindPath::new);
    let wanted = FILE_SYSTEMS.iter().filter(|name| **name != "sys" || !has_own_sys(app));
    wanted
        .map(|name| {
            let target = format!("/{name}");
            let source = match kernel_paths {
                KernelPaths::Protected => kernel_view::source(name),
                KernelPaths::Open => target.clone(),
            };
            Ok(Setting::BindPaths(Bind::new(bound(&source)?, bound(&target)?)))
        })
        .collect()
}

/// The volumes of an app.
fn volumes(app: &AppSpec) -> Result<Vec<Setting>, ValueError> {
    let bound = |text: &str| UnitPath::new(text).and_then(BindPath::new);
    let mut settings = Vec::new();
    for mount in &app.mounts {
        let bind = Bind::new(bound(&format!("/{}", volume_point(mount.volume)))?, bound(&mount.target)?);
        settings.push(match mount.access {
            Access::ReadOnly => Setting::BindReadOnlyPaths(bind),
            Access::ReadWrite => Setting::BindPaths(bind),
        });
    }
    Ok(settings)
}

/// The kernel's file systems below it stay as they are; other mounts that are to be writable are the caller's to name.
fn read_only_root(app: &AppSpec, kernel_paths: KernelPaths) -> Result<[Setting; 2], ValueError> {
    let kernel: &[&str] = match kernel_paths {
        KernelPaths::Protected => &["/proc", "/dev/shm", "/dev/pts", "/dev/mqueue"],
        KernelPaths::Open => &["/proc", "/sys", "/dev"],
    };
    Ok([
        Setting::ReadOnlyPaths([UnitPath::new("/")?].into_iter().collect()),
        Setting::ReadWritePaths(writable(app, kernel)?),
    ])
}

/// The mark of an app that ended well: systemd makes the FIFO itself, nothing is forked.
fn ok_unit(app: &AppSpec) -> Result<Unit, UnitPlanError> {
    let mark = UnitPath::new(&format!("/{STATUS_DIR}/{}.ok", app.name))?;
    mark_unit(ok_name(&app.name)?, mark)
}

/// What carries all that an app with a FIFO writes to the journal, as lines of the app. One that is interactive writes to its
/// caller instead.
///
/// It stands before the app: stopped after it, it has all that the app and its children have ever written.
pub(super) fn output_unit(app: &AppSpec) -> Result<Option<Unit>, UnitPlanError> {
    match app.output {
        Output::Journal => return Ok(None),
        Output::Fifo => {}
    }
    let interactive = UnitPath::new(&format!("/{}", skeleton::IO_DIR))?;
    let arguments =
        [OUTPUT, app.name.as_str()].into_iter().map(Argument::new).collect::<Result<Vec<_>, _>>()?;
    // With this `journalctl -u` and `systemctl status` show the lines for the app's own unit, too.
    let of_unit = Argument::new(app_unit_name(&app.name)?.as_str())?;
    let of_unit = Variable::new("OBJECT_SYSTEMD_UNIT".parse()?, of_unit);
    let unit = bare(output_name(&app.name)?)
        .with(Setting::ConditionPathExists(MissingPath::new(interactive)))
        .with(Setting::StopWhenUnneeded(true))
        .with(Setting::Requires(journal_socket()?.into()))
        .with(Setting::After(journal_socket()?.into()))
        .with(Setting::Before(app_unit_name(&app.name)?.into()))
        // Nobody would hear the app any more, which would wait for that.
        .with(Setting::FailureAction(Action::Exit))
        .with(Setting::Type(ServiceType::Simple))
        .with(Setting::ExecStart(Exec::new(PROGRAM, arguments)?))
        .with(Setting::SyslogIdentifier(app.name.as_str().parse()?))
        .with(Setting::LogExtraFields(of_unit))
        .with(Setting::StandardOutput(StandardOutput::JournalAndConsole))
        .with(Setting::StandardError(StandardOutput::JournalAndConsole));
    Ok(Some(unit))
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
