//! The file of an app's variables, for `EnvironmentFile=`: every value arrives as it was given.
//!
//! ```text
//! NAME="VALUE"     one a variable; in VALUE a backslash before each \ " $ and `, everything else as it is, newlines too
//! ```
//!
//! systemd's reader (src/basic/env-file.c) takes exactly these four characters from behind a backslash within double
//! quotes; measured on 252 and 257. [`parse`] is that reader again, for the check before the file is written.

use super::error::{Reason, ValueError, unfit};
use super::name::VariableName;
use crate::os::Hint;

/// The longest `NAME=VALUE` that execve(2) takes, without its terminator (`MAX_ARG_STRLEN`).
const VARIABLE_MAX: usize = 128 * 1024 - 1;

/// Why a set of variables can't go to a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A name that systemd would drop; the caller may leave the variable out and say so.
    #[error("{0}")]
    Name(ValueError),
    /// A value that can't be carried.
    #[error("{0}")]
    Value(ValueError),
    /// The text is read back with another meaning.
    #[error("variable {name} is read back with another value")]
    Meaning {
        /// The variable.
        name: String,
    },
}

impl Hint for EnvironmentError {}

/// The variables of an app, in order, as the text of an environment file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvironmentFile {
    variables: Vec<(VariableName, String)>,
}

impl EnvironmentFile {
    /// Adds a variable; the last one of a name counts.
    ///
    /// # Errors
    /// [`EnvironmentError::Name`] when the name is not `[A-Za-z_][A-Za-z0-9_]*`; [`EnvironmentError::Value`] for a NUL
    /// byte, for bytes that are not UTF-8 (the app would not start), and for more than the kernel takes. The file is
    /// then as before.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EnvironmentError> {
        let name: VariableName = name.parse().map_err(EnvironmentError::Name)?;
        let value = value.as_ref();
        let refuse = |reason| {
            // The value itself may be a secret: the name is enough to find it.
            EnvironmentError::Value(ValueError::new("value of variable", name.as_str(), reason))
        };
        let text = std::str::from_utf8(value).map_err(|_| refuse(Reason::NotUtf8))?;
        if let Some(reason) = unfit(text) {
            return Err(refuse(reason));
        }
        if name.as_str().len() + 1 + text.len() > VARIABLE_MAX {
            return Err(refuse(Reason::TooLong(VARIABLE_MAX)));
        }
        let text = text.to_owned();
        self.variables.push((name, text));
        Ok(())
    }

    /// Returns the text to write to disk, after it was read back and found to mean the same.
    ///
    /// # Errors
    /// When systemd would read something else than what was meant.
    pub fn checked_text(&self) -> Result<String, EnvironmentError> {
        let text = self.render();
        let read = parse(&text);
        let meant = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        if read.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(meant) {
            return Ok(text);
        }
        let pairs = self.variables.iter().zip(&read);
        let differs =
            pairs.into_iter().find(|((name, value), (n, v))| (name.as_str(), value) != (n.as_str(), v));
        let name = differs.map_or_else(String::new, |((name, _), _)| name.to_string());
        Err(EnvironmentError::Meaning { name })
    }

    fn render(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.variables {
            out.push_str(name.as_str());
            out.push_str("=\"");
            for c in value.chars() {
                if matches!(c, '\\' | '"' | '$' | '`') {
                    out.push('\\');
                }
                out.push(c);
            }
            out.push_str("\"\n");
        }
        out
    }
}

