//! A library of the system's, loaded in the guard alone, when there is something to send. It stays loaded: the guard ends soon.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// One that is loaded.
pub(super) struct Library(NonNull<c_void>);

impl Library {
    /// Loads it by its name; `None` where it isn't.
    pub(super) fn load(name: &CStr) -> Option<Library> {
        // SAFETY: the name is NUL-terminated; the library's initialisers are the system's own.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle).map(Library)
    }

    /// The address of one of its functions.
    pub(super) fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the library is loaded and the name NUL-terminated.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }
}
