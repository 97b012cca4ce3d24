//! The private bus of a systemd that is not the host's: the pod's own process 1, asked to run a command.
//!
//! It is a socket of systemd's to which root may talk without a bus daemon, so that nothing is started in the pod but the
//! command. All signals come to it unasked. The protocol is that of D-Bus ("Message Format" of its specification), but
//! systemd calls itself by a name there that only a bus may give, which zbus refuses: so messages are made and their
//! values read by zbus, and their frames read here.

use std::collections::HashMap;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{Endian, Fd, OwnedVariant, Variant};
use zbus::{Message, OwnedObjectPath};

use super::unit_name::UnitName;
use crate::os::{Hint, cause_text};

/// How long systemd may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);
/// What systemd says in the place of a program that it could not execute (systemd.exec(5), "Process Exit Codes").
const OWN_STATUSES: std::ops::RangeInclusive<i32> = 200..=243;
/// The interface of systemd itself.
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The longest message that D-Bus allows.
const MESSAGE_MAX: usize = 128 << 20;

/// What a command reads and writes.
#[derive(Debug)]
pub enum Stream {
    /// The terminal of the command.
    Terminal,
    /// An open file.
    Descriptor(OwnedFd),
}

/// A command for a unit of which everything else stands in a drop-in already.
#[derive(Debug)]
pub struct TransientCommand {
    /// Its unit.
    pub unit: UnitName,
    /// What `systemctl status` shows.
    pub description: String,
    /// A unit whose end is the command's.
    pub bound_to: UnitName,
    /// Absolute path of the program.
    pub program: String,
    /// The whole argument vector, nothing of which is interpreted.
    pub argv: Vec<String>,
    /// Variables beside those of the drop-in, which win.
    pub environment: Vec<(String, String)>,
    /// Variables that it must not have.
    pub unset: Vec<String>,
    /// The path of its terminal, if it has one.
    pub terminal: Option<String>,
    /// Standard input, output and error.
    pub streams: [Stream; 3],
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEnd {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It was not executed; the status is systemd's (systemd.exec(5), "Process Exit Codes").
    NotStarted(i32),
}

/// Why a command was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum PrivateBusError {
    /// The socket does not answer.
    #[error("the pod's systemd does not answer: {0}")]
    Connect(String),
    /// What it says is no message.
    #[error("the pod's systemd answers with something else than a message")]
    Protocol,
    /// systemd refused.
    #[error("the pod's systemd did not start the command: {0}")]
    Start(String),
    /// systemd ended first.
    #[error("the pod ended while the command ran")]
    Gone,
}

impl Hint for PrivateBusError {}

/// A connection to a systemd by its private socket.
#[derive(Debug)]
pub struct PrivateBus {
    stream: UnixStream,
    /// What has come of messages that are not whole yet.
    received: Vec<u8>,
}

impl AsFd for PrivateBus {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl PrivateBus {
    /// Takes over the connected socket `stream`.
    ///
    /// # Errors
    /// When the other side is no systemd that listens to this user.
    pub fn new(stream: UnixStream) -> Result<Self, PrivateBusError> {
        let refused = |cause: std::io::Error| PrivateBusError::Connect(cause_text(&cause));
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(refused)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(refused)?;
        let mut bus = Self { stream, received: Vec::new() };
        bus.authenticate().map_err(refused)?;
        Ok(bus)
    }

