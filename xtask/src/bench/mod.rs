//! `cargo xtask bench`: rearguard, minidumper-child and no handler at all, on the same fault in the same minute.
//!
//! The three take turns, so that whatever else the machine does meets all of them.
//! There is no verdict on times: they depend on the machine, and only the ratios carry over.

mod begin;
mod idle;
mod life;
mod process;
mod store;
mod table;
pub(crate) mod tool;
pub(crate) mod writers;
mod writers_table;

use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, set_child_subreaper, setrlimit};

use crate::shell::{self, cargo};
use life::{Case, Sample};
use table::{Contestant, Table, Unit};

/// Enough for a median that stays where it is from one run of the bench to the next.
pub(crate) const RUNS_DEFAULT: usize = 15;

/// How many idle threads the worker has beside its main one.
const THREADS: [usize; 3] = [0, 50, 200];

/// The programs that take part.
struct Programs {
    rearguard: PathBuf,
    peer: PathBuf,
    floor: PathBuf,
}

impl Programs {
    fn of(&self, contestant: Contestant) -> &Path {
        match contestant {
            Contestant::Rearguard => &self.rearguard,
            Contestant::Peer => &self.peer,
            Contestant::Floor => &self.floor,
        }
    }
}

/// Measures, prints the table, writes the JSON; an error when something didn't work, whatever the times are.
pub(crate) fn run(runs: usize, json: Option<&Path>) -> Result<(), String> {
    let programs = build()?;
    prepare()?;
    let directory = tempfile::Builder::new()
        .prefix("rearguard-bench-")
        .tempdir()
        .map_err(|error| error.to_string())?;
    let mut table = Table::new(runs);
    let mut problems = Vec::new();
    // The first round loads files and warms caches, and isn't counted.
    for round in 0..=runs {
        println!("round {round} of {runs}{}", if round == 0 { " (not counted)" } else { "" });
        for threads in THREADS {
            for turn in 0..Contestant::ALL.len() {
                let contestant = Contestant::ALL[(turn + round) % Contestant::ALL.len()];
                let case = Case { contestant, threads, program: programs.of(contestant) };
                let place = directory.path().join(format!("{round}-{threads}-{turn}"));
                match life::live(&case, &place) {
                    Ok(sample) if round > 0 => enter(&mut table, &case, &sample),
                    Ok(_) => {}
                    Err(problem) => problems.push(format!(
                        "round {round}, {threads} threads, {}: {problem}",
                        contestant.name()
                    )),
                }
                // Left to the end they would be gigabytes, and a full disk would be measured.
                let _ = std::fs::remove_dir_all(&place);
            }
        }
    }
    for round in 0..=runs {
        for turn in 0..begin::TOPOLOGIES.len() {
            let topology = begin::TOPOLOGIES[(turn + round) % begin::TOPOLOGIES.len()];
            let place = directory.path().join(format!("begin-{round}-{turn}"));
            match begin::start_to_main_ms(&programs.rearguard, topology, &place) {
                Ok(ms) if round > 0 => {
                    let row = format!("started -> main, {topology}");
                    table.add(&row, Unit::Milliseconds, Contestant::Rearguard, ms);
                }
                Ok(_) => {}
                Err(problem) => problems.push(format!("round {round}, {topology}: {problem}")),
            }
            let _ = std::fs::remove_dir_all(&place);
        }
    }
    measure_store(&programs, directory.path(), runs, &mut table, &mut problems);
    println!("idle, {} s", idle::WINDOW.as_secs());
    for (contestant, found) in idle::measure(&programs, directory.path()) {
        match found {
            Ok(found) => enter_idle(&mut table, contestant, &found),
            Err(problem) => problems.push(format!("idle, {}: {problem}", contestant.name())),
        }
    }
    println!("idle with {} roles, {} s", idle::ROLES, idle::WINDOW.as_secs());
    match idle::measure_family(&programs, directory.path()) {
        Ok(found) => {
            let guard = format!("idle guard of {} roles", idle::ROLES);
            let contestant = Contestant::Rearguard;
            let window = format!("{guard}: wake-ups in {} s", idle::WINDOW.as_secs());
            table.add(&window, Unit::Count, contestant, found.guard_wakeups);
            let memory = format!("{guard}: PSS");
            table.add(&memory, Unit::Kilobytes, contestant, found.guard_pss_kb);
        }
        Err(problem) => problems.push(format!("idle with roles: {problem}")),
    }
    println!("\n{}", table.text());
    if let Some(path) = json {
        std::fs::write(path, table.json(&problems))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        println!("written to {}", path.display());
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(format!("{} lives went wrong:\n{}", problems.len(), problems.join("\n")))
    }
}

