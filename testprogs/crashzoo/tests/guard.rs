//! Guards that die, hang, are slow, refuse or are forged: the worker never pays for it, and its crash is still caught where a guard can be had.

#![allow(clippy::expect_used, reason = "a stage that breaks is a failed test")]
#![expect(unsafe_code, reason = "signals to groups, terminals and forged descriptors")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    Ended, Report, Scene, build_beside, guard_argument, is_on_duty, kill, pause, pidfd, state,
    wait_gone,
};

/// The crash path's limits, which these tests know from the outside.
const GUARD_READY_MAX: Duration = Duration::from_secs(2);
const RESPAWNS: usize = 4;
/// What a busy machine may add to any of them.
const SLACK: Duration = Duration::from_secs(3);

/// A worker that lives until somebody ends it.
const LONG: [&str; 4] = ["--wait-ready", "--after", "600000", "none"];

/// A worker on stage, with a guard on duty.
fn guarded(scene: &Scene, options: &[&str]) -> (Child, u32) {
    let arguments: Vec<&str> = options.iter().chain(&LONG).copied().collect();
    let child = scene.zoo(&arguments).spawn().expect("the zoo starts");
    let line = scene.await_event("guarded", 1).remove(0);
    let guard = line.guard_pid.expect("who is guarded has a guard");
    let asleep = scene.await_guard(None);
    assert_eq!(asleep, guard, "the guard of the trace is the one on duty");
    (child, guard)
}

/// Lets a worker crash by a signal from outside, and waits for everything that follows.
fn crash(scene: &Scene, child: Child) -> Ended {
    assert!(kill(child.id(), libc::SIGSEGV));
    let ended = scene.finish(child);
    scene.settle();
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "the worker's own signal: {ended:?}");
    ended
}

/// The one report of a crash after which exactly one next life began.
fn caught(scene: &Scene) -> Report {
    let mains = scene.events("main");
    assert_eq!(mains.len(), 2, "one restart: {:#?}", scene.trace());
    let report = scene.report();
    assert_eq!(report.exception().0, libc::SIGSEGV);
    assert_eq!(report.exit_class(), ("crash".into(), Some(i64::from(libc::SIGSEGV))));
    assert_eq!(mains[1].incarnation, Some(1));
    assert_eq!(mains[1].last_report.as_deref(), report.json["id"].as_str());
    report
}

fn guard_of(report: &Report) -> u32 {
    report.json["guard_pid"].as_u64().expect("a guard") as u32
}

fn is_late(report: &Report) -> bool {
    report.json["late_guard"].as_bool().expect("late or not")
}

/// How long the crashed worker waited for its answer.
fn waited(report: &Report) -> Duration {
    Duration::from_nanos(report.moment("worker_released") - report.moment("crash_seen"))
}

// Goal: each guard that is killed is followed by another, and the last one catches the crash as the first would have.
#[test]
fn a_killed_guard_is_replaced() {
    let scene = Scene::new();
    let (child, mut guard) = guarded(&scene, &[]);
    for _ in 0..RESPAWNS {
        scene.end(guard);
        guard = scene.await_guard(Some(guard));
        assert_eq!(scene.guards(), [guard], "one guard at a time");
    }
    crash(&scene, child);
    let report = caught(&scene);
    assert_eq!((guard_of(&report), is_late(&report)), (guard, false));
}

// Goal: guards that keep dying aren't started without end, and a crash still gets a late guard with full function.
#[test]
fn respawn_is_bounded_and_a_crash_gets_a_late_guard() {
    let scene = Scene::new();
    let (child, mut guard) = guarded(&scene, &[]);
    for _ in 0..RESPAWNS {
        scene.end(guard);
        guard = scene.await_guard(Some(guard));
    }
    scene.end(guard);
    let worker = pidfd(child.id()).expect("the worker");
    assert!(!wait_gone(&worker, Duration::from_millis(1500)), "the worker lives on alone");
    assert_eq!(scene.guards(), [0u32; 0], "the sixth guard within the period");
    crash(&scene, child);
    let report = caught(&scene);
    assert!(is_late(&report), "{:#}", report.json);
    assert!(report.thread_count() >= 1);
    assert_eq!(report.json["soft_errors"], serde_json::json!([]));
}

// Goal: a guard that was stopped before the crash is ended at the deadline, provably, and a late guard does its work.
#[test]
fn a_stopped_guard_is_ended_at_the_deadline() {
    let scene = Scene::new();
    let (child, guard) = guarded(&scene, &["--dump-wait-ms", "500"]);
    let guard_pidfd = pidfd(guard).expect("the guard");
    kill(guard, libc::SIGSTOP);
    scene.await_some("stopped guard", || (state(guard) == Some('T')).then_some(()));
    let begun = Instant::now();
    assert!(kill(child.id(), libc::SIGSEGV));
    let ended = scene.finish(child);
    let took = begun.elapsed();
    assert!(wait_gone(&guard_pidfd, Duration::ZERO), "the stopped guard outlives the worker");
    assert_eq!(ended.signal(), Some(libc::SIGSEGV));
    scene.settle();
    let report = caught(&scene);
    assert!(is_late(&report) && guard_of(&report) != guard, "{:#}", report.json);
    assert!(waited(&report) >= Duration::from_millis(500), "{:?}", waited(&report));
    assert!(took < Duration::from_millis(500) + SLACK, "{took:?}");
}

