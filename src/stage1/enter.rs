//! Running a command beside an app, with the app's rights: a transient unit of the pod's own systemd.
//!
//! Nothing is joined from outside. The unit's rights stand in a drop-in from the pod's preparation
//! ([`super::plan::enter_drop_in`]); here come only the command, its streams, and the name of the caller's terminal. What
//! the command reads and writes are pipes and terminals made for it, never the caller's own.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::isatty;

use super::inside::diagnosis;
use super::plan::{enter_drop_in, enter_template, leash_template};
use crate::appc::name::AcName;
use crate::os::process::ProcessId;
use crate::os::pump::{self, Flow, Kind, Next};
use crate::os::signals::Signals;
use crate::os::terminal::{Pty, RawMode};
use crate::os::{Hint, SysError, peer, root::Root, wait};
use crate::systemd::private::{
    CommandEnd, PrivateBus, PrivateBusError, RunningCommand, Stream, TransientCommand,
};
use crate::systemd::unit::exec::{Argument, Exec};
use crate::systemd::unit::{Unit, ValueError};
use crate::systemd::unit_name::UnitNameError;

/// The socket of the pod's systemd, in its root.
const PRIVATE_SOCKET: &str = "/run/systemd/private";
/// systemd's own statuses (systemd.exec(5), "Process Exit Codes").
const EXIT_CHDIR: i32 = 200;
const EXIT_EXEC: i32 = 203;

/// A command for an app of a running pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The app.
    pub app: AcName,
    /// A name for its unit that no other has.
    pub id: String,
    /// Absolute path of the program in the app's root.
    pub program: String,
    /// The whole argument vector.
    pub argv: Vec<String>,
    /// The caller's `TERM`.
    pub term: Option<String>,
}

/// Why a command can't be run in a pod.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// An argument that no unit can have.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The name of the unit.
    #[error(transparent)]
    Name(#[from] UnitNameError),
    /// The pod has no units for this.
    #[error("the pod was prepared by a version of rkt that could not enter")]
    NotPrepared,
    /// The pod's init is gone.
    #[error("the pod has ended")]
    Ended,
    /// The program can't be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// systemd could not make the surroundings of the command.
    #[error("the pod's systemd could not start the command (status {0})")]
    NotStarted(i32),
    /// The pod's systemd.
    #[error(transparent)]
    Bus(#[from] PrivateBusError),
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for EnterError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotPrepared => Some("start it again: new pods can be entered".into()),
            Self::NotExecutable(_) => Some("give a command that the image has, such as /bin/sh".into()),
            Self::NotStarted(_) => {
                Some("systemd.exec(5) has the meaning of the status under \"Process Exit Codes\"".into())
            }
            Self::Sys(error) => error.hint(),
            Self::Value(_) | Self::Name(_) | Self::Ended | Self::Bus(_) => None,
        }
    }
}

/// A running pod that can be entered.
#[derive(Debug)]
pub struct Entrance {
    root: Root,
    /// The PID namespace of the pod.
    processes: OwnedFd,
    leader: ProcessId,
}

impl Entrance {
    /// Opens the root of the pod whose init is `leader`.
    ///
    /// # Errors
    /// When that has ended.
    pub fn open(leader: ProcessId) -> Result<Self, EnterError> {
        let proc = Path::new("/proc").join(leader.pid().to_string());
        let root = Root::open(&proc.join("root"));
        let namespace = proc.join("ns/pid");
        let processes = rustix::fs::open(&namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(SysError::on("opening", &namespace));
        // The number may be another process's by now; if it is not, these are the right ones.
        if !leader.is_alive() {
            return Err(EnterError::Ended);
        }
        Ok(Self { root: root?, processes: processes?, leader })
    }

    /// The root of `app`, as the pod's systemd sees it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn app_root(&self, app: &AcName) -> Result<Root, SysError> {
        let path = format!("opt/stage2/{app}/rootfs");
        Ok(Root::from_fd(self.root.open_dir(Path::new(&path))?, Path::new("/")))
    }

