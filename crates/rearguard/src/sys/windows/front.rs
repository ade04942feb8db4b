//! Guard-first: the first process starts the application below itself, and stands in front of it.
//!
//! Whoever started the program knows the first process only: it keeps process id, console and standard streams, and its end is the last life's end.
//! There is no exec here, so it stays what it was when `start()` was called, and does nothing but wait; the guard is a process of its own behind the worker, as ever.
//! It creates every life, since what creates a process decides about its console: a guard that wants a next worker asks for it ([`super::front_page`]).
//!
//! A worker is in a job that ends with this process. What a worker starts is not: neither its guard nor the application's own children.

use std::cell::RefCell;
use std::os::windows::io::{IntoRawHandle, OwnedHandle};
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU64, Ordering};

use rearguard_crashpath::{standing, time};
use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_CANCELLED, ERROR_INVALID_DATA, ERROR_PROCESS_ABORTED, HANDLE,
};
use windows_sys::Win32::Storage::FileSystem::{FILE_TYPE_CHAR, FILE_TYPE_DISK, GetFileType};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
    SetConsoleCtrlHandler, SetStdHandle,
};
use windows_sys::Win32::System::JobObjects::{
    JOB_OBJECT_LIMIT_BREAKAWAY_OK, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK,
};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetPriorityClass, INFINITE, ResumeThread, SetEvent, TerminateProcess,
    WaitForSingleObject,
};

use super::attach::Stream;
use super::front_page::{self, Page, Reached, View, wait_any, word};
use super::handles::{self, last_error, raw, this_process};
use super::spawn::{self, Created, Start};
use super::{keeper, process, wide};
use crate::error::Error;
use crate::heap::{List, kept};
use crate::launch::{LIFE_VARIABLE, LaunchRecord, Succession, remove_single_use};
use crate::limits;
use crate::sys::words::Surroundings;

/// Whether this system has guard-first.
pub(crate) const IS_BUILT: bool = true;

/// How many guards of one life are watched: more than a worker ever has at once.
const GUARDS_MAX: usize = 16;

/// How long the first process waits for the worker when the console is closed, in milliseconds. After five seconds the system ends both (MSDN, HandlerRoutine).
const CLOSE_WAIT_MS: u32 = 4_500;

// The worker's side: it knows where its front is, so that its guards can find it.

/// Where the front of this process's worker is to be found; zero for none. In a guard its worker's.
static PLACE: AtomicU64 = AtomicU64::new(0);

/// Where a front is to be found, by a worker that has one.
pub(crate) struct Front(u64);

impl Front {
    /// The front that this process was told of, if it is there and means this process.
    pub(crate) fn of_number(place: u64) -> Option<Front> {
        Reached::open(place, std::process::id()).map(|_| Front(place))
    }

    /// Lets this process's guards find it.
    pub(super) fn keep(self) {
        PLACE.store(self.0, Ordering::Release);
    }
}

/// Where this process's front is to be found; zero for none.
pub(super) fn place() -> u64 {
    PLACE.load(Ordering::Acquire)
}

/// Lets the front know a new guard, so that it doesn't wait for one that is gone.
pub(super) fn note_guard(created: &Created) {
    if place() == 0 {
        return;
    }
    if let Some(front) = Reached::open(place(), std::process::id()) {
        front.add_guard(raw(&created.process));
    }
}

/// A life's variable as the front writes it: the handle, and behind a colon whose it is.
pub(super) fn split_off(value: &str) -> Option<(&str, Option<u32>)> {
    match value.split_once(':') {
        None => Some((value, None)),
        Some((section, front)) => Some((section, Some(front.parse().ok()?))),
    }
}

/// What a front told this process behind its process id: the page's handle, and what it succeeds, if it does.
pub(super) fn told(front: u32, rest: &[u8]) -> Option<(Option<Succession>, Option<u64>)> {
    let (section, succession) = rest.split_first_chunk::<4>()?;
    let section = u32::from_le_bytes(*section) as usize as HANDLE;
    let succession = match succession {
        [] => None,
        record => Some(Succession::decode(record)?),
    };
    Some((succession, Some(front_page::place(front, section))))
}

