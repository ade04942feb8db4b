//! One line to the user, where there is a console.

use super::attach::Stream;
use super::handles::raw;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Storage::FileSystem::WriteFile;
use windows_sys::Win32::System::Console::{
    FreeConsole, GetConsoleMode, GetStdHandle, STD_ERROR_HANDLE,
};

/// Writes one line, if the handle is a console's; the console is let go of afterwards.
pub(crate) fn say(stream: &Stream, line: &str) {
    let handle = raw(stream);
    let mut mode = 0;
    // SAFETY: a handle that is no console's makes the call fail.
    if unsafe { GetConsoleMode(handle, &raw mut mode) } != 0 {
        write(handle, line);
    }
    // SAFETY: no memory is involved; without a console the call fails.
    unsafe { FreeConsole() };
}

/// Writes one line to this process's own standard error, console or not: for a process that ends with it.
pub(crate) fn complain(line: &str) {
    // SAFETY: no memory is involved.
    write(unsafe { GetStdHandle(STD_ERROR_HANDLE) }, line);
}

fn write(handle: HANDLE, line: &str) {
    let mut written = 0;
    // SAFETY: pointer and length are those of a living string; a bad handle makes the call fail.
    unsafe {
        WriteFile(handle, line.as_ptr(), line.len() as u32, &raw mut written, core::ptr::null_mut())
    };
}
