//! `rkt fetch`: images into the store, one ID a line (spec cli.md 1.3.1).

use super::{
    CliError, Context, Exit,
    image::find::{Named, cannot_open, find_dependencies, image_alone},
    output,
    pod_flags::FetchCommandFlags,
};
use crate::image::store::Store;

/// Digits of an ID that are shown without `--full`.
const SHORT_DIGITS: usize = 32;

/// Fetches each image and prints its ID as soon as it is in the store; then what is below them.
pub fn run(args: FetchCommandFlags, ctx: &Context) -> Result<Exit, CliError> {
    let (parsed, policy) = args.check()?;
    let store = Store::open(ctx.data_dir()).map_err(cannot_open)?;
    let mut ids = Vec::new();
    for image in &parsed.images {
        let named = Named { text: &image.image, signature: image.flags.signature.as_deref(), policy };
        let id = image_alone(&named, &store, ctx)?;
        let digits = if args.full { id.key() } else { &id.key()[..SHORT_DIGITS] };
        output::line(format_args!("sha512-{digits}"));
        ids.push(id);
    }
    // One image of the command line may be below another.
    ids.iter().try_for_each(|id| find_dependencies(&store, id))?;
    Ok(Exit::SUCCESS)
}
