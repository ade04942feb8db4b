//! Overwrites the words of stacks that may be secrets.

use core::ops::Range;

use super::{Copied, Target};
use crate::bytes::copy;
use crate::parse::maps::{self, Mapping};
use crate::snapshot::Snapshot;

/// What is put in place of a word; Breakpad's readers know it.
const DEFACED: u64 = 0x0def_aced_0def_aced;

/// The largest amount of a number that isn't worth hiding: counters, error numbers, sizes.
const SMALL_MAX: u64 = 4096;

/// Works on every piece of memory but the code around the crash, which is the program's and not its user's, and on all registers.
pub(super) extern "C" fn scrub(copied: &mut Copied, snapshot: &mut Snapshot, target: &Target) {
    let stacks = snapshot.threads.iter().map(|thread| &thread.stack);
    for memory in stacks.chain(&copied.memory) {
        let mapping = maps::find(&target.mappings, memory.address);
        if mapping.is_some_and(|mapping| mapping.executable && !mapping.writable) {
            continue;
        }
        let own = mapping.map_or(memory.address..memory.end(), |mapping| mapping.start..mapping.end);
        for word in copied.arena.get_mut(memory.place).chunks_mut(8) {
            let mut bytes = [0; 8];
            copy(&mut bytes, word);
            if !is_harmless(u64::from_le_bytes(bytes), &own, target) {
                copy(word, &DEFACED.to_le_bytes());
            }
        }
    }
    for thread in &snapshot.threads {
        let stack = maps::find(&target.mappings, thread.stack.address);
        let own = stack.map_or(0..0, |mapping| mapping.start..mapping.end);
        if let Some(registers) = thread.registers.and_then(|at| snapshot.registers.get_mut(at)) {
            registers.scrub(&|value| is_harmless(value, &own, target), DEFACED);
        }
    }
}

/// A small number, an address of the same stack, of code, or of a mapped file's data.
fn is_harmless(value: u64, own: &Range<u64>, target: &Target) -> bool {
    let is_small = value <= SMALL_MAX || value >= SMALL_MAX.wrapping_neg();
    let is_of_a_file = |mapping: &Mapping| mapping.executable || mapping.file.1 != 0;
    is_small || own.contains(&value) || maps::find(&target.mappings, value).is_some_and(is_of_a_file)
}