    /// Runs `command` with the caller's standard streams, and returns its status; a signal counts as 128 and its number.
    ///
    /// # Errors
    /// When it can't be run, or the pod ends first.
    pub fn run(&self, command: &Command) -> Result<u8, EnterError> {
        // Everything is checked by the types of the unit writer, though nothing is written.
        let argv = command.argv.iter().map(Argument::new).collect::<Result<Vec<_>, _>>()?;
        Exec::with_argv(&command.program, argv)?;
        let drop_in = enter_drop_in(&command.app)?;
        if !self.has_drop_in(&drop_in)? {
            return Err(EnterError::NotPrepared);
        }
        let bus = PrivateBus::new(self.connect()?)?;
        let leash = Pty::open_in(&self.root)?;
        let session = Session::new(&self.root)?;
        let transient = TransientCommand {
            unit: enter_template(&command.app)?.with_instance(&command.id)?,
            description: format!("command in {}", command.app),
            bound_to: leash_template()?.with_instance(&leash.number().to_string())?,
            program: command.program.clone(),
            argv: command.argv.clone(),
            environment: command.term.iter().map(|term| ("TERM".to_owned(), term.clone())).collect(),
            unset: if command.term.is_some() { Vec::new() } else { vec!["TERM".to_owned()] },
            terminal: session.terminal.as_ref().map(|pty| format!("/dev/pts/{}", pty.number())),
            streams: session.streams,
        };
        let signals = Signals::take()?;
        // While one end for programs is open, the terminal has not hung up; before the command has opened it, none is.
        let _program_end = session.terminal.as_ref().map(Pty::program_end).transpose()?;
        let _raw = session.terminal.as_ref().map(|_| RawMode::enter(stdin())).transpose()?;
        let running = bus.start(&transient)?;
        drop(transient);
        match carry(running, session.flows, &signals, session.terminal.as_ref()) {
            Outcome::Ended(end) => self.status(command, end?),
            Outcome::GivenUp(signal) => Ok(code_of_signal(signal)),
        }
    }

    /// Tells whether the rights of an entered command are there. Without them it would have all.
    fn has_drop_in(&self, path: &str) -> Result<bool, EnterError> {
        let text = match self.root.read_file(Path::new(path), 1 << 20) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let text = String::from_utf8(text).unwrap_or_default();
        Ok(Unit::parse_back(&text).is_ok_and(|sections| {
            sections.iter().any(|section| section.settings.iter().any(|(key, _)| key == "RootDirectory"))
        }))
    }

    /// Connects to the pod's systemd, which a pod that is just starting may not have yet.
    fn connect(&self) -> Result<UnixStream, EnterError> {
        const STEP: Duration = Duration::from_millis(10);
        loop {
            if let Ok(socket) = self.root.open_with(Path::new(PRIVATE_SOCKET), OFlags::PATH | OFlags::CLOEXEC)
                && let Ok(stream) = peer::connect_within(&self.processes, &by_descriptor(&socket))
            {
                return Ok(stream);
            }
            if !self.leader.is_alive() {
                return Err(EnterError::Ended);
            }
            wait::pause(STEP);
        }
    }

    fn status(&self, command: &Command, end: CommandEnd) -> Result<u8, EnterError> {
        match end {
            CommandEnd::Exited(status) => Ok(u8::try_from(status).unwrap_or(u8::MAX)),
            CommandEnd::Killed(signal) => Ok(code_of_signal(signal)),
            CommandEnd::NotStarted(EXIT_EXEC) => {
                match diagnosis(&self.app_root(&command.app)?, &command.program) {
                    Some(text) => Err(EnterError::NotExecutable(text)),
                    // It could be executed: the status is its own.
                    None => self.status(command, CommandEnd::Exited(EXIT_EXEC)),
                }
            }
            CommandEnd::NotStarted(EXIT_CHDIR) => {
                Err(EnterError::NotExecutable("Unable to change to the app's working directory".into()))
            }
            CommandEnd::NotStarted(status) => Err(EnterError::NotStarted(status)),
        }
    }
}

