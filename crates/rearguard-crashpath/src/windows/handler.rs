//! The crash handler: what a thread does between its fault and its end.
//!
//! Notice to the next editor: everything below `on_exception` runs in a process that is broken in an unknown way, perhaps on the last pages of a stack.
//! No heap, no lock, no large frame, no function that does more than one system call.
//!
//! The story, in the order of the functions: ask who was there first, one thread wins, tell the guard, wait, end.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use windows_sys::Win32::Foundation::EXCEPTION_ACCESS_VIOLATION;
use windows_sys::Win32::System::Diagnostics::Debug::{
    AddVectoredExceptionHandler, EXCEPTION_CONTINUE_EXECUTION, EXCEPTION_CONTINUE_SEARCH,
    EXCEPTION_POINTERS, RemoveVectoredExceptionHandler, SetUnhandledExceptionFilter,
};

use super::answer::await_answer;
use super::fault::{self, Fault};
use super::standing::{self, CRASHED};
use super::{runtime, threads, time};
use crate::black_box::{BlackBox, crash, flags};
use crate::limits;
use crate::{Callback, CrashInfo};

/// The heap manager found its structures torn; no filter sees it, a vectored handler does.
const HEAP_CORRUPTION: u32 = 0xc000_0374;

/// What [`arm`] needs.
pub struct Arming {
    /// The mapped black box, for the life of the process.
    pub black_box: &'static BlackBox,
    /// How long to wait for one guard's answer, in milliseconds.
    pub dump_wait_ms: u32,
    /// The application's callback.
    pub callback: Option<Callback>,
}

type Filter = unsafe extern "system" fn(*const EXCEPTION_POINTERS) -> i32;

static BLACK_BOX: AtomicPtr<BlackBox> = AtomicPtr::new(core::ptr::null_mut());
static DUMP_WAIT_MS: AtomicU32 = AtomicU32::new(limits::DUMP_WAIT_MS_DEFAULT);
static CALLBACK: AtomicUsize = AtomicUsize::new(0);
/// The filter that was there first; zero for none.
static PREVIOUS: AtomicUsize = AtomicUsize::new(0);
static VECTORED: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(core::ptr::null_mut());
/// The thread whose crash is being handled; zero for none.
static CRASHING: AtomicU32 = AtomicU32::new(0);
/// The thread that is asking the earlier filter, and the fault that it asks about.
static ASKING: AtomicU32 = AtomicU32::new(0);
static ASKED: AtomicPtr<EXCEPTION_POINTERS> = AtomicPtr::new(core::ptr::null_mut());

/// The thread whose crash is being handled, if there is one.
#[must_use]
pub fn crashing_thread() -> Option<u32> {
    let tid = CRASHING.load(Ordering::Acquire);
    (tid != 0).then_some(tid)
}

/// Installs the crash handler: the unhandled-exception filter, the vectored handler for heap corruption, and the C runtime's handlers.
/// Called once, from the application's thread.
pub fn arm(arming: &Arming) {
    DUMP_WAIT_MS.store(arming.dump_wait_ms, Ordering::Relaxed);
    CALLBACK.store(arming.callback.map_or(0, |callback| callback as usize), Ordering::Relaxed);
    BLACK_BOX.store(core::ptr::from_ref(arming.black_box).cast_mut(), Ordering::Release);
    threads::arm();
    // SAFETY: the filter keeps to its contract, and lives as long as the process.
    let previous = unsafe { SetUnhandledExceptionFilter(Some(on_exception)) };
    PREVIOUS.store(previous.map_or(0, |filter| filter as usize), Ordering::Release);
    // SAFETY: as above. Behind all others, since a debugger-like one may want to see it first.
    let vectored = unsafe { AddVectoredExceptionHandler(0, Some(on_heap_corruption)) };
    VECTORED.store(vectored, Ordering::Release);
    runtime::arm();
}

/// Puts back what was there before [`arm`], as far as nobody else has put something since.
pub fn disarm() {
    threads::disarm();
    runtime::disarm();
    let vectored = VECTORED.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !vectored.is_null() {
        // SAFETY: it is what `arm` added, once.
        unsafe { RemoveVectoredExceptionHandler(vectored) };
    }
    let previous = filter(PREVIOUS.load(Ordering::Acquire));
    // SAFETY: it is the filter that was there before.
    let found = unsafe { SetUnhandledExceptionFilter(previous) };
    if found.map(|found| found as usize) != Some(on_exception as *const () as usize) {
        // Somebody else is in front of us by now; they stay.
        // SAFETY: it is the filter that was there a moment ago.
        unsafe { SetUnhandledExceptionFilter(found) };
    }
}

fn filter(address: usize) -> Option<Filter> {
    if address == 0 {
        return None;
    }
    // SAFETY: only `arm` stores addresses, and they are those of filters.
    Some(unsafe { core::mem::transmute::<usize, Filter>(address) })
}

