//! Moving bytes between descriptors that other processes hold too.
//!
//! The caller's standard streams are never handed to a program that is not trusted: it could open a file behind them
//! again with more rights, or walk the host from a directory. It gets pipes of its own, and this carries what they say.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::SysError;

/// What is read at once. A pipe that poll(2) calls writable takes as much without blocking ([`PIPE_BUF`]).
const CHUNK: usize = 4096;
const _: () = assert!(CHUNK <= libc::PIPE_BUF);

/// One direction.
#[derive(Debug)]
pub struct Flow {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    kind: Kind,
    buffer: Vec<u8>,
}

/// On which side of a flow the caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The caller's input: it is given up when the other side has ended.
    Input,
    /// The caller's output: what the other side has said is carried to its last byte.
    Output,
}

impl Flow {
    /// Carries what comes from `from` to `to`, then closes both.
    pub fn new(kind: Kind, from: OwnedFd, to: OwnedFd) -> Self {
        Self { from: Some(from), to: Some(to), kind, buffer: Vec::new() }
    }

    fn is_over(&self) -> bool {
        self.to.is_none()
    }

    /// What it waits for.
    fn wanted(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let to = self.to.as_ref()?;
        match &self.from {
            _ if !self.buffer.is_empty() => Some((to.as_fd(), PollFlags::OUT)),
            Some(from) => Some((from.as_fd(), PollFlags::IN)),
            None => None,
        }
    }

    /// Takes the step that poll(2) said is possible.
    fn step(&mut self) {
        if self.buffer.is_empty() { self.read() } else { self.write() }
    }

    fn read(&mut self) {
        let Some(from) = &self.from else { return };
        let mut chunk = [0; CHUNK];
        match rustix::io::read(from, &mut chunk) {
            Ok(length) if length > 0 => self.buffer.extend_from_slice(&chunk[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The end; of a terminal it is EIO.
            Ok(_) | Err(_) => self.close(),
        }
    }

    fn write(&mut self) {
        let Some(to) = &self.to else { return };
        match rustix::io::write(to, &self.buffer) {
            Ok(length) => {
                self.buffer.drain(..length);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads it any more: the other side is to notice that too.
            Err(_) => self.close(),
        }
    }

    fn close(&mut self) {
        (self.from, self.to) = (None, None);
        self.buffer.clear();
    }

    /// Carries what is there already; `from` must not block.
    fn drain(&mut self) {
        while !self.is_over() {
            if self.buffer.is_empty() {
                self.read();
                if self.buffer.is_empty() {
                    return self.close();
                }
            }
            if let Some((fd, flags)) = self.wanted()
                && flags == PollFlags::OUT
            {
                super::wait::ready(fd, flags, None);
                self.write();
            }
        }
    }
}

/// Makes reads and writes of a descriptor that nobody else uses return at once.
///
/// # Errors
/// When the kernel refuses.
pub fn never_block(fd: impl AsFd) -> Result<(), SysError> {
    let set =
        rustix::fs::fcntl_getfl(&fd).and_then(|flags| rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK));
    set.map_err(SysError::on("changing the mode of", "a pipe"))
}

/// A second descriptor of one of the caller's streams.
///
/// # Errors
/// When the process has too many.
pub fn own(stream: impl AsFd) -> Result<OwnedFd, SysError> {
    stream.as_fd().try_clone_to_owned().map_err(SysError::on("duplicating", "a standard stream"))
}

/// What becomes of the work after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<T> {
    /// It goes on.
    Continue,
    /// The other side has ended: what the outputs still hold is carried, and that is all.
    Finish(T),
    /// It ends at once.
    GiveUp(T),
}

/// Carries all `flows`, and calls `happened` with the index of each of `events` that can be read, until that ends the work.
pub fn run<T>(
    mut flows: Vec<Flow>,
    events: &[BorrowedFd<'_>],
    mut happened: impl FnMut(usize) -> Next<T>,
) -> T {
    loop {
        let (readable, ready) = wait(&flows, events);
        for (flow, ready) in flows.iter_mut().zip(ready) {
            if ready {
                flow.step();
            }
        }
        for event in readable {
            match happened(event) {
                Next::Continue => {}
                Next::GiveUp(value) => return value,
                Next::Finish(value) => {
                    flows.iter_mut().filter(|flow| flow.kind == Kind::Output).for_each(Flow::drain);
                    return value;
                }
            }
        }
    }
}

/// Waits for the first event: which of `events` can be read, which flows can take a step.
fn wait(flows: &[Flow], events: &[BorrowedFd<'_>]) -> (Vec<usize>, Vec<bool>) {
    let wanted: Vec<_> = flows.iter().map(Flow::wanted).collect();
    let mut polled: Vec<PollFd<'_>> =
        events.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    polled.extend(wanted.iter().flatten().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
    if poll(&mut polled, None).is_err() {
        return (Vec::new(), vec![false; flows.len()]);
    }
    let (events, mut polled) = {
        let (first, rest) = polled.split_at(events.len());
        (first, rest.iter())
    };
    let has_come = |fd: &PollFd<'_>| !fd.revents().is_empty();
    let readable = events.iter().enumerate().filter(|(_, fd)| has_come(fd)).map(|(index, _)| index).collect();
    let ready = wanted.iter().map(|wanted| wanted.is_some() && polled.next().is_some_and(has_come)).collect();
    (readable, ready)
}
