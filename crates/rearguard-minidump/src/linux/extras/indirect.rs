//! The memory that registers and stacks point to.

use super::{Copied, CrashContext, Registers, Target, TargetMemory};
use crate::bytes::u64_at;
use crate::heap::{self, List, Span};
use crate::linux::memory::Piece;
use crate::parse::maps;
use crate::snapshot::Memory;

/// Bytes around each address, half of them below.
const AROUND_BYTES: u64 = 512;

/// The most that is read; the threads are held meanwhile, and each piece is compared with all others.
const BYTES_MAX: usize = 1024 * 1024;

/// Reads around what the registers of the crash point to, what its stack does, and what the registers of the others do.
pub(super) extern "C" fn read(
    crash: Option<&CrashContext<'_>>,
    others: &List<Registers>,
    copied: &mut Copied,
    memory: &mut TargetMemory<'_>,
    target: &Target,
    bytes_max: usize,
) {
    let mut wanted = Wanted { target, copied, pieces: List::new(), room: bytes_max.min(BYTES_MAX) };
    if let Some(crash) = crash {
        wanted.add_all(&crash.registers.general());
        let copied = wanted.copied;
        let stack = copied.stack(crash.tid).unwrap_or_default().place;
        for word in copied.arena.get(stack).chunks_exact(8) {
            wanted.add(u64_at(word, 0).unwrap_or(0));
        }
    }
    for registers in others {
        wanted.add_all(&registers.general());
    }
    let mut pieces = wanted.pieces;
    memory.read_pieces(&mut pieces, &mut copied.arena);
    for piece in pieces.iter().filter(|piece| piece.got > 0) {
        heap::add(&mut copied.memory, Memory { address: piece.address, place: piece.place() });
    }
}

/// What is to be read.
struct Wanted<'w> {
    target: &'w Target,
    copied: &'w Copied,
    /// In ascending order, without overlaps.
    pieces: List<Piece>,
    room: usize,
}

impl Wanted<'_> {
    fn add_all(&mut self, words: &[u64]) {
        for word in words {
            self.add(*word);
        }
    }

    /// Adds what is around an address, where nothing of it is there yet.
    fn add(&mut self, address: u64) {
        // Code is the program's, and known from its file.
        let mapping = maps::find(&self.target.mappings, address).filter(|mapping| mapping.readable && !mapping.executable);
        let Some(mapping) = mapping else { return };
        let start = (address & !7).saturating_sub(AROUND_BYTES / 2).max(mapping.start);
        let end = (start + AROUND_BYTES).min(mapping.end);
        let at = self.pieces.partition_point(|piece| piece.address < start);
        let before = at.checked_sub(1).and_then(|at| self.pieces.get(at)).map_or(0, end_of);
        let behind = self.pieces.get(at).map_or(u64::MAX, |piece| piece.address);
        // What neighbours have already isn't read again: two regions of a dump must not overlap.
        let (start, end) = (start.max(before), end.min(behind));
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(0).min(self.room) & !7;
        let place = Memory { address: start, place: Span { start: 0, end: len } };
        let mut copied = self.copied.stacks.iter().map(|(_, stack)| stack).chain(&self.copied.memory);
        if len == 0 || copied.any(|memory| memory.overlaps(&place)) {
            return;
        }
        self.room -= len;
        heap::insert(&mut self.pieces, at, Piece::new(start, len));
    }
}

fn end_of(piece: &Piece) -> u64 {
    piece.address + piece.len as u64
}
