//! An application of several processes from one file: each is guarded, by one guard for all or by its own, and none takes the others along.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;

use std::fs;
use std::process::Child;
use std::time::Duration;

use common::{Line, PATIENCE, Scene, kill, pause, pidfd, reap, state, wait_gone};

/// Longer than any test.
const STAYS: &str = "--wait-guarded --after 600000 none";

/// The lines of one event that are a role's.
fn of_role(scene: &Scene, event: &str, role: &str) -> Vec<Line> {
    scene.events(event).into_iter().filter(|line| line.role.as_deref() == Some(role)).collect()
}

/// Waits for so many of them.
fn await_role(scene: &Scene, event: &str, role: &str, count: usize) -> Vec<Line> {
    scene.await_some("event of a role", || {
        let lines = of_role(scene, event, role);
        (lines.len() >= count).then_some(lines)
    })
}

/// The guard of the main process, and with it of its family.
fn family_guard(scene: &Scene) -> u32 {
    let main = |line: &Line| line.role.is_none().then_some(line.guard_pid).flatten();
    scene.await_some("guarded main process", || scene.events("guarded").iter().find_map(main))
}

/// A main process that stands until it is told to end, with its roles.
struct Family {
    scene: Scene,
    main: Child,
    /// The guard of the main process, and with it of its family.
    guard: u32,
}

impl Family {
    /// With these options, the roles' too.
    fn new(options: &[&str]) -> Family {
        let scene = Scene::new();
        let arguments = [&["--wait-guarded"], options, &["--after", "600000", "none"]].concat();
        let main = scene.zoo(&arguments).spawn().expect("the zoo starts");
        let guard = family_guard(&scene);
        Family { scene, main, guard }
    }

    /// Ends the main process by a request to stop, and what is left of its roles.
    fn end(self, roles: impl IntoIterator<Item = u32>) -> Scene {
        kill(self.main.id(), libc::SIGTERM);
        let ended = self.scene.finish(self.main);
        assert_eq!(ended.signal(), Some(libc::SIGTERM), "{ended:?}");
        end(&self.scene, roles);
        self.scene
    }
}

/// Ends what a test has left standing.
fn end(scene: &Scene, pids: impl IntoIterator<Item = u32>) {
    for pid in pids {
        kill(pid, libc::SIGTERM);
    }
    scene.settle();
}

fn pids(lines: &[Line]) -> Vec<u32> {
    lines.iter().map(|line| line.pid).collect()
}

// Goal: a role that crashes is reported by its name and started again by its own policy; main process, other roles and their guard go on as if nothing had happened.
#[test]
fn a_role_that_crashes_takes_nobody_along() {
    let stays = format!("helper:{STAYS}");
    let dies = "helper:--wait-guarded --lives 1 --threads 3 --annotate kind=doomed null-write";
    let family = Family::new(&["--start", &stays, "--start", dies]);
    let (scene, guard) = (&family.scene, family.guard);
    let lives = await_role(scene, "guarded", "helper", 3);
    assert!(lives.iter().all(|line| line.guard_pid == Some(guard)), "{lives:#?}");
    let again = lives.iter().find(|line| line.incarnation == Some(1)).expect("a second life");
    assert_eq!(again.last_exit_class.as_deref(), Some("crash:11"));
    scene.await_that("the report is kept", || {
        scene.reports().first().is_some_and(|report| report.stage == "pending")
    });
    let report = scene.report();
    assert_eq!(report.json["role"], "helper", "{:#}", report.json);
    assert_eq!(report.json["annotations"]["kind"], "doomed");
    assert_eq!(report.json["minidump"]["threads"], 5);
    assert_eq!(report.json["soft_errors"], serde_json::json!([]));
    assert_eq!(report.exit_class(), ("crash".into(), Some(11)));
    assert_eq!(report.decision(), (true, "worker crashed".into()));
    assert_ne!(report.json["guard_pid"], guard);
    assert!(report.crash_module().is_some_and(|module| module.ends_with("crashzoo")));
    let staying: Vec<u32> = pids(&lives).into_iter().filter(|pid| *pid != again.pid).collect();
    assert!(staying.iter().any(|pid| matches!(state(*pid), Some('S' | 'R'))));
    assert!(state(guard).is_some());
    let scene = family.end(pids(&lives));
    assert_eq!(scene.events("main").len(), 4);
}

