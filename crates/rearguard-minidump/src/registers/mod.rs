//! The registers of one thread, whatever told them.
//!
//! Three sources fill the same type: the signal context that the crash handler stored, ptrace for a stopped thread, and `/proc/<pid>/syscall` (two pointers only) for a thread that can't be stopped.
//! Each processor has a file with its layouts; both offer the same functions.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as processor;
#[cfg(target_arch = "x86_64")]
use x86_64 as processor;

pub(crate) use processor::{CONTEXT_BYTES, GENERAL_REGISTERS, PROCESSOR_ARCHITECTURE, TRACE_FP_BYTES, TRACE_WORDS, processor_info};

use crate::encode::writer::Writer;

/// The registers of one thread: general, floating point as far as known.
#[derive(Clone, Copy, Debug)]
pub struct Registers(processor::Registers);

impl Registers {
    /// From the arrays of a signal context (`ucontext_t`, see sigaction(2) and the kernel's `asm/sigcontext.h`).
    ///
    /// `general` on x86_64: the 23 `gregs` of `uc_mcontext` in the kernel's order, R8 first and CR2 last.
    /// On aarch64: x0 to x30, sp, pc, pstate; 34 words.
    ///
    /// `fp` on x86_64: the 512 bytes of the FXSAVE area.
    /// On aarch64: 32 vector registers of 16 bytes, then fpsr and fpcr with 4 bytes each.
    /// A shorter slice means that the floating-point registers aren't known.
    ///
    /// Returns `None` when `general` is too short.
    pub fn from_signal_context(general: &[u64], fp: &[u8]) -> Option<Registers> {
        processor::Registers::from_signal_context(general, fp).map(Registers)
    }

    /// From what PTRACE_GETREGSET gave for NT_PRSTATUS and NT_PRFPREG.
    pub(crate) fn from_trace(general: &[u64], fp: &[u8]) -> Option<Registers> {
        processor::Registers::from_trace(general, fp).map(Registers)
    }

    /// Of a thread of which nothing else is known.
    pub(crate) fn from_pointers(stack: u64, instruction: u64) -> Registers {
        Registers(processor::Registers::from_pointers(stack, instruction))
    }

    /// The address of the instruction that was next.
    pub fn instruction_pointer(&self) -> u64 {
        self.0.instruction_pointer()
    }

    /// The address of the top of the stack.
    pub fn stack_pointer(&self) -> u64 {
        self.0.stack_pointer()
    }

    /// An address above all frames of the thread's stack, where the C library keeps one there and it is known.
    pub(crate) fn thread_pointer(&self) -> Option<u64> {
        self.0.thread_pointer()
    }

    /// All general registers.
    pub(crate) fn general(&self) -> [u64; GENERAL_REGISTERS] {
        self.0.general()
    }

    /// Overwrites the general registers that aren't wanted, but for those that frames are found by, and forgets the others.
    pub(crate) fn scrub(&mut self, is_wanted: &dyn Fn(u64) -> bool, word: u64) {
        self.0.scrub(is_wanted, word);
    }

    /// Writes exactly [`CONTEXT_BYTES`] bytes: the context structure of the minidump format.
    pub(crate) fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }
}
