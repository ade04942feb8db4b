//! What `minidump-processor` makes of a dump.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use minidump::{
    Minidump, MinidumpContext, MinidumpContextValidity, MinidumpMemoryInfoList, MinidumpMemoryList,
    MinidumpModuleList, MinidumpRawContext, MinidumpSystemInfo, Module, UnifiedMemory,
};
use minidump_processor::ProcessState;
use minidump_unwind::debuginfo::DebugInfoSymbolProvider;
use minidump_unwind::{
    CallStack, CallStackInfo, StackFrame, Symbolizer, simple_symbol_supplier, walk_stack,
};
use serde_json::Value;

use crate::symbols::Symbols;

/// How long the processor may take for one dump. The largest takes a second in a build without optimization.
const PROCESSING_MAX: Duration = Duration::from_secs(60);

/// A frame of a stack, or a function that was inlined into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The address in the file that it was found by.
    pub address: u64,
    /// The function with its path, or nothing where the file tells no name.
    pub function: String,
    /// The source file, or nothing.
    pub file: String,
    /// The line in it, or 0.
    pub line: u32,
    /// Whether the function has no code of its own there.
    pub is_inlined: bool,
}

/// The processor's view of a dump.
#[derive(Debug)]
pub struct Processed(ProcessState);

impl Processed {
    /// Processes a dump without looking at any file.
    ///
    /// # Errors
    ///
    /// What the processor says, or that it takes too long.
    pub fn of(bytes: &[u8]) -> Result<Processed, String> {
        let dump = read(bytes)?;
        let symbols = Symbolizer::new(simple_symbol_supplier(Vec::new()));
        let state = block_on(minidump_processor::process_minidump(&dump, &symbols))?;
        state.map(Processed).map_err(|error| error.to_string())
    }

    /// Processes a dump with the unwind tables of the files that it names.
    ///
    /// # Errors
    ///
    /// What the processor says, or that it takes too long.
    pub fn with_files(bytes: &[u8]) -> Result<Processed, String> {
        let dump = read(bytes)?;
        let system: MinidumpSystemInfo = dump.get_stream().map_err(|error| error.to_string())?;
        let modules: MinidumpModuleList = dump.get_stream().map_err(|error| error.to_string())?;
        let files = block_on(DebugInfoSymbolProvider::new(&system, &modules))?;
        let state = block_on(minidump_processor::process_minidump(&dump, &files))?;
        state.map(Processed).map_err(|error| error.to_string())
    }

    /// How the processor's view differs from the record of the same dump, a line each.
    pub fn disagreements(&self, record: &Value) -> Vec<String> {
        let state = &self.0;
        let mut lines = Lines::default();
        let pid = state.process_id.map(|pid| format!("{pid:#x}"));
        lines.compare("pid", pid, &record["pid"]);
        let crashed = state.requesting_thread.and_then(|index| state.threads.get(index));
        let crashed = crashed.map(|thread| format!("{:#x}", thread.thread_id));
        lines.compare("exception/thread", crashed, &record["exception"]["thread"]);
        let info = state.exception_info.as_ref();
        let address = info.map(|info| format!("{:#x}", info.address.0));
        lines.compare("exception/address", address, &record["exception"]["address"]);
        let length = |field: &str| record[field].as_object().map_or(0, serde_json::Map::len);
        lines.compare_counts("threads", state.threads.len(), length("threads"));
        lines.compare_counts("modules", state.modules.iter().count(), length("modules"));
        for thread in &state.threads {
            lines.compare_thread(thread, &record["threads"]);
        }
        lines.0
    }

    /// The frames of the thread that crashed, with names from the files that the dump names.
    pub fn crash_frames(&self) -> Vec<Frame> {
        let thread = self.0.requesting_thread.and_then(|index| self.0.threads.get(index));
        thread.map(named).unwrap_or_default()
    }

    /// What is in the dump of the far end of the crashed thread's stack, where the stack is in two pieces: its frames, from the first that is whole to the first of the thread.
    ///
    /// The processor walks in one piece of memory, and a stack that overflowed is dumped as two: near the stack pointer and at the far end.
    /// So this is a second walk, which any reader could make: it begins at the first return address of the far piece.
    ///
    /// # Errors
    ///
    /// There is no such piece, or nothing in it looks like a return address.
    pub fn far_frames(&self, bytes: &[u8]) -> Result<Vec<Frame>, String> {
        let dump = read(bytes)?;
        let thread = self.0.requesting_thread.and_then(|index| self.0.threads.get(index));
        let frame = thread.and_then(|thread| thread.frames.first()).ok_or("no thread crashed")?;
        let memory: MinidumpMemoryList<'_> =
            dump.get_stream().map_err(|error| error.to_string())?;
        let mappings: MinidumpMemoryInfoList<'_> =
            dump.get_stream().map_err(|error| error.to_string())?;
        let pointer = frame.context.get_stack_pointer();
        // At the end of an overflow the stack pointer may be in the guard page, below the piece that is dumped.
        let near = memory.iter().filter(|piece| piece.base_address + piece.size > pointer);
        let near = near.min_by_key(|piece| piece.base_address).ok_or("no stack is dumped")?;
        let mapping = mappings.memory_info_at_address(near.base_address);
        let mapping = mapping.and_then(|mapping| mapping.memory_range()).ok_or("no mapping")?;
        // Of a main thread's stack the uppermost part isn't frames, and may be left out.
        let far = memory.iter().filter(|piece| mapping.contains(piece.base_address));
        let far = far.max_by_key(|piece| piece.base_address).ok_or("no stack is dumped")?;
        if far.base_address == near.base_address {
            return Err("the stack is in one piece".to_owned());
        }
        let modules = &self.0.modules;
        let is_code = |address: u64| modules.module_at_address(address).is_some();
        let context = first_context(&frame.context, far, is_code)
            .ok_or("nothing there looks like a return address")?;
        let system: MinidumpSystemInfo = dump.get_stream().map_err(|error| error.to_string())?;
        let files = block_on(DebugInfoSymbolProvider::new(&system, modules))?;
        let mut stack = CallStack::with_context(context);
        let piece = Some(UnifiedMemory::Memory(far));
        block_on(walk_stack(0, (), &mut stack, piece, modules, &self.0.system_info, &files))?;
        Ok(named(&stack))
    }
}

