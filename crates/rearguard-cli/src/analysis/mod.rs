//! What a minidump tells: who crashed, why, and where, in functions and lines where files with symbols are at hand.
//!
//! Works on any minidump, whoever wrote it.
//! Nothing of the file is trusted: the readers check every size, and what is walked has a bound.

mod files;
mod names;
mod pdb;
mod reason;
#[cfg_attr(not(feature = "servers"), path = "no_servers.rs")]
mod servers;
mod symbols;
mod walk;

use std::collections::HashSet;
use std::io::Read;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use minidump::{
    Minidump, MinidumpCrashpadInfo, MinidumpException, MinidumpMemoryList, MinidumpMiscInfo,
    MinidumpModuleList, MinidumpSystemInfo, MinidumpThreadList, MinidumpThreadNames, Module,
    UnifiedMemoryInfoList, UnifiedMemoryList,
};
use minidump_unwind::{CallStack, FrameTrust, StackFrame};

use crate::failure::Failure;
use files::{Found, look_for};
pub(crate) use symbols::Origin;
use symbols::Symbols;
use walk::Walked;

/// How often stacks are walked again with what servers had: each time other files may lie on them.
const SERVER_ROUNDS_MAX: usize = 3;

/// Minidumps are some megabytes; a full dump of a large program has some gigabytes.
const DUMP_BYTES_MAX: u64 = 16 << 30;

/// The stream of soft errors, a JSON array (Mozilla's number).
const SOFT_ERRORS: u32 = 0x4d7a_0004;

/// Where symbols may be, beside the places that the dump names.
#[derive(Clone, Debug, Default)]
pub(crate) struct SymbolPlaces {
    /// Directories with executables, debug files, or Breakpad's `.sym` files in their layout.
    pub(crate) directories: Vec<PathBuf>,
    /// Who is asked for what isn't there.
    servers: servers::Servers,
}

impl SymbolPlaces {
    /// These directories.
    pub(crate) fn of(directories: Vec<PathBuf>) -> SymbolPlaces {
        SymbolPlaces { directories, ..SymbolPlaces::default() }
    }
}

/// How much of a minidump is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The thread that crashed, with names of the main executable alone: what a line of a list needs.
    Crash,
    /// All threads, with names of everything.
    Whole,
}

/// A minidump, understood.
#[derive(Debug)]
pub(crate) struct Analysis {
    pub(crate) system: String,
    pub(crate) processor: String,
    pub(crate) process: Option<u32>,
    pub(crate) crash: Option<Crash>,
    /// The crashed one first, then as the file has them.
    pub(crate) threads: Vec<Thread>,
    /// Threads that the file has and nobody walked.
    pub(crate) threads_left_out: usize,
    pub(crate) modules: Vec<ModuleView>,
    pub(crate) annotations: Vec<(String, String)>,
    /// What the writer could not do, a line each.
    pub(crate) soft_errors: Vec<String>,
    /// How much of the file is missing, as where it was cut.
    pub(crate) missing_bytes: u64,
}

/// Why it crashed.
#[derive(Debug)]
pub(crate) struct Crash {
    /// As the field names it: `SIGSEGV / SEGV_MAPERR`.
    pub(crate) reason: String,
    /// In a sentence.
    pub(crate) words: String,
    pub(crate) address: u64,
    pub(crate) thread: u32,
}

#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) id: u32,
    pub(crate) name: Option<String>,
    pub(crate) is_crashed: bool,
    /// The innermost first; functions that were inlined are frames of their own.
    pub(crate) frames: Vec<Frame>,
    /// Where the minidump has the other end of its stack as well.
    pub(crate) far_end: Option<FarEnd>,
}

/// The end where a stack began, behind what the minidump leaves out of it: that of an overflow.
#[derive(Debug)]
pub(crate) struct FarEnd {
    /// How much of the stack isn't in the minidump.
    pub(crate) gap_bytes: u64,
    /// As those of the thread.
    pub(crate) frames: Vec<Frame>,
}

/// A function on the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) instruction: u64,
    /// The file's name, and the place in it.
    pub(crate) module: Option<String>,
    pub(crate) offset: u64,
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    /// It has no code of its own there.
    pub(crate) is_inlined: bool,
    /// It is of the program's main executable, and not of a library that was built into it.
    pub(crate) is_own: bool,
    /// How the walk came to it, where that may be wrong.
    pub(crate) is_guess: bool,
}

impl Frame {
    /// The place in the code without any name.
    pub(crate) fn place(&self) -> String {
        match &self.module {
            Some(module) => format!("{module}+{:#x}", self.offset),
            None => format!("{:#x}, in no module", self.instruction),
        }
    }
}

/// A file that was mapped.
#[derive(Debug)]
pub(crate) struct ModuleView {
    pub(crate) path: String,
    pub(crate) base: u64,
    pub(crate) size: u64,
    pub(crate) id: Option<String>,
    /// Where symbols came from, or why there are none.
    pub(crate) symbols: Origin,
}

impl Analysis {
    /// The thread that crashed.
    pub(crate) fn crashed(&self) -> Option<&Thread> {
        self.threads.iter().find(|thread| thread.is_crashed)
    }

