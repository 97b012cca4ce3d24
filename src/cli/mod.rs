//! The command line: the only room that knows clap and the terminal.
//!
//! One file a command, with its `Args` (whose doc comments are the help) and its `run`. A new command is a variant of
//! [`RktCommand`] and an arm of [`RktCommand::run`]; its row in [`later`] goes.

pub mod acbuild;
pub mod args;
pub mod complete;
pub mod config;
pub mod context;
pub mod docker2aci;
pub mod error;
pub mod exit;
pub mod fetch;
pub mod format;
pub mod help;
pub mod image;
pub mod image_args;
pub mod inside;
pub mod later;
pub mod logging;
mod network;
pub mod output;
pub mod pod;
pub mod pod_flags;
mod progress;
pub mod trust;
pub mod version;
pub mod words;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};

pub use self::{
    context::{Context, Insecure, InsecureOptions},
    error::CliError,
    exit::Exit,
};
use self::{
    context::{DataDir, GlobalFlags},
    words::{BadWords, Invocation, Rules, Style, WordError},
};

/// The pod runtime for people who run their machines with systemd
#[derive(Debug, clap::Parser)]
#[command(name = "rkt", disable_version_flag = true, disable_help_subcommand = true)]
struct Rkt {
    #[command(flatten)]
    global: GlobalFlags,
    /// Print the version and exit
    #[arg(long)]
    version: bool,
    #[command(subcommand)]
    command: RktCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RktCommand {
    CatManifest(pod::cat_manifest::Args),
    Completion(complete::Args),
    Config(config::Args),
    #[command(alias = "exec")]
    Enter(pod::enter::Args),
    Export(pod::export::Args),
    Gc(pod::gc::Args),
    Fetch(pod_flags::FetchCommandFlags),
    /// Show a list of commands or get help for one command
    Help {
        /// The command
        #[arg(value_name = "COMMAND")]
        _words: Vec<String>,
    },
    /// Operate on images in the local store
    #[command(subcommand)]
    Image(image::Command),
    Prepare(pod_flags::PrepareOnlyFlags),
    Run(pod_flags::RunFlags),
    RunPrepared(pod_flags::RunPreparedFlags),
    List(pod::list::Args),
    Logs(pod::logs::Args),
    Rm(pod::rm::Args),
    Status(pod::status::Args),
    Stop(pod::stop::Args),
    Trust(trust::Args),
    Version(version::Args),
}

impl RktCommand {
    fn run(self, ctx: &Context) -> Result<Exit, CliError> {
        match self {
            Self::CatManifest(args) => pod::cat_manifest::run(args, ctx),
            Self::Completion(args) => complete::run(args, ctx),
            Self::Config(args) => config::run(&args, ctx),
            Self::Enter(args) => pod::enter::run(args, ctx),
            Self::Export(args) => pod::export::run(&args, ctx),
            Self::Gc(args) => pod::gc::run(args, ctx),
            Self::Fetch(args) => fetch::run(args, ctx),
            Self::Image(command) => command.run(ctx),
            Self::List(args) => pod::list::run(args, ctx),
            Self::Logs(args) => pod::logs::run(args, ctx),
            Self::Prepare(args) => pod::prepare::run(args, ctx),
            Self::Rm(args) => pod::rm::run(args, ctx),
            Self::Run(args) => pod::run::run(args, ctx),
            Self::RunPrepared(args) => pod::run_prepared::run(args, ctx),
            Self::Status(args) => pod::status::run(args, ctx),
            Self::Stop(args) => pod::stop::run(args, ctx),
            Self::Trust(args) => trust::run(&args, ctx),
            Self::Version(args) => version::run(args, ctx),
            Self::Help { .. } => unreachable!("help is given before arguments are parsed"),
        }
    }
}

/// Commands that need the effective user to be root.
const NEED_ROOT: &[&[&str]] =
    &[&["app", "exec"], &["attach"], &["enter"], &["gc"], &["prepare"], &["rm"], &["run"], &["run-prepared"]];

/// Flags that still work but have a better way.
const DEPRECATED: &[(&str, &str)] = &[
    ("cap-remove", "use --caps-remove instead"),
    ("cap-retain", "use --caps-retain instead"),
    ("no-store", "please use --pull-policy=update"),
    ("store-only", "please use --pull-policy=never"),
];

const RULES: Rules = Rules {
    style: |path, command| match path {
        _ if later::is_missing(command) => Style::Opaque,
        ["run" | "prepare" | "fetch"] | ["image", "fetch"] => Style::Images,
        ["enter"] | ["app", "add" | "exec"] => Style::Leading,
        _ => Style::Mixed,
    },
    belongs_to_image: image_args::belongs_to_image,
};

/// Returns the whole tree of commands: for parsing, completion and manual pages.
pub fn command() -> clap::Command {
    later::add_to(Rkt::command(), experiment)
}

/// Tells whether an environment variable switches an experiment on.
fn experiment(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| args::boolean(&value) == Ok(true))
}