// Goal: every way a role can end is told as what it was: an exit code, a kill, a panic, a program that became another.
#[test]
fn ends_of_roles_are_told_as_what_they_were() {
    let ends = [
        ("exit-3", Some(("code", Some(3)))),
        ("panic", Some(("code", Some(101)))),
        ("sigkill", Some(("killed", Some(9)))),
        ("abort", Some(("crash", Some(6)))),
        ("stack-overflow", Some(("crash", Some(11)))),
        ("crash-x8", None),
        ("none", Some(("clean", None))),
        ("exec", Some(("clean", None))),
    ];
    for (way, told) in ends {
        let line = format!("helper:--wait-guarded --restart never {way}");
        let family = Family::new(&["--start", &line]);
        let (scene, guard) = (&family.scene, family.guard);
        let role = await_role(scene, "guarded", "helper", 1);
        assert_eq!(role[0].guard_pid, Some(guard), "{way}");
        let role = pidfd(role[0].pid);
        assert!(role.is_none_or(|role| wait_gone(&role, PATIENCE)), "{way}");
        // What the family's guard has sent for this end comes, and goes.
        scene.await_that("somebody was sent", || lines_of(guard) == 0);
        scene.await_that("nobody but main process and guard is left", || {
            scene.processes().len() == 2
        });
        match told {
            Some(("clean", None)) => assert!(scene.reports().is_empty(), "{way}"),
            Some((class, value)) => {
                let report = scene.report();
                assert_eq!(report.exit_class(), (class.into(), value), "{way}");
                assert_eq!(report.json["role"], "helper");
            }
            None => assert_eq!(scene.report().exit_class().0, "crash"),
        }
        family.end([]);
    }
}

/// How often the threads of a process have been woken, all together.
fn wake_ups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let count = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).expect("a count")
    };
    tasks
        .flatten()
        .map(|task| count(fs::read_to_string(task.path().join("status")).expect("its status")))
        .sum()
}

/// What a process takes of the machine's memory.
fn pss_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

// Goal: one guard stands for a hundred roles: no other process, no wake-up while all is well, at most 3 MB; and each of them is still guarded.
#[test]
fn a_hundred_roles_have_one_guard() {
    let many = format!("100:{STAYS}");
    let family = Family::new(&["--start-many", &many]);
    let (scene, guard) = (&family.scene, family.guard);
    let roles = await_role(scene, "guarded", "helper", 100);
    let others = roles.iter().filter(|line| line.guard_pid != Some(guard)).count();
    assert_eq!((others, scene.guards()), (0, vec![guard]));
    scene.await_that("the guard sleeps", || state(guard) == Some('S'));
    let before = wake_ups(guard);
    pause(Duration::from_secs(1));
    assert_eq!(wake_ups(guard), before);
    let pss_kib = pss_kib(guard);
    assert!(pss_kib <= 3 << 10, "{pss_kib} KiB");
    let last = roles[99].pid;
    kill(last, libc::SIGSEGV);
    scene.await_that("it is reported", || scene.reports().len() == 1);
    assert_eq!(scene.report().json["worker_pid"], last);
    family.end(pids(&roles));
}

// Goal: when the guard of a family dies, all its members have the next one.
#[test]
fn a_family_survives_its_guard() {
    let many = format!("5:{STAYS}");
    let family = Family::new(&["--start-many", &many]);
    let scene = &family.scene;
    let roles = await_role(scene, "guarded", "helper", 5);
    let mut before = family_guard(scene);
    let signals = [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT];
    for (dying, (role, signal)) in roles.iter().zip(signals).enumerate() {
        let guard = pidfd(before).expect("a living guard");
        kill(before, signal);
        assert!(wait_gone(&guard, PATIENCE), "the guard outlives signal {signal}");
        reap(before);
        let next = scene.await_guard(Some(before));
        // A member that wasn't taken in would have a guard of its own beside it.
        scene.await_that("one guard for all", || lines_of(next) == 5 - dying);
        assert_eq!(scene.guards(), [next]);
        kill(role.pid, libc::SIGILL);
        scene.await_that("it is reported", || scene.reports().len() == dying + 1);
        scene.await_that("its guard has gone", || scene.guards() == [next]);
        before = next;
    }
    let told: Vec<_> = scene.reports().iter().map(|report| report.exit_class()).collect();
    assert_eq!(told, vec![("crash".into(), Some(4)); 3]);
    family.end(pids(&roles));
}

/// How many lines to members a guard holds; the two ends of the family's own sockets are no members.
fn lines_of(guard: u32) -> usize {
    sockets_of(guard).saturating_sub(2)
}

