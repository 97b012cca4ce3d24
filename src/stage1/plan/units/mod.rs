//! The units of a pod's systemd (DESIGN "The units").
//!
//! The pod ends with 0 when `rkt-apps.target` is needed by no app any more, and with the status of the first failing
//! app through its `rkt-failed@`. `default.target` requires every app: with `Wants=`, one that can't be loaded would
//! leave an empty pod for ever.

mod app;
mod enter;
mod interactive;
mod own;

use std::path::Path;

pub use self::enter::{enter_drop_in, enter_template, leash_template};
pub use self::interactive::{Interactive, interactive_drop_in, interactive_drop_in_dir};
use super::{AppSpec, KernelPaths, PodSpec};
use crate::appc::name::AcName;
use crate::stage1::status::STATUS_DIR;
use crate::stage1::verify::{Asked, ProtectedPaths};
use crate::systemd::unit::path::{ListenPath, UnitPath};
use crate::systemd::unit::value::Mode;
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

/// Tells whether a volume is at or below /sys, where the kernel's file system is otherwise.
fn has_own_sys(app: &AppSpec) -> bool {
    app.mounts.iter().any(|mount| Path::new(&mount.target).starts_with("/sys"))
}

/// What [`crate::stage1::verify`] compares the apps with, a line each.
pub(super) fn asked(pod: &PodSpec) -> Result<String, UnitNameError> {
    let mut text = String::new();
    for app in &pod.apps {
        let asked = Asked {
            unit: app_unit_name(&app.name)?.to_string(),
            capabilities: app.capabilities.map_or(u64::MAX, |set| set.bits()),
            no_new_privileges: app.no_new_privileges,
            filtered: app.filter.is_some(),
            protected_paths: match pod.kernel_paths {
                KernelPaths::Open => ProtectedPaths::None,
                KernelPaths::Protected if has_own_sys(app) => ProtectedPaths::WithoutSys,
                KernelPaths::Protected => ProtectedPaths::All,
            },
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
    let mut units = own::units(pod, &apps)?;
    units.push(enter::leash()?);
    for app in &pod.apps {
        units.extend(app::units(pod, app)?);
        units.extend(app::output_unit(app)?);
    }
    Ok(units)
}

/// The drop-ins of the units that are made when somebody enters, as units with their templates' names.
pub(super) fn drop_ins(pod: &PodSpec) -> Result<Vec<(String, Unit)>, UnitPlanError> {
    pod.apps.iter().map(|app| Ok((enter_drop_in(&app.name)?, enter::drop_in(pod, app)?))).collect()
}

/// A unit of ours stands alone: the dependencies that systemd adds by itself lead to units that are not there.
fn bare(name: UnitName) -> Unit {
    Unit::new(name).with(Setting::DefaultDependencies(false))
}

fn mark_unit(name: UnitName, mark: UnitPath) -> Result<Unit, UnitPlanError> {
    Ok(bare(name)
        .with(Setting::ListenFIFO(ListenPath::new(mark)?))
        .with(Setting::SocketMode(Mode::new(0o600)?))
        .with(Setting::Service(UnitName::service("rkt-mark")?)))
}

fn failed_name(app: &AcName) -> Result<UnitName, UnitNameError> {
    UnitName::template("rkt-failed", UnitKind::Service)?.with_instance(app.as_str())
}

fn ok_name(app: &AcName) -> Result<UnitName, UnitNameError> {
    UnitName::template("rkt-ok", UnitKind::Socket)?.with_instance(app.as_str())
}

fn output_name(app: &AcName) -> Result<UnitName, UnitNameError> {
    UnitName::template("rkt-output", UnitKind::Service)?.with_instance(app.as_str())
}

fn journal_socket() -> Result<UnitName, UnitNameError> {
    UnitName::socket("systemd-journald")
}

fn dev_log_socket() -> Result<UnitName, UnitNameError> {
    UnitName::socket("systemd-journald-dev-log")
}
