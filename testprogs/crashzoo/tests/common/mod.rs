//! A scene: one temporary directory, the processes that were started in it, and what they left.
//!
//! Every process of a scene carries the scene's own variable in its environment, guards and successors too, so that the end of a scene is the end of all of them, by their own process ids.

#![allow(dead_code, reason = "each test file uses its part of the stage")]
#![allow(clippy::expect_used, reason = "a stage that breaks is a failed test")]
#![expect(unsafe_code, reason = "waiting for processes that aren't children of this one, by pidfd")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use minidump::{Minidump, Module};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything in a scene may take on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The places of the guard, as the zoo names them.
pub(crate) const TOPOLOGIES: [&str; 3] = ["worker-first", "at-crash", "guard-first"];

/// Orphans of a scene become our children, so that they can be reaped and none is left behind.
fn adopt_orphans() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: no memory is involved.
        let done = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        assert_eq!(done, 0, "becoming a subreaper");
    });
}

/// Where a program of this workspace lies: beside the tests, or where the runner has put it.
pub(crate) fn program(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("REARGUARD_BIN_DIR") {
        return Path::new(&directory).join(name);
    }
    Path::new(env!("CARGO_BIN_EXE_crashzoo")).with_file_name(name)
}

/// One test's stage.
pub(crate) struct Scene {
    pub(crate) directory: TempDir,
    marker: String,
}

/// How a started program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) pid: u32,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Checks how the first process of a program has ended whose last life ended well, and all before it by this signal.
    pub(crate) fn check(&self, topology: &str, signal: i32, case: &str) {
        // A front ends as the last life, anything else is the first one.
        let expected =
            if topology == "guard-first" { (Some(0), None) } else { (None, Some(signal)) };
        assert_eq!((self.code(), self.signal()), expected, "{case}, {topology}: {self:?}");
    }
}

/// One line of a trace.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) event: String,
    pub(crate) t_ns: u64,
    pub(crate) pid: u32,
    pub(crate) guard_pid: Option<u32>,
    pub(crate) incarnation: Option<u64>,
    pub(crate) last_report: Option<String>,
    pub(crate) last_exit_class: Option<String>,
    pub(crate) role: Option<String>,
}