// Goal: a role whose family's guard is silent has a guard of its own before it dies, and everybody else keeps theirs or gets a new one.
#[test]
fn a_silent_family_guard_is_no_loss() {
    let dies = "helper:--wait-guarded --dump-wait-ms 500 --after 600000 none";
    let family = Family::new(&["--start", dies]);
    let (scene, guard) = (&family.scene, family.guard);
    let role = await_role(scene, "guarded", "helper", 1).remove(0);
    kill(guard, libc::SIGSTOP);
    scene.await_that("it has stopped", || state(guard) == Some('T'));
    kill(role.pid, libc::SIGFPE);
    scene.await_that("it is reported", || scene.reports().len() == 1);
    let report = scene.report();
    assert_eq!(report.exit_class(), ("crash".into(), Some(8)));
    assert!(report.dump.is_some());
    assert_eq!(report.json["role"], "helper");
    kill(guard, libc::SIGCONT);
    family.end([]);
}

// Goal: roles outlive their main process, guarded as before; but another life has nobody to use it.
#[test]
fn roles_without_their_main_process_are_not_started_again() {
    let stays = format!("2:{STAYS}");
    let Family { scene, main, guard } = Family::new(&["--start-many", &stays]);
    let roles = await_role(&scene, "guarded", "helper", 2);
    kill(main.id(), libc::SIGTERM);
    scene.finish(main);
    scene.await_that("its own end is dealt with", || scene.reports().len() == 1);
    let mains = scene.reports().remove(0);
    assert_eq!(mains.json["role"], "main");
    kill(roles[0].pid, libc::SIGSEGV);
    scene.await_that("it is reported", || scene.reports().len() == 2);
    scene.await_that("it is decided", || !scene.reports()[1].json["decision"].is_null());
    let report = scene.reports().remove(1);
    assert_eq!(report.json["role"], "helper");
    assert_eq!(report.decision(), (false, "the application's main process is gone".into()));
    assert!(state(guard).is_some(), "it stands for the other");
    end(&scene, [roles[1].pid]);
    assert_eq!(scene.events("main").len(), 3);
}

// Goal: a main process that crashes is started again by the guard of its family, which stays for the roles of the earlier life.
#[test]
fn a_main_process_is_started_again_and_its_roles_go_on() {
    let scene = Scene::new();
    let stays = format!("helper:{STAYS}");
    let arguments = ["--wait-guarded", "--lives", "1", "--start", &stays, "--after", "300", "trap"];
    let main = scene.zoo(&arguments).spawn().expect("the zoo starts");
    assert_eq!(scene.finish(main).signal(), Some(libc::SIGTRAP));
    let roles = await_role(&scene, "guarded", "helper", 2);
    assert_ne!(roles[0].guard_pid, roles[1].guard_pid);
    assert!(roles.iter().all(|role| state(role.pid).is_some()));
    end(&scene, pids(&roles));
    let mains = scene.events("main").into_iter().filter(|line| line.role.is_none());
    assert_eq!(mains.count(), 2);
}

// Goal: by choice a role has a guard of its own, from its first life on.
#[test]
fn a_loner_has_a_guard_of_its_own() {
    let family = Family::new(&["--start", "loner:--wait-guarded --lives 1 --after 50 ill"]);
    let (scene, guard) = (&family.scene, family.guard);
    let lives = await_role(scene, "guarded", "loner", 2);
    assert!(lives.iter().all(|line| line.guard_pid.is_some_and(|own| own != guard)));
    scene.await_that("it is reported", || scene.reports().len() == 1);
    assert_eq!(scene.report().json["role"], "loner");
    family.end([]);
}

// Goal: whatever comes by the family's socket costs its sender at most its own guard.
#[test]
fn nonsense_at_the_door_harms_nobody() {
    let many = format!("3:{STAYS}");
    let family = Family::new(&["--knock", "1000", "--start-many", &many]);
    let (scene, guard) = (&family.scene, family.guard);
    let roles = await_role(scene, "guarded", "helper", 3);
    assert!(roles.iter().all(|line| line.guard_pid == Some(guard)), "{roles:#?}");
    assert_eq!(lines_of(guard), 3, "nothing of the nonsense is kept");
    family.end(pids(&roles));
}

