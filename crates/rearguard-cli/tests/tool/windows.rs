//! Minidumps of Windows programs whose debug information is a PDB file.

use std::fs;
use std::path::{Path, PathBuf};

use minidump_synth::{DumpString, Exception, Memory, Module, SynthMinidump, SystemInfo, Thread};
use minidump_synth::{STOCK_VERSION_INFO, amd64_context};
use object::{Export, ExportTarget, NameOrOrdinal, Object};
use serde_json::Value;
use test_assembler::{Endian, Section};

use crate::desk::Desk;

/// Where the image was loaded, in the minidump.
const BASE: u64 = 0x1_4000_0000;

const STACK: u64 = 0x7ff_0000;

/// The program, with its debug information beside it.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pdb")
}

/// A crash in the exported function `save`, called by the function at the entry.
pub(crate) fn crash_of(image: &[u8]) -> Vec<u8> {
    crash_among(image, 1)
}

/// The same, with so many threads of which one crashed.
fn crash_among(image: &[u8], threads: u32) -> Vec<u8> {
    let file = object::read::pe::PeFile64::parse(image).unwrap();
    let exports = file.exports().unwrap();
    let is_save = |export: &Export<'_>| export.name() == NameOrOrdinal::Name(b"save");
    let save = exports.map(Result::unwrap).find(is_save).unwrap();
    let ExportTarget::Address { address: save } = save.target() else { panic!("a function") };
    let headers = file.nt_headers();
    let (stamp, size) = (
        headers.file_header.time_date_stamp.get(object::LittleEndian),
        headers.optional_header.size_of_image.get(object::LittleEndian),
    );
    let info = file.pdb_info().unwrap().unwrap();
    // CV_INFO_PDB70: signature, GUID, age, name.
    let record = Section::with_endian(Endian::Little)
        .append_bytes(b"RSDS")
        .append_bytes(&info.guid())
        .D32(info.age())
        .append_bytes(info.path())
        .D8(0);
    let name = DumpString::new("C:\\app\\bug.exe", Endian::Little);
    let module = Module::new(Endian::Little, BASE, size, &name, stamp, 0, &STOCK_VERSION_INFO)
        .cv_record(&record);
    let stack = Memory::with_section(
        Section::with_endian(Endian::Little).D64(file.entry() + 0x10).append_repeated(0, 256),
        STACK,
    );
    let context = amd64_context(Endian::Little, save - file.relative_address_base() + BASE, STACK);
    let mut exception = Exception::new(Endian::Little);
    exception.thread_id = 7;
    // EXCEPTION_ACCESS_VIOLATION, a write to null.
    exception.exception_record.exception_code = 0xc000_0005;
    exception.exception_record.number_parameters = 2;
    exception.exception_record.exception_information[0] = 1;
    let mut system = SystemInfo::new(Endian::Little);
    system.processor_architecture = 9;
    system.platform_id = 2;
    let dump = SynthMinidump::with_endian(Endian::Little).add_system_info(system);
    (7..7 + threads)
        .fold(dump, |dump, id| dump.add_thread(Thread::new(Endian::Little, id, &stack, &context)))
        .add_exception(exception)
        .add_module(module)
        .add(context)
        .add(record)
        .add(name)
        .add_memory(stack)
        .finish()
        .unwrap()
}

/// What `show` says of the frames of `bug.rs`: the end of the function's name, the line, and whether it was inlined.
pub(crate) fn frames_of(shown: &Value) -> Vec<(String, u64, bool)> {
    let frames = shown["minidump"]["threads"][0]["frames"].as_array().unwrap();
    let own = frames
        .iter()
        .filter(|frame| frame["file"].as_str().is_some_and(|file| file.ends_with("bug.rs")));
    own.map(|frame| {
        let function = frame["function"].as_str().unwrap();
        let function = function.split('(').next().unwrap().rsplit("::").next().unwrap();
        (function.to_owned(), frame["line"].as_u64().unwrap(), frame["inlined"] == true)
    })
    .collect()
}

