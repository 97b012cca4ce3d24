//! Reading and writing the members of a manifest, with errors that name the member.
//!
//! An error's path is what a user would type to find the place: `app.environment[2].name`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde_json::{Map, Value};

use super::json::JsonError;

/// Which document an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// An image manifest.
    ImageManifest,
    /// A pod manifest.
    PodManifest,
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ImageManifest => "manifest",
            Self::PodManifest => "pod manifest",
        })
    }
}

/// Why a manifest is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The document is not the JSON that is accepted.
    #[error("{document}: {problem}")]
    Json {
        /// Which document.
        document: Document,
        /// What is wrong with it.
        problem: JsonError,
    },
    /// A member breaks a rule.
    #[error("{document}: {problem}")]
    Field {
        /// Which document.
        document: Document,
        /// The member and the rule.
        problem: FieldError,
    },
}

impl ManifestError {
    /// What is wrong, without the name of the document.
    pub fn problem(&self) -> &dyn fmt::Display {
        match self {
            Self::Json { problem, .. } => problem,
            Self::Field { problem, .. } => problem,
        }
    }

    pub(crate) fn json(document: Document) -> impl FnOnce(JsonError) -> Self {
        move |problem| Self::Json { document, problem }
    }

    pub(crate) fn field(document: Document) -> impl FnOnce(FieldError) -> Self {
        move |problem| Self::Field { document, problem }
    }
}

/// A member and the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    path: String,
    problem: String,
}

impl FieldError {
    /// Makes the error of the member at `path`; an empty path is the whole document.
    pub(crate) fn new(path: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { path: path.into(), problem: problem.to_string() }
    }

    /// Returns a closure for `map_err` that puts the path below `parent`.
    pub(crate) fn under(parent: impl fmt::Display) -> impl FnOnce(Self) -> Self {
        move |Self { path, problem }| {
            let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            Self { path: format!("{parent}{dot}{path}"), problem }
        }
    }

    /// The member, as `app.environment[2].name`; empty for the whole document.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The rule, without the member.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "{}: {}", self.path, self.problem)
        }
    }
}

impl std::error::Error for FieldError {}

/// A stranger's text in double quotes for a message: on one line, and not longer than is useful.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 120;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The path of a member that holds a free key.
fn keyed(key: &str) -> String {
    format!("[{}]", quoted(key))
}

/// A value of a document and the way to it.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    value: &'a Value,
    way: Way<'a>,
}

#[derive(Clone, Copy)]
enum Way<'a> {
    Document,
    Member(&'a Field<'a>, &'a str),
    Element(&'a Field<'a>, usize),
}

impl<'a> Field<'a> {
    pub(crate) fn document(value: &'a Value) -> Self {
        Self { value, way: Way::Document }
    }

    fn path(&self) -> String {
        match self.way {
            Way::Document => String::new(),
            Way::Member(parent, name) => match parent.path() {
                path if path.is_empty() => name.to_owned(),
                path => format!("{path}.{name}"),
            },
            Way::Element(parent, index) => format!("{}[{index}]", parent.path()),
        }
    }

    pub(crate) fn error(&self, problem: impl fmt::Display) -> FieldError {
        FieldError::new(self.path(), problem)
    }

    fn wanted(&self, what: &str) -> FieldError {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.error(format!("must be {what}, not {found}"))
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    fn object(&self) -> Result<&'a Map<String, Value>, FieldError> {
        self.value.as_object().ok_or_else(|| self.wanted("an object"))
    }