// The guard's side.

/// The front of this guard's worker; null for none.
static REACHED: AtomicPtr<Reached> = AtomicPtr::new(core::ptr::null_mut());

fn reached() -> Option<&'static Reached> {
    let reached = REACHED.load(Ordering::Acquire);
    // SAFETY: null, or what `reach` keeps for the life of the process.
    unsafe { reached.as_ref() }
}

/// Finds the front of this guard's worker, if it has one.
pub(super) fn reach(record: &LaunchRecord) {
    let place = record.surroundings.front;
    if place == 0 {
        return;
    }
    PLACE.store(place, Ordering::Release);
    if let Some(front) = Reached::open(place, record.worker_pid) {
        front.be_heard();
        front.reopen();
        REACHED.store(kept(front), Ordering::Release);
    }
}

/// Whether the worker has a process in front of it.
pub(crate) fn is_there() -> bool {
    place() != 0
}

/// The exit code of a front that is gone, asked when the worker is.
pub(super) fn lost() -> Option<u32> {
    reached().filter(|front| front.is_lost()).map(Reached::exit_code)
}

/// Lets the front start the next worker; `None` where there is no front.
pub(super) fn next_worker(
    succession: &[u8],
    streams: &RefCell<[Option<Stream>; 3]>,
) -> Option<Result<u32, u32>> {
    if !is_there() {
        return None;
    }
    Some(
        reached()
            .map_or(Err(ERROR_PROCESS_ABORTED), |front| front.ask(succession, &streams.borrow())),
    )
}

/// Lets the front end with the worker: nothing comes after this life.
pub(crate) fn nothing_follows() {
    if let Some(front) = reached() {
        front.close();
    }
}

/// Whether the program was asked to stop so recently that its end is the answer.
pub(crate) fn stop_was_asked() -> bool {
    let asked_ns = reached().map_or(0, |front| front.page.stop_asked_ns.load(Ordering::Acquire));
    let since_ns = time::monotonic_ns().saturating_sub(asked_ns);
    asked_ns != 0 && since_ns < limits::STOP_MEMORY_MS * 1_000_000
}

/// A request to stop that has come since the worker's end. Who asks is seen to be alive.
pub(crate) fn take_stop() -> Option<i32> {
    let front = reached()?;
    front.be_heard();
    let asked_ns = front.page.stop_asked_ns.load(Ordering::Acquire);
    let ended_ns = front.page.ended_ns.load(Ordering::Acquire);
    (asked_ns != 0 && ended_ns != 0 && asked_ns >= ended_ns).then_some(0)
}

/// The streams that the first process still has, for a next worker that can't have the last one's.
pub(crate) fn own_streams() -> [Option<Stream>; 3] {
    reached().map_or([None, None, None], Reached::streams)
}

// What the other port does by dividing one process: here the guard is another process from the beginning.

/// False: no guard is in front of its worker.
pub(crate) fn is_front() -> bool {
    false
}

/// Refuses.
pub(crate) fn stand(_worker: u32) -> Result<u64, &'static str> {
    Err("a front is no process of its own on this system")
}

/// Ends this process; nobody who isn't in front asks.
pub(crate) fn end_with_worker() -> ! {
    process::exit(crate::role::EXIT_GUARD_NOT_NEEDED)
}

/// Nothing is divided.
pub(crate) fn split(_next: Option<(u32, Front)>) {}

/// How a front is named where it is executed anew.
const _: () = {
    let _ = crate::role::front_argument;
};

// The first process.

/// When the program was last asked to stop, by the monotonic clock; zero for never.
static STOP_ASKED_NS: AtomicU64 = AtomicU64::new(0);
/// The job of the workers.
static JOB: AtomicIsize = AtomicIsize::new(0);
/// The address of the living worker's page, for the thread that the console's keys are told on; zero for none.
static PAGE: Mutex<usize> = Mutex::new(0);

