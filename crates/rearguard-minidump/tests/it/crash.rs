//! Dumps of crashes: a handler in the target publishes its context and waits, as rearguard's does.

use std::sync::atomic::{AtomicI32, Ordering};

use minidump::Module;
use readers::{Frame, Processed};
use rearguard_minidump::{CrashContext, Limits, Registers, Request, Step};

use crate::calls::{self, gettid};
use crate::reading::Dump;
use crate::zoo::{self, SECRET, Zoo, command, contains, say};
use crate::{deep, registers};

/// What the handler says.
pub(crate) struct Published {
    pub(crate) tid: i32,
    pub(crate) signal: i32,
    pub(crate) code: i32,
    pub(crate) address: u64,
    pub(crate) general: Vec<u64>,
    pub(crate) fp: Vec<u8>,
}

impl Published {
    pub(crate) fn read(zoo: &mut Zoo) -> Published {
        let words = zoo.answer();
        assert_eq!(words[0], "crash", "{words:?}");
        let number = |at: usize| words[at].parse::<i64>().unwrap();
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let fp = &words[6];
        Published {
            tid: number(1) as i32,
            signal: number(2) as i32,
            code: number(3) as i32,
            address: hex(&words[4]),
            general: words[5].split(',').map(hex).collect(),
            fp: (0..fp.len()).step_by(2).map(|at| hex(&fp[at..at + 2]) as u8).collect(),
        }
    }

    pub(crate) fn context<'a>(&self) -> CrashContext<'a> {
        CrashContext {
            tid: self.tid,
            signal: self.signal,
            code: self.code,
            address: self.address,
            registers: Registers::from_signal_context(&self.general, &self.fp).unwrap(),
            stack_copy: None,
        }
    }

    pub(crate) fn request<'a>(&self, zoo: &Zoo) -> Request<'a> {
        Request { crash: Some(self.context()), ..Request::new(zoo.pid()) }
    }
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // A handler of this kind may not allocate; this one knows where the target crashed: in its own code.
    let (code, address, general, fp) = calls::crash(info, context);
    let general: Vec<String> = general.iter().map(|word| format!("{word:x}")).collect();
    let fp: String = fp.iter().map(|byte| format!("{byte:02x}")).collect();
    registers::say_crashed();
    say(&format!("crash {} {signal} {code} {address:x} {} {fp}", gettid(), general.join(",")));
    // The guard's answer, or the end of the test.
    assert_eq!(command(), "dumped");
    say("released");
    command();
}

/// How many threads the target has that do nothing.
pub(crate) const IDLE: usize = 3;

/// Threads that do nothing, and one that crashes in one way.
pub(crate) fn target(way: &str) {
    calls::on_crash(handler);
    for index in 0..IDLE {
        let body = || {
            loop {
                std::thread::park();
            }
        };
        std::thread::Builder::new().name(format!("idle-{index}")).spawn(body).unwrap();
    }
    if way == "registers" {
        registers::start_circling();
    }
    let way = way.to_owned();
    let crasher = move || {
        calls::large_signal_stack();
        match way.as_str() {
            "write" => calls::write_to(0xdead_0000),
            "registers" => registers::crash(),
            "deep" => deep::crash(),
            "jump" => calls::jump_to(0x1000),
            "overflow" => {
                overflow(1);
            }
            _ => panic!("no such crash: {way}"),
        }
    };
    let builder = std::thread::Builder::new().name("crasher".into()).stack_size(8 * 1024 * 1024);
    builder.spawn(crasher).unwrap().join().unwrap();
}

#[expect(unconditional_recursion, reason = "the thing to test")]
fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    overflow(depth + 1) + std::hint::black_box(frame)[3]
}

fn start(way: &str) -> (Zoo, Published) {
    let mut zoo = Zoo::start(&format!("crash {way}"));
    let published = Published::read(&mut zoo);
    (zoo, published)
}

