//! The last steps of `run` and `run-prepared`: this process becomes the pod's supervisor.
//!
//! Everything that can fail comes before the move to `run`, and is undone; after the move only execve(2) is left. The
//! mounts are in a mount namespace of this process and end with it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::etc::{self, EtcError, EtcRequest, PluginDns};
use super::layout::PodPaths;
use super::lifecycle::{MoveError, Pod, Running, Startable};
use super::network::{NetworkError, Setup};
use super::observe::{self, ObserveError};
use super::roots::{self, RootsError};
use super::volume::source::{self, Source};
use crate::appc::capability::CapabilitySet;
use crate::appc::isolator::capability_set;
use crate::appc::pod_manifest::PodManifest;
use crate::appc::pod_uuid::PodUuid;
use crate::image::store::Store;
use crate::net::attach::NetworkDns;
use crate::net::result::Dns;
use crate::os::process::{Child, ChildEnd, ProcessId, Program, become_program};
use crate::os::{Hint, SysError, atomic, cgroup, file, inotify, interrupt};
use crate::stage1::inside::PROGRAM;
use crate::stage1::interactive::{self, InteractiveError, Pipes};
use crate::stage1::plan::nspawn::{self, Console, Filtering, NSPAWN, Registration, Start};
use crate::stage1::plan::{HostName, Interactive, KernelPaths};
use crate::stage1::{filters, journal};
use crate::systemd::bus::{BusError, Machined, ScopeOnItsWay, ScopeRequest, SystemBus};
use crate::systemd::unit_name::UnitNameError;

/// What a pod's systemd and journald watch files with.
const INOTIFY_INSTANCES: usize = 3;

/// Limits of a pod as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodLimits {
    /// Memory in bytes.
    pub memory_max: Option<u64>,
    /// Processor time in thousandths of a CPU.
    pub cpu_millicores: Option<u64>,
}

/// How a pod is started.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// Its host name; by default what it was prepared with.
    pub hostname: Option<HostName>,
    /// What its apps find below /etc.
    pub etc: EtcRequest,
    /// Its limits.
    pub limits: PodLimits,
    /// The caller's `NOTIFY_SOCKET`.
    pub notify_socket: Option<String>,
    /// The caller's `SYSTEMD_EXEC_PID`: our own pid when systemd started this very process (systemd.exec(5)).
    pub systemd_exec_pid: Option<String>,
    /// Whether the pod's systemd writes its own messages to the console.
    pub debug: bool,
    /// The data directory, in which ready-made filters are kept.
    pub data_dir: PathBuf,
    /// How its only app is connected with the caller, if it is.
    pub interactive: Option<Interactive>,
}

/// A pod that is about to start, with what was begun for it.
#[derive(Debug)]
pub struct Starting<'a, P: Startable> {
    /// Its network; dropped before the pod, which says what there is to undo.
    pub network: Setup,
    /// The pod.
    pub pod: Pod<P>,
    /// Its images.
    pub store: &'a Store,
}

/// Why a pod did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The control groups are not of version 2.
    #[error("the machine's control groups are of version 1: /sys/fs/cgroup is not a cgroup2 file system")]
    CgroupV1,
    /// systemd-nspawn is not installed.
    #[error("systemd-nspawn is required but not found: {NSPAWN} does not exist")]
    NoNspawn,
    /// The pod's systemd could not watch anything.
    #[error(
        "the inotify instances of this host are used up: a pod needs {INOTIFY_INSTANCES} of them, and {limit} are allowed"
    )]
    NoInotify {
        /// `fs.inotify.max_user_instances`, as the kernel says it.
        limit: String,
    },
    /// systemd can't take the pod.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// It has no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The pod can't be moved.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The pod's files are damaged.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The apps have no roots.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A file below an app's /etc can't be made.
    #[error(transparent)]
    Etc(#[from] EtcError),
    /// A name that systemd does not take.
    #[error(transparent)]
    Name(#[from] UnitNameError),
    /// Limits of a pod in a service are the service's.
    #[error(
        "the pod runs in the service {0}, whose limits count: --cpu and --memory before the first image do nothing there"
    )]
    LimitsInService(String),
    /// Two apps can't have one terminal.
    #[error("interactive option only supports pods with one app")]
    SeveralApps,
    /// The app can't be connected with the caller.
    #[error(transparent)]
    Interactive(#[from] InteractiveError),
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::CgroupV1 => {
                Some("boot with systemd.unified_cgroup_hierarchy=1 on the kernel command line".into())
            }
            Self::NoNspawn => Some("install it: the package is called systemd-container".into()),
            Self::NoInotify { .. } => {
                Some("stop a pod, or allow more with `sysctl fs.inotify.max_user_instances=1024`".into())
            }
            Self::LimitsInService(unit) => {
                Some(format!("set MemoryMax= and CPUQuota= in {unit}, or put the flags behind an image"))
            }
            Self::Bus(error) => error.hint(),
            Self::Network(error) => error.hint(),
            Self::Move(error) => error.hint(),
            Self::Observe(error) => error.hint(),
            Self::Roots(error) => error.hint(),
            Self::Etc(error) => error.hint(),
            Self::Interactive(error) => error.hint(),
            Self::Name(_) | Self::Interrupted | Self::SeveralApps => None,
            Self::Sys(error) => error.hint(),
        }
    }
}

