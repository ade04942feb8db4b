//! What goes into a dump by choice, what stays out of it, and what goes first where not everything fits.
//!
//! The crashes are stand-ins: a thread tells where its stack is and waits, and the test says that it crashed there.
//! What a handler sees of a true crash is the matter of `crash`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use minidump::{Minidump, MinidumpHandleDataStream, MinidumpMemoryInfoList, MinidumpThreadNames};
use rearguard_minidump::{CrashContext, Extras, Limits, Registers, Request, UserStream, capture};

use crate::calls::{self, gettid};
use crate::killed::Scratch;
use crate::live::{ping, start};
use crate::reading::Dump;
use crate::zoo::{self, DEADLINE, SECRET, Zoo, command, contains, say};

const HANDLE_DATA: u32 = 12;
const LINUX_CMD_LINE: u32 = 0x4767_0006;
const LINUX_ENVIRON: u32 = 0x4767_0007;

/// What Breakpad's readers know as a word that was hidden.
const DEFACED: u64 = 0x0def_aced_0def_aced;

/// A secret of 16 bytes, as two words on a stack.
const HIDDEN: [u64; 2] = [0x7261_6568_2d79_6d2d, 0x2d6e_6f2d_6b63_6174];

/// What the blocks on the heap hold: each word is the block's tag and its own index.
const BLOCK_WORDS: usize = 1024;
const TAGS: [u64; 3] = [0xa11c_e000_0000_0000, 0xb0b5_0000_0000_0000, 0xca47_0000_0000_0000];

/// The roles of the children of these tests.
pub(crate) fn target(words: &[&str]) {
    match *words {
        ["files"] => files_target(),
        ["memory"] => memory_target(),
        ["stacks", count] => stacks_target(count.parse().unwrap()),
        ["refused", pid] => refused_dumper(pid.parse().unwrap()),
        _ => panic!("no such choice: {words:?}"),
    }
}

/// Where a thread says that it crashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandIn {
    pub(crate) tid: i32,
    pub(crate) sp: u64,
    pub(crate) ip: u64,
    /// What a register holds that has no meaning of its own.
    pub(crate) spare: u64,
}

impl StandIn {
    /// From three words of an answer: id, stack pointer, instruction pointer.
    pub(crate) fn parse(words: &[String]) -> StandIn {
        let [tid, sp, ip] = words else { panic!("not a crash: {words:?}") };
        StandIn { tid: tid.parse().unwrap(), sp: hex(sp), ip: hex(ip), spare: 0 }
    }

    /// What the thread that stands in says of itself; the stack begins at the given place.
    pub(crate) fn words<T>(place: &T) -> String {
        let sp = std::ptr::from_ref(place).addr() & !15;
        format!("{} {sp:x} {:x}", gettid(), target as *const () as usize)
    }

    pub(crate) fn request<'a>(&self, zoo: &Zoo) -> Request<'a> {
        Request { crash: Some(self.context()), ..Request::new(zoo.pid()) }
    }

    pub(crate) fn context<'a>(&self) -> CrashContext<'a> {
        let mut general = vec![0; 34];
        // Stack, instruction, and rbx or x19.
        let places = if cfg!(target_arch = "x86_64") { [15, 16, 11] } else { [31, 32, 19] };
        for (place, value) in places.into_iter().zip([self.sp, self.ip, self.spare]) {
            general[place] = value;
        }
        CrashContext {
            tid: self.tid,
            signal: libc::SIGSEGV,
            code: 1,
            address: 0x77,
            registers: Registers::from_signal_context(&general, &[]).unwrap(),
            stack_copy: None,
        }
    }
}

pub(crate) fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

/// A dump that only the reference reader looks at.
pub(crate) fn open(bytes: Vec<u8>) -> Dump {
    Dump { dump: Minidump::read(bytes.clone()).unwrap(), bytes }
}

fn dump_with(request: Request<'_>, extras: Extras) -> Dump {
    Dump::parse(zoo::capture(&Request { extras, ..request }).unwrap().encode())
}

/// All regions of memory, address and bytes, in ascending order; none may overlap another.
pub(crate) fn regions(dump: &Dump) -> BTreeMap<u64, Vec<u8>> {
    let mut regions = BTreeMap::new();
    for region in dump.memory().iter() {
        let twice = regions.insert(region.base_address(), region.bytes().to_vec());
        assert!(twice.is_none(), "two regions begin at {:#x}", region.base_address());
    }
    let mut last_end = 0;
    for (start, bytes) in &regions {
        assert!(last_end <= *start, "the region at {start:#x} begins within the one before");
        last_end = start + bytes.len() as u64;
    }
    regions
}

