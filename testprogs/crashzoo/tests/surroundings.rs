//! Surroundings that a program meets in the field: executables that change under it, directories that vanish, limits that are reached, rights that are missing.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]
#![expect(unsafe_code, reason = "the surroundings are made by system calls")]

mod common;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{
    Ended, Scene, TOPOLOGIES, become_user, has_strace, is_root, kill, needs_root, program,
    reports_of,
};

/// Longer than any test: the zoo is held until the test sends it a signal.
const HELD: [&str; 4] = ["--wait-guarded", "--after", "600000", "none"];

/// The zoo by another path, with the scene's store and trace and these arguments.
fn zoo_at(scene: &Scene, path: &Path, arguments: &[&str]) -> Command {
    let mut command = scene.silent(path);
    command.args(scene.zoo(arguments).get_args());
    command
}

/// Copies a program by a process of its own.
/// Were it written by this one, a child that another test forks just then would hold it open for writing, and it couldn't be executed (ETXTBSY, execve(2)).
fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("cp starts");
    assert!(copied.success());
}

/// A copy of the zoo in the scene.
fn copy_of_the_zoo(scene: &Scene, name: &OsStr) -> PathBuf {
    let directory = scene.path("programs of ünusual kind");
    fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join(name);
    copy_program(&program("crashzoo"), &path);
    path
}

/// Starts a held copy of the zoo, lets `change` happen to its file, ends it by a fault, and has `check` look at the file that the next life runs, and at the path.
fn changed_under_way(change: impl Fn(&Path), check: impl Fn(&Path, &Path)) {
    for topology in TOPOLOGIES {
        changed_in_topology(topology, &change, &check);
    }
}

fn changed_in_topology(topology: &str, change: impl Fn(&Path), check: impl Fn(&Path, &Path)) {
    let scene = Scene::new();
    let path = copy_of_the_zoo(&scene, "zoo".as_ref());
    let arguments = [&["--topology", topology, "--lives", "2"], &HELD[..]].concat();
    let first = zoo_at(&scene, &path, &arguments).spawn().expect("the copy starts");
    let worker = scene.await_event("guarded", 1)[0].pid;
    change(&path);
    assert!(kill(worker, libc::SIGSEGV));
    let next = scene.await_event("guarded", 2)[1].clone();
    let runs = fs::read_link(format!("/proc/{}/exe", next.pid)).expect("a living process");
    check(&runs, &path);
    assert_eq!(next.guard_pid.is_none(), topology == "at-crash", "{next:?}");
    if let Some(guard) = next.guard_pid {
        let guards = fs::read_link(format!("/proc/{guard}/exe")).expect("a living guard");
        assert_eq!(runs, guards, "{topology}: worker and guard are one program");
    }
    assert!(kill(next.pid, libc::SIGSEGV));
    scene.await_event("main", 3);
    scene.finish(first).check(topology, libc::SIGSEGV, "a changed executable");
    scene.settle();
    let reports = scene.reports();
    assert_eq!(reports.len(), 2, "{reports:#?}");
    for report in &reports {
        assert_eq!(report.exception().0, libc::SIGSEGV);
        assert!(report.decision().0, "{:#}", report.json);
    }
}

fn runs_the_old(runs: &Path, _path: &Path) {
    assert!(runs.to_string_lossy().ends_with(" (deleted)"), "{runs:?}");
}

// Goal: a program whose file is deleted while it runs is dumped, and goes on as what it was, life after life.
#[test]
fn a_deleted_executable_goes_on() {
    changed_under_way(|path| fs::remove_file(path).expect("it is there"), runs_the_old);
}

// Goal: a program whose file is replaced, as updates do it, has its next life as the new one; the dump is that of the old.
#[test]
fn a_replaced_executable_begins_anew() {
    let replace = |path: &Path| {
        let next = path.with_file_name("zoo.next");
        copy_program(path, &next);
        fs::rename(&next, path).expect("replaced");
    };
    changed_under_way(replace, |runs, path| assert_eq!(runs, path));
}

