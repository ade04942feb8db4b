//! The allocation trap: the worker ends with status 99 when the crash path touches the heap.
//!
//! A handler that allocates works on most days, and hangs for ever on the day when the fault was inside `malloc`.
//! This makes every day that day.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::sys::process;

/// The status that means "the crashing thread allocated".
const EXIT_ALLOCATED: i32 = 99;

#[global_allocator]
static TRAP: Trap = Trap;

struct Trap;

/// Ends the process at once if this thread is the one whose crash is being handled.
fn check() {
    if rearguard::is_crashing_thread() {
        process::end_at_once(EXIT_ALLOCATED)
    }
}

#[expect(unsafe_code, reason = "a global allocator is an unsafe trait")]
// SAFETY: every call goes to the system's allocator unchanged, or the process ends.
unsafe impl GlobalAlloc for Trap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller keeps the same contract with us as we do with `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        check();
        // SAFETY: `pointer` came from `System` with this layout, as all of ours do.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        // SAFETY: as in `dealloc`, and `size` is the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