/// The entry from the system for what nobody has handled.
unsafe extern "system" fn on_exception(pointers: *const EXCEPTION_POINTERS) -> i32 {
    let mut fault = Fault::of(pointers);
    if CRASHING.load(Ordering::Acquire) == fault.tid {
        crash_within_crash(&fault);
    }
    if let Some(asked) = asked_about(&fault) {
        // The earlier filter crashed: what it was asked about is the crash.
        crash(&asked);
    }
    if let Some(previous) = filter(PREVIOUS.load(Ordering::Acquire)) {
        let first = ASKING.compare_exchange(0, fault.tid, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            ASKED.store(pointers.cast_mut(), Ordering::Release);
        }
        // SAFETY: it gets what it would have got without us.
        let verdict = unsafe { previous(pointers) };
        if first.is_ok() {
            ASKED.store(core::ptr::null_mut(), Ordering::Release);
            ASKING.store(0, Ordering::Release);
        }
        if verdict == EXCEPTION_CONTINUE_EXECUTION {
            return verdict;
        }
        fault.flags |= flags::FOREIGN_ASKED;
    }
    crash(&fault)
}

/// The fault that this thread was asking the earlier filter about when that met this one.
fn asked_about(fault: &Fault) -> Option<Fault> {
    let pointers = ASKED.load(Ordering::Acquire);
    if ASKING.load(Ordering::Acquire) != fault.tid || pointers.is_null() {
        return None;
    }
    Some(Fault { pointers, flags: flags::FOREIGN_ASKED | flags::FOREIGN_CRASHED, ..*fault })
}

/// Sees every exception before anybody else, and takes the one that no filter ever sees.
unsafe extern "system" fn on_heap_corruption(pointers: *mut EXCEPTION_POINTERS) -> i32 {
    let fault = Fault::of(pointers);
    if fault.code() == HEAP_CORRUPTION && CRASHING.load(Ordering::Acquire) != fault.tid {
        crash(&fault);
    }
    EXCEPTION_CONTINUE_SEARCH
}

/// A way to die that raises no exception: the fault is made here.
pub(super) fn crash_without_exception(code: u32, end: End) {
    let tid = fault::thread_id();
    if CRASHING.load(Ordering::Acquire) == tid {
        return;
    }
    fault::with_context(code, |pointers| {
        let here = Fault::of(pointers);
        let fault = asked_about(&here).unwrap_or(here);
        report(&fault);
        if end == End::ByUs {
            standing::end_this_process(fault.code());
        }
    });
}

/// Who ends the process after a crash that we made ourselves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// We do, with the exception's code.
    ByUs,
    /// The runtime goes on as it would have without us.
    ByTheRuntime,
}

/// Handles the crash and ends the process with the exception's code.
fn crash(fault: &Fault) -> ! {
    report(fault);
    standing::end_this_process(match fault.code() {
        0 => EXCEPTION_ACCESS_VIOLATION as u32,
        code => code,
    })
}

/// Lets one thread through; the others wait until the process has ended, for as long as the winner may take.
fn report(fault: &Fault) {
    if CRASHING.compare_exchange(0, fault.tid, Ordering::AcqRel, Ordering::Acquire).is_err() {
        let one_guard_ms = DUMP_WAIT_MS
            .load(Ordering::Relaxed)
            .saturating_add(limits::GUARD_READY_MS_MAX)
            .saturating_add(limits::GUARD_DEATH_MS_MAX);
        time::sleep_ms(one_guard_ms.saturating_mul(limits::GUARDS_PER_CRASH_MAX));
        return;
    }
    let Some(black_box) = black_box() else { return };
    black_box.control.crash.store(crash::CLAIMED, Ordering::Release);
    fault.fill_slot(black_box);
    run_callback(fault);
    tell_and_wait(black_box);
}

/// Hands the crash to the guard and waits for the answer, whoever gives it.
fn tell_and_wait(black_box: &BlackBox) {
    let control = &black_box.control;
    control.crash.store(crash::WAITING, Ordering::Release);
    standing::set(&CRASHED);
    await_answer(black_box, DUMP_WAIT_MS.load(Ordering::Relaxed));
    control.worker_released_ns.store(time::monotonic_ns(), Ordering::Relaxed);
    control.crash.store(crash::RELEASED, Ordering::Release);
}

fn black_box() -> Option<&'static BlackBox> {
    // SAFETY: `arm` stores a reference that is valid for the life of the process, or nothing.
    unsafe { BLACK_BOX.load(Ordering::Acquire).as_ref() }
}

/// A crash of the crashing thread itself: in the application's callback, or in our own code.
fn crash_within_crash(fault: &Fault) -> ! {
    let mut code = fault.code();
    if let Some(black_box) = black_box() {
        let control = &black_box.control;
        let first = control.crash.compare_exchange(
            crash::CLAIMED,
            crash::WAITING,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        // The callback crashed. What is in the slot is the crash; this one is a remark.
        if first.is_ok() {
            black_box.slot.flags.fetch_or(flags::CALLBACK_CRASHED, Ordering::Relaxed);
            tell_and_wait(black_box);
        }
        code = black_box.slot.signal.load(Ordering::Relaxed) as u32;
    }
    standing::end_this_process(code)
}

/// Lets the application say a last word.
fn run_callback(fault: &Fault) {
    let callback = CALLBACK.load(Ordering::Relaxed);
    if callback == 0 {
        return;
    }
    // SAFETY: only `arm` stores here, and it stores a `Callback`.
    let callback: Callback = unsafe { core::mem::transmute(callback) };
    callback(&CrashInfo {
        signal: fault.code() as i32,
        code: fault.parameter() as i32,
        address: fault.address(),
        tid: fault.tid as i32,
    });
}
