//! The ways to die. Nothing here knows that it will be caught.
//!
//! The marks behind the lines say which frames a crash has, the innermost as 0; the tests read them.

#![expect(unsafe_code, reason = "the program has to crash truly")]

use std::ffi::c_long;
use std::hint::black_box;
use std::mem::offset_of;
use std::ptr;

/// A document, as the C++ library has it.
#[repr(C)]
struct Page {
    number: c_long,
    ink: c_long,
}

/// The document that nobody has opened.
fn missing() -> *mut Page {
    black_box(ptr::null_mut())
}

/// Something that pages are written on.
trait Desk {
    fn write(&self, page: *mut Page) -> c_long;
}

struct Table<Amount> {
    amount: Amount,
}

impl<Amount: Copy + Into<c_long>> Desk for Table<Amount> {
    #[inline(always)]
    fn write(&self, page: *mut Page) -> c_long {
        let ink = page.wrapping_byte_add(offset_of!(Page, ink)).cast();
        // SAFETY: none. Nothing is mapped there: the write ends in a fault and changes nothing.
        unsafe { ptr::write_volatile(ink, self.amount.into()) }; // rust 0: write
        self.amount.into()
    }
}

#[inline(always)]
fn sign(desk: &impl Desk, page: *mut Page) -> c_long {
    desk.write(page) + 1 // rust 1: sign
}

/// Dies in Rust, two inlined functions deep, in a closure.
#[inline(never)]
pub(crate) fn in_rust() {
    let table = Table { amount: 7_i16 };
    let work: &dyn Fn(*mut Page) -> c_long = &|page| {
        sign(&table, page) * 2 // rust 2: inlines::fault::in_rust::{closure#0}
    };
    let signed = black_box(work)(missing()); // rust 3: inlines::fault::in_rust
    println!("{signed} pages are signed");
}

/// Calls itself until the stack is full.
#[expect(unconditional_recursion, reason = "the program has to crash truly")]
#[inline(never)]
fn dig(depth: u64) -> u64 {
    let earth = black_box([depth; 16]);
    dig(depth + earth[3]) + earth[5] // every dig
}

/// Dies of a recursion without an end.
#[inline(never)]
pub(crate) fn deep() {
    let depth = dig(black_box(1)); // deep 0: inlines::fault::deep
    println!("{depth} deep");
}

#[cfg(has_cpp)]
unsafe extern "C" {
    fn press_run(page: *mut Page) -> c_long;
}

#[cfg(has_cpp)]
#[inline(always)]
fn press(page: *mut Page) -> c_long {
    // SAFETY: none. The library writes to the page, which isn't there.
    unsafe { press_run(page) } // cpp 4: press
}

/// Dies in C++, two inlined functions deep, called through an inlined function of Rust.
#[cfg(has_cpp)]
#[inline(never)]
pub(crate) fn in_cpp() {
    let printed = press(missing()); // cpp 5: inlines::fault::in_cpp
    println!("{printed} pages are printed");
}
