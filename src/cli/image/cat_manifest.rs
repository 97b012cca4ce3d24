//! `rkt image cat-manifest`: the manifest of an image as JSON (spec cli.md 1.3.5).

use clap::ArgAction;

use super::super::{
    CliError, Context, Exit,
    output::{self, Layout},
};
use crate::image::store::Store;

/// Inspect and print the image manifest
///
/// IMAGE is an image ID, whole or its beginning, or a name: NAME[:VERSION][,LABEL=VALUE]...
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Indent the output
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pretty_print: bool,
    /// The image
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
}

/// Prints the manifest.
pub fn run(args: &Args, ctx: &Context) -> Result<Exit, CliError> {
    let store = Store::look(ctx.data_dir());
    let id = super::resolve(&store, &args.image)?;
    let manifest =
        store.manifest(&id).map_err(|error| CliError::new("cannot get image manifest").because(error))?;
    let layout = if args.pretty_print { Layout::Pretty } else { Layout::Compact };
    output::json(&manifest.to_value(), layout);
    Ok(Exit::SUCCESS)
}
