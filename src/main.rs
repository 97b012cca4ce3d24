//! One binary, several names: the last part of argv[0] chooses the program.
//!
//! Everything a program does is behind its name here; this file only turns the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let _called_as = words.next();
    rkt::cli::main(words).into()
}
