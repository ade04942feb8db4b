//! The crash handler: what a thread does between its fault and its end.
//!
//! Notice to the next editor: everything below `on_signal` runs in a process that is broken in an unknown way.
//! No heap, no lock, no function of the C library, no descriptor before the answer, no slice index that could panic.
//! Gather before the crash ([`arm`]), not in it.
//!
//! The story, in the order of the functions: who is this for (`on_signal`), ask who was there first (`repaired_by_foreign`), one thread wins (`crash`), tell the guard (`report`), wait (`await_answer`), end as without us (`end`).

use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use super::answer::await_answer;
use super::chain::{self, Action, Previous, SIGNALS};
use super::fault::{
    Fault, accessible_now, address, code, floating_sum, general_registers, info, mask,
    overran_its_stack, repeats, stack_pointer, unblock_in_frame, was_sent,
};
use super::slot::fill_slot;
use super::stack::{self, Stack};
use super::syscall::{self, Errno, Result, call, plain};
use super::{futex, time};
use crate::black_box::{BlackBox, bell, crash, flags};
use crate::limits;
use crate::{Callback, CrashInfo};

/// What [`arm`] needs.
pub struct Arming {
    /// The mapped black box, for the life of the process.
    pub black_box: &'static BlackBox,
    /// How long to wait for one guard's answer, in milliseconds.
    pub dump_wait_ms: u32,
    /// The application's callback.
    pub callback: Option<Callback>,
    /// The address of the Rust runtime's own fault handler, or zero.
    pub runtime_handler: usize,
    /// Whether a process that the kernel made undumpable, most often by a change of user, lets itself be dumped while it waits at a fault of its own.
    pub raise_dumpable: bool,
}

static BLACK_BOX: AtomicPtr<BlackBox> = AtomicPtr::new(core::ptr::null_mut());
static OWNER_PID: AtomicI32 = AtomicI32::new(0);
static DUMP_WAIT_MS: AtomicU32 = AtomicU32::new(limits::DUMP_WAIT_MS_DEFAULT);
static CALLBACK: AtomicUsize = AtomicUsize::new(0);
static RAISE_DUMPABLE: AtomicU32 = AtomicU32::new(0);
static EMERGENCY_TOP: AtomicUsize = AtomicUsize::new(0);
static NESTED_LOWEST: AtomicUsize = AtomicUsize::new(0);

/// Whether the keeper has looked for the stacks.
static KEEPER_CAME: AtomicU32 = AtomicU32::new(0);
/// The thread whose crash is being handled; others wait on this word.
static CRASHING: AtomicU32 = AtomicU32::new(0);
/// How often the crashing thread crashed within its crash.
static NESTING: AtomicU32 = AtomicU32::new(0);
/// The fault that is being handled; valid while `CRASHING` is set, since its thread doesn't leave the frame.
static FAULT: AtomicPtr<Fault> = AtomicPtr::new(core::ptr::null_mut());

/// The thread whose crash is being handled, if there is one. One that was released and lives on is none.
#[must_use]
pub fn crashing_thread() -> Option<u32> {
    let tid = CRASHING.load(Ordering::Acquire);
    let is_released = || {
        black_box().is_some_and(|it| it.control.crash.load(Ordering::Acquire) == crash::RELEASED)
    };
    (tid != 0 && !is_released()).then_some(tid)
}

/// Installs the crash handler for SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP and SIGSYS, and makes the emergency stacks.
/// Called once, from the application's thread, before anything can crash in a way that matters; not signal-safe.
///
/// # Errors
///
/// ENOMEM when there is no memory for the stacks; what the kernel says when an action is refused.
pub fn arm(arming: &Arming) -> Result<()> {
    let emergency = Stack::map(limits::EMERGENCY_STACK_BYTES)?;
    let nested = Stack::map(limits::NESTED_STACK_BYTES)?;
    EMERGENCY_TOP.store(emergency.top(), Ordering::SeqCst);
    NESTED_LOWEST.store(nested.lowest(), Ordering::SeqCst);
    DUMP_WAIT_MS.store(arming.dump_wait_ms, Ordering::Relaxed);
    CALLBACK.store(arming.callback.map_or(0, |callback| callback as usize), Ordering::Relaxed);
    RAISE_DUMPABLE.store(u32::from(arming.raise_dumpable), Ordering::Relaxed);
    OWNER_PID.store(syscall::getpid(), Ordering::Relaxed);
    BLACK_BOX.store(core::ptr::from_ref(arming.black_box).cast_mut(), Ordering::Release);
    for signal in SIGNALS {
        chain::remember(signal, &chain::current(signal)?, arming.runtime_handler);
        // SAFETY: `on_signal` keeps the rules of signal handlers, and the flags are those it is written for.
        unsafe { chain::install(signal, &our_action())? };
    }
    // On a busy machine the keeper has a guard before this thread comes here, and found no stacks to touch.
    if KEEPER_CAME.load(Ordering::SeqCst) != 0 {
        touch();
    }
    Ok(())
}

