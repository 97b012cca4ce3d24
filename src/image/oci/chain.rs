//! The layers of an image as images of their own, each of which depends on the one below it (spec build-tools.md 6.10):
//! what such an image needs beside its layer, so that the chain shows what the layers mean.
//!
//! Appc knows no whiteouts, but lists of what is kept of the images below. So each image lists all that is there with it
//! on top. What a list can't say is written into the image: a directory that a layer has by what is in it alone, and that
//! is not the one of a lower layer; and the top directory, whose owner and mode each image has.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;

use super::squash::{LINKS, PassError, SquashError, each_entry, made, read_layer};
use crate::appc::json::MAX_SIZE;
use crate::image::archive::{Entry, EntryPath, Kind, Place};
use crate::image::digest::Digest;
use crate::image::extract::Whiteout;
use crate::image::stream::Limits;

/// What is there, from the lowest layer up to one.
#[derive(Debug, Default)]
pub struct Chain {
    /// All paths but the top, and whether they are directories.
    paths: BTreeMap<Vec<u8>, bool>,
    root: Option<Entry>,
}

/// What the image of a layer needs beside the layer and its manifest.
#[derive(Debug)]
pub struct Additions {
    /// All that is there with this layer on top.
    pub whitelist: Vec<String>,
    /// The top directory, as the layers below have it.
    pub(super) root: Entry,
    /// Directories that must have an entry.
    pub(super) directories: Vec<Entry>,
    /// Symbolic links in /dev, and their texts.
    pub(super) links: Vec<(&'static str, &'static str)>,
}

/// What is in a layer.
#[derive(Default)]
struct Content {
    /// In the order of the archive, and whether they are directories.
    entries: Vec<(EntryPath, bool)>,
    hidden: Vec<EntryPath>,
    opaque: Vec<EntryPath>,
    root: Option<Entry>,
    /// Bytes of all names.
    size: usize,
}

impl Chain {
    /// Puts a layer on top, and tells what its image needs.
    ///
    /// # Errors
    /// When the layer can't be read, is not what its diff ID says, or has what no list can hold.
    pub fn add(&mut self, diff_id: &Digest, layer: File, limits: &Limits) -> Result<Additions, SquashError> {
        let content = read_layer(diff_id, layer, limits, |incoming| {
            let mut content = Content::default();
            each_entry(incoming, limits, |_, entry, _| content.note(entry))?;
            Ok(content)
        })?;
        self.apply(content)
    }

    fn apply(&mut self, content: Content) -> Result<Additions, SquashError> {
        // Whiteouts are about lower layers, wherever they stand.
        for path in &content.hidden {
            self.remove_below(path.as_bytes());
            self.paths.remove(path.as_bytes());
        }
        content.opaque.iter().for_each(|path| self.remove_below(path.as_bytes()));
        for path in content.hidden.iter().chain(&content.opaque) {
            // A file can't have something in it, not even a whiteout.
            for parent in parents(path.as_bytes()) {
                if self.paths.get(parent) == Some(&false) {
                    self.paths.remove(parent);
                }
            }
        }
        let written: HashSet<&[u8]> =
            content.entries.iter().filter(|(_, is_dir)| *is_dir).map(|(path, _)| path.as_bytes()).collect();
        let mut implied = Vec::new();
        for (path, is_dir) in &content.entries {
            let path = path.as_bytes();
            for parent in parents(path) {
                if self.paths.get(parent) != Some(&true) {
                    self.paths.insert(parent.to_vec(), true);
                    implied.push(parent);
                }
            }
            if !is_dir {
                self.remove_below(path);
            }
            self.paths.insert(path.to_vec(), *is_dir);
        }
        implied.retain(|path| self.paths.get(*path) == Some(&true) && !written.contains(path));
        implied.sort_unstable();
        implied.dedup();
        let directory = |path: EntryPath| made(path, Kind::Directory, 0o755, 0);
        let directories = implied.into_iter().filter_map(|path| EntryPath::new(path).ok().map(directory));
        let directories = directories.collect();
        if content.root.is_some() {
            self.root = content.root;
        }
        let root = self.root.clone().unwrap_or_else(|| directory(EntryPath::top()));
        let is_missing = |(name, _): &(&str, &str)| !self.paths.contains_key(name.as_bytes());
        let links: Vec<_> = LINKS.into_iter().filter(is_missing).collect();
        Ok(Additions { whitelist: self.whitelist(&links)?, root, directories, links })
    }

