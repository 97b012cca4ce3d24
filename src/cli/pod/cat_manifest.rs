//! `rkt cat-manifest` (spec cli.md 1.2.10).

use super::target::{BesideFile, OnePod};
use crate::appc::json;
use crate::cli::output::Layout;
use crate::cli::{CliError, Context, Exit, output};
use crate::pod::observe;

/// Inspect and print the pod manifest
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Apply indent to format the output; true by default, but a manifest of --pod-manifest is printed as it was given
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = crate::cli::args::boolean, action = clap::ArgAction::Set)]
    pretty_print: Option<bool>,
    #[command(flatten)]
    pod: OnePod,
}

/// Prints the manifest of a pod.
pub fn run(args: Args, ctx: &Context) -> Result<Exit, CliError> {
    let (pods, uuid) = args.pod.find(ctx, BesideFile::Ignored)?;
    let failed = |error| CliError::new("cannot load pod manifest").because(error);
    let pod = observe::pod(&pods, &uuid).map_err(failed)?;
    let layout = if args.pretty_print.unwrap_or(true) { Layout::Pretty } else { Layout::Compact };
    match (observe::given_manifest(&pod.paths).map_err(failed)?, args.pretty_print) {
        (None, _) => output::json(&observe::manifest(&uuid, &pod.paths).map_err(failed)?.to_value(), layout),
        (Some(given), None) => output::bytes(&given),
        (Some(given), Some(_)) => {
            let value = json::parse(&given);
            let value =
                value.map_err(|error| CliError::new("cannot load pod manifest").because_of(&error))?;
            output::json(&value, layout);
        }
    }
    Ok(Exit::SUCCESS)
}
