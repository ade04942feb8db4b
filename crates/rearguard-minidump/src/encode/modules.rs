//! Modules, and the list that the dynamic linker keeps for debuggers.

use super::writer::{Location, string_bytes};
use super::{Encoder, LINUX_DSO_DEBUG, MODULE_LIST};
use crate::heap;
use crate::snapshot::{Module, Snapshot};
use crate::soft_error::Object;

/// MINIDUMP_MODULE.
pub(super) const MODULE_BYTES: usize = 108;

/// VS_FIXEDFILEINFO, which Linux doesn't have.
const VERSION_INFO_BYTES: usize = 52;

/// `BpEL`: an ELF build id follows.
const CV_SIGNATURE_ELF: u32 = 0x4270_454c;

/// MDRawDebug and MDRawLinkMap with 64-bit pointers, packed to 4 bytes.
const DEBUG_BYTES: usize = 36;
pub(super) const LINK_BYTES: usize = 20;

impl Encoder {
    /// MINIDUMP_MODULE_LIST.
    pub(super) fn modules(&mut self, snapshot: &mut Snapshot) {
        let mut entries: Vec<(&Module, u32, Location)> = Vec::new();
        for module in &snapshot.modules {
            let path = heap::lossy(&module.path);
            // The list comes behind the names, so each name pays for its entry.
            let needed = string_bytes(&path) + module.build_id.len() + 16 + (entries.len() + 1) * MODULE_BYTES;
            if needed > self.out.room() {
                break;
            }
            let Some(name) = self.out.string(&path) else { break };
            let build_id = self.build_id(module);
            heap::add(&mut entries, (module, name, build_id));
        }
        self.out.align();
        let start = self.out.rva();
        self.out.u32(entries.len() as u32);
        for (module, name, build_id) in &entries {
            self.out.u64(module.start);
            self.out.u32(u32::try_from(module.end.saturating_sub(module.start)).unwrap_or(u32::MAX));
            self.out.zeros(8);
            self.out.u32(*name);
            self.out.zeros(VERSION_INFO_BYTES);
            self.out.location(*build_id);
            self.out.zeros(24);
        }
        self.stream(MODULE_LIST, self.out.since(start));
        let left_out = (snapshot.modules.len() - entries.len()) as u64;
        if left_out > 0 {
            snapshot.soft_errors.add("keep modules within the file's limit", Object::Count(left_out), 0);
        }
    }

    fn build_id(&mut self, module: &Module) -> Location {
        if module.build_id.is_empty() {
            return Location::default();
        }
        self.out.zeros(self.out.len().next_multiple_of(4) - self.out.len());
        let start = self.out.rva();
        self.out.u32(CV_SIGNATURE_ELF);
        self.out.bytes(&module.build_id);
        self.out.since(start)
    }

    /// Breakpad's description of `r_debug`, with the dynamic section behind it.
    pub(super) fn linker(&mut self, snapshot: &mut Snapshot) {
        let Some(linker) = &snapshot.linker else { return };
        let names: usize = linker.links.iter().map(|link| string_bytes(&heap::lossy(&link.name)) + 4).sum();
        let needed = names + linker.links.len() * LINK_BYTES + DEBUG_BYTES + linker.dynamic.len() + 32;
        if needed > self.out.room() {
            snapshot.soft_errors.add("keep the linker's list within the file's limit", Object::Process, 0);
            return;
        }
        let mut names: Vec<u32> = Vec::new();
        for link in &linker.links {
            heap::add(&mut names, self.out.string(&heap::lossy(&link.name)).unwrap_or(0));
        }
        self.out.align();
        let map = self.out.rva();
        for (link, name) in linker.links.iter().zip(names) {
            self.out.u64(link.load_bias);
            self.out.u32(name);
            self.out.u64(link.dynamic);
        }
        self.out.align();
        let start = self.out.rva();
        self.out.u32(linker.version);
        self.out.u32(map);
        self.out.u32(linker.links.len() as u32);
        self.out.u64(linker.breakpoint);
        self.out.u64(linker.base);
        self.out.u64(linker.dynamic_address);
        self.out.bytes(&linker.dynamic);
        self.stream(LINUX_DSO_DEBUG, self.out.since(start));
    }
}
