//! One life of a worker from its start to the end of everyone that came after it, and the moments in between.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::process::{self, complaint, first, number};
use super::table::Contestant;

/// How long a worker stands before it dies, so that the start of its guard isn't measured as a part of its end.
const STANDS_MS: u64 = 50;

/// The signal of the fault.
const SIGSEGV: i32 = 11;

/// What is measured.
pub(super) struct Case<'a> {
    pub(super) contestant: Contestant,
    pub(super) threads: usize,
    pub(super) program: &'a Path,
}

/// The moments of one life; `None` for what this contestant doesn't have or tell.
#[derive(Default)]
pub(super) struct Sample {
    pub(super) start_ms: Option<f64>,
    pub(super) armed_ms: Option<f64>,
    pub(super) guarded_ms: Option<f64>,
    pub(super) dump_ms: Option<f64>,
    pub(super) dump_from_handler_ms: Option<f64>,
    pub(super) until_stopped_ms: Option<f64>,
    pub(super) stopped_ms: Option<f64>,
    pub(super) gone_ms: Option<f64>,
    pub(super) next_main_ms: Option<f64>,
    pub(super) dump_bytes: Option<f64>,
}

/// Starts a worker, lets it die, and collects what the processes wrote down.
pub(super) fn live(case: &Case<'_>, place: &Path) -> Result<Sample, String> {
    let mut arguments: Vec<String> = vec![
        "--threads".to_owned(),
        case.threads.to_string(),
        "--after".to_owned(),
        STANDS_MS.to_string(),
    ];
    if case.contestant == Contestant::Rearguard {
        // The policy is named, so that a service manager around us doesn't change it.
        arguments.extend(
            ["--wait-guarded", "--restart", "on-crash", "--trace-start"].map(str::to_owned),
        );
    }
    arguments.push("null-write".to_owned());
    let mut child = process::start(case.program, &arguments, place)?;
    let pid = u64::from(child.id());
    let end = process::end_of(&mut child);
    // Also after a failure: nobody may live on into the next measurement.
    process::end_of_others()?;
    let (gone_ns, status) = end?;
    if status.signal() != Some(SIGSEGV) {
        return Err(format!("it ended with {status}{}", complaint(place)));
    }
    let trace = process::trace(place);
    sample(case.contestant, pid, gone_ns, &trace, place)
        .map_err(|problem| format!("{problem}{}", complaint(place)))
}

/// Milliseconds from one moment to the next.
fn between(from_ns: u64, to_ns: u64) -> f64 {
    let ns = i128::from(to_ns) - i128::from(from_ns);
    // Nanoseconds within a minute are exact in an f64.
    ns as f64 / 1e6
}

fn sample(
    contestant: Contestant,
    pid: u64,
    gone_ns: u64,
    trace: &[Value],
    place: &Path,
) -> Result<Sample, String> {
    let own: Vec<Value> =
        trace.iter().filter(|line| number(line, "pid") == Some(pid)).cloned().collect();
    let at = |event: &str| {
        let line = first(&own, event).ok_or_else(|| format!("the trace has no '{event}'"))?;
        number(line, "t_ns").ok_or_else(|| format!("'{event}' has no time"))
    };
    let dying_ns = at("dying")?;
    let mut sample = Sample { gone_ms: Some(between(dying_ns, gone_ns)), ..Sample::default() };
    if contestant == Contestant::Floor {
        return Ok(sample);
    }
    let main_ns = at("main")?;
    sample.armed_ms = Some(between(main_ns, at("armed")?));
    sample.guarded_ms = Some(between(main_ns, at("guarded")?));
    if contestant == Contestant::Peer {
        let dumped = first(trace, "dumped").ok_or("the peer wrote no dump")?;
        let dumped_ns = number(dumped, "t_ns").ok_or("'dumped' has no time")?;
        sample.dump_ms = Some(between(dying_ns, dumped_ns));
        sample.dump_bytes = number(dumped, "bytes").map(|bytes| bytes as f64);
        return Ok(sample);
    }
    sample.start_ms = Some(between(at("starting")?, at("armed")?));
    add_report(&mut sample, pid, dying_ns, place)?;
    let next = trace.iter().find(|line| {
        line.get("event").and_then(Value::as_str) == Some("main")
            && number(line, "pid") != Some(pid)
    });
    let next = next.ok_or("the worker wasn't restarted")?;
    sample.next_main_ms = number(next, "t_ns").map(|next_ns| between(dying_ns, next_ns));
    Ok(sample)
}

/// What rearguard says in the report of this worker.
fn add_report(sample: &mut Sample, pid: u64, dying_ns: u64, place: &Path) -> Result<(), String> {
    let mut files = Vec::new();
    json_files(&place.join("store"), &mut files);
    let reports = files.iter().filter_map(|file| fs::read(file).ok());
    let mut parsed = reports.filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
    let report = parsed
        .find(|report| number(report, "worker_pid") == Some(pid))
        .ok_or("the store has no report of this worker")?;
    if let Some(error) = report.get("minidump_error").and_then(Value::as_str) {
        return Err(format!("the report has no minidump: {error}"));
    }
    let timeline = report.get("timeline").ok_or("the report has no timeline")?;
    let at = |key: &str| number(timeline, key).ok_or_else(|| format!("the timeline lacks {key}"));
    let finished_ns = at("dump_finished")?;
    sample.dump_ms = Some(between(dying_ns, finished_ns));
    let (seen_ns, stopped_ns) = (at("crash_seen")?, at("threads_stopped")?);
    sample.dump_from_handler_ms = Some(between(seen_ns, finished_ns));
    sample.until_stopped_ms = Some(between(seen_ns, stopped_ns));
    sample.stopped_ms = Some(between(stopped_ns, at("threads_released")?));
    let bytes = report.get("minidump").and_then(|minidump| number(minidump, "bytes"));
    sample.dump_bytes = Some(bytes.ok_or("the report has no minidump")? as f64);
    Ok(())
}

fn json_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            json_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
}
