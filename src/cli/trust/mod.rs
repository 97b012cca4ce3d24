//! `rkt trust`: keys into the key store (spec cli.md 1.3.9).

pub mod review;

use std::path::PathBuf;

use self::review::{Review, Reviewing};
use super::{CliError, Context, Exit, Insecure, network};
use crate::appc::name::AcIdentifier;
use crate::image::fetch::{FetchError, Fetcher, Network, OfferedKey, Signatures, Transport, download_key};
use crate::image::http::Url;
use crate::image::oci::name::{RegistryPrefix, RegistryPrefixError};
use crate::image::store::Store;
use crate::image::trust::{Scope, SelfSignatures, TrustedFor, key};
use crate::os::{Hint as _, SysError, file};

/// Trust a key for image verification
///
/// Keys are files, or https:// URLs: OpenPGP keys, ASCII-armored, for App Container Images; and for images of registries,
/// with a prefix that begins with docker://, ECDSA P-256 and Ed25519 keys in PEM, by which cosign signs. Without any, OpenPGP
/// keys are discovered from the prefix. Each is shown with its fingerprint, to be compared with what its owner says.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trust the key for images whose name is, or is below, this prefix: NAME, or docker://REGISTRY[:PORT][/NAME]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Trust the key for all App Container Images
    #[arg(long)]
    root: bool,
    /// Trust the key without a question
    #[arg(long)]
    skip_fingerprint_review: bool,
    /// Allow plain HTTP for discovery and for the key
    #[arg(long)]
    insecure_allow_http: bool,
    /// Believe the SHA-1 signatures that a key from before 2015 has over itself; images must be signed better all the same
    #[arg(long)]
    allow_sha1_key: bool,
    /// The keys
    #[arg(value_name = "PUBKEY")]
    keys: Vec<String>,
}

/// Finds the keys, shows them, and stores those that the user trusts.
pub fn run(args: &Args, ctx: &Context) -> Result<Exit, CliError> {
    let scope = scope(args)?;
    if ctx.insecure.allows(Insecure::Image) {
        return Err(CliError::new("could not get the keystore")
            .hint("leave --insecure-options=image away: with it no key is of use"));
    }
    let trusted_for = scope.parse()?;
    if args.allow_sha1_key && matches!(trusted_for, TrustedFor::Images(_)) {
        return Err(CliError::new(
            "--allow-sha1-key is for OpenPGP keys, and none is trusted for a registry",
        ));
    }
    let transport = transport(args, ctx);
    let network = network::of(ctx)?;
    let keys = match (&trusted_for, args.keys.is_empty()) {
        (TrustedFor::Names(Scope::Root), true) => {
            return Err(CliError::new("error determining key location: empty prefix"));
        }
        (TrustedFor::Names(Scope::Prefix(prefix)), true) => discovered(prefix, &network, transport, ctx)?,
        (TrustedFor::Images(prefix), true) => return Err(not_discovered(prefix)),
        (_, false) => named(&args.keys, &network, transport)?,
    };
    let review = Review {
        keystore: &ctx.keystore(),
        trusted_for: &trusted_for,
        reviewing: match (args.skip_fingerprint_review, ctx.trust_keys_from_https) {
            (true, _) => Reviewing::Skip,
            (false, true) => Reviewing::SkipForHttps,
            (false, false) => Reviewing::Ask,
        },
        self_signatures: if args.allow_sha1_key {
            SelfSignatures::Sha1Allowed
        } else {
            SelfSignatures::Strong
        },
    };
    review.offer(&keys).map_err(|error| match error.hint {
        Some(hint) => CliError::new(format!("error adding keys: {}", error.text)).hint(hint),
        None => CliError::new(format!("error adding keys: {}", error.text)),
    })?;
    Ok(Exit::SUCCESS)
}

/// What the flags say the keys are for, not parsed yet.
enum Said<'a> {
    Root,
    Prefix(&'a str),
}

fn scope(args: &Args) -> Result<Said<'_>, CliError> {
    match (args.prefix.as_deref(), args.root) {
        (None, false) if args.keys.is_empty() => Err(CliError::usage()),
        (None, false) => Err(CliError::new(
            "aborting due to implicit unbounded trust (root domain)\n\
             to trust the key for images below a prefix: rkt trust --prefix PREFIX PUBKEY\n\
             to trust the key for all images: rkt trust --root PUBKEY",
        )),
        (Some(_), true) => Err(CliError::new("--root and --prefix usage mutually exclusive")),
        (Some(prefix), false) => Ok(Said::Prefix(prefix)),
        (None, true) => Ok(Said::Root),
    }
}

