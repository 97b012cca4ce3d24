//! What rkt does inside a pod, as the short program of a unit.
//!
//! The pod's systemd starts the file `/rkt/inside`, which is rkt itself on a read-only mount of the pod's own view (no
//! app sees it). It knows the ground floor and the marks, nothing of the host.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::stdio::stdout;

use super::plan::{IO_DIR, OUTPUT_DIR};
use super::status::record_failure;
use crate::appc::name::AcName;
use crate::os::pump::{self, Flow, Kind, Next};
use crate::os::signals::Signals;
use crate::os::{SysError, fifo, root::Root, signal_name};

/// Where rkt's own file is, in the pod.
pub const PROGRAM: &str = "/rkt/inside";
/// The word that asks for [`record`].
pub const FAILED: &str = "failed";

/// The word that asks for what must be done before the pod's systemd is there, and then for that: switches, `--`,
/// and the arguments of systemd.
pub const INIT: &str = "init";
/// The switch for [`super::filters::Filters::put_on`].
pub const WITH_FILTERS: &str = "filters";
/// The switch for a console that is the caller's terminal.
pub const ON_TERMINAL: &str = "terminal";
/// What the pod's init then becomes.
pub const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// The word that asks for [`super::verify::excesses`].
pub const VERIFY: &str = "verify";

/// The word that asks for [`wait_for_end_of_supervisor`], and the name of the FIFO by which the pod notices that.
pub const SUPERVISED: &str = "supervised";

/// The word that asks for [`carry_output`].
pub const OUTPUT: &str = "output";

/// systemd's own statuses for a start that did not get as far as the program (systemd.exec(5), "Process Exit Codes").
const EXIT_CHDIR: u8 = 200;
const EXIT_EXEC: u8 = 203;

/// What the unit of a failed app's record is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The app.
    pub app: AcName,
    /// The program that it was to execute, in its root.
    pub program: String,
    /// The directory that it was to start in.
    pub working_directory: String,
}

/// How systemd says a unit's main process ended (systemd.exec(5), `$MONITOR_EXIT_CODE` and the like).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MonitorEnvironment {
    /// `exited`, `killed` or `dumped`.
    pub exit_code: String,
    /// A number, or a signal's name without SIG.
    pub exit_status: String,
}

/// What the record of a failure says: the pod's exit status, and a line for the app's log where systemd is silent.
#[derive(Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The status that the pod ends with.
    pub pod_exit_code: u8,
    /// Why the app could not start.
    pub diagnosis: Option<String>,
}

/// Keeps the pod's systemd from watching for questions after passwords, which no unit of a pod asks.
///
/// It would watch the directory `/run/systemd/ask-password`, and the end of a pod would wait for the kernel to take the
/// watch down. Where a file is in its place, there is nothing to watch. What can't be done costs that time and no more.
pub fn leave_out_password_questions(root: &Path) {
    let systemd = root.join("run/systemd");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&systemd);
    if let Err(error) = made.and_then(|()| std::fs::write(systemd.join("ask-password"), "")) {
        log::debug!("systemd will watch for questions after passwords: {error}");
    }
}

/// Returns when the supervisor of an interactive pod, whose root is `root`, is gone, which may have been so before.
///
/// # Errors
/// When the FIFO that it holds can't be opened.
pub fn wait_for_end_of_supervisor(root: &Path) -> Result<(), SysError> {
    fifo::wait_for_end_of_writers(&root.join(IO_DIR).join(SUPERVISED))
}

/// Carries what `app` writes to its FIFO below `root`, the pod's root, to standard output, until a signal tells that the app
/// has ended; then what is left.
///
/// # Errors
/// When the FIFO can't be opened.
pub fn carry_output(root: &Path, app: &AcName) -> Result<(), SysError> {
    // First, since the app waits for the FIFO alone: one that has ended a moment later has been heard all the same.
    let signals = Signals::take()?;
    let fifo = fifo::hold(&root.join(OUTPUT_DIR).join(app.as_str()))?;
    let flow = Flow::new(Kind::Output, fifo, pump::own(stdout())?);
    pump::run(vec![flow], &[signals.as_fd()], |_| match signals.next() {
        Some(libc::SIGTERM) => Next::Finish(()),
        _ => Next::Continue,
    });
    Ok(())
}

