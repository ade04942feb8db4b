//! What a worker knows of its guards: a few words that its keeper writes, and that the crash handler and the application read; and how often a keeper starts one.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use crate::limits;

/// The guard that was started last; zero for none.
static GUARD_PID: AtomicU32 = AtomicU32::new(0);
/// How many guards were started.
static STARTS: AtomicU32 = AtomicU32::new(0);
/// How many of them didn't take their place.
static FAILURES: AtomicU32 = AtomicU32::new(0);
/// The system's error of the last start that failed; zero for none.
static LAST_ERROR: AtomicI32 = AtomicI32::new(0);

/// The thread that stands guard over many workers, and hears of a crash only when it is called; zero for none.
static RELAY: AtomicU32 = AtomicU32::new(0);

/// Whether guards divide themselves.
static DIVIDED: AtomicBool = AtomicBool::new(false);

/// What the keeper knows of its guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The guard that was started last; zero for none.
    pub guard_pid: u32,
    /// How many guards were started.
    pub starts: u32,
    /// How many of them didn't take their place.
    pub failures: u32,
    /// The system's error of the last start that failed; zero for none.
    pub last_errno: i32,
}

/// What the keeper knows of its guards, for the worker's health.
#[must_use]
pub fn standing() -> Standing {
    Standing {
        guard_pid: guard_pid(),
        starts: STARTS.load(Ordering::Relaxed),
        failures: FAILURES.load(Ordering::Relaxed),
        last_errno: LAST_ERROR.load(Ordering::Relaxed),
    }
}

/// The guard that was started last; zero for none.
#[must_use]
pub fn guard_pid() -> u32 {
    GUARD_PID.load(Ordering::Acquire)
}

/// Forgets the guards of the process that this one was forked from.
pub fn forget() {
    note_guard(0);
    note_relay(0);
    STARTS.store(0, Ordering::Relaxed);
    FAILURES.store(0, Ordering::Relaxed);
    LAST_ERROR.store(0, Ordering::Relaxed);
    DIVIDED.store(false, Ordering::Relaxed);
}

/// Notes that a start begins.
pub fn note_start() {
    STARTS.fetch_add(1, Ordering::Relaxed);
}

/// Notes the process that was started; zero for one that is gone.
pub fn note_guard(pid: u32) {
    GUARD_PID.store(pid, Ordering::Release);
}

/// Notes that a guard lets a process of its own, which ends with it, deal with a crash.
pub fn note_divided() {
    DIVIDED.store(true, Ordering::Relaxed);
}

/// Whether the owner of the place is this process, which was started as a guard, or what has come of it.
#[must_use]
pub fn comes_of(owner: u32, started: u32) -> bool {
    started == owner || (started != 0 && DIVIDED.load(Ordering::Relaxed))
}

/// The process to end when the owner of the place is silent; `None` for an owner that is none of ours.
#[must_use]
pub fn to_be_ended(owner: u32) -> Option<u32> {
    let started = guard_pid();
    comes_of(owner, started).then_some(started)
}

/// Notes the thread of a guard that stands over many workers, and has to be called; zero for none.
pub fn note_relay(tid: u32) {
    RELAY.store(tid, Ordering::Release);
}

/// Whether the owner of the guard's place has to be called.
#[must_use]
pub fn is_relay(tid: u32) -> bool {
    RELAY.load(Ordering::Acquire) == tid
}

/// Notes that a guard did not take its place.
pub fn note_failure(error: i32) {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    LAST_ERROR.store(error, Ordering::Relaxed);
}

/// When guards were started lately, for the intensity.
#[derive(Default)]
pub struct Window {
    starts_ms: [u64; limits::RESPAWN_INTENSITY_MAX],
    next: usize,
}

impl Window {
    /// Notes a start; false when there were too many within the period.
    pub fn admit(&mut self, now_ms: u64) -> bool {
        let Some(oldest) = self.starts_ms.get_mut(self.next) else { return false };
        if *oldest != 0 && now_ms.saturating_sub(*oldest) < limits::RESPAWN_PERIOD_MS {
            return false;
        }
        *oldest = now_ms.max(1);
        self.next = (self.next + 1) % limits::RESPAWN_INTENSITY_MAX;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: of a guard that may have divided itself whoever has the place is known as ours, of any other only the guard itself, and of none nobody.
    #[test]
    fn what_comes_of_a_guard_is_known() {
        assert!(comes_of(7, 7));
        assert!(!comes_of(8, 7));
        note_divided();
        assert!(comes_of(8, 7));
        assert!(!comes_of(8, 0));
        note_guard(7);
        assert_eq!(to_be_ended(8), Some(7));
        forget();
        assert_eq!(to_be_ended(8), None);
        assert!(!comes_of(8, 7));
    }

    // Goal: no more starts than the intensity are admitted within a period, and one more when the oldest has left it.
    #[test]
    fn the_intensity_is_held() {
        let mut window = Window::default();
        for start in 0..limits::RESPAWN_INTENSITY_MAX as u64 {
            assert!(window.admit(1_000 + start));
        }
        assert!(!window.admit(1_000 + limits::RESPAWN_PERIOD_MS - 1));
        assert!(window.admit(1_000 + limits::RESPAWN_PERIOD_MS));
        assert!(!window.admit(1_000 + limits::RESPAWN_PERIOD_MS));
    }
}
