//! Texts of `/proc`, read with a bound, and what is looked up in them.

use std::path::Path;

use super::file;
use crate::heap::{List, PutText, Text, owned};
use crate::limits::PROC_BYTES_MAX;
use crate::text::{after, number, push_number};

/// Reads a `/proc` file; `None` where there is no `/proc` or no right to read it.
pub(crate) fn read(path: &str) -> Option<List<u8>> {
    file::read(Path::new(path), PROC_BYTES_MAX).ok()
}

/// `/proc/<pid>/<name>`.
pub(crate) fn of_process(pid: u32, name: &str) -> Text {
    let mut path = owned("/proc/");
    push_number(&mut path, u64::from(pid));
    path.put_char('/');
    path.put(name);
    path
}

/// The value after `key` at the beginning of a line, without the white space around it.
pub(crate) fn field<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    text.split(|byte| *byte == b'\n')
        .find_map(|line| after(line, key.as_bytes()))
        .map(<[u8]>::trim_ascii)
}

/// What stands between the white space of a line.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The decimal number, negative or not, that the whole of `text` is.
fn signed(text: &[u8]) -> Option<i32> {
    match after(text, b"-") {
        Some(digits) => i32::try_from(-i64::try_from(number(digits, 10)?).ok()?).ok(),
        None => i32::try_from(number(text, 10)?).ok(),
    }
}

/// What `/proc/<pid>/stat` says (`proc_pid_stat(5)`), as far as it is needed here.
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) process_group: i32,
    pub(crate) terminal: i32,
    pub(crate) foreground_group: i32,
    /// The wait status; meaningful for a zombie only, and zero without the right to see it.
    pub(crate) exit_code: i32,
}

/// Reads `/proc/<pid>/stat`.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&read(&of_process(pid, "stat"))?)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The second field is a name in parentheses that may itself hold spaces and parentheses.
    let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = words(text.get(after_name..)?);
    let state = *fields.next()?.first()?;
    let _parent = fields.next()?;
    let process_group = signed(fields.next()?)?;
    let _session = fields.next()?;
    let terminal = signed(fields.next()?)?;
    let foreground_group = signed(fields.next()?)?;
    // That was field 8; the exit code is field 52.
    let exit_code = signed(fields.nth(52 - 8 - 1)?)?;
    Some(Stat { state, process_group, terminal, foreground_group, exit_code })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: a name made to confuse doesn't, and a shortened line is no answer.
    #[test]
    fn stat_lines() {
        let line = "17 (a) b (c)) Z 1 17 16 34816 17 4227084 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0 \
                    18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 11\n";
        let stat = parse_stat(line.as_bytes()).expect("it is whole");
        assert_eq!(stat.state, b'Z');
        assert_eq!((stat.process_group, stat.terminal, stat.foreground_group), (17, 34816, 17));
        assert_eq!(stat.exit_code, 11);
        assert!(parse_stat(b"17 (a) Z 1 17").is_none());
        assert!(parse_stat(b"").is_none());
    }

    // Goal: numbers of both signs are read, and nothing else is.
    #[test]
    fn signed_numbers() {
        for value in [i32::MIN, -1, 0, 7, i32::MAX] {
            assert_eq!(signed(value.to_string().as_bytes()), Some(value));
        }
        for nonsense in [&b""[..], b"-", b"--1", b"+1", b"2147483648", b"-2147483649"] {
            assert_eq!(signed(nonsense), None);
        }
    }

    // Goal: a field is found at the beginning of its line only.
    #[test]
    fn fields() {
        let text = b"Name:\tx TracerPid: 9\nTracerPid:\t0\n";
        assert_eq!(field(text, "TracerPid:"), Some(&b"0"[..]));
        assert_eq!(field(text, "Umask:"), None);
    }
}
