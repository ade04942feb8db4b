//! Texts, bytes and lists on the heap: nobody drops them, and the process ends where there is no memory for them.
//!
//! A guard makes few of them and ends soon, and so does a worker's start; whoever drops nothing needs no code for it, at each place where a value's life ends and at each call in between that could unwind.
//! Of a program's size that was a thirtieth. What is large, a minidump or what is sent of it, is given back by name ([`List::give_back`]); what can come again and again, as an error of the application's, is the standard library's own type.
//! With the feature `roles` all of them are dropped like any other value.
//!
//! The standard library's own may unwind, by their type, and whoever holds anything needs a landing pad around each call of theirs.
//! Nobody here could go on without memory, and a guard whose panic unwound would run on in the application's `main`.
//! In a program whose panics unwind, the pads and their tables were a tenth of what rearguard adds to it.

#![expect(
    improper_ctypes_definitions,
    reason = "nothing of C calls these; the ABI is the one that doesn't unwind"
)]

use core::fmt;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use std::ffi::OsStr;
use std::path::{MAIN_SEPARATOR_STR, Path};

/// What holds the value of a list or a text.
#[cfg(not(feature = "roles"))]
use core::mem::ManuallyDrop as Kept;

/// The same where one guard stands for a family: it reads of every member that comes, for as long as the application lives, so there everything is dropped.
#[cfg(feature = "roles")]
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Kept<T>(T);

#[cfg(feature = "roles")]
impl<T> Kept<T> {
    const fn new(value: T) -> Kept<T> {
        Kept(value)
    }

    fn into_inner(kept: Kept<T>) -> T {
        kept.0
    }
}

#[cfg(feature = "roles")]
impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(feature = "roles")]
impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A list that nobody drops.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct List<T>(Kept<Vec<T>>);

impl<T> List<T> {
    pub(crate) const fn new() -> List<T> {
        List(Kept::new(Vec::new()))
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// What is more than an item at a time.
    pub(crate) fn as_mut_vec(&mut self) -> &mut Vec<T> {
        &mut self.0
    }

    pub(crate) fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the items for as long as the process lives.
    pub(crate) fn leak(self) -> &'static mut [T] {
        Kept::into_inner(self.0).leak()
    }
}

impl List<u8> {
    /// Gives the memory back, where there is much of it.
    #[inline(never)]
    pub(crate) extern "C" fn give_back(self) {
        drop(Kept::into_inner(self.0));
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List::new()
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(list: Vec<T>) -> Self {
        List(Kept::new(list))
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = List::new();
        for item in items {
            add(&mut list, item);
        }
        list
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        Kept::into_inner(self.0).into_iter()
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut List<T> {
    type Item = &'a mut T;
    type IntoIter = core::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for List<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self.as_slice() == other
    }
}

impl<T: PartialEq> PartialEq<[T]> for List<T> {
    fn eq(&self, other: &[T]) -> bool {
        self.as_slice() == other
    }
}

impl<T: PartialEq> PartialEq<Vec<T>> for List<T> {
    fn eq(&self, other: &Vec<T>) -> bool {
        self.as_slice() == other
    }
}

impl<T: fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(formatter)
    }
}

impl<T: Clone> Clone for List<T> {
    fn clone(&self) -> Self {
        List(self.0.clone())
    }
}

/// A text that nobody drops.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(Kept<String>);

impl Text {
    pub(crate) const fn new() -> Text {
        Text(Kept::new(String::new()))
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Bytes as a text; `None` for what is no UTF-8.
    pub(crate) fn from_utf8(bytes: List<u8>) -> Option<Text> {
        String::from_utf8(Kept::into_inner(bytes.0)).ok().map(Text::from)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_mut_string(&mut self) -> &mut String {
        &mut self.0
    }

    /// Takes the text for as long as the process lives.
    pub(crate) fn leak(self) -> &'static str {
        Kept::into_inner(self.0).leak()
    }

    pub(crate) fn into_bytes(self) -> List<u8> {
        List::from(Kept::into_inner(self.0).into_bytes())
    }

    /// A text that is dropped, for whoever may get many of them.
    pub(crate) fn into_string(self) -> String {
        Kept::into_inner(self.0)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl AsRef<OsStr> for Text {
    fn as_ref(&self) -> &OsStr {
        self.as_str().as_ref()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(Kept::new(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        owned(text)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

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

impl PutText for Text {
    #[inline(always)]
    extern "C" fn put(&mut self, part: &str) {
        self.0.put(part);
    }

    #[inline(always)]
    extern "C" fn put_char(&mut self, character: char) {
        self.0.put_char(character);
    }
}

/// Adding to bytes.
pub(crate) trait PutBytes {
    /// Appends a part.
    extern "C" fn put(&mut self, part: &[u8]);
}

impl PutBytes for List<u8> {
    #[inline(never)]
    extern "C" fn put(&mut self, part: &[u8]) {
        self.0.extend_from_slice(part);
    }
}

/// A text of one's own.
#[inline(never)]
pub(crate) extern "C" fn owned(text: &str) -> Text {
    Text::from(text.to_owned())
}

/// An empty text with room for so many bytes.
#[inline(never)]
pub(crate) extern "C" fn text_of(bytes: usize) -> Text {
    Text::from(String::with_capacity(bytes))
}

/// A text of one's own; what is no UTF-8 becomes U+FFFD.
#[inline(never)]
pub(crate) extern "C" fn lossy(bytes: &[u8]) -> Text {
    Text::from(String::from_utf8_lossy(bytes).into_owned())
}

/// The system's words for an error number.
#[inline(never)]
pub(crate) extern "C" fn system_reason(code: i32) -> Text {
    Text::from(std::io::Error::from_raw_os_error(code).to_string())
}

/// Bytes of one's own.
#[inline(never)]
pub(crate) extern "C" fn copied(bytes: &[u8]) -> List<u8> {
    List::from(bytes.to_vec())
}

/// So many zeros.
#[inline(never)]
pub(crate) extern "C" fn zeros(count: usize) -> List<u8> {
    List::from(vec![0; count])
}

/// A path below a directory; `name` is no path of its own. It stays: a guard makes few of them and ends soon, and whoever drops nothing needs no code for it.
#[inline(always)]
pub(crate) fn below(directory: &Path, name: impl AsRef<OsStr>) -> &'static Path {
    joined(directory, name.as_ref())
}

#[inline(never)]
extern "C" fn joined(directory: &Path, name: &OsStr) -> &'static Path {
    let mut path = directory.as_os_str().to_owned();
    path.push(MAIN_SEPARATOR_STR);
    path.push(name);
    Path::new(Box::leak(path.into_boxed_os_str()))
}

/// A value on the heap that nobody ever drops, unless it is made a box again.
pub(crate) fn kept<T>(value: T) -> &'static mut T {
    Box::leak(Box::write(room(), value))
}

#[inline(never)]
extern "C" fn room<T>() -> Box<MaybeUninit<T>> {
    Box::new_uninit()
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

/// Adds an item to a list.
pub(crate) fn add<T>(list: &mut List<T>, item: T) {
    let list = &mut list.0;
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