/// One report of a store.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) stage: String,
    pub(crate) directory: PathBuf,
    pub(crate) json: Value,
    pub(crate) dump: Option<PathBuf>,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        adopt_orphans();
        let directory =
            tempfile::Builder::new().prefix("rearguard-").tempdir().expect("a directory");
        let marker = format!("REARGUARD_SCENE={}", directory.path().display());
        Scene { directory, marker }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn trace_path(&self) -> PathBuf {
        self.path("trace")
    }

    /// A command of this scene, silent, in a process group of its own.
    pub(crate) fn command(&self, name: &str) -> Command {
        self.silent(program(name))
    }

    /// The same for any program.
    pub(crate) fn silent(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.bare(program);
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Any program in this scene's directory and environment, with the test's own streams and process group.
    pub(crate) fn bare(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env("REARGUARD_SCENE", self.directory.path())
            .env("HOME", self.directory.path())
            .env_remove("XDG_STATE_HOME")
            .env_remove("STATE_DIRECTORY")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .env_remove("SYSTEMD_EXEC_PID");
        command
    }

    /// Any program in a session of its own, whose controlling terminal is the other end of what is returned.
    pub(crate) fn on_a_terminal(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> (fs::File, Child) {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::posix_openpt(flags) };
        assert!(fd >= 0, "a terminal");
        // SAFETY: the descriptor was just made and is nobody else's.
        let ours = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::unlockpt(fd) }, 0, "a terminal");
        // SAFETY: the request takes flags and gives a descriptor; unlike opening by name it leaks into no child of another test.
        let fd = unsafe { libc::ioctl(fd, libc::TIOCGPTPEER, flags) };
        assert!(fd >= 0, "the terminal's other end");
        // SAFETY: the descriptor was just made and is nobody else's.
        let theirs = unsafe { OwnedFd::from_raw_fd(fd) };
        // A process group of its own, as the scene's silent commands have one, would forbid a session of its own.
        let mut command = self.bare(program);
        let stream = || Stdio::from(theirs.try_clone().expect("the terminal"));
        command.args(arguments).stdin(stream()).stdout(stream()).stderr(stream());
        let become_leader = || {
            // SAFETY: no memory is involved.
            let session = unsafe { libc::setsid() };
            // SAFETY: the request takes a number; standard input is the terminal.
            let taken = unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
            if session < 0 || taken < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: the closure makes two system calls and touches no memory.
        unsafe { command.pre_exec(become_leader) };
        (ours.into(), command.spawn().expect("the program starts"))
    }

    /// The zoo with this scene's store and trace, and these arguments.
    pub(crate) fn zoo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("crashzoo");
        command
            .arg("--store")
            .arg(self.store())
            .arg("--trace")
            .arg(self.trace_path())
            .args(arguments);
        command
    }

    /// Runs the zoo to its end, and everything that follows from it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_command(&mut self.zoo(arguments))
    }

    /// As [`Scene::run`], for a command that was made already.
    pub(crate) fn run_command(&self, command: &mut Command) -> Ended {
        let ended = self.finish(command.spawn().expect("the program starts"));
        self.settle();
        ended
    }

    /// Waits for a program's end, with a deadline.
    pub(crate) fn finish(&self, mut child: Child) -> Ended {
        let pid = child.id();
        if !wait_gone(&pidfd(pid).expect("a child that wasn't waited for"), PATIENCE) {
            self.end_all();
            panic!("process {pid} did not end; trace: {:#?}", self.trace());
        }
        let status = child.wait().expect("the child ends");
        let mut stderr = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            // A guard never holds the pipe, but a restarted worker may: only what is there is read.
            set_nonblocking(&pipe);
            let mut bytes = Vec::new();
            let _ = std::io::Read::read_to_end(&mut pipe, &mut bytes);
            stderr = String::from_utf8_lossy(&bytes).into_owned();
        }
        Ended { status, pid, stderr }
    }

    /// The scene's living processes: those that carry its variable.
    pub(crate) fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let environment = environment(pid);
            if environment.split(|byte| *byte == 0).any(|entry| entry == self.marker.as_bytes()) {
                found.insert(pid);
            }
        }
        found
    }

    /// Waits until no process of the scene is left; reaps them, since they are ours by adoption.
    pub(crate) fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut living = self.processes();
            if living.is_empty() {
                // One that was forked behind the list's back, by one that has ended meanwhile, is in the next.
                living = self.processes();
            }
            if living.is_empty() {
                return;
            }
            for pid in living {
                let Some(pidfd) = pidfd(pid) else { continue };
                let left = deadline.saturating_duration_since(Instant::now());
                if !wait_gone(&pidfd, left) {
                    let states = self.states();
                    self.end_all();
                    panic!("still running: {states:?}; trace: {:#?}", self.trace());
                }
                reap(pid);
            }
        }
    }

    /// Process id, state and command line of the scene's living processes, for a failed test's message.
    pub(crate) fn states(&self) -> Vec<(u32, char, String)> {
        self.processes()
            .into_iter()
            .map(|pid| {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                (
                    pid,
                    state(pid).unwrap_or('?'),
                    String::from_utf8_lossy(&command).replace('\0', " "),
                )
            })
            .collect()
    }

    /// Ends what is left of a scene that failed, by process id.
    pub(crate) fn end_all(&self) {
        for _ in 0..100 {
            let living = self.processes();
            if living.is_empty() {
                return;
            }
            for pid in living {
                kill(pid, libc::SIGKILL);
                if let Some(pidfd) = pidfd(pid) {
                    wait_gone(&pidfd, Duration::from_secs(5));
                }
                reap(pid);
            }
        }
    }

    /// The trace so far.
    pub(crate) fn trace(&self) -> Vec<Line> {
        let text = fs::read_to_string(self.trace_path()).unwrap_or_default();
        text.lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line).expect("a trace line is JSON");
                Line {
                    event: value["event"].as_str().expect("an event").to_owned(),
                    t_ns: value["t_ns"].as_u64().expect("a time"),
                    pid: value["pid"].as_u64().expect("a pid") as u32,
                    guard_pid: value["guard_pid"].as_u64().map(|pid| pid as u32),
                    incarnation: value["incarnation"].as_u64(),
                    last_report: value["last_report"].as_str().map(str::to_owned),
                    last_exit_class: value["last_exit_class"].as_str().map(str::to_owned),
                    role: value["role"].as_str().map(str::to_owned),
                }
            })
            .collect()
    }

    /// The trace's lines of one event.
    pub(crate) fn events(&self, event: &str) -> Vec<Line> {
        self.trace().into_iter().filter(|line| line.event == event).collect()
    }

    /// Waits until the trace has `count` lines of an event.
    pub(crate) fn await_event(&self, event: &str, count: usize) -> Vec<Line> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.events(event);
            if lines.len() >= count {
                return lines;
            }
            if Instant::now() > deadline {
                let states = self.states();
                self.end_all();
                panic!(
                    "no {count} events {event}; {states:?}; trace: {:#?}; reports: {:#?}",
                    self.trace(),
                    self.reports(),
                );
            }
            await_change(&self.directory, Duration::from_millis(20));
        }
    }

    /// Runs the zoo through this many lives and everything that follows from them.
    ///
    /// The next life is awaited by its own word: in the midst of an exec a process has no environment, and isn't seen among the scene's.
    pub(crate) fn run_lives(&self, arguments: &[&str], lives: usize) -> Ended {
        self.live_through(self.zoo(arguments), lives)
    }

    /// As [`Scene::run_lives`], for a command that was made already.
    pub(crate) fn live_through(&self, mut command: Command, lives: usize) -> Ended {
        let ended = self.finish(command.spawn().expect("the program starts"));
        self.await_event("main", lives);
        self.settle();
        let arguments = command.get_args();
        assert_eq!(self.events("main").len(), lives, "{arguments:?}: {:#?}", self.trace());
        ended
    }

    /// Waits until something is so, looking whenever the scene's directory changes.
    pub(crate) fn await_that(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            if Instant::now() > deadline {
                let states = self.states();
                self.end_all();
                panic!("not so in time: {what}; {states:?}; trace: {:#?}", self.trace());
            }
            await_change(&self.directory, Duration::from_millis(20));
        }
    }

    /// The store's reports, oldest first.
    pub(crate) fn reports(&self) -> Vec<Report> {
        reports_of(&self.store())
    }

    /// The names of the store's reports with their stages in front, in order.
    pub(crate) fn reports_by_name(&self) -> Vec<String> {
        let mut names = Vec::new();
        for stage in ["new", "pending", "completed"] {
            let Ok(entries) = fs::read_dir(self.store().join(stage)) else { continue };
            for entry in entries.flatten() {
                names.push(format!("{stage}/{}", entry.file_name().display()));
            }
        }
        names.sort_by_key(|name| name.split_once('/').map(|(_, name)| name.to_owned()));
        names
    }

    /// The store's only report.
    pub(crate) fn report(&self) -> Report {
        let mut reports = self.reports();
        assert_eq!(reports.len(), 1, "one report: {reports:#?}; trace: {:#?}", self.trace());
        reports.remove(0)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// The reports of a store, oldest first.
pub(crate) fn reports_of(store: &Path) -> Vec<Report> {
    let mut reports = Vec::new();
    for stage in ["new", "pending", "completed"] {
        let Ok(entries) = fs::read_dir(store.join(stage)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().expect("a report's name is text");
            let uuid = &name[24..];
            let json = fs::read(entry.path().join(format!("{uuid}.json"))).expect("metadata");
            let dump = entry.path().join(format!("{uuid}.dmp"));
            let dump = dump.exists().then_some(dump);
            if let Some(dump) = &dump {
                keep_dump(uuid, dump);
            }
            reports.push(Report {
                stage: stage.to_owned(),
                directory: entry.path(),
                json: serde_json::from_slice(&json).expect("metadata is JSON"),
                dump,
            });
        }
    }
    reports.sort_by_key(|report| report.directory.file_name().map(ToOwned::to_owned));
    reports
}

/// Keeps a dump for the readers that `cargo xtask readers` names, once however often its report is looked at.
fn keep_dump(uuid: &str, dump: &Path) {
    static KEPT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.contains(uuid) {
        return;
    }
    // The report may have been moved on since; the next look finds it elsewhere.
    if let Ok(bytes) = fs::read(dump) {
        readers::save(&bytes, None).expect("the directory is open to all");
        kept.insert(uuid.to_owned());
    }
}

impl Report {
    /// The minidump, read by the `minidump` crate.
    pub(crate) fn minidump(&self) -> Minidump<'static, Vec<u8>> {
        let path = self.dump.as_ref().unwrap_or_else(|| panic!("a minidump: {:#}", self.json));
        Minidump::read(fs::read(path).expect("the file")).expect("a minidump")
    }

    /// Signal, `si_code` and address of the exception, and the crashed thread.
    pub(crate) fn exception(&self) -> (i32, i32, u64, u32) {
        let dump = self.minidump();
        let exception = dump.get_stream::<minidump::MinidumpException<'_>>().expect("an exception");
        let record = &exception.raw.exception_record;
        (
            record.exception_code as i32,
            record.exception_flags as i32,
            record.exception_address,
            exception.thread_id,
        )
    }

    /// How many threads the dump describes.
    pub(crate) fn thread_count(&self) -> usize {
        let dump = self.minidump();
        dump.get_stream::<minidump::MinidumpThreadList<'_>>().expect("threads").threads.len()
    }

    /// How much memory the dump holds.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let dump = self.minidump();
        let memory = dump.get_stream::<minidump::MinidumpMemoryList<'_>>().expect("memory");
        memory.iter().map(|range| range.size).sum()
    }

    /// The module that holds the crashed thread's instruction pointer.
    pub(crate) fn crash_module(&self) -> Option<String> {
        let dump = self.minidump();
        let exception = dump.get_stream::<minidump::MinidumpException<'_>>().ok()?;
        let system = dump.get_stream::<minidump::MinidumpSystemInfo>().ok()?;
        let context = exception.context(&system, None)?;
        let modules = dump.get_stream::<minidump::MinidumpModuleList>().ok()?;
        let module = modules.module_at_address(context.get_instruction_pointer())?;
        Some(module.code_file().into_owned())
    }

    /// The exit class as the metadata have it: label and value.
    pub(crate) fn exit_class(&self) -> (String, Option<i64>) {
        let exit = &self.json["exit"];
        (exit["class"].as_str().expect("a class").to_owned(), exit["value"].as_i64())
    }

    /// Whether the worker was to be started again, and the reason.
    pub(crate) fn decision(&self) -> (bool, String) {
        let decision = &self.json["decision"];
        (
            decision["restart"].as_bool().expect("a decision"),
            decision["reason"].as_str().expect("a reason").to_owned(),
        )
    }

    /// A moment of the timeline.
    pub(crate) fn moment(&self, name: &str) -> u64 {
        self.json["timeline"][name].as_u64().unwrap_or_else(|| panic!("{name}: {:#}", self.json))
    }
}

