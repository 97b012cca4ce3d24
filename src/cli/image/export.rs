//! `rkt image export`: an image as an archive (spec cli.md 1.3.6).

use std::path::PathBuf;

use super::super::{CliError, Context, Exit};
use crate::image::store::{CopyOutError, Existing, Store};

/// Export a stored image to an ACI file
///
/// The file is the uncompressed archive, whose SHA-512 is the image ID.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Overwrite the output file
    #[arg(long)]
    overwrite: bool,
    /// The image
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
    /// The file
    #[arg(value_name = "FILE", required = true)]
    file: PathBuf,
}

/// Writes the archive.
pub fn run(args: &Args, ctx: &Context) -> Result<Exit, CliError> {
    let store = Store::look(ctx.data_dir());
    let id = super::resolve(&store, &args.image)?;
    let existing = if args.overwrite { Existing::Overwrite } else { Existing::Keep };
    match store.export(&id, &args.file, existing) {
        Ok(()) => Ok(Exit::SUCCESS),
        Err(CopyOutError::FileExists) => Err(CliError::new(CopyOutError::FileExists.to_string())),
        Err(error) => Err(CliError::new("error exporting image").because(error)),
    }
}
