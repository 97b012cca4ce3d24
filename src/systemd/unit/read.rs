//! Reads a unit file as systemd does: the second opinion on what the writer wrote.
//!
//! Written from systemd's own readers (252 to 257: src/shared/conf-parser.c, src/basic/extract-word.c,
//! src/basic/escape.c, src/shared/specifier.c), not from the writer, with which it shares nothing. Where systemd warns
//! and goes on, this reader fails, because a unit of ours must never come to that. It is no general parser.

use std::collections::BTreeMap;

/// systemd does not load a unit with a longer line (`LONG_LINE_MAX`).
const LONG_LINE_MAX: usize = 1024 * 1024;

/// What systemd strips and splits at.
const WHITESPACE: &[u8] = b" \t\n\r";

/// Why a text is no unit file, or a value can't be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A line over 1 MiB, continuations included: systemd loads nothing of the unit.
    #[error("line {line} is longer than {LONG_LINE_MAX} bytes")]
    LongLine {
        /// The line, counted from 1.
        line: usize,
    },
    /// A line with a code point that is no UTF-8 to systemd: it ignores the line.
    #[error("line {line} is not UTF-8 to systemd")]
    NotUtf8 {
        /// The line, counted from 1.
        line: usize,
    },
    /// A `[` line without its `]`.
    #[error("line {line} is no section header")]
    Header {
        /// The line, counted from 1.
        line: usize,
    },
    /// A line that is no comment, no header and no `KEY=VALUE`.
    #[error("line {line} is no setting")]
    NoSetting {
        /// The line, counted from 1.
        line: usize,
    },
    /// A setting before the first section.
    #[error("line {line} is outside of every section")]
    Outside {
        /// The line, counted from 1.
        line: usize,
    },
    /// A quote that does not end, or a backslash with nothing sensible behind it.
    #[error("a quote or an escape of the value {value:?} is broken")]
    Quoting {
        /// The value.
        value: String,
    },
    /// A `%` with something behind it that the writer never means.
    #[error("the value {value:?} holds an unknown specifier")]
    Specifier {
        /// The value.
        value: String,
    },
}

/// A section as read: its name, and its settings in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSection {
    /// The name between the brackets.
    pub name: String,
    /// Keys and values as they stand, continuations joined, outer blanks stripped.
    pub settings: Vec<(String, String)>,
}

/// How systemd takes the text after a `=` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// As it stands.
    Literal,
    /// As a whole, `%` specifiers expanded.
    Expanded,
    /// Words; quotes and backslashes mean nothing, or are removed: names that have none.
    BareWords,
    /// Words; quotes count, a backslash takes the next character as it is; no specifiers.
    Words,
    /// Words; quotes count, backslashes stay; specifiers expanded.
    UnitNames,
    /// Words; quotes count, a backslash takes the next character as it is; specifiers expanded.
    Paths,
    /// As [`Syntax::Paths`], but a colon ends a word too.
    ColonPaths,
    /// Words; quotes and C escapes count; specifiers expanded.
    Arguments,
}

/// Reads a unit file into its sections, in order; sections of one name are not merged.
///
/// # Errors
/// When systemd would not load the file or would ignore a line of it.
pub fn parse(text: &str) -> Result<Vec<ReadSection>, ReadError> {
    let mut sections: Vec<ReadSection> = Vec::new();
    let mut continued: Option<String> = None;
    let mut count = 0;
    // read_line() ends lines at NUL and carriage return too.
    for (at, raw) in text.split(['\n', '\r', '\0']).enumerate() {
        count = at + 1;
        if raw.trim_start_matches(is_space).starts_with(['#', ';']) {
            continue;
        }
        let mut line = continued.take().unwrap_or_default();
        line.push_str(raw);
        if line.len() > LONG_LINE_MAX {
            return Err(ReadError::LongLine { line: count });
        }
        if ends_in_escape(&line) {
            line.pop();
            line.push(' ');
            continued = Some(line);
        } else {
            parse_line(&line, count, &mut sections)?;
        }
    }
    if let Some(line) = continued {
        parse_line(&line, count, &mut sections)?;
    }
    Ok(sections)
}

