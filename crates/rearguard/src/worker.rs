//! The worker's half: steps 1 to 4 of the story, and what the handle does afterwards.
//!
//! Nothing here may make the application worse off than without rearguard: whatever goes wrong after the settings were accepted becomes health, not an error.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rearguard_crashpath::black_box::{
    BlackBox, LOG_WORDS, PANICS_MAX, RECOVERY_WORDS, Words, foreground,
};

use crate::config::{ExitClass, RestartWhen, StartBlock};
use crate::error::Error;
use crate::heap::{List, PutText, Text, add, copied, kept, lossy};
use crate::launch::{LIFE_NAME, Life, Succession, remove_single_use};
use crate::limits;
use crate::report_id::uuid_text;
use crate::role::{self, Member};
use crate::settings::{Settings, Topology, says_yes};
use crate::store;
use crate::sys::family::{self, Door, Tie};
use crate::sys::front::{self, Front};
use crate::sys::words::{Surroundings, Ties};
use crate::sys::{channel, file, process};
use crate::text::{contains, push_number};

/// Why this worker has no guard.
#[derive(Clone, Debug)]
pub(crate) enum Off {
    /// The user turned it off by the variable.
    OptedOut,
    /// A debugger is on the worker and would see every fault first.
    Debugger,
    /// The kernel ends all processes of its namespace with PID 1, the guard too.
    PidOne,
    /// The program runs with more rights than its caller has, and was given no absolute store; no variable of the caller's is believed.
    Privileged,
    /// The channel could not be made.
    Failed(Error),
}

/// The worker's connection to its guard.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) black_box: Option<&'static BlackBox>,
    pub(crate) off: Option<Off>,
    /// The store's path, for a person.
    pub(crate) store: Text,
    pub(crate) store_error: Option<Error>,
    pub(crate) arm_error: Option<Error>,
    pub(crate) topology: Topology,
    /// Why it is that one, for a person.
    pub(crate) topology_reason: &'static str,
    pub(crate) incarnation: u32,
    pub(crate) last_class: Option<ExitClass>,
    pub(crate) last_report: Option<LastReport>,
    pub(crate) streams_lost: bool,
    /// How many lives in a row, before this one, were shorter than the minimum uptime.
    pub(crate) short_lives: u32,
    /// From how many of them on this life is one in safe mode.
    pub(crate) safe_mode_after: u32,
    pub(crate) recovery: Option<List<u8>>,
    /// What a process that is forked from this one begins anew with.
    launch: Option<&'static Launch>,
    /// Annotations and log lines are written by one thread at a time; a crash in between finds the older state.
    writing: Mutex<()>,
    /// Which of the application's roles this process has; empty for its main process.
    pub(crate) role: &'static str,
    /// The sockets of the family that this process is the head of.
    door: Option<Door>,
    #[cfg(feature = "roles")]
    pub(crate) family_error: Option<Error>,
}

/// What this process was started with. It stays, since what is forked from it may begin anew.
struct Launch {
    /// This process's id.
    pid: u32,
    settings: &'static Settings,
    succession: Option<Succession>,
    surroundings: Surroundings,
    /// The store's absolute path; none where there is no place for it.
    store: Option<&'static Path>,
    /// Who else restarts it.
    block: Option<StartBlock>,
}

/// The report about the end of the life before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastReport {
    id: Text,
    exit_class: ExitClass,
}

