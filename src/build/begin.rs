//! What a build begins with (spec build-tools.md 6.3.1).

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::UNNAMED;
use super::error::BuildError;
use super::state::{Workspace, write_manifest};
use crate::appc::image_manifest::{ImageManifest, Label};
use crate::appc::platform::{HOST_ARCH, HOST_OS};
use crate::image::aci::{self, Top};
use crate::image::archive::ArchiveError;
use crate::image::extract::{self, Devices, ExtractError, Owners, Target, Unpacked};
use crate::image::stream::{self, Limits, Source};
use crate::os::SysError;
use crate::os::tree::{self, CopyOptions, HardLinks};

/// What a build begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// An empty root file system.
    Empty,
    /// A directory that is copied as the root file system, an image, or an archive of a root file system.
    Local(PathBuf),
}

/// How a build began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Begun {
    /// What the archive had not, so that it was taken for one of a root file system.
    pub missing: Option<&'static str>,
    /// Device nodes that this user may not make, and that were left out.
    pub skipped_devices: u64,
    /// The state of this build was inside the directory, and was left out.
    pub left_out_state: bool,
}

impl Workspace {
    /// Begins a build.
    ///
    /// # Errors
    /// There is one already, or what it begins with is missing or not valid. No state is left then.
    ///
    /// # Locking
    /// As [`Workspace::open`].
    pub fn begin(&self, start: &Start) -> Result<Begun, BuildError> {
        self.create(|image| match start {
            Start::Empty => self.begin_empty(image),
            Start::Local(path) => self.begin_local(image, path),
        })
    }

    fn begin_empty(&self, image: &Path) -> Result<Begun, BuildError> {
        make_rootfs(image)?;
        write_manifest(&image.join("manifest"), &skeleton())?;
        Ok(Begun::default())
    }

    fn begin_local(&self, image: &Path, path: &Path) -> Result<Begun, BuildError> {
        let mut options = File::options();
        // Without waiting for the writer of a FIFO.
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let opened = options.open(path).and_then(|file| file.metadata().map(|status| (file, status)));
        let (file, status) = match opened {
            Ok(opened) => opened,
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                return Err(BuildError::Missing(path.to_owned()));
            }
            Err(cause) => return Err(SysError::new("opening", path, cause).into()),
        };
        if status.is_dir() {
            return self.begin_directory(image, path);
        }
        if !status.is_file() {
            return Err(BuildError::BadStart(path.to_owned()));
        }
        begin_archive(image, path, file).map_err(|error| match error {
            // An archive's fault has no name of the archive in it; a refusal of the system has its own path.
            BuildError::Archive { cause: ExtractError::System(cause), .. } => cause.into(),
            error => error,
        })
    }

    fn begin_directory(&self, image: &Path, path: &Path) -> Result<Begun, BuildError> {
        let path = path.canonicalize().map_err(SysError::on("opening", path))?;
        let options = CopyOptions { hard_links: HardLinks::Keep, without: Some(self.identity()?) };
        let copied = tree::copy_with(&path, &image.join("rootfs"), options)?;
        write_manifest(&image.join("manifest"), &skeleton())?;
        Ok(Begun { left_out_state: copied.left_out, ..Begun::default() })
    }
}

fn begin_archive(image: &Path, path: &Path, file: File) -> Result<Begun, BuildError> {
    let archive = |cause| BuildError::Archive { path: path.to_owned(), cause };
    let is_root = rustix::process::geteuid().is_root();
    let rootfs = image.join("rootfs");
    make_rootfs(image)?;
    let target = Target {
        rootfs: &rootfs,
        owners: if is_root { Owners::OfImage } else { Owners::OfCaller },
        devices: if is_root { Devices::Make } else { Devices::Skip },
    };
    let again = || -> Result<Source<'static>, BuildError> {
        let mut file = file.try_clone().map_err(SysError::on("opening", path))?;
        std::io::Seek::rewind(&mut file).map_err(SysError::on("reading", path))?;
        Ok(Source { file, keep: None, watch: None, limits: Limits::default(), progress: None })
    };
    let limits = Limits::default();
    let (top, _) = stream::run(again()?, |incoming| aci::find_top(incoming, &limits))
        .map_err(|cause: ArchiveError| archive(cause.into()))?;
    let missing = match top {
        Top { has_manifest: true, has_rootfs: true } => None,
        Top { has_manifest: false, .. } => Some("manifest"),
        Top { has_rootfs: false, .. } => Some("rootfs"),
    };
    let (Unpacked { skipped_devices, .. }, manifest) = if missing.is_some() {
        (extract::unpack_rootfs(again()?, &target).map_err(archive)?, skeleton())
    } else {
        let (unpacked, _) = extract::unpack(again()?, Some(&target)).map_err(archive)?;
        let manifest = ImageManifest::from_json(&unpacked.manifest)
            .map_err(|cause| BuildError::Manifest { path: path.to_owned(), cause })?;
        (unpacked, manifest)
    };
    write_manifest(&image.join("manifest"), &manifest)?;
    Ok(Begun { missing, skipped_devices, left_out_state: false })
}

fn make_rootfs(image: &Path) -> Result<(), SysError> {
    let path = image.join("rootfs");
    std::fs::DirBuilder::new().mode(0o755).create(&path).map_err(SysError::on("creating", &path))
}

/// The manifest of an image that nothing was said about.
fn skeleton() -> ImageManifest {
    let name = |text: &str| text.parse().expect("it is an AC identifier");
    let mut manifest = ImageManifest::new(name(UNNAMED));
    for (label, value) in [("arch", HOST_ARCH), ("os", HOST_OS)] {
        manifest.labels.push(Label::new(name(label), value));
    }
    manifest
}
