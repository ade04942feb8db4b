//! The mapped files, as debuggers want them: range, path, build id.
//!
//! The headers come from the memory of the target and not from the files, which may have been replaced since.
//! Two batches of reads serve all modules: the first bytes of each, and the notes that lie behind these.

use super::Target;
use super::memory::{Arena, Piece, TargetMemory};
use crate::bytes::slice_at;
use crate::encode::VDSO;
use crate::heap::{self, List, Span};
use crate::parse::auxv;
use crate::parse::elf::{self, Header, PT_LOAD, PT_NOTE, SEGMENT_BYTES, Segment};
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

/// Mappings of one file that belong together.
#[derive(Clone, Copy)]
struct Candidate<'t> {
    start: u64,
    end: u64,
    file: (u64, u64),
    /// Where the name is in the text of the mappings, and the name.
    path: Span,
    name: &'t [u8],
    executable: bool,
}

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
    let mut candidates = candidates(&target.mappings, &target.maps);
    if candidates.len() > max {
        errors.add("list modules", Object::Count(candidates.len() as u64), 0);
        candidates.truncate(max);
    }
    let mut heads = List::new();
    heap::reserve(&mut heads, candidates.len());
    for module in &candidates {
        heap::add(&mut heads, Piece::new(module.start, head_bytes(module)));
    }
    let mut arena = Arena::default();
    memory.read_pieces(&mut heads, &mut arena);
    heap::reserve(modules, candidates.len());
    let mut notes = List::new();
    let mut wanted = List::new();
    let mut loaded_end = 0;
    for (candidate, head) in candidates.iter().zip(heads.iter()) {
        let head = arena.get(head.place());
        let module = module(candidate);
        match elf::header(head) {
            // Without its memory a file is taken for a module when code is mapped from it.
            Header::Other if !head.is_empty() => continue,
            Header::Damaged => errors.add("read module header", Object::Address(candidate.start), 0),
            Header::Other => {}
            Header::Elf { segments_at, segment_count } => {
                // A second mapping of the first page inside of the module before: a small file whose data shares the page of its header.
                if let Some(before) = modules.last_mut().filter(|before| candidate.start < loaded_end && before.path == module.path) {
                    before.end = before.end.max(candidate.end);
                    continue;
                }
                let table_bytes = (segment_count * SEGMENT_BYTES) as u64;
                let Some(table) = slice_at(head, segments_at, table_bytes) else {
                    errors.add("read module header", Object::Address(candidate.start), 0);
                    heap::add(modules, module);
                    continue;
                };
                loaded_end = loaded_until(candidate.start, table);
                note_pieces(candidate, table, modules.len(), &mut notes, &mut wanted);
            }
        }
        heap::add(modules, module);
    }
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

/// Files from which code is mapped, and the vDSO.
fn candidates<'t>(mappings: &[Mapping], maps: &'t [u8]) -> List<Candidate<'t>> {
    let mut candidates: List<Candidate<'t>> = List::new();
    for mapping in mappings {
        let name = mapping.name(maps);
        let vdso = name == VDSO;
        if mapping.file.1 == 0 && !vdso {
            continue;
        }
        let same = candidates.last_mut().filter(|last| last.file == mapping.file && last.name == name);
        match same {
            Some(last) if mapping.offset != 0 => {
                last.end = mapping.end;
                last.executable |= mapping.executable;
            }
            Some(_) | None if mapping.offset == 0 => {
                let candidate = Candidate {
                    start: mapping.start,
                    end: mapping.end,
                    file: mapping.file,
                    path: mapping.name,
                    name,
                    executable: mapping.executable,
                };
                heap::add(&mut candidates, candidate);
            }
            // The middle of a file: data, or code without a header.
            Some(_) | None => {}
        }
    }
    candidates.retain(|candidate| candidate.executable);
    candidates
}

fn head_bytes(candidate: &Candidate<'_>) -> usize {
    usize::try_from(candidate.end - candidate.start).unwrap_or(HEAD_BYTES).min(HEAD_BYTES)
}

fn module(candidate: &Candidate<'_>) -> Module {
    let mut path = candidate.path;
    if candidate.name.ends_with(DELETED) {
        path.end -= DELETED.len();
    }
    Module { start: candidate.start, end: candidate.end, path, build_id: Span::default() }
}

/// What has to be added to the addresses in the file, given where its header is mapped.
fn bias(start: u64, table: &[u8]) -> u64 {
    let first = loaded(table).map(|segment| segment.address).min();
    start.wrapping_sub(first.unwrap_or(0) & !(PAGE_BYTES - 1))
}

/// The end of the highest segment.
fn loaded_until(start: u64, table: &[u8]) -> u64 {
    let bias = bias(start, table);
    loaded(table).fold(start, |end, segment| {
        end.max(segment.address.wrapping_add(bias).saturating_add(segment.memory_bytes))
    })
}

/// The segments that are mapped, in a table of program headers.
fn loaded(table: &[u8]) -> impl Iterator<Item = Segment> + '_ {
    elf::segments(table).filter(|segment| segment.kind == PT_LOAD)
}

/// Adds the segments of notes of one module to the second batch.
fn note_pieces(
    candidate: &Candidate<'_>,
    table: &[u8],
    module: usize,
    notes: &mut List<Piece>,
    wanted: &mut List<Wanted>,
) {
    let bias = bias(candidate.start, table);
    for segment in elf::segments(table).filter(|segment| segment.kind == PT_NOTE).take(NOTE_SEGMENTS_MAX) {
        let len = segment.memory_bytes.min(NOTE_BYTES_MAX) as usize;
        heap::add(notes, Piece::new(segment.address.wrapping_add(bias), len));
        heap::add(wanted, Wanted { module, align: segment.align });
    }
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
    fn mappings_of_one_file_are_one_candidate() {
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
e000-f000 r-xp 00000000 00:00 0 [vdso]\n";
        let (mappings, damaged) = maps::parse(text);
        assert_eq!(damaged, 0);
        let found: Vec<(u64, u64, Vec<u8>)> = candidates(&mappings, text)
            .iter()
            .map(|candidate| (candidate.start, candidate.end, module(candidate).path.of(text).to_vec()))
            .collect();
        assert_eq!(
            found,
            [
                (0x1000, 0x6000, b"/bin/x".to_vec()),
                (0x8000, 0xa000, b"/lib/a".to_vec()),
                (0xa000, 0xc000, b"/lib/a".to_vec()),
                (0xe000, 0xf000, VDSO.to_vec()),
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
