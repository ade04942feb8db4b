//! Room for a crash on every thread's stack: the system keeps some of it free for the handling of an overflow.
//!
//! A thread's guarantee can be set by the thread itself alone, so a callback that the loader runs on each new thread does it.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

use windows_sys::Win32::System::SystemServices::DLL_THREAD_ATTACH;
use windows_sys::Win32::System::Threading::SetThreadStackGuarantee;

use crate::limits::STACK_GUARANTEE_BYTES;

static ARMED: AtomicBool = AtomicBool::new(false);

/// Begins to prepare the threads that come, and prepares this one.
pub(super) fn arm() {
    ARMED.store(true, Ordering::Release);
    keep_room();
    // The callback is referred to by nothing but its section; a reader of it keeps it in the program.
    // SAFETY: the static is a living function pointer.
    let _ = unsafe { core::ptr::read_volatile(&raw const CALLBACK) };
}

/// Prepares no more threads.
pub(super) fn disarm() {
    ARMED.store(false, Ordering::Release);
}

/// Keeps room for a crash on the calling thread's stack; false when the system refuses, as on a stack that is smaller.
pub fn keep_room() -> bool {
    let mut bytes = STACK_GUARANTEE_BYTES;
    // SAFETY: the pointer refers to a living number.
    unsafe { SetThreadStackGuarantee(&raw mut bytes) != 0 }
}

/// Where the loader finds what to call for each thread (PE specification, the .tls section).
#[used]
#[unsafe(link_section = ".CRT$XLR")]
static CALLBACK: unsafe extern "system" fn(*mut c_void, u32, *mut c_void) = on_thread;

unsafe extern "system" fn on_thread(_module: *mut c_void, reason: u32, _reserved: *mut c_void) {
    if reason == DLL_THREAD_ATTACH && ARMED.load(Ordering::Acquire) {
        keep_room();
    }
}
