//! x86_64: the orders of the kernel's arrays, and CONTEXT_AMD64 of the minidump format.

use crate::bytes::{copy, u64_at};
use crate::encode::writer::Writer;

/// The size of CONTEXT_AMD64.
pub(crate) const CONTEXT_BYTES: usize = 1232;

/// PROCESSOR_ARCHITECTURE_AMD64.
pub(crate) const PROCESSOR_ARCHITECTURE: u16 = 9;

/// Words of `user_regs_struct`, and bytes of `user_fpregs_struct`.
pub(crate) const TRACE_WORDS: usize = 27;
pub(crate) const TRACE_FP_BYTES: usize = FXSAVE_BYTES;

/// The sixteen, and the instruction pointer.
pub(crate) const GENERAL_REGISTERS: usize = 17;

const FXSAVE_BYTES: usize = 512;

/// Where CONTEXT_AMD64 has its parts: flags of what is known with MXCSR behind them, cs with ds, es and fs, gs with ss and the flags of the processor, rax with the other general registers and rip, the FXSAVE area.
///
/// Before them are the homes of six arguments, which belong to a calling convention of another system; between, the debug registers; behind, vector registers and the records of branches, which need more than FXSAVE.
const KNOWN_AT: usize = 48;
const CS_AT: usize = 56;
const GS_AT: usize = 64;
const RAX_AT: usize = 120;
const FXSAVE_AT: usize = 256;

/// Bytes of the context up to the end of the FXSAVE area.
const KEPT_BYTES: usize = FXSAVE_AT + FXSAVE_BYTES;

/// Where MXCSR stands in the FXSAVE area.
const MXCSR_IN_FXSAVE: usize = 24;

/// CONTEXT_AMD64 and its parts: control, integer, segments, floating point.
const FLAG_CONTROL: u32 = 0x0010_0001;
const FLAG_INTEGER: u32 = 0x0010_0002;
const FLAG_SEGMENTS: u32 = 0x0010_0004;
const FLAG_FLOATING_POINT: u32 = 0x0010_0008;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// The beginning of CONTEXT_AMD64; the general registers are rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15, rip.
    context: [u8; KEPT_BYTES],
    /// 0 when unknown.
    fs_base: u64,
}

const RSP: usize = 4;
const RBP: usize = 5;
const RIP: usize = 16;

/// Where the general registers, flags and selectors stand in `gregs` of the signal context (ucontext.h).
const IN_SIGNAL: [u8; 17] = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7, 16];
const SIGNAL_FLAGS: usize = 17;
const SIGNAL_SELECTORS: usize = 18;

/// Where they stand in `user_regs_struct` (user.h), and the selectors.
const IN_TRACE: [u8; 17] = [10, 11, 12, 5, 19, 4, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0, 16];
const TRACE_CS: usize = 17;
const TRACE_FLAGS: usize = 18;
const TRACE_SS: usize = 20;
const TRACE_FS_BASE: usize = 21;
const TRACE_DS: usize = 23;
const TRACE_ES: usize = 24;
const TRACE_FS: usize = 25;
const TRACE_GS: usize = 26;

impl Registers {
    pub(crate) fn from_signal_context(general: &[u64], fp: &[u8]) -> Option<Registers> {
        let flags = *general.get(SIGNAL_FLAGS)?;
        // The word holds cs, gs, fs, ss; the kernel doesn't save ds and es, which 64-bit code doesn't use.
        let selectors = *general.get(SIGNAL_SELECTORS)?;
        let [gs, fs, ss] = [16, 32, 48].map(|shift| selectors >> shift);
        Some(Registers::complete(general, &IN_SIGNAL, [selectors, 0, 0, fs, gs, ss, flags], fp))
    }

    pub(crate) fn from_trace(general: &[u64], fp: &[u8]) -> Option<Registers> {
        let general: &[u64; TRACE_WORDS] = general.try_into().ok()?;
        let others = [TRACE_CS, TRACE_DS, TRACE_ES, TRACE_FS, TRACE_GS, TRACE_SS, TRACE_FLAGS];
        let others = others.map(|index| general.get(index).copied().unwrap_or(0));
        Some(Registers { fs_base: general[TRACE_FS_BASE], ..Registers::complete(general, &IN_TRACE, others, fp) })
    }

    /// The general registers, each from its place in `words`; selectors and flags; floating point if it is whole.
    fn complete(words: &[u64], places: &[u8; 17], others: [u64; 7], fp: &[u8]) -> Registers {
        let mut registers = Registers { context: [0; KEPT_BYTES], fs_base: 0 };
        let mut known = FLAG_CONTROL | FLAG_INTEGER | FLAG_SEGMENTS;
        let [cs, ds, es, fs, gs, ss, flags] = others;
        registers.put(CS_AT, cs & 0xffff | (ds & 0xffff) << 16 | (es & 0xffff) << 32 | fs << 48);
        registers.put(GS_AT, gs & 0xffff | (ss & 0xffff) << 16 | flags << 32);
        for (index, place) in places.iter().enumerate() {
            registers.put(RAX_AT + index * 8, words.get(usize::from(*place)).copied().unwrap_or(0));
        }
        if let Some(fp) = fp.get(..FXSAVE_BYTES) {
            copy(&mut registers.context[FXSAVE_AT..], fp);
            known |= FLAG_FLOATING_POINT;
        }
        let mxcsr = registers.get(FXSAVE_AT + MXCSR_IN_FXSAVE);
        registers.put(KNOWN_AT, u64::from(known) | mxcsr << 32);
        registers
    }

    fn put(&mut self, at: usize, word: u64) {
        if let Some(place) = self.context.get_mut(at..at + 8) {
            copy(place, &word.to_le_bytes());
        }
    }

