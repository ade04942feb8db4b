//! An executable file as sections and functions.

use std::fs;
use std::path::Path;

use object::{Object, ObjectSection, ObjectSymbol, SectionIndex, SectionKind, SymbolKind};

/// What a file is made of.
pub(super) struct Executable {
    /// The size of the file.
    pub(super) bytes: u64,
    pub(super) sections: Vec<Section>,
    /// Functions by their demangled names, with the bytes that each takes; none in a stripped file.
    pub(super) functions: Vec<(String, u64)>,
}

/// One section, with the bytes that it takes in the file.
pub(super) struct Section {
    pub(super) name: String,
    pub(super) is_code: bool,
    pub(super) bytes: u64,
}

impl Executable {
    pub(super) fn read(path: &Path) -> Result<Executable, String> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let content = fs::read(path).map_err(|error| told(&error))?;
        let file = object::File::parse(&*content).map_err(|error| told(&error))?;
        let sections = file.sections().map(|section| Section {
            name: section.name().unwrap_or_default().to_owned(),
            is_code: section.kind() == SectionKind::Text,
            bytes: section.file_range().map_or(0, |(_, bytes)| bytes),
        });
        let sections = sections.collect();
        Ok(Executable { bytes: content.len() as u64, sections, functions: functions(&file) })
    }

    /// The bytes of code.
    pub(super) fn code(&self) -> u64 {
        self.sections.iter().filter(|section| section.is_code).map(|section| section.bytes).sum()
    }
}

fn functions(file: &object::File<'_>) -> Vec<(String, u64)> {
    let mut functions = Vec::new();
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let Some((_, bytes)) = section.file_range() else { continue };
        let starts = starts(file, section.index());
        functions.extend(extents(section.address(), bytes, starts));
    }
    functions
}

/// Where each function of a section begins.
fn starts(file: &object::File<'_>, section: SectionIndex) -> Vec<(u64, String)> {
    file.symbols()
        .filter(|symbol| symbol.is_definition() && symbol.section_index() == Some(section))
        // Some of the C library's functions have no kind; sections and files aren't functions.
        .filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown))
        .filter_map(|symbol| {
            let name = rustc_demangle::demangle(symbol.name().ok()?);
            Some((symbol.address(), format!("{name:#}")))
        })
        .collect()
}

/// Gives every byte of a section to a function: each has those up to the next, since not every format tells sizes.
/// What comes before the first has no name; of functions at the same place, the first by name has the bytes.
fn extents(start: u64, bytes: u64, mut starts: Vec<(u64, String)>) -> Vec<(String, u64)> {
    starts.push((start, String::new()));
    starts.sort();
    let end = start.saturating_add(bytes);
    let mut extents: Vec<(String, u64)> = Vec::new();
    let mut before = None;
    for (address, name) in starts.into_iter().filter(|(address, _)| (start..end).contains(address))
    {
        if before == Some(address) {
            // The nameless beginning is only for what nobody else begins.
            if let Some(last) = extents.last_mut().filter(|last| last.0.is_empty()) {
                last.0 = name;
            }
            continue;
        }
        if let (Some(before), Some(last)) = (before, extents.last_mut()) {
            last.1 = address - before;
        }
        extents.push((name, end - address));
        before = Some(address);
    }
    extents
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every byte of a section is some function's, and none is counted twice.
    #[test]
    fn all_bytes_are_given_away() {
        let starts = |list: &[(u64, &str)]| {
            list.iter().map(|(address, name)| (*address, (*name).to_owned())).collect::<Vec<_>>()
        };
        let named = |list: &[(&str, u64)]| {
            list.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect::<Vec<_>>()
        };
        assert_eq!(
            extents(100, 50, starts(&[(130, "c"), (110, "b"), (110, "a"), (90, "x"), (150, "y")])),
            named(&[("", 10), ("a", 20), ("c", 20)])
        );
        assert_eq!(extents(100, 50, starts(&[(100, "a")])), named(&[("a", 50)]));
        assert_eq!(extents(100, 50, Vec::new()), named(&[("", 50)]));
    }

    /// Goal: the test's own executable is read, whatever system it is for: its parts are no more than the whole.
    #[test]
    fn an_executable_is_read() {
        let own = Executable::read(&std::env::current_exe().unwrap()).unwrap();
        let all: u64 = own.sections.iter().map(|section| section.bytes).sum();
        let functions: u64 = own.functions.iter().map(|(_, bytes)| bytes).sum();
        assert!(all <= own.bytes);
        assert_eq!(functions, own.code());
        assert!(own.functions.iter().any(|(name, _)| name.contains("an_executable_is_read")));
    }
}
