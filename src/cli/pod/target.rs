//! Which pods a command is about: UUIDs, their prefixes, or the file that `--uuid-file-save` wrote (spec cli.md 1.1.7).

use std::path::{Path, PathBuf};

use crate::appc::pod_uuid::PodUuid;
use crate::cli::{CliError, Context};
use crate::os::SysError;
use crate::pod::{lifecycle::PodsDir, observe};

/// One pod.
#[derive(Debug, clap::Args)]
pub struct OnePod {
    /// Read the UUID from FILE
    #[arg(long, value_name = "FILE")]
    pub uuid_file: Option<PathBuf>,
    /// The pod, or enough of its first digits
    #[arg(value_name = "UUID")]
    pub uuids: Vec<String>,
}

/// What else stands beside a UUID file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BesideFile {
    /// Arguments beside it are an error.
    Nothing,
    /// Arguments beside it are ignored.
    Ignored,
}

impl OnePod {
    /// Returns the text that names the pod.
    ///
    /// # Errors
    /// The usage, unless there is exactly one; exit code 1 when the file can't be read.
    pub fn text(&self, beside: BesideFile) -> Result<String, CliError> {
        match (&self.uuid_file, self.uuids.as_slice()) {
            (Some(file), []) => read(file),
            (Some(file), _) if beside == BesideFile::Ignored => read(file),
            (None, [uuid]) => Ok(uuid.clone()),
            _ => Err(CliError::usage()),
        }
    }

    /// Finds the pod.
    ///
    /// # Errors
    /// As [`OnePod::text`], and when no pod or several are meant.
    pub fn find(&self, ctx: &Context, beside: BesideFile) -> Result<(PodsDir, PodUuid), CliError> {
        let pods = PodsDir::new(ctx.data_dir());
        let uuid = observe::resolve(&pods, &self.text(beside)?)
            .map_err(|error| CliError::new("problem retrieving pod").because(error))?;
        Ok((pods, uuid))
    }
}

/// Several pods.
#[derive(Debug, clap::Args)]
pub struct ManyPods {
    /// Read the UUID from FILE
    #[arg(long, value_name = "FILE")]
    pub uuid_file: Option<PathBuf>,
    /// The pods, or enough of their first digits
    #[arg(value_name = "UUID")]
    pub uuids: Vec<String>,
}

impl ManyPods {
    /// Does `step` with each pod, tells what went wrong with one, and goes on; returns how many went wrong.
    ///
    /// # Errors
    /// The usage, unless there is a file or at least one UUID; exit code 1 when the file can't be read.
    pub fn each(
        &self,
        ctx: &Context,
        mut step: impl FnMut(&PodsDir, &PodUuid) -> Result<(), CliError>,
    ) -> Result<usize, CliError> {
        let pods = PodsDir::new(ctx.data_dir());
        let texts = match (&self.uuid_file, self.uuids.as_slice()) {
            (Some(file), []) => vec![read(file)?],
            (None, [_, ..]) => self.uuids.clone(),
            _ => return Err(CliError::usage()),
        };
        let mut failed = 0;
        for text in &texts {
            let done = observe::resolve(&pods, text)
                .map_err(|error| CliError::new("cannot get pod").because(error))
                .and_then(|uuid| step(&pods, &uuid));
            if let Err(error) = done {
                error.tell_and_go_on(ctx.debug);
                failed += 1;
            }
        }
        Ok(failed)
    }
}

fn read(file: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(SysError::on("reading", file))
        .map_err(|error| CliError::new("unable to resolve UUID from file").because(error).exit_code(1))?;
    Ok(text.trim().to_owned())
}
