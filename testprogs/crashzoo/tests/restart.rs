//! The next life: when it begins, how often, with what it is started, and what it learns of the lives before.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]
#![expect(unsafe_code, reason = "the application's own circumstances are made by system calls")]

mod app;
mod common;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{PATIENCE, Scene, TOPOLOGIES, kill, pidfd, wait_gone};
use rearguard::{RestartPolicy, RestartWhen};
use rearguard_cli::collector::{Answer, Collector, Script};

/// Longer than any test: the zoo is held until the test sends it a signal.
const HELD: [&str; 4] = ["--wait-guarded", "--after", "600000", "none"];

/// Two lives of one program, the second still running.
struct TwoLives {
    first: Life,
    second: Life,
    stderr: ChildStderr,
    _pipes: (Option<ChildStdin>, Option<ChildStdout>),
}

/// What the system shows of one life.
#[derive(Debug, PartialEq, Eq)]
struct Life {
    pid: u32,
    arguments: Vec<u8>,
    environment: Vec<Vec<u8>>,
    directory: PathBuf,
    limits: String,
    /// Masks of signals, umask, groups and rights, from `status`.
    status: BTreeMap<String, String>,
    /// Number and target of every descriptor.
    descriptors: Vec<(u32, PathBuf)>,
    session: i32,
    scheduling: (i32, i32),
    oom: String,
}

impl Life {
    fn of(pid: u32) -> Life {
        let file = |name: &str| {
            fs::read(format!("/proc/{pid}/{name}")).unwrap_or_else(|e| panic!("{pid} {name}: {e}"))
        };
        let text = |name: &str| String::from_utf8(file(name)).expect("text");
        let wanted = [
            "Umask",
            "Uid",
            "Gid",
            "Groups",
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "Cpus_allowed",
        ];
        let status = text("status")
            .lines()
            .filter_map(|line| line.split_once(":\t"))
            .filter(|(key, _)| wanted.contains(key))
            .map(|(key, value)| (key.to_owned(), without_library_signals(key, value)))
            .collect();
        let mut descriptors: Vec<(u32, PathBuf)> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("descriptors")
            .flatten()
            .map(|entry| {
                let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
                (number.expect("a number"), fs::read_link(entry.path()).expect("a target"))
            })
            .collect();
        descriptors.sort_unstable();
        let environment = file("environ");
        Life {
            pid,
            arguments: file("cmdline"),
            environment: environment.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
            directory: fs::read_link(format!("/proc/{pid}/cwd")).expect("a directory"),
            limits: text("limits"),
            status,
            descriptors,
            // SAFETY: no memory is involved.
            session: unsafe { libc::getsid(pid as i32) },
            scheduling: (
                // SAFETY: no memory is involved.
                unsafe { libc::sched_getscheduler(pid as i32) },
                // SAFETY: no memory is involved.
                unsafe { libc::getpriority(libc::PRIO_PROCESS, pid) },
            ),
            oom: text("oom_score_adj"),
        }
    }

    fn has_variable(&self, name: &str) -> bool {
        let name = format!("{name}=");
        self.environment.iter().any(|entry| entry.starts_with(name.as_bytes()))
    }
}

/// Takes out the signals 32 and 33, which the C library keeps for itself: no program can say what becomes of them.
fn without_library_signals(key: &str, value: &str) -> String {
    if !key.starts_with("Sig") {
        return value.to_owned();
    }
    let signals = u64::from_str_radix(value, 16).expect("a mask");
    format!("{:016x}", signals & !(3 << 31))
}

/// Starts a program that is held, looks at it, ends it by a fault, and looks at its next life.
fn two_lives(scene: &Scene, mut command: Command) -> TwoLives {
    let mut worker = command.spawn().expect("the zoo starts");
    let pid = worker.id();
    // The other ends of the pipes stay open for the next life.
    let pipes = (worker.stdin.take(), worker.stdout.take(), worker.stderr.take());
    scene.await_event("guarded", 1);
    let first = Life::of(pid);
    assert!(kill(pid, libc::SIGSEGV));
    let ended = scene.finish(worker);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    let second = Life::of(scene.await_event("guarded", 2)[1].pid);
    assert_ne!(first.pid, second.pid);
    TwoLives { first, second, stderr: pipes.2.expect("a pipe"), _pipes: (pipes.0, pipes.1) }
}

