//! Every way to end that is no plain crash: exit codes, panics, signals from outside, and the faults that a handler of ours or of somebody else's has a part in.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;

use std::io::Read;

use common::{Ended, PATIENCE, Report, Scene, TOPOLOGIES, kill, pidfd, state, wait_gone};
use minidump::{MinidumpException, MinidumpModuleList, MinidumpSystemInfo, Module};
use serde_json::json;

/// `si_code` of sigaction(2).
const SEGV_ACCERR: i32 = 2;

/// What the zoo says when it panics.
const PANIC_MESSAGE: &str = "crashzoo panics as it was asked to";

/// Checks that a life ended without a report and without another life, and that nobody stays behind, wherever the guard stands.
/// What is more than that is to be looked for in the scene with a guard behind the worker, which is returned.
fn ends_quietly(way: &str) -> (Scene, Ended) {
    let [behind, at_crash, in_front] = TOPOLOGIES;
    ends_quietly_in(at_crash, way);
    ends_quietly_in(in_front, way);
    ends_quietly_in(behind, way)
}

fn ends_quietly_in(topology: &str, way: &str) -> (Scene, Ended) {
    let scene = Scene::new();
    let ended = scene.run(&["--topology", topology, "--wait-ready", way]);
    assert_eq!(ended.code(), Some(0), "{way}, {topology}: {ended:?}");
    assert_eq!(scene.events("main").len(), 1, "{way}, {topology}: {:#?}", scene.trace());
    let reports = scene.reports();
    assert!(reports.is_empty(), "{way}, {topology}: {reports:#?}");
    (scene, ended)
}

/// Checks that a life ended by this signal, was dumped, and was followed by one more life, wherever the guard stands.
/// What is more than that is to be looked for in the scene with a guard behind the worker, which is returned.
fn crashes(arguments: &[&str], signal: i32) -> (Scene, Ended, Report) {
    let [behind, at_crash, in_front] = TOPOLOGIES;
    crashes_in(at_crash, arguments, signal);
    crashes_in(in_front, arguments, signal);
    crashes_in(behind, arguments, signal)
}

fn crashes_in(topology: &str, arguments: &[&str], signal: i32) -> (Scene, Ended, Report) {
    let scene = Scene::new();
    let arguments = [&["--topology", topology, "--wait-ready"], arguments].concat();
    let ended = scene.run_lives(&arguments, 2);
    ended.check(topology, signal, &format!("{arguments:?}"));
    let report = scene.report();
    assert_eq!(report.exit_class(), ("crash".into(), Some(i64::from(signal))), "{arguments:?}");
    assert_eq!(report.exception().0, signal, "{arguments:?}");
    assert_eq!(report.decision(), (true, "worker crashed".into()), "{arguments:?}");
    assert_eq!(report.json["soft_errors"], json!([]), "{arguments:?}");
    (scene, ended, report)
}

/// Checks a report that stays here: no dump, nothing to deliver.
fn is_kept_for_the_user(report: &Report) {
    assert_eq!(report.stage, "completed", "{:#}", report.json);
    assert_eq!(report.json["delivery"]["state"], "skipped", "{:#}", report.json);
    assert_eq!(report.json["crash"], json!(null), "{:#}", report.json);
    assert_eq!(report.json["minidump"], json!(null), "{:#}", report.json);
    assert!(report.dump.is_none(), "{:?}", report.dump);
    assert!(report.moment("full_exit") > 0);
}

fn flags(report: &Report) -> Vec<String> {
    let flags = report.json["crash"]["flags"].as_array().expect("flags");
    flags.iter().map(|flag| flag.as_str().expect("a flag is text").to_owned()).collect()
}

// Goal: a clean end leaves nothing: no report, no next life, no guard.
#[test]
fn a_clean_end_leaves_nothing() {
    let (scene, ended) = ends_quietly("none");
    assert_eq!(ended.stderr, "", "nothing is said");
    assert_eq!(scene.events("dying").len(), 0);
}

// Goal: an exit code is recorded without a dump, stays with the user, and starts nothing by default.
#[test]
fn an_exit_code_is_recorded_only() {
    let scene = Scene::new();
    let ended = scene.run(&["--wait-ready", "exit-3"]);
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    assert_eq!(scene.events("main").len(), 1, "{:#?}", scene.trace());
    let report = scene.report();
    is_kept_for_the_user(&report);
    assert_eq!(report.exit_class(), ("code".into(), Some(3)));
    let reason = "exit code, and policy restarts after crashes only";
    assert_eq!(report.decision(), (false, reason.into()));
}

