//! The ways to die, one function each, and the words for them.
//!
//! What a processor raises is in `fault`, what Rust does is in `panics`; here are the table, and the ways that take the process, the heap or other threads.
//! Each says `dying` on the trace just before its last instructions.

#![expect(unsafe_code, reason = "the ways of the C library: signals, fork, a broken heap")]

use std::io::Error;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::trace::{self, Event};
use crate::{fault, foreign, panics, seccomp};

/// How long a way waits for what it has started, before it counts as survived.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The crashers of `crash-x8`.
const CROWD: usize = 8;

/// A word of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    None,
    Exit3,
    NullWrite,
    NullCall,
    JumpBadAddress,
    BadStack,
    Abort,
    Ill,
    Fpe,
    Bus,
    Trap,
    Sys,
    StackOverflow,
    Panic,
    PanicInThread,
    PanicAbort,
    PanicInDrop,
    Oom,
    Sigkill,
    Sigterm,
    KillSegv,
    CrashInHandler,
    CrashX8,
    MallocLocked,
    ForkedChild,
    MainExited,
    ForeignHandler,
    ForeignHandlerAfter,
    RecoveredFault,
    Exec,
    ExecSelf,
    Survive,
    SurviveBriefly,
    BrokenPipe,
}

const WORDS: [(&str, Way); Way::COUNT] = [
    ("none", Way::None),
    ("exit-3", Way::Exit3),
    ("null-write", Way::NullWrite),
    ("null-call", Way::NullCall),
    ("jump-bad-address", Way::JumpBadAddress),
    ("bad-stack", Way::BadStack),
    ("abort", Way::Abort),
    ("ill", Way::Ill),
    ("fpe", Way::Fpe),
    ("bus", Way::Bus),
    ("trap", Way::Trap),
    ("sys", Way::Sys),
    ("stack-overflow", Way::StackOverflow),
    ("panic", Way::Panic),
    ("panic-in-thread", Way::PanicInThread),
    ("panic-abort", Way::PanicAbort),
    ("panic-in-drop", Way::PanicInDrop),
    ("oom", Way::Oom),
    ("sigkill", Way::Sigkill),
    ("sigterm", Way::Sigterm),
    ("kill-segv", Way::KillSegv),
    ("crash-in-handler", Way::CrashInHandler),
    ("crash-x8", Way::CrashX8),
    ("malloc-locked", Way::MallocLocked),
    ("forked-child", Way::ForkedChild),
    ("main-exited", Way::MainExited),
    ("foreign-handler", Way::ForeignHandler),
    ("foreign-handler-after", Way::ForeignHandlerAfter),
    ("recovered-fault", Way::RecoveredFault),
    ("exec", Way::Exec),
    ("exec-self", Way::ExecSelf),
    ("survive", Way::Survive),
    ("survive-briefly", Way::SurviveBriefly),
    ("broken-pipe", Way::BrokenPipe),
];

impl Way {
    /// How many ways there are.
    pub(crate) const COUNT: usize = 34;

    pub(crate) fn parse(word: &str) -> Option<Way> {
        WORDS.iter().find(|(name, _)| *name == word).map(|(_, way)| *way)
    }

    fn word(self) -> &'static str {
        WORDS.iter().find(|(_, way)| *way == self).map_or("?", |(name, _)| name)
    }
}

/// The callback that the builder gets.
pub(crate) fn on_crash(way: Way) -> Option<fn(&rearguard::CrashInfo)> {
    (way == Way::CrashInHandler).then_some(crash_again as fn(&rearguard::CrashInfo))
}

