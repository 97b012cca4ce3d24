//! The flags --dns, --dns-search, --dns-opt, --dns-domain and --hosts-entry together (spec cli.md 1.2.1, pods.md 3.7.2).

use std::net::IpAddr;
use std::str::FromStr;

use crate::cli::CliError;
use crate::cli::pod_flags::network::DnsFlags;
use crate::os::Hint;
use crate::pod::etc::{DnsName, EtcRequest, Hosts, HostsEntry, ResolvConf, Resolver, WordError};

/// Why the flags mean nothing together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum DnsError {
    #[error("no other --dns options allowed when --dns={0} is passed")]
    NotAlone(&'static str),
    #[error("Cannot call --dns-opt, --dns-search, or --dns-domain with --dns=none")]
    WithNone,
    #[error("Invalid IP passed to --dns: {0}")]
    Address(String),
    #[error("invalid value in --{flag}: {problem}")]
    Word { flag: &'static str, problem: WordError },
    #[error("cannot pass --hosts-entry=host with multiple hosts-entries")]
    HostsNotAlone,
    #[error("Did not understand --hosts-entry {0}")]
    Entry(String),
    #[error("Invalid IP passed to --hosts-entry: {0}")]
    EntryAddress(String),
}

impl Hint for DnsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Address(_) => Some("give an address such as 192.0.2.1, or host, or none".into()),
            Self::Entry(_) | Self::EntryAddress(_) | Self::HostsNotAlone => {
                Some("an entry looks like 192.0.2.1=NAME; host alone stands for the host's file".into())
            }
            Self::NotAlone(_) | Self::WithNone => Some("leave one of them out".into()),
            Self::Word { .. } => None,
        }
    }
}

/// Makes the request of the flags.
///
/// # Errors
/// The first flag that means nothing, or nothing beside the others.
pub fn request(flags: &DnsFlags) -> Result<EtcRequest, CliError> {
    let both = || Ok(EtcRequest { resolv_conf: resolv_conf(flags)?, hosts: hosts(&flags.hosts_entry)? });
    both().map_err(|error: DnsError| CliError::new("error with dns flags").because(error))
}

fn resolv_conf(flags: &DnsFlags) -> Result<ResolvConf, DnsError> {
    let words = !flags.dns_search.is_empty() || !flags.dns_opt.is_empty() || flags.dns_domain.is_some();
    let has = |word: &str| flags.dns.iter().any(|value| value == word);
    if has("host") {
        return if words || flags.dns.len() > 1 {
            Err(DnsError::NotAlone("host"))
        } else {
            Ok(ResolvConf::Host)
        };
    }
    if has("none") {
        return match (words, flags.dns.len()) {
            (true, _) => Err(DnsError::WithNone),
            (false, 1) => Ok(ResolvConf::None),
            (false, _) => Err(DnsError::NotAlone("none")),
        };
    }
    if !words && flags.dns.is_empty() {
        return Ok(ResolvConf::Default);
    }
    let address = |text: &String| text.parse().map_err(|_| DnsError::Address(text.clone()));
    Ok(ResolvConf::Generated(Resolver {
        name_servers: flags.dns.iter().map(address).collect::<Result<_, _>>()?,
        search: parsed("dns-search", &flags.dns_search)?,
        options: parsed("dns-opt", &flags.dns_opt)?,
        domain: parsed("dns-domain", flags.dns_domain.as_slice())?.pop(),
    }))
}

fn parsed<T: FromStr<Err = WordError>>(flag: &'static str, texts: &[String]) -> Result<Vec<T>, DnsError> {
    texts.iter().map(|text| text.parse().map_err(|problem| DnsError::Word { flag, problem })).collect()
}

/// Reads `IP=NAME[,NAME…][,IP=NAME…]` of each flag; the lines of one address become one line.
fn hosts(values: &[String]) -> Result<Hosts, DnsError> {
    let count = values.iter().flat_map(|value| value.split(',')).count();
    if values.iter().any(|value| value.split(',').any(|word| word == "host")) {
        return if count > 1 { Err(DnsError::HostsNotAlone) } else { Ok(Hosts::Host) };
    }
    let mut entries: Vec<HostsEntry> = Vec::new();
    for value in values {
        // The entry that a further name belongs to.
        let mut latest = None;
        for word in value.split(',') {
            let name = match (word.split_once('='), latest) {
                (Some((address, name)), _) => {
                    let found: IpAddr =
                        address.parse().map_err(|_| DnsError::EntryAddress(address.to_owned()))?;
                    latest = Some(index_of(&mut entries, found));
                    name
                }
                (None, Some(_)) => word,
                (None, None) => return Err(DnsError::Entry(word.to_owned())),
            };
            let name: DnsName =
                name.parse().map_err(|problem| DnsError::Word { flag: "hosts-entry", problem })?;
            entries[latest.unwrap_or_default()].names.push(name);
        }
    }
    Ok(if entries.is_empty() { Hosts::Default } else { Hosts::Entries(entries) })
}

