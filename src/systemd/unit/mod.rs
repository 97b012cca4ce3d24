//! The one typed writer of units: no caller can put raw text into a unit file.
//!
//! ```text
//! [`Unit`] = a [`UnitName`](super::unit_name::UnitName) + [`Setting`]s     `setting` is the table: key, section, type of value
//!   value types: [`value`], [`name`], [`path`], [`stream`], [`exec`]       checked when made; none is made of any text
//!   text = `Unit::checked_text()` = rendered, then read back by [`read`]   another model of systemd, not the writer's
//! users' variables = [`environment`]                                       a file for `EnvironmentFile=`
//! ```
//!
//! Why so strict: a newline in a `WorkingDirectory=` once was an `ExecStartPre=+` that ran as root, and systemd 252
//! ignores a value that it can't parse and starts the unit without it. What is not the writer's job: whether the values
//! make sense together, and putting the text on disk.

pub mod environment;
pub mod error;
pub mod exec;
pub mod name;
pub mod path;
pub mod read;
mod setting;
pub mod stream;
pub mod value;

use std::fmt;

pub use self::error::{Reason, UnitError, ValueError};
pub use self::read::{ReadError, ReadSection};
use self::setting::Count;
pub use self::setting::{Section, Setting};
use super::unit_name::UnitName;

/// A unit file as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    name: UnitName,
    settings: Vec<Setting>,
}

impl Unit {
    /// Makes a unit without settings.
    pub fn new(name: UnitName) -> Self {
        Self { name, settings: Vec::new() }
    }

    /// Adds a setting behind those of its section. A list with nothing on it is left out, because systemd would read
    /// an empty value as "forget what was said before".
    pub fn push(&mut self, setting: Setting) {
        if !setting.value().adds_nothing() {
            self.settings.push(setting);
        }
    }

    /// Adds a setting, for chains.
    #[must_use]
    pub fn with(mut self, setting: Setting) -> Self {
        self.push(setting);
        self
    }

    /// Adds several settings, for chains.
    #[must_use]
    pub fn with_all(mut self, settings: impl IntoIterator<Item = Setting>) -> Self {
        self.extend(settings);
        self
    }

    /// Returns the name, which is the name of the file too.
    pub fn name(&self) -> &UnitName {
        &self.name
    }

    /// Returns the settings in the order in which they were added.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Reads a unit file into its sections as systemd does.
    ///
    /// # Errors
    /// When systemd would not load it, or would ignore a line.
    pub fn parse_back(text: &str) -> Result<Vec<ReadSection>, ReadError> {
        read::parse(text)
    }

    /// Returns the text to write to disk, after the check of [`Unit::verify_round_trip`].
    ///
    /// # Errors
    /// When systemd would read something else than what was meant.
    pub fn checked_text(&self) -> Result<String, UnitError> {
        self.verify_round_trip()?;
        Ok(self.to_string())
    }

    /// Reads the rendered text back by an independent model of systemd: it must have the same sections, the same keys
    /// in the same order, and values that mean the same, no more.
    ///
    /// # Errors
    /// When it has not; or when a setting is in a wrong kind of unit, or twice where only one counts.
    pub fn verify_round_trip(&self) -> Result<(), UnitError> {
        self.verify_settings()?;
        let unreadable = |reason| UnitError::Unreadable { unit: self.name.clone(), reason };
        let read = Self::parse_back(&self.to_string()).map_err(unreadable)?;
        let lines = read.iter().flat_map(|section| {
            section.settings.iter().map(|(key, value)| (section.name.as_str(), key.as_str(), value))
        });
        // Any instance shows the difference between its own place and the text around it.
        let instance = self.name.instance().and_then(|name| String::from_utf8(name).ok());
        let instance = instance.unwrap_or_else(|| "any/instance".to_owned());

        let mut meant = self.sections().flat_map(|(_, settings)| settings);
        for (section, key, value) in lines {
            let differs = || UnitError::Meaning { unit: self.name.clone(), setting: key.to_owned() };
            let setting = meant.next().ok_or_else(differs)?;
            if (setting.section().as_str(), setting.key()) != (section, key) {
                return Err(differs());
            }
            let words = read::meaning(value, setting.value().syntax(), &instance).map_err(unreadable)?;
            if words != setting.value().meaning(&instance) {
                return Err(differs());
            }
        }
        match meant.next() {
            Some(lost) => Err(UnitError::Meaning { unit: self.name.clone(), setting: lost.key().to_owned() }),
            None => Ok(()),
        }
    }

    /// What the types of single settings can't say.
    fn verify_settings(&self) -> Result<(), UnitError> {
        for (at, setting) in self.settings.iter().enumerate() {
            let (unit, key, section) = (|| self.name.clone(), setting.key(), setting.section());
            if !section.belongs_to(self.name.kind()) {
                return Err(UnitError::Section { unit: unit(), setting: key, section });
            }
            let before = &self.settings[..at];
            if setting.count() == Count::One && before.iter().any(|other| other.key() == key) {
                return Err(UnitError::Twice { unit: unit(), setting: key });
            }
            let is_template = self.name.is_template() || self.name.instance().is_some();
            if setting.value().uses_instance() && !is_template {
                return Err(UnitError::NoTemplate { unit: unit(), setting: key });
            }
        }
        Ok(())
    }

    /// The sections that have settings, in their fixed order; within one, the order of adding.
    fn sections(&self) -> impl Iterator<Item = (Section, impl Iterator<Item = &Setting>)> {
        Section::ALL.iter().copied().filter_map(|section| {
            let mut settings = self.settings.iter().filter(move |s| s.section() == section).peekable();
            settings.peek()?;
            Some((section, settings))
        })
    }
}

impl Extend<Setting> for Unit {
    fn extend<I: IntoIterator<Item = Setting>>(&mut self, settings: I) {
        settings.into_iter().for_each(|setting| self.push(setting));
    }
}

impl fmt::Display for Unit {
    /// Renders the unit file. What goes to disk comes from [`Unit::checked_text`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (section, settings)) in self.sections().enumerate() {
            writeln!(f, "{}[{section}]", if at == 0 { "" } else { "\n" })?;
            for setting in settings {
                writeln!(f, "{}={}", setting.key(), setting.value().render())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
