//! Signals as something to read, for a command that waits in poll(2) and passes them on (signalfd(2)).

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use super::SysError;

/// What tells a command to end, and what tells it that its terminal has another size.
const WANTED: [i32; 5] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGWINCH];

/// The signals of this process, which do nothing by themselves from now on. Those that were ignored stay so.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks them and opens the descriptor. It must be called before any thread is started.
    ///
    /// # Errors
    /// When the process has too many descriptors.
    #[allow(unsafe_code, reason = "signalfd(2) has no safe wrapper")]
    pub fn take() -> Result<Self, SysError> {
        // SAFETY: an all-zero sigset_t is a valid place for sigemptyset(3); the other calls read and write that place.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in
                WANTED.into_iter().filter(|signal| *signal == libc::SIGWINCH || !is_ignored(*signal))
            {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(SysError::new("opening", "a signalfd", std::io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just made it for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes the next signal that has come.
    pub fn next(&self) -> Option<i32> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut record = [0u8; SIZE];
        let length = rustix::io::read(&self.0, &mut record).ok()?;
        // The first field, ssi_signo, is a u32.
        let number = record.first_chunk::<4>().filter(|_| length == SIZE)?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

/// Tells whether somebody has said that a signal means nothing, as nohup(1) does.
#[allow(unsafe_code, reason = "an all-zero sigaction is valid, and sigaction(2) only writes to it")]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: as above.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now);
        now.sa_sigaction == libc::SIG_IGN
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
