//! Where the data directory lies: put back before each point, and cut off from its power at some.
//!
//! For a kill, what matters is what the kernel has been told: a tmpfs is enough, and quick. For a power cut it is what
//! has reached the disk: an ext4 file system in a file, which FS_IOC_SHUTDOWN stops.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::host::pause;

/// The directory of everything here, a tmpfs of its own.
pub(crate) const HOME: &str = "/var/lib/rkt-crash";
/// Where the host has the journals of pods.
const JOURNALS: &str = "/var/log/journal";

/// What the data directory lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// Memory, which survives a process.
    Memory,
    /// A disk, which survives a power cut as far as it was written.
    Disk,
}

/// What a power cut takes away: one of the modes of FS_IOC_SHUTDOWN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// What was not synced: nothing more is written (EXT4_GOING_FLAGS_NOLOGFLUSH).
    Unsynced,
    /// The bytes of files that were not synced, but not their names: the log is written (EXT4_GOING_FLAGS_LOGFLUSH).
    Bytes,
    /// Nothing: all is written (EXT4_GOING_FLAGS_DEFAULT).
    Nothing,
}

impl Loss {
    /// As the kernel knows it.
    fn mode(self) -> u32 {
        match self {
            Self::Unsynced => 2,
            Self::Bytes => 1,
            Self::Nothing => 0,
        }
    }
}

/// The data directory and the configuration, with what they are put back to.
#[derive(Debug)]
pub(crate) struct Disk {
    medium: Medium,
    /// Links to journals of pods that belong to the template.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Disk {
    /// The data directory.
    pub(crate) fn data() -> PathBuf {
        Self::top().join("data")
    }

    /// The local configuration, in which the keys are.
    pub(crate) fn config() -> PathBuf {
        Self::top().join("config")
    }

    /// The directory of both.
    pub(crate) fn top() -> PathBuf {
        Path::new(HOME).join("disk")
    }

    fn template() -> PathBuf {
        Path::new(HOME).join("template")
    }

    /// Mounts an empty place for everything; it goes with [`Disk::leave`].
    pub(crate) fn enter() {
        fs::create_dir_all(HOME).expect("a directory in /var/lib");
        must(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "rkt-crash", HOME]));
        fs::create_dir(Self::top()).expect("a new directory");
    }

    /// Takes everything away.
    pub(crate) fn leave() {
        must(Command::new("umount").arg("--lazy").arg(HOME));
        fs::remove_dir(HOME).expect("an empty directory");
    }

    /// Makes the template on `medium`: `fill` makes the data directory.
    pub(crate) fn with_template<T>(medium: Medium, fill: impl FnOnce() -> T) -> (Self, T) {
        let mut disk = Self { medium, links: Vec::new() };
        must(Command::new("rm").arg("-rf").arg(Self::template()));
        let before = journal_links();
        match medium {
            Medium::Memory => renew(&Self::top()),
            Medium::Disk => {
                let image = File::create(Self::template()).expect("a new file");
                image.set_len(64 << 20).expect("a sparse file");
                must(
                    Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^resize_inode"]).arg(Self::template()),
                );
                disk.mount(&Self::template());
            }
        }
        fs::create_dir(Self::data()).expect("a new directory");
        let made = fill();
        match medium {
            Medium::Memory => must(Command::new("cp").arg("-a").arg(Self::top()).arg(Self::template())),
            Medium::Disk => disk.unmount(),
        }
        disk.links = journal_links().into_iter().filter(|link| !before.contains(link)).collect();
        disk.clear();
        (disk, made)
    }

    /// Puts everything back to the template.
    pub(crate) fn restore(&self) {
        self.clear();
        match self.medium {
            Medium::Memory => {
                must(Command::new("cp").arg("-a").arg("-T").arg(Self::template()).arg(Self::top()));
            }
            Medium::Disk => {
                let image = self.image();
                must(Command::new("cp").arg("--sparse=always").arg(Self::template()).arg(&image));
                self.mount(&image);
            }
        }
        for (link, target) in &self.links {
            symlink(target, link).unwrap_or_else(|cause| panic!("{}: {cause}", link.display()));
        }
    }

    /// Takes the data directory away, and what the last point left.
    pub(crate) fn clear(&self) {
        match self.medium {
            Medium::Memory => renew(&Self::top()),
            Medium::Disk if is_mounted(&Self::top()) => self.unmount(),
            Medium::Disk => {}
        }
        for (link, _) in &self.links {
            // Most often the command that was tried has removed it.
            let _gone = fs::remove_file(link);
        }
    }

    /// Stops the file system.
    pub(crate) fn cut_power(&self, loss: Loss) {
        /// `_IOR('X', 125, __u32)`, ext4's and xfs's FS_IOC_SHUTDOWN.
        const FS_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d;
        assert_eq!(self.medium, Medium::Disk, "memory has no power to be cut");
        let top = File::open(Self::top()).expect("the mounted file system");
        let how = loss.mode();
        #[allow(unsafe_code, reason = "this ioctl has no safe wrapper")]
        // SAFETY: the request reads one u32, which outlives the call.
        let done = unsafe { libc::ioctl(top.as_raw_fd(), FS_IOC_SHUTDOWN, &raw const how) };
        assert_eq!(done, 0, "FS_IOC_SHUTDOWN: {}", std::io::Error::last_os_error());
    }

    /// Starts the file system again after a power cut.
    pub(crate) fn restart(&self) {
        self.unmount();
        self.mount(&self.image());
    }

    fn image(&self) -> PathBuf {
        Path::new(HOME).join("disk.img")
    }

    fn mount(&self, image: &Path) {
        must(Command::new("mount").args(["-o", "loop"]).arg(image).arg(Self::top()));
    }

    fn unmount(&self) {
        let mut unmount = Command::new("umount");
        unmount.arg(Self::top());
        // The mount namespace of a pod goes a moment after its last process.
        for _ in 0..100 {
            if unmount.output().is_ok_and(|output| output.status.success()) {
                return;
            }
            pause(Duration::from_millis(20));
        }
        must(&mut unmount);
    }
}

/// Makes a directory empty.
fn renew(dir: &Path) {
    must(Command::new("rm").arg("-rf").arg(dir));
    fs::create_dir(dir).expect("a new directory");
}

fn is_mounted(point: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("proc_pid_mountinfo(5)");
    table.lines().any(|line| line.split(' ').nth(4).is_some_and(|found| Path::new(found) == point))
}

fn journal_links() -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(JOURNALS).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), fs::read_link(entry.path()).ok()?))).collect()
}

/// Runs a command that must succeed.
pub(crate) fn must(command: &mut Command) {
    let output = command.output().unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