fn index_of(entries: &mut Vec<HostsEntry>, address: IpAddr) -> usize {
    let known = entries.iter().position(|entry| entry.address == address);
    known.unwrap_or_else(|| {
        entries.push(HostsEntry { address, names: Vec::new() });
        entries.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> DnsFlags {
        let mut flags = DnsFlags {
            dns: vec![],
            dns_search: vec![],
            dns_opt: vec![],
            dns_domain: None,
            hosts_entry: vec![],
        };
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            let (flag, value) = word.split_once('=').unwrap();
            let list = || value.split(',').map(str::to_owned);
            match flag {
                "dns" => flags.dns.extend(list()),
                "search" => flags.dns_search.extend(list()),
                "opt" => flags.dns_opt.extend(list()),
                "domain" => flags.dns_domain = Some(value.into()),
                _ => flags.hosts_entry.push(value.into()),
            }
        }
        flags
    }

    #[test]
    fn flags_that_mean_nothing_together_are_told() {
        for (line, expected) in [
            ("dns=host,1.1.1.1", "no other --dns options allowed when --dns=host is passed"),
            ("dns=host search=a", "no other --dns options allowed when --dns=host is passed"),
            ("dns=none,1.1.1.1", "no other --dns options allowed when --dns=none is passed"),
            ("dns=none opt=rotate", "Cannot call --dns-opt, --dns-search, or --dns-domain with --dns=none"),
            ("dns=none domain=a", "Cannot call --dns-opt, --dns-search, or --dns-domain with --dns=none"),
            ("dns=x", "Invalid IP passed to --dns: x"),
            ("dns=1.1.1.1,1.1.1", "Invalid IP passed to --dns: 1.1.1"),
            ("search=a#b", "invalid value in --dns-search: \"a#b\" is no host or domain name"),
            ("opt=A", "invalid value in --dns-opt: \"A\" is no option of the resolver"),
            ("hosts=host,1.1.1.1=a", "cannot pass --hosts-entry=host with multiple hosts-entries"),
            ("hosts=host hosts=1.1.1.1=a", "cannot pass --hosts-entry=host with multiple hosts-entries"),
            ("hosts=a", "Did not understand --hosts-entry a"),
            ("hosts=1.1.1=a", "Invalid IP passed to --hosts-entry: 1.1.1"),
            ("hosts=1.1.1.1=", "invalid value in --hosts-entry: \"\" is no host or domain name"),
            ("hosts=1.1.1.1=a\nb", "invalid value in --hosts-entry: \"a\\nb\" is no host or domain name"),
        ] {
            let flags = flags(line);
            let found = resolv_conf(&flags).and_then(|_| hosts(&flags.hosts_entry));
            assert_eq!(found.map_err(|error| error.to_string()), Err(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn modes_and_merged_addresses() {
        for (line, expected) in [
            ("", ResolvConf::Default),
            ("dns=host", ResolvConf::Host),
            ("dns=none", ResolvConf::None),
            ("domain=a", {
                let domain = Some("a".parse().unwrap());
                ResolvConf::Generated(Resolver { domain, ..Resolver::default() })
            }),
        ] {
            assert_eq!(resolv_conf(&flags(line)), Ok(expected), "{line}");
        }
        let merged = hosts(&flags("hosts=10.0.0.1=a,b,10.0.0.2=c hosts=10.0.0.1=d").hosts_entry).unwrap();
        let Hosts::Entries(entries) = merged else { panic!("entries") };
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| {
                let names: Vec<&str> = entry.names.iter().map(AsRef::as_ref).collect();
                format!("{} {}", entry.address, names.join(" "))
            })
            .collect();
        assert_eq!(shown, ["10.0.0.1 a b d", "10.0.0.2 c"]);
        assert_eq!(hosts(&["host".into()]), Ok(Hosts::Host));
        assert_eq!(hosts(&[]), Ok(Hosts::Default));
    }
}
