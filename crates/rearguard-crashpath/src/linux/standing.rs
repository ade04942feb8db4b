//! How the keeper stands with its guards: a few words that the keeper writes, and that the crash handler and the application read.

use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::futex;
use crate::black_box::{BlackBox, owner};

/// Whether a keeper is there to be called: `ABSENT`, `COMING` or `SERVING`.
static STATE: AtomicU32 = AtomicU32::new(ABSENT);
const ABSENT: u32 = 0;
const COMING: u32 = 1;
const SERVING: u32 = 2;
/// The guard that was started last; zero for none.
static GUARD_PID: AtomicU32 = AtomicU32::new(0);
/// How many guards were started.
static STARTS: AtomicU32 = AtomicU32::new(0);
/// How many of them didn't take their place.
static FAILURES: AtomicU32 = AtomicU32::new(0);
/// The error of the last start that failed before its exec; zero for none.
static LAST_ERRNO: AtomicI32 = AtomicI32::new(0);
/// Changes whenever something above has changed; the application may wait on it.
static NEWS: AtomicU32 = AtomicU32::new(0);

/// What the keeper knows of its guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The guard that was started last; zero for none.
    pub guard_pid: u32,
    /// How many guards were started.
    pub starts: u32,
    /// How many of them didn't take their place.
    pub failures: u32,
    /// The error of the last start that failed before its exec; zero for none.
    pub last_errno: i32,
}

/// What the keeper knows of its guards, for the worker's health.
#[must_use]
pub fn standing() -> Standing {
    Standing {
        guard_pid: GUARD_PID.load(Ordering::Acquire),
        starts: STARTS.load(Ordering::Relaxed),
        failures: FAILURES.load(Ordering::Relaxed),
        last_errno: LAST_ERRNO.load(Ordering::Relaxed),
    }
}

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

/// Says that a keeper is about to serve, so that a crash in the meantime waits for it.
pub fn announce() {
    STATE.store(COMING, Ordering::Release);
}

/// Says that there will be no keeper after all.
pub fn give_up(error: i32) {
    note_failure(error);
    STATE.store(ABSENT, Ordering::Release);
    tell_news();
}

/// Whether there is a keeper to call, or will be.
pub(super) fn serves() -> bool {
    STATE.load(Ordering::Acquire) != ABSENT
}

/// The guard that was started last; zero for none.
pub(super) fn guard_pid() -> u32 {
    GUARD_PID.load(Ordering::Acquire)
}

/// Says that the keeper serves.
pub(super) fn serve() {
    STATE.store(SERVING, Ordering::Release);
}

/// Notes that a start begins.
pub(super) fn note_start() {
    STARTS.fetch_add(1, Ordering::Relaxed);
}

/// Notes the process that was started.
pub(super) fn note_guard(pid: u32) {
    GUARD_PID.store(pid, Ordering::Release);
}

/// Notes that a guard did not take its place.
pub(super) fn note_failure(error: i32) {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    LAST_ERRNO.store(error, Ordering::Relaxed);
    GUARD_PID.store(0, Ordering::Release);
}

/// Tells who waits that something has changed.
pub(super) fn tell_news() {
    NEWS.fetch_add(1, Ordering::Release);
    futex::wake_all(&NEWS);
}
