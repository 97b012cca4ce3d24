//! Joining a pod to its networks, one plugin after the other, and parting it from them.
//!
//! The first plugin is started at once and works while the caller prepares the pod; [`Attaching::advance`] goes on until
//! only the last one runs, [`Attaching::finish`] waits for that. All of them run in the namespaces of the host. Until
//! [`Attaching`] is forgotten by an execve(2) it undoes everything when dropped: DEL for each plugin that was called, the
//! last one first, then what rkt has made itself, the rule that masquerades and the namespace.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use super::NetError;
use super::config::{Chosen, Masquerade, Network, Stdin, mask};
use super::masquerade;
use super::plugin::{self, Call, PluginError, Search, Verb};
use super::port::{self, Mapping, PORTMAP};
use super::record::{Entry, Record};
use super::result::{AddResult, Dns};
use crate::appc::pod_uuid::PodUuid;
use crate::os::command::{Child, OnInterrupt};
use crate::os::{SysError, file, ns};

/// Where `ip netns` has its namespaces, and pods have theirs.
pub const NETNS_DIR: &str = "/run/netns";

/// What is joined to what.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The pod.
    pub uuid: PodUuid,
    /// Its directory.
    pub dir: &'a Path,
    /// The networks, in the order of the interfaces.
    pub chosen: &'a Chosen,
    /// Where plugins are.
    pub search: &'a Search,
}

/// The resolver of the first network that brings one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkDns {
    /// The network's name.
    pub network: String,
    /// Its resolver.
    pub dns: Dns,
}

/// A network of a pod.
#[derive(Debug)]
struct Joined {
    network: Network,
    entry: Entry,
}

/// What every plugin of a pod is told of the pod.
struct PodSide<'a> {
    uuid: &'a PodUuid,
    netns: &'a str,
    dir: &'a Path,
    search: &'a Search,
}

impl PodSide<'_> {
    fn call<'a>(&'a self, verb: Verb, joined: &'a Joined, path: &'a Path, stdin: Vec<u8>) -> Call<'a> {
        Call {
            verb,
            uuid: self.uuid,
            netns: self.netns,
            if_name: &joined.entry.if_name,
            args: &joined.entry.args,
            search: self.search,
            path,
            dir: self.dir,
            stdin,
        }
    }

    fn delete(
        &self,
        joined: &Joined,
        step: Step,
        path: &Path,
        on_interrupt: OnInterrupt,
    ) -> Result<(), PluginError> {
        let call = self.call(Verb::Del, joined, path, del_stdin(joined, step));
        match plugin::wait(call.start()?, path, on_interrupt) {
            Err(cause) if cause.is_absence() => Ok(()),
            other => other.map(drop),
        }
    }
}

/// A call of a plugin in the order of ADD: the plugins of all networks, then the one for ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Plugin { network: usize, plugin: usize },
    Portmap { network: usize },
}

impl Step {
    fn network(self) -> usize {
        match self {
            Self::Plugin { network, .. } | Self::Portmap { network } => network,
        }
    }
}

/// A pod that is being joined to its networks, or has been.
#[derive(Debug)]
#[must_use = "everything is undone when it is dropped"]
pub struct Attaching {
    uuid: PodUuid,
    search: Search,
    netns: PathBuf,
    record: Record,
    /// The pod's directory, wherever it is moved.
    dir: OwnedFd,
    networks: Vec<Joined>,
    /// The plugins that were called, and where they are.
    called: Vec<(Step, PathBuf)>,
    running: Option<Child>,
    retried: bool,
    dns: Option<NetworkDns>,
    notices: Vec<String>,
    home: Option<ns::Home>,
}

