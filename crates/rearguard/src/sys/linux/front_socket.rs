//! The socket between a worker and the process in front of it: one message, by which the worker hands over what a guard needs.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rearguard_crashpath::syscall;

use super::attach::{BLACK_BOX_FD, EXECUTABLE_FD, RECORD_FD};
use super::memfd;
use super::process::last_errno;

/// What the worker hands over: black box, launch record, executable.
const HANDED: usize = 3;

/// The worker's end of the socket to the process in front of it.
pub(crate) struct Front(pub(super) OwnedFd);

impl Front {
    /// Takes the descriptor with this number, if it is such an end.
    pub(super) fn of_number(number: u64) -> Option<Front> {
        let fd = RawFd::try_from(number).ok().filter(|fd| is_socket(*fd))?;
        // SAFETY: whoever started this process has put the socket there, for us alone.
        Some(Front(unsafe { memfd::take(fd) }))
    }

    /// Its number.
    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A pair of sockets: ours, which exec closes, and the worker's, which it doesn't.
pub(super) fn pair() -> Result<(Front, OwnedFd), i32> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the pointer refers to two living numbers.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
        return Err(last_errno());
    }
    // SAFETY: the descriptors were just made and are nobody else's.
    let [ours, theirs] = ends.map(|fd| unsafe { memfd::take(fd) });
    Ok((Front(ours), theirs))
}

/// Whether a descriptor is a socket as [`pair`] makes them, and no standard stream.
fn is_socket(fd: RawFd) -> bool {
    let mut kind: libc::c_int = 0;
    let mut bytes = size_of::<libc::c_int>() as libc::socklen_t;
    let place = (&raw mut kind).cast();
    // SAFETY: the pointers refer to living numbers of the told size.
    let asked =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, place, &raw mut bytes) };
    fd > 2 && asked == 0 && kind == libc::SOCK_SEQPACKET
}

/// Hands over what a guard needs. The worker's side.
pub(super) fn hand_over(socket: RawFd, nonce: u64, fds: [RawFd; HANDED]) -> Result<(), i32> {
    let mut bytes = nonce.to_le_bytes();
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = ControlBytes::new();
    let mut message = control.message(&mut piece);
    // SAFETY: the message has room for one header, by the size that it was made with.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: as above.
    let header = unsafe { &mut *header };
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: only a number is reckoned.
    header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<[RawFd; HANDED]>() as u32) } as _;
    // SAFETY: the header lies in the message's own bytes.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: behind the header there is room for these numbers, at any address.
    unsafe { data.cast::<[RawFd; HANDED]>().write_unaligned(fds) };
    message.msg_flags = 0;
    // SAFETY: everything that the message refers to lives through the call.
    let sent = unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Takes what the worker hands over, each at its number; returns the nonce. `None` when it has closed its end, or says something else.
pub(super) fn receive(socket: RawFd) -> Option<u64> {
    let mut bytes = [0u8; 8];
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = ControlBytes::new();
    let mut message = control.message(&mut piece);
    // SAFETY: everything that the message refers to lives through the call.
    let length = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    // SAFETY: the kernel has filled the message.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: null, or a header in the message's own bytes.
    let header = unsafe { header.as_ref() }?;
    // SAFETY: only a number is reckoned.
    let whole = unsafe { libc::CMSG_LEN(size_of::<[RawFd; HANDED]>() as u32) } as usize;
    let is_ours = header.cmsg_level == libc::SOL_SOCKET
        && header.cmsg_type == libc::SCM_RIGHTS
        && header.cmsg_len as usize == whole;
    if !is_ours || length != 8 || message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return None;
    }
    // SAFETY: the header lies in the message's own bytes.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: the header says that so many numbers follow, at any address.
    let fds = unsafe { data.cast::<[RawFd; HANDED]>().read_unaligned() };
    for (fd, number) in fds.into_iter().zip([BLACK_BOX_FD, RECORD_FD, EXECUTABLE_FD]) {
        // They come in above the socket's number, since everything below is taken or closed at once.
        // SAFETY: no memory is involved.
        unsafe { libc::dup3(fd, number, libc::O_CLOEXEC) };
        if fd != number {
            syscall::close(fd);
        }
    }
    Some(u64::from_le_bytes(bytes))
}

/// Room for one message's descriptors, aligned as its header wants it.
#[repr(C, align(8))]
struct ControlBytes([u8; CONTROL_BYTES]);

// SAFETY: only a number is reckoned.
const CONTROL_BYTES: usize =
    unsafe { libc::CMSG_SPACE(size_of::<[RawFd; HANDED]>() as u32) } as usize;

impl ControlBytes {
    fn new() -> ControlBytes {
        ControlBytes([0; CONTROL_BYTES])
    }

    /// A message of one piece with this room.
    fn message(&mut self, piece: &mut libc::iovec) -> libc::msghdr {
        let message = core::mem::MaybeUninit::<libc::msghdr>::zeroed();
        // SAFETY: every field may be zero.
        let mut message = unsafe { message.assume_init() };
        message.msg_iov = piece;
        message.msg_iovlen = 1;
        message.msg_control = self.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES as _;
        message
    }
}
