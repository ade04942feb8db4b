//! The list that the dynamic linker keeps for debuggers.

use super::writer::string_bytes;
use super::{Encoder, LINUX_DSO_DEBUG};
use crate::heap::{self, List};
use crate::snapshot::Snapshot;
use crate::soft_error::Object;

/// MDRawDebug and MDRawLinkMap with 64-bit pointers, packed to 4 bytes.
const DEBUG_BYTES: usize = 36;
pub(super) const LINK_BYTES: usize = 20;

/// Breakpad's description of `r_debug`, with the dynamic section behind it.
pub(crate) extern "C" fn linker(encoder: &mut Encoder, snapshot: &mut Snapshot) {
    let Some(linker) = &snapshot.linker else { return };
    let names: usize = linker.links.iter().map(|link| string_bytes(link.name.of(&snapshot.strings)) + 4).sum();
    let needed = names + linker.links.len() * LINK_BYTES + DEBUG_BYTES + linker.dynamic.len() + 32;
    if needed > encoder.out.room() {
        snapshot.soft_errors.add("keep the linker's list within the file's limit", Object::PROCESS, 0);
        return;
    }
    let mut names: List<u32> = List::new();
    for link in &linker.links {
        heap::add(&mut names, encoder.out.string(link.name.of(&snapshot.strings)).unwrap_or(0));
    }
    encoder.out.align();
    let map = encoder.out.rva();
    for (link, name) in linker.links.iter().zip(&names) {
        encoder.out.u64(link.load_bias);
        encoder.out.u32(*name);
        encoder.out.u64(link.dynamic);
    }
    encoder.out.align();
    let start = encoder.out.rva();
    encoder.out.u32(linker.version);
    encoder.out.u32(map);
    encoder.out.u32(linker.links.len() as u32);
    encoder.out.u64(linker.breakpoint);
    encoder.out.u64(linker.base);
    encoder.out.u64(linker.dynamic_address);
    encoder.out.bytes(&linker.dynamic);
    encoder.stream(LINUX_DSO_DEBUG, start);
}