fn dump_of(request: &Request<'_>) -> Dump {
    Dump::parse(zoo::capture(request).unwrap().encode())
}

/// The crashing thread gets its answer.
pub(crate) fn release(zoo: &mut Zoo) {
    zoo.assert_runs();
    zoo.tell("dumped");
    assert_eq!(zoo.answer(), ["released"]);
}

/// Goal: the dump says what happened, to whom and where, in the words of the kernel.
#[test]
fn a_bad_write_shows_its_address() {
    let (mut zoo, published) = start("write");
    let dump = dump_of(&published.request(&zoo));
    assert_eq!(dump.soft_errors(), "");
    let exception = dump.exception();
    assert_eq!(exception.get_crashing_thread_id(), published.tid as u32);
    assert_eq!(exception.raw.exception_record.exception_code, libc::SIGSEGV as u32);
    assert_eq!(exception.raw.exception_record.exception_flags, published.code as u32);
    assert_eq!(exception.raw.exception_record.exception_address, 0xdead_0000);
    let context = exception.context(&dump.system(), None).unwrap();
    let registers = published.context().registers;
    assert_eq!(context.get_instruction_pointer(), registers.instruction_pointer());
    assert_eq!(context.get_stack_pointer(), registers.stack_pointer());
    let modules = dump.modules();
    let module = modules.module_at_address(context.get_instruction_pointer()).unwrap();
    assert_eq!(module.code_file(), std::env::current_exe().unwrap().to_str().unwrap());
    for offset in [0, 127] {
        assert!(
            dump.has(context.get_instruction_pointer() + offset)
                && dump.has(context.get_instruction_pointer() - offset)
        );
    }
    let (start, stack) = dump.stack(published.tid).unwrap();
    assert!((start..start + stack.len() as u64).contains(&registers.stack_pointer()));
    // The other threads, the first in the list being the one that crashed.
    let threads = dump.threads();
    assert_eq!(threads.threads.len(), zoo.states().len());
    assert_eq!(threads.threads[0].raw.thread_id, published.tid as u32);
    let names = dump.names();
    assert_eq!(names.get_name(published.tid as u32).unwrap(), "crasher");
    for thread in &threads.threads[1..] {
        assert!(dump.stack(thread.raw.thread_id as i32).is_some());
    }
    assert!(!contains(&dump.bytes, SECRET));
    release(&mut zoo);
}

/// Goal: the floating-point registers arrive where readers look for them.
#[test]
#[cfg(target_arch = "x86_64")]
fn floating_point_registers_are_kept() {
    let (zoo, mut published) = start("write");
    published.fp = (0..512).map(|index| index as u8).collect();
    let dump = dump_of(&published.request(&zoo));
    let minidump::MinidumpRawContext::Amd64(context) = dump.context(published.tid).unwrap().raw
    else {
        panic!()
    };
    assert_eq!(context.float_save[..], published.fp[..]);
    assert_eq!(context.mx_csr, u32::from_le_bytes([24, 25, 26, 27]));
    assert_eq!(context.context_flags, 0x0010_000f);
    published.fp.truncate(100);
    let dump = dump_of(&published.request(&zoo));
    let minidump::MinidumpRawContext::Amd64(context) = dump.context(published.tid).unwrap().raw
    else {
        panic!()
    };
    assert_eq!(context.context_flags, 0x0010_0007);
}

/// Goal: a jump to nowhere has no code to show and is a whole dump otherwise.
#[test]
fn a_jump_to_nowhere_is_dumped() {
    let (mut zoo, published) = start("jump");
    let dump = dump_of(&published.request(&zoo));
    assert_eq!(dump.soft_errors(), "");
    assert_eq!(dump.context(published.tid).unwrap().get_instruction_pointer(), 0x1000);
    assert_eq!(dump.threads().threads.len(), zoo.states().len());
    assert!(dump.stack(published.tid).is_some());
    release(&mut zoo);
}

