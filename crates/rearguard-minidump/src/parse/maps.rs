//! `/proc/<pid>/maps`: the mappings of a process.
//!
//! The text comes from the kernel, but names in it come from the target, and a read may have cut it anywhere.

use crate::heap::{self, List, Span};
use crate::text;

/// One line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    pub(crate) shared: bool,
    /// Offset in the mapped file.
    pub(crate) offset: u64,
    /// Device and inode of the mapped file; the inode is 0 when there is none.
    pub(crate) file: (u64, u64),
    /// Where the name stands in the text.
    pub(crate) name: Span,
}

impl Mapping {
    /// The name in the text that the mapping was parsed from; empty for anonymous memory.
    pub(crate) fn name<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        self.name.of(text)
    }

    pub(crate) fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }
}

/// The mappings in `text`, in ascending order, and the number of lines that are damaged or out of order.
///
/// The last line counts only when it ends with a newline: a cut line has a cut name.
pub(crate) fn parse(text: &[u8]) -> (List<Mapping>, u64) {
    let mut mappings = List::new();
    heap::reserve(&mut mappings, text.len() / 80);
    let mut damaged = 0;
    let mut at = 0;
    let mut lowest = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match mapping(line, at) {
            // Whoever searches relies on the order, which the kernel keeps.
            Some(mapping) if mapping.start >= lowest => {
                lowest = mapping.end;
                heap::add(&mut mappings, mapping);
            }
            Some(_) | None => damaged += 1,
        }
        at += line.len();
    }
    (mappings, damaged)
}

/// The mapping that contains `address`.
pub(crate) fn find(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    let after = mappings.partition_point(|mapping| mapping.end <= address);
    mappings.get(after).filter(|mapping| mapping.contains(address))
}

/// One line; `at` is where it starts in the text.
#[inline(never)]
fn mapping(line: &[u8], at: usize) -> Option<Mapping> {
    let line = line.get(..line.len().checked_sub(1)?).filter(|_| line.ends_with(b"\n"))?;
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let (start, end) = pair(fields.next()?, b'-')?;
    if start >= end {
        return None;
    }
    let [read, write, execute, share] = *fields.next()? else { return None };
    let offset = text::hex(fields.next()?)?;
    let (major, minor) = pair(fields.next()?, b':')?;
    let inode = text::decimal(fields.next()?)?;
    let name = fields.next().unwrap_or_default().trim_ascii_start();
    let name_end = at.checked_add(line.len())?;
    Some(Mapping {
        start,
        end,
        readable: read == b'r',
        writable: write == b'w',
        executable: execute == b'x',
        shared: share == b's',
        offset,
        file: (major << 32 | minor & 0xffff_ffff, inode),
        name: Span { start: name_end.checked_sub(name.len())?, end: name_end },
    })
}

/// Two hexadecimal numbers.
fn pair(text: &[u8], separator: u8) -> Option<(u64, u64)> {
    let at = text.iter().position(|byte| *byte == separator)?;
    let (first, second) = text.split_at_checked(at)?;
    Some((text::hex(first)?, text::hex(second.get(1..)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::damage::damaged;

    const GOOD: &[u8] = b"\
5571c0a00000-5571c0a02000 r--p 00000000 fe:01 1234567                    /usr/bin/with space\n\
5571c0a02000-5571c0a06000 r-xp 00002000 fe:01 1234567                    /usr/bin/with space\n\
7ffd1c000000-7ffd1c021000 rw-p 00000000 00:00 0                          [stack]\n\
7ffd1c100000-7ffd1c101000 rw-s 00000000 00:01 99 \n\
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

    #[test]
    fn every_field_is_read() {
        let (mappings, damaged) = parse(GOOD);
        assert_eq!((mappings.len(), damaged), (5, 0));
        let code = &mappings[1];
        assert_eq!((code.start, code.end, code.offset), (0x5571_c0a0_2000, 0x5571_c0a0_6000, 0x2000));
        assert!(code.readable && code.executable && !code.writable && !code.shared);
        assert_eq!(code.file, (0xfe_0000_0001, 1_234_567));
        assert_eq!(code.name(GOOD), b"/usr/bin/with space");
        assert_eq!(mappings[2].name(GOOD), b"[stack]");
        assert!(mappings[3].shared);
        assert_eq!(mappings[3].name(GOOD), b"");
    }

    #[test]
    fn an_address_finds_its_mapping() {
        let (mappings, _) = parse(GOOD);
        assert_eq!(find(&mappings, 0x7ffd_1c02_0fff), Some(&mappings[2]));
        assert_eq!(find(&mappings, 0x7ffd_1c02_1000), None);
        assert_eq!(find(&mappings, 0), None);
        assert_eq!(find(&mappings, u64::MAX), None);
        assert_eq!(find(&[], 1), None);
    }

    #[test]
    fn a_cut_line_and_a_line_out_of_order_are_counted() {
        let (mappings, damaged) = parse(&GOOD[..GOOD.len() - 1]);
        assert_eq!((mappings.len(), damaged), (4, 1));
        let twice = [GOOD, GOOD].concat();
        let (mappings, damaged) = parse(&twice);
        assert_eq!((mappings.len(), damaged), (5, 5));
    }

    #[test]
    fn damage_never_breaks_the_order() {
        damaged(GOOD, |seed, text| {
            let (mappings, _) = parse(text);
            for pair in mappings.windows(2) {
                assert!(pair[0].end <= pair[1].start, "seed {seed}");
            }
            for mapping in &mappings {
                assert!(mapping.start < mapping.end, "seed {seed}");
                let _ = mapping.name(text);
                assert_eq!(find(&mappings, mapping.end - 1), Some(mapping), "seed {seed}");
            }
        });
    }
}
