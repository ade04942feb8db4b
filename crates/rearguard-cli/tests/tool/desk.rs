//! A directory with a store, and the tool on it, for each of the tool's tests.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rearguard_cli::collector::{Collector, Script};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tempfile::TempDir;

/// Each step takes milliseconds; the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with a store, and the tool on it.
pub(crate) struct Desk {
    pub(crate) directory: TempDir,
}

/// What the tool said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rearguard"));
        command.args(arguments).stdin(Stdio::null()).current_dir(self.directory.path());
        // Nobody's own stores, colours or width.
        command.env("XDG_STATE_HOME", self.path("state")).env("HOME", self.path("home"));
        command.env("COLUMNS", "100").env_remove("NO_COLOR").env_remove("PAGER");
        command
    }

    pub(crate) fn tool(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().unwrap())
    }

    /// The tool on the store.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Said {
        let store = self.store();
        let place = ["--store", store.to_str().unwrap()];
        self.tool(&[arguments, &place[..]].concat())
    }

    /// A desk on which a worker has died of the demo's bug and come back, and the id of its report, which is delivered.
    pub(crate) fn crashed() -> (Desk, String) {
        let desk = Desk::new();
        let collector = Collector::start(Script::default()).unwrap();
        let store = desk.store();
        // In the first life its input is at its end, so it goes on to the bug at once.
        desk.command(&["demo-worker", store.to_str().unwrap(), &collector.url()]).output().unwrap();
        let submissions = collector.wait_for(1, PATIENCE).unwrap();
        let id = submissions[0].report_id().unwrap().to_owned();
        // The guard puts a report that a server has aside a moment after the answer.
        desk.wait_for(|report| report["id"] == *id && report["stage"] == "completed");
        (desk, id)
    }

    /// Waits until so many reports wait, and nobody has one in hand.
    pub(crate) fn wait_for_count(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let is_free = |path: PathBuf| {
            let directory = std::fs::File::open(path).unwrap();
            flock(directory, FlockOperation::NonBlockingLockExclusive).is_ok()
        };
        loop {
            let listed = std::fs::read_dir(self.store().join("pending")).unwrap();
            let free = listed.filter(|entry| is_free(entry.as_ref().unwrap().path())).count();
            if free == count {
                return;
            }
            assert!(Instant::now() < deadline, "{free} of {count} reports");
            std::thread::yield_now();
        }
    }

    /// Waits until the list has such a report, and returns it.
    pub(crate) fn wait_for(&self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.ask(&["list", "--json", "--frames", "never"]);
            // There is no store before the guard has made it.
            let list: Value = serde_json::from_str(&said.out).unwrap_or_default();
            let reports = list["reports"].as_array().cloned().unwrap_or_default();
            if let Some(report) = reports.into_iter().find(&is_wanted) {
                return report;
            }
            assert!(Instant::now() < deadline, "no such report: {list:#}");
            std::thread::yield_now();
        }
    }
}

pub(crate) fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// One clear line, and the status that the help tells.
#[track_caller]
pub(crate) fn refused(said: &Said, code: i32, words: &str) {
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{}", said.err);
    assert!(said.err.starts_with("rearguard: ") && said.err.contains(words), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
}
