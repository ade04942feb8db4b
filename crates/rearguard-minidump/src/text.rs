//! Numbers and texts, written and read without `format!`.
//!
//! The formatting machinery of the standard library costs kilobytes in the guard, and `str::parse` accepts signs and spaces that no file of the kernel has.
//! Nothing here panics or allocates without a bound given by its caller.

use crate::heap::{List, append};

/// Appends a number in decimal.
pub(crate) fn push_decimal(out: &mut List<u8>, value: u64) {
    if value >= 10 {
        push_decimal(out, value / 10);
    }
    append(out, &[b'0' + (value % 10) as u8]);
}

/// The same without regard to the sign: an id that a kernel gave, which is never negative.
pub(crate) fn push_id(out: &mut List<u8>, id: i32) {
    push_decimal(out, u64::from(id.unsigned_abs()));
}

/// Appends `0x` and the hexadecimal digits.
pub(crate) fn push_hex(out: &mut List<u8>, value: u64) {
    append(out, b"0x");
    let digits = (u64::BITS - value.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (value >> (place * 4)) as u8 & 0xf;
        append(out, &[if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }]);
    }
}

/// The number that the whole of `text` is in decimal.
#[inline(always)]
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    number(text, 10)
}

/// The number that the whole of `text` is in hexadecimal, without a prefix.
#[inline(always)]
pub(crate) fn hex(text: &[u8]) -> Option<u64> {
    number(text, 16)
}

fn number(text: &[u8], radix: u64) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for byte in text {
        let digit = char::from(*byte).to_digit(radix as u32)?;
        value = value.checked_mul(radix)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_a_round_trip() {
        for value in [0, 1, 9, 10, 4096, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut text = List::new();
            push_decimal(&mut text, value);
            assert_eq!(decimal(&text), Some(value));
            text.truncate(0);
            push_hex(&mut text, value);
            assert_eq!(hex(&text[2..]), Some(value));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616", "1a"] {
            assert_eq!(decimal(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(hex(b"10000000000000000"), None);
    }
}