/// Lets the handler, which a forked process has inherited, work for that process. Where it isn't installed it stays so.
/// Not signal-safe.
pub fn arm_forked(black_box: &'static BlackBox) {
    FAULT.store(core::ptr::null_mut(), Ordering::Relaxed);
    NESTING.store(0, Ordering::Relaxed);
    OVERRUNS.store(0, Ordering::Relaxed);
    CRASHING.store(0, Ordering::Relaxed);
    BLACK_BOX.store(core::ptr::from_ref(black_box).cast_mut(), Ordering::Release);
    OWNER_PID.store(syscall::getpid(), Ordering::Release);
}

/// Makes the pages of the emergency stacks present, so that a crash needs no memory.
/// It takes longer than everything else of [`arm`] together, so the keeper does it, off the application's way.
pub(super) fn touch_stacks() {
    KEEPER_CAME.store(1, Ordering::SeqCst);
    touch();
}

/// Of this function's callers at least one sees the stacks: each tells that it was here before it looks.
fn touch() {
    let top = EMERGENCY_TOP.load(Ordering::SeqCst);
    let nested = NESTED_LOWEST.load(Ordering::SeqCst);
    if top != 0 {
        stack::touch(
            top.wrapping_sub(limits::EMERGENCY_STACK_BYTES),
            limits::EMERGENCY_STACK_BYTES,
        );
    }
    if nested != 0 {
        stack::touch(nested, limits::NESTED_STACK_BYTES);
    }
}

/// Installs the handler again after the worker survived its crash.
/// A signal for which somebody else has installed a handler since is left to them.
pub(super) fn arm_again() {
    for signal in SIGNALS {
        let (before, _) = chain::previous(signal);
        let Ok(in_force) = chain::current(signal) else { continue };
        if in_force.handler == before.handler || in_force.handler == libc::SIG_DFL {
            // SAFETY: as in `arm`.
            let _ = unsafe { chain::install(signal, &our_action()) };
        }
    }
    FAULT.store(core::ptr::null_mut(), Ordering::Relaxed);
    NESTING.store(0, Ordering::Relaxed);
    CRASHING.store(0, Ordering::Release);
    futex::wake_all(&CRASHING);
}

/// The seven signals that mean a crash, one bit each.
#[must_use]
pub const fn crash_signals() -> u64 {
    chain::crash_bits()
}

/// Puts back the handlers that were there before [`arm`].
pub fn disarm() {
    chain::put_back(on_signal as *const () as usize, None);
}

/// SA_SIGINFO for the address, SA_ONSTACK since the stack may be what overflowed, SA_NODEFER so that a crash within the crash reaches us instead of killing unseen.
/// The mask keeps asynchronous signals out; the seven stay open for the same reason as NODEFER.
fn our_action() -> Action {
    Action {
        handler: on_signal as *const () as usize,
        flags: (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER) as u64 | RESTORER_FLAG,
        restorer: restorer(),
        mask: !chain::crash_bits(),
    }
}

// x86_64 has no default way back from a handler; these are the bytes by which unwinders know a signal frame.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".hidden rearguard_crashpath_restore",
    ".globl rearguard_crashpath_restore",
    ".type rearguard_crashpath_restore,@function",
    "rearguard_crashpath_restore:",
    "mov rax, 15",
    "syscall",
    ".size rearguard_crashpath_restore, . - rearguard_crashpath_restore",
);

#[cfg(target_arch = "x86_64")]
const RESTORER_FLAG: u64 = 0x0400_0000;
#[cfg(target_arch = "aarch64")]
const RESTORER_FLAG: u64 = 0;

