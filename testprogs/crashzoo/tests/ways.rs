//! Every way to die: the exit status that it would have had without us, the report, and the next life.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;

use common::{Report, Scene};

/// `si_code` values of sigaction(2).
const SEGV_MAPERR: i32 = 1;
const SI_USER: i32 = 0;
const SI_TKILL: i32 = -6;

/// What is expected of one way to die.
struct Way {
    name: &'static str,
    signal: i32,
    /// `si_code`, where it is always the same.
    code: Option<i32>,
    /// The address, where it is known.
    address: Option<u64>,
}

const fn way(name: &'static str, signal: i32, code: Option<i32>, address: Option<u64>) -> Way {
    Way { name, signal, code, address }
}

const CRASHES: [Way; 12] = [
    way("null-write", libc::SIGSEGV, Some(SEGV_MAPERR), Some(0)),
    way("null-call", libc::SIGSEGV, Some(SEGV_MAPERR), Some(0)),
    way("bad-stack", libc::SIGSEGV, None, None),
    way("abort", libc::SIGABRT, Some(SI_TKILL), Some(0)),
    way("ill", libc::SIGILL, None, None),
    way("fpe", libc::SIGFPE, None, None),
    way("bus", libc::SIGBUS, None, None),
    way("trap", libc::SIGTRAP, None, None),
    way("sys", libc::SIGSYS, None, None),
    way("stack-overflow", libc::SIGSEGV, None, None),
    way("panic-abort", libc::SIGABRT, None, None),
    way("malloc-locked", libc::SIGSEGV, None, None),
];

/// Runs a way on a thread and checks everything that all crashes have in common.
fn dies_truly(way: &Way, thread: &str, topology: &str) -> (Scene, Report) {
    let scene = Scene::new();
    let arguments = ["--topology", topology, "--wait-ready", "--thread", thread, "--threads", "3"];
    let ended = scene.run_lives(&[&arguments[..], &[way.name]].concat(), 2);
    let name = format!("{} on {thread}, {topology}", way.name);
    if topology == "guard-first" {
        // The process that was started stays until the last life's end.
        assert_eq!(ended.code(), Some(0), "{name}: {ended:?}");
    } else {
        assert_eq!(ended.signal(), Some(way.signal), "{name}: {ended:?}");
    }
    let mains = scene.events("main");
    assert_eq!(mains.len(), 2, "{name}: one restart: {:#?}", scene.trace());
    let report = scene.report();
    let next = &mains[1];
    assert_eq!(next.incarnation, Some(1), "{name}");
    assert_eq!(next.last_exit_class, Some(format!("crash:{}", way.signal)), "{name}");
    assert_eq!(next.last_report.as_deref(), report.json["id"].as_str(), "{name}");
    assert_eq!(report.exit_class(), ("crash".into(), Some(i64::from(way.signal))), "{name}");
    assert_eq!(report.json["soft_errors"], serde_json::json!([]), "{name}");
    let (signal, code, address, tid) = report.exception();
    assert_eq!(signal, way.signal, "{name}");
    assert!(way.code.is_none_or(|expected| expected == code), "{name}: code {code}");
    assert!(way.address.is_none_or(|expected| expected == address), "{name}: {address:#x}");
    assert_eq!(report.json["crash"]["thread"].as_u64(), Some(u64::from(tid)), "{name}");
    let on_main = tid == mains[0].pid;
    assert_eq!(on_main, thread == "main", "{name}: thread {tid} of {}", mains[0].pid);
    assert_eq!(mains[0].pid == ended.pid, topology != "guard-first", "{name}");
    assert_eq!(report.json["late_guard"], topology == "at-crash", "{name}");
    assert!(report.thread_count() >= 5, "{name}: {} threads", report.thread_count());
    let order = [
        "crash_seen",
        "threads_stopped",
        "threads_released",
        "dump_finished",
        "worker_released",
        "full_exit",
        "restarted",
    ];
    let moments: Vec<u64> = order.iter().map(|name| report.moment(name)).collect();
    assert!(moments[..5].is_sorted(), "{name}: {:#}", report.json["timeline"]);
    assert!(moments[4] <= moments[5].min(moments[6]), "{name}: {:#}", report.json["timeline"]);
    (scene, report)
}

