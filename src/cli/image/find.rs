//! TEMP until image::reference
use crate::appc::image_id::{ImageId, ImageIdQuery};
use crate::appc::name::AcIdentifier;
use crate::cli::{CliError, Context, Insecure};
use crate::image::store::{ImportOptions, Store, Verification};

/// Finds or imports the image of an app.
pub fn app_image(text: &str, store: &Store, ctx: &Context) -> Result<ImageId, CliError> {
    if ImageIdQuery::is_meant(text) {
        let query: ImageIdQuery = text.parse().map_err(|e| CliError::new("bad id").because_of(&e))?;
        return store.find(&query).map_err(|e| CliError::new("cannot find image").because(e));
    }
    let path = std::path::Path::new(text);
    if path.is_file() || text.ends_with(".aci") {
        let verification =
            if ctx.insecure.allows(Insecure::Image) { Verification::Skipped } else { Verification::Required };
        let options = ImportOptions { verification, limits: Default::default(), progress: None };
        return Ok(store
            .import_file(path, &options)
            .map_err(|e| CliError::new("cannot import").because(e))?
            .id);
    }
    let name: AcIdentifier = text.parse().map_err(|e| CliError::new("bad name").because_of(&e))?;
    store.find_name(&name, &[]).map_err(|e| CliError::new("cannot find image").because(e))
}
