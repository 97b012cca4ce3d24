//! The system bus as rkt uses it: systemd's manager makes the scope of a pod, machined is started to register it.
//!
//! Only the members that rkt calls are declared (org.freedesktop.systemd1(5), org.freedesktop.machine1(5)). Everything
//! here is over before a pod's supervisor is executed: the runtime has no thread of its own.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join;
use zbus::OwnedObjectPath;
use zbus::wire::Variant;

use super::unit_name::UnitName;
use crate::os::{Hint, cause_text};

/// The oldest systemd that rkt runs with: the first with `MONITOR_*` variables, `OnSuccess=` and cgroup v2 in Debian 12.
pub const OLDEST_SYSTEMD: u32 = 252;

/// How long systemd may take to make a scope before the command gives up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);

/// How often somebody who waits for a service is asked whether they still want it.
const GIVEN_UP_STEP: Duration = Duration::from_millis(100);

/// What the processes of a scope get when it is stopped: by `machinectl terminate`, by `systemctl stop`, at shutdown.
///
/// SIGTERM would reach the pod's systemd, which executes itself anew, its journald, which is gone before the apps' last
/// lines, and the apps, all at once. SIGWINCH means nothing to nspawn and to an app without a terminal, and an orderly
/// end to the pod's systemd (systemd(1), "Signals"; the pod's `kbrequest.target`).
const STOP_SIGNAL: i32 = libc::SIGWINCH;

/// Apps have 10 s of their own before the pod's systemd kills them; after this the host's does, in microseconds.
const STOP_TIMEOUT_USEC: u64 = 45_000_000;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;

    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Variant<'_>)],
    ) -> zbus::Result<()>;

    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;

    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.machine1.Manager",
    default_service = "org.freedesktop.machine1",
    default_path = "/org/freedesktop/machine1"
)]
trait Machines {
    #[zbus(name = "GetMachineByPID")]
    fn get_machine_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    fn unregister_machine(&self, name: &str) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.freedesktop.machine1.Machine", default_service = "org.freedesktop.machine1")]
trait Machine {
    #[zbus(property)]
    fn name(&self) -> zbus::Result<String>;
}

/// Why systemd can't take a pod.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The machine was not booted with systemd (sd_booted(3)).
    #[error("this machine was not booted with systemd: /run/systemd/system does not exist")]
    NotBooted,
    /// No connection to the system bus.
    #[error("the system bus does not answer: {0}")]
    NoBus(String),
    /// systemd is older than what rkt needs.
    #[error("systemd {found} is too old: rkt needs {OLDEST_SYSTEMD} or newer")]
    TooOld {
        /// Its version as it says.
        found: String,
    },
    /// systemd refused or failed to make the scope.
    #[error("systemd did not start {unit}: {reason}")]
    Scope {
        /// The scope's name.
        unit: UnitName,
        /// systemd's words.
        reason: String,
    },
    /// systemd refused or failed to end the scope.
    #[error("systemd did not stop {unit}: {reason}")]
    Stop {
        /// The scope's name.
        unit: UnitName,
        /// systemd's words.
        reason: String,
    },
}

impl Hint for BusError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotBooted => "run rkt on a machine, or in a container, whose process 1 is systemd".into(),
            Self::NoBus(_) => "start the bus with `systemctl start dbus.socket`, then try again".into(),
            Self::TooOld { .. } => "upgrade systemd, then restart the machine".into(),
            Self::Scope { unit, .. } | Self::Stop { unit, .. } => {
                format!("`systemctl status {unit}` and `journalctl -b -u {unit}` tell more")
            }
        })
    }
}

/// What a pod's scope is asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeRequest {
    /// The scope's name.
    pub unit: UnitName,
    /// What `systemctl status` shows.
    pub description: String,
    /// The process that becomes the pod's supervisor.
    pub pid: u32,
    /// Whether only the usual pseudo devices may be opened or made (`DevicePolicy=closed`).
    pub devices: Devices,
    /// Memory that all processes of the pod may use together, in bytes (`MemoryMax=`).
    pub memory_max: Option<u64>,
    /// Processor time that they may use together, in microseconds per second (`CPUQuotaPerSecUSec=`).
    pub cpu_quota_per_second_usec: Option<u64>,
}

