//! Crash capture and recovery from one executable file.
//!
//! The application calls rearguard in the first lines of `main`.
//! The same file, started again with a reserved first argument, stands behind it as its **guard**: when the application (the **worker**) dies of a crash, the guard writes a minidump from outside, waits until the worker is really gone, starts it again, delivers the report, and leaves.
//!
//! ```no_run
//! use rearguard::{Consent, Rearguard};
//!
//! fn main() -> Result<(), rearguard::Error> {
//!     let guard = Rearguard::new("my-app", env!("CARGO_PKG_VERSION"))
//!         .collector("https://crashes.example.com/submit")
//!         .consent(Consent::Granted)
//!         .start()?; // never returns in the guard
//!     if let Some(report) = guard.last_report() {
//!         eprintln!("the last run crashed; its report is {}", report.id());
//!     }
//!     // argument parsing, logging, windows: everything else of the application
//!     guard.ready();
//!     Ok(())
//! }
//! ```
//!
//! # What a guard process does with `main`
//!
//! Everything of `main` before [`Rearguard::start`] runs in the guard too, everything after it never does.
//! So call it first, or call [`run_guard_if_asked`] first and `start()` when the settings are known.

mod attachments;
mod config;
mod delivery;
mod error;
mod evidence;
mod fail_spots;
mod guard;
mod heap;
mod hooks;
mod json;
mod launch;
mod limits;
mod metadata;
mod order;
mod redaction;
mod report_id;
mod reporting;
mod role;
#[cfg(feature = "send-now")]
mod sending;
mod settings;
mod signature;
mod store;
mod supervisor;
mod sys;
mod text;
mod upload;
mod wire;
mod worker;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use config::{DumpSize, ExitClass, RestartPolicy, RestartWhen, signal_name};
pub use error::Error;
pub use hooks::{Request, Response, Transport};
pub use reporting::Consent;
#[cfg(feature = "roles")]
pub use role::ROLE_ARGUMENT_PREFIX;
pub use role::{EXIT_GUARD_ARGUMENT, EXIT_GUARD_NOT_NEEDED, GUARD_ARGUMENT_PREFIX};
#[cfg(feature = "send-now")]
pub use sending::{Progress, SentReport, Which};
#[cfg(feature = "roles")]
pub use settings::AppRole;
pub use settings::Topology;
pub use sys::channel::{CrashInfo, ThreadProtection};
pub use worker::LastReport;

use rearguard_crashpath::black_box::{GIVEN_UP, store as store_state};

use settings::Settings;
use sys::{channel, family, process};
use worker::{Off, Worker};

/// The builder: an application's name, version and choices.
#[derive(Clone, Debug)]
#[must_use = "nothing is guarded until `start` is called"]
pub struct Rearguard {
    settings: Box<Settings>,
}

impl Rearguard {
    /// An application by its name (1 to 64 bytes; it names the default store, the report's product and the guard process) and version (1 to 64 bytes).
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Rearguard {
        Rearguard { settings: Box::new(Settings::new(name.into(), version.into())) }
    }

    /// The directory for reports. Without it: `$STATE_DIRECTORY/crashes`, `$XDG_STATE_HOME/<name>/crashes`, or `~/.local/state/<name>/crashes`.
    pub fn store(mut self, directory: impl Into<PathBuf>) -> Rearguard {
        self.settings.store = Some(directory.into());
        self
    }

    /// The URL that takes reports, `https://` or `http://`, at most 2048 bytes, without a name or password in it. Nothing is sent without [`Rearguard::consent`].
    pub fn collector(mut self, url: impl Into<String>) -> Rearguard {
        self.settings.collector = Some(url.into());
        self
    }

    /// Whether reports may leave this machine; [`Consent::Denied`] unless set.
    pub fn consent(mut self, consent: Consent) -> Rearguard {
        self.settings.reporting.consent = consent;
        self
    }

    /// The file of certificates (PEM) that the collector's must be signed by, in the place of those that the system trusts: for a collector with a certificate of one's own. Linux only; on Windows the certificate belongs into the system's store.
    pub fn collector_certificates(mut self, file: impl AsRef<Path>) -> Rearguard {
        self.settings.certificates = process::path_bytes(absolute(file.as_ref()));
        self
    }

