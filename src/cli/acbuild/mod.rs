//! `acbuild`: builds images, step by step (spec build-tools.md 6.1 to 6.4).
//!
//! It reads its words as `rkt` does; it has exit codes and a layout of help of its own, and its messages begin with the
//! whole path of the command: `environment remove: …`.

mod dependency;
mod help;
mod isolator;
mod manifest;
mod replace;
mod steps;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, FromArgMatches as _};

use super::words::{self, BadWords, Invocation, Rules, Style, WordError};
use super::{CliError, Exit, later, logging, output, version};
use crate::build::{BuildError, EditError, OneShot, Record, Workspace};
use crate::os::Hint as _;

/// Every failure that has no code of its own.
const FAILURE: u8 = 1;
/// What was to be removed is not there.
const NOT_THERE: u8 = 2;
/// There is no such command or flag.
const UNKNOWN: u8 = 3;

/// Build App Container Images
#[derive(Debug, clap::Parser)]
#[command(name = "acbuild", disable_version_flag = true, disable_help_subcommand = true)]
#[command(after_help = "acbuild begin\n\
    acbuild set-name example.com/hello\n\
    acbuild copy hello /bin/hello\n\
    acbuild set-exec -- /bin/hello\n\
    acbuild write hello-latest-linux-amd64.aci\n\
    acbuild end")]
struct Acbuild {
    #[command(flatten)]
    global: GlobalFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct GlobalFlags {
    /// Tell on stderr what is being done
    #[arg(long, global = true)]
    debug: bool,
    /// The directory that the state of the build is in
    #[arg(long, global = true, value_name = "DIR", default_value = ".")]
    work_path: PathBuf,
    /// Apply one command to an ACI file, without a build
    #[arg(long, global = true, value_name = "FILE")]
    modify_appc: Option<PathBuf>,
    /// Apply one command to an OCI image file, without a build (not in this version yet)
    #[arg(long, global = true, value_name = "FILE")]
    modify_oci: Option<PathBuf>,
    /// Do not write the command down in an annotation of the image
    #[arg(long, global = true)]
    no_history: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Manage the annotations of the image
    #[command(subcommand)]
    Annotation(manifest::Annotation),
    Begin(steps::Begin),
    CatManifest(steps::CatManifest),
    Copy(steps::Copy),
    CopyToDir(steps::CopyToDir),
    /// Manage the dependencies of the image
    #[command(subcommand)]
    Dependency(dependency::Dependency),
    End(steps::End),
    /// Manage the environment variables of the app
    #[command(subcommand)]
    Environment(manifest::Environment),
    /// Show a list of commands or get help for one command
    Help {
        /// The command
        #[arg(value_name = "COMMAND")]
        _words: Vec<String>,
    },
    /// Manage the isolators of the app
    #[command(subcommand)]
    Isolator(isolator::Isolator),
    /// Manage the labels of the image
    #[command(subcommand)]
    Label(manifest::Label),
    /// Manage the mount points of the app
    #[command(subcommand, visible_alias = "volume")]
    Mount(manifest::Mount),
    /// Manage the ports of the app
    #[command(subcommand)]
    Port(manifest::Port),
    ReplaceManifest(replace::ReplaceManifest),
    /// Set what is executed before or after the app
    #[command(subcommand, visible_alias = "set-eh")]
    SetEventHandler(isolator::SetEventHandler),
    SetExec(manifest::SetExec),
    SetGroup(manifest::SetGroup),
    SetName(manifest::SetName),
    SetSuppGroups(manifest::SetSuppGroups),
    SetTag(manifest::SetTag),
    SetUser(manifest::SetUser),
    #[command(visible_alias = "set-wd")]
    SetWorkingDirectory(manifest::SetWorkingDirectory),
    Version(Version),
    Write(steps::Write),
}

/// Print the version of acbuild and of the specification
#[derive(Debug, clap::Args)]
struct Version {}

/// Commands that come later.
const LATER: &[(&str, &str)] = &[
    ("layer", "Begin a new layer of an OCI image"),
    ("run", "Run a command inside the image"),
    ("script", "Run the acbuild commands of a file"),
];

const RULES: Rules = Rules {
    style: |_, command| if later::is_missing(command) { Style::Opaque } else { Style::Mixed },
    belongs_to_image: |_| false,
};

/// What a command works with.
struct Session {
    workspace: Workspace,
    record: Record,
    debug: bool,
}

impl Session {
    /// Makes the failure of a command.
    fn failed(&self, error: BuildError) -> CliError {
        failed(&error, self.debug)
    }
}

/// Makes the failure of a step of the build.
fn failed(error: &BuildError, debug: bool) -> CliError {
    let code = match error {
        BuildError::Edit(EditError::NotThere) => NOT_THERE,
        _ => FAILURE,
    };
    let mut told = failure(error.to_string()).exit_code(code);
    if let Some(hint) = error.hint() {
        told = told.hint(hint);
    }
    match std::error::Error::source(error) {
        Some(cause) if debug => told.because_of(cause),
        _ => told,
    }
}

/// Makes the failure of a command that is told by a text of its own.
fn failure(text: impl Into<String>) -> CliError {
    CliError::new(text).exit_code(FAILURE)
}

impl Command {
    fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::Annotation(command) => command.run(session),
            Self::Begin(args) => args.run(session),
            Self::CatManifest(args) => args.run(session),
            Self::Copy(args) => args.run(session),
            Self::CopyToDir(args) => args.run(session),
            Self::Dependency(command) => command.run(session),
            Self::End(args) => args.run(session),
            Self::Environment(command) => command.run(session),
            Self::Isolator(command) => command.run(session),
            Self::Label(command) => command.run(session),
            Self::Mount(command) => command.run(session),
            Self::Port(command) => command.run(session),
            Self::ReplaceManifest(args) => args.run(session),
            Self::SetEventHandler(command) => command.run(session),
            Self::SetExec(args) => args.run(session),
            Self::SetGroup(args) => args.run(session),
            Self::SetName(args) => args.run(session),
            Self::SetSuppGroups(args) => args.run(session),
            Self::SetTag(args) => args.run(session),
            Self::SetUser(args) => args.run(session),
            Self::SetWorkingDirectory(args) => args.run(session),
            Self::Version(Version {}) => {
                output::print(&format!("acbuild version {}\nappc version {}\n", version::RKT, version::APPC));
                Ok(())
            }
            Self::Write(args) => args.run(session),
            Self::Help { .. } => unreachable!("help is given before arguments are parsed"),
        }
    }
}