    fn whitelist(&self, links: &[(&str, &str)]) -> Result<Vec<String>, SquashError> {
        let mut list = vec!["/".to_owned()];
        let mut size = 0;
        for path in self.paths.keys() {
            let text = std::str::from_utf8(path).map_err(|_| SquashError::NoText(Place::named(path)))?;
            size += text.len();
            list.push(format!("/{text}"));
        }
        if size > MAX_SIZE {
            return Err(SquashError::LongList);
        }
        list.extend(links.iter().map(|(name, _)| format!("/{name}")));
        list.sort_unstable();
        Ok(list)
    }

    fn remove_below(&mut self, path: &[u8]) {
        if path.is_empty() {
            self.paths.clear();
            return;
        }
        // The byte after the slash.
        let (from, to) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below: Vec<Vec<u8>> = self.paths.range(from..to).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.paths.remove(&path);
        }
    }
}

impl Content {
    fn note(&mut self, entry: &Entry) -> Result<(), PassError> {
        self.size += entry.path.as_bytes().len();
        if self.size > MAX_SIZE {
            return Err(PassError::LongList);
        }
        match Whiteout::of(&entry.path)? {
            Whiteout::One(path) => self.hidden.push(path),
            Whiteout::All(path) => self.opaque.push(path),
            Whiteout::Ignored => {}
            Whiteout::None if entry.path.as_bytes().is_empty() => {
                self.root = Some(Entry { xattrs: Vec::new(), ..entry.clone() });
            }
            Whiteout::None => self.entries.push((entry.path.clone(), entry.kind == Kind::Directory)),
        }
        Ok(())
    }
}

/// The directories above a path, the highest first, without the top.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer of these names; a directory ends with a slash.
    fn layer(names: &[&str]) -> Content {
        let mut content = Content::default();
        for name in names {
            let kind = if name.ends_with('/') { Kind::Directory } else { Kind::Fifo };
            let path = EntryPath::new(name.as_bytes()).unwrap();
            assert!(content.note(&made(path, kind, 0o700, 0)).is_ok(), "{name}");
        }
        content
    }

    #[test]
    fn each_image_lists_what_is_there_with_it_on_top() {
        let mut chain = Chain::default();
        for (names, list, directories) in [
            (&["a/", "a/x", "a/y", "b", "c/d/e"][..], "/ /a /a/x /a/y /b /c /c/d /c/d/e", "c c/d"),
            (&["a/.wh.x", "c/.wh..wh..opq", "c/f"], "/ /a /a/y /b /c /c/f", ""),
            // What comes again is another directory than before.
            (&["a/z", ".wh.a"], "/ /a /a/z /b /c /c/f", "a"),
            (&["a", ".wh.b", "b/"], "/ /a /b /c /c/f", ""),
            (&["a/n/m", "a/n/"], "/ /a /a/n /a/n/m /b /c /c/f", "a"),
            (&["a0", "a/n"], "/ /a /a/n /a0 /b /c /c/f", ""),
            (&[".wh..wh..opq", ".wh.nothing"], "/", ""),
        ] {
            let additions = chain.apply(layer(names)).unwrap();
            let links = additions.links.iter().map(|(name, _)| format!("/{name}"));
            let expected: Vec<String> = list.split(' ').map(str::to_owned).chain(links).collect();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(additions.whitelist, expected, "{names:?}");
            let found =
                additions.directories.iter().map(|entry| String::from_utf8_lossy(entry.path.as_bytes()));
            assert_eq!(found.collect::<Vec<_>>().join(" "), directories, "{names:?}");
        }
    }

    #[test]
    fn links_in_dev_are_added_where_there_is_nothing() {
        let mut chain = Chain::default();
        assert_eq!(chain.apply(layer(&["dev/", "./"])).unwrap().links, LINKS);
        let additions = chain.apply(layer(&["dev/fd", "dev/stdin/"])).unwrap();
        assert_eq!(
            additions.links.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["dev/stdout", "dev/stderr"]
        );
        // The top directory is that of the highest layer that has it.
        assert_eq!(additions.root.mode, 0o700);
    }

    #[test]
    fn b8_what_no_list_can_hold_is_refused() {
        let mut chain = Chain::default();
        let mut content = layer(&["a"]);
        content.entries.push((EntryPath::new(b"x/\xff").unwrap(), false));
        let refused = chain.apply(content).unwrap_err().to_string();
        assert!(refused.contains("is not UTF-8"), "{refused}");
        let mut content = Content::default();
        let long = |number: u32| {
            let path = EntryPath::new(format!("{number}/{}", "x/".repeat(1500)).as_bytes()).unwrap();
            made(path, Kind::Fifo, 0o700, 0)
        };
        let refused = (0..2000).try_for_each(|number| content.note(&long(number)));
        assert!(matches!(refused, Err(PassError::LongList)));
    }
}