// Goal: a worker that was paused isn't taken for dead: its guard stays and catches a later crash.
#[test]
fn a_paused_worker_keeps_its_guard() {
    let scene = Scene::new();
    let (child, guard) = guarded(&scene, &[]);
    let guard_pidfd = pidfd(guard).expect("the guard");
    kill(child.id(), libc::SIGSTOP);
    scene.await_some("stopped worker", || (state(child.id()) == Some('T')).then_some(()));
    assert!(!wait_gone(&guard_pidfd, Duration::from_secs(2)), "the guard left a paused worker");
    kill(child.id(), libc::SIGCONT);
    crash(&scene, child);
    let report = caught(&scene);
    assert_eq!((guard_of(&report), is_late(&report)), (guard, false));
}

// Goal: what is sent to the worker's process group reaches the worker alone, and its guard is still there to say how it ended.
#[test]
fn signals_to_the_group_spare_the_guard() {
    for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTERM] {
        let scene = Scene::new();
        let (child, guard) = guarded(&scene, &[]);
        // SAFETY: no memory is involved.
        let group = |pid: u32| unsafe { libc::getpgid(pid as i32) };
        // SAFETY: no memory is involved.
        let session = |pid: u32| unsafe { libc::getsid(pid as i32) };
        assert_ne!(group(guard), group(child.id()), "a group of its own");
        assert_eq!(session(guard), session(child.id()), "the same session");
        let worker_group = group(child.id());
        // SAFETY: no memory is involved.
        let to_group = |signal| unsafe { libc::kill(-worker_group, signal) };
        to_group(libc::SIGTSTP);
        scene.await_some("stopped worker", || (state(child.id()) == Some('T')).then_some(()));
        assert_ne!(state(guard), Some('T'), "the guard stops with its worker's group");
        to_group(libc::SIGCONT);
        to_group(signal);
        let ended = scene.finish(child);
        scene.settle();
        assert_eq!(ended.signal(), Some(signal));
        let report = scene.report();
        assert_eq!(report.exit_class(), ("killed".into(), Some(i64::from(signal))));
        assert_eq!(guard_of(&report), guard);
        assert!(!report.decision().0, "{:?}", report.decision());
        assert_eq!(scene.events("main").len(), 1);
    }
}

// Goal: a guard is deaf to the terminal's signals even when they are sent to itself.
#[test]
fn a_guard_is_deaf_to_the_terminals_signals() {
    let scene = Scene::new();
    let (child, guard) = guarded(&scene, &[]);
    for signal in [
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGPIPE,
    ] {
        assert!(kill(guard, signal));
    }
    let guard_pidfd = pidfd(guard).expect("the guard");
    assert!(!wait_gone(&guard_pidfd, Duration::from_millis(200)), "the guard was ended");
    assert_ne!(state(guard), Some('T'));
    crash(&scene, child);
    assert_eq!(guard_of(&caught(&scene)), guard);
}

/// A guarded worker in a session of its own whose controlling terminal is the other end of what is returned.
fn on_a_terminal(scene: &Scene, arguments: &[&str]) -> (std::fs::File, Child) {
    let zoo = scene.zoo(arguments);
    let (terminal, child) = scene.on_a_terminal(zoo.get_program(), zoo.get_args());
    scene.await_event("guarded", 1);
    (terminal, child)
}

// Goal: Ctrl-C and the end of the terminal end the foreground job alone; the guard sees it out and says nothing.
#[test]
fn a_terminals_keys_spare_the_guard() {
    for hang_up in [false, true] {
        let scene = Scene::new();
        let (mut terminal, child) = on_a_terminal(&scene, &LONG);
        let guard = scene.await_guard(None);
        let signal = if hang_up {
            drop(terminal);
            libc::SIGHUP
        } else {
            terminal.write_all(b"\x03").expect("Ctrl-C");
            libc::SIGINT
        };
        let ended = scene.finish(child);
        scene.settle();
        assert_eq!(ended.signal(), Some(signal));
        let report = scene.report();
        assert_eq!(report.exit_class(), ("killed".into(), Some(i64::from(signal))));
        assert_eq!(guard_of(&report), guard);
        assert_eq!(scene.events("main").len(), 1);
    }
}

// Goal: a crash on a terminal is dumped and told in one line, and the job that the shell waits for isn't replaced behind its back.
#[test]
fn a_terminals_job_is_told_and_not_restarted() {
    let scene = Scene::new();
    let (mut terminal, child) = on_a_terminal(&scene, &LONG);
    assert!(kill(child.id(), libc::SIGSEGV));
    let ended = scene.finish(child);
    scene.settle();
    assert_eq!(ended.signal(), Some(libc::SIGSEGV));
    assert_eq!(scene.events("main").len(), 1, "{:#?}", scene.trace());
    let report = scene.report();
    assert!(!report.decision().0);
    let mut said = Vec::new();
    // Reading a terminal whose other end is closed ends in an error, after all that was written.
    let _ = terminal.read_to_end(&mut said);
    let said = String::from_utf8(said).expect("text");
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(said.contains("SIGSEGV") && said.contains("not restarted"), "{said:?}");
}

