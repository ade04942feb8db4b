//! Mappings that hurt.

#![expect(unsafe_code, reason = "mappings come from the C library")]

use std::io::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The size of a page.
/// Asked once, so that handlers can have it too.
pub(crate) fn page_bytes() -> usize {
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    let known = BYTES.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: sysconf takes a plain number.
    let asked = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let bytes = usize::try_from(asked).unwrap_or(4096);
    BYTES.store(bytes, Ordering::Relaxed);
    bytes
}

/// The address of fresh pages that nobody may read, write or execute.
pub(crate) fn forbidden_pages(count: usize) -> Result<usize, String> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    map(count * page_bytes(), libc::PROT_NONE, flags, -1)
}

/// The address of a readable page whose file has been cut off under it.
pub(crate) fn truncated_page() -> Result<usize, String> {
    let bytes = page_bytes();
    let length = libc::off_t::try_from(bytes).map_err(|error| error.to_string())?;
    // SAFETY: the name is a C string.
    let file = unsafe { libc::memfd_create(c"crashzoo-bus".as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(format!("bus: {}", Error::last_os_error()));
    }
    // SAFETY: plain numbers only.
    unsafe { libc::ftruncate(file, length) };
    let page = map(bytes, libc::PROT_READ, libc::MAP_SHARED, file)?;
    // SAFETY: plain numbers only.
    unsafe { libc::ftruncate(file, 0) };
    Ok(page)
}

fn map(
    bytes: usize,
    access: libc::c_int,
    flags: libc::c_int,
    file: libc::c_int,
) -> Result<usize, String> {
    // SAFETY: the kernel chooses the address, so no mapping of anybody's is replaced.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, file, 0) };
    if address == libc::MAP_FAILED {
        return Err(format!("mmap: {}", Error::last_os_error()));
    }
    Ok(address as usize)
}
