//! The pod manifest of a user who knows images by their names: their IDs come from who can find them.

use serde_json::Value;

use super::{Document, ManifestError, PodManifest, json};
use crate::appc::{image_id::ImageId, label::Label, name::AcIdentifier};

/// A manifest that keeps every rule, but that an image may be known by its name and labels alone.
///
/// Only rkt takes such a manifest, from its user; in a pod each image has its ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamingManifest {
    /// Images without an ID have [`STAND_IN`], which nobody sees.
    manifest: PodManifest,
    /// The indices of apps whose images have no ID.
    without_id: Vec<usize>,
}

/// For the ID of an image, while the rest of a manifest is checked.
const STAND_IN: &str = "sha512-0000000000000000000000000000000000000000000000000000000000000000";

impl NamingManifest {
    /// Reads a manifest and checks every rule.
    ///
    /// # Errors
    /// As [`PodManifest::from_json`]; an image must have an ID or a name.
    pub fn from_json(document: &[u8]) -> Result<Self, ManifestError> {
        let mut value = json::parse(document).map_err(ManifestError::json(Document::PodManifest))?;
        let mut without_id = Vec::new();
        let apps = value.get_mut("apps").and_then(Value::as_array_mut);
        for (index, app) in apps.into_iter().flatten().enumerate() {
            let Some(image) = app.get_mut("image").and_then(Value::as_object_mut) else { continue };
            let is_missing = |member| image.get(member).is_none_or(|value| value.is_null() || value == "");
            if is_missing("id") && !is_missing("name") {
                image.insert("id".into(), STAND_IN.into());
                without_id.push(index);
            }
        }
        Ok(Self { manifest: PodManifest::from_value(&value)?, without_id })
    }

    /// Gives each image that has no ID the one that `find` returns for its name and labels.
    ///
    /// # Errors
    /// The first of `find`.
    pub fn resolve<E>(
        self,
        mut find: impl FnMut(AcIdentifier, Vec<Label>) -> Result<ImageId, E>,
    ) -> Result<PodManifest, E> {
        let Self { mut manifest, without_id } = self;
        for index in without_id {
            let image = &mut manifest.apps[index].image;
            let name = image.name.clone().expect("an image without an ID has a name");
            image.id = find(name, image.labels.clone())?;
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::appc::arbitrary;

    const ID: &str = "sha512-0105090d1115191d2125292d3135393d4145494d5155595d6165696d7175797d";

    #[test]
    fn an_image_without_an_id_is_found_by_its_name_and_labels() {
        let image = |image: Value| json!({"name": "web", "image": image});
        let named = json!({"name": "a.b/c", "labels": [{"name": "version", "value": "1"}]});
        let read = |apps: Value| {
            let document = json!({"acKind": "PodManifest", "acVersion": "0.8.11", "apps": apps});
            NamingManifest::from_json(document.to_string().as_bytes())
        };
        let app = |name: &str| json!({"name": name, "image": {"id": ID}});
        let found: ImageId = ID.parse().unwrap();
        for id in [None, Some(json!("")), Some(json!(null))] {
            let mut named = named.clone();
            named.as_object_mut().unwrap().extend(id.map(|id| ("id".to_owned(), id)));
            let manifest = read(json!([app("first"), image(named)])).unwrap();
            let mut asked = Vec::new();
            let resolved = manifest.clone().resolve(|name, labels| {
                asked.push((name.to_string(), labels));
                Ok::<_, ()>(found)
            });
            let labels = vec![Label::new("version".parse().unwrap(), "1")];
            assert_eq!(asked, [("a.b/c".to_owned(), labels)]);
            assert!(resolved.unwrap().apps.iter().all(|app| app.image.id == found));
            assert_eq!(manifest.resolve(|_, _| Err("gone")), Err("gone"));
        }
        for (apps, expected) in [
            (json!([image(json!({}))]), "apps[0].image: no image ID for app \"web\""),
            (json!([image(json!({"name": null, "id": ""}))]), "apps[0].image: no image ID for app \"web\""),
            (json!([image(named.clone()), app("a"), app("a")]), "duplicate apps of name \"a\""),
        ] {
            assert_eq!(read(apps).unwrap_err().problem().to_string(), expected);
        }
        assert!(read(json!([image(json!({"name": "../x"}))])).is_err());
    }

    proptest! {
        #[test]
        fn only_a_missing_id_is_taken_beyond_what_a_pod_manifest_may_be(
            document in arbitrary::nearly(arbitrary::pod_manifest().prop_map(|manifest| manifest.to_value())),
        ) {
            let text = document.to_string();
            let found: ImageId = ID.parse().unwrap();
            let resolved = NamingManifest::from_json(text.as_bytes()).map(|manifest| {
                let named = !manifest.without_id.is_empty();
                (manifest.resolve(|_, _| Ok::<_, ()>(found)).unwrap(), named)
            });
            match (PodManifest::from_json(text.as_bytes()), resolved) {
                (Ok(manifest), Ok((resolved, named))) => prop_assert_eq!((manifest, false), (resolved, named)),
                (Err(error), Err(same)) => prop_assert_eq!(error, same),
                (Err(_), Ok((resolved, named))) => {
                    prop_assert!(named);
                    prop_assert_eq!(resolved.validate(), Ok(()));
                }
                (Ok(_), Err(error)) => prop_assert!(false, "{}", error),
            }
        }
    }
}