// Goal: nor is one that ends by a panic: only the worker itself could tell where it stood, and did.
#[test]
fn a_terminals_job_that_panics_is_not_restarted() {
    let scene = Scene::new();
    let (_terminal, child) = on_a_terminal(&scene, &["--wait-ready", "panic"]);
    let ended = scene.finish(child);
    scene.settle();
    assert_eq!(ended.code(), Some(101));
    assert_eq!(scene.events("main").len(), 1, "{:#?}", scene.trace());
    let report = scene.report();
    assert!(!report.json["panic"].is_null(), "{:#}", report.json);
    assert_eq!(report.decision(), (false, "worker was the terminal's foreground job".into()));
}

/// Size and resident part of a process's mappings, in KiB.
fn mappings(pid: u32) -> Vec<(u64, u64)> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let field = |name: &str| -> Vec<u64> {
        let lines = smaps.lines().filter_map(|line| line.strip_prefix(name));
        lines.filter_map(|line| line.trim().trim_end_matches(" kB").parse().ok()).collect()
    };
    field("Size:").into_iter().zip(field("Rss:")).collect()
}

// Goal: the stacks that a crash is handled on are there in whole before it, so that it needs no memory.
#[test]
fn the_crash_path_needs_no_memory() {
    let scene = Scene::new();
    let child = scene.zoo(&LONG).spawn().expect("the zoo starts");
    scene.await_event("guarded", 1);
    for kib in [64, 32] {
        scene.await_some("touched stack", || {
            mappings(child.id()).contains(&(kib, kib)).then_some(())
        });
    }
    assert!(kill(child.id(), libc::SIGTERM));
    scene.finish(child);
    scene.settle();
}

/// `badguard` as a worker of this scene.
fn badguard(scene: &Scene, mode: &str, first: Option<u32>, arguments: &[&str]) -> Command {
    build_beside("badguard");
    let mut command = scene.command("badguard");
    command.arg(mode).arg("--store").arg(scene.store());
    command.arg("--trace").arg(scene.trace_path()).args(arguments);
    command.env("BADGUARD_COUNT", scene.path("guards"));
    if let Some(first) = first {
        command.env("BADGUARD_FIRST_N", first.to_string());
    }
    command
}

/// How many guards a scene of `badguard` has seen.
fn guard_count(scene: &Scene) -> u64 {
    fs::metadata(scene.path("guards")).map_or(0, |file| file.len())
}

/// How often one guard counts: a refused one becomes itself again to be refused.
fn counts_of(mode: &str) -> u64 {
    if mode == "refuse" { 2 } else { 1 }
}

// Goal: where no guard ever works, the application runs undisturbed, never a second time in a guard's place, and dies of its crash in bounded time.
fn without_a_guard(mode: &str, death_max: Duration) {
    for (topology, guards_before) in [("worker-first", 1..=5), ("at-crash", 0..=0)] {
        dies_alone(mode, topology, guards_before, death_max);
    }
}

fn dies_alone(mode: &str, topology: &str, guards_before: RangeInclusive<u64>, death_max: Duration) {
    let scene = Scene::new();
    let arguments = ["--topology", topology, "--after", "600000", "none"];
    let child = badguard(&scene, mode, None, &arguments).spawn().expect("badguard starts");
    let armed = scene.await_event("armed", 1);
    assert_eq!(armed[0].pid, child.id(), "{mode}");
    let worker = pidfd(child.id()).expect("the worker");
    assert!(!wait_gone(&worker, Duration::from_millis(700)), "{mode}: the application runs on");
    let before = guard_count(&scene) / counts_of(mode);
    assert!(guards_before.contains(&before), "{mode}, {topology}: {before} before the crash");
    let begun = Instant::now();
    assert!(kill(child.id(), libc::SIGSEGV));
    let ended = scene.finish(child);
    let took = begun.elapsed();
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{mode}");
    assert!(took < death_max, "{mode}: died after {took:?}");
    let for_the_crash = guard_count(&scene) / counts_of(mode) - before;
    assert!(for_the_crash <= 3, "{mode}: {for_the_crash} guards for one crash");
    // A hanging guard leaves by itself after a minute, and must not be there that long.
    scene.await_some("end of all guards", || {
        assert!(begun.elapsed() < Duration::from_secs(20), "{mode}: left: {:?}", scene.states());
        scene.processes().is_empty().then_some(())
    });
    scene.settle();
    let mains = scene.events("main");
    assert_eq!(mains.len(), 1, "{mode}: {:#?}", scene.trace());
    assert!(scene.reports().is_empty(), "{mode}");
}

#[test]
fn no_guard_works_crash_at_start() {
    without_a_guard("crash-at-start", SLACK);
}

