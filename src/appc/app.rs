//! The `app` object of image and pod manifests: how the image is executed (spec images.md 2.1.3).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    field::{Field, FieldError, Members, no_nul, quoted},
    isolator::{self, Isolator},
    name::AcName,
};

/// How an image is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The argument vector; it may be empty in an image, and running it then needs an override.
    pub exec: Vec<String>,
    /// A name, a number, or an absolute path whose owner is taken. Not empty.
    pub user: String,
    /// A name, a number, or an absolute path whose group is taken. Not empty.
    pub group: String,
    /// Further groups of the processes, as numbers.
    pub supplementary_gids: Vec<u32>,
    /// What is executed around the app.
    pub event_handlers: Vec<EventHandler>,
    /// Empty for `/`, or absolute.
    pub working_directory: String,
    /// The variables of the app.
    pub environment: Vec<EnvironmentVariable>,
    /// Where the app wants volumes.
    pub mount_points: Vec<MountPoint>,
    /// The ports that the app listens on.
    pub ports: Vec<Port>,
    /// Limits and rights.
    pub isolators: Vec<Isolator>,
    /// Free text for people.
    pub user_annotations: BTreeMap<String, String>,
    /// Free text for grouping.
    pub user_labels: BTreeMap<String, String>,
}

/// When an event handler is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Before the app; a failure stops it from starting.
    PreStart,
    /// After the app, however it ended.
    PostStop,
}

impl Event {
    /// Returns the name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreStart => "pre-start",
            Self::PostStop => "post-stop",
        }
    }
}

/// A command around the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventHandler {
    /// When it is executed.
    pub name: Event,
    /// Its argument vector.
    pub exec: Vec<String>,
}

/// A variable of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentVariable {
    /// Its name: `[A-Za-z_][A-Za-z_0-9.-]*`.
    pub name: String,
    /// Its value, any text without NUL.
    pub value: String,
}

/// A place where the app wants a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// The volume's name, unless a mount says otherwise.
    pub name: AcName,
    /// The path inside the app's root. Not empty.
    pub path: String,
    /// Whether the app only reads there.
    pub read_only: bool,
}

/// A port, or a range of ports, that the app listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name, by which it is forwarded.
    pub name: AcName,
    /// `tcp` or `udp`; free text in a manifest.
    pub protocol: String,
    /// The first port, from 1.
    pub port: u16,
    /// How many ports, from 1.
    pub count: u16,
    /// Whether the supervisor listens in the app's place.
    pub socket_activated: bool,
}

impl App {
    /// Makes an app without a command, run by a user and a group.
    pub fn new(user: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            exec: Vec::new(),
            user: user.into(),
            group: group.into(),
            supplementary_gids: Vec::new(),
            event_handlers: Vec::new(),
            working_directory: String::new(),
            environment: Vec::new(),
            mount_points: Vec::new(),
            ports: Vec::new(),
            isolators: Vec::new(),
            user_annotations: BTreeMap::new(),
            user_labels: BTreeMap::new(),
        }
    }

    /// Returns the value of an environment variable.
    pub fn environment_value(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|variable| variable.name == name).map(|variable| variable.value.as_str())
    }

    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let list = |field: &Field<'_>| field.list(|gid| gid.integer("between 0 and 4294967294"));
        Ok(Self {
            exec: field.or_default("exec", Field::strings)?,
            user: field.or_default("user", Field::string)?,
            group: field.or_default("group", Field::string)?,
            supplementary_gids: field.or_default("supplementaryGIDs", list)?,
            event_handlers: field.or_default("eventHandlers", |f| f.list(EventHandler::read))?,
            working_directory: field.or_default("workingDirectory", Field::string)?,
            environment: field.or_default("environment", |f| f.list(EnvironmentVariable::read))?,
            mount_points: field.or_default("mountPoints", |f| f.list(MountPoint::read))?,
            ports: field.or_default("ports", |f| f.list(Port::read))?,
            isolators: field.or_default("isolators", |f| f.list(isolator::read))?,
            user_annotations: field.or_default("userAnnotations", Field::string_map)?,
            user_labels: field.or_default("userLabels", Field::string_map)?,
        })
    }

    pub(super) fn write(&self) -> Value {
        Members::default()
            .with_strings("exec", &self.exec)
            .with("user", self.user.as_str())
            .with("group", self.group.as_str())
            .with_list("supplementaryGIDs", &self.supplementary_gids, |gid| (*gid).into())
            .with_list("eventHandlers", &self.event_handlers, EventHandler::write)
            .with_text("workingDirectory", &self.working_directory)
            .with_list("environment", &self.environment, EnvironmentVariable::write)
            .with_list("mountPoints", &self.mount_points, MountPoint::write)
            .with_list("ports", &self.ports, Port::write)
            .with_list("isolators", &self.isolators, isolator::write)
            .with_map("userAnnotations", &self.user_annotations)
            .with_map("userLabels", &self.user_labels)
            .into()
    }

    /// Checks every rule of the object.
    ///
    /// # Errors
    /// The member, relative to the object, and the rule that it breaks.
    pub fn validate(&self) -> Result<(), FieldError> {
        validate_exec(&self.exec)?;
        for (name, value) in [("user", &self.user), ("group", &self.group)] {
            if value.is_empty() {
                return Err(FieldError::new(name, format!("{name} is required")));
            }
            no_nul(|| name.into(), value)?;
        }
        if self.supplementary_gids.contains(&u32::MAX) {
            return Err(FieldError::new("supplementaryGIDs", "4294967295 is not a group"));
        }
        if !self.working_directory.is_empty() && !self.working_directory.starts_with('/') {
            let problem = format!("must be an absolute path, not {}", quoted(&self.working_directory));
            return Err(FieldError::new("workingDirectory", problem));
        }
        no_nul(|| "workingDirectory".into(), &self.working_directory)?;
        self.validate_event_handlers()?;
        self.validate_environment()?;
        for (index, point) in self.mount_points.iter().enumerate() {
            point.validate().map_err(FieldError::under(format_args!("mountPoints[{index}]")))?;
        }
        for (index, port) in self.ports.iter().enumerate() {
            port.validate().map_err(FieldError::under(format_args!("ports[{index}]")))?;
        }
        isolator::validate(&self.isolators).map_err(FieldError::under("isolators"))
    }

    fn validate_event_handlers(&self) -> Result<(), FieldError> {
        let mut seen = BTreeSet::new();
        for (index, handler) in self.event_handlers.iter().enumerate() {
            if !seen.insert(handler.name) {
                let problem =
                    format!("only one event handler of name {:?} is allowed", handler.name.as_str());
                return Err(FieldError::new(format!("eventHandlers[{index}].name"), problem));
            }
            validate_exec(&handler.exec)
                .map_err(FieldError::under(format_args!("eventHandlers[{index}]")))?;
        }
        Ok(())
    }

    fn validate_environment(&self) -> Result<(), FieldError> {
        let mut seen = BTreeSet::new();
        for (index, EnvironmentVariable { name, value }) in self.environment.iter().enumerate() {
            let at = |member: &str| format!("environment[{index}].{member}");
            if let Some(rule) = broken_environment_rule(name) {
                return Err(FieldError::new(at("name"), format!("{} {rule}", quoted(name))));
            }
            if !seen.insert(name) {
                return Err(FieldError::new(at("name"), format!("{} is set twice", quoted(name))));
            }
            no_nul(|| at("value"), value)?;
        }
        Ok(())
    }
}

