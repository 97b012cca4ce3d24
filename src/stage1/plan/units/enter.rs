//! What an entered command gets: everything that its app has, written when the pod is prepared (DESIGN "Enter").
//!
//! The command itself is a transient unit of the pod's systemd, `rkt-enter-APP@ID.service`, for which this drop-in of its
//! template is read. It is the last word, since systemd reads drop-ins after what a transient unit was asked to be: who
//! enters can say what is executed, but not with which rights.

use super::app::{Terminal, identity, limits, sandbox};
use super::{UnitPlanError, bare};
use crate::appc::name::AcName;
use crate::stage1::plan::{AppSpec, PodSpec};
use crate::systemd::unit::path::{ListenPath, UnitPath};
use crate::systemd::unit::value::{CollectMode, ServiceType, TimeSpan};
use crate::systemd::unit::{Setting, Unit, ValueError};
use crate::systemd::unit_name::{UnitKind, UnitName, UnitNameError};

/// How long a command may take to stop before it is killed: the end of the pod waits for it.
const STOP_TIMEOUT: TimeSpan = TimeSpan::seconds(1);

/// Returns the template of the units of commands that are entered into `app`.
///
/// # Errors
/// When the app's name is too long for a unit.
pub fn enter_template(app: &AcName) -> Result<UnitName, UnitNameError> {
    UnitName::template(&format!("rkt-enter-{app}"), UnitKind::Service)
}

/// Returns the drop-in of [`enter_template`], below the root of stage1.
///
/// # Errors
/// When the app's name is too long for a unit.
pub fn enter_drop_in(app: &AcName) -> Result<String, UnitNameError> {
    Ok(format!("etc/systemd/system/{}.d/app.conf", enter_template(app)?))
}

/// Returns the unit that ends a command when the `rkt enter` which started it is gone.
///
/// # Errors
/// Never: the name has a length of its own.
pub fn leash_template() -> Result<UnitName, UnitNameError> {
    UnitName::template("rkt-leash", UnitKind::Socket)
}

/// The drop-in of an app, as a unit with the template's name.
pub(super) fn drop_in(pod: &PodSpec, app: &AppSpec) -> Result<Unit, UnitPlanError> {
    let refused = |reason| UnitPlanError::Value { app: app.name.clone(), reason };
    let settings = settings(pod, app).map_err(refused)?;
    let exit = UnitName::service("rkt-exit")?;
    Ok(bare(enter_template(&app.name)?)
        // What was entered is forgotten at once, however it ended; nobody asks for it later.
        .with(Setting::CollectMode(CollectMode::InactiveOrFailed))
        // It is stopped with the apps. Left to the last killing of all processes, one that ignores SIGTERM would hold the
        // pod for as long as that waits.
        .with(Setting::Conflicts(exit.clone().into()))
        .with(Setting::Before(exit.into()))
        .with_all(settings))
}

fn settings(pod: &PodSpec, app: &AppSpec) -> Result<Vec<Setting>, ValueError> {
    let mut settings = vec![
        Setting::Type(ServiceType::Exec),
        Setting::TimeoutStopSec(STOP_TIMEOUT),
        // A shell takes no SIGTERM when it talks to a person.
        Setting::SendSIGHUP(true),
        // As at a prompt: `yes | head` ends quietly.
        Setting::IgnoreSIGPIPE(false),
    ];
    settings.extend(identity(app, Terminal::Known)?);
    settings.extend(limits(app)?);
    settings.extend(sandbox(pod, app)?);
    Ok(settings)
}

/// Hangs on a pseudo terminal of the pod of which `rkt enter` holds the other end. Nobody types on it; its hang-up, which
/// comes however that process died, makes systemd give this socket up, and stop the command that is bound to it.
pub(super) fn leash() -> Result<Unit, UnitPlanError> {
    Ok(bare(leash_template()?)
        .with(Setting::StopWhenUnneeded(true))
        .with(Setting::CollectMode(CollectMode::InactiveOrFailed))
        .with(Setting::StartLimitIntervalSec(TimeSpan::seconds(0)))
        .with(Setting::ListenSpecial(ListenPath::new(UnitPath::around_instance("/dev/pts/", "")?)?))
        .with(Setting::Service(UnitName::service("rkt-mark")?)))
}
