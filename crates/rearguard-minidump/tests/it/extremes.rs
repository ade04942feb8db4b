//! Targets at the edge of what the kernel allows, targets that change while they are captured, and dumpers that are killed at any moment.
//!
//! `REARGUARD_SEED` repeats what a failed test has printed, and `REARGUARD_ROUNDS` says how many rounds the tests of many rounds play.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use minidump::{MinidumpMemoryInfoList, Module};
use rearguard_minidump::{Capture, Request, Step};

use crate::calls::{self, gettid};
use crate::choices::{StandIn, assert_nearest, hex, open, regions};
use crate::killed::Scratch;
use crate::live::{ping, start};
use crate::reading::Dump;
use crate::zoo::{self, DEADLINE, SECRET, Zoo, command, contains, say};

const LINUX_MAPS: u32 = 0x4767_0009;

/// How long one capture of an extreme target may take, on a machine that is busy with other tests.
const CAPTURE_TIME_MAX: Duration = Duration::from_secs(15);

/// The roles of the children of these tests.
pub(crate) fn target(words: &[&str]) {
    match *words {
        ["crowd", count] => crowd_target(count.parse().unwrap()),
        ["mappings", count] => mappings_target(count.parse().unwrap()),
        ["files"] => files_target(),
        ["churn"] => churn_target(),
        _ => panic!("no such extreme: {words:?}"),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn rounds(default: u64) -> u64 {
    number("REARGUARD_ROUNDS").unwrap_or(default)
}

/// Numbers that a seed repeats (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    /// Prints the seed, which shows when the test fails.
    pub(crate) fn new(what: &str) -> Random {
        let seed = number("REARGUARD_SEED").unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            now.as_nanos() as u64
        });
        println!("{what}: REARGUARD_SEED={seed}");
        Random(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}

fn capture_in_time<'r>(request: &'r Request<'r>) -> Capture<'r> {
    let (captured, took) = zoo::capture_timed(request);
    assert!(took < CAPTURE_TIME_MAX, "{took:?}");
    captured.unwrap()
}

fn operations(capture: &Capture) -> Vec<&'static str> {
    capture.soft_errors().iter().map(|error| error.operation()).collect()
}

/// The round that the crowd has been told, and how many have heard of it.
#[derive(Default)]
struct Roll {
    round: Mutex<u32>,
    told: Condvar,
    heard: AtomicUsize,
}

