//! The pod manifest: which apps run together, and on what (spec pods.md 3.1).
//!
//! Unknown members are left aside, and are gone when a manifest is written again.

mod naming;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use serde_json::Value;

use super::{
    app::{App, Port},
    field::{self, Document, Field, FieldError, Members, quoted},
    image_id::ImageId,
    image_manifest::{check_version, read_kind},
    isolator::{self, Isolator},
    json,
    label::{Annotation, Label, validate_annotations, validate_labels},
    name::{AcIdentifier, AcName},
    semver::SemVer,
};
pub use naming::NamingManifest;

pub use super::{
    field::ManifestError,
    volume::{Mount, Volume, VolumeError, VolumeKind},
};

const KIND: &str = "PodManifest";

/// The apps of a pod and what they share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodManifest {
    /// The version of what wrote the manifest. Not 0.0.0.
    pub ac_version: SemVer,
    /// The apps. Their names are unique.
    pub apps: Vec<RuntimeApp>,
    /// What they can mount. The names are unique.
    pub volumes: Vec<Volume>,
    /// Isolators of the whole pod. Accepted, not enforced.
    pub isolators: Vec<Isolator>,
    /// Descriptions.
    pub annotations: Vec<Annotation>,
    /// Ports that are reached from outside.
    pub ports: Vec<ExposedPort>,
    /// Free text for people.
    pub user_annotations: BTreeMap<String, String>,
    /// Free text for grouping.
    pub user_labels: BTreeMap<String, String>,
}

/// An app of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeApp {
    /// Its name in the pod.
    pub name: AcName,
    /// The image that it runs.
    pub image: RuntimeImage,
    /// How it is executed; if missing, as the image says.
    pub app: Option<App>,
    /// Whether its root is read-only.
    pub read_only_root_fs: bool,
    /// Volumes and their paths.
    pub mounts: Vec<Mount>,
    /// Descriptions, which beat those of the image.
    pub annotations: Vec<Annotation>,
}

/// The image of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeImage {
    /// Its name, for people.
    pub name: Option<AcIdentifier>,
    /// Its ID, which decides.
    pub id: ImageId,
    /// Its labels, for people.
    pub labels: Vec<Label>,
}

/// A port of an app that is reached from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposedPort {
    /// The port's name in the app.
    pub name: AcName,
    /// The port on the host, from 1.
    pub host_port: u16,
    /// The only address of the host that is forwarded; without it, all.
    pub host_ip: Option<Ipv4Addr>,
    /// The port in the pod, which beats the app's port of that name.
    pub pod_port: Option<Port>,
}

impl PodManifest {
    /// Makes the manifest of a pod without apps.
    pub fn new(ac_version: SemVer) -> Self {
        Self {
            ac_version,
            apps: Vec::new(),
            volumes: Vec::new(),
            isolators: Vec::new(),
            annotations: Vec::new(),
            ports: Vec::new(),
            user_annotations: BTreeMap::new(),
            user_labels: BTreeMap::new(),
        }
    }

    /// Reads a manifest and checks every rule.
    ///
    /// # Errors
    /// The JSON is not accepted (with line and column), or a member breaks a rule (with its path).
    pub fn from_json(document: &[u8]) -> Result<Self, ManifestError> {
        Self::from_value(&json::parse(document).map_err(ManifestError::json(Document::PodManifest))?)
    }

