//! The files below /etc that rkt makes for every app: hosts, hostname, resolv.conf and mtab (spec pods.md 3.7.2).
//!
//! They are written when the pod starts, into the app's own layer or copy, through directory descriptors: a link that
//! the image has there is replaced, never followed, and an /etc that is itself a link is left alone. What goes into them
//! is checked to be names and addresses, so that a flag or a plugin can't add lines of its own.

use std::ffi::OsStr;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use rustix::fs::{FileType, Stat};

use crate::appc::name::AcName;
use crate::os::{Hint, SysError, root::Root};

/// The files of the host that can be asked for.
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";
const HOST_HOSTS: &str = "/etc/hosts";

/// What the user wants of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcRequest {
    /// Of `/etc/resolv.conf`.
    pub resolv_conf: ResolvConf,
    /// Of `/etc/hosts`.
    pub hosts: Hosts,
}

/// Where `/etc/resolv.conf` comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ResolvConf {
    /// From the network's plugins, else from the image.
    #[default]
    Default,
    /// From the user.
    Generated(Resolver),
    /// From the host.
    Host,
    /// From the image.
    None,
}

/// What `/etc/resolv.conf` says (resolv.conf(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// `search`.
    pub search: Vec<DnsName>,
    /// `nameserver`.
    pub name_servers: Vec<IpAddr>,
    /// `options`.
    pub options: Vec<ResolverOption>,
    /// `domain`.
    pub domain: Option<DnsName>,
}

/// Where `/etc/hosts` comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Hosts {
    /// From the image, or it has localhost and the pod's own name.
    #[default]
    Default,
    /// The default file with these lines behind it.
    Entries(Vec<HostsEntry>),
    /// From the host.
    Host,
}

/// A line of `/etc/hosts` (hosts(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsEntry {
    /// The address.
    pub address: IpAddr,
    /// Its names.
    pub names: Vec<DnsName>,
}

/// A host or domain name: letters, digits, dashes, dots and underscores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsName(String);

/// An option of the resolver such as `ndots:2`: small letters, digits, dashes, underscores and a colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverOption(String);

/// The text is no name, or no option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct WordError {
    what: &'static str,
    text: String,
}

impl FromStr for DnsName {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        /// Of a domain name in text (RFC 1035, 2.3.4).
        const LONGEST: usize = 253;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError { what: "host or domain name", text: text.to_owned() })
        }
    }
}

impl FromStr for ResolverOption {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const LONGEST: usize = 64;
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_:".contains(&byte);
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError { what: "option of the resolver", text: text.to_owned() })
        }
    }
}

impl AsRef<str> for DnsName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ResolverOption {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What the plugins of a network say about name servers, as they say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginDns {
    /// The network.
    pub network: String,
    /// Addresses of name servers.
    pub nameservers: Vec<String>,
    /// The domain.
    pub domain: Option<String>,
    /// Domains to search.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

impl PluginDns {
    /// Takes what is right, and says what is not.
    fn checked(&self, notices: &mut Vec<String>) -> Resolver {
        let mut left_out = |problem: String| {
            let network = &self.network;
            notices.push(format!("the plugins of the network {network:?} say {problem}, which is left out"));
        };
        let address = |text: &String| text.parse().map_err(|_| format!("name server {text:?}"));
        Resolver {
            search: kept(&self.search, |text| word(text), &mut left_out),
            name_servers: kept(&self.nameservers, address, &mut left_out),
            options: kept(&self.options, |text| word(text), &mut left_out),
            domain: kept(self.domain.as_slice(), |text| word(text), &mut left_out).pop(),
        }
    }

    fn is_empty(&self) -> bool {
        self.nameservers.is_empty()
            && self.domain.is_none()
            && self.search.is_empty()
            && self.options.is_empty()
    }
}

fn word<T: FromStr<Err = WordError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: WordError| error.to_string())
}

fn kept<T>(
    texts: &[String],
    parse: impl Fn(&String) -> Result<T, String>,
    left_out: &mut impl FnMut(String),
) -> Vec<T> {
    texts.iter().filter_map(|text| parse(text).map_err(&mut *left_out).ok()).collect()
}

