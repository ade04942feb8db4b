//! The scenarios on Windows: the program for Windows really dies, under Wine, and other people's reader looks at its dumps.
//!
//! `cargo xtask test --all` and `cargo xtask windows` build that program, make a Wine for it, and say in `REARGUARD_WINDOWS` where the programs are.
//! `REARGUARD_WINDOWS_RELEASE` is a program with line tables, and `REARGUARD_TOOL` the tool that shows its dump on this machine.

#![expect(clippy::expect_used, reason = "what isn't there fails the test")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use minidump::{Minidump, MinidumpException, MinidumpModuleList, MinidumpThreadList, Module};
use rearguard_cli::collector::{Answer, Collector, Script};
use serde_json::Value;
use tempfile::TempDir;

const ACCESS_VIOLATION: u32 = 0xc000_0005;
const FAST_FAIL: u32 = 0xc000_0409;

/// How long the host waits for the program and for all that it has started.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long a test waits beyond that for the host itself.
const HOST_END_MAX: Duration = Duration::from_secs(60);

/// A directory of the test's own, and what is started in it.
struct Scene {
    directory: TempDir,
    patience: Duration,
    /// The proxy that the environment names, if it does.
    proxy: Option<String>,
}

/// What a run has left.
struct Run {
    /// The first process.
    pid: u64,
    exit_code: u32,
    /// How long others were there after the first process's end, in milliseconds.
    stayed_ms: u64,
    left: u64,
    /// How many messages about the session's end the guard answered.
    answers: u64,
    /// What the programs wrote to standard error.
    said: String,
    trace: Vec<Value>,
    reports: Vec<Report>,
}

struct Report {
    metadata: Value,
    dump: Option<Vec<u8>>,
}

/// A path as a program under Wine has to be told it.
fn there(path: &Path) -> String {
    format!("Z:{}", path.display().to_string().replace('/', "\\"))
}

fn program(name: &str) -> PathBuf {
    told("REARGUARD_WINDOWS").join(name)
}

/// A path that whoever starts the tests tells.
fn told(variable: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} isn't set")))
}

/// Waits for a program's end, with a deadline, at which it is ended.
fn run_to_its_end(command: &mut Command, wait_max: Duration) {
    let mut child = command.spawn().expect("wine starts");
    let pid = child.id();
    let (sender, end) = mpsc::channel();
    let waiter = thread::spawn(move || sender.send(child.wait()));
    let ended = end.recv_timeout(wait_max);
    if ended.is_err() {
        // It has not been waited for, so the number is still its own.
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    }
    let _ = waiter.join();
    ended.expect("the host ends before the deadline").expect("the host is a child of ours");
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().expect("a directory");
        Scene { directory, patience: PATIENCE, proxy: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the zoo behind the host with these options of the host's.
    fn host(&self, options: &[&OsStr], zoo: &Path, arguments: &[&str]) -> Run {
        let mut command = Command::new("wine");
        let deadline_ms = self.patience.as_millis().to_string();
        command.arg(program("winhost.exe")).args(["--deadline-ms", &deadline_ms]).args(options);
        command.arg(there(zoo)).args(arguments);
        // Files rather than pipes: Wine may keep a process that was ended before it began, and that would keep a pipe open.
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.path(name));
        command.stdin(Stdio::null()).current_dir(self.directory.path());
        // A machine's own proxies don't lead to the tests' collectors.
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
            command.env_remove(name);
        }
        if let Some(proxy) = &self.proxy {
            command.env("HTTP_PROXY", proxy);
        }
        command.stdout(File::create(&stdout).expect("a file"));
        command.stderr(File::create(&stderr).expect("a file"));
        run_to_its_end(&mut command, self.patience + HOST_END_MAX);
        let stdout = fs::read(stdout).expect("readable");
        let said = String::from_utf8_lossy(&fs::read(stderr).expect("readable")).into_owned();
        let told: Value = serde_json::from_slice(&stdout)
            .unwrap_or_else(|error| panic!("{error}: {stdout:?} {said}"));
        let code = told["exit_code"].as_u64().unwrap_or_else(|| panic!("no end: {told} {said}"));
        Run {
            pid: told["pid"].as_u64().expect("a number"),
            stayed_ms: told["stayed_ms"].as_u64().expect("a number"),
            exit_code: u32::try_from(code).expect("32 bits"),
            left: told["left"].as_u64().expect("a number"),
            answers: told["answers"].as_u64().expect("a number"),
            said,
            trace: self.trace(),
            reports: self.reports(),
        }
    }

    /// Runs the zoo with its store and its trace here.
    fn zoo(&self, arguments: &[&str]) -> Run {
        self.zoo_behind(&[], arguments)
    }

    /// The same, with options of the host's.
    fn zoo_behind(&self, options: &[&OsStr], arguments: &[&str]) -> Run {
        let (store, trace) = (there(&self.path("store")), there(&self.path("trace")));
        // A dump takes seconds under Wine.
        let mut all = vec!["--store", &store, "--trace", &trace, "--dump-wait-ms", "60000"];
        all.extend(arguments);
        let run = self.host(options, &program("crashzoo.exe"), &all);
        assert_eq!(run.left, 0, "something is left running: {}", run.said);
        run
    }

    fn trace(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("trace")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
    }

    fn reports(&self) -> Vec<Report> {
        let mut found = Vec::new();
        for stage in ["new", "pending", "completed"] {
            let Ok(entries) = fs::read_dir(self.path("store").join(stage)) else { continue };
            for report in entries.flatten() {
                let files = fs::read_dir(report.path()).expect("a report is a directory");
                let files: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
                let of = |end: &str| {
                    files.iter().find(|file| file.extension().is_some_and(|it| it == end))
                };
                let metadata = fs::read(of("json").expect("metadata")).expect("readable");
                found.push(Report {
                    metadata: serde_json::from_slice(&metadata).expect("JSON"),
                    dump: of("dmp").map(|file| fs::read(file).expect("readable")),
                });
            }
        }
        found
    }
}

