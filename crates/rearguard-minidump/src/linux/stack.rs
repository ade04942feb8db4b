//! Which bytes of a stack are worth a place in the dump.
//!
//! Pure: from a stack pointer, which may be anything, and the mappings to at most three pieces.

use super::memory::Piece;
use crate::parse::maps::{self, Mapping};

/// Bytes below the stack pointer that a function may use without moving it; the System V ABI of x86_64 gives 128, others none.
const RED_ZONE_BYTES: u64 = 128;

/// The furthest that a stack pointer lies below its stack after an overflow: the kernel's gap below the main stack is 1 MiB.
const GUARD_GAP_BYTES_MAX: u64 = 1024 * 1024;

/// Inaccessible mappings between a stack pointer and the stack above; there is one, or two where a program adds its own.
const GUARDS_MAX: usize = 4;

/// Bytes that are tried when no mapping is known at the place.
const UNKNOWN_BYTES_MAX: usize = 16 * 1024;

/// How much of one stack is copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// In all.
    pub(super) total: usize,
    /// Of these, at the far end of a stack that is larger.
    pub(super) far: usize,
}

/// The pieces of one stack; `below` ends where `near` begins, and an empty piece has no meaning.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    /// From the stack pointer to the mapping above it, in case the stack has grown since the mappings were read.
    pub(super) below: Piece,
    pub(super) near: Piece,
    pub(super) far: Piece,
}

/// Plans the copy of the stack at `sp`; `ceilings` are addresses above all frames, or 0.
pub(super) fn plan(sp: u64, mappings: &[Mapping], ceilings: &[u64], limit: Limit) -> Plan {
    // Whole words, for those who print them.
    let start = sp.saturating_sub(RED_ZONE_BYTES) & !7;
    let Some(mapping) = stack_mapping(sp, mappings) else {
        let near = Piece::new(start, limit.total.min(UNKNOWN_BYTES_MAX));
        return Plan { near, ..Plan::default() };
    };
    let near = start.max(mapping.start);
    let end = ceilings
        .iter()
        .copied()
        .filter(|ceiling| sp < *ceiling && near < *ceiling && *ceiling <= mapping.end)
        .fold(mapping.end, u64::min);
    let mut plan = Plan::default();
    // A hole between the stack pointer and the mapping; an inaccessible mapping there isn't worth a try.
    if start < mapping.start && maps::find(mappings, sp).is_none() {
        let len = usize::try_from(mapping.start - start).unwrap_or(usize::MAX);
        plan.below = Piece::new(start, len.min(limit.total));
        if plan.below.len < len {
            // Not to touch: the two wouldn't be one piece.
            plan.below = Piece::default();
        }
    }
    let len = usize::try_from(end - near).unwrap_or(usize::MAX);
    if len <= limit.total {
        plan.near = Piece::new(near, len);
        return plan;
    }
    let far = limit.far.min(limit.total);
    plan.near = Piece::new(near, limit.total - far);
    plan.far = Piece::new(end - far as u64, far);
    plan
}

/// The readable mapping that the stack pointer is in, or that it fell out of.
fn stack_mapping(sp: u64, mappings: &[Mapping]) -> Option<&Mapping> {
    let from = mappings.partition_point(|mapping| mapping.end <= sp);
    let mut edge = sp;
    for mapping in mappings.get(from..)?.iter().take(GUARDS_MAX) {
        let inside = mapping.contains(sp);
        // The gap counts between the mappings, since guards of any size are part of the stack that they protect.
        if !inside && mapping.start.saturating_sub(edge) > GUARD_GAP_BYTES_MAX {
            return None;
        }
        if mapping.readable && (inside || mapping.writable) {
            return Some(mapping);
        }
        if mapping.readable || mapping.writable || mapping.executable {
            return None;
        }
        edge = mapping.end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
10000-20000 r-xp 00000000 fe:01 7 /bin/x\n\
700000000-700001000 ---p 00000000 00:00 0 \n\
700001000-700201000 rw-p 00000000 00:00 0 \n\
7ff000000-7ff800000 rw-p 00000000 00:00 0 [stack]\n";

    const LIMIT: Limit = Limit { total: 0x8000, far: 0x2000 };

    fn plan_at(sp: u64, ceilings: &[u64]) -> [(u64, usize); 3] {
        let (mappings, _) = maps::parse(MAPS);
        let plan = plan(sp, &mappings, ceilings, LIMIT);
        [plan.below, plan.near, plan.far].map(|piece| (piece.address, piece.len))
    }

    #[test]
    fn a_small_stack_is_whole() {
        assert_eq!(plan_at(0x7_0020_0000, &[])[1], (0x7_001f_ff80, 0x1080));
    }

    #[test]
    fn a_large_stack_has_both_ends() {
        assert_eq!(plan_at(0x7_0000_2000, &[]), [(0, 0), (0x7_0000_1f80, 0x6000), (0x7_001f_f000, 0x2000)]);
    }

    #[test]
    fn an_overflow_into_a_guard_begins_above_it() {
        assert_eq!(plan_at(0x7_0000_0800, &[]), [(0, 0), (0x7_0000_1000, 0x6000), (0x7_001f_f000, 0x2000)]);
    }

    #[test]
    fn an_overflow_below_the_guard_or_into_a_gap_is_found() {
        assert_eq!(plan_at(0x6_ffff_f000, &[])[1], (0x7_0000_1000, 0x6000));
        let [below, near, _] = plan_at(0x7_feff_f000, &[]);
        assert_eq!(below, (0x7_feff_ef80, 0x1080));
        assert_eq!(near, (0x7_ff00_0000, 0x6000));
    }

    #[test]
    fn a_ceiling_ends_the_stack() {
        assert_eq!(plan_at(0x7_0000_2000, &[0x7_0000_3000, 0x7_0010_0000])[1], (0x7_0000_1f80, 0x1080));
        // Not one that is below or beside.
        assert_eq!(plan_at(0x7_0020_0000, &[0x7_001f_0000, 0x9_0000_0000])[1], (0x7_001f_ff80, 0x1080));
    }

    #[test]
    fn a_wild_pointer_is_tried_with_a_small_piece() {
        for sp in [0, 8, 0x5_0000_0000, u64::MAX, 1 << 63] {
            let [below, near, far] = plan_at(sp, &[]);
            assert_eq!((below.1, far.1), (0, 0), "{sp:#x}");
            assert!(near.1 <= UNKNOWN_BYTES_MAX, "{sp:#x}");
        }
        assert_eq!(plan(100, &[], &[], LIMIT).near.len, UNKNOWN_BYTES_MAX);
    }
}