/// Ends the life that is still there.
fn end(scene: &Scene, lives: &TwoLives) {
    assert!(kill(lives.second.pid, libc::SIGKILL));
    scene.settle();
    assert_eq!(scene.events("main").len(), 2, "{:#?}", scene.trace());
}

/// The zoo, held, with these arguments besides.
fn held(scene: &Scene, arguments: &[&OsStr]) -> Command {
    let mut command = scene.zoo(&["--lives", "2"]);
    command.args(arguments).args(HELD);
    command
}

// Goal: a lock that every life holds is never found taken in a hundred restarts, each life begins once and in its turn, and the last one ends well.
#[test]
fn a_lock_is_never_refused_in_a_hundred_restarts() {
    for topology in TOPOLOGIES {
        a_lock_is_never_refused(topology);
    }
}

fn a_lock_is_never_refused(topology: &str) {
    let scene = Scene::new();
    let lock = scene.path("lock");
    let lock = lock.to_str().expect("a path that is text");
    let options = ["--topology", topology, "--hold-lock", lock, "--lives", "100", "null-write"];
    let ended = scene.run_lives(&options, 101);
    ended.check(topology, libc::SIGSEGV, "a lock");
    let lives = |event| -> Vec<Option<u64>> {
        scene.events(event).iter().map(|line| line.incarnation).collect()
    };
    let expected: Vec<Option<u64>> = (0..=100).map(Some).collect();
    assert_eq!(lives("main"), expected);
    // A life that finds the lock taken exits with 75 before it says that it dies, and ends the chain.
    assert_eq!(lives("dying"), expected[..100]);
    let times: Vec<u64> = scene.trace().iter().map(|line| line.t_ns).collect();
    let last_of_each: Vec<u64> = scene.events("dying").iter().map(|line| line.t_ns).collect();
    let first_of_next: Vec<u64> = scene.events("main")[1..].iter().map(|line| line.t_ns).collect();
    assert!(last_of_each.iter().zip(&first_of_next).all(|(dying, main)| dying < main), "{times:?}");
    // The last life got the lock too, and exited with 0: any other end would have left a report.
    let reports = scene.reports();
    assert_eq!(reports.len(), 10, "the store keeps the newest: {reports:#?}");
    let newest: Vec<_> = reports.iter().map(|report| report.json["incarnation"].as_u64()).collect();
    assert_eq!(newest, expected[90..100]);
}

// Goal: the next life gets the arguments of the first to the letter: empty ones, blanks, quotes, line ends, and what is no UTF-8.
#[test]
fn arguments_are_kept_to_the_letter() {
    let scene = Scene::new();
    let odd = OsString::from_vec(b"odd \xff\xfe'\"$(x)\n*\\ ".to_vec());
    let mut store = scene.path("store of ").into_os_string();
    store.push(&odd);
    let mut command = held(
        &scene,
        &[
            OsStr::new("--recovery"),
            OsStr::new(""),
            OsStr::new("--annotate"),
            OsStr::new("key= two  blanks \"and quotes' \n"),
            OsStr::new("--store"),
            &store,
        ],
    );
    command.arg0("an odd name");
    let lives = two_lives(&scene, command);
    assert!(lives.first.arguments.starts_with(b"an odd name\0"), "{:?}", lives.first);
    assert!(lives.first.arguments.windows(odd.len()).any(|window| window == odd.as_bytes()));
    assert_eq!(lives.first.arguments, lives.second.arguments);
    end(&scene, &lives);
    assert_eq!(common::reports_of(&PathBuf::from(store)).len(), 2);
}

