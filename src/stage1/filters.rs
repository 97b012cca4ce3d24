//! The filters of system calls that systemd-nspawn puts on a pod, kept ready-made.
//!
//! nspawn compiles the same three to five programs for every pod, which costs more than the rest of its start. So the first
//! pod on a host has nspawn start `/bin/true` with the same rights, reads its filters from the kernel, and keeps them; the
//! pod's init (`/rkt/inside init`) puts them on itself at the place where nspawn would, before it becomes systemd.
//!
//! They are used only as long as nothing has changed of what they were made by: the program, its libraries, the kernel. An
//! upgrade makes the next pod look again. Whatever is unsure, nspawn compiles its own: there is always a filter.
//!
//! ```text
//! DATA/filters/CAPABILITIES          0600 root, below a directory of 0700; one for each set of rights
//!   rkt-filters 1
//!   kernel RELEASE VERSION MACHINE
//!   file DEVICE INODE SIZE MTIME CTIME PATH      nspawn, its libraries, the configuration of the loader
//!   filter HEXADECIMAL                           in the order of putting them on; none: the kernel does not show them
//!   sha512 HEXADECIMAL                           of all lines before
//! POD/stage1/rootfs/rkt/filters      the lines `filter`
//! ```

use std::fmt::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha512};

use super::plan::nspawn::{self, NSPAWN};
use crate::appc::capability::CapabilitySet;
use crate::os::seccomp::{self, FilterProgram};
use crate::os::{SysError, atomic, file, trace};

/// Where a pod's init finds its filters, below the pod's root.
const IN_POD: &str = "rkt/filters";
const FORMAT: &str = "rkt-filters 1";
/// What decides beside the program's own files which libraries it gets (ld.so(8)).
const LOADER: [&str; 2] = ["/etc/ld.so.cache", "/etc/ld.so.preload"];
/// How long nspawn may take to start and end `/bin/true`.
const LIMIT: Duration = Duration::from_secs(10);
/// After what time a host that showed no filters is asked again, in seconds.
const ASK_AGAIN: i64 = 3600;

/// The filters of a pod, the first to be put on first. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters(Vec<FilterProgram>);

/// Finds or makes the filters of a pod whose apps may do `capabilities` beyond the usual; `None` when nspawn must make
/// its own. `root` is the pod's, in which nspawn is tried.
pub fn find(data_dir: &Path, capabilities: Option<CapabilitySet>, root: &Path) -> Option<Filters> {
    // The kernel shows filters to nobody who has one, and a pod below it inherits it.
    if seccomp::count("self") != Some(0) {
        return None;
    }
    let key = capabilities.map_or(u64::MAX, CapabilitySet::bits);
    let path = data_dir.join("filters").join(format!("{key:016x}"));
    match read(&path) {
        Some(Kept::Filters(filters)) => return Some(filters),
        Some(Kept::Nothing) => return None,
        None => {}
    }
    let seen = look(capabilities, root);
    let (programs, files) = match &seen {
        Ok(payload) => (payload.filters.as_slice(), payload.files.as_slice()),
        Err(error) => {
            log::debug!("systemd-nspawn makes the pod's filters itself: {error}");
            (&[][..], &[][..])
        }
    };
    let kept = text(programs, files).and_then(|text| save(&path, &text));
    if let Err(error) = kept {
        log::debug!("the pod's filters are not kept: {error}");
    }
    Filters::new(programs.to_vec())
}

impl Filters {
    fn new(programs: Vec<FilterProgram>) -> Option<Self> {
        (!programs.is_empty()).then_some(Self(programs))
    }

