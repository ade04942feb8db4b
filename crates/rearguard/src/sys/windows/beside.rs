//! Work beside a guard that stands by: a thread of its own, since there is no fork here.
//!
//! It is the guard's only one that sends: a crash is answered meanwhile as if it weren't there.
//! Nobody waits for its end but a guard that leaves, since with the process the thread would end in the midst of a report.

use std::os::windows::io::OwnedHandle;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::handles::raw;
use super::{session, threads};
use crate::limits::DELIVERY_MS_MAX;
use rearguard_crashpath::{standing, time};

/// Such a thread's stack in bytes, as large as a main thread's, which sends too.
const STACK_BYTES: usize = 1024 * 1024;

/// How often a guard that waits for its end looks whether it still should, in milliseconds.
const SLICE_MS: u64 = 100;

/// The threads that may be at work. There is more than one only where a consent was given again meanwhile.
static THREADS: Mutex<Vec<OwnedHandle>> = Mutex::new(Vec::new());

/// Whether this guard leaves without them.
static ABANDONED: AtomicBool = AtomicBool::new(false);

/// Lets a thread of its own do something that takes its time; it isn't done where there can be none.
pub(crate) fn beside(work: impl FnOnce() + Send + 'static) {
    if let Ok(thread) = threads::start(STACK_BYTES, work) {
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !standing::is_gone(raw(thread)));
        threads.push(thread);
    }
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
