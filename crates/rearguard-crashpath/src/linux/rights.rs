//! Descriptors that go from one process to another by a socket (`unix(7)`, SCM_RIGHTS).

use super::syscall::{Errno, Result, call};

/// How many descriptors one message can have.
pub const FDS_MAX: usize = 6;

/// What the kernel wants behind a message: a header, and the numbers.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fds: [i32; FDS_MAX],
}

impl Control {
    /// The length of a header with so many numbers behind it.
    const fn length(count: usize) -> usize {
        size_of::<libc::cmsghdr>() + count * size_of::<i32>()
    }
}

/// A pair of sockets that keep the bounds of messages; exec closes both.
///
/// # Errors
///
/// What the kernel says (`socketpair(2)`).
pub fn pair() -> Result<[i32; 2]> {
    let mut ends = [-1i32; 2];
    let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as usize;
    let place = ends.as_mut_ptr() as usize;
    // SAFETY: the pointer refers to two living numbers.
    unsafe { call(libc::SYS_socketpair, [libc::AF_UNIX as usize, kind, 0, place, 0, 0]) }?;
    Ok(ends)
}

/// Sends one message with descriptors, without waiting for room.
///
/// # Errors
///
/// EINVAL for more than [`FDS_MAX`] descriptors; EAGAIN where there is no room; what the kernel says otherwise (`sendmsg(2)`).
pub fn send(socket: i32, bytes: &[u8], fds: &[i32]) -> Result<()> {
    let mut piece =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = new_control();
    control.header.cmsg_len = Control::length(fds.len()) as _;
    control.header.cmsg_level = libc::SOL_SOCKET;
    control.header.cmsg_type = libc::SCM_RIGHTS;
    if fds.len() > FDS_MAX {
        return Err(Errno(libc::EINVAL));
    }
    for (place, fd) in control.fds.iter_mut().zip(fds) {
        *place = *fd;
    }
    let mut message = message(&mut piece, &mut control);
    if fds.is_empty() {
        message.msg_control = core::ptr::null_mut();
    }
    message.msg_controllen = if fds.is_empty() { 0 } else { Control::length(fds.len()) } as _;
    let flags = (libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) as usize;
    let place = &raw const message as usize;
    // SAFETY: everything that the message refers to lives through the call.
    unsafe { call(libc::SYS_sendmsg, [socket as usize, place, flags, 0, 0, 0]) }.map(drop)
}

/// What came with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes; none means that the other end is closed.
    pub bytes: usize,
    /// How many descriptors.
    pub fds: usize,
}

/// Takes one message, without waiting for it. What doesn't fit is dropped and closed, and the message is an error.
///
/// # Errors
///
/// EAGAIN where there is none; EMSGSIZE for one that doesn't fit; what the kernel says otherwise (`recvmsg(2)`).
#[allow(clippy::unnecessary_cast, reason = "with musl the two lengths are narrower")]
pub fn receive(socket: i32, bytes: &mut [u8], fds: &mut [i32; FDS_MAX]) -> Result<Received> {
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = new_control();
    let mut message = message(&mut piece, &mut control);
    message.msg_controllen = Control::length(FDS_MAX) as _;
    let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as usize;
    let place = &raw mut message as usize;
    // SAFETY: everything that the message refers to lives through the call.
    let length = unsafe { call(libc::SYS_recvmsg, [socket as usize, place, flags, 0, 0, 0]) }?;
    let told = message.msg_controllen as usize;
    let is_whole = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
    let mut count = 0;
    if told >= Control::length(1)
        && control.header.cmsg_level == libc::SOL_SOCKET
        && control.header.cmsg_type == libc::SCM_RIGHTS
    {
        count = (control.header.cmsg_len as usize).saturating_sub(Control::length(0))
            / size_of::<i32>();
    }
    let count = count.min(FDS_MAX);
    *fds = control.fds;
    if !is_whole {
        for fd in fds.iter().take(count) {
            super::syscall::close(*fd);
        }
        return Err(Errno(libc::EMSGSIZE));
    }
    Ok(Received { bytes: length, fds: count })
}

fn new_control() -> Control {
    let header = core::mem::MaybeUninit::<libc::cmsghdr>::zeroed();
    // SAFETY: every field may be zero.
    Control { header: unsafe { header.assume_init() }, fds: [-1; FDS_MAX] }
}

/// A message of one piece with room for descriptors.
fn message(piece: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    let message = core::mem::MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: every field may be zero.
    let mut message = unsafe { message.assume_init() };
    message.msg_iov = piece;
    message.msg_iovlen = 1;
    message.msg_control = core::ptr::from_mut(control).cast();
    message
}
