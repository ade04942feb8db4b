//! A worker that changed what it is: its user, its program, or a dead one into a living one.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{PATIENCE, Scene};

/// The user that owns nothing.
const NOBODY: &str = "65534";

/// Runs a worker that gives up root, with a store that everybody may write; `None` where the test isn't root.
fn after_giving_up_root(more: &[&str]) -> Option<(Scene, common::Report)> {
    if !common::is_root() {
        eprintln!("not shown without root: a worker that gives up root");
        return None;
    }
    let scene = Scene::new();
    for directory in ["", "store", "store/tmp", "store/new", "store/pending", "store/completed"] {
        let path = scene.path(directory);
        fs::create_dir_all(&path).expect("a directory");
        fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("its mode");
    }
    let mut arguments = vec!["--wait-ready", "--drop-user", NOBODY];
    arguments.extend(more);
    arguments.push("null-write");
    let ended = scene.run(&arguments);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    let report = scene.report();
    assert_eq!(report.exit_class(), ("crash".into(), Some(11)), "{:#}", report.json);
    assert_eq!(report.exception().2, 0);
    Some((scene, report))
}

// Goal: the guard of before the change dumps the worker whole, and starts it again as it was started first.
#[test]
fn the_first_guard_keeps_its_rights() {
    let Some((scene, report)) = after_giving_up_root(&[]) else { return };
    assert_eq!(report.json["soft_errors"], serde_json::json!([]));
    assert_eq!(scene.events("main").len(), 2);
}

// Goal: a late guard, which may see nothing of the worker, still leaves a dump with the crash and its stack, says what it could not do, and starts nothing with other rights.
#[test]
fn a_late_guard_without_rights_does_what_it_can() {
    let Some((scene, report)) = after_giving_up_root(&["--fail-spot", "crash-heard:kill"]) else {
        return;
    };
    assert_eq!(report.json["late_guard"], true);
    assert!(!report.json["soft_errors"].as_array().expect("a list").is_empty());
    assert_eq!(report.decision(), (false, "worker had dropped privileges".into()));
    assert_eq!(scene.events("main").len(), 1);
    let dump = report.minidump();
    let threads = dump.get_stream::<minidump::MinidumpThreadList<'_>>().expect("threads");
    let memory = dump.get_memory().unwrap_or_default();
    let stack = threads.threads[0].stack_memory(&memory).expect("the copied stack");
    assert!(stack.size() >= 1024, "{} bytes of stack", stack.size());
}

// Goal: with the application's leave the late guard sees everything, for as long as the crash waits.
#[test]
fn a_late_guard_sees_all_by_choice() {
    let more = ["--raise-dumpable", "--fail-spot", "crash-heard:kill"];
    let Some((_scene, report)) = after_giving_up_root(&more) else { return };
    assert_eq!(report.json["late_guard"], true);
    assert_eq!(report.json["soft_errors"], serde_json::json!([]), "{:#}", report.json);
    assert!(report.crash_module().expect("a module").ends_with("crashzoo"));
}

// Goal: a worker that becomes another program is no longer ours: the guard leaves while the process lives on, and nothing is reported.
#[test]
fn the_guard_leaves_a_process_that_became_another() {
    let scene = Scene::new();
    let child = scene.zoo(&["--wait-ready", "exec"]).spawn().expect("the zoo starts");
    let guard = scene.await_event("guarded", 1)[0].guard_pid.expect("a guard");
    if let Some(pidfd) = common::pidfd(guard) {
        assert!(common::wait_gone(&pidfd, PATIENCE), "the guard stays");
    }
    assert!(common::state(child.id()).is_some_and(|state| state != 'Z'), "the process lives on");
    common::reap(guard);
    assert!(scene.finish(child).status.success());
    scene.settle();
    assert_eq!(scene.reports().len(), 0);
    assert_eq!(scene.events("main").len(), 1);
}

// Goal: a worker that executes itself has one guard, the new one, and its crash one report and one next life.
#[test]
fn a_worker_that_executes_itself_is_restarted_once() {
    let scene = Scene::new();
    let ended = scene.run(&["--wait-ready", "--after", "300", "exec-self"]);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    let mains = scene.events("main");
    // The first program, itself again, and the next life.
    assert_eq!(mains.len(), 3, "{mains:#?}");
    assert_eq!((mains[0].pid, mains[1].pid), (ended.pid, ended.pid));
    assert_eq!(scene.reports().len(), 1);
}

// Goal: a worker whose handler mends the fault after the report lives on, is armed and guarded again, and its later end is an end of its own.
#[test]
fn a_survivor_is_guarded_again_and_judged_anew() {
    let scene = Scene::new();
    let ended = scene.run(&["--wait-ready", "survive"]);
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    assert_eq!(scene.events("main").len(), 1, "an exit code is not followed by a next life");
    assert_eq!(scene.events("recovered").len(), 1);
    let reports = scene.reports();
    assert_eq!(reports.len(), 2, "{reports:#?}");
    let crash = reports.iter().find(|report| report.dump.is_some()).expect("the crash's report");
    let exit = reports.iter().find(|report| report.dump.is_none()).expect("the exit's record");
    assert_eq!(crash.json["exit"], serde_json::Value::Null, "{:#}", crash.json);
    let remarks = crash.json["soft_errors"].to_string();
    assert!(remarks.contains("survived"), "{remarks}");
    assert_eq!(exit.exit_class(), ("code".into(), Some(3)));
    assert_eq!(exit.json["crash"], serde_json::Value::Null, "{:#}", exit.json);
    assert_eq!(exit.json["soft_errors"], serde_json::json!([]));
}

// Goal: a worker that ends well right after it survived is not started again for a crash that was none.
#[test]
fn a_brief_survivor_is_not_restarted() {
    let scene = Scene::new();
    let ended = scene.run(&["--wait-ready", "survive-briefly"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(scene.events("main").len(), 1, "{:#?}", scene.trace());
    assert!(!scene.report().decision().0);
}
