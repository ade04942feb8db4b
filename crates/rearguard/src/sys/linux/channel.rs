//! The worker's side of the channel: black box, launch record, keeper, crash handler.
//!
//! All descriptors are made by the keeper, in a descriptor table of its own, so that the application's table never shows them.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use rearguard_crashpath::black_box::{
    BLACK_BOX_BYTES, BlackBox, FUTEX_WAITERS, guard, owner, store,
};
#[cfg(feature = "roles")]
use rearguard_crashpath::family::Family;
use rearguard_crashpath::handler::{self, Arming};
use rearguard_crashpath::keeper::{self, Keeping};
use rearguard_crashpath::spawn::{self, HANDOVER_MAX, Handed, Kinship, Outcome, PID_PLACES, Plan};
use rearguard_crashpath::stack::{self, Stack};
use rearguard_crashpath::{futex, guards, limits, robust, standing, syscall, time};

use super::process::last_errno;
use super::strings::{CText, string_array};
use super::{family, file, front, memfd, process, thread};
use crate::error::Error;
use crate::heap::{List, kept};
use crate::launch::{LIFE_NAME, Succession};
use crate::limits::SUCCESSION_BYTES_MAX;
use crate::sys::words::{Surroundings, Ties};
use crate::text::number;

pub use rearguard_crashpath::CrashInfo;
pub(crate) use rearguard_crashpath::guards::standing;

/// Where each thing lies among the descriptors that a guard gets, from number 3 on.
pub(crate) const BLACK_BOX_PLACE: usize = 0;
pub(crate) const RECORD_PLACE: usize = 1;
pub(crate) const EXECUTABLE_PLACE: usize = 2;
pub(crate) const PIDFD_PLACE: usize = 3;
/// The guard of a family has both ends of its sockets behind the place of READY.
pub(crate) const GUARDS_END_PLACE: usize = 5;
pub(crate) const ROLES_END_PLACE: usize = 6;

/// How long `start()` waits for the keeper to make the channel, in milliseconds. It takes a tenth of one; a machine that can't run a thread for two seconds runs the application without a guard.
const CHANNEL_MS_MAX: u64 = 2_000;

/// How long the application's thread looks around for the keeper's word before it sleeps, in nanoseconds.
const LOOK_NS_MAX: u64 = 500_000;

/// The keeper's stack in bytes: the C library takes a part of it for thread-local storage, and the rest of rearguard's own use is below 8 KiB.
const KEEPER_STACK_BYTES: usize = 128 * 1024;

/// What the channel is made from.
pub(crate) struct Request {
    pub(crate) nonce: u64,
    pub(crate) record: List<u8>,
    /// The guard's arguments, its own name first.
    pub(crate) arguments: List<List<u8>>,
    pub(crate) surroundings: &'static Surroundings,
    /// Whether a guard is started at once, or only when a crash calls for one.
    pub(crate) resident: bool,
}

/// What the application's thread and the keeper hand each other while the channel is made.
struct Exchange {
    /// One of the values below; the keeper's word.
    made: AtomicU32,
    black_box: AtomicPtr<BlackBox>,
    errno: AtomicI32,
    /// 0 until the request is there, then 1; the application's word.
    asked: AtomicU32,
    /// Given away by the application, taken by the keeper; null before and after.
    request: AtomicPtr<Request>,
    /// The sockets that the keeper is to have in its own table, and what they are; -1 for none.
    sockets: [AtomicI32; 2],
    ties: AtomicU32,
}

/// There is one channel in a process's life.
static EXCHANGE: Exchange = Exchange {
    made: AtomicU32::new(NOT_YET),
    black_box: AtomicPtr::new(core::ptr::null_mut()),
    errno: AtomicI32::new(0),
    asked: AtomicU32::new(0),
    request: AtomicPtr::new(core::ptr::null_mut()),
    sockets: [const { AtomicI32::new(-1) }; 2],
    ties: AtomicU32::new(ALONE),
};