// Goal: a tool whose reader has enough, as in front of `head`, ends with the runtime's panic and yet is no crash: not restarted, not sent.
#[test]
fn the_end_of_a_pipe_is_no_crash() {
    let scene = Scene::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = scene.zoo(&["--wait-ready", "broken-pipe"]);
    let child = command.stdout(writer).spawn().expect("the zoo starts");
    drop((command, reader));
    let ended = scene.finish(child);
    scene.settle();
    assert_eq!(ended.code(), Some(101), "{ended:?}");
    assert_eq!(scene.events("main").len(), 1, "{:#?}", scene.trace());
    let report = scene.report();
    is_kept_for_the_user(&report);
    assert_eq!(report.json["panic"], serde_json::Value::Null);
}

// Goal: who asks for a restart after every end gets it after an exit code too, and the next life knows how the last one ended.
#[test]
fn an_exit_code_restarts_when_asked() {
    let scene = Scene::new();
    let always = ["--wait-ready", "--restart", "always", "--lives", "2", "--in-a-row", "3"];
    let ended = scene.run_lives(&[&always[..], &["exit-3"]].concat(), 3);
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    let mains = scene.events("main");
    let classes: Vec<_> = mains.iter().map(|line| line.last_exit_class.as_deref()).collect();
    assert_eq!(classes, [None, Some("code:3"), Some("code:3")], "{:#?}", scene.trace());
    let reports = scene.reports();
    assert_eq!(reports.len(), 2, "the third life ended well: {reports:#?}");
    for (report, next) in reports.iter().zip(&mains[1..]) {
        is_kept_for_the_user(report);
        assert_eq!(report.exit_class(), ("code".into(), Some(3)));
        assert_eq!(report.decision(), (true, "policy restarts after every end".into()));
        assert_eq!(next.last_report.as_deref(), report.json["id"].as_str());
    }
}

/// Runs a panic that ends the program with 101.
fn panics(thread: &str, thread_name: &str) {
    let scene = Scene::new();
    let ended = scene.run_lives(&["--wait-ready", "--thread", thread, "panic"], 2);
    assert_eq!(ended.code(), Some(101), "{thread}: {ended:?}");
    assert!(ended.stderr.contains(PANIC_MESSAGE), "the hook before ours runs too: {ended:?}");
    let mains = scene.events("main");
    assert_eq!(mains[1].last_exit_class.as_deref(), Some("code:101"), "{thread}");
    let report = scene.report();
    assert_eq!(mains[1].last_report.as_deref(), report.json["id"].as_str(), "{thread}");
    assert_eq!(report.exit_class(), ("code".into(), Some(101)), "{thread}");
    assert_eq!(report.decision(), (true, "worker panicked".into()), "{thread}");
    assert_eq!(report.stage, "pending", "a panic is worth a delivery: {:#}", report.json);
    let panic = &report.json["panic"];
    assert_eq!(panic["message"], PANIC_MESSAGE, "{thread}");
    assert_eq!(panic["thread"], thread_name, "{thread}");
    assert_eq!(panic["count"], 1, "{thread}");
    let location = panic["location"].as_str().expect("a location");
    assert!(location.contains("src/panics.rs:"), "{thread}: {location}");
}

// Goal: a panic that ends the program is recorded with message, place and thread, and is followed by a next life.
#[test]
fn a_panic_is_recorded_and_followed() {
    panics("main", "main");
    panics("std", "doomed");
}

// Goal: a panic that one thread ends with, and the program survives, is no end of anything.
#[test]
fn a_panic_in_a_thread_is_no_end() {
    let (_scene, ended) = ends_quietly("panic-in-thread");
    assert!(ended.stderr.contains(PANIC_MESSAGE), "{ended:?}");
}

// Goal: a panic that becomes an abort is a crash with a dump, and the report tells the panic that began it, not the runtime's complaint about it.
#[test]
fn a_panic_that_aborts_is_dumped_with_its_message() {
    for way in ["panic-abort", "panic-in-drop"] {
        let (_scene, ended, report) = crashes(&[way], libc::SIGABRT);
        assert_eq!(report.exception().3, ended.pid, "{way}: the main thread crashed");
        let panic = &report.json["panic"];
        assert_eq!(panic["thread"], "main", "{way}: {panic:#}");
        assert!(panic["count"].as_u64() >= Some(2), "{way}: {panic:#}");
        let message = panic["message"].as_str().expect("a message");
        assert!(message.contains(PANIC_MESSAGE), "{way}: {panic:#}");
        let location = panic["location"].as_str().expect("a location");
        assert!(location.contains("src/panics.rs:"), "{way}: {panic:#}");
    }
}

