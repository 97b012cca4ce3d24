//! From flags to what the pod room is asked for; here the environment and the host's size are read.

use std::collections::BTreeMap;
use std::path::Path;

use crate::appc::capability::Capability;
use crate::appc::isolator::{Isolator, Resource};
use crate::appc::pod_manifest::ExposedPort;
use crate::appc::quantity::Quantity;
use crate::cli::args::KeyValue;
use crate::cli::image::find::Named;
use crate::cli::image_args::{AppFlags, ImageArg, ParsedImages};
use crate::cli::pod_flags::network::{Net, PortForward};
use crate::cli::pod_flags::{PrepareFlags, PullPolicy, StartFlags, environment_file};
use crate::cli::{CliError, Context, Insecure, image, output};
use crate::image::reference::NameReference;
use crate::image::store::Store;
use crate::net::config::{self, Wanted};
use crate::net::plugin::Search;
use crate::os::SysError;
use crate::pod::app::{AppRequest, Capabilities, PodEnvironment, Seccomp};
use crate::pod::draft::{Content, PodWishes};
use crate::pod::etc::EtcRequest;
use crate::pod::given::{GivenError, GivenManifest, ReadManifest};
use crate::pod::network::Network;
use crate::pod::prepare::{PodRequest, PrepareError, Restrictions, Roots};
use crate::pod::roots::RootsError;
use crate::pod::run::{PodLimits, RunError, StartRequest};
use crate::pod::volume::source::SourceError;
use crate::stage1::interactive::of_caller;
use crate::stage1::plan::{HostName, KernelPaths};

/// What `run` and `prepare` have in common.
pub struct Wishes<'a> {
    /// The flags.
    pub flags: &'a PrepareFlags,
    /// The pod's host name, if said.
    pub hostname: Option<HostName>,
    /// What may be fetched.
    pub policy: PullPolicy,
}

impl Wishes<'_> {
    /// Finds the images, importing files, and collects what is wanted of each, or reads that from the pod manifest.
    ///
    /// # Errors
    /// When an image is not to be had, or a pod manifest or an environment file is unreadable.
    pub fn pod_request(
        &self,
        images: &ParsedImages<AppFlags>,
        store: &Store,
        ctx: &Context,
    ) -> Result<PodRequest, CliError> {
        let content = match &self.flags.pod_manifest {
            Some(file) => Content::Given(self.given(file, store, ctx)?),
            None => Content::Wished(self.wished(images, store, ctx)?),
        };
        Ok(PodRequest {
            content,
            roots: if self.flags.no_overlay { Roots::Copy } else { Roots::Overlay },
            restrictions: restrictions(ctx),
            hostname: self.hostname.clone(),
        })
    }

    /// Reads the manifest that the user gives, and finds its images: by an ID in the store, by a name as those of the
    /// command line.
    fn given(&self, file: &Path, store: &Store, ctx: &Context) -> Result<GivenManifest, CliError> {
        let failed = |error: GivenError| not_prepared(error.into());
        let given = ReadManifest::read(file).map_err(failed)?;
        let given = given.resolve(|name, labels| {
            image::find::named_image(NameReference { name, labels }, self.policy, store, ctx)
        })?;
        for id in given.images(store).map_err(failed)? {
            let text = &id.to_string();
            let named = Named { text, signature: None, trust_prefix: None, policy: self.policy };
            image::find::app_image(&named, store, ctx)?;
        }
        Ok(given)
    }

    fn wished(
        &self,
        images: &ParsedImages<AppFlags>,
        store: &Store,
        ctx: &Context,
    ) -> Result<PodWishes, CliError> {
        let apps = images
            .images
            .iter()
            .map(|image| app_request(image, self.policy, store, ctx))
            .collect::<Result<_, _>>()?;
        Ok(PodWishes {
            apps,
            environment: self.environment()?,
            ports: self.flags.ports.iter().map(exposed).collect(),
            volumes: self.flags.volumes.clone(),
            mounts: images.for_all.mounts.clone(),
        })
    }

    fn environment(&self) -> Result<PodEnvironment, CliError> {
        let flags = &self.flags.environment;
        let mut set: Vec<KeyValue> = Vec::new();
        for file in &flags.files {
            let failed =
                || CliError::new(format!("error reading environment file {:?}", file.display().to_string()));
            let text = std::fs::read_to_string(file)
                .map_err(SysError::on("reading", file))
                .map_err(|error| failed().because(error))?;
            set.extend(environment_file(&text).map_err(|error| failed().because_of(&error))?);
        }
        set.extend(flags.variables.iter().cloned());
        Ok(PodEnvironment {
            inherited: if flags.inherit { inherited() } else { Vec::new() },
            set: set.into_iter().map(|pair| (pair.key, pair.value)).collect(),
        })
    }
}

fn exposed(wanted: &PortForward) -> ExposedPort {
    let PortForward { name, host_ip, host_port } = wanted.clone();
    ExposedPort { name, host_port, host_ip, pod_port: None }
}

fn inherited() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => Some((name, value)),
            (name, _) => {
                let name = name.unwrap_or_else(|name| name.to_string_lossy().into_owned());
                output::message(format!("the variable {name:?} is not UTF-8 and not inherited"));
                None
            }
        })
        .collect()
}