impl LastReport {
    /// The report's UUID, lower case with dashes; files of the report in the store are named by it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How the life that it is about ended.
    #[must_use]
    pub fn exit_class(&self) -> ExitClass {
        self.exit_class
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// Steps 1 to 4, noted in `worker`. The settings have been checked.
pub(crate) fn start(
    settings: &'static Settings,
    member: Option<Member>,
    worker: &mut Worker,
) -> Result<(), Error> {
    if STARTED.swap(true, Ordering::AcqRel) {
        return Err(Error::refused(
            "starting the guard",
            "",
            "it was started before in this process",
        ));
    }
    worker.safe_mode_after = settings.safe_mode_after.unwrap_or(limits::SAFE_MODE_AFTER_DEFAULT);
    let was_told = process::variable(LIFE_NAME).is_some();
    let (succession, socket) = channel::take_succession();
    let mut ties = Ties::default();
    match member {
        None => ties.front = socket.and_then(Front::of_number),
        Some(member) => {
            // A program with more rights than its caller believes no argument either.
            ties.family = match succession {
                _ if process::is_privileged() => None,
                // What the argument says was for the first life.
                Some(_) => socket.and_then(|socket| Tie::of_number(socket, None)),
                None => Tie::of_number(member.socket, Some(member.inode)),
            };
            worker.role = member.name.leak();
        }
    }
    if let Some(succession) = &succession {
        worker.incarnation = succession.incarnation;
        worker.last_class = Some(succession.last_class);
        worker.last_report = succession
            .last_report
            .map(|id| LastReport { id: uuid_text(id), exit_class: succession.last_class });
        worker.streams_lost = succession.streams_lost;
        worker.short_lives = succession.history.in_a_row;
        worker.recovery = succession.recovery.as_deref().map(|bytes| copied(bytes));
    }
    let is_in_family = family::IS_BUILT && ties.family.is_some();
    let status = process::Status::read();
    (worker.topology, worker.topology_reason) =
        choose_topology(settings, ties.front.is_some(), worker.role);
    // Without its feature nobody can have chosen it.
    let lacks_front =
        front::IS_BUILT && worker.topology == Topology::GuardFirst && ties.front.is_none();
    let begins_below = lacks_front && (succession.is_none() || socket.is_some());
    if lacks_front && !begins_below {
        (worker.topology, worker.topology_reason) = WITHOUT_FRONT;
    }
    worker.off = reason_to_stay_alone(settings, &status, worker.topology);
    if worker.off.is_none() && begins_below {
        // This process becomes the guard, and the application begins anew below it.
        // One that was begun so already, and isn't reached, would begin for ever.
        worker.off = Some(Off::Failed(if was_told {
            Error::refused("finding the guard in front", "", "what lies between has lost it")
        } else {
            front::begin(&process::surroundings(&status))
        }));
    }
    if worker.off.is_none() {
        guard_this_process(settings, &status, succession, ties, worker);
    }
    if let (Some(black_box), Some(wait)) = (worker.black_box, settings.wait_ready) {
        // Who waits anyway is to find a health that knows about the store.
        let begun_ns = process::monotonic_ns();
        let has_own_guard = worker.topology != Topology::AtCrash && !is_in_family;
        if worker.wait_guarded(wait) && has_own_guard {
            let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            channel::wait_store_tried(black_box, begun_ns.saturating_add(wait_ns));
        }
    }
    Ok(())
}

/// There are no roles to be its head for.
#[cfg(not(feature = "roles"))]
fn open_family(_settings: &Settings, _worker: &mut Worker) {}

/// Where the guard of a daemon stands, and of a life that comes after one without a front: whoever waits, waits for a process that has ended.
const WITHOUT_FRONT: (Topology, &str) =
    (Topology::WorkerFirst, "no process can be in front of it any more");

/// Makes this process the head of a family, if it has roles that are to have one guard with it.
#[cfg(feature = "roles")]
fn open_family(settings: &Settings, worker: &mut Worker) {
    let is_wanted =
        settings.has_family() && worker.role.is_empty() && worker.topology == Topology::WorkerFirst;
    if !family::IS_BUILT || !is_wanted {
        return;
    }
    match Door::open() {
        Ok(door) => worker.door = Some(door),
        Err(errno) => {
            worker.family_error = Some(Error::system("making the family's sockets", "", errno));
        }
    }
}

/// Where the guard is to stand, and why there. A process that has one in front of it has it, whatever it chooses.
fn choose_topology(settings: &Settings, has_front: bool, role: &str) -> (Topology, &'static str) {
    if front::IS_BUILT && has_front {
        return (Topology::GuardFirst, "the guard was there first");
    }
    if cfg!(feature = "roles") && !role.is_empty() && settings.topology != Topology::AtCrash {
        return (Topology::WorkerFirst, "a role has its guard behind it");
    }
    if settings.topology != Topology::Auto {
        return (settings.topology, "the application chose it");
    }
    if std::process::id() == 1 && front::IS_BUILT {
        return (Topology::GuardFirst, "this is process 1, and the system ends everything with it");
    }
    if process::outer_supervisor().is_some() {
        return (Topology::AtCrash, "a service manager watches over this process");
    }
    if process::foreground() == foreground::JOB && front::IS_BUILT {
        return (Topology::GuardFirst, "this is the foreground job of a terminal");
    }
    (Topology::WorkerFirst, "nothing speaks for another place")
}

/// Whether this process is to run without a guard.
fn reason_to_stay_alone(
    settings: &Settings,
    status: &process::Status,
    topology: Topology,
) -> Option<Off> {
    let name = &settings.name;
    if process::is_privileged() {
        if topology == Topology::GuardFirst {
            return Some(Off::Privileged);
        }
        let is_absolute = settings.store.as_ref().is_some_and(|path| path.is_absolute());
        if !is_absolute {
            return Some(Off::Privileged);
        }
    } else if says_yes(name, "_NO_CRASH_GUARD") {
        return Some(Off::OptedOut);
    }
    if status.is_traced {
        return Some(Off::Debugger);
    }
    (std::process::id() == 1 && topology == Topology::WorkerFirst).then_some(Off::PidOne)
}

/// Makes black box and launch record, starts the guard, arms the crash handler.
fn guard_this_process(
    settings: &'static Settings,
    status: &process::Status,
    succession: Option<Succession>,
    ties: Ties<'_>,
    worker: &mut Worker,
) {
    let made = connect(settings, ties, worker, |worker| {
        let store = choose_store(settings, worker);
        let mut surroundings = process::surroundings(status);
        remove_single_use(&mut surroundings.environment);
        // Who asks for a restart in place by name has it under an outer supervisor too.
        let block =
            process::outer_supervisor().filter(|_| settings.topology != Topology::GuardFirst);
        kept(Launch { pid: std::process::id(), settings, succession, surroundings, store, block })
    });
    match made {
        Ok(()) => arm(settings, worker),
        Err(error) => worker.off = Some(Off::Failed(error)),
    }
}

/// Makes the channel; what it is made from is gathered while the keeper begins.
fn connect(
    settings: &Settings,
    ties: Ties<'_>,
    worker: &mut Worker,
    gather: impl FnOnce(&mut Worker) -> &'static Launch,
) -> Result<(), Error> {
    open_family(settings, worker);
    let mut door = worker.door.take();
    let heads_family = door.is_some();
    let made = channel::begin(Ties { door: door.as_mut(), ..ties }).and_then(|opening| {
        let launch = gather(worker);
        worker.launch = Some(launch);
        open_channel(launch, opening, heads_family, worker)
    });
    worker.door = door;
    made
}

/// Completes the channel from what this process was started with.
fn open_channel(
    launch: &'static Launch,
    opening: channel::Opening<'_>,
    heads_family: bool,
    worker: &mut Worker,
) -> Result<(), Error> {
    let Launch { settings, succession, surroundings, store, block, pid: _ } = launch;
    let mut nonce = [0; 8];
    process::random(&mut nonce);
    let nonce = u64::from_le_bytes(nonce);
    let mut arguments = List::new();
    if let Some(own_name) = surroundings.arguments.first() {
        add(&mut arguments, copied(own_name));
    }
    add(&mut arguments, role::guard_argument(nonce));
    let life = Life {
        nonce,
        started_boot_ns: process::boot_ns(),
        settings,
        role: worker.role,
        heads_family,
        store: &store.map(process::path_bytes).unwrap_or_default(),
        reporting: settings.reporting(),
        succession: succession.as_ref(),
        block: *block,
        surroundings,
    };
    let black_box = opening.finish(channel::Request {
        nonce,
        record: life.encode(),
        arguments,
        surroundings,
        resident: worker.topology != Topology::AtCrash,
    })?;
    worker.black_box = Some(black_box);
    note_foreground(black_box);
    record_panics(black_box);
    Ok(())
}

/// Installs the crash handler.
fn arm(settings: &Settings, worker: &mut Worker) {
    let Some(black_box) = worker.black_box else { return };
    let arms = channel::Arms {
        dump_wait_ms: settings.dump_wait_ms(),
        callback: settings.callback,
        raise_dumpable: settings.raise_dumpable,
    };
    if let Err(error) = channel::arm(black_box, &arms) {
        worker.arm_error = Some(error);
    }
}

/// Guards a process that was forked from the one that was started, which stays what it is.
pub(crate) fn begin_anew(worker: &mut Worker) -> Result<(), Error> {
    const OPERATION: &str = "going on in a forked process";
    let Some(launch) = worker.launch else {
        return Err(Error::refused(
            OPERATION,
            "",
            "the process that it was forked from has no guard",
        ));
    };
    if launch.pid == std::process::id() || worker.black_box.is_some_and(is_owner) {
        return Err(Error::refused(OPERATION, "", "this is the process that was started"));
    }
    channel::forget();
    worker.black_box = None;
    worker.door = None;
    // The thread that holds it may not be here.
    worker.writing = Mutex::new(());
    if worker.topology == Topology::GuardFirst {
        (worker.topology, worker.topology_reason) = WITHOUT_FRONT;
    }
    if let Err(error) = connect(launch.settings, Ties::default(), worker, |_| launch) {
        worker.off = Some(Off::Failed(error.clone()));
        return Err(error);
    }
    if let Some(black_box) = worker.black_box {
        channel::arm_forked(black_box);
    }
    Ok(())
}

/// Whether a black box is this process's own, and not that of one that it was forked from.
fn is_owner(black_box: &BlackBox) -> bool {
    black_box.header.worker_pid.load(Ordering::Relaxed) == std::process::id()
}

/// The store's absolute path. The guard makes it and tries it, off the application's way.
fn choose_store(settings: &Settings, worker: &mut Worker) -> Option<&'static Path> {
    let Some(path) = settings.store_path() else {
        worker.store_error = Some(Error::refused(
            "choosing the store",
            "",
            "there is no place for it: no absolute path was given, and neither XDG_STATE_HOME nor HOME can be used",
        ));
        return None;
    };
    worker.store = lossy(path.as_os_str().as_encoded_bytes());
    Some(path)
}

/// Notes what this process is to its terminal; once it has ended, the shell has the terminal back and nobody can tell.
fn note_foreground(black_box: &BlackBox) {
    black_box.control.foreground.store(process::foreground(), Ordering::Relaxed);
}

/// The text of a panic, if it is one.
fn message<'a>(info: &'a std::panic::PanicHookInfo<'_>) -> Option<&'a str> {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Whether it is the panic of `print!` and its like at the end of a pipe.
fn is_end_of_a_pipe(info: &std::panic::PanicHookInfo<'_>) -> bool {
    message(info).is_some_and(|text| {
        text.starts_with("failed printing to std") && contains(text.as_bytes(), b"Broken pipe")
    })
}

/// Lets every panic leave its message, place and thread in the black box, then goes on to the hook that was there.
///
/// It doesn't unwind: the only panic in it is that of setting a hook while the thread panics, and a second panic ends the process anyway.
extern "C" fn record_panics(black_box: &'static BlackBox) {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if is_end_of_a_pipe(info) || !is_owner(black_box) {
            // The reader of our output has enough, as in `tool | head`: the usual end of a tool, and no fault. And what a forked child does is not its parent's affair.
            return earlier(info);
        }
        note_foreground(black_box);
        let panics = &black_box.panics;
        let number = panics.count.fetch_add(1, Ordering::AcqRel);
        let Some(slot) = panics.ring.get(number as usize % PANICS_MAX) else { return };
        slot.tid.store(process::thread_id(), Ordering::Relaxed);
        slot.message.store(message(info).unwrap_or("a value that is no text"));
        if let Some(location) = info.location() {
            let mut text = Text::from(location.file());
            for number in [location.line(), location.column()] {
                text.put_char(':');
                push_number(&mut text, u64::from(number));
            }
            slot.location.store(&text);
        }
        let thread = std::thread::current();
        slot.thread.store(thread.name().unwrap_or("unnamed"));
        slot.real_ns.store(process::real_ns(), Ordering::Relaxed);
        earlier(info);
    }));
}

