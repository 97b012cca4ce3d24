//! `rkt cat-manifest` (spec cli.md 1.2.10).

use super::target::{BesideFile, OnePod};
use crate::appc::json;
use crate::cli::{CliError, Context, Exit, output};
use crate::pod::observe;

/// Inspect and print the pod manifest
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Apply indent to format the output
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", value_parser = crate::cli::args::boolean, action = clap::ArgAction::Set)]
    pretty_print: bool,
    #[command(flatten)]
    pod: OnePod,
}

/// Prints the manifest of a pod: one that the user gave, with what it said and no more.
pub fn run(args: Args, ctx: &Context) -> Result<Exit, CliError> {
    let (pods, uuid) = args.pod.find(ctx, BesideFile::Ignored)?;
    let failed = || CliError::new("cannot load pod manifest");
    let pod = observe::pod(&pods, &uuid).map_err(|error| failed().because(error))?;
    let given = observe::given_manifest(&pod.paths).map_err(|error| failed().because(error))?;
    let manifest = match given {
        Some(bytes) => json::parse(&bytes).map_err(|error| failed().because_of(&error))?,
        None => observe::manifest(&uuid, &pod.paths).map_err(|error| failed().because(error))?.to_value(),
    };
    let layout = if args.pretty_print { output::Layout::Pretty } else { output::Layout::Compact };
    output::json(&manifest, layout);
    Ok(Exit::SUCCESS)
}