    /// Puts `product`, `version` and `guid` into the query of the collector's URL too, where Crashpad's servers look for them. Needs [`Rearguard::run_guard_if_asked`] where that is called before `start`.
    pub fn collector_query(self) -> Rearguard {
        self.with_hook(|hooks| hooks.in_query = Some(upload::in_query))
    }

    /// Sends reports in the library's place; see [`Transport`]. Needs [`Rearguard::run_guard_if_asked`] where that is called before `start`.
    pub fn transport(self, transport: &'static dyn Transport) -> Rearguard {
        hooks::use_transport(transport);
        self.with_hook(|hooks| hooks.post = Some(hooks::post))
    }

    /// How many newest reports the store keeps (1 to 20,000; 10 unless set), how many bytes of them (128 MiB), and for how long (365 days). What is too much or too old is removed when a report enters: the oldest of those that are completed first, then of those that wait.
    pub fn keep_reports(mut self, reports: u32, bytes: u64, age: Duration) -> Rearguard {
        self.settings.reporting.reports_max = u64::from(reports);
        self.settings.reporting.bytes_max = bytes;
        self.settings.reporting.age_s_max = age.as_secs();
        self
    }

    /// How many reports are sent from one store in an hour (20 unless set) and in a day (50), whoever sends them. What is more waits, and is not lost.
    pub fn uploads_at_most(mut self, in_an_hour: u32, in_a_day: u32) -> Rearguard {
        self.settings.reporting.hourly_max = u64::from(in_an_hour);
        self.settings.reporting.daily_max = u64::from(in_a_day);
        self
    }

    /// How long after a delivery that failed the report is tried again, in whole seconds; 15 minutes unless set, and doubled each time up to a day. There are six tries within seven days, each by a guard that begins or has delivered a report of its own; the report stays in the store after them.
    pub fn retry_delivery(mut self, first: Duration) -> Rearguard {
        self.settings.reporting.retry_s = first.as_secs();
        self
    }

    /// For how long crashes at one place of the program count as one, a day for example: the first has a report, the others are counted with it. A place is known by the instruction, and where that is in a library by what of the program called it, in this version of the program; that of a panic by its source line. Without this each crash has a report of its own. Needs [`Rearguard::run_guard_if_asked`] where that is called before `start`.
    pub fn same_crash_window(mut self, window: Duration) -> Rearguard {
        self.settings.reporting.same_crash_s = window.as_secs();
        self.with_hook(|hooks| hooks.same_crash = Some(&hooks::SAME_CRASH))
    }

    /// Sends reports without `guid`, the random number by which a collector can tell that two came from the same installation.
    pub fn without_installation_id(mut self) -> Rearguard {
        self.settings.reporting.has_identity = false;
        self
    }

    /// A file that goes with each report, most often a log: its last 256 KiB, and those of its rotated siblings (`.1`, `.0`, `.old` behind the name); 1 MiB of all together, at most 16 files. A path that isn't absolute is taken from the directory of this process now. Needs [`Rearguard::run_guard_if_asked`] where that is called before `start`.
    ///
    /// After a crash the guard reads them before another life can begin its log anew; after an end without one (a panic that exits), beside it.
    pub fn attachment(mut self, file: impl AsRef<Path>) -> Rearguard {
        let path = process::path_bytes(absolute(file.as_ref()));
        heap::add(&mut self.settings.attachments, path);
        self.with_hook(|hooks| hooks.attach = Some(&hooks::ATTACH))
    }

    /// Makes the user's name unknown in reports: the last part of the home directory's path (`$HOME`, `%USERPROFILE%`) becomes underscores wherever that path stands, in metadata, minidump and attachments. Needs [`Rearguard::run_guard_if_asked`] where that is called before `start`.
    pub fn redact_user(self) -> Rearguard {
        self.with_hook(|hooks| hooks.redact = Some(redaction::redact))
    }