// Goal: an end for want of memory is dumped without a single mapping.
#[test]
fn the_end_of_memory_is_dumped() {
    let (_scene, ended, report) = crashes(&["oom"], libc::SIGABRT);
    assert!(ended.stderr.contains("memory allocation of"), "{ended:?}");
    assert!(report.thread_count() >= 2);
}

// Goal: an end from outside is recorded, stays with the user, and starts nothing by default.
#[test]
fn a_kill_is_recorded_only() {
    for (way, signal, name) in
        [("sigkill", libc::SIGKILL, "SIGKILL"), ("sigterm", libc::SIGTERM, "SIGTERM")]
    {
        let scene = Scene::new();
        let ended = scene.run(&["--wait-ready", way]);
        assert_eq!(ended.signal(), Some(signal), "{way}: {ended:?}");
        assert_eq!(scene.events("main").len(), 1, "{way}: {:#?}", scene.trace());
        let report = scene.report();
        is_kept_for_the_user(&report);
        assert_eq!(report.exit_class(), ("killed".into(), Some(i64::from(signal))), "{way}");
        assert_eq!(report.json["exit"]["signal"], name, "{way}");
        assert_eq!(report.decision(), (false, "killed from outside".into()), "{way}");
    }
}

// Goal: a kill is followed by a next life where the policy asks for one after every end.
#[test]
fn a_kill_restarts_when_asked() {
    let scene = Scene::new();
    let always = ["--wait-ready", "--restart", "always", "--in-a-row", "2", "sigkill"];
    let ended = scene.run_lives(&always, 2);
    assert_eq!(ended.signal(), Some(libc::SIGKILL), "{ended:?}");
    let mains = scene.events("main");
    assert_eq!(mains[1].last_exit_class.as_deref(), Some("killed:9"));
    let report = scene.report();
    assert_eq!(report.decision(), (true, "policy restarts after every end".into()));
}

// Goal: an end that is no crash keeps its status and is followed by no life; a guard in front records it, and where none stands by nobody knows.
#[test]
fn other_ends_keep_their_status() {
    for (way, code, class, value) in [
        ("exit-3", Some(3), "code", 3),
        ("sigkill", None, "killed", 9),
        ("sigterm", None, "killed", 15),
        ("panic", Some(101), "code", 101),
    ] {
        for topology in ["at-crash", "guard-first"] {
            let scene = Scene::new();
            let options = ["--topology", topology, "--wait-ready", "--restart", "never", way];
            let ended = scene.run(&options);
            let signal = if code.is_none() { Some(value as i32) } else { None };
            assert_eq!(
                (ended.code(), ended.signal()),
                (code, signal),
                "{way}, {topology}: {ended:?}"
            );
            assert_eq!(scene.events("main").len(), 1, "{way}, {topology}");
            if topology == "at-crash" {
                assert!(scene.reports().is_empty(), "{way}, {topology}");
            } else {
                let report = scene.report();
                assert_eq!(report.exit_class(), (class.into(), Some(value)), "{way}, {topology}");
                assert!(report.dump.is_none(), "{way}, {topology}");
            }
        }
    }
}

// Goal: a panic is followed by a life where a guard was there to see it.
#[test]
fn a_panic_is_followed_below_a_front() {
    let scene = Scene::new();
    let ended = scene.run_lives(&["--topology", "guard-first", "--wait-ready", "panic"], 2);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(scene.events("main")[1].last_exit_class.as_deref(), Some("code:101"));
    assert_eq!(scene.report().decision(), (true, "worker panicked".into()));
}

// Goal: a crash in the application's callback becomes a remark, and the report keeps the fault that was there first.
#[test]
fn a_crash_in_the_callback_is_a_remark() {
    let (_scene, ended, report) = crashes(&["crash-in-handler"], libc::SIGSEGV);
    assert_eq!(flags(&report), ["crash_callback_crashed"]);
    let (_, _, address, tid) = report.exception();
    assert_eq!((address, tid), (0, ended.pid));
    let module = report.crash_module().expect("a module at the fault");
    assert!(module.ends_with("crashzoo"), "{module}");
}

