//! Which part of rearguard the bytes of an executable belong to.

use super::executable::Executable;

/// The parts of the code, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    CrashPath,
    Guard,
    DumpWriter,
    Store,
    Delivery,
    System,
    Face,
    Program,
    Standard,
}

impl Part {
    const ALL: [Part; 9] = [
        Part::CrashPath,
        Part::Guard,
        Part::DumpWriter,
        Part::Store,
        Part::Delivery,
        Part::System,
        Part::Face,
        Part::Program,
        Part::Standard,
    ];

    fn name(self) -> &'static str {
        match self {
            Part::CrashPath => "code: crash path",
            Part::Guard => "code: guard and supervisor",
            Part::DumpWriter => "code: dump writer",
            Part::Store => "code: store, metadata, JSON, texts",
            Part::Delivery => "code: delivery",
            Part::System => "code: sys",
            Part::Face => "code: settings, worker, public face",
            Part::Program => "code: the program's own",
            Part::Standard => "code: standard library, compiler's and C runtime",
        }
    }
}

/// The library's modules and the parts that they are; what isn't here is the public face.
const MODULES: [(&str, Part); 28] = [
    ("guard", Part::Guard),
    ("supervisor", Part::Guard),
    ("config", Part::Guard),
    ("evidence", Part::Guard),
    ("store", Part::Store),
    ("metadata", Part::Store),
    ("json", Part::Store),
    ("report_id", Part::Store),
    ("order", Part::Store),
    ("text", Part::Store),
    ("heap", Part::Store),
    ("upload", Part::Delivery),
    ("delivery", Part::Delivery),
    ("sending", Part::Delivery),
    ("hooks", Part::Delivery),
    ("attachments", Part::Store),
    ("redaction", Part::Store),
    ("signature", Part::Store),
    ("fail_spots", Part::Guard),
    ("reporting", Part::Face),
    ("sys", Part::System),
    ("worker", Part::Face),
    ("launch", Part::Face),
    ("role", Part::Face),
    ("settings", Part::Face),
    ("error", Part::Face),
    ("wire", Part::Face),
    ("limits", Part::Face),
];

/// Our crates' names as they stand in a function's, and whose bytes those are; the library's modules are told apart.
const CRATES: [(&str, Option<Part>); 6] = [
    ("rearguard_crashpath", Some(Part::CrashPath)),
    ("rearguard_minidump", Some(Part::DumpWriter)),
    ("rearguard::", None),
    ("hello_guarded::", Some(Part::Program)),
    ("hello::", Some(Part::Program)),
    ("size_programs::", Some(Part::Program)),
];

/// The sections that have a row of their own, by the kind of what is in them.
const TABLES: [(&str, &[&str]); 7] = [
    ("read-only data (.rodata, .rdata)", &[".rodata", ".rdata"]),
    ("unwind tables (.eh_frame, .eh_frame_hdr)", &[".eh_frame", ".eh_frame_hdr"]),
    ("landing pads (.gcc_except_table)", &[".gcc_except_table"]),
    ("unwind tables and landing pads (.pdata, .xdata)", &[".pdata", ".xdata"]),
    ("relocations (.rela.dyn, .reloc)", &[".rela.dyn", ".reloc"]),
    ("relocated data (.data.rel.ro)", &[".data.rel.ro"]),
    (
        "imported functions (.dynsym, .dynstr, .got, .idata)",
        &[
            ".dynsym",
            ".dynstr",
            ".gnu.version",
            ".gnu.version_r",
            ".gnu.hash",
            ".got",
            ".got.plt",
            ".rela.plt",
            ".idata",
        ],
    ),
];

/// A line of the table: what it is, and by how many bytes that has grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) bytes: i64,
}

/// Divides the growth of a program; the rows' sum is the growth of the file.
pub(super) fn of_growth(shipped: &[Executable; 2], twins: &[Executable; 2]) -> Vec<Row> {
    let growth = |of: &dyn Fn(&Executable) -> u64, pair: &[Executable; 2]| {
        of(&pair[1]) as i64 - of(&pair[0]) as i64
    };
    let mut rows = Vec::new();
    for part in Part::ALL {
        let bytes = growth(&|executable| code_of(executable, part), twins);
        rows.push(Row { name: part.name(), bytes });
    }
    for (name, sections) in TABLES {
        let bytes = growth(&|executable| bytes_of(executable, sections), shipped);
        rows.push(Row { name, bytes });
    }
    let whole = growth(&|executable| executable.bytes, shipped);
    let told: i64 = rows.iter().map(|row| row.bytes).sum();
    rows.push(Row { name: "other sections, headers, padding", bytes: whole - told });
    rows
}

fn code_of(executable: &Executable, part: Part) -> u64 {
    let functions = executable.functions.iter();
    functions.filter(|(name, _)| part_of(name) == part).map(|(_, bytes)| bytes).sum()
}

