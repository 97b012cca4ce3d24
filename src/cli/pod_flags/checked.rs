//! Flags that are right one by one but not together, refused where they are parsed.

use std::ops::Deref;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::args;
use crate::cli::words::WordError;

/// Flags whose values must fit together.
pub trait Check: Args {
    /// What they say together.
    type Value: Clone + std::fmt::Debug;

    /// Makes the value.
    ///
    /// # Errors
    /// The flag that does not fit.
    fn check(self) -> Result<Self::Value, WordError>;
}

/// Flags that fit together; used with `#[command(flatten)]` like the flags themselves.
#[derive(Clone, Debug)]
pub struct Checked<F: Check>(F::Value);

impl<F: Check> Deref for Checked<F> {
    type Target = F::Value;

    fn deref(&self) -> &F::Value {
        &self.0
    }
}

impl<F: Check> FromArgMatches for Checked<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        F::from_arg_matches(matches)?.check().map(Self).map_err(|error| args::clap_error(&error))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<F: Check> Args for Checked<F> {
    fn augment_args(command: Command) -> Command {
        F::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        F::augment_args(command)
    }
}

/// The error of a flag whose value does not fit.
pub(super) fn refused(name: &str, value: impl Into<String>, reason: impl Into<String>) -> WordError {
    WordError::InvalidValue { name: name.to_owned(), value: value.into(), reason: reason.into() }
}
