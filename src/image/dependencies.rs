//! Images below images: which they are, in which order their files count, and what of each is kept (spec images.md 2.8).
//!
//! [`flatten`] is free of disk and network: it is told what manifests say and which image a dependency is. [`fetch_all`]
//! comes before it and gets what is missing, from wherever its caller says. Dependencies are named by strangers, so that
//! both know an end: an image below itself, a depth and a number of images are refused.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::store::{Store, StoreError};
use crate::appc::image_id::ImageId;
use crate::appc::image_manifest::{Dependency, ImageManifest};
use crate::appc::name::AcIdentifier;
use crate::os::Hint;

/// How many images may be below one another under the one that is run.
pub const DEPTH_LIMIT: usize = 32;
/// How often images may be named below the one that is run.
pub const COUNT_LIMIT: usize = 1000;

/// Why the images below an image are not what can be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum DependencyError {
    /// The store does not have one.
    #[error("image {image} depends on {dependency}, which is not in the store")]
    Missing {
        /// Who depends on it.
        image: AcIdentifier,
        /// The dependency as a reference.
        dependency: String,
    },
    /// What was fetched is something else.
    #[error("image {image} depends on exactly {wanted}, and {found} was fetched")]
    Other {
        /// Who depends on it.
        image: AcIdentifier,
        /// What it names.
        wanted: ImageId,
        /// What came.
        found: Box<ImageId>,
    },
    /// An image is below itself.
    #[error("image {} depends on itself: {}", .way[0], arrows(.way))]
    Loop {
        /// The images of the circle, the first one also last.
        way: Vec<AcIdentifier>,
    },
    /// Too many below one another.
    #[error("image {0} has more than {DEPTH_LIMIT} images below one another")]
    TooDeep(AcIdentifier),
    /// Too many.
    #[error("image {0} has more than {COUNT_LIMIT} images below it")]
    TooMany(AcIdentifier),
}

impl Hint for DependencyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { dependency, .. } => {
                Some(format!("fetch {dependency} first, by its name or from a file"))
            }
            Self::Other { .. } | Self::Loop { .. } | Self::TooDeep(_) | Self::TooMany(_) => None,
        }
    }
}

fn arrows(way: &[AcIdentifier]) -> String {
    way.iter().map(AcIdentifier::as_str).collect::<Vec<_>>().join(" -> ")
}

/// A dependency, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The manifest of the image that depends on it.
    pub of: &'a ImageManifest,
    /// What it names.
    pub dependency: &'a Dependency,
}

impl Wanted<'_> {
    /// The dependency as a user would name it: `NAME[:VERSION][,LABEL=VALUE]…`.
    pub fn reference(&self) -> String {
        let Dependency { image_name, labels, .. } = self.dependency;
        let (version, others): (Vec<_>, Vec<_>) = labels.iter().partition(|label| label.name == *"version");
        let version = version.iter().map(|label| format!(":{}", label.value));
        let others = others.iter().map(|label| format!(",{}={}", label.name, label.value));
        std::iter::once(image_name.to_string()).chain(version).chain(others).collect()
    }

    /// The error of who has looked for it in vain.
    pub fn missing(&self) -> DependencyError {
        let exact = self.dependency.image_id.as_ref().map(|id| format!(" ({})", id.key()));
        let dependency = self.reference() + &exact.unwrap_or_default();
        DependencyError::Missing { image: self.of.name.clone(), dependency }
    }
}

/// The paths of a `pathWhitelist`, and whether they are those of the image that they filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    paths: Arc<BTreeSet<PathBuf>>,
    is_own: bool,
}

impl Filter {
    fn new(list: &[String]) -> Self {
        Self { paths: Arc::new(list.iter().map(|path| cleaned(path)).collect()), is_own: true }
    }

    /// Tells whether `path`, relative to the root file system, is kept.
    ///
    /// An image keeps all its own directories; of the images below it only what is listed is kept.
    pub fn keeps(&self, path: &Path, is_dir: bool) -> bool {
        (self.is_own && is_dir) || self.paths.contains(path)
    }

