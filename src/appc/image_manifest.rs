//! The image manifest: what an image is called, says about itself and wants (spec images.md 2.1.3).
//!
//! Unknown members are left aside, and are gone when a manifest is written again.

use serde_json::Value;

pub use super::{
    app::{App, EnvironmentVariable, Event, EventHandler, MountPoint, Port},
    field::ManifestError,
    image_id::ImageHash,
    label::{Annotation, Label},
};
use super::{
    field::{self, Document, Field, FieldError, Members, no_nul},
    json,
    label::{validate_annotations, validate_labels},
    name::AcIdentifier,
    platform::{self, PlatformError},
    semver::SemVer,
};

const KIND: &str = "ImageManifest";

/// What an image says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// The version of the specification that the manifest follows. Not 0.0.0.
    pub ac_version: SemVer,
    /// The image's name.
    pub name: AcIdentifier,
    /// What tells images of this name apart.
    pub labels: Vec<Label>,
    /// How the image is executed, if it can be.
    pub app: Option<App>,
    /// The images below this one, in the order of the list.
    pub dependencies: Vec<Dependency>,
    /// The only paths that are kept of this image and those below it; empty keeps all (spec images.md 2.8).
    pub path_whitelist: Vec<String>,
    /// Descriptions.
    pub annotations: Vec<Annotation>,
}

/// An image below another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Its name.
    pub image_name: AcIdentifier,
    /// Its ID, if exactly one image will do; `key()` is the store's name for it.
    pub image_id: Option<ImageHash>,
    /// Labels that it must have.
    pub labels: Vec<Label>,
    /// The size of its compressed file in bytes, if known.
    pub size: Option<u64>,
}

impl ImageManifest {
    /// Makes the manifest of an image that has a name and nothing else.
    pub fn new(name: AcIdentifier) -> Self {
        Self {
            ac_version: SemVer::APPC,
            name,
            labels: Vec::new(),
            app: None,
            dependencies: Vec::new(),
            path_whitelist: Vec::new(),
            annotations: Vec::new(),
        }
    }

    /// Reads a manifest and checks every rule.
    ///
    /// # Errors
    /// The JSON is not accepted (with line and column), or a member breaks a rule (with its path).
    pub fn from_json(document: &[u8]) -> Result<Self, ManifestError> {
        let value = json::parse(document).map_err(ManifestError::json(Document::ImageManifest))?;
        let manifest =
            Self::read(&Field::document(&value)).map_err(ManifestError::field(Document::ImageManifest))?;
        manifest.validate()?;
        Ok(manifest)
    }

    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        read_kind(field, KIND)?;
        Ok(Self {
            ac_version: field.required("acVersion")?.parsed()?,
            name: field.required("name")?.parsed()?,
            labels: field.or_default("labels", |f| f.list(Label::read))?,
            app: field.optional("app")?.map(|app| App::read(&app)).transpose()?,
            dependencies: field.or_default("dependencies", |f| f.list(Dependency::read))?,
            path_whitelist: field.or_default("pathWhitelist", Field::strings)?,
            annotations: field.or_default("annotations", |f| f.list(Annotation::read))?,
        })
    }

    /// Checks every rule, as [`Self::from_json`] does, on a manifest that was changed in memory.
    ///
    /// # Errors
    /// A member breaks a rule.
    pub fn validate(&self) -> Result<(), ManifestError> {
        self.check().map_err(ManifestError::field(Document::ImageManifest))
    }

    fn check(&self) -> Result<(), FieldError> {
        check_version(&self.ac_version)?;
        if self.ac_version.has_older_major(&SemVer::APPC) {
            let problem = format!("{} is older than {}", self.ac_version, SemVer::APPC);
            return Err(FieldError::new("acVersion", problem));
        }
        validate_labels(&self.labels).map_err(FieldError::under("labels"))?;
        if let Some(app) = &self.app {
            app.validate().map_err(FieldError::under("app"))?;
        }
        for (index, dependency) in self.dependencies.iter().enumerate() {
            validate_labels(&dependency.labels)
                .map_err(FieldError::under(format_args!("dependencies[{index}].labels")))?;
        }
        for (index, path) in self.path_whitelist.iter().enumerate() {
            no_nul(|| format!("pathWhitelist[{index}]"), path)?;
        }
        validate_annotations(&self.annotations).map_err(FieldError::under("annotations"))
    }

    /// Checks that an image may run as an app: it must say for which platform it is, and rkt must support that.
    ///
    /// # Errors
    /// A label is missing, or names a platform that rkt does not support.
    pub fn check_runnable(&self) -> Result<(), PlatformError> {
        platform::check_runnable(&self.labels)
    }

    /// Returns the value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.name == *name).map(|label| label.value.as_str())
    }

    /// Returns the value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.iter().find(|note| note.name == *name).map(|note| note.value.as_str())
    }

    /// Returns the app to be changed; if there is none, makes one with user and group `0` (spec build-tools.md 6.3).
    pub fn ensure_app(&mut self) -> &mut App {
        self.app.get_or_insert_with(|| App::new("0", "0"))
    }

    /// Returns the manifest as a JSON value, members in the order of the specification's table.
    pub fn to_value(&self) -> Value {
        Members::default()
            .with("acKind", KIND)
            .with("acVersion", self.ac_version.to_string())
            .with("name", self.name.as_str())
            .with_list("labels", &self.labels, Label::write)
            .with_some("app", self.app.as_ref().map(App::write))
            .with_list("dependencies", &self.dependencies, Dependency::write)
            .with_strings("pathWhitelist", &self.path_whitelist)
            .with_list("annotations", &self.annotations, Annotation::write)
            .into()
    }

    /// Returns the manifest as compact JSON on one line, without a newline at its end.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// Returns the manifest as JSON over several lines, each level indented by `indent` blanks.
    pub fn to_json_pretty(&self, indent: usize) -> String {
        field::pretty(&self.to_value(), indent)
    }
}

impl Dependency {
    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let size = |f: Field<'_>| f.integer("of bytes");
        Ok(Self {
            image_name: field.required("imageName")?.parsed()?,
            image_id: field.optional("imageID")?.map(|id| id.parsed()).transpose()?,
            labels: field.or_default("labels", |f| f.list(Label::read))?,
            size: field.optional("size")?.map(size).transpose()?.filter(|size| *size > 0),
        })
    }

    fn write(&self) -> Value {
        Members::default()
            .with("imageName", self.image_name.as_str())
            .with_some("imageID", self.image_id.as_ref().map(ImageHash::as_str))
            .with_list("labels", &self.labels, Label::write)
            .with_some("size", self.size)
            .into()
    }
}

/// The member `acKind`, which must be exactly `kind`.
pub(super) fn read_kind(field: &Field<'_>, kind: &str) -> Result<(), FieldError> {
    let problem = format!("missing or bad acKind (must be {kind:?})");
    match field.optional("acKind")? {
        Some(found) if found.value().as_str() == Some(kind) => Ok(()),
        _ => Err(FieldError::new("", problem)),
    }
}

/// The rule of `acVersion` that image and pod manifests share.
pub(super) fn check_version(version: &SemVer) -> Result<(), FieldError> {
    if version.is_zero() {
        return Err(FieldError::new("acVersion", "must not be 0.0.0"));
    }
    Ok(())
}
