//! `rearguard demo`: the story of one crash, told by real processes.
//!
//! A collector on loopback, a worker that is this executable once more, a bug, and everything that comes of it.
//! Each step is checked before it is told, and each wait has a deadline: exit status 0 means that all of it happened.

mod bug;
mod stage;
pub(crate) mod worker;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rearguard_cli::collector::{Collector, Script, Submission};

use crate::analysis::{Analysis, Crash, Depth, SymbolPlaces, analyse};
use crate::reports::Where;
use crate::reports::choose::choose_report;
use crate::reports::metadata::MOMENTS;
use crate::show::crash;
use crate::sys::Watched;
use stage::{Said, Stage};

/// The first argument of the worker's role; not for users, so the help doesn't know it.
pub(crate) const WORKER_ARGUMENT: &str = "demo-worker";

/// The delivery's own limit is 15 s; what comes later won't come in this demo.
const DELIVERY_WAIT: Duration = Duration::from_secs(16);

/// SIGSEGV, which has this number on every Unix.
const SIGSEGV: i32 = 11;

/// Runs the demo.
pub(crate) fn run() -> Result<(), String> {
    let begin = Instant::now();
    let directory = tempfile::Builder::new()
        .prefix("rearguard-demo-")
        .tempdir()
        .map_err(|error| format!("a temporary directory: {error}"))?;
    let collector = Collector::start(Script::default())
        .map_err(|error| format!("the collector can't start: {error}"))?;
    println!("rearguard demo: one executable, two roles\n");
    println!("  collector   listens on {}", collector.url());
    play(directory.path(), &collector)?;
    println!("\nAll of that took {} ms.", begin.elapsed().as_millis());
    println!("The store of this demo goes with it. Next: README.md has the few lines that give");
    println!("this to an application of your own, whose reports `rearguard list` and");
    println!("`rearguard show latest` tell (TOOL.md).");
    directory.close().map_err(|error| format!("the temporary directory: {error}"))
}

fn play(directory: &Path, collector: &Collector) -> Result<(), String> {
    let store = directory.join("store");
    let mut stage = Stage::open(directory, &store, &collector.url())?;

    let first = stage.listen("the worker")?;
    check(first.incarnation == 0, "the first worker is no incarnation 0")?;
    check(first.guard_pid != 0, "the worker isn't guarded")?;
    let first_guard = Watched::new(first.guard_pid)?;
    println!("  worker      pid {}, incarnation 0, edits {}", first.pid, worker::STATE);
    println!("  guard       pid {}, the same executable, stands behind it", first.guard_pid);

    stage.give_word()?;
    let status = stage.first_end()?;
    let signal = status.signal();
    check(signal == Some(SIGSEGV), &format!("the worker ended with '{status}', not by SIGSEGV"))?;
    println!("  worker      pid {} writes through a null pointer and dies: {status}", first.pid);

    let second = stage.listen("the next worker")?;
    let report = check_second(&first, &second)?;
    let second_guard = Watched::new(second.guard_pid)?;
    println!(
        "  worker      pid {}, incarnation 1, is back, guarded by pid {}",
        second.pid, second.guard_pid
    );
    println!("              it knows: the last life ended with crash:{SIGSEGV}, report {report}");
    println!("              it has recovered: {}", second.recovered.unwrap_or_default());

    let submission = received(collector, &report)?;
    println!("  collector   has the report");

    stage.give_word()?;
    stage.last_end()?;
    for (guard, name) in [(&first_guard, "first"), (&second_guard, "second")] {
        let left = guard.ends_within(DELIVERY_WAIT)?;
        check(left, &format!("the {name} guard stayed for more than {DELIVERY_WAIT:?}"))?;
    }
    println!("  worker      ends, and both guards have left");
    for line in stage.complaints() {
        println!("  stderr      {line}");
    }

    tell_timeline(&store, &report)?;
    let analysis = delivered(directory, &submission)?;
    tell_dump(&analysis, first.pid)?;
    tell_report(&submission);
    tell_line(&analysis)
}

/// The next worker's own account has to be right; returns the report's id.
fn check_second(first: &Said, second: &Said) -> Result<String, String> {
    check(second.incarnation == 1, "the next worker is no incarnation 1")?;
    check(second.pid != first.pid, "the next worker is the same process")?;
    check(second.guard_pid != 0, "the next worker isn't guarded")?;
    let class = second.last_exit_class.as_deref().unwrap_or("nothing");
    check(class == "crash:11", &format!("the next worker takes the last end for {class}"))?;
    let recovered = second.recovered.as_deref().unwrap_or_default();
    check(recovered == worker::STATE, &format!("the next worker has recovered '{recovered}'"))?;
    second.last_report.clone().ok_or_else(|| "the next worker knows of no report".to_owned())
}

