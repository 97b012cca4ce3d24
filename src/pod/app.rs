//! From an image and the user's wishes to an app: first as the pod manifest says it, then as it will be executed.
//!
//! Everything that the image wrote is looked up in its own tree, by descriptors that can't leave it.

use std::collections::BTreeMap;
use std::path::Path;

use super::user::{Principal, PrincipalError, resolve};
use super::volume;
use crate::appc::app::{App, EnvironmentVariable};
use crate::appc::capability::CapabilitySet;
use crate::appc::image_id::ImageId;
use crate::appc::image_manifest::ImageManifest;
use crate::appc::isolator::filter::{Filtering, filtering};
use crate::appc::isolator::{self, Isolator, IsolatorError};
use crate::appc::label::Annotation;
use crate::appc::name::AcName;
use crate::appc::platform::PlatformError;
use crate::appc::pod_manifest::{Mount, RuntimeApp, RuntimeImage};
use crate::image::oci::convert::STOP_SIGNAL;
use crate::os::{Hint, SysError, root::Root};
use crate::stage1::plan::{AppSpec, Output};

/// Where programs are looked for when the app has no `PATH` (spec pods.md 3.6), after its working directory.
const DEFAULT_SEARCH: &str = "/bin:/usr/bin";
/// The annotation of an image whose app reports its readiness itself (spec pods.md 3.6).
const NOTIFIES: &str = "appc.io/executor/supports-systemd-notify";
/// The annotation that docker2aci leaves (spec images.md 2.6).
pub(super) const FROM_DOCKER: &str = "appc.io/docker/repository";
/// What every app finds set, if nothing else sets it (spec pods.md 3.5).
const DEFAULT_ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("SHELL", "/bin/sh"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("HOME", "/root"),
    ("container", "rkt"),
];

/// What the user wants of one app beyond what its image says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRequest {
    /// Its image.
    pub image: ImageId,
    /// Its name; by default the last part of the image's.
    pub name: Option<AcName>,
    /// Replaces the image's command.
    pub exec: Option<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Replaces the image's group.
    pub group: Option<String>,
    /// Replaces the image's working directory.
    pub working_directory: Option<String>,
    /// Adds to and replaces in the image's environment.
    pub environment: Vec<(String, String)>,
    /// Replaces the image's further groups.
    pub supplementary_gids: Option<Vec<u32>>,
    /// Limits and rights in the place of the image's.
    pub isolators: Vec<Isolator>,
    /// Whether its root is read-only.
    pub read_only_root: bool,
    /// What the pod manifest says beside the image's own annotations.
    pub annotations: Vec<Annotation>,
    /// Replaces the image's, unless empty.
    pub user_annotations: BTreeMap<String, String>,
    /// Replaces the image's, unless empty.
    pub user_labels: BTreeMap<String, String>,
    /// Volumes of the pod at paths of this app.
    pub mounts: Vec<Mount>,
}

/// The environment that the user gives to all apps of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodEnvironment {
    /// The caller's own, for what the image does not set (`--inherit-env`).
    pub inherited: Vec<(String, String)>,
    /// From files, then from flags; a later one wins (`--set-env-file`, `--set-env`).
    pub set: Vec<(String, String)>,
}

/// Why an image can't be an app.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Nothing to execute.
    #[error("image {0} has no app section and --exec argument is not provided")]
    NoApp(ImageId),
    /// Nothing to execute either.
    #[error("image \"{0}\" has an empty \"exec\" (try --exec=BINARY)")]
    EmptyExec(String),
    /// No name can be made of the image's.
    #[error("no name for an app can be made of the image name \"{0}\"")]
    NoName(String),
    /// The image is for no platform of ours.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Which one is meant?
    #[error("error: cannot use both --caps-retain and --caps-remove on the same image")]
    BothCapabilityFlags,
    /// A limit or right that can't be given.
    #[error("app \"{app}\": {reason}")]
    Isolator {
        /// The app.
        app: AcName,
        /// Why not.
        reason: IsolatorError,
    },
    /// The image needs what this version does not do.
    #[error("app \"{app}\": its image asks for {feature}, which this version does not support yet")]
    Later {
        /// The app.
        app: AcName,
        /// What it needs.
        feature: String,
    },
    /// The command is nowhere.
    #[error("unable to find {program:?} in {searched:?}")]
    NotFound {
        /// As the image or the user wrote it.
        program: String,
        /// The directories that were searched.
        searched: String,
    },
    /// The user or group is nobody.
    #[error("failed to configure {kind} {text:?}")]
    Principal {
        /// `user` or `group`.
        kind: &'static str,
        /// What was asked for.
        text: String,
        /// Why not.
        source: PrincipalError,
    },
    /// The working directory is not absolute.
    #[error("working directory {0:?} is not absolute")]
    WorkingDirectory(String),
    /// A file of the app's root can't be looked at.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for AppError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoName(_) => Some("give it a name with --name".into()),
            Self::NotFound { .. } => {
                Some("name the program by its absolute path in the image with --exec".into())
            }
            Self::Principal { .. } => Some("give a number or a name of the image's own files".into()),
            Self::Platform(error) => error.hint(),
            Self::Isolator { reason, .. } => reason.hint(),
            Self::Sys(error) => error.hint(),
            Self::NoApp(_)
            | Self::EmptyExec(_)
            | Self::BothCapabilityFlags
            | Self::Later { .. }
            | Self::WorkingDirectory(_) => None,
        }
    }
}