fn parse_line(line: &str, number: usize, sections: &mut Vec<ReadSection>) -> Result<(), ReadError> {
    let line = line.trim_matches(is_space);
    if line.is_empty() {
        return Ok(());
    }
    // Two code points at the end of each plane, and 32 in the first, are "not characters".
    if line
        .chars()
        .any(|c| matches!(u32::from(c) & 0xFFFF, 0xFFFE | 0xFFFF) || matches!(c, '\u{fdd0}'..='\u{fdef}'))
    {
        return Err(ReadError::NotUtf8 { line: number });
    }
    if let Some(rest) = line.strip_prefix('[') {
        let name = rest.strip_suffix(']').ok_or(ReadError::Header { line: number })?;
        sections.push(ReadSection { name: name.to_owned(), settings: Vec::new() });
        return Ok(());
    }
    let (key, value) = line.split_once('=').ok_or(ReadError::NoSetting { line: number })?;
    let section = sections.last_mut().ok_or(ReadError::Outside { line: number })?;
    section.settings.push((key.trim_matches(is_space).to_owned(), value.trim_matches(is_space).to_owned()));
    Ok(())
}

/// A backslash that escapes the end of the line, counted from its start as systemd counts.
fn ends_in_escape(line: &str) -> bool {
    line.bytes().fold(false, |escaped, byte| !escaped && byte == b'\\')
}

fn is_space(c: char) -> bool {
    u8::try_from(c).is_ok_and(|byte| WHITESPACE.contains(&byte))
}

/// Takes a value apart in the way of `syntax`, in a unit whose instance is `instance`.
///
/// # Errors
/// When systemd would refuse or ignore the value.
pub(super) fn meaning(value: &str, syntax: Syntax, instance: &str) -> Result<Vec<Vec<u8>>, ReadError> {
    let plain = Flags::default();
    let (separators, flags, expanded): (&[u8], Flags, bool) = match syntax {
        Syntax::Literal => return Ok(vec![value.as_bytes().to_owned()]),
        Syntax::Expanded => return Ok(vec![expand(value.as_bytes(), instance)?]),
        Syntax::BareWords => (WHITESPACE, plain, false),
        Syntax::Words => (WHITESPACE, Flags { unquote: true, ..plain }, false),
        Syntax::UnitNames => (WHITESPACE, Flags { unquote: true, retain_escape: true, ..plain }, true),
        Syntax::Paths => (WHITESPACE, Flags { unquote: true, ..plain }, true),
        Syntax::ColonPaths => (b": \t\n\r", Flags { unquote: true, keep_empty: true, ..plain }, true),
        Syntax::Arguments => (WHITESPACE, Flags { unquote: true, unescape: true, ..plain }, true),
    };
    let mut words = Vec::new();
    let mut rest = value.as_bytes();
    while let Some(word) = first_word(&mut rest, separators, flags)
        .map_err(|Broken| ReadError::Quoting { value: value.to_owned() })?
    {
        words.push(if expanded { expand(&word, instance)? } else { word });
    }
    Ok(words)
}

/// The flags of `extract_first_word()` that matter here.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    unquote: bool,
    unescape: bool,
    retain_escape: bool,
    keep_empty: bool,
}

/// A word that systemd refuses.
struct Broken;

/// Takes the first word off `rest`, as `extract_first_word()` does.
fn first_word(rest: &mut &[u8], separators: &[u8], flags: Flags) -> Result<Option<Vec<u8>>, Broken> {
    if !flags.keep_empty {
        skip(rest, separators);
    }
    if rest.is_empty() {
        return Ok(None);
    }
    let mut word = Vec::new();
    let mut quote = None;
    while let [byte, tail @ ..] = *rest {
        *rest = tail;
        match (*byte, quote) {
            (b'\\', _) if !flags.retain_escape => escaped(rest, flags, &mut word)?,
            (byte, Some(open)) if byte == open => quote = None,
            (byte, Some(_)) => word.push(byte),
            (b'"' | b'\'', None) if flags.unquote => quote = Some(*byte),
            (byte, None) if separators.contains(&byte) => {
                if !flags.keep_empty {
                    skip(rest, separators);
                }
                return Ok(Some(word));
            }
            (byte, None) => word.push(byte),
        }
    }
    if quote.is_some() { Err(Broken) } else { Ok(Some(word)) }
}

fn skip(rest: &mut &[u8], separators: &[u8]) {
    while let [byte, tail @ ..] = *rest {
        if !separators.contains(byte) {
            return;
        }
        *rest = tail;
    }
}

