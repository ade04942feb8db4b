//! Windows' strings are 16-bit units that need not be valid Unicode; records carry them as WTF-8, which loses nothing.

use crate::heap::List;

/// Units as WTF-8: UTF-8, with a surrogate that has no partner encoded as if it were a character.
pub(super) fn to_bytes(units: &[u16]) -> List<u8> {
    let mut bytes = Vec::with_capacity(units.len());
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(character) => {
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Err(unpaired) => {
                let unit = unpaired.unpaired_surrogate();
                bytes.push(0xe0 | (unit >> 12) as u8);
                bytes.push(0x80 | (unit >> 6 & 0x3f) as u8);
                bytes.push(0x80 | (unit & 0x3f) as u8);
            }
        }
    }
    bytes.into()
}

/// WTF-8 as units; bytes that nobody has written as such become replacement characters.
pub(super) fn from_bytes(bytes: &[u8]) -> Vec<u16> {
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let length = match first {
            0..0x80 => 1,
            0xc2..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf5 => 4,
            _ => 0,
        };
        let Some((character, after)) = rest.split_at_checked(length).filter(|_| length > 0) else {
            units.push(0xfffd);
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        match (core::str::from_utf8(character), character) {
            (Ok(text), _) => units.extend(text.encode_utf16()),
            (Err(_), [0xed, middle @ 0xa0..=0xbf, last @ 0x80..=0xbf]) => {
                units.push(0xd000 | u16::from(middle & 0x3f) << 6 | u16::from(last & 0x3f));
            }
            (Err(_), _) => {
                units.push(0xfffd);
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
        }
        rest = after;
    }
    units
}

/// A literal with a zero at the end.
pub(super) fn literal(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: whatever Windows allows in a string comes back as it was.
    #[test]
    fn units_come_back() {
        for units in [
            &[0x61, 0x20, 0x22][..],
            &[0xd83d, 0xde00],
            &[0xd800],
            &[0xdc00, 0xd800],
            &[0x61, 0xdfff, 0x62],
            &[0xfeff, 0xffff],
        ] {
            assert_eq!(from_bytes(&to_bytes(units)), units);
        }
    }

    // Goal: bytes that are no string become some string, and nothing is read beyond the end.
    #[test]
    fn foreign_bytes_are_replaced() {
        for bytes in [&[0xff][..], &[0xe2, 0x82], &[0xc0, 0x80], &[0x80], &[0xf5, 1, 2, 3]] {
            assert!(from_bytes(bytes).contains(&0xfffd), "{bytes:?}");
        }
    }
}
