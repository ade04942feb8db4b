//! Runs the frozen phase on a thread of its own, whose end lets everything go.
//!
//! ptrace knows tracers as threads, and the end of a tracer detaches all its tracees at once, even those that never stopped: there is no other way to be rid of a thread that sleeps in the kernel without regard to signals.
//! It is also faster than one PTRACE_DETACH after the other, and a signal that a thread was about to take isn't lost.
//!
//! The thread is made without the threads library, which would cost the guard 20 KB.
//! CLONE_VFORK suspends the caller until the new thread is done, so it works like a call on another stack: the new thread uses the caller's thread-local storage, and nobody else does meanwhile.
//! It is a thread and not a process, so that what kills or stops the caller kills or stops it too.

#![expect(unsafe_code, reason = "clone takes a stack")]

use core::ffi::{c_int, c_void};

use super::sys::{self, Errno};

/// The stack of the frozen phase: its largest frame holds a batch of 1,024 pieces, 16 KiB; the rest is for the callers of the probe.
const STACK_BYTES: usize = 256 * 1024;

/// The largest page of the supported processors.
const GUARD_BYTES: usize = 64 * 1024;

/// How long the end of the thread is waited for, once it is done with its work.
const END_WAIT_NS_MAX: u64 = 1_000_000_000;

/// How often the processor is given to others before the wait begins to sleep.
const YIELDS_MAX: u32 = 2000;

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
    let tid = unsafe { libc::clone(entry::<F>, top, FLAGS, argument) };
    let result = if tid > 0 { wait_end(tid) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN)) };
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

extern "C" fn entry<F: FnMut()>(argument: *mut c_void) -> c_int {
    // SAFETY: `run` passes a pointer to its own `F` and is suspended until this thread ends.
    let work = unsafe { &mut *argument.cast::<F>() };
    work();
    0
}

/// Waits until the kernel has ended the thread, which is later than the end of CLONE_VFORK's suspension: tracees are detached in between.
fn wait_end(tid: c_int) -> Result<(), Errno> {
    let (pid, _) = sys::own_ids();
    let deadline = sys::now_ns().saturating_add(END_WAIT_NS_MAX);
    let mut yields = 0;
    while sys::thread_exists(pid, tid) {
        if sys::now_ns() > deadline {
            return Err(libc::ETIMEDOUT);
        }
        if yields < YIELDS_MAX {
            yields += 1;
            sys::yield_now();
        } else {
            sys::sleep_ns(50_000);
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