    /// Writes the filters to the place where the pod's init looks for them.
    ///
    /// # Errors
    /// When the disk does not allow it.
    pub fn hand_over(&self, root: &Path) -> Result<(), SysError> {
        let path = root.join(IN_POD);
        // Of a start that failed.
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(SysError::new("removing", &path, cause));
            }
            _ => {}
        }
        // Not synced: a pod that was started is never started again.
        atomic::write_new(&path, lines(&self.0).as_bytes(), 0o600)
    }

    /// Puts on this process what was handed over to the pod with this root.
    ///
    /// # Errors
    /// When there is none, or the kernel refuses one of them: then nothing may be executed.
    pub fn put_on(root: &Path) -> Result<(), SysError> {
        let path = root.join(IN_POD);
        let text = file::read_text(&path)?;
        let programs: Option<Vec<_>> = text.lines().map(program).collect();
        let damaged = || {
            let cause = std::io::Error::new(std::io::ErrorKind::InvalidData, "not what rkt has written");
            SysError::new("reading", &path, cause)
        };
        let filters = programs.and_then(Self::new).ok_or_else(damaged)?;
        filters.0.iter().try_for_each(FilterProgram::load)
    }
}

fn look(capabilities: Option<CapabilitySet>, root: &Path) -> Result<trace::Payload, SysError> {
    let payload = trace::payload_of(&nspawn::sample(root, capabilities), LIMIT)?;
    let has = |name: &str| payload.files.iter().any(|file| file.to_string_lossy().contains(name));
    // What it would compile with is not among what can be watched.
    if !has("/libseccomp") || !has(NSPAWN) || payload.filters.is_empty() {
        let cause =
            std::io::Error::new(std::io::ErrorKind::Unsupported, "it has no filters, or not by libseccomp");
        return Err(SysError::new("looking into", NSPAWN, cause));
    }
    Ok(payload)
}

enum Kept {
    Filters(Filters),
    /// The host was asked, and shows no filters.
    Nothing,
}

/// Reads what was kept; `None` when it is not there, not ours, or not of this day.
fn read(path: &Path) -> Option<Kept> {
    let own = rustix::process::geteuid().as_raw();
    for place in [path.parent()?, path] {
        let found = std::fs::symlink_metadata(place).ok()?;
        if found.uid() != own || found.mode() & 0o077 != 0 {
            return None;
        }
    }
    let text = file::read_text(path).ok()?;
    let (programs, files) = parse(&text)?;
    let unchanged =
        files.iter().all(|line| line.split(' ').nth(5).is_some_and(|path| identity(path) == **line));
    if !unchanged {
        return None;
    }
    match Filters::new(programs) {
        Some(filters) => Some(Kept::Filters(filters)),
        None => {
            let age = now()? - std::fs::symlink_metadata(path).ok()?.mtime();
            (0..ASK_AGAIN).contains(&age).then_some(Kept::Nothing)
        }
    }
}

fn now() -> Option<i64> {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(time.as_secs()).ok()
}

/// Takes a text apart that is whole, and of this kernel.
fn parse(text: &str) -> Option<(Vec<FilterProgram>, Vec<&str>)> {
    let (body, sum) = text.strip_suffix('\n')?.rsplit_once("sha512 ")?;
    let mut lines = body.lines();
    let is_ours = sum == digest(body) && lines.next() == Some(FORMAT) && lines.next() == Some(&kernel());
    if !is_ours {
        return None;
    }
    let (mut programs, mut files) = (Vec::new(), Vec::new());
    for line in lines {
        match line.strip_prefix("file ") {
            Some(file) => files.push(file),
            None => programs.push(program(line)?),
        }
    }
    Some((programs, files))
}

fn text(programs: &[FilterProgram], files: &[PathBuf]) -> Result<String, SysError> {
    let mut body = format!("{FORMAT}\n{}\n", kernel());
    let watched = files.iter().map(|file| file.display().to_string());
    let mut watched: Vec<String> =
        watched.chain([NSPAWN.to_owned()]).chain(LOADER.map(str::to_owned)).collect();
    watched.dedup();
    for file in watched {
        let identity = identity(&file);
        // A name with a blank can't be written here, nor can a file that an upgrade has just replaced.
        if file.contains(' ') || (identity.starts_with('-') && !LOADER.contains(&file.as_str())) {
            let cause = std::io::Error::new(std::io::ErrorKind::Unsupported, "it can't be watched");
            return Err(SysError::new("looking at", file, cause));
        }
        let _infallible = writeln!(body, "file {identity}");
    }
    body.push_str(&lines(programs));
    let sum = digest(&body);
    Ok(format!("{body}sha512 {sum}\n"))
}

