//! Namespaces, filters and limits, with the guard in each of its places: what PLATFORM.md says comes true, nothing hangs, and no program is worse off than without us.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]
#![expect(unsafe_code, reason = "the surroundings are made by system calls")]

mod common;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use common::{Ended, Report, Scene, TOPOLOGIES, done, needs_root};

/// What the health of a guarded program says; where the guard comes only for a crash, that one does.
const GUARDED: &str = "armed, reports are kept";

/// A user that nobody else is, so that its processes can be counted.
const LONER: u32 = 54_321;

/// What a crash is to be there.
struct Expected {
    /// How many lives there are.
    lives: usize,
    /// What there is of the first one's report.
    report: Told,
    /// What the health says.
    says: &'static str,
}

/// How much a report tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    /// A dump with everything, and nothing that went wrong.
    All,
    /// A dump with this among what went wrong.
    Less(&'static str),
}

fn check(scene: &Scene, case: &str, ended: &Ended, expected: &Expected) {
    let died = ended.signal() == Some(libc::SIGSEGV) || ended.code() == Some(128 + libc::SIGSEGV);
    // Where the first process stays for the next life, that one's end is told.
    assert!(died || (expected.lives == 2 && ended.code() == Some(0)), "{case}: {ended:?}");
    assert!(ended.stderr.contains(expected.says), "{case}: {ended:?}");
    if expected.lives == 2 {
        scene.await_event("main", 2);
    }
    scene.settle();
    assert_eq!(scene.events("main").len(), expected.lives, "{case}: {ended:?}");
    let reports = scene.reports();
    match expected.report {
        Told::Nothing => assert!(reports.is_empty(), "{case}: {reports:#?}"),
        Told::All | Told::Less(_) => {
            let report = reports.first().unwrap_or_else(|| panic!("{case}: no report: {ended:?}"));
            check_report(case, report, expected.report);
        }
    }
}

fn check_report(case: &str, report: &Report, told: Told) {
    let (signal, _, address, _) = report.exception();
    assert_eq!((signal, address), (libc::SIGSEGV, 0), "{case}");
    assert_eq!(report.exit_class(), ("crash".into(), Some(11)), "{case}");
    let remarks = report.json["soft_errors"].to_string();
    match told {
        Told::Less(remark) => assert!(remarks.contains(remark), "{case}: {remarks}"),
        Told::All | Told::Nothing => {
            assert_eq!(remarks, "[]", "{case}");
            assert!(report.crash_module().is_some_and(|module| module.ends_with("crashzoo")));
        }
    }
}

/// Lets the zoo begin after `prepare`, which runs in the child.
fn prepared(
    scene: &Scene,
    arguments: &[&str],
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> Command {
    let mut command = scene.zoo(arguments);
    // SAFETY: what is prepared here makes system calls and touches no memory that others share.
    unsafe { command.pre_exec(prepare) };
    command
}

/// Runs a case with the guard in each of its places.
fn everywhere(
    case: &str,
    command: impl Fn(&Scene, &[&str]) -> Command,
    expected: impl Fn(&str) -> Expected,
) {
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let mode = fs::Permissions::from_mode(0o777);
        fs::set_permissions(scene.directory.path(), mode).expect("rights");
        let arguments = ["--topology", topology, "--wait-guarded", "--health", "null-write"];
        let child = command(&scene, &arguments).spawn().expect("it starts");
        let ended = scene.finish(child);
        check(&scene, &format!("{case}, {topology}"), &ended, &expected(topology));
    }
}

/// A filter that refuses these system calls with EPERM, for this process and all that come from it.
fn refuse(calls: &'static [libc::c_long]) -> io::Result<()> {
    refuse_with(libc::EPERM, calls)
}

fn refuse_with(error: i32, calls: &'static [libc::c_long]) -> io::Result<()> {
    let statement =
        |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut lines = [statement(0, 0, 0, 0); 16];
    let mut count = 0;
    let mut add = |line| {
        if let Some(place) = lines.get_mut(count) {
            *place = line;
            count += 1;
        }
    };
    add(statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0));
    for call in calls {
        add(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32, 0, 1));
        let refused = libc::SECCOMP_RET_ERRNO | error as u32;
        add(statement(libc::BPF_RET | libc::BPF_K, refused, 0, 0));
    }
    add(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0));
    let filter = libc::sock_fprog { len: count as u16, filter: lines.as_mut_ptr() };
    // SAFETY: this prctl takes plain numbers.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: the filter and the program that it points at live through the call.
    done(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) })
}

