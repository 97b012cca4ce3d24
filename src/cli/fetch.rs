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
    let mut all = Vec::new();
    for image in &parsed.images {
        let named = Named {
            text: &image.image,
            signature: image.flags.signature.as_deref(),
            trust_prefix: image.flags.trust_prefix.as_ref(),
            policy,
        };
        let found = image_alone(&named, &store, ctx)?;
        let digits = if args.full { found.id.key() } else { &found.id.key()[..SHORT_DIGITS] };
        output::line(format_args!("sha512-{digits}"));
        all.push(found);
    }
    // One image of the command line may be below another.
    all.iter().try_for_each(|found| find_dependencies(found, &store, ctx))?;
    Ok(Exit::SUCCESS)
}
