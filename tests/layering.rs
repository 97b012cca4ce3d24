//! Holds the floors of the crate: a room uses what is below it, never what is beside or above it.
//!
//! The table is the one of `src/lib.rs` and ARCHITECTURE.md. A path `crate::ROOM` or `rkt::ROOM` anywhere in a file of
//! another room is a use, in tests too.

use std::path::{Path, PathBuf};

/// The rooms, floor by floor from the ground; a room may use those of the floors before its own.
const FLOORS: [&[&str]; 6] =
    [&["appc", "os"], &["config"], &["net", "systemd"], &["image", "stage1"], &["build", "pod"], &["cli"]];

/// Test support that belongs to no floor.
const ANYWHERE: [&str; 1] = ["golden"];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The rooms that a line of code names.
fn named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut rooms = Vec::new();
    for root in ["crate::", "rkt::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            // `use crate::{os::…, appc::…}` names several.
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list.split([',', '{', '}']).collect(),
                None => vec![rest],
            };
            for name in names {
                let room: String = name
                    .trim()
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit())
                    .collect();
                rooms.push(room);
            }
        }
    }
    rooms.retain(|room| floor(room).is_some());
    rooms
}

/// Joins the lines of a `use crate::{…}` that rustfmt has broken.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        match found.last_mut() {
            Some((_, statement)) if open => statement.push_str(line.trim()),
            _ => found.push((index + 1, line.to_owned())),
        }
        let statement = &found.last().expect("a line was added").1;
        open = statement.trim_start().starts_with("use ") && !statement.contains(';');
    }
    found
}

#[test]
fn a_room_uses_only_what_is_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut uses = 0;
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if matches!(room.as_str(), "main" | "lib") || ANYWHERE.contains(&room.as_str()) {
            continue;
        }
        let own =
            floor(&room).unwrap_or_else(|| panic!("{}: the room {room} is in no floor", path.display()));
        for (line, statement) in statements(&std::fs::read_to_string(&path).unwrap()) {
            for used in named(&statement).into_iter().filter(|used| *used != room) {
                uses += 1;
                if floor(&used).is_some_and(|floor| floor >= own) {
                    wrong.push(format!("src/{}:{line}: {room} must not use {used}", inside.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(uses > 50, "only {uses} uses were found: the reading of paths is broken");
}

#[test]
fn uses_are_found_in_every_form() {
    for (line, expected) in [
        ("use crate::os::SysError;", vec!["os"]),
        ("use crate::{appc::name::AcName, os::{Hint, SysError}};", vec!["appc", "os"]),
        ("let x = crate::pod::gc::pass(); // crate::cli", vec!["pod"]),
        ("rkt::cli::main(words)", vec!["cli"]),
        ("use std::os::fd::OwnedFd;", vec![]),
    ] {
        assert_eq!(named(line), expected, "{line}");
    }
}

#[test]
fn only_the_cli_prints_and_only_os_is_unsafe() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (word, room) in [("println!", "cli"), ("io::stdout()", "cli"), ("unsafe {", "os")] {
            assert!(
                !code.contains(word) || inside.starts_with(room),
                "src/{}: {word} belongs to src/{room}",
                inside.display()
            );
        }
    }
}
