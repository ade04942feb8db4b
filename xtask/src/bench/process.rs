//! One measured process: started, seen to its end, and everyone that it leaves seen to theirs.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, wait};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

/// How long a worker may take to die. A peer's crashed worker may wait for its server without end.
const WORKER_MAX: Duration = Duration::from_secs(30);

/// How long guards, servers and next workers may take to end after the worker has.
/// Longer than rearguard's 15 s for a delivery.
const OTHERS_MAX: Duration = Duration::from_secs(20);

/// The monotonic clock that the traces are in, in nanoseconds.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Starts a program with a place of its own, away from our terminal: a foreground job isn't restarted.
pub(super) fn start(program: &Path, arguments: &[String], place: &Path) -> Result<Child, String> {
    let mut command = Command::new(program);
    command.args(arguments).arg("--store").arg(place.join("store"));
    command.arg("--trace").arg(place.join("trace"));
    spawn(&mut command, place)
}

/// Starts a command of the caller's making in the same way; what it writes goes to files in its place.
pub(super) fn spawn(command: &mut Command, place: &Path) -> Result<Child, String> {
    fs::create_dir_all(place).map_err(|error| format!("{}: {error}", place.display()))?;
    let create = |name| fs::File::create(place.join(name)).map_err(|error| error.to_string());
    let (output, errors) = (create("stdout")?, create("stderr")?);
    command
        .env("TMPDIR", place)
        .env("HOME", place)
        .env_remove("CRASHZOO_NO_CRASH_GUARD")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0);
    command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))
}

/// Waits for the end of the worker, and tells its moment.
pub(super) fn end_of(child: &mut Child) -> Result<(u64, ExitStatus), String> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("a pid out of range")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| error.to_string())?;
    let mut entries = [PollFd::new(&pidfd, PollFlags::IN)];
    let seconds = i64::try_from(WORKER_MAX.as_secs()).map_err(|error| error.to_string())?;
    let wait_max = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let ready = poll(&mut entries, Some(&wait_max)).map_err(|error| error.to_string())?;
    let gone_ns = now_ns();
    if ready == 0 {
        child.kill().map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if ready == 0 {
        return Err(format!("the worker was still there after {} s", WORKER_MAX.as_secs()));
    }
    Ok((gone_ns, status))
}

/// Waits for the end of everyone that was left to us; at the deadline they are ended, and named in the error.
pub(super) fn end_of_others() -> Result<(), String> {
    if reap_all(OTHERS_MAX) {
        return Ok(());
    }
    let mut left = Vec::new();
    for pid in children() {
        let name = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let name = String::from_utf8_lossy(&name).replace('\0', " ");
        left.push(format!("{} ({})", pid.as_raw_nonzero(), name.trim_end()));
        // A child of ours that isn't reaped, so the number can't have become somebody else's.
        let _ = kill_process(pid, Signal::KILL);
    }
    reap_all(Duration::from_secs(5));
    Err(format!("still there after {} s, and ended: {}", OTHERS_MAX.as_secs(), left.join(", ")))
}

/// Whether nobody is left.
fn reap_all(wait_max: Duration) -> bool {
    let deadline = Instant::now() + wait_max;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) if Instant::now() > deadline => return false,
            Ok(None) => thread::sleep(Duration::from_millis(2)),
            // No child is left. Not `waitpid(None, …)`, which asks for our own process group only.
            Err(_) => return true,
        }
    }
}

fn children() -> Vec<Pid> {
    let me = std::process::id();
    let list = fs::read_to_string(format!("/proc/self/task/{me}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw).collect()
}

/// The trace so far; a line that is still being written isn't there yet.
pub(super) fn trace(place: &Path) -> Vec<Value> {
    let text = fs::read_to_string(place.join("trace")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The first line about an event.
pub(super) fn first<'a>(trace: &'a [Value], event: &str) -> Option<&'a Value> {
    trace.iter().find(|line| line.get("event").and_then(Value::as_str) == Some(event))
}

pub(super) fn number(value: &Value, key: &str) -> Option<u64> {
    value.get(key)?.as_u64()
}

/// What the program has written to its standard error, for the message about what went wrong.
pub(super) fn complaint(place: &Path) -> String {
    let text = fs::read_to_string(place.join("stderr")).unwrap_or_default();
    text.lines().next_back().map_or_else(String::new, |line| format!(" (it says: {line})"))
}
