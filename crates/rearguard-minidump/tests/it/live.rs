//! Dumps of living processes.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use minidump::{MinidumpLinuxMaps, MinidumpMemoryInfoList, Module};
use rearguard_minidump::{Request, Step, UserStream};

use crate::calls::{self, gettid};
use crate::reading::Dump;
use crate::zoo::{self, SECRET, Zoo, command, contains, say};

/// What each thread of the target has on its stack.
const MARK: u64 = 0x5eed_ab1e_0dd5_0cc5;

/// A target with `count` more threads, which end when they are told, and begin again.
pub(crate) fn target(count: usize) {
    loop {
        let begin = Arc::new(Barrier::new(count + 1));
        let end = Arc::new(Barrier::new(count + 1));
        let threads: Vec<_> = (0..count)
            .map(|index| {
                let (begin, end) = (begin.clone(), end.clone());
                let body = move || {
                    let mark = std::hint::black_box([MARK; 4]);
                    say(&format!("thread {} {:x}", gettid(), mark.as_ptr() as usize));
                    begin.wait();
                    end.wait();
                    std::hint::black_box(&mark);
                };
                std::thread::Builder::new().name(format!("worker-{index}")).spawn(body).unwrap()
            })
            .collect();
        begin.wait();
        say("ready");
        assert_eq!(command(), "ping");
        end.wait();
        for thread in threads {
            thread.join().unwrap();
        }
        say("pong");
    }
}

/// Starts the target; returns thread ids and addresses of their marks.
pub(crate) fn start(count: usize) -> (Zoo, Vec<(i32, u64)>) {
    let mut zoo = Zoo::start(&format!("threads {count}"));
    let threads = ready(&mut zoo);
    assert_eq!(threads.len(), count);
    (zoo, threads)
}

/// A target with a few threads, and between its main thread's number and theirs those of other threads that live.
pub(crate) fn with_strangers(test: impl FnOnce(&Zoo, &[(i32, u64)])) {
    let mut zoo = Zoo::start("late-threads 4");
    assert_eq!(zoo.answer(), ["alone"]);
    let end = Arc::new(Barrier::new(101));
    let strangers: Vec<_> = (0..100)
        .map(|_| {
            let end = end.clone();
            std::thread::spawn(move || end.wait())
        })
        .collect();
    zoo.tell("go");
    let threads = ready(&mut zoo);
    test(&zoo, &threads);
    end.wait();
    for stranger in strangers {
        stranger.join().unwrap();
    }
    ping(&mut zoo);
}

fn ready(zoo: &mut Zoo) -> Vec<(i32, u64)> {
    let mut threads = Vec::new();
    loop {
        let words = zoo.answer();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["thread", tid, mark] => {
                threads.push((tid.parse().unwrap(), u64::from_str_radix(mark, 16).unwrap()))
            }
            ["ready"] => return threads,
            ref other => panic!("the target says {other:?}"),
        }
    }
}

/// The target does what it is told, with all of its threads.
pub(crate) fn ping(zoo: &mut Zoo) {
    zoo.assert_runs();
    zoo.tell("ping");
    assert_eq!(zoo.answer(), ["pong"]);
    ready(zoo);
}

/// Goal: threads whose ids are far from the main thread's are found as well.
#[test]
fn threads_far_apart_are_all_there() {
    with_strangers(|zoo, threads| {
        let dump = Dump::parse(zoo::capture(&Request::new(zoo.pid())).unwrap().encode());
        assert_eq!(dump.thread_ids(), zoo.thread_ids());
        for (tid, _) in threads {
            assert!(dump.stack(*tid).is_some() && dump.context(*tid).is_some());
        }
    });
}