#[test]
fn no_guard_works_exit_early() {
    without_a_guard("exit-early", SLACK);
}

#[test]
fn no_guard_works_refuse() {
    without_a_guard("refuse", SLACK);
}

// Goal: the same, with a guard that hangs at the moment of the crash.
#[test]
fn no_guard_works_hang() {
    without_a_guard("hang", 2 * GUARD_READY_MAX + SLACK);
}

// Goal: the same, with guards that would come, but never in time.
#[test]
fn no_guard_works_slow() {
    without_a_guard("slow:20000", 2 * GUARD_READY_MAX + SLACK);
}

// Goal: a guard that never took its place doesn't outlive a worker that ends in any other way.
#[test]
fn a_hanging_guard_goes_with_its_worker() {
    let scene = Scene::new();
    let child = badguard(&scene, "hang", None, &["--after", "600000", "none"])
        .spawn()
        .expect("badguard starts");
    scene.await_some("hanging guard", || (guard_count(&scene) == 1).then_some(()));
    assert!(kill(child.id(), libc::SIGTERM));
    let ended = scene.finish(child);
    assert_eq!(ended.signal(), Some(libc::SIGTERM));
    let begun = Instant::now();
    scene.await_some("end of all guards", || {
        assert!(begun.elapsed() < Duration::from_secs(10), "left: {:?}", scene.states());
        scene.processes().is_empty().then_some(())
    });
}

// Goal: where only the first guards fail, the crash is caught by the one that works, late if need be.
#[test]
fn a_working_guard_comes_after_bad_ones() {
    for (mode, bad, late) in [
        ("crash-at-start", 3, false),
        ("exit-early", 3, false),
        ("refuse", 3, false),
        ("crash-at-start", 5, true),
        ("exit-early", 5, true),
        ("refuse", 5, true),
        ("hang", 1, false),
        ("slow:500", 9, false),
    ] {
        let scene = Scene::new();
        let first = bad * counts_of(mode) as u32;
        let child = badguard(&scene, mode, Some(first), &["--after", "600000", "none"])
            .spawn()
            .expect("badguard starts");
        scene.await_event("armed", 1);
        if late {
            // The window is used up when the last bad guard was counted and has gone.
            scene.await_some("worker alone", || {
                (guard_count(&scene) == u64::from(first) && scene.guards().is_empty()).then_some(())
            });
            pause(Duration::from_millis(300));
            assert_eq!(guard_count(&scene), u64::from(first), "{mode}: more than the intensity");
        } else {
            scene.await_guard(None);
        }
        crash(&scene, child);
        let report = caught(&scene);
        assert_eq!(is_late(&report), late, "{mode} {bad}: {:#}", report.json);
        let pids: Vec<u32> = scene.events("main").iter().map(|line| line.pid).collect();
        assert!(!pids.contains(&guard_of(&report)), "{mode}: a guard ran the application");
    }
}

// Goal: a guard that is on its way when the crash comes still catches it.
#[test]
fn a_crash_waits_for_a_guard_on_its_way() {
    let scene = Scene::new();
    let child = badguard(&scene, "slow:800", Some(1), &["--after", "600000", "none"])
        .spawn()
        .expect("badguard starts");
    scene.await_event("armed", 1);
    scene.await_some("guard on its way", || (guard_count(&scene) == 1).then_some(()));
    crash(&scene, child);
    let report = caught(&scene);
    // The next life ends at once, before or after its own guard came.
    assert!(guard_count(&scene) <= 2, "no second guard for the same crash");
    assert!(report.thread_count() >= 1);
}

// Goal: a guard that heard the crash and is too slow is ended at the deadline, and a late guard answers.
#[test]
fn a_slow_guard_is_ended_at_the_deadline() {
    let scene = Scene::new();
    let options = ["--dump-wait-ms", "400", "--fail-spot", "crash-heard:sleep=30000@0"];
    let (child, guard) = guarded(&scene, &options);
    let guard_pidfd = pidfd(guard).expect("the guard");
    let begun = Instant::now();
    crash(&scene, child);
    assert!(wait_gone(&guard_pidfd, Duration::ZERO), "the slow guard is still there");
    assert!(begun.elapsed() < Duration::from_millis(400) + 2 * SLACK, "{:?}", begun.elapsed());
    let report = caught(&scene);
    assert!(is_late(&report) && guard_of(&report) != guard, "{:#}", report.json);
    assert!(waited(&report) >= Duration::from_millis(400), "{:?}", waited(&report));
}