// Goal: each crash on the main thread keeps its signal, code and address, is dumped, and is followed by one next life.
#[test]
fn crashes_on_the_main_thread() {
    for way in &CRASHES {
        dies_truly(way, "main", "worker-first");
    }
}

// Goal: the same on a thread of the standard library's.
#[test]
fn crashes_on_a_std_thread() {
    for way in &CRASHES {
        dies_truly(way, "std", "worker-first");
    }
}

// Goal: the same on a thread that the library knows nothing of but one call.
#[test]
fn crashes_on_a_foreign_thread() {
    for way in &CRASHES {
        dies_truly(way, "foreign", "worker-first");
    }
}

// Goal: the same where the guard stands before the application, and where it comes only for the crash.
#[test]
fn crashes_with_the_guard_in_front() {
    for way in &CRASHES {
        for thread in ["main", "std", "foreign"] {
            dies_truly(way, thread, "guard-first");
        }
    }
}

#[test]
fn crashes_with_no_guard_before_them() {
    for way in &CRASHES {
        for thread in ["main", "std", "foreign"] {
            dies_truly(way, thread, "at-crash");
        }
    }
}

// Goal: without another life, the process in front ends as the application below it has ended.
#[test]
fn a_front_ends_as_its_worker() {
    for way in &CRASHES {
        let scene = Scene::new();
        let options = ["--topology", "guard-first", "--restart", "never", "--wait-ready"];
        let ended = scene.run(&[&options[..], &[way.name]].concat());
        assert_eq!(ended.signal(), Some(way.signal), "{}: {ended:?}", way.name);
        assert_eq!(scene.report().exception().0, way.signal, "{}", way.name);
    }
}

// Goal: whoever else lives in the program, with or without a resident guard, on any thread and on a small alternate stack: the true signal, one report, and every handler has its say.
#[test]
fn whoever_else_lives_in_the_program() {
    // As much as the standard library leaves of its own beside the largest frames of this processor.
    const SMALL_STACK: [&str; 2] = ["--small-stack", "5000"];
    const KINDS: [(&str, i32); 7] = [
        ("null-write", libc::SIGSEGV),
        ("abort", libc::SIGABRT),
        ("ill", libc::SIGILL),
        ("fpe", libc::SIGFPE),
        ("bus", libc::SIGBUS),
        ("trap", libc::SIGTRAP),
        ("sys", libc::SIGSYS),
    ];
    for (way, signal) in KINDS {
        for topology in ["worker-first", "at-crash"] {
            for foreign in ["none", "before", "after"] {
                for small_stack in [&[][..], &SMALL_STACK] {
                    for thread in ["main", "std"] {
                        let name = format!("{way} {topology} {foreign} {small_stack:?} {thread}");
                        let scene = Scene::new();
                        let options = ["--restart", "never", "--wait-ready"];
                        let place =
                            ["--topology", topology, "--foreign", foreign, "--thread", thread];
                        let mut arguments = [&options[..], &place].concat();
                        arguments.extend(small_stack);
                        arguments.push(way);
                        let ended = scene.run(&arguments);
                        // These two don't repeat: a handler that returns from them has handled them, with us and without.
                        if foreign == "before" && matches!(way, "trap" | "sys") {
                            assert_eq!(ended.code(), Some(70), "{name}: {ended:?}");
                            assert!(scene.reports().iter().all(|it| it.dump.is_none()), "{name}");
                            assert_eq!(scene.events("foreign-handler").len(), 1, "{name}");
                            continue;
                        }
                        assert_eq!(ended.signal(), Some(signal), "{name}: {ended:?}");
                        let report = scene.report();
                        assert_eq!(report.exception().0, signal, "{name}");
                        let calls = scene.events("foreign-handler").len();
                        // One that was there before is asked first and ends the program last; one that came later stands before us.
                        match foreign {
                            "none" => assert_eq!(calls, 0, "{name}"),
                            "before" => assert_eq!(calls, 2, "{name}"),
                            _ => assert!(calls >= 1, "{name}"),
                        }
                    }
                }
            }
        }
    }
}