impl Run {
    fn count(&self, event: &str) -> usize {
        self.trace.iter().filter(|line| line["event"] == event).count()
    }

    /// The one report.
    fn report(&self) -> &Report {
        assert_eq!(self.reports.len(), 1, "{}", self.said);
        &self.reports[0]
    }

    /// The next life's first line.
    fn second_life(&self) -> &Value {
        let mut lives = self.trace.iter().filter(|line| line["event"] == "main");
        let second = lives.nth(1).unwrap_or_else(|| panic!("no next life: {:?}", self.trace));
        assert!(lives.next().is_none(), "a third life: {:?}", self.trace);
        second
    }
}

/// Looks at a dump as a reader of dumps does.
fn check_dump(report: &Report, code: u32) {
    let bytes = report.dump.as_deref().expect("a minidump");
    let dump = Minidump::read(bytes).expect("a minidump");
    let exception: MinidumpException<'_> = dump.get_stream().expect("an exception");
    assert_eq!(exception.raw.exception_record.exception_code, code);
    let crashed = exception.get_crashing_thread_id();
    assert_eq!(report.metadata["crash"]["thread"], crashed);
    assert_eq!(report.metadata["crash"]["signal"], code);
    let threads: MinidumpThreadList<'_> = dump.get_stream().expect("threads");
    assert!(threads.get_thread(crashed).is_some(), "the crashed thread is described");
    let modules: MinidumpModuleList = dump.get_stream().expect("modules");
    let main = modules.main_module().expect("a main module");
    assert!(main.code_file().ends_with("crashzoo.exe"), "{}", main.code_file());
    let info: minidump::MinidumpCrashpadInfo = dump.get_stream().expect("annotations");
    assert_eq!(info.simple_annotations.get("fact").map(String::as_str), Some("a value"));
}

/// A crash of this code, told, dumped, and followed by another life that ends well.
fn crashes(way: &str, code: u32, exit_code: u32, options: &[&str]) {
    let scene = Scene::new();
    let mut arguments = vec!["--annotate", "fact=a value", "--wait-ready"];
    arguments.extend(options);
    arguments.push(way);
    let run = scene.zoo(&arguments);
    assert_eq!(run.exit_code, exit_code, "{way}: {}", run.said);
    let report = run.report();
    assert_eq!(report.metadata["exit"]["class"], "crash", "{way}");
    assert_eq!(report.metadata["late_guard"], false, "{way}");
    check_dump(report, code);
    let second = run.second_life();
    assert_eq!(second["incarnation"], 1);
    assert_eq!(second["last_exit_class"], format!("crash:{}", code as i32));
    assert_eq!(second["last_report"], report.metadata["id"]);
}

// Goal: each exception is told by its code, dumped with its thread, and keeps its exit code.
#[test]
fn access_violations() {
    for way in ["null-write", "null-call", "jump-bad-address"] {
        crashes(way, ACCESS_VIOLATION, ACCESS_VIOLATION, &[]);
    }
}

// Goal: as above, for the processor's other faults.
#[test]
fn other_faults_of_the_processor() {
    for (way, code) in [("ill", 0xc000_001d), ("fpe", 0xc000_0094), ("trap", 0x8000_0003)] {
        crashes(way, code, code, &[]);
    }
}

// Goal: the runtimes' own exceptions are crashes too: C++, a torn heap, an invalid parameter.
#[test]
fn exceptions_of_the_runtimes() {
    for (way, code) in [
        ("cpp-exception", 0xe06d_7363),
        ("heap-corruption", 0xc000_0374),
        ("invalid-parameter", 0xc000_0417),
    ] {
        crashes(way, code, code, &[]);
    }
}

// Goal: C's abort is told, and ends as the runtime ends it.
#[test]
fn abort_is_told() {
    crashes("abort", 0x4000_0015, 3, &[]);
}

// Goal: any thread may crash, with the heap locked, several at once, and within the crash.
#[test]
fn hostile_moments() {
    for options in [&["--thread", "std"], &["--thread", "foreign"]] {
        crashes("null-write", ACCESS_VIOLATION, ACCESS_VIOLATION, options);
    }
    for way in ["malloc-locked", "crash-x8", "crash-in-handler"] {
        crashes(way, ACCESS_VIOLATION, ACCESS_VIOLATION, &[]);
    }
}

