//! Threads of our own, by the system's function.

use std::os::windows::io::OwnedHandle;

use windows_sys::Win32::System::Threading::{CreateThread, STACK_SIZE_PARAM_IS_A_RESERVATION};

use super::handles;

/// What a thread does, once.
type Work = Box<dyn FnOnce() + Send>;

/// Starts a thread with a stack of so many bytes, of which only what is used is memory; the error is the system's.
pub(super) fn start(
    stack_bytes: usize,
    work: impl FnOnce() + Send + 'static,
) -> Result<OwnedHandle, u32> {
    let work: Work = Box::new(work);
    let argument = Box::into_raw(Box::new(work));
    // SAFETY: the entry has the system's type, and takes over the box that the argument is.
    let thread = unsafe {
        CreateThread(
            core::ptr::null(),
            stack_bytes,
            Some(entry),
            argument.cast_const().cast(),
            STACK_SIZE_PARAM_IS_A_RESERVATION,
            core::ptr::null_mut(),
        )
    };
    handles::own(thread).inspect_err(|_| {
        // SAFETY: no thread was made, so the box is still ours.
        drop(unsafe { Box::from_raw(argument) });
    })
}

unsafe extern "system" fn entry(argument: *mut core::ffi::c_void) -> u32 {
    // SAFETY: the argument is the box that `start` gave away.
    let work = unsafe { Box::from_raw(argument.cast::<Work>()) };
    work();
    0
}
