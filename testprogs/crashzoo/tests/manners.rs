//! A guest in somebody else's process: what programs do with children, signals, descriptors, directories and filters is neither disturbed nor misreported, wherever the guard stands.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{Scene, TOPOLOGIES, has_strace, kill, state};

/// What a program without rearguard would say of its children.
const UNDISTURBED: &str = "children: none; signals of children: 0; threads: crashzoo rearguard\n";

/// Runs the zoo through two lives with these habits, and gives what the first life said, and its report.
fn two_lives(topology: &str, options: &[&str]) -> (Scene, String, common::Report) {
    let scene = Scene::new();
    let begin = ["--topology", topology, "--wait-guarded", "--lives", "1"];
    let arguments = [&begin[..], options, &["null-write"]].concat();
    let mut command = scene.zoo(&arguments);
    let told = fs::File::create(scene.path("told")).expect("a file");
    command.stderr(told);
    scene.live_through(command, 2);
    let said = fs::read_to_string(scene.path("told")).expect("what it told");
    let report = scene.report();
    assert_eq!(report.exit_class(), ("crash".into(), Some(11)), "{topology} {options:?}");
    assert_eq!(report.decision(), (true, "worker crashed".into()), "{topology} {options:?}");
    assert_eq!(report.exception().0, libc::SIGSEGV);
    (scene, said, report)
}

// Goal: a program that waits for any child finds none, gets no signal of one, and has one thread more, which has a name.
#[test]
fn children_are_the_applications_own() {
    for topology in TOPOLOGIES {
        let options = ["--manners", "count-sigchld", "--tell-children"];
        let (_scene, said, report) = two_lives(topology, &options);
        let lives = format!("crashzoo: {UNDISTURBED}");
        assert_eq!(said, lives.repeat(2), "{topology}");
        assert_eq!(report.json["soft_errors"], serde_json::json!([]));
    }
}

// Goal: a guard that dies and is followed by another is no child and no signal either.
#[test]
fn a_guards_death_is_no_childs() {
    let scene = Scene::new();
    let habits = ["--wait-guarded", "--manners", "count-sigchld", "--tell-children"];
    let arguments = [&habits[..], &["--after", "600000", "none"]].concat();
    let mut worker = scene.zoo(&arguments).stderr(Stdio::null()).spawn().expect("the zoo starts");
    let guard = scene.await_guard(None);
    let before = signals_pending_or_handled(worker.id());
    scene.end(guard);
    scene.await_guard(Some(guard));
    assert_eq!(signals_pending_or_handled(worker.id()), before);
    kill(worker.id(), libc::SIGKILL);
    worker.wait().expect("it ends");
    scene.settle();
}

/// The signals that wait for a process, and how often its main thread was woken.
fn signals_pending_or_handled(pid: u32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let is_wanted = |line: &&str| {
        ["SigPnd:", "ShdPnd:", "voluntary_ctxt_switches:"].iter().any(|key| line.starts_with(key))
    };
    status.lines().filter(is_wanted).map(str::to_owned).collect()
}

// Goal: a program that ignores its children's signals is guarded as any other, and its next life ignores them too.
#[test]
fn ignored_children_are_no_hindrance() {
    for topology in TOPOLOGIES {
        let (_scene, said, report) = two_lives(topology, &["--manners", "ignore-sigchld"]);
        assert_eq!(said, "", "{topology}");
        assert_eq!(report.json["soft_errors"], serde_json::json!([]), "{topology}");
    }
}

// Goal: a subreaper, which gets every orphan, gets the guard too, as a child that lives; that is all it sees.
#[test]
fn a_subreaper_sees_the_guard_and_no_more() {
    for (topology, children) in
        [("worker-first", "some, living"), ("at-crash", "none"), ("guard-first", "none")]
    {
        let habits = ["--manners", "subreaper", "--manners", "count-sigchld", "--tell-children"];
        let (_scene, said, _report) = two_lives(topology, &habits);
        let line = said.lines().next().unwrap_or_default();
        let expected = format!("crashzoo: children: {children}; signals of children: 0; ");
        assert!(line.starts_with(&expected), "{topology}: {said}");
    }
}

