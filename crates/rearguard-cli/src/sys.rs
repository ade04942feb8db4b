//! What the tool asks the operating system beyond std: the end of a process that isn't its child.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process, held by a pidfd: its number may be reused, this can't be.
#[derive(Debug)]
pub(crate) struct Watched {
    /// `None` when it was gone already.
    descriptor: Option<OwnedFd>,
}

impl Watched {
    /// Takes hold of a process.
    pub(crate) fn new(pid: u32) -> Result<Watched, String> {
        let problem = |error: &dyn std::fmt::Display| format!("process {pid}: {error}");
        let raw = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| problem(&"no such number"))?;
        match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(descriptor) => Ok(Watched { descriptor: Some(descriptor) }),
            Err(Errno::SRCH) => Ok(Watched { descriptor: None }),
            Err(error) => Err(problem(&error)),
        }
    }

    /// Waits for its end; whether it came.
    pub(crate) fn ends_within(&self, wait: Duration) -> Result<bool, String> {
        let Some(descriptor) = &self.descriptor else { return Ok(true) };
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|error| error.to_string())?;
            let mut watched = [PollFd::new(descriptor, PollFlags::IN)];
            match poll(&mut watched, Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(format!("pidfd: {error}")),
            }
        }
    }
}
