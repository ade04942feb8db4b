//! From instructions to functions, files and lines, by the debug information of local files: DWARF here, PDB in a file of its own.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use addr2line::Loader;
use minidump::{MinidumpModule, Module};
use minidump_unwind::StackFrame;
use object::{Object, ObjectSegment, ReadCache};

use super::files::{Found, open};
use super::{Frame, bare, names, pdb};

/// The debug information of a dump's modules, by the addresses where they were mapped.
#[derive(Default)]
pub(super) struct Symbols {
    modules: HashMap<u64, Source>,
}

/// The debug information of one module.
struct Source {
    /// The file.
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    /// DWARF, or a table of symbols alone.
    Dwarf(Box<Dwarf>),
    Pdb(Box<pdb::Lines>),
}

struct Dwarf {
    loader: Loader,
    has_lines: bool,
    /// The address that the file gives to its first byte.
    first: u64,
}

/// Where a module's symbols came from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A file with functions and lines.
    Lines(PathBuf),
    /// A `.sym` file.
    Breakpad,
    /// A file that was stripped, and has the names that it exports.
    Names(PathBuf),
    /// Nowhere, and why.
    None(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Lines(path) => write!(f, "lines from {}", path.display()),
            Origin::Breakpad => f.write_str("functions and lines from Breakpad's symbols"),
            Origin::Names(path) => write!(f, "names from {}, which has no lines", path.display()),
            Origin::None(reason) => write!(f, "none: {reason}"),
        }
    }
}

impl fmt::Debug for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbols").field("modules", &self.modules.len()).finish()
    }
}

impl Symbols {
    /// Opens what was found for a module.
    pub(super) fn add(&mut self, module: &MinidumpModule, found: &Found) {
        if let Some(source) = Source::open(found) {
            self.modules.insert(module.base_address(), source);
        }
    }

    /// Where a module's symbols came from, or why it has none.
    ///
    /// `is_told`: Breakpad's symbols named functions of it during the walk.
    pub(super) fn state(&self, base: u64, found: &Found, is_told: bool) -> Origin {
        match (self.modules.get(&base), &found.other) {
            (Some(source), _) if source.has_lines() => Origin::Lines(source.path.clone()),
            _ if is_told => Origin::Breakpad,
            (Some(source), _) => Origin::Names(source.path.clone()),
            (None, Some(path)) => Origin::None(format!("{} is another build", path.display())),
            _ if !found.has_identity => {
                Origin::None("the dump doesn't tell which build it is".to_owned())
            }
            _ => Origin::None("no file of this build is here".to_owned()),
        }
    }

    /// A frame of the stack with the functions that were inlined into it, the innermost first.
    ///
    /// `own`: where the program's main executable was mapped.
    pub(super) fn frames(&self, frame: &StackFrame, own: Option<u64>) -> Vec<Frame> {
        let bare = bare(frame);
        let base = frame.module.as_ref().map(Module::base_address);
        let is_main = base.is_some() && base == own;
        let source = base.and_then(|base| self.modules.get(&base));
        let has_lines = source.is_some_and(Source::has_lines);
        let mut frames = source.map(|source| source.frames(&bare)).unwrap_or_default();
        // A stripped file knows what it exports, and Breakpad's symbols know everything.
        if frames.is_empty() || !has_lines && frame.function_name.is_some() {
            frames = told(frame, &bare);
        }
        for frame in &mut frames {
            // Where there are lines, code without one is the linker's and the C library's.
            frame.is_own = is_main && frame.file.as_deref().map_or(!has_lines, is_of_the_program);
        }
        frames
    }
}

impl Source {
    fn open(found: &Found) -> Option<Source> {
        if let (None, Some(path)) = (&found.debug, &found.pdb)
            && let Some(lines) = pdb::Lines::open(path)
        {
            return Some(Source { path: path.clone(), kind: Kind::Pdb(Box::new(lines)) });
        }
        // Without lines there are still the names that every library exports.
        let path = found.debug.as_ref().or(found.binary.as_ref())?;
        let first = open(path).and_then(first_address)?;
        let loader = Loader::new(path).ok()?;
        let dwarf = Dwarf { loader, has_lines: found.debug.is_some(), first };
        Some(Source { path: path.clone(), kind: Kind::Dwarf(Box::new(dwarf)) })
    }