    fn below(&self) -> Self {
        Self { paths: Arc::clone(&self.paths), is_own: false }
    }
}

/// A listed path as one below the root: `.` and `..` are resolved by the text alone.
fn cleaned(path: &str) -> PathBuf {
    Path::new(path).components().fold(PathBuf::new(), |mut so_far, part| {
        match part {
            Component::Normal(name) => so_far.push(name),
            Component::ParentDir => {
                so_far.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
        so_far
    })
}

/// An image whose files count where no layer before it has something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The image.
    pub image: ImageId,
    /// What is kept of it; everything if there is none.
    pub filter: Option<Filter>,
}

/// An image with all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flat {
    /// Each image as often as it is named, from the top; what is below one that was named before is left out.
    pub images: Vec<ImageId>,
    /// What is unpacked, the upper before the lower.
    pub layers: Vec<Layer>,
}

impl Flat {
    /// Tells whether the root file system is that of the top image as it is.
    pub fn is_plain(&self) -> bool {
        matches!(&self.layers[..], [Layer { filter: None, .. }])
    }
}

/// Orders an image and those below it: the image, then its dependencies from the last to the first, each followed by its
/// own.
///
/// # Errors
/// What `manifest` or `find` says; an image is below itself, or there are too many.
pub fn flatten<E: From<DependencyError>>(
    top: &ImageId,
    manifest: impl FnMut(&ImageId) -> Result<ImageManifest, E>,
    find: impl FnMut(&Wanted<'_>) -> Result<ImageId, E>,
) -> Result<Flat, E> {
    let flat = Flat { images: Vec::new(), layers: Vec::new() };
    let mut flattening = Flattening { manifest, find, flat, done: HashSet::new(), way: Vec::new() };
    flattening.add(*top, None)?;
    Ok(flattening.flat)
}

struct Flattening<M, F> {
    manifest: M,
    find: F,
    flat: Flat,
    /// Images with the one whose list filters them: a second time they would add nothing.
    done: HashSet<(ImageId, Option<ImageId>)>,
    /// From the top to the image that is being added.
    way: Vec<(ImageId, AcIdentifier)>,
}

impl<M, F> Flattening<M, F> {
    fn add<E>(&mut self, image: ImageId, above: Option<(ImageId, Filter)>) -> Result<(), E>
    where
        E: From<DependencyError>,
        M: FnMut(&ImageId) -> Result<ImageManifest, E>,
        F: FnMut(&Wanted<'_>) -> Result<ImageId, E>,
    {
        let manifest = (self.manifest)(&image)?;
        self.check(&image, &manifest.name)?;
        self.flat.images.push(image);
        // The topmost list on the way filters.
        let filter = above.or_else(|| {
            let list = &manifest.path_whitelist;
            (!list.is_empty()).then(|| (image, Filter::new(list)))
        });
        let (owner, filter) = filter.unzip();
        if !self.done.insert((image, owner)) {
            return Ok(());
        }
        let below = owner.zip(filter.as_ref().map(Filter::below));
        self.flat.layers.push(Layer { image, filter });
        self.way.push((image, manifest.name.clone()));
        for dependency in manifest.dependencies.iter().rev() {
            let found = (self.find)(&Wanted { of: &manifest, dependency })?;
            self.add(found, below.clone())?;
        }
        self.way.pop();
        Ok(())
    }

    fn check(&self, image: &ImageId, name: &AcIdentifier) -> Result<(), DependencyError> {
        let top = || self.way.first().map_or(name, |(_, name)| name).clone();
        if let Some(at) = self.way.iter().position(|(id, _)| id == image) {
            let way = self.way[at..].iter().map(|(_, name)| name).chain([name]);
            return Err(DependencyError::Loop { way: way.cloned().collect() });
        }
        if self.way.len() > DEPTH_LIMIT {
            return Err(DependencyError::TooDeep(top()));
        }
        if self.flat.images.len() > COUNT_LIMIT {
            return Err(DependencyError::TooMany(top()));
        }
        Ok(())
    }
}

/// Makes sure that all images below `top` are in the store: `fetch` is asked for each dependency, breadth first in the
/// order of the lists, and returns the image that it is, from the store or from elsewhere (spec images.md 2.3).
///
/// A dependency that names an image by its ID is asked for only if the store has not got that.
///
/// # Errors
/// What `fetch` says; an image can't be read, is below itself, or there are too many.
pub fn fetch_all<E: From<StoreError>>(
    store: &Store,
    top: &ImageId,
    mut fetch: impl FnMut(&Wanted<'_>) -> Result<ImageId, E>,
) -> Result<(), E> {
    let mut known = BTreeSet::from([*top]);
    let mut asked = HashSet::new();
    let mut queue = VecDeque::from([(*top, 0)]);
    let mut top_name = None;
    while let Some((image, depth)) = queue.pop_front() {
        let manifest = store.manifest(&image)?;
        let top_name = top_name.get_or_insert_with(|| manifest.name.clone()).clone();
        for dependency in &manifest.dependencies {
            let wanted = Wanted { of: &manifest, dependency };
            let exact = dependency.image_id.as_ref().map(|id| id.key());
            if !asked.insert((wanted.reference(), exact)) {
                continue;
            }
            let found = match exact {
                Some(id) if store.has(&id)? => id,
                _ => fetch(&wanted)?,
            };
            if let Some(wanted) = exact.filter(|id| *id != found) {
                let (image, found) = (manifest.name, Box::new(found));
                return Err(StoreError::from(DependencyError::Other { image, wanted, found }).into());
            }
            if known.insert(found) {
                queue.push_back((found, depth + 1));
            }
        }
        if depth > DEPTH_LIMIT {
            return Err(StoreError::from(DependencyError::TooDeep(top_name)).into());
        }
        if known.len() > COUNT_LIMIT {
            return Err(StoreError::from(DependencyError::TooMany(top_name)).into());
        }
    }
    if known.len() > 1 || !asked.is_empty() {
        store.flatten(top)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn id(name: &str) -> ImageId {
        let mut digest = [0; 64];
        digest[..name.len()].copy_from_slice(name.as_bytes());
        ImageId::from_sha512(&digest)
    }

    /// Images by the lines `NAME [/PATH]… > DEPENDENCY…`; a dependency is found by its name.
    fn flat(images: &str) -> Result<Flat, String> {
        let manifests: BTreeMap<_, _> = images
            .lines()
            .map(|line| {
                let (left, right) = line.split_once('>').unwrap_or((line, ""));
                let mut left = left.split_whitespace();
                let mut manifest = ImageManifest::new(left.next().unwrap().parse().unwrap());
                manifest.path_whitelist = left.map(str::to_owned).collect();
                let below = |name: &str| Dependency {
                    image_name: name.parse().unwrap(),
                    image_id: None,
                    labels: Vec::new(),
                    size: None,
                };
                manifest.dependencies = right.split_whitespace().map(below).collect();
                (id(manifest.name.as_str()), manifest)
            })
            .collect();
        let top = images.split_whitespace().next().unwrap();
        flatten(
            &id(top),
            |id| Ok(manifests[id].clone()),
            |wanted| {
                let found = id(wanted.dependency.image_name.as_str());
                if manifests.contains_key(&found) { Ok(found) } else { Err(wanted.missing()) }
            },
        )
        .map_err(|error: DependencyError| error.to_string())
    }

    fn names(images: &[ImageId]) -> String {
        let name = |id: &ImageId| {
            let digits = id.key().trim_end_matches("00");
            (0..digits.len() / 2)
                .map(|at| char::from(u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()))
                .collect::<String>()
        };
        images.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn dependencies_come_from_the_last_to_the_first_each_followed_by_its_own() {
        for (images, listed, layers) in [
            ("a", "a", "a"),
            ("a > b c\nb\nc", "a c b", "a c b"),
            ("a > b c\nb > d e\nc > f\nd\ne\nf", "a c f b e d", "a c f b e d"),
            // What was named before adds nothing, and nothing below it.
            ("a > b c\nb > d\nc > d\nd > e\ne", "a c d e b d", "a c d e b"),
            ("a > b b\nb", "a b b", "a b"),
        ] {
            let flat = flat(images).unwrap();
            let unpacked: Vec<_> = flat.layers.iter().map(|layer| layer.image).collect();
            assert_eq!(
                (names(&flat.images).as_str(), names(&unpacked).as_str()),
                (listed, layers),
                "{images}"
            );
        }
    }

    #[test]
    fn b10_loops_depth_and_number_have_an_end() {
        assert_eq!(flat("a > a").unwrap_err(), "image a depends on itself: a -> a");
        assert_eq!(flat("a > b\nb > c d\nc > b\nd").unwrap_err(), "image b depends on itself: b -> c -> b");
        let chain = |length: usize| {
            let below = |n: usize| if n < length { format!("> n{}", n + 1) } else { String::new() };
            (0..=length).map(|n| format!("n{n} {}", below(n))).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(flat(&chain(DEPTH_LIMIT)).unwrap().layers.len(), DEPTH_LIMIT + 1);
        assert_eq!(
            flat(&chain(DEPTH_LIMIT + 1)).unwrap_err(),
            "image n0 has more than 32 images below one another"
        );
        // Two to the thirtieth ways, each image once.
        let diamonds: Vec<_> = (0..30).map(|n| format!("n{n} > n{} n{}", n + 1, n + 1)).collect();
        let diamonds = flat(&(diamonds.join("\n") + "\nn30")).unwrap();
        assert_eq!((diamonds.images.len(), diamonds.layers.len()), (61, 31));
        let many = format!("a > {}\nb", "b ".repeat(COUNT_LIMIT + 1));
        assert_eq!(flat(&many).unwrap_err(), "image a has more than 1000 images below it");
        assert_eq!(flat("a > b").unwrap_err(), "image a depends on b, which is not in the store");
    }

    #[test]
    fn the_topmost_list_filters_and_siblings_do_not_meet() {
        let kept = |images: &str, image: &str| {
            let flat = flat(images).unwrap();
            let layer = flat.layers.iter().find(|layer| layer.image == id(image)).unwrap().clone();
            let kept = |path: &str, is_dir| {
                layer.filter.as_ref().is_none_or(|filter| filter.keeps(Path::new(path), is_dir))
            };
            [kept("x", false), kept("y", false), kept("x", true), kept("z", true)]
        };
        for (images, image, expected) in [
            ("a", "a", [true; 4]),
            ("a /x", "a", [true, false, true, true]),
            ("a /x > b\nb", "b", [true, false, true, false]),
            ("a /x > b\nb /y", "b", [true, false, true, false]),
            ("a > b\nb /y", "b", [false, true, true, true]),
            ("a > b\nb /y > c\nc /x", "c", [false, true, false, false]),
            ("a > b c\nb /x\nc", "c", [true; 4]),
            ("a > c b\nb /x\nc", "c", [true; 4]),
            ("a > b c\nb /x\nc /y", "c", [false, true, true, true]),
            ("a //./q/../x/ > b\nb", "b", [true, false, true, false]),
            ("a /../x > b\nb", "b", [true, false, true, false]),
        ] {
            assert_eq!(kept(images, image), expected, "{images:?} {image}");
        }
        // The same image below two lists counts with both.
        let twice = flat("a > b c\nb /x > d\nc /y > d\nd").unwrap();
        assert_eq!(names(&twice.images), "a c d b d");
        assert_eq!(twice.layers.len(), 5);
    }
}