fn bytes_at(dump: &Dump, address: u64, len: usize) -> Vec<u8> {
    let memory = dump.memory();
    let region = memory.memory_at_address(address).unwrap_or_else(|| panic!("no {address:#x}"));
    let at = (address - region.base_address()) as usize;
    region.bytes().get(at..at + len).unwrap_or_else(|| panic!("{address:#x} is cut")).to_vec()
}

fn words_of(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

/// A target with a descriptor of every kind; it opens the file that it is told.
fn files_target() {
    let file = std::fs::File::open(command()).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let (left, right) = UnixStream::pair().unwrap();
    let counter = calls::event_counter();
    let numbers = [
        file.as_raw_fd(),
        reader.as_raw_fd(),
        writer.as_raw_fd(),
        left.as_raw_fd(),
        right.as_raw_fd(),
        counter.as_raw_fd(),
    ];
    say(&format!("files {}", numbers.map(|number| number.to_string()).join(" ")));
    command();
}

/// The descriptors of the target with what the kernel says about them.
fn descriptors(zoo: &Zoo) -> BTreeMap<u64, String> {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", zoo.pid())).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let name = std::fs::read_link(entry.path()).unwrap();
            (number, name.to_str().unwrap().to_owned())
        })
        .collect()
}

/// Goal: the open files of the target are in the dump with the numbers and names that the kernel gives them and with their kind, up to the limit, which shows, and only where they are asked for.
#[test]
fn open_files_are_listed_as_the_kernel_shows_them() {
    let mut zoo = Zoo::start("choice files");
    // A name that takes more than one byte a letter, and that is gone when the dump is taken.
    let scratch = Scratch::new("öffen é 文");
    std::fs::write(&scratch.0, "contents").unwrap();
    zoo.tell(scratch.path());
    let words = zoo.answer();
    assert_eq!(words[0], "files");
    let numbers: Vec<u64> = words[1..].iter().map(|word| word.parse().unwrap()).collect();
    for deleted in [false, true] {
        if deleted {
            std::fs::remove_file(&scratch.0).unwrap();
        }
        let dump = Dump::parse(zoo::capture(&Request::new(zoo.pid())).unwrap().encode());
        assert_eq!(dump.soft_errors(), "");
        let handles: MinidumpHandleDataStream = dump.dump.get_stream().unwrap();
        let listed: Vec<(u64, String)> = handles
            .iter()
            .map(|handle| {
                (*handle.raw.handle().unwrap(), handle.object_name.clone().unwrap_or_default())
            })
            .collect();
        let expected: Vec<(u64, String)> = descriptors(&zoo).into_iter().collect();
        assert_eq!(listed, expected);
        let of = |number: u64| {
            let handle = handles.iter().find(|handle| handle.raw.handle() == Some(&number));
            let handle = handle.unwrap();
            (handle.type_name.clone().unwrap(), handle.object_name.clone().unwrap())
        };
        let suffix = if deleted { " (deleted)" } else { "" };
        assert_eq!(of(numbers[0]), ("File".into(), format!("{}{suffix}", scratch.path())));
        let kinds: Vec<String> = numbers.iter().map(|number| of(*number).0).collect();
        assert_eq!(kinds, ["File", "Pipe", "Pipe", "Socket", "Socket", "Anonymous"]);
        assert_eq!(of(1), ("Device".into(), "/dev/null".into()));
    }
    let mut request = Request::new(zoo.pid());
    request.limits.files_max = 4;
    let capture = zoo::capture(&request).unwrap();
    let told = capture
        .soft_errors()
        .iter()
        .find(|error| error.operation() == "list more open files than")
        .map(ToString::to_string);
    assert_eq!(told.as_deref(), Some("list more open files than 4"));
    let dump = Dump::parse(capture.encode());
    let handles: MinidumpHandleDataStream = dump.dump.get_stream().unwrap();
    let listed: Vec<u64> = handles.iter().map(|handle| *handle.raw.handle().unwrap()).collect();
    assert_eq!(listed, descriptors(&zoo).keys().copied().take(4).collect::<Vec<_>>());
    let dump = dump_with(Request::new(zoo.pid()), Extras::default());
    assert!(dump.dump.get_raw_stream(HANDLE_DATA).is_err());
    zoo.assert_runs();
}

