//! Namespaces of the network: a new one for this process alone, or one with a name below /run/netns, as `ip netns` makes
//! them (ip-netns(8)).

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::SysError;
use super::lock::{Lock, Sharing};

const OWN_NETWORK: &str = "/proc/self/ns/net";
const OWN_MOUNTS: &str = "/proc/self/ns/mnt";

/// What every new namespace is told (kernel documentation, ip-sysctl.rst).
///
/// Router advertisements may come from a neighbour that is none of the network's (CVE-2020-10749). The namespace belongs to
/// the host's users: without the last two a pod with users of its own can neither listen on low ports nor ping.
const SETTINGS: [(&str, &str); 4] = [
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
];

/// Moves this process into a new network namespace, in which only a loopback device exists, and raises that.
///
/// # Errors
/// When the kernel refuses, as for a caller without CAP_SYS_ADMIN.
pub fn enter_new_network() -> Result<(), SysError> {
    unshare_network().map_err(SysError::on("making a network namespace at", OWN_NETWORK))?;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(SysError::on("opening a socket in", OWN_NETWORK))?;
    raise_loopback(&socket).map_err(SysError::on("raising the device lo in", OWN_NETWORK))
}

/// The namespaces of network and mounts that a process was in, and its working directory there, to return to.
#[derive(Debug)]
pub struct Home {
    network: OwnedFd,
    mounts: OwnedFd,
    directory: OwnedFd,
}

impl Home {
    /// Those that this process is in now.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn of_this_process() -> Result<Self, SysError> {
        Ok(Self { network: open(OWN_NETWORK)?, mounts: open(OWN_MOUNTS)?, directory: open(".")? })
    }

    /// Moves this process back; mounts that it has made elsewhere end with their namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<(), SysError> {
        set(&self.network, LinkNameSpaceType::Network, OWN_NETWORK)?;
        set(&self.mounts, LinkNameSpaceType::Mount, OWN_MOUNTS)?;
        // setns(2) has made it the root.
        rustix::process::fchdir(&self.directory).map_err(SysError::on("entering", "."))
    }
}

/// Makes a network namespace with the name `path`, a file in a directory that is made and shared with all mount
/// namespaces; this process stays in its own.
///
/// # Errors
/// When there is a file of that name, or the kernel refuses; the file may be there then.
///
/// # Locking
/// Holds the directory for the moment in which it is made a mount of its own, as `ip netns` does.
pub fn create_network(path: &Path) -> Result<(), SysError> {
    if let Some(dir) = path.parent() {
        share(dir)?;
    }
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(SysError::on("creating", path))?;
    let home = open(OWN_NETWORK)?;
    let made = enter_new_network().and_then(|()| {
        settle()?;
        rustix::mount::mount_bind(OWN_NETWORK, path).map_err(SysError::on("mounting", path))
    });
    set(&home, LinkNameSpaceType::Network, OWN_NETWORK)?;
    made
}

/// Moves this process into the network namespace with the name `path`.
///
/// # Errors
/// When it is none, or the kernel refuses.
pub fn join_network(path: &Path) -> Result<(), SysError> {
    set(&open(path)?, LinkNameSpaceType::Network, path)
}

/// Tells whether `path` is the name of a namespace: after the machine was started anew it is not any more.
pub fn is_namespace(path: &Path) -> bool {
    /// statfs(2)
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == NSFS_MAGIC)
}

/// Takes the name `path` from a network namespace, which ends when no process is in it.
///
/// # Errors
/// When the kernel refuses; that it has no such name is no error.
pub fn remove_network(path: &Path) -> Result<(), SysError> {
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(cause) => return Err(SysError::new("unmounting", path, cause)),
        }
    }
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(SysError::new("removing", path, cause)),
        _ => Ok(()),
    }
}

fn open(path: impl AsRef<Path>) -> Result<OwnedFd, SysError> {
    let path = path.as_ref();
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(SysError::on("opening", path))
}

fn set(namespace: &OwnedFd, kind: LinkNameSpaceType, path: impl AsRef<Path>) -> Result<(), SysError> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))
        .map_err(SysError::on("entering", path))
}

/// Makes `dir`, and makes it a shared mount, so that names in it come and go in every mount namespace.
fn share(dir: &Path) -> Result<(), SysError> {
    match std::fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(cause) if cause.kind() != ErrorKind::AlreadyExists => {
            return Err(SysError::new("creating", dir, cause));
        }
        _ => {}
    }
    // Two at once would mount it twice.
    let _lock = Lock::wait_on(dir, Sharing::Exclusive, || log::debug!("waiting for {}", dir.display()))?;
    let make =
        || rustix::mount::mount_change(dir, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    match make() {
        // It is no mount yet.
        Err(Errno::INVAL) => rustix::mount::mount_bind_recursive(dir, dir).and_then(|()| make()),
        other => other,
    }
    .map_err(SysError::on("sharing the mounts of", dir))
}

fn settle() -> Result<(), SysError> {
    for (name, value) in SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        match std::fs::write(&path, value) {
            // A kernel without IPv6.
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            other => other.map_err(SysError::on("writing", &path))?,
        }
    }
    Ok(())
}

#[allow(
    unsafe_code,
    reason = "unshare(2) is unsafe in rustix for CLONE_FILES only, which is not asked for here"
)]
fn unshare_network() -> Result<(), Errno> {
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
