//! `acbuild dependency …`: the images that the image stands upon (spec build-tools.md 6.3).

use super::super::CliError;
use super::manifest::named;
use super::{Session, failure};
use crate::appc::image_manifest::{self as appc, ImageHash, Label};
use crate::build;
use crate::image::reference::NameReference;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Dependency {
    /// Add a dependency, or replace the one of this name
    #[command(after_help = "acbuild dependency add example.com/base:1.2.0 --label os=linux")]
    Add(Add),
    /// Remove a dependency
    #[command(alias = "rm", after_help = "acbuild dependency remove example.com/base")]
    Remove(Remove),
}

/// The arguments of `dependency add`.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The image: NAME[:VERSION][,LABEL=VALUE]...
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
    /// The ID of the only image that will do
    #[arg(long, value_name = "ID")]
    image_id: Option<String>,
    /// A label that the image must have
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// The size of the image's file in bytes
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
}

/// The arguments of `dependency remove`.
#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// The name of the image
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
}

impl Dependency {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::Add(add) => {
                let dependency = add.dependency()?;
                log::debug!("adding the dependency {}", dependency.image_name);
                session.change(|manifest| {
                    build::add_dependency(manifest, dependency);
                    Ok(())
                })
            }
            Self::Remove(Remove { image }) => {
                log::debug!("removing the dependency {image:?}");
                session.change(|manifest| build::remove_dependency(manifest, &image))
            }
        }
    }
}

impl Add {
    fn dependency(self) -> Result<appc::Dependency, CliError> {
        let NameReference { name, labels } = NameReference::parse(&self.image)
            .map_err(|error| failure(format!("couldn't parse dependency name: {error}")))?;
        let image_id = self.image_id.map(|id| id.parse::<ImageHash>()).transpose();
        let image_id = image_id.map_err(|error| failure(format!("couldn't parse image ID: {error}")))?;
        let labels = self.labels.iter().try_fold(labels, |mut labels, text| {
            let (name, value) =
                text.split_once('=').ok_or_else(|| failure(format!("no '=' character in {text:?}")))?;
            let label = Label::new(named(name)?, value);
            if labels.iter().any(|other| other.name == label.name) {
                return Err(failure(format!("multiple {} labels specified", label.name)));
            }
            labels.push(label);
            Ok(labels)
        })?;
        Ok(appc::Dependency { image_name: name, image_id, labels, size: self.size.filter(|size| *size > 0) })
    }
}