/// Goal: the command line and the environment are in the dump word for word where they are asked for, each by itself, and otherwise nowhere in the file.
#[test]
fn command_line_and_environment_are_there_when_asked_for() {
    let (mut zoo, _) = start(2);
    let truth = |name: &str| std::fs::read(format!("/proc/{}/{name}", zoo.pid())).unwrap();
    let (line, environment) = (truth("cmdline"), truth("environ"));
    assert!(contains(&line, "--nocapture") && contains(&environment, SECRET));
    let all = Extras::default().command_line().environment();
    for (extras, has_line, has_environment) in [
        (Extras::default(), false, false),
        (Extras::default().open_files().scrub_stacks(), false, false),
        (Extras::default().command_line(), true, false),
        (Extras::default().environment(), false, true),
        (all, true, true),
    ] {
        let mut request = Request::new(zoo.pid());
        // Whoever runs this may have a large environment.
        request.limits.text_bytes_max = 4 * 1024 * 1024;
        request.limits.file_bytes_max = 64 * 1024 * 1024;
        let dump = dump_with(request, extras);
        assert_eq!(dump.soft_errors(), "");
        for (stream, has, text) in
            [(LINUX_CMD_LINE, has_line, &line), (LINUX_ENVIRON, has_environment, &environment)]
        {
            let found = dump.dump.get_raw_stream(stream).ok();
            assert_eq!(found, has.then_some(&text[..]), "{stream:#x}");
        }
        assert_eq!(contains(&dump.bytes, "--nocapture"), has_line);
        assert_eq!(contains(&dump.bytes, SECRET), has_environment);
        assert_eq!(contains(&dump.bytes, "ZOO_TOKEN"), has_environment);
    }
    // Within the limit of a text there are whole strings.
    let mut request = Request::new(zoo.pid());
    let whole = environment.iter().position(|byte| *byte == 0).unwrap() + 1;
    request.limits.text_bytes_max = whole + 2;
    let dump = dump_with(request, all);
    assert_eq!(dump.dump.get_raw_stream(LINUX_ENVIRON).unwrap(), &environment[..whole]);
    // No limit of texts keeps the writer from knowing where the strings are.
    for text_bytes_max in 0..200 {
        let mut request = Request::new(zoo.pid());
        request.limits.text_bytes_max = text_bytes_max;
        let dump = dump_with(request, Extras::default());
        assert!(!contains(&dump.bytes, SECRET), "{text_bytes_max}");
    }
    ping(&mut zoo);
}

fn block(tag: u64) -> Vec<u64> {
    (0..BLOCK_WORDS as u64).map(|index| tag | index).collect()
}

/// A crashing thread with words of every kind on its stack, and a thread that waits in a system call which was given the address of a block.
fn memory_target() {
    let (mut until, _tell) = std::io::pipe().unwrap();
    std::thread::spawn(move || {
        let mut buffer: Vec<u8> =
            block(TAGS[2]).iter().flat_map(|word| word.to_le_bytes()).collect();
        let middle = &mut buffer[BLOCK_WORDS * 4..];
        let on_stack = std::hint::black_box([0_u64; 64]);
        let (address, stack) = (middle.as_ptr().addr(), on_stack.as_ptr().addr());
        say(&format!("reader {} {address:x} {stack:x}", gettid()));
        let _ = until.read(middle);
        std::hint::black_box(&on_stack);
    });
    let in_register = block(TAGS[0]);
    crashing(&in_register[BLOCK_WORDS / 2..]);
}

/// The frame that holds the words.
#[inline(never)]
fn crashing(in_register: &[u64]) {
    let on_stack = block(TAGS[1]);
    let mut words = [0_u64; 10];
    let own = words.as_ptr().addr() as u64;
    let pointer = on_stack[BLOCK_WORDS / 2..].as_ptr().addr() as u64;
    words = [
        HIDDEN[0],
        HIDDEN[1],
        42,
        memory_target as *const () as u64,
        own,
        pointer,
        u64::MAX - 10,
        4096,
        4097,
        -4097_i64 as u64,
    ];
    let words = std::hint::black_box(&mut words);
    say(&format!(
        "memory {} {own:x} {:x} {pointer:x}",
        StandIn::words(words),
        in_register.as_ptr().addr()
    ));
    command();
    std::hint::black_box((words, on_stack));
}

