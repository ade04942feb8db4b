//! Guard-first: the first process starts the application below itself, and stands in front of it as its guard.
//!
//! Whoever started the application knows the first process only, so everything that this process is told or asked is about the worker: signals are passed on, a stop is followed, and its end is the worker's end.
//! The worker is its child, in its process group, and ends with it: a kill of the one is a kill of the other.
//! The worker makes black box and launch record as in every topology, and hands them over by the one socket that it was born with.
//!
//! Notice to the next editor: the functions named `on_…` are signal handlers.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use rearguard_crashpath::spawn::{self, HANDOVER_MAX, Handed, Kinship, Outcome, PID_PLACES, Plan};
use rearguard_crashpath::stack::Stack;
use rearguard_crashpath::{limits as crash_limits, syscall, time};

use super::attach::{BLACK_BOX_FD, EXECUTABLE_FD, PIDFD, READY_FD, RECORD_FD};
pub(crate) use super::front_socket::Front;
pub(super) use super::front_socket::{hand_over, pair};
use super::process::last_errno;
use super::strings::{CText, digits_of, string_array, with_room};
use super::{attach, file, front_socket, memfd, process, successor};
use crate::error::Error;
use crate::heap::{List, Text, add, copied, kept};
use crate::launch::LIFE_VARIABLE;
use crate::limits;
use crate::role;
use crate::sys::words::Surroundings;
use crate::text::{after, number, push_number};

/// Whether this system has guard-first.
pub(crate) const IS_BUILT: bool = true;

/// Where the socket to the worker lies in a front process; a guard's end of the READY pipe has no use there.
const SOCKET_FD: RawFd = READY_FD;

/// Whether this process is one that stands in front of its worker.
static IS_FRONT: AtomicBool = AtomicBool::new(false);
/// The worker below this process.
static WORKER: AtomicI32 = AtomicI32::new(0);
/// Not zero when the worker's state has changed and was not looked at.
static CHILD_NEWS: AtomicU32 = AtomicU32::new(0);
/// When the program was last asked to stop, by the monotonic clock; zero for never.
static STOP_ASKED_NS: AtomicU64 = AtomicU64::new(0);
/// The signal that asked for it, until it is taken.
static STOP_SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Whether this process leads its session: then the kernel tells the terminal's end to it alone.
static LEADS_SESSION: AtomicBool = AtomicBool::new(false);

/// Whether this process is one that stands in front of its worker.
pub(crate) fn is_front() -> bool {
    IS_FRONT.load(Ordering::Relaxed)
}

/// Whether the worker has a process in front of it: only if it is this one.
pub(crate) fn is_there() -> bool {
    is_front()
}

/// Who is in front knows by itself.
pub(crate) fn nothing_follows() {}

/// Lets an exec keep a descriptor.
fn keep_over_exec(fd: RawFd) {
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
}

/// Starts the application below this process, and becomes the process in front of it. Comes back only if that can't be had.
pub(crate) fn begin(surroundings: &Surroundings) -> Error {
    match start_below(surroundings) {
        Ok((worker, socket)) => become_front(&surroundings.arguments, worker, socket),
        Err(errno) => Error::system("starting the application below its guard", "", errno),
    }
}

