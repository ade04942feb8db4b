//! One value that one thread leaves for another, which waits for it or looks whether it is there.
//!
//! The standard library's own waits and initialises by code that cost the guard two kilobytes.

#![expect(unsafe_code, reason = "a value that is written once and then read by all")]

use core::cell::UnsafeCell;
use core::hint;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use super::sys;

/// A value is about to be there, or it is there; somebody sleeps until it is.
const WRITING: u32 = 1;
const THERE: u32 = 2;
const AWAITED: u32 = 4;

/// A place for one value.
#[derive(Debug)]
pub(super) struct Handover<T> {
    state: State,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is written by the one thread that made the state WRITING, and only read once it is THERE.
unsafe impl<T: Send + Sync> Sync for Handover<T> {}

impl<T> Handover<T> {
    pub(super) const fn new() -> Handover<T> {
        Handover { state: State(AtomicU32::new(0)), value: UnsafeCell::new(None) }
    }

    /// Leaves the value; a second one is dropped.
    pub(super) fn set(&self, value: T) {
        if self.state.0.fetch_or(WRITING, Ordering::Acquire) & (WRITING | THERE) == 0 {
            // SAFETY: only the thread that made the state WRITING comes here, and nobody reads before it is THERE.
            unsafe { *self.value.get() = Some(value) };
            self.state.tell();
        }
    }

    /// The value, if it is there.
    pub(super) fn get(&self) -> Option<&T> {
        if self.state.0.load(Ordering::Acquire) & THERE == 0 {
            return None;
        }
        // SAFETY: the value was written before the state became THERE, and nobody writes afterwards.
        unsafe { &*self.value.get() }.as_ref()
    }

    /// Waits for the value, which the other thread leaves whatever happens to it.
    pub(super) fn wait(&self) -> Option<&T> {
        self.state.wait();
        self.get()
    }

    /// Looks for the value without a pause, for some time.
    pub(super) fn wait_awake(&self, ns_max: u64) {
        let start = sys::now_ns();
        while self.get().is_none() && sys::now_ns().saturating_sub(start) < ns_max {
            hint::spin_loop();
        }
    }

    pub(super) fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

/// Bits of what there is, and of who waits for it; a futex.
#[derive(Debug)]
struct State(AtomicU32);

impl State {
    fn tell(&self) {
        if self.0.fetch_or(THERE, Ordering::Release) & AWAITED != 0 {
            self.futex(libc::FUTEX_WAKE, 1);
        }
    }

    fn wait(&self) {
        loop {
            let state = self.0.fetch_or(AWAITED, Ordering::Acquire) | AWAITED;
            if state & THERE != 0 {
                return;
            }
            // One that has changed meanwhile is looked at again at once.
            self.futex(libc::FUTEX_WAIT, state);
        }
    }

    fn futex(&self, operation: i32, value: u32) {
        let operation = operation | libc::FUTEX_PRIVATE_FLAG;
        let no_time: *const u8 = ptr::null();
        // SAFETY: the call takes the address of a number that lives as long as `self`, and no time.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), operation, value, no_time) };
    }
}
