//! Looks from inside the pod, once its apps have started, whether they have the rights that were asked for and no more.
//!
//! systemd ignores a setting that it can't parse, or that this kernel can't do, and starts the unit without it. So what
//! the plan asked for is written to `rkt/asked`, one line an app, and compared with what the kernel says of the app's
//! processes. An app may give up rights by itself: less is never wrong.
//!
//! ```text
//! rkt/asked    UNIT CAPABILITIES NO_NEW_PRIVILEGES KERNEL_PATHS FILTER      web.service 00000000a80425fb 0 1 1
//! ```

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::os::SysError;

/// The file, below the root of stage1.
pub const ASKED: &str = "rkt/asked";
/// Of `Seccomp` in proc_pid_status(5).
const FILTERED: &str = "2";
/// The kernel's SECCOMP_MODE_DEAD, which no manual page has: the filter has killed the process, which is about to end.
const KILLED_BY_FILTER: &str = "3";

/// What was asked for one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its unit.
    pub unit: String,
    /// The capabilities that its processes may ever have, as the kernel writes them (proc_pid_status(5)).
    pub capabilities: u64,
    /// Whether set-id bits have no effect.
    pub no_new_privileges: bool,
    /// Which kernel file systems are read-only.
    pub protected_paths: ProtectedPaths,
    /// Whether the app has a system call filter beside that of the pod.
    pub filtered: bool,
}

/// Kernel file systems that are read-only for an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtectedPaths {
    /// None: the user switched that off.
    None,
    /// /proc/sys, /sys and /dev.
    All,
    /// /proc/sys and /dev: what is at /sys is the app's own.
    WithoutSys,
}

impl ProtectedPaths {
    const EVERY: [Self; 3] = [Self::None, Self::All, Self::WithoutSys];

    /// The word in the file, and the mount points.
    fn row(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::None => ("0", &[]),
            Self::All => ("1", &["/proc/sys", "/sys", "/dev"]),
            Self::WithoutSys => ("2", &["/proc/sys", "/dev"]),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = [self.no_new_privileges, self.filtered].map(u8::from);
        let (paths, _) = self.protected_paths.row();
        write!(f, "{} {:016x} {} {paths} {}", self.unit, self.capabilities, bits[0], bits[1])
    }
}

/// The line is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a line of /rkt/asked")]
pub struct ParseAskedError;

impl FromStr for Asked {
    type Err = ParseAskedError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or(ParseAskedError);
        let (unit, capabilities, bit, paths, filter) = (word()?, word()?, word()?, word()?, word()?);
        let flag = |text: &str| match text {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(ParseAskedError),
        };
        Ok(Self {
            unit: unit.to_owned(),
            capabilities: u64::from_str_radix(capabilities, 16).map_err(|_| ParseAskedError)?,
            no_new_privileges: flag(bit)?,
            protected_paths: ProtectedPaths::EVERY
                .into_iter()
                .find(|value| value.row().0 == paths)
                .ok_or(ParseAskedError)?,
            filtered: flag(filter)?,
        })
    }
}

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rights {
    capabilities: u64,
    no_new_privileges: bool,
    /// Whether a system call filter is on: the pod's own is always there.
    filtered: bool,
    /// How many filters there are.
    filters: u32,
}

