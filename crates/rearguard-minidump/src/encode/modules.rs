//! The mapped files.

use super::writer::{Location, Rva, string_bytes};
use super::{Encoder, MODULE_LIST};
use crate::heap::{self, List};
use crate::snapshot::Snapshot;
use crate::soft_error::Object;

/// MINIDUMP_MODULE.
pub(super) const MODULE_BYTES: usize = 108;

/// VS_FIXEDFILEINFO, which Linux doesn't have.
const VERSION_INFO_BYTES: usize = 52;

/// What the kernel calls the vDSO, and the name that debuggers know it by.
pub(crate) const VDSO: &[u8] = b"[vdso]";
const VDSO_NAME: &[u8] = b"linux-gate.so";

/// `BpEL`: an ELF build id follows.
const CV_SIGNATURE_ELF: u32 = 0x4270_454c;

impl Encoder {
    /// MINIDUMP_MODULE_LIST.
    pub(super) fn modules(&mut self, snapshot: &mut Snapshot) {
        // Where each name and each build id is.
        let mut entries: List<(Rva, Location)> = List::new();
        for module in &snapshot.modules {
            let path = module.path.of(&snapshot.maps);
            let path = if path == VDSO { VDSO_NAME } else { path };
            let build_id = module.build_id.of(&snapshot.strings);
            // The list comes behind the names, so each name pays for its entry.
            let needed = string_bytes(path) + build_id.len() + 16 + (entries.len() + 1) * MODULE_BYTES;
            if needed > self.out.room() {
                break;
            }
            let Some(name) = self.out.string(path) else { break };
            let build_id = self.build_id(build_id);
            heap::add(&mut entries, (name, build_id));
        }
        if !self.begin(&mut snapshot.soft_errors, MODULE_LIST, 4) {
            return;
        }
        let start = self.out.rva();
        self.out.u32(entries.len() as u32);
        for (module, (name, build_id)) in snapshot.modules.iter().zip(&entries) {
            self.out.u64(module.start);
            self.out.u32(u32::try_from(module.end.saturating_sub(module.start)).unwrap_or(u32::MAX));
            self.out.zeros(8);
            self.out.u32(*name);
            self.out.zeros(VERSION_INFO_BYTES);
            self.out.location(*build_id);
            self.out.zeros(24);
        }
        self.stream(MODULE_LIST, start);
        let left_out = (snapshot.modules.len() - entries.len()) as u64;
        if left_out > 0 {
            snapshot.soft_errors.add("keep modules within the file's limit", Object::count(left_out), 0);
        }
    }

    fn build_id(&mut self, build_id: &[u8]) -> Location {
        if build_id.is_empty() {
            return Location::default();
        }
        self.out.align_to(4);
        let start = self.out.rva();
        self.out.u32(CV_SIGNATURE_ELF);
        self.out.bytes(build_id);
        self.out.since(start)
    }
}
