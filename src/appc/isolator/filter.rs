//! Which system calls an app may make: what its isolator comes to (spec pods.md 3.8).
//!
//! An app always has a filter, unless it retains `@appc.io/all`. A name that is not known is left out and told; it never
//! makes the filter disappear: with nothing left to remove, the default list counts.

use std::collections::BTreeSet;

use super::calls;
use super::effective::{Seccomp, seccomp};
use super::{Isolator, IsolatorError, SeccompSet};

/// Returns every system call that a filter can name.
pub fn known_calls() -> impl Iterator<Item = &'static str> {
    calls::known().into_iter()
}

/// Returns every error that a filter can give.
pub fn known_errors() -> impl Iterator<Item = &'static str> {
    calls::ERRORS.split_ascii_whitespace()
}

/// How a filter reads its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// No other call may be made.
    Only,
    /// Every other call may be made.
    AllBut,
}

/// A filter of system calls: names of calls that are known, or of systemd's sets with a leading `@`. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    rule: Rule,
    calls: BTreeSet<&'static str>,
    errno: Option<&'static str>,
}

impl Default for Filter {
    /// The default list.
    fn default() -> Self {
        Self { rule: Rule::Only, calls: calls::allowed_by_default(), errno: None }
    }
}

impl Filter {
    /// Returns the filter in the shorter of its two forms.
    ///
    /// systemd's time to make a filter grows with the names in it: 4 ms for the default list, 1 ms for what that leaves
    /// out of all known calls. Both come to the same, because a filter comes on top of nspawn's, which refuses what it
    /// does not know by name.
    pub fn written(&self) -> (Rule, Vec<&'static str>) {
        let known = calls::known();
        let has_sets = self.calls.iter().any(|call| call.starts_with('@'));
        match self.rule {
            Rule::Only if !has_sets && self.calls.len() > known.len() / 2 => {
                (Rule::AllBut, known.difference(&self.calls).copied().collect())
            }
            rule => (rule, self.calls.iter().copied().collect()),
        }
    }

    /// Returns the error that a call fails with which may not be made; without one, it kills the process by SIGSYS.
    pub fn errno(&self) -> Option<&'static str> {
        self.errno
    }
}

/// What an app's isolators say about system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filtering {
    /// The filter; `None` when the app may make every call.
    pub filter: Option<Filter>,
    /// Names in the isolator that did not count, each with the reason.
    pub ignored: Vec<String>,
}

/// Returns the filter that `isolators` come to.
///
/// # Errors
/// When the error of the isolator is none of the kernel's.
pub fn filtering(isolators: &[Isolator]) -> Result<Filtering, IsolatorError> {
    let Some(seccomp) = seccomp(isolators) else {
        return Ok(Filtering { filter: Some(Filter::default()), ignored: Vec::new() });
    };
    let (Seccomp::Retain(set) | Seccomp::Remove(set)) = seccomp;
    let errno = errno(set)?;
    let mut names = Names::default();
    for name in &set.set {
        names.add(name);
    }
    let filter = match seccomp {
        Seccomp::Retain(_) if names.all => None,
        Seccomp::Retain(_) => {
            names.calls.extend(calls::needed());
            Some(Filter { rule: Rule::Only, calls: names.calls, errno })
        }
        Seccomp::Remove(_) => Some(Filter { errno, ..names.removed() }),
    };
    Ok(Filtering { filter, ignored: names.ignored })
}

fn errno(set: &SeccompSet) -> Result<Option<&'static str>, IsolatorError> {
    let Some(errno) = &set.errno else { return Ok(None) };
    match calls::error(errno.as_str()) {
        Some(known) => Ok(Some(known)),
        None => Err(IsolatorError::UnknownErrno { name: errno.as_str().to_owned() }),
    }
}

/// The names of an isolator, looked up.
#[derive(Default)]
struct Names {
    calls: BTreeSet<&'static str>,
    /// `@appc.io/all` is among them.
    all: bool,
    /// `@appc.io/empty` is among them.
    empty: bool,
    ignored: Vec<String>,
}

impl Names {
    fn add(&mut self, name: &str) {
        match name {
            "@appc.io/all" => self.all = true,
            "@appc.io/empty" => self.empty = true,
            "@docker/default-whitelist" | "@rkt/default-whitelist" => {
                self.calls.extend(calls::allowed_by_default());
            }
            "@docker/default-blacklist" | "@rkt/default-blacklist" => {
                self.calls.extend(calls::blocked_by_default());
            }
            _ => {
                let known = match name.strip_prefix("@systemd/") {
                    Some(set) => calls::of_systemd(set),
                    None => calls::known().get(name).copied(),
                };
                match known {
                    Some(call) => {
                        self.calls.insert(call);
                    }
                    None => {
                        self.ignored.push(format!("{name:?} is no system call or set of them that is known"))
                    }
                }
            }
        }
    }