/// Why a file can't be made.
#[derive(Debug, thiserror::Error)]
pub enum EtcError {
    /// A directory stands there.
    #[error("app \"{app}\": /etc/{file} can't be made: its image has a directory there")]
    InTheWay {
        /// The app.
        app: AcName,
        /// The file.
        file: &'static str,
    },
    /// The image's /etc can't have files.
    #[error("app \"{app}\": /etc/{file} can't be made: /etc is no directory in its image")]
    NoEtc {
        /// The app.
        app: AcName,
        /// The file.
        file: &'static str,
    },
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for EtcError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::InTheWay { file: "hosts", .. } | Self::NoEtc { file: "hosts", .. } => {
                Some("leave --hosts-entry out, or use another image".into())
            }
            Self::InTheWay { .. } | Self::NoEtc { .. } => {
                Some("leave the --dns flags out, or use another image".into())
            }
            Self::Sys(error) => error.hint(),
        }
    }
}

/// An app's root, into which its files are written.
#[derive(Debug)]
pub struct AppRootWriter {
    /// The app.
    pub app: AcName,
    /// The root as the app will see it.
    pub root: Root,
    /// The root as its image has it.
    pub image: Root,
    /// The pod's host name.
    pub hostname: String,
}

/// How much a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// The user asked for it: it is there, or the pod does not start.
    Asked,
    /// The network has it; an image that has no place for it is told of.
    Offered,
    /// It is there if there is a place for it.
    Usual,
}

struct Wanted {
    file: &'static str,
    text: Vec<u8>,
    wish: Wish,
}

/// Writes the files of all apps, and returns what the user should know.
///
/// # Errors
/// When a file that the user asked for can't be made, or the kernel refuses a step.
pub fn apply(
    roots: &[AppRootWriter],
    request: &EtcRequest,
    plugin_dns: Option<&PluginDns>,
) -> Result<Vec<String>, EtcError> {
    let mut notices = Vec::new();
    let resolv_conf = resolv_conf(&request.resolv_conf, plugin_dns, &mut notices)?;
    let host_hosts = match &request.hosts {
        Hosts::Host => Some(host_file(HOST_HOSTS)?),
        Hosts::Default | Hosts::Entries(_) => None,
    };
    for app in roots {
        let hosts = match (&request.hosts, &host_hosts) {
            (Hosts::Entries(entries), _) => Some((hosts(&app.hostname, entries).into(), Wish::Asked)),
            (_, Some(text)) => Some((text.clone(), Wish::Asked)),
            (Hosts::Default | Hosts::Host, None) => {
                let image_has_it = app.has_in_image("hosts")?;
                (!image_has_it).then(|| (hosts(&app.hostname, &[]).into(), Wish::Usual))
            }
        };
        let mut files =
            vec![Wanted { file: "hostname", text: format!("{}\n", app.hostname).into(), wish: Wish::Usual }];
        files.extend(hosts.map(|(text, wish)| Wanted { file: "hosts", text, wish }));
        files.extend(resolv_conf.as_ref().map(|(text, wish)| Wanted {
            file: "resolv.conf",
            text: text.clone(),
            wish: *wish,
        }));
        notices.extend(app.write(&files)?);
    }
    Ok(notices)
}

fn resolv_conf(
    request: &ResolvConf,
    plugin_dns: Option<&PluginDns>,
    notices: &mut Vec<String>,
) -> Result<Option<(Vec<u8>, Wish)>, SysError> {
    Ok(match (request, plugin_dns) {
        (ResolvConf::None, _) | (ResolvConf::Default, None) => None,
        (ResolvConf::Host, _) => Some((host_file(HOST_RESOLV_CONF)?, Wish::Asked)),
        (ResolvConf::Generated(resolver), _) => {
            Some((resolver.text("# Generated by rkt run").into(), Wish::Asked))
        }
        (ResolvConf::Default, Some(dns)) if dns.is_empty() => None,
        (ResolvConf::Default, Some(dns)) => {
            let network: String = dns.network.chars().filter(|c| !c.is_control()).collect();
            let text = dns.checked(notices).text(&format!("# Generated by rkt from the network {network}"));
            Some((text.into(), Wish::Offered))
        }
    })
}