/// No sockets.
const ALONE: u32 = 0;
/// One to the process in front of this one.
const BELOW_FRONT: u32 = 1;
/// One to the guard of this role's family.
const IN_FAMILY: u32 = 2;
/// Both ends of a family's own.
const HEADS_FAMILY: u32 = 3;

/// The black box isn't there yet.
const NOT_YET: u32 = 0;
/// The black box can be used.
const MADE: u32 = 1;
/// There will be none.
const FAILED: u32 = 2;

/// A channel that the keeper is making while its caller gathers the launch record.
pub(crate) struct Opening<'a> {
    /// The keeper has them in its own table; the application's shows nothing of them once the channel is made.
    ties: Ties<'a>,
}

/// Starts the keeper, which begins with the black box.
pub(crate) fn begin(ties: Ties<'_>) -> Result<Opening<'_>, Error> {
    let (kind, sockets) = match (&ties.front, &ties.family, &ties.door) {
        (Some(front), _, _) => (BELOW_FRONT, [front.fd(), -1]),
        (_, Some(tie), _) => (IN_FAMILY, [tie.fd(), -1]),
        (_, _, Some(door)) => (HEADS_FAMILY, door.numbers()),
        _ => (ALONE, [-1; 2]),
    };
    if HAS_TIES {
        for (place, socket) in EXCHANGE.sockets.iter().zip(sockets) {
            place.store(socket, Ordering::Relaxed);
        }
        EXCHANGE.ties.store(kind, Ordering::Release);
    }
    standing::announce();
    if let Err(errno) = thread::start(keeper_entry, KEEPER_STACK_BYTES, handler::crash_signals()) {
        standing::give_up(errno);
        return Err(Error::system("starting the keeper", "", errno));
    }
    Ok(Opening { ties })
}

impl Opening<'_> {
    /// Waits for the black box, and leaves the rest to the keeper: sealing the record, starting the guard.
    pub(crate) fn finish(mut self, request: Request) -> Result<&'static BlackBox, Error> {
        let exchange = &EXCHANGE;
        exchange.request.store(kept(request), Ordering::Release);
        exchange.asked.store(1, Ordering::Release);
        futex::wake_all(&exchange.asked);
        let made = wait_changed(&exchange.made, NOT_YET, LOOK_NS_MAX);
        if let Some(door) = &mut self.ties.door {
            door.leave_to_keeper();
        }
        // SAFETY: the keeper stores the mapping, which lives as long as the process, or nothing.
        match unsafe { exchange.black_box.load(Ordering::Acquire).as_ref() } {
            Some(black_box) => Ok(black_box),
            None if made => {
                let errno = exchange.errno.load(Ordering::Relaxed);
                Err(Error::system("making the black box", "", errno))
            }
            None => Err(Error::system("making the black box", "", libc::ETIMEDOUT)),
        }
    }
}

/// Waits until a word of the exchange is no longer `from`; false when it still is after the limit.
/// With `look_ns` it looks around before it sleeps, and lets others run meanwhile: the other side needs microseconds, a sleep and a wake-up a hundred of them.
fn wait_changed(word: &AtomicU32, from: u32, look_ns: u64) -> bool {
    let start_ns = time::monotonic_ns();
    while time::monotonic_ns().saturating_sub(start_ns) < look_ns {
        if word.load(Ordering::Acquire) != from {
            return true;
        }
        process::let_others_run();
    }
    let deadline_ns = start_ns + CHANNEL_MS_MAX * 1_000_000;
    while word.load(Ordering::Acquire) == from {
        if futex::wait(word, from, Some(deadline_ns)) == futex::Woken::TimedOut {
            return false;
        }
    }
    true
}

/// Whether this build knows of other processes that a worker can be tied to.
const HAS_TIES: bool = front::IS_BUILT || family::IS_BUILT;

/// The sockets that the keeper is to have.
fn sockets() -> [RawFd; 2] {
    if !HAS_TIES {
        return [-1; 2];
    }
    EXCHANGE.sockets.each_ref().map(|socket| socket.load(Ordering::Acquire))
}

