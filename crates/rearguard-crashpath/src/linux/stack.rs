//! Stacks for moments when the thread's own can't be trusted.

use super::syscall::{Result, call};

/// Memory for a stack with an inaccessible page at either end, never given back by itself.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    lowest: usize,
    bytes: usize,
}

/// The largest page of the supported processors; smaller ones divide it.
const PAGE_BYTES: usize = if cfg!(target_arch = "aarch64") { 64 * 1024 } else { 4096 };

impl Stack {
    /// Maps a stack of `bytes`. Not for the crash path: make it beforehand.
    ///
    /// # Errors
    ///
    /// ENOMEM, mostly.
    pub fn map(bytes: usize) -> Result<Stack> {
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let whole = bytes.wrapping_add(2 * PAGE_BYTES);
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe {
            call(
                libc::SYS_mmap,
                [
                    0,
                    whole,
                    (libc::PROT_READ | libc::PROT_WRITE) as usize,
                    flags as usize,
                    usize::MAX,
                    0,
                ],
            )?
        };
        let lowest = start.wrapping_add(PAGE_BYTES);
        for guard_page in [start, lowest.wrapping_add(bytes)] {
            // SAFETY: both pages belong to the mapping that was just made, and nothing refers to them.
            unsafe {
                call(
                    libc::SYS_mprotect,
                    [guard_page, PAGE_BYTES, libc::PROT_NONE as usize, 0, 0, 0],
                )?
            };
        }
        Ok(Stack { lowest, bytes })
    }

    /// Gives the memory back.
    ///
    /// # Safety
    ///
    /// Nothing may run on it or refer to it.
    pub unsafe fn unmap(self) {
        let start = self.lowest.wrapping_sub(PAGE_BYTES);
        // SAFETY: the range is the one that `map` made; the caller answers for its being unused.
        let _ = unsafe {
            call(libc::SYS_munmap, [start, self.bytes.wrapping_add(2 * PAGE_BYTES), 0, 0, 0, 0])
        };
    }

    /// The address above the highest byte, aligned for a call.
    #[must_use]
    pub fn top(&self) -> usize {
        self.lowest.wrapping_add(self.bytes)
    }

    /// The lowest usable address.
    #[must_use]
    pub fn lowest(&self) -> usize {
        self.lowest
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Makes the pages of a stack present without changing a byte of it, even while somebody runs on it.
pub(super) fn touch(lowest: usize, bytes: usize) {
    // The smallest page counts here, whatever this system has.
    for page in (0..bytes).step_by(4096) {
        let address = lowest.wrapping_add(page) as *mut u8;
        // SAFETY: the stack is mapped for the life of the process, and an atomic addition of nothing changes nothing for whoever uses it.
        let byte = unsafe { core::sync::atomic::AtomicU8::from_ptr(address) };
        byte.fetch_add(core::hint::black_box(0), core::sync::atomic::Ordering::Relaxed);
    }
}

/// Makes `lowest..lowest+bytes` the calling thread's alternate signal stack (`sigaltstack(2)`), and returns the earlier one.
///
/// # Errors
///
/// EPERM while the thread runs on its alternate stack.
///
/// # Safety
///
/// The memory must stay mapped and unused by anything else for as long as it is in force.
pub unsafe fn set_alternate(lowest: usize, bytes: usize) -> Result<libc::stack_t> {
    let new = libc::stack_t { ss_sp: lowest as *mut libc::c_void, ss_flags: 0, ss_size: bytes };
    // SAFETY: the caller answers for the memory.
    unsafe { exchange_alternate(&new) }
}

/// Puts an alternate stack back as [`set_alternate`] returned it.
///
/// # Errors
///
/// As there.
///
/// # Safety
///
/// As there.
pub unsafe fn exchange_alternate(new: &libc::stack_t) -> Result<libc::stack_t> {
    let mut earlier = libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: both pointers refer to living values; the caller answers for the stack itself.
    unsafe {
        call(
            libc::SYS_sigaltstack,
            [core::ptr::from_ref(new) as usize, &raw mut earlier as usize, 0, 0, 0, 0],
        )?
    };
    Ok(earlier)
}

/// The calling thread's alternate stack; `SS_DISABLE` in its flags when it has none.
#[must_use]
pub fn alternate() -> libc::stack_t {
    let mut current =
        libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: the pointer refers to a living value, and asking changes nothing.
    let _ = unsafe { call(libc::SYS_sigaltstack, [0, &raw mut current as usize, 0, 0, 0, 0]) };
    current
}

/// Calls `function(argument)` on another stack and comes back.
///
/// # Safety
///
/// `top` must be the aligned upper end of unused stack memory, large enough for the call.
pub unsafe fn call_on(top: usize, function: extern "C" fn(*mut u8), argument: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the stack pointer is kept in a register that the callee preserves, and is put back.
    unsafe {
        core::arch::asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {function}",
            "mov rsp, r12",
            top = in(reg) top,
            function = in(reg) function,
            in("rdi") argument,
            out("r12") _,
            clobber_abi("C"),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "mov x20, sp",
            "mov sp, {top}",
            "blr {function}",
            "mov sp, x20",
            top = in(reg) top,
            function = in(reg) function,
            in("x0") argument,
            out("x20") _,
            clobber_abi("C"),
        );
    }
}