/// Runs `rkt` with the words after argv[0].
pub fn main(words: impl Iterator<Item = OsString>) -> Exit {
    let mut root = command();
    root.build();
    let exit = match words::read(&root, RULES, words) {
        Ok(invocation) => answer(&root, &invocation),
        Err(bad) => bad_words(&bad),
    };
    finish(exit, Exit::FAILURE)
}

/// Ends the output; if some of it was lost, a success becomes `failure`.
fn finish(exit: Exit, failure: Exit) -> Exit {
    match output::finish() {
        Ok(()) => exit,
        Err(lost) => {
            // Whoever closed the pipe knows.
            if lost.kind() != std::io::ErrorKind::BrokenPipe {
                output::message(format!("writing the output: {}", crate::os::cause_text(&lost)));
            }
            if exit.is_success() { failure } else { exit }
        }
    }
}

/// Does what was asked for.
fn answer(root: &clap::Command, invocation: &Invocation<'_>) -> Exit {
    let names = invocation.names();
    output::set_prefix(invocation.command().get_name());
    if invocation.help {
        output::print(&help::text(&invocation.path));
        return Exit::SUCCESS;
    }
    if names.is_empty()
        && let Err(error) = invocation.argv()
    {
        return bad_words(&BadWords { error, path: invocation.path.clone(), among_images: false });
    }
    match names.as_slice() {
        [] if invocation.uses("version") => output::print(&version::text()),
        [] => {
            output::message("missing command");
            output::print(&help::text(&invocation.path));
            return Exit::MISSING_COMMAND;
        }
        ["help"] => return help_command(root, &invocation.words),
        // A group without a command of it: its help, and success, as ever (spec cli.md 1.1.4).
        _ if invocation.command().has_subcommands() => output::print(&help::text(&invocation.path)),
        _ => return run(root, invocation),
    }
    Exit::SUCCESS
}

fn help_command(root: &clap::Command, words: &[OsString]) -> Exit {
    let mut path = vec![root];
    for word in words {
        let group = path[path.len() - 1];
        match words::find_command(group, &word.to_string_lossy()) {
            Some(command) => path.push(command),
            None => {
                let word = word.to_string_lossy().into_owned();
                let similar = words::similar_commands(group, &word);
                let error = WordError::UnknownCommand { word, program: "rkt".to_owned(), similar };
                return bad_words(&BadWords { error, path: vec![root], among_images: false });
            }
        }
    }
    output::print(&help::text(&path));
    Exit::SUCCESS
}

