//! Why a process crashed, in a sentence for people.

/// The lowest page is mapped by nobody, so an address in it came from a null pointer.
const NULL_BYTES: u64 = 64 * 1024;

/// How far from the stack pointer a function touches its own stack: what compilers probe at a time, and a large frame.
const STACK_REACH_BYTES: u64 = 64 * 1024;

/// Where the thread was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pointers {
    pub(super) instruction: u64,
    pub(super) stack: u64,
}

/// A sentence for the reason that readers give, such as `SIGSEGV / SEGV_MAPERR`.
pub(super) fn words(reason: &str, address: u64, pointers: Option<Pointers>) -> String {
    let instruction = pointers.map(|pointers| pointers.instruction);
    let is_on_stack = pointers.is_some_and(|Pointers { stack, .. }| {
        (stack.saturating_sub(STACK_REACH_BYTES)..stack.saturating_add(STACK_REACH_BYTES))
            .contains(&address)
    });
    let kind = reason.split(" / ").next().unwrap_or(reason);
    let is_there = |part: &str| reason.contains(part);
    match kind {
        "SIGSEGV"
        | "SIGBUS"
        | "EXCEPTION_ACCESS_VIOLATION_READ"
        | "EXCEPTION_ACCESS_VIOLATION_WRITE"
        | "EXCEPTION_ACCESS_VIOLATION_EXEC"
        | "EXCEPTION_ACCESS_VIOLATION" => {
            if is_on_stack && instruction != Some(address) && address >= NULL_BYTES {
                return format!(
                    "its stack had no room at {address:#x}: a recursion without an end, or a damaged stack pointer"
                );
            }
            let what = match () {
                () if is_there("_WRITE") => "it wrote to",
                () if is_there("_READ") => "it read from",
                () if is_there("_EXEC") || instruction == Some(address) => "it jumped to",
                () => "it read from or wrote to",
            };
            format!("{what} {}", place(address, is_there("SEGV_ACCERR")))
        }
        "SIGABRT" => {
            "it ended itself by abort(), as an assertion or a panic that aborts does".to_owned()
        }
        "SIGILL" | "EXCEPTION_ILLEGAL_INSTRUCTION" => {
            format!("the processor doesn't know the instruction at {address:#x}")
        }
        "SIGFPE" | "EXCEPTION_INT_DIVIDE_BY_ZERO" => {
            "a calculation has no result, as a division by zero".to_owned()
        }
        "SIGTRAP" | "EXCEPTION_BREAKPOINT" => {
            "it came to a trap, which is a check that failed".to_owned()
        }
        "SIGSYS" => "a filter refused a system call".to_owned(),
        "EXCEPTION_STACK_OVERFLOW" => "the stack had no room for another call".to_owned(),
        _ => "the reader of minidumps has no more words for it".to_owned(),
    }
}

fn place(address: u64, is_mapped: bool) -> String {
    match address {
        0 => "null".to_owned(),
        1..NULL_BYTES => format!(
            "{address:#x}, {address} bytes from null: a field of something that isn't there"
        ),
        _ if is_mapped => format!("{address:#x}, which is mapped but may not be used so"),
        // Above the lower half no address of a user can be.
        0x0000_8000_0000_0000.. => format!("{address:#x}, which is no address at all"),
        _ => format!("{address:#x}, where nothing is mapped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what a person would say of the address is said.
    #[test]
    fn addresses_have_words() {
        for (reason, address, pointers, expected) in [
            ("SIGSEGV / SEGV_MAPERR", 0, None, "it read from or wrote to null"),
            (
                "SIGSEGV / SEGV_MAPERR",
                0x18,
                None,
                "it read from or wrote to 0x18, 24 bytes from null: a field of something that isn't there",
            ),
            (
                "SIGSEGV / SEGV_ACCERR",
                0x7f00_0000_1000,
                None,
                "it read from or wrote to 0x7f0000001000, which is mapped but may not be used so",
            ),
            (
                "SIGSEGV / SEGV_MAPERR",
                0x7f00_0000_1000,
                Some((0x7f00_0000_1000, 0x7ffe_0000_0000)),
                "it jumped to 0x7f0000001000, where nothing is mapped",
            ),
            (
                "SIGSEGV / SEGV_MAPERR",
                0x7ffe_0000_0000,
                Some((0x5000, 0x7ffe_0000_0ff8)),
                "its stack had no room at 0x7ffe00000000: a recursion without an end, or a damaged stack pointer",
            ),
            ("EXCEPTION_ACCESS_VIOLATION_WRITE", 0, None, "it wrote to null"),
        ] {
            let pointers = pointers.map(|(instruction, stack)| Pointers { instruction, stack });
            assert_eq!(words(reason, address, pointers), expected);
        }
    }
}
