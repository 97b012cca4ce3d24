//! Isolators: limits and rights of an app (spec pods.md 3.8, appc spec, ace.md, "Isolators").
//!
//! An isolator is a name and a JSON value whose form depends on the name. A name that is not known is refused, never
//! left aside: the app would run with more rights than its manifest says. What the isolators of an app come to together
//! is said by [`effective`].

mod calls;
pub mod effective;
pub mod filter;
mod value;

use std::collections::BTreeSet;

use serde_json::Value;

pub use effective::{
    CpuLimit, MemoryLimit, capability_set, cpu_limit, cpu_shares, memory_limit, no_new_privileges,
    oom_score_adj, seccomp,
};
pub use value::{CpuShares, Errno, OomScoreAdj, Resource, SeccompSet, SelinuxContext};

use super::{
    capability::UnknownCapability,
    field::{Field, FieldError, Members, quoted},
    quantity::Quantity,
};

/// Why an isolator, or a set of them, is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsolatorError {
    /// The name is not one of the standard.
    #[error("unknown isolator name: {name}")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// The value does not fit the name.
    #[error("isolator {name}: {problem}")]
    Value {
        /// The isolator's name.
        name: &'static str,
        /// The member and the rule that it breaks.
        problem: FieldError,
    },
    /// An isolator stands more than once where only one may.
    #[error("isolators set contains too many instances of type {name}")]
    TooMany {
        /// The isolator's name.
        name: &'static str,
    },
    /// Two isolators exclude each other.
    #[error("isolators set contains incompatible types")]
    Incompatible,
    /// One set of capabilities is to be kept, another one to be removed.
    #[error("cannot have both {CAPABILITIES_RETAIN} and {CAPABILITIES_REMOVE}")]
    BothCapabilities,
    /// A capability that the kernel does not have.
    #[error("isolator {name}: {problem}")]
    Capability {
        /// The isolator's name.
        name: &'static str,
        /// The capability's name.
        problem: UnknownCapability,
    },
    /// A memory limit in which no program can run.
    #[error("memory limit of {bytes} bytes too low. Try a reasonable value, such as 16Mi")]
    MemoryTooLow {
        /// The limit.
        bytes: u64,
    },
    /// A filter's error that the kernel does not have.
    #[error("isolator errno: {} is no error of the kernel", quoted(.name))]
    UnknownErrno {
        /// The error's name.
        name: String,
    },
    /// A limit of no processor at all.
    #[error("cpu limit of 0 cores too low. Try a reasonable value, such as 500m")]
    CpuTooLow,
}

impl IsolatorError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownName { .. } => Some(format!("the names are {}", NAMES.join(", "))),
            Self::Capability { problem, .. } => problem.hint(),
            Self::UnknownErrno { .. } => Some("the names are those of errno(3), such as EPERM".into()),
            Self::Value { .. }
            | Self::TooMany { .. }
            | Self::Incompatible
            | Self::BothCapabilities
            | Self::MemoryTooLow { .. }
            | Self::CpuTooLow => None,
        }
    }
}

const MEMORY: &str = "resource/memory";
const CPU: &str = "resource/cpu";
const BLOCK_BANDWIDTH: &str = "resource/block-bandwidth";
const BLOCK_IOPS: &str = "resource/block-iops";
const NETWORK_BANDWIDTH: &str = "resource/network-bandwidth";
const CPU_SHARES: &str = "os/linux/cpu-shares";
const OOM_SCORE_ADJ: &str = "os/linux/oom-score-adj";
const CAPABILITIES_RETAIN: &str = "os/linux/capabilities-retain-set";
const CAPABILITIES_REMOVE: &str = "os/linux/capabilities-remove-set";
const NO_NEW_PRIVILEGES: &str = "os/linux/no-new-privileges";
const SECCOMP_RETAIN: &str = "os/linux/seccomp-retain-set";
const SECCOMP_REMOVE: &str = "os/linux/seccomp-remove-set";
const SELINUX_CONTEXT: &str = "os/linux/selinux-context";

