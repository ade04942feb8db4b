//! The mapped files, as debuggers want them: range, path, build id.
//!
//! The headers come from the memory of the target and not from the files, which may have been replaced since.
//! Two batches of reads serve all modules: the first bytes of each, and the notes that lie behind these.

use super::Target;
use super::memory::{Arena, Piece, TargetMemory};
use crate::encode::VDSO;
use crate::heap::{self, List};
use crate::parse::auxv;
use crate::parse::elf::{self, Header, PT_LOAD, PT_NOTE};
use crate::parse::maps::Mapping;
use crate::snapshot::{Module, Snapshot};
use crate::soft_error::Object;

/// The first bytes of a module: header, program headers, and in nearly all files the notes.
const HEAD_BYTES: usize = 2048;

/// Bytes of one segment of notes; a build id takes 36, and what else is there is small.
const NOTE_BYTES_MAX: u64 = 4096;

/// Segments of notes that are read for one module.
const NOTE_SEGMENTS_MAX: usize = 4;

/// The smallest page of the supported processors.
const PAGE_BYTES: u64 = 4096;

/// Files that were replaced or removed while they run have this behind their names.
const DELETED: &[u8] = b" (deleted)";

/// A segment of notes that wasn't within the first bytes.
#[derive(Clone, Copy)]
struct Wanted {
    module: usize,
    align: u64,
}

/// The modules, with the main executable first.
pub(super) fn read(
    memory: &mut TargetMemory<'_>,
    target: &Target,
    max: usize,
    snapshot: &mut Snapshot,
) {
    let (modules, errors) = (&mut snapshot.modules, &mut snapshot.soft_errors);
    list(modules, &target.mappings, &target.maps);
    if modules.len() > max {
        errors.add("list modules", Object::count(modules.len() as u64), 0);
        modules.truncate(max);
    }
    let mut heads = List::new();
    heap::reserve(&mut heads, modules.len());
    for module in &*modules {
        let bytes = usize::try_from(module.end - module.start).unwrap_or(HEAD_BYTES);
        heap::add(&mut heads, Piece::new(module.start, bytes.min(HEAD_BYTES)));
    }
    let mut arena = Arena::default();
    memory.read_pieces(&mut heads, &mut arena);
    let mut notes = List::new();
    let mut wanted = List::new();
    let mut kept = 0_usize;
    for (index, head) in heads.iter().enumerate() {
        let Some(mut module) = modules.get(index).copied() else { break };
        let head = arena.get(head.place());
        match elf::header(head) {
            // Without its memory a file is taken for a module when code is mapped from it.
            Header::Other if !head.is_empty() => continue,
            Header::Damaged => errors.add("read module header", Object::address(module.start), 0),
            Header::Other => {}
            Header::Elf(table) => {
                let loaded = elf::segments(table).filter(|segment| segment.kind == PT_LOAD);
                let lowest = loaded.fold(u64::MAX, |lowest, segment| segment.address.min(lowest));
                // What has to be added to the addresses in the file; without segments it doesn't matter.
                let bias = module.start.wrapping_sub(lowest & !(PAGE_BYTES - 1));
                for segment in elf::segments(table).filter(|segment| segment.kind == PT_NOTE).take(NOTE_SEGMENTS_MAX) {
                    let len = segment.memory_bytes.min(NOTE_BYTES_MAX) as usize;
                    heap::add(&mut notes, Piece::new(segment.address.wrapping_add(bias), len));
                    heap::add(&mut wanted, Wanted { module: kept, align: segment.align });
                }
            }
        }
        if module.path.of(&target.maps).ends_with(DELETED) {
            module.path.end -= DELETED.len();
        }
        if let Some(place) = modules.get_mut(kept) {
            *place = module;
            kept += 1;
        }
    }
    modules.truncate(kept);
    let mut arena = Arena::default();
    memory.read_pieces(&mut notes, &mut arena);
    for (piece, wanted) in notes.iter().zip(wanted.iter()) {
        let bytes = arena.get(piece.place());
        if let (Some(id), Some(module)) = (elf::build_id(bytes, wanted.align), modules.get_mut(wanted.module)) {
            module.build_id = heap::put(&mut snapshot.strings, id);
        }
    }
    main_first(modules, &target.auxiliary);
}

