//! Seeded rounds: a guard is killed, stopped or slowed at one of its steps, and whatever it was doing, the worker dies of its own signal and exactly one next life begins.
//!
//! How many and which: see `common/rounds.rs`.

#![allow(clippy::expect_used, reason = "a stage that breaks is a failed test")]

mod common;
#[path = "common/rounds.rs"]
mod rounds;

use std::fs;
use std::time::{Duration, Instant};

use common::{PATIENCE, Scene, pidfd, state, wait_gone};
use rounds::{ADOPTED, OWN, play_rounds, reap_adopted, start};

/// Every combination of step and action twice; a thousand are for the long run.
const STEP_ROUNDS_DEFAULT: u64 = 168;
/// Enough to meet most instructions that take their time.
const MOMENT_ROUNDS_DEFAULT: u64 = 60;

/// How long a crashed worker waits for one guard.
const DUMP_WAIT_MS: u64 = 300;

/// What a worker may take from its fault to its end: two deadlines, a guard that has to be waited for at its start, and a busy machine.
const DEATH_MAX: Duration = Duration::from_secs(10);

/// The steps before the answer: whoever stops or hangs there is ended by the worker.
const BEFORE_THE_ANSWER: [&str; 16] = [
    "attached",
    "ready",
    "crash-heard",
    "streams-taken",
    "before-seize",
    "seized",
    "stopped",
    "registers-read",
    "stacks-copied",
    "released",
    "modules-read",
    "before-encode",
    "dump-encoded",
    "report-written",
    "starter-made",
    "before-answer",
];

/// The steps after it: the worker needs its guard no more, so nobody ends one that was stopped by somebody else.
const AFTER_THE_ANSWER: [&str; 5] = ["answered", "full-exit", "started", "durable", "delivered"];

const ACTIONS: [&str; 4] = ["kill", "stop", "sleep=100", "sleep=700"];

/// One round.
#[derive(Debug)]
struct Round {
    step: &'static str,
    action: &'static str,
    threads: u32,
    thread: &'static str,
    wait_ready: bool,
    /// Whether the guard is one that stands for roles too, and divides itself.
    heads_family: bool,
    /// Whether there is no guard until the crash.
    at_crash: bool,
    way: &'static str,
}

impl Round {
    /// The rounds of a seed go through all combinations in an order of its own; the circumstances are the round's.
    fn of(seed: u64, number: u64) -> Round {
        let mut combinations: Vec<(&str, &str)> = BEFORE_THE_ANSWER
            .iter()
            .chain(&AFTER_THE_ANSWER)
            .flat_map(|step| ACTIONS.iter().map(move |action| (*step, *action)))
            .collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut combinations);
        let (step, action) = combinations[(number % combinations.len() as u64) as usize];
        let mut random =
            fastrand::Rng::with_seed(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        Round {
            step,
            action,
            threads: [0, 0, 3, 20][random.usize(..4)],
            thread: ["main", "std", "foreign"][random.usize(..3)],
            wait_ready: random.u8(..3) != 0,
            heads_family: random.u8(..3) == 0,
            at_crash: random.u8(..4) == 0,
            way: ["null-write", "null-call", "stack-overflow"][random.usize(..3)],
        }
    }

    fn stops_for_good(&self) -> bool {
        self.action == "stop" && AFTER_THE_ANSWER.contains(&self.step)
    }

    fn arguments(&self, scene: &Scene) -> Vec<String> {
        let mut arguments = vec![
            "--fail-spot".into(),
            format!("{}:{}@0", self.step, self.action),
            "--dump-wait-ms".into(),
            DUMP_WAIT_MS.to_string(),
            "--hold-lock".into(),
            scene.path("lock").display().to_string(),
            "--lives".into(),
            "1".into(),
            "--threads".into(),
            self.threads.to_string(),
            "--thread".into(),
            self.thread.into(),
        ];
        if self.at_crash {
            arguments.extend(["--topology".into(), "at-crash".into()]);
        }
        if self.heads_family {
            arguments.push("--roles".into());
        }
        if self.wait_ready {
            arguments.push("--wait-ready".into());
        }
        arguments.push(self.way.into());
        arguments
    }
}

/// The raw status of an adopted process, waited for.
fn status(pid: u32) -> Option<i32> {
    if let Some(pidfd) = pidfd(pid) {
        assert!(wait_gone(&pidfd, PATIENCE), "process {pid} goes on");
    }
    reap_adopted();
    ADOPTED.lock().expect("no round panics here").remove(&pid)
}

/// Ends the guard that stays stopped because this test has stopped it; nobody else in the scene may be left, but the one that it comes from.
fn end_the_stopped(scene: &Scene, heads_family: bool) {
    let stopped = scene.await_some("stopped guard", || {
        let living: Vec<u32> = scene.processes().into_iter().collect();
        match living[..] {
            [guard] if state(guard) == Some('T') => Some(guard),
            [_, guard] if heads_family && state(guard) == Some('T') => Some(guard),
            _ => None,
        }
    });
    assert!(common::guard_argument(stopped).is_some(), "{:?}", scene.states());
    scene.end(stopped);
}

