//! `rkt run` (spec cli.md 1.2.1).

use super::wishes::{self, Wishes};
use crate::cli::pod_flags::RunFlags;
use crate::cli::{CliError, Context, Exit, output};
use crate::image::store::Store;
use crate::os::{SysError, atomic};
use crate::pod::lifecycle::PodsDir;
use crate::pod::prepare;
use crate::pod::run::{self, Host};

/// Prepares a pod and becomes its supervisor.
pub fn run(args: RunFlags, ctx: &Context) -> Result<Exit, CliError> {
    let (images, _policy) = args.check()?;
    let start = wishes::start_request(&args.start, &images.for_all, ctx)?;
    let host = Host::check().map_err(|error| CliError::new("cannot run a pod here").because(error))?;
    let store =
        Store::open(ctx.data_dir()).map_err(|error| CliError::new("cannot open store").because(error))?;
    let wishes = Wishes { flags: &args.prepare, hostname: args.start.hostname.clone() };
    let request = wishes.pod_request(&images, &store, ctx)?;

    let failed = |error| CliError::new("error setting up stage0").because(error);
    let pods = PodsDir::new(ctx.data_dir());
    let pod = pods.create().map_err(|error| CliError::new("error creating new pod").because(error))?;
    if let Some(file) = &args.uuid_file_save {
        save_uuid(file, &pod.uuid().to_string())?;
    }
    let undo = || {
        if let Some(file) = &args.uuid_file_save {
            // The pod that it names is gone.
            let _ = std::fs::remove_file(file);
        }
    };
    match prepare::fill(&pod, &store, &request) {
        Ok(notices) => notices.iter().for_each(output::message),
        Err(error) => {
            drop(pod);
            undo();
            return Err(failed(error));
        }
    }
    let error = run::start(host, pod, &store, &start, |text| output::message(text));
    undo();
    Err(CliError::new("error starting the pod").because(error))
}

fn save_uuid(file: &std::path::Path, uuid: &str) -> Result<(), CliError> {
    let saved: Result<(), SysError> = atomic::write(file, uuid.as_bytes(), 0o644);
    saved.map_err(|error| CliError::new("error saving the pod UUID to file").because(error))
}