impl Attaching {
    /// Makes the pod's namespace and starts the first plugin.
    ///
    /// # Errors
    /// When a plugin is missing, or the kernel refuses a step; nothing is left then.
    pub fn begin(request: &Request<'_>) -> Result<Self, NetError> {
        let mut networks = Vec::new();
        for (index, (network, args)) in request.chosen.iter().enumerate() {
            networks.push(join(index, network, args, request.search)?);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(request.dir, flags, Mode::empty())
            .map_err(SysError::on("opening", request.dir))?;
        let mut attaching = Self {
            uuid: request.uuid,
            search: request.search.clone(),
            netns: Path::new(NETNS_DIR).join(format!("cni-{}", PodUuid::new_random())),
            record: Record::new(request.dir),
            dir,
            networks,
            called: Vec::new(),
            running: None,
            retried: false,
            dns: None,
            notices: Vec::new(),
            home: None,
        };
        let files = attaching.networks.iter().map(|joined| &joined.network);
        let confs = files.map(|network| (network.file.as_str(), network.bytes.as_slice()));
        attaching.record.begin(&attaching.netns, &attaching.entries(), confs)?;
        ns::create_network(&attaching.netns)?;
        if let Some(first) = attaching.next() {
            attaching.start(first)?;
        }
        // While the plugin works.
        attaching.record.sync();
        Ok(attaching)
    }

    /// Forwards ports to the pod, by the first network that masquerades, or else the last; to be said before the rest.
    ///
    /// # Errors
    /// When there is no network, no plugin for it, or the record can't be written.
    pub fn forward(&mut self, mappings: Vec<Mapping>) -> Result<(), NetError> {
        if mappings.is_empty() {
            return Ok(());
        }
        let masquerades = |joined: &Joined| joined.network.masquerade != Masquerade::No;
        let masquerading = self.networks.iter().position(masquerades);
        let index = masquerading.or(self.networks.len().checked_sub(1)).ok_or(NetError::NoNetworks)?;
        let joined = &mut self.networks[index];
        let found = self.search.find(PORTMAP);
        found.map_err(|cause| NetError::Add { network: joined.network.name.clone(), cause })?;
        joined.entry.port_mappings = mappings;
        Ok(self.record.update(&self.entries())?)
    }

    /// Goes on until the last plugin runs. From then on this process may enter other mount namespaces.
    ///
    /// When addresses are short, `relief` is asked once to free some, and the plugin is called again.
    ///
    /// # Errors
    /// When a plugin fails, or a signal has come.
    pub fn advance(&mut self, relief: &mut dyn FnMut()) -> Result<(), NetError> {
        while let Some(next) = self.next() {
            self.collect(relief)?;
            self.start(next)?;
        }
        self.home.get_or_insert(ns::Home::of_this_process()?);
        Ok(())
    }

    /// Waits for the last plugin, which [`Attaching::advance`] has started, and writes down what the pod has got.
    ///
    /// # Errors
    /// As [`Attaching::advance`], and when the record can't be written.
    pub fn finish(&mut self, relief: &mut dyn FnMut()) -> Result<(), NetError> {
        self.collect(relief)?;
        Ok(self.record.update(&self.entries())?)
    }

    /// Moves this process into the pod's namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&mut self) -> Result<(), NetError> {
        Ok(ns::join_network(&self.netns)?)
    }

    /// The resolver that the networks bring, once they are finished.
    pub fn dns(&self) -> Option<&NetworkDns> {
        self.dns.as_ref()
    }

