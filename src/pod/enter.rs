//! Which app of a pod is entered, and with which program: the rest is the business of `stage1::enter`.

use std::time::Duration;

use super::app::{self, AppError};
use super::lifecycle::PodsDir;
use super::observe::{self, ObserveError, Observed, State};
use crate::appc::name::AcName;
use crate::appc::pod_manifest::{PodManifest, RuntimeApp};
use crate::appc::pod_uuid::PodUuid;
use crate::os::process::ProcessId;
use crate::os::{Hint, SysError, wait};
use crate::stage1::enter::{self as stage1, Command, Entrance};

/// What a user wants to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnterRequest {
    /// The app; needed when the pod has several.
    pub app: Option<AcName>,
    /// The program, by its path or a name for `PATH`, and its arguments.
    pub command: Vec<String>,
    /// The caller's `TERM`.
    pub term: Option<String>,
}

/// Why a command can't be run in a pod.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// It does not run.
    #[error("pod \"{0}\" isn't currently running")]
    NotRunning(PodUuid),
    /// It ended while it was waited for.
    #[error("unable to determine the pid for pod \"{0}\": pod {0} is not running anymore")]
    NotRunningAnymore(PodUuid),
    /// It has no app.
    #[error("pod contains zero apps")]
    NoApps,
    /// It has several.
    #[error("unable to determine app name: specify app using \"rkt enter --app= ...\"")]
    SeveralApps(Vec<AcName>),
    /// It has no such app.
    #[error("pod \"{uuid}\" has no app \"{app}\"")]
    NoSuchApp {
        /// The pod.
        uuid: PodUuid,
        /// What was asked for.
        app: AcName,
        /// What there is.
        apps: Vec<AcName>,
    },
    /// The program can't be found.
    #[error(transparent)]
    App(#[from] AppError),
    /// The pod's files are damaged.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// It could not be run.
    #[error(transparent)]
    Enter(#[from] stage1::EnterError),
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for EnterError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning(uuid) => Some(format!("`rkt status {uuid}` tells its state")),
            Self::NoSuchApp { apps, .. } => {
                let names: Vec<&str> = apps.iter().map(AcName::as_str).collect();
                Some(format!("its apps: {}", names.join(", ")))
            }
            Self::NotRunningAnymore(_) | Self::NoApps | Self::SeveralApps(_) => None,
            Self::App(AppError::NotFound { .. }) => {
                Some("name the program by its absolute path in the image".into())
            }
            Self::App(error) => error.hint(),
            Self::Observe(error) => error.hint(),
            Self::Enter(error) => error.hint(),
            Self::Sys(error) => error.hint(),
        }
    }
}

/// Runs a command in an app of the pod `uuid`, and returns its status.
///
/// # Errors
/// When the pod does not run, or the command can't be run in it.
pub fn enter(pods: &PodsDir, uuid: &PodUuid, request: &EnterRequest) -> Result<u8, EnterError> {
    let pod = observe::pod(pods, uuid)?;
    if pod.state != State::Running {
        return Err(EnterError::NotRunning(*uuid));
    }
    let manifest = observe::manifest(uuid, &pod.paths)?;
    let app = chosen(uuid, &manifest, request.app.as_ref())?;
    let leader = wait_for_init(pods, pod)?;
    let entrance = Entrance::open(leader)?;
    let command = command(app, request, &entrance)?;
    Ok(entrance.run(&command)?)
}

fn chosen<'a>(
    uuid: &PodUuid,
    manifest: &'a PodManifest,
    wanted: Option<&AcName>,
) -> Result<&'a RuntimeApp, EnterError> {
    let apps = || manifest.apps.iter().map(|app| app.name.clone()).collect();
    match (wanted, manifest.apps.as_slice()) {
        (_, []) => Err(EnterError::NoApps),
        (Some(app), _) => manifest.app(app).ok_or_else(|| EnterError::NoSuchApp {
            uuid: *uuid,
            app: app.clone(),
            apps: apps(),
        }),
        (None, [app]) => Ok(app),
        (None, _) => Err(EnterError::SeveralApps(apps())),
    }
}

/// Waits for the init of a pod that is starting.
fn wait_for_init(pods: &PodsDir, mut pod: Observed) -> Result<ProcessId, EnterError> {
    const STEP: Duration = Duration::from_millis(20);
    loop {
        // Before, the supervisor's child is one that still has the host's root.
        if let Some(init) = pod.find_init().filter(|init| init.is_init()) {
            return Ok(init);
        }
        wait::pause(STEP);
        let uuid = pod.uuid;
        pod = match observe::pod(pods, &uuid) {
            Err(ObserveError::Gone(_)) => return Err(EnterError::NotRunningAnymore(uuid)),
            other => other?,
        };
        if pod.state != State::Running {
            return Err(EnterError::NotRunningAnymore(uuid));
        }
    }
}

fn command(runtime: &RuntimeApp, request: &EnterRequest, entrance: &Entrance) -> Result<Command, EnterError> {
    let Some(section) = &runtime.app else { return Err(AppError::NoApp(runtime.image.id).into()) };
    let directory = app::working_directory(section)?;
    let environment = app::full_environment(runtime, section);
    let search = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    let first = request.command.first().map_or("", String::as_str);
    Ok(Command {
        app: runtime.name.clone(),
        id: PodUuid::new_random().to_string().replace('-', ""),
        program: app::program(first, &directory, search, &entrance.app_root(&runtime.name)?)?,
        argv: request.command.clone(),
        term: request.term.clone(),
    })
}
