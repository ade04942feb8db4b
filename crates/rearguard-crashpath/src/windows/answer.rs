//! Waiting for the guard's answer: from the guard on duty, from the standby, or from none, but never for ever.

use core::sync::atomic::Ordering;

use windows_sys::Win32::Foundation::HANDLE;

use super::standing::{self, ANSWERED, GUARD};
use super::time;
use crate::black_box::{BlackBox, answer};
use crate::limits;

/// How long one look lasts while the keeper may be putting another guard in its place, in milliseconds.
const LOOK_MS: u32 = 20;

/// Waits for an answer from up to [`limits::GUARDS_PER_CRASH_MAX`] guards, each with a deadline, and ends the silent ones.
pub(super) fn await_answer(black_box: &BlackBox, wait_ms: u32) {
    let control = &black_box.control;
    let one_guard_ns = u64::from(wait_ms) * 1_000_000;
    for _ in 0..limits::GUARDS_PER_CRASH_MAX {
        let guard = await_guard(black_box);
        if guard.is_null() {
            return;
        }
        let deadline_ns = time::monotonic_ns().saturating_add(one_guard_ns);
        let is_gone = standing::wait_two(ANSWERED.get(), guard, deadline_ns) == Some(1);
        let is_answered = || control.answer.load(Ordering::Acquire) != answer::NONE;
        // A silent guard is ended, and only when that is proved is another called, so that there are never two.
        if is_answered()
            || !(is_gone || standing::end_guard(guard, limits::GUARD_DEATH_MS_MAX))
            || is_answered()
        {
            return;
        }
    }
}

/// The guard that lives, calling the standby if none does; null when nobody comes within the time that a start may take.
fn await_guard(black_box: &BlackBox) -> HANDLE {
    let deadline_ns =
        time::monotonic_ns().saturating_add(u64::from(limits::GUARD_READY_MS_MAX) * 1_000_000);
    loop {
        let guard = GUARD.get();
        if !guard.is_null() && !standing::is_gone(guard) {
            return guard;
        }
        if standing::call_standby(black_box) {
            continue;
        }
        if time::monotonic_ns() >= deadline_ns {
            return core::ptr::null_mut();
        }
        // The keeper may just have taken the standby; its word comes in a moment.
        time::sleep_ms(LOOK_MS);
    }
}