// Goal: eight threads that fault in the same instant make one report of one of them, and one next life.
#[test]
fn eight_crashes_are_one() {
    let (_scene, ended, report) = crashes(&["crash-x8"], libc::SIGSEGV);
    let (_, _, address, tid) = report.exception();
    assert_eq!(address, 0);
    assert_ne!(tid, ended.pid, "it is one of the crowd");
    // Main, keeper and the crowd: whoever lost still waits while the dump is taken.
    assert_eq!(report.thread_count(), 10);
}

// Goal: a child that is forked and crashes dies as it would have without us; nothing of its parent has ended.
#[test]
fn a_forked_child_crashes_for_itself() {
    // The zoo exits with 70 unless its child died by SIGSEGV.
    ends_quietly("forked-child");
}

// Goal: a process whose main thread has gone is dumped like any other, modules and all.
#[test]
fn a_process_without_its_main_thread_is_dumped() {
    let (_scene, ended, report) = crashes(&["main-exited"], libc::SIGSEGV);
    let (_, _, address, tid) = report.exception();
    assert_eq!(address, 0);
    assert_ne!(tid, ended.pid);
    let dump = report.minidump();
    let modules = dump.get_stream::<MinidumpModuleList>().expect("modules");
    let names: Vec<_> = modules.iter().map(|module| module.code_file().into_owned()).collect();
    assert!(names.iter().any(|name| name.ends_with("crashzoo")), "{names:?}");
    assert!(names.iter().any(|name| name.contains("libc.so")), "{names:?}");
    let module = report.crash_module().expect("a module at the fault");
    assert!(module.ends_with("crashzoo"), "{module}");
}

// Goal: the next life after such an end has the standard streams of the last one as well.
#[test]
fn a_process_without_its_main_thread_hands_its_streams_on() {
    let scene = Scene::new();
    let mut worker =
        scene.zoo(&["--wait-ready", "--health", "main-exited"]).spawn().expect("the zoo starts");
    let mut stderr = worker.stderr.take().expect("a pipe");
    let ended = scene.finish(worker);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    scene.await_event("main", 2);
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("the end of the pipe");
    scene.settle();
    assert_eq!(said, "crashzoo: health: guarded, armed, reports are kept\n".repeat(2));
}

// Goal: a handler that was there first is asked first, and has the last word after the report.
#[test]
fn a_foreign_handler_is_asked_first_and_chained_after() {
    let (scene, _ended, report) = crashes(&["foreign-handler"], libc::SIGSEGV);
    assert_eq!(flags(&report), ["foreign_handler_asked"]);
    let calls = scene.events("foreign-handler");
    assert_eq!(calls.len(), 2, "{:#?}", scene.trace());
    assert!(calls[0].t_ns >= report.moment("crash_seen"));
    assert!(calls[0].t_ns < report.moment("threads_stopped"), "asked before anything else");
    assert!(calls[1].t_ns > report.moment("worker_released"), "chained when all is done");
    assert!(calls[1].t_ns < report.moment("full_exit"));
}

// Goal: a handler that came later and hands the signal to us, as good handlers do, costs nothing of the report.
#[test]
fn a_foreign_handler_that_came_later_hands_over() {
    let (scene, _ended, report) = crashes(&["foreign-handler-after"], libc::SIGSEGV);
    let calls = scene.events("foreign-handler");
    assert!(!calls.is_empty(), "{:#?}", scene.trace());
    assert!(calls[0].t_ns <= report.moment("crash_seen"), "it stands before us");
    assert_eq!(report.exception().2, 0);
}

// Goal: a fault that a foreign handler repairs is no crash at all.
#[test]
fn a_repaired_fault_is_no_crash() {
    let (scene, _ended) = ends_quietly("recovered-fault");
    assert_eq!(scene.events("recovered").len(), 1, "{:#?}", scene.trace());
}

// Goal: a jump to an address that can't be executed is reported with that address, which is the instruction pointer too and no module's.
#[test]
fn a_jump_to_a_bad_address_is_told_by_its_address() {
    let (_scene, _ended, report) = crashes(&["jump-bad-address"], libc::SIGSEGV);
    let (_, code, address, _) = report.exception();
    assert_eq!(code, SEGV_ACCERR);
    let dump = report.minidump();
    let exception = dump.get_stream::<MinidumpException<'_>>().expect("an exception");
    let system = dump.get_stream::<MinidumpSystemInfo>().expect("a system");
    let context = exception.context(&system, None).expect("registers");
    assert_eq!(context.get_instruction_pointer(), address);
    assert_ne!(address, 0);
    assert_eq!(report.crash_module(), None);
}

