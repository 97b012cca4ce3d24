//! The directory of a build: finding it, locking it, its manifest, its end.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::edit::EditError;
use super::error::BuildError;
use super::history::Record;
use crate::appc::image_manifest::ImageManifest;
use crate::image::aci::MANIFEST_LIMIT;
use crate::os::atomic::{self, TEMPORARY_PREFIX};
use crate::os::lock::{Lock, Sharing};
use crate::os::{SysError, tree};

const STATE: &str = ".acbuild";
const MODE_FILE: &str = "buildMode";
/// What [`MODE_FILE`] says of a build of an App Container Image.
const APPC: &str = "appc";

/// A directory that a user builds in, with or without a build.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The directory of the state, as messages show it.
    state: PathBuf,
}

/// A build in progress, locked.
#[derive(Debug)]
pub struct Build {
    pub(super) workspace: Workspace,
    _lock: StateLock,
}

/// Holds `lock`, and removes it at the end.
#[derive(Debug)]
pub(super) struct StateLock {
    path: PathBuf,
    lock: Lock,
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // At the end of a build it is gone, and another's may be there.
        if self.lock.is_still_at(&self.path) {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// A directory for what is not finished, removed with its content when dropped.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    /// Makes the directory, which nobody else can reach.
    pub(super) fn new(path: PathBuf) -> Result<Self, BuildError> {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|cause| BuildError::of_state(SysError::new("creating", &path, cause)))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // The next step tries again.
        let _left = tree::remove(&self.path);
    }
}

impl Workspace {
    /// Makes the workspace of the directory `work_path`.
    pub fn new(work_path: &Path) -> Self {
        let state = if work_path == Path::new(".") { PathBuf::from(STATE) } else { work_path.join(STATE) };
        Self { state }
    }

    /// The directory of the image.
    pub(super) fn image(&self) -> PathBuf {
        self.state.join("currentaci")
    }

    /// The root file system of the image.
    pub(super) fn rootfs(&self) -> PathBuf {
        self.image().join("rootfs")
    }

    /// The manifest of the image.
    pub(super) fn manifest(&self) -> PathBuf {
        self.image().join("manifest")
    }

    /// Device and inode of the state directory.
    pub(super) fn identity(&self) -> Result<(u64, u64), SysError> {
        let status = self.state.symlink_metadata().map_err(SysError::on("looking at", &self.state))?;
        Ok((status.dev(), status.ino()))
    }

    /// Opens the build that is in progress.
    ///
    /// # Errors
    /// There is none; another process works on it; it can't be read.
    ///
    /// # Locking
    /// Holds the build exclusively until the [`Build`] is dropped, and does not wait for it.
    pub fn open(&self) -> Result<Build, BuildError> {
        if !self.has_build()? {
            return Err(BuildError::NoBuild);
        }
        let lock = self.lock()?;
        // It may have ended while there was no lock.
        if !self.has_build()? {
            return Err(BuildError::NoBuild);
        }
        let mode_file = self.state.join(MODE_FILE);
        match std::fs::read_to_string(&mode_file) {
            Ok(mode) if mode.trim_end() == APPC => {}
            // Builds had no mode once.
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Ok(mode) => return Err(BuildError::UnknownMode { path: mode_file, mode }),
            Err(cause) => return Err(BuildError::of_state(SysError::new("reading", mode_file, cause))),
        }
        self.sweep()?;
        Ok(Build { workspace: self.clone(), _lock: lock })
    }

    fn has_build(&self) -> Result<bool, BuildError> {
        // A link would lead root to wherever its maker wants.
        if self.state.symlink_metadata().is_ok_and(|status| !status.is_dir()) {
            return Err(BuildError::BadState(self.state.clone()));
        }
        match self.image().symlink_metadata() {
            Ok(status) => Ok(status.is_dir()),
            Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(cause) => Err(BuildError::of_state(SysError::new("looking at", self.image(), cause))),
        }
    }

    /// Prepares the state directory for a new build, which `fill` makes in a directory that becomes the image.
    pub(super) fn create<T>(
        &self,
        fill: impl FnOnce(&Path) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        if self.has_build()? {
            return Err(BuildError::InProgress);
        }
        self.make_state()?;
        let lock = self.lock()?;
        if self.has_build()? {
            return Err(BuildError::InProgress);
        }
        let filled = self.fill(fill);
        if filled.is_err() {
            // Best effort: the first error is the one to tell. What users put there stays.
            let _left = std::fs::remove_file(self.state.join(MODE_FILE));
            drop(lock);
            let _left = std::fs::remove_dir(&self.state);
        }
        filled
    }

