//! `rkt export` (spec cli.md 1.2.11).

use std::path::PathBuf;

use crate::cli::{CliError, Context, Exit, output};
use crate::image::store::Store;
use crate::os::whole::Existing;
use crate::pod::export::{self, ExportRequest};
use crate::pod::lifecycle::PodsDir;
use crate::pod::observe;

/// Export an app from an exited pod to an ACI file
///
/// The image has the app's root file system with all its changes, and the manifest of the app's image.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app, if the pod has several
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Overwrite the output file
    #[arg(long)]
    overwrite: bool,
    /// The pod, or enough of its first digits
    #[arg(value_name = "UUID", required = true)]
    uuid: String,
    /// The file, whose name must end in .aci
    #[arg(value_name = "FILE", required = true)]
    file: PathBuf,
}

/// Writes the image.
pub fn run(args: &Args, ctx: &Context) -> Result<Exit, CliError> {
    if args.file.extension().is_none_or(|extension| extension != "aci") {
        return Err(CliError::new(format!("extension must be .aci (given {})", args.file.display())));
    }
    let pods = PodsDir::new(ctx.data_dir());
    let uuid = observe::resolve(&pods, &args.uuid)
        .map_err(|error| CliError::new("problem retrieving pod").because(error))?;
    let existing = if args.overwrite { Existing::Replace } else { Existing::Keep };
    let request = ExportRequest { app: args.app.as_deref(), to: &args.file, existing };
    let notices = export::export(&pods, &Store::look(ctx.data_dir()), &uuid, &request).map_err(|error| {
        use crate::os::Hint as _;
        let failure = CliError::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    notices.iter().for_each(output::message);
    Ok(Exit::SUCCESS)
}
