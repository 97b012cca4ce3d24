//! `rkt version`: what this program is and what it was built with.

use super::{CliError, Context, Exit, output};

/// The version of rkt.
pub const RKT: &str = env!("CARGO_PKG_VERSION");

/// The version of the App Container specification that manifests are written for.
pub const APPC: &str = "0.8.11";

/// Print the version and exit
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints the version.
pub fn run(_args: Args, _ctx: &Context) -> Result<Exit, CliError> {
    output::print(&text());
    Ok(Exit::SUCCESS)
}

/// Returns the lines of `rkt version`. Scripts read the first one; the third has kept its name from the first rkt.
pub fn text() -> String {
    format!(
        "rkt Version: {RKT}\n\
         appc Version: {APPC}\n\
         Go Version: n/a (Rust {})\n\
         Go OS/Arch: {}/{}\n\
         Features: -TPM +SDJOURNAL\n",
        env!("CARGO_PKG_RUST_VERSION"),
        std::env::consts::OS,
        architecture(),
    )
}

/// The name that images have for the machine's architecture in their `arch` label.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        other => other,
    }
}
