//! Who an app runs as: numbers out of what the image and the user wrote (spec pods.md 3.6).
//!
//! Names are looked up in the app's own files by our own parser, never by the host's name services, and digits are
//! never taken for a name: nothing that can't be resolved becomes root.

use std::path::Path;

use crate::os::{SysError, root::Root};

/// More than any real `/etc/passwd` or `/etc/group`.
const TABLE_LIMIT: u64 = 4 << 20;

/// Which of the two is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal {
    /// A user, from `/etc/passwd`.
    User,
    /// A group, from `/etc/group`.
    Group,
}

impl Principal {
    fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }

    fn table(self) -> &'static Path {
        Path::new(match self {
            Self::User => "/etc/passwd",
            Self::Group => "/etc/group",
        })
    }
}

/// Why a user or group is nobody in the app's root.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalError {
    /// Not in the table.
    #[error("{text:?} {} not found", .principal.word())]
    NotFound {
        /// User or group.
        principal: Principal,
        /// What was asked for.
        text: String,
    },
    /// A number that no user or group can have.
    #[error("{} id {text} is out of range: 0 to 4294967294 without 65535", .principal.word())]
    OutOfRange {
        /// User or group.
        principal: Principal,
        /// What was asked for.
        text: String,
    },
    /// The table or the file can't be read.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl PrincipalError {
    /// Tells whether the name is merely missing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Finds the number of `text`: `root`, a number, an absolute path (its owner), or a name of the app's own table.
///
/// # Errors
/// When it is none of these.
pub fn resolve(root: &Root, principal: Principal, text: &str) -> Result<u32, PrincipalError> {
    if text == "root" {
        return Ok(0);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(principal, text);
    }
    if text.starts_with('/') {
        let (uid, gid) = root.owner(Path::new(text))?;
        return Ok(match principal {
            Principal::User => uid,
            Principal::Group => gid,
        });
    }
    let not_found = || PrincipalError::NotFound { principal, text: text.to_owned() };
    let table = match root.read_file(principal.table(), TABLE_LIMIT) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(not_found()),
        other => other?,
    };
    look_up(&table, text).map_or_else(|| Err(not_found()), |digits| number(principal, &digits))
}

/// The third field of the first line whose first field is `name` (passwd(5), group(5)).
fn look_up(table: &[u8], name: &str) -> Option<String> {
    table.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let (first, _password, id) = (fields.next()?, fields.next()?, fields.next()?);
        (first == name.as_bytes()).then(|| String::from_utf8_lossy(id).into_owned())
    })
}

fn number(principal: Principal, text: &str) -> Result<u32, PrincipalError> {
    /// What 16-bit system calls take for "no change" (systemd, "Users, Groups, UIDs and GIDs on systemd Systems").
    const RESERVED: u32 = 65535;
    match text.parse() {
        Ok(id) if id != RESERVED && id != u32::MAX => Ok(id),
        _ => Err(PrincipalError::OutOfRange { principal, text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/:/bin/sh\nweb:x:33:44::/:\nbad:x:-1:0::/:\nwrap:x:4294967296:0::/:\n12:x:0:0::/:\n\nshort\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(dir.path().join("etc/group"), "www:x:44:web\n").unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn users_and_groups_become_numbers() {
        let (_dir, root) = root();
        for (principal, text, expected) in [
            (Principal::User, "root", 0),
            (Principal::User, "0", 0),
            (Principal::User, "1000", 1000),
            (Principal::User, "web", 33),
            (Principal::Group, "www", 44),
            (Principal::User, "12", 12),
            (Principal::User, "007", 7),
        ] {
            assert_eq!(resolve(&root, principal, text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_can_not_be_resolved_is_an_error_never_root() {
        let (_dir, root) = root();
        for (principal, text, expected) in [
            (Principal::User, "nobody", "\"nobody\" user not found"),
            (Principal::Group, "web", "\"web\" group not found"),
            (Principal::User, "", "\"\" user not found"),
            (Principal::User, "-1", "\"-1\" user not found"),
            (Principal::User, "65535", "user id 65535 is out of range: 0 to 4294967294 without 65535"),
            (
                Principal::User,
                "4294967296",
                "user id 4294967296 is out of range: 0 to 4294967294 without 65535",
            ),
            (Principal::User, "bad", "user id -1 is out of range: 0 to 4294967294 without 65535"),
            (Principal::User, "wrap", "user id 4294967296 is out of range: 0 to 4294967294 without 65535"),
        ] {
            assert_eq!(resolve(&root, principal, text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_path_means_its_owner() {
        let (dir, root) = root();
        std::fs::write(dir.path().join("app"), "").unwrap();
        let own = rustix::process::getuid().as_raw();
        assert_eq!(resolve(&root, Principal::User, "/app").unwrap(), own);
        assert!(resolve(&root, Principal::User, "/missing").is_err());
    }
}
