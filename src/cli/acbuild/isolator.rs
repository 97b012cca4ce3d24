//! `acbuild isolator …` and `set-event-handler`: limits and rights of the app, and commands around it (spec
//! build-tools.md 6.3).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::super::CliError;
use super::{FAILURE, Session, failure};
use crate::appc::image_manifest::Event;
use crate::appc::{isolator as appc, json};
use crate::build;
use crate::os::SysError;

/// Size that the value of an isolator may have; the largest are lists of system calls.
const LIMIT: u64 = 1 << 20;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Isolator {
    /// Add an isolator, or replace the one of this name
    #[command(after_help = "echo '{\"limit\": \"64Mi\"}' | acbuild isolator add resource/memory -")]
    Add(Add),
    /// Remove an isolator
    #[command(alias = "rm", after_help = "acbuild isolator remove resource/memory")]
    Remove(Remove),
}

/// The arguments of `isolator add`.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The name of the isolator
    #[arg(value_name = "NAME", required = true)]
    name: String,
    /// The file with its value as JSON; - is the standard input
    #[arg(value_name = "FILE", required = true)]
    file: String,
}

/// The arguments of `isolator remove`.
#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// The name of the isolator
    #[arg(value_name = "NAME", required = true)]
    name: String,
}

impl Isolator {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let done = match self {
            Self::Add(add) => add.run(session),
            Self::Remove(Remove { name }) => {
                log::debug!("removing the isolator {name:?}");
                session.change(|manifest| build::remove_isolator(manifest, &name))
            }
        };
        // Also where nothing is there to be removed.
        done.map_err(|error| error.exit_code(FAILURE))
    }
}

impl Add {
    fn run(self, session: &Session) -> Result<(), CliError> {
        let refused = |error: appc::IsolatorError| {
            let failure = failure(error.to_string());
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        };
        if !appc::Isolator::is_known(&self.name) {
            return Err(refused(appc::IsolatorError::UnknownName { name: self.name }));
        }
        let bytes = if self.file == "-" {
            read(&mut std::io::stdin().lock(), Path::new("/dev/stdin"))
        } else {
            let path = Path::new(&self.file);
            File::open(path).map_err(SysError::on("opening", path)).and_then(|mut file| read(&mut file, path))
        };
        let bytes = bytes.map_err(|error| failure(error.to_string()))?;
        let value = json::parse(&bytes).map_err(|error| failure(format!("{}: {error}", self.file)))?;
        let isolator = appc::Isolator::parse(&self.name, &value).map_err(refused)?;
        log::debug!("setting the isolator {} to {value}", self.name);
        session.change(|manifest| {
            build::add_isolator(manifest, isolator);
            Ok(())
        })
    }
}

fn read(from: &mut impl Read, path: &Path) -> Result<Vec<u8>, SysError> {
    let mut bytes = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut bytes).map_err(SysError::on("reading", path))?;
    if bytes.len() as u64 > LIMIT {
        return Err(SysError::new("reading", path, rustix::io::Errno::FBIG));
    }
    Ok(bytes)
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum SetEventHandler {
    /// Set the command that is executed before the app
    #[command(after_help = "acbuild set-event-handler pre-start -- /bin/prepare --all")]
    PreStart(Handler),
    /// Set the command that is executed after the app
    #[command(after_help = "acbuild set-event-handler post-stop -- /bin/clean --all")]
    PostStop(Handler),
}

/// A command.
#[derive(Debug, clap::Args)]
pub(super) struct Handler {
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, num_args = 1..)]
    exec: Vec<String>,
}

impl SetEventHandler {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let (event, exec) = match self {
            Self::PreStart(handler) => (Event::PreStart, handler.exec),
            Self::PostStop(handler) => (Event::PostStop, handler.exec),
        };
        log::debug!("setting the command at {} to {exec:?}", event.as_str());
        session.change(|manifest| {
            build::set_event_handler(manifest, event, exec);
            Ok(())
        })
    }
}
