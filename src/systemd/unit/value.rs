//! The small values of settings: words of a fixed list, and numbers.
//!
//! Each type is checked when it is made, and is the only way for such a value into a unit. systemd ignores what it
//! can't parse and starts the unit all the same (252: `MemoryMax=banana`, `NoNewPrivileges=maybe`), so a value that it
//! would ignore must not be expressible here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::error::{Reason, ValueError};
use super::read::Syntax;

/// What every value of a setting can do; sealed within the writer.
pub(super) trait Value {
    /// Returns the text to stand after the `=`.
    fn render(&self) -> String;

    /// Returns how systemd takes that text apart.
    fn syntax(&self) -> Syntax {
        Syntax::Literal
    }

    /// Returns what systemd must have read, in an instance named `instance`, after unquoting and expansion.
    fn meaning(&self, _instance: &str) -> Vec<Vec<u8>> {
        vec![self.render().into_bytes()]
    }

    /// Tells whether the value holds the instance of its unit.
    fn uses_instance(&self) -> bool {
        false
    }

    /// Tells whether the value is a list to add to, with nothing on it.
    fn adds_nothing(&self) -> bool {
        false
    }
}

impl Value for bool {
    fn render(&self) -> String {
        (if *self { "yes" } else { "no" }).to_owned()
    }
}

macro_rules! keywords {
    ($($(#[$doc:meta])* $name:ident $what:literal { $($variant:ident = $text:literal,)* })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns systemd's word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                let known = Self::ALL.iter().copied().find(|word| word.as_str() == text);
                known.ok_or_else(|| ValueError::new($what, text, Reason::Unknown))
            }
        }

        impl Value for $name {
            fn render(&self) -> String {
                self.as_str().to_owned()
            }
        }
    )* };
}

