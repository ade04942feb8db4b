//! The exceptions that software raises: the C and C++ runtimes, and the system's own checks.

#![expect(unsafe_code, reason = "every function here exists to break one rule of a runtime")]

use std::ffi::{c_char, c_int};
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{STATUS_HEAP_CORRUPTION, STATUS_INVALID_CRUNTIME_PARAMETER};
use windows_sys::Win32::System::Diagnostics::Debug::RaiseException;

/// The code of every C++ exception: 0xe0, and "msc".
const CPP_EXCEPTION: u32 = 0xe06d_7363;

/// The first parameter of a C++ exception.
const CPP_MAGIC: usize = 0x1993_0520;

/// Execution can't go on at the instruction that raised.
const NONCONTINUABLE: u32 = 1;

mod c {
    use super::{c_char, c_int};

    // SAFETY: the C library's own signatures.
    unsafe extern "C" {
        /// What a call of a function without a body ends in.
        pub(super) safe fn _purecall() -> c_int;
        pub(super) fn strcpy_s(to: *mut c_char, bytes: usize, from: *const c_char) -> c_int;
    }
}

/// Calls what stands in a C++ class for a function without a body.
pub(super) fn purecall() {
    std::hint::black_box(c::_purecall());
}

/// Calls a function of the C library in a way that it forbids.
///
/// An old C library may return an error and leave it at that; then the exception of its successors is raised by hand.
pub(super) fn invalid_parameter() {
    // SAFETY: a null target with no room is refused before anything is written.
    let refused = unsafe { c::strcpy_s(null_mut(), 0, c"x".as_ptr()) };
    std::hint::black_box(refused);
    raise(STATUS_INVALID_CRUNTIME_PARAMETER.cast_unsigned(), &[]);
}

/// Throws what nobody catches.
///
/// Three parameters, not the four of this processor's C++: with those, Rust's own frames would catch it and abort.
pub(super) fn cpp_exception() {
    static OBJECT: c_int = 1;
    let no_type: *const u8 = null();
    raise(CPP_EXCEPTION, &[CPP_MAGIC, (&raw const OBJECT).addr(), no_type.addr()]);
}

/// What the heap raises when it finds itself broken.
pub(super) fn heap_corruption() {
    raise(STATUS_HEAP_CORRUPTION.cast_unsigned(), &[]);
}

fn raise(code: u32, parameters: &[usize]) {
    let count = u32::try_from(parameters.len()).unwrap_or_default();
    // SAFETY: the pointer and the count are those of one live slice.
    unsafe { RaiseException(code, NONCONTINUABLE, count, parameters.as_ptr()) };
}
