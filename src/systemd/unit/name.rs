//! Names in units and lists of them: other units, capabilities, system calls, variables; and one line of text.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::error::{Reason, ValueError, unfit};
use super::read::Syntax;
use super::value::{Capability, Value, bytes_of, joined};
use crate::systemd::unit_name::UnitName;

/// Exactly these capabilities; the empty set is written as such, and is none at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapabilitySet(BTreeSet<Capability>);

impl CapabilitySet {
    /// Returns the capabilities in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Capability> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().collect())
    }
}

impl Value for CapabilitySet {
    fn render(&self) -> String {
        joined(self.iter())
    }

    fn syntax(&self) -> Syntax {
        Syntax::Words
    }

    fn meaning(&self, _instance: &str) -> Vec<Vec<u8>> {
        self.iter().map(bytes_of).collect()
    }
}

/// Names of other units: `After=a.service b.socket`. An empty list adds nothing and is not written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Units(Vec<UnitName>);

impl From<UnitName> for Units {
    fn from(unit: UnitName) -> Self {
        Self(vec![unit])
    }
}

impl FromIterator<UnitName> for Units {
    fn from_iter<I: IntoIterator<Item = UnitName>>(units: I) -> Self {
        Self(units.into_iter().collect())
    }
}

impl<const N: usize> From<[UnitName; N]> for Units {
    fn from(units: [UnitName; N]) -> Self {
        units.into_iter().collect()
    }
}

impl Value for Units {
    fn render(&self) -> String {
        joined(&self.0)
    }

    fn syntax(&self) -> Syntax {
        Syntax::UnitNames
    }

    fn meaning(&self, _instance: &str) -> Vec<Vec<u8>> {
        self.0.iter().map(bytes_of).collect()
    }

    fn adds_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names of socket units whose descriptors a service gets (`Sockets=`). systemd drops a backslash here (252 and 257), so a name
/// that has one does not pass the check of the unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketUnits(Units);

impl<T: Into<Units>> From<T> for SocketUnits {
    fn from(units: T) -> Self {
        Self(units.into())
    }
}

impl Value for SocketUnits {
    fn render(&self) -> String {
        self.0.render()
    }

    fn syntax(&self) -> Syntax {
        Syntax::BareWords
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        self.0.meaning(instance)
    }

    fn adds_nothing(&self) -> bool {
        self.0.adds_nothing()
    }
}

impl Value for UnitName {
    fn render(&self) -> String {
        self.as_str().to_owned()
    }

    fn syntax(&self) -> Syntax {
        Syntax::Expanded
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident $what:literal, $most:literal bytes of $alphabet:expr, first $first:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Returns the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                let refuse = |reason| Err(ValueError::new($what, text, reason));
                let (first, any): (fn(char) -> bool, fn(char) -> bool) = ($first, $alphabet);
                if text.len() > $most {
                    return refuse(Reason::TooLong($most));
                }
                match text.chars().enumerate().find(|&(at, c)| !(any(c) && (at > 0 || first(c)))) {
                    Some((_, c)) => refuse(Reason::Character(c)),
                    None if text.is_empty() => refuse(Reason::Empty),
                    None => Ok(Self(text.to_owned())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )* };
}

names! {
    /// The name that log lines of a unit carry (`SyslogIdentifier=`), or that of a descriptor (`FileDescriptorName=`).
    Identifier "identifier", 255 bytes of |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@'),
        first |c| c.is_ascii_alphanumeric() || c == '_';
    /// The name of an environment variable as a shell takes it, `[A-Za-z_][A-Za-z0-9_]*`; systemd drops all others.
    VariableName "name of a variable", 4096 bytes of |c| c.is_ascii_alphanumeric() || c == '_',
        first |c| c.is_ascii_alphabetic() || c == '_';
    /// A system call, or a set of them with a leading `@` (systemd.exec(5), `SystemCallFilter=`). That this host
    /// knows it is for the caller to see.
    SystemCall "system call", 64 bytes of |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '@'),
        first |c| c.is_ascii_lowercase() || matches!(c, '_' | '@');
    /// The name of an error number, `EPERM`.
    Errno "error number", 32 bytes of |c| c.is_ascii_uppercase() || c.is_ascii_digit(), first |c| c == 'E';
}

impl Value for Identifier {
    fn render(&self) -> String {
        self.0.clone()
    }