// Goal: a signal that somebody sent, which a program survives elsewhere, ends this one, and its next life begins.
#[test]
fn a_sent_fault_is_a_crash() {
    let (_scene, ended, report) = crashes(&["kill-segv"], libc::SIGSEGV);
    assert_eq!(report.json["crash"]["sender_pid"].as_u64(), Some(u64::from(ended.pid)));
    assert_eq!(report.exception().2, 0);
}

/// Runs a way on a kernel that never tells the exit status of a process that was reaped, and reaps it only when every guard has read what it wanted.
fn reaped_late(way: &str, lives: usize) -> (Scene, Ended) {
    let scene = Scene::new();
    let old_kernel = ["--wait-ready", "--fail-spot", "pidfd-info:off@0", way];
    let worker = scene.zoo(&old_kernel).spawn().expect("the zoo starts");
    assert!(wait_gone(&pidfd(worker.id()).expect("a child"), PATIENCE), "{:?}", scene.states());
    scene.await_event("main", lives);
    // The dead worker has no environment any more, so it isn't among those that are waited for and reaped.
    scene.settle();
    assert_eq!(state(worker.id()), Some('Z'), "not reaped yet");
    let ended = scene.finish(worker);
    (scene, ended)
}

// Goal: where the kernel doesn't tell a reaped process's status, the zombie does: code, signal and panic are known as well.
#[test]
fn an_old_kernel_tells_by_the_zombie() {
    let (scene, ended) = reaped_late("exit-3", 1);
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    assert_eq!(scene.report().exit_class(), ("code".into(), Some(3)));

    let (scene, ended) = reaped_late("sigkill", 1);
    assert_eq!(ended.signal(), Some(libc::SIGKILL), "{ended:?}");
    assert_eq!(scene.report().exit_class(), ("killed".into(), Some(9)));

    let (scene, ended) = reaped_late("panic", 2);
    assert_eq!(ended.code(), Some(101), "{ended:?}");
    assert_eq!(scene.report().exit_class(), ("code".into(), Some(101)));
    assert_eq!(scene.events("main").len(), 2, "{:#?}", scene.trace());

    let (scene, ended) = reaped_late("none", 1);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(scene.reports().len(), 0);
}

/// Runs a way on such a kernel while the guard can't look, so that the zombie is gone when it does.
fn reaped_at_once(way: &str) -> (Scene, Ended) {
    let scene = Scene::new();
    let arguments = [
        "--wait-guarded",
        "--fail-spot",
        "pidfd-info:off",
        "--restart",
        "always",
        "--in-a-row",
        "3",
        "--after",
        "1000",
        way,
    ];
    let worker = scene.zoo(&arguments).spawn().expect("the zoo starts");
    let guarded = scene.await_event("guarded", 1);
    let guard = guarded[0].guard_pid.expect("a guard");
    assert!(kill(guard, libc::SIGSTOP));
    assert_eq!(scene.events("dying").len(), 0, "the machine is too slow for this test");
    let ended = scene.finish(worker);
    assert!(kill(guard, libc::SIGCONT));
    scene.settle();
    (scene, ended)
}

// Goal: an end that nobody can tell is Unknown, and is never followed by a restart, whatever the policy.
#[test]
fn an_end_that_nobody_tells_is_unknown_and_final() {
    for way in ["exit-3", "sigkill", "none"] {
        let (scene, _ended) = reaped_at_once(way);
        assert_eq!(scene.events("main").len(), 1, "{way}: {:#?}", scene.trace());
        let report = scene.report();
        is_kept_for_the_user(&report);
        assert_eq!(report.exit_class(), ("unknown".into(), None), "{way}");
        assert_eq!(report.decision(), (false, "unknown exit class".into()), "{way}");
    }
}

// Goal: a crash is known by the black box, although the zombie is reaped the moment it is there and the kernel tells nothing.
#[test]
fn a_crash_is_known_by_the_black_box() {
    let (_scene, _ended, report) =
        crashes(&["--fail-spot", "pidfd-info:off@0", "null-write"], libc::SIGSEGV);
    assert_eq!(report.exception().2, 0);
}