/// What the target of memory tells.
struct MemoryTarget {
    zoo: Zoo,
    stand_in: StandIn,
    /// Where the words are.
    words: u64,
    /// The middles of the blocks, in the order of their tags.
    blocks: [u64; 3],
    reader: i32,
    reader_stack: u64,
}

fn start_memory() -> MemoryTarget {
    let mut zoo = Zoo::start("choice memory");
    let mut told = BTreeMap::new();
    while told.len() < 2 {
        let words = zoo.answer();
        told.insert(words[0].clone(), words);
    }
    let (memory, reader) = (&told["memory"], &told["reader"]);
    let mut stand_in = StandIn::parse(&memory[1..4]);
    stand_in.spare = hex(&memory[5]);
    let blocks = [hex(&memory[5]), hex(&memory[6]), hex(&reader[2])];
    let tid: i32 = reader[1].parse().unwrap();
    // Only within the call its register holds the address; the kernel shows the arguments of the call.
    let begun = Instant::now();
    let path = format!("/proc/{}/task/{tid}/syscall", zoo.pid());
    while !std::fs::read_to_string(&path).unwrap().contains(&format!("{:#x}", blocks[2])) {
        assert!(begun.elapsed() < DEADLINE, "the reader doesn't wait");
        std::thread::yield_now();
    }
    // What has said its word may still be on its way to where it waits.
    zoo.wait_states('S');
    MemoryTarget {
        zoo,
        stand_in,
        words: hex(&memory[4]),
        blocks,
        reader: tid,
        reader_stack: hex(&reader[3]),
    }
}

/// The words around the middle of a block, 256 bytes to each side.
fn around(tag: u64) -> Vec<u64> {
    block(tag)[BLOCK_WORDS / 2 - 32..BLOCK_WORDS / 2 + 32].to_vec()
}

/// Goal: the memory that registers and the crashing thread's stack point to is in the dump where it is asked for, within its limit and without an overlap, and otherwise it isn't.
#[test]
fn indirect_memory_is_what_pointers_lead_to() {
    let target = start_memory();
    let request = || target.stand_in.request(&target.zoo);
    let without = dump_with(request(), Extras::default());
    let before = regions(&without);
    for address in target.blocks {
        assert!(!without.has(address), "{address:#x}");
    }
    let added = |dump: &Dump| -> Vec<(u64, Vec<u8>)> {
        let now = regions(dump);
        let kept = before
            .iter()
            .all(|(start, bytes)| now.get(start).is_some_and(|now| now.len() == bytes.len()));
        assert!(kept, "what is there anyway stays");
        now.into_iter().filter(|(start, _)| !before.contains_key(start)).collect()
    };
    let sum = |added: &[(u64, Vec<u8>)]| added.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();

    let dump = dump_with(request(), Extras::default().indirect_memory(256 * 1024));
    assert_eq!(dump.soft_errors(), "");
    for (address, tag) in target.blocks.into_iter().zip(TAGS) {
        assert_eq!(words_of(&bytes_at(&dump, address - 256, 512)), around(tag), "{tag:#x}");
    }
    let all = sum(&added(&dump));
    assert!((1536..=256 * 1024).contains(&all), "{all}");

    // The registers of the crashing thread come first, and the limit is kept to the byte.
    let dump = dump_with(request(), Extras::default().indirect_memory(512));
    let first = added(&dump);
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].0, first[0].1.len()), (target.blocks[0] - 256, 512));
    for bytes_max in [0, 7, 8, 600, 1000, 1024, all - 8] {
        let dump = dump_with(request(), Extras::default().indirect_memory(bytes_max));
        let sum = sum(&added(&dump));
        assert!(sum <= bytes_max && bytes_max < sum + 8, "{sum} of {bytes_max}");
    }
}

