//! Threads that fill every register with known values: one then reads from where nothing is, another goes in a circle.
//!
//! The values are constants, so that the truth about them passes neither through the kernel's structures nor through the writer.

#![expect(unsafe_code, reason = "every register is filled by hand")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::calls::gettid;
use crate::zoo::{DEADLINE, say};

/// What the crash reads: far below where Linux puts anything into a process of 64 bits.
pub(crate) const FAULT: u64 = 0x0ead_0000_1230;

/// What all the filled registers begin with; the register's number makes each another one.
const GENERAL: u64 = 0x5ea1_ed00_0bad_f100;

/// What a thread tells of itself in machine code: its stack pointer, the address of the instruction that it stays at, and then, as the last thing before that instruction, that it has told.
struct Told([AtomicU64; 3]);

impl Told {
    const fn nothing() -> Told {
        Told([AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)])
    }

    fn words(&self) -> Option<[u64; 2]> {
        let [sp, ip, told] = &self.0;
        let has_told = told.load(Ordering::Acquire) != 0;
        has_told.then(|| [sp.load(Ordering::Relaxed), ip.load(Ordering::Relaxed)])
    }
}

static CRASHED: Told = Told::nothing();

/// Says where the thread that filled its registers stays, if there is one; for the handler of its crash.
pub(crate) fn say_crashed() {
    if let Some([sp, ip]) = CRASHED.words() {
        say(&format!("filled {} {sp:x} {ip:x}", gettid()));
    }
}

/// The registers of a thread that is in one of the functions below, by the names of `readers`' records.
pub(crate) fn truth(sp: u64, ip: u64, has_crashed: bool) -> Value {
    let hex = |value: u128| json!(format!("{value:#x}"));
    let filled = machine::filled(sp, ip, has_crashed);
    filled.into_iter().map(|(name, value)| (name, hex(value))).collect::<Map<_, _>>().into()
}

/// Fills all registers and crashes.
pub(crate) fn crash() {
    machine::crash();
}

