//! Each row of the table of threats by images, registries and signatures has a test that feeds the bad thing to the real
//! binary: in `tests/cli`, or in `tests/booted` where it takes a pod. Such a test is named after its rows, as
//! `a2_to_a5_links_that_lead_out` or `b4_b6_a_redirect_gets_no_token` is.
//!
//! `cargo test --test threats -- --nocapture` prints how many rows and tests there are.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test that counts")]

use std::collections::BTreeMap;
use std::path::Path;

/// The letters of the rows, what they are about, and the number of the last one.
const ROWS: [(char, &str, u32); 3] = [('a', "archives", 20), ('b', "registries", 14), ('c', "signatures", 9)];

/// The rows that a test's name begins with.
fn rows_of(name: &str) -> Vec<(char, u32)> {
    let row = |word: &str| {
        let letter = word.chars().next().filter(|letter| ROWS.iter().any(|(known, _, _)| known == letter))?;
        Some((letter, word[1..].parse().ok()?))
    };
    let mut rows = Vec::new();
    let mut words = name.split('_').peekable();
    while let Some(word) = words.next() {
        match (word, rows.last().copied()) {
            ("to", Some((letter, first))) => {
                let Some((_, last)) = words.next().and_then(row) else { break };
                rows.extend((first + 1..=last).map(|number| (letter, number)));
            }
            (word, _) => match row(word) {
                Some(row) => rows.push(row),
                None => break,
            },
        }
    }
    rows
}

/// The names of all tests in the files of a directory.
fn tests_in(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line == "#[test]" {
                let name = lines.next().and_then(|line| line.strip_prefix("fn ")?.split('(').next());
                names.extend(name.map(str::to_owned));
            }
        }
    }
    names
}

#[test]
fn each_row_has_a_test() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut found: BTreeMap<(char, u32), usize> = BTreeMap::new();
    let mut count = 0;
    for name in tests_in(&tests.join("cli")).into_iter().chain(tests_in(&tests.join("booted"))) {
        let rows = rows_of(&name);
        count += usize::from(!rows.is_empty());
        rows.into_iter().for_each(|row| *found.entry(row).or_default() += 1);
    }
    let wanted: Vec<_> =
        ROWS.iter().flat_map(|(letter, _, last)| (1..=*last).map(|number| (*letter, number))).collect();
    let missing: Vec<_> = wanted.iter().filter(|row| !found.contains_key(row)).collect();
    assert!(missing.is_empty(), "no test is named after the rows {missing:?}");
    let unknown: Vec<_> = found.keys().filter(|row| !wanted.contains(row)).collect();
    assert!(unknown.is_empty(), "tests are named after the rows {unknown:?}, which there are not");
    for (letter, about, last) in ROWS {
        println!("{letter}1 to {letter}{last}: {about}");
    }
    println!("{} rows, {count} tests with the real binary", wanted.len());
}

#[test]
fn a_name_tells_its_rows() {
    assert_eq!(rows_of("a2_to_a5_links"), [('a', 2), ('a', 3), ('a', 4), ('a', 5)]);
    assert_eq!(rows_of("b4_b6_a_redirect"), [('b', 4), ('b', 6)]);
    assert_eq!(rows_of("a_signed_image"), []);
    assert_eq!(rows_of("f11_a_changed_layer"), []);
}
