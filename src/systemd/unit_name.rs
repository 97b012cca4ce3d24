//! Names of units: validated once, escaped once.
//!
//! A [`UnitName`] is a name that systemd accepts (systemd.unit(5), "Description"), so it may become a file name, an
//! argument of a bus call or a word of a unit file without another look. Text that comes from elsewhere gets in
//! verbatim by [`UnitName::new`], which refuses what a unit name can't hold, or escaped by [`UnitName::escaped`] and
//! [`UnitName::with_instance`].

use std::fmt;
use std::str::FromStr;

use crate::os::Hint;

/// The longest name that systemd accepts, in bytes (`UNIT_NAME_MAX` less the terminator).
pub const UNIT_NAME_MAX: usize = 255;

/// What a unit is, as told by the suffix of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitKind {
    /// A process that systemd supervises.
    Service,
    /// A socket or FIFO that systemd listens on.
    Socket,
    /// A group of units and a point in the order of start.
    Target,
    /// A device node.
    Device,
    /// A mount point.
    Mount,
    /// A mount point that is mounted at first use.
    Automount,
    /// Swap space.
    Swap,
    /// A clock that starts a unit.
    Timer,
    /// A path whose change starts a unit.
    Path,
    /// A node of the tree of control groups.
    Slice,
    /// Processes that systemd did not start.
    Scope,
}

impl UnitKind {
    const ALL: [Self; 11] = [
        Self::Service,
        Self::Socket,
        Self::Target,
        Self::Device,
        Self::Mount,
        Self::Automount,
        Self::Swap,
        Self::Timer,
        Self::Path,
        Self::Slice,
        Self::Scope,
    ];

    /// Returns the suffix without its dot: `service`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Socket => "socket",
            Self::Target => "target",
            Self::Device => "device",
            Self::Mount => "mount",
            Self::Automount => "automount",
            Self::Swap => "swap",
            Self::Timer => "timer",
            Self::Path => "path",
            Self::Slice => "slice",
            Self::Scope => "scope",
        }
    }
}

/// A name that systemd accepts for a unit: `web.service`, `rkt-failed@.service`, `rkt-failed@web.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName {
    text: String,
    kind: UnitKind,
}

/// Why a text is not the name of a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitNameError {
    /// Longer than [`UNIT_NAME_MAX`].
    #[error("the unit name {name:?} is longer than {UNIT_NAME_MAX} bytes")]
    TooLong {
        /// The text, cut after 64 characters.
        name: String,
    },
    /// No suffix, or none that systemd knows.
    #[error("the unit name {name:?} does not end in the type of a unit, such as .service")]
    Suffix {
        /// The text.
        name: String,
    },
    /// A character outside of letters, digits and `:-_.\@`.
    #[error("the unit name {name:?} contains {character:?}, which a unit name can't hold")]
    Character {
        /// The text.
        name: String,
        /// The first such character.
        character: char,
    },
    /// Nothing before the suffix, or before the `@`.
    #[error("the unit name {name:?} has nothing before its suffix or its @")]
    Empty {
        /// The text.
        name: String,
    },
    /// An instance was asked of a name that is no template.
    #[error("the unit name {name:?} is not that of a template")]
    NoTemplate {
        /// The text.
        name: String,
    },
    /// An instance that is empty, which would be the template again.
    #[error("the instance of {template} is empty")]
    NoInstance {
        /// The template.
        template: UnitName,
    },
}

impl Hint for UnitNameError {}

impl UnitName {
    /// Takes `stem` verbatim: `new("web-1", Service)` is `web-1.service`.
    ///
    /// # Errors
    /// When the outcome is no valid unit name; nothing is escaped.
    pub fn new(stem: &str, kind: UnitKind) -> Result<Self, UnitNameError> {
        format!("{stem}.{}", kind.as_str()).parse()
    }

