//! The ways that take Linux: signals, fork, exec, a broken heap, a crash that is survived.

#![expect(unsafe_code, reason = "the ways of the C library: signals, fork, a broken heap")]

use std::io::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::super::WAIT_MAX;
use super::{fault as own_fault, foreign, memory, seccomp};
use crate::fault;
use crate::trace::{self, Event};

/// All ways of this system, as the usage text lists them.
pub(crate) const LISTED: &str = "  none exit-3 null-write null-call jump-bad-address bad-stack abort ill fpe bus trap sys stack-overflow
  panic panic-in-thread panic-abort panic-in-drop oom sigkill sigterm kill-segv crash-in-handler crash-x8
  malloc-locked forked-child main-exited foreign-handler foreign-handler-after recovered-fault exec
  exec-self survive survive-briefly broken-pipe fork-panic";

/// A way that other systems don't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Bus,
    Sys,
    Sigkill,
    Sigterm,
    KillSegv,
    ForkedChild,
    ForkPanic,
    Exec,
    ExecSelf,
    Survive,
    SurviveBriefly,
}

pub(crate) const WORDS: [(&str, Way); 11] = [
    ("bus", Way::Bus),
    ("sys", Way::Sys),
    ("sigkill", Way::Sigkill),
    ("sigterm", Way::Sigterm),
    ("kill-segv", Way::KillSegv),
    ("forked-child", Way::ForkedChild),
    ("fork-panic", Way::ForkPanic),
    ("exec", Way::Exec),
    ("exec-self", Way::ExecSelf),
    ("survive", Way::Survive),
    ("survive-briefly", Way::SurviveBriefly),
];

/// Whether a way has its own moment of dying, or none.
pub(crate) fn says_so_itself(way: Way) -> bool {
    matches!(way, Way::ForkedChild | Way::ForkPanic | Way::Survive | Way::SurviveBriefly)
}

/// Dies.
/// A status is for the ways that are survived on purpose, nothing for those that failed to kill.
pub(crate) fn die(way: Way) -> Result<Option<u8>, String> {
    match way {
        Way::Bus => own_fault::truncated_mapping()?,
        Way::Sys => seccomp::trapped_call()?,
        Way::Sigkill => kill(libc::SIGKILL),
        Way::Sigterm => kill(libc::SIGTERM),
        Way::KillSegv => kill(libc::SIGSEGV),
        Way::ForkedChild => return forked_child().map(|()| Some(0)),
        Way::ForkPanic => return fork_panic().map(Some),
        Way::Exec => return Err(become_another()),
        Way::ExecSelf => return Err(become_itself()),
        Way::SurviveBriefly => {
            foreign::repairable_fault();
            return Ok(Some(0));
        }
        Way::Survive => {
            foreign::repairable_fault();
            // Longer than a released worker has until it counts as a survivor.
            thread::sleep(Duration::from_millis(2_500));
            return Ok(Some(3));
        }
    }
    Ok(None)
}

/// The process goes on as another program, for two seconds; what comes back is why it couldn't.
fn become_another() -> String {
    format!("exec: {}", Command::new("sleep").arg("2").exec())
}

/// The process begins anew as the same program, as an update does, and then dies of a fault.
fn become_itself() -> String {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(way) = arguments.last_mut() {
        *way = "null-write".into();
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return format!("exec-self: {error}"),
    };
    format!("exec-self: {}", Command::new(program).args(arguments).exec())
}

/// Takes away all address space, then asks for more.
/// The crash path has to do without a mapping as well.
pub(crate) fn out_of_memory() -> Result<(), String> {
    let none = libc::rlimit { rlim_cur: 4096, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `none` is a live rlimit that the call only reads.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const none) };
    if result != 0 {
        return Err(format!("oom: {}", Error::last_os_error()));
    }
    let never = Vec::<u8>::with_capacity(1 << 30);
    std::hint::black_box(never.as_ptr());
    Ok(())
}

/// Sends itself a signal.
/// It may arrive in another thread, so this one waits for the end.
fn kill(signal: libc::c_int) {
    let me = std::process::id().cast_signed();
    // SAFETY: plain numbers only; the pid is our own.
    unsafe { libc::kill(me, signal) };
    thread::sleep(WAIT_MAX);
}

