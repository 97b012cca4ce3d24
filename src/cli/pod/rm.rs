//! `rkt rm` (spec cli.md 1.2.8).

use super::target::ManyPods;
use crate::appc::pod_uuid::PodUuid;
use crate::cli::output;
use crate::cli::{CliError, Context, Exit};
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
    match args.pods.each(ctx, one)? {
        0 => Ok(Exit::SUCCESS),
        _ => Err(CliError::new("failed to remove one or more pods")),
    }
}

fn one(pods: &PodsDir, uuid: &PodUuid) -> Result<(), CliError> {
    let pod = observe::pod(pods, uuid).map_err(|error| CliError::new("cannot get pod").because(error))?;
    let refused = |doing: &str| Err(CliError::new(format!("pod \"{uuid}\" is currently {doing}")));
    let place = match pod.state {
        State::Running => return refused("running"),
        State::Embryo | State::Preparing => return refused("being prepared"),
        State::Deleting | State::ExitedDeleting => return refused("being deleted"),
        State::AbortedPrepare => {
            output::message(format!("moving failed prepare \"{uuid}\" to garbage"));
            Place::Prepare
        }
        State::Prepared => {
            output::message(format!("moving expired prepared pod \"{uuid}\" to garbage"));
            Place::Prepared
        }
        State::Exited => Place::Run,
        State::ExitedGarbage => Place::ExitedGarbage,
        State::Garbage => Place::Garbage,
    };
    let failed = || CliError::new(format!("error removing pod \"{uuid}\""));
    match pods.hold_ended(*uuid, place).map_err(|error| failed().because(error))? {
        None => refused("in use by another process"),
        Some(pod) => {
            gc::delete(pod).map_err(|error| failed().because(error))?;
            output::line(format!("\"{uuid}\""));
            Ok(())
        }
    }
}