    /// Takes `stem` verbatim as the name of a service.
    ///
    /// # Errors
    /// As [`UnitName::new`].
    pub fn service(stem: &str) -> Result<Self, UnitNameError> {
        Self::new(stem, UnitKind::Service)
    }

    /// Takes `stem` verbatim as the name of a socket.
    ///
    /// # Errors
    /// As [`UnitName::new`].
    pub fn socket(stem: &str) -> Result<Self, UnitNameError> {
        Self::new(stem, UnitKind::Socket)
    }

    /// Takes `stem` verbatim as the name of a target.
    ///
    /// # Errors
    /// As [`UnitName::new`].
    pub fn target(stem: &str) -> Result<Self, UnitNameError> {
        Self::new(stem, UnitKind::Target)
    }

    /// Makes a name of any text by [`escape`]: `escaped("my pod", Service)` is `my\x20pod.service`.
    ///
    /// # Errors
    /// When `text` is empty, or its escaped form too long.
    pub fn escaped(text: &str, kind: UnitKind) -> Result<Self, UnitNameError> {
        Self::new(&escape(text), kind)
    }

    /// Names the scope that machined gives to the machine `machine`: `machine-rkt\x2d….scope`.
    ///
    /// # Errors
    /// When the outcome is too long.
    pub fn machine_scope(machine: &str) -> Result<Self, UnitNameError> {
        Self::new(&format!("machine-{}", escape(machine)), UnitKind::Scope)
    }

    /// Names the template `stem@.kind`, `stem` taken verbatim.
    ///
    /// # Errors
    /// As [`UnitName::new`].
    pub fn template(stem: &str, kind: UnitKind) -> Result<Self, UnitNameError> {
        Self::new(&format!("{stem}@"), kind)
    }

    /// Names the instance `instance`, any text, of this template; it is escaped here, once, and `%I` gives it back.
    ///
    /// # Errors
    /// When this is no template, the instance is empty, or the outcome too long.
    pub fn with_instance(&self, instance: &str) -> Result<Self, UnitNameError> {
        let Some(stem) = self.stem().strip_suffix('@').filter(|_| self.is_template()) else {
            return Err(UnitNameError::NoTemplate { name: self.text.clone() });
        };
        if instance.is_empty() {
            return Err(UnitNameError::NoInstance { template: self.clone() });
        }
        Self::new(&format!("{stem}@{}", escape(instance)), self.kind)
    }

    /// Tells whether this names a template, `NAME@.KIND`.
    pub fn is_template(&self) -> bool {
        self.escaped_instance() == Some("")
    }

    /// Returns the instance as it was before escaping; none for a plain unit and for a template.
    pub fn instance(&self) -> Option<Vec<u8>> {
        self.escaped_instance().filter(|text| !text.is_empty()).map(unescape)
    }

    /// Returns the kind of unit.
    pub fn kind(&self) -> UnitKind {
        self.kind
    }

    /// Returns the whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn stem(&self) -> &str {
        &self.text[..self.text.len() - self.kind.as_str().len() - 1]
    }

    fn escaped_instance(&self) -> Option<&str> {
        self.stem().split_once('@').map(|(_, instance)| instance)
    }
}

impl FromStr for UnitName {
    type Err = UnitNameError;

