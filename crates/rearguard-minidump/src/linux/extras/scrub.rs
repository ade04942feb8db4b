//! Overwrites the words of stacks that may be secrets.

use super::{Copied, Target};
use crate::bytes::copy;
use crate::parse::maps;
use crate::snapshot::Snapshot;

/// What is put in place of a word; Breakpad's readers know it.
const DEFACED: u64 = 0x0def_aced_0def_aced;

/// The largest amount of a number that isn't worth hiding: counters, error numbers, sizes.
const SMALL_MAX: u64 = 4096;

/// Works on every piece of memory but the code around the crash, which is the program's and not its user's.
pub(super) fn scrub(copied: &mut Copied, snapshot: &mut Snapshot, target: &Target) {
    let stacks = snapshot.threads.iter().map(|thread| &thread.stack);
    for memory in stacks.chain(copied.memory.iter().map(|(_, memory)| memory)) {
        let mapping = maps::find(&target.mappings, memory.address);
        if mapping.is_some_and(|mapping| mapping.executable) {
            continue;
        }
        let own = mapping.map_or(memory.address..memory.end(), |mapping| mapping.start..mapping.end);
        for word in copied.arena.get_mut(memory.place).chunks_mut(8) {
            let mut bytes = [0; 8];
            copy(&mut bytes, word);
            let value = u64::from_le_bytes(bytes);
            let small = value <= SMALL_MAX || value >= SMALL_MAX.wrapping_neg();
            if !small && !own.contains(&value) && !is_of_a_file(value, target) {
                copy(word, &DEFACED.to_le_bytes());
            }
        }
    }
}

/// An address of code, or of a mapped file's data.
fn is_of_a_file(value: u64, target: &Target) -> bool {
    maps::find(&target.mappings, value).is_some_and(|mapping| mapping.executable || mapping.file.1 != 0)
}
