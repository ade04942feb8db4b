//! Exception filters of other people: the runtimes and libraries that share a process with rearguard.
//!
//! There is one filter a process: what is installed before `start()` has to be asked by ours, what comes after `start()` asks ours.
//! Filters run in a crashed thread: they may write a trace line and use system calls, nothing else.

#![expect(unsafe_code, reason = "exception filters are installed and run here")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use windows_sys::Win32::Foundation::EXCEPTION_ACCESS_VIOLATION;
use windows_sys::Win32::System::Diagnostics::Debug::{
    EXCEPTION_CONTINUE_EXECUTION, EXCEPTION_CONTINUE_SEARCH, EXCEPTION_POINTERS,
    LPTOP_LEVEL_EXCEPTION_FILTER, SetUnhandledExceptionFilter,
};

use super::memory;
use crate::trace::{self, Event};
use crate::ways::Way;

type Filter = unsafe extern "system" fn(*const EXCEPTION_POINTERS) -> i32;

/// The page of `recovered-fault`; 0 before it is there.
static REPAIRABLE: AtomicUsize = AtomicUsize::new(0);

/// Whom the filter of `foreign-handler-after` has displaced.
static DISPLACED: OnceLock<LPTOP_LEVEL_EXCEPTION_FILTER> = OnceLock::new();

/// What has to be there when rearguard starts.
pub(crate) fn install_before(way: Way) -> Result<(), String> {
    if way == Way::ForeignHandler {
        install(unimpressed);
    }
    if way == Way::RecoveredFault {
        REPAIRABLE.store(memory::forbidden_pages(1)?, Ordering::Relaxed);
        install(repair);
    }
    Ok(())
}

/// What comes later than rearguard.
pub(crate) fn install_after(way: Way) -> Result<(), String> {
    if way == Way::ForeignHandlerAfter {
        let displaced = install(chaining);
        DISPLACED.get_or_init(|| displaced);
    }
    Ok(())
}

/// Writes to the page that the foreign filter makes writable.
pub(crate) fn repairable_fault() {
    let page = REPAIRABLE.load(Ordering::Relaxed) as *mut u8;
    // SAFETY: the page is ours and nobody else uses it; the first write faults and is repeated.
    unsafe { page.write_volatile(1) };
    trace::tell(Event::Recovered);
}

fn install(filter: Filter) -> LPTOP_LEVEL_EXCEPTION_FILTER {
    // SAFETY: the filter keeps to what runs in a crashed thread, and is there as long as the program.
    unsafe { SetUnhandledExceptionFilter(Some(filter)) }
}

/// Says that it was called and repairs nothing.
unsafe extern "system" fn unimpressed(_exception: *const EXCEPTION_POINTERS) -> i32 {
    trace::tell(Event::ForeignHandler);
    EXCEPTION_CONTINUE_SEARCH
}

/// Makes the page writable, so that the same instruction succeeds when it is repeated.
/// Any other exception is left to others.
unsafe extern "system" fn repair(exception: *const EXCEPTION_POINTERS) -> i32 {
    let page = REPAIRABLE.load(Ordering::Relaxed);
    // SAFETY: the system, or whoever chains to us, passes pointers that live through the call.
    let exception = unsafe { &*exception };
    // SAFETY: as above.
    let record = unsafe { &*exception.ExceptionRecord };
    // The second parameter of an access violation is the address.
    let is_ours = record.ExceptionCode == EXCEPTION_ACCESS_VIOLATION
        && record.ExceptionInformation[1] & !(memory::page_bytes() - 1) == page;
    if is_ours && memory::permit_page(page) {
        EXCEPTION_CONTINUE_EXECUTION
    } else {
        EXCEPTION_CONTINUE_SEARCH
    }
}

/// Says that it was called, then hands the exception to whom it has displaced.
unsafe extern "system" fn chaining(exception: *const EXCEPTION_POINTERS) -> i32 {
    trace::tell(Event::ForeignHandler);
    match DISPLACED.get() {
        // SAFETY: the filter was put there by its owner for such calls, with an exception of the system's.
        Some(Some(filter)) => unsafe { filter(exception) },
        Some(None) | None => EXCEPTION_CONTINUE_SEARCH,
    }
}
