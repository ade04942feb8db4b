//! What went wrong without making the dump impossible.
//!
//! Soft errors travel inside the dump, as a JSON array in the stream that Mozilla's tools read, and are kept for the caller.
//! Their number is limited, since a hostile target could cause one for each page.

use core::fmt;

use crate::heap::{List, add, append, copied, into_text};
use crate::text::{push_decimal, push_hex, push_id};

/// One thing that could not be read or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftError {
    operation: &'static str,
    object: Object,
    errno: i32,
}

/// What the operation was done to, and its number; two words, which travel in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    kind: Kind,
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Process,
    Thread,
    Address,
    Count,
}

impl Object {
    /// The whole process.
    pub(crate) const PROCESS: Object = Object { kind: Kind::Process, number: 0 };

    pub(crate) fn thread(tid: i32) -> Object {
        Object { kind: Kind::Thread, number: u64::from(tid.cast_unsigned()) }
    }

    pub(crate) fn address(number: u64) -> Object {
        Object { kind: Kind::Address, number }
    }

    pub(crate) fn count(number: u64) -> Object {
        Object { kind: Kind::Count, number }
    }

    /// The thread, when it is one.
    fn tid(self) -> i32 {
        self.number as i32
    }
}

/// How many soft errors one dump keeps; the last place is for the number of those that were left out.
///
/// 64 are enough to see a pattern, and keep the stream under [`STREAM_BYTES_MAX`].
pub(crate) const SOFT_ERRORS_MAX: usize = 64;

/// The longest that the stream can get: 64 entries with an operation of at most 64 bytes each, and what to grant.
pub(crate) const STREAM_BYTES_MAX: usize = SOFT_ERRORS_MAX * 160 + 512;

/// The error numbers of a refusal, the same on all processors of Linux.
const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// See ptrace(2), "Ptrace access mode checking", and the kernel's documentation of Yama.
const GRANT: &str = "the target's user id with PR_SET_DUMPABLE 1, and PR_SET_PTRACER under Yama, or CAP_SYS_PTRACE; filters that allow ptrace and process_vm_readv";

impl SoftError {
    /// What was tried, such as `stop thread`.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The thread that it was tried on, when it was a thread.
    pub fn thread(&self) -> Option<i32> {
        (self.object.kind == Kind::Thread).then(|| self.object.tid())
    }

    /// The system's error number, or 0 when it wasn't the system that refused.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// What has to be granted so that this goes well, where the system's policy refused it.
    pub fn grant(&self) -> Option<&'static str> {
        matches!(self.errno, EPERM | EACCES).then_some(GRANT)
    }

    /// Appends `,"key":value` for the object.
    fn push_object(&self, out: &mut List<u8>) {
        match self.object.kind {
            Kind::Process => {}
            Kind::Thread => {
                append(out, b",\"thread\":");
                push_id(out, self.object.tid());
            }
            Kind::Address => {
                append(out, b",\"address\":\"");
                push_hex(out, self.object.number);
                append(out, b"\"");
            }
            Kind::Count => {
                append(out, b",\"count\":");
                push_decimal(out, self.object.number);
            }
        }
    }
}

impl From<&SoftError> for String {
    fn from(error: &SoftError) -> String {
        let mut text = copied(error.operation.as_bytes());
        if error.object.kind != Kind::Process {
            append(&mut text, b" ");
        }
        match error.object.kind {
            Kind::Process => {}
            Kind::Thread => push_id(&mut text, error.object.tid()),
            Kind::Address => push_hex(&mut text, error.object.number),
            Kind::Count => push_decimal(&mut text, error.object.number),
        }
        if error.errno != 0 {
            append(&mut text, b": error number ");
            push_id(&mut text, error.errno);
        }
        into_text(text)
    }
}

impl fmt::Display for SoftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self))
    }
}

/// The soft errors of one capture.
#[derive(Debug, Default)]
pub(crate) struct SoftErrors {
    kept: List<SoftError>,
    left_out: u64,
}

impl SoftErrors {
    /// Keeps one more, or counts it when there are too many.
    pub(crate) fn add(&mut self, operation: &'static str, object: Object, errno: i32) {
        if self.kept.len() + 1 < SOFT_ERRORS_MAX {
            add(&mut self.kept, SoftError { operation, object, errno });
        } else {
            self.left_out += 1;
        }
    }

    /// Adds those of another, which come behind.
    pub(crate) fn join(&mut self, others: &SoftErrors) {
        for error in &others.kept {
            self.add(error.operation, error.object, error.errno);
        }
        self.left_out += others.left_out;
    }

    pub(crate) fn as_slice(&self) -> &[SoftError] {
        &self.kept
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The JSON array for the dump.
    pub(crate) fn to_json(&self) -> List<u8> {
        let mut out = List::new();
        append(&mut out, b"[");
        for (index, error) in self.kept.iter().enumerate() {
            if index > 0 {
                append(&mut out, b",");
            }
            // The operations are this crate's own literals without a character that JSON escapes.
            append(&mut out, b"{\"operation\":\"");
            append(&mut out, error.operation.as_bytes());
            append(&mut out, b"\"");
            error.push_object(&mut out);
            if error.errno != 0 {
                append(&mut out, b",\"errno\":");
                push_id(&mut out, error.errno);
            }
            append(&mut out, b"}");
        }
        if let Some(grant) = self.kept.iter().find_map(SoftError::grant) {
            append(&mut out, b",{\"operation\":\"be allowed all\",\"grant\":\"");
            append(&mut out, grant.as_bytes());
            append(&mut out, b"\"}");
        }
        if self.left_out > 0 {
            append(&mut out, b",{\"operation\":\"keep soft errors\",\"count\":");
            push_decimal(&mut out, self.left_out);
            append(&mut out, b"}");
        }
        append(&mut out, b"]");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_keeps_its_limit_and_counts_the_rest() {
        let mut errors = SoftErrors::default();
        for tid in 0..1000 {
            errors.add("stop thread within the limit of time", Object::thread(tid), 110);
        }
        let json = errors.to_json();
        assert!(json.len() <= STREAM_BYTES_MAX);
        let text = String::from_utf8(json.into()).unwrap();
        assert!(text.starts_with(
            "[{\"operation\":\"stop thread within the limit of time\",\"thread\":0,\"errno\":110},"
        ));
        assert!(text.ends_with("{\"operation\":\"keep soft errors\",\"count\":937}]"));
    }

    #[test]
    fn it_shows_operation_object_and_number() {
        let mut errors = SoftErrors::default();
        errors.add("read stack", Object::address(0x10), 14);
        errors.add("read maps", Object::PROCESS, 0);
        let shown: Vec<String> = errors.as_slice().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["read stack 0x10: error number 14", "read maps"]);
    }
}