/// The names of all isolators that are known.
pub const NAMES: [&str; 13] = [
    MEMORY,
    CPU,
    BLOCK_BANDWIDTH,
    BLOCK_IOPS,
    NETWORK_BANDWIDTH,
    CPU_SHARES,
    OOM_SCORE_ADJ,
    CAPABILITIES_RETAIN,
    CAPABILITIES_REMOVE,
    NO_NEW_PRIVILEGES,
    SECCOMP_RETAIN,
    SECCOMP_REMOVE,
    SELINUX_CONTEXT,
];

/// A limit or a right of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolator {
    /// Memory in bytes.
    Memory(Resource),
    /// Processors, in cores.
    Cpu(Resource),
    /// Accepted, not enforced. `default` is true in a manifest.
    BlockBandwidth(Option<Quantity>),
    /// Accepted, not enforced. `default` is true in a manifest.
    BlockIops(Option<Quantity>),
    /// Accepted, not enforced. `default` is true in a manifest.
    NetworkBandwidth(Option<Quantity>),
    /// A weight among the apps.
    CpuShares(CpuShares),
    /// How soon the kernel picks the app when memory is short.
    OomScoreAdj(OomScoreAdj),
    /// The capability bounding set is exactly this. Several add up.
    CapabilitiesRetain(Vec<String>),
    /// The capability bounding set is the default without this. Several add up.
    CapabilitiesRemove(Vec<String>),
    /// Whether set-id bits and file capabilities have no effect.
    NoNewPrivileges(bool),
    /// Only these system calls.
    SeccompRetain(SeccompSet),
    /// All but these system calls.
    SeccompRemove(SeccompSet),
    /// Accepted; the label of the pod applies.
    SelinuxContext(SelinuxContext),
}

