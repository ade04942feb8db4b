//! What the `minidump` crate sees in a dump, as a record.
//!
//! A record is an object; every number in it is a text such as `0x1f`, since JSON has no 64 bits:
//!
//! - `pid`
//! - `threads`: by thread id `name`, `registers` (by the names that lldb has for them; 128-bit ones too)
//! - `exception`: `thread`, `code`, `si_code`, `address`; null without one
//! - `modules`: by base `path`, `size`, `build_id`
//! - `memory`: by start `size` and `sum`

use minidump::{
    Minidump, MinidumpContext, MinidumpException, MinidumpMemoryList, MinidumpMiscInfo,
    MinidumpModule, MinidumpModuleList, MinidumpRawContext, MinidumpSystemInfo, MinidumpThreadList,
    MinidumpThreadNames, Module,
};
use serde_json::{Map, Value, json};

/// The sum of a piece of memory, as every reader makes it: CRC-32.
pub fn sum(bytes: &[u8]) -> String {
    hex(crc32fast::hash(bytes).into())
}

fn hex(number: u128) -> String {
    format!("{number:#x}")
}

/// What the readers are asked that can't list memory by themselves: starts and sizes.
pub fn plan_of(record: &Value) -> Value {
    let memory = record["memory"].as_object();
    let ranges = memory.into_iter().flatten();
    ranges.map(|(start, range)| json!([start, range["size"]])).collect()
}

/// Reads a dump with the `minidump` crate.
///
/// # Errors
///
/// What the crate says of the first stream that it can't read.
pub fn record_of(bytes: &[u8]) -> Result<Value, String> {
    let dump = Minidump::read(bytes).map_err(|error| format!("the header: {error}"))?;
    let wrong = |what: &'static str| move |error| format!("{what}: {error}");
    let system: MinidumpSystemInfo = dump.get_stream().map_err(wrong("the system"))?;
    let misc: MinidumpMiscInfo = dump.get_stream().map_err(wrong("the process"))?;
    let threads: MinidumpThreadList<'_> = dump.get_stream().map_err(wrong("the threads"))?;
    let names: MinidumpThreadNames = dump.get_stream().unwrap_or_default();
    let modules: MinidumpModuleList = dump.get_stream().map_err(wrong("the modules"))?;
    let memory: MinidumpMemoryList<'_> = dump.get_stream().map_err(wrong("the memory"))?;
    let exception: Option<MinidumpException<'_>> = dump.get_stream().ok();

    let mut by_id = Map::new();
    for thread in &threads.threads {
        let id = thread.raw.thread_id;
        let mut fields = Map::new();
        if let Some(name) = names.get_name(id) {
            fields.insert("name".to_owned(), json!(name));
        }
        // Of the crashed thread the exception has the registers; some readers take them from there, others from the thread.
        let crashed = exception.as_ref().filter(|exception| exception.thread_id == id);
        let context = crashed.and_then(|exception| exception.context(&system, None));
        let context = context.or_else(|| thread.context(&system, None));
        if let Some(context) = context {
            fields.insert("registers".to_owned(), registers(&context));
        }
        by_id.insert(hex(id.into()), fields.into());
    }
    Ok(json!({
        "pid": misc.raw.process_id().map(|pid| hex((*pid).into())),
        "threads": by_id,
        "exception": exception.map(|exception| self::exception(&exception)),
        "modules": modules.iter().map(module).collect::<Map<_, _>>(),
        "memory": memory.iter().map(|range| (
            hex(range.base_address.into()),
            json!({ "size": hex(range.size.into()), "sum": sum(range.bytes) }),
        )).collect::<Map<_, _>>(),
    }))
}

fn exception(exception: &MinidumpException<'_>) -> Value {
    let record = &exception.raw.exception_record;
    json!({
        "thread": hex(exception.thread_id.into()),
        "code": hex(record.exception_code.into()),
        "si_code": hex(record.exception_flags.into()),
        "address": hex(record.exception_address.into()),
    })
}