/// Starts the worker: the same program with the same arguments and everything that this process was given.
fn start_below(surroundings: &Surroundings) -> Result<(i32, OwnedFd), i32> {
    let program = process::own_program().ok_or(libc::ENOEXEC)?;
    let (Front(ours), theirs) = pair()?;
    let theirs_number = theirs.as_raw_fd();
    keep_over_exec(theirs_number);
    let own_pid = u64::from(std::process::id());
    let mut environment = List::new();
    let mut own = List::new();
    for entry in &surroundings.environment {
        let ours = OWN_PID_VARIABLES
            .into_iter()
            .find(|name| after(entry, name).and_then(|pid| number(pid, 10)) == Some(own_pid));
        if let Some(name) = ours {
            // What a service manager means for this process is meant for the application.
            add(&mut own, (environment.len(), name));
            add(&mut environment, with_room(name));
        } else if !entry.starts_with(LIFE_VARIABLE) && !entry.starts_with(LISTEN_PIDFD) {
            add(&mut environment, copied(entry));
        }
    }
    let life_place = environment.len();
    let prefix = successor::life_prefix(theirs_number);
    let array = string_array(&environment, Some(&with_room(&prefix)))?.0;
    // SAFETY: all places are inside the array, which was just made and stays writable.
    let digits = |place: usize, prefix: &[u8]| unsafe { digits_of(array, place, prefix.len()) };
    let mut pid_digits = [core::ptr::null_mut(); PID_PLACES];
    let all = [(life_place, prefix.as_slice())].into_iter().chain(own);
    for (to, (place, name)) in pid_digits.iter_mut().zip(all) {
        *to = digits(place, name);
    }
    let stack = || Stack::map(crash_limits::SPAWN_STACK_BYTES).map_err(|error| error.0);
    let plan = kept(Plan {
        path: CText::new(&program).leak().as_ptr().cast(),
        executable_place: HANDOVER_MAX,
        arguments: string_array(&surroundings.arguments, None)?.0,
        environment: array,
        pid_digits,
        kinship: Kinship::Child { parent: syscall::getpid() },
        keeps_descriptors: true,
        streams: [-1; 3],
        handed: [Handed::NONE; HANDOVER_MAX],
        signal_mask: surroundings.signal_mask,
        ignored_signals: surroundings.ignored_signals,
        directory: core::ptr::null(),
        umask: u32::MAX,
        rlimits: [(-1, 0, 0); spawn::RLIMITS_MAX],
        alarm_ms: 0,
        gate: None,
        outcome: Outcome::new(),
        stacks: [stack()?, stack()?],
    });
    let plan: *mut Plan = plan;
    // What is sent to this process from here on is for the front that it becomes.
    let _ = syscall::block_all_signals();
    // A child that ends before the front looks must stay to be looked at, whatever this process has inherited.
    // SAFETY: the default action has no conditions.
    let earlier = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // SAFETY: the plan and all that it points to are never given back.
    let started = unsafe { spawn::spawn(plan) }.map_err(|error| error.0);
    let started = started.and_then(|worker| await_exec(plan, worker).map(|()| worker));
    if started.is_err() {
        // SAFETY: it is what was in force before.
        unsafe { libc::signal(libc::SIGCHLD, earlier) };
        syscall::set_signal_mask(surroundings.signal_mask);
    }
    Ok((started?, ours))
}

/// Waits until the child has become the application; one that couldn't is reaped.
fn await_exec(plan: *mut Plan, worker: i32) -> Result<(), i32> {
    // SAFETY: the plan is never given back.
    let outcome = unsafe { &(*plan).outcome };
    let deadline_ns = time::monotonic_ns().saturating_add(limits::START_MS_MAX * 1_000_000);
    let _ = outcome.wait(deadline_ns);
    let errno = outcome.errno.load(Ordering::Acquire);
    if errno != 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::waitpid(worker, core::ptr::null_mut(), 0) };
        return Err(errno);
    }
    Ok(())
}

const EXECUTABLE: &[u8] = b"/proc/self/exe";

/// The variables by which a service manager says whom it means: sd_listen_fds(3), sd_watchdog_enabled(3), systemd.exec(5).
const OWN_PID_VARIABLES: [&[u8]; 3] = [b"LISTEN_PID=", b"WATCHDOG_PID=", b"SYSTEMD_EXEC_PID="];

/// The same by an inode that only the first process has.
const LISTEN_PIDFD: &[u8] = b"LISTEN_PIDFDID=";

/// Executes this program anew as the front of a worker, so that nothing of the application's is left in it.
fn become_front(arguments: &[List<u8>], worker: i32, socket: OwnedFd) -> ! {
    let executable = file::open(process::path(EXECUTABLE), libc::O_PATH).ok();
    exec_as_front(arguments, worker, socket, executable)
}