#[cfg(target_arch = "x86_64")]
fn restorer() -> usize {
    unsafe extern "C" {
        fn rearguard_crashpath_restore();
    }
    rearguard_crashpath_restore as *const () as usize
}

#[cfg(target_arch = "aarch64")]
fn restorer() -> usize {
    0
}

/// How often in a row the kernel has begun anew on an alternate stack that was overrun.
static OVERRUNS: AtomicU32 = AtomicU32::new(0);

/// The entry from the kernel, on the thread's alternate stack where it has one.
///
/// It needs next to nothing of that stack itself. Where what follows needs more than is there, the kernel comes here for that fault too, at the same place, and would for ever.
extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if !overran_its_stack(context.cast()) {
        OVERRUNS.store(0, Ordering::Relaxed);
    } else if OVERRUNS.fetch_add(1, Ordering::Relaxed) >= limits::OVERRUNS_MAX {
        let default = Action { handler: libc::SIG_DFL, ..our_action() };
        // SAFETY: the default action has no conditions.
        let _ = unsafe { chain::install(signal, &default) };
        // The fault repeats, and ends the process.
        return;
    }
    handle(signal, info, context);
    // One that has come back is no link of an endless row.
    OVERRUNS.store(0, Ordering::Relaxed);
}

/// What a thread does in the handler.
#[inline(never)]
fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let seen_ns = time::monotonic_ns();
    if lost_siginfo(signal) {
        return;
    }
    let mut fault = Fault {
        token: 0,
        signal,
        info,
        context: context.cast(),
        tid: syscall::gettid() as u32,
        seen_ns,
        flags: 0,
    };
    fault.token = fault.token();
    if syscall::getpid() != OWNER_PID.load(Ordering::Relaxed) {
        // A forked child: the black box is its parent's, so it ends as it would have without us.
        end(&fault);
        return;
    }
    if CRASHING.load(Ordering::Acquire) == fault.tid {
        crash_within_crash(&fault);
        return;
    }
    if let Some(outer) = asked_about(&fault) {
        // The foreign handler crashed or aborted: what it was asked about is the crash.
        outer.flags |= flags::FOREIGN_ASKED | flags::FOREIGN_CRASHED;
        crash(outer);
        end(&fault);
        return;
    }
    match chain::previous(signal) {
        (action, Previous::Foreign) => {
            if repaired_by_foreign(&action, &mut fault) {
                return;
            }
            fault.flags |= flags::FOREIGN_ASKED;
        }
        (_, Previous::Ignored) if was_sent(&fault) => return,
        (_, Previous::Ignored | Previous::Default | Previous::Runtime) => {}
    }
    crash(&mut fault);
}

/// The fault that this thread was asking a foreign handler about when that handler met this one.
fn asked_about(fault: &Fault) -> Option<&'static mut Fault> {
    let interrupted = stack_pointer(&general_registers(fault)) as usize;
    let frame = chain::take_asked_about(fault.tid, interrupted, mask(fault))? as *mut Fault;
    // SAFETY: the frame lies above the interrupted stack pointer on this thread's own stack, which is mapped there.
    let outer = unsafe { frame.as_mut() }?;
    (outer.token == outer.token()).then_some(outer)
}

/// Whether somebody installed our handler again without SA_SIGINFO, as `signal()` does with what it read; then info and context are garbage.
/// The action is mended and the fault left to happen again.
fn lost_siginfo(signal: i32) -> bool {
    let Ok(action) = chain::current(signal) else { return false };
    let ours = our_action();
    if action.handler != ours.handler || action.flags & libc::SA_SIGINFO as u64 != 0 {
        return false;
    }
    // SAFETY: as in `arm`.
    unsafe { chain::install(signal, &ours) }.is_ok()
}

/// Asks a foreign handler that was there first, and says whether the fault is mended.
///
/// It is when the handler changed the context, when it returned from a signal that doesn't repeat (without us the program would go on), or when what was inaccessible is accessible now.
/// A handler that jumps out never comes back here, and that is no crash either.
fn repaired_by_foreign(action: &Action, fault: &mut Fault) -> bool {
    let before = (general_registers(fault), floating_sum(fault));
    let frame = core::ptr::from_mut(fault) as usize;
    // SAFETY: the arguments are those of our own handler.
    unsafe { chain::ask(action, fault.signal, fault.info, fault.context.cast(), frame) };
    if (general_registers(fault), floating_sum(fault)) != before {
        return true;
    }
    match fault.signal {
        libc::SIGABRT => false,
        libc::SIGTRAP | libc::SIGSYS => true,
        libc::SIGSEGV | libc::SIGBUS if !was_sent(fault) => accessible_now(fault),
        _ => was_sent(fault),
    }
}

