//! Bytes, texts and lists on the heap, by functions that end the process where there is no memory for them.
//!
//! The standard library's own may unwind, by their type, and whoever holds anything needs a landing pad around each call of theirs.
//! Nobody here could go on without memory.
//! In a program whose panics unwind, the pads and their tables were a tenth of the crate.

#![expect(improper_ctypes_definitions, reason = "nothing of C calls these; the ABI is the one that doesn't unwind")]

/// Appends bytes.
#[inline(never)]
pub(crate) extern "C" fn append(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(part);
}

/// Makes bytes longer, by copies of one, or shorter.
#[inline(never)]
pub(crate) extern "C" fn resize(bytes: &mut Vec<u8>, len: usize, byte: u8) {
    bytes.resize(len, byte);
}

/// Bytes of one's own.
#[inline(never)]
pub(crate) extern "C" fn copied(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// Ids of one's own.
#[inline(never)]
pub(crate) extern "C" fn copied_ids(ids: &[i32]) -> Vec<i32> {
    ids.to_vec()
}

/// A text of one's own; what is no UTF-8 becomes U+FFFD.
#[inline(never)]
pub(crate) extern "C" fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes room for more items, so that the list isn't moved for each of them.
#[inline(never)]
pub(crate) extern "C" fn reserve<T>(list: &mut Vec<T>, more: usize) {
    list.reserve(more);
}

/// Puts an id into a list.
#[inline(never)]
pub(crate) extern "C" fn insert(ids: &mut Vec<i32>, at: usize, id: i32) {
    ids.insert(at, id);
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

/// Puts a list where an empty one is, which isn't given back since it has nothing.
#[inline(always)]
pub(crate) fn fill<T>(place: &mut Vec<T>, list: Vec<T>) {
    core::mem::forget(core::mem::replace(place, list));
}

/// Adds an item to a list.
pub(crate) fn add<T>(list: &mut Vec<T>, item: T) {
    if cfg!(panic = "unwind") {
        reserve(list, 1);
        // Never; it tells the compiler that `push` has nothing left that could fail.
        if list.len() == list.capacity() {
            std::process::abort();
        }
    }
    list.push(item);
}
