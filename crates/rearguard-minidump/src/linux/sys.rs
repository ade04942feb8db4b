//! The system calls of a capture, each behind a function that is safe to call.
//!
//! Results are error numbers, since the callers decide by them.
//! Nothing here keeps state, retries, or waits longer than it is told.

#![expect(unsafe_code, reason = "system calls take pointers")]

use core::ffi::{CStr, c_int, c_long};
use core::ops::Range;
use core::ptr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::heap::{self, List};

/// An error number.
pub(super) type Errno = i32;

/// The error number of the call that just failed.
pub(super) fn last_errno() -> Errno {
    // SAFETY: asking has no conditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the C library keeps the number for as long as this thread lives, and nobody else changes it.
    unsafe { place.read() }
}

/// The result of a call that returns -1 for failure.
fn checked(result: c_long) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| last_errno())
}

/// Opens for reading, relative to a directory or to the working directory.
pub(super) fn open(directory: Option<&OwnedFd>, path: &CStr, flags: c_int) -> Result<OwnedFd, Errno> {
    let directory = directory.map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd);
    // O_NONBLOCK: no file that is named here blocks, and one that was put in its place mustn't.
    let flags = flags | libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: `path` ends with NUL, and no mode is read without O_CREAT.
    let fd = unsafe { libc::openat(directory, path.as_ptr(), flags) };
    checked(c_long::from(fd))?;
    // SAFETY: the call above returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Where a link leads, as far as `max` bytes tell.
pub(super) fn read_link(directory: &OwnedFd, path: &CStr, max: usize) -> Result<List<u8>, Errno> {
    let mut link = List::new();
    heap::resize(&mut link, max, 0);
    // SAFETY: the path ends with NUL, and the kernel writes at most `link.len()` bytes.
    let got = unsafe { libc::readlinkat(directory.as_raw_fd(), path.as_ptr(), link.as_mut_ptr().cast(), link.len()) };
    link.truncate(checked(got as c_long)?);
    Ok(link)
}

/// Reads into `buffer`; 0 is the end.
pub(super) fn read(file: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let got = unsafe { libc::read(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    checked(got as c_long)
}

/// Reads into `buffer` at an offset, which may be any address for a file of memory.
pub(super) fn read_at(file: &OwnedFd, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let offset = i64::try_from(offset).map_err(|_| libc::EFAULT)?;
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let got = unsafe { libc::pread(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset) };
    checked(got as c_long)
}

/// Entries of a directory in the form of getdents64(2); 0 is the end.
pub(super) fn entries(directory: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let fd = directory.as_raw_fd();
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let got = unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) };
    checked(got)
}

/// The number of links of a file.
pub(super) fn link_count(file: &OwnedFd) -> Result<u64, Errno> {
    // SAFETY: all bytes of the structure may be zero.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes one such structure.
    let result = unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) };
    checked(c_long::from(result))?;
    // The field has another width on another processor.
    #[allow(clippy::useless_conversion, reason = "the field has another width on another processor")]
    Ok(u64::from(stat.st_nlink))
}

/// Whether the thread is one of the process's; EPERM says yes too.
pub(super) fn thread_exists(pid: i32, tid: i32) -> bool {
    ask_thread(pid, tid) != Err(libc::ESRCH)
}

/// Asks for a thread of a process; ESRCH says that it has none of that number.
pub(super) fn ask_thread(pid: i32, tid: i32) -> Result<(), Errno> {
    // SAFETY: signal 0 only asks.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) };
    checked(result).map(|_| ())
}

/// The process of the caller, and the thread.
pub(super) fn own_ids() -> (i32, i32) {
    // SAFETY: the call takes nothing and can't fail.
    let pid = unsafe { libc::getpid() };
    // SAFETY: the call takes nothing and can't fail.
    let tid = unsafe { libc::syscall(libc::SYS_gettid) };
    (pid, tid as i32)
}

/// Pieces that one call of [`read_memory`] takes: IOV_MAX of the kernel.
pub(super) const REMOTES_MAX: usize = 1024;

/// Copies pieces of a process's memory, given by address and length, one behind the other into `buffer`; stops at the first byte that can't be read.
pub(super) fn read_memory(
    tid: i32,
    pieces: impl Iterator<Item = (u64, usize)>,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    let mut remote = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; REMOTES_MAX];
    let mut count = 0;
    for (place, (address, len)) in remote.iter_mut().zip(pieces) {
        place.iov_base = ptr::without_provenance_mut(address as usize);
        place.iov_len = len;
        count += 1;
    }
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, and only reads the other process.
    let got = unsafe { libc::process_vm_readv(tid, &raw const local, 1, remote.as_ptr(), count, 0) };
    checked(got as c_long)
}

/// A clock in nanoseconds.
pub(super) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one such structure.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if result != 0 {
        return 0;
    }
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// The clock that all deadlines and times use.
pub(super) fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Waits; a signal may end it early.
pub(super) fn sleep_ns(ns: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: c_long::from(ns.min(999_999_999)) };
    // SAFETY: the kernel reads one structure, and the remaining time isn't asked for.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

/// Lets other threads run.
pub(super) fn yield_now() {
    // SAFETY: the call takes nothing.
    unsafe { libc::sched_yield() };
}

