//! The clocks, read by system call: the C library's fast path is out of reach, and 100 ns don't matter in a crash.

use super::syscall::call;

fn read(clock: libc::clockid_t) -> u64 {
    let mut value = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer refers to a living timespec.
    let done = unsafe {
        call(libc::SYS_clock_gettime, [clock as usize, &raw mut value as usize, 0, 0, 0, 0])
    };
    match done {
        Ok(_) => {
            (value.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(value.tv_nsec as u64)
        }
        Err(_) => 0,
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
#[must_use]
#[inline(always)]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// CLOCK_BOOTTIME in nanoseconds: goes on while the machine sleeps.
#[must_use]
#[inline(always)]
pub fn boot_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

/// CLOCK_REALTIME in nanoseconds.
#[must_use]
#[inline(always)]
pub fn real_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Sleeps for about `duration_ns`, however often it is interrupted.
pub fn sleep_ns(duration_ns: u64) {
    let deadline_ns = monotonic_ns().saturating_add(duration_ns);
    let until = libc::timespec {
        tv_sec: (deadline_ns / 1_000_000_000) as i64,
        tv_nsec: (deadline_ns % 1_000_000_000) as i64,
    };
    while monotonic_ns() < deadline_ns {
        // SAFETY: the pointer refers to a living timespec; the remainder isn't asked for with an absolute time.
        let _ = unsafe {
            call(
                libc::SYS_clock_nanosleep,
                [
                    libc::CLOCK_MONOTONIC as usize,
                    libc::TIMER_ABSTIME as usize,
                    &raw const until as usize,
                    0,
                    0,
                    0,
                ],
            )
        };
    }
}
