//! Ports of the host that lead to a pod (spec network.md 4.7), by the plugin `portmap` behind those of a network.
//!
//! The plugin forwards what comes from other machines, from the host to one of its own addresses, and from the host to
//! 127.0.0.1; nothing listens on the host. Its chains are named by a hash of network and pod, and commented with both.

use std::net::Ipv4Addr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::config::with_previous;
use super::result::MODERN_VERSION;
use crate::os::file;

/// The plugin's name.
pub const PORTMAP: &str = "portmap";

/// The transport protocols that can be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The protocol as manifests name it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|protocol| protocol.as_str() == name)
    }

    /// Its name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the host that leads to one of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The only address of the host that is forwarded; without it, all.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<Ipv4Addr>,
    /// The port on the host.
    pub host_port: u16,
    /// The port in the pod.
    pub pod_port: u16,
}

impl Mapping {
    /// Tells whether a packet could be for both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let everywhere = |ip: Option<Ipv4Addr>| ip.is_none_or(|ip| ip.is_unspecified());
        (self.protocol, self.host_port) == (other.protocol, other.host_port)
            && (everywhere(self.host_ip) || everywhere(other.host_ip) || self.host_ip == other.host_ip)
    }

    /// The host's side, as messages name it: `tcp-0.0.0.0:80`.
    pub fn host_side(&self) -> String {
        let ip = self.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
        format!("{}-{ip}:{}", self.protocol.as_str(), self.host_port)
    }

    /// As the plugin reads it. No address and 0.0.0.0 are the same to users; the plugin takes the second for IPv4's all.
    fn value(&self) -> Value {
        let mut value = json!({
            "hostPort": self.host_port,
            "containerPort": self.pod_port,
            "protocol": self.protocol.as_str(),
        });
        if let Some(ip) = self.host_ip.filter(|ip| !ip.is_unspecified()) {
            value["hostIP"] = ip.to_string().into();
        }
        value
    }
}

/// What the plugin reads.
///
/// It knows no version of CNI before 0.3.
pub fn stdin(
    network: &str,
    version: Option<&str>,
    mappings: &[Mapping],
    previous: Option<&Value>,
) -> Vec<u8> {
    let value = json!({
        "cniVersion": version.unwrap_or(MODERN_VERSION),
        "name": network,
        "type": PORTMAP,
        "capabilities": {"portMappings": true},
        "snat": true,
        "runtimeConfig": {"portMappings": mappings.iter().map(Mapping::value).collect::<Vec<_>>()},
    });
    let part: Map<String, Value> = match value {
        Value::Object(part) => part,
        _ => Map::new(),
    };
    with_previous(part, previous)
}

/// Tells whether something on this host listens where connections would go to `mapping` from now on.
pub fn is_listened_on(mapping: &Mapping) -> bool {
    let name = mapping.protocol.as_str();
    ["", "6"].iter().any(|family| {
        // Of this process's network namespace (proc_pid_net(5)).
        let table = file::read_text(Path::new(&format!("/proc/self/net/{name}{family}")));
        table.is_ok_and(|table| table.lines().skip(1).any(|line| listens(line, mapping)))
    })
}

/// Reads a line of /proc/net/tcp or udp: number, local address, remote address, state, all in hexadecimal digits.
fn listens(line: &str, mapping: &Mapping) -> bool {
    const TCP_LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (Some(local), Some(remote), Some(state)) = (fields.next(), fields.next(), fields.next()) else {
        return false;
    };
    let Some((address, port)) = local.rsplit_once(':') else { return false };
    let waits = match mapping.protocol {
        Protocol::Tcp => state == TCP_LISTEN,
        Protocol::Udp => remote.ends_with(":0000"),
    };
    let port = u16::from_str_radix(port, 16);
    waits && port == Ok(mapping.host_port) && (all_zero(address) || reaches(address, mapping.host_ip))
}

fn all_zero(address: &str) -> bool {
    address.bytes().all(|digit| digit == b'0')
}