/// Lists files from which code is mapped, and the vDSO: mappings of one file that belong together, with its name as the kernel has it.
fn list(modules: &mut List<Module>, mappings: &[Mapping], maps: &[u8]) {
    // The end of the mapping before, where that was one of a file's first page.
    let mut first_page_end = 0;
    for mapping in mappings {
        let name = mapping.name(maps);
        if mapping.file.1 == 0 && name != VDSO {
            continue;
        }
        let last = modules.last_mut().filter(|last| last.file == mapping.file && last.path.of(maps) == name);
        // A small file has all of its segments in its first page, which is mapped for each of them, one behind the other.
        let goes_on = last.is_some() && first_page_end == mapping.start;
        if mapping.offset == 0 && !goes_on {
            let (file, path) = (mapping.file, mapping.name);
            let module = Module { start: mapping.start, end: mapping.end, file, path, ..Module::default() };
            heap::add(modules, module);
        }
        first_page_end = if mapping.offset == 0 { mapping.end } else { 0 };
        // The middle of a file whose beginning isn't mapped is data, or code without a header.
        let last = modules.last_mut().filter(|last| last.file == mapping.file && last.path.of(maps) == name);
        if let Some(last) = last {
            last.end = mapping.end;
            last.executable |= mapping.executable;
        }
    }
    modules.retain(|module| module.executable);
}

/// Brings the module with the program headers that the kernel gave to the loader to the front.
fn main_first(modules: &mut [Module], auxiliary: &[u8]) {
    let Some(headers) = auxv::value(auxiliary, auxv::PHDR) else { return };
    if let Some(main) = modules.iter().position(|module| module.start <= headers && headers < module.end) {
        // The one that is carried takes each place in turn, from the first to that of the main executable.
        let mut carried = modules.get_mut(main).map(core::mem::take).unwrap_or_default();
        for module in modules.iter_mut().take(main + 1) {
            core::mem::swap(module, &mut carried);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::maps;

    #[test]
    fn mappings_of_one_file_are_one_module() {
        let text = b"\
1000-2000 r--p 00000000 fe:01 7 /bin/x (deleted)\n\
2000-4000 r-xp 00001000 fe:01 7 /bin/x (deleted)\n\
5000-6000 rw-p 00003000 fe:01 7 /bin/x (deleted)\n\
6000-7000 rw-p 00000000 00:00 0 \n\
8000-9000 r--p 00000000 fe:01 8 /lib/a\n\
9000-a000 r-xp 00001000 fe:01 8 /lib/a\n\
a000-b000 r--p 00000000 fe:01 8 /lib/a\n\
b000-c000 r-xp 00001000 fe:01 8 /lib/a\n\
d000-e000 r--p 00000000 fe:01 9 /share/font\n\
d0000-d1000 r--p 00000000 fe:01 10 /lib/small\n\
d1000-d2000 r-xp 00000000 fe:01 10 /lib/small\n\
d2000-d3000 rw-p 00000000 fe:01 10 /lib/small\n\
e0000-f0000 r-xp 00000000 00:00 0 [vdso]\n";
        let (mappings, damaged) = maps::parse(text);
        assert_eq!(damaged, 0);
        let mut modules = List::new();
        list(&mut modules, &mappings, text);
        let found: Vec<(u64, u64, &[u8])> =
            modules.iter().map(|module| (module.start, module.end, module.path.of(text))).collect();
        assert_eq!(
            found,
            [
                (0x1000, 0x6000, b"/bin/x (deleted)".as_slice()),
                (0x8000, 0xa000, b"/lib/a".as_slice()),
                (0xa000, 0xc000, b"/lib/a".as_slice()),
                (0xd_0000, 0xd_3000, b"/lib/small"),
                (0xe_0000, 0xf_0000, VDSO),
            ]
        );
    }

    #[test]
    fn the_main_executable_comes_first() {
        let at = |start: u64| Module { start, end: start + 0x1000, ..Module::default() };
        let mut modules = vec![at(0x1000), at(0x5000), at(0x9000)];
        let auxiliary: Vec<u8> = [auxv::PHDR, 0x5040].iter().flat_map(|word| word.to_le_bytes()).collect();
        main_first(&mut modules, &auxiliary);
        let starts: Vec<u64> = modules.iter().map(|module| module.start).collect();
        assert_eq!(starts, [0x5000, 0x1000, 0x9000]);
    }
}