/// The keeper's first steps: its own descriptors, black box, record, plan. Then it keeps.
extern "C" fn keeper_entry(_none: *mut libc::c_void) -> *mut libc::c_void {
    crate::heap::with_frame_pointer();
    own_descriptor_table(sockets());
    let keeping = match prepare(&EXCHANGE) {
        Ok(keeping) => keeping,
        Err(errno) => {
            standing::give_up(errno);
            return core::ptr::null_mut();
        }
    };
    // SAFETY: plan, strings and mapping were made for this call and are never given back.
    unsafe { keeper::keep(&keeping) }
}

/// Says what became of the black box.
fn tell(exchange: &Exchange, made: Result<&'static BlackBox, i32>) {
    let word = match made {
        Ok(black_box) => {
            let pointer = core::ptr::from_ref(black_box).cast_mut();
            exchange.black_box.store(pointer, Ordering::Release);
            MADE
        }
        Err(errno) => {
            exchange.errno.store(errno, Ordering::Relaxed);
            FAILED
        }
    };
    exchange.made.store(word, Ordering::Release);
    futex::wake_all(&exchange.made);
}

/// Gives this thread a descriptor table of its own, empty but for `kept`, where that isn't negative.
/// `close_range` does it in one call, and is open in containers whose filters refuse `unshare`.
/// Where neither works the table stays shared: the descriptors are then the application's to see, and nothing is closed.
fn own_descriptor_table(kept: [RawFd; 2]) {
    let [one, other] = kept;
    let (low, high) = (one.min(other), one.max(other));
    // Without one to keep, everything is behind it.
    let behind = (high + 1) as libc::c_uint;
    let unshare_flag = libc::CLOSE_RANGE_UNSHARE;
    // SAFETY: with the flag, only this thread's own new copy of the table is closed.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, behind, libc::c_uint::MAX, unshare_flag) };
    if done == 0 {
        for (first, last) in [(0, low - 1), (low + 1, high - 1)] {
            if first <= last {
                // SAFETY: the table is this thread's own.
                unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            }
        }
        return;
    }
    // SAFETY: no memory is involved.
    if unsafe { libc::unshare(libc::CLONE_FILES) } == 0 {
        (0..65_536).filter(|fd| !kept.contains(fd)).for_each(syscall::close);
    }
}

/// While it lives, the calling thread that is woken doesn't push its waker off the processor: who asks for a guard has something else to do.
///
/// A batch thread does that (sched(7)); it waits for a turn of its own. Threads that aren't ordinary ones are left what they are.
struct Courtesy {
    is_batch: bool,
}

impl Courtesy {
    fn begin() -> Courtesy {
        // SAFETY: no memory is involved. The C library's functions aren't used because musl's refuse.
        let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
        let is_ordinary = policy == libc::c_long::from(libc::SCHED_OTHER);
        Courtesy { is_batch: is_ordinary && set_policy(libc::SCHED_BATCH) }
    }
}

impl Drop for Courtesy {
    fn drop(&mut self) {
        if self.is_batch {
            set_policy(libc::SCHED_OTHER);
        }
    }
}

fn set_policy(policy: i32) -> bool {
    // The one priority that ordinary threads have; the kernel's structure is this number.
    let priority: libc::c_int = 0;
    // SAFETY: the kernel reads one structure.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) == 0 }
}

