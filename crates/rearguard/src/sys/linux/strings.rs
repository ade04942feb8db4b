//! Texts as the C library takes them, and arrays of them in memory of their own.
//!
//! A late guard is started from a process whose heap may be torn; what it is started with must not lie there.

use std::ffi::CStr;

use crate::heap::{PutBytes, copied};

use super::process::last_errno;

/// A text with a NUL at its end.
pub(crate) struct CText(Vec<u8>);

impl CText {
    pub(crate) fn new(text: &[u8]) -> CText {
        let mut bytes = copied(text);
        bytes.put(&[0]);
        CText(bytes)
    }

    /// The empty text, which is no file's name, if there is a NUL inside.
    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.0).unwrap_or_default()
    }

    /// For as long as the memory lives.
    pub(crate) fn leak(self) -> &'static CStr {
        CStr::from_bytes_with_nul(self.0.leak()).unwrap_or_default()
    }
}

/// A null-terminated array of NUL-terminated strings.
#[derive(Clone, Copy)]
pub(crate) struct StringArray(pub(crate) *const *const u8);

/// Copies `strings` into new read-only memory; a string is cut at its first NUL byte.
/// With `writable` the memory stays writable.
pub(crate) fn string_array(strings: &[&[u8]], writable: bool) -> Result<StringArray, i32> {
    let pointers_bytes = (strings.len() + 1) * size_of::<*const u8>();
    let bytes = pointers_bytes + strings.iter().map(|string| string.len() + 1).sum::<usize>();
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let start = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(last_errno());
    }
    // SAFETY: the mapping has this length, is zeroed, and nobody else knows it.
    let memory = unsafe { core::slice::from_raw_parts_mut(start.cast::<u8>(), bytes) };
    let (pointers, mut rest) = memory.split_at_mut(pointers_bytes);
    for (string, pointer) in strings.iter().zip(pointers.chunks_exact_mut(size_of::<usize>())) {
        let (place, after) = rest.split_at_mut(string.len() + 1);
        for (to, from) in place.iter_mut().zip(*string) {
            *to = *from;
        }
        pointer.copy_from_slice(&(place.as_ptr() as usize).to_ne_bytes());
        rest = after;
    }
    if !writable {
        // SAFETY: the mapping is ours, and nothing of it is borrowed any more.
        unsafe { libc::mprotect(start, bytes, libc::PROT_READ) };
    }
    Ok(StringArray(start.cast_const().cast()))
}