/// What a transient service with a pod is asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRequest {
    /// Its name.
    pub unit: UnitName,
    /// What `systemctl status` shows.
    pub description: String,
    /// The command that becomes the pod's supervisor; the first word is the path of the program.
    pub command: Vec<String>,
    /// Which device nodes may be opened.
    pub devices: Devices,
    /// Memory that all processes of the pod may use together, in bytes (`MemoryMax=`).
    pub memory_max: Option<u64>,
    /// Processor time that they may use together, in microseconds per second (`CPUQuotaPerSecUSec=`).
    pub cpu_quota_per_second_usec: Option<u64>,
}

/// How the start of a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It is ready.
    Ready,
    /// It ended before.
    Failed,
    /// The caller did not want it any more; it is stopped.
    GivenUp,
}

/// Which device nodes the processes of a scope may open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// null, zero, full, random, urandom, tty, pseudo terminals, tun and fuse, as nspawn's own scopes have it, and these.
    UsualAnd(Vec<AllowedDevice>),
    /// All.
    Any,
}

/// A device node that may be opened, but not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedDevice {
    /// Which of the two tables of devices.
    pub kind: DeviceKind,
    /// Its driver.
    pub major: u32,
    /// Which of the driver's.
    pub minor: u32,
    /// Whether it may be written to.
    pub writable: bool,
}

/// The two kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Without structure.
    Character,
    /// In blocks.
    Block,
}

impl AllowedDevice {
    /// Tells whether both are the same device, whatever may be done with it.
    pub fn is_same_device(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// The form that systemd reads without looking for the node (systemd.resource-control(5), `DeviceAllow=`).
    fn rule(&self) -> (String, &'static str) {
        let kind = match self.kind {
            DeviceKind::Character => "char",
            DeviceKind::Block => "block",
        };
        let path = format!("/dev/{kind}/{}:{}", self.major, self.minor);
        (path, if self.writable { "rw" } else { "r" })
    }
}

/// Whether machined will know the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machined {
    /// It runs.
    Present,
    /// It does not, and could not be started, for the reason given.
    Absent(String),
}

/// A connection to the system bus and the runtime that drives it.
pub struct SystemBus {
    runtime: tokio::runtime::Runtime,
    connection: zbus::Connection,
}

