//! `rkt image extract` and `rkt image render`: an image as a directory (spec cli.md 1.3.7).

use std::path::PathBuf;

use super::super::{CliError, Context, Exit};
use crate::image::store::{CopyOutError, Depth, Existing, ExtractOptions, Store};

/// Extract a stored image to a directory
///
/// The directory gets the image's manifest and its rootfs. Owners and device nodes are kept if the user is root.
#[derive(Debug, clap::Args)]
pub struct ExtractArgs {
    /// What is extracted, and how
    #[command(flatten)]
    pub flags: Flags,
}

/// Render a stored image to a directory with all its dependencies
///
/// The directory gets the image's manifest and the rootfs that its apps see. Owners and device nodes are kept if the
/// user is root.
#[derive(Debug, clap::Args)]
pub struct RenderArgs {
    /// What is rendered, and how
    #[command(flatten)]
    pub flags: Flags,
}

/// The arguments of both.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Extract the content of the rootfs only
    #[arg(long)]
    rootfs_only: bool,
    /// Delete the output directory first if it exists
    #[arg(long)]
    overwrite: bool,
    /// The image
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
    /// The directory
    #[arg(value_name = "DIR", required = true)]
    target: PathBuf,
}

/// Unpacks the image alone.
pub fn extract(flags: Flags, ctx: &Context) -> Result<Exit, CliError> {
    unpack(&flags, Depth::Alone, ctx)
}

/// Unpacks the image with all that it depends on.
pub fn render(flags: Flags, ctx: &Context) -> Result<Exit, CliError> {
    unpack(&flags, Depth::Rendered, ctx)
}

fn unpack(flags: &Flags, depth: Depth, ctx: &Context) -> Result<Exit, CliError> {
    let store = Store::look(ctx.data_dir());
    let id = super::resolve(&store, &flags.image)?;
    let existing = if flags.overwrite { Existing::Overwrite } else { Existing::Keep };
    let options = ExtractOptions { depth, rootfs_only: flags.rootfs_only, existing };
    match store.extract(&id, &flags.target, options) {
        Ok(()) => Ok(Exit::SUCCESS),
        Err(refused @ (CopyOutError::DirectoryExists | CopyOutError::RootFilesystem)) => {
            Err(CliError::new(refused.to_string()))
        }
        Err(error) => {
            let doing = match depth {
                Depth::Alone => "error extracting image",
                Depth::Rendered => "error rendering image",
            };
            Err(CliError::new(doing).because(error))
        }
    }
}