/// Compares every app below `root`, the pod's root, and returns a sentence for each right that is more than asked.
///
/// # Errors
/// When what was asked can't be read. A process that has ended has no rights.
pub fn excesses(root: &Path) -> Result<Vec<String>, SysError> {
    let path = root.join(ASKED);
    let text = std::fs::read_to_string(&path).map_err(SysError::on("reading", &path))?;
    let of_the_pod = filters_of_init(root);
    let mut found = Vec::new();
    for line in text.lines() {
        let asked: Asked = line.parse().map_err(|error: ParseAskedError| {
            SysError::new("reading", &path, std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        })?;
        for pid in processes(root, &asked.unit) {
            let proc = root.join("proc").join(&pid);
            let (Ok(status), Ok(mounts)) = (
                std::fs::read_to_string(proc.join("status")),
                std::fs::read_to_string(proc.join("mountinfo")),
            ) else {
                continue;
            };
            found.extend(
                compare(&asked, of_the_pod, &status, &mounts)
                    .into_iter()
                    .map(|excess| format!("{}: {excess}", asked.unit)),
            );
        }
    }
    Ok(found)
}

/// The processes in the control group of `unit`; a name that looks like a kernel file's has a `_` in front there
/// (systemd's cgroup names).
fn processes(root: &Path, unit: &str) -> Vec<String> {
    let slice = root.join("sys/fs/cgroup/system.slice");
    let group =
        [unit.to_owned(), format!("_{unit}")].into_iter().map(|name| slice.join(name).join("cgroup.procs"));
    let text = group.filter_map(|path| std::fs::read_to_string(path).ok()).next().unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// How many system call filters the pod's init has, which all of its processes inherit.
fn filters_of_init(root: &Path) -> Option<u32> {
    let status = std::fs::read_to_string(root.join("proc/1/status")).ok()?;
    rights(&status).map(|rights| rights.filters)
}

fn compare(asked: &Asked, of_the_pod: Option<u32>, status: &str, mounts: &str) -> Vec<String> {
    let Some(rights) = rights(status) else { return vec!["the kernel does not tell its rights".into()] };
    let mut excesses = Vec::new();
    let more = rights.capabilities & !asked.capabilities;
    if more != 0 {
        excesses.push(format!("its processes may have the capabilities {more:#x}, which were not asked for"));
    }
    if asked.no_new_privileges && !rights.no_new_privileges {
        excesses.push("set-id bits have effect, which was forbidden".into());
    }
    if !rights.filtered {
        excesses.push("no system call filter is on".into());
    }
    if asked.filtered && of_the_pod.is_none_or(|filters| rights.filters <= filters) {
        excesses.push("its own system call filter is not on".into());
    }
    for point in asked.protected_paths.row().1 {
        if !is_read_only(mounts, point) {
            excesses.push(format!("{point} is not read-only"));
        }
    }
    excesses
}

fn rights(status: &str) -> Option<Rights> {
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    Some(Rights {
        capabilities: u64::from_str_radix(field("CapBnd")?, 16).ok()?,
        no_new_privileges: field("NoNewPrivs")? == "1",
        filtered: matches!(field("Seccomp")?, FILTERED | KILLED_BY_FILTER),
        filters: field("Seccomp_filters")?.parse().ok()?,
    })
}

/// Whether what is on top at `point` is mounted read-only (proc_pid_mountinfo(5), fields 5 and 6).
fn is_read_only(mounts: &str, point: &str) -> bool {
    let options = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(4);
        (fields.next()? == point).then(|| fields.next())?
    });
    options.is_some_and(|options| options.split(',').any(|option| option == "ro"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nCapInh:\t0\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t4\n";
    const MOUNTS: &str = "1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /proc rw - proc p rw\n3 2 0:2 /sys /proc/sys ro,nosuid - proc p rw\n\
                          4 1 0:3 / /sys ro - sysfs s ro\n5 1 0:4 / /dev ro,nosuid - tmpfs t rw\n";

    fn asked() -> Asked {
        Asked {
            unit: "web.service".into(),
            capabilities: 0xa804_25fb,
            no_new_privileges: false,
            protected_paths: ProtectedPaths::All,
            filtered: true,
        }
    }

    #[test]
    fn what_was_asked_survives_the_file() {
        for asked in [
            asked(),
            Asked {
                capabilities: u64::MAX,
                no_new_privileges: true,
                protected_paths: ProtectedPaths::None,
                filtered: false,
                ..asked()
            },
            Asked { protected_paths: ProtectedPaths::WithoutSys, ..asked() },
        ] {
            assert_eq!(asked.to_string().parse(), Ok(asked));
        }
        for line in ["", "web.service", "web.service x 0 1", "web.service 0 2 1 1", "web.service 0 1 3 1"] {
            assert_eq!(line.parse::<Asked>(), Err(ParseAskedError), "{line:?}");
        }
    }

    #[test]
    fn more_than_was_asked_is_named_and_less_is_not() {
        let none: [&str; 0] = [];
        assert_eq!(compare(&asked(), Some(3), STATUS, MOUNTS), none);
        for less in [STATUS.replace("a80425fb", "0"), STATUS.replace("Seccomp:\t2", "Seccomp:\t3")] {
            assert_eq!(compare(&asked(), Some(3), &less, MOUNTS), none);
        }
        for (status, mounts, expected) in [
            (
                STATUS.replace("00000000a80425fb", "000001ffffffffff"),
                MOUNTS.to_owned(),
                "its processes may have the capabilities 0x1ff57fbda04, which were not asked for",
            ),
            (STATUS.replace("Seccomp:\t2", "Seccomp:\t0"), MOUNTS.to_owned(), "no system call filter is on"),
            (STATUS.replace("ers:\t4", "ers:\t3"), MOUNTS.to_owned(), "its own system call filter is not on"),
            (STATUS.to_owned(), MOUNTS.replace("/sys ro -", "/sys rw -"), "/sys is not read-only"),
            (STATUS.to_owned(), MOUNTS.replace("/dev ro", "/dev rw"), "/dev is not read-only"),
            (String::new(), MOUNTS.to_owned(), "the kernel does not tell its rights"),
        ] {
            assert_eq!(compare(&asked(), Some(3), &status, &mounts), [expected]);
        }
        let own_sys = Asked { protected_paths: ProtectedPaths::WithoutSys, ..asked() };
        assert_eq!(compare(&own_sys, Some(1), STATUS, &MOUNTS.replace("/sys ro -", "/sys rw -")), none);
        let strict = Asked { no_new_privileges: true, ..asked() };
        assert_eq!(
            compare(&strict, Some(3), STATUS, MOUNTS),
            ["set-id bits have effect, which was forbidden"]
        );
        let unfiltered = Asked { filtered: false, ..asked() };
        assert_eq!(compare(&unfiltered, Some(4), STATUS, MOUNTS), none);
        assert_eq!(compare(&asked(), None, STATUS, MOUNTS), ["its own system call filter is not on"]);
    }
}
