//! `rkt status` (spec cli.md 1.2.5).

use std::str::FromStr;
use std::time::{Duration, Instant};

use super::show::PodJson;
use super::target::{BesideFile, OnePod};
use crate::cli::args::{self, Format, Period};
use crate::cli::output::{self, Layout};
use crate::cli::{CliError, Context, Exit, format};
use crate::net::plugin::Search;
use crate::pod::lifecycle::PodsDir;
use crate::pod::network;
use crate::pod::observe::{self, ObserveError, Observed, State};

/// Check the status of a pod
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Wait until the pod has exited: without limit, or for a time such as 10s
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false")]
    wait: Wait,
    /// Wait until the pod is ready: without limit, or for a time such as 10s
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false")]
    wait_ready: Wait,
    /// Select the output format: '', 'json' or 'json-pretty'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    #[command(flatten)]
    pod: OnePod,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Not at all.
    No,
    /// Without limit.
    Forever,
    /// At most so long.
    For(Duration),
}

impl FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match args::boolean(text) {
            Ok(true) => return Ok(Self::Forever),
            Ok(false) => return Ok(Self::No),
            Err(_) if text.is_empty() => return Ok(Self::Forever),
            Err(_) => {}
        }
        let period: Period =
            text.parse().map_err(|_| format!("{text:?} is neither a boolean nor a length of time"))?;
        Ok(match period.duration() {
            None => Self::Forever,
            Some(Duration::ZERO) => Self::No,
            Some(duration) => Self::For(duration),
        })
    }
}

impl Wait {
    fn until(self, reached: impl FnOnce(Option<Instant>) -> Result<bool, ObserveError>) -> Result<(), Late> {
        let deadline = match self {
            Self::No => return Ok(()),
            Self::Forever => None,
            Self::For(duration) => Instant::now().checked_add(duration),
        };
        match reached(deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Late::Deadline),
            Err(error) => Err(Late::Observe(error)),
        }
    }
}

enum Late {
    Deadline,
    Observe(ObserveError),
}

impl Late {
    fn told(self, waiting_for: &str) -> CliError {
        let error = CliError::new(format!("error waiting for {waiting_for}"));
        match self {
            Self::Deadline => {
                CliError::new(format!("error waiting for {waiting_for}: context deadline exceeded"))
            }
            Self::Observe(cause) => error.because(cause),
        }
    }
}

/// Shows one pod, perhaps after it has come so far.
pub fn run(args: Args, ctx: &Context) -> Result<Exit, CliError> {
    let (pods, uuid) = args.pod.find(ctx, BesideFile::Nothing)?;
    args.wait_ready
        .until(|deadline| observe::wait_ready(&pods, &uuid, deadline))
        .map_err(|late| late.told("pod readiness"))?;
    args.wait
        .until(|deadline| observe::wait_exited(&pods, &uuid, deadline))
        .map_err(|late| late.told("pod to finish"))?;
    let pod = look(&pods, &uuid)?;
    match args.format {
        Format::Text => print(&pod),
        Format::Json => output::json(&PodJson::new(&pod), Layout::Compact),
        Format::JsonPretty => output::json(&PodJson::new(&pod), Layout::Pretty),
    }
    if let Err(error) = &pod.apps {
        output::message(error);
    }
    network::release_if_dead(&pods, &uuid, &Search::new(&ctx.local_config), output::message);
    Ok(Exit::SUCCESS)
}

fn look(pods: &PodsDir, uuid: &crate::appc::pod_uuid::PodUuid) -> Result<Observed, CliError> {
    observe::pod(pods, uuid).map_err(|error| CliError::new("problem retrieving pod").because(error))
}

fn print(pod: &Observed) {
    output::line(format!("state={}", pod.state.as_str()));
    let time = |time| format::full_time(format::timestamp(time));
    if let Some(created) = pod.created {
        output::line(format!("created={}", time(created)));
    }
    if let Some(started) = pod.started {
        output::line(format!("started={}", time(started)));
    }
    if pod.state == State::Running || pod.state.has_exited() {
        output::line(format!("networks={}", pod.networks()));
        if let Some(init) = pod.find_init() {
            output::line(format!("pid={}", init.pid()));
        }
        let exited = matches!(pod.state, State::Exited | State::ExitedGarbage);
        output::line(format!("exited={exited}"));
    }
    for app in pod.apps.iter().flatten() {
        if let Some(signer) = &app.image_signer {
            output::line(format!("signer-{}={signer}", app.name));
        }
    }
    if pod.state != State::Running {
        for app in pod.apps.iter().flatten() {
            if let Some(end) = app.end {
                output::line(format!("app-{}={}", app.name, end.exit_code));
            }
        }
    }
}