/// Goal: a dump of a living process describes every thread, and the process goes on as if nothing had been.
#[test]
fn every_thread_has_name_registers_and_stack() {
    let (mut zoo, threads) = start(5);
    let request = Request::new(zoo.pid());
    let capture = zoo::capture(&request).unwrap();
    assert_eq!(capture.thread_count(), zoo.states().len());
    let (bytes, times) = capture.finish();
    assert!(0 < times.first_stop_ns && times.first_stop_ns <= times.threads_stopped_ns);
    assert!(times.threads_stopped_ns <= times.threads_released_ns);
    let dump = Dump::parse(bytes);
    assert_eq!(dump.soft_errors(), "");
    assert_eq!(dump.threads().threads.len(), zoo.states().len());
    for (index, (tid, mark)) in threads.iter().enumerate() {
        // The target counts its threads in the order of their making, and they answer in any order.
        let names = dump.names();
        let name = names.get_name(*tid as u32).unwrap();
        assert!(name.starts_with("worker-"), "{index} {name}");
        let context = dump.context(*tid).unwrap();
        let (start, stack) = dump.stack(*tid).unwrap();
        let end = start + stack.len() as u64;
        assert!((start..end).contains(&context.get_stack_pointer()));
        assert!((start..end).contains(mark));
        let at = (mark - start) as usize;
        assert_eq!(stack[at..at + 8], MARK.to_le_bytes());
        let modules = dump.modules();
        let code = modules.module_at_address(context.get_instruction_pointer()).unwrap();
        assert!(
            code.code_file().contains("libc") || code.code_file().contains("musl"),
            "{}",
            code.code_file()
        );
    }
    ping(&mut zoo);
}

/// Goal: the streams that readers expect of a Linux dump are there and right.
#[test]
fn system_process_modules_and_texts_are_right() {
    let (mut zoo, _) = start(1);
    let annotations = [("product", "zoo"), ("ünicode", "wërt \"quoted\""), ("empty", "")];
    let user_streams = [UserStream { stream_type: 0x5247_0001, bytes: b"log tail" }];
    let request = Request {
        annotations: &annotations,
        user_streams: &user_streams,
        ..Request::new(zoo.pid())
    };
    let dump = Dump::parse(zoo::capture(&request).unwrap().encode());

    assert_eq!(dump.misc().raw.process_id().copied(), Some(zoo.pid() as u32));
    let age = std::time::SystemTime::now()
        .duration_since(dump.misc().process_create_time().unwrap())
        .unwrap();
    assert!(age.as_secs() < 60, "{age:?}");
    let system = dump.system();
    assert_eq!(system.os, minidump::system_info::Os::Linux);
    assert!(system.csd_version().unwrap().starts_with("Linux "));
    if cfg!(target_arch = "x86_64") {
        let info = system.cpu_info().unwrap();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let field = |key: &str| {
            let line =
                cpuinfo.lines().find(|line| line.split(':').next().unwrap().trim() == key).unwrap();
            line.split(": ").nth(1).unwrap().to_owned()
        };
        let expected = format!(
            "family {} model {} stepping {}",
            field("cpu family"),
            field("model"),
            field("stepping")
        );
        assert_eq!(info, expected);
        assert_eq!(system.raw.cpu.data[..12], *field("vendor_id").as_bytes());
    }

    let info: minidump::MinidumpCrashpadInfo = dump.dump.get_stream().unwrap();
    assert_eq!(info.simple_annotations.len(), 3);
    for (key, value) in annotations {
        assert_eq!(info.simple_annotations[key], value);
    }
    assert_eq!(dump.dump.get_raw_stream(0x5247_0001).unwrap(), b"log tail");
    let maps: MinidumpLinuxMaps = dump.dump.get_stream().unwrap();
    assert!(maps.iter().count() > 10);
    let regions: MinidumpMemoryInfoList = dump.dump.get_stream().unwrap();
    assert!(regions.iter().count() > 10);
    let auxv = std::fs::read(format!("/proc/{}/auxv", zoo.pid())).unwrap();
    assert_eq!(dump.dump.get_raw_stream(0x4767_0008).unwrap(), auxv);
    let status: minidump::MinidumpLinuxProcStatus = dump.dump.get_stream().unwrap();
    assert!(status.iter().any(|(key, value)| key.as_bytes() == b"Pid"
        && value.as_bytes() == zoo.pid().to_string().as_bytes()));
    let cpus: minidump::MinidumpLinuxCpuInfo = dump.dump.get_stream().unwrap();
    assert!(cpus.iter().count() > 3);
    // The linker's list; a static executable has no linker.
    let debug = dump.dump.get_raw_stream(0x4767_000a);
    if cfg!(target_feature = "crt-static") {
        assert!(debug.is_err());
    } else {
        let debug = debug.unwrap();
        let count = u32::from_le_bytes(debug[8..12].try_into().unwrap());
        assert!((3..100).contains(&count), "{count}");
    }
    ping(&mut zoo);
}