impl SystemBus {
    /// Connects, and makes sure that systemd is running and new enough.
    ///
    /// # Errors
    /// When the machine was not booted with systemd, the bus does not answer, or systemd is too old.
    pub fn connect() -> Result<Self, BusError> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(BusError::NotBooted);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| BusError::NoBus(cause_text(&cause)))?;
        let connection = runtime
            .block_on(async { within(zbus::Connection::system()).await })
            .map_err(|cause| BusError::NoBus(reason(&cause)))?;
        let bus = Self { runtime, connection };
        bus.check_version()?;
        Ok(bus)
    }

    /// Starts machined if it is not running yet, and tells whether it is there and free for a pod in the service that
    /// the process `pid` is in.
    ///
    /// machined keeps one machine a unit, for as long as the unit is active. When the pod of a service was killed and
    /// the service starts again, the former pod would still be that one, and systemd-nspawn would fail.
    pub fn start_machined_in_service(&self, pid: u32) -> Machined {
        self.runtime.block_on(async {
            let machined = self.machined().await;
            if machined == Machined::Present
                && let Err(cause) = within(self.forget_machine_of(pid)).await
            {
                log::debug!("machined has no former machine of this service: {}", reason(&cause));
            }
            machined
        })
    }

    /// Takes a former pod of the unit that `pid` is in from machined's list; its processes are gone already.
    async fn forget_machine_of(&self, pid: u32) -> zbus::Result<()> {
        let machines = MachinesProxy::new(&self.connection).await?;
        let path = machines.get_machine_by_pid(pid).await?;
        let machine = MachineProxy::builder(&self.connection).path(path).build().await?;
        let name = machine.name().await?;
        if name.starts_with("rkt-") { machines.unregister_machine(&name).await } else { Ok(()) }
    }

    /// Asks for `scope`, and returns while systemd still works on it. One of this name that is there is over.
    ///
    /// # Errors
    /// When systemd refuses the scope or does not answer in time.
    pub fn ask_for_scope(self, scope: &ScopeRequest) -> Result<ScopeOnItsWay, BusError> {
        let ask = || self.runtime.block_on(join(self.machined(), within(self.scope(scope))));
        let mut asked = ask();
        if matches!(&asked.1, Err(zbus::Error::MethodError(name, ..)) if *name == UNIT_EXISTS) {
            // That of an attempt a moment ago, of whose end systemd has not heard yet.
            self.stop_scope(&scope.unit)?;
            asked = ask();
        }
        match asked {
            (machined, Ok((removed, job))) => {
                let waiting = Some((removed, job));
                Ok(ScopeOnItsWay { bus: self, unit: scope.unit.clone(), machined, waiting })
            }
            (_, Err(cause)) => Err(BusError::Scope { unit: scope.unit.clone(), reason: reason(&cause) }),
        }
    }

    fn check_version(&self) -> Result<(), BusError> {
        let found = self
            .runtime
            .block_on(async { within(async { self.manager().await?.version().await }).await })
            .map_err(|cause| BusError::NoBus(reason(&cause)))?;
        match major_version(&found) {
            Some(major) if major >= OLDEST_SYSTEMD => Ok(()),
            _ => Err(BusError::TooOld { found }),
        }
    }

    async fn manager(&self) -> zbus::Result<ManagerProxy<'_>> {
        ManagerProxy::builder(&self.connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
    }

    async fn machined(&self) -> Machined {
        let started = async {
            let bus = zbus::fdo::DBusProxy::new(&self.connection).await?;
            let name = zbus::names::WellKnownName::try_from("org.freedesktop.machine1")?;
            bus.start_service_by_name(name, 0).await.map_err(zbus::Error::from)
        };
        match within(started).await {
            Ok(_) => Machined::Present,
            Err(cause) => Machined::Absent(reason(&cause)),
        }
    }

    async fn scope(&self, scope: &ScopeRequest) -> zbus::Result<(JobRemovedStream, OwnedObjectPath)> {
        let manager = self.manager().await?;
        let removed = manager.receive_job_removed().await?;
        let mut properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", scope.description.as_str().into()),
            ("Slice", "machine.slice".into()),
            ("Delegate", true.into()),
            ("CollectMode", "inactive-or-failed".into()),
            ("PIDs", vec![scope.pid].into()),
            ("KillSignal", STOP_SIGNAL.into()),
            ("TimeoutStopUSec", STOP_TIMEOUT_USEC.into()),
        ];
        properties.extend(bounds(&scope.devices, scope.memory_max, scope.cpu_quota_per_second_usec));
        let job = manager.start_transient_unit(scope.unit.as_ref(), "fail", &properties, &[]).await?;
        Ok((removed, job))
    }

    /// Starts a transient service, and waits until it is ready or has failed, or `given_up` says so.
    ///
    /// # Errors
    /// When systemd refuses it or does not answer.
    pub fn start_service(
        &self,
        service: &ServiceRequest,
        given_up: impl Fn() -> bool,
    ) -> Result<Started, BusError> {
        let refused =
            |cause: zbus::Error| BusError::Scope { unit: service.unit.clone(), reason: reason(&cause) };
        let started = self.runtime.block_on(async {
            let (mut removed, job) = within(self.service(service)).await?;
            loop {
                match tokio::time::timeout(GIVEN_UP_STEP, ended(&mut removed, &job)).await {
                    Ok(Ok(())) => return Ok(Started::Ready),
                    Ok(Err(cause)) => {
                        log::debug!("{}: {}", service.unit, reason(&cause));
                        return Ok(Started::Failed);
                    }
                    Err(_) if given_up() => return Ok(Started::GivenUp),
                    Err(_) => {}
                }
            }
        });
        if matches!(started, Ok(Started::GivenUp)) {
            self.stop(&service.unit, "replace")?;
        }
        started.map_err(refused)
    }

    /// Asks for a service; whoever waits for the job may stop and go on with it.
    async fn service(&self, service: &ServiceRequest) -> zbus::Result<(JobRemovedStream, OwnedObjectPath)> {
        let manager = self.manager().await?;
        let removed = manager.receive_job_removed().await?;
        let program = service.command.first().cloned().unwrap_or_default();
        // The flag keeps systemd from replacing `$NAME` in the arguments.
        let command = (program, service.command.clone(), vec!["no-env-expand"]);
        let mut properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", service.description.as_str().into()),
            ("Slice", "machine.slice".into()),
            ("Delegate", true.into()),
            ("CollectMode", "inactive-or-failed".into()),
            ("Type", "notify".into()),
            ("ExecStartEx", vec![command].into()),
            // The supervisor lets the pod end in order; what is left after that is killed.
            ("KillMode", "mixed".into()),
            // One process that the kernel kills for its memory is the app's business.
            ("OOMPolicy", "continue".into()),
            ("TimeoutStartUSec", u64::MAX.into()),
            ("TimeoutStopUSec", STOP_TIMEOUT_USEC.into()),
        ];
        properties.extend(bounds(&service.devices, service.memory_max, service.cpu_quota_per_second_usec));
        let job = manager.start_transient_unit(service.unit.as_ref(), "fail", &properties, &[]).await?;
        Ok((removed, job))
    }

    /// Ends a scope that has no processes any more, if it is there.
    ///
    /// systemd learns from the kernel when a scope becomes empty. Of one that never had a living process, since that was
    /// killed while systemd made the scope, it learns nothing, and keeps it for ever.
    ///
    /// # Errors
    /// When systemd refuses or does not answer in time.
    pub fn stop_scope(&self, unit: &UnitName) -> Result<(), BusError> {
        self.stop(unit, "fail")
    }

    /// Ends a unit, if it is there; `mode` says what becomes of a job that it has (systemctl(1), `--job-mode=`).
    fn stop(&self, unit: &UnitName, mode: &str) -> Result<(), BusError> {
        let stopped = async {
            let manager = self.manager().await?;
            let mut removed = manager.receive_job_removed().await?;
            let job = manager.stop_unit(unit.as_ref(), mode).await?;
            ended(&mut removed, &job).await
        };
        match self.runtime.block_on(within(stopped)) {
            Err(zbus::Error::MethodError(name, ..)) if *name == NO_SUCH_UNIT => Ok(()),
            answer => answer.map_err(|cause| BusError::Stop { unit: unit.clone(), reason: reason(&cause) }),
        }
    }
}

