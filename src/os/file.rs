//! Reading small files in directories that anything may have happened to: a FIFO or a huge file there never holds the
//! reader up.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::SysError;

/// More than any file that rkt reads in one piece.
const LIMIT: u64 = 4 << 20;

/// Reads a regular file of at most 4 MiB; a link at the end of `path` is not followed.
///
/// # Errors
/// When it can't be opened or read, is something else, or is larger.
pub fn read(path: &Path) -> Result<Vec<u8>, SysError> {
    let mut options = OpenOptions::new();
    // Without O_NONBLOCK the open of a FIFO waits for a writer.
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY);
    let read = || {
        let file = options.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(Error::new(ErrorKind::InvalidData, "not a regular file"));
        }
        all_of(file)
    };
    read().map_err(SysError::on("reading", path))
}

/// Reads at most 4 MiB from where the user pointed to: a link is followed, and a pipe is read to its end.
///
/// # Errors
/// When it can't be opened or read, or is larger.
pub fn read_named(path: &Path) -> Result<Vec<u8>, SysError> {
    File::open(path).and_then(all_of).map_err(SysError::on("reading", path))
}

fn all_of(file: File) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let length = file.take(LIMIT + 1).read_to_end(&mut bytes)? as u64;
    if length > LIMIT { Err(Error::new(ErrorKind::FileTooLarge, "larger than 4 MiB")) } else { Ok(bytes) }
}

/// Reads a regular file of text as [`read`] does.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, SysError> {
    String::from_utf8(read(path)?)
        .map_err(|_| SysError::new("reading", path, Error::new(ErrorKind::InvalidData, "not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "text\n").unwrap();
        std::fs::write(at("bytes"), [0xff]).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        std::fs::File::create(at("large")).unwrap().set_len(LIMIT + 1).unwrap();

        assert_eq!(read_text(&at("file")).unwrap(), "text\n");
        for (name, cause) in [
            ("fifo", "not a regular file"),
            ("", "not a regular file"),
            ("link", "Too many levels of symbolic links"),
            ("large", "larger than 4 MiB"),
            ("bytes", "not UTF-8"),
            ("none", "No such file or directory"),
        ] {
            let path = at(name);
            let expected = format!("reading {}: {cause}", path.display());
            assert_eq!(read_text(&path).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_the_user_names_may_be_a_link_or_have_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "text\n").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("endless")).unwrap();
        assert_eq!(read_named(&at("link")).unwrap(), b"text\n");
        for (name, cause) in
            [("endless", "larger than 4 MiB"), ("", "Is a directory"), ("none", "No such file or directory")]
        {
            let expected = format!("reading {}: {cause}", at(name).display());
            assert_eq!(read_named(&at(name)).unwrap_err().to_string(), expected);
        }
    }
}
