//! How a process ended: not known.

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(dead_code, reason = "the guard has an arm for each, and nothing here tells one")]
pub(crate) enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
}

/// Nothing: this system isn't asked.
pub(crate) fn of_worker(_pid: u32, _use_pidfd_info: bool) -> Option<Ended> {
    None
}