fn validate_exec(exec: &[String]) -> Result<(), FieldError> {
    exec.iter().enumerate().try_for_each(|(index, word)| no_nul(|| format!("exec[{index}]"), word))
}

/// Tells whether a text may be the name of an environment variable: `[A-Za-z_][A-Za-z_0-9.-]*`.
pub fn is_environment_name(name: &str) -> bool {
    broken_environment_rule(name).is_none()
}

fn broken_environment_rule(name: &str) -> Option<&'static str> {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    match name.as_bytes() {
        [] => Some("is not the name of a variable: it is empty"),
        [b, ..] if !first(*b) => Some("is not the name of a variable: it must begin with a letter or \"_\""),
        [_, rest @ ..] if !rest.iter().all(|&b| first(b) || b.is_ascii_digit() || b == b'.' || b == b'-') => {
            Some("is not the name of a variable: only letters, digits and the characters \"_.-\" are allowed")
        }
        _ => None,
    }
}

impl EventHandler {
    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let name = field.required("name")?;
        let event = match name.str()? {
            "pre-start" => Event::PreStart,
            "post-stop" => Event::PostStop,
            other => {
                let problem = format!("bad event handler name {}", quoted(other));
                return Err(name.error(problem + " (must be \"pre-start\" or \"post-stop\")"));
            }
        };
        Ok(Self { name: event, exec: field.or_default("exec", Field::strings)? })
    }

    fn write(&self) -> Value {
        Members::default().with("name", self.name.as_str()).with("exec", self.exec.clone()).into()
    }
}

impl EnvironmentVariable {
    /// Makes a variable of a name and a value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }

    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(Self { name: field.required("name")?.string()?, value: field.or_default("value", Field::string)? })
    }

    fn write(&self) -> Value {
        Members::default().with("name", self.name.as_str()).with("value", self.value.as_str()).into()
    }
}

impl MountPoint {
    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            name: field.required("name")?.parsed()?,
            path: field.or_default("path", Field::string)?,
            read_only: field.or_default("readOnly", Field::bool)?,
        })
    }

    fn write(&self) -> Value {
        Members::default()
            .with("name", self.name.as_str())
            .with("path", self.path.as_str())
            .with_some("readOnly", self.read_only.then_some(true))
            .into()
    }

    fn validate(&self) -> Result<(), FieldError> {
        if self.path.is_empty() {
            return Err(FieldError::new("path", "path must be set"));
        }
        no_nul(|| "path".into(), &self.path)
    }
}

impl Port {
    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let range = "between 1 and 65535";
        Ok(Self {
            name: field.required("name")?.parsed()?,
            protocol: field.or_default("protocol", Field::string)?,
            port: field.required("port")?.integer(range)?,
            count: field.optional("count")?.map_or(Ok(1), |count| count.integer(range))?,
            socket_activated: field.or_default("socketActivated", Field::bool)?,
        })
    }

    pub(super) fn write(&self) -> Value {
        Members::default()
            .with("name", self.name.as_str())
            .with("protocol", self.protocol.as_str())
            .with("port", self.port)
            .with("count", self.count)
            .with("socketActivated", self.socket_activated)
            .into()
    }

    /// Checks that the port, or the range, lies within 1 to 65535.
    ///
    /// # Errors
    /// The member and the rule that it breaks.
    pub fn validate(&self) -> Result<(), FieldError> {
        for (name, value) in [("port", self.port), ("count", self.count)] {
            if value == 0 {
                return Err(FieldError::new(name, "must be a whole number between 1 and 65535, not 0"));
            }
        }
        let last = u32::from(self.port) + u32::from(self.count) - 1;
        if last > u32::from(u16::MAX) {
            return Err(FieldError::new("count", format!("the range ends at port {last}, above 65535")));
        }
        Ok(())
    }
}