/// A host that can take a pod now.
pub struct Host {
    pub(super) bus: SystemBus,
}

impl Host {
    /// Makes sure that this host runs what pods need, before anything is made for one.
    ///
    /// # Errors
    /// When it was not booted with systemd, or that is too old, or systemd-nspawn or cgroup v2 is missing.
    pub fn check() -> Result<Self, RunError> {
        let bus = SystemBus::connect()?;
        if !cgroup::is_unified()? {
            return Err(RunError::CgroupV1);
        }
        if !Path::new(NSPAWN).exists() {
            return Err(RunError::NoNspawn);
        }
        // Its systemd would say "Failed to allocate manager object" and nothing else.
        if !inotify::has_left(INOTIFY_INSTANCES) {
            let limit = file::read_text(Path::new(inotify::LIMIT)).unwrap_or_default();
            return Err(RunError::NoInotify { limit: limit.trim().to_owned() });
        }
        Ok(Self { bus })
    }

    /// Has systemd make the scope of the pod `uuid`, while that is prepared; a pod that a service starts stays in its unit.
    ///
    /// # Errors
    /// When systemd refuses the scope, or a service has limits of its own. `notice` is told what the user should know.
    pub fn make_room(
        self,
        uuid: &PodUuid,
        kernel_paths: KernelPaths,
        request: &StartRequest,
        notice: impl Fn(&str),
    ) -> Result<Room, RunError> {
        let limits = request.limits;
        match own_service(request.systemd_exec_pid.as_deref())? {
            Some(unit) if limits != PodLimits::default() => Err(RunError::LimitsInService(unit)),
            Some(_) => Ok(Room::Service(self.bus)),
            None => {
                tell_of_missing_controllers(limits, notice);
                let scope = ScopeRequest {
                    unit: nspawn::scope_name(uuid)?,
                    description: format!("rkt pod {uuid}"),
                    pid: std::process::id(),
                    devices: roots::devices(kernel_paths, &[]),
                    memory_max: limits.memory_max,
                    cpu_quota_per_second_usec: limits.cpu_millicores.map(|millicores| millicores * 1000),
                };
                Ok(Room::Scope(Box::new(self.bus.ask_for_scope(&scope)?), kernel_paths))
            }
        }
    }
}

/// Where the processes of a pod will be.
pub enum Room {
    /// The service that has started this process.
    Service(SystemBus),
    /// A scope of the pod's own, and what is closed to it.
    Scope(Box<ScopeOnItsWay>, KernelPaths),
}

impl Room {
    /// Waits until this process is there.
    fn enter(self, volumes: &[Source], notice: impl Fn(&str)) -> Result<Machined, RunError> {
        match self {
            Self::Service(bus) => {
                if !source::allowed_devices(volumes).is_empty() {
                    notice(
                        "the pod stays in the service that started it: which devices it may open is up to DeviceAllow= there",
                    );
                }
                Ok(bus.start_machined_in_service(std::process::id()))
            }
            Self::Scope(scope, KernelPaths::Protected) => Ok(scope.wait(&source::allowed_devices(volumes))?),
            Self::Scope(scope, KernelPaths::Open) => Ok(scope.wait(&[])?),
        }
    }
}

/// Becomes the supervisor of `pod`. An interactive pod with pipes has one beside this process: its exit code is returned.
///
/// # Errors
/// When the pod did not start: it is as it was before, or gone if new; what was made for its network is undone.
///
/// `notice` is told what the user should know.
pub fn start<P: Startable>(
    room: Room,
    mut starting: Starting<'_, P>,
    request: &StartRequest,
    notice: impl Fn(&str),
) -> Result<u8, RunError> {
    let ready = ready(room, &mut starting, request, &notice)?;
    launch(starting, request, &ready, &notice)
}

/// What the supervisor's command is made of, found out while the start can still fail.
struct Ready {
    registration: Registration,
    /// Where rkt's own file is; `None` for a copy in the pod.
    rkt: Option<PathBuf>,
    hostname: String,
    capabilities: Option<CapabilitySet>,
    filtering: Filtering,
}

