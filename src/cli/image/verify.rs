//! `rkt image verify`: trees compared with what their images say (spec cli.md 1.3.8).

use super::super::{CliError, Context, Exit, output};
use crate::{
    appc::image_id::ImageId,
    image::store::{DamagedTree, Store, StoreError, Verified},
    os::SysError,
    pod::{lifecycle::PodsDir, observe},
};

/// Verify one or more rendered images in the local store
///
/// The image and those below it are unpacked once more, their hashes checked, and compared with the tree that pods run
/// on; each file that was changed, is missing or was added is named.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Put a good tree into the place of a damaged one; pods that run on that keep it until they end
    #[arg(long)]
    repair: bool,
    /// The images
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// How it is with an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Damaged,
    /// It could not be told, or not be repaired.
    Failed,
}

/// Verifies each image and goes on past those that are damaged.
pub fn run(args: &Args, ctx: &Context) -> Result<Exit, CliError> {
    if args.images.is_empty() {
        return Err(CliError::new("must provide at least one image"));
    }
    let store = Store::look(ctx.data_dir());
    let states: Vec<_> = args.images.iter().map(|image| verify(&store, image, args.repair, ctx)).collect();
    let count = |wanted| states.iter().filter(|state| **state == wanted).count();
    match (count(State::Damaged), count(State::Failed)) {
        (0, 0) => Ok(Exit::SUCCESS),
        (0, failed) => Err(CliError::new(format!("{failed} image(s) cannot be verified"))),
        (damaged, _) => Err(CliError::new(format!("{damaged} image(s) have a damaged tree"))
            .hint("`rkt image verify --repair` makes the tree anew from the image")),
    }
}

fn verify(store: &Store, image: &str, repair: bool, ctx: &Context) -> State {
    let verified = super::resolve(store, image).and_then(|id| {
        let failed =
            |error: StoreError| CliError::new(format!("unable to verify image {image}")).because(error);
        store.verify(&id).map(|verified| (id, verified)).map_err(failed)
    });
    match verified {
        Ok((_, Verified::NotRendered)) => {
            output::line(format_args!("image \"{image}\" not rendered; no verification needed"));
            State::Good
        }
        Ok((id, Verified::Whole(_))) => {
            output::line(format_args!("successfully verified checksum for image: \"{image}\" (\"{id}\")"));
            State::Good
        }
        Ok((id, Verified::Damaged(damaged))) => tell_damage(store, (image, &id), damaged, repair, ctx),
        Err(error) => {
            error.tell_and_go_on(ctx.debug);
            State::Failed
        }
    }
}

fn tell_damage(
    store: &Store,
    (image, id): (&str, &ImageId),
    damaged: DamagedTree<'_>,
    repair: bool,
    ctx: &Context,
) -> State {
    for difference in &damaged.differences {
        output::line(difference);
    }
    let end = if repair { ";  rebuilding..." } else { "" };
    let count = damaged.differences.len();
    output::line(format_args!(
        "tree cache verification failed for image {image}: {count} file(s) of tree {} are not those of image \
         {id}{end}",
        damaged.tree
    ));
    if !repair {
        return State::Damaged;
    }
    match rebuild(store, damaged, ctx) {
        Ok(()) => State::Good,
        Err(error) => {
            CliError::new(format!("unable to repair cache for image {image}"))
                .because(error)
                .tell_and_go_on(ctx.debug);
            State::Failed
        }
    }
}

/// Replaces the tree; no pod is prepared meanwhile.
fn rebuild(store: &Store, damaged: DamagedTree<'_>, ctx: &Context) -> Result<(), SysError> {
    let pods = PodsDir::new(ctx.data_dir());
    let trees = store.lock_trees(|| output::message("waiting for pods that are being prepared"))?;
    let tree = damaged.tree.clone();
    damaged.repair(&trees, &observe::trees_in_use(&pods)?)?;
    for uuid in observe::running_on(&pods, &tree)? {
        output::message(format_args!(
            "pod {uuid} runs on the damaged tree and keeps it until it ends; start it anew to use the good one"
        ));
    }
    Ok(())
}
