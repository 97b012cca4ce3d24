//! What a pod will be, as plain values: the files of its small root, its units, and the supervisor's command.
//!
//! Pure: nothing here looks at the host. The values are shown by `--debug`, compared with golden files, and written by
//! [`super::skeleton`]. Every word of a user that reaches a unit goes through the typed writer.

pub mod nspawn;
mod skeleton;
mod units;

use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(in crate::stage1) use self::skeleton::{IO_DIR, OUTPUT_DIR};
pub use self::units::{
    Interactive, UnitPlanError, app_unit_name, enter_drop_in, enter_template, interactive_drop_in,
    interactive_drop_in_dir, leash_template,
};
use crate::appc::capability::CapabilitySet;
use crate::appc::isolator::filter::Filter;
use crate::appc::name::AcName;
use crate::appc::pod_uuid::PodUuid;
use crate::os::mount::detached::Access;
use crate::stage1::kernel_view::POINTS;
use crate::stage1::verify::ASKED;
use crate::systemd::unit::environment::{EnvironmentError, EnvironmentFile};
use crate::systemd::unit::value::Signal;

/// A pod as it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// Its name.
    pub uuid: PodUuid,
    /// Its host name.
    pub hostname: HostName,
    /// The text of the host's os-release(5), whose /usr it runs.
    pub os_release: String,
    /// Its apps, in the manifest's order.
    pub apps: Vec<AppSpec>,
    /// Which kernel paths apps may reach.
    pub kernel_paths: KernelPaths,
}

/// A host name that the kernel and systemd-nspawn take (hostname(7)): labels of letters, digits and dashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

/// The text is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no host name: up to 64 letters, digits, dashes and dots, each part beginning and ending with no dash"
)]
pub struct HostNameError(String);

impl HostName {
    /// The name that a pod has by default (spec pods.md 3.4).
    pub fn of(uuid: &PodUuid) -> Self {
        Self(nspawn::machine_name(uuid))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        /// HOST_NAME_MAX of Linux.
        const LONGEST: usize = 64;
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if text.len() <= LONGEST && text.split('.').all(is_label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostNameError(text.to_owned()))
        }
    }
}

/// Whether apps are kept from the kernel's own files and from making device nodes (spec pods.md 3.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelPaths {
    /// They are.
    Protected,
    /// The user switched that off.
    Open,
}

/// What an app's standard output and error are. Either way its lines go to the journal and the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The journal's own socket: each line is known to be of the process that wrote it. Nobody can open it again.
    Journal,
    /// A FIFO, which rkt reads: it can be opened by names like `/dev/stdout`, as images of Docker's do.
    Fifo,
}

/// An app as it will be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
    /// Its name in the pod.
    pub name: AcName,
    /// What `systemctl -M` shows beside it.
    pub description: String,
    /// Absolute path of the program in the app's root.
    pub program: String,
    /// The whole argument vector.
    pub argv: Vec<String>,
    /// Absolute path in the app's root.
    pub working_directory: String,
    /// Its user, a number.
    pub user: u32,
    /// Its group, a number.
    pub group: u32,
    /// Its further groups, exactly these.
    pub supplementary_groups: Vec<u32>,
    /// Its whole environment, in order, a name once.
    pub environment: Vec<(String, String)>,
    /// What any of its processes can ever be allowed to do; `None` for everything.
    pub capabilities: Option<CapabilitySet>,
    /// Which system calls it may make, beyond what no process of a pod may; `None` for no filter of its own.
    pub filter: Option<Filter>,
    /// Whether set-id bits have no effect.
    pub no_new_privileges: bool,
    /// Memory limit in bytes.
    pub memory_max: Option<u64>,
    /// Processor limit in thousandths of a CPU.
    pub cpu_millicores: Option<u64>,
    /// Relative share of the processor, 1 to 10000 (`CPUWeight=`).
    pub cpu_weight: Option<u64>,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adjust: Option<i32>,
    /// Whether its changes to its root are refused.
    pub read_only_root: bool,
    /// What it writes to.
    pub output: Output,
    /// What asks it to end, if that is not SIGTERM.
    pub stop_signal: Option<Signal>,
    /// Whether the app reports its readiness itself (sd_notify(3)).
    pub notifies: bool,
    /// The volumes that it sees, no path twice.
    pub mounts: Vec<AppMount>,
}