    /// The innermost frame of the program's own code on the crashed thread.
    pub(crate) fn own_frame(&self) -> Option<&Frame> {
        self.crashed()?.frames.iter().find(|frame| frame.is_own)
    }
}

/// Reads a minidump and walks its stacks.
pub(crate) fn analyse(
    path: &Path,
    places: &SymbolPlaces,
    depth: Depth,
) -> Result<Analysis, Failure> {
    let unreadable = |reason: String| Failure::unreadable(path, reason);
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > DUMP_BYTES_MAX {
        return Err(unreadable("no minidump: not a file, or beyond all sizes".to_owned()));
    }
    if metadata.len() == 0 {
        return Err(unreadable("no minidump: the file is empty".to_owned()));
    }
    // Readers of others' files have panicked before; that is the file's fault as well, and one line like any other.
    let read = || {
        let dump = Minidump::read_path(path).map_err(|error| no_minidump(path, &error))?;
        Ok(Reading::new(&dump, metadata.len())?.analyse(places, depth))
    };
    if cfg!(fuzzing) {
        // A panic is what is looked for.
        return read().map_err(unreadable);
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let read = catch_unwind(AssertUnwindSafe(read));
    std::panic::set_hook(hook);
    read.unwrap_or_else(|_| Err("the reader of minidumps can't cope with it".to_owned()))
        .map_err(unreadable)
}

/// Why a file is no minidump, in words for whoever has confused two files.
fn no_minidump(path: &Path, error: &minidump::Error) -> String {
    let mut beginning = [0; 2];
    let read = files::open(path).and_then(|mut file| file.read(&mut beginning).ok());
    match (read, &beginning, error) {
        (Some(2), [0x1f, 0x8b], _) => {
            "no minidump; an exported report is looked at after `rearguard import`".to_owned()
        }
        (_, _, minidump::Error::HeaderMismatch) => "no minidump: it begins otherwise".to_owned(),
        (_, _, minidump::Error::MissingHeader) => "no minidump: it is too short for one".to_owned(),
        (_, _, minidump::Error::MissingDirectory) => {
            "no whole minidump: it ends before its list of contents".to_owned()
        }
        (_, _, error) => format!("no minidump: {error}"),
    }
}

/// The streams of a minidump that a story needs.
struct Reading<'d> {
    /// What the file lists behind its end.
    missing_bytes: u64,
    /// The JSON of the soft errors.
    soft_errors: &'d [u8],
    annotations: Vec<(String, String)>,
    system: MinidumpSystemInfo,
    misc: Option<MinidumpMiscInfo>,
    exception: Option<MinidumpException<'d>>,
    threads: MinidumpThreadList<'d>,
    names: MinidumpThreadNames,
    modules: MinidumpModuleList,
    memory: UnifiedMemoryList<'d>,
    mappings: Option<UnifiedMemoryInfoList<'d>>,
}

