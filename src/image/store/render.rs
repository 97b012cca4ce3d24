//! An image with all below it as one directory (spec images.md 2.8).
//!
//! Each image is unpacked by itself, with every check that a single one gets, and its blob is hashed again on the way.
//! Then what its whitelist does not keep is taken away, and what the images above it lack is moved below theirs. So a
//! hard link, or a path that leads through a link, means in each image what it means there alone.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::{ImageRecord, ROOTFS, Store, StoreError, TreeId};
use crate::appc::image_id::ImageId;
use crate::appc::image_manifest::{ImageManifest, Label};
use crate::image::aci::ListedDirs;
use crate::image::dependencies::{self, Filter, Flat, Wanted};
use crate::image::extract::{Devices, Owners, Target};
use crate::os::root::Root;
use crate::os::walk::Walk;
use crate::os::{SysError, merge, tree};

/// Names beside `rootfs` while images are rendered.
const LAYER: &str = "layer";
const KEPT: &str = "kept";

/// What an image says of directories, for the images below it.
struct Dirs {
    listed: ListedDirs,
    filter: Option<Filter>,
}

impl Dirs {
    /// Tells whether this image says what owner and mode the directory has.
    fn decides(&self, path: &Path) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.keeps(path, true))
            && self.listed.contains(path.as_os_str().as_encoded_bytes())
    }
}

/// What was read of the store while dependencies are looked for.
struct Shelf<'a> {
    store: &'a Store,
    images: Option<Vec<ImageRecord>>,
    manifests: HashMap<ImageId, ImageManifest>,
}

impl<'a> Shelf<'a> {
    fn new(store: &'a Store) -> Self {
        Self { store, images: None, manifests: HashMap::new() }
    }

    fn flatten(&mut self, top: &ImageId) -> Result<Flat, StoreError> {
        let Self { store, images, manifests } = self;
        dependencies::flatten(
            top,
            |id| match manifests.get(id) {
                Some(manifest) => Ok(manifest.clone()),
                None => Ok(manifests.entry(*id).or_insert(store.manifest(id)?).clone()),
            },
            |wanted| find_among(store, images, wanted),
        )
    }

    fn find(&mut self, wanted: &Wanted<'_>) -> Result<ImageId, StoreError> {
        find_among(self.store, &mut self.images, wanted)
    }
}

fn find_among(
    store: &Store,
    images: &mut Option<Vec<ImageRecord>>,
    wanted: &Wanted<'_>,
) -> Result<ImageId, StoreError> {
    let found = match (&wanted.dependency.image_id, images) {
        (Some(hash), _) => Some(hash.key()),
        (None, Some(images)) => best_dependency(images, wanted),
        (None, none) => best_dependency(none.insert(store.list()?.0), wanted),
    };
    match found {
        Some(id) if store.has(&id)? => Ok(id),
        _ => Err(wanted.missing().into()),
    }
}

impl Store {
    /// Finds the images below an image, all from what is in the store, and their order.
    ///
    /// # Errors
    /// When one is missing or damaged, or is below itself.
    pub fn flatten(&self, top: &ImageId) -> Result<Flat, StoreError> {
        Shelf::new(self).flatten(top)
    }

    /// Finds the image that a dependency names: by its ID if it has one, else the best with its name and labels.
    ///
    /// An image for the platform of the one that depends on it is better than any other, also where the dependency does
    /// not ask for one.
    ///
    /// # Errors
    /// When there is none ([`dependencies::DependencyError::Missing`]), or the store can't be read.
    pub fn find_dependency(&self, wanted: &Wanted<'_>) -> Result<ImageId, StoreError> {
        Shelf::new(self).find(wanted)
    }

    /// Lists the images that need one of `ids` below them to be rendered and are none of these, sorted by ID.
    ///
    /// # Errors
    /// When the store can't be read; not for single images.
    pub fn dependents(&self, ids: &[ImageId]) -> Result<Vec<(ImageRecord, ImageId)>, SysError> {
        let (images, _) = self.list()?;
        let mut shelf = Shelf { images: Some(images.clone()), ..Shelf::new(self) };
        let below = images.into_iter().filter(|image| !image.stands_alone && !ids.contains(&image.id));
        let found = below.filter_map(|image| {
            let flat = shelf.flatten(&image.id).ok()?;
            let needed = *flat.images.iter().find(|id| ids.contains(id))?;
            Some((image, needed))
        });
        Ok(found.collect())
    }

    /// Adds the sizes of trees that [`Store::list`] does not know: those of images that don't stand alone.
    pub fn add_tree_sizes(&self, images: &mut [ImageRecord]) {
        if images.iter().all(|image| image.stands_alone) {
            return;
        }
        let mut shelf = Shelf { images: Some(images.to_vec()), ..Shelf::new(self) };
        for image in images.iter_mut().filter(|image| !image.stands_alone) {
            let tree = shelf.flatten(&image.id).ok().map(|flat| TreeId::of(&flat.images));
            let record = tree.and_then(|tree| self.tree_record(&tree));
            image.size = image.size.saturating_add(record.map_or(0, |record| record.size));
        }
    }