/// Records the end of a failed app below `root`, the pod's root.
///
/// # Errors
/// When the marks can't be written.
pub fn record(root: &Path, failure: &Failure, end: &MonitorEnvironment) -> Result<Recorded, SysError> {
    let exit_code = exit_code(end);
    let app_root = root.join("opt/stage2").join(failure.app.as_str()).join("rootfs");
    let pod_exit_code = record_failure(root, &failure.app, exit_code)?;
    let diagnosis = match exit_code {
        EXIT_CHDIR => diagnose_directory(&app_root, &failure.working_directory),
        EXIT_EXEC => diagnose(&app_root, &failure.program),
        _ => None,
    };
    Ok(Recorded { pod_exit_code, diagnosis })
}

/// The status of an app: its own, or the bare number of the signal that ended it (spec pods.md 3.10).
fn exit_code(end: &MonitorEnvironment) -> u8 {
    let code = match end.exit_code.as_str() {
        "killed" | "dumped" => signal_name::number(&end.exit_status),
        _ => end.exit_status.parse().ok(),
    };
    // A unit that failed without such a status (a time-out, a protocol error) has still failed.
    code.filter(|code| *code != 0).unwrap_or(1)
}

/// Says why an app could not start in the directory `path` of its root. `None`: it could, the status is its own.
fn diagnose_directory(app_root: &Path, path: &str) -> Option<String> {
    let reason = match Root::open(app_root).and_then(|root| open_directory(&root, Path::new(path))) {
        Err(error) => error.reason(),
        Ok(status) if lets_nobody_else(status.st_mode) => "Permission denied".to_owned(),
        Ok(_) => return None,
    };
    Some(format!("Error: Unable to change to the working directory \"{path}\": {reason}"))
}

fn open_directory(root: &Root, path: &Path) -> Result<rustix::fs::Stat, SysError> {
    let dir = root.open_dir(path)?;
    rustix::fs::fstat(&dir).map_err(SysError::on("looking at", path))
}

/// Tells whether some users may not search a directory of this mode, or execute a file.
fn lets_nobody_else(mode: u32) -> bool {
    mode & 0o001 == 0
}

fn diagnose(app_root: &Path, program: &str) -> Option<String> {
    let diagnosis = match Root::open(app_root) {
        Ok(root) => diagnosis(&root, program),
        Err(error) => Some(format!("Unable to open \"{program}\": {}", error.reason())),
    };
    diagnosis.map(|text| format!("Error: {text}"))
}

/// Says why `program` could not be executed in the app's root `root` (spec pods.md 3.6). `None`: it could, the status is
/// its own.
pub fn diagnosis(root: &Root, program: &str) -> Option<String> {
    let unable =
        |path: &str, error: &SysError| Some(format!("Unable to open \"{path}\": {}", error.reason()));
    let (head, mode) = match read_head(root, Path::new(program)) {
        Ok(read) => read,
        Err(error) => return unable(program, &error),
    };
    let interpreter = script_interpreter(&head).or_else(|| elf_interpreter(&head));
    let opened = interpreter.as_deref().map(|path| (path, root.open_file(path)));
    if let Some((path, Err(error))) = opened {
        return unable(&path.to_string_lossy(), &error);
    }
    let is_program = interpreter.is_some() || is_for_this_machine(&head);
    (!is_program || lets_nobody_else(mode)).then(|| {
        format!("Unable to execute \"{program}\": it is not a program for this machine, or not executable")
    })
}

/// Compares the class, byte order and machine of an ELF header (elf(5)) with those of rkt itself.
fn is_for_this_machine(head: &[u8]) -> bool {
    let kind = |head: &[u8]| Some((head.get(..6)?.to_vec(), head.get(18..20)?.to_vec()));
    let own = std::fs::File::open("/proc/self/exe").and_then(|file| {
        let mut own = Vec::new();
        file.take(20).read_to_end(&mut own).map(|_| own)
    });
    head.starts_with(b"\x7fELF") && own.is_ok_and(|own| kind(&own) == kind(head))
}

/// Returns the beginning of a file, and its mode.
fn read_head(root: &Root, program: &Path) -> Result<(Vec<u8>, u32), SysError> {
    /// More than the kernel reads to find an interpreter, and enough for the program headers of usual files.
    const HEAD: u64 = 4096;
    let mut head = Vec::new();
    let file = root.open_file(program)?;
    let status = rustix::fs::fstat(&file).map_err(SysError::on("looking at", program))?;
    file.take(HEAD).read_to_end(&mut head).map_err(SysError::on("reading", program))?;
    Ok((head, status.st_mode))
}

