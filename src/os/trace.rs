//! Programs under ptrace(2), for one purpose: to see with which filters of system calls a supervisor starts its payload.
//!
//! What is traced dies with the tracer, and runs on undisturbed otherwise. ptrace belongs to a thread: each function
//! here begins and ends its tracing within one call.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::process::Program;
use super::seccomp::{self, FilterProgram};
use super::{SysError, interrupt};

/// linux/ptrace.h; the libc crate has neither.
const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
const PTRACE_SECCOMP_GET_METADATA: libc::c_uint = 0x420d;

/// What was seen of a program and of its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The payload's filters, in the order in which they were put on it.
    pub filters: Vec<FilterProgram>,
    /// The files that the program itself consisted of: its own and its libraries.
    pub files: Vec<PathBuf>,
}

/// Runs `supervisor` to its end, and returns what it put on the first program that it started in a new PID namespace.
///
/// # Errors
/// When there was none, the kernel does not show filters, or it took longer than `limit`; then all of it is killed.
pub fn payload_of(supervisor: &Program, limit: Duration) -> Result<Payload, SysError> {
    let failed = |cause: Error| SysError::new("looking into", &supervisor.path, cause);
    let signals = ChildSignals::block();
    let mut trace = Trace::start(supervisor, Instant::now() + limit).map_err(failed)?;
    let seen = trace.run(&signals);
    if seen.is_err() {
        trace.kill();
    }
    seen.map_err(failed)
}

/// Returns the filters of a process, which is stopped for a moment.
///
/// # Errors
/// When the caller may not trace it, or the kernel does not show filters.
pub fn filters_of(pid: i32) -> Result<Vec<FilterProgram>, SysError> {
    let see = || -> Result<Vec<FilterProgram>, Error> {
        ptrace(libc::PTRACE_SEIZE, pid, 0, 0)?;
        ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0)?;
        let mut status = 0;
        wait_for(pid, libc::__WALL, &mut status)?;
        let filters = filters(pid);
        ptrace(libc::PTRACE_DETACH, pid, 0, 0)?;
        filters
    };
    see().map_err(SysError::on("looking into", format!("/proc/{pid}")))
}

struct Trace {
    supervisor: i32,
    namespace: PathBuf,
    deadline: Instant,
    /// The tracees that have not ended, as far as the last wait told.
    known: BTreeSet<i32>,
    found: Option<Payload>,
}

impl Trace {
    fn start(supervisor: &Program, deadline: Instant) -> Result<Self, Error> {
        let mut command = Command::new(&supervisor.path);
        command.args(&supervisor.args).env_clear().envs(&supervisor.env);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        trace_me(&mut command);
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(|_| Error::from(ErrorKind::InvalidData))?;
        let trace = Self {
            supervisor: pid,
            namespace: std::fs::read_link("/proc/self/ns/pid")?,
            deadline,
            known: BTreeSet::from([pid]),
            found: None,
        };
        let mut status = 0;
        wait_for(pid, libc::__WALL, &mut status)?;
        let options = libc::PTRACE_O_EXITKILL
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACEEXEC;
        ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options as usize)?;
        ptrace(libc::PTRACE_CONT, pid, 0, 0)?;
        Ok(trace)
    }

    /// Follows all that the supervisor starts, until that has ended.
    fn run(&mut self, signals: &ChildSignals) -> Result<Payload, Error> {
        loop {
            let mut status = 0;
            let pid = match wait_for(-1, libc::__WALL | libc::WNOHANG, &mut status) {
                Ok(0) => {
                    signals.wait(self.deadline)?;
                    continue;
                }
                Ok(pid) => pid,
                Err(cause) => return Err(cause),
            };
            if libc::WIFSTOPPED(status) {
                self.stopped(pid, status)?;
                continue;
            }
            self.known.remove(&pid);
            if pid == self.supervisor {
                let ended_well = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
                let found = self.found.take().filter(|_| ended_well);
                return found
                    .ok_or_else(|| Error::other(format!("it ended with the wait status {status:#x}")));
            }
        }
    }

    fn stopped(&mut self, pid: i32, status: libc::c_int) -> Result<(), Error> {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        if event == libc::PTRACE_EVENT_EXEC && self.found.is_none() && self.is_payload(pid) {
            self.found = Some(Payload { filters: filters(pid)?, files: mapped_files(self.supervisor)? });
        }
        // A new tracee begins with a stop that nobody sent; other signals are passed on.
        let is_new = self.known.insert(pid) && signal == libc::SIGSTOP;
        let passed_on = if event != 0 || is_new || signal == libc::SIGTRAP { 0 } else { signal };
        match ptrace(libc::PTRACE_CONT, pid, 0, passed_on as usize) {
            // Killed in between: the next wait tells.
            Err(cause) if cause.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.map(drop),
        }
    }

    fn is_payload(&self, pid: i32) -> bool {
        std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|namespace| namespace != self.namespace)
    }

    #[allow(unsafe_code, reason = "kill(2) has no precondition")]
    fn kill(&self) {
        for pid in &self.known {
            // SAFETY: a tracee keeps its number until a wait of ours has told its end, after which it is not known.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        for pid in &self.known {
            let mut status = 0;
            while wait_for(*pid, libc::__WALL, &mut status).is_ok() && libc::WIFSTOPPED(status) {}
        }
    }
}

