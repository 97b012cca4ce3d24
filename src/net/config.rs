//! Which networks there are: the built-in ones, and the files of `net.d` (spec network.md 4.1 to 4.3).
//!
//! A file holds one plugin's configuration (`*.conf`), or a list of them that are called one after the other
//! (`*.conflist`, CNI specification 0.3 and later). rkt reads a few keys; the plugin gets the file as it is.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::NetError;
use crate::os::{SysError, file};

/// The directory of networks below a configuration directory.
pub const NET_D: &str = "net.d";

/// The networks that are there without any configuration (spec network.md 4.2).
///
/// Their version of CNI is the newest that every release of the plugins from 0.8 on knows; portmap needs 0.3. `default`
/// masquerades without its plugin ([`super::masquerade`]).
const BUILT_IN: [(&str, Masquerade, &str); 2] = [
    (
        "99-default.conf",
        Masquerade::ByRkt,
        r#"{
	"cniVersion": "0.4.0",
	"name": "default",
	"type": "ptp",
	"ipMasq": false,
	"ipam": {
		"type": "host-local",
		"subnet": "172.16.28.0/24",
		"routes": [{"dst": "0.0.0.0/0"}]
	}
}
"#,
    ),
    (
        "99-default-restricted.conf",
        Masquerade::No,
        r#"{
	"cniVersion": "0.4.0",
	"name": "default-restricted",
	"type": "ptp",
	"ipMasq": false,
	"ipam": {
		"type": "host-local",
		"subnet": "172.31.0.0/16"
	}
}
"#,
    ),
];

/// The version of CNI that a configuration without one has.
const OLDEST_VERSION: &str = "0.1.0";

/// A network as it is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The name of its file, by which the interfaces of a pod are ordered.
    pub file: String,
    /// The file's content.
    pub bytes: Vec<u8>,
    /// The version of CNI in which its plugins are spoken to.
    pub version: String,
    /// Whether what pods send to other places gets the host's address.
    pub masquerade: Masquerade,
    /// Its plugins in the order of their calls.
    pub plugins: Vec<PluginConfig>,
}

/// Who sees to it that what pods send to other places gets the host's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masquerade {
    /// Nobody: it does not.
    No,
    /// A plugin of the network.
    ByPlugin,
    /// rkt itself.
    ByRkt,
}

/// What one plugin is told.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// The plugin's name; never a path.
    pub kind: String,
    /// What it reads, but for the result of the plugin before it.
    pub stdin: Stdin,
}

/// The form of what a plugin reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Stdin {
    /// The whole file.
    File,
    /// Its part of a list, and what it has from the list.
    Part(Map<String, Value>),
}

impl Network {
    /// Reads the content of the file `file`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let Value::Object(object) = value else { return Err("it is no JSON object".into()) };
        let name = text(&object, "name")?.ok_or("it has no \"name\"")?;
        // host-local makes a directory of that name.
        if name.is_empty() || name.contains(['/', '\0', '\n']) || matches!(name, "." | "..") {
            return Err(format!("{name:?} is no name for a network"));
        }
        let version = text(&object, "cniVersion")?.filter(|version| !version.is_empty());
        let network = Self {
            name: name.to_owned(),
            file: file.to_owned(),
            bytes: bytes.to_vec(),
            version: version.unwrap_or(OLDEST_VERSION).to_owned(),
            masquerade: Masquerade::No,
            plugins: Vec::new(),
        };
        match object.get("plugins") {
            None => Ok(Self {
                masquerade: masquerade(&object)?,
                plugins: vec![PluginConfig { kind: kind(&object)?, stdin: Stdin::File }],
                ..network
            }),
            Some(Value::Array(list)) if !list.is_empty() => network.with_list(list, version),
            Some(_) => Err("\"plugins\" is no list of plugins".into()),
        }
    }

    fn with_list(mut self, list: &[Value], version: Option<&str>) -> Result<Self, String> {
        for part in list {
            let Value::Object(part) = part else { return Err("one of its \"plugins\" is no object".into()) };
            let kind = kind(part)?;
            if masquerade(part)? == Masquerade::ByPlugin {
                self.masquerade = Masquerade::ByPlugin;
            }
            let mut stdin = part.clone();
            stdin.insert("name".into(), self.name.clone().into());
            if let Some(version) = version {
                stdin.insert("cniVersion".into(), version.into());
            }
            self.plugins.push(PluginConfig { kind, stdin: Stdin::Part(stdin) });
        }
        Ok(self)
    }

    /// What the plugin of this place in the order reads, after the one before it gave `previous`.
    pub fn stdin(&self, plugin: usize, previous: Option<&Value>) -> Vec<u8> {
        let part = match (&self.plugins[plugin].stdin, previous) {
            (Stdin::File, None) => return self.bytes.clone(),
            (Stdin::File, Some(_)) => {
                serde_json::from_slice(&self.bytes).expect("the file was read as an object")
            }
            (Stdin::Part(part), _) => part.clone(),
        };
        with_previous(part, previous)
    }

    /// Tells whether its version of CNI is at least this one.
    pub fn speaks(&self, major: u64, minor: u64) -> bool {
        let mut numbers = self.version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }
}

