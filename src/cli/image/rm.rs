//! `rkt image rm`: images out of the store (spec cli.md 1.3.3).

use super::super::{CliError, Context, Exit, image::find::cannot_open, output};
use crate::{
    appc::image_id::ImageId,
    image::store::{Removed, Store},
    pod::{lifecycle::PodsDir, observe},
};

/// Remove one or more images from the local store
///
/// An image that pods use may be removed: pods have trees of their own, which `rkt image gc` collects. Images that
/// stand upon one that is removed can't be run any more until it is fetched again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The images
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes each image that is found.
pub fn run(args: &Args, ctx: &Context) -> Result<Exit, CliError> {
    if args.images.is_empty() {
        return Err(CliError::new("must provide at least one image ID"));
    }
    let store = Store::open(ctx.data_dir()).map_err(cannot_open)?;
    let mut ids = Vec::new();
    for image in &args.images {
        match super::resolve(&store, image) {
            Ok(id) if ids.contains(&id) => {}
            Ok(id) => ids.push(id),
            // Told and passed over; the exit code is that of the rest (spec cli.md 1.3.3).
            Err(error) => error.tell_and_go_on(ctx.debug),
        }
    }
    tell_who_needs(&store, &ids, ctx);
    remove(&store, &ids, ctx)
}

/// Tells what still needs the images, as far as this user may see it.
fn tell_who_needs(store: &Store, ids: &[ImageId], ctx: &Context) {
    let of_pods = observe::images_in_use(&PodsDir::new(ctx.data_dir()), store).unwrap_or_default();
    for (id, uuid) in ids.iter().filter_map(|id| Some((id, of_pods.get(id)?))) {
        output::message(format_args!("image \"{id}\" is used by pod {uuid}, which goes on with its tree"));
    }
    for (image, needed) in store.dependents(ids).unwrap_or_default() {
        output::message(format_args!(
            "image \"{needed}\" is below {} ({}), which can't be run any more until it is fetched again",
            super::list::shown_name(&image),
            image.id.short12(),
        ));
    }
}

/// Removes images and tells of each, as `rm` and `gc` do.
pub(super) fn remove(store: &Store, ids: &[ImageId], ctx: &Context) -> Result<Exit, CliError> {
    let (mut whole, mut stale, mut failed) = (0, 0, 0);
    for id in ids {
        match store.remove(id) {
            Ok(Removed::Whole) => whole += 1,
            Ok(Removed::LeftFiles(error)) => {
                stale += 1;
                let what = format!("some files cannot be removed for image \"{id}\"");
                CliError::new(what).because(error).tell_and_go_on(ctx.debug);
            }
            Err(error) => {
                failed += 1;
                CliError::new(format!("error removing aci for image \"{id}\""))
                    .because(error)
                    .tell_and_go_on(ctx.debug);
                continue;
            }
        }
        output::line(format_args!("successfully removed aci for image: \"{id}\""));
    }
    if let Err(error) = store.collect_layers() {
        CliError::new("some layers cannot be removed").because(error).tell_and_go_on(ctx.debug);
    }
    if let Err(error) = store.collect_urls() {
        CliError::new("some records of downloads cannot be removed").because(error).tell_and_go_on(ctx.debug);
    }
    if whole > 0 {
        output::message(format_args!("{whole} image(s) successfully removed"));
    }
    if stale > 0 {
        output::message(format_args!("{stale} image(s) removed but left some stale files"));
    }
    if failed > 0 {
        output::message(format_args!("{failed} image(s) cannot be removed"));
    }
    if stale + failed > 0 {
        return Err(CliError::new("error(s) found while removing images"));
    }
    Ok(Exit::SUCCESS)
}