    /// The application's own word on texts before they are stored: it is called in the guard for each annotation's key and value, for the log with the key `log`, and for a panic's message with the key `panic`. Needs [`Rearguard::run_guard_if_asked`] where that is called before `start`.
    ///
    /// The minidump's stacks hold what they hold (see [`Rearguard::scrub_stacks`]), and so does the log ring in the process's memory.
    pub fn scrub(self, scrub: fn(key: &str, text: &mut String)) -> Rearguard {
        self.with_hook(|hooks| hooks.scrub = Some((hooks::scrub, scrub)))
    }

    /// Puts the open descriptors and what they lead to into minidumps, which may tell of their user by paths. Needs [`Rearguard::run_guard_if_asked`] where that is called before `start`.
    ///
    /// On Windows the handles are there by the size ([`DumpSize::Standard`]), and this changes nothing.
    pub fn open_files(self) -> Rearguard {
        self.with_hook(|hooks| hooks.extras = hooks.extras.open_files())
    }

    /// Puts the memory into minidumps that registers and the crashed thread's stack point to, 512 bytes around each address, `bytes_max` in all. Needs [`Rearguard::run_guard_if_asked`] where that is called before `start`.
    ///
    /// On Windows such memory is there by the size ([`DumpSize::Standard`]), and this changes nothing.
    pub fn indirect_memory(self, bytes_max: usize) -> Rearguard {
        self.with_hook(|hooks| hooks.extras = hooks.extras.indirect_memory(bytes_max))
    }

    /// Overwrites in minidumps every word of stacks, indirect memory and general registers that is neither small nor an address of a mapped file, of code or of the same stack, and leaves vector registers out. Stacks can still be unwound; what a debugger shows of variables isn't true then. Needs [`Rearguard::run_guard_if_asked`] where that is called before `start`.
    ///
    /// Linux only: on Windows the system writes the minidump, and this changes nothing.
    pub fn scrub_stacks(self) -> Rearguard {
        self.with_hook(|hooks| hooks.extras = hooks.extras.scrubbed_stacks())
    }

    /// Gives the guard something to do by code of its own.
    fn with_hook(mut self, add: impl FnOnce(&mut hooks::Hooks)) -> Rearguard {
        add(&mut self.settings.hooks);
        self.settings.hooks_check = Some(hooks::check);
        self
    }

    /// Becomes the guard and never returns, if this process was started as one, as the function [`run_guard_if_asked`] does; and knows what this builder was told that a guard does by code of its own: attachments, redaction, scrubbing, transport, query, the same crash, what goes into minidumps by choice. What those are about (which files, which collector) it has from the worker's builder.
    pub fn run_guard_if_asked(&self) {
        hooks::set(self.settings.hooks);
        run_guard();
    }

    /// When and how often the worker is started again. A policy that is set here holds under a service manager too; the default leaves restarts to it.
    pub fn restart(mut self, policy: RestartPolicy) -> Rearguard {
        self.settings.restart = policy;
        self.settings.restart.explicit = true;
        self
    }

    /// Where the guard stands; [`Topology::WorkerFirst`] unless set.
    pub fn topology(mut self, topology: Topology) -> Rearguard {
        self.settings.topology = topology;
        self
    }

    /// Lets [`Rearguard::start`] wait until the guard is on duty, at most this long; with [`Topology::AtCrash`], until a crash can start one. By default it doesn't wait: from its return on, a crash finds at least a guard that is started for it.
    pub fn wait_ready(mut self, wait_max: Duration) -> Rearguard {
        self.settings.wait_ready = Some(wait_max);
        self
    }

    /// How long a crashed worker waits for its dump, 1 ms to 60 s; 5 s unless set. Afterwards the guard is ended and another is tried, at most three in all.
    pub fn dump_wait(mut self, wait_max: Duration) -> Rearguard {
        self.settings.dump_wait = wait_max;
        self
    }

    /// How much a minidump holds; [`DumpSize::Standard`] unless set.
    pub fn dump_size(mut self, size: DumpSize) -> Rearguard {
        self.settings.reporting.dump_size = size;
        self
    }

    /// After how many short lives in a row [`Handle::is_safe_mode`] is true; 2 unless set. At least 1, and fewer than the restart policy's [`in_a_row`](RestartPolicy::in_a_row), which ends the loop.
    pub fn safe_mode_after(mut self, lives: u32) -> Rearguard {
        self.settings.safe_mode_after = Some(lives);
        self
    }

