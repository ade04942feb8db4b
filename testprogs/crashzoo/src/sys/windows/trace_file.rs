//! The trace's file: one WriteFile a line, without allocation or lock, since crash handlers write to it.

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::os::windows::io::IntoRawHandle;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use windows_sys::Win32::Storage::FileSystem::WriteFile;

/// The trace's handle, for everyone in this process who has something to tell; null when no trace was asked for.
static HANDLE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// Opens the file for appending.
/// With the right to append alone, every write goes to the end that the file has at that moment.
pub(crate) fn open(path: &Path) -> Result<(), String> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| format!("--trace {}: {error}", path.display()))?;
    HANDLE.store(file.into_raw_handle(), Ordering::Relaxed);
    Ok(())
}

/// Whether there is a file to write to.
pub(crate) fn is_open() -> bool {
    !HANDLE.load(Ordering::Relaxed).is_null()
}

/// Appends a whole line.
pub(crate) fn append(line: &[u8]) {
    let handle = HANDLE.load(Ordering::Relaxed);
    let Ok(bytes) = u32::try_from(line.len()) else { return };
    if handle.is_null() {
        return;
    }
    let mut written = 0;
    #[expect(unsafe_code, reason = "std's writers may lock or allocate; this runs in handlers")]
    // SAFETY: the pointer and the length are those of one live slice, and `written` is a live number.
    let done = unsafe { WriteFile(handle, line.as_ptr(), bytes, &raw mut written, null_mut()) };
    // A trace that can't be written shows in the test that misses its lines.
    let _ = done;
}
