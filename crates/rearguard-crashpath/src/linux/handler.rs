//! The crash handler: what a thread does between its fault and its end.
//!
//! Notice to the next editor: everything below `on_signal` runs in a process that is broken in an unknown way.
//! No heap, no lock, no function of the C library, no descriptor before the answer, no slice index that could panic.
//! Gather before the crash ([`arm`]), not in it.
//!
//! The story, in the order of the functions: who is this for (`on_signal`), ask who was there first (`repaired_by_foreign`), one thread wins (`crash`), tell the guard (`report`), wait (`await_answer`), end as without us (`end`).

use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use super::chain::{self, Action, Previous, SIGNALS};
use super::stack::{self, Stack};
use super::syscall::{self, Errno, Result, call, plain, signal_bit};
use super::{futex, keeper, time};
use crate::black_box::{BlackBox, answer, bell, crash, flags, guard, owner};
use crate::limits;

/// What the application's crash callback learns.
#[derive(Clone, Copy, Debug)]
pub struct CrashInfo {
    /// The signal.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// The address of the fault; zero where the signal has none.
    pub address: u64,
    /// The crashed thread.
    pub tid: i32,
}

/// The type of the application's crash callback. It runs on the emergency stack in the crashed thread.
pub type Callback = fn(&CrashInfo);

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
/// The thread whose crash is being handled; others wait on this word.
static CRASHING: AtomicU32 = AtomicU32::new(0);
/// How often the crashing thread crashed within its crash.
static NESTING: AtomicU32 = AtomicU32::new(0);
/// The fault that is being handled; valid while `CRASHING` is set, since its thread doesn't leave the frame.
static FAULT: AtomicPtr<Fault> = AtomicPtr::new(core::ptr::null_mut());

/// One call of the handler.
struct Fault {
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::ucontext_t,
    tid: u32,
    seen_ns: u64,
    flags: u32,
}

/// The thread whose crash is being handled, if there is one.
#[must_use]
pub fn crashing_thread() -> Option<u32> {
    match CRASHING.load(Ordering::Relaxed) {
        0 => None,
        tid => Some(tid),
    }
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
    EMERGENCY_TOP.store(emergency.top(), Ordering::Relaxed);
    NESTED_LOWEST.store(nested.lowest(), Ordering::Relaxed);
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
    Ok(())
}

