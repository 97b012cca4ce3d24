//! `rkt enter`, which people also call `exec` (spec cli.md 1.2.6).

use crate::appc::name::AcName;
use crate::cli::{CliError, Context, Exit, output};
use crate::pod::enter::{self, EnterError, EnterRequest};
use crate::pod::lifecycle::PodsDir;
use crate::pod::observe;

/// What is run when nothing is said.
const SHELL: &str = "/bin/bash";

/// Run a command in an app of a running pod, with the app's rights
///
/// The command has the app's user, environment, limits and volumes, and no more rights than the app. Its exit status is
/// that of rkt; a signal that ends it counts as 128 and its number. On a terminal it has one of its own. "rkt exec" is
/// the same.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The app, if the pod has several
    #[arg(long, value_name = "NAME")]
    app: Option<AcName>,
    /// The pod, by its UUID or a beginning of it
    #[arg(value_name = "UUID")]
    uuid: String,
    /// The program and its arguments; without it /bin/bash
    #[arg(value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command to its end.
pub fn run(args: Args, ctx: &Context) -> Result<Exit, CliError> {
    let pods = PodsDir::new(ctx.data_dir());
    let uuid = observe::resolve(&pods, &args.uuid)
        .map_err(|error| CliError::new("problem retrieving pod").because(error))?;
    let mut command = args.command;
    // As with kubectl and docker.
    if command.first().is_some_and(|word| word == "--") {
        command.remove(0);
    }
    if command.is_empty() {
        output::message(format!("no command specified, assuming \"{SHELL}\""));
        command.push(SHELL.to_owned());
    }
    let request = EnterRequest { app: args.app, command, term: term() };
    enter::enter(&pods, &uuid, &request).map(Exit::code).map_err(told)
}

/// The name of the caller's terminal, if it is one that programs may be told.
pub(super) fn term() -> Option<String> {
    const LONGEST: usize = 64;
    let plain = |text: &String| {
        !text.is_empty()
            && text.len() <= LONGEST
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-+._".contains(&byte))
    };
    std::env::var("TERM").ok().filter(plain)
}

fn told(error: EnterError) -> CliError {
    match &error {
        EnterError::NotRunning(_) | EnterError::NotRunningAnymore(_) | EnterError::NoApps => {}
        EnterError::NoSuchApp { .. } => {}
        EnterError::SeveralApps(apps) => {
            output::message("pod contains multiple apps:");
            apps.iter().for_each(|app| output::message(format!("\t{app}")));
        }
        EnterError::App(_) | EnterError::Observe(_) | EnterError::Enter(_) | EnterError::Sys(_) => {
            return CliError::new("cannot run the command").because(error);
        }
    }
    let text = error.to_string();
    match crate::os::Hint::hint(&error) {
        Some(hint) => CliError::new(text).hint(hint),
        None => CliError::new(text),
    }
}
