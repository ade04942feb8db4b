//! Lists and texts on the heap, by functions that end the process where there is no memory for them.
//!
//! The standard library's lists are code for each kind of item, which may unwind and gives back each item by itself; they were a quarter of the crate.
//! Here every item is plain data, and one function for all kinds makes room and one gives it back.
//! Nobody here could go on without memory.

#![expect(unsafe_code, reason = "lists of the crate's own")]

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};
use core::slice;
use std::alloc::{self, Layout};

/// Where something is in a list of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The bytes there, or nothing where there is no such place.
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn of_mut(self, bytes: &mut [u8]) -> &mut [u8] {
        bytes.get_mut(self.start..self.end).unwrap_or_default()
    }
}

/// A list that grows.
pub(crate) struct List<T: Copy> {
    raw: Raw,
    of: PhantomData<T>,
}

/// What a list is without the kind of its items.
struct Raw {
    /// Aligned for the items; the memory of `room` items where that isn't 0.
    start: NonNull<u8>,
    len: usize,
    room: usize,
    /// The size of an item, once there was room for any.
    size: usize,
}

// SAFETY: a list owns its items, and shares nothing else.
unsafe impl<T: Copy + Send> Send for List<T> {}
// SAFETY: as above; whoever has a shared list can only read it.
unsafe impl<T: Copy + Sync> Sync for List<T> {}

impl<T: Copy> List<T> {
    #[inline(never)]
    pub(crate) const fn new() -> List<T> {
        const { assert!(size_of::<T>() > 0 && align(size_of::<T>()) >= align_of::<T>(), "an item that needs other memory") };
        List { raw: Raw { start: NonNull::<T>::dangling().cast(), len: 0, room: 0, size: 0 }, of: PhantomData }
    }

    /// Forgets the items from a place on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.raw.len = self.raw.len.min(len);
    }

    /// Keeps the items that are wanted.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        let mut kept = 0;
        for index in 0..self.len() {
            let Some(item) = self.get(index).copied() else { break };
            if wanted(&item) {
                if let Some(place) = self.get_mut(kept) {
                    *place = item;
                }
                kept += 1;
            }
        }
        self.truncate(kept);
    }
}

impl<T: Copy> Default for List<T> {
    fn default() -> List<T> {
        List::new()
    }
}

impl<T: Copy> Deref for List<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `start` is aligned, and `len` items were written there, of which nobody else has a unique reference.
        unsafe { slice::from_raw_parts(self.raw.start.as_ptr().cast(), self.raw.len) }
    }
}

impl<T: Copy> DerefMut for List<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and nobody else has any reference.
        unsafe { slice::from_raw_parts_mut(self.raw.start.as_ptr().cast(), self.raw.len) }
    }
}

impl<'l, T: Copy> IntoIterator for &'l List<T> {
    type Item = &'l T;
    type IntoIter = slice::Iter<'l, T>;

