//! This process as a whole: its ends, and its command line.

#![expect(
    unsafe_code,
    reason = "C's abort is another than std's, and std's exit runs more of the program"
)]

use std::fmt::Write;

use windows_sys::Win32::System::Console::SetConsoleCtrlHandler;
use windows_sys::Win32::System::Environment::GetCommandLineW;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};

mod c {
    // SAFETY: the C library's own signature.
    unsafe extern "C" {
        pub(super) safe fn abort() -> !;
    }
}

/// Ends as the C library's abort does: by SIGABRT's handler, else with an exit code of its own.
pub(crate) fn abort() {
    c::abort()
}

/// Ends this process with a status, without running anything more of it.
pub(super) fn terminate(status: u32) {
    // SAFETY: the call has no preconditions.
    let me = unsafe { GetCurrentProcess() };
    // SAFETY: `me` stands for this process, which has every right to itself.
    unsafe { TerminateProcess(me, status) };
}

/// Ends this process without running anything more of it.
pub(crate) fn end_at_once(status: i32) -> ! {
    terminate(status.cast_unsigned());
    // Not reached; it ends without a handler too.
    std::process::abort()
}

/// The command line to the letter: the hexadecimal digits of its UTF-16 units, four each.
pub(crate) fn command_line() -> Vec<u8> {
    let mut digits = String::new();
    // SAFETY: the call has no preconditions.
    let mut unit = unsafe { GetCommandLineW() };
    loop {
        // SAFETY: the system's text ends with a NUL, behind which this never comes, and lives as long as the process.
        match unsafe { unit.read() } {
            0 => return digits.into_bytes(),
            // Writing to a string can't fail.
            value => _ = write!(digits, "{value:04x}"),
        }
        unit = unit.wrapping_add(1);
    }
}

/// Lets Ctrl-C not end this process.
pub(crate) fn be_deaf() -> Result<(), String> {
    // SAFETY: without a function the keys are ignored.
    if unsafe { SetConsoleCtrlHandler(None, 1) } == 0 {
        return Err(format!("--deaf: {}", std::io::Error::last_os_error()));
    }
    Ok(())
}

/// Refuses; the command line doesn't let it come to that.
pub(crate) fn drop_user(_user: u32) -> Result<(), String> {
    Err("--drop-user: not on this system".to_owned())
}

/// Refuses.
pub(crate) fn daemonize() -> Result<(), String> {
    Err(String::from("--daemonize: not on Windows"))
}
