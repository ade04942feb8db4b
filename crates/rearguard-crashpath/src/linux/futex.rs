//! Sleeping on a word of shared memory (`futex(2)`), always across processes.

use core::sync::atomic::AtomicU32;

use super::syscall::{Errno, call};
use super::time;

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Somebody woke us, a signal was handled, or the word had changed already: look again.
    Look,
    /// The deadline passed.
    TimedOut,
}

/// Sleeps while `word` holds `expected`, at most until `deadline_ns` of CLOCK_MONOTONIC; `None` has no deadline and is for the two idle loops only.
pub fn wait(word: &AtomicU32, expected: u32, deadline_ns: Option<u64>) -> Woken {
    let until = deadline_ns.map(|deadline| libc::timespec {
        tv_sec: (deadline / 1_000_000_000) as i64,
        tv_nsec: (deadline % 1_000_000_000) as i64,
    });
    let until_address = until.as_ref().map_or(0, |until| core::ptr::from_ref(until) as usize);
    // FUTEX_WAIT_BITSET takes an absolute time, so an interrupted sleep that is taken up again doesn't grow.
    // SAFETY: the word lives as long as its reference, and the time for the length of this call.
    let done = unsafe {
        call(
            libc::SYS_futex,
            [
                word.as_ptr() as usize,
                libc::FUTEX_WAIT_BITSET as usize,
                expected as usize,
                until_address,
                0,
                libc::FUTEX_BITSET_MATCH_ANY as u32 as usize,
            ],
        )
    };
    match done {
        Err(Errno(libc::ETIMEDOUT)) => Woken::TimedOut,
        // A kernel that refuses to sleep must not make a loop of its caller spin for ever.
        Err(Errno(libc::EAGAIN | libc::EINTR)) | Ok(_) => Woken::Look,
        Err(_) => match deadline_ns {
            Some(deadline) if time::monotonic_ns() < deadline => {
                time::sleep_ns(1_000_000);
                Woken::Look
            }
            Some(_) => Woken::TimedOut,
            None => {
                time::sleep_ns(100_000_000);
                Woken::Look
            }
        },
    }
}

/// Wakes everybody who sleeps on `word`.
pub fn wake_all(word: &AtomicU32) {
    // SAFETY: the word lives as long as its reference; waking reads nothing.
    let _ = unsafe {
        call(
            libc::SYS_futex,
            [word.as_ptr() as usize, libc::FUTEX_WAKE as usize, i32::MAX as usize, 0, 0, 0],
        )
    };
}

/// Sleeps on a word whose owner's death wakes only one sleeper (`futex(2)`): whoever is woken passes it on.
pub fn wait_and_pass_on(word: &AtomicU32, expected: u32, deadline_ns: Option<u64>) -> Woken {
    let woken = wait(word, expected, deadline_ns);
    wake_all(word);
    woken
}
