//! One POST by what the system has: libcurl loaded at run time, else the `curl` program. No TLS library is linked.

mod curl_library;
mod curl_program;

/// What is to be sent, and for how long at most.
pub(crate) struct Post<'a> {
    pub(crate) url: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) user_agent: &'a str,
    pub(crate) timeout_ms: u64,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The server answered; the body is cut at the limit.
    Response {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: Vec<u8>,
        /// `Retry-After` in seconds, where it was a number.
        retry_after_s: Option<u64>,
    },
    /// There was no answer; the reason is for a person.
    Failed(String),
    /// This system has nothing to send with.
    NoBackEnd,
}

/// Sends one POST. Blocks for at most the time-out.
pub(crate) fn post(post: &Post<'_>) -> Answer {
    match curl_library::post(post) {
        Answer::NoBackEnd => curl_program::post(post),
        answer @ (Answer::Response { .. } | Answer::Failed(_)) => answer,
    }
}

/// Reads `Retry-After` from one header line; dates are left to the schedule.
fn retry_after(line: &[u8]) -> Option<u64> {
    let line = core::str::from_utf8(line).ok()?;
    let (name, value) = line.split_once(':')?;
    if !name.eq_ignore_ascii_case("retry-after") {
        return None;
    }
    value.trim().parse().ok()
}
