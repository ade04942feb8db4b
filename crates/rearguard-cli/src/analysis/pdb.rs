//! Functions, files and lines from PDB files, the debug information of Microsoft's linker.

use std::fs::File;
use std::path::Path;

use pdb_addr2line::pdb::PDB;
use pdb_addr2line::{Context, ContextPdbData};

use super::files::open;
use super::{Frame, names};

/// Which build a PDB file belongs to, as Breakpad and symbol servers write it: GUID and age.
pub(super) fn identity(path: &Path) -> Option<String> {
    let mut pdb = PDB::open(open(path)?).ok()?;
    let information = pdb.pdb_information().ok()?;
    // The age of the linked image stands in another stream; tools that change the file raise the first alone.
    let age = pdb.debug_information().ok().and_then(|debug| debug.age());
    Some(format!("{:X}{:x}", information.guid.simple(), age.unwrap_or(information.age)))
}

/// A PDB file, open.
pub(super) struct Lines {
    /// It borrows from what was read of the file, which stays until the tool ends: soon, and the tool opens few.
    context: Context<'static, 'static>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Option<Lines> {
        let file: File = open(path)?;
        let data = ContextPdbData::try_from_pdb(PDB::open(file).ok()?).ok()?;
        let context = Box::leak(Box::new(data)).make_context().ok()?;
        Some(Lines { context })
    }

    /// The functions at an offset of the image, the innermost first.
    pub(super) fn frames(&self, bare: &Frame) -> Vec<Frame> {
        let found = u32::try_from(bare.offset).ok().map(|offset| self.context.find_frames(offset));
        let Some(Ok(Some(found))) = found else { return Vec::new() };
        let mut frames: Vec<Frame> = found
            .frames
            .into_iter()
            .map(|frame| Frame {
                function: frame.function.map(names::demangled),
                file: frame.file.map(|file| file.into_owned()),
                line: frame.line.filter(|line| *line > 0),
                is_inlined: true,
                ..bare.clone()
            })
            .collect();
        if let Some(last) = frames.last_mut() {
            last.is_inlined = false;
        }
        frames
    }
}