// Goal: a starter that is killed while it waits out the backoff isn't taken for a start: another one is made, and the report tells the truth.
#[test]
fn a_killed_starter_is_replaced() {
    let scene = Scene::new();
    // The first restart comes at once, the second after the delay.
    let options = ["--wait-ready", "--lives", "2", "--first-delay-ms", "2000", "null-write"];
    let child = scene.zoo(&options).spawn().expect("the zoo starts");
    assert_eq!(scene.finish(child).signal(), Some(libc::SIGSEGV));
    let second = scene.await_event("dying", 2).remove(1);
    let guard = second.guard_pid.expect("a guard");
    scene.await_some("end of the second life", || {
        state(second.pid).is_none_or(|state| state == 'Z').then_some(())
    });
    // It runs on the guard's memory, so it looks like one.
    let starter = scene.await_some("starter", || {
        let looks_so = scene.guards();
        assert!(looks_so.len() <= 2, "{:?}", scene.states());
        looks_so.contains(&guard).then(|| looks_so.into_iter().find(|pid| *pid != guard)).flatten()
    });
    scene.end(starter);
    let third = scene.await_event("main", 3).remove(2);
    scene.settle();
    assert_eq!(scene.events("main").len(), 3);
    assert_eq!((third.incarnation, third.last_exit_class.as_deref()), (Some(2), Some("crash:11")));
    let reports = scene.reports();
    assert_eq!(reports.len(), 2, "{reports:#?}");
    let decision = &reports[1].json["decision"];
    assert!(reports[1].decision().0, "{decision:#}");
    assert_eq!(decision["next_pid"].as_u64(), Some(u64::from(third.pid)), "{decision:#}");
}

/// How often the threads of a process were switched, by thread.
fn switches(pid: u32) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten() {
        let status = fs::read_to_string(thread.path().join("status")).expect("a status");
        let count = status
            .lines()
            .filter(|line| line.contains("ctxt_switches:"))
            .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
            .sum();
        found.insert(thread.file_name().to_string_lossy().into_owned(), count);
    }
    found
}

// Goal: while all is well neither the guard nor the keeper wakes, not once.
#[test]
fn idle_means_no_wakeups() {
    let scene = Scene::new();
    let (child, guard) = guarded(&scene, &[]);
    scene.await_some("sleeping worker", || (state(child.id()) == Some('S')).then_some(()));
    // `guarded` is seen before the keeper has gone back to sleep.
    pause(Duration::from_millis(200));
    let before = (switches(guard), switches(child.id()));
    let guard_pidfd = pidfd(guard).expect("the guard");
    assert!(!wait_gone(&guard_pidfd, Duration::from_secs(3)));
    assert_eq!((switches(guard), switches(child.id())), before, "woken while idle");
    crash(&scene, child);
    caught(&scene);
}

/// What a descriptor table shows, by number.
fn descriptors(directory: &str) -> BTreeMap<i32, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("descriptors").flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let target = fs::read_link(entry.path()).expect("a descriptor");
        found.insert(number, target.to_string_lossy().into_owned());
    }
    found
}

// Goal: the application's descriptor table shows what the application opened, and nothing of ours, also after a new guard.
#[test]
fn the_applications_descriptors_are_its_own() {
    let scene = Scene::new();
    let mut command = scene.zoo(&LONG);
    let close_inherited = || {
        let flag = libc::CLOSE_RANGE_CLOEXEC as i32;
        // SAFETY: no memory is involved. What whoever runs this test has left open is not the worker's.
        unsafe { libc::close_range(3, libc::c_uint::MAX, flag) };
        Ok(())
    };
    // SAFETY: the closure makes one system call and touches no memory.
    unsafe { command.pre_exec(close_inherited) };
    let child = command.spawn().expect("the zoo starts");
    scene.await_event("guarded", 1);
    let guard = scene.await_guard(None);
    let table = format!("/proc/{}/fd", child.id());
    let expected = descriptors(&table);
    assert_eq!(expected.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3], "{expected:?}");
    assert_eq!(expected[&3], scene.trace_path().to_string_lossy(), "{expected:?}");
    scene.end(guard);
    let guard = scene.await_guard(Some(guard));
    assert_eq!(descriptors(&table), expected);
    // The guard holds its four things, the null device and what it has reserved in the store, not the worker's streams or files.
    // While it rehearses a dump it has more.
    let reserved = scene.store().join("tmp").to_string_lossy().into_owned();
    let held = scene.await_some("guard with seven descriptors", || {
        let mut held = descriptors(&format!("/proc/{guard}/fd"));
        held.retain(|_, target| !target.starts_with(&reserved));
        held.keys().copied().eq(0..=6).then_some(held)
    });
    assert!((0..3).all(|number| held[&number] == "/dev/null"), "{held:?}");
    assert!(held[&3].starts_with("/memfd:rearguard-black-box"), "{held:?}");
    assert!(held[&4].starts_with("/memfd:rearguard-launch-record"), "{held:?}");
    assert!(held[&6].contains("pidfd"), "{held:?}");
    crash(&scene, child);
    caught(&scene);
}

// Goal: a guard leaves when its worker does: after a clean end without a word, after a failing one with a record, and no next life in either.
#[test]
fn a_guard_leaves_with_its_worker() {
    let scene = Scene::new();
    let ended = scene.run(&["--wait-ready", "none"]);
    assert_eq!(ended.code(), Some(0));
    assert!(scene.reports().is_empty());
    assert_eq!(scene.events("main").len(), 1);

    let scene = Scene::new();
    let ended = scene.run(&["--wait-ready", "exit-3"]);
    assert_eq!(ended.code(), Some(3));
    let report = scene.report();
    assert_eq!(report.exit_class(), ("code".into(), Some(3)));
    assert!(!report.decision().0 && report.dump.is_none());
    assert_eq!(scene.events("main").len(), 1);
}

