//! What a guard costs while nothing happens: wake-ups and memory.
//!
//! Both workers stand at the same time, since neither does anything that the other could feel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use super::Programs;
use super::process::{self, complaint, first, number};
use super::table::Contestant;

/// How long wake-ups are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// What a process does after its start doesn't count.
const SETTLING: Duration = Duration::from_millis(1500);

/// How long a worker stands: the window, what comes before it, and something for a slow machine.
const STANDS: Duration = Duration::from_secs(14);

/// How long a guard may take to be there.
const GUARDED_MAX: Duration = Duration::from_secs(5);

/// What was found of one contestant.
pub(super) struct Found {
    pub(super) guard_wakeups: f64,
    pub(super) guard_pss_kb: f64,
    pub(super) guard_private_kb: f64,
    pub(super) guard_rss_kb: f64,
    pub(super) worker_wakeups: f64,
}

/// One contestant while it stands.
struct Standing {
    contestant: Contestant,
    place: PathBuf,
    worker: Child,
    /// Its guard, and how often guard and worker had been woken at the beginning of the window.
    before: Result<(u64, u64, u64), String>,
}

/// Lets both stand, and looks at them before and after the window.
pub(super) fn measure(
    programs: &Programs,
    directory: &Path,
) -> Vec<(Contestant, Result<Found, String>)> {
    let mut results = Vec::new();
    let mut standing = Vec::new();
    for contestant in [Contestant::Rearguard, Contestant::Peer] {
        let place = directory.join(format!("idle-{}", contestant.name()));
        let mut arguments = vec!["--after".to_owned(), STANDS.as_millis().to_string()];
        if contestant == Contestant::Rearguard {
            arguments.push("--wait-guarded".to_owned());
        }
        arguments.push("none".to_owned());
        match process::start(programs.of(contestant), &arguments, &place) {
            Ok(worker) => {
                let before = Err(String::new());
                standing.push(Standing { contestant, place, worker, before });
            }
            Err(problem) => results.push((contestant, Err(problem))),
        }
    }
    let guards: Vec<_> = standing.iter().map(guard_of).collect();
    thread::sleep(SETTLING);
    for (one, guard) in standing.iter_mut().zip(guards) {
        one.before = guard.and_then(|guard| count_before(one, guard));
    }
    thread::sleep(WINDOW);
    let found: Vec<_> = standing.iter().map(look).collect();
    for (mut one, found) in standing.into_iter().zip(found) {
        let end = process::end_of(&mut one.worker).map(|_| ());
        let found = found.map_err(|problem| format!("{problem}{}", complaint(&one.place)));
        results.push((one.contestant, end.and(found)));
    }
    if let Err(problem) = process::end_of_others() {
        results.push((Contestant::Rearguard, Err(problem)));
    }
    results
}

/// How many roles stand behind one guard.
pub(super) const ROLES: usize = 100;

/// Lets a main process stand with its roles, and looks at the one guard that they have.
pub(super) fn measure_family(programs: &Programs, directory: &Path) -> Result<Found, String> {
    let place = directory.join("idle-family");
    let stands = STANDS.as_millis();
    let role = format!("{ROLES}:--wait-guarded --after {stands} none");
    let arguments =
        ["--wait-guarded", "--start-many", &role, "--after", &stands.to_string(), "none"];
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let worker = process::start(&programs.rearguard, &arguments, &place)?;
    let contestant = Contestant::Rearguard;
    let mut one = Standing { contestant, place, worker, before: Err(String::new()) };
    let guard = guard_of(&one).and_then(|guard| await_roles(&one, guard));
    thread::sleep(SETTLING);
    one.before = guard.and_then(|guard| count_before(&one, guard));
    thread::sleep(WINDOW);
    let found = look(&one);
    let end = process::end_of(&mut one.worker).map(|_| ());
    process::end_of_others()?;
    end.and(found.map_err(|problem| format!("{problem}{}", complaint(&one.place))))
}

/// Waits until every role has the guard of the main process.
fn await_roles(one: &Standing, guard: u64) -> Result<u64, String> {
    let deadline = Instant::now() + GUARDED_MAX;
    loop {
        let trace = process::trace(&one.place);
        let is_ours = |line: &&serde_json::Value| number(line, "guard_pid") == Some(guard);
        let guarded = trace.iter().filter(|line| line["event"] == "guarded").filter(is_ours);
        let count = guarded.count();
        if count > ROLES {
            return Ok(guard);
        }
        if Instant::now() > deadline {
            return Err(format!("{count} of {ROLES} roles have the guard"));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The pid of the guard or server, once the worker says that it is guarded.
fn guard_of(one: &Standing) -> Result<u64, String> {
    let deadline = Instant::now() + GUARDED_MAX;
    loop {
        let trace = process::trace(&one.place);
        if let Some(guarded) = first(&trace, "guarded") {
            let server = first(&trace, "server").and_then(|line| number(line, "pid"));
            return number(guarded, "guard_pid")
                .or(server)
                .ok_or_else(|| "its pid isn't told".into());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "not guarded after {} s{}",
                GUARDED_MAX.as_secs(),
                complaint(&one.place)
            ));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The guard, and how often guard and worker have been woken until now.
fn count_before(one: &Standing, guard: u64) -> Result<(u64, u64, u64), String> {
    Ok((guard, wakeups(guard)?, wakeups(u64::from(one.worker.id()))?))
}

fn look(one: &Standing) -> Result<Found, String> {
    let (guard, guard_before, worker_before) = one.before.clone()?;
    let count = |from: u64, to: u64| to.saturating_sub(from) as f64;
    let guard_wakeups = count(guard_before, wakeups(guard)?);
    let worker_wakeups = count(worker_before, wakeups(u64::from(one.worker.id()))?);
    // Memory last, since reading it keeps the process from running for a moment.
    let path = format!("/proc/{guard}/smaps_rollup");
    let rollup = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let field = |name| field(&rollup, name).ok_or_else(|| format!("{path} has no {name}"));
    Ok(Found {
        guard_wakeups,
        guard_pss_kb: field("Pss:")? as f64,
        guard_private_kb: (field("Private_Clean:")? + field("Private_Dirty:")?) as f64,
        guard_rss_kb: field("Rss:")? as f64,
        worker_wakeups,
    })
}

/// How often the threads of a process have been put on a processor: each wake-up ends in a switch away again.
fn wakeups(pid: u64) -> Result<u64, String> {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    let mut sum = 0;
    for thread in threads.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        sum += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        sum += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(sum)
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
