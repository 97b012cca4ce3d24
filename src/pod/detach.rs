//! A pod in the background: a transient service of the host's systemd, whose command is `rkt run-prepared`.
//!
//! The pod is prepared by the caller, who sees what is wrong with it; the service only starts it. It is ready when the
//! pod's apps are, and nothing is left of one that did not become ready but the exited pod with its log.

use super::lifecycle::{MoveError, Pod, PodsDir, Preparing};
use super::observe::{self, ObserveError, State};
use super::roots;
use super::run::{Host, PodLimits, RunError, tell_of_missing_controllers};
use crate::appc::name::AcName;
use crate::appc::pod_uuid::PodUuid;
use crate::os::{Hint, SysError, interrupt};
use crate::systemd::bus::{BusError, ServiceRequest, Started};
use crate::systemd::unit_name::{UnitName, UnitNameError};

/// Why a pod does not run in the background.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// Its service did not come as far as the pod.
    #[error("{0} failed before the pod was started")]
    NotStarted(UnitName),
    /// The pod ended before all of its apps had started.
    #[error("pod {uuid} ended before it was ready{}", of_app(.app.as_ref()))]
    NotReady {
        /// The pod.
        uuid: PodUuid,
        /// An app that failed, and its status.
        app: Option<(AcName, u8)>,
    },
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
    /// It could not be started here, whoever starts it.
    #[error(transparent)]
    Start(#[from] RunError),
    /// systemd can't take it.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The pod can't be moved.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The pod's files are damaged.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The name of its service.
    #[error(transparent)]
    Name(#[from] UnitNameError),
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

fn of_app(app: Option<&(AcName, u8)>) -> String {
    app.map_or_else(String::new, |(name, status)| format!(": app \"{name}\" ended with status {status}"))
}

impl Hint for DetachError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotStarted(unit) => Some(format!("`journalctl -b -u {unit}` tells more")),
            Self::NotReady { uuid, .. } => Some(format!("`rkt logs {uuid}` shows what its apps said")),
            Self::Start(error) => error.hint(),
            Self::Bus(error) => error.hint(),
            Self::Move(error) => error.hint(),
            Self::Observe(error) => error.hint(),
            Self::Sys(error) => error.hint(),
            Self::Interrupted | Self::Name(_) => None,
        }
    }
}

/// The service that a pod in the background runs in.
///
/// # Errors
/// Never: the name has a length of its own.
pub fn service_name(uuid: &PodUuid) -> Result<UnitName, UnitNameError> {
    UnitName::service(&format!("rkt-{uuid}"))
}

/// How a pod in the background is started.
#[derive(Debug, Clone)]
pub struct DetachRequest {
    /// The words of this rkt's command line before the UUID: `run-prepared` with its flags, and what stands before.
    pub words: Vec<String>,
    /// The limits of the pod as a whole, which its service has.
    pub limits: PodLimits,
}

/// Starts `pod` by this very rkt as `request` says, and waits until it is ready.
///
/// # Errors
/// When it did not become ready; a pod that was not even started is removed.
pub fn start(
    host: Host,
    pods: &PodsDir,
    pod: Pod<Preparing>,
    request: DetachRequest,
    notice: impl Fn(&str),
) -> Result<PodUuid, DetachError> {
    const OWN: &str = "/proc/self/exe";
    let DetachRequest { words, limits } = request;
    tell_of_missing_controllers(limits, notice);
    let unit = service_name(pod.uuid())?;
    let paths = pod.paths();
    // A source that is missing is told here, and not in the service's log.
    let volumes =
        roots::open_volumes(&paths, &observe::manifest(pod.uuid(), &paths)?).map_err(RunError::from)?;
    let devices = roots::devices(roots::prepared_kernel_paths(&paths), &volumes);
    drop(volumes);
    let program = std::env::current_exe().map_err(SysError::on("looking at", OWN))?;
    let uuid = pod.into_prepared()?;
    let mut command = vec![program.display().to_string()];
    command.extend(words);
    command.push(uuid.to_string());
    let service = ServiceRequest {
        unit: unit.clone(),
        description: format!("rkt pod {uuid}"),
        command,
        devices,
        memory_max: limits.memory_max,
        cpu_quota_per_second_usec: limits.cpu_millicores.map(|millicores| millicores * 1000),
    };
    let outcome = host.bus.start_service(&service, interrupt::has_arrived);
    let error = match outcome {
        Ok(Started::Ready) => return Ok(uuid),
        Ok(Started::Failed) => None,
        Ok(Started::GivenUp) => Some(DetachError::Interrupted),
        Err(error) => Some(error.into()),
    };
    match (what_became_of(pods, &uuid)?, error) {
        (Fate::EndedWell, None) => Ok(uuid),
        (_, Some(error)) => Err(error),
        (Fate::Failed(app), None) => Err(DetachError::NotReady { uuid, app }),
        (Fate::NotStarted, None) => Err(DetachError::NotStarted(unit)),
    }
}

/// What a pod came to whose service did not become ready.
enum Fate {
    /// It was not started, and is gone.
    NotStarted,
    /// All of its apps have ended, and well, before the service could be called ready.
    EndedWell,
    /// It ended.
    Failed(Option<(AcName, u8)>),
}

fn what_became_of(pods: &PodsDir, uuid: &PodUuid) -> Result<Fate, DetachError> {
    let pod = observe::pod(pods, uuid)?;
    if pod.state == State::Prepared {
        if let Some(pod) = pods.hold_prepared(*uuid)? {
            pod.remove()?;
        }
        return Ok(Fate::NotStarted);
    }
    let apps = pod.apps?;
    let failed =
        apps.iter().find_map(|app| Some((app.name.clone(), app.end?.exit_code)).filter(|end| end.1 != 0));
    Ok(match failed {
        None if pod.state.has_exited() && apps.iter().all(|app| app.end.is_some()) => Fate::EndedWell,
        failed => Fate::Failed(failed),
    })
}