/// The report as the collector has it, by all the rules.
fn received(collector: &Collector, report: &str) -> Result<Submission, String> {
    let came = collector.wait_for(1, DELIVERY_WAIT).map_err(|error| error.to_string())?;
    let submission = came.into_iter().next().ok_or("the collector has nothing")?;
    let wrong: Vec<String> = submission.violations.iter().map(ToString::to_string).collect();
    check(wrong.is_empty(), &format!("the upload breaks rules: {}", wrong.join("; ")))?;
    let id = submission.report_id().unwrap_or("none");
    check(id == report, &format!("the collector has report {id}, the worker knows {report}"))?;
    Ok(submission)
}

/// The timeline of the report in the store, which has to be whole and to begin with the crash.
fn tell_timeline(store: &Path, report: &str) -> Result<(), String> {
    let place = Where { store: Some(store.to_owned()), app: None };
    let entry = choose_report(report, &place).map_err(|error| error.to_string())?;
    let moments = entry.metadata().map_err(|error| error.to_string())?.timeline();
    for (key, words) in MOMENTS {
        let is_there = moments.iter().any(|(_, told)| *told == words);
        check(is_there, &format!("{report}: the timeline lacks {key}"))?;
    }
    let (_, begin) = MOMENTS[0];
    let first = moments.first().map_or("nothing", |(_, words)| *words);
    check(first == begin, &format!("{report}: earlier than the crash is '{first}'"))?;
    println!("\nThe timeline, from the report's metadata, in milliseconds:");
    for (after_ms, words) in moments {
        println!("  {after_ms:>9.3}   {words}");
    }
    Ok(())
}

/// The delivered minidump, understood as `rearguard show` does it.
fn delivered(directory: &Path, submission: &Submission) -> Result<Analysis, String> {
    let part = submission.minidump().ok_or("the report has no minidump")?;
    let path = directory.join("delivered.dmp");
    fs::write(&path, &part.bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    analyse(&path, &SymbolPlaces::default(), Depth::Whole).map_err(|error| error.to_string())
}

fn tell_dump(analysis: &Analysis, worker: u32) -> Result<(), String> {
    let Crash { reason, address, thread, .. } =
        analysis.crash.as_ref().ok_or("the minidump has no exception")?;
    let thread_text = format!("the crashed thread in the dump is {thread}, not {worker}");
    check(*thread == worker, &thread_text)?;
    let address_text =
        format!("the crash address in the dump is {address:#x}, not {:#x}", bug::ADDRESS);
    check(*address == bug::ADDRESS, &address_text)?;
    let crashed = analysis.crashed().ok_or("the minidump lacks the crashed thread")?;
    let frame = crashed.frames.first().ok_or("the minidump has no registers")?;
    let name = crashed.name.as_deref().unwrap_or_default();
    let (threads, modules) = (analysis.threads.len(), analysis.modules.len());
    println!("\nThe minidump, as the `minidump` crate reads it:");
    println!("  exception   {reason} at address {address:#x}, a field of a document at null");
    println!("  thread      {thread} \"{name}\", at {}", frame.place());
    println!("  and         {threads} threads, {modules} modules");
    Ok(())
}

/// The crash by function and line.
fn tell_line(analysis: &Analysis) -> Result<(), String> {
    let found =
        analysis.own_frame().and_then(|frame| frame.function.as_deref()).unwrap_or_default();
    check(
        found.ends_with(bug::FUNCTION),
        &format!("the crash is shown in '{found}', not in {}", bug::FUNCTION),
    )?;
    println!("\nThe crash, as `rearguard show` tells it:");
    for line in crash(analysis).lines() {
        println!("  {line}");
    }
    Ok(())
}

fn tell_report(submission: &Submission) {
    println!("\nThe report, as the collector received it ({} bytes):", submission.body_bytes);
    for (name, value) in submission.fields() {
        println!("  {name:<11} {value}");
    }
    for file in submission.files() {
        let name = file.file_name.as_deref().unwrap_or_default();
        println!("  {:<11} {name}, {} bytes", file.name, file.bytes.len());
    }
    println!("  answered    {}", submission.answer.trim_end());
}

fn check(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}
