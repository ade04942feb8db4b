//! Threads of other people's: made by pthread_create, as a C library would.

#![expect(unsafe_code, reason = "foreign threads come from the C library")]

use std::io::Error;
use std::mem::MaybeUninit;

/// Runs the routine in a thread that std has never heard of, and waits for its end.
pub(crate) fn run_foreign(routine: fn()) -> Result<(), String> {
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    let argument = (&raw const routine).cast_mut().cast();
    // SAFETY: `thread` is a live place for the identifier, null attributes are the defaults, and `routine` lives until
    // the thread is joined below.
    let failed =
        unsafe { libc::pthread_create(thread.as_mut_ptr(), std::ptr::null(), entry, argument) };
    if failed != 0 {
        return Err(format!("--thread foreign: {}", Error::from_raw_os_error(failed)));
    }
    // SAFETY: pthread_create has succeeded, so it has written the identifier.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: the thread was created joinable, and is joined here only.
    unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
    Ok(())
}

extern "C" fn entry(argument: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `run_foreign` passes a function that lives as long as this thread.
    let routine = unsafe { *argument.cast::<fn()>() };
    routine();
    std::ptr::null_mut()
}