// Goal: a filter that refuses ptrace costs the registers of the other threads, one that refuses `process_vm_readv` costs nothing, and both together no more than the first.
#[test]
fn filters_cost_what_they_must() {
    let cases: [(&str, &'static [libc::c_long], Told); 3] = [
        ("no ptrace", &[libc::SYS_ptrace], Told::Less("trace thread")),
        ("no process_vm_readv", &[libc::SYS_process_vm_readv], Told::All),
        ("neither", &[libc::SYS_ptrace, libc::SYS_process_vm_readv], Told::Less("trace thread")),
    ];
    for (case, calls, report) in cases {
        let threads = |scene: &Scene, arguments: &[&str]| {
            let arguments = [&["--threads", "3"], arguments].concat();
            prepared(scene, &arguments, move || refuse(calls))
        };
        everywhere(case, threads, |_| Expected { lives: 2, report, says: GUARDED });
    }
}

// Goal: where no process can be started, and none can be looked at, the program dies as it would have without us.
#[test]
fn filters_that_refuse_everything_cost_the_report() {
    // A pidfd is what every guard needs.
    let calls = &[libc::SYS_pidfd_open];
    let command =
        |scene: &Scene, arguments: &[&str]| prepared(scene, arguments, move || refuse(calls));
    everywhere("no pidfd", command, |_| Expected { lives: 1, report: Told::Nothing, says: "" });
}

// Goal: a report isn't called durable before the disk has it (fsync(2)): where that fails it stays new and whole, and the next guard that may does it. A file system that has no such thing keeps nobody waiting.
#[test]
fn a_report_is_pending_once_it_is_durable() {
    for topology in TOPOLOGIES {
        for (error, stage) in [(libc::EIO, "new"), (libc::EINVAL, "pending")] {
            let scene = Scene::new();
            let crash =
                ["--topology", topology, "--restart", "never", "--wait-guarded", "null-write"];
            let filter = move || refuse_with(error, &[libc::SYS_fsync]);
            scene.run_command(&mut prepared(&scene, &crash, filter));
            let report = scene.report();
            assert_eq!(report.stage, stage, "{topology}");
            check_report(topology, &report, Told::All);
            scene.run(&["--wait-ready", "none"]);
            assert_eq!(scene.report().stage, "pending", "{topology}");
        }
    }
}

// Goal: as a user without rights a program is guarded like any other.
#[test]
fn another_user_is_guarded() {
    needs_root!();
    let command =
        |scene: &Scene, arguments: &[&str]| prepared(scene, arguments, || become_user(LONER, None));
    everywhere("another user", command, |_| Expected {
        lives: 2,
        report: Told::All,
        says: GUARDED,
    });
}

/// Gives up root, with a limit on the user's processes, threads included.
fn become_user(user: u32, processes_max: Option<u64>) -> io::Result<()> {
    if let Some(processes) = processes_max {
        let limit = libc::rlimit { rlim_cur: processes, rlim_max: processes };
        // SAFETY: the pointer refers to a living limit.
        done(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) })?;
    }
    common::become_user(user)
}

// Goal: with no process or thread left, a program runs unguarded, says so, and dies truly; with room for the keeper alone it dies without a report.
#[test]
fn a_reached_limit_of_processes_costs_the_report() {
    needs_root!();
    for processes in [1, 2] {
        // Each limit has a user of its own, since another test's processes count.
        let user = LONER + 10 + processes as u32;
        for topology in TOPOLOGIES {
            let scene = Scene::new();
            let mode = fs::Permissions::from_mode(0o777);
            fs::set_permissions(scene.directory.path(), mode).expect("rights");
            let arguments = ["--topology", topology, "--wait-guarded", "--health", "null-write"];
            let prepare = move || become_user(user, Some(processes));
            let child = prepared(&scene, &arguments, prepare).spawn().expect("it starts");
            let ended = scene.finish(child);
            scene.settle();
            let case = format!("{processes} processes, {topology}");
            assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{case}: {ended:?}");
            assert_eq!(scene.events("main").len(), 1, "{case}");
            assert!(scene.reports().is_empty(), "{case}");
            let is_told = ended.stderr.contains("Resource temporarily unavailable")
                // Without a guard before the crash nobody has tried to start one.
                || (topology == "at-crash" && processes == 2);
            assert!(is_told, "{case}: {ended:?}");
        }
    }
}