/// Lets one thread through; the others wait until the process has ended, for as long as the winner may take.
/// When the winner survived its crash after all, those who waited compete for the next.
fn crash(fault: &mut Fault) {
    loop {
        match CRASHING.compare_exchange(0, fault.tid, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                FAULT.store(fault, Ordering::Release);
                let top = EMERGENCY_TOP.load(Ordering::Relaxed);
                let argument = core::ptr::from_mut(fault).cast();
                // SAFETY: the emergency stack is mapped, and only the one thread that won uses it.
                unsafe { stack::call_on(top, on_emergency_stack, argument) };
                break;
            }
            Err(winner) if !wait_for_the_winner(winner) => break,
            Err(_) => {}
        }
    }
    end(fault);
}

/// Waits while another thread's crash is handled, each of its guards at its slowest; false when it still is afterwards.
fn wait_for_the_winner(winner: u32) -> bool {
    let one_guard_ms = DUMP_WAIT_MS
        .load(Ordering::Relaxed)
        .saturating_add(2 * limits::GUARD_READY_MS_MAX)
        .saturating_add(limits::GUARD_DEATH_MS_MAX);
    let wait_ms = one_guard_ms.saturating_mul(limits::GUARDS_PER_CRASH_MAX);
    let deadline_ns = time::monotonic_ns().saturating_add(u64::from(wait_ms) * 1_000_000);
    while CRASHING.load(Ordering::Acquire) == winner {
        if futex::wait(&CRASHING, winner, Some(deadline_ns)) == futex::Woken::TimedOut {
            return false;
        }
    }
    true
}

/// The winner's way, on memory that nobody else uses.
extern "C" fn on_emergency_stack(argument: *mut u8) {
    // SAFETY: `crash` passes its own fault and waits here for our return.
    let fault = unsafe { &*argument.cast_const().cast::<Fault>() };
    let Some(black_box) = black_box() else { return };
    // From here on a crash within the crash must not overwrite the signal frame that the context lies in.
    // SAFETY: the nested stack is mapped and used by nobody else; we run on the emergency stack, not on the alternate one.
    let earlier = unsafe {
        stack::set_alternate(NESTED_LOWEST.load(Ordering::Relaxed), limits::NESTED_STACK_BYTES)
    };
    alarm_guard(black_box);
    fill_slot(black_box, fault);
    run_callback(fault);
    let dumpable = raise_dumpable(fault);
    report(black_box);
    if let Some(earlier) = dumpable {
        // A process can't set 2, which is what most systems have here; 0 is as closed.
        let closed = usize::from(earlier == 1);
        let _ = plain!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, closed);
    }
    if let Ok(earlier) = earlier {
        // SAFETY: it is the stack that was in force.
        let _ = unsafe { stack::exchange_alternate(&earlier) };
    }
}

/// Lets the guard look at a process that the kernel made undumpable, where the application chose so; returns what to put back.
/// Only for a signal that the kernel or the process itself raised: nobody else may open it by sending one.
fn raise_dumpable(fault: &Fault) -> Option<usize> {
    // SAFETY: for a signal that a process sent, the union holds its pid.
    let trusted = !was_sent(fault) || unsafe { info(fault).si_pid() } == syscall::getpid();
    if RAISE_DUMPABLE.load(Ordering::Relaxed) == 0 || !trusted {
        return None;
    }
    let earlier = plain!(libc::SYS_prctl, libc::PR_GET_DUMPABLE).ok()?;
    if earlier == 1 {
        return None;
    }
    plain!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1).ok()?;
    Some(earlier)
}

fn black_box() -> Option<&'static BlackBox> {
    // SAFETY: `arm` stores a reference that is valid for the life of the process, or nothing.
    unsafe { BLACK_BOX.load(Ordering::Acquire).as_ref() }
}