    /// What the user should know since the last call.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn entries(&self) -> Vec<Entry> {
        self.networks.iter().map(|joined| joined.entry.clone()).collect()
    }

    /// The call that follows those that were made.
    fn next(&self) -> Option<Step> {
        steps(&self.networks).get(self.called.len()).copied()
    }

    fn start(&mut self, step: Step) -> Result<(), NetError> {
        let joined = &self.networks[step.network()];
        let failed = |cause| NetError::Add { network: joined.network.name.clone(), cause };
        if step == (Step::Portmap { network: step.network() }) && joined.entry.ip.is_empty() {
            return Err(NetError::NoAddress(joined.network.name.clone()));
        }
        let path = self.search.find(kind(joined, step)).map_err(failed)?;
        let netns = self.netns.to_string_lossy();
        let stdin = add_stdin(joined, step, &netns);
        let pod = PodSide { uuid: &self.uuid, netns: &netns, dir: self.record.dir(), search: &self.search };
        let child = pod.call(Verb::Add, joined, &path, stdin).start().map_err(failed)?;
        self.called.push((step, path));
        self.running = Some(child);
        Ok(())
    }

    /// Waits for the plugin that runs.
    fn collect(&mut self, relief: &mut dyn FnMut()) -> Result<(), NetError> {
        let (Some(child), Some((step, path))) = (self.running.take(), self.called.last().cloned()) else {
            return Ok(());
        };
        match plugin::wait(child, &path, OnInterrupt::GiveUp) {
            Ok(said) => self.take(step, &said),
            Err(PluginError::Interrupted) => Err(NetError::Interrupted),
            Err(cause) if cause.is_shortage() && !self.retried => {
                self.retried = true;
                self.delete_last();
                relief();
                self.start(step)?;
                self.collect(relief)
            }
            Err(cause) => Err(self.add_error(step, cause)),
        }
    }

    fn add_error(&self, step: Step, cause: PluginError) -> NetError {
        NetError::Add { network: self.networks[step.network()].network.name.clone(), cause }
    }

    /// Takes the result of a plugin in.
    fn take(&mut self, step: Step, said: &[u8]) -> Result<(), NetError> {
        let joined = &mut self.networks[step.network()];
        let name = &joined.network.name;
        let result =
            AddResult::parse(said).map_err(|reason| NetError::Result { network: name.clone(), reason })?;
        if matches!(step, Step::Portmap { .. }) {
            return Ok(());
        }
        if let Some((address, prefix)) = result.ip4 {
            joined.entry.ip = address.to_string();
            let mask = mask(prefix);
            joined.entry.mask = mask.to_string();
            if joined.network.masquerade == Masquerade::ByRkt {
                masquerade::add(&self.uuid, address, mask)
                    .map_err(|cause| NetError::Masquerade { network: name.clone(), cause })?;
            }
        }
        joined.entry.result = Some(result.raw);
        match (result.dns, &self.dns) {
            (Some(dns), None) => self.dns = Some(NetworkDns { network: name.clone(), dns }),
            (Some(_), Some(first)) if first.network != *name => self.notices.push(format!(
                "Warning: network {name} plugin specified DNS configuration, but DNS already supplied"
            )),
            // The next plugin of a list says again what the one before has said, perhaps with more.
            (Some(dns), Some(_)) => self.dns = Some(NetworkDns { network: name.clone(), dns }),
            (None, _) => {}
        }
        Ok(())
    }

    /// Calls the plugin that was called last with the same arguments to undo what it has done.
    fn delete_last(&mut self) {
        let Some((step, path)) = self.called.pop() else { return };
        let joined = &self.networks[step.network()];
        let netns = self.netns.to_string_lossy();
        let pod = PodSide { uuid: &self.uuid, netns: &netns, dir: &self.dir_path(), search: &self.search };
        if let Err(cause) = pod.delete(joined, step, &path, OnInterrupt::GoOn) {
            // The first error is on its way to the user.
            log::warn!("error deleting {:?}: {cause}", joined.network.name);
        }
    }

    /// The pod's directory, which may have been moved since the beginning.
    fn dir_path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.dir.as_raw_fd()).into()
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        // What is done half would have to be undone by plugins that count on the whole. One that fails is undone too.
        if let (Some(child), Some((_, path))) = (self.running.take(), self.called.last()) {
            let _ended = plugin::wait(child, path, OnInterrupt::GiveUp);
        }
        let at_home = self.home.take().map_or(Ok(()), |home| home.enter());
        while !self.called.is_empty() {
            self.delete_last();
        }
        let record = Record::new(&self.dir_path());
        let undone = at_home
            .and_then(|()| masquerade::remove(&self.uuid))
            .and_then(|()| ns::remove_network(&self.netns))
            .and_then(|()| record.close());
        if let Err(error) = undone {
            // The first error is on its way to the user; gc removes what is left.
            log::warn!("removing the network of the pod {}: {error}", self.uuid);
        }
    }
}

fn join(index: usize, network: &Network, args: &str, search: &Search) -> Result<Joined, NetError> {
    let failed = |cause| NetError::Add { network: network.name.clone(), cause };
    let mut paths = Vec::new();
    for plugin in &network.plugins {
        paths.push(search.find(&plugin.kind).map_err(failed)?);
    }
    Ok(Joined {
        network: network.clone(),
        entry: Entry {
            net_name: network.name.clone(),
            net_conf: Record::conf(&network.file),
            plugin_path: paths.into_iter().next().unwrap_or_default(),
            if_name: format!("eth{index}"),
            ip: String::new(),
            mask: String::new(),
            args: args.to_owned(),
            result: None,
            port_mappings: Vec::new(),
        },
    })
}