/// Starts the application below this process, and stands in front of it from then on. Comes back only if that can't be had.
pub(crate) fn begin(surroundings: &Surroundings) -> Error {
    hear_keys(true);
    let stream = |number: usize| {
        surroundings.streams.get(number).map_or(core::ptr::null_mut(), |value| *value as HANDLE)
    };
    let streams = [0, 1, 2].map(stream);
    match Recipe::new(surroundings, streams.map(kept_stream)).and_then(|recipe| {
        let life = recipe.first_life(surroundings, streams)?;
        Ok((recipe, life))
    }) {
        Ok((recipe, life)) => {
            let_streams_go(streams, recipe.streams);
            stand_before(&recipe, life)
        }
        Err(error) => {
            hear_keys(false);
            Error::system("starting the application below its guard", "", error as i32)
        }
    }
}

/// Stands in front of one life after the other, and ends as the last has ended.
fn stand_before(recipe: &Recipe, mut life: Life) -> ! {
    loop {
        let code = life.await_end();
        match life.await_next(recipe) {
            Some(next) => life = next,
            None => {
                // Nobody is to end with this process: what it has in its job is what breaks away nowhere.
                lift_limits();
                process::exit(code as i32)
            }
        }
    }
}

/// What every life is made from.
struct Recipe {
    program: Vec<u16>,
    command_line: Vec<u16>,
    environment: Vec<Vec<u16>>,
    /// The standard streams that this process keeps for later lives; null for none.
    streams: [HANDLE; 3],
}

impl Recipe {
    fn new(surroundings: &Surroundings, streams: [HANDLE; 3]) -> Result<Recipe, u32> {
        // A child that asks for a breakaway has to get it as it would without a job.
        let flags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
            | JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK
            | JOB_OBJECT_LIMIT_BREAKAWAY_OK;
        // It lives as long as this process.
        let job = keeper::job(flags)?.into_raw_handle();
        JOB.store(job as isize, Ordering::Release);
        let command_line = surroundings.arguments.first();
        let mut later = surroundings.environment.clone();
        remove_single_use(&mut later);
        Ok(Recipe {
            program: wide::from_bytes(&surroundings.program),
            command_line: command_line.map_or_else(Vec::new, |line| wide::from_bytes(line)),
            environment: in_units(&later),
            streams,
        })
    }

    /// Starts the first life: with everything that this process was given.
    fn first_life(&self, surroundings: &Surroundings, streams: [HANDLE; 3]) -> Result<Life, u32> {
        let mut entries = surroundings.environment.clone();
        entries.as_mut_vec().retain(|entry| !entry.starts_with(LIFE_VARIABLE));
        let streams = streams.iter().any(|stream| is_stream(*stream)).then_some(streams);
        self.start(&[], in_units(&entries), streams, spawn::create_alike)
    }

    /// Starts a later one, with these streams.
    fn later_life(&self, succession: &[u8], streams: [HANDLE; 3]) -> Result<Life, u32> {
        let streams = streams.iter().any(|stream| !stream.is_null()).then_some(streams);
        self.start(succession, self.environment.clone(), streams, spawn::create_suspended)
    }

