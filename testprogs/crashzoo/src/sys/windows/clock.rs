//! The performance counter, which all processes of the system share.

#![expect(unsafe_code, reason = "std's Instant doesn't show the clock's own value")]

use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds of the performance counter.
pub(crate) fn now_ns() -> u64 {
    let mut ticks = 0;
    let mut per_second = 0;
    // SAFETY: `ticks` is a live number, which is all that the call writes to.
    let told = unsafe { QueryPerformanceCounter(&raw mut ticks) };
    debug_assert_ne!(told, 0, "the counter is always there");
    // SAFETY: as above, for `per_second`.
    let told = unsafe { QueryPerformanceFrequency(&raw mut per_second) };
    debug_assert_ne!(told, 0, "the counter has a frequency");
    nanoseconds(ticks.unsigned_abs(), per_second.unsigned_abs())
}

/// Whole seconds apart from the rest: a product of all ticks would overflow after half an hour at 10 MHz.
fn nanoseconds(ticks: u64, per_second: u64) -> u64 {
    let per_second = per_second.max(1);
    let rest = ticks % per_second * NS_PER_SECOND / per_second;
    ticks / per_second * NS_PER_SECOND + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: ticks of any usual counter become nanoseconds, after years of uptime too.
    #[test]
    fn ticks_become_nanoseconds() {
        assert_eq!(nanoseconds(3, 10_000_000), 300);
        assert_eq!(nanoseconds(10_000_001, 10_000_000), 1_000_000_100);
        assert_eq!(nanoseconds(7, 3_000_000_000), 2);
        let ten_years = 10 * 365 * 24 * 3600;
        assert_eq!(
            nanoseconds(ten_years * 3_000_000_000, 3_000_000_000),
            ten_years * NS_PER_SECOND
        );
    }
}
