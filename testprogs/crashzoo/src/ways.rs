//! The ways to die that every system has, and the words for them.
//!
//! What a processor raises is in `fault`, what Rust does is in `panics`, what the system does in `sys`; here is the table, and who dies of what.
//! Each says `dying` on the trace just before its last instructions.

use std::sync::{Arc, Barrier};
use std::thread;

use crate::sys::ways as own;
use crate::sys::{foreign, process};
use crate::trace::{self, Event};
use crate::{fault, panics};

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
    Trap,
    StackOverflow,
    Panic,
    PanicInThread,
    PanicAbort,
    PanicInDrop,
    Oom,
    CrashInHandler,
    CrashX8,
    MallocLocked,
    MainExited,
    ForeignHandler,
    ForeignHandlerAfter,
    RecoveredFault,
    BrokenPipe,
    /// One that only this system has.
    Own(own::Way),
}

const WORDS: [(&str, Way); 24] = [
    ("none", Way::None),
    ("exit-3", Way::Exit3),
    ("null-write", Way::NullWrite),
    ("null-call", Way::NullCall),
    ("jump-bad-address", Way::JumpBadAddress),
    ("bad-stack", Way::BadStack),
    ("abort", Way::Abort),
    ("ill", Way::Ill),
    ("fpe", Way::Fpe),
    ("trap", Way::Trap),
    ("stack-overflow", Way::StackOverflow),
    ("panic", Way::Panic),
    ("panic-in-thread", Way::PanicInThread),
    ("panic-abort", Way::PanicAbort),
    ("panic-in-drop", Way::PanicInDrop),
    ("oom", Way::Oom),
    ("crash-in-handler", Way::CrashInHandler),
    ("crash-x8", Way::CrashX8),
    ("malloc-locked", Way::MallocLocked),
    ("main-exited", Way::MainExited),
    ("foreign-handler", Way::ForeignHandler),
    ("foreign-handler-after", Way::ForeignHandlerAfter),
    ("recovered-fault", Way::RecoveredFault),
    ("broken-pipe", Way::BrokenPipe),
];

impl Way {
    pub(crate) fn parse(word: &str) -> Option<Way> {
        words().find(|(name, _)| *name == word).map(|(_, way)| way)
    }

    /// How many ways there are.
    #[cfg(test)]
    pub(crate) fn count() -> usize {
        words().count()
    }

    fn word(self) -> &'static str {
        words().find(|(_, way)| *way == self).map_or("?", |(name, _)| name)
    }
}

fn words() -> impl Iterator<Item = (&'static str, Way)> {
    let own = own::WORDS.into_iter().map(|(word, way)| (word, Way::Own(way)));
    WORDS.into_iter().chain(own)
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
        Way::None | Way::PanicInThread | Way::RecoveredFault | Way::CrashX8 | Way::MainExited
    ) || matches!(way, Way::Own(way) if own::says_so_itself(way));
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
        Way::Abort => process::abort(),
        Way::Ill => fault::illegal_instruction(),
        Way::Fpe => fault::divide_by_zero(),
        Way::Trap => fault::breakpoint(),
        Way::StackOverflow => stack_overflow(),
        Way::Panic => panics::panic(),
        Way::BrokenPipe => panics::at_the_end_of_a_pipe(),
        Way::PanicInThread => return panics::in_thread().map(|()| 0),
        Way::PanicAbort => panics::abort(),
        Way::PanicInDrop => panics::in_drop(),
        Way::Oom => own::out_of_memory()?,
        Way::CrashX8 => crowd()?,
        Way::MallocLocked => own::malloc_locked()?,
        Way::MainExited => own::main_exited()?,
        Way::RecoveredFault => {
            foreign::repairable_fault();
            return Ok(0);
        }
        Way::Own(way) => {
            if let Some(status) = own::die(way)? {
                return Ok(status);
            }
        }
    }
    Err(format!("{}: it didn't kill", way.word()))
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