impl Worker {
    /// Waits until a guard is on duty, or, where none stands by, until a crash could start one; for at most `wait`.
    pub(crate) fn wait_guarded(&self, wait: Duration) -> bool {
        let Some(black_box) = self.black_box else { return false };
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = process::monotonic_ns().saturating_add(wait_ns);
        if self.topology == Topology::AtCrash {
            channel::wait_callable(black_box, deadline_ns)
        } else {
            channel::wait_guarded(black_box, deadline_ns)
        }
    }

    /// A command that starts a process of one of the application's roles.
    #[cfg(feature = "roles")]
    pub(crate) fn role_command(&self, role: &crate::settings::AppRole) -> crate::sys::RoleCommand {
        // The guard that stands for a role must be one that stands here.
        let door = self.door.as_ref().filter(|_| !role.own_guard && self.off.is_none());
        let told = door.and_then(Door::told);
        let argument = role::role_argument(&role.name, told);
        let mut command = process::own_command();
        command.arg(String::from_utf8_lossy(&argument).as_ref());
        if let (Some(door), Some(_)) = (door, told) {
            door.lend(&mut command);
        }
        command
    }

    /// What is known now that forbids another life, whatever the policy wants.
    pub(crate) fn reason_to_stay_down(&self) -> Option<&'static str> {
        let launch = self.launch?;
        let policy = &launch.settings.restart;
        if policy.when == RestartWhen::Never {
            return None;
        }
        let is_left_to_others =
            |block: &StartBlock| !(policy.explicit && block.yields_to_explicit());
        if let Some(block) = launch.block.filter(is_left_to_others) {
            return Some(block.as_str());
        }
        let is_job = self.topology != Topology::GuardFirst
            && self.role.is_empty()
            && self.black_box.is_some_and(|black_box| {
                black_box.control.foreground.load(Ordering::Relaxed) == foreground::JOB
            });
        is_job.then_some("it is a terminal's foreground job, and its guard isn't in front of it")
    }

    /// The black box, in the process that it belongs to: what a forked child says is not its parent's.
    fn own_box(&self) -> Option<&'static BlackBox> {
        self.black_box.filter(|black_box| is_owner(black_box))
    }

    /// Keeps the user's answer, and lets the guard send what has waited for it.
    pub(crate) fn set_consent(&self, is_given: bool) -> Result<(), Error> {
        store::remember_consent(self.needed_store()?, is_given)?;
        if let Some(black_box) = self.own_box().filter(|_| is_given) {
            channel::call_for_delivery(black_box);
        }
        Ok(())
    }

    /// The user's answer so far.
    pub(crate) fn consent(&self) -> Option<bool> {
        store::consent(self.store_path()?)
    }

    pub(crate) fn reset_installation_id(&self) -> Result<(), Error> {
        store::forget_installation(self.needed_store()?)
    }

    /// How many things in the store are no reports, and were set aside.
    pub(crate) fn set_aside_count(&self) -> usize {
        self.store_path().map_or(0, |store| file::count(&store.join(store::ASIDE)))
    }

    fn store_path(&self) -> Option<&'static Path> {
        self.launch?.store
    }

    fn needed_store(&self) -> Result<&'static Path, Error> {
        self.store_path()
            .ok_or_else(|| Error::refused("finding the store", "", "this process has none"))
    }

    /// Tells the guard that this life has proved itself.
    pub(crate) fn ready(&self) {
        if let Some(black_box) = self.own_box() {
            black_box.control.ready.store(1, Ordering::Release);
        }
    }

    /// Calls the guard off.
    pub(crate) fn hold(&self) -> Result<(), Error> {
        let Some(black_box) = self.own_box() else { return Ok(()) };
        // One that is on its way would come all the same, and leave a moment later.
        self.wait_guarded(Duration::from_millis(limits::HOLD_MS_MAX));
        black_box.control.held.store(1, Ordering::Release);
        if self.topology == Topology::GuardFirst {
            return Ok(());
        }
        let deadline_ns = process::monotonic_ns().saturating_add(limits::HOLD_MS_MAX * 1_000_000);
        if channel::call_off(black_box, deadline_ns) {
            Ok(())
        } else {
            Err(Error::refused("holding the guard off", "", "it has not left within two seconds"))
        }
    }

    /// Lets a guard come back.
    pub(crate) fn release(&self) {
        let Some(black_box) = self.own_box() else { return };
        // The guard that left has closed the start.
        black_box.control.open_start();
        black_box.control.held.store(0, Ordering::Release);
        channel::call_back(black_box);
    }

    /// Puts a fact into the report of a crash that may come.
    pub(crate) fn annotate(&self, key: &str, value: &str) -> Result<(), Error> {
        let Some(black_box) = self.own_box() else { return Ok(()) };
        if key.is_empty() || key.len() > 64 {
            return Err(Error::refused("annotating", key, "the key must have 1 to 64 bytes"));
        }
        let _writing = self.writing.lock();
        let mut bytes = [0; 64];
        let is_key = |place: &rearguard_crashpath::black_box::Annotation, bytes: &mut [u8; 64]| {
            let length = place.key.load(bytes);
            bytes.get(..length) == Some(key.as_bytes())
        };
        let annotations = &black_box.annotations;
        let used = black_box.control.annotated.load(Ordering::Relaxed) as usize;
        let known = annotations.iter().take(used).find(|place| is_key(place, &mut bytes));
        let Some(place) = known.or_else(|| annotations.get(used)) else {
            return Err(Error::refused("annotating", key, "all 64 places are taken"));
        };
        place.value.store(value);
        place.key.store(key);
        if known.is_none() {
            black_box.control.annotated.store(used as u32 + 1, Ordering::Release);
        }
        Ok(())
    }

    /// Appends a line to the log ring.
    pub(crate) fn log(&self, line: &str) {
        let Some(black_box) = self.own_box() else { return };
        let _writing = self.writing.lock();
        let ring = &black_box.log;
        let mut at = ring.written.load(Ordering::Relaxed);
        let room = LOG_WORDS * 8 - 1;
        let mut end = line.len().min(room);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        for byte in line.bytes().take(end).chain(*b"\n") {
            put_byte(&ring.ring, at as usize % (LOG_WORDS * 8), byte);
            at += 1;
        }
        ring.written.store(at, Ordering::Release);
    }

    /// Keeps what the next life needs to recover.
    pub(crate) fn set_recovery_state(&self, state: &[u8]) -> Result<(), Error> {
        if state.len() > RECOVERY_WORDS * 8 {
            return Err(Error::refused(
                "keeping the recovery state",
                "",
                "it is larger than 4096 bytes",
            ));
        }
        if let Some(black_box) = self.own_box() {
            let _writing = self.writing.lock();
            black_box.recovery.store_bytes(state);
        }
        Ok(())
    }
}

/// Replaces one byte of a word.
fn put_byte<const N: usize>(words: &Words<N>, position: usize, byte: u8) {
    let index = position / 8;
    let shift = position % 8 * 8;
    let word = words.get(index) & !(0xff << shift);
    words.set(index, word | u64::from(byte) << shift);
}