keywords! {
    /// When a service counts as started (systemd.service(5), `Type=`).
    ServiceType "service type" {
        Simple = "simple", Exec = "exec", Forking = "forking", Oneshot = "oneshot", Dbus = "dbus", Notify = "notify",
        Idle = "idle",
    }
    /// Whose readiness messages count (systemd.service(5), `NotifyAccess=`).
    NotifyAccess "notify access" { None = "none", Main = "main", Exec = "exec", All = "all", }
    /// When systemd starts a service again (systemd.service(5), `Restart=`).
    Restart "restart" {
        No = "no", Always = "always", OnSuccess = "on-success", OnFailure = "on-failure", OnAbnormal = "on-abnormal",
        OnAbort = "on-abort", OnWatchdog = "on-watchdog",
    }
    /// Whom a stop kills (systemd.kill(5), `KillMode=`).
    KillMode "kill mode" { ControlGroup = "control-group", Mixed = "mixed", Process = "process", None = "none", }
    /// What the end of a unit does to the whole system, here the pod (systemd.unit(5), `FailureAction=`).
    Action "action" {
        None = "none", Reboot = "reboot", RebootForce = "reboot-force", RebootImmediate = "reboot-immediate",
        Poweroff = "poweroff", PoweroffForce = "poweroff-force", PoweroffImmediate = "poweroff-immediate",
        Exit = "exit", ExitForce = "exit-force",
    }
    /// A signal that asks a process to end (`KillSignal=`, systemd.kill(5)), or by which one may end without having failed
    /// (`SuccessExitStatus=`, systemd.service(5)).
    Signal "signal" {
        Hup = "SIGHUP", Int = "SIGINT", Quit = "SIGQUIT", Ill = "SIGILL", Trap = "SIGTRAP", Abrt = "SIGABRT",
        Bus = "SIGBUS", Fpe = "SIGFPE", Kill = "SIGKILL", Usr1 = "SIGUSR1", Segv = "SIGSEGV", Usr2 = "SIGUSR2",
        Pipe = "SIGPIPE", Alrm = "SIGALRM", Term = "SIGTERM", Stkflt = "SIGSTKFLT", Xcpu = "SIGXCPU", Xfsz = "SIGXFSZ",
        Vtalrm = "SIGVTALRM", Prof = "SIGPROF", Winch = "SIGWINCH", Io = "SIGIO", Pwr = "SIGPWR", Sys = "SIGSYS",
        Rtmin3 = "SIGRTMIN+3",
    }
    /// What becomes of a unit when the kernel has killed a process of it for its memory (systemd.service(5), `OOMPolicy=`).
    OomPolicy "OOM policy" { Continue = "continue", Stop = "stop", Kill = "kill", }
    /// Which devices a unit may open beside those that it names (systemd.resource-control(5), `DevicePolicy=`).
    DevicePolicy "device policy" { Auto = "auto", Closed = "closed", Strict = "strict", }
    /// What may be done with a device (systemd.resource-control(5), `DeviceAllow=`).
    DeviceAccess "device access" {
        Read = "r", Write = "w", Make = "m", ReadWrite = "rw", ReadMake = "rm", WriteMake = "wm", All = "rwm",
    }
    /// What the mounts of a unit do to others (systemd.exec(5), `MountFlags=`).
    MountPropagation "mount propagation" { Shared = "shared", Slave = "slave", Private = "private", }
    /// When a finished unit is forgotten (systemd.unit(5), `CollectMode=`).
    CollectMode "collect mode" { Inactive = "inactive", InactiveOrFailed = "inactive-or-failed", }
    /// Whose system calls may be made (systemd.exec(5), `SystemCallArchitectures=`).
    Architectures "architectures" { Native = "native", }
    /// A capability of capabilities(7), in the order of its number.
    Capability "capability" {
        Chown = "CAP_CHOWN", DacOverride = "CAP_DAC_OVERRIDE", DacReadSearch = "CAP_DAC_READ_SEARCH",
        Fowner = "CAP_FOWNER", Fsetid = "CAP_FSETID", Kill = "CAP_KILL", Setgid = "CAP_SETGID",
        Setuid = "CAP_SETUID", Setpcap = "CAP_SETPCAP", LinuxImmutable = "CAP_LINUX_IMMUTABLE",
        NetBindService = "CAP_NET_BIND_SERVICE", NetBroadcast = "CAP_NET_BROADCAST", NetAdmin = "CAP_NET_ADMIN",
        NetRaw = "CAP_NET_RAW", IpcLock = "CAP_IPC_LOCK", IpcOwner = "CAP_IPC_OWNER", SysModule = "CAP_SYS_MODULE",
        SysRawio = "CAP_SYS_RAWIO", SysChroot = "CAP_SYS_CHROOT", SysPtrace = "CAP_SYS_PTRACE",
        SysPacct = "CAP_SYS_PACCT", SysAdmin = "CAP_SYS_ADMIN", SysBoot = "CAP_SYS_BOOT", SysNice = "CAP_SYS_NICE",
        SysResource = "CAP_SYS_RESOURCE", SysTime = "CAP_SYS_TIME", SysTtyConfig = "CAP_SYS_TTY_CONFIG",
        Mknod = "CAP_MKNOD", Lease = "CAP_LEASE", AuditWrite = "CAP_AUDIT_WRITE", AuditControl = "CAP_AUDIT_CONTROL",
        Setfcap = "CAP_SETFCAP", MacOverride = "CAP_MAC_OVERRIDE", MacAdmin = "CAP_MAC_ADMIN", Syslog = "CAP_SYSLOG",
        WakeAlarm = "CAP_WAKE_ALARM", BlockSuspend = "CAP_BLOCK_SUSPEND", AuditRead = "CAP_AUDIT_READ",
        Perfmon = "CAP_PERFMON", Bpf = "CAP_BPF", CheckpointRestore = "CAP_CHECKPOINT_RESTORE",
    }
}

/// A user or group by number, never by name: a name would be looked up in files of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

impl Id {
    /// Takes the number of a user or group.
    ///
    /// # Errors
    /// For 65535 and 4294967295, which mean "none" to some system call, and which systemd refuses (`uid_is_valid`).
    pub fn new(number: u32) -> Result<Self, ValueError> {
        match number {
            0xFFFF | 0xFFFF_FFFF => Err(ValueError::new("ID", number.to_string(), Reason::NoId)),
            _ => Ok(Self(number)),
        }
    }

    /// Returns the number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Value for Id {
    fn render(&self) -> String {
        self.to_string()
    }

    fn syntax(&self) -> Syntax {
        Syntax::Expanded
    }
}

/// Several groups by number; an empty list adds nothing and is not written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ids(Vec<Id>);

impl FromIterator<Id> for Ids {
    fn from_iter<I: IntoIterator<Item = Id>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

impl Value for Ids {
    fn render(&self) -> String {
        joined(&self.0)
    }

    fn syntax(&self) -> Syntax {
        Syntax::BareWords
    }

    fn meaning(&self, _instance: &str) -> Vec<Vec<u8>> {
        self.0.iter().map(bytes_of).collect()
    }

    fn adds_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($inner:ty) $what:literal $low:literal ..= $high:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name($inner);

