//! `rkt run` (spec cli.md 1.2.1).

use std::path::Path;

use super::dns;
use super::wishes::{self, Wishes};
use crate::appc::pod_uuid::PodUuid;
use crate::cli::pod_flags::RunFlags;
use crate::cli::{CliError, Context, Exit, output};
use crate::image::store::Store;
use crate::os::{atomic, interrupt};
use crate::pod::detach::{self, DetachError, DetachRequest};
use crate::pod::lifecycle::{Pod, PodsDir, Preparing};
use crate::pod::network::Setup;
use crate::pod::prepare;
use crate::pod::run::{self, Host, PodLimits, Room, RunError, Starting};

/// Prepares a pod and becomes its supervisor.
pub fn run(args: RunFlags, ctx: &Context) -> Result<Exit, CliError> {
    let _interrupts = interrupt::Watch::start();
    let (images, policy) = args.check()?;
    let mut start = wishes::start_request(&args.start, &images.for_all, ctx);
    let network = wishes::network(&args.start, ctx)?;
    let host = Host::check().map_err(|error| CliError::new("cannot run a pod here").because(error))?;
    let store =
        Store::open(ctx.data_dir()).map_err(|error| CliError::new("cannot open store").because(error))?;
    let wishes = Wishes { flags: &args.prepare, hostname: args.start.hostname.clone(), policy };
    let request = wishes.pod_request(&images, &store, ctx)?;
    if args.start.interactive && request.content.apps() > 1 {
        return Err(CliError::new(RunError::SeveralApps.to_string()));
    }

    let pods = PodsDir::new(ctx.data_dir());
    let pod = pods.create().map_err(|error| CliError::new("error creating new pod").because(error))?;
    let saved = args.uuid_file_save.as_deref().map(|file| UuidFile::save(file, pod.uuid())).transpose()?;
    // systemd and the plugins work while the pod is prepared. A pod in the background gets both from who starts it.
    let begin = |host: Host| {
        let kernel_paths = request.restrictions.kernel_paths;
        let room = host
            .make_room(pod.uuid(), kernel_paths, &start, |text| output::message(text))
            .map_err(wishes::not_started)?;
        let network =
            Setup::begin(&network, &pods, &pod).map_err(|error| wishes::no_network().because(error))?;
        Ok(Way::Here(room, network))
    };
    let way = if args.detach { Way::Background(host) } else { begin(host)? };
    prepare::fill(&pod, &store, &request).map_err(wishes::not_prepared)?.iter().for_each(output::message);
    start.etc = dns::request(&args.start.dns)?;
    let (room, network) = match way {
        Way::Here(room, network) => (room, network),
        Way::Background(host) => return detached(&args, ctx, start.limits, Prepared { host, pod, saved }),
    };
    let starting = Starting { network, pod, store: &store };
    let code =
        run::start(room, starting, &start, |text| output::message(text)).map_err(wishes::not_started)?;
    // The pod ran beside this process, and has a name for gc and status.
    std::mem::forget(saved);
    Ok(Exit::code(code))
}

/// Who becomes the supervisor of the pod.
enum Way {
    /// This process, or a child of it.
    Here(Room, Setup),
    /// A service of the host, which runs `rkt run-prepared`.
    Background(Host),
}

/// A pod that only needs to be started, and where.
struct Prepared<'a> {
    host: Host,
    pod: Pod<Preparing>,
    saved: Option<UuidFile<'a>>,
}

/// Leaves the prepared pod to a service of systemd, which runs `rkt run-prepared`.
fn detached(
    args: &RunFlags,
    ctx: &Context,
    limits: PodLimits,
    prepared: Prepared<'_>,
) -> Result<Exit, CliError> {
    let failed = |error| match error {
        DetachError::Start(error) => wishes::not_started(error),
        error => CliError::new("error starting the pod").because(error),
    };
    let global = ctx.words().map_err(|path| {
        CliError::new(format!(
            "the path {:?} is not UTF-8, which --detach can't pass on",
            path.display().to_string()
        ))
    })?;
    let Prepared { host, pod, saved } = prepared;
    let words = global.into_iter().chain(["run-prepared".to_owned()]).chain(args.start.words()).collect();
    let pods = PodsDir::new(ctx.data_dir());
    let request = DetachRequest { words, limits };
    let uuid = detach::start(host, &pods, pod, request, |text| output::message(text)).map_err(failed)?;
    output::line(uuid);
    std::mem::forget(saved);
    Ok(Exit::SUCCESS)
}

/// The file of `--uuid-file-save`. It is dropped only when the pod that it names did not start, and is gone then too.
struct UuidFile<'a>(&'a Path);

impl<'a> UuidFile<'a> {
    fn save(file: &'a Path, uuid: &PodUuid) -> Result<Self, CliError> {
        // Its last sync may fail: the file is there then.
        let saved = Self(file);
        atomic::save(file, uuid.to_string().as_bytes(), 0o644)
            .map_err(|error| CliError::new("error saving the pod UUID to file").because(error))?;
        Ok(saved)
    }
}

impl Drop for UuidFile<'_> {
    fn drop(&mut self) {
        // Never /dev/stdout and the like.
        if std::fs::symlink_metadata(self.0).is_ok_and(|found| found.is_file()) {
            // The error that is on its way to the user is the one that counts.
            let _ = std::fs::remove_file(self.0);
        }
    }
}
