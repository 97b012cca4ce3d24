//! `rkt image …`: what is in the store (spec cli.md 1.3).

pub mod cat_manifest;
pub mod export;
pub mod extract;
pub mod find;
pub mod gc;
pub mod list;
pub mod rm;
pub mod verify;

use super::{CliError, Context, Exit, fetch, pod_flags::FetchCommandFlags};
use crate::{
    appc::image_id::ImageId,
    image::{reference::StoredReference, store::Store},
};

/// The commands of the group.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    CatManifest(cat_manifest::Args),
    Export(export::Args),
    Extract(extract::ExtractArgs),
    #[command(hide = true)]
    Fetch(FetchCommandFlags),
    Gc(gc::Args),
    List(list::Args),
    Render(extract::RenderArgs),
    Rm(rm::Args),
    Verify(verify::Args),
}

impl Command {
    /// Runs one of them.
    pub(super) fn run(self, ctx: &Context) -> Result<Exit, CliError> {
        match self {
            Self::CatManifest(args) => cat_manifest::run(&args, ctx),
            Self::Export(args) => export::run(&args, ctx),
            Self::Extract(args) => extract::extract(args.flags, ctx),
            Self::Fetch(args) => fetch::run(args, ctx),
            Self::Gc(args) => gc::run(&args, ctx),
            Self::List(args) => list::run(&args, ctx),
            Self::Render(args) => extract::render(args.flags, ctx),
            Self::Rm(args) => rm::run(&args, ctx),
            Self::Verify(args) => verify::run(&args, ctx),
        }
    }
}

/// Finds the image in the store that a word names: an ID, whole or its beginning, or a name with labels.
fn resolve(store: &Store, text: &str) -> Result<ImageId, CliError> {
    match text.parse::<StoredReference>() {
        Ok(StoredReference::Id(query)) => {
            store.find(&query).map_err(|error| CliError::new("cannot resolve image ID").because(error))
        }
        Ok(StoredReference::Name(name)) => store
            .find_name(&name.name, &name.labels)
            .map_err(|error| CliError::new("cannot find image").because(error)),
        Err(error) => {
            let is_id = crate::appc::image_id::ImageIdQuery::is_meant(text);
            let what = if is_id { "cannot resolve image ID" } else { "cannot find image" };
            Err(CliError::new(what).because(error))
        }
    }
}