/// Makes everything that a guard will need: first the black box, for which the application waits, then the rest, for which it doesn't.
fn prepare(exchange: &Exchange) -> Result<Keeping, i32> {
    // Copies of our own: where the table is shared, the application closes the others when `start()` returns.
    let mut copies = [None, None];
    if HAS_TIES {
        for (copy, socket) in copies.iter_mut().zip(sockets()) {
            if socket >= 0 {
                // Where the limit is too low for a high number, a low one has to do.
                *copy = Some(duplicate(socket, OUT_OF_THE_WAY).or_else(|_| duplicate(socket, 0))?);
            }
        }
    }
    let ties = if HAS_TIES { exchange.ties.load(Ordering::Acquire) } else { ALONE };
    let made = make_black_box();
    tell(exchange, made.as_ref().map(|(black_box, _)| *black_box).map_err(|errno| *errno));
    let (black_box, box_fd) = made?;
    // On a busy machine the application's thread stands behind this one on the same processor; nothing of the rest keeps it.
    process::let_others_run();
    let box_fd = out_of_the_way(box_fd);
    // SAFETY: the name is NUL-terminated and shorter than sixteen bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"rearguard".as_ptr()) };
    let pidfd = out_of_the_way(own_pidfd()?);
    let executable = open_executable().map(out_of_the_way);
    let courtesy = Courtesy::begin();
    let is_asked = wait_changed(&exchange.asked, 0, 0);
    drop(courtesy);
    if !is_asked {
        return Err(libc::ETIMEDOUT);
    }
    let request = exchange.request.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if request.is_null() {
        return Err(libc::EINVAL);
    }
    // SAFETY: it came from a box that was given away, and the swap has left it to nobody else.
    let request = unsafe { Box::from_raw(request) };
    black_box.header.nonce.store(request.nonce, Ordering::Release);
    let record_fd = memfd::sealed(c"rearguard-launch-record", &request.record)?;
    let record_fd = out_of_the_way(record_fd);
    let number = |fd: &Option<OwnedFd>| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let [first, second] = copies.each_ref().map(number);
    if ties == BELOW_FRONT {
        let fds = [box_fd.as_raw_fd(), record_fd.as_raw_fd(), number(&executable)];
        front::hand_over(first, request.nonce, fds)?;
        return Ok(Keeping {
            black_box,
            plan: core::ptr::null_mut(),
            resident: false,
            family: None,
        });
    }
    let mut plan = guard_plan(&request, [&box_fd, &record_fd, &pidfd], executable.as_ref())?;
    if ties == HEADS_FAMILY {
        guards::note_divided();
        for (place, fd) in [(GUARDS_END_PLACE, first), (ROLES_END_PLACE, second)] {
            if let Some(handed) = plan.handed.get_mut(place) {
                handed.fd = fd;
            }
        }
    }
    #[cfg(feature = "roles")]
    let family = (ties == IN_FAMILY && request.resident).then(|| Family {
        socket: first,
        nonce: request.nonce,
        given: [box_fd.as_raw_fd(), record_fd.as_raw_fd(), pidfd.as_raw_fd()],
        executable: number(&executable),
    });
    #[cfg(not(feature = "roles"))]
    let family = None;
    // The keeper uses them for as long as the process lives.
    let [first, second] = copies;
    let all = [Some(box_fd), Some(record_fd), Some(pidfd), executable, first, second];
    for fd in all.into_iter().flatten() {
        let _ = fd.into_raw_fd();
    }
    Ok(Keeping { black_box, plan: kept(plan), resident: request.resident, family })
}

/// Moves a descriptor to a higher number, so that low ones are free for a pipe even when the application has lowered its limit to a few.
fn out_of_the_way(fd: OwnedFd) -> OwnedFd {
    duplicate(fd.as_raw_fd(), OUT_OF_THE_WAY).unwrap_or(fd)
}

/// The lowest number that is out of the way.
const OUT_OF_THE_WAY: RawFd = 16;

/// A copy of a descriptor, with this number or a higher one.
fn duplicate(fd: RawFd, lowest: RawFd) -> Result<OwnedFd, i32> {
    // SAFETY: no memory is involved.
    let higher = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest) };
    if higher < 0 {
        return Err(last_errno());
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    Ok(unsafe { memfd::take(higher) })
}

/// Makes and maps the black box.
fn make_black_box() -> Result<(&'static BlackBox, OwnedFd), i32> {
    let box_fd = memfd::create(c"rearguard-black-box", BLACK_BOX_BYTES)?;
    memfd::seal(&box_fd, memfd::SIZE_SEALS)?;
    let mapping = memfd::map(box_fd.as_raw_fd(), BLACK_BOX_BYTES)?;
    // SAFETY: the mapping is large enough, aligned to a page, zeroed, and never given back; every content is valid.
    let black_box = unsafe { &*mapping.cast::<BlackBox>() };
    let mut report_id = [0; 16];
    process::random(&mut report_id);
    black_box.begin(std::process::id(), report_id);
    Ok((black_box, box_fd))
}

