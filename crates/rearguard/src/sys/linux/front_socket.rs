//! The socket between a worker and the process in front of it: one message, by which the worker hands over what a guard needs.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rearguard_crashpath::{rights, syscall};

use super::attach::{BLACK_BOX_FD, EXECUTABLE_FD, RECORD_FD};
use super::memfd;

/// What the worker hands over: black box, launch record, executable.
const HANDED: usize = 3;

/// The worker's end of the socket to the process in front of it.
pub(crate) struct Front(pub(super) OwnedFd);

impl Front {
    /// Takes the descriptor with this number, if it is such an end.
    pub(crate) fn of_number(number: u64) -> Option<Front> {
        let fd =
            RawFd::try_from(number).ok().filter(|fd| *fd > 2 && memfd::is_packet_socket(*fd))?;
        // SAFETY: whoever started this process has put the socket there, for us alone.
        Some(Front(unsafe { memfd::take(fd) }))
    }

    /// Its number.
    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A pair of sockets: ours, which exec closes, and the worker's, which it closes too unless it is told otherwise.
pub(super) fn pair() -> Result<(Front, OwnedFd), i32> {
    // SAFETY: the descriptors were just made and are nobody else's.
    let [ours, theirs] =
        rights::pair().map_err(|error| error.0)?.map(|fd| unsafe { memfd::take(fd) });
    Ok((Front(ours), theirs))
}

/// Hands over what a guard needs; the executable may be missing. The worker's side.
pub(super) fn hand_over(socket: RawFd, nonce: u64, fds: [RawFd; HANDED]) -> Result<(), i32> {
    let count =
        if fds.last().is_some_and(|executable| *executable < 0) { HANDED - 1 } else { HANDED };
    let given = fds.get(..count).unwrap_or_default();
    rights::send(socket, &nonce.to_le_bytes(), given).map_err(|error| error.0)
}

/// Takes what the worker hands over, each at its number; returns the nonce. `None` when it has closed its end, or says something else.
pub(super) fn receive(socket: RawFd) -> Option<u64> {
    let mut bytes = [0u8; 8];
    let mut fds = [-1; rights::FDS_MAX];
    let received = rights::receive(socket, &mut bytes, &mut fds).ok()?;
    let given = fds.get(..received.fds)?;
    // They come in above the socket's number, since everything below is taken or closed at once.
    for (fd, number) in given.iter().zip([BLACK_BOX_FD, RECORD_FD, EXECUTABLE_FD]) {
        // SAFETY: no memory is involved.
        unsafe { libc::dup3(*fd, number, libc::O_CLOEXEC) };
    }
    for fd in given.iter().filter(|fd| **fd > EXECUTABLE_FD) {
        syscall::close(*fd);
    }
    let is_whole = received.bytes == bytes.len() && received.fds >= HANDED - 1;
    is_whole.then_some(u64::from_le_bytes(bytes))
}