/// All calls in the order of ADD.
fn steps(networks: &[Joined]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (network, joined) in networks.iter().enumerate() {
        steps.extend((0..joined.network.plugins.len()).map(|plugin| Step::Plugin { network, plugin }));
    }
    let forwards = |joined: &Joined| !joined.entry.port_mappings.is_empty();
    steps.extend(networks.iter().position(forwards).map(|network| Step::Portmap { network }));
    steps
}

fn kind(joined: &Joined, step: Step) -> &str {
    match step {
        Step::Plugin { plugin, .. } => &joined.network.plugins[plugin].kind,
        Step::Portmap { .. } => PORTMAP,
    }
}

fn add_stdin(joined: &Joined, step: Step, netns: &str) -> Vec<u8> {
    match step {
        Step::Plugin { plugin: 0, .. } => joined.network.stdin(0, None),
        Step::Plugin { plugin, .. } => joined.network.stdin(plugin, joined.entry.result.as_ref()),
        Step::Portmap { .. } => portmap_stdin(joined, netns),
    }
}

/// As for ADD; a list's plugin from 0.4 on also gets the result of the last one.
fn del_stdin(joined: &Joined, step: Step) -> Vec<u8> {
    match step {
        Step::Plugin { plugin, .. } => {
            let is_part = matches!(joined.network.plugins[plugin].stdin, Stdin::Part(_));
            let previous = joined.entry.result.as_ref().filter(|_| is_part && joined.network.speaks(0, 4));
            joined.network.stdin(plugin, previous)
        }
        Step::Portmap { .. } => portmap_stdin(joined, ""),
    }
}

fn portmap_stdin(joined: &Joined, netns: &str) -> Vec<u8> {
    let Joined { network, entry } = joined;
    let version = network.speaks(0, 3).then_some(network.version.as_str());
    let previous = entry.result.as_ref().and_then(|raw| AddResult::parse(raw.to_string().as_bytes()).ok());
    let previous = previous.map(|result| match version {
        Some(_) => result.raw,
        None => result.modern(&entry.if_name, netns),
    });
    port::stdin(
        &network.name,
        version,
        &entry.port_mappings,
        previous.as_ref().filter(|v| **v != Value::Null),
    )
}

