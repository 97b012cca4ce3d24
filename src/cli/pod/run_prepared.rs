//! `rkt run-prepared` (spec cli.md 1.2.3).

use super::{dns, wishes};
use crate::cli::image_args::AppFlags;
use crate::cli::pod_flags::RunPreparedFlags;
use crate::cli::{CliError, Context, Exit, output};
use crate::image::store::Store;
use crate::os::interrupt;
use crate::pod::lifecycle::PodsDir;
use crate::pod::network::Setup;
use crate::pod::observe;
use crate::pod::roots;
use crate::pod::run::{self, Host, RunError, Starting};

/// Becomes the supervisor of a prepared pod.
pub fn run(args: RunPreparedFlags, ctx: &Context) -> Result<Exit, CliError> {
    let _interrupts = interrupt::Watch::start();
    let pods = PodsDir::new(ctx.data_dir());
    let uuid = observe::resolve(&pods, &args.uuid)
        .map_err(|error| CliError::new("problem retrieving pod").because(error))?;
    let mut start = wishes::start_request(&args.start, &AppFlags::default(), ctx);
    let network = wishes::network(&args.start, ctx)?;
    let host = Host::check().map_err(|error| CliError::new("cannot run a pod here").because(error))?;
    let held = pods.hold_prepared(uuid).map_err(|error| CliError::new("cannot get pod").because(error))?;
    let Some(pod) = held else { return Err(CliError::new(format!("pod \"{uuid}\" is not prepared"))) };
    start.etc = dns::request(&args.start.dns)?;
    let store = Store::look(ctx.data_dir());
    let kernel_paths = roots::prepared_kernel_paths(&pod.paths());
    let room = host
        .make_room(pod.uuid(), kernel_paths, &start, |text| output::message(text))
        .map_err(wishes::not_started)?;
    let network = Setup::begin(&network, &pods, &pod).map_err(|error| wishes::no_network().because(error))?;
    let starting = Starting { network, pod, store: &store };
    run::start(room, starting, &start, |text| output::message(text)).map(Exit::code).map_err(|error| {
        match error {
            RunError::SeveralApps => CliError::new(error.to_string()),
            error => wishes::not_started(error),
        }
    })
}
