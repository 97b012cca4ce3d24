//! What is written down of a pod's networks in its directory (spec network.md 4.8), before and after they are made.
//!
//! ```text
//! netns             path of the namespace; as long as it is there, something may have to be undone on the host
//! net-info.json     array of the networks, in order; it stays when all is undone, so that the pod still shows its address
//! net/failed        an attempt to undo it has failed: only gc tries again
//! net/FILE          copy of each network's configuration, from which its plugins are called to undo
//! ```
//!
//! `net-info.json` has the keys of rkt 1.30 and two of its own, `result` and `portMappings`; unknown ones are left aside.
//! A power cut takes what the record describes as well, but for leases of addresses.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::port::Mapping;
use crate::os::{SysError, atomic, file};

/// A network of a pod as `net-info.json` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its name.
    pub net_name: String,
    /// The copy of its configuration, relative to the pod's directory.
    pub net_conf: String,
    /// Its first plugin.
    pub plugin_path: PathBuf,
    /// The name of the pod's interface.
    pub if_name: String,
    /// The pod's IPv4 address, or nothing.
    pub ip: String,
    /// The dotted mask of the network, or nothing.
    pub mask: String,
    /// Arguments for the plugins.
    pub args: String,
    /// What the last plugin said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Ports that lead to the pod by this network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<Mapping>,
}

/// The record in the directory of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    dir: PathBuf,
}

impl Record {
    /// The record of the pod in `dir`, whether there is one or not.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The pod's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path, relative to the pod's directory, of the copy of a configuration.
    pub fn conf(file: &str) -> String {
        format!("net/{file}")
    }

    /// Writes down the namespace that is about to be made, and copies of configurations.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn begin<'a>(
        &self,
        netns: &Path,
        entries: &[Entry],
        confs: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(), SysError> {
        let net = self.dir.join("net");
        match std::fs::create_dir(&net) {
            Err(cause) if cause.kind() != ErrorKind::AlreadyExists => {
                return Err(SysError::new("creating", &net, cause));
            }
            _ => {}
        }
        for (file, bytes) in confs {
            let path = self.dir.join(Self::conf(file));
            // One of a start that failed.
            let _ = std::fs::remove_file(&path);
            atomic::write_new(&path, bytes, 0o640)?;
        }
        self.update(entries)?;
        let path = self.netns_file();
        std::fs::write(&path, format!("{}\n", netns.display())).map_err(SysError::on("writing", &path))
    }

    /// Writes the networks down as they are now.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn update(&self, entries: &[Entry]) -> Result<(), SysError> {
        let text = serde_json::to_vec(entries).expect("the keys are text");
        atomic::replace(&self.info(), &text, 0o644)
    }

    /// Makes what was written durable, as far as that goes: a network that is lost in a power cut is no reason to stop.
    pub fn sync(&self) {
        let confs = std::fs::read_dir(self.dir.join("net")).into_iter().flatten().flatten();
        for path in confs.map(|entry| entry.path()).chain([self.info(), self.netns_file()]) {
            if let Err(cause) = std::fs::File::open(&path).and_then(|file| file.sync_all()) {
                log::warn!("syncing {}: {cause}", path.display());
            }
        }
    }

    /// The namespace of which something may be left.
    pub fn netns(&self) -> Option<PathBuf> {
        let text = file::read_text(&self.netns_file()).ok()?;
        let path = PathBuf::from(text.trim_end());
        // Names are taken away: never one of somebody else's, whatever the file has come to say.
        let is_ours = path.parent() == Some(Path::new(super::attach::NETNS_DIR))
            && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("cni-"));
        is_ours.then_some(path)
    }

    /// Tells whether something may have to be undone.
    pub fn is_open(&self) -> bool {
        std::fs::symlink_metadata(self.netns_file()).is_ok()
    }

    /// Tells whether an attempt to undo it has failed.
    pub fn has_failed(&self) -> bool {
        self.failure_file().exists()
    }

    /// Notes that an attempt to undo it has failed.
    pub fn note_failure(&self) {
        if let Err(cause) = std::fs::write(self.failure_file(), "") {
            log::warn!("creating {}: {cause}", self.failure_file().display());
        }
    }

    /// Notes that all is undone.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn close(&self) -> Result<(), SysError> {
        let path = self.netns_file();
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => Err(SysError::new("removing", &path, cause)),
            _ => Ok(()),
        }
    }

    /// The networks; none when there is no record.
    ///
    /// # Errors
    /// When it can't be read or is damaged.
    pub fn entries(&self) -> Result<Vec<Entry>, SysError> {
        let path = self.info();
        let bytes = match file::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            SysError::new("reading", path, std::io::Error::new(ErrorKind::InvalidData, error))
        })
    }

    fn failure_file(&self) -> PathBuf {
        self.dir.join("net/failed")
    }

    fn netns_file(&self) -> PathBuf {
        self.dir.join("netns")
    }

    fn info(&self) -> PathBuf {
        self.dir.join("net-info.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            net_name: "default".into(),
            net_conf: Record::conf("99-default.conf"),
            plugin_path: "/usr/lib/cni/ptp".into(),
            if_name: "eth0".into(),
            ip: "172.16.28.2".into(),
            mask: "255.255.255.0".into(),
            args: String::new(),
            result: None,
            port_mappings: Vec::new(),
        }
    }

    #[test]
    fn the_record_has_the_keys_of_the_specification() {
        let text = serde_json::to_string(&[entry()]).unwrap();
        let expected = r#"[{"netName":"default","netConf":"net/99-default.conf","pluginPath":"/usr/lib/cni/ptp","ifName":"eth0","ip":"172.16.28.2","mask":"255.255.255.0","args":""}]"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_record_is_open_until_it_is_closed_and_shows_its_networks_after_that() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::new(dir.path());
        assert!(!record.is_open() && record.entries().unwrap().is_empty());
        let netns = Path::new("/run/netns/cni-1");
        for _ in 0..2 {
            record.begin(netns, &[entry()], [("99-default.conf", &b"{}"[..])]).unwrap();
            assert_eq!((record.netns().as_deref(), record.is_open()), (Some(netns), true));
        }
        record.close().unwrap();
        record.close().unwrap();
        assert!(!record.is_open());
        assert_eq!(record.entries().unwrap(), [entry()]);
        assert_eq!(std::fs::read(dir.path().join("net/99-default.conf")).unwrap(), b"{}");
        std::fs::write(dir.path().join("net-info.json"), "[{").unwrap();
        assert!(record.entries().is_err());
    }

    #[test]
    fn only_names_of_pods_are_taken_for_a_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::new(dir.path());
        for (text, expected) in [
            ("/run/netns/cni-1\n", Some("/run/netns/cni-1")),
            ("/run/netns/mine\n", None),
            ("/etc/cni-1\n", None),
            ("/run/netns/x/cni-1", None),
            ("", None),
        ] {
            std::fs::write(dir.path().join("netns"), text).unwrap();
            assert_eq!(record.netns(), expected.map(PathBuf::from), "{text:?}");
        }
    }
}