// Goal: a program whose file is replaced by what can't be executed goes on as what it was.
#[test]
fn an_executable_replaced_by_rubbish_goes_on() {
    let spoil = |path: &Path| {
        let next = path.with_file_name("zoo.next");
        fs::write(&next, b"half an update").expect("a file");
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).expect("rights");
        fs::rename(&next, path).expect("replaced");
    };
    changed_under_way(spoil, runs_the_old);
}

// Goal: a program whose file was deleted, and is put back by the end of an update, has its next life but one as the new file.
#[test]
fn an_executable_that_comes_back_is_found() {
    let scene = Scene::new();
    let path = copy_of_the_zoo(&scene, "zoo".as_ref());
    let arguments = [&["--lives", "3"], &HELD[..]].concat();
    let worker = zoo_at(&scene, &path, &arguments).spawn().expect("the copy starts");
    let aside = path.with_file_name("aside");
    scene.await_event("guarded", 1);
    copy_program(&path, &aside);
    fs::remove_file(&path).expect("it is there");
    assert!(kill(worker.id(), libc::SIGSEGV));
    scene.finish(worker);
    let second = scene.await_event("guarded", 2)[1].pid;
    fs::rename(&aside, &path).expect("it comes back");
    assert!(kill(second, libc::SIGSEGV));
    let third = scene.await_event("guarded", 3)[2].pid;
    let runs = fs::read_link(format!("/proc/{third}/exe")).expect("a living process");
    assert!(kill(third, libc::SIGKILL));
    scene.settle();
    assert_eq!(runs, path);
}

// Goal: blanks and bytes that are no UTF-8 in the program's own path are no hindrance to guard, dump and restart.
#[test]
fn an_unusual_path_is_no_hindrance() {
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let name = OsString::from_vec(b"z o\to \xff' \"\n".to_vec());
        let path = copy_of_the_zoo(&scene, &name);
        let options = ["--topology", topology, "--wait-ready", "null-write"];
        let ended = scene.live_through(zoo_at(&scene, &path, &options), 2);
        ended.check(topology, libc::SIGSEGV, "an unusual path");
        let report = scene.report();
        assert_eq!(report.exception().2, 0);
        let module = report.crash_module().expect("a module at the fault");
        assert!(module.contains("z o"), "{module}");
        assert_eq!(report.json["soft_errors"], serde_json::json!([]));
    }
}

// Goal: a working directory that is gone is no hindrance; the next life begins in `/`, and the report says so.
#[test]
fn a_removed_directory_is_no_hindrance() {
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let directory = scene.path("gone soon");
        fs::create_dir(&directory).expect("a directory");
        let mut command = scene.zoo(&["--topology", topology, "--lives", "2"]);
        let first = command.args(HELD).current_dir(&directory).spawn().expect("the zoo starts");
        let worker = scene.await_event("guarded", 1)[0].pid;
        fs::remove_dir(&directory).expect("nobody holds it");
        assert!(kill(worker, libc::SIGSEGV));
        let second = scene.await_event("guarded", 2)[1].pid;
        let begins = fs::read_link(format!("/proc/{second}/cwd")).expect("a living process");
        assert_eq!(begins, Path::new("/"));
        assert!(kill(second, libc::SIGKILL));
        scene.finish(first);
        scene.settle();
        let reports = scene.reports();
        let remarks = reports[0].json["soft_errors"].as_array().expect("remarks");
        let told =
            remarks.iter().any(|remark| remark.as_str().is_some_and(|r| r.contains("directory")));
        assert!(told, "{remarks:?}");
        assert_eq!(reports[0].exception().0, libc::SIGSEGV);
    }
}

// Goal: a program that starts in a directory that is gone already is guarded like any other.
#[test]
fn a_directory_that_was_never_there_is_no_hindrance() {
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let directory = scene.path("gone before");
        fs::create_dir(&directory).expect("a directory");
        let mut command = scene.zoo(&["--topology", topology, "--wait-ready", "null-write"]);
        command.current_dir(&directory);
        let gone =
            std::ffi::CString::new(directory.as_os_str().as_encoded_bytes()).expect("a path");
        let remove = move || {
            // SAFETY: the path is NUL-terminated.
            unsafe { libc::rmdir(gone.as_ptr()) };
            Ok(())
        };
        // SAFETY: the closure makes one system call.
        unsafe { command.pre_exec(remove) };
        let ended = scene.live_through(command, 2);
        ended.check(topology, libc::SIGSEGV, "no directory");
        assert_eq!(scene.report().exception().2, 0);
    }
}