    fn removed(&mut self) -> Filter {
        let mut removed = std::mem::take(&mut self.calls);
        if removed.remove("execve") {
            self.ignored.push("\"execve\" can't be removed, since it starts the app".to_owned());
        }
        if self.all {
            return Filter { rule: Rule::Only, calls: calls::needed(), errno: None };
        }
        // What names nothing would be no filter to systemd.
        if self.empty || removed.is_empty() {
            let allowed = calls::allowed_by_default().difference(&removed).copied().collect();
            return Filter { rule: Rule::Only, calls: allowed, errno: None };
        }
        Filter { rule: Rule::AllBut, calls: removed, errno: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filtering_of(kind: &str, set: &[&str]) -> Filtering {
        let name = format!("os/linux/seccomp-{kind}-set");
        let isolator = Isolator::parse(&name, &json!({"set": set, "errno": "EPERM"})).unwrap();
        filtering(&[isolator]).unwrap()
    }

    fn written(kind: &str, set: &[&str]) -> (Rule, Vec<&'static str>) {
        filtering_of(kind, set).filter.unwrap().written()
    }

    #[test]
    fn the_lists_are_what_the_specification_says() {
        assert_eq!(calls::blocked_by_default().len(), 52);
        let default = calls::allowed_by_default();
        let on_both: Vec<_> = default.intersection(&calls::blocked_by_default()).copied().collect();
        assert_eq!(on_both, ["clone", "personality"]);
        for name in ["rseq", "statx", "clone3", "openat2", "futex_waitv", "ppoll_time64", "set_robust_list"] {
            assert!(default.contains(name), "{name}");
        }
        for name in ["io_uring_setup", "open_tree", "fsopen", "move_mount", "pidfd_getfd", "clock_settime64"]
        {
            assert!(!default.contains(name) && calls::known().contains(name), "{name}");
        }
        assert!(default.is_superset(&calls::needed()));
        assert!(calls::known().iter().all(|name| !name.starts_with('@')));
    }

    #[test]
    fn s6_without_an_isolator_what_is_not_on_the_default_list_is_blocked() {
        let Filtering { filter: Some(filter), ignored } = filtering(&[]).unwrap() else {
            panic!("no filter")
        };
        let (rule, names) = filter.written();
        assert_eq!((rule, filter.errno(), ignored.len()), (Rule::AllBut, None, 0));
        for blocked in ["mount", "keyctl", "unshare", "setns", "bpf", "io_uring_setup", "fsopen", "ptrace"] {
            assert!(names.contains(&blocked), "{blocked}");
        }
        for allowed in ["clone", "execve", "read", "personality", "chroot"] {
            assert!(!names.contains(&allowed), "{allowed}");
        }
    }

    #[test]
    fn s3_s4_sets_are_retained_or_removed() {
        assert_eq!(
            written("retain", &["read", "@systemd/clock"]),
            (
                Rule::Only,
                vec![
                    "@clock",
                    "execve",
                    "execveat",
                    "exit",
                    "exit_group",
                    "read",
                    "restart_syscall",
                    "rt_sigreturn",
                    "sigreturn",
                    "write"
                ]
            )
        );
        assert_eq!(written("remove", &["mount", "keyctl"]), (Rule::AllBut, vec!["keyctl", "mount"]));
        assert_eq!(written("remove", &["@docker/default-blacklist"]).1.len(), 52);
        assert_eq!(written("remove", &["@systemd/raw-io"]), (Rule::AllBut, vec!["@raw-io"]));
        let (rule, more) = written("retain", &["@rkt/default-whitelist", "mount"]);
        assert!(rule == Rule::AllBut && !more.contains(&"mount") && more.contains(&"umount2"));
        assert_eq!(filtering_of("retain", &["@appc.io/all", "read"]).filter, None);
        assert_eq!(written("retain", &["@appc.io/empty"]).1, Vec::from_iter(calls::needed()));
    }

    #[test]
    fn no_name_makes_the_filter_disappear() {
        let default = Filter::default().written();
        for set in [
            &["bogus_call"][..],
            &["@rkt/bogus"],
            &["@systemd/bogus", "x\nSystemCallFilter="],
            &["execve"],
            &["@appc.io/empty"],
            &["@mount"],
        ] {
            assert_eq!(written("remove", set), default, "{set:?}");
        }
        assert_eq!(written("retain", &["bogus_call"]).1, Vec::from_iter(calls::needed()));
        assert_eq!(written("remove", &["@appc.io/all"]), (Rule::Only, Vec::from_iter(calls::needed())));
        let (rule, names) = written("remove", &["@appc.io/empty", "chmod"]);
        assert!(rule == Rule::AllBut && names.contains(&"chmod") && names.contains(&"mount"));
        assert_eq!(
            filtering_of("remove", &["bogus\n", "mount", "@a/b", "execve"]).ignored,
            [
                "\"bogus\\n\" is no system call or set of them that is known",
                "\"@a/b\" is no system call or set of them that is known",
                "\"execve\" can't be removed, since it starts the app",
            ]
        );
    }

    #[test]
    fn an_error_is_one_of_the_kernel_s() {
        for (errno, expected) in [
            ("EPERM", Ok(Some("EPERM"))),
            ("EWOULDBLOCK", Ok(Some("EAGAIN"))),
            ("EBOGUS", Err("isolator errno: \"EBOGUS\" is no error of the kernel".to_owned())),
        ] {
            let isolator =
                Isolator::parse("os/linux/seccomp-remove-set", &json!({"set": ["mount"], "errno": errno}))
                    .unwrap();
            let found = filtering(&[isolator]).map(|found| found.filter.and_then(|filter| filter.errno()));
            assert_eq!(found.map_err(|error| error.to_string()), expected);
        }
    }
}
