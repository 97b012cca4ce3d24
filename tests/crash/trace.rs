//! Runs a command call by call, and does something to it at one of them: kills it, or has the kernel refuse the call.
//!
//! strace(1) counts calls per thread, so that its `inject=…:when=N` can't name the N-th call of a program that has
//! several; this counts over all threads of the process. Children that it forks are not followed.

#![allow(unsafe_code, reason = "ptrace(2) has no safe wrapper")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::null_mut;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::calls::{self, Call, Raw};
use crate::disk::Loss;

/// After this long a command has hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The process is killed; the call is not made.
    Kill,
    /// The file system stops, then the process is killed; the call is not made.
    PowerCut(Loss),
    /// The call is not made, and returns this error.
    Refuse(rustix::io::Errno),
}

/// Which calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// From the start to the call by which the process becomes another program; then it is left alone.
    UntilExec,
    /// From the moment at which it has become another program.
    AfterExec,
}

/// How a traced command ended.
#[derive(Debug)]
pub(crate) struct Traced {
    /// The counted calls, up to the one at which it was killed.
    pub(crate) calls: Vec<Call>,
    /// Its exit code, or the signal that ended it.
    pub(crate) end: End,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exit(i32),
    /// By a signal.
    Signal(i32),
    /// It was killed because it did not end.
    Hung,
}

/// Runs `command`; at the call number `at` of those that are counted, it gets the `blow`, before which `before` is called.
pub(crate) fn run(
    mut command: Command,
    span: Span,
    blow: Option<(usize, Blow)>,
    mut before: impl FnMut(),
) -> Traced {
    // SAFETY: the closure makes one system call, which is async-signal-safe, between fork(2) and execve(2).
    unsafe {
        command.pre_exec(|| {
            match libc::ptrace(libc::PTRACE_TRACEME, 0, null_mut::<u8>(), null_mut::<u8>()) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
    #[allow(clippy::zombie_processes, reason = "`follow` waits for it, as for every thread of it")]
    let child = command.spawn().unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
    let pid = i32::try_from(child.id()).expect("a process ID");
    let (ended, watch) = channel::<()>();
    // A process that waits for ever makes no call at which this thread would look at a clock.
    let watchdog = std::thread::spawn(move || match watch.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Timeout) => {
            kill(pid);
            true
        }
        _ => false,
    });
    let mut tracer = Tracer { pid, span, blow, calls: Vec::new(), counting: span == Span::UntilExec };
    let mut end = tracer.follow(&mut before);
    drop(ended);
    if watchdog.join().expect("the watchdog does not panic") {
        end = End::Hung;
    }
    Traced { calls: tracer.calls, end }
}

struct Tracer {
    pid: i32,
    span: Span,
    blow: Option<(usize, Blow)>,
    calls: Vec<Call>,
    counting: bool,
}

/// What the tracer lets a stopped thread do.
enum Next {
    GoOn { signal: i32 },
    LetGo,
    Killed,
}

impl Tracer {
    fn follow(&mut self, before: &mut impl FnMut()) -> End {
        let mut status = 0;
        let mut known = BTreeSet::from([self.pid]);
        let mut refused: BTreeMap<i32, rustix::io::Errno> = BTreeMap::new();
        assert_eq!(wait(self.pid, &mut status), self.pid, "the command is the child of this thread");
        assert!(libc::WIFSTOPPED(status), "it stops at its first instruction");
        let options = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEEXEC
            | libc::PTRACE_O_EXITKILL;
        request(libc::PTRACE_SETOPTIONS, self.pid, options as usize);
        request(libc::PTRACE_SYSCALL, self.pid, 0);
        loop {
            let tid = wait(-1, &mut status);
            assert!(tid > 0, "the process whose end was not seen is a child");
            if !libc::WIFSTOPPED(status) {
                if tid == self.pid {
                    return end_of(status);
                }
                continue;
            }
            let signal = libc::WSTOPSIG(status);
            let next = if signal == libc::SIGTRAP | 0x80 {
                self.at_call(tid, &mut refused, before)
            } else if status >> 16 == libc::PTRACE_EVENT_EXEC {
                self.at_exec()
            } else if status >> 16 != 0 || (signal == libc::SIGSTOP && known.insert(tid)) {
                // A thread was made; or it is the thread itself, which starts stopped.
                Next::GoOn { signal: 0 }
            } else {
                Next::GoOn { signal }
            };
            match next {
                Next::GoOn { signal } => {
                    // It may have been killed meanwhile: then its end is reported next.
                    request(libc::PTRACE_SYSCALL, tid, usize::try_from(signal).unwrap_or_default());
                }
                Next::LetGo => {
                    request(libc::PTRACE_DETACH, tid, 0);
                }
                Next::Killed => kill(self.pid),
            }
        }
    }

    fn at_exec(&mut self) -> Next {
        match self.span {
            Span::UntilExec => Next::LetGo,
            Span::AfterExec => {
                self.counting = true;
                Next::GoOn { signal: 0 }
            }
        }
    }

    fn at_call(
        &mut self,
        tid: i32,
        refused: &mut BTreeMap<i32, rustix::io::Errno>,
        before: &mut impl FnMut(),
    ) -> Next {
        let go_on = Next::GoOn { signal: 0 };
        let Some(info) = call_info(tid) else { return go_on };
        if info.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            if let Some(error) = refused.remove(&tid) {
                set_result(tid, error);
            }
            return go_on;
        }
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY || !self.counting {
            return go_on;
        }
        // SAFETY: the kernel has filled this member, as `op` says.
        let entry = unsafe { info.u.entry };
        let Some(call) = calls::recognise(&Raw { tid, number: entry.nr, args: entry.args }) else {
            return go_on;
        };
        self.calls.push(call);
        match self.blow {
            Some((at, blow)) if at == self.calls.len() => match blow {
                Blow::Refuse(error) => {
                    skip_call(tid);
                    refused.insert(tid, error);
                    go_on
                }
                Blow::Kill => Next::Killed,
                Blow::PowerCut(_) => {
                    before();
                    Next::Killed
                }
            },
            _ => go_on,
        }
    }
}