impl Said<'_> {
    fn parse(self) -> Result<TrustedFor, CliError> {
        let Self::Prefix(text) = self else { return Ok(TrustedFor::Names(Scope::Root)) };
        if text.starts_with(RegistryPrefix::SCHEME) {
            let invalid = |error: RegistryPrefixError| match error.hint() {
                Some(hint) => CliError::new(error.to_string()).hint(hint),
                None => CliError::new(error.to_string()),
            };
            return text.parse().map(TrustedFor::Images).map_err(invalid);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            let problem = format!("--prefix must not contain a URL scheme, omit {scheme}://");
            return Err(CliError::new(problem));
        }
        text.parse().map(|prefix| TrustedFor::Names(Scope::Prefix(prefix))).map_err(
            |error: crate::appc::name::NameError| {
                let failed = CliError::new("error determining key location").because_of(&error);
                match error.hint() {
                    Some(hint) => failed.hint(hint),
                    None => failed,
                }
            },
        )
    }
}

fn not_discovered(prefix: &RegistryPrefix) -> CliError {
    CliError::new("error determining key location: keys for images of registries are not discovered")
        .hint(format!("name the file with the publisher's key: rkt trust --prefix={prefix} PUBKEY"))
}

fn transport(args: &Args, ctx: &Context) -> Transport {
    let allowed = network::transport(ctx);
    if args.insecure_allow_http {
        Transport { discovery_by_http: true, keys_from_anyone: true, ..allowed }
    } else {
        allowed
    }
}

fn discovered(
    prefix: &AcIdentifier,
    network: &Network,
    transport: Transport,
    ctx: &Context,
) -> Result<Vec<OfferedKey>, CliError> {
    check_certificates(transport)?;
    let fetcher = Fetcher {
        store: &Store::look(ctx.data_dir()),
        keystore: &ctx.keystore(),
        signatures: Signatures::Required,
        demanded: None,
        network,
        transport,
        offer_keys: &|_, _| Ok(()),
        tell: &|_| {},
        progress: &|_, _| {},
    };
    fetcher.keys_of(prefix).map_err(|error| CliError::new("error determining key location").because(error))
}

/// Reads the keys that the user named.
fn named(keys: &[String], network: &Network, transport: Transport) -> Result<Vec<OfferedKey>, CliError> {
    keys.iter()
        .map(|location| match location.split_once("://") {
            None => read(location),
            Some(("https", _)) => download(location, network, transport),
            Some(("http", _)) if transport.discovery_by_http && transport.keys_from_anyone => {
                download(location, network, transport)
            }
            Some(("http", _)) => {
                Err(CliError::new("error adding keys: --insecure-allow-http required for http URLs"))
            }
            Some(_) => {
                Err(CliError::new("error adding keys: only local files and http or https URLs supported"))
            }
        })
        .collect()
}

fn read(location: &str) -> Result<OfferedKey, CliError> {
    let failed = |error: SysError| CliError::new("error adding keys").because(error);
    let path =
        PathBuf::from(location).canonicalize().map_err(SysError::on("opening", location)).map_err(failed)?;
    let text = file::read(&path).map_err(failed)?;
    if text.len() > key::LIMIT {
        return Err(CliError::new(format!("error adding keys: {location} is too large for a key")));
    }
    Ok(OfferedKey { location: location.to_owned(), text })
}

fn download(location: &str, network: &Network, transport: Transport) -> Result<OfferedKey, CliError> {
    check_certificates(transport)?;
    let url = Url::parse(location)
        .map_err(|error| CliError::new(format!("error adding keys: {location}")).because_of(&error))?;
    let failed = |error: FetchError| CliError::new("error adding keys").because(error);
    let client = network.client().map_err(|error| CliError::new("error adding keys").because(error))?;
    client.know_host(url.host_str().unwrap_or_default());
    download_key(client, &url).map_err(failed)
}

/// A key from a server that need not prove who it is could be anybody's.
fn check_certificates(transport: Transport) -> Result<(), CliError> {
    if transport.unchecked && !transport.keys_from_anyone {
        return Err(CliError::new("error adding keys: with --insecure-options=tls no keys are downloaded")
            .hint("--insecure-options=tls,pubkey downloads them from whoever answers"));
    }
    Ok(())
}
