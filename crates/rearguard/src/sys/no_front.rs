//! Guard-first, for the ports that don't have it: there is never a front, and every question about one has the answer of a process that is none.

use super::attach::Stream;
use super::words::Surroundings;
use crate::error::Error;

/// Whether this system has guard-first.
pub(crate) const IS_BUILT: bool = false;

/// What connects a worker with the process in front of it; on this system there is no such value.
pub(crate) enum Front {}

impl Front {
    /// No descriptor is one.
    pub(crate) fn of_number(_number: u64) -> Option<Front> {
        None
    }
}

/// Refuses.
pub(crate) fn begin(_surroundings: &Surroundings) -> Error {
    Error::refused(
        "starting the application below its guard",
        "",
        "it is not built for this system",
    )
}

/// Refuses.
pub(crate) fn stand(_worker: u32) -> Result<u64, &'static str> {
    Err("guard-first is not built for this system")
}

/// Whether this process is one that stands in front of its worker.
pub(crate) fn is_front() -> bool {
    false
}

/// Whether the worker has a process in front of it.
pub(crate) fn is_there() -> bool {
    false
}

/// Nobody is to be told.
pub(crate) fn nothing_follows() {}

/// Nobody asks a process that isn't in front.
pub(crate) fn stop_was_asked() -> bool {
    false
}

/// As above.
pub(crate) fn take_stop() -> Option<i32> {
    None
}

/// No stream is kept for a next worker.
pub(crate) fn own_streams() -> [Option<Stream>; 3] {
    [None, None, None]
}

/// Ends this process: there is no worker whose end could be awaited.
pub(crate) fn end_with_worker() -> ! {
    super::process::exit(crate::role::EXIT_GUARD_NOT_NEEDED)
}

/// Nothing is divided.
pub(crate) fn split(_next: Option<(u32, Front)>) {}

/// What a front alone needs; named here, so that the compiler goes on to find what nobody uses in any port.
const _: () = {
    let _ = (crate::limits::STOP_MEMORY_MS, crate::role::front_argument);
};
