//! The networks of pods: joined while a pod is prepared, parted once it is dead (spec network.md).
//!
//! Nobody runs when a pod ends, so that its interface, its address and its rules stay for a while. Whoever finds a dead pod
//! next takes them away: gc and rm always, `list`, `status` and `stop` in passing, and `run` when it wants what a dead
//! pod has. A pod is dead when its lock is free and its control group is empty.

use std::time::{Duration, Instant};

use super::gc;
use super::layout::Place;
use super::lifecycle::{Ended, MoveError, Phase, Pod, PodsDir};
use crate::appc::pod_manifest::PodManifest;
use crate::appc::pod_uuid::PodUuid;
use crate::net::NetError;
use crate::net::attach::{self, Attaching, NetworkDns, Request};
use crate::net::config::Chosen;
use crate::net::plugin::Search;
use crate::net::port::{self, Mapping, Protocol};
use crate::net::record::Record;
use crate::os::lock::{Lock, Sharing};
use crate::os::{Hint, SysError, ns};

/// After this a command that takes away networks in passing leaves the rest to the next one.
const PASSING: Duration = Duration::from_secs(2);

/// Where pods are that may still hold something on the host.
const HOLDERS: [Place; 5] =
    [Place::Prepare, Place::Prepared, Place::Run, Place::ExitedGarbage, Place::Garbage];

/// The network of a pod.
#[derive(Debug, Clone)]
pub enum Network {
    /// A loopback device of its own and nothing else.
    None,
    /// The host's.
    Host,
    /// Networks of the configuration.
    Joined {
        /// Which, in the order of the interfaces.
        chosen: Chosen,
        /// Where their plugins are.
        search: Search,
    },
}

/// Why a pod has not got its networks.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A network can't be joined.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A port of the host is another pod's.
    #[error("port {port} is forwarded to the pod {pod} already")]
    PortTaken {
        /// `PROTOCOL-ADDRESS:PORT`.
        port: String,
        /// The other pod.
        pod: PodUuid,
    },
    /// The pod was prepared for a network.
    #[error("--port flag does not work with '{0}' networking")]
    NoForwarding(&'static str),
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for NetworkError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Net(error) => error.hint(),
            Self::PortTaken { pod, .. } => {
                Some(format!("choose another port of the host, or stop that pod with `rkt stop {pod}`"))
            }
            Self::NoForwarding(_) => {
                Some("the pod was prepared with ports to forward: run it with --net=default".into())
            }
            Self::Sys(error) => error.hint(),
        }
    }
}

/// The network of a pod that is about to start; what was made for it is undone when this is dropped.
#[derive(Debug)]
pub enum Setup {
    /// A loopback device of its own and nothing else.
    None,
    /// The host's.
    Host,
    /// Networks that are being joined.
    Joining(Box<Joining>),
}

/// A pod that is being joined to networks.
#[derive(Debug)]
pub struct Joining {
    attaching: Attaching,
    uuid: PodUuid,
    pods: PodsDir,
    search: Search,
}

impl Setup {
    /// Begins to make the network of `pod`; what a former start of it has left is taken away first.
    ///
    /// # Errors
    /// When a plugin is missing, or the kernel refuses a step; nothing is left then.
    pub fn begin<P: Phase>(network: &Network, pods: &PodsDir, pod: &Pod<P>) -> Result<Self, NetworkError> {
        let Network::Joined { chosen, search } = network else {
            return Ok(if matches!(network, Network::Host) { Self::Host } else { Self::None });
        };
        let paths = pod.paths();
        for problem in attach::detach(pod.uuid(), paths.dir(), search) {
            log::warn!("{problem}");
        }
        let request = Request { uuid: *pod.uuid(), dir: paths.dir(), chosen, search };
        let attaching = Attaching::begin(&request)?;
        let joining = Joining { attaching, uuid: *pod.uuid(), pods: pods.clone(), search: search.clone() };
        Ok(Self::Joining(Box::new(joining)))
    }

    /// Goes on until the last plugin runs, with the ports that the manifest wants forwarded.
    ///
    /// `notice` is told what the user should know.
    ///
    /// # Errors
    /// When a port is another pod's, a plugin fails, or a signal has come.
    ///
    /// # Locking
    /// Holds the directory of all pods while it makes sure that no other pod has the ports.
    pub fn advance(&mut self, manifest: &PodManifest, notice: impl Fn(&str)) -> Result<(), NetworkError> {
        let mappings = mappings(manifest);
        let joining = match self {
            Self::None if !mappings.is_empty() => return Err(NetworkError::NoForwarding("none")),
            Self::Host if !mappings.is_empty() => return Err(NetworkError::NoForwarding("host")),
            Self::None | Self::Host => return Ok(()),
            Self::Joining(joining) => joining,
        };
        for mapping in mappings.iter().filter(|mapping| port::is_listened_on(mapping)) {
            notice(&format!(
                "networking: something on this host listens on {}: from now on its connections go to the pod",
                mapping.host_side()
            ));
        }
        joining.claim(mappings)?;
        let Joining { attaching, pods, search, .. } = &mut **joining;
        Ok(attaching.advance(&mut || relieve(pods, search))?)
    }

