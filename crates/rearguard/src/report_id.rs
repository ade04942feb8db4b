//! A report's UUID and name.

use crate::heap::{PutText, Text, text_of};
use crate::text::push_padded;

/// Writes sixteen random bytes as a UUID of version 4 (RFC 9562).
pub(crate) fn uuid_text(random: [u8; 16]) -> Text {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = random;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = text_of(36);
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.put_char('-');
        }
        text.put_char(char::from(DIGITS[usize::from(byte >> 4)]));
        text.put_char(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes of a UUID's text.
pub(crate) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let mut digits = text.chars().filter(|character| *character != '-');
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        for _ in 0..2 {
            *byte = *byte << 4 | digits.next()?.to_digit(16)? as u8;
        }
    }
    Some(bytes)
}

/// The parts of a moment in UTC.
struct Moment {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
    microsecond: u64,
}

/// Splits nanoseconds since 1970 into a date and a time (days to civil date, proleptic Gregorian calendar).
fn moment(real_ns: u64) -> Moment {
    let seconds = real_ns / 1_000_000_000;
    let day_number = seconds / 86_400;
    // Years that begin in March have the leap day at their end, which makes the month's length a formula.
    let shifted = day_number + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Moment {
        year: era * 400 + year_of_era + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        second_of_day: seconds % 86_400,
        microsecond: real_ns % 1_000_000_000 / 1_000,
    }
}

/// How many days a date of the Gregorian calendar, from 1970 on, is after the first of January 1970; `None` for what is no year, month or day.
pub(crate) fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March, as above.
    let year = if month > 2 { year } else { year - 1 };
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    Some(year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468)
}

/// `20260131T235959.123456Z`: sorts by time, and is a file name everywhere.
pub(crate) fn compact_time(real_ns: u64) -> Text {
    crate::heap::with_frame_pointer();
    let moment = moment(real_ns);
    let mut text = text_of(24);
    push_padded(&mut text, moment.year, 4);
    push_padded(&mut text, moment.month, 2);
    push_padded(&mut text, moment.day, 2);
    text.put_char('T');
    push_padded(&mut text, moment.second_of_day / 3_600, 2);
    push_padded(&mut text, moment.second_of_day / 60 % 60, 2);
    push_padded(&mut text, moment.second_of_day % 60, 2);
    text.put_char('.');
    push_padded(&mut text, moment.microsecond, 6);
    text.put_char('Z');
    text
}

/// `2026-01-31T23:59:59.123456Z` (RFC 3339).
pub(crate) fn readable_time(real_ns: u64) -> Text {
    let compact = compact_time(real_ns);
    let mut text = text_of(28);
    for (position, character) in compact.chars().enumerate() {
        match position {
            4 | 6 => text.put_char('-'),
            11 | 13 => text.put_char(':'),
            _ => {}
        }
        text.put_char(character);
    }
    text
}

/// A report's name in the store: its time, then its UUID.
pub(crate) fn report_name(real_ns: u64, uuid: &str) -> Text {
    let mut name = compact_time(real_ns);
    name.put_char('-');
    name.put(uuid);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: names are dates, in both forms, over leap years and century turns.
    #[test]
    fn dates() {
        let day = 86_400 * 1_000_000_000;
        assert_eq!(compact_time(0), "19700101T000000.000000Z");
        assert_eq!(compact_time(11_016 * day + 1_000), "20000229T000000.000001Z");
        assert_eq!(compact_time(20_454 * day - 1), "20251231T235959.999999Z");
        assert_eq!(readable_time(47_541 * day), "2100-03-01T00:00:00.000000Z");
    }

    // Goal: days are those that the names come from.
    #[test]
    fn days() {
        for days in (0..60_000).step_by(17) {
            let name = compact_time(days * 86_400 * 1_000_000_000);
            let part = |range: core::ops::Range<usize>| name[range].parse().expect("a number");
            assert_eq!(days_since_1970(part(0..4), part(4..6), part(6..8)), Some(days), "{name}");
        }
        assert_eq!(days_since_1970(1969, 1, 1), None);
        assert_eq!(days_since_1970(2000, 13, 1), None);
    }

    // Goal: the text is a UUID of version 4 whatever the bytes are.
    #[test]
    fn uuids() {
        assert_eq!(uuid_text([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_text([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let bytes = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0x4e, 0xf0, 0x81, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(uuid_bytes(&uuid_text(bytes)), Some(bytes));
        assert_eq!(uuid_bytes("12-"), None);
    }
}
