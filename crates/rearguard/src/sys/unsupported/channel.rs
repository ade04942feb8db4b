//! The worker's side of the channel: it can't be opened, and the worker's health says so.

use std::convert::Infallible;
use std::marker::PhantomData;

pub use rearguard_crashpath::CrashInfo;
use rearguard_crashpath::black_box::BlackBox;
// No guard was ever started, so none failed either.
pub(crate) use rearguard_crashpath::guards::standing;

use super::unsupported;
use crate::error::Error;
use crate::heap::List;
use crate::launch::Succession;
use crate::sys::words::{Surroundings, Ties};

/// An alternate signal stack for the calling thread; on this system there is no such value.
#[derive(Debug)]
pub struct ThreadProtection {
    _never: Infallible,
    /// Not to be sent to another thread, as on the systems that have it.
    _this_thread_only: PhantomData<*const ()>,
}

/// What the channel is made from.
#[expect(dead_code, reason = "no channel is made from it")]
pub(crate) struct Request {
    pub(crate) nonce: u64,
    pub(crate) record: List<u8>,
    /// The guard's arguments, its own name first.
    pub(crate) arguments: List<List<u8>>,
    pub(crate) surroundings: &'static Surroundings,
    /// Whether a guard is started at once, or only when a crash calls for one.
    pub(crate) resident: bool,
}

/// A channel that is being made; on this system there is no such value.
pub(crate) struct Opening<'a>(core::convert::Infallible, core::marker::PhantomData<Ties<'a>>);

/// Refuses; the application runs without a guard.
pub(crate) fn begin(_ties: Ties<'_>) -> Result<Opening<'_>, Error> {
    Err(unsupported("opening the channel"))
}

impl Opening<'_> {
    /// Waits for the black box.
    pub(crate) fn finish(self, _request: Request) -> Result<&'static BlackBox, Error> {
        match self.0 {}
    }
}

/// What a crash handler is to know of the application's choices.
#[expect(dead_code, reason = "no crash handler is installed with it")]
pub(crate) struct Arms {
    pub(crate) dump_wait_ms: u32,
    pub(crate) callback: Option<fn(&CrashInfo)>,
    pub(crate) raise_dumpable: bool,
}

/// Refuses.
pub(crate) fn arm(_black_box: &'static BlackBox, _arms: &Arms) -> Result<(), Error> {
    Err(unsupported("installing the crash handler"))
}

/// Refuses.
pub(crate) fn protect_this_thread() -> Result<ThreadProtection, Error> {
    Err(unsupported("making an alternate signal stack"))
}

/// False: no crash is ever handled.
pub(crate) fn is_crashing_thread() -> bool {
    false
}

/// False, at once: no guard will come.
pub(crate) fn wait_guarded(_black_box: &BlackBox, _deadline_ns: u64) -> bool {
    false
}

/// False, at once: nobody can be called.
pub(crate) fn wait_callable(_black_box: &BlackBox, _deadline_ns: u64) -> bool {
    false
}

/// True: there is no guard that could stay.
pub(crate) fn call_off(_black_box: &BlackBox, _deadline_ns: u64) -> bool {
    true
}

/// Nobody is called: no report waits for a guard that could send it.
pub(crate) fn call_for_delivery(_black_box: &BlackBox) {}

/// Nobody comes back.
pub(crate) fn call_back(_black_box: &BlackBox) {}

/// Puts nothing back, since nothing was installed.
pub(crate) fn disarm() {}

/// Nothing: no guard starts a worker here, and a variable that says otherwise is somebody else's.
pub(crate) fn take_succession() -> (Option<Succession>, Option<u64>) {
    (None, None)
}

/// No guard tries a store.
pub(crate) fn wait_store_tried(_black_box: &BlackBox, _deadline_ns: u64) {}

/// Nothing is forked here.
pub(crate) fn forget() {}

/// As above.
pub(crate) fn arm_forked(_black_box: &'static BlackBox) {}
