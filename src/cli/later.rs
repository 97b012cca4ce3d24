//! What the command line knows but this version cannot do yet.
//!
//! A command or flag whose feature is missing is refused by name, so that nobody takes silence for protection or for
//! success. When a feature lands, its row goes.

use clap::{Arg, ArgAction, Command};

use super::{CliError, words::Invocation};

/// What help adds to the description of something that is not there yet.
pub const MARK: &str = "(not in this version yet)";

const ID: &str = "later";

/// Commands, with the experiment (an environment variable) without which they do not exist at all.
const COMMANDS: &[(&[&str], Option<&str>, &str)] = &[
    (&["api-service"], None, "Run the API service"),
    (&["app"], Some("RKT_EXPERIMENT_APP"), "Operate on the apps of a running pod"),
    (&["attach"], Some("RKT_EXPERIMENT_ATTACH"), "Attach to an app running within a pod"),
    (&["cat-manifest"], None, "Inspect and print the pod manifest"),
    (&["config"], None, "Print the merged configuration in JSON format"),
    (&["enter"], None, "Enter the namespaces of an app within a pod"),
    (&["export"], None, "Export an app from an exited pod to an ACI file"),
    (&["gc"], None, "Garbage collect pods no longer in use"),
    (&["image", "cat-manifest"], None, "Inspect and print the image manifest"),
    (&["image", "export"], None, "Export a stored image to an ACI file"),
    (&["image", "extract"], None, "Extract a stored image to a directory"),
    (&["image", "gc"], None, "Garbage collect the local store"),
    (&["image", "list"], None, "List images in the local store"),
    (&["image", "render"], None, "Render a stored image to a directory with all its dependencies"),
    (&["image", "rm"], None, "Remove one or more images from the local store"),
    (&["image", "verify"], None, "Verify one or more rendered images in the local store"),
    (&["list"], None, "List pods"),
    (&["metadata-service"], None, "Run the metadata service"),
    (&["rm"], None, "Remove all files and resources associated with an exited pod"),
    (&["status"], None, "Check the status of a pod"),
    (&["stop"], None, "Stop a pod"),
    (&["trust"], None, "Trust a key for image verification"),
];

/// Flags of commands that exist.
const FLAGS: &[(&[&str], &[&str])] = &[];

/// Adds the missing commands to the tree.
pub fn add_to(mut root: Command, experiment: fn(&str) -> bool) -> Command {
    for (path, needed, about) in COMMANDS {
        if needed.is_some_and(|variable| !experiment(variable)) {
            continue;
        }
        let (name, groups) = path.split_last().expect("a row names a command");
        let words = Arg::new(ID).action(ArgAction::Append).num_args(0..).hide(true);
        let command = Command::new(*name).about(format!("{about} {MARK}")).arg(words).hide(needed.is_some());
        root = match groups {
            [group] => root.mut_subcommand(group, |group| group.subcommand(command)),
            _ => root.subcommand(command),
        };
    }
    root
}

/// Tells whether a command of the tree is one of those that are missing.
pub fn is_missing(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == ID)
}

/// Tells whether a flag of this command is one of those that are missing.
pub fn is_missing_flag(path: &[&str], name: &str) -> bool {
    FLAGS.iter().any(|(command, flags)| *command == path && flags.contains(&name))
}

/// Refuses a missing command.
pub fn refuse_command(invocation: &Invocation<'_>) -> Result<(), CliError> {
    if is_missing(invocation.command()) {
        let name = invocation.names().join(" ");
        return Err(CliError::new(format!("`rkt {name}` is not supported by this version yet")));
    }
    Ok(())
}

/// Refuses a missing flag.
pub fn refuse_flags(invocation: &Invocation<'_>) -> Result<(), CliError> {
    let path = invocation.names();
    match invocation.used_flags().into_iter().find(|name| is_missing_flag(&path, name)) {
        Some(name) => Err(CliError::new(format!("--{name} is not supported by this version yet"))),
        None => Ok(()),
    }
}
