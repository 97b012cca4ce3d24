//! An interactive pod's app and its caller: on a terminal the supervisor connects them; with pipes rkt stays beside the
//! supervisor, and carries what they say through FIFOs below the pod's root.
//!
//! ```text
//! rkt/io/supervised               held open by the supervisor of a pod on a terminal: its end is the supervisor's
//! rkt/io/{stdin,stdout,stderr}    of a pod with pipes
//! ```
//!
//! All of it is made when the pod starts, since `run-prepared` decides on it too, and made anew each time.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::isatty;

use super::inside::SUPERVISED;
use super::plan::{IO_DIR, Interactive, UnitPlanError, interactive_drop_in, interactive_drop_in_dir};
use crate::appc::name::AcName;
use crate::os::process::{Child, ChildEnd};
use crate::os::pump::{self, Flow, Kind, Next};
use crate::os::signals::Signals;
use crate::os::{Hint, SysError, fifo};

/// Why an app can't be connected with the caller.
#[derive(Debug, thiserror::Error)]
pub enum InteractiveError {
    /// A value that a unit can't have.
    #[error(transparent)]
    Plan(#[from] UnitPlanError),
    /// The kernel refused a step.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl Hint for InteractiveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(_) => None,
            Self::Sys(error) => error.hint(),
        }
    }
}

/// How the caller of this process can be connected with an app.
pub fn of_caller(term: Option<String>) -> Interactive {
    if isatty(stdin()) && isatty(stdout()) { Interactive::Terminal { term } } else { Interactive::Pipes }
}

/// Removes what an earlier start that failed has left: the pod is not interactive.
///
/// # Errors
/// When something can't be removed.
pub fn clear(stage1_root: &Path, app: &AcName) -> Result<(), InteractiveError> {
    let drop_in = interactive_drop_in_dir(app).map_err(UnitPlanError::from)?;
    for path in [stage1_root.join(IO_DIR), stage1_root.join(drop_in)] {
        match std::fs::remove_dir_all(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(SysError::new("removing", &path, cause).into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes the pod interactive, whose app `app` sets the variables `own` itself.
///
/// # Errors
/// When a file can't be made.
pub fn prepare(
    stage1_root: &Path,
    app: &AcName,
    own: &[&str],
    how: &Interactive,
) -> Result<(), InteractiveError> {
    clear(stage1_root, app)?;
    let text = interactive_drop_in(app, own, how)?;
    let dir = stage1_root.join(interactive_drop_in_dir(app).map_err(UnitPlanError::from)?);
    std::fs::create_dir(&dir).map_err(SysError::on("creating", &dir))?;
    let file = dir.join("interactive.conf");
    std::fs::write(&file, text).map_err(SysError::on("writing", &file))?;
    let io = stage1_root.join(IO_DIR);
    std::fs::create_dir(&io).map_err(SysError::on("creating", &io))?;
    let names: &[&str] = match how {
        Interactive::Terminal { .. } => &[SUPERVISED],
        Interactive::Pipes => &["stdin", "stdout", "stderr"],
    };
    Ok(names.iter().try_for_each(|name| fifo::make(&io.join(name)))?)
}

/// What the supervisor of a pod on a terminal must inherit.
///
/// # Errors
/// When it can't be opened.
pub fn held_by_supervisor(stage1_root: &Path) -> Result<OwnedFd, SysError> {
    fifo::hold(&stage1_root.join(IO_DIR).join(SUPERVISED))
}

/// The caller's streams and the pod's FIFOs, open before the pod starts.
#[derive(Debug)]
pub struct Pipes {
    flows: Vec<Flow>,
    /// Keeps the app's input from ending before the app has opened it.
    hold: Option<OwnedFd>,
    opened: OwnedFd,
    signals: Signals,
}

impl Pipes {
    /// Opens them. From now on signals do nothing by themselves.
    ///
    /// # Errors
    /// When one can't be opened.
    pub fn open(stage1_root: &Path) -> Result<Self, SysError> {
        let path = |name: &str| -> PathBuf { stage1_root.join(IO_DIR).join(name) };
        let input = path("stdin");
        let hold = fifo::hold(&input)?;
        let writer = fifo::writer(&input)?;
        let opened = fifo::watch_opened(&input)?;
        let flows = vec![
            Flow::new(Kind::Input, pump::own(stdin())?, writer),
            Flow::new(Kind::Output, fifo::hold(&path("stdout"))?, pump::own(stdout())?),
            Flow::new(Kind::Output, fifo::hold(&path("stderr"))?, pump::own(stderr())?),
        ];
        Ok(Self { flows, hold: Some(hold), opened, signals: Signals::take()? })
    }

    /// Carries bytes until the supervisor has ended, and returns how; a signal to this process ends the pod in order.
    ///
    /// # Errors
    /// When the supervisor can't be waited for.
    pub fn carry(self, supervisor: &Child) -> Result<ChildEnd, SysError> {
        const OPENED: usize = 0;
        const SIGNALS: usize = 1;
        let Self { flows, mut hold, opened, signals } = self;
        pump::run(flows, &[opened.as_fd(), signals.as_fd(), supervisor.as_fd()], |event| match event {
            OPENED => {
                hold = None;
                fifo::drain_watch(&opened);
                Next::Continue
            }
            SIGNALS => {
                if signals.next().is_some_and(|signal| signal != libc::SIGWINCH) {
                    supervisor.signal(Signal::TERM);
                }
                Next::Continue
            }
            _ => Next::Finish(()),
        });
        supervisor.wait()
    }
}