/// Reads an environment file as systemd does (`parse_env_file_internal`), names unchecked.
pub fn parse(text: &str) -> Vec<(String, String)> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        BeforeKey,
        Key,
        BeforeValue,
        Value,
        ValueEscape,
        Single,
        Double,
        DoubleEscape,
        Comment,
        CommentEscape,
    }
    use State::*;

    let is_newline = |c| matches!(c, '\n' | '\r');
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    let mut found = Vec::new();
    let (mut key, mut value) = (String::new(), String::new());
    // How much of `value` stays when the unquoted blanks at its end go.
    let mut kept = 0;
    let mut state = BeforeKey;

    for c in text.chars().chain(['\n']) {
        state = match state {
            BeforeKey if matches!(c, '#' | ';') => Comment,
            BeforeKey if is_blank(c) => BeforeKey,
            BeforeKey => {
                key = String::from(c);
                Key
            }
            Key if is_newline(c) => BeforeKey,
            Key if c == '=' => {
                value.clear();
                kept = 0;
                BeforeValue
            }
            Key => {
                key.push(c);
                Key
            }
            BeforeValue | Value if is_newline(c) => {
                value.truncate(kept);
                found.push((key.trim_end_matches(is_blank).to_owned(), value.clone()));
                BeforeKey
            }
            BeforeValue | Value if c == '\\' => ValueEscape,
            BeforeValue | Value if c == '\'' => Single,
            BeforeValue | Value if c == '"' => Double,
            BeforeValue if is_blank(c) => BeforeValue,
            BeforeValue | Value => {
                value.push(c);
                if !is_blank(c) {
                    kept = value.len();
                }
                Value
            }
            ValueEscape => {
                if !is_newline(c) {
                    value.push(c);
                    kept = value.len();
                }
                Value
            }
            Single | Double if c == (if state == Single { '\'' } else { '"' }) => {
                kept = value.len();
                BeforeValue
            }
            Double if c == '\\' => DoubleEscape,
            Single | Double => {
                value.push(c);
                state
            }
            DoubleEscape => {
                match c {
                    '"' | '\\' | '`' | '$' => value.push(c),
                    '\n' => {}
                    _ => value.extend(['\\', c]),
                }
                Double
            }
            Comment if c == '\\' => CommentEscape,
            Comment if is_newline(c) => BeforeKey,
            Comment | CommentEscape => Comment,
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(variables: &[(&str, &str)]) -> String {
        let mut file = EnvironmentFile::default();
        for (name, value) in variables {
            file.push(name, value).unwrap();
        }
        file.checked_text().unwrap()
    }

    #[test]
    fn values_are_quoted_and_only_four_characters_escaped() {
        assert_eq!(file(&[("A", "b c"), ("_D1", "")]), "A=\"b c\"\n_D1=\"\"\n");
        assert_eq!(file(&[("A", "\\ \" $ ` ' % #\n;x=1")]), "A=\"\\\\ \\\" \\$ \\` ' % #\n;x=1\"\n");
    }

    #[test]
    fn what_systemd_would_drop_or_choke_on_is_refused_and_named() {
        let mut file = EnvironmentFile::default();
        let long = "x".repeat(VARIABLE_MAX);
        for (name, value, text) in [
            ("a b", b"".as_slice(), "name of a variable \"a b\" contains ' '"),
            ("1A", b"", "name of a variable \"1A\" contains '1'"),
            ("", b"", "name of a variable \"\" is empty"),
            ("A\nB", b"", "name of a variable \"A\\nB\" contains '\\n'"),
            ("A.B", b"", "name of a variable \"A.B\" contains '.'"),
            ("A", b"x\0y", "value of variable \"A\" contains a NUL byte"),
            (
                "A",
                "\u{ffff}".as_bytes(),
                "value of variable \"A\" contains '\\u{ffff}', which is no character to systemd",
            ),
            ("A", b"\xff", "value of variable \"A\" is not UTF-8"),
            ("A", long.as_bytes(), "value of variable \"A\" is longer than 131071 bytes"),
        ] {
            assert_eq!(file.push(name, value).unwrap_err().to_string(), text);
        }
        assert_eq!(file.checked_text().unwrap(), "");
    }

    #[test]
    fn the_reader_takes_apart_what_the_writer_never_writes() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("A=b", &[("A", "b")]),
            ("A=b c  \n", &[("A", "b c")]),
            ("# x\n;y\n A = 'b' \"c\"\n", &[("A", "bc")]),
            ("A=b\\\nc\n", &[("A", "bc")]),
            ("A=\"b\\nc\\\nd\"", &[("A", "b\\ncd")]),
            ("A=\"b\nLD_PRELOAD=x\"", &[("A", "b\nLD_PRELOAD=x")]),
            ("A=b\nLD_PRELOAD=x", &[("A", "b"), ("LD_PRELOAD", "x")]),
            ("no setting\nA=1", &[("A", "1")]),
        ];
        for (text, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_value_comes_back(values in proptest::collection::vec("[^\0]{0,20}|[\\\\\"$`'\n\r\t =#;]{0,12}", 1..5)) {
            let mut file = EnvironmentFile::default();
            let mut meant = Vec::new();
            for (at, value) in values.into_iter().enumerate() {
                let name = format!("V{at}");
                // What systemd can't carry is refused, and nothing else is.
                let pushed = file.push(&name, &value);
                prop_assert_eq!(pushed.is_ok(), unfit(&value).is_none(), "{:?}", pushed);
                if pushed.is_ok() {
                    meant.push((name, value));
                }
            }
            prop_assert_eq!(parse(&file.checked_text().unwrap()), meant);
        }
    }
}