fn bytes_of(executable: &Executable, sections: &[&str]) -> u64 {
    let wanted = executable.sections.iter().filter(|section| sections.contains(&&*section.name));
    wanted.map(|section| section.bytes).sum()
}

/// A function belongs to the first of our modules that its name speaks of.
/// So a generic function of the standard library counts for whoever needed it for a type of theirs.
fn part_of(name: &str) -> Part {
    let first = CRATES
        .iter()
        .filter_map(|(crate_name, part)| Some((at_word(name, crate_name)?, crate_name, part)))
        .min_by_key(|(at, _, _)| *at);
    match first {
        None => Part::Standard,
        Some((_, _, Some(part))) => *part,
        Some((at, crate_name, None)) => part_of_path(&name[at + crate_name.len()..]),
    }
}

/// Where `word` begins in `name`, not as the end of a longer word.
fn at_word(name: &str, word: &str) -> Option<usize> {
    name.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = name[..*at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || character == '_')
    })
}

/// The part of a path within the library.
fn part_of_path(path: &str) -> Part {
    let end =
        path.find(|character: char| !(character.is_alphanumeric() || "_:".contains(character)));
    let mut modules = path[..end.unwrap_or(path.len())].split("::");
    let first = modules.next().unwrap_or_default();
    if first == "sys" {
        return modules
            .find_map(|module| match module {
                "http" => Some(Part::Delivery),
                "dumper" => Some(Part::DumpWriter),
                _ => None,
            })
            .unwrap_or(Part::System);
    }
    MODULES.iter().find(|(module, _)| *module == first).map_or(Part::Face, |(_, part)| *part)
}

#[cfg(test)]
mod tests {
    use super::super::executable::Section;
    use super::*;

    fn executable(bytes: u64, sections: &[(&str, u64)], functions: &[(&str, u64)]) -> Executable {
        let sections = sections.iter().map(|(name, bytes)| Section {
            name: (*name).to_owned(),
            is_code: *name == ".text",
            bytes: *bytes,
        });
        let functions = functions.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes));
        Executable { bytes, sections: sections.collect(), functions: functions.collect() }
    }

    /// Goal: a name is ours wherever our crate stands in it, and the first one counts.
    #[test]
    fn names_have_parts() {
        for (name, part) in [
            ("rearguard_crashpath::linux::handler::on_signal", Part::CrashPath),
            ("rearguard_crashpath_clone", Part::CrashPath),
            ("<rearguard_minidump::linux::Capture>::encode", Part::DumpWriter),
            ("<rearguard::guard::Guard>::stand", Part::Guard),
            ("<alloc::vec::Vec<rearguard::store::Report>>::push", Part::Store),
            ("rearguard::sys::linux::http::curl_library::load::{closure#1}", Part::Delivery),
            ("rearguard::sys::linux::memfd::read", Part::System),
            ("rearguard::sys::windows::dumper::take", Part::DumpWriter),
            ("<rearguard::Rearguard>::start", Part::Face),
            ("rearguard::run_guard_if_asked", Part::Face),
            ("hello_guarded::main", Part::Program),
            ("<std::fs::DirBuilder>::_create", Part::Standard),
            ("disregardrearguard::guard", Part::Standard),
            ("", Part::Standard),
        ] {
            assert_eq!(part_of(name), part, "{name}");
        }
    }

    /// Goal: the rows are the whole growth, what nobody claims included.
    #[test]
    fn the_rows_sum_up() {
        let without = executable(1000, &[(".text", 300), (".rodata", 10), (".odd", 5)], &[]);
        let with = executable(1900, &[(".text", 900), (".rodata", 110), (".odd", 6)], &[]);
        let twins = [
            executable(0, &[], &[("main", 300)]),
            executable(0, &[], &[("main", 290), ("rearguard::store::a", 610)]),
        ];
        let rows = of_growth(&[without, with], &twins);
        assert_eq!(rows.iter().map(|row| row.bytes).sum::<i64>(), 900);
        let bytes =
            |begin: &str| rows.iter().find(|row| row.name.starts_with(begin)).map(|row| row.bytes);
        assert_eq!(bytes("code: store"), Some(610));
        assert_eq!(bytes("code: standard"), Some(-10));
        assert_eq!(bytes("read-only"), Some(100));
        assert_eq!(bytes("other"), Some(200));
    }

    /// Goal: a module that is added has a part before its bytes are counted for the wrong one.
    #[test]
    fn every_module_has_a_part() {
        let directory = crate::shell::root().join("crates/rearguard/src");
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let module = name.strip_suffix(".rs").unwrap_or(&name);
            let known = MODULES.iter().any(|(known, _)| *known == module);
            assert!(known || module == "lib", "{module} is in no part");
        }
    }
}
