//! One POST by what the system has: libcurl loaded at run time, else the `curl` program. No TLS library is linked.

mod curl_library;
mod curl_program;

use crate::sys::words::{Answer, Post};
use crate::text::number;

/// Sends one POST. Blocks for at most the time-out.
pub(crate) fn post(post: &Post<'_>) -> Answer {
    match curl_library::post(post) {
        Answer::NoBackEnd => curl_program::post(post),
        answer @ (Answer::Response { .. } | Answer::Failed(_)) => answer,
    }
}

/// Reads `Retry-After` from one header line; dates are left to the schedule.
fn retry_after(line: &[u8]) -> Option<u64> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    if !line.get(..colon)?.eq_ignore_ascii_case(b"retry-after") {
        return None;
    }
    number(line.get(colon + 1..)?.trim_ascii(), 10)
}
