//! The streams of fixed size: machine, process, crash.

use super::writer::Rva;
use super::{EXCEPTION, Encoder, MISC_INFO, SYSTEM_INFO};
use crate::registers::PROCESSOR_ARCHITECTURE;
use crate::snapshot::Snapshot;

/// The platform that Breakpad gave to Linux.
const PLATFORM_LINUX: u32 = 0x8201;

/// MINIDUMP_MISC_INFO: its size, and the flags for process id and process times.
const MISC_BYTES: u32 = 24;
const MISC_FLAGS: u32 = 1 | 2;

/// Where the location of the context stands in the exception stream.
const EXCEPTION_CONTEXT_AT: Rva = 160;

/// The parameters of an exception, which Linux doesn't have.
const EXCEPTION_PARAMETERS: usize = 15;

impl Encoder {
    /// MINIDUMP_SYSTEM_INFO.
    pub(super) fn system(&mut self, snapshot: &Snapshot) {
        let system = &snapshot.system;
        let description = self.out.string(&system.description);
        self.out.align();
        let start = self.out.rva();
        self.out.u16(PROCESSOR_ARCHITECTURE);
        self.out.u16(system.level);
        self.out.u16(system.revision);
        self.out.bytes(&[system.processors, 0]);
        self.out.u32s(&system.release);
        self.out.u32s(&[PLATFORM_LINUX, description.unwrap_or(0), 0]);
        self.out.bytes(&system.processor_info);
        self.stream(SYSTEM_INFO, start);
    }

    /// MINIDUMP_MISC_INFO.
    pub(super) fn misc(&mut self, snapshot: &Snapshot) {
        self.out.align();
        let start = self.out.rva();
        let process = &snapshot.process;
        let pid = snapshot.request.pid as u32;
        self.out.u32s(&[MISC_BYTES, MISC_FLAGS, pid, process.start_s, process.user_s, process.system_s]);
        self.stream(MISC_INFO, start);
    }

    /// MINIDUMP_EXCEPTION_STREAM; returns where the location of the context belongs.
    pub(super) fn exception(&mut self, snapshot: &Snapshot) -> Option<Rva> {
        let crash = snapshot.request.crash.as_ref()?;
        self.out.align();
        let start = self.out.rva();
        self.out.u32s(&[crash.tid as u32, 0, crash.signal as u32, crash.code as u32, 0, 0]);
        self.out.u64(crash.address);
        // The number of parameters, the parameters, and the location of the context.
        self.out.zeros(8 + EXCEPTION_PARAMETERS * 8 + 8);
        self.stream(EXCEPTION, start);
        Some(start + EXCEPTION_CONTEXT_AT)
    }
}
