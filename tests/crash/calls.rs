//! Which system calls change state that outlives the process, and how they are told in a report.

use std::fmt;

use crate::trace::{text_at, word_at};

/// A system call as the kernel sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw {
    /// The thread that makes it.
    pub(crate) tid: i32,
    /// Its number.
    pub(crate) number: u64,
    /// Its arguments.
    pub(crate) args: [u64; 6],
}

/// A call that changes state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its name.
    pub(crate) name: &'static str,
    /// The file or directory that it is about.
    pub(crate) on: String,
    /// Whether it may fail for want of space.
    pub(crate) takes_space: bool,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.on)
    }
}

/// What the arguments of a call name.
#[derive(Debug, Clone, Copy)]
enum On {
    /// The descriptor in argument 0.
    Fd,
    /// The descriptor in argument 0, if it is a file and no pipe, socket or device.
    File,
    /// The path in this argument.
    Path(usize),
    /// The path in argument 1, relative to the descriptor in argument 0.
    At,
    /// The path in argument 1, if argument 2 has O_CREAT.
    Created,
    /// The same, with the flags in the structure that argument 2 leads to (openat2(2)).
    CreatedHow,
    /// Two paths, each relative to a descriptor.
    TwoAt,
    /// The path in argument 2, relative to the descriptor in argument 1.
    LinkAt,
    /// An ioctl on the descriptor, if it is one that changes something.
    Ioctl,
    /// Nothing that has a name.
    Nothing,
}

const SPACE: bool = true;
const NO_SPACE: bool = false;

#[rustfmt::skip]
const TABLE: &[(i64, &str, On, bool)] = &[
    (libc::SYS_openat, "openat(O_CREAT)", On::Created, SPACE),
    (libc::SYS_openat2, "openat2(O_CREAT)", On::CreatedHow, SPACE),
    (libc::SYS_write, "write", On::File, SPACE),
    (libc::SYS_pwrite64, "pwrite64", On::File, SPACE),
    (libc::SYS_writev, "writev", On::File, SPACE),
    (libc::SYS_copy_file_range, "copy_file_range", On::File, SPACE),
    (libc::SYS_sendfile, "sendfile", On::File, SPACE),
    (libc::SYS_ftruncate, "ftruncate", On::File, SPACE),
    (libc::SYS_fallocate, "fallocate", On::File, SPACE),
    (libc::SYS_renameat, "renameat", On::TwoAt, SPACE),
    (libc::SYS_renameat2, "renameat2", On::TwoAt, SPACE),
    (libc::SYS_linkat, "linkat", On::TwoAt, SPACE),
    (libc::SYS_symlinkat, "symlinkat", On::LinkAt, SPACE),
    (libc::SYS_unlinkat, "unlinkat", On::At, NO_SPACE),
    (libc::SYS_mkdirat, "mkdirat", On::At, SPACE),
    (libc::SYS_mknodat, "mknodat", On::At, SPACE),
    (libc::SYS_fsync, "fsync", On::Fd, SPACE),
    (libc::SYS_fdatasync, "fdatasync", On::Fd, SPACE),
    (libc::SYS_syncfs, "syncfs", On::Fd, SPACE),
    (libc::SYS_sync_file_range, "sync_file_range", On::Fd, SPACE),
    (libc::SYS_fchmod, "fchmod", On::Fd, NO_SPACE),
    (libc::SYS_fchmodat, "fchmodat", On::At, NO_SPACE),
    (libc::SYS_fchown, "fchown", On::Fd, NO_SPACE),
    (libc::SYS_fchownat, "fchownat", On::At, NO_SPACE),
    (libc::SYS_fsetxattr, "fsetxattr", On::Fd, SPACE),
    (libc::SYS_setxattr, "setxattr", On::Path(0), SPACE),
    (libc::SYS_lsetxattr, "lsetxattr", On::Path(0), SPACE),
    (libc::SYS_fremovexattr, "fremovexattr", On::Fd, NO_SPACE),
    (libc::SYS_utimensat, "utimensat", On::At, NO_SPACE),
    (libc::SYS_flock, "flock", On::Fd, NO_SPACE),
    (libc::SYS_ioctl, "ioctl", On::Ioctl, NO_SPACE),
    (libc::SYS_mount, "mount", On::Path(1), NO_SPACE),
    (libc::SYS_umount2, "umount2", On::Path(0), NO_SPACE),
    (libc::SYS_mount_setattr, "mount_setattr", On::At, NO_SPACE),
    (libc::SYS_fsmount, "fsmount", On::Nothing, NO_SPACE),
    (libc::SYS_fsconfig, "fsconfig", On::Nothing, NO_SPACE),
    (libc::SYS_move_mount, "move_mount", On::TwoAt, NO_SPACE),
    (libc::SYS_pivot_root, "pivot_root", On::Path(0), NO_SPACE),
    (libc::SYS_unshare, "unshare", On::Nothing, SPACE),
    (libc::SYS_setns, "setns", On::Fd, NO_SPACE),
    (libc::SYS_sendmsg, "sendmsg", On::Fd, NO_SPACE),
    (libc::SYS_sendto, "sendto", On::Fd, NO_SPACE),
    (libc::SYS_execve, "execve", On::Path(0), NO_SPACE),
];