    fn get(&self, at: usize) -> u64 {
        u64_at(&self.context, at).unwrap_or(0)
    }

    pub(crate) fn from_pointers(stack: u64, instruction: u64) -> Registers {
        let mut registers = Registers { context: [0; KEPT_BYTES], fs_base: 0 };
        registers.put(KNOWN_AT, u64::from(FLAG_CONTROL));
        registers.put(RAX_AT + RSP * 8, stack);
        registers.put(RAX_AT + RIP * 8, instruction);
        registers
    }

    pub(crate) fn instruction_pointer(&self) -> u64 {
        self.get(RAX_AT + RIP * 8)
    }

    pub(crate) fn stack_pointer(&self) -> u64 {
        self.get(RAX_AT + RSP * 8)
    }

    pub(crate) fn thread_pointer(&self) -> Option<u64> {
        (self.fs_base != 0).then_some(self.fs_base)
    }

    pub(crate) fn general(&self) -> [u64; GENERAL_REGISTERS] {
        core::array::from_fn(|index| self.get(RAX_AT + index * 8))
    }

    pub(crate) fn scrub(&mut self, is_wanted: &dyn Fn(u64) -> bool, word: u64) {
        for (index, register) in self.general().into_iter().enumerate() {
            if !matches!(index, RSP | RBP | RIP) && !is_wanted(register) {
                self.put(RAX_AT + index * 8, word);
            }
        }
        self.context[FXSAVE_AT..].fill(0);
        let known = self.get(KNOWN_AT) as u32 & !(FLAG_FLOATING_POINT & !FLAG_CONTROL);
        self.put(KNOWN_AT, u64::from(known));
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.bytes(&self.context);
        out.zeros(CONTEXT_BYTES - KEPT_BYTES);
    }
}

/// The processor: level, revision, and the structure for x86 of the minidump format.
pub(crate) fn processor_info(_cpuinfo: &[u8]) -> (u16, u16, [u8; 24]) {
    let highest = cpuid(0)[0];
    let [_, ebx, ecx, edx] = cpuid(0);
    let [version, _, _, features] = if highest >= 1 { cpuid(1) } else { [0; 4] };
    let extended = if cpuid(0x8000_0000)[0] >= 0x8000_0001 { cpuid(0x8000_0001)[3] } else { 0 };
    // The vendor's name is spread over ebx, edx, ecx in this order.
    let words = [ebx, edx, ecx, version, features, extended];
    let mut info = [0_u8; 24];
    for (place, word) in info.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    let base_family = version >> 8 & 0xf;
    let family = if base_family == 0xf { base_family + (version >> 20 & 0xff) } else { base_family };
    // The upper half of the model number counts for families 6 and 15 only.
    let extended_model = if matches!(base_family, 6 | 15) { version >> 16 & 0xf } else { 0 };
    let model = extended_model << 4 | version >> 4 & 0xf;
    (family as u16, (model << 8 | version & 0xf) as u16, info)
}

/// eax, ebx, ecx, edx of one leaf.
#[allow(unsafe_code, unused_unsafe, reason = "the intrinsic is unsafe in the oldest supported compiler, and safe in newer ones")]
fn cpuid(leaf: u32) -> [u32; 4] {
    // SAFETY: every processor that runs 64-bit code has the instruction.
    let result = unsafe { core::arch::x86_64::__cpuid(leaf) };
    [result.eax, result.ebx, result.ecx, result.edx]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_give_the_same_context() {
        let mut signal = [0_u64; 23];
        for (index, word) in signal.iter_mut().enumerate() {
            *word = index as u64 + 100;
        }
        signal[18] = 0x002b_0000_0000_0033;
        let mut trace = [0_u64; TRACE_WORDS];
        // Each pair: index in the signal context, index in user_regs_struct.
        for (from, to) in [
            (0, 9), (1, 8), (2, 7), (3, 6), (4, 3), (5, 2), (6, 1), (7, 0), (8, 14), (9, 13), (10, 4), (11, 5),
            (12, 12), (13, 10), (14, 11), (15, 19), (16, 16), (17, 18),
        ] {
            trace[to] = signal[from];
        }
        trace[17] = 0x33;
        trace[20] = 0x2b;
        trace[21] = 0x7f00;
        let from_signal = Registers::from_signal_context(&signal, &[3; 512]).unwrap();
        let from_trace = Registers::from_trace(&trace, &[3; 512]).unwrap();
        let [mut a, mut b] = [Writer::new(4096), Writer::new(4096)];
        from_signal.write(&mut a);
        from_trace.write(&mut b);
        let [a, b] = [a.into_bytes(), b.into_bytes()];
        assert_eq!(a.len(), CONTEXT_BYTES);
        assert_eq!(*a, *b);
        assert_eq!((from_signal.stack_pointer(), from_signal.instruction_pointer()), (115, 116));
        assert_eq!((from_signal.thread_pointer(), from_trace.thread_pointer()), (None, Some(0x7f00)));
    }

    #[test]
    fn short_arrays_are_refused_or_unknown() {
        assert!(Registers::from_signal_context(&[0; 16], &[]).is_none());
        assert!(Registers::from_trace(&[0; 17], &[]).is_none());
        for (fp, known) in [(511, 7), (512, 15), (513, 15)] {
            let registers = Registers::from_signal_context(&[0; 23], &vec![0; fp]).unwrap();
            assert_eq!(registers.get(KNOWN_AT), 0x0010_0000 | known);
        }
    }

    #[test]
    fn this_processor_has_a_vendor() {
        let (_, _, info) = processor_info(&[]);
        assert!(info[..12].iter().all(u8::is_ascii));
    }
}