// Goal: a filter that was there first is asked; what it repairs is no crash.
#[test]
fn filters_of_others() {
    crashes("foreign-handler", ACCESS_VIOLATION, ACCESS_VIOLATION, &[]);
    let scene = Scene::new();
    let run = scene.zoo(&["--wait-ready", "recovered-fault"]);
    assert_eq!((run.exit_code, run.count("recovered"), run.count("main")), (0, 1, 1));
    assert!(run.reports.is_empty());
}

// Goal: ends that no handler sees are classified by the guard: fast-fail and panics are crashes of their own kind, with the panic's words.
#[test]
fn ends_without_a_dump() {
    for (way, code) in [("fast-fail", FAST_FAIL), ("panic-abort", FAST_FAIL), ("oom", FAST_FAIL)] {
        let scene = Scene::new();
        let run = scene.zoo(&["--wait-ready", way]);
        assert_eq!(run.exit_code, code, "{way}: {}", run.said);
        let report = run.report();
        assert!(report.dump.is_none(), "{way}");
        assert_eq!(report.metadata["exit"]["value"], code, "{way}");
        assert_eq!(report.metadata["exit"]["class"], "crash", "{way}");
        assert_eq!(run.second_life()["incarnation"], 1, "{way}");
        let has_words = report.metadata["panic"]["message"].is_string();
        assert_eq!(has_words, way == "panic-abort", "{way}");
    }
    let scene = Scene::new();
    let run = scene.zoo(&["--wait-ready", "panic"]);
    assert_eq!(run.exit_code, 101);
    assert_eq!(run.report().metadata["exit"]["class"], "code");
    assert!(run.report().metadata["panic"]["location"].is_string());
    assert_eq!(run.second_life()["last_exit_class"], "code:101");
}

// Goal: an end by the program's own will, or by somebody else's, is followed by no life.
#[test]
fn ends_that_are_no_crash() {
    for (way, code) in [("exit-3", 3), ("terminate", 9), ("none", 0)] {
        let scene = Scene::new();
        let run = scene.zoo(&["--wait-ready", way]);
        assert_eq!((run.exit_code, run.count("main")), (code, 1), "{way}: {}", run.said);
        assert!(run.reports.iter().all(|report| report.dump.is_none()), "{way}");
        assert_eq!(run.reports.len(), usize::from(code != 0), "{way}");
    }
}

// Goal: whatever becomes of the first guard, the standby takes its place: killed before and within the dump, or silent until the deadline; and another stands behind the standby.
#[test]
fn the_standby_takes_over() {
    for spot in
        ["crash-heard:kill", "crash-heard:kill*2", "before-seize:kill", "report-written:kill"]
    {
        let scene = Scene::new();
        let run =
            scene.zoo(&["--wait-ready", "--after", "3000", "--fail-spot", spot, "null-write"]);
        assert_eq!(run.exit_code, ACCESS_VIOLATION, "{spot}: {}", run.said);
        assert!(run.report().dump.is_some(), "{spot}");
        assert_eq!(run.report().metadata["late_guard"], true, "{spot}");
        assert_eq!(run.second_life()["incarnation"], 1, "{spot}");
    }
    let scene = Scene::new();
    let silent = ["--wait-ready", "--after", "3000", "--fail-spot", "crash-heard:stop"];
    // Once more, and last: the silent guard is ended after this long.
    let run = scene.zoo(&[&silent[..], &["--dump-wait-ms", "12000", "null-write"]].concat());
    assert_eq!(run.exit_code, ACCESS_VIOLATION, "{}", run.said);
    assert!(run.report().dump.is_some());
    assert_eq!(run.second_life()["incarnation"], 1);
}

// Goal: where no guard is wanted beside the application, a crash calls the standby, and an end without a crash is nobody's affair.
#[test]
fn a_guard_that_comes_only_for_a_crash() {
    let options = ["--topology", "at-crash", "--wait-ready"];
    let scene = Scene::new();
    let run = scene.zoo(&[&options[..], &["--annotate", "fact=a value", "null-write"]].concat());
    assert_eq!(run.exit_code, ACCESS_VIOLATION, "{}", run.said);
    assert_eq!(run.report().metadata["late_guard"], true);
    check_dump(run.report(), ACCESS_VIOLATION);
    assert_eq!(run.second_life()["incarnation"], 1);
    let scene = Scene::new();
    let run = scene.zoo(&[&options[..], &["fast-fail"]].concat());
    assert_eq!((run.exit_code, run.count("main"), run.reports.len()), (FAST_FAIL, 1, 0));
}

// Goal: a guard that dies while all is well is replaced, and the replacement does its work.
#[test]
fn a_guard_is_replaced() {
    let scene = Scene::new();
    let run = scene.zoo(&["--after", "6000", "--fail-spot", "ready:kill", "null-write"]);
    assert_eq!(run.exit_code, ACCESS_VIOLATION, "{}", run.said);
    assert!(run.report().dump.is_some());
    assert_eq!(run.second_life()["incarnation"], 1);
}