/// As [`become_front`], by this executable.
fn exec_as_front(
    arguments: &[List<u8>],
    worker: i32,
    socket: OwnedFd,
    executable: Option<OwnedFd>,
) -> ! {
    // SAFETY: no memory is involved.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, worker, 0) } as RawFd;
    // Each is moved out of the way of the numbers that the others are to have.
    const ABOVE: RawFd = SOCKET_FD + 1;
    let aside = |fd: RawFd| {
        // SAFETY: no memory is involved.
        unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, ABOVE) }
    };
    let moved = [
        (aside(executable.as_ref().map_or(-1, AsRawFd::as_raw_fd)), EXECUTABLE_FD),
        (aside(pidfd), PIDFD),
        (aside(socket.as_raw_fd()), SOCKET_FD),
    ];
    // They may have those numbers themselves.
    core::mem::forget((socket, executable));
    for (fd, number) in moved {
        // SAFETY: no memory is involved.
        if unsafe { libc::dup2(fd, number) } < 0 {
            // What has the number is somebody else's.
            syscall::close(number);
        }
    }
    let mut all = List::new();
    if let Some(own_name) = arguments.first() {
        add(&mut all, copied(own_name));
    }
    add(&mut all, role::front_argument(worker.unsigned_abs()));
    // Whoever lists the processes sees what was asked for.
    for argument in arguments.iter().skip(1) {
        add(&mut all, copied(argument));
    }
    let mut environment = process::environment();
    environment.as_mut_vec().retain(|entry| !entry.starts_with(LIFE_VARIABLE));
    if let (Ok(all), Ok(environment)) = (string_array(&all, None), string_array(&environment, None))
    {
        let empty = c"";
        // SAFETY: the arrays are null-terminated arrays of NUL-terminated strings; the empty path names the descriptor itself (execveat(2)).
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                EXECUTABLE_FD,
                empty.as_ptr(),
                all.0,
                environment.0,
                libc::AT_EMPTY_PATH,
            )
        };
    }
    // Without it the worker has no guard; it is stood before all the same.
    syscall::close(SOCKET_FD);
    WORKER.store(worker, Ordering::Relaxed);
    pass_signals_on();
    end_with_worker()
}

/// Stands in front of the worker until it hands over what a guard needs; returns the nonce. Ends with the worker if that ends before.
pub(crate) fn stand(worker: u32) -> Result<u64, &'static str> {
    if news_of(libc::P_PID, worker, libc::WEXITED).is_err() {
        return Err("the process that it names is no child of this one");
    }
    IS_FRONT.store(true, Ordering::Relaxed);
    WORKER.store(worker as i32, Ordering::Relaxed);
    close_others();
    let_pipes_go();
    pass_signals_on();
    let mut entries =
        [SOCKET_FD, PIDFD].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    loop {
        look_after_children();
        // Signals end this wait only; a state that changed before it is told by the handler's word and the bounded wait.
        let count = syscall::poll(&mut entries, limits::STOP_HEARD_MS_MAX as u32);
        if !matches!(count, Ok(count) if count > 0) {
            continue;
        }
        let [socket, pidfd] = entries;
        if socket.revents != 0 {
            if let Some(nonce) = front_socket::receive(SOCKET_FD) {
                return Ok(nonce);
            }
            // It has no guard, for reasons of its own; it is stood before all the same.
            end_with_worker();
        }
        if pidfd.revents != 0 {
            end_with_worker();
        }
    }
}

/// Closes whatever the first process was given beside its streams: it is the worker's.
fn close_others() {
    syscall::close(BLACK_BOX_FD);
    syscall::close(RECORD_FD);
    let first = SOCKET_FD + 1;
    // SAFETY: no memory is involved.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } != 0 {
        for fd in first..65_536 {
            syscall::close(fd);
        }
    }
    for fd in [EXECUTABLE_FD, PIDFD, SOCKET_FD] {
        // SAFETY: no memory is involved.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Puts null in the place of streams whose other end would notice that somebody still holds them. Terminals and files stay, for a next worker.
fn let_pipes_go() {
    let Ok(null) = file::open(process::path(b"/dev/null"), libc::O_RDWR) else { return };
    for number in 0..3 {
        let mut status = core::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: the pointer refers to room for the structure.
        let known = unsafe { libc::fstat(number, status.as_mut_ptr()) } == 0;
        // SAFETY: it was filled, or is zeroed, which every field may be.
        let kind = unsafe { status.assume_init() }.st_mode & libc::S_IFMT;
        if !known || kind == libc::S_IFIFO || kind == libc::S_IFSOCK {
            // SAFETY: no memory is involved.
            unsafe { libc::dup2(null.as_raw_fd(), number) };
        }
    }
}

/// The streams that this process still has, for a next worker that can't have the last one's.
pub(crate) fn own_streams() -> [Option<OwnedFd>; 3] {
    [0, 1, 2].map(|number| {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, SOCKET_FD + 1) };
        // SAFETY: the descriptor was just made and is nobody else's.
        (fd >= 0).then(|| unsafe { memfd::take(fd) })
    })
}

