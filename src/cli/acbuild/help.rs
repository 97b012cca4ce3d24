//! Help of `acbuild`: NAME, USAGE, EXAMPLE, COMMANDS, OPTIONS (spec build-tools.md 6.1).

use clap::Command;

use super::super::help::{Whose, about, description, flags, section, usage_line};
use super::super::output::Table;

/// Renders the whole help of a command; `path` is the program, the groups and the command.
pub(super) fn text(path: &[&Command]) -> String {
    let command = path.last().expect("a path has the program at least");
    let names: Vec<_> = path.iter().map(|command| command.get_name()).collect();
    let title = if names.len() > 1 { names[1..].join(" ") } else { names.join(" ") };
    let mut help = String::new();
    section(&mut help, "NAME", &format!("{title} - {}", about(command)));
    section(&mut help, "USAGE", &usage_line(path));
    section(&mut help, "DESCRIPTION", &description(command));
    section(&mut help, "EXAMPLE", &command.get_after_help().map(ToString::to_string).unwrap_or_default());
    section(&mut help, "COMMANDS", &commands(command));
    let global = flags(path[0], Whose::Global);
    section(&mut help, "OPTIONS", &format!("{}{global}", flags(command, Whose::Own)));
    help.pop();
    help
}

/// Lists the commands, groups with what can be done in them.
fn commands(command: &Command) -> String {
    let mut rows: Vec<_> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| {
            let below: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
            let below = if below.is_empty() { String::new() } else { format!(" [{}]", below.join("|")) };
            [format!("{}{below}", command.get_name()), about(command)]
        })
        .collect();
    rows.sort();
    let mut table = Table::new();
    for row in rows {
        table.row(row);
    }
    table.to_string()
}