fn save(path: &Path, text: &str) -> Result<(), SysError> {
    let dir = path.parent().unwrap_or(path);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(SysError::on("creating", dir))?;
    atomic::save(path, text.as_bytes(), 0o600)
}

/// What tells a file from its successor: `DEVICE INODE SIZE MTIME CTIME PATH`, dashes for one that is not there.
fn identity(path: &str) -> String {
    let Ok(found) = std::fs::metadata(path) else { return format!("- - - - - {path}") };
    let time = |seconds: i64, nanoseconds: i64| format!("{seconds}.{nanoseconds:09}");
    format!(
        "{} {} {} {} {} {path}",
        found.dev(),
        found.ino(),
        found.size(),
        time(found.mtime(), found.mtime_nsec()),
        time(found.ctime(), found.ctime_nsec())
    )
}

fn kernel() -> String {
    let system = rustix::system::uname();
    let (release, version, machine) = (system.release(), system.version(), system.machine());
    format!(
        "kernel {} {} {}",
        release.to_string_lossy(),
        version.to_string_lossy(),
        machine.to_string_lossy()
    )
}

fn lines(programs: &[FilterProgram]) -> String {
    programs.iter().map(|program| format!("filter {}\n", hex(program.as_bytes()))).collect()
}

fn program(line: &str) -> Option<FilterProgram> {
    let digits = line.strip_prefix("filter ")?.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    FilterProgram::new(pairs.collect::<Option<_>>()?)
}

fn digest(text: &str) -> String {
    hex(&Sha512::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn programs() -> Vec<FilterProgram> {
        [vec![6, 0, 0, 0, 0, 0, 255, 127], vec![1; 24]].map(|bytes| FilterProgram::new(bytes).unwrap()).into()
    }

    fn filters(kept: Option<Kept>) -> Option<Vec<FilterProgram>> {
        match kept? {
            Kept::Filters(filters) => Some(filters.0),
            Kept::Nothing => Some(Vec::new()),
        }
    }

    #[test]
    fn what_was_kept_is_used_until_something_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (library, path) = (dir.path().join("libseccomp.so"), dir.path().join("filters/0"));
        std::fs::write(&library, "1").unwrap();
        let keep = |programs: &[FilterProgram]| {
            let mut body = format!("{FORMAT}\n{}\n", kernel());
            let _infallible = writeln!(body, "file {}", identity(&library.display().to_string()));
            body.push_str(&lines(programs));
            let sum = digest(&body);
            save(&path, &format!("{body}sha512 {sum}\n")).unwrap();
        };
        keep(&programs());
        assert_eq!(filters(read(&path)), Some(programs()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(filters(read(&path)), None, "others could have read or written it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [("filter 06", "filter 07"), ("\nsha512", "\n\nsha512"), (FORMAT, "rkt-filters 2")]
        {
            std::fs::write(&path, whole.replace(from, to)).unwrap();
            assert_eq!(filters(read(&path)), None, "{from}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(filters(read(&path)), None, "cut off");
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(filters(read(&path)), Some(programs()));
        std::fs::write(&library, "22").unwrap();
        assert_eq!(filters(read(&path)), None, "an upgrade");
        std::fs::remove_file(&library).unwrap();
        assert_eq!(filters(read(&path)), None, "a removal");
        keep(&[]);
        assert_eq!(filters(read(&path)), Some(Vec::new()), "a host without");
    }

    #[test]
    fn what_is_handed_over_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rkt")).unwrap();
        Filters(programs()).hand_over(dir.path()).unwrap();
        let path = dir.path().join(IN_POD);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "filter 060000000000ff7f\nfilter 010101010101010101010101010101010101010101010101\n"
        );
        for damaged in ["", "filter \n", "filter 06\n", "filter 0600\u{e4}\n", "x\n"] {
            std::fs::write(&path, damaged).unwrap();
            let error = Filters::put_on(dir.path()).unwrap_err().to_string();
            assert_eq!(error, format!("reading {}: not what rkt has written", path.display()), "{damaged:?}");
        }
    }
}
