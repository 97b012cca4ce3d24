//! Files and directories that are there whole or not at all, also after a power cut.
//!
//! Order: temporary file in the same directory, write, fsync, rename, fsync of the directory. A failure before the
//! rename removes the temporary file; a kill leaves one whose name starts with [`TEMPORARY_PREFIX`], for a sweep.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::SysError;

/// How the names of unfinished files begin.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Writes `bytes` to `path` with exactly `mode`, replacing what was there; durable on return.
///
/// # Errors
/// When any step is refused; `path` is then as before.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SysError> {
    let temporary = temporary_beside(path);
    let written = write_synced(&temporary, bytes, mode)
        .and_then(|()| std::fs::rename(&temporary, path).map_err(SysError::on("renaming to", path)));
    if let Err(error) = written {
        // Best effort: the error that is reported is the first one.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// Writes `bytes` to a file that the user named, with `mode`; durable on return.
///
/// Other than with [`write`], a kill leaves no temporary file in the user's directory, which nobody sweeps: the new file
/// has no name until it is whole. In exchange, the one that it replaces is gone for a moment. What is no regular file,
/// such as `/dev/stdout`, is written to. A file system that has no nameless files (open(2), O_TMPFILE) gets [`write`].
///
/// # Errors
/// When any step is refused; a file may then be there all the same.
pub fn save(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SysError> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return std::fs::write(path, bytes).map_err(SysError::on("writing", path));
    }
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(parent(path), flags, Mode::from_raw_mode(mode)) {
        Ok(fd) => File::from(fd),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => return write(path, bytes, mode),
        Err(cause) => return Err(SysError::new("creating", path, cause)),
    };
    file.set_permissions(Permissions::from_mode(mode)).map_err(SysError::on("changing the mode of", path))?;
    file.write_all(bytes).map_err(SysError::on("writing", path))?;
    file.sync_all().map_err(SysError::on("syncing", path))?;
    // The only way to give it a name that needs no CAP_DAC_READ_SEARCH (linkat(2)).
    let nameless = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let give_name = || rustix::fs::linkat(CWD, &nameless, CWD, path, AtFlags::SYMLINK_FOLLOW);
    let mut named = give_name();
    if named == Err(Errno::EXIST) {
        std::fs::remove_file(path).map_err(SysError::on("removing", path))?;
        named = give_name();
    }
    named.map_err(SysError::on("creating", path))?;
    sync_parent(path)
}

/// Writes `bytes` to `path` with exactly `mode`, replacing what was there: a reader sees the old file or the new one. It is
/// not synced; after a power cut the file may be either, or empty.
///
/// # Errors
/// When any step is refused; `path` is then as before.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SysError> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, bytes, mode)
        .and_then(|()| std::fs::rename(&temporary, path).map_err(SysError::on("renaming to", path)));
    if written.is_err() {
        // Best effort: the error that is reported is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Writes a new file that nothing may have made before, with exactly `mode`, and syncs it (not its directory).
///
/// # Errors
/// When `path` exists already, or a step is refused.
pub fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SysError> {
    create(path, bytes, mode)?.sync_all().map_err(SysError::on("syncing", path))
}

/// As [`write_synced`], for a file that its directory's owner syncs later.
///
/// # Errors
/// As [`write_synced`].
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SysError> {
    create(path, bytes, mode).map(drop)
}

fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<File, SysError> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(SysError::on("creating", path))?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(SysError::on("changing the mode of", path))?;
    file.write_all(bytes).map_err(SysError::on("writing", path))?;
    Ok(file)
}

/// Renames `from` to `to` and syncs both parents, so that a crash leaves one of the two names, never none.
///
/// # Errors
/// When the rename or a sync is refused.
pub fn rename(from: &Path, to: &Path) -> Result<(), SysError> {
    std::fs::rename(from, to).map_err(SysError::on("renaming to", to))?;
    sync_parent(to)?;
    match (from.parent(), to.parent()) {
        (Some(old), Some(new)) if old != new => sync_dir(old),
        _ => Ok(()),
    }
}

/// Makes the directory `path` and those above it that are missing, each with exactly `mode`; durable on return.
///
/// # Errors
/// When one can't be made or synced.
pub fn make_dirs(path: &Path, mode: u32) -> Result<(), SysError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_dirs(above, mode)?;
    }
    match std::fs::create_dir(path) {
        Ok(()) => {}
        // Someone else was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(error) => return Err(SysError::new("creating", path, error)),
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(SysError::on("changing the mode of", path))?;
    sync_parent(path)
}

/// Makes the entries of the directory `dir` durable.
///
/// # Errors
/// When it can't be opened or synced.
pub fn sync_dir(dir: &Path) -> Result<(), SysError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(SysError::on("syncing", dir))
}

/// Makes all that was written to the file system of `path` durable (syncfs(2)).
///
/// # Errors
/// When `path` can't be opened, or the kernel reports a write that was lost.
pub fn sync_filesystem(path: &Path) -> Result<(), SysError> {
    let file = File::open(path).map_err(SysError::on("opening", path))?;
    rustix::fs::syncfs(&file).map_err(SysError::on("syncing the file system of", path))
}

fn sync_parent(path: &Path) -> Result<(), SysError> {
    sync_dir(parent(path))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_beside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::new_v4().simple()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_replaces_whole_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, b"one", 0o640).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn save_replaces_a_file_and_writes_to_what_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        for text in ["one", "two"] {
            save(&path, text.as_bytes(), 0o644).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        std::os::unix::fs::symlink(&path, &link).unwrap();
        save(&link, b"three", 0o644).unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(save(&dir.path().join("missing/file"), b"x", 0o644).is_err());
    }

    #[test]
    fn a_refused_write_leaves_the_directory_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("taken")).unwrap();
        assert!(write(&dir.path().join("taken"), b"x", 0o600).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