/// The host's own may be a link to anywhere on it: who may start pods reads it anyway.
fn host_file(path: &str) -> Result<Vec<u8>, SysError> {
    std::fs::read(path).map_err(SysError::on("reading", path))
}

impl Resolver {
    fn text(&self, first_line: &str) -> String {
        let mut text = format!("{first_line}\n\n");
        let mut line = |key: &str, words: Vec<String>| {
            if !words.is_empty() {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{key} {}", words.join(" "));
            }
        };
        line("search", words(&self.search));
        for server in &self.name_servers {
            line("nameserver", vec![server.to_string()]);
        }
        line("options", words(&self.options));
        line("domain", words(self.domain.as_slice()));
        text
    }
}

fn words<T: AsRef<str>>(list: &[T]) -> Vec<String> {
    list.iter().map(|word| word.as_ref().to_owned()).collect()
}

/// The default hosts file (spec pods.md 3.7.2), and a line for each entry.
fn hosts(hostname: &str, entries: &[HostsEntry]) -> String {
    let mut text = format!(
        "127.0.0.1 localhost localhost.domain localhost4 localhost4.localdomain4 {hostname}\n\
         ::1 localhost localhost.domain localhost6 localhost6.localdomain6\n"
    );
    for entry in entries {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {}", entry.address, words(&entry.names).join(" "));
    }
    text
}

impl AppRootWriter {
    fn has_in_image(&self, file: &str) -> Result<bool, SysError> {
        match self.image.find_entry(OsStr::new("etc"))? {
            Some(found) if is_directory(&found) => {
                Ok(self.image.descend("etc")?.find_entry(OsStr::new(file))?.is_some())
            }
            _ => Ok(false),
        }
    }

    fn write(&self, files: &[Wanted]) -> Result<Vec<String>, EtcError> {
        let image_has_etc = self.image.find_entry(OsStr::new("etc"))?.is_some();
        let etc = match self.root.find_entry(OsStr::new("etc"))? {
            Some(found) if is_directory(&found) => self.root.descend("etc")?,
            Some(_) => return self.without_etc(files),
            None => {
                self.root.make_dir("etc", 0o755)?;
                self.root.descend("etc")?
            }
        };
        let mut notices = Vec::new();
        for Wanted { file, text, wish } in files {
            match (etc.find_entry(OsStr::new(file))?, wish) {
                (Some(found), Wish::Asked) if is_directory(&found) => {
                    return Err(EtcError::InTheWay { app: self.app.clone(), file });
                }
                (Some(found), Wish::Offered) if is_directory(&found) => notices.push(self.left_alone(file)),
                (Some(found), Wish::Usual) if is_directory(&found) => {}
                _ => etc.replace_file(file, text, 0o644)?,
            }
        }
        if image_has_etc && etc.find_entry(OsStr::new("mtab"))?.is_none() {
            etc.link("mtab", "../proc/self/mounts")?;
        }
        Ok(notices)
    }

    fn without_etc(&self, files: &[Wanted]) -> Result<Vec<String>, EtcError> {
        if let Some(Wanted { file, .. }) = files.iter().find(|wanted| wanted.wish == Wish::Asked) {
            return Err(EtcError::NoEtc { app: self.app.clone(), file });
        }
        let offered = files.iter().filter(|wanted| wanted.wish == Wish::Offered);
        Ok(offered.map(|wanted| self.left_alone(wanted.file)).collect())
    }

    fn left_alone(&self, file: &str) -> String {
        let app = &self.app;
        format!(
            "app \"{app}\": its image has no place for /etc/{file}, the name servers of the network are left out"
        )
    }
}

fn is_directory(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::Directory
}

/// Opens the root of an app in the file tree of its pod and that of its image.
///
/// # Errors
/// When one can't be opened.
pub fn app_root(app: &AcName, root: &Path, image: &Path, hostname: &str) -> Result<AppRootWriter, SysError> {
    Ok(AppRootWriter {
        app: app.clone(),
        root: Root::open(root)?,
        image: Root::open(image)?,
        hostname: hostname.to_owned(),
    })
}

#[cfg(test)]
mod tests;