// Goal: what the zoo says of its own circumstances is what it was given, in every life; on other systems this is all that can be seen of them.
#[test]
fn a_life_tells_what_it_was_started_with() {
    let scene = Scene::new();
    let told = scene.path("told");
    let mut command = scene.zoo(&["--annotate", "key= two  blanks", "--print-args"]);
    command.arg(&told).arg("null-write").env("ZOO_ENV", OsStr::from_bytes(b"a \xff value"));
    let mut words = vec![command.get_program().as_bytes()];
    words.extend(command.get_args().map(OsStr::as_bytes));
    let directory = fs::canonicalize(scene.directory.path()).expect("the scene's directory");
    let life =
        [&words.join(&0), directory.as_os_str().as_bytes(), b"a \xff value", b""].join(&b'\n');
    scene.live_through(command, 2);
    assert_eq!(fs::read(told).expect("the file"), life.repeat(2));
}

// Goal: the next life gets the environment of the first to the letter, without what was meant for one start only.
#[test]
fn the_environment_is_kept_but_for_single_use() {
    let single_use = [
        "NOTIFY_SOCKET",
        "XDG_ACTIVATION_TOKEN",
        "DESKTOP_STARTUP_ID",
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PIDFDID",
    ];
    let scene = Scene::new();
    let mut command = held(&scene, &[]);
    command
        .env("ODD", OsStr::from_bytes(b"a=b \xff\"'\n;"))
        .env("EMPTY", "")
        .env("NOTIFY_SOCKET_OF_MINE", "kept");
    for name in single_use {
        command.env(name, "once");
    }
    let lives = two_lives(&scene, command);
    let is_single_use = |entry: &&Vec<u8>| {
        single_use.iter().any(|name| entry.starts_with(format!("{name}=").as_bytes()))
    };
    for name in single_use {
        assert!(lives.first.has_variable(name), "{name}");
        assert!(!lives.second.has_variable(name), "{name}");
    }
    let expected: Vec<&Vec<u8>> =
        lives.first.environment.iter().filter(|entry| !is_single_use(entry)).collect();
    let is_ours = |entry: &&Vec<u8>| entry.starts_with(b"REARGUARD_LIFE=");
    let got: Vec<&Vec<u8>> =
        lives.second.environment.iter().filter(|entry| !is_ours(entry)).collect();
    assert_eq!(got, expected);
    end(&scene, &lives);
}

// Goal: directory, umask, ignored and blocked signals, limits, rights, scheduling and descriptors of the next life are those of the first.
#[test]
fn circumstances_are_kept() {
    let scene = Scene::new();
    let directory = scene.path("a directory");
    fs::create_dir(&directory).expect("a directory");
    let mut command = held(&scene, &[]);
    command.current_dir(&directory);
    let circumstances = || {
        // SAFETY: no memory is involved.
        unsafe { libc::umask(0o137) };
        // SAFETY: ignoring a signal has no conditions. As `nohup` does it.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
        let mut blocked = std::mem::MaybeUninit::uninit();
        // SAFETY: the pointer refers to room for a set.
        unsafe { libc::sigemptyset(blocked.as_mut_ptr()) };
        // SAFETY: the set was initialised.
        unsafe { libc::sigaddset(blocked.as_mut_ptr(), libc::SIGUSR1) };
        // SAFETY: the set is alive.
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, blocked.as_ptr(), std::ptr::null_mut()) };
        for (resource, soft, hard) in
            [(libc::RLIMIT_NOFILE, 77, 99), (libc::RLIMIT_STACK, 1 << 21, 1 << 22)]
        {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            // SAFETY: the pointer refers to a living limit.
            if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        // SAFETY: no memory is involved.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 3) };
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(circumstances) };
    let lives = two_lives(&scene, command);
    let TwoLives { first, second, .. } = &lives;
    assert_eq!(first.status["Umask"], "0137");
    assert_eq!(first.status["SigBlk"], format!("{:016x}", 1u64 << (libc::SIGUSR1 - 1)));
    assert_eq!(first.scheduling.1, 3);
    assert_eq!(first.status, second.status);
    assert_eq!(first.directory, second.directory);
    assert_eq!(first.limits, second.limits);
    assert_eq!(first.session, second.session);
    assert_eq!(first.scheduling, second.scheduling);
    assert_eq!(first.oom, second.oom);
    // What the first life happened to inherit besides its streams isn't passed on, and nothing of ours is left.
    let targets: Vec<_> = second.descriptors.iter().map(|(_, target)| target.clone()).collect();
    let streams = first.descriptors[..3].iter().map(|(_, target)| target.clone());
    let expected: Vec<_> = streams.chain([scene.trace_path()]).collect();
    assert_eq!(targets, expected);
    end(&scene, &lives);
}