/// Parses the values and runs the command.
fn run(root: &clap::Command, invocation: &Invocation<'_>) -> Exit {
    for (name, hint) in DEPRECATED {
        if invocation.uses(name) {
            output::stderr(&format!("Flag --{name} has been deprecated, {hint}\n"));
        }
    }
    let usage = help::usage(&invocation.path);
    let parsed = match parse(root, invocation) {
        Ok(parsed) => parsed,
        Err(Refusal::Words { error, among_images }) => {
            return bad_words(&BadWords { error, path: invocation.path.clone(), among_images });
        }
        Err(Refusal::Command(error)) => return error.tell(invocation.uses("debug"), &usage),
    };
    logging::start(parsed.global.debug);
    let debug = parsed.global.debug;
    let data_dir = match parsed.command {
        _ if invocation.uses("dir") => DataDir::Flag,
        // These have no use for it.
        RktCommand::Completion(_) | RktCommand::Version(_) => DataDir::Flag,
        _ => DataDir::Configured,
    };
    let done = Context::new(parsed.global, data_dir).and_then(|ctx| parsed.command.run(&ctx));
    done.unwrap_or_else(|error| error.tell(debug, &usage))
}

enum Refusal {
    Words { error: WordError, among_images: bool },
    Command(CliError),
}

impl From<CliError> for Refusal {
    fn from(error: CliError) -> Self {
        Self::Command(error)
    }
}

/// Checks in the order of spec cli.md 1.1.4: the leading flags, root, everything else.
fn parse(root: &clap::Command, invocation: &Invocation<'_>) -> Result<Rkt, Refusal> {
    later::refuse_command(invocation)?;
    if let Some(error) = later::find_unknown_flag(invocation, experiment) {
        return Err(Refusal::Words { error, among_images: false });
    }
    let reason = |error| word_error(&error, invocation);
    let parse = |argv: Result<Vec<OsString>, WordError>| {
        let matches = root.clone().try_get_matches_from(argv.map_err(Some)?).map_err(reason)?;
        Rkt::from_arg_matches(&matches).map_err(reason)
    };
    let parsed = parse(invocation.argv());
    match parsed {
        Err(Some(error)) => {
            let among_images = invocation.style == Style::Images
                && invocation.leading < invocation.flags.len()
                && !matches!(parse(invocation.leading_argv()), Err(Some(_)));
            Err(Refusal::Words { error, among_images })
        }
        Err(None) => {
            check_root(&invocation.names())?;
            Err(CliError::usage().into())
        }
        Ok(parsed) => {
            check_root(&invocation.names())?;
            later::refuse_flags(invocation)?;
            Ok(parsed)
        }
    }
}

/// Makes rkt's error of clap's when a word is wrong; any other is a wrong number of arguments.
fn word_error(error: &clap::Error, invocation: &Invocation<'_>) -> Option<WordError> {
    match error.kind() {
        clap::error::ErrorKind::InvalidUtf8 => {
            invocation.find_not_utf8().map(|word| WordError::NotUtf8 { word })
        }
        _ => args::value_error(error),
    }
}

fn check_root(path: &[&str]) -> Result<(), CliError> {
    if NEED_ROOT.contains(&path) && !rustix::process::geteuid().is_root() {
        return Err(CliError::new("cannot run as unprivileged user"));
    }
    Ok(())
}

/// Tells about words that mean nothing.
fn bad_words(bad: &BadWords<'_>) -> Exit {
    if bad.among_images {
        return bad_image_words(bad);
    }
    let mut text = format!("Error: {}\n", bad.error);
    match &bad.error {
        WordError::UnknownCommand { program, similar, .. } => {
            if !similar.is_empty() {
                let names: String = similar.iter().map(|name| format!("\t{name}\n")).collect();
                text += &format!("\nDid you mean this?\n{names}\n");
            }
            text += &format!("Run '{program} --help' for usage.\n");
        }
        _ => text += &help::usage(&bad.path),
    }
    output::stderr(&text);
    Exit::FAILURE
}

/// Tells about words behind the first image, which are arguments and no longer the flags of the command.
fn bad_image_words(bad: &BadWords<'_>) -> Exit {
    let names: Vec<_> = bad.path.iter().skip(1).map(|command| command.get_name()).collect();
    output::set_prefix(names.last().copied().unwrap_or_default());
    let what = match names.last() {
        Some(&"fetch") => "unable to parse arguments",
        _ => "error parsing app image arguments",
    };
    let error = check_root(&names).err().unwrap_or_else(|| CliError::new(what).because_of(&bad.error));
    error.tell(false, "")
}
