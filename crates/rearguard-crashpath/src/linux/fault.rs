//! One fault as the kernel told it: what is read from siginfo and signal frame, and the one thing that is changed there.
//!
//! Everything here is for the handler and what it calls; the pointers are the kernel's, valid until the handler returns.

use super::syscall::{Errno, call, signal_bit};

/// One call of the handler.
pub(super) struct Fault {
    /// [`Fault::token`] while the call is under way; a frame that was left by a jump and used again holds something else.
    pub(super) token: u64,
    pub(super) signal: i32,
    pub(super) info: *mut libc::siginfo_t,
    pub(super) context: *mut libc::ucontext_t,
    pub(super) tid: u32,
    pub(super) seen_ns: u64,
    pub(super) flags: u32,
}

impl Fault {
    /// What a frame at this address of this moment holds.
    pub(super) fn token(&self) -> u64 {
        self.seen_ns.rotate_left(17) ^ core::ptr::from_ref(self) as u64 ^ u64::from(self.tid)
    }
}

/// `si_code` of the fault.
pub(super) fn code(fault: &Fault) -> i32 {
    info(fault).si_code
}

/// The kernel's siginfo.
pub(super) fn info(fault: &Fault) -> &libc::siginfo_t {
    // SAFETY: the kernel hands a valid siginfo to a handler with SA_SIGINFO, and it lies above our frame.
    unsafe { &*fault.info }
}

/// Whether a process sent the signal, so that it doesn't happen again by itself.
pub(super) fn was_sent(fault: &Fault) -> bool {
    code(fault) <= 0
}

/// The address of the fault; zero for a signal that was sent or has none.
pub(super) fn address(fault: &Fault) -> u64 {
    if was_sent(fault) || fault.signal == libc::SIGABRT {
        return 0;
    }
    // SAFETY: for a fault of the kernel's the union holds the address.
    unsafe { info(fault).si_addr() as u64 }
}

/// Whether the instruction faults again by itself when the handler returns.
pub(super) fn repeats(fault: &Fault) -> bool {
    !was_sent(fault)
        && matches!(fault.signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE)
}

/// Whether the address of the fault can be accessed now in the way that failed, without touching its content.
pub(super) fn accessible_now(fault: &Fault) -> bool {
    // What can't be executed can't be asked about either; it stays a crash.
    let Some(advice) = advice(fault) else { return false };
    // Pages have 4, 16 or 64 KiB; a smaller piece than the system's is EINVAL.
    for bytes in [4096, 16_384, 65_536] {
        let page = address(fault) as usize & !(bytes - 1);
        // SAFETY: populating makes pages present and changes no content (madvise(2)); an unmapped page is an error.
        let done = unsafe { call(libc::SYS_madvise, [page, bytes, advice as usize, 0, 0, 0]) };
        if done != Err(Errno(libc::EINVAL)) {
            return done.is_ok();
        }
    }
    false
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
pub(super) const GENERAL: usize = 23;

#[cfg(target_arch = "aarch64")]
pub(super) const GENERAL: usize = 34;

/// The general registers in the order of the kernel's signal context.
#[cfg(target_arch = "x86_64")]
pub(super) fn general_registers(fault: &Fault) -> [u64; GENERAL] {
    // SAFETY: the kernel hands a valid context to the handler.
    unsafe { (*fault.context).uc_mcontext.gregs }.map(|register| register as u64)
}

/// The general registers: x0 to x30, sp, pc, pstate.
#[cfg(target_arch = "aarch64")]
pub(super) fn general_registers(fault: &Fault) -> [u64; GENERAL] {
    // SAFETY: the kernel hands a valid context to the handler.
    let machine = unsafe { &(*fault.context).uc_mcontext };
    let mut registers = [0; GENERAL];
    let tail = [machine.sp, machine.pc, machine.pstate];
    for (place, value) in registers.iter_mut().zip(machine.regs.iter().chain(&tail)) {
        *place = *value;
    }
    registers
}

/// Whether a fault came from just below the alternate stack that is in force: from a handler that needed more of it than there is.
pub(super) fn overran_its_stack(context: *const libc::ucontext_t) -> bool {
    /// No frame of a handler skips more.
    const BELOW_MAX: usize = 64 * 1024;
    // SAFETY: the kernel hands a valid context to the handler.
    let context = unsafe { &*context };
    #[cfg(target_arch = "x86_64")]
    let pointer = context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    let pointer = context.uc_mcontext.sp as usize;
    let below = (context.uc_stack.ss_sp as usize).wrapping_sub(pointer);
    context.uc_stack.ss_flags & libc::SS_DISABLE == 0 && below > 0 && below <= BELOW_MAX
}

/// The stack pointer at the fault.
pub(super) fn stack_pointer(general: &[u64; GENERAL]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    const PLACE: usize = libc::REG_RSP as usize;
    #[cfg(target_arch = "aarch64")]
    const PLACE: usize = 31;
    general[PLACE]
}

/// The floating-point state in the signal frame; null when there is none.
#[cfg(target_arch = "x86_64")]
pub(super) fn floating_state(fault: &Fault) -> (*const u8, usize) {
    // SAFETY: the kernel hands a valid context to the handler.
    (unsafe { (*fault.context).uc_mcontext.fpregs }.cast_const().cast(), 512)
}

/// The FPSIMD record, always the first of the extension records (arch/arm64 `sigcontext.h`): a header of 8 bytes, FPSR, FPCR, then the registers.
#[cfg(target_arch = "aarch64")]
pub(super) fn floating_state(fault: &Fault) -> (*const u8, usize) {
    // `__reserved` isn't public in the bindings; it is the last field and aligned to 16.
    let end = size_of::<libc::ucontext_t>();
    let start = end.wrapping_sub(4096);
    // SAFETY: the address stays within the context.
    (unsafe { fault.context.cast_const().cast::<u8>().add(start) }, 8 + 8 + 512)
}

/// A number that differs when the floating-point state does: a handler may mend a fault by that state alone, as one for SIGFPE does.
pub(super) fn floating_sum(fault: &Fault) -> u64 {
    let (state, bytes) = floating_state(fault);
    if state.is_null() {
        return 0;
    }
    // SAFETY: the kernel wrote this state into the signal frame.
    let state = unsafe { core::slice::from_raw_parts(state, bytes) };
    state
        .iter()
        .fold(0u64, |sum, byte| sum.rotate_left(5) ^ sum.wrapping_mul(31) ^ u64::from(*byte))
}

/// The signal mask that was in force at the fault.
pub(super) fn mask(fault: &Fault) -> u64 {
    // SAFETY: the kernel hands a valid context to the handler.
    let mask = unsafe { &raw const (*fault.context).uc_sigmask }.cast::<u64>();
    // SAFETY: the kernel's mask is the first eight bytes of the C library's larger set.
    unsafe { mask.read_unaligned() }
}

/// Makes sure that returning from the handler lets the signal through.
pub(super) fn unblock_in_frame(fault: &Fault, signal: i32) {
    // The kernel reads the first eight bytes of the C library's larger set.
    // SAFETY: the context is the kernel's frame, which we may change.
    let mask = unsafe { &raw mut (*fault.context).uc_sigmask }.cast::<u64>();
    // SAFETY: as above.
    let value = unsafe { mask.read_unaligned() };
    // SAFETY: as above.
    unsafe { mask.write_unaligned(value & !signal_bit(signal)) };
}
