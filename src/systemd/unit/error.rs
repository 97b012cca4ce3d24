//! Why a value may not enter a unit, and why a unit may not be written.

use super::Section;
use super::read::ReadError;
use crate::os::Hint;
use crate::systemd::unit_name::UnitName;

/// A value that a unit can't carry: `path "/a\nb" contains the control character '\n'`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {reason}")]
pub struct ValueError {
    what: &'static str,
    value: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a value, as the end of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A NUL byte, which no argument, path or variable can hold.
    #[error("contains a NUL byte")]
    Nul,
    /// A control character where none may be.
    #[error("contains the control character {0:?}")]
    Control(char),
    /// Bytes that are no text.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A code point that Unicode keeps from being a character, and systemd from being UTF-8: it would ignore a line with
    /// it, or start the app without the variable, or (257) not at all.
    #[error("contains {0:?}, which is no character to systemd")]
    Noncharacter(char),
    /// A character outside of the value's alphabet.
    #[error("contains {0:?}")]
    Character(char),
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// A path that does not start with `/`.
    #[error("is not absolute")]
    Relative,
    /// A path with a `..` component.
    #[error("contains \"..\"")]
    Parent,
    /// Longer than systemd or the kernel takes.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// A number outside of its range.
    #[error("is not between {0} and {1}")]
    Range(i64, u64),
    /// An ID that the kernel keeps for "no ID" or systemd refuses.
    #[error("is no valid user or group ID")]
    NoId,
    /// A name that is not in the list of known ones.
    #[error("is unknown")]
    Unknown,
    /// A blank at an end, which systemd would strip.
    #[error("starts or ends with a blank")]
    OuterBlank,
    /// A backslash at the end, which systemd would take for a continued line.
    #[error("ends with a backslash")]
    FinalBackslash,
    /// A directory where a file must be.
    #[error("ends with a slash")]
    FinalSlash,
}

impl ValueError {
    pub(super) fn new(what: &'static str, value: impl AsRef<[u8]>, reason: Reason) -> Self {
        const SHOWN: usize = 200;
        let text = String::from_utf8_lossy(value.as_ref());
        let mut value: String = text.chars().take(SHOWN).collect();
        if value.len() < text.len() {
            value.push('…');
        }
        Self { what, value, reason }
    }

    /// Names the setting that the value was meant for, in place of the kind of value: `WorkingDirectory "a" is …`.
    #[must_use]
    pub fn of(self, setting: &'static str) -> Self {
        Self { what: setting, ..self }
    }
}

impl Hint for ValueError {}

/// Finds what must not be in any text that systemd reads: NUL, and the code points that systemd's own check of UTF-8
/// refuses (src/basic/utf8.c, `unichar_is_valid`).
pub(super) fn unfit(text: &str) -> Option<Reason> {
    text.chars().find_map(|c| match u32::from(c) {
        0 => Some(Reason::Nul),
        0xFDD0..=0xFDEF => Some(Reason::Noncharacter(c)),
        point if point & 0xFFFE == 0xFFFE => Some(Reason::Noncharacter(c)),
        _ => None,
    })
}

/// Why a unit may not be written: systemd would read something else than what was meant.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// A setting of a section that this kind of unit does not have.
    #[error("unit {unit} has no section for {setting}= ([{section}])")]
    Section {
        /// The unit.
        unit: UnitName,
        /// The setting.
        setting: &'static str,
        /// The section that the setting belongs to.
        section: Section,
    },
    /// A setting of which only the last one counts stands there twice.
    #[error("unit {unit} sets {setting}= twice")]
    Twice {
        /// The unit.
        unit: UnitName,
        /// The setting.
        setting: &'static str,
    },
    /// The instance of a template in a unit that is none.
    #[error("unit {unit} uses its instance in {setting}=, but is no template")]
    NoTemplate {
        /// The unit.
        unit: UnitName,
        /// The setting.
        setting: &'static str,
    },
    /// The text is not a unit file to systemd.
    #[error("unit {unit} can't be read back: {reason}")]
    Unreadable {
        /// The unit.
        unit: UnitName,
        /// What the reader met.
        reason: ReadError,
    },
    /// The text is a unit file, but with another meaning.
    #[error("unit {unit}: {setting}= is read back with another meaning")]
    Meaning {
        /// The unit.
        unit: UnitName,
        /// The first setting that differs.
        setting: String,
    },
}

impl Hint for UnitError {}