    fn make_state(&self) -> Result<(), BuildError> {
        match std::fs::DirBuilder::new().mode(0o700).create(&self.state) {
            Ok(()) => Ok(()),
            // Left by a step that was killed.
            Err(cause) if cause.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                let dir = self.state.parent().unwrap_or(Path::new("."));
                Err(BuildError::Missing(dir.to_owned()))
            }
            Err(cause) => Err(BuildError::of_state(SysError::new("creating", &self.state, cause))),
        }
    }

    fn fill<T>(&self, fill: impl FnOnce(&Path) -> Result<T, BuildError>) -> Result<T, BuildError> {
        self.sweep()?;
        let unfinished = self.unfinished()?;
        let filled = fill(unfinished.path())?;
        atomic::write(&self.state.join(MODE_FILE), APPC.as_bytes(), 0o644).map_err(BuildError::of_state)?;
        std::fs::set_permissions(unfinished.path(), Permissions::from_mode(0o755))
            .map_err(SysError::on("changing the mode of", unfinished.path()))?;
        atomic::rename(unfinished.path(), &self.image())?;
        Ok(filled)
    }

    /// Makes a directory for what is not finished.
    pub(super) fn unfinished(&self) -> Result<Unfinished, BuildError> {
        Unfinished::new(self.state.join(format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::new_v4().simple())))
    }

    /// Removes what a step that was killed has left.
    fn sweep(&self) -> Result<(), BuildError> {
        let failed = |cause| BuildError::of_state(SysError::new("reading", &self.state, cause));
        for entry in std::fs::read_dir(&self.state).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
                tree::remove(&entry.path()).map_err(BuildError::of_state)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> Result<StateLock, BuildError> {
        let path = self.state.join("lock");
        // Whoever held the lock may have removed the file between our opening and our locking it.
        for _ in 0..100 {
            let made = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path);
            match made {
                Ok(_) => {}
                Err(cause) if cause.kind() == ErrorKind::NotFound => return Err(BuildError::NoBuild),
                Err(cause) => return Err(BuildError::of_state(SysError::new("creating", &path, cause))),
            }
            match Lock::try_on(&path, Sharing::Exclusive) {
                Ok(Some(lock)) if lock.is_still_at(&path) => return Ok(StateLock { path, lock }),
                Ok(None) => return Err(BuildError::Locked),
                Ok(Some(_)) => {}
                Err(cause) if cause.kind() == ErrorKind::NotFound => {}
                Err(cause) => return Err(BuildError::of_state(cause)),
            }
        }
        Err(BuildError::Locked)
    }
}

impl Build {
    /// Reads the manifest.
    ///
    /// # Errors
    /// It can't be read, or breaks a rule.
    pub fn manifest(&self) -> Result<ImageManifest, BuildError> {
        self.read_manifest().map(|(manifest, _)| manifest)
    }

    /// Reads the manifest, and when it was changed last.
    pub(super) fn read_manifest(&self) -> Result<(ImageManifest, i64), BuildError> {
        let path = self.workspace.manifest();
        let mut bytes = Vec::new();
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let mtime = options.open(&path).and_then(|file| {
            let status = file.metadata()?;
            if !status.is_file() {
                return Err(std::io::Error::other("Not a regular file"));
            }
            file.take(MANIFEST_LIMIT + 1).read_to_end(&mut bytes)?;
            Ok(status.mtime())
        });
        let mtime = mtime.map_err(|cause| BuildError::of_state(SysError::new("reading", &path, cause)))?;
        match ImageManifest::from_json(&bytes) {
            Ok(manifest) => Ok((manifest, mtime)),
            Err(cause) => Err(BuildError::Manifest { path, cause }),
        }
    }

    /// Changes the manifest and writes the record down.
    ///
    /// # Errors
    /// The change was refused, or breaks a rule of manifests; the old manifest stays.
    pub fn change(
        &self,
        record: &Record,
        edit: impl FnOnce(&mut ImageManifest) -> Result<(), EditError>,
    ) -> Result<(), BuildError> {
        let mut manifest = self.manifest()?;
        edit(&mut manifest)?;
        record.add_to(&mut manifest);
        manifest.validate().map_err(EditError::from)?;
        write_manifest(&self.workspace.manifest(), &manifest)
    }

    /// Opens the root file system, if no link is in its place.
    pub(super) fn open_rootfs(&self) -> Result<OwnedFd, BuildError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.workspace.rootfs();
        rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|cause| BuildError::of_state(SysError::new("opening", path, cause)))
    }

    /// Ends the build and removes its state.
    ///
    /// # Errors
    /// Something can't be removed. The build is over nevertheless, unless its first move was refused.
    pub fn end(self) -> Result<(), BuildError> {
        let state = &self.workspace.state;
        let unfinished = self.workspace.unfinished()?;
        let over = unfinished.path().join("currentaci");
        std::fs::rename(self.workspace.image(), &over).map_err(|cause| {
            BuildError::of_state(SysError::new("removing", self.workspace.image(), cause))
        })?;
        tree::remove(state).map_err(BuildError::of_state)
    }
}

/// Writes a manifest in a way that a failure leaves the old one.
pub(super) fn write_manifest(path: &Path, manifest: &ImageManifest) -> Result<(), BuildError> {
    atomic::write(path, manifest.to_json().as_bytes(), 0o644).map_err(BuildError::of_state)
}