    fn from_str(text: &str) -> Result<Self, UnitNameError> {
        let name = || text.to_owned();
        if text.len() > UNIT_NAME_MAX {
            return Err(UnitNameError::TooLong { name: text.chars().take(64).collect() });
        }
        if let Some(character) = text.chars().find(|&c| !(is_plain(c) || c == '@')) {
            return Err(UnitNameError::Character { name: name(), character });
        }
        let (stem, suffix) = text.rsplit_once('.').ok_or_else(|| UnitNameError::Suffix { name: name() })?;
        let kind = UnitKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == suffix)
            .ok_or_else(|| UnitNameError::Suffix { name: name() })?;
        if stem.is_empty() || stem.starts_with('@') {
            return Err(UnitNameError::Empty { name: name() });
        }
        Ok(Self { text: name(), kind })
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for UnitName {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// The characters that a unit name holds, but for the `@` (systemd: `VALID_CHARS`).
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\')
}

/// Escapes text as systemd-escape(1) does: `/` becomes `-`, and every byte that a unit name can't hold, `-`, `\` and
/// a leading dot become `\xNN`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'/' => out.push('-'),
            b'.' if at == 0 => out.push_str("\\x2e"),
            b':' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// Undoes [`escape`]; a `\` that starts no escape stays.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'-', _) => out.push(b'/'),
            (b'\\', [b'x', high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = after;
            }
            _ => out.push(*first),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_systemd_accepts_and_refuses() {
        let long = format!("{}.service", "a".repeat(247));
        let table: &[(&str, bool)] = &[
            ("web.service", true),
            ("web-1.service", true),
            ("rkt-failed@.service", true),
            ("rkt-failed@web.service", true),
            ("a@b@c.service", true),
            ("machine-rkt\\x2d0.scope", true),
            ("systemd-journald-dev-log.socket", true),
            ("-.slice", true),
            ("a.b.target", true),
            (&long, true),
            (&format!("a{long}"), false),
            ("", false),
            ("web", false),
            ("web.servic", false),
            ("web.service ", false),
            (".service", false),
            ("@.service", false),
            ("@x.service", false),
            ("a b.service", false),
            ("a\nb.service", false),
            ("a%i.service", false),
            ("a/b.service", false),
            ("ä.service", false),
            ("a\"b.service", false),
        ];
        for (text, valid) in table {
            assert_eq!(text.parse::<UnitName>().is_ok(), *valid, "{text:?}");
        }
    }

    /// Expected values as printed by systemd-escape(1) of systemd 252.
    #[test]
    fn escapes_as_systemd_escape_does() {
        for (text, escaped) in [
            ("web", "web"),
            ("my-app", r"my\x2dapp"),
            ("a/b", "a-b"),
            (".hidden", r"\x2ehidden"),
            ("a.b", "a.b"),
            ("a b%c", r"a\x20b\x25c"),
            ("ä", r"\xc3\xa4"),
            (r"a\b", r"a\x5cb"),
            ("a:_@", r"a:_\x40"),
        ] {
            assert_eq!(escape(text), escaped, "{text:?}");
        }
    }

    #[test]
    fn instances_are_escaped_once_and_come_back() {
        let template = UnitName::template("rkt-failed", UnitKind::Service).unwrap();
        assert_eq!(template.as_str(), "rkt-failed@.service");
        assert!(template.is_template());
        let instance = template.with_instance("my-app").unwrap();
        assert_eq!(instance.as_str(), r"rkt-failed@my\x2dapp.service");
        assert_eq!(instance.instance().unwrap(), b"my-app");
        assert!(instance.with_instance("x").is_err(), "no template");
        assert!(template.with_instance("").is_err(), "would be the template again");
    }

    #[test]
    fn machines_have_the_scope_that_machined_names() {
        assert_eq!(UnitName::machine_scope("rkt-0a-1").unwrap().as_str(), r"machine-rkt\x2d0a\x2d1.scope");
    }

    #[test]
    fn an_error_names_the_text_and_the_character() {
        assert_eq!(
            UnitName::service("a\nb").unwrap_err().to_string(),
            r#"the unit name "a\nb.service" contains '\n', which a unit name can't hold"#
        );
    }

    proptest! {
        #[test]
        fn any_text_escapes_to_a_name_and_back(text in "\\PC{1,30}|[-/.\\\\x0-9@ ]{1,30}") {
            prop_assert_eq!(unescape(&escape(&text)), text.as_bytes());
            if let Ok(name) = UnitName::template("t", UnitKind::Socket).unwrap().with_instance(&text) {
                prop_assert_eq!(name.instance().unwrap(), text.as_bytes());
                prop_assert_eq!(&name.as_str().parse::<UnitName>().unwrap(), &name);
            }
        }
    }
}
