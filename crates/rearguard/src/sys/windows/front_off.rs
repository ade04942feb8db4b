//! Guard-first without its feature: what `no_front` answers, and what the other modules of this port ask beside that.

use std::cell::RefCell;

pub(crate) use crate::sys::no_front::*;

use super::attach::Stream;
use super::spawn::Created;
use crate::launch::{LaunchRecord, Succession};

impl Front {
    /// There is none to keep.
    pub(super) fn keep(self) {
        match self {}
    }
}

/// Nobody is told of a guard.
pub(super) fn note_guard(_created: &Created) {}

/// A guard reaches nobody.
pub(super) fn reach(_record: &LaunchRecord) {}

/// No front was lost.
pub(super) fn lost() -> Option<u32> {
    None
}

/// The guard starts the next worker by itself.
pub(super) fn next_worker(
    _succession: &[u8],
    _streams: &RefCell<[Option<Stream>; 3]>,
) -> Option<Result<u32, u32>> {
    None
}

/// No variable names a front.
pub(super) fn split_off(value: &str) -> Option<(&str, Option<u32>)> {
    Some((value, None))
}

/// As above.
pub(super) fn told(_front: u32, _rest: &[u8]) -> Option<(Option<Succession>, Option<u64>)> {
    None
}
