//! Names to addresses, without those that only the user may ask for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address;

/// The system's resolver, less local addresses for hosts that nobody typed and that are no proxies.
///
/// What an URL names is looked at before, so that the name of a proxy in one is none that leads here.
pub(super) struct PublicOnly {
    known: Arc<Mutex<BTreeSet<String>>>,
    proxies: BTreeSet<String>,
}

impl PublicOnly {
    pub(super) fn new(known: Arc<Mutex<BTreeSet<String>>>, proxies: BTreeSet<String>) -> Arc<Self> {
        Arc::new(Self { known, proxies })
    }
}

/// Why a name has no address for us.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The resolver's answer.
    #[error("{0}")]
    Failed(String),
    /// All that it has are local.
    #[error("local")]
    Local,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let is_known = self.proxies.contains(&host)
            || self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&host);
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0))
                .await
                .map_err(|cause| ResolveError::Failed(crate::os::cause_text(&cause)))?;
            let (local, public): (Vec<_>, Vec<_>) =
                found.partition(|found| address::is_local(found.ip()) && !is_known);
            if public.is_empty() && !local.is_empty() {
                return Err(ResolveError::Local.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}
