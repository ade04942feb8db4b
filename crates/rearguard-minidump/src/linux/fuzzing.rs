//! The fuzzers' way to what reads a target: this very process is the target.

use super::Target;
use super::memory::TargetMemory;
use super::stack::{self, Limit};
use super::{extras, modules, sys};
use crate::encode;
use crate::heap;
use crate::parse::auxv;
use crate::parse::elf::SEGMENTS_MAX;
use crate::parse::maps::{self, Mapping};
use crate::request::Request;
use crate::snapshot::Snapshot;

/// Modules and links that are looked for.
const MODULES_MAX: usize = 64;

/// The pieces of stacks at addresses that the input gives.
pub(crate) fn plans(mappings: &[Mapping], data: &[u8]) {
    let limit = Limit { total: 32 * 1024, far: 8 * 1024 };
    for word in data.chunks_exact(8).take(16) {
        let Some(sp) = crate::bytes::u64_at(word, 0) else { continue };
        let plan = stack::plan(sp, mappings, &[0, sp.wrapping_add(4096)], limit);
        assert!(plan.below.len + plan.near.len + plan.far.len <= 2 * limit.total);
        for mapping in mappings.iter().take(4) {
            let plan = stack::plan(mapping.start, mappings, &[0], limit);
            assert!(plan.near.len <= limit.total);
        }
    }
}

/// Reads `count` modules and the linker's list from memory of this process, and encodes what was found.
pub(crate) fn describe(at: u64, bytes: usize, count: usize) {
    let part = (bytes / count) as u64 & !4095;
    let mut text = String::new();
    for index in 0..count as u64 {
        let start = at + index * part;
        text += &format!("{start:x}-{:x} r-xp 00000000 fe:01 {} /lib/{index}\n", start + part, index / 2 + 1);
    }
    let mut request = Request::new(1);
    request.limits.file_bytes_max = 64 * 1024;
    let mut snapshot = Snapshot::new(&request);
    let mut auxiliary = Vec::new();
    for word in [auxv::PHDR, at + 64, auxv::PHNUM, SEGMENTS_MAX as u64] {
        auxiliary.extend_from_slice(&word.to_le_bytes());
    }
    let (_, tid) = sys::own_ids();
    let mut memory = TargetMemory::new(tid, None, &[0..0, 0..0, 0..0]);
    let (mappings, _) = maps::parse(text.as_bytes());
    let target = Target {
        maps: heap::copied(text.as_bytes()),
        mappings,
        auxiliary: heap::copied(&auxiliary),
        ..Target::default()
    };
    modules::read(&mut memory, &target, MODULES_MAX, &mut snapshot);
    extras::LINKER(&mut memory, &target, &mut snapshot, MODULES_MAX);
    assert!(snapshot.modules.len() <= count);
    assert!(snapshot.modules.iter().all(|module| module.start < module.end));
    assert!(snapshot.linker.as_ref().is_none_or(|linker| linker.links.len() <= MODULES_MAX));
    assert!(encode::encode(&mut snapshot).len() <= 64 * 1024);
}
