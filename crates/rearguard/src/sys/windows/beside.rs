//! Work beside a guard that stands by: a thread of its own, since there is no fork here.
//!
//! It is the guard's only one that sends: a crash is answered meanwhile as if it weren't there.
//! Nobody waits for its end but a guard that leaves, since with the process the thread would end in the midst of a report.

use std::os::windows::io::OwnedHandle;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rearguard_crashpath::{standing, time};
use windows_sys::Win32::System::Threading::{CreateThread, STACK_SIZE_PARAM_IS_A_RESERVATION};

use super::handles::{self, raw};
use super::session;
use crate::limits::DELIVERY_MS_MAX;

/// Such a thread's stack in bytes, as large as a main thread's, which sends too. Only what is used of it is memory.
const STACK_BYTES: usize = 1024 * 1024;

/// How often a guard that waits for its end looks whether it still should, in milliseconds.
const SLICE_MS: u64 = 100;

/// What is done there, while the guard goes on.
type Work = Box<dyn FnOnce() + Send>;

/// The threads that may be at work. There is more than one only where a consent was given again meanwhile.
static THREADS: Mutex<Vec<OwnedHandle>> = Mutex::new(Vec::new());

/// Whether this guard leaves without them.
static ABANDONED: AtomicBool = AtomicBool::new(false);

/// Lets a thread of its own do something that takes its time; it isn't done where there can be none.
pub(crate) fn beside(work: impl FnOnce() + Send + 'static) {
    let work: Work = Box::new(work);
    let argument = Box::into_raw(Box::new(work));
    // SAFETY: the entry has the system's type, and takes over the box that the argument is.
    let thread = unsafe {
        CreateThread(
            core::ptr::null(),
            STACK_BYTES,
            Some(entry),
            argument.cast_const().cast(),
            STACK_SIZE_PARAM_IS_A_RESERVATION,
            core::ptr::null_mut(),
        )
    };
    match handles::own(thread) {
        Ok(thread) => {
            let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
            threads.retain(|thread| !standing::is_gone(raw(thread)));
            threads.push(thread);
        }
        // SAFETY: no thread was made, so the box is still ours.
        Err(_) => drop(unsafe { Box::from_raw(argument) }),
    }
}

unsafe extern "system" fn entry(argument: *mut core::ffi::c_void) -> u32 {
    // SAFETY: the argument is the box that `beside` gave away.
    let work = unsafe { Box::from_raw(argument.cast::<Work>()) };
    work();
    0
}

/// The worker waits for this guard's end, and must not wait for a server.
pub(super) fn abandon() {
    ABANDONED.store(true, Ordering::Release);
}

/// Waits for what is done beside this guard, for as long as a delivery may take. Not at the session's end: who is still there then is ended by the system.
pub(super) fn await_end() {
    let deadline_ns = time::monotonic_ns().saturating_add(DELIVERY_MS_MAX * 1_000_000);
    for thread in THREADS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        loop {
            let now_ns = time::monotonic_ns();
            let slice_ns = now_ns.saturating_add(SLICE_MS * 1_000_000);
            if standing::wait_gone(raw(&thread), slice_ns.min(deadline_ns)) {
                break;
            }
            if now_ns >= deadline_ns || ABANDONED.load(Ordering::Acquire) || session::is_ending() {
                return;
            }
        }
    }
}
