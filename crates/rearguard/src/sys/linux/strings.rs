//! Texts as the C library takes them, and arrays of them in memory of their own.
//!
//! A late guard is started from a process whose heap may be torn; what it is started with must not lie there.

use std::ffi::CStr;

use rearguard_crashpath::spawn::PID_DIGITS;

use crate::heap::{List, PutBytes, copied};

use super::process::last_errno;

/// A text with a NUL at its end.
pub(crate) struct CText(List<u8>);

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
/// With `last`, that is the last of them, and the memory stays writable.
pub(crate) fn string_array(strings: &[List<u8>], last: Option<&[u8]>) -> Result<StringArray, i32> {
    let all = || strings.iter().map(List::as_slice).chain(last);
    let pointers_bytes = (all().count() + 1) * size_of::<*const u8>();
    let bytes = pointers_bytes + all().map(|string| string.len() + 1).sum::<usize>();
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
    let mut pointer_at = 0;
    let mut string_at = pointers_bytes;
    for string in all() {
        put_at(memory, pointer_at, &(start as usize + string_at).to_ne_bytes());
        put_at(memory, string_at, string);
        pointer_at += size_of::<usize>();
        string_at += string.len() + 1;
    }
    if last.is_none() {
        // SAFETY: the mapping is ours, and nothing of it is borrowed any more.
        unsafe { libc::mprotect(start, bytes, libc::PROT_READ) };
    }
    Ok(StringArray(start.cast_const().cast()))
}

/// Puts bytes at a place that has room for them.
fn put_at(memory: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in memory.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// A text with room for a process id behind it.
pub(super) fn with_room(prefix: &[u8]) -> List<u8> {
    let mut entry = copied(prefix);
    entry.put(&[b'0'; PID_DIGITS]);
    entry
}

/// Where the process id of an entry of an environment goes.
///
/// # Safety
///
/// The array has an entry at this place, which was made by [`with_room`], is writable, and is longer than `prefix_bytes`.
pub(super) unsafe fn digits_of(
    array: *const *const u8,
    place: usize,
    prefix_bytes: usize,
) -> *mut u8 {
    // SAFETY: the caller answers for the place.
    let entry = unsafe { array.add(place) };
    // SAFETY: as above.
    let entry = unsafe { entry.read() }.cast_mut();
    // SAFETY: as above.
    unsafe { entry.add(prefix_bytes) }
}
