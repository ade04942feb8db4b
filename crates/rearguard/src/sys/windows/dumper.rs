//! Step 6 of the story: the system's own MiniDumpWriteDump, called in the guard, on a snapshot of the worker where the system can take one.
//!
//! The system suspends the threads of a process that it dumps, and a dumper that is ended meanwhile leaves them so.
//! A snapshot needs no thread suspended but for the moment in which the kernel takes it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::windows::io::AsRawHandle;

use rearguard_crashpath::time;
use windows_sys::Win32::Foundation::{HANDLE, S_FALSE};
use windows_sys::Win32::System::Diagnostics::Debug::{
    EXCEPTION_POINTERS, IsProcessSnapshotCallback, MINIDUMP_CALLBACK_INFORMATION,
    MINIDUMP_CALLBACK_INPUT, MINIDUMP_CALLBACK_OUTPUT, MINIDUMP_EXCEPTION_INFORMATION,
    MINIDUMP_TYPE, MINIDUMP_USER_STREAM, MINIDUMP_USER_STREAM_INFORMATION,
    MiniDumpIgnoreInaccessibleMemory, MiniDumpNormal, MiniDumpScanMemory, MiniDumpWithDataSegs,
    MiniDumpWithHandleData, MiniDumpWithIndirectlyReferencedMemory, MiniDumpWithProcessThreadData,
    MiniDumpWithThreadInfo, MiniDumpWithUnloadedModules,
};

use super::attach::worker_process;
use super::file::scratch;
use super::handles::{last_error, this_process};
use super::libraries::Library;
use crate::config::DumpSize;
use crate::heap::{List, Text};
pub(crate) use crate::sys::no_extras::Extras;
use crate::sys::words::{Dump, Subject};

/// The stream by which readers know annotations: Crashpad's.
const CRASHPAD_INFO: u32 = 0x4350_0001;

type WriteDump = unsafe extern "system" fn(
    HANDLE,
    u32,
    HANDLE,
    MINIDUMP_TYPE,
    *const MINIDUMP_EXCEPTION_INFORMATION,
    *const MINIDUMP_USER_STREAM_INFORMATION,
    *const MINIDUMP_CALLBACK_INFORMATION,
) -> i32;
type CaptureSnapshot = unsafe extern "system" fn(HANDLE, u32, u32, *mut HANDLE) -> u32;
type FreeSnapshot = unsafe extern "system" fn(HANDLE, HANDLE) -> u32;

/// What the system is asked for, from the smallest kind to the largest; a kind that doesn't fit is followed by the next smaller one.
const KINDS: [MINIDUMP_TYPE; 3] = [SMALL, STANDARD, STANDARD | MiniDumpWithDataSegs];
const SMALL: MINIDUMP_TYPE = MiniDumpNormal | MiniDumpWithThreadInfo | MiniDumpWithUnloadedModules;
const STANDARD: MINIDUMP_TYPE = SMALL
    | MiniDumpWithProcessThreadData
    | MiniDumpWithHandleData
    | MiniDumpWithIndirectlyReferencedMemory
    | MiniDumpScanMemory
    | MiniDumpIgnoreInaccessibleMemory;

/// How many kinds a size may try.
const fn kinds_of(size: DumpSize) -> usize {
    match size {
        DumpSize::Small => 1,
        DumpSize::Standard => 2,
        DumpSize::Large => 3,
    }
}

