//! How a process ended: not known.

use crate::config::ExitClass;
pub(crate) use crate::config::signal_name;

/// Nothing: this system isn't asked.
pub(crate) fn of_worker(
    _pid: u32,
    _use_pidfd_info: bool,
    _crash_was_told: bool,
) -> Option<ExitClass> {
    None
}
