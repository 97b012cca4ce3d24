//! The command that becomes the pod's supervisor (systemd-nspawn(1)), as a value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::skeleton::NO_GENERATORS;
use crate::appc::capability::CapabilitySet;
use crate::appc::pod_uuid::PodUuid;
use crate::os::process::Program;
use crate::stage1::inside::{INIT, ON_TERMINAL, PROGRAM, WITH_FILTERS};
use crate::systemd::unit_name::{UnitName, UnitNameError};

/// Where systemd-nspawn is, on every distribution with a merged /usr.
pub const NSPAWN: &str = "/usr/bin/systemd-nspawn";

/// What a pod's supervisor, systemd and journald read before they watch for a lack of memory (sd_event_add_memory_pressure(3)).
///
/// They have next to nothing to give back, and each such watch holds up the end of the pod while the kernel takes it down.
pub const PRESSURE_WATCH: &str = "MEMORY_PRESSURE_WATCH";
const NO_PRESSURE_WATCH: &str = "/dev/null";

/// Whether machined is asked to register the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// It is.
    Registered,
    /// It is not there.
    Unregistered,
}

/// Who puts the filters of system calls on a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// systemd-nspawn, which compiles them.
    BySupervisor,
    /// The pod's init, which has them ready-made ([`super::super::filters`]).
    ByInit,
}

/// What is known only when a pod starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start<'a> {
    /// The pod.
    pub uuid: &'a PodUuid,
    /// The root of its systemd, on the host.
    pub stage1_root: &'a Path,
    /// rkt's own file, which a unit of the pod executes; `None` when there is a copy in the pod.
    pub rkt: Option<&'a Path>,
    /// The pod's host name.
    pub hostname: &'a str,
    /// Whether machined knows it.
    pub registration: Registration,
    /// The caller's `NOTIFY_SOCKET`, to which the pod's readiness is passed on (sd_notify(3)).
    pub notify_socket: Option<&'a str>,
    /// What its apps may do beyond what is usual, which the pod's init must then be allowed too; `None` for everything.
    pub capabilities: Option<CapabilitySet>,
    /// Whether the pod's systemd writes its own messages to the console.
    pub debug: bool,
    /// Where the pod's filters come from.
    pub filtering: Filtering,
    /// What becomes of the pod's console.
    pub console: Console,
}

/// What the supervisor does with the pod's console (systemd-nspawn(1), `--console=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// What is written there goes to standard output; the caller's terminal stays as it is.
    ReadOnly,
    /// It is the caller's terminal.
    Interactive,
}

