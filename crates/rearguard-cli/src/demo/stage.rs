//! The worker as its audience sees it: a process with pipes, and lines that come or don't.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::sys::Watched;

/// Generous: each step takes milliseconds, but the machine may be busy.
const STEP_WAIT: Duration = Duration::from_secs(10);

/// The first worker and the pipes that all of its lives share.
#[derive(Debug)]
pub(super) struct Stage {
    child: Child,
    word: Option<ChildStdin>,
    told: Receiver<String>,
    complaints: Receiver<String>,
}

/// What a worker has said about itself.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) pid: u32,
    pub(super) guard_pid: u32,
    pub(super) incarnation: u64,
    pub(super) last_report: Option<String>,
    pub(super) last_exit_class: Option<String>,
    pub(super) recovered: Option<String>,
}

impl Stage {
    /// Starts the first worker: this same executable, in a process group of its own, because a terminal's foreground job isn't restarted.
    pub(super) fn open(directory: &Path, store: &Path, url: &str) -> Result<Stage, String> {
        let program =
            std::env::current_exe().map_err(|error| format!("own executable: {error}"))?;
        let mut child = Command::new(program)
            .arg(super::WORKER_ARGUMENT)
            .arg(store)
            .arg(url)
            .current_dir(directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the worker can't be started: {error}"))?;
        let word = child.stdin.take();
        let told = child.stdout.take().map(lines_of).ok_or("the worker has no standard output")?;
        let complaints =
            child.stderr.take().map(lines_of).ok_or("the worker has no standard error")?;
        Ok(Stage { child, word, told, complaints })
    }

    /// The next line that a worker says about itself.
    pub(super) fn listen(&self, who: &str) -> Result<Said, String> {
        match self.told.recv_timeout(STEP_WAIT) {
            Ok(line) => parse(&line).ok_or_else(|| format!("{who} says something strange: {line}")),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("{who} said nothing for {STEP_WAIT:?}{}", self.last_words()))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("{who} ended, or never began, without a word{}", self.last_words()))
            }
        }
    }

    /// Tells the worker to go on.
    pub(super) fn give_word(&mut self) -> Result<(), String> {
        let word = self.word.as_mut().ok_or("the worker has no standard input")?;
        word.write_all(b"go\n").map_err(|error| format!("the worker doesn't listen: {error}"))
    }

    /// The first worker's end.
    pub(super) fn first_end(&mut self) -> Result<ExitStatus, String> {
        let watched = Watched::new(self.child.id())?;
        if !watched.ends_within(STEP_WAIT)? {
            return Err(format!("the worker didn't die within {STEP_WAIT:?}"));
        }
        self.child.wait().map_err(|error| format!("the worker's exit status: {error}"))
    }

    /// The end of the last worker: nobody holds the pipe any more.
    pub(super) fn last_end(&self) -> Result<(), String> {
        match self.told.recv_timeout(STEP_WAIT) {
            Err(RecvTimeoutError::Disconnected) => Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("somebody still held the worker's pipe after {STEP_WAIT:?}"))
            }
            Ok(line) => Err(format!("there is one worker too many: {line}")),
        }
    }

    /// What came on the workers' standard error so far.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.complaints.try_iter().collect()
    }

    fn last_words(&self) -> String {
        let lines = self.complaints();
        if lines.is_empty() {
            String::new()
        } else {
            format!("; its last words: {}", lines.join(" / "))
        }
    }
}

impl Drop for Stage {
    /// Leaves nobody behind when the demo fails half-way: the first worker is ended, a later one sees the end of its standard input.
    fn drop(&mut self) {
        self.word = None;
        // An error means that it has ended already, which is the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread that ends with the pipe.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}

fn parse(line: &str) -> Option<Said> {
    let value: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| value.get(name)?.as_u64();
    let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    Some(Said {
        pid: u32::try_from(number("pid")?).ok()?,
        // 0 is nobody's pid: the worker isn't guarded.
        guard_pid: number("guard_pid").and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
        incarnation: number("incarnation")?,
        last_report: text("last_report"),
        last_exit_class: text("last_exit_class"),
        recovered: text("recovered"),
    })
}