/// Makes the pages of the emergency stacks present, so that a crash needs no memory.
/// It takes longer than everything else of [`arm`] together, so the keeper does it, off the application's way.
pub(super) fn touch_stacks() {
    let top = EMERGENCY_TOP.load(Ordering::Relaxed);
    let nested = NESTED_LOWEST.load(Ordering::Relaxed);
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

/// The entry from the kernel, on the thread's alternate stack where it has one.
extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let seen_ns = time::monotonic_ns();
    if lost_siginfo(signal) {
        return;
    }
    let mut fault = Fault {
        signal,
        info,
        context: context.cast(),
        tid: syscall::gettid() as u32,
        seen_ns,
        flags: 0,
    };
    if syscall::getpid() != OWNER_PID.load(Ordering::Relaxed) {
        // A forked child: the black box is its parent's, so it ends as it would have without us.
        end(&fault);
        return;
    }
    if CRASHING.load(Ordering::Acquire) == fault.tid {
        crash_within_crash(&fault);
        return;
    }
    let here = core::ptr::from_ref(&fault) as usize;
    if let Some(outer) = chain::asked_about(fault.tid, here) {
        // The foreign handler crashed or aborted: what it was asked about is the crash.
        // SAFETY: the frame lies above ours on this thread's stack, so its function has not returned.
        let outer = unsafe { &mut *(outer as *mut Fault) };
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

/// `si_code` of the fault.
fn code(fault: &Fault) -> i32 {
    info(fault).si_code
}

/// The kernel's siginfo.
fn info(fault: &Fault) -> &libc::siginfo_t {
    // SAFETY: the kernel hands a valid siginfo to a handler with SA_SIGINFO, and it lies above our frame.
    unsafe { &*fault.info }
}

/// Whether a process sent the signal, so that it doesn't happen again by itself.
fn was_sent(fault: &Fault) -> bool {
    code(fault) <= 0
}

/// The address of the fault; zero for a signal that was sent or has none.
fn address(fault: &Fault) -> u64 {
    if was_sent(fault) || fault.signal == libc::SIGABRT {
        return 0;
    }
    // SAFETY: for a fault of the kernel's the union holds the address.
    unsafe { info(fault).si_addr() as u64 }
}

/// Asks a foreign handler that was there first, and says whether the fault is mended.
///
/// It is when the handler changed the context, when it returned from a signal that doesn't repeat (without us the program would go on), or when what was inaccessible is accessible now.
/// A handler that jumps out never comes back here, and that is no crash either.
fn repaired_by_foreign(action: &Action, fault: &mut Fault) -> bool {
    let before = general_registers(fault);
    let frame = core::ptr::from_mut(fault) as usize;
    // SAFETY: the arguments are those of our own handler.
    unsafe { chain::ask(action, fault.signal, fault.info, fault.context.cast(), frame) };
    if general_registers(fault) != before {
        return true;
    }
    match fault.signal {
        libc::SIGABRT => false,
        libc::SIGTRAP | libc::SIGSYS => true,
        libc::SIGSEGV | libc::SIGBUS if !was_sent(fault) => accessible_now(fault),
        _ => was_sent(fault),
    }
}

/// Whether the address of the fault can be accessed now in the way that failed, without touching its content.
fn accessible_now(fault: &Fault) -> bool {
    // What can't be executed can't be asked about either; it stays a crash.
    let Some(advice) = advice(fault) else { return false };
    let page = address(fault) as usize & !4095;
    // SAFETY: populating makes pages present and changes no content (madvise(2)); an unmapped page is an error.
    unsafe { call(libc::SYS_madvise, [page, 4096, advice as usize, 0, 0, 0]) }.is_ok()
}

/// The question to the kernel that is like the faulting access; none for the fetch of an instruction.
#[cfg(target_arch = "x86_64")]
fn advice(fault: &Fault) -> Option<i32> {
    // SAFETY: the kernel hands a valid context to the handler.
    let error_code = unsafe { (*fault.context).uc_mcontext.gregs[libc::REG_ERR as usize] };
    // The page-fault error code of the processor: bit 1 write, bit 4 instruction fetch.
    if error_code & 16 != 0 {
        None
    } else if error_code & 2 != 0 {
        Some(libc::MADV_POPULATE_WRITE)
    } else {
        Some(libc::MADV_POPULATE_READ)
    }
}

/// aarch64 keeps the syndrome in an extension record; the stricter question is asked instead.
#[cfg(target_arch = "aarch64")]
fn advice(_fault: &Fault) -> Option<i32> {
    Some(libc::MADV_POPULATE_WRITE)
}

#[cfg(target_arch = "x86_64")]
const GENERAL: usize = 23;
#[cfg(target_arch = "aarch64")]
const GENERAL: usize = 34;

/// The general registers in the order of the kernel's signal context.
#[cfg(target_arch = "x86_64")]
fn general_registers(fault: &Fault) -> [u64; GENERAL] {
    // SAFETY: the kernel hands a valid context to the handler.
    unsafe { (*fault.context).uc_mcontext.gregs }.map(|register| register as u64)
}

/// The general registers: x0 to x30, sp, pc, pstate.
#[cfg(target_arch = "aarch64")]
fn general_registers(fault: &Fault) -> [u64; GENERAL] {
    // SAFETY: the kernel hands a valid context to the handler.
    let machine = unsafe { &(*fault.context).uc_mcontext };
    let mut registers = [0; GENERAL];
    let tail = [machine.sp, machine.pc, machine.pstate];
    for (place, value) in registers.iter_mut().zip(machine.regs.iter().chain(&tail)) {
        *place = *value;
    }
    registers
}

/// The stack pointer at the fault.
fn stack_pointer(general: &[u64; GENERAL]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    const PLACE: usize = libc::REG_RSP as usize;
    #[cfg(target_arch = "aarch64")]
    const PLACE: usize = 31;
    general[PLACE]
}

/// The floating-point state in the signal frame; null when there is none.
#[cfg(target_arch = "x86_64")]
fn floating_state(fault: &Fault) -> (*const u8, usize) {
    // SAFETY: the kernel hands a valid context to the handler.
    (unsafe { (*fault.context).uc_mcontext.fpregs }.cast_const().cast(), 512)
}

/// The FPSIMD record, always the first of the extension records (arch/arm64 `sigcontext.h`): a header of 8 bytes, FPSR, FPCR, then the registers.
#[cfg(target_arch = "aarch64")]
fn floating_state(fault: &Fault) -> (*const u8, usize) {
    // `__reserved` isn't public in the bindings; it is the last field and aligned to 16.
    let end = size_of::<libc::ucontext_t>();
    let start = end.wrapping_sub(4096);
    // SAFETY: the address stays within the context.
    (unsafe { fault.context.cast_const().cast::<u8>().add(start) }, 8 + 8 + 512)
}

/// Lets one thread through; the others wait until the process has ended, or for as long as the winner may take.
fn crash(fault: &mut Fault) {
    match CRASHING.compare_exchange(0, fault.tid, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            FAULT.store(fault, Ordering::Release);
            let top = EMERGENCY_TOP.load(Ordering::Relaxed);
            // SAFETY: the emergency stack is mapped, and only the one thread that won uses it.
            unsafe { stack::call_on(top, on_emergency_stack, core::ptr::from_mut(fault).cast()) };
        }
        Err(winner) => wait_for_the_winner(winner),
    }
    end(fault);
}

/// Waits while another thread's crash is handled.
fn wait_for_the_winner(winner: u32) {
    let wait_ms = DUMP_WAIT_MS.load(Ordering::Relaxed).saturating_mul(limits::GUARDS_PER_CRASH_MAX);
    let deadline_ns = time::monotonic_ns().saturating_add(u64::from(wait_ms) * 1_000_000);
    while CRASHING.load(Ordering::Acquire) == winner {
        if futex::wait(&CRASHING, winner, Some(deadline_ns)) == futex::Woken::TimedOut {
            return;
        }
    }
}

/// The winner's way, on memory that nobody else uses.
extern "C" fn on_emergency_stack(argument: *mut u8) {
    // SAFETY: `crash` passes its own fault and waits here for our return.
    let fault = unsafe { &mut *argument.cast::<Fault>() };
    let Some(black_box) = black_box() else { return };
    // From here on a crash within the crash must not overwrite the signal frame that the context lies in.
    // SAFETY: the nested stack is mapped and used by nobody else; we run on the emergency stack, not on the alternate one.
    let earlier = unsafe {
        stack::set_alternate(NESTED_LOWEST.load(Ordering::Relaxed), limits::NESTED_STACK_BYTES)
    };
    fill_slot(black_box, fault);
    run_callback(fault);
    let dumpable = raise_dumpable(fault);
    report(black_box);
    if let Some(earlier) = dumpable {
        let _ = plain!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, earlier);
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

/// Stores the crash context in the black box.
fn fill_slot(black_box: &BlackBox, fault: &Fault) {
    let slot = &black_box.slot;
    black_box.control.crash.store(crash::CLAIMED, Ordering::Release);
    let general = general_registers(fault);
    let stack_pointer = stack_pointer(&general);
    let mut remarks = fault.flags;
    let distance = address(fault).abs_diff(stack_pointer);
    if fault.signal == libc::SIGSEGV && !was_sent(fault) && distance < 65_536 {
        remarks |= flags::NEAR_STACK_POINTER;
    }
    if black_box.control.survived.load(Ordering::Relaxed) != 0 {
        remarks |= flags::SURVIVED_BEFORE;
    }
    slot.flags.store(remarks, Ordering::Relaxed);
    slot.tid.store(fault.tid, Ordering::Relaxed);
    slot.signal.store(fault.signal, Ordering::Relaxed);
    slot.code.store(code(fault), Ordering::Relaxed);
    slot.address.store(address(fault), Ordering::Relaxed);
    slot.seen_ns.store(fault.seen_ns, Ordering::Relaxed);
    slot.seen_real_ns.store(time::real_ns(), Ordering::Relaxed);
    if was_sent(fault) {
        // SAFETY: for a signal that a process sent, the union holds its pid.
        let sender = unsafe { info(fault).si_pid() };
        slot.sender_pid.store(sender as u32, Ordering::Relaxed);
    }
    for (index, register) in general.iter().enumerate() {
        slot.general.set(index, *register);
    }
    slot.general_count.store(GENERAL as u32, Ordering::Relaxed);
    let (floating, bytes) = floating_state(fault);
    if !floating.is_null() {
        // SAFETY: the kernel wrote this state into the signal frame.
        let floating = unsafe { core::slice::from_raw_parts(floating, bytes) };
        slot.floating.store(floating);
        slot.floating_bytes.store(bytes as u32, Ordering::Relaxed);
    }
    // SAFETY: siginfo_t has 128 bytes, all written by the kernel.
    let info = unsafe { core::slice::from_raw_parts(fault.info.cast_const().cast::<u8>(), 128) };
    slot.siginfo.store(info);
    copy_stack(black_box, stack_pointer);
}

/// Copies the stack from the stack pointer up, as far as it is there, for a guard that may not read our memory.
/// The kernel copies, so an unmapped page is a short answer and no fault.
fn copy_stack(black_box: &BlackBox, stack_pointer: u64) {
    const PAGE: usize = 4096;
    const PAGES: usize = limits::STACK_COPY_BYTES_MAX / PAGE;
    // 128 bytes below the stack pointer belong to the function too, on x86_64.
    let start = (stack_pointer as usize).wrapping_sub(128) & !15;
    let local = libc::iovec {
        iov_base: black_box.stack.address().cast(),
        iov_len: limits::STACK_COPY_BYTES_MAX,
    };
    // One element a page: the kernel stops at the first that can't be read whole.
    let mut remote = [libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 }; PAGES];
    let mut at = start;
    let end = start.wrapping_add(limits::STACK_COPY_BYTES_MAX);
    for element in &mut remote {
        let next = (at & !(PAGE - 1)).wrapping_add(PAGE).min(end);
        *element =
            libc::iovec { iov_base: at as *mut libc::c_void, iov_len: next.wrapping_sub(at) };
        at = next;
    }
    // SAFETY: the kernel writes to the black box, whose length is given, and checks what it reads.
    let copied = unsafe {
        call(
            libc::SYS_process_vm_readv,
            [
                syscall::getpid() as usize,
                &raw const local as usize,
                1,
                remote.as_ptr() as usize,
                PAGES,
                0,
            ],
        )
    };
    black_box.slot.stack_address.store(start as u64, Ordering::Relaxed);
    black_box.slot.stack_bytes.store(copied.unwrap_or(0) as u32, Ordering::Relaxed);
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

/// Hands the crash to the guard and waits for the answer, whoever gives it.
fn report(black_box: &BlackBox) {
    let control = &black_box.control;
    control.crash.store(crash::WAITING, Ordering::Release);
    control.bell.store(bell::RUNG, Ordering::Release);
    futex::wake_all(&control.bell);
    await_answer(black_box);
    control.worker_released_ns.store(time::monotonic_ns(), Ordering::Relaxed);
    control.crash.store(crash::RELEASED, Ordering::Release);
    futex::wake_all(&control.crash);
}

/// Waits for an answer from up to [`limits::GUARDS_PER_CRASH_MAX`] guards, each with a deadline, and ends the silent ones.
fn await_answer(black_box: &BlackBox) {
    let control = &black_box.control;
    let wait_ns = u64::from(DUMP_WAIT_MS.load(Ordering::Relaxed)) * 1_000_000;
    let start_ns = u64::from(limits::GUARD_READY_MS_MAX) * 1_000_000 * 2;
    let mut on_duty = None;
    let mut tried = 0;
    let mut deadline_ns = time::monotonic_ns().saturating_add(start_ns);
    while control.answer.load(Ordering::Acquire) == answer::NONE {
        let word = control.guard.load(Ordering::Acquire);
        if word == guard::LEFT || word == guard::ANSWERED {
            return;
        }
        let Some(tid) = owner(word) else {
            if on_duty.take().is_some() {
                deadline_ns = time::monotonic_ns().saturating_add(start_ns);
            }
            if tried >= limits::GUARDS_PER_CRASH_MAX || !call_the_keeper(black_box, word) {
                return;
            }
            let word = control.guard.load(Ordering::Acquire);
            let vacant = owner(word).is_none();
            if vacant
                && futex::wait_and_pass_on(&control.guard, word, Some(deadline_ns))
                    == futex::Woken::TimedOut
            {
                return;
            }
            continue;
        };
        if on_duty != Some(tid) {
            on_duty = Some(tid);
            tried += 1;
            deadline_ns = time::monotonic_ns().saturating_add(wait_ns);
        }
        if futex::wait_and_pass_on(&control.guard, word, Some(deadline_ns))
            == futex::Woken::TimedOut
            && !end_guard(black_box, word, tid)
        {
            return;
        }
    }
}

/// Asks the keeper for a guard; false when there is no keeper to ask.
fn call_the_keeper(black_box: &BlackBox, word: u32) -> bool {
    if !keeper::serves() {
        return false;
    }
    let guard = &black_box.control.guard;
    if word != guard::CALLED {
        let _ = guard.compare_exchange(word, guard::CALLED, Ordering::AcqRel, Ordering::Relaxed);
        futex::wake_all(guard);
    }
    true
}

/// Ends a guard that is silent, and waits until that is true; only then may another be started.
/// False when it can't be proved: then no other is started, so that there are never two.
fn end_guard(black_box: &BlackBox, word: u32, tid: u32) -> bool {
    let control = &black_box.control;
    if control.answer.load(Ordering::Acquire) != answer::NONE {
        return true;
    }
    // The word lies in memory that the crash may have overwritten; only the process that our keeper started is ended.
    if keeper::guard_pid() != tid {
        return false;
    }
    if syscall::kill(tid as i32, libc::SIGKILL).is_err() {
        return false;
    }
    let deadline_ns =
        time::monotonic_ns().saturating_add(u64::from(limits::GUARD_DEATH_MS_MAX) * 1_000_000);
    while control.guard.load(Ordering::Acquire) == word {
        if futex::wait_and_pass_on(&control.guard, word, Some(deadline_ns))
            == futex::Woken::TimedOut
        {
            return false;
        }
    }
    true
}

/// Ends the process as it would have ended without us: the earlier handlers are back, and the signal comes again with its own siginfo.
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

/// Whether the instruction faults again by itself when the handler returns.
fn repeats(fault: &Fault) -> bool {
    !was_sent(fault)
        && matches!(fault.signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE)
}

/// Makes sure that returning from the handler lets the signal through.
fn unblock_in_frame(fault: &Fault, signal: i32) {
    // The kernel reads the first eight bytes of the C library's larger set.
    // SAFETY: the context is the kernel's frame, which we may change.
    let mask = unsafe { &raw mut (*fault.context).uc_sigmask }.cast::<u64>();
    // SAFETY: as above.
    let value = unsafe { mask.read_unaligned() };
    // SAFETY: as above.
    unsafe { mask.write_unaligned(value & !signal_bit(signal)) };
}