/// A pidfd on ourselves: the guard inherits it, so it never depends on a number that could be used again.
fn own_pidfd() -> Result<OwnedFd, i32> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    Ok(unsafe { memfd::take(fd as RawFd) })
}

/// Holds the executable's inode, so that a guard is the same program although the file was replaced meanwhile.
fn open_executable() -> Option<OwnedFd> {
    let by_name = |name: &[u8]| file::open(process::path(name), libc::O_PATH).ok();
    by_name(b"/proc/self/exe").or_else(|| by_name(&process::executed_name()?))
}

/// How to start a guard. Its strings lie in memory of their own, since the heap may be torn when it is used.
fn guard_plan(
    request: &Request,
    [box_fd, record_fd, pidfd]: [&OwnedFd; 3],
    executable: Option<&OwnedFd>,
) -> Result<Plan, i32> {
    let mut handed = [Handed::NONE; HANDOVER_MAX];
    let given = [
        (BLACK_BOX_PLACE, Some(box_fd)),
        (RECORD_PLACE, Some(record_fd)),
        (EXECUTABLE_PLACE, executable),
        (PIDFD_PLACE, Some(pidfd)),
    ];
    for (place, fd) in given {
        if let (Some(handed), Some(fd)) = (handed.get_mut(place), fd) {
            handed.fd = fd.as_raw_fd();
        }
    }
    let stack = || Stack::map(limits::SPAWN_STACK_BYTES).map_err(|error| error.0);
    Ok(Plan {
        path: core::ptr::null(),
        executable_place: EXECUTABLE_PLACE,
        arguments: string_array(&request.arguments, None)?.0,
        environment: string_array(&request.surroundings.environment, None)?.0,
        pid_digits: [core::ptr::null_mut(); PID_PLACES],
        kinship: Kinship::Orphan,
        keeps_descriptors: false,
        streams: [-1; 3],
        handed,
        signal_mask: 0,
        ignored_signals: 0,
        directory: c"/".as_ptr().cast(),
        umask: u32::MAX,
        // A guard that comes late isn't to have what the program has done to its own.
        rlimits: process::planned_rlimits(request.surroundings),
        alarm_ms: limits::GUARD_READY_MS_MAX + limits::GUARD_ALARM_SLACK_MS,
        gate: None,
        outcome: Outcome::new(),
        stacks: [stack()?, stack()?],
    })
}

/// Forgets, in a forked process, everything that is its parent's.
pub(crate) fn forget() {
    EXCHANGE.made.store(NOT_YET, Ordering::Relaxed);
    EXCHANGE.black_box.store(core::ptr::null_mut(), Ordering::Relaxed);
    EXCHANGE.asked.store(0, Ordering::Relaxed);
    guards::forget();
    robust::forget();
}

/// Lets the crash handler, which a forked process has inherited, work for it.
pub(crate) fn arm_forked(black_box: &'static BlackBox) {
    handler::arm_forked(black_box);
}

/// What the crash handler is to know of the application's choices.
pub(crate) struct Arms {
    pub(crate) dump_wait_ms: u32,
    pub(crate) callback: Option<fn(&CrashInfo)>,
    pub(crate) raise_dumpable: bool,
}

/// Installs the crash handler, and gives the calling thread an alternate stack if it has none.
pub(crate) fn arm(black_box: &'static BlackBox, arms: &Arms) -> Result<(), Error> {
    // The application's first thread is protected for the life of the process.
    core::mem::forget(ThreadProtection::new()?);
    handler::arm(&Arming {
        black_box,
        dump_wait_ms: arms.dump_wait_ms,
        callback: arms.callback,
        runtime_handler: runtime_handler(),
        raise_dumpable: arms.raise_dumpable,
    })
    .map_err(|error| Error::system("installing the crash handler", "", error.0))
}

