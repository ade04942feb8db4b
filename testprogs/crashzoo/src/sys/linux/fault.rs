//! The faults that need the kernel's help.

#![expect(unsafe_code, reason = "every function here exists to break one rule of the machine")]

use super::memory;

/// Reads a file's page that is no longer in the file: SIGBUS.
#[inline(never)]
pub(crate) fn truncated_mapping() -> Result<(), String> {
    let page = memory::truncated_page()?;
    // SAFETY: the page belongs to a mapping of ours; the read has no effect but the signal.
    let byte = unsafe { (page as *const u8).read_volatile() };
    std::hint::black_box(byte);
    Ok(())
}

/// SIGFPE, raised by hand.
#[cfg(target_arch = "aarch64")]
pub(crate) fn divide_by_zero() {
    // SAFETY: raise has no preconditions.
    unsafe {
        libc::raise(libc::SIGFPE);
    }
}