/// Everything up to the move: the mounts, the scope, the files that say who the supervisor is. What needs the network comes
/// last, since plugins take longer than the rest.
fn ready<P: Startable>(
    room: Room,
    starting: &mut Starting<'_, P>,
    request: &StartRequest,
    notice: impl Fn(&str),
) -> Result<Ready, RunError> {
    let Starting { network, pod, store } = starting;
    let paths = pod.paths();
    let stage1_root = paths.stage1_root();
    // The first thing, so that a disk that can't be written to is named by a file and not by the kernel's "Invalid
    // argument" for an overlay.
    let supervisor = ProcessId::own()?;
    atomic::replace(&paths.supervisor(), format!("{supervisor}\n").as_bytes(), 0o644)?;
    let manifest = observe::manifest(pod.uuid(), &paths)?;
    let mounts = roots::mounts(&paths, &manifest, store)?;
    connect(&stage1_root, &manifest, request.interactive.as_ref())?;
    let volumes = roots::open_volumes(&paths, &manifest)?;
    if let Some(hostname) = &request.hostname {
        atomic::write(&stage1_root.join("etc/hostname"), format!("{hostname}\n").as_bytes(), 0o644)?;
    }
    let hostname = hostname(&stage1_root)?;
    let rkt = helper(&stage1_root)?;
    let capabilities = further_capabilities(&manifest, &paths);
    network.advance(&manifest, &notice)?;
    roots::isolate(&mounts, &volumes, &paths)?;
    let machined = room.enter(&volumes, &notice)?;
    // systemd has just moved this process. The wait for the network is long enough to have to wait for the next move again.
    cgroup::forestall_wait();
    let roots = roots::writers(&paths, &manifest, store, &hostname)?;
    roots::check_mounts(&manifest, &volumes, &roots)?;
    roots::make_working_directories(&paths, &manifest, &roots)?;
    atomic::replace(&paths.cgroup(), format!("{}\n", cgroup::own()?).as_bytes(), 0o644)?;
    network.enter(&notice)?;
    // No sooner: where none are ready it waits for every child of this process, plugins too.
    let filters = filters::find(&request.data_dir, capabilities, &stage1_root);
    if let Some(filters) = &filters {
        filters.hand_over(&stage1_root)?;
    }
    let dns = network.dns().map(plugin_dns);
    etc::apply(&roots, &request.etc, dns.as_ref())?.iter().for_each(|text| notice(text));
    let registration = match machined {
        Machined::Present => Registration::Registered,
        Machined::Absent(reason) => {
            notice(&format!("machined is not available ({reason}): machinectl will not show this pod"));
            Registration::Unregistered
        }
    };
    let filtering = filters.map_or(Filtering::BySupervisor, |_| Filtering::ByInit);
    Ok(Ready { registration, rkt, hostname, capabilities, filtering })
}

/// systemd ignores a limit whose controller is not there, and says nothing.
pub(super) fn tell_of_missing_controllers(limits: PodLimits, notice: impl Fn(&str)) {
    for (is_set, controller) in
        [(limits.memory_max.is_some(), "memory"), (limits.cpu_millicores.is_some(), "cpu")]
    {
        if is_set && !cgroup::has_controller(controller) {
            notice(&format!(
                "warning: {controller} limit of the pod set but support disabled in the kernel, skipping"
            ));
        }
    }
}

fn launch<P: Startable>(
    starting: Starting<'_, P>,
    request: &StartRequest,
    ready: &Ready,
    notice: impl Fn(&str),
) -> Result<u8, RunError> {
    let running = starting.pod.into_running()?;
    // Dropped before the pod is taken back.
    let network = starting.network;
    let paths = running.paths();
    let stage1_root = paths.stage1_root();
    // Held, since it is removed if the rest fails. A service may see /var/log read-only; that is no reason not to run.
    let link = journal::Link::make(running.uuid(), &stage1_root);
    if let Err(error) = &link {
        notice(&format!("{error}: journalctl will not find this pod by its machine"));
    }
    let program = nspawn::program(&Start {
        uuid: running.uuid(),
        stage1_root: &stage1_root,
        rkt: ready.rkt.as_deref(),
        hostname: &ready.hostname,
        registration: ready.registration,
        notify_socket: request.notify_socket.as_deref(),
        capabilities: ready.capabilities,
        debug: request.debug,
        filtering: ready.filtering,
        console: match request.interactive {
            Some(Interactive::Terminal { .. }) => Console::Interactive,
            Some(Interactive::Pipes) | None => Console::ReadOnly,
        },
    });
    if interrupt::has_arrived() {
        return Err(RunError::Interrupted);
    }
    // systemd has moved this process while the pod was prepared, and systemd-nspawn is about to.
    cgroup::forestall_wait();
    log::debug!("executing {} {}", program.path.display(), program.args.join(" "));
    let held = match request.interactive {
        Some(Interactive::Terminal { .. }) => Some(interactive::held_by_supervisor(&stage1_root)?),
        Some(Interactive::Pipes) => {
            let code = stay_beside(running, network, &program)?;
            link.into_iter().for_each(journal::Link::keep);
            return Ok(code);
        }
        None => None,
    };
    let executed = |lock: &[_]| {
        let error = become_program(&program, lock.iter().chain(&held));
        drop(network);
        error
    };
    Err(running.hand_over(executed).into())
}

