//! What a port and the rest of the crate say to each other: values without a system call, the same on every system.

/// What a process was started with and in.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// The program's path; empty when it can't be found out.
    pub(crate) program: Vec<u8>,
    /// Arguments, the program's own name first.
    pub(crate) arguments: Vec<Vec<u8>>,
    /// Environment, `NAME=value` each.
    pub(crate) environment: Vec<Vec<u8>>,
    /// The working directory; empty when it was removed.
    pub(crate) directory: Vec<u8>,
    pub(crate) umask: u32,
    pub(crate) signal_mask: u64,
    pub(crate) ignored_signals: u64,
    /// The effective user.
    pub(crate) user: u32,
    /// The seccomp mode: 0 is none.
    pub(crate) seccomp: u32,
    /// Resource, soft, hard.
    pub(crate) rlimits: Vec<(i32, u64, u64)>,
}

/// What is to be sent, and for how long at most.
pub(crate) struct Post<'a> {
    pub(crate) url: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) user_agent: &'a str,
    pub(crate) timeout_ms: u64,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The server answered; the body is cut at the limit.
    Response {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: Vec<u8>,
        /// `Retry-After` in seconds, where it was a number.
        retry_after_s: Option<u64>,
    },
    /// There was no answer; the reason is for a person.
    Failed(String),
    /// This system has nothing to send with.
    NoBackEnd,
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// The next worker runs.
    Yes,
    /// Another starter was chosen.
    Lost,
    /// The worker before it was not gone in time.
    Late,
    /// The exec failed with this error.
    Failed(i32),
    /// It is still under way at the deadline.
    NotYet,
}

/// When a starter starts.
#[derive(Clone, Copy)]
pub(crate) struct When {
    /// How long after the full exit.
    pub(crate) delay_ms: u64,
    /// Whether a crash waits, so that the start holds only if the worker doesn't survive it.
    pub(crate) at_crash: bool,
}

/// What ended a guard's sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A crash waits in the slot.
    Crash,
    /// The worker is gone, by the pidfd.
    Gone,
    /// The worker's process runs another program.
    Replaced,
    /// The worker survived the crash that was answered.
    Survived,
    /// This guard was asked to stop.
    Stop,
    /// The deadline passed.
    Nothing,
}
