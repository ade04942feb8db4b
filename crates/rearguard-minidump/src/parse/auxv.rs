//! The auxiliary vector: what the kernel told the target's loader.

use crate::bytes::u64_at;

/// Where the program headers of the executable are.
pub(crate) const PHDR: u64 = 3;
/// How many program headers there are.
pub(crate) const PHNUM: u64 = 5;
/// The size of a page.
const PAGESZ: u64 = 6;
/// The address of 16 random bytes, which the kernel puts among the strings of the main thread's stack.
const RANDOM: u64 = 25;

/// Pairs that are looked at; the kernel gives about 20.
const PAIRS_MAX: usize = 64;

/// The value for `key`, when the vector has one that isn't 0.
pub(crate) fn value(bytes: &[u8], key: u64) -> Option<u64> {
    for index in 0..PAIRS_MAX {
        let kind = u64_at(bytes, index * 16)?;
        if kind == 0 {
            return None;
        }
        if kind == key {
            return u64_at(bytes, index * 16 + 8).filter(|value| *value != 0);
        }
    }
    None
}

/// Where the auxiliary vector stands in the copy of a stack, as an index.
///
/// Behind it are the strings of arguments and environment.
/// A vector is known by the size of a page, which is a power of two, and by the random bytes, which lie behind the vector.
/// It serves where the kernel doesn't tell the place.
pub(crate) fn find_on_stack(stack: &[u8], start: u64) -> Option<usize> {
    let words = stack.len() / 8;
    for word in 0..words.saturating_sub(1) {
        let at = word * 8;
        if u64_at(stack, at) != Some(PAGESZ) {
            continue;
        }
        let page = u64_at(stack, at + 8)?;
        if !page.is_power_of_two() || !(4096..=65536).contains(&page) {
            continue;
        }
        let here = start.saturating_add(at as u64);
        // The highest address of a stack of the usual size, and far more than any vector is long.
        let behind = here..here.saturating_add(8 * 1024 * 1024);
        if value(stack.get(at..)?, RANDOM).is_some_and(|random| behind.contains(&random)) {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::damage::damaged;

    fn vector(pairs: &[(u64, u64)]) -> Vec<u8> {
        pairs.iter().flat_map(|(key, value)| [key.to_le_bytes(), value.to_le_bytes()]).flatten().collect()
    }

    #[test]
    fn values_are_found_and_the_end_is_kept() {
        let bytes = vector(&[(33, 0x7fff_0000), (6, 4096), (3, 0x40), (0, 0), (5, 9)]);
        assert_eq!(value(&bytes, 33), Some(0x7fff_0000));
        assert_eq!(value(&bytes, PHDR), Some(0x40));
        assert_eq!(value(&bytes, PHNUM), None);
        assert_eq!(value(&bytes[..20], PHDR), None);
        assert_eq!(value(&[], PHDR), None);
    }

    #[test]
    fn the_vector_of_a_stack_is_found() {
        let mut stack = vec![6, 0, 0, 0, 0, 0, 0, 0];
        stack.extend_from_slice(&[0; 24]);
        let start = 0x7ffd_0000_0000;
        stack.extend(vector(&[(6, 4096), (17, 100), (25, start + 200), (0, 0)]));
        stack.extend_from_slice(b"SECRET=1\0");
        assert_eq!(find_on_stack(&stack, start), Some(32));
        assert_eq!(find_on_stack(&stack[..60], start), None);
        assert_eq!(find_on_stack(&stack, 0), None);
    }

    #[test]
    fn damage_is_survived() {
        let start = 0x7ffd_0000_0000;
        let good = vector(&[(33, 1), (6, 4096), (17, 100), (3, 64), (25, start + 200), (0, 0)]);
        damaged(&good, |_, bytes| {
            let _ = value(bytes, PHNUM);
            let _ = find_on_stack(bytes, start);
            let _ = find_on_stack(bytes, u64::MAX - 3);
        });
    }
}