/// The calls that only some architectures have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD_TABLE: &[(i64, &str, On, bool)] = &[
    (libc::SYS_rename, "rename", On::Path(1), SPACE),
    (libc::SYS_link, "link", On::Path(1), SPACE),
    (libc::SYS_symlink, "symlink", On::Path(1), SPACE),
    (libc::SYS_unlink, "unlink", On::Path(0), NO_SPACE),
    (libc::SYS_mkdir, "mkdir", On::Path(0), SPACE),
    (libc::SYS_rmdir, "rmdir", On::Path(0), NO_SPACE),
    (libc::SYS_mknod, "mknod", On::Path(0), SPACE),
    (libc::SYS_chmod, "chmod", On::Path(0), NO_SPACE),
    (libc::SYS_chown, "chown", On::Path(0), NO_SPACE),
    (libc::SYS_lchown, "lchown", On::Path(0), NO_SPACE),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_TABLE: &[(i64, &str, On, bool)] = &[];

/// Says what a call changes; `None` when it changes nothing that outlives the process.
pub(crate) fn recognise(raw: &Raw) -> Option<Call> {
    let number = i64::try_from(raw.number).ok()?;
    let &(_, name, on, takes_space) = TABLE.iter().chain(OLD_TABLE).find(|(known, ..)| *known == number)?;
    Some(Call { name, on: object(raw, on)?, takes_space })
}

fn object(raw: &Raw, on: On) -> Option<String> {
    let text = |argument: usize| text_at(raw.tid, raw.args[argument]);
    match on {
        On::Nothing => Some(String::new()),
        On::Fd => Some(descriptor(raw, 0)),
        On::File => {
            Some(descriptor(raw, 0)).filter(|file| file.starts_with('/') && !file.starts_with("/dev/"))
        }
        On::Path(argument) => Some(text(argument)),
        On::At => Some(below(raw, 0, 1)),
        On::Created => creates(raw.args[2]).then(|| below(raw, 0, 1)),
        On::CreatedHow => creates(word_at(raw.tid, raw.args[2])).then(|| below(raw, 0, 1)),
        On::TwoAt => Some(format!("{} -> {}", below(raw, 0, 1), below(raw, 2, 3))),
        On::LinkAt => Some(below(raw, 1, 2)),
        On::Ioctl => {
            // FICLONE (ioctl_ficlone(2)) and SIOCSIFFLAGS (netdevice(7)).
            [0x4004_9409, 0x8914].contains(&raw.args[1]).then(|| descriptor(raw, 0))
        }
    }
}

fn creates(flags: u64) -> bool {
    flags & u64::from(libc::O_CREAT.cast_unsigned()) != 0
}

/// The path in argument `path` as it is, or below the descriptor in argument `dir`.
fn below(raw: &Raw, dir: usize, path: usize) -> String {
    let text = if raw.args[path] == 0 { String::new() } else { text_at(raw.tid, raw.args[path]) };
    if text.starts_with('/') {
        text
    } else {
        format!("{}/{text}", descriptor(raw, dir)).trim_end_matches('/').to_owned()
    }
}

fn descriptor(raw: &Raw, argument: usize) -> String {
    // Descriptors are ints, whatever is in the upper half of the register.
    let fd = raw.args[argument] as u32 as i32;
    let link = if fd == libc::AT_FDCWD {
        format!("/proc/{}/cwd", raw.tid)
    } else {
        format!("/proc/{}/fd/{fd}", raw.tid)
    };
    std::fs::read_link(link).map_or_else(|_| format!("[{fd}]"), |path| path.to_string_lossy().into_owned())
}