/// Goal: no region overlaps another either where a pointer leads into a stack, at its edge or beside it, whether the thread is held or not.
#[test]
fn indirect_memory_leaves_stacks_alone() {
    let mut target = start_memory();
    let exempt: Vec<i32> = target.zoo.states().iter().map(|(tid, _)| *tid).collect();
    let plain = dump_with(target.stand_in.request(&target.zoo), Extras::default());
    let (reader_start, reader_bytes) = plain.stack(target.reader).unwrap();
    let reader_end = reader_start + reader_bytes.len() as u64;
    let (own_start, own_bytes) = plain.stack(target.stand_in.tid).unwrap();
    let own_end = own_start + own_bytes.len() as u64;
    for spare in [
        target.reader_stack,
        reader_start,
        reader_start - 8,
        reader_start - 300,
        reader_end - 8,
        reader_end + 100,
        own_start,
        own_start - 200,
        own_end + 8,
        // Not at a word.
        target.reader_stack + 3,
        target.blocks[0] + 5,
    ] {
        target.stand_in.spare = spare;
        for exempt in [&[][..], &exempt] {
            // The pointers of a thread that isn't held are known while it waits, and the last dump has woken it.
            target.zoo.wait_states('S');
            let request = Request { exempt, ..target.stand_in.request(&target.zoo) };
            let dump = dump_with(request, Extras::default().indirect_memory(64 * 1024));
            assert_eq!(dump.soft_errors(), "", "{spare:#x}");
            regions(&dump);
            assert!(dump.stack(target.reader).is_some_and(|(start, _)| start == reader_start));
            assert!(dump.stack(target.stand_in.tid).is_some());
        }
    }
}

/// Goal: what two threads claim for their stacks, as where these lie side by side in one mapping, is in the dump once.
#[test]
fn stacks_that_two_threads_claim_are_there_once() {
    let mut target = start_memory();
    let sp = target.reader_stack;
    for distance in [0, 8, 4096, 64 * 1024] {
        // Where the reader's frames are, or below them.
        target.stand_in.sp = sp - distance;
        let dump = dump_with(target.stand_in.request(&target.zoo), Extras::default());
        regions(&dump);
        let (start, _) = dump.stack(target.stand_in.tid).unwrap();
        assert_eq!(start, (sp - distance - 128) & !7);
        assert!(dump.has(sp) && dump.has(sp + 511));
    }
    // Another thread claims what lies above the words: what is cut from their own thread's stack isn't in the file without a name, where nobody would scrub it.
    let own = target.stand_in.tid;
    target.stand_in.tid = target.reader;
    target.stand_in.sp = target.words - 64;
    let extras = Extras::default().scrub_stacks();
    let scrubbed = dump_with(target.stand_in.request(&target.zoo), extras);
    assert!(scrubbed.stack(own).is_some_and(|(start, _)| start < target.words - 200));
    for hidden in HIDDEN {
        let bytes = hidden.to_le_bytes();
        assert!(!scrubbed.bytes.windows(8).any(|window| window == bytes));
    }
}

/// Whether a word is an address of code, as the kernel lists the mappings.
fn code_ranges(zoo: &Zoo) -> Vec<(u64, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", zoo.pid())).unwrap();
    let code = maps.lines().filter(|line| line.split(' ').nth(1).unwrap().contains('x'));
    code.map(|line| line.split(' ').next().unwrap().split_once('-').unwrap())
        .map(|(start, end)| (hex(start), hex(end)))
        .collect()
}

/// Goal: scrubbing hides the words that may be secrets, on stacks and in indirect memory, and leaves numbers, addresses of code and addresses within the stack, so that frames are found as without it.
#[test]
fn scrubbing_hides_secrets_and_keeps_frames() {
    let target = start_memory();
    let request = || target.stand_in.request(&target.zoo);
    let extras = Extras::default().indirect_memory(64 * 1024);
    let plain = dump_with(request(), extras);
    let scrubbed = dump_with(request(), extras.scrub_stacks());
    assert_eq!(scrubbed.soft_errors(), "");
    let plain_words = words_of(&bytes_at(&plain, target.words, 80));
    assert_eq!(plain_words[..3], [HIDDEN[0], HIDDEN[1], 42]);
    assert_eq!(plain_words[4], target.words);
    let mut expected = plain_words;
    // The secret, the pointer to the heap, and what is just too large for a number.
    for hidden in [0, 1, 5, 8, 9] {
        expected[hidden] = DEFACED;
    }
    assert_eq!(words_of(&bytes_at(&scrubbed, target.words, 80)), expected);
    assert_eq!(
        words_of(&bytes_at(&scrubbed, target.blocks[0] - 256, 512)),
        [DEFACED; 64],
        "indirect memory is scrubbed too"
    );

    let code = code_ranges(&target.zoo);
    let (before, after) = (regions(&plain), regions(&scrubbed));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let mut return_addresses = 0;
    for (start, bytes) in &before {
        if code.iter().any(|(low, high)| (*low..*high).contains(start)) {
            assert_eq!(bytes, &after[start], "code is the program's");
            continue;
        }
        for (word, now) in words_of(bytes).into_iter().zip(words_of(&after[start])) {
            assert!(!HIDDEN.contains(&now));
            assert!(now == word || now == DEFACED, "{word:#x} became {now:#x}");
            if code.iter().any(|(low, high)| (*low..*high).contains(&word)) {
                return_addresses += 1;
                assert_eq!(now, word, "an address of code stays");
            }
        }
    }
    assert!(return_addresses > 10, "{return_addresses}");
    // Whoever walks by frame pointers needs those within the same stack too.
    for thread in &plain.threads().threads {
        let tid = thread.raw.thread_id as i32;
        let Some((start, stack)) = plain.stack(tid) else { continue };
        let inside = start..start + stack.len() as u64;
        let (_, now) = scrubbed.stack(tid).unwrap();
        for (word, now) in words_of(&stack).into_iter().zip(words_of(&now)) {
            assert!(!inside.contains(&word) || now == word, "{word:#x} became {now:#x}");
        }
    }
    assert_eq!(
        plain.context(target.reader).unwrap().get_stack_pointer(),
        scrubbed.context(target.reader).unwrap().get_stack_pointer()
    );
    assert_registers_scrubbed(&plain, &scrubbed);
}

