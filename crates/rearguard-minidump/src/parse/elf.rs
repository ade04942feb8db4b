//! ELF headers, segments and notes, as they stand in the memory of a target.
//!
//! A module's header is the target's to overwrite: a damaged one costs the build id and nothing else.

use crate::bytes::{slice_at, u16_at, u32_at, u64_at};

/// The size of the header and of one program header in a 64-bit file.
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const SEGMENT_BYTES: usize = 56;

/// Kinds of segments.
pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_DYNAMIC: u32 = 2;
pub(crate) const PT_NOTE: u32 = 4;
pub(crate) const PT_PHDR: u32 = 6;

/// Program headers that are looked at; linkers make about a dozen.
pub(crate) const SEGMENTS_MAX: usize = 64;

/// Bytes of a build id that are kept; the longest in use is a SHA-512 with 64.
const BUILD_ID_BYTES_MAX: usize = 64;

/// Notes that are looked at in one segment.
const NOTES_MAX: usize = 64;

/// The type of the note that holds the build id, and the name that goes with it.
const NT_GNU_BUILD_ID: u32 = 3;
const GNU: &[u8] = b"GNU\0";

/// What a mapping begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header<'b> {
    /// Not an ELF file: data, an archive, a font.
    Other,
    /// The magic number is there, and then something that can't be, or isn't within the bytes.
    Damaged,
    /// The program headers.
    Elf(&'b [u8]),
}

/// One program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) address: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) align: u64,
}

/// Reads the header at the start of `bytes`.
pub(crate) fn header(bytes: &[u8]) -> Header<'_> {
    if !bytes.starts_with(b"\x7fELF") {
        return Header::Other;
    }
    program_headers(bytes).map_or(Header::Damaged, Header::Elf)
}

fn program_headers(bytes: &[u8]) -> Option<&[u8]> {
    // Class 2 is 64-bit, data 1 is little-endian.
    if bytes.get(4..6)? != [2, 1] || usize::from(u16_at(bytes, 54)?) != SEGMENT_BYTES {
        return None;
    }
    let segments_at = u64_at(bytes, 32)?;
    let segment_count = usize::from(u16_at(bytes, 56)?);
    if segment_count == 0 || segment_count > SEGMENTS_MAX || segments_at < HEADER_BYTES as u64 {
        return None;
    }
    slice_at(bytes, segments_at, (segment_count * SEGMENT_BYTES) as u64)
}

/// The program headers in `table`, as many as are whole.
pub(crate) fn segments(table: &[u8]) -> impl Iterator<Item = Segment> + '_ {
    table.as_chunks::<SEGMENT_BYTES>().0.iter().take(SEGMENTS_MAX).filter_map(|entry| {
        Some(Segment {
            kind: u32_at(entry, 0)?,
            address: u64_at(entry, 16)?,
            memory_bytes: u64_at(entry, 40)?,
            align: u64_at(entry, 48)?,
        })
    })
}

/// The GNU build id in a segment of notes.
pub(crate) fn build_id(notes: &[u8], align: u64) -> Option<&[u8]> {
    // The standard says 4; segments that hold properties of the processor use 8.
    let align = if align == 8 { 8 } else { 4 };
    let mut at = 0_u64;
    for _ in 0..NOTES_MAX {
        let here = usize::try_from(at).ok()?;
        let name_bytes = u64::from(u32_at(notes, here)?);
        let value_bytes = u64::from(u32_at(notes, here.checked_add(4)?)?);
        let kind = u32_at(notes, here.checked_add(8)?)?;
        let name_at = at.checked_add(12)?;
        let value_at = name_at.checked_add(name_bytes)?.checked_next_multiple_of(align)?;
        if kind == NT_GNU_BUILD_ID && slice_at(notes, name_at, name_bytes) == Some(GNU) {
            let value = slice_at(notes, value_at, value_bytes)?;
            return value.get(..value.len().min(BUILD_ID_BYTES_MAX)).filter(|id| !id.is_empty());
        }
        at = value_at.checked_add(value_bytes)?.checked_next_multiple_of(align)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::damage::damaged;

    fn note(name: &[u8], kind: u32, value: &[u8], align: usize) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(name);
        out.resize(out.len().next_multiple_of(align), 0);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(align), 0);
        out
    }

    fn elf(segments: u16) -> Vec<u8> {
        let mut out = vec![0_u8; HEADER_BYTES];
        out[..6].copy_from_slice(b"\x7fELF\x02\x01");
        out[32..40].copy_from_slice(&64_u64.to_le_bytes());
        out[54..56].copy_from_slice(&(SEGMENT_BYTES as u16).to_le_bytes());
        out[56..58].copy_from_slice(&segments.to_le_bytes());
        for index in 0..segments {
            let mut entry = vec![0_u8; SEGMENT_BYTES];
            entry[0] = index as u8;
            entry[16] = 7;
            out.extend(entry);
        }
        out
    }

    #[test]
    fn a_good_header_is_read() {
        let bytes = elf(3);
        assert_eq!(header(&bytes), Header::Elf(&bytes[64..]));
        assert_eq!(header(&bytes[..bytes.len() - 1]), Header::Damaged);
        let kinds: Vec<u32> = segments(&bytes[64..]).map(|segment| segment.kind).collect();
        assert_eq!(kinds, [0, 1, 2]);
    }

    #[test]
    fn other_and_damaged_headers_are_told_apart() {
        assert_eq!(header(b"#!/bin/sh"), Header::Other);
        assert_eq!(header(b""), Header::Other);
        assert_eq!(header(b"\x7fELF\x02\x01"), Header::Damaged);
        assert_eq!(header(&elf(0)), Header::Damaged);
        assert_eq!(header(&elf(65)), Header::Damaged);
        let mut class32 = elf(1);
        class32[4] = 1;
        assert_eq!(header(&class32), Header::Damaged);
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let id = [0xab_u8; 20];
        let notes = [note(b"GNU\0", 1, &[0; 16], 4), note(b"stapsdt\0", 3, &[1; 5], 4), note(GNU, 3, &id, 4)].concat();
        assert_eq!(build_id(&notes, 4), Some(&id[..]));
        let wide = [note(GNU, 5, &[0; 12], 8), note(GNU, 3, &id, 8)].concat();
        assert_eq!(build_id(&wide, 8), Some(&id[..]));
        assert_eq!(build_id(&notes[..notes.len() - 8], 4), None);
        assert_eq!(build_id(&note(GNU, 3, &[], 4), 4), None);
        assert_eq!(build_id(&note(GNU, 3, &[7; 500], 4), 4).map(<[u8]>::len), Some(64));
    }

    #[test]
    fn damage_is_survived() {
        damaged(&elf(5), |_, bytes| {
            if let Header::Elf(table) = header(bytes) {
                assert!(table.len() <= SEGMENTS_MAX * SEGMENT_BYTES);
            }
            assert!(segments(bytes).count() <= SEGMENTS_MAX);
        });
        damaged(&[note(b"GNU\0", 1, &[0; 16], 4), note(GNU, 3, &[9; 20], 4)].concat(), |_, bytes| {
            for align in [0, 4, 8, u64::MAX] {
                assert!(build_id(bytes, align).is_none_or(|id| id.len() <= BUILD_ID_BYTES_MAX));
            }
        });
    }
}
