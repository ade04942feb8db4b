//! The handlers that were there before ours: asked first, and put back afterwards.
//!
//! The policy, in one place:
//! - default: nobody to ask; put back as default.
//! - ignored: a signal that somebody sent stays ignored; a real fault kills, as the kernel would have it.
//! - the Rust runtime's own handler for stack overflows: not asked and not put back, since it turns the fault into an abort and swallows a signal that was sent.
//! - any other handler: asked first; when it repaired the fault there was no crash; otherwise it is put back and gets the signal again.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::syscall::{self, Result, call, signal_bit};
use crate::limits::ASKING_MAX;

/// The signals that mean a crash (FORMATS of the field: those whose default makes a core).
pub(crate) const SIGNALS: [i32; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// The bits of [`SIGNALS`] in a mask.
pub(crate) const fn crash_bits() -> u64 {
    let [a, b, c, d, e, f, g] = SIGNALS;
    signal_bit(a)
        | signal_bit(b)
        | signal_bit(c)
        | signal_bit(d)
        | signal_bit(e)
        | signal_bit(f)
        | signal_bit(g)
}

/// The kernel's `struct sigaction`, the same on x86_64 and aarch64.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Action {
    pub(crate) handler: usize,
    pub(crate) flags: u64,
    pub(crate) restorer: usize,
    pub(crate) mask: u64,
}

impl Action {
    pub(crate) const DEFAULT: Action =
        Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
}

/// Who handled a signal before us.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Previous {
    Default,
    Ignored,
    Runtime,
    Foreign,
}

/// Reads the action in force.
pub(crate) fn current(signal: i32) -> Result<Action> {
    let mut action = Action::DEFAULT;
    // SAFETY: the pointer refers to a living value of the kernel's layout, and asking changes nothing.
    unsafe {
        call(libc::SYS_rt_sigaction, [signal as usize, 0, &raw mut action as usize, 8, 0, 0])?
    };
    Ok(action)
}

/// Puts an action in force.
///
/// # Safety
///
/// Its handler must be sound as a signal handler with its flags.
pub(crate) unsafe fn install(signal: i32, action: &Action) -> Result<()> {
    // SAFETY: the pointer refers to a living value of the kernel's layout; the caller answers for the handler.
    unsafe {
        call(
            libc::SYS_rt_sigaction,
            [signal as usize, core::ptr::from_ref(action) as usize, 0, 8, 0, 0],
        )?
    };
    Ok(())
}

struct Saved(UnsafeCell<Action>);

// SAFETY: written while arming, which one thread does before the handler can read it; only read afterwards.
unsafe impl Sync for Saved {}

static SAVED: [Saved; SIGNALS.len()] =
    [const { Saved(UnsafeCell::new(Action::DEFAULT)) }; SIGNALS.len()];

/// The address of the Rust runtime's own handler; zero when there is none.
static RUNTIME_HANDLER: AtomicUsize = AtomicUsize::new(0);

/// Remembers what was in force for a signal, before ours is installed.
pub(crate) fn remember(signal: i32, action: &Action, runtime_handler: usize) {
    RUNTIME_HANDLER.store(runtime_handler, Ordering::Relaxed);
    for (known, saved) in SIGNALS.iter().zip(&SAVED) {
        if *known == signal {
            // SAFETY: arming is done by one thread, before our handler is installed for this signal.
            unsafe { saved.0.get().write(*action) };
        }
    }
}

/// What was in force before ours.
pub(crate) fn previous(signal: i32) -> (Action, Previous) {
    let mut action = Action::DEFAULT;
    for (known, saved) in SIGNALS.iter().zip(&SAVED) {
        if *known == signal {
            // SAFETY: nobody writes after arming.
            action = unsafe { saved.0.get().read() };
        }
    }
    let kind = if action.handler == libc::SIG_DFL {
        Previous::Default
    } else if action.handler == libc::SIG_IGN {
        Previous::Ignored
    } else if action.handler == RUNTIME_HANDLER.load(Ordering::Relaxed) {
        Previous::Runtime
    } else {
        Previous::Foreign
    };
    (action, kind)
}