/// Takes what stands behind a backslash off `rest`; C escapes as `cunescape_one()` knows them.
fn escaped(rest: &mut &[u8], flags: Flags, word: &mut Vec<u8>) -> Result<(), Broken> {
    let [byte, tail @ ..] = *rest else { return Err(Broken) };
    *rest = tail;
    if !flags.unescape {
        word.push(*byte);
        return Ok(());
    }
    let simple = BTreeMap::from([
        (b'a', 7),
        (b'b', 8),
        (b'f', 12),
        (b'n', b'\n'),
        (b'r', b'\r'),
        (b't', b'\t'),
        (b'v', 11),
        (b'\\', b'\\'),
        (b'"', b'"'),
        (b'\'', b'\''),
        (b's', b' '),
    ]);
    if let Some(meant) = simple.get(byte) {
        word.push(*meant);
        return Ok(());
    }
    // The forms \uNNNN, \UNNNNNNNN and \NNN exist too; nothing of ours uses them.
    let (b'x', [high, low, after @ ..]) = (*byte, tail) else { return Err(Broken) };
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(Broken);
    let value = u8::try_from(digit(*high)? << 4 | digit(*low)?).map_err(|_| Broken)?;
    if value == 0 {
        return Err(Broken);
    }
    word.push(value);
    *rest = after;
    Ok(())
}

/// Expands the specifiers of a word: `%%` and `%I`; no other is ever meant.
fn expand(word: &[u8], instance: &str) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::with_capacity(word.len());
    let mut bytes = word.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'%' => match bytes.next() {
                Some(b'%') => out.push(b'%'),
                Some(b'I') => out.extend_from_slice(instance.as_bytes()),
                _ => return Err(ReadError::Specifier { value: String::from_utf8_lossy(word).into_owned() }),
            },
            byte => out.push(byte),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().flat_map(|section| section.settings).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lines_are_read_as_systemd_reads_them() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("[A]\nk=v", &[("k", "v")]),
            ("[A]\n k = v \n\nk=w\n", &[("k", "v"), ("k", "w")]),
            ("[A]\n# c\n ; c\nk=# v", &[("k", "# v")]),
            ("[A]\nk=a\\\nb", &[("k", "a b")]),
            ("[A]\nk=a\\\n# comment\n  b", &[("k", "a   b")]),
            ("[A]\nk=a\\\\\nb=c", &[("k", "a\\\\"), ("b", "c")]),
            ("[A]\nk=a\rb=c\0d=e", &[("k", "a"), ("b", "c"), ("d", "e")]),
            ("[A]\nk=a=b", &[("k", "a=b")]),
            ("[A]\nk=", &[("k", "")]),
            ("[A]\nk=a\\", &[("k", "a")]),
        ];
        for (text, expected) in table {
            assert_eq!(settings(text), pairs(expected), "{text:?}");
        }
    }

    #[test]
    fn what_systemd_ignores_is_an_error_here() {
        let long = format!("[A]\nk={}", "x".repeat(LONG_LINE_MAX));
        for (text, error) in [
            ("[A]\nk=\u{1fffe}", ReadError::NotUtf8 { line: 2 }),
            ("[A]\nk=\u{fdd0}", ReadError::NotUtf8 { line: 2 }),
            ("[A\nk=v", ReadError::Header { line: 1 }),
            ("k=v", ReadError::Outside { line: 1 }),
            ("[A]\n\nword", ReadError::NoSetting { line: 3 }),
            (&long, ReadError::LongLine { line: 2 }),
        ] {
            assert_eq!(parse(text).unwrap_err(), error);
        }
    }

    #[test]
    fn words_are_split_as_systemd_splits_them() {
        let table: &[(Syntax, &str, &[&str])] = &[
            (Syntax::Arguments, r#""a b"  c\x20d '"'"#, &["a b", "c d", "\""]),
            (Syntax::Arguments, r#""" "a""b""#, &["", "ab"]),
            (Syntax::Arguments, r#""%%I" "x%I""#, &["%I", "xINST"]),
            (Syntax::Arguments, r#""\n\t\\\"""#, &["\n\t\\\""]),
            (Syntax::Paths, r#""/a\\b" /c\"d "/e f""#, &["/a\\b", "/c\"d", "/e f"]),
            (Syntax::ColonPaths, r#""/a:b":/c:norbind"#, &["/a:b", "/c", "norbind"]),
            (Syntax::ColonPaths, r"/a\:b:/c", &["/a:b", "/c"]),
            (Syntax::UnitNames, r"a\x2db.service c.service", &[r"a\x2db.service", "c.service"]),
            (Syntax::BareWords, r"a\x2db", &["ax2db"]),
            (Syntax::Expanded, "a %% b", &["a % b"]),
            (Syntax::Literal, "a %% b", &["a %% b"]),
        ];
        for (syntax, value, expected) in table {
            let expected: Vec<_> = expected.iter().map(|word| word.as_bytes().to_vec()).collect();
            assert_eq!(meaning(value, *syntax, "INST").unwrap(), expected, "{syntax:?} {value:?}");
        }
        for broken in [r#""a"#, r"a\", r"\q", r"\x00", r"\x4", "%h", "%"] {
            assert!(meaning(broken, Syntax::Arguments, "").is_err(), "{broken:?}");
        }
    }
}
