//! The entries of `/proc/<pid>/task` and `/proc/<pid>/fd` as getdents64 gives them.

use crate::bytes::u16_at;
use crate::bytes::until_nul;
use crate::text;

/// Where the length of an entry stands, and where its name (see getdents64(2)).
const LENGTH_AT: usize = 16;
const NAME_AT: usize = 19;

/// Calls `each` for every entry of `buffer` whose name is a number: an id of a thread, or a descriptor.
pub(crate) fn numbers(buffer: &[u8], mut each: impl FnMut(i32)) {
    let mut rest = buffer;
    while let Some(length) = u16_at(rest, LENGTH_AT) {
        let Some((entry, after)) = rest.split_at_checked(usize::from(length)) else { return };
        let Some(name) = entry.get(NAME_AT..) else { return };
        if let Some(number) = text::decimal(until_nul(name)).and_then(|number| i32::try_from(number).ok()) {
            each(number);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::damage::damaged;

    fn buffer(names: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for name in names {
            let length = (NAME_AT + name.len() + 1).next_multiple_of(8);
            let start = out.len();
            out.extend_from_slice(&[0; 16]);
            out.extend_from_slice(&(length as u16).to_le_bytes());
            out.push(4);
            out.extend_from_slice(name.as_bytes());
            out.resize(start + length, 0);
        }
        out
    }

    #[test]
    fn only_numbers_are_taken() {
        let mut ids = Vec::new();
        numbers(&buffer(&[".", "..", "1", "4194304", "0", "99999999999", "x1"]), |tid| ids.push(tid));
        assert_eq!(ids, [1, 4_194_304, 0]);
    }

    #[test]
    fn damage_ends_the_list() {
        damaged(&buffer(&[".", "..", "17", "18", "123456"]), |_, bytes| numbers(bytes, |tid| assert!(tid >= 0)));
        // An entry without length must not loop.
        numbers(&[0; 64], |_| {});
    }
}