/// The app's name: the one given, else the last part of the image's, made to fit (spec pods.md 3.1).
///
/// # Errors
/// When nothing fits.
pub fn name(request: &AppRequest, image: &ImageManifest) -> Result<AcName, AppError> {
    if let Some(name) = &request.name {
        return Ok(name.clone());
    }
    let image_name = image.name.as_str();
    let last = image_name.rsplit('/').next().unwrap_or(image_name);
    AcName::sanitize(last).map_err(|_| AppError::NoName(image_name.to_owned()))
}

/// Merges the user's wishes into what the image says: the app as the pod manifest holds it.
///
/// # Errors
/// When there is nothing to execute, or the image is not for this platform.
pub fn runtime_app(
    request: &AppRequest,
    image: &ImageManifest,
    pod: &PodEnvironment,
) -> Result<RuntimeApp, AppError> {
    image.check_runnable()?;
    let mut app = match (&image.app, &request.exec) {
        (Some(app), _) => app.clone(),
        (None, Some(_)) => App::new("0", "0"),
        (None, None) => return Err(AppError::NoApp(request.image)),
    };
    if let Some(program) = &request.exec {
        app.exec = vec![program.clone()];
    }
    app.exec.extend(request.args.iter().cloned());
    app.user = request.user.clone().unwrap_or(app.user);
    app.group = request.group.clone().unwrap_or(app.group);
    app.working_directory = request.working_directory.clone().unwrap_or(app.working_directory);
    app.environment = environment(&app.environment, request, pod);
    app.supplementary_gids = request.supplementary_gids.clone().unwrap_or(app.supplementary_gids);
    replace_isolators(&mut app.isolators, &request.isolators)?;
    if !request.user_annotations.is_empty() {
        app.user_annotations.clone_from(&request.user_annotations);
    }
    if !request.user_labels.is_empty() {
        app.user_labels.clone_from(&request.user_labels);
    }
    let labels = image.labels.clone();
    let runtime = RuntimeImage { name: Some(image.name.clone()), id: request.image, labels };
    Ok(RuntimeApp {
        app: Some(app),
        read_only_root_fs: request.read_only_root,
        annotations: request.annotations.clone(),
        ..RuntimeApp::new(name(request, image)?, runtime)
    })
}

fn replace_isolators(isolators: &mut Vec<Isolator>, by: &[Isolator]) -> Result<(), AppError> {
    let has = |wanted: fn(&Isolator) -> bool| by.iter().any(wanted);
    if has(|isolator| matches!(isolator, Isolator::CapabilitiesRetain(_)))
        && has(|isolator| matches!(isolator, Isolator::CapabilitiesRemove(_)))
    {
        return Err(AppError::BothCapabilityFlags);
    }
    isolators.retain(|old| !by.iter().any(|new| new.replaces(old)));
    isolators.extend(by.iter().cloned());
    Ok(())
}

/// Lowest to highest: inherited, the image's, `--environment`, `--set-env-file`, `--set-env` (spec pods.md 3.5).
fn environment(
    image: &[EnvironmentVariable],
    request: &AppRequest,
    pod: &PodEnvironment,
) -> Vec<EnvironmentVariable> {
    let image = image.iter().map(|variable| (variable.name.clone(), variable.value.clone()));
    let layers = pod.inherited.iter().cloned().chain(image);
    let layers = layers.chain(request.environment.iter().cloned()).chain(pod.set.iter().cloned());
    let mut merged: Vec<EnvironmentVariable> = Vec::new();
    for (name, value) in layers {
        match merged.iter_mut().find(|variable| variable.name == name) {
            Some(variable) => variable.value = value,
            None => merged.push(EnvironmentVariable { name, value }),
        }
    }
    merged
}

