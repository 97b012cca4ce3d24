//! `rkt prepare` (spec cli.md 1.2.2).

use super::wishes::{self, Wishes};
use crate::appc::pod_uuid::PodUuid;
use crate::cli::pod_flags::PrepareOnlyFlags;
use crate::cli::{CliError, Context, Exit, output};
use crate::image::store::Store;
use crate::os::interrupt;
use crate::pod::layout::Place;
use crate::pod::lifecycle::{MoveError, PodsDir};
use crate::pod::prepare;

/// Prepares a pod and prints its UUID once it survives a power cut.
pub fn run(args: PrepareOnlyFlags, ctx: &Context) -> Result<Exit, CliError> {
    let _interrupts = interrupt::Watch::start();
    let (images, policy) = args.check()?;
    let store =
        Store::open(ctx.data_dir()).map_err(|error| CliError::new("cannot open store").because(error))?;
    let request =
        Wishes { flags: &args.prepare, hostname: None, policy }.pod_request(&images, &store, ctx)?;
    let pods = PodsDir::new(ctx.data_dir());
    let pod = pods.create().map_err(|error| CliError::new("error creating new pod").because(error))?;
    let notices = prepare::fill(&pod, &store, &request).map_err(wishes::not_prepared)?;
    notices.iter().for_each(output::message);
    let uuid =
        pod.into_prepared().map_err(|error| CliError::new("error setting up stage0").because(error))?;
    output::line(uuid);
    // The command fails then: nobody has come to know the pod, and nobody will run it.
    if output::was_lost()
        && let Some(pod) = pods.hold_ended(uuid, Place::Prepared).map_err(|error| lost(&uuid, error))?
    {
        pod.remove().map_err(|error| lost(&uuid, error))?;
    }
    Ok(Exit::SUCCESS)
}

fn lost(uuid: &PodUuid, error: MoveError) -> CliError {
    CliError::new(format!("error removing pod \"{uuid}\", whose UUID could not be written")).because(error)
}