    /// A function that the crashing thread calls before the guard is told.
    ///
    /// # Signal safety
    ///
    /// It runs in a signal handler on a stack of 64 KiB, in a process that is broken: it must not allocate, lock, or panic. If it crashes itself, the report says so and goes on without it.
    pub fn on_crash(mut self, callback: fn(&CrashInfo)) -> Rearguard {
        self.settings.callback = Some(callback);
        self
    }

    /// Lets a process that changed its user be dumped by a guard of that user.
    ///
    /// The kernel makes such a process undumpable (`PR_SET_DUMPABLE`, prctl(2)), and a late guard then gets no more than what the crash handler itself copied.
    /// With this, the process is dumpable while it waits at a fault of its own, never for a signal that somebody else sent. Off unless set: the dump of a program that gave up rights may hold what it read with them.
    pub fn dump_after_privilege_drop(mut self, allow: bool) -> Rearguard {
        self.settings.raise_dumpable = allow;
        self
    }

    /// Adds a role: another kind of process of this application, from the same file. [`Handle::role_command`] starts it, and there `start` takes it up and [`Handle::role`] tells it.
    ///
    /// One guard stands for the main process and all its roles (Linux, worker-first); elsewhere, and with [`AppRole::own_guard`], each has its own.
    #[cfg(feature = "roles")]
    pub fn role(mut self, role: AppRole) -> Rearguard {
        self.settings.roles.push(role);
        self
    }

    /// Names the role (one of [`Rearguard::role`]) that tells the user when a crash loop of the main process is given up: its process is started once, after the full exit of the last life, and finds in [`Handle::last_exit_class`] and [`Handle::last_report`] what there is to tell. The loop of another role is the main process's to notice.
    ///
    /// Linux only so far, and not with [`Topology::GuardFirst`], where whoever started the program is told by its end. Elsewhere [`Handle::was_given_up`] is there for the next start.
    #[cfg(feature = "roles")]
    pub fn notice(mut self, role: impl Into<String>) -> Rearguard {
        self.settings.notice = Some(role.into());
        self
    }

    /// Makes the guard end, stop or wait at one of its steps: `step:kill`, `step:stop`, `step:sleep`, with `@n` behind it for the incarnation; for tests only.
    #[cfg(feature = "fail-spots")]
    pub fn fail_spot(mut self, spot: impl Into<String>) -> Rearguard {
        self.settings.fail_spot = Some(spot.into());
        self
    }