/// Takes a minidump of a worker that waits at its crash. `probe` is called at each step, with its name.
pub(crate) fn take(
    subject: &Subject<'_>,
    probe: &(dyn Fn(&'static str) + Sync),
) -> Result<Dump, Text> {
    let library = Library::load("dbghelp.dll").ok_or("dbghelp.dll can't be loaded")?;
    // SAFETY: this is the function's type.
    let write: WriteDump = unsafe { library.function(c"MiniDumpWriteDump") }
        .ok_or("dbghelp.dll has no MiniDumpWriteDump")?;
    probe("before-seize");
    let snapshot = Snapshot::take();
    let stopped_ns = if snapshot.is_some() { time::monotonic_ns() } else { 0 };
    probe("released");
    let mut annotations = annotation_stream(subject);
    let mut failed = String::from("no kind was tried");
    for (number, kind) in KINDS.iter().enumerate().take(kinds_of(subject.size)).rev() {
        // Behind the smallest kind there is none; too large a dump is better than none, as far as collectors take it.
        let size = if number == 0 { DumpSize::Large } else { subject.size };
        match attempt(write, *kind, size.bytes_max(), snapshot.as_ref(), subject, &mut annotations)
        {
            Ok(bytes) => {
                let bytes = with_places(bytes, &annotations);
                probe("before-encode");
                return Ok(Dump {
                    threads: thread_count(&bytes),
                    bytes: bytes.into(),
                    threads_stopped_ns: stopped_ns,
                    threads_released_ns: stopped_ns,
                    soft_errors: List::new(),
                });
            }
            Err(reason) => failed = reason,
        }
    }
    Err(failed.into())
}

/// Loads the library once while nobody waits.
pub(crate) fn rehearse() {
    let _ = Library::load("dbghelp.dll");
}

/// One try with one kind.
fn attempt(
    write: WriteDump,
    kind: MINIDUMP_TYPE,
    bytes_max: usize,
    snapshot: Option<&Snapshot>,
    subject: &Subject<'_>,
    annotations: &mut [u8],
) -> Result<Vec<u8>, String> {
    let mut name = String::from("rearguard-");
    name.push_str(&std::process::id().to_string());
    name.push_str(".tmp");
    let mut file = scratch(&std::env::temp_dir(), &name).map_err(|error| error.to_string())?;
    let pointers = subject.crash.general.first().copied().unwrap_or(0);
    let exception = MINIDUMP_EXCEPTION_INFORMATION {
        ThreadId: subject.crash.tid as u32,
        ExceptionPointers: pointers as usize as *mut EXCEPTION_POINTERS,
        // The pointers are the worker's, and are read there.
        ClientPointers: 1,
    };
    let mut stream = MINIDUMP_USER_STREAM {
        Type: CRASHPAD_INFO,
        BufferSize: annotations.len() as u32,
        Buffer: annotations.as_mut_ptr().cast(),
    };
    let streams =
        MINIDUMP_USER_STREAM_INFORMATION { UserStreamCount: 1, UserStreamArray: &raw mut stream };
    let callback = MINIDUMP_CALLBACK_INFORMATION {
        CallbackRoutine: Some(on_question),
        CallbackParam: core::ptr::null_mut(),
    };
    let process = snapshot.map_or_else(worker_process, |snapshot| snapshot.handle);
    let callback = if snapshot.is_some() { &raw const callback } else { core::ptr::null() };
    let exception = if pointers == 0 { core::ptr::null() } else { &raw const exception };
    // SAFETY: all structures live through the call; what they point to in the worker is read by the system, which checks it.
    let done = unsafe {
        write(
            process,
            subject.pid,
            file.as_raw_handle().cast(),
            kind,
            exception,
            &raw const streams,
            callback,
        )
    };
    if done == 0 {
        let mut reason = String::from("MiniDumpWriteDump failed with error ");
        reason.push_str(&last_error().to_string());
        return Err(reason);
    }
    read_back(&mut file, bytes_max)
        .ok_or_else(|| String::from("the minidump is larger than the limit"))
}

fn read_back(file: &mut File, bytes_max: usize) -> Option<Vec<u8>> {
    let length = file.seek(SeekFrom::End(0)).ok()?;
    if length > bytes_max as u64 {
        return None;
    }
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut bytes = Vec::with_capacity(length as usize);
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Answers the writer's one question that matters: the handle is a snapshot's, not a process's.
unsafe extern "system" fn on_question(
    _parameter: *mut core::ffi::c_void,
    input: *const MINIDUMP_CALLBACK_INPUT,
    output: *mut MINIDUMP_CALLBACK_OUTPUT,
) -> i32 {
    // SAFETY: the writer gives a living structure; it may lie at any address.
    let question = unsafe { (&raw const (*input).CallbackType).read_unaligned() };
    if question == IsProcessSnapshotCallback as u32 {
        // SAFETY: as above.
        unsafe { (&raw mut (*output).Anonymous.Status).write_unaligned(S_FALSE) };
    }
    1
}

/// A snapshot of the worker; it is given back with this value.
struct Snapshot {
    handle: HANDLE,
    free: Option<FreeSnapshot>,
}

impl Snapshot {
    /// Takes one, where the system can (Windows 8.1 and later; MSDN, PssCaptureSnapshot).
    fn take() -> Option<Snapshot> {
        /// A copy of the memory, the handles with their names, the threads with their contexts, and what else a dump tells.
        const VA_CLONE: u32 = 0x1;
        const HANDLES: u32 = 0x4 | 0x8 | 0x10 | 0x20;
        const THREADS: u32 = 0x80 | 0x100;
        const MEMORY_INFORMATION: u32 = 0x800 | 0x1000;
        const NOTHING_AROUND: u32 = 0x2000_0000 | 0x8000_0000;
        /// CONTEXT_ALL of the processor.
        #[cfg(target_arch = "x86_64")]
        const ALL_REGISTERS: u32 = 0x0010_001f;
        #[cfg(not(target_arch = "x86_64"))]
        const ALL_REGISTERS: u32 = 0x0040_001f;
        let library = Library::load("kernel32.dll")?;
        // SAFETY: this is the function's type.
        let capture: CaptureSnapshot = unsafe { library.function(c"PssCaptureSnapshot") }?;
        // SAFETY: this is the function's type.
        let free: Option<FreeSnapshot> = unsafe { library.function(c"PssFreeSnapshot") };
        let mut handle = core::ptr::null_mut();
        let flags = VA_CLONE | HANDLES | THREADS | MEMORY_INFORMATION | NOTHING_AROUND;
        // SAFETY: the handle is the worker's, and the result goes into a living place.
        let failed = unsafe { capture(worker_process(), flags, ALL_REGISTERS, &raw mut handle) };
        (failed == 0).then_some(Snapshot { handle, free })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the snapshot is ours and used no more.
            unsafe { free(this_process(), self.handle) };
        }
    }
}

/// MinidumpCrashpadInfo with its dictionary behind it, all in one stream; places are counted from the stream's beginning until the dump is written.
fn annotation_stream(subject: &Subject<'_>) -> Vec<u8> {
    const INFO_BYTES: usize = 52;
    let entries = subject.annotations;
    let mut stream = vec![0; INFO_BYTES];
    let dictionary = stream.len();
    stream.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    stream.resize(dictionary + 4 + entries.len() * 8, 0);
    let dictionary_bytes = stream.len() - dictionary;
    let texts = entries.iter().flat_map(|(key, value)| [key, value]);
    for (index, text) in texts.enumerate() {
        let place = stream.len() as u32;
        put(&mut stream, dictionary + 4 + index * 4, place);
        stream.extend_from_slice(&(text.len() as u32).to_le_bytes());
        stream.extend_from_slice(text.as_bytes());
        stream.push(0);
        stream.resize(stream.len().next_multiple_of(4), 0);
    }
    put(&mut stream, 0, 1);
    // A GUID, whose first three parts are numbers of the processor's order.
    let [a, b, c, d, e, f, g, h, rest @ ..] = subject.report_id;
    let guid = [d, c, b, a, f, e, h, g];
    for (at, byte) in guid.iter().chain(&rest).enumerate() {
        if let Some(place) = stream.get_mut(4 + at) {
            *place = *byte;
        }
    }
    put(&mut stream, 36, dictionary_bytes as u32);
    put(&mut stream, 40, dictionary as u32);
    stream
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Where a stream lies in a dump: its size and its place.
fn find_stream(dump: &[u8], wanted: u32) -> Option<(usize, usize)> {
    let count = number(dump, 8)? as usize;
    let directory = number(dump, 12)? as usize;
    (0..count.min(64)).find_map(|index| {
        let entry = directory.checked_add(index * 12)?;
        (number(dump, entry)? == wanted)
            .then_some((number(dump, entry + 4)? as usize, number(dump, entry + 8)? as usize))
    })
}

/// Counts the places of the annotations from the file's beginning, as readers expect, now that the stream's own place is known.
fn with_places(mut dump: Vec<u8>, annotations: &[u8]) -> Vec<u8> {
    let Some((size, start)) = find_stream(&dump, CRASHPAD_INFO) else { return dump };
    let Some(dictionary) = number(annotations, 40).map(|place| place as usize) else { return dump };
    let Some(count) = number(annotations, dictionary).map(|count| count as usize) else {
        return dump;
    };
    if size < annotations.len() {
        return dump;
    }
    let words = (0..count * 2).map(|index| dictionary + 4 + index * 4);
    for at in [40].into_iter().chain(words) {
        if let Some(place) = number(annotations, at) {
            put(&mut dump, start + at, place + start as u32);
        }
    }
    dump
}

/// How many threads a dump describes.
fn thread_count(dump: &[u8]) -> usize {
    const THREAD_LIST: u32 = 3;
    find_stream(dump, THREAD_LIST)
        .and_then(|(_, start)| number(dump, start))
        .map_or(0, |count| count as usize)
}
