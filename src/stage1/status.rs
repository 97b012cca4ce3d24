//! How the apps of a pod ended: files that systemd and one short helper leave in the pod, read back from outside.
//!
//! ```text
//! rkt/status/APP       exit status in decimal, written when APP failed
//! rkt/status/APP.ok    a FIFO that the pod's systemd itself makes when APP ended well (rkt-ok@APP.socket)
//! rkt/status/.first    name of the app that failed first, of its own accord
//! rkt/stopping         a FIFO that the pod's systemd makes when it starts to stop the apps (rkt-stopping.socket)
//! rkt/ready            a FIFO that the pod's systemd makes when every app has started (rkt-ready.socket)
//! rkt/supervisor-status   link to it
//! ```
//!
//! An app's status is its file; else 0 if `APP.ok` exists; else 0 if `.first` names another app, since being stopped
//! because of another counts as 0 (spec pods.md 3.10); else it has none.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::appc::name::AcName;
use crate::os::{SysError, file};

/// The directory of the marks, below the root of stage1.
pub const STATUS_DIR: &str = "rkt/status";
/// The mark of readiness, below the root of stage1.
pub const READY: &str = "rkt/ready";
/// The mark that the apps are being stopped, below the root of stage1.
pub const STOPPING: &str = "rkt/stopping";
/// What other tools look at for readiness (spec pods.md 3.2), below the root of stage1.
pub const SUPERVISOR_STATUS: &str = "rkt/supervisor-status";
const FIRST: &str = ".first";

/// How an app ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppEnd {
    /// The status as `rkt run` would return it: a signal counts as its number.
    pub exit_code: u8,
    /// When the mark was made; `None` for an app that was stopped because of another.
    pub finished: Option<SystemTime>,
}

/// The marks of one pod.
#[derive(Debug)]
pub struct Statuses {
    stage1_root: PathBuf,
}

impl Statuses {
    /// The marks below `stage1_root`.
    pub fn new(stage1_root: &Path) -> Self {
        Self { stage1_root: stage1_root.to_owned() }
    }

    /// How `app` ended, if it did.
    pub fn of(&self, app: &AcName) -> Option<AppEnd> {
        let dir = self.stage1_root.join(STATUS_DIR);
        let modified = |path: &Path| std::fs::symlink_metadata(path).and_then(|found| found.modified()).ok();
        let file = dir.join(app.as_str());
        if let Some(exit_code) = file::read_text(&file).ok().and_then(|text| text.trim().parse().ok()) {
            return Some(AppEnd { exit_code, finished: modified(&file) });
        }
        if let Some(finished) = modified(&dir.join(format!("{app}.ok"))) {
            return Some(AppEnd { exit_code: 0, finished: Some(finished) });
        }
        let first = file::read_text(&dir.join(FIRST)).ok()?;
        (first.trim() != app.as_str()).then_some(AppEnd { exit_code: 0, finished: None })
    }

    /// Tells whether every app of the pod has started.
    pub fn is_ready(&self) -> bool {
        std::fs::symlink_metadata(self.stage1_root.join(READY)).is_ok()
    }

    /// Tells whether the pod's systemd has started to stop the apps.
    pub fn is_stopping(&self) -> bool {
        std::fs::symlink_metadata(self.stage1_root.join(STOPPING)).is_ok()
    }
}

/// Records inside the pod, whose root is `root`, that `app` failed with `exit_code`, and returns the status that the
/// pod ends with: that of the app which failed first.
///
/// An app that is stopped because another failed has not failed, however it takes that (spec pods.md 3.10): nothing is
/// recorded of it. When the pod is stopped from outside, an app's answer is told, but it is not the first failure.
///
/// # Errors
/// When a mark can't be written or read.
pub fn record_failure(root: &Path, app: &AcName, exit_code: u8) -> Result<u8, SysError> {
    let dir = root.join(STATUS_DIR);
    let (file, first) = (dir.join(app.as_str()), dir.join(FIRST));
    let stopping = std::fs::symlink_metadata(root.join(STOPPING)).is_ok();
    let status_of_first = || -> Result<u8, SysError> {
        let name = file::read_text(&first)?;
        let status = file::read_text(&dir.join(name.trim())).ok();
        Ok(status.and_then(|text| text.trim().parse().ok()).unwrap_or(exit_code))
    };
    if stopping && first.exists() {
        return status_of_first();
    }
    std::fs::write(&file, format!("{exit_code}\n")).map_err(SysError::on("writing", &file))?;
    if stopping {
        return Ok(exit_code);
    }
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&first);
    match made {
        Ok(mut mark) => {
            writeln!(mark, "{app}").map_err(SysError::on("writing", &first))?;
            Ok(exit_code)
        }
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => status_of_first(),
        Err(cause) => Err(SysError::new("creating", &first, cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_an_app_follows_from_the_marks() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(STATUS_DIR);
        std::fs::create_dir_all(&dir).unwrap();
        let (web, db): (AcName, AcName) = ("web".parse().unwrap(), "db".parse().unwrap());
        let status = |app: &AcName| Statuses::new(root.path()).of(app).map(|end| end.exit_code);

        assert_eq!((status(&web), status(&db)), (None, None), "nothing ended");
        std::fs::write(dir.join("db.ok"), "").unwrap();
        assert_eq!((status(&web), status(&db)), (None, Some(0)), "db ended well");
        std::fs::remove_file(dir.join("db.ok")).unwrap();
        assert_eq!(record_failure(root.path(), &web, 7).unwrap(), 7);
        assert_eq!((status(&web), status(&db)), (Some(7), Some(0)), "db was stopped because of web");
        assert_eq!(record_failure(root.path(), &db, 3).unwrap(), 7, "the first failure is the pod's");
        assert_eq!(
            (status(&web), status(&db)),
            (Some(7), Some(3)),
            "a later failure is recorded all the same"
        );
    }

    #[test]
    fn an_app_that_is_stopped_because_of_another_has_not_failed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join(STATUS_DIR)).unwrap();
        let (web, db): (AcName, AcName) = ("web".parse().unwrap(), "db".parse().unwrap());
        let status = |app: &AcName| Statuses::new(root.path()).of(app).map(|end| end.exit_code);

        assert_eq!(record_failure(root.path(), &web, 7).unwrap(), 7);
        std::fs::write(root.path().join(STOPPING), "").unwrap();
        assert_eq!(record_failure(root.path(), &db, 9).unwrap(), 7);
        assert_eq!((status(&web), status(&db)), (Some(7), Some(0)));
    }

    #[test]
    fn the_answers_of_apps_to_a_stop_from_outside_are_told() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join(STATUS_DIR)).unwrap();
        std::fs::write(root.path().join(STOPPING), "").unwrap();
        let (web, db): (AcName, AcName) = ("web".parse().unwrap(), "db".parse().unwrap());
        let status = |app: &AcName| Statuses::new(root.path()).of(app).map(|end| end.exit_code);

        assert_eq!(record_failure(root.path(), &web, 143).unwrap(), 143);
        assert_eq!((status(&web), status(&db)), (Some(143), None));
        assert_eq!(record_failure(root.path(), &db, 9).unwrap(), 9);
        assert_eq!((status(&web), status(&db)), (Some(143), Some(9)));
    }
}
