//! `rkt rm` (spec cli.md 1.2.8).

use std::time::Duration;

use super::target::ManyPods;
use crate::appc::pod_uuid::PodUuid;
use crate::cli::output;
use crate::cli::{CliError, Context, Exit};
use crate::net::plugin::Search;
use crate::os::wait;
use crate::pod::gc;
use crate::pod::layout::Place;
use crate::pod::lifecycle::PodsDir;
use crate::pod::observe::{self, State};

/// Remove all files and resources associated with an exited pod
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pods: ManyPods,
}

/// Removes pods that do not run.
pub fn run(args: Args, ctx: &Context) -> Result<Exit, CliError> {
    let search = Search::new(&ctx.local_config);
    match args.pods.each(ctx, |pods, uuid| one(pods, uuid, &search))? {
        0 => Ok(Exit::SUCCESS),
        _ => Err(CliError::new("failed to remove one or more pods")),
    }
}

/// How often a pod that moves between the look at it and the hold of it is looked at again.
const LOOKS: usize = 20;

/// What passes between two looks.
const PAUSE: Duration = Duration::from_millis(100);

fn one(pods: &PodsDir, uuid: &PodUuid, search: &Search) -> Result<(), CliError> {
    let failed = || CliError::new(format!("error removing pod \"{uuid}\""));
    for _ in 0..LOOKS {
        let pod = observe::pod(pods, uuid).map_err(|error| CliError::new("cannot get pod").because(error))?;
        let place = removable(uuid, pod.state)?;
        // A gc may have moved it meanwhile.
        let Some(pod) = pods.hold_ended(*uuid, place).map_err(|error| failed().because(error))? else {
            // Or somebody takes its networks away, which is soon done.
            wait::pause(PAUSE);
            continue;
        };
        match place {
            Place::Prepare => output::message(format!("moving failed prepare \"{uuid}\" to garbage")),
            Place::Prepared => output::message(format!("moving expired prepared pod \"{uuid}\" to garbage")),
            Place::Embryo | Place::Run | Place::ExitedGarbage | Place::Garbage => {}
        }
        gc::delete(pod, search, output::message).map_err(|error| failed().because(error))?;
        output::line(format!("\"{uuid}\""));
        return Ok(());
    }
    Err(refusal(uuid, "in use by another process"))
}

/// Where a pod is that may be removed.
fn removable(uuid: &PodUuid, state: State) -> Result<Place, CliError> {
    match state {
        State::Running => Err(refusal(uuid, "running")),
        State::Embryo | State::Preparing => Err(refusal(uuid, "being prepared")),
        State::Deleting | State::ExitedDeleting => Err(refusal(uuid, "being deleted")),
        State::AbortedPrepare => Ok(Place::Prepare),
        State::Prepared => Ok(Place::Prepared),
        State::Exited => Ok(Place::Run),
        State::ExitedGarbage => Ok(Place::ExitedGarbage),
        State::Garbage => Ok(Place::Garbage),
    }
}

fn refusal(uuid: &PodUuid, doing: &str) -> CliError {
    CliError::new(format!("pod \"{uuid}\" is currently {doing}"))
}
