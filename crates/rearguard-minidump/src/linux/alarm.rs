//! A timer that interrupts a blocking wait.
//!
//! waitpid has no time limit, and a thread that sleeps in the kernel without regard to signals never stops.
//! Asking again and again without blocking takes the processor from the very threads that have to stop, so the wait blocks and a repeating signal ends it: a single one could come just before the wait begins.
//! The signal is SIGURG because it is ignored by default: one that comes late does no harm.

#![expect(unsafe_code, reason = "signal handlers and timers")]

use core::ffi::{c_int, c_void};
use core::mem;
use core::ptr;

use super::sys;

/// How often the wait is interrupted; a wait may last that much longer than its deadline.
const PERIOD_NS: i64 = 10_000_000;

const SIGNAL: c_int = libc::SIGURG;

/// The timer; dropping it takes it away and puts the handler and the mask back.
pub(super) struct Alarm {
    timer: c_int,
    handler: libc::sigaction,
    mask: libc::sigset_t,
}

extern "C" fn interrupt(_signal: c_int) {}

impl Alarm {
    /// Starts the timer for the calling thread; `None` when the system refuses.
    pub(super) fn start() -> Option<Alarm> {
        // SAFETY: all bytes of the structure may be zero; the handler is replaced below.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        // No SA_RESTART: the interrupted call has to return.
        action.sa_sigaction = interrupt as *const () as usize;
        // SAFETY: all bytes of the structure may be zero, and the kernel fills it.
        let mut handler: libc::sigaction = unsafe { mem::zeroed() };
        // SAFETY: the handler does nothing, so it may run anywhere; both structures are valid.
        if unsafe { libc::sigaction(SIGNAL, &raw const action, &raw mut handler) } != 0 {
            return None;
        }
        let mut alarm = Alarm { timer: -1, handler, mask: unblock() };
        alarm.timer = create()?;
        let period = libc::timespec { tv_sec: 0, tv_nsec: PERIOD_NS };
        let times = libc::itimerspec { it_interval: period, it_value: period };
        let none: *mut c_void = ptr::null_mut();
        // SAFETY: the timer was just made, and the kernel reads one structure.
        let result = unsafe { libc::syscall(libc::SYS_timer_settime, alarm.timer, 0, &raw const times, none) };
        (result == 0).then_some(alarm)
    }
}

/// Lets the signal through for this thread; returns the mask from before.
fn unblock() -> libc::sigset_t {
    // SAFETY: all bytes of the set may be zero: the empty set.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: all bytes of the set may be zero, and the call below fills it.
    let mut before: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the set is valid and the signal exists.
    unsafe { libc::sigaddset(&raw mut set, SIGNAL) };
    // SAFETY: both sets are valid.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, &raw mut before) };
    before
}

/// A timer that signals the calling thread.
fn create() -> Option<c_int> {
    // SAFETY: all bytes of the structure may be zero.
    let mut event: libc::sigevent = unsafe { mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = SIGNAL;
    event.sigev_notify_thread_id = sys::own_ids().1;
    let mut timer: c_int = -1;
    // The system call rather than the C library's function, whose timers have another type.
    // SAFETY: the kernel reads one structure and writes one number.
    let result =
        unsafe { libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    (result == 0).then_some(timer)
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.timer >= 0 {
            // SAFETY: the timer is this value's own.
            unsafe { libc::syscall(libc::SYS_timer_delete, self.timer) };
        }
        // SAFETY: the mask is the one that the thread had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut()) };
        // SAFETY: the action is the one that the process had before.
        unsafe { libc::sigaction(SIGNAL, &raw const self.handler, ptr::null_mut()) };
    }
}