    /// Waits until the network is there, and moves this process into it.
    ///
    /// # Errors
    /// When a plugin fails, a signal has come, or the kernel refuses.
    pub fn enter(&mut self, notice: impl Fn(&str)) -> Result<(), NetworkError> {
        match self {
            Self::None => Ok(ns::enter_new_network()?),
            Self::Host => Ok(()),
            Self::Joining(joining) => {
                let Joining { attaching, pods, search, .. } = &mut **joining;
                attaching.finish(&mut || relieve(pods, search))?;
                attaching.take_notices().iter().for_each(|text| notice(text));
                Ok(attaching.enter()?)
            }
        }
    }

    /// The resolver that the networks bring, once they are there.
    pub fn dns(&self) -> Option<&NetworkDns> {
        match self {
            Self::None | Self::Host => None,
            Self::Joining(joining) => joining.attaching.dns(),
        }
    }
}

impl Joining {
    /// Writes the ports down as this pod's, unless one of them is another's; a dead pod loses it.
    fn claim(&mut self, mappings: Vec<Mapping>) -> Result<(), NetworkError> {
        if mappings.is_empty() {
            return Ok(());
        }
        // Two pods that start at once must not both find the port free.
        let _turn = Lock::wait_on(self.pods.root(), Sharing::Exclusive, || {
            log::debug!("waiting for another pod that forwards ports");
        })?;
        for place in HOLDERS {
            for uuid in self.pods.uuids(place)? {
                let record = Record::new(&self.pods.pod(place, &uuid));
                if uuid == self.uuid || !record.is_open() {
                    continue;
                }
                let theirs = record.entries().unwrap_or_default();
                let theirs = theirs.iter().flat_map(|entry| &entry.port_mappings);
                let taken = theirs.flat_map(|other| mappings.iter().find(|own| own.overlaps(other))).next();
                if let Some(taken) = taken
                    && !release(&self.pods, &uuid, place, &self.search, &mut |problem| {
                        log::warn!("{problem}");
                    })
                {
                    return Err(NetworkError::PortTaken { port: taken.host_side(), pod: uuid });
                }
            }
        }
        Ok(self.attaching.forward(mappings)?)
    }
}

/// Frees what dead pods have, when a pod that starts wants it.
fn relieve(pods: &PodsDir, search: &Search) {
    sweep(pods, search, None, &mut |problem| log::warn!("{problem}"));
}

/// The ports that a manifest wants forwarded; preparation has found the port of the pod for each.
fn mappings(manifest: &PodManifest) -> Vec<Mapping> {
    let mapping = |exposed: &crate::appc::pod_manifest::ExposedPort| {
        let port = exposed.pod_port.as_ref()?;
        Some(Mapping {
            protocol: Protocol::from_name(&port.protocol)?,
            host_ip: exposed.host_ip,
            host_port: exposed.host_port,
            pod_port: port.port,
        })
    };
    manifest.ports.iter().filter_map(mapping).collect()
}

/// Parts a held pod that is dead from its networks, and tells what went wrong.
pub(super) fn detach(pod: &Pod<Ended>, search: &Search, tell: &mut dyn FnMut(String)) -> bool {
    let problems = attach::detach(pod.uuid(), pod.paths().dir(), search);
    let is_done = problems.is_empty();
    problems.into_iter().for_each(tell);
    is_done
}

/// Parts the pod from its networks if it is dead; tells whether it has none any more.
fn release(
    pods: &PodsDir,
    uuid: &PodUuid,
    place: Place,
    search: &Search,
    tell: &mut dyn FnMut(String),
) -> bool {
    let held: Result<_, MoveError> = pods.hold_ended(*uuid, place);
    match held {
        Ok(Some(pod)) if gc::is_payload_gone(&pod) => detach(&pod, search, tell),
        Ok(_) => false,
        Err(error) => {
            tell(error.to_string());
            false
        }
    }
}

/// Parts every dead pod from its networks, until the time is over if there is a limit.
///
/// One with which something went wrong is left to gc, so that no command meets the same trouble again and again.
///
/// # Locking
/// Holds one pod at a time, exclusively; those that others hold are passed over.
fn sweep(pods: &PodsDir, search: &Search, limit: Option<Duration>, tell: &mut dyn FnMut(String)) {
    let start = Instant::now();
    for place in HOLDERS {
        for uuid in pods.uuids(place).unwrap_or_default() {
            if limit.is_some_and(|limit| start.elapsed() > limit) {
                return;
            }
            pass(pods, &uuid, place, search, tell);
        }
    }
}

/// Parts one pod from its networks, if it is dead and nobody has tried in vain.
fn pass(pods: &PodsDir, uuid: &PodUuid, place: Place, search: &Search, tell: &mut dyn FnMut(String)) {
    let record = Record::new(&pods.pod(place, uuid));
    if !record.is_open() || record.has_failed() {
        return;
    }
    let mut has_failed = false;
    release(pods, uuid, place, search, &mut |problem| {
        has_failed = true;
        tell(problem);
    });
    if has_failed {
        record.note_failure();
    }
}

/// What `list` does in passing: takes away the networks of dead pods, for a moment.
pub fn release_dead(pods: &PodsDir, search: &Search, mut tell: impl FnMut(String)) {
    if rustix::process::geteuid().is_root() {
        sweep(pods, search, Some(PASSING), &mut tell);
    }
}

/// What `status` and `stop` do in passing: takes away the networks of this pod, if it is dead.
pub fn release_if_dead(pods: &PodsDir, uuid: &PodUuid, search: &Search, mut tell: impl FnMut(String)) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for place in HOLDERS {
        pass(pods, uuid, place, search, &mut tell);
    }
}
