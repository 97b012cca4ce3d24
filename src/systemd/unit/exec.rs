//! Commands and environment assignments: the arguments of users, byte for byte.
//!
//! The one form that carries everything (measured on 252 and 257): the prefix `:`, which turns `$` off, every argument
//! in double quotes, `\` and `"` escaped, `%` doubled, every byte outside of printable ASCII as `\xNN`.

use super::error::{Reason, ValueError, unfit};
use super::name::VariableName;
use super::path::Pattern;
use super::read::Syntax;
use super::value::Value;

/// The longest argument or variable that execve(2) takes, without its terminator (`MAX_ARG_STRLEN`).
const ARGUMENT_MAX: usize = 128 * 1024 - 1;

/// An argument of a command: any UTF-8 without NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument(Pattern);

impl Argument {
    /// Takes an argument as it shall arrive.
    ///
    /// # Errors
    /// For a NUL byte; for bytes that are not UTF-8, which would run, but break `systemctl status` of the unit; and
    /// for more than the kernel takes.
    pub fn new(argument: impl AsRef<[u8]>) -> Result<Self, ValueError> {
        Ok(Self(Pattern::plain(checked("argument", argument.as_ref())?)))
    }

    /// Takes an argument with the unescaped instance of the unit between `before` and `after`.
    ///
    /// # Errors
    /// As [`Argument::new`].
    pub fn around_instance(before: &str, after: &str) -> Result<Self, ValueError> {
        checked("argument", before.as_bytes())?;
        checked("argument", after.as_bytes())?;
        Ok(Self(Pattern::around_instance(before, after)))
    }

    /// The argument that is the unescaped instance of the unit.
    pub fn instance() -> Self {
        Self(Pattern::around_instance("", ""))
    }

    fn render(&self) -> String {
        format!("\"{}\"", self.0.render(c_escaped))
    }

    fn meant(&self, instance: &str) -> Vec<u8> {
        self.0.in_instance(instance).into_bytes()
    }
}

fn checked<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a str, ValueError> {
    let refuse = |reason| ValueError::new(what, bytes, reason);
    let text = std::str::from_utf8(bytes).map_err(|_| refuse(Reason::NotUtf8))?;
    match unfit(text) {
        Some(reason) => Err(refuse(reason)),
        None if text.len() > ARGUMENT_MAX => Err(refuse(Reason::TooLong(ARGUMENT_MAX))),
        None => Ok(text),
    }
}

fn c_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for byte in text.bytes() {
        match byte {
            b'\\' => out.push_str(r"\\"),
            b'"' => out.push_str(r#"\""#),
            0x20..0x7f => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// What a failure of a command does to its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The service fails.
    Fail,
    /// Nothing (systemd.service(5), the prefix `-`).
    Ignore,
}

/// A command of a service (`ExecStart=`): an absolute path and the whole argv, nothing of it interpreted.
///
/// The prefixes `+` and `!`, which run a command outside of the unit's user and sandbox, can't be expressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    path: String,
    argv: Vec<Argument>,
    on_failure: OnFailure,
}

impl Exec {
    /// Takes a path and the arguments behind argv[0], which is the path.
    ///
    /// # Errors
    /// As [`Exec::with_argv`].
    pub fn new(path: &str, arguments: impl IntoIterator<Item = Argument>) -> Result<Self, ValueError> {
        let argv = std::iter::once(Argument::new(path)?).chain(arguments).collect();
        Self::with_argv(path, argv)
    }

    /// Takes a path and the whole argv; an empty argv becomes that of the path alone.
    ///
    /// # Errors
    /// When the path is not absolute, ends in a slash, or has a control character, quote or backslash, for which
    /// systemd would not load the unit (`string_is_safe`).
    pub fn with_argv(path: &str, mut argv: Vec<Argument>) -> Result<Self, ValueError> {
        const PATH_MAX: usize = 4095;
        let refuse = |reason| Err(ValueError::new("path of an executable", path, reason));
        checked("path of an executable", path.as_bytes())?;
        if let Some(c) = path.chars().find(|c| c.is_control() || matches!(c, '"' | '\'' | '\\')) {
            return refuse(if c.is_control() { Reason::Control(c) } else { Reason::Character(c) });
        }
        match path {
            _ if !path.starts_with('/') => return refuse(Reason::Relative),
            _ if path.ends_with('/') => return refuse(Reason::FinalSlash),
            _ if path.len() > PATH_MAX => return refuse(Reason::TooLong(PATH_MAX)),
            _ => {}
        }
        if argv.is_empty() {
            argv.push(Argument::new(path)?);
        }
        Ok(Self { path: path.to_owned(), argv, on_failure: OnFailure::Fail })
    }

    /// Says what a failure of the command does.
    #[must_use]
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure, ..self }
    }

    fn prefix(&self) -> String {
        let ignore = if self.on_failure == OnFailure::Ignore { "-" } else { "" };
        let own_name = if self.names_itself() { "" } else { "@" };
        format!("{ignore}{own_name}:")
    }

    /// Whether argv[0] is the path, so that it need not be said.
    fn names_itself(&self) -> bool {
        self.argv.first().is_some_and(|first| first.0 == Pattern::plain(&self.path))
    }

    fn arguments(&self) -> impl Iterator<Item = &Argument> {
        self.argv.iter().skip(usize::from(self.names_itself()))
    }
}

impl Value for Exec {
    fn render(&self) -> String {
        let path = Argument(Pattern::plain(&self.path)).render();
        let mut out = format!("{}{path}", self.prefix());
        for argument in self.arguments() {
            out.push(' ');
            out.push_str(&argument.render());
        }
        out
    }

    fn syntax(&self) -> Syntax {
        Syntax::Arguments
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        let command = format!("{}{}", self.prefix(), self.path).into_bytes();
        std::iter::once(command).chain(self.arguments().map(|argument| argument.meant(instance))).collect()
    }

    fn uses_instance(&self) -> bool {
        self.argv.iter().any(|argument| argument.0.uses_instance())
    }
}

/// A variable set in the unit itself (`Environment=`). Users' variables go to a file instead: [`super::environment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    name: VariableName,
    value: Argument,
}

impl Variable {
    /// Sets `name` to `value`.
    pub fn new(name: VariableName, value: Argument) -> Self {
        Self { name, value }
    }
}

impl Value for Variable {
    fn render(&self) -> String {
        format!("\"{}={}\"", self.name, self.value.0.render(c_escaped))
    }

    fn syntax(&self) -> Syntax {
        Syntax::Arguments
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        vec![[self.name.as_str().as_bytes(), b"=", &self.value.meant(instance)].concat()]
    }

    fn uses_instance(&self) -> bool {
        self.value.0.uses_instance()
    }
}
