//! The layers of an image as one App Container Image each, which depends on the one below it (spec build-tools.md 6.8 and
//! 6.10): what they are called, and what their manifests say.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{ConversionError, Generated, Packing, without_slashes, write_aci};
use crate::appc::image_id::ImageHash;
use crate::appc::image_manifest::{Dependency, ImageManifest};
use crate::appc::json::MAX_SIZE;
use crate::appc::label::Label;
use crate::appc::name::AcIdentifier;
use crate::image::digest::Digest;
use crate::image::oci::chain::Chain;
use crate::image::oci::convert::{ConvertError, Converted, Origin, identifier, image_name};
use crate::image::oci::source::{Part, RemoteImage};
use crate::image::oci::squash::{SquashError, write_highest};
use crate::image::stream::Limits;
use crate::os::SysError;
use crate::os::whole::{Existing, WholeFile};

/// What the images of lower layers say, too, of where they come from.
const ORIGINS: [&str; 3] =
    ["appc.io/docker/originalname", "appc.io/docker/registryurl", "appc.io/docker/repository"];

/// What the image of a layer is called.
struct LayerName {
    name: AcIdentifier,
    /// Below the directory of the results.
    file: PathBuf,
    /// The label of layers that no manifest of the image has named.
    label: Option<String>,
}

/// Directories that were made; those that are empty in the end are removed.
struct MadeDirs(Vec<PathBuf>);

impl MadeDirs {
    fn ensure(&mut self, dir: &Path) -> Result<(), SysError> {
        let missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            DirBuilder::new().mode(0o755).create(dir).map_err(SysError::on("creating", dir))?;
            self.0.push(dir.to_owned());
        }
        Ok(())
    }
}

impl Drop for MadeDirs {
    fn drop(&mut self) {
        for dir in self.0.iter().rev() {
            // One that has a result in it stays.
            let _kept = std::fs::remove_dir(dir);
        }
    }
}

/// Writes all images to files below `dir`, the lowest first; none has a name before all are complete.
pub(super) fn write_all(
    image: &RemoteImage<'_>,
    converted: Converted,
    open: impl Fn(usize) -> Result<File, SysError>,
    (dir, packing): (&Path, Packing),
    limits: &Limits,
) -> Result<Generated, ConversionError> {
    let diff_ids = &image.config.diff_ids;
    let names = names(&image.origin, &converted.manifest, &image.layers, diff_ids);
    let mut made = MadeDirs(Vec::new());
    let (mut chain, mut outputs, mut below) = (Chain::default(), Vec::new(), None);
    for (index, name) in names.iter().enumerate() {
        let additions = chain.add(&diff_ids[index], open(index)?, limits)?;
        let is_top = index + 1 == names.len();
        let mut manifest = if is_top { converted.manifest.clone() } else { lower(&converted.manifest) };
        manifest.name = name.name.clone();
        let label = |value: &String| Label::new("layer".parse().expect("it is an identifier"), value);
        manifest.labels.extend(name.label.as_ref().map(label));
        manifest.dependencies.extend(below.take());
        manifest.path_whitelist.clone_from(&additions.whitelist);
        manifest.validate().map_err(ConvertError::Invalid)?;
        let json = manifest.to_json();
        if json.len() > MAX_SIZE {
            return Err(SquashError::LongList.into());
        }
        let path = dir.join(&name.file);
        made.ensure(path.parent().unwrap_or(dir))?;
        let output = WholeFile::begin(&path, Existing::Replace)?;
        let content = (json.as_bytes(), &additions);
        let id =
            write_aci(&output, packing, |to| write_highest(content, &diff_ids[..=index], &open, limits, to))?;
        below = Some(dependency(&manifest, id));
        outputs.push(output);
    }
    outputs.into_iter().try_for_each(WholeFile::publish)?;
    let file_names = names.into_iter().map(|name| name.file).collect();
    Ok(Generated { file_names, manifest: converted.manifest, notices: converted.notices })
}

/// The manifest of a lower layer: what runs is the business of the top one.
fn lower(whole: &ImageManifest) -> ImageManifest {
    let mut manifest = ImageManifest::new(whole.name.clone());
    manifest.labels.clone_from(&whole.labels);
    let is_origin = |name: &str| ORIGINS.contains(&name);
    manifest.annotations =
        whole.annotations.iter().filter(|annotation| is_origin(annotation.name.as_str())).cloned().collect();
    manifest
}

/// What the image above one depends on: exactly this one.
fn dependency(manifest: &ImageManifest, id: ImageHash) -> Dependency {
    Dependency {
        image_name: manifest.name.clone(),
        image_id: Some(id),
        labels: manifest.labels.clone(),
        size: None,
    }
}

