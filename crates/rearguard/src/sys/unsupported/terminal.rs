//! One line to the user, where it can be written.

use super::attach::Stream;

/// Writes one line, if the stream is a terminal that takes it at once.
pub(crate) fn say(stream: &Stream, _line: &str) {
    match *stream {}
}

/// Writes one line to this process's own standard error: for a process that ends with it.
pub(crate) fn complain(line: &str) {
    use std::io::Write;
    // Nobody is left to be told that the line got lost.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