/// Signals that are not passed on: those that can't be caught, those that mean this process itself, and the news about children.
const OWN: [i32; 11] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGXFSZ,
    libc::SIGTTOU,
];

/// Installs the handlers, and lets through what has come in since the worker was started.
fn pass_signals_on() {
    // SAFETY: no memory is involved.
    let session = unsafe { libc::getsid(0) };
    LEADS_SESSION.store(session == syscall::getpid(), Ordering::Relaxed);
    for signal in 1..=64 {
        if !OWN.contains(&signal) {
            handle(signal, on_signal as *const () as usize);
        }
    }
    handle(libc::SIGCHLD, on_child as *const () as usize);
    // A limit on file sizes is an error of the write, and a terminal that background jobs may not write to takes the one line all the same.
    for signal in [libc::SIGXFSZ, libc::SIGTTOU] {
        handle(signal, libc::SIG_IGN);
    }
    syscall::set_signal_mask(0);
}

fn handle(signal: i32, handler: usize) {
    let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: every bit pattern is valid for the structure, and it was zeroed.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler;
    // What waits is to go on; only the news about children is looked at by who sleeps.
    action.sa_flags = libc::SA_SIGINFO | if signal == libc::SIGCHLD { 0 } else { libc::SA_RESTART };
    // SAFETY: the handlers only set words and send signals on.
    unsafe { libc::sigaction(signal, action, core::ptr::null_mut()) };
}

/// Passes a signal on that a process has sent to this one. What the kernel sends, from the terminal, goes to the whole process group, and the worker has it already.
extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    if matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGQUIT | libc::SIGHUP) {
        STOP_ASKED_NS.store(time::monotonic_ns(), Ordering::Relaxed);
        STOP_SIGNAL.store(signal, Ordering::Relaxed);
    }
    // SAFETY: the kernel's information lives through the handler.
    let told = unsafe { &*info };
    // SAFETY: what isn't a process's signal has other bytes here, which are a number all the same.
    let sender = unsafe { told.si_pid() };
    let is_sent = matches!(told.si_code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL);
    let is_hangup =
        matches!(signal, libc::SIGHUP | libc::SIGCONT) && LEADS_SESSION.load(Ordering::Relaxed);
    // What the worker sends to its parent is not meant for itself, nor what this process does to itself.
    let is_own = sender == WORKER.load(Ordering::Relaxed) || sender == syscall::getpid();
    if !is_hangup && (!is_sent || is_own) {
        return;
    }
    // The value goes along; of the other kinds the kernel lets nobody tell who has sent them.
    let information =
        if told.si_code == libc::SI_QUEUE { info.cast_const() } else { core::ptr::null() };
    // SAFETY: null, or the kernel's own information.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, PIDFD, signal, information, 0) };
}

/// Notes that a child has stopped, goes on, or has ended, and wakes who sleeps.
extern "C" fn on_child(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    CHILD_NEWS.store(1, Ordering::Release);
    attach::ring_for_us();
}

/// Whether the program was asked to stop so recently that its end is the answer.
pub(crate) fn stop_was_asked() -> bool {
    let asked_ns = STOP_ASKED_NS.load(Ordering::Relaxed);
    let since_ns = time::monotonic_ns().saturating_sub(asked_ns);
    asked_ns != 0 && since_ns < limits::STOP_MEMORY_MS * 1_000_000
}

/// The request to stop that has come since this was last asked; one that the application has handled long ago is none.
pub(crate) fn take_stop() -> Option<i32> {
    let signal = STOP_SIGNAL.swap(0, Ordering::Relaxed);
    (signal != 0 && stop_was_asked()).then_some(signal)
}

/// Follows the worker into a stop, and reaps other children: an earlier life, orphans of a PID 1.
pub(crate) fn look_after_children() {
    if CHILD_NEWS.swap(0, Ordering::AcqRel) == 0 {
        return;
    }
    let worker = WORKER.load(Ordering::Relaxed);
    let mut status = 0;
    let options = libc::WUNTRACED | libc::WNOHANG;
    if news_of(libc::P_PID, worker.unsigned_abs(), libc::WSTOPPED) == Ok(worker) {
        // SAFETY: the pointer refers to a living number; a stopped worker isn't reaped by it.
        unsafe { libc::waitpid(worker, &raw mut status, options) };
        if libc::WIFSTOPPED(status) {
            stop_as(libc::WSTOPSIG(status));
        }
    }
    while let Ok(pid) = news_of(libc::P_ALL, 0, libc::WEXITED)
        && pid != 0
        && pid != worker
    {
        // SAFETY: no memory is involved.
        unsafe { libc::waitpid(pid, core::ptr::null_mut(), libc::WNOHANG) };
    }
}

