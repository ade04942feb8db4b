//! Copies stacks and the memory around an instruction into the arena of the snapshot.
//!
//! It serves twice: for the threads that are stopped, and afterwards for those that can't be.

use super::Target;
use super::memory::{Arena, Piece, TargetMemory};
use super::stack::{self, Limit, Plan};
use crate::encode::{self, STACK_BYTES_MIN, fair_share};
use crate::heap::{self, List, Span};
use crate::parse::maps::{self, Mapping};
use crate::registers::Registers;
use crate::request::{Limits, Request};
use crate::snapshot::Memory;

/// Bytes before and after the instruction pointer of a crash.
const CODE_BYTES: u64 = 128;

/// A thread whose stack is copied.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    tid: i32,
    stack: u64,
    ceiling: Option<u64>,
    /// The instruction pointer, when the memory around it is wanted: the crashing thread.
    instruction: Option<u64>,
}

impl Owner {
    pub(super) fn new(tid: i32, registers: &Registers) -> Owner {
        Owner {
            tid,
            stack: registers.stack_pointer(),
            ceiling: registers.thread_pointer(),
            instruction: None,
        }
    }

    pub(super) fn crash(tid: i32, registers: &Registers) -> Owner {
        Owner { instruction: Some(registers.instruction_pointer()), ..Owner::new(tid, registers) }
    }
}

/// What has been copied.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(super) arena: Arena,
    /// The stacks by thread, whose ids ascend.
    pub(super) stacks: List<(i32, Memory)>,
    /// Other memory.
    pub(super) memory: List<Memory>,
}

impl Copied {
    /// Nothing yet, with room in front for the beginning of the file.
    pub(super) fn new(request: &Request<'_>) -> Copied {
        let arena = Arena::behind(encode::beginning_bytes(request.user_streams.len()));
        Copied { arena, stacks: List::new(), memory: List::new() }
    }

    /// Copies for all `owners` in as few calls as possible.
    pub(super) fn copy(
        &mut self,
        owners: &[Owner],
        memory: &mut TargetMemory<'_>,
        target: &Target,
        limits: &Limits,
    ) {
        let mut pieces = plan_all(owners, &target.mappings, target.stat.stack_start, limits);
        memory.read_pieces(&mut pieces, &mut self.arena);
        // Three pieces of stack for each, in the order of the plan, then the code.
        let (stacks, code) = pieces.split_at_checked(owners.len() * 3).unwrap_or((&pieces, &[]));
        for (owner, stack) in owners.iter().zip(stacks.as_chunks().0) {
            let [below, near, far] = stack;
            // Nearly an append: the owners ascend, but for the one that crashed.
            let at = self.stacks.partition_point(|(tid, _)| *tid < owner.tid);
            heap::insert(&mut self.stacks, at, (owner.tid, joined(below, near, &mut self.arena)));
            if far.got > 0 {
                heap::add(&mut self.memory, Memory { address: far.address, place: far.place() });
            }
        }
        for piece in code.iter().filter(|piece| piece.got > 0) {
            heap::add(&mut self.memory, Memory { address: piece.address, place: piece.place() });
        }
    }

    /// The stack of a thread, if it was copied.
    pub(super) fn stack(&self, tid: i32) -> Option<Memory> {
        let at = self.stacks.partition_point(|(owner, _)| *owner < tid);
        self.stacks.get(at).filter(|(owner, _)| *owner == tid).map(|(_, stack)| *stack)
    }
}

/// The pieces of all owners; together they are no more than the file may have.
fn plan_all(owners: &[Owner], mappings: &[Mapping], ceiling: u64, limits: &Limits) -> List<Piece> {
    let mut pieces = List::new();
    heap::reserve(&mut pieces, owners.len() * 3 + 1);
    for owner in owners {
        let limit = if owner.instruction.is_some() {
            Limit { total: limits.crash_stack_bytes_max, far: limits.crash_stack_bytes_max / 4 }
        } else {
            Limit { total: limits.stack_bytes_per_thread_max, far: 0 }
        };
        let ceilings = [owner.ceiling.unwrap_or(0), ceiling];
        let Plan { below, near, far } = stack::plan(owner.stack, mappings, &ceilings, limit);
        for piece in [below, near, far] {
            heap::add(&mut pieces, piece);
        }
    }
    // The crashing thread comes first, and its stack is worth more than all others, which share what it leaves.
    let own = if owners.first().is_some_and(|owner| owner.instruction.is_some()) { 3 } else { 0 };
    let (own, others) = pieces.split_at_mut_checked(own).unwrap_or_default();
    let left = own.iter().fold(limits.file_bytes_max.max(encode::FILE_BYTES_MIN), |left, piece| left.saturating_sub(piece.len));
    let mut lengths = List::new();
    for piece in others.iter() {
        heap::add(&mut lengths, piece.len);
    }
    let share = fair_share(&lengths, left).max(STACK_BYTES_MIN);
    for piece in others {
        piece.len = piece.len.min(share);
    }
    for piece in pieces.iter_mut() {
        // Whole words, so that each piece begins at one in the arena.
        piece.len &= !7;
    }
    for owner in owners {
        if let Some(piece) = owner.instruction.and_then(|at| code(at, mappings)) {
            heap::add(&mut pieces, piece);
        }
    }
    pieces
}

/// The memory around an instruction, as far as its mapping goes.
fn code(instruction: u64, mappings: &[Mapping]) -> Option<Piece> {
    let mapping = maps::find(mappings, instruction).filter(|mapping| mapping.readable)?;
    let start = (instruction.saturating_sub(CODE_BYTES) & !7).max(mapping.start);
    let end = (instruction.saturating_add(CODE_BYTES + 8) & !7).min(mapping.end);
    Some(Piece::new(start, usize::try_from(end.checked_sub(start)?).ok()?))
}

/// The stack without its far end: the two lower pieces are one when the first came whole.
fn joined(below: &Piece, near: &Piece, arena: &mut Arena) -> Memory {
    let touches = below.address.checked_add(below.len as u64) == Some(near.address);
    if below.got > 0 && below.got == below.len && touches && below.place().end == near.at {
        return Memory { address: below.address, place: Span { start: below.at, end: near.at + near.got } };
    }
    // What came of it would be in the file without a name.
    arena.get_mut(below.place()).fill(0);
    Memory { address: near.address, place: near.place() }
}
