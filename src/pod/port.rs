//! The ports of a pod that are reached from outside: which app has a port of that name, and which port it is (spec
//! network.md 4.7).

use crate::appc::app::Port;
use crate::appc::name::AcName;
use crate::appc::pod_manifest::{ExposedPort, RuntimeApp};
use crate::net::port::{Mapping, Protocol};
use crate::os::Hint;

/// Why a port can't be forwarded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// No app has it.
    #[error("port name \"{name}\" could not be found in any apps")]
    Unknown {
        /// The name.
        name: AcName,
        /// The names that there are.
        known: Vec<AcName>,
    },
    /// Several apps have it.
    #[error("port name \"{0}\" defined multiple apps")]
    Ambiguous(AcName),
    /// Two ports of the pod would have one of the host.
    #[error("port {port} already mapped to pod port {pod_port}")]
    Twice {
        /// `PROTOCOL-ADDRESS:PORT`.
        port: String,
        /// The port of the pod that has it already.
        pod_port: u16,
    },
    /// The image says something else than TCP or UDP.
    #[error("port \"{name}\" has the protocol {protocol:?}, and only tcp and udp can be forwarded")]
    Protocol {
        /// The port.
        name: AcName,
        /// Its protocol.
        protocol: String,
    },
}

impl Hint for PortError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { known, .. } if known.is_empty() => {
                Some("none of the images declares a port; `acbuild port add` does that".into())
            }
            Self::Unknown { known, .. } => {
                let names: Vec<&str> = known.iter().map(AcName::as_str).collect();
                Some(format!("the apps have the ports {}", names.join(", ")))
            }
            Self::Ambiguous(_) | Self::Protocol { .. } => None,
            Self::Twice { .. } => Some("give each port of the pod another port of the host".into()),
        }
    }
}

/// Finds the port of the pod for each port that is wanted.
///
/// # Errors
/// When there is none or more than one of a name, or two want the same port of the host.
pub fn expose(wanted: &[ExposedPort], apps: &[RuntimeApp]) -> Result<Vec<ExposedPort>, PortError> {
    let ports: Vec<&Port> =
        apps.iter().filter_map(|app| app.app.as_ref()).flat_map(|app| &app.ports).collect();
    let mut exposed: Vec<ExposedPort> = Vec::new();
    let mut mappings: Vec<Mapping> = Vec::new();
    for wish in wanted {
        let port = match &wish.pod_port {
            Some(port) => port.clone(),
            None => find(&wish.name, &ports)?.clone(),
        };
        let protocol = Protocol::from_name(&port.protocol).ok_or_else(|| PortError::Protocol {
            name: wish.name.clone(),
            protocol: port.protocol.clone(),
        })?;
        let mapping =
            Mapping { protocol, host_ip: wish.host_ip, host_port: wish.host_port, pod_port: port.port };
        if let Some(other) = mappings.iter().find(|other| other.overlaps(&mapping)) {
            return Err(PortError::Twice { port: mapping.host_side(), pod_port: other.pod_port });
        }
        mappings.push(mapping);
        exposed.push(ExposedPort { pod_port: Some(port), ..wish.clone() });
    }
    Ok(exposed)
}

fn find<'a>(name: &AcName, ports: &[&'a Port]) -> Result<&'a Port, PortError> {
    let mut found = ports.iter().filter(|port| port.name == *name);
    match (found.next(), found.next()) {
        (Some(port), None) => Ok(port),
        (Some(_), Some(_)) => Err(PortError::Ambiguous(name.clone())),
        (None, _) => Err(PortError::Unknown {
            name: name.clone(),
            known: ports.iter().map(|port| port.name.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appc::app::App;
    use crate::appc::pod_manifest::RuntimeImage;

    fn app(name: &str, ports: &[(&str, &str, u16)]) -> RuntimeApp {
        let id = "sha512-0105090d1115191d2125292d3135393d4145494d5155595d6165696d7175797d".parse().unwrap();
        let mut app = App::new("0", "0");
        app.ports = ports
            .iter()
            .map(|(name, protocol, port)| Port {
                name: name.parse().unwrap(),
                protocol: (*protocol).into(),
                port: *port,
                count: 1,
                socket_activated: false,
            })
            .collect();
        let image = RuntimeImage { name: None, id, labels: Vec::new() };
        RuntimeApp { app: Some(app), ..RuntimeApp::new(name.parse().unwrap(), image) }
    }

    #[test]
    fn ports_are_found_by_their_names_and_no_port_of_the_host_is_given_twice() {
        let apps = [
            app("web", &[("http", "tcp", 80), ("both", "tcp", 1), ("odd", "sctp", 5)]),
            app("dns", &[("query", "udp", 53), ("both", "tcp", 2)]),
        ];
        let expose = |wanted: &[(&str, Option<[u8; 4]>, u16)]| {
            let wanted: Vec<ExposedPort> = wanted
                .iter()
                .map(|(name, ip, host_port)| ExposedPort {
                    name: name.parse().unwrap(),
                    host_port: *host_port,
                    host_ip: ip.map(Into::into),
                    pod_port: None,
                })
                .collect();
            let exposed = super::expose(&wanted, &apps).map_err(|error| error.to_string())?;
            Ok::<_, String>(
                exposed.iter().map(|port| port.pod_port.as_ref().unwrap().port).collect::<Vec<_>>(),
            )
        };
        let here = Some([10, 0, 0, 1]);
        assert_eq!(expose(&[("http", None, 8080), ("query", None, 8080)]), Ok(vec![80, 53]));
        assert_eq!(expose(&[("http", here, 80), ("http", Some([10, 0, 0, 2]), 80)]), Ok(vec![80, 80]));
        for (wanted, told) in [
            (vec![("none", None, 80)], "port name \"none\" could not be found in any apps"),
            (vec![("both", None, 80)], "port name \"both\" defined multiple apps"),
            (
                vec![("odd", None, 80)],
                "port \"odd\" has the protocol \"sctp\", and only tcp and udp can be forwarded",
            ),
            (
                vec![("http", here, 80), ("http", None, 80)],
                "port tcp-0.0.0.0:80 already mapped to pod port 80",
            ),
        ] {
            assert_eq!(expose(&wanted), Err(told.into()));
        }
    }
}