impl<'d> Reading<'d> {
    fn new<D: Deref<Target = [u8]> + 'd>(
        dump: &'d Minidump<'d, D>,
        dump_bytes: u64,
    ) -> Result<Reading<'d>, String> {
        let missing = |what: &str, error: minidump::Error| {
            if matches!(error, minidump::Error::StreamNotFound) {
                return format!("the minidump has no {what}");
            }
            format!("the minidump's {what} can't be read: {error}")
        };
        let end_of = |stream: &minidump::format::MINIDUMP_DIRECTORY| {
            u64::from(stream.location.rva) + u64::from(stream.location.data_size)
        };
        let end = dump.all_streams().map(end_of).max().unwrap_or(0);
        let info = dump.get_stream::<MinidumpCrashpadInfo>().ok();
        Ok(Reading {
            missing_bytes: end.saturating_sub(dump_bytes),
            soft_errors: dump.get_raw_stream(SOFT_ERRORS).unwrap_or_default(),
            annotations: info
                .map(|info| info.simple_annotations.into_iter().collect())
                .unwrap_or_default(),
            system: dump
                .get_stream()
                .map_err(|error| missing("description of the system", error))?,
            misc: dump.get_stream().ok(),
            exception: dump.get_stream().ok(),
            threads: dump.get_stream().map_err(|error| missing("list of threads", error))?,
            names: dump.get_stream().unwrap_or_default(),
            modules: dump
                .get_stream()
                .unwrap_or_else(|_| MinidumpModuleList::from_modules(Vec::new())),
            mappings: UnifiedMemoryInfoList::new(dump.get_stream().ok(), dump.get_stream().ok()),
            memory: dump
                .get_memory()
                .unwrap_or_else(|| UnifiedMemoryList::Memory(MinidumpMemoryList::default())),
        })
    }

    fn analyse(&self, places: &SymbolPlaces, depth: Depth) -> Analysis {
        let look = || self.modules.iter().map(|module| look_for(module, places)).collect();
        let mut found: Vec<Found> = look();
        let mut threads = self.walk(&found, places, depth);
        // With what a server had for those on the stacks, callers are found that weren't before: so once more.
        for _ in 0..SERVER_ROUNDS_MAX {
            if !places.servers.fetch(&self.modules, &found, &threads) {
                break;
            }
            found = look();
            threads = self.walk(&found, places, depth);
        }
        let mut symbols = Symbols::default();
        let named = if depth == Depth::Whole { found.len() } else { 1 };
        for (module, found) in self.modules.iter().zip(&found).take(named) {
            symbols.add(module, found);
        }
        let own = self.modules.main_module().map(|module| module.base_address());
        let crashed = self.crashed();
        let view_of = |stack: &CallStack| {
            stack.frames.iter().flat_map(|frame| symbols.frames(frame, own)).collect()
        };
        let far_of = |(gap_bytes, stack): &(u64, CallStack)| FarEnd {
            gap_bytes: *gap_bytes,
            frames: view_of(stack),
        };
        let views: Vec<Thread> = threads
            .iter()
            .map(|Walked { stack, far_end }| Thread {
                id: stack.thread_id,
                name: stack.thread_name.clone(),
                is_crashed: crashed == Some(stack.thread_id),
                frames: view_of(stack),
                far_end: far_end.as_ref().map(far_of),
            })
            .collect();
        let frames = threads.iter().flat_map(Walked::frames);
        let named = frames.filter(|frame| frame.function_name.is_some());
        let told: HashSet<u64> =
            named.filter_map(|frame| Some(frame.module.as_ref()?.base_address())).collect();
        let modules = self.modules.iter().zip(&found);
        Analysis {
            system: self.system_text(),
            processor: self.system.cpu.to_string(),
            process: self.misc.as_ref().and_then(|misc| misc.raw.process_id().copied()),
            crash: self.exception.as_ref().map(|exception| self.crash(exception)),
            threads_left_out: self.threads.threads.len() - views.len(),
            threads: views,
            modules: modules.map(|(module, found)| view(module, found, &symbols, &told)).collect(),
            annotations: self.annotations.clone(),
            soft_errors: self.soft_errors(),
            missing_bytes: self.missing_bytes,
        }
    }

    /// The id of the thread that crashed.
    fn crashed(&self) -> Option<u32> {
        self.exception.as_ref().map(MinidumpException::get_crashing_thread_id)
    }

    fn system_text(&self) -> String {
        let (version, build) = self.system.os_parts();
        // Linux tells its whole name in the build.
        let name = self.system.os.to_string();
        match build.filter(|build| !build.is_empty()) {
            Some(build) if build.to_lowercase().starts_with(&name.to_lowercase()) => build,
            Some(build) => format!("{name} {version} {build}"),
            None => format!("{name} {version}"),
        }
    }

    fn crash(&self, exception: &MinidumpException<'_>) -> Crash {
        let (os, cpu) = (self.system.os, self.system.cpu);
        let reason = exception.get_crash_reason(os, cpu).to_string();
        let address = exception.get_crash_address(os, cpu);
        let context = exception.context(&self.system, self.misc.as_ref());
        let pointers = context.map(|context| reason::Pointers {
            instruction: context.get_instruction_pointer(),
            stack: context.get_stack_pointer(),
        });
        Crash {
            words: reason::words(&reason, address, pointers),
            reason,
            address,
            thread: exception.get_crashing_thread_id(),
        }
    }

    fn soft_errors(&self) -> Vec<String> {
        let list = serde_json::from_slice::<serde_json::Value>(self.soft_errors).ok();
        let list =
            list.as_ref().and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice);
        list.iter().map(|error| soft_error(error).unwrap_or_else(|| error.to_string())).collect()
    }
}

fn view(
    module: &minidump::MinidumpModule,
    found: &Found,
    symbols: &Symbols,
    told: &HashSet<u64>,
) -> ModuleView {
    let base = module.base_address();
    ModuleView {
        path: module.code_file().into_owned(),
        base,
        size: module.size(),
        id: module.code_identifier().map(|id| id.to_string()),
        symbols: symbols.state(base, found, told.contains(&base)),
    }
}

/// One soft error of ours in a line.
fn soft_error(error: &serde_json::Value) -> Option<String> {
    let mut line = error.get("operation")?.as_str()?.to_owned();
    for (member, before) in [
        ("thread", " "),
        ("address", " "),
        ("count", " "),
        ("errno", ": error number "),
        ("grant", ": "),
    ] {
        match error.get(member) {
            Some(serde_json::Value::String(text)) => line.push_str(&format!("{before}{text}")),
            Some(value) => line.push_str(&format!("{before}{value}")),
            None => {}
        }
    }
    Some(line)
}

/// The name behind the last separator of either system.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The frame as the walk left it, without any name.
fn bare(frame: &StackFrame) -> Frame {
    let module = frame.module.as_ref();
    Frame {
        instruction: frame.instruction,
        module: module.map(|module| file_name(&module.code_file()).to_owned()),
        offset: module
            .map_or(frame.instruction, |module| frame.instruction - module.base_address()),
        is_guess: matches!(frame.trust, FrameTrust::Scan | FrameTrust::CfiScan),
        ..Frame::default()
    }
}