/// The Rust runtime's own handler for stack overflows, if that is what is installed.
///
/// It can't be named, so it is known by its traces: one handler for SIGSEGV and SIGBUS, none for the others, with the runtime's flags, in the same object as this code.
fn runtime_handler() -> usize {
    let action = |signal| {
        let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: the pointer refers to room for the structure; asking changes nothing.
        unsafe { libc::sigaction(signal, core::ptr::null(), action.as_mut_ptr()) };
        // SAFETY: every bit pattern is valid for the structure, and it was zeroed.
        unsafe { action.assume_init() }
    };
    let (segv, bus, ill) = (action(libc::SIGSEGV), action(libc::SIGBUS), action(libc::SIGILL));
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    let alike = segv.sa_sigaction == bus.sa_sigaction && segv.sa_sigaction != ill.sa_sigaction;
    let is_runtime = alike
        && segv.sa_sigaction > libc::SIG_IGN
        && segv.sa_flags & flags == flags
        && segv.sa_flags & libc::SA_NODEFER == 0
        && object_of(segv.sa_sigaction) == object_of(runtime_handler as *const () as usize);
    if is_runtime { segv.sa_sigaction } else { 0 }
}

/// Where the loaded object begins that an address belongs to; zero where that isn't known, as in a static program.
fn object_of(address: usize) -> usize {
    let mut info = core::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the pointer refers to room for the structure; any address may be asked about.
    if unsafe { libc::dladdr(address as *const libc::c_void, info.as_mut_ptr()) } == 0 {
        return 0;
    }
    // SAFETY: dladdr filled it; it was zeroed before.
    unsafe { info.assume_init() }.dli_fbase as usize
}

/// An alternate signal stack for the calling thread, so that a stack overflow there can be handled.
///
/// Threads of Rust's standard library have one already, of 8 KiB; it is replaced while this lives, since foreign signal handlers run there too.
/// Dropping it, on the same thread, puts the earlier one back.
#[derive(Debug)]
pub struct ThreadProtection {
    /// `None` when the thread had one that is large enough.
    stack: Option<Stack>,
    earlier: libc::stack_t,
    /// An alternate stack belongs to its thread.
    _this_thread_only: core::marker::PhantomData<*const ()>,
}

impl ThreadProtection {
    fn new() -> Result<ThreadProtection, Error> {
        let earlier = stack::alternate();
        let mut protection =
            ThreadProtection { stack: None, earlier, _this_thread_only: core::marker::PhantomData };
        let has_one = earlier.ss_flags & libc::SS_DISABLE == 0;
        if has_one && earlier.ss_size >= limits::ALTERNATE_STACK_BYTES {
            return Ok(protection);
        }
        let error = |errno| Error::system("making an alternate signal stack", "", errno);
        let memory = Stack::map(limits::ALTERNATE_STACK_BYTES).map_err(|failed| error(failed.0))?;
        // SAFETY: the memory is new, and given back only after it is no alternate stack any more.
        unsafe { stack::set_alternate(memory.lowest(), memory.bytes()) }
            .map_err(|failed| error(failed.0))?;
        protection.stack = Some(memory);
        Ok(protection)
    }
}

impl Drop for ThreadProtection {
    fn drop(&mut self) {
        let Some(memory) = self.stack else { return };
        if stack::alternate().ss_sp as usize != memory.lowest() {
            // Somebody else has put another in its place; ours may still be in use by what they saved.
            return;
        }
        // SAFETY: it is what was in force before; its owner takes it away no sooner than the thread ends.
        if unsafe { stack::exchange_alternate(&self.earlier) }.is_ok() {
            // SAFETY: the memory is ours and no longer in use.
            unsafe { memory.unmap() };
        }
    }
}

/// Gives the calling thread an alternate signal stack, unless it has one that is large enough.
pub(crate) fn protect_this_thread() -> Result<ThreadProtection, Error> {
    ThreadProtection::new()
}

