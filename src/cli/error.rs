//! Why a command ended early, and how that is told (spec cli.md 1.1.3).
//!
//! A user reads what failed and the innermost cause on one line, then the way out on a line of its own; with `--debug`
//! the whole chain. The chain is kept as text: nobody above looks into it any more.

use std::error::Error;

use super::{exit::Exit, output};
use crate::os::Hint;

/// The failure of a command.
#[derive(Debug)]
#[must_use]
pub struct CliError {
    telling: Telling,
    exit: Exit,
}

#[derive(Debug)]
enum Telling {
    Message(Message),
    /// The command's usage on stdout, no message.
    Usage,
    /// The command has told everything already.
    Nothing,
}

#[derive(Debug)]
struct Message {
    what: String,
    chain: Vec<String>,
    hint: Option<String>,
}

impl CliError {
    /// Makes the failure to do `what`: `problem retrieving pod`, or a whole sentence when there is no further cause.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            telling: Telling::Message(Message { what: what.into(), chain: Vec::new(), hint: None }),
            exit: Exit::FAILURE,
        }
    }

    /// Makes the failure that is told by the usage text of the command alone, as for a wrong number of arguments.
    pub fn usage() -> Self {
        Self { telling: Telling::Usage, exit: Exit::FAILURE }
    }

    /// Makes the failure of a command that has already told what went wrong.
    pub fn told() -> Self {
        Self { telling: Telling::Nothing, exit: Exit::FAILURE }
    }

    /// Adds the cause, with all causes below it and the way out that it knows.
    pub fn because(mut self, cause: impl Error + Hint) -> Self {
        if let Telling::Message(message) = &mut self.telling {
            message.hint = cause.hint().or(message.hint.take());
        }
        self.because_of(&cause)
    }

    /// Adds a cause that knows no way out, such as an error of another crate.
    pub fn because_of(mut self, cause: &dyn Error) -> Self {
        if let Telling::Message(message) = &mut self.telling {
            let mut link = Some(cause);
            while let Some(error) = link {
                message.chain.push(error.to_string());
                link = error.source();
            }
        }
        self
    }

    /// Says what the user can do now, if the cause did not say it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Telling::Message(message) = &mut self.telling {
            message.hint.get_or_insert_with(|| hint.into());
        }
        self
    }

    /// Replaces the exit code 254.
    pub fn exit_code(mut self, code: u8) -> Self {
        self.exit = Exit::code(code);
        self
    }

    /// Tells the user and forgets it: the command goes on with the next thing.
    pub fn tell_and_go_on(&self, debug: bool) {
        if let Telling::Message(message) = &self.telling {
            output::stderr(&message.render(debug));
        }
    }

    /// Tells the user, and returns the code to exit with.
    pub(super) fn tell(&self, debug: bool, usage: &str) -> Exit {
        match &self.telling {
            Telling::Message(message) => output::stderr(&message.render(debug)),
            Telling::Usage => output::print(usage),
            Telling::Nothing => {}
        }
        self.exit
    }
}

impl Message {
    fn render(&self, debug: bool) -> String {
        let mut text = match self.chain.last() {
            Some(innermost) if !debug => output::prefixed(&format!("{}: {innermost}", self.what)),
            _ => output::prefixed(&self.what),
        };
        if debug {
            for (depth, link) in self.chain.iter().enumerate() {
                text += &format!("{}└─{link}\n", "  ".repeat(depth + 1));
            }
        }
        if let Some(hint) = &self.hint {
            text += &output::prefixed(&format!("hint: {hint}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading the pod")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("opening /x: Permission denied")]
    struct Inner;

    impl Hint for Outer {
        fn hint(&self) -> Option<String> {
            Some("ask root".to_owned())
        }
    }

    fn render(error: &CliError, debug: bool) -> String {
        match &error.telling {
            Telling::Message(message) => message.render(debug),
            Telling::Usage | Telling::Nothing => String::new(),
        }
    }

    #[test]
    fn a_message_names_what_failed_the_innermost_cause_and_the_way_out() {
        let error = CliError::new("problem retrieving pod").because(Outer(Inner)).hint("not needed");
        assert_eq!(
            render(&error, false),
            "rkt: problem retrieving pod: opening /x: Permission denied\nrkt: hint: ask root\n"
        );
        assert_eq!(
            render(&error, true),
            "rkt: problem retrieving pod\n  └─reading the pod\n    └─opening /x: Permission denied\n\
             rkt: hint: ask root\n"
        );
    }

    #[test]
    fn a_whole_sentence_needs_no_cause() {
        let error = CliError::new("pod is not prepared").hint("prepare one").exit_code(1);
        assert_eq!(render(&error, false), "rkt: pod is not prepared\nrkt: hint: prepare one\n");
        assert_eq!(error.exit, Exit::code(1));
    }
}