/// What differs, a line each.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn compare(&mut self, path: &str, seen: Option<String>, expected: &Value) {
        let seen = seen.as_deref().unwrap_or("nothing");
        let expected = expected.as_str().unwrap_or("nothing");
        if seen != expected {
            self.0.push(format!("{path}: {expected} for minidump, {seen} for the processor"));
        }
    }

    fn compare_counts(&mut self, path: &str, seen: usize, expected: usize) {
        if seen != expected {
            self.0.push(format!("{path}: {expected} for minidump, {seen} for the processor"));
        }
    }

    fn compare_thread(&mut self, thread: &CallStack, threads: &Value) {
        let id = format!("{:#x}", thread.thread_id);
        let expected = &threads[&id];
        let path = format!("threads/{id}");
        self.compare(&format!("{path}/name"), thread.thread_name.clone(), &expected["name"]);
        let registers = &expected["registers"];
        let is_walked = match thread.info {
            CallStackInfo::Ok => true,
            CallStackInfo::MissingContext
            | CallStackInfo::MissingMemory
            | CallStackInfo::UnsupportedCpu
            | CallStackInfo::DumpThreadSkipped => false,
        };
        if is_walked != registers.is_object() {
            let info = &thread.info;
            self.0.push(format!("{path}: {info:?} for the processor, {registers} for minidump"));
        }
        if let Some(frame) = thread.frames.first() {
            let name = if cfg!(target_arch = "x86_64") { "rip" } else { "pc" };
            let seen = format!("{:#x}", frame.instruction);
            self.compare(&format!("{path}/{name}"), Some(seen), &registers[name]);
        }
    }
}

/// The context of the frame that the first return address in a piece of stack leads to.
fn first_context(
    like: &MinidumpContext,
    piece: &minidump::MinidumpMemory<'_>,
    is_code: impl Fn(u64) -> bool,
) -> Option<MinidumpContext> {
    let word = |address: u64| piece.get_memory_at_address::<u64>(address);
    let end = piece.base_address + piece.size;
    let words = || (piece.base_address.next_multiple_of(8)..end).step_by(8);
    let at = words().find(|address| word(*address).is_some_and(&is_code))?;
    // A function that keeps a frame pointer has saved its caller's beside its return address: the first such pair above is what the register had.
    let pointer = words().skip_while(|address| *address <= at).find(|address| {
        let saved = word(*address).unwrap_or_default();
        saved > *address && saved < end && word(address + 8).is_some_and(&is_code)
    });
    let mut context = like.clone();
    context.valid = MinidumpContextValidity::All;
    #[expect(clippy::wildcard_enum_match_arm, reason = "we have two of the crate's nine systems")]
    match &mut context.raw {
        MinidumpRawContext::Amd64(raw) => {
            raw.rip = word(at)?;
            raw.rsp = at + 8;
            raw.rbp = pointer.unwrap_or_default();
            context.valid = MinidumpContextValidity::Some(HashSet::from(["rip", "rsp", "rbp"]));
        }
        // On aarch64 the pair lies at the low end of a frame; the walk goes on by it alone.
        MinidumpRawContext::Arm64(raw) => {
            raw.pc = word(at)?;
            raw.sp = at + 8;
            raw.iregs[29] = pointer?;
        }
        _ => return None,
    }
    Some(context)
}

/// The frames of a walk with the inlined functions between them.
fn named(stack: &CallStack) -> Vec<Frame> {
    let mut symbols = Symbols::default();
    stack.frames.iter().flat_map(|frame| frames_of(frame, &mut symbols)).collect()
}

fn frames_of(frame: &StackFrame, symbols: &mut Symbols) -> Vec<Frame> {
    match &frame.module {
        Some(module) => {
            symbols.frames(&module.code_file(), frame.instruction - module.base_address())
        }
        None => vec![Frame { address: frame.instruction, ..Frame::default() }],
    }
}

fn read(bytes: &[u8]) -> Result<Minidump<'_, &[u8]>, String> {
    Minidump::read(bytes).map_err(|error| error.to_string())
}

/// Drives a future to its end on this thread. Those here wait for nothing but each other.
fn block_on<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let deadline = Instant::now() + PROCESSING_MAX;
    while Instant::now() < deadline {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
    }
    Err(format!("no end after {} s", PROCESSING_MAX.as_secs()))
}
