//! `rkt config` (spec config.md 5.5): what the files say together, shaped like files.

use serde_json::{Value, json};

use super::{
    CliError, Context, Exit,
    output::{self, Layout},
};
use crate::config::{Credentials, Login, Settings};

/// Print the merged configuration in JSON format
///
/// Secrets are printed in clear.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Indent the output with tabs
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pretty_print: bool,
}

/// Prints one object whose entries have one domain or registry each.
pub fn run(args: &Args, ctx: &Context) -> Result<Exit, CliError> {
    let entries = entries(ctx.settings()?);
    let layout = if args.pretty_print { Layout::Pretty } else { Layout::Compact };
    output::json(&json!({ "stage0": entries }), layout);
    Ok(Exit::SUCCESS)
}

fn entries(settings: &Settings) -> Vec<Value> {
    let mut entries: Vec<Value> = settings
        .auth
        .iter()
        .map(|(domain, credentials)| {
            let (kind, credentials) = shown(credentials);
            json!({
                "rktVersion": "v1", "rktKind": "auth", "domains": [domain], "type": kind, "credentials": credentials,
            })
        })
        .collect();
    entries.extend(settings.docker_auth.iter().map(|(registry, login)| {
        json!({
            "rktVersion": "v1", "rktKind": "dockerAuth", "registries": [registry], "credentials": shown_login(login),
        })
    }));
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    };
    entries.push(json!({
        "rktVersion": "v1", "rktKind": "paths",
        "data": path(&settings.paths.data), "stage1-images": path(&settings.paths.stage1_images),
    }));
    let (name, version) = settings.stage1.image.clone().unwrap_or_default();
    entries.push(json!({
        "rktVersion": "v1", "rktKind": "stage1",
        "name": name, "version": version, "location": settings.stage1.location.clone().unwrap_or_default(),
    }));
    entries
}

fn shown(credentials: &Credentials) -> (&'static str, Value) {
    match credentials {
        Credentials::Basic(login) => ("basic", shown_login(login)),
        Credentials::OAuth { token } => ("oauth", json!({ "token": token.reveal() })),
        Credentials::Aws { access_key_id, secret_access_key, region } => (
            "aws",
            json!({
                "accessKeyID": access_key_id, "secretAccessKey": secret_access_key.reveal(), "awsRegion": region,
            }),
        ),
    }
}

fn shown_login(login: &Login) -> Value {
    json!({ "user": login.user, "password": login.password.reveal() })
}
