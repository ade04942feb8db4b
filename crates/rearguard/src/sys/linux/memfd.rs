//! Memory without a name that can be sealed (`memfd_create(2)`).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::heap::{List, zeros};

use super::process::last_errno;

/// Absent from older C libraries' headers; kernels before 6.3 answer EINVAL.
const MFD_NOEXEC_SEAL: libc::c_uint = 8;

/// What keeps a size as it is: without it the worker's ftruncate would kill the guard by SIGBUS.
pub(crate) const SIZE_SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
/// What keeps the content too.
pub(crate) const ALL_SEALS: i32 = SIZE_SEALS | libc::F_SEAL_WRITE;

/// Owns a descriptor that was just made.
///
/// # Safety
///
/// It is nobody else's.
#[inline(never)]
pub(super) unsafe extern "C" fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: as the caller says.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Makes `bytes` of memory; the error is the system's number.
pub(crate) fn create(name: &CStr, bytes: usize) -> Result<OwnedFd, i32> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is NUL-terminated.
    let mut fd = unsafe { libc::memfd_create(name.as_ptr(), flags | MFD_NOEXEC_SEAL) };
    if fd < 0 && last_errno() == libc::EINVAL {
        // SAFETY: as above.
        fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    }
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    let fd = unsafe { take(fd) };
    // SAFETY: no memory is involved.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), bytes as libc::off_t) } != 0 {
        return Err(last_errno());
    }
    Ok(fd)
}

/// Makes memory that holds `content` and can't be changed any more.
pub(crate) fn sealed(name: &CStr, content: &[u8]) -> Result<OwnedFd, i32> {
    let fd = create(name, content.len())?;
    let mut written = 0;
    while let Some(rest) = content.get(written..)
        && !rest.is_empty()
    {
        // SAFETY: pointer and length are those of a living slice.
        let count = unsafe {
            libc::pwrite(fd.as_raw_fd(), rest.as_ptr().cast(), rest.len(), written as libc::off_t)
        };
        match count {
            count if count > 0 => written += count as usize,
            0 => return Err(libc::EIO),
            _ if last_errno() == libc::EINTR => {}
            _ => return Err(last_errno()),
        }
    }
    seal(&fd, ALL_SEALS)?;
    Ok(fd)
}

/// Adds seals.
pub(crate) fn seal(fd: &OwnedFd, seals: i32) -> Result<(), i32> {
    // SAFETY: no memory is involved.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(last_errno());
    }
    Ok(())
}

/// Whether a descriptor is such memory with at least these seals; another kind of file has none.
pub(crate) fn has_seals(fd: RawFd, seals: i32) -> bool {
    // SAFETY: no memory is involved.
    let present = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    present >= 0 && present & seals == seals
}

/// The size in bytes.
pub(crate) fn size(fd: RawFd) -> Option<usize> {
    usize::try_from(status(fd)?.st_size).ok()
}

/// The inode's number, by which its mappings are known in `/proc/<pid>/maps`.
pub(crate) fn inode(fd: RawFd) -> Option<u64> {
    Some(status(fd)?.st_ino)
}

/// Whether a descriptor is a socket that keeps the bounds of messages.
#[cfg_attr(
    not(any(feature = "guard-first", feature = "roles")),
    expect(dead_code, reason = "only these two hand descriptors over")
)]
pub(super) fn is_packet_socket(fd: RawFd) -> bool {
    let mut kind: libc::c_int = 0;
    let mut bytes = size_of::<libc::c_int>() as libc::socklen_t;
    let place = (&raw mut kind).cast();
    // SAFETY: the pointers refer to living numbers of the told size.
    let asked =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, place, &raw mut bytes) };
    asked == 0 && kind == libc::SOCK_SEQPACKET
}

pub(super) fn status(fd: RawFd) -> Option<libc::stat> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the pointer refers to room for the structure.
    if unsafe { libc::fstat(fd, status.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: fstat succeeded and filled it; it was zeroed before.
    Some(unsafe { status.assume_init() })
}

/// Reads the whole of it, if it is at most `bytes_max` long.
pub(crate) fn read(fd: RawFd, bytes_max: usize) -> Option<List<u8>> {
    let size = size(fd).filter(|size| *size <= bytes_max)?;
    let mut content = zeros(size);
    let mut filled = 0;
    while let Some(rest) = content.get_mut(filled..)
        && !rest.is_empty()
    {
        // SAFETY: pointer and length are those of a living slice.
        let count =
            unsafe { libc::pread(fd, rest.as_mut_ptr().cast(), rest.len(), filled as libc::off_t) };
        match count {
            count if count > 0 => filled += count as usize,
            0 => return None,
            _ if last_errno() == libc::EINTR => {}
            _ => return None,
        }
    }
    Some(content)
}

/// Maps it shared, readable and writable, for the life of the process.
pub(crate) fn map(fd: RawFd, bytes: usize) -> Result<*mut u8, i32> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let start = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd,
            0,
        )
    };
    if start == libc::MAP_FAILED { Err(last_errno()) } else { Ok(start.cast()) }
}
