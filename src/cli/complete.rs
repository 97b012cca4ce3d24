//! `rkt completion SHELL`: a completion script, generated from the command tree at run time.

use clap_complete::{Shell, generate};

use super::{CliError, Context, Exit, output};

/// Output shell completion code for the specified shell
///
/// For bash, put the output where bash-completion looks, or read it at once:
///
///     source <(rkt completion bash)
///
/// Other shells: zsh, fish.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shells: Vec<String>,
}

/// Prints the script for one shell.
pub fn run(args: Args, _ctx: &Context) -> Result<Exit, CliError> {
    let shell = match args.shells.as_slice() {
        [] => return Err(CliError::new("shell type is not specified")),
        [shell] => match shell.as_str() {
            "bash" => Shell::Bash,
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            other => return Err(CliError::new(format!("'{other}' shell is not supported"))),
        },
        _ => return Err(CliError::new("too many arguments, only shell type is expected")),
    };
    let mut script = Vec::new();
    generate(shell, &mut super::command(), "rkt", &mut script);
    output::bytes(&script);
    Ok(Exit::SUCCESS)
}