/// A scope that systemd is making: on dropping, too, it is waited for.
///
/// systemd learns that a scope is empty only of one that once had a living process, so none may end on its way there.
pub struct ScopeOnItsWay {
    bus: SystemBus,
    unit: UnitName,
    machined: Machined,
    waiting: Option<(JobRemovedStream, OwnedObjectPath)>,
}

impl ScopeOnItsWay {
    /// Waits until this process is in the scope, and allows its processes `devices` beside what was asked for.
    ///
    /// # Errors
    /// When systemd could not make the scope, refuses the devices or does not answer in time.
    pub fn wait(mut self, devices: &[AllowedDevice]) -> Result<Machined, BusError> {
        let allowed = self.arrive().and_then(|()| self.allow(devices));
        let refused =
            |cause: zbus::Error| BusError::Scope { unit: self.unit.clone(), reason: reason(&cause) };
        allowed.map_err(refused)?;
        Ok(self.machined.clone())
    }

    fn allow(&self, devices: &[AllowedDevice]) -> zbus::Result<()> {
        if devices.is_empty() {
            return Ok(());
        }
        let rules: Vec<_> = devices.iter().map(AllowedDevice::rule).collect();
        let allowed = async {
            let manager = self.bus.manager().await?;
            manager.set_unit_properties(self.unit.as_ref(), true, &[("DeviceAllow", rules.into())]).await
        };
        self.bus.runtime.block_on(within(allowed))
    }

