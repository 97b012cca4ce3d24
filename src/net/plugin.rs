//! One call of a plugin: where plugins are, what one gets, and what its end means (CNI specification, "Execution
//! protocol"; spec network.md 4.5).
//!
//! A plugin is a program of the administrator's that runs as root. It is believed as little as can be: it is looked for by
//! name in directories that only root can write to, it has a time limit, and what it says has a size limit.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use crate::appc::pod_uuid::PodUuid;
use crate::os::command::{Child, Command, End, OnInterrupt};
use crate::os::{Hint, SysError};

/// How long a plugin may take.
pub const TIME: Duration = Duration::from_secs(30);

/// How much a plugin may say; a result has a few hundred bytes.
const OUTPUT: usize = 256 << 10;

/// Where plugins are, behind the local configuration's own: rkt's, CNI's, Debian's, Fedora's.
const DIRS: [&str; 4] = ["/usr/lib/rkt/plugins/net", "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// The version of CNI for plugins that are older than the key of that name in their configuration.
const CNI_VERSION: &str = "0.1.0";

/// Where plugins find programs such as iptables.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Permission bits that let others than root write.
const OTHERS_WRITE: u32 = 0o022;

/// Why a plugin did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is none of that name.
    #[error("Could not find plugin {0:?}")]
    NotFound(String),
    /// There is one that somebody else than root may have written.
    #[error("the plugin {} is not used: {why}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It says that it could not.
    #[error("{0}")]
    Failed(String),
    /// It failed and does not say why in the form of CNI.
    #[error("netplugin failed but error parsing its diagnostic message {said:?}: {reason}")]
    Garbled {
        /// What it said.
        said: String,
        /// What is wrong with that.
        reason: String,
    },
    /// A signal ended it.
    #[error("the plugin {} was killed by signal {signal}", path.display())]
    Crashed {
        /// The plugin.
        path: PathBuf,
        /// The signal.
        signal: i32,
    },
    /// It did not come to an end.
    #[error("the plugin {} was killed, since it did not end within {} s", .0.display(), TIME.as_secs())]
    TimedOut(PathBuf),
    /// It did not stop to write.
    #[error("the plugin {} was killed, since it wrote more than {} KiB", .0.display(), OUTPUT >> 10)]
    SaidTooMuch(PathBuf),
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for PluginError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) => Some(format!(
                "install the package containernetworking-plugins; plugins are looked for in {} and in net.d of the \
                 local configuration directory; --net=none and --net=host need none",
                DIRS.join(", ")
            )),
            Self::Unsafe { path, .. } => {
                Some(format!("`chown root:root` and `chmod go-w` make {} one that is used", path.display()))
            }
            Self::Sys(error) => error.hint(),
            Self::Failed(_)
            | Self::Garbled { .. }
            | Self::Crashed { .. }
            | Self::TimedOut(_)
            | Self::SaidTooMuch(_)
            | Self::Interrupted => None,
        }
    }
}

impl PluginError {
    /// Tells whether an address that a pod wants is taken, or all are: another pod's end may help.
    pub fn is_shortage(&self) -> bool {
        match self {
            Self::Failed(text) => {
                text.contains("no IP addresses available") || text.contains("is not available in")
            }
            Self::NotFound(_)
            | Self::Unsafe { .. }
            | Self::Garbled { .. }
            | Self::Crashed { .. }
            | Self::TimedOut(_)
            | Self::SaidTooMuch(_)
            | Self::Interrupted
            | Self::Sys(_) => false,
        }
    }

    /// Tells whether a DEL found nothing to delete, which is no failure (CNI specification, "DEL").
    ///
    /// The plugins of Debian 12 do not know iptables' words for a chain that is not there, and would fail for ever after
    /// an ADD that was killed before it had made its chain, the last thing that they undo.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Failed(text) if text.contains("Chain 'CNI-") && text.contains("' does not exist"))
    }
}

/// The directories in which plugins are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    dirs: Vec<PathBuf>,
}

impl Search {
    /// The directories for this local configuration; those that others than root can write to are left aside, since a
    /// plugin looks for further ones in all of them.
    pub fn new(local_config: &Path) -> Self {
        let own = local_config.join(super::config::NET_D);
        let dirs = std::iter::once(own).chain(DIRS.map(PathBuf::from));
        Self { dirs: dirs.filter(|dir| is_trusted(dir) && !dir.to_string_lossy().contains(':')).collect() }
    }

    /// Finds the plugin of the name `kind`, which is no path.
    ///
    /// # Errors
    /// When there is none, or it may be another's.
    pub fn find(&self, kind: &str) -> Result<PathBuf, PluginError> {
        let found = self.dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file());
        let path = found.ok_or_else(|| PluginError::NotFound(kind.to_owned()))?;
        let metadata = std::fs::metadata(&path).map_err(SysError::on("looking at", &path))?;
        match (metadata.uid(), metadata.mode()) {
            (1.., _) => Err(PluginError::Unsafe { path, why: "it does not belong to root" }),
            (0, mode) if mode & OTHERS_WRITE != 0 => {
                Err(PluginError::Unsafe { path, why: "others than root can write to it" })
            }
            _ => Ok(path),
        }
    }

    /// The value of `CNI_PATH`.
    fn variable(&self) -> String {
        let dirs: Vec<_> = self.dirs.iter().map(|dir| dir.to_string_lossy()).collect();
        dirs.join(":")
    }
}