fn by_descriptor(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn code_of_signal(signal: i32) -> u8 {
    const BY_SIGNAL: i32 = 128;
    u8::try_from(BY_SIGNAL + signal).unwrap_or(u8::MAX)
}

/// What a command reads and writes, and what carries it to and from the caller.
struct Session {
    terminal: Option<Pty>,
    streams: [Stream; 3],
    flows: Vec<Flow>,
}

impl Session {
    /// On a terminal, one of the pod's own; else pipes, which stay apart.
    fn new(root: &Root) -> Result<Self, SysError> {
        if !(isatty(stdin()) && isatty(stdout())) {
            let (in_, out, err) = (input()?, output(stdout())?, output(stderr())?);
            let (streams, flows) = ([in_.0, out.0, err.0], vec![in_.1, out.1, err.1]);
            return Ok(Self { terminal: None, streams, flows });
        }
        let pty = Pty::open_in(root)?;
        pty.take_size_of(stdin());
        let (to, from) = (pty.emulator()?, pty.emulator()?);
        pump::never_block(&to)?;
        let mut flows = vec![
            Flow::new(Kind::Input, pump::own(stdin())?, to),
            Flow::new(Kind::Output, from, pump::own(stdout())?),
        ];
        let error = if isatty(stderr()) {
            Stream::Terminal
        } else {
            let (stream, flow) = output(stderr())?;
            flows.push(flow);
            stream
        };
        Ok(Self { terminal: Some(pty), streams: [Stream::Terminal, Stream::Terminal, error], flows })
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), SysError> {
    let (read, write) = std::io::pipe().map_err(SysError::on("making", "a pipe"))?;
    // A command of another user may open it again, as /dev/stdout.
    rustix::fs::fchmod(&write, Mode::from_raw_mode(0o666))
        .map_err(SysError::on("changing the mode of", "a pipe"))?;
    Ok((read.into(), write.into()))
}

fn input() -> Result<(Stream, Flow), SysError> {
    let (theirs, ours) = pipe()?;
    pump::never_block(&ours)?;
    Ok((Stream::Descriptor(theirs), Flow::new(Kind::Input, pump::own(stdin())?, ours)))
}

fn output(to: impl AsFd) -> Result<(Stream, Flow), SysError> {
    let (ours, theirs) = pipe()?;
    pump::never_block(&ours)?;
    Ok((Stream::Descriptor(theirs), Flow::new(Kind::Output, ours, pump::own(to)?)))
}

/// How the wait for a command ended.
enum Outcome {
    Ended(Result<CommandEnd, PrivateBusError>),
    GivenUp(i32),
}

/// Carries bytes and signals until the command has ended, or the caller does not want to wait any more.
fn carry(running: RunningCommand, flows: Vec<Flow>, signals: &Signals, terminal: Option<&Pty>) -> Outcome {
    const SIGNALS: usize = 0;
    let running = RefCell::new(running);
    let mut asked = false;
    let mut on_signal = |signal: i32| match (signal, terminal) {
        (libc::SIGWINCH, Some(pty)) => {
            pty.take_size_of(stdin());
            Next::Continue
        }
        (libc::SIGWINCH, None) => Next::Continue,
        // The keys of a terminal go to the command as they are; a signal is meant for this process.
        (_, Some(_)) | (libc::SIGHUP, None) => Next::GiveUp(Outcome::GivenUp(signal)),
        (_, None) if std::mem::replace(&mut asked, true) => Next::GiveUp(Outcome::GivenUp(signal)),
        (_, None) => {
            running.borrow_mut().signal(signal);
            Next::Continue
        }
    };
    let bus = match running.borrow().as_fd().try_clone_to_owned() {
        Ok(bus) => bus,
        Err(_) => return Outcome::Ended(Err(PrivateBusError::Gone)),
    };
    pump::run(flows, &[signals.as_fd(), bus.as_fd()], |event| match event {
        SIGNALS => signals.next().map_or(Next::Continue, &mut on_signal),
        _ => match running.borrow_mut().take_in() {
            Ok(None) => Next::Continue,
            Ok(Some(end)) => Next::Finish(Outcome::Ended(Ok(end))),
            Err(error) => Next::Finish(Outcome::Ended(Err(error))),
        },
    })
}