/// A crash of the crashing thread itself, in the application's callback, in a handler that we put back, or in our own code.
fn crash_within_crash(fault: &Fault) {
    let first = NESTING.fetch_add(1, Ordering::AcqRel) == 0;
    let Some(black_box) = black_box() else { return end_by_default(fault) };
    let state = black_box.control.crash.load(Ordering::Acquire);
    if first && state == crash::CLAIMED {
        // The callback crashed. What is in the slot is the crash; this one is a remark.
        black_box.slot.flags.fetch_or(flags::CALLBACK_CRASHED, Ordering::Relaxed);
        report(black_box);
        // SAFETY: the winner's fault lives in a frame of this thread that is still there.
        if let Some(outer) = unsafe { FAULT.load(Ordering::Acquire).as_ref() } {
            end_signal(outer, fault);
            return;
        }
    }
    end_by_default(fault);
}

/// Lets the application say a last word.
fn run_callback(fault: &Fault) {
    let callback = CALLBACK.load(Ordering::Relaxed);
    if callback == 0 {
        return;
    }
    // SAFETY: only `arm` stores here, and it stores a `Callback`.
    let callback: Callback = unsafe { core::mem::transmute(callback) };
    callback(&CrashInfo {
        signal: fault.signal,
        code: code(fault),
        address: address(fault),
        tid: fault.tid as i32,
    });
}

/// Claims the slot and wakes the guard, which takes as long to come as the slot takes to fill.
fn alarm_guard(black_box: &BlackBox) {
    let control = &black_box.control;
    control.crash.store(crash::CLAIMED, Ordering::Release);
    control.bell.store(bell::RUNG, Ordering::Release);
    futex::wake_all(&control.bell);
}

/// Hands the crash to the guard and waits for the answer, whoever gives it.
fn report(black_box: &BlackBox) {
    let control = &black_box.control;
    control.crash.store(crash::WAITING, Ordering::Release);
    futex::wake_all(&control.crash);
    await_answer(black_box, DUMP_WAIT_MS.load(Ordering::Relaxed));
    control.worker_released_ns.store(time::monotonic_ns(), Ordering::Relaxed);
    control.crash.store(crash::RELEASED, Ordering::Release);
}

/// Ends the process as it would have ended without us: the earlier handlers are back, and the signal comes again with its own siginfo.
#[inline(always)]
fn end(fault: &Fault) {
    end_signal(fault, fault);
}

/// Queues `crash`'s signal so that it takes effect when the handler that was entered with `entered` returns.
fn end_signal(crash: &Fault, entered: &Fault) {
    let _ = syscall::block_all_signals();
    let (_, previous) = chain::previous(crash.signal);
    let force = if previous == Previous::Ignored { Some(crash.signal) } else { None };
    chain::put_back(on_signal as *const () as usize, force);
    queue(crash, entered, previous != Previous::Foreign);
}

/// As [`end_signal`], past all handlers: the signal's default is in force, whoever had installed what.
#[inline(always)]
fn end_by_default(fault: &Fault) {
    let _ = syscall::block_all_signals();
    chain::put_back(on_signal as *const () as usize, Some(fault.signal));
    queue(fault, fault, true);
}

/// Queues the signal to this thread. It is blocked now, and delivered when the kernel takes up the mask of `entered`'s frame.
fn queue(crash: &Fault, entered: &Fault, by_default: bool) {
    unblock_in_frame(entered, crash.signal);
    let pid = syscall::getpid();
    if pid == 1 && by_default && !repeats(crash) {
        // The kernel drops default signals that PID 1 sends itself (pid_namespaces(7)).
        syscall::exit_group(128_i32.wrapping_add(crash.signal));
    }
    // SAFETY: the siginfo is the kernel's own, and stays where it is until the handler returns.
    let queued = unsafe {
        call(
            libc::SYS_rt_tgsigqueueinfo,
            [pid as usize, crash.tid as usize, crash.signal as usize, crash.info as usize, 0, 0],
        )
    };
    if let Err(Errno(_)) = queued {
        // Without the queue a plain signal still ends the process by the right number; only its address is lost.
        if plain!(libc::SYS_tgkill, pid, crash.tid, crash.signal).is_err() {
            syscall::exit_group(128_i32.wrapping_add(crash.signal));
        }
    }
}