// Goal: the guard lets the session end, and restarts nothing then; the report is written all the same.
#[test]
fn the_session_ends() {
    let scene = Scene::new();
    let options = ["--end-session"].map(OsStr::new);
    let run = scene.zoo_behind(&options, &["--wait-ready", "--after", "8000", "null-write"]);
    assert_eq!((run.exit_code, run.answers), (ACCESS_VIOLATION, 2), "{}", run.said);
    assert_eq!(run.count("main"), 1);
    assert!(run.report().dump.is_some());
    assert_eq!(run.report().metadata["decision"]["reason"], "the session ends");
}

// Goal: while the application holds its guard off no other process runs its file; afterwards all is as before.
#[test]
fn a_guard_is_held_off_and_comes_back() {
    for topology in ["worker-first", "at-crash", "guard-first"] {
        let scene = Scene::new();
        let options = ["--topology", topology, "--wait-ready", "--annotate", "fact=a value"];
        let run = scene.zoo(&[&options[..], &["--hold-ms", "500", "null-write"]].concat());
        // Behind a front the next life's end is the one that counts.
        let code = if topology == "guard-first" { 0 } else { ACCESS_VIOLATION };
        assert_eq!((run.exit_code, run.count("held")), (code, 2), "{topology}: {}", run.said);
        check_dump(run.report(), ACCESS_VIOLATION);
        assert_eq!(run.second_life()["incarnation"], 1);
    }
}

// Goal: the application chooses how much a dump holds.
#[test]
fn sizes_of_dumps() {
    let sizes = ["small", "standard", "large"].map(|size| {
        let scene = Scene::new();
        let run = scene.zoo(&[
            "--wait-ready",
            "--dump-size",
            size,
            "--annotate",
            "fact=a value",
            "null-write",
        ]);
        check_dump(run.report(), ACCESS_VIOLATION);
        run.report().dump.as_ref().map_or(0, Vec::len)
    });
    // Wine writes the same for each kind.
    assert!(sizes.is_sorted(), "{sizes:?}");
}

// Goal: a program that lets nobody live beside it, by a named mutex, is restarted twenty times and never refused.
#[test]
fn a_single_instance_is_never_refused() {
    let mut scene = Scene::new();
    let lock = there(&scene.path("lock"));
    let lives = std::env::var("REARGUARD_LIVES").unwrap_or_else(|_| "20".to_owned());
    let count: u32 = lives.parse().expect("a number");
    // A life takes about a second under Wine.
    scene.patience += Duration::from_secs(5) * count;
    // Fast-fail: no dump, so that what is measured is the restart.
    let run = scene.zoo(&["--wait-ready", "--hold-lock", &lock, "--lives", &lives, "fast-fail"]);
    assert_eq!(run.exit_code, FAST_FAIL, "{}", run.said);
    assert_eq!(run.count("main"), count as usize + 1, "{}", run.said);
    assert!(!run.said.contains("locked"), "{}", run.said);
}

// Goal: the next life has the command line to the letter, unpaired surrogates included, the directory, and the environment, from a path with blanks.
// Among the arguments is a path of more than 260 units. Wine starts no program by one, see below, so how that is told is for a unit test.
#[test]
fn circumstances_are_kept_to_the_letter() {
    circumstances_are_kept("worker-first", FAST_FAIL);
    circumstances_are_kept("guard-first", 0);
}

fn circumstances_are_kept(topology: &str, exit_code: u32) {
    let scene = Scene::new();
    let place = scene.path("a directory with é and blanks");
    fs::create_dir_all(&place).expect("a directory");
    let zoo = place.join("crashzoo.exe");
    fs::copy(program("crashzoo.exe"), &zoo).expect("a copy");
    let told = scene.path("told");
    let mut line: Vec<u16> = format!(
        "--topology {topology} --store {} --trace {} --dump-wait-ms 60000 --wait-ready --print-args {} --log \"two  blanks\" --log \"\" --log \"a\\\"b\\\\\" --log a\\\\\\\"b --log \u{1f600} --log \"C:\\{}end\" --log ",
        there(&scene.path("store")),
        there(&scene.path("trace")),
        there(&told),
        "a long name\\".repeat(30)
    )
    .encode_utf16()
    .collect();
    line.extend([0xd800, 0x61]);
    line.extend(" fast-fail".encode_utf16());
    let file = scene.path("line");
    fs::write(&file, line.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>())
        .expect("a file");
    let line_file = there(&file);
    let directory = there(scene.directory.path());
    let options = ["--command-line", &line_file, "--directory", &directory].map(OsStr::new);
    let run = scene.host(&options, &zoo, &[]);
    assert_eq!(run.exit_code, exit_code, "{}", run.said);
    assert_eq!(run.left, 0);
    assert_eq!(run.second_life()["incarnation"], 1);
    let told = fs::read(told).expect("what both lives tell");
    let lines: Vec<&[u8]> = told.split(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 7, "three lines each, and the end");
    assert_eq!(lines[..3], lines[3..6]);
    let letters: String = line.iter().map(|unit| format!("{unit:04x}")).collect();
    let own = String::from_utf8_lossy(lines[0]);
    assert!(own.ends_with(&letters), "{own} {letters}");
}

