//! Writes the manual pages, `rkt.1`, `acbuild.1` and one for each command, into a directory: `cargo run --example man -- DIR`.
//!
//! They are made from the same definitions as the help texts; `make install` calls this.

use std::{error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let dir: PathBuf = std::env::args_os().nth(1).ok_or("usage: man DIR")?.into();
    std::fs::create_dir_all(&dir)?;
    clap_mangen::generate_to(rkt::cli::command(), &dir)?;
    clap_mangen::generate_to(rkt::cli::acbuild::command(), &dir)?;
    Ok(())
}