/// Goal: modules carry the build id that the file has, and the executable is the first.
#[test]
fn the_executable_is_first_and_has_its_build_id() {
    let (mut zoo, _) = start(0);
    let dump = Dump::parse(zoo::capture(&Request::new(zoo.pid())).unwrap().encode());
    let modules = dump.modules();
    let main = modules.main_module().unwrap();
    let executable = std::env::current_exe().unwrap();
    assert_eq!(main.code_file(), executable.to_str().unwrap());
    let build_id = main.code_identifier().expect("the linker gave a build id").to_string();
    let readelf = std::process::Command::new("readelf").arg("-n").arg(&executable).output();
    if let Ok(readelf) = readelf {
        let text = String::from_utf8_lossy(&readelf.stdout).into_owned();
        assert!(text.contains(&format!("Build ID: {build_id}")), "{build_id} isn't in {text}");
    }
    let file = std::fs::read(&executable).unwrap();
    let bytes: Vec<u8> = (0..build_id.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&build_id[at..at + 2], 16).unwrap())
        .collect();
    let note =
        [&b"\x04\0\0\0"[..], &(bytes.len() as u32).to_le_bytes(), b"\x03\0\0\0GNU\0", &bytes]
            .concat();
    assert!(file.windows(note.len()).any(|window| window == note));
    assert!(modules.iter().any(|module| module.code_file() == "linux-gate.so"));
    for module in modules.iter() {
        assert!(module.code_identifier().is_some(), "{}", module.code_file());
    }
    ping(&mut zoo);
}

/// Goal: neither the environment nor the command line is in the dump, though both lie on the main thread's stack.
#[test]
fn environment_and_command_line_stay_out() {
    let (mut zoo, _) = start(2);
    let bytes = zoo::capture(&Request::new(zoo.pid())).unwrap().encode();
    let dump = Dump::parse(bytes);
    assert!(!contains(&dump.bytes, SECRET));
    assert!(!contains(&dump.bytes, "--nocapture"));
    // That they would be in it without care: they lie within the limit for a stack.
    let (start, stack) = dump.stack(zoo.pid()).unwrap();
    let memory = std::fs::File::open(format!("/proc/{}/mem", zoo.pid())).unwrap();
    let mut near = vec![0; stack.len() + 32 * 1024];
    let got = std::os::unix::fs::FileExt::read_at(&memory, &mut near, start).unwrap();
    assert!(contains(&near[..got], SECRET));
    ping(&mut zoo);
}

/// Goal: a thread that is exempt isn't stopped, and is described as far as that goes.
#[test]
fn an_exempt_thread_keeps_running() {
    let (mut zoo, threads) = start(2);
    // On their way to where they wait they still run.
    zoo.wait_states('S');
    let exempt = threads[0].0;
    let pid = zoo.pid();
    let probe = |step: Step| {
        if step == Step::Stopped {
            let state = |tid: i32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap();
                stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
            };
            assert_eq!(state(exempt), 'S');
            assert_eq!(state(threads[1].0), 't');
        }
    };
    let request = Request { exempt: &[exempt], probe: Some(&probe), ..Request::new(pid) };
    let dump = Dump::parse(zoo::capture(&request).unwrap().encode());
    assert_eq!(dump.soft_errors(), "");
    assert_eq!(dump.threads().threads.len(), zoo.states().len());
    // A waiting thread's pointers are known without a stop.
    let context = dump.context(exempt).unwrap();
    let (start, stack) = dump.stack(exempt).unwrap();
    assert!((start..start + stack.len() as u64).contains(&context.get_stack_pointer()));
    ping(&mut zoo);
}

/// Goal: a process that job control has stopped is dumped, stays stopped, and goes on when it is told.
#[test]
fn a_stopped_process_stays_stopped() {
    let (mut zoo, threads) = start(2);
    calls::send(zoo.pid(), zoo.pid(), libc::SIGSTOP);
    zoo.wait_states('T');
    let dump = Dump::parse(zoo::capture(&Request::new(zoo.pid())).unwrap().encode());
    assert_eq!(dump.soft_errors(), "");
    assert!(dump.stack(threads[0].0).is_some() && dump.context(threads[1].0).is_some());
    zoo.wait_states('T');
    calls::send(zoo.pid(), zoo.pid(), libc::SIGCONT);
    ping(&mut zoo);
}

static TAKEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn take(_signal: i32) {
    TAKEN.fetch_add(1, Ordering::SeqCst);
}

/// A target whose one more thread counts the real-time signals that it gets.
pub(crate) fn signals_target() {
    calls::on_signal(libc::SIGRTMIN(), take);
    std::thread::spawn(|| {
        say(&format!("thread {}", gettid()));
        loop {
            std::thread::park();
        }
    });
    loop {
        let wanted: u32 = command().parse().unwrap();
        while TAKEN.load(Ordering::SeqCst) < wanted {
            std::thread::yield_now();
        }
        say(&format!("taken {}", TAKEN.load(Ordering::SeqCst)));
    }
}

/// Goal: a signal that comes while a dump is taken is neither lost nor doubled, wherever it hits.
#[test]
fn no_signal_is_lost() {
    let mut zoo = Zoo::start("signals");
    let tid: i32 = zoo.answer()[1].parse().unwrap();
    let pid = zoo.pid();
    let mut sent = 0;
    for round in 0..20 {
        for step in Step::ALL {
            let probe = |here: Step| {
                if here == step {
                    calls::send(pid, tid, libc::SIGRTMIN());
                }
            };
            let request = Request { probe: Some(&probe), ..Request::new(pid) };
            zoo::capture(&request).unwrap().encode();
            sent += 1;
            if round % 2 == 0 {
                zoo.tell(&sent.to_string());
                assert_eq!(zoo.answer(), ["taken", &sent.to_string()], "after {step:?}");
            }
        }
    }
    zoo.tell(&sent.to_string());
    assert_eq!(zoo.answer(), ["taken", &sent.to_string()]);
    zoo.assert_runs();
}

/// A target with a thread that sleeps in vfork, where no tracer reaches it.
pub(crate) fn vfork_target() {
    let (until, mut tell) = std::io::pipe().unwrap();
    std::thread::spawn(move || {
        say(&format!("thread {}", gettid()));
        calls::vfork_until_readable(until.as_fd());
        say("done");
    });
    assert_eq!(command(), "go on");
    tell.write_all(&[0]).unwrap();
    command();
}

/// Goal: a thread that can't be stopped costs its own registers, a bounded time, and nothing else; it isn't traced afterwards.
#[test]
fn a_thread_that_cannot_stop_is_let_go() {
    let mut zoo = Zoo::start("vfork");
    let tid: i32 = zoo.answer()[1].parse().unwrap();
    let start = std::time::Instant::now();
    while !zoo.states().contains(&(tid, 'D')) {
        assert!(start.elapsed() < crate::zoo::DEADLINE);
        std::thread::yield_now();
    }
    let mut request = Request::new(zoo.pid());
    request.limits.stop_wait_ms_max = 50;
    let start = std::time::Instant::now();
    let capture = zoo::capture(&request).unwrap();
    assert!(start.elapsed().as_millis() < 2000, "{:?}", start.elapsed());
    let dump = Dump::parse(capture.encode());
    let expected = format!("[{{\"operation\":\"stop thread\",\"thread\":{tid},\"errno\":110}}]");
    assert_eq!(dump.soft_errors(), expected);
    assert!(dump.context(tid).is_some(), "its pointers are known all the same");
    zoo.assert_runs();

    // Also where it is the only thread that was to be stopped.
    let pid = zoo.pid();
    let traced = AtomicU32::new(u32::MAX);
    let probe = |step: Step| {
        if step == Step::Released {
            let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap();
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap();
            traced.store(tracer.trim().parse().unwrap(), Ordering::SeqCst);
        }
    };
    let exempt = [pid];
    let mut request = Request { probe: Some(&probe), exempt: &exempt, ..request };
    request.limits.stop_wait_ms_max = 50;
    zoo::capture(&request).unwrap().encode();
    assert_eq!(traced.into_inner(), 0, "nobody traces it any more");
    zoo.tell("go on");
    assert_eq!(zoo.answer(), ["done"]);
}