// Goal: it is Wine that starts no program by a path of more than 260 units, with the standard library's own call: should that change, a restart there can be shown too.
#[test]
fn a_program_at_a_long_path_is_refused_by_wine() {
    let scene = Scene::new();
    let place = scene.path(&"x".repeat(150)).join("y".repeat(150));
    fs::create_dir_all(&place).expect("a directory");
    let zoo = place.join("crashzoo.exe");
    fs::copy(program("crashzoo.exe"), &zoo).expect("a copy");
    let stderr = scene.path("stderr");
    let mut command = Command::new("wine");
    command.arg(program("winhost.exe")).arg(there(&zoo)).arg("none").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(File::create(&stderr).expect("a file"));
    run_to_its_end(&mut command, HOST_END_MAX);
    let said = fs::read_to_string(stderr).expect("readable");
    assert!(said.contains("starting it: ") && said.contains("(os error 123)"), "{said}");
}

// Goal: a report reaches a collector through the system's own HTTP library.
#[test]
fn reports_are_delivered() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let url = collector.url();
    let run = scene.zoo(&["--collector", &url, "--annotate", "fact=a value", "null-write"]);
    let came = collector.wait_for(1, Duration::from_secs(60)).expect("a report");
    assert!(came[0].violations.is_empty(), "{:?}", came[0].violations);
    assert_eq!(run.report().metadata["delivery"]["state"], "uploaded");
    check_dump(run.report(), ACCESS_VIOLATION);
}

impl Scene {
    /// Crashes once for a collector that is busy, and leaves a report that is due again at once.
    fn leave_a_report(&self, url: &str) {
        let options = ["--wait-ready", "--collector", url, "--retry-s", "0", "--restart", "never"];
        let run = self.zoo(&[&options[..], &["null-write"]].concat());
        assert_eq!(run.exit_code, ACCESS_VIOLATION, "{}", run.said);
        let delivery = &run.report().metadata["delivery"];
        assert_eq!(delivery["state"], "pending", "{delivery:#}");
        assert_eq!(delivery["reason"], "the server answered 503", "{delivery:#}");
        assert!(self.path("store/pending").read_dir().expect("a store").next().is_some());
    }
}

// Goal: what a busy server left is sent by the next guard, while the program runs.
#[test]
fn a_later_guard_sends_what_was_left() {
    let busy = Script::first([Answer::status(503)]);
    let collector = Collector::start(busy).expect("a collector");
    let (scene, url) = (Scene::new(), collector.url());
    scene.leave_a_report(&url);
    let options = ["--wait-ready", "--collector", &url, "--after", "10000", "none"];
    let run = thread::scope(|scope| {
        let program = scope.spawn(|| scene.zoo(&options));
        let came = collector.wait_for(2, PATIENCE).expect("a second try");
        assert!(!program.is_finished(), "it is sent while the program runs");
        assert!(came[1].violations.is_empty(), "{:?}", came[1].violations);
        program.join().expect("the program ends")
    });
    assert_eq!(run.exit_code, 0, "{}", run.said);
    let metadata = &run.report().metadata;
    assert_eq!(metadata["delivery"]["state"], "uploaded", "{metadata:#}");
    assert_eq!(metadata["delivery"]["tries"], 2, "{metadata:#}");
    assert_eq!(collector.submissions()[1].report_id(), metadata["id"].as_str());
}

// Goal: a guard that is sending when the program ends stays until it knows what came of it.
#[test]
fn what_is_being_sent_is_sent_to_its_end() {
    let slow = Answer::accept().after(Duration::from_secs(4));
    let collector = Collector::start(Script::first([Answer::status(503), slow]));
    let collector = collector.expect("a collector");
    let (scene, url) = (Scene::new(), collector.url());
    scene.leave_a_report(&url);
    let run = scene.zoo(&["--wait-ready", "--collector", &url, "none"]);
    assert_eq!(run.exit_code, 0, "{}", run.said);
    assert!(run.stayed_ms >= 2_000, "{}", run.stayed_ms);
    assert_eq!(run.report().metadata["delivery"]["state"], "uploaded");
}

// Goal: the user's yes lets the guard send what waits, without another start.
#[test]
fn consent_sends_what_waits() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let (scene, url) = (Scene::new(), collector.url());
    let options = ["--wait-ready", "--collector", &url, "--consent", "ask"];
    let run = scene.zoo(&[&options[..], &["--restart", "never", "null-write"]].concat());
    assert_eq!(run.report().metadata["delivery"]["reason"], "the user has not said yes");
    assert!(collector.submissions().is_empty());
    let answer = ["--answer", "yes", "--after", "8000", "none"];
    let run = scene.zoo(&[&options[..], &answer].concat());
    assert_eq!(run.exit_code, 0, "{}", run.said);
    assert_eq!(run.report().metadata["delivery"]["state"], "uploaded", "{}", run.said);
    assert_eq!(collector.submissions().len(), 1);
}

