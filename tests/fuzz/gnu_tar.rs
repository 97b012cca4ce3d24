//! What GNU tar finds in an archive, for comparison.

use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};

/// An entry as `tar --list --verbose` shows it.
#[derive(PartialEq, Eq)]
pub(crate) struct Listed {
    /// `-`, `d`, `l`, `h`, `p`, `c` or `b`.
    pub(crate) kind: char,
    /// Set-id, sticky and permission bits.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// Bytes of a regular file.
    pub(crate) size: u64,
    /// The name without blanks before it, `.` and empty parts, then ` -> ` or ` link to ` and the link's text.
    pub(crate) name: Vec<u8>,
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, owner: (user, group), size, name } = self;
        write!(f, "{kind}{mode:04o} {user}/{group} {size} \"{}\"", name.escape_ascii())
    }
}

/// Lists an archive; `None` for an entry that can't be told from the text, and an error if tar does not get to its end.
pub(crate) fn list(archive: &[u8]) -> Result<Vec<Option<Listed>>, String> {
    let arguments = ["--list", "--verbose", "--numeric-owner", "--utc", "--quoting-style=escape"];
    let output = run(archive, &arguments)?;
    Ok(output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(entry).collect())
}

/// The bytes of all regular files, one after the other.
pub(crate) fn contents(archive: &[u8]) -> Result<Vec<u8>, String> {
    run(archive, &["--extract", "--to-stdout"])
}

fn run(archive: &[u8], arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut child = Command::new("tar")
        .args(arguments)
        .arg("--file=-")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("GNU tar is installed");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    let input = archive.to_vec();
    let writing = std::thread::spawn(move || {
        // tar need not read what follows the end marker.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("tar is waited for");
    writing.join().expect("no panic");
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// `-rw-r--r-- 0/0  700 2001-09-09 01:46 NAME`
fn entry(line: &[u8]) -> Option<Listed> {
    let mut rest = line;
    let permissions = word(&mut rest)?;
    let (user, group) = word(&mut rest)?.split_once('/')?;
    let size = word(&mut rest)?;
    let is_date = |text: &str| text.contains('-') && text.bytes().all(|byte| b"-0123456789".contains(&byte));
    let is_time = |text: &str| text.contains(':') && text.bytes().all(|byte| b":0123456789".contains(&byte));
    if !is_date(word(&mut rest)?) || !is_time(word(&mut rest)?) {
        return None;
    }
    let kind = permissions.chars().next()?;
    // A contiguous file, as some systems had them.
    let kind = if kind == 'C' { '-' } else { kind };
    // Behind a long date, the next ones are made as wide.
    let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
    Some(Listed {
        kind,
        mode: mode(permissions)?,
        owner: (user.parse().ok()?, group.parse().ok()?),
        size: if kind == '-' { size.parse().ok()? } else { 0 },
        name: unescaped(&rest[blanks..]),
    })
}

/// Takes the next word, and the blanks before it.
fn word<'l>(rest: &mut &'l [u8]) -> Option<&'l str> {
    let start = rest.iter().position(|byte| *byte != b' ')?;
    let length = rest[start..].iter().position(|byte| *byte == b' ')?;
    let word = std::str::from_utf8(&rest[start..start + length]).ok()?;
    *rest = &rest[start + length..];
    Some(word)
}

fn mode(permissions: &str) -> Option<u32> {
    let letters = permissions.as_bytes().get(1..10)?;
    let mut mode = 0;
    for (index, letter) in letters.iter().enumerate() {
        if matches!(letter, b'r' | b'w' | b'x' | b's' | b't') {
            mode |= 0o400 >> index;
        }
        if matches!(letter, b's' | b'S' | b't' | b'T') {
            mode |= 0o4000 >> (index / 3);
        }
    }
    Some(mode)
}

/// Undoes `\n`, `\\` and `\033` (quoting style `escape` of GNU gnulib).
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        let Some((&letter, behind)) = rest.split_first().filter(|_| first == b'\\') else {
            bytes.push(first);
            continue;
        };
        let digits = rest.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
        if digits == 3 {
            let value = rest[..3].iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            bytes.push(value.to_le_bytes()[0]);
            rest = &rest[3..];
            continue;
        }
        bytes.push(match letter {
            b'a' => 7,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 11,
            b'f' => 12,
            b'r' => b'\r',
            other => other,
        });
        rest = behind;
    }
    bytes
}