impl Roll {
    fn answer(&self) {
        let mut seen = 0;
        let mut round = self.round.lock().unwrap();
        loop {
            while *round == seen {
                round = self.told.wait(round).unwrap();
            }
            seen = *round;
            self.heard.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// As many threads as the system allows, at most `count`; each answers when the roll is called.
fn crowd_target(count: usize) {
    let roll = Arc::new(Roll::default());
    let mut made = 0;
    let mut refusal = "-".to_owned();
    while made < count {
        let roll = roll.clone();
        let builder = std::thread::Builder::new().stack_size(16 * 1024);
        match builder.spawn(move || roll.answer()) {
            Ok(_) => made += 1,
            Err(error) => {
                refusal = error.to_string();
                break;
            }
        }
    }
    let place = std::hint::black_box([0_u64; 16]);
    say(&format!("crowd {made} {} {refusal}", StandIn::words(&place)));
    loop {
        assert_eq!(command(), "call the roll");
        roll.heard.store(0, Ordering::SeqCst);
        *roll.round.lock().unwrap() += 1;
        roll.told.notify_all();
        let begun = Instant::now();
        while roll.heard.load(Ordering::SeqCst) < made && begun.elapsed() < DEADLINE {
            std::thread::yield_now();
        }
        say(&format!("heard {}", roll.heard.load(Ordering::SeqCst)));
    }
}

/// Every thread of the crowd runs.
fn call_the_roll(zoo: &mut Zoo, made: usize) {
    zoo.assert_runs();
    zoo.tell("call the roll");
    assert_eq!(zoo.answer(), ["heard", &made.to_string()]);
}

/// The threads of a dump that have registers and a stack.
fn whole_threads(dump: &Dump) -> Vec<i32> {
    let (system, memory, threads) = (dump.system(), dump.memory(), dump.threads());
    let whole = threads.threads.iter().filter(|thread| {
        thread.context(&system, None).is_some()
            && thread.stack_memory(&memory).is_some_and(|stack| !stack.bytes().is_empty())
    });
    whole.map(|thread| thread.raw.thread_id as i32).collect()
}

/// Goal: of ten thousand threads the dump has those around the crashing one and says that there are more; with raised limits it has all; and all of them go on.
#[test]
fn ten_thousand_threads_are_dumped_and_go_on() {
    let mut zoo = Zoo::start("extreme crowd 10000");
    let words = zoo.answer();
    assert_eq!(words[0], "crowd");
    let made: usize = words[1].parse().unwrap();
    if made < 10_000 {
        println!("only {made} threads: {}", words[5..].join(" "));
    }
    assert!(made >= 2_500, "too few to tell: {words:?}");
    let stand_in = StandIn::parse(&words[2..5]);
    zoo.wait_states('S');
    let mut all: Vec<i32> = zoo.states().iter().map(|(tid, _)| *tid).collect();
    all.sort_unstable();

    // The oldest, one in the middle, the youngest.
    for rank in [1, all.len() / 2, all.len() - 1] {
        let crash = StandIn { tid: all[rank], ..stand_in };
        let request = crash.request(&zoo);
        let capture = capture_in_time(&request);
        assert_eq!(capture.thread_count(), 2048);
        let more = capture.soft_errors().iter().map(ToString::to_string);
        assert!(more.into_iter().any(|error| error == "describe more threads than 2048"));
        let bytes = capture.encode();
        assert!(bytes.len() <= request.limits.file_bytes_max);
        let dump = open(bytes);
        assert_eq!(dump.exception().get_crashing_thread_id(), crash.tid as u32);
        assert!(dump.soft_errors().contains("describe more threads than"));
        let ids = dump.thread_ids();
        assert_eq!(ids.len(), 2048);
        assert!(ids.contains(&zoo.pid()) && ids.contains(&crash.tid));
        let but_main = |ids: &[i32]| -> Vec<i32> {
            ids.iter().copied().filter(|tid| *tid != zoo.pid()).collect()
        };
        assert_nearest(&but_main(&all), &but_main(&ids), crash.tid, "threads");
        // The mappings of so many threads leave less than 2 KiB of stack to each, so the farthest have none.
        let whole = whole_threads(&dump);
        assert!(whole.len() >= 1000, "{} {}", whole.len(), dump.soft_errors());
        let others: Vec<i32> = ids.iter().copied().filter(|tid| *tid != crash.tid).collect();
        assert_nearest(&others, &whole, crash.tid, "stacks");
        assert!(!contains(&dump.bytes, SECRET));
    }

    let mut request = stand_in.request(&zoo);
    request.limits.threads_max = 20_000;
    // A busy machine takes longer than the default limit to stop so many.
    request.limits.stop_wait_ms_max = 10_000;
    request.limits.file_bytes_max = 256 * 1024 * 1024;
    let capture = capture_in_time(&request);
    assert_eq!(operations(&capture), [""; 0]);
    let (bytes, times) = capture.finish();
    println!(
        "{made} threads: stopped in {} us, seen to run again after {} us",
        (times.threads_stopped_ns - times.first_stop_ns) / 1000,
        (times.threads_released_ns - times.first_stop_ns) / 1000
    );
    let dump = open(bytes);
    assert_eq!(dump.thread_ids(), all);
    assert_eq!(whole_threads(&dump).len(), all.len());
    call_the_roll(&mut zoo, made);
}

/// A target with that many mappings, of the file that it is told or of none.
fn mappings_target(count: usize) {
    let path = command();
    let bytes = count * calls::page_bytes();
    let file = (path != "none").then(|| {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap();
        // Without contents it takes no room.
        file.set_len(bytes as u64).unwrap();
        file
    });
    let start = calls::map(file.as_ref().map(AsFd::as_fd), bytes, libc::PROT_READ);
    calls::alternate(start, count);
    let place = std::hint::black_box([0_u64; 16]);
    say(&format!("mapped {start:x} {}", StandIn::words(&place)));
    loop {
        command();
        say("goes on");
    }
}

/// How many mappings a test may ask for: 65,000, or what the system allows.
fn mappings_max() -> usize {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // What the program has anyway, and what it makes later.
    let most = limit - 500;
    if most < 65_000 {
        println!("only {most} mappings: the system allows {limit}");
    }
    most.min(65_000)
}

struct Mapped {
    zoo: Zoo,
    stand_in: StandIn,
    maps: Vec<u8>,
    /// Where the many mappings begin.
    start: u64,
    count: usize,
}

fn start_mapped(path: &str) -> Mapped {
    let count = mappings_max();
    let mut zoo = Zoo::start(&format!("extreme mappings {count}"));
    zoo.tell(path);
    let words = zoo.answer();
    let stand_in = StandIn::parse(&words[2..]);
    let maps = std::fs::read(format!("/proc/{}/maps", zoo.pid())).unwrap();
    Mapped { zoo, stand_in, maps, start: hex(&words[1]), count }
}

fn lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

fn assert_goes_on(zoo: &mut Zoo) {
    zoo.assert_runs();
    zoo.tell("go on");
    assert_eq!(zoo.answer(), ["goes", "on"]);
}

/// Goal: sixty-five thousand mappings make a whole dump; with raised limits every one of them is known.
#[test]
fn the_most_mappings_that_there_can_be_are_dumped() {
    let mut target = start_mapped("none");
    assert!(lines(&target.maps) >= target.count);
    let request = target.stand_in.request(&target.zoo);
    let capture = capture_in_time(&request);
    let bytes = capture.encode();
    assert!(bytes.len() <= request.limits.file_bytes_max);
    let dump = open(bytes);
    assert_eq!(dump.exception().get_crashing_thread_id(), target.stand_in.tid as u32);
    assert_eq!(dump.thread_ids().len(), target.zoo.states().len());
    assert_eq!(whole_threads(&dump).len(), target.zoo.states().len());

    let mut request = target.stand_in.request(&target.zoo);
    request.limits.maps_bytes_max = 64 * 1024 * 1024;
    request.limits.file_bytes_max = 256 * 1024 * 1024;
    let capture = capture_in_time(&request);
    assert_eq!(operations(&capture), [""; 0]);
    let dump = open(capture.encode());
    assert_eq!(dump.dump.get_raw_stream(LINUX_MAPS).unwrap(), target.maps);
    let info: MinidumpMemoryInfoList = dump.dump.get_stream().unwrap();
    assert_eq!(info.iter().count(), lines(&target.maps));
    for page in [0, 1, target.count / 2, target.count - 1] {
        let address = target.start + (page * calls::page_bytes()) as u64;
        let region = info.memory_info_at_address(address).unwrap();
        assert_eq!(region.is_readable(), page % 2 == 0, "page {page}");
    }
    assert_goes_on(&mut target.zoo);
}

/// Goal: where the text of the mappings is cut the dump says so, and has the crash, all stacks and no secret.
#[test]
fn mappings_behind_the_limit_are_told() {
    let scratch = Scratch::new("a-file-with-a-name-that-makes-each-line-of-the-mappings-long");
    let mut target = start_mapped(scratch.path());
    // A cut between two lines leaves no damaged one.
    let whole_lines = target.maps[..100_000].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for maps_bytes_max in [0, 1, 100, 4096, 65_537, whole_lines, 4 * 1024 * 1024] {
        assert!(maps_bytes_max < target.maps.len());
        let mut request = target.stand_in.request(&target.zoo);
        request.limits.maps_bytes_max = maps_bytes_max;
        let capture = capture_in_time(&request);
        let told = operations(&capture);
        assert!(told.contains(&"read mappings"), "{maps_bytes_max}: {told:?}");
        let dump = open(capture.encode());
        assert_eq!(dump.exception().get_crashing_thread_id(), target.stand_in.tid as u32);
        assert_eq!(dump.thread_ids().len(), target.zoo.states().len());
        assert_eq!(whole_threads(&dump).len(), target.zoo.states().len(), "{maps_bytes_max}");
        assert!(!contains(&dump.bytes, SECRET), "{maps_bytes_max}");
        assert!(!contains(&dump.bytes, "--nocapture"), "{maps_bytes_max}");
        regions(&dump);
    }
    assert_goes_on(&mut target.zoo);
}

/// Copies a file by another process: an open descriptor of this one could come into a child of another test, and the kernel starts no program that is open for writing.
fn copy_file(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// The build id of the executable of these tests.
fn own_build_id() -> String {
    let (zoo, _) = start(0);
    let dump = Dump::parse(zoo::capture(&Request::new(zoo.pid())).unwrap().encode());
    let modules = dump.modules();
    modules.main_module().unwrap().code_identifier().unwrap().to_string()
}

/// A target that maps the files that it is told, executable from their beginning, and may cut one.
fn files_target() {
    loop {
        let line = command();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["map", path, bytes] => {
                let file = std::fs::File::open(path).unwrap();
                let protection = libc::PROT_READ | libc::PROT_EXEC;
                let start = calls::map(Some(file.as_fd()), bytes.parse().unwrap(), protection);
                say(&format!("mapped {start:x}"));
            }
            ["loop"] => say(&format!("looped {}", calls::loop_the_linkers_list())),
            _ => say("goes on"),
        }
    }
}

fn map_file(zoo: &mut Zoo, path: &str, bytes: usize) -> u64 {
    zoo.tell(&format!("map {path} {bytes}"));
    let words = zoo.answer();
    assert_eq!(words[0], "mapped");
    hex(&words[1])
}

/// Goal: files that were removed while they are mapped, the executable and another one, are listed under the names that they had, with their build ids.
#[test]
fn a_removed_file_keeps_its_name_and_build_id() {
    let build_id = own_build_id();
    let [program, library] = ["removed program", "removed-library.so"].map(Scratch::new);
    let own = std::env::current_exe().unwrap();
    copy_file(&own, &program.0);
    copy_file(&own, &library.0);
    let mut zoo = Zoo::start_program(&program.0, "extreme files");
    let bytes = std::fs::metadata(&library.0).unwrap().len() as usize;
    let start = map_file(&mut zoo, library.path(), bytes);
    for scratch in [&program, &library] {
        std::fs::remove_file(&scratch.0).unwrap();
    }
    let dump = Dump::parse(zoo::capture(&Request::new(zoo.pid())).unwrap().encode());
    assert_eq!(dump.soft_errors(), "");
    let modules = dump.modules();
    let main = modules.main_module().unwrap();
    let mapped = modules.module_at_address(start).unwrap();
    for (module, path) in [(main, program.path()), (mapped, library.path())] {
        assert_eq!(module.code_file(), path);
        assert_eq!(module.code_identifier().unwrap().to_string(), build_id);
    }
    assert_goes_on(&mut zoo);
}

/// Builds an ELF header and what follows it, right or wrong.
struct Lie {
    name: &'static str,
    bytes: Vec<u8>,
    /// Whether the dump has to say that the header is bad.
    told: bool,
}

/// A header with program headers at `segments_at`, and as many as it says.
fn elf(segments_at: u64, count: u16, segments: &[[u64; 4]]) -> Vec<u8> {
    let mut bytes = vec![0_u8; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16] = 3;
    bytes[32..40].copy_from_slice(&segments_at.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&count.to_le_bytes());
    for [kind, address, size, align] in segments {
        let mut entry = [0_u8; 56];
        entry[..4].copy_from_slice(&(*kind as u32).to_le_bytes());
        for (at, value) in
            [(8, address), (16, address), (24, address), (32, size), (40, size), (48, align)]
        {
            entry[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes.extend(entry);
    }
    bytes
}

fn lies() -> Vec<Lie> {
    const LOAD: u64 = 1;
    const NOTE: u64 = 4;
    let lie = |name, bytes, told| Lie { name, bytes, told };
    let patched = |at: usize, patch: &[u8]| {
        let mut bytes = elf(64, 1, &[[LOAD, 0, 4096, 4096]]);
        bytes[at..at + patch.len()].copy_from_slice(patch);
        bytes
    };
    let with_notes = |notes: &[u8], align| {
        let mut bytes = elf(64, 2, &[[LOAD, 0, 1 << 20, 4096], [NOTE, 0x200, 1 << 20, align]]);
        bytes.resize(0x200, 0);
        bytes.extend(notes);
        bytes
    };
    let note = |words: [u32; 3], rest: &[u8]| {
        [words.map(u32::to_le_bytes).concat(), rest.to_vec()].concat()
    };
    let all = u64::MAX;
    let mut lies = vec![
        lie("magic alone", b"\x7fELF".to_vec(), true),
        lie("cut after the class", b"\x7fELF\x02\x01".to_vec(), true),
        lie("cut in the header", elf(64, 5, &[])[..60].to_vec(), false),
        lie("cut behind the header", elf(64, 64, &[]), true),
        lie("cut in the table", elf(64, 9, &[[LOAD, 0, all, 0], [NOTE, all, all, all]]), false),
        lie("no segments", elf(64, 0, &[]), true),
        lie("more segments than can be", elf(64, u16::MAX, &[]), true),
        lie("table at the end of the world", elf(all, 9, &[]), true),
        lie("table that wraps around", elf(all - 56 * 9 + 1, 9, &[]), true),
        lie("table in the header", elf(0, 3, &[]), true),
        lie("table behind what is read", elf(1 << 40, 3, &[]), true),
        lie("32 bits", patched(4, &[1]), true),
        lie("big-endian", patched(5, &[2]), true),
        lie("segments of another size", patched(54, &[255, 255]), true),
        lie("notes everywhere", elf(64, 30, &[[NOTE, 0, all, all]; 30]), false),
        lie(
            "notes nowhere",
            elf(64, 2, &[[LOAD, 0x7fff_ffff_f000, all, 1], [NOTE, all - 7, all, 8]]),
            false,
        ),
        lie(
            "loaded at the end of the world",
            elf(64, 2, &[[LOAD, all, all, all], [LOAD, 0, all, 0]]),
            false,
        ),
        lie("empty notes", with_notes(&[0; 2000], 4), false),
        lie("notes of four gigabytes", with_notes(&note([u32::MAX; 3], b""), 4), false),
        lie("an id of four gigabytes", with_notes(&note([4, u32::MAX, 3], b"GNU\0abc"), 4), false),
        lie("an id without bytes", with_notes(&note([4, 0, 3], b"GNU\0"), 8), false),
        lie(
            "a name that goes back",
            with_notes(&note([u32::MAX - 11, u32::MAX - 3, 3], b"GNU\0"), 4),
            false,
        ),
    ];
    // Nothing but magic numbers, so that whoever follows a wrong offset finds a beginning again.
    lies.push(lie("headers in headers", b"\x7fELF\x02\x01\x01\0".repeat(512), true));
    lies
}

/// Goal: headers that are cut, that lie or that lead in circles cost a soft error each at most, and neither time nor other modules.
#[test]
fn lying_headers_cost_nothing_but_themselves() {
    let build_id = own_build_id();
    let mut zoo = Zoo::start("extreme files");
    let mut mapped: BTreeMap<u64, (Lie, Scratch)> = BTreeMap::new();
    for (index, lie) in lies().into_iter().enumerate() {
        let scratch = Scratch::new(&format!("lie-{index}.so"));
        std::fs::write(&scratch.0, &lie.bytes).unwrap();
        // Behind the end of the file there is memory that can't be read.
        let start = map_file(&mut zoo, scratch.path(), 3 * calls::page_bytes());
        mapped.insert(start, (lie, scratch));
    }
    // A file that was long when it was mapped, and has nothing now.
    let cut = Scratch::new("lie-cut.so");
    std::fs::write(&cut.0, vec![1; 5000]).unwrap();
    let cut_start = map_file(&mut zoo, cut.path(), 2 * calls::page_bytes());
    std::fs::write(&cut.0, b"").unwrap();

    let request = Request::new(zoo.pid());
    let capture = capture_in_time(&request);
    let told: BTreeSet<String> = capture.soft_errors().iter().map(ToString::to_string).collect();
    for (start, (lie, _)) in &mapped {
        let expected = format!("read module header {start:#x}");
        assert_eq!(told.contains(&expected), lie.told, "{}: {told:#?}", lie.name);
    }
    assert_eq!(told.len(), mapped.values().filter(|(lie, _)| lie.told).count(), "{told:#?}");
    let dump = Dump::parse(capture.encode());
    let modules = dump.modules();
    for (start, (lie, scratch)) in &mapped {
        let module = modules.module_at_address(*start).unwrap_or_else(|| panic!("{}", lie.name));
        assert_eq!(module.code_file(), scratch.path(), "{}", lie.name);
        assert!(module.code_identifier().is_none(), "{}", lie.name);
    }
    assert_eq!(modules.module_at_address(cut_start).unwrap().code_file(), cut.path());
    let main = modules.main_module().unwrap();
    assert_eq!(main.code_identifier().unwrap().to_string(), build_id);

    // The linker's list leads in a circle: it is followed as far as there may be modules.
    zoo.tell("loop");
    let words = zoo.answer();
    if words == ["looped", "true"] && !cfg!(target_feature = "crt-static") {
        let request = Request::new(zoo.pid());
        let dump = Dump::parse(capture_in_time(&request).encode());
        let debug = dump.dump.get_raw_stream(0x4767_000a).unwrap();
        assert_eq!(u32::from_le_bytes(debug[8..12].try_into().unwrap()), 1024);
        assert_eq!(dump.modules().iter().count(), modules.iter().count());
    }
    assert_goes_on(&mut zoo);
}

static MADE: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];

/// Three threads that do nothing but make threads which end at once, and one that stands for a crash.
fn churn_target() {
    for made in &MADE {
        std::thread::spawn(move || {
            say(&format!("maker {}", gettid()));
            loop {
                let threads = [(); 3].map(|()| {
                    let builder = std::thread::Builder::new().stack_size(32 * 1024);
                    builder.spawn(std::thread::yield_now).unwrap()
                });
                for thread in threads {
                    thread.join().unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let place = std::hint::black_box([0_u64; 16]);
    say(&format!("crash {}", StandIn::words(&place)));
    loop {
        command();
        let [a, b, c] = [0, 1, 2].map(|index: usize| MADE[index].load(Ordering::Relaxed));
        say(&format!("made {a} {b} {c}"));
    }
}

fn made(zoo: &mut Zoo) -> [u32; 3] {
    zoo.tell("how many");
    let words = zoo.answer();
    assert_eq!(words[0], "made");
    [1, 2, 3].map(|index: usize| words[index].parse().unwrap())
}

/// Every maker makes more threads than it has made.
fn assert_makes(zoo: &mut Zoo) {
    let before = made(zoo);
    let begun = Instant::now();
    while made(zoo).iter().zip(before).any(|(now, before)| *now == before) {
        assert!(begun.elapsed() < DEADLINE, "a maker stands still: {before:?}");
    }
}

/// Goal: threads that come and end while others are stopped are there once or not at all, those that stay are always there, and the target never stands still.
#[test]
fn threads_that_come_and_go_are_there_once() {
    let mut zoo = Zoo::start("extreme churn");
    let mut staying = BTreeSet::from([zoo.pid()]);
    let mut stand_in = None;
    while staying.len() < 5 {
        let words = zoo.answer();
        match words[0].as_str() {
            "maker" => staying.insert(words[1].parse().unwrap()),
            _ => {
                let crash = StandIn::parse(&words[1..]);
                stand_in = Some(crash);
                staying.insert(crash.tid)
            }
        };
    }
    let stand_in = stand_in.unwrap();
    let begun = Instant::now();
    let (mut threads, mut told) = (0, BTreeMap::new());
    let rounds = rounds(2000);
    for round in 0..rounds {
        let request = stand_in.request(&zoo);
        let capture = capture_in_time(&request);
        for operation in operations(&capture) {
            *told.entry(operation).or_insert(0) += 1;
        }
        let dump = open(capture.encode());
        assert_eq!(dump.exception().get_crashing_thread_id(), stand_in.tid as u32, "{round}");
        let ids: BTreeSet<i32> = dump.thread_ids().into_iter().collect();
        assert!(staying.is_subset(&ids), "{round}: {staying:?} {ids:?}");
        regions(&dump);
        threads += ids.len();
        if round % 100 == 0 {
            assert_makes(&mut zoo);
        }
    }
    assert_makes(&mut zoo);
    println!(
        "{rounds} rounds in {:?}, {threads} threads; soft errors: {told:?}; made: {:?}",
        begun.elapsed(),
        made(&mut zoo)
    );
}

/// A program of one thread that answers: what it reads it writes.
struct Cat {
    child: std::process::Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Cat {
    fn start() -> Cat {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Cat { child, answers }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn assert_answers(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"are you there\n").unwrap();
        assert!(
            calls::readable(self.answers.get_ref().as_fd(), DEADLINE),
            "a held process says nothing"
        );
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line, "are you there\n");
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A dumper in one role that was told what to dump.
fn start_dumper(role: &str, what: &str) -> Zoo {
    let mut dumper = Zoo::start(&format!("dumper {role}"));
    assert_eq!(dumper.answer(), ["ready"]);
    dumper.tell(what);
    dumper
}

/// Goal: wherever the dumper is killed, a process of one thread goes on, and so does one of many, whether it crashed or not; what ends it later ends it as if nobody had dumped it.
#[test]
fn a_killed_dumper_changes_nothing_about_the_target() {
    let scratch = Scratch::new("killed");
    for step in Step::ALL {
        let killed = |what: String| {
            let status = start_dumper(&format!("die {step:?}"), &what).wait();
            assert_eq!(status.signal(), Some(libc::SIGKILL), "{step:?}");
        };
        let what = |pid: i32, crash: bool| {
            let crash = if crash { format!(" {pid} 4096 4096") } else { String::new() };
            format!("{pid} {}{crash}", scratch.path())
        };
        for crash in [false, true] {
            let mut cat = Cat::start();
            killed(what(cat.pid(), crash));
            cat.assert_answers();
            // The end of its input is the end of it.
            drop(cat.child.stdin.take());
            assert_eq!(cat.child.wait().unwrap().code(), Some(0), "{step:?}");

            let (mut zoo, _) = start(50);
            killed(what(zoo.pid(), crash));
            ping(&mut zoo);
            calls::send(zoo.pid(), zoo.pid(), libc::SIGTERM);
            assert_eq!(zoo.wait().signal(), Some(libc::SIGTERM), "{step:?}");
        }
    }
}

/// Goal: a signal that ends the target while it is held ends it once the dumper is killed, and not later.
#[test]
fn a_signal_that_came_while_threads_were_held_is_taken_when_the_dumper_is_killed() {
    let scratch = Scratch::new("held-and-signalled");
    for step in [Step::Seized, Step::Stopped, Step::RegistersRead, Step::StacksCopied] {
        for role in ["hold", "deny-clone-hold"] {
            let (mut zoo, _) = start(20);
            let what = format!("{} {}", zoo.pid(), scratch.path());
            let mut dumper = start_dumper(&format!("{role} {step:?}"), &what);
            assert_eq!(dumper.answer(), ["held"]);
            calls::send(zoo.pid(), zoo.pid(), libc::SIGTERM);
            dumper.kill();
            assert_eq!(zoo.wait().signal(), Some(libc::SIGTERM), "{step:?}");
        }
    }
}

/// Goal: a dumper that is killed at any moment, also between the steps, leaves no thread stopped or traced.
#[test]
fn a_dumper_killed_at_any_moment_leaves_no_thread_stopped() {
    let mut random = Random::new("killed at any moment");
    let (mut zoo, _) = start(50);
    let scratch = Scratch::new("any-moment");
    let what = |crash: bool| {
        let crash = if crash { format!(" {} 4096 4096", zoo.pid()) } else { String::new() };
        format!("{} {}{crash}", zoo.pid(), scratch.path())
    };
    let whats = [what(false), what(true)];
    // How long a whole dump takes here and now.
    let mut whole = Duration::ZERO;
    for what in &whats {
        let mut dumper = start_dumper("plain", what);
        let begun = Instant::now();
        assert_eq!(dumper.answer(), ["written"]);
        whole = whole.max(begun.elapsed());
    }
    let whole_us = (whole.as_micros() as u64).clamp(1000, 100_000);
    let mut ended = 0;
    for round in 0..rounds(200) {
        let role = ["plain", "deny-clone", "ignore"][random.below(3) as usize];
        let mut dumper = start_dumper(role, &whats[random.below(2) as usize]);
        let begun = Instant::now();
        let moment = Duration::from_micros(random.below(whole_us));
        while begun.elapsed() < moment {
            std::hint::spin_loop();
        }
        ended += usize::from(dumper.has_answered());
        dumper.kill();
        assert_eq!(dumper.wait().signal(), Some(libc::SIGKILL));
        zoo.assert_runs();
        if round % 10 == 0 {
            ping(&mut zoo);
        }
    }
    println!("within {whole_us} us; {ended} were done already");
    // Whoever comes next finds everything as it was.
    ping(&mut zoo);
    let dump = Dump::parse(zoo::capture(&Request::new(zoo.pid())).unwrap().encode());
    assert_eq!(dump.soft_errors(), "");
    assert_eq!(dump.thread_ids().len(), zoo.states().len());
    ping(&mut zoo);
}
