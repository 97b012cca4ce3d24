//! Network namespaces.

use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::UnshareFlags;

use super::SysError;

/// Moves this process into a new network namespace, in which only a loopback device exists, and raises that.
///
/// # Errors
/// When the kernel refuses, as for a caller without CAP_SYS_ADMIN.
pub fn enter_new_network() -> Result<(), SysError> {
    const WHERE: &str = "/proc/self/ns/net";
    unshare_network().map_err(SysError::on("making a network namespace at", WHERE))?;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(SysError::on("opening a socket in", WHERE))?;
    raise_loopback(&socket).map_err(SysError::on("raising the device lo in", WHERE))
}

#[allow(
    unsafe_code,
    reason = "unshare(2) is unsafe in rustix for CLONE_FILES only, which is not asked for here"
)]
fn unshare_network() -> Result<(), rustix::io::Errno> {
    // SAFETY: CLONE_NEWNET changes no file descriptor and no memory of this process.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
}

#[allow(unsafe_code, reason = "the ioctls of netdevice(7) have no safe wrapper")]
fn raise_loopback(socket: &impl AsRawFd) -> Result<(), std::io::Error> {
    // SAFETY: all-zero bytes are a valid `ifreq`: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the name and the flags of the `ifreq` that the pointer leads to, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
