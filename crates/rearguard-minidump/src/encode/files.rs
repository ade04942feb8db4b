//! The open files.

use super::writer::string_bytes;
use super::{Encoder, HANDLE_DATA};
use crate::heap::{self, List};
use crate::snapshot::Snapshot;
use crate::soft_error::Object;

/// MINIDUMP_HANDLE_DATA_STREAM and MINIDUMP_HANDLE_DESCRIPTOR.
const HEADER_BYTES: usize = 16;
const DESCRIPTOR_BYTES: usize = 32;

/// MINIDUMP_HANDLE_DATA_STREAM: at most a quarter of what is left.
pub(crate) extern "C" fn open_files(encoder: &mut Encoder, snapshot: &mut Snapshot) {
    let limit = encoder.out.room() / 4;
    let mut used = HEADER_BYTES + 8;
    let mut entries: List<(u32, u32, u32)> = List::new();
    for (number, name) in &snapshot.open_files {
        let (kind, name) = (kind_of(name.of(&snapshot.strings)).as_bytes(), name.of(&snapshot.strings));
        used += string_bytes(kind) + string_bytes(name) + 8 + DESCRIPTOR_BYTES;
        if used > limit {
            break;
        }
        let (Some(kind), Some(name)) = (encoder.out.string(kind), encoder.out.string(name)) else { break };
        heap::add(&mut entries, (*number, kind, name));
    }
    if !encoder.begin(&mut snapshot.soft_errors, HANDLE_DATA, HEADER_BYTES) {
        return;
    }
    let start = encoder.out.rva();
    encoder.out.u32(HEADER_BYTES as u32);
    encoder.out.u32(DESCRIPTOR_BYTES as u32);
    encoder.out.u32(entries.len() as u32);
    encoder.out.u32(0);
    for (number, kind, name) in &entries {
        encoder.out.u64(u64::from(*number));
        encoder.out.u32(*kind);
        encoder.out.u32(*name);
        // Attributes, access and counts are of another system.
        encoder.out.zeros(16);
    }
    encoder.stream(HANDLE_DATA, start);
    let left_out = (snapshot.open_files.len() - entries.len()) as u64;
    if left_out > 0 {
        snapshot.soft_errors.add("keep open files within the file's limit", Object::count(left_out), 0);
    }
}

/// The kind of file that the kernel's words tell.
fn kind_of(name: &[u8]) -> &'static str {
    for (start, kind) in [("socket:", "Socket"), ("pipe:", "Pipe"), ("anon_inode:", "Anonymous"), ("/dev/shm/", "File"),
        ("/dev/", "Device"), ("/", "File")] {
        if name.starts_with(start.as_bytes()) {
            return kind;
        }
    }
    "Other"
}
