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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn isolators(list: &[(&str, serde_json::Value)]) -> Vec<Isolator> {
        list.iter().map(|(name, value)| Isolator::parse(name, value).unwrap()).collect()
    }

    fn caps(list: &[(&str, &[&str])]) -> Result<String, String> {
        let list: Vec<_> = list
            .iter()
            .map(|(kind, names)| {
                Isolator::parse(&format!("os/linux/capabilities-{kind}-set"), &json!({"set": names}))
            })
            .collect::<Result<_, _>>()
            .unwrap();
        capability_set(&list).map(|set| set.to_string()).map_err(|error| error.to_string())
    }

    const DEFAULT: &str = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP \
                           CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP";

    #[test]
    fn s2_capabilities_are_retained_or_removed() {
        let both = "cannot have both os/linux/capabilities-retain-set and os/linux/capabilities-remove-set";
        let unknown = "isolator os/linux/capabilities-remove-set: unknown capability \"CAP_BOGUS\"";
        for (list, expected) in [
            (&[] as &[(&str, &[&str])], Ok(DEFAULT)),
            (&[("retain", &["CAP_SYS_ADMIN"])], Ok("CAP_SYS_ADMIN")),
            (&[("retain", &["CAP_KILL"]), ("retain", &["net_raw"])], Ok("CAP_KILL CAP_NET_RAW")),
            (
                &[("remove", &["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]), ("remove", &["CAP_FSETID"])],
                Ok(&DEFAULT["CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID ".len()..]),
            ),
            (&[("remove", &["CAP_SYS_ADMIN"])], Ok(DEFAULT)),
            (&[("remove", &["CAP_KILL"]), ("retain", &["CAP_KILL"])], Err(both)),
            (&[("remove", &["CAP_BOGUS"])], Err(unknown)),
        ] {
            assert_eq!(caps(list), expected.map(String::from).map_err(String::from), "{list:?}");
        }
    }

    #[test]
    fn removing_everything_leaves_nothing() {
        let names: Vec<_> = DEFAULT.split(' ').collect();
        assert_eq!(caps(&[("remove", &names)]), Ok(String::new()));
    }

    #[test]
    fn limits_are_exact_and_the_last_one_counts() {
        let list = isolators(&[
            ("resource/memory", json!({"limit": "1G"})),
            ("resource/cpu", json!({"limit": "2"})),
            ("resource/memory", json!({"limit": "16Mi"})),
            ("resource/cpu", json!({"limit": "250m"})),
            ("os/linux/cpu-shares", json!(512)),
            ("os/linux/oom-score-adj", json!(-7)),
        ]);
        assert_eq!(memory_limit(&list).unwrap().unwrap().byte_size(), ByteSize::mib(16));
        assert_eq!(cpu_limit(&list).unwrap().unwrap().milli_cores(), 250);
        assert_eq!(cpu_shares(&list).unwrap().get(), 512);
        assert_eq!(oom_score_adj(&list).unwrap().get(), -7);
        assert!(!no_new_privileges(&list) && seccomp(&list).is_none());
        assert_eq!((memory_limit(&[]), cpu_limit(&[]), cpu_shares(&[])), (Ok(None), Ok(None), None));
    }

    #[test]
    fn limits_that_let_nothing_run_are_refused() {
        for (limit, expected) in [("4096", None), ("4095.1", None), ("4095", Some(4095)), ("0", Some(0))] {
            let list = isolators(&[("resource/memory", json!({"limit": limit}))]);
            let text = |bytes| {
                format!("memory limit of {bytes} bytes too low. Try a reasonable value, such as 16Mi")
            };
            assert_eq!(memory_limit(&list).err().map(|e| e.to_string()), expected.map(text), "{limit}");
        }
        for (limit, expected) in [("1m", Some(1)), ("1u", Some(1)), ("0", None)] {
            let list = isolators(&[("resource/cpu", json!({"limit": limit}))]);
            assert_eq!(cpu_limit(&list).ok().flatten().map(CpuLimit::milli_cores), expected, "{limit}");
        }
    }

    #[test]
    fn the_filter_is_told_with_its_kind() {
        let list =
            isolators(&[("os/linux/seccomp-remove-set", json!({"set": ["@rkt/x"], "errno": "EPERM"}))]);
        let Some(Seccomp::Remove(set)) = seccomp(&list) else { panic!("{list:?}") };
        assert_eq!(
            (set.set.as_slice(), set.errno.as_ref().map(|e| e.as_str())),
            (&["@rkt/x".to_owned()][..], Some("EPERM"))
        );
        assert!(no_new_privileges(&isolators(&[("os/linux/no-new-privileges", json!(true))])));
    }
}
