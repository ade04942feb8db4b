//! Threads of other people's: made by CreateThread, as a C library would.

#![expect(unsafe_code, reason = "foreign threads come from the system")]

use std::ffi::c_void;
use std::io::Error;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::System::Threading::{CreateThread, INFINITE, WaitForSingleObject};

/// Runs the routine in a thread that std has never heard of, and waits for its end.
pub(crate) fn run_foreign(routine: fn()) -> Result<(), String> {
    let argument = (&raw const routine).cast::<c_void>();
    // SAFETY: null attributes and a size of 0 are the defaults, and `routine` lives until the thread's end is awaited
    // below.
    let raw = unsafe {
        CreateThread(std::ptr::null(), 0, Some(entry), argument, 0, std::ptr::null_mut())
    };
    if raw.is_null() {
        return Err(format!("--thread foreign: {}", Error::last_os_error()));
    }
    // SAFETY: the handle was made just now and is nobody else's.
    let thread = unsafe { OwnedHandle::from_raw_handle(raw) };
    // SAFETY: the handle is open through the call.
    unsafe { WaitForSingleObject(thread.as_raw_handle(), INFINITE) };
    Ok(())
}

unsafe extern "system" fn entry(argument: *mut c_void) -> u32 {
    // SAFETY: `run_foreign` passes a function that lives as long as this thread.
    let routine = unsafe { *argument.cast::<fn()>() };
    routine();
    0
}