/// The environment of a process. In the midst of an exec it looks empty, and is read again.
fn environment(pid: u32) -> Vec<u8> {
    for _ in 0..10_000 {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let is_between = environment.is_empty()
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok()
            && fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| stat.split(' ').nth_back(1) == Some("0"));
        if !is_between {
            return environment;
        }
        std::thread::yield_now();
    }
    Vec::new()
}

/// A pidfd, or nothing where there is no such process.
pub(crate) fn pidfd(pid: u32) -> Option<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: the descriptor was just made and is nobody else's.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Waits until a process is gone; false when it isn't in time.
pub(crate) fn wait_gone(pidfd: &OwnedFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut entry = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer refers to one living entry.
        let count = unsafe { libc::poll(&raw mut entry, 1, left.as_millis() as i32) };
        if count > 0 {
            return true;
        }
        if left.is_zero() {
            return false;
        }
    }
}

/// Takes a dead orphan's status, if it is ours.
pub(crate) fn reap(pid: u32) {
    let mut status = 0;
    // SAFETY: the pointer refers to a living number.
    unsafe { libc::waitpid(pid as i32, &raw mut status, libc::WNOHANG) };
}

/// Sends a signal to one process.
pub(crate) fn kill(pid: u32, signal: i32) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid as i32, signal) == 0 }
}