/// The child with this news, without taking the news; zero for none, an error where there is no such child at all.
fn news_of(kind: libc::idtype_t, id: u32, news: i32) -> Result<i32, i32> {
    let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = news | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer refers to room for the structure.
    if unsafe { libc::waitid(kind, id, info.as_mut_ptr(), options) } != 0 {
        return Err(last_errno());
    }
    // SAFETY: it was zeroed, and filled if there is such a child.
    let info = unsafe { info.assume_init() };
    // SAFETY: these bytes are the process id, or zero.
    Ok(unsafe { info.si_pid() })
}

/// Stops as the worker did, so that the shell sees it; whoever continues the job continues the whole group.
/// Not by SIGSTOP: who sends that to one process continues that process.
fn stop_as(signal: i32) {
    if signal == libc::SIGSTOP {
        return;
    }
    // SAFETY: taking the default action back has no conditions.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let _ = syscall::kill(syscall::getpid(), signal);
    // Here it stands until it is continued.
    let again =
        if signal == libc::SIGTTOU { libc::SIG_IGN } else { on_signal as *const () as usize };
    handle(signal, again);
}

/// Waits for the worker's end, and ends as it has ended.
pub(crate) fn end_with_worker() -> ! {
    let worker = WORKER.load(Ordering::Relaxed);
    loop {
        let mut status = 0;
        // SAFETY: the pointer refers to a living number.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WUNTRACED) };
        if pid == worker && libc::WIFSTOPPED(status) {
            stop_as(libc::WSTOPSIG(status));
        } else if pid == worker {
            end_as(status);
        } else if pid < 0 && last_errno() == libc::ECHILD {
            // Somebody else has its status; nothing better is known.
            process::exit(role::EXIT_GUARD_NOT_NEEDED);
        }
    }
}

/// Ends as a process with this wait status has ended.
fn end_as(status: i32) -> ! {
    if libc::WIFEXITED(status) {
        process::exit(libc::WEXITSTATUS(status));
    }
    let signal = libc::WTERMSIG(status);
    // The worker's core is the one that tells something.
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer refers to a living structure.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    // SAFETY: taking the default action back has no conditions.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    if syscall::getpid() != 1 {
        let _ = syscall::kill(syscall::getpid(), signal);
    }
    // The kernel drops a default signal that PID 1 sends itself; shells know this code.
    process::exit(128 + signal)
}

/// Lets a process of its own go on with the report, while this one goes on with the worker: the next one, or the end of the last.
/// Returns in the former. Where no process can be made, the report stays where it is.
pub(crate) fn split(next: Option<(u32, Front)>) {
    if next.is_none() && syscall::getpid() == 1 {
        // With this process everything ends, so the delivery comes before it.
        return;
    }
    let _ = syscall::block_all_signals();
    // SAFETY: this process has one thread, and the new one goes on as it was.
    if unsafe { libc::fork() } == 0 {
        IS_FRONT.store(false, Ordering::Relaxed);
        // SAFETY: no memory is involved.
        unsafe { libc::setpgid(0, 0) };
        attach::hear_signals();
        if let Ok(null) = file::open(process::path(b"/dev/null"), libc::O_RDWR) {
            for number in 0..3 {
                // SAFETY: no memory is involved.
                unsafe { libc::dup2(null.as_raw_fd(), number) };
            }
        }
        syscall::set_signal_mask(0);
        return;
    }
    match next {
        Some((worker, Front(socket))) => {
            if let Some(signal) = take_stop() {
                // It came when the last life was over and the next had begun.
                let _ = syscall::kill(worker as i32, signal);
            }
            let mut path = Text::from("/proc/");
            push_number(&mut path, worker.into());
            path.as_mut_string().push_str("/exe");
            let executable = file::open(process::path(path.as_bytes()), libc::O_PATH).ok();
            let mut arguments = process::arguments();
            if arguments.len() > 1 {
                // Our own argument; those behind it are the worker's.
                arguments.as_mut_vec().remove(1);
            }
            exec_as_front(&arguments, worker as i32, socket, executable)
        }
        None => {
            syscall::set_signal_mask(0);
            end_with_worker()
        }
    }
}
