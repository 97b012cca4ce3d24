//! The pod-wide flags of `run`, `prepare` and `run-prepared` (spec cli.md 1.2.1 to 1.2.3).
//!
//! Flags that are right one by one but not together are refused where they are parsed ([`Checked`]), or, where the
//! spec gives an order of checks, by a function that the command calls in that order.

pub mod checked;
pub mod network;

use std::{path::PathBuf, str::FromStr};

use self::checked::{Check, Checked, refused};
use self::network::{DnsFlags, Net, NetFlags, PortForward};
use super::{
    CliError,
    args::{KeyValue, ValueError},
    image_args::{AppFlags, FetchFlags, Images, ParsedImages},
    words::WordError,
};
use crate::appc::volume::{Volume, VolumeError};
use crate::stage1::plan::HostName;

/// Which environment the apps start from.
#[derive(Clone, Debug, clap::Args)]
pub struct EnvironmentFlags {
    /// Inherit all environment variables not set by apps
    #[arg(long)]
    inherit_env: bool,
    /// Environment variable to set for all apps
    #[arg(long, value_name = "NAME=VALUE")]
    set_env: Vec<KeyValue>,
    /// File with environment variables to set for all apps
    #[arg(long, value_name = "FILE")]
    set_env_file: Vec<PathBuf>,
}

/// Where the environment of the apps comes from, weakest first.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The caller's environment comes along.
    pub inherit: bool,
    /// Files to read, see [`environment_file`].
    pub files: Vec<PathBuf>,
    /// Variables from the command line; no key is there twice.
    pub variables: Vec<KeyValue>,
}

impl Environment {
    fn is_empty(&self) -> bool {
        !self.inherit && self.files.is_empty() && self.variables.is_empty()
    }
}

impl Check for EnvironmentFlags {
    type Value = Environment;

    fn check(self) -> Result<Environment, WordError> {
        for (index, variable) in self.set_env.iter().enumerate() {
            if self.set_env[..index].iter().any(|earlier| earlier.key == variable.key) {
                let reason = format!("key {:?} already set", variable.key);
                return Err(refused("set-env", format!("{}={}", variable.key, variable.value), reason));
            }
        }
        Ok(Environment { inherit: self.inherit_env, files: self.set_env_file, variables: self.set_env })
    }
}

/// Why a line of an environment file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentFileError {
    /// No `=`.
    #[error("line {line}: {cause}")]
    KeyValue {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        cause: ValueError,
    },
    /// A key twice.
    #[error("line {line}: key {key:?} already set")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: String,
    },
}

/// Reads `NAME=VALUE` lines; blank lines and those that begin with `#` or `;` are passed over.
///
/// # Errors
/// The first line that is something else, or repeats a key.
pub fn environment_file(text: &str) -> Result<Vec<KeyValue>, EnvironmentFileError> {
    let mut variables: Vec<KeyValue> = Vec::new();
    for (index, content) in text.lines().enumerate() {
        let (line, content) = (index + 1, content.trim());
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let variable =
            content.parse::<KeyValue>().map_err(|cause| EnvironmentFileError::KeyValue { line, cause })?;
        if variables.iter().any(|earlier| earlier.key == variable.key) {
            return Err(EnvironmentFileError::Twice { line, key: variable.key });
        }
        variables.push(variable);
    }
    Ok(variables)
}

/// The mode of `--ipc` that need not be said.
const AUTO: &str = "auto";

/// Flags of a pod that is started, whenever it was prepared.
#[derive(Clone, Debug, clap::Args)]
pub struct StartFlags {
    /// The networks
    #[command(flatten)]
    pub net: Checked<NetFlags>,
    /// The resolver
    #[command(flatten)]
    pub dns: DnsFlags,
    /// Run the pod interactively; only one image may be given
    #[arg(long)]
    pub interactive: bool,
    /// Register the pod with the metadata service
    #[arg(long)]
    pub mds_register: bool,
    /// The pod's host name; without it rkt-UUID
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<HostName>,
    /// Whether the pod has an IPC namespace of its own: auto, private, parent
    #[arg(long, value_name = "MODE", default_value = AUTO)]
    pub ipc: String,
}

/// Which stage1 runs the pod.
#[derive(Clone, Debug, clap::Args)]
pub struct Stage1Flags {
    /// Absolute or relative path to an image to use as stage1
    #[arg(long, value_name = "FILE")]
    stage1_path: Vec<String>,
    /// URL of an image to use as stage1
    #[arg(long, value_name = "URL")]
    stage1_url: Vec<String>,
    /// Name of an image to use as stage1
    #[arg(long, value_name = "NAME")]
    stage1_name: Vec<String>,
    /// Hash of an image to use as stage1
    #[arg(long, value_name = "HASH")]
    stage1_hash: Vec<String>,
    /// File name of a stage1 image in the stage1 images directory
    #[arg(long, value_name = "NAME")]
    stage1_from_dir: Vec<String>,
}

