//! Whether there is a keeper to call, and news from it for who waits.

use core::sync::atomic::{AtomicU32, Ordering};

use super::futex;
use crate::black_box::{BlackBox, owner};
use crate::guards;

/// Whether a keeper is there to be called: `ABSENT`, `COMING` or `SERVING`.
static STATE: AtomicU32 = AtomicU32::new(ABSENT);
const ABSENT: u32 = 0;
const COMING: u32 = 1;
const SERVING: u32 = 2;
/// Changes whenever a guard was started, or failed; the application may wait on it.
static NEWS: AtomicU32 = AtomicU32::new(0);

/// Sleeps until a guard is on duty; false when none is at `deadline_ns` of CLOCK_MONOTONIC.
pub fn wait_guarded(black_box: &BlackBox, deadline_ns: u64) -> bool {
    loop {
        let news = NEWS.load(Ordering::Acquire);
        if owner(black_box.control.guard.load(Ordering::Acquire)).is_some() {
            return true;
        }
        if !serves() || futex::wait(&NEWS, news, Some(deadline_ns)) == futex::Woken::TimedOut {
            return false;
        }
    }
}

/// Sleeps until a keeper can be called by a crash, whatever that has torn; false when there is none at `deadline_ns` of CLOCK_MONOTONIC.
pub fn wait_callable(deadline_ns: u64) -> bool {
    loop {
        let news = NEWS.load(Ordering::Acquire);
        match STATE.load(Ordering::Acquire) {
            SERVING => return true,
            ABSENT => return false,
            _ => {}
        }
        if futex::wait(&NEWS, news, Some(deadline_ns)) == futex::Woken::TimedOut {
            return false;
        }
    }
}

/// Says that a keeper is about to serve, so that a crash in the meantime waits for it.
pub fn announce() {
    STATE.store(COMING, Ordering::Release);
}

/// Says that there will be no keeper after all.
pub fn give_up(error: i32) {
    guards::note_failure(error);
    STATE.store(ABSENT, Ordering::Release);
    tell_news();
}

/// Whether there is a keeper to call, or will be.
pub(super) fn serves() -> bool {
    STATE.load(Ordering::Acquire) != ABSENT
}

/// Says that the keeper serves.
pub(super) fn serve() {
    STATE.store(SERVING, Ordering::Release);
    tell_news();
}

/// Tells who waits that something has changed.
pub(super) fn tell_news() {
    NEWS.fetch_add(1, Ordering::Release);
    futex::wake_all(&NEWS);
}
