//! `rkt image gc`: trees that no pod needs, and images that were not used for long (spec cli.md 1.3.4).

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::super::{CliError, Context, Exit, args::Period, image::find::cannot_open, output};
use crate::{
    appc::image_id::ImageId,
    image::store::{Store, TreeId},
    os::SysError,
    pod::{lifecycle::PodsDir, observe},
};

/// Garbage collect the local store
///
/// Removes the trees that no pod uses, then the images that were last used longer ago than the grace period and are not
/// used by a running or prepared pod, and what is left of downloads that were broken off as long ago.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long an image stays after its last use, and a part of a download after its last byte
    #[arg(long, value_name = "DURATION", default_value = "24h", allow_hyphen_values = true)]
    grace_period: Period,
}

/// Collects trees, then images.
pub fn run(args: &Args, ctx: &Context) -> Result<Exit, CliError> {
    let store = Store::open(ctx.data_dir()).map_err(cannot_open)?;
    collect_trees(&store, ctx)
        .map_err(|error| CliError::new("failed to remove unreferenced treestores").because(error))?;
    // A negative period is over for every image.
    let grace = args.grace_period.duration().unwrap_or_default();
    let now = SystemTime::now();
    store.collect_downloads(grace, now);
    let expired = images_in_use(&store, ctx)
        .and_then(|in_use| store.expired(grace, &in_use, now))
        .map_err(|error| CliError::new("failed to find images to remove").because(error))?;
    super::rm::remove(&store, &expired, ctx)
}

fn collect_trees(store: &Store, ctx: &Context) -> Result<(), SysError> {
    let trees = store.lock_trees(|| output::message("waiting for pods that are being prepared"))?;
    // Under the lock, since a pod that is being prepared says only at its end which trees it uses.
    let in_use = trees_in_use(ctx)?;
    let (removed, refused) = trees.collect(&in_use);
    for tree in removed {
        output::message(format_args!("removed treestore \"{tree}\""));
    }
    refused.map_or(Ok(()), Err)
}

/// The trees that pods use, whatever their phase but garbage.
fn trees_in_use(ctx: &Context) -> Result<BTreeSet<TreeId>, SysError> {
    observe::trees_in_use(&PodsDir::new(ctx.data_dir()))
}

/// The images that running and prepared pods use.
fn images_in_use(store: &Store, ctx: &Context) -> Result<BTreeSet<ImageId>, SysError> {
    Ok(observe::images_in_use(&PodsDir::new(ctx.data_dir()), store)?.into_keys().collect())
}
