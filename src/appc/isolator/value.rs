//! The values of isolators, each with its range.

use std::{fmt, str::FromStr};

use serde_json::Value;

use crate::appc::{
    field::{Field, FieldError, Members, quoted},
    quantity::Quantity,
};

pub(super) const EMPTY_SET: &str = "the set must not be empty";

/// A limit of memory or of processors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// What is reserved. Not enforced.
    pub request: Option<Quantity>,
    /// What may be used at most.
    pub limit: Option<Quantity>,
}

impl Resource {
    /// Makes a limit without a request.
    pub fn limit(limit: Quantity) -> Self {
        Self { request: None, limit: Some(limit) }
    }

    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        if let Some(default) = field.optional("default")?
            && default.bool()?
        {
            return Err(default.error("default must be false"));
        }
        Ok(Self { request: read_quantity(field, "request")?, limit: read_quantity(field, "limit")? })
    }

    pub(super) fn write(&self) -> Value {
        Members::default()
            .with_some("request", self.request.as_ref().map(Quantity::as_str))
            .with_some("limit", self.limit.as_ref().map(Quantity::as_str))
            .into()
    }
}

/// A quantity as text or as a plain number.
fn read_quantity(field: &Field<'_>, name: &str) -> Result<Option<Quantity>, FieldError> {
    let Some(quantity) = field.optional(name)? else {
        return Ok(None);
    };
    match quantity.value() {
        Value::Number(number) => number.to_string().parse().map_err(|error| quantity.error(error)),
        _ => quantity.parsed(),
    }
    .map(Some)
}

/// The value of limits that stand for every device: `default` must be true, a request is not supported.
pub(super) fn read_default_limit(field: &Field<'_>) -> Result<Option<Quantity>, FieldError> {
    if !field.or_default("default", Field::bool)? {
        return Err(field.error("default must be true"));
    }
    if let Some(request) = field.optional("request")? {
        return Err(request.error("request not supported by this resource, must be empty"));
    }
    read_quantity(field, "limit")
}

pub(super) fn write_default_limit(limit: Option<&Quantity>) -> Value {
    Members::default().with("default", true).with_some("limit", limit.map(Quantity::as_str)).into()
}

/// The member `set`: a list of names, not empty.
pub(super) fn read_set(field: &Field<'_>) -> Result<Vec<String>, FieldError> {
    let set = field.required("set")?;
    match set.strings()? {
        names if names.is_empty() => Err(set.error(EMPTY_SET)),
        names => Ok(names),
    }
}

pub(super) fn write_set(set: &[String]) -> Value {
    Members::default().with("set", set).into()
}

macro_rules! ranged {
    ($(#[$doc:meta])* $type:ident, $number:ty, $range:expr, $text:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $type($number);

        impl $type {
            /// Makes one of a number, if it lies within the range.
            pub fn new(number: $number) -> Option<Self> {
                $range.contains(&number).then_some(Self(number))
            }

            /// Returns the number.
            pub fn get(self) -> $number {
                self.0
            }

            pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
                let number: $number = field.integer($text)?;
                Self::new(number).ok_or_else(|| field.error(format!("must be a whole number {}, not {number}", $text)))
            }
        }

        impl FromStr for $type {
            type Err = String;

            /// Reads a decimal number; the error is the range.
            fn from_str(text: &str) -> Result<Self, String> {
                text.parse()
                    .ok()
                    .and_then(Self::new)
                    .ok_or_else(|| format!("{} is not a whole number {}", quoted(text), $text))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

ranged!(
    /// A weight among the apps: 2 to 262144, 1024 being usual.
    CpuShares, u32, (2..=262_144), "between 2 and 262144"
);
ranged!(
    /// How soon the kernel picks the app when memory is short: -1000 (never) to 1000.
    OomScoreAdj, i16, (-1000..=1000), "between -1000 and 1000"
);

/// The name of an error of the kernel: `E[A-Z0-9]+`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errno(String);

impl Errno {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Errno {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let Some(rest) = name.strip_prefix('E') else {
            return Err(format!("errno must start with an 'E' character, got {}", quoted(name)));
        };
        if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
            return Err(format!("errno must be an 'E' and capital letters or digits, got {}", quoted(name)));
        }
        Ok(Self(name.to_owned()))
    }
}

/// System calls to be kept or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompSet {
    /// Names of system calls, and of sets as `@scope/name`. Not empty.
    pub set: Vec<String>,
    /// The error of a call that is not allowed; without it, the process is killed.
    pub errno: Option<Errno>,
}

impl SeccompSet {
    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        // An empty errno counts as absent, as tools wrote it that way.
        let errno = field.optional("errno")?.filter(|errno| errno.value().as_str() != Some(""));
        Ok(Self { set: read_set(field)?, errno: errno.map(|errno| errno.parsed()).transpose()? })
    }

    pub(super) fn write(&self) -> Value {
        Members::default()
            .with("set", self.set.as_slice())
            .with_some("errno", self.errno.as_ref().map(Errno::as_str))
            .into()
    }
}

/// A context of SELinux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelinuxContext {
    /// The SELinux user.
    pub user: String,
    /// The role.
    pub role: String,
    /// The type.
    pub kind: String,
    /// The level.
    pub level: String,
}

impl SelinuxContext {
    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let part = |name| {
            let part = field.required(name)?;
            match part.string()? {
                text if text.is_empty() => Err(part.error("must not be empty")),
                text => Ok(text),
            }
        };
        Ok(Self { user: part("user")?, role: part("role")?, kind: part("type")?, level: part("level")? })
    }

    pub(super) fn write(&self) -> Value {
        Members::default()
            .with("user", self.user.as_str())
            .with("role", self.role.as_str())
            .with("type", self.kind.as_str())
            .with("level", self.level.as_str())
            .into()
    }
}
