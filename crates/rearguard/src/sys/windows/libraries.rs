//! Functions of system libraries that are loaded only when they are needed, from the system's own directory and from nowhere else.

use core::ffi::CStr;

use windows_sys::Win32::Foundation::HMODULE;
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};

use super::wide;

/// A library of the system's; it stays loaded.
#[derive(Clone, Copy)]
pub(super) struct Library(HMODULE);

impl Library {
    /// Loads it; `None` when the system doesn't have it.
    pub(super) fn load(name: &str) -> Option<Library> {
        let name = wide::literal(name);
        // SAFETY: the name ends with a zero.
        let module = unsafe {
            LoadLibraryExW(name.as_ptr(), core::ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32)
        };
        (!module.is_null()).then_some(Library(module))
    }

    /// A function of it.
    ///
    /// # Safety
    ///
    /// `F` is the type of a pointer to the function of this name.
    pub(super) unsafe fn function<F: Copy>(self, name: &CStr) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<usize>()) };
        // SAFETY: the module is loaded, and the name ends with a NUL.
        let found = unsafe { GetProcAddress(self.0, name.as_ptr().cast()) }?;
        // SAFETY: both are pointers to functions; the caller answers for the type.
        Some(unsafe { core::mem::transmute_copy(&found) })
    }
}