    fn syntax(&self) -> Syntax {
        Syntax::Expanded
    }
}

impl Value for Errno {
    fn render(&self) -> String {
        self.0.clone()
    }
}

/// Names of environment variables; an empty list adds nothing and is not written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VariableNames {
    names: Vec<VariableName>,
    forgets: bool,
}

impl VariableNames {
    /// The empty value, which makes systemd forget the names that were said before, in the unit of a drop-in.
    pub fn forget() -> Self {
        Self { names: Vec::new(), forgets: true }
    }
}

impl FromIterator<VariableName> for VariableNames {
    fn from_iter<I: IntoIterator<Item = VariableName>>(names: I) -> Self {
        Self { names: names.into_iter().collect(), forgets: false }
    }
}

impl Value for VariableNames {
    fn render(&self) -> String {
        joined(&self.names)
    }

    fn syntax(&self) -> Syntax {
        Syntax::Arguments
    }

    fn meaning(&self, _instance: &str) -> Vec<Vec<u8>> {
        self.names.iter().map(bytes_of).collect()
    }

    fn adds_nothing(&self) -> bool {
        self.names.is_empty() && !self.forgets
    }
}

/// Which system calls a unit may make. Never empty, because systemd reads an empty list as "no filter".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemCallFilter {
    allow: bool,
    calls: Vec<SystemCall>,
    failing: Vec<(SystemCall, Errno)>,
}

impl SystemCallFilter {
    /// Only these calls, and those that systemd itself needs to execute the program.
    ///
    /// # Errors
    /// When `calls` is empty.
    pub fn only(calls: Vec<SystemCall>) -> Result<Self, ValueError> {
        Self::new(true, calls)
    }

    /// All calls but these.
    ///
    /// # Errors
    /// When `calls` is empty.
    pub fn all_but(calls: Vec<SystemCall>) -> Result<Self, ValueError> {
        Self::new(false, calls)
    }

    fn new(allow: bool, calls: Vec<SystemCall>) -> Result<Self, ValueError> {
        if calls.is_empty() {
            return Err(ValueError::new("system call filter", "", Reason::Empty));
        }
        Ok(Self { allow, calls, failing: Vec::new() })
    }

    /// Makes a call fail with an error of its own, whatever becomes of others that may not be made.
    #[must_use]
    pub fn failing(mut self, call: SystemCall, errno: Errno) -> Self {
        self.calls.retain(|other| *other != call);
        self.failing.push((call, errno));
        self
    }

    fn words(&self) -> impl Iterator<Item = String> {
        let failing = self.failing.iter().map(|(call, errno)| format!("{call}:{errno}"));
        self.calls.iter().map(SystemCall::to_string).chain(failing)
    }

    fn sign(&self) -> &'static str {
        if self.allow { "" } else { "~" }
    }
}

impl Value for SystemCallFilter {
    fn render(&self) -> String {
        format!("{}{}", self.sign(), joined(self.words()))
    }

    fn syntax(&self) -> Syntax {
        Syntax::BareWords
    }

    fn meaning(&self, _instance: &str) -> Vec<Vec<u8>> {
        let mut words: Vec<_> = self.words().map(bytes_of).collect();
        if let Some(first) = words.first_mut() {
            first.splice(0..0, self.sign().bytes());
        }
        words
    }
}

/// One line of text for people (`Description=`): the only free text in a unit, and no control character in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(String);

impl FromStr for Line {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const LONGEST: usize = 1024;
        let refuse = |reason| Err(ValueError::new("line", text, reason));
        if let Some(reason) = unfit(text) {
            return refuse(reason);
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => refuse(Reason::Control(c)),
            None if text.is_empty() => refuse(Reason::Empty),
            None if text.len() > LONGEST => refuse(Reason::TooLong(LONGEST)),
            None if text.starts_with(' ') || text.ends_with(' ') => refuse(Reason::OuterBlank),
            None if text.ends_with('\\') => refuse(Reason::FinalBackslash),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl Value for Line {
    fn render(&self) -> String {
        self.0.replace('%', "%%")
    }

    fn syntax(&self) -> Syntax {
        Syntax::Expanded
    }

    fn meaning(&self, _instance: &str) -> Vec<Vec<u8>> {
        vec![self.0.clone().into_bytes()]
    }
}