/// Reads the text that a pointer of a stopped thread leads to.
pub(crate) fn text_at(tid: i32, address: u64) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; 4096];
    // As much as there is before the end of what is mapped.
    let length = File::open(format!("/proc/{tid}/mem"))
        .and_then(|memory| {
            let to_page_end = 4096 - usize::try_from(address % 4096).unwrap_or_default();
            memory
                .read_at(&mut bytes, address)
                .or_else(|_| memory.read_at(&mut bytes[..to_page_end], address))
        })
        .unwrap_or_default();
    bytes.truncate(length);
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Reads the number that a pointer of a stopped thread leads to.
pub(crate) fn word_at(tid: i32, address: u64) -> u64 {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; 8];
    let read =
        File::open(format!("/proc/{tid}/mem")).and_then(|memory| memory.read_exact_at(&mut bytes, address));
    if read.is_ok() { u64::from_ne_bytes(bytes) } else { 0 }
}

fn end_of(status: i32) -> End {
    if libc::WIFEXITED(status) {
        End::Exit(libc::WEXITSTATUS(status))
    } else {
        End::Signal(libc::WTERMSIG(status))
    }
}

fn wait(pid: i32, status: &mut i32) -> i32 {
    // SAFETY: `status` is a valid place for an int.
    unsafe { libc::waitpid(pid, status, libc::__WALL) }
}

fn kill(pid: i32) {
    // SAFETY: plain integers; the process is our child and not reaped yet.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn request(request: libc::c_uint, tid: i32, data: usize) {
    // SAFETY: these requests take integers, no pointers. A thread that has been killed is no error here.
    unsafe { libc::ptrace(request, tid, null_mut::<u8>(), data as *mut u8) };
}

fn call_info(tid: i32) -> Option<libc::ptrace_syscall_info> {
    // SAFETY: all-zero bytes are a valid value of this plain struct.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: the kernel writes at most `size` bytes to `info`.
    let filled = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, tid, size, &raw mut info) };
    (filled > 0).then_some(info)
}

#[cfg(target_arch = "x86_64")]
fn change_registers(tid: i32, change: impl FnOnce(&mut libc::user_regs_struct)) {
    // SAFETY: all-zero bytes are a valid value of this plain struct.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads and writes exactly one such struct.
    unsafe {
        libc::ptrace(libc::PTRACE_GETREGS, tid, null_mut::<u8>(), &raw mut registers);
        change(&mut registers);
        libc::ptrace(libc::PTRACE_SETREGS, tid, null_mut::<u8>(), &raw mut registers);
    }
}

/// Has a thread that is about to make a call make none.
#[cfg(target_arch = "x86_64")]
fn skip_call(tid: i32) {
    change_registers(tid, |registers| registers.orig_rax = u64::MAX);
}

/// Sets what the call that was skipped returns.
#[cfg(target_arch = "x86_64")]
fn set_result(tid: i32, error: rustix::io::Errno) {
    change_registers(tid, |registers| registers.rax = (-i64::from(error.raw_os_error())).cast_unsigned());
}

#[cfg(not(target_arch = "x86_64"))]
fn skip_call(_tid: i32) {
    unimplemented!("refusing calls is written for x86_64 only; kills and power cuts work everywhere");
}

#[cfg(not(target_arch = "x86_64"))]
fn set_result(_tid: i32, _error: rustix::io::Errno) {}