// Goal: a worker killed from outside is recorded as such, not restarted, and its guard leaves.
#[test]
fn a_killed_worker_is_recorded() {
    let scene = Scene::new();
    let (child, guard) = guarded(&scene, &[]);
    kill(child.id(), libc::SIGKILL);
    let ended = scene.finish(child);
    scene.settle();
    assert_eq!(ended.signal(), Some(libc::SIGKILL));
    let report = scene.report();
    assert_eq!(report.exit_class(), ("killed".into(), Some(9)));
    assert_eq!((guard_of(&report), is_late(&report)), (guard, false));
    assert!(!report.decision().0 && report.dump.is_none());
    assert_eq!(scene.events("main").len(), 1);
}

// Goal: a guard that was stopped and goes on after its worker's end still finds out how it ended, and leaves.
#[test]
fn a_guard_that_slept_through_the_end_catches_up() {
    let scene = Scene::new();
    let (child, guard) = guarded(&scene, &[]);
    kill(guard, libc::SIGSTOP);
    scene.await_some("stopped guard", || (state(guard) == Some('T')).then_some(()));
    kill(child.id(), libc::SIGKILL);
    scene.finish(child);
    kill(guard, libc::SIGCONT);
    scene.settle();
    let (class, value) = scene.report().exit_class();
    // The real parent has reaped, so only newer kernels still know the signal.
    assert!(class == "unknown" || (class == "killed" && value == Some(9)), "{class} {value:?}");
    assert_eq!(scene.events("main").len(), 1);
}

/// A descriptor for a forged guard: it gets the number 3 plus its place.
type Forged = Option<OwnedFd>;

/// Starts the zoo with arguments and descriptors that no worker gave it, with little memory, and says how it ended.
fn forge(scene: &Scene, arguments: &[&[u8]], descriptors: [Forged; 4]) -> Ended {
    use std::os::unix::ffi::OsStrExt;
    let mut command = scene.command("crashzoo");
    command.args(arguments.iter().map(|argument| std::ffi::OsStr::from_bytes(argument)));
    command.stdout(Stdio::piped());
    // Above all places, so that none is overwritten before it is used; they are closed by exec.
    let raised = descriptors.map(|descriptor| {
        descriptor.map(|descriptor| {
            // SAFETY: no memory is involved.
            let fd = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 64) };
            assert!(fd >= 64, "a descriptor");
            // SAFETY: the descriptor was just made and is nobody else's.
            unsafe { OwnedFd::from_raw_fd(fd) }
        })
    });
    let numbers = raised.each_ref().map(|fd| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd));
    let place = move || {
        for (place, fd) in numbers.into_iter().enumerate() {
            let number = 3 + place as i32;
            let placed = if fd < 0 {
                // SAFETY: no memory is involved; a descriptor that isn't there stays so.
                unsafe { libc::close(number) }
            } else {
                // SAFETY: no memory is involved.
                unsafe { libc::dup2(fd, number) }
            };
            if fd >= 0 && placed < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        let limit = libc::rlimit { rlim_cur: 256 << 20, rlim_max: 256 << 20 };
        // SAFETY: the pointer refers to a living limit.
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
        Ok(())
    };
    // SAFETY: the closure makes system calls and doesn't allocate.
    unsafe { command.pre_exec(place) };
    let mut child = command.spawn().expect("the zoo starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    let ended = scene.finish(child);
    let mut said = String::new();
    stdout.read_to_string(&mut said).expect("text");
    assert_eq!(said, "", "nothing on standard output");
    ended
}

/// A guard that was refused: the own exit status, one line, and no code of the application's.
fn refused(scene: &Scene, what: &str, ended: &Ended) {
    assert_eq!(ended.code(), Some(98), "{what}: {ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{what}: {ended:?}");
    assert!(
        ended.stderr.starts_with("rearguard: guard argument not usable: "),
        "{what}: {ended:?}"
    );
    assert!(scene.trace().is_empty(), "{what}: {:#?}", scene.trace());
}

const NO_DESCRIPTORS: [Forged; 4] = [const { None }; 4];

// Goal: whatever looks like a guard argument and isn't one ends the process before any code of the application's.
#[test]
fn unusable_guard_arguments_are_refused() {
    let scene = Scene::new();
    let trace = scene.trace_path().into_os_string().into_encoded_bytes();
    let good: &[u8] = b"--rearguard-guard=1:0123456789abcdef";
    let cases: [&[&[u8]]; 17] = [
        &[b"--rearguard-guard"],
        &[b"--rearguard-guard="],
        &[b"--rearguard-guard=1"],
        &[b"--rearguard-guard=1:"],
        &[b"--rearguard-guard=1:01234567"],
        &[b"--rearguard-guard=1:0123456789abcdef0"],
        &[b"--rearguard-guard=1:0123456789abcdeg"],
        &[b"--rearguard-guard=0:0123456789abcdef"],
        &[b"--rearguard-guard=2:0123456789abcdef"],
        &[b"--rearguard-guard=99999999999999999999:0123456789abcdef"],
        &[b"--rearguard-guard=-1:0123456789abcdef"],
        &[b"--rearguard-guard=\xff\xfe:0123456789abcdef"],
        &[b"--rearguard-guardian"],
        &[good, good],
        &[good, b"--trace", &trace, b"none"],
        &[b"--trace", &trace, good, b"none"],
        &[b"--trace", &trace, b"none", b"--rearguard-guard"],
    ];
    for arguments in cases {
        let what = format!(
            "{:?}",
            arguments.iter().map(|text| text.escape_ascii().to_string()).collect::<Vec<_>>()
        );
        let ended = forge(&scene, arguments, NO_DESCRIPTORS);
        refused(&scene, &what, &ended);
    }
}

/// Memory of this size with these seals and this content at its start.
fn memory(bytes: u64, content: &[u8], seals: i32) -> OwnedFd {
    // SAFETY: the name is NUL-terminated.
    let fd = unsafe {
        libc::memfd_create(c"forged".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    };
    assert!(fd >= 0, "a memfd");
    // SAFETY: the descriptor was just made and is nobody else's.
    let mut file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(bytes).expect("a size");
    file.write_all(content).expect("content");
    // SAFETY: no memory is involved.
    let sealed = unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) };
    assert_eq!(sealed, 0, "seals");
    file.into()
}

