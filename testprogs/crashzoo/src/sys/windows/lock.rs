//! `--hold-lock`: a single-instance lock, as applications have them.
//!
//! A file that nobody else may open, and a mutex named `Local\crashzoo-` and the FNV-1a hash of the file's absolute path, 16 digits: programs use the one or the other.
//! Two workers alive at once are caught by it, and so is a guard or starter that keeps the worker's handles: both are inheritable on purpose, as a careless application would have them.

#![expect(unsafe_code, reason = "std has no named mutex, and no handle that is inherited")]

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Error;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;

use windows_sys::Win32::Foundation::{
    ERROR_ALREADY_EXISTS, ERROR_SHARING_VIOLATION, HANDLE_FLAG_INHERIT, SetHandleInformation,
};
use windows_sys::Win32::System::Threading::CreateMutexW;

/// The lock, held until this is dropped or the process is gone.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    _mutex: OwnedHandle,
}

/// `Ok(None)` means that somebody else has it, or one half of it.
pub(crate) fn take(path: &Path) -> Result<Option<Lock>, String> {
    let problem = |error: Error| format!("--hold-lock {}: {error}", path.display());
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .share_mode(0)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if is(&error, ERROR_SHARING_VIOLATION) => return Ok(None),
        Err(error) => return Err(problem(error)),
    };
    let name = mutex_name(std::path::absolute(path).map_err(problem)?.as_os_str());
    let Some(mutex) = named_mutex(&name).map_err(problem)? else { return Ok(None) };
    for handle in [file.as_raw_handle(), mutex.as_raw_handle()] {
        // SAFETY: the handle is open through the call.
        let done =
            unsafe { SetHandleInformation(handle, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT) };
        if done == 0 {
            return Err(problem(Error::last_os_error()));
        }
    }
    Ok(Some(Lock { _file: file, _mutex: mutex }))
}

/// `Ok(None)` means that the mutex was there before.
fn named_mutex(name: &str) -> Result<Option<OwnedHandle>, Error> {
    let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
    // SAFETY: null attributes are the defaults, and the name ends with a NUL and lives through the call.
    let raw = unsafe { CreateMutexW(std::ptr::null(), 0, name.as_ptr()) };
    let error = Error::last_os_error();
    if raw.is_null() {
        return Err(error);
    }
    // SAFETY: the handle was made just now and is nobody else's.
    let mutex = unsafe { OwnedHandle::from_raw_handle(raw) };
    Ok((!is(&error, ERROR_ALREADY_EXISTS)).then_some(mutex))
}

fn is(error: &Error, code: u32) -> bool {
    error.raw_os_error().map(i32::cast_unsigned) == Some(code)
}

/// A name can hold no path, so it holds the path's hash: whoever spells the path alike meets here.
fn mutex_name(path: &OsStr) -> String {
    let hash = path
        .encode_wide()
        .flat_map(u16::to_le_bytes)
        .fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    format!("Local\\crashzoo-{hash:016x}")
}

/// FNV-1a's two numbers for 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each half alone keeps others out.
    #[test]
    fn half_a_lock_is_a_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mutex = named_mutex(&mutex_name(path.as_os_str())).unwrap();
        assert!(mutex.is_some());
        assert!(take(&path).unwrap().is_none());
        drop(mutex);
        let Lock { _file: file, _mutex: mutex } = take(&path).unwrap().unwrap();
        drop(mutex);
        assert!(take(&path).unwrap().is_none());
        drop(file);
        assert!(take(&path).unwrap().is_some());
    }
}
