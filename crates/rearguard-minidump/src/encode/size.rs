//! Whether a dump can have all that was captured.
//!
//! An estimate from above: where it says yes, no part of the encoder finds its room too small.

use super::memory::{DESCRIPTOR_BYTES, INFO_BYTES};
use super::modules::{LINK_BYTES, MODULE_BYTES};
use super::threads::{THREAD_BYTES, THREAD_NAME_BYTES};
use crate::registers::CONTEXT_BYTES;
use crate::snapshot::Snapshot;

/// The streams of fixed size, the counts of lists, and what aligning any of them takes.
const FIXED_BYTES: usize = 8 * 1024;

/// What aligning an item and the length of a string take beside the string itself.
const ITEM_BYTES: usize = 32;

/// Whether everything fits into `limit` bytes.
///
/// Texts and mappings may have a quarter of what is left each, so they count four times.
pub(super) fn all_fits(snapshot: &Snapshot, limit: usize) -> bool {
    let mut fixed = FIXED_BYTES + snapshot.arena.len() + snapshot.memory.len() * DESCRIPTOR_BYTES;
    let mut quartered = snapshot.mappings.len() * INFO_BYTES;
    for thread in &snapshot.threads {
        // A byte becomes a unit of UTF-16 at most.
        fixed += THREAD_BYTES + CONTEXT_BYTES + DESCRIPTOR_BYTES + THREAD_NAME_BYTES + ITEM_BYTES + thread.name.len() * 2;
    }
    for module in &snapshot.modules {
        fixed += MODULE_BYTES + module.path.len() * 2 + module.build_id.len() + ITEM_BYTES;
    }
    if let Some(linker) = &snapshot.linker {
        fixed += linker.dynamic.len();
        for link in &linker.links {
            fixed += LINK_BYTES + link.name.len() * 2 + ITEM_BYTES;
        }
    }
    for (key, value) in &snapshot.annotations {
        fixed += key.len() + value.len() + 4 * ITEM_BYTES;
    }
    for (_, stream) in &snapshot.user_streams {
        fixed += stream.len() + ITEM_BYTES;
    }
    for file in &snapshot.open_files {
        quartered += file.name.len() * 2 + 4 * ITEM_BYTES;
    }
    for (_, text) in &snapshot.texts {
        quartered += text.len() + ITEM_BYTES;
    }
    fixed + 4 * quartered <= limit && snapshot.threads.len() * THREAD_BYTES * 4 <= limit - fixed
}
