//! What rkt does inside a pod, called by units as `/rkt/inside WORD ARGUMENT…`; nothing for people.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::output;
use crate::os::cgroup;
use crate::os::process::{Program, become_init};
use crate::os::terminal;
use crate::stage1::filters::Filters;
use crate::stage1::inside::{
    self, FAILED, Failure, INIT, MonitorEnvironment, ON_TERMINAL, OUTPUT, SUPERVISED, SYSTEMD, VERIFY,
    WITH_FILTERS,
};
use crate::stage1::{kernel_view, verify};

/// The status of a helper that could not do its work; the pod ends with it.
const BROKEN: u8 = 254;

/// Does what a unit asks for.
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    output::set_prefix("rkt");
    let words: Vec<String> = words.filter_map(|word| word.into_string().ok()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let status = match words.as_slice() {
        [VERIFY] => verify(),
        [INIT, words @ ..] => init(words),
        [SUPERVISED] => {
            if let Err(error) = inside::wait_for_end_of_supervisor(Path::new("/")) {
                output::message(error);
            }
            BROKEN
        }
        [OUTPUT, app] => carry_output(app),
        [FAILED, app, program, working_directory] => failed(app, program, working_directory),
        _ => {
            output::message("this is a helper of pods and has nothing to say to people");
            BROKEN
        }
    };
    status.into()
}

fn failed(app: &str, program: &str, working_directory: &str) -> u8 {
    let Ok(app) = app.parse() else {
        output::message(format!("{app:?} is no app"));
        return BROKEN;
    };
    let failure =
        Failure { app, program: program.to_owned(), working_directory: working_directory.to_owned() };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let end = MonitorEnvironment {
        exit_code: variable("MONITOR_EXIT_CODE"),
        exit_status: variable("MONITOR_EXIT_STATUS"),
    };
    match inside::record(Path::new("/"), &failure, &end) {
        Ok(recorded) => {
            if let Some(diagnosis) = recorded.diagnosis {
                output::stderr(&format!("{diagnosis}\n"));
            }
            recorded.pod_exit_code
        }
        Err(error) => {
            output::message(error);
            BROKEN
        }
    }
}

fn carry_output(app: &str) -> u8 {
    let Ok(app) = app.parse() else {
        output::message(format!("{app:?} is no app"));
        return BROKEN;
    };
    match inside::carry_output(Path::new("/"), &app) {
        Ok(()) => 0,
        Err(error) => {
            output::message(error);
            BROKEN
        }
    }
}

/// Becomes the pod's systemd, behind everything that must be so before that is there.
fn init(words: &[&str]) -> u8 {
    let mut parts = words.splitn(2, |word| *word == "--");
    let (switches, arguments) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let root = Path::new("/");
    // systemd-nspawn has just moved this process, and systemd is about to.
    cgroup::forestall_wait();
    if !switches.contains(&ON_TERMINAL)
        // Without it each line ends like one of a serial line, in a pipe and in a file, too.
        && let Err(error) = terminal::keep_line_ends(std::io::stdout())
    {
        output::message(error);
    }
    if let Err(error) = kernel_view::make(root) {
        output::message(format!("the pod is not started with the kernel's files open to its apps: {error}"));
        return BROKEN;
    }
    if switches.contains(&WITH_FILTERS)
        && let Err(error) = Filters::put_on(root)
    {
        output::message(format!("the pod is not started without a filter of system calls: {error}"));
        return BROKEN;
    }
    if !arguments.contains(&"--log-target=console") {
        // Who reads along would read of each try to watch.
        inside::leave_out_password_questions(root);
    }
    let program = Program {
        path: SYSTEMD.into(),
        args: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        // systemd-nspawn gives this to whatever is no init; systemd finds its own.
        env: std::env::vars().filter(|(name, _)| name != "LANG").collect(),
    };
    output::message(become_init(&program));
    BROKEN
}

fn verify() -> u8 {
    match verify::excesses(Path::new("/")) {
        Ok(excesses) if excesses.is_empty() => 0,
        Ok(excesses) => {
            for excess in excesses {
                output::message(format!(
                    "the pod is ended, an app has more rights than were asked for: {excess}"
                ));
            }
            BROKEN
        }
        Err(error) => {
            output::message(format!("the pod is ended, its apps' rights can't be compared: {error}"));
            BROKEN
        }
    }
}
