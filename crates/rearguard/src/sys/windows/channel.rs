//! The worker's side of the channel: black box, launch record and events are made, the keeper is started, the crash handler armed.

use rearguard_crashpath::black_box::{BLACK_BOX_BYTES, BlackBox, store as store_word};
use rearguard_crashpath::handler::{self, Arming};
use rearguard_crashpath::{fault, standing, threads, time};
use std::os::windows::io::{IntoRawHandle, OwnedHandle};
use std::sync::atomic::Ordering;

pub use rearguard_crashpath::CrashInfo;
pub(crate) use rearguard_crashpath::guards::standing;

use super::handles::{self, raw};
use super::keeper::{self, Keeping};
use super::{process, successor, wide};
use crate::error::Error;
use crate::heap::List;
use crate::launch::Succession;
use crate::sys::words::{Surroundings, Ties};

/// What the channel is made from.
pub(crate) struct Request {
    pub(crate) nonce: u64,
    pub(crate) record: List<u8>,
    /// The guard's arguments, its own name first.
    pub(crate) arguments: List<List<u8>>,
    pub(crate) surroundings: &'static Surroundings,
    /// Whether a guard is started at once, or only when a crash calls for one.
    pub(crate) resident: bool,
}

/// A channel that is being made.
pub(crate) struct Opening<'a> {
    /// Nothing is tied here.
    _ties: core::marker::PhantomData<Ties<'a>>,
    section: OwnedHandle,
    black_box: &'static BlackBox,
}

/// Makes and maps the black box.
pub(crate) fn begin(ties: Ties<'_>) -> Result<Opening<'_>, Error> {
    if let Some(front) = ties.front {
        front.keep();
    }
    let failed = |error: u32| Error::system("making the black box", "", error as i32);
    let section = handles::section(BLACK_BOX_BYTES).map_err(failed)?;
    let view = handles::map(raw(&section), BLACK_BOX_BYTES, true).map_err(failed)?;
    // SAFETY: the view is large enough, aligned to a page, zeroed, and never given back; every content is valid.
    let black_box = unsafe { &*view.cast_const().cast::<BlackBox>() };
    let mut report_id = [0; 16];
    process::random(&mut report_id);
    black_box.begin(std::process::id(), report_id);
    Ok(Opening { _ties: core::marker::PhantomData, section, black_box })
}

impl Opening<'_> {
    /// Seals the record, makes the events, and leaves the rest to the keeper: starting the guard and its standby.
    pub(crate) fn finish(self, request: Request) -> Result<&'static BlackBox, Error> {
        let failed = |error: u32| Error::system("opening the channel", "", error as i32);
        let Opening { section, black_box, .. } = self;
        black_box.header.nonce.store(request.nonce, Ordering::Release);
        let record = handles::sealed(&request.record).map_err(failed)?;
        for (place, stays_set) in [
            (&standing::CRASHED, false),
            (&standing::ANSWERED, false),
            (&standing::READY, true),
            (&standing::WANTED, false),
        ] {
            // They live as long as the process.
            let event = handles::event(stays_set).map_err(failed)?.into_raw_handle();
            place.put(event.cast());
        }
        keeper::start(Keeping {
            black_box,
            section,
            record,
            argument: request.arguments.last().map_or_else(Vec::new, |it| wide::from_bytes(it)),
            resident: request.resident,
            environment: request
                .surroundings
                .environment
                .iter()
                .map(|entry| wide::from_bytes(entry))
                .collect(),
        })
        .map_err(|error| Error::system("starting the keeper", "", error as i32))?;
        Ok(black_box)
    }
}

/// What the crash handler is to know of the application's choices.
pub(crate) struct Arms {
    pub(crate) dump_wait_ms: u32,
    pub(crate) callback: Option<fn(&CrashInfo)>,
    /// There is nothing to raise here: whoever may open the process may dump it.
    pub(crate) raise_dumpable: bool,
}