// Goal: a proxy that the environment names is taken, by name, and one that can't be used costs a try and no report.
#[test]
fn a_proxy_of_the_environment_is_taken() {
    let proxy = Collector::start(Script::default()).expect("a collector");
    let address = proxy.url();
    let address = address.strip_suffix("/submit").unwrap_or(&address);
    for (address, state) in [(address, "uploaded"), ("socks5://127.0.0.1:1", "pending")] {
        let scene = Scene { proxy: Some(address.to_owned()), ..Scene::new() };
        let url = "http://collector.invalid:8080/submit";
        let run = scene.zoo(&["--wait-ready", "--collector", url, "fast-fail"]);
        let delivery = &run.report().metadata["delivery"];
        assert_eq!(delivery["state"], state, "{delivery:#}");
    }
    let came = proxy.submissions();
    assert_eq!(came.len(), 1);
    assert_eq!(came[0].target, "http://collector.invalid:8080/submit");
}

const FRONT: [&str; 3] = ["--topology", "guard-first", "--wait-ready"];

impl Scene {
    /// Runs the zoo below a front, and checks that no life was the first process itself.
    fn front(&self, options: &[&str], arguments: &[&str]) -> Run {
        let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        let run = self.zoo_behind(&options, &[&FRONT[..], arguments].concat());
        assert!(run.trace.iter().all(|line| line["pid"] != run.pid), "{:?}", run.trace);
        run
    }
}

impl Run {
    /// The reason for what was decided after this life.
    fn reason(&self, life: u64) -> &str {
        let of_life = |report: &&Report| report.metadata["incarnation"] == life;
        let report = self.reports.iter().find(of_life);
        let report = report.unwrap_or_else(|| panic!("no report of life {life}: {}", self.said));
        report.metadata["decision"]["reason"].as_str().expect("a reason")
    }
}

// Goal: how the application ends below is how the first process ends, a crash included.
#[test]
fn a_front_ends_as_the_application() {
    for (way, code, reports) in [
        ("none", 0, 0),
        ("exit-3", 3, 1),
        ("terminate", 9, 1),
        ("panic", 101, 1),
        ("fast-fail", FAST_FAIL, 1),
        ("abort", 3, 1),
        ("null-write", ACCESS_VIOLATION, 1),
    ] {
        let run = Scene::new().front(&[], &["--restart", "never", way]);
        assert_eq!((run.exit_code, run.count("main")), (code, 1), "{way}: {}", run.said);
        assert_eq!(run.reports.len(), reports, "{way}");
    }
}

// Goal: lives follow each other below one first process, on the streams that it was given, until the last ends well; a pipe too is handed from a crashed life to the next, and ends with the last.
#[test]
fn lives_follow_each_other_below_a_front() {
    let scene = Scene::new();
    let lock = there(&scene.path("lock"));
    let options = ["--tell-topology", "--hold-lock", &lock, "--lives", "3", "fast-fail"];
    let run = scene.front(&[], &options);
    assert_eq!((run.exit_code, run.count("main")), (0, 4), "{}", run.said);
    assert_eq!(run.said.matches("topology: GuardFirst").count(), 4, "{}", run.said);
    let mut lives: Vec<&Value> =
        run.reports.iter().map(|report| &report.metadata["incarnation"]).collect();
    lives.sort_by_key(|life| life.as_u64());
    assert_eq!(lives, [0, 1, 2]);
    for (way, told) in [("panic", "code:101"), ("null-write", "crash:-1073741819")] {
        let options: &[&str] = if way == "panic" { &[] } else { &["--pipe"] };
        let run = Scene::new().front(options, &["--tell-topology", way]);
        assert_eq!(run.exit_code, 0, "{way}: {}", run.said);
        assert_eq!(run.said.matches("topology: GuardFirst").count(), 2, "{way}: {}", run.said);
        assert_eq!(run.second_life()["last_exit_class"], told);
        assert_eq!(run.second_life()["last_report"], run.report().metadata["id"]);
    }
}

// Goal: a crash loop ends the first process with the last crash's code.
#[test]
fn a_front_ends_with_the_crash_loop() {
    let run = Scene::new().front(&[], &["--lives", "9", "--default-limits", "fast-fail"]);
    assert_eq!((run.exit_code, run.count("main")), (FAST_FAIL, 3), "{}", run.said);
    assert_eq!(run.reason(2), "crash loop: too many short lives in a row");
}

// Goal: who ends the first process has ended the program: no life goes on or follows, and its report says that it was killed.
#[test]
fn a_killed_front_takes_the_application_along() {
    let scene = Scene::new();
    let sign = there(&scene.path("sign"));
    let held = ["--restart", "always", "--print-args", &sign, "--after", "600000", "none"];
    let run = scene.front(&["--end-when", &sign], &held);
    assert_eq!((run.exit_code, run.count("main")), (1, 1), "{}", run.said);
    assert_eq!(run.report().metadata["exit"]["class"], "killed");
}

