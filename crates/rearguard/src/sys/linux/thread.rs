//! Threads of our own, started by the C library so that they take part in what it tells all threads.

use rearguard_crashpath::syscall;

/// Signals that the C library keeps for itself: cancellation, and telling every thread of a change of user. The latter must reach every thread.
const LIBRARY_SIGNALS: u64 = syscall::signal_bit(32) | syscall::signal_bit(33);

/// What a thread begins with.
pub(super) type Entry = extern "C" fn(*mut libc::c_void) -> *mut libc::c_void;

/// Starts a thread that nobody waits for, with every signal blocked but the library's and `open`; the error is the system's number.
pub(super) fn start(entry: Entry, stack_bytes: usize, open: u64) -> Result<(), i32> {
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the pointer refers to room for the structure.
    if unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) } != 0 {
        return Err(libc::ENOMEM);
    }
    // SAFETY: the structure was initialised.
    unsafe { libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack_bytes) };
    // SAFETY: as above.
    unsafe {
        libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED)
    };
    let none = core::ptr::null_mut();
    let earlier = syscall::set_signal_mask(!(open | LIBRARY_SIGNALS));
    let mut thread: libc::pthread_t = 0;
    // SAFETY: the entry has the C library's type, and doesn't look at its argument.
    let mut failed =
        unsafe { libc::pthread_create(&raw mut thread, attributes.as_ptr(), entry, none) };
    if failed == libc::EINVAL {
        // A program with very much thread-local storage needs more than our small stack; it gets its usual one.
        // SAFETY: as above.
        failed = unsafe { libc::pthread_create(&raw mut thread, core::ptr::null(), entry, none) };
    }
    syscall::set_signal_mask(earlier);
    // SAFETY: the structure was initialised and is used no more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    if failed == 0 { Ok(()) } else { Err(failed) }
}
