//! Pages that hurt.

#![expect(unsafe_code, reason = "std has no pages")]

use std::io::Error;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_RESERVE, PAGE_NOACCESS, PAGE_READWRITE, VirtualAlloc, VirtualProtect,
};
use windows_sys::Win32::System::SystemInformation::{GetSystemInfo, SYSTEM_INFO};

/// The size of a page.
/// Asked once, so that handlers can have it too.
pub(crate) fn page_bytes() -> usize {
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    let known = BYTES.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let mut told = MaybeUninit::<SYSTEM_INFO>::uninit();
    // SAFETY: the pointer is to a place of the structure's size, and the call fills all of it.
    unsafe { GetSystemInfo(told.as_mut_ptr()) };
    // SAFETY: the call can't fail.
    let told = unsafe { told.assume_init() };
    let bytes = usize::try_from(told.dwPageSize).unwrap_or(4096);
    BYTES.store(bytes, Ordering::Relaxed);
    bytes
}

/// The address of fresh pages that nobody may read, write or execute.
pub(crate) fn forbidden_pages(count: usize) -> Result<usize, String> {
    let bytes = count * page_bytes();
    // SAFETY: the system chooses the address, so no memory of anybody's is replaced.
    let address =
        unsafe { VirtualAlloc(std::ptr::null(), bytes, MEM_RESERVE | MEM_COMMIT, PAGE_NOACCESS) };
    if address.is_null() {
        return Err(format!("VirtualAlloc: {}", Error::last_os_error()));
    }
    Ok(address as usize)
}

/// Lets a forbidden page be written, and says whether it can be.
pub(super) fn permit_page(page: usize) -> bool {
    let mut before = 0;
    let address = page as *const std::ffi::c_void;
    // SAFETY: the caller's page comes from `forbidden_pages` and holds no object; `before` is a live number.
    unsafe { VirtualProtect(address, page_bytes(), PAGE_READWRITE, &raw mut before) != 0 }
}