    fn arrive(&mut self) -> zbus::Result<()> {
        match self.waiting.take() {
            Some((mut removed, job)) => self.bus.runtime.block_on(within(ended(&mut removed, &job))),
            None => Ok(()),
        }
    }
}

impl Drop for ScopeOnItsWay {
    fn drop(&mut self) {
        if let Err(cause) = self.arrive() {
            log::debug!("{}: {}", self.unit, reason(&cause));
        }
    }
}

/// What a pod as a whole may do, in a scope and in a service.
fn bounds(
    devices: &Devices,
    memory_max: Option<u64>,
    cpu_quota_per_second_usec: Option<u64>,
) -> Vec<(&'static str, Variant<'static>)> {
    let mut properties: Vec<(&str, Variant<'_>)> = Vec::new();
    match devices {
        Devices::UsualAnd(more) => {
            let usual = [("char-pts", "rw"), ("/dev/net/tun", "rwm"), ("/dev/fuse", "rwm")];
            let usual = usual.map(|(path, access)| (path.to_owned(), access));
            let allowed: Vec<_> = usual.into_iter().chain(more.iter().map(AllowedDevice::rule)).collect();
            properties.push(("DevicePolicy", "closed".into()));
            properties.push(("DeviceAllow", allowed.into()));
        }
        Devices::Any => {}
    }
    properties.extend(memory_max.map(|bytes| ("MemoryMax", bytes.into())));
    properties.extend(cpu_quota_per_second_usec.map(|quota| ("CPUQuotaPerSecUSec", quota.into())));
    properties
}

/// What systemd says of a new unit whose name is taken.
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// What systemd says of a unit that is not loaded.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Waits for the end of `job`.
async fn ended(removed: &mut JobRemovedStream, job: &OwnedObjectPath) -> zbus::Result<()> {
    while let Some(signal) = removed.next().await {
        let ended = signal.args()?;
        if ended.job() == job {
            return match ended.result().as_str() {
                "done" => Ok(()),
                other => Err(zbus::Error::Failure(format!("its job ended with {other:?}"))),
            };
        }
    }
    Err(zbus::Error::Failure("the bus closed the connection".into()))
}

async fn within<T>(call: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
    tokio::time::timeout(ANSWER_TIMEOUT, call).await.unwrap_or_else(|_| {
        Err(zbus::Error::Failure(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
    })
}

fn reason(cause: &zbus::Error) -> String {
    match cause {
        zbus::Error::MethodError(name, None, _) => name.to_string(),
        zbus::Error::MethodError(_, Some(text), _) => text.clone(),
        other => without_number(&other.to_string()),
    }
}

/// Takes off ` (os error 2)`, with which the standard library ends the text of a system's error.
fn without_number(text: &str) -> String {
    match text.rsplit_once(" (os error ") {
        Some((words, rest)) if rest.ends_with(')') => words.to_owned(),
        _ => text.to_owned(),
    }
}

/// Reads `257` out of `257.13-1~deb13u1` and `v257`.
fn major_version(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches('v');
    digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_distributions_write() {
        for (text, expected) in [
            ("252.39-1~deb12u1", Some(252)),
            ("257", Some(257)),
            ("v256.4+suse.3", Some(256)),
            ("255.4-1ubuntu8", Some(255)),
            ("", None),
            ("devel", None),
        ] {
            assert_eq!(major_version(text), expected, "{text:?}");
        }
    }
}