fn module(module: &MinidumpModule) -> (String, Value) {
    let mut fields = Map::new();
    fields.insert("path".to_owned(), json!(module.code_file()));
    fields.insert("size".to_owned(), json!(hex(module.size().into())));
    if let Some(build_id) = module.code_identifier() {
        fields.insert("build_id".to_owned(), json!(build_id.to_string()));
    }
    (hex(module.base_address().into()), fields.into())
}

fn registers(context: &MinidumpContext) -> Value {
    let mut list: Vec<(String, u128)> = Vec::new();
    #[expect(clippy::wildcard_enum_match_arm, reason = "we have two of the crate's nine systems")]
    match &context.raw {
        MinidumpRawContext::Amd64(context) => amd64(context, &mut list),
        MinidumpRawContext::Arm64(context) => {
            arm64(&context.iregs, [context.sp, context.pc], context.cpsr, &mut list);
            vectors(&context.float_regs, &mut list);
        }
        MinidumpRawContext::OldArm64(context) => {
            arm64(&context.iregs, [context.sp, context.pc], context.cpsr, &mut list);
            vectors(&context.float_regs, &mut list);
        }
        _ => {}
    }
    list.into_iter().map(|(name, value)| (name, json!(hex(value)))).collect::<Map<_, _>>().into()
}

/// Bits of `ContextFlags` of CONTEXT_AMD64 (winnt.h).
const AMD64_CONTROL: u32 = 1;
const AMD64_INTEGER: u32 = 2;
const AMD64_SEGMENTS: u32 = 4;
const AMD64_FLOATING_POINT: u32 = 8;

fn amd64(context: &minidump::format::CONTEXT_AMD64, list: &mut Vec<(String, u128)>) {
    let mut add = |name: &str, value: u128| list.push((name.to_owned(), value));
    let has = |part: u32| context.context_flags & part != 0;
    if has(AMD64_CONTROL) {
        add("rip", context.rip.into());
        add("rsp", context.rsp.into());
        add("rflags", context.eflags.into());
        add("cs", context.cs.into());
        add("ss", context.ss.into());
    }
    if has(AMD64_INTEGER) {
        let c = context;
        for (name, value) in [
            ("rax", c.rax),
            ("rbx", c.rbx),
            ("rcx", c.rcx),
            ("rdx", c.rdx),
            ("rsi", c.rsi),
            ("rdi", c.rdi),
            ("rbp", c.rbp),
            ("r8", c.r8),
            ("r9", c.r9),
            ("r10", c.r10),
            ("r11", c.r11),
            ("r12", c.r12),
            ("r13", c.r13),
            ("r14", c.r14),
            ("r15", c.r15),
        ] {
            add(name, value.into());
        }
    }
    if has(AMD64_SEGMENTS) {
        for (name, value) in
            [("ds", context.ds), ("es", context.es), ("fs", context.fs), ("gs", context.gs)]
        {
            add(name, value.into());
        }
    }
    if has(AMD64_FLOATING_POINT) {
        let area = &context.float_save;
        let number = |at: usize, bytes: usize| {
            let bytes = area[at..at + bytes].iter().rev();
            bytes.fold(0_u128, |number, byte| number << 8 | u128::from(*byte))
        };
        // The layout of FXSAVE, from Intel's manual.
        add("fctrl", number(0, 2));
        add("fstat", number(2, 2));
        add("ftag", number(4, 1));
        add("mxcsr", number(24, 4));
        for index in 0..8 {
            add(&format!("st{index}"), number(32 + 16 * index, 10));
        }
        for index in 0..16 {
            add(&format!("xmm{index}"), number(160 + 16 * index, 16));
        }
    }
}

fn arm64(general: &[u64], [sp, pc]: [u64; 2], flags: u32, list: &mut Vec<(String, u128)>) {
    for (index, value) in general.iter().enumerate() {
        let name = match index {
            29 => "fp".to_owned(),
            30 => "lr".to_owned(),
            _ => format!("x{index}"),
        };
        list.push((name, (*value).into()));
    }
    let rest = [("sp", sp), ("pc", pc), ("cpsr", flags.into())];
    list.extend(rest.map(|(name, value)| (name.to_owned(), value.into())));
}

fn vectors(registers: &[u128], list: &mut Vec<(String, u128)>) {
    list.extend(registers.iter().enumerate().map(|(at, value)| (format!("v{at}"), *value)));
}