// Goal: whatever becomes of a guard, the first process never waits for it in vain: the standby's word counts as well, a start that was made stands, and without any word the end is the last life's.
#[test]
fn a_front_outlives_its_guards() {
    // The first three need their standby, which takes a moment.
    for (spot, after, way, code, lives) in [
        ("ready:kill", "3000", "null-write", 0, 2),
        ("crash-heard:kill", "3000", "null-write", 0, 2),
        ("starter-made:kill", "3000", "null-write", 0, 2),
        ("started:kill", "0", "fast-fail", 0, 2),
        ("full-exit:kill", "0", "fast-fail", FAST_FAIL, 1),
        // Longer than a front waits for a sign.
        ("full-exit:sleep=14000", "0", "fast-fail", FAST_FAIL, 1),
    ] {
        let options = ["--after", after, "--fail-spot", &format!("{spot}@0"), way];
        let run = Scene::new().front(&[], &options);
        assert_eq!((run.exit_code, run.count("main")), (code, lives), "{spot}: {}", run.said);
        let goes_first = run.stayed_ms >= 1_000;
        assert!(goes_first || spot != "full-exit:sleep=14000", "{spot}: {}", run.said);
    }
}

// Goal: who waits for the first process doesn't wait for the collector.
#[test]
fn a_front_waits_for_no_delivery() {
    let slow = Answer::accept().after(Duration::from_secs(4));
    let collector = Collector::start(Script::always(slow)).expect("a collector");
    let url = collector.url();
    let run = Scene::new().front(&[], &["--restart", "never", "--collector", &url, "fast-fail"]);
    assert_eq!(run.exit_code, FAST_FAIL, "{}", run.said);
    assert!(run.stayed_ms >= 2_000, "{}", run.stayed_ms);
    assert_eq!(run.report().metadata["delivery"]["state"], "uploaded");
}

// Goal: the console's keys are the application's, not the first process's, and a crash that follows them brings nobody back.
#[test]
fn keys_are_the_applications() {
    for (options, way) in
        [(&["--deaf", "--after", "3000"][..], "null-write"), (&["--after", "600000"], "none")]
    {
        let scene = Scene::new();
        let sign = there(&scene.path("sign"));
        let arguments = [&["--print-args", &sign][..], options, &[way]].concat();
        let run = scene.front(&["--console", "--keys-when", &sign], &arguments);
        assert_eq!(run.count("main"), 1, "{}", run.said);
        if way == "null-write" {
            assert_eq!(run.exit_code, ACCESS_VIOLATION, "{}", run.said);
            assert_eq!(run.reason(0), "worker had been asked to stop");
        } else {
            // Wine ends such a program with 0.
            assert!(matches!(run.exit_code, 0 | 0xc000_013a), "{:#x}", run.exit_code);
        }
    }
}

// Goal: keys that are pressed while a life is over and the next is not yet due are heard: nothing is started then.
#[test]
fn keys_between_two_lives_are_heard() {
    let scene = Scene::new();
    let sign = there(&scene.path("sign"));
    let options = ["--lives", "9", "--first-delay-ms", "60000", "--deaf", "--print-args", &sign];
    // The second life has said its three lines too; the third would be due in a minute.
    let host = ["--console", "--keys-when", &sign, "--lines", "6"];
    let run = scene.front(&host, &[&options[..], &["fast-fail"]].concat());
    assert_eq!((run.exit_code, run.count("main")), (FAST_FAIL, 2), "{}", run.said);
    // The key may be quicker than the life's end.
    let reasons = ["stop requested", "worker had been asked to stop"];
    assert!(reasons.contains(&run.reason(1)), "{}", run.reason(1));
}

// Goal: a program that shares its console is started again in place where the choice is automatic, and isn't where the guard is to stand behind it; without a console nothing speaks for a front.
#[test]
fn the_console_decides() {
    let auto = ["--topology", "auto", "--wait-ready", "--tell-topology", "null-write"];
    let console = ["--console"].map(OsStr::new);
    let run = Scene::new().zoo_behind(&console, &auto);
    assert_eq!((run.exit_code, run.count("main")), (0, 2), "{}", run.said);
    assert!(run.said.contains("topology: GuardFirst"), "{}", run.said);
    let run = Scene::new().zoo_behind(&console, &["--wait-ready", "null-write"]);
    assert_eq!((run.exit_code, run.count("main")), (ACCESS_VIOLATION, 1), "{}", run.said);
    assert_eq!(run.reason(0), "worker was the terminal's foreground job");
    let run = Scene::new().zoo(&auto);
    assert_eq!((run.exit_code, run.count("main")), (ACCESS_VIOLATION, 2), "{}", run.said);
    assert_eq!(run.said.matches("topology: WorkerFirst: nothing speaks").count(), 2);
}

// Goal: a guard argument with nothing behind it ends with its own code and never runs the application; a store that can't be made costs the reports only.
#[test]
fn bad_input() {
    let scene = Scene::new();
    let trace = there(&scene.path("trace"));
    for argument in [
        "--rearguard-guard",
        "--rearguard-guard=2:0123456789abcdef",
        "--rearguard-guard=1:0123456789abcdef",
    ] {
        let run = scene.host(&[], &program("crashzoo.exe"), &[argument]);
        assert_eq!(run.exit_code, 98, "{argument}: {}", run.said);
        assert!(run.said.contains("guard argument not usable"), "{argument}: {}", run.said);
        let run = scene.host(&[], &program("crashzoo.exe"), &["--trace", &trace, argument]);
        assert_eq!((run.exit_code, run.count("main")), (98, 0), "{argument}: {}", run.said);
    }
    let arguments =
        ["--store", "Q:\\nowhere", "--trace", &trace, "--wait-ready", "--health", "exit-3"];
    let run = scene.host(&[], &program("crashzoo.exe"), &arguments);
    assert_eq!(run.exit_code, 3, "{}", run.said);
    assert!(run.said.contains("reports are lost"), "{}", run.said);
}

