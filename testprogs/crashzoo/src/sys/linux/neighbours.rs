//! Who else lives in a program: a handler for every fault, before rearguard or after it, and alternate stacks that are hardly larger than the kernel's own frame.
//!
//! Handlers run in a crashed thread: they may write a trace line and use system calls, nothing else.

#![expect(unsafe_code, reason = "signal handlers are installed and run here")]

use std::io::Error;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::foreign::{Handler, install as install_one};
use super::memory;
use crate::args::Foreign;
use crate::trace::{self, Event};

const SIGNALS: [libc::c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// How often the handler that repairs nothing was called.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// Whom the later handler has displaced, by signal.
static DISPLACED: [OnceLock<libc::sigaction>; 32] = [const { OnceLock::new() }; 32];

/// Installs a handler for all seven signals, before rearguard's or after.
pub(crate) fn install(when: Foreign) -> Result<(), String> {
    let handler: Handler = match when {
        Foreign::None => return Ok(()),
        Foreign::Before => unimpressed,
        Foreign::After => chaining,
    };
    for signal in SIGNALS {
        let before = install_one(signal, handler)?;
        if let Some(place) = DISPLACED.get(signal as usize) {
            place.get_or_init(|| before);
        }
    }
    Ok(())
}

/// Gives the calling thread an alternate stack with this much room beyond the kernel's own frame.
pub(crate) fn use_small_stack(room_bytes: usize) -> Result<(), String> {
    // SAFETY: asking has no conditions.
    let frame_bytes = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    let bytes = frame_bytes.max(libc::MINSIGSTKSZ) + room_bytes;
    // At its lower end lies a page that can't be touched: an overflow is to be seen, not to go on in somebody's heap.
    let whole = bytes.next_multiple_of(memory::page_bytes());
    let pages = whole / memory::page_bytes() + 1;
    let lowest = memory::forbidden_pages(pages)? + memory::page_bytes();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the pages are a mapping of ours that holds no object.
    if unsafe { libc::mprotect(lowest as *mut libc::c_void, whole, access) } != 0 {
        return Err(format!("--small-stack: {}", Error::last_os_error()));
    }
    let stack = libc::stack_t { ss_sp: lowest as *mut libc::c_void, ss_flags: 0, ss_size: bytes };
    // SAFETY: the memory is never given back.
    if unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) } != 0 {
        return Err(format!("--small-stack: {}", Error::last_os_error()));
    }
    Ok(())
}

/// Takes the default action, and asks for the signal again: it comes when this handler returns.
fn end_by(signal: libc::c_int) {
    // SAFETY: signal() is async-signal-safe, and SIG_DFL is a valid disposition.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: raise() is async-signal-safe.
    unsafe { libc::raise(signal) };
}

/// Says that it was called and repairs nothing; the second time it ends the program, as handlers do that have had their say.
extern "C" fn unimpressed(
    signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    trace::tell(Event::ForeignHandler);
    if CALLS.fetch_add(1, Ordering::Relaxed) > 0 {
        end_by(signal);
    }
}

/// Says that it was called, then hands the signal to whom it has displaced.
extern "C" fn chaining(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    trace::tell(Event::ForeignHandler);
    match DISPLACED.get(signal as usize).and_then(OnceLock::get) {
        Some(action) if action.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with SA_SIGINFO the field holds a function of this signature, put there by its owner.
            let handler: Handler = unsafe { std::mem::transmute(action.sa_sigaction) };
            handler(signal, info, context);
        }
        _ => end_by(signal),
    }
}

/// Sends messages that mean nothing by the one socket that rearguard has left in this process's table: some too short, some without what belongs to them, some with descriptors of another kind.
pub(crate) fn knock(messages: usize, shut: bool) -> Result<(), String> {
    if messages == 0 && !shut {
        return Ok(());
    }
    let socket = (3..1_024).find(|fd| is_socket(*fd)).ok_or("--knock: there is no such socket")?;
    for number in 0..messages {
        send_nonsense(socket, number)?;
    }
    // SAFETY: no memory is involved.
    if shut && unsafe { libc::shutdown(socket, libc::SHUT_WR) } != 0 {
        return Err(format!("--shut-door: {}", Error::last_os_error()));
    }
    Ok(())
}