fn is_trusted(dir: &Path) -> bool {
    std::fs::metadata(dir)
        .is_ok_and(|found| found.is_dir() && found.uid() == 0 && found.mode() & OTHERS_WRITE == 0)
}

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Join the pod to the network.
    Add,
    /// Undo that, as far as it was done.
    Del,
}

/// A call of a plugin.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// What to do.
    pub verb: Verb,
    /// The pod.
    pub uuid: &'a PodUuid,
    /// The path of its namespace; nothing when that is gone.
    pub netns: &'a str,
    /// The name of the interface in there.
    pub if_name: &'a str,
    /// `K=V;K2=V2`, or nothing.
    pub args: &'a str,
    /// Where plugins are.
    pub search: &'a Search,
    /// The plugin.
    pub path: &'a Path,
    /// The pod's directory.
    pub dir: &'a Path,
    /// What it reads.
    pub stdin: Vec<u8>,
}

impl Call<'_> {
    /// What is executed.
    fn command(&self) -> Command {
        let verb = match self.verb {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
        };
        let env = [
            ("PATH", PATH.to_owned()),
            ("CNI_VERSION", CNI_VERSION.to_owned()),
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", self.uuid.to_string()),
            ("CNI_NETNS", self.netns.to_owned()),
            ("CNI_ARGS", self.args.to_owned()),
            ("CNI_IFNAME", self.if_name.to_owned()),
            ("CNI_PATH", self.search.variable()),
        ];
        Command {
            program: self.path.to_owned(),
            args: Vec::new(),
            env: env.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>(),
            dir: self.dir.to_owned(),
            input: self.stdin.clone(),
            time: TIME,
            output: OUTPUT,
        }
    }

    /// Starts the plugin.
    ///
    /// # Errors
    /// When it can't be executed.
    pub fn start(&self) -> Result<Child, PluginError> {
        Ok(self.command().start()?)
    }
}

/// Waits for the end of the plugin `path`, and returns what it said when it succeeded.
///
/// # Errors
/// When it failed, or had to be killed.
pub fn wait(child: Child, path: &Path, on_interrupt: OnInterrupt) -> Result<Vec<u8>, PluginError> {
    outcome(child.wait(on_interrupt), path)
}

fn outcome(end: End, path: &Path) -> Result<Vec<u8>, PluginError> {
    use std::os::unix::process::ExitStatusExt;
    match end {
        End::Exited(status, said) if status.success() => Ok(said),
        End::Exited(status, said) => Err(match status.signal() {
            Some(signal) => PluginError::Crashed { path: path.to_owned(), signal },
            None => failure(status, &said),
        }),
        End::TimedOut => Err(PluginError::TimedOut(path.to_owned())),
        End::SaidTooMuch => Err(PluginError::SaidTooMuch(path.to_owned())),
        End::Interrupted => Err(PluginError::Interrupted),
    }
}

/// Reads `{code, msg, details}`.
fn failure(status: ExitStatus, said: &[u8]) -> PluginError {
    let garbled = |reason: String| PluginError::Garbled { said: shortened(said), reason };
    let value: Value = match serde_json::from_slice(said) {
        Ok(value) => value,
        Err(error) => return garbled(error.to_string()),
    };
    let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (text("msg"), text("details")) {
        (Some(message), Some(details)) => PluginError::Failed(format!("{message}; {details}")),
        (Some(message), None) => PluginError::Failed(message.to_owned()),
        (None, _) => garbled(format!("it has no \"msg\" ({status})")),
    }
}

