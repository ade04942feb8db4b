//! What it costs that a report enters a store which holds many.

use std::fs;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::process::{self, complaint, first, number};

/// How many reports the full store holds.
pub(super) const REPORTS: u32 = 10_000;

/// How long a guard may take, in seconds.
const GUARD_S_MAX: i64 = 30;

/// Fills a store with so many old reports, which have these metadata and this minidump, if any.
pub(super) fn fill(
    store: &Path,
    count: u32,
    metadata: &[u8],
    dump: Option<&[u8]>,
) -> Result<(), String> {
    for number in 0..count {
        let uuid = format!("{number:08}-0000-4000-8000-000000000000");
        let (hour, minute, second) = (number / 3600, number / 60 % 60, number % 60);
        let name = format!("20260101T{hour:02}{minute:02}{second:02}.000000Z-{uuid}");
        let directory = store.join("completed").join(name);
        let made = fs::create_dir_all(&directory).and_then(|()| {
            fs::write(directory.join(format!("{uuid}.json")), metadata)?;
            dump.map_or(Ok(()), |dump| fs::write(directory.join(format!("{uuid}.dmp")), dump))
        });
        made.map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    Ok(())
}

/// Milliseconds from the crash to the end of its guard, which then has stored the report, made it durable and made room for it.
pub(super) fn crash_to_guards_end_ms(program: &Path, place: &Path) -> Result<f64, String> {
    let keep = format!("{REPORTS}:1000000000000:3153600000");
    let arguments = ["--restart", "never", "--keep", &keep, "--wait-ready", "null-write"];
    let arguments = arguments.map(str::to_owned);
    let _ = fs::remove_file(place.join("trace"));
    let mut child = process::start(program, &arguments, place)?;
    let end = process::end_of(&mut child);
    let ended = end.and_then(|_| guards_end(place));
    process::end_of_others()?;
    let end_ns = ended?;
    let crash_ns = newest_crash(place)
        .ok_or_else(|| format!("there is no report with a crash{}", complaint(place)))?;
    Ok((end_ns as f64 - crash_ns as f64) / 1e6)
}

/// Waits for the end of the guard that the trace names. Nobody reaps it meanwhile, so its number stays its own.
fn guards_end(place: &Path) -> Result<u64, String> {
    let trace = process::trace(place);
    let guard = first(&trace, "guarded").and_then(|line| number(line, "guard_pid"));
    let guard = guard.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let guard = guard.ok_or("the trace names no guard")?;
    let pidfd = pidfd_open(guard, PidfdFlags::empty()).map_err(|error| error.to_string())?;
    let wait_max = Timespec { tv_sec: GUARD_S_MAX, tv_nsec: 0 };
    let mut entries = [PollFd::new(&pidfd, PollFlags::IN)];
    match poll(&mut entries, Some(&wait_max)) {
        Ok(0) => Err(format!("the guard was still there after {GUARD_S_MAX} s")),
        Ok(_) => Ok(process::now_ns()),
        Err(error) => Err(error.to_string()),
    }
}

/// When the last crash of a store was seen.
fn newest_crash(place: &Path) -> Option<u64> {
    let pending = fs::read_dir(place.join("store/pending")).ok()?.flatten();
    let newest = pending.map(|entry| entry.path()).max()?;
    let uuid = newest.file_name()?.to_str()?.get(24..)?.to_owned();
    let text = fs::read_to_string(newest.join(format!("{uuid}.json"))).ok()?;
    let json: Value = serde_json::from_str(&text).ok()?;
    json["timeline"]["crash_seen"].as_u64()
}