/// The stage1 that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage1 {
    /// A file.
    Path(String),
    /// Something to download.
    Url(String),
    /// An image to discover.
    Name(String),
    /// An image of the store.
    Hash(String),
    /// A file of the directory of stage1 images.
    FromDir(String),
}

impl Check for Stage1Flags {
    type Value = Option<Stage1>;

    fn check(self) -> Result<Option<Stage1>, WordError> {
        let all = [
            ("stage1-path", self.stage1_path),
            ("stage1-url", self.stage1_url),
            ("stage1-name", self.stage1_name),
            ("stage1-hash", self.stage1_hash),
            ("stage1-from-dir", self.stage1_from_dir),
        ];
        let mut used = all.into_iter().filter(|(_, values)| !values.is_empty());
        let Some((name, mut values)) = used.next() else { return Ok(None) };
        if let Some((other, mut values)) = used.next() {
            let reason = format!("flags --{name} and --{other} are mutually exclusive");
            return Err(refused(other, values.swap_remove(0), reason));
        }
        if values.len() > 1 {
            return Err(refused(name, values.swap_remove(1), format!("--{name} already used")));
        }
        let value = values.swap_remove(0);
        Ok(Some(match name {
            "stage1-path" => Stage1::Path(value),
            "stage1-url" => Stage1::Url(value),
            "stage1-name" => Stage1::Name(value),
            "stage1-hash" => Stage1::Hash(value),
            _ => Stage1::FromDir(value),
        }))
    }
}

/// The usage that follows a bad flag leaves no place for a hint of its own.
pub(super) fn with_hint(error: &VolumeError) -> String {
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
}

fn volume(text: &str) -> Result<Volume, String> {
    Volume::from_flag(text)
        .map_err(|reason| format!("invalid value in --volume flag {text:?}: {}", with_hint(&reason)))
}

/// When an image is looked for outside of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only if the store does not have it.
    New,
    /// Always, if there may be a newer one.
    Update,
    /// Never.
    Never,
}

impl FromStr for PullPolicy {
    type Err = std::convert::Infallible;

    /// A word that is not known is as good as `new` (spec cli.md 1.2.1).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "update" => Self::Update,
            "never" => Self::Never,
            _ => Self::New,
        })
    }
}

/// Old spellings of the pull policy.
#[derive(Clone, Debug, clap::Args)]
pub struct OldPullFlags {
    #[arg(long, hide = true)]
    store_only: bool,
    #[arg(long, hide = true)]
    no_store: bool,
}

impl OldPullFlags {
    /// Returns the policy that counts.
    ///
    /// # Errors
    /// Both old spellings were used.
    pub fn policy(&self, asked: PullPolicy) -> Result<PullPolicy, CliError> {
        match (self.store_only, self.no_store) {
            (true, true) => Err(CliError::new("both --store-only and --no-store specified")),
            (true, false) => Ok(PullPolicy::Never),
            (false, true) => Ok(PullPolicy::Update),
            (false, false) => Ok(asked),
        }
    }
}

/// Flags of a pod that is prepared, whenever it is started.
#[derive(Clone, Debug, clap::Args)]
pub struct PrepareFlags {
    /// Ports to forward from the host to the pod
    #[arg(long = "port", value_name = "NAME:[HOSTIP:]HOSTPORT")]
    pub ports: Vec<PortForward>,
    /// The environment
    #[command(flatten)]
    pub environment: Checked<EnvironmentFlags>,
    /// Copy the images instead of using an overlay file system
    #[arg(long)]
    pub no_overlay: bool,
    /// Run within user namespaces
    #[arg(long)]
    pub private_users: bool,
    /// Volumes to make available in the pod
    #[arg(long = "volume", value_name = "NAME,kind=KIND,...", value_parser = volume)]
    pub volumes: Vec<Volume>,
    /// Pod manifest that says the apps, their images, environments, volumes and ports; no image or flag may say them too
    #[arg(long, value_name = "FILE")]
    pub pod_manifest: Option<PathBuf>,
    /// When to look for an image outside of the store: new, update, never
    #[arg(long, value_name = "POLICY", default_value = "new")]
    pub pull_policy: PullPolicy,
    /// Old spellings
    #[command(flatten)]
    pub old_pull: OldPullFlags,
    /// The stage1
    #[command(flatten)]
    pub stage1: Checked<Stage1Flags>,
    /// The images
    #[command(flatten)]
    pub images: Images<AppFlags>,
}

