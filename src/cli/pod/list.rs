//! `rkt list` (spec cli.md 1.2.4).

use jiff::Timestamp;

use super::show::PodJson;
use crate::cli::args::Format;
use crate::cli::format::{self, timestamp};
use crate::cli::output::{self, Layout, Table};
use crate::cli::{CliError, Context, Exit};
use crate::net::plugin::Search;
use crate::pod::lifecycle::PodsDir;
use crate::pod::network;
use crate::pod::observe::{self, Observed};

/// List pods
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Suppress a legend with the list
    #[arg(long)]
    no_legend: bool,
    /// Use long output format
    #[arg(long)]
    full: bool,
    /// Select the output format: '', 'json' or 'json-pretty'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
}

/// Lists the pods that have a name.
pub fn run(args: Args, ctx: &Context) -> Result<Exit, CliError> {
    let dir = PodsDir::new(ctx.data_dir());
    let (pods, mut broken) =
        observe::all(&dir).map_err(|error| CliError::new("problem listing pods").because(error))?;
    let json: Vec<PodJson> = pods.iter().map(PodJson::new).collect();
    match args.format {
        Format::Text => print_table(&args, &pods),
        Format::Json => output::json_list(&json, Layout::Compact),
        Format::JsonPretty => output::json_list(&json, Layout::Pretty),
    }
    broken.extend(pods.into_iter().filter_map(|pod| pod.apps.err()));
    output::error_block("listing pods", &broken);
    network::release_dead(&dir, &Search::new(&ctx.local_config), output::message);
    Ok(Exit::SUCCESS)
}

fn print_table(args: &Args, pods: &[Observed]) {
    let mut table = Table::new();
    if !args.no_legend {
        let id = if args.full { &["IMAGE ID"][..] } else { &[] };
        let first = ["UUID", "APP", "IMAGE NAME"];
        table.row(first.iter().chain(id).chain(&["STATE", "CREATED", "STARTED", "NETWORKS"]).copied());
    }
    let now = Timestamp::now();
    for pod in pods {
        rows(&mut table, args, pod, now);
    }
    if pods.is_empty() && args.no_legend {
        output::line("");
    } else {
        table.print();
    }
}

/// A row an app; what is the pod's stands on the first only.
fn rows(table: &mut Table, args: &Args, pod: &Observed, now: Timestamp) {
    let time = |time: Option<std::time::SystemTime>| match time {
        None => String::new(),
        Some(time) if args.full => format::full_time(timestamp(time)),
        Some(time) => format::relative_time(timestamp(time), now),
    };
    let uuid = if args.full { pod.uuid.to_string() } else { pod.uuid.short8() };
    let pod_cells = [pod.state.as_str().to_owned(), time(pod.created), time(pod.started), pod.networks()];
    let mut apps: Vec<[String; 3]> = pod
        .apps
        .iter()
        .flatten()
        .map(|app| {
            let image = app.image_name.clone().unwrap_or_else(|| "--".into());
            [app.name.to_string(), image, app.image_id.short12()]
        })
        .collect();
    if apps.is_empty() {
        apps.push(["-", "-", "-"].map(str::to_owned));
    }
    for (index, [name, image, id]) in apps.into_iter().enumerate() {
        let first = index == 0;
        let mut row = vec![if first { uuid.clone() } else { String::new() }, name, image];
        if args.full {
            row.push(id);
        }
        row.extend(pod_cells.iter().map(|cell| if first { cell.clone() } else { String::new() }));
        table.row(row);
    }
}
