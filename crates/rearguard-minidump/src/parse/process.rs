//! `/proc/<pid>/stat`, `status` and `syscall`: one line, one field, one pair of registers.

use crate::bytes::after;
use crate::text;

/// What the dump needs of `/proc/<pid>/stat`; see proc_pid_stat(5) for the units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The letter of the state; `Z` is a thread that ended and waits to be reaped.
    pub(crate) state: u8,
    /// Time in user mode and in the kernel, in clock ticks.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    /// Clock ticks from boot to the start.
    pub(crate) start_ticks: u64,
    /// Where the kernel put the argument count, the lowest thing on the first stack.
    pub(crate) stack_start: u64,
    /// Where the strings of the arguments are, and those of the environment; 0 when the kernel doesn't tell.
    pub(crate) arguments: (u64, u64),
    pub(crate) environment: (u64, u64),
}

/// The numbers of fields in the manual page: the state's, and one behind the last that is wanted.
const STATE: usize = 3;
const FIELDS: usize = 52;

/// Parses the line; fields that are missing or damaged are 0.
pub(crate) fn stat(line: &[u8]) -> Option<Stat> {
    crate::heap::with_frame_pointer();
    // The name in parentheses is the target's own choice and may hold anything, so the count begins at the last one.
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let rest = line.get(name_end.checked_add(2)?..)?;
    let mut fields = [0; FIELDS];
    for (place, field) in fields.iter_mut().skip(STATE).zip(rest.split(|byte| matches!(byte, b' ' | b'\n'))) {
        *place = text::decimal(field).unwrap_or(0);
    }
    Some(Stat {
        state: *rest.first()?,
        user_ticks: fields[14],
        system_ticks: fields[15],
        start_ticks: fields[22],
        stack_start: fields[28],
        arguments: (fields[48], fields[49]),
        environment: (fields[50], fields[51]),
    })
}

/// The number behind `key` (with its colon) in the text of `status`.
pub(crate) fn status_number(text: &[u8], key: &[u8]) -> Option<u64> {
    text.split(|byte| *byte == b'\n')
        .find_map(|line| after(line, key))
        .and_then(|value| text::decimal(value.trim_ascii()))
}

/// Stack pointer and instruction pointer out of `syscall`, which a running thread doesn't have.
pub(crate) fn syscall_pointers(line: &[u8]) -> Option<(u64, u64)> {
    let mut fields = line.trim_ascii().rsplit(|byte| *byte == b' ');
    let instruction = text::hex(after(fields.next()?, b"0x")?)?;
    let stack = text::hex(after(fields.next()?, b"0x")?)?;
    fields.next()?;
    Some((stack, instruction))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::damage::damaged;

    const LINE: &[u8] = b"4242 (evil) R 1 (x) S 1 4242 4242 0 -1 4194304 93 0 0 0 7 8 0 0 20 0 1 0 123456 2404352 224 18446744073709551615 94 95 1407 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 10 11 12 2000 2010 2010 3000 0\n";

    #[test]
    fn a_name_with_parentheses_misleads_nobody() {
        let stat = stat(LINE).unwrap();
        assert_eq!(stat.state, b'S');
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.start_ticks), (7, 8, 123_456));
        assert_eq!(stat.stack_start, 1407);
        assert_eq!((stat.arguments, stat.environment), ((2000, 2010), (2010, 3000)));
    }

    #[test]
    fn status_and_syscall_are_read() {
        let text = b"Name:\tx\nTgid:\t77\nTracerPid:\t0\n";
        assert_eq!(status_number(text, b"Tgid:"), Some(77));
        assert_eq!(status_number(text, b"TracerPid:"), Some(0));
        assert_eq!(status_number(text, b"Uid:"), None);
        assert_eq!(
            syscall_pointers(b"202 0x1 0x80 0x0 0x0 0x0 0x0 0x7ffe10 0x7f11\n"),
            Some((0x7ffe10, 0x7f11))
        );
        assert_eq!(syscall_pointers(b"-1 0x7ffe10 0x7f11\n"), Some((0x7ffe10, 0x7f11)));
        assert_eq!(syscall_pointers(b"running\n"), None);
        assert_eq!(syscall_pointers(b"0x1 0x2"), None);
    }

    #[test]
    fn damage_is_survived() {
        damaged(LINE, |_, text| {
            let _ = stat(text);
            let _ = status_number(text, b"42");
            let _ = syscall_pointers(text);
        });
    }
}
