//! `rkt gc` (spec cli.md 1.2.9).

use std::time::{Duration, SystemTime};

use crate::cli::args::Period;
use crate::cli::output;
use crate::cli::{CliError, Context, Exit};
use crate::net::plugin::Search;
use crate::pod::gc::{self, Event, Pass};
use crate::pod::lifecycle::PodsDir;

/// Garbage collect pods no longer in use
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Duration to wait before discarding inactive pods from garbage
    #[arg(long, value_name = "TIME", default_value = "30m")]
    grace_period: Period,
    /// Duration to wait before expiring prepared pods
    #[arg(long, value_name = "TIME", default_value = "24h")]
    expire_prepared: Period,
    /// Only move exited and aborted pods to the garbage
    #[arg(long)]
    mark_only: bool,
}

/// Does one pass.
pub fn run(args: Args, ctx: &Context) -> Result<Exit, CliError> {
    // A negative period is over before it began.
    let length = |period: Period| period.duration().unwrap_or(Duration::ZERO);
    let pass = Pass {
        grace_period: length(args.grace_period),
        expire_prepared: length(args.expire_prepared),
        mark_only: args.mark_only,
        now: SystemTime::now(),
        search: Search::new(&ctx.local_config),
    };
    let grace_period = args.grace_period;
    gc::pass(&PodsDir::new(ctx.data_dir()), &pass, |event| match event {
        Event::Marking(uuid) => output::message(format!("moving pod \"{uuid}\" to garbage")),
        Event::FailedPrepare(uuid) => output::message(format!("moving failed prepare \"{uuid}\" to garbage")),
        Event::ExpiredPrepared(uuid) => {
            output::message(format!("moving expired prepared pod \"{uuid}\" to garbage"));
        }
        Event::InGracePeriod(uuid) => {
            output::message(format!("pod \"{uuid}\" not removed: still within grace period ({grace_period})"))
        }
        Event::Collecting(uuid) => output::line(format!("Garbage collecting pod \"{uuid}\"")),
        Event::Network(problem) => output::message(problem),
        Event::Problem(uuid, error) => {
            CliError::new(format!("error collecting pod \"{uuid}\""))
                .because(error)
                .tell_and_go_on(ctx.debug);
        }
    })
    .map_err(|error| CliError::new("error collecting pods").because(error))?;
    Ok(Exit::SUCCESS)
}