/// How many sockets a process's table shows.
fn sockets_of(pid: u32) -> usize {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

// Goal: of the family's sockets the main process's table shows one, which an exec closes; a role's shows none.
#[test]
fn tables_show_what_is_promised() {
    let stays = format!("helper:{STAYS}");
    let family = Family::new(&["--start", &stays]);
    let role = await_role(&family.scene, "guarded", "helper", 1).remove(0);
    assert_eq!((sockets_of(family.main.id()), sockets_of(role.pid)), (1, 0));
    family.end([role.pid]);
}

// Goal: a role argument that can't be used never lets the main process's code run, and says in one line why.
#[test]
fn unusable_role_arguments_end_the_process() {
    for (argument, why) in [
        ("--rearguard-role=1:0.0:stranger", "no role of that name"),
        ("--rearguard-role=2:0.0:helper", "not as this version writes it"),
        ("--rearguard-role=1:x:helper", "no number"),
        ("--rearguard-role=1:0.0:", "names no role"),
        ("--rearguard-role", "not as this version writes it"),
    ] {
        let scene = Scene::new();
        let mut command = scene.command("crashzoo");
        command.arg(argument).arg("--trace").arg(scene.trace_path()).arg("exit-3");
        let ended = scene.finish(command.spawn().expect("the zoo starts"));
        assert_eq!(ended.code(), Some(98), "{argument}: {ended:?}");
        assert!(ended.stderr.contains(why), "{argument}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(scene.events("main").is_empty());
    }
    let scene = Scene::new();
    let ended = scene.run(&["--start", "stranger:none", "none"]);
    assert_eq!(ended.code(), Some(78), "{ended:?}");
    assert!(ended.stderr.contains("stranger"), "{ended:?}");
}

// Goal: a socket that isn't the family's any more, or never was, leaves a role with a guard of its own.
#[test]
fn a_role_without_its_family_has_a_guard_of_its_own() {
    for socket in ["0.0", "3.1", "1.1", "99999999999.7"] {
        let scene = Scene::new();
        let mut command = scene.command("crashzoo");
        command.arg(format!("--rearguard-role=1:{socket}:helper"));
        command.args(["--wait-guarded", "--store"]).arg(scene.store());
        command.arg("--trace").arg(scene.trace_path()).arg("abort");
        let ended = scene.run_command(&mut command);
        assert_eq!(ended.signal(), Some(libc::SIGABRT), "{socket}: {ended:?}");
        assert_eq!(scene.report().json["role"], "helper");
        reap(ended.pid);
    }
}

// Goal: when a crash loop is given up, the role that was named for it tells the user, once: it knows how the last life ended and which report is about it, and isn't one of the lives.
#[test]
fn a_crash_loops_end_is_told_by_a_role() {
    for (resident, fails) in [("worker-first", false), ("at-crash", false), ("worker-first", true)]
    {
        let scene = Scene::new();
        let loops = ["--default-limits", "--first-delay-ms", "1", "--max-delay-ms", "1"];
        let arguments = [&["--topology", resident, "--lives", "9"], &loops[..]].concat();
        let mut command = scene.zoo(&[&arguments[..], &["--notice", "null-write"]].concat());
        command.env("ZOO_NOTICE", scene.path("notice"));
        if fails {
            command.env("ZOO_NOTICE_FAILS", "1");
        }
        let ended = scene.live_through(command, 3);
        assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
        scene.settle();
        let told = fs::read_to_string(scene.path("notice")).expect("somebody was told");
        let mut reports = scene.reports();
        if fails {
            // A notice that fails is reported as any other process, and not given again.
            assert_eq!(reports.pop().expect("its own").json["role"], "notice");
        }
        let last = reports.last().expect("a report");
        let id = last.json["id"].as_str().expect("an id");
        assert_eq!(told, format!("notice 3 crash {id}\n"), "{resident}");
        assert_eq!(last.decision(), (false, "crash loop: too many short lives in a row".into()));
        assert_eq!(reports.len(), 3);
    }
}

// Goal: nobody is told where nothing was given up: a restart that worked, a policy that wants none.
#[test]
fn nobody_is_told_of_what_was_not_given_up() {
    for options in [&["--lives", "2", "null-write"][..], &["--restart", "never", "abort"]] {
        let scene = Scene::new();
        let mut command = scene.zoo(&[&["--notice", "--wait-ready"], options].concat());
        command.env("ZOO_NOTICE", scene.path("notice"));
        scene.run_command(&mut command);
        assert!(!scene.path("notice").exists(), "{options:?}");
    }
}

// Goal: where no guard stands behind the main process, its roles have guards of their own.
#[test]
fn roles_of_other_topologies_have_guards_of_their_own() {
    for topology in ["at-crash", "guard-first"] {
        let scene = Scene::new();
        let dies = "2:--wait-guarded --lives 1 --after 50 null-write";
        let arguments = ["--topology", topology, "--wait-guarded", "--start-many", dies];
        let arguments = [&arguments[..], &["--after", "600000", "none"]].concat();
        let main = scene.zoo(&arguments).spawn().expect("the zoo starts");
        let lives = await_role(&scene, "guarded", "helper", 4);
        scene.await_that("they are reported", || scene.reports().len() == 2);
        let guards: std::collections::BTreeSet<_> =
            lives.iter().filter_map(|line| line.guard_pid).collect();
        assert_eq!(guards.len(), 4, "{topology}: {lives:#?}");
        assert!(scene.reports().iter().all(|report| report.json["role"] == "helper"));
        kill(main.id(), libc::SIGTERM);
        assert_eq!(scene.finish(main).signal(), Some(libc::SIGTERM), "{topology}");
        scene.settle();
    }
}

// Goal: a guard that stands for roles doesn't leave them because the main process holds it off, which is told.
#[test]
fn a_hold_leaves_the_roles_guarded() {
    let scene = Scene::new();
    let stays = format!("helper:{STAYS}");
    let arguments = ["--wait-guarded", "--start", &stays, "--after", "1000", "--hold-ms", "1"];
    let arguments = [&arguments[..], &["none"]].concat();
    let ended = scene.finish(scene.zoo(&arguments).spawn().expect("the zoo starts"));
    assert_eq!(ended.code(), Some(78), "{ended:?}");
    assert!(ended.stderr.contains("has not left within two seconds"), "{ended:?}");
    let role = await_role(&scene, "guarded", "helper", 1).remove(0);
    kill(role.pid, libc::SIGSEGV);
    scene.settle();
    let told = scene.reports().into_iter().find(|report| report.json["role"] == "helper");
    assert_eq!(told.expect("its report").exit_class(), ("crash".into(), Some(11)));
}

// Goal: a role that its launcher has confined isn't guarded, and isn't started again, with the rights that it hasn't: its own guard is as confined as itself.
#[test]
fn a_confined_role_stays_confined() {
    let dies = "helper:--wait-guarded --lives 1 --after 50 null-write";
    let family = Family::new(&["--confine-roles", "--start", dies]);
    let (scene, guard) = (&family.scene, family.guard);
    let lives = await_role(scene, "guarded", "helper", 2);
    assert!(lives.iter().all(|line| line.guard_pid.is_some_and(|own| own != guard)), "{lives:#?}");
    scene.await_that("it is reported", || scene.reports().len() == 1);
    family.end([]);
}

// Goal: a role that crashes while it joins, or before, is dumped without delay, and the guard that it was about to have stays with the others.
#[test]
fn a_crash_at_the_door_is_no_loss() {
    let stays = format!("helper:{STAYS}");
    let dies = "40:--restart never null-write";
    let family = Family::new(&["--start", &stays, "--start-many", dies]);
    let (scene, guard) = (&family.scene, family.guard);
    let dying = await_role(scene, "dying", "helper", 40);
    let dies = |line: &Line| dying.iter().any(|dying| dying.pid == line.pid);
    let lasting = scene.await_some("guarded role", || {
        of_role(scene, "guarded", "helper").into_iter().find(|line| !dies(line))
    });
    for line in &dying {
        let gone = pidfd(line.pid);
        assert!(gone.is_none_or(|gone| wait_gone(&gone, PATIENCE)), "{line:?}");
    }
    // The store keeps the ten newest.
    scene.await_that("all are dealt with", || scene.processes().len() == 3);
    let reports = scene.reports();
    assert_eq!(reports.len(), 10);
    assert!(reports.iter().all(|report| report.exception().0 == libc::SIGSEGV));
    assert_eq!(lasting.guard_pid, Some(guard));
    assert_eq!(scene.guards(), [guard], "nobody has ended it");
    assert_eq!(lines_of(guard), 1);
    family.end([lasting.pid]);
}

// Goal: a socket that one process has shut down for all leaves those who come later with guards of their own, and the family's guard asleep.
#[test]
fn a_door_that_was_shut_stays_shut() {
    let stays = format!("helper:{STAYS}");
    let family = Family::new(&["--shut-door", "--start", &stays]);
    let (scene, guard) = (&family.scene, family.guard);
    let role = await_role(scene, "guarded", "helper", 1).remove(0);
    assert_ne!(role.guard_pid, Some(guard));
    scene.await_that("the guard sleeps", || state(guard) == Some('S'));
    let before = wake_ups(guard);
    pause(Duration::from_millis(300));
    assert_eq!(wake_ups(guard), before);
    family.end([role.pid]);
}
