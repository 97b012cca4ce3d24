//! Addresses that a server elsewhere must not send us to: this host, and what is on the same link, where cloud providers
//! keep the secrets of a machine (SECURITY.md, B7).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::error::HttpError;

/// Where Amazon's metadata service is reached by IPv6.
const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Tells whether an address is this host's, or local to the link.
pub(super) fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_local_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_local_v4(mapped),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || address.segments()[0] & 0xffc0 == 0xfe80
                    || address == AWS_METADATA
            }
        },
    }
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    address.is_loopback()
        || address.is_link_local()
        || address.octets()[0] == 0
        || address.is_broadcast()
        || address.is_multicast()
}

/// Refuses an URL whose host is written as such an address or as `localhost`, unless the user wrote it.
///
/// Other names are looked at when they are resolved; behind a proxy it is the proxy that resolves.
pub(super) fn check(url: &Url, known: &BTreeSet<String>) -> Result<(), HttpError> {
    let host = url.host_str().unwrap_or_default();
    let is_local = match url.host() {
        Some(Host::Ipv4(address)) => is_local(address.into()),
        Some(Host::Ipv6(address)) => is_local(address.into()),
        // RFC 6761 6.3.
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        None => return Err(HttpError::NoHost { url: super::shown(url) }),
    };
    if is_local && !known.contains(host) {
        return Err(HttpError::Local { host: host.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_this_host_and_its_link_are_local() {
        for (text, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("0.0.0.0", true),
            ("169.254.169.254", true),
            ("224.0.0.1", true),
            ("::1", true),
            ("::", true),
            ("fe80::1", true),
            ("::ffff:169.254.169.254", true),
            ("fd00:ec2::254", true),
            ("10.0.0.1", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_local(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn b7_an_address_in_an_url_needs_the_users_word() {
        let known: BTreeSet<String> = ["127.0.0.1".to_owned(), "[::1]".to_owned()].into();
        for (url, expected) in [
            ("https://127.0.0.1:80/x", true),
            ("https://[::1]/", true),
            ("https://127.0.0.2/", false),
            ("https://0x7f.1.1.1/", false),
            ("https://2852039166/", false),
            ("https://[fe80::1]/", false),
            ("https://example.com/", true),
            ("https://localhost/", false),
            ("https://LOCALHOST./", false),
            ("https://a.localhost/", false),
            ("https://localhost.example.com/", true),
        ] {
            assert_eq!(check(&url.parse().unwrap(), &known).is_ok(), expected, "{url}");
        }
    }
}
