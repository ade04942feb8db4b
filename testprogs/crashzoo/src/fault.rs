//! The faults that a processor raises, in instructions rather than in Rust.
//!
//! A null write in Rust is undefined, so the compiler may leave it out, and debug builds turn it into a panic; the instructions here do the same in every build.
//! Called by `ways`, and by `badguard` whose guard has to crash before it does anything.

#![expect(unsafe_code, reason = "every function here exists to break one rule of the machine")]

use std::arch::asm;

use crate::sys::memory;

/// Writes to address 0: SIGSEGV, an access violation.
#[inline(never)]
pub fn null_write() {
    // SAFETY: nothing is mapped at 0, so this ends in a fault and no object of ours is written.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov dword ptr [{0}], 1", in(reg) 0usize);
        #[cfg(target_arch = "aarch64")]
        asm!("str wzr, [{0}]", in(reg) 0usize);
    }
}

/// Calls address 0: the instruction pointer itself is the bad address, so there is no code to show around it.
#[inline(never)]
pub(crate) fn null_call() {
    call(0);
}

/// Calls an address that is mapped but holds no code.
#[inline(never)]
pub(crate) fn jump_bad_address() -> Result<(), String> {
    let page = memory::forbidden_pages(1)?;
    call(page);
    Ok(())
}

fn call(address: usize) {
    // SAFETY: no code can run at `address`, so the call ends in a fault at its first instruction.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("call {0}", in(reg) address, clobber_abi("C"));
        #[cfg(target_arch = "aarch64")]
        asm!("blr {0}", in(reg) address, clobber_abi("C"));
    }
}

/// Pushes to a stack that can't be read or written: whoever walks the stack from the registers finds nothing.
#[inline(never)]
pub(crate) fn bad_stack() -> Result<(), String> {
    let page = memory::forbidden_pages(2)?;
    let top = page + memory::page_bytes();
    // SAFETY: the push faults, and the process dies with this stack pointer; `noreturn` keeps the compiler from using
    // the stack afterwards.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov rsp, {0}", "push rax", "ud2", in(reg) top, options(noreturn));
        #[cfg(target_arch = "aarch64")]
        asm!("mov sp, {0}", "str x0, [sp, #-16]!", "udf #0", in(reg) top, options(noreturn));
    }
}

/// An instruction that doesn't exist: SIGILL, an illegal instruction.
#[inline(never)]
pub(crate) fn illegal_instruction() {
    // SAFETY: the instruction has no effect but the fault.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("ud2");
        #[cfg(target_arch = "aarch64")]
        asm!("udf #0");
    }
}

/// A breakpoint with no debugger behind it: SIGTRAP, after which a handler that merely returns would go on.
#[inline(never)]
pub(crate) fn breakpoint() {
    // SAFETY: the instruction has no effect but the fault.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("int3");
        #[cfg(target_arch = "aarch64")]
        asm!("brk #1");
    }
}

/// A division by zero: SIGFPE, an exception of that name.
/// On aarch64 division doesn't trap, so the system is asked there.
#[inline(never)]
pub(crate) fn divide_by_zero() {
    // SAFETY: the division faults before it writes the two registers that it is said to write.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("xor edx, edx", "mov eax, 1", "div {0:e}", in(reg) 0u32, out("eax") _, out("edx") _);
    }
    #[cfg(target_arch = "aarch64")]
    crate::sys::fault::divide_by_zero();
}