fn script_interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let word = std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?;
    Some(word.into())
}

/// Reads the path in the PT_INTERP program header of a 64-bit little-endian file (elf(5)).
fn elf_interpreter(head: &[u8]) -> Option<PathBuf> {
    const PT_INTERP: u32 = 3;
    const HEADER_SIZE: usize = 56;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let word = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let start = usize::try_from(word(32)?).ok()?;
    let count = usize::from(u16::from_le_bytes(head.get(56..58)?.try_into().ok()?));
    for index in 0..count {
        let at = start.checked_add(index.checked_mul(HEADER_SIZE)?)?;
        if u32::from_le_bytes(head.get(at..at.checked_add(4)?)?.try_into().ok()?) != PT_INTERP {
            continue;
        }
        let (offset, size) = (usize::try_from(word(at + 8)?).ok()?, usize::try_from(word(at + 32)?).ok()?);
        let text = head.get(offset..offset.checked_add(size)?)?.split(|&byte| byte == 0).next()?;
        return Some(std::str::from_utf8(text).ok()?.into());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_signal_counts_as_its_bare_number() {
        for (code, status, expected) in [
            ("exited", "7", 7),
            ("exited", "203", 203),
            ("killed", "KILL", 9),
            ("dumped", "SEGV", 11),
            ("killed", "RTMIN+3", 37),
            ("killed", "NOSUCH", 1),
            ("exited", "0", 1),
            ("", "", 1),
        ] {
            let end = MonitorEnvironment { exit_code: code.into(), exit_status: status.into() };
            assert_eq!(exit_code(&end), expected, "{code} {status}");
        }
    }

    #[test]
    fn a_program_that_can_not_be_executed_is_diagnosed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("bin")).unwrap();
        std::fs::write(root.path().join("script"), "#!/bin/interpreter\n").unwrap();
        std::fs::write(root.path().join("text"), "hello").unwrap();
        std::fs::write(root.path().join("closed"), &std::fs::read("/proc/self/exe").unwrap()[..20]).unwrap();
        std::fs::set_permissions(root.path().join("closed"), std::fs::Permissions::from_mode(0o700)).unwrap();
        for (program, expected) in [
            ("/missing", "Error: Unable to open \"/missing\": No such file or directory"),
            ("/bin", "Error: Unable to open \"/bin\": Is a directory"),
            ("/script", "Error: Unable to open \"/bin/interpreter\": No such file or directory"),
            (
                "/text",
                "Error: Unable to execute \"/text\": it is not a program for this machine, or not executable",
            ),
            (
                "/closed",
                "Error: Unable to execute \"/closed\": it is not a program for this machine, or not executable",
            ),
        ] {
            assert_eq!(diagnose(root.path(), program).as_deref(), Some(expected));
        }
        for (directory, reason) in [("/text", "Not a directory"), ("/no", "No such file or directory")] {
            let expected =
                format!("Error: Unable to change to the working directory \"{directory}\": {reason}");
            assert_eq!(diagnose_directory(root.path(), directory), Some(expected));
        }
    }

    #[test]
    fn a_status_that_is_the_apps_own_is_not_explained() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("bin")).unwrap();
        std::fs::set_permissions(root.path().join("bin"), std::fs::Permissions::from_mode(0o755)).unwrap();
        for (name, text) in
            [("program", &std::fs::read("/proc/self/exe").unwrap()[..20]), ("script", b"#!/program")]
        {
            let path = root.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(diagnose(root.path(), &format!("/{name}")), None);
        }
        assert_eq!(diagnose_directory(root.path(), "/bin"), None);
    }

    #[test]
    fn the_interpreter_of_a_script_is_its_first_word() {
        assert_eq!(script_interpreter(b"#! /bin/sh -e\nexit"), Some("/bin/sh".into()));
        assert_eq!(script_interpreter(b"\x7fELF"), None);
    }

    #[test]
    fn the_loader_of_a_program_is_found() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let loader = elf_interpreter(&own[..4096]).expect("tests are linked dynamically");
        assert!(loader.exists(), "{loader:?}");
        assert_eq!(elf_interpreter(b"\x7fELF\x02\x01"), None);
    }
}
