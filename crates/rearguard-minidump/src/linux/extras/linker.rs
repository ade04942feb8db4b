//! The dynamic linker's list of loaded objects (`r_debug`, see link.h).
//!
//! All of it lies in writable memory of the target: the list may be a circle, and each pointer may be wrong.

use super::{Target, TargetMemory};
use crate::bytes::{u32_at, u64_at, until_nul};
use crate::encode;
use crate::heap::{self, List};
use crate::linux::memory::{Arena, Piece};
use crate::parse::auxv;
use crate::parse::elf::{self, PT_DYNAMIC, PT_PHDR, SEGMENT_BYTES, SEGMENTS_MAX};
use crate::snapshot::{Link, Linker, Snapshot};

/// The tag of the entry that holds the address of `r_debug`.
const DT_DEBUG: u64 = 21;

/// Bytes of the dynamic section; it has some 30 entries of 16 bytes.
const DYNAMIC_BYTES_MAX: u64 = 4096;

/// Bytes of a name in the list; a longer one is cut.
const NAME_BYTES_MAX: usize = 512;

/// The sizes of `r_debug` and of the public part of `link_map`.
const DEBUG_BYTES: usize = 40;
const LINK_BYTES: usize = 40;

/// Reads the list, if there is one.
pub(super) extern "C" fn add(memory: &mut TargetMemory<'_>, target: &Target, snapshot: &mut Snapshot, links_max: usize) {
    snapshot.linker = read(memory, &target.auxiliary, links_max, &mut snapshot.strings);
    for link in snapshot.linker.iter().flat_map(|linker| &linker.links) {
        // A byte of the name becomes two.
        snapshot.added_bytes += link.name.len() * 2 + 64;
    }
    snapshot.encode_linker = Some(encode::linker);
}

/// Reads the list; `None` for a static executable, or where it can't be read.
fn read(memory: &mut TargetMemory<'_>, auxiliary: &[u8], links_max: usize, strings: &mut List<u8>) -> Option<Linker> {
    let headers_at = auxv::value(auxiliary, auxv::PHDR)?;
    let count = usize::try_from(auxv::value(auxiliary, auxv::PHNUM)?).ok()?.min(SEGMENTS_MAX);
    let table = memory.read(headers_at, count * SEGMENT_BYTES);
    let of_kind = |kind| elf::segments(&table).find(|segment| segment.kind == kind);
    let bias = of_kind(PT_PHDR).map_or(0, |segment| headers_at.wrapping_sub(segment.address));
    let section = of_kind(PT_DYNAMIC)?;
    let dynamic_address = section.address.wrapping_add(bias);
    let dynamic = memory.read(dynamic_address, section.memory_bytes.min(DYNAMIC_BYTES_MAX) as usize);
    let debug = memory.read(debug_address(&dynamic)?, DEBUG_BYTES);
    let mut linker = Linker {
        version: u32_at(&debug, 0)?,
        breakpoint: u64_at(&debug, 16)?,
        base: u64_at(&debug, 32)?,
        dynamic_address,
        dynamic,
        links: List::new(),
    };
    let mut names = List::new();
    let mut next = u64_at(&debug, 8)?;
    while next != 0 && linker.links.len() < links_max {
        let entry = memory.read(next, LINK_BYTES);
        let Some((link, name, after)) = link(&entry) else { break };
        heap::add(&mut linker.links, link);
        heap::add(&mut names, Piece::new(name, NAME_BYTES_MAX));
        next = after;
    }
    let mut arena = Arena::default();
    memory.read_pieces(&mut names, &mut arena);
    for (link, name) in linker.links.iter_mut().zip(&names) {
        link.name = heap::put(strings, until_nul(arena.get(name.place())));
    }
    Some(linker)
}

/// The value of DT_DEBUG, which the linker fills.
fn debug_address(dynamic: &[u8]) -> Option<u64> {
    let entry = dynamic.chunks_exact(16).find(|entry| u64_at(entry, 0) == Some(DT_DEBUG))?;
    u64_at(entry, 8).filter(|address| *address != 0)
}

/// One object still without its name, and the addresses of the name and of the next.
fn link(entry: &[u8]) -> Option<(Link, u64, u64)> {
    let link = Link { load_bias: u64_at(entry, 0)?, dynamic: u64_at(entry, 16)?, ..Link::default() };
    Some((link, u64_at(entry, 8)?, u64_at(entry, 24)?))
}
