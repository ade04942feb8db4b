//! Little-endian numbers out of bytes that nobody vouches for.
//!
//! Every function returns `None` where a slice index would panic.

/// The bytes of a `usize` range that starts at a `u64` offset.
pub(crate) fn slice_at(bytes: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(at).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    bytes.get(start..end)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// The text before the first NUL, or everything when there is none.
pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// What follows a beginning, if `text` begins so.
pub(crate) fn after<'a>(text: &'a [u8], beginning: &[u8]) -> Option<&'a [u8]> {
    if text.starts_with(beginning) { text.get(beginning.len()..) } else { None }
}

/// The next multiple of a power of two, by less code than the standard library's for any number.
pub(crate) const fn aligned(at: usize, to: usize) -> usize {
    at.wrapping_add(to - 1) & to.wrapping_neg()
}

/// Copies as much as there is and has room.
#[inline(always)]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
