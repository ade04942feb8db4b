//! Whether a dump can have all that was captured.
//!
//! An estimate from above: where it says yes, no part of the encoder finds its room too small.

use super::memory::{DESCRIPTOR_BYTES, INFO_BYTES};
use super::modules::MODULE_BYTES;
use super::threads::{THREAD_BYTES, THREAD_NAME_BYTES};
use crate::registers::CONTEXT_BYTES;
use crate::snapshot::Snapshot;

/// The streams of fixed size, the counts of lists, and what aligning any of them takes.
const FIXED_BYTES: usize = 16 * 1024;

/// What aligning an item, its length and a build id take.
const ITEM_BYTES: usize = 96;

/// A name of a thread: 16 bytes of the kernel's, each a unit of UTF-16 at most.
const NAME_BYTES: usize = 32;

/// Whether everything fits into `limit` bytes.
///
/// Texts and mappings may have a quarter of what is left each, so they count four times.
/// All names of modules are in the text of the mappings, in half as many bytes as they have in UTF-16.
pub(super) fn all_fits(snapshot: &Snapshot, limit: usize) -> bool {
    let texts: usize = snapshot.texts.iter().map(|(_, text)| text.len()).sum();
    let annotations: usize = snapshot.request.annotations.iter().map(|(key, value)| key.len() + value.len() + ITEM_BYTES).sum();
    let streams: usize = snapshot.request.user_streams.iter().map(|stream| stream.bytes.len() + ITEM_BYTES).sum();
    let of_thread =
        4 * THREAD_BYTES + CONTEXT_BYTES + DESCRIPTOR_BYTES + THREAD_NAME_BYTES + NAME_BYTES + ITEM_BYTES;
    let sum = FIXED_BYTES
        + annotations
        + streams
        + snapshot.arena.len()
        + snapshot.threads.len() * of_thread
        + snapshot.memory.len() * DESCRIPTOR_BYTES
        + snapshot.modules.len() * (MODULE_BYTES + ITEM_BYTES)
        + snapshot.mappings.len() * 4 * INFO_BYTES
        + (texts + snapshot.maps.len() + snapshot.auxiliary.len()) * 6
        + snapshot.added_bytes;
    sum <= limit
}