    /// Sends reports of the store to the collector, now and from this process, because a person asks for it: a button "send now", a tool. What the builder says of store, collector, consent, certificates, transport, query and installation holds; no guard is needed, and none is started.
    ///
    /// Each report has `wait_max` at most. Blocks; `progress` is called before each piece of a body, and a report that another process has in hand is left to it. Each try is noted in the report, as a guard's is; limits, schedule and the number of tries are a guard's alone.
    ///
    /// libcurl is loaded for it, else the `curl` program is started; `progress` may be called from within libcurl, and must not panic. What no server took ends the call: the others are left, and told as such. One call at a time; a second waits.
    ///
    /// With the feature `send-now`.
    ///
    /// # Errors
    ///
    /// A setting that can't be used, no collector, no consent (the variable `<APP>_NO_CRASH_UPLOAD` of this process is a no as well), no such store, no report of that UUID.
    /// What comes of each report is no error.
    #[cfg(feature = "send-now")]
    pub fn send_now(
        &self,
        which: Which<'_>,
        wait_max: Duration,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Vec<SentReport>, Error> {
        sending::send_now(&self.settings, which, wait_max, progress)
    }

    /// Takes this process's role.
    ///
    /// In the worker it makes the channel, starts the guard, arms the crash handler for SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP and SIGSYS, and returns within a fraction of a millisecond.
    /// In the guard it never returns, nor in the first process with [`Topology::GuardFirst`].
    ///
    /// # Errors
    ///
    /// A setting that can't be used ([`Error::is_setting`]), or a second call in one process.
    /// Whatever else goes wrong leaves the application running and is told by [`Handle::health`].
    pub fn start(self) -> Result<Handle, Error> {
        crate::heap::with_frame_pointer();
        self.run_guard_if_asked();
        // For good: a process starts once, and what isn't dropped needs no code for it.
        let settings = Box::leak(self.settings);
        settings.check()?;
        if let Some(check) = settings.hooks_check {
            check(&settings.hooks)?;
        }
        let member = asked_role(settings);
        let settings: &'static Settings = settings;
        let mut handle = Handle {
            worker: Worker::default(),
            #[cfg(feature = "roles")]
            roles: &settings.roles,
        };
        worker::start(settings, member, &mut handle.worker)?;
        Ok(handle)
    }
}

/// Which of the application's roles this process was started for; its choices become those of the settings.
#[cfg(feature = "roles")]
fn asked_role(settings: &mut Settings) -> Option<role::Member> {
    match role::member_of(&process::arguments()) {
        Ok(Some(member)) if !settings.become_role(&member.name) => {
            // To go on would make a second copy of the main process of what was meant as something else.
            guard::refuse_role("this program has no role of that name")
        }
        Ok(member) => member,
        Err(reason) => guard::refuse_role(reason),
    }
}

/// None: there are no roles.
#[cfg(not(feature = "roles"))]
fn asked_role(_settings: &mut Settings) -> Option<role::Member> {
    None
}

/// The program's arguments without those that are rearguard's own, its name first: what an application parses that has roles.
#[cfg(feature = "roles")]
pub fn application_arguments() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::args_os().enumerate().filter_map(|(at, argument)| {
        let is_ours =
            at == 1 && argument.as_encoded_bytes().starts_with(ROLE_ARGUMENT_PREFIX.as_bytes());
        (!is_ours).then_some(argument)
    })
}

/// Becomes the guard and never returns, if this process was started as one; returns at once otherwise.
///
/// [`Rearguard::start`] does this by itself. It is of use when the settings of `start` are read from arguments or files first.
///
/// A guard argument that can't be used (cut short, of another version, repeated, not first, with descriptors that are closed or somebody else's) ends the process with [`EXIT_GUARD_ARGUMENT`] and one line on standard error.
pub fn run_guard_if_asked() {
    hooks::set(hooks::Hooks::default());
    run_guard();
}

/// A path that isn't absolute is below the directory of this process; one that can't be made absolute stays.
fn absolute(path: &Path) -> &Path {
    process::absolute(path).unwrap_or(path)
}

fn run_guard() {
    match role::role_of(&process::arguments()) {
        role::Role::Worker => {}
        role::Role::Guard { nonce } => guard::run(nonce),
        role::Role::Front { worker } => guard::front(worker),
        role::Role::Refused(reason) => guard::refuse(reason),
    }
}

/// Gives the calling thread an alternate signal stack, so that a stack overflow there can be reported.
///
/// Threads of Rust's standard library have one. Call it first in threads that foreign code made, and keep the value for the thread's life.
///
/// # Errors
///
/// ENOMEM when there is no memory for 64 KiB and two guard pages.
pub fn protect_this_thread() -> Result<ThreadProtection, Error> {
    channel::protect_this_thread()
}

/// Whether the calling thread is the one whose crash is being handled.
///
/// # Signal safety
///
/// Signal-safe: an application's own allocator or logger can ask it.
#[must_use]
pub fn is_crashing_thread() -> bool {
    channel::is_crashing_thread()
}

/// The worker's view of its guard and of the lives before.
///
/// Dropping it changes nothing: the guard stays until the process ends.
pub struct Handle {
    worker: Worker,
    #[cfg(feature = "roles")]
    roles: &'static [AppRole],
}