fn names(origin: &Origin, manifest: &ImageManifest, parts: &[Part], diff_ids: &[Digest]) -> Vec<LayerName> {
    let mut times = HashMap::new();
    let count = diff_ids.len();
    let platform: String = ["os", "arch"]
        .iter()
        .filter_map(|name| manifest.label(name))
        .map(|value| format!("-{value}"))
        .collect();
    let tag = origin.tag.as_ref().map(|tag| format!("-{tag}")).unwrap_or_default();
    let name = |index: usize| {
        let is_named = origin.manifest_digest.is_some();
        let digest = parts[index].digest.filter(|_| is_named).unwrap_or(diff_ids[index]);
        let again = times.entry(digest).and_modify(|times| *times += 1).or_insert(1_u32);
        // A layer that is there twice makes two images, since what is below it differs.
        let again = if *again > 1 { format!("-{again}") } else { String::new() };
        let id = if is_named { digest.to_string() } else { digest.hex() };
        let id = format!("{id}{again}");
        let name = identifier(&format!("{}-{id}", image_name(origin)));
        if !is_named {
            let file = format!("{}-{id}{tag}{platform}-{}.aci", origin.repository, count - 1 - index);
            return LayerName { name, file: without_slashes(&file).into(), label: Some(digest.hex()) };
        }
        let shown = if index + 1 == count { id } else { id.replace(':', "-") };
        let whole = format!("{}/{}", origin.registry.as_deref().unwrap_or_default(), origin.repository);
        let mut dirs: Vec<_> = whole.split('/').map(without_slashes).filter(|dir| !dir.is_empty()).collect();
        let last = dirs.pop().unwrap_or_default();
        let file = without_slashes(&format!("{last}-{shown}{tag}{platform}.aci"));
        LayerName { name, file: dirs.into_iter().chain([file]).collect(), label: None }
    };
    (0..count).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(origin: &Origin, contents: &[&str]) -> Vec<(String, String)> {
        let mut manifest = ImageManifest::new("x".parse().unwrap());
        let label = |name: &str, value| Label::new(name.parse().unwrap(), value);
        manifest.labels = vec![label("os", "linux"), label("arch", "amd64")];
        let diff_ids: Vec<_> = contents.iter().map(|text| Digest::sha256(text.as_bytes())).collect();
        let parts: Vec<_> = diff_ids.iter().map(|digest| Part { digest: Some(*digest), size: 1 }).collect();
        let names = names(origin, &manifest, &parts, &diff_ids);
        // Digits of a digest say nothing here.
        let short = |text: String| {
            contents
                .iter()
                .fold(text, |text, content| text.replace(&Digest::sha256(content.as_bytes()).hex(), content))
        };
        let shown = |name: LayerName| (short(name.name.to_string()), short(name.file.display().to_string()));
        names.into_iter().map(shown).collect()
    }

    #[test]
    fn images_of_layers_are_named_after_the_image_and_the_layer() {
        let mut origin = Origin {
            original_name: String::new(),
            registry: Some("localhost:5000".into()),
            repository: "team/app".into(),
            tag: Some("1".into()),
            manifest_digest: Some(String::new()),
        };
        let pair = |name: &str, file: &str| (name.to_owned(), file.to_owned());
        assert_eq!(
            named(&origin, &["aa", "bb", "aa"]),
            [
                pair(
                    "localhost_5000/team/app-sha256_aa",
                    "localhost:5000/team/app-sha256-aa-1-linux-amd64.aci"
                ),
                pair(
                    "localhost_5000/team/app-sha256_bb",
                    "localhost:5000/team/app-sha256-bb-1-linux-amd64.aci"
                ),
                pair(
                    "localhost_5000/team/app-sha256_aa-2",
                    "localhost:5000/team/app-sha256:aa-2-1-linux-amd64.aci"
                ),
            ]
        );
        // Names of strangers stay below the directory.
        origin.repository = "../..//.x/a".into();
        origin.registry = None;
        origin.tag = Some("../y".into());
        assert_eq!(named(&origin, &["aa"])[0].1, "x/a-sha256:aa-..-y-linux-amd64.aci");
        origin.manifest_digest = None;
        let files = named(&origin, &["aa", "bb"]).into_iter().map(|(_, file)| file);
        assert_eq!(
            files.collect::<Vec<_>>(),
            ["x-a-aa-..-y-linux-amd64-1.aci", "x-a-bb-..-y-linux-amd64-0.aci"]
        );
    }
}