    fn start(
        &self,
        succession: &[u8],
        mut environment: Vec<Vec<u16>>,
        streams: Option<[HANDLE; 3]>,
        create: fn(&Start<'_>) -> Result<Created, u32>,
    ) -> Result<Life, u32> {
        let section = handles::section(size_of::<Page>())?;
        let page = View::map(raw(&section))?;
        let (news, reply) = (handles::event(false)?, handles::event(false)?);
        page.begin(&news, &reply, self.streams);
        let told = Told::new(&section, succession)?;
        environment.push(told.variable());
        let created = create(&Start {
            program: &self.program,
            command_line: &self.command_line,
            environment: &environment,
            // This process's own, which can't be removed while it is.
            directory: &[],
            streams,
            handles: &[raw(&told.section)],
            job: JOB.load(Ordering::Acquire) as HANDLE,
            flags: priority(),
        })?;
        page.worker.store(created.pid, Ordering::Release);
        let filled = told.fill(created.pid);
        // SAFETY: the handle is the suspended thread's.
        let runs = filled.is_ok() && unsafe { ResumeThread(raw(&created.thread)) } != u32::MAX;
        if !runs {
            let error = filled.err().unwrap_or_else(last_error);
            // SAFETY: the handle is the process's that was just created.
            unsafe { TerminateProcess(raw(&created.process), 1) };
            return Err(error);
        }
        let life = Life {
            process: created.process,
            page,
            news,
            reply,
            guards: Vec::new(),
            pid: created.pid,
            _section: section,
        };
        life.be_seen();
        Ok(life)
    }
}

/// A standard stream, if it is one to be kept for a next worker: a console or a file. The other end of anything else would notice that somebody still holds it.
fn kept_stream(stream: HANDLE) -> HANDLE {
    // SAFETY: no memory is involved; what is no handle is of no type.
    let kind = unsafe { GetFileType(stream) };
    if matches!(kind, FILE_TYPE_CHAR | FILE_TYPE_DISK) { stream } else { core::ptr::null_mut() }
}

/// Lets go of the streams that are not kept; the worker has them.
fn let_streams_go(streams: [HANDLE; 3], kept: [HANDLE; 3]) {
    let numbers = [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE];
    let mut closed = Vec::new();
    for ((stream, kept), number) in streams.into_iter().zip(kept).zip(numbers) {
        if !kept.is_null() {
            continue;
        }
        // Two of them may be one.
        if is_stream(stream) && !closed.contains(&stream) {
            closed.push(stream);
            // SAFETY: nothing of the application's uses it in this process any more.
            unsafe { CloseHandle(stream) };
        }
        // SAFETY: no memory is involved.
        unsafe { SetStdHandle(number, core::ptr::null_mut()) };
    }
}

fn in_units(entries: &[List<u8>]) -> Vec<Vec<u16>> {
    entries.iter().map(|entry| wide::from_bytes(entry)).collect()
}

/// This process's priority, as a creation flag: a higher one isn't inherited.
fn priority() -> u32 {
    // SAFETY: the pseudo handle is always valid.
    unsafe { GetPriorityClass(this_process()) }
}

/// Whether a standard stream's value is one at all.
fn is_stream(stream: HANDLE) -> bool {
    front_page::is_inheritable(stream).is_some()
}

/// What a new worker is told: who it is, where the page is, and what it succeeds.
struct Told {
    section: OwnedHandle,
    content: Vec<u8>,
}

impl Told {
    fn new(page: &OwnedHandle, succession: &[u8]) -> Result<Told, u32> {
        let mut content = vec![0; size_of::<u32>()];
        content.extend_from_slice(&(raw(page) as usize as u32).to_le_bytes());
        content.extend_from_slice(succession);
        let section = handles::section(content.len() + handles::LENGTH_BYTES)?;
        Ok(Told { section, content })
    }

    /// The entry of the environment that names it.
    fn variable(&self) -> Vec<u16> {
        let mut entry = wide::from_bytes(LIFE_VARIABLE);
        let section = (raw(&self.section) as isize).to_string();
        let front = std::process::id().to_string();
        entry.extend([&section, ":", &front].into_iter().flat_map(str::encode_utf16));
        entry
    }

    fn fill(mut self, worker: u32) -> Result<(), u32> {
        self.content.splice(..size_of::<u32>(), worker.to_le_bytes());
        handles::fill(&self.section, &self.content)
    }
}

/// One worker below this process.
struct Life {
    process: OwnedHandle,
    page: View,
    news: OwnedHandle,
    reply: OwnedHandle,
    /// Its guards, as far as they are known and there.
    guards: Vec<OwnedHandle>,
    pid: u32,
    /// Under its value the page is found.
    _section: OwnedHandle,
}

impl Life {
    /// Lets the console's keys be noted in this life's page.
    fn be_seen(&self) {
        if let Ok(mut page) = PAGE.lock() {
            *page = core::ptr::from_ref::<Page>(&self.page) as usize;
            self.page.stop_asked_ns.store(STOP_ASKED_NS.load(Ordering::Acquire), Ordering::Release);
        }
    }