    /// The handshake: who connects is told by the kernel; descriptors may be sent.
    ///
    /// It goes out whole, so that systemd has read its end when it answers. A message that came together with that end
    /// would lie there unread, and descriptors would make systemd hang up.
    fn authenticate(&mut self) -> std::io::Result<()> {
        let user: String = rustix::process::geteuid()
            .as_raw()
            .to_string()
            .bytes()
            .map(|digit| format!("{digit:02x}"))
            .collect();
        let words = format!("\0AUTH EXTERNAL {user}\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
        self.stream.write_all(words.as_bytes())?;
        for expected in ["OK ", "AGREE_UNIX_FD"] {
            let line = self.line()?;
            if !line.starts_with(expected) {
                return Err(std::io::Error::other(format!("the handshake was answered with {line:?}")));
            }
        }
        Ok(())
    }

    /// A line of the handshake, of which nothing may be read too much.
    fn line(&mut self) -> std::io::Result<String> {
        const LONGEST: usize = 1024;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < LONGEST {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Asks for `command`; what comes of it is told by [`RunningCommand::take_in`].
    ///
    /// # Errors
    /// When the request can't be sent.
    pub fn start(mut self, command: &TransientCommand) -> Result<RunningCommand, PrivateBusError> {
        let auxiliary: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let request = self.call(
            MANAGER,
            "StartTransientUnit",
            &(command.unit.as_str(), "fail", properties(command), auxiliary),
        )?;
        Ok(RunningCommand {
            bus: self,
            path: unit_path(&command.unit),
            unit: command.unit.clone(),
            request,
            end: None,
            is_inactive: false,
            start: None,
        })
    }

    /// Sends a call to systemd, and returns its number.
    fn call<B>(&mut self, interface: &str, method: &str, body: &B) -> Result<u32, PrivateBusError>
    where
        B: serde::Serialize + zbus::wire::DynamicType,
    {
        let refused = |reason: String| PrivateBusError::Start(reason);
        let message = Message::method_call("/org/freedesktop/systemd1", method)
            .destination("org.freedesktop.systemd1")
            .interface(interface)
            .build(body)
            .map_err(|cause| refused(cause.to_string()))?;
        self.send(&message).map_err(|cause| refused(cause_text(&cause)))?;
        Ok(message.primary_header().serial_num().get())
    }

    fn send(&mut self, message: &Message) -> std::io::Result<()> {
        const MOST: usize = 8;
        let data = message.data();
        let fds: Vec<BorrowedFd<'_>> = data.fds().iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let slices = [IoSlice::new(data.bytes())];
        let sent = sendmsg(&self.stream, &slices, &mut ancillary, SendFlags::NOSIGNAL)?;
        self.stream.write_all(&data.bytes()[sent..])
    }

    /// Reads what there is, which must be something, and returns the messages that are whole now.
    fn receive(&mut self) -> Result<Vec<Received>, PrivateBusError> {
        let mut chunk = [0; 16 * 1024];
        let length = self.stream.read(&mut chunk).unwrap_or(0);
        if length == 0 {
            return Err(PrivateBusError::Gone);
        }
        self.received.extend_from_slice(&chunk[..length]);
        let mut messages = Vec::new();
        while let Some(length) = Received::length(&self.received)? {
            if self.received.len() < length {
                break;
            }
            let rest = self.received.split_off(length);
            let whole = std::mem::replace(&mut self.received, rest);
            messages.push(Received::parse(whole).ok_or(PrivateBusError::Protocol)?);
        }
        Ok(messages)
    }
}

/// A message as far as it matters here.
struct Received {
    kind: u8,
    /// By the numbers of the specification, "Header Fields".
    fields: HashMap<u8, OwnedVariant>,
    body: Data<'static, 'static>,
}

impl Received {
    const ERROR: u8 = 3;
    const SIGNAL: u8 = 4;
    const PATH: u8 = 1;
    const MEMBER: u8 = 3;
    const ERROR_NAME: u8 = 4;
    const REPLY_SERIAL: u8 = 5;
    /// Where the length of the header's fields is, behind four bytes, the body's length and the number.
    const FIELDS_AT: usize = 12;

    /// How long the message is whose beginning `bytes` is; `None` when that is not told yet.
    fn length(bytes: &[u8]) -> Result<Option<usize>, PrivateBusError> {
        let Some(start) = bytes.get(..Self::FIELDS_AT + 4) else { return Ok(None) };
        let number = |at: usize| {
            let four = start.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(four) as usize)
        };
        let (body, fields) = number(4).zip(number(Self::FIELDS_AT)).ok_or(PrivateBusError::Protocol)?;
        let length = Self::body_at(fields).checked_add(body);
        match (start.first(), length) {
            // systemd speaks in the byte order of the machine, and all that it runs on have this one.
            (Some(b'l'), Some(length)) if length <= MESSAGE_MAX => Ok(Some(length)),
            _ => Err(PrivateBusError::Protocol),
        }
    }

    fn body_at(fields: usize) -> usize {
        (Self::FIELDS_AT + 4 + fields).next_multiple_of(8)
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        type Header = (u8, u8, u8, u8, u32, u32, Vec<(u8, OwnedVariant)>);
        let length = u32::from_le_bytes(bytes.get(Self::FIELDS_AT..)?.first_chunk().copied()?);
        let body = bytes.get(Self::body_at(length as usize)..)?.to_vec();
        let context = Context::new(Endian::Little, 0);
        let (header, _) = Data::new(bytes, context).deserialize::<Header>().ok()?;
        let fields = header.6.into_iter().collect();
        Some(Self { kind: header.1, fields, body: Data::new(body, context) })
    }

    fn text(&self, field: u8) -> &str {
        match self.fields.get(&field).map(|value| &**value) {
            Some(Variant::Str(text)) => text.as_str(),
            Some(Variant::ObjectPath(path)) => path.as_str(),
            _ => "",
        }
    }

    fn answers(&self, request: u32) -> bool {
        matches!(self.fields.get(&Self::REPLY_SERIAL).map(|value| &**value), Some(Variant::U32(number)) if *number == request)
    }
}

/// A command that systemd was asked for.
#[derive(Debug)]
pub struct RunningCommand {
    bus: PrivateBus,
    unit: UnitName,
    path: String,
    /// The number of the call that asks for it.
    request: u32,
    end: Option<CommandEnd>,
    /// Whether it has no processes, by what was said last; so it is before its start too.
    is_inactive: bool,
    /// How its start went.
    start: Option<Start>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Done,
    Failed,
}

impl AsFd for RunningCommand {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bus.as_fd()
    }
}

impl RunningCommand {
    /// Takes in what systemd says, which must be something; returns how the command ended, once it has.
    ///
    /// # Errors
    /// When systemd refuses the command or ends first.
    pub fn take_in(&mut self) -> Result<Option<CommandEnd>, PrivateBusError> {
        for message in self.bus.receive()? {
            match message.kind {
                Received::ERROR if message.answers(self.request) => {
                    let text = message.body.deserialize::<String>().map(|(text, _)| text);
                    let name = message.text(Received::ERROR_NAME).to_owned();
                    return Err(PrivateBusError::Start(text.unwrap_or(name)));
                }
                Received::SIGNAL => {
                    if let Some(end) = self.hear(&message) {
                        return end.map(Some);
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Sends a signal to the command: one that keys make to all of its processes, as a terminal does.
    pub fn signal(&mut self, signal: i32) {
        let whom = if matches!(signal, libc::SIGINT | libc::SIGQUIT) { "all" } else { "main" };
        // It may have ended meanwhile.
        let _ = self.bus.call(MANAGER, "KillUnit", &(self.unit.as_str(), whom, signal));
    }

    /// Returns the end when the unit has come to it.
    fn hear(&mut self, message: &Received) -> Option<Result<CommandEnd, PrivateBusError>> {
        match message.text(Received::MEMBER) {
            "PropertiesChanged" if message.text(Received::PATH) == self.path => {
                type Body = (String, HashMap<String, OwnedVariant>, Vec<String>);
                let ((_, changed, _), _) = message.body.deserialize::<Body>().ok()?;
                self.end = end(&changed).or(self.end);
                if let Some(Variant::Str(state)) = changed.get("ActiveState").map(|value| &**value) {
                    self.is_inactive = matches!(state.as_str(), "inactive" | "failed");
                }
                self.end_if_over()
            }
            "JobRemoved" => {
                let ((_, _, unit, result), _) =
                    message.body.deserialize::<(u32, OwnedObjectPath, String, String)>().ok()?;
                match result.as_str() {
                    _ if unit != self.unit.as_str() => None,
                    "done" | "failed" | "canceled" => {
                        let start = if result == "failed" { Start::Failed } else { Start::Done };
                        self.start.get_or_insert(start);
                        self.end_if_over()
                    }
                    _ => Some(self.ended(&format!("its job ended with {result:?}"))),
                }
            }
            "UnitRemoved" => {
                let ((unit, _), _) = message.body.deserialize::<(String, OwnedObjectPath)>().ok()?;
                (unit == self.unit.as_str()).then(|| self.ended("it ended without a status"))
            }
            _ => None,
        }
    }

    fn end_if_over(&self) -> Option<Result<CommandEnd, PrivateBusError>> {
        (self.is_inactive && self.start.is_some()).then(|| self.ended("it ended without a status"))
    }

    fn ended(&self, otherwise: &str) -> Result<CommandEnd, PrivateBusError> {
        match self.end {
            // A command of a moment may have ended before systemd has seen that it was executed.
            Some(CommandEnd::Exited(status))
                if self.start == Some(Start::Failed) && OWN_STATUSES.contains(&status) =>
            {
                Ok(CommandEnd::NotStarted(status))
            }
            Some(end) => Ok(end),
            None => Err(PrivateBusError::Start(otherwise.to_owned())),
        }
    }
}

fn properties(command: &TransientCommand) -> Vec<(&str, Variant<'_>)> {
    // The flag keeps systemd from replacing `$NAME` in the arguments.
    let exec = (command.program.as_str(), command.argv.clone(), vec!["no-env-expand"]);
    let environment: Vec<String> =
        command.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut properties: Vec<(&str, Variant<'_>)> = vec![
        ("Description", command.description.as_str().into()),
        ("DefaultDependencies", false.into()),
        // An instance would get a slice of its own.
        ("Slice", "system.slice".into()),
        ("BindsTo", vec![command.bound_to.as_ref()].into()),
        ("After", vec![command.bound_to.as_ref()].into()),
        ("ExecStartEx", vec![exec].into()),
        ("Environment", environment.into()),
        ("UnsetEnvironment", command.unset.clone().into()),
    ];
    if let Some(path) = &command.terminal {
        properties.push(("TTYPath", path.as_str().into()));
    }
    const KEYS: [(&str, &str); 3] = [
        ("StandardInput", "StandardInputFileDescriptor"),
        ("StandardOutput", "StandardOutputFileDescriptor"),
        ("StandardError", "StandardErrorFileDescriptor"),
    ];
    for ((word, descriptor), stream) in KEYS.into_iter().zip(&command.streams) {
        properties.push(match stream {
            Stream::Terminal => (word, "tty".into()),
            Stream::Descriptor(fd) => (descriptor, Fd::from(fd.as_fd()).into()),
        });
    }
    properties
}

/// Reads how the main process ended (waitid(2), `si_code` and `si_status`).
fn end(changed: &HashMap<String, OwnedVariant>) -> Option<CommandEnd> {
    let number = |key: &str| match changed.get(key).map(|value| &**value) {
        Some(Variant::I32(number)) => Some(*number),
        _ => None,
    };
    match (number("ExecMainCode")?, number("ExecMainStatus")?) {
        (libc::CLD_EXITED, status) => Some(CommandEnd::Exited(status)),
        (libc::CLD_KILLED | libc::CLD_DUMPED, signal) => Some(CommandEnd::Killed(signal)),
        _ => None,
    }
}

/// The object of a unit: its name with everything but letters and digits as `_XX` (org.freedesktop.systemd1(5)).
fn unit_path(unit: &UnitName) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (index, byte) in unit.as_str().bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => path.push(char::from(byte)),
            b'0'..=b'9' if index > 0 => path.push(char::from(byte)),
            _ => path.push_str(&format!("_{byte:02x}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_of_a_unit_is_named_as_systemd_does_it() {
        for (unit, expected) in
            [("rkt-enter-web@1.service", "rkt_2denter_2dweb_401_2eservice"), ("1.service", "_31_2eservice")]
        {
            let unit: UnitName = unit.parse().unwrap();
            assert_eq!(unit_path(&unit), format!("/org/freedesktop/systemd1/unit/{expected}"));
        }
    }
}
