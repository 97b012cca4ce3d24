//! What rkt does inside a pod, called by units as `/rkt/inside WORD ARGUMENT…`; nothing for people.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::output;
use crate::stage1::inside::{self, FAILED, Failure, MonitorEnvironment};

/// The status of a helper that could not do its work; the pod ends with it.
const BROKEN: u8 = 254;

/// Does what a unit asks for.
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    output::set_prefix("rkt");
    let words: Vec<String> = words.filter_map(|word| word.into_string().ok()).collect();
    let [word, app, program, working_directory] = words.as_slice() else {
        output::message("this is a helper of pods and has nothing to say to people");
        return BROKEN.into();
    };
    let (FAILED, Ok(app)) = (word.as_str(), app.parse()) else {
        output::message(format!("no such word: {word}"));
        return BROKEN.into();
    };
    let failure = Failure { app, program: program.clone(), working_directory: working_directory.clone() };
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
            recorded.pod_exit_code.into()
        }
        Err(error) => {
            output::message(error);
            BROKEN.into()
        }
    }
}