/// The state letter of a process.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits until something in a directory changes, or the time is over: a wait with an event, not a sleep.
fn await_change(directory: &TempDir, wait: Duration) {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    assert!(fd >= 0, "inotify");
    // SAFETY: the descriptor was just made and is nobody else's.
    let inotify = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = std::ffi::CString::new(directory.path().as_os_str().as_encoded_bytes())
        .expect("a path without NUL");
    let events = libc::IN_MODIFY | libc::IN_CREATE | libc::IN_MOVED_TO;
    // SAFETY: the path is NUL-terminated.
    unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), events) };
    wait_gone(&inotify, wait);
}

fn set_nonblocking(pipe: &impl AsRawFd) {
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
}

/// What every guard's first argument begins with.
const GUARD_ARGUMENT: &[u8] = b"--rearguard-guard=";

/// How long a wait without an event of its own sleeps between two looks.
const LOOK_PERIOD: Duration = Duration::from_millis(5);

/// Lets time pass, bounded, as a wait for an event that never comes.
pub(crate) fn pause(wait: Duration) {
    // SAFETY: no entry is given, so no memory is involved.
    unsafe { libc::poll(std::ptr::null_mut(), 0, wait.as_millis() as i32) };
}

/// The argument of a guard process; nothing for a process that is none.
pub(crate) fn guard_argument(pid: u32) -> Option<Vec<u8>> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let argument = command.split(|byte| *byte == 0).nth(1)?;
    argument.starts_with(GUARD_ARGUMENT).then(|| argument.to_owned())
}