const SIZE_SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
const ALL_SEALS: i32 = SIZE_SEALS | libc::F_SEAL_WRITE;

/// A living guard's own argument and descriptors, to forge others from.
struct Model {
    argument: Vec<u8>,
    guard: OwnedFd,
    black_box_bytes: u64,
    record: Vec<u8>,
}

impl Model {
    fn of(guard: u32) -> Model {
        let pidfd = pidfd(guard).expect("the guard");
        let mut model = Model {
            argument: guard_argument(guard).expect("its argument"),
            guard: pidfd,
            black_box_bytes: 0,
            record: Vec::new(),
        };
        let black_box = std::fs::File::from(model.descriptor(3).expect("the black box"));
        model.black_box_bytes = black_box.metadata().expect("its size").len();
        let record = std::fs::File::from(model.descriptor(4).expect("the record"));
        let bytes = record.metadata().expect("its size").len() as usize;
        model.record = vec![0; bytes];
        std::os::unix::fs::FileExt::read_exact_at(&record, &mut model.record, 0)
            .expect("the record");
        model
    }

    /// A copy of one of the guard's descriptors.
    fn descriptor(&self, number: i32) -> Forged {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.guard.as_raw_fd(), number, 0) };
        assert!(fd >= 0, "descriptor {number}: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was just made and is nobody else's.
        Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    fn all(&self) -> [Forged; 4] {
        [3, 4, 5, 6].map(|number| self.descriptor(number))
    }

    fn with(&self, place: usize, forged: Forged) -> [Forged; 4] {
        let mut descriptors = self.all();
        descriptors[place] = forged;
        descriptors
    }
}

fn file_at(path: &std::path::Path) -> Forged {
    Some(
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .expect("a file")
            .into(),
    )
}

// Goal: a usable argument with descriptors that are closed or somebody else's ends the process in the same way.
#[test]
fn forged_descriptors_are_refused() {
    let stage = Scene::new();
    let (child, guard) = guarded(&stage, &[]);
    let model = Model::of(guard);
    let scene = Scene::new();
    let null = || file_at(std::path::Path::new("/dev/null"));
    let plain = |bytes: u64| {
        let file = file_at(&scene.path("plain")).expect("a file");
        std::fs::File::from(file.try_clone().expect("a file")).set_len(bytes).expect("a size");
        Some(file)
    };
    let size = model.black_box_bytes;
    let other_nonce = b"--rearguard-guard=1:0123456789abcdef".as_slice();
    let argument = model.argument.as_slice();
    let tracker = || Some(pidfd(std::process::id()).expect("a pidfd"));
    let cases: Vec<(&str, &[u8], [Forged; 4])> = vec![
        ("all closed", argument, NO_DESCRIPTORS),
        ("all null", argument, [null(), null(), null(), null()]),
        ("all plain files", argument, [plain(size), plain(size), plain(size), plain(size)]),
        ("no black box", argument, model.with(0, None)),
        ("no record", argument, model.with(1, None)),
        ("no pidfd", argument, model.with(3, None)),
        ("pidfd is null", argument, model.with(3, null())),
        ("pidfd is a memfd", argument, model.with(3, Some(memory(size, b"", ALL_SEALS)))),
        ("black box and record swapped", argument, {
            let [black_box, record, executable, worker] = model.all();
            [record, black_box, executable, worker]
        }),
        ("black box unsealed", argument, model.with(0, Some(memory(size, b"", 0)))),
        (
            "black box sealed and empty",
            argument,
            model.with(0, Some(memory(size, b"", SIZE_SEALS))),
        ),
        (
            "black box too short",
            argument,
            model.with(0, Some(memory(size - 4096, b"", SIZE_SEALS))),
        ),
        ("black box too long", argument, model.with(0, Some(memory(size + 4096, b"", SIZE_SEALS)))),
        ("black box of no size", argument, model.with(0, Some(memory(0, b"", SIZE_SEALS)))),
        (
            "record unsealed",
            argument,
            model.with(1, Some(memory(0, &model.record, SIZE_SEALS & !libc::F_SEAL_SEAL))),
        ),
        ("record writable", argument, model.with(1, Some(memory(0, &model.record, SIZE_SEALS)))),
        ("record empty", argument, model.with(1, Some(memory(0, b"", ALL_SEALS)))),
        ("record of zeros", argument, model.with(1, Some(memory(4096, b"", ALL_SEALS)))),
        (
            "record of a tebibyte",
            argument,
            model.with(1, Some(memory(1 << 40, &model.record, ALL_SEALS))),
        ),
        ("another nonce", other_nonce, model.all()),
        (
            "all ours but the nonce",
            other_nonce,
            [
                Some(memory(size, b"", SIZE_SEALS)),
                Some(memory(0, &model.record, ALL_SEALS)),
                null(),
                tracker(),
            ],
        ),
    ];
    for (what, argument, descriptors) in cases {
        let ended = forge(&scene, &[argument], descriptors);
        refused(&scene, what, &ended);
    }
    // The true argument with the true descriptors, while the place is taken: not refused, not needed, and no second guard.
    let ended = forge(&scene, &[argument], model.all());
    assert_eq!(ended.code(), Some(97), "{ended:?}");
    assert!(scene.trace().is_empty());
    scene.settle();
    // And none of this has disturbed the guard on duty.
    assert!(is_on_duty(guard));
    crash(&stage, child);
    assert_eq!(guard_of(&caught(&stage)), guard);
}