impl Handle {
    /// Which life this is, from 0.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.worker.incarnation
    }

    /// The report about the end of the life before, if there was one and it left one.
    #[must_use]
    pub fn last_report(&self) -> Option<&LastReport> {
        self.worker.last_report.as_ref()
    }

    /// Which of the application's roles this process has; `None` in its main process.
    #[cfg(feature = "roles")]
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        Some(self.worker.role).filter(|role| !role.is_empty())
    }

    /// A command that starts a process of a role: this very file, with the argument that says so in front of whatever is added. Streams, further arguments and inherited descriptors are the application's to choose.
    ///
    /// The process is a child of this one like any other. A later life of it, after a crash, is nobody's child; it has the same arguments, directory, environment and standard streams, so two processes that talk by those go on talking. What the life before had read already is lost with it: wait for the child's end, then say it again.
    ///
    /// Another life of the main process starts its own roles; those of the life before go on until they end, and see the end of their pipes.
    ///
    /// # Errors
    ///
    /// A name that no role has.
    #[cfg(feature = "roles")]
    pub fn role_command(&self, name: &str) -> Result<sys::RoleCommand, Error> {
        let Some(role) = self.roles.iter().find(|role| role.name == name) else {
            return Err(Error::refused("starting a role", name, "no role has this name"));
        };
        Ok(self.worker.role_command(role))
    }

    /// Where the guard stands, and why there: what [`Topology::Auto`] has found, or that the application chose it.
    #[must_use]
    pub fn topology(&self) -> (Topology, &'static str) {
        (self.worker.topology, self.worker.topology_reason)
    }

    /// How the life before ended, if there was one.
    #[must_use]
    pub fn last_exit_class(&self) -> Option<ExitClass> {
        self.worker.last_class
    }

    /// How many lives before this one, in a row, were shorter than the restart policy's minimum uptime; 0 for one that the user has started.
    #[must_use]
    pub fn short_lives(&self) -> u32 {
        self.worker.short_lives
    }

    /// Whether so many short lives came before this one that it had better begin without what may have ended them: plug-ins, the session, the last document. See [`Rearguard::safe_mode_after`]. Also in the first start by hand after a loop that was given up, as soon as that is known: see [`Handle::was_given_up`].
    #[must_use]
    pub fn is_safe_mode(&self) -> bool {
        let is_in_loop =
            self.worker.short_lives >= self.worker.safe_mode_after && self.worker.short_lives > 0;
        is_in_loop || self.was_given_up()
    }

    /// Whether the last run was a crash loop that was given up: nobody was there to be told but whoever starts the application now, by hand. Told once, to the next life whose guard looks; that life is in safe mode too.
    ///
    /// False until the guard has looked into the store, which it does after it is on duty; [`Rearguard::wait_ready`] waits for that too, [`Handle::wait_guarded`] doesn't. Without a resident guard ([`Topology::AtCrash`]) nobody looks, and the word waits for a start that has one. Told also where a role has given notice already; not told of a role's own loop.
    #[must_use]
    pub fn was_given_up(&self) -> bool {
        self.found_in_store() & GIVEN_UP != 0
    }

    /// What the guard has found in the store of earlier lives.
    fn found_in_store(&self) -> u32 {
        self.worker.black_box.map_or(0, |it| it.control.unclean_ends.load(Ordering::Acquire))
    }

    /// How many earlier lives of this application ended together with their guards, so that nobody has seen their end: power, a container that was stopped, a kill of everything at once. Each is told once, to the next life whose guard looks.
    ///
    /// Zero until the guard has looked into the store, which it does after it is on duty; [`Rearguard::wait_ready`] waits for that too. An application without a resident guard ([`Topology::AtCrash`]) leaves no such trace.
    #[must_use]
    pub fn unclean_ends(&self) -> u32 {
        self.found_in_store() & !GIVEN_UP
    }

    /// What the life before left with [`Handle::set_recovery_state`].
    #[must_use]
    pub fn recovery_state(&self) -> Option<&[u8]> {
        self.worker.recovery.as_deref()
    }

    /// Keeps up to 4096 bytes for the next life, in memory that survives a crash. Each call replaces the earlier state.
    ///
    /// # Errors
    ///
    /// A state that is larger.
    pub fn set_recovery_state(&self, state: &[u8]) -> Result<(), Error> {
        self.worker.set_recovery_state(state)
    }

    /// Lets the guard leave, for an installer or an update that replaces the executable, and returns when it has: until [`Handle::release`], no process but this one runs the file, and nothing is started again.
    ///
    /// A crash meanwhile is reported by a guard that comes for it, where the system can start one then (Linux), and is not followed by another life.
    /// With [`Topology::GuardFirst`] the first process stays, since whoever started it waits for it. So does a guard that stands for roles, until the last of them has ended.
    ///
    /// # Errors
    ///
    /// The guard has not left within two seconds; it is asked to all the same.
    pub fn hold(&self) -> Result<(), Error> {
        self.worker.hold()
    }

    /// Ends [`Handle::hold`]: a guard comes back, and a crash is followed by another life again.
    pub fn release(&self) {
        self.worker.release();
    }

    /// Guards the process that was forked from the one that was started, as daemons do: call it there, once, when it has become what it is to be. Until then it is no worse off than without rearguard; the process that it was forked from is guarded as before.
    ///
    /// Another life begins as this one did: with the same arguments, in the same directory, and forks again.
    ///
    /// # Errors
    ///
    /// This is the process that was started, or one that is guarded already; there is no guard for other reasons; the channel can't be made. On Windows, which knows no fork, the first.
    pub fn after_fork(&mut self) -> Result<(), Error> {
        worker::begin_anew(&mut self.worker)
    }

    /// Keeps the user's answer to whether reports may be sent, in the store and for good. A yes counts where the builder was told [`Consent::Ask`] or [`Consent::Granted`]; what waits is sent at once by this life's guard, if one stands by that doesn't stand for roles too; else by the next. A no stops what is being sent now.
    ///
    /// # Errors
    ///
    /// There is no store, or it can't be written. The answer then holds no longer than the question: nobody knows of it.
    pub fn set_consent(&self, is_given: bool) -> Result<(), Error> {
        self.worker.set_consent(is_given)
    }

    /// The user's answer so far, as the store remembers it; `None` for none.
    #[must_use]
    pub fn consent(&self) -> Option<bool> {
        self.worker.consent()
    }

    /// Gives this installation another random identity towards collectors, from the next delivery on.
    ///
    /// # Errors
    ///
    /// There is no store, or it can't be written.
    pub fn reset_installation_id(&self) -> Result<(), Error> {
        self.worker.reset_installation_id()
    }

    /// Says that this life has proved itself: the restart backoff and the count of short lives begin anew.
    pub fn ready(&self) {
        self.worker.ready();
    }

    /// Puts a fact into the reports of this life. A key (1 to 64 bytes) that is there already gets the new value (cut at 256 bytes).
    ///
    /// # Errors
    ///
    /// An empty or longer key, or more than 64 different ones.
    pub fn annotate(&self, key: &str, value: &str) -> Result<(), Error> {
        self.worker.annotate(key, value)
    }

    /// Appends a line to the log ring, whose last 16 KiB go into a report.
    pub fn log(&self, line: &str) {
        self.worker.log(line);
    }

    /// The guard's process id, while one is on duty.
    #[must_use]
    pub fn guard_pid(&self) -> Option<u32> {
        let word = self.worker.black_box?.control.guard.load(Ordering::Acquire);
        rearguard_crashpath::black_box::owner(word).map(family::process_of)
    }

    /// Waits until a guard is on duty, or, with [`Topology::AtCrash`], until a crash can start one whatever it has torn; false when that isn't so after `wait_max`.
    #[must_use]
    pub fn wait_guarded(&self, wait_max: Duration) -> bool {
        self.worker.wait_guarded(wait_max)
    }

    /// How well this process is guarded, and why not better; also where a crash would not be followed by another life although the policy wants one.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut remarks = Vec::new();
        let guarded = match (&self.worker.off, self.worker.black_box) {
            (Some(Off::OptedOut), _) => remark(&mut remarks, "turned off by its variable"),
            (Some(Off::Debugger), _) => remark(&mut remarks, "turned off: a debugger is attached"),
            (Some(Off::PidOne), _) => remark(
                &mut remarks,
                "worker-first can't guard PID 1: the kernel ends the guard with it",
            ),
            (Some(Off::Privileged), _) => remark(
                &mut remarks,
                "turned off: a privileged program needs an absolute store of its own choice, and no guard in front",
            ),
            (Some(Off::Failed(error)), _) => remark(&mut remarks, &error.text()),
            (None, Some(black_box)) => self.guard_remarks(black_box, &mut remarks),
            (None, None) => false,
        };
        if let Some(error) = &self.worker.arm_error {
            remarks.push(error.text());
        }
        #[cfg(feature = "roles")]
        if let Some(error) = &self.worker.family_error {
            remarks.push(error.text());
        }
        let storing = self.store_remarks(&mut remarks);
        if let Some(reason) = self.worker.reason_to_stay_down() {
            remarks.push(["a crash is not followed by another life: ", reason].concat());
        }
        if self.worker.streams_lost {
            remarks.push(String::from("the standard streams could not be kept over the restart"));
        }
        Health {
            guarded,
            armed: self.worker.black_box.is_some() && self.worker.arm_error.is_none(),
            storing,
            remarks,
        }
    }

    /// Says what is wrong with the store, as far as a guard has tried it.
    fn store_remarks(&self, remarks: &mut Vec<String>) -> bool {
        if let Some(error) = &self.worker.store_error {
            remarks.push(error.text());
            return false;
        }
        // Who has no guard has nobody to write a report.
        let Some(black_box) = self.worker.black_box else { return false };
        let state = black_box.control.store.load(Ordering::Relaxed);
        if state < store_state::FAILED {
            let set_aside = self.worker.set_aside_count();
            if set_aside != 0 {
                remarks.push(format!(
                    "{set_aside} damaged or foreign entries of the store were set aside, in {}/aside",
                    self.worker.store.as_str()
                ));
            }
            return true;
        }
        let code = i32::try_from(state - store_state::FAILED).unwrap_or(0);
        remarks.push(Error::system("making the store", &self.worker.store, code).text());
        false
    }

    /// Says how the keeper fares with its guards.
    fn guard_remarks(
        &self,
        black_box: &rearguard_crashpath::black_box::BlackBox,
        remarks: &mut Vec<String>,
    ) -> bool {
        let standing = channel::standing();
        let word = black_box.control.guard.load(Ordering::Acquire);
        let guarded = rearguard_crashpath::black_box::owner(word).is_some();
        if standing.failures > 0 {
            let mut text = format!(
                "{} of {} guards did not take their place",
                standing.failures, standing.starts
            );
            if standing.last_errno != 0 {
                text.push_str(": ");
                text.push_str(&heap::system_reason(standing.last_errno).into_string());
            }
            remarks.push(text);
        }
        if !guarded && self.worker.topology == Topology::AtCrash {
            remarks.push(String::from("no guard stands by; a crash starts one"));
        } else if !guarded {
            remarks.push(String::from(if standing.failures == 0 {
                "the guard is on its way; a crash waits for it"
            } else {
                "no guard is on duty; a crash starts one"
            }));
        }
        guarded
    }

    /// Puts back the signal handlers that were there before [`Rearguard::start`]. The guard stays, and still sees how the process ends.
    pub fn disarm(&self) {
        if self.worker.black_box.is_some() {
            channel::disarm();
        }
    }
}

/// Notes why there is no guard.
fn remark(remarks: &mut Vec<String>, text: &str) -> bool {
    remarks.push(text.to_owned());
    false
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Handle")
            .field("incarnation", &self.incarnation())
            .field("guard_pid", &self.guard_pid())
            .field("last_report", &self.last_report())
            .finish_non_exhaustive()
    }
}

/// How well a process is guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    guarded: bool,
    armed: bool,
    storing: bool,
    remarks: Vec<String>,
}

impl Health {
    /// Whether a guard is on duty now.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// Whether the crash handler is installed.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Whether reports can be kept.
    #[must_use]
    pub fn is_storing(&self) -> bool {
        self.storing
    }

    /// What is not as it should be, a sentence each; empty when all is well.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

impl fmt::Display for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.guarded { "guarded" } else { "not guarded" })?;
        formatter.write_str(if self.armed { ", armed" } else { ", not armed" })?;
        formatter.write_str(if self.storing {
            ", reports are kept"
        } else {
            ", reports are lost"
        })?;
        for remark in &self.remarks {
            formatter.write_str("; ")?;
            formatter.write_str(remark)?;
        }
        Ok(())
    }
}

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../GUIDES.md")]
struct Guides;
