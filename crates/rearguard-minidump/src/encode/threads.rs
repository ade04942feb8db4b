//! Threads: their list, their contexts, their names.

use core::ops::Range;

use super::writer::{Location, Rva, string_bytes};
use super::{Encoder, THREAD_LIST, THREAD_NAMES};
use crate::heap::{self, List};
use crate::registers::CONTEXT_BYTES;
use crate::snapshot::Snapshot;
use crate::soft_error::Object;

/// MINIDUMP_THREAD, and where it has the address of the stack, its location, and that of the context.
pub(super) const THREAD_BYTES: usize = 48;
const STACK_AT: Rva = 24;
const CONTEXT_AT: Rva = 40;

/// MINIDUMP_THREAD_NAME.
pub(super) const THREAD_NAME_BYTES: usize = 12;

/// The list of threads in the file: where its first entry is, and how many it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadList {
    first: Rva,
    pub(super) count: usize,
}

impl ThreadList {
    fn entry(self, index: usize) -> Rva {
        self.first + (index * THREAD_BYTES) as Rva
    }
}

impl Encoder {
    /// The list with ids alone; contexts and stacks fill their places later.
    pub(super) fn thread_list(&mut self, snapshot: &mut Snapshot) -> ThreadList {
        self.out.align();
        // A list that takes everything would leave no room for what it points to.
        let fit = self.out.room() / 3 / THREAD_BYTES;
        let count = snapshot.threads.len().min(fit);
        if count < snapshot.threads.len() {
            let left_out = (snapshot.threads.len() - count) as u64;
            snapshot.soft_errors.add("keep threads within the file's limit", Object::count(left_out), 0);
        }
        let start = self.out.rva();
        self.out.u32(count as u32);
        for thread in snapshot.threads.iter().take(count) {
            self.out.u32(thread.tid as u32);
            self.out.zeros(THREAD_BYTES - 4);
        }
        self.stream(THREAD_LIST, start);
        ThreadList { first: start + 4, count }
    }

    /// The contexts of some threads; that of the first one is the crash's too.
    pub(super) fn contexts(
        &mut self,
        snapshot: &mut Snapshot,
        list: ThreadList,
        which: Range<usize>,
        exception: Option<Rva>,
    ) {
        crate::heap::with_frame_pointer();
        let mut left_out = 0;
        let start = which.start;
        for (index, thread) in snapshot.threads.get(which).unwrap_or_default().iter().enumerate() {
            let index = start + index;
            let Some(registers) = snapshot.registers_of(thread) else { continue };
            if self.out.room() < CONTEXT_BYTES + 8 {
                left_out += 1;
                continue;
            }
            self.out.align();
            let start = self.out.rva();
            registers.write(&mut self.out);
            let location = self.out.since(start);
            self.out.patch_location(list.entry(index) + CONTEXT_AT, location);
            if let Some(at) = exception
                && index == 0
            {
                self.out.patch_location(at, location);
            }
        }
        if left_out > 0 {
            snapshot.soft_errors.add("keep registers within the file's limit", Object::count(left_out), 0);
        }
    }

    /// Says where the stack of one thread is.
    pub(super) fn thread_stack(&mut self, list: ThreadList, index: usize, address: u64, location: Location) {
        let at = list.entry(index) + STACK_AT;
        self.out.patch(at, &address.to_le_bytes());
        self.out.patch_location(at + 8, location);
    }

    /// MINIDUMP_THREAD_NAME_LIST, with the threads that have a name.
    pub(super) fn thread_names(&mut self, snapshot: &mut Snapshot) {
        let mut names = List::new();
        let mut left_out = 0;
        for thread in snapshot.threads.iter().filter(|thread| !thread.name.is_empty()) {
            let name = thread.name.of(&snapshot.strings);
            // The list comes behind the names, so each name pays for its entry.
            let needed = string_bytes(name) + 4 + (names.len() + 2) * THREAD_NAME_BYTES;
            match (needed <= self.out.room()).then(|| self.out.string(name)).flatten() {
                Some(at) => heap::add(&mut names, (thread.tid as u32, at)),
                None => left_out += 1,
            }
        }
        if !self.begin(&mut snapshot.soft_errors, THREAD_NAMES, 4) {
            return;
        }
        let start = self.out.rva();
        self.out.u32(names.len() as u32);
        for (tid, at) in &names {
            self.out.u32(*tid);
            self.out.u64(u64::from(*at));
        }
        self.stream(THREAD_NAMES, start);
        if left_out > 0 {
            snapshot.soft_errors.add("keep thread names within the file's limit", Object::count(left_out), 0);
        }
    }
}