// Goal: lengths and counts in a record are believed as far as the record goes, so no few bytes make a guard take gigabytes.
#[test]
fn sizes_on_the_wire_are_not_believed() {
    let stage = Scene::new();
    let (child, guard) = guarded(&stage, &[]);
    let model = Model::of(guard);
    let scene = Scene::new();
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    // A guard of another store would make it; that place is left as it is.
    let store = stage.store().into_os_string().into_encoded_bytes();
    let start = model
        .record
        .windows(store.len())
        .position(|bytes| bytes == store)
        .expect("the store's path");
    let path = start..start + store.len();
    // Every other word of the record, made huge, up to where the environment alone goes on.
    for at in (0..model.record.len().min(512)).step_by(4) {
        if at < path.end && at + 4 > path.start {
            continue;
        }
        let mut record = model.record.clone();
        record[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        cases.push((format!("word {at} huge"), record));
    }
    for keep in [1, 7, 8, 12, 20, 40, 64, 100, model.record.len() / 2, model.record.len() - 1] {
        cases.push((format!("cut after {keep}"), model.record[..keep].to_vec()));
    }
    let mut longer = model.record.clone();
    longer.push(0);
    cases.push(("one byte more".into(), longer));
    for (what, record) in cases {
        let descriptors = model.with(1, Some(memory(0, &record, ALL_SEALS)));
        let ended = forge(&scene, &[&model.argument], descriptors);
        // A word that is only a value, such as a time or a limit, may be anything; then the place is taken and the guard isn't needed.
        assert!(matches!(ended.code(), Some(97 | 98)), "{what}: {ended:?}");
        if ended.code() == Some(98) {
            refused(&scene, &what, &ended);
        }
        assert!(scene.trace().is_empty(), "{what}");
        assert!(!what.starts_with("cut") || ended.code() == Some(98), "{what}: {ended:?}");
    }
    crash(&stage, child);
    assert_eq!(guard_of(&caught(&stage)), guard);
}

// Goal: while the application holds its guard off, no other process runs its file and a crash is reported but not followed; afterwards all is as before.
#[test]
fn a_guard_is_held_off_and_comes_back() {
    let scene = Scene::new();
    let held = ["--wait-ready", "--hold-ms", "600000", "none"];
    let worker = scene.zoo(&held).spawn().expect("the zoo starts");
    scene.await_event("held", 1);
    assert_eq!(scene.processes().into_iter().collect::<Vec<u32>>(), [worker.id()]);
    assert!(kill(worker.id(), libc::SIGSEGV));
    assert_eq!(scene.finish(worker).signal(), Some(libc::SIGSEGV));
    scene.settle();
    assert_eq!(scene.events("main").len(), 1);
    let report = scene.report();
    assert_eq!(report.exception().0, libc::SIGSEGV);
    assert_eq!(report.decision(), (false, "worker held its guard off".into()));

    for options in
        [&["--wait-ready"][..], &[], &["--topology", "at-crash"], &["--topology", "guard-first"]]
    {
        let scene = Scene::new();
        let arguments = [options, &["--hold-ms", "0", "null-write"]].concat();
        scene.run_lives(&arguments, 2);
        assert!(scene.events("held").len() == 2, "{options:?}");
        assert_eq!(scene.report().exception().0, libc::SIGSEGV, "{options:?}");
    }
}