/// A set of processors, a bit for each, with room for as many as the C library's.
#[cfg(target_env = "gnu")]
pub(super) type Processors = [u64; 16];

/// Whatever processors there are.
#[cfg(target_env = "gnu")]
pub(super) const ALL_PROCESSORS: Processors = [u64::MAX; 16];

/// The processor that the calling thread is on, and the others that it may use; `None` where it may use no other.
#[cfg(target_env = "gnu")]
pub(super) fn processors_apart() -> Option<[Processors; 2]> {
    let mut others: Processors = [0; 16];
    // SAFETY: the kernel writes as much of the set as it has processors.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&others), others.as_mut_ptr().cast()) };
    checked(c_long::from(result)).ok()?;
    // SAFETY: the call takes nothing.
    let at = usize::try_from(unsafe { libc::sched_getcpu() }).ok()?;
    let mut here: Processors = [0; 16];
    let bit = 1 << (at % 64);
    *here.get_mut(at / 64)? = bit;
    *others.get_mut(at / 64)? &= !bit;
    (size(&others) > 0).then_some([here, others])
}

/// How many processors are in a set.
#[cfg(target_env = "gnu")]
pub(super) fn size(set: &Processors) -> usize {
    let mut count = 0;
    for word in set {
        let mut left = *word;
        // One bit less each time; without the processor's own instruction the standard library's count is five times the code.
        while left != 0 {
            left &= left - 1;
            count += 1;
        }
    }
    count
}

/// Lets the calling thread run on these processors alone; where it may not choose, nothing happens.
#[cfg(target_env = "gnu")]
pub(super) fn run_on(set: &Processors) {
    // SAFETY: the kernel reads the set, whose size is told.
    unsafe { libc::sched_setaffinity(0, size_of_val(set), set.as_ptr().cast()) };
}

/// Clock ticks a second, which times of the kernel's texts have.
pub(super) fn ticks_per_second() -> u64 {
    // SAFETY: the call takes a number and has no effect.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// Gets the pages of memory, given by address and bytes, before they are touched; where the kernel can't, which is before 5.14, the touch does. Memory that was given back meanwhile does no harm.
pub(super) fn get_pages((address, len): (usize, usize)) {
    // SAFETY: the call takes a number and has no effect.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let before = address % usize::try_from(page).unwrap_or(0).max(1);
    // SAFETY: no byte of the memory changes.
    unsafe { libc::madvise(ptr::without_provenance_mut(address - before), len + before, libc::MADV_POPULATE_WRITE) };
}

/// Processors that the system has running; 0 when it doesn't tell.
pub(super) fn processors() -> u8 {
    // SAFETY: the call takes a number and has no effect.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u8::try_from(count.clamp(0, 255)).unwrap_or(0)
}

/// System, release, version and machine of the kernel in one text; and where the release stands in it.
pub(super) fn kernel() -> (List<u8>, Range<usize>) {
    // SAFETY: all bytes of the structure may be zero.
    let mut names: libc::utsname = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes one such structure.
    unsafe { libc::uname(&raw mut names) };
    let mut text = List::new();
    let mut release = 0..0;
    for (index, name) in [&names.sysname, &names.release, &names.version, &names.machine].into_iter().enumerate() {
        if index > 0 {
            heap::append(&mut text, b" ");
        }
        let start = text.len();
        for byte in name.iter().map(|unit| *unit as u8).take_while(|byte| *byte != 0) {
            heap::append(&mut text, &[byte]);
        }
        if index == 1 {
            release = start..text.len();
        }
    }
    (text, release)
}

/// What a traced thread did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It is stopped; the signal that it is about to take, or 0.
    Stopped(i32),
    /// It ended.
    Ended,
    /// Nothing yet.
    Nothing,
}

/// Takes the next event of a traced thread, and its status with it.
pub(super) fn take_event(tid: i32, block: bool) -> Result<Event, Errno> {
    let mut status = 0;
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: the kernel writes one number.
    let result = unsafe { libc::waitpid(tid, &raw mut status, flags) };
    Ok(match checked(c_long::from(result))? {
        0 => Event::Nothing,
        _ if libc::WIFSTOPPED(status) => {
            // A stop of ptrace's own making carries its event above the signal, and no signal waits then.
            let signal = if status >> 16 == 0 { libc::WSTOPSIG(status) } else { 0 };
            Event::Stopped(signal)
        }
        _ => Event::Ended,
    })
}

/// Waits until a traced thread is stopped or has ended, and leaves its status where it is.
///
/// A status that was taken would take a signal with it that the thread is about to get, when the tracer ends.
pub(super) fn wait_event(tid: i32, block: bool) -> Result<Event, Errno> {
    // SAFETY: all bytes of the structure may be zero.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    let flags = flags | if block { 0 } else { libc::WNOHANG };
    // SAFETY: the kernel writes one such structure.
    let result = unsafe { libc::waitid(libc::P_PID, tid as libc::id_t, &raw mut info, flags) };
    checked(c_long::from(result))?;
    // SAFETY: waitid fills this member, or leaves the structure zero.
    let who = unsafe { info.si_pid() };
    Ok(match info.si_code {
        _ if who == 0 => Event::Nothing,
        libc::CLD_TRAPPED | libc::CLD_STOPPED => Event::Stopped(0),
        _ => Event::Ended,
    })
}