/// A volume at a path of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppMount {
    /// The volume's number in the pod, see [`volume_point`].
    pub volume: usize,
    /// Absolute path in the app's root, in which nothing is a link.
    pub target: String,
    /// Whether the app may write there.
    pub access: Access,
}

/// Where the pod's systemd finds the volume of this number, relative to its root.
pub fn volume_point(number: usize) -> String {
    format!("{}/{number}", skeleton::VOLUMES_DIR)
}

/// A file of the pod's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory with this mode.
    Directory(u32),
    /// A regular file with this content and mode.
    File(String, u32),
    /// A FIFO.
    Fifo,
    /// A symbolic link to this target.
    Link(PathBuf),
}

impl Entry {
    fn directory(path: impl AsRef<Path>, mode: u32) -> Self {
        Self { path: path.as_ref().to_owned(), kind: EntryKind::Directory(mode) }
    }

    fn file(path: impl AsRef<Path>, content: impl Into<String>, mode: u32) -> Self {
        Self { path: path.as_ref().to_owned(), kind: EntryKind::File(content.into(), mode) }
    }

    fn fifo(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), kind: EntryKind::Fifo }
    }

    fn link(path: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), kind: EntryKind::Link(target.as_ref().to_owned()) }
    }
}

/// Why a pod can't be expressed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A value can't stand in a unit.
    #[error(transparent)]
    Unit(#[from] UnitPlanError),
    /// A variable can't be handed to an app.
    #[error("app {app}: {reason}")]
    Environment {
        /// The app.
        app: AcName,
        /// What is wrong with which variable.
        reason: EnvironmentError,
    },
}

/// Returns every file of the pod's root, parents before children.
///
/// # Errors
/// When a value of the user can't be expressed in a unit or an environment file; nothing is left out in silence.
pub fn entries(pod: &PodSpec) -> Result<Vec<Entry>, PlanError> {
    let mut entries = skeleton::entries(pod);
    let dir = Path::new("etc/systemd/system");
    for unit in units::units(pod)? {
        let text = unit.checked_text().map_err(UnitPlanError::from)?;
        entries.push(Entry::file(dir.join(unit.name().as_str()), text, 0o644));
    }
    for (path, unit) in units::drop_ins(pod)? {
        if let Some(dir) = Path::new(&path).parent() {
            entries.push(Entry::directory(dir, 0o755));
        }
        entries.push(Entry::file(path, unit.checked_text().map_err(UnitPlanError::from)?, 0o644));
    }
    if let Some(points) = points(pod) {
        entries.push(Entry::file(POINTS, points, 0o644));
    }
    entries.push(Entry::file(ASKED, units::asked(pod).map_err(UnitPlanError::from)?, 0o644));
    for (link, target) in units::LINKS {
        entries.push(Entry::link(dir.join(link), target));
    }
    for app in &pod.apps {
        let mut file = EnvironmentFile::default();
        let refused = |reason| PlanError::Environment { app: app.name.clone(), reason };
        for (name, value) in &app.environment {
            file.push(name, value).map_err(refused)?;
        }
        let path = format!("{}/{}", skeleton::ENV_DIR, app.name);
        entries.push(Entry::file(path, file.checked_text().map_err(refused)?, 0o600));
    }
    Ok(entries)
}

/// The places of volumes below /dev.
fn points(pod: &PodSpec) -> Option<String> {
    let mounts = pod.apps.iter().flat_map(|app| &app.mounts);
    let below = mounts.filter(|mount| Path::new(&mount.target).starts_with("/dev"));
    let lines: String = below.map(|mount| format!("{} {}\n", mount.volume, mount.target)).collect();
    (!lines.is_empty()).then_some(lines)
}

#[cfg(test)]
mod tests;
