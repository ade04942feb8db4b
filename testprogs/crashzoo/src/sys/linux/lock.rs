//! `--hold-lock`: a single-instance lock, as applications have them.
//!
//! Two workers alive at once are caught by it, and so is a guard or starter that keeps the worker's descriptors: the descriptor is left open across exec on purpose, as a careless application would.

use std::ffi::CString;
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The lock, held until this is dropped or the process is gone.
#[derive(Debug)]
pub(crate) struct Lock {
    _descriptor: OwnedFd,
}

/// `Ok(None)` means that somebody else has it.
pub(crate) fn take(path: &Path) -> Result<Option<Lock>, String> {
    let problem = |error: Error| format!("--hold-lock {}: {error}", path.display());
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| "--hold-lock: its name has a NUL".to_owned())?;
    #[expect(unsafe_code, reason = "std opens files with O_CLOEXEC, which would hide a leak")]
    // SAFETY: `name` is a C string that lives through the call.
    let raw = unsafe { libc::open(name.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600) };
    if raw < 0 {
        return Err(problem(Error::last_os_error()));
    }
    #[expect(unsafe_code, reason = "takes over what the line above has opened")]
    // SAFETY: the descriptor was opened just now and nobody else has it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
    #[expect(
        unsafe_code,
        reason = "the lock of the command line is flock(2), on a descriptor that leaks"
    )]
    // SAFETY: flock takes no pointer; a bad descriptor would be an error only.
    let locked = unsafe { libc::flock(descriptor.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if locked == 0 {
        return Ok(Some(Lock { _descriptor: descriptor }));
    }
    let error = Error::last_os_error();
    if error.raw_os_error() == Some(libc::EWOULDBLOCK) { Ok(None) } else { Err(problem(error)) }
}