impl PrepareFlags {
    /// Parses the images, and checks that their mounts have volumes.
    fn parse_images(&self) -> Result<ParsedImages<AppFlags>, CliError> {
        let parsed = self.images.parse().and_then(|parsed| {
            parsed.check_mounts(&self.volumes)?;
            Ok(parsed)
        });
        parsed.map_err(|error| CliError::new("error parsing app image arguments").because(error))
    }

    /// Checks that a pod manifest comes alone.
    ///
    /// # Errors
    /// There are images, or flags for what the manifest says.
    fn check_conflicts(&self, parsed: &ParsedImages<AppFlags>, policy: PullPolicy) -> Result<(), CliError> {
        let others = !parsed.images.is_empty()
            || !self.volumes.is_empty()
            || !parsed.for_all.mounts.is_empty()
            || !self.ports.is_empty()
            || !self.environment.is_empty()
            || policy != PullPolicy::New;
        if self.pod_manifest.is_some() && others {
            return Err(CliError::new("conflicting flags set with --pod-manifest (see --help)"));
        }
        Ok(())
    }

    /// Checks that there is something to prepare.
    ///
    /// # Errors
    /// Neither images nor a pod manifest.
    fn check_source(&self, parsed: &ParsedImages<AppFlags>) -> Result<(), CliError> {
        if self.pod_manifest.is_none() && parsed.images.is_empty() {
            return Err(CliError::new("must provide at least one image or specify the pod manifest"));
        }
        Ok(())
    }
}

impl StartFlags {
    /// Returns the words that say the same to `run-prepared`.
    pub fn words(&self) -> Vec<String> {
        // Every flag is named, so that a new one is thought of here.
        let Self { net, dns, interactive, mds_register, hostname, ipc } = self;
        let DnsFlags { dns: servers, dns_search, dns_opt, dns_domain, hosts_entry } = dns;
        let mut words = Vec::new();
        words.extend(net.word());
        let lists = [
            ("dns", servers),
            ("dns-search", dns_search),
            ("dns-opt", dns_opt),
            ("hosts-entry", hosts_entry),
        ];
        for (name, values) in lists {
            words.extend(values.iter().map(|value| format!("--{name}={value}")));
        }
        words.extend(dns_domain.iter().map(|domain| format!("--dns-domain={domain}")));
        words.extend(interactive.then(|| "--interactive".to_owned()));
        words.extend(mds_register.then(|| "--mds-register".to_owned()));
        words.extend(hostname.iter().map(|name| format!("--hostname={name}")));
        words.extend((ipc != AUTO).then(|| format!("--ipc={ipc}")));
        words
    }

    /// Checks that the networks can do what is asked of them.
    fn check_net(&self, ports: &[PortForward]) -> Result<(), CliError> {
        let without = match *self.net {
            Net::None => "none",
            Net::Host => "host",
            Net::Unsaid | Net::Named(_) => return Ok(()),
        };
        if !ports.is_empty() {
            return Err(CliError::new(format!("--port flag does not work with '{without}' networking")));
        }
        if self.mds_register && *self.net == Net::None {
            return Err(CliError::new(
                "--mds-register flag does not work with --net=none. \
                 Please use 'host', 'default' or an equivalent network",
            ));
        }
        Ok(())
    }

    /// Checks that an interactive pod has one image.
    fn check_interactive(&self, images: usize) -> Result<(), CliError> {
        if self.interactive && images > 1 {
            return Err(CliError::new("interactive option only supports one image"));
        }
        Ok(())
    }
}

/// Run image(s) in a pod in rkt
///
/// Images are files, URLs, hashes of stored images, or names. The flags of an image stand behind it; the words between
/// "--" and "---" (or the end) are arguments of the image before them. --cpu and --memory before the first image limit
/// the whole pod.
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RunFlags {
    /// How the pod is prepared
    #[command(flatten)]
    pub prepare: PrepareFlags,
    /// How it is started
    #[command(flatten)]
    pub start: StartFlags,
    /// Write out the pod's UUID to this file
    #[arg(long, value_name = "FILE")]
    pub uuid_file_save: Option<PathBuf>,
    /// Run the pod in the background, as a service of systemd, and print its UUID when it is ready
    #[arg(long)]
    pub detach: bool,
}