        impl $name {
            /// Takes a number.
            ///
            /// # Errors
            /// When it is outside of the range that systemd takes; it would ignore the whole setting.
            pub fn new(number: $inner) -> Result<Self, ValueError> {
                const RANGE: std::ops::RangeInclusive<$inner> = $low..=$high;
                if RANGE.contains(&number) {
                    Ok(Self(number))
                } else {
                    Err(ValueError::new($what, number.to_string(), Reason::Range($low, $high as u64)))
                }
            }

            /// Returns the number.
            pub fn get(self) -> $inner {
                self.0
            }
        }

        impl Value for $name {
            fn render(&self) -> String {
                self.0.to_string()
            }
        }
    )* };
}

numbers! {
    /// A size in bytes. Zero is out: as `MemoryMax=` systemd ignores it, which is no limit at all.
    Bytes(u64) "size in bytes" 1..=u64::MAX - 1;
    /// How many tasks at most.
    TaskCount(u64) "number of tasks" 1..=u64::MAX - 1;
    /// A share of the CPU among siblings; 100 is the usual one (systemd.resource-control(5), `CPUWeight=`).
    CpuWeight(u64) "CPU weight" 1..=10_000;
    /// How likely the kernel kills the process when memory is out, 1000 being the first (proc(5)).
    OomScoreAdjust(i32) "OOM score adjustment" -1000..=1000;
    /// A number of file descriptors that systemd keeps for a service.
    DescriptorCount(u32) "number of descriptors" 0..=u32::MAX;
    /// An exit status.
    ExitStatus(u8) "exit status" 0..=u8::MAX;
}

/// A part of the time of one CPU, or several of them, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuQuota(u64);

impl CpuQuota {
    /// Takes thousandths of one CPU: 500 is half a CPU, 2000 are two.
    ///
    /// # Errors
    /// For zero and for more than about 200,000 CPUs, which systemd ignores.
    pub fn from_millicores(millicores: u64) -> Result<Self, ValueError> {
        const MOST: u64 = i32::MAX as u64 / 10;
        if (1..=MOST).contains(&millicores) {
            Ok(Self(millicores * 10))
        } else {
            Err(ValueError::new("CPU quota in millicores", millicores.to_string(), Reason::Range(1, MOST)))
        }
    }
}

impl Value for CpuQuota {
    fn render(&self) -> String {
        match (self.0 / 100, self.0 % 100) {
            (percent, 0) => format!("{percent}%"),
            (percent, rest) => format!("{percent}.{rest:02}%"),
        }
    }
}

/// A span of time, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan(Option<Duration>);

impl TimeSpan {
    /// No limit.
    pub const INFINITY: Self = Self(None);

    /// Takes a span; parts of a microsecond are dropped. Zero is no limit to most settings (systemd.service(5)).
    pub const fn new(span: Duration) -> Self {
        Self(Some(span))
    }

    /// Takes whole seconds.
    pub const fn seconds(seconds: u32) -> Self {
        Self(Some(Duration::from_secs(seconds as u64)))
    }
}

impl Value for TimeSpan {
    fn render(&self) -> String {
        // Beyond a million years systemd's counter of microseconds ends.
        const LONGEST: Duration = Duration::from_secs(1_000_000 * 365 * 86_400 / 100);
        match self.0 {
            Some(span) if span > LONGEST => "infinity".to_owned(),
            None => "infinity".to_owned(),
            Some(span) => match (span.as_secs(), span.subsec_micros()) {
                (seconds, 0) => format!("{seconds}s"),
                (0, micros) => format!("{micros}us"),
                (seconds, micros) => format!("{seconds}s {micros}us"),
            },
        }
    }
}

/// The mode of a file, or a mask for modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(u32);

impl Mode {
    /// Takes permission bits.
    ///
    /// # Errors
    /// When there are others.
    pub fn new(mode: u32) -> Result<Self, ValueError> {
        if mode > 0o7777 {
            return Err(ValueError::new("mode", format!("{mode:o}"), Reason::Range(0, 0o7777)));
        }
        Ok(Self(mode))
    }
}

impl Value for Mode {
    fn render(&self) -> String {
        format!("{:04o}", self.0)
    }
}

pub(super) fn joined(words: impl IntoIterator<Item = impl ToString>) -> String {
    words.into_iter().map(|word| word.to_string()).collect::<Vec<_>>().join(" ")
}

pub(super) fn bytes_of(word: impl ToString) -> Vec<u8> {
    word.to_string().into_bytes()
}