/// Parts the dead pod in `dir` from its networks, as its record has them, and returns what went wrong, as sentences.
///
/// Everything is tried, and can be tried again: what is gone already is no problem. When `dir` has no record, or one of
/// which all is undone, nothing is done.
///
/// # Locking
/// The caller holds the pod.
pub fn detach(uuid: &PodUuid, dir: &Path, search: &Search) -> Vec<String> {
    let record = Record::new(dir);
    if !record.is_open() {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let entries = record.entries().unwrap_or_else(|error| {
        problems.push(error.to_string());
        Vec::new()
    });
    let joined: Vec<Joined> = entries
        .into_iter()
        .filter_map(|entry| match recorded(dir, entry) {
            Ok(joined) => Some(joined),
            Err(problem) => {
                problems.push(problem);
                None
            }
        })
        .collect();
    let netns = record.netns();
    let there = netns.as_deref().filter(|path| ns::is_namespace(path));
    let variable = there.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let pod = PodSide { uuid, netns: &variable, dir, search };
    for step in steps(&joined).into_iter().rev() {
        let of = &joined[step.network()];
        log::debug!("networking: teardown - executing net-plugin {}", kind(of, step));
        let done =
            search.find(kind(of, step)).and_then(|path| pod.delete(of, step, &path, OnInterrupt::GiveUp));
        if let Err(cause) = done {
            problems.push(format!("error deleting {:?}: {cause}", of.network.name));
        }
    }
    // Also when the record does not tell any more whether there is something to remove.
    problems.extend(masquerade::remove(uuid).err().map(|error| error.to_string()));
    let removed = netns.map_or(Ok(()), |path| ns::remove_network(&path));
    problems.extend(removed.err().map(|error| error.to_string()));
    if problems.is_empty()
        && let Err(error) = record.close()
    {
        problems.push(error.to_string());
    }
    problems
}

fn recorded(dir: &Path, entry: Entry) -> Result<Joined, String> {
    let failed = |cause: String| format!("error deleting {:?}: {cause}", entry.net_name);
    // A name in `net/`, whatever the record has come to say.
    let file = entry.net_conf.strip_prefix("net/").filter(|file| !file.contains('/') && *file != "..");
    let file = file.ok_or_else(|| failed(format!("{:?} is no copy of a configuration", entry.net_conf)))?;
    let bytes = file::read(&dir.join("net").join(file)).map_err(|error| failed(error.to_string()))?;
    let network = Network::parse(file, &bytes).map_err(failed)?;
    Ok(Joined { network, entry })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::assert_golden;
    use crate::net::port::Protocol;

    fn joined(file: &str, text: &str, result: Option<&str>, mappings: Vec<Mapping>) -> Joined {
        let network = Network::parse(file, text.as_bytes()).unwrap();
        Joined {
            entry: Entry {
                net_name: network.name.clone(),
                net_conf: Record::conf(file),
                plugin_path: PathBuf::new(),
                if_name: "eth0".into(),
                ip: "10.1.2.3".into(),
                mask: String::new(),
                args: String::new(),
                result: result.map(|text| serde_json::from_str(text).unwrap()),
                port_mappings: mappings,
            },
            network,
        }
    }

    /// What each plugin of a pod reads, in the order of ADD and then of DEL.
    #[test]
    fn plugins_read_what_they_always_read() {
        let mapping = Mapping { protocol: Protocol::Tcp, host_ip: None, host_port: 8080, pod_port: 80 };
        let old = r#"{"name": "old", "type": "bridge", "ipMasq": true}"#;
        let old_result = r#"{"ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1"}}"#;
        let list =
            r#"{"cniVersion": "1.0.0", "name": "list", "plugins": [{"type": "ptp"}, {"type": "tuning"}]}"#;
        let list_result = r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/16"}]}"#;
        let networks = [
            joined("10-old.conf", old, Some(old_result), vec![mapping]),
            joined("20-list.conflist", list, Some(list_result), Vec::new()),
        ];
        let mut text = String::new();
        let mut show = |verb: &str, step: Step, stdin: Vec<u8>| {
            let joined = &networks[step.network()];
            let stdin = String::from_utf8(stdin).unwrap();
            text += &format!("{verb} {} {}\n{stdin}\n\n", joined.network.name, kind(joined, step));
        };
        let steps = steps(&networks);
        steps.iter().for_each(|step| {
            show("ADD", *step, add_stdin(&networks[step.network()], *step, "/run/netns/cni-x"));
        });
        steps.iter().rev().for_each(|step| {
            show("DEL", *step, del_stdin(&networks[step.network()], *step));
        });
        assert_golden("net/stdin.txt", &text);
    }

    #[test]
    fn a_directory_without_a_record_has_nothing_to_undo() {
        let dir = tempfile::tempdir().unwrap();
        let search = Search::new(Path::new("/no/such"));
        assert!(detach(&PodUuid::new_random(), dir.path(), &search).is_empty());
    }

    #[test]
    fn a_damaged_record_is_told_and_nothing_outside_of_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let search = Search::new(Path::new("/no/such"));
        std::fs::write(dir.path().join("netns"), "/etc/passwd\n").unwrap();
        let entry = r#"[{"netName":"n","netConf":"net/../../x","pluginPath":"","ifName":"","ip":"","mask":"","args":""}]"#;
        for (text, problem) in [
            ("[", "EOF while parsing a list at line 1 column 1"),
            (entry, "error deleting \"n\": \"net/../../x\" is no copy of a configuration"),
        ] {
            std::fs::write(dir.path().join("net-info.json"), text).unwrap();
            let problems = detach(&PodUuid::new_random(), dir.path(), &search);
            // Behind it comes another one for who may not ask for tables.
            assert!(problems.first().is_some_and(|first| first.ends_with(problem)), "{problems:?}");
            assert!(Path::new("/etc/passwd").exists());
        }
    }
}