impl RunFlags {
    /// Makes all checks of the command line that need nothing but the command line, in their order.
    ///
    /// # Errors
    /// The command's error, ready to be returned.
    pub fn check(&self) -> Result<(ParsedImages<AppFlags>, PullPolicy), CliError> {
        let parsed = self.prepare.parse_images()?;
        let policy = self.prepare.old_pull.policy(self.prepare.pull_policy)?;
        self.start.check_net(&self.prepare.ports)?;
        self.prepare.check_conflicts(&parsed, policy)?;
        self.start.check_interactive(parsed.images.len())?;
        if self.detach && self.start.interactive {
            return Err(CliError::new("--detach and --interactive exclude each other")
                .hint("start the pod with --detach, then run a shell in it with `rkt enter`"));
        }
        self.prepare.check_source(&parsed)?;
        Ok((parsed, policy))
    }
}

/// Prepare to run image(s) in a pod in rkt
///
/// Prints the UUID of the pod, which "rkt run-prepared" starts. For the images see "rkt help run".
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct PrepareOnlyFlags {
    /// How the pod is prepared
    #[command(flatten)]
    pub prepare: PrepareFlags,
    /// Suppress superfluous output on stdout, print only the UUID on success
    #[arg(long)]
    pub quiet: bool,
}

impl PrepareOnlyFlags {
    /// Makes all checks of the command line that need nothing but the command line, in their order.
    ///
    /// # Errors
    /// The command's error, ready to be returned.
    pub fn check(&self) -> Result<(ParsedImages<AppFlags>, PullPolicy), CliError> {
        let policy = self.prepare.old_pull.policy(self.prepare.pull_policy)?;
        let parsed = self.prepare.parse_images()?;
        self.prepare.check_conflicts(&parsed, policy)?;
        self.prepare.check_source(&parsed)?;
        Ok((parsed, policy))
    }
}

/// Run a prepared application pod in rkt
#[derive(Clone, Debug, clap::Args)]
pub struct RunPreparedFlags {
    /// How the pod is started
    #[command(flatten)]
    pub start: StartFlags,
    /// The pod, by its UUID or a beginning of it
    #[arg(value_name = "UUID")]
    pub uuid: String,
}

/// Fetch image(s) and store them in the local store
#[derive(Clone, Debug, clap::Args)]
pub struct FetchCommandFlags {
    /// Print the whole image IDs
    #[arg(long)]
    pub full: bool,
    /// When to look for an image outside of the store: new, update, never
    #[arg(long, value_name = "POLICY", default_value = "update")]
    pub pull_policy: PullPolicy,
    /// Old spellings
    #[command(flatten)]
    pub old_pull: OldPullFlags,
    /// The images
    #[command(flatten)]
    pub images: Images<FetchFlags>,
}

impl FetchCommandFlags {
    /// Makes all checks of the command line that need nothing but the command line.
    ///
    /// # Errors
    /// The command's error, ready to be returned.
    pub fn check(&self) -> Result<(ParsedImages<FetchFlags>, PullPolicy), CliError> {
        let parsed = self.images.parse();
        let parsed = parsed.map_err(|error| CliError::new("unable to parse arguments").because(error))?;
        if parsed.images.is_empty() {
            return Err(CliError::new("must provide at least one image"));
        }
        Ok((parsed, self.old_pull.policy(self.pull_policy)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_start_are_said_again_as_they_were() {
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            start: StartFlags,
        }
        let words = [
            "--net=a:IP=1.2.3.4;X=y,b",
            "--dns=1.1.1.1",
            "--dns=2.2.2.2",
            "--dns-search=x",
            "--dns-opt=y",
            "--hosts-entry=1.2.3.4=z",
            "--dns-domain=d",
            "--mds-register",
            "--hostname=h",
            "--ipc=private",
        ];
        let again = |words: &[&str]| {
            let argv = std::iter::once("rkt").chain(words.iter().copied());
            <Program as clap::Parser>::try_parse_from(argv).expect("right flags").start.words()
        };
        assert_eq!(again(&words), words);
        assert_eq!(again(&["--net"]), ["--net=default"]);
        assert_eq!(again(&["--net=none"]), ["--net=none"]);
        assert_eq!(again(&[]), [""; 0]);
    }

    #[test]
    fn environment_files_have_variables_blank_lines_and_comments() {
        let pair = |key: &str, value: &str| KeyValue { key: key.into(), value: value.into() };
        let text = "A=1\n\n# comment\n; another\nB=x = \"y\"\n";
        assert_eq!(environment_file(text), Ok(vec![pair("A", "1"), pair("B", "x = \"y\"")]));
        for (text, error) in [
            ("A=1\nB", "line 2: must be specified as key=value"),
            ("A=1\nA=2", r#"line 2: key "A" already set"#),
        ] {
            assert_eq!(environment_file(text).map_err(|e| e.to_string()), Err(error.into()));
        }
    }
}