    fn from_value(value: &Value) -> Result<Self, ManifestError> {
        let manifest =
            Self::read(&Field::document(value)).map_err(ManifestError::field(Document::PodManifest))?;
        manifest.validate()?;
        Ok(manifest)
    }

    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        read_kind(field, KIND)?;
        Ok(Self {
            ac_version: field.required("acVersion")?.parsed()?,
            apps: field.or_default("apps", |f| f.list(RuntimeApp::read))?,
            volumes: field.or_default("volumes", |f| f.list(Volume::read))?,
            isolators: field.or_default("isolators", |f| f.list(isolator::read))?,
            annotations: field.or_default("annotations", |f| f.list(Annotation::read))?,
            ports: field.or_default("ports", |f| f.list(ExposedPort::read))?,
            user_annotations: field.or_default("userAnnotations", Field::string_map)?,
            user_labels: field.or_default("userLabels", Field::string_map)?,
        })
    }

    /// Checks every rule, as [`Self::from_json`] does, on a manifest that was made in memory.
    ///
    /// # Errors
    /// A member breaks a rule.
    pub fn validate(&self) -> Result<(), ManifestError> {
        self.check().map_err(ManifestError::field(Document::PodManifest))
    }

    fn check(&self) -> Result<(), FieldError> {
        check_version(&self.ac_version)?;
        let mut names = BTreeSet::new();
        for (index, app) in self.apps.iter().enumerate() {
            if !names.insert(&app.name) {
                return Err(FieldError::new(
                    "",
                    format!("duplicate apps of name {}", quoted(app.name.as_str())),
                ));
            }
            app.validate().map_err(FieldError::under(format_args!("apps[{index}]")))?;
        }
        let mut names = BTreeSet::new();
        for (index, volume) in self.volumes.iter().enumerate() {
            if !names.insert(&volume.name) {
                return Err(FieldError::new(
                    "",
                    format!("duplicate volume name {}", quoted(volume.name.as_str())),
                ));
            }
            volume.check().map_err(|problem| FieldError::new(format!("volumes[{index}]"), problem))?;
        }
        isolator::validate(&self.isolators).map_err(FieldError::under("isolators"))?;
        validate_annotations(&self.annotations).map_err(FieldError::under("annotations"))?;
        for (index, port) in self.ports.iter().enumerate() {
            port.validate().map_err(FieldError::under(format_args!("ports[{index}]")))?;
        }
        Ok(())
    }

    /// Returns an app by its name.
    pub fn app(&self, name: &AcName) -> Option<&RuntimeApp> {
        self.apps.iter().find(|app| app.name == *name)
    }

    /// Returns a volume by its name.
    pub fn volume(&self, name: &AcName) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == *name)
    }

    /// Returns the value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.iter().find(|note| note.name == *name).map(|note| note.value.as_str())
    }

    /// Returns the manifest as a JSON value, members in the order of the specification's table.
    pub fn to_value(&self) -> Value {
        Members::default()
            .with("acKind", KIND)
            .with("acVersion", self.ac_version.to_string())
            .with("apps", self.apps.iter().map(RuntimeApp::write).collect::<Vec<_>>())
            .with_list("volumes", &self.volumes, Volume::write)
            .with_list("isolators", &self.isolators, isolator::write)
            .with_list("annotations", &self.annotations, Annotation::write)
            .with_list("ports", &self.ports, ExposedPort::write)
            .with_map("userAnnotations", &self.user_annotations)
            .with_map("userLabels", &self.user_labels)
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

impl RuntimeApp {
    /// Makes an app of a name and an image, to be executed as the image says.
    pub fn new(name: AcName, image: RuntimeImage) -> Self {
        Self { name, image, app: None, read_only_root_fs: false, mounts: Vec::new(), annotations: Vec::new() }
    }

    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let name: AcName = field.required("name")?.parsed()?;
        let image = field.optional("image")?;
        let image = image.as_ref().map(|image| RuntimeImage::read(image, &name)).transpose()?;
        Ok(Self {
            image: image.ok_or_else(|| field.error(no_image_id(&name)))?,
            name,
            app: field.optional("app")?.map(|app| App::read(&app)).transpose()?,
            read_only_root_fs: field.or_default("readOnlyRootFS", Field::bool)?,
            mounts: field.or_default("mounts", |f| f.list(Mount::read))?,
            annotations: field.or_default("annotations", |f| f.list(Annotation::read))?,
        })
    }

    fn write(&self) -> Value {
        Members::default()
            .with("name", self.name.as_str())
            .with("image", self.image.write())
            .with_some("app", self.app.as_ref().map(App::write))
            .with_some("readOnlyRootFS", self.read_only_root_fs.then_some(true))
            .with_list("mounts", &self.mounts, Mount::write)
            .with_list("annotations", &self.annotations, Annotation::write)
            .into()
    }

    fn validate(&self) -> Result<(), FieldError> {
        validate_labels(&self.image.labels).map_err(FieldError::under("image.labels"))?;
        if let Some(app) = &self.app {
            app.validate().map_err(FieldError::under("app"))?;
        }
        for (index, mount) in self.mounts.iter().enumerate() {
            mount.validate().map_err(FieldError::under(format_args!("mounts[{index}]")))?;
        }
        validate_annotations(&self.annotations).map_err(FieldError::under("annotations"))
    }
}

fn no_image_id(app: &AcName) -> String {
    format!("no image ID for app {}", quoted(app.as_str()))
}

impl RuntimeImage {
    fn read(field: &Field<'_>, app: &AcName) -> Result<Self, FieldError> {
        let id = field.optional("id")?.filter(|id| id.value().as_str() != Some(""));
        Ok(Self {
            name: field.optional("name")?.map(|name| name.parsed()).transpose()?,
            id: id.map_or_else(|| Err(field.error(no_image_id(app))), |id| id.parsed())?,
            labels: field.or_default("labels", |f| f.list(Label::read))?,
        })
    }