/// Puts back what was there before us, for every signal that is still ours.
/// With `force_default`, that signal gets its default whoever holds it.
pub(crate) fn put_back(ours: usize, force_default: Option<i32>) {
    for signal in SIGNALS {
        let Ok(in_force) = current(signal) else { continue };
        let action = if force_default == Some(signal) {
            Action::DEFAULT
        } else if in_force.handler != ours {
            continue;
        } else {
            match previous(signal) {
                (action, Previous::Foreign | Previous::Ignored) => action,
                (_, Previous::Default | Previous::Runtime) => Action::DEFAULT,
            }
        };
        // SAFETY: the action was in force before, or is the default.
        let _ = unsafe { install(signal, &action) };
    }
}

/// One foreign handler under way: which thread asks, and where the asking handler's frame lies.
struct Asking {
    tid: AtomicU32,
    frame: AtomicUsize,
}

static ASKING: [Asking; ASKING_MAX] =
    [const { Asking { tid: AtomicU32::new(0), frame: AtomicUsize::new(0) } }; ASKING_MAX];

/// Remembers that this thread asks a foreign handler about the fault in `frame`.
fn begin_asking(tid: u32, frame: usize) -> Option<&'static Asking> {
    // A handler that jumped out of an earlier call left its place behind; it is this thread's again.
    let place =
        ASKING.iter().find(|place| place.tid.load(Ordering::Relaxed) == tid).or_else(|| {
            ASKING.iter().find(|place| {
                place.tid.compare_exchange(0, tid, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            })
        })?;
    place.frame.store(frame, Ordering::Relaxed);
    Some(place)
}

/// Takes the frame that this thread is asking a foreign handler about, if the handler that was interrupted at the stack pointer `here` can be that handler.
/// A handler that jumped out leaves its place behind: then `here` lies elsewhere, the thread has its own signal `mask` back, or the frame no longer holds the token, which the caller compares. The place is free afterwards in every case.
pub(crate) fn take_asked_about(tid: u32, here: usize, mask: u64) -> Option<usize> {
    const NEAR_BYTES: usize = 1 << 20;
    // Signals that no mask can hold.
    const NEVER: u64 = signal_bit(libc::SIGKILL) | signal_bit(libc::SIGSTOP);
    let place = ASKING.iter().find(|place| place.tid.load(Ordering::Relaxed) == tid)?;
    let frame = place.frame.swap(0, Ordering::Relaxed);
    place.tid.store(0, Ordering::Release);
    // A handler that is under way runs with the mask of `ask`: everything but the crash signals.
    let is_asking = mask | NEVER | crash_bits() == !0;
    (is_asking && frame > here && frame.wrapping_sub(here) < NEAR_BYTES).then_some(frame)
}

/// Calls a foreign handler much as the kernel would have: with its mask, its own signal blocked, with or without siginfo.
/// It runs on the alternate stack whatever its flags say, and SA_RESETHAND isn't played.
///
/// # Safety
///
/// The three arguments must be those of our own handler.
pub(crate) unsafe fn ask(
    action: &Action,
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    frame: usize,
) {
    let place = begin_asking(syscall::gettid() as u32, frame);
    let own = if action.flags & libc::SA_NODEFER as u64 == 0 { signal_bit(signal) } else { 0 };
    let mask = syscall::set_signal_mask(!crash_bits() | action.mask | own);
    if action.flags & libc::SA_SIGINFO as u64 != 0 {
        // SAFETY: a handler that was installed with SA_SIGINFO has this type.
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
            unsafe { core::mem::transmute(action.handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: a handler that was installed without SA_SIGINFO has this type.
        let handler: extern "C" fn(i32) = unsafe { core::mem::transmute(action.handler) };
        handler(signal);
    }
    syscall::set_signal_mask(mask);
    if let Some(place) = place {
        place.frame.store(0, Ordering::Relaxed);
        place.tid.store(0, Ordering::Release);
    }
}