    fn into_iter(self) -> slice::Iter<'l, T> {
        self.iter()
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Copy> Drop for List<T> {
    fn drop(&mut self) {
        give_back(&mut self.raw);
    }
}

impl From<List<u8>> for Vec<u8> {
    fn from(list: List<u8>) -> Vec<u8> {
        let list = core::mem::ManuallyDrop::new(list);
        // SAFETY: the memory is the global allocator's, of `room` bytes that are aligned to 1, and `len` of them were written; the list is never dropped.
        unsafe { Vec::from_raw_parts(list.raw.start.as_ptr(), list.raw.len, list.raw.room) }
    }
}

/// How items of a size are aligned, whatever they are: to the largest power of two that divides the size, as every type allows, but no more than a number.
const fn align(size: usize) -> usize {
    let align = size & size.wrapping_neg();
    if align > align_of::<u64>() { align_of::<u64>() } else { align }
}

/// Makes room for more items; ends the process where there is none.
#[inline(never)]
extern "C" fn make_room(raw: &mut Raw, more: usize, size: usize) {
    let needed = raw.len.saturating_add(more);
    if needed <= raw.room {
        return;
    }
    let room = needed.max(raw.room.saturating_mul(2)).max(4);
    let Some(layout) = room.checked_mul(size).and_then(|bytes| Layout::from_size_align(bytes, align(size)).ok()) else {
        std::process::abort();
    };
    let start = if raw.room == 0 {
        // SAFETY: no item has no size, so the layout hasn't either.
        unsafe { alloc::alloc(layout) }
    } else {
        // SAFETY: the same product and alignment were a layout when the memory was got.
        let old = unsafe { Layout::from_size_align_unchecked(raw.room * size, align(size)) };
        // SAFETY: the memory was got with that layout, and the new size is a layout's.
        unsafe { alloc::realloc(raw.start.as_ptr(), old, layout.size()) }
    };
    let Some(start) = NonNull::new(start) else { std::process::abort() };
    raw.start = start;
    raw.room = room;
    raw.size = size;
}

/// Gives back the memory of a list that nobody uses any more.
#[inline(never)]
extern "C" fn give_back(raw: &mut Raw) {
    if raw.room > 0 {
        // SAFETY: the same product and alignment were a layout when the memory was got.
        let layout = unsafe { Layout::from_size_align_unchecked(raw.room * raw.size, align(raw.size)) };
        // SAFETY: the memory was got with that layout, and only the drop of its list comes here.
        unsafe { alloc::dealloc(raw.start.as_ptr(), layout) };
    }
}

/// Makes room for more items, so that the list isn't moved for each of them.
pub(crate) fn reserve<T: Copy>(list: &mut List<T>, more: usize) {
    make_room(&mut list.raw, more, size_of::<T>());
}

/// Where the memory of a list is, with the room for more: address and bytes.
pub(crate) fn place<T: Copy>(list: &List<T>) -> (usize, usize) {
    (list.raw.start.as_ptr().addr(), list.raw.room * size_of::<T>())
}

/// Adds an item to a list.
#[inline(always)]
pub(crate) fn add<T: Copy>(list: &mut List<T>, item: T) {
    insert(list, usize::MAX, item);
}

/// Appends bytes.
#[expect(improper_ctypes_definitions, reason = "nothing of C calls it; the ABI is the one that doesn't unwind")]
#[inline(never)]
pub(crate) extern "C" fn append(bytes: &mut List<u8>, part: &[u8]) {
    // SAFETY: these are the bytes of `part`, and bytes are what the list has.
    unsafe { append_items(&mut bytes.raw, part.as_ptr(), part.len(), 1) };
}

/// Appends items.
///
/// # Safety
///
/// At `items` there are `count` of the list's kind, which has that size.
#[inline(never)]
unsafe extern "C" fn append_items(raw: &mut Raw, items: *const u8, count: usize, size: usize) {
    make_room(raw, count, size);
    // SAFETY: there is room for all of them behind the items that there are.
    let place = unsafe { raw.start.as_ptr().add(raw.len * size) };
    // SAFETY: the caller vouches for the items, and no list's room lies in another's.
    unsafe { ptr::copy_nonoverlapping(items, place, count * size) };
    raw.len += count;
}

/// Appends bytes, and says where they are.
pub(crate) fn put(bytes: &mut List<u8>, part: &[u8]) -> Span {
    let start = bytes.len();
    append(bytes, part);
    Span { start, end: bytes.len() }
}

/// Makes bytes longer, by copies of one, or shorter.
#[inline(never)]
pub(crate) extern "C" fn resize(bytes: &mut List<u8>, len: usize, byte: u8) {
    let more = len.saturating_sub(bytes.len());
    reserve(bytes, more);
    // SAFETY: there is room for so many more bytes behind those that there are.
    let place = unsafe { bytes.raw.start.as_ptr().add(bytes.raw.len) };
    // SAFETY: as above.
    unsafe { ptr::write_bytes(place, byte, more) };
    bytes.raw.len = len;
}

/// A list of one's own with the same items.
pub(crate) fn copied<T: Copy>(items: &[T]) -> List<T> {
    let mut list: List<T> = List::new();
    // SAFETY: these are the items of the slice, and the list has the same kind.
    unsafe { append_items(&mut list.raw, items.as_ptr().cast(), items.len(), size_of::<T>()) };
    list
}

/// Puts an item into a list, before those from a place on.
#[inline(always)]
pub(crate) fn insert<T: Copy>(list: &mut List<T>, at: usize, item: T) {
    let place: *mut T = make_gap(&mut list.raw, at, size_of::<T>()).cast();
    // SAFETY: the place is aligned, the list's own, and its item was moved on.
    unsafe { place.write(item) };
}

/// Moves the items from a place on by one, and returns where there is room for one then; at the end if there are fewer.
#[inline(never)]
extern "C" fn make_gap(raw: &mut Raw, at: usize, size: usize) -> *mut u8 {
    make_room(raw, 1, size);
    let at = at.min(raw.len);
    // SAFETY: `at` items of that size are within the memory.
    let place = unsafe { raw.start.as_ptr().add(at * size) };
    // SAFETY: there is room for one more item than there are.
    let behind = unsafe { place.add(size) };
    // SAFETY: the items from `at` on move up by one, into the room.
    unsafe { ptr::copy(place, behind, (raw.len - at) * size) };
    raw.len += 1;
    place
}

/// The text that bytes are, which are the crate's own words.
pub(crate) fn into_text(bytes: List<u8>) -> String {
    String::from_utf8(bytes.into()).unwrap_or_default()
}

/// Makes the compiler give the calling function a frame pointer.
///
/// In a function without one, and made for size, each constant that goes over the stack is two entries of the unwind tables; in the largest ten that came to five kilobytes of every executable.
/// What is aligned more strictly than the stack takes the pointer.
#[inline(always)]
pub(crate) fn with_frame_pointer() {
    #[repr(align(32))]
    struct Aligned;
    let aligned = Aligned;
    core::hint::black_box(&aligned);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_and_shrink() {
        let mut list = List::new();
        assert!(list.is_empty());
        for number in 0..1000_u64 {
            add(&mut list, number);
        }
        insert(&mut list, 3, 77);
        insert(&mut list, 1001, 78);
        assert_eq!((list.len(), list[2], list[3], list[4], list[1001]), (1002, 2, 77, 3, 78));
        list.retain(|number| number % 2 == 1);
        assert_eq!(&list[..4], [1, 77, 3, 5]);
        list.truncate(1);
        assert_eq!(*list, [1]);
    }

    #[test]
    fn bytes_become_a_vector() {
        let mut bytes = copied(b"abc");
        resize(&mut bytes, 5, b'x');
        assert_eq!(put(&mut bytes, b"yz"), Span { start: 5, end: 7 });
        resize(&mut bytes, 6, 0);
        assert_eq!(Vec::from(bytes), b"abcxxy");
        assert_eq!(Vec::from(List::new()), b"");
        assert_eq!(&*copied(&[3, 1]), [3, 1]);
    }

    #[test]
    fn a_place_outside_is_empty() {
        let span = Span { start: 2, end: 9 };
        assert_eq!((span.of(b"abc"), span.len(), span.is_empty()), (&b""[..], 7, false));
        assert_eq!(Span { start: 1, end: 3 }.of(b"abc"), b"bc");
        assert!(Span { start: 3, end: 1 }.is_empty());
    }
}
