//! Help and usage texts, rendered from clap's definitions in rkt's own layout (spec cli.md 1.1.5).

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::{output::Table, version};

/// Renders the whole help of a command; `path` is the program, the groups and the command.
pub fn text(path: &[&Command]) -> String {
    let (command, names) = (leaf(path), names(path));
    let mut help = String::new();
    let title = if names.is_empty() { command.get_name().to_owned() } else { names.join(" ") };
    section(&mut help, "NAME", &format!("{title} - {}", about(command)));
    section(&mut help, "USAGE", &usage_line(path));
    if names.is_empty() {
        section(&mut help, "VERSION", version::RKT);
    }
    section(&mut help, "COMMANDS", &commands(command));
    section(&mut help, "DESCRIPTION", &description(command));
    section(&mut help, "OPTIONS", &flags(command, Whose::Own));
    section(&mut help, "GLOBAL OPTIONS", &flags(path[0], Whose::Global));
    help.pop();
    help
}

/// Renders what follows a message about a wrong word.
pub fn usage(path: &[&Command]) -> String {
    let mut usage = String::new();
    section(&mut usage, "USAGE", &usage_line(path));
    let words: Vec<_> = path.iter().map(|command| command.get_name()).collect();
    let _ = writeln!(usage, "Run '{} --help' for the options.", words.join(" "));
    usage
}

fn leaf<'c>(path: &[&'c Command]) -> &'c Command {
    path.last().expect("a path has the program at least")
}

fn names<'c>(path: &[&'c Command]) -> Vec<&'c str> {
    path.iter().skip(1).map(|command| command.get_name()).collect()
}

pub(super) fn section(help: &mut String, heading: &str, body: &str) {
    if body.is_empty() {
        return;
    }
    let _ = writeln!(help, "{heading}:");
    for line in body.lines() {
        let _ = writeln!(help, "{}{line}", if line.is_empty() { "" } else { "\t" });
    }
    help.push('\n');
}

pub(super) fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// What the long text says beyond the short one.
pub(super) fn description(command: &Command) -> String {
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    match long.split_once("\n\n") {
        Some((_, rest)) => rest.trim_end().to_owned(),
        None => String::new(),
    }
}

pub(super) fn usage_line(path: &[&Command]) -> String {
    let command = leaf(path);
    let mut words: Vec<String> = path.iter().map(|command| command.get_name().to_owned()).collect();
    if command.has_subcommands() {
        words.push(if path.len() == 1 { "[flags] COMMAND" } else { "COMMAND" }.to_owned());
    } else if command.get_arguments().any(|arg| is_shown(arg) && is_own(arg)) {
        words.push("[flags]".to_owned());
    }
    words.extend(command.get_positionals().filter(|arg| !arg.is_hide_set()).map(positional));
    words.join(" ")
}

fn positional(arg: &Arg) -> String {
    let name = value_name(arg);
    let many = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let name = if arg.is_required_set() { name } else { format!("[{name}]") };
    if many { format!("{name}...") } else { name }
}

fn value_name(arg: &Arg) -> String {
    match arg.get_value_names() {
        Some(names) => names.join(" "),
        None => arg.get_id().as_str().to_uppercase(),
    }
}

/// Lists the commands below, those of groups by their path.
fn commands(command: &Command) -> String {
    let mut rows = Vec::new();
    collect(command, "", &mut rows);
    rows.sort();
    let mut table = Table::new();
    for row in rows {
        table.row(row);
    }
    table.to_string()
}

fn collect(group: &Command, prefix: &str, rows: &mut Vec<[String; 2]>) {
    for command in group.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{prefix}{}", command.get_name());
        if command.has_subcommands() {
            collect(command, &format!("{name} "), rows);
        } else {
            rows.push([name, about(command)]);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Own,
    Global,
}

pub(super) fn flags(command: &Command, whose: Whose) -> String {
    let mut args: Vec<_> =
        command.get_arguments().filter(|arg| is_shown(arg) && (whose == Whose::Own) == is_own(arg)).collect();
    args.sort_by_key(|arg| arg.get_long());
    let mut table = Table::new();
    for arg in args {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        table.row([flag(arg), help]);
    }
    table.to_string()
}

fn is_shown(arg: &Arg) -> bool {
    arg.get_long().is_some() && !arg.is_hide_set()
}

fn is_own(arg: &Arg) -> bool {
    // clap adds `--help` to every command by itself.
    !arg.is_global_set() && arg.get_id() != "help"
}

fn flag(arg: &Arg) -> String {
    let name = arg.get_long().unwrap_or_default();
    if arg.get_id() == "help" {
        return "-h, --help".to_owned();
    }
    let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    match (arg.get_action().takes_values(), default.is_empty()) {
        (false, _) => format!("--{name}=false"),
        (true, false) => format!("--{name}={}", default.join(",")),
        (true, true) if optional => format!("--{name}[={}]", value_name(arg)),
        (true, true) => format!("--{name}={}", value_name(arg)),
    }
}