/// Renders a configuration for a plugin.
pub(super) fn with_previous(mut part: Map<String, Value>, previous: Option<&Value>) -> Vec<u8> {
    if let Some(previous) = previous {
        part.insert("prevResult".into(), previous.clone());
    }
    Value::Object(part).to_string().into_bytes()
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{key:?} is no string")),
    }
}

fn masquerade(object: &Map<String, Value>) -> Result<Masquerade, String> {
    match object.get("ipMasq") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(Masquerade::No),
        Some(Value::Bool(true)) => Ok(Masquerade::ByPlugin),
        Some(_) => Err("\"ipMasq\" is neither true nor false".into()),
    }
}

/// The plugin's name, which is looked up in directories of plugins, and so is no path (CVE-2021-20206); nor is that of
/// the plugin for addresses.
fn kind(object: &Map<String, Value>) -> Result<String, String> {
    let kind = text(object, "type")?.ok_or("it has no \"type\"")?;
    check_kind(kind)?;
    if let Some(Value::Object(ipam)) = object.get("ipam")
        && let Some(ipam) = text(ipam, "type")?
    {
        check_kind(ipam)?;
    }
    Ok(kind.to_owned())
}

fn check_kind(kind: &str) -> Result<(), String> {
    if kind.is_empty() || kind.contains(['/', '\0']) || matches!(kind, "." | "..") {
        return Err(format!("{kind:?} is no name of a plugin"));
    }
    Ok(())
}

/// A network that a pod wants, with arguments for its plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, or `all`.
    pub name: String,
    /// `K=V;K2=V2`, or nothing.
    pub args: String,
}

/// Networks chosen for a pod, in the order of its interfaces, each with arguments for its plugins.
pub type Chosen = Vec<(Network, String)>;

/// Finds the networks that are wanted, in the order of the interfaces, and what the user should know about them.
///
/// # Errors
/// When a file can't be read or understood, or defines none of a name.
pub fn choose(local_config: &Path, wanted: &[Wanted]) -> Result<(Chosen, Vec<String>), NetError> {
    let dir = local_config.join(NET_D);
    let mut notices = Vec::new();
    let local = first_of_each_name(read_dir(&dir)?, &mut notices);
    let all = wanted.iter().any(|network| network.name == "all");
    let args_of = |name: &str| match wanted.iter().find(|wanted| wanted.name == name) {
        Some(wanted) => Some(wanted.args.clone()),
        None => all.then(String::new),
    };
    let mut chosen = Chosen::new();
    for network in built_in() {
        let is_overridden = local.iter().any(|other| other.name == network.name);
        match args_of(&network.name) {
            Some(_) if is_overridden => notices.push(format!(
                "networking: overriding {:?} network with one from {}",
                network.name,
                dir.display()
            )),
            Some(args) => chosen.push((network, args)),
            None => {}
        }
    }
    for network in local {
        if let Some(args) = args_of(&network.name) {
            chosen.push((network, args));
        }
    }
    let is_missing = |name: &str| name != "all" && !chosen.iter().any(|(network, _)| network.name == name);
    let missing: Vec<String> =
        wanted.iter().map(|wanted| wanted.name.clone()).filter(|name| is_missing(name)).collect();
    if !missing.is_empty() {
        return Err(NetError::NotFound(missing));
    }
    chosen.sort_by(|(one, _), (other, _)| one.file.cmp(&other.file));
    Ok((chosen, notices))
}

