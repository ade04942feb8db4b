//! The faults that are the system's own instructions.

#![expect(unsafe_code, reason = "every function here exists to break one rule of the machine")]

use std::arch::asm;

/// What the C library's abort and Rust's give as their reason.
const FAST_FAIL_FATAL_APP_EXIT: u32 = 7;

/// Asks the kernel to end the process at once: no handler of the process is called.
#[inline(never)]
pub(crate) fn fast_fail() {
    // SAFETY: the instruction ends the process.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("int 0x29", in("ecx") FAST_FAIL_FATAL_APP_EXIT);
        #[cfg(target_arch = "aarch64")]
        asm!("brk #0xf003", in("w0") FAST_FAIL_FATAL_APP_EXIT);
    }
}

/// What compilers put behind a divisor of zero.
#[cfg(target_arch = "aarch64")]
pub(crate) fn divide_by_zero() {
    // SAFETY: the instruction has no effect but the exception.
    unsafe {
        asm!("brk #0xf004");
    }
}
