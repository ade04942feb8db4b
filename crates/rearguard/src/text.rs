//! Numbers and texts, put together and taken apart without the standard library's formatting, parsing and searching.
//!
//! Each of those is a kilobyte or more in every executable, and what they offer beyond this is used nowhere here.

use crate::heap::{PutText, Text};

/// Puts texts together.
pub(crate) fn joined(parts: &[&str]) -> Text {
    let mut text = Text::new();
    for part in parts {
        text.put(part);
    }
    text
}

/// Appends a number in decimal.
pub(crate) fn push_number(text: &mut Text, value: u64) {
    if value >= 10 {
        push_number(text, value / 10);
    }
    text.put_char(char::from(b'0' + (value % 10) as u8));
}

/// The same for a number that may be negative.
pub(crate) fn push_signed(text: &mut Text, value: i64) {
    if value < 0 {
        text.put_char('-');
    }
    push_number(text, value.unsigned_abs());
}

/// Appends `value`, which has at most so many digits, with exactly so many.
pub(crate) fn push_padded(text: &mut Text, value: u64, digits: u32) {
    if digits > 1 {
        push_padded(text, value / 10, digits - 1);
    }
    text.put_char(char::from(b'0' + (value % 10) as u8));
}

/// Appends a number in hexadecimal, without zeros in front.
pub(crate) fn push_hexadecimal(text: &mut Text, value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if value >= 16 {
        push_hexadecimal(text, value / 16);
    }
    text.put_char(char::from(DIGITS[(value % 16) as usize]));
}

/// The number that the whole of `text` is, in a radix of at most 16.
pub(crate) fn number(text: &[u8], radix: u32) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for byte in text {
        let digit = char::from(*byte).to_digit(radix)?;
        value = value.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// What follows a beginning, if `text` begins so.
pub(crate) fn after<'a>(text: &'a [u8], beginning: &[u8]) -> Option<&'a [u8]> {
    if text.starts_with(beginning) { text.get(beginning.len()..) } else { None }
}

/// Where `part`, which isn't empty, stands first in `text`.
pub(crate) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Whether `part`, which isn't empty, stands somewhere in `text`.
pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
    find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: numbers survive a round trip, and what is no number is refused.
    #[test]
    fn numbers() {
        for value in [0, 9, 10, 4096, u64::MAX] {
            let mut text = Text::new();
            push_number(&mut text, value);
            assert_eq!(text.as_str(), value.to_string());
            assert_eq!(number(text.as_bytes(), 10), Some(value));
        }
        for value in [i32::MIN, -10, -1, 0, 7, i32::MAX] {
            let mut text = Text::new();
            push_signed(&mut text, i64::from(value));
            assert_eq!(text.as_str(), value.to_string());
        }
        assert_eq!(number(b"fF", 16), Some(255));
        assert_eq!(number(b"17", 8), Some(15));
        for nonsense in [&b""[..], b"-", b"+1", b" 1", b"1 ", b"8a", b"18446744073709551616"] {
            assert_eq!(number(nonsense, 10), None);
        }
    }

    // Goal: parts are found at both ends, and are joined in order.
    #[test]
    fn parts() {
        assert!(contains(b"abc", b"ab") && contains(b"abc", b"bc") && !contains(b"ab", b"abc"));
        assert_eq!(joined(&["a", "", "bc"]), "abc");
    }
}
