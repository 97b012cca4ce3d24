//! The kernel's capabilities and the bounding set of an app (capabilities(7), spec pods.md 3.8).

use std::{fmt, str::FromStr};

use super::field::quoted;

/// The names in the order of the kernel's numbers, linux/capability.h (Linux 5.9 and later: 0 to 40).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A name that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability {}", quoted(.name))]
pub struct UnknownCapability {
    name: String,
}

impl UnknownCapability {
    /// Where the names are listed.
    pub fn hint(&self) -> Option<String> {
        Some("the names are those of capabilities(7), such as CAP_NET_ADMIN".into())
    }
}

/// One capability of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// Returns the name with its prefix, such as `CAP_CHOWN`.
    pub fn as_str(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// Returns every capability, in the kernel's order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0u8..).zip(NAMES).map(|(number, _)| Self(number))
    }
}

/// Reads a name in any case, with or without `CAP_`.
impl FromStr for Capability {
    type Err = UnknownCapability;

    fn from_str(name: &str) -> Result<Self, UnknownCapability> {
        let is_it =
            |full: &str| full.eq_ignore_ascii_case(name) || full["CAP_".len()..].eq_ignore_ascii_case(name);
        Self::all()
            .find(|capability| is_it(capability.as_str()))
            .ok_or_else(|| UnknownCapability { name: name.to_owned() })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A set of capabilities. Shown as names with blanks between them, as systemd's units want them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability of the kernel.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);
    /// What an app gets unless it or its user says otherwise (spec pods.md 3.8): the fourteen.
    pub const DEFAULT: Self = Self(
        // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP
        1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8
        // NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP
        | 1 << 10 | 1 << 13 | 1 << 18 | 1 << 27 | 1 << 29 | 1 << 31,
    );

    /// Tells whether a capability is in the set.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// Returns what is in this set or the other.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns what is in this set and not in the other.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Tells whether there is no capability in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the set as the kernel's mask, as `/proc/PID/status` shows it.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Returns the capabilities in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::all().filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().fold(0, |bits, capability| bits | 1 << capability.0))
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Capability::as_str).collect();
        f.pad(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_the_fourteen() {
        let spec = "AUDIT_WRITE CHOWN DAC_OVERRIDE FSETID FOWNER KILL MKNOD NET_RAW NET_BIND_SERVICE SETUID SETGID \
                    SETPCAP SETFCAP SYS_CHROOT";
        let names: CapabilitySet = spec.split(' ').map(|name| name.parse::<Capability>().unwrap()).collect();
        assert_eq!(names, CapabilitySet::DEFAULT);
        assert_eq!(names.iter().count(), 14);
        assert_eq!(names.bits(), 0xa804_25fb);
        assert_eq!(CapabilitySet::ALL.iter().count(), 41);
    }

    #[test]
    fn names_are_read_in_the_spellings_that_people_use() {
        for name in ["CAP_SYS_ADMIN", "sys_admin", "Cap_Sys_Admin", "SYS_ADMIN"] {
            assert_eq!(name.parse::<Capability>().unwrap().as_str(), "CAP_SYS_ADMIN");
        }
        for name in ["", "CAP_", "CAP_BOGUS", "CAP_CAP_KILL", "KILL\n"] {
            assert_eq!(
                name.parse::<Capability>().unwrap_err().to_string(),
                format!("unknown capability {name:?}")
            );
        }
    }
}