// Goal: a program that is started with next to no descriptors is guarded, and begins anew with as few.
#[test]
fn a_low_limit_of_descriptors_costs_nothing() {
    let command = |scene: &Scene, arguments: &[&str]| {
        prepared(scene, arguments, || {
            let limit = libc::rlimit { rlim_cur: 24, rlim_max: 24 };
            // SAFETY: the pointer refers to a living limit.
            done(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
        })
    };
    everywhere("24 descriptors", command, |_| Expected {
        lives: 2,
        report: Told::All,
        says: GUARDED,
    });
}

// Goal: without `/proc` a program is started again, and its dump has the crashed thread; it can't be begun below a guard there, and runs without one, which the health says.
#[test]
fn without_proc_the_crashed_thread_is_told() {
    needs_root!();
    let command =
        |scene: &Scene, arguments: &[&str]| scene.in_own_mounts("umount -l /proc", arguments);
    everywhere("no /proc", command, |topology| match topology {
        "guard-first" => Expected { lives: 1, report: Told::Nothing, says: "below its guard" },
        _ => Expected { lives: 2, report: Told::Less("/proc"), says: GUARDED },
    });
}

// Goal: a file system that nobody can write costs the reports, and is named by the health.
#[test]
fn a_read_only_root_costs_the_reports() {
    needs_root!();
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let place = scene.directory.path().display();
        // The scene itself stays writable, for the trace.
        let preparation = format!("mount --bind '{place}' '{place}' && mount -o remount,bind,ro /");
        let arguments = ["--topology", topology, "--wait-ready", "--health"];
        let arguments = [&arguments[..], &["--store", "/rearguard-nowhere", "null-write"]].concat();
        let child = scene.in_own_mounts(&preparation, &arguments).spawn().expect("it starts");
        let ended = scene.finish(child);
        let case = format!("read-only root, {topology}");
        check(&scene, &case, &ended, &Expected { lives: 2, report: Told::Nothing, says: "" });
        // Where no guard stands by, nobody has tried the store before the crash.
        let is_told = ended.stderr.contains("Read-only file system") || topology == "at-crash";
        assert!(is_told, "{case}: {ended:?}");
    }
}

// Goal: in a container that isn't its own process 1, a program is guarded like any other.
#[test]
fn a_pid_namespace_is_like_any_other_place() {
    needs_root!();
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        // The shell is process 1, and ends, with everything that is there, when its input does.
        let script = "\"$@\"; echo $? >status; read line; exit 0";
        let shell = ["sh", "-c", script, "sh"];
        let arguments = ["--topology", topology, "--wait-guarded", "null-write"];
        let mut command = scene.in_own_processes(&shell, &arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("unshare starts");
        scene.await_event("main", 2);
        scene.await_that("the first process has ended", || {
            fs::read_to_string(scene.path("status")).is_ok_and(|status| status.ends_with('\n'))
        });
        scene.await_that("the report is done", || {
            scene.reports().first().is_some_and(|report| report.stage == "pending")
        });
        let status = fs::read_to_string(scene.path("status")).expect("a status");
        let expected = if topology == "guard-first" { "0\n" } else { "139\n" };
        assert_eq!(status, expected, "{topology}");
        check_report(topology, &scene.report(), Told::All);
        drop(child.stdin.take());
        scene.finish(child);
        scene.settle();
        assert_eq!(scene.events("main").len(), 2, "{topology}");
    }
}

// Goal: process 1 is guarded by a front and by a guard that comes for the crash, and isn't started again where everything ends with it; a guard behind it is refused, which the health says.
#[test]
fn process_one_is_guarded_where_it_can_be() {
    needs_root!();
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let arguments = ["--topology", topology, "--wait-guarded", "--health"];
        let arguments = [&arguments[..], &["--restart", "never", "null-write"]].concat();
        let mut command = scene.in_own_processes(&[], &arguments);
        let ended = scene.finish(command.spawn().expect("unshare starts"));
        let case = format!("process 1, {topology}");
        let (report, says) = match topology {
            "worker-first" => (Told::Nothing, "worker-first can't guard PID 1"),
            _ => (Told::All, GUARDED),
        };
        check(&scene, &case, &ended, &Expected { lives: 1, report, says });
    }
}
