//! `rkt prepare` (spec cli.md 1.2.2).

use super::wishes::Wishes;
use crate::cli::pod_flags::PrepareOnlyFlags;
use crate::cli::{CliError, Context, Exit, output};
use crate::image::store::Store;
use crate::os::interrupt;
use crate::pod::lifecycle::PodsDir;
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
    let notices = prepare::fill(&pod, &store, &request)
        .map_err(|error| CliError::new("error setting up stage0").because(error))?;
    notices.iter().for_each(output::message);
    let uuid =
        pod.into_prepared().map_err(|error| CliError::new("error setting up stage0").because(error))?;
    output::line(uuid);
    Ok(Exit::SUCCESS)
}
