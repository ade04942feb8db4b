//! What a capture took from the target, before it has the form of a file.
//!
//! `linux` fills it, `encode` reads it; it holds no descriptor and no reference to the target, and what the caller gave stays the caller's.

use core::ops::Range;

use crate::encode::Encoder;
use crate::parse::maps::Mapping;
use crate::registers::Registers;
use crate::request::Request;
use crate::soft_error::SoftErrors;

/// Everything of one capture.
pub(crate) struct Snapshot<'r> {
    pub(crate) request: &'r Request<'r>,
    /// In the order of the dump: the crashing thread first.
    pub(crate) threads: Vec<Thread>,
    /// Memory that is no thread's stack; the thread that it was copied for.
    pub(crate) memory: Vec<(i32, Memory)>,
    /// The bytes of all memory and stacks.
    pub(crate) arena: Vec<u8>,
    /// The main executable first.
    pub(crate) modules: Vec<Module>,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) linker: Option<Linker>,
    /// What writes the linker's list, where it was asked for.
    pub(crate) encode_linker: Option<fn(&mut Encoder, &mut Snapshot<'_>)>,
    pub(crate) system: System,
    pub(crate) process: Process,
    /// Texts of the system, as pairs of stream type and contents; the most useful first.
    pub(crate) texts: Vec<(u32, Vec<u8>)>,
    /// The descriptors of the target, and what they lead to in the kernel's words: a path, or a type and a number.
    pub(crate) open_files: Vec<(u32, Vec<u8>)>,
    /// What writes the open files, where they were asked for.
    pub(crate) encode_files: Option<fn(&mut Encoder, &mut Snapshot<'_>)>,
    /// An upper limit of what was asked for takes.
    pub(crate) added_bytes: usize,
    pub(crate) soft_errors: SoftErrors,
}

impl<'r> Snapshot<'r> {
    /// Nothing yet.
    pub(crate) fn new(request: &'r Request<'r>) -> Snapshot<'r> {
        Snapshot {
            request,
            threads: Vec::new(),
            memory: Vec::new(),
            arena: Vec::new(),
            modules: Vec::new(),
            mappings: Vec::new(),
            linker: None,
            encode_linker: None,
            system: System::default(),
            process: Process::default(),
            texts: Vec::new(),
            open_files: Vec::new(),
            encode_files: None,
            added_bytes: 0,
            soft_errors: SoftErrors::default(),
        }
    }
}

/// One thread.
#[derive(Debug, Default)]
pub(crate) struct Thread {
    pub(crate) tid: i32,
    pub(crate) name: Vec<u8>,
    /// Unknown when the thread couldn't be stopped and the kernel tells no pointers.
    pub(crate) registers: Option<Registers>,
    /// Empty when it couldn't be read.
    pub(crate) stack: Memory,
}

/// Bytes of the target at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) address: u64,
    /// Where the bytes are in the arena.
    pub(crate) place: Range<usize>,
}

impl Memory {
    /// The address behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.address.saturating_add(self.place.len() as u64)
    }

    /// Whether both have a byte of the same address.
    pub(crate) fn overlaps(&self, other: &Memory) -> bool {
        self.address < other.end() && other.address < self.end()
    }
}

/// One mapped file.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) path: Vec<u8>,
    /// Empty when there is none, or when it couldn't be read.
    pub(crate) build_id: Vec<u8>,
}

/// What the dynamic linker tells a debugger.
#[derive(Debug, Default)]
pub(crate) struct Linker {
    pub(crate) version: u32,
    pub(crate) breakpoint: u64,
    pub(crate) base: u64,
    /// Address and bytes of the dynamic section of the executable.
    pub(crate) dynamic_address: u64,
    pub(crate) dynamic: Vec<u8>,
    pub(crate) links: Vec<Link>,
}

/// One loaded object in the linker's list.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) load_bias: u64,
    pub(crate) dynamic: u64,
    pub(crate) name: Vec<u8>,
}

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct System {
    pub(crate) processors: u8,
    pub(crate) level: u16,
    pub(crate) revision: u16,
    pub(crate) processor_info: [u8; 24],
    /// Major, minor and patch of the kernel's release.
    pub(crate) release: [u32; 3],
    /// The kernel in words.
    pub(crate) description: Vec<u8>,
    /// Seconds since 1970 at the time of the capture.
    pub(crate) now_s: u32,
}

/// The process as a whole; times in seconds.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// Seconds since 1970; 0 when unknown.
    pub(crate) start_s: u32,
    pub(crate) user_s: u32,
    pub(crate) system_s: u32,
}
