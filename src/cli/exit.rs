//! Exit codes of `rkt` (spec cli.md 1.1.4). Other programs of this binary have tables of their own.

use std::process::ExitCode;

/// What the calling process is told at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// All went well.
    pub const SUCCESS: Self = Self(0);
    /// `rkt` was called without a command.
    pub const MISSING_COMMAND: Self = Self(2);
    /// Every failure that has no code of its own.
    pub const FAILURE: Self = Self(254);

    /// Makes the exit of a command that documents this code, or passes on an app's.
    pub const fn code(code: u8) -> Self {
        Self(code)
    }

    /// Tells whether the code is that of success.
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}