/// Plays a round and says what was wrong with it.
fn play(round: &Round) {
    let scene = Scene::new();
    let arguments = round.arguments(&scene);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let child = start(&mut scene.zoo(&arguments));
    let ended = scene.finish(child);
    OWN.lock().expect("no round panics here").remove(&ended.pid);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "the worker's end: {ended:?}");
    let dying = scene.events("dying");
    assert_eq!(dying.len(), 1, "one death: {:#?}", scene.trace());
    let next = next_life(&scene);
    let took = Duration::from_nanos(scene.events("main")[1].t_ns - dying[0].t_ns);
    assert!(took < DEATH_MAX, "the next life came after {took:?}");
    if round.stops_for_good() {
        end_the_stopped(&scene, round.heads_family && !round.at_crash);
    }
    one_end(&scene, next, round.threads as usize);
}

/// Waits for the next life; returns how it ended.
fn next_life(scene: &Scene) -> Option<i32> {
    let mains = scene.await_event("main", 2);
    status(mains[1].pid)
}

/// Nothing is left but one whole report, and there were two lives.
fn one_end(scene: &Scene, next: Option<i32>, threads: usize) {
    scene.settle();
    reap_adopted();
    let mains = scene.events("main");
    assert_eq!(mains.len(), 2, "two lives: {:#?}", scene.trace());
    assert_eq!(next, Some(0), "the next life finds the lock free and ends well");
    assert_eq!(mains[1].incarnation, Some(1));
    assert_eq!(mains[1].last_exit_class.as_deref(), Some("crash:11"));
    let report = scene.report();
    assert_eq!(mains[1].last_report.as_deref(), report.json["id"].as_str());
    assert_eq!(report.exception().0, libc::SIGSEGV);
    assert!(report.thread_count() > threads, "{} threads", report.thread_count());
    assert_eq!(report.exit_class(), ("crash".into(), Some(11)));
    // A report that says anything of a decision says the true one.
    if !report.json["decision"].is_null() {
        assert!(report.decision().0, "it was restarted: {:#}", report.json);
    }
}

/// The guard gets a signal from outside, at a moment that no step of its own has chosen.
fn play_from_outside(seed: u64, number: u64) {
    let mut random =
        fastrand::Rng::with_seed(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let signal = if random.bool() { libc::SIGKILL } else { libc::SIGSTOP };
    // A crash takes a guard about a millisecond, here and there more.
    let delay_us_max = [300, 2_000, 6_000][random.usize(..3)];
    let delay = Duration::from_micros(random.u64(..delay_us_max));
    let threads = [0, 3, 50][random.usize(..3)];
    let scene = Scene::new();
    let lock = scene.path("lock").display().to_string();
    let (wait, idle) = (DUMP_WAIT_MS.to_string(), threads.to_string());
    let arguments = ["--dump-wait-ms", &wait, "--hold-lock", &lock, "--threads", &idle];
    let mut command = scene.zoo(&arguments);
    command.args(["--wait-ready", "--after", "600000", "none"]);
    let child = start(&mut command);
    // What the trace doesn't have yet, a crash would cut off.
    scene.await_event("guarded", 1);
    // By its own word: a worker that is signalled before that has no line in the trace.
    let guard = scene.await_event("guarded", 1)[0].guard_pid.expect("a guard");
    let idle_threads =
        || fs::read_dir(format!("/proc/{}/task", child.id())).map_or(0, Iterator::count);
    // The main thread and the keeper are there too; all others stand when the furniture does.
    scene.await_some("furnished worker", || {
        (idle_threads() == threads + 2 && state(child.id()) == Some('S')).then_some(())
    });
    let crashed = Instant::now();
    assert!(common::kill(child.id(), libc::SIGSEGV));
    while crashed.elapsed() < delay {
        std::hint::spin_loop();
    }
    common::kill(guard, signal);
    let ended = scene.finish(child);
    OWN.lock().expect("no round panics here").remove(&ended.pid);
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{signal} after {delay:?}: {ended:?}");
    assert!(crashed.elapsed() < DEATH_MAX, "{signal} after {delay:?}: {:?}", crashed.elapsed());
    let next = next_life(&scene);
    // Stopped after its answer, it is nobody's to end but ours.
    if state(guard) == Some('T') {
        scene.end(guard);
    }
    one_end(&scene, next, threads);
}

// Goal: wherever a guard is killed, stopped or slowed, the worker dies truly and in time, is followed by exactly one next life, leaves one whole report, and nothing stays behind, least of all a stopped process.
#[test]
fn guards_fail_at_every_step() {
    play_rounds(STEP_ROUNDS_DEFAULT, |seed, number| {
        let round = Round::of(seed, number);
        let told = std::panic::catch_unwind(|| play(&round));
        if let Err(problem) = told {
            eprintln!("{round:?}");
            std::panic::resume_unwind(problem);
        }
    });
}

// Goal: the same for a guard that is killed or stopped from outside at any moment around its work.
#[test]
fn guards_fail_at_any_moment() {
    play_rounds(MOMENT_ROUNDS_DEFAULT, play_from_outside);
}
