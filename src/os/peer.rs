//! Connecting to a socket of another PID namespace so that the other side can name who connects.
//!
//! systemd's private socket refuses a peer without a process ID, which a process outside of its PID namespace has not
//! (unix(7), `SO_PEERCRED`: the credentials are those at the time of connect(2)). So a child that is in that namespace for
//! this one call connects the socket that its parent then uses.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::SysError;

/// Connects to the socket at `path` by a process in the PID namespace `namespace`.
///
/// The caller must have no other thread.
///
/// # Errors
/// When nobody listens there, or the namespace can't be joined.
pub fn connect_within(namespace: &OwnedFd, path: &Path) -> Result<UnixStream, SysError> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(SysError::on("opening a socket for", path))?;
    let (address, length) = address(path)?;
    match connect_in_child(namespace.as_raw_fd(), socket.as_raw_fd(), &address, length) {
        0 => Ok(UnixStream::from(socket)),
        number => Err(SysError::new("connecting to", path, std::io::Error::from_raw_os_error(number))),
    }
}

#[allow(unsafe_code, reason = "an all-zero sockaddr_un is valid")]
fn address(path: &Path) -> Result<(libc::sockaddr_un, libc::socklen_t), SysError> {
    // SAFETY: as above.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(SysError::new("connecting to", path, rustix::io::Errno::NAMETOOLONG));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

/// Returns 0 or the number of the error.
///
/// Two children, since setns(2) takes effect for the children of who calls it only, and would leave the caller unable to
/// start threads.
#[allow(unsafe_code, reason = "fork(2) has no safe wrapper")]
fn connect_in_child(
    namespace: libc::c_int,
    socket: libc::c_int,
    address: &libc::sockaddr_un,
    length: libc::socklen_t,
) -> i32 {
    // SAFETY: the caller has one thread; the children make system calls only, on descriptors and memory that they have
    // of their parent, and end by _exit(2).
    unsafe {
        in_child(|| {
            if libc::setns(namespace, libc::CLONE_NEWPID) != 0 {
                return last_error();
            }
            in_child(|| {
                // Nobody in the namespace may look into it, or through it at the host.
                libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
                match libc::connect(socket, (&raw const *address).cast(), length) {
                    0 => 0,
                    _ => last_error(),
                }
            })
        })
    }
}

fn last_error() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Runs `work` in a child and returns what it returns, a number below 256.
#[allow(unsafe_code, reason = "fork(2) has no safe wrapper")]
unsafe fn in_child(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: by the caller.
    unsafe {
        match libc::fork() {
            -1 => last_error(),
            0 => libc::_exit(work()),
            child => {
                let mut status = 0;
                while libc::waitpid(child, &raw mut status, 0) < 0 {
                    if last_error() != libc::EINTR {
                        return last_error();
                    }
                }
                if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { libc::EIO }
            }
        }
    }
}