/// Dies.
/// `Ok` is for the ways that are survived on purpose, `Err` for those that failed to kill.
pub(crate) fn die(way: Way) -> Result<u8, String> {
    // These have their own moment, or none.
    let says_so_itself = matches!(
        way,
        Way::None
            | Way::PanicInThread
            | Way::RecoveredFault
            | Way::Survive
            | Way::SurviveBriefly
            | Way::ForkedChild
            | Way::CrashX8
            | Way::MainExited
    );
    if !says_so_itself {
        trace::tell(Event::Dying);
    }
    match way {
        Way::None => return Ok(0),
        Way::Exit3 => std::process::exit(3),
        Way::NullWrite | Way::CrashInHandler | Way::ForeignHandler | Way::ForeignHandlerAfter => {
            fault::null_write();
        }
        Way::NullCall => fault::null_call(),
        Way::JumpBadAddress => fault::jump_bad_address()?,
        Way::BadStack => fault::bad_stack()?,
        Way::Abort => std::process::abort(),
        Way::Ill => fault::illegal_instruction(),
        Way::Fpe => fault::divide_by_zero(),
        Way::Bus => fault::truncated_mapping()?,
        Way::Trap => fault::breakpoint(),
        Way::Sys => seccomp::trapped_call()?,
        Way::StackOverflow => stack_overflow(),
        Way::Panic => panics::panic(),
        Way::BrokenPipe => panics::at_the_end_of_a_pipe(),
        Way::PanicInThread => return panics::in_thread().map(|()| 0),
        Way::PanicAbort => panics::abort(),
        Way::PanicInDrop => panics::in_drop(),
        Way::Oom => out_of_memory()?,
        Way::Sigkill => kill(libc::SIGKILL),
        Way::Sigterm => kill(libc::SIGTERM),
        Way::KillSegv => kill(libc::SIGSEGV),
        Way::CrashX8 => crowd()?,
        Way::MallocLocked => malloc_locked()?,
        Way::ForkedChild => return forked_child().map(|()| 0),
        Way::MainExited => main_exited()?,
        Way::Exec => return Err(become_another()),
        Way::ExecSelf => return Err(become_itself()),
        Way::SurviveBriefly => {
            foreign::repairable_fault();
            return Ok(0);
        }
        Way::Survive => {
            foreign::repairable_fault();
            // Longer than a released worker has until it counts as a survivor.
            std::thread::sleep(std::time::Duration::from_millis(2_500));
            return Ok(3);
        }
        Way::RecoveredFault => {
            foreign::repairable_fault();
            return Ok(0);
        }
    }
    Err(format!("{}: it didn't kill", way.word()))
}

/// The process goes on as another program, for two seconds; what comes back is why it couldn't.
fn become_another() -> String {
    use std::os::unix::process::CommandExt;
    format!("exec: {}", std::process::Command::new("sleep").arg("2").exec())
}

/// The process begins anew as the same program, as an update does, and then dies of a fault.
fn become_itself() -> String {
    use std::os::unix::process::CommandExt;
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(way) = arguments.last_mut() {
        *way = "null-write".into();
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return format!("exec-self: {error}"),
    };
    format!("exec-self: {}", std::process::Command::new(program).args(arguments).exec())
}

/// The crash inside the crash.
fn crash_again(_info: &rearguard::CrashInfo) {
    fault::null_write();
}

fn stack_overflow() {
    std::hint::black_box(dig(0));
}

/// Uses half a KiB a level, so that the end is met within the guard page and not beyond it.
#[inline(never)]
fn dig(depth: u64) -> u64 {
    let level = std::hint::black_box([depth; 64]);
    // The compiler can't know that this is always so, and must keep both the recursion and the array.
    if std::hint::black_box(true) {
        return dig(depth + 1).wrapping_add(level[0]);
    }
    level[63]
}

/// Takes away all address space, then asks for more.
/// The crash path has to do without a mapping as well.
fn out_of_memory() -> Result<(), String> {
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

/// Eight threads fault in the same instant.
fn crowd() -> Result<(), String> {
    let barrier = Arc::new(Barrier::new(CROWD + 1));
    let mut threads = Vec::new();
    for number in 0..CROWD {
        let barrier = Arc::clone(&barrier);
        let thread = thread::Builder::new()
            .name(format!("crowd-{number}"))
            .spawn(move || {
                barrier.wait();
                fault::null_write();
            })
            .map_err(|error| format!("crash-x8: {error}"))?;
        threads.push(thread);
    }
    trace::tell(Event::Dying);
    barrier.wait();
    for thread in threads {
        // A thread that comes back has survived, which the caller reports.
        let _ = thread.join();
    }
    Ok(())
}

/// Breaks a free block's link and lets `malloc` follow it: the fault is inside the allocator, with its lock held.
///
/// glibc keeps freed blocks of this size in a list whose links lie in the blocks themselves, and walks it when a larger one is wanted.
/// Other C libraries may notice the damage and abort, or not look; then this is survived.
fn malloc_locked() -> Result<(), String> {
    // Larger than what the per-thread cache takes, smaller than what gets a mapping of its own.
    const FREED_BYTES: usize = 32 * 1024;
    const WANTED_BYTES: usize = 96 * 1024;
    let bad = crate::running::forbidden_pages(1)?;
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
fn main_exited() -> Result<(), String> {
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