fn restrictions(ctx: &Context) -> Restrictions {
    Restrictions {
        capabilities: if ctx.insecure.allows(Insecure::Capabilities) {
            Capabilities::Unbounded
        } else {
            Capabilities::Bounded
        },
        kernel_paths: if ctx.insecure.allows(Insecure::Paths) {
            KernelPaths::Open
        } else {
            KernelPaths::Protected
        },
        seccomp: if ctx.insecure.allows(Insecure::Seccomp) { Seccomp::Unfiltered } else { Seccomp::Filtered },
    }
}

fn app_request(
    wanted: &ImageArg<AppFlags>,
    policy: PullPolicy,
    store: &Store,
    ctx: &Context,
) -> Result<AppRequest, CliError> {
    let flags = &wanted.flags;
    let mut isolators = Vec::new();
    isolators.extend(flags.caps_retain.as_ref().map(|caps| Isolator::CapabilitiesRetain(names(caps))));
    isolators.extend(flags.caps_remove.as_ref().map(|caps| Isolator::CapabilitiesRemove(names(caps))));
    isolators.extend(flags.seccomp.clone());
    isolators.extend(flags.cpu_shares.map(Isolator::CpuShares));
    isolators.extend(flags.oom_score_adj.map(Isolator::OomScoreAdj));
    if let Some(memory) = &flags.memory {
        isolators.push(Isolator::Memory(Resource::limit(memory.clone())));
    }
    if let Some(cpu) = &flags.cpu {
        isolators.push(Isolator::Cpu(Resource::limit(cores(cpu))));
    }
    let named = Named {
        text: &wanted.image,
        signature: flags.signature.as_deref(),
        trust_prefix: flags.trust_prefix.as_ref(),
        policy,
    };
    Ok(AppRequest {
        image: image::find::app_image(&named, store, ctx)?,
        name: flags.name.clone(),
        exec: flags.exec.clone(),
        args: wanted.arguments.clone().unwrap_or_default(),
        user: flags.user.clone(),
        group: flags.group.clone(),
        working_directory: flags.working_dir.clone(),
        environment: flags.environment.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect(),
        supplementary_gids: flags.supplementary_gids.clone().map(|gids| gids.0),
        isolators,
        read_only_root: flags.readonly_rootfs.unwrap_or(false),
        annotations: flags.annotations.clone(),
        user_annotations: map(&flags.user_annotations),
        user_labels: map(&flags.user_labels),
        mounts: flags.mounts.clone(),
    })
}

fn names(capabilities: &[Capability]) -> Vec<String> {
    capabilities.iter().map(Capability::to_string).collect()
}

fn map(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect()
}

/// Reads a plain number above the host's number of CPUs as thousandths: nobody means 500 whole ones.
fn cores(cpu: &Quantity) -> Quantity {
    let text = cpu.as_str();
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let there_are = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    if !plain || cpu.units() <= there_are {
        return cpu.clone();
    }
    let milli = format!("{text}m");
    output::message(format!(
        "--cpu={text} is more than this host's {there_are} CPUs and is read as {text} thousandths of one: --cpu={milli}"
    ));
    milli.parse().unwrap_or_else(|_| cpu.clone())
}

/// Collects how a pod is to be started.
pub fn start_request(flags: &StartFlags, for_all: &AppFlags, ctx: &Context) -> StartRequest {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    StartRequest {
        hostname: flags.hostname.clone(),
        etc: EtcRequest::default(),
        limits: PodLimits {
            memory_max: for_all.memory.as_ref().map(Quantity::units),
            cpu_millicores: for_all.cpu.as_ref().map(|cpu| cores(cpu).milli()),
        },
        notify_socket: variable("NOTIFY_SOCKET"),
        systemd_exec_pid: variable("SYSTEMD_EXEC_PID"),
        debug: ctx.debug,
        data_dir: ctx.data_dir().to_owned(),
        interactive: flags.interactive.then(|| of_caller(super::enter::term())),
    }
}

/// Finds the networks that are wanted, and tells what there is to know about them.
///
/// # Errors
/// When the configuration has none of a name, or is broken.
pub fn network(flags: &StartFlags, ctx: &Context) -> Result<Network, CliError> {
    let wanted = match &*flags.net {
        Net::Host => return Ok(Network::Host),
        Net::None => return Ok(Network::None),
        Net::Unsaid => vec![Wanted { name: "default".into(), args: String::new() }],
        Net::Named(nets) => nets
            .iter()
            .map(|net| Wanted { name: net.name.clone(), args: net.arguments.clone().unwrap_or_default() })
            .collect(),
    };
    let (chosen, notices) =
        config::choose(&ctx.local_config, &wanted).map_err(|error| no_network().because(error))?;
    notices.iter().for_each(output::message);
    Ok(Network::Joined { chosen, search: Search::new(&ctx.local_config) })
}

/// The failure of what rkt 1.30's stage1 did (spec network.md 4.1).
pub fn no_network() -> CliError {
    CliError::new("stage1: failed to setup network")
}

/// The failure to prepare a pod.
pub fn not_prepared(error: PrepareError) -> CliError {
    CliError::new("error setting up stage0").because(error)
}

/// The failure to start a pod.
pub fn not_started(error: RunError) -> CliError {
    /// Of a volume whose source is not there (spec pods.md 3.7.1).
    const MISSING_SOURCE: u8 = 1;
    match error {
        RunError::Roots(RootsError::Source(error @ SourceError::Missing { .. })) => {
            CliError::new("error starting the pod").because(error).exit_code(MISSING_SOURCE)
        }
        RunError::Network(error) => no_network().because(error),
        other => CliError::new("error starting the pod").because(other),
    }
}
