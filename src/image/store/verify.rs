//! Trees compared with what their images say, file by file.
//!
//! The truth about a tree is the blobs of its images, whose hashes are their IDs: they are unpacked once more, beside the
//! tree, and both are compared. A list of hashes that was written when the tree was made would be cheaper to compare
//! with, but it costs every fetch the hashing of each file, and who changes the tree can change the list. What was
//! unpacked for the comparison is also what repairs.
//!
//! Times are not compared (spec images.md 2.7).

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::layer::is_layer_tree;
use super::staging::Staging;
use super::tree::TreeId;
use super::{MANIFEST, ROOTFS, Store, StoreError, TreesLocked};
use crate::appc::image_id::ImageId;
use crate::os::tree::kept_xattrs;
use crate::os::walk::{Step, Walk};
use crate::os::{SysError, interrupt, tree};

/// How the name begins of a damaged tree that pods go on with.
pub(super) const OLD_PREFIX: &str = ".old-";

/// Something in a tree that is not as its images say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its absolute path in the root file system; `manifest` is the file beside that.
    pub path: PathBuf,
    /// What is wrong with it.
    pub change: Change,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is not there.
    Missing,
    /// It should not be there.
    Added,
    /// It is not what it should be, in these respects.
    Changed(Vec<&'static str>),
    /// It can't be read.
    Unreadable(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::ffi::OsStrExt;
        // A name may be anything, also an order to the terminal.
        let path: String = self
            .path
            .as_os_str()
            .as_bytes()
            .utf8_chunks()
            .map(|chunk| {
                let text: String = chunk
                    .valid()
                    .chars()
                    .map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() })
                    .collect();
                format!("{text}{}", chunk.invalid().escape_ascii())
            })
            .collect();
        match &self.change {
            Change::Missing => write!(f, "missing: {path}"),
            Change::Added => write!(f, "added: {path}"),
            Change::Changed(what) => write!(f, "changed: {path} ({})", what.join(", ")),
            Change::Unreadable(why) => write!(f, "unreadable: {path} ({why})"),
        }
    }
}

/// What the comparison has found.
pub enum Verified<'a> {
    /// There is no tree; the blob is what its ID names.
    NotRendered,
    /// The tree is what its images say.
    Whole(TreeId),
    /// It is not.
    Damaged(DamagedTree<'a>),
}

/// A tree that is not what its images say, and one that is.
#[must_use = "dropping it leaves the tree damaged"]
pub struct DamagedTree<'a> {
    pub(super) store: &'a Store,
    pub(super) good: Vec<Replacement>,
    /// The tree.
    pub tree: TreeId,
    /// What is wrong with it, in the order of the paths.
    pub differences: Vec<Difference>,
}

/// What can take the place of a damaged part of a tree: the tree itself, or that of a layer. It is synced.
pub(super) struct Replacement {
    pub(super) fresh: Staging,
    /// The name of what is damaged, in the directory of trees.
    pub(super) name: String,
}

impl Store {
    /// Compares the tree of an image with what the blobs of its images hold, which are hashed on the way.
    ///
    /// # Errors
    /// When a blob is damaged or missing, or the tree can't be looked at.
    ///
    /// # Locking
    /// Holds all trees, shared, for the time of the comparison.
    pub fn verify(&self, id: &ImageId) -> Result<Verified<'_>, StoreError> {
        if let Some(oci) = self.oci_record(id)? {
            return self.verify_oci(id, &oci);
        }
        let flat = self.flatten(id)?;
        let tree = TreeId::of(&flat.images);
        let is_root = rustix::process::geteuid().is_root();
        if !is_root || !self.has_tree(&tree) {
            let manifest = self.check_blob(id)?;
            return match (manifest == self.manifest_bytes(id)?, is_root) {
                (false, _) => Err(StoreError::other_manifest(id)),
                (true, false) => Err(StoreError::NeedsRoot { id: *id }),
                (true, true) => Ok(Verified::NotRendered),
            };
        }
        let _interrupts = interrupt::Watch::start();
        let _trees_stay = self.hold()?;
        self.sweep();
        let fresh = self.render_tree(id, &flat)?;
        let dir = self.trees_dir().join(tree.as_str());
        let mut differences = compare(&fresh.path().join(ROOTFS), &dir.join(ROOTFS))?;
        let manifest = |dir: &Path| std::fs::read(dir.join(MANIFEST)).ok();
        if manifest(fresh.path()) != manifest(&dir) {
            let change = Change::Changed(vec!["content"]);
            differences.push(Difference { path: MANIFEST.into(), change });
        }
        if differences.is_empty() {
            return Ok(Verified::Whole(tree));
        }
        let good = vec![Replacement { fresh, name: tree.to_string() }];
        Ok(Verified::Damaged(DamagedTree { store: self, good, tree, differences }))
    }
}

