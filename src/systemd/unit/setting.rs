//! The table of settings: what can stand in a unit, in which section, with which type of value.
//!
//! A setting that is not here can't be written. To add one, add a row, with the type that makes a wrong value
//! impossible, and the word that says whether systemd adds a second line to the first (`many`) or lets the last one
//! win (`one`, of which the writer refuses a second).

use std::fmt;

use super::exec::{Exec, Variable};
use super::name::{
    CapabilitySet, Errno, Identifier, Line, SocketUnits, SystemCallFilter, Units, VariableNames,
};
use super::path::{Bind, DeviceRule, ListenPath, LiteralPath, MissingPath, Paths, RootPaths, UnitPath};
use super::stream::{ListenAddress, StandardInput, StandardOutput};
use super::value::{
    Action, Architectures, Bytes, CollectMode, CpuQuota, CpuWeight, DescriptorCount, DevicePolicy,
    ExitStatus, Id, Ids, KillMode, Mode, MountPropagation, NotifyAccess, OomPolicy, OomScoreAdjust, Restart,
    ServiceType, Signal, TaskCount, TimeSpan, Value,
};
use crate::systemd::unit_name::{UnitKind, UnitName};

macro_rules! settings {
    ($($section:ident { $($count:ident $key:ident($value:ty),)* })*) => {
        /// A section of a unit file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Section {
            $(#[doc = concat!("`[", stringify!($section), "]`")] $section,)*
        }

        impl Section {
            /// Every section, in the order in which they are written.
            pub(super) const ALL: &[Self] = &[$(Self::$section),*];

            /// Returns the name between the brackets.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$section => stringify!($section),)* }
            }
        }

        /// One line of a unit: the name of a variant is the key, what it holds is the checked value.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Setting {
            $($(#[doc = concat!("`", stringify!($key), "=` of `[", stringify!($section), "]`")] $key($value),)*)*
        }

        impl Setting {
            /// Every key, for the test that shows each to systemd.
            #[cfg(test)]
            pub(super) const KEYS: &[&str] = &[$($(stringify!($key)),*),*];

            /// Returns the text before the `=`.
            pub const fn key(&self) -> &'static str {
                match self { $($(Self::$key(_) => stringify!($key),)*)* }
            }

            /// Returns the section that the setting stands in.
            pub const fn section(&self) -> Section {
                match self { $($(Self::$key(_) => Section::$section,)*)* }
            }

            /// How often it may stand in one unit.
            pub(super) const fn count(&self) -> Count {
                match self { $($(Self::$key(_) => settings!(@$count),)*)* }
            }

            pub(super) fn value(&self) -> &dyn Value {
                match self { $($(Self::$key(value) => value,)*)* }
            }
        }
    };
    (@one) => { Count::One };
    (@many) => { Count::Many };
}

settings! {
    Unit {
        one Description(Line),
        one DefaultDependencies(bool),
        many Requires(Units),
        many Requisite(Units),
        many Wants(Units),
        many BindsTo(Units),
        many PartOf(Units),
        many Upholds(Units),
        many Conflicts(Units),
        many Before(Units),
        many After(Units),
        many OnFailure(Units),
        many OnSuccess(Units),
        one FailureAction(Action),
        one SuccessAction(Action),
        one FailureActionExitStatus(ExitStatus),
        one SuccessActionExitStatus(ExitStatus),
        many ConditionPathExists(MissingPath),
        one StopWhenUnneeded(bool),
        one RefuseManualStart(bool),
        one RefuseManualStop(bool),
        one AllowIsolate(bool),
        one IgnoreOnIsolate(bool),
        one CollectMode(CollectMode),
        one JobTimeoutSec(TimeSpan),
        one StartLimitIntervalSec(TimeSpan),
    }
    Service {
        one Type(ServiceType),
        one NotifyAccess(NotifyAccess),
        many ExecStartPre(Exec),
        many ExecStart(Exec),
        many ExecStartPost(Exec),
        many ExecStop(Exec),
        many ExecStopPost(Exec),
        one RemainAfterExit(bool),
        many SuccessExitStatus(Signal),
        one Restart(Restart),
        one RestartSec(TimeSpan),
        one TimeoutStartSec(TimeSpan),
        one TimeoutStopSec(TimeSpan),
        one KillMode(KillMode),
        one KillSignal(Signal),
        one SendSIGHUP(bool),
        many Sockets(SocketUnits),
        one FileDescriptorStoreMax(DescriptorCount),
        one RootDirectoryStartOnly(bool),
        one RootDirectory(UnitPath),
        one MountAPIVFS(bool),
        one WorkingDirectory(UnitPath),
        one User(Id),
        one Group(Id),
        many SupplementaryGroups(Ids),
        one UMask(Mode),
        many Environment(Variable),
        many EnvironmentFile(LiteralPath),
        many PassEnvironment(VariableNames),
        many UnsetEnvironment(VariableNames),
        one StandardInput(StandardInput),
        one StandardOutput(StandardOutput),
        one StandardError(StandardOutput),
        one TTYPath(UnitPath),
        one TTYReset(bool),
        one TTYVHangup(bool),
        one IgnoreSIGPIPE(bool),
        one SyslogIdentifier(Identifier),
        many LogExtraFields(Variable),
        many BindPaths(Bind),
        many BindReadOnlyPaths(Bind),
        many ReadWritePaths(RootPaths),
        many ReadOnlyPaths(RootPaths),
        many InaccessiblePaths(RootPaths),
        one MountFlags(MountPropagation),
        one PrivateTmp(bool),
        one PrivateDevices(bool),
        one ProtectKernelTunables(bool),
        one ProtectKernelModules(bool),
        one ProtectKernelLogs(bool),
        one ProtectControlGroups(bool),
        one ProtectClock(bool),
        one CapabilityBoundingSet(CapabilitySet),
        one AmbientCapabilities(CapabilitySet),
        one NoNewPrivileges(bool),
        one SystemCallFilter(SystemCallFilter),
        one SystemCallErrorNumber(Errno),
        one SystemCallArchitectures(Architectures),
        one DevicePolicy(DevicePolicy),
        many DeviceAllow(DeviceRule),
        one Delegate(bool),
        one MemoryMax(Bytes),
        one CPUQuota(CpuQuota),
        one CPUWeight(CpuWeight),
        one TasksMax(TaskCount),
        one OOMScoreAdjust(OomScoreAdjust),
        one OOMPolicy(OomPolicy),
    }
    Socket {
        many ListenStream(ListenAddress),
        many ListenDatagram(ListenAddress),
        many ListenSequentialPacket(ListenAddress),
        many ListenFIFO(ListenPath),
        many ListenSpecial(ListenPath),
        many Symlinks(Paths),
        one Service(UnitName),
        one FileDescriptorName(Identifier),
        one SocketMode(Mode),
        one DirectoryMode(Mode),
        one RemoveOnStop(bool),
        one Accept(bool),
        one PassCredentials(bool),
        one PassSecurity(bool),
        one ReceiveBuffer(Bytes),
        one SendBuffer(Bytes),
    }
}

/// What a second line of the same key means to systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// It replaces the first.
    One,
    /// It adds to the first.
    Many,
}

impl Section {
    /// Tells whether a unit of this kind has the section.
    pub(super) fn belongs_to(self, kind: UnitKind) -> bool {
        match self {
            Self::Unit => true,
            Self::Service => kind == UnitKind::Service,
            Self::Socket => kind == UnitKind::Socket,
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
