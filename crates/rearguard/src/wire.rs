//! The encoding of records that one process seals and another reads: numbers little-endian, bytes with their length before them.
//!
//! The reader takes nothing on trust: every length is compared with what is left before it is used.

use crate::heap::{List, PutBytes, PutText, Text, add, copied, owned};
use crate::limits::LIST_ENTRIES_MAX;

/// Builds a record.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: List<u8>,
}

impl Writer {
    pub(crate) fn new() -> Writer {
        Writer::default()
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.put(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.put(&value.to_le_bytes());
    }

    #[inline(always)]
    pub(crate) fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.bytes.put(value);
    }

    pub(crate) fn optional(&mut self, value: Option<&[u8]>) {
        self.bool(value.is_some());
        self.bytes(value.unwrap_or_default());
    }

    pub(crate) fn list(&mut self, values: &[List<u8>]) {
        self.u32(values.len() as u32);
        for value in values {
            self.bytes(value);
        }
    }

    pub(crate) fn words(&mut self, values: &[u64]) {
        self.u32(values.len() as u32);
        for value in values {
            self.u64(*value);
        }
    }

    pub(crate) fn finish(self) -> List<u8> {
        self.bytes
    }
}

/// Reads a record; every method gives `None` when the record ends too early or says something impossible.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn bool(&mut self) -> Option<bool> {
        match self.u32()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// The same into a place that is there already, as all of the following.
    pub(crate) fn bytes_into(&mut self, place: &mut List<u8>) -> Option<()> {
        place.put(self.bytes()?);
        Some(())
    }

    pub(crate) fn text(&mut self, place: &mut Text) -> Option<()> {
        place.put(core::str::from_utf8(self.bytes()?).ok()?);
        Some(())
    }

    pub(crate) fn optional(&mut self) -> Option<Option<&'a [u8]>> {
        let there = self.bool()?;
        let value = self.bytes()?;
        Some(there.then_some(value))
    }

    pub(crate) fn optional_text(&mut self, place: &mut Option<Text>) -> Option<()> {
        if let Some(bytes) = self.optional()? {
            *place = Some(owned(core::str::from_utf8(bytes).ok()?));
        }
        Some(())
    }

    pub(crate) fn list(&mut self, place: &mut List<List<u8>>) -> Option<()> {
        let count = self.u32()? as usize;
        if count > LIST_ENTRIES_MAX || count > self.rest.len() / 4 {
            return None;
        }
        for _ in 0..count {
            add(place, copied(self.bytes()?));
        }
        Some(())
    }

    /// Replaces what the place holds, so that one serves for several lists.
    pub(crate) fn words(&mut self, place: &mut List<u64>) -> Option<()> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / 8 {
            return None;
        }
        place.clear();
        for _ in 0..count {
            add(place, self.u64()?);
        }
        Some(())
    }

    /// Nothing may follow what was read: a longer record is of another version.
    pub(crate) fn end(self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: what was written is read back, and every shortened or damaged record is refused without a panic.
    #[test]
    fn damaged_records_are_refused() {
        let mut writer = Writer::new();
        writer.u64(7);
        writer.bytes(b"name");
        writer.optional(None);
        writer.list(&[copied(b"a"), List::new()]);
        writer.words(&[1, 2, 3]);
        writer.bool(true);
        let record = writer.finish();
        let read = |bytes: &[u8]| -> Option<()> {
            let mut reader = Reader::new(bytes);
            (reader.u64()? == 7).then_some(())?;
            let (mut text, mut list, mut words) = (Text::new(), List::new(), List::from(vec![9]));
            reader.text(&mut text)?;
            (text == "name").then_some(())?;
            reader.optional()?.is_none().then_some(())?;
            reader.list(&mut list)?;
            (list.len() == 2).then_some(())?;
            reader.words(&mut words)?;
            (words == [1, 2, 3]).then_some(())?;
            reader.bool()?.then_some(())?;
            reader.end()
        };
        assert!(read(&record).is_some());
        for length in 0..record.len() {
            assert!(read(&record[..length]).is_none(), "cut at {length}");
        }
        for position in 0..record.len() {
            let mut damaged = record.clone();
            damaged[position] = 0xff;
            let _ = read(&damaged);
        }
        let mut longer = record;
        longer.put(&[0]);
        assert!(read(&longer).is_none());
    }
}
