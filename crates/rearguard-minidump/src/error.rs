//! The one error of the crate.
//!
//! It is for what makes a dump impossible; what only makes it poorer is a [`SoftError`](crate::SoftError).

use core::fmt;

use crate::heap::{append, copied, into_text};
use crate::text::push_id;

/// Why no dump could be taken.
///
/// It shows as operation, process and the system's error number, in lower case.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    pid: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// This system can't be dumped.
    Unsupported,
    /// The process or the thread isn't there, or the thread belongs to another process.
    Gone,
    /// A process or thread id that no process can have.
    BadId,
}

impl Error {
    /// The system or the processor isn't one that the crate knows.
    pub fn is_unsupported(&self) -> bool {
        self.kind == Kind::Unsupported
    }

    /// The process is gone, or the crashing thread isn't one of its threads.
    pub fn is_gone(&self) -> bool {
        self.kind == Kind::Gone
    }
}

impl Error {
    pub(crate) fn unsupported(pid: i32) -> Error {
        Error { kind: Kind::Unsupported, pid }
    }

    pub(crate) fn gone(pid: i32) -> Error {
        Error { kind: Kind::Gone, pid }
    }

    pub(crate) fn bad_id(pid: i32) -> Error {
        Error { kind: Kind::BadId, pid }
    }
}

impl From<&Error> for String {
    fn from(error: &Error) -> String {
        let mut text = copied(b"dump process ");
        if error.pid < 0 {
            append(&mut text, b"-");
        }
        push_id(&mut text, error.pid);
        append(
            &mut text,
            match error.kind {
                Kind::Unsupported => b": not supported on this system",
                Kind::Gone => b": no such process, or the thread isn't one of its threads",
                Kind::BadId => b": not the id of a process",
            },
        );
        into_text(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self))
    }
}

impl std::error::Error for Error {}
