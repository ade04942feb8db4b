//! `cargo xtask bench writers`: three writers of minidumps, on the same crash in the same minute.
//!
//! One sample is one run of the program `writers` in `bench/`, which tells there what it does.
//! The three take turns with nobody, who only makes a file, and with one who makes a dump's system calls alone, so that whatever else the machine does meets all of them.
//! There is no verdict on times: they depend on the machine, and only the ratios carry over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::{self, complaint, number};
use super::writers_table::{Contestant, Figure, Table};
use crate::shell;

/// Where Debian's package chromium-common puts Crashpad's handler: a build by people who ship it.
const CRASHPAD: &str = "/usr/lib/chromium/chrome_crashpad_handler";

/// What the crashing program is like.
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// Idle threads beside the one that crashes.
    threads: usize,
    heap_mib: usize,
}

pub(super) const SCENES: [Scene; 5] = [
    Scene { name: "1 thread", threads: 0, heap_mib: 0 },
    Scene { name: "50 threads", threads: 49, heap_mib: 0 },
    Scene { name: "200 threads", threads: 199, heap_mib: 0 },
    Scene { name: "1,000 threads", threads: 999, heap_mib: 0 },
    Scene { name: "1 thread, 1 GiB of heap", threads: 0, heap_mib: 1024 },
];

/// Measures, prints the table, writes both forms of it; an error when something didn't work, whatever the times are.
pub(crate) fn run(runs: usize, json: Option<&Path>, table: Option<&Path>) -> Result<(), String> {
    let program = super::build_peers(&["writers"])?.join("writers");
    super::prepare()?;
    let directory = tempfile::Builder::new()
        .prefix("rearguard-bench-")
        .tempdir()
        .map_err(|error| error.to_string())?;
    let contestants = contestants();
    let mut figures = Table::new(runs, peer_version());
    let mut problems = Vec::new();
    // The first round loads files and warms caches, and isn't counted.
    for round in 0..=runs {
        println!("round {round} of {runs}{}", if round == 0 { " (not counted)" } else { "" });
        for (scene, watched, turn) in samples(contestants.len()) {
            let contestant = contestants[(turn + round) % contestants.len()];
            let place = directory.path().join(format!("{}-{turn}", contestant.argument()));
            match sample(&program, contestant, scene, watched, &place) {
                Ok(found) if round > 0 => {
                    enter(&mut figures, contestant, scene.name, watched, &found);
                }
                Ok(_) => {}
                Err(problem) => {
                    let name = contestant.argument();
                    problems.push(format!("round {round}, {}, {name}: {problem}", scene.name));
                }
            }
            // Left to the end they would be gigabytes, and an old dump could pass for a new one.
            let _ = fs::remove_dir_all(&place);
        }
    }
    if !contestants.contains(&Contestant::Crashpad) {
        figures.note(format!("Crashpad was not measured: {CRASHPAD} isn't there; Debian's package chromium-common has it."));
    }
    println!("\n{}", figures.markdown());
    write(table, &figures.markdown())?;
    write(json, &figures.json(&problems))?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(format!("{} samples went wrong:\n{}", problems.len(), problems.join("\n")))
    }
}

/// All samples of one round: scene, whether a thread watches, and whose turn it is.
fn samples(contestants: usize) -> impl Iterator<Item = (&'static Scene, bool, usize)> {
    SCENES.iter().flat_map(move |scene| {
        [false, true]
            .into_iter()
            .flat_map(move |watched| (0..contestants).map(move |turn| (scene, watched, turn)))
    })
}

/// Those that are there.
fn contestants() -> Vec<Contestant> {
    let is_there = |contestant: &Contestant| match contestant {
        Contestant::Rearguard
        | Contestant::MinidumpWriter
        | Contestant::Floor
        | Contestant::Calls => true,
        Contestant::Crashpad => Path::new(CRASHPAD).is_file(),
    };
    Contestant::ALL.into_iter().filter(is_there).collect()
}

/// The version of minidump-writer that the program is built with: the one that its manifest pins.
fn peer_version() -> String {
    let manifest = shell::root().join("bench/writers/Cargo.toml");
    let text = fs::read_to_string(manifest).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("minidump-writer = \"="));
    version.map_or_else(String::new, |version| version.trim_end_matches('"').to_owned())
}

/// One crash of one program before one writer.
fn sample(
    program: &Path,
    contestant: Contestant,
    scene: &Scene,
    watched: bool,
    place: &Path,
) -> Result<Value, String> {
    let mut command = Command::new(program);
    command.args(["stage", "--writer", contestant.argument(), "--handler", CRASHPAD]);
    command.args(["--threads".to_owned(), scene.threads.to_string()]);
    command.args(["--heap-mib".to_owned(), scene.heap_mib.to_string()]);
    command.arg("--directory").arg(place.join("dump"));
    if watched {
        command.arg("--watch");
    }
    let mut child = process::spawn(&mut command, place)?;
    let end = process::end_of(&mut child);
    // Also after a failure: nobody may live on into the next measurement.
    process::end_of_others()?;
    let (_, status) = end?;
    if !status.success() {
        return Err(format!("it ended with {status}{}", complaint(place)));
    }
    let path: PathBuf = place.join("stdout");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("its figures: {error}"))
}

/// Sorts one sample into the table: only the time that a thread stood still is from runs with a thread that watches.
///
/// The size of a file that is no dump means nothing, and who only makes a file stops no thread.
fn enter(table: &mut Table, contestant: Contestant, scene: &str, watched: bool, found: &Value) {
    let figures: &[(Figure, &str, f64)] = if contestant == Contestant::Floor {
        if watched { &[] } else { &[(Figure::Dump, "dump_ns", 1e6)] }
    } else if watched {
        &[(Figure::Frozen, "gap_ns", 1e6)]
    } else if contestant == Contestant::Calls {
        &[(Figure::Dump, "dump_ns", 1e6)]
    } else {
        &[
            (Figure::Dump, "dump_ns", 1e6),
            (Figure::Bytes, "bytes", 1024.0),
            (Figure::Peak, "peak_kib", 1.0),
        ]
    };
    for (figure, key, unit) in figures {
        if let Some(value) = number(found, key) {
            // Nanoseconds within a minute are exact in an f64.
            table.add(*figure, scene, contestant, value as f64 / unit);
        }
    }
}

fn write(path: Option<&Path>, text: &str) -> Result<(), String> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}
