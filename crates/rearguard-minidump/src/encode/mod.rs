//! From a snapshot to the bytes of a minidump.
//!
//! The parts are written in the order of their worth, so that a dump that reaches its limit of bytes has lost the least: the crash first, then where everything was loaded, then the other threads, then texts.
//! Stacks of the other threads come last and share what is left.
//! Where everything fits, as nearly always, the stacks stay where they were copied to, which is where the file begins, and all else is written behind them.
//! The layouts are those of `minidumpapiset.h`, with Breakpad's and Crashpad's additions for Linux.
//!
//! Nothing here asks the system for anything.

mod extras;
mod files;
mod linker;
mod memory;
mod modules;
mod size;
mod system;
mod threads;
pub(crate) mod writer;

pub(crate) use extras::whole_lines;
pub(crate) use files::open_files;
pub(crate) use linker::linker;
pub(crate) use memory::{STACK_BYTES_MIN, fair_share};
pub(crate) use modules::VDSO;

use crate::bytes::aligned;
use crate::heap::List;
use crate::snapshot::Snapshot;
use crate::soft_error::{Object, STREAM_BYTES_MAX, SoftErrors};
use writer::{Rva, Writer};

/// Types of streams.
const THREAD_LIST: u32 = 3;
const MODULE_LIST: u32 = 4;
const MEMORY_LIST: u32 = 5;
const EXCEPTION: u32 = 6;
const SYSTEM_INFO: u32 = 7;
const HANDLE_DATA: u32 = 12;
const MISC_INFO: u32 = 15;
const MEMORY_INFO_LIST: u32 = 16;
const THREAD_NAMES: u32 = 24;
const LINUX_DSO_DEBUG: u32 = 0x4767_000a;
const CRASHPAD_INFO: u32 = 0x4350_0001;
const MOZ_SOFT_ERRORS: u32 = 0x4d7a_0004;
/// Those that hold a text of the system; `linux` fills them.
pub(crate) const LINUX_CPU_INFO: u32 = 0x4767_0003;
pub(crate) const LINUX_PROC_STATUS: u32 = 0x4767_0004;
pub(crate) const LINUX_LSB_RELEASE: u32 = 0x4767_0005;
pub(crate) const LINUX_CMD_LINE: u32 = 0x4767_0006;
pub(crate) const LINUX_ENVIRON: u32 = 0x4767_0007;
pub(crate) const LINUX_AUXV: u32 = 0x4767_0008;
pub(crate) const LINUX_MAPS: u32 = 0x4767_0009;

/// `MDMP`, and the version that all writers give.
const SIGNATURE: u32 = 0x504d_444d;
const VERSION: u32 = 0xa793;

const HEADER_BYTES: usize = 32;
const DIRECTORY_ENTRY_BYTES: usize = 12;

/// Streams of this crate: the twelve that are named above, and the texts.
const OWN_STREAMS_MAX: usize = 19;

/// No dump is smaller than what describes the crash, whatever limit is asked for.
pub(crate) const FILE_BYTES_MIN: usize = 32 * 1024;

/// A file under construction.
pub(crate) struct Encoder {
    out: Writer,
    streams: usize,
    streams_max: usize,
    /// The memory is in the file already, at the places that the snapshot names.
    in_place: bool,
    /// Bytes that are held back for the list of memory.
    reserve: usize,
}

/// Bytes of header and directory, which come first: a multiple of 8.
pub(crate) fn beginning_bytes(user_streams: usize) -> usize {
    aligned(HEADER_BYTES + (OWN_STREAMS_MAX + user_streams) * DIRECTORY_ENTRY_BYTES, 8)
}

/// The bytes of the minidump.
pub(crate) fn encode(snapshot: &mut Snapshot) -> List<u8> {
    let mut encoder = Encoder::new(snapshot);
    encoder.system(snapshot);
    encoder.misc(snapshot);
    let exception = encoder.exception(snapshot);
    let list = encoder.thread_list(snapshot);
    let crash = usize::from(snapshot.request.crash.is_some());
    let mut regions = List::new();
    encoder.contexts(snapshot, list, 0..crash, exception);
    encoder.first_stacks(snapshot, list, crash, &mut regions);
    encoder.modules(snapshot);
    encoder.annotations(snapshot);
    encoder.user_streams(snapshot);
    encoder.contexts(snapshot, list, crash..list.count, exception);
    encoder.thread_names(snapshot);
    if let Some(linker) = snapshot.encode_linker {
        linker(&mut encoder, snapshot);
    }
    if let Some(files) = snapshot.encode_files {
        files(&mut encoder, snapshot);
    }
    encoder.memory_info(snapshot);
    encoder.texts(snapshot);
    encoder.out.raise_limit(encoder.reserve);
    encoder.other_stacks(snapshot, list, crash, &mut regions);
    encoder.out.raise_limit(STREAM_BYTES_MAX);
    encoder.soft_errors(snapshot);
    encoder.finish()
}

impl Encoder {
    fn new(snapshot: &mut Snapshot) -> Encoder {
        // What went wrong is known last and has to have a place all the same.
        let limit = snapshot.request.limits.file_bytes_max.clamp(FILE_BYTES_MIN, u32::MAX as usize) - STREAM_BYTES_MAX;
        let user_streams = snapshot.request.user_streams.len();
        let in_place = size::all_fits(snapshot, limit);
        // So has the list of memory, which is written behind all that it could tell of.
        let reserve = if in_place { 0 } else { memory::list_bytes(snapshot).min(limit / 8) };
        let mut out = if in_place {
            Writer::behind(core::mem::take(&mut snapshot.arena), limit)
        } else {
            Writer::new(limit - reserve)
        };
        let beginning = beginning_bytes(user_streams);
        if out.len() < beginning {
            out.zeros(beginning - out.len());
        }
        // The number of streams follows, and the checksum is optional.
        for (at, value) in [(0, SIGNATURE), (4, VERSION), (12, HEADER_BYTES as u32), (20, snapshot.system.now_s)] {
            out.patch_u32(at, value);
        }
        Encoder { out, streams: 0, streams_max: OWN_STREAMS_MAX + user_streams, in_place, reserve }
    }

    /// Goes to where a list may begin; false, and told, where not even its first bytes have room.
    fn begin(&mut self, errors: &mut SoftErrors, stream_type: u32, bytes: usize) -> bool {
        self.out.align();
        let fits = bytes <= self.out.room();
        if !fits {
            errors.add("keep stream within the file's limit", Object::count(u64::from(stream_type)), 0);
        }
        fits
    }

    /// Puts a stream into the directory: everything since `start`.
    #[inline(never)]
    fn stream(&mut self, stream_type: u32, start: Rva) {
        if self.streams >= self.streams_max {
            return;
        }
        let at = (HEADER_BYTES + self.streams * DIRECTORY_ENTRY_BYTES) as Rva;
        self.out.patch_u32(at, stream_type);
        self.out.patch_location(at + 4, self.out.since(start));
        self.streams += 1;
    }

    /// Writes `bytes` as a whole stream, or notes that there was no room for it.
    fn whole_stream(&mut self, errors: &mut SoftErrors, stream_type: u32, bytes: &[u8]) {
        if !self.begin(errors, stream_type, bytes.len()) {
            return;
        }
        let start = self.out.rva();
        self.out.bytes(bytes);
        self.stream(stream_type, start);
    }

    fn finish(mut self) -> List<u8> {
        self.out.patch_u32(8, self.streams as u32);
        self.out.into_bytes()
    }
}