/// The frames as the source has them.
pub(crate) fn frames_in_source() -> Vec<(String, u64, bool)> {
    let source = fs::read_to_string(data().join("bug.rs")).unwrap();
    let line = |text: &str| source.lines().position(|line| line.contains(text)).unwrap() as u64 + 1;
    vec![
        ("write".to_owned(), line("self.lines.write_volatile(value)"), true),
        ("save".to_owned(), line("page.write(7)"), false),
    ]
}

/// Goal: a PDB file names functions, files and lines through inlining; in a directory as it is, and in the layout of symbol servers.
#[test]
fn a_pdb_names_the_line() {
    let desk = Desk::new();
    let image = fs::read(data().join("bug.exe")).unwrap();
    let dump = desk.path("crash.dmp");
    fs::write(&dump, crash_of(&image)).unwrap();
    let symbols = desk.path("symbols");
    fs::create_dir(&symbols).unwrap();
    let show = || {
        let arguments =
            ["show", dump.to_str().unwrap(), "--json", "--symbols", symbols.to_str().unwrap()];
        let said = desk.tool(&arguments);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        serde_json::from_str::<Value>(&said.out).unwrap()
    };
    assert_eq!(frames_of(&show()), []);
    fs::copy(data().join("bug.pdb"), symbols.join("bug.pdb")).unwrap();
    assert_eq!(frames_of(&show()), frames_in_source());
    let module = &show()["minidump"]["modules"][0];
    assert!(module["symbols"].as_str().unwrap().starts_with("lines from "), "{module}");
    // In the layout of a symbol server: below name and identity.
    let id = object::read::pe::PeFile64::parse(&*image).unwrap();
    let info = id.pdb_info().unwrap().unwrap();
    let served = symbols.join(format!("bug.pdb/{}", served_id(&info.guid(), info.age())));
    fs::rename(symbols.join("bug.pdb"), symbols.join("aside")).unwrap();
    fs::create_dir_all(&served).unwrap();
    fs::rename(symbols.join("aside"), served.join("bug.pdb")).unwrap();
    assert_eq!(frames_of(&show()), frames_in_source());
}

/// Goal: a PDB file of another build names nothing.
#[test]
fn a_pdb_of_another_build_is_not_used() {
    let desk = Desk::new();
    let mut image = fs::read(data().join("bug.exe")).unwrap();
    let at = image.windows(4).position(|bytes| bytes == b"RSDS").unwrap();
    image[at + 4] ^= 1;
    let dump = desk.path("crash.dmp");
    fs::write(&dump, crash_of(&image)).unwrap();
    let symbols = data();
    let arguments =
        ["show", dump.to_str().unwrap(), "--json", "--symbols", symbols.to_str().unwrap()];
    let shown: Value = serde_json::from_str(&desk.tool(&arguments).out).unwrap();
    assert_eq!(frames_of(&shown), []);
}

/// A GUID and an age as symbol servers write them.
pub(crate) fn served_id(guid: &[u8; 16], age: u32) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *guid;
    let first = u32::from_le_bytes([a, b, c, d]);
    let (second, third) = (u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
    let rest: String = rest.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{first:08X}{second:04X}{third:04X}{rest}{age:x}")
}

/// Goal: a minidump of a hundred thousand threads is shown, the crashed one in full, and how many were left out is told.
#[test]
fn a_hundred_thousand_threads_are_shown() {
    let desk = Desk::new();
    let image = fs::read(data().join("bug.exe")).unwrap();
    let dump = desk.path("crash.dmp");
    fs::write(&dump, crash_among(&image, 100_000)).unwrap();
    let symbols = data();
    let arguments = ["show", dump.to_str().unwrap(), "--symbols", symbols.to_str().unwrap()];
    let said = desk.tool(&arguments);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains("and 4095 more with the same stack"), "{}", said.out);
    assert!(said.out.contains("95903 more threads are in the minidump"), "{}", said.out);
    let json = desk.tool(&[&arguments[..], &["--json"]].concat());
    let shown: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(frames_of(&shown), frames_in_source());
}
