//! Memory: stacks, other regions, the list of both, and what the mappings allow.

use super::threads::ThreadList;
use super::writer::Location;
use super::{Encoder, MEMORY_INFO_LIST, MEMORY_LIST};
use crate::heap::{self, List};
use crate::parse::maps::Mapping;
use crate::snapshot::{Memory, Snapshot};
use crate::soft_error::Object;

/// MINIDUMP_MEMORY_DESCRIPTOR.
pub(super) const DESCRIPTOR_BYTES: usize = 16;

/// MINIDUMP_MEMORY_INFO_LIST and MINIDUMP_MEMORY_INFO.
const INFO_HEADER_BYTES: usize = 16;
pub(super) const INFO_BYTES: usize = 48;

/// MEM_COMMIT, MEM_PRIVATE, MEM_MAPPED.
const COMMITTED: u32 = 0x1000;
const PRIVATE: u32 = 0x2_0000;
const MAPPED: u32 = 0x4_0000;

/// The least of a stack that is worth its place: a few frames.
pub(crate) const STACK_BYTES_MIN: usize = 2048;

/// The size of the list of all memory, with what aligning it takes.
pub(super) fn list_bytes(snapshot: &Snapshot) -> usize {
    16 + (snapshot.threads.len() + snapshot.memory.len()) * DESCRIPTOR_BYTES
}

/// A region that is in the file.
pub(super) type Region = (u64, Location);

impl Encoder {
    /// The stack of the crashing thread, and memory that belongs to no thread.
    pub(super) fn first_stacks(
        &mut self,
        snapshot: &mut Snapshot,
        list: ThreadList,
        crash: usize,
        regions: &mut List<Region>,
    ) {
        let mut cut = false;
        for (index, thread) in snapshot.threads.iter().enumerate().take(crash.min(list.count)) {
            let limit = self.out.room() / 2;
            if let Some(location) = self.region(&thread.stack, &snapshot.arena, limit, regions) {
                cut |= (location.size as usize) < thread.stack.place.len();
                self.thread_stack(list, index, thread.stack.address, location);
            }
        }
        // For all of it together: code and far end come first, then as much of indirect memory as there was asked for.
        let mut left = self.out.room() / 4;
        for memory in snapshot.memory.iter().filter(|memory| !memory.place.is_empty()) {
            let location = self.region(memory, &snapshot.arena, left, regions);
            left = left.saturating_sub(location.map_or(0, |location| location.size as usize));
            cut |= location.is_none_or(|location| (location.size as usize) < memory.place.len());
        }
        if cut {
            snapshot.soft_errors.add("keep memory of the crash within the file's limit", Object::PROCESS, 0);
        }
    }

    /// The stacks of the other threads, which share what is left, and the list of all memory.
    pub(super) fn other_stacks(
        &mut self,
        snapshot: &mut Snapshot,
        list: ThreadList,
        crash: usize,
        regions: &mut List<Region>,
    ) {
        let others = snapshot.threads.get(crash..list.count).unwrap_or_default();
        let mut lengths = List::new();
        for thread in others.iter().filter(|thread| !thread.stack.place.is_empty()) {
            heap::add(&mut lengths, thread.stack.place.len());
        }
        // Each region costs its descriptor and its alignment.
        let overhead = 16 + (regions.len() + lengths.len()) * (DESCRIPTOR_BYTES + 8);
        // Where the share is too small to be of use the first get it all the same, and the last nothing.
        let share = fair_share(&lengths, self.out.room().saturating_sub(overhead)).max(STACK_BYTES_MIN);
        let mut cut = 0;
        for (index, thread) in others.iter().enumerate() {
            let wanted = thread.stack.place.len();
            let got = self.region(&thread.stack, &snapshot.arena, share, regions);
            if let Some(location) = got {
                self.thread_stack(list, crash + index, thread.stack.address, location);
            }
            cut += u64::from(got.map_or(0, |location| location.size as usize) < wanted);
        }
        if cut > 0 {
            snapshot.soft_errors.add("keep stacks within the file's limit", Object::count(cut), 0);
        }
        self.memory_list(regions);
    }

