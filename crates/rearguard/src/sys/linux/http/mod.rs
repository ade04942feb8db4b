//! One POST by what the system has: libcurl loaded at run time, else the `curl` program. No TLS library is linked.

mod curl_library;
mod curl_program;
mod gzip;
mod library;

pub(crate) use gzip::compress;

use crate::sys::words::{Answer, Post};

/// What came of one whose answer ended before it had begun.
const NO_ANSWER: &str = "the server gave no whole answer";

/// Why nothing is sent where there is nothing to send it with.
pub(crate) const NO_BACK_END: &str = "neither libcurl nor the curl program was found";

/// Sends one POST. Blocks for at most the time-out.
pub(crate) fn post(post: &Post<'_>) -> Answer {
    crate::heap::with_frame_pointer();
    match curl_library::post(post) {
        Answer::NoBackEnd => curl_program::post(post),
        answer @ (Answer::Response { .. } | Answer::Failed(_)) => answer,
    }
}

/// The value of `Retry-After`, if that is what a header line holds.
fn retry_after(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    if !line.get(..colon)?.eq_ignore_ascii_case(b"retry-after") {
        return None;
    }
    Some(line.get(colon + 1..)?.trim_ascii())
}
