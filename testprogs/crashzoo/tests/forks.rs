//! Programs that go on in a process that they have forked.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;

use common::{Scene, TOPOLOGIES, kill};

// Goal: a daemon, which is a fork of a fork of what was started, is guarded like any other program: dumped, reported, and started again as what it was, which becomes a daemon again. What it was forked from ends well, and nobody takes its end for another.
#[test]
fn daemons_are_guarded() {
    for topology in TOPOLOGIES {
        for roles in [false, true] {
            let scene = Scene::new();
            let mut arguments = vec!["--topology", topology, "--daemonize", "--wait-guarded"];
            arguments.extend(["--lives", "2", "--thread", "std", "--annotate", "is=daemon"]);
            if roles {
                arguments.push("--roles");
            }
            arguments.push("null-write");
            let ended = scene.live_through(scene.zoo(&arguments), 3);
            assert_eq!(ended.code(), Some(0), "{topology}: {ended:?}");
            assert_eq!(ended.stderr, "", "{topology}");
            let mains = scene.events("main");
            let lives: Vec<_> = mains.iter().map(|line| line.incarnation).collect();
            assert_eq!(lives, [Some(0), Some(1), Some(2)], "{topology}");
            assert_eq!(mains[1].last_exit_class.as_deref(), Some("crash:11"), "{topology}");
            let reports = scene.reports();
            assert_eq!(reports.len(), 2, "{topology}: {reports:#?}");
            for (report, main) in reports.iter().zip(&mains) {
                assert_eq!(report.json["worker_pid"], main.pid);
                assert_eq!(report.json["annotations"]["is"], "daemon");
                assert_eq!(report.exception().0, libc::SIGSEGV);
                assert_eq!(report.decision(), (true, "worker crashed".into()));
            }
            assert!(mains.iter().all(|main| main.pid != ended.pid));
        }
    }
}

// Goal: a daemon's guard is watched over too: one that was killed is followed by another.
#[test]
fn a_daemons_guard_is_replaced() {
    let scene = Scene::new();
    let arguments = ["--daemonize", "--wait-guarded", "--after", "600000", "none"];
    let ended = scene.finish(scene.zoo(&arguments).spawn().expect("the zoo starts"));
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let daemon = scene.await_event("guarded", 1).remove(0);
    let guard = scene.await_guard(None);
    assert_eq!(daemon.guard_pid, Some(guard));
    scene.end(guard);
    scene.await_guard(Some(guard));
    kill(daemon.pid, libc::SIGBUS);
    scene.settle();
    assert_eq!(scene.report().exit_class(), ("crash".into(), Some(7)));
}

// Goal: what a forked child does that isn't guarded stays out of its parent's report: its panics too.
#[test]
fn a_forked_childs_panic_is_not_its_parents() {
    let scene = Scene::new();
    let ended = scene.run(&["--wait-guarded", "--restart", "never", "fork-panic"]);
    assert_eq!(ended.code(), Some(7), "{ended:?}");
    let report = scene.report();
    assert!(report.json["panic"].is_null(), "{:#}", report.json);
}