    /// Writes at most `limit` bytes of one region, from its lowest address.
    fn region(&mut self, memory: &Memory, arena: &[u8], limit: usize, regions: &mut List<Region>) -> Option<Location> {
        if self.in_place {
            if memory.place.is_empty() {
                return None;
            }
            let location = Location { size: memory.place.len() as u32, rva: memory.place.start as u32 };
            heap::add(regions, (memory.address, location));
            return Some(location);
        }
        let bytes = memory.place.of(arena);
        self.out.align();
        let descriptors = (regions.len() + 1) * DESCRIPTOR_BYTES;
        let length = bytes.len().min(limit).min(self.out.room().saturating_sub(descriptors + 16));
        let bytes = bytes.get(..length).filter(|bytes| !bytes.is_empty())?;
        let start = self.out.rva();
        self.out.bytes(bytes);
        let location = self.out.since(start);
        heap::add(regions, (memory.address, location));
        Some(location)
    }

    /// MINIDUMP_MEMORY_LIST.
    fn memory_list(&mut self, regions: &[Region]) {
        self.out.align();
        let fit = self.out.room().saturating_sub(4) / DESCRIPTOR_BYTES;
        let start = self.out.rva();
        self.out.u32(regions.len().min(fit) as u32);
        for (address, location) in regions.iter().take(fit) {
            self.out.u64(*address);
            self.out.location(*location);
        }
        self.stream(MEMORY_LIST, start);
    }

    /// MINIDUMP_MEMORY_INFO_LIST: at most a quarter of what is left.
    pub(super) fn memory_info(&mut self, snapshot: &mut Snapshot) {
        if !self.begin(&mut snapshot.soft_errors, MEMORY_INFO_LIST, INFO_HEADER_BYTES) {
            return;
        }
        let fit = (self.out.room() / 4).saturating_sub(INFO_HEADER_BYTES) / INFO_BYTES;
        let count = snapshot.mappings.len().min(fit);
        let start = self.out.rva();
        self.out.u32(INFO_HEADER_BYTES as u32);
        self.out.u32(INFO_BYTES as u32);
        self.out.u64(count as u64);
        for mapping in snapshot.mappings.iter().take(count) {
            let protection = protection(mapping);
            self.out.u64(mapping.start);
            self.out.u64(mapping.start);
            self.out.u32(protection);
            self.out.u32(0);
            self.out.u64(mapping.end - mapping.start);
            self.out.u32(COMMITTED);
            self.out.u32(protection);
            self.out.u32(if mapping.shared || mapping.file.1 != 0 { MAPPED } else { PRIVATE });
            self.out.u32(0);
        }
        self.stream(MEMORY_INFO_LIST, start);
        if count < snapshot.mappings.len() {
            let left_out = (snapshot.mappings.len() - count) as u64;
            snapshot.soft_errors.add("keep mappings within the file's limit", Object::count(left_out), 0);
        }
    }
}

/// The PAGE_ constant that says the same.
fn protection(mapping: &Mapping) -> u32 {
    match (mapping.readable, mapping.writable, mapping.executable) {
        (false, false, false) => 0x01,
        (true, false, false) => 0x02,
        (_, true, false) => 0x04,
        (false, false, true) => 0x10,
        (true, false, true) => 0x20,
        (_, true, true) => 0x40,
    }
}

/// The most that each may have so that all together have no more than `total`: short ones leave theirs to the long.
#[inline(never)]
pub(crate) fn fair_share(lengths: &[usize], total: usize) -> usize {
    let sum = |share: usize| lengths.iter().fold(0_usize, |sum, length| sum.saturating_add((*length).min(share)));
    let longest = lengths.iter().fold(0, |longest, length| longest.max(*length));
    if sum(longest) <= total {
        return longest;
    }
    let (mut enough, mut too_much) = (0, longest);
    while too_much - enough > 1 {
        let middle = enough + (too_much - enough) / 2;
        if sum(middle) <= total {
            enough = middle;
        } else {
            too_much = middle;
        }
    }
    enough
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(lengths: &[usize], total: usize) -> usize {
        fair_share(lengths, total)
    }

    #[test]
    fn the_long_shrink_first() {
        assert_eq!(share(&[], 10), 0);
        assert_eq!(share(&[5, 6], 100), 6);
        assert_eq!(share(&[10, 100, 100], 110), 50);
        assert_eq!(share(&[100; 7], 10), 1);
        assert_eq!(share(&[100; 7], 0), 0);
        assert_eq!(share(&[usize::MAX, usize::MAX], 10), 5);
    }
}