/// Tells whether the address of a socket is one of those that are forwarded.
fn reaches(address: &str, host_ip: Option<Ipv4Addr>) -> bool {
    // The kernel prints the four bytes as a number of this machine's byte order.
    let socket = u32::from_str_radix(address, 16).map(|number| Ipv4Addr::from(number.to_ne_bytes()));
    match (socket, host_ip.filter(|ip| !ip.is_unspecified())) {
        (Ok(socket), Some(ip)) => socket == ip,
        (Ok(_), None) => true,
        // IPv6 other than all addresses is not forwarded.
        (Err(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(protocol: Protocol, host_ip: Option<[u8; 4]>, host_port: u16) -> Mapping {
        Mapping { protocol, host_ip: host_ip.map(Ipv4Addr::from), host_port, pod_port: 80 }
    }

    #[test]
    fn mappings_overlap_by_protocol_port_and_address() {
        use Protocol::{Tcp, Udp};
        let (here, there, all) = (Some([10, 0, 0, 1]), Some([10, 0, 0, 2]), Some([0; 4]));
        for (one, other, expected) in [
            (mapping(Tcp, None, 80), mapping(Tcp, None, 80), true),
            (mapping(Tcp, None, 80), mapping(Tcp, here, 80), true),
            (mapping(Tcp, all, 80), mapping(Tcp, here, 80), true),
            (mapping(Tcp, here, 80), mapping(Tcp, here, 80), true),
            (mapping(Tcp, here, 80), mapping(Tcp, there, 80), false),
            (mapping(Tcp, None, 80), mapping(Udp, None, 80), false),
            (mapping(Tcp, None, 80), mapping(Tcp, None, 81), false),
        ] {
            assert_eq!(
                (one.overlaps(&other), other.overlaps(&one)),
                (expected, expected),
                "{one:?} {other:?}"
            );
        }
        assert_eq!(mapping(Tcp, here, 80).host_side(), "tcp-10.0.0.1:80");
        assert_eq!(mapping(Udp, None, 53).host_side(), "udp-0.0.0.0:53");
    }

    #[test]
    fn the_plugin_is_told_in_the_version_of_its_network_or_the_oldest_that_it_knows() {
        let mappings = [mapping(Protocol::Tcp, Some([127, 0, 0, 1]), 8080)];
        let read = |version, previous| String::from_utf8(stdin("n", version, &mappings, previous)).unwrap();
        assert_eq!(
            read(None, None),
            r#"{"cniVersion":"0.4.0","name":"n","type":"portmap","capabilities":{"portMappings":true},"snat":true,"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"127.0.0.1"}]}}"#
        );
        let text = read(Some("1.0.0"), Some(&json!({"ips": []})));
        assert!(text.starts_with(r#"{"cniVersion":"1.0.0""#), "{text}");
        assert!(text.ends_with(r#""prevResult":{"ips":[]}}"#), "{text}");
    }

    #[test]
    fn listeners_are_found_in_the_kernel_s_tables() {
        use Protocol::{Tcp, Udp};
        // 127.0.0.1:8080 as a little-endian machine prints it.
        let listen =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        let anywhere =
            "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0";
        let connected = "   2: 00000000:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0";
        let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
        let listen = listen.replace("0100007F", &format!("{loopback:08X}"));
        for (line, mapping, expected) in [
            (listen.as_str(), mapping(Tcp, None, 8080), true),
            (&listen, mapping(Tcp, Some([127, 0, 0, 1]), 8080), true),
            (&listen, mapping(Tcp, Some([10, 0, 0, 1]), 8080), false),
            (&listen, mapping(Tcp, None, 8081), false),
            (anywhere, mapping(Tcp, Some([10, 0, 0, 1]), 8080), true),
            (connected, mapping(Tcp, None, 8080), false),
            (connected, mapping(Udp, None, 8080), false),
            ("   3: 00000000:1F90 00000000:0000 07 0:0", mapping(Udp, None, 8080), true),
            ("garbage", mapping(Tcp, None, 8080), false),
        ] {
            assert_eq!(listens(line, &mapping), expected, "{line} {mapping:?}");
        }
    }
}
