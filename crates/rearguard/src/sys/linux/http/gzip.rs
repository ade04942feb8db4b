//! Compression by the system's zlib, which libcurl brings along; without it a report goes as it is.
//!
//! Names, numbers and structure are zlib's stable ABI (zlib.h); it is soname 1 since 1995.

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

use super::library::Library;
use crate::heap::{List, zeros};

/// `z_stream`.
#[repr(C)]
struct Stream {
    next_in: *const u8,
    avail_in: c_uint,
    total_in: c_ulong,
    next_out: *mut u8,
    avail_out: c_uint,
    total_out: c_ulong,
    msg: *const c_char,
    state: *mut c_void,
    allocate: *mut c_void,
    free: *mut c_void,
    opaque: *mut c_void,
    data_type: c_int,
    adler: c_ulong,
    reserved: c_ulong,
}

type Init = unsafe extern "C" fn(
    *mut Stream,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    *const c_char,
    c_int,
) -> c_int;
type Deflate = unsafe extern "C" fn(*mut Stream, c_int) -> c_int;

/// The level that zlib takes by itself, its only method, a window of 32 KiB with gzip's head around it, and the memory and strategy of the default.
const LEVEL: c_int = -1;
const DEFLATED: c_int = 8;
const GZIP_WINDOW: c_int = 15 + 16;
const MEMORY_LEVEL: c_int = 8;
const STRATEGY: c_int = 0;
/// Everything at once, and that it is done.
const FINISH: c_int = 4;
const STREAM_END: c_int = 1;

/// A body in gzip's form, where that is shorter; `None` where it isn't, or there is no zlib.
pub(crate) fn compress(body: &[u8]) -> Option<List<u8>> {
    let library = Library::load(c"libz.so.1")?;
    let init = library.symbol(c"deflateInit2_")?;
    // SAFETY: zlib's ABI gives this name this type.
    let init: Init = unsafe { core::mem::transmute(init) };
    let deflate = library.symbol(c"deflate")?;
    // SAFETY: as above.
    let deflate: Deflate = unsafe { core::mem::transmute(deflate) };
    // No larger than the body: what doesn't fit isn't worth sending.
    let mut compressed = zeros(body.len());
    let mut stream = core::mem::MaybeUninit::<Stream>::zeroed();
    // SAFETY: zeros are valid for all of its members.
    let stream = unsafe { stream.assume_init_mut() };
    stream.next_in = body.as_ptr();
    // A report has far less than four gigabytes.
    stream.avail_in = body.len() as c_uint;
    stream.next_out = compressed.as_mut_ptr();
    stream.avail_out = stream.avail_in;
    let version = c"1".as_ptr();
    let size = size_of::<Stream>() as c_int;
    // SAFETY: the structure is zlib's, zeroed where zlib asks for it, and alive.
    let begun = unsafe {
        init(stream, LEVEL, DEFLATED, GZIP_WINDOW, MEMORY_LEVEL, STRATEGY, version, size)
    };
    // What zlib has allocated stays; the guard ends soon.
    // SAFETY: the structure was initialised, and its pointers are those of living slices.
    if begun != 0 || unsafe { deflate(stream, FINISH) } != STREAM_END {
        return None;
    }
    compressed.truncate(stream.total_out as usize);
    Some(compressed)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: what can be made shorter is, in gzip's form; what can't goes as it is.
    #[test]
    fn only_what_helps() {
        let body = vec![7; 100_000];
        if let Some(compressed) = compress(&body) {
            assert!(compressed.len() < 1_000 && compressed.starts_with(&[0x1f, 0x8b, 8]));
        }
        let mut random = [0; 200];
        crate::sys::process::random(&mut random);
        assert_eq!(compress(&random), None);
        assert_eq!(compress(b""), None);
    }
}
