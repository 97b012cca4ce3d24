//! An empty directory to run `rkt` in, with nothing of the caller's environment.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::support::{Run, run::Ended};

/// An empty directory, removed at the end of the test.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Prepares `rkt` with the words of a line, which are split at single spaces.
    pub(crate) fn rkt(&self, line: &str) -> Run {
        Run::rkt().args(words(line)).env_clear().env("TZ", "UTC").current_dir(self.path())
    }

    /// Runs `rkt` with the words of a line.
    pub(crate) fn run(&self, line: &str) -> Ended {
        self.rkt(line).end()
    }

    /// Runs `rkt` as nobody, from a copy of the binary that nobody can read.
    pub(crate) fn run_as_nobody(&self, line: &str) -> Ended {
        assert!(
            rustix::process::geteuid().is_root(),
            "only root can become nobody: sudo -E cargo test --test cli"
        );
        let binary = self.path().join("rkt");
        if !binary.exists() {
            // Not by our own hand: a test that forks just then would keep the file open for writing, and nothing can
            // execute such a file.
            Run::new("cp").arg(env!("CARGO_BIN_EXE_rkt")).arg(&binary).stdout();
        }
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755)).expect("our own directory");
        Run::new(binary).args(words(line)).env_clear().current_dir(self.path()).nobody().end()
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(' ').filter(|word| !word.is_empty())
}

/// Returns what follows the message about a bad flag of a command.
pub(crate) fn usage(line: &str) -> String {
    let words = line.split(" [").next().unwrap_or(line);
    let command: Vec<_> = words.split(' ').filter(|word| !word.chars().all(char::is_uppercase)).collect();
    format!("USAGE:\n\t{line}\n\nRun '{} --help' for the options.\n", command.join(" "))
}

pub(crate) const RUN: &str = "rkt run [flags] [IMAGE [image flags] [-- ARGUMENTS [---]]]...";
