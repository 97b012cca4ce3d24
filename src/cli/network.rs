//! How servers are reached, by the flags, the configuration and the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::{CliError, Context, Insecure};
use crate::config::{Credentials, Login};
use crate::image::fetch::{Network, Transport};
use crate::image::http::{Certificates, ClientOptions, Rate, Url};
use crate::image::oci::login::Logins;

/// The variables that name proxies, in lower case too.
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// Says how a client is to be made, if one is needed.
///
/// # Errors
/// When the configuration can't be read.
pub(super) fn of(ctx: &Context) -> Result<Network, CliError> {
    let settings = ctx.settings()?;
    let is_checked = !ctx.insecure.allows(Insecure::Tls);
    let certificates = if is_checked { Certificates::Checked } else { Certificates::Unchecked };
    let network = Network::new(options(certificates, settings.auth.clone()));
    Ok(network.with_logins(logins(settings.docker_auth.clone())))
}

/// What a client is made of in this environment.
pub(super) fn options(
    certificates: Certificates,
    credentials: BTreeMap<String, Credentials>,
) -> ClientOptions {
    let proxies = proxy_hosts(|name| std::env::var(name).ok());
    ClientOptions { certificates, credentials, proxies, least_rate: Rate::LEAST }
}

/// What registries may know the user by: what the configuration says, and the files of podman and docker.
pub(super) fn logins(configured: BTreeMap<String, Login>) -> Logins {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let environment = std::env::vars_os().filter_map(text).collect();
    Logins::new(configured, environment, rustix::process::geteuid().as_raw())
}

/// What the user allows beside HTTPS.
pub(super) fn transport(ctx: &Context) -> Transport {
    Transport {
        discovery_by_http: ctx.insecure.allows(Insecure::Http),
        keys_from_anyone: ctx.insecure.allows(Insecure::Pubkey),
        unchecked: ctx.insecure.allows(Insecure::Tls),
    }
}

/// The hosts of the proxies, which may be this one.
fn proxy_hosts(variable: impl Fn(&str) -> Option<String>) -> BTreeSet<String> {
    let host = |text: String| {
        let text = if text.contains("://") { text } else { format!("http://{text}") };
        Some(Url::parse(&text).ok()?.host_str()?.to_owned())
    };
    let names = PROXIES.iter().flat_map(|name| [(*name).to_owned(), name.to_lowercase()]);
    names.filter_map(|name| variable(&name)).filter_map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_hosts() {
        let hosts = proxy_hosts(|name| match name {
            "HTTPS_PROXY" => Some("http://user:secret@localhost:3128".into()),
            "http_proxy" => Some("127.0.0.1:8080".into()),
            "ALL_PROXY" => Some(String::new()),
            _ => None,
        });
        assert_eq!(hosts, ["127.0.0.1".to_owned(), "localhost".to_owned()].into());
    }
}