/// Returns the supervisor's program: every flag is one that systemd 252 has.
///
/// The network is the caller's: who wants another one for the pod enters it before. nspawn's own `--private-network`
/// would show the pod a cut /sys, in which journald finds no reason to put the time before console lines.
pub fn program(start: &Start<'_>) -> Program {
    let machine = machine_name(start.uuid);
    // What --boot means to nspawn, but for where systemd is: how it is told to stop.
    let mut args: Vec<String> = ["--quiet", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--settings=no"]
        .into_iter()
        .chain(match start.console {
            Console::ReadOnly => ["--console=read-only"],
            Console::Interactive => ["--console=interactive"],
        })
        .chain(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
        .map(str::to_owned)
        .collect();
    args.push(format!("--directory={}", start.stage1_root.display()));
    args.push(format!("--machine={machine}"));
    args.push(format!("--uuid={}", start.uuid));
    args.push(format!("--hostname={}", start.hostname));
    args.push(format!("--notify-ready={}", if start.notify_socket.is_some() { "yes" } else { "no" }));
    if start.registration == Registration::Unregistered {
        args.push("--register=no".into());
    }
    args.extend(capability_flag(start.capabilities));
    args.push("--bind-ro=/usr".into());
    if let Some(rkt) = start.rkt {
        args.push(format!("--bind-ro={}:{PROGRAM}", escaped(rkt)));
    }
    // Only our own units: none of the host's, and no generator, which would cost more than the rest of the start.
    args.push("--setenv=SYSTEMD_UNIT_PATH=/etc/systemd/system".into());
    args.push(format!("--setenv=SYSTEMD_GENERATOR_PATH={NO_GENERATORS}"));
    args.push(format!("--setenv=SYSTEMD_ENVIRONMENT_GENERATOR_PATH={NO_GENERATORS}"));
    args.push(format!("--setenv={PRESSURE_WATCH}={NO_PRESSURE_WATCH}"));
    args.extend(init(start).map(str::to_owned));
    let mut env = environment();
    if let Some(socket) = start.notify_socket {
        env.insert("NOTIFY_SOCKET".into(), socket.into());
    }
    if start.filtering == Filtering::ByInit {
        env.insert("SYSTEMD_SECCOMP".into(), "0".into());
    }
    Program { path: PathBuf::from(NSPAWN), args, env }
}

/// The first process of the pod: rkt's own file, which becomes systemd.
fn init<'a>(start: &Start<'_>) -> impl Iterator<Item = &'a str> {
    let filters = match start.filtering {
        Filtering::BySupervisor => None,
        Filtering::ByInit => Some(WITH_FILTERS),
    };
    let terminal = match start.console {
        Console::ReadOnly => None,
        Console::Interactive => Some(ON_TERMINAL),
    };
    let log = if start.debug { "--log-target=console" } else { "--log-target=null" };
    ["--", PROGRAM, INIT].into_iter().chain(filters).chain(terminal).chain(["--", log, "--show-status=0"])
}

/// Returns a supervisor that starts `/bin/true` with what decides on the filters of a pod: the same rights.
///
/// It takes a scope of its own: in the caller's, it would divide the control group.
pub fn sample(root: &Path, capabilities: Option<CapabilitySet>) -> Program {
    let mut args: Vec<String> = ["--quiet", "--register=no", "--settings=no", "--console=pipe"]
        .into_iter()
        .chain(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
        .map(str::to_owned)
        .collect();
    args.push(format!("--directory={}", root.display()));
    args.push(format!("--machine=rkt-filters-{}", std::process::id()));
    args.extend(capability_flag(capabilities));
    args.extend(["--bind-ro=/usr", "--", "/bin/true"].map(str::to_owned));
    Program { path: PathBuf::from(NSPAWN), args, env: environment() }
}

fn capability_flag(capabilities: Option<CapabilitySet>) -> Option<String> {
    match capabilities {
        None => Some("--capability=all".into()),
        Some(set) if set.is_empty() => None,
        Some(set) => Some(format!("--capability={}", set.to_string().replace(' ', ","))),
    }
}

/// The name by which machined and the journal know the pod (spec pods.md 3.4).
pub fn machine_name(uuid: &PodUuid) -> String {
    format!("rkt-{uuid}")
}

/// The scope that the pod's processes are in, unless a service has started it.
///
/// # Errors
/// Never: the name has a length of its own.
pub fn scope_name(uuid: &PodUuid) -> Result<UnitName, UnitNameError> {
    UnitName::machine_scope(&machine_name(uuid))
}

/// Made from nothing: nspawn hands parts of its own environment on.
fn environment() -> BTreeMap<String, String> {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        // nspawn looks for systemd in the root before /usr is bound, and would mount cgroup v1 without these.
        ("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1"),
        ("UNIFIED_CGROUP_HIERARCHY", "1"),
        // 257 otherwise writes escape sequences to the console; the apps have the real TERM by their units.
        ("SYSTEMD_TINT_BACKGROUND", "0"),
        ("SYSTEMD_ADJUST_TERMINAL_TITLE", "0"),
        ("TERM", "dumb"),
        (PRESSURE_WATCH, NO_PRESSURE_WATCH),
        // The `container` variable of the pod's init, and what `machinectl list` shows as service.
        ("SYSTEMD_NSPAWN_CONTAINER_SERVICE", "rkt"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// In `--bind=` a colon separates and a backslash escapes.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace(':', "\\:")
}
