//! `rkt logs`: what the apps of a pod wrote, by journalctl (spec pods.md 3.11).

use std::path::PathBuf;

use super::target::{BesideFile, OnePod};
use crate::appc::name::AcName;
use crate::cli::{CliError, Context, Exit};
use crate::os::process::become_program;
use crate::pod::logs::{self, LogRequest};

/// Show the log of a pod, or of one of its apps
///
/// The lines are those of the apps, while the pod runs and after it has exited. The flags are passed to journalctl(1).
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Wait for new lines (-f)
    #[arg(long, short)]
    follow: bool,
    /// Show the last lines only (-n)
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<String>,
    /// Show no lines that are older, such as "-1h", "today" or "2026-01-31 12:00"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show no lines that are newer
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The form of the lines, such as cat, short-iso or json (-o)
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<String>,
    /// Read the UUID from FILE
    #[arg(long, value_name = "FILE")]
    uuid_file: Option<PathBuf>,
    /// The pod, or enough of its first digits, unless there is a file; then the app, if only one is wanted
    #[arg(value_name = "UUID")]
    words: Vec<String>,
}

/// Becomes journalctl.
pub fn run(args: Args, ctx: &Context) -> Result<Exit, CliError> {
    let mut words = args.words;
    let uuids =
        if args.uuid_file.is_none() { words.drain(..words.len().min(1)).collect() } else { Vec::new() };
    let app = match words.as_slice() {
        [] => None,
        [app] => Some(app),
        _ => return Err(CliError::usage()),
    };
    let (pods, uuid) = OnePod { uuid_file: args.uuid_file, uuids }.find(ctx, BesideFile::Nothing)?;
    let app: Option<AcName> = app
        .map(|app| {
            app.parse().map_err(|error| CliError::new(format!("{app:?} names no app")).because_of(&error))
        })
        .transpose()?;
    let request = LogRequest {
        app,
        follow: args.follow,
        lines: args.lines,
        since: args.since,
        until: args.until,
        output: args.output,
    };
    let failed = |error| CliError::new("cannot show the log").because(error);
    let program = logs::command(&pods, &uuid, &request, |name| std::env::var(name).ok()).map_err(failed)?;
    log::debug!("executing {} {}", program.path.display(), program.args.join(" "));
    Err(CliError::new("cannot show the log").because(become_program(&program, [])))
}
