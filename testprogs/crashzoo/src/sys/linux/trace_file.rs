//! The trace's file: one write(2) a line, without allocation or lock, since signal handlers write to it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

/// No trace was asked for.
const CLOSED: i32 = -1;

/// The trace's descriptor, for everyone in this process who has something to tell.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(CLOSED);

/// Opens the file for appending.
pub(crate) fn open(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| "--trace: its name has a NUL".to_owned())?;
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    #[expect(unsafe_code, reason = "std's File would close the descriptor with its owner")]
    // SAFETY: `name` is a C string that lives through the call.
    let descriptor = unsafe { libc::open(name.as_ptr(), flags, 0o600) };
    if descriptor < 0 {
        let error = std::io::Error::last_os_error();
        return Err(format!("--trace {}: {error}", path.display()));
    }
    DESCRIPTOR.store(descriptor, Ordering::Relaxed);
    Ok(())
}

/// Whether there is a file to write to.
pub(crate) fn is_open() -> bool {
    DESCRIPTOR.load(Ordering::Relaxed) != CLOSED
}

/// Whether the file is open at this number.
pub(crate) fn is_at(descriptor: i32) -> bool {
    DESCRIPTOR.load(Ordering::Relaxed) == descriptor
}

/// Appends a whole line.
pub(crate) fn append(line: &[u8]) {
    let descriptor = DESCRIPTOR.load(Ordering::Relaxed);
    if descriptor == CLOSED {
        return;
    }
    #[expect(unsafe_code, reason = "std's writers may lock or allocate; this runs in handlers")]
    // SAFETY: the pointer and the length are those of one live slice.
    let written = unsafe { libc::write(descriptor, line.as_ptr().cast(), line.len()) };
    // A trace that can't be written shows in the test that misses its lines.
    let _ = written;
}