// Goal: a program that was started without standard streams is guarded, dumped and begun anew.
#[test]
fn closed_streams_are_no_hindrance() {
    for topology in TOPOLOGIES {
        let scene = Scene::new();
        let mut command = scene.zoo(&["--topology", topology, "--wait-ready", "null-write"]);
        let close = || {
            for number in 0..3 {
                // SAFETY: no memory is involved.
                unsafe { libc::close(number) };
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls only.
        unsafe { command.pre_exec(close) };
        let ended = scene.live_through(command, 2);
        ended.check(topology, libc::SIGSEGV, "closed streams");
        let report = scene.report();
        assert_eq!(report.exception().2, 0);
        assert_eq!(report.json["soft_errors"], serde_json::json!([]));
    }
}

/// Lowers a limit of a living process.
fn lower(pid: u32, resource: libc::__rlimit_resource_t, soft: u64, hard: u64) {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer refers to a living limit.
    let done =
        unsafe { libc::prlimit(pid as i32, resource, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// The limit on descriptors that this process has.
fn descriptors_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer refers to a living limit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_max
}

// Goal: a program that can't open another descriptor is dumped and begun anew, with the limit that it was started with: by the guard that is there, by one that has to be started in the crash, and where not a single number is left, as programs do that lock themselves in.
#[test]
fn a_reached_descriptor_limit_is_no_hindrance() {
    for (limit, kill_the_guard) in [(0, false), (10, true), (0, true)] {
        let case = format!("limit {limit}, guard killed: {kill_the_guard}");
        let scene = Scene::new();
        let mut command = scene.zoo(&["--lives", "2"]);
        let worker = command.args(HELD).spawn().expect("the zoo starts");
        let guard = scene.await_event("guarded", 1)[0].guard_pid.expect("a guard");
        let limits = fs::read_to_string(format!("/proc/{}/limits", worker.id())).expect("limits");
        lower(worker.id(), libc::RLIMIT_NOFILE, limit, descriptors_max());
        if kill_the_guard {
            scene.end(guard);
        }
        assert!(kill(worker.id(), libc::SIGSEGV));
        scene.finish(worker);
        let mains = scene.await_event("main", 2);
        assert_eq!(mains[1].last_exit_class.as_deref(), Some("crash:11"), "{case}");
        let second = scene.await_event("guarded", 2)[1].pid;
        let next = fs::read_to_string(format!("/proc/{second}/limits")).expect("limits");
        assert_eq!(limits, next, "{case}");
        assert!(kill(second, libc::SIGKILL));
        scene.settle();
        let reports = scene.reports();
        assert_eq!(reports[0].exception().0, libc::SIGSEGV, "{case}");
        assert_eq!(reports[0].json["soft_errors"], serde_json::json!([]), "{case}");
    }
}

// Goal: where there is no `/proc`, a program runs, dies truly and begins anew, and what could be known of its crash is in its report.
#[test]
fn no_proc_is_no_end_of_the_restart() {
    needs_root!();
    let scene = Scene::new();
    let arguments = ["--wait-ready", "null-write"];
    let ended = scene.live_through(scene.in_own_mounts("umount -l /proc", &arguments), 2);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    let mains = scene.events("main");
    assert_eq!(mains[1].last_exit_class.as_deref(), Some("crash:11"));
    // The next life's end may be a second one: without `/proc` nobody tells it before somebody reaps it.
    let report = &scene.reports()[0];
    assert_eq!(report.exit_class(), ("crash".into(), Some(11)));
    assert_eq!(report.json["crash"]["address"], "0x0");
    assert_eq!(report.decision(), (true, "worker crashed".into()));
    // A dump without the list of threads and modules is poor, but it has the crashed thread.
    let (signal, _, address, _) = report.exception();
    assert_eq!((signal, address), (libc::SIGSEGV, 0));
}

/// Runs the zoo with a store that can't be used, and gives the health that the first life had, and the report that the second life was told of.
fn with_bad_store(scene: &Scene, topology: &str, mut command: Command) -> (String, Option<String>) {
    let mut worker = command.spawn().expect("the zoo starts");
    let mut stderr = worker.stderr.take().expect("a pipe");
    scene.finish(worker).check(topology, libc::SIGSEGV, "a bad store");
    let mains = scene.await_event("main", 2);
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("the end of the pipe");
    scene.settle();
    assert_eq!(mains[1].last_exit_class.as_deref(), Some("crash:11"), "{said}");
    assert_eq!(scene.events("main").len(), 2, "{:#?}", scene.trace());
    let first = said.lines().next().unwrap_or_default();
    let health = first.strip_prefix("crashzoo: health: ").unwrap_or(first).to_owned();
    (health, mains[1].last_report.clone())
}

/// As [`with_bad_store`], where not even the metadata can be kept.
fn with_no_store(scene: &Scene, command: Command) -> String {
    let (health, told) = with_bad_store(scene, "worker-first", command);
    assert_eq!(told, None, "there is no report to tell of: {health}");
    health
}

// Goal: a store that can't be made or written is told by the health at once, names what is in the way, and costs nothing but the reports.
#[test]
fn a_bad_store_costs_the_reports_only() {
    let file_in_the_way = Scene::new();
    fs::write(file_in_the_way.store(), b"a file").expect("a file");
    let arguments = ["--wait-ready", "--health", "null-write"];
    let command = file_in_the_way.zoo(&arguments);
    let health = with_no_store(&file_in_the_way, command);
    assert!(
        health.starts_with("guarded, armed, reports are lost; making the store \""),
        "{health}"
    );
    assert!(health.contains("Not a directory"), "{health}");

    let no_such_place = Scene::new();
    let command =
        no_such_place.zoo(&["--store", "/proc/x", "--wait-ready", "--health", "null-write"]);
    let health = with_no_store(&no_such_place, command);
    assert!(
        health.starts_with("guarded, armed, reports are lost; making the store \""),
        "{health}"
    );
    assert!(health.contains("/proc/x"), "{health}");
}

// Goal: without a home there is no place for reports by default; health says so, and the program is restarted all the same.
#[test]
fn no_home_costs_the_reports_only() {
    let scene = Scene::new();
    let mut command = scene.command("crashzoo");
    command.env_remove("HOME").arg("--trace").arg(scene.trace_path());
    command.args(["--wait-ready", "--health", "null-write"]);
    let health = with_no_store(&scene, command);
    assert!(
        health.starts_with("guarded, armed, reports are lost; choosing the store: "),
        "{health}"
    );
    assert!(health.contains("HOME"), "{health}");
}

// Goal: the default store is the user's own, private, and made when it is needed.
#[test]
fn the_default_store_is_below_the_home() {
    let scene = Scene::new();
    let mut command = scene.command("crashzoo");
    command.arg("--trace").arg(scene.trace_path()).args(["--wait-ready", "null-write"]);
    scene.live_through(command, 2);
    let store = scene.path(".local/state/crashzoo/crashes");
    let reports = reports_of(&store);
    assert_eq!(reports.len(), 1, "{reports:#?}");
    for path in [&store, &store.join("pending"), &reports[0].directory] {
        let mode = fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{path:?}");
    }
    let dump = reports[0].dump.as_ref().expect("a dump");
    let mode = fs::metadata(dump).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

// Goal: a home that can't be written costs the reports only, for a user without the right to write anywhere.
#[test]
fn a_read_only_home_costs_the_reports_only() {
    let scene = Scene::new();
    let home = scene.path("home");
    fs::create_dir(&home).expect("a directory");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o555)).expect("rights");
    fs::set_permissions(scene.directory.path(), fs::Permissions::from_mode(0o777)).expect("rights");
    let mut command = scene.command("crashzoo");
    if is_root() {
        command = as_nobody(&scene);
    }
    command.env("HOME", &home).arg("--trace").arg(scene.trace_path());
    command.args(["--wait-ready", "--health", "null-write"]);
    let health = with_no_store(&scene, command);
    assert!(
        health.starts_with("guarded, armed, reports are lost; making the store \""),
        "{health}"
    );
    assert!(health.contains("Permission denied"), "{health}");
}

/// The zoo as a user without rights.
fn as_nobody(scene: &Scene) -> Command {
    let mut command = scene.command("crashzoo");
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(|| become_user(65534)) };
    command
}

// Goal: a program that was started with dropped rights is guarded, dumped and begun anew as that user.
#[test]
fn a_user_without_rights_is_guarded() {
    needs_root!();
    let scene = Scene::new();
    fs::set_permissions(scene.directory.path(), fs::Permissions::from_mode(0o777)).expect("rights");
    let mut command = as_nobody(&scene);
    command.arg("--store").arg(scene.store()).arg("--trace").arg(scene.trace_path());
    command.args(["--wait-ready", "--lives", "2", "null-write"]);
    let ended = scene.live_through(command, 3);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    let reports = scene.reports();
    assert_eq!(reports.len(), 2, "{reports:#?}");
    for report in &reports {
        assert_eq!(report.exception().2, 0);
        assert_eq!(report.json["soft_errors"], serde_json::json!([]));
        let owner =
            std::os::unix::fs::MetadataExt::uid(&fs::metadata(&report.directory).expect("it"));
        assert_eq!(owner, 65534);
    }
}

// Goal: a disk that is full loses the report and nothing else: true end, next life, no rubbish.
#[test]
fn a_full_disk_costs_the_report_only() {
    for topology in TOPOLOGIES {
        needs_root!();
        let scene = Scene::new();
        let disk = scene.path("disk");
        fs::create_dir(&disk).expect("a directory");
        // Room for the store's directories, not for a dump.
        let preparation = format!("mount -t tmpfs -o size=16k,mode=777 none '{}'", disk.display());
        let store = disk.join("store");
        let store = store.to_str().expect("a path that is text");
        let arguments =
            ["--topology", topology, "--store", store, "--wait-ready", "--health", "null-write"];
        let (health, _) =
            with_bad_store(&scene, topology, scene.in_own_mounts(&preparation, &arguments));
        let expected = match topology {
            "at-crash" => {
                "not guarded, armed, reports are kept; no guard stands by; a crash starts one"
            }
            _ => "guarded, armed, reports are kept",
        };
        assert_eq!(health, expected, "{topology}: it was not full before");
    }
}

/// The zoo under a limit on the size of files, which is told by a signal.
fn with_file_size_limit(scene: &Scene, bytes: u64, arguments: &[&str]) -> Command {
    let mut command = scene.zoo(arguments);
    let limit = move || {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: the pointer refers to a living limit.
        if unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(limit) };
    command
}

// Goal: a dump that is larger than files may be is lost without its guard being ended for it: the next life begins, and knows of the report that has everything else.
#[test]
fn a_limit_on_file_sizes_costs_the_dump_only() {
    let scene = Scene::new();
    // Large enough for the black box, too small for the stacks of so many threads.
    let arguments = ["--wait-ready", "--health", "--threads", "200", "null-write"];
    let command = with_file_size_limit(&scene, 200_000, &arguments);
    let (health, told) = with_bad_store(&scene, "worker-first", command);
    assert_eq!(health, "guarded, armed, reports are kept");
    let report = scene.report();
    assert_eq!(report.json["minidump"], serde_json::json!(null), "{:#}", report.json);
    assert!(report.dump.is_none());
    assert_eq!(report.json["crash"]["address"], "0x0");
    assert_eq!(report.decision(), (true, "worker crashed".into()));
    let remarks = report.json["soft_errors"].to_string();
    assert!(remarks.contains("File too large"), "{remarks}");
    assert_eq!(told.as_deref(), report.json["id"].as_str());
}

// Goal: where files, and the black box with them, may hold nothing, the application runs unguarded, says so, and dies as it would have without us.
#[test]
fn no_room_for_a_black_box_is_told() {
    let scene = Scene::new();
    let command = with_file_size_limit(&scene, 4096, &["--health", "null-write"]);
    let ended = scene.live_through(command, 1);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    assert!(ended.stderr.contains("not guarded, not armed"), "{ended:?}");
    assert!(
        ended.stderr.contains("making the black box")
            || ended.stderr.contains("opening the channel"),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("File too large"), "{ended:?}");
}

/// Lets this many programs crash in one moment, with one store, and waits until all is done.
fn crowd(scene: &Scene, count: usize, arguments: &[&str]) -> Vec<Ended> {
    let arguments = [&["--wait-ready"], arguments].concat();
    let workers: Vec<_> =
        (0..count).map(|_| scene.zoo(&arguments).spawn().expect("the zoo starts")).collect();
    let ended = workers.into_iter().map(|worker| scene.finish(worker)).collect();
    scene.await_event("main", 2 * count);
    scene.settle();
    assert_eq!(scene.events("main").len(), 2 * count, "one restart each");
    ended
}

// Goal: twenty programs that crash in one moment, with one store, are dumped and begun anew each; the store keeps ten reports, whole ones, and no rubbish.
#[test]
fn twenty_at_once_share_a_store() {
    // Whoever makes room for his own report meets others who do; the more often, the more surely.
    for topology in TOPOLOGIES.into_iter().flat_map(|topology| [topology; 5]) {
        let scene = Scene::new();
        let ended = crowd(&scene, 20, &["--topology", topology, "null-write"]);
        ended.iter().for_each(|ended| ended.check(topology, libc::SIGSEGV, "a crowd"));
        let told = scene.events("main").into_iter().filter_map(|line| line.last_report);
        let told: BTreeSet<String> = told.collect();
        assert_eq!(told.len(), 20, "every second life knows its report");
        let reports = scene.reports();
        let names: Vec<_> = reports.iter().map(|report| &report.directory).collect();
        assert_eq!(reports.len(), 10, "{names:#?}");
        for report in &reports {
            assert_eq!(report.stage, "pending");
            assert_eq!(report.exception().2, 0);
            assert!(told.contains(report.json["id"].as_str().expect("an id")));
            assert!(report.moment("full_exit") > 0, "{:#}", report.json);
        }
        let rubbish = fs::read_dir(scene.store().join("tmp")).expect("a directory").count();
        assert_eq!(rubbish, 0);
    }
}

/// Checks that a program runs without a guard: it dies truly, and nothing else happens.
fn is_unguarded(scene: &Scene, command: Command, remark: &str) {
    let ended = scene.live_through(command, 1);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    let health = format!("crashzoo: health: not guarded, not armed, reports are lost; {remark}\n");
    assert!(ended.stderr.contains(&health), "{ended:?}");
    assert_eq!(scene.reports().len(), 0);
}

// Goal: a user's variable turns the guard off, whole; any other value of it doesn't.
#[test]
fn a_variable_turns_the_guard_off() {
    let scene = Scene::new();
    let mut command = scene.zoo(&["--health", "null-write"]);
    command.env("CRASHZOO_NO_CRASH_GUARD", "1");
    is_unguarded(&scene, command, "turned off by its variable");
    assert!(!scene.store().exists(), "nothing is made");
    let scene = Scene::new();
    let mut command = scene.zoo(&["--wait-ready", "null-write"]);
    command.env("CRASHZOO_NO_CRASH_GUARD", "0");
    scene.live_through(command, 2);
    assert_eq!(scene.reports().len(), 1);
}

// Goal: a program under a debugger has no guard: its faults are the debugger's.
#[test]
fn a_debugger_turns_the_guard_off() {
    if !has_strace() {
        return;
    }
    let scene = Scene::new();
    let mut command = scene.silent("strace");
    command.args(["-f", "-o", "/dev/null"]).arg(program("crashzoo"));
    command.args(scene.zoo(&["--health", "null-write"]).get_args());
    is_unguarded(&scene, command, "turned off: a debugger is attached");
}

// Goal: no report is taken for rubbish by another program that starts in the moment in which it is written.
#[test]
fn ten_at_once_leave_ten_reports() {
    for _ in 0..5 {
        let scene = Scene::new();
        let ended = crowd(&scene, 10, &["panic"]);
        assert!(ended.iter().all(|ended| ended.code() == Some(101)), "{ended:?}");
        let reports = scene.reports();
        assert_eq!(reports.len(), 10, "{reports:#?}");
        assert!(reports.iter().all(|report| report.exit_class() == ("code".into(), Some(101))));
    }
}
