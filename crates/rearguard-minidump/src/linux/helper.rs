//! Runs the frozen phase on a thread of its own, whose end lets everything go.
//!
//! ptrace knows tracers as threads, and the end of a tracer detaches all its tracees at once, even those that never stopped: there is no other way to be rid of a thread that sleeps in the kernel without regard to signals.
//! It is also faster than one PTRACE_DETACH after the other, and a signal that a thread was about to take isn't lost.
//!
//! The thread is made without the threads library, which would cost the guard 20 KB.
//! CLONE_VFORK suspends the caller until the new thread is done, so it works like a call on another stack: the new thread uses the caller's thread-local storage, and nobody else does meanwhile.
//! It is a thread and not a process, so that what kills or stops the caller kills or stops it too.

#![expect(unsafe_code, reason = "a thread without the threads library")]

use core::arch::asm;
use core::ffi::{c_int, c_void};

use super::sys::{self, Errno};

/// The stack of the frozen phase: its largest frame holds a batch of 1,024 pieces, 16 KiB; the rest is for the callers of the probe.
const STACK_BYTES: usize = 256 * 1024;

/// The largest page of the supported processors.
const GUARD_BYTES: usize = 64 * 1024;

/// How long the end of the thread is waited for, once it is done with its work.
const END_WAIT_NS_MAX: u64 = 1_000_000_000;

/// How long the wait gives the processor to others before it begins to sleep.
///
/// The end of a tracer of few threads takes less than this; for one of many a waiter that yields would take part of the processor from those who are let go.
const YIELD_NS_MAX: u64 = 60_000;

/// How long it sleeps then between two looks.
const LOOK_PERIOD_NS: u32 = 30_000;

const FLAGS: c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_VFORK;

/// Runs `work` on a thread of its own and waits until that has ended; an error means that it wasn't run.
pub(super) fn run<F: FnMut()>(mut work: F) -> Result<(), Errno> {
    let (stack, len) = sys::map_stack(STACK_BYTES, GUARD_BYTES)?;
    // SAFETY: the mapping has `len` bytes, so this is its end.
    let top = unsafe { stack.byte_add(len) };
    let argument: *mut c_void = (&raw mut work).cast();
    // SAFETY: the stack is mapped and unused, `argument` points to the `F` that `entry` expects, and CLONE_VFORK keeps both alive until the thread is done.
    let tid = unsafe { clone(entry::<F>, top, argument) };
    let result = if tid > 0 { wait_end(tid) } else { Err(-tid) };
    if result != Err(libc::ETIMEDOUT) {
        // SAFETY: the thread has ended, or was never made.
        unsafe { sys::unmap_stack(stack, len) };
    }
    match result {
        // The work is done all the same; the mapping stays, in case the thread does too.
        Err(libc::ETIMEDOUT) => Ok(()),
        other => other,
    }
}

extern "C" fn entry<F: FnMut()>(argument: *mut c_void) {
    // SAFETY: `run` passes a pointer to its own `F` and is suspended until this thread ends.
    let work = unsafe { &mut *argument.cast::<F>() };
    work();
}

/// Makes the thread, which calls `entry` and ends; returns its id, or an error number below zero.
///
/// The C library's function isn't used because musl's refuses CLONE_THREAD.
///
/// # Safety
///
/// `top` is the end of an unused stack, aligned to 16 bytes, that stays until the thread has ended, and `entry` may be called with `argument`.
#[cfg(target_arch = "x86_64")]
unsafe fn clone(entry: extern "C" fn(*mut c_void), top: *mut c_void, argument: *mut c_void) -> c_int {
    let result: i64;
    // SAFETY: the new thread finds the registers of this one, uses only its own stack, and never leaves the block; this thread goes on behind the label with no register changed but those that are named.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            // The end of the frames, for whoever unwinds them.
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone => result,
            in("rdi") i64::from(FLAGS),
            in("rsi") top,
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            in("r12") entry,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result as c_int
}

/// Makes the thread, which calls `entry` and ends; returns its id, or an error number below zero.
///
/// The C library's function isn't used because musl's refuses CLONE_THREAD.
///
/// # Safety
///
/// `top` is the end of an unused stack, aligned to 16 bytes, that stays until the thread has ended, and `entry` may be called with `argument`.
#[cfg(target_arch = "aarch64")]
unsafe fn clone(entry: extern "C" fn(*mut c_void), top: *mut c_void, argument: *mut c_void) -> c_int {
    let result: i64;
    // SAFETY: the new thread finds the registers of this one, uses only its own stack, and never leaves the block; this thread goes on behind the label with no register changed but those that are named.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            // The end of the frames, for whoever unwinds them.
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x21",
            "blr x20",
            "mov x0, xzr",
            "mov x8, {exit}",
            "svc 0",
            "brk 1",
            "2:",
            exit = const libc::SYS_exit,
            in("x8") libc::SYS_clone,
            inlateout("x0") i64::from(FLAGS) => result,
            in("x1") top,
            in("x2") 0,
            in("x3") 0,
            in("x4") 0,
            in("x20") entry,
            in("x21") argument,
        );
    }
    result as c_int
}

/// Waits until the kernel has ended the thread, which is later than the end of CLONE_VFORK's suspension: tracees are detached in between.
fn wait_end(tid: c_int) -> Result<(), Errno> {
    let (pid, _) = sys::own_ids();
    let start = sys::now_ns();
    while sys::thread_exists(pid, tid) {
        let waited = sys::now_ns().saturating_sub(start);
        if waited > END_WAIT_NS_MAX {
            return Err(libc::ETIMEDOUT);
        }
        if waited < YIELD_NS_MAX {
            sys::yield_now();
        } else {
            sys::sleep_ns(LOOK_PERIOD_NS);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_by_another_thread_of_the_process() {
        let before = sys::own_ids();
        let mut inside = (0, 0);
        let mut text = String::new();
        run(|| {
            inside = sys::own_ids();
            text = "made there".repeat(1000);
        })
        .unwrap();
        assert_eq!(inside.0, before.0);
        assert_ne!(inside.1, before.1);
        assert_eq!(text.len(), 10_000);
        assert!(!sys::thread_exists(inside.0, inside.1));
    }
}