/// Breaks a free block's link and lets `malloc` follow it: the fault is inside the allocator, with its lock held.
///
/// glibc keeps freed blocks of this size in a list whose links lie in the blocks themselves, and walks it when a larger one is wanted.
/// Other C libraries may notice the damage and abort, or not look; then this is survived.
pub(crate) fn malloc_locked() -> Result<(), String> {
    // Larger than what the per-thread cache takes, smaller than what gets a mapping of its own.
    const FREED_BYTES: usize = 32 * 1024;
    const WANTED_BYTES: usize = 96 * 1024;
    let bad = memory::forbidden_pages(1)?;
    // SAFETY: malloc has no preconditions.
    let freed = unsafe { libc::malloc(FREED_BYTES) };
    // SAFETY: as above. This block keeps the first from growing together with the rest of the heap.
    let kept = unsafe { libc::malloc(FREED_BYTES) };
    if freed.is_null() || kept.is_null() {
        return Err("malloc-locked: no memory to begin with".to_owned());
    }
    // SAFETY: `freed` came from malloc and is freed once.
    unsafe { libc::free(freed) };
    let link = freed.cast::<usize>().wrapping_add(1);
    // SAFETY: a use after free on purpose: the word still belongs to the heap, and nobody uses the heap again but to
    // fault on it.
    unsafe { link.write_volatile(bad) };
    // SAFETY: malloc has no preconditions but an unbroken heap, and that is the one that this is about.
    let never = unsafe { libc::malloc(WANTED_BYTES) };
    std::hint::black_box((never, kept));
    Ok(())
}

/// The child dies of a fault, its parent lives: nothing of the worker has crashed.
fn forked_child() -> Result<(), String> {
    // SAFETY: the child runs one instruction that faults and uses nothing that a fork could have left locked.
    let child = unsafe { libc::fork() };
    if child == 0 {
        fault::null_write();
        // SAFETY: `_exit` has no preconditions and doesn't return.
        unsafe { libc::_exit(1) };
    }
    if child < 0 {
        return Err(format!("forked-child: {}", Error::last_os_error()));
    }
    let status = wait_for(child)?;
    if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV {
        return Ok(());
    }
    Err(format!("forked-child: it ended with wait status {status:#x}, not by SIGSEGV"))
}

/// A child panics, and its parent ends with a code of its own.
#[expect(clippy::panic, reason = "panicking is what is wanted")]
fn fork_panic() -> Result<u8, String> {
    // SAFETY: the child has this thread alone, and what it panics with takes no lock that another could hold.
    let child = unsafe { libc::fork() };
    if child == 0 {
        panic!("in a child");
    }
    if child < 0 {
        return Err(format!("fork-panic: {}", Error::last_os_error()));
    }
    let status = wait_for(child)?;
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 101 {
        return Ok(7);
    }
    Err(format!("fork-panic: it ended with wait status {status:#x}, not by a panic"))
}

/// The child's wait status, by deadline; a child that hangs in our handler is killed.
fn wait_for(child: libc::pid_t) -> Result<libc::c_int, String> {
    let deadline = Instant::now() + WAIT_MAX;
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live place for the result.
        let ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if ended == child {
            return Ok(status);
        }
        if ended < 0 {
            return Err(format!("forked-child: waitpid: {}", Error::last_os_error()));
        }
        if Instant::now() > deadline {
            // SAFETY: the child isn't reaped yet, so the number is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            return Err(format!("forked-child: it was still there after {WAIT_MAX:?}"));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Ends the main thread alone, then faults in another one: `/proc/<pid>/` shows a zombie from then on.
///
/// A raw exit rather than `pthread_exit`, which would unwind through frames of Rust that must not be unwound.
pub(crate) fn main_exited() -> Result<(), String> {
    // SAFETY: gettid has no preconditions.
    let me = unsafe { libc::gettid() };
    if u32::try_from(me) != Ok(std::process::id()) {
        return Err("main-exited: it needs --thread main".to_owned());
    }
    thread::Builder::new()
        .name("heir".to_owned())
        .spawn(|| {
            let deadline = Instant::now() + WAIT_MAX;
            while !main_is_gone() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            trace::tell(Event::Dying);
            fault::null_write();
        })
        .map_err(|error| format!("main-exited: {error}"))?;
    // SAFETY: this ends the calling thread alone; what the program still uses lives in statics.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Ok(())
}

/// Whether the main thread's state is Z, the field after the name in parentheses.
fn main_is_gone() -> bool {
    let path = format!("/proc/self/task/{}/stat", std::process::id());
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('Z'))
}