/// Installs the crash handler.
pub(crate) fn arm(black_box: &'static BlackBox, arms: &Arms) -> Result<(), Error> {
    let Arms { dump_wait_ms, callback, raise_dumpable } = *arms;
    // There is nothing to raise.
    let _ = raise_dumpable;
    handler::arm(&Arming { black_box, dump_wait_ms, callback });
    Ok(())
}

/// Room for the handling of a stack overflow on the calling thread.
///
/// Windows keeps it for the life of the thread; threads that begin after `start()` have it already.
#[derive(Debug)]
pub struct ThreadProtection {
    /// The room belongs to its thread.
    _this_thread_only: core::marker::PhantomData<*const ()>,
}

/// Keeps room on the calling thread's stack.
pub(crate) fn protect_this_thread() -> Result<ThreadProtection, Error> {
    if threads::keep_room() {
        Ok(ThreadProtection { _this_thread_only: core::marker::PhantomData })
    } else {
        let error = handles::last_error();
        Err(Error::system("keeping room on the stack", "", error as i32))
    }
}

/// Whether the calling thread is the one whose crash is being handled.
pub(crate) fn is_crashing_thread() -> bool {
    handler::crashing_thread() == Some(fault::thread_id())
}

/// Waits until a guard is on duty.
pub(crate) fn wait_guarded(_black_box: &BlackBox, deadline_ns: u64) -> bool {
    standing::wait_guarded(deadline_ns)
}

/// Waits until a crash could call a standby, where no guard is on duty. The event is set for both.
pub(crate) fn wait_callable(_black_box: &BlackBox, deadline_ns: u64) -> bool {
    standing::wait_guarded(deadline_ns)
}

/// Calls the guard off, ends the standby, and waits until both are gone; false when they aren't at `deadline_ns`.
pub(crate) fn call_off(black_box: &BlackBox, deadline_ns: u64) -> bool {
    // The guard sleeps on this event, and looks around when it is set.
    standing::set(&standing::CRASHED);
    let guard = standing::GUARD.get();
    let has_left = guard.is_null() || standing::wait_gone(guard, deadline_ns);
    // The keeper may be making a standby just now; it knows better afterwards.
    while standing::end_standby() && standing::PARKED.load(Ordering::Acquire) == 0 {
        if time::monotonic_ns() >= deadline_ns {
            return false;
        }
        time::sleep_ms(1);
    }
    if has_left {
        standing::vacate(black_box);
    }
    has_left && !standing::has_standby()
}

/// Lets the guard know that what waits in the store may be sent now. Where there is none, the next that a crash calls sends it anyway.
pub(crate) fn call_for_delivery(black_box: &BlackBox) {
    black_box.control.deliver.store(1, Ordering::Release);
    // The guard sleeps on this event, and looks around when it is set.
    standing::set(&standing::CRASHED);
}

/// Lets the keeper start a guard again.
pub(crate) fn call_back(_black_box: &BlackBox) {
    standing::set(&standing::WANTED);
}

/// Waits until a guard has tried the store; what it found is in the box.
pub(crate) fn wait_store_tried(black_box: &BlackBox, deadline_ns: u64) {
    while black_box.control.store.load(Ordering::Acquire) == store_word::UNTRIED
        && time::monotonic_ns() < deadline_ns
    {
        // A guard that is ready tries the store next; it takes a moment.
        time::sleep_ms(1);
    }
}

/// Puts back what was there before [`arm`].
pub(crate) fn disarm() {
    handler::disarm();
}

/// What the lives before this one left, if a guard started it, and where the process in front of it is to be found.
pub(crate) fn take_succession() -> (Option<Succession>, Option<u64>) {
    successor::take()
}

/// Nothing is forked here.
pub(crate) fn forget() {}

/// As above.
pub(crate) fn arm_forked(_black_box: &'static BlackBox) {}
