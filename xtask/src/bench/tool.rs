//! `cargo xtask bench tool`: how long a person waits for the tool.
//!
//! `show` has the minidump of a program with 200 threads, whose executable is the tool's own with all its debug information; the page cache has nothing of either before each cold run.
//! `list` has a store of 10,000 reports, whose metadata are a real report's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::{Advice, fadvise};
use serde_json::Value;

use super::store::{self, REPORTS};
use super::{prepare, process};
use crate::shell;

/// Threads beside the main one.
const THREADS: &str = "200";

/// Measures and prints.
pub(crate) fn run(runs: usize) -> Result<(), String> {
    let build = |arguments: &[&str]| {
        let built = shell::build(arguments)?;
        let tool = built.into_iter().filter(|artifact| artifact.target == "rearguard");
        let mut tool = tool.filter_map(|artifact| artifact.executable);
        tool.next().ok_or_else(|| "the tool was not built".to_owned())
    };
    let tool = build(&["build", "--release", "-p", "rearguard-cli", "--bin", "rearguard"])?;
    let crashing = build(&["build", "-p", "rearguard-cli", "--bin", "rearguard"])?;
    prepare()?;
    let directory = tempfile::Builder::new().prefix("rearguard-bench-").tempdir();
    let directory = directory.map_err(|error| error.to_string())?;
    let place = directory.path();
    let store = place.join("store");
    let mut command = Command::new(&crashing);
    // Nobody listens there.
    command.arg("demo-worker").arg(&store).arg("http://127.0.0.1:9/").arg(THREADS);
    let mut child = process::spawn(&mut command, place)?;
    process::end_of(&mut child)?;
    process::end_of_others()?;
    let list = ask(&tool, place, &["list", "--json", "--store"], &store)?;
    let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
    let report = list["reports"].get(0).ok_or("there is no report")?;
    let id = report["id"].as_str().ok_or("a report without an id")?;
    let entry = PathBuf::from(report["directory"].as_str().ok_or("a report without a place")?);
    let dump = entry.join(format!("{id}.dmp"));
    let bytes = fs::metadata(&crashing).map_err(|error| error.to_string())?.len();
    println!(
        "the executable has {} MB, the minidump {} KiB",
        bytes / 1_000_000,
        size(&dump) / 1024
    );
    let show = ["show", "latest", "--store"];
    for (what, files) in [("cold", &[crashing, dump, tool.clone()][..]), ("warm", &[])] {
        let mut values = Vec::new();
        for _ in 0..runs {
            files.iter().try_for_each(|file| forget(file))?;
            values.push(timed(&tool, place, &show, &store)?);
        }
        tell(&format!("show of {THREADS} threads, {what}"), values);
    }
    let metadata = fs::read(entry.join(format!("{id}.json"))).map_err(|error| error.to_string())?;
    let many = place.join("many");
    fs::create_dir_all(many.join("pending")).map_err(|error| error.to_string())?;
    store::fill(&many, REPORTS, &metadata, None)?;
    for (what, arguments) in [
        ("list", &["list", "--store"][..]),
        ("list --all", &["list", "--all", "--store"]),
        ("list --all --json", &["list", "--all", "--json", "--store"]),
    ] {
        let values: Result<Vec<f64>, String> =
            (0..runs).map(|_| timed(&tool, place, arguments, &many)).collect();
        tell(&format!("{what} of {REPORTS} reports"), values?);
    }
    Ok(())
}

/// Median and worst, in milliseconds.
fn tell(what: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (median, worst) = (values.get(values.len() / 2), values.last());
    if let (Some(median), Some(worst)) = (median, worst) {
        println!("{what}: {median:.0} ms (worst of {}: {worst:.0})", values.len());
    }
}

fn timed(tool: &Path, place: &Path, arguments: &[&str], store: &Path) -> Result<f64, String> {
    let begun = Instant::now();
    ask(tool, place, arguments, store)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn ask(tool: &Path, place: &Path, arguments: &[&str], store: &Path) -> Result<String, String> {
    let mut command = Command::new(tool);
    command.args(arguments).arg(store).env("HOME", place).stdin(Stdio::null());
    shell::output(&mut command)
}

/// Makes the kernel forget what it has of a file.
fn forget(path: &Path) -> Result<(), String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| problem(&error))?;
    // What isn't on the disk yet can't be forgotten.
    file.sync_all().map_err(|error| problem(&error))?;
    fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| problem(&error))
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
