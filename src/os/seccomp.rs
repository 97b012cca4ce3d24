//! Filters of system calls as the kernel has them: programs of classic BPF (seccomp(2)), put on this process, or read
//! from another one.

use std::io::{Error, ErrorKind};

use super::SysError;

/// One instruction, `struct sock_filter` of linux/filter.h.
const INSTRUCTION: usize = size_of::<libc::sock_filter>();
/// `BPF_MAXINSNS` of linux/bpf_common.h.
const MOST_INSTRUCTIONS: usize = 4096;
const WHERE: &str = "/proc/self/status";

/// A program of classic BPF, as bytes in this machine's order.
#[derive(Clone, PartialEq, Eq)]
pub struct FilterProgram(Vec<u8>);

impl FilterProgram {
    /// Takes the bytes of a program; what they mean is for the kernel to check.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        let fits = bytes.len().is_multiple_of(INSTRUCTION)
            && (1..=MOST_INSTRUCTIONS).contains(&(bytes.len() / INSTRUCTION));
        fits.then_some(Self(bytes))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Puts the program on this process, on top of those that it has, for ever.
    ///
    /// # Errors
    /// When the kernel refuses it, as for a caller without CAP_SYS_ADMIN.
    pub fn load(&self) -> Result<(), SysError> {
        let mut instructions: Vec<libc::sock_filter> = self.0.chunks_exact(INSTRUCTION).map(read).collect();
        load(&mut instructions).map_err(SysError::on("filtering the system calls of", WHERE))
    }
}

impl std::fmt::Debug for FilterProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FilterProgram of {} instructions", self.0.len() / INSTRUCTION)
    }
}

fn read(bytes: &[u8]) -> libc::sock_filter {
    let k = [bytes[4], bytes[5], bytes[6], bytes[7]];
    libc::sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes(k),
    }
}

#[allow(unsafe_code, reason = "seccomp(2) has no safe wrapper")]
fn load(instructions: &mut [libc::sock_filter]) -> Result<(), Error> {
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Error::from(ErrorKind::InvalidInput))?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: the pointer leads to `len` instructions, which the kernel reads during the call and does not keep.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// How many filters the process with this name in /proc has (proc_pid_status(5), since Linux 5.9).
pub fn count(process: &str) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:")?.trim().parse().ok())
}