/// What general registers hold is as it was or hidden, some of it is hidden, and the others are unknown.
#[cfg(target_arch = "x86_64")]
fn assert_registers_scrubbed(plain: &Dump, scrubbed: &Dump) {
    use minidump::MinidumpRawContext::Amd64;
    let mut hidden = 0;
    for thread in &plain.threads().threads {
        let tid = thread.raw.thread_id as i32;
        let contexts = [plain, scrubbed].map(|dump| dump.context(tid).unwrap().raw);
        let [Amd64(plain), Amd64(scrubbed)] = contexts else { panic!() };
        assert_eq!(plain.rbp, scrubbed.rbp);
        assert_eq!(plain.rip, scrubbed.rip);
        let general = |context: &minidump::format::CONTEXT_AMD64| {
            [
                context.rax,
                context.rbx,
                context.rdi,
                context.rsi,
                context.r8,
                context.r12,
                context.r14,
            ]
        };
        for (word, now) in general(&plain).into_iter().zip(general(&scrubbed)) {
            assert!(!HIDDEN.contains(&now));
            assert!(now == word || now == DEFACED, "{word:#x} became {now:#x}");
            hidden += usize::from(now == DEFACED);
        }
        assert_eq!(scrubbed.context_flags & 8, 0, "vector registers are left out");
    }
    assert!(hidden > 0);
}

#[cfg(not(target_arch = "x86_64"))]
fn assert_registers_scrubbed(_plain: &Dump, _scrubbed: &Dump) {}

/// Bytes of stack that each thread of the target uses: more than is taken of one.
const LARGE_STACK_BYTES: usize = 48 * 1024;

/// Half of the threads are older than the one that stands for a crash, half are younger.
fn stacks_target(count: usize) {
    let all = Arc::new(Barrier::new(count + 1));
    let spawn_some = |count: usize| {
        for _ in 0..count {
            let all = all.clone();
            std::thread::spawn(move || {
                let large = std::hint::black_box([gettid() as u8; LARGE_STACK_BYTES]);
                all.wait();
                loop {
                    std::thread::park();
                    std::hint::black_box(&large);
                }
            });
        }
    };
    spawn_some(count / 2);
    let crasher = {
        let all = all.clone();
        std::thread::spawn(move || {
            let large = std::hint::black_box([1_u8; LARGE_STACK_BYTES]);
            all.wait();
            say(&format!("crash {}", StandIn::words(&large)));
            command();
            say("goes on");
            command();
        })
    };
    spawn_some(count - count / 2);
    crasher.join().unwrap();
}

/// What a dump under a limit has kept.
#[derive(Debug)]
struct Kept {
    threads: usize,
    crash_stack_bytes: usize,
    modules: usize,
    contexts: Vec<i32>,
    stacks: Vec<(i32, usize)>,
}

fn absent(error: minidump::Error) -> bool {
    matches!(error, minidump::Error::StreamNotFound)
}