fn built_in() -> Vec<Network> {
    let read = |(file, masquerade, text): &(&str, Masquerade, &str)| {
        let network = Network::parse(file, text.as_bytes()).expect("a test reads them");
        Network { masquerade: *masquerade, ..network }
    };
    BUILT_IN.iter().map(read).collect()
}

fn first_of_each_name(networks: Vec<Network>, notices: &mut Vec<String>) -> Vec<Network> {
    let mut kept: Vec<Network> = Vec::new();
    for network in networks {
        if kept.iter().any(|other| other.name == network.name) {
            notices.push(format!(
                "networking: {:?} network already defined, ignoring {}",
                network.name, network.file
            ));
        } else {
            kept.push(network);
        }
    }
    kept
}

/// Reads the files of networks in `dir`, which may not exist, in the order of their names.
fn read_dir(dir: &Path) -> Result<Vec<Network>, NetError> {
    let entries = match std::fs::read_dir(dir) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(SysError::on("reading", dir))?,
    };
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(SysError::on("reading", dir))?;
        let path = entry.path();
        let ending = path.extension().is_some_and(|ending| ending == "conf" || ending == "conflist");
        // A link to a file is one, too.
        if let (true, Ok(name)) = (ending && path.is_file(), entry.file_name().into_string()) {
            files.push((name, path.canonicalize().map_err(SysError::on("looking at", &path))?));
        }
    }
    files.sort();
    let read = |(name, path): (String, PathBuf)| {
        let bytes = file::read(&path)?;
        Network::parse(&name, &bytes).map_err(|reason| NetError::Config { path: dir.join(name), reason })
    };
    files.into_iter().map(read).collect()
}