/// Returns the whole tree of commands: for parsing, completion and manual pages.
pub fn command() -> clap::Command {
    LATER.iter().fold(Acbuild::command(), |root, (name, about)| root.subcommand(later::missing(name, about)))
}

/// Runs `acbuild` with the words after argv[0].
pub fn main(words: impl Iterator<Item = OsString>) -> Exit {
    // Directories that are made on the way to a target have the mode that the documentation says.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut root = command();
    root.build();
    let exit = match words::read(&root, RULES, words) {
        Ok(invocation) => answer(&root, &invocation),
        Err(bad) => bad_words(&bad),
    };
    super::finish(exit, Exit::code(FAILURE))
}

/// Does what was asked for.
fn answer(root: &clap::Command, invocation: &Invocation<'_>) -> Exit {
    let names = invocation.names();
    output::set_prefix(&if names.is_empty() { "acbuild".to_owned() } else { names.join(" ") });
    if invocation.help {
        output::print(&help::text(&invocation.path));
        return Exit::SUCCESS;
    }
    if names == ["help"] {
        return help_command(root, &invocation.words);
    }
    if invocation.command().has_subcommands() {
        if let Some(word) = invocation.words.first() {
            return bad_words(&unknown_command(&invocation.path, &word.to_string_lossy()));
        }
        output::print(&help::text(&invocation.path));
        return Exit::code(FAILURE);
    }
    match run(root, invocation) {
        Ok(()) => Exit::SUCCESS,
        Err(Refusal::Words(error)) => {
            bad_words(&BadWords { error, path: invocation.path.clone(), among_images: false })
        }
        Err(Refusal::Command(error)) => error.tell(invocation.uses("debug"), &help::text(&invocation.path)),
    }
}