impl Isolator {
    /// Tells whether there is an isolator of this name.
    pub fn is_known(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// Returns the name in manifests.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => MEMORY,
            Self::Cpu(_) => CPU,
            Self::BlockBandwidth(_) => BLOCK_BANDWIDTH,
            Self::BlockIops(_) => BLOCK_IOPS,
            Self::NetworkBandwidth(_) => NETWORK_BANDWIDTH,
            Self::CpuShares(_) => CPU_SHARES,
            Self::OomScoreAdj(_) => OOM_SCORE_ADJ,
            Self::CapabilitiesRetain(_) => CAPABILITIES_RETAIN,
            Self::CapabilitiesRemove(_) => CAPABILITIES_REMOVE,
            Self::NoNewPrivileges(_) => NO_NEW_PRIVILEGES,
            Self::SeccompRetain(_) => SECCOMP_RETAIN,
            Self::SeccompRemove(_) => SECCOMP_REMOVE,
            Self::SelinuxContext(_) => SELINUX_CONTEXT,
        }
    }

    /// Tells whether a user's isolator of this kind takes the place of an image's `other`.
    pub fn replaces(&self, other: &Self) -> bool {
        const CAPABILITIES: [&str; 2] = [CAPABILITIES_RETAIN, CAPABILITIES_REMOVE];
        const SECCOMP: [&str; 2] = [SECCOMP_RETAIN, SECCOMP_REMOVE];
        let (own, other) = (self.name(), other.name());
        own == other
            || [CAPABILITIES, SECCOMP].iter().any(|pair| pair.contains(&own) && pair.contains(&other))
    }

    /// Makes an isolator of its name and its JSON value.
    ///
    /// # Errors
    /// The name is not known, or the value does not fit it.
    pub fn parse(name: &str, value: &Value) -> Result<Self, IsolatorError> {
        let Some(&name) = NAMES.iter().find(|known| **known == name) else {
            return Err(IsolatorError::UnknownName { name: name.to_owned() });
        };
        Self::read_value(name, &Field::document(value))
            .map_err(|problem| IsolatorError::Value { name, problem })
    }

    fn read_value(name: &str, field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(match name {
            MEMORY => Self::Memory(Resource::read(field)?),
            CPU => Self::Cpu(Resource::read(field)?),
            BLOCK_BANDWIDTH => Self::BlockBandwidth(value::read_default_limit(field)?),
            BLOCK_IOPS => Self::BlockIops(value::read_default_limit(field)?),
            NETWORK_BANDWIDTH => Self::NetworkBandwidth(value::read_default_limit(field)?),
            CPU_SHARES => Self::CpuShares(CpuShares::read(field)?),
            OOM_SCORE_ADJ => Self::OomScoreAdj(OomScoreAdj::read(field)?),
            CAPABILITIES_RETAIN => Self::CapabilitiesRetain(value::read_set(field)?),
            CAPABILITIES_REMOVE => Self::CapabilitiesRemove(value::read_set(field)?),
            NO_NEW_PRIVILEGES => Self::NoNewPrivileges(field.bool()?),
            SECCOMP_RETAIN => Self::SeccompRetain(SeccompSet::read(field)?),
            SECCOMP_REMOVE => Self::SeccompRemove(SeccompSet::read(field)?),
            SELINUX_CONTEXT => Self::SelinuxContext(SelinuxContext::read(field)?),
            unknown => return Err(field.error(format!("invalid isolator {}", quoted(unknown)))),
        })
    }

    /// Returns the JSON value, in the form that [`Self::parse`] reads.
    pub fn value(&self) -> Value {
        match self {
            Self::Memory(resource) | Self::Cpu(resource) => resource.write(),
            Self::BlockBandwidth(limit) | Self::BlockIops(limit) | Self::NetworkBandwidth(limit) => {
                value::write_default_limit(limit.as_ref())
            }
            Self::CpuShares(shares) => shares.get().into(),
            Self::OomScoreAdj(adjustment) => adjustment.get().into(),
            Self::CapabilitiesRetain(set) | Self::CapabilitiesRemove(set) => value::write_set(set),
            Self::NoNewPrivileges(on) => (*on).into(),
            Self::SeccompRetain(set) | Self::SeccompRemove(set) => set.write(),
            Self::SelinuxContext(context) => context.write(),
        }
    }

    /// Tells whether several of this kind may stand in one set.
    fn may_repeat(&self) -> bool {
        match self {
            Self::Memory(_)
            | Self::Cpu(_)
            | Self::BlockBandwidth(_)
            | Self::BlockIops(_)
            | Self::NetworkBandwidth(_)
            | Self::CapabilitiesRetain(_)
            | Self::CapabilitiesRemove(_) => true,
            Self::CpuShares(_)
            | Self::OomScoreAdj(_)
            | Self::NoNewPrivileges(_)
            | Self::SeccompRetain(_)
            | Self::SeccompRemove(_)
            | Self::SelinuxContext(_) => false,
        }
    }

    /// The sets must not be empty, also when they were made in memory.
    fn check(&self) -> Result<(), IsolatorError> {
        let set = match self {
            Self::CapabilitiesRetain(set) | Self::CapabilitiesRemove(set) => set,
            Self::SeccompRetain(filter) | Self::SeccompRemove(filter) => &filter.set,
            _ => return Ok(()),
        };
        if set.is_empty() {
            let problem = FieldError::new("set", value::EMPTY_SET);
            return Err(IsolatorError::Value { name: self.name(), problem });
        }
        Ok(())
    }
}

/// Checks a set of isolators: each by itself, single kinds once, no two that exclude each other.
///
/// # Errors
/// The first rule that is broken.
pub fn check_set(isolators: &[Isolator]) -> Result<(), IsolatorError> {
    let mut names = BTreeSet::new();
    for isolator in isolators {
        isolator.check()?;
        if !names.insert(isolator.name()) && !isolator.may_repeat() {
            return Err(IsolatorError::TooMany { name: isolator.name() });
        }
    }
    if names.contains(SECCOMP_RETAIN) && names.contains(SECCOMP_REMOVE) {
        return Err(IsolatorError::Incompatible);
    }
    if names.contains(CAPABILITIES_RETAIN) && names.contains(CAPABILITIES_REMOVE) {
        return Err(IsolatorError::BothCapabilities);
    }
    Ok(())
}