/// Starts the supervisor as a child, and carries what the app reads and writes until it has ended.
///
/// Only so is everything that the app has written with the caller when `rkt run` ends.
fn stay_beside(running: Running, network: Setup, program: &Program) -> Result<u8, RunError> {
    const BY_SIGNAL: i32 = 128;
    let paths = running.paths();
    let pipes = Pipes::open(&paths.stage1_root())?;
    let group = cgroup::step_aside("rkt")?;
    let supervisor = running.hand_to(|lock| {
        let started = Child::start(program, lock, &group);
        match started {
            // From here on gc takes it down.
            Ok(_) => std::mem::forget(network),
            Err(_) => drop(network),
        }
        started
    })?;
    atomic::replace(&paths.supervisor(), format!("{}\n", supervisor.id()).as_bytes(), 0o644)?;
    Ok(match pipes.carry(&supervisor)? {
        ChildEnd::Exited(status) => u8::try_from(status).unwrap_or(u8::MAX),
        ChildEnd::Killed(signal) => u8::try_from(BY_SIGNAL + signal).unwrap_or(u8::MAX),
    })
}

/// Connects the only app of the pod with the caller, or takes back what an earlier start has made for that.
fn connect(root: &Path, manifest: &PodManifest, how: Option<&Interactive>) -> Result<(), RunError> {
    match (how, manifest.apps.as_slice()) {
        (None, apps) => apps.iter().try_for_each(|app| interactive::clear(root, &app.name))?,
        (Some(how), [app]) => {
            let variables = app.app.iter().flat_map(|app| &app.environment);
            let own: Vec<&str> = variables.map(|variable| variable.name.as_str()).collect();
            interactive::prepare(root, &app.name, &own, how)?;
        }
        (Some(_), _) => return Err(RunError::SeveralApps),
    }
    Ok(())
}

/// Where this very rkt is for the pod's units: its path, or `None` for a copy in the pod.
///
/// An upgrade may have replaced the file since the command was started, and a service with a file system view of its own
/// has executed one whose path in that view is another.
fn helper(stage1_root: &Path) -> Result<Option<PathBuf>, SysError> {
    const OWN: &str = "/proc/self/exe";
    let path = std::env::current_exe().map_err(SysError::on("looking at", OWN))?;
    let place = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let own = place(Path::new(OWN)).map_err(SysError::on("looking at", OWN))?;
    if place(&path).is_ok_and(|there| there == own) {
        return Ok(Some(path));
    }
    let copy = stage1_root.join(PROGRAM.trim_start_matches('/'));
    std::fs::copy(OWN, &copy).map_err(SysError::on("copying rkt to", &copy))?;
    Ok(None)
}

/// What the apps may do beyond what systemd-nspawn gives to every pod; `None` for everything.
fn further_capabilities(manifest: &PodManifest, paths: &PodPaths) -> Option<CapabilitySet> {
    if paths.unbounded().exists() {
        return None;
    }
    // One that can't be read was refused when the pod was prepared.
    let sets = manifest.apps.iter().filter_map(|app| capability_set(&app.app.as_ref()?.isolators).ok());
    let all = sets.fold(CapabilitySet::EMPTY, CapabilitySet::union);
    Some(all.difference(CapabilitySet::DEFAULT))
}

fn hostname(stage1_root: &Path) -> Result<String, SysError> {
    let path = stage1_root.join("etc/hostname");
    let text = std::fs::read_to_string(&path).map_err(SysError::on("reading", &path))?;
    Ok(text.trim().to_owned())
}

/// The service of the system manager whose main process this is, if it is one: then the pod stays in that unit.
fn own_service(systemd_exec_pid: Option<&str>) -> Result<Option<String>, SysError> {
    let started_by_systemd = systemd_exec_pid.is_some_and(|pid| pid == std::process::id().to_string());
    if !started_by_systemd {
        return Ok(None);
    }
    let group = cgroup::own()?;
    let of_a_user = group.split('/').any(|part| part.starts_with("user@"));
    let unit = group.rsplit('/').next().unwrap_or_default();
    Ok((unit.ends_with(".service") && !of_a_user).then(|| unit.to_owned()))
}

fn plugin_dns(found: &NetworkDns) -> PluginDns {
    let NetworkDns { network, dns } = found.clone();
    let Dns { nameservers, domain, search, options } = dns;
    let nameservers = nameservers.iter().map(ToString::to_string).collect();
    PluginDns { network, nameservers, domain, search, options }
}
