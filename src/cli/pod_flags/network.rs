//! The flags of a pod's network: `--net`, `--dns*`, `--hosts-entry`, `--port` (spec network.md 4.1, cli.md 1.2.2).

use std::{net::Ipv4Addr, str::FromStr};

use super::checked::{Check, refused};
use crate::appc::name::AcName;
use crate::cli::words::WordError;

/// Which networks the pod joins.
#[derive(Clone, Debug, clap::Args)]
pub struct NetFlags {
    /// Configure the pod's networking: none, host, or a list of networks with their arguments
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "default",
          value_delimiter = ',')]
    net: Option<Vec<String>>,
}

/// The networks of a pod as asked for; see [`Checked`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// Nothing was said.
    Unsaid,
    /// The host's network namespace.
    Host,
    /// A loopback device only.
    None,
    /// Networks by name.
    Named(Vec<NamedNet>),
}

/// A network with arguments for its plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedNet {
    /// The network's name, or `all`.
    pub name: String,
    /// `K=V;K2=V2`, verbatim.
    pub arguments: Option<String>,
}

impl Net {
    /// Returns the flag that says this, if one was said.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Self::Unsaid => None,
            Self::Host => Some("--net=host".to_owned()),
            Self::None => Some("--net=none".to_owned()),
            Self::Named(nets) => {
                let one = |net: &NamedNet| match &net.arguments {
                    Some(arguments) => format!("{}:{arguments}", net.name),
                    None => net.name.clone(),
                };
                Some(format!("--net={}", nets.iter().map(one).collect::<Vec<_>>().join(",")))
            }
        }
    }
}

impl Check for NetFlags {
    type Value = Net;

    fn check(self) -> Result<Net, WordError> {
        let Some(words) = self.net else { return Ok(Net::Unsaid) };
        let bad = |reason: String| refused("net", words.join(","), reason);
        let mut nets: Vec<NamedNet> = Vec::new();
        for word in &words {
            let mut parts = word.split(':');
            let name = parts.next().unwrap_or_default().to_owned();
            let arguments: Vec<_> = parts.collect();
            if name.is_empty() {
                return Err(bad("netname must not be empty".to_owned()));
            }
            if nets.iter().any(|net| net.name == name) {
                return Err(bad(format!("found duplicate netname {name:?}")));
            }
            if !arguments.is_empty() && matches!(name.as_str(), "all" | "host") {
                return Err(bad(format!("arguments are not supported by special netname {name:?}")));
            }
            if arguments.len() > 1 {
                return Err(bad(format!("network {name:?} provided with invalid arguments: {arguments:?}")));
            }
            nets.push(NamedNet { name, arguments: arguments.first().map(|text| (*text).to_owned()) });
        }
        let has = |special: &str| nets.iter().any(|net| net.name == special);
        Ok(match (has("host"), has("none")) {
            (true, _) => Net::Host,
            (false, true) => Net::None,
            (false, false) => Net::Named(nets),
        })
    }
}

/// The resolver and the names that the apps see.
#[derive(Clone, Debug, clap::Args)]
pub struct DnsFlags {
    /// Name server to write in /etc/resolv.conf, or host, or none
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub dns: Vec<String>,
    /// DNS search domain to write in /etc/resolv.conf
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub dns_search: Vec<String>,
    /// DNS option to write in /etc/resolv.conf
    #[arg(long, value_name = "OPTION", value_delimiter = ',')]
    pub dns_opt: Vec<String>,
    /// DNS domain to write in /etc/resolv.conf
    #[arg(long, value_name = "DOMAIN")]
    pub dns_domain: Option<String>,
    /// Lines to add to /etc/hosts, or host for the host's file
    #[arg(long, value_name = "IP=NAME,...")]
    pub hosts_entry: Vec<String>,
}

/// `--port NAME:[HOSTIP:]HOSTPORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortForward {
    /// The port's name in an app's manifest.
    pub name: AcName,
    /// The host's address, if not all of them.
    pub host_ip: Option<Ipv4Addr>,
    /// Never 0.
    pub host_port: u16,
}

impl FromStr for PortForward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split(':').collect();
        let (name, ip, port) = match parts.as_slice() {
            [name, port] => (*name, None, *port),
            [name, ip, port] => (*name, Some(*ip), *port),
            _ => {
                return Err(format!(
                    "{text:?} is not in name:[ip:]port format, such as http:8080 or http:127.0.0.1:8080; the name is \
                     that of a port of an image"
                ));
            }
        };
        let name = name.parse::<AcName>().map_err(|error| error.to_string())?;
        let address = |ip: &str| ip.parse().map_err(|_| format!("{ip:?} is not an IP address"));
        let host_ip = ip.map(address).transpose()?;
        match port.parse() {
            Ok(host_port) if host_port > 0 => Ok(Self { name, host_ip, host_port }),
            _ => Err(format!("{port:?} is not a port between 1 and 65535")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(words: &str) -> Result<Net, String> {
        let words = words.split(',').map(str::to_owned).collect();
        NetFlags { net: Some(words) }.check().map_err(|error| error.to_string())
    }

    #[test]
    fn networks_are_a_list_in_which_host_and_none_win() {
        let named = |name: &str, arguments: Option<&str>| NamedNet {
            name: name.to_owned(),
            arguments: arguments.map(str::to_owned),
        };
        assert_eq!(net("default"), Ok(Net::Named(vec![named("default", None)])));
        assert_eq!(
            net("a:IP=1.2.3.4;X=y,b"),
            Ok(Net::Named(vec![named("a", Some("IP=1.2.3.4;X=y")), named("b", None)]))
        );
        assert_eq!((net("a,none,host"), net("a,none")), (Ok(Net::Host), Ok(Net::None)));
        for (words, reason) in [
            ("", "netname must not be empty"),
            ("a,,b", "netname must not be empty"),
            ("a,a", r#"found duplicate netname "a""#),
            ("host:x", r#"arguments are not supported by special netname "host""#),
            ("all:x", r#"arguments are not supported by special netname "all""#),
            ("a:b:c", r#"network "a" provided with invalid arguments: ["b", "c"]"#),
        ] {
            assert_eq!(net(words), Err(format!("invalid argument {words:?} for --net={words}: {reason}")));
        }
    }

    #[test]
    fn ports_have_a_name_a_number_and_perhaps_an_address() {
        let name: AcName = "www".parse().expect("an AC name");
        let forward = |host_ip, host_port| PortForward { name: name.clone(), host_ip, host_port };
        assert_eq!("www:80".parse(), Ok(forward(None, 80)));
        assert_eq!("www:10.0.0.1:80".parse(), Ok(forward(Some([10, 0, 0, 1].into()), 80)));
        for (text, error) in [
            (
                "www",
                r#""www" is not in name:[ip:]port format, such as http:8080 or http:127.0.0.1:8080; the name is that of a port of an image"#,
            ),
            (
                "a:b:c:d",
                r#""a:b:c:d" is not in name:[ip:]port format, such as http:8080 or http:127.0.0.1:8080; the name is that of a port of an image"#,
            ),
            ("www:x:80", r#""x" is not an IP address"#),
            ("www:0", r#""0" is not a port between 1 and 65535"#),
            ("www:65536", r#""65536" is not a port between 1 and 65535"#),
        ] {
            assert_eq!(text.parse::<PortForward>(), Err(error.into()), "{text}");
        }
        assert!("WWW:80".parse::<PortForward>().is_err());
    }
}