fn help_command(root: &clap::Command, words: &[OsString]) -> Exit {
    let mut path = vec![root];
    for word in words {
        let word = word.to_string_lossy();
        match words::find_command(path[path.len() - 1], &word) {
            Some(command) => path.push(command),
            None => return bad_words(&unknown_command(&path, &word)),
        }
    }
    output::print(&help::text(&path));
    Exit::SUCCESS
}

fn unknown_command<'c>(path: &[&'c clap::Command], word: &str) -> BadWords<'c> {
    let names: Vec<_> = path.iter().map(|command| command.get_name()).collect();
    let similar = words::similar_commands(path[path.len() - 1], word);
    let error = WordError::UnknownCommand { word: word.to_owned(), program: names.join(" "), similar };
    BadWords { error, path: path.to_vec(), among_images: false }
}

/// Tells about words that mean nothing.
fn bad_words(bad: &BadWords<'_>) -> Exit {
    super::bad_words(bad);
    Exit::code(match bad.error {
        WordError::UnknownCommand { .. }
        | WordError::UnknownFlag { .. }
        | WordError::UnknownShortFlag { .. } => UNKNOWN,
        WordError::NeedsValue { .. }
        | WordError::InvalidValue { .. }
        | WordError::InvalidArgument { .. }
        | WordError::NotUtf8 { .. } => FAILURE,
    })
}

enum Refusal {
    Words(WordError),
    Command(CliError),
}

impl From<CliError> for Refusal {
    fn from(error: CliError) -> Self {
        Self::Command(error)
    }
}

/// Parses the values and runs the command.
fn run(root: &clap::Command, invocation: &Invocation<'_>) -> Result<(), Refusal> {
    let refused = |error: CliError| Refusal::Command(error.exit_code(FAILURE));
    later::refuse_command(invocation).map_err(refused)?;
    let argv = invocation.argv().map_err(Refusal::Words)?;
    let matches = root.clone().try_get_matches_from(argv);
    let parsed = matches.and_then(|matches| Acbuild::from_arg_matches(&matches));
    let Acbuild { global, command } =
        parsed.map_err(|error| match super::word_error(&error, invocation) {
            Some(error) => Refusal::Words(error),
            None if invocation.words.is_empty() => Refusal::Command(CliError::usage().exit_code(FAILURE)),
            None => Refusal::Command(failure("incorrect number of arguments")),
        })?;
    logging::start(global.debug);
    let arguments: Vec<_> = invocation.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let record =
        if global.no_history { Record::Nothing } else { Record::of(&invocation.names(), &arguments) };
    let session = |workspace| Session { workspace, record, debug: global.debug };
    match (global.modify_appc, global.modify_oci) {
        (None, None) => Ok(command.run(&session(Workspace::new(&global.work_path)))?),
        (Some(_), Some(_)) => {
            Err(failure("can't modify an appc image and an oci image at the same time").into())
        }
        (None, Some(_)) => Err(refused(later::refusal("--modify-oci"))),
        (Some(file), None) => {
            let name = invocation.command().get_name();
            Ok(modify(&file, command, name, session)?)
        }
    }
}

/// Runs one command on the image in a file (spec build-tools.md 6.5).
fn modify(
    file: &Path,
    command: Command,
    name: &str,
    session: impl FnOnce(Workspace) -> Session,
) -> Result<(), CliError> {
    let only_looks = match command {
        Command::Begin(_) | Command::Write(_) | Command::End(_) | Command::Version(_) => {
            return Err(failure(format!("Can't use --modify flags with {name}.")));
        }
        Command::CatManifest(_) => true,
        _ => false,
    };
    let temporary = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    // An image may be larger than memory, where /tmp often is (file-hierarchy(7)).
    let temporary = temporary.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let begun = OneShot::begin(file, &temporary);
    let (one_shot, begun) = begun.map_err(|error| failed(&error, false))?;
    let session = session(one_shot.workspace().clone());
    if !only_looks {
        steps::tell_begun(&begun);
    }
    command.run(&session)?;
    if !only_looks {
        one_shot.finish().map_err(|error| session.failed(error))?;
    }
    Ok(())
}