    /// Sleeps until the worker is gone; its exit code.
    fn await_end(&mut self) -> u32 {
        const SLICE_MS: u32 = 1_000;
        loop {
            match wait_any(&[raw(&self.process), raw(&self.news)], INFINITE) {
                Some(0) => break,
                Some(_) => self.look_for_guards(),
                // One of them can't be waited for; the worker's end is what counts.
                None => {
                    // SAFETY: the handle is the worker's.
                    if unsafe { WaitForSingleObject(raw(&self.process), SLICE_MS) } == 0 {
                        break;
                    }
                }
            }
        }
        self.page.ended_ns.store(time::monotonic_ns(), Ordering::Release);
        self.tell();
        let mut code = 0;
        // SAFETY: the handle is the worker's, and the answer goes into a living place.
        unsafe { GetExitCodeProcess(raw(&self.process), &raw mut code) };
        code
    }

    /// Wakes the guard that waits for this process.
    fn tell(&self) {
        // SAFETY: the event is ours.
        unsafe { SetEvent(raw(&self.reply)) };
    }

    /// Takes up the guards that are new, and forgets those that have ended.
    fn look_for_guards(&mut self) {
        self.guards.extend(self.page.take_guards());
        self.guards.retain(|guard| !standing::is_gone(raw(guard)));
        let beyond = self.guards.len().saturating_sub(GUARDS_MAX);
        self.guards.drain(..beyond);
    }

    /// Waits for the guard's word; the next life, or `None` when none comes: nobody is there to ask for it, or who is there is silent.
    fn await_next(&mut self, recipe: &Recipe) -> Option<Life> {
        let mut heard_ns = time::monotonic_ns();
        loop {
            // First who is there, then what was said: a guard's word stands when it has ended.
            self.look_for_guards();
            match self.page.word.load(Ordering::Acquire) {
                word::OVER => return None,
                word::ASKED => {
                    if let Some(next) = self.answer(recipe) {
                        return Some(next);
                    }
                }
                _ => {}
            }
            if self.guards.is_empty() {
                return None;
            }
            let now_ns = time::monotonic_ns();
            // A sign from the future is none.
            let sign_ns = self.page.heard_ns.load(Ordering::Acquire);
            heard_ns = if sign_ns > now_ns { heard_ns } else { heard_ns.max(sign_ns) };
            let silent_ms = (now_ns - heard_ns) / 1_000_000;
            let left_ms = limits::START_MS_MAX.saturating_sub(silent_ms);
            if left_ms == 0 {
                return None;
            }
            let mut objects = vec![raw(&self.news)];
            objects.extend(self.guards.iter().map(raw));
            wait_any(&objects, u32::try_from(left_ms).unwrap_or(u32::MAX - 1));
        }
    }

    /// Starts the next life, as it was asked for, and says what came of it.
    fn answer(&self, recipe: &Recipe) -> Option<Life> {
        let word = &self.page.word;
        word.compare_exchange(word::ASKED, word::TAKEN, Ordering::AcqRel, Ordering::Acquire)
            .ok()?;
        let started = self.start_next(recipe);
        let (outcome, result) = match &started {
            Ok(next) => (word::STARTED, next.pid),
            Err(error) => (word::REFUSED, *error),
        };
        self.page.outcome.store(result, Ordering::Release);
        word.store(outcome, Ordering::Release);
        self.tell();
        started.ok()
    }