/// The filters of a stopped tracee, the oldest first.
fn filters(pid: i32) -> Result<Vec<FilterProgram>, Error> {
    let count = seccomp::count(&pid.to_string()).ok_or(ErrorKind::Unsupported)?;
    (0..count).map(|index| filter(pid, index)).collect()
}

#[allow(unsafe_code, reason = "the requests of ptrace(2) for filters have no safe wrapper")]
fn filter(pid: i32, index: usize) -> Result<FilterProgram, Error> {
    let instructions = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, index, 0)?;
    let mut program = vec![libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; instructions as usize];
    ptrace(PTRACE_SECCOMP_GET_FILTER, pid, index, program.as_mut_ptr() as usize)?;
    let mut metadata = [index as u64, 0];
    ptrace(PTRACE_SECCOMP_GET_METADATA, pid, size_of_val(&metadata), metadata.as_mut_ptr() as usize)?;
    // A filter whose denials are logged can't be put on by its program alone.
    if metadata[1] != 0 {
        return Err(Error::new(ErrorKind::Unsupported, "a filter has flags"));
    }
    let bytes = program.iter().flat_map(|instruction| {
        let mut bytes = instruction.code.to_ne_bytes().to_vec();
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
        bytes
    });
    FilterProgram::new(bytes.collect()).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// The files that a process executes from, as /proc/PID/maps names them.
fn mapped_files(pid: i32) -> Result<Vec<PathBuf>, Error> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let files: BTreeSet<PathBuf> =
        maps.lines().filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..]))).collect();
    Ok(files.into_iter().collect())
}

#[allow(unsafe_code, reason = "the child asks to be traced between fork and exec")]
fn trace_me(command: &mut Command) {
    // SAFETY: ptrace(2) and sigprocmask(2) are async-signal-safe system calls on nothing but this child.
    unsafe {
        command.pre_exec(|| {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            ptrace(libc::PTRACE_TRACEME, 0, 0, 0).map(drop)
        });
    }
}

#[allow(unsafe_code, reason = "ptrace(2) has no safe wrapper")]
fn ptrace(request: libc::c_uint, pid: i32, address: usize, data: usize) -> Result<i64, Error> {
    // SAFETY: of the requests of this file only those for filters write to memory of ours, and `filter` gives them room:
    // the first asks for the size with a null pointer.
    match unsafe { libc::ptrace(request, pid, address, data) } {
        -1 => Err(Error::last_os_error()),
        other => Ok(other),
    }
}

#[allow(unsafe_code, reason = "waitpid(2) with __WALL has no safe wrapper")]
fn wait_for(pid: i32, options: libc::c_int, status: &mut libc::c_int) -> Result<i32, Error> {
    // SAFETY: the pointer is to an integer that outlives the call.
    match unsafe { libc::waitpid(pid, status, options) } {
        -1 => Err(Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// SIGCHLD held back, to be waited for; put back when dropped.
struct ChildSignals {
    chld: libc::sigset_t,
    before: libc::sigset_t,
}

#[allow(unsafe_code, reason = "signal sets have no safe wrapper")]
impl ChildSignals {
    fn block() -> Self {
        // SAFETY: sigemptyset(3) makes valid sets of both before anything else looks at them.
        unsafe {
            let (mut chld, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigemptyset(&raw mut chld);
            libc::sigemptyset(&raw mut before);
            libc::sigaddset(&raw mut chld, libc::SIGCHLD);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const chld, &raw mut before);
            Self { chld, before }
        }
    }

    /// Waits until something has become of a child.
    fn wait(&self, deadline: Instant) -> Result<(), Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || interrupt::has_arrived() {
            return Err(if left.is_zero() { ErrorKind::TimedOut } else { ErrorKind::Interrupted }.into());
        }
        let left = libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(1),
            tv_nsec: left.subsec_nanos().into(),
        };
        // SAFETY: both pointers are to values that outlive the call; the answer is not wanted. A time-out or another
        // signal is seen by the next round.
        unsafe { libc::sigtimedwait(&raw const self.chld, std::ptr::null_mut(), &raw const left) };
        Ok(())
    }
}

#[allow(unsafe_code, reason = "signal sets have no safe wrapper")]
impl Drop for ChildSignals {
    fn drop(&mut self) {
        // SAFETY: the set was filled by sigprocmask(2).
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}
