//! `rkt stop` (spec cli.md 1.2.7).

use super::target::ManyPods;
use crate::appc::pod_uuid::PodUuid;
use crate::cli::output;
use crate::cli::{CliError, Context, Exit};
use crate::net::plugin::Search;
use crate::pod::lifecycle::PodsDir;
use crate::pod::network;
use crate::pod::observe;
use crate::pod::stop::{self, Force, Stopped};

/// Stop a pod
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kill the pod's processes instead of letting them end in order
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pods: ManyPods,
}

/// Asks pods to end.
pub fn run(args: Args, ctx: &Context) -> Result<Exit, CliError> {
    let force = if args.force { Force::Kill } else { Force::Graceful };
    let search = Search::new(&ctx.local_config);
    match args.pods.each(ctx, |pods, uuid| one(pods, uuid, force, &search))? {
        0 => Ok(Exit::SUCCESS),
        failed => Err(CliError::new(format!("failed to stop {failed} pod(s)"))),
    }
}

fn one(pods: &PodsDir, uuid: &PodUuid, force: Force, search: &Search) -> Result<(), CliError> {
    let pod = observe::pod(pods, uuid).map_err(|error| CliError::new("cannot get pod").because(error))?;
    let stopped = stop::stop(&pod, force)
        .map_err(|error| CliError::new(format!("error stopping pod \"{uuid}\"")).because(error))?;
    match stopped {
        Stopped::Requested => output::line(format!("\"{uuid}\"")),
        Stopped::Already => {
            output::line(format!("pod \"{uuid}\" is already stopped"));
            network::release_if_dead(pods, uuid, search, output::message);
        }
        Stopped::NotRunning => return Err(CliError::new(format!("pod \"{uuid}\" is not running"))),
    }
    Ok(())
}
