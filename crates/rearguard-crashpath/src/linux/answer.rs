//! Waiting for the guard's answer: from one guard, from the next, or from none, but never for ever.
//!
//! The crashed thread runs this, so it must not be stopped by anybody, and uses no descriptor.

use core::sync::atomic::{Ordering, fence};

use super::{futex, slot, standing, syscall, time};
use crate::black_box::{BlackBox, answer, guard, owner};
use crate::guards;
use crate::limits;

/// Waits for an answer from up to [`limits::GUARDS_PER_CRASH_MAX`] guards, each with a deadline, and ends the silent ones.
pub(super) fn await_answer(black_box: &BlackBox, wait_ms: u32) {
    let control = &black_box.control;
    let wait_ns = u64::from(wait_ms) * 1_000_000;
    let start_ns = u64::from(limits::GUARD_READY_MS_MAX) * 1_000_000 * 2;
    let mut on_duty = None;
    let mut tried = 0;
    let mut deadline_ns = time::monotonic_ns().saturating_add(start_ns);
    while control.answer.load(Ordering::Acquire) == answer::NONE {
        // Behind the crash that this thread has told: see the keeper's `join`.
        fence(Ordering::SeqCst);
        let word = control.guard.load(Ordering::Acquire);
        if word == guard::LEFT || word == guard::ANSWERED {
            return;
        }
        // A guard of many workers doesn't look at this one's words; the keeper calls it.
        let Some(tid) = owner(word).filter(|tid| !guards::is_relay(*tid)) else {
            if on_duty.take().is_some() {
                deadline_ns = time::monotonic_ns().saturating_add(start_ns);
            }
            if tried >= limits::GUARDS_PER_CRASH_MAX || !call_the_keeper(black_box, word) {
                return;
            }
            // Any other word than the call means that something has happened, and doesn't sleep.
            if futex::wait_and_pass_on(&control.guard, guard::CALLED, Some(deadline_ns))
                == futex::Woken::TimedOut
            {
                return;
            }
            continue;
        };
        if on_duty != Some(tid) {
            on_duty = Some(tid);
            tried += 1;
            deadline_ns = time::monotonic_ns().saturating_add(wait_ns);
        }
        if futex::wait_and_pass_on(&control.guard, word, Some(deadline_ns))
            == futex::Woken::TimedOut
            && !end_guard(black_box, word, tid)
        {
            return;
        }
    }
}

/// Asks the keeper for a guard; false when there is no keeper to ask.
fn call_the_keeper(black_box: &BlackBox, word: u32) -> bool {
    if !standing::serves() {
        return false;
    }
    let guard = &black_box.control.guard;
    if black_box.slot.stack_bytes.load(Ordering::Relaxed) == 0 {
        // The next guard inherits what this process has become, and may have fewer rights than the last.
        slot::copy_stack(black_box);
    }
    if word != guard::CALLED {
        let _ = guard.compare_exchange(word, guard::CALLED, Ordering::AcqRel, Ordering::Relaxed);
        futex::wake_all(guard);
    }
    true
}

/// Ends a guard that is silent, and waits until that is true; only then may another be started.
/// False when it can't be proved: then no other is started, so that there are never two.
fn end_guard(black_box: &BlackBox, word: u32, tid: u32) -> bool {
    let control = &black_box.control;
    if control.answer.load(Ordering::Acquire) != answer::NONE {
        return true;
    }
    // The word lies in memory that the crash may have overwritten; only the process that our keeper started is ended.
    let Some(pid) = guards::to_be_ended(tid) else { return false };
    if syscall::kill(pid as i32, libc::SIGKILL).is_err() {
        return false;
    }
    let deadline_ns =
        time::monotonic_ns().saturating_add(u64::from(limits::GUARD_DEATH_MS_MAX) * 1_000_000);
    while control.guard.load(Ordering::Acquire) == word {
        if futex::wait_and_pass_on(&control.guard, word, Some(deadline_ns))
            == futex::Woken::TimedOut
        {
            return false;
        }
    }
    true
}
