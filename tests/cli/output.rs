//! What happens when nobody hears what rkt says (SECURITY.md F33 is about lost output).

use std::{
    fs::File,
    io,
    process::{Command, Stdio},
};

fn version_to(stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_rkt"))
        .arg("version")
        .env_clear()
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .expect("the binary starts");
    (child.status.code(), String::from_utf8_lossy(&child.stderr).into_owned())
}

#[test]
fn lost_output_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").expect("every Linux has /dev/full");
    let told = "version: writing the output: No space left on device\n".to_owned();
    assert_eq!(version_to(full), (Some(254), told));
}

#[test]
fn a_reader_that_went_away_is_a_failure_without_a_message() {
    let (reader, writer) = io::pipe().expect("pipe(2)");
    drop(reader);
    assert_eq!(version_to(writer), (Some(254), String::new()));
}
