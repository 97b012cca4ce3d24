//! What pods of the network `default` send to other places gets the host's address (spec network.md 4.2).
//!
//! rkt does this itself, where the plugin `ptp` would execute iptables nine times: a table `ip rkt-UUID` a pod, made in
//! one step and removed in one (DESIGN 5). Networks of the configuration are the plugins' own.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::appc::pod_uuid::PodUuid;
use crate::os::SysError;
use crate::os::nftables::{Match, Transaction};

/// What does not go to a group of receivers: those answer nobody.
const MULTICAST: Match = Match::NotTo(Ipv4Addr::new(224, 0, 0, 0), Ipv4Addr::new(240, 0, 0, 0));

/// Gives what the pod sends from `address` to places outside of its network, which has the mask `mask`, the host's address.
///
/// # Errors
/// When the kernel refuses.
pub fn add(uuid: &PodUuid, address: Ipv4Addr, mask: Ipv4Addr) -> Result<(), SysError> {
    let table = table(uuid);
    log::debug!("networking: adding the nftables table {table}");
    let matches = [Match::From(address, Ipv4Addr::BROADCAST), Match::NotTo(address, mask), MULTICAST];
    Transaction::add_table(&table)
        .add_source_nat_chain()
        .add_masquerade(&matches)
        .commit()
        .map_err(SysError::on("adding the nftables table", &table))
}

/// Ends that; it is no problem if there is nothing to end, as on a kernel without tables.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(uuid: &PodUuid) -> Result<(), SysError> {
    let table = table(uuid);
    log::debug!("networking: teardown - removing the nftables table {table}");
    match Transaction::delete_table(&table).commit() {
        Err(Errno::NOENT | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT) => Ok(()),
        other => other.map_err(SysError::on("removing the nftables table", &table)),
    }
}

fn table(uuid: &PodUuid) -> String {
    format!("rkt-{uuid}")
}