    fn has_lines(&self) -> bool {
        match &self.kind {
            Kind::Dwarf(dwarf) => dwarf.has_lines,
            Kind::Pdb(_) => true,
        }
    }

    fn frames(&self, bare: &Frame) -> Vec<Frame> {
        match &self.kind {
            Kind::Dwarf(dwarf) => dwarf.frames(bare),
            Kind::Pdb(lines) => lines.frames(bare),
        }
    }
}

impl Dwarf {
    fn frames(&self, bare: &Frame) -> Vec<Frame> {
        let address = bare.offset.wrapping_add(self.first);
        let mut frames = Vec::new();
        let mut is_whole = false;
        if let Ok(mut found) = self.loader.find_frames(address) {
            while let Ok(Some(found)) = found.next() {
                let raw = found.function.as_ref().and_then(|name| name.raw_name().ok());
                let name = found
                    .function
                    .as_ref()
                    .and_then(|name| name.demangle().ok())
                    .map(|name| names::more(name.into_owned()));
                // What was mangled has its path.
                is_whole = name.is_some() && name.as_deref() != raw.as_deref();
                let location = found.location.as_ref();
                frames.push(Frame {
                    function: name,
                    file: location.and_then(|location| location.file).map(str::to_owned),
                    line: location.and_then(|location| location.line).filter(|line| *line > 0),
                    is_inlined: true,
                    ..bare.clone()
                });
            }
        }
        // The outermost is the function whose code it is.
        if let Some(last) = frames.last_mut() {
            last.is_inlined = false;
            // Line tables alone have names without their paths, and the table of symbols has both,
            // but for what compilers add to it (`.isra.0`).
            let whole = if is_whole { None } else { self.symbol(address) };
            let is_same = |symbol: &String| {
                last.function.as_deref().is_none_or(|name| symbol.contains(base_name(name)))
            };
            last.function = whole.filter(is_same).or_else(|| last.function.take());
        } else if let Some(name) = self.symbol(address) {
            frames.push(Frame { function: Some(name), ..bare.clone() });
        }
        frames
    }

    /// The name in the table of symbols.
    fn symbol(&self, address: u64) -> Option<String> {
        let name = self.loader.find_symbol(address)?;
        Some(names::demangled(name.to_owned()))
    }
}

/// A function's name without its path, what it is generic over, and a closure's number, which older symbols don't have.
fn base_name(name: &str) -> &str {
    let end = name.find(['<', '#']).filter(|at| *at > 0).unwrap_or(name.len());
    let name = &name[..end];
    name.rsplit("::").next().unwrap_or(name)
}

/// What Breakpad's symbols told during the walk.
fn told(frame: &StackFrame, bare: &Frame) -> Vec<Frame> {
    let inlined = frame.inlines.iter().map(|inline| Frame {
        function: Some(inline.function_name.clone()),
        file: inline.source_file_name.clone(),
        line: inline.source_line,
        is_inlined: true,
        ..bare.clone()
    });
    let outer = Frame {
        function: frame.function_name.clone(),
        file: frame.source_file_name.clone(),
        line: frame.source_line,
        ..bare.clone()
    };
    inlined.chain([outer]).collect()
}

/// The address that a file gives to what is mapped first.
fn first_address(file: File) -> Option<u64> {
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache).ok()?;
    let base = object.relative_address_base();
    if base != 0 {
        return Some(base);
    }
    // What is mapped begins at a page.
    object.segments().map(|segment| segment.address()).min().map(|address| address & !0xfff)
}

/// Whether a source file is the program's own: neither the standard library's nor one of a package's.
fn is_of_the_program(file: &str) -> bool {
    let foreign = [
        "/rustc/",
        "/.cargo/registry/",
        "/.cargo/git/",
        "/library/std/",
        "/library/core/",
        "/library/alloc/",
    ];
    let file = file.replace('\\', "/");
    !foreign.iter().any(|part| file.contains(part))
}
