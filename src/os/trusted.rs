//! Files that say what this process does, so that nobody but its user and root may have had a hand in them.
//!
//! A file is trusted if it, and each directory on the real way to it, belongs to root or to the user of this process and
//! can be written to by nobody else. In a directory such as /tmp, where everybody may write and only owners may remove
//! (the sticky bit), what is already there counts for itself.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Hint, SysError};

/// Permission bits that let others than the owner write.
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Others may have written it.
    #[error("{} {why}", .path.display())]
    Others {
        /// The file, or a directory on the way to it.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It can't be looked at.
    #[error(transparent)]
    System(#[from] SysError),
}

impl Hint for TrustError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Others { path, .. } => Some(format!(
                "if it is really yours, change its owner with chown(1), or `chmod go-w {}`",
                path.display()
            )),
            Self::System(cause) => cause.hint(),
        }
    }
}

/// Returns the real path of a file or directory that is trusted. Links on the way are followed; what counts is where they
/// lead, since nobody else can change that.
///
/// # Errors
/// When it is not trusted, or not there.
pub fn resolve(path: &Path) -> Result<PathBuf, TrustError> {
    let real = path.canonicalize().map_err(SysError::on("looking at", path))?;
    let user = rustix::process::geteuid().as_raw();
    for step in real.ancestors() {
        let found = std::fs::symlink_metadata(step).map_err(SysError::on("looking at", step))?;
        let why = problem(found.uid(), found.mode(), found.is_dir() && step != real, user);
        if let Some(why) = why {
            return Err(TrustError::Others { path: step.to_owned(), why });
        }
    }
    Ok(real)
}

/// What is wrong with what belongs to `owner`; `is_way` says that it is a directory on the way.
fn problem(owner: u32, mode: u32, is_way: bool, user: u32) -> Option<String> {
    if owner != 0 && owner != user {
        return Some(format!("belongs to user {owner}, and rkt runs as user {user}"));
    }
    let others_write = mode & OTHERS_WRITE != 0 && !(is_way && mode & STICKY != 0);
    others_write.then(|| "can be written to by others than its owner".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_belongs_to_others_or_is_open_to_them_is_not_trusted() {
        for (owner, mode, is_way, user, trusted) in [
            (0, 0o600, false, 0, true),
            (0, 0o644, false, 1000, true),
            (1000, 0o600, false, 1000, true),
            (1000, 0o600, false, 0, false),
            (1001, 0o600, false, 1000, false),
            (0, 0o620, false, 0, false),
            (0, 0o602, false, 0, false),
            (1000, 0o775, true, 1000, false),
            (0, 0o1777, true, 1000, true),
            (0, 0o1777, false, 1000, false),
        ] {
            assert_eq!(problem(owner, mode, is_way, user).is_none(), trusted, "{owner} {mode:o} {user}");
        }
    }

    #[test]
    fn the_directories_on_the_real_way_count() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["good", "open"] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join("file"), "").unwrap();
            std::fs::set_permissions(at(name).join("file"), PermissionsExt::from_mode(0o600)).unwrap();
        }
        std::fs::set_permissions(at("open"), PermissionsExt::from_mode(0o777)).unwrap();
        std::fs::set_permissions(at("good"), PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(at("good/file"), at("to-good")).unwrap();
        std::os::unix::fs::symlink("../open/file", at("good/to-open")).unwrap();
        let good = at("good/file").canonicalize().unwrap();
        for name in ["good/file", "to-good"] {
            assert_eq!(resolve(&at(name)).unwrap(), good, "{name}");
        }
        for name in ["open/file", "good/to-open"] {
            let refused = resolve(&at(name)).unwrap_err().to_string();
            assert!(refused.ends_with("open can be written to by others than its owner"), "{refused}");
        }
        assert!(matches!(resolve(&at("none")), Err(TrustError::System(_))));
    }
}