/// Whether apps are bound to their capability sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capabilities {
    /// To the image's isolators, by default the 14.
    Bounded,
    /// The user switched that off.
    Unbounded,
}

/// Whether system call filters are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seccomp {
    /// They are.
    Filtered,
    /// The user switched that off.
    Unfiltered,
}

/// Resolves names, paths and limits of an app in its root `root`: what will be executed.
///
/// # Errors
/// When something is not there, or needs what this version does not do: nothing is left out in silence.
pub fn spec(
    runtime: &RuntimeApp,
    image: &ImageManifest,
    root: &Root,
    restrictions: (Capabilities, Seccomp),
) -> Result<AppSpec, AppError> {
    let Some(app) = &runtime.app else { return Err(AppError::NoApp(runtime.image.id)) };
    refuse_what_comes_later(&runtime.name, app)?;
    let Some(first) = app.exec.first().filter(|program| !program.is_empty()) else {
        return Err(AppError::EmptyExec(image.name.to_string()));
    };
    let working_directory = working_directory(app)?;
    let (user, group) = principals(app, image, root)?;
    let isolator = |reason| AppError::Isolator { app: runtime.name.clone(), reason };
    let isolators = &app.isolators;
    let cpu = isolator::cpu_limit(isolators).map_err(isolator)?;
    let filter = match restrictions.1 {
        Seccomp::Filtered => filtering(isolators).map_err(isolator)?.filter,
        Seccomp::Unfiltered => None,
    };
    Ok(AppSpec {
        description: match image.label("version") {
            Some(version) => format!("{}:{version}", image.name),
            None => image.name.to_string(),
        },
        program: program(first, &working_directory, app.environment_value("PATH"), root)?,
        argv: app.exec.clone(),
        working_directory,
        user,
        group,
        supplementary_groups: app.supplementary_gids.clone(),
        environment: full_environment(runtime, app),
        capabilities: match restrictions.0 {
            Capabilities::Bounded => Some(isolator::capability_set(isolators).map_err(isolator)?),
            Capabilities::Unbounded => None,
        },
        // systemd needs it to filter a user who has no rights, and says so nowhere.
        no_new_privileges: isolator::no_new_privileges(isolators) || (user != 0 && filter.is_some()),
        filter,
        memory_max: isolator::memory_limit(isolators)
            .map_err(isolator)?
            .map(|limit| limit.byte_size().bytes()),
        cpu_millicores: cpu.map(isolator::CpuLimit::milli_cores),
        cpu_weight: isolator::cpu_shares(isolators).map(|shares| weight(shares.get())),
        oom_score_adjust: isolator::oom_score_adj(isolators).map(|adjust| adjust.get().into()),
        read_only_root: runtime.read_only_root_fs,
        output: match image.annotation(FROM_DOCKER) {
            Some(_) => Output::Fifo,
            None => Output::Journal,
        },
        stop_signal: image.annotation(STOP_SIGNAL).and_then(|name| name.parse().ok()),
        notifies: image.annotation(NOTIFIES) == Some("true"),
        mounts: Vec::new(),
        name: runtime.name.clone(),
    })
}

/// Who says which capabilities an app has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantedBy {
    /// The user, who knows it.
    User,
    /// Its image.
    Image,
}

/// What the user should know about the rights of an app: names that did not count, and what its image takes.
pub fn notices(
    runtime: &RuntimeApp,
    granted_by: GrantedBy,
    restrictions: (Capabilities, Seccomp),
) -> Vec<String> {
    let RuntimeApp { name, app: Some(app), .. } = runtime else { return Vec::new() };
    let mut notices = Vec::new();
    if restrictions.1 == Seccomp::Filtered
        && let Ok(Filtering { ignored, .. }) = filtering(&app.isolators)
    {
        let told = |reason| format!("app \"{name}\": a name in its system call filter is ignored: {reason}");
        notices.extend(ignored.into_iter().map(told));
    }
    if let (Capabilities::Bounded, GrantedBy::Image, Ok(set)) =
        (restrictions.0, granted_by, isolator::capability_set(&app.isolators))
    {
        let more = set.difference(CapabilitySet::DEFAULT);
        if !more.is_empty() {
            notices.push(format!("app \"{name}\": its image gives it more capabilities than usual: {more}"));
        }
    }
    notices
}

