//! aarch64: the orders of the kernel's arrays, and CONTEXT_ARM64 of the minidump format.

use crate::bytes::u32_at;
use crate::encode::writer::Writer;
use crate::parse::process;
use crate::text;

/// The size of CONTEXT_ARM64.
pub(crate) const CONTEXT_BYTES: usize = 912;

/// PROCESSOR_ARCHITECTURE_ARM64.
pub(crate) const PROCESSOR_ARCHITECTURE: u16 = 12;

/// Words of `user_pt_regs`, and bytes of `user_fpsimd_state` without its padding.
pub(crate) const TRACE_WORDS: usize = 34;
pub(crate) const TRACE_FP_BYTES: usize = VECTOR_BYTES + 8;

const VECTOR_BYTES: usize = 32 * 16;

/// x0 to x30.
pub(crate) const GENERAL_REGISTERS: usize = 31;

/// CONTEXT_ARM64 and its parts: control, integer, floating point.
const FLAG_CONTROL: u32 = 0x0040_0001;
const FLAG_INTEGER: u32 = 0x0040_0002;
const FLAG_FLOATING_POINT: u32 = 0x0040_0004;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// x0 to x30.
    general: [u64; GENERAL_REGISTERS],
    sp: u64,
    pc: u64,
    flags: u32,
    /// All but the two pointers are known.
    complete: bool,
    /// 32 vector registers, fpsr, fpcr.
    fp: Option<[u8; TRACE_FP_BYTES]>,
}

impl Registers {
    /// The signal context and ptrace have the same order here.
    pub(crate) fn from_signal_context(general: &[u64], fp: &[u8]) -> Option<Registers> {
        let (registers, rest) = general.split_first_chunk()?;
        let [sp, pc, flags] = *rest.first_chunk()?;
        Some(Registers {
            general: *registers,
            sp,
            pc,
            flags: flags as u32,
            complete: true,
            fp: fp.first_chunk().copied(),
        })
    }

    pub(crate) fn from_trace(general: &[u64], fp: &[u8]) -> Option<Registers> {
        // A 32-bit thread gives fewer words.
        if general.len() != TRACE_WORDS {
            return None;
        }
        Registers::from_signal_context(general, fp)
    }

    pub(crate) fn from_pointers(stack: u64, instruction: u64) -> Registers {
        Registers { general: [0; 31], sp: stack, pc: instruction, flags: 0, complete: false, fp: None }
    }

    pub(crate) fn instruction_pointer(&self) -> u64 {
        self.pc
    }

    pub(crate) fn stack_pointer(&self) -> u64 {
        self.sp
    }

    /// The thread pointer is a register set of its own here; the limit of bytes ends the stack instead.
    pub(crate) fn thread_pointer(&self) -> Option<u64> {
        None
    }

    pub(crate) fn general(&self) -> [u64; GENERAL_REGISTERS] {
        self.general
    }

    pub(crate) fn scrub(&mut self, is_wanted: &dyn Fn(u64) -> bool, word: u64) {
        for (index, register) in self.general.iter_mut().enumerate() {
            // The frame pointer and the return address.
            if index < 29 && !is_wanted(*register) {
                *register = word;
            }
        }
        self.fp = None;
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        let start = out.len();
        let mut known = FLAG_CONTROL;
        if self.complete {
            known |= FLAG_INTEGER;
        }
        if self.fp.is_some() {
            known |= FLAG_FLOATING_POINT;
        }
        out.u32(known);
        out.u32(self.flags);
        for register in self.general {
            out.u64(register);
        }
        out.u64(self.sp);
        out.u64(self.pc);
        match &self.fp {
            Some(fp) => {
                out.bytes(fp.get(..VECTOR_BYTES).unwrap_or_default());
                // The format has fpcr before fpsr, the kernel has them the other way round.
                out.u32(u32_at(fp, VECTOR_BYTES + 4).unwrap_or(0));
                out.u32(u32_at(fp, VECTOR_BYTES).unwrap_or(0));
            }
            None => out.zeros(TRACE_FP_BYTES),
        }
        // Debug registers.
        out.zeros(CONTEXT_BYTES.saturating_sub(out.len() - start));
    }
}

/// The processor: level, revision, and the structure for ARM of the minidump format.
///
/// The registers that name the processor aren't readable everywhere, so the kernel's text is asked.
pub(crate) fn processor_info(cpuinfo: &[u8]) -> (u16, u16, [u8; 24]) {
    let [implementer, variant, part, revision] =
        [&b"CPU implementer\t:"[..], b"CPU variant\t:", b"CPU part\t:", b"CPU revision\t:"]
            .map(|key| field(cpuinfo, key));
    // The layout of the register MIDR; architecture 15 means that other registers describe it.
    let id = (implementer & 0xff) << 24 | (variant & 0xf) << 20 | 0xf << 16 | (part & 0xfff) << 4 | revision & 0xf;
    let mut info = [0_u8; 24];
    if let Some(place) = info.first_chunk_mut() {
        *place = id.to_le_bytes();
    }
    (8, (variant << 8 | revision) as u16, info)
}

fn field(cpuinfo: &[u8], key: &[u8]) -> u32 {
    let value = cpuinfo.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key));
    let value = value.unwrap_or_default().trim_ascii();
    let number = match value.strip_prefix(b"0x") {
        Some(digits) => text::hex(digits),
        None => process::status_number(cpuinfo, key),
    };
    number.unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_has_its_size_and_the_short_are_refused() {
        let mut words = [0_u64; TRACE_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = index as u64 + 100;
        }
        let registers = Registers::from_signal_context(&words, &[3; TRACE_FP_BYTES]).unwrap();
        assert_eq!((registers.stack_pointer(), registers.instruction_pointer()), (131, 132));
        let mut out = Writer::new(4096);
        registers.write(&mut out);
        assert_eq!(out.into_bytes().len(), CONTEXT_BYTES);
        assert!(Registers::from_signal_context(&words[..33], &[]).is_none());
        assert!(Registers::from_trace(&words[..18], &[]).is_none());
    }

    #[test]
    fn the_processor_is_named_by_the_kernels_text() {
        let text = b"processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n";
        let (level, revision, info) = processor_info(text);
        assert_eq!((level, revision), (8, 0x301));
        assert_eq!(info[..4], 0x413f_d0c1_u32.to_le_bytes());
    }
}
