//! The networks of pods, by CNI plugins (spec network.md): which there are, and how a pod is joined to them and parted
//! from them again.
//!
//! [`config`] reads what networks there are and [`plugin`] runs one plugin; [`attach`] makes a pod's namespace and calls
//! the plugins of its networks one after the other, [`port`] adds the forwarding of ports, [`masquerade`] lets the network
//! `default` out. Before anything is made on the host, [`record`] writes down in the pod's directory what is about to be
//! made: whoever finds the directory of a dead pod can undo it, whatever has become of the configuration.

pub mod attach;
pub mod config;
pub mod masquerade;
pub mod plugin;
pub mod port;
pub mod record;
pub mod result;

use std::path::PathBuf;

use crate::os::{Hint, SysError};
use plugin::PluginError;

/// Why a pod is not joined to its networks.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No configuration has these names.
    #[error("networks not found: {}", .0.join(", "))]
    NotFound(Vec<String>),
    /// A file of the configuration is not what it should be.
    #[error("error loading network config {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A plugin did not do what it was asked for.
    #[error("error adding network \"{network}\": {cause}")]
    Add {
        /// The network.
        network: String,
        /// Why.
        cause: PluginError,
    },
    /// A plugin said something that is no result.
    #[error("error parsing \"{network}\" result: {reason}")]
    Result {
        /// The network.
        network: String,
        /// What is wrong.
        reason: String,
    },
    /// The kernel did not take the rule by which what the pod sends gets the host's address.
    #[error("error adding network \"{network}\": {cause}")]
    Masquerade {
        /// The network.
        network: String,
        /// Why.
        cause: SysError,
    },
    /// There is nothing that ports could be forwarded to.
    #[error("no networks found")]
    NoNetworks,
    /// The network that ports are forwarded to has given the pod no address.
    #[error("no address in the network \"{0}\" to forward ports to")]
    NoAddress(String),
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for NetError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) => Some(
                "the networks are default, default-restricted, and what the *.conf files in net.d of the local \
                 configuration directory define; --net=none and --net=host need none"
                    .into(),
            ),
            Self::Add { cause, .. } => cause.hint(),
            Self::Masquerade { .. } => Some(
                "this network needs the kernel's nf_tables: load it with `modprobe nft_masq`, or do without by \
                 --net=default-restricted, which has no way out"
                    .into(),
            ),
            Self::NoNetworks | Self::NoAddress(_) => {
                Some("choose a network that gives the pod an address, such as --net=default".into())
            }
            Self::Config { .. } | Self::Result { .. } | Self::Interrupted => None,
            Self::Sys(error) => error.hint(),
        }
    }
}
