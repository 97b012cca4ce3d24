//! The only place that writes to the terminal.
//!
//! stdout is data, stderr is everything else, each line of it with the name of the command in front. Output that is
//! lost (a full disk, a closed pipe) is remembered here and becomes a failure at the end, so that a command writes
//! line after line without looking; see [`finish`].

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, Write as _},
    sync::{Mutex, OnceLock, PoisonError},
};

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

static PREFIX: OnceLock<String> = OnceLock::new();
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// Names the command whose messages follow; the first call counts.
pub(super) fn set_prefix(name: &str) {
    PREFIX.get_or_init(|| name.to_owned());
}

/// Writes one line of results to stdout.
pub fn line(text: impl Display) {
    print(&format!("{text}\n"));
}

/// Writes results to stdout as they are.
pub fn print(text: &str) {
    bytes(text.as_bytes());
}

/// Writes results to stdout that may not be text.
pub fn bytes(bytes: &[u8]) {
    let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
    if lost.is_none() {
        let mut stdout = io::stdout().lock();
        *lost = stdout.write_all(bytes).and_then(|()| stdout.flush()).err();
    }
}

/// Writes a message to stderr, `CMD: ` in front of each of its lines.
pub fn message(text: impl Display) {
    // One write for the whole message: several processes may share this stderr.
    stderr(&prefixed(&text.to_string()));
}

/// Writes a message to stderr as [`message`] does, with another word in front of its first line (spec cli.md 1.1.3).
pub fn message_of(prefix: &str, text: impl Display) {
    let text = text.to_string();
    let lines: Vec<_> = text.split('\n').map(visible).collect();
    stderr(&format!("{prefix}: {}\n", lines.join("\n")));
}

/// Puts the name of the command in front of each line.
pub(super) fn prefixed(text: &str) -> String {
    let prefix = PREFIX.get().map_or("rkt", String::as_str);
    text.split('\n').map(|line| format!("{prefix}: {}\n", visible(line))).collect()
}

/// Shows control characters as what they are, so that no word of an image speaks to the terminal.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_debug()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Writes to stderr as is. A lost message has nowhere to be told.
pub(super) fn stderr(text: &str) {
    let _lost = io::stderr().lock().write_all(text.as_bytes());
}

/// Tells about things that could not be listed, apart from the list (spec cli.md 1.1.3).
pub fn error_block<E: Display>(doing: &str, errors: &[E]) {
    if errors.is_empty() {
        return;
    }
    const RULE: &str = "----------------------------------------";
    message(format!("{} error(s) encountered when {doing}:", errors.len()));
    message(RULE);
    for error in errors {
        message(error);
        message(RULE);
    }
    message("misc:");
    message(format!("  rkt's appc version: {}", super::version::APPC));
    message("");
}

/// Tells whether something written to stdout was lost, and [`finish`] will say so.
pub fn was_lost() -> bool {
    LOST.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Ends the writing to stdout, and tells whether some of it was lost.
///
/// # Errors
/// The first error of a write. A reader that went away (`| head`) is one too, of kind `BrokenPipe`.
pub fn finish() -> io::Result<()> {
    LOST.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// How JSON is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// On one line.
    Compact,
    /// Indented with tabs.
    Pretty,
}

/// Writes a value as JSON and a line end to stdout.
pub fn json(value: &impl Serialize, layout: Layout) {
    line(json_text(value, layout));
}

/// Writes a list as JSON to stdout; an empty one has always been `null` (spec cli.md 1.2.4, 1.3.2).
pub fn json_list(list: &[impl Serialize], layout: Layout) {
    json(&(!list.is_empty()).then_some(list), layout);
}

/// Renders a value as JSON.
pub fn json_text(value: &impl Serialize, layout: Layout) -> String {
    let mut bytes = Vec::new();
    let rendered = match layout {
        Layout::Compact => value.serialize(&mut serde_json::Serializer::new(&mut bytes)),
        Layout::Pretty => {
            let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, tabs))
        }
    };
    rendered.expect("our own types have text keys and no failing parts");
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

/// Rows whose columns are padded with tabs to multiples of 8 (spec cli.md 1.1.6).
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The distance between tab stops.
    const STOP: usize = 8;

    /// Makes an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row. White space that would break the table becomes a space, other control characters are shown.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let clean = |cell: C| visible(&cell.into().replace(['\t', '\n', '\r'], " ")).into_owned();
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// Writes the table to stdout.
    pub fn print(&self) {
        print(&self.to_string());
    }

    /// The width of each column that another one follows: at least one tab behind the longest cell.
    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                let width = (cell.width() / Self::STOP + 1) * Self::STOP;
                match widths.get_mut(column) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        widths
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                f.write_str(cell)?;
                if column + 1 < row.len() {
                    let missing = (widths[column] - cell.width()).div_ceil(Self::STOP);
                    f.write_str(&"\t".repeat(missing))?;
                }
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_start_at_tab_stops_of_eight_at_least_one_tab_apart() {
        let mut table = Table::new();
        table.row(["UUID", "APP", "STATE"]);
        table.row(["01234567", "a", "running"]);
        table.row(["", "long-app-name", ""]);
        assert_eq!(table.to_string(), "UUID\t\tAPP\t\tSTATE\n01234567\ta\t\trunning\n\t\tlong-app-name\t\n");
    }

    #[test]
    fn a_cell_never_contains_a_tab() {
        let mut table = Table::new();
        table.row(["a\tb", "c\nd"]);
        assert_eq!(table.to_string(), "a b\tc d\n");
    }

    #[test]
    fn what_an_image_says_does_not_speak_to_the_terminal() {
        let hostile = "1\u{1b}[31mred\u{9b}2J\u{7f}\u{e4}\rx";
        assert_eq!(
            prefixed(&format!("{hostile}\n\ttwo")),
            "rkt: 1\\u{1b}[31mred\\u{9b}2J\\u{7f}\u{e4}\\rx\nrkt: \ttwo\n"
        );
        let mut table = Table::new();
        table.row([hostile]);
        assert_eq!(table.to_string(), "1\\u{1b}[31mred\\u{9b}2J\\u{7f}\u{e4} x\n");
    }

    #[test]
    fn pretty_json_is_indented_with_tabs() {
        let value = serde_json::json!({"a": [1], "b": {}});
        assert_eq!(json_text(&value, Layout::Compact), r#"{"a":[1],"b":{}}"#);
        assert_eq!(json_text(&value, Layout::Pretty), "{\n\t\"a\": [\n\t\t1\n\t],\n\t\"b\": {}\n}");
    }
}
