//! One binary, several names: the last part of argv[0] chooses the program.
//!
//! Everything a program does is behind its name here; this file only turns the outcome into an exit code.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called_as = words.next().unwrap_or_default();
    match Path::new(&called_as).file_name().and_then(|name| name.to_str()) {
        Some("acbuild") => rkt::cli::acbuild::main(words).into(),
        Some("docker2aci") => rkt::cli::docker2aci::main(words).into(),
        Some("inside") => rkt::cli::inside::main(words),
        _ => rkt::cli::main(words).into(),
    }
}
