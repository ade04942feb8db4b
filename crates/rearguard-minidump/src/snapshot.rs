//! What a capture took from the target, before it has the form of a file.
//!
//! `linux` fills it, `encode` reads it; it holds no descriptor and no reference to the target, and what the caller gave stays the caller's.

use crate::encode::Encoder;
use crate::heap::{self, List, Span};
use crate::parse::maps::Mapping;
use crate::registers::Registers;
use crate::request::Request;
use crate::soft_error::SoftErrors;

/// Everything of one capture.
pub(crate) struct Snapshot<'r> {
    pub(crate) request: &'r Request<'r>,
    /// In the order of the dump: the crashing thread first.
    pub(crate) threads: List<Thread>,
    pub(crate) registers: List<Registers>,
    /// Memory that is no thread's stack.
    pub(crate) memory: List<Memory>,
    /// The bytes of all memory and stacks.
    pub(crate) arena: List<u8>,
    /// The main executable first.
    pub(crate) modules: List<Module>,
    pub(crate) mappings: List<Mapping>,
    pub(crate) linker: Option<Linker>,
    /// What writes the linker's list, where it was asked for.
    pub(crate) encode_linker: Option<extern "C" fn(&mut Encoder, &mut Snapshot<'_>)>,
    pub(crate) system: System,
    pub(crate) process: Process,
    /// The texts of the mappings, in which the modules' paths are, and of the auxiliary vector.
    pub(crate) maps: List<u8>,
    pub(crate) auxiliary: List<u8>,
    /// The bytes of all other texts, names and build ids.
    pub(crate) strings: List<u8>,
    /// Texts of the system, as pairs of stream type and contents; the most useful first.
    pub(crate) texts: List<(u32, Span)>,
    /// The descriptors of the target, and what they lead to in the kernel's words: a path, or a type and a number.
    pub(crate) open_files: List<(u32, Span)>,
    /// What writes the open files, where they were asked for.
    pub(crate) encode_files: Option<extern "C" fn(&mut Encoder, &mut Snapshot<'_>)>,
    /// An upper limit of what the things take that were asked for.
    pub(crate) added_bytes: usize,
    pub(crate) soft_errors: SoftErrors,
}

impl<'r> Snapshot<'r> {
    /// The registers of a thread, where they are known.
    pub(crate) fn registers_of(&self, thread: &Thread) -> Option<&Registers> {
        thread.registers.and_then(|at| self.registers.get(at))
    }

    /// Adds a text of the system; one that is empty is left out when the file is made.
    pub(crate) fn add_text(&mut self, stream_type: u32, text: &[u8]) {
        let text = heap::put(&mut self.strings, text);
        heap::add(&mut self.texts, (stream_type, text));
    }

    /// Nothing yet.
    pub(crate) fn new(request: &'r Request<'r>) -> Snapshot<'r> {
        Snapshot {
            request,
            threads: List::new(),
            registers: List::new(),
            memory: List::new(),
            arena: List::new(),
            modules: List::new(),
            mappings: List::new(),
            linker: None,
            encode_linker: None,
            system: System::default(),
            process: Process::default(),
            maps: List::new(),
            auxiliary: List::new(),
            strings: List::new(),
            texts: List::new(),
            open_files: List::new(),
            encode_files: None,
            added_bytes: 0,
            soft_errors: SoftErrors::default(),
        }
    }
}

/// One thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Thread {
    pub(crate) tid: i32,
    /// Among the strings.
    pub(crate) name: Span,
    /// The place of its registers among all; unknown when the thread couldn't be stopped and the kernel tells no pointers.
    pub(crate) registers: Option<usize>,
    /// Empty when it couldn't be read.
    pub(crate) stack: Memory,
}

/// Bytes of the target at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) address: u64,
    /// Where the bytes are in the arena.
    pub(crate) place: Span,
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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Module {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Device and inode.
    pub(crate) file: (u64, u64),
    /// In the text of the mappings.
    pub(crate) path: Span,
    /// Code is mapped from it.
    pub(crate) executable: bool,
    /// Among the strings; empty when there is none, or when it couldn't be read.
    pub(crate) build_id: Span,
}

/// What the dynamic linker tells a debugger.
#[derive(Debug, Default)]
pub(crate) struct Linker {
    pub(crate) version: u32,
    pub(crate) breakpoint: u64,
    pub(crate) base: u64,
    /// Address and bytes of the dynamic section of the executable.
    pub(crate) dynamic_address: u64,
    pub(crate) dynamic: List<u8>,
    pub(crate) links: List<Link>,
}

/// One loaded object in the linker's list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    pub(crate) load_bias: u64,
    pub(crate) dynamic: u64,
    /// Among the strings.
    pub(crate) name: Span,
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
    pub(crate) description: List<u8>,
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