/// Goal: a stack overflow gives both ends of the stack and a small dump, not all of it.
#[test]
fn an_overflow_shows_both_ends_and_stays_small() {
    let (mut zoo, published) = start("overflow");
    let dump = dump_of(&published.request(&zoo));
    assert_eq!(dump.soft_errors(), "");
    assert!(dump.bytes.len() < 300 * 1024, "{}", dump.bytes.len());
    let sp = published.context().registers.stack_pointer();
    let (start, stack) = dump.stack(published.tid).unwrap();
    assert_eq!(stack.len(), Limits::default().crash_stack_bytes_max / 4 * 3);
    // The stack pointer is in the guard page or just above it.
    assert!(start.abs_diff(sp) < 64 * 1024, "{start:#x} {sp:#x}");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", zoo.pid())).unwrap();
    let end = maps.lines().find_map(|line| {
        let (low, high) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [low, high] = [low, high].map(|text| u64::from_str_radix(text, 16).unwrap());
        (low..high).contains(&start).then_some(high)
    });
    assert!(dump.has(end.unwrap() - 1) && dump.has(end.unwrap() - 30 * 1024));
    release(&mut zoo);
}

/// Goal: from the two ends of an overflow's stack the recursion and who began it are seen by the readers that there are, the files being there.
#[test]
fn an_overflow_shows_the_recursion_and_its_root() {
    let (mut zoo, published) = start("overflow");
    let dump = dump_of(&published.request(&zoo));
    let processed = Processed::with_files(&dump.bytes).unwrap();
    let count = |frames: &[Frame], name: &str| {
        frames.iter().filter(|frame| frame.function.contains(name)).count()
    };
    // The processor walks within one piece of memory: it sees the recursion and where it stands, and no root.
    let near = processed.crash_frames();
    assert_eq!(near[0].function, "it::crash::overflow");
    assert!(count(&near, "it::crash::overflow") > 20, "{near:#?}");
    assert_eq!(count(&near, "thread_start"), 0, "{near:#?}");
    // A second walk from the first return address of the far end sees the root.
    let far = processed.far_frames(&dump.bytes).unwrap();
    assert!(count(&far, "it::crash::overflow") > 5, "{far:#?}");
    let root = ["it::crash::overflow", "it::crash::target::", "thread_start"];
    let places = root.map(|name| far.iter().rposition(|frame| frame.function.contains(name)));
    assert!(places[0].is_some() && places.is_sorted(), "{far:#?}");
    release(&mut zoo);
}

/// Goal: a stack pointer that points nowhere costs the stack of that thread alone.
#[test]
fn an_unreadable_stack_is_a_soft_error() {
    let (mut zoo, mut published) = start("write");
    let sp_at = if cfg!(target_arch = "x86_64") { 15 } else { 31 };
    for sp in [0, 0x10, 1 << 63, u64::MAX - 7, u64::MAX] {
        published.general[sp_at] = sp;
        let dump = dump_of(&published.request(&zoo));
        let expected = format!("[{{\"operation\":\"read stack\",\"thread\":{}}}]", published.tid);
        assert_eq!(dump.soft_errors(), expected, "{sp:#x}");
        assert_eq!(dump.context(published.tid).unwrap().get_stack_pointer(), sp);
        assert!(dump.stack(published.tid).is_none());
        let threads = dump.threads();
        let with_stack =
            threads.threads.iter().filter(|thread| thread.raw.stack.memory.data_size > 0);
        assert_eq!(with_stack.count(), threads.threads.len() - 1);
    }
    release(&mut zoo);
}

