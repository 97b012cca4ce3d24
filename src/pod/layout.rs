//! Where things stand in the data directory's `pods/` and in one pod's directory.
//!
//! ```text
//! pods/{embryo,prepare,prepared,run,exited-garbage,garbage}/UUID/      the place and its lock are the phase
//!   pod                          the pod manifest as given or made
//!   pod-reified                  if it was given: the same with all that it left to the images, which is what runs
//!   pod-created                  its mtime is the time of creation
//!   ppid                         `PID START` of the supervisor; its mtime is the time of the start
//!   cgroup                       control group of the supervisor, relative to the root of the hierarchy
//!   netns, net-info.json, net/   its networks (net::record)
//!   overlay-prepared             present when apps' roots are overlays
//!   capabilities-unbounded       present when apps have every capability
//!   kernel-paths-open            present when apps may reach all kernel paths and devices
//!   appsinfo/APP/manifest        copy of the image manifest
//!   appsinfo/APP/treeStoreID     the tree below the app's root
//!   overlay/TREE/upper/APP, overlay/TREE/work/APP
//!   sharedVolumes/NAME           an empty volume
//!   stage1/rootfs/               the root of the pod's systemd (stage1::plan)
//!     opt/stage2/APP/rootfs      mount point, or with --no-overlay the copy itself
//!     rkt/status/                marks of how apps ended (stage1::status)
//!     rkt/volumes/N              mount point of a volume, while the pod runs
//! ```
//!
//! Source: rkt 1.30's files as other tools read them (spec pods.md 3.2). Who finds a file that is not listed leaves it
//! alone; who misses one takes the pod for broken, never for another state.

use std::path::{Path, PathBuf};

use crate::appc::{name::AcName, pod_uuid::PodUuid};
use crate::image::store::TreeId;

/// The directories that a pod can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Just made.
    Embryo,
    /// Being prepared, or left so by a preparation that died.
    Prepare,
    /// Ready for `run-prepared`.
    Prepared,
    /// Running, or exited and not collected yet.
    Run,
    /// Marked for removal after the grace period.
    ExitedGarbage,
    /// To be removed at once.
    Garbage,
}

impl Place {
    /// Every place, in the order in which a pod passes them.
    pub const ALL: [Self; 6] =
        [Self::Embryo, Self::Prepare, Self::Prepared, Self::Run, Self::ExitedGarbage, Self::Garbage];

    /// The places whose pods have a name on the command line (spec cli.md 1.1.7).
    pub const NAMED: [Self; 4] = [Self::Prepare, Self::Prepared, Self::Run, Self::ExitedGarbage];

    /// The directory's name below `pods/`.
    pub fn dir_name(self) -> &'static str {
        match self {
            Self::Embryo => "embryo",
            Self::Prepare => "prepare",
            Self::Prepared => "prepared",
            Self::Run => "run",
            Self::ExitedGarbage => "exited-garbage",
            Self::Garbage => "garbage",
        }
    }
}

/// The paths of one pod's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPaths {
    dir: PathBuf,
}

impl PodPaths {
    /// The paths below `dir`, the pod's directory.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The pod's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The pod manifest.
    pub fn manifest(&self) -> PathBuf {
        self.dir.join("pod")
    }

    /// The manifest by which a pod runs whose own was given; without it, its own.
    pub fn reified_manifest(&self) -> PathBuf {
        self.dir.join("pod-reified")
    }

    /// The mark of creation.
    pub fn created(&self) -> PathBuf {
        self.dir.join("pod-created")
    }

    /// The supervisor's process id.
    pub fn supervisor(&self) -> PathBuf {
        self.dir.join("ppid")
    }

    /// The supervisor's control group.
    pub fn cgroup(&self) -> PathBuf {
        self.dir.join("cgroup")
    }

    /// The mark that apps' roots are overlays.
    pub fn overlay_prepared(&self) -> PathBuf {
        self.dir.join("overlay-prepared")
    }

    /// The mark that apps have every capability.
    pub fn unbounded(&self) -> PathBuf {
        self.dir.join("capabilities-unbounded")
    }

    /// The mark that apps may reach all kernel paths and devices.
    pub fn kernel_paths_open(&self) -> PathBuf {
        self.dir.join("kernel-paths-open")
    }

    /// What is remembered of an app's image.
    pub fn app_info(&self, app: &AcName) -> PathBuf {
        self.dir.join("appsinfo").join(app.as_str())
    }

    /// The copy of an app's image manifest.
    pub fn app_image_manifest(&self, app: &AcName) -> PathBuf {
        self.app_info(app).join("manifest")
    }

    /// The file with the fingerprint of the key that has signed an app's image, if one has.
    pub fn app_signer(&self, app: &AcName) -> PathBuf {
        self.app_info(app).join("signer")
    }

    /// The file that names the tree below an app's root.
    pub fn app_tree_id(&self, app: &AcName) -> PathBuf {
        self.app_info(app).join("treeStoreID")
    }

    /// Where changes to an app's root go.
    pub fn overlay_upper(&self, tree: &TreeId, app: &AcName) -> PathBuf {
        self.dir.join("overlay").join(tree.to_string()).join("upper").join(app.as_str())
    }

    /// The kernel's scratch directory beside it.
    pub fn overlay_work(&self, tree: &TreeId, app: &AcName) -> PathBuf {
        self.dir.join("overlay").join(tree.to_string()).join("work").join(app.as_str())
    }

    /// The empty volume `name`.
    pub fn shared_volume(&self, name: &AcName) -> PathBuf {
        self.dir.join("sharedVolumes").join(name.as_str())
    }

    /// The root of the pod's systemd.
    pub fn stage1_root(&self) -> PathBuf {
        self.dir.join("stage1/rootfs")
    }

    /// An app's root.
    pub fn app_root(&self, app: &AcName) -> PathBuf {
        self.stage1_root().join("opt/stage2").join(app.as_str()).join("rootfs")
    }
}

/// Returns `pods/PLACE/UUID` below `pods`.
pub fn pod_dir(pods: &Path, place: Place, uuid: &PodUuid) -> PathBuf {
    pods.join(place.dir_name()).join(uuid.to_string())
}