    /// Tells whether an image is in the store, whole or not.
    ///
    /// # Errors
    /// When that can't be seen.
    pub fn has(&self, id: &ImageId) -> Result<bool, StoreError> {
        match self.open_image(id) {
            Ok(_) => Ok(true),
            Err(StoreError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Unpacks an image and those below it into `dir/rootfs`, which exists and is empty; returns the top one's manifest.
    ///
    /// Whoever calls this owns `dir`, in which nobody else is, and removes it when it fails.
    ///
    /// # Errors
    /// When a blob is not what its image's ID names, or can't be unpacked.
    pub(super) fn render(
        &self,
        flat: &Flat,
        dir: &Path,
        (owners, devices): (Owners, Devices),
    ) -> Result<Vec<u8>, StoreError> {
        let rootfs = dir.join(ROOTFS);
        let (mut above, mut top_manifest) = (Vec::<Dirs>::new(), None);
        for layer in &flat.layers {
            let is_top = top_manifest.is_none();
            let unpacked = if is_top { rootfs.clone() } else { make_dir(dir.join(LAYER))? };
            let target = Target { rootfs: &unpacked, owners, devices };
            let (manifest, listed_dirs) = self.unpack_layer(&layer.image, &target)?;
            if manifest != self.manifest_bytes(&layer.image)? {
                return Err(StoreError::other_manifest(&layer.image));
            }
            if let Some(filter) = &layer.filter {
                keep_only(filter, &unpacked, &dir.join(KEPT))?;
            }
            let dirs = Dirs { listed: listed_dirs, filter: layer.filter.clone() };
            if !is_top {
                merge::merge(&rootfs, &unpacked, |path| {
                    dirs.decides(path) && !above.iter().any(|above| above.decides(path))
                })?;
                tree::remove(&unpacked)?;
            }
            top_manifest.get_or_insert(manifest);
            above.push(dirs);
        }
        Ok(top_manifest.unwrap_or_default())
    }
}

/// The best of `images` for a dependency (spec images.md 2.3.1).
fn best_dependency(images: &[ImageRecord], wanted: &Wanted<'_>) -> Option<ImageId> {
    let dependency = wanted.dependency;
    let of_platform = |label: &&Label| {
        (label.name == *"os" || label.name == *"arch")
            && !dependency.labels.iter().any(|own| own.name == label.name)
    };
    let platform = wanted.of.labels.iter().filter(of_platform);
    let exact: Vec<_> = dependency.labels.iter().chain(platform).cloned().collect();
    super::best(images, &dependency.image_name, &exact)
        .or_else(|| super::best(images, &dependency.image_name, &dependency.labels))
}

/// Leaves in `dir` only what `filter` keeps, and the directories above that; `spare` is a free name beside it.
fn keep_only(filter: &Filter, dir: &Path, spare: &Path) -> Result<(), SysError> {
    make_dir(spare.to_owned())?;
    let (from, to) = (Root::open(dir)?, Root::open(spare)?);
    // What is no directory gets a second name, which leaves the times of its directory alone; a directory is made anew,
    // since others may lie in it that are not kept.
    let mut walk = Walk::new(from.open_dir(Path::new("."))?, dir)?;
    while let Some(step) = walk.step()? {
        let is_dir = FileType::from_raw_mode(step.status.st_mode) == FileType::Directory;
        if !filter.keeps(&step.path, is_dir) {
            continue;
        }
        let parent = step.path.parent().unwrap_or(Path::new(""));
        let parent = ensure_dir(&to, if is_dir { &step.path } else { parent })?;
        if is_dir {
            continue;
        }
        rustix::fs::linkat(walk.dir(), &step.name, &parent, &step.name, AtFlags::empty())
            .map_err(SysError::on("linking", walk.shown(&step.path)))?;
    }
    // Only now, for whatever is put into a directory changes its times.
    let mut walk = Walk::new(to.open_dir(Path::new("."))?, spare)?;
    while let Some(step) = walk.step()? {
        let is_dir = FileType::from_raw_mode(step.status.st_mode) == FileType::Directory;
        if is_dir && filter.keeps(&step.path, true) {
            like(&from, &to, &step.path)?;
        }
    }
    like(&from, &to, Path::new("."))?;
    drop((from, to));
    tree::remove(dir)?;
    std::fs::rename(spare, dir).map_err(SysError::on("renaming to", dir))
}

/// Opens a directory below a root that has no links, making what is missing of it with mode 0755.
///
/// Part by part, since a path that is resolved anew for each of its parts takes minutes where it is as long as may be.
fn ensure_dir(root: &Root, inside: &Path) -> Result<OwnedFd, SysError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |inside: &Path| root.open_with(&Path::new(".").join(inside), flags);
    if let Ok(dir) = open(inside) {
        return Ok(dir);
    }
    // Most often only the last part is missing.
    let (mut here, missing) = match inside.parent().map(open) {
        Some(Ok(parent)) => (parent, inside.file_name().map_or(inside, Path::new)),
        _ => (open(Path::new(""))?, inside),
    };
    for part in missing {
        let made = rustix::fs::mkdirat(&here, part, Mode::from_raw_mode(0o700));
        let opened = rustix::fs::openat(&here, part, flags, Mode::empty()).and_then(|dir| {
            if made.is_ok() {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))?;
            }
            Ok(dir)
        });
        here = opened.map_err(SysError::on("creating", root.path().join(inside)))?;
    }
    Ok(here)
}

/// Gives a directory the owner, mode and times of the one at the same path below another root.
fn like(from: &Root, to: &Root, inside: &Path) -> Result<(), SysError> {
    let status = from.metadata(inside)?;
    let dir: OwnedFd = to.open_with(inside, OFlags::RDONLY | OFlags::DIRECTORY)?;
    merge::take_metadata(&dir, &status)
        .and_then(|()| rustix::fs::futimens(&dir, &merge::times_of(&status)))
        .map_err(SysError::on("changing", to.path().join(inside)))
}

fn make_dir(path: PathBuf) -> Result<PathBuf, SysError> {
    rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)).map_err(SysError::on("creating", &path))?;
    rustix::fs::chmod(&path, Mode::from_raw_mode(0o755))
        .map_err(SysError::on("changing the mode of", &path))?;
    Ok(path)
}