    fn write(&self) -> Value {
        Members::default()
            .with_some("name", self.name.as_ref().map(AcIdentifier::as_str))
            .with("id", self.id.to_string())
            .with_list("labels", &self.labels, Label::write)
            .into()
    }
}

impl ExposedPort {
    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let address = |f: Field<'_>| match f.str()? {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| f.error(format!("{} is not an IPv4 address", quoted(text)))),
        };
        Ok(Self {
            name: field.required("name")?.parsed()?,
            host_port: field.required("hostPort")?.integer("between 1 and 65535")?,
            host_ip: field.optional("hostIP")?.map_or(Ok(None), address)?,
            pod_port: field.optional("podPort")?.map(|port| Port::read(&port)).transpose()?,
        })
    }

    fn write(&self) -> Value {
        Members::default()
            .with("name", self.name.as_str())
            .with("hostPort", self.host_port)
            .with_some("hostIP", self.host_ip.map(|address| address.to_string()))
            .with_some("podPort", self.pod_port.as_ref().map(Port::write))
            .into()
    }

    fn validate(&self) -> Result<(), FieldError> {
        if self.host_port == 0 {
            return Err(FieldError::new("hostPort", "must be a whole number between 1 and 65535, not 0"));
        }
        match &self.pod_port {
            Some(port) => port.validate().map_err(FieldError::under("podPort")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::appc::arbitrary;

    const ID: &str = "sha512-0105090d1115191d2125292d3135393d4145494d5155595d6165696d7175797d";

    fn read(document: &Value) -> Result<PodManifest, String> {
        PodManifest::from_json(document.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    fn with(name: &str, value: Value) -> Value {
        let mut document = json!({"acKind": "PodManifest", "acVersion": "0.8.11", "apps": []});
        document[name] = value;
        document
    }

    fn app(name: &str) -> Value {
        json!({"name": name, "image": {"id": ID}})
    }

    fn app_with(name: &str, value: Value) -> Value {
        let mut app = app("web");
        app[name] = value;
        with("apps", json!([app]))
    }

    #[test]
    fn v12_what_a_pod_must_not_say() {
        for (document, expected) in [
            (with("acKind", json!("ImageManifest")), "missing or bad acKind (must be \"PodManifest\")"),
            (with("acVersion", json!("0.0.0")), "acVersion: must not be 0.0.0"),
            (with("apps", json!([app("a"), app("b"), app("a")])), "duplicate apps of name \"a\""),
            (
                with("volumes", json!([{"name": "v", "kind": "empty"}, {"name": "v", "kind": "empty"}])),
                "duplicate volume name \"v\"",
            ),
            (
                with("volumes", json!([{"name": "v", "kind": "nfs"}])),
                "volumes[0]: unrecognized volume kind: should be one of \"empty\", \"host\"",
            ),
            (
                with("volumes", json!([{"name": "v"}])),
                "volumes[0]: unrecognized volume kind: should be one of \"empty\", \"host\"",
            ),
            (
                with("volumes", json!([{"name": "v", "kind": "host"}])),
                "volumes[0]: source for host volume cannot be empty",
            ),
            (
                with("volumes", json!([{"name": "v", "kind": "host", "source": "a"}])),
                "volumes[0]: source for host volume must be absolute path",
            ),
            (
                with("volumes", json!([{"name": "v", "kind": "host", "source": "/a", "mode": "0755"}])),
                "volumes[0]: mode for host volume cannot be set",
            ),
            (
                with("volumes", json!([{"name": "v", "kind": "host", "source": "/a", "uid": 0}])),
                "volumes[0]: uid for host volume cannot be set",
            ),
            (
                with("volumes", json!([{"name": "v", "kind": "host", "source": "/a", "gid": 0}])),
                "volumes[0]: gid for host volume cannot be set",
            ),
            (
                with("volumes", json!([{"name": "v", "kind": "empty", "source": "/a"}])),
                "volumes[0]: source for empty volume must be empty",
            ),
            (
                with("volumes", json!([{"name": "v", "kind": "empty", "mode": "888"}])),
                "volumes[0].mode: mode must be octal permissions up to 7777, not \"888\"",
            ),
            (app_with("mounts", json!([{"path": "/a"}])), "apps[0].mounts[0].volume: must be set"),
            (app_with("mounts", json!([{"volume": "v"}])), "apps[0].mounts[0].path: must be set"),
            (
                app_with("mounts", json!([{"volume": "v", "path": ""}])),
                "apps[0].mounts[0].path: path must be set",
            ),
            (
                app_with(
                    "mounts",
                    json!([{"volume": "v", "path": "a", "appVolume": {"name": "x", "kind": "host", "source": "b"}}]),
                ),
                "apps[0].mounts[0].appVolume: source for host volume must be absolute path",
            ),
            (app_with("image", json!(null)), "apps[0]: no image ID for app \"web\""),
            (app_with("image", json!({"name": "a"})), "apps[0].image: no image ID for app \"web\""),
            (
                app_with("image", json!({"id": "sha512-zz"})),
                "apps[0].image.id: \"sha512-zz\" is not an image ID: only the digits 0-9 and a-f may follow \"sha512-\"",
            ),
            (app_with("app", json!({"user": "0"})), "apps[0].app.group: group is required"),
            (
                with("ports", json!([{"name": "p", "hostPort": 80, "hostIP": "::1"}])),
                "ports[0].hostIP: \"::1\" is not an IPv4 address",
            ),
            (
                with("ports", json!([{"name": "p", "hostPort": 0}])),
                "ports[0].hostPort: must be a whole number between 1 and 65535, not 0",
            ),
            (
                with("ports", json!([{"name": "p", "hostPort": 1, "podPort": {"name": "p", "port": 0}}])),
                "ports[0].podPort.port: must be a whole number between 1 and 65535, not 0",
            ),
            (with("userLabels", json!({"a": "b", "c": 1})), "userLabels: [\"c\"] must be a string"),
        ] {
            assert_eq!(read(&document).unwrap_err(), format!("pod manifest: {expected}"), "{document}");
        }
    }

    #[test]
    fn a_pod_manifest_is_written_in_the_order_of_the_table() {
        let document = json!({
            "acKind": "PodManifest",
            "acVersion": "2.0.0-dev",
            "apps": [{
                "name": "web",
                "image": {"name": "example.com/web", "id": ID, "labels": [{"name": "version", "value": "1"}]},
                "app": {"exec": ["/x"], "user": "0", "group": "0"},
                "readOnlyRootFS": true,
                "mounts": [
                    {"volume": "data", "path": "/data"},
                    {"volume": "own", "path": "/own", "appVolume": {
                        "name": "own", "kind": "empty", "readOnly": false, "mode": "0700", "uid": 1, "gid": 2
                    }}
                ],
                "annotations": [{"name": "a", "value": "b"}]
            }],
            "volumes": [{"name": "data", "kind": "host", "source": "/srv", "readOnly": true, "recursive": false}],
            "isolators": [{"name": "os/linux/cpu-shares", "value": 1024}],
            "annotations": [{"name": "coreos.com/rkt/stage1/mutable", "value": "false"}],
            "ports": [{"name": "http", "hostPort": 80, "hostIP": "127.0.0.1", "podPort": {
                "name": "http", "protocol": "tcp", "port": 8080, "count": 1, "socketActivated": false
            }}],
            "userAnnotations": {"k": "v"},
            "userLabels": {"k": "v"},
        });
        let manifest = read(&document).unwrap();
        assert_eq!(manifest.to_json(), document.to_string());
        assert_eq!(manifest.annotation("coreos.com/rkt/stage1/mutable"), Some("false"));
        assert!(manifest.app(&"web".parse().unwrap()).is_some());
        assert!(manifest.volume(&"web".parse().unwrap()).is_none());
    }

    #[test]
    fn what_older_programs_wrote_is_read() {
        let document = json!({
            "acVersion": "1.30.0", "acKind": "PodManifest", "apps": [app("a")], "volumes": null, "isolators": null,
            "annotations": null, "ports": [{"name": "p", "hostPort": 80, "hostIP": ""}]
        });
        let manifest = read(&document).unwrap();
        assert_eq!((manifest.volumes.len(), manifest.ports[0].host_ip), (0, None));
        let skeleton = PodManifest::new("2.0.0-dev".parse().unwrap());
        assert_eq!(skeleton.to_json(), r#"{"acKind":"PodManifest","acVersion":"2.0.0-dev","apps":[]}"#);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(manifest in arbitrary::pod_manifest()) {
            prop_assert_eq!(manifest.validate(), Ok(()));
            prop_assert_eq!(PodManifest::from_json(manifest.to_json().as_bytes()), Ok(manifest));
        }

        #[test]
        fn what_is_nearly_a_manifest_is_refused_or_kept(
            document in arbitrary::nearly(arbitrary::pod_manifest().prop_map(|manifest| manifest.to_value())),
        ) {
            if let Ok(manifest) = PodManifest::from_json(document.to_string().as_bytes()) {
                prop_assert_eq!(manifest.validate(), Ok(()));
                prop_assert_eq!(PodManifest::from_json(manifest.to_json().as_bytes()), Ok(manifest));
            }
        }
    }
}
