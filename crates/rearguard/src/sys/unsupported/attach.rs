//! The guard's side of the channel: nothing is inherited, so nobody attaches.

use std::convert::Infallible;

use rearguard_crashpath::black_box::BlackBox;

use crate::config::StartBlock;
use crate::launch::LaunchRecord;
use crate::sys::words::Heard;

/// What a guard works with; on this system there is no such value.
pub(crate) struct Attached {
    pub(crate) black_box: &'static BlackBox,
    pub(crate) record: LaunchRecord,
    never: Infallible,
}

/// No crash is answered.
pub(crate) const CAN_SURVIVE: bool = false;

/// A standard stream of the worker's, taken by its guard; on this system there is no such value.
pub(crate) enum Stream {}

/// Refuses: a process with the guard argument ends here, as it would with any other argument that can't be used.
pub(crate) fn attach(_nonce: u64) -> Result<Attached, &'static str> {
    Err(super::REASON)
}

/// False: a guard that could be asked doesn't run.
pub(crate) fn stop_requested() -> bool {
    false
}

/// Changes nothing: a process that can't attach has ended before.
pub(crate) fn become_guard(_application: &str, _black_box: &'static BlackBox) {}

/// False: a worker without a keeper has no place to take.
pub(crate) fn take_place(_black_box: &'static BlackBox) -> bool {
    false
}

/// False, as for [`take_place`].
pub(crate) fn take_place_again(_black_box: &BlackBox) -> bool {
    false
}

/// Answers nobody: no crash waits where no crash handler is installed.
pub(crate) fn answer_crash(_black_box: &BlackBox, _dumped: bool) {}

/// Sleeps until something happens.
pub(crate) fn watch(attached: &Attached) -> Heard {
    match attached.never {}
}

/// Waits for the full exit after the answer.
pub(crate) fn await_end(attached: &Attached, _survived_before: u32, _deadline_ns: u64) -> Heard {
    match attached.never {}
}

/// None of the worker's streams can be taken.
pub(crate) fn take_streams(_attached: &Attached, _tid: i32) -> [Option<Stream>; 3] {
    [None, None, None]
}

/// Nothing: what stands in the way of a restart here is [`super::successor::Recipe::new`], which refuses it.
pub(crate) fn restart_block(_record: &LaunchRecord) -> Option<StartBlock> {
    None
}

/// Whether the worker is a terminal's foreground job.
pub(crate) fn is_foreground_job(attached: &Attached) -> bool {
    match attached.never {}
}

/// There is no worker to tell.
pub(crate) fn tell_store(_black_box: &BlackBox, _state: u32) {}

/// There is nothing to read.
pub(crate) fn try_reading(_black_box: &BlackBox, _pid: u32) {}