// Goal: a role has a guard of its own, is told by its name, and is started again by its own policy, while the main process goes on to an end of its own.
#[test]
fn a_role_is_told_by_its_name() {
    let role = "helper:--wait-guarded --lives 1 fast-fail";
    let run = Scene::new().zoo(&["--start", role, "--after", "8000", "exit-3"]);
    assert_eq!(run.exit_code, 3, "{}", run.said);
    let lives = run.trace.iter().filter(|line| line["event"] == "main" && line["role"] == "helper");
    assert_eq!(lives.count(), 2, "{}", run.said);
    let of_role = |name: &str| {
        let mut found = run.reports.iter().filter(|report| report.metadata["role"] == name);
        let one = found.next().unwrap_or_else(|| panic!("no report of {name}: {}", run.said));
        assert!(found.next().is_none(), "{name}");
        one
    };
    assert_eq!(of_role("helper").metadata["exit"]["value"], FAST_FAIL);
    assert_eq!(of_role("helper").metadata["decision"]["restart"], true);
    assert_eq!(of_role("main").metadata["exit"]["value"], 3);
}

/// Where an image's header is.
fn header_of(image: &[u8]) -> usize {
    let header = usize::from(u16::from_le_bytes([image[0x3c], image[0x3d]]));
    assert_eq!(&image[header..header + 4], b"PE\0\0");
    header
}

/// The same image with other names for its sections of debug information.
/// Wine's dump writer reads those itself, and falls over what Rust's compiler has written.
fn with_lines_put_aside(image: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    let header = header_of(&image);
    let number = |at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
    let (count, optional) = (number(header + 6), number(header + 20));
    let sections = header + 24 + optional;
    let mut renamed = 0;
    for section in image[sections..].chunks_mut(40).take(count) {
        // A name of more than eight bytes stands elsewhere; of an image, only debug information has such.
        if section[0] == b'/' {
            section[..8].copy_from_slice(b"aside\0\0\0");
            renamed += 1;
        }
    }
    assert!(renamed > 0, "there are no sections of debug information");
    image
}

// Goal: a dump of a release program for Windows is shown on this machine by function, file and line, through inlining, in C++ and in Rust, when the program with its line tables is at hand, and without lines when only another build is; as its sources are marked, and as binutils finds.
#[test]
fn a_dump_is_shown_by_its_lines() {
    // Where GNU's linker puts a program's first byte.
    const IMAGE_BASE: u64 = 0x1_4000_0000;
    let scene = Scene::new();
    let release = told("REARGUARD_WINDOWS_RELEASE");
    let mut image = fs::read(&release).expect("readable");
    let stamp = header_of(&image) + 8;
    let died = scene.path("inlines.exe");
    fs::write(&died, with_lines_put_aside(&image)).expect("room");
    let run = scene.host(&[], &died, &[&there(&scene.path("store")), "cpp"]);
    assert_eq!((run.exit_code, run.left), (ACCESS_VIOLATION, 0), "{}", run.said);
    let dump = scene.path("inlines.dmp");
    fs::write(&dump, run.report().dump.as_deref().expect("a minidump")).expect("room");
    let show = |symbols: &Path, options: &[&str]| {
        let mut tool = Command::new(told("REARGUARD_TOOL"));
        tool.arg("show").arg(&dump).arg("--symbols").arg(symbols).args(options);
        tool.stdin(Stdio::null()).env("HOME", scene.path("home")).env_remove("XDG_STATE_HOME");
        let output = tool.output().expect("the tool starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let symbols = release.parent().expect("it lies in a directory");
    let frames = readers::shown(&show(symbols, &["--json"]), "inlines.exe").expect("frames");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a workspace");
    let sources = workspace.join("testprogs/inlines/src");
    assert_eq!(readers::unlike_marks(&sources, "cpp", &frames).expect("sources"), [""; 0]);
    let addr2line = "x86_64-w64-mingw32-addr2line";
    let unlike = readers::unlike_binutils(addr2line, &release, IMAGE_BASE, &frames);
    assert_eq!(unlike.expect("binutils"), [""; 0]);
    let text = show(symbols, &[]);
    assert!(text.contains(">   0  press::Page::print(long) [inlined]\n"), "{text}");
    // The same program of another second is another build.
    image[stamp] ^= 1;
    let other = scene.path("other");
    fs::create_dir(&other).expect("a directory");
    fs::write(other.join("inlines.exe"), image).expect("room");
    let frames = readers::shown(&show(&other, &["--json"]), "inlines.exe").expect("frames");
    assert!(frames.iter().all(|frame| frame.line == 0), "{frames:#?}");
    assert!(show(&other, &["--everything"]).contains("inlines.exe is another build"));
}
