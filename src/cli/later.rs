//! What the command line knows but this version cannot do yet.
//!
//! A command or flag whose feature is missing is refused by name, so that nobody takes silence for protection or for
//! success. When a feature lands, its row goes.

use std::fmt::Display;

use clap::{Arg, ArgAction, Command};

use super::{
    CliError,
    words::{Invocation, WordError},
};

/// What help and the manual add to the description of something that is not there yet.
const MARK: &str = "(not in this version yet)";

const ID: &str = "later";

/// Commands, with the experiment (an environment variable) without which they do not exist at all.
const COMMANDS: &[(&[&str], Option<&str>, &str)] = &[
    (&["api-service"], None, "Run the API service"),
    (&["app"], Some("RKT_EXPERIMENT_APP"), "Operate on the apps of a running pod"),
    (&["attach"], Some("RKT_EXPERIMENT_ATTACH"), "Attach to an app running within a pod"),
    (&["metadata-service"], None, "Run the metadata service"),
];

/// Flags of commands that exist.
const FLAGS: &[(&[&str], &[&[&str]])] =
    &[(&["prepare"], &[PREPARE]), (&["run"], &[PREPARE, START]), (&["run-prepared"], &[START])];

const PREPARE: &[&str] = &[
    "private-users",
    "stage1-from-dir",
    "stage1-hash",
    "stage1-name",
    "stage1-path",
    "stage1-url",
    "stderr",
    "stdin",
    "stdout",
];

const START: &[&str] = &["ipc", "mds-register"];

/// Flags that do not exist without an experiment.
const EXPERIMENTS: &[(&str, &str)] = &[
    ("stdin", "RKT_EXPERIMENT_ATTACH"),
    ("stdout", "RKT_EXPERIMENT_ATTACH"),
    ("stderr", "RKT_EXPERIMENT_ATTACH"),
];

/// Adds the missing commands to the tree, and marks the missing flags.
pub fn add_to(mut root: Command, experiment: fn(&str) -> bool) -> Command {
    for (path, needed, about) in COMMANDS {
        if needed.is_some_and(|variable| !experiment(variable)) {
            continue;
        }
        let (name, groups) = path.split_last().expect("a row names a command");
        let command = missing(name, about).hide(needed.is_some());
        root = match groups {
            [group] => root.mut_subcommand(group, |group| group.subcommand(command)),
            _ => root.subcommand(command),
        };
    }
    for name in FLAGS.iter().filter_map(|(path, _)| path.first()) {
        root = root.mut_subcommand(name, |command| command.mut_args(|arg| mark(name, arg)));
    }
    root
}

/// Makes a command that is refused, whatever its words.
pub(super) fn missing(name: &'static str, about: &str) -> Command {
    let words = Arg::new(ID).action(ArgAction::Append).num_args(0..).hide(true);
    Command::new(name).about(format!("{about} {MARK}")).arg(words)
}

fn mark(command: &str, arg: Arg) -> Arg {
    match (arg.get_long().is_some_and(|name| is_missing_flag(&[command], name)), arg.get_help()) {
        (true, Some(help)) => {
            let marked = format!("{help} {MARK}");
            arg.help(marked)
        }
        _ => arg,
    }
}

/// Tells whether a command of the tree is one of those that are missing.
pub fn is_missing(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == ID)
}

/// Tells whether a flag of this command is one of those that are missing.
fn is_missing_flag(path: &[&str], name: &str) -> bool {
    FLAGS.iter().any(|(command, lists)| *command == path && lists.iter().any(|flags| flags.contains(&name)))
}

/// Finds a flag that does not exist because its experiment is off.
pub fn find_unknown_flag(invocation: &Invocation<'_>, experiment: fn(&str) -> bool) -> Option<WordError> {
    let off =
        |name: &String| EXPERIMENTS.iter().any(|(flag, variable)| flag == name && !experiment(variable));
    invocation.used_flags().into_iter().find(off).map(|name| WordError::UnknownFlag { name })
}

/// Makes the refusal of something that is not there yet, as the user would type it.
pub fn refusal(what: impl Display) -> CliError {
    CliError::new(format!("{what} is not supported by this version yet"))
}

/// Refuses a missing command.
pub fn refuse_command(invocation: &Invocation<'_>) -> Result<(), CliError> {
    if is_missing(invocation.command()) { Err(refusal("this command")) } else { Ok(()) }
}

/// Refuses a missing flag.
pub fn refuse_flags(invocation: &Invocation<'_>) -> Result<(), CliError> {
    let path = invocation.names();
    match invocation.used_flags().into_iter().find(|name| is_missing_flag(&path, name)) {
        Some(name) => Err(refusal(format_args!("--{name}"))),
        None => Ok(()),
    }
}
