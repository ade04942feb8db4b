//! The one error of the crate.
//!
//! It is for what makes a dump impossible; what only makes it poorer is a [`SoftError`](crate::SoftError).

use core::fmt;

use crate::text::Decimal;

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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dump process ")?;
        if self.pid < 0 {
            f.write_str("-")?;
        }
        f.write_str(Decimal::new(u64::from(self.pid.unsigned_abs())).as_str())?;
        f.write_str(match self.kind {
            Kind::Unsupported => ": not supported on this system",
            Kind::Gone => ": no such process, or the thread isn't one of its threads",
            Kind::BadId => ": not the id of a process",
        })
    }
}

impl std::error::Error for Error {}
