//! The app of an interactive pod: a drop-in of its unit, written when the pod starts, connects it with the caller.

use super::{UnitPlanError, app_unit_name};
use crate::appc::name::AcName;
use crate::stage1::plan::skeleton::IO_DIR;
use crate::systemd::unit::exec::{Argument, Variable};
use crate::systemd::unit::name::VariableNames;
use crate::systemd::unit::path::{StreamPath, UnitPath};
use crate::systemd::unit::stream::{StandardInput, StandardOutput};
use crate::systemd::unit::{Setting, Unit, ValueError};
use crate::systemd::unit_name::{UnitName, UnitNameError};

/// What the app of an interactive pod reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interactive {
    /// The pod's console, which the supervisor connects with the caller's terminal.
    Terminal {
        /// The name of that terminal.
        term: Option<String>,
    },
    /// FIFOs, which rkt connects with the caller's streams.
    Pipes,
}

/// Returns the directory of the drop-in of `app`, below the root of stage1.
///
/// # Errors
/// When the app's name is too long for a unit.
pub fn interactive_drop_in_dir(app: &AcName) -> Result<String, UnitNameError> {
    Ok(format!("etc/systemd/system/{}.d", app_unit_name(app)?))
}

/// Returns the text of the drop-in of `app`, which itself sets the variables `own`.
///
/// # Errors
/// When the app's name is too long for a unit; never for a value.
pub fn interactive_drop_in(app: &AcName, own: &[&str], how: &Interactive) -> Result<String, UnitPlanError> {
    let refused = |reason| UnitPlanError::Value { app: app.clone(), reason };
    let unit = Unit::new(app_unit_name(app)?).with(Setting::IgnoreSIGPIPE(false));
    let unit = match how {
        Interactive::Terminal { term } => unit
            .with(Setting::Wants(UnitName::service("rkt-supervised")?.into()))
            .with_all(on_console(own, term.as_deref()).map_err(refused)?),
        Interactive::Pipes => unit.with_all(on_fifos().map_err(refused)?),
    };
    Ok(unit.checked_text()?)
}

fn on_console(own: &[&str], term: Option<&str>) -> Result<Vec<Setting>, ValueError> {
    const SYSTEMD_ADDS: [&str; 3] = ["LANG", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"];
    let unset = SYSTEMD_ADDS.into_iter().chain(term.is_none().then_some("TERM"));
    let unset = unset.filter(|name| !own.contains(name)).map(str::parse);
    let mut settings = vec![
        Setting::StandardInput(StandardInput::Tty),
        Setting::StandardOutput(StandardOutput::Tty),
        Setting::StandardError(StandardOutput::Tty),
        Setting::TTYPath(UnitPath::new("/dev/console")?),
        Setting::UnsetEnvironment(VariableNames::forget()),
        Setting::UnsetEnvironment(unset.collect::<Result<_, _>>()?),
    ];
    if let Some(term) = term {
        settings.push(Setting::Environment(Variable::new("TERM".parse()?, Argument::new(term)?)));
    }
    Ok(settings)
}

fn on_fifos() -> Result<Vec<Setting>, ValueError> {
    let fifo = |name: &str| UnitPath::new(&format!("/{IO_DIR}/{name}")).and_then(StreamPath::new);
    Ok(vec![
        Setting::StandardInput(StandardInput::File(fifo("stdin")?)),
        Setting::StandardOutput(StandardOutput::File(fifo("stdout")?)),
        Setting::StandardError(StandardOutput::File(fifo("stderr")?)),
    ])
}