impl DamagedTree<'_> {
    /// Puts the good tree into the place of the damaged one, which is removed unless pods are using it.
    ///
    /// Running pods hold the damaged files; those stay as they are under another name until the trees are collected and
    /// no pod uses the tree any more. `in_use` must have been found out under the lock.
    ///
    /// # Errors
    /// When the system refuses; the damaged tree is then where it was, or beside the good one.
    pub fn repair(self, _locked: &TreesLocked<'_>, in_use: &BTreeSet<TreeId>) -> Result<(), SysError> {
        let dir = self.store.trees_dir();
        let used = self.store.names_of_trees(in_use)?;
        for Replacement { fresh, name } in self.good {
            let aside = dir.join(format!("{OLD_PREFIX}{name}-{}", uuid::Uuid::new_v4().simple()));
            fresh.replace_keeping(&dir.join(&name), &aside)?;
            if !used.contains(&name) {
                tree::remove(&aside)?;
            }
        }
        Ok(())
    }
}

/// The name of the tree that one put aside was.
pub(super) fn name_of_old(name: &str) -> Option<&str> {
    let name = name.strip_prefix(OLD_PREFIX)?.rsplit_once('-')?.0;
    (is_layer_tree(name) || name.parse::<TreeId>().is_ok()).then_some(name)
}

/// Compares two directories with all below them.
pub(super) fn compare(expected: &Path, found: &Path) -> Result<Vec<Difference>, SysError> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(SysError::on("opening", path))
    };
    let found_top = match open(found) {
        Ok(top) => top,
        Err(error) if is_gone(&error) => return Ok(vec![difference(Path::new(""), Change::Missing)]),
        Err(error) => return Err(error),
    };
    let expected_top = open(expected)?;
    let status = |fd, path: &Path| rustix::fs::fstat(fd).map_err(SysError::on("looking at", path));
    let mut differences = Vec::new();
    let changed = metadata(&status(&expected_top, expected)?, &status(&found_top, found)?);
    if !changed.is_empty() {
        differences.push(difference(Path::new(""), Change::Changed(changed)));
    }
    let (mut good, mut there) = (Walk::new(expected_top, expected)?, Walk::new(found_top, found)?);
    let (mut good_step, mut there_step) = (good.step()?, there.step()?);
    loop {
        // Both walks go by the parts of paths, which is how paths compare.
        let order = match (&good_step, &there_step) {
            (None, None) => return Ok(differences),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(good), Some(there)) => good.path.cmp(&there.path),
        };
        match (order, &good_step, &there_step) {
            (Ordering::Less, Some(step), _) => differences.push(difference(&step.path, Change::Missing)),
            (Ordering::Greater, _, Some(step)) => differences.push(difference(&step.path, Change::Added)),
            (Ordering::Equal, Some(one), Some(other)) => {
                let change = compare_one((&good, one), (&there, other))?;
                differences.extend(change.map(|change| difference(&one.path, change)));
            }
            _ => {}
        }
        if order != Ordering::Greater {
            good_step = good.step()?;
        }
        if order != Ordering::Less {
            there_step = there.step()?;
        }
    }
}