// Goal: the next life reads and writes the very pipes of the first.
#[test]
fn standard_streams_are_handed_on() {
    let scene = Scene::new();
    let mut command = held(&scene, &[OsStr::new("--health")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let lives = two_lives(&scene, command);
    let streams = |life: &Life| life.descriptors[..3].to_vec();
    assert_eq!(streams(&lives.first), streams(&lives.second));
    for (number, (descriptor, target)) in streams(&lives.second).into_iter().enumerate() {
        assert_eq!(descriptor as usize, number);
        assert!(target.to_string_lossy().starts_with("pipe:"), "{number}: {target:?}");
    }
    end(&scene, &lives);
    let mut said = String::new();
    let mut stderr = lives.stderr;
    stderr.read_to_string(&mut said).expect("the end of the pipe");
    assert_eq!(said, "crashzoo: health: guarded, armed, reports are kept\n".repeat(2));
}

/// Runs the zoo under a policy that allows this many lives; the answer is the decision about each, and the delay after it.
fn policy(arguments: &[&str], lives: usize) -> (Vec<(bool, String)>, Vec<Option<u64>>) {
    let scene = Scene::new();
    let ended = scene.run_lives(arguments, lives);
    let reports = scene.reports();
    assert_eq!(reports.len(), lives, "{reports:#?}");
    let delays = reports.iter().map(|report| report.json["decision"]["delay_ms"].as_u64());
    let decisions = reports.iter().map(|report| report.decision()).collect();
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "the true end: {ended:?}");
    (decisions, delays.collect())
}

// Goal: no policy but the one that says so keeps a crash from being followed, and the report says which.
#[test]
fn never_means_never() {
    let (decisions, _) = policy(&["--restart", "never", "null-write"], 1);
    assert_eq!(decisions, [(false, "policy says never".to_owned())]);
}

// Goal: by default the third short life in a row is the last, the second restart comes after about a second, and the report says why it was given up.
#[test]
fn three_short_lives_are_the_end() {
    let (decisions, delays) = policy(&["--lives", "10", "--default-limits", "null-write"], 3);
    let crashed = (true, "worker crashed".to_owned());
    let given_up = (false, "crash loop: too many short lives in a row".to_owned());
    assert_eq!(decisions, [crashed.clone(), crashed, given_up]);
    assert_eq!((delays[0], delays[2]), (Some(0), None));
    assert!(delays[1].is_some_and(|delay| (750..=1250).contains(&delay)), "{delays:?}");
}

// Goal: as many crashes within the period as the policy allows are the end, and the report says so.
#[test]
fn too_many_crashes_in_the_period_are_the_end() {
    let two = ["--lives", "5", "--intensity", "2", "--period-ms", "60000", "null-write"];
    let (decisions, _) = policy(&two, 2);
    assert_eq!(decisions[1], (false, "crash loop: too many crashes in the period".to_owned()));
}

// Goal: delays double up to their maximum, within their jitter, and are really waited for.
#[test]
fn delays_double_and_are_waited_for() {
    let scene = Scene::new();
    let limits = ["--default-limits", "--in-a-row", "100"];
    let delays = ["--first-delay-ms", "100", "--max-delay-ms", "150"];
    scene.run_lives(&[&["--lives", "4"], &limits[..], &delays, &["null-write"]].concat(), 5);
    let mains = scene.events("main");
    let reports = scene.reports();
    let delays: Vec<u64> = reports
        .iter()
        .map(|report| report.json["decision"]["delay_ms"].as_u64().expect("a delay"))
        .collect();
    assert_eq!(delays[0], 0);
    for (delay, range) in delays[1..].iter().zip([75..=125, 112..=150, 112..=150]) {
        assert!(range.contains(delay), "{delays:?}");
    }
    for ((report, next), delay) in reports.iter().zip(&mains[1..]).zip(&delays) {
        let gap_ns = next.t_ns - report.moment("worker_released");
        assert!(gap_ns >= delay * 1_000_000, "{delay} ms, and {gap_ns} ns passed");
    }
}

// Goal: a life that calls itself ready begins both counts anew, but crashes in the period count on.
#[test]
fn ready_lives_are_no_short_lives() {
    let ready = ["--lives", "10", "--default-limits", "--ready", "null-write"];
    let (decisions, delays) = policy(&ready, 5);
    assert_eq!(delays, [Some(0), Some(0), Some(0), Some(0), None]);
    assert_eq!(decisions[4], (false, "crash loop: too many crashes in the period".to_owned()));
}

// Goal: a guard that was asked to stop leaves; a crash afterwards is reported all the same, and nothing is started.
#[test]
fn a_guard_that_was_told_to_stop_starts_nothing() {
    let scene = Scene::new();
    let worker = held(&scene, &[]).spawn().expect("the zoo starts");
    let guard = scene.await_event("guarded", 1)[0].guard_pid.expect("a guard");
    let guards_life = pidfd(guard).expect("a guard");
    assert!(kill(guard, libc::SIGTERM));
    assert!(wait_gone(&guards_life, PATIENCE), "{:?}", scene.states());
    assert!(kill(worker.id(), libc::SIGSEGV));
    let ended = scene.finish(worker);
    scene.settle();
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    assert_eq!(scene.events("main").len(), 1, "{:#?}", scene.trace());
    let report = scene.report();
    assert_eq!(report.exception().0, libc::SIGSEGV);
    assert!(!report.decision().0, "{:#}", report.json);
}

/// Whether the pipe of a program that is over for good ends while its report is still on its way.
fn pipe_ends_before_the_upload(arguments: &[&str], lives: usize) {
    for topology in TOPOLOGIES {
        let collector =
            Collector::start(Script::always(Answer::accept().after(Duration::from_secs(3))))
                .expect("a collector");
        let scene = Scene::new();
        let url = collector.url();
        let mut command = scene.zoo(&["--topology", topology, "--wait-ready", "--collector", &url]);
        let mut worker =
            command.args(arguments).stdout(Stdio::piped()).spawn().expect("the zoo starts");
        let mut pipes =
            (worker.stdout.take().expect("a pipe"), worker.stderr.take().expect("a pipe"));
        let mut nothing = Vec::new();
        pipes.0.read_to_end(&mut nothing).expect("the end of standard output");
        pipes.1.read_to_end(&mut nothing).expect("the end of standard error");
        // A report that was accepted is moved there.
        let accepted = fs::read_dir(scene.store().join("completed")).expect("a store").count();
        assert_eq!(accepted, 0, "{topology}: the pipes have ended before the delivery");
        if topology == "worker-first" {
            let guard = scene.events("guarded")[0].guard_pid.expect("a guard");
            let is_there = scene.processes().contains(&guard);
            let states = scene.states();
            assert!(is_there, "the guard was still at work when the pipes ended: {states:?}");
        }
        assert_eq!(scene.events("main").len(), lives, "{topology}: {:#?}", scene.trace());
        scene.finish(worker);
        scene.settle();
        assert_eq!(collector.submissions().len(), 1, "{topology}");
        assert_eq!(scene.report().json["delivery"]["state"], "uploaded", "{topology}");
    }
}

// Goal: who reads a program's output sees its end when the program is over for good, not when the last report is delivered.
#[test]
fn a_pipe_ends_with_the_worker() {
    pipe_ends_before_the_upload(&["--restart", "never", "null-write"], 1);
}

// Goal: the same when a next life has had the pipes meanwhile.
#[test]
fn a_pipe_ends_with_the_last_worker() {
    pipe_ends_before_the_upload(&["null-write"], 2);
}

/// The application of this file's tests; does nothing among the tests.
#[test]
fn application() {
    let Some(mode) = app::mode() else { return };
    let policy = RestartPolicy::new(RestartWhen::OnCrash).intensity(16, Duration::from_millis(1));
    let policy = policy.in_a_row(u32::MAX, Duration::from_secs(10));
    let policy = policy.backoff(Duration::ZERO, Duration::ZERO);
    let builder = app::builder().restart(policy).wait_ready(PATIENCE);
    let handle = builder.start().expect("the settings are good");
    match mode.as_str() {
        "recovery" => recovery(&handle),
        "streams" => streams(&handle),
        other => panic!("no such application: {other}"),
    }
    std::process::exit(0);
}

/// Says what it finds of the life before, leaves its own, and crashes; the last life ends well.
fn recovery(handle: &rearguard::Handle) {
    let state = handle.recovery_state().map(|state| String::from_utf8_lossy(state).into_owned());
    let before = state.as_deref().and_then(|state| state.split(' ').next()?.parse::<u32>().ok());
    let alive = before.and_then(common::state).is_some_and(|letter| letter != 'Z' && letter != 'X');
    let variable = std::env::var_os("REARGUARD_LIFE").is_some();
    let report = handle.last_report().map(|report| report.id().to_owned());
    let life = handle.incarnation();
    app::say(&format!("{life};{state:?};{alive};{variable};{report:?}"));
    // Memory that takes the kernel a while to free, so that a start before the full exit would be seen.
    std::mem::forget(std::hint::black_box(vec![1u8; 64 << 20]));
    handle.set_recovery_state(b"of an earlier moment").expect("it is short");
    let own = format!("{} of life {life}", std::process::id());
    handle.set_recovery_state(own.as_bytes()).expect("it is short");
    if life < 5 {
        crash();
    }
}

fn crash() -> ! {
    // SAFETY: no memory is involved; SIGSEGV is not survived.
    unsafe { libc::raise(libc::SIGSEGV) };
    std::process::exit(70);
}

// Goal: what a life leaves for the next one arrives there; the life before is gone when the next one's first line runs, and nothing of ours is left in its environment.
#[test]
fn a_life_learns_of_the_life_before() {
    let scene = Scene::new();
    let ended = scene.finish(app::command(&scene, "recovery").spawn().expect("it starts"));
    scene.await_that("six lives", || app::said(&scene).len() == 6);
    scene.settle();
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    let reports = scene.reports();
    assert_eq!(reports.len(), 5, "{:?}; {reports:#?}", app::said(&scene));
    let mut expected = vec!["0;None;false;false;None".to_owned()];
    for (life, report) in reports.iter().enumerate() {
        let pid = report.json["worker_pid"].as_u64().expect("a pid");
        let id = report.json["id"].as_str().expect("an id");
        let next = life + 1;
        expected.push(format!("{next};Some(\"{pid} of life {life}\");false;false;Some(\"{id}\")"));
    }
    assert_eq!(app::said(&scene), expected);
}

/// Panics in its first life, which leaves nobody the time to take its streams.
fn streams(handle: &rearguard::Handle) {
    app::say(&format!("{}", handle.health()));
    let targets = [0, 1, 2].map(|number| fs::read_link(format!("/proc/self/fd/{number}")));
    let null = targets.iter().flatten().filter(|target| target.as_os_str() == "/dev/null").count();
    app::say(&format!("null: {null}"));
    if handle.incarnation() == 0 {
        let thread = std::thread::spawn(|| panic!("for its streams"));
        let _ = thread.join();
        std::process::exit(101);
    }
}

// Goal: a worker that ended without a word, whose streams nobody could take, begins anew on null streams, and its health says so.
#[test]
fn streams_that_could_not_be_kept_are_null_and_told() {
    let scene = Scene::new();
    let mut command = app::command(&scene, "streams");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let ended = scene.finish(command.spawn().expect("it starts"));
    scene.await_that("two lives", || app::said(&scene).len() == 4);
    scene.settle();
    assert_eq!(ended.code(), Some(101), "{ended:?}");
    let well = "guarded, armed, reports are kept";
    let lost = format!("{well}; the standard streams could not be kept over the restart");
    assert_eq!(app::said(&scene), [well, "null: 0", &lost, "null: 3"]);
}

// Goal: a life after two short ones is told to begin without what may have ended them; a proven life and one that the user starts are not.
#[test]
fn safe_mode_comes_before_the_end_of_the_loop() {
    let scene = Scene::new();
    let options =
        ["--lives", "3", "--default-limits", "--first-delay-ms", "1", "--max-delay-ms", "1"];
    let mut command =
        scene.zoo(&[&options[..], &["--wait-ready", "--tell-history", "null-write"]].concat());
    let told = fs::File::create(scene.path("told")).expect("a file");
    command.stderr(told);
    scene.live_through(command, 3);
    let said = fs::read_to_string(scene.path("told")).expect("what they told");
    let lives: Vec<&str> = said.lines().collect();
    assert_eq!(
        lives,
        [
            "crashzoo: short lives: 0, safe mode: false, unclean ends: 0, given up: false",
            "crashzoo: short lives: 1, safe mode: false, unclean ends: 0, given up: false",
            "crashzoo: short lives: 2, safe mode: true, unclean ends: 0, given up: false",
        ]
    );
}

// Goal: a loop that was given up leaves the true end for whoever waits, a reason on disk, and word for the next start by hand, once, which is in safe mode by it; a loop that the policy didn't end leaves no such word.
#[test]
fn the_end_of_a_loop_is_told_to_the_next_start() {
    let scene = Scene::new();
    let loops = ["--default-limits", "--first-delay-ms", "1", "--max-delay-ms", "1"];
    let arguments = [&["--lives", "9"], &loops[..], &["--wait-ready", "null-write"]].concat();
    let ended = scene.live_through(scene.zoo(&arguments), 3);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended:?}");
    let reasons: Vec<_> = scene.reports().iter().map(|report| report.decision().1).collect();
    let last = "crash loop: too many short lives in a row";
    assert_eq!(reasons, ["worker crashed", "worker crashed", last]);
    for told in ["safe mode: true, unclean ends: 0, given up: true", "given up: false"] {
        let ended = scene.run(&["--wait-ready", "--tell-history", "none"]);
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
        assert!(ended.stderr.contains("short lives: 0"), "{}", ended.stderr);
    }
    scene.run(&["--restart", "never", "--wait-ready", "null-write"]);
    let ended = scene.run(&["--wait-ready", "--tell-history", "none"]);
    assert!(ended.stderr.contains("given up: false"), "{}", ended.stderr);
}

