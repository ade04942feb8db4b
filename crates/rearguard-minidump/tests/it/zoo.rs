//! Starts this test program again, as a target or as a dumper.
//!
//! A child takes commands on its standard input and answers on its standard error, a line each; the end of its input is the end of the child.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rearguard_minidump::{Capture, Error, Request};

use crate::calls;

pub(crate) const ROLE: &str = "REARGUARD_MINIDUMP_TEST_ROLE";

/// In the environment of every child, and in no dump.
pub(crate) const SECRET: &str = "hunter2-c0ffee-tokens-are-not-for-dumps";

/// How long anything in these tests may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Not a test by itself: the entry of the children.
#[test]
fn child_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    match words[..] {
        ["threads", count] => crate::live::target(count.parse().unwrap()),
        ["late-threads", count] => {
            say("alone");
            assert_eq!(command(), "go");
            crate::live::target(count.parse().unwrap());
        }
        ["signals"] => crate::live::signals_target(),
        ["leaderless"] => crate::crash::leaderless_target(),
        ["vfork"] => crate::live::vfork_target(),
        ["crash", way] => crate::crash::target(way),
        ["dumper", ..] => crate::dumper::run(&words[1..]),
        ["choice", ..] => crate::choices::target(&words[1..]),
        ["extreme", ..] => crate::extremes::target(&words[1..]),
        _ => panic!("no such role: {role}"),
    }
    std::process::exit(0);
}

/// A child in one role.
pub(crate) struct Zoo {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStderr>,
}

impl Zoo {
    pub(crate) fn start(role: &str) -> Zoo {
        Zoo::start_program(&std::env::current_exe().unwrap(), role)
    }

    /// The same from a copy of the program.
    pub(crate) fn start_program(program: &std::path::Path, role: &str) -> Zoo {
        let mut child = Command::new(program)
            .args(["--exact", "zoo::child_role", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env("ZOO_TOKEN", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stderr.take().unwrap());
        Zoo { child, commands, answers }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// The words of the next line; a child that says nothing in time fails the test.
    pub(crate) fn answer(&mut self) -> Vec<String> {
        if self.answers.buffer().is_empty() {
            assert!(
                calls::readable(self.answers.get_ref().as_fd(), DEADLINE),
                "the child says nothing"
            );
        }
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Whether the child has said something that wasn't asked for yet.
    pub(crate) fn has_answered(&self) -> bool {
        calls::readable(self.answers.get_ref().as_fd(), Duration::ZERO)
    }

    /// Ends the child with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "the child doesn't end");
            std::thread::yield_now();
        }
    }

    /// The threads of the child with the letter of their state.
    pub(crate) fn states(&self) -> Vec<(i32, char)> {
        let mut states = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap() {
            let entry = entry.unwrap();
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let state = stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap();
            states.push((entry.file_name().to_str().unwrap().parse().unwrap(), state));
        }
        states
    }

    /// The ids of the child's threads, in ascending order.
    pub(crate) fn thread_ids(&self) -> Vec<i32> {
        let mut ids: Vec<i32> = self.states().into_iter().map(|(tid, _)| tid).collect();
        ids.sort_unstable();
        ids
    }

    /// Waits until all threads are in the same state.
    pub(crate) fn wait_states(&self, wanted: char) {
        let start = Instant::now();
        while self.states().iter().any(|(_, state)| *state != wanted) {
            assert!(start.elapsed() < DEADLINE, "not {wanted}: {:?}", self.states());
            std::thread::yield_now();
        }
    }

    /// Asserts that no thread is stopped or traced.
    pub(crate) fn assert_runs(&mut self) {
        // A thread that was let go shows its stop until it gets a processor.
        let start = Instant::now();
        while self.states().iter().any(|(_, state)| matches!(state, 't' | 'T')) {
            assert!(start.elapsed() < DEADLINE, "threads are still stopped: {:?}", self.states());
            std::thread::yield_now();
        }
        for (tid, _) in self.states() {
            let status = std::fs::read_to_string(format!("/proc/{}/task/{tid}/status", self.pid()))
                .unwrap_or_default();
            assert!(
                !status.contains("TracerPid:") || status.contains("TracerPid:\t0"),
                "{tid} is still traced"
            );
        }
    }
}

impl Drop for Zoo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Captures, one test at a time: the crate wants a process whose threads don't capture at once.
pub(crate) fn capture<'r>(request: &'r Request<'r>) -> Result<Capture<'r>, Error> {
    capture_timed(request).0
}

/// The same, and how long it took without the wait for other tests.
pub(crate) fn capture_timed<'r>(
    request: &'r Request<'r>,
) -> (Result<Capture<'r>, Error>, Duration) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap();
    let begun = Instant::now();
    let captured = rearguard_minidump::capture(request);
    (captured, begun.elapsed())
}

/// A child's answer.
pub(crate) fn say(line: &str) {
    // One write, so that lines of two threads don't mix.
    let line = format!("{line}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A child's next command; the child ends when there is none.
pub(crate) fn command() -> String {
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).unwrap_or(0) == 0 {
        std::process::exit(0);
    }
    line.trim().to_owned()
}

/// Whether `needle` is in `haystack`.
pub(crate) fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}
