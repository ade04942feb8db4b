//! One line to the user, where there is a terminal.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::limits::TERMINAL_MS_MAX;

/// Writes one line, if the descriptor is a terminal that takes it at once.
pub(crate) fn say(stream: &OwnedFd, line: &str) {
    let fd = stream.as_raw_fd();
    // SAFETY: no memory is involved.
    if unsafe { libc::isatty(fd) } != 1 {
        return;
    }
    let mut entry = [libc::pollfd { fd, events: libc::POLLOUT, revents: 0 }];
    match rearguard_crashpath::syscall::poll(&mut entry, TERMINAL_MS_MAX) {
        Ok(count) if count > 0 => write(fd, line),
        Ok(_) | Err(_) => {}
    }
}

/// Writes one line to this process's own standard error, terminal or not: for a process that ends with it.
#[inline(always)]
pub(crate) fn complain(line: &str) {
    write(2, line);
}

fn write(fd: i32, line: &str) {
    // A short write to a terminal is not worth a loop: the line is a courtesy.
    // SAFETY: pointer and length are those of a living string.
    unsafe { libc::write(fd, line.as_ptr().cast(), line.len()) };
}
