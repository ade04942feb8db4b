//! Seeded rounds: many small histories, each of which can be played again.
//!
//! `REARGUARD_ROUNDS` says how many rounds, `REARGUARD_SEED` which, and `REARGUARD_ROUND` picks a single one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

/// Two rounds at a time: the machine has other things to do.
const LANES: usize = 2;

/// The workers that are ours to wait for. Whoever else is our child was adopted.
pub(crate) static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
/// How adopted processes ended.
pub(crate) static ADOPTED: Mutex<BTreeMap<u32, i32>> = Mutex::new(BTreeMap::new());

/// Starts a program that is ours to wait for.
pub(crate) fn start(command: &mut Command) -> Child {
    let mut own = OWN.lock().expect("no round panics here");
    let child = command.spawn().expect("the zoo starts");
    own.insert(child.id());
    child
}

/// Reaps adopted children that have ended, and keeps their statuses.
pub(crate) fn reap_adopted() {
    let own = OWN.lock().expect("no round panics here");
    let mut adopted = ADOPTED.lock().expect("no round panics here");
    for task in fs::read_dir("/proc/self/task").expect("our threads").flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
            if own.contains(&pid) || super::common::state(pid) != Some('Z') {
                continue;
            }
            if let Some(status) = super::common::status_of(pid) {
                adopted.insert(pid, status);
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Plays the rounds of a seed, two at a time, and tells all that failed.
pub(crate) fn play_rounds(rounds_default: u64, play: impl Fn(u64, u64) + Sync) {
    let seed = number("REARGUARD_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
        now.as_nanos() as u64
    });
    let (first, rounds) = match number("REARGUARD_ROUND") {
        Some(one) => (one, one + 1),
        None => (0, number("REARGUARD_ROUNDS").unwrap_or(rounds_default)),
    };
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rounds {
                        return;
                    }
                    let played = std::panic::AssertUnwindSafe(|| play(seed, number));
                    if std::panic::catch_unwind(played).is_err() {
                        eprintln!("failed: REARGUARD_SEED={seed} REARGUARD_ROUND={number}");
                        failures.lock().expect("no panic here").push(number);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic here");
    println!(
        "{} rounds of seed {seed} in {:?}, failed: {failures:?}",
        rounds - first,
        begun.elapsed()
    );
    assert!(failures.is_empty(), "REARGUARD_SEED={seed}, REARGUARD_ROUND one of {failures:?}");
}