/// Maps cpu-shares to `CPUWeight=`: 1024 is 100 (spec pods.md 3.8).
fn weight(shares: u32) -> u64 {
    (u64::from(shares) * 100 / 1024).clamp(1, 10_000)
}

fn refuse_what_comes_later(name: &AcName, app: &App) -> Result<(), AppError> {
    let later = |feature: String| Err(AppError::Later { app: name.clone(), feature });
    if let Some(handler) = app.event_handlers.first() {
        return later(format!("the event handler \"{}\"", handler.name.as_str()));
    }
    if let Some(port) = app.ports.iter().find(|port| port.socket_activated) {
        return later(format!("socket activation of the port \"{}\"", port.name));
    }
    Ok(())
}

/// The directory in which an app starts.
///
/// # Errors
/// When its path is relative.
pub(super) fn working_directory(app: &App) -> Result<String, AppError> {
    match app.working_directory.as_str() {
        "" => Ok("/".to_owned()),
        absolute if absolute.starts_with('/') => Ok(cleaned(Path::new(absolute))),
        relative => Err(AppError::WorkingDirectory(relative.to_owned())),
    }
}

fn principals(app: &App, image: &ImageManifest, root: &Root) -> Result<(u32, u32), AppError> {
    let failed = |kind, text: &str| {
        let text = text.to_owned();
        move |source| AppError::Principal { kind, text, source }
    };
    let user = resolve(root, Principal::User, &app.user).map_err(failed("user", &app.user))?;
    let group = match resolve(root, Principal::Group, &app.group) {
        // docker2aci writes the user's name for a missing group.
        Err(error)
            if error.is_not_found() && app.group == app.user && image.annotation(FROM_DOCKER).is_some() =>
        {
            user
        }
        other => other.map_err(failed("group", &app.group))?,
    };
    Ok((user, group))
}

/// Finds the program of an app: absolute as it is, with a slash below the working directory, else in the search path.
///
/// # Errors
/// When it is nowhere there.
pub(super) fn program(
    first: &str,
    working_directory: &str,
    search: Option<&str>,
    root: &Root,
) -> Result<String, AppError> {
    let below = |dir: &str| cleaned(&Path::new(working_directory).join(dir).join(first));
    if first.starts_with('/') {
        return Ok(cleaned(Path::new(first)));
    }
    if first.contains('/') {
        return Ok(below("."));
    }
    let searched = search.map_or_else(|| format!("{working_directory}:{DEFAULT_SEARCH}"), str::to_owned);
    for dir in searched.split(':') {
        let path = below(if dir.is_empty() { "." } else { dir });
        if root.find_file(Path::new(&path))?.is_some_and(|file| file.is_executable()) {
            return Ok(path);
        }
    }
    Err(AppError::NotFound { program: first.to_owned(), searched })
}

/// Takes `.` and `..` out of an absolute path as a shell would: systemd refuses them.
fn cleaned(path: &Path) -> String {
    volume::target(&path.to_string_lossy()).to_string_lossy().into_owned()
}