/// The mask of a prefix length.
pub fn mask(prefix: u8) -> Ipv4Addr {
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    Ipv4Addr::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(name: &str) -> Wanted {
        Wanted { name: name.into(), args: String::new() }
    }

    struct Config(tempfile::TempDir);

    impl Config {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join(NET_D)).unwrap();
            for (name, text) in files {
                std::fs::write(dir.path().join(NET_D).join(name), text).unwrap();
            }
            Self(dir)
        }

        fn names(&self, wanted: &[&str]) -> (Vec<String>, Vec<String>) {
            let wanted: Vec<Wanted> = wanted.iter().map(|name| want(name)).collect();
            let (chosen, notices) = choose(self.0.path(), &wanted).unwrap();
            let names = chosen.into_iter().map(|(network, _)| format!("{} {}", network.name, network.file));
            (names.collect(), notices)
        }
    }

    const A: &str = r#"{"name": "a", "type": "bridge"}"#;

    #[test]
    fn networks_are_ordered_by_their_files_and_the_first_of_a_name_counts() {
        let config = Config::new(&[
            ("20-a.conf", A),
            ("10-a.conf", A),
            ("30-list.conflist", r#"{"name": "list", "cniVersion": "1.0.0", "plugins": [{"type": "x"}]}"#),
            ("99-z.conf", r#"{"name": "z", "type": "macvlan"}"#),
            ("README", "no network"),
        ]);
        std::fs::create_dir(config.0.path().join("net.d/dir.conf")).unwrap();
        let ignored = "networking: \"a\" network already defined, ignoring 20-a.conf";
        assert_eq!(
            config.names(&["default", "a"]),
            (vec!["a 10-a.conf".into(), "default 99-default.conf".into()], vec![ignored.into()])
        );
        assert_eq!(
            config.names(&["all"]).0,
            [
                "a 10-a.conf",
                "list 30-list.conflist",
                "default-restricted 99-default-restricted.conf",
                "default 99-default.conf",
                "z 99-z.conf"
            ]
        );
        let error = choose(config.0.path(), &[want("none-such"), want("a"), want("other")]).unwrap_err();
        assert_eq!(error.to_string(), "networks not found: none-such, other");
    }

    #[test]
    fn a_local_network_takes_the_place_of_a_built_in_one() {
        let config = Config::new(&[("10-own.conf", r#"{"name": "default", "type": "bridge"}"#)]);
        let told = format!(
            "networking: overriding \"default\" network with one from {}",
            config.0.path().join(NET_D).display()
        );
        assert_eq!(config.names(&["default"]), (vec!["default 10-own.conf".into()], vec![told]));
        assert_eq!(config.names(&["default-restricted"]).1, [""; 0]);
    }

    #[test]
    fn what_is_no_network_is_refused_by_its_file() {
        for (text, reason) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("[]", "it is no JSON object"),
            (r#"{"type": "ptp"}"#, "it has no \"name\""),
            (r#"{"name": "n"}"#, "it has no \"type\""),
            (r#"{"name": "../n", "type": "ptp"}"#, "\"../n\" is no name for a network"),
            (r#"{"name": "n", "type": "../../bin/sh"}"#, "\"../../bin/sh\" is no name of a plugin"),
            (r#"{"name": "n", "type": ".."}"#, "\"..\" is no name of a plugin"),
            (
                r#"{"name": "n", "type": "ptp", "ipam": {"type": "/bin/sh"}}"#,
                "\"/bin/sh\" is no name of a plugin",
            ),
            (r#"{"name": "n", "type": "ptp", "ipMasq": "yes"}"#, "\"ipMasq\" is neither true nor false"),
            (r#"{"name": "n", "plugins": []}"#, "\"plugins\" is no list of plugins"),
        ] {
            assert_eq!(Network::parse("x.conf", text.as_bytes()).unwrap_err(), reason, "{text}");
            let config = Config::new(&[("x.conf", text)]);
            let error = choose(config.0.path(), &[want("default")]).unwrap_err().to_string();
            let file = config.0.path().join("net.d/x.conf");
            assert_eq!(error, format!("error loading network config {}: {reason}", file.display()));
        }
    }

    #[test]
    fn a_plugin_reads_the_file_as_it_is_and_a_list_s_plugin_its_part() {
        let text = "{ \"name\":\"a\",\n \"type\": \"bridge\", \"own\": [1] }\n";
        let network = Network::parse("a.conf", text.as_bytes()).unwrap();
        assert_eq!((network.stdin(0, None), network.version.as_str()), (text.into(), "0.1.0"));
        assert!(!network.speaks(0, 3));
        let text = r#"{"cniVersion": "0.4.0", "name": "l", "plugins": [{"type": "bridge", "ipMasq": true}, {"type": "x"}]}"#;
        let network = Network::parse("l.conflist", text.as_bytes()).unwrap();
        let read = |plugin, previous| String::from_utf8(network.stdin(plugin, previous)).unwrap();
        assert_eq!(read(0, None), r#"{"type":"bridge","ipMasq":true,"name":"l","cniVersion":"0.4.0"}"#);
        assert_eq!(
            read(1, Some(&serde_json::json!({"ips": []}))),
            r#"{"type":"x","name":"l","cniVersion":"0.4.0","prevResult":{"ips":[]}}"#
        );
        assert!(
            network.masquerade == Masquerade::ByPlugin
                && network.speaks(0, 3)
                && network.speaks(0, 4)
                && !network.speaks(1, 0)
        );
    }

    #[test]
    fn the_built_in_networks_are_those_of_the_specification() {
        let networks = built_in();
        let shown: Vec<_> = networks
            .iter()
            .map(|network| (network.name.as_str(), network.plugins[0].kind.as_str(), network.masquerade))
            .collect();
        assert_eq!(
            shown,
            [("default", "ptp", Masquerade::ByRkt), ("default-restricted", "ptp", Masquerade::No)]
        );
    }

    #[test]
    fn masks_have_the_bits_of_the_prefix() {
        for (prefix, mask) in [(0, "0.0.0.0"), (24, "255.255.255.0"), (32, "255.255.255.255")] {
            assert_eq!(super::mask(prefix).to_string(), mask);
        }
    }
}
