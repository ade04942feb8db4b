//! What a run of the tests has left behind: processes and files.
//!
//! Everything that the tests start inherits their temporary directory in its environment, or is executed from there, or is told of it on its command line.
//! So whatever mentions that directory belongs to the run, and nothing else does.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to go after the last test has ended.
/// A test waits for its guards; this is for a process that is already on its way out.
const GRACE: Duration = Duration::from_secs(3);

/// How long a killed process may take to go. It is reported either way.
const END_WAIT: Duration = Duration::from_secs(5);

/// Lists the processes that belong to `directory` and are still there, a line each, and ends them.
pub(crate) fn end_processes(directory: &Path) -> Vec<String> {
    wait_until(GRACE, || processes_of(directory).is_empty());
    let left = processes_of(directory);
    for (pid, _) in &left {
        // By its own number, and only because it was just seen to be ours.
        let _ = kill_process(*pid, Signal::KILL);
    }
    wait_until(END_WAIT, || processes_of(directory).is_empty());
    left.into_iter()
        .map(|(pid, command)| format!("process {} is left: {command}", pid.as_raw_nonzero()))
        .collect()
}

fn wait_until(wait_max: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + wait_max;
    while !done() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that belong to `directory`, with their command lines.
fn processes_of(directory: &Path) -> Vec<(Pid, String)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        if u32::try_from(pid.as_raw_nonzero().get()) == Ok(std::process::id()) {
            continue;
        }
        let place = entry.path();
        let command = fs::read(place.join("cmdline")).unwrap_or_default();
        let environment = fs::read(place.join("environ")).unwrap_or_default();
        let wanted = directory.as_os_str().as_bytes();
        let executed = fs::read_link(place.join("exe")).is_ok_and(|exe| exe.starts_with(directory));
        if executed || mentions(&command, wanted) || mentions(&environment, wanted) {
            let words: Vec<_> =
                command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            found.push((pid, words.join(" ")));
        }
    }
    found
}

fn mentions(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// Lists what is in `directory`, a line each: a test's own directory is one thing, however much is in it.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        .map(|entry| match files_below(&entry.path()) {
            // Names can be anything, and a test of bad input leaves such ones.
            Some(count) => format!("{:?} is left, with {count} files below it", entry.path()),
            None => format!("{:?} is left", entry.path()),
        })
        .collect();
    found.sort();
    found
}

/// How many files are below a directory, or nothing of what isn't one.
fn files_below(directory: &Path) -> Option<usize> {
    if !directory.is_dir() || directory.is_symlink() {
        return None;
    }
    let entries = fs::read_dir(directory).ok()?;
    Some(entries.flatten().map(|entry| files_below(&entry.path()).unwrap_or(1)).sum())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Goal: a process that a run leaves behind is seen by its environment alone, named, and ended; files too.
    #[test]
    fn what_is_left_is_seen_and_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .env("TMPDIR", directory.path())
            .spawn()
            .unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("a/b/c"), "").unwrap();
        let seen = end_processes(directory.path());
        child.wait().unwrap();
        assert_eq!(seen, [format!("process {} is left: cat ", child.id())]);
        let place = directory.path().join("a");
        assert_eq!(files(directory.path()), [format!("{place:?} is left, with 1 files below it")]);
        assert!(end_processes(directory.path()).is_empty());
    }
}
