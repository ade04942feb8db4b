//! ptrace, in the form that a capture needs (see ptrace(2)).
//!
//! PTRACE_SEIZE alone: a thread that is held by it runs on when its tracer dies.
//! Must be called from one thread, since the kernel knows tracers as threads.

#![expect(unsafe_code, reason = "ptrace takes pointers")]

use core::ffi::{c_long, c_uint, c_void};
use core::ptr;

use super::sys::{Errno, last_errno};
use crate::registers::{Registers, TRACE_FP_BYTES, TRACE_WORDS};

/// The register sets (see elf.h).
const NT_PRSTATUS: usize = 1;
const NT_PRFPREG: usize = 2;

/// One request whose data is a number or nothing.
fn request(request: c_uint, tid: i32, data: usize) -> Result<(), Errno> {
    let none: *mut c_void = ptr::null_mut();
    let data: *mut c_void = ptr::without_provenance_mut(data);
    // SAFETY: none of the requests that this file makes here reads or writes memory of the caller.
    let result = unsafe { libc::ptrace(request as _, tid, none, data) };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}

/// Begins to trace a thread, which goes on running.
pub(super) fn seize(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE as _, tid, 0)
}

/// Asks a traced thread to stop.
pub(super) fn interrupt(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT as _, tid, 0)
}

/// Lets a stopped thread go, with the signal that it was about to take.
pub(super) fn detach(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH as _, tid, usize::try_from(signal).unwrap_or(0))
}

/// The general registers of a stopped thread; ESRCH when it isn't stopped.
pub(super) fn general(tid: i32, words: &mut [u64; TRACE_WORDS]) -> Result<usize, Errno> {
    let bytes = register_set(tid, NT_PRSTATUS, words.as_mut_ptr().cast(), size_of_val(words))?;
    Ok(bytes / size_of::<u64>())
}

/// The registers of a stopped thread, the floating-point ones as far as the kernel gives them.
pub(super) fn registers(tid: i32, general: &[u64]) -> Option<Registers> {
    let mut fp = [0_u8; TRACE_FP_BYTES];
    let got = register_set(tid, NT_PRFPREG, fp.as_mut_ptr().cast(), fp.len()).unwrap_or(0);
    Registers::from_trace(general, fp.get(..got).unwrap_or_default())
}

/// Reads one register set to `place`, which has room for `len` bytes; returns how many there are.
fn register_set(tid: i32, set: usize, place: *mut c_void, len: usize) -> Result<usize, Errno> {
    let mut buffer = libc::iovec { iov_base: place, iov_len: len };
    let set: *mut c_void = ptr::without_provenance_mut(set);
    // SAFETY: the kernel writes at most `iov_len` bytes to `place`, which both callers own with that length.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGSET as _, tid, set, &raw mut buffer) };
    if result == -1 {
        return Err(last_errno());
    }
    Ok(buffer.iov_len.min(len))
}

/// One word of the memory of a stopped thread.
pub(super) fn peek(tid: i32, address: u64) -> Result<u64, Errno> {
    let mut word: c_long = 0;
    // The system call writes the word to its last argument; the C library's function would return it in place of an error.
    // SAFETY: the kernel writes one word to `word` and reads only the other process.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKDATA, tid, address, &raw mut word) };
    if result == -1 {
        return Err(last_errno());
    }
    Ok(word as u64)
}
