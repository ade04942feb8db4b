//! What ends the tool without success: one line, and an exit status that scripts can tell apart.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use crate::terminal::harmless;

/// The kinds of failure, by their exit status; 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What was asked for could not be done.
    Failed = 1,
    /// The command line is at fault; the number is clap's.
    Usage = 2,
    /// There is no such report, or more than one.
    NoSuchReport = 3,
    /// A file is there and can't be read for what it should be.
    Unreadable = 4,
}

/// A failure, in one line that names the thing and the reason.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    text: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Failure {
        Failure { kind, text: text.into() }
    }

    /// A file that isn't what it should be, or isn't there, and why.
    pub(crate) fn unreadable(path: &Path, reason: impl fmt::Display) -> Failure {
        Failure::new(Kind::Unreadable, format!("{}: {reason}", path.display()))
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Texts of others, such as a parser's, may have several lines.
        // What they quote may come from anybody, and nothing of it may steer a terminal.
        let text = harmless(&self.text.replace(['\n', '\r'], " "));
        let mut words = text.split_whitespace();
        f.write_str(words.next().unwrap_or("it failed"))?;
        words.try_for_each(|word| write!(f, " {word}"))
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::new(Kind::Failed, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whatever a parser says, it is one line.
    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::new(Kind::Unreadable, "x.dmp: no minidump:\n  header mismatch\n");
        assert_eq!(failure.to_string(), "x.dmp: no minidump: header mismatch");
        let failure = Failure::new(Kind::Unreadable, "'\x1b]0;x\x07' is no file");
        assert_eq!(failure.to_string(), "'\u{fffd}]0;x\u{fffd}' is no file");
    }
}
