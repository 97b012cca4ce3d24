//! What a service reads from and writes to, and what a socket unit listens on.

use super::name::Identifier;
use super::path::{ListenPath, StreamPath};
use super::read::Syntax;
use super::value::Value;

/// Where a socket unit listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A socket or FIFO in the file system.
    Path(ListenPath),
    /// A port on every address.
    Port(std::num::NonZeroU16),
    /// A port on one address.
    Inet(std::net::SocketAddr),
}

impl Value for ListenAddress {
    fn render(&self) -> String {
        match self {
            Self::Path(path) => path.render(),
            Self::Port(port) => port.to_string(),
            Self::Inet(address) => address.to_string(),
        }
    }

    fn syntax(&self) -> Syntax {
        Syntax::Expanded
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        match self {
            Self::Path(path) => path.meaning(instance),
            Self::Port(_) | Self::Inet(_) => vec![self.render().into_bytes()],
        }
    }

    fn uses_instance(&self) -> bool {
        matches!(self, Self::Path(path) if path.uses_instance())
    }
}

/// Where a service reads its standard input from (systemd.exec(5), `StandardInput=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandardInput {
    /// `/dev/null`.
    Null,
    /// The terminal of `TTYPath=`, waiting until it is free.
    Tty,
    /// The terminal of `TTYPath=`, taken from whoever has it.
    TtyForce,
    /// The socket that started the service.
    Socket,
    /// The descriptor of that name from a socket unit.
    Descriptor(Identifier),
    /// A file or FIFO.
    File(StreamPath),
}

/// Where a service writes standard output or standard error to (systemd.exec(5), `StandardOutput=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandardOutput {
    /// As standard input, or as standard output for standard error.
    Inherit,
    /// `/dev/null`.
    Null,
    /// The terminal of `TTYPath=`.
    Tty,
    /// The journal.
    Journal,
    /// The journal and the console.
    JournalAndConsole,
    /// The socket that started the service.
    Socket,
    /// The descriptor of that name from a socket unit.
    Descriptor(Identifier),
    /// A file or FIFO, written from its start.
    File(StreamPath),
    /// A file, written at its end.
    Append(StreamPath),
}

/// A word, or a word with a path or name behind a colon.
enum Stream<'a> {
    Word(&'static str),
    Path(&'static str, &'a StreamPath),
    Name(&'a Identifier),
}

impl StandardInput {
    fn stream(&self) -> Stream<'_> {
        match self {
            Self::Null => Stream::Word("null"),
            Self::Tty => Stream::Word("tty"),
            Self::TtyForce => Stream::Word("tty-force"),
            Self::Socket => Stream::Word("socket"),
            Self::Descriptor(name) => Stream::Name(name),
            Self::File(path) => Stream::Path("file:", path),
        }
    }
}

impl StandardOutput {
    fn stream(&self) -> Stream<'_> {
        match self {
            Self::Inherit => Stream::Word("inherit"),
            Self::Null => Stream::Word("null"),
            Self::Tty => Stream::Word("tty"),
            Self::Journal => Stream::Word("journal"),
            Self::JournalAndConsole => Stream::Word("journal+console"),
            Self::Socket => Stream::Word("socket"),
            Self::Descriptor(name) => Stream::Name(name),
            Self::File(path) => Stream::Path("file:", path),
            Self::Append(path) => Stream::Path("append:", path),
        }
    }
}

impl Stream<'_> {
    fn render(&self) -> String {
        match self {
            Self::Word(word) => (*word).to_owned(),
            Self::Path(prefix, path) => format!("{prefix}{}", path.render()),
            Self::Name(name) => format!("fd:{name}"),
        }
    }

    fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
        match self {
            Self::Path(prefix, path) => {
                path.meaning(instance).into_iter().map(|path| [prefix.as_bytes(), &path].concat()).collect()
            }
            Self::Word(_) | Self::Name(_) => vec![self.render().into_bytes()],
        }
    }

    fn uses_instance(&self) -> bool {
        matches!(self, Self::Path(_, path) if path.uses_instance())
    }
}

macro_rules! streams {
    ($($name:ident)*) => { $(
        impl Value for $name {
            fn render(&self) -> String {
                self.stream().render()
            }

            fn syntax(&self) -> Syntax {
                Syntax::Expanded
            }

            fn meaning(&self, instance: &str) -> Vec<Vec<u8>> {
                self.stream().meaning(instance)
            }

            fn uses_instance(&self) -> bool {
                self.stream().uses_instance()
            }
        }
    )* };
}

streams! { StandardInput StandardOutput }
