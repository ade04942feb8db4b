//! This process as a whole: its ends, its arguments, its user.

use std::io::Error;
use std::os::unix::ffi::OsStrExt;

/// Ends by SIGABRT.
pub(crate) fn abort() {
    std::process::abort()
}

/// Ends this process without running anything more of it.
pub(crate) fn end_at_once(status: i32) -> ! {
    #[expect(unsafe_code, reason = "std's exit runs destructors, in a thread that has crashed")]
    // SAFETY: `_exit` has no preconditions and doesn't return.
    unsafe {
        libc::_exit(status)
    }
}

/// The arguments to the letter, its own name first, with NULs between them.
pub(crate) fn command_line() -> Vec<u8> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let bytes: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    bytes.join(&0)
}

/// Gives up root for good, as a daemon does that has opened what only root may open.
pub(crate) fn drop_user(user: u32) -> Result<(), String> {
    #[expect(unsafe_code, reason = "std changes the user of a child only")]
    // SAFETY: no memory is involved; the C library tells every thread.
    if unsafe { libc::setgid(user) } != 0 {
        return Err(format!("--drop-user: setgid({user}): {}", Error::last_os_error()));
    }
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: as above.
    if unsafe { libc::setuid(user) } != 0 {
        return Err(format!("--drop-user: setuid({user}): {}", Error::last_os_error()));
    }
    Ok(())
}

/// Forks twice, with a session of its own in between, and leaves its directory: daemon(7). The processes before end well.
#[expect(unsafe_code, reason = "forking")]
pub(crate) fn daemonize() -> Result<(), String> {
    fork_on()?;
    // SAFETY: no memory is involved.
    unsafe { libc::setsid() };
    fork_on()?;
    std::env::set_current_dir("/").map_err(|error| format!("--daemonize: {error}"))
}

/// Goes on in a child.
#[expect(unsafe_code, reason = "forking")]
fn fork_on() -> Result<(), String> {
    // SAFETY: the child goes on with this thread alone, as every daemon does.
    match unsafe { libc::fork() } {
        0 => Ok(()),
        -1 => Err(format!("--daemonize: {}", std::io::Error::last_os_error())),
        // SAFETY: ends the process without running exit handlers.
        _ => unsafe { libc::_exit(0) },
    }
}

/// Refuses; the command line doesn't let it come to that.
pub(crate) fn be_deaf() -> Result<(), String> {
    Err("--deaf: not on this system".to_owned())
}
