//! Programs that keep credentials: `docker-credential-NAME get` reads the name of a server from its standard input and
//! writes `{"ServerURL": …, "Username": …, "Secret": …}` (Docker CLI, "Credential helper protocol").
//!
//! What such a program says is never shown, since it may be the secret itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Identity, LoginError};
use crate::appc::json;
use crate::config::{Login, Secret};
use crate::os::command::{Command, End, OnInterrupt};
use crate::os::trusted;

/// How long a program may take; it may have to ask a server, or the user for a password.
pub(super) const TIME: Duration = Duration::from_secs(30);
/// How much it may say.
const OUTPUT: usize = 64 << 10;
/// Where programs are when the environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The user name that says that the secret is an identity token.
const IDENTITY: &str = "<token>";
/// What a program says, and fails, when it has no credentials for the server.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A call of a program.
pub(super) struct Helper<'a> {
    /// NAME.
    pub(super) name: &'a str,
    /// The file that names it.
    pub(super) file: &'a Path,
    /// Whose credentials are wanted.
    pub(super) server: &'a str,
    /// The environment of the user, which is the program's too.
    pub(super) environment: &'a BTreeMap<String, String>,
    /// How long it may take.
    pub(super) time: Duration,
}

impl Helper<'_> {
    /// Asks the program; `None` if it knows nothing of the server.
    pub(super) fn get(&self) -> Result<Option<Identity>, LoginError> {
        let program = self.find()?;
        let command = Command {
            program: program.clone(),
            args: vec!["get".to_owned()],
            env: self.environment.clone(),
            dir: "/".into(),
            input: self.server.as_bytes().to_vec(),
            time: self.time,
            output: OUTPUT,
        };
        let failed = |problem: String| LoginError::Helper {
            program: program.clone(),
            server: self.server.to_owned(),
            problem,
        };
        match command.start()?.wait(OnInterrupt::GiveUp) {
            End::Interrupted => Err(LoginError::Interrupted),
            End::TimedOut => {
                Err(failed(format!("it was killed, since it did not end within {} s", self.time.as_secs())))
            }
            End::SaidTooMuch => {
                Err(failed(format!("it was killed, since it wrote more than {} KiB", OUTPUT >> 10)))
            }
            End::Exited(status, said) if status.success() => {
                identity(&said).ok_or_else(|| failed("it does not answer in the form of its protocol".into()))
            }
            End::Exited(_, said) if said.trim_ascii() == NOT_FOUND.as_bytes() => Ok(None),
            End::Exited(status, _) => Err(failed(format!("it failed with {status}"))),
        }
    }

    /// The program, which only root and this user can have made.
    fn find(&self) -> Result<PathBuf, LoginError> {
        if !is_name(self.name) {
            let problem = format!("{} is no name of a credential helper", crate::appc::quoted(self.name));
            return Err(LoginError::Content { file: self.file.to_owned(), problem });
        }
        let file_name = format!("docker-credential-{}", self.name);
        let path = self.environment.get("PATH").map_or(PATH, String::as_str);
        let mut dirs = path.split(':').map(Path::new).filter(|dir| dir.is_absolute());
        let dir = dirs.find(|dir| dir.join(&file_name).is_file());
        let Some(dir) = dir else {
            return Err(LoginError::NoHelper { program: file_name, file: self.file.to_owned() });
        };
        // Not the path behind a link: some programs do what they are called.
        let program = trusted::resolve(dir)?.join(file_name);
        trusted::resolve(&program)?;
        Ok(program)
    }
}

/// Without a slash, it stays in the directories of programs.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.bytes().all(is_plain)
}

/// What a program says; the outer `None` is for what is not of its protocol.
fn identity(said: &[u8]) -> Option<Option<Identity>> {
    let answer = json::parse(said).ok()?;
    let member = |name| answer.get(name).and_then(Value::as_str);
    let (user, secret) = (member("Username")?, member("Secret")?);
    Some(match (user, secret) {
        ("", "") => None,
        (_, "") => return None,
        (IDENTITY, secret) => Some(Identity::Token(Secret::new(secret))),
        // RFC 7617 2: what follows a colon would be read as the password.
        (user, _) if user.contains(':') => return None,
        (user, secret) => {
            Some(Identity::Password(Login { user: user.to_owned(), password: Secret::new(secret) }))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn answers_are_of_the_protocol() {
        let password = |user: &str, secret: &str| {
            Some(Some(Identity::Password(Login { user: user.into(), password: Secret::new(secret) })))
        };
        for (said, expected) in [
            (r#"{"ServerURL":"x","Username":"u","Secret":"p"}"#, password("u", "p")),
            (r#"{"Username":"<token>","Secret":"t"}"#, Some(Some(Identity::Token(Secret::new("t"))))),
            (r#"{"Username":"","Secret":""}"#, Some(None)),
            (r#"{"Username":"u","Secret":""}"#, None),
            (r#"{"Username":"u:v","Secret":"p"}"#, None),
            (r#"{"Username":"u","Username":"v","Secret":"p"}"#, None),
            (r#"{"Username":1,"Secret":"p"}"#, None),
            ("garbage", None),
            ("", None),
        ] {
            assert_eq!(identity(said.as_bytes()), expected, "{said}");
        }
    }

    #[test]
    fn a_program_is_found_by_its_name_alone_and_has_a_time_limit() {
        let dir = tempfile::tempdir().unwrap();
        // What bash does first, so that no program needs to be written.
        let script = dir.path().join("script");
        std::fs::write(&script, "exec /bin/sleep 1000\n").unwrap();
        std::os::unix::fs::symlink("/bin/bash", dir.path().join("docker-credential-slow")).unwrap();
        std::os::unix::fs::symlink("/bin/false", dir.path().join("docker-credential-no")).unwrap();
        let text = |path: &Path| path.display().to_string();
        let environment = BTreeMap::from([
            ("PATH".to_owned(), format!("rel:/no/such:{}", text(dir.path()))),
            ("BASH_ENV".to_owned(), text(&script)),
        ]);
        let helper_within = |name, time| Helper {
            name,
            file: Path::new("auth.json"),
            server: "reg",
            environment: &environment,
            time,
        };
        let helper = |name| helper_within(name, TIME);
        for name in ["", "../slow", "/bin/sh", "a b", "a\0"] {
            let refused = helper(name).get().unwrap_err().to_string();
            assert!(refused.contains("is no name of a credential helper"), "{refused}");
        }
        let none = helper("none").get().unwrap_err().to_string();
        assert_eq!(none, "auth.json names docker-credential-none, and no directory of PATH has it");
        let failed = helper("no").get().unwrap_err().to_string();
        assert!(
            failed.ends_with("docker-credential-no get` for reg: it failed with exit status: 1"),
            "{failed}"
        );
        let slow = helper_within("slow", Duration::from_millis(50)).get().unwrap_err().to_string();
        assert!(slow.ends_with("it was killed, since it did not end within 0 s"), "{slow}");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let refused = helper("slow").get().unwrap_err().to_string();
        assert!(refused.ends_with(" can be written to by others than its owner"), "{refused}");
    }
}