/// Whether the calling thread is the one whose crash is being handled.
pub(crate) fn is_crashing_thread() -> bool {
    handler::crashing_thread().is_some_and(|tid| tid == syscall::gettid() as u32)
}

/// Waits until a guard is on duty.
pub(crate) fn wait_guarded(black_box: &BlackBox, deadline_ns: u64) -> bool {
    standing::wait_guarded(black_box, deadline_ns)
}

/// Waits until a crash could start a guard, where none stands by.
pub(crate) fn wait_callable(_black_box: &BlackBox, deadline_ns: u64) -> bool {
    standing::wait_callable(deadline_ns)
}

/// Calls the guard off, and waits until it has left; false when it hasn't at `deadline_ns`.
pub(crate) fn call_off(black_box: &BlackBox, deadline_ns: u64) -> bool {
    let control = &black_box.control;
    // It sleeps on this word, and looks around when it has changed.
    control.bell.fetch_and(!FUTEX_WAITERS, Ordering::AcqRel);
    futex::wake_all(&control.bell);
    loop {
        let word = control.guard.load(Ordering::Acquire);
        if owner(word).is_none() {
            return true;
        }
        if futex::wait_and_pass_on(&control.guard, word, Some(deadline_ns))
            == futex::Woken::TimedOut
        {
            return false;
        }
    }
}

/// Lets the guard know that what waits in the store may be sent now.
pub(crate) fn call_for_delivery(black_box: &BlackBox) {
    let control = &black_box.control;
    control.deliver.store(1, Ordering::Release);
    control.bell.fetch_and(!FUTEX_WAITERS, Ordering::AcqRel);
    futex::wake_all(&control.bell);
}

/// Lets the keeper start a guard again.
pub(crate) fn call_back(black_box: &BlackBox) {
    let word = &black_box.control.guard;
    // The word changes, so that a keeper that is about to sleep on it doesn't.
    let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |value| {
        guard::is_free(value).then_some(guard::CALLED)
    });
    futex::wake_all(word);
}

/// Waits until a guard has tried the store; what it found is in the box.
pub(crate) fn wait_store_tried(black_box: &BlackBox, deadline_ns: u64) {
    let word = &black_box.control.store;
    while word.load(Ordering::Acquire) == store::UNTRIED {
        if futex::wait(word, store::UNTRIED, Some(deadline_ns)) == futex::Woken::TimedOut {
            return;
        }
    }
}

/// Puts back the handlers that were there before.
pub(crate) fn disarm() {
    handler::disarm();
}

/// Takes what an old guard, or the process in front, left for this life, and every trace of it out of the environment and the descriptor table; and the number of the socket that this life was born with.
pub(crate) fn take_succession() -> (Option<Succession>, Option<u64>) {
    let life = take_life().unwrap_or_default();
    let (socket, pid) = match life.iter().position(|byte| *byte == b':') {
        Some(colon) => (life.get(..colon), life.get(colon + 1..)),
        None => (None, Some(life.as_slice())),
    };
    // A program with more rights than its caller believes no variable.
    if pid.and_then(|pid| number(pid, 10)) != Some(u64::from(std::process::id()))
        || process::is_privileged()
    {
        return (None, None);
    }
    (read_succession(), socket.and_then(|socket| number(socket, 10)))
}

/// The variable that says what this life is, taken out of the environment.
fn take_life() -> Option<List<u8>> {
    let name = CText::new(LIFE_NAME);
    let life = process::variable(name.as_c_str().to_bytes());
    // SAFETY: the name is NUL-terminated; `start()` is called before other threads could change the environment.
    unsafe { libc::unsetenv(name.as_c_str().as_ptr()) };
    life
}

fn read_succession() -> Option<Succession> {
    if !memfd::has_seals(spawn::FIRST_FD, memfd::ALL_SEALS) {
        return None;
    }
    let content = memfd::read(spawn::FIRST_FD, SUCCESSION_BYTES_MAX);
    let succession = Succession::decode(&content?)?;
    // Only what has proved to be ours is closed.
    syscall::close(spawn::FIRST_FD);
    Some(succession)
}
