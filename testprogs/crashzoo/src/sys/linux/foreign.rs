//! Signal handlers of other people: the runtimes and libraries that share a process with rearguard.
//!
//! What is installed before `start()` has to be asked first and chained after; what comes after `start()` chains to us.
//! Handlers run in a crashed thread: they may write a trace line and use system calls, nothing else.

#![expect(unsafe_code, reason = "signal handlers are installed and run here")]

use std::io::Error;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::memory;
use super::ways::Way as Own;
use crate::trace::{self, Event};
use crate::ways::Way;

pub(super) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// The page of `recovered-fault`; 0 before it is mapped.
static REPAIRABLE: AtomicUsize = AtomicUsize::new(0);

/// How often the handler of `foreign-handler` was called.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// Whom the handler of `foreign-handler-after` has displaced.
static DISPLACED: OnceLock<libc::sigaction> = OnceLock::new();

/// What has to be there when rearguard starts.
pub(crate) fn install_before(way: Way) -> Result<(), String> {
    if way == Way::ForeignHandler {
        install(libc::SIGSEGV, unimpressed)?;
    }
    if matches!(way, Way::Own(Own::Survive | Own::SurviveBriefly)) {
        REPAIRABLE.store(memory::forbidden_pages(1)?, Ordering::Relaxed);
        install(libc::SIGSEGV, repair_when_asked_again)?;
    }
    if way == Way::RecoveredFault {
        REPAIRABLE.store(memory::forbidden_pages(1)?, Ordering::Relaxed);
        install(libc::SIGSEGV, repair)?;
    }
    Ok(())
}

/// What comes later than rearguard.
pub(crate) fn install_after(way: Way) -> Result<(), String> {
    if way == Way::ForeignHandlerAfter {
        let displaced = install(libc::SIGSEGV, chaining)?;
        DISPLACED.get_or_init(|| displaced);
    }
    Ok(())
}

/// Writes to the page that the foreign handler makes writable.
pub(crate) fn repairable_fault() {
    let page = REPAIRABLE.load(Ordering::Relaxed) as *mut u8;
    // SAFETY: the page is a mapping of ours that nobody else uses; the first write faults and is repeated.
    unsafe { page.write_volatile(1) };
    trace::tell(Event::Recovered);
}

/// Installs a handler, and returns what was there.
pub(super) fn install(signal: libc::c_int, handler: Handler) -> Result<libc::sigaction, String> {
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let new = action.as_mut_ptr();
    // SAFETY: `new` points at a zeroed sigaction, for which zero is a valid value of every field.
    let fields = unsafe { &mut *new };
    fields.sa_sigaction = handler as *const () as usize;
    fields.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both pointers are to live sigactions, and the handler keeps to what signal handlers may do.
    let result = unsafe { libc::sigaction(signal, new, before.as_mut_ptr()) };
    if result != 0 {
        return Err(format!("the foreign handler was refused: {}", Error::last_os_error()));
    }
    // SAFETY: the call has succeeded, so it has written the previous action.
    Ok(unsafe { before.assume_init() })
}

/// Says that it was called and repairs nothing.
/// From the second call on it takes the default disposition first, as handlers do that have had their say; otherwise the fault would repeat for ever.
extern "C" fn unimpressed(
    signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    trace::tell(Event::ForeignHandler);
    if CALLS.fetch_add(1, Ordering::Relaxed) > 0 {
        // SAFETY: signal() is async-signal-safe, and SIG_DFL is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Makes the page writable, so that the same instruction succeeds when it is repeated.
/// Any other fault gets the default disposition.
extern "C" fn repair(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let page = REPAIRABLE.load(Ordering::Relaxed);
    // SAFETY: the kernel, or whoever chains to us, passes a siginfo that lives through the call.
    let info = unsafe { &*info };
    // SAFETY: the signal is SIGSEGV, so the union holds an address.
    let address = unsafe { info.si_addr() } as usize;
    if address & !(memory::page_bytes() - 1) == page {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the page is a mapping of ours that holds no object.
        unsafe { libc::mprotect(page as *mut libc::c_void, memory::page_bytes(), access) };
    } else {
        // SAFETY: signal() is async-signal-safe, and SIG_DFL is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Repairs the page only when it is asked a second time: by then the crash is on record.
extern "C" fn repair_when_asked_again(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    if CALLS.fetch_add(1, Ordering::Relaxed) > 0 {
        repair(signal, info, context);
    }
}

/// Says that it was called, then hands the signal to whom it has displaced.
extern "C" fn chaining(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    trace::tell(Event::ForeignHandler);
    match DISPLACED.get() {
        Some(action) if action.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with SA_SIGINFO the field holds a function of this signature, put there by its owner.
            let handler: Handler = unsafe { std::mem::transmute(action.sa_sigaction) };
            handler(signal, info, context);
        }
        _ => {
            // SAFETY: signal() is async-signal-safe, and SIG_DFL is a valid disposition.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}