fn is_gone(error: &SysError) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn difference(inside: &Path, change: Change) -> Difference {
    Difference { path: Path::new("/").join(inside), change }
}

/// What differs in what stat(2) says.
fn metadata(good: &Stat, there: &Stat) -> Vec<&'static str> {
    let kind = |status: &Stat| FileType::from_raw_mode(status.st_mode);
    if kind(good) != kind(there) {
        return vec!["type"];
    }
    let checks = [
        (kind(good) != FileType::Symlink && good.st_mode & 0o7777 != there.st_mode & 0o7777, "mode"),
        ((good.st_uid, good.st_gid) != (there.st_uid, there.st_gid), "owner"),
        (kind(good) == FileType::RegularFile && good.st_size != there.st_size, "size"),
        (good.st_rdev != there.st_rdev, "device"),
    ];
    checks.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| what).collect()
}

fn compare_one(good: (&Walk, &Step), there: (&Walk, &Step)) -> Result<Option<Change>, SysError> {
    let mut changed = metadata(&good.1.status, &there.1.status);
    if !changed.contains(&"type") {
        let more = match FileType::from_raw_mode(there.1.status.st_mode) {
            FileType::RegularFile => compare_files(good, there, changed.contains(&"size"))?,
            FileType::Symlink => compare_links(good, there)?,
            _ => Ok(Vec::new()),
        };
        match more {
            Ok(more) => changed.extend(more),
            Err(cause) => return Ok(Some(Change::Unreadable(crate::os::cause_text(&cause.into())))),
        }
    }
    Ok((!changed.is_empty()).then_some(Change::Changed(changed)))
}

/// What was found of two things: the outer error is the good one's, the inner one that of what is judged.
type Found = Result<Result<Vec<&'static str>, Errno>, SysError>;

fn compare_links(good: (&Walk, &Step), there: (&Walk, &Step)) -> Found {
    let read = |(walk, step): (&Walk, &Step)| rustix::fs::readlinkat(walk.dir(), &step.name, Vec::new());
    let wanted = read(good).map_err(SysError::on("reading", good.0.shown(&good.1.path)))?;
    Ok(read(there).map(|text| if text == wanted { Vec::new() } else { vec!["target"] }))
}

fn compare_files(good: (&Walk, &Step), there: (&Walk, &Step), other_size: bool) -> Found {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |(walk, step): (&Walk, &Step)| {
        let fd = rustix::fs::openat(walk.dir(), &step.name, flags, Mode::empty())?;
        let xattrs = kept_xattrs(std::os::fd::AsFd::as_fd(&fd))?;
        Ok::<_, Errno>((File::from(fd), xattrs))
    };
    let shown = || good.0.shown(&good.1.path);
    let (mut wanted, wanted_xattrs) = open(good).map_err(|cause| SysError::new("opening", shown(), cause))?;
    let (mut found, xattrs) = match open(there) {
        Ok(opened) => opened,
        Err(cause) => return Ok(Err(cause)),
    };
    let mut changed = Vec::new();
    if xattrs != wanted_xattrs {
        changed.push("attributes");
    }
    if !other_size {
        match same_bytes(&mut wanted, &mut found) {
            Ok(true) => {}
            Ok(false) => changed.push("content"),
            Err(ReadError::Wanted(cause)) => return Err(SysError::new("reading", shown(), cause)),
            Err(ReadError::Found(cause)) => return Ok(Err(cause)),
        }
    }
    Ok(Ok(changed))
}

enum ReadError {
    Wanted(std::io::Error),
    Found(Errno),
}

fn same_bytes(wanted: &mut File, found: &mut File) -> Result<bool, ReadError> {
    const CHUNK: usize = 128 * 1024;
    let (mut one, mut other) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let count = fill(wanted, &mut one).map_err(ReadError::Wanted)?;
        let there = fill(found, &mut other)
            .map_err(|cause| ReadError::Found(Errno::from_io_error(&cause).unwrap_or(Errno::IO)))?;
        if one[..count] != other[..there] {
            return Ok(false);
        }
        if count < CHUNK {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(count)
}
