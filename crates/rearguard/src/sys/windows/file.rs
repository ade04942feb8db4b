//! Files and directories for the user only, made durable when asked.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES};
use windows_sys::Win32::Storage::FileSystem::{CreateDirectoryW, FILE_FLAG_DELETE_ON_CLOSE};

use super::wide;
use crate::limits::REPORT_NAME_BYTES;
use crate::sys::std_file::code;
pub(crate) use crate::sys::std_file::{
    NOT_THERE, append, count, create_new, exists, holds_any, is_directory, names, read, read_end,
    remove, remove_directory, rename, size, write, write_new,
};

/// For the owner and the system, with everything inside, and nothing from above.
const FOR_THE_OWNER: &str = "D:P(A;OICI;FA;;;OW)(A;OICI;FA;;;SY)";

/// Where locks are held, below a store's root.
const LOCKS: &str = "locks";

/// Makes a directory and what is missing above it, each for the user only; one that is there is left as it is.
pub(crate) fn create_directories(path: &Path) -> Result<(), i32> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_directories(parent)?;
    }
    match create_directory(path) {
        // Somebody else was faster.
        Err(_) if path.is_dir() => Ok(()),
        other => other,
    }
}

/// Makes one new directory for the user only.
pub(crate) fn create_directory(path: &Path) -> Result<(), i32> {
    let name: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let text = wide::literal(FOR_THE_OWNER);
    let mut descriptor: PSECURITY_DESCRIPTOR = core::ptr::null_mut();
    // SAFETY: the text ends with a zero, and the result goes into a living place.
    let made = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            core::ptr::null_mut(),
        )
    };
    if made == 0 {
        return Err(code(io::Error::last_os_error()));
    }
    let attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor,
        bInheritHandle: 0,
    };
    // SAFETY: the name ends with a zero, and the descriptor lives.
    let made = unsafe { CreateDirectoryW(name.as_ptr(), &raw const attributes) };
    let result = if made == 0 { Err(code(io::Error::last_os_error())) } else { Ok(()) };
    // SAFETY: the descriptor was allocated by the conversion, and is used no more.
    unsafe { LocalFree(descriptor) };
    result
}

/// Makes a file's content durable. Directories are the file system's own affair here: its journal keeps names in order.
pub(crate) fn sync(path: &Path) -> Result<(), i32> {
    if path.is_dir() {
        return Ok(());
    }
    OpenOptions::new().write(true).open(path).and_then(|file| file.sync_all()).map_err(code)
}

/// What a lock is held by.
pub(crate) type Lock = File;

/// Whether what was locked still has a name.
pub(crate) fn is_linked(_lock: &Lock, path: &Path) -> bool {
    path.is_dir()
}

/// Holds an advisory lock that dies with its holder, if nobody else holds it.
///
/// A directory that is renamed must not be open, so the lock is a file beside the reports: opened for nobody else, and gone when it is closed.
/// It has the report's name, without what a builder puts behind it, so it follows every rename.
pub(crate) fn try_lock(path: &Path) -> Option<Lock> {
    if !path.is_dir() {
        return None;
    }
    let is_root = |path: &Path| path.join("tmp").is_dir();
    let (root, name) = if is_root(path) {
        (path, "store")
    } else {
        let name = path.file_name()?.to_str()?;
        let above = path.parent()?;
        let root = if is_root(above) { above } else { above.parent()? };
        (root, name.get(..REPORT_NAME_BYTES).unwrap_or(name))
    };
    let locks = root.join(LOCKS);
    create_directories(&locks).ok()?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .share_mode(0)
        .custom_flags(FILE_FLAG_DELETE_ON_CLOSE)
        // What deletes has to have the right to; generic writing hasn't.
        .access_mode(
            windows_sys::Win32::Storage::FileSystem::DELETE
                | windows_sys::Win32::Foundation::GENERIC_WRITE,
        )
        .open(locks.join(name))
        .ok()
}

/// Makes a file that nobody else sees for long, readable and writable, and gone when it is closed.
pub(super) fn scratch(directory: &Path, name: &str) -> io::Result<File> {
    let path = directory.join(name);
    let _ = fs::remove_file(&path);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .custom_flags(FILE_FLAG_DELETE_ON_CLOSE)
        .access_mode(
            windows_sys::Win32::Storage::FileSystem::DELETE
                | windows_sys::Win32::Foundation::GENERIC_READ
                | windows_sys::Win32::Foundation::GENERIC_WRITE,
        )
        .open(path)
}
