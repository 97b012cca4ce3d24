//! The log of a pod: journalctl(1), called with the pod's own journal directory.
//!
//! The directory is read, and not the host's link to it or the machine: so the log is there while the pod runs and after
//! it has exited, on a host without a persistent journal too. What apps wrote is shown as journalctl shows it: on a
//! terminal, control characters are escaped.

use std::collections::BTreeMap;
use std::path::Path;

use super::lifecycle::PodsDir;
use super::observe::{self, ObserveError};
use crate::appc::name::AcName;
use crate::appc::pod_uuid::PodUuid;
use crate::os::Hint;
use crate::os::process::Program;

/// Where journalctl is, on every distribution with a merged /usr.
const JOURNALCTL: &str = "/usr/bin/journalctl";

/// Which lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// The app; all without.
    pub app: Option<AcName>,
    /// Whether new lines are waited for.
    pub follow: bool,
    /// The last so many.
    pub lines: Option<String>,
    /// Not older than this.
    pub since: Option<String>,
    /// Not newer than this.
    pub until: Option<String>,
    /// The form of a line.
    pub output: Option<String>,
}

/// Why a log can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The pod's files are damaged.
    #[error(transparent)]
    Observe(#[from] ObserveError),
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
    /// It has not run yet.
    #[error("pod \"{0}\" has no log yet")]
    NoLog(PodUuid),
    /// journalctl is not installed.
    #[error("{JOURNALCTL} does not exist")]
    NoJournalctl,
}

impl Hint for LogError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Observe(error) => error.hint(),
            Self::NoSuchApp { apps, .. } => {
                let names: Vec<&str> = apps.iter().map(AcName::as_str).collect();
                Some(format!("its apps: {}", names.join(", ")))
            }
            Self::NoLog(uuid) => Some(format!("`rkt run-prepared {uuid}` starts it")),
            Self::NoJournalctl => Some("install it: the package is called systemd".into()),
        }
    }
}

/// Returns the command that shows the log of the pod `uuid`; `variable` reads the caller's environment.
///
/// # Errors
/// When the pod or the app is not there, or has not run.
pub fn command(
    pods: &PodsDir,
    uuid: &PodUuid,
    request: &LogRequest,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Program, LogError> {
    let pod = observe::pod(pods, uuid)?;
    let journal = pod.paths.stage1_root().join("var/log/journal").join(uuid.machine_id());
    let names: Vec<AcName> = pod.apps?.into_iter().map(|app| app.name).collect();
    let shown = match &request.app {
        Some(app) if !names.contains(app) => {
            return Err(LogError::NoSuchApp { uuid: *uuid, app: app.clone(), apps: names });
        }
        Some(app) => vec![app.clone()],
        None => names,
    };
    if pod.started.is_none() {
        return Err(LogError::NoLog(*uuid));
    }
    if !Path::new(JOURNALCTL).exists() {
        return Err(LogError::NoJournalctl);
    }
    Ok(program(&journal, &shown, request, variable))
}

fn program(
    journal: &Path,
    apps: &[AcName],
    request: &LogRequest,
    variable: impl Fn(&str) -> Option<String>,
) -> Program {
    // What decides how journalctl shows lines; nothing else of the caller's is its business.
    const SHOWN_BY: [&str; 14] = [
        "TERM",
        "COLUMNS",
        "LINES",
        "LANG",
        "LC_ALL",
        "LC_TIME",
        "LC_CTYPE",
        "TZ",
        "NO_COLOR",
        "PAGER",
        "LESS",
        "SYSTEMD_PAGER",
        "SYSTEMD_LESS",
        "SYSTEMD_COLORS",
    ];
    let mut args =
        vec![format!("--directory={}", journal.display()), "--quiet".into(), "--no-hostname".into()];
    args.extend(apps.iter().map(|app| format!("--identifier={app}")));
    args.extend(request.follow.then(|| "--follow".into()));
    for (flag, value) in [
        ("lines", &request.lines),
        ("since", &request.since),
        ("until", &request.until),
        ("output", &request.output),
    ] {
        args.extend(value.iter().map(|value| format!("--{flag}={value}")));
    }
    let mut env: BTreeMap<String, String> =
        SHOWN_BY.into_iter().filter_map(|name| Some((name.to_owned(), variable(name)?))).collect();
    env.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
    env.insert("SYSTEMD_PAGERSECURE".into(), "1".into());
    Program { path: JOURNALCTL.into(), args, env }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_becomes_arguments_of_journalctl() {
        let request = LogRequest {
            follow: true,
            lines: Some("5".into()),
            since: Some("-1h; rm".into()),
            output: Some("cat".into()),
            ..LogRequest::default()
        };
        let apps = ["a".parse().unwrap(), "b".parse().unwrap()];
        let variable = |name: &str| matches!(name, "TERM" | "LD_PRELOAD").then(|| "x".to_owned());
        let program = program(Path::new("/j"), &apps, &request, variable);
        let expected = [
            "--directory=/j",
            "--quiet",
            "--no-hostname",
            "--identifier=a",
            "--identifier=b",
            "--follow",
            "--lines=5",
            "--since=-1h; rm",
            "--output=cat",
        ];
        assert_eq!(program.args, expected);
        assert!(program.env.contains_key("TERM") && !program.env.contains_key("LD_PRELOAD"));
    }
}