/// Checks what every dump has to have, whatever its limit.
fn check_limited(zoo: &Zoo, stand_in: &StandIn, file_bytes_max: usize) -> Kept {
    let stream = [UserStream { stream_type: 0x5247_0001, bytes: &[7; 100] }];
    let mut request = stand_in.request(zoo);
    request.limits.file_bytes_max = file_bytes_max;
    request.annotations = &[("key", "value")];
    request.user_streams = &stream;
    let bytes = zoo::capture(&request).unwrap().encode();
    let limit = file_bytes_max.max(32 * 1024);
    assert!(bytes.len() <= limit, "{} > {limit}", bytes.len());
    let dump = Dump::parse(bytes);
    assert!(!contains(&dump.bytes, SECRET));
    let listed = regions(&dump);
    let exception = dump.exception();
    assert_eq!(exception.get_crashing_thread_id(), stand_in.tid as u32);
    assert_eq!(exception.raw.exception_record.exception_address, 0x77);
    let context = exception.context(&dump.system(), None).unwrap();
    assert_eq!(context.get_stack_pointer(), stand_in.sp);
    assert_eq!(context.get_instruction_pointer(), stand_in.ip);
    let (start, stack) = dump.stack(stand_in.tid).expect("the crashing thread's stack");
    let above = (start + stack.len() as u64).checked_sub(stand_in.sp).unwrap();
    assert!(start <= stand_in.sp && above >= 2048, "{above} above sp, {file_bytes_max}");
    assert_eq!(
        listed.get(&start),
        Some(&stack),
        "{file_bytes_max}: it is in the list of memory too"
    );
    // What is in the directory can be read, even where it lists nothing.
    assert!(dump.dump.get_stream::<MinidumpThreadNames>().map_or_else(absent, |_| true));
    assert!(dump.dump.get_stream::<MinidumpHandleDataStream>().map_or_else(absent, |_| true));
    assert!(dump.dump.get_stream::<MinidumpMemoryInfoList<'_>>().map_or_else(absent, |_| true));
    let modules = dump.modules().iter().count();
    let main = dump.modules();
    let main = minidump::Module::code_file(main.main_module().unwrap()).into_owned();
    assert_eq!(main, std::env::current_exe().unwrap().to_str().unwrap());
    let info: minidump::MinidumpCrashpadInfo = dump.dump.get_stream().unwrap();
    assert_eq!(info.simple_annotations["key"], "value");
    assert_eq!(dump.dump.get_raw_stream(0x5247_0001).unwrap(), [7; 100]);
    let (system, memory, threads) = (dump.system(), dump.memory(), dump.threads());
    assert_eq!(threads.threads[0].raw.thread_id, stand_in.tid as u32);
    let mut kept = Kept {
        threads: threads.threads.len(),
        crash_stack_bytes: stack.len(),
        modules,
        contexts: Vec::new(),
        stacks: Vec::new(),
    };
    for thread in threads.threads.iter().skip(1) {
        if thread.context(&system, None).is_some() {
            kept.contexts.push(thread.raw.thread_id as i32);
        }
        if let Some(stack) = thread.stack_memory(&memory) {
            kept.stacks.push((thread.raw.thread_id as i32, stack.bytes().len()));
        }
    }
    kept
}

/// No thread that is left out is nearer to `tid` than one of those that are kept.
pub(crate) fn assert_nearest(all: &[i32], kept: &[i32], tid: i32, what: &str) {
    let distance = |other: &i32| other.abs_diff(tid);
    let kept: BTreeSet<i32> = kept.iter().copied().collect();
    let farthest = kept.iter().map(distance).max().unwrap_or(0);
    let left_out = all.iter().filter(|other| **other != tid && !kept.contains(other));
    let nearest = left_out.map(distance).min().unwrap_or(u32::MAX);
    assert!(farthest <= nearest, "{what} of {}: {farthest} is kept, {nearest} is not", all.len());
}

/// Goal: whatever the limit of bytes, the file keeps it, the crash is whole, and what is left out is what the limit's documentation says: stacks of other threads before their registers, those of far threads before those of near ones.
#[test]
fn a_limited_file_keeps_the_crash_and_who_is_near() {
    let mut zoo = Zoo::start("choice stacks 100");
    let words = zoo.answer();
    let stand_in = StandIn::parse(&words[1..]);
    zoo.wait_states('S');
    let all: Vec<i32> = zoo.states().iter().map(|(tid, _)| *tid).collect();
    let others: Vec<i32> = all.iter().copied().filter(|tid| *tid != stand_in.tid).collect();
    let mut random = crate::extremes::Random::new("a limited file");
    let mut limits = vec![0, 20_000, 32 * 1024, 33_001, 40_000, 64 * 1024, 100_000, 200_000];
    limits.extend([1024 * 1024, 2_000_000]);
    limits.extend((0..30).map(|_| 32 * 1024 + random.below(1_500_000) as usize));
    limits.sort_unstable();
    let mut last: Option<Kept> = None;
    for file_bytes_max in limits {
        let kept = check_limited(&zoo, &stand_in, file_bytes_max);
        // The list may have a quarter of the least file.
        let listed = kept.threads == all.len() || file_bytes_max < 40_000 && kept.threads > 90;
        assert!(listed, "{file_bytes_max}: {}", kept.threads);
        assert_nearest(&others, &kept.contexts, stand_in.tid, "registers");
        let with_stack: Vec<i32> = kept.stacks.iter().map(|(tid, _)| *tid).collect();
        assert_nearest(&others, &with_stack, stand_in.tid, "stacks");
        // Where registers found no room there is none for more of a stack than they would have taken.
        let stack_bytes: usize = kept.stacks.iter().map(|(_, bytes)| bytes).sum();
        assert!(
            kept.contexts.len() == others.len() || stack_bytes < 2048,
            "{file_bytes_max}: {kept:?}"
        );
        // All get the same, or at least the few frames that are worth a place; only the last one may be cut.
        let largest = kept.stacks.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        let short = kept.stacks.iter().filter(|(_, bytes)| *bytes < 2048).count();
        // The main thread and the one that waits for the test have less on their stacks than others.
        assert!(short <= 3, "{file_bytes_max}: {kept:?}");
        if with_stack.len() < others.len() {
            assert!(largest <= 2048, "{file_bytes_max}: {kept:?}");
        }
        if let Some(last) = last {
            assert!(last.crash_stack_bytes <= kept.crash_stack_bytes, "{file_bytes_max}");
            assert!(last.modules <= kept.modules, "{file_bytes_max}");
            assert!(last.contexts.len() <= kept.contexts.len(), "{file_bytes_max}");
        }
        last = Some(kept);
    }
    let most = last.unwrap();
    assert_eq!(most.contexts.len(), others.len());
    assert_eq!(most.stacks.len(), others.len());
    zoo.assert_runs();
    zoo.tell("dumped");
    assert_eq!(zoo.answer(), ["goes", "on"]);
}

/// Dumps a process with ptrace refused, and tells what the soft errors want.
fn refused_dumper(pid: i32) {
    calls::deny(&[libc::SYS_ptrace]);
    let request = Request::new(pid);
    let capture = capture(&request).unwrap();
    for error in capture.soft_errors() {
        say(&format!("{} {} {}", error.operation(), error.errno(), error.grant().unwrap_or("-")));
    }
    say("end");
    std::fs::write(command(), capture.encode()).unwrap();
    say("written");
    command();
}

/// Goal: who is refused is told what to grant, in the program and in the dump; who isn't, is told nothing.
#[test]
fn a_refusal_names_what_to_grant() {
    let (mut zoo, _) = start(2);
    let mut dumper = Zoo::start(&format!("choice refused {}", zoo.pid()));
    let mut told = Vec::new();
    loop {
        let line = dumper.answer().join(" ");
        if line == "end" {
            break;
        }
        told.push(line);
    }
    let refusal = told.iter().find(|line| line.starts_with("trace thread 1 ")).expect("a refusal");
    for word in ["ptrace", "PR_SET_PTRACER", "CAP_SYS_PTRACE"] {
        assert!(refusal.contains(word), "{refusal}");
    }
    let scratch = Scratch::new("refused");
    dumper.tell(scratch.path());
    assert_eq!(dumper.answer(), ["written"]);
    let dump = Dump::parse(std::fs::read(&scratch.0).unwrap());
    let json = dump.soft_errors();
    assert_eq!(json.matches("\"grant\":\"").count(), 1, "{json}");
    let grant = refusal.strip_prefix("trace thread 1 ").unwrap();
    assert!(json.contains(&format!("\"grant\":\"{grant}\"")), "{json}");

    let mut request = Request::new(zoo.pid());
    request.limits = Limits { threads_max: 1, ..Limits::default() };
    let capture = zoo::capture(&request).unwrap();
    assert!(!capture.soft_errors().is_empty());
    assert!(capture.soft_errors().iter().all(|error| error.grant().is_none()));
    assert!(!Dump::parse(capture.encode()).soft_errors().contains("grant"));
    ping(&mut zoo);
}