    /// The member `name`; `null` counts as absent.
    pub(crate) fn optional(&'a self, name: &'a str) -> Result<Option<Self>, FieldError> {
        let value = self.object()?.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| Self { value, way: Way::Member(self, name) }))
    }

    pub(crate) fn required(&'a self, name: &'a str) -> Result<Self, FieldError> {
        self.optional(name)?
            .ok_or_else(|| Self { value: &Value::Null, way: Way::Member(self, name) }.error("must be set"))
    }

    /// Reads the member `name` with `read`, or takes the type's default when it is absent.
    pub(crate) fn or_default<T: Default>(
        &'a self,
        name: &'a str,
        read: impl FnOnce(&Field<'a>) -> Result<T, FieldError>,
    ) -> Result<T, FieldError> {
        self.optional(name)?.map_or_else(|| Ok(T::default()), |field| read(&field))
    }

    pub(crate) fn str(&self) -> Result<&'a str, FieldError> {
        self.value.as_str().ok_or_else(|| self.wanted("a string"))
    }

    pub(crate) fn string(&self) -> Result<String, FieldError> {
        self.str().map(str::to_owned)
    }

    /// A string that becomes a type of ours.
    pub(crate) fn parsed<T: FromStr<Err: fmt::Display>>(&self) -> Result<T, FieldError> {
        self.str()?.parse().map_err(|error| self.error(error))
    }

    pub(crate) fn bool(&self) -> Result<bool, FieldError> {
        self.value.as_bool().ok_or_else(|| self.wanted("a boolean"))
    }

    /// A whole number within `T`'s range.
    pub(crate) fn integer<T: TryFrom<i128>>(&self, range: &str) -> Result<T, FieldError> {
        let Value::Number(number) = self.value else {
            return Err(self.wanted("a whole number"));
        };
        number
            .as_i128()
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.error(format!("must be a whole number {range}, not {number}")))
    }

    pub(crate) fn list<T>(
        &self,
        mut read: impl FnMut(&Field<'_>) -> Result<T, FieldError>,
    ) -> Result<Vec<T>, FieldError> {
        let elements = self.value.as_array().ok_or_else(|| self.wanted("a list"))?;
        let element = |(index, value)| read(&Field { value, way: Way::Element(self, index) });
        elements.iter().enumerate().map(element).collect()
    }

    pub(crate) fn strings(&self) -> Result<Vec<String>, FieldError> {
        self.list(|element| element.string())
    }

    /// The keys of an object whose values say nothing.
    pub(crate) fn keys(&self) -> Result<Vec<String>, FieldError> {
        Ok(self.object()?.keys().cloned().collect())
    }

    pub(crate) fn string_map(&self) -> Result<BTreeMap<String, String>, FieldError> {
        let entry = |(key, value): (&String, &Value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            _ => Err(self.error(format!("{} must be a string", keyed(key)))),
        };
        self.object()?.iter().map(entry).collect()
    }
}

/// Refuses a NUL byte, which neither a path, an argument nor a variable of a process can hold.
pub(crate) fn no_nul(path: impl FnOnce() -> String, text: &str) -> Result<(), FieldError> {
    if text.contains('\0') {
        return Err(FieldError::new(path(), format!("{} holds a NUL character", quoted(text))));
    }
    Ok(())
}

/// An object to be written, member by member; empty optional members are left out.
#[derive(Default)]
pub(crate) struct Members(Map<String, Value>);

impl Members {
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn with_some<T: Into<Value>>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(crate) fn with_text(self, name: &str, text: &str) -> Self {
        self.with_some(name, (!text.is_empty()).then_some(text))
    }

    pub(crate) fn with_list<T>(self, name: &str, list: &[T], write: impl FnMut(&T) -> Value) -> Self {
        let values = (!list.is_empty()).then(|| list.iter().map(write).collect::<Vec<_>>());
        self.with_some(name, values)
    }

    pub(crate) fn with_strings(self, name: &str, list: &[String]) -> Self {
        self.with_list(name, list, |text| text.as_str().into())
    }

    pub(crate) fn with_map(self, name: &str, map: &BTreeMap<String, String>) -> Self {
        let object = || map.iter().map(|(key, text)| (key.clone(), Value::from(text.as_str()))).collect();
        self.with_some(name, (!map.is_empty()).then(|| Value::Object(object())))
    }
}

impl From<Members> for Value {
    fn from(members: Members) -> Self {
        Self::Object(members.0)
    }
}

/// Writes `value` over several lines, each level indented by `indent` blanks.
pub(crate) fn pretty(value: &Value, indent: usize) -> String {
    let indent = vec![b' '; indent];
    let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
    let mut out = Vec::new();
    serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut out, formatter))
        .expect("a JSON value can always be written to memory");
    String::from_utf8(out).expect("JSON is UTF-8")
}
