//! A file in memory that can't become larger than its limit.
//!
//! What would go over the limit isn't written and marks the file as full; callers ask for room first where a part may be left out.

use core::str::Utf8Chunk;

use crate::bytes::{aligned, copy};
use crate::heap::{self, List};

/// U+FFFD.
const REPLACEMENT: u16 = 0xfffd;

/// The offset of something in the file.
pub(crate) type Rva = u32;

/// Where bytes are in the file, as the format puts it: size, then offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) size: u32,
    pub(crate) rva: Rva,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Writer {
    out: List<u8>,
    /// How much may still be written.
    room: usize,
}

impl Writer {
    pub(crate) fn new(limit: usize) -> Writer {
        Writer::behind(List::new(), limit)
    }

    /// One that goes on behind bytes which are in the file already.
    pub(crate) fn behind(bytes: List<u8>, limit: usize) -> Writer {
        // Offsets in the format have 32 bits.
        let room = limit.min(u32::MAX as usize).saturating_sub(bytes.len());
        Writer { out: bytes, room }
    }

    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// How much may still be written.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Changes the limit by giving back what was held in reserve.
    pub(crate) fn raise_limit(&mut self, bytes: usize) {
        self.room += bytes;
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.room {
            self.room -= bytes.len();
            heap::append(&mut self.out, bytes);
        }
    }

    pub(crate) fn zeros(&mut self, count: usize) {
        if count <= self.room {
            self.room -= count;
            let len = self.out.len() + count;
            heap::resize(&mut self.out, len, 0);
        }
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Several numbers; one call is smaller than a call for each.
    #[inline(never)]
    pub(crate) fn u32s(&mut self, values: &[u32]) {
        for value in values {
            self.u32(*value);
        }
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn location(&mut self, location: Location) {
        self.u32(location.size);
        self.u32(location.rva);
    }

    /// Goes on at a multiple of 8, as readers of the format that cast pointers need it.
    pub(crate) fn align(&mut self) {
        self.align_to(8);
    }

    /// Goes on at a multiple of a power of two.
    #[inline(never)]
    pub(crate) fn align_to(&mut self, to: usize) {
        self.zeros(aligned(self.out.len(), to) - self.out.len());
    }

    /// The offset of what is written next.
    pub(crate) fn rva(&self) -> Rva {
        // The limit keeps the length within 32 bits.
        self.out.len() as u32
    }

    /// Everything since `start`.
    pub(crate) fn since(&self, start: Rva) -> Location {
        Location { size: self.rva().saturating_sub(start), rva: start }
    }

    /// Writes over what is there; nothing happens outside of the file.
    pub(crate) fn patch(&mut self, at: Rva, bytes: &[u8]) {
        let start = at as usize;
        if let Some(place) = start.checked_add(bytes.len()).and_then(|end| self.out.get_mut(start..end)) {
            copy(place, bytes);
        }
    }

    pub(crate) fn patch_u32(&mut self, at: Rva, value: u32) {
        self.patch(at, &value.to_le_bytes());
    }

    pub(crate) fn patch_location(&mut self, at: Rva, location: Location) {
        self.patch_u32(at, location.size);
        self.patch_u32(at.saturating_add(4), location.rva);
    }

    pub(crate) fn into_bytes(self) -> List<u8> {
        self.out
    }
}

/// The size of a string of the format: length, UTF-16 units, and a terminator.
pub(crate) fn string_bytes(text: &[u8]) -> usize {
    crate::heap::with_frame_pointer();
    let units = |chunk: Utf8Chunk<'_>| chunk.valid().encode_utf16().count() + usize::from(!chunk.invalid().is_empty());
    4 + (text.utf8_chunks().map(units).sum::<usize>() + 1) * 2
}

impl Writer {
    /// A string of the format in UTF-16, where what is no UTF-8 becomes U+FFFD; `None` when there is no room.
    pub(crate) fn string(&mut self, text: &[u8]) -> Option<Rva> {
        crate::heap::with_frame_pointer();
        // Four bytes may go into the alignment.
        if string_bytes(text) + 4 > self.room() {
            return None;
        }
        self.align_to(4);
        let at = self.rva();
        self.u32(0);
        for chunk in text.utf8_chunks() {
            for unit in chunk.valid().encode_utf16() {
                self.u16(unit);
            }
            if !chunk.invalid().is_empty() {
                self.u16(REPLACEMENT);
            }
        }
        self.patch_u32(at, self.rva().saturating_sub(at + 4));
        self.u16(0);
        Some(at)
    }

    /// A string of Crashpad's streams in UTF-8; `None` when there is no room.
    pub(crate) fn utf8(&mut self, text: &str) -> Option<Rva> {
        if text.len() + 9 > self.room() {
            return None;
        }
        self.align_to(4);
        let at = self.rva();
        self.u32(text.len() as u32);
        self.bytes(text.as_bytes());
        self.bytes(&[0]);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_whatever_is_written() {
        let mut out = Writer::new(10);
        out.u64(1);
        out.u32(2);
        assert_eq!((out.len(), out.room()), (8, 2));
        out.zeros(3);
        assert!(out.string(b"x").is_none());
        assert!(out.utf8("x").is_none());
        out.patch_u32(6, 9);
        out.patch_u32(u32::MAX, 9);
        out.raise_limit(100);
        assert_eq!(out.string("aé".as_bytes()), Some(8));
        assert_eq!(out.string(b"a\xffb"), Some(20));
        let bytes = out.into_bytes();
        assert_eq!(&bytes[8..18], [4, 0, 0, 0, b'a', 0, 0xe9, 0, 0, 0]);
        assert_eq!(&bytes[20..], [6, 0, 0, 0, b'a', 0, 0xfd, 0xff, b'b', 0, 0, 0]);
    }
}