/// Whether a guard sleeps on its bell: named as a guard, and inside futex(2).
pub(crate) fn is_on_duty(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let sleeps = call.split(' ').next() == Some(&libc::SYS_futex.to_string());
    name.trim_end().ends_with("-guard") && sleeps && state(pid) == Some('S')
}

impl Scene {
    /// The scene's processes that run with a guard argument.
    pub(crate) fn guards(&self) -> Vec<u32> {
        self.processes().into_iter().filter(|pid| guard_argument(*pid).is_some()).collect()
    }

    /// Waits until `look` finds something; the scene is ended when it doesn't in time.
    pub(crate) fn await_some<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            if Instant::now() > deadline {
                let states = self.states();
                self.end_all();
                panic!("no {what}: {states:?}; trace: {:#?}", self.trace());
            }
            pause(LOOK_PERIOD);
        }
    }

    /// Waits until another guard than `before` sleeps on its bell.
    pub(crate) fn await_guard(&self, before: Option<u32>) -> u32 {
        self.await_some("guard on duty", || {
            self.guards().into_iter().find(|pid| Some(*pid) != before && is_on_duty(*pid))
        })
    }

    /// Kills one process by its number and waits until it is gone.
    pub(crate) fn end(&self, pid: u32) {
        let Some(pidfd) = pidfd(pid) else { return };
        kill(pid, libc::SIGKILL);
        assert!(wait_gone(&pidfd, PATIENCE), "process {pid} outlives SIGKILL");
        reap(pid);
    }
}

/// Makes sure that a program beside the zoo is there and new; cargo builds only the zoo for the zoo's tests.
pub(crate) fn build_beside(name: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("REARGUARD_BIN_DIR").is_some() {
            return;
        }
        let zoo = Path::new(env!("CARGO_BIN_EXE_crashzoo"));
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "-p", name]);
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        if let Some(target) = zoo.parent().and_then(Path::parent) {
            build.env("CARGO_TARGET_DIR", target);
        }
        if zoo.parent().is_some_and(|parent| parent.ends_with("release")) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo").success(), "building {name}");
    });
}

/// The raw status of a child that has ended; it is reaped by this.
pub(crate) fn status_of(pid: u32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: the pointer refers to a living number.
    let reaped = unsafe { libc::waitpid(pid as i32, &raw mut status, libc::WNOHANG) };
    (reaped == pid as i32).then_some(status)
}

/// Whether this test may do what only root may.
pub(crate) fn is_root() -> bool {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() == 0 }
}

/// Runs the rest of a test only for root; says so where it doesn't.
#[allow(unused_macros, reason = "each test file uses its part of the stage")]
macro_rules! needs_root {
    () => {
        if !common::is_root() {
            println!("not run: it needs root");
            return;
        }
    };
}
#[allow(unused_imports, reason = "as above")]
pub(crate) use needs_root;

/// Whether there is a debugger to try, which says so where there is none.
pub(crate) fn has_strace() -> bool {
    let version = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    let is_there = version.is_ok_and(|status| status.success());
    if !is_there {
        println!("not run: there is no strace");
    }
    is_there
}

/// The last error of a system call that failed.
pub(crate) fn done(result: libc::c_int) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Becomes a user without rights, in a child that is about to exec.
pub(crate) fn become_user(user: u32) -> std::io::Result<()> {
    // SAFETY: an empty list of groups needs no memory.
    done(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: no memory is involved.
    done(unsafe { libc::setresgid(user, user, user) })?;
    // SAFETY: no memory is involved.
    done(unsafe { libc::setresuid(user, user, user) })
}

impl Scene {
    /// The zoo in a mount namespace of its own, after `preparation` by the shell.
    pub(crate) fn in_own_mounts(&self, preparation: &str, arguments: &[&str]) -> Command {
        let script = format!("{preparation} && exec \"$@\"");
        let mut command = self.silent("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
        command.arg(program("crashzoo")).args(self.zoo(arguments).get_args());
        command
    }

    /// The zoo in a pid namespace of its own, behind this program; as process 1 without one.
    pub(crate) fn in_own_processes(&self, before: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.silent("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).args(before);
        command.arg(program("crashzoo")).args(self.zoo(arguments).get_args());
        command
    }
}