// Goal: an alternate stack that is too small for any handler costs the report at most, and never the end.
#[test]
fn too_small_a_stack_is_no_endless_loop() {
    // Code that isn't optimised needs a few hundred bytes to see that there are none.
    for room in ["512", "1024", "2048", "3072"] {
        for foreign in ["none", "before", "after"] {
            let scene = Scene::new();
            let options = ["--restart", "never", "--wait-ready", "--thread", "std"];
            let stack = ["--small-stack", room, "--foreign", foreign, "null-write"];
            let ended = scene.run(&[&options[..], &stack].concat());
            assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{room} {foreign}: {ended:?}");
        }
    }
}

// Goal: the module at fault is named, and an overflow is known as one and stays small.
#[test]
fn an_overflow_is_known_and_small() {
    let (_scene, report) = dies_truly(&CRASHES[9], "main", "worker-first");
    let flags = report.json["crash"]["flags"].as_array().expect("flags");
    assert!(flags.iter().any(|flag| flag == "near_stack_pointer"), "{flags:?}");
    let bytes = report.json["minidump"]["bytes"].as_u64().expect("a size");
    assert!(bytes < 400_000, "an overflow of 8 MiB gives {bytes} bytes");
    let module = report.crash_module().expect("a module at the fault");
    assert!(module.ends_with("crashzoo"), "{module}");
}

// Goal: who has the dump of an overflow on the main thread, and the files, sees the recursion at one end of the stack and `main` at the other.
#[test]
fn an_overflow_shows_its_main_function() {
    let (_scene, report) = dies_truly(&CRASHES[9], "main", "worker-first");
    let bytes = std::fs::read(report.dump.as_ref().expect("a dump")).expect("the dump");
    let processed = readers::Processed::with_files(&bytes).expect("other people read it");
    let near = processed.crash_frames();
    let is_recursion = |frame: &readers::Frame| frame.function == "crashzoo::ways::dig";
    assert!(near.iter().filter(|frame| is_recursion(frame)).count() > 10, "{near:#?}");
    // A walk that begins at the first return address of the far piece of the stack, since none crosses the hole.
    let far = processed.far_frames(&bytes).expect("the far end");
    let begun = far.iter().rposition(is_recursion).expect("the recursion's beginning");
    let outer = |name: &str| far[begun..].iter().position(|frame| frame.function == name);
    let places = ["crashzoo::ways::stack_overflow", "crashzoo::main", "main"].map(outer);
    assert!(places[0].is_some() && places.is_sorted(), "{far:#?}");
}

// Goal: the application chooses how much of an endless stack its dump holds.
#[test]
fn the_size_of_a_dump_is_chosen() {
    for (size, stack_bytes) in [("small", 64 << 10), ("standard", 128 << 10), ("large", 1 << 20)] {
        let scene = Scene::new();
        scene.run(&["--restart", "never", "--wait-ready", "--dump-size", size, "stack-overflow"]);
        // Beside that stack there is a page around the instruction pointer, and what the sleeping keeper's stack holds.
        let bytes = scene.report().memory_bytes();
        assert!((stack_bytes..stack_bytes + (16 << 10)).contains(&bytes), "{size}: {bytes} bytes");
    }
}

// Goal: a signal that another process sent ends the worker, which a runtime's own handler swallows, and the report says who.
#[test]
fn a_sent_signal_ends_the_worker() {
    let scene = Scene::new();
    let ended = scene.run(&["--wait-ready", "kill-segv"]);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV));
    let report = scene.report();
    let (signal, code, address, _) = report.exception();
    assert_eq!((signal, code, address), (libc::SIGSEGV, SI_USER, 0));
    assert_eq!(report.json["crash"]["sender_pid"].as_u64(), Some(u64::from(ended.pid)));
}
