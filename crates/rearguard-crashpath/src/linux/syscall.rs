//! Raw system calls.
//!
//! The C library's wrappers write `errno` in thread-local storage, may be interposed by the application, and some take locks; none of that may happen in a crashed thread.

use core::arch::asm;

/// An error number of the kernel, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a system call returned, or its error.
pub type Result<T = usize> = core::result::Result<T, Errno>;

/// Turns the kernel's return value into a result: the last page of numbers are errors.
fn check(value: isize) -> Result {
    if (-4095..0).contains(&value) { Err(Errno(-(value as i32))) } else { Ok(value as usize) }
}

/// One system call with up to six arguments.
///
/// # Errors
///
/// The kernel's error number.
///
/// # Safety
///
/// The call with these arguments must be sound: pointers valid for what the kernel does with them, and no memory or mapping of Rust's taken away.
#[inline(always)]
pub unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> Result {
    let [a, b, c, d, e, f] = arguments;
    // Hardly any call has a sixth argument, and five go in registers.
    check(if f == 0 {
        // SAFETY: the caller answers for the call.
        unsafe { call_with_five(number, a, b, c, d, e) }
    } else {
        // SAFETY: as above.
        unsafe { enter(number, a, b, c, d, e, f) }
    })
}

/// # Safety
///
/// As [`call`].
#[inline(never)]
unsafe fn call_with_five(
    number: libc::c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> isize {
    // SAFETY: the caller answers for the call.
    unsafe { enter(number, a, b, c, d, e, 0) }
}

/// # Safety
///
/// As [`call`].
#[inline(always)]
unsafe fn enter(
    number: libc::c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> isize {
    let value: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller answers for the call; the clobbers are those of the kernel's convention (syscall(2)).
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => value,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the caller answers for the call; the kernel preserves all other registers (syscall(2)).
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => value,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    value
}

/// A system call whose arguments are plain numbers and which touches no memory of ours.
macro_rules! plain {
    ($number:expr) => { plain!(@ $number, 0, 0, 0, 0) };
    ($number:expr, $a:expr) => { plain!(@ $number, $a, 0, 0, 0) };
    ($number:expr, $a:expr, $b:expr) => { plain!(@ $number, $a, $b, 0, 0) };
    ($number:expr, $a:expr, $b:expr, $c:expr) => { plain!(@ $number, $a, $b, $c, 0) };
    ($number:expr, $a:expr, $b:expr, $c:expr, $d:expr) => { plain!(@ $number, $a, $b, $c, $d) };
    (@ $number:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {{
        let arguments = [$a as usize, $b as usize, $c as usize, $d as usize, 0, 0];
        // SAFETY: every argument is a number, none is a pointer, so no memory of ours is touched.
        unsafe { $crate::syscall::call($number, arguments) }
    }};
}

/// The calling process's id.
#[must_use]
pub fn getpid() -> i32 {
    plain!(libc::SYS_getpid).map_or(0, |pid| pid as i32)
}

/// The parent's process id; zero where it is in another namespace.
#[must_use]
pub fn getppid() -> i32 {
    plain!(libc::SYS_getppid).map_or(0, |pid| pid as i32)
}

/// The calling thread's id.
#[must_use]
pub fn gettid() -> i32 {
    plain!(libc::SYS_gettid).map_or(0, |tid| tid as i32)
}

/// Sends a signal to a process (`kill(2)`).
///
/// # Errors
///
/// ESRCH when there is none, EPERM when it belongs to somebody else.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    plain!(libc::SYS_kill, pid, signal).map(drop)
}

/// Closes a descriptor.
pub fn close(fd: i32) {
    // Nothing can be done about an error: the number is free afterwards in every case (close(2)).
    let _ = plain!(libc::SYS_close, fd);
}

/// Ends the process with all its threads.
pub fn exit_group(status: i32) -> ! {
    loop {
        let _ = plain!(libc::SYS_exit_group, status);
    }
}

/// Ends the calling thread, or the process that a raw clone made.
pub fn exit(status: i32) -> ! {
    loop {
        let _ = plain!(libc::SYS_exit, status);
    }
}

/// Names the process that may trace this one (`PR_SET_PTRACER`); without Yama the kernel answers EINVAL, which is success here.
pub fn allow_tracer(pid: u32) {
    let _ = plain!(libc::SYS_prctl, libc::PR_SET_PTRACER, pid);
}

/// Waits for events on up to a few descriptors (`ppoll(2)`), for at most `timeout_ms`.
///
/// # Errors
///
/// EINTR when a signal was handled.
pub fn poll(entries: &mut [libc::pollfd], timeout_ms: u32) -> Result {
    // The kernel writes the time that is left to where it read the limit.
    let mut timeout = libc::timespec {
        tv_sec: i64::from(timeout_ms / 1000),
        tv_nsec: i64::from(timeout_ms % 1000) * 1_000_000,
    };
    // SAFETY: both pointers refer to living values of the length given.
    unsafe {
        call(
            libc::SYS_ppoll,
            [entries.as_mut_ptr() as usize, entries.len(), &raw mut timeout as usize, 0, 0, 0],
        )
    }
}

/// Blocks every signal of the calling thread and returns the mask that was in force.
#[must_use]
#[inline(always)]
pub fn block_all_signals() -> u64 {
    set_signal_mask(!0)
}

/// Sets the calling thread's signal mask, one bit a signal from bit 0, and returns the earlier one.
pub fn set_signal_mask(mask: u64) -> u64 {
    let mut earlier = 0u64;
    let _ = {
        // SAFETY: both pointers refer to living eight-byte values, the size that is passed.
        unsafe {
            call(
                libc::SYS_rt_sigprocmask,
                [
                    libc::SIG_SETMASK as usize,
                    &raw const mask as usize,
                    &raw mut earlier as usize,
                    8,
                    0,
                    0,
                ],
            )
        }
    };
    earlier
}

/// The bit of `signal` in a signal mask.
#[must_use]
pub const fn signal_bit(signal: i32) -> u64 {
    1u64.wrapping_shl((signal as u32).wrapping_sub(1))
}

pub(crate) use plain;
