//! The demo's bug, a real one: a document that isn't there is written to.
//!
//! The only unsafe code of the tool.
//! It is what a mistake in a C library or behind a raw pointer does, and nothing about it knows that it will be caught.

#![expect(unsafe_code, reason = "the demo has to crash truly")]

use std::mem::offset_of;

/// The document that the user is writing.
#[repr(C)]
struct Document {
    name: [u8; 24],
    unsaved_lines: u64,
}

/// The user presses "save".
#[inline(never)]
pub(super) fn save() {
    // The lookup has failed, and nobody looked.
    let missing = std::hint::black_box(std::ptr::null_mut::<Document>());
    mark_as_saved(missing);
}

#[inline(never)]
fn mark_as_saved(document: *mut Document) {
    let lines = document.wrapping_byte_add(offset_of!(Document, unsaved_lines)).cast::<u64>();
    // SAFETY: none. The pointer is null plus a field's offset, which no process has mapped: the write ends in SIGSEGV
    // and changes nothing.
    unsafe { lines.write_volatile(0) };
}

/// The function that the write is in, for the check that the dump is understood.
pub(super) const FUNCTION: &str = "mark_as_saved";

/// Where the write goes, for the check that the dump tells the truth.
pub(super) const ADDRESS: u64 = offset_of!(Document, unsaved_lines) as u64;
