//! Texts, bytes and lists on the heap, by functions that end the process where there is no memory for them.
//!
//! The standard library's own may unwind, by their type, and whoever holds anything needs a landing pad around each call of theirs.
//! Nobody here could go on without memory, and a guard whose panic unwound would run on in the application's `main`.
//! In a program whose panics unwind, the pads and their tables were a tenth of what rearguard adds to it.

#![expect(
    improper_ctypes_definitions,
    reason = "nothing of C calls these; the ABI is the one that doesn't unwind"
)]

use core::mem::MaybeUninit;
use std::ffi::OsStr;
use std::path::{MAIN_SEPARATOR_STR, Path, PathBuf};

/// Adding to a text.
pub(crate) trait PutText {
    /// Appends a part.
    extern "C" fn put(&mut self, part: &str);

    /// Appends a character.
    extern "C" fn put_char(&mut self, character: char);
}

impl PutText for String {
    #[inline(never)]
    extern "C" fn put(&mut self, part: &str) {
        self.push_str(part);
    }

    #[inline(never)]
    extern "C" fn put_char(&mut self, character: char) {
        self.push(character);
    }
}

/// Adding to bytes.
pub(crate) trait PutBytes {
    /// Appends a part.
    extern "C" fn put(&mut self, part: &[u8]);
}

impl PutBytes for Vec<u8> {
    #[inline(never)]
    extern "C" fn put(&mut self, part: &[u8]) {
        self.extend_from_slice(part);
    }
}

/// A text of one's own.
#[inline(never)]
pub(crate) extern "C" fn owned(text: &str) -> String {
    text.to_owned()
}

/// An empty text with room for so many bytes.
#[inline(never)]
pub(crate) extern "C" fn text_of(bytes: usize) -> String {
    String::with_capacity(bytes)
}

/// A text of one's own; what is no UTF-8 becomes U+FFFD.
#[inline(never)]
pub(crate) extern "C" fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The system's words for an error number.
#[inline(never)]
pub(crate) extern "C" fn system_reason(code: i32) -> String {
    std::io::Error::from_raw_os_error(code).to_string()
}

/// Bytes of one's own.
#[inline(never)]
pub(crate) extern "C" fn copied(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// So many zeros.
#[inline(never)]
pub(crate) extern "C" fn zeros(count: usize) -> Vec<u8> {
    vec![0; count]
}

/// A path below a directory; `name` is no path of its own.
pub(crate) fn below(directory: &Path, name: impl AsRef<OsStr>) -> PathBuf {
    joined(directory, name.as_ref())
}

#[inline(never)]
extern "C" fn joined(directory: &Path, name: &OsStr) -> PathBuf {
    let mut path = directory.as_os_str().to_owned();
    path.push(MAIN_SEPARATOR_STR);
    path.push(name);
    PathBuf::from(path)
}

/// A value on the heap that nobody ever drops, unless it is made a box again.
pub(crate) fn kept<T>(value: T) -> &'static mut T {
    Box::leak(Box::write(room(), value))
}

#[inline(never)]
extern "C" fn room<T>() -> Box<MaybeUninit<T>> {
    Box::new_uninit()
}

/// Adds an item to a list.
pub(crate) fn add<T>(list: &mut Vec<T>, item: T) {
    if cfg!(panic = "unwind") {
        make_room(list);
        // Never; it tells the compiler that `push` has nothing left that could fail.
        if list.len() == list.capacity() {
            std::process::abort();
        }
    }
    list.push(item);
}

#[inline(never)]
extern "C" fn make_room<T>(list: &mut Vec<T>) {
    list.reserve(1);
}
