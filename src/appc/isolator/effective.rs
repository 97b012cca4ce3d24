//! What the isolators of an app come to together.
//!
//! Each function takes the whole list and gives one value. Where a kind may stand several times, capabilities add up, and
//! of limits the last one counts. The lists of manifests have passed [`super::check_set`].

use super::{CpuShares, Isolator, IsolatorError, OomScoreAdj, SeccompSet};
use crate::appc::{
    capability::{Capability, CapabilitySet},
    quantity::{ByteSize, Quantity},
};

/// The lowest memory limit: one page.
const MIN_MEMORY: u64 = 4096;

/// A memory limit in which something can run: at least 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryLimit(ByteSize);

impl MemoryLimit {
    /// Returns the limit.
    pub fn byte_size(self) -> ByteSize {
        self.0
    }
}

impl TryFrom<&Quantity> for MemoryLimit {
    type Error = IsolatorError;

    fn try_from(quantity: &Quantity) -> Result<Self, IsolatorError> {
        match quantity.byte_size() {
            size if size.bytes() < MIN_MEMORY => Err(IsolatorError::MemoryTooLow { bytes: size.bytes() }),
            size => Ok(Self(size)),
        }
    }
}

/// A limit of processor time: at least a thousandth of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuLimit {
    milli: u64,
}

impl CpuLimit {
    /// Makes a limit of a number of thousandths of a core, if it is not 0.
    pub fn from_milli_cores(milli: u64) -> Option<Self> {
        (milli > 0).then_some(Self { milli })
    }

    /// Returns the limit in thousandths of a core.
    pub fn milli_cores(self) -> u64 {
        self.milli
    }
}

impl TryFrom<&Quantity> for CpuLimit {
    type Error = IsolatorError;

    fn try_from(quantity: &Quantity) -> Result<Self, IsolatorError> {
        Self::from_milli_cores(quantity.milli()).ok_or(IsolatorError::CpuTooLow)
    }
}

fn last<'a, T>(isolators: &'a [Isolator], pick: impl Fn(&'a Isolator) -> Option<T>) -> Option<T> {
    isolators.iter().rev().find_map(pick)
}

/// Returns the memory limit, if there is one.
///
/// # Errors
/// The limit is too low for anything to run.
pub fn memory_limit(isolators: &[Isolator]) -> Result<Option<MemoryLimit>, IsolatorError> {
    last(isolators, |isolator| match isolator {
        Isolator::Memory(resource) => resource.limit.as_ref(),
        _ => None,
    })
    .map(MemoryLimit::try_from)
    .transpose()
}

/// Returns the limit of processor time, if there is one.
///
/// # Errors
/// The limit is 0.
pub fn cpu_limit(isolators: &[Isolator]) -> Result<Option<CpuLimit>, IsolatorError> {
    last(isolators, |isolator| match isolator {
        Isolator::Cpu(resource) => resource.limit.as_ref(),
        _ => None,
    })
    .map(CpuLimit::try_from)
    .transpose()
}

/// Returns the weight among the apps, if there is one.
pub fn cpu_shares(isolators: &[Isolator]) -> Option<CpuShares> {
    last(isolators, |isolator| match isolator {
        Isolator::CpuShares(shares) => Some(*shares),
        _ => None,
    })
}

/// Returns the adjustment of the out-of-memory score, if there is one.
pub fn oom_score_adj(isolators: &[Isolator]) -> Option<OomScoreAdj> {
    last(isolators, |isolator| match isolator {
        Isolator::OomScoreAdj(adjustment) => Some(*adjustment),
        _ => None,
    })
}

/// Tells whether set-id bits and file capabilities are to have no effect.
pub fn no_new_privileges(isolators: &[Isolator]) -> bool {
    isolators.contains(&Isolator::NoNewPrivileges(true))
}

/// Which system calls an app may make, as its manifest says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seccomp<'a> {
    /// Only these.
    Retain(&'a SeccompSet),
    /// All but these.
    Remove(&'a SeccompSet),
}

/// Returns the filter of system calls, if the manifest has one of its own.
pub fn seccomp(isolators: &[Isolator]) -> Option<Seccomp<'_>> {
    last(isolators, |isolator| match isolator {
        Isolator::SeccompRetain(set) => Some(Seccomp::Retain(set)),
        Isolator::SeccompRemove(set) => Some(Seccomp::Remove(set)),
        _ => None,
    })
}

/// Returns the capability bounding set: what is retained, or the default without what is removed.
///
/// # Errors
/// Both kinds stand in the list, or a name is not a capability: a misspelt one would leave an app with a right that it
/// was not to have.
pub fn capability_set(isolators: &[Isolator]) -> Result<CapabilitySet, IsolatorError> {
    let (mut retain, mut remove) = (None, None);
    for isolator in isolators {
        let (names, sum) = match isolator {
            Isolator::CapabilitiesRetain(names) => (names, &mut retain),
            Isolator::CapabilitiesRemove(names) => (names, &mut remove),
            _ => continue,
        };
        let set = names
            .iter()
            .map(|name| name.parse::<Capability>())
            .collect::<Result<CapabilitySet, _>>()
            .map_err(|problem| IsolatorError::Capability { name: isolator.name(), problem })?;
        *sum = Some(sum.unwrap_or(CapabilitySet::EMPTY).union(set));
    }
    match (retain, remove) {
        (Some(_), Some(_)) => Err(IsolatorError::BothCapabilities),
        (Some(retain), None) => Ok(retain),
        (None, Some(remove)) => Ok(CapabilitySet::DEFAULT.difference(remove)),
        (None, None) => Ok(CapabilitySet::DEFAULT),
    }
}