pub(super) fn validate(isolators: &[Isolator]) -> Result<(), FieldError> {
    check_set(isolators).map_err(|problem| FieldError::new("", problem))
}

pub(super) fn read(field: &Field<'_>) -> Result<Isolator, FieldError> {
    let name = field.required("name")?;
    let text = name.str()?;
    if !Isolator::is_known(text) {
        return Err(name.error(format!("invalid isolator: {} is not known", quoted(text))));
    }
    Isolator::read_value(text, &field.required("value")?)
}

pub(super) fn write(isolator: &Isolator) -> Value {
    Members::default().with("name", isolator.name()).with("value", isolator.value()).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn isolator(name: &str, value: Value) -> Isolator {
        Isolator::parse(name, &value).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn v10_values_are_judged_by_name() {
        let set = "isolator NAME: set: the set must not be empty";
        for (name, value, expected) in [
            (
                MEMORY,
                json!({"default": true, "limit": "1G"}),
                "isolator NAME: default: default must be false",
            ),
            (CPU, json!({"default": true}), "isolator NAME: default: default must be false"),
            (
                MEMORY,
                json!({"limit": "banana"}),
                "isolator NAME: limit: \"banana\" is not a quantity: it must begin with a decimal number",
            ),
            (
                MEMORY,
                json!({"limit": -5}),
                "isolator NAME: limit: \"-5\" is not a quantity: it must not be negative",
            ),
            (MEMORY, json!({"limit": [1]}), "isolator NAME: limit: must be a string, not a list"),
            (MEMORY, json!("1G"), "isolator NAME: must be an object, not a string"),
            (BLOCK_BANDWIDTH, json!({"limit": "1G"}), "isolator NAME: default must be true"),
            (BLOCK_IOPS, json!({"default": false, "limit": "1"}), "isolator NAME: default must be true"),
            (
                NETWORK_BANDWIDTH,
                json!({"default": true, "limit": "1", "request": "1"}),
                "isolator NAME: request: request not supported by this resource, must be empty",
            ),
            (CPU_SHARES, json!(1), "isolator NAME: must be a whole number between 2 and 262144, not 1"),
            (
                CPU_SHARES,
                json!(262_145),
                "isolator NAME: must be a whole number between 2 and 262144, not 262145",
            ),
            (CPU_SHARES, json!(-5), "isolator NAME: must be a whole number between 2 and 262144, not -5"),
            (CPU_SHARES, json!("5"), "isolator NAME: must be a whole number, not a string"),
            (
                OOM_SCORE_ADJ,
                json!(-1001),
                "isolator NAME: must be a whole number between -1000 and 1000, not -1001",
            ),
            (
                OOM_SCORE_ADJ,
                json!(1e3),
                "isolator NAME: must be a whole number between -1000 and 1000, not 1000.0",
            ),
            (CAPABILITIES_RETAIN, json!({"set": []}), set),
            (CAPABILITIES_REMOVE, json!({}), "isolator NAME: set: must be set"),
            (
                CAPABILITIES_REMOVE,
                json!({"set": [1]}),
                "isolator NAME: set[0]: must be a string, not a number",
            ),
            (SECCOMP_RETAIN, json!({"set": [], "errno": "EPERM"}), set),
            (
                SECCOMP_REMOVE,
                json!({"set": ["a"], "errno": "perm"}),
                "isolator NAME: errno: errno must start with an 'E' character, got \"perm\"",
            ),
            (
                SECCOMP_REMOVE,
                json!({"set": ["a"], "errno": "Eperm"}),
                "isolator NAME: errno: errno must be an 'E' and capital letters or digits, got \"Eperm\"",
            ),
            (NO_NEW_PRIVILEGES, json!("true"), "isolator NAME: must be a boolean, not a string"),
            (
                SELINUX_CONTEXT,
                json!({"user": "u", "role": "r", "type": "t"}),
                "isolator NAME: level: must be set",
            ),
            (
                SELINUX_CONTEXT,
                json!({"user": "", "role": "r", "type": "t", "level": "l"}),
                "isolator NAME: user: must not be empty",
            ),
            ("os/linux/apparmor-profile", json!("x"), "unknown isolator name: NAME"),
        ] {
            let error = Isolator::parse(name, &value).unwrap_err().to_string();
            assert_eq!(error, expected.replace("NAME", name), "{name} {value}");
        }
    }

    #[test]
    fn values_are_written_as_they_are_read() {
        for (name, value) in [
            (MEMORY, json!({"request": "1.5G", "limit": "16Mi"})),
            (CPU, json!({})),
            (BLOCK_BANDWIDTH, json!({"default": true, "limit": "1M"})),
            (BLOCK_IOPS, json!({"default": true})),
            (NETWORK_BANDWIDTH, json!({"default": true, "limit": "1G"})),
            (CPU_SHARES, json!(2)),
            (OOM_SCORE_ADJ, json!(-1000)),
            (CAPABILITIES_RETAIN, json!({"set": ["CAP_KILL"]})),
            (CAPABILITIES_REMOVE, json!({"set": ["CAP_KILL", "CAP_NEW"]})),
            (NO_NEW_PRIVILEGES, json!(true)),
            (SECCOMP_RETAIN, json!({"set": ["@appc.io/all"], "errno": "ENOSYS"})),
            (SECCOMP_REMOVE, json!({"set": ["reboot"]})),
            (SELINUX_CONTEXT, json!({"user": "u", "role": "r", "type": "t", "level": "s0:c1,c2"})),
        ] {
            let found = isolator(name, value.clone());
            assert_eq!((found.name(), found.value()), (name, value));
        }
        assert_eq!(
            isolator(MEMORY, json!({"default": false, "request": null, "limit": 1024, "new": 1})).value(),
            json!({"limit": "1024"}),
            "a plain number becomes the text of the quantity"
        );
        assert_eq!(
            isolator(SECCOMP_REMOVE, json!({"set": ["a"], "errno": ""})).value(),
            json!({"set": ["a"]}),
            "an empty errno is none"
        );
        assert!(NAMES.into_iter().all(Isolator::is_known));
    }

    #[test]
    fn v10_sets_are_judged_together() {
        let set = |name: &str| isolator(name, json!({"set": ["a"]}));
        let number = |name: &str| isolator(name, json!(100));
        let limit = |name: &str| isolator(name, json!({"limit": "1G"}));
        let too_many = |name: &str| Some(format!("isolators set contains too many instances of type {name}"));
        for (isolators, expected) in [
            (vec![], None),
            (vec![number(CPU_SHARES), number(CPU_SHARES)], too_many(CPU_SHARES)),
            (vec![number(OOM_SCORE_ADJ), number(OOM_SCORE_ADJ)], too_many(OOM_SCORE_ADJ)),
            (vec![set(SECCOMP_RETAIN), set(SECCOMP_RETAIN)], too_many(SECCOMP_RETAIN)),
            (vec![set(SECCOMP_REMOVE), set(SECCOMP_REMOVE)], too_many(SECCOMP_REMOVE)),
            (
                vec![Isolator::NoNewPrivileges(true), Isolator::NoNewPrivileges(true)],
                too_many(NO_NEW_PRIVILEGES),
            ),
            (
                vec![set(SECCOMP_RETAIN), set(SECCOMP_REMOVE)],
                Some("isolators set contains incompatible types".into()),
            ),
            (
                vec![set(CAPABILITIES_REMOVE), set(CAPABILITIES_RETAIN)],
                Some(
                    "cannot have both os/linux/capabilities-retain-set and os/linux/capabilities-remove-set"
                        .into(),
                ),
            ),
            (
                vec![Isolator::CapabilitiesRetain(vec![])],
                Some("isolator os/linux/capabilities-retain-set: set: the set must not be empty".into()),
            ),
            (vec![set(CAPABILITIES_RETAIN), set(CAPABILITIES_RETAIN)], None),
            (vec![limit(MEMORY), limit(MEMORY), limit(CPU)], None),
        ] {
            assert_eq!(check_set(&isolators).err().map(|error| error.to_string()), expected, "{isolators:?}");
        }
    }
}