/// The whole environment of an app as its process has it.
pub(super) fn full_environment(runtime: &RuntimeApp, app: &App) -> Vec<(String, String)> {
    let mut environment: Vec<(String, String)> =
        app.environment.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect();
    environment.retain(|(name, _)| name != "AC_APP_NAME");
    environment.push(("AC_APP_NAME".into(), runtime.name.to_string()));
    for (name, value) in DEFAULT_ENVIRONMENT {
        if !environment.iter().any(|(set, _)| set == name) {
            environment.push((name.into(), value.into()));
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    fn image(app: &str) -> ImageManifest {
        let labels = r#"[{"name":"os","value":"linux"},{"name":"arch","value":"amd64"},{"name":"version","value":"1"}]"#;
        let text = format!(
            r#"{{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/web","labels":{labels}{app}}}"#
        );
        ImageManifest::from_json(text.as_bytes()).unwrap()
    }

    fn request() -> AppRequest {
        AppRequest {
            image: ImageId::from_sha512(&[7; 64]),
            name: None,
            exec: None,
            args: vec![],
            user: None,
            group: None,
            working_directory: None,
            environment: vec![],
            supplementary_gids: None,
            isolators: vec![],
            read_only_root: false,
            annotations: vec![],
            user_annotations: BTreeMap::new(),
            user_labels: BTreeMap::new(),
            mounts: vec![],
        }
    }

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for path in ["bin/app", "usr/bin/tool", "srv/tool", "bin/data"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::set_permissions(dir.path().join("bin/data"), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    fn planned(app: &str, request: &AppRequest) -> Result<AppSpec, AppError> {
        let image = image(app);
        let (_dir, root) = root();
        let runtime = runtime_app(request, &image, &PodEnvironment::default())?;
        spec(&runtime, &image, &root, (Capabilities::Bounded, Seccomp::Filtered))
    }

    const APP: &str = r#","app":{"exec":["app","-x"],"user":"0","group":"0"}"#;

    #[test]
    fn the_command_is_found_as_the_specification_says() {
        for (exec, directory, path, expected) in [
            ("app", None, None, Ok("/bin/app")),
            ("tool", None, None, Ok("/usr/bin/tool")),
            ("tool", Some("/srv"), None, Ok("/srv/tool")),
            ("tool", Some("/srv"), Some("/bin:/usr/bin"), Ok("/usr/bin/tool")),
            ("tool", Some("/srv"), Some("../usr/bin"), Ok("/usr/bin/tool")),
            ("./x/../tool", Some("/srv"), None, Ok("/srv/tool")),
            ("/no/such", None, None, Ok("/no/such")),
            ("data", None, None, Err("unable to find \"data\" in \"/:/bin:/usr/bin\"")),
            ("none", None, Some("/bin"), Err("unable to find \"none\" in \"/bin\"")),
        ] {
            let request = AppRequest {
                exec: Some(exec.into()),
                working_directory: directory.map(str::to_owned),
                environment: path.map(|path| ("PATH".to_owned(), path.to_owned())).into_iter().collect(),
                ..request()
            };
            let found = planned(APP, &request).map(|app| app.program).map_err(|error| error.to_string());
            assert_eq!(
                found.as_deref(),
                expected.map_err(str::to_owned).as_deref(),
                "{exec} in {directory:?}"
            );
        }
    }

    #[test]
    fn arguments_follow_the_image_s_own_command_and_exec_replaces_it() {
        let with = |exec: Option<&str>| {
            let request = AppRequest { exec: exec.map(str::to_owned), args: vec!["$y".into()], ..request() };
            planned(APP, &request).unwrap().argv
        };
        assert_eq!(with(None), ["app", "-x", "$y"]);
        assert_eq!(with(Some("/bin/app")), ["/bin/app", "$y"]);
    }

    #[test]
    fn later_layers_of_the_environment_win() {
        let app = r#","app":{"exec":["app"],"user":"0","group":"0","environment":[{"name":"A","value":"image"},{"name":"B","value":"image"}]}"#;
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let pod = PodEnvironment {
            inherited: pairs(&[("A", "host"), ("H", "host")]),
            set: pairs(&[("C", "file"), ("C", "flag")]),
        };
        let request = AppRequest { environment: pairs(&[("B", "app"), ("C", "app")]), ..request() };
        let runtime = runtime_app(&request, &image(app), &pod).unwrap();
        let variables: Vec<String> = runtime
            .app
            .unwrap()
            .environment
            .iter()
            .map(|variable| format!("{}={}", variable.name, variable.value))
            .collect();
        assert_eq!(variables, ["A=image", "H=host", "B=app", "C=flag"]);
    }

    #[test]
    fn what_an_image_needs_and_is_not_there_yet_is_named() {
        let app = r#","app":{"exec":["app"],"user":"0","group":"0","eventHandlers":[{"name":"pre-start","exec":["/x"]}]}"#;
        let error = "app \"web\": its image asks for the event handler \"pre-start\", which this version does not support yet";
        assert_eq!(planned(app, &request()).unwrap_err().to_string(), error);
    }

    fn isolator(name: &str, value: serde_json::Value) -> Isolator {
        Isolator::parse(name, &value).unwrap()
    }

    #[test]
    fn a_user_s_isolators_take_the_place_of_the_image_s() {
        let image = r#","app":{"exec":["app"],"user":"0","group":"0","isolators":[
            {"name":"os/linux/capabilities-remove-set","value":{"set":["CAP_KILL"]}},
            {"name":"os/linux/capabilities-remove-set","value":{"set":["CAP_MKNOD"]}},
            {"name":"os/linux/seccomp-remove-set","value":{"set":["chmod"]}},
            {"name":"os/linux/oom-score-adj","value":5}]}"#;
        let asked = vec![
            isolator("os/linux/capabilities-retain-set", json!({"set": ["CAP_CHOWN"]})),
            isolator("os/linux/seccomp-retain-set", json!({"set": ["@appc.io/all"]})),
        ];
        let own = planned(image, &request()).unwrap();
        assert_eq!(own.capabilities.map(|set| set.iter().count()), Some(12));
        assert_eq!(own.filter.unwrap().written().1, ["chmod"]);
        let changed = planned(image, &AppRequest { isolators: asked, ..request() }).unwrap();
        assert_eq!(changed.capabilities.map(|set| set.to_string()).as_deref(), Some("CAP_CHOWN"));
        assert_eq!((changed.filter, changed.oom_score_adjust), (None, Some(5)));

        let both = ["os/linux/capabilities-retain-set", "os/linux/capabilities-remove-set"]
            .map(|name| isolator(name, json!({"set": ["CAP_CHOWN"]})));
        assert_eq!(
            planned(image, &AppRequest { isolators: both.into(), ..request() }).unwrap_err().to_string(),
            "error: cannot use both --caps-retain and --caps-remove on the same image"
        );
    }

    #[test]
    fn a_filter_makes_set_id_bits_void_for_all_but_root() {
        let as_user = AppRequest { user: Some("1000".into()), ..request() };
        let all = isolator("os/linux/seccomp-retain-set", json!({"set": ["@appc.io/all"]}));
        assert!(planned(APP, &as_user).unwrap().no_new_privileges);
        assert!(!planned(APP, &request()).unwrap().no_new_privileges);
        assert!(!planned(APP, &AppRequest { isolators: vec![all], ..as_user }).unwrap().no_new_privileges);
    }

    #[test]
    fn the_user_is_told_what_an_image_gives_itself_and_what_did_not_count() {
        let app = r#","app":{"exec":["app"],"user":"0","group":"0","isolators":[
            {"name":"os/linux/capabilities-retain-set","value":{"set":["CAP_CHOWN","CAP_SYS_TIME"]}},
            {"name":"os/linux/seccomp-remove-set","value":{"set":["bogus"]}}]}"#;
        let restrictions = (Capabilities::Bounded, Seccomp::Filtered);
        let runtime =
            |request: &AppRequest| runtime_app(request, &image(app), &PodEnvironment::default()).unwrap();
        let plain = runtime(&request());
        assert_eq!(
            notices(&plain, GrantedBy::Image, restrictions),
            [
                "app \"web\": a name in its system call filter is ignored: \"bogus\" is no system call or set of them that is known",
                "app \"web\": its image gives it more capabilities than usual: CAP_SYS_TIME",
            ]
        );
        let retain = isolator("os/linux/capabilities-retain-set", json!({"set": ["CAP_SYS_TIME"]}));
        let asked = AppRequest { isolators: vec![retain], ..request() };
        let none = (Capabilities::Bounded, Seccomp::Unfiltered);
        assert!(notices(&runtime(&asked), GrantedBy::User, none).is_empty());
    }

    #[test]
    fn the_user_s_words_go_to_the_manifest() {
        let image = image(
            r#","app":{"exec":["app"],"user":"0","group":"0","supplementaryGIDs":[7],
                "userAnnotations":{"a":"image","b":"image"},"userLabels":{"l":"image"}}"#,
        );
        let asked = AppRequest {
            supplementary_gids: Some(vec![5, 6]),
            read_only_root: true,
            annotations: vec![Annotation::new("note".parse().unwrap(), "line\nbreak")],
            user_annotations: BTreeMap::from([("a".into(), "user".into())]),
            ..request()
        };
        let runtime = runtime_app(&asked, &image, &PodEnvironment::default()).unwrap();
        assert_eq!((runtime.read_only_root_fs, runtime.annotations), (true, asked.annotations));
        let app = runtime.app.unwrap();
        assert_eq!(app.supplementary_gids, [5, 6]);
        assert_eq!(app.user_annotations, asked.user_annotations);
        assert_eq!(app.user_labels, BTreeMap::from([("l".into(), "image".into())]));
    }

    #[test]
    fn an_image_without_a_command_needs_one() {
        let id = request().image;
        for (app, expected) in [
            ("", format!("image {id} has no app section and --exec argument is not provided")),
            (
                r#","app":{"user":"0","group":"0"}"#,
                "image \"example.com/web\" has an empty \"exec\" (try --exec=BINARY)".to_owned(),
            ),
        ] {
            assert_eq!(planned(app, &request()).unwrap_err().to_string(), expected);
        }
    }
}