/// Starts a thread that fills all registers and goes in a circle of one instruction; says where it stays once it is there.
///
/// The registers of the crashed thread come from the signal's context, those of every other thread by ptrace.
pub(crate) fn start_circling() {
    let circle = || {
        say(&format!("circling {}", gettid()));
        machine::circle();
    };
    std::thread::Builder::new().name("circling".into()).spawn(circle).unwrap();
    let start = Instant::now();
    loop {
        if let Some([sp, ip]) = machine::CIRCLING.words() {
            say(&format!("circle {sp:x} {ip:x}"));
            return;
        }
        assert!(start.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
}

/// The contents of vector registers, each half another.
const fn vectors<const COUNT: usize>() -> [[u64; 2]; COUNT] {
    let mut vectors = [[0; 2]; COUNT];
    let mut at = 0;
    while at < COUNT {
        vectors[at] = [0x0123_4567_89ab_cd00 + at as u64, 0xfedc_ba98_7654_3200 - at as u64];
        at += 1;
    }
    vectors
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::{CRASHED, FAULT, GENERAL, Told};

    pub(super) static CIRCLING: Told = Told::nothing();

    /// Carry, parity, adjust, sign and overflow, none of which changes how the machine works.
    const FLAGS: u64 = 0x895;

    /// The bit that is always set, and the one that lets interrupts in.
    const FLAGS_KEPT: u64 = 0x202;

    /// The processor sets the resume flag in what it saves at a fault.
    const FLAGS_AT_FAULT: u64 = 0x1_0000;

    /// Rounding towards zero, all exceptions masked, and one of them seen.
    const MXCSR: u32 = 0x7fa0;

    /// Double precision, all exceptions masked.
    const CONTROL: u16 = 0x027f;

    /// The selectors that Linux gives to 64-bit code.
    const CODE_SELECTOR: u128 = 0x33;
    const STACK_SELECTOR: u128 = 0x2b;

    /// The general registers but rsp, in the order in which they are numbered in machine code.
    const NAMES: [&str; 15] = [
        "rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];

    #[repr(C, align(16))]
    struct Table {
        vector: [[u64; 2]; 16],
        /// 80 bits of each count.
        stack: [[u64; 2]; 8],
        flags: u64,
        mxcsr: u32,
        control: u16,
    }

    static TABLE: Table = Table {
        vector: super::vectors(),
        stack: {
            // Numbers between one and two, which the unit loads and keeps bit by bit.
            let mut stack = [[0; 2]; 8];
            let mut at = 0;
            while at < 8 {
                stack[at] = [0x8123_4567_89ab_cd00 + at as u64, 0x3fff];
                at += 1;
            }
            stack
        },
        flags: FLAGS,
        mxcsr: MXCSR,
        control: CONTROL,
    };

    pub(super) fn filled(sp: u64, ip: u64, has_crashed: bool) -> Vec<(String, u128)> {
        let mut list: Vec<(String, u128)> = Vec::new();
        for (at, name) in NAMES.iter().enumerate() {
            list.push(((*name).to_owned(), (GENERAL + at as u64).into()));
        }
        if has_crashed {
            list[0].1 = FAULT.into();
        }
        let flags = FLAGS | FLAGS_KEPT | if has_crashed { FLAGS_AT_FAULT } else { 0 };
        let named = [
            ("rsp", sp.into()),
            ("rip", ip.into()),
            ("rflags", flags.into()),
            ("cs", CODE_SELECTOR),
            ("ss", STACK_SELECTOR),
            ("mxcsr", MXCSR.into()),
            ("fctrl", CONTROL.into()),
            // Nothing happened, and the eighth load made the first register the top again.
            ("fstat", 0),
            // All eight are in use.
            ("ftag", 0xff),
        ];
        list.extend(named.map(|(name, value)| (name.to_owned(), value)));
        let wide = |[low, high]: [u64; 2]| u128::from(high) << 64 | u128::from(low);
        for (at, value) in TABLE.vector.iter().enumerate() {
            list.push((format!("xmm{at}"), wide(*value)));
        }
        // The last one loaded is on top.
        for (at, value) in TABLE.stack.iter().rev().enumerate() {
            list.push((format!("st{at}"), wide(*value)));
        }
        list
    }

    /// Fills all registers and stays at the instruction that is given; `first` is what rax gets.
    macro_rules! fill_and_stay {
        ($told:path, $first:expr, $instruction:literal) => {
            core::arch::asm!(
                "movaps xmm0, [rip + {table}]",
                "movaps xmm1, [rip + {table} + 16]",
                "movaps xmm2, [rip + {table} + 32]",
                "movaps xmm3, [rip + {table} + 48]",
                "movaps xmm4, [rip + {table} + 64]",
                "movaps xmm5, [rip + {table} + 80]",
                "movaps xmm6, [rip + {table} + 96]",
                "movaps xmm7, [rip + {table} + 112]",
                "movaps xmm8, [rip + {table} + 128]",
                "movaps xmm9, [rip + {table} + 144]",
                "movaps xmm10, [rip + {table} + 160]",
                "movaps xmm11, [rip + {table} + 176]",
                "movaps xmm12, [rip + {table} + 192]",
                "movaps xmm13, [rip + {table} + 208]",
                "movaps xmm14, [rip + {table} + 224]",
                "movaps xmm15, [rip + {table} + 240]",
                "fninit",
                "fldcw [rip + {table} + 396]",
                "fld tbyte ptr [rip + {table} + 256]",
                "fld tbyte ptr [rip + {table} + 272]",
                "fld tbyte ptr [rip + {table} + 288]",
                "fld tbyte ptr [rip + {table} + 304]",
                "fld tbyte ptr [rip + {table} + 320]",
                "fld tbyte ptr [rip + {table} + 336]",
                "fld tbyte ptr [rip + {table} + 352]",
                "fld tbyte ptr [rip + {table} + 368]",
                "ldmxcsr [rip + {table} + 392]",
                "push qword ptr [rip + {table} + 384]",
                "popfq",
                "mov [rip + {told}], rsp",
                "lea rax, [rip + 2f]",
                "mov [rip + {told} + 8], rax",
                "movabs rcx, {general} + 1",
                "movabs rdx, {general} + 2",
                "movabs rbx, {general} + 3",
                "movabs rbp, {general} + 4",
                "movabs rsi, {general} + 5",
                "movabs rdi, {general} + 6",
                "movabs r8, {general} + 7",
                "movabs r9, {general} + 8",
                "movabs r10, {general} + 9",
                "movabs r11, {general} + 10",
                "movabs r12, {general} + 11",
                "movabs r13, {general} + 12",
                "movabs r14, {general} + 13",
                "movabs r15, {general} + 14",
                "movabs rax, {first}",
                "mov qword ptr [rip + {told} + 16], 1",
                $instruction,
                "ud2",
                table = sym TABLE,
                told = sym $told,
                general = const GENERAL,
                first = const $first,
                options(noreturn)
            )
        };
    }

    pub(super) fn crash() {
        // SAFETY: there is none; the read is the crash that the test is about, and nothing comes after it.
        unsafe { fill_and_stay!(CRASHED, FAULT, "2: cmp byte ptr [rax], 0") }
    }

    pub(super) fn circle() {
        // SAFETY: the thread never leaves the circle, so nobody misses what was in its registers.
        unsafe { fill_and_stay!(CIRCLING, GENERAL, "2: jmp 2b") }
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::{CRASHED, FAULT, GENERAL, Told};

    pub(super) static CIRCLING: Told = Told::nothing();

    /// Negative and overflow.
    const FLAGS: u64 = 0x9000_0000;

    #[repr(C, align(16))]
    struct Table {
        vector: [[u64; 2]; 32],
        general: [u64; 32],
    }

    static TABLE: Table = Table {
        vector: super::vectors(),
        general: {
            let mut general = [0; 32];
            let mut at = 0;
            while at < 32 {
                general[at] = GENERAL + at as u64;
                at += 1;
            }
            general
        },
    };

    pub(super) fn filled(sp: u64, ip: u64, has_crashed: bool) -> Vec<(String, u128)> {
        let mut list: Vec<(String, u128)> = Vec::new();
        for (at, value) in TABLE.general.iter().take(31).enumerate() {
            let name = match at {
                29 => "fp".to_owned(),
                30 => "lr".to_owned(),
                _ => format!("x{at}"),
            };
            list.push((name, (*value).into()));
        }
        // The circling thread has the address of its own word there, which nobody knows beforehand.
        if has_crashed {
            list[0].1 = FAULT.into();
        } else {
            list.remove(0);
        }
        let named = [("sp", sp), ("pc", ip), ("cpsr", FLAGS)];
        list.extend(named.map(|(name, value)| (name.to_owned(), value.into())));
        for (at, [low, high]) in TABLE.vector.iter().enumerate() {
            list.push((format!("v{at}"), u128::from(*high) << 64 | u128::from(*low)));
        }
        list
    }

    /// Fills all registers and stays at the instruction that is given; the ones before it may make an address in x0.
    macro_rules! fill_and_stay {
        ($told:path, [$($address:literal),*], $instruction:literal) => {
            core::arch::asm!(
                "adrp x0, {told}",
                "add x0, x0, :lo12:{told}",
                "mov x1, sp",
                "str x1, [x0]",
                "adr x1, 2f",
                "str x1, [x0, #8]",
                "mov x1, {flags}",
                "msr nzcv, x1",
                "adrp x1, {table}",
                "add x1, x1, :lo12:{table}",
                "ldp q0, q1, [x1, #0]",
                "ldp q2, q3, [x1, #32]",
                "ldp q4, q5, [x1, #64]",
                "ldp q6, q7, [x1, #96]",
                "ldp q8, q9, [x1, #128]",
                "ldp q10, q11, [x1, #160]",
                "ldp q12, q13, [x1, #192]",
                "ldp q14, q15, [x1, #224]",
                "ldp q16, q17, [x1, #256]",
                "ldp q18, q19, [x1, #288]",
                "ldp q20, q21, [x1, #320]",
                "ldp q22, q23, [x1, #352]",
                "ldp q24, q25, [x1, #384]",
                "ldp q26, q27, [x1, #416]",
                "ldp q28, q29, [x1, #448]",
                "ldp q30, q31, [x1, #480]",
                "add x1, x1, #512",
                "ldp x2, x3, [x1, #16]",
                "ldp x4, x5, [x1, #32]",
                "ldp x6, x7, [x1, #48]",
                "ldp x8, x9, [x1, #64]",
                "ldp x10, x11, [x1, #80]",
                "ldp x12, x13, [x1, #96]",
                "ldp x14, x15, [x1, #112]",
                "ldp x16, x17, [x1, #128]",
                "ldp x18, x19, [x1, #144]",
                "ldp x20, x21, [x1, #160]",
                "ldp x22, x23, [x1, #176]",
                "ldp x24, x25, [x1, #192]",
                "ldp x26, x27, [x1, #208]",
                "ldp x28, x29, [x1, #224]",
                "ldr x30, [x1, #240]",
                "ldr x1, [x1, #8]",
                // The address of the word is not 0, so it is what the word gets; no other register is free for that.
                "add x0, x0, #16",
                "str x0, [x0]",
                $($address,)*
                $instruction,
                "udf #0",
                table = sym TABLE,
                told = sym $told,
                flags = const FLAGS,
                options(noreturn)
            )
        };
    }

    // The address is put together of halves of words in the machine code.
    const _: () = assert!(FAULT == 0x0ead << 32 | 0x1230);

    pub(super) fn crash() {
        // SAFETY: there is none; the read is the crash that the test is about, and nothing comes after it.
        unsafe {
            fill_and_stay!(
                CRASHED,
                ["movz x0, #0x1230", "movk x0, #0x0ead, lsl #32"],
                "2: ldr xzr, [x0]"
            )
        }
    }

    pub(super) fn circle() {
        // SAFETY: the thread never leaves the circle, so nobody misses what was in its registers.
        unsafe { fill_and_stay!(CIRCLING, [], "2: b 2b") }
    }
}
