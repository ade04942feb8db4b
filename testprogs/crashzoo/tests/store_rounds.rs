//! Seeded rounds over one store: several programs crash at once, their guards are killed at a step of writing or delivering, and a later guard makes it good.
//!
//! No report is lost, each arrives, and none is sent again once its acknowledgement is noted. How many rounds and which: see `common/rounds.rs`.

#![allow(clippy::expect_used, reason = "a stage that breaks is a failed test")]

mod common;
#[path = "common/rounds.rs"]
mod rounds;

use std::collections::BTreeMap;
use std::fs;
use std::process::Child;

use common::Scene;
use rearguard_cli::collector::{Answer, Collector, Script};
use rounds::{OWN, play_rounds, reap_adopted, start};

const ROUNDS_DEFAULT: u64 = 2_000;

/// The steps of writing and delivering, in their order, after two of a guard's beginning.
const STEPS: [&str; 14] = [
    "attached",
    "ready",
    "dump-encoded",
    "dump-stored",
    "metadata-stored",
    "report-written",
    "synced",
    "durable",
    "delivery-begun",
    "delivery-answered",
    "update-written",
    "delivery-noted",
    "delivery-completed",
    "delivered",
];

/// The steps between an acknowledgement and its note: who is killed there leaves a report that is sent once more.
const WINDOW: [&str; 2] = ["delivery-answered", "update-written"];

/// How many later starts it may take until all is sent: one for each report that a server was too busy for, and one more.
const STARTS_MAX: usize = 6;

/// One program of a round.
#[derive(Debug)]
struct Program {
    step: Option<&'static str>,
    way: &'static str,
    topology: &'static str,
    wait_ready: bool,
}

impl Program {
    fn of(random: &mut fastrand::Rng) -> Program {
        Program {
            step: (random.u8(..5) != 0).then(|| STEPS[random.usize(..STEPS.len())]),
            way: ["null-write", "null-call", "abort"][random.usize(..3)],
            topology: ["worker-first", "at-crash"][usize::from(random.u8(..4) == 0)],
            wait_ready: random.bool(),
        }
    }

    fn start(&self, scene: &Scene, url: &str) -> Child {
        let mut command = scene.zoo(&["--collector", url, "--retry-s", "0", "--keep"]);
        command.args(["1000:1000000000:1000000", "--topology", self.topology]);
        if let Some(step) = self.step {
            command.args(["--fail-spot", &format!("{step}:kill@0")]);
        }
        if self.wait_ready {
            command.arg("--wait-ready");
        }
        start(command.arg(self.way))
    }
}

/// Plays a round and says what was wrong with it.
fn play(seed: u64, number: u64) {
    let mut random =
        fastrand::Rng::with_seed(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let busy = (0..random.usize(..3)).map(|_| Answer::status([500, 503, 429][random.usize(..3)]));
    let collector = Collector::start(Script::first(busy.collect::<Vec<_>>())).expect("a collector");
    let programs: Vec<Program> =
        (0..random.usize(1..=4)).map(|_| Program::of(&mut random)).collect();
    let scene = Scene::new();
    let url = collector.url();
    let children: Vec<Child> = programs.iter().map(|program| program.start(&scene, &url)).collect();
    for child in children {
        let ended = scene.finish(child);
        OWN.lock().expect("no round panics here").remove(&ended.pid);
        assert!(ended.signal().is_some(), "{programs:?}: {ended:?}");
    }
    scene.settle();
    // Whatever stage they are in, all are there, and whole.
    let reports = scene.reports();
    assert_eq!(reports.len(), programs.len(), "{programs:?}: {reports:#?}");
    for report in &reports {
        assert!(report.exception().0 != 0, "{programs:?}: {:#}", report.json);
    }
    let waits = || scene.reports_by_name().iter().any(|name| !name.starts_with("completed/"));
    // The last start finds nothing to send, and clears away what killed guards had begun.
    let mut was_clear = false;
    for _ in 0..=STARTS_MAX {
        if !was_clear {
            was_clear = !waits();
            let mut command = scene.zoo(&["--collector", &url, "--retry-s", "0"]);
            command.args(["--wait-ready", "none"]);
            let ended = scene.finish(start(&mut command));
            OWN.lock().expect("no round panics here").remove(&ended.pid);
            scene.settle();
        }
    }
    // Thousands of dead would make each look at the living slow.
    reap_adopted();
    let mut acknowledged: BTreeMap<String, usize> = BTreeMap::new();
    for sent in collector.submissions() {
        assert_eq!(sent.violations, [], "{programs:?}");
        if sent.status == Some(200) {
            let id = sent.report_id().expect("an id").to_owned();
            *acknowledged.entry(id).or_default() += 1;
        }
    }
    let reports = scene.reports();
    assert_eq!(reports.len(), programs.len(), "{programs:?}: {reports:#?}");
    for report in &reports {
        let told = format!("{programs:?}: {acknowledged:?}: {:#}", report.json);
        assert_eq!(report.json["delivery"]["state"], "uploaded", "{told}");
        assert_eq!(report.stage, "completed", "{told}");
        assert!(acknowledged.contains_key(report.json["id"].as_str().expect("an id")), "{told}");
    }
    assert_eq!(acknowledged.len(), reports.len(), "{programs:?}: {acknowledged:?}");
    // A program's guard can be killed in the window, and whoever it lets send beside itself.
    let killed_in_window = programs
        .iter()
        .filter(|program| program.step.is_some_and(|step| WINDOW.contains(&step)))
        .count();
    let repetitions: usize = acknowledged.values().map(|count| count - 1).sum();
    assert!(repetitions <= 2 * killed_in_window, "{programs:?}: {acknowledged:?}");
    let rubbish = fs::read_dir(scene.store().join("tmp")).expect("it is there").flatten();
    let rubbish: Vec<_> = rubbish.map(|entry| entry.file_name()).collect();
    assert!(rubbish.iter().all(|name| name == "next"), "{programs:?}: {rubbish:?}");
    assert!(was_clear);
}

// Goal: whichever step of writing or delivering a guard is killed at, beside others on the same store, each report is whole and arrives; none is lost, and none is sent again once its acknowledgement is noted.
#[test]
fn no_kill_loses_or_repeats_a_report() {
    play_rounds(ROUNDS_DEFAULT, play);
}