/// Goal: a stack pointer or an instruction pointer that leads into the environment doesn't bring it into the dump.
#[test]
fn pointers_into_the_environment_bring_nothing() {
    let (zoo, mut published) = start("write");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", zoo.pid())).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let environment: u64 = fields[50 - 3].parse().unwrap();
    let (sp_at, ip_at) = if cfg!(target_arch = "x86_64") { (15, 16) } else { (31, 32) };
    for offset in [0_u64, 64, 1 << 12] {
        published.general[sp_at] = environment + offset - 200;
        published.general[ip_at] = environment + offset;
        let dump = dump_of(&published.request(&zoo));
        assert!(!contains(&dump.bytes, SECRET));
        assert!(!contains(&dump.bytes, "ZOO_TOKEN"));
    }
}

/// Goal: the crashing thread is never stopped.
#[test]
fn the_crashing_thread_runs_on() {
    let (mut zoo, published) = start("write");
    let (pid, tid) = (zoo.pid(), published.tid);
    let seen = AtomicI32::new(0);
    let probe = |step: Step| {
        if matches!(step, Step::Seized | Step::Stopped | Step::StacksCopied) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap();
            let stopped = status.contains("State:\tt") || status.contains("State:\tT");
            assert!(!stopped && status.contains("TracerPid:\t0"), "{step:?} {status}");
            seen.fetch_add(1, Ordering::SeqCst);
        }
    };
    let mut request = published.request(&zoo);
    request.probe = Some(&probe);
    zoo::capture(&request).unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    release(&mut zoo);
}

/// A target whose main thread ends before another thread crashes.
pub(crate) fn leaderless_target() {
    calls::on_crash(handler);
    std::thread::spawn(|| {
        calls::large_signal_stack();
        let own = std::process::id();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{own}/stat")).unwrap();
            if stat.contains(") Z ") {
                break;
            }
            std::thread::yield_now();
        }
        calls::write_to(8);
    });
    // Tests run on a thread of their own, so it takes a signal to end the main thread.
    let pid = std::process::id() as i32;
    calls::on_signal(libc::SIGUSR1, end_thread);
    calls::send(pid, pid, libc::SIGUSR1);
    loop {
        std::thread::park();
    }
}

extern "C" fn end_thread(_signal: i32) {
    calls::exit_thread();
}

/// Goal: a process whose main thread is gone is dumped as any other.
#[test]
fn a_process_without_its_main_thread_is_dumped() {
    let mut zoo = Zoo::start("leaderless");
    let published = Published::read(&mut zoo);
    assert!(std::fs::read(format!("/proc/{}/maps", zoo.pid())).unwrap_or_default().is_empty());
    let dump = dump_of(&published.request(&zoo));
    assert_eq!(dump.soft_errors(), "");
    assert!(dump.stack(published.tid).is_some());
    assert_eq!(dump.threads().threads.len(), zoo.states().len() - 1);
    let modules = dump.modules();
    assert_eq!(
        modules.main_module().unwrap().code_file(),
        std::env::current_exe().unwrap().to_str().unwrap()
    );
    assert!(!contains(&dump.bytes, SECRET));
    // As is a living one.
    let dump = Dump::parse(zoo::capture(&Request::new(zoo.pid())).unwrap().encode());
    assert_eq!(dump.soft_errors(), "");
    assert!(dump.stack(published.tid).is_some() && dump.context(published.tid).is_some());
    assert!(dump.modules().main_module().is_some());
    release(&mut zoo);
}

/// Goal: a thread that isn't the process's own isn't dumped, whatever the target says.
#[test]
fn a_foreign_thread_is_refused() {
    let (zoo, mut published) = start("write");
    published.tid = gettid();
    let error = zoo::capture(&published.request(&zoo)).unwrap_err();
    assert!(error.is_gone() && !error.is_unsupported());
    published.tid = -1;
    assert!(!zoo::capture(&published.request(&zoo)).unwrap_err().is_gone());
    assert_eq!(
        zoo::capture(&Request::new(0)).unwrap_err().to_string(),
        "dump process 0: not the id of a process"
    );
    let mut ended = zoo;
    ended.kill();
    ended.wait();
    assert!(zoo::capture(&Request::new(ended.pid())).unwrap_err().is_gone());
}
