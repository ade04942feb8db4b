//! The doors for the fuzzers in `fuzz/`, which are there only when those are built.
//!
//! Each takes any bytes, and asserts what must hold whatever they are.

#![expect(unsafe_code, reason = "the memory that is read as a target's lies at an address of our choice")]

use core::ptr;

use crate::linux::fuzzing as linux;
use crate::parse::{auxv, directory, elf, maps, process};

/// Where the hostile memory lies, and how much there is; below what an address sanitizer takes for itself.
const MEMORY_AT: u64 = 0x4000_0000;
const MEMORY_BYTES: usize = 64 * 1024;

/// Modules that the memory is cut into, at most.
const MODULES_MAX: usize = 16;

/// Every parser of bytes, with the same bytes.
pub fn texts(data: &[u8]) {
    let (mappings, _) = maps::parse(data);
    for pair in mappings.windows(2) {
        assert!(pair[0].end <= pair[1].start);
    }
    for mapping in &mappings {
        assert!(mapping.start < mapping.end);
        let _ = mapping.name(data);
        assert_eq!(maps::find(&mappings, mapping.end - 1), Some(mapping));
    }
    linux::plans(&mappings, data);
    directory::numbers(data, |number| assert!(number >= 0));
    let _ = process::stat(data);
    let _ = process::status_number(data, b"Tgid:");
    let _ = process::syscall_pointers(data);
    let _ = auxv::value(data, auxv::PHDR);
    assert!(auxv::find_on_stack(data, MEMORY_AT).is_none_or(|at| at < data.len()));
    let _ = elf::header(data);
    assert!(elf::segments(data).count() <= elf::SEGMENTS_MAX);
    for align in [0, 4, 8] {
        assert!(elf::build_id(data, align).is_none_or(|id| !id.is_empty() && id.len() <= 64));
    }
}

/// The modules and the linker's list of a target whose memory is `data`.
///
/// The first byte says into how many modules it is cut.
pub fn modules(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let rest = rest.get(..rest.len().min(MEMORY_BYTES)).unwrap_or_default();
    memory().get_mut(..rest.len()).unwrap_or_default().copy_from_slice(rest);
    let count = usize::from(*first) % MODULES_MAX + 1;
    linux::describe(MEMORY_AT, MEMORY_BYTES, count);
    let (_, rest) = memory().split_at_mut(rest.len());
    rest.fill(0);
}

/// The memory, mapped at the first call.
fn memory() -> &'static mut [u8] {
    static MAPPED: std::sync::Once = std::sync::Once::new();
    let place = ptr::without_provenance_mut(MEMORY_AT as usize);
    MAPPED.call_once(|| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the flag makes the kernel refuse a place where something is.
        let mapped = unsafe { libc::mmap(place, MEMORY_BYTES, protection, flags, -1, 0) };
        assert_eq!(mapped, place);
    });
    // SAFETY: the memory was mapped above with this length and is never given back, and the fuzzer has one thread that lets go of it before it asks again.
    unsafe { core::slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(MEMORY_AT as usize), MEMORY_BYTES) }
}
