//! Clocks: the counter that all processes share, and the calendar.

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};
use windows_sys::Win32::System::SystemInformation::{
    GetSystemTimePreciseAsFileTime, GetTickCount64,
};

/// Seconds between the beginning of FILETIME (1601) and that of Unix time, in units of 100 ns.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

/// The performance counter in nanoseconds since it began; the same in all processes (MSDN, QueryPerformanceCounter).
#[must_use]
pub fn monotonic_ns() -> u64 {
    let (mut ticks, mut per_second) = (0_i64, 0_i64);
    // SAFETY: the pointer refers to a living number; the call can't fail on any supported system.
    unsafe { QueryPerformanceCounter(&raw mut ticks) };
    // SAFETY: as above.
    unsafe { QueryPerformanceFrequency(&raw mut per_second) };
    let (ticks, per_second) = (ticks.unsigned_abs(), per_second.unsigned_abs().max(1));
    // In two parts, so that nothing overflows for centuries.
    let whole = ticks / per_second;
    let rest = ticks % per_second;
    whole.wrapping_mul(1_000_000_000).wrapping_add(rest.wrapping_mul(1_000_000_000) / per_second)
}

/// Time since the system's start in nanoseconds, sleep included; its resolution is some milliseconds.
#[must_use]
pub fn boot_ns() -> u64 {
    // SAFETY: no memory is involved.
    unsafe { GetTickCount64() }.wrapping_mul(1_000_000)
}

/// Unix time in nanoseconds.
#[must_use]
pub fn real_ns() -> u64 {
    let mut now = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
    // SAFETY: the pointer refers to a living structure.
    unsafe { GetSystemTimePreciseAsFileTime(&raw mut now) };
    let ticks = u64::from(now.dwHighDateTime) << 32 | u64::from(now.dwLowDateTime);
    ticks.saturating_sub(UNIX_EPOCH).saturating_mul(100)
}

/// Sleeps.
pub fn sleep_ms(duration_ms: u32) {
    // SAFETY: no memory is involved.
    unsafe { windows_sys::Win32::System::Threading::Sleep(duration_ms) };
}