    fn start_next(&self, recipe: &Recipe) -> Result<Life, u32> {
        let (record, streams) = self.page.take_request().ok_or(ERROR_INVALID_DATA)?;
        let stop_ns = STOP_ASKED_NS.load(Ordering::Acquire);
        if stop_ns != 0 && stop_ns >= self.page.ended_ns.load(Ordering::Acquire) {
            // It came when the last life was over.
            return Err(ERROR_CANCELLED);
        }
        let succession = handles::read_section(raw(&record), limits::SUCCESSION_BYTES_MAX)
            .ok_or(ERROR_INVALID_DATA)?;
        let streams = streams.each_ref().map(|it| it.as_ref().map_or(core::ptr::null_mut(), raw));
        recipe.later_life(&succession, streams)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Ok(mut page) = PAGE.lock()
            && *page == core::ptr::from_ref::<Page>(&self.page) as usize
        {
            *page = 0;
        }
    }
}

/// Begins to hear the console's keys in the application's place, or leaves off.
fn hear_keys(hear: bool) {
    // SAFETY: the handler only notes what was asked, and lives as long as the process.
    unsafe { SetConsoleCtrlHandler(Some(on_keys), i32::from(hear)) };
}

/// Notes that the program is asked to stop. The worker has the same console and is told by itself, and what comes of it is its own affair.
unsafe extern "system" fn on_keys(event: u32) -> i32 {
    let now_ns = time::monotonic_ns();
    STOP_ASKED_NS.store(now_ns, Ordering::Release);
    if let Ok(page) = PAGE.lock()
        && *page != 0
    {
        // SAFETY: it is the address of a page that is mapped as long as it stands there.
        let page = unsafe { &*(*page as *const Page) };
        page.stop_asked_ns.store(now_ns, Ordering::Release);
    }
    if !matches!(event, CTRL_C_EVENT | CTRL_BREAK_EVENT) {
        // The console is closed, and this process ends when this function does. With the worker it ends before.
        // SAFETY: the pseudo handle is always valid.
        unsafe { WaitForSingleObject(this_process(), CLOSE_WAIT_MS) };
        lift_limits();
    }
    1
}

/// Lets what is in the job outlive this process.
fn lift_limits() {
    keeper::limit(JOB.load(Ordering::Acquire) as HANDLE, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: what a front tells its worker is read back, and what nobody has told is nothing.
    #[test]
    fn what_is_told_is_read_back() {
        assert_eq!(split_off("132"), Some(("132", None)));
        assert_eq!(split_off("132:4294967295"), Some(("132", Some(u32::MAX))));
        for bad in ["132:", "132:x", "132:4294967296", "132:1:2"] {
            assert_eq!(split_off(bad), None, "{bad}");
        }
        let (succession, place) = told(7, &0x84_u32.to_le_bytes()).unwrap();
        assert!(succession.is_none());
        assert_eq!(place, Some(0x7_0000_0084));
        assert!(told(7, &[1, 2, 3]).is_none());
        assert!(told(7, &[0x84, 0, 0, 0, 9]).is_none());
    }

    // Goal: a page is believed by the worker that it is for, and by nobody else.
    #[test]
    fn a_page_is_for_one_worker() {
        let section = handles::section(size_of::<Page>()).unwrap();
        let page = View::map(raw(&section)).unwrap();
        let (news, reply) = (handles::event(false).unwrap(), handles::event(false).unwrap());
        let place = front_page::place(std::process::id(), raw(&section));
        assert!(Reached::open(place, 17).is_none(), "an empty page");
        page.begin(&news, &reply, [core::ptr::null_mut(); 3]);
        page.worker.store(17, Ordering::Release);
        assert!(Reached::open(place, 18).is_none());
        assert!(Reached::open(front_page::place(std::process::id(), raw(&news)), 17).is_none());
        let reached = Reached::open(place, 17).unwrap();
        reached.close();
        assert_eq!(page.word.load(Ordering::Acquire), word::OVER);
        assert_eq!(wait_any(&[raw(&news)], 0), Some(0));
        reached.reopen();
        assert_eq!(page.word.load(Ordering::Acquire), word::OPEN);
    }
}
