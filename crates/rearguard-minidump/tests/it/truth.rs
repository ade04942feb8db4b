//! What a dumped program knows of itself, and what the system knows of it, as a part of a record as `readers` has them.
//!
//! Nothing here comes from the dump or from the writer, and little by a way that the writer goes too: names from each thread's `comm`, build ids from `readelf`, memory from `/proc/<pid>/mem`.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::crash::{self, Published};
use crate::reading::Dump;
use crate::zoo::{self, Zoo};
use crate::{deep, registers};

fn hex(number: u64) -> String {
    format!("{number:#x}")
}

/// The threads with their names.
fn threads(pid: i32) -> Map<String, Value> {
    let mut threads = Map::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let path = entry.unwrap().path();
        let id: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let name = std::fs::read_to_string(path.join("comm")).unwrap();
        threads.insert(hex(id), json!({ "name": name.trim_end_matches('\n') }));
    }
    threads
}

/// The files that code is mapped from: where each begins, its path, and its build id where it has one.
fn modules(pid: i32) -> Map<String, Value> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut bases = BTreeMap::new();
    let mut modules = Map::new();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let Some(path) = fields.get(5).filter(|path| path.starts_with('/')) else { continue };
        let start = u64::from_str_radix(fields[0].split('-').next().unwrap(), 16).unwrap();
        let base = *bases.entry(*path).or_insert(start);
        if !fields[1].contains('x') {
            continue;
        }
        let mut module = json!({ "path": path });
        if let Some(build_id) = build_id(path) {
            module["build_id"] = json!(build_id);
        }
        modules.insert(hex(base), module);
    }
    assert!(!modules.is_empty());
    modules
}

/// As `readelf -n` prints it; nothing where there is no readelf, which is then told by whoever runs the tests.
fn build_id(path: &str) -> Option<String> {
    let output = Command::new("readelf").args(["-n", path]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Build ID: "))?;
    Some(line.to_owned())
}

/// What is in the memory of a process.
fn memory(pid: i32, start: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let file = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    file.read_exact_at(&mut bytes, start).unwrap();
    bytes
}

/// Waits until the threads that do nothing have the names that they give themselves as their first act, perhaps after the crash.
fn wait_for_names(pid: i32) {
    let start = Instant::now();
    let has = |index: usize| {
        let name = json!({ "name": format!("idle-{index}") });
        threads(pid).values().any(|thread| *thread == name)
    };
    while !(0..crash::IDLE).all(has) {
        assert!(start.elapsed() < zoo::DEADLINE, "{:?}", threads(pid));
        std::thread::yield_now();
    }
}

/// The truth about a crash whose thread waits for the answer; the handler runs on a stack of its own, so the thread's own is as it was.
fn of(zoo: &Zoo, published: &Published) -> Value {
    wait_for_names(zoo.pid());
    json!({
        "pid": hex(zoo.pid() as u64),
        "threads": threads(zoo.pid()),
        "exception": {
            "thread": hex(published.tid as u64),
            "code": hex(published.signal as u64),
            "si_code": hex(published.code as u64),
            "address": hex(published.address),
        },
        "modules": modules(zoo.pid()),
    })
}

/// Adds what is in the memory that a dump has of the crashed thread's stack.
fn add_stack(truth: &mut Value, zoo: &Zoo, published: &Published, bytes: &[u8]) {
    let (start, stack) = Dump::open(bytes.to_vec()).stack(published.tid).unwrap();
    let sum = readers::sum(&memory(zoo.pid(), start, stack.len()));
    truth["memory"] = json!({ hex(start): { "size": hex(stack.len() as u64), "sum": sum } });
}

/// Goal: threads, names, every register, the exception, modules with their build ids and the stack are what the program itself knows, for each reader.
#[test]
fn all_is_as_the_program_knows_it() {
    let mut zoo = Zoo::start("crash registers");
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let words = zoo.answer();
    assert_eq!(words[0], "circling", "{words:?}");
    let circling = hex(words[1].parse().unwrap());
    let circle = zoo.answer();
    assert_eq!(circle[0], "circle", "{circle:?}");
    let filled = zoo.answer();
    assert_eq!(filled[0], "filled", "{filled:?}");
    let crashed: u64 = filled[1].parse().unwrap();
    let published = Published::read(&mut zoo);

    let mut truth = of(&zoo, &published);
    truth["threads"][hex(crashed)]["registers"] =
        registers::truth(number(&filled[2]), number(&filled[3]), true);
    truth["threads"][&circling]["registers"] =
        registers::truth(number(&circle[1]), number(&circle[2]), false);
    truth["threads"][hex(crashed)]["name"] = json!("crasher");
    truth["threads"][&circling]["name"] = json!("circling");
    // What the program did, whatever its handler was told.
    truth["exception"] = json!({
        "thread": hex(crashed),
        "code": hex(libc::SIGSEGV as u64),
        // SEGV_MAPERR of asm-generic/siginfo.h.
        "si_code": "0x1",
        "address": hex(registers::FAULT),
    });
    let bytes = zoo::capture(&published.request(&zoo)).unwrap().encode();
    add_stack(&mut truth, &zoo, &published, &bytes);
    let dump = Dump::parse_with(bytes, Some(&truth));
    assert_eq!(dump.soft_errors(), "");
    // No thread is missing, and no file, beyond those the truth has; the kernel's own object has no file.
    assert_eq!(dump.threads().threads.len(), truth["threads"].as_object().unwrap().len());
    assert_eq!(dump.modules().iter().count(), truth["modules"].as_object().unwrap().len() + 1);
    let name = std::env::current_exe().unwrap();
    let own = truth["modules"].as_object().unwrap().values();
    let own = own.filter(|module| module["path"] == json!(name)).count();
    assert_eq!(own, 1);
    crash::release(&mut zoo);
}

/// Goal: a stack with inlined functions is named in full, line by line, by whoever has the dump and the files.
#[test]
fn a_deep_stack_is_named_in_full() {
    let mut zoo = Zoo::start("crash deep");
    let published = Published::read(&mut zoo);
    let mut truth = of(&zoo, &published);
    truth["frames"] = deep::frames();
    truth["root"] = json!("thread_start");
    let bytes = zoo::capture(&published.request(&zoo)).unwrap().encode();
    add_stack(&mut truth, &zoo, &published, &bytes);
    let dump = Dump::parse_with(bytes, Some(&truth));
    assert_eq!(dump.soft_errors(), "");
    crash::release(&mut zoo);
}