// Goal: a life that ended together with its guard is told to the next one, once; a guard that died alone, and an end that was seen, are not.
#[test]
fn an_end_that_nobody_saw_is_known_later() {
    let scene = Scene::new();
    let unclean = |expected: u32| {
        let ended = scene.run(&["--wait-ready", "--tell-history", "none"]);
        let said = format!("unclean ends: {expected}");
        assert!(ended.stderr.contains(&said), "{expected}: {}", ended.stderr);
    };
    unclean(0);
    unclean(0);
    for times in [1, 2] {
        let mut pids = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..times {
            let before = scene.events("guarded").len();
            let worker = scene
                .zoo(&["--wait-ready", "--after", "600000", "none"])
                .spawn()
                .expect("the zoo starts");
            let guarded = scene.await_event("guarded", before + 1)[before].clone();
            pids.push((worker.id(), guarded.guard_pid.expect("a guard")));
            workers.push(worker);
        }
        for (worker, guard) in &pids {
            // Stopped first, so that neither sees the other's end.
            for pid in [worker, guard] {
                assert!(kill(*pid, libc::SIGSTOP));
            }
            for pid in [worker, guard] {
                assert!(kill(*pid, libc::SIGKILL));
            }
        }
        for worker in workers {
            scene.finish(worker);
        }
        scene.settle();
        unclean(times);
        unclean(0);
    }
    // A guard that is killed alone has a successor, which knows whose trace it is.
    let worker =
        scene.zoo(&["--wait-ready", "--after", "600000", "none"]).spawn().expect("the zoo starts");
    let guard = scene.await_guard(None);
    scene.end(guard);
    scene.await_guard(Some(guard));
    assert!(kill(worker.id(), libc::SIGTERM));
    scene.finish(worker);
    scene.settle();
    unclean(0);
}
