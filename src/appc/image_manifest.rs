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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::appc::arbitrary;

    fn error(document: &Value) -> String {
        ImageManifest::from_json(document.to_string().as_bytes()).unwrap_err().to_string()
    }

    /// A small manifest with one member set.
    fn with(name: &str, value: Value) -> Value {
        let mut document =
            json!({"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/app"});
        document[name] = value;
        document
    }

    fn with_app(name: &str, value: Value) -> Value {
        let mut app = json!({"exec": ["/app"], "user": "0", "group": "0"});
        app[name] = value;
        with("app", app)
    }

    fn assert_refused(cases: impl IntoIterator<Item = (Value, &'static str)>) {
        for (document, expected) in cases {
            assert_eq!(error(&document), format!("manifest: {expected}"), "{document}");
        }
    }

    #[test]
    fn v1_kind_and_version() {
        let kind = "missing or bad acKind (must be \"ImageManifest\")";
        assert_refused([
            (json!({}), kind),
            (json!([]), "must be an object, not a list"),
            (with("acKind", json!("PodManifest")), kind),
            (with("acKind", json!("imagemanifest")), kind),
            (with("acKind", json!(1)), kind),
            (with("acVersion", json!(null)), "acVersion: must be set"),
            (with("acVersion", json!("0.0.0")), "acVersion: must not be 0.0.0"),
            (with("acVersion", json!("1.0")), "acVersion: \"1.0\" is not a semantic version such as 0.8.11"),
            (with("acVersion", json!(1)), "acVersion: must be a string, not a number"),
        ]);
    }

    #[test]
    fn v2_name() {
        let characters = "only lower-case letters, digits and the characters \"-._~/\" are allowed";
        for (name, rule) in [
            ("Example.com", characters),
            ("a b", characters),
            ("/a", "it must begin and end with a lower-case letter or a digit"),
            ("a/", "it must begin and end with a lower-case letter or a digit"),
            ("a//b", "two separators may not follow each other"),
            ("", "it is empty"),
        ] {
            let expected = format!("manifest: name: {name:?} is not an AC identifier: {rule}");
            assert_eq!(error(&with("name", json!(name))), expected);
        }
        assert_refused([(with("name", json!(null)), "name: must be set")]);
    }

    #[test]
    fn v3_labels() {
        let label = |name: &str, value: &str| json!({"name": name, "value": value});
        assert_refused([
            (with("labels", json!([label("name", "x")])), "labels[0]: invalid label name: \"name\""),
            (
                with("labels", json!([label("a", "1"), label("a", "1")])),
                "labels: duplicate labels of name \"a\"",
            ),
            (
                with("labels", json!([label("os", "plan9")])),
                "labels: bad os \"plan9\" (must be one of: [darwin freebsd linux])",
            ),
            (
                with("labels", json!([label("arch", "arm"), label("os", "darwin")])),
                "labels: bad arch \"arm\" for darwin (must be one of: [x86_64 i386])",
            ),
            (with("labels", json!([{"value": "x"}])), "labels[0].name: must be set"),
            (with("labels", json!([1])), "labels[0]: must be an object, not a number"),
            (
                with(
                    "dependencies",
                    json!([{"imageName": "a"}, {"imageName": "b", "labels": [label("name", "x")]}]),
                ),
                "dependencies[1].labels[0]: invalid label name: \"name\"",
            ),
        ]);
    }

    #[test]
    fn v4_user_group_and_working_directory() {
        assert_refused([
            (with("app", json!({"group": "0"})), "app.user: user is required"),
            (with_app("user", json!("")), "app.user: user is required"),
            (with_app("group", json!(null)), "app.group: group is required"),
            (with_app("user", json!(0)), "app.user: must be a string, not a number"),
            (
                with_app("workingDirectory", json!("a/b")),
                "app.workingDirectory: must be an absolute path, not \"a/b\"",
            ),
            (with_app("exec", json!(["a", "b\0"])), "app.exec[1]: \"b\\0\" holds a NUL character"),
            (with_app("exec", json!("/app")), "app.exec: must be a list, not a string"),
            (
                with_app("supplementaryGIDs", json!([1, -1])),
                "app.supplementaryGIDs[1]: must be a whole number between 0 and 4294967294, not -1",
            ),
            (
                with_app("supplementaryGIDs", json!([4_294_967_295u32])),
                "app.supplementaryGIDs: 4294967295 is not a group",
            ),
            (
                with_app("supplementaryGIDs", json!([1.0])),
                "app.supplementaryGIDs[0]: must be a whole number between 0 and 4294967294, not 1.0",
            ),
        ]);
    }

    #[test]
    fn v5_event_handlers() {
        let must = "(must be \"pre-start\" or \"post-stop\")";
        for name in ["", "Pre-Start", "start"] {
            let expected =
                format!("manifest: app.eventHandlers[0].name: bad event handler name {name:?} {must}");
            assert_eq!(error(&with_app("eventHandlers", json!([{"name": name, "exec": []}]))), expected);
        }
        let twice = json!([{"name": "pre-start"}, {"name": "post-stop"}, {"name": "pre-start"}]);
        assert_refused([(
            with_app("eventHandlers", twice),
            "app.eventHandlers[2].name: only one event handler of name \"pre-start\" is allowed",
        )]);
    }

    #[test]
    fn v6_environment() {
        for (name, rule) in [
            ("", "it is empty"),
            ("1x", "it must begin with a letter or \"_\""),
            ("a=b", "only letters, digits and the characters \"_.-\" are allowed"),
            ("a b", "only letters, digits and the characters \"_.-\" are allowed"),
            ("é", "it must begin with a letter or \"_\""),
        ] {
            let expected =
                format!("manifest: app.environment[1].name: {name:?} is not the name of a variable: {rule}");
            let variables = json!([{"name": "A", "value": ""}, {"name": name, "value": "x"}]);
            assert_eq!(error(&with_app("environment", variables)), expected);
        }
        let twice = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
        assert_refused([
            (with_app("environment", twice), "app.environment[1].name: \"A\" is set twice"),
            (
                with_app("environment", json!([{"name": "A", "value": "\0"}])),
                "app.environment[0].value: \"\\0\" holds a NUL character",
            ),
        ]);
    }

    #[test]
    fn v7_mount_points() {
        assert_refused([
            (with_app("mountPoints", json!([{"path": "/a"}])), "app.mountPoints[0].name: must be set"),
            (with_app("mountPoints", json!([{"name": "a"}])), "app.mountPoints[0].path: path must be set"),
            (
                with_app("mountPoints", json!([{"name": "a", "path": ""}])),
                "app.mountPoints[0].path: path must be set",
            ),
            (
                with_app("mountPoints", json!([{"name": "a.b", "path": "/a"}])),
                "app.mountPoints[0].name: \"a.b\" is not an AC name: only lower-case letters, digits and \"-\" are \
                 allowed",
            ),
            (
                with_app("mountPoints", json!([{"name": "a", "path": "/a", "readOnly": "true"}])),
                "app.mountPoints[0].readOnly: must be a boolean, not a string",
            ),
        ]);
    }

    #[test]
    fn v8_ports() {
        let port =
            |port: i64, count: i64| with_app("ports", json!([{"name": "a", "port": port, "count": count}]));
        let range = |member, number| {
            format!(
                "manifest: app.ports[0].{member}: must be a whole number between 1 and 65535, not {number}"
            )
        };
        assert_eq!(error(&port(0, 1)), range("port", 0));
        assert_eq!(error(&port(65_536, 1)), range("port", 65_536));
        assert_eq!(error(&port(-1, 1)), range("port", -1));
        assert_eq!(error(&port(1, 0)), range("count", 0));
        assert_refused([
            (port(65_535, 2), "app.ports[0].count: the range ends at port 65536, above 65535"),
            (with_app("ports", json!([{"name": "a"}])), "app.ports[0].port: must be set"),
            (
                with_app("ports", json!([{"name": "-a", "port": 1}])),
                "app.ports[0].name: \"-a\" is not an AC name: it must begin and end with a lower-case letter or a digit",
            ),
        ]);
        let manifest = ImageManifest::from_json(port(65_535, 1).to_string().as_bytes()).unwrap();
        assert_eq!(manifest.app.unwrap().ports[0].port, 65_535);
    }

    #[test]
    fn v9_annotations() {
        let note = |name: &str, value: &str| json!({"name": name, "value": value});
        assert_refused([
            (
                with("annotations", json!([note("A", "")])),
                "annotations[0].name: \"A\" is not an AC identifier: only lower-case letters, digits and the characters \
                 \"-._~/\" are allowed",
            ),
            (
                with("annotations", json!([note("a", "1"), note("a", "2")])),
                "annotations: duplicate annotations of name \"a\"",
            ),
            (
                with("annotations", json!([note("authors", "x"), note("created", "today")])),
                "annotations[1].value: created must be an RFC 3339 time such as 2026-01-31T12:00:00Z, not \"today\"",
            ),
            (
                with("annotations", json!([note("homepage", "example.com")])),
                "annotations[0].value: homepage must be an http or https URL, not \"example.com\"",
            ),
            (
                with("annotations", json!([note("documentation", "file:///x")])),
                "annotations[0].value: documentation must be an http or https URL, not \"file:///x\"",
            ),
        ]);
    }

    #[test]
    fn v10_isolators_are_named_by_their_place() {
        let one = |name: &str, value: Value| with_app("isolators", json!([{"name": name, "value": value}]));
        assert_refused([
            (
                one("os/linux/new", json!(1)),
                "app.isolators[0].name: invalid isolator: \"os/linux/new\" is not known",
            ),
            (
                one("resource/cpu", json!({"default": true})),
                "app.isolators[0].value.default: default must be false",
            ),
            (one("os/linux/cpu-shares", json!(null)), "app.isolators[0].value: must be set"),
            (
                with_app(
                    "isolators",
                    json!([
                        {"name": "os/linux/cpu-shares", "value": 2},
                        {"name": "os/linux/cpu-shares", "value": 3}
                    ]),
                ),
                "app.isolators: isolators set contains too many instances of type os/linux/cpu-shares",
            ),
        ]);
    }

    #[test]
    fn v11_dependency_ids() {
        let dependency = json!([{"imageName": "a", "imageID": "sha256-00"}]);
        assert_refused([
            (
                with("dependencies", dependency),
                "dependencies[0].imageID: \"sha256-00\" is not an image ID: it must begin with \"sha512-\"",
            ),
            (with("dependencies", json!([{}])), "dependencies[0].imageName: must be set"),
        ]);
    }

    #[test]
    fn v13_broken_json_is_told_with_its_place() {
        let error = ImageManifest::from_json(b"{\n\"acKind\": \"ImageManifest\",,}").unwrap_err();
        assert_eq!(error.to_string(), "manifest: JSON error at line 2, column 27: key must be a string");
        let error = ImageManifest::from_json(b"{\"name\":\"a\",\"name\":\"b\"}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "manifest: JSON error at line 1, column 18: the member \"name\" is given twice"
        );
    }

    #[test]
    fn a_manifest_is_written_in_the_order_of_the_tables() {
        let hash = format!("sha512-{}", "ab".repeat(64));
        let document = json!({
            "acKind": "ImageManifest",
            "acVersion": "0.8.11",
            "name": "example.com/app",
            "labels": [{"name": "version", "value": "1"}, {"name": "os", "value": "linux"}],
            "app": {
                "exec": ["/bin/app", "a b", "\"%$\n"],
                "user": "0",
                "group": "/etc/group",
                "supplementaryGIDs": [1, 4_294_967_294u32],
                "eventHandlers": [{"name": "pre-start", "exec": ["/x"]}],
                "workingDirectory": "/opt",
                "environment": [{"name": "A", "value": "=\n"}],
                "mountPoints": [{"name": "a", "path": "b", "readOnly": true}, {"name": "c", "path": "/d"}],
                "ports": [{"name": "p", "protocol": "tcp", "port": 80, "count": 1, "socketActivated": false}],
                "isolators": [{"name": "resource/memory", "value": {"request": "1M", "limit": "16Mi"}}],
                "userAnnotations": {"k": "v"},
                "userLabels": {"K": ""},
            },
            "dependencies": [{
                "imageName": "base",
                "imageID": hash,
                "labels": [{"name": "os", "value": "linux"}],
                "size": 22_017_258,
            }],
            "pathWhitelist": ["/a", "/b"],
            "annotations": [{"name": "authors", "value": "A <a@example.com>"}],
        });
        let manifest = ImageManifest::from_json(document.to_string().as_bytes()).unwrap();
        assert_eq!(manifest.to_json(), document.to_string());
        assert_eq!(manifest.dependencies[0].image_id.as_ref().unwrap().key().key(), "ab".repeat(32));
        assert_eq!((manifest.label("version"), manifest.label("none")), (Some("1"), None));
        assert_eq!(manifest.annotation("authors"), Some("A <a@example.com>"));
        assert!(manifest.to_json_pretty(4).starts_with("{\n    \"acKind\": \"ImageManifest\",\n"));
    }

    #[test]
    fn absent_null_and_unknown_members_make_no_difference() {
        let plain = with("app", json!({"user": "0", "group": "0"}));
        let mut full = plain.clone();
        for name in ["labels", "dependencies", "pathWhitelist", "annotations", "unknown"] {
            full[name] = json!(null);
        }
        for name in
            ["exec", "supplementaryGIDs", "eventHandlers", "workingDirectory", "environment", "userLabels"]
        {
            full["app"][name] = json!(null);
        }
        full["Labels"] = json!(1);
        full["app"]["new"] = json!({"a": []});
        let read = |document: &Value| ImageManifest::from_json(document.to_string().as_bytes()).unwrap();
        assert_eq!(read(&plain), read(&full));
        assert_eq!(read(&full).to_json(), plain.to_string());
    }

    #[test]
    fn a_manifest_made_in_memory_passes_the_same_rules() {
        let mut manifest = ImageManifest::new("acbuild-unnamed".parse().unwrap());
        let skeleton = r#"{"acKind":"ImageManifest","acVersion":"0.8.11","name":"acbuild-unnamed"}"#;
        assert_eq!(manifest.to_json(), skeleton);
        manifest.validate().unwrap();
        manifest.ensure_app().working_directory = "opt".into();
        let expected = "manifest: app.workingDirectory: must be an absolute path, not \"opt\"";
        assert_eq!(manifest.validate().unwrap_err().to_string(), expected);
        manifest.ensure_app().working_directory.clear();
        assert_eq!(
            manifest.to_json(),
            skeleton.replace("\"}", r#"","app":{"user":"0","group":"0"}}"#),
            "the app is made with user and group 0"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(manifest in arbitrary::image_manifest()) {
            prop_assert_eq!(manifest.validate(), Ok(()));
            prop_assert_eq!(ImageManifest::from_json(manifest.to_json().as_bytes()), Ok(manifest.clone()));
            prop_assert_eq!(ImageManifest::from_json(manifest.to_json_pretty(2).as_bytes()), Ok(manifest));
        }

        #[test]
        fn what_is_nearly_a_manifest_is_refused_or_kept(
            document in arbitrary::nearly(arbitrary::image_manifest().prop_map(|manifest| manifest.to_value())),
        ) {
            if let Ok(manifest) = ImageManifest::from_json(document.to_string().as_bytes()) {
                prop_assert_eq!(manifest.validate(), Ok(()));
                prop_assert_eq!(ImageManifest::from_json(manifest.to_json().as_bytes()), Ok(manifest));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(ImageManifest::from_json(&bytes).is_err());
        }
    }
}