/// As much of what a plugin said as a message can hold.
fn shortened(said: &[u8]) -> String {
    const LENGTH: usize = 300;
    let text = String::from_utf8_lossy(said);
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn error_of(status: i32, said: &str) -> String {
        let end = End::Exited(ExitStatus::from_raw(status), said.as_bytes().to_vec());
        outcome(end, Path::new("/usr/lib/cni/x")).unwrap_err().to_string()
    }

    #[test]
    fn the_end_of_a_plugin_is_told_in_one_sentence() {
        const FAILED: i32 = 1 << 8;
        for (status, said, told) in [
            (FAILED, r#"{"code":7,"msg":"no address"}"#, "no address"),
            (
                FAILED,
                r#"{"code":7,"msg":"no address","details":"all are taken"}"#,
                "no address; all are taken",
            ),
            (
                FAILED,
                "oops",
                "netplugin failed but error parsing its diagnostic message \"oops\": expected value at line 1 column 1",
            ),
            (
                FAILED,
                "",
                "netplugin failed but error parsing its diagnostic message \"\": EOF while parsing a value at line 1 column 0",
            ),
            (
                FAILED,
                "{}",
                "netplugin failed but error parsing its diagnostic message \"{}\": it has no \"msg\" (exit status: 1)",
            ),
            (11, "", "the plugin /usr/lib/cni/x was killed by signal 11"),
        ] {
            assert_eq!(error_of(status, said), told);
        }
        assert!(error_of(FAILED, &"x".repeat(100_000)).len() < 500);
        let ended = |end| outcome(end, Path::new("/x")).unwrap_err().to_string();
        assert_eq!(ended(End::TimedOut), "the plugin /x was killed, since it did not end within 30 s");
        assert_eq!(ended(End::SaidTooMuch), "the plugin /x was killed, since it wrote more than 256 KiB");
    }

    #[test]
    fn a_shortage_of_addresses_is_known_from_other_failures() {
        for (text, is_shortage) in [
            ("no IP addresses available in network: default", true),
            ("no IP addresses available in range set: 172.16.28.1-172.16.28.254", true),
            ("requested IP address \"172.16.28.9\" is not available in network: default", true),
            (
                "requested IP address 172.16.28.9 is not available in range set 172.16.28.1-172.16.28.254",
                true,
            ),
            ("failed to open netns", false),
        ] {
            assert_eq!(PluginError::Failed(text.into()).is_shortage(), is_shortage, "{text}");
        }
    }

    #[test]
    fn a_chain_that_is_gone_is_known_from_other_failures() {
        let gone = "running [/usr/sbin/iptables -t nat -D POSTROUTING -s 172.16.28.2 -j CNI-aa4d00b4 --wait]: exit status 2: \
                    iptables v1.8.9 (nf_tables): Chain 'CNI-aa4d00b4' does not exist\nTry `iptables -h' for more.\n";
        assert!(PluginError::Failed(gone.into()).is_absence());
        for other in ["Chain 'DOCKER' does not exist", "failed to lock CNI-aa4d00b4: it does not exist"] {
            assert!(!PluginError::Failed(other.into()).is_absence(), "{other}");
        }
    }

    #[test]
    fn plugins_are_root_s_alone() {
        let config = tempfile::tempdir().unwrap();
        let net_d = config.path().join("net.d");
        std::fs::create_dir(&net_d).unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let find = |kind: &str| Search::new(config.path()).find(kind).map_err(|error| error.to_string());
        mode(&net_d, 0o755);
        let plugin = net_d.join("rkt-test-plugin");
        std::fs::write(&plugin, "").unwrap();
        mode(&plugin, 0o755);
        if !rustix::process::geteuid().is_root() {
            assert_eq!(find("rkt-test-plugin"), Err("Could not find plugin \"rkt-test-plugin\"".into()));
            return;
        }
        assert_eq!(find("rkt-test-plugin"), Ok(plugin.clone()));
        for bits in [0o775, 0o757] {
            mode(&plugin, bits);
            let why = "others than root can write to it";
            assert_eq!(
                find("rkt-test-plugin"),
                Err(format!("the plugin {} is not used: {why}", plugin.display()))
            );
        }
        mode(&plugin, 0o755);
        std::os::unix::fs::chown(&plugin, Some(1), None).unwrap();
        let why = "it does not belong to root";
        assert_eq!(
            find("rkt-test-plugin"),
            Err(format!("the plugin {} is not used: {why}", plugin.display()))
        );
        std::os::unix::fs::chown(&plugin, Some(0), None).unwrap();
        mode(&net_d, 0o777);
        assert_eq!(find("rkt-test-plugin"), Err("Could not find plugin \"rkt-test-plugin\"".into()));
    }

    #[test]
    fn a_plugin_gets_an_environment_made_from_nothing() {
        let uuid = "6e1f0c9a-52d4-4b38-a1e0-93cf4d2688b7".parse().unwrap();
        let call = Call {
            verb: Verb::Add,
            uuid: &uuid,
            netns: "/run/netns/cni-x",
            if_name: "eth0",
            args: "IP=10.1.2.3",
            search: &Search { dirs: vec!["/etc/rkt/net.d".into(), "/usr/lib/cni".into()] },
            path: Path::new("/usr/lib/cni/ptp"),
            dir: Path::new("/var/lib/rkt/pods/prepare/x"),
            stdin: b"{}".to_vec(),
        };
        let command = call.command();
        let env: Vec<String> = command.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            env,
            [
                "CNI_ARGS=IP=10.1.2.3",
                "CNI_COMMAND=ADD",
                "CNI_CONTAINERID=6e1f0c9a-52d4-4b38-a1e0-93cf4d2688b7",
                "CNI_IFNAME=eth0",
                "CNI_NETNS=/run/netns/cni-x",
                "CNI_PATH=/etc/rkt/net.d:/usr/lib/cni",
                "CNI_VERSION=0.1.0",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ]
        );
        assert_eq!((command.input.as_slice(), command.dir.as_path()), (&b"{}"[..], call.dir));
    }
}