// Goal: descriptors that are closed, and numbers that are used again, are none of ours.
#[test]
fn closed_and_reused_descriptors_are_no_hindrance() {
    for topology in TOPOLOGIES {
        let habits = ["--manners", "close-all", "--manners", "reuse-descriptors"];
        let (_scene, _said, report) = two_lives(topology, &habits);
        assert_eq!(report.json["soft_errors"], serde_json::json!([]), "{topology}");
        assert!(report.crash_module().is_some_and(|module| module.ends_with("crashzoo")));
    }
}

// Goal: a program that changes its directory keeps its store, and its next life begins where it began.
#[test]
fn another_directory_changes_nothing() {
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let mut command = scene.command("crashzoo");
        command.args(["--store", "store", "--trace", "trace", "--topology", topology]);
        command.args(["--wait-guarded", "--manners", "chdir", "--print-args", "arguments"]);
        command.args(["--lives", "1", "null-write"]);
        scene.live_through(command, 2);
        let said = fs::read_to_string(scene.path("arguments")).expect("both have told");
        let place = scene.directory.path().canonicalize().expect("a directory");
        let place = place.to_str().expect("a path that is text");
        assert_eq!(said.lines().filter(|line| *line == place).count(), 2, "{topology}: {said}");
        assert_eq!(scene.reports().len(), 1, "{topology}");
    }
}

// Goal: a filter that a program installs for itself is not its guard's; a guard that comes only after it inherits it, dumps, and starts nothing with fewer rights than the first life had.
#[test]
fn a_filter_of_the_applications_is_its_own() {
    for topology in ["worker-first", "guard-first"] {
        let (_scene, _said, report) = two_lives(topology, &["--manners", "seccomp"]);
        assert_eq!(report.json["soft_errors"], serde_json::json!([]), "{topology}");
    }
    let scene = Scene::new();
    let habits = ["--topology", "at-crash", "--wait-guarded", "--manners", "seccomp"];
    scene.run(&[&habits[..], &["--lives", "1", "null-write"]].concat());
    let report = scene.report();
    // The keeper began before the filter, which is its thread's own.
    assert_eq!(report.exception().0, libc::SIGSEGV);
    assert_eq!(report.decision(), (true, "worker crashed".into()));
}

// Goal: a fault whose signal its thread blocks ends the program without any handler; that is recorded, without a dump, and followed by a next life.
#[test]
fn blocked_signals_cost_the_dump() {
    for topology in ["worker-first", "guard-first"] {
        let scene = Scene::new();
        let habits = ["--topology", topology, "--wait-guarded", "--manners", "block-signals"];
        let arguments = [&habits[..], &["--lives", "1", "null-write"]].concat();
        scene.live_through(scene.zoo(&arguments), 2);
        let report = scene.report();
        assert_eq!(report.exit_class(), ("crash".into(), Some(11)), "{topology}");
        assert!(report.dump.is_none(), "{topology}");
        assert_eq!(report.decision(), (true, "worker crashed".into()), "{topology}");
    }
}

// Goal: a debugger that comes while a program runs keeps its threads; the crash is dumped as far as it lets, and nothing is started behind its user's back.
#[test]
fn a_debuggers_program_is_told_and_not_restarted() {
    if !has_strace() {
        return;
    }
    let scene = Scene::new();
    let worker = scene
        .zoo(&["--wait-guarded", "--threads", "2", "--after", "600000", "none"])
        .spawn()
        .expect("the zoo starts");
    scene.await_event("guarded", 1);
    let pid = worker.id().to_string();
    let debugger = Command::new("strace")
        .args(["-f", "-q", "-o", "/dev/null", "-p", &pid])
        .stderr(Stdio::null())
        .spawn()
        .expect("strace starts");
    scene.await_that("it has the threads", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.trim_end() == format!("TracerPid:\t{}", debugger.id()))
    });
    assert!(kill(worker.id(), libc::SIGSEGV));
    let ended = scene.finish(worker);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    scene.finish(debugger);
    scene.settle();
    let report = scene.report();
    assert_eq!(report.exception().0, libc::SIGSEGV);
    assert_eq!(report.decision(), (false, "a debugger holds the worker".into()));
    assert_eq!(scene.events("main").len(), 1);
    assert!(state(ended.pid).is_none());
}
