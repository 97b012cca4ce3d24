//! Host groups by name, read from /etc/group: the one group that rkt gives its store to.
//!
//! NSS is not asked: it would load libraries of the host into a process that may be root, for a group that the package
//! makes with `groupadd --system`.

use std::path::Path;

/// The group whose members may fetch and list images.
pub const RKT_GROUP: &str = "rkt";

/// The numeric ID of the host's group `rkt`, if there is one.
pub fn rkt_gid() -> Option<u32> {
    let text = std::fs::read_to_string(Path::new("/etc/group")).ok()?;
    find_gid(&text, RKT_GROUP)
}

/// Finds a group's ID in text of the form of group(5); lines that are not of that form are passed over.
pub fn find_gid(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (found, _password, gid) = (fields.next()?, fields.next()?, fields.next()?);
        if found == name { gid.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_whole_name() {
        let text = "root:x:0:\nrkt-admin:x:7:\n# rkt:x:1:\nrkt\nrkt:x:bad:\nrkt:x:995:alice,bob\n";
        assert_eq!(find_gid(text, "rkt"), Some(995));
        assert_eq!(find_gid(text, "rk"), None);
        assert_eq!(find_gid("", "rkt"), None);
    }
}