/// A crash for an empty store and for one that is full, in turns.
fn measure_store(
    programs: &Programs,
    directory: &Path,
    runs: usize,
    table: &mut Table,
    problems: &mut Vec<String>,
) {
    println!("a store of {} reports", store::REPORTS);
    let places = [directory.join("store-empty"), directory.join("store-full")];
    // Up to one below its limit.
    let full_store = places[1].join("store");
    if let Err(problem) = store::fill(&full_store, store::REPORTS - 1, b"{}", Some(b"MDMP")) {
        return problems.push(problem);
    }
    let full = format!("crash -> guard has stored and left, {} reports there", store::REPORTS);
    let rows = ["crash -> guard has stored and left, store empty", &full];
    for round in 0..=runs {
        for turn in 0..places.len() {
            let at = (turn + round) % places.len();
            match store::crash_to_guards_end_ms(&programs.rearguard, &places[at]) {
                Ok(ms) if round > 0 => {
                    table.add(rows[at], Unit::Milliseconds, Contestant::Rearguard, ms);
                }
                Ok(_) => {}
                Err(problem) => problems.push(format!("{}: {problem}", rows[at])),
            }
        }
    }
}

fn build() -> Result<Programs, String> {
    let target = shell::target_directory()?;
    shell::run(&mut cargo(&["build", "--release", "--package", "crashzoo", "--bins"]))?;
    let peers = build_peers(&["floor", "peer-minidumper-child"])?;
    Ok(Programs {
        rearguard: target.join("release/crashzoo"),
        peer: peers.join("peer-minidumper-child"),
        floor: peers.join("floor"),
    })
}

/// Builds members of the peers' workspace, and returns where their programs lie.
fn build_peers(packages: &[&str]) -> Result<PathBuf, String> {
    let target = shell::target_directory()?.join("bench");
    let manifest = ["build", "--release", "--locked", "--manifest-path", "bench/Cargo.toml"];
    let mut command = cargo(&manifest);
    command.arg("--target-dir").arg(&target);
    for package in packages {
        command.args(["--package", package]);
    }
    shell::run(&mut command)?;
    Ok(target.join("release"))
}

/// No core dumps, and all orphans to us: a guard's parent dies by design, and we want to see everyone's end.
fn prepare() -> Result<(), String> {
    let limit = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    setrlimit(Resource::Core, limit).map_err(|error| format!("core dumps off: {error}"))?;
    set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| format!("adopting orphans: {error}"))
}

/// Sorts the moments of one life into the table.
fn enter(table: &mut Table, case: &Case<'_>, sample: &Sample) {
    let crowd = match case.threads {
        0 => String::new(),
        threads => format!(", {threads} threads"),
    };
    let mut add = |what: &str, value: Option<f64>| {
        if let Some(value) = value {
            table.add(&format!("{what}{crowd}"), Unit::Milliseconds, case.contestant, value);
        }
    };
    if case.threads == 0 {
        add("start() called -> returned", sample.start_ms);
        add("main -> armed (start() has returned)", sample.armed_ms);
        add("main -> guarded", sample.guarded_ms);
    }
    add("fault -> dump finished", sample.dump_ms);
    add("crash seen by the handler -> dump finished", sample.dump_from_handler_ms);
    add("crash seen by the handler -> threads stopped", sample.until_stopped_ms);
    add("threads stopped for", sample.stopped_ms);
    add("fault -> worker gone", sample.gone_ms);
    add("fault -> next worker's main", sample.next_main_ms);
    if let Some(bytes) = sample.dump_bytes {
        table.add(&format!("minidump{crowd}"), Unit::Kilobytes, case.contestant, bytes / 1024.0);
    }
}

fn enter_idle(table: &mut Table, contestant: Contestant, found: &idle::Found) {
    let window = format!("in {} s", idle::WINDOW.as_secs());
    let guard = format!("idle guard: wake-ups {window}");
    table.add(&guard, Unit::Count, contestant, found.guard_wakeups);
    table.add("idle guard: PSS", Unit::Kilobytes, contestant, found.guard_pss_kb);
    table.add("idle guard: private memory", Unit::Kilobytes, contestant, found.guard_private_kb);
    table.add("idle guard: RSS", Unit::Kilobytes, contestant, found.guard_rss_kb);
    let worker = format!("idle worker: wake-ups {window}");
    table.add(&worker, Unit::Count, contestant, found.worker_wakeups);
}