/// Lets a program begin with fewer rights, as a launcher of sandboxes does.
pub(crate) fn confine(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let give_up = || {
        // SAFETY: this prctl takes plain numbers.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0 {
            Ok(())
        } else {
            Err(Error::last_os_error())
        }
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(give_up) };
}

/// Whether this process has a socket at this number; it has no other than that one.
fn is_socket(fd: i32) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
}

fn send_nonsense(socket: i32, number: usize) -> Result<(), String> {
    /// What the kernel wants before descriptors, and six of them.
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        fds: [i32; 6],
    }
    let lengths = [1, 3, 8, 8, 8, 4_096];
    let mut bytes = [7u8; 4_096];
    let length = lengths.get(number % lengths.len()).copied().unwrap_or(8);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
    // Streams, and the socket itself.
    let fds = [0, 1, 2, socket, 0, 1];
    let count = number % 7;
    let control_bytes = size_of::<libc::cmsghdr>() + count * size_of::<i32>();
    let header = libc::cmsghdr {
        cmsg_len: control_bytes as _,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    let mut control = Control { header, fds };
    let message = std::mem::MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: every field may be zero.
    let mut message = unsafe { message.assume_init() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    if count > 0 {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = control_bytes as _;
    }
    // SAFETY: everything that the message refers to lives through the call.
    if unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) } < 0 {
        return Err(format!("--knock: {}", Error::last_os_error()));
    }
    Ok(())
}

/// How often a child's signal has come.
static CHILD_SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_child_signal(_signal: libc::c_int) {
    CHILD_SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Does what some programs do, before they start rearguard or afterwards, each word in its time.
pub(crate) fn behave(words: &[String], is_started: bool) -> Result<(), String> {
    for word in words {
        let (is_late, habit): (bool, fn() -> bool) = match word.as_str() {
            "subreaper" => (false, become_subreaper),
            "ignore-sigchld" => (false, || on_sigchld(libc::SIG_IGN)),
            "count-sigchld" => (false, || on_sigchld(count_child_signal as *const () as usize)),
            "close-all" => (true, close_all),
            "reuse-descriptors" => (true, reuse_descriptors),
            "chdir" => (true, || std::env::set_current_dir("/").is_ok()),
            "seccomp" => (true, || super::seccomp::install().is_ok()),
            "block-signals" => (true, block_signals),
            _ => return Err(format!("--manners: '{word}' is no such word")),
        };
        if is_late == is_started && !habit() {
            return Err(format!("--manners {word}: {}", Error::last_os_error()));
        }
    }
    Ok(())
}

fn become_subreaper() -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 }
}

fn on_sigchld(handler: usize) -> bool {
    // SAFETY: the handler only counts.
    unsafe { libc::signal(libc::SIGCHLD, handler) != libc::SIG_ERR }
}

/// Closes whatever is open, as daemons do, the standard streams and the trace excepted.
fn close_all() -> bool {
    for fd in 3..1_024 {
        if !super::trace_file::is_at(fd) {
            // SAFETY: nothing of this program's own is used afterwards.
            unsafe { libc::close(fd) };
        }
    }
    true
}

/// Takes every low number for something else.
fn reuse_descriptors() -> bool {
    // SAFETY: the path is NUL-terminated.
    (0..200).all(|_| unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } >= 0)
}

fn block_signals() -> bool {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer refers to room for the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set was filled.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut()) == 0 }
}

/// What this process knows of its children and threads.
pub(crate) fn children() -> String {
    // SAFETY: no memory is involved.
    let waited = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    let waited = match (waited, Error::last_os_error().raw_os_error()) {
        (-1, Some(libc::ECHILD)) => String::from("none"),
        (0, _) => String::from("some, living"),
        (pid, error) => format!("{pid}, {error:?}"),
    };
    let mut threads: Vec<String> = std::fs::read_dir("/proc/self/task")
        .map(|tasks| {
            let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
            tasks.flatten().filter_map(|task| name(task).ok()).collect()
        })
        .unwrap_or_default();
    threads.sort();
    let threads: Vec<&str> = threads.iter().map(|name| name.trim_end()).collect();
    let signals = CHILD_SIGNALS.load(Ordering::Relaxed);
    format!("children: {waited}; signals of children: {signals}; threads: {}", threads.join(" "))
}
